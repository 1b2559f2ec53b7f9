/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is made of snapshots without a VM: of a chain one full snapshot, of two their difference.
 *
 * Pages are read with their checksums and written by the writer, chunk by chunk. Two snapshots that share a parent differ only where
 * their pages come from different files, so nothing else is read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct merge {
	const struct snapshot_reader *r;
	struct snapshot_writer *w;
};

static int merge_one(void *arg, void *scratch, uint64_t item, uint64_t *done, struct error *e)
{
	const struct merge *m = arg;
	uint64_t present[MAP_WORDS];
	uint32_t chunk = (uint32_t)item, region = 0;
	uint64_t first;
	int r;

	memset(scratch, 0, SNAPSHOT_CHUNK);
	r = reader_chunk(m->r, chunk, scratch, present, e);
	if (r < 0 || map_count(present) == 0) {
		return r;
	}
	(void)layout_chunk_pages(&m->w->layout, chunk, &region);
	first = (item * SNAPSHOT_CHUNK - m->w->layout.regions[region].offset) / PAGE_SIZE_4K;
	memcpy(m->w->regions[region].pages + first / 64, present, sizeof(present));
	*done = map_count(present) * PAGE_SIZE_4K;
	return snapshot_writer_chunk(m->w, chunk, scratch, e);
}

int snapshot_merge(struct snapshot_reader *r, const struct snapshot_merge *how,
		   char id[SNAPSHOT_ID_TEXT], struct error *e)
{
	const struct snapshot_writer_config config = { .paths = how->paths,
						       .pagemap_fd = -1,
						       .compress = how->compress,
						       .no_sync = how->no_sync };
	const struct snapshot_contents contents = { .about = how->about != NULL ? how->about
										: r->info.about,
						    .config = r->info.config,
						    .machine = r->info.machine,
						    .machine_len = r->info.machine_len };
	struct merge m = { .r = r };
	struct parallel p = { .one = merge_one,
			      .arg = &m,
			      .count = r->layers[0]->table.layout.length / SNAPSHOT_CHUNK,
			      .scratch_size = SNAPSHOT_CHUNK,
			      .what = "the merge of snapshots",
			      .phase = "memory",
			      .watch = &how->watch };
	int x;

	VMM_BUG_ON(r->state_only);
	for (uint32_t i = 0; i < r->depth; i++) {
		p.total += r->layers[i]->table.stored * PAGE_SIZE_4K;
	}
	x = writer_create(&m.w, &config, &r->layers[0]->table.layout, e);
	x = x == 0 ? parallel_run(&p, how->threads, e) : x;
	if (x == 0 && how->also != NULL) {
		x = how->also(how->also_arg, snapshot_writer_directory(m.w), e);
	}
	x = x == 0 ? snapshot_writer_commit(m.w, &contents, e) : x;
	if (x == 0) {
		memcpy(id, m.w->id_text, SNAPSHOT_ID_TEXT);
	}
	snapshot_writer_destroy(m.w);
	return x;
}

/* --- the difference of two --- */

struct side {
	const struct snapshot_reader *r;
	uint8_t *bytes;
	uint8_t sources[PAGES_PER_CHUNK];
	uint64_t present[MAP_WORDS];
};

static const struct snapshot_id *source_id(const struct side *side, uint32_t page)
{
	uint8_t source = side->sources[page];

	return source == LAYER_NONE ? NULL : &side->r->layers[source]->file.header.id;
}

/* Both have it out of the same file, or neither has it. */
static bool same_source(const struct side *a, const struct side *b, uint32_t page)
{
	const struct snapshot_id *x = source_id(a, page), *y = source_id(b, page);

	if (!page_is_set(a->present, page) && !page_is_set(b->present, page)) {
		return true;
	}
	return x != NULL && y != NULL && id_equal(x, y);
}

static int read_side(struct side *side, uint32_t chunk, struct error *e)
{
	memset(side->bytes, 0, SNAPSHOT_CHUNK);
	return reader_chunk(side->r, chunk, side->bytes, side->present, e);
}

