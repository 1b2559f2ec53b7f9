/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection: what it reads, and when. Level-triggered epoll says that there is something; one
 * recv() takes it, the parser looks at it, and a complete request goes to handle(). There is no
 * second recv() in a round: if more is there, epoll says so again. While an answer is being made or
 * sent, nothing is read; the events waited for change only if the client does something meanwhile,
 * so the usual exchange costs epoll_wait, recv, sendmsg and nothing else.
 *
 * Bytes behind a request (pipelining) stay in the buffer. A round handles REQUESTS_PER_ROUND of
 * them; to go on in the next one the connection waits for EPOLLOUT, which the socket reports at
 * once, or as soon as the client reads its answers, which is when to go on.
 *
 * Buffers: 1 KiB when the first byte comes, growing with what comes, up to a head and a body; freed
 * with the last byte used. All buffers of a server together are bounded, so that large requests may
 * get 503; those up to BUFFER_SMALL never do, whatever others hold. An idle connection is this
 * struct, and a slot of the loop.
 *
 * The end: on Unix sockets EPOLLHUP means that the client has closed its socket, and nobody will
 * read an answer; a client that only shut down its sending side shows as end of file, and gets its
 * answers. After an answer behind which bytes of the same request may follow, the connection is
 * shut down and what comes is thrown away, for to close it would destroy the answer on its way.
 * Who says "Connection: close" is answered, and has a while to do it: Firecracker never closes, and
 * clients of its go on; a client that reads to the end of file would wait for ever. A request that
 * comes meanwhile is one like any other.
 *
 * Callbacks of the server's user run in the middle of functions here, may answer, end streams, or
 * destroy the server: a function that goes on after one holds a reference and looks at the state.
 */
#include "http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUESTS_PER_ROUND 16
#define BUFFER_FIRST	   KIB(1)
#define BUFFER_GROWTH	   4 /* times, up to RECEIVE_MAX, then twice */
#define BUFFER_SMALL	   KIB(16)
#define RECEIVE_MAX	   KIB(64) /* in a round */
#define RECEIVE_MIN	   KIB(4)
#define LINGER_BYTES	   KIB(16) /* in a round */

static void free_buffer(struct http_connection *connection)
{
	connection->server->buffered -= connection->room;
	free(connection->buffer);
	connection->buffer = NULL;
	connection->room = connection->start = connection->len = 0;
}

static void unlink_connection(struct http_connection *connection)
{
	connection->link.prev->next = connection->link.next;
	connection->link.next->prev = connection->link.prev;
}

static void link_connection(struct http_connection *connection)
{
	bool busy = connection->state == HTTP_CALLED || connection->state == HTTP_STREAMING;
	struct http_link *list = busy ? &connection->server->busy : &connection->server->waiting;

	connection->link.next = list;
	connection->link.prev = list->prev;
	list->prev->next = &connection->link;
	list->prev = &connection->link;
}

void http_connection_set_state(struct http_connection *connection, enum http_connection_state state)
{
	unlink_connection(connection);
	connection->state = state;
	connection->close_at_ns = 0;
	link_connection(connection);
}

void http_connection_close(struct http_connection *connection)
{
	struct http_call *call = connection->call;
	enum http_connection_state state = connection->state;

	if (state == HTTP_CLOSED) {
		return;
	}
	unlink_connection(connection);
	connection->state = HTTP_CLOSED;
	connection->server->stats.connections--;
	loop_source_remove(&connection->source);
	(void)close(connection->fd);
	connection->fd = -1;
	http_output_free(connection);
	connection->call = NULL;
	if (state == HTTP_CALLED) {
		call->connection = NULL; /* until it is answered */
	} else if (state == HTTP_STREAMING) {
		http_stream_closed(call);
	} else {
		free(call);
	}
	http_connection_put(connection);
}

void http_connection_want(struct http_connection *connection, uint32_t events)
{
	if (loop_source_modify(&connection->source, events) < 0) {
		http_connection_close(connection);
	}
}

/* Gives back what no request needs that has begun. */
static void rest(struct http_connection *connection)
{
	if (connection->len != 0) {
		return;
	}
	free_buffer(connection);
	if (connection->state == HTTP_READING && connection->call != NULL &&
	    http_parser_fresh(&connection->call->parser)) {
		free(connection->call);
		connection->call = NULL;
	}
}

/* Waits for what comes next: bytes, or its own turn for those that are there. */
static void wait_for_more(struct http_connection *connection, bool has_requests)
{
	rest(connection);
	http_connection_want(connection, has_requests ? EPOLLOUT : EPOLLIN);
}

