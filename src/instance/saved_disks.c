/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Witnesses of disks in snapshots; saved_disks.h says what for.
 *
 * By whoever owns the struct: main, then the job, the machine thread for a moment. The guest controls what is on a disk, whoever
 * wrote the file the JSON.
 */
#include "saved_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/disk_copy.h"
#include "vmm/options_json.h"
#include "vmm/request.h"

static const char *written_path(const struct block_config *disk)
{
	return disk->overlay != NULL ? disk->overlay : disk->path;
}

int saved_disks_init(struct saved_disks *disks, const struct vm_config *vm, struct error *e)
{
	disks->directory = -1;
	for (uint32_t i = 0; i < vm->disk_count; i++) {
		struct saved_disk *disk = &disks->list[disks->count++];

		*disk = (struct saved_disk){ .id = strdup(vm->disks[i].id),
					     .path = strdup(written_path(&vm->disks[i])),
					     .read_only = vm->disks[i].read_only,
					     .fd = -1 };
		if (disk->id == NULL || disk->path == NULL) {
			return error_set(e, ERROR_NO_MEMORY, ENOMEM, "snapshot: out of memory");
		}
	}
	return 0;
}

void saved_disks_finish(struct saved_disks *disks)
{
	for (uint32_t i = 0; i < disks->count; i++) {
		free(disks->list[i].id);
		free(disks->list[i].path);
		close_fd(&disks->list[i].fd);
	}
	disks->count = 0;
}

/* The end of what is open; -1: it has none that can be known. */
static int64_t size_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
		return -1;
	}
	return lseek(fd, 0, SEEK_END);
}

static bool take(struct disk_witness *ret, int fd, const char *path,
		 const struct disk_witness *like)
{
	int64_t size = size_of(fd);

	return size >= 0 && disk_witness_take(ret, fd, (uint64_t)size, path, like, NULL) == 0;
}

static int open_disk(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

void saved_disks_open(struct saved_disks *disks)
{
	for (uint32_t i = 0; i < disks->count; i++) {
		struct saved_disk *disk = &disks->list[i];

		disk->fd = open_disk(disk->path);
		if (disk->fd >= 0 && !take(&disk->witness, disk->fd, disk->path, NULL)) {
			close_fd(&disk->fd);
		}
	}
}

void saved_disks_take(struct saved_disks *disks)
{
	for (uint32_t i = 0; i < disks->count; i++) {
		struct saved_disk *disk = &disks->list[i];
		const struct disk_witness before = disk->witness;

		disk->taken = disk->fd >= 0 && take(&disk->witness, disk->fd, disk->path, &before);
	}
}

json_t *saved_disks_to_json(const struct saved_disks *disks)
{
	auto_json json_t *object = json_object();

	for (uint32_t i = 0; i < disks->count; i++) {
		const struct saved_disk *disk = &disks->list[i];

		if (disk->taken &&
		    !json_put(object, disk->id, disk_witness_to_json(&disk->witness))) {
			return NULL;
		}
	}
	return take_ptr(object);
}

json_t *saved_disks_copies_to_json(const struct saved_disks *disks)
{
	auto_json json_t *list = json_array();

	if (!disks->with_copies) {
		return json_null();
	}
	for (uint32_t i = 0; i < disks->count; i++) {
		if (disks->list[i].inside &&
		    json_array_append_new(list, json_string(disks->list[i].id)) != 0) {
			return NULL;
		}
	}
	return take_ptr(list);
}

static struct saved_disk *find(struct saved_disks *disks, const char *id)
{
	for (uint32_t i = 0; i < disks->count; i++) {
		if (strcmp(disks->list[i].id, id) == 0) {
			return &disks->list[i];
		}
	}
	return NULL;
}

int saved_disks_want(struct saved_disks *disks, const json_t *copies, struct error *e)
{
	for (size_t i = 0; i < json_array_size(copies); i++) {
		struct disk_copy_request request;
		struct saved_disk *disk;
		int r = options_from_json(&disk_copy_options, &request, json_array_get(copies, i),
					  0, e);

		if (r < 0) {
			return r;
		}
		disk = find(disks, request.id);
		if (disk == NULL || disk->copy != NULL) {
			return error_set(e, ERROR_NOT_FOUND, ENODEV,
					 disk == NULL ? "drive_copies: there is no drive '%.64s'"
						      : "drive_copies: drive '%.64s' comes twice",
					 request.id);
		}
		disk->copy = request.path;
		disk->reflink = request.reflink;
	}
	return 0;
}

int saved_disks_want_all(struct saved_disks *disks, struct error *e)
{
	int r = 0;

	disks->with_copies = true;
	for (uint32_t i = 0; r == 0 && i < disks->count; i++) {
		struct saved_disk *disk = &disks->list[i];

		disk->inside = !disk->read_only;
		r = disk->inside ? disk_copy_check_id(disk->id, e) : 0;
	}
	return r < 0 ? error_prefix(e, "with_disks") : 0;
}

static int copy(const struct saved_disks *disks, struct saved_disk *disk,
		bool (*go_on)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
	char name[NAME_MAX + 1];
	const struct disk_copy copy = {
		.from = disk->fd,
		.path = disk->path,
		.folder = disk->inside ? disks->directory : AT_FDCWD,
		.name = disk->inside ? name : disk->copy,
		.way = disk->reflink ? DISK_COPY_REFLINK : DISK_COPY_ANY,
		.go_on = go_on,
		.arg = arg,
	};
	int r;

	if (disk->fd < 0 || !disk->taken) {
		return error_set(e, ERROR_DISK, EINVAL,
				 "drive '%.64s': '%s' is nothing that can be copied", disk->id,
				 disk->path);
	}
	disk_copy_name(disk->id, name);
	r = disk_copy(&copy, NULL, e);
	disk->copied = r == 0 && !disk->inside;
	if (r < 0 && disk->reflink && e->code == ERROR_NOT_SUPPORTED) {
		e->hint[0] = '\0';
		(void)error_hint(e, "give the drive an overlay (--disk BASE,overlay=FILE), which "
				    "is small, or have all of it copied (--copy-disks)");
	}
	return r < 0 ? error_prefix(e, "drive '%.64s'", disk->id) : 0;
}

int saved_disks_copy(struct saved_disks *disks,
		     bool (*go_on)(void *arg, uint64_t done, uint64_t total), void *arg,
		     struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < disks->count; i++) {
		struct saved_disk *disk = &disks->list[i];

		r = disk->copy != NULL || disk->inside ? copy(disks, disk, go_on, arg, e) : 0;
	}
	return r;
}

