/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot's pages when they are touched: the source of a pager (vmm/pager.h). Its chunks are the snapshot's, so each is read,
 * checked and unpacked as a restore that reads everything does it (memory_read.c).
 *
 * What a guest asked for that went on from it before comes first (working_set.c), if its directory says so; or it is noted what this
 * one asks for, and written when the client says that it is enough. Places of a pager are regions and chunks of them, those of the
 * file are chunks of the snapshot's layout.
 *
 * Chunks of which no snapshot of the chain has anything are not the pager's: they are fresh memory.
 *
 * The pager's thread reads; the reader belongs to it until the memory is finished. Who marks reads of it what does not change.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/pager.h"

LOG_DOMAIN("snapshot");

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

/* --- what comes first ---------------------------------------------------------------------------- */

static void working_set_path(const struct snapshot_reader *r, char path[PATH_SHOWN])
{
	(void)snprintf(path, PATH_SHOWN, "%.*s/" WORKING_SET, PATH_SHOWN - 16, r->layers[0]->shown);
}

/* A wish: without it memory comes as it lies. */
static void prefer_working_set(const struct snapshot_reader *r, struct pager *pager)
{
	const struct layout *layout = &r->layers[0]->table.layout;
	const int folder = r->layers[0]->inside;
	struct pager_place *list = NULL;
	struct working_set set;
	char path[PATH_SHOWN];
	struct error e = { 0 };
	int x;

	if (folder < 0) {
		return;
	}
	working_set_path(r, path);
	x = working_set_read(&set, folder, &r->layers[0]->file.header.id, layout, path, &e);
	if (x == 0) {
		list = calloc(set.count + 1ULL, sizeof(*list));
	}
	for (uint32_t i = 0; list != NULL && i < set.count; i++) {
		(void)layout_chunk_pages(layout, set.chunks[i], &list[i].index);
		list[i].chunk = set.chunks[i] -
				(uint32_t)(layout->regions[list[i].index].offset / SNAPSHOT_CHUNK);
	}
	if (list != NULL) {
		log_debug("'%s': %" PRIu32 " chunks of memory come first", path, set.count);
		pager_prefer(pager, list, set.count);
	} else if (x < 0 && x != -ENOENT) {
		log_warn("%s: it is ignored", e.msg);
	}
	working_set_finish(&set);
}

static int write_marked(const struct snapshot_reader *r, const struct pager_place *places,
			uint32_t count, uint64_t *bytes, struct error *e)
{
	const struct layout *layout = &r->layers[0]->table.layout;
	uint32_t *chunks = calloc(count + 1ULL, sizeof(*chunks));
	uint8_t *data = malloc(working_set_size(count));
	char path[PATH_SHOWN];
	int x;

	if (chunks == NULL || data == NULL) {
		x = error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "a working set");
		goto done;
	}
	*bytes = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t region;

		chunks[i] = places[i].chunk +
			    (uint32_t)(layout->regions[places[i].index].offset / SNAPSHOT_CHUNK);
		*bytes += layout_chunk_pages(layout, chunks[i], &region) * PAGE_SIZE_4K;
	}
	working_set_encode(data, &r->layers[0]->file.header.id, chunks, count);
	working_set_path(r, path);
	x = working_set_write(r->layers[0]->inside, data, working_set_size(count), path, e);
done:
	free(chunks);
	free(data);
	return x;
}

int snapshot_mark(struct guest_memory *mem, uint64_t *bytes, struct error *e)
{
	size_t count = 0;
	const struct pager_place *places = pager_mark(mem->pager, &count);

	if (places == NULL) {
		(void)error_set(e, ERROR_WRONG_STATE, EINVAL,
				"what this VM has touched since it was loaded was not recorded");
		return error_hint(e, "record_working_set of the load asks for that "
				     "(vmm restore --memory-mode lazy --record-working-set)");
	}
	return write_marked(pager_source_of(mem->pager)->arg, places, (uint32_t)count, bytes, e);
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
		   how->backing >= GUEST_MEMORY_FILE_SHARED ||
		   (how->record && reader->layers[0]->inside < 0));
	x = reader_make_regions(reader, mem, how->backing, e);
	x = x == 0 ? pager_create(&pager, mem, e) : x;
	for (uint32_t i = 0; x == 0 && i < reader->info.region_count; i++) {
		x = add_region(reader, mem, pager, i, e);
	}
	if (x == 0 && how->record) {
		x = pager_record(pager, e);
	} else if (x == 0) {
		prefer_working_set(reader, pager);
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
