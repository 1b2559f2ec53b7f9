/* SPDX-License-Identifier: Apache-2.0 */
/* Differences: what they have, how a chain of them is followed, loaded, merged and compared; chains that are not right. */
#include "harness/snapshot_rig.h"

#include <sys/mman.h>

static struct guest_memory mem;

static void setup(void)
{
	rig_setup();
	make_memory(&mem, GUEST_MEMORY_ANON);
	(void)madvise(mem.regions[0].host, LOW_SIZE, MADV_NOHUGEPAGE);
	fill_memory(&mem, 1);
	check_ok(guest_memory_dirty_start(&mem, &err), &err);
}

static void teardown(void)
{
	guest_memory_finish(&mem);
	rig_teardown();
}

/* What is dirty is forgotten: it is in what was just saved. */
static void collect(void)
{
	uint64_t bits[2048 / 64];

	for (uint32_t i = 0; i < 2; i++) {
		check_ok(guest_region_dirty_collect(&mem, i, bits, 2048, &err), &err);
	}
}

static void save_base(const char *name)
{
	save_full(&mem, in_directory(name));
	collect();
}

static void save_diff(const char *name, const char *parent)
{
	const struct snapshot_paths paths = in_directory(parent);

	check_ok(save(&mem, in_directory(name), &paths, (struct snapshot_watch){ 0 }), &err);
}

static uint64_t stored_in(const char *name)
{
	struct snapshot_reader *r;
	uint64_t stored;

	check_ok(open_snapshot(&r, in_directory(name)), &err);
	stored = snapshot_reader_info(r)->stored;
	snapshot_reader_destroy(r);
	return stored;
}

static void check_chain(struct snapshot_paths paths, uint32_t mappings)
{
	struct snapshot_load how = { .mode = SNAPSHOT_LOAD_MAP_UNVERIFIED,
				     .mappings_max = mappings };
	struct snapshot_reader *r;
	struct guest_memory got = { 0 };

	check_has(paths, &mem);
	check_ok(open_snapshot(&r, paths), &err);
	check_ok(snapshot_reader_verify(r, 2, NULL, &err), &err);
	check_ok(snapshot_reader_load(r, &got, &how, &err), &err);
	snapshot_reader_destroy(r);
	ck_assert(same_memory(&got, &mem));
	/* And a full one of it has what it should. */
	save_full(&got, in_files("again.s", "again.m"));
	check_has(in_files("again.s", "again.m"), &mem);
	guest_memory_finish(&got);
}

/* As it was, new, zeroed, and as before. */
static void change(uint32_t seed)
{
	fill_page(&mem, 5 * PAGE, seed);
	fill_page(&mem, (seed * 7 % 600) * PAGE, seed);
	fill_page(&mem, (600 + seed) * PAGE, seed);
	fill_page(&mem, HIGH_GPA + seed % 100 * PAGE, seed);
	ck_assert(guest_memory_zero(&mem, (512 + seed % 4) * PAGE, PAGE));
	ck_assert(guest_memory_zero(&mem, HIGH_GPA + MIB(3) + seed * PAGE, 3 * PAGE));
	ck_assert(guest_memory_zero(&mem, 1100 * PAGE, PAGE));
}

START_TEST(test_chain)
{
	struct snapshot_reader *r;

	save_base("s0");
	/* Nothing has happened. */
	save_diff("s1", "s0");
	ck_assert_uint_eq(stored_in("s1"), 0);
	check_chain(in_directory("s1"), 0);
	change(10);
	save_diff("s2", "s1");
	ck_assert_uint_eq(stored_in("s2"), 4 * PAGE);
	change(11);
	save_diff("s3", "s2");
	change(12);
	save_diff("s4", "s3");
	check_chain(in_directory("s4"), 0);
	check_chain(in_directory("s4"), 1);
	check_chain(in_directory("s4"), 3);
	check_ok(open_snapshot(&r, in_directory("s4")), &err);
	ck_assert_uint_eq(snapshot_reader_info(r)->depth, 5);
	ck_assert_uint_eq(strlen(snapshot_reader_info(r)->parent_id), 32);
	snapshot_reader_destroy(r);
	/* The whole folder somewhere else. */
	ck_assert_int_eq(mkdir(path_of("sub"), 0700), 0);
	for (int i = 0; i < 5; i++) {
		char names[2][16];

		(void)snprintf(names[0], sizeof(names[0]), "s%d", i);
		(void)snprintf(names[1], sizeof(names[1]), "sub/s%d", i);
		ck_assert_int_eq(rename(path_of(names[0]), path_of(names[1])), 0);
	}
	check_chain(in_directory("sub/s4"), 0);
}
END_TEST

