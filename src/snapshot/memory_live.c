/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a snapshot of a VM that runs: written again as often as the guest writes them, until few are left, which are copied
 * while it stands still.
 *
 *	pass()		the VM runs: the pages that are set go into the file as they are at some moment
 *	hold()		the VM stands still: those that are set are copied into memory; nothing else is done
 *	settle()	the VM runs: what was copied goes into the file, and then chunks are summed, from the file
 *
 * What a pass writes while the guest changes it is torn, and noted by whoever tracks the pages (vmm/guest_memory.h), so it is
 * written again. A page that was stored stays stored, if as zeroes, because what the file had would show through.
 *
 * What is to be compressed goes into a file without a name first, and from there, chunk by chunk, into the snapshot's.
 *
 * One thread. Memory for what hold() copies is reserved before, and the first part of it is there already, so that the pause has
 * no page faults for a guest that writes little.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"
#include "vmm/crc32c.h"

#define PHASE	"memory, again"
#define SUMMING "checksums"
/* There before the pause: as much as can be copied in some 5 ms. */
#define READY_PAGES 8192

int live_create(struct live *live, uint64_t pages, struct error *e)
{
	*live = (struct live){ .room = pages };
	live->bytes = mmap(NULL, pages * PAGE_SIZE_4K, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	live->places = mmap(NULL, pages * sizeof(*live->places), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (live->bytes == MAP_FAILED || live->places == MAP_FAILED) {
		live->bytes = live->bytes == MAP_FAILED ? NULL : live->bytes;
		live->places = live->places == MAP_FAILED ? NULL : live->places;
		live_finish(live);
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "snapshot of a VM that runs");
	}
	/* Of huge pages, if the host has them: a fault and an entry of the TLB for 512. */
	(void)madvise(live->bytes, pages * PAGE_SIZE_4K, MADV_HUGEPAGE);
	memset(live->bytes, 0, MIN(pages, (uint64_t)READY_PAGES) * PAGE_SIZE_4K);
	memset(live->places, 0, MIN(pages, (uint64_t)READY_PAGES) * sizeof(*live->places));
	return 0;
}

void live_finish(struct live *live)
{
	if (live->bytes != NULL) {
		(void)munmap(live->bytes, live->room * PAGE_SIZE_4K);
	}
	if (live->places != NULL) {
		(void)munmap(live->places, live->room * sizeof(*live->places));
	}
	*live = (struct live){ 0 };
}

int snapshot_writer_begin_live(struct snapshot_writer *w, struct error *e)
{
	int r = 0;

	VMM_BUG_ON(w->mem == NULL || w->live.room != 0);
	if (w->packed) {
		r = place_scratch(&w->place, w->id_text, &w->scratch, e);
	}
	return r == 0 ? live_create(&w->live, w->layout.length / PAGE_SIZE_4K, e) : r;
}

/* The page stands in the file from now on, or is known to be zero. */
static bool note_page(struct snapshot_writer *w, uint32_t chunk, uint32_t page,
		      const uint8_t *bytes)
{
	struct chunk_pages *maps = &w->chunks[chunk];

	if (!page_is_set(maps->stored, page) && page_is_zero(bytes)) {
		if (w->diff) {
			page_set(maps->zero, page);
		}
		return false;
	}
	if (!page_is_set(maps->stored, page)) {
		atomic_fetch_add(&w->stored, PAGE_SIZE_4K);
	}
	page_set(maps->stored, page);
	page_clear(maps->zero, page);
	return true;
}

/* Where pages are until they are summed: what is compressed cannot be written again. */
static int pages_file(const struct snapshot_writer *w)
{
	return w->packed ? w->scratch : w->place.memory;
}

static int write_at(struct snapshot_writer *w, const uint8_t *bytes, uint64_t page, uint64_t n,
		    struct error *e)
{
	int r = file_write(pages_file(w), bytes, n * PAGE_SIZE_4K, page * PAGE_SIZE_4K);

	return r < 0 ? file_error(e, -r, "write", w->place.memory_shown) : 0;
}

/* Pages of one chunk that are set, in runs, by way of where hold() will have its pages. */
static int pass_chunk(struct snapshot_writer *w, uint32_t chunk, const uint8_t *host,
		      const uint64_t *look, uint32_t pages, struct error *e)
{
	uint64_t first = (uint64_t)chunk * PAGES_PER_CHUNK;
	uint8_t *copy = w->live.bytes;
	uint32_t run = 0;
	int r = 0;

	for (uint32_t page = 0; r == 0 && page <= pages; page++) {
		const size_t at = page * PAGE_SIZE_4K;
		bool set = page < pages && page_is_set(look, page);

		if (set) {
			page_copy_unsteady(copy + at, host + at);
		}
		if (set && note_page(w, chunk, page, copy + at)) {
			run++;
		} else if (run != 0) {
			r = write_at(w, copy + at - run * PAGE_SIZE_4K, first + page - run, run, e);
			run = 0;
		}
	}
	return r;
}

/* Calls `use` for each chunk of which pages are set. */
static int each_chunk(struct snapshot_writer *w, const char *phase,
		      int (*use)(struct snapshot_writer *w, uint32_t chunk, const uint8_t *host,
				 const uint64_t *look, uint32_t pages, struct error *e),
		      struct error *e)
{
	uint64_t total = phase != NULL ? snapshot_writer_bytes(w) : 0, done = 0;

	for (uint32_t chunk = 0; chunk < w->chunk_count; chunk++) {
		uint32_t region = 0, pages = layout_chunk_pages(&w->layout, chunk, &region);
		uint64_t offset =
			(uint64_t)chunk * SNAPSHOT_CHUNK - w->layout.regions[region].offset;
		const uint64_t *look = w->regions[region].pages + offset / PAGE_SIZE_4K / 64;
		uint64_t count = map_count(look);
		int r;

		if (count == 0) {
			continue;
		}
		r = use(w, chunk, w->regions[region].host + offset, look, pages, e);
		if (r < 0) {
			return r;
		}
		done += count * PAGE_SIZE_4K;
		if (phase != NULL && w->watch.step != NULL &&
		    !w->watch.step(w->watch.arg, phase, done, total)) {
			return error_set(e, ERROR_CANCELLED, ECANCELED,
					 "snapshot '%s' was cancelled", w->place.shown);
		}
	}
	return 0;
}

static void forget_pages(struct snapshot_writer *w)
{
	for (uint32_t i = 0; i < w->layout.region_count; i++) {
		memset(w->regions[i].pages, 0, w->regions[i].bits / 8);
	}
}

int snapshot_writer_pass(struct snapshot_writer *w, struct error *e)
{
	int r = each_chunk(w, PHASE, pass_chunk, e);

	forget_pages(w);
	return r;
}

static int hold_chunk(struct snapshot_writer *w, uint32_t chunk, const uint8_t *host,
		      const uint64_t *look, uint32_t pages, struct error *e)
{
	struct live *live = &w->live;

	(void)e;
	for (uint32_t page = 0; page < pages; page++) {
		if (page_is_set(look, page)) {
			memcpy(live->bytes + live->count * PAGE_SIZE_4K, host + page * PAGE_SIZE_4K,
			       PAGE_SIZE_4K);
			live->places[live->count++] = (uint64_t)chunk * PAGES_PER_CHUNK + page;
		}
	}
	return 0;
}

void snapshot_writer_hold(struct snapshot_writer *w)
{
	VMM_BUG_ON(w->live.room == 0 || w->live.count != 0);
	(void)each_chunk(w, NULL, hold_chunk, NULL);
	forget_pages(w);
}

static int write_held(struct snapshot_writer *w, struct error *e)
{
	struct live *live = &w->live;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < live->count; i++) {
		const uint8_t *bytes = live->bytes + i * PAGE_SIZE_4K;
		uint64_t place = live->places[i];

		if (note_page(w, (uint32_t)(place / PAGES_PER_CHUNK),
			      (uint32_t)(place % PAGES_PER_CHUNK), bytes)) {
			r = write_at(w, bytes, place, 1, e);
		}
	}
	return r;
}

