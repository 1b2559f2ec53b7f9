/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection of a hand-over: messages (vmm/handover_frames.h) over a stream socket that does not block, each with a limit of
 * time, and an eventfd by which another thread ends any waiting.
 *
 * Threads: an object belongs to one at a time. Errors: ERROR_MIGRATION.
 */
#ifndef VMM_MIGRATION_LINK_H
#define VMM_MIGRATION_LINK_H

#include "vmm/handover_frames.h"
#include "vmm/types.h"

/* For headers and short messages; a longer payload is read to where it belongs. */
#define MIGRATION_LINK_BUFFER KIB(16)

/* All of it is private. */
struct migration_link {
	int fd;	     /* -1: closed */
	int wake_fd; /* borrowed */
	uint64_t stall_ns;
	struct handover_parser parser;
	uint8_t *buf;
	size_t used, have; /* of buf */
	/* A message was left in its middle: nothing can be sent any more. */
	bool torn;
	/* Who wakes, and the limit of time, are looked at before what has come: a peer that does not stop talking is in nobody's way. */
	bool wake_first;
};

/*
 * `fd`, a connected stream socket, becomes the link's, in any case. `side`: who hears here. `wake_fd`: an eventfd; as long as it is
 * readable nothing is waited for. `stall_ns`: how long a peer may take nothing of what is sent.
 */
int migration_link_init(struct migration_link *link, int fd, enum handover_role side, int wake_fd,
			uint64_t stall_ns, struct error *e);
/* Closes. Accepts a zeroed one with fd -1. */
void migration_link_finish(struct migration_link *link);

/*
 * A whole message. `wakes`: wake_fd ends it if the peer takes nothing at the moment, -ECANCELED, in its middle perhaps. -ETIMEDOUT: the peer takes nothing;
 * -EPIPE: there is no connection any more, or not one that a message could be sent by; or another negative errno.
 */
int migration_link_send(struct migration_link *link, const struct handover_frame *frame, bool wakes,
			struct error *e);

/* The other side has closed it; what it has said before may still be there to be heard. Does not wait. */
bool migration_link_is_closed(const struct migration_link *link);

enum migration_heard {
	MIGRATION_HEARD_MESSAGE, /* *frame, until the next call */
	MIGRATION_HEARD_CLOSED,	 /* by the peer; `e` says so if that was within a message */
	MIGRATION_HEARD_NOTHING, /* for `limit_ns` */
	MIGRATION_HEARD_WAKE,	 /* wake_fd is readable, and nothing has come before */
	MIGRATION_HEARD_NONSENSE, /* what came is no message, with `e`, or the socket is broken: the end of it */
};
/* `limit_ns` 0: does not wait; UINT64_MAX: for ever. */
enum migration_heard migration_link_hear(struct migration_link *link, struct handover_frame *frame,
					 uint64_t limit_ns, struct error *e);

#endif
