/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of guest memory's regions, and access to their bytes: include/vmm/guest_memory.h is the
 * contract.
 *
 * An entry is filled before its size is set, and its size is cleared before it is emptied: a lookup
 * on another thread sees a region as a whole or not at all. Lookups go through the list, because it
 * has one or two entries; they come first, since the machine's RAM is added first.
 *
 * The guest, KVM and every device thread read and write the bytes at the same time; nothing here
 * orders them. The guest controls addresses and lengths; both are checked against one region.
 * Nothing of this object is saved but the bytes.
 *
 * System calls after guest_memory_init(): fallocate, madvise, mmap (of a region on a private file,
 * at a reset).
 */
#include "vmm/guest_memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/overflow.h"
#include "vmm/freezer.h"
#include "vmm/pager.h"
#include "vmm/platform.h"

static uint64_t size_of(const struct guest_region *region)
{
	return atomic_load_explicit(&region->size, memory_order_acquire);
}

static uint32_t count_of(const struct guest_memory *mem)
{
	return atomic_load_explicit(&mem->region_count, memory_order_acquire);
}

const uint8_t *guest_memory_read_pointer(const struct guest_memory *mem, gpa_t gpa, uint64_t len)
{
	uint32_t count = count_of(mem);

	for (uint32_t i = 0; i < count; i++) {
		const struct guest_region *region = &mem->regions[i];

		/* An entry that is free has no bytes, and NULL for the place of none. */
		if (gpa >= region->gpa && range_within(gpa - region->gpa, len, size_of(region))) {
			return region->host + (gpa - region->gpa);
		}
	}
	return NULL;
}

bool guest_memory_read(const struct guest_memory *mem, gpa_t gpa, void *buf, size_t len)
{
	const uint8_t *host = guest_memory_read_pointer(mem, gpa, len);

	if (host == NULL) {
		return false;
	}
	if (len != 0) {
		memcpy(buf, host, len);
	}
	return true;
}

bool guest_memory_write(struct guest_memory *mem, gpa_t gpa, const void *buf, size_t len)
{
	uint8_t *host = guest_memory_write_pointer(mem, gpa, len);

	if (host == NULL) {
		return false;
	}
	if (len != 0) {
		memcpy(host, buf, len);
		guest_memory_written(mem, host, len);
	}
	return true;
}

struct guest_region *region_of_host(struct guest_memory *mem, const uint8_t *host, uint64_t len)
{
	uint32_t count = count_of(mem);

	for (uint32_t i = 0; i < count; i++) {
		struct guest_region *region = &mem->regions[i];
		uint64_t size = size_of(region);

		if (size != 0 && (uintptr_t)host >= (uintptr_t)region->host &&
		    range_within((uintptr_t)host - (uintptr_t)region->host, len, size)) {
			return region;
		}
	}
	VMM_BUG_ON(true);
}

bool guest_memory_zero(struct guest_memory *mem, gpa_t gpa, uint64_t len)
{
	uint8_t *host = guest_memory_write_pointer(mem, gpa, len);

	if (host == NULL) {
		return false;
	}
	if (len != 0) {
		backing_zero(region_of_host(mem, host, len), host, len);
		guest_memory_written(mem, host, len);
	}
	return true;
}

int guest_memory_discard(struct guest_memory *mem, struct error *e)
{
	freezer_end(mem);
	if (mem->pager != NULL) {
		pager_end(mem->pager);
	}
	for (uint32_t i = 0; i < count_of(mem); i++) {
		struct guest_region *region = &mem->regions[i];
		uint64_t size = size_of(region);

		if (size != 0 && region->kind != GUEST_REGION_PMEM) {
			int r = backing_discard(region, e);

			if (r < 0) {
				return r;
			}
			guest_memory_written(mem, region->host, size);
		}
	}
	return 0;
}

void guest_memory_use_huge_pages(struct guest_memory *mem)
{
	for (uint32_t i = 0; i < count_of(mem); i++) {
		if (size_of(&mem->regions[i]) != 0 && mem->regions[i].kind != GUEST_REGION_PMEM) {
			backing_use_huge_pages(&mem->regions[i]);
		}
	}
}

