/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See definition_store.h. Files in the user's state directory: everything is opened through
 * descriptors of directories that were looked at, without following links, and what a file has is
 * a whole JSON text of bounded size or an error.
 *
 * No locks here: the name's lock is the caller's.
 */
#include "vmm/definition_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run_directory_internal.h"
#include "vmm/cleanup.h"
#include "vmm/text.h"
#include "vmm/vm_config.h"

#define DEFINITION "vm.json"
#define PARKED	   "parked.json"
#define LOCK	   "park.lock"
#define NO_STATE   "VMM_STATE_DIR may name another place"

struct file {
	const char *name, *new_name;
};
static const struct file definition_file = { DEFINITION, DEFINITION ".new" };
static const struct file parked_file = { PARKED, PARKED ".new" };

static int set_root(char *buf, size_t size, const char *path, const char *below, struct error *e)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/') {
		len--;
	}
	if (path[0] != '/' ||
	    (size_t)snprintf(buf, size, "%.*s%s", (int)len, path, below) + VM_NAME_MAX + 32 >=
		    RUN_DIRECTORY_PATH_SIZE) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "'%.120s', for definitions of VMs: %s",
				path, path[0] == '/' ? "too long" : "not an absolute path");
		return error_hint(e, NO_STATE);
	}
	return 0;
}

static bool is_set(const char *value)
{
	return value != NULL && value[0] != '\0';
}

int definition_root(char *buf, size_t size, struct error *e)
{
	const char *own = getenv("VMM_STATE_DIR"), *runtime = getenv("VMM_RUNTIME_DIR");
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

	if (is_set(own)) {
		return set_root(buf, size, own, "", e);
	}
	if (is_set(runtime)) {
		return set_root(buf, size, runtime, "/.state", e);
	}
	if (geteuid() == 0) {
		return set_root(buf, size, "/var/lib/vmm", "", e);
	}
	/* A relative path is no place (XDG Base Directory Specification). */
	if (xdg != NULL && xdg[0] == '/') {
		return set_root(buf, size, xdg, "/vmm", e);
	}
	if (home == NULL || home[0] != '/') {
		(void)error_set(e, ERROR_CONFIG, ENOENT,
				"no place for definitions of VMs: HOME is not set");
		return error_hint(e, NO_STATE);
	}
	return set_root(buf, size, home, "/.local/state/vmm", e);
}

/* Makes the directories above the last one, as far as they are missing. */
static void make_parents(const char *path)
{
	char part[RUN_DIRECTORY_PATH_SIZE];

	for (const char *slash = strchr(path + 1, '/'); slash != NULL;
	     slash = strchr(slash + 1, '/')) {
		(void)snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		(void)mkdir(part, 0700);
	}
}

struct place {
	char root[RUN_DIRECTORY_PATH_SIZE], path[RUN_DIRECTORY_PATH_SIZE];
	int root_fd, fd; /* -1: not open */
};

static void place_close(struct place *place)
{
	close_fd(&place->fd);
	close_fd(&place->root_fd);
}

/* ERROR_NOT_FOUND if it is not there and not to be made. */
static int place_open(struct place *place, const char *name, bool create, struct error *e)
{
	int r = vm_name_validate(name, e);

	place->root_fd = place->fd = -1;
	if (r == 0) {
		r = definition_root(place->root, sizeof(place->root), e);
	}
	if (r < 0) {
		return r;
	}
	(void)snprintf(place->path, sizeof(place->path), "%.*s/%.*s",
		       RUN_DIRECTORY_PATH_SIZE - VM_NAME_MAX - 2, place->root, VM_NAME_MAX, name);
	if (create) {
		make_parents(place->root);
	}
	r = run_open_private(AT_FDCWD, place->root, place->root, create, "VMM_STATE_DIR",
			     &place->root_fd, e);
	if (r == 0) {
		r = run_open_private(place->root_fd, name, place->path, create, "VMM_STATE_DIR",
				     &place->fd, e);
	}
	if (r < 0) {
		place_close(place);
	}
	return r;
}

