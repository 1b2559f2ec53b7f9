/* SPDX-License-Identifier: Apache-2.0 */
/* What the TLS library calls once its files are read, and threads that come and go. A file of its own because the filter compiler
 * links it without the rest of the room. */
#include <sys/mman.h>

#include "vmm/tls_syscalls.h"

static const struct syscall_rule rules[] = {
	SYSCALL("getrandom"),
	SYSCALL("clock_gettime"),
	SYSCALL("getpid"),
	SYSCALL("futex"),
	SYSCALL_IF_MASKED("mmap", 2, PROT_EXEC, 0),
	SYSCALL_IF_MASKED("mprotect", 2, PROT_EXEC, 0),
	SYSCALL("munmap"),
	SYSCALL("mremap"),
	SYSCALL("madvise"),
	SYSCALL("brk"),
};
const struct syscall_list tls_syscalls = SYSCALL_LIST(rules);
