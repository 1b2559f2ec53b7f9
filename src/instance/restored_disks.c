/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See restored_disks.h. The request is a client's, who names the folder; which disks there are, and what is in
 * them, is said by whoever wrote the snapshot: their ids are parts of names that are made here, and nothing else.
 */
#include "restored_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cleanup.h"

static void name_of(const struct disk_copy_info *one, char name[NAME_MAX + 1])
{
	(void)snprintf(name, NAME_MAX + 1, "%s.img", one->id);
}

bool restored_disks_is_named(const json_t *overrides, const char *id)
{
	for (size_t i = 0; i < json_array_size(overrides); i++) {
		const char *other = json_string_value(
			json_object_get(json_array_get(overrides, i), "drive_id"));

		if (other != NULL && strcmp(other, id) == 0) {
			return true;
		}
	}
	return false;
}

static int add_override(struct restored_disks *disks, const struct disk_copy_info *one,
			const char *folder, struct error *e)
{
	char name[NAME_MAX + 1], path[PATH_MAX];
	json_t *entry;
	int n;

	name_of(one, name);
	n = snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (n < 0 || (size_t)n >= sizeof(path)) {
		return error_set(e, ERROR_CONFIG, ENAMETOOLONG,
				 "--disks-to (disks_to): '%.80s...' is too long", folder);
	}
	entry = json_pack("{s:s, s:s}", "drive_id", one->id,
			  one->overlay ? "overlay" : "path_on_host", path);
	if (entry == NULL) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--disks-to (disks_to): '%.120s' is not UTF-8", folder);
		return error_hint(e, "the API takes names in UTF-8");
	}
	return json_array_append_new(disks->overrides, entry) == 0
		       ? 0
		       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "restore: out of memory");
}

static int check_taken(const struct restored_disks *disks,
		       const struct snapshot_load_request *request, struct error *e)
{
	if (disks->copies.taken) {
		return 0;
	}
	(void)error_set(e, ERROR_NOT_FOUND, ENOENT,
			"--disks-to (disks_to): the snapshot '%.120s' has no copies of disks",
			request->directory);
	return error_hint(e, "vmm snapshot create --with-disks takes them (with_disks); here it is "
			     "--disk ID=PATH (drive_overrides)");
}

int restored_disks_init(struct restored_disks *disks, const char *config,
			const struct snapshot_load_request *request, struct error *e)
{
	int r = disk_copies_read(&disks->copies, config, e);

	if (r < 0) {
		return r;
	}
	disks->overrides = request->disks != NULL ? json_copy((json_t *)(uintptr_t)request->disks)
						  : json_array();
	if (disks->overrides == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "restore: out of memory");
	}
	if (request->disks_to == NULL) {
		return 0;
	}
	r = check_taken(disks, request, e);
	for (uint32_t i = 0; r == 0 && i < disks->copies.count; i++) {
		const struct disk_copy_info *one = &disks->copies.list[i];

		if (!restored_disks_is_named(request->disks, one->id)) {
			r = add_override(disks, one, request->disks_to, e);
		}
	}
	return r;
}

static int open_folder(struct restored_disks *disks, const char *path, int directory,
		       struct error *e)
{
	struct stat st[2];

	disks->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (disks->folder < 0) {
		(void)error_set_sys(e, ERROR_CONFIG, errno, "--disks-to (disks_to) '%.120s'", path);
		return error_hint(e, "name a directory that is there and may be written to: mkdir");
	}
	if (fstat(disks->folder, &st[0]) == 0 && fstat(directory, &st[1]) == 0 &&
	    st[0].st_dev == st[1].st_dev && st[0].st_ino == st[1].st_ino) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--disks-to (disks_to) '%.120s' is the snapshot itself", path);
		return error_hint(e,
				  "name another directory: nothing is ever written to a snapshot");
	}
	return 0;
}

int restored_disks_make(struct restored_disks *disks, const struct snapshot_load_request *request,
			int directory, bool (*go_on)(void *arg, uint64_t done, uint64_t total),
			void *arg, struct error *e)
{
	const bool check = request->changed_disks == CHANGED_DISKS_REFUSE;
	const struct disk_copies_place place = { .directory = directory,
						 .path = request->directory };
	char name[NAME_MAX + 1];
	struct disk_copies_to to = {
		.path = request->disks_to, .name = name, .go_on = go_on, .arg = arg
	};
	int r;

	if (request->disks_to == NULL) {
		return 0;
	}
	r = open_folder(disks, request->disks_to, directory, e);
	to.folder = disks->folder;
	for (uint32_t i = 0; r == 0 && i < disks->copies.count; i++) {
		const struct disk_copy_info *one = &disks->copies.list[i];

		name_of(one, name);
		if (!restored_disks_is_named(request->disks, one->id)) {
			r = disk_copies_copy(one, &place, check, &to, e);
			disks->made[i] = r == 0;
		}
	}
	/* What the guest has written to a disk of no name would be lost with the host's power. */
	if (r == 0 && fsync(disks->folder) < 0) {
		r = error_set_sys(e, ERROR_DISK, errno, "write '%.120s' to the disk",
				  request->disks_to);
	}
	return r < 0 ? error_prefix(e, "restore") : 0;
}

void restored_disks_forget(struct restored_disks *disks)
{
	for (uint32_t i = 0; i < disks->copies.count; i++) {
		char name[NAME_MAX + 1];

		name_of(&disks->copies.list[i], name);
		if (disks->made[i]) {
			(void)unlinkat(disks->folder, name, 0);
		}
		disks->made[i] = false;
	}
}

void restored_disks_finish(struct restored_disks *disks)
{
	json_decref(take_ptr(disks->overrides));
	disk_copies_finish(&disks->copies);
	close_fd(&disks->folder);
}
