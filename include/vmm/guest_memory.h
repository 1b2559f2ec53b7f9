/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM: one backing object mapped once, seen by the guest as one or two regions (below and
 * above the 3-4 GiB hole). The only door through which devices and the loader touch guest bytes.
 *
 * The guest can change any byte at any time, also between two reads of ours: copy a structure out
 * once and use the copy. A range is valid only if it lies within one region; a length of 0 is
 * checked like any other (its address must be inside or at the end of a region). Regions never
 * change after start, so all functions are callable from any thread without a lock.
 *
 * What the VMM writes by itself is marked in a dirty bitmap of its own while dirty tracking is on,
 * because KVM's log does not see it.
 */
#ifndef VMM_GUEST_MEMORY_H
#define VMM_GUEST_MEMORY_H

#include <stdatomic.h>

#include "vmm/error.h"
#include "vmm/types.h"

#define GUEST_MEMORY_REGIONS_MAX 2

enum guest_memory_backing {
	GUEST_MEMORY_AUTO = 0, /* what measures best on this host: see guest_memory.c */
	GUEST_MEMORY_MEMFD,    /* shared memfd "vmm-ram" */
	GUEST_MEMORY_ANON,     /* private anonymous memory: transparent huge pages wherever the host
				  allows them */
	GUEST_MEMORY_HUGETLB,  /* memfd on 2 MiB hugetlb pages; must be reserved on the host */
};

struct guest_memory_region {
	gpa_t gpa;	 /* page aligned */
	uint64_t size;	 /* bytes, page aligned */
	uint8_t *host;	 /* where it is mapped here */
	uint64_t offset; /* of the region in the backing object */
};

struct guest_memory {
	int fd;				   /* -1 for anonymous memory */
	enum guest_memory_backing backing; /* what was chosen, never AUTO */
	uint8_t *map;			   /* one mapping of all of it */
	uint64_t size;
	uint32_t region_count;
	struct guest_memory_region regions[GUEST_MEMORY_REGIONS_MAX];
	_Atomic(_Atomic uint64_t *)
		dirty;	     /* NULL while tracking is off; one bit per 4 KiB of the backing */
	void *dirty_storage; /* what `dirty` points to; kept until finish, so that stopping is safe
				at any time */
};

/* `size` is a multiple of 4 KiB (2 MiB for hugetlb), from PLATFORM_MEMORY_MIN. ERROR_CONFIG names
 * size and host limit. */
int guest_memory_init(struct guest_memory *mem, uint64_t size, enum guest_memory_backing backing,
		      struct error *e);
void guest_memory_finish(struct guest_memory *mem);

/*
 * The host address of [gpa, gpa + len), or NULL if the range is not wholly inside one region. The
 * pointer stays valid for the life of `mem`.
 */
uint8_t *guest_memory_translate(const struct guest_memory *mem, gpa_t gpa, uint64_t len);
/*
 * Copies; false (and nothing copied) if the range is invalid. guest_memory_write() and
 * guest_memory_zero() mark the pages dirty.
 */
bool __must_use guest_memory_read(const struct guest_memory *mem, gpa_t gpa, void *buf, size_t len);
bool __must_use guest_memory_write(struct guest_memory *mem, gpa_t gpa, const void *buf,
				   size_t len);
/* Zeroes without touching pages that are still holes where possible. */
bool __must_use guest_memory_zero(struct guest_memory *mem, gpa_t gpa, uint64_t len);
/* Gives every page back to the host: reads as zeroes again (machine reset). No vCPU may run. */
int guest_memory_discard(struct guest_memory *mem, struct error *e);

/*
 * From now on pages that are touched for the first time are huge where the host allows it: 512
 * times fewer faults, but clearing one takes 0.1 ms or more. A wish, without result.
 */
void guest_memory_use_huge_pages(struct guest_memory *mem);

/* Marks what a device wrote through a translated pointer. The range must be one that translate
 * accepted. */
void guest_memory_mark_dirty(struct guest_memory *mem, const void *host, uint64_t len);
/*
 * Starts with a clean bitmap; from one thread at a time. A write that is in flight on another
 * thread meanwhile may go unmarked: copy the first pass after the devices have been quiesced once.
 */
int guest_memory_dirty_start(struct guest_memory *mem, struct error *e);
void guest_memory_dirty_stop(struct guest_memory *mem);
/*
 * Moves the bits of a region into `bitmap` (OR; bit n is the region's page n) and clears them here.
 * `bits`, the size of `bitmap`, must cover the region. Does nothing while tracking is off.
 */
void guest_memory_dirty_harvest(struct guest_memory *mem, uint32_t region, uint64_t *bitmap,
				uint64_t bits);

#endif
