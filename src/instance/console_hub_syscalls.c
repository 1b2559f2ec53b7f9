// SPDX-License-Identifier: Apache-2.0
/* The system calls of the console hub. A file of its own because the filter compiler links it
 * without the rest. */
#include "vmm/console_hub.h"

#include <linux/falloc.h>
#include <sys/socket.h>

static const struct syscall_rule main_rules[] = {
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
const struct syscall_list console_hub_main_syscalls = SYSCALL_LIST(main_rules);

static const struct syscall_rule output_rules[] = {
	SYSCALL("write"), /* wakes main */
	SYSCALL("futex"),
};
const struct syscall_list console_hub_output_syscalls = SYSCALL_LIST(output_rules);
