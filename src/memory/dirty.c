/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages were written: include/vmm/guest_memory.h has the rule.
 *
 * Bits are set with atomic OR after the bytes are written and cleared with atomic exchange before
 * they are copied, so a page is copied again rather than missed. A bitmap lives as long as its
 * region, because a device may be about to set a bit while tracking is switched off; what it sets
 * then, nobody reads.
 *
 * Marks: any thread. Start, stop, collection: the thread that changes the list of regions, or one
 * that it has given this to. The guest controls how many pages are dirty, nothing else.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "internal.h"
#include "vmm/overflow.h"

#define BITS_PER_WORD 64

static uint64_t words_of(const struct guest_region *region)
{
	return ALIGN_UP(region->size / PAGE_SIZE_4K, BITS_PER_WORD) / BITS_PER_WORD;
}

void guest_memory_mark(struct guest_memory *mem, const uint8_t *host, uint64_t len)
{
	struct guest_region *region;
	_Atomic uint64_t *dirty;
	uint64_t offset, page, last;

	if (len == 0) {
		return;
	}
	region = region_of_host(mem, host, len);
	dirty = atomic_load_explicit(&region->dirty, memory_order_acquire);
	if (dirty == NULL) {
		return;
	}
	offset = (uint64_t)(host - region->host);
	page = offset / PAGE_SIZE_4K;
	last = (offset + len - 1) / PAGE_SIZE_4K;
	while (page <= last) {
		uint64_t first_bit = page % BITS_PER_WORD;
		uint64_t bits = MIN(last - page + 1, BITS_PER_WORD - first_bit);
		uint64_t mask = UINT64_MAX >> (BITS_PER_WORD - bits) << first_bit;

		(void)atomic_fetch_or(&dirty[page / BITS_PER_WORD], mask);
		page += bits;
	}
}

void guest_memory_mark_list(struct guest_memory *mem, const struct iovec *iov, size_t count,
			    uint64_t len)
{
	for (size_t i = 0; i < count && len != 0; i++) {
		uint64_t n = MIN((uint64_t)iov[i].iov_len, len);

		guest_memory_mark(mem, iov[i].iov_base, n);
		len -= n;
	}
}

/* Every page of the region. */
static void set_all(_Atomic uint64_t *dirty, const struct guest_region *region)
{
	uint64_t words = words_of(region);
	uint64_t rest = region->size / PAGE_SIZE_4K % BITS_PER_WORD;

	for (uint64_t i = 0; i < words; i++) {
		uint64_t bits = i + 1 == words && rest != 0 ? UINT64_MAX >> (BITS_PER_WORD - rest)
							    : UINT64_MAX;

		atomic_store_explicit(&dirty[i], bits, memory_order_relaxed);
	}
}

static int own_start(struct guest_memory *mem, struct guest_region *region, struct error *e)
{
	uint64_t words = words_of(region);

	if (region->dirty_storage == NULL) {
		region->dirty_storage = calloc(words, sizeof(uint64_t));
	}
	if (region->dirty_storage == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM,
				     "dirty bitmap of %" PRIu64 " bytes", words * sizeof(uint64_t));
	}
	set_all(region->dirty_storage, region);
	atomic_store(&region->dirty, region->dirty_storage);
	atomic_fetch_add(&mem->tracked, 1);
	return 0;
}

static void own_stop(struct guest_memory *mem, struct guest_region *region)
{
	atomic_fetch_sub(&mem->tracked, 1);
	atomic_store(&region->dirty, NULL);
}

int guest_region_dirty_start(struct guest_memory *mem, uint32_t index, struct error *e)
{
	struct guest_region *region = &mem->regions[index];
	int r;

	VMM_BUG_ON(index >= mem->region_count || region->size == 0);
	if (atomic_load(&region->dirty) != NULL) {
		return error_set(e, ERROR_INTERNAL, EALREADY,
				 "dirty tracking of guest memory is already on");
	}
	r = own_start(mem, region, e);
	for (struct guest_memory_listener *l = mem->listeners; r == 0 && l != NULL; l = l->next) {
		r = l->dirty_start != NULL ? l->dirty_start(l, index, region, e) : 0;
		if (r < 0) {
			for (struct guest_memory_listener *u = mem->listeners; u != l;
			     u = u->next) {
				if (u->dirty_stop != NULL) {
					u->dirty_stop(u, index, region);
				}
			}
			own_stop(mem, region);
		}
	}
	return r;
}

void guest_region_dirty_stop(struct guest_memory *mem, uint32_t index)
{
	struct guest_region *region = &mem->regions[index];

	VMM_BUG_ON(index >= mem->region_count);
	if (atomic_load(&region->dirty) == NULL) {
		return;
	}
	for (struct guest_memory_listener *l = mem->listeners; l != NULL; l = l->next) {
		if (l->dirty_stop != NULL) {
			l->dirty_stop(l, index, region);
		}
	}
	own_stop(mem, region);
}

int guest_memory_dirty_start(struct guest_memory *mem, struct error *e)
{
	for (uint32_t i = 0; i < mem->region_count; i++) {
		int r = mem->regions[i].size != 0 ? guest_region_dirty_start(mem, i, e) : 0;

		if (r < 0) {
			while (i-- > 0) {
				guest_region_dirty_stop(mem, i);
			}
			return r;
		}
	}
	return 0;
}

void guest_memory_dirty_stop(struct guest_memory *mem)
{
	for (uint32_t i = 0; i < mem->region_count; i++) {
		guest_region_dirty_stop(mem, i);
	}
}

int guest_region_dirty_collect(struct guest_memory *mem, uint32_t index, uint64_t *bitmap,
			       uint64_t bits, struct error *e)
{
	struct guest_region *region = &mem->regions[index];
	_Atomic uint64_t *dirty = atomic_load(&region->dirty);
	uint64_t words = words_of(region);

	VMM_BUG_ON(index >= mem->region_count || bits % BITS_PER_WORD != 0 ||
		   bits / BITS_PER_WORD < words);
	if (dirty == NULL) {
		return 0;
	}
	for (uint64_t i = 0; i < words; i++) {
		if (atomic_load_explicit(&dirty[i], memory_order_relaxed) != 0) {
			bitmap[i] |= atomic_exchange(&dirty[i], 0);
		}
	}
	for (struct guest_memory_listener *l = mem->listeners; l != NULL; l = l->next) {
		int r = l->dirty_collect != NULL ? l->dirty_collect(l, index, region, bitmap, e)
						 : 0;

		if (r < 0) {
			return r;
		}
	}
	return 0;
}
