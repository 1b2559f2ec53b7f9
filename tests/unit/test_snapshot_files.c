/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's files: round trip in both forms, what they cost, how one takes another's place, what is in the way. */
#include "harness/snapshot_rig.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const enum guest_memory_backing backings[] = { GUEST_MEMORY_ANON, GUEST_MEMORY_MEMFD };

START_TEST(test_round_trip)
{
	struct guest_memory mem;
	struct snapshot_reader *r;
	const struct snapshot_info *info;

	make_memory(&mem, backings[_i]);
	fill_memory(&mem, 7);
	save_full(&mem, in_directory("a"));
	check_ok(open_snapshot(&r, in_directory("a")), &err);
	info = snapshot_reader_info(r);
	ck_assert_str_eq(info->about, ABOUT);
	ck_assert_str_eq(info->config, CONFIG);
	ck_assert_uint_eq(info->machine_len, strlen(STATE));
	ck_assert_mem_eq(info->machine, STATE, strlen(STATE));
	ck_assert_str_eq(info->version, VMM_VERSION);
	ck_assert_uint_eq(strlen(info->id), 32);
	ck_assert_str_eq(info->parent_id, "");
	ck_assert_uint_eq(info->depth, 1);
	ck_assert_uint_eq(info->region_count, 2);
	ck_assert_uint_eq(info->memory_size, LOW_SIZE + HIGH_SIZE);
	ck_assert_uint_eq(info->regions[0].size, LOW_SIZE);
	ck_assert_uint_eq(info->regions[1].gpa, HIGH_GPA);
	ck_assert_uint_eq(info->regions[1].kind, GUEST_REGION_HOTPLUG);
	ck_assert_uint_eq(info->stored, FILLED * PAGE);
	check_ok(snapshot_reader_verify(r, 1, NULL, &err), &err);
	check_ok(snapshot_reader_verify(r, 3, NULL, &err), &err);
	snapshot_reader_destroy(r);
	check_has(in_directory("a"), &mem);
	save_full(&mem, in_files("b.state", "b.mem"));
	check_has(in_files("b.state", "b.mem"), &mem);
	/* And of what was restored by a mapping. */
	{
		struct guest_memory again;

		check_ok(load(&again, in_directory("a"), SNAPSHOT_LOAD_MAP_UNVERIFIED), &err);
		fill_page(&again, 700 * PAGE, 1);
		fill_page(&mem, 700 * PAGE, 1);
		ck_assert(guest_memory_zero(&again, 5 * PAGE, PAGE));
		ck_assert(guest_memory_zero(&mem, 5 * PAGE, PAGE));
		save_full(&again, in_directory("c"));
		check_has(in_directory("c"), &mem);
		guest_memory_finish(&again);
	}
	guest_memory_finish(&mem);
	/* a, b.state, b.mem, c: nothing else is left. */
	ck_assert_int_eq(entries_of(top), 4);
	ck_assert_int_eq(entries_of(path_of("a")), 2);
}
END_TEST

START_TEST(test_without_pagemap)
{
	struct guest_memory mem;

	close_fd(&pagemap);
	make_memory(&mem, GUEST_MEMORY_ANON);
	fill_memory(&mem, 8);
	save_full(&mem, in_directory("a"));
	check_has(in_directory("a"), &mem);
	guest_memory_finish(&mem);
}
END_TEST

