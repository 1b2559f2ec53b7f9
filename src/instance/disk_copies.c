/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of disks in a snapshot's directory: include/vmm/disk_copies.h is the contract. Any thread, no state. Whoever wrote
 * the snapshot controls the configuration and every file beside it.
 */
#include "vmm/disk_copies.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/disk_copy.h"

int disk_copy_check_id(const char *id, struct error *e)
{
	const size_t len = strlen(id);

	if (len == 0 || len > DISK_COPY_ID_MAX || strchr(id, '/') != NULL) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"drive '%.64s': its id cannot be a part of a file's name", id);
		return error_hint(e,
				  "give the drive an id of 1 to %d bytes without '/', or name a "
				  "file for its copy (drive_copies)",
				  DISK_COPY_ID_MAX);
	}
	return 0;
}

void disk_copy_name(const char *id, char name[NAME_MAX + 1])
{
	(void)snprintf(name, NAME_MAX + 1, "disk-%s", id);
}

/* --- what there is ------------------------------------------------------------------------------- */

static const json_t *find_drive(const json_t *config, const char *id)
{
	const json_t *drives = json_object_get(config, "drives");

	for (size_t i = 0; i < json_array_size(drives); i++) {
		const json_t *drive = json_array_get(drives, i);
		const char *found = json_string_value(json_object_get(drive, "drive_id"));

		if (found != NULL && strcmp(found, id) == 0) {
			return drive;
		}
	}
	return NULL;
}

static int bad(const char *id, const char *why, struct error *e)
{
	(void)error_set(e, ERROR_SNAPSHOT, EINVAL, "copy of drive '%.64s': %s", id, why);
	return error_hint(e, "the snapshot is not made by vmm: do not trust it");
}

static int read_one(struct disk_copies *copies, const json_t *value, struct error *e)
{
	struct disk_copy_info *one = &copies->list[copies->count];
	const char *id = json_string_value(value);
	const json_t *drive, *witness;

	if (id == NULL || disk_copy_check_id(id, NULL) < 0) {
		return bad(id != NULL ? id : "?", "no id that can be a part of a file's name", e);
	}
	if (disk_copies_find(copies, id) != NULL) {
		return bad(id, "it comes twice", e);
	}
	drive = find_drive(copies->config, id);
	if (drive == NULL) {
		return bad(id, "the machine has no such drive", e);
	}
	witness = json_object_get(json_object_get(json_object_get(copies->config, "vmm"), "disks"),
				  id);
	if (disk_witness_from_json(&one->witness, witness, "it", NULL) < 0) {
		return bad(id, "nothing is known of its content", e);
	}
	one->id = id;
	one->overlay = json_is_string(json_object_get(drive, "overlay"));
	copies->count++;
	return 0;
}

int disk_copies_read(struct disk_copies *ret, const char *config, struct error *e)
{
	const json_t *list;
	int r;

	*ret = (struct disk_copies){ .taken = false };
	r = json_parse(&ret->config, config, strlen(config), e);
	if (r < 0) {
		return r;
	}
	list = json_object_get(json_object_get(ret->config, "vmm"), "copies");
	ret->taken = json_is_array(list);
	if (json_array_size(list) > ARRAY_SIZE(ret->list)) {
		r = bad("?", "there are more than a machine has drives", e);
	}
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		r = read_one(ret, json_array_get(list, i), e);
	}
	if (r < 0) {
		disk_copies_finish(ret);
	}
	return r;
}

void disk_copies_finish(struct disk_copies *copies)
{
	json_decref(copies->config);
	*copies = (struct disk_copies){ .taken = false };
}

const struct disk_copy_info *disk_copies_find(const struct disk_copies *copies, const char *id)
{
	for (uint32_t i = 0; i < copies->count; i++) {
		if (strcmp(copies->list[i].id, id) == 0) {
			return &copies->list[i];
		}
	}
	return NULL;
}

/* --- their files --------------------------------------------------------------------------------- */

/* The disk may have been a block device; and when the file was written says nothing. */
static int check(const struct disk_copy_info *one, int fd, uint64_t size, const char *path,
		 struct error *e)
{
	struct disk_witness then = one->witness, now;
	int r = disk_witness_take(&now, fd, size, path, &then, e);

	if (r < 0) {
		return r;
	}
	then.is_device = false;
	now.mtime_s = then.mtime_s;
	now.mtime_ns = then.mtime_ns;
	r = disk_witness_compare(&then, &now, path, e);
	return r < 0 ? error_hint(e, "use another copy of the snapshot") : 0;
}

static int not_there(const char *path, int sys, struct error *e)
{
	if (sys == ELOOP) {
		(void)error_set(e, ERROR_SNAPSHOT, sys, "'%s' is a link, not a copy of a disk",
				path);
		return error_hint(e, "put the file itself there, if you trust it");
	}
	(void)error_set_sys(e, ERROR_SNAPSHOT, sys, "open '%s'", path);
	return sys == ENOENT ? error_hint(e, "use another copy of the snapshot") : -sys;
}

static void path_of(const char *folder, const char *name, char path[PATH_MAX])
{
	(void)snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX - NAME_MAX - 3, folder, name);
}

int disk_copies_open(const struct disk_copy_info *one, const struct disk_copies_place *place,
		     bool verify, int *ret, struct error *e)
{
	char name[NAME_MAX + 1], path[PATH_MAX];
	auto_close int fd = -1;
	struct stat st;
	int r;

	disk_copy_name(one->id, name);
	path_of(place->path, name, path);
	/* Without waiting, should it be a pipe. */
	fd = openat(place->directory, name,
		    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		return not_there(path, errno, e);
	}
	if (!S_ISREG(st.st_mode)) {
		(void)error_set(e, ERROR_SNAPSHOT, EINVAL, "'%s' is not a regular file", path);
		return error_hint(e, "use another copy of the snapshot");
	}
	r = verify ? check(one, fd, (uint64_t)st.st_size, path, e) : 0;
	if (r == 0) {
		*ret = take_fd(&fd);
	}
	return r;
}

int disk_copies_copy(const struct disk_copy_info *one, const struct disk_copies_place *place,
		     bool verify, const struct disk_copies_to *to, struct error *e)
{
	char name[NAME_MAX + 1], from[PATH_MAX], path[PATH_MAX];
	struct disk_copy copy = {
		.path = from,
		.folder = to->folder,
		.name = to->name,
		.sync = to->sync,
		.go_on = to->go_on,
		.arg = to->arg,
	};
	auto_close int fd = -1;
	int r = disk_copies_open(one, place, verify, &fd, e);

	if (r < 0) {
		return r;
	}
	disk_copy_name(one->id, name);
	path_of(place->path, name, from);
	path_of(to->path, to->name, path);
	copy.from = fd;
	r = disk_copy(&copy, NULL, e);
	if (r == -EEXIST) {
		(void)error_set(e, ERROR_EXISTS, EEXIST, "'%s' is there already", path);
		return error_hint(e, "give another folder, or remove it yourself");
	}
	return r;
}