/* Many short runs, more than there may be mappings. */
START_TEST(test_many_runs)
{
	save_base("s0");
	for (uint32_t page = 0; page < 1200; page += 2) {
		fill_page(&mem, page * PAGE, page);
	}
	save_diff("s1", "s0");
	for (uint32_t page = 0; page < 1200; page += 3) {
		fill_page(&mem, page * PAGE, page + 7);
	}
	for (uint32_t page = 0; page < 200; page += 5) {
		ck_assert(guest_memory_zero(&mem, page * PAGE, PAGE));
	}
	save_diff("s2", "s1");
	check_chain(in_directory("s2"), 0);
	check_chain(in_directory("s2"), 10);
	check_chain(in_directory("s2"), 700);
}
END_TEST

/* Two files each, and both forms in one chain. */
START_TEST(test_forms)
{
	struct snapshot_paths files = in_files("f.s", "f.m"), base = in_directory("s0");

	save_base("s0");
	change(1);
	check_ok(save(&mem, files, &base, (struct snapshot_watch){ 0 }), &err);
	check_chain(files, 0);
	change(2);
	check_ok(save(&mem, in_files("g.s", "g.m"), &files, (struct snapshot_watch){ 0 }), &err);
	check_chain(in_files("g.s", "g.m"), 0);
	change(3);
	files = in_files("g.s", "g.m");
	check_ok(save(&mem, in_directory("d"), &files, (struct snapshot_watch){ 0 }), &err);
	check_chain(in_directory("d"), 0);
}
END_TEST

/* A region that has come since. */
START_TEST(test_new_region)
{
	struct guest_region_config config = { .gpa = GIB(8),
					      .size = MIB(2),
					      .kind = GUEST_REGION_HOTPLUG,
					      .backing = GUEST_MEMORY_ANON };

	save_base("s0");
	ck_assert_int_eq(guest_memory_add(&mem, &config, &err), 2);
	check_ok(guest_region_dirty_start(&mem, 2, &err), &err);
	fill_page(&mem, GIB(8) + PAGE, 3);
	save_diff("s1", "s0");
	check_chain(in_directory("s1"), 0);
}
END_TEST

START_TEST(test_missing)
{
	struct snapshot_reader *r;
	struct snapshot_reader_config config = { .paths = in_directory("s2") };
	struct snapshot_paths parents[2];
	char id[SNAPSHOT_ID_TEXT];

	save_base("s0");
	change(1);
	save_diff("s1", "s0");
	change(2);
	save_diff("s2", "s1");
	check_ok(open_snapshot(&r, in_directory("s1")), &err);
	memcpy(id, snapshot_reader_info(r)->id, sizeof(id));
	snapshot_reader_destroy(r);
	ck_assert_int_eq(mkdir(path_of("moved"), 0700), 0);
	ck_assert_int_eq(rename(path_of("s1"), path_of("moved/one")), 0);
	ck_assert_int_eq(rename(path_of("s0"), path_of("moved/zero")), 0);
	ck_assert_int_lt(open_snapshot(&r, in_directory("s2")), 0);
	check_error(&err, ERROR_NOT_FOUND, id);
	check_error(&err, ERROR_NOT_FOUND, "('s1')");
	/* Unless the caller knows where they are, in any order. */
	parents[0] = in_directory("moved/zero");
	parents[1] = in_directory("moved/one");
	config.parents = parents;
	config.parent_count = 2;
	check_ok(snapshot_reader_create(&r, &config, &err), &err);
	check_ok(snapshot_reader_verify(r, 1, NULL, &err), &err);
	snapshot_reader_destroy(r);
	parents[1] = in_directory("nowhere");
	ck_assert_int_lt(snapshot_reader_create(&r, &config, &err), 0);
	check_error(&err, ERROR_NOT_FOUND, "nowhere");
	/* `state` alone can be looked at without. */
	config.state_only = true;
	config.parent_count = 0;
	check_ok(snapshot_reader_create(&r, &config, &err), &err);
	ck_assert_str_eq(snapshot_reader_info(r)->parent_id, id);
	ck_assert_uint_eq(snapshot_reader_info(r)->depth, 3);
	{
		json_t *value = snapshot_reader_describe(r);
		const json_t *parent = json_object_get(value, "parent");

		ck_assert_str_eq(json_string_value(json_object_get(value, "kind")), "diff");
		ck_assert_str_eq(json_string_value(json_object_get(parent, "name")), "s1");
		ck_assert_str_eq(json_string_value(json_object_get(parent, "id")), id);
		json_decref(value);
	}
	snapshot_reader_destroy(r);
}
END_TEST

