/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pager, for the files that it is made of: pager.c (the descriptor, the thread, a source that is read), pager_arrival.c (a source that somebody
 * else still writes), pager_put.c (pages that are put).
 */
#ifndef VMM_MEMORY_PAGER_INTERNAL_H
#define VMM_MEMORY_PAGER_INTERNAL_H

#include "vmm/pager.h"
#include "vmm/worker.h"

/* What arrives. The pager's thread, after arrival_begin(). */
struct arrival {
	int clock; /* a timer: the next time to look */
	struct loop_source ticks;
	uint64_t wait_ns;	     /* between two looks */
	struct pager_place *waiting; /* chunks that have been asked for and are not here */
	size_t waiting_count, waiting_room;
	uint32_t region; /* whatever is before has arrived, and may be mapped */
	uint64_t chunk;
	bool whole; /* all has: it is being mapped */
};

/* Pages that are put. */
struct putting {
	_Atomic uint64_t *missing[GUEST_MEMORY_REGIONS_MAX]; /* a bit for each page */
	uint64_t *wanted[GUEST_MEMORY_REGIONS_MAX]; /* the same: waited for; the pager's thread */
	_Atomic uint64_t left;			    /* bits of `missing` */
	bool armed;
	_Atomic bool over; /* nothing is put any more */
	_Atomic bool lost; /* `why` is written before */
	struct error why;
	struct loop_post finish, lose; /* to the pager's thread */
};

struct pager {
	struct guest_memory *mem;
	int fd;
	uint64_t *pending[GUEST_MEMORY_REGIONS_MAX]; /* a bit for each chunk */
	uint32_t region;			     /* where to look for the next */
	uint64_t chunk;
	bool over;
	bool quiet, idle; /* only what is asked for, or preferred, comes; `more` is not posted */
	struct pager_place *preferred;
	size_t preferred_count, preferred_next;
	pthread_mutex_t noting;	    /* guards the next four until it is marked */
	struct pager_place *record; /* NULL: it does not; room for all chunks */
	size_t record_count, record_room;
	bool marked;
	struct loop_post release;   /* by who marks */
	struct arrival arrival;	    /* of a source that is looked at */
	struct putting putting;	    /* of one that wants */
	struct pager_source source; /* `read`, `look` and `want` NULL: another process is it */
	uint8_t *buffer;	    /* of a chunk */
	struct worker worker;
	struct loop_source faults;
	struct loop_post more;
	struct loop_timer later;
	_Atomic bool failed; /* `failure` is written before */
	struct error failure;
	pthread_mutex_t telling; /* held during lost() */
	bool silent;
};

static inline uint64_t pager_chunks(const struct guest_region *region)
{
	return (region->size + PAGER_CHUNK - 1) / PAGER_CHUNK;
}

static inline bool pager_bit(const uint64_t *bitmap, uint64_t n)
{
	return (bitmap[n / 64] >> n % 64 & 1) != 0;
}

/* The pager's thread. Nobody waits from here on: what is not there is zeroes. */
void pager_conclude(struct pager *pager);
/* It cannot go on: `lost` is told first. */
void pager_fail(struct pager *pager, const struct error *why);

/* [at, at + len) gets what is at `from`, or zeroes, where it has no page: 0 or a negative errno. Any thread. */
int pager_place(const struct pager *pager, uint64_t at, uint64_t len, const uint8_t *from);

/* --- pager_put.c --- */

int putting_prepare(struct pager *pager, struct error *e);
/* Somebody waits at `offset` of a region. */
void putting_serve(struct pager *pager, uint32_t index, uint64_t offset);
void putting_unregister(struct pager *pager);
void putting_finish(struct pager *pager);

/* --- pager_arrival.c --- */

int arrival_prepare(struct pager *pager, struct error *e);
void arrival_begin(struct pager *pager);
/* Somebody waits at `offset` of a region. */
void arrival_serve(struct pager *pager, uint32_t index, uint64_t offset);
void arrival_unregister(struct pager *pager);
void arrival_finish(struct pager *pager);

#endif
