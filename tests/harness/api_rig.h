/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API over a real Unix socket, server and clients in one process and one thread: whoever waits
 * for an answer runs the loop. An instance without a VM stands behind it.
 */
#ifndef TESTS_UNIT_API_RIG_H
#define TESTS_UNIT_API_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "harness/count_descriptors.h"
#include "vmm/api.h"

#define PATIENCE \
	200000 /* rounds, of up to a millisecond, of the loop until an answer must be there */

static char rig_dir[64];
static struct sockaddr_un rig_address = { .sun_family = AF_UNIX };
static struct loop rig_loop;
static struct instance *rig_instance;
static struct api *rig_api;
static struct instance_host rig_host;
static bool rig_debug_exit; /* before rig_setup() */
#ifndef RIG_FIRECRACKER
#define RIG_FIRECRACKER false /* whose clients the instance is for */
#endif

static void rig_ended(struct instance_host *host, const struct vm_stop *stop)
{
	(void)host;
	(void)stop;
}

static inline void rig_path(char *buf, size_t size, const char *name)
{
	(void)snprintf(buf, size, "%s/%s", rig_dir, name);
}

static inline void rig_write_file(const char *name, const char *text)
{
	char path[128];
	FILE *file;

	rig_path(path, sizeof(path), name);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

static inline void rig_setup(void)
{
	const struct instance_settings settings = { .id = "rig",
						    .firecracker = RIG_FIRECRACKER,
						    .sandbox = SANDBOX_OFF,
						    .debug_exit = rig_debug_exit,
						    .patience_ns = 200 * 1000000000ULL };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct error e = { 0 };

	(void)snprintf(rig_dir, sizeof(rig_dir), "/tmp/vmm-api-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(rig_dir));
	rig_path(rig_address.sun_path, sizeof(rig_address.sun_path), "s");
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&rig_address, sizeof(rig_address)), 0);
	ck_assert_int_eq(listen(fd, 128), 0);
	json_prepare();
	rig_host = (struct instance_host){ .loop = &rig_loop, .ended = rig_ended };
	check_ok(loop_init_sized(&rig_loop, 1200, &e), &e);
	check_ok(instance_create(&rig_instance, &settings, &rig_host, &e), &e);
	check_ok(api_create(&rig_api,
			    &(struct api_config){ .loop = &rig_loop, .instance = rig_instance },
			    &e),
		 &e);
	check_ok(api_listen(rig_api, fd, &e), &e);
}

static inline void rig_teardown(void)
{
	DIR *dir = opendir(rig_dir);
	struct dirent *entry;

	api_destroy(rig_api);
	rig_api = NULL;
	ck_assert(instance_destroy(rig_instance));
	loop_finish(&rig_loop);
	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)) != NULL) {
		(void)unlinkat(dirfd(dir), entry->d_name, 0);
	}
	(void)closedir(dir);
	(void)rmdir(rig_dir);
}

static inline void rig_step(void)
{
	ck_assert_int_eq(loop_step(&rig_loop, 0), 0);
}

static inline int rig_connect(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&rig_address, sizeof(rig_address)), 0);
	return fd;
}

static inline void rig_send(int fd, const char *text, size_t len)
{
	size_t sent = 0;

	for (int i = 0; sent < len; i++) {
		ssize_t n = send(fd, text + sent, len - sent, MSG_NOSIGNAL);

		ck_assert_msg(n >= 0 || errno == EAGAIN, "send: %s", strerror(errno));
		ck_assert_int_lt(i, PATIENCE);
		sent += n > 0 ? (size_t)n : 0;
		ck_assert_int_eq(loop_step(&rig_loop, i < 1000 ? 0 : 1), 0);
	}
}

/* One answer. */
struct reply {
	int status;
	char head[1024]; /* status line and headers */
	char *body;	 /* NUL behind it */
	size_t len;
	bool has_length, chunked;
};

/* The value of a header, or NULL; valid until the next call. */
static inline const char *reply_header(const struct reply *reply, const char *name)
{
	static char value[256];
	const char *line = strstr(reply->head, "\r\n");

	for (; line != NULL && line[2] != '\r'; line = strstr(line + 2, "\r\n")) {
		size_t len = strlen(name);

		if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':') {
			(void)snprintf(value, sizeof(value), "%.*s",
				       (int)strcspn(line + 4 + len, "\r"), line + 4 + len);
			return value;
		}
	}
	return NULL;
}

/* At most `want` bytes, running the loop until some are there; 0: end. */
static inline size_t rig_receive(int fd, char *buf, size_t want)
{
	for (int i = 0; i < PATIENCE; i++) {
		ssize_t n = recv(fd, buf, want, 0);

		if (n >= 0) {
			return (size_t)n;
		}
		ck_assert_msg(errno == EAGAIN || errno == ECONNRESET, "recv: %s", strerror(errno));
		if (errno == ECONNRESET) {
			return 0;
		}
		/* Now and then wait, for what happens on other threads. */
		ck_assert_int_eq(loop_step(&rig_loop, i < 1000 ? 0 : 1), 0);
	}
	ck_abort_msg("no answer");
	return 0;
}

static inline void receive_all(int fd, char *buf, size_t len)
{
	for (size_t got = 0; got < len;) {
		size_t n = rig_receive(fd, buf + got, len - got);

		ck_assert_uint_gt(n, 0);
		got += n;
	}
}