int saved_disks_sync(const struct saved_disks *disks, struct error *e)
{
	for (uint32_t i = 0; i < disks->count; i++) {
		auto_close int fd = -1;
		char name[NAME_MAX + 1];

		if (!disks->list[i].inside) {
			continue;
		}
		disk_copy_name(disks->list[i].id, name);
		fd = openat(disks->directory, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd < 0 || fsync(fd) < 0) {
			return error_set_sys(e, ERROR_SNAPSHOT, errno,
					     "write the copy of drive '%.64s' to the disk",
					     disks->list[i].id);
		}
	}
	return 0;
}

void saved_disks_forget(struct saved_disks *disks)
{
	for (uint32_t i = 0; i < disks->count; i++) {
		if (disks->list[i].copied) {
			(void)unlinkat(AT_FDCWD, disks->list[i].copy, 0);
		}
	}
}

/* --- and back ------------------------------------------------------------------------------------ */

static bool has_other(const json_t *others, const char *id)
{
	for (size_t i = 0; i < json_array_size(others); i++) {
		const char *other =
			json_string_value(json_object_get(json_array_get(others, i), "drive_id"));

		if (other != NULL && strcmp(other, id) == 0) {
			return true;
		}
	}
	return false;
}

static int cure(const struct block_config *disk, const struct disk_copies *copies, struct error *e)
{
	if (disk_copies_find(copies, disk->id) != NULL) {
		return error_hint(e, "the snapshot has a copy of that moment: --disks-to FOLDER "
				     "(disks_to) makes one of it there for the VM, which leaves "
				     "this disk alone");
	}
	return error_hint(e, "give it a copy of that moment (drive_overrides, --disk), or "
			     "accept what the guest will make of it (changed_disks, "
			     "--changed-disks accept)");
}

static int check(const struct block_config *disk, const char *path, const json_t *json,
		 const struct disk_copies *copies, struct error *e)
{
	auto_close int fd = open_disk(path);
	struct disk_witness then, now;
	int r = disk_witness_from_json(&then, json, path, e);

	if (r < 0) {
		return r;
	}
	if (fd < 0) {
		(void)error_set_sys(e, ERROR_DISK, errno, "drive '%.64s': '%s'", disk->id, path);
		return disk_copies_find(copies, disk->id) != NULL ? cure(disk, copies, e) : -e->sys;
	}
	if (!take(&now, fd, path, &then)) {
		return error_set(e, ERROR_DISK, EIO, "drive '%.64s': '%s' cannot be read", disk->id,
				 path);
	}
	r = disk_witness_compare(&then, &now, path, e);
	if (r < 0) {
		(void)error_prefix(e, "drive '%.64s' has changed since the snapshot", disk->id);
		return cure(disk, copies, e);
	}
	return 0;
}

int saved_disks_check(const json_t *json, const struct vm_config *vm, const json_t *others,
		      const struct disk_copies *copies, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < vm->disk_count; i++) {
		const struct block_config *disk = &vm->disks[i];
		const json_t *witness = json_object_get(json, disk->id);

		if (json_is_object(witness)) {
			r = check(disk,
				  has_other(others, disk->id) ? disk->path : written_path(disk),
				  witness, copies, e);
		}
	}
	return r;
}
