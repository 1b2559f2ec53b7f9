/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of src/instance once the VM runs. A file of its own because the filter compiler
 * links it without the rest of the room. */
#include <fcntl.h>
#include <sys/mman.h>

#include "vmm/instance_syscalls.h"

static const struct syscall_rule main_rules[] = {
	/* The metrics file, figures of the process (/proc/self/statm), times of events. */
	SYSCALL("writev"),
	SYSCALL_IF("openat", 2, O_RDONLY | O_CLOEXEC),
	/* output_reopen(): their files have been renamed. */
	SYSCALL_IF("openat", 2, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY),
	SYSCALL("fstat"),
	SYSCALL("dup3"),
	SYSCALL("pread64"),
	SYSCALL("clock_gettime"),
	SYSCALL("getpid"),
	/* Text and JSON come and go on the heap. */
	SYSCALL("brk"),
	SYSCALL("munmap"),
	SYSCALL("mremap"),
	SYSCALL("madvise"),
	/* Locks, joining the thread of jobs; the end. */
	SYSCALL("futex"),
	SYSCALL("close"),
};
const struct syscall_list instance_main_syscalls = SYSCALL_LIST(main_rules);

static const struct syscall_rule serial_rules[] = {
	SYSCALL("write"),
	SYSCALL("futex"),
	SYSCALL("clock_gettime"),
};
const struct syscall_list instance_serial_syscalls = SYSCALL_LIST(serial_rules);

static const struct syscall_rule job_rules[] = {
	/* Progress and results are in memory; besides, a job has its heap. */
	SYSCALL("clock_gettime"),
	SYSCALL("brk"),
	SYSCALL_IF_MASKED("mmap", 2, PROT_EXEC, 0),
	SYSCALL_IF_MASKED("mprotect", 2, PROT_EXEC, 0),
	SYSCALL("munmap"),
	SYSCALL("mremap"),
	SYSCALL("madvise"),
};
const struct syscall_list job_syscalls = SYSCALL_LIST(job_rules);
