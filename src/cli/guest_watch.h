/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a user should hear of a guest that does not get far: one that says nothing, one that restarts
 * in a loop (boot_guard.h). Main thread, from its loop.
 */
#ifndef VMM_SRC_CLI_GUEST_WATCH_H
#define VMM_SRC_CLI_GUEST_WATCH_H

#include "vm_process.h"

/* The VM runs from now on. */
void guest_watch_begin(struct vm_process *process);
/* For struct instance_host. */
bool guest_watch_may_restart(struct vm_process *process, struct error *why);

#endif