/* Up to and with `end`, which stands within the first `size` - 1 bytes; NUL behind it. */
static inline size_t receive_until(int fd, char *buf, size_t size, const char *end)
{
	for (int i = 0; i < PATIENCE; i++) {
		ssize_t n = recv(fd, buf, size - 1, MSG_PEEK);
		char *found;

		ck_assert_msg(n > 0 || (n < 0 && errno == EAGAIN), "recv: %zd %s", n,
			      strerror(errno));
		buf[MAX(n, (ssize_t)0)] = '\0';
		found = strstr(buf, end);
		if (found != NULL) {
			size_t len = (size_t)(found - buf) + strlen(end);

			ck_assert_int_eq(recv(fd, buf, len, 0), (ssize_t)len);
			buf[len] = '\0';
			return len;
		}
		ck_assert_int_eq(loop_step(&rig_loop, i < 1000 ? 0 : 1), 0);
	}
	ck_abort_msg("no answer");
	return 0;
}

static inline void receive_head(int fd, struct reply *reply)
{
	(void)receive_until(fd, reply->head, sizeof(reply->head), "\r\n\r\n");
	ck_assert_int_eq(sscanf(reply->head, "HTTP/1.1 %d", &reply->status), 1);
}

/* One chunk's data appended; false: it was the last, empty one. */
static inline bool receive_chunk(int fd, struct reply *reply)
{
	char line[32], end[2];
	unsigned long size;

	(void)receive_until(fd, line, sizeof(line), "\r\n");
	size = strtoul(line, NULL, 16);
	reply->body = realloc(reply->body, reply->len + size + 1);
	receive_all(fd, reply->body + reply->len, size);
	reply->len += size;
	reply->body[reply->len] = '\0';
	receive_all(fd, end, 2);
	ck_assert_mem_eq(end, "\r\n", 2);
	return size != 0;
}

static inline void reply_finish(struct reply *reply)
{
	free(reply->body);
	*reply = (struct reply){ 0 };
}

/* `head_only`: the answer to HEAD. A stream is read to its end. */
static inline void rig_reply(int fd, bool head_only, struct reply *reply)
{
	const char *length;

	*reply = (struct reply){ 0 };
	receive_head(fd, reply);
	length = reply_header(reply, "Content-Length");
	reply->has_length = length != NULL;
	reply->len = length != NULL && !head_only ? strtoul(length, NULL, 10) : 0;
	reply->chunked = reply_header(reply, "Transfer-Encoding") != NULL;
	reply->body = calloc(1, reply->len + 1);
	receive_all(fd, reply->body, reply->len);
	while (reply->chunked && !head_only && receive_chunk(fd, reply)) {
	}
}

/* A request on a connection that stays; `body` may be NULL. */
static inline void rig_exchange(int fd, const char *method, const char *path, const char *body,
				struct reply *reply)
{
	static char text[65536];
	int len =
		snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, path);

	if (body != NULL) {
		len += snprintf(text + len, sizeof(text) - (size_t)len,
				"Content-Length: %zu\r\n\r\n%s", strlen(body), body);
	} else {
		len += snprintf(text + len, sizeof(text) - (size_t)len, "\r\n");
	}
	ck_assert_int_lt(len, (int)sizeof(text));
	rig_send(fd, text, (size_t)len);
	rig_reply(fd, strcmp(method, "HEAD") == 0, reply);
}

/* The same on a connection of its own. */
static inline void rig_ask(const char *method, const char *path, const char *body,
			   struct reply *reply)
{
	int fd = rig_connect();

	rig_exchange(fd, method, path, body, reply);
	(void)close(fd);
}

/* The JSON of a 200; the caller owns it. */
static inline json_t *rig_get(const char *path)
{
	struct error e = { 0 };
	struct reply reply;
	json_t *value = NULL;

	rig_ask("GET", path, NULL, &reply);
	ck_assert_msg(reply.status == 200, "GET %s: %d %s", path, reply.status, reply.body);
	ck_assert_str_eq(reply_header(&reply, "Content-Type"), "application/json");
	check_ok(json_parse(&value, reply.body, reply.len, &e), &e);
	reply_finish(&reply);
	return value;
}

static inline void rig_put(const char *method, const char *path, const char *body)
{
	struct reply reply;

	rig_ask(method, path, body, &reply);
	ck_assert_msg(reply.status == 204, "%s %s: %d %s", method, path, reply.status, reply.body);
	reply_finish(&reply);
}

/* An error is JSON with text and code. */
static inline void check_refusal(const struct reply *reply, const char *code, const char *text)
{
	json_t *value = NULL;
	struct error e = { 0 };
	const char *message;

	check_ok(json_parse(&value, reply->body, reply->len, &e), &e);
	message = json_string_value(json_object_get(value, "fault_message"));
	ck_assert_ptr_nonnull(message);
	ck_assert_msg(text == NULL || strstr(message, text) != NULL, "no '%s' in '%s'", text,
		      message);
	ck_assert_ptr_nonnull(json_object_get(value, "code"));
	if (code != NULL) {
		ck_assert_str_eq(json_string_value(json_object_get(value, "code")), code);
	}
	json_decref(value);
}

#endif