/* What is zero or was never touched takes no room, and is not touched by saving or restoring it. */
START_TEST(test_sparse)
{
	struct guest_memory mem;
	struct stat st;

	check_ok(guest_memory_init(&mem, MIB(512), GUEST_MEMORY_ANON, &err), &err);
	fill_page(&mem, MIB(300), 1);
	memset(guest_memory_write_pointer(&mem, MIB(10), MIB(4)), 0, MIB(4));
	save_full(&mem, in_directory("a"));
	ck_assert_int_eq(stat(path_of("a/memory"), &st), 0);
	ck_assert_int_eq(st.st_size, MIB(512) + 4096);
	ck_assert_int_le(st.st_blocks, 256);
	ck_assert_int_eq(stat(path_of("a/state"), &st), 0);
	ck_assert_int_le(st.st_size, 1024);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(stat(path_of("a"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	check_has(in_directory("a"), &mem);
	guest_memory_finish(&mem);
}
END_TEST

/* 5 GiB around the hole, of which little is there. */
START_TEST(test_large)
{
	struct guest_memory mem;

	check_ok(guest_memory_init(&mem, GIB(5), GUEST_MEMORY_MEMFD, &err), &err);
	fill_page(&mem, GIB(3) - PAGE, 1);
	fill_page(&mem, GIB(4), 2);
	fill_page(&mem, GIB(6) - PAGE, 3);
	save_full(&mem, in_files("s", "m"));
	{
		struct guest_memory got;

		check_ok(load(&got, in_files("s", "m"), SNAPSHOT_LOAD_MAP), &err);
		ck_assert_uint_eq(got.size, GIB(5));
		ck_assert_int_eq(memcmp(guest_memory_read_pointer(&got, GIB(4), PAGE),
					guest_memory_read_pointer(&mem, GIB(4), PAGE), PAGE),
				 0);
		ck_assert_int_eq(memcmp(guest_memory_read_pointer(&got, GIB(6) - PAGE, PAGE),
					guest_memory_read_pointer(&mem, GIB(6) - PAGE, PAGE), PAGE),
				 0);
		guest_memory_finish(&got);
	}
	guest_memory_finish(&mem);
}
END_TEST

static bool is_directory_form(int i)
{
	return i == 0;
}

static struct snapshot_paths form(int i, const char *name)
{
	char names[2][32];

	if (is_directory_form(i)) {
		return in_directory(name);
	}
	(void)snprintf(names[0], sizeof(names[0]), "%s.state", name);
	(void)snprintf(names[1], sizeof(names[1]), "%s.mem", name);
	return in_files(names[0], names[1]);
}

START_TEST(test_replace)
{
	struct guest_memory mem, mapped;
	int entries;

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 1);
	save_full(&mem, form(_i, "a"));
	entries = entries_of(top);
	/* Whoever runs from the old one goes on doing so. */
	check_ok(load(&mapped, form(_i, "a"), SNAPSHOT_LOAD_MAP_UNVERIFIED), &err);
	ck_assert(same_memory(&mapped, &mem));
	guest_memory_finish(&mapped);
	check_ok(load(&mapped, form(_i, "a"), SNAPSHOT_LOAD_MAP_UNVERIFIED), &err);
	if (is_directory_form(_i)) {
		write_file(path_of("a/disk-root"), "x", 1);
	}
	fill_memory(&mem, 2);
	save_full(&mem, form(_i, "a"));
	check_has(form(_i, "a"), &mem);
	fill_memory(&mem, 1);
	ck_assert(same_memory(&mapped, &mem));
	guest_memory_finish(&mapped);
	/* Onto the files that it runs from itself. */
	check_ok(load(&mapped, form(_i, "a"), SNAPSHOT_LOAD_MAP_UNVERIFIED), &err);
	fill_page(&mapped, 0, 99);
	save_full(&mapped, form(_i, "a"));
	check_has(form(_i, "a"), &mapped);
	guest_memory_finish(&mapped);
	ck_assert_int_eq(entries_of(top), entries);
	guest_memory_finish(&mem);
}
END_TEST

/* Made, but of nothing that would be lost. */
START_TEST(test_empty_is_replaced)
{
	struct guest_memory mem;

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	ck_assert_int_eq(mkdir(path_of("a"), 0755), 0);
	write_file(path_of("s"), "", 0);
	write_file(path_of("m"), "", 0);
	save_full(&mem, in_directory("a"));
	save_full(&mem, in_files("s", "m"));
	check_has(in_directory("a"), &mem);
	check_has(in_files("s", "m"), &mem);
	guest_memory_finish(&mem);
}
END_TEST

static void make_strangers(void)
{
	ck_assert_int_eq(mkdir(path_of("dir"), 0700), 0);
	write_file(path_of("dir/photos"), "x", 1);
	ck_assert_int_eq(mkdir(path_of("dir2"), 0700), 0);
	write_file(path_of("dir2/state"), "no snapshot", 11);
	write_file(path_of("file"), "precious, longer than a header", 30);
	write_file(path_of("short"), "x", 1);
	ck_assert_int_eq(symlink("dir", path_of("link")), 0);
	ck_assert_int_eq(mkfifo(path_of("pipe"), 0600), 0);
}

static const struct {
	const char *directory, *state, *memory;
	enum error_code code;
	const char *text;
} strangers[] = {
	{ "dir", NULL, NULL, ERROR_EXISTS, "files that are not of a snapshot" },
	{ "dir2", NULL, NULL, ERROR_EXISTS, "not part of a snapshot" },
	{ "file", NULL, NULL, ERROR_EXISTS, "no directory" },
	{ "link", NULL, NULL, ERROR_EXISTS, "no directory" },
	{ "missing/a", NULL, NULL, ERROR_NOT_FOUND, "missing" },
	{ "file/a", NULL, NULL, ERROR_SNAPSHOT, "Not a directory" },
	{ ".", NULL, NULL, ERROR_SNAPSHOT, "ends in a name" },
	{ "x/..", NULL, NULL, ERROR_SNAPSHOT, "ends in a name" },
	{ NULL, "file", "m", ERROR_EXISTS, "not part of a snapshot" },
	{ NULL, "short", "m", ERROR_EXISTS, "not part of a snapshot" },
	{ NULL, "s", "file", ERROR_EXISTS, "not part of a snapshot" },
	{ NULL, "s", "link", ERROR_EXISTS, "not a regular file" },
	{ NULL, "dir", "m", ERROR_EXISTS, "not a regular file" },
	{ NULL, "s", "pipe", ERROR_EXISTS, "not a regular file" },
	{ NULL, "s", "s", ERROR_SNAPSHOT, "both the state and the memory" },
	{ NULL, "s", NULL, ERROR_SNAPSHOT, "needs a place" },
	{ NULL, NULL, NULL, ERROR_SNAPSHOT, "needs a place" },
};

START_TEST(test_stranger)
{
	struct snapshot_paths paths = { 0 };
	struct guest_memory mem;
	int entries;

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	make_strangers();
	entries = entries_of(top);
	paths.directory = strangers[_i].directory != NULL ? path_of(strangers[_i].directory) : NULL;
	paths.state = strangers[_i].state != NULL ? path_of(strangers[_i].state) : NULL;
	paths.memory = strangers[_i].memory != NULL ? path_of(strangers[_i].memory) : NULL;
	ck_assert_int_lt(save(&mem, paths, NULL, (struct snapshot_watch){ 0 }), 0);
	check_error(&err, strangers[_i].code, strangers[_i].text);
	ck_assert_int_eq(entries_of(top), entries);
	ck_assert_int_eq(entries_of(path_of("dir")), 1);
	guest_memory_finish(&mem);
}
END_TEST

/* One that has come while the snapshot was written. */
START_TEST(test_late_stranger)
{
	struct guest_memory mem;
	struct snapshot_writer_config config = { .mem = &mem, .pagemap_fd = -1 };
	struct snapshot_writer *w;

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	config.paths = in_directory("a");
	check_ok(snapshot_writer_create(&w, &config, &err), &err);
	ck_assert_int_ge(snapshot_writer_directory(w), 0);
	check_ok(snapshot_writer_run(w, &err), &err);
	ck_assert_int_eq(mkdir(path_of("a"), 0700), 0);
	write_file(path_of("a/photos"), "x", 1);
	ck_assert_int_lt(snapshot_writer_commit(w, contents(), &err), 0);
	check_error(&err, ERROR_EXISTS, "files that are not of a snapshot");
	snapshot_writer_destroy(w);
	ck_assert_int_eq(entries_of(top), 1);
	ck_assert_int_eq(entries_of(path_of("a")), 1);
	guest_memory_finish(&mem);
}
END_TEST

/* What somebody has put into the directory of one that was not committed goes with it, or stays with it. */
START_TEST(test_further_files)
{
	struct guest_memory mem;
	struct snapshot_writer_config config = { .mem = &mem, .pagemap_fd = -1 };

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	config.paths = in_directory("a");
	for (int commit = 0; commit < 2; commit++) {
		struct snapshot_writer *w;
		int fd;

		check_ok(snapshot_writer_create(&w, &config, &err), &err);
		fd = openat(snapshot_writer_directory(w), "disk-root",
			    O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		ck_assert_int_ge(fd, 0);
		(void)close(fd);
		check_ok(snapshot_writer_run(w, &err), &err);
		if (commit == 1) {
			check_ok(snapshot_writer_commit(w, contents(), &err), &err);
		}
		snapshot_writer_destroy(w);
		ck_assert_int_eq(entries_of(top), commit);
	}
	ck_assert_int_eq(entries_of(path_of("a")), 3);
	check_has(in_directory("a"), &mem);
	guest_memory_finish(&mem);
}
END_TEST

/* The process is in a mount namespace of its own; false: not on this machine. */
static bool mount_here(const char *options, unsigned long flags)
{
	ck_assert_int_eq(mkdir(path_of("mount"), 0700), 0);
	if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
		return false;
	}
	return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", path_of("mount"), "tmpfs", flags, options) == 0;
}

START_TEST(test_disk_full)
{
	struct guest_memory mem;
	int before;

	if (!mount_here("size=1m", 0)) {
		CHECK_SKIP("no file system of one's own");
	}
	make_memory(&mem, GUEST_MEMORY_MEMFD);
	save_full(&mem, form(_i, "mount/a"));
	before = entries_of(path_of("mount"));
	fill_memory(&mem, 3);
	ck_assert_int_lt(save(&mem, form(_i, "mount/a"), NULL, (struct snapshot_watch){ 0 }), 0);
	check_error(&err, ERROR_SNAPSHOT, "No space left");
	check_error(&err, ERROR_SNAPSHOT, "make room");
	ck_assert_int_eq(entries_of(path_of("mount")), before);
	{
		struct guest_memory old;

		make_memory(&old, GUEST_MEMORY_MEMFD);
		check_has(form(_i, "mount/a"), &old);
		guest_memory_finish(&old);
	}
	guest_memory_finish(&mem);
	(void)umount(path_of("mount"));
}
END_TEST

START_TEST(test_read_only)
{
	struct guest_memory mem;

	if (!mount_here("size=1m", MS_RDONLY)) {
		CHECK_SKIP("no file system of one's own");
	}
	make_memory(&mem, GUEST_MEMORY_MEMFD);
	ck_assert_int_lt(save(&mem, form(_i, "mount/a"), NULL, (struct snapshot_watch){ 0 }), 0);
	check_error(&err, ERROR_SNAPSHOT, "Read-only file system");
	check_error(&err, ERROR_SNAPSHOT, "mounted read-only");
	guest_memory_finish(&mem);
	(void)umount(path_of("mount"));
}
END_TEST

START_TEST(test_file_too_large)
{
	struct guest_memory mem;
	const struct rlimit limit = { MIB(1), MIB(1) };

	(void)signal(SIGXFSZ, SIG_IGN);
	make_memory(&mem, GUEST_MEMORY_MEMFD);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_lt(save(&mem, form(_i, "a"), NULL, (struct snapshot_watch){ 0 }), 0);
	check_error(&err, ERROR_SNAPSHOT, "File too large");
	ck_assert_int_eq(entries_of(top), 0);
	guest_memory_finish(&mem);
}
END_TEST

struct steps {
	int count, last;
	uint64_t done, total;
};

static bool step(void *arg, const char *phase, uint64_t done, uint64_t total)
{
	struct steps *steps = arg;

	ck_assert_str_eq(phase, "memory");
	ck_assert_uint_ge(done, steps->done);
	ck_assert_uint_le(done, total);
	steps->done = done;
	steps->total = total;
	return ++steps->count != steps->last;
}

START_TEST(test_progress_and_cancel)
{
	struct guest_memory mem;
	struct steps steps = { 0 };

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 4);
	check_ok(save(&mem, form(_i, "a"), NULL, (struct snapshot_watch){ step, &steps }), &err);
	/* Chunks 0, 1, 2 of the first region and the last of the second. */
	ck_assert_int_eq(steps.count, 4);
	ck_assert_uint_eq(steps.done, steps.total);
	ck_assert_uint_ge(steps.total, FILLED * PAGE);
	for (int last = 1; last <= 4; last++) {
		steps = (struct steps){ .last = last };
		ck_assert_int_eq(
			save(&mem, form(_i, "b"), NULL, (struct snapshot_watch){ step, &steps }),
			-ECANCELED);
		check_error(&err, ERROR_CANCELLED, "cancelled");
		ck_assert_int_eq(entries_of(top), is_directory_form(_i) ? 1 : 2);
	}
	guest_memory_finish(&mem);
}
END_TEST

static bool die(void *arg, const char *phase, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)phase;
	(void)done;
	(void)total;
	(void)raise(SIGKILL);
	return true;
}

