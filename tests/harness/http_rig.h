/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server over real Unix sockets, with clients and loop in one thread: pump() gives the
 * server as many rounds as it could want. What handle() does is said by the path of the request.
 * Included by the tests of the server, once each; not every one uses everything.
 */
#ifndef VMM_TESTS_HTTP_RIG_H
#define VMM_TESTS_HTTP_RIG_H

#include "harness/check_main.h"
#include "harness/count_descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../src/api/http_internal.h"
#include "vmm/cleanup.h"

#define BODY_MAX  MIB(1)
#define BIG	  MIB(10)
#define LATER_MAX 1100

static struct loop loop;
static struct http_server *server;
static struct error err;
static struct sockaddr_un address;
static int descriptors_before;

static struct http_call *later[LATER_MAX]; /* calls of /later and /stream, in order */
static size_t later_count;
static int closed_count, handled;
static struct http_call *end_in_closed;
static bool destroy_in_closed;

static inline char *copy(const char *text, size_t len)
{
	char *data = malloc(len + 1);

	ck_assert_ptr_nonnull(data);
	memcpy(data, text, len);
	data[len] = '\0';
	return data;
}

static inline void destroy(void)
{
	http_server_destroy(server);
	server = NULL;
}

static inline void closed(void *arg)
{
	struct http_call *other = end_in_closed;

	ck_assert_ptr_eq(arg, &closed_count);
	closed_count++;
	if (other != NULL) {
		end_in_closed = NULL;
		http_call_end_stream(other);
	}
	if (destroy_in_closed) {
		destroy_in_closed = false;
		destroy();
	}
}

static inline void reply_text(struct http_call *call, const char *text)
{
	http_call_reply(call, 200, "text/plain", copy(text, strlen(text)), strlen(text));
}

static inline void handle_stream(struct http_call *call, const char *path)
{
	http_call_begin_stream(call, "text/x", closed, &closed_count);
	if (strcmp(path, "/stream-now") == 0) {
		http_call_stream(call, "one\n", 4);
		http_call_stream(call, "", 0);
		http_call_stream(call, "two\n", 4);
		http_call_end_stream(call);
	} else if (strcmp(path, "/stream") == 0) {
		later[later_count++] = call;
	}
}

static inline void handle(void *arg, struct http_call *call, const struct http_request *request)
{
	const char *path = request->path;

	ck_assert_ptr_eq(arg, &handled);
	ck_assert_int_eq(request->body[request->body_len], '\0');
	handled++;
	if (strcmp(path, "/echo") == 0) {
		http_call_reply(call, 200, "application/json",
				copy(request->body, request->body_len), request->body_len);
	} else if (strcmp(path, "/query") == 0) {
		reply_text(call, request->query != NULL ? request->query : "(none)");
	} else if (strcmp(path, "/later") == 0) {
		later[later_count++] = call;
	} else if (strcmp(path, "/big") == 0) {
		char *body = malloc(BIG);

		ck_assert_ptr_nonnull(body);
		memset(body, 'b', BIG);
		http_call_reply(call, 200, "text/plain", body, BIG);
	} else if (strcmp(path, "/none") == 0) {
		http_call_reply(call, 204, "text/plain", copy("x", 1), 1);
	} else if (strcmp(path, "/empty") == 0) {
		http_call_reply(call, 200, NULL, NULL, 0);
	} else if (strcmp(path, "/allow") == 0) {
		http_call_reply_allow(call, "GET, PUT");
	} else if (strcmp(path, "/405") == 0) {
		(void)error_set(&err, ERROR_NO_ROUTE, 0, "no \"%s\"\n\xff\xed\xa0\x80\xc3\xa9",
				path);
		(void)error_hint(&err, "try\tGET");
		http_call_reply_error(call, 405, &err, "GET");
	} else if (strcmp(path, "/destroy") == 0) {
		destroy();
		reply_text(call, "into nothing");
	} else if (strcmp(path, "/reply-destroy") == 0) {
		reply_text(call, "bye");
		destroy();
	} else if (strncmp(path, "/stream", 7) == 0) {
		handle_stream(call, path);
	} else {
		reply_text(call, path);
	}
	/* Still valid, whatever became of the call. */
	ck_assert_int_eq(request->path[0], '/');
	ck_assert_int_eq(request->body[request->body_len], '\0');
}

static inline int listener(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	address.sun_family = AF_UNIX; /* the kernel chooses an abstract name */
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(listen(fd, 2000), 0);
	return fd;
}

static socklen_t address_len;
#define LONG_GRACE_NS 3600000000000ULL
static uint64_t close_grace_ns = LONG_GRACE_NS;

static inline void start(uint32_t connections_max, size_t body_max)
{
	const struct http_server_config config = { .loop = &loop,
						   .connections_max = connections_max,
						   .body_max = body_max,
						   .close_grace_ns = close_grace_ns,
						   .name = "unit",
						   .handle = handle,
						   .arg = &handled };
	int fd;

	descriptors_before = count_descriptors();
	check_ok(loop_init_sized(&loop, 2000, &err), &err);
	check_ok(http_server_create(&server, &config, &err), &err);
	fd = listener();
	address_len = sizeof(address);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &address_len), 0);
	check_ok(http_server_listen(server, fd, &err), &err);
	later_count = 0;
	closed_count = handled = 0;
}

static inline void setup(void)
{
	start(HTTP_CONNECTIONS_MAX, BODY_MAX);
}

static inline void teardown(void)
{
	destroy();
	loop_finish(&loop);
	ck_assert_int_eq(count_descriptors(), descriptors_before);
}

