/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of answers: status lines, headers, and errors as JSON. An error's text may show bytes of a
 * client or of a file: what is not UTF-8 becomes U+FFFD, and the JSON is valid whatever the text holds.
 */
#include "http_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "vmm/json.h"

struct reason {
	int status;
	const char *phrase;
};

static const struct reason reasons[] = {
	{ 200, "OK" },
	{ 204, "No Content" },
	{ 400, "Bad Request" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 413, "Content Too Large" },
	{ 414, "URI Too Long" },
	{ 417, "Expectation Failed" },
	{ 431, "Request Header Fields Too Large" },
	{ 501, "Not Implemented" },
	{ 503, "Service Unavailable" },
	{ 505, "HTTP Version Not Supported" },
};

/* RFC 9112 §4: a phrase may be empty. */
static const char *reason_phrase(int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
		if (reasons[i].status == status) {
			return reasons[i].phrase;
		}
	}
	return "";
}

size_t http_answer_head(char *head, const struct http_server *server, int status, bool keep_alive)
{
	return (size_t)snprintf(
		head, HTTP_HEAD_MAX, "HTTP/1.1 %03d %s\r\nServer: %s\r\nConnection: %s\r\n", status,
		reason_phrase(status), server->config.name, keep_alive ? "keep-alive" : "close");
}

/* --- Errors as JSON --- */

/* Bytes of a client or of a file may be in it. */
static json_t *any_string(const char *text)
{
	return json_any_string(text, "\xef\xbf\xbd"); /* U+FFFD */
}

/* `error`: also under the name where clients look for errors of HTTP itself. `bare`: nothing that
 * Firecracker does not have. NULL if memory is short. */
static char *error_json(const struct error *e, bool error, bool bare, size_t *len)
{
	bool hint = !bare && e->hint[0] != '\0';
	auto_json json_t *value = json_pack(
		"{s:o, s:o*, s:s*, s:o*}", "fault_message", any_string(e->msg), "error",
		error ? any_string(e->msg) : NULL, "code", bare ? NULL : error_code_name(e->code),
		"hint", hint ? any_string(e->hint) : NULL);

	return value != NULL ? json_text_in_order(value, len) : NULL;
}

/* --- Answers --- */

static bool has_length(int status)
{
	return status >= 200 && status != 204;
}

/* `extra`: more header lines, each with its end. Takes `body` over. */
static void reply(struct http_call *call, int status, const char *extra, const char *type,
		  char *body, size_t len)
{
	struct http_connection *connection = call->connection;
	char head[HTTP_HEAD_MAX];
	size_t used;
	int n;

	if (connection == NULL) {
		free(body);
		free(call);
		return;
	}
	VMM_BUG_ON(connection->state != HTTP_CALLED);
	used = http_answer_head(head, connection->server, status, call->keep_alive);
	if (call->deprecated) {
		used += (size_t)snprintf(head + used, sizeof(head) - used, "Deprecation: true\r\n");
	}
	if (!has_length(status)) {
		n = snprintf(head + used, sizeof(head) - used, "%s\r\n", extra);
		len = 0;
	} else if (len != 0) {
		n = snprintf(head + used, sizeof(head) - used,
			     "%sContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", extra, type, len);
	} else {
		n = snprintf(head + used, sizeof(head) - used, "%sContent-Length: 0\r\n\r\n",
			     extra);
	}
	VMM_BUG_ON(n < 0 || (size_t)n >= sizeof(head) - used);
	used += (size_t)n;
	if (call->head || len == 0) {
		free(body);
		body = NULL;
		len = 0;
	}
	http_connection_get(connection);
	http_connection_set_state(connection, HTTP_SENDING);
	if (!http_output_start(connection, head, used, body, len)) {
		http_connection_close(connection);
	} else if (connection->out != NULL) {
		http_connection_want(connection, EPOLLOUT);
	} else {
		http_connection_answered(connection);
	}
	http_connection_put(connection);
}

void http_call_reply(struct http_call *call, int status, const char *type, char *body, size_t len)
{
	reply(call, status, "", type, body, len);
}

static void reply_error(struct http_call *call, int status, const struct error *e,
			const char *allow, bool error)
{
	char extra[HTTP_HEAD_MAX / 4] = "";
	bool bare = call->connection != NULL && call->connection->server->config.bare_errors;
	size_t len = 0;
	char *body = error_json(e, error, bare, &len);

	if (allow != NULL) {
		(void)snprintf(extra, sizeof(extra), "Allow: %.100s\r\n", allow);
	}
	if (body == NULL) {
		reply(call, status, extra, NULL, NULL, 0); /* the status says something, too */
		return;
	}
	reply(call, status, extra, "application/json", body, len);
}

void http_call_reply_error(struct http_call *call, int status, const struct error *e,
			   const char *allow)
{
	reply_error(call, status, e, allow, false);
}

void http_call_set_deprecated(struct http_call *call)
{
	call->deprecated = true;
}

void http_call_reply_allow(struct http_call *call, const char *allow)
{
	char extra[HTTP_HEAD_MAX / 4];

	(void)snprintf(extra, sizeof(extra), "Allow: %.100s\r\n", allow);
	reply(call, 204, extra, NULL, NULL, 0);
}

void http_answer_refused(struct http_call *call)
{
	reply_error(call, call->parser.status, &call->parser.error, NULL, true);
}

void http_answer_no_room(const struct http_server *server, int fd)
{
	char text[HTTP_HEAD_MAX];
	struct error e = { 0 };
	struct iovec iov[2] = { { .iov_base = text } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
	char request[KIB(4)];
	size_t used;
	int n;

	(void)error_set(&e, ERROR_BUSY, EAGAIN, "Too many open connections");
	(void)error_hint(&e, "close one, or try again");
	iov[1].iov_base = error_json(&e, true, false, &iov[1].iov_len);
	used = http_answer_head(text, server, 503, false);
	n = snprintf(text + used, sizeof(text) - used,
		     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		     iov[1].iov_len);
	VMM_BUG_ON(n < 0 || (size_t)n >= sizeof(text) - used);
	iov[0].iov_len = used + (size_t)n;
	(void)sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(iov[1].iov_base);
	/* What lies unread when a socket is closed would end the client's reading with ECONNRESET
	 * instead of the answer's end. */
	(void)recv(fd, request, sizeof(request), MSG_DONTWAIT);
}