/* What a killed writer leaves is in nobody's way. */
START_TEST(test_leftovers)
{
	struct guest_memory mem;

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 5);
	save_full(&mem, form(_i, "a"));
	for (int i = 0; i < 3; i++) {
		pid_t child = fork();
		int status;

		ck_assert_int_ge(child, 0);
		if (child == 0) {
			(void)save(&mem, form(_i, "a"), NULL,
				   (struct snapshot_watch){ .step = die });
			_exit(0);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert(WIFSIGNALED(status));
	}
	/* Each has removed what the one before had left. */
	ck_assert_int_eq(entries_of(top), is_directory_form(_i) ? 2 : 4);
	check_has(form(_i, "a"), &mem);
	fill_memory(&mem, 6);
	write_file(path_of(".a.00112233445566778899aabbccddeeff.old"), "x", 1);
	write_file(path_of(".b.00112233445566778899aabbccddeeff.new"), "x", 1);
	write_file(path_of(".a.0112233445566778899aabbccddeeff.new"), "x", 1);
	save_full(&mem, form(_i, "a"));
	check_has(form(_i, "a"), &mem);
	/* And nothing else. */
	ck_assert_int_eq(entries_of(top), is_directory_form(_i) ? 4 : 5);
	guest_memory_finish(&mem);
}
END_TEST

