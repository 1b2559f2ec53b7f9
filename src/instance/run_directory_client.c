// SPDX-License-Identifier: Apache-2.0
/*
 * A VM seen from outside: whether it lives, how to reach it, and its end. Nothing here takes a lock
 * or changes a file, so looking never gets in a starter's way.
 *
 * Whether a VM lives is asked of the lock alone. Its process is the one that listens on its API
 * (the kernel says which), or else the one named in the lock file; a process number can be given to
 * another process at any time, so the lock is looked at again once there is a descriptor of the
 * process.
 *
 * Any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "run_directory_internal.h"
#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/loop.h"
#include "vmm/vm_config.h"

#define CONNECT_SECONDS 5
#define WAIT_STEP_MS	20

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

bool run_is_alive(int dir_fd)
{
	auto_close int fd = openat(dir_fd, RUN_LOCK_FILE,
				   O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	return fd >= 0 && run_lock_held(fd);
}

static int not_found(const char *name, struct error *e)
{
	if (definition_exists(name)) {
		(void)error_set(e, ERROR_NOT_FOUND, ESRCH, "VM '%s' is defined and does not run",
				name);
		return error_hint(e, "vmm start %s starts it", name);
	}
	(void)error_set(e, ERROR_NOT_FOUND, ENOENT, "no VM named '%s'", name);
	return error_hint(e, "vmm ps lists the VMs, vmm ps -a also those that have ended");
}

int run_directory_find(const char *name, int *dir_fd, bool *alive, struct error *e)
{
	char root[RUN_DIRECTORY_PATH_SIZE], shown[RUN_DIRECTORY_PATH_SIZE + VM_NAME_MAX + 2];
	auto_close int root_fd = -1;
	struct error own;
	int fd = -1;
	int r = vm_name_validate(name, e);

	if (r < 0) {
		return r;
	}
	e = e != NULL ? e : &own;
	r = run_root_open(false, root, &root_fd, e);
	if (r == 0) {
		(void)snprintf(shown, sizeof(shown), "%s/%s", root, name);
		r = run_open_private(root_fd, name, shown, false, RUN_VARIABLE, &fd, e);
	}
	if (r != 0) {
		return e->code == ERROR_NOT_FOUND ? not_found(name, e) : r;
	}
	*alive = run_is_alive(fd);
	*dir_fd = fd;
	return 0;
}

static int connect_error(int sys, const char *file, struct error *e)
{
	switch (sys) {
	case ENOENT:
	case ECONNREFUSED:
		(void)error_set(e, ERROR_NOT_FOUND, sys, "nobody listens on %s", file);
		return error_hint(e, "the VM has ended, or has not come that far");
	case EAGAIN:
		(void)error_set(e, ERROR_BUSY, sys, "%s: the VM does not take connections", file);
		return error_hint(e, "it may be stopped or stuck; vmm kill ends it");
	default:
		return error_set_sys(e, ERROR_INTERNAL, sys, "connect to %s", file);
	}
}

int run_directory_connect(int dir_fd, const char *file, int *ret, struct error *e)
{
	const struct timeval patience = { .tv_sec = CONNECT_SECONDS }, none = { 0 };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	struct stat st;
	int r = run_socket_address(dir_fd, file, &address, e);

	if (r < 0) {
		return r;
	}
	if (fd < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "socket");
	}
	if (fstatat(dir_fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return connect_error(errno, file, e);
	}
	if (!S_ISSOCK(st.st_mode)) {
		return error_set(e, ERROR_CONFIG, ENOTSOCK, "%s is not a socket", file);
	}
	/* A full queue would make connect(2) wait for ever. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		return connect_error(errno, file, e);
	}
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	*ret = take_fd(&fd);
	return 0;
}

/* The process that made the socket listen. -ENOENT: nobody does, or the kernel does not tell. */
static int listener(int dir_fd, int *pidfd, pid_t *pid)
{
	auto_close int fd = -1;
	struct sockaddr_un address;
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);
	int found = -1;

	if (run_socket_address(dir_fd, RUN_API_SOCKET, &address, NULL) < 0 ||
	    run_socket_try(&address, &fd) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0) {
		return -ENOENT;
	}
	len = sizeof(found);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &found, &len) < 0) {
		found = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	}
	if (found < 0) {
		return -ENOENT;
	}
	*pidfd = found;
	*pid = peer.pid;
	return 0;
}

