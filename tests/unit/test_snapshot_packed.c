/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots that are compressed: the same memory from fewer bytes, in chains with others, and files that are not right. */
#include "harness/snapshot_rig.h"

#include <sys/mman.h>

static struct guest_memory mem;
static bool supported;

static int save_packed(struct snapshot_paths paths, const struct snapshot_paths *parent)
{
	return save_as((struct snapshot_writer_config){ .compress = true }, &mem, paths, parent);
}

/* Text-like: what can be packed. */
static void fill_easy(uint32_t seed)
{
	for (gpa_t gpa = HIGH_GPA; gpa < HIGH_GPA + MIB(3); gpa += 16) {
		(void)snprintf((char *)guest_memory_write_pointer(&mem, gpa, 16), 16, "line %u",
			       (uint32_t)(gpa >> 8) + seed);
	}
}

static void setup(void)
{
	rig_setup();
	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 1);
	fill_easy(1);
	check_ok(guest_memory_dirty_start(&mem, &err), &err);
	supported = save_packed(in_files("s", "m"), NULL) == 0;
	if (!supported) {
		/* A vmm without the library says so, and leaves nothing. */
		check_error(&err, ERROR_NOT_SUPPORTED, "without zstd");
		ck_assert_int_eq(entries_of(top), 0);
	}
}

static void teardown(void)
{
	guest_memory_finish(&mem);
	rig_teardown();
}

#define NEED_ZSTD()                                               \
	do {                                                      \
		if (!supported) {                                 \
			CHECK_SKIP("vmm was built without zstd"); \
		}                                                 \
	} while (0)

START_TEST(test_round_trip)
{
	struct snapshot_reader *r;
	struct stat st;

	NEED_ZSTD();
	check_has(in_files("s", "m"), &mem);
	ck_assert_int_eq(stat(path_of("m"), &st), 0);
	ck_assert_int_lt(st.st_size, MIB(3));
	check_ok(open_snapshot(&r, in_files("s", "m")), &err);
	ck_assert(snapshot_reader_info(r)->packed);
	check_ok(snapshot_reader_verify(r, 1, NULL, &err), &err);
	check_ok(snapshot_reader_verify(r, 3, NULL, &err), &err);
	snapshot_reader_destroy(r);
	check_ok(save_packed(in_directory("a"), NULL), &err);
	check_ok(save_packed(in_directory("a"), NULL), &err);
	check_has(in_directory("a"), &mem);
	/* Nothing at all. */
	check_ok(guest_memory_discard(&mem, &err), &err);
	check_ok(save_packed(in_directory("a"), NULL), &err);
	check_has(in_directory("a"), &mem);
}
END_TEST

/* Packed ones and others on each other. */
START_TEST(test_chain)
{
	struct snapshot_paths parent = in_files("s", "m");

	NEED_ZSTD();
	for (uint32_t i = 0; i < 4; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "d%u", i);
		fill_page(&mem, (5 + i) * PAGE, i);
		ck_assert(guest_memory_zero(&mem, (100 + i) * PAGE, PAGE));
		if (i % 2 == 0) {
			check_ok(save(&mem, in_directory(name), &parent,
				      (struct snapshot_watch){ 0 }),
				 &err);
		} else {
			check_ok(save_packed(in_directory(name), &parent), &err);
		}
		check_has(in_directory(name), &mem);
		parent = in_directory(name);
	}
}
END_TEST

/* Unpacked and packed again, by nobody's VM; into memory, from which many can be restored. */
START_TEST(test_merge)
{
	struct snapshot_merge how = { .paths = in_directory("plain"), .threads = 2 };
	struct snapshot_reader *r;
	char id[SNAPSHOT_ID_TEXT];
	int fds[2];

	NEED_ZSTD();
	check_ok(open_snapshot(&r, in_files("s", "m")), &err);
	check_ok(snapshot_merge(r, &how, id, &err), &err);
	check_has(in_directory("plain"), &mem);
	for (int i = 0; i < 2; i++) {
		fds[i] = memfd_create("snapshot", MFD_CLOEXEC);
		ck_assert_int_ge(fds[i], 0);
	}
	how.paths = (struct snapshot_paths){ .fds = fds };
	check_ok(snapshot_merge(r, &how, id, &err), &err);
	check_has((struct snapshot_paths){ .fds = fds }, &mem);
	snapshot_reader_destroy(r);
	check_ok(open_snapshot(&r, in_directory("plain")), &err);
	ck_assert(!snapshot_reader_info(r)->packed);
	how = (struct snapshot_merge){ .paths = in_directory("packed"), .compress = true };
	check_ok(snapshot_merge(r, &how, id, &err), &err);
	snapshot_reader_destroy(r);
	check_has(in_directory("packed"), &mem);
}
END_TEST

