/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pager: brings pages of guest memory when somebody touches them for the first time (userfaultfd(2)): the guest, a device,
 * or the kernel on behalf of one, all of whom wait meanwhile.
 *
 *	pager_create()
 *	pager_add()		ranges that it is to fill, which nobody has touched; who does from now on waits
 *	pager_prefer()		chunks that come before anybody asks for them, in this order
 *	or pager_record()	what is asked for is noted, and nothing else comes until pager_mark()
 *	pager_serve()		a thread fills them from a source: what is waited for first; between faults what is preferred, and,
 *				from a moment later on, everything else, from the lowest address on
 *				or from one that somebody else still writes (`look`): what is waited for is asked for, and the
 *				rest is there when all has been written
 *				or pages are put (`want`): pager_miss() says which are missing, pager_arm() lets those who touch them
 *				wait, pager_put() brings them
 *	or pager_descriptor()	another process fills them, which has been given this
 *	pager_end()		what has not come is zeroes from now on: for a machine reset
 *	pager_destroy()		nobody uses the memory any more
 *
 * A chunk of a range (PAGER_CHUNK) comes as a whole. When everything is there, the thread sleeps and memory is as any other.
 *
 * A source that fails is the end of the machine: no page can be made up. `failed` is told first, so that no vCPU goes back to
 * the guest (vmm/guest_memory.h, `lost`), then who waits is let go, with zeroes.
 *
 * Threads: create to serve, end and destroy on the thread that changes the memory's list of regions.
 */
#ifndef VMM_PAGER_H
#define VMM_PAGER_H

#include "vmm/guest_memory.h"
#include "vmm/syscalls.h"

#define PAGER_CHUNK	  MIB(2)
#define PAGER_CHUNK_PAGES ((uint32_t)(PAGER_CHUNK / 4096))
#define PAGER_LOOK_MAX	  512U

struct pager;

/* A chunk of a region. */
struct pager_place {
	uint32_t index, chunk;
};

/* Of a chunk that somebody else writes into the file of its region. */
enum pager_arrival {
	PAGER_MISSING = 0, /* it is not whole yet */
	PAGER_IN_FILE,	   /* it is, in its place, and nobody will write there again */
	PAGER_EMPTY,	   /* it is zeroes, and nothing was written */
	PAGER_ARRIVALS,
};

/* Functions run on the pager's thread, but for stop() and destroy(). One of read(), look() and want(). */
struct pager_source {
	/*
	 * Fills `buf` with the pages of [offset, offset + PAGER_CHUNK) of region `index`, up to its end, and sets in `present`,
	 * which is zeroed, the bits of those that have something; the others are zero, and need not be in `buf`.
	 */
	int (*read)(void *arg, uint32_t index, uint64_t offset, uint8_t *buf,
		    uint64_t present[PAGER_CHUNK_PAGES / 64], struct error *e);
	/*
	 * What has come of `count` chunks, PAGER_LOOK_MAX at most, of region `index` from `chunk` on, into `ret`. Negative: some are missing and will
	 * not come any more. Such regions are private mappings of a file (GUEST_MEMORY_FILE_PRIVATE), over whose chunks in ranges of the pager
	 * anonymous memory lies until they arrive.
	 */
	int (*look)(void *arg, uint32_t index, uint64_t chunk, uint32_t count,
		    uint8_t ret[PAGER_LOOK_MAX], struct error *e);
	/* With look(): this one is waited for. Called again from time to time. */
	void (*ask)(void *arg, uint32_t index, uint64_t chunk);
	/* Somebody waits for this page, which is missing: said once for each, and once more by pager_want_again(). */
	void (*want)(void *arg, uint32_t index, uint64_t page);
	/* Everything is there, or was given up: none of these will be called again. */
	void (*done)(void *arg);
	/* By pager_destroy(), on its caller's thread: stop(), which may be NULL, while the pager's thread is still there; after it nobody
	 * puts a page or posts to the pager's loop. destroy() when it has ended. */
	void (*stop)(void *arg);
	void (*destroy)(void *arg);
	void *arg;
};

