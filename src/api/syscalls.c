// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls of the API on main. A file of its own because the filter compiler links it
 * without the rest of the room. Requests, answers and figures live on the heap, which asks the
 * kernel for what is large: bodies of up to HTTP_BODY_MAX_DEFAULT, the API's description.
 */
#include <sys/mman.h>

#include "vmm/api.h"

static const struct syscall_rule rules[] = {
	SYSCALL("brk"),
	SYSCALL_IF_MASKED("mmap", 2, PROT_EXEC, 0),
	SYSCALL("munmap"),
	SYSCALL("mremap"),
	/* Times of requests and events. */
	SYSCALL("clock_gettime"),
};
const struct syscall_list api_syscalls = SYSCALL_LIST(rules);
