/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages over a socket: include/vmm/migration_link.h is the contract.
 *
 * The socket does not block; all waiting is poll(2) on it and on wake_fd, with a limit. The peer controls what comes and how slowly: it
 * is heard out for a limit per message, however often it sends a byte of it; who sends nonsense is closed by the caller. Nothing is
 * saved.
 */
#include "vmm/migration_link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"

/* Read at once, and then its checksum computed: that much a processor's cache has. */
#define PIECE KIB(256)

int migration_link_init(struct migration_link *link, int fd, enum handover_role side, int wake_fd,
			uint64_t stall_ns, struct error *e)
{
	*link = (struct migration_link){ .fd = fd, .wake_fd = wake_fd, .stall_ns = stall_ns };
	handover_parser_init(&link->parser, side);
	link->buf = malloc(MIGRATION_LINK_BUFFER);
	if (link->buf == NULL) {
		migration_link_finish(link);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0) {
		int sys = errno;

		migration_link_finish(link);
		return error_set_sys(e, ERROR_MIGRATION, sys, "migration: the connection");
	}
	return 0;
}

void migration_link_finish(struct migration_link *link)
{
	close_fd(&link->fd);
	handover_parser_finish(&link->parser);
	free(take_ptr(link->buf));
}

enum waited { WAITED_READY, WAITED_WAKE, WAITED_TIME, WAITED_ERROR };

int migration_poll_limit(uint64_t until_ns)
{
	uint64_t now = loop_now_ns(), left = until_ns > now ? until_ns - now : 0;

	if (until_ns == UINT64_MAX) {
		return -1;
	}
	return (int)MIN((left + 999999) / 1000000, (uint64_t)1000000);
}

static uint64_t limit_from_now(uint64_t limit_ns)
{
	return limit_ns == UINT64_MAX ? UINT64_MAX : loop_now_ns() + limit_ns;
}

/* What has come is looked at before who wakes: a message that ends a doubt is worth more. */
static enum waited wait_for(const struct migration_link *link, short events, bool wakes,
			    uint64_t until)
{
	for (;;) {
		struct pollfd fds[2] = { { .fd = link->fd, .events = events },
					 { .fd = wakes ? link->wake_fd : -1, .events = POLLIN } };
		int n = poll(fds, 2, migration_poll_limit(until));

		if (n < 0 && errno != EINTR) {
			return WAITED_ERROR;
		}
		if (n > 0 && (fds[0].revents == 0 || (link->wake_first && fds[1].revents != 0))) {
			return WAITED_WAKE;
		}
		if (n > 0 && !(link->wake_first && loop_now_ns() >= until)) {
			return WAITED_READY;
		}
		if (n >= 0 && until != UINT64_MAX && loop_now_ns() >= until) {
			return WAITED_TIME;
		}
	}
}

static int sending_failed(struct migration_link *link, int sys, bool begun, struct error *e)
{
	link->torn |= begun;
	switch (sys) {
	case ECANCELED:
		return error_set(e, ERROR_CANCELLED, ECANCELED, "migration: cancelled");
	case ETIMEDOUT:
		(void)error_set(e, ERROR_MIGRATION, ETIMEDOUT,
				"migration: the other side has taken nothing for %llu s",
				(unsigned long long)(link->stall_ns / 1000000000));
		return error_hint(e, "look at the network between the hosts, and whether the other "
				     "vmm still answers");
	case EPIPE:
	case ECONNRESET:
		return error_set(e, ERROR_MIGRATION, EPIPE,
				 "migration: the other side has closed the connection");
	default:
		return error_set_sys(e, ERROR_MIGRATION, sys, "migration: send");
	}
}

