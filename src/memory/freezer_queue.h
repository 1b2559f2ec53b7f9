/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a freezer's thread and its taker share: copies of chunks that wait, the memory that they are in, and what has come of it all. Everything
 * is under one lock, which is held for some instructions, or by who waits for news. Any thread.
 */
#ifndef VMM_MEMORY_FREEZER_QUEUE_H
#define VMM_MEMORY_FREEZER_QUEUE_H

#include <pthread.h>

#include "vmm/freezer.h"

/* Copies of what nobody has written that wait at a time: one is being written meanwhile, and the next is there when it has been. */
#define FREEZER_AHEAD 2U
/*
 * Slots whose pages are there before the moment: of these, of the one that is being written, and one for a write that waits, which
 * would wait for the host to clear 2 MiB as well. The moment waits for them all; of a freezer that is to be soon for one, and the others
 * are made behind it, before anything is copied that nobody waits for.
 */
#define FREEZER_WARM	  (FREEZER_AHEAD + 2U)
#define FREEZER_WARM_SOON 1U
/* Slots whose pages stay when they have been taken: of writes that come thick and fast. */
#define FREEZER_KEPT 16U
/* Of a chunk of which nothing was copied. */
#define FREEZER_NO_SLOT UINT32_MAX

struct freezer_place {
	uint32_t index, chunk;
};

struct freezer_queue {
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool armed, ended, failed;
	struct error failure;
	uint64_t bytes; /* of what is in use */
	uint64_t total; /* chunks */
	struct freezer_chunk
		*list; /* twice as many, begun in the middle; each is put once, at either end */
	uint64_t head, tail;
	struct freezer_place
		*hurried; /* that are still to be copied: [hurried_next, hurried_count) */
	uint64_t hurried_next, hurried_count;
	uint8_t *slots;			/* address space for as many copies */
	uint32_t *unused, unused_count; /* slots that were used before */
	uint32_t used;
};

/* Whole, or finished: freezer_queue_finish() is right in any case. */
int freezer_queue_init(struct freezer_queue *queue, uint64_t total, struct error *e);
void freezer_queue_finish(struct freezer_queue *queue);
uint8_t *freezer_queue_slot(const struct freezer_queue *queue, uint32_t slot);
uint32_t freezer_queue_take_slot(struct freezer_queue *queue);
/* Slots from this one on were never taken. */
uint32_t freezer_queue_used(struct freezer_queue *queue);
/* In front of all others, or behind. */
void freezer_queue_put(struct freezer_queue *queue, const struct freezer_chunk *chunk, bool first);
/* Of a chunk that is wanted soon and still to be copied; false: there is none. */
bool freezer_queue_next_hurried(struct freezer_queue *queue, uint32_t *index, uint32_t *chunk);
/* If it waits here. */
void freezer_queue_to_front(struct freezer_queue *queue, uint32_t index, uint64_t offset);
/* FREEZER_AHEAD are waiting. */
bool freezer_queue_is_long(struct freezer_queue *queue);
void freezer_queue_add_bytes(struct freezer_queue *queue, uint64_t bytes);
/* For those who wait. The first failure stays. */
void freezer_queue_armed(struct freezer_queue *queue);
void freezer_queue_ended(struct freezer_queue *queue);
void freezer_queue_failed(struct freezer_queue *queue, const struct error *why);

/* 0, or the failure. */
int freezer_queue_check(struct freezer_queue *queue, struct error *e);
/* 1: armed; 0: not yet, after some time; or the failure. */
int freezer_queue_await_armed(struct freezer_queue *queue, struct error *e);
/* As freezer_take(). */
int freezer_queue_take(struct freezer_queue *queue, struct freezer_chunk *chunk, struct error *e);
/* As freezer_hurry(), of one that is due. */
void freezer_queue_hurry(struct freezer_queue *queue, uint32_t index, uint32_t chunk);
/* FREEZER_NO_SLOT: nothing is. */
void freezer_queue_give_back(struct freezer_queue *queue, uint32_t slot);

#endif
