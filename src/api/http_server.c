/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server as a whole: listeners, the set of connections, and who has to go when there are too
 * many. A connection is in one of two lists (http_internal.h): `busy` waits for us and is never cut
 * for another's sake; `waiting` waits for its client, ordered by its last progress: accepted, first
 * byte of a request, answer, part of an answer that was taken. Bytes of a request after the first
 * are no progress, so a client that drips them in grows old like one that sends nothing. The head
 * of `waiting` makes room for a new connection, in constant time, when there are connections_max,
 * or no descriptor, or no slot in the loop.
 *
 * A listener accepts ACCEPTS_PER_ROUND, then others have their turn. If there is no descriptor, a
 * reserved one is given up for long enough to accept the client and to evict or refuse somebody; if
 * not even that works, listeners are silent for RETRY_NS. To be idle is allowed, without a timer;
 * but who has said that its last request was the last one is cut after close_grace_ns, by one timer
 * for all: `waiting` is in the order of its deadlines, too.
 *
 * Lifetime: the server's memory stays until the last function that works on it or on one of its
 * connections returns, because handle() and closed() may destroy it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "http_internal.h"
#include "vmm/cleanup.h"

#define ACCEPTS_PER_ROUND 16
#define RETRY_NS	  100000000ULL
#define NS_PER_MS	  1000000ULL
/* For all requests that arrive at one time; a largest one always has a chance. */
#define BUFFERED_MAX	MIB(64)
#define BUFFERED_BODIES 4

void http_server_get(struct http_server *server)
{
	server->refs++;
}

void http_server_put(struct http_server *server)
{
	if (--server->refs == 0) {
		free(server);
	}
}

void http_connection_get(struct http_connection *connection)
{
	connection->refs++;
}

void http_connection_put(struct http_connection *connection)
{
	struct http_server *server = connection->server;

	if (--connection->refs == 0) {
		server->buffered -= connection->room;
		free(connection->buffer);
		free(connection);
		http_server_put(server);
	}
}

/* Cuts the connection whose client has made no progress for the longest time. */
static bool evict(struct http_server *server)
{
	struct http_link *oldest = server->waiting.next;

	if (oldest == &server->waiting) {
		return false;
	}
	server->stats.evicted++;
	http_connection_close(container_of(oldest, struct http_connection, link));
	return true;
}

/* Cuts those whose time has come, and waits for the next. */
static void say_farewell(struct loop_timer *timer)
{
	struct http_server *server = container_of(timer, struct http_server, farewell);
	uint64_t now = loop_now_ns();
	struct http_link *at = server->waiting.next;

	while (at != &server->waiting) {
		struct http_connection *connection = container_of(at, struct http_connection, link);

		at = at->next;
		if (connection->close_at_ns > now) {
			loop_timer_set(server->config.loop, timer, connection->close_at_ns - now,
				       say_farewell);
			return;
		}
		if (connection->close_at_ns != 0) {
			http_connection_close(connection);
		}
	}
}

void http_server_close_later(struct http_connection *connection)
{
	struct http_server *server = connection->server;

	connection->close_at_ns = loop_now_ns() + server->config.close_grace_ns;
	if (server->farewell.loop == NULL) {
		loop_timer_set(server->config.loop, &server->farewell,
			       server->config.close_grace_ns, say_farewell);
	}
}

static void refuse_client(const struct http_server *server, int fd)
{
	http_answer_no_room(server, fd);
	(void)close(fd);
}

static void admit(struct http_server *server, int fd)
{
	struct error e;

	if (server->stats.connections >= server->config.connections_max && !evict(server)) {
		refuse_client(server, fd);
		return;
	}
	while (http_connection_open(server, fd, &e) < 0) {
		if (!evict(server)) {
			refuse_client(server, fd);
			return;
		}
	}
}

static void listen_again(struct loop_timer *timer)
{
	struct http_server *server = container_of(timer, struct http_server, retry);

	for (uint32_t i = 0; i < server->listener_count; i++) {
		if (loop_source_modify(&server->listeners[i].source, EPOLLIN) < 0) {
			loop_timer_set(server->config.loop, timer, RETRY_NS, listen_again);
		}
	}
}

static void pause_listeners(struct http_server *server)
{
	for (uint32_t i = 0; i < server->listener_count; i++) {
		(void)loop_source_modify(&server->listeners[i].source, 0);
	}
	loop_timer_set(server->config.loop, &server->retry, RETRY_NS, listen_again);
}

static int accept_client(const struct http_listener *listener)
{
	int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	return fd >= 0 ? fd : -errno;
}

static void take_reserve(struct http_server *server)
{
	if (server->reserve_fd < 0) {
		server->reserve_fd = fcntl(server->listeners[0].fd, F_DUPFD_CLOEXEC, 0);
	}
}

/*
 * accept() found no descriptor, which it looks for before it looks for a client. The reserve tells
 * whether there is one. Returns as accept_client().
 */
static int accept_without_descriptors(struct http_listener *listener)
{
	struct http_server *server = listener->server;
	int fd;

	close_fd(&server->reserve_fd);
	fd = accept_client(listener);
	if (fd >= 0) {
		if (evict(server)) {
			take_reserve(server);
			admit(server, fd);
		} else {
			refuse_client(server, fd);
		}
	} else if (fd != -EAGAIN && evict(server)) {
		fd = -EINTR; /* the reserve had been lost, and is there again */
	}
	take_reserve(server);
	return fd;
}

