/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories of VMs: who gets one, what is put into the way, what others see of it, and what is left
 * at the end.
 */
#include "harness/run_rig.h"

#define RACERS 20

static pid_t racers[RACERS];

/* user, VMM_RUNTIME_DIR, XDG_RUNTIME_DIR -> root; NULL: refused, "UID" stands for the number */
static const struct root_row {
	uid_t user;
	const char *own, *xdg, *expected;
} roots[] = {
	{ 0, NULL, NULL, "/run/vmm" },
	{ 0, NULL, "/run/user/0", "/run/vmm" },
	{ 0, "/somewhere/else///", NULL, "/somewhere/else" },
	{ 0, "/", NULL, "/" },
	{ 0, "relative", NULL, NULL },
	{ 0, "", NULL, "/run/vmm" },
	{ 1234, NULL, "/run/user/1234", "/run/user/1234/vmm" },
	{ 1234, NULL, "relative", "/tmp/vmm-1234" },
	{ 1234, NULL, NULL, "/tmp/vmm-1234" },
	{ 1234, "/own", "/run/user/1234", "/own" },
};

START_TEST(test_root)
{
	const struct root_row *row = &roots[_i];
	char path[RUN_DIRECTORY_PATH_SIZE] = "untouched";

	if (geteuid() != row->user && seteuid(row->user) < 0) {
		CHECK_SKIP("needs root");
	}
	(void)unsetenv("VMM_RUNTIME_DIR");
	(void)unsetenv("XDG_RUNTIME_DIR");
	if (row->own != NULL) {
		(void)setenv("VMM_RUNTIME_DIR", row->own, 1);
	}
	if (row->xdg != NULL) {
		(void)setenv("XDG_RUNTIME_DIR", row->xdg, 1);
	}
	if (row->expected != NULL) {
		check_ok(run_directory_root(path, sizeof(path), &e), &e);
		ck_assert_str_eq(path, row->expected);
	} else {
		ck_assert_int_lt(run_directory_root(path, sizeof(path), &e), 0);
		check_error(&e, ERROR_CONFIG, row->own);
		ck_assert_str_ne(e.hint, "");
	}
	(void)!seteuid(getuid());
}
END_TEST

START_TEST(test_root_too_long)
{
	char path[RUN_DIRECTORY_PATH_SIZE], longer[300];

	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[sizeof(longer) - 1] = '\0';
	(void)setenv("VMM_RUNTIME_DIR", longer, 1);
	ck_assert_int_lt(run_directory_root(path, sizeof(path), &e), 0);
	check_error(&e, ERROR_CONFIG, "too long");
}
END_TEST

