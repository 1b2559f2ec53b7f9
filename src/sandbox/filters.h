/* SPDX-License-Identifier: Apache-2.0 */
/* What compile_filters writes at build time. Private to src/sandbox. */
#ifndef VMM_SRC_SANDBOX_FILTERS_H
#define VMM_SRC_SANDBOX_FILTERS_H

#include <linux/filter.h>

#include "vmm/sandbox.h"

struct sandbox_filter {
	unsigned short length;
	const struct sock_filter *program;
};

extern const struct sandbox_filter sandbox_filters[SANDBOX_ROLES];
/* Names of x86-64 system calls, for the message of a refused one. NULL where there is none. */
#define SANDBOX_SYSCALL_NAMES 512
extern const char *const sandbox_syscall_names[SANDBOX_SYSCALL_NAMES];

#endif
