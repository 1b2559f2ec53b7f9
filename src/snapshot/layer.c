/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One snapshot that was opened: `state` read as a whole and parsed, `memory` opened and found to belong to it.
 *
 * A snapshot of two files whose writer was killed between its two renames has its memory under the other name (place.c): that
 * is tried if what stands in its place is missing or another snapshot's.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"

static int read_state(struct layer *layer, int fd, const struct stat *st, struct error *e)
{
	struct state_header header;
	uint8_t head[STATE_HEADER_SIZE];
	int r;

	layer->state_size = (uint64_t)st->st_size;
	layer->state_dev = st->st_dev;
	layer->state_ino = st->st_ino;
	/* A later version may have made a larger file: what it is comes first. */
	if (layer->state_size >= sizeof(head)) {
		r = file_read(fd, head, sizeof(head), 0, layer->shown, e);
		r = r == 0 ? state_header_parse(&header, head, layer->shown, e) : r;
		if (r < 0) {
			return r;
		}
	}
	if (layer->state_size > STATE_FILE_MAX) {
		(void)error_set(e, ERROR_SNAPSHOT, EFBIG,
				"snapshot '%s': %" PRIu64 " bytes are too many", layer->shown,
				layer->state_size);
		return error_hint(e, "the state of a machine has %llu MiB at most",
				  (unsigned long long)(STATE_FILE_MAX / MIB(1)));
	}
	layer->state = malloc(layer->state_size + 1);
	if (layer->state == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "snapshot '%s'", layer->shown);
	}
	r = file_read(fd, layer->state, layer->state_size, 0, layer->shown, e);
	return r == 0 ? state_file_parse(&layer->file, layer->state, layer->state_size,
					 layer->shown, e)
		      : r;
}

static int open_state(struct layer *layer, int at, const char *name, struct error *e)
{
	auto_close int fd = -1;
	struct stat st;
	int r = file_open(at, name, layer->shown, &fd, &st, e);

	return r == 0 ? read_state(layer, fd, &st, e) : r;
}

static int parse_memory(struct layer *layer, struct error *e)
{
	const struct state_section *parent = &layer->file.sections[SECTION_PARENT];
	const struct state_section *memory = &layer->file.sections[SECTION_MEMORY];
	const struct state_section *packing = &layer->file.sections[SECTION_PACKING];
	int r = 0;

	layer->diff = parent->data != NULL;
	if (layer->diff) {
		r = parent_parse(&layer->parent, parent->data, parent->len, layer->shown, e);
	}
	r = r == 0 ? layout_table_parse(&layer->table, memory->data, memory->len, layer->diff,
					layer->shown, e)
		   : r;
	layer->length = layer->table.layout.length;
	layer->packed = packing->data != NULL;
	layer->early = layer->file.sections[SECTION_EARLY].data != NULL;
	if (r == 0 && layer->early && (layer->diff || layer->packed)) {
		(void)error_set(
			e, ERROR_SNAPSHOT, EBADMSG,
			"snapshot '%s' cannot be read early: it is a difference, or compressed",
			layer->shown);
		r = error_hint(e, "the files are not made by vmm: do not trust them");
	}
	if (r == 0 && layer->packed) {
		r = pack_parse(&layer->table, packing->data, packing->len, &layer->length,
			       layer->shown, e);
	}
	return r;
}

/* That an open file is this snapshot's memory. */
static int check_memory(struct layer *layer, int fd, const struct stat *st, struct error *e)
{
	const uint64_t marks = layer->early ? layer->length / SNAPSHOT_CHUNK : 0;
	uint64_t length = layer->length, size = (uint64_t)st->st_size;
	uint8_t trailer[TRAILER_SIZE];
	int r = 0;

	if (size >= sizeof(trailer) + marks) {
		r = file_read(fd, trailer, sizeof(trailer), size - marks - sizeof(trailer),
			      layer->memory_shown, e);
		r = r == 0 ? trailer_check(trailer, &layer->file.header.id, length,
					   layer->file.sections[SECTION_MEMORY].crc,
					   layer->memory_shown, layer->shown, e)
			   : r;
	}
	if (r == 0 && size != length + sizeof(trailer) + marks) {
		(void)error_set(e, ERROR_SNAPSHOT, EBADMSG,
				"'%s' has %" PRIu64 " bytes instead of %" PRIu64,
				layer->memory_shown, size, length + sizeof(trailer) + marks);
		r = error_hint(e, "it is damaged, or not whole: use another copy of the snapshot");
	}
	return r;
}

/* -EXDEV, -ENOENT: another name may be tried. */
static int open_memory(struct layer *layer, int at, const char *name, struct error *e)
{
	auto_close int fd = -1;
	struct stat st;
	int r = file_open(at, name, layer->memory_shown, &fd, &st, e);

	r = r == 0 ? check_memory(layer, fd, &st, e) : r;
	if (r == 0) {
		layer->memory = take_fd(&fd);
	}
	return r;
}

