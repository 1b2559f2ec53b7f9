/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot's pages when they are touched: the source of a pager (vmm/pager.h). Its chunks are the snapshot's, so each is read,
 * checked and unpacked as a restore that reads everything does it (memory_read.c).
 *
 * Chunks of which no snapshot of the chain has anything are not the pager's: they are fresh memory.
 *
 * The pager's thread reads; the reader belongs to it until the memory is finished.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/pager.h"

static int read_chunk(void *arg, uint32_t index, uint64_t offset, uint8_t *buf,
		      uint64_t present[MAP_WORDS], struct error *e)
{
	const struct snapshot_reader *r = arg;
	uint64_t at = r->info.regions[index].offset + offset;

	_Static_assert(sizeof(present[0]) * MAP_WORDS * 8 == PAGER_CHUNK_PAGES,
		       "one is read to bring one");
	return reader_chunk(r, (uint32_t)(at / SNAPSHOT_CHUNK), buf, present, e);
}

static void close_files(void *arg)
{
	const struct snapshot_reader *r = arg;

	for (uint32_t i = 0; i < r->depth; i++) {
		close_fd(&r->layers[i]->memory);
	}
}

static void destroy(void *arg)
{
	snapshot_reader_destroy(arg);
}

/* Whatever the pager will bring of a region. */
static int set_content(const struct snapshot_reader *r, struct guest_memory *mem, uint32_t index,
		       const uint64_t *used, struct error *e)
{
	const struct snapshot_region *region = &r->info.regions[index];
	uint64_t chunks = ALIGN_UP(region->size, SNAPSHOT_CHUNK) / SNAPSHOT_CHUNK;
	uint64_t *content = calloc(chunks, MAP_BYTES);

	if (content == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "memory of a snapshot");
	}
	for (uint64_t chunk = 0; chunk < chunks; chunk++) {
		uint8_t sources[PAGES_PER_CHUNK];

		if (page_is_set(used, chunk)) {
			reader_sources(r, (uint32_t)(region->offset / SNAPSHOT_CHUNK + chunk),
				       sources, content + chunk * MAP_WORDS);
		}
	}
	guest_region_set_content(mem, index, content);
	return 0;
}

static int add_ranges(struct pager *pager, const struct snapshot_region *region, uint32_t index,
		      const uint64_t *used, struct error *e)
{
	uint64_t chunks = ALIGN_UP(region->size, SNAPSHOT_CHUNK) / SNAPSHOT_CHUNK;
	int x = 0;

	for (uint64_t chunk = 0, n; x == 0 && chunk < chunks; chunk += MAX(n, 1ULL)) {
		uint64_t at = chunk * SNAPSHOT_CHUNK;

		n = run_length(used, chunk, chunks);
		if (n != 0) {
			x = pager_add(pager, index, at, MIN(n * SNAPSHOT_CHUNK, region->size - at),
				      e);
		}
	}
	return x;
}

static int add_region(const struct snapshot_reader *r, struct guest_memory *mem,
		      struct pager *pager, uint32_t index, struct error *e)
{
	const struct snapshot_region *region = &r->info.regions[index];
	auto_free uint64_t *used = reader_chunks_in_use(r, region);
	int x;

	if (used == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "memory of a snapshot");
	}
	x = set_content(r, mem, index, used, e);
	return x == 0 ? add_ranges(pager, region, index, used, e) : x;
}

int snapshot_reader_load_lazily(struct snapshot_reader **r, struct guest_memory *mem,
				const struct snapshot_lazy *how, struct error *e)
{
	struct pager_source source = {
		.read = read_chunk, .done = close_files, .destroy = destroy, .arg = take_ptr(*r)
	};
	struct snapshot_reader *reader = source.arg;
	struct pager *pager = NULL;
	int x;

	VMM_BUG_ON(reader->state_only || atomic_load(&mem->region_count) != 0 ||
		   how->backing >= GUEST_MEMORY_FILE_SHARED);
	x = reader_make_regions(reader, mem, how->backing, e);
	x = x == 0 ? pager_create(&pager, mem, e) : x;
	for (uint32_t i = 0; x == 0 && i < reader->info.region_count; i++) {
		x = add_region(reader, mem, pager, i, e);
	}
	if (x < 0) {
		pager_destroy(pager);
		snapshot_reader_destroy(reader);
		guest_memory_finish(mem);
		return x;
	}
	pager_attach(pager);
	x = pager_serve(pager, &source, how->enter, how->arg, e);
	if (x < 0) {
		guest_memory_finish(mem);
	}
	return x;
}
