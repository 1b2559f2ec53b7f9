// SPDX-License-Identifier: Apache-2.0
/*
 * The client's side of HTTP/1.1 (RFC 9112): requests with Content-Length, answers with a length,
 * chunked, or until the end of the connection; 1xx answers are passed over.
 *
 * One buffer holds what has arrived; lines and pieces of bodies are used in place. Every wait has
 * the deadline of the whole answer, so a server that sends a byte now and then does not hold a
 * command for ever.
 *
 * Any thread, one at a time per client.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/loop.h"
#include "vmm/run_directory.h"
#include "vmm/text.h"

#define API_SOCKET "api.sock"
#define READ_SIZE  KIB(16)
#define SHOWN	   80 /* bytes of a bad line that a message repeats */

enum body_kind { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_UNTIL_END };

struct body {
	enum body_kind kind;
	uint64_t left; /* of the body, or of this chunk */
	bool in_chunk; /* its line end is still to come */
	bool done;
};

struct head {
	int status;
	struct body body;
};

static int64_t deadline_of(const struct client *client)
{
	return client->timeout_ms < 0 ? INT64_MAX : loop_now_ms() + client->timeout_ms;
}

static int wait_for(const struct client *client, short events, int64_t deadline, struct error *e)
{
	struct pollfd fd = { .fd = client->fd, .events = events };
	int64_t left = deadline == INT64_MAX ? -1 : MAX(deadline - loop_now_ms(), 0);
	int r = poll(&fd, 1, (int)MIN(left, INT_MAX));

	if (r > 0 || (r < 0 && errno == EINTR)) {
		return 0;
	}
	if (r < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "poll");
	}
	(void)error_set(e, ERROR_BUSY, ETIMEDOUT, "the VM has not answered within %d ms",
			client->timeout_ms);
	return error_hint(e, "its process may be stopped or stuck; vmm kill ends it");
}

static int connection_ended(struct error *e)
{
	(void)error_set(e, ERROR_HTTP, ECONNRESET, "the VM has closed the connection");
	return error_hint(e, "it may just have ended: vmm ps -a");
}

static int send_all(const struct client *client, const char *data, size_t len, int64_t deadline,
		    struct error *e)
{
	while (len > 0) {
		ssize_t n = send(client->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			int r = wait_for(client, POLLOUT, deadline, e);

			if (r < 0) {
				return r;
			}
		} else if (errno == EPIPE || errno == ECONNRESET) {
			/* It may have refused the request before it had read all of it. */
			return 0;
		} else if (errno != EINTR) {
			return error_set_sys(e, ERROR_INTERNAL, errno, "send to the VM");
		}
	}
	return 0;
}

