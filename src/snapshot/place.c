/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a snapshot takes its place: under another name until all of it is on the disk, then by rename.
 *
 * A directory	".NAME.ID.new" has both files; synced, it is renamed to NAME, or exchanged with a snapshot that is there, whose files
 *		are then removed. One step, so there is the old one or the new one.
 * Two files	cannot be renamed in one step. `state` is renamed first, and says the id; until `memory` has been renamed, too, the
 *		reader finds it under the other name, which follows from the id. So the snapshot is the new one from
 *		the first rename on, and the old one before.
 *
 * Each step is synced before the next: the new files; their folder; after the renames, the folders again. Names with an id are
 * nobody else's, so what a killed writer leaves behind is in nobody's way.
 *
 * One that is read early (early.c) takes its place before its pages are there, and is never synced: whoever could read it then cannot read it later.
 *
 * What is in the place already is looked at first, and replaced only if it is a snapshot (or empty): its first, or last, bytes say so.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"

#define STATE  "state"
#define MEMORY "memory"

static int rename_with(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags)
{
	return renameat2(from_fd, from, to_fd, to, flags) == 0 ? 0 : -errno;
}

/* What may be in a snapshot's directory. */
static bool name_is_ours(const char *name)
{
	return strcmp(name, STATE) == 0 || strcmp(name, MEMORY) == 0 ||
	       strcmp(name, EARLY_ASKS) == 0 || strcmp(name, WORKING_SET) == 0 ||
	       working_set_name_is_temp(name) || strncmp(name, "disk-", 5) == 0;
}

int place_refuse_stranger(void *arg, int folder, const char *name)
{
	struct stat st;

	(void)arg;
	/* All are files: a directory could not be removed with them. */
	return name_is_ours(name) && (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
				      !S_ISDIR(st.st_mode))
		       ? 0
		       : 1;
}

static int remove_name(void *arg, int folder, const char *name)
{
	(void)arg;
	/* What cannot be removed keeps the directory, no more. */
	(void)unlinkat(folder, name, 0);
	return 0;
}

static int remove_ours(void *arg, int folder, const char *name)
{
	return name_is_ours(name) ? remove_name(arg, folder, name) : 0;
}

static int __cold not_replaced(struct error *e, int sys, const char *path, const char *why)
{
	(void)error_set(e, ERROR_EXISTS, sys, "'%s' is there already, and %s", path, why);
	return error_hint(e, "give another name, or remove it yourself");
}

int place_check_file(int folder, const char *name, const char *path, bool last, struct error *e)
{
	auto_close int fd = -1;
	uint8_t bytes[TRAILER_SIZE] = { 0 };
	struct stat st;
	uint64_t size;
	int r;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return errno == ENOENT ? 0 : file_error(e, errno, "look at", path);
	}
	if (!S_ISREG(st.st_mode)) {
		return not_replaced(e, EEXIST, path, "is not a regular file");
	}
	r = file_open(folder, name, path, &fd, &st, e);
	if (r < 0 || st.st_size == 0) {
		return r;
	}
	size = (uint64_t)st.st_size;
	if (size >= (last ? TRAILER_SIZE : 8)) {
		r = file_read(fd, bytes, last ? TRAILER_SIZE : 8, last ? size - TRAILER_SIZE : 0,
			      path, e);
	}
	if (r == 0 && !(last ? trailer_is_one(bytes) : memcmp(bytes, STATE_MAGIC, 8) == 0)) {
		r = not_replaced(e, EEXIST, path, "is not part of a snapshot");
	}
	return r;
}

/* 0: nothing is there, or an empty directory, or a snapshot. */
static int check_directory(const struct place *place, struct error *e)
{
	auto_close int fd = -1;
	struct stat st;
	int r;

	if (fstatat(place->folder, place->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return errno == ENOENT ? 0 : file_error(e, errno, "look at", place->shown);
	}
	if (!S_ISDIR(st.st_mode)) {
		return not_replaced(e, EEXIST, place->shown, "is no directory");
	}
	r = folder_open(place->folder, place->name, &fd, e);
	if (r < 0) {
		return r;
	}
	r = folder_each(fd, place_refuse_stranger, NULL);
	if (r > 0) {
		return not_replaced(e, EEXIST, place->shown,
				    "has files that are not of a snapshot");
	}
	return r < 0 ? file_error(e, -r, "read the folder", place->shown)
		     : place_check_file(fd, STATE, place->shown, false, e);
}

static int make_file(int folder, const char *name, const char *path, int *ret, bool *made,
		     struct error *e)
{
	int fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0) {
		return file_error(e, errno, "make", path);
	}
	leftovers_lock(fd);
	*made = true;
	*ret = fd;
	return 0;
}