static int sum_chunk(struct snapshot_writer *w, uint32_t chunk, uint8_t *buf, struct error *e)
{
	const uint64_t *stored = w->chunks[chunk].stored;
	uint32_t crc = 0;
	int r = 0;

	for (uint64_t page = 0; page < PAGES_PER_CHUNK;) {
		uint64_t n = run_length(stored, page, PAGES_PER_CHUNK);
		uint8_t *to = buf + page * PAGE_SIZE_4K;

		if (n == 0) {
			page++;
			continue;
		}
		r = file_read(pages_file(w), to, n * PAGE_SIZE_4K,
			      (uint64_t)chunk * SNAPSHOT_CHUNK + page * PAGE_SIZE_4K,
			      w->place.memory_shown, e);
		if (r < 0) {
			return r;
		}
		crc = crc32c(crc, to, n * PAGE_SIZE_4K);
		page += n;
	}
	w->crcs[chunk] = crc;
	if (w->packed) {
		r = pack_write(&w->pack, w->place.memory, &w->packed_end, buf, stored,
			       &w->frames[chunk]);
	}
	return r < 0 ? file_error(e, -r, "write", w->place.memory_shown) : 0;
}

int snapshot_writer_settle(struct snapshot_writer *w, struct error *e)
{
	uint8_t *buf = malloc(SNAPSHOT_CHUNK);
	uint64_t done = 0, total = atomic_load(&w->stored);
	int r = buf != NULL ? write_held(w, e)
			    : error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "snapshot");

	live_finish(&w->live);
	for (uint32_t chunk = 0; r == 0 && chunk < w->chunk_count; chunk++) {
		uint64_t count = map_count(w->chunks[chunk].stored);

		r = count != 0 ? sum_chunk(w, chunk, buf, e) : 0;
		done += count * PAGE_SIZE_4K;
		if (r == 0 && count != 0 && w->watch.step != NULL &&
		    !w->watch.step(w->watch.arg, SUMMING, done, MAX(total, done))) {
			r = error_set(e, ERROR_CANCELLED, ECANCELED, "snapshot '%s' was cancelled",
				      w->place.shown);
		}
	}
	free(buf);
	return r;
}
