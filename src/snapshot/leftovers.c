/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is removed: the files of writers that were killed, and snapshots that nobody wants any more.
 *
 * A writer holds a lock (flock(2)) on each file that it makes, as long as it lives. So ".NAME.ID.new" that nobody holds is left
 * over, and the next writer for the same place removes it. One is not: the memory of a snapshot of two files whose writer was
 * killed between its two renames, which is where `state` looks for it (place.c); its id says so.
 *
 * A wish throughout: what cannot be removed stays. Only names that a writer makes are looked at.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"

void leftovers_lock(int fd)
{
	/* Where there are no locks, nothing is ever removed. */
	(void)flock(fd, LOCK_EX | LOCK_NB);
}

static bool is_alive(int folder, const char *name)
{
	auto_close int fd = -1;
	struct stat st;

	int r = file_open(folder, name, name, &fd, &st, NULL);

	if (r < 0) {
		return r != -ENOENT;
	}
	/* Nobody else takes it: whoever made this file had it from the beginning. */
	return flock(fd, LOCK_EX | LOCK_NB) < 0;
}

static int remove_all(void *arg, int folder, const char *name)
{
	(void)arg;
	(void)unlinkat(folder, name, 0);
	return 0;
}

static void remove_directory(int folder, const char *name)
{
	auto_close int fd = -1;

	if (folder_open(folder, name, &fd, NULL) == 0 && !is_alive(fd, "state")) {
		(void)folder_each(fd, remove_all, NULL);
		(void)unlinkat(folder, name, AT_REMOVEDIR);
	}
}

struct leftovers {
	const char *name;
	const char *keep; /* an id */
};

static int look(void *arg, int folder, const char *name)
{
	const struct leftovers *leftovers = arg;
	const char *id;
	struct stat st;

	if (!temp_name_is_of(name, leftovers->name, &id) ||
	    fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (leftovers->keep != NULL && strncmp(id, leftovers->keep, SNAPSHOT_ID_TEXT - 1) == 0)) {
		return 0;
	}
	if (S_ISDIR(st.st_mode)) {
		remove_directory(folder, name);
	} else if (S_ISREG(st.st_mode) && !is_alive(folder, name)) {
		(void)unlinkat(folder, name, 0);
	}
	return 0;
}

void leftovers_remove(int folder, const char *name, int state_folder, const char *state)
{
	struct leftovers leftovers = { .name = name };
	char keep[SNAPSHOT_ID_TEXT];

	if (state != NULL) {
		uint8_t head[STATE_HEADER_SIZE];
		struct state_header header;
		auto_close int fd = -1;
		struct stat st;

		if (file_open(state_folder, state, state, &fd, &st, NULL) == 0 &&
		    file_read(fd, head, sizeof(head), 0, state, NULL) == 0) {
			if (state_header_parse(&header, head, state, NULL) < 0) {
				/* A later version's, perhaps: it may need any of them. */
				return;
			}
			id_text(&header.id, keep);
			leftovers.keep = keep;
		}
	}
	(void)folder_each(folder, look, &leftovers);
}

/* --- snapshots --- */

static int remove_at(int folder, const char *name, int flags, const char *path, struct error *e)
{
	return unlinkat(folder, name, flags) == 0 || errno == ENOENT
		       ? 0
		       : file_error(e, errno, "remove", path);
}

static int remove_snapshot_directory(const struct path_parts *parts, const char *path,
				     struct error *e)
{
	auto_close int folder = -1, inside = -1;
	struct stat st;
	int r = folder_open(AT_FDCWD, parts->folder, &folder, e);

	if (r == 0 &&
	    (fstatat(folder, parts->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))) {
		return file_error(e, errno == ENOENT ? ENOENT : ENOTDIR, "remove", path);
	}
	r = r == 0 ? folder_open(folder, parts->name, &inside, e) : r;
	if (r < 0) {
		return r;
	}
	if (folder_each(inside, place_refuse_stranger, NULL) != 0) {
		(void)error_set(e, ERROR_SNAPSHOT, ENOTEMPTY,
				"'%s' has files that are not of a snapshot", path);
		return error_hint(e, "remove it yourself");
	}
	r = place_check_file(inside, "state", path, false, e);
	/* The one without which it is none comes first. */
	r = r == 0 ? remove_at(inside, "state", 0, path, e) : r;
	if (r < 0) {
		return r;
	}
	(void)folder_each(inside, remove_all, NULL);
	return remove_at(folder, parts->name, AT_REMOVEDIR, path, e);
}

static int remove_file(const char *path, bool last, bool look_only, struct error *e)
{
	auto_close int folder = -1;
	struct path_parts parts;
	struct stat st;
	int r = path_split(&parts, path, e);

	r = r == 0 ? folder_open(AT_FDCWD, parts.folder, &folder, e) : r;
	if (r == 0 && fstatat(folder, parts.name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return file_error(e, errno, "remove", path);
	}
	r = r == 0 ? place_check_file(folder, parts.name, path, last, e) : r;
	return r == 0 && !look_only ? remove_at(folder, parts.name, 0, path, e) : r;
}

int snapshot_remove(const struct snapshot_paths *paths, struct error *e)
{
	struct path_parts parts;
	int r = 0;

	if (paths->directory != NULL) {
		r = path_split(&parts, paths->directory, e);
		return r == 0 ? remove_snapshot_directory(&parts, paths->directory, e) : r;
	}
	if (paths->state == NULL || paths->memory == NULL) {
		(void)error_set(e, ERROR_SNAPSHOT, EINVAL, "no snapshot is named");
		return error_hint(e, "give its directory, or its state file and its memory file");
	}
	for (int pass = 0; r == 0 && pass < 2; pass++) {
		r = remove_file(paths->state, false, pass == 0, e);
		r = r == 0 ? remove_file(paths->memory, true, pass == 0, e) : r;
	}
	return r;
}