/* Pages of a chunk that both have: which of them differ. */
static int compare_chunk(struct side *a, struct side *b, uint32_t a_chunk, uint32_t b_chunk,
			 uint32_t pages, uint64_t differ[MAP_WORDS], struct error *e)
{
	uint64_t maybe[MAP_WORDS] = { 0 };
	int r;

	reader_sources(a->r, a_chunk, a->sources, a->present);
	reader_sources(b->r, b_chunk, b->sources, b->present);
	for (uint32_t page = 0; page < pages; page++) {
		if (!same_source(a, b, page)) {
			page_set(maybe, page);
		}
	}
	memset(differ, 0, MAP_WORDS * sizeof(differ[0]));
	if (map_count(maybe) == 0) {
		return 0;
	}
	r = read_side(a, a_chunk, e);
	r = r == 0 ? read_side(b, b_chunk, e) : r;
	for (uint32_t page = 0; r == 0 && page < pages; page++) {
		if (page_is_set(maybe, page) &&
		    memcmp(a->bytes + page * PAGE_SIZE_4K, b->bytes + page * PAGE_SIZE_4K,
			   PAGE_SIZE_4K) != 0) {
			page_set(differ, page);
		}
	}
	return r;
}

/* The ranges of a chunk that differ, joined with what came right before. */
struct ranges {
	const struct snapshot_compare *how;
	gpa_t start;
	uint64_t len;
};

static void end_range(struct ranges *ranges)
{
	if (ranges->len != 0 && ranges->how->range != NULL) {
		ranges->how->range(ranges->how->arg, ranges->start, ranges->len);
	}
	ranges->len = 0;
}

static void add_ranges(struct ranges *ranges, gpa_t gpa, const uint64_t differ[MAP_WORDS])
{
	for (uint32_t page = 0; page < PAGES_PER_CHUNK; page++) {
		gpa_t at = gpa + page * PAGE_SIZE_4K;

		if (!page_is_set(differ, page)) {
			continue;
		}
		if (ranges->len == 0 || ranges->start + ranges->len != at) {
			end_range(ranges);
			ranges->start = at;
		}
		ranges->len += PAGE_SIZE_4K;
	}
}

static int compare_all(struct side *a, struct side *b, const struct snapshot_compare *how,
		       struct snapshot_difference *ret, struct error *e)
{
	const struct layout *layout = &a->r->layers[0]->table.layout;
	const struct layout *other = &b->r->layers[0]->table.layout;
	uint32_t chunks = (uint32_t)(layout->length / SNAPSHOT_CHUNK);
	struct ranges ranges = { .how = how };
	uint64_t differ[MAP_WORDS], done = 0;

	for (uint32_t chunk = 0; chunk < chunks; chunk++) {
		uint32_t region = 0, b_region = 0, b_chunk = 0;
		uint32_t pages = layout_chunk_pages(layout, chunk, &region);
		gpa_t gpa = layout->regions[region].gpa +
			    ((uint64_t)chunk * SNAPSHOT_CHUNK - layout->regions[region].offset);
		uint32_t common = 0;
		int r;

		if (layer_chunk_at(b->r->layers[0], gpa, &b_chunk)) {
			common = MIN(pages, layout_chunk_pages(other, b_chunk, &b_region));
		}
		ret->only_first += (pages - common) * PAGE_SIZE_4K;
		ret->compared += common * PAGE_SIZE_4K;
		r = common == 0 ? 0 : compare_chunk(a, b, chunk, b_chunk, common, differ, e);
		if (r < 0) {
			return r;
		}
		if (common != 0) {
			ret->different += map_count(differ) * PAGE_SIZE_4K;
			add_ranges(&ranges, gpa, differ);
		}
		done += pages * PAGE_SIZE_4K;
		if (how->watch.step != NULL &&
		    !how->watch.step(how->watch.arg, "compare", done, layout->memory_size)) {
			return error_set(e, ERROR_CANCELLED, ECANCELED,
					 "the comparison of snapshots was cancelled");
		}
	}
	end_range(&ranges);
	ret->only_second = other->memory_size - ret->compared;
	return 0;
}

int snapshot_compare(struct snapshot_reader *first, struct snapshot_reader *second,
		     const struct snapshot_compare *how, struct snapshot_difference *ret,
		     struct error *e)
{
	struct side *sides = calloc(2, sizeof(*sides));
	uint8_t *bytes = malloc(2 * SNAPSHOT_CHUNK);
	struct snapshot_difference difference = { 0 };
	int r;

	VMM_BUG_ON(first->state_only || second->state_only);
	if (sides == NULL || bytes == NULL) {
		r = error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "comparison of snapshots");
		goto done;
	}
	sides[0].r = first;
	sides[0].bytes = bytes;
	sides[1].r = second;
	sides[1].bytes = bytes + SNAPSHOT_CHUNK;
	r = compare_all(&sides[0], &sides[1], how, &difference, e);
	if (r == 0) {
		*ret = difference;
	}
done:
	free(sides);
	free(bytes);
	return r;
}