static int lock_owner(int dir_fd, int *pidfd, pid_t *pid)
{
	auto_close int fd = openat(dir_fd, RUN_LOCK_FILE,
				   O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	pid_t owner = fd >= 0 ? run_lock_pid(fd) : 0;
	int found = owner > 0 ? (int)syscall(SYS_pidfd_open, owner, 0) : -1;

	if (found < 0) {
		return -ENOENT;
	}
	*pidfd = found;
	*pid = owner;
	return 0;
}

int run_directory_process(int dir_fd, int *pidfd, pid_t *pid, struct error *e)
{
	auto_close int fd = -1;
	pid_t found = 0;

	if (listener(dir_fd, &fd, &found) < 0) {
		(void)lock_owner(dir_fd, &fd, &found);
	}
	/* Held by now means held by that process when its descriptor was made. */
	if (fd < 0 || !run_is_alive(dir_fd)) {
		(void)error_set(e, ERROR_NOT_FOUND, ESRCH, "the VM has no process");
		return error_hint(e, "it has ended; vmm rm removes what it left");
	}
	*pidfd = take_fd(&fd);
	*pid = found;
	return 0;
}

int run_directory_begin_upgrade(int dir_fd, int *listener, int *lock_fd, struct error *e)
{
	auto_close int lock = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct sockaddr_un address;
	int r;

	if (lock < 0) {
		return error_set_sys(e, ERROR_CONFIG, errno, "open the VM's directory");
	}
	if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		(void)error_set(e, ERROR_BUSY, EBUSY, "somebody else upgrades this VM");
		return error_hint(e, "wait until that is over");
	}
	r = run_socket_address(dir_fd, RUN_DIRECTORY_UPGRADE, &address, e);
	if (r == 0) {
		/* Of one who was killed. */
		(void)unlinkat(dir_fd, RUN_DIRECTORY_UPGRADE, 0);
		r = run_socket_listen(&address, RUN_DIRECTORY_UPGRADE, true, listener, e);
	}
	if (r == 0) {
		*lock_fd = take_fd(&lock);
	}
	return r;
}

void run_directory_end_upgrade(int dir_fd, int *lock_fd)
{
	if (*lock_fd >= 0) {
		(void)unlinkat(dir_fd, RUN_DIRECTORY_UPGRADE, 0);
	}
	close_fd(lock_fd);
}

int run_directory_wait(int dir_fd, int timeout_ms, struct error *e)
{
	int64_t end = loop_now_ms() + timeout_ms;

	while (run_is_alive(dir_fd)) {
		struct pollfd process = { .fd = -1, .events = POLLIN };
		int64_t left = timeout_ms < 0 ? INT32_MAX : end - loop_now_ms();
		bool known;
		pid_t pid;

		if (left <= 0) {
			(void)error_set(e, ERROR_BUSY, ETIMEDOUT, "the VM has not ended in time");
			return error_hint(e, "vmm kill ends it at once");
		}
		known = run_directory_process(dir_fd, &process.fd, &pid, NULL) == 0;
		/* The process may be gone and the lock still be taken apart, or be held by
		 * another. */
		if (!known || poll(&process, 1, 0) == 1) {
			(void)poll(NULL, 0, (int)MIN(left, WAIT_STEP_MS));
		} else {
			(void)poll(&process, 1, (int)left);
		}
		close_fd(&process.fd);
	}
	return 0;
}