/* One that is not beside: only the caller can name it. */
START_TEST(test_elsewhere)
{
	struct snapshot_reader *r;
	struct snapshot_paths base = in_directory("sub/s0");
	struct snapshot_reader_config config = { .paths = in_directory("s1"),
						 .parents = &base,
						 .parent_count = 1 };

	ck_assert_int_eq(mkdir(path_of("sub"), 0700), 0);
	save_base("sub/s0");
	change(1);
	save_diff("s1", "sub/s0");
	ck_assert_int_lt(open_snapshot(&r, in_directory("s1")), 0);
	check_error(&err, ERROR_NOT_FOUND, "was not beside it");
	base = in_directory("sub/s0");
	config.paths = in_directory("s1");
	check_ok(snapshot_reader_create(&r, &config, &err), &err);
	snapshot_reader_destroy(r);
}
END_TEST

START_TEST(test_wrong)
{
	struct snapshot_reader *r;

	save_base("s0");
	change(1);
	save_diff("s1", "s0");
	/* Replaced by a later one of the same VM. */
	save_base("s0");
	ck_assert_int_lt(open_snapshot(&r, in_directory("s1")), 0);
	check_error(&err, ERROR_SNAPSHOT, "but 's0' is snapshot");
	/* Damaged. */
	flip(path_of("s0/state"), 300);
	ck_assert_int_lt(open_snapshot(&r, in_directory("s1")), 0);
	check_error(&err, ERROR_SNAPSHOT, "parent of snapshot");
	check_error(&err, ERROR_SNAPSHOT, "checksum");
}
END_TEST

START_TEST(test_own_parent)
{
	const struct snapshot_paths base = in_directory("s0"), files = in_files("f.s", "f.m");

	save_base("s0");
	change(1);
	ck_assert_int_lt(save(&mem, base, &base, (struct snapshot_watch){ 0 }), 0);
	check_error(&err, ERROR_SNAPSHOT, "its own parent");
	save_full(&mem, files);
	ck_assert_int_lt(save(&mem, files, &files, (struct snapshot_watch){ 0 }), 0);
	check_error(&err, ERROR_SNAPSHOT, "its own parent");
	ck_assert_int_lt(save(&mem, in_directory("x"),
			      (struct snapshot_paths[]){ in_directory("no") },
			      (struct snapshot_watch){ 0 }),
			 0);
	check_error(&err, ERROR_NOT_FOUND, "parent of snapshot");
	ck_assert_int_eq(entries_of(top), 3);
}
END_TEST