static void *run(void *arg)
{
	struct error e;

	return (void *)(intptr_t)snapshot_writer_run(arg, &e);
}

START_TEST(test_threads)
{
	struct snapshot_writer_config config = { .mem = &mem, .pagemap_fd = -1, .compress = true };
	struct snapshot_writer *w;
	pthread_t threads[4];
	void *result;

	NEED_ZSTD();
	config.paths = in_directory("a");
	check_ok(snapshot_writer_create(&w, &config, &err), &err);
	check_ok(snapshot_writer_scan(w, &err), &err);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, run, w), 0);
	}
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &result), 0);
		ck_assert_ptr_null(result);
	}
	check_ok(snapshot_writer_commit(w, contents(), &err), &err);
	snapshot_writer_destroy(w);
	check_has(in_directory("a"), &mem);
}
END_TEST

/* Any byte of the frames: found, whichever way it is loaded. */
START_TEST(test_damaged)
{
	struct stat st;

	NEED_ZSTD();
	ck_assert_int_eq(stat(path_of("m"), &st), 0);
	for (off_t at = 0; at < st.st_size - 4096 - 4096; at += 9973) {
		struct guest_memory got;
		int mode = (int)(at % 3);

		flip(path_of("m"), (uint64_t)at);
		ck_assert_msg(load(&got, in_files("s", "m"), mode) < 0, "%d", (int)at);
		ck_assert_int_eq(err.code, ERROR_SNAPSHOT);
		flip(path_of("m"), (uint64_t)at);
	}
	check_has(in_files("s", "m"), &mem);
}
END_TEST

/* Offsets in the section, and values that cannot be. */
static const struct {
	size_t offset;
	int size;
	uint64_t value;
} hostile[] = {
	{ 0, 4, 0 },	      { 0, 4, 2 },	     { 4, 4, 0 },	    { 4, 4, 1 },
	{ 4, 4, UINT32_MAX }, { 8, 8, 0 },	     { 8, 8, 1 },	    { 8, 8, UINT64_MAX },
	{ 8, 8, MIB(16) },    { 16, 8, UINT64_MAX }, { 16, 8, 1 },	    { 24, 4, 0 },
	{ 24, 4, 1 },	      { 24, 4, MIB(3) },     { 24, 4, UINT32_MAX }, { 28, 4, 1 },
};

START_TEST(test_hostile)
{
	struct guest_memory got;
	uint8_t *state;
	size_t len, at = 128;
	uint32_t crc;

	NEED_ZSTD();
	state = read_file(path_of("s"), &len);
	while (strcmp((char *)state + at, "packing") != 0) {
		at += 32 + ((load_le64(state + at + 24) + 8) & ~7ULL);
		ck_assert_uint_lt(at, len);
	}
	store_le(state + at + 32 + hostile[_i].offset, hostile[_i].value, (size_t)hostile[_i].size);
	crc = crc32c(0, state + 24, 16);
	crc = crc32c(crc, state + at + 32, load_le64(state + at + 24));
	crc = crc32c(crc, state + at, 20);
	store_le32(state + at + 20, crc32c(crc, state + at + 24, 8));
	write_file(path_of("s"), state, len);
	free(state);
	ck_assert_int_lt(load(&got, in_files("s", "m"), SNAPSHOT_LOAD_READ), 0);
	ck_assert_int_eq(err.code, ERROR_SNAPSHOT);
}
END_TEST

CHECK_MAIN("snapshot_packed", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_round_trip);
	   CHECK_TEST(test_chain); CHECK_TEST(test_merge); CHECK_TEST(test_threads);
	   CHECK_TEST(test_damaged); CHECK_TABLE(test_hostile, hostile))
