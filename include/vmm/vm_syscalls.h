/* SPDX-License-Identifier: Apache-2.0 */
/* System calls of the threads that src/vmm runs, for the filters (vmm/syscalls.h). */
#ifndef VMM_VM_SYSCALLS_H
#define VMM_VM_SYSCALLS_H

#include "vmm/syscalls.h"

/* A vCPU's thread, from its first guest instruction on. */
extern const struct syscall_list vcpu_syscalls;
/* Main: what it does without the machine thread. */
extern const struct syscall_list vm_main_syscalls;
/* The machine thread; with the lists of the roles whose threads it starts, which inherit its filter. */
extern const struct syscall_list vm_machine_syscalls;
/* And what it calls for vCPUs' registers and interrupt controllers of this architecture. */
extern const struct syscall_list arch_machine_syscalls;

#endif
