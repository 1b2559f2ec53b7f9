/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Upgrade in place: what a migration is besides, when both of its sides are processes of one host and the destination takes over the
 * name and the place of the source (docs/migration.md). Private to src/instance; migrate.c and receive.c are the two sides.
 *
 * Ahead of the first message the source passes descriptors (vmm/migration_descriptors.h), by name:
 *
 *	token		who has read it runs
 *	memfd:N, hugetlb:N	region N of guest memory; none: memory is sent, as in any migration
 *	tap:ID, fd:ID	what a network card is connected to, of the card whose id that is
 *	lock, api, ...	the VM's place (enum instance_place)
 *
 * The destination has no part of the guest's memory before it loads, which is when the source has stopped; it touches nothing of the
 * place, and no card, before it has the token. From the moment in which either side has sent or got PREPARE neither runs without that.
 */
#ifndef VMM_INSTANCE_UPGRADE_H
#define VMM_INSTANCE_UPGRADE_H

#include "asking.h"
#include "internal.h"
#include "vmm/migration_descriptors.h"

struct upgrade {
	struct instance *instance;
	struct migration_descriptors list;
	char address[64];	/* the source: where the other one listens */
	_Atomic int token;	/* owned; -1: not there yet */
	bool ours;		/* we have the token */
	bool passes;		/* memory is passed, not sent */
	struct net_fd *net_fds; /* the destination: cards that are descriptors */
	struct migration_question question;
	uint64_t decisions;
};

/* --- the source --- */

/* Main: what is passed, and that it can be. ERROR_NOT_SUPPORTED says what cannot. */
int upgrade_create(struct upgrade **ret, struct instance *instance,
		   const struct migrate_request *request, struct error *e);
/* The job's thread: a connection to the other process, by which all has been passed. */
int upgrade_connect(struct upgrade *upgrade, uint64_t silence_ns, struct error *e);

/* --- the destination --- */

/* Within the filter of who receives: from a connection that has just been accepted. */
int upgrade_hear(struct upgrade **ret, struct instance *instance, int fd, uint64_t silence_ns,
		 struct error *e);
/* Cards that have no other name than a descriptor, for saved_config_read(); then those of taps, which the configuration owns. */
int upgrade_name_nets(struct upgrade *upgrade, struct snapshot_load_request *request,
		      struct error *e);
void upgrade_connect_nets(struct upgrade *upgrade, struct vm_config *vm);
/* Outside of a filter: the disks are those that the other process has open. */
int upgrade_check_disks(const struct vm_config *vm, struct error *e);
/* The machine thread, by VM_MEMORY: the source has stopped, and its memory is ours. */
int upgrade_adopt(void *arg, struct guest_memory *mem, struct error *e);
/* Main: it runs here. */
void upgrade_take_place(struct upgrade *upgrade);

/* --- both --- */

/* HANDOVER_RUN of the job's thread: with the token, and not without (-EBUSY: the other side runs, or has run). `upgrade` NULL: it is none, and
 * needs none. `resume`: the VM was not paused before. */
int upgrade_go_on(struct upgrade *upgrade, struct asking *asking, bool resume, struct error *e);
/* HANDOVER_RELEASE_LOCKS of the source. NULL as above. */
int upgrade_release_disks(const struct upgrade *upgrade, struct asking *asking, struct error *e);
/* Main: the VM ends here, by somebody's wish, and is not to go on there. Accepts NULL. */
void upgrade_end(struct upgrade *upgrade);
/* In act(), in doubt or blocked: nobody has to decide, since the token says whose it is. False: but somebody has, because the VM's disks
 * are in use by a third process; or `upgrade` is NULL. */
bool upgrade_decide(struct upgrade *upgrade, struct migration *m);
/* Accepts NULL. */
void upgrade_destroy(struct upgrade *upgrade);

#endif
