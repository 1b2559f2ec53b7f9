/* SPDX-License-Identifier: Apache-2.0 */
/* What is remembered of a disk that is not copied: what differs is named. */
#include "harness/block_rig.h"
#include "vmm/disk_witness.h"
#include "vmm/json.h"

static void fill(uint64_t size)
{
	static uint8_t bytes[65536];
	int fd = open(disk_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	pattern(bytes, sizeof(bytes), 3);
	for (uint64_t at = 0; at < size; at += sizeof(bytes)) {
		size_t n = (size_t)MIN(sizeof(bytes), size - at);

		ck_assert_int_eq(pwrite(fd, bytes, n, (off_t)at), (ssize_t)n);
	}
	(void)close(fd);
}

static struct disk_witness take(const struct disk_witness *like)
{
	struct disk_witness w = { 0 };
	struct error e = { 0 };
	int fd = open(disk_path, O_RDONLY | O_CLOEXEC);

	check_ok(disk_witness_take(&w, fd, file_size(disk_path), disk_path, like, &e), &e);
	(void)close(fd);
	return w;
}

static void keep_time(const struct disk_witness *w)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
				     { .tv_sec = w->mtime_s, .tv_nsec = w->mtime_ns } };

	ck_assert_int_eq(utimensat(AT_FDCWD, disk_path, times, 0), 0);
}

static const uint64_t sizes[] = { 0, 1, 4095, 4096, 4097, 8192, 100000, MIB(8) + 3 };

START_TEST(test_same_again)
{
	struct disk_witness then, now;
	struct error e = { 0 };

	fill(sizes[_i]);
	then = take(NULL);
	now = take(&then);
	ck_assert_uint_eq(then.size, sizes[_i]);
	ck_assert_uint_eq(then.seed, now.seed);
	check_ok(disk_witness_compare(&then, &now, "D", &e), &e);
}
END_TEST

