/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot's pages into a guest memory.
 *
 * Mapped: each region is a private mapping of the oldest snapshot's file, whose holes are zeroes. Where a newer one has
 * something (or says that a page is zero, where its file has a hole), its file is mapped over it, run by run. Mappings are a
 * bounded good of a process (vm.max_map_count), so only the longest runs are mapped, and the rest is copied: how long a run
 * must be follows from how many there are of each length.
 *
 * Chunks of which no file has anything become anonymous memory: there a guest's first access gets a huge page; of a hole in a
 * file it would get a page of the page cache, which in tmpfs is memory that the file then has, or a SIGBUS if it may not grow.
 *
 * Read: each chunk of 2 MiB goes straight into the guest's memory, layer by layer, and is checked there.
 *
 * The thread that builds the machine, and helpers of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"

#define MAPPINGS_DEFAULT 2048
/* Lengths of runs by powers of two. */
#define LENGTHS 40

/* Runs of pages of one region that come from other layers than the base. */
struct runs {
	const struct snapshot_reader *r;
	struct guest_memory *mem;
	uint32_t region; /* of the layout, and of `mem` */
	uint8_t base;
	uint64_t counts[LENGTHS]; /* first pass */
	uint64_t min_mapped;	  /* second pass: pages */
	uint64_t *content;
	/* The run that is open. */
	uint8_t source;
	uint64_t first, pages;
	bool second;
};

/* -ENOMEM, and `e` as it was: the host allows no more mappings. */
static int overlay(struct guest_memory *mem, uint32_t index, uint64_t offset, uint64_t len, int fd,
		   uint64_t at, struct error *e)
{
	struct error failure = { 0 };
	int r = guest_region_overlay(mem, index, offset, len, fd, at, &failure);

	if (r < 0 && r != -ENOMEM && e != NULL) {
		*e = failure;
	}
	return r;
}

static int copy_run(const struct runs *runs, const struct layer *layer, uint64_t at,
		    struct error *e)
{
	uint8_t *host = runs->mem->regions[runs->region].host + runs->first * PAGE_SIZE_4K;

	return file_read(layer->memory, host, runs->pages * PAGE_SIZE_4K, at, layer->memory_shown,
			 e);
}

static int end_run(struct runs *runs, struct error *e)
{
	const struct layer *layer = runs->r->layers[runs->source];
	gpa_t gpa = runs->r->info.regions[runs->region].gpa + runs->first * PAGE_SIZE_4K;
	uint32_t chunk = 0;
	uint64_t at;
	int r = 0;

	if (runs->pages == 0) {
		return 0;
	}
	if (!runs->second) {
		runs->counts[63 - __builtin_clzll(runs->pages)]++;
	} else {
		VMM_BUG_ON(!layer_chunk_at(layer, gpa, &chunk));
		at = (uint64_t)chunk * SNAPSHOT_CHUNK + gpa % SNAPSHOT_CHUNK;
		r = runs->pages < runs->min_mapped
			    ? -ENOMEM
			    : guest_region_overlay(
				      runs->mem, runs->region, runs->first * PAGE_SIZE_4K,
				      runs->pages * PAGE_SIZE_4K, layer->memory, at, e);
		/* Also if the host allows fewer mappings. */
		r = r == -ENOMEM ? copy_run(runs, layer, at, e) : r;
	}
	runs->pages = 0;
	return r;
}

static int add_page(struct runs *runs, uint64_t page, uint8_t source, struct error *e)
{
	int r = 0;

	if (runs->pages != 0 && source != runs->source) {
		r = end_run(runs, e);
	}
	if (r == 0 && source != LAYER_NONE && source != runs->base) {
		runs->first = runs->pages == 0 ? page : runs->first;
		runs->source = source;
		runs->pages++;
	}
	return r;
}

static int pass(struct runs *runs, bool second, struct error *e)
{
	const struct snapshot_region *region = &runs->r->info.regions[runs->region];
	uint64_t pages = region->size / PAGE_SIZE_4K;
	uint8_t sources[PAGES_PER_CHUNK];
	uint64_t present[MAP_WORDS];
	int r = 0;

	runs->second = second;
	for (uint64_t at = 0; r == 0 && at < pages; at += PAGES_PER_CHUNK) {
		reader_sources(runs->r,
			       (uint32_t)((region->offset + at * PAGE_SIZE_4K) / SNAPSHOT_CHUNK),
			       sources, present);
		for (uint64_t i = 0; r == 0 && i < MIN(pages - at, (uint64_t)PAGES_PER_CHUNK);
		     i++) {
			r = add_page(runs, at + i, sources[i], e);
		}
		if (second && runs->content != NULL) {
			memcpy(runs->content + at / 64, present, sizeof(present));
		}
	}
	return r == 0 ? end_run(runs, e) : r;
}