/* ERROR_NOT_SUPPORTED, with the cure, if this host has no userfaultfd for us. */
int pager_create(struct pager **ret, struct guest_memory *mem, struct error *e);
/*
 * Whole chunks, but at the region's end. Memory that is anonymous, or on huge pages of hugetlb. What may come is set as the
 * region's content (guest_region_set_content()) before it serves.
 */
int pager_add(struct pager *pager, uint32_t index, uint64_t offset, uint64_t len, struct error *e);
/* The memory has it from now on: pager_end() and pager_destroy() come with guest_memory_discard() and _finish(). */
void pager_attach(struct pager *pager);
/*
 * Before it serves, one of the two at most. `list` is malloc'ed, and the pager's from now on; of what is not in its ranges, or is
 * there twice, nothing comes of it.
 */
void pager_prefer(struct pager *pager, struct pager_place *list, size_t count);
/* When all ranges have been added. */
int pager_record(struct pager *pager, struct error *e);
/*
 * Any thread, after it serves: what has been asked for so far, in this order, is the record, and all else follows. The pager's; again, the
 * same. NULL: nothing is recorded. Accepts NULL.
 */
const struct pager_place *pager_mark(struct pager *pager, size_t *count);
/*
 * `source` is copied, and the pager's from now on, in any case. `enter` runs first on the new thread and takes rights away (NULL: none are).
 */
int pager_serve(struct pager *pager, const struct pager_source *source,
		int (*enter)(void *arg, struct error *e), void *enter_arg, struct error *e);
/* What it serves from; `read` and `look` NULL: another process. */
const struct pager_source *pager_source_of(const struct pager *pager);
/* The userfaultfd; the pager's. */
int pager_descriptor(const struct pager *pager);
void pager_end(struct pager *pager);
/* From now on nobody is told that memory is lost. Accepts NULL. */
void pager_silence(struct pager *pager);
/* Accepts NULL. */
void pager_destroy(struct pager *pager);
/* Any thread: 0, or ERROR_SNAPSHOT and whatever else the source has failed with. Accepts NULL. */
int pager_check(struct pager *pager, struct error *e);

/*
 * Pages that are put, of a source with want(), in memory that is anonymous or a memfd of ours. After pager_serve(), which is the time
 * for what needs threads and rights, in this order:
 *
 *	pager_miss()	any thread, while nobody uses the memory: bits of `bitmap` are pages of region `index` from `first`, a multiple of 64, on
 *			that are missing: what is there is given back. Others may become missing with them (pager_missing()), if that is
 *			cheaper. -EINVAL: the region has no such pages; nothing has changed
 *	pager_arm()	the same thread: from now on who touches a missing page waits, whatever else has no page is zero
 *	pager_put()	any thread, many at once: pages within the region; `from` NULL: they are zero. Of what is not missing nothing is
 *			changed. The last one that was missing ends it: memory is as any other, and done() is called
 *	pager_lose()	any thread, once: they will never come
 */
int pager_miss(struct pager *pager, uint32_t index, uint64_t first, uint64_t count,
	       const uint64_t *bitmap, struct error *e);
int pager_arm(struct pager *pager, struct error *e);
int pager_put(struct pager *pager, uint32_t index, uint64_t page, uint64_t count,
	      const uint8_t *from, struct error *e);
void pager_lose(struct pager *pager, const struct error *why);
/* Any thread: pages that are. */
uint64_t pager_left(const struct pager *pager);
/* Any thread: those bits from `first`, a multiple of 64, on, as many as fit in `words`; 0 behind the region's end. */
void pager_missing(const struct pager *pager, uint32_t index, uint64_t first, uint64_t *bitmap,
		   size_t words);
/* The pager's thread: all are wanted anew that are waited for. */
void pager_want_again(struct pager *pager);
/* Of its thread. */
struct loop *pager_loop(struct pager *pager);

/* Its thread's, besides a worker's and the source's. */
extern const struct syscall_list pager_syscalls;
/* Of who calls pager_miss() and pager_arm(). */
extern const struct syscall_list pager_arm_syscalls;

#endif
