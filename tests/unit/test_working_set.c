/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest asks for first, beside its snapshot: the bytes of the file, whatever else they may be, and what a load makes of it. Chunks
 * of the rig's memory: 0 to 2 of the low region, 3 (of which nothing is stored) and 4 of the high one.
 */
#include "../../src/snapshot/internal.h"
#include "harness/snapshot_rig.h"

static struct guest_memory mem, lazy;
static const struct snapshot_id id = { { 1, 2, 3 } }, other_id = { { 1, 2, 4 } };
static struct layout layout = {
	.region_count = 2,
	.regions = { { .size = LOW_SIZE },
		     { .gpa = HIGH_GPA, .size = HIGH_SIZE, .offset = MIB(6) } },
	.length = MIB(10),
};
static const uint32_t some[] = { 4, 0, 2 };
#define SOME_SIZE (WORKING_SET_HEADER_SIZE + sizeof(some))

static void setup(void)
{
	rig_setup();
	make_memory(&mem, GUEST_MEMORY_ANON);
	fill_memory(&mem, 1);
	save_full(&mem, in_directory("s"));
}

static void teardown(void)
{
	guest_memory_finish(&lazy);
	guest_memory_finish(&mem);
	rig_teardown();
}

/* Of just these bytes. */
static int parse(const uint8_t *bytes, size_t len)
{
	struct working_set set;
	uint8_t *copy = malloc(len + (len == 0));
	int r;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, bytes, len);
	r = working_set_parse(&set, copy, len, &id, &layout, "file", &err);
	free(copy);
	if (r < 0) {
		check_error(&err, ERROR_SNAPSHOT, "'file'");
		ck_assert_ptr_null(set.chunks);
		ck_assert_uint_eq(set.count, 0);
	}
	working_set_finish(&set);
	return r;
}

START_TEST(test_bytes)
{
	uint8_t bytes[SOME_SIZE + 1];
	struct working_set set;

	working_set_encode(bytes, &id, some, ARRAY_SIZE(some));
	check_ok(working_set_parse(&set, bytes, SOME_SIZE, &id, &layout, "file", &err), &err);
	ck_assert_uint_eq(set.count, ARRAY_SIZE(some));
	ck_assert_int_eq(memcmp(set.chunks, some, sizeof(some)), 0);
	working_set_finish(&set);
	for (size_t bit = 0; bit < SOME_SIZE * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_msg(parse(bytes, SOME_SIZE) < 0, "bit %zu", bit);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t len = 0; len < SOME_SIZE; len++) {
		ck_assert_msg(parse(bytes, len) < 0, "%zu bytes", len);
	}
	bytes[SOME_SIZE] = 0;
	ck_assert_int_lt(parse(bytes, SOME_SIZE + 1), 0);
	check_ok(parse(bytes, SOME_SIZE), &err);
	working_set_encode(bytes, &id, NULL, 0);
	check_ok(parse(bytes, WORKING_SET_HEADER_SIZE), &err);
}
END_TEST

/* With right checksums. */
static const struct {
	uint32_t chunks[3];
	const struct snapshot_id *id;
	const char *says;
} hostile[] = {
	{ { 4, 0, 5 }, &id, "memory that there is not" },
	{ { UINT32_MAX, 0, 1 }, &id, "memory that there is not" },
	{ { 4, 0, 4 }, &id, "twice" },
	{ { 4, 0, 2 }, &other_id, "another snapshot" },
};

START_TEST(test_hostile)
{
	uint8_t bytes[SOME_SIZE];

	working_set_encode(bytes, hostile[_i].id, hostile[_i].chunks, 3);
	ck_assert_int_lt(parse(bytes, SOME_SIZE), 0);
	check_error(&err, ERROR_SNAPSHOT, hostile[_i].says);
}
END_TEST

/* --- loads --- */

static int load_recording(void)
{
	const struct snapshot_lazy how = { .record = true };
	struct snapshot_reader *r;
	int x = open_snapshot(&r, in_directory("s"));

	guest_memory_finish(&lazy);
	lazy = (struct guest_memory){ 0 };
	return x == 0 ? snapshot_reader_load_lazily(&r, &lazy, &how, &err) : x;
}

static void touch(gpa_t gpa)
{
	const volatile uint8_t *byte = guest_memory_read_pointer(&lazy, gpa, 1);

	ck_assert(byte != NULL);
	(void)*byte;
}