static int make_room(struct client *client, struct error *e)
{
	char *grown;

	if (client->start > 0 && client->buf != NULL) {
		memmove(client->buf, client->buf + client->start, client->len);
		client->start = 0;
	}
	if (client->room - client->len >= READ_SIZE) {
		return 0;
	}
	grown = realloc(client->buf, client->room + READ_SIZE);
	if (grown == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	client->buf = grown;
	client->room += READ_SIZE;
	return 0;
}

/* Adds to the buffer what there is, waiting for it: 1. 0 at the end of the connection. */
static int fill(struct client *client, int64_t deadline, struct error *e)
{
	int r = make_room(client, e);

	while (r == 0) {
		ssize_t n = recv(client->fd, client->buf + client->start + client->len,
				 client->room - client->start - client->len, MSG_DONTWAIT);

		if (n >= 0) {
			client->len += (size_t)n;
			return n > 0;
		}
		if (errno == ECONNRESET) {
			return 0;
		}
		if (errno == EAGAIN) {
			r = wait_for(client, POLLIN, deadline, e);
		} else if (errno != EINTR) {
			r = error_set_sys(e, ERROR_INTERNAL, errno, "receive from the VM");
		}
	}
	return r;
}

/* The next line without its end. It stays valid until the next read. -ECONNRESET if the connection
 * ends within it. */
static int read_line(struct client *client, size_t max, int64_t deadline, char **line,
		     struct error *e)
{
	size_t seen = 0;

	for (;;) {
		char *text = client->len > 0 ? client->buf + client->start : NULL;
		char *end = text != NULL ? memchr(text + seen, '\n', client->len - seen) : NULL;
		int r;

		if (end != NULL && (size_t)(end - text) <= max) {
			size_t len = (size_t)(end - text);

			client->start += len + 1;
			client->len -= len + 1;
			*end = '\0';
			if (len > 0 && end[-1] == '\r') {
				end[-1] = '\0';
			}
			*line = text;
			return 0;
		}
		seen = client->len;
		if (end != NULL || seen > max) {
			return error_set(e, ERROR_HTTP, EPROTO,
					 "the VM's answer has a line of more than %zu bytes", max);
		}
		r = fill(client, deadline, e);
		if (r <= 0) {
			return r == 0 ? connection_ended(e) : r;
		}
	}
}

static int not_http(const char *line, struct error *e)
{
	(void)error_set(e, ERROR_HTTP, EPROTO, "the answer is no HTTP: '%.*s'", SHOWN, line);
	return error_hint(e, "is it a VM's API socket?");
}

static bool parse_length(const char *text, int base, uint64_t *ret)
{
	char *end;

	if (strchr("0123456789abcdefABCDEF", text[0]) == NULL || text[0] == '\0') {
		return false;
	}
	errno = 0;
	*ret = strtoull(text, &end, base);
	end += strspn(end, " \t");
	return errno == 0 && (*end == '\0' || (base == 16 && *end == ';'));
}

/* "HTTP/1.1 204 No Content" */
static int parse_status(const char *line, struct head *head, struct error *e)
{
	const char *digits = "0123456789";

	if (strncmp(line, "HTTP/1.", 7) != 0 || strspn(line + 7, digits) != 1 || line[8] != ' ' ||
	    strspn(line + 9, digits) != 3 || line[9] == '0') {
		return not_http(line, e);
	}
	head->status = (int)strtol(line + 9, NULL, 10);
	return 0;
}

static int parse_header(char *line, struct head *head, struct error *e)
{
	char *value = strchr(line, ':');

	if (value == NULL) {
		return not_http(line, e);
	}
	*value++ = '\0';
	value += strspn(value, " \t");
	if (strcasecmp(line, "content-length") == 0) {
		if (head->body.kind == BODY_CHUNKED) {
			return 0;
		}
		head->body.kind = BODY_LENGTH;
		if (!parse_length(value, 10, &head->body.left)) {
			return not_http(value, e);
		}
	} else if (strcasecmp(line, "transfer-encoding") == 0) {
		if (strcasecmp(value, "chunked") != 0) {
			return not_http(value, e);
		}
		head->body = (struct body){ .kind = BODY_CHUNKED };
	}
	return 0;
}

static int read_one_head(struct client *client, int64_t deadline, struct head *head,
			 struct error *e)
{
	size_t left = CLIENT_HEAD_MAX;
	char *line = NULL;
	int r = read_line(client, left, deadline, &line, e);

	*head = (struct head){ .body = { .kind = BODY_UNTIL_END } };
	if (r == 0) {
		r = parse_status(line, head, e);
	}
	while (r == 0) {
		r = read_line(client, left, deadline, &line, e);
		if (r < 0 || line[0] == '\0') {
			break;
		}
		if (strlen(line) >= left) {
			return error_set(e, ERROR_HTTP, EPROTO,
					 "the head of the VM's answer is longer than %llu bytes",
					 (unsigned long long)CLIENT_HEAD_MAX);
		}
		left -= strlen(line) + 1;
		r = parse_header(line, head, e);
	}
	return r;
}

static int read_head(struct client *client, int64_t deadline, struct head *head, struct error *e)
{
	int r;

	/* Each wait is bounded by the deadline, their number by this. */
	for (int i = 0; i < 10; i++) {
		r = read_one_head(client, deadline, head, e);
		if (r < 0) {
			return r;
		}
		if (head->status >= 200) {
			if (head->status == 204 || head->status == 304) {
				head->body.kind = BODY_NONE;
			}
			head->body.done = head->body.kind == BODY_NONE ||
					  (head->body.kind == BODY_LENGTH && head->body.left == 0);
			return 0;
		}
	}
	return not_http("one 1xx answer after the other", e);
}

static int next_chunk(struct client *client, struct body *body, int64_t deadline, struct error *e)
{
	size_t trailers = 0;
	char *line = NULL;
	int r;

	if (body->in_chunk) {
		r = read_line(client, SHOWN, deadline, &line, e);
		if (r < 0 || line == NULL) {
			return r;
		}
		if (line[0] != '\0') {
			return not_http(line, e);
		}
	}
	r = read_line(client, CLIENT_HEAD_MAX, deadline, &line, e);
	if (r < 0 || line == NULL) {
		return r;
	}
	if (!parse_length(line, 16, &body->left)) {
		return not_http(line, e);
	}
	body->in_chunk = true;
	body->done = body->left == 0;
	while (body->done && r == 0 && line[0] != '\0' && trailers++ < 100) {
		r = read_line(client, CLIENT_HEAD_MAX, deadline, &line, e);
	}
	return r;
}

/* The next bytes of the body, in the buffer: valid until the next read. *len is 0 at its end. */
static int read_body(struct client *client, struct body *body, int64_t deadline, char **data,
		     size_t *len, struct error *e)
{
	int r = 0;

	*len = 0;
	if (!body->done && body->kind == BODY_CHUNKED && body->left == 0) {
		r = next_chunk(client, body, deadline, e);
	}
	if (r < 0 || body->done) {
		return r;
	}
	if (client->len == 0) {
		r = fill(client, deadline, e);
		if (r == 0 && body->kind == BODY_UNTIL_END) {
			body->done = true;
			return 0;
		}
		if (r <= 0) {
			return r == 0 ? connection_ended(e) : r;
		}
	}
	*len = client->len;
	if (body->kind != BODY_UNTIL_END) {
		*len = (size_t)MIN(client->len, body->left);
		body->left -= *len;
		body->done = body->kind == BODY_LENGTH && body->left == 0;
	}
	*data = client->buf + client->start;
	client->start += *len;
	client->len -= *len;
	return 0;
}

static int append(struct text_buffer *buffer, const char *data, size_t len, size_t max,
		  const char *what, struct error *e)
{
	if (len > max - buffer->len) {
		return error_set(e, ERROR_TOO_LARGE, EFBIG, "%s is larger than %zu MiB", what,
				 max >> 20);
	}
	return text_buffer_add(buffer, data, len)
		       ? 0
		       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
}

/* On failure the reply may hold a part, to be freed. */
static int read_whole_body(struct client *client, struct body *body, int64_t deadline,
			   struct client_reply *reply, struct error *e)
{
	struct text_buffer buffer = { 0 };
	char *data = NULL;
	size_t len = 0;
	int r;

	do {
		r = read_body(client, body, deadline, &data, &len, e);
		if (r == 0) {
			r = append(&buffer, data, len, CLIENT_BODY_MAX, "the VM's answer", e);
		}
	} while (r == 0 && len > 0);
	reply->body = buffer.data;
	reply->len = buffer.len;
	return r;
}

static int send_request(struct client *client, const char *method, const char *path,
			const char *body, size_t len, int64_t deadline, struct error *e)
{
	auto_free char *head = NULL;
	int n, r;

	if (len > 0) {
		n = asprintf(&head,
			     "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n"
			     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
			     method, path, len);
	} else {
		n = asprintf(&head, "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
			     method, path);
	}
	if (n < 0) {
		head = NULL;
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	r = send_all(client, head, (size_t)n, deadline, e);
	return r < 0 ? r : send_all(client, body, len, deadline, e);
}

/* Nothing of ours may end the request line early. */
static int check_request(const char *method, const char *path, struct error *e)
{
	if (method[0] == '\0' || strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(method)) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "'%.*s' is no method", SHOWN, method);
		return error_hint(e, "GET, PUT, PATCH, DELETE or POST");
	}
	if (path[0] != '/') {
		(void)error_set(e, ERROR_USAGE, EINVAL, "'%.*s' is no path of the API", SHOWN,
				path);
		return error_hint(e, "it starts with '/': /vm, /machine-config, /openapi.json");
	}
	for (const char *p = path; *p != '\0'; p++) {
		if (*p <= ' ' || *p > '~') {
			(void)error_set(e, ERROR_USAGE, EINVAL,
					"'%.*s': a character that no path has", SHOWN, path);
			return error_hint(e, "write it as %%%02X", (unsigned char)*p);
		}
	}
	return 0;
}

