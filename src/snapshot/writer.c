/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot that is being written: include/vmm/snapshot.h is the contract. Its pages are memory_write.c's, its files place.c's.
 *
 *	create: layout of memory, parent, files, tables	->  pages are set, run()	->  commit(): `state`, trailer, syncs, renames
 *
 * What grows with memory is allocated by create(): bitmaps of pages to look at (32 KiB for each GiB), and for each chunk of 2 MiB
 * what was written of it (132 bytes). Nothing here trusts the parent's files more than a reader does.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/pager.h"
#include "vmm/cleanup.h"

/* Regions of guest memory by address, and where their pages are. */
static int layout_of_memory(struct snapshot_writer *w, struct error *e)
{
	const struct guest_memory *mem = w->mem;
	uint32_t count = atomic_load(&mem->region_count);

	for (uint32_t i = 0; i < count; i++) {
		const struct guest_region *region = &mem->regions[i];
		uint32_t at = w->layout.region_count;

		if (region->size == 0) {
			continue;
		}
		while (at > 0 && w->layout.regions[at - 1].gpa > region->gpa) {
			w->layout.regions[at] = w->layout.regions[at - 1];
			w->regions[at] = w->regions[at - 1];
			at--;
		}
		w->layout.regions[at] = (struct snapshot_region){ .kind = region->kind,
								  .gpa = region->gpa,
								  .size = region->size };
		w->regions[at] = (struct writer_region){ .index = i, .host = region->host };
		w->layout.region_count++;
	}
	return layout_place(&w->layout, w->place.shown, e);
}

static int allocate(struct snapshot_writer *w, struct error *e)
{
	bool whole = true;

	w->chunk_count = (uint32_t)(w->layout.length / SNAPSHOT_CHUNK);
	w->chunks = calloc(w->chunk_count, sizeof(*w->chunks));
	w->crcs = calloc(w->chunk_count, sizeof(*w->crcs));
	w->output = malloc(sizeof(*w->output));
	if (w->packed) {
		w->frames = calloc(w->chunk_count, sizeof(*w->frames));
		whole = w->frames != NULL;
	}
	for (uint32_t i = 0; i < w->layout.region_count; i++) {
		struct writer_region *region = &w->regions[i];

		/* Whole chunks, so that each has its own words. */
		region->bits = ALIGN_UP(w->layout.regions[i].size, SNAPSHOT_CHUNK) / PAGE_SIZE_4K;
		region->pages = calloc(region->bits / 64, sizeof(uint64_t));
		whole = whole && region->pages != NULL;
	}
	if (w->chunks == NULL || w->crcs == NULL || w->output == NULL || !whole) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "snapshot '%s'", w->place.shown);
	}
	return 0;
}

/* The folder and names of a snapshot if they are beside the new one. */
static int link_names(struct snapshot_writer *w, const struct snapshot_paths *paths,
		      struct error *e)
{
	const char *given[2] = { paths->directory != NULL ? paths->directory : paths->state,
				 paths->directory != NULL ? NULL : paths->memory };
	struct path_parts parts;
	struct stat own, other;

	if (given[0] == NULL || (paths->directory == NULL && given[1] == NULL) ||
	    w->place.folder < 0) {
		w->parent.form = PARENT_ELSEWHERE;
		return 0;
	}
	for (int i = 0; i < 2 && given[i] != NULL; i++) {
		auto_close int folder = -1;
		/* A path such as "." is a place, but no name. */
		int r = path_split(&parts, given[i], NULL);

		r = r == 0 ? folder_open(AT_FDCWD, parts.folder, &folder, e) : r;
		if (r < 0 || fstat(folder, &other) < 0 || fstat(w->place.folder, &own) < 0 ||
		    own.st_dev != other.st_dev || own.st_ino != other.st_ino) {
			w->parent.form = PARENT_ELSEWHERE;
			memset(w->parent.names, 0, sizeof(w->parent.names));
			return 0;
		}
		(void)snprintf(w->parent.names[i], sizeof(w->parent.names[i]), "%s", parts.name);
	}
	w->parent.form = given[1] == NULL ? PARENT_DIRECTORY : PARENT_FILES;
	return 0;
}

