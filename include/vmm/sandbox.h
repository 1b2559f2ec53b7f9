/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox: what the process gives up before the first guest instruction. Process-wide, once
 * everything is opened (sandbox_enter_process): not dumpable, no core files, a handler for refused
 * system calls. Then every thread as its last step before it touches guest data
 * (sandbox_enter_thread): all capabilities dropped, no_new_privs, the filter of its role. Main
 * enters its own before the guest runs.
 *
 * A filter allows the union of the syscall lists (vmm/syscalls.h) of what runs in that role;
 * anything else is SIGSYS: the handler prints role and system call, and the process ends
 * with 125. Filters are BPF programs made at build time.
 */
#ifndef VMM_SANDBOX_H
#define VMM_SANDBOX_H

#include "vmm/error.h"
#include "vmm/types.h"

enum sandbox_mode {
	SANDBOX_ON = 0,
	SANDBOX_LOG, /* a forbidden call is allowed and logged by the kernel's audit: to find out
			what a filter lacks */
	SANDBOX_OFF, /* for debuggers only */
};

enum sandbox_role {
	SANDBOX_ROLE_MAIN,
	SANDBOX_ROLE_MACHINE, /* starts threads of the roles below; they inherit its filter */
	SANDBOX_ROLE_VCPU,
	SANDBOX_ROLE_BLOCK,
	SANDBOX_ROLE_NET,
	SANDBOX_ROLE_CONSOLE,
	SANDBOX_ROLE_ENTROPY,
	SANDBOX_ROLE_JOB,
	SANDBOX_ROLE_PAGER,   /* brings pages of guest memory */
	SANDBOX_ROLE_FREEZER, /* keeps them as they were at one moment */
	SANDBOX_ROLE_RECEIVE, /* waits for a VM that comes from elsewhere, and reads what that is */
	SANDBOX_ROLE_RELAY,   /* carries bytes of a migration between two descriptors */
	SANDBOX_ROLE_TLS,     /* the same with TLS (src/tls) */
	SANDBOX_ROLE_PAGES, /* the further connections of such a VM; brings pages that it has left behind */
	SANDBOX_ROLES,
};

const char *sandbox_role_name(enum sandbox_role role);

/* Main thread; everything that needs a privilege has been opened. */
int sandbox_enter_process(enum sandbox_mode mode, struct error *e);
/* The calling thread, for good. */
int sandbox_enter_thread(enum sandbox_mode mode, enum sandbox_role role, struct error *e);
/*
 * What ends the process after a refused call, when its line is out: `end` is called by a signal
 * handler on the thread that made the call, with false if no filter was it but somebody who sent
 * SIGSYS. NULL, and one that returns: exit code 125.
 */
void sandbox_on_refusal(void (*end)(bool of_a_filter));
/* Has the calling thread a filter? */
bool sandbox_thread_entered(void);

#endif
