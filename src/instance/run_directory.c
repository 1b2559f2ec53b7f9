// SPDX-License-Identifier: Apache-2.0
/*
 * The directory of a VM, from the VM's side: where it is, who has it, and what is in it.
 *
 * Two starters of one name meet at the lock file. A file that was locked may have been removed by
 * the one before (a VM that ends takes its directory along), so whoever has a lock checks that the
 * file is still the one in the directory, and begins anew if not. Everything else in the directory
 * is touched only by who holds the lock.
 *
 * RUNTIME may be below /tmp, where others can put a symlink or a directory of their own in our
 * place: nothing is followed, and what is not ours is refused.
 *
 * Main thread, before other threads; run_directory_finish() within main's filter.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run_directory_internal.h"
#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/vm_config.h"

#define AUTOMATIC_NAMES 10000

/* Nobody looks at what is late before the end: it need not go before the start. */
static const struct content {
	const char *name;
	bool socket, late;
} contents[] = {
	{ RUN_API_SOCKET, .socket = true },
	{ "console.sock", .socket = true },
	{ RUN_DIRECTORY_UPGRADE, .socket = true },
	{ "console.log" },
	{ "vmm.log" },
	{ RUN_EXIT_FILE },
	{ "events.json", .late = true },
};

int run_directory_root(char *buf, size_t size, struct error *e)
{
	const char *own = getenv("VMM_RUNTIME_DIR");
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	char path[RUN_DIRECTORY_PATH_SIZE - VM_NAME_MAX - 1];
	int n;

	if (own != NULL && own[0] != '\0') {
		n = snprintf(path, sizeof(path), "%s", own);
	} else if (geteuid() == 0) {
		n = snprintf(path, sizeof(path), "/run/vmm");
	} else if (xdg != NULL && xdg[0] == '/') {
		n = snprintf(path, sizeof(path), "%s/vmm", xdg);
	} else {
		n = snprintf(path, sizeof(path), "/tmp/vmm-%u", (unsigned int)geteuid());
	}
	if (path[0] != '/' || n < 0 || (size_t)n >= MIN(sizeof(path), size)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "'%.120s', the directory of VMs: %s", path,
				path[0] == '/' ? "too long" : "not an absolute path");
		return error_hint(e, "VMM_RUNTIME_DIR names one; at most %zu bytes",
				  sizeof(path) - 1);
	}
	/* O_NOFOLLOW follows a symlink that has a slash behind it. */
	while (n > 1 && path[n - 1] == '/') {
		path[--n] = '\0';
	}
	memcpy(buf, path, (size_t)n + 1);
	return 0;
}

static int check_private(const struct stat *st, const char *shown, const char *variable,
			 struct error *e)
{
	if (st->st_uid != geteuid()) {
		(void)error_set(e, ERROR_CONFIG, EPERM, "'%s' belongs to user %u, not to us (%u)",
				shown, (unsigned int)st->st_uid, (unsigned int)geteuid());
		return error_hint(e, "set %s to a directory of yours", variable);
	}
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		(void)error_set(e, ERROR_CONFIG, EPERM, "'%s' can be written to by others (%04o)",
				shown, (unsigned int)st->st_mode & 07777);
		return error_hint(e, "chmod go-w '%s'", shown);
	}
	return 0;
}

int run_open_private(int at, const char *name, const char *shown, bool create, const char *variable,
		     int *ret, struct error *e)
{
	auto_close int fd = -1;
	struct stat st;
	int r;

	if (create && mkdirat(at, name, 0700) < 0 && errno != EEXIST) {
		(void)error_set_sys(e, ERROR_CONFIG, errno, "make the directory '%s'", shown);
		return error_hint(e, "%s may name another place", variable);
	}
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		int cause = errno;
		bool link = fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);

		if (link) {
			(void)error_set(e, ERROR_CONFIG, ELOOP, "'%s' is a symlink", shown);
			return error_hint(e, "a directory is expected there: remove the link");
		}
		return error_set_sys(e, cause == ENOENT ? ERROR_NOT_FOUND : ERROR_CONFIG, cause,
				     "open the directory '%s'", shown);
	}
	if (fstat(fd, &st) < 0) {
		return error_set_sys(e, ERROR_CONFIG, errno, "'%s'", shown);
	}
	r = check_private(&st, shown, variable, e);
	if (r == 0) {
		*ret = take_fd(&fd);
	}
	return r;
}

int run_root_open(bool create, char path[RUN_DIRECTORY_PATH_SIZE], int *ret, struct error *e)
{
	int r = run_directory_root(path, RUN_DIRECTORY_PATH_SIZE, e);

	return r < 0 ? r : run_open_private(AT_FDCWD, path, path, create, RUN_VARIABLE, ret, e);
}

