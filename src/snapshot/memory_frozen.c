/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a snapshot of a VM that runs, as a freezer (vmm/freezer.h) gives them: chunks as they were at one moment, in any order,
 * each once, so that each is summed and written once, as of a VM at rest (memory_write.c).
 *
 * Of one that is read early each chunk is marked when it is written (early.c), and between two it is heard who waits for one.
 *
 * One thread. Chunks are this process' own: their places are not in doubt.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"
#include "vmm/freezer.h"

#define PHASE "memory"

_Static_assert(sizeof(((struct freezer_chunk *)NULL)->pages) == MAP_BYTES,
	       "one is taken to write one");

void snapshot_writer_wanted(struct snapshot_writer *w, uint64_t *pages[GUEST_MEMORY_REGIONS_MAX])
{
	memset(pages, 0, GUEST_MEMORY_REGIONS_MAX * sizeof(pages[0]));
	for (uint32_t i = 0; i < w->layout.region_count; i++) {
		pages[w->regions[i].index] = w->regions[i].pages;
	}
}

static int write_chunk(struct snapshot_writer *w, const struct freezer_chunk *chunk,
		       struct error *e)
{
	uint32_t i = 0, place;
	int r;

	while (w->regions[i].index != chunk->index) {
		i++;
		VMM_BUG_ON(i >= w->layout.region_count);
	}
	memcpy(w->regions[i].pages + chunk->offset / PAGE_SIZE_4K / 64, chunk->pages,
	       sizeof(chunk->pages));
	place = (uint32_t)((w->layout.regions[i].offset + chunk->offset) / SNAPSHOT_CHUNK);
	r = snapshot_writer_chunk(w, place, chunk->bytes, e);
	if (r == 0 && w->early) {
		r = early_mark(w, place, map_count(w->chunks[place].stored) != 0);
		r = r < 0 ? file_error(e, -r, "write", w->place.memory_shown) : 0;
	}
	return r;
}

static bool go_on(struct snapshot_writer *w, uint64_t total)
{
	const uint64_t done = atomic_load(&w->looked);

	return w->watch.step == NULL ||
	       w->watch.step(w->watch.arg, w->early ? SNAPSHOT_PHASE_EARLY : PHASE, done,
			     MAX(done, total));
}

/* What is to come: of each chunk that was in use all pages, as far as anybody knows. */
static void expect(struct snapshot_writer *w, const struct freezer *freezer)
{
	for (uint32_t chunk = 0; chunk < w->chunk_count; chunk++) {
		uint32_t region = 0, pages = layout_chunk_pages(&w->layout, chunk, &region);
		const uint64_t *due = freezer_due(freezer, w->regions[region].index);

		if (due != NULL &&
		    page_is_set(due, chunk - w->layout.regions[region].offset / SNAPSHOT_CHUNK)) {
			for (uint32_t page = 0; page < pages; page++) {
				page_set(w->chunks[chunk].stored, page);
			}
		}
	}
}

int snapshot_writer_publish(struct snapshot_writer *w, const struct freezer *freezer,
			    const struct snapshot_contents *contents, struct error *e)
{
	int r = early_prepare(w, e);

	if (r < 0) {
		return r;
	}
	expect(w, freezer);
	r = snapshot_writer_commit(w, contents, e);
	memset(w->chunks, 0, w->chunk_count * sizeof(w->chunks[0]));
	if (r == 0 && w->watch.step != NULL) {
		(void)w->watch.step(w->watch.arg, SNAPSHOT_PHASE_EARLY, 0, 0);
	}
	return r;
}

int snapshot_writer_frozen(struct snapshot_writer *w, struct freezer *freezer, struct error *e)
{
	const uint64_t total = freezer_bytes(freezer);

	VMM_BUG_ON(w->early && !w->committed);
	for (;;) {
		struct freezer_chunk chunk;
		int r;

		if (w->early) {
			early_hear(w, freezer);
		}
		r = freezer_take(freezer, &chunk, e);

		if (r == FREEZER_TAKEN) {
			r = write_chunk(w, &chunk, e);
			freezer_give_back(freezer, &chunk);
			r = r < 0 ? r : FREEZER_TAKEN;
		}
		if (r < 0 || r == FREEZER_END) {
			return r;
		}
		if (!go_on(w, total)) {
			atomic_store(&w->stop, true);
			return error_set(e, ERROR_CANCELLED, ECANCELED,
					 "snapshot '%s' was cancelled", w->place.shown);
		}
	}
}
