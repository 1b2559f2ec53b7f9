/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that move with a VM that migrates: what the offer says of them, and how the two ends find each other's.
 *
 * The source's are those that the guest writes, each a file or device of its own, or an overlay over a base, of which what the guest sees becomes
 * one file; what the guest writes while they are copied is noted
 * (vmm/block_dirty.h). The destination's are files that it makes, ID.img in a folder that its client has named, and that were not there
 * before; if the VM does not come they are removed.
 *
 * Threads: the job's on the source. On the destination init by main, read by who waits within its filter, make by who makes the VM; then the job's.
 * The other side controls ids and sizes, which are checked before a name is made of them, and what is in the disks.
 */
#ifndef VMM_INSTANCE_MOVING_DISKS_H
#define VMM_INSTANCE_MOVING_DISKS_H

#include "internal.h"
#include "vmm/migration_blocks.h"

struct moving_disks {
	struct vm *vm; /* source */
	int folder;    /* destination: -1: none is taken */
	char *path;    /* of it */
	uint64_t max;  /* destination: bytes of all; 0: no limit of ours */
	char *ids[MIGRATION_DISKS_MAX];
	uint64_t sizes[MIGRATION_DISKS_MAX];
	uint32_t count, made;
	struct migration_blocks blocks;
};

/* Accepts one of zeroes with `folder` -1, and a half-made one. */
void moving_disks_finish(struct moving_disks *disks);

/* --- source --- */

/* All disks of the VM that are written. From now on what the guest writes is noted. */
int moving_disks_begin(struct moving_disks *disks, struct vm *vm, struct error *e);
/* No more. Once for each begin, after which no other thread of this side uses them. */
void moving_disks_end(struct moving_disks *disks);
/* For the offer: ids, in their order. NULL: no memory. */
json_t *moving_disks_to_json(const struct moving_disks *disks);
/* Wants all that they have; what was written since, also at once after that. */
void moving_disks_want_all(struct moving_disks *disks);
void moving_disks_want_written(struct moving_disks *disks);

/* --- destination --- */

/* `path` NULL: disks that move are refused. */
int moving_disks_init(struct moving_disks *disks, const char *path, uint64_t max, struct error *e);
/* What an offer says: a list of ids, or NULL, and the sizes of all disks. Opens nothing. */
int moving_disks_read(struct moving_disks *disks, const json_t *ids, const json_t *sizes,
		      struct error *e);
void moving_disks_forget_offer(struct moving_disks *disks);
/* Overrides of the client and these. ERROR_CONFIG: he has named a file for one that moves. *ret is the caller's. */
int moving_disks_override(const struct moving_disks *disks, const json_t *overrides, json_t **ret,
			  struct error *e);
/* Their files. An error: none of them is there. */
int moving_disks_make(struct moving_disks *disks, struct error *e);
/* Removes what was made. */
void moving_disks_remove(struct moving_disks *disks);

#endif
