/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw mode for the terminal on standard input, and its return on every way out. Two processes watch
 * each other: vmm, and a guardian forked before any thread exists, that does nothing but wait for
 * vmm's end and then puts the terminal back. So the terminal is sane again after SIGKILL of either.
 */
#ifndef VMM_SRC_CLI_TERMINAL_H
#define VMM_SRC_CLI_TERMINAL_H

#include <sys/types.h>
#include <termios.h>

#include "vmm/error.h"

struct terminal {
	bool present; /* standard input is a terminal */
	bool raw;     /* and ours to restore */
	struct termios saved;
	pid_t guardian;
	int guardian_fd; /* its end of file tells the guardian that we are gone */
};

/* Notes the settings of the terminal, if standard input is one. */
void terminal_init(struct terminal *terminal);
/*
 * Starts the guardian, if there is a terminal and it is not there yet: before raw mode and before
 * any thread, and as early as possible: a small process forks in half the time.
 */
int terminal_guard(struct terminal *terminal, struct error *e);
/* Does nothing unless standard input is a terminal. */
int terminal_enter_raw(struct terminal *terminal, struct error *e);
/* As it is for commands that listen to single keys: they come at once and are not shown; signals and
 * output are as before. Does nothing unless standard input is a terminal. */
int terminal_enter_keys(struct terminal *terminal, struct error *e);
/* Puts the terminal back for a while; the guardian stays. */
void terminal_leave_raw(struct terminal *terminal);
/* Puts the terminal back and lets the guardian go. Accepts a zeroed object; a second call does
 * nothing. */
void terminal_finish(struct terminal *terminal);
/* The window on standard output or input; false if neither is a terminal. */
bool terminal_window_size(unsigned short *columns, unsigned short *rows);

#endif