/* Sends a request and reads the head of its answer. */
static int ask(struct client *client, const char *method, const char *path, const char *body,
	       size_t len, int64_t deadline, struct head *head, struct error *e)
{
	int r = check_request(method, path, e);

	if (r == 0) {
		r = send_request(client, method, path, body, len, deadline, e);
	}
	return r == 0 ? read_head(client, deadline, head, e) : r;
}

int client_request(struct client *client, const char *method, const char *path, const char *body,
		   size_t len, struct client_reply *reply, struct error *e)
{
	int64_t deadline = deadline_of(client);
	struct client_reply got = { 0 };
	struct head head = { 0 };
	int r = ask(client, method, path, body, len, deadline, &head, e);

	if (r != 0) {
		return r;
	}
	if (strcmp(method, "HEAD") == 0) {
		head.body = (struct body){ .kind = BODY_NONE, .done = true };
	}
	r = read_whole_body(client, &head.body, deadline, &got, e);
	if (r < 0) {
		client_reply_finish(&got);
		return r;
	}
	got.status = head.status;
	*reply = got;
	return 0;
}

void client_reply_finish(struct client_reply *reply)
{
	free(take_ptr(reply->body));
}

static enum error_code code_of(const char *name)
{
	for (int code = 0; name != NULL && code < ERROR_CODES; code++) {
		if (strcmp(name, error_code_name((enum error_code)code)) == 0) {
			return (enum error_code)code;
		}
	}
	return ERROR_HTTP;
}