void http_connection_answered(struct http_connection *connection)
{
	const struct http_call *call = connection->call;

	if (call->goes_on) {
		http_connection_set_state(connection, HTTP_READING);
		if (!call->keep_alive) {
			http_server_close_later(connection);
		}
		if (!connection->serving) {
			wait_for_more(connection, connection->len != 0);
		}
	} else if (call->lingers || connection->len != 0) {
		(void)shutdown(connection->fd, SHUT_WR);
		http_connection_set_state(connection, HTTP_LINGERING);
		connection->len = 0;
		if (!connection->serving) {
			rest(connection);
		}
		http_connection_want(connection, EPOLLIN);
	} else {
		http_connection_close(connection);
	}
}

/* --- Requests --- */

/* Answers what has been refused; the connection goes on if the parser can. */
static void refuse(struct http_connection *connection)
{
	struct http_call *call = connection->call;
	struct http_parser *parser = &call->parser;

	connection->server->stats.refused++;
	call->head = parser->method == HTTP_HEAD;
	call->keep_alive = parser->keep_alive;
	call->goes_on = parser->end_known;
	call->lingers = true;
	http_connection_set_state(connection, HTTP_CALLED);
	http_answer_refused(call);
}

/* Refuses for a reason that is not the parser's; the connection ends with the answer. */
static void refuse_for(struct http_connection *connection, int status, enum error_code code,
		       int sys, const char *why)
{
	struct http_parser *parser = &connection->call->parser;

	if (parser->status != 0) {
		http_connection_close(connection); /* it has been answered already */
		return;
	}
	parser->status = status;
	parser->keep_alive = parser->end_known = false;
	(void)error_set(&parser->error, code, sys, "%s", why);
	refuse(connection);
}

static void dispatch(struct http_connection *connection)
{
	struct http_server *server = connection->server;
	struct http_call *call = connection->call;
	const struct http_parser *parser = &call->parser;
	char *data = connection->buffer + connection->start;
	char *end = data + parser->body + parser->body_len, behind = *end;
	const struct http_request request = {
		.method = parser->method,
		.path = data + parser->path,
		.query = parser->has_query ? data + parser->query : NULL,
		.body = data + parser->body,
		.body_len = parser->body_len,
	};

	call->head = parser->method == HTTP_HEAD;
	call->http10 = parser->minor == 0;
	call->keep_alive = parser->keep_alive;
	call->goes_on = true;
	call->lingers = call->continued = call->deprecated = false;
	connection->start += parser->consumed;
	connection->len -= parser->consumed;
	http_connection_set_state(connection, HTTP_CALLED);
	server->stats.requests++;
	*end = '\0'; /* perhaps over the first byte of the next request */
	server->config.handle(server->config.arg, call, &request);
	*end = behind;
}

/* What the parser says is complete. */
static void request_done(struct http_connection *connection)
{
	struct http_call *call = connection->call;

	if (call->parser.status == 0) {
		dispatch(connection);
	} else {
		connection->start += call->parser.consumed;
		connection->len -= call->parser.consumed;
		call->lingers = false;
	}
	/* The call may be gone, or wait for its answer, which needs nothing of the parser. */
	if (connection->call != NULL) {
		http_parser_init(&connection->call->parser, connection->server->config.body_max);
	}
}

