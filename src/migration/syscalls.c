/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of a migration's threads, for their filters. A file of its own because the filter compiler links it without the
 * rest of the room. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "vmm/migration_address.h"
#include "vmm/migration_descriptors.h"
#include "vmm/page_service.h"

static const struct syscall_rule rules[] = {
	/* link.c: of connected sockets, which need no address. */
	SYSCALL_IF("fcntl", 1, F_SETFL),
	SYSCALL_IF("sendto", 4, 0),
	SYSCALL_IF("recvfrom", 4, 0),
	SYSCALL("poll"),
	SYSCALL("close"),
	/* blocks.c, and the descriptors that it is given */
	SYSCALL_IF("fcntl", 1, F_DUPFD_CLOEXEC),
	SYSCALL("pread64"),
	SYSCALL("pwrite64"),
	SYSCALL("lseek"),
	SYSCALL("fdatasync"),
	SYSCALL_IF("fallocate", 1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
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

/* Streams, to where the client says. */
static const struct syscall_rule connect_rules[] = {
	SYSCALL_IF("socket", 1, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK),
	SYSCALL("connect"),
	SYSCALL_IF("setsockopt", 2, TCP_NODELAY),
	SYSCALL_IF("getsockopt", 2, SO_ERROR),
};
const struct syscall_list migration_connect_syscalls = SYSCALL_LIST(connect_rules);

static const struct syscall_rule accept_rules[] = {
	SYSCALL_IF("accept4", 3, SOCK_CLOEXEC | SOCK_NONBLOCK),
};
const struct syscall_list migration_accept_syscalls = SYSCALL_LIST(accept_rules);

/* descriptors.c: descriptors go along, and are looked at. */
static const struct syscall_rule pass_rules[] = {
	SYSCALL_IF("sendmsg", 2, MSG_NOSIGNAL),
	SYSCALL_IF("recvmsg", 2, MSG_CMSG_CLOEXEC),
	SYSCALL_IF("fcntl", 1, F_GET_SEALS),
	SYSCALL("fstat"),
};
const struct syscall_list migration_pass_syscalls = SYSCALL_LIST(pass_rules);

/* page_link.c, page_source.c, page_sink.c */
static const struct syscall_rule page_rules[] = {
	SYSCALL("poll"),  SYSCALL("read"),	    SYSCALL("write"),		SYSCALL("close"),
	SYSCALL("futex"), SYSCALL("clock_gettime"), SYSCALL("clock_nanosleep"),
};
const struct syscall_list page_service_syscalls = SYSCALL_LIST(page_rules);