START_TEST(test_too_long)
{
	char names[2][16] = { "s1", "" };

	save_base("s1");
	for (int i = 2; i <= SNAPSHOT_CHAIN_MAX; i++) {
		(void)snprintf(names[i % 2], sizeof(names[0]), "s%d", i);
		(void)snprintf(names[1 - i % 2], sizeof(names[0]), "s%d", i - 1);
		fill_page(&mem, (gpa_t)i * PAGE, (uint32_t)i);
		save_diff(names[i % 2], names[1 - i % 2]);
	}
	check_chain(in_directory("s64"), 0);
	ck_assert_int_lt(save(&mem, in_directory("s65"),
			      (struct snapshot_paths[]){ in_directory("s64") },
			      (struct snapshot_watch){ 0 }),
			 0);
	check_error(&err, ERROR_SNAPSHOT, "number 65 of a chain");
	check_error(&err, ERROR_SNAPSHOT, "merge");
}
END_TEST

/* --- parents that somebody has made up --- */

/* Changes the section "parent" of a snapshot and seals it. */
static void forge(const char *name, size_t offset, const void *bytes, size_t len)
{
	char file[32];
	size_t size, at = 128;
	uint8_t *state;
	uint32_t crc;

	(void)snprintf(file, sizeof(file), "%s/state", name);
	state = read_file(path_of(file), &size);
	while (strcmp((char *)state + at, "parent") != 0) {
		at += 32 + ((load_le64(state + at + 24) + 8) & ~7ULL);
		ck_assert_uint_lt(at, size);
	}
	memcpy(state + at + 32 + offset, bytes, len);
	crc = crc32c(0, state + 24, 16);
	crc = crc32c(crc, state + at + 32, load_le64(state + at + 24));
	crc = crc32c(crc, state + at, 20);
	crc = crc32c(crc, state + at + 24, 8);
	store_le32(state + at + 20, crc);
	write_file(path_of(file), state, size);
	free(state);
}

static void read_id(const char *name, uint8_t id[16])
{
	size_t size;
	uint8_t *state = read_file(path_of(name), &size);

	memcpy(id, state + 24, 16);
	free(state);
}

START_TEST(test_circle)
{
	struct snapshot_reader *r;
	uint8_t id[16];

	save_base("s0");
	change(1);
	save_diff("s1", "s0");
	change(2);
	save_diff("s2", "s1");
	/* The first difference is one to the second. */
	read_id("s2/state", id);
	forge("s1", 0, id, sizeof(id));
	forge("s1", 16, "\x04", 1);
	forge("s2", 16, "\x05", 1);
	forge("s1", 28, "s2", 2);
	ck_assert_int_lt(open_snapshot(&r, in_directory("s2")), 0);
	check_error(&err, ERROR_SNAPSHOT, "comes back to itself");
	/* To itself. */
	forge("s2", 0, id, sizeof(id));
	forge("s2", 28, "s2", 2);
	ck_assert_int_lt(open_snapshot(&r, in_directory("s2")), 0);
	check_error(&err, ERROR_SNAPSHOT, "comes back to itself");
}
END_TEST

static const struct {
	size_t offset, len;
	const char *bytes;
	const char *text;
} forged[] = {
	{ 28, 2, "..", "no name of a file" },
	{ 28, 2, "./", "no name of a file" },
	{ 28, 2, "/x", "no name of a file" },
	{ 28, 2, "a/", "no name of a file" },
	{ 28, 2, "a\0", "not as it should be" },
	{ 16, 4, "\x01\0\0\0", "not as it should be" },
	{ 16, 4, "\x41\0\0\0", "not as it should be" },
	{ 16, 4, "\xff\xff\xff\xff", "not as it should be" },
	{ 16, 4, "\x03\0\0\0", "place in the chain is another" },
	{ 20, 2, "\x02\0", "no name of a file" },
	{ 20, 2, "\0\0", "no name of a file" },
	{ 20, 2, "\x03\0", "not as it should be" },
	{ 20, 2, "\x01\x01", "not as it should be" },
	{ 22, 2, "\x01\0", "not as it should be" },
	{ 22, 2, "\xff\xff", "not as it should be" },
	{ 24, 2, "\x01\0", "not as it should be" },
	{ 26, 2, "\x01\0", "not as it should be" },
	{ 0, 1, "\x77", "but 's0' is snapshot" },
};