static int init_directory(struct place *place, const char *path, const char *id, struct error *e)
{
	struct path_parts parts;
	int r = path_split(&parts, path, e);

	if (r < 0) {
		return r;
	}
	(void)snprintf(place->name, sizeof(place->name), "%s", parts.name);
	(void)snprintf(place->shown, sizeof(place->shown), "%s", path);
	(void)snprintf(place->memory_shown, sizeof(place->memory_shown), "%.*s/" MEMORY,
		       PATH_SHOWN - 10, path);
	temp_name(place->temp, place->name, id);
	r = folder_open(AT_FDCWD, parts.folder, &place->folder, e);
	r = r == 0 ? check_directory(place, e) : r;
	if (r < 0) {
		return r;
	}
	if (mkdirat(place->folder, place->temp, 0700) < 0) {
		return file_error(e, errno, "make", place->shown);
	}
	place->made_directory = true;
	r = folder_open(place->folder, place->temp, &place->inside, e);
	r = r == 0 ? make_file(place->inside, STATE, place->shown, &place->state,
			       &place->made_state, e)
		   : r;
	return r == 0 ? make_file(place->inside, MEMORY, place->memory_shown, &place->memory,
				  &place->made_memory, e)
		      : r;
}

/* Splits, opens the folder, checks what is there, makes the new file beside. */
static int init_file(int *folder, char *name, char *temp, char *shown, const char *path,
		     const char *id, bool last, struct error *e)
{
	struct path_parts parts;
	int r = path_split(&parts, path, e);

	if (r < 0) {
		return r;
	}
	(void)snprintf(name, NAME_MAX + 1, "%s", parts.name);
	(void)snprintf(shown, PATH_SHOWN, "%s", path);
	temp_name(temp, name, id);
	r = folder_open(AT_FDCWD, parts.folder, folder, e);
	return r == 0 ? place_check_file(*folder, name, shown, last, e) : r;
}

static bool same_folder(int a, int b)
{
	struct stat st[2];

	return fstat(a, &st[0]) == 0 && fstat(b, &st[1]) == 0 && st[0].st_dev == st[1].st_dev &&
	       st[0].st_ino == st[1].st_ino;
}

static int init_files(struct place *place, const struct snapshot_paths *paths, const char *id,
		      struct error *e)
{
	int r = init_file(&place->folder, place->name, place->temp, place->shown, paths->state, id,
			  false, e);

	r = r == 0 ? init_file(&place->memory_folder, place->memory_name, place->memory_temp,
			       place->memory_shown, paths->memory, id, true, e)
		   : r;
	if (r == 0 && strcmp(place->temp, place->memory_temp) == 0 &&
	    same_folder(place->folder, place->memory_folder)) {
		(void)error_set(e, ERROR_SNAPSHOT, EINVAL,
				"'%s' cannot be both the state and the memory of a snapshot",
				place->shown);
		r = error_hint(e, "give two names that differ in their first characters");
	}
	r = r == 0 ? make_file(place->folder, place->temp, place->shown, &place->state,
			       &place->made_state, e)
		   : r;
	return r == 0 ? make_file(place->memory_folder, place->memory_temp, place->memory_shown,
				  &place->memory, &place->made_memory, e)
		      : r;
}

static int init_fds(struct place *place, const int fds[2], struct error *e)
{
	struct stat st[2];
	int r = fd_copy(fds[0], &place->state, e);

	(void)snprintf(place->shown, sizeof(place->shown), "file %d", fds[0]);
	(void)snprintf(place->memory_shown, sizeof(place->memory_shown), "file %d", fds[1]);
	r = r == 0 ? fd_copy(fds[1], &place->memory, e) : r;
	if (r == 0 && (fstat(place->state, &st[0]) < 0 || fstat(place->memory, &st[1]) < 0 ||
		       !S_ISREG(st[0].st_mode) || !S_ISREG(st[1].st_mode) || st[0].st_size != 0 ||
		       st[1].st_size != 0)) {
		r = error_set(e, ERROR_SNAPSHOT, EINVAL,
			      "files %d and %d are not empty files for a snapshot", fds[0], fds[1]);
	}
	if (r < 0) {
		place_finish(place);
	}
	return r;
}

int place_init(struct place *place, const struct snapshot_paths *paths, const char *id,
	       struct error *e)
{
	int r;

	*place = PLACE_NONE;
	if (paths->fds != NULL) {
		return init_fds(place, paths->fds, e);
	}
	if (paths->directory == NULL && (paths->state == NULL || paths->memory == NULL)) {
		(void)error_set(e, ERROR_SNAPSHOT, EINVAL, "a snapshot needs a place");
		return error_hint(e,
				  "give a directory, or a file for the state and one for memory");
	}
	place->directory = paths->directory != NULL;
	r = place->directory ? init_directory(place, paths->directory, id, e)
			     : init_files(place, paths, id, e);
	place->named = !place->directory;
	if (r < 0) {
		place_finish(place);
		return r;
	}
	if (place->directory) {
		leftovers_remove(place->folder, place->name, -1, NULL);
	} else {
		leftovers_remove(place->folder, place->name, -1, NULL);
		leftovers_remove(place->memory_folder, place->memory_name, place->folder,
				 place->name);
	}
	return 0;
}