/* Two at a time: none removes what the other needs, and the last one stays. */
START_TEST(test_two_writers)
{
	struct guest_memory mem;
	struct snapshot_writer_config config = { .mem = &mem, .pagemap_fd = -1 };
	struct snapshot_writer *w;
	struct snapshot_reader *r;

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 5);
	config.paths = form(_i, "a");
	check_ok(snapshot_writer_create(&w, &config, &err), &err);
	check_ok(snapshot_writer_scan(w, &err), &err);
	check_ok(snapshot_writer_run(w, &err), &err);
	save_full(&mem, form(_i, "a"));
	check_has(form(_i, "a"), &mem);
	check_ok(snapshot_writer_commit(w, contents(), &err), &err);
	check_ok(open_snapshot(&r, form(_i, "a")), &err);
	ck_assert_str_eq(snapshot_reader_info(r)->id, snapshot_writer_id(w));
	snapshot_reader_destroy(r);
	snapshot_writer_destroy(w);
	check_has(form(_i, "a"), &mem);
	ck_assert_int_eq(entries_of(top), is_directory_form(_i) ? 1 : 2);
	guest_memory_finish(&mem);
}
END_TEST

/* In memory, without a name. */
START_TEST(test_descriptors)
{
	int fds[4], descriptors;
	struct guest_memory mem;
	struct snapshot_paths parent = { .fds = fds }, child = { .fds = fds + 2 };
	struct snapshot_reader_config config = { .paths = child,
						 .parents = &parent,
						 .parent_count = 1 };
	struct snapshot_reader *r;

	for (int i = 0; i < 4; i++) {
		fds[i] = memfd_create("snapshot", MFD_CLOEXEC);
		ck_assert_int_ge(fds[i], 0);
	}
	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 5);
	check_ok(guest_memory_dirty_start(&mem, &err), &err);
	descriptors = entries_of("/proc/self/fd");
	save_full(&mem, parent);
	check_has(parent, &mem);
	ck_assert_int_lt(save(&mem, parent, NULL, (struct snapshot_watch){ 0 }), 0);
	check_error(&err, ERROR_SNAPSHOT, "not empty files");
	ck_assert_int_lt(open_snapshot(&r, child), 0);
	check_ok(save(&mem, child, &parent, (struct snapshot_watch){ 0 }), &err);
	ck_assert_int_lt(open_snapshot(&r, child), 0);
	check_error(&err, ERROR_NOT_FOUND, "was not beside it");
	check_ok(snapshot_reader_create(&r, &config, &err), &err);
	{
		const struct snapshot_load how = { 0 };
		struct guest_memory got = { 0 };

		check_ok(snapshot_reader_load(r, &got, &how, &err), &err);
		snapshot_reader_destroy(r);
		ck_assert(same_memory(&got, &mem));
		guest_memory_finish(&got);
	}
	ck_assert_int_eq(entries_of("/proc/self/fd"), descriptors);
	ck_assert_int_eq(entries_of(top), 0);
	guest_memory_finish(&mem);
}
END_TEST

