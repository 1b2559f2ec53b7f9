/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock on a disk: an open file description lock over the whole file (fcntl(2), F_OFD_SETLK), so
 * that it lives and dies with the open disk, survives threads and is seen by every program that
 * locks images this way. Before the sandbox, or on the machine thread.
 *
 * Such locks have no owner's pid (F_OFD_GETLK and /proc/locks say -1); who holds one is found in
 * /proc/PID/fdinfo, as far as we may read it.
 */
#include "raw.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cleanup.h"

#define COMM_SIZE 16

#define GONE_NS 1000000 /* between two looks for a holder that no process is */
/* At a start there is time to wait, on a busy host as well; while a machine runs, main has others to serve. */
#define TRIES	      400
#define TRIES_RUNNING 20

static int set_lock(int fd, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };
	int r;

	do {
		r = fcntl(fd, F_OFD_SETLK, &lock);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static bool is_number(const char *text)
{
	return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

/* Small files of /proc. An empty string if it cannot be read. */
static void read_text(int dir, const char *path, char *buf, size_t size)
{
	auto_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd >= 0 ? read(fd, buf, size - 1) : -1;

	buf[n > 0 ? n : 0] = '\0';
}

/* "lock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:00:1234 0 EOF": is there one in a text of fdinfo that ours would not go with? */
static bool has_other_lock(const char *text, bool shared)
{
	const char *lock = strstr(text, "\nlock:");

	return lock != NULL && (!shared || strstr(lock, " WRITE ") != NULL);
}

/* True if a descriptor of the process whose /proc directory is `dir` is the file and has such a lock on it. */
static bool process_holds(int dir, const struct stat *file, bool shared)
{
	int fds = openat(dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fds >= 0 ? fdopendir(fds) : NULL;
	const struct dirent *entry;
	bool holds = false;

	if (list == NULL) {
		if (fds >= 0) {
			(void)close(fds);
		}
		return false;
	}
	while (!holds && (entry = readdir(list)) != NULL) {
		char path[64], text[1024];
		struct stat st;

		if (!is_number(entry->d_name) || fstatat(fds, entry->d_name, &st, 0) != 0 ||
		    st.st_dev != file->st_dev || st.st_ino != file->st_ino) {
			continue;
		}
		(void)snprintf(path, sizeof(path), "fdinfo/%.20s", entry->d_name);
		read_text(dir, path, text, sizeof(text));
		holds = has_other_lock(text, shared);
	}
	(void)closedir(list);
	return holds;
}

/* The process whose lock on the file is in the way of ours, 0 if there is none to be found. */
static pid_t find_holder(int fd, bool shared, char comm[COMM_SIZE])
{
	struct stat file;
	const struct dirent *entry;
	pid_t holder = 0;
	DIR *proc;

	if (fstat(fd, &file) != 0 || (proc = opendir("/proc")) == NULL) {
		return 0;
	}
	while (holder == 0 && (entry = readdir(proc)) != NULL) {
		auto_close int dir = -1;

		if (!is_number(entry->d_name)) {
			continue;
		}
		dir = openat(dirfd(proc), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir >= 0 && process_holds(dir, &file, shared)) {
			holder = (pid_t)strtol(entry->d_name, NULL, 10);
			read_text(dir, "comm", comm, COMM_SIZE);
			comm[strcspn(comm, "\n")] = '\0';
		}
	}
	(void)closedir(proc);
	return holder;
}

static int locked_error(const char *path, bool read_only, bool running, pid_t holder,
			const char *comm, struct error *e)
{
	int r;

	if (holder == getpid()) {
		r = error_set(e, ERROR_DISK_LOCKED, EAGAIN,
			      "'%s' is given twice, and not read-only both times", path);
		(void)error_hint(e, "give each disk once, or with ',ro' each time");
		return r;
	}
	if (holder != 0) {
		r = error_set(e, ERROR_DISK_LOCKED, EAGAIN, "'%s' is in use by process %d (%s)",
			      path, (int)holder, comm);
		if (e != NULL) {
			e->holder = (int)holder;
		}
	} else if (running) {
		r = error_set(e, ERROR_DISK_LOCKED, EAGAIN,
			      "'%s' is in use by another process, or as another disk of this one",
			      path);
	} else {
		r = error_set(e, ERROR_DISK_LOCKED, EAGAIN, "'%s' is in use by %s", path,
			      read_only ? "a process that writes to it" : "another process");
	}
	(void)error_hint(
		e, "stop the other machine first; many can share a disk if all use it with ',ro'");
	return r;
}

/*
 * A lock that no process has belongs to one that has just ended, whose io_uring the kernel is still
 * taking apart: that takes some milliseconds, longer if it has to wait for the last writes. While a
 * machine runs nobody looks through /proc: that takes as long as the host has descriptors, and calls
 * that main's filter refuses.
 */
int lock_disk(int fd, const char *path, bool read_only, bool running, struct error *e)
{
	const struct timespec pause = { .tv_nsec = GONE_NS };
	char comm[COMM_SIZE] = "";
	pid_t holder = 0;
	int r = -EAGAIN;

	for (int i = 0; i < (running ? TRIES_RUNNING : TRIES) && holder == 0; i++) {
		if (i != 0) {
			(void)nanosleep(&pause, NULL);
		}
		r = set_lock(fd, read_only ? F_RDLCK : F_WRLCK);
		if (r != -EAGAIN && r != -EACCES) {
			break;
		}
		holder = running ? 0 : find_holder(fd, read_only, comm);
	}
	if (r == -EAGAIN || r == -EACCES) {
		return locked_error(path, read_only, running, holder, comm, e);
	}
	if (r < 0) {
		r = error_set_sys(e, ERROR_DISK, -r, "'%s' cannot be locked", path);
		(void)error_hint(e,
				 "its file system has no locks: ',lock=off' does without, but then "
				 "nothing stops two machines from writing to the disk");
	}
	return r;
}

void unlock_disk(int fd)
{
	(void)set_lock(fd, F_UNLCK);
}
