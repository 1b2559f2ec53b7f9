// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls of vCPU threads, of the machine thread, and of what main does with a VM. A file
 * of its own because the filter compiler links it without the rest of the room.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "vmm/vm_syscalls.h"

/* What O_TMPFILE is besides O_DIRECTORY. */
#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

/* What pthread_create() asks for. */
#define THREAD_FLAGS                                                                        \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND | CLONE_THREAD | \
	 CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

static const struct syscall_rule vcpu_rules[] = {
	SYSCALL_IOCTL(KVM_RUN),
	/* Level lines of the ISA devices. */
	SYSCALL_IOCTL(KVM_IRQ_LINE),
	/* Messages of PCI functions, as the guest writes them, and doorbells in BARs that move. */
	SYSCALL_IOCTL(KVM_SET_GSI_ROUTING),
	SYSCALL_IOCTL(KVM_IOEVENTFD),
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
	/* Input for the ISA devices raises their lines. */
	SYSCALL_IOCTL(KVM_IRQ_LINE),
	/* The heap. */
	SYSCALL_IF_MASKED("mmap", 2, PROT_EXEC, 0),
	SYSCALL_IF_MASKED("mprotect", 2, PROT_EXEC, 0),
	SYSCALL("mremap"),
	SYSCALL("brk"),
};
const struct syscall_list vm_main_syscalls = SYSCALL_LIST(main_rules);

static const struct syscall_rule machine_rules[] = {
	/* Parking and interrupting vCPUs; their registers: arch_machine_syscalls. */
	SYSCALL("tgkill"),
	SYSCALL("getpid"),
	SYSCALL("gettid"),
	SYSCALL_IOCTL(KVM_IRQ_LINE),
	/* A machine reset takes BARs away; a load puts messages and BARs back. */
	SYSCALL_IOCTL(KVM_SET_GSI_ROUTING),
	SYSCALL_IOCTL(KVM_IOEVENTFD),
	/* Which pages the guest writes. */
	SYSCALL_IOCTL(KVM_SET_USER_MEMORY_REGION),
	SYSCALL_IOCTL(KVM_GET_DIRTY_LOG),
	SYSCALL_IOCTL(KVM_CLEAR_DIRTY_LOG),
	SYSCALL_IOCTL(KVM_CHECK_EXTENSION),
	SYSCALL_IOCTL(KVM_ENABLE_CAP),
	/* A device that comes: its interrupts, and the loops of its workers. */
	SYSCALL_IOCTL(KVM_IRQFD),
	SYSCALL("epoll_create1"),
	/* A copy's generation (generation.c). */
	SYSCALL("getrandom"),
	/* Emptying RAM, which nobody outside fills any more, and loading the kernel again. */
	SYSCALL_IOCTL(UFFDIO_UNREGISTER),
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
	/* The end: disks are unlocked and closed (src/block/aio.c), overlays with the time that they had (cow_file.c). */
	SYSCALL_IF("utimensat", 1, 0), /* no path */
	SYSCALL_IF("fcntl", 1, F_OFD_SETLK),
	/* Disks that are given away, or taken back (hold.c), beside what their workers may. */
	SYSCALL_IF("sync_file_range", 3, SYNC_FILE_RANGE_WRITE),
	SYSCALL_IF("fadvise64", 3, POSIX_FADV_DONTNEED),
	SYSCALL("close"),
	SYSCALL("io_destroy"),
	/*
	 * Threads, never a process or a namespace: the flags of clone3 are in memory, where no filter
	 * looks, so there is none, and the C library falls back to clone.
	 */
	SYSCALL_ABSENT("clone3"),
	SYSCALL_IF("clone", 0, THREAD_FLAGS),
	/* What a new thread begins with, as far as its own filter: capabilities can only go. */
	SYSCALL("set_robust_list"),
	SYSCALL("rseq"),
	SYSCALL_IF("prctl", 0, PR_SET_NAME),
	SYSCALL_IF("prctl", 0, PR_CAP_AMBIENT),
	SYSCALL_IF("prctl", 0, PR_SET_NO_NEW_PRIVS),
	SYSCALL("capset"),
	SYSCALL_IF("seccomp", 0, SECCOMP_SET_MODE_FILTER),
};
const struct syscall_list vm_machine_syscalls = SYSCALL_LIST(machine_rules);