START_TEST(test_remove)
{
	struct guest_memory mem;

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 5);
	save_full(&mem, form(_i, "a"));
	check_ok(snapshot_remove(&(struct snapshot_paths){ form(_i, "a").directory,
							   form(_i, "a").state,
							   form(_i, "a").memory, NULL },
				 &err),
		 &err);
	ck_assert_int_eq(entries_of(top), 0);
	{
		const struct snapshot_paths gone = form(_i, "a"), none = { 0 };

		ck_assert_int_lt(snapshot_remove(&gone, &err), 0);
		check_error(&err, ERROR_NOT_FOUND, "/a");
		ck_assert_int_lt(snapshot_remove(&none, &err), 0);
		check_error(&err, ERROR_SNAPSHOT, "no snapshot is named");
	}
	guest_memory_finish(&mem);
}
END_TEST

/* Whatever is not one stays. */
START_TEST(test_remove_stranger)
{
	struct snapshot_paths paths = { 0 };

	make_strangers();
	paths.directory = strangers[_i].directory != NULL ? path_of(strangers[_i].directory) : NULL;
	paths.state = strangers[_i].state != NULL ? path_of(strangers[_i].state) : NULL;
	paths.memory = strangers[_i].memory != NULL ? path_of(strangers[_i].memory) : NULL;
	ck_assert_int_lt(snapshot_remove(&paths, &err), 0);
	ck_assert_int_eq(entries_of(top), 6);
	ck_assert_int_eq(entries_of(path_of("dir")), 1);
	ck_assert_int_eq(entries_of(path_of("dir2")), 1);
}
END_TEST

