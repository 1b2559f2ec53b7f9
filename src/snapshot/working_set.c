/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `working-set` of a snapshot's directory: which chunks a guest that went on from it has asked for, in this order. A load
 * that brings memory when it is touched brings these first (lazy.c).
 *
 * It is a wish: no byte of memory comes from it, so the worst that it can say is a bad order. Still it is read as a stranger's: it
 * has to be this snapshot's, whole, and name chunks that there are, each once. If it is anything else there is none, and whoever
 * loads is warned.
 *
 * It appears by rename: ".working-set.ID.new" until it is on the disk. The ID is random, so that two VMs that went on from one
 * snapshot do not meet; the last one wins.
 *
 * Written by a job's thread within its filter, into the directory that was opened by the load: if another snapshot has taken its place
 * since, the file goes nowhere.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/crc32c.h"
#include "vmm/pager.h"

#define MAGIC  "VMMWKSET"
#define FORMAT 1

uint64_t working_set_size(uint64_t count)
{
	return WORKING_SET_HEADER_SIZE + count * sizeof(uint32_t);
}

static uint32_t sum(const uint8_t *data, uint64_t len)
{
	static const uint8_t none[4];
	uint32_t crc = crc32c(0, data, WORKING_SET_HEADER_SIZE - sizeof(none));

	crc = crc32c(crc, none, sizeof(none));
	return crc32c(crc, data + WORKING_SET_HEADER_SIZE, len - WORKING_SET_HEADER_SIZE);
}

void working_set_encode(uint8_t *data, const struct snapshot_id *id, const uint32_t *chunks,
			uint32_t count)
{
	memset(data, 0, WORKING_SET_HEADER_SIZE);
	memcpy(data, MAGIC, 8);
	store_le32(data + 8, FORMAT);
	store_le32(data + 12, count);
	memcpy(data + 16, id->bytes, SNAPSHOT_ID_SIZE);
	for (uint32_t i = 0; i < count; i++) {
		store_le32(data + working_set_size(i), chunks[i]);
	}
	store_le32(data + WORKING_SET_HEADER_SIZE - 4, sum(data, working_set_size(count)));
}

static int __cold not_one(struct error *e, const char *path, const char *why)
{
	return error_set(e, ERROR_SNAPSHOT, EBADMSG, "'%s' %s", path, why);
}

static int parse_header(const uint8_t *data, uint64_t len, const struct snapshot_id *id,
			const char *path, struct error *e)
{
	if (len < WORKING_SET_HEADER_SIZE || memcmp(data, MAGIC, 8) != 0) {
		return not_one(e, path, "is no record of a working set");
	}
	if (load_le32(data + 8) != FORMAT) {
		return not_one(e, path, "has a format that this version does not know");
	}
	if (len != working_set_size(load_le32(data + 12)) ||
	    load_le32(data + WORKING_SET_HEADER_SIZE - 4) != sum(data, len)) {
		return not_one(e, path, "is damaged, or not whole");
	}
	if (memcmp(data + 16, id->bytes, SNAPSHOT_ID_SIZE) != 0) {
		return not_one(e, path, "is of another snapshot");
	}
	return 0;
}

/* False: one that there is not, or one again. */
static bool take_chunks(struct working_set *set, const uint8_t *data, uint64_t chunks,
			uint64_t *seen)
{
	for (uint32_t i = 0; i < set->count; i++) {
		const uint32_t chunk = load_le32(data + working_set_size(i));

		if (chunk >= chunks || page_is_set(seen, chunk)) {
			return false;
		}
		page_set(seen, chunk);
		set->chunks[i] = chunk;
	}
	return true;
}

int working_set_parse(struct working_set *set, const uint8_t *data, uint64_t len,
		      const struct snapshot_id *id, const struct layout *layout, const char *path,
		      struct error *e)
{
	const uint64_t chunks = layout->length / SNAPSHOT_CHUNK;
	uint64_t *seen;
	int r = parse_header(data, len, id, path, e);

	*set = (struct working_set){ 0 };
	if (r < 0) {
		return r;
	}
	seen = calloc(chunks / 64 + 1, sizeof(*seen));
	set->count = load_le32(data + 12);
	set->chunks = malloc((set->count + 1ULL) * sizeof(*set->chunks));
	if (seen == NULL || set->chunks == NULL) {
		r = error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "'%s'", path);
	} else if (!take_chunks(set, data, chunks, seen)) {
		r = not_one(e, path, "names memory that there is not, or some of it twice");
	}
	free(seen);
	if (r < 0) {
		working_set_finish(set);
	}
	return r;
}

