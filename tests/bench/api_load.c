/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures a VM's API as its clients meet it. Times are in microseconds.
 *
 * api_load start [-k] [-g PATH] [-m MARK] [-r REQUEST]... SOCKET COMMAND...
 *	Runs the command on a new terminal and asks it for PATH (default "/") in a tight loop until
 *	it answers 200; makes the requests one after the other ("PUT /boot-source {...}"), each of
 *	which must succeed; then waits for MARK (default "!") on the terminal, if there were
 *	requests. Prints the time from exec to the first answer, from there to the mark (0 without
 *	requests), and the process id. The command is then killed, with -k not before end of file on
 *	standard input.
 *
 * api_load latency [-c CLIENTS] [-n REQUESTS] [-e PERIOD] SOCKET
 *	CLIENTS (default 100) connections ask for "/", each once in PERIOD, their turns spread over
 *	it; with 0, as soon as the last answer is there. Prints the median, the 99th percentile and
 *	the maximum of the times from request to answer, and the requests per second.
 *
 * api_load repeat [-n REQUESTS] SOCKET
 *	One client, one request after the other, of three kinds: answered, refused, and one that no
 *	server can read; a new connection for each tenth. Prints how many there were.
 *
 * Exit code 1: no answer, a wrong one, or no mark in time.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REQUESTS_MAX 16
#define CLIENTS_MAX  1000
#define REPLY_MAX    16384
#define SECONDS_MAX  60
#define POLL_NS	     20000

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* -1: nobody listens yet. */
static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path)) {
		errx(1, "%s: no socket", path);
	}
	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
		return fd;
	}
	if (errno != ENOENT && errno != ECONNREFUSED) {
		err(1, "%s", path);
	}
	close(fd);
	return -1;
}

/* The status of a whole reply, -1 if more of it is to come; its bytes are used up then. */
static int take_reply(char *text, size_t *len)
{
	char *end, *field;
	size_t total;
	int status;

	text[*len] = '\0';
	end = strstr(text, "\r\n\r\n");
	if (end == NULL) {
		return -1;
	}
	total = (size_t)(end - text) + 4;
	field = strcasestr(text, "\r\nContent-Length:");
	if (field != NULL && field < end) {
		total += strtoul(field + strlen("\r\nContent-Length:"), NULL, 10);
	}
	if (total > REPLY_MAX || sscanf(text, "HTTP/1.%*c %d", &status) != 1) {
		errx(1, "not a reply: %.200s", text);
	}
	if (*len < total) {
		return -1;
	}
	memmove(text, text + total, *len - total);
	*len -= total;
	return status;
}

static int exchange(int fd, const char *request, size_t len, char *reply)
{
	size_t used = 0;
	int status = -1;

	if (write(fd, request, len) != (ssize_t)len) {
		err(1, "request");
	}
	while (status < 0) {
		ssize_t got = read(fd, reply + used, REPLY_MAX - used);

		if (got <= 0) {
			errx(1, "no reply to: %.*s", (int)len, request);
		}
		used += (size_t)got;
		reply[used] = '\0';
		status = take_reply(reply, &used);
	}
	return status;
}

/* "METHOD PATH BODY", the body as long as it is. */
static size_t write_request(char *buf, size_t size, const char *text)
{
	const char *path = strchr(text, ' ');
	const char *body = path == NULL ? NULL : strchr(path + 1, ' ');
	int len;

	if (path == NULL) {
		errx(2, "'%s' is no request", text);
	}
	if (body == NULL) {
		len = snprintf(buf, size, "%s HTTP/1.1\r\nHost: localhost\r\n\r\n", text);
	} else {
		len = snprintf(buf, size,
			       "%.*s HTTP/1.1\r\nHost: localhost\r\n"
			       "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
			       (int)(body - text), text, strlen(body + 1), body + 1);
	}
	if (len < 0 || (size_t)len >= size) {
		errx(2, "'%s' is too long", text);
	}
	return (size_t)len;
}

static void must_succeed(int fd, const char *text)
{
	char request[REPLY_MAX], reply[REPLY_MAX + 1];
	size_t len = write_request(request, sizeof(request), text);
	int status = exchange(fd, request, len, reply);

	if (status != 200 && status != 204) {
		errx(1, "%s: %d", text, status);
	}
}

struct start {
	const char *path, *mark, *socket;
	const char *requests[REQUESTS_MAX];
	size_t count;
	bool keep;
	char **command;
};

/* Asks until there is an answer; the connection that got it. */
static int wait_for_answer(const struct start *start, double until)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };
	char text[1024];
	int fd;

	if (snprintf(text, sizeof(text), "GET %s", start->path) >= (int)sizeof(text)) {
		errx(2, "-g: too long");
	}
	while ((fd = connect_to(start->socket)) < 0) {
		if (now() > until) {
			errx(1, "nobody listens at %s", start->socket);
		}
		nanosleep(&pause, NULL);
	}
	must_succeed(fd, text);
	return fd;
}

