/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bits of what was written to a disk: include/vmm/block_dirty.h is the contract.
 *
 * Workers set bits, one thread takes them, all by atomics. The struct is made once and hangs on each block of the chain until the disk is
 * closed; `on` alone says whether anybody wants to know. The guest controls offset and length, which are within the disk by now.
 */
#include "vmm/block_dirty.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "vmm/overflow.h"

struct block_dirty {
	_Atomic bool on;
	uint64_t words;
	_Atomic uint64_t bits[];
};

uint64_t block_dirty_words(const struct block *b)
{
	const uint64_t clusters =
		b->capacity / BLOCK_DIRTY_CLUSTER + (b->capacity % BLOCK_DIRTY_CLUSTER != 0);

	return clusters / 64 + (clusters % 64 != 0);
}

static struct block_dirty *create(const struct block *b)
{
	const uint64_t words = block_dirty_words(b);
	struct block_dirty *dirty = calloc(1, sizeof(*dirty) + words * sizeof(dirty->bits[0]));

	if (dirty != NULL) {
		dirty->words = words;
	}
	return dirty;
}

int block_dirty_start(struct block *b, struct error *e)
{
	struct block_dirty *dirty = atomic_load(&b->dirty);

	if (dirty == NULL) {
		dirty = create(b);
		if (dirty == NULL) {
			return error_set(e, ERROR_NO_MEMORY, ENOMEM,
					 "disk: out of memory for what is written");
		}
		for (struct block *each = b; each != NULL; each = each->more) {
			atomic_store(&each->dirty, dirty);
		}
	}
	for (uint64_t i = 0; i < dirty->words; i++) {
		atomic_store_explicit(&dirty->bits[i], 0, memory_order_relaxed);
	}
	atomic_store(&dirty->on, true);
	return 0;
}

void block_dirty_stop(struct block *b)
{
	struct block_dirty *dirty = atomic_load(&b->dirty);

	if (dirty != NULL) {
		atomic_store(&dirty->on, false);
	}
}

void block_dirty_collect(struct block *b, uint64_t *bits)
{
	struct block_dirty *dirty = atomic_load(&b->dirty);

	for (uint64_t i = 0; dirty != NULL && i < dirty->words; i++) {
		if (atomic_load_explicit(&dirty->bits[i], memory_order_relaxed) != 0) {
			bits[i] |= atomic_exchange(&dirty->bits[i], 0);
		}
	}
}

static bool changes(const struct block_request *req)
{
	return req->op == BLOCK_WRITE || req->op == BLOCK_DISCARD || req->op == BLOCK_WRITE_ZEROES;
}

/* Bits `from` to `to` of a word, both among them. */
static uint64_t mask(uint64_t from, uint64_t to)
{
	return (~0ULL << from) & (~0ULL >> (63 - to));
}

void block_dirty_note(struct block *b, const struct block_request *req)
{
	struct block_dirty *dirty = atomic_load_explicit(&b->dirty, memory_order_acquire);
	uint64_t first, last;

	/* One that was refused as out of the disk's reach comes by here as well. */
	if (dirty == NULL || !atomic_load(&dirty->on) || !changes(req) || req->len == 0 ||
	    !range_within(req->offset, req->len, b->capacity)) {
		return;
	}
	first = req->offset / BLOCK_DIRTY_CLUSTER;
	last = (req->offset + req->len - 1) / BLOCK_DIRTY_CLUSTER;
	for (uint64_t word = first / 64; word <= last / 64; word++) {
		uint64_t from = word == first / 64 ? first % 64 : 0;
		uint64_t to = word == last / 64 ? last % 64 : 63;

		(void)atomic_fetch_or(&dirty->bits[word], mask(from, to));
	}
}

void block_dirty_finish(struct block *b)
{
	free(atomic_exchange(&b->dirty, NULL));
}
