/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a snapshot that was opened. A page is what the newest snapshot of the chain says that has it, as stored or as zero,
 * and zero if none has.
 *
 * The checksum of a chunk is that of all its stored pages, so whoever wants it checked reads all of them, those that a
 * newer snapshot has replaced as well: layers are read from the oldest to the newest over each other.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "internal.h"
#include "vmm/crc32c.h"

/* The stored pages of a chunk that is not packed. */
static int read_pages(const struct layer *layer, const struct chunk_entry *entry,
		      const struct chunk_pages *maps, uint8_t *buf, struct error *e)
{
	uint64_t at = (uint64_t)entry->chunk * SNAPSHOT_CHUNK;
	int r = 0;

	for (uint64_t page = 0; r == 0 && page < PAGES_PER_CHUNK;) {
		uint64_t n = run_length(maps->stored, page, PAGES_PER_CHUNK);

		if (n != 0) {
			r = file_read(layer->memory, buf + page * PAGE_SIZE_4K, n * PAGE_SIZE_4K,
				      at + page * PAGE_SIZE_4K, layer->memory_shown, e);
		}
		page += MAX(n, 1ULL);
	}
	return r;
}

int layer_read_entry(const struct layer *layer, const struct chunk_entry *entry,
		     const struct chunk_pages *maps, uint8_t *buf, struct error *e)
{
	uint64_t at = (uint64_t)entry->chunk * SNAPSHOT_CHUNK;
	uint32_t crc = 0;
	int r = layer->packed ? pack_read(layer->pack, layer->memory, &entry->frame, buf,
					  maps->stored, layer->memory_shown, e)
			      : read_pages(layer, entry, maps, buf, e);

	if (r < 0) {
		return r;
	}
	for (uint64_t page = 0; page < PAGES_PER_CHUNK;) {
		uint64_t n = run_length(maps->stored, page, PAGES_PER_CHUNK);

		crc = crc32c(crc, buf + page * PAGE_SIZE_4K, n * PAGE_SIZE_4K);
		page += MAX(n, 1ULL);
	}
	if (crc != entry->crc) {
		(void)error_set(e, ERROR_SNAPSHOT, EBADMSG,
				"'%s': the checksum of the 2 MiB at byte %" PRIu64 "%s is wrong",
				layer->memory_shown, at, layer->packed ? ", unpacked," : "");
		return error_hint(e, "the file is damaged: use another copy of the snapshot");
	}
	return 0;
}

/* The guest's address of a chunk of the newest. */
static gpa_t chunk_gpa(const struct snapshot_reader *r, uint32_t chunk, uint32_t *pages)
{
	const struct layout *layout = &r->layers[0]->table.layout;
	uint32_t region = 0;

	*pages = layout_chunk_pages(layout, chunk, &region);
	return layout->regions[region].gpa +
	       ((uint64_t)chunk * SNAPSHOT_CHUNK - layout->regions[region].offset);
}

/* What a layer says of the chunk at `gpa`; false: nothing. */
static bool entry_at(const struct layer *layer, gpa_t gpa, uint32_t pages,
		     const struct chunk_entry **entry, struct chunk_pages *maps)
{
	uint32_t chunk;

	if (!layer_chunk_at(layer, gpa, &chunk)) {
		return false;
	}
	*entry = layout_table_find(&layer->table, chunk);
	if (*entry == NULL) {
		return false;
	}
	chunk_entry_pages(*entry, pages, maps);
	return true;
}

int reader_chunk(const struct snapshot_reader *r, uint32_t chunk, uint8_t *buf,
		 uint64_t present[MAP_WORDS], struct error *e)
{
	uint32_t pages;
	gpa_t gpa = chunk_gpa(r, chunk, &pages);

	memset(present, 0, MAP_WORDS * sizeof(present[0]));
	for (uint32_t i = r->depth; i-- > 0;) {
		const struct chunk_entry *entry;
		struct chunk_pages maps;
		int x;

		if (!entry_at(r->layers[i], gpa, pages, &entry, &maps)) {
			continue;
		}
		x = layer_read_entry(r->layers[i], entry, &maps, buf, e);
		if (x < 0) {
			return x;
		}
		for (uint32_t page = 0; page < pages; page++) {
			if (page_is_set(maps.stored, page)) {
				page_set(present, page);
			} else if (page_is_set(maps.zero, page) && page_is_set(present, page)) {
				memset(buf + page * PAGE_SIZE_4K, 0, PAGE_SIZE_4K);
				page_clear(present, page);
			}
		}
	}
	return 0;
}

void reader_sources(const struct snapshot_reader *r, uint32_t chunk,
		    uint8_t sources[PAGES_PER_CHUNK], uint64_t present[MAP_WORDS])
{
	uint32_t pages;
	gpa_t gpa = chunk_gpa(r, chunk, &pages);

	memset(sources, LAYER_NONE, PAGES_PER_CHUNK);
	memset(present, 0, MAP_WORDS * sizeof(present[0]));
	for (uint32_t i = r->depth; i-- > 0;) {
		const struct chunk_entry *entry;
		struct chunk_pages maps;

		if (!entry_at(r->layers[i], gpa, pages, &entry, &maps)) {
			continue;
		}
		for (uint32_t page = 0; page < pages; page++) {
			if (page_is_set(maps.stored, page)) {
				sources[page] = (uint8_t)i;
				page_set(present, page);
			} else if (page_is_set(maps.zero, page)) {
				sources[page] = (uint8_t)i;
				page_clear(present, page);
			}
		}
	}
}

/* --- all of them --- */

struct verify {
	const struct snapshot_reader *r;
};

static int verify_one(void *arg, void *scratch, uint64_t item, uint64_t *done, struct error *e)
{
	const struct verify *v = arg;
	const struct chunk_entry *entry;
	struct chunk_pages maps;
	uint32_t i = 0, region = 0, pages;

	while (item >= v->r->layers[i]->table.count) {
		item -= v->r->layers[i]->table.count;
		i++;
	}
	entry = &v->r->layers[i]->table.entries[item];
	pages = layout_chunk_pages(&v->r->layers[i]->table.layout, entry->chunk, &region);
	chunk_entry_pages(entry, pages, &maps);
	*done = map_count(maps.stored) * PAGE_SIZE_4K;
	return layer_read_entry(v->r->layers[i], entry, &maps, scratch, e);
}

int snapshot_reader_verify(struct snapshot_reader *r, uint32_t threads,
			   const struct snapshot_watch *watch, struct error *e)
{
	struct verify v = { r };
	struct parallel p = { .one = verify_one,
			      .arg = &v,
			      .scratch_size = SNAPSHOT_CHUNK,
			      .what = "the check of a snapshot",
			      .phase = "verify",
			      .watch = watch };

	VMM_BUG_ON(r->state_only);
	for (uint32_t i = 0; i < r->depth; i++) {
		p.count += r->layers[i]->table.count;
		p.total += r->layers[i]->table.stored * PAGE_SIZE_4K;
	}
	return parallel_run(&p, threads, e);
}
