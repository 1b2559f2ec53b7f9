/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last words of a process that cannot go on: a fault of its own (SIGSEGV, SIGBUS, SIGILL, SIGFPE,
 * SIGABRT), a system call that its filter refused, under the name `firecracker` also SIGXFSZ. One
 * line on standard error, the reports, and the end: by the signal, or with the exit code that
 * Firecracker has for it. A terminal is put back by its guardian (terminal.h).
 */
#ifndef VMM_SRC_CLI_CRASH_H
#define VMM_SRC_CLI_CRASH_H

#include "vmm/types.h"

/* Read by a signal handler on any thread: the owner keeps it until crash_unwatch(), and may change
 * the descriptors. */
struct crash_watch {
	const char *name; /* the VM's; letters that JSON takes as they are */
	bool firecracker;
	volatile int report_fds[2]; /* -1: none */
};

/* A handler that somebody else has put in place (a sanitizer) stays. */
void crash_watch(const struct crash_watch *watch);
/* The handlers stay, and say no more than their line. */
void crash_unwatch(void);

#endif
