/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How code declares the system calls that its thread needs. The lists stand next to the code that
 * makes the calls; the filter of a thread role is the union of the lists of everything that runs on
 * it, compiled to BPF when vmm is built (src/sandbox/). Names are those of libseccomp, resolved at
 * build time: a misspelt one fails the build.
 */
#ifndef VMM_SYSCALLS_H
#define VMM_SYSCALLS_H

#include "vmm/types.h"

struct syscall_rule {
	const char *name;
	bool absent;   /* as on a kernel that does not have it: ENOSYS */
	bool checked;  /* compare an argument, else any arguments are allowed */
	uint8_t arg;   /* 0-5 */
	uint64_t mask; /* (argument & mask) == value */
	uint64_t value;
};

#define SYSCALL(name_)          \
	{                       \
		.name = (name_) \
	}
/* For calls that the C library does without where they are missing. */
#define SYSCALL_ABSENT(name_)                   \
	{                                       \
		.name = (name_), .absent = true \
	}
#define SYSCALL_IF(name_, arg_, value_)                                              \
	{                                                                            \
		.name = (name_), .checked = true, .arg = (arg_), .mask = UINT64_MAX, \
		.value = (uint64_t)(value_)                                          \
	}
#define SYSCALL_IF_MASKED(name_, arg_, mask_, value_)                                       \
	{                                                                                   \
		.name = (name_), .checked = true, .arg = (arg_), .mask = (uint64_t)(mask_), \
		.value = (uint64_t)(value_)                                                 \
	}
/* ioctl requests are 32 bits wide for the kernel; the upper half of the register is not compared.
 */
#define SYSCALL_IOCTL(request_) SYSCALL_IF_MASKED("ioctl", 1, 0xffffffffU, (uint32_t)(request_))

struct syscall_list {
	const struct syscall_rule *rules;
	size_t count;
};

#define SYSCALL_LIST(rules_)                                   \
	{                                                      \
		.rules = (rules_), .count = ARRAY_SIZE(rules_) \
	}

#endif
