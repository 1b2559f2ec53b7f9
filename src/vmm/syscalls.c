// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls of vCPU threads and of main's life cycle. A file of its own because the filter
 * compiler links it without the rest of the room.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vmm/vm_syscalls.h"

static const struct syscall_rule vcpu_rules[] = {
	SYSCALL_IOCTL(KVM_RUN),
	SYSCALL_IOCTL(KVM_GET_REGS),
	/* Level lines of the ISA devices. */
	SYSCALL_IOCTL(KVM_IRQ_LINE),
	/* irqfds, posts to main, console output. */
	SYSCALL("write"),
	SYSCALL("futex"),
	SYSCALL("rt_sigreturn"),
	SYSCALL("rt_sigprocmask"),
	SYSCALL("clock_gettime"),
	SYSCALL("restart_syscall"),
	SYSCALL("sched_yield"),
	SYSCALL("madvise"),
	SYSCALL("munmap"),
	SYSCALL("exit"),
	SYSCALL("exit_group"),
};
const struct syscall_list vcpu_syscalls = SYSCALL_LIST(vcpu_rules);

static const struct syscall_rule main_rules[] = {
	/* Parking, resetting and interrupting vCPUs. */
	SYSCALL("tgkill"),
	SYSCALL("getpid"),
	SYSCALL("gettid"),
	SYSCALL_IOCTL(KVM_GET_SREGS),
	SYSCALL_IOCTL(KVM_SET_SREGS),
	SYSCALL_IOCTL(KVM_SET_REGS),
	SYSCALL_IOCTL(KVM_SET_XSAVE),
	SYSCALL_IOCTL(KVM_SET_XCRS),
	SYSCALL_IOCTL(KVM_SET_DEBUGREGS),
	SYSCALL_IOCTL(KVM_SET_LAPIC),
	SYSCALL_IOCTL(KVM_SET_MSRS),
	SYSCALL_IOCTL(KVM_SET_VCPU_EVENTS),
	SYSCALL_IOCTL(KVM_SET_MP_STATE),
	SYSCALL_IOCTL(KVM_SET_IRQCHIP),
	SYSCALL_IOCTL(KVM_SET_PIT2),
	SYSCALL_IOCTL(KVM_KVMCLOCK_CTRL),
	SYSCALL_IOCTL(KVM_IRQ_LINE),
	/* Emptying RAM and loading the kernel again. */
	SYSCALL("fallocate"),
	SYSCALL("pread64"),
	SYSCALL("newfstatat"),
	SYSCALL("fstat"),
	SYSCALL("lseek"),
	SYSCALL_IF_MASKED("mmap", 2, PROT_EXEC, 0),
	SYSCALL_IF_MASKED("mprotect", 2, PROT_EXEC, 0),
	SYSCALL("mremap"),
	SYSCALL("brk"),
	/* The end: disks are unlocked and closed. */
	SYSCALL_IF("fcntl", 1, F_OFD_SETLK),
	SYSCALL("close"),
	/* Closing disks (src/block/aio.c). */
	SYSCALL("io_destroy"),
};
const struct syscall_list vm_main_syscalls = SYSCALL_LIST(main_rules);