/* As a load sees it: 0 and *bytes, or a negative errno. */
static int look(uint64_t *bytes)
{
	const struct snapshot_reader_config config = { .paths = in_directory("s"),
						       .state_only = true };
	struct snapshot_reader *r;
	int x;

	check_ok(snapshot_reader_create(&r, &config, &err), &err);
	x = snapshot_reader_working_set(r, path_of("s"), bytes, &err);
	snapshot_reader_destroy(r);
	return x;
}

/* Chunk 4, then 2. */
static void record(void)
{
	uint64_t bytes;

	check_ok(load_recording(), &err);
	touch(HIGH_GPA + MIB(2));
	touch(1024 * PAGE);
	touch(HIGH_GPA + MIB(3));
	touch(HIGH_GPA);
	check_ok(snapshot_mark(&lazy, &bytes, &err), &err);
	ck_assert_uint_eq(bytes, MIB(3) + KIB(12));
}

START_TEST(test_record)
{
	static const uint32_t touched[] = { 4, 2 };
	uint64_t bytes;
	size_t len;
	uint8_t *file;

	ck_assert_int_eq(look(&bytes), -ENOENT);
	record();
	file = read_file(path_of("s/working-set"), &len);
	ck_assert_uint_eq(len, WORKING_SET_HEADER_SIZE + sizeof(touched));
	ck_assert_int_eq(memcmp(file + WORKING_SET_HEADER_SIZE, touched, sizeof(touched)), 0);
	free(file);
	check_ok(look(&bytes), &err);
	ck_assert_uint_eq(bytes, MIB(3) + KIB(12));
	ck_assert_int_eq(entries_of(path_of("s")), 3);
	/* All else follows, and is not in it: again, the same. */
	ck_assert(same_memory(&lazy, &mem));
	check_ok(snapshot_mark(&lazy, &bytes, &err), &err);
	ck_assert_uint_eq(bytes, MIB(3) + KIB(12));
	ck_assert_int_eq(entries_of(path_of("s")), 3);
	/* A new one has nothing of the old one. */
	check_ok(load_recording(), &err);
	touch(0);
	check_ok(snapshot_mark(&lazy, &bytes, &err), &err);
	ck_assert_uint_eq(bytes, MIB(2));
	check_ok(look(&bytes), &err);
	ck_assert_uint_eq(bytes, MIB(2));
}
END_TEST

static void wait_for_damage(void)
{
	guest_memory_finish(&lazy);
	check_ok(load_lazily(&lazy, in_directory("s")), &err);
	while (pager_check(lazy.pager, &err) == 0) {
		(void)usleep(1000);
	}
}

/* Which of two that are damaged is met first shows what comes first. */
START_TEST(test_replay)
{
	record();
	flip(path_of("s/memory"), 100);
	flip(path_of("s/memory"), MIB(8) + 100);
	wait_for_damage();
	check_error(&err, ERROR_SNAPSHOT, "at byte 8388608 ");
	ck_assert_int_eq(unlink(path_of("s/working-set")), 0);
	wait_for_damage();
	check_error(&err, ERROR_SNAPSHOT, "at byte 0 ");
}
END_TEST

static void put_damaged(void)
{
	flip(path_of("s/working-set"), 70);
}

static void put_long(void)
{
	ck_assert_int_eq(truncate(path_of("s/working-set"), (off_t)GIB(1)), 0);
}

static void put_empty(void)
{
	ck_assert_int_eq(truncate(path_of("s/working-set"), 0), 0);
}

static void put_link(void)
{
	ck_assert_int_eq(rename(path_of("s/working-set"), path_of("away")), 0);
	ck_assert_int_eq(symlink("../away", path_of("s/working-set")), 0);
}

static void put_pipe(void)
{
	ck_assert_int_eq(unlink(path_of("s/working-set")), 0);
	ck_assert_int_eq(mkfifo(path_of("s/working-set"), 0600), 0);
}

static void put_foreign(void)
{
	ck_assert_int_eq(rename(path_of("s/working-set"), path_of("kept")), 0);
	save_full(&mem, in_directory("s"));
	ck_assert_int_eq(rename(path_of("kept"), path_of("s/working-set")), 0);
}

static void (*const strange[])(void) = {
	put_damaged, put_long, put_empty, put_link, put_pipe, put_foreign,
};