/* After accept() failed with `r`. False: no more clients now. */
static bool recover(struct http_listener *listener, int r)
{
	if (r == -EMFILE || r == -ENFILE) {
		r = accept_without_descriptors(listener);
	}
	if (r >= 0 || r == -EINTR || r == -ECONNABORTED) {
		return true;
	}
	if (r != -EAGAIN) {
		pause_listeners(listener->server);
	}
	return false;
}

static void listener_ready(struct loop_source *source, uint32_t events)
{
	struct http_listener *listener = container_of(source, struct http_listener, source);
	struct http_server *server = listener->server;

	(void)events;
	http_server_get(server);
	for (int i = 0; i < ACCEPTS_PER_ROUND && !server->destroyed; i++) {
		int fd = accept_client(listener);

		if (fd >= 0) {
			admit(server, fd);
		} else if (!recover(listener, fd)) {
			break;
		}
	}
	http_server_put(server);
}

int http_server_create(struct http_server **ret, const struct http_server_config *config,
		       struct error *e)
{
	struct http_server *server;

	VMM_BUG_ON(config->loop == NULL || config->handle == NULL || config->connections_max == 0 ||
		   config->name == NULL || config->body_max > GIB(1));
	server = calloc(1, sizeof(*server));
	if (server == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "no memory for the API's server");
	}
	server->config = *config;
	server->waiting.next = server->waiting.prev = &server->waiting;
	server->busy.next = server->busy.prev = &server->busy;
	server->reserve_fd = -1;
	server->refs = 1;
	server->buffered_max = MAX(BUFFERED_MAX, BUFFERED_BODIES * (uint64_t)config->body_max);
	*ret = server;
	return 0;
}

int http_server_listen(struct http_server *server, int fd, struct error *e)
{
	struct http_listener *listener = &server->listeners[server->listener_count];
	int r;

	if (server->listener_count == HTTP_LISTENERS_MAX) {
		(void)close(fd);
		return error_set(e, ERROR_CONFIG, ENOSPC, "API: more than %d listening sockets",
				 HTTP_LISTENERS_MAX);
	}
	r = loop_source_add(server->config.loop, &listener->source, fd, EPOLLIN, listener_ready, e);
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	listener->server = server;
	listener->fd = fd;
	server->listener_count++;
	take_reserve(server);
	return 0;
}

void http_server_unlisten(struct http_server *server)
{
	loop_timer_cancel(&server->retry);
	for (uint32_t i = 0; i < server->listener_count; i++) {
		loop_source_remove(&server->listeners[i].source);
		close_fd(&server->listeners[i].fd);
	}
	server->listener_count = 0;
	close_fd(&server->reserve_fd);
}

void http_server_stats(const struct http_server *server, struct http_server_stats *stats)
{
	*stats = server->stats;
}

static void close_all(struct http_link *list)
{
	while (list->next != list) {
		http_connection_close(container_of(list->next, struct http_connection, link));
	}
}

void http_server_destroy(struct http_server *server)
{
	if (server == NULL || server->destroyed) {
		return;
	}
	server->destroyed = true;
	loop_timer_cancel(&server->retry);
	loop_timer_cancel(&server->farewell);
	http_server_unlisten(server);
	/* A stream that ends may send other connections from one list to the other. */
	while (server->stats.connections != 0) {
		close_all(&server->busy);
		close_all(&server->waiting);
	}
	http_server_put(server);
}

/* --- Flush --- */

struct flush {
	struct pollfd *fds;
	struct http_connection **connections;
	size_t count, room;
};

static void collect(struct flush *flush, struct http_link *list)
{
	for (struct http_link *at = list->next; at != list; at = at->next) {
		struct http_connection *connection = container_of(at, struct http_connection, link);

		if (connection->out != NULL && flush->count < flush->room) {
			flush->fds[flush->count] =
				(struct pollfd){ .fd = connection->fd, .events = POLLOUT };
			flush->connections[flush->count++] = connection;
			http_connection_get(connection);
		}
	}
}

/* Sends what the clients have room for. False: nothing is left, or nobody reads in time. */
static bool flush_round(struct http_server *server, struct flush *flush, int timeout_ms)
{
	int r = 0;

	flush->count = 0;
	collect(flush, &server->busy);
	collect(flush, &server->waiting);
	if (flush->count != 0) {
		r = poll(flush->fds, flush->count, timeout_ms);
	}
	for (size_t i = 0; i < flush->count; i++) {
		struct http_connection *connection = flush->connections[i];

		if (r > 0 && flush->fds[i].revents != 0) {
			http_connection_flush(connection);
		}
		http_connection_put(connection);
	}
	return flush->count != 0 && (r > 0 || (r < 0 && errno == EINTR));
}

void http_server_flush(struct http_server *server, int timeout_ms)
{
	uint64_t now = loop_now_ns(),
		 deadline = now + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * NS_PER_MS;
	struct flush flush = { .room = server->stats.connections };
	bool more = true;

	if (flush.room == 0) {
		return;
	}
	flush.fds = calloc(flush.room, sizeof(*flush.fds));
	flush.connections = calloc(flush.room, sizeof(struct http_connection *));
	http_server_get(server);
	while (more && flush.fds != NULL && flush.connections != NULL) {
		uint64_t left_ms =
			now < deadline ? (deadline - now + NS_PER_MS - 1) / NS_PER_MS : 0;

		more = flush_round(server, &flush, (int)MIN(left_ms, (uint64_t)INT_MAX)) &&
		       now < deadline;
		now = loop_now_ns();
	}
	http_server_put(server);
	free(flush.fds);
	free((void *)flush.connections);
}
