/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/1.1 server on Unix stream sockets, in main's loop: connections, requests, answers and
 * event streams. It knows nothing of what is asked; one callback gets each complete request and
 * answers it at once or later.
 *
 * Rules of the wire: RFC 9112 as far as clients of such APIs need it. HTTP/1.0 and 1.1; methods
 * GET, PUT, PATCH, DELETE, POST, HEAD, OPTIONS reach the callback; Content-Length or chunked bodies (both together, or two lengths that differ,
 * are refused); `Expect: 100-continue`; absolute-form targets; pipelined requests are answered in
 * order, one at a time. Lines end in CR LF (a bare LF is accepted between header lines as RFC 9112
 * §2.2 allows; not around chunks). No Host is asked for.
 * Connections stay open, those of HTTP/1.0 too; after `Connection: close` for `close_grace_ns` more,
 * in which further requests are answered. A client that shuts down its sending side sees the end as
 * soon as it has its answers.
 * Limits: request line 8 KiB, all header lines together 16 KiB and 100 of them, body `body_max`.
 *
 * A refused request is answered with its status and a JSON body {"fault_message", "code", "hint"?},
 * and "error" with the same text, which is where clients of Firecracker look for errors of HTTP
 * itself. The connection goes on if the end of the request is known (a body of up to 64 MiB is
 * thrown away), else it is closed after the answer.
 *
 * Memory and time: an idle connection costs no buffer. Buffers grow with what has arrived and are
 * given back with the answer; all large requests that arrive at one time share 64 MiB (or four
 * times `body_max`), beyond which one gets 503. A client that does not read has at most one answer
 * waiting, and its next request is not read before. Nothing blocks; one round of the loop does a
 * bounded piece of work per connection, so that nobody waits for another client.
 *
 * When `connections_max` are open, or there are no descriptors, the connection whose client has
 * made no progress for the longest time makes room for a new one: idle, in the middle of a request
 * (whose first byte counts as progress, the others do not), or not reading its answer. Connections
 * that wait for an answer of ours, and streams, stay; if there are no others, the new one gets 503
 * and is closed. Clients that have closed their socket are noticed by EPOLLHUP; one that has only
 * shut down its sending side still gets its answers.
 */
#ifndef VMM_HTTP_SERVER_H
#define VMM_HTTP_SERVER_H

#include "vmm/error.h"
#include "vmm/loop.h"
#include "vmm/syscalls.h"
#include "vmm/types.h"

enum http_method {
	HTTP_GET,
	HTTP_PUT,
	HTTP_PATCH,
	HTTP_DELETE,
	HTTP_POST,
	HTTP_HEAD,
	HTTP_OPTIONS,
	HTTP_METHODS,
};
const char *http_method_name(enum http_method method);

/* Ten times what the largest object needs; what JSON of this size takes, others wait: some 12 ms. */
#define HTTP_BODY_MAX_DEFAULT MIB(1)
#define HTTP_CONNECTIONS_MAX  1000

struct http_server;
/* One request that waits for its answer. Lives until answered, also if its client has gone. */
struct http_call;

/* Valid during the callback only, also after the answer. */
struct http_request {
	enum http_method method;
	const char *path;  /* starts with '/', percent-decoded; never "" */
	const char *query; /* behind '?', raw; NULL: none */
	const char *body;  /* NUL behind it, not counted; "" if none */
	size_t body_len;
};

struct http_server_config {
	struct loop *loop;	  /* borrowed */
	uint32_t connections_max; /* not 0 */
	size_t body_max;	  /* up to 1 GiB */
	/* How long a client that has asked for the end has time to make it. */
	uint64_t close_grace_ns;
	bool bare_errors; /* without "code" and "hint" */
	const char *name; /* of the header "Server"; a literal, borrowed */
	/* Main thread. Must answer `call` exactly once, now or later. May destroy the server. */
	void (*handle)(void *arg, struct http_call *call, const struct http_request *request);
	void *arg;
};

struct http_server_stats {
	uint64_t requests, refused; /* refused: by the rules of HTTP, never seen by handle() */
	uint64_t accepted, evicted;
	uint32_t connections;
};

int http_server_create(struct http_server **ret, const struct http_server_config *config,
		       struct error *e);
/* A listening, non-blocking Unix socket; owned from here on. At most 4. */
int http_server_listen(struct http_server *server, int fd, struct error *e);
/* Closes all that it listens on, whose names are another's from now on; connections stay. */
void http_server_unlisten(struct http_server *server);
void http_server_stats(const struct http_server *server, struct http_server_stats *stats);
/* Closes everything, calls closed() of streams; calls that were not answered yet may still be
 * answered (into nothing). Accepts NULL. */
void http_server_destroy(struct http_server *server);
/* Waits at most `timeout_ms` for answers on their way to leave, for the end of the process. Calls
 * closed() of streams whose clients have gone. */
void http_server_flush(struct http_server *server, int timeout_ms);

/*
 * The answer. `body` is malloc'ed and taken over, NULL with len 0 for none; `type` is a literal
 * such as "application/json", ignored without a body. 204 and 304 carry no body. HEAD is answered
 * with the length only.
 */
void http_call_reply(struct http_call *call, int status, const char *type, char *body, size_t len);
/* {"fault_message": "...", "code": "...", "hint": "..."} (see bare_errors); `allow` ("GET, PUT") is sent with 405. */
void http_call_reply_error(struct http_call *call, int status, const struct error *e,
			   const char *allow);
/* Before the answer: it will say `Deprecation: true`, whatever it is. */
void http_call_set_deprecated(struct http_call *call);
/* 204 with Allow, for OPTIONS. */
void http_call_reply_allow(struct http_call *call, const char *allow);

/*
 * An answer without an end: chunked (or until close for HTTP/1.0), 200. `closed(arg)` is called
 * once when the client has gone or the server ends, also from within http_call_begin_stream() (for
 * HEAD always, which gets the headers only); the call is then gone, too. A subscriber that has more
 * than HTTP_STREAM_WAITING_MAX bytes waiting is dropped: closed() is called.
 */
#define HTTP_STREAM_WAITING_MAX KIB(256)
void http_call_begin_stream(struct http_call *call, const char *type, void (*closed)(void *arg),
			    void *arg);
/* Copies. May call closed(). */
void http_call_stream(struct http_call *call, const char *data, size_t len);
/* Ends it in order; closed() is not called. */
void http_call_end_stream(struct http_call *call);

/* What main calls for it at run time. */
extern const struct syscall_list http_server_syscalls;

#endif
