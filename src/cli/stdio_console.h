/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard input and output as a guest's console: the host side of struct console_channel
 * (vmm/console.h).
 *
 * Output: the guest's threads write straight to standard output while that takes bytes at once;
 * what it does not take waits in a ring of STDIO_CONSOLE_RING bytes, which main empties; beyond the
 * ring bytes are dropped and counted, and main says so at the end. Input: main reads when the guest
 * has room. From a terminal, the escape prefix Ctrl-] starts a command (escape.h); from anything
 * else every byte goes to the guest.
 *
 * Lock: `lock` guards the ring; nothing is called while it is held but write(2) on a descriptor
 * that does not block.
 */
#ifndef VMM_SRC_CLI_STDIO_CONSOLE_H
#define VMM_SRC_CLI_STDIO_CONSOLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "escape.h"
#include "vmm/console.h"
#include "vmm/error.h"
#include "vmm/loop.h"
#include "vmm/types.h"

#define STDIO_CONSOLE_RING KIB(64)

/* Which of the guest's consoles is meant. */
enum run_console { RUN_CONSOLE_SERIAL = 0, RUN_CONSOLE_HVC };

struct stdio_console {
	struct console_channel channel;
	struct loop *loop; /* borrowed */
	bool escapes;	   /* standard input is a terminal */
	/* Main: gives bytes to the guest's device, returns how many it took. */
	size_t (*deliver)(struct stdio_console *console, const uint8_t *data, size_t len);
	void (*command)(struct stdio_console *console, enum escape_command command);
	/* Main: output that was refused may come now. NULL: nobody asks. */
	void (*writable)(struct stdio_console *console);
	void *owner;

	/* Input; main. */
	struct loop_source input;
	bool input_pollable, input_ended;
	struct escape escape;
	struct loop_timer escape_timer; /* of a prefix alone */
	uint8_t pending[4096];		/* read, not taken by the guest yet */
	size_t pending_start, pending_len;
	struct loop_post resume_post;
	_Atomic bool resume_posted;

	/* Output. */
	pthread_mutex_t lock;
	int output_fd;	    /* non-blocking if `output_own` */
	bool output_own;    /* opened by us anew, so that the flag is ours alone */
	bool output_failed; /* the reader is gone */
	uint8_t *ring;	    /* STDIO_CONSOLE_RING bytes, address space until used */
	size_t ring_start, ring_len;
	bool draining; /* main waits for the descriptor to become writable */
	struct loop_source drain;
	struct loop_post drain_post;
	bool output_refused; /* may_output() said no since the ring was last empty */
	bool drain_posted;
	uint64_t dropped;
};

int stdio_console_init(struct stdio_console *console, struct loop *loop, bool escapes,
		       struct error *e);
/* The guest is there: starts reading. */
int stdio_console_start(struct stdio_console *console, struct error *e);
/* Writes what still waits, for at most a second; no guest thread runs any more. */
void stdio_console_finish(struct stdio_console *console);

#endif
