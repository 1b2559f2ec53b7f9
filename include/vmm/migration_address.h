/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a migration goes or comes from:
 *
 *	unix:PATH		a socket of this host
 *	tcp:HOST:PORT		HOST is a number: 192.0.2.7, or [2001:db8::7]
 *
 * What goes over TCP to or from elsewhere than this host itself is read and changed by whoever is between: the VM's memory, and what the
 * destination runs. So that is an error unless `insecure` says that it is wanted.
 *
 * Any thread. Errors: ERROR_CONFIG for an address that is none, ERROR_MIGRATION.
 */
#ifndef VMM_MIGRATION_ADDRESS_H
#define VMM_MIGRATION_ADDRESS_H

#include "vmm/error.h"
#include "vmm/syscalls.h"

int migration_address_check(const char *address, bool insecure, struct error *e);
/* A connected stream socket, which does not block; within 10 s. */
int migration_address_connect(const char *address, bool insecure, struct error *e);
/* A listening one, which does not block. A socket file of that name that nobody listens at is replaced. */
int migration_address_listen(const char *address, bool insecure, struct error *e);

/* Of a link (vmm/migration_link.h), and what both sides do with theirs; of connect(); of who accepts. */
extern const struct syscall_list migration_syscalls, migration_connect_syscalls,
	migration_accept_syscalls;

#endif
