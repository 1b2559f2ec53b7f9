/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a snapshot of a VM that runs, as a freezer (vmm/freezer.h) gives them: chunks as they were at one moment, in any order,
 * each once, so that each is summed and written once, as of a VM at rest (memory_write.c).
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
	uint32_t i = 0;

	while (w->regions[i].index != chunk->index) {
		i++;
		VMM_BUG_ON(i >= w->layout.region_count);
	}
	memcpy(w->regions[i].pages + chunk->offset / PAGE_SIZE_4K / 64, chunk->pages,
	       sizeof(chunk->pages));
	return snapshot_writer_chunk(
		w, (uint32_t)((w->layout.regions[i].offset + chunk->offset) / SNAPSHOT_CHUNK),
		chunk->bytes, e);
}

static bool go_on(struct snapshot_writer *w, uint64_t total)
{
	const uint64_t done = atomic_load(&w->looked);

	return w->watch.step == NULL || w->watch.step(w->watch.arg, PHASE, done, MAX(done, total));
}

int snapshot_writer_frozen(struct snapshot_writer *w, struct freezer *freezer, struct error *e)
{
	const uint64_t total = freezer_bytes(freezer);

	for (;;) {
		struct freezer_chunk chunk;
		int r = freezer_take(freezer, &chunk, e);

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
