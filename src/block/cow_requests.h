/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker of a disk with an overlay has: shared by cow.c, cow_read.c and cow_write.c, which say what they do. */
#ifndef VMM_BLOCK_COW_REQUESTS_H
#define VMM_BLOCK_COW_REQUESTS_H

#include <errno.h>
#include <string.h>

#include "cow.h"

struct cow;

/* --- reads -------------------------------------------------------------------------------------- */

#define COW_SPLITS 32 /* reads in parts at a time; more wait */
#define COW_PARTS  8  /* of one read, under way at a time */
#define COW_IOV	   32 /* entries of a part's list; what does not fit is another part */

struct cow_part {
	struct block_request req;
	struct cow_split *split;
	struct iovec iov[COW_IOV];
};

/* A READ that goes below in parts. */
struct cow_split {
	struct cow *cow;
	struct block_request *outer; /* NULL: free */
	uint64_t at, end;	     /* where the next part begins; the end of the last */
	uint32_t entry;		     /* of the outer list, that `at` is in */
	uint64_t skip;		     /* bytes of it that are before `at` */
	uint32_t under_way;
	int result; /* of the first part that failed */
	struct cow_part parts[COW_PARTS];
};

/* --- writes ------------------------------------------------------------------------------------- */

#define COW_ROUND 32 /* writes of absent blocks that go down together */

struct cow_write;

struct cow_piece {
	struct block_request req;
	struct cow_write *write;
	struct iovec iov; /* of a filling */
};

/* A WRITE, with what fills its first and its last block. */
struct cow_write {
	struct block_request *outer;
	uint64_t first, last; /* blocks */
	struct cow_piece head, data, tail;
	uint32_t under_way; /* pieces */
	int result;
};

/* Neighbouring words of states that have changed. */
struct cow_words {
	struct cow_piece piece;
	uint64_t first, last;
};

struct cow {
	struct block block;
	struct block *overlay, *base; /* raw, of this worker; owned */
	struct cow_disk *disk;	      /* shared */

	struct block_queue waiting; /* reads for which no split is free */
	struct cow_split splits[COW_SPLITS];

	struct block_queue absent, zeroing; /* of the batch that is being committed */
	struct cow_write round[COW_ROUND];
	uint32_t round_count;
	struct cow_words words[COW_ROUND];
	uint32_t words_count;
	uint8_t *filling; /* two blocks for each write of a round */
};

static inline struct cow *cow_of(struct block *b)
{
	return container_of(b, struct cow, block);
}

/* Of an overlay or a base. */
static inline struct raw *cow_raw(struct block *b)
{
	return container_of(b, struct raw, block);
}

static inline bool cow_all_present(const struct cow_disk *disk, uint64_t offset, uint64_t len)
{
	uint64_t last = (offset + len - 1) >> disk->block_shift;

	for (uint64_t block = offset >> disk->block_shift; block <= last; block++) {
		if (!cow_present(disk, block)) {
			return false;
		}
	}
	return true;
}

/* A request of ours to one of the disks below; committed by whoever commits that. */
void cow_start_below(struct cow *cow, struct block *below, struct block_request *req);
/* Completes a request that this disk has carried out itself, a stable one after the next sync of the overlay. */
void cow_finish(struct cow *cow, struct block_request *req, int result);

void cow_read_init(struct cow *cow);
void cow_read(struct cow *cow, struct block_request *req);
/* All of `absent`, and of `zeroing`: blocking, with the disk's lock. */
void cow_write_absent(struct cow *cow);
void cow_zero(struct cow *cow);

#endif