/* Waits for the end of what the server sends, however long that takes. */
static inline void wait_for_eof(int fd)
{
	char byte;

	for (int i = 0; i < 60000; i++) {
		ssize_t n = recv(fd, &byte, 1, 0);

		if (n == 0) {
			return;
		}
		ck_assert_msg(n < 0 && errno == EAGAIN, "%zd, %s", n, strerror(errno));
		ck_assert_int_eq(loop_step(&loop, 1), 0);
	}
	ck_abort_msg("the server does not close");
}

static inline void restart(uint32_t connections_max, size_t body_max)
{
	teardown();
	start(connections_max, body_max);
}

static inline void pump(void)
{
	int r = 0;

	for (int i = 0; i < 60; i++) {
		r |= loop_step(&loop, 0);
	}
	ck_assert_int_eq(r, 0);
}

/* --- Clients --- */

static inline int dial_only(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, address_len), 0);
	return fd;
}

static inline int dial(void)
{
	int fd = dial_only();

	pump();
	return fd;
}

/* All of it, with the server's help. */
static inline void say_bytes(int fd, const char *data, size_t len)
{
	int rounds = 0;

	while (len != 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0) {
			ck_assert_int_eq(errno, EAGAIN);
			ck_assert_int_lt(rounds++, 10000);
			n = 0;
		}
		data += n;
		len -= (size_t)n;
		pump();
	}
}

static inline void say(int fd, const char *text)
{
	say_bytes(fd, text, strlen(text));
}

/* What lies there for the client; -1 at the end of it all, -2 if it was reset. */
static inline ssize_t hear(int fd, char *data, size_t room)
{
	ssize_t n;

	n = recv(fd, data, room, 0);
	if (n < 0 && errno == EAGAIN) {
		pump();
		n = recv(fd, data, room, 0);
	}
	if (n > 0) {
		return n;
	}
	return n == 0 ? -1 : errno == EAGAIN ? 0 : -2;
}

#define check_eof(fd)                                        \
	do {                                                 \
		char byte_;                                  \
		ck_assert_int_eq(hear((fd), &byte_, 1), -1); \
	} while (0)
#define check_silent(fd)                                    \
	do {                                                \
		char byte_;                                 \
		ck_assert_int_eq(hear((fd), &byte_, 1), 0); \
	} while (0)

struct answer {
	int status;
	char head[1000];
	char *body;
	size_t len;
};

static inline const char *header(const struct answer *answer, const char *name)
{
	static char value[200];
	const char *at = strstr(answer->head, name);

	if (at == NULL) {
		return "";
	}
	(void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(at + strlen(name), "\r"),
		       at + strlen(name));
	return value;
}

/* Exactly one answer, nothing behind it is taken. */
static inline void get_answer(int fd, struct answer *answer, bool to_head)
{
	size_t len = 0;
	int rounds = 0;

	free(answer->body);
	memset(answer, 0, sizeof(*answer));
	while (strstr(answer->head, "\r\n\r\n") == NULL) {
		ssize_t n = hear(fd, answer->head + len, 1);

		ck_assert_msg(n >= 0, "%zd behind '%s'", n, answer->head);
		len += (size_t)n;
		ck_assert_uint_lt(len, sizeof(answer->head) - 1);
		ck_assert_msg(n > 0 || rounds++ < 100, "no answer");
	}
	ck_assert_int_eq(sscanf(answer->head, "HTTP/1.1 %d ", &answer->status), 1);
	ck_assert_str_eq(header(answer, "Server: "), "unit");
	answer->len = strtoul(header(answer, "Content-Length: "), NULL, 10);
	answer->body = calloc(1, answer->len + 1);
	ck_assert_ptr_nonnull(answer->body);
	for (len = 0; !to_head && len < answer->len;) {
		ssize_t n = hear(fd, answer->body + len, answer->len - len);

		ck_assert_int_ge(n, 0);
		len += (size_t)n;
		ck_assert_msg(n > 0 || rounds++ < 100, "no end of the answer");
	}
}

static struct answer answer;

static inline void check_answer(int fd, int status, const char *body)
{
	get_answer(fd, &answer, false);
	ck_assert_msg(answer.status == status, "%s%s", answer.head, answer.body);
	if (body != NULL) {
		ck_assert_str_eq(answer.body, body);
	}
}

static inline const char *error_text(const char *key)
{
	static char text[500];
	json_error_t e;
	json_t *root = json_loads(answer.body, JSON_REJECT_DUPLICATES, &e);
	const char *value;

	ck_assert_msg(root != NULL, "%s: %s", e.text, answer.body);
	value = json_string_value(json_object_get(root, key));
	(void)snprintf(text, sizeof(text), "%s", value != NULL ? value : "(none)");
	json_decref(root);
	return text;
}

static inline void check_refused(int fd, int status, const char *message, bool goes_on)
{
	check_answer(fd, status, NULL);
	ck_assert_str_eq(header(&answer, "Connection: "), goes_on ? "keep-alive" : "close");
	ck_assert_str_eq(header(&answer, "Content-Type: "), "application/json");
	ck_assert_msg(strstr(error_text("fault_message"), message) != NULL, "%s", answer.body);
	ck_assert_msg(strstr(error_text("error"), message) != NULL, "%s", answer.body);
	ck_assert_str_ne(error_text("code"), "(none)");
	if (goes_on) {
		say(fd, "GET /on HTTP/1.1\r\n\r\n");
		check_answer(fd, 200, "/on");
	} else {
		check_eof(fd);
	}
}

static inline void hang_up(int fd)
{
	(void)close(fd);
	pump();
}

static inline struct http_server_stats stats(void)
{
	struct http_server_stats s;

	http_server_stats(server, &s);
	return s;
}

static inline bool is_open(int fd)
{
	char byte;

	return hear(fd, &byte, 1) == 0;
}

#endif
