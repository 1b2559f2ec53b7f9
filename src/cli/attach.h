/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A user at the console of a VM in another process: bytes between standard input and output and the
 * console's socket, escape commands, window size, signals. `vmm console` fills in what commands do.
 *
 * One thread, blocking in poll(2) only: a standard output that takes nothing stops reading from the
 * socket, and what the VM says meanwhile waits there; escape commands work all the time. The flags
 * of the descriptors that the shell shares stay as they are.
 */
#ifndef VMM_SRC_CLI_ATTACH_H
#define VMM_SRC_CLI_ATTACH_H

#include "escape.h"
#include "terminal.h"
#include "vmm/error.h"

/* Without any output for so long after the start, silent() is called. */
#define ATTACH_SILENCE_MS 1000

enum attach_end {
	ATTACH_CLOSED,	 /* by the VM */
	ATTACH_DETACHED, /* by the user, or the terminal has gone */
	ATTACH_SIGNALLED,
	ATTACH_OUTPUT_GONE, /* nobody reads standard output */
};

struct attach {
	int socket_fd;		   /* borrowed; stays blocking */
	struct terminal *terminal; /* borrowed; raw already if `present` */
	struct escape escape;	   /* only `key` is the caller's */
	void *owner;
	void (*command)(struct attach *attach, enum escape_command command);
	/* The window has this size, now and after each change. Only with a terminal. */
	void (*resized)(struct attach *attach, unsigned short columns, unsigned short rows);
	/* Only with a terminal. */
	void (*silent)(struct attach *attach);

	/* How it ended. */
	int signal;

	/* Private. */
	int signal_fd;
	bool input_ended, input_told, output_ended, detached, output_gone;
	bool heard;			/* there was output, or silent() was called */
	uint64_t silence_ns, escape_ns; /* times on the loop's clock */
	uint8_t to_guest[4096], to_user[16384];
	size_t to_guest_start, to_guest_len, to_user_start, to_user_len;
};

int attach_run(struct attach *attach, enum attach_end *end, struct error *e);

#endif
