/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A runtime directory of the test's own, and "another VM": a child process, killed where a VM is killed.
 */
#ifndef TESTS_HARNESS_RUN_RIG_H
#define TESTS_HARNESS_RUN_RIG_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "vmm/run_directory.h"

static struct error e;
static struct run_directory dir;
static char top[32], root[48];

static inline void remove_below(const char *path)
{
	char command[300];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", path);
	ck_assert_int_eq(system(command), 0); /* NOLINT(cert-env33-c): a path of ours */
}

static inline void setup(void)
{
	e = (struct error){ 0 };
	dir = (struct run_directory){ 0 };
	(void)umask(022);
	(void)snprintf(top, sizeof(top), "/tmp/vmm-rundir-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	(void)snprintf(root, sizeof(root), "%s/vmm", top);
	(void)setenv("VMM_RUNTIME_DIR", root, 1);
}

static inline void teardown(void)
{
	run_directory_finish(&dir);
	remove_below(top);
}

static inline const char *below(const char *name)
{
	static char path[300];

	(void)snprintf(path, sizeof(path), "%s/%s", root, name);
	return path;
}

static inline mode_t mode_of(const char *name)
{
	struct stat st;

	ck_assert_msg(lstat(below(name), &st) == 0, "%s: %s", name, strerror(errno));
	return st.st_mode & 07777;
}

static inline bool is_there(const char *name)
{
	struct stat st;

	return lstat(below(name), &st) == 0;
}

static inline void make_root(void)
{
	ck_assert(mkdir(root, 0700) == 0 || errno == EEXIST);
}

static inline void make_file(const char *name, const char *text)
{
	int fd = open(below(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	(void)close(fd);
}

/* A VM in a process of its own, that listens on its API. Returns when it has the directory. */
static inline pid_t start_vm(const char *name)
{
	int ready[2];
	char answer = 0;
	pid_t pid;

	ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct run_directory its;
		int fd;

		if (run_directory_claim(&its, name, &e) < 0 ||
		    run_directory_listen(&its, "api.sock", &fd, &e) < 0) {
			_exit(1);
		}
		(void)!write(ready[1], "r", 1);
		for (;;) {
			(void)pause();
		}
	}
	(void)close(ready[1]);
	ck_assert_int_eq(read(ready[0], &answer, 1), 1);
	(void)close(ready[0]);
	return pid;
}

static inline void end_vm(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static inline bool is_alive(const char *name)
{
	bool alive = false;
	int fd = -1;

	check_ok(run_directory_find(name, &fd, &alive, &e), &e);
	(void)close(fd);
	return alive;
}

#endif
