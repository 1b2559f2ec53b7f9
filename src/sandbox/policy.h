/* SPDX-License-Identifier: Apache-2.0 */
/* Which system call lists make up the filter of each role. Used by the filter compiler and its
 * test, not by vmm itself. */
#ifndef VMM_SRC_SANDBOX_POLICY_H
#define VMM_SRC_SANDBOX_POLICY_H

#include "vmm/sandbox.h"
#include "vmm/syscalls.h"

#define POLICY_LISTS_MAX 20

struct policy {
	const struct syscall_list *lists[POLICY_LISTS_MAX]; /* NULL ends */
};

extern const struct policy sandbox_policies[SANDBOX_ROLES];

#endif