/* A free entry with the place and backing of `config`, not in the list yet; NULL: there is none. */
static struct guest_region *take_entry(struct guest_memory *mem,
				       const struct guest_region_config *config)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(mem->regions); i++) {
		struct guest_region *region = &mem->regions[i];

		if (i >= count_of(mem) || size_of(region) == 0) {
			memset(region, 0, sizeof(*region));
			region->gpa = config->gpa;
			region->kind = config->kind;
			region->backing = config->backing != GUEST_MEMORY_AUTO ? config->backing
									       : backing_choose();
			region->fd = region->backing >= GUEST_MEMORY_FILE_SHARED ? config->fd : -1;
			region->offset = config->offset;
			return region;
		}
	}
	return NULL;
}

static bool is_ram(const struct guest_region *region)
{
	return region->kind != GUEST_REGION_PMEM;
}

/* Maps a region and shows it to everybody but listeners. */
static int put(struct guest_memory *mem, const struct guest_region_config *config,
	       struct guest_region **ret, struct backing_failure *failure)
{
	struct guest_region *region = take_entry(mem, config);
	uint32_t index;
	int r;

	if (region == NULL) {
		*failure = (struct backing_failure){ "no entry is left in the list", ENOSPC };
		return -ENOSPC;
	}
	r = backing_map(region, config->size, failure);
	if (r < 0) {
		return r;
	}
	index = (uint32_t)(region - mem->regions);
	if (index >= count_of(mem)) {
		atomic_store_explicit(&mem->region_count, index + 1, memory_order_release);
	}
	mem->size += is_ram(region) ? config->size : 0;
	*ret = region;
	return 0;
}

static void take_out(struct guest_memory *mem, struct guest_region *region)
{
	uint64_t size = size_of(region);

	mem->size -= is_ram(region) ? size : 0;
	atomic_store_explicit(&region->size, 0, memory_order_release);
	backing_unmap(region, size);
	free(region->dirty_storage);
	region->dirty_storage = NULL;
}

static int tell_added(const struct guest_memory *mem, uint32_t index, struct error *e)
{
	const struct guest_region *region = &mem->regions[index];

	for (struct guest_memory_listener *l = mem->listeners; l != NULL; l = l->next) {
		int r = l->added != NULL ? l->added(l, index, region, e) : 0;

		if (r < 0) {
			for (struct guest_memory_listener *u = mem->listeners; u != l;
			     u = u->next) {
				if (u->removed != NULL) {
					u->removed(u, index, region);
				}
			}
			return r;
		}
	}
	return 0;
}

static int check_config(const struct guest_memory *mem, const struct guest_region_config *config,
			struct error *e)
{
	uint64_t unit = backing_unit(config->backing);
	gpa_t end;

	if (config->size == 0 || config->size % unit != 0 || config->gpa % HUGE_PAGE != 0 ||
	    config->offset % PAGE_SIZE_4K != 0 || add_overflow(config->gpa, config->size, &end)) {
		return error_set(e, ERROR_INTERNAL, EINVAL,
				 "a memory region of 0x%" PRIx64 " bytes at 0x%" PRIx64
				 " is not aligned",
				 config->size, config->gpa);
	}
	for (uint32_t i = 0; i < count_of(mem); i++) {
		const struct guest_region *region = &mem->regions[i];

		if (ranges_overlap(config->gpa, config->size, region->gpa, size_of(region))) {
			return error_set(e, ERROR_INTERNAL, EEXIST,
					 "a memory region of 0x%" PRIx64 " bytes at 0x%" PRIx64
					 " would overlap the one at 0x%" PRIx64,
					 config->size, config->gpa, region->gpa);
		}
	}
	return 0;
}

int guest_memory_add(struct guest_memory *mem, const struct guest_region_config *config,
		     struct error *e)
{
	struct backing_failure failure = { 0 };
	struct guest_region *region = NULL;
	int r = check_config(mem, config, e);

