// SPDX-License-Identifier: Apache-2.0
/* System calls of run_directory_finish(), socket_release() and notify_send() on main. A file of its
 * own because the filter compiler links it without the rest of the room. */
#include <fcntl.h>

#include "vmm/notify.h"
#include "vmm/run_directory.h"

static const struct syscall_rule directory_rules[] = {
	SYSCALL("unlinkat"), SYSCALL("newfstatat"), SYSCALL("fstat"),
	SYSCALL("pread64"),  SYSCALL("close"),
};
const struct syscall_list run_directory_syscalls = SYSCALL_LIST(directory_rules);

static const struct syscall_rule notify_rules[] = {
	SYSCALL_IF("sendto", 4, 0), /* connected */
	SYSCALL("close"),
};
const struct syscall_list notify_syscalls = SYSCALL_LIST(notify_rules);
