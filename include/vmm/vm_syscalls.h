/* SPDX-License-Identifier: Apache-2.0 */
/* System calls of the threads that src/vmm runs, for the filters (vmm/syscalls.h). */
#ifndef VMM_VM_SYSCALLS_H
#define VMM_VM_SYSCALLS_H

#include "vmm/syscalls.h"

/* A vCPU's thread, from its first guest instruction on. */
extern const struct syscall_list vcpu_syscalls;
/* Main: life cycle, machine reset, loading the kernel again. */
extern const struct syscall_list vm_main_syscalls;

#endif
