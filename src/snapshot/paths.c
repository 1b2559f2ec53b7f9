/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where files are: paths that a client gave, names that a file gave, and what can go wrong with them.
 *
 * A client's path is split into its folder, which is opened, and a plain name in it; all else goes by that descriptor, so that
 * nobody who renames the folder meanwhile moves our files elsewhere. Names out of a file are plain or refused.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"

/* What is at most of a name in the one that it has before. */
#define TEMP_NAME_PART 200

bool name_is_plain(const char *name)
{
	return name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       strchr(name, '/') == NULL && strlen(name) <= NAME_MAX;
}

int path_split(struct path_parts *parts, const char *path, struct error *e)
{
	size_t len = strlen(path), start;

	while (len > 0 && path[len - 1] == '/') {
		len--;
	}
	start = len;
	while (start > 0 && path[start - 1] != '/') {
		start--;
	}
	if (len - start > NAME_MAX || start >= sizeof(parts->folder)) {
		return error_set(e, ERROR_SNAPSHOT, ENAMETOOLONG, "the path '%.80s...' is too long",
				 path);
	}
	(void)snprintf(parts->name, sizeof(parts->name), "%.*s", (int)(len - start), path + start);
	(void)snprintf(parts->folder, sizeof(parts->folder), "%.*s", (int)start, path);
	if (start == 0) {
		(void)snprintf(parts->folder, sizeof(parts->folder), ".");
	}
	if (!name_is_plain(parts->name)) {
		(void)error_set(e, ERROR_SNAPSHOT, EINVAL, "'%.*s' cannot be a snapshot",
				PATH_SHOWN, path);
		return error_hint(e, "give a path that ends in a name, such as snapshots/first");
	}
	return 0;
}

void temp_name(char temp[NAME_MAX + 1], const char *name, const char *id)
{
	(void)snprintf(temp, NAME_MAX + 1, ".%.*s.%s.new", TEMP_NAME_PART, name, id);
}

bool temp_name_is_of(const char *temp, const char *name, const char **id)
{
	char example[NAME_MAX + 1];
	size_t len;

	temp_name(example, name, "00000000000000000000000000000000");
	len = strlen(example) - strlen("00000000000000000000000000000000.new");
	if (strlen(temp) != strlen(example) || memcmp(temp, example, len) != 0 ||
	    strspn(temp + len, "0123456789abcdef") != SNAPSHOT_ID_TEXT - 1 ||
	    strcmp(temp + len + SNAPSHOT_ID_TEXT - 1, ".new") != 0) {
		return false;
	}
	*id = temp + len;
	return true;
}

bool paths_are_given(const struct snapshot_paths *paths)
{
	return paths->directory != NULL || paths->state != NULL || paths->fds != NULL;
}

int fd_copy(int fd, int *ret, struct error *e)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0) {
		return error_set_sys(e, ERROR_SNAPSHOT, errno, "file %d of a snapshot", fd);
	}
	*ret = copy;
	return 0;
}

int folder_each(int folder, int (*each)(void *arg, int folder, const char *name), void *arg)
{
	uint64_t buf[256];

	if (lseek(folder, 0, SEEK_SET) < 0) {
		return -errno;
	}
	for (;;) {
		/* opendir(3) would allocate. */
		ssize_t n = getdents64(folder, buf, sizeof(buf));

		if (n <= 0) {
			return n == 0 ? 0 : -errno;
		}
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *entry = (const void *)((const char *)buf + at);
			bool itself =
				strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
			int r = itself ? 0 : each(arg, folder, entry->d_name);

			if (r != 0) {
				return r;
			}
			at += entry->d_reclen;
		}
	}
}

int file_error(struct error *e, int sys, const char *what, const char *path)
{
	(void)error_set_sys(e, sys == ENOENT ? ERROR_NOT_FOUND : ERROR_SNAPSHOT, sys, "%s '%s'",
			    what, path);
	switch (sys) {
	case ENOSPC:
	case EDQUOT:
		return error_hint(e, "make room there, or give a place on another disk");
	case EFBIG:
		return error_hint(
			e, "a file cannot be that large there: see ulimit -f, or give a place on "
			   "another file system");
	case EROFS:
		return error_hint(e, "it is mounted read-only: give another place");
	case EACCES:
	case EPERM:
		return error_hint(e, "see the rights of the folder that it is in: ls -ld");
	case EIO:
		return error_hint(e, "the disk has failed: see the host's kernel log");
	case ENOENT:
		return error_hint(e, "see whether the path is right");
	default:
		return sys > 0 ? -sys : -EIO;
	}
}

int folder_open(int at, const char *path, int *ret, struct error *e)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char shown[PATH_SHOWN];

	if (fd < 0) {
		int sys = errno;

		(void)snprintf(shown, sizeof(shown), "%s", path);
		return file_error(e, sys, "open the folder", shown);
	}
	*ret = fd;
	return 0;
}

int file_open(int at, const char *name, const char *path, int *ret, struct stat *st,
	      struct error *e)
{
	auto_close int fd = -1;

	/* Opening what is no file may do something: a device, a pipe. */
	if (fstatat(at, name, st, 0) < 0) {
		return file_error(e, errno, "open", path);
	}
	if (S_ISREG(st->st_mode)) {
		fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd < 0 || fstat(fd, st) < 0) {
			return file_error(e, errno, "open", path);
		}
	}
	if (!S_ISREG(st->st_mode)) {
		(void)error_set(e, ERROR_SNAPSHOT, EINVAL, "'%s' is not a regular file", path);
		return error_hint(e, "name a file that a snapshot was written to");
	}
	*ret = take_fd(&fd);
	return 0;
}

int file_read(int fd, void *buf, size_t len, uint64_t offset, const char *path, struct error *e)
{
	uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return file_error(e, errno, "read", path);
		}
		if (n == 0) {
			(void)error_set(e, ERROR_SNAPSHOT, ENODATA, "'%s' ends before it should",
					path);
			return error_hint(e, "it is not whole: use another copy of the snapshot");
		}
		p += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int file_write(int fd, const void *buf, size_t len, uint64_t offset)
{
	const uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EIO;
		}
		p += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}
