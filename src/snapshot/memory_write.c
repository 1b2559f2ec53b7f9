/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a snapshot that is being written.
 *
 * For each chunk of 2 MiB that has a page set: pages of zeroes are found and left out (in a diff they are noted), the others are
 * summed and written in runs, each with one system call, from guest memory itself. The disk is told to begin at
 * once, so that the sync at the end finds little to do.
 *
 * Threads: chunks are taken from a counter; two never touch the same words of a table. A failure, or a watcher who has had
 * enough, stops all. Guest memory is at rest; were it not, its checksum would be wrong, nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/bytes.h"
#include "vmm/crc32c.h"

#define PHASE "memory"

uint64_t *snapshot_writer_pages(struct snapshot_writer *w, uint32_t index, uint64_t *bits)
{
	for (uint32_t i = 0; i < w->layout.region_count; i++) {
		if (w->regions[i].index == index) {
			*bits = w->regions[i].bits;
			return w->regions[i].pages;
		}
	}
	return NULL;
}

int snapshot_writer_scan(struct snapshot_writer *w, struct error *e)
{
	for (uint32_t i = 0; i < w->layout.region_count; i++) {
		const struct writer_region *region = &w->regions[i];
		int r = guest_region_touched(w->mem, region->index, w->pagemap_fd, region->pages,
					     region->bits, e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

uint64_t snapshot_writer_bytes(const struct snapshot_writer *w)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < w->layout.region_count; i++) {
		for (uint64_t word = 0; word < w->regions[i].bits / 64; word++) {
			pages += (uint64_t)__builtin_popcountll(w->regions[i].pages[word]);
		}
	}
	return pages * PAGE_SIZE_4K;
}

uint64_t snapshot_writer_stored(const struct snapshot_writer *w)
{
	return atomic_load(&w->stored);
}

uint32_t snapshot_writer_chunks(const struct snapshot_writer *w)
{
	return w->chunk_count;
}

void snapshot_writer_chunk_place(const struct snapshot_writer *w, uint32_t chunk, uint32_t *index,
				 uint64_t *offset, uint64_t *len)
{
	uint32_t region;
	uint32_t pages = layout_chunk_pages(&w->layout, chunk, &region);

	VMM_BUG_ON(pages == 0);
	*index = w->regions[region].index;
	*offset = (uint64_t)chunk * SNAPSHOT_CHUNK - w->layout.regions[region].offset;
	*len = pages * PAGE_SIZE_4K;
}

/* Sums pages [first, first + n) of a chunk and writes them. */
static int write_run(struct snapshot_writer *w, uint32_t chunk, const uint8_t *bytes,
		     uint32_t first, uint32_t n)
{
	uint64_t at = (uint64_t)chunk * SNAPSHOT_CHUNK + first * PAGE_SIZE_4K;

	return file_write(w->place.memory, bytes + first * PAGE_SIZE_4K, n * PAGE_SIZE_4K, at);
}

static int write_pages(struct snapshot_writer *w, uint32_t chunk, const uint8_t *bytes,
		       const uint64_t look[MAP_WORDS], uint32_t pages)
{
	struct chunk_pages *maps = &w->chunks[chunk];
	uint32_t crc = 0, run = 0;
	int r = 0;

	for (uint32_t page = 0; r == 0 && page <= pages; page++) {
		bool store = page < pages && page_is_set(look, page) &&
			     !page_is_zero(bytes + page * PAGE_SIZE_4K);

		if (store) {
			/* Nobody ever checks one that was read early. */
			crc = w->early ? 0 : crc32c(crc, bytes + page * PAGE_SIZE_4K, PAGE_SIZE_4K);
			page_set(maps->stored, page);
			run++;
			continue;
		}
		if (run != 0 && !w->packed) {
			r = write_run(w, chunk, bytes, page - run, run);
		}
		run = 0;
		if (w->diff && page < pages && page_is_set(look, page)) {
			page_set(maps->zero, page);
		}
	}
	w->crcs[chunk] = crc;
	if (r == 0 && w->packed) {
		r = pack_write(&w->pack, w->place.memory, &w->packed_end, bytes, maps->stored,
			       &w->frames[chunk]);
	}
	return r;
}

int snapshot_writer_chunk(struct snapshot_writer *w, uint32_t chunk, const uint8_t *bytes,
			  struct error *e)
{
	uint32_t region = 0, pages = layout_chunk_pages(&w->layout, chunk, &region);
	const uint64_t *look;
	uint64_t stored;
	int r;

	VMM_BUG_ON(pages == 0);
	look = w->regions[region].pages +
	       ((uint64_t)chunk * SNAPSHOT_CHUNK - w->layout.regions[region].offset) /
		       PAGE_SIZE_4K / 64;
	r = write_pages(w, chunk, bytes, look, pages);
	if (r < 0) {
		atomic_store(&w->stop, true);
		return file_error(e, -r, "write", w->place.memory_shown);
	}
	stored = map_count(w->chunks[chunk].stored) * PAGE_SIZE_4K;
	atomic_fetch_add(&w->stored, stored);
	atomic_fetch_add(&w->looked, map_count(look) * PAGE_SIZE_4K);
	if (w->sync && stored != 0) {
		uint64_t at =
			w->packed ? w->frames[chunk].offset : (uint64_t)chunk * SNAPSHOT_CHUNK;
		uint64_t len = w->packed ? w->frames[chunk].length : SNAPSHOT_CHUNK;

		/* A wish: what it meets the sync reports. */
		(void)sync_file_range(w->place.memory, (off_t)at, (off_t)len,
				      SYNC_FILE_RANGE_WRITE);
	}
	return 0;
}

static const uint8_t *chunk_host(const struct snapshot_writer *w, uint32_t chunk, bool *any)
{
	uint32_t region = 0;
	uint64_t offset;

	(void)layout_chunk_pages(&w->layout, chunk, &region);
	offset = (uint64_t)chunk * SNAPSHOT_CHUNK - w->layout.regions[region].offset;
	*any = map_count(w->regions[region].pages + offset / PAGE_SIZE_4K / 64) != 0;
	return w->regions[region].host + offset;
}

int snapshot_writer_run(struct snapshot_writer *w, struct error *e)
{
	uint64_t total = snapshot_writer_bytes(w);

	VMM_BUG_ON(w->mem == NULL);
	for (;;) {
		uint32_t chunk = atomic_fetch_add(&w->next, 1);
		const uint8_t *host;
		bool any;
		int r;

		if (atomic_load(&w->stop)) {
			return error_set(e, ERROR_CANCELLED, ECANCELED,
					 "snapshot '%s' was cancelled", w->place.shown);
		}
		if (chunk >= w->chunk_count) {
			atomic_store(&w->next, w->chunk_count);
			return 0;
		}
		host = chunk_host(w, chunk, &any);
		if (!any) {
			continue;
		}
		r = snapshot_writer_chunk(w, chunk, host, e);
		if (r < 0) {
			return r;
		}
		if (w->watch.step != NULL &&
		    !w->watch.step(w->watch.arg, PHASE, atomic_load(&w->looked), total)) {
			atomic_store(&w->stop, true);
		}
	}
}
