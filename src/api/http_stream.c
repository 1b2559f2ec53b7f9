/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers without an end: a head at once, then chunks as they come (bytes until the connection
 * ends, for HTTP/1.0). A subscriber that does not read has HTTP_STREAM_WAITING_MAX bytes of
 * backlog, then it is dropped: its connection is cut, without the last chunk, so that it knows.
 * What it sends meanwhile is not read.
 */
#include "http_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char last_chunk[] = "0\r\n\r\n";

void http_stream_closed(struct http_call *call)
{
	void (*closed)(void *) = call->closed;
	void *arg = call->arg;

	free(call);
	closed(arg);
}

/* Waits for room if there is a backlog, else for the client's end only. */
static void update_events(struct http_connection *connection)
{
	http_connection_want(connection, connection->out != NULL ? EPOLLOUT : HTTP_WANT_HANGUP);
}

void http_call_begin_stream(struct http_call *call, const char *type, void (*closed)(void *arg),
			    void *arg)
{
	struct http_connection *connection = call->connection;
	char head[HTTP_HEAD_MAX];
	size_t len;
	int n;

	call->closed = closed;
	call->arg = arg;
	if (connection == NULL) {
		http_stream_closed(call);
		return;
	}
	VMM_BUG_ON(connection->state != HTTP_CALLED);
	http_connection_get(connection);
	/* Only its end says where such an answer ends. */
	call->goes_on = !call->http10;
	call->keep_alive = call->keep_alive && call->goes_on;
	len = http_answer_head(head, connection->server, 200, call->keep_alive);
	n = snprintf(head + len, sizeof(head) - len, "Content-Type: %s\r\n%s\r\n", type,
		     call->http10 ? "" : "Transfer-Encoding: chunked\r\n");
	VMM_BUG_ON(n < 0 || (size_t)n >= sizeof(head) - len);
	http_connection_set_state(connection, HTTP_STREAMING);
	if (!http_output_start(connection, head, len + (size_t)n, NULL, 0)) {
		http_connection_close(connection);
	} else if (call->head) {
		/* Nothing follows the head. */
		http_call_end_stream(call);
		closed(arg);
	} else if (connection->out != NULL) {
		update_events(connection);
	}
	http_connection_put(connection);
}

void http_call_stream(struct http_call *call, const char *data, size_t len)
{
	struct http_connection *connection = call->connection;
	char size[24];
	struct iovec parts[3] = { { .iov_base = size },
				  { .iov_base = (char *)(uintptr_t)data, .iov_len = len },
				  { .iov_base = (char *)(uintptr_t) "\r\n", .iov_len = 2 } };
	bool had_backlog, ok;

	VMM_BUG_ON(connection->state != HTTP_STREAMING);
	if (len == 0) {
		return; /* an empty chunk would be the last one */
	}
	http_connection_get(connection);
	had_backlog = connection->out != NULL;
	if (call->http10) {
		ok = http_output_append(connection, &parts[1], 1, HTTP_STREAM_WAITING_MAX);
	} else {
		parts[0].iov_len = (size_t)snprintf(size, sizeof(size), "%zx\r\n", len);
		ok = http_output_append(connection, parts, 3, HTTP_STREAM_WAITING_MAX);
	}
	if (!ok) {
		http_connection_close(connection);
	} else if (!had_backlog && connection->out != NULL) {
		update_events(connection);
	}
	http_connection_put(connection);
}

void http_call_end_stream(struct http_call *call)
{
	struct http_connection *connection = call->connection;
	const struct iovec last = { .iov_base = (char *)(uintptr_t)last_chunk,
				    .iov_len = sizeof(last_chunk) - 1 };
	bool ok = true;

	VMM_BUG_ON(connection->state != HTTP_STREAMING);
	http_connection_get(connection);
	call->closed = NULL;
	if (!call->http10 && !call->head) {
		ok = http_output_append(connection, &last, 1, SIZE_MAX);
	}
	http_connection_set_state(connection, HTTP_SENDING);
	if (!ok) {
		http_connection_close(connection);
	} else if (connection->out != NULL) {
		http_connection_want(connection, EPOLLOUT);
	} else {
		http_connection_answered(connection);
	}
	http_connection_put(connection);
}
