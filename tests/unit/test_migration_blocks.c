/* SPDX-License-Identifier: Apache-2.0 */
/* Disks as BLOCKS messages: there and back, what is not sent, and payloads by somebody who means harm. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/bytes.h"
#include "vmm/migration_blocks.h"

/* The last cluster is not a whole one. */
#define SIZE	 (MIB(4) + 512)
#define CLUSTERS (SIZE / MIGRATION_CLUSTER + 1)

static struct migration_blocks here, there;
static int source[2], destination[2];
static struct error err;
static uint32_t messages, fail_after;
static uint64_t delivered;

static int make_file(uint64_t size)
{
	const char *tmp = getenv("TMPDIR");
	int fd = open(tmp != NULL ? tmp : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void setup(void)
{
	here = there = (struct migration_blocks){ 0 };
	messages = 0;
	delivered = 0;
	fail_after = UINT32_MAX;
	for (int i = 0; i < 2; i++) {
		source[i] = make_file(i == 0 ? SIZE : MIB(1));
		destination[i] = make_file(i == 0 ? SIZE : MIB(1));
		check_ok(migration_blocks_add(&here, source[i], i == 0 ? SIZE : MIB(1), &err),
			 &err);
		check_ok(migration_blocks_add(&there, destination[i], i == 0 ? SIZE : MIB(1), &err),
			 &err);
	}
}

static void teardown(void)
{
	migration_blocks_finish(&here);
	migration_blocks_finish(&there);
}

static int deliver(void *arg, const uint8_t *bytes, uint32_t len, struct error *e)
{
	uint64_t got;
	int r;

	ck_assert_ptr_eq(arg, &messages);
	if (messages == fail_after) {
		return error_set(e, ERROR_MIGRATION, EPIPE, "gone");
	}
	messages++;
	r = migration_blocks_store(&there, bytes, len, &got, e);
	delivered += got;
	return r;
}

static void write_at(int fd, uint64_t at, uint8_t value, size_t len)
{
	uint8_t *bytes = malloc(len);

	memset(bytes, value, len);
	ck_assert_int_eq(pwrite(fd, bytes, len, (off_t)at), (ssize_t)len);
	free(bytes);
}

static void send_all(void)
{
	check_ok(migration_blocks_send(&here, deliver, &messages, &err), &err);
	ck_assert_uint_eq(migration_blocks_left(&here), 0);
}

static void check_same(int disk)
{
	const size_t size = disk == 0 ? SIZE : MIB(1);
	uint8_t *a = malloc(size), *b = malloc(size);

	ck_assert_int_eq(pread(source[disk], a, size, 0), (ssize_t)size);
	ck_assert_int_eq(pread(destination[disk], b, size, 0), (ssize_t)size);
	ck_assert(memcmp(a, b, size) == 0);
	free(a);
	free(b);
}

static void want(uint64_t cluster)
{
	migration_blocks_wanted(&here, 0)[cluster / 64] |= 1ULL << cluster % 64;
}

START_TEST(test_empty_disk)
{
	migration_blocks_want_data(&here, 0);
	migration_blocks_want_data(&here, 1);
	send_all();
	ck_assert_uint_eq(messages, 0);
	check_same(0);
}
END_TEST

/* Two files, in pieces smaller than a cluster; what the guest sees arrives. */
START_TEST(test_layers)
{
	const int base = make_file(SIZE), upper = make_file(SIZE);
	static uint8_t expected[SIZE], arrived[SIZE];
	uint64_t *above;

	migration_blocks_finish(&here);
	migration_blocks_finish(&there);
	destination[0] = make_file(SIZE);
	check_ok(migration_blocks_add(&there, destination[0], SIZE, &err), &err);
	check_ok(migration_blocks_add_layers(&here, upper, base, KIB(4), SIZE, &err), &err);
	above = migration_blocks_above(&here, 0);
	write_at(base, KIB(60), 1, KIB(136));
	write_at(base, SIZE - 512, 2, 512);
	memset(expected + KIB(60), 1, KIB(136));
	memset(expected + SIZE - 512, 2, 512);
	/* Written, and zeroed: a hole over the base's data. */
	write_at(upper, KIB(68), 3, KIB(4));
	memset(expected + KIB(68), 3, KIB(4));
	memset(expected + KIB(128), 0, KIB(8));
	/* What the upper file has beside that is not the disk's. */
	write_at(upper, KIB(100), 4, KIB(4));
	above[0] = 1ULL << 17 | 3ULL << 32;
	migration_blocks_want_data(&here, 0);
	send_all();
	ck_assert_int_eq(pread(destination[0], arrived, SIZE, 0), SIZE);
	ck_assert_mem_eq(arrived, expected, SIZE);
	/* The last unit is not a whole one. */
	write_at(upper, SIZE - 512, 5, 512);
	above[SIZE / KIB(4) / 64] |= 1ULL << SIZE / KIB(4) % 64;
	want(CLUSTERS - 1);
	send_all();
	ck_assert_int_eq(pread(destination[0], arrived, SIZE, 0), SIZE);
	memset(expected + SIZE - 512, 5, 512);
	ck_assert_mem_eq(arrived, expected, SIZE);
}
END_TEST

START_TEST(test_there_and_again)
{
	struct stat st;

	write_at(source[0], 0, 1, 512);
	write_at(source[0], MIB(1), 2, MIB(2));
	write_at(source[0], SIZE - 100, 3, 100);
	write_at(source[1], KIB(100), 4, 1);
	migration_blocks_want_data(&here, 0);
	migration_blocks_want_data(&here, 1);
	ck_assert_uint_ge(migration_blocks_left(&here), MIB(2) + 3 * MIGRATION_CLUSTER);
	send_all();
	check_same(0);
	check_same(1);
	ck_assert_uint_ge(delivered, MIB(2) + 3 * MIGRATION_CLUSTER - KIB(64) + 512);
	/* What became zero is said of what was something; what was nothing stays unsaid. */
	write_at(source[0], MIB(1), 0, MIB(1));
	for (uint64_t i = 0; i < CLUSTERS; i++) {
		want(i);
	}
	messages = 0;
	send_all();
	check_same(0);
	ck_assert_uint_gt(messages, 0);
	ck_assert_int_eq(fstat(destination[0], &st), 0);
	ck_assert_int_le(st.st_blocks * 512, (blkcnt_t)(MIB(1) + KIB(512)));
	for (uint64_t i = 16; i < 32; i++) {
		want(i);
	}
	messages = 0;
	send_all();
	ck_assert_uint_eq(messages, 0);
}
END_TEST

/* Zero and other clusters by turns, each a run of its own. */
START_TEST(test_by_turns)
{
	write_at(source[0], 0, 1, SIZE);
	migration_blocks_want_data(&here, 0);
	send_all();
	for (uint64_t i = 0; i < CLUSTERS; i++) {
		write_at(source[0], i * MIGRATION_CLUSTER, i % 3 == 0 ? 0 : (uint8_t)i,
			 MIN(MIGRATION_CLUSTER, SIZE - i * MIGRATION_CLUSTER));
		want(i);
	}
	send_all();
	check_same(0);
}
END_TEST

/* What could not be sent is still wanted, wherever it ended. */
START_TEST(test_cut)
{
	for (uint64_t i = 0; i < CLUSTERS; i += 2) {
		write_at(source[0], i * MIGRATION_CLUSTER, (uint8_t)(i + 1), 512);
	}
	migration_blocks_want_data(&here, 0);
	for (uint32_t n = 0; n < CLUSTERS / 2; n++) {
		fail_after = messages + 1;
		ck_assert_int_eq(migration_blocks_send(&here, deliver, &messages, &err), -EPIPE);
	}
	fail_after = UINT32_MAX;
	send_all();
	check_same(0);
}
END_TEST

START_TEST(test_unreadable)
{
	write_at(source[0], 0, 1, SIZE);
	migration_blocks_want_data(&here, 0);
	ck_assert_int_eq(ftruncate(source[0], MIB(2)), 0);
	ck_assert_int_lt(migration_blocks_send(&here, deliver, &messages, &err), 0);
	check_error(&err, ERROR_DISK, "at byte 2097152");
	ck_assert_uint_gt(migration_blocks_left(&here), 0);
}
END_TEST

static uint8_t payload[MIGRATION_BLOCKS_HEADER + MIGRATION_BLOCKS_MAX * MIGRATION_CLUSTER + 1];

static const struct hostile {
	uint32_t disk, count;
	uint64_t first;
	uint32_t flags, reserved;
	uint32_t len;
} hostile[] = {
	{ 0, 1, 0, 0, 0, 0 },
	{ 0, 1, 0, 0, 0, MIGRATION_BLOCKS_HEADER - 1 },
	{ 0, 1, 0, 0, 0, MIGRATION_BLOCKS_HEADER },
	{ 0, 1, 0, 0, 0, MIGRATION_BLOCKS_HEADER + MIGRATION_CLUSTER - 1 },
	{ 0, 1, 0, 0, 0, MIGRATION_BLOCKS_HEADER + MIGRATION_CLUSTER + 1 },
	{ 0, 1, 0, 0, 1, MIGRATION_BLOCKS_HEADER + MIGRATION_CLUSTER },
	{ 0, 1, 0, 2, 0, MIGRATION_BLOCKS_HEADER + MIGRATION_CLUSTER },
	{ 0, 1, 0, MIGRATION_BLOCKS_ZERO, 0, MIGRATION_BLOCKS_HEADER + MIGRATION_CLUSTER },
	{ 0, 0, 0, 0, 0, MIGRATION_BLOCKS_HEADER },
	{ 0, 0, 0, MIGRATION_BLOCKS_ZERO, 0, MIGRATION_BLOCKS_HEADER },
	{ 0, MIGRATION_BLOCKS_MAX + 1, 0, 0, 0, sizeof(payload) },
	{ 0, 0x10000, 0, MIGRATION_BLOCKS_ZERO, 0, MIGRATION_BLOCKS_HEADER },
	{ 2, 1, 0, 0, 0, MIGRATION_BLOCKS_HEADER + MIGRATION_CLUSTER },
	{ UINT32_MAX, 1, 0, MIGRATION_BLOCKS_ZERO, 0, MIGRATION_BLOCKS_HEADER },
	{ 0, 1, CLUSTERS, MIGRATION_BLOCKS_ZERO, 0, MIGRATION_BLOCKS_HEADER },
	{ 0, 2, CLUSTERS - 1, MIGRATION_BLOCKS_ZERO, 0, MIGRATION_BLOCKS_HEADER },
	{ 0, 1, UINT64_MAX, MIGRATION_BLOCKS_ZERO, 0, MIGRATION_BLOCKS_HEADER },
	{ 0, 1, 1ULL << 48, MIGRATION_BLOCKS_ZERO, 0, MIGRATION_BLOCKS_HEADER },
	/* The last cluster has 512 bytes. */
	{ 0, 1, CLUSTERS - 1, 0, 0, MIGRATION_BLOCKS_HEADER + MIGRATION_CLUSTER },
	{ 1, 1, 16, MIGRATION_BLOCKS_ZERO, 0, MIGRATION_BLOCKS_HEADER },
};

START_TEST(test_hostile)
{
	const struct hostile *bad = &hostile[_i];
	uint64_t bytes = 1;
	uint8_t first;

	write_at(destination[0], 0, 7, SIZE);
	memset(payload, 9, sizeof(payload));
	store_le32(payload, bad->disk);
	store_le32(payload + 4, bad->count);
	store_le64(payload + 8, bad->first);
	store_le32(payload + 16, bad->flags);
	store_le32(payload + 20, bad->reserved);
	ck_assert_int_eq(migration_blocks_store(&there, payload, bad->len, &bytes, &err), -EPROTO);
	ck_assert_int_eq(err.code, ERROR_MIGRATION);
	ck_assert_uint_eq(bytes, 0);
	ck_assert_int_eq(pread(destination[0], &first, 1, 0), 1);
	ck_assert_int_eq(first, 7);
}
END_TEST

START_TEST(test_too_many)
{
	struct migration_blocks many = { 0 };

	for (int i = 0; i < MIGRATION_DISKS_MAX; i++) {
		check_ok(migration_blocks_add(&many, make_file(512), 512, &err), &err);
	}
	ck_assert_int_eq(migration_blocks_add(&many, make_file(512), 512, &err), -E2BIG);
	check_error(&err, ERROR_NOT_SUPPORTED, "more than 24 disks");
	migration_blocks_finish(&many);
}
END_TEST

CHECK_MAIN("migration_blocks", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_empty_disk);
	   CHECK_TEST(test_there_and_again); CHECK_TEST(test_layers); CHECK_TEST(test_by_turns);
	   CHECK_TEST(test_cut); CHECK_TEST(test_unreadable); CHECK_TABLE(test_hostile, hostile);
	   CHECK_TEST(test_too_many))