START_TEST(test_life)
{
	int api = -1, console = -1, log = -1, client = -1, end_fd = -1;
	bool alive = false;

	check_ok(run_directory_claim(&dir, "web", &e), &e);
	ck_assert_str_eq(dir.name, "web");
	ck_assert_str_eq(dir.path, below("web"));
	check_ok(run_directory_listen(&dir, "api.sock", &api, &e), &e);
	check_ok(run_directory_listen(&dir, "console.sock", &console, &e), &e);
	check_ok(run_directory_open(&dir, "console.log", &log, &e), &e);
	ck_assert_int_ne(fcntl(api, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_ne(fcntl(api, F_GETFD) & FD_CLOEXEC, 0);
	ck_assert_uint_eq(mode_of(""), 0700);
	ck_assert_uint_eq(mode_of("web"), 0700);
	ck_assert_uint_eq(mode_of("web/lock"), 0600);
	ck_assert_uint_eq(mode_of("web/api.sock"), 0600);
	ck_assert_uint_eq(mode_of("web/console.sock"), 0600);
	ck_assert_uint_eq(mode_of("web/console.log"), 0600);
	check_ok(run_directory_find("web", &end_fd, &alive, &e), &e);
	ck_assert(alive);
	check_ok(run_directory_connect(end_fd, "api.sock", &client, &e), &e);
	ck_assert_int_eq(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
	(void)close(client);
	run_directory_finish(&dir);
	ck_assert(!is_there("web"));
	/* Who had it open learns of the end. */
	check_ok(run_directory_wait(end_fd, -1, &e), &e);
	ck_assert_int_lt(run_directory_connect(end_fd, "api.sock", &client, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "api.sock");
	ck_assert_int_lt(run_directory_find("web", &client, &alive, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "vmm ps");
	run_directory_finish(&dir);
	(void)close(api);
	(void)close(console);
	(void)close(log);
	(void)close(end_fd);
}
END_TEST

START_TEST(test_modes_whatever_the_umask)
{
	int api = -1, log = -1;

	(void)umask(0);
	check_ok(run_directory_claim(&dir, "open", &e), &e);
	check_ok(run_directory_listen(&dir, "api.sock", &api, &e), &e);
	check_ok(run_directory_open(&dir, "vmm.log", &log, &e), &e);
	ck_assert_uint_eq(mode_of("open"), 0700);
	ck_assert_uint_eq(mode_of("open/lock"), 0600);
	ck_assert_uint_eq(mode_of("open/api.sock"), 0600);
	ck_assert_uint_eq(mode_of("open/vmm.log"), 0600);
	(void)close(api);
	(void)close(log);
}
END_TEST

START_TEST(test_kept)
{
	int log = -1;

	check_ok(run_directory_claim(&dir, "web", &e), &e);
	check_ok(run_directory_listen(&dir, "api.sock", &log, &e), &e);
	(void)close(log);
	check_ok(run_directory_open(&dir, "console.log", &log, &e), &e);
	ck_assert_int_eq(write(log, "hello", 5), 5);
	(void)close(log);
	dir.keep = true;
	run_directory_finish(&dir);
	ck_assert(is_there("web/console.log") && !is_there("web/api.sock"));
	ck_assert(!is_alive("web"));
	/* The next of that name begins with nothing. */
	check_ok(run_directory_claim(&dir, "web", &e), &e);
	ck_assert(!is_there("web/console.log") && is_there("web/lock"));
	ck_assert(is_alive("web"));
}
END_TEST

START_TEST(test_living_one_is_left_alone)
{
	pid_t pid = start_vm("web");
	char number[24];
	int fd = -1;

	(void)snprintf(number, sizeof(number), "process %d", (int)pid);
	ck_assert_int_eq(run_directory_claim(&dir, "web", &e), -EEXIST);
	check_error(&e, ERROR_EXISTS, "'web'");
	check_error(&e, ERROR_EXISTS, number);
	ck_assert_str_ne(e.hint, "");
	ck_assert_str_eq(dir.path, "");
	ck_assert(is_there("web/api.sock") && is_alive("web"));
	end_vm(pid);
	ck_assert(!is_alive("web"));
	/* A killed one leaves everything, which is replaced. */
	ck_assert(is_there("web/api.sock"));
	make_file("web/exit.json", "{}");
	check_ok(run_directory_claim(&dir, "web", &e), &e);
	ck_assert(!is_there("web/api.sock") && !is_there("web/exit.json"));
	check_ok(run_directory_listen(&dir, "api.sock", &fd, &e), &e);
	(void)close(fd);
}
END_TEST

START_TEST(test_lookers_do_not_disturb)
{
	struct run_directory first = { 0 };
	bool alive = true;
	int fd = -1;

	check_ok(run_directory_claim(&first, "web", &e), &e);
	first.keep = true;
	run_directory_finish(&first);
	for (int i = 0; i < 200; i++) {
		check_ok(run_directory_find("web", &fd, &alive, &e), &e);
		ck_assert(!alive);
		check_ok(run_directory_claim(&dir, "web", &e), &e);
		ck_assert(is_alive("web"));
		dir.keep = true;
		run_directory_finish(&dir);
		(void)close(fd);
	}
}
END_TEST

/* Starts RACERS processes that all claim at once; returns how many of them got a directory. */
static int race(const char *name, bool end_soon)
{
	int go[2], done[2], winners = 0;
	char text;

	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(done, O_CLOEXEC), 0);
	for (int i = 0; i < RACERS; i++) {
		racers[i] = fork();
		ck_assert_int_ge(racers[i], 0);
		if (racers[i] == 0) {
			struct run_directory its;
			int r;

			(void)close(go[1]);
			(void)!read(go[0], &text, 1);
			r = run_directory_claim(&its, name, &e);
			text = r == 0 ? 'w' : r == -EEXIST ? 'l' : 'e';
			if (r == 0 && end_soon) {
				run_directory_finish(&its);
			}
			(void)!write(done[1], &text, 1);
			(void)!read(go[0], &text, 1);
			for (;;) {
				(void)pause();
			}
		}
	}
	(void)close(go[1]);
	for (int i = 0; i < RACERS; i++) {
		ck_assert_int_eq(read(done[0], &text, 1), 1);
		ck_assert_int_ne(text, 'e');
		winners += text == 'w';
	}
	(void)close(go[0]);
	(void)close(done[0]);
	(void)close(done[1]);
	return winners;
}

static void end_race(void)
{
	for (int i = 0; i < RACERS; i++) {
		end_vm(racers[i]);
	}
}

START_TEST(test_race_for_a_name)
{
	for (int i = 0; i < 10; i++) {
		int winners = race("web", false);

		end_race();
		ck_assert_int_eq(winners, 1);
	}
}
END_TEST

/* The directory is removed by one while others are opening it: nobody fails for that. */
START_TEST(test_race_with_ends)
{
	for (int i = 0; i < 20; i++) {
		int winners = race("web", true);

		end_race();
		ck_assert_int_ge(winners, 1);
		ck_assert(!is_there("web"));
	}
}
END_TEST

START_TEST(test_race_for_any_name)
{
	struct run_entry *entries = NULL;
	size_t count = 0, alive = 0;

	ck_assert_int_eq(race(NULL, false), RACERS);
	check_ok(run_directory_list(&entries, &count, &e), &e);
	for (size_t i = 0; i < count; i++) {
		alive += entries[i].alive;
	}
	end_race();
	ck_assert_uint_eq(count, RACERS);
	ck_assert_uint_eq(alive, RACERS);
	ck_assert_str_eq(entries[0].name, "vm1");
	/* As a person counts: vm2 before vm10. */
	ck_assert_str_eq(entries[RACERS - 1].name, "vm20");
	free(entries);
}
END_TEST

START_TEST(test_any_name_spares_reports)
{
	make_root();
	ck_assert_int_eq(mkdir(below("vm1"), 0700), 0);
	make_file("vm1/exit.json", "{}");
	ck_assert_int_eq(mkdir(below("vm2"), 0700), 0);
	make_file("vm2/console.log", "killed");
	check_ok(run_directory_claim(&dir, NULL, &e), &e);
	ck_assert_str_eq(dir.name, "vm2");
	ck_assert(is_there("vm1/exit.json") && !is_there("vm2/console.log"));
}
END_TEST

/* What is at the VM's place in RUNTIME. */
enum in_the_way { LINK_TO_DIRECTORY, DANGLING_LINK, PLAIN_FILE, FOREIGN, WRITABLE };
static const struct place_row {
	enum in_the_way what;
	bool at_root; /* RUNTIME itself, else RUNTIME/web */
	const char *text;
} places[] = {
	{ LINK_TO_DIRECTORY, false, "symlink" },     { LINK_TO_DIRECTORY, true, "symlink" },
	{ DANGLING_LINK, false, "symlink" },	     { DANGLING_LINK, true, "symlink" },
	{ PLAIN_FILE, false, "Not a directory" },    { PLAIN_FILE, true, "Not a directory" },
	{ FOREIGN, false, "belongs to user 1234" },  { FOREIGN, true, "belongs to user 1234" },
	{ WRITABLE, false, "written to by others" }, { WRITABLE, true, "written to by others" },
};

static void put(enum in_the_way what, const char *path)
{
	int fd;

	switch (what) {
	case LINK_TO_DIRECTORY:
	case DANGLING_LINK:
		ck_assert_int_eq(symlink(what == DANGLING_LINK ? "nothing" : top, path), 0);
		break;
	case PLAIN_FILE:
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		ck_assert_int_ge(fd, 0);
		(void)close(fd);
		break;
	case FOREIGN:
		ck_assert_int_eq(mkdir(path, 0755), 0);
		ck_assert_int_eq(chown(path, 1234, 1234), 0);
		break;
	case WRITABLE:
		ck_assert_int_eq(mkdir(path, 0777), 0);
		ck_assert_int_eq(chmod(path, 0777), 0);
		break;
	}
}

START_TEST(test_places)
{
	const struct place_row *row = &places[_i];
	char lock[300];
	bool alive;
	int fd;

	if (row->what == FOREIGN && geteuid() != 0) {
		CHECK_SKIP("needs root");
	}
	if (!row->at_root) {
		make_root();
	}
	put(row->what, row->at_root ? root : below("web"));
	ck_assert_int_lt(run_directory_claim(&dir, "web", &e), 0);
	check_error(&e, ERROR_CONFIG, row->text);
	check_error(&e, ERROR_CONFIG, row->at_root ? root : below("web"));
	(void)snprintf(lock, sizeof(lock), "%s/lock", top);
	ck_assert_int_ne(access(lock, F_OK), 0);
	ck_assert_int_lt(run_directory_find("web", &fd, &alive, &e), 0);
	check_error(&e, ERROR_CONFIG, row->text);
}
END_TEST

static const char *const own_files[] = { "api.sock", "console.sock", "console.log", "vmm.log",
					 "exit.json" };

/* A symlink at a file's place goes; what it names stays. */
START_TEST(test_links_within)
{
	const char *name = own_files[_i];
	char victim[128], link[64];
	struct stat st;
	int fd = -1;

	make_root();
	ck_assert_int_eq(mkdir(below("web"), 0700), 0);
	(void)snprintf(victim, sizeof(victim), "%s/victim", top);
	fd = open(victim, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(fd, "precious", 8), 8);
	(void)close(fd);
	(void)snprintf(link, sizeof(link), "web/%s", name);
	ck_assert_int_eq(symlink(victim, below(link)), 0);
	check_ok(run_directory_claim(&dir, "web", &e), &e);
	ck_assert(!is_there(link));
	/* Planted once more while the VM lives. */
	ck_assert_int_eq(symlink(victim, below(link)), 0);
	if (strstr(name, ".sock") != NULL) {
		ck_assert_int_lt(run_directory_listen(&dir, name, &fd, &e), 0);
	} else {
		ck_assert_int_lt(run_directory_open(&dir, name, &fd, &e), 0);
	}
	check_error(&e, ERROR_CONFIG, name);
	ck_assert_int_eq(stat(victim, &st), 0);
	ck_assert_int_eq(st.st_size, 8);
	run_directory_finish(&dir);
	ck_assert_int_eq(stat(victim, &st), 0);
	ck_assert(!is_there("web"));
}
END_TEST

START_TEST(test_lock_is_no_plain_file)
{
	make_root();
	ck_assert_int_eq(mkdir(below("web"), 0700), 0);
	if (_i == 0) {
		ck_assert_int_eq(symlink("/etc/passwd", below("web/lock")), 0);
	} else if (_i == 1) {
		ck_assert_int_eq(mkfifo(below("web/lock"), 0600), 0);
	} else {
		ck_assert_int_eq(mkdir(below("web/lock"), 0700), 0);
	}
	ck_assert_int_lt(run_directory_claim(&dir, "web", &e), 0);
	check_error(&e, ERROR_CONFIG, "web/lock");
	ck_assert_str_ne(e.hint, "");
	ck_assert(!is_alive("web"));
}
END_TEST

START_TEST(test_directory_among_the_remains)
{
	make_root();
	ck_assert_int_eq(mkdir(below("web"), 0700), 0);
	ck_assert_int_eq(mkdir(below("web/api.sock"), 0700), 0);
	ck_assert_int_lt(run_directory_claim(&dir, "web", &e), 0);
	check_error(&e, ERROR_CONFIG, "web/api.sock");
	ck_assert(!is_alive("web"));
}
END_TEST

/* A file that is not ours in the directory is not removed, nor is the directory then. */
START_TEST(test_strange_files_stay)
{
	check_ok(run_directory_claim(&dir, "web", &e), &e);
	make_file("web/notes", "mine");
	run_directory_finish(&dir);
	ck_assert(is_there("web/notes") && !is_there("web/lock"));
}
END_TEST

static const char *const bad_names[] = { "",
					 ".",
					 "..",
					 "a/b",
					 "../web",
					 ".hidden",
					 "-flag",
					 "with space",
					 "new\nline",
					 "caf\xc3\xa9",
					 ("0123456789012345678901234567890123456789"
					  "012345678901234567890123456789") };

START_TEST(test_bad_names)
{
	bool alive;
	int fd;

	ck_assert_int_lt(run_directory_claim(&dir, bad_names[_i], &e), 0);
	check_error(&e, ERROR_CONFIG, "name");
	ck_assert_int_lt(run_directory_find(bad_names[_i], &fd, &alive, &e), 0);
	ck_assert_int_ne(access(root, F_OK), 0);
}
END_TEST

/* Root and name as long as they may be: far beyond a socket address. */
START_TEST(test_long_paths)
{
	char path[RUN_DIRECTORY_PATH_SIZE], name[65];
	size_t len = (size_t)snprintf(path, sizeof(path), "%s/", top);
	bool alive;
	int fd = -1, dir_fd = -1, client = -1;

	memset(path + len, 'd', 189 - len);
	path[189] = '\0';
	memset(name, 'n', 64);
	name[64] = '\0';
	(void)setenv("VMM_RUNTIME_DIR", path, 1);
	check_ok(run_directory_claim(&dir, name, &e), &e);
	check_ok(run_directory_listen(&dir, "console.sock", &fd, &e), &e);
	check_ok(run_directory_find(name, &dir_fd, &alive, &e), &e);
	ck_assert(alive);
	check_ok(run_directory_connect(dir_fd, "console.sock", &client, &e), &e);
	(void)close(client);
	(void)close(dir_fd);
	(void)close(fd);
	run_directory_finish(&dir);
	ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

START_TEST(test_list)
{
	struct run_entry *entries = (void *)1;
	size_t count = 1;
	pid_t pid;

	check_ok(run_directory_list(&entries, &count, &e), &e);
	ck_assert_ptr_null(entries);
	ck_assert_uint_eq(count, 0);
	pid = start_vm("b");
	ck_assert_int_eq(mkdir(below("a"), 0700), 0);
	ck_assert_int_eq(mkdir(below(".hidden"), 0700), 0);
	ck_assert_int_eq(symlink(top, below("link")), 0);
	make_file("file", "");
	check_ok(run_directory_list(&entries, &count, &e), &e);
	ck_assert_uint_eq(count, 2);
	ck_assert_str_eq(entries[0].name, "a");
	ck_assert(!entries[0].alive);
	ck_assert_str_eq(entries[1].name, "b");
	ck_assert(entries[1].alive);
	free(entries);
	end_vm(pid);
}
END_TEST

static int find_living(const char *name)
{
	bool alive = false;
	int fd = -1;

	check_ok(run_directory_find(name, &fd, &alive, &e), &e);
	ck_assert(alive);
	return fd;
}

START_TEST(test_process_and_wait)
{
	pid_t pid = start_vm("web"), found = 0;
	struct pollfd end = { .fd = -1, .events = POLLIN };
	int dir_fd = find_living("web"), pidfd = -7;

	check_ok(run_directory_process(dir_fd, &end.fd, &found, &e), &e);
	ck_assert_int_eq(found, pid);
	ck_assert_int_eq(poll(&end, 1, 0), 0);
	ck_assert_int_eq(run_directory_wait(dir_fd, 20, &e), -ETIMEDOUT);
	ck_assert_str_ne(e.hint, "");
	/* Without a socket the lock file says who it is. */
	ck_assert_int_eq(unlink(below("web/api.sock")), 0);
	check_ok(run_directory_process(dir_fd, &pidfd, &found, &e), &e);
	ck_assert_int_eq(found, pid);
	(void)close(pidfd);
	end_vm(pid);
	ck_assert_int_eq(poll(&end, 1, -1), 1);
	check_ok(run_directory_wait(dir_fd, -1, &e), &e);
	/* The number in the lock file stands for nobody now. */
	ck_assert_int_lt(run_directory_process(dir_fd, &pidfd, &found, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "process");
	(void)close(end.fd);
	(void)close(dir_fd);
}
END_TEST

START_TEST(test_wait_sees_the_end)
{
	pid_t vm = start_vm("web"), killer;
	int dir_fd = find_living("web");

	killer = fork();
	if (killer == 0) {
		(void)poll(NULL, 0, 50);
		(void)kill(vm, SIGKILL);
		_exit(0);
	}
	check_ok(run_directory_wait(dir_fd, -1, &e), &e);
	ck_assert_int_eq(waitpid(killer, NULL, 0), killer);
	ck_assert_int_eq(waitpid(vm, NULL, 0), vm);
	ck_assert(!is_alive("web"));
	(void)close(dir_fd);
}
END_TEST

/* Its queue of connections is full, as when main is stopped: it can still be found to be killed. */
START_TEST(test_full_queue)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int dir_fd, pidfd = -1, fd, fds[2000], count = 0;
	pid_t pid = start_vm("web"), found = 0;

	memcpy(address.sun_path, below("web/api.sock"), strlen(below("web/api.sock")) + 1);
	do {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		ck_assert_int_ge(fd, 0);
		fds[count++] = fd;
	} while (count < 2000 &&
		 connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
	ck_assert_int_lt(count, 2000);
	dir_fd = find_living("web");
	check_ok(run_directory_process(dir_fd, &pidfd, &found, &e), &e);
	ck_assert_int_eq(found, pid);
	while (count > 0) {
		(void)close(fds[--count]);
	}
	(void)close(pidfd);
	(void)close(dir_fd);
	end_vm(pid);
}
END_TEST

CHECK_MAIN("run_directory", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_root, roots);
	   CHECK_TEST(test_root_too_long); CHECK_TEST(test_life);
	   CHECK_TEST(test_modes_whatever_the_umask); CHECK_TEST(test_kept);
	   CHECK_TEST(test_living_one_is_left_alone); CHECK_TEST(test_lookers_do_not_disturb);
	   CHECK_TEST(test_race_for_a_name); CHECK_TEST(test_race_with_ends);
	   CHECK_TEST(test_race_for_any_name); CHECK_TEST(test_any_name_spares_reports);
	   CHECK_TABLE(test_places, places); CHECK_TABLE(test_links_within, own_files);
	   CHECK_LOOP(test_lock_is_no_plain_file, 3); CHECK_TEST(test_directory_among_the_remains);
	   CHECK_TEST(test_strange_files_stay); CHECK_TABLE(test_bad_names, bad_names);
	   CHECK_TEST(test_long_paths); CHECK_TEST(test_list); CHECK_TEST(test_process_and_wait);
	   CHECK_TEST(test_wait_sees_the_end); CHECK_TEST(test_full_queue))
