/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as it is at one moment, of a VM that goes on: whoever writes a chunk (FREEZER_CHUNK) for the first time after it
 * waits until it has been copied (userfaultfd(2), write protection).
 *
 *	freezer_open()		before filters close; as long as the process likes
 *	freezer_create()	registers memory, starts a thread. The thread that changes the list of regions
 *	freezer_arm()		when whoever was giving pages back as it was created has done so (quiesce once): begins to protect
 *				what is in use. A write only lifts that again, and is noted
 *	freezer_wait()		until that is done
 *	freezer_freeze()	nobody writes: the moment. It takes as long as what was written since the start of arming
 *	freezer_take()		chunks as they were then, each once; the writer of a page is served first, then what freezer_hurry() has
 *				named
 *	freezer_destroy()	at any time: nothing is protected any more
 *
 * What was written and not taken yet is held in memory of our own: as much as the guest writes meanwhile, at most all of its.
 *
 * Threads: as said; what is not, one thread, the taker's. It and the thread that freezes may be different ones.
 */
#ifndef VMM_FREEZER_H
#define VMM_FREEZER_H

#include "vmm/guest_memory.h"
#include "vmm/syscalls.h"

#define FREEZER_CHUNK	    MIB(2)
#define FREEZER_CHUNK_PAGES ((uint32_t)(FREEZER_CHUNK / 4096))

struct freezer;

/* A descriptor for freezer_create(), one freezer at a time; a negative errno: this host has none for us. */
int freezer_open(void);

struct freezer_config {
	struct guest_memory *mem; /* no region comes or goes until it is destroyed */
	int fd;			  /* borrowed; negative: what freezer_open() has said */
	int pagemap_fd;		  /* /proc/self/pagemap; borrowed */
	/* Somebody waits for the moment: it comes sooner, and what is written right after it waits longer. */
	bool soon;
	/* Runs first on the new thread, and takes rights away; NULL: none are. */
	int (*enter)(void *arg, struct error *e);
	void *arg;
};

/*
 * ERROR_NOT_SUPPORTED: not this memory, or not on this host: it is shared with others, in a file that the kernel cannot
 * protect, or a pager (vmm/pager.h) still brings some of it. Nothing has changed then.
 */
int freezer_create(struct freezer **ret, const struct freezer_config *config, struct error *e);
void freezer_arm(struct freezer *freezer);
/* Negative: it has failed. False from `go_on`, asked some times a second: ERROR_CANCELLED. */
int freezer_wait(struct freezer *freezer, bool (*go_on)(void *arg), void *arg, struct error *e);
/*
 * `pages`: of each region, by its index, which ones are wanted, a bit each, whole chunks; it stays as it is until the freezer is destroyed.
 * NULL: all that may be other than zero. After an error nothing is protected.
 */
int freezer_freeze(struct freezer *freezer, uint64_t *const *pages, struct error *e);

struct freezer_chunk {
	uint32_t index;	 /* region */
	uint64_t offset; /* in it */
	uint64_t pages[FREEZER_CHUNK_PAGES / 64];
	const uint8_t *bytes; /* of those pages, in their places */
	uint32_t slot;	      /* the freezer's */
};
enum freezer_answer {
	FREEZER_END = 0, /* all have been taken; nothing is protected any more */
	FREEZER_TAKEN,	 /* give it back */
	FREEZER_LATER,	 /* some time has gone by without one */
};
/* Or negative. */
int freezer_take(struct freezer *freezer, struct freezer_chunk *chunk, struct error *e);
/*
 * Since freezer_freeze(): which chunks of a region there are to take, a bit each. Without `pages` each of them is given, also one of which nothing
 * is in use any more (no bit of its pages is set). The freezer's, as it is until the end; NULL: there is no such region.
 */
const uint64_t *freezer_due(const struct freezer *freezer, uint32_t index);
/*
 * By the taker: somebody waits for this one. It is given before those for which nobody does, or nothing comes of it: it has been given, or is not
 * due. A hint: of more of them than there are chunks some are forgotten.
 */
void freezer_hurry(struct freezer *freezer, uint32_t index, uint32_t chunk);
void freezer_give_back(struct freezer *freezer, const struct freezer_chunk *chunk);
/* Of all chunks that were in use when it was armed: about what there is to take. Since freezer_wait(). */
uint64_t freezer_bytes(struct freezer *freezer);
/* Accepts NULL. */
void freezer_destroy(struct freezer *freezer);
/*
 * Of a memory whose pages are about to be given back, which nobody writes: what is still to be saved is, as far as it was frozen;
 * otherwise the freezer has failed. Nothing is protected when this returns. Does nothing without a freezer.
 */
void freezer_end(struct guest_memory *mem);

/* Its thread's, besides a worker's. */
extern const struct syscall_list freezer_syscalls;

#endif
