/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that move with a VM, as BLOCKS messages of a hand-over (vmm/handover.h): which clusters the other side still has to get, read
 * from the file in runs, and written to one there.
 *
 * A payload, little-endian:
 *
 *	at	bytes
 *	0	4	disk, by its place among those that move, the same on both sides
 *	4	4	clusters: 1 to MIGRATION_BLOCKS_MAX
 *	8	8	the first one's number: MIGRATION_CLUSTER bytes each, but for the last of a disk
 *	16	4	flags: MIGRATION_BLOCKS_ZERO: they are zero, and nothing follows
 *	20	4	0
 *	24		the bytes
 *
 * A source's disk may be two files, an overlay over a base: what is sent is what the guest sees.
 *
 * A file that the destination has made is zero: of a cluster that is, and that it has not got before, nothing is said.
 *
 * Threads: an object belongs to one at a time. Files are read and written while others use them: what is written to a source's meanwhile has to be noted
 * by who does it, and is wanted again then.
 */
#ifndef VMM_MIGRATION_BLOCKS_H
#define VMM_MIGRATION_BLOCKS_H

#include "vmm/error.h"
#include "vmm/types.h"

#define MIGRATION_CLUSTER	KIB(64)
#define MIGRATION_BLOCKS_HEADER 24
#define MIGRATION_BLOCKS_MAX	16
#define MIGRATION_BLOCKS_ZERO	1U
#define MIGRATION_DISKS_MAX	24

/* All of it is private. */
struct migration_blocks {
	struct migration_disk {
		int fd;
		uint64_t size, words;
		uint64_t *want;	 /* to be sent */
		uint64_t *there; /* not zero on the other side */
		int base;	 /* -1: none */
		uint32_t unit;	 /* of the following */
		uint64_t *above; /* in `fd`, not in the base; NULL: there is none */
	} disks[MIGRATION_DISKS_MAX];
	uint32_t count;
	uint8_t *buf;
	uint64_t sent; /* bytes of clusters, since init */
};

/* Zeroed is one without disks. Accepts a half-made one. Closes. */
void migration_blocks_finish(struct migration_blocks *blocks);

/* The next disk: `size` bytes behind `fd`, which is the object's from now on, in any case. Both sides add the same ones in the same order. */
int migration_blocks_add(struct migration_blocks *blocks, int fd, uint64_t size, struct error *e);

/* The same of a source's disk that has a base, which is the object's, too. `unit`: bytes that are in one of both files, a part of a cluster. */
int migration_blocks_add_layers(struct migration_blocks *blocks, int fd, int base, uint32_t unit,
				uint64_t size, struct error *e);
/* Which units are in the upper file, a bit each: to be said before what was written is sent, after it was noted. NULL: there is one file. */
uint64_t *migration_blocks_above(struct migration_blocks *blocks, uint32_t index);

/* A disk's clusters that are to be sent, a bit each. */
uint64_t *migration_blocks_wanted(struct migration_blocks *blocks, uint32_t index);
/* Wants all of a disk that may be other than zero: what its file system has for it. */
void migration_blocks_want_data(struct migration_blocks *blocks, uint32_t index);
/* Bytes of those of all disks. */
uint64_t migration_blocks_left(const struct migration_blocks *blocks);

/*
 * Sends what is wanted, by send(); none is wanted afterwards. Negative: send()'s, or ERROR_DISK, the host cannot read; what
 * was not sent is still wanted.
 */
int migration_blocks_send(struct migration_blocks *blocks,
			  int (*send)(void *arg, const uint8_t *payload, uint32_t len,
				      struct error *e),
			  void *arg, struct error *e);

/* What a peer has sent, of any content and length. ERROR_MIGRATION: it is no such payload, or of what no disk has; nothing has changed then. ERROR_DISK:
 * the host cannot write. *bytes: how much it was. */
int migration_blocks_store(struct migration_blocks *blocks, const uint8_t *payload, uint32_t len,
			   uint64_t *bytes, struct error *e);
/* What was stored is on stable storage. */
int migration_blocks_sync(const struct migration_blocks *blocks, struct error *e);

#endif