/* Killed between the two renames: the snapshot is the new one, whatever stands in the place of its memory. */
START_TEST(test_half_renamed)
{
	struct guest_memory mem;
	struct snapshot_reader *r;
	char temp[160];

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 1);
	save_full(&mem, form(1, "old"));
	fill_memory(&mem, 2);
	save_full(&mem, form(1, "a"));
	check_ok(open_snapshot(&r, form(1, "a")), &err);
	(void)snprintf(temp, sizeof(temp), "%s/.a.mem.%s.new", top, snapshot_reader_info(r)->id);
	snapshot_reader_destroy(r);
	ck_assert_int_eq(rename(path_of("a.mem"), temp), 0);
	check_has(form(1, "a"), &mem);
	ck_assert_int_eq(rename(path_of("old.mem"), path_of("a.mem")), 0);
	check_has(form(1, "a"), &mem);
	/* And the next one puts it right. */
	save_full(&mem, form(1, "a"));
	(void)unlink(temp);
	check_has(form(1, "a"), &mem);
	guest_memory_finish(&mem);
}
END_TEST

/* Chunks that come from a copy, and a run of several threads. */
static void *run(void *arg)
{
	struct error e;

	return (void *)(intptr_t)snapshot_writer_run(arg, &e);
}

START_TEST(test_copies_and_threads)
{
	struct guest_memory mem;
	struct snapshot_writer_config config = { .mem = &mem, .pagemap_fd = pagemap };
	struct snapshot_writer *w;
	uint8_t *copy = malloc(SNAPSHOT_CHUNK);

	ck_assert_ptr_nonnull(copy);
	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 9);
	config.paths = in_directory("a");
	check_ok(snapshot_writer_create(&w, &config, &err), &err);
	check_ok(snapshot_writer_scan(w, &err), &err);
	ck_assert_uint_eq(snapshot_writer_chunks(w), 5);
	for (uint32_t chunk = 5; chunk-- > 0;) {
		uint32_t index;
		uint64_t offset, len;

		snapshot_writer_chunk_place(w, chunk, &index, &offset, &len);
		ck_assert_uint_eq(len, chunk == 2 ? MIB(1) + KIB(12) : MIB(2));
		memcpy(copy, mem.regions[index].host + offset, len);
		check_ok(snapshot_writer_chunk(w, chunk, copy, &err), &err);
	}
	ck_assert_uint_eq(snapshot_writer_stored(w), FILLED * PAGE);
	check_ok(snapshot_writer_commit(w, contents(), &err), &err);
	snapshot_writer_destroy(w);
	check_has(in_directory("a"), &mem);

	config.paths = in_directory("b");
	check_ok(snapshot_writer_create(&w, &config, &err), &err);
	check_ok(snapshot_writer_scan(w, &err), &err);
	{
		pthread_t threads[3];
		void *result;

		for (int i = 0; i < 3; i++) {
			ck_assert_int_eq(pthread_create(&threads[i], NULL, run, w), 0);
		}
		for (int i = 0; i < 3; i++) {
			ck_assert_int_eq(pthread_join(threads[i], &result), 0);
			ck_assert_ptr_null(result);
		}
	}
	check_ok(snapshot_writer_commit(w, contents(), &err), &err);
	snapshot_writer_destroy(w);
	check_has(in_directory("b"), &mem);
	free(copy);
	guest_memory_finish(&mem);
}
END_TEST