static void wait_for_mark(int terminal, const char *mark, double until)
{
	static char text[4096 + 1];
	size_t used = 0;

	for (;;) {
		struct pollfd p = { .fd = terminal, .events = POLLIN };
		double left = (until - now()) / 1e3;
		ssize_t got;

		if (left <= 0 || poll(&p, 1, (int)left + 1) <= 0) {
			errx(1, "no '%s' in time", mark);
		}
		got = read(terminal, text + used, sizeof(text) - 1 - used);
		if (got <= 0) {
			errx(1, "ended without '%s'", mark);
		}
		used += (size_t)got;
		if (memmem(text, used, mark, strlen(mark))) {
			return;
		}
		if (used > sizeof(text) / 2) {
			memmove(text, text + used - 1024, 1024);
			used = 1024;
		}
	}
}

/* What the guest goes on to say is read, so that it does not stop for want of room. */
static void drain_until_told(int terminal)
{
	struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN },
			       { .fd = terminal, .events = POLLIN } };
	char text[4096];

	while (poll(p, 2, -1) >= 0) {
		if (p[0].revents && read(STDIN_FILENO, text, sizeof(text)) <= 0) {
			return;
		}
		if (p[1].revents && read(terminal, text, sizeof(text)) <= 0) {
			return;
		}
	}
}

_Noreturn static void become(char **command, int terminal, double *began)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(terminal, STDIN_FILENO);
	dup2(terminal, STDOUT_FILENO);
	if (terminal > STDERR_FILENO) {
		close(terminal);
	}
	*began = now();
	execvp(command[0], command);
	_exit(127);
}

/* The child dies with this process, whichever way that ends. */
static int run_start(const struct start *start)
{
	double *began = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double until = now() + SECONDS_MAX * 1e6, answered, marked;
	int master, slave, fd;
	pid_t child;

	if (began == MAP_FAILED || openpty(&master, &slave, NULL, NULL, NULL) ||
	    fcntl(master, F_SETFD, FD_CLOEXEC)) {
		err(1, "pseudo terminal");
	}
	prctl(PR_SET_TIMERSLACK, 1);
	child = fork();
	if (child == 0) {
		become(start->command, slave, began);
	}
	close(slave);
	fd = wait_for_answer(start, until);
	marked = answered = now();
	for (size_t i = 0; i < start->count; i++) {
		must_succeed(fd, start->requests[i]);
	}
	if (start->count > 0) {
		wait_for_mark(master, start->mark, until);
		marked = now();
	}
	printf("%.0f %.0f %d\n", answered - *began, marked - answered, (int)child);
	fflush(stdout);
	if (start->keep) {
		drain_until_told(master);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}

struct client {
	int fd;
	bool busy;
	double sent;
	size_t used;
	char reply[REPLY_MAX + 1];
};

struct latency {
	unsigned clients, period;
	size_t wanted, sent, done;
	double *times;
	struct client *client;
};

static const char question[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

static void ask(struct latency *l, struct client *client)
{
	if (client->busy || l->sent == l->wanted) {
		return;
	}
	client->busy = true;
	client->sent = now();
	l->sent++;
	if (write(client->fd, question, sizeof(question) - 1) != sizeof(question) - 1) {
		err(1, "request");
	}
}

static void hear(struct latency *l, struct client *client)
{
	ssize_t got = read(client->fd, client->reply + client->used, REPLY_MAX - client->used);
	int status;

	if (got <= 0) {
		errx(1, "the server closed a connection");
	}
	client->used += (size_t)got;
	status = take_reply(client->reply, &client->used);
	if (status < 0) {
		return;
	}
	if (status != 200) {
		errx(1, "GET /: %d", status);
	}
	l->times[l->done++] = now() - client->sent;
	client->busy = false;
	if (l->period == 0) {
		ask(l, client);
	}
}

/* Ticks once for each client in a period. */
static int make_clock(const struct latency *l)
{
	uint64_t ns = (uint64_t)l->period * 1000 / l->clients;
	struct itimerspec t = { .it_interval = { .tv_sec = (time_t)(ns / 1000000000),
						 .tv_nsec = (long)(ns % 1000000000) } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	t.it_value = t.it_interval;
	if (fd < 0 || timerfd_settime(fd, 0, &t, NULL)) {
		err(1, "timer");
	}
	return fd;
}

/* A client whose turn comes again while it waits is late already: its time goes on. */
static void ask_those_due(struct latency *l, int timer, unsigned *turn)
{
	uint64_t ticks = 0;

	if (read(timer, &ticks, sizeof(ticks)) != sizeof(ticks)) {
		err(1, "timer");
	}
	for (; ticks > 0; ticks--) {
		ask(l, &l->client[*turn]);
		if (++*turn == l->clients) {
			*turn = 0;
		}
	}
}

static void converse(struct latency *l, int epoll)
{
	double until = now() + SECONDS_MAX * 1e6;
	int timer = -1;
	unsigned turn = 0;

	if (l->period > 0) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

		timer = make_clock(l);
		epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event);
	} else {
		for (unsigned i = 0; i < l->clients; i++) {
			ask(l, &l->client[i]);
		}
	}
	while (l->done < l->wanted) {
		struct epoll_event events[64];
		int count = epoll_wait(epoll, events, 64, 1000);

		if (now() > until) {
			errx(1, "%zu of %zu answers in %d s", l->done, l->wanted, SECONDS_MAX);
		}
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == NULL) {
				ask_those_due(l, timer, &turn);
			} else {
				hear(l, events[i].data.ptr);
			}
		}
	}
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int run_latency(struct latency *l, const char *socket)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	double began;

	l->times = calloc(l->wanted, sizeof(*l->times));
	l->client = calloc(l->clients, sizeof(*l->client));
	if (epoll < 0 || l->times == NULL || l->client == NULL) {
		err(1, "clients");
	}
	for (unsigned i = 0; i < l->clients; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = &l->client[i] };

		l->client[i].fd = connect_to(socket);
		if (l->client[i].fd < 0) {
			errx(1, "nobody listens at %s", socket);
		}
		epoll_ctl(epoll, EPOLL_CTL_ADD, l->client[i].fd, &event);
	}
	began = now();
	converse(l, epoll);
	began = now() - began;
	qsort(l->times, l->wanted, sizeof(*l->times), compare);
	printf("%.1f %.1f %.1f %.0f\n", l->times[l->wanted / 2], l->times[l->wanted * 99 / 100],
	       l->times[l->wanted - 1], (double)l->wanted * 1e6 / began);
	return 0;
}

