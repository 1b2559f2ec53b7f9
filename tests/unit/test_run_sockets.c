/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets at places of the user's: claimed, replaced, left alone, refused. */
#include "harness/run_rig.h"

START_TEST(test_socket_life)
{
	char path[128], lock[140];
	struct stat st;
	int fd = -1, lock_fd = -1, second = -7, second_lock = -7;

	make_root();
	(void)umask(0);
	(void)snprintf(path, sizeof(path), "%s/s", root);
	(void)snprintf(lock, sizeof(lock), "%s.lock", path);
	check_ok(socket_claim(path, &fd, &lock_fd, &e), &e);
	ck_assert_uint_eq(mode_of("s"), 0600);
	ck_assert_uint_eq(mode_of("s.lock"), 0600);
	ck_assert_int_eq(socket_claim(path, &second, &second_lock, &e), -EADDRINUSE);
	check_error(&e, ERROR_EXISTS, path);
	check_error(&e, ERROR_EXISTS, "process");
	ck_assert(second == -7 && second_lock == -7);
	ck_assert_int_eq(lstat(path, &st), 0);
	/* Killed: what is left is replaced. */
	(void)close(fd);
	close(lock_fd);
	ck_assert(is_there("s") && is_there("s.lock"));
	check_ok(socket_claim(path, &fd, &lock_fd, &e), &e);
	socket_release(path, &lock_fd);
	ck_assert_int_eq(lock_fd, -1);
	ck_assert(!is_there("s") && !is_there("s.lock"));
	socket_release(path, &lock_fd);
	(void)close(fd);
}
END_TEST

static int bind_plainly(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, path, strlen(path) + 1);
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* Another program's socket, without a lock. */
START_TEST(test_socket_of_others)
{
	char path[100];
	int fd = -1, lock_fd = -1, theirs;

	make_root();
	(void)snprintf(path, sizeof(path), "%s/s", root);
	theirs = bind_plainly(path);
	ck_assert_int_eq(listen(theirs, 1), 0);
	ck_assert_int_lt(socket_claim(path, &fd, &lock_fd, &e), 0);
	check_error(&e, ERROR_EXISTS, "in use");
	ck_assert(is_there("s") && !is_there("s.lock"));
	(void)close(theirs);
	check_ok(socket_claim(path, &fd, &lock_fd, &e), &e);
	/* It comes back while we have the lock, and takes the path: not ours to remove. */
	ck_assert_int_eq(unlink(path), 0);
	theirs = bind_plainly(path);
	socket_release(path, &lock_fd);
	ck_assert(is_there("s") && !is_there("s.lock"));
	(void)close(theirs);
	(void)close(fd);
}
END_TEST

/* path below RUNTIME, text */
static const struct path_row {
	const char *path, *text;
	enum error_code code;
} paths[] = {
	{ "file", "not a socket", ERROR_EXISTS },      { "link", "a symlink", ERROR_EXISTS },
	{ "locklink", "locklink.lock", ERROR_CONFIG }, { "hard", "hard link", ERROR_CONFIG },
	{ "missing/s", "missing/s", ERROR_CONFIG },    { "directory/", "no path", ERROR_CONFIG },
	{ "directory", "not a socket", ERROR_EXISTS }, { "..", "no path", ERROR_CONFIG },
	{ "file/s", "Not a directory", ERROR_CONFIG },
};

START_TEST(test_bad_socket_paths)
{
	int fd = -7, lock_fd = -7;
	struct stat st;
	char path[300];

	make_root();
	make_file("file", "precious");
	ck_assert_int_eq(symlink("file", below("link")), 0);
	ck_assert_int_eq(symlink("file", below("locklink.lock")), 0);
	(void)snprintf(path, sizeof(path), "%s/file", root);
	ck_assert_int_eq(link(path, below("hard.lock")), 0);
	ck_assert_int_eq(mkdir(below("directory"), 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/%s", root, paths[_i].path);
	ck_assert_int_lt(socket_claim(path, &fd, &lock_fd, &e), 0);
	check_error(&e, paths[_i].code, paths[_i].text);
	ck_assert(fd == -7 && lock_fd == -7);
	ck_assert(is_there("link"));
	ck_assert_int_eq(stat(below("file"), &st), 0);
	ck_assert_int_eq(st.st_size, (off_t)strlen("precious"));
}
END_TEST

START_TEST(test_long_socket_path)
{
	char path[400], name[120];
	int fd = -1, lock_fd = -1;

	memset(name, 'p', sizeof(name));
	name[119] = '\0';
	make_root();
	ck_assert_int_eq(mkdir(below(name), 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/%s/s", root, name);
	check_ok(socket_claim(path, &fd, &lock_fd, &e), &e);
	ck_assert_int_eq(access(path, F_OK), 0);
	socket_release(path, &lock_fd);
	(void)close(fd);
	ck_assert_int_ne(access(path, F_OK), 0);
	/* The last part alone does not fit. */
	(void)snprintf(path, sizeof(path), "%s/%s", root, name);
	ck_assert_int_eq(rmdir(path), 0);
	ck_assert_int_lt(socket_claim(path, &fd, &lock_fd, &e), 0);
	check_error(&e, ERROR_CONFIG, "too long");
	check_error(&e, ERROR_CONFIG, "at most");
}
END_TEST

START_TEST(test_relative_socket_path)
{
	int fd = -1, lock_fd = -1;

	make_root();
	ck_assert_int_eq(chdir(root), 0);
	check_ok(socket_claim("s", &fd, &lock_fd, &e), &e);
	ck_assert(is_there("s"));
	socket_release("s", &lock_fd);
	ck_assert(!is_there("s"));
	(void)close(fd);
}
END_TEST

CHECK_MAIN("run_sockets", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_socket_life);
	   CHECK_TEST(test_socket_of_others); CHECK_TABLE(test_bad_socket_paths, paths);
	   CHECK_TEST(test_long_socket_path); CHECK_TEST(test_relative_socket_path))
