// SPDX-License-Identifier: Apache-2.0
/*
 * Unix sockets with a name: addresses longer than the 107 bytes of a socket address (by way of
 * /proc/self/fd), listening, and the claim on a socket at a path of the user's.
 *
 * socket_bind() is for a process that is called firecracker: its clients remove the socket between
 * two starts, before or after the end, and know of no lock.
 *
 * Such a path may lie in a directory that others can write to (/tmp). Nothing there is followed if
 * it is a symlink, a lock file must be ours, and what is not a socket is never removed. A socket
 * that answers is somebody's, lock or no lock. The lock file says which socket it stands for, so
 * that socket_release() leaves one alone that another program has put there since.
 *
 * Main thread; socket_release() within main's filter.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run_directory_internal.h"
#include "vmm/cleanup.h"

#define LOCK_SUFFIX ".lock"

int run_socket_address(int dir_fd, const char *name, struct sockaddr_un *address, struct error *e)
{
	int n;

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", dir_fd,
		     name);
	if (n < 0 || (size_t)n >= sizeof(address->sun_path)) {
		(void)error_set(e, ERROR_CONFIG, ENAMETOOLONG, "'%s': too long for a socket", name);
		return error_hint(e, "at most %zu bytes after the last slash",
				  sizeof(address->sun_path) - sizeof("/proc/self/fd/2147483647/"));
	}
	return 0;
}

/* As user and shell name it if that fits, which needs no /proc. */
static int path_address(const char *path, int dir_fd, const char *name, struct sockaddr_un *address,
			struct error *e)
{
	size_t len = strlen(path);

	if (len >= sizeof(address->sun_path)) {
		return run_socket_address(dir_fd, name, address, e);
	}
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(address->sun_path, path, len + 1);
	return 0;
}

int run_socket_listen(const struct sockaddr_un *address, const char *shown, bool private, int *ret,
		      struct error *e)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "socket '%s'", shown);
	}
	/* The mode of an unbound socket becomes that of its file: at no time can others connect,
	 * whatever the umask is. */
	if ((private && fchmod(fd, 0600) < 0) ||
	    bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ||
	    listen(fd, RUN_SOCKET_QUEUE) < 0) {
		return error_set_sys(e, ERROR_CONFIG, errno, "socket '%s'", shown);
	}
	*ret = take_fd(&fd);
	return 0;
}

int run_directory_listen_on(int fd, struct error *e)
{
	return listen(fd, RUN_SOCKET_QUEUE) == 0 ? 0
						 : error_set_sys(e, ERROR_INTERNAL, errno,
								 "listen to a socket that was "
								 "taken over");
}

int run_socket_try(const struct sockaddr_un *address, int *ret)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
		return -errno;
	}
	*ret = take_fd(&fd);
	return 0;
}

static int in_use(const char *path, pid_t holder, struct error *e)
{
	if (holder > 0) {
		(void)error_set(e, ERROR_EXISTS, EADDRINUSE, "socket '%s' is in use by process %d",
				path, (int)holder);
	} else {
		(void)error_set(e, ERROR_EXISTS, EADDRINUSE, "socket '%s' is in use", path);
	}
	return error_hint(e, "end that process first, or choose another path");
}

/* Removes a socket that nobody listens on. */
static int remove_stale(int dir_fd, const char *name, const char *path,
			const struct sockaddr_un *address, struct error *e)
{
	auto_close int fd = -1;
	struct stat st;
	int r;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return errno == ENOENT ? 0
				       : error_set_sys(e, ERROR_CONFIG, errno, "socket '%s'", path);
	}
	if (!S_ISSOCK(st.st_mode)) {
		(void)error_set(e, ERROR_EXISTS, EEXIST, "'%s' is there already and is %s", path,
				S_ISLNK(st.st_mode) ? "a symlink" : "not a socket");
		return error_hint(e, "remove it, or choose another path");
	}
	r = run_socket_try(address, &fd);
	if (r == 0 || r == -EAGAIN) {
		return in_use(path, 0, e);
	}
	if (r != -ECONNREFUSED) {
		return error_set_sys(e, ERROR_CONFIG, -r, "socket '%s': is it in use?", path);
	}
	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT) {
		return error_set_sys(e, ERROR_CONFIG, errno, "remove the stale socket '%s'", path);
	}
	return 0;
}

/* "PID DEVICE INODE\n" */
static int write_record(int lock_fd, int dir_fd, const char *name, struct error *e)
{
	char text[80];
	struct stat st;
	int n;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return error_set_sys(e, ERROR_CONFIG, errno, "socket '%s'", name);
	}
	n = snprintf(text, sizeof(text), "%d %" PRIu64 " %" PRIu64 "\n", (int)getpid(),
		     (uint64_t)st.st_dev, (uint64_t)st.st_ino);
	if (ftruncate(lock_fd, 0) < 0 || pwrite(lock_fd, text, (size_t)n, 0) != n) {
		return error_set_sys(e, ERROR_CONFIG, errno, "write '%s%s'", name, LOCK_SUFFIX);
	}
	return 0;
}

