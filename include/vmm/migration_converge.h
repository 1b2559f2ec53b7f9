/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a source has copied enough: what each pass over memory says, and what comes next.
 *
 *	AGAIN	another pass: the guest still writes more than can be sent within the downtime
 *	SLOWER	the same, and the guest is slowed down first, to `throttle`: passes do not get shorter
 *	PAUSE	what is left can be sent in the pause; or more passes would not make it shorter; or it is to be forced
 *	GIVE_UP	the time for it is over
 *
 * Pure arithmetic: no clock, no thread, nothing allocated. An object belongs to one thread. The guest controls how much it
 * writes, the other side how fast it takes that; neither makes anything here wrong, only slow.
 */
#ifndef VMM_MIGRATION_CONVERGE_H
#define VMM_MIGRATION_CONVERGE_H

#include "vmm/types.h"

enum migration_verdict {
	MIGRATION_AGAIN,
	MIGRATION_SLOWER,
	MIGRATION_PAUSE_NOW,
	MIGRATION_GIVE_UP,
};

struct migration_converge {
	/* The user's. */
	uint64_t downtime_ns;
	uint64_t time_limit_ns;	 /* 0: none */
	bool force;		 /* at that limit */
	uint32_t throttle_limit; /* percent, 0 to 99 */
	/* Measured: what the pause costs beside sending. */
	uint64_t still_ns;
	/* Filled by migration_judge_pass(). */
	uint64_t rate, dirty_rate; /* bytes a second, of the last pass; 0: not known */
	uint64_t expected_ns;	   /* the guest would stand still */
	uint32_t throttle;	   /* percent that it has to be slowed down by from now on */
	unsigned int stuck;	   /* passes in a row that were not shorter */
};

struct migration_pass {
	uint64_t sent; /* bytes */
	uint64_t took_ns;
	uint64_t left; /* bytes that the guest has written meanwhile */
};

/* A pass is over, `elapsed_ns` after copying has begun. */
enum migration_verdict migration_judge_pass(struct migration_converge *converge,
					    const struct migration_pass *pass, uint64_t elapsed_ns);

/*
 * The next step of slowing down, in percent, above `percent` and up to `limit`, which it stays at: for a guest that has written
 * `left` bytes while `sent` were sent, as slow as it was.
 */
uint32_t migration_throttle_step(uint32_t percent, uint32_t limit, uint64_t sent, uint64_t left);

#endif
