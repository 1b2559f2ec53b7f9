/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory, shared by the files of this room: guest_memory.c (the list, access), backing.c (where
 * the bytes are), dirty.c (which of them were written), touched.c (which were ever used), pager.c (brings them), freezer.c
 * (keeps them as they were at one moment), userfault.c (what both hear of accesses by). */
#ifndef VMM_MEMORY_INTERNAL_H
#define VMM_MEMORY_INTERNAL_H

#include "vmm/guest_memory.h"

#define HUGE_PAGE MIB(2)

/* The region that has this host address in it. It is a bug if there is none. */
struct guest_region *region_of_host(struct guest_memory *mem, const uint8_t *host, uint64_t len);

/* What a size must be a multiple of. */
uint64_t backing_unit(enum guest_memory_backing backing);
/* What GUEST_MEMORY_AUTO means here. */
enum guest_memory_backing backing_choose(void);
/* Judges `size` as the RAM of a machine. */
int backing_check_size(uint64_t size, enum guest_memory_backing backing, struct error *e);

/* A call of the host that failed. */
struct backing_failure {
	const char *what;
	int sys;
};

/*
 * Maps `size` bytes between guards as region->kind and ->backing say; ->fd is the file of FILE_*,
 * and is made for the other kinds that have one. Sets host, fd and, last, size.
 */
int backing_map(struct guest_region *region, uint64_t size, struct backing_failure *failure);
void backing_unmap(struct guest_region *region, uint64_t size);
/* Another file of that backing, at the same place; what was there is lost. It is the region's then. */
int backing_replace(struct guest_region *region, enum guest_memory_backing backing, int fd,
		    struct backing_failure *failure);
/* Says what failed for memory of `size` bytes, none of which is held any more. */
int backing_error(enum guest_memory_backing backing, uint64_t size,
		  const struct backing_failure *failure, struct error *e);
void backing_use_huge_pages(struct guest_region *region);
/* Makes a range read as zeroes. */
void backing_zero(struct guest_region *region, uint8_t *host, uint64_t len);
/* Makes all of it read as zeroes and gives what can be given back to the host. */
int backing_discard(struct guest_region *region, struct error *e);

/*
 * guest_region_touched() of [offset, offset + len), whole pages, `offset` a multiple of 256 KiB: bit 0 of `bitmap` is its first
 * page. 0 or a negative errno.
 */
int region_touched(const struct guest_region *region, uint64_t offset, uint64_t len, int pagemap_fd,
		   uint64_t *bitmap);

/* A descriptor that is yet to be told what it is for (UFFDIO_API), or a negative errno. */
int userfault_open(void);

#endif