static ssize_t transmit(const struct migration_link *link, const uint8_t *data, size_t len,
			bool more)
{
	return send(link->fd, data, len, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
}

/* `more` follows at once: nothing need be sent before that. */
static int send_all(struct migration_link *link, const uint8_t *data, size_t len, bool more,
		    bool wakes, bool *begun)
{
	while (len != 0) {
		ssize_t n = transmit(link, data, len, more);
		enum waited waited;

		if (n >= 0) {
			*begun |= n > 0;
			data += n;
			len -= (size_t)n;
			continue;
		}
		if (errno == EINTR) {
			continue;
		}
		if (errno != EAGAIN) {
			return errno;
		}
		waited = wait_for(link, POLLOUT, wakes, limit_from_now(link->stall_ns));
		if (waited != WAITED_READY) {
			return waited == WAITED_ERROR  ? EIO
			       : waited == WAITED_WAKE ? ECANCELED
						       : ETIMEDOUT;
		}
	}
	return 0;
}

int migration_link_send(struct migration_link *link, const struct handover_frame *frame, bool wakes,
			struct error *e)
{
	uint8_t header[HANDOVER_HEADER_SIZE];
	bool begun = false;
	int sys;

	if (link->fd < 0 || link->torn) {
		return sending_failed(link, EPIPE, false, e);
	}
	handover_frame_header(header, frame);
	sys = send_all(link, header, sizeof(header), frame->len != 0, wakes, &begun);
	if (sys == 0) {
		sys = send_all(link, frame->payload, frame->len, false, wakes, &begun);
	}
	return sys == 0 ? 0 : sending_failed(link, sys, begun, e);
}

bool migration_link_is_closed(const struct migration_link *link)
{
	struct pollfd fd = { .fd = link->fd, .events = POLLRDHUP };

	return link->fd < 0 ||
	       (poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0);
}

/* So many bytes have come; 0: the peer has closed; negative: -EAGAIN, or broken. */
static ssize_t receive(struct migration_link *link, uint8_t *to, size_t room)
{
	ssize_t n;

	do {
		n = recv(link->fd, to, room, 0);
	} while (n < 0 && errno == EINTR);
	/* A peer that was killed with something unread has closed, too. */
	return n >= 0 ? n : errno == ECONNRESET ? 0 : -errno;
}

/* As receive(). *r: what is known of the message then, as of take_message(). */
static ssize_t read_some(struct migration_link *link, int *r, struct handover_frame *frame,
			 struct error *e)
{
	size_t room;
	uint8_t *to = handover_parser_room(&link->parser, &room);
	ssize_t n;

	*r = 0;
	if (room >= MIGRATION_LINK_BUFFER) {
		n = receive(link, to, MIN(room, PIECE));
		if (n > 0) {
			*r = handover_parser_took(&link->parser, (size_t)n, frame, e);
		}
		return n;
	}
	n = receive(link, link->buf, MIGRATION_LINK_BUFFER);
	if (n > 0) {
		link->used = 0;
		link->have = (size_t)n;
	}
	return n;
}

/* Of what was read. 1: a message; 0: more is needed; negative: nonsense. */
static int take_message(struct migration_link *link, struct handover_frame *frame, struct error *e)
{
	while (link->used < link->have) {
		size_t used = 0;
		int r = handover_parser_take(&link->parser, link->buf + link->used,
					     link->have - link->used, &used, frame, e);

		link->used += used;
		if (r != 0) {
			return r;
		}
	}
	return 0;
}

enum migration_heard migration_link_hear(struct migration_link *link, struct handover_frame *frame,
					 uint64_t limit_ns, struct error *e)
{
	const uint64_t until = limit_from_now(limit_ns);

	if (link->fd < 0) {
		return MIGRATION_HEARD_CLOSED;
	}
	for (;;) {
		int r = take_message(link, frame, e);
		ssize_t n = 1;

		if (r == 0) {
			n = read_some(link, &r, frame, e);
		}
		if (r != 0) {
			return r > 0 ? MIGRATION_HEARD_MESSAGE : MIGRATION_HEARD_NONSENSE;
		}
		if (n == -EAGAIN) {
			static const enum migration_heard answers[] = {
				[WAITED_WAKE] = MIGRATION_HEARD_WAKE,
				[WAITED_TIME] = MIGRATION_HEARD_NOTHING,
				[WAITED_ERROR] = MIGRATION_HEARD_NONSENSE,
			};
			enum waited waited = wait_for(link, POLLIN, true, until);

			if (waited != WAITED_READY) {
				return answers[waited];
			}
		} else if (n == 0) {
			(void)handover_parser_end(&link->parser, e);
			return MIGRATION_HEARD_CLOSED;
		} else if (n < 0) {
			(void)error_set_sys(e, ERROR_MIGRATION, (int)-n, "migration: receive");
			return MIGRATION_HEARD_NONSENSE;
		}
	}
}