int place_state_inode(const struct place *place, uint64_t *dev, uint64_t *ino)
{
	char name[NAME_MAX + sizeof("/" STATE)];
	struct stat st;

	(void)snprintf(name, sizeof(name), "%s%s", place->name, place->directory ? "/" STATE : "");
	if (fstatat(place->folder, name, &st, 0) < 0) {
		return -errno;
	}
	*dev = st.st_dev;
	*ino = st.st_ino;
	return 0;
}

int place_scratch(const struct place *place, const char *id, int *ret, struct error *e)
{
	int folder = place->directory ? place->inside : place->memory_folder;
	char name[NAME_MAX + 1];
	bool made;
	int r;

	if (folder < 0) {
		(void)error_set(
			e, ERROR_NOT_SUPPORTED, ENOTSUP,
			"snapshot '%s': a VM that runs cannot be saved compressed into open files",
			place->shown);
		return error_hint(e, "pause it first, or compress the snapshot afterwards (merge)");
	}
	temp_name(name, "pages", id);
	r = make_file(folder, name, place->memory_shown, ret, &made, e);
	if (r == 0) {
		(void)unlinkat(folder, name, 0);
	}
	return r;
}

static int sync_fd(int fd, bool sync, const char *path, struct error *e)
{
	if (sync && fsync(fd) < 0) {
		return file_error(e, errno, "write to the disk", path);
	}
	return 0;
}

/* What the exchange has brought out of its place. */
static void remove_old(const struct place *place)
{
	auto_close int fd = openat(place->folder, place->temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		(void)folder_each(fd, remove_ours, NULL);
		(void)unlinkat(place->folder, place->temp, AT_REMOVEDIR);
	}
}

static int commit_directory(struct place *place, bool sync, struct error *e)
{
	bool replaced = false;
	int r = sync_fd(place->inside, sync, place->shown, e);

	if (r < 0) {
		return r;
	}
	r = rename_with(place->folder, place->temp, place->folder, place->name, RENAME_NOREPLACE);
	if (r == -EINVAL) {
		/* No flags there: replaces an empty directory, no other. */
		r = rename_with(place->folder, place->temp, place->folder, place->name, 0);
		r = r == -ENOTEMPTY ? -EOPNOTSUPP : r;
	} else if (r == -EEXIST) {
		r = check_directory(place, e);
		if (r < 0) {
			return r;
		}
		r = rename_with(place->folder, place->temp, place->folder, place->name,
				RENAME_EXCHANGE);
		replaced = r == 0;
		r = r == -EINVAL ? -EOPNOTSUPP : r;
	}
	if (r == -EOPNOTSUPP) {
		(void)error_set(
			e, ERROR_SNAPSHOT, EOPNOTSUPP,
			"the file system of '%s' cannot exchange the snapshot that is there for "
			"the new one in one step",
			place->shown);
		return error_hint(e, "give another name, or remove the old one first");
	}
	if (r < 0) {
		return file_error(e, -r, "rename to", place->shown);
	}
	place->made_directory = place->made_state = place->made_memory = false;
	r = sync_fd(place->folder, sync, place->shown, e);
	if (replaced) {
		remove_old(place);
	}
	return r;
}

static int commit_files(struct place *place, bool sync, struct error *e)
{
	int r = sync_fd(place->memory_folder, sync, place->memory_shown, e);

	if (r < 0) {
		return r;
	}
	r = rename_with(place->folder, place->temp, place->folder, place->name, 0);
	if (r < 0) {
		return file_error(e, -r, "rename to", place->shown);
	}
	/* From here on it is the new one; see above for why its memory stays if it cannot be renamed. */
	place->made_state = place->made_memory = false;
	r = sync_fd(place->folder, sync, place->shown, e);
	if (r < 0) {
		return r;
	}
	r = rename_with(place->memory_folder, place->memory_temp, place->memory_folder,
			place->memory_name, 0);
	if (r < 0) {
		return file_error(e, -r, "rename to", place->memory_shown);
	}
	return sync_fd(place->memory_folder, sync, place->memory_shown, e);
}

int place_commit(struct place *place, bool sync, struct error *e)
{
	int r;

	if (!place->directory && !place->named) {
		return 0;
	}
	r = sync_fd(place->memory, sync, place->memory_shown, e);
	r = r == 0 ? sync_fd(place->state, sync, place->shown, e) : r;
	if (r < 0) {
		return r;
	}
	return place->directory ? commit_directory(place, sync, e) : commit_files(place, sync, e);
}

void place_finish(struct place *place)
{
	if (place->made_directory) {
		if (place->inside >= 0) {
			(void)folder_each(place->inside, remove_name, NULL);
		}
		(void)unlinkat(place->folder, place->temp, AT_REMOVEDIR);
	} else {
		if (place->made_state) {
			(void)unlinkat(place->folder, place->temp, 0);
		}
		if (place->made_memory) {
			(void)unlinkat(place->memory_folder, place->memory_temp, 0);
		}
	}
	place->made_directory = place->made_state = place->made_memory = false;
	close_fd(&place->state);
	close_fd(&place->memory);
	close_fd(&place->inside);
	close_fd(&place->folder);
	close_fd(&place->memory_folder);
}