static int run_repeat(size_t wanted, const char *socket)
{
	/* The last one costs its connection. */
	static const struct {
		const char *text;
		int status;
	} kinds[] = {
		{ question, 200 },
		{ "PUT /machine-config HTTP/1.1\r\nHost: localhost\r\nContent-Length: 21\r\n\r\n"
		  "{\"vcpu_count\": \"two\"}",
		  400 },
		{ "GET /\001 HTTP/1.1\r\n\r\n", 400 },
	};
	char reply[REPLY_MAX + 1];
	int fd = -1;

	for (size_t i = 0; i < wanted; i++) {
		size_t kind = i % 10 == 9 ? 2 : i % 10 == 4 ? 1 : 0;
		int status;

		if (fd < 0 && (fd = connect_to(socket)) < 0) {
			errx(1, "nobody listens at %s", socket);
		}
		status = exchange(fd, kinds[kind].text, strlen(kinds[kind].text), reply);
		if (status != kinds[kind].status) {
			errx(1, "request %zu: %d", i, status);
		}
		if (kind == 2) {
			close(fd);
			fd = -1;
		}
	}
	printf("%zu\n", wanted);
	return 0;
}

_Noreturn static void usage(void)
{
	errx(2, "usage: api_load start [-k] [-g PATH] [-m MARK] [-r REQUEST]... SOCKET COMMAND...\n"
		"       api_load latency [-c CLIENTS] [-n REQUESTS] [-e PERIOD] SOCKET\n"
		"       api_load repeat [-n REQUESTS] SOCKET");
}

static unsigned number(const char *text, unsigned min, unsigned max)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*end != '\0' || value < min || value > max) {
		errx(2, "'%s': from %u to %u", text, min, max);
	}
	return (unsigned)value;
}

int main(int argc, char **argv)
{
	struct start start = { .path = "/", .mark = "!" };
	struct latency latency = { .clients = 100, .period = 50000 };
	size_t wanted = 20000;
	const char *what;
	int option;

	if (argc < 2) {
		usage();
	}
	what = argv[1];
	while ((option = getopt(argc - 1, argv + 1, "+c:e:g:km:n:r:")) != -1) {
		if (option == 'c') {
			latency.clients = number(optarg, 1, CLIENTS_MAX);
		} else if (option == 'e') {
			latency.period = number(optarg, 0, 1000000);
		} else if (option == 'g') {
			start.path = optarg;
		} else if (option == 'k') {
			start.keep = true;
		} else if (option == 'm') {
			start.mark = optarg;
		} else if (option == 'n') {
			wanted = number(optarg, 1, 100000000);
		} else if (option == 'r' && start.count < REQUESTS_MAX) {
			start.requests[start.count++] = optarg;
		} else {
			usage();
		}
	}
	argv += optind + 1;
	argc -= optind + 1;
	if (argc < 1) {
		usage();
	}
	start.socket = argv[0];
	start.command = argv + 1;
	latency.wanted = wanted;
	(void)signal(SIGPIPE, SIG_IGN);
	if (strcmp(what, "start") == 0 && argc > 1) {
		return run_start(&start);
	}
	if (strcmp(what, "latency") == 0 && argc == 1) {
		return run_latency(&latency, argv[0]);
	}
	if (strcmp(what, "repeat") == 0 && argc == 1) {
		return run_repeat(wanted, argv[0]);
	}
	usage();
}
