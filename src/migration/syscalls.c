/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of both sides of a migration, within the filter of a job. A file of its own because the filter compiler links it
 * without the rest of the room. */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "vmm/migration_address.h"

static const struct syscall_rule rules[] = {
	/* address.c: streams, to where the client says; nothing else is opened. */
	SYSCALL_IF("socket", 1, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK),
	SYSCALL("connect"),
	SYSCALL_IF("setsockopt", 2, TCP_NODELAY),
	SYSCALL_IF("getsockopt", 2, SO_ERROR),
	/* link.c */
	SYSCALL_IF("fcntl", 1, F_SETFL),
	SYSCALL("sendmsg"),
	SYSCALL("recvfrom"),
	SYSCALL_IF("accept4", 3, SOCK_CLOEXEC | SOCK_NONBLOCK),
	SYSCALL("poll"),
	SYSCALL("close"),
	/* migration.c */
	SYSCALL_IF("eventfd2", 1, EFD_CLOEXEC | EFD_NONBLOCK),
	SYSCALL("getrandom"),
	SYSCALL("read"),
	SYSCALL("write"),
	/* How fast it may be. */
	SYSCALL("clock_nanosleep"),
	SYSCALL("clock_gettime"),
	SYSCALL("futex"),
};
const struct syscall_list migration_syscalls = SYSCALL_LIST(rules);