	if (r < 0) {
		return r;
	}
	r = put(mem, config, &region, &failure);
	if (r < 0) {
		return backing_error(config->backing, config->size, &failure, e);
	}
	r = tell_added(mem, (uint32_t)(region - mem->regions), e);
	if (r < 0) {
		/* The caller keeps its file. */
		region->fd = region->backing >= GUEST_MEMORY_FILE_SHARED ? -1 : region->fd;
		take_out(mem, region);
		return r;
	}
	return (int)(region - mem->regions);
}

void guest_memory_remove(struct guest_memory *mem, uint32_t index)
{
	VMM_BUG_ON(index >= count_of(mem) || size_of(&mem->regions[index]) == 0);
	guest_region_dirty_stop(mem, index);
	for (struct guest_memory_listener *l = mem->listeners; l != NULL; l = l->next) {
		if (l->removed != NULL) {
			l->removed(l, index, &mem->regions[index]);
		}
	}
	take_out(mem, &mem->regions[index]);
}

int guest_memory_listen(struct guest_memory *mem, struct guest_memory_listener *listener,
			struct error *e)
{
	uint32_t count = count_of(mem);

	VMM_BUG_ON(atomic_load(&mem->tracked) != 0);
	for (uint32_t i = 0; i < count; i++) {
		int r = size_of(&mem->regions[i]) != 0 && listener->added != NULL
				? listener->added(listener, i, &mem->regions[i], e)
				: 0;

		if (r < 0) {
			while (i-- > 0) {
				if (size_of(&mem->regions[i]) != 0 && listener->removed != NULL) {
					listener->removed(listener, i, &mem->regions[i]);
				}
			}
			return r;
		}
	}
	listener->next = mem->listeners;
	mem->listeners = listener;
	return 0;
}

void guest_memory_unlisten(struct guest_memory *mem, struct guest_memory_listener *listener)
{
	struct guest_memory_listener **at = &mem->listeners;

	while (*at != NULL && *at != listener) {
		at = &(*at)->next;
	}
	if (*at != NULL) {
		*at = listener->next;
	}
}

int guest_memory_init(struct guest_memory *mem, uint64_t size, enum guest_memory_backing backing,
		      struct error *e)
{
	const uint64_t low = MIN(size, (uint64_t)PLATFORM_RAM_LOW_END);
	struct guest_region_config parts[] = {
		{ .size = low },
		{ .gpa = PLATFORM_RAM_HIGH_START, .size = size - low },
	};
	struct backing_failure failure = { 0 };
	int r;

	*mem = (struct guest_memory){ 0 };
	backing = backing != GUEST_MEMORY_AUTO ? backing : backing_choose();
	r = backing_check_size(size, backing, e);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts) && parts[i].size != 0; i++) {
		struct guest_region *region;

		parts[i].backing = backing;
		r = put(mem, &parts[i], &region, &failure);
		if (r < 0) {
			guest_memory_finish(mem);
			return backing_error(backing, size, &failure, e);
		}
	}
	return r;
}

static bool has_ram(const struct guest_memory *mem, gpa_t gpa, uint64_t size)
{
	for (uint32_t i = 0; i < count_of(mem); i++) {
		const struct guest_region *region = &mem->regions[i];

		if (region->kind == GUEST_REGION_RAM && region->gpa == gpa &&
		    size_of(region) == size) {
			return true;
		}
	}
	return size == 0;
}

bool guest_memory_is_ram_of(const struct guest_memory *mem, uint64_t size)
{
	const uint64_t low = MIN(size, (uint64_t)PLATFORM_RAM_LOW_END);

	return mem->size == size && has_ram(mem, 0, low) &&
	       has_ram(mem, PLATFORM_RAM_HIGH_START, size - low);
}

void guest_memory_finish(struct guest_memory *mem)
{
	pager_destroy(mem->pager);
	for (uint32_t i = 0; i < count_of(mem); i++) {
		if (size_of(&mem->regions[i]) != 0) {
			guest_memory_remove(mem, i);
		}
	}
	*mem = (struct guest_memory){ 0 };
}
