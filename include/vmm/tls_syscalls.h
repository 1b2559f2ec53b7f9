/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of vmm-tls's threads beside those of relays and addresses, for the filter compiler. */
#ifndef VMM_TLS_SYSCALLS_H
#define VMM_TLS_SYSCALLS_H

#include "vmm/syscalls.h"

extern const struct syscall_list tls_syscalls;

#endif
