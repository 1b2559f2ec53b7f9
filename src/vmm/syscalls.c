// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls of vCPU threads and of main's life cycle. A file of its own because the filter
 * compiler links it without the rest of the room.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vmm/vm_syscalls.h"

/* What O_TMPFILE is besides O_DIRECTORY. */
#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

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
	SYSCALL_IOCTL(KVM_GET_REGS),
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
	/*
	 * Another file behind a disk (src/block/open.c, lock.c, uring.c): nothing is created, and
	 * nothing cut by opening it. Rings are made with the disk as their only file, and restricted
	 * before any worker sees them.
	 */
	SYSCALL_IF_MASKED("openat", 2, O_CREAT | O_TRUNC | TMPFILE_BIT, 0),
	SYSCALL("fstatfs"),
	SYSCALL("clock_nanosleep"),
	SYSCALL("eventfd2"),
	SYSCALL_IF("fcntl", 1, F_GETFL),
	SYSCALL_IF("fcntl", 1, F_SETFL),
	SYSCALL_IF("fcntl", 1, F_DUPFD_CLOEXEC),
	SYSCALL_IOCTL(BLKGETSIZE64),
	SYSCALL_IOCTL(BLKSSZGET),
	SYSCALL_IOCTL(BLKPBSZGET),
	SYSCALL("io_uring_setup"),
	SYSCALL_IF("io_uring_register", 1, 2 /* IORING_REGISTER_FILES */),
	SYSCALL_IF("io_uring_register", 1, 4 /* IORING_REGISTER_EVENTFD */),
	SYSCALL_IF("io_uring_register", 1, 11 /* IORING_REGISTER_RESTRICTIONS */),
	/* The end: disks are unlocked and closed. */
	SYSCALL_IF("fcntl", 1, F_OFD_SETLK),
	SYSCALL("close"),
	/* Closing disks (src/block/aio.c). */
	SYSCALL("io_destroy"),
};
const struct syscall_list vm_main_syscalls = SYSCALL_LIST(main_rules);
