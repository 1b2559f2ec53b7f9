/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of the HTTP server on main. A file of its own because the filter compiler links
 * it without the rest of the room. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "vmm/http_server.h"

static const struct syscall_rule rules[] = {
	/* No address is ever given or asked for. */
	SYSCALL_IF("accept4", 3, SOCK_CLOEXEC | SOCK_NONBLOCK),
	SYSCALL_IF("recvfrom", 4, 0),
	SYSCALL_IF("sendto", 4, 0),
	SYSCALL("sendmsg"),
	SYSCALL("shutdown"),
	SYSCALL("close"),
	SYSCALL("epoll_ctl"),
	/* A descriptor kept back for clients that must be refused for want of one. */
	SYSCALL_IF("fcntl", 1, F_DUPFD_CLOEXEC),
	/* The last answers of a process. */
	SYSCALL("poll"),
	SYSCALL("clock_gettime"),
	/* Buffers. */
	SYSCALL("brk"),
	SYSCALL("munmap"),
	SYSCALL("mremap"),
	SYSCALL("madvise"),
	SYSCALL_IF_MASKED("mmap", 2, PROT_EXEC, 0),
};
const struct syscall_list http_server_syscalls = SYSCALL_LIST(rules);