static int open_other_memory(struct layer *layer, int at, const char *path)
{
	auto_close int folder = -1;
	char id[SNAPSHOT_ID_TEXT], temp[NAME_MAX + 1];
	struct path_parts parts;

	id_text(&layer->file.header.id, id);
	if (path_split(&parts, path, NULL) < 0 ||
	    folder_open(at, parts.folder, &folder, NULL) < 0) {
		return -ENOENT;
	}
	temp_name(temp, parts.name, id);
	return open_memory(layer, folder, temp, NULL);
}

static int open_directory(struct layer *layer, int at, const char *path, bool state_only,
			  struct error *e)
{
	auto_close int inside = -1;
	int r;

	(void)snprintf(layer->memory_shown, sizeof(layer->memory_shown), "%.*s/memory",
		       PATH_SHOWN - 10, path);
	r = folder_open(at, path, &inside, e);
	r = r == 0 ? open_state(layer, inside, "state", e) : r;
	r = r == 0 ? parse_memory(layer, e) : r;
	if (r == 0 && !state_only) {
		r = open_memory(layer, inside, "memory", e);
		r = r == 0 && layer->diff ? folder_open(inside, "..", &layer->folder, e) : r;
		layer->inside = take_fd(&inside);
	}
	return r;
}

static int open_files(struct layer *layer, int at, const struct snapshot_paths *paths,
		      bool state_only, struct error *e)
{
	struct path_parts parts;
	int r;

	(void)snprintf(layer->memory_shown, sizeof(layer->memory_shown), "%s",
		       paths->memory != NULL ? paths->memory : "");
	r = open_state(layer, at, paths->state, e);
	r = r == 0 ? parse_memory(layer, e) : r;
	if (r < 0 || state_only) {
		return r;
	}
	r = open_memory(layer, at, paths->memory, e);
	if ((r == -EXDEV || r == -ENOENT) && open_other_memory(layer, at, paths->memory) == 0) {
		r = 0;
	}
	if (r == 0 && layer->diff) {
		r = path_split(&parts, paths->state, e);
		r = r == 0 ? folder_open(at, parts.folder, &layer->folder, e) : r;
	}
	return r;
}

static int open_given(struct layer *layer, const int fds[2], bool state_only, struct error *e)
{
	struct stat st[2];
	int r;

	(void)snprintf(layer->shown, sizeof(layer->shown), "file %d", fds[0]);
	(void)snprintf(layer->memory_shown, sizeof(layer->memory_shown), "file %d", fds[1]);
	if (fstat(fds[0], &st[0]) < 0 || !S_ISREG(st[0].st_mode) ||
	    (!state_only && (fstat(fds[1], &st[1]) < 0 || !S_ISREG(st[1].st_mode)))) {
		return error_set(e, ERROR_SNAPSHOT, EINVAL,
				 "files %d and %d are not those of a snapshot", fds[0], fds[1]);
	}
	r = read_state(layer, fds[0], &st[0], e);
	r = r == 0 ? parse_memory(layer, e) : r;
	if (r == 0 && !state_only) {
		r = fd_copy(fds[1], &layer->memory, e);
		r = r == 0 ? check_memory(layer, layer->memory, &st[1], e) : r;
	}
	return r;
}

int layer_create(struct layer **ret, int at, const struct snapshot_paths *paths, bool state_only,
		 struct error *e)
{
	struct layer *layer;
	int r;

	if (paths->directory == NULL && paths->fds == NULL &&
	    (paths->state == NULL || (paths->memory == NULL && !state_only))) {
		(void)error_set(e, ERROR_SNAPSHOT, EINVAL, "no snapshot is named");
		return error_hint(e, "give its directory, or its state file and its memory file");
	}
	layer = calloc(1, sizeof(*layer));
	if (layer == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "snapshot");
	}
	layer->folder = layer->memory = layer->inside = -1;
	if (paths->fds != NULL) {
		r = open_given(layer, paths->fds, state_only, e);
	} else {
		const char *path = paths->directory != NULL ? paths->directory : paths->state;

		(void)snprintf(layer->shown, sizeof(layer->shown), "%s", path);
		r = paths->directory != NULL ? open_directory(layer, at, path, state_only, e)
					     : open_files(layer, at, paths, state_only, e);
	}
	if (r < 0) {
		layer_destroy(layer);
		return r;
	}
	*ret = layer;
	return 0;
}

void layer_destroy(struct layer *layer)
{
	if (layer == NULL) {
		return;
	}
	layout_table_finish(&layer->table);
	free(layer->state);
	close_fd(&layer->folder);
	close_fd(&layer->memory);
	close_fd(&layer->inside);
	free(layer);
}

bool layer_chunk_at(const struct layer *layer, gpa_t gpa, uint32_t *chunk)
{
	for (uint32_t i = 0; i < layer->table.layout.region_count; i++) {
		const struct snapshot_region *region = &layer->table.layout.regions[i];

		if (gpa >= region->gpa && gpa - region->gpa < region->size) {
			*chunk =
				(uint32_t)((region->offset + (gpa - region->gpa)) / SNAPSHOT_CHUNK);
			return true;
		}
	}
	return false;
}
