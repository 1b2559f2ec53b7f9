/* SPDX-License-Identifier: Apache-2.0 */
/* System calls of src/instance, for the filters (vmm/syscalls.h). */
#ifndef VMM_INSTANCE_SYSCALLS_H
#define VMM_INSTANCE_SYSCALLS_H

#include "vmm/syscalls.h"

/* Main, from the start on: requests, events, figures, the metrics file. */
extern const struct syscall_list instance_main_syscalls;
/* vCPU threads: the serial port's output on its way to a file. */
extern const struct syscall_list instance_serial_syscalls;
/* The thread of jobs, whatever they do; those that write snapshots. */
extern const struct syscall_list job_syscalls, snapshot_job_syscalls;
/* The thread that brings pages of a snapshot when they are touched. */
extern const struct syscall_list snapshot_pager_syscalls;

#endif
