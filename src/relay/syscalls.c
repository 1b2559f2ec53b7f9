/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of a pump. A file of its own because the filter compiler links it without the rest of the room. */
#include <sys/mman.h>

#include "vmm/relay.h"

static const struct syscall_rule rules[] = {
	/* Of connected sockets, which need no address. */
	SYSCALL_IF("sendto", 4, 0),
	SYSCALL_IF("recvfrom", 4, 0),
	SYSCALL("shutdown"),
	SYSCALL("read"),
	SYSCALL("write"),
	SYSCALL("poll"),
	SYSCALL("close"),
	/* Its buffers. */
	SYSCALL("brk"),
	SYSCALL_IF_MASKED("mmap", 2, PROT_EXEC, 0),
	SYSCALL("munmap"),
};
const struct syscall_list relay_syscalls = SYSCALL_LIST(rules);