static int link_parent(struct snapshot_writer *w, const struct snapshot_paths *paths,
		       struct error *e)
{
	struct snapshot_reader_config config = { .paths = *paths, .state_only = true };
	struct snapshot_reader *parent = NULL;
	uint64_t own[2], dev, ino;
	int r = snapshot_reader_create(&parent, &config, e);

	if (r < 0) {
		return error_prefix(e, "parent of snapshot '%s'", w->place.shown);
	}
	w->parent.id = parent->layers[0]->file.header.id;
	w->parent.depth = snapshot_reader_info(parent)->depth + 1;
	dev = parent->layers[0]->state_dev;
	ino = parent->layers[0]->state_ino;
	snapshot_reader_destroy(parent);
	if (w->parent.depth > SNAPSHOT_CHAIN_MAX) {
		(void)error_set(e, ERROR_SNAPSHOT, EMLINK,
				"snapshot '%s' would be number %" PRIu32
				" of a chain; %d are allowed",
				w->place.shown, w->parent.depth, SNAPSHOT_CHAIN_MAX);
		return error_hint(e, "make a full one, or merge the chain first");
	}
	if (place_state_inode(&w->place, &own[0], &own[1]) == 0 && own[0] == dev && own[1] == ino) {
		(void)error_set(e, ERROR_SNAPSHOT, EINVAL,
				"snapshot '%s' cannot take the place of its own parent",
				w->place.shown);
		return error_hint(e, "give another name");
	}
	return link_names(w, paths, e);
}

int writer_create(struct snapshot_writer **ret, const struct snapshot_writer_config *config,
		  const struct layout *layout, struct error *e)
{
	struct snapshot_writer *w = calloc(1, sizeof(*w));
	const struct snapshot_paths *parent = &config->parent;
	int r = 0;

	if (w == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "snapshot");
	}
	w->place = PLACE_NONE;
	w->mem = config->mem;
	w->pagemap_fd = config->pagemap_fd;
	w->watch = config->watch;
	w->sync = !config->no_sync;
	w->diff = paths_are_given(parent);
	w->packed = config->compress;
	w->scratch = w->asks = -1;
	pack_init(&w->pack);
	if (getrandom(w->id.bytes, sizeof(w->id.bytes), 0) != (ssize_t)sizeof(w->id.bytes)) {
		r = error_set_sys(e, ERROR_INTERNAL, errno, "draw the id of a snapshot");
		goto failed;
	}
	id_text(&w->id, w->id_text);
	r = w->packed ? pack_supported("to be written", e) : 0;
	r = r < 0 ? r : place_init(&w->place, &config->paths, w->id_text, e);
	if (r == 0 && layout != NULL) {
		w->layout = *layout;
		r = layout_place(&w->layout, w->place.shown, e);
	} else if (r == 0) {
		r = layout_of_memory(w, e);
	}
	r = r == 0 ? allocate(w, e) : r;
	r = r == 0 && w->diff ? link_parent(w, parent, e) : r;
	if (r == 0 && !w->packed &&
	    ftruncate(w->place.memory, (off_t)(w->layout.length + TRAILER_SIZE)) < 0) {
		r = file_error(e, errno, "make room in", w->place.memory_shown);
	}
	if (r < 0) {
		goto failed;
	}
	*ret = w;
	return 0;

failed:
	snapshot_writer_destroy(w);
	return r;
}

int snapshot_writer_create(struct snapshot_writer **ret,
			   const struct snapshot_writer_config *config, struct error *e)
{
	return writer_create(ret, config, NULL, e);
}

