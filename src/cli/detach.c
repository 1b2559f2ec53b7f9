// SPDX-License-Identifier: Apache-2.0
/*
 * See detach.h. The pipe, or the socket, carries one message. A socket carries one the other way before: any, that says to begin.
 */
#include "detach.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exit_codes.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

static size_t read_message(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, buf + len, size - len);

		if (n == 0 || (n < 0 && errno != EINTR)) {
			break;
		}
		len += n > 0 ? (size_t)n : 0;
	}
	return len;
}

int detach_hear(int fd)
{
	char message[DETACH_MESSAGE_MAX];
	size_t len = read_message(fd, message, sizeof(message));

	if (len > 1 && message[0] == DETACH_TOLD_NAME) {
		(void)printf("%.*s\n", (int)(len - 1), message + 1);
		return EXIT_OK;
	}
	if (len > 1) {
		(void)fprintf(stderr, "%.*s", (int)(len - 1), message + 1);
	}
	return -1;
}

static int wait_for_child(pid_t child, int fd)
{
	int status;

	if (detach_hear(fd) == EXIT_OK) {
		return EXIT_OK;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_VMM_ERROR;
}

/* Those beyond the limit are closed now. */
static void note_inherited(struct detach *detach)
{
	DIR *list = opendir("/proc/self/fd");
	const struct dirent *entry;

	while (list != NULL && (entry = readdir(list)) != NULL) {
		int fd = (int)strtol(entry->d_name, NULL, 10);

		/* What vmm has opened itself is closed on exec; what it was given cannot be. */
		if (fd <= STDERR_FILENO || fcntl(fd, F_GETFD) != 0) {
			continue;
		}
		if (detach->inherited_count < DETACH_INHERITED_MAX) {
			detach->inherited[detach->inherited_count++] = fd;
		} else {
			(void)close(fd);
		}
	}
	if (list != NULL) {
		(void)closedir(list);
	}
}

void detach_keep(struct detach *detach, int fd)
{
	for (size_t i = 0; i < detach->inherited_count; i++) {
		if (detach->inherited[i] == fd) {
			detach->inherited[i] = detach->inherited[--detach->inherited_count];
			return;
		}
	}
}

/* Standard input and output lead nowhere; standard error is the caller's until there is a log. */
static int become_child(struct error *e)
{
	auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "--detach: open '/dev/null'");
	}
	if (setsid() < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "--detach: setsid");
	}
	return DETACH_CHILD;
}

/* -1: nobody of ours has started this process. Whom it starts in turn is not meant. */
static int take_socket(void)
{
	const char *text = getenv(DETACH_ENVIRONMENT);
	struct sockaddr_un peer = { .sun_family = AF_UNSPEC };
	socklen_t size = sizeof(peer), type_size = sizeof(int);
	char *end = NULL;
	long fd = text != NULL ? strtol(text, &end, 10) : -1;
	int type = 0;

	(void)unsetenv(DETACH_ENVIRONMENT);
	if (fd <= STDERR_FILENO || fd > INT_MAX || *end != '\0' ||
	    getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0 ||
	    type != SOCK_SEQPACKET || getpeername((int)fd, (struct sockaddr *)&peer, &size) < 0 ||
	    peer.sun_family != AF_UNIX || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0) {
		return -1;
	}
	return (int)fd;
}

static int become(struct detach *detach, int fd, struct error *e)
{
	detach->pipe_fd = fd;
	detach->child = true;
	note_inherited(detach);
	return become_child(e);
}

int detach_fork(struct detach *detach, int *code, struct error *e)
{
	int fds[2], given = take_socket();
	pid_t child;

	if (given >= 0) {
		detach->awaits = true;
		return become(detach, given, e);
	}
	if (pipe2(fds, O_CLOEXEC) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "--detach: pipe");
	}
	child = fork();
	if (child < 0) {
		int sys = errno;

		(void)close(fds[0]);
		(void)close(fds[1]);
		return error_set_sys(e, ERROR_INTERNAL, sys, "--detach: fork");
	}
	if (child > 0) {
		(void)close(fds[1]);
		*code = wait_for_child(child, fds[0]);
		(void)close(fds[0]);
		return DETACH_PARENT;
	}
	(void)close(fds[0]);
	return become(detach, fds[1], e);
}

bool detach_waits(const struct detach *detach)
{
	struct pollfd poll_fd = { .fd = detach->pipe_fd, .events = POLLIN };

	return detach->awaits && poll(&poll_fd, 1, 0) == 0;
}

int detach_await(struct detach *detach, struct error *e)
{
	char word;
	ssize_t n;

	if (!detach->awaits) {
		return 0;
	}
	detach->awaits = false;
	do {
		n = read(detach->pipe_fd, &word, sizeof(word));
	} while (n < 0 && errno == EINTR);
	if (n <= 0) {
		/* Who has started it has said why. */
		close_fd(&detach->pipe_fd);
		return error_set(e, ERROR_CANCELLED, ECANCELED,
				 "whoever has started this VM has given up");
	}
	return 0;
}

int detach_log_to(struct detach *detach, const struct run_directory *dir, struct error *e)
{
	auto_close int fd = -1;
	int r = run_directory_open(dir, "vmm.log", &fd, e);

	if (r < 0) {
		return r;
	}
	if (dup2(fd, STDERR_FILENO) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "--detach: standard error");
	}
	log_init(LOG_INFO, STDERR_FILENO);
	detach->logs = true;
	return 0;
}

/* One write of less than PIPE_BUF bytes into an empty pipe: whole, at once. */
static void tell(struct detach *detach, const char *text, size_t len)
{
	if (detach->pipe_fd >= 0) {
		(void)!write(detach->pipe_fd, text, len);
		close_fd(&detach->pipe_fd);
	}
}

void detach_done(struct detach *detach, const char *name)
{
	char text[sizeof(((struct run_directory *)0)->name) + 1];
	int len = snprintf(text, sizeof(text), "%c%s", DETACH_TOLD_NAME, name);

	while (detach->inherited_count > 0) {
		close_fd(&detach->inherited[--detach->inherited_count]);
	}
	tell(detach, text, MIN((size_t)len, sizeof(text) - 1));
}

void detach_failed(struct detach *detach, const struct error *why)
{
	char text[DETACH_MESSAGE_MAX];
	bool hint = why->hint[0] != '\0';
	int len = snprintf(text, sizeof(text), "%cvmm: %s\n%s%s%s", DETACH_TOLD_ERROR, why->msg,
			   hint ? "hint: " : "", why->hint, hint ? "\n" : "");

	if (detach->logs) {
		tell(detach, text, MIN((size_t)len, sizeof(text) - 1));
	}
}

void detach_finish(struct detach *detach)
{
	close_fd(&detach->pipe_fd);
}