static void continue_body(struct http_connection *connection)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct http_call *call = connection->call;

	if (call->parser.expects_continue && !call->continued) {
		call->continued = true;
		/* If there is no room the client has not read its last answers; RFC 9110 §10.1.1
		 * has it send the body anyway after a while. */
		(void)send(connection->fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

/* Goes through what is in the buffer. */
static void serve(struct http_connection *connection)
{
	unsigned int requests = 0;
	bool more = false;

	connection->serving = true;
	while (connection->state == HTTP_READING && connection->len != 0 && !more &&
	       requests < REQUESTS_PER_ROUND) {
		switch (http_parser_run(&connection->call->parser,
					connection->buffer + connection->start, &connection->len)) {
		case HTTP_PARSE_MORE:
			more = true;
			break;
		case HTTP_PARSE_DONE:
			requests++;
			request_done(connection);
			break;
		case HTTP_PARSE_REFUSED:
			if (connection->call->lingers) {
				/* What came behind the refused head makes no sense either. */
				http_connection_close(connection);
			} else {
				refuse(connection);
			}
			break;
		}
	}
	connection->serving = false;
	if (connection->state != HTTP_READING) {
		if (connection->state != HTTP_CLOSED) {
			rest(connection);
		}
		return;
	}
	if (more) {
		continue_body(connection);
	}
	wait_for_more(connection, !more && connection->len != 0);
}

/* --- Bytes --- */

/* Makes room for some bytes behind those in the buffer, at the first of a request for the call. */
static int prepare(struct http_connection *connection)
{
	struct http_server *server = connection->server;
	size_t missing, room = connection->room;
	char *buffer;

	if (connection->call == NULL) {
		struct http_call *call = malloc(sizeof(*call));

		if (call == NULL) {
			return -ENOMEM;
		}
		call->connection = connection;
		call->lingers = call->continued = call->deprecated = false;
		call->closed = NULL;
		http_parser_init(&call->parser, server->config.body_max);
		connection->call = call;
		/* From now on it is slow, or done soon. */
		http_connection_set_state(connection, HTTP_READING);
	}
	if (connection->start != 0) {
		memmove(connection->buffer, connection->buffer + connection->start,
			connection->len);
		connection->start = 0;
	}
	missing = connection->call->parser.missing;
	if (room > connection->len + MIN(missing, (size_t)RECEIVE_MIN)) {
		return 0;
	}
	room = room == 0 ? BUFFER_FIRST : room * (room < RECEIVE_MAX ? BUFFER_GROWTH : 2);
	room = MAX(MIN(room, (size_t)RECEIVE_MAX), connection->room * 2);
	if (missing > 1) {
		/* A body of known length: right now, unless it is large and perhaps a lie. */
		room = MIN(connection->len + missing + 1, MAX(room, (size_t)RECEIVE_MAX));
	}
	/* Large requests share a limit; small ones are few enough without. */
	if (room > BUFFER_SMALL &&
	    server->buffered + (room - connection->room) > server->buffered_max) {
		return -ENOBUFS;
	}
	buffer = realloc(connection->buffer, room);
	if (buffer == NULL) {
		return -ENOMEM;
	}
	server->buffered += room - connection->room;
	connection->buffer = buffer;
	connection->room = room;
	return 0;
}

/* The client has shut down its sending side, or closed its socket. */
static void end_of_file(struct http_connection *connection)
{
	const struct http_call *call = connection->call;

	if (call == NULL || call->parser.status != 0 || http_parser_fresh(&call->parser)) {
		http_connection_close(connection);
		return;
	}
	refuse_for(connection, 400, ERROR_HTTP, 0, "the request ends in the middle");
}

static void receive(struct http_connection *connection)
{
	size_t room;
	ssize_t n;

	if (prepare(connection) < 0) {
		if (connection->call == NULL) {
			http_connection_close(connection);
		} else {
			refuse_for(connection, 503, ERROR_NO_MEMORY, ENOMEM,
				   "no memory for this request beside the others that arrive");
		}
		return;
	}
	room = connection->room - connection->len - 1;
	n = recv(connection->fd, connection->buffer + connection->len,
		 MIN(room, (size_t)RECEIVE_MAX), MSG_DONTWAIT);
	if (n > 0) {
		connection->len += (size_t)n;
		serve(connection);
	} else if (n == 0) {
		end_of_file(connection);
	} else if (errno != EAGAIN && errno != EINTR) {
		http_connection_close(connection);
	} else {
		rest(connection);
	}
}

static void linger(struct http_connection *connection)
{
	char scratch[LINGER_BYTES];
	ssize_t n = recv(connection->fd, scratch, sizeof(scratch), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		http_connection_close(connection);
	}
}

static void send_on(struct http_connection *connection)
{
	if (!http_output_resume(connection)) {
		http_connection_close(connection);
	} else if (connection->state == HTTP_STREAMING) {
		http_connection_want(connection,
				     connection->out != NULL ? EPOLLOUT : HTTP_WANT_HANGUP);
	} else if (connection->out == NULL) {
		http_connection_answered(connection);
	} else {
		http_connection_set_state(connection, HTTP_SENDING); /* there was progress */
	}
}

static void connection_ready(struct loop_source *source, uint32_t events)
{
	struct http_connection *connection = container_of(source, struct http_connection, source);
	bool gone = (events & (EPOLLHUP | EPOLLERR)) != 0;

	http_connection_get(connection);
	switch (connection->state) {
	case HTTP_READING:
		/* Also of a client that has gone: it may have asked for something. */
		if ((source->events & EPOLLOUT) != 0) {
			serve(connection);
		} else {
			receive(connection);
		}
		break;
	case HTTP_LINGERING:
		linger(connection);
		break;
	default:
		if (gone) {
			http_connection_close(connection);
		} else if ((events & EPOLLOUT) != 0 && connection->out != NULL) {
			send_on(connection);
		} else {
			/* It has sent something, or nothing more will come: later. */
			http_connection_want(connection, HTTP_WANT_HANGUP);
		}
		break;
	}
	http_connection_put(connection);
}

void http_connection_flush(struct http_connection *connection)
{
	http_connection_get(connection);
	if (connection->out != NULL) {
		send_on(connection);
	}
	http_connection_put(connection);
}

int http_connection_open(struct http_server *server, int fd, struct error *e)
{
	struct http_connection *connection = calloc(1, sizeof(*connection));
	int r;

	if (connection == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "no memory for a connection");
	}
	r = loop_source_add(server->config.loop, &connection->source, fd, EPOLLIN, connection_ready,
			    e);
	if (r < 0) {
		free(connection);
		return r;
	}
	connection->server = server;
	connection->fd = fd;
	connection->refs = 1;
	connection->state = HTTP_READING;
	link_connection(connection);
	http_server_get(server);
	server->stats.accepted++;
	server->stats.connections++;
	return 0;
}
