/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of src/instance once the VM runs. A file of its own because the filter compiler
 * links it without the rest of the room. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "run_directory_internal.h"
#include "vmm/console_hub.h"
#include "vmm/disk_copy.h"
#include "vmm/disk_witness.h"
#include "vmm/instance_syscalls.h"
#include "vmm/notify.h"
#include "vmm/run_directory.h"
#include "vmm/snapshot.h"

static const struct syscall_rule main_rules[] = {
	/* The metrics file, figures of the process (/proc/self/statm), times of events. */
	SYSCALL("writev"),
	/* output_reopen(): their files have been renamed. */
	SYSCALL_IF("openat", 2, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY),
	SYSCALL("fstat"),
	SYSCALL("dup3"),
	SYSCALL("pread64"),
	SYSCALL("clock_gettime"),
	SYSCALL("getpid"),
	/* What a snapshot says of its host. */
	SYSCALL("uname"),
	SYSCALL("getcwd"),
	/* Text and JSON come and go on the heap. */
	SYSCALL("brk"),
	SYSCALL("munmap"),
	SYSCALL("mremap"),
	SYSCALL("madvise"),
	/* Locks, joining threads; the end. */
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

/* A snapshot's: files that are made, and nothing opened that is not one of a snapshot. */
static const struct syscall_rule snapshot_rules[] = {
	SNAPSHOT_OPEN_SYSCALL_RULES,
	SNAPSHOT_WRITE_SYSCALL_RULES,
	DISK_WITNESS_SYSCALL_RULES,
	DISK_COPY_SYSCALL_RULES,
	SYSCALL("futex"),
};
const struct syscall_list snapshot_job_syscalls = SYSCALL_LIST(snapshot_rules);

/* A restore that reads memory when it is touched. */
static const struct syscall_rule pager_rules[] = { SNAPSHOT_LAZY_SYSCALL_RULES };
const struct syscall_list snapshot_pager_syscalls = SYSCALL_LIST(pager_rules);

/* --- the console hub --- */

static const struct syscall_rule hub_rules[] = {
	/* Clients: no address is ever given or asked for. */
	SYSCALL_IF("accept4", 3, SOCK_CLOEXEC | SOCK_NONBLOCK),
	SYSCALL_IF("sendto", 4, 0),
	SYSCALL_IF("recvfrom", 4, 0),
	SYSCALL("poll"),
	SYSCALL("close"),
	/* The log. */
	SYSCALL("pwrite64"),
	SYSCALL_IF("fallocate", 1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
	SYSCALL("ftruncate"),
	/* Its loop and its memory. */
	SYSCALL("epoll_ctl"),
	SYSCALL("clock_gettime"),
	SYSCALL("munmap"),
	SYSCALL("write"),
	SYSCALL("futex"),
};
const struct syscall_list console_hub_main_syscalls = SYSCALL_LIST(hub_rules);

static const struct syscall_rule output_rules[] = {
	SYSCALL("write"), /* wakes main */
	SYSCALL("futex"),
};
const struct syscall_list console_hub_output_syscalls = SYSCALL_LIST(output_rules);

/* --- main: run_directory_finish(), socket_release(), notify_send() --- */

static const struct syscall_rule directory_rules[] = {
	SYSCALL("unlinkat"),
	SYSCALL("newfstatat"),
	SYSCALL("fstat"),
	SYSCALL("pread64"),
	SYSCALL("close"),
	/* run_directory_take(), run_directory_listen_on(): of what another process has opened. */
	SYSCALL_IF("listen", 1, RUN_SOCKET_QUEUE),
	SYSCALL("pwrite64"),
	SYSCALL("ftruncate"),
};
const struct syscall_list run_directory_syscalls = SYSCALL_LIST(directory_rules);

static const struct syscall_rule notify_rules[] = {
	SYSCALL_IF("sendto", 4, 0), /* connected */
	SYSCALL("close"),
};
const struct syscall_list notify_syscalls = SYSCALL_LIST(notify_rules);