/* The files of newer snapshots over the base of a region. *mappings: how many more there may be. */
static int map_newer(const struct snapshot_reader *r, struct guest_memory *mem, uint32_t region,
		     uint8_t base, uint64_t *mappings, struct error *e)
{
	struct runs runs = { .r = r, .mem = mem, .region = region, .base = base };
	uint64_t bits = ALIGN_UP(r->info.regions[region].size, SNAPSHOT_CHUNK) / PAGE_SIZE_4K;
	uint64_t mapped = 0;
	int x = pass(&runs, false, e), length = LENGTHS;

	if (x < 0) {
		return x;
	}
	while (length > 0 && mapped + runs.counts[length - 1] <= *mappings) {
		mapped += runs.counts[--length];
	}
	*mappings -= mapped;
	runs.min_mapped = 1ULL << length;
	runs.content = calloc(bits / 64, sizeof(uint64_t));
	if (runs.content == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "memory of a snapshot");
	}
	x = pass(&runs, true, e);
	guest_region_set_content(mem, region, runs.content);
	return x;
}

uint64_t *reader_chunks_in_use(const struct snapshot_reader *r,
			       const struct snapshot_region *region)
{
	uint64_t chunks = ALIGN_UP(region->size, SNAPSHOT_CHUNK) / SNAPSHOT_CHUNK;
	uint64_t *used = calloc(chunks / 64 + 1, sizeof(*used));

	for (uint32_t i = 0; used != NULL && i < r->depth; i++) {
		const struct layout_table *table = &r->layers[i]->table;
		uint32_t first;

		if (!layer_chunk_at(r->layers[i], region->gpa, &first)) {
			continue;
		}
		for (uint32_t k = 0; k < table->count; k++) {
			if (table->entries[k].chunk >= first &&
			    table->entries[k].chunk - first < chunks) {
				page_set(used, table->entries[k].chunk - first);
			}
		}
	}
	return used;
}

/* Anonymous memory where no snapshot has anything. */
static int map_holes(const struct snapshot_reader *r, struct guest_memory *mem, uint32_t index,
		     uint64_t mappings, struct error *e)
{
	const struct snapshot_region *region = &r->info.regions[index];
	uint64_t chunks = ALIGN_UP(region->size, SNAPSHOT_CHUNK) / SNAPSHOT_CHUNK;
	uint64_t *used = reader_chunks_in_use(r, region);
	int x = 0;

	if (used == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "memory of a snapshot");
	}
	for (uint64_t chunk = 0; x == 0 && chunk < chunks && mappings > 0;) {
		uint64_t end = chunk, at = chunk * SNAPSHOT_CHUNK;

		while (end < chunks && !page_is_set(used, end)) {
			end++;
		}
		if (end > chunk) {
			x = overlay(mem, index, at, MIN(end * SNAPSHOT_CHUNK, region->size) - at,
				    -1, 0, e);
			mappings--;
		}
		chunk = end + 1;
	}
	free(used);
	/* They are better, not needed. */
	return x == -ENOMEM ? 0 : x;
}

/* The layer whose file lies under a region: the oldest if it has it, else the newest. */
static uint8_t base_of(const struct snapshot_reader *r, const struct snapshot_region *region,
		       uint64_t *offset)
{
	const struct layout *oldest = &r->layers[r->depth - 1]->table.layout;

	for (uint32_t i = 0; i < oldest->region_count; i++) {
		if (oldest->regions[i].gpa == region->gpa) {
			*offset = oldest->regions[i].offset;
			return (uint8_t)(r->depth - 1);
		}
	}
	*offset = region->offset;
	return 0;
}

static int load_mapped(const struct snapshot_reader *r, struct guest_memory *mem,
		       const struct snapshot_load *how, struct error *e)
{
	uint64_t mappings = how->mappings_max != 0 ? how->mappings_max : MAPPINGS_DEFAULT;

	for (uint32_t i = 0; i < r->info.region_count; i++) {
		const struct snapshot_region *region = &r->info.regions[i];
		struct guest_region_config config = { .kind = region->kind,
						      .gpa = region->gpa,
						      .size = region->size,
						      .backing = GUEST_MEMORY_FILE_PRIVATE };
		uint8_t base = base_of(r, region, &config.offset);
		int x;

		config.fd = fcntl(r->layers[base]->memory, F_DUPFD_CLOEXEC, 0);
		if (config.fd < 0) {
			return error_set_sys(e, ERROR_INTERNAL, errno, "memory of snapshot '%s'",
					     r->layers[base]->shown);
		}
		x = guest_memory_add(mem, &config, e);
		if (x < 0) {
			(void)close(config.fd);
			return x;
		}
		VMM_BUG_ON((uint32_t)x != i);
		x = r->depth > 1 ? map_newer(r, mem, i, base, &mappings, e) : 0;
		x = x == 0 ? map_holes(r, mem, i, mappings / 2, e) : x;
		if (x < 0) {
			return x;
		}
	}
	return 0;
}