START_TEST(test_forged)
{
	struct snapshot_reader *r;

	save_base("s0");
	change(1);
	save_diff("s1", "s0");
	forge("s1", forged[_i].offset, forged[_i].bytes, forged[_i].len);
	ck_assert_int_lt(open_snapshot(&r, in_directory("s1")), 0);
	if (forged[_i].offset == 0 && strstr(err.msg, "but 's0'") == NULL) {
		/* The first byte of the id was that, one in 256. */
		return;
	}
	check_error(&err, ERROR_SNAPSHOT, forged[_i].text);
}
END_TEST

/* A parent of another machine. */
START_TEST(test_other_layout)
{
	struct guest_memory other;
	struct snapshot_reader *r;
	uint8_t id[16];

	save_base("s0");
	change(1);
	save_diff("s1", "s0");
	check_ok(guest_memory_init(&other, MIB(8), GUEST_MEMORY_MEMFD, &err), &err);
	save_full(&other, in_directory("s0"));
	guest_memory_finish(&other);
	read_id("s0/state", id);
	forge("s1", 0, id, sizeof(id));
	ck_assert_int_lt(open_snapshot(&r, in_directory("s1")), 0);
	check_error(&err, ERROR_SNAPSHOT, "memory lies otherwise");
}
END_TEST

/* --- merge, compare --- */

START_TEST(test_merge)
{
	const struct snapshot_merge how = { .paths = in_directory("whole"), .threads = 2 };
	struct snapshot_merge again = { .paths = in_files("w.s", "w.m"), .about = "{\"x\": 1}" };
	struct snapshot_reader *r;
	char id[SNAPSHOT_ID_TEXT];

	save_base("s0");
	change(1);
	save_diff("s1", "s0");
	change(2);
	save_diff("s2", "s1");
	check_ok(open_snapshot(&r, in_directory("s2")), &err);
	check_ok(snapshot_merge(r, &how, id, &err), &err);
	snapshot_reader_destroy(r);
	for (int i = 0; i < 3; i++) {
		char names[2][16];

		(void)snprintf(names[0], sizeof(names[0]), "s%d", i);
		(void)snprintf(names[1], sizeof(names[1]), ".gone%d", i);
		ck_assert_int_eq(rename(path_of(names[0]), path_of(names[1])), 0);
	}
	check_has(in_directory("whole"), &mem);
	check_ok(open_snapshot(&r, in_directory("whole")), &err);
	ck_assert_str_eq(snapshot_reader_info(r)->id, id);
	ck_assert_uint_eq(snapshot_reader_info(r)->depth, 1);
	ck_assert_mem_eq(snapshot_reader_info(r)->machine, STATE, strlen(STATE));
	ck_assert_str_eq(snapshot_reader_info(r)->about, ABOUT);
	/* A copy, onto nothing and onto itself. */
	again.paths = in_files("w.s", "w.m");
	check_ok(snapshot_merge(r, &again, id, &err), &err);
	again.paths = in_directory("whole");
	check_ok(snapshot_merge(r, &again, id, &err), &err);
	snapshot_reader_destroy(r);
	check_has(in_files("w.s", "w.m"), &mem);
	check_has(in_directory("whole"), &mem);
	check_ok(open_snapshot(&r, in_files("w.s", "w.m")), &err);
	ck_assert_str_eq(snapshot_reader_info(r)->about, "{\"x\": 1}");
	snapshot_reader_destroy(r);
}
END_TEST

START_TEST(test_merge_of_damaged)
{
	struct snapshot_merge how = { 0 };
	struct snapshot_reader *r;
	char id[SNAPSHOT_ID_TEXT];

	save_base("s0");
	change(1);
	save_diff("s1", "s0");
	flip(path_of("s0/memory"), 7);
	check_ok(open_snapshot(&r, in_directory("s1")), &err);
	how.paths = in_directory("whole");
	ck_assert_int_lt(snapshot_merge(r, &how, id, &err), 0);
	check_error(&err, ERROR_SNAPSHOT, "checksum");
	snapshot_reader_destroy(r);
	ck_assert_int_eq(entries_of(top), 2);
}
END_TEST