static int take_socket(int dir_fd, const char *name, const char *path, int lock_fd, int *ret,
		       struct error *e)
{
	struct sockaddr_un address;
	auto_close int fd = -1;
	int r = path_address(path, dir_fd, name, &address, e);

	if (r == 0) {
		r = remove_stale(dir_fd, name, path, &address, e);
	}
	if (r == 0) {
		r = run_socket_listen(&address, path, true, &fd, e);
	}
	if (r == 0) {
		r = write_record(lock_fd, dir_fd, name, e);
	}
	if (r == 0) {
		*ret = take_fd(&fd);
	}
	return r;
}

/* Splits the path at its last slash; the directory is opened. */
static int open_parent(const char *path, int *ret, const char **name, struct error *e)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];
	size_t len = slash != NULL ? (size_t)(slash - path) : 0;

	*name = slash != NULL ? slash + 1 : path;
	if ((*name)[0] == '\0' || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0 ||
	    strlen(*name) + strlen(LOCK_SUFFIX) > NAME_MAX || len >= sizeof(parent)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "'%.200s' is no path for a socket", path);
		return error_hint(e, "name a file in a directory that exists, with a short name");
	}
	memcpy(parent, path, len);
	parent[len] = '\0';
	*ret = open(slash == NULL ? "."
		    : len == 0	  ? "/"
				  : parent,
		    O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret < 0) {
		(void)error_set_sys(e, ERROR_CONFIG, errno, "socket '%s'", path);
		return error_hint(e, "its directory must exist and be ours to write to");
	}
	return 0;
}

int socket_claim(const char *path, int *listen_fd, int *lock_fd, struct error *e)
{
	char lock_name[NAME_MAX + 1], shown[PATH_MAX + sizeof(LOCK_SUFFIX)];
	auto_close int dir_fd = -1;
	auto_close int fd = -1;
	pid_t holder = 0;
	const char *name;
	int r = open_parent(path, &dir_fd, &name, e);

	if (r < 0) {
		return r;
	}
	(void)snprintf(lock_name, sizeof(lock_name), "%s%s", name, LOCK_SUFFIX);
	(void)snprintf(shown, sizeof(shown), "%s%s", path, LOCK_SUFFIX);
	r = -ESTALE;
	for (int i = 0; r == -ESTALE && i < RUN_CLAIM_TRIES; i++) {
		r = run_lock_open(dir_fd, lock_name, shown, &fd, &holder, e);
	}
	if (r == -EAGAIN) {
		return in_use(path, holder, e);
	}
	if (r == -ESTALE) {
		return error_set(e, ERROR_BUSY, EBUSY, "'%s' vanishes again and again", shown);
	}
	if (r < 0) {
		return r;
	}
	r = take_socket(dir_fd, name, path, fd, listen_fd, e);
	if (r < 0) {
		(void)unlinkat(dir_fd, lock_name, 0);
		return r;
	}
	*lock_fd = take_fd(&fd);
	return 0;
}

int socket_bind(const char *path, int *listen_fd, struct error *e)
{
	struct sockaddr_un address;
	auto_close int dir_fd = -1;
	const char *name;
	int r = open_parent(path, &dir_fd, &name, e);

	if (r == 0) {
		r = path_address(path, dir_fd, name, &address, e);
	}
	if (r == 0) {
		r = run_socket_listen(&address, path, false, listen_fd, e);
	}
	if (r == -EADDRINUSE) {
		(void)error_set(e, ERROR_EXISTS, EADDRINUSE,
				"Failed to open the API socket at: %s. Check that it is not "
				"already used.",
				path);
		return error_hint(e, "if no process listens on it any more, remove it first");
	}
	return r;
}

static bool is_recorded(int lock_fd, const struct stat *st)
{
	char text[80], *end = text;
	ssize_t n = pread(lock_fd, text, sizeof(text) - 1, 0);
	uint64_t device, inode;

	if (n <= 0) {
		return false;
	}
	text[n] = '\0';
	(void)strtoull(text, &end, 10);
	device = strtoull(end, &end, 10);
	inode = strtoull(end, &end, 10);
	return *end == '\n' && device == st->st_dev && inode == st->st_ino;
}

void socket_release(const char *path, int *lock_fd)
{
	char lock_path[PATH_MAX + sizeof(LOCK_SUFFIX)];
	struct stat st;

	if (*lock_fd < 0) {
		return;
	}
	(void)snprintf(lock_path, sizeof(lock_path), "%s%s", path, LOCK_SUFFIX);
	if (fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode) &&
	    is_recorded(*lock_fd, &st)) {
		(void)unlinkat(AT_FDCWD, path, 0);
	}
	if (run_same_file(AT_FDCWD, lock_path, *lock_fd)) {
		(void)unlinkat(AT_FDCWD, lock_path, 0);
	}
	close_fd(lock_fd);
}
