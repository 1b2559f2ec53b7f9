/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk of two files: a private overlay over a base that is only read. cow.c has what it promises and why; this is what its
 * parts share. Private to src/block and its tests.
 */
#ifndef VMM_BLOCK_COW_H
#define VMM_BLOCK_COW_H

#include <pthread.h>
#include <stdatomic.h>

#include "raw.h"
#include "vmm/disk_witness.h"

/* The overlay's file:
 *
 *	data	bytes of the disk at their own offsets, up to the next block; the rest are holes
 *	states	two bits for each block, 32 blocks in a little-endian word, up to the next page
 *	mark	a page: COW_CLEAN, or anything else
 *	header	a page
 */
#define COW_PAGE	 4096
#define COW_BLOCK_MIN	 KIB(4)
#define COW_BLOCK_MAX	 KIB(64)
#define COW_BLOCKS_MAX	 (UINT64_C(1) << 28) /* 64 MiB of states */
#define COW_MAGIC	 "vmm-cow"	     /* 8 bytes with its NUL */
#define COW_CLEAN	 "is-clean"	     /* 8 bytes */
#define COW_MARK_SIZE	 8
#define COW_VERSION	 1
#define COW_STATE_BITS	 2
#define COW_PER_WORD	 32
#define COW_HEADER_PATH	 1024 /* bytes of a base's name, with NUL */
#define COW_HEADER_FLAGS 1    /* the known ones; 1: the base is a block device */

enum cow_state {
	COW_ABSENT = 0,	 /* the base's content shows */
	COW_FRESH = 1,	 /* in the overlay if the file has data there, for all of the block */
	COW_SETTLED = 2, /* in the overlay; a hole is zeroes */
};

struct cow_header {
	uint32_t block_size;
	struct disk_witness base;
	char path[COW_HEADER_PATH]; /* where the base was; for messages */
};

/* What all workers of one disk share. */
struct cow_disk {
	uint32_t users; /* struct cows */
	uint32_t block_shift;
	uint64_t size; /* bytes of the base, and so of the disk */
	uint64_t blocks;
	uint64_t states_at; /* in the file; where the data ends */
	uint64_t mark_at, header_at;
	bool unsafe;		  /* a crash of the host may cost what it likes */
	struct disk_witness base; /* of the header */

	/* One bit for each block that is in the overlay; only ever set while the disk is ours. Set with
	 * the lock held, after the file has data and state; read by everybody. NULL, as `states`: not
	 * read yet. */
	_Atomic uint64_t *present;

	pthread_mutex_t lock; /* for what follows, and for writes of absent blocks */
	uint64_t *states;     /* as in the file, or about to be written there */
	bool clean;	      /* the file's mark */
	bool begun;	      /* something has been changed since the disk was opened */
	bool sync_owed; /* something has failed: what `states` says may not be in the file, or not stable */
};

static inline uint64_t cow_block_size(const struct cow_disk *disk)
{
	return UINT64_C(1) << disk->block_shift;
}

static inline bool cow_present(const struct cow_disk *disk, uint64_t block)
{
	return (atomic_load_explicit(&disk->present[block / 64], memory_order_acquire) >>
			(block % 64) &
		1) != 0;
}

/* With the lock held. */
void cow_publish(struct cow_disk *disk, uint64_t block);
enum cow_state cow_get_state(const struct cow_disk *disk, uint64_t block);
void cow_set_state(struct cow_disk *disk, uint64_t block, enum cow_state state);
/* The first block from `block` on, before `end`, whose state is one of `states` (1 << state); else `end`. */
uint64_t cow_find(const struct cow_disk *disk, uint64_t block, uint64_t end, uint32_t states);
/* With the lock held, blocking: the states of blocks [first, end) go to the file. */
int cow_put_states(const struct cow_disk *disk, struct raw *overlay, uint64_t first, uint64_t end);
/* With the lock held, blocking: before the first change of states or of absent blocks. The mark is gone, for good, when it
 * returns 0. */
int cow_begin(struct cow_disk *disk, struct raw *overlay);
int cow_sync(struct cow_disk *disk, struct raw *overlay);

/* cow_file.c. `overlay` has been opened and locked; one without content gets a header, and so its base. Errors name both
 * paths. With `lock_later` neither is locked, and nothing is made: cow_disk_read() comes first. */
int cow_disk_open(struct cow_disk **ret, struct raw *overlay, const struct raw *base,
		  const struct block_config *config, struct error *e);
/* Both have just been locked. What another process has made of the overlay meanwhile; header and base are those of the
 * opening. After a failure nothing is known of it. */
int cow_disk_read(struct cow_disk *disk, struct raw *overlay, const struct raw *base,
		  struct error *e);
/* Before the locks are dropped: all is in the file, for whoever opens or reads it next. A failure leaves the disk as it was in
 * use. */
int cow_disk_release(struct cow_disk *disk, struct raw *overlay, struct error *e);
/* One user less; the last one leaves the file so that the next opening has nothing to find out. */
void cow_disk_close(struct cow_disk *disk, struct raw *overlay);

void cow_header_encode(const struct cow_header *header, uint8_t page[COW_PAGE]);
/* Hostile bytes. `path` is the overlay's, for the error. */
int cow_header_decode(struct cow_header *ret, const uint8_t page[COW_PAGE], const char *path,
		      struct error *e);

/* cow.c: a chain of as many as those of `overlay` and `base`, which it takes over, and `disk` with them. */
int cow_create(struct block **ret, struct block *overlay, struct block *base, struct cow_disk *disk,
	       struct error *e);
bool cow_is(const struct block *b); /* accepts NULL */

/* cow_open.c */
int cow_open(struct block **ret, const struct block_config *config, bool running, struct error *e);

#endif
