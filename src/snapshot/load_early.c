/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load of a snapshot whose pages are still written (early.c): each chunk that is marked is mapped from the file, privately, and over the others
 * lies anonymous memory, which a pager (vmm/pager.h, `look`) replaces when they are. Chunks of which there is nothing to come are fresh memory.
 *
 * What the table of the snapshot says of a chunk is only that it is to come; which of its pages have anything is known when it has come.
 *
 * The thread that builds the machine, then the pager's, whose the reader is until the memory is finished. Whoever has written the files
 * decides what the guest's memory is; beyond that nothing of them is believed: marks are compared with what there can be, and read once each.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/pager.h"

LOG_DOMAIN("snapshot");

/* Between two looks of who has no pager. */
#define PATIENCE_NS 1000000

_Static_assert((int)EARLY_MISSING == (int)PAGER_MISSING &&
		       (int)EARLY_WRITTEN == (int)PAGER_IN_FILE &&
		       (int)EARLY_EMPTY == (int)PAGER_EMPTY &&
		       (int)EARLY_MARKS == (int)PAGER_ARRIVALS,
	       "a mark is what a pager is told");

struct early_source {
	struct snapshot_reader *reader;
	int asks; /* -1: there is nobody to be asked any more */
};

/* --- marks --------------------------------------------------------------------------------------- */

static int read_marks(const struct snapshot_reader *r, uint32_t index, uint64_t chunk,
		      uint64_t count, uint8_t *marks, struct error *e)
{
	const struct layer *layer = r->layers[0];
	const uint64_t first = r->info.regions[index].offset / SNAPSHOT_CHUNK + chunk;
	int x = file_read(layer->memory, marks, count, early_mark_at(&layer->table.layout, first),
			  layer->memory_shown, e);

	for (uint64_t i = 0; x == 0 && i < count; i++) {
		if (marks[i] >= EARLY_MARKS) {
			(void)error_set(e, ERROR_SNAPSHOT, EBADMSG,
					"'%s' says of a chunk of memory what it cannot say",
					layer->memory_shown);
			x = error_hint(e, "somebody else has written into the file");
		}
	}
	return x;
}

static bool any_missing(const uint8_t *marks, const uint64_t *used, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		if (marks[i] == EARLY_MISSING && (used == NULL || page_is_set(used, i))) {
			return true;
		}
	}
	return false;
}

/* As read_marks(). A failure as well if some that are used are missing and nobody is left who could write them. `used` NULL: all are. */
static int look_at(const struct snapshot_reader *r, uint32_t index, uint64_t chunk, uint64_t count,
		   const uint64_t *used, uint8_t *marks, struct error *e)
{
	int x = read_marks(r, index, chunk, count, marks, e);

	if (x < 0 || !any_missing(marks, used, count) || early_writer_lives(r->layers[0]->memory)) {
		return x;
	}
	/* Whatever it has written, it had written before it let go of the file. */
	x = read_marks(r, index, chunk, count, marks, e);
	if (x == 0 && any_missing(marks, used, count)) {
		(void)error_set(
			e, ERROR_SNAPSHOT, EPIPE,
			"the VM that this one was forked from has ended, or given up, before "
			"all of its memory was copied: some of it is missing");
		x = error_hint(e,
			       "fork again; 'vmm fork' without --no-wait returns when children no "
			       "longer need the VM");
	}
	return x;
}

/* Of all chunks of a region: which are used, and their marks. */
struct chunks {
	uint64_t count;
	uint64_t *used;
	uint8_t *marks;
};

static void chunks_finish(struct chunks *chunks)
{
	free(chunks->used);
	free(chunks->marks);
}

/* chunks_finish() follows in any case. */
static int chunks_init(struct chunks *chunks, const struct snapshot_reader *r, uint32_t index,
		       struct error *e)
{
	const struct snapshot_region *region = &r->info.regions[index];

	chunks->count = ALIGN_UP(region->size, SNAPSHOT_CHUNK) / SNAPSHOT_CHUNK;
	chunks->used = reader_chunks_in_use(r, region);
	chunks->marks = malloc(chunks->count);
	if (chunks->used == NULL || chunks->marks == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "memory of a snapshot");
	}
	return look_at(r, index, 0, chunks->count, chunks->used, chunks->marks, e);
}