/* Never an error of the load, nor of who replaces or removes the snapshot. */
START_TEST(test_ignored)
{
	uint64_t bytes;

	record();
	strange[_i]();
	ck_assert_int_lt(look(&bytes), 0);
	check_error(&err, ERROR_SNAPSHOT, "s/working-set'");
	guest_memory_finish(&lazy);
	check_ok(load_lazily(&lazy, in_directory("s")), &err);
	ck_assert(same_memory(&lazy, &mem));
	record();
	check_ok(look(&bytes), &err);
	ck_assert_int_eq(
		snapshot_remove(&(struct snapshot_paths){ .directory = path_of("s") }, &err), 0);
}
END_TEST

START_TEST(test_not_recorded)
{
	uint64_t bytes;

	ck_assert_int_lt(snapshot_mark(&mem, &bytes, &err), 0);
	check_error(&err, ERROR_WRONG_STATE, "not recorded");
	check_ok(load_lazily(&lazy, in_directory("s")), &err);
	ck_assert_int_lt(snapshot_mark(&lazy, &bytes, &err), 0);
	check_error(&err, ERROR_WRONG_STATE, "not recorded");
	ck_assert_int_eq(entries_of(path_of("s")), 2);
}
END_TEST

/* What is marked is of the snapshot that was loaded, whatever has its name by now. */
START_TEST(test_replaced)
{
	const struct snapshot_paths paths = in_directory("s");
	uint64_t bytes;

	check_ok(load_recording(), &err);
	touch(0);
	if (_i == 0) {
		check_ok(snapshot_remove(&paths, &err), &err);
	} else {
		save_full(&mem, paths);
	}
	ck_assert_int_lt(snapshot_mark(&lazy, &bytes, &err), 0);
	check_error(&err, ERROR_NOT_FOUND, "no longer there");
	ck_assert(same_memory(&lazy, &mem));
	ck_assert_int_eq(entries_of(top), _i);
	ck_assert_int_lt(access(path_of("s/working-set"), F_OK), 0);
}
END_TEST

/* The mark may be repeated when what was in its way is gone; what a killed one has left is removed. */
START_TEST(test_fails)
{
	static const char left[] = "s/.working-set.0123456789abcdef0123456789abcdef.new";
	uint64_t bytes;

	check_ok(load_recording(), &err);
	touch(0);
	ck_assert_int_eq(mkdir(path_of("s/working-set"), 0700), 0);
	write_file(path_of(left), "x", 1);
	ck_assert_int_lt(snapshot_mark(&lazy, &bytes, &err), 0);
	check_error(&err, ERROR_SNAPSHOT, "s/working-set'");
	ck_assert_int_eq(entries_of(path_of("s")), 3);
	ck_assert_int_eq(rmdir(path_of("s/working-set")), 0);
	check_ok(snapshot_mark(&lazy, &bytes, &err), &err);
	check_ok(look(&bytes), &err);
	ck_assert_uint_eq(bytes, MIB(2));
	/* Nor is that in the way of who removes the snapshot. */
	write_file(path_of(left), "x", 1);
	check_ok(snapshot_remove(&(struct snapshot_paths){ .directory = path_of("s") }, &err),
		 &err);
	ck_assert_int_eq(entries_of(top), 0);
}
END_TEST

/* A merged one is another snapshot. */
START_TEST(test_merge)
{
	struct snapshot_merge merge = { .paths = in_directory("m") };
	char merged[SNAPSHOT_ID_TEXT];
	struct snapshot_reader *r;

	record();
	check_ok(open_snapshot(&r, in_directory("s")), &err);
	check_ok(snapshot_merge(r, &merge, merged, &err), &err);
	snapshot_reader_destroy(r);
	ck_assert_int_eq(entries_of(path_of("m")), 2);
	check_has(in_directory("m"), &mem);
	/* In place of one that has it. */
	save_full(&mem, in_directory("s"));
	ck_assert_int_eq(entries_of(path_of("s")), 2);
}
END_TEST

CHECK_MAIN("working_set", skip_without_userfaultfd(); CHECK_FIXTURE(setup, teardown);
	   CHECK_TEST(test_bytes); CHECK_TABLE(test_hostile, hostile); CHECK_TEST(test_record);
	   CHECK_TEST(test_replay); CHECK_TABLE(test_ignored, strange);
	   CHECK_TEST(test_not_recorded); CHECK_LOOP(test_replaced, 2); CHECK_TEST(test_fails);
	   CHECK_TEST(test_merge))