START_TEST(test_describe)
{
	struct guest_memory mem;
	struct snapshot_reader_config config = { .state_only = true };
	struct snapshot_reader *r;
	json_t *about;

	make_memory(&mem, GUEST_MEMORY_MEMFD);
	save_full(&mem, in_files("s", "m"));
	/* Which needs no memory. */
	ck_assert_int_eq(unlink(path_of("m")), 0);
	config.paths.state = path_of("s");
	check_ok(snapshot_reader_create(&r, &config, &err), &err);
	about = snapshot_reader_describe(r);
	ck_assert_ptr_nonnull(about);
	ck_assert_str_eq(json_string_value(json_object_get(about, "kind")), "full");
	ck_assert_int_eq(
		json_integer_value(json_object_get(json_object_get(about, "memory"), "size")),
		LOW_SIZE + HIGH_SIZE);
	ck_assert_str_eq(
		json_string_value(json_object_get(json_object_get(about, "about"), "name")), "a");
	json_decref(about);
	snapshot_reader_destroy(r);
	guest_memory_finish(&mem);
}
END_TEST

CHECK_MAIN("snapshot_files", CHECK_FIXTURE(rig_setup, rig_teardown);
	   CHECK_TABLE(test_round_trip, backings); CHECK_TEST(test_without_pagemap);
	   CHECK_TEST(test_sparse); CHECK_TEST(test_large); CHECK_LOOP(test_replace, 2);
	   CHECK_TEST(test_empty_is_replaced); CHECK_TABLE(test_stranger, strangers);
	   CHECK_TEST(test_late_stranger); CHECK_TEST(test_further_files);
	   CHECK_LOOP(test_disk_full, 2); CHECK_LOOP(test_read_only, 2);
	   CHECK_LOOP(test_file_too_large, 2); CHECK_LOOP(test_progress_and_cancel, 2);
	   CHECK_LOOP(test_leftovers, 2); CHECK_LOOP(test_two_writers, 2);
	   CHECK_TEST(test_descriptors); CHECK_LOOP(test_remove, 2);
	   CHECK_TABLE(test_remove_stranger, strangers); CHECK_TEST(test_half_renamed);
	   CHECK_TEST(test_copies_and_threads); CHECK_TEST(test_describe))