static bool chunks_miss_any(const struct chunks *chunks)
{
	return any_missing(chunks->marks, chunks->used, chunks->count);
}

/* --- the pager's --------------------------------------------------------------------------------- */

static int look(void *arg, uint32_t index, uint64_t chunk, uint32_t count,
		uint8_t ret[PAGER_LOOK_MAX], struct error *e)
{
	const struct early_source *source = arg;

	return look_at(source->reader, index, chunk, count, NULL, ret, e);
}

static void ask(void *arg, uint32_t index, uint64_t chunk)
{
	const struct early_source *source = arg;
	const uint32_t number =
		(uint32_t)(source->reader->info.regions[index].offset / SNAPSHOT_CHUNK + chunk);

	/* A wish: what is not asked for comes when it is its turn. */
	if (source->asks >= 0) {
		(void)!write(source->asks, &number, sizeof(number));
	}
}

static void close_files(void *arg)
{
	struct early_source *source = arg;

	close_fd(&source->asks);
	close_fd(&source->reader->layers[0]->memory);
}

static void destroy(void *arg)
{
	struct early_source *source = arg;

	if (source != NULL) {
		close_fd(&source->asks);
		snapshot_reader_destroy(source->reader);
		free(source);
	}
}

/* Not to be waited for: the FIFO has a reader, or nobody to be asked is left. */
static int open_asks(const struct snapshot_reader *r)
{
	auto_close int fd = openat(r->layers[0]->inside, EARLY_ASKS,
				   O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) ? take_fd(&fd) : -1;
}

/* --- regions ------------------------------------------------------------------------------------- */

/* Anonymous memory over whatever does not come from the file, or not yet. */
static int cover(struct guest_memory *mem, uint32_t index, const struct chunks *chunks,
		 struct error *e)
{
	const uint64_t size = mem->regions[index].size;
	int x = 0;

	for (uint64_t chunk = 0; x == 0 && chunk < chunks->count;) {
		uint64_t end = chunk, at = chunk * SNAPSHOT_CHUNK;

		while (end < chunks->count &&
		       !(page_is_set(chunks->used, end) && chunks->marks[end] == EARLY_WRITTEN)) {
			end++;
		}
		if (end > chunk) {
			x = guest_region_overlay(mem, index, at,
						 MIN(end * SNAPSHOT_CHUNK, size) - at, -1, 0, e);
		}
		chunk = end + 1;
	}
	return x;
}

static int add_missing(struct pager *pager, const struct guest_region *region, uint32_t index,
		       const struct chunks *chunks, struct error *e)
{
	int x = 0;

	for (uint64_t chunk = 0; x == 0 && chunk < chunks->count;) {
		uint64_t end = chunk, at = chunk * SNAPSHOT_CHUNK;

		while (end < chunks->count && page_is_set(chunks->used, end) &&
		       chunks->marks[end] == EARLY_MISSING) {
			end++;
		}
		if (end > chunk) {
			x = pager_add(pager, index, at,
				      MIN(end * SNAPSHOT_CHUNK, region->size) - at, e);
		}
		chunk = end + 1;
	}
	return x;
}

/* What has come, or may, counts as something as long as anything is missing. */
static int set_content(struct guest_memory *mem, uint32_t index, const struct chunks *chunks,
		       struct error *e)
{
	uint64_t *content = calloc(chunks->count, MAP_BYTES);

	if (content == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "memory of a snapshot");
	}
	for (uint64_t chunk = 0; chunk < chunks->count; chunk++) {
		if (page_is_set(chunks->used, chunk) && chunks->marks[chunk] != EARLY_EMPTY) {
			memset(content + chunk * MAP_WORDS, 0xff, MAP_BYTES);
		}
	}
	guest_region_set_content(mem, index, content);
	return 0;
}

static int make_region(const struct snapshot_reader *r, struct guest_memory *mem, uint32_t index,
		       struct error *e)
{
	const struct snapshot_region *region = &r->info.regions[index];
	struct guest_region_config config = { .kind = region->kind,
					      .gpa = region->gpa,
					      .size = region->size,
					      .backing = GUEST_MEMORY_FILE_PRIVATE,
					      .offset = region->offset };
	int x = fd_copy(r->layers[0]->memory, &config.fd, e);

