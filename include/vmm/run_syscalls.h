/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that `vmm run` makes on main once the guest runs: terminal, signals, exit report.
 * For the filters. */
#ifndef VMM_RUN_SYSCALLS_H
#define VMM_RUN_SYSCALLS_H

#include "vmm/syscalls.h"

extern const struct syscall_list run_syscalls;
/* Console output, on any thread that a guest writes from: vCPUs (serial port) and the console's
 * worker. */
extern const struct syscall_list run_output_syscalls;

#endif
