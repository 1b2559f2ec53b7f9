/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever call of the host fails while a snapshot is written, or is the last before the process is killed: the old snapshot
 * is there or the new one, whole, and after a failure nothing besides. And the order in which all reaches the disk.
 */
#include "harness/snapshot_rig.h"

#include <signal.h>
#include <sys/wait.h>

static enum action { PASS, FAIL, KILL_BEFORE, KILL_AFTER, SHORT } action;
static int countdown, count, failure;
/* What happened, a letter each: W write, S sync, R rename. */
static char history[4096];
static size_t history_len;

static bool strikes(char letter)
{
	count++;
	if (letter != '\0' && history_len < sizeof(history) - 1 &&
	    (letter != 'W' || history_len == 0 || history[history_len - 1] != 'W')) {
		history[history_len++] = letter;
	}
	if (action == PASS || countdown == 0 || --countdown != 0) {
		return false;
	}
	if (action == KILL_BEFORE) {
		(void)raise(SIGKILL);
	}
	return true;
}

/* Around each call: before it, and after it. */
#define AROUND(letter, real)                \
	bool hit_ = strikes(letter);        \
	__typeof__(real) result_;           \
	if (hit_ && action == FAIL) {       \
		errno = failure;            \
		return -1;                  \
	}                                   \
	result_ = (real);                   \
	if (hit_ && action == KILL_AFTER) { \
		(void)raise(SIGKILL);       \
	}                                   \
	return result_

int __real_mkdirat(int at, const char *path, mode_t mode);
int __wrap_mkdirat(int at, const char *path, mode_t mode);
int __wrap_mkdirat(int at, const char *path, mode_t mode)
{
	AROUND('\0', __real_mkdirat(at, path, mode));
}

int __real_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len)
{
	AROUND('\0', __real_ftruncate64(fd, len));
}

ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t at)
{
	if (action == SHORT) {
		/* All of them, now and then interrupted. */
		if (++count % 3 == 0) {
			errno = EINTR;
			return -1;
		}
		return __real_pwrite64(fd, buf, len > 5000 ? 5000 : len, at);
	}
	AROUND('W', __real_pwrite64(fd, buf, len, at));
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	struct stat st;

	(void)fstat(fd, &st);
	AROUND(S_ISDIR(st.st_mode) ? 'D' : 'S', __real_fsync(fd));
}

int __real_renameat2(int from, const char *a, int to, const char *b, unsigned int flags);
int __wrap_renameat2(int from, const char *a, int to, const char *b, unsigned int flags);
int __wrap_renameat2(int from, const char *a, int to, const char *b, unsigned int flags)
{
	AROUND('R', __real_renameat2(from, a, to, b, flags));
}

/* Of those only the ones that make a file. */
int __real_openat64(int at, const char *path, int flags, ...);
int __wrap_openat64(int at, const char *path, int flags, ...);
int __wrap_openat64(int at, const char *path, int flags, ...)
{
	if ((flags & O_CREAT) == 0) {
		return __real_openat64(at, path, flags);
	}
	AROUND('\0', __real_openat64(at, path, flags, 0600));
}

static struct guest_memory old_mem, new_mem;
static int form;

static struct snapshot_paths place(void)
{
	return form == 0 ? in_directory("a") : in_files("s", "m");
}

static void setup(void)
{
	rig_setup();
	make_memory(&old_mem, GUEST_MEMORY_MEMFD);
	make_memory(&new_mem, GUEST_MEMORY_MEMFD);
	fill_page(&old_mem, 0, 1);
	fill_page(&old_mem, HIGH_GPA, 1);
	fill_page(&new_mem, 0, 2);
	fill_page(&new_mem, MIB(2), 2);
	fill_page(&new_mem, MIB(3), 2);
}

static void teardown(void)
{
	action = PASS;
	guest_memory_finish(&old_mem);
	guest_memory_finish(&new_mem);
	rig_teardown();
}

/* A folder with nothing in it but the old snapshot. */
static void begin(bool old)
{
	action = PASS;
	(void)nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	ck_assert_int_eq(mkdir(top, 0700), 0);
	if (old) {
		save_full(&old_mem, place());
	}
	count = 0;
	history_len = 0;
	memset(history, 0, sizeof(history));
}