static int open_file(const struct place *place, const struct file *file, int *ret, size_t *size,
		     struct error *e)
{
	auto_close int fd = openat(place->fd, file->name,
				   O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		return error_set_sys(e, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_CONFIG, errno,
				     "open '%s/%s'", place->path, file->name);
	}
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		(void)error_set(e, ERROR_CONFIG, EPERM,
				"'%s/%s' is not a file that only we can change", place->path,
				file->name);
		return error_hint(e,
				  "ls -l '%s' shows who may; a definition names files that are "
				  "opened with your rights",
				  place->path);
	}
	if (st.st_size > (off_t)DEFINITION_MAX) {
		return error_set(e, ERROR_CONFIG, EFBIG, "'%s/%s' has %lld bytes", place->path,
				 file->name, (long long)st.st_size);
	}
	*size = (size_t)st.st_size;
	*ret = take_fd(&fd);
	return 0;
}

/* *ret is malloc'ed. */
static int read_text(const struct place *place, const struct file *file, char **ret, size_t *len,
		     struct error *e)
{
	auto_close int fd = -1;
	size_t size = 0;
	int r = open_file(place, file, &fd, &size, e);
	ssize_t n = r == 0 ? read_whole(fd, size, DEFINITION_MAX, ret) : 0;

	if (n < 0) {
		return error_set_sys(e, n == -ENOMEM ? ERROR_NO_MEMORY : ERROR_CONFIG, (int)-n,
				     "read '%s/%s'", place->path, file->name);
	}
	*len = MIN((size_t)n, (size_t)DEFINITION_MAX); /* what it has grown by meanwhile is cut */
	return r;
}

static int read_json(const char *name, const struct file *file, json_t **ret, struct error *e)
{
	auto_free char *text = NULL;
	struct place place;
	json_t *root = NULL;
	size_t len = 0;
	int r = place_open(&place, name, false, e);

	if (r == 0) {
		r = read_text(&place, file, &text, &len, e);
	}
	if (r == 0) {
		r = json_parse(&root, text, len, e);
		if (r == 0 && !json_is_object(root)) {
			json_decref(root);
			r = error_set(e, ERROR_JSON, EINVAL, "not an object");
		}
		if (r < 0) {
			(void)error_prefix(e, "'%s/%s'", place.path, file->name);
			(void)error_hint(e, "vmm rm %s removes it", name);
		}
	}
	place_close(&place);
	if (r == 0) {
		*ret = root;
	}
	return r;
}

int definition_read(const char *name, json_t **ret, struct error *e)
{
	return read_json(name, &definition_file, ret, e);
}

bool definition_exists(const char *name)
{
	struct place place;
	bool there = place_open(&place, name, false, NULL) == 0 &&
		     faccessat(place.fd, DEFINITION, F_OK, AT_SYMLINK_NOFOLLOW) == 0;

	place_close(&place);
	return there;
}

static bool is_same(const struct place *place, const struct file *file, const char *text,
		    size_t len)
{
	char *old = NULL;
	size_t old_len = 0;
	bool same = read_text(place, file, &old, &old_len, NULL) == 0 && old_len == len &&
		    memcmp(old, text, len) == 0;

	free(old);
	return same;
}

static int write_new(const struct place *place, const struct file *file, const char *text,
		     size_t len)
{
	auto_close int fd = -1;
	int r;

	if (unlinkat(place->fd, file->new_name, 0) < 0 && errno != ENOENT) {
		return -errno;
	}
	fd = openat(place->fd, file->new_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0) {
		return -errno;
	}
	r = write_all(fd, text, len);
	if (r < 0) {
		return r;
	}
	if (fsync(fd) < 0 || renameat(place->fd, file->new_name, place->fd, file->name) < 0 ||
	    fsync(place->fd) < 0 || fsync(place->root_fd) < 0) {
		return -errno;
	}
	return 0;
}

static int write_file(const char *name, const struct file *file, const char *text, size_t len,
		      struct error *e)
{
	struct place place;
	int r = place_open(&place, name, true, e);

	if (r < 0) {
		return r;
	}
	if (!is_same(&place, file, text, len)) {
		r = write_new(&place, file, text, len);
		if (r < 0) {
			(void)unlinkat(place.fd, file->new_name, 0);
			(void)error_set_sys(e, ERROR_CONFIG, -r, "write '%s/%s'", place.path,
					    file->name);
			(void)error_hint(e, NO_STATE);
		}
	}
	place_close(&place);
	return r;
}