struct ranges {
	int count;
	gpa_t start[8];
	uint64_t len[8];
};

static void note(void *arg, gpa_t gpa, uint64_t len)
{
	struct ranges *ranges = arg;

	ck_assert_int_lt(ranges->count, 8);
	ranges->start[ranges->count] = gpa;
	ranges->len[ranges->count++] = len;
}

static void compare(const char *first, const char *second, struct ranges *ranges,
		    struct snapshot_difference *difference)
{
	const struct snapshot_compare how = { .range = note, .arg = ranges };
	struct snapshot_reader *a, *b;

	*ranges = (struct ranges){ 0 };
	check_ok(open_snapshot(&a, in_directory(first)), &err);
	check_ok(open_snapshot(&b, in_directory(second)), &err);
	check_ok(snapshot_compare(a, b, &how, difference, &err), &err);
	snapshot_reader_destroy(a);
	snapshot_reader_destroy(b);
}

START_TEST(test_compare)
{
	struct snapshot_difference d;
	struct ranges ranges;

	save_base("s0");
	save_base("same");
	for (gpa_t page = 510; page < 514; page++) {
		fill_page(&mem, page * PAGE, 77);
	}
	ck_assert(guest_memory_zero(&mem, HIGH_GPA + MIB(2), PAGE));
	/* Written, and the same as before. */
	fill_page(&mem, 5 * PAGE, 1 + 2);
	save_diff("s1", "s0");
	save_full(&mem, in_directory("full"));
	compare("s0", "same", &ranges, &d);
	ck_assert_uint_eq(d.different, 0);
	ck_assert_uint_eq(d.compared, LOW_SIZE + HIGH_SIZE);
	for (int i = 0; i < 4; i++) {
		compare(i < 2	 ? "s0"
			: i == 2 ? "s1"
				 : "same",
			i == 0	 ? "s1"
			: i == 1 ? "full"
			: i == 2 ? "s0"
				 : "s1",
			&ranges, &d);
		ck_assert_uint_eq(d.different, 5 * PAGE);
		ck_assert_uint_eq(d.only_first, 0);
		ck_assert_uint_eq(d.only_second, 0);
		ck_assert_int_eq(ranges.count, 2);
		ck_assert_uint_eq(ranges.start[0], 510 * PAGE);
		ck_assert_uint_eq(ranges.len[0], 4 * PAGE);
		ck_assert_uint_eq(ranges.start[1], HIGH_GPA + MIB(2));
		ck_assert_uint_eq(ranges.len[1], PAGE);
	}
	compare("s1", "full", &ranges, &d);
	ck_assert_uint_eq(d.different, 0);
}
END_TEST

START_TEST(test_compare_other_machine)
{
	struct guest_memory other;
	struct snapshot_difference d;
	struct ranges ranges;

	save_base("s0");
	check_ok(guest_memory_init(&other, MIB(8), GUEST_MEMORY_MEMFD, &err), &err);
	save_full(&other, in_directory("other"));
	guest_memory_finish(&other);
	compare("s0", "other", &ranges, &d);
	ck_assert_uint_eq(d.compared, LOW_SIZE);
	ck_assert_uint_eq(d.only_first, HIGH_SIZE);
	ck_assert_uint_eq(d.only_second, MIB(8) - LOW_SIZE);
	ck_assert_uint_eq(d.different, 14 * PAGE);
}
END_TEST

CHECK_MAIN("snapshot_chain", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_chain);
	   CHECK_TEST(test_many_runs); CHECK_TEST(test_forms); CHECK_TEST(test_new_region);
	   CHECK_TEST(test_missing); CHECK_TEST(test_elsewhere); CHECK_TEST(test_wrong);
	   CHECK_TEST(test_own_parent); CHECK_TEST(test_too_long); CHECK_TEST(test_circle);
	   CHECK_TABLE(test_forged, forged); CHECK_TEST(test_other_layout); CHECK_TEST(test_merge);
	   CHECK_TEST(test_merge_of_damaged); CHECK_TEST(test_compare);
	   CHECK_TEST(test_compare_other_machine))