	if (x < 0) {
		return x;
	}
	x = guest_memory_add(mem, &config, e);
	if (x < 0) {
		(void)close(config.fd);
		return x;
	}
	VMM_BUG_ON((uint32_t)x != index);
	return 0;
}

/* `pager` NULL: nothing is missing. *missing: the pager has been given something. */
static int fill_region(const struct snapshot_reader *r, struct guest_memory *mem, uint32_t index,
		       const struct chunks *chunks, struct pager *pager, bool *missing,
		       struct error *e)
{
	int x = make_region(r, mem, index, e);

	x = x == 0 ? cover(mem, index, chunks, e) : x;
	if (x < 0 || !chunks_miss_any(chunks)) {
		return x;
	}
	if (pager == NULL) {
		return error_set(e, ERROR_SNAPSHOT, EBADMSG,
				 "memory of '%s' that had arrived is missing again",
				 r->layers[0]->memory_shown);
	}
	*missing = true;
	x = set_content(mem, index, chunks, e);
	return x == 0 ? add_missing(pager, &mem->regions[index], index, chunks, e) : x;
}

/* --- the load ------------------------------------------------------------------------------------ */

/* 1: everything has been written; 0: not yet; or it never will be. */
static int is_whole(const struct snapshot_reader *r, struct error *e)
{
	int x = 1;

	for (uint32_t i = 0; x == 1 && i < r->info.region_count; i++) {
		struct chunks chunks = { 0 };

		x = chunks_init(&chunks, r, i, e);
		x = x == 0 ? !chunks_miss_any(&chunks) : x;
		chunks_finish(&chunks);
	}
	return x;
}

static int await_all(const struct snapshot_reader *r, struct error *e)
{
	const struct timespec patience = { .tv_nsec = PATIENCE_NS };
	int x;

	while ((x = is_whole(r, e)) == 0) {
		(void)nanosleep(&patience, NULL);
	}
	return MIN(x, 0);
}

/* A pager, unless nothing is missing; or there cannot be one, and it was waited for what is missing. */
static int make_pager(const struct snapshot_reader *r, struct guest_memory *mem,
		      struct pager **pager, struct error *e)
{
	struct error why = { 0 };
	int x = is_whole(r, e);

	if (x != 0) {
		return MIN(x, 0);
	}
	if (pager_create(pager, mem, &why) == 0) {
		return 0;
	}
	log_info("this VM waits until all of its memory has been copied: %s", why.msg);
	return await_all(r, e);
}

static int serve(struct snapshot_reader **r, struct guest_memory *mem, struct pager *pager,
		 const struct snapshot_lazy *how, struct error *e)
{
	struct pager_source source = {
		.look = look, .ask = ask, .done = close_files, .destroy = destroy
	};
	struct early_source *early = calloc(1, sizeof(*early));

	if (early == NULL) {
		pager_destroy(pager);
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "memory of a snapshot");
	}
	early->asks = open_asks(*r);
	early->reader = take_ptr(*r);
	source.arg = early;
	pager_attach(pager);
	return pager_serve(pager, &source, how->enter, how->arg, e);
}

int snapshot_reader_load_early(struct snapshot_reader **r, struct guest_memory *mem,
			       const struct snapshot_lazy *how, struct error *e)
{
	struct pager *pager = NULL;
	bool missing = false;
	int x;

	VMM_BUG_ON(!(*r)->info.early || (*r)->state_only || atomic_load(&mem->region_count) != 0);
	x = make_pager(*r, mem, &pager, e);
	for (uint32_t i = 0; x == 0 && i < (*r)->info.region_count; i++) {
		struct chunks chunks = { 0 };

		x = chunks_init(&chunks, *r, i, e);
		x = x == 0 ? fill_region(*r, mem, i, &chunks, pager, &missing, e) : x;
		chunks_finish(&chunks);
	}
	if (x == 0 && missing) {
		x = serve(r, mem, pager, how, e);
	} else {
		pager_destroy(pager);
	}
	if (x < 0) {
		guest_memory_finish(mem);
	}
	return x;
}