struct load {
	const struct snapshot_reader *r;
	struct guest_memory *mem;
};

static int load_one(void *arg, void *scratch, uint64_t item, uint64_t *done, struct error *e)
{
	const struct load *load = arg;
	const struct layout *layout = &load->r->layers[0]->table.layout;
	uint64_t present[MAP_WORDS];
	uint32_t region = 0;
	int r;

	(void)scratch;
	(void)layout_chunk_pages(layout, (uint32_t)item, &region);
	r = reader_chunk(load->r, (uint32_t)item,
			 load->mem->regions[region].host +
				 (item * SNAPSHOT_CHUNK - layout->regions[region].offset),
			 present, e);
	*done = map_count(present) * PAGE_SIZE_4K;
	return r;
}

int reader_make_regions(const struct snapshot_reader *r, struct guest_memory *mem,
			enum guest_memory_backing backing, struct error *e)
{
	for (uint32_t i = 0; i < r->info.region_count; i++) {
		const struct snapshot_region *region = &r->info.regions[i];
		const struct guest_region_config config = { .kind = region->kind,
							    .gpa = region->gpa,
							    .size = region->size,
							    .backing = backing };
		int x = guest_memory_add(mem, &config, e);

		if (x < 0) {
			return x;
		}
		VMM_BUG_ON((uint32_t)x != i);
	}
	return 0;
}

static int load_read(const struct snapshot_reader *r, struct guest_memory *mem,
		     const struct snapshot_load *how, struct error *e)
{
	struct load load = { r, mem };
	struct parallel p = { .one = load_one,
			      .arg = &load,
			      .count = r->layers[0]->table.layout.length / SNAPSHOT_CHUNK,
			      .what = "the restore of a snapshot",
			      .phase = "memory",
			      .watch = &how->watch };
	int x;

	for (uint32_t i = 0; i < r->depth; i++) {
		p.total += r->layers[i]->table.stored * PAGE_SIZE_4K;
	}
	x = reader_make_regions(r, mem, how->backing, e);
	if (x < 0) {
		return x;
	}
	if (how->huge_pages) {
		guest_memory_use_huge_pages(mem);
	}
	return parallel_run(&p, how->threads, e);
}

/* Compressed: unpacked into a file in memory, which is then mapped. */
static int load_unpacked(struct snapshot_reader *r, struct guest_memory *mem,
			 const struct snapshot_load *how, struct error *e)
{
	auto_close int state = memfd_create("vmm-snapshot-state", MFD_CLOEXEC);
	auto_close int memory = memfd_create("vmm-snapshot-memory", MFD_CLOEXEC);
	int fds[2] = { state, memory };
	const struct snapshot_merge merge = { .paths = { .fds = fds },
					      .threads = how->threads,
					      .watch = how->watch };
	const struct snapshot_reader_config config = { .paths = { .fds = fds } };
	struct snapshot_reader *unpacked = NULL;
	char id[SNAPSHOT_ID_TEXT];
	int x;

	if (state < 0 || memory < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "a file in memory for a snapshot");
	}
	x = snapshot_merge(r, &merge, id, e);
	x = x == 0 ? snapshot_reader_create(&unpacked, &config, e) : x;
	x = x == 0 ? load_mapped(unpacked, mem, how, e) : x;
	snapshot_reader_destroy(unpacked);
	return x;
}

int snapshot_reader_load(struct snapshot_reader *r, struct guest_memory *mem,
			 const struct snapshot_load *how, struct error *e)
{
	int x = 0;

	VMM_BUG_ON(r->state_only || atomic_load(&mem->region_count) != 0 ||
		   how->backing >= GUEST_MEMORY_FILE_SHARED);
	if (how->mode == SNAPSHOT_LOAD_MAP && !r->packed) {
		x = snapshot_reader_verify(r, how->threads, &how->watch, e);
	}
	if (x == 0) {
		x = how->mode == SNAPSHOT_LOAD_READ ? load_read(r, mem, how, e)
		    : r->packed			    ? load_unpacked(r, mem, how, e)
						    : load_mapped(r, mem, how, e);
	}
	if (x < 0) {
		guest_memory_finish(mem);
	}
	return x;
}
