/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of answers: status lines, headers, and errors as JSON. An error's text may show bytes of a
 * client or of a file, so it is escaped here, and what is not UTF-8 becomes U+FFFD: the JSON is
 * valid whatever the text holds.
 */
#include "http_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct reason {
	int status;
	const char *phrase;
};

static const struct reason reasons[] = {
	{ 200, "OK" },
	{ 201, "Created" },
	{ 202, "Accepted" },
	{ 204, "No Content" },
	{ 304, "Not Modified" },
	{ 400, "Bad Request" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 413, "Content Too Large" },
	{ 414, "URI Too Long" },
	{ 415, "Unsupported Media Type" },
	{ 417, "Expectation Failed" },
	{ 422, "Unprocessable Content" },
	{ 429, "Too Many Requests" },
	{ 431, "Request Header Fields Too Large" },
	{ 500, "Internal Server Error" },
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

/* Six bytes for each byte of a text at most, and the message may be there twice. */
#define ERROR_JSON_MAX \
	(6 * (2 * sizeof(((struct error *)NULL)->msg) + sizeof(((struct error *)NULL)->hint)) + 128)

/* Length of the UTF-8 sequence at `text`, 0 if it is none: not shortest, a surrogate, beyond
 * U+10FFFF, cut off. The NUL behind the text ends every sequence. */
static size_t utf8_length(const unsigned char *text)
{
	uint32_t value;
	size_t len;

	if (text[0] < 0x80) {
		return 1;
	}
	if (text[0] < 0xc2 || text[0] > 0xf4) {
		return 0;
	}
	len = text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
	value = text[0] & (0x7fU >> len);
	for (size_t i = 1; i < len; i++) {
		if ((text[i] & 0xc0) != 0x80) {
			return 0;
		}
		value = value << 6 | (text[i] & 0x3fU);
	}
	if ((len == 3 && value < 0x800) || (len == 4 && (value < 0x10000 || value > 0x10ffff)) ||
	    (value >= 0xd800 && value <= 0xdfff)) {
		return 0;
	}
	return len;
}

static char *put_raw(char *out, const char *text)
{
	size_t len = strlen(text);

	memcpy(out, text, len);
	return out + len;
}

/* Writes at most six bytes for each of the text's. */
static char *put_string(char *out, const char *string)
{
	const unsigned char *text = (const unsigned char *)string;

	*out++ = '"';
	while (*text != '\0') {
		size_t len = utf8_length(text);

		if (len == 0) {
			out = put_raw(out, "\\ufffd");
			len = 1;
		} else if (*text == '"' || *text == '\\') {
			*out++ = '\\';
			*out++ = (char)*text;
		} else if (*text < 0x20 || *text == 0x7f) {
			out += snprintf(out, 7, "\\u%04x", *text);
		} else {
			memcpy(out, text, len);
			out += len;
		}
		text += len;
	}
	*out++ = '"';
	return out;
}

/* `error`: also under the name where clients look for errors of HTTP itself. `bare`: nothing that
 * Firecracker does not have. */
static size_t error_json(char *json, const struct error *e, bool error, bool bare)
{
	char *out = put_raw(json, "{\"fault_message\":");

	out = put_string(out, e->msg);
	if (error) {
		out = put_raw(out, ",\"error\":");
		out = put_string(out, e->msg);
	}
	if (!bare) {
		out = put_raw(out, ",\"code\":");
		out = put_string(out, error_code_name(e->code));
	}
	if (!bare && e->hint[0] != '\0') {
		out = put_raw(out, ",\"hint\":");
		out = put_string(out, e->hint);
	}
	*out++ = '}';
	return (size_t)(out - json);
}

/* --- Answers --- */

static bool has_length(int status)
{
	return status >= 200 && status != 204 && status != 304;
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
	char json[ERROR_JSON_MAX], extra[HTTP_HEAD_MAX / 4] = "";
	bool bare = call->connection != NULL && call->connection->server->config.bare_errors;
	size_t len = error_json(json, e, error, bare);
	char *body = malloc(len);

	if (allow != NULL) {
		(void)snprintf(extra, sizeof(extra), "Allow: %.100s\r\n", allow);
	}
	if (body == NULL) {
		reply(call, status, extra, NULL, NULL, 0); /* the status says something, too */
		return;
	}
	memcpy(body, json, len);
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
	char json[ERROR_JSON_MAX], text[HTTP_HEAD_MAX];
	struct error e = { 0 };
	struct iovec iov[2] = { { .iov_base = text }, { .iov_base = json } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
	char request[KIB(4)];
	size_t used;
	int n;

	(void)error_set(&e, ERROR_BUSY, EAGAIN, "Too many open connections");
	(void)error_hint(&e, "close one, or try again");
	iov[1].iov_len = error_json(json, &e, true, false);
	used = http_answer_head(text, server, 503, false);
	n = snprintf(text + used, sizeof(text) - used,
		     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		     iov[1].iov_len);
	VMM_BUG_ON(n < 0 || (size_t)n >= sizeof(text) - used);
	iov[0].iov_len = used + (size_t)n;
	(void)sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	/* What lies unread when a socket is closed would end the client's reading with ECONNRESET
	 * instead of the answer's end. */
	(void)recv(fd, request, sizeof(request), MSG_DONTWAIT);
}
