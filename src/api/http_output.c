/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection sends. An answer goes out by one sendmsg() of head and body, from the caller's
 * own memory, and usually that is all. What the socket has no room for is kept, the body as it is,
 * and leaves by and by when epoll says that there is room: at most SEND_MAX at a time, for one call
 * into the kernel copies as long as the client keeps reading.
 *
 * A connection has one output at a time: an answer, or the backlog of a stream, which is bounded by
 * whoever appends to it.
 */
#include "http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SEND_MAX KIB(256)

/* Bytes that went out, 0 if there is no room, -1 if nobody will ever read them. */
static ssize_t transmit(const struct http_connection *connection, struct iovec *iov, int count)
{
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = (size_t)count };
	ssize_t n;

	do {
		n = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)) {
		return 0;
	}
	return n;
}

void http_output_free(struct http_connection *connection)
{
	struct http_output *out = connection->out;

	if (out != NULL) {
		free(out->head);
		free(out->body);
		free(out);
		connection->out = NULL;
	}
}

static size_t output_left(const struct http_output *out)
{
	return out->head_len + out->body_len - out->sent;
}

bool http_output_start(struct http_connection *connection, const char *head, size_t head_len,
		       char *body, size_t len)
{
	struct iovec iov[2] = { { .iov_base = (char *)(uintptr_t)head, .iov_len = head_len },
				{ .iov_base = body, .iov_len = MIN(len, (size_t)SEND_MAX) } };
	struct http_output *out;
	ssize_t n;

	VMM_BUG_ON(connection->out != NULL);
	n = transmit(connection, iov, len != 0 ? 2 : 1);
	if (n < 0 || (size_t)n == head_len + len) {
		free(body);
		return n >= 0;
	}
	out = calloc(1, sizeof(*out));
	if (out == NULL) {
		free(body);
		return false;
	}
	connection->out = out;
	out->body = body;
	out->body_len = out->body_room = len;
	out->sent = (size_t)n;
	if ((size_t)n >= head_len) {
		out->sent -= head_len;
		return true;
	}
	out->head = malloc(head_len);
	if (out->head == NULL) {
		http_output_free(connection);
		return false;
	}
	memcpy(out->head, head, head_len);
	out->head_len = head_len;
	return true;
}

bool http_output_resume(struct http_connection *connection)
{
	struct http_output *out = connection->out;
	struct iovec iov[2];
	size_t body_sent = out->sent > out->head_len ? out->sent - out->head_len : 0;
	int count = 0;
	ssize_t n;

	if (out->sent < out->head_len) {
		iov[count++] = (struct iovec){ .iov_base = out->head + out->sent,
					       .iov_len = out->head_len - out->sent };
	}
	if (body_sent < out->body_len) {
		iov[count++] = (struct iovec){
			.iov_base = out->body + body_sent,
			.iov_len = MIN(out->body_len - body_sent, (size_t)SEND_MAX),
		};
	}
	n = transmit(connection, iov, count);
	if (n < 0) {
		return false;
	}
	out->sent += (size_t)n;
	if (output_left(out) == 0) {
		http_output_free(connection);
	}
	return true;
}

/* Room for `len` bytes more at the end of the backlog, which loses what has been sent of it. */
static bool make_room(struct http_output *out, size_t len)
{
	size_t need, room;
	char *body;

	if (out->sent > out->head_len) {
		size_t gone = out->sent - out->head_len;

		if (out->body_len + len > out->body_room) {
			memmove(out->body, out->body + gone, out->body_len - gone);
			out->body_len -= gone;
			out->sent = out->head_len;
		}
	}
	need = out->body_len + len;
	if (need <= out->body_room) {
		return true;
	}
	room = MAX(need, (size_t)KIB(1));
	room = MAX(room, 2 * out->body_room);
	body = realloc(out->body, room);
	if (body == NULL) {
		return false;
	}
	out->body = body;
	out->body_room = room;
	return true;
}

static bool append_parts(struct http_output *out, const struct iovec *parts, int count, size_t skip,
			 size_t len)
{
	if (!make_room(out, len - skip)) {
		return false;
	}
	for (int i = 0; i < count; i++) {
		size_t from = MIN(skip, parts[i].iov_len);

		memcpy(out->body + out->body_len, (const char *)parts[i].iov_base + from,
		       parts[i].iov_len - from);
		out->body_len += parts[i].iov_len - from;
		skip -= from;
	}
	return true;
}

bool http_output_append(struct http_connection *connection, const struct iovec *parts, int count,
			size_t max)
{
	size_t len = 0;
	ssize_t n = 0;

	for (int i = 0; i < count; i++) {
		len += parts[i].iov_len;
	}
	if (connection->out == NULL) {
		struct iovec iov[4];

		VMM_BUG_ON(count > (int)ARRAY_SIZE(iov));
		memcpy(iov, parts, (size_t)count * sizeof(*parts));
		n = transmit(connection, iov, count);
		if (n < 0) {
			return false;
		}
		if ((size_t)n == len) {
			return true;
		}
		if (len - (size_t)n > max) {
			return false;
		}
		connection->out = calloc(1, sizeof(*connection->out));
		if (connection->out == NULL) {
			return false;
		}
	} else if (len > max || output_left(connection->out) > max - len) {
		return false;
	}
	return append_parts(connection->out, parts, count, (size_t)n, len);
}
