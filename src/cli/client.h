/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of a VM's API: HTTP/1.1 over a Unix socket, one request at a time, waiting for the
 * answer. The server is another process: nothing it sends is trusted to end, to fit or to be well
 * formed. An answer's head is at most CLIENT_HEAD_MAX bytes, its body CLIENT_BODY_MAX.
 *
 * A connection may carry several requests. After an error it is of no further use; close it.
 */
#ifndef VMM_SRC_CLI_CLIENT_H
#define VMM_SRC_CLI_CLIENT_H

#include "vmm/error.h"
#include "vmm/json.h"

#define CLIENT_HEAD_MAX	  KIB(64)
#define CLIENT_BODY_MAX	  MIB(16)
#define CLIENT_LINE_MAX	  MIB(1) /* of a stream */
#define CLIENT_TIMEOUT_MS 30000

struct client {
	int fd;
	int timeout_ms; /* for one answer as a whole; -1: none */
	char *buf;	/* what has arrived and was not used yet */
	size_t start, len, room;
};

struct client_reply {
	int status;
	char *body; /* malloc'ed, NUL behind it; never NULL after success */
	size_t len;
};

/*
 * Connects to the VM of that name, or, with `name` NULL, to the socket at a path. ERROR_NOT_FOUND if
 * there is none or it has ended.
 */
int client_connect(struct client *client, const char *name, const char *api_socket, int timeout_ms,
		   struct error *e);
/* As above for a VM whose directory is open. */
int client_connect_at(struct client *client, int dir_fd, int timeout_ms, struct error *e);
/* Accepts one that never was connected: .fd -1. */
void client_close(struct client *client);

/*
 * One request; 0 whatever the status of the answer. -ETIMEDOUT (ERROR_BUSY), -ECONNRESET if the
 * connection ended before the answer, ERROR_HTTP for what is no HTTP.
 */
int client_request(struct client *client, const char *method, const char *path, const char *body,
		   size_t len, struct client_reply *reply, struct error *e);
void client_reply_finish(struct client_reply *reply);
/* What an answer of status 400 and above says, as an error: code, message and hint of the server. */
int client_reply_error(const struct client_reply *reply, const char *method, const char *path,
		       struct error *e);

/*
 * A request with JSON (`body` may be NULL, is not taken over) and an answer in JSON. A refusal is an
 * error with the server's code, message and hint. *ret may be NULL for answers without a body; `ret`
 * NULL: the answer does not matter.
 */
int client_call(struct client *client, const char *method, const char *path, const json_t *body,
		json_t **ret, struct error *e);
/* The same by a connection of its own to the VM whose directory is open. */
int client_call_at(int dir_fd, int timeout_ms, const char *method, const char *path,
		   const json_t *body, json_t **ret, struct error *e);
/*
 * GET of an answer that may go on for ever: each line of it, without its newline, until line() says
 * false or the server ends it. The time limit is for the answer's head alone. A connection that ends
 * without an end of the stream is -ECONNRESET.
 */
int client_stream(struct client *client, const char *path,
		  bool (*line)(void *arg, const char *text, size_t len), void *arg,
		  struct error *e);

#endif