static void flip(uint64_t at)
{
	int fd = open(disk_path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 0x10;
	ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
	(void)close(fd);
}

/* At places that every disk has, whatever the time says. */
START_TEST(test_content)
{
	uint64_t size = sizes[_i];
	struct disk_witness then, now;
	struct error e = { 0 };

	fill(size);
	then = take(NULL);
	if (size == 0) {
		return;
	}
	for (int i = 0; i < 3; i++) {
		uint64_t at = i == 0 ? 0 : i == 1 ? size - 1 : (size - MIN(size, 4096UL)) / 15;

		flip(at);
		keep_time(&then);
		now = take(&then);
		ck_assert_int_lt(disk_witness_compare(&then, &now, "D", &e), 0);
		check_error(&e, ERROR_DISK, "'D' is not what it was: the checksum of samples");
		flip(at);
		keep_time(&then);
		now = take(&then);
		check_ok(disk_witness_compare(&then, &now, "D", &e), &e);
	}
}
END_TEST

/* Places that only a seed knows: a change anywhere is found by some seed. */
START_TEST(test_seeded_places)
{
	struct disk_witness then, now;
	bool found = false;

	fill(MIB(1));
	for (uint64_t seed = 0; !found && seed < 10000; seed++) {
		const struct disk_witness like = { .seed = seed };

		then = take(&like);
		flip(MIB(1) / 2 + 70000 - 33);
		now = take(&like);
		flip(MIB(1) / 2 + 70000 - 33);
		found = then.sample != now.sample;
	}
	ck_assert(found);
}
END_TEST

START_TEST(test_size_time_and_kind)
{
	struct disk_witness then, now;
	struct error e = { 0 };

	fill(8192);
	then = take(NULL);
	ck_assert_int_eq(truncate(disk_path, 8704), 0);
	now = take(&then);
	ck_assert_int_lt(disk_witness_compare(&then, &now, "D", &e), 0);
	check_error(&e, ERROR_DISK, "its size was 8192, is 8704");
	ck_assert_int_eq(truncate(disk_path, 8192), 0);
	keep_time(&then);
	now = take(&then);
	check_ok(disk_witness_compare(&then, &now, "D", &e), &e);
	now.mtime_s = 0;
	now.mtime_ns = 5;
	ck_assert_int_lt(disk_witness_compare(&then, &now, "D", &e), 0);
	check_error(&e, ERROR_DISK, "now at 1970-01-01 00:00:00.000000005 UTC");
	check_error(&e, ERROR_DISK, "touch -d");
	now.mtime_s = INT64_MAX; /* no calendar has it */
	ck_assert_int_lt(disk_witness_compare(&then, &now, "D", &e), 0);
	now = then;
	now.is_device = true;
	ck_assert_int_lt(disk_witness_compare(&then, &now, "D", &e), 0);
	check_error(&e, ERROR_DISK, "was a file, is a block device");
	/* A device has no time that counts. */
	then.is_device = true;
	now.mtime_s = 1;
	check_ok(disk_witness_compare(&then, &now, "D", &e), &e);
}
END_TEST

START_TEST(test_unreadable)
{
	struct disk_witness w = { 0 };
	struct error e = { 0 };
	int fd;

	ck_assert_int_lt(disk_witness_take(&w, -1, 512, "D", NULL, &e), 0);
	check_error(&e, ERROR_DISK, "stat 'D'");
	fd = open(disk_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_lt(disk_witness_take(&w, fd, 512, "D", NULL, &e), 0);
	check_error(&e, ERROR_DISK, "read 'D'");
	(void)close(fd);
}
END_TEST

/* --- as JSON ------------------------------------------------------------------------------------ */

START_TEST(test_json_and_back)
{
	struct disk_witness then = { .size = 5,
				     .mtime_s = -3,
				     .mtime_ns = 999999999,
				     .seed = UINT64_MAX,
				     .sample = 0xff,
				     .device = 7,
				     .inode = 8 },
			    back = { 0 };
	struct error e = { 0 };

	for (int device = 0; device < 2; device++) {
		auto_json json_t *json = disk_witness_to_json(&then);

		ck_assert_ptr_nonnull(json);
		ck_assert_str_eq(json_string_value(json_object_get(json, "sample")),
				 "crc32c:000000ff");
		check_ok(disk_witness_from_json(&back, json, "disk 'vda'", &e), &e);
		check_ok(disk_witness_compare(&then, &back, "D", &e), &e);
		ck_assert_uint_eq(back.seed, then.seed);
		ck_assert_uint_eq(back.device, 7);
		ck_assert_uint_eq(back.inode, 8);
		then.is_device = true;
		then.mtime_s = 0;
		then.mtime_ns = 0;
	}
}
END_TEST

#define GOOD \
	"\"size\":1,\"type\":\"file\",\"mtime\":[1,2],\"sample\":\"crc32c:00000000\",\"seed\":1"
static const struct json_row {
	const char *json, *key; /* NULL: it is fine */
} json_rows[] = {
	{ "{" GOOD "}", NULL },
	{ "{" GOOD ",\"device\":\"x\",\"inode\":-1,\"later\":{}}", NULL },
	{ "[]", "size" },
	{ "{}", "size" },
	{ "{\"size\":-1,\"type\":\"file\"}", "size" },
	{ "{\"size\":\"1\"}", "size" },
	{ "{\"size\":1}", "type" },
	{ "{\"size\":1,\"type\":\"socket\"}", "type" },
	{ "{\"size\":1,\"type\":7}", "type" },
	{ "{\"size\":1,\"type\":\"file\"}", "sample" },
	{ "{\"size\":1,\"type\":\"file\",\"sample\":0}", "sample" },
	{ "{\"size\":1,\"type\":\"file\",\"sample\":\"crc32c:0000000\"}", "sample" },
	{ "{\"size\":1,\"type\":\"file\",\"sample\":\"crc32c:000000000\"}", "sample" },
	{ "{\"size\":1,\"type\":\"file\",\"sample\":\"crc32c:0000000g\"}", "sample" },
	{ "{\"size\":1,\"type\":\"file\",\"sample\":\"sha256:00000000\"}", "sample" },
	{ "{\"size\":1,\"type\":\"file\",\"sample\":\"crc32c:00000000\",\"seed\":\"\"}", "seed" },
	{ "{\"size\":1,\"type\":\"file\",\"sample\":\"crc32c:00000000\",\"seed\":1}", "mtime" },
	{ "{\"size\":1,\"type\":\"file\",\"sample\":\"crc32c:00000000\",\"seed\":1,\"mtime\":[1]}",
	  "mtime" },
	{ "{\"size\":1,\"type\":\"file\",\"sample\":\"crc32c:00000000\",\"seed\":1,\"mtime\":[1,-1]"
	  "}",
	  "mtime" },
	{ "{\"size\":1,\"type\":\"file\",\"sample\":\"crc32c:00000000\",\"seed\":1,\"mtime\":[1,"
	  "1000000000]}",
	  "mtime" },
};

START_TEST(test_json_that_lies)
{
	const struct json_row *row = &json_rows[_i];
	struct disk_witness back = { .size = 99 };
	struct error e = { 0 };
	auto_json json_t *json = NULL;
	char key[32];

	check_ok(json_parse(&json, row->json, strlen(row->json), &e), &e);
	if (row->key == NULL) {
		check_ok(disk_witness_from_json(&back, json, "disk 'vda'", &e), &e);
		ck_assert_uint_eq(back.size, 1);
		return;
	}
	ck_assert_int_lt(disk_witness_from_json(&back, json, "disk 'vda'", &e), 0);
	(void)snprintf(key, sizeof(key), "'%s'", row->key);
	check_error(&e, ERROR_STATE, key);
	check_error(&e, ERROR_STATE, "disk 'vda'");
	ck_assert_uint_eq(back.size, 99);
}
END_TEST

CHECK_MAIN("witness", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_same_again, sizes);
	   CHECK_TABLE(test_content, sizes); CHECK_TEST(test_seeded_places);
	   CHECK_TEST(test_size_time_and_kind); CHECK_TEST(test_unreadable);
	   CHECK_TEST(test_json_and_back); CHECK_TABLE(test_json_that_lies, json_rows))
