/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pump: include/vmm/relay.h is the contract. Each way takes one step after another, a buffer full or a buffer empty, until neither
 * can; then poll(2) waits for what they lack. So a way whose receiver takes nothing reads nothing, and the sender behind it stops, as if
 * both were connected.
 *
 * One thread. The peers control what comes and when.
 */
#include "vmm/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cleanup.h"

/* --- sockets and pipes --------------------------------------------------------------------------- */

static ssize_t result(ssize_t n, short event, short *wants)
{
	*wants = event;
	return n < 0 ? -errno : n;
}

static ssize_t socket_receive(struct relay_stream *stream, void *data, size_t len, short *wants)
{
	return result(recv(stream->in, data, len, MSG_DONTWAIT), POLLIN, wants);
}

static ssize_t socket_send(struct relay_stream *stream, const void *data, size_t len, short *wants)
{
	return result(send(stream->out, data, len, MSG_DONTWAIT | MSG_NOSIGNAL), POLLOUT, wants);
}

static int socket_end(struct relay_stream *stream, short *wants)
{
	(void)wants;
	/* A peer that has gone needs no word. */
	(void)shutdown(stream->out, SHUT_WR);
	return 0;
}

static ssize_t pipe_receive(struct relay_stream *stream, void *data, size_t len, short *wants)
{
	return result(read(stream->in, data, len), POLLIN, wants);
}

static ssize_t pipe_send(struct relay_stream *stream, const void *data, size_t len, short *wants)
{
	return result(write(stream->out, data, len), POLLOUT, wants);
}

static int pipe_end(struct relay_stream *stream, short *wants)
{
	(void)wants;
	close_fd(&stream->out);
	return 0;
}

static const struct relay_stream_ops socket_ops = { socket_receive, socket_send, socket_end };
static const struct relay_stream_ops pipe_ops = { pipe_receive, pipe_send, pipe_end };

void relay_stream_plain(struct relay_stream *stream, int in, int out)
{
	*stream = (struct relay_stream){ .ops = in == out ? &socket_ops : &pipe_ops,
					 .in = in,
					 .out = out };
}

int relay_open_pipe(int fd, int flags, struct error *e)
{
	char path[40];
	struct stat st;
	int again;

	if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "descriptor %d is no pipe", fd);
		return error_hint(e, "standard input and output have to be two pipes, or one "
				     "stream socket");
	}
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_NONBLOCK | O_CLOEXEC);
	return again >= 0 ? again : error_set_sys(e, ERROR_CONFIG, errno, "open '%s'", path);
}

/* --- the pump ------------------------------------------------------------------------------------ */

struct way {
	struct relay_stream *from, *to;
	uint8_t *buf;
	size_t at, len; /* of what was received and is not sent */
	bool ended;	/* `from` has */
	bool over;	/* and `to` has heard that */
	/* What it waits for. */
	int fd;
	short events;
};

static int blocked(struct way *way, int fd, short wants)
{
	way->fd = fd;
	way->events = wants;
	return 0;
}

/* 1: there may be more to do; 0: it has to wait, or is over. */
static int step(struct way *way)
{
	short wants = 0;
	ssize_t n;

	way->fd = -1;
	if (way->over) {
		return 0;
	}
	if (way->at < way->len) {
		n = way->to->ops->send(way->to, way->buf + way->at, way->len - way->at, &wants);
		way->at += n > 0 ? (size_t)n : 0;
	} else if (!way->ended) {
		n = way->from->ops->receive(way->from, way->buf, RELAY_BUFFER, &wants);
		way->at = 0;
		way->len = n > 0 ? (size_t)n : 0;
		way->ended = n == 0;
		if (n == -EAGAIN) {
			return blocked(way, way->from->in, wants);
		}
	} else {
		n = way->to->ops->end(way->to, &wants);
		way->over = n == 0;
	}
	if (n == -EAGAIN) {
		return blocked(way, way->to->out, wants);
	}
	return n >= 0 || n == -EINTR ? 1 : (int)n;
}

/* 0: nothing moves any more. */
static int wait_for(const struct way *a, const struct way *b)
{
	struct pollfd fds[2] = { { .fd = a->fd, .events = a->events },
				 { .fd = b->fd, .events = b->events } };
	int n;

	do {
		n = poll(fds, 2, a->over || b->over ? RELAY_LINGER_MS : -1);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int run(struct way *a, struct way *b)
{
	while (!a->over || !b->over) {
		int here = step(a), there = here < 0 ? 0 : step(b), r = 1;

		if (here < 0 || there < 0) {
			return here < 0 ? here : there;
		}
		if (here == 0 && there == 0 && (!a->over || !b->over)) {
			r = wait_for(a, b);
		}
		if (r <= 0) {
			return r;
		}
	}
	return 0;
}

int relay_pump(struct relay_stream *a, struct relay_stream *b, struct error *e)
{
	auto_free uint8_t *both = malloc(2 * RELAY_BUFFER);
	struct way to = { .from = a, .to = b, .buf = both };
	struct way from = { .from = b, .to = a };
	int r;

	if (both == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "relay: out of memory");
	}
	from.buf = both + RELAY_BUFFER;
	r = run(&to, &from);
	if (r == -EPIPE || r == -ECONNRESET) {
		return error_set(e, ERROR_MIGRATION, -r, "the connection was closed");
	}
	return r < 0 ? error_set_sys(e, ERROR_MIGRATION, -r, "the connection") : 0;
}
