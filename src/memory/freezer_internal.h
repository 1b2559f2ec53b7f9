/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A freezer, for the files that it is made of: freezer.c (states of chunks, the thread), freezer_protect.c (what it asks of the kernel),
 * freezer_queue.c (what it shares with the taker).
 */
#ifndef VMM_MEMORY_FREEZER_INTERNAL_H
#define VMM_MEMORY_FREEZER_INTERNAL_H

#include "freezer_queue.h"
#include "vmm/worker.h"

/* Chunks that are protected, or let go, at a time. */
#define FREEZER_PIECE 16U

enum freezer_state { BARE = 0, ARMED, WRITTEN, GONE };

struct frozen_region {
	struct guest_region *region; /* NULL: there is none */
	uint32_t count;		     /* chunks */
	uint8_t *states;
	uint64_t *touched; /* a bit for each page */
	uint64_t *due; /* a bit for each chunk that is to be saved; as it stands since the moment */
	bool registered;
};

struct freezer {
	struct guest_memory *mem;
	int fd, pagemap_fd;
	struct worker worker;
	bool has_thread;
	struct loop_source faults;
	struct loop_post more;
	_Atomic bool posted;

	/* Held by its thread while it does something, and by who freezes. It and what follows: */
	pthread_mutex_t lock;
	struct frozen_region regions[GUEST_MEMORY_REGIONS_MAX];
	uint32_t region, chunk; /* where to go on arming, or copying */
	uint32_t warm;		/* slots that are there */
	bool soon;
	bool arming, frozen, over;
	uint64_t *const *wanted;

	uint64_t total; /* chunks of all regions */
	struct freezer_queue queue;
};

/* --- freezer_protect.c; under the lock --- */

/* Bytes of `n` chunks from `first` on. */
uint64_t freezer_length(const struct frozen_region *r, uint32_t first, uint32_t n);
/* Or lifts it, which wakes whoever waits. 0 or a negative errno. */
int freezer_protect(const struct freezer *f, const struct frozen_region *r, uint32_t first,
		    uint32_t n, bool on);
/* Nothing of the region is protected, nor will be. */
void freezer_unregister(const struct freezer *f, struct frozen_region *r);

#endif