int definition_write(const char *name, const char *text, size_t len, struct error *e)
{
	return write_file(name, &definition_file, text, len, e);
}

static int remove_file(const char *name, const struct file *file, struct error *e)
{
	struct error why = { 0 };
	struct place place;
	int r = place_open(&place, name, false, &why);

	if (r < 0 && why.code == ERROR_NOT_FOUND) {
		return 0;
	}
	if (r == 0) {
		(void)unlinkat(place.fd, file->new_name, 0);
		if ((unlinkat(place.fd, file->name, 0) < 0 && errno != ENOENT) ||
		    fsync(place.fd) < 0) {
			r = error_set_sys(&why, ERROR_CONFIG, errno, "remove '%s/%s'", place.path,
					  file->name);
		}
		/* Only if nobody has put anything there. */
		(void)unlinkat(place.root_fd, name, AT_REMOVEDIR);
		if (strcmp(strrchr(place.root, '/'), "/.state") == 0) {
			(void)rmdir(place.root);
		}
	}
	place_close(&place);
	if (r < 0 && e != NULL) {
		*e = why;
	}
	return r;
}

int definition_remove(const char *name, struct error *e)
{
	return remove_file(name, &definition_file, e);
}

int definition_open_directory(const char *name, struct error *e)
{
	struct place place;
	int r = place_open(&place, name, false, e);
	int fd = r == 0 ? take_fd(&place.fd) : -1;

	place_close(&place);
	return r == 0 ? fd : r;
}

int definition_remove_at(int directory, struct error *e)
{
	if (unlinkat(directory, definition_file.name, 0) < 0 && errno != ENOENT) {
		return error_set_sys(e, ERROR_CONFIG, errno, "remove the VM's definition");
	}
	return 0;
}

/* --- of a VM that is parked -------------------------------------------------------------------- */

int parked_write(const char *name, const char *text, size_t len, struct error *e)
{
	return write_file(name, &parked_file, text, len, e);
}

int parked_read(const char *name, json_t **ret, struct error *e)
{
	return read_json(name, &parked_file, ret, e);
}

int parked_remove(const char *name, struct error *e)
{
	struct place place;

	if (place_open(&place, name, false, NULL) == 0) {
		(void)unlinkat(place.fd, LOCK, 0);
	}
	place_close(&place);
	return remove_file(name, &parked_file, e);
}

int parked_directory(const char *name, char *buf, size_t size, struct error *e)
{
	struct place place;
	int r = place_open(&place, name, false, e);

	if (r == 0) {
		(void)snprintf(buf, size, "%s/parked", place.path);
	}
	place_close(&place);
	return r;
}

/* Of this process alone: a child that it makes does not have it (fcntl(2), F_SETLK). */
int parked_lock(const char *name, int *ret, struct error *e)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	auto_close int fd = -1;
	struct place place;
	int r = place_open(&place, name, true, e);

	if (r == 0) {
		fd = openat(place.fd, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0) {
			r = error_set_sys(e, ERROR_CONFIG, errno, "open '%s/" LOCK "'", place.path);
		}
	}
	place_close(&place);
	if (r < 0) {
		return r;
	}
	if (fcntl(fd, F_SETLK, &lock) < 0) {
		(void)error_set(e, ERROR_BUSY, EBUSY, "somebody else parks or unparks VM '%s'",
				name);
		return error_hint(e, "wait until that is over");
	}
	*ret = take_fd(&fd);
	return 0;
}

static bool is_defined(int root_fd, struct run_entry *entry)
{
	char path[sizeof(entry->name) + sizeof("/" DEFINITION)];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/" DEFINITION, entry->name);
	return fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

int definition_list(struct run_entry **ret, size_t *count, struct error *e)
{
	char root[RUN_DIRECTORY_PATH_SIZE];
	struct error own;
	int fd = -1;
	int r;

	e = e != NULL ? e : &own;
	r = definition_root(root, sizeof(root), e);
	if (r == 0) {
		r = run_open_private(AT_FDCWD, root, root, false, "VMM_STATE_DIR", &fd, e);
	}
	return r < 0 && e->code != ERROR_NOT_FOUND ? r
						   : run_list(fd, root, is_defined, ret, count, e);
}