void working_set_finish(struct working_set *set)
{
	free(take_ptr(set->chunks));
	set->count = 0;
}

/* A regular file, and no link to one: nothing else is opened on behalf of who made the directory. */
static int open_file(int folder, const char *path, int *ret, uint64_t *size, struct error *e)
{
	auto_close int fd = -1;
	struct stat st;

	if (fstatat(folder, WORKING_SET, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return file_error(e, errno, "open", path);
	}
	if (!S_ISREG(st.st_mode)) {
		return not_one(e, path, "is not a regular file");
	}
	fd = openat(folder, WORKING_SET, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0) {
		return file_error(e, errno, "open", path);
	}
	*size = (uint64_t)st.st_size;
	*ret = take_fd(&fd);
	return 0;
}

int working_set_read(struct working_set *set, int folder, const struct snapshot_id *id,
		     const struct layout *layout, const char *path, struct error *e)
{
	auto_close int fd = -1;
	uint8_t *data;
	uint64_t size = 0;
	int r = open_file(folder, path, &fd, &size, e);

	*set = (struct working_set){ 0 };
	if (r < 0) {
		return r;
	}
	/* No more is allocated than what memory of this size can need. */
	if (size > working_set_size(layout->length / SNAPSHOT_CHUNK)) {
		return not_one(e, path, "is damaged, or not whole");
	}
	data = malloc(size + 1);
	if (data == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "'%s'", path);
	}
	r = file_read(fd, data, size, 0, path, e);
	r = r == 0 ? working_set_parse(set, data, size, id, layout, path, e) : r;
	free(data);
	return r;
}

static int fill(int fd, const uint8_t *data, uint64_t len, const char *path, struct error *e)
{
	int r = file_write(fd, data, len, 0);

	if (r < 0) {
		return file_error(e, -r, "write", path);
	}
	return fsync(fd) < 0 ? file_error(e, errno, "write to the disk", path) : 0;
}

static int make_file(int folder, const char *temp, const char *path, int *ret, struct error *e)
{
	*ret = openat(folder, temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (*ret < 0 && errno == ENOENT) {
		(void)error_set(e, ERROR_NOT_FOUND, ENOENT,
				"'%s': this snapshot is no longer there", path);
		return error_hint(e, "it was removed or replaced since it was loaded");
	}
	if (*ret < 0) {
		return file_error(e, errno, "make", path);
	}
	leftovers_lock(*ret);
	return 0;
}

int working_set_write(int folder, const uint8_t *data, uint64_t len, const char *path,
		      struct error *e)
{
	auto_close int fd = -1;
	struct snapshot_id random;
	char id[SNAPSHOT_ID_TEXT], temp[NAME_MAX + 1];
	int r;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "a name for a file");
	}
	id_text(&random, id);
	temp_name(temp, WORKING_SET, id);
	leftovers_remove(folder, WORKING_SET, -1, NULL);
	r = make_file(folder, temp, path, &fd, e);
	if (r < 0) {
		return r;
	}
	r = fill(fd, data, len, path, e);
	if (r == 0 && renameat(folder, temp, folder, WORKING_SET) < 0) {
		r = file_error(e, errno, "rename to", path);
	}
	if (r < 0) {
		(void)unlinkat(folder, temp, 0);
		return r;
	}
	return fsync(folder) < 0 ? file_error(e, errno, "write to the disk", path) : 0;
}

bool working_set_name_is_temp(const char *name)
{
	const char *id;

	return temp_name_is_of(name, WORKING_SET, &id);
}

/* --- of a directory that somebody looks at --- */

int snapshot_reader_working_set(const struct snapshot_reader *r, const char *directory,
				uint64_t *bytes, struct error *e)
{
	const struct layer *layer = r->layers[0];
	auto_close int folder = -1;
	struct working_set set;
	char path[PATH_SHOWN];
	int x = folder_open(AT_FDCWD, directory, &folder, e);

	(void)snprintf(path, sizeof(path), "%.*s/" WORKING_SET, PATH_SHOWN - 16, directory);
	x = x == 0 ? working_set_read(&set, folder, &layer->file.header.id, &layer->table.layout,
				      path, e)
		   : x;
	*bytes = 0;
	for (uint32_t i = 0; x == 0 && i < set.count; i++) {
		uint32_t region;

		*bytes += layout_chunk_pages(&layer->table.layout, set.chunks[i], &region) *
			  PAGE_SIZE_4K;
	}
	if (x == 0) {
		working_set_finish(&set);
	}
	return x;
}