static int save_new(enum action what, int when)
{
	int r;

	action = what;
	countdown = when;
	r = save(&new_mem, place(), NULL, (struct snapshot_watch){ 0 });
	action = PASS;
	return r;
}

/* 0: the old one is there, 1: the new one; anything else fails. -1: none, which has to be allowed. */
static int which(bool old)
{
	struct guest_memory got;
	int r = load(&got, place(), SNAPSHOT_LOAD_READ);
	int is;

	if (r < 0 && !old) {
		check_error(&err, ERROR_NOT_FOUND, "No such file");
		return -1;
	}
	check_ok(r, &err);
	is = same_memory(&got, &new_mem) ? 1 : 0;
	ck_assert(is == 1 || (old && same_memory(&got, &old_mem)));
	guest_memory_finish(&got);
	return is;
}

/* What was there before, the form: 0 to 3. */
static bool prepare(int i)
{
	form = i % 2;
	return i / 2 == 0;
}

static const int failures[] = { EIO, ENOSPC };

START_TEST(test_failure)
{
	bool old = prepare(_i), over = false;
	int seen[2] = { 0 };

	for (int when = 1; !over; when++) {
		int r, is, left;

		failure = failures[when % 2];
		begin(old);
		r = save_new(FAIL, when);
		over = countdown > 0;
		ck_assert_msg((r == 0) == over, "%d: %d", when, r);
		if (!over) {
			ck_assert_msg(err.code == ERROR_SNAPSHOT, "%s", err.msg);
			ck_assert_ptr_nonnull(strstr(err.msg, top));
			ck_assert(err.hint[0] != '\0');
		}
		left = entries_of(top);
		is = which(old);
		ck_assert(!over || is == 1);
		seen[is == 1]++;
		/* One or two files; after the first of two renames the second file has its other name still. */
		ck_assert_msg(left == (is < 0	   ? 0
				       : form == 0 ? 1
						   : 2) ||
				      (form == 1 && is == 1 && left <= 3),
			      "%d: %d", when, left);
		ck_assert_int_lt(when, 200);
	}
	ck_assert_int_gt(seen[0], 5);
	ck_assert_int_gt(seen[1], 1);
}
END_TEST

START_TEST(test_kill)
{
	bool old = prepare(_i / 2), over = false;
	int seen[2] = { 0 };

	for (int when = 1; !over; when++) {
		int status, is;
		pid_t child;

		begin(old);
		child = fork();
		ck_assert_int_ge(child, 0);
		if (child == 0) {
			_exit(save_new(_i % 2 == 0 ? KILL_BEFORE : KILL_AFTER, when) == 0 ? 0 : 1);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		over = WIFEXITED(status);
		ck_assert(!over || WEXITSTATUS(status) == 0);
		is = which(old);
		ck_assert(!over || is == 1);
		seen[is == 1]++;
		/* What it left is in nobody's way. */
		ck_assert_int_eq(save_new(PASS, 0), 0);
		ck_assert_int_eq(which(old), 1);
		ck_assert_int_lt(when, 200);
	}
	ck_assert_int_gt(seen[0], 5);
	ck_assert_int_gt(seen[1], 0);
}
END_TEST

START_TEST(test_short_writes)
{
	(void)prepare(_i);
	begin(true);
	ck_assert_int_eq(save_new(SHORT, 0), 0);
	ck_assert_int_eq(which(true), 1);
	ck_assert_int_gt(count, 3);
}
END_TEST

/* Pages and state, both files, the folder that has them; then the rename, then the folder again. */
static const char *const orders[] = { "WSSDRRD", "WSSDRDRD", "WSSDRD", "WSSDRDRD" };

START_TEST(test_order)
{
	begin(prepare(_i));
	ck_assert_int_eq(save_new(PASS, 0), 0);
	ck_assert_str_eq(history, orders[_i]);
}
END_TEST

CHECK_MAIN("snapshot_failures", CHECK_FIXTURE(setup, teardown); CHECK_LOOP(test_failure, 4);
	   CHECK_LOOP(test_kill, 8); CHECK_LOOP(test_short_writes, 2);
	   CHECK_TABLE(test_order, orders))