int client_reply_error(const struct client_reply *reply, const char *method, const char *path,
		       struct error *e)
{
	auto_json json_t *root = NULL;
	const char *message, *hint;

	if (reply->len > 0) {
		(void)json_parse(&root, reply->body, reply->len, NULL);
	}
	message = json_string_value(json_object_get(root, "fault_message"));
	if (message == NULL) {
		message = json_string_value(json_object_get(root, "error"));
	}
	if (message == NULL) {
		return error_set(e, ERROR_HTTP, EPROTO, "%s %s: status %d", method, path,
				 reply->status);
	}
	(void)error_set(e, code_of(json_string_value(json_object_get(root, "code"))), EREMOTEIO,
			"%s", message);
	hint = json_string_value(json_object_get(root, "hint"));
	if (hint != NULL) {
		(void)error_hint(e, "%s", hint);
	}
	return -EREMOTEIO;
}

int client_call(struct client *client, const char *method, const char *path, const json_t *body,
		json_t **ret, struct error *e)
{
	struct client_reply reply = { 0 };
	auto_free char *text = NULL;
	json_t *value = NULL;
	size_t len = 0;
	int r;

	if (body != NULL) {
		text = json_text(body, &len);
		if (text == NULL) {
			return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		}
	}
	r = client_request(client, method, path, text, len, &reply, e);
	if (r < 0) {
		return r;
	}
	if (reply.status >= 300) {
		r = client_reply_error(&reply, method, path, e);
	} else if (ret != NULL && reply.len > 0) {
		r = json_parse(&value, reply.body, reply.len, e);
		if (r < 0) {
			(void)error_prefix(e, "the VM's answer to %s %s", method, path);
		}
	}
	client_reply_finish(&reply);
	if (r == 0 && ret != NULL) {
		*ret = value;
	}
	return r;
}

