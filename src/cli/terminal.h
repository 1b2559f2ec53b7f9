/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw mode for the terminal on standard input, and its return on every way out. Two processes watch
 * each other: vmm, and a guardian forked before anything else, that does nothing but wait for vmm's
 * end and then puts the terminal back. So the terminal is sane again after SIGKILL of either.
 */
#ifndef VMM_SRC_CLI_TERMINAL_H
#define VMM_SRC_CLI_TERMINAL_H

#include <sys/types.h>
#include <termios.h>

#include "vmm/error.h"

struct terminal {
	bool raw; /* standard input is a terminal, and ours to restore */
	struct termios saved;
	pid_t guardian;
	int guardian_fd; /* its end of file tells the guardian that we are gone */
};

/* Does nothing unless standard input is a terminal. Before any thread exists. */
int terminal_enter_raw(struct terminal *terminal, struct error *e);
/* Puts the terminal back. Accepts a zeroed object; a second call does nothing. */
void terminal_leave_raw(struct terminal *terminal);
/* The window on standard output or input; false if neither is a terminal. */
bool terminal_window_size(unsigned short *columns, unsigned short *rows);

#endif