void snapshot_writer_destroy(struct snapshot_writer *w)
{
	if (w == NULL) {
		return;
	}
	place_finish(&w->place);
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		free(w->regions[i].pages);
	}
	live_finish(&w->live);
	free(w->chunks);
	free(w->crcs);
	free(w->output);
	free(w->frames);
	free(w->asked);
	close_fd(&w->scratch);
	close_fd(&w->asks);
	pack_finish(&w->pack);
	free(w);
}

const char *snapshot_writer_id(const struct snapshot_writer *w)
{
	return w->id_text;
}

int snapshot_writer_directory(const struct snapshot_writer *w)
{
	return w->place.inside;
}

static int check_contents(const struct snapshot_writer *w, const struct snapshot_contents *contents,
			  struct error *e)
{
	if (strlen(contents->about) > SNAPSHOT_TEXT_MAX ||
	    strlen(contents->config) > SNAPSHOT_TEXT_MAX ||
	    contents->machine_len > SNAPSHOT_MACHINE_MAX) {
		return error_set(
			e, ERROR_TOO_LARGE, E2BIG,
			"snapshot '%s': %zu bytes of configuration and %zu of machine state "
			"are more than it can have",
			w->place.shown, strlen(contents->config), contents->machine_len);
	}
	return 0;
}

/* `state`, and the trailer that binds `memory` to it. */
static int write_state(struct snapshot_writer *w, const struct snapshot_contents *contents,
		       struct error *e)
{
	struct state_output *out = w->output;
	uint8_t trailer[TRAILER_SIZE];
	uint64_t length = w->layout.length;
	uint32_t crc;
	int r;

	state_output_begin(out, w->place.state, &w->id, (uint64_t)time(NULL));
	state_output_section(out);
	state_output_put(out, contents->about, strlen(contents->about));
	(void)state_output_section_end(out, SECTION_ABOUT);
	state_output_section(out);
	state_output_put(out, contents->config, strlen(contents->config));
	(void)state_output_section_end(out, SECTION_CONFIG);
	state_output_section(out);
	state_output_put(out, contents->machine, contents->machine_len);
	(void)state_output_section_end(out, SECTION_MACHINE);
	if (w->diff) {
		state_output_section(out);
		parent_put(out, &w->parent);
		(void)state_output_section_end(out, SECTION_PARENT);
	}
	if (w->packed) {
		length = ALIGN_UP(atomic_load(&w->packed_end), PAGE_SIZE_4K);
		state_output_section(out);
		pack_put(out, w->frames, w->chunk_count, length);
		(void)state_output_section_end(out, SECTION_PACKING);
	}
	if (w->early) {
		state_output_section(out);
		(void)state_output_section_end(out, SECTION_EARLY);
	}
	state_output_section(out);
	layout_put(out, &w->layout, w->chunks, w->crcs);
	crc = state_output_section_end(out, SECTION_MEMORY);
	r = state_output_end(out);
	if (r < 0) {
		return file_error(e, -r, "write", w->place.shown);
	}
	trailer_make(trailer, &w->id, length, crc);
	r = file_write(w->place.memory, trailer, sizeof(trailer), length);
	return r < 0 ? file_error(e, -r, "write", w->place.memory_shown) : 0;
}

int snapshot_writer_commit(struct snapshot_writer *w, const struct snapshot_contents *contents,
			   struct error *e)
{
	int r;

	if (w->committed || atomic_load(&w->stop)) {
		return error_set(e, ERROR_INTERNAL, EINVAL, "snapshot '%s' %s", w->place.shown,
				 w->committed ? "has been written" : "has failed before");
	}
	r = check_contents(w, contents, e);
	/* Who reads memory that is lost reads zeroes, and is told here. */
	r = r == 0 && w->mem != NULL ? pager_check(w->mem->pager, e) : r;
	r = r == 0 ? write_state(w, contents, e) : r;
	r = r == 0 ? place_commit(&w->place, w->sync, e) : r;
	w->committed = r == 0;
	return r;
}
