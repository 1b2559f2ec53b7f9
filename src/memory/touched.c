/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of a region may be other than zero, found without touching one: include/vmm/guest_memory.h is the contract.
 *
 *	files that are shared (memfd)	the data and holes of the file (lseek), whoever wrote them
 *	anonymous, huge pages		what this process has mapped or swapped (/proc/self/pagemap)
 *	files that are private		what the file had when it was mapped, and what this process has instead of it
 *
 * What cannot be told is said to be touched. PAGEMAP_SCAN (Linux 6.7) tells ranges, and which of them are the one page of
 * zeroes that reads are served from; before, there are 8 bytes for each page.
 *
 * Any thread, on memory at rest: what is touched meanwhile may be missed. The guest controls which pages, nothing else.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/overflow.h"

/* linux/fs.h since 6.7, Documentation/admin-guide/mm/pagemap.rst */
struct scan_range {
	uint64_t start, end, categories;
};
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN _IOWR('f', 16, struct scan_arg)
_Static_assert(sizeof(struct scan_arg) == 96, "as the kernel has it");
#define SCAN_FILE    (1U << 2)
#define SCAN_PRESENT (1U << 3)
#define SCAN_SWAPPED (1U << 4)
#define SCAN_ZERO    (1U << 5)

/* An entry of the pagemap. */
#define MAP_PRESENT (1ULL << 63)
#define MAP_SWAPPED (1ULL << 62)
#define MAP_FILE    (1ULL << 61)

static void set_range(uint64_t *bitmap, uint64_t first, uint64_t count)
{
	while (count > 0) {
		uint64_t bit = first % 64;
		uint64_t n = MIN(count, 64 - bit);

		bitmap[first / 64] |= UINT64_MAX >> (64 - n) << bit;
		first += n;
		count -= n;
	}
}

/* Of a region; bit 0 of a bitmap is its first page. */
struct span {
	const struct guest_region *region;
	uint64_t offset, len;
};

static void set_all(const struct span *span, uint64_t *bitmap)
{
	set_range(bitmap, 0, span->len / PAGE_SIZE_4K);
}

/* True if it could be told. */
static bool by_holes(const struct span *span, uint64_t *bitmap)
{
	const struct guest_region *region = span->region;
	uint64_t start = region->offset + span->offset, at = start, end = start + span->len;

	while (at < end) {
		off_t data = lseek(region->fd, (off_t)at, SEEK_DATA), hole;
		uint64_t first;

		if (data < 0) {
			return errno == ENXIO;
		}
		if ((uint64_t)data >= end) {
			return true;
		}
		hole = lseek(region->fd, data, SEEK_HOLE);
		if (hole <= data) {
			return false;
		}
		at = MIN((uint64_t)hole, end);
		first = ((uint64_t)data - start) / PAGE_SIZE_4K;
		set_range(bitmap, first,
			  (ALIGN_UP(at - start, PAGE_SIZE_4K) / PAGE_SIZE_4K) - first);
	}
	return true;
}

/* -ENOTTY: the kernel cannot do it. */
static int by_scan(const struct span *span, int pagemap_fd, uint64_t *bitmap)
{
	const struct guest_region *region = span->region;
	const uint64_t start = (uintptr_t)region->host + span->offset;
	struct scan_range ranges[128];
	uint64_t not = SCAN_ZERO | (region->backing == GUEST_MEMORY_FILE_PRIVATE ? SCAN_FILE : 0);
	struct scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = start + span->len,
		.vec = (uintptr_t)ranges,
		.vec_len = ARRAY_SIZE(ranges),
		.category_inverted = not,
		.category_mask = not,
		.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
		.return_mask = SCAN_PRESENT | SCAN_SWAPPED,
	};

	while (arg.start < arg.end) {
		int n = ioctl(pagemap_fd, SCAN, &arg);

		if (n < 0) {
			return -errno;
		}
		for (int i = 0; i < n; i++) {
			set_range(bitmap, (ranges[i].start - start) / PAGE_SIZE_4K,
				  (ranges[i].end - ranges[i].start) / PAGE_SIZE_4K);
		}
		if (arg.walk_end <= arg.start) {
			return -EIO;
		}
		arg.start = arg.walk_end;
	}
	return 0;
}

