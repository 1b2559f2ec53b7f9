/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the HTTP server share. http_server.c: listeners and the set of connections;
 * http_connection.c: what one connection reads and when; http_output.c: what it sends;
 * http_answer.c: texts of answers; http_stream.c: answers without an end.
 *
 * Main thread; no locks.
 */
#ifndef VMM_API_HTTP_INTERNAL_H
#define VMM_API_HTTP_INTERNAL_H

#include <sys/uio.h>

#include "http_parser.h"
#include "vmm/http_server.h"

#define HTTP_LISTENERS_MAX 4
/* Status line and headers of an answer. */
#define HTTP_HEAD_MAX 512

/* A member of a ring, or the ring's start. */
struct http_link {
	struct http_link *next, *prev;
};

/*
 * Who is waiting for whom decides which list a connection is in:
 *  READING, SENDING, LINGERING: we for the client; `waiting`, least recent progress first.
 *  CALLED, STREAMING: the client for us; `busy`.
 */
enum http_connection_state {
	HTTP_READING,	/* between requests, or in the middle of one */
	HTTP_CALLED,	/* handle() was called, the answer is not there yet */
	HTTP_SENDING,	/* the answer waits in `out` */
	HTTP_STREAMING, /* an answer without an end; `out` is its backlog */
	HTTP_LINGERING, /* all sent and shut down; what comes in is thrown away until its end */
	HTTP_CLOSED,	/* only memory is left, while somebody uses it */
};

/* What the socket had no room for: what is left of a head, then of a body. */
struct http_output {
	char *head, *body; /* owned */
	size_t head_len, body_len;
	size_t body_room; /* of a stream's backlog */
	size_t sent;	  /* of both */
};

struct http_connection {
	struct loop_source source;
	struct http_server *server; /* holds a reference */
	struct http_link link;
	struct http_call *call; /* NULL: nothing of a request has come */
	struct http_output *out;
	char *buffer; /* what has come: `len` bytes from `start`; one byte more is writable */
	size_t room, start, len;
	uint32_t refs; /* one of the open socket, one of each function that works on it */
	int fd;
	enum http_connection_state state;
	bool serving;	      /* serve() is on the stack and will look at what is left */
	uint64_t close_at_ns; /* READING: no request is expected any more; 0: one may come */
};

/* From the first byte of a request to its answer; its memory serves requests that follow at
 * once. */
struct http_call {
	struct http_connection *connection; /* NULL: the client has gone before the answer */
	bool head;			    /* HEAD: no body */
	bool http10;
	bool keep_alive; /* the client has not said that this is its last request */
	bool goes_on;	 /* what follows the request can be understood */
	bool lingers;	 /* after the answer bytes of this request may still come */
	bool continued;	 /* 100 was sent */
	bool deprecated; /* the answer says so */
	void (*closed)(void *arg);
	void *arg;
	struct http_parser parser;
};

struct http_listener {
	struct loop_source source;
	struct http_server *server;
	int fd;
};

struct http_server {
	struct http_server_config config;
	struct http_listener listeners[HTTP_LISTENERS_MAX];
	uint32_t listener_count;
	struct http_link waiting, busy;
	struct loop_timer retry;    /* until listeners are looked at again */
	struct loop_timer farewell; /* until the first of `waiting` that has a close_at_ns */
	int reserve_fd; /* makes room to refuse a client when there are no descriptors */
	size_t buffered,
		buffered_max; /* bytes of all request buffers; the limit binds large ones */
	uint32_t refs;
	bool destroyed;
	struct http_server_stats stats;
};

/* http_server.c */
void http_server_get(struct http_server *server);
void http_server_put(struct http_server *server);
void http_connection_get(struct http_connection *connection);
void http_connection_put(struct http_connection *connection);
/* The client has had its last answer: leaves the closing to it, for a while. */
void http_server_close_later(struct http_connection *connection);

/* http_connection.c */
int http_connection_open(struct http_server *server, int fd, struct error *e);
/* May call closed() of a stream. Accepts one that is closed. */
void http_connection_close(struct http_connection *connection);
/* Moves it to the end of the state's list; it is wanted again. */
void http_connection_set_state(struct http_connection *connection,
			       enum http_connection_state state);
/* The events to wait for; closes the connection if that fails. */
void http_connection_want(struct http_connection *connection, uint32_t events);
/* The answer has left: goes on with the next request, or ends. */
void http_connection_answered(struct http_connection *connection);

/* Sends on what waits. May close it. */
void http_connection_flush(struct http_connection *connection);

/* Wakes for a client that has gone, and for nothing else. */
#define HTTP_WANT_HANGUP EPOLLERR

/* http_output.c */
/*
 * Sends, and keeps in `out` what does not fit; `body` is malloc'ed and taken over, NULL: none. The
 * connection must have no output yet. False: the client is gone, nothing is kept.
 */
bool http_output_start(struct http_connection *connection, const char *head, size_t head_len,
		       char *body, size_t len);
/* Copies the parts to the end of the backlog, or sends them if there is none. False: the client is
 * gone, memory is short, or there are more than `max` bytes then. */
bool http_output_append(struct http_connection *connection, const struct iovec *parts, int count,
			size_t max);
/* Sends on. False: the client is gone. */
bool http_output_resume(struct http_connection *connection);
void http_output_free(struct http_connection *connection);

/* http_answer.c */
/* Answers what the parser refused, from its fields. */
void http_answer_refused(struct http_call *call);
/* To a socket without a connection, for which there is no room: 503, sent if it can be. */
void http_answer_no_room(const struct http_server *server, int fd);
/* Status line and the headers that every answer has, in `head`; returns the length. */
size_t http_answer_head(char *head, const struct http_server *server, int status, bool keep_alive);

/* http_stream.c */
/* The connection of a stream was closed: tells its owner, frees the call. */
void http_stream_closed(struct http_call *call);

#endif
