/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes between two streams, both ways, until both have ended: what carries a migration whose sides cannot connect by themselves (a
 * command's or the caller's descriptors, TLS). A stream is a socket, a pair of pipes, or what another file makes of a socket
 * (src/tls); none of them blocks.
 *
 * Threads: a stream and a pump belong to one. Both peers control what comes, how slowly, and when it ends; nothing of it is looked at.
 * At most RELAY_BUFFER bytes are held each way.
 */
#ifndef VMM_RELAY_H
#define VMM_RELAY_H

#include <sys/types.h>

#include "vmm/error.h"
#include "vmm/syscalls.h"
#include "vmm/types.h"

#define RELAY_BUFFER KIB(256)
/* How long nothing may move once one side has said its last: who does not take that in does not answer either. */
#define RELAY_LINGER_MS 30000

struct relay_stream;

/*
 * Negative errno for what ends both ways. -EAGAIN: later, when `in` (of receive) or `out` (of the others) is ready for what
 * `wants` has been set to, POLLIN or POLLOUT.
 */
struct relay_stream_ops {
	/* How many; 0: the peer sends no more. */
	ssize_t (*receive)(struct relay_stream *stream, void *data, size_t len, short *wants);
	ssize_t (*send)(struct relay_stream *stream, const void *data, size_t len, short *wants);
	/* Nothing more is sent, which the peer hears. Called until it is not -EAGAIN. */
	int (*end)(struct relay_stream *stream, short *wants);
};

struct relay_stream {
	const struct relay_stream_ops *ops;
	int in, out; /* the same for a socket; out -1: it has ended */
};

/* Sockets, or pipes that do not block (relay_open_pipe()). They stay the caller's, but that `out` may be closed, and is -1 then. */
void relay_stream_plain(struct relay_stream *stream, int in, int out);
/*
 * The pipe behind a descriptor that others have too, opened once more, so that only this one does not block. `flags`: O_RDONLY or
 * O_WRONLY. ERROR_CONFIG if it is no pipe.
 */
int relay_open_pipe(int fd, int flags, struct error *e);

/* Until both ways have ended, 0; or one has failed: negative, ERROR_MIGRATION. Does not close. */
int relay_pump(struct relay_stream *a, struct relay_stream *b, struct error *e);

/* Of relay_pump() with plain streams. */
extern const struct syscall_list relay_syscalls;

#endif