static int by_entries(const struct span *span, int pagemap_fd, uint64_t *bitmap)
{
	const struct guest_region *region = span->region;
	uint64_t entries[512];
	uint64_t pages = span->len / PAGE_SIZE_4K,
		 first = ((uintptr_t)region->host + span->offset) / PAGE_SIZE_4K;
	bool private_file = region->backing == GUEST_MEMORY_FILE_PRIVATE;

	for (uint64_t page = 0; page < pages;) {
		uint64_t count = MIN(pages - page, (uint64_t)ARRAY_SIZE(entries));
		ssize_t n = pread(pagemap_fd, entries, count * sizeof(entries[0]),
				  (off_t)((first + page) * sizeof(entries[0])));

		if (n < (ssize_t)sizeof(entries[0])) {
			return n < 0 ? -errno : -EIO;
		}
		count = (uint64_t)n / sizeof(entries[0]);
		for (uint64_t i = 0; i < count; i++) {
			if ((entries[i] & (MAP_PRESENT | MAP_SWAPPED)) != 0 &&
			    (!private_file || (entries[i] & MAP_FILE) == 0)) {
				set_range(bitmap, page + i, 1);
			}
		}
		page += count;
	}
	return 0;
}

static int by_pagemap(const struct span *span, int pagemap_fd, uint64_t *bitmap)
{
	int r = by_scan(span, pagemap_fd, bitmap);

	return r == -ENOTTY || r == -EINVAL ? by_entries(span, pagemap_fd, bitmap) : r;
}

int region_touched(const struct guest_region *region, uint64_t offset, uint64_t len, int pagemap_fd,
		   uint64_t *bitmap)
{
	const struct span span = { region, offset, len };
	const uint64_t *known = atomic_load(&region->content);
	bool in_file = region->backing == GUEST_MEMORY_MEMFD ||
		       region->backing == GUEST_MEMORY_FILE_SHARED;

	VMM_BUG_ON(offset % (64 * PAGE_SIZE_4K) != 0);
	if (!in_file && pagemap_fd < 0) {
		set_all(&span, bitmap);
		return 0;
	}
	if (known != NULL) {
		const uint64_t *content = known + offset / PAGE_SIZE_4K / 64;

		for (uint64_t i = 0; i < ALIGN_UP(len / PAGE_SIZE_4K, 64) / 64; i++) {
			bitmap[i] |= content[i];
		}
	} else if (in_file || region->backing == GUEST_MEMORY_FILE_PRIVATE) {
		if (!by_holes(&span, bitmap)) {
			set_all(&span, bitmap);
		}
	}
	return in_file ? 0 : by_pagemap(&span, pagemap_fd, bitmap);
}

int guest_region_touched(const struct guest_memory *mem, uint32_t index, int pagemap_fd,
			 uint64_t *bitmap, uint64_t bits, struct error *e)
{
	const struct guest_region *region = &mem->regions[index];
	int r;

	VMM_BUG_ON(index >= mem->region_count || bits < region->size / PAGE_SIZE_4K);
	r = region_touched(region, 0, region->size, pagemap_fd, bitmap);
	return r == 0 ? 0
		      : error_set_sys(e, ERROR_INTERNAL, -r,
				      "which pages of guest memory are in use");
}

int guest_region_changed(const struct guest_memory *mem, uint32_t index, int pagemap_fd,
			 uint64_t *bitmap, uint64_t bits, struct error *e)
{
	const struct guest_region *region = &mem->regions[index];
	const struct span span = { region, 0, region->size };
	int r;

	VMM_BUG_ON(index >= mem->region_count || bits < region->size / PAGE_SIZE_4K);
	if (region->backing != GUEST_MEMORY_FILE_PRIVATE || pagemap_fd < 0) {
		set_all(&span, bitmap);
		return 0;
	}
	r = by_pagemap(&span, pagemap_fd, bitmap);
	return r == 0 ? 0
		      : error_set_sys(e, ERROR_INTERNAL, -r,
				      "which pages of guest memory were written");
}