/* Hands out the complete lines of `data`, keeps the rest. *more becomes false if line() said so. */
static int split_lines(struct text_buffer *rest, const char *data, size_t len,
		       bool (*line)(void *, const char *, size_t), void *arg, bool *more,
		       struct error *e)
{
	while (*more && len > 0) {
		const char *end = memchr(data, '\n', len);
		size_t part = end != NULL ? (size_t)(end - data) : len;
		int r = append(rest, data, part, CLIENT_LINE_MAX, "a line that the VM sends", e);

		if (r < 0 || end == NULL) {
			return r;
		}
		*more = line(arg, rest->data, rest->len);
		rest->len = 0;
		data += part + 1;
		len -= part + 1;
	}
	return 0;
}

int client_stream(struct client *client, const char *path,
		  bool (*line)(void *arg, const char *text, size_t len), void *arg, struct error *e)
{
	int64_t deadline = deadline_of(client);
	struct client_reply reply = { 0 };
	struct text_buffer rest = { 0 };
	struct head head = { 0 };
	bool more = true;
	char *data = NULL;
	int r = ask(client, "GET", path, NULL, 0, deadline, &head, e);

	if (r == 0 && head.status != 200) {
		r = read_whole_body(client, &head.body, deadline, &reply, e);
		if (r == 0) {
			reply.status = head.status;
			r = client_reply_error(&reply, "GET", path, e);
		}
		client_reply_finish(&reply);
	}
	while (r == 0 && more) {
		size_t len = 0;

		r = read_body(client, &head.body, INT64_MAX, &data, &len, e);
		if (r < 0 || len == 0) {
			break;
		}
		r = split_lines(&rest, data, len, line, arg, &more, e);
	}
	free(rest.data);
	return r;
}

static void init(struct client *client, int fd, int timeout_ms)
{
	*client = (struct client){ .fd = fd, .timeout_ms = timeout_ms };
}

int client_connect_at(struct client *client, int dir_fd, int timeout_ms, struct error *e)
{
	int fd;
	int r = run_directory_connect(dir_fd, API_SOCKET, &fd, e);

	if (r == 0) {
		init(client, fd, timeout_ms);
	}
	return r;
}

int client_call_at(int dir_fd, int timeout_ms, const char *method, const char *path,
		   const json_t *body, json_t **ret, struct error *e)
{
	struct client client = { .fd = -1 };
	int r = client_connect_at(&client, dir_fd, timeout_ms, e);

	if (r == 0) {
		r = client_call(&client, method, path, body, ret, e);
	}
	client_close(&client);
	return r;
}

static int connect_path(const char *path, int *ret, struct error *e)
{
	/* Links are the user's own; the last part is looked at without following. */
	auto_free char *real = realpath(path, NULL);
	auto_close int dir_fd = -1;
	char *slash;
	int r;

	if (real == NULL) {
		(void)error_set_sys(e, ERROR_NOT_FOUND, errno, "--api-sock '%s'", path);
		return error_hint(e, "name the socket that vmm serve --api-sock was given");
	}
	slash = strrchr(real, '/');
	*slash = '\0';
	dir_fd = open(slash == real ? "/" : real, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0) {
		return error_set_sys(e, ERROR_NOT_FOUND, errno, "--api-sock '%s'", path);
	}
	r = run_directory_connect(dir_fd, slash + 1, ret, e);
	return r < 0 ? error_prefix(e, "--api-sock '%s'", path) : 0;
}

int client_connect(struct client *client, const char *name, const char *api_socket, int timeout_ms,
		   struct error *e)
{
	auto_close int dir_fd = -1;
	bool alive = false;
	int fd, r;

	if (name == NULL) {
		r = connect_path(api_socket, &fd, e);
		if (r == 0) {
			init(client, fd, timeout_ms);
		}
		return r;
	}
	r = run_directory_find(name, &dir_fd, &alive, e);
	if (r < 0) {
		return r;
	}
	if (!alive) {
		(void)error_set(e, ERROR_NOT_FOUND, ESRCH, "VM '%s' has ended", name);
		return error_hint(e, "vmm ps lists those that live; vmm rm %s removes what it left",
				  name);
	}
	r = client_connect_at(client, dir_fd, timeout_ms, e);
	return r < 0 ? error_prefix(e, "VM '%s'", name) : 0;
}

void client_close(struct client *client)
{
	close_fd(&client->fd);
	free(take_ptr(client->buf));
	client->start = client->len = client->room = 0;
}