static int lock_command(int fd, int command, struct flock *lock)
{
	int r;

	do {
		r = fcntl(fd, command, lock);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int run_lock(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int r = lock_command(fd, F_OFD_SETLK, &lock);

	return r == -EACCES ? -EAGAIN : r;
}

bool run_lock_held(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return lock_command(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

pid_t run_lock_pid(int fd)
{
	char text[24];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	long pid;

	if (n <= 0) {
		return 0;
	}
	text[n] = '\0';
	pid = strtol(text, NULL, 10);
	return pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

bool run_same_file(int dir_fd, const char *name, int fd)
{
	struct stat there, ours;

	return fstatat(dir_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &ours) == 0 &&
	       there.st_dev == ours.st_dev && there.st_ino == ours.st_ino;
}

static int check_lock_file(int fd, const char *shown, struct error *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		return error_set_sys(e, ERROR_CONFIG, errno, "'%s'", shown);
	}
	if (!S_ISREG(st.st_mode)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "'%s' is not a regular file", shown);
		return error_hint(e, "remove it");
	}
	/* We write to it: it must not be another file of ours that somebody has linked there. */
	if (st.st_nlink > 1) {
		(void)error_set(e, ERROR_CONFIG, EMLINK, "'%s' has other names, too", shown);
		return error_hint(e, "it is a hard link: remove it");
	}
	return check_private(&st, shown, RUN_VARIABLE, e);
}

int run_lock_open(int dir_fd, const char *name, const char *shown, int *ret, pid_t *holder,
		  struct error *e)
{
	auto_close int fd =
		openat(dir_fd, name,
		       O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	int r;

	if (fd < 0) {
		int cause = errno;

		if (cause == ENOENT) {
			return -ESTALE; /* the directory was removed */
		}
		(void)error_set_sys(e, ERROR_CONFIG, cause, "open the lock '%s'", shown);
		return error_hint(e, cause == ELOOP ? "a symlink is there: remove it"
						    : "it must be a file of ours");
	}
	r = check_lock_file(fd, shown, e);
	if (r < 0) {
		return r;
	}
	r = run_lock(fd);
	if (r == -EAGAIN) {
		*holder = run_lock_pid(fd);
		return r;
	}
	if (r < 0) {
		return error_set_sys(e, ERROR_CONFIG, -r, "lock '%s'", shown);
	}
	if (!run_same_file(dir_fd, name, fd)) {
		return -ESTALE;
	}
	*ret = take_fd(&fd);
	return 0;
}

static int write_pid(int fd, const char *shown, struct error *e)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n) {
		return error_set_sys(e, ERROR_CONFIG, errno, "write '%s/" RUN_LOCK_FILE "'", shown);
	}
	return 0;
}

static int remove_remains(const struct run_directory *dir, struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
		const char *name = contents[i].name;

		if (!contents[i].late && unlinkat(dir->fd, name, 0) < 0 && errno != ENOENT) {
			(void)error_set_sys(e, ERROR_CONFIG, errno, "remove '%s/%s'", dir->path,
					    name);
			return error_hint(e, "an earlier VM cannot have left it: look at it");
		}
	}
	return 0;
}

static int held_error(const struct run_directory *dir, pid_t holder, struct error *e)
{
	if (holder > 0) {
		(void)error_set(e, ERROR_EXISTS, EEXIST,
				"a VM named '%s' is there already: process %d", dir->name,
				(int)holder);
	} else {
		(void)error_set(e, ERROR_EXISTS, EEXIST, "a VM named '%s' is there already",
				dir->name);
	}
	return error_hint(e, "choose another --name, or end it: vmm stop %s", dir->name);
}

/* -ESTALE without a message: begin anew. */
static int try_claim(struct run_directory *dir, int root_fd, struct error *e)
{
	char shown[RUN_DIRECTORY_PATH_SIZE + sizeof("/" RUN_LOCK_FILE)];
	pid_t holder = 0;
	int r = run_open_private(root_fd, dir->name, dir->path, true, RUN_VARIABLE, &dir->fd, e);

	if (r == -ENOENT) {
		return -ESTALE;
	}
	if (r < 0) {
		return r;
	}
	(void)snprintf(shown, sizeof(shown), "%s/" RUN_LOCK_FILE, dir->path);
	r = run_lock_open(dir->fd, RUN_LOCK_FILE, shown, &dir->lock_fd, &holder, e);
	if (r == -EAGAIN) {
		r = held_error(dir, holder, e);
	}
	if (r == 0) {
		r = write_pid(dir->lock_fd, dir->path, e);
	}
	if (r == 0) {
		r = remove_remains(dir, e);
	}
	if (r < 0) {
		close_fd(&dir->lock_fd);
		close_fd(&dir->fd);
	}
	return r;
}

static int claim_name(struct run_directory *ret, int root_fd, const char *root, const char *name,
		      struct error *e)
{
	struct run_directory dir = { .fd = -1, .lock_fd = -1 };
	int r = -ESTALE;

	(void)snprintf(dir.name, sizeof(dir.name), "%s", name);
	(void)snprintf(dir.path, sizeof(dir.path), "%s/%.*s", root, VM_NAME_MAX, name);
	for (int i = 0; r == -ESTALE && i < RUN_CLAIM_TRIES; i++) {
		r = try_claim(&dir, root_fd, e);
	}
	if (r == -ESTALE) {
		return error_set(e, ERROR_BUSY, EBUSY, "'%s' vanishes again and again", dir.path);
	}
	if (r == 0) {
		*ret = dir;
	}
	return r;
}

/* The report of an ended VM; one that was killed has left an empty file. */
static bool has_report(int root_fd, const char *name)
{
	char path[VM_NAME_MAX + sizeof("/" RUN_EXIT_FILE)];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/" RUN_EXIT_FILE, name);
	return fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size != 0;
}

/* A name is free if no VM has it and none has left a report under it that may still be wanted. */
static int claim_any(struct run_directory *ret, int root_fd, const char *root, bool undefined,
		     struct error *e)
{
	for (int i = 1; i <= AUTOMATIC_NAMES; i++) {
		char name[24];
		int r;

		(void)snprintf(name, sizeof(name), "vm%d", i);
		if (has_report(root_fd, name) || (undefined && definition_exists(name))) {
			continue;
		}
		r = claim_name(ret, root_fd, root, name, e);
		if (r != -EEXIST) {
			return r;
		}
	}
	(void)error_set(e, ERROR_EXISTS, EEXIST, "'%s': vm1 to vm%d are all taken", root,
			AUTOMATIC_NAMES);
	return error_hint(e, "vmm ps -a lists them, vmm rm removes what ended ones left");
}

static int claim(struct run_directory *dir, const char *name, bool undefined, struct error *e)
{
	char root[RUN_DIRECTORY_PATH_SIZE];
	auto_close int root_fd = -1;
	int r = vm_name_validate(name, e);

	if (r == 0) {
		r = run_root_open(true, root, &root_fd, e);
	}
	if (r < 0) {
		return r;
	}
	return name != NULL ? claim_name(dir, root_fd, root, name, e)
			    : claim_any(dir, root_fd, root, undefined, e);
}

int run_directory_claim(struct run_directory *dir, const char *name, struct error *e)
{
	return claim(dir, name, false, e);
}

int run_directory_claim_undefined(struct run_directory *dir, struct error *e)
{
	return claim(dir, NULL, true, e);
}

int run_directory_listen(const struct run_directory *dir, const char *file, int *ret,
			 struct error *e)
{
	char shown[RUN_DIRECTORY_PATH_SIZE + 32];
	struct sockaddr_un address;
	int r = run_socket_address(dir->fd, file, &address, e);

	if (r < 0) {
		return r;
	}
	(void)snprintf(shown, sizeof(shown), "%s/%.20s", dir->path, file);
	r = run_socket_listen(&address, shown, true, ret, e);
	if (r == -ENOENT) {
		(void)error_hint(e, "/proc must be mounted, and '%s' not be removed", dir->path);
	}
	return r;
}

int run_directory_open(const struct run_directory *dir, const char *file, int *ret, struct error *e)
{
	int fd = openat(dir->fd, file,
			O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY |
				O_NONBLOCK,
			0600);

	if (fd < 0) {
		return error_set_sys(e, ERROR_CONFIG, errno, "open '%s/%s'", dir->path, file);
	}
	*ret = fd;
	return 0;
}

int run_directory_expect(struct run_directory *dir, const char *name, struct error *e)
{
	char root[RUN_DIRECTORY_PATH_SIZE];
	int r = run_directory_root(root, sizeof(root), e);

	*dir = (struct run_directory){ .fd = -1, .lock_fd = -1 };
	if (r == 0) {
		(void)snprintf(dir->name, sizeof(dir->name), "%s", name);
		(void)snprintf(dir->path, sizeof(dir->path), "%.*s/%.*s",
			       (int)(sizeof(dir->path) - VM_NAME_MAX - 2), root, VM_NAME_MAX, name);
	}
	return r;
}

void run_directory_take(struct run_directory *dir, int fd, int lock_fd)
{
	struct error e = { 0 };

	dir->fd = fd;
	dir->lock_fd = lock_fd;
	/* Only people read it. */
	(void)write_pid(lock_fd, dir->path, &e);
}

void run_directory_leave(struct run_directory *dir)
{
	close_fd(&dir->lock_fd);
	close_fd(&dir->fd);
}

void run_directory_finish(struct run_directory *dir)
{
	if (dir->path[0] == '\0' || dir->fd < 0) {
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
		if (contents[i].socket || !dir->keep) {
			(void)unlinkat(dir->fd, contents[i].name, 0);
		}
	}
	if (!dir->keep) {
		char itself[sizeof(dir->name) + 3];

		/* From here on the next one may have the directory: it is only removed if it is
		 * empty. */
		(void)unlinkat(dir->fd, RUN_LOCK_FILE, 0);
		(void)snprintf(itself, sizeof(itself), "../%s", dir->name);
		(void)unlinkat(dir->fd, itself, AT_REMOVEDIR);
	}
	close_fd(&dir->lock_fd);
	close_fd(&dir->fd);
	dir->path[0] = '\0';
}
