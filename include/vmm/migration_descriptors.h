/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between two processes of one host: descriptors that go before a hand-over (vmm/handover.h), and the token by which both know who runs.
 *
 * On the connection, a Unix stream socket, ahead of the source's first message, all numbers little-endian. The destination greets, so that
 * nothing is given to a program that does not know what to do with it:
 *
 *	0	4	"VMMD"
 *	4	2	version
 *	6	2	0
 *
 * and then the source passes them:
 *
 *	at	bytes
 *	0	4	"VMMD"
 *	4	2	version
 *	6	2	how many descriptors, 1 to MIGRATION_DESCRIPTORS_MAX; they come with the first byte (SCM_RIGHTS)
 *	8	4	bytes of what follows
 *	12	4	CRC32C of that
 *	16		their names, each with a newline behind it
 *
 * The token is an eventfd that both sides have, made with one to be read. Who has read it runs, or has run; no side runs without. That is
 * what two processes of one host have that two hosts have not: in doubt either looks whether it can be had, and need not ask anybody
 * (docs/migration.md, "Upgrade in place"). It is gone with who was killed while he had it, as the VM is.
 *
 * Threads: an object belongs to one at a time. Errors: ERROR_MIGRATION, the peer's doing (-EPROTO; -EPROTONOSUPPORT).
 */
#ifndef VMM_MIGRATION_DESCRIPTORS_H
#define VMM_MIGRATION_DESCRIPTORS_H

#include "vmm/error.h"
#include "vmm/syscalls.h"
#include "vmm/types.h"

#define MIGRATION_DESCRIPTORS_VERSION 1
#define MIGRATION_DESCRIPTORS_MAX     64
#define MIGRATION_DESCRIPTOR_NAME     80 /* with the NUL */

struct migration_descriptors {
	uint32_t count;
	bool owned; /* they came from elsewhere, and are closed unless they are taken */
	struct {
		char name[MIGRATION_DESCRIPTOR_NAME];
		int fd; /* -1: taken */
	} all[MIGRATION_DESCRIPTORS_MAX];
};

/* The source: one more, which stays the caller's and open until they are sent. ERROR_NOT_SUPPORTED: there are too many. */
int __attribute__((format(printf, 4, 5)))
migration_descriptors_add(struct migration_descriptors *list, int fd, struct error *e,
			  const char *name, ...);
/* `fd`: a connected socket, which may be one that does not block. `limit_ns`: how long it may take altogether. */
int migration_descriptors_send(const struct migration_descriptors *list, int fd, uint64_t limit_ns,
			       struct error *e);
/* The destination: all of them, or an error, and none. Bytes behind them are not read. */
int migration_descriptors_receive(struct migration_descriptors *list, int fd, uint64_t limit_ns,
				  struct error *e);
/* The one of that name, the caller's from now on if the list owns it; -1: there is none. */
int migration_descriptors_take(struct migration_descriptors *list, const char *name);
/* The name of the next one that begins so, without that; NULL: there is no other. *at is 0 at first. */
const char *migration_descriptors_next(const struct migration_descriptors *list, uint32_t *at,
				       const char *prefix);
/* Accepts a zeroed one. */
void migration_descriptors_finish(struct migration_descriptors *list);

/* An eventfd, or a negative errno. */
int migration_token_make(void);
/* False: somebody has it. */
bool migration_token_take(int token);
/* By who has it, and has not run. */
void migration_token_give_back(int token);

extern const struct syscall_list migration_pass_syscalls;

#endif
