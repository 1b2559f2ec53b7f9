/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What signals mean to the process around a VM, as a table: under the name vmm, and under the name
 * `firecracker`, whose users expect what that program does.
 *
 * One that was ignored when the process began (nohup, a background job of a script) stays ignored.
 * All others that would end a process are blocked and read from a descriptor, so that none ends a
 * VM without a line and a report. Faults (SIGSEGV, ...) are crash.h's; job control stays the
 * kernel's.
 */
#ifndef VMM_SRC_CLI_SIGNALS_H
#define VMM_SRC_CLI_SIGNALS_H

#include "vmm/error.h"
#include "vmm/types.h"

enum signal_meaning {
	SIGNAL_NOTHING, /* is said, and that is all */
	SIGNAL_ASK,	/* the power button first; a second one stops */
	SIGNAL_STOP,	/* at once */
	SIGNAL_REOPEN,	/* log files are opened anew */
	SIGNAL_WINDOW,	/* the terminal has another size */
};
enum signal_meaning signal_meaning(int number, bool firecracker);
/* "SIGTERM"; "signal 40" in `buf`, of at least SIGNAL_NAME_SIZE bytes, for what has no name here. */
#define SIGNAL_NAME_SIZE 16
const char *signal_name(int number, char *buf);

/* Main, before any thread exists: all inherit the mask. *ret is a signalfd. */
int signals_watch(bool firecracker, int *ret, struct error *e);

/*
 * How a process that was called firecracker ends after a signal, when all is cleaned up: with the
 * exit code that its parent knows, or, if there is none (-1), by the signal itself.
 */
int signal_firecracker_code(int number);
/* Does not return if the signal's disposition is to end the process. Within main's filter. */
void signal_die(int number);

#endif
