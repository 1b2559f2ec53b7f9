/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as a list: regions of every kind and backing, listeners, dirty bits. */
#include "harness/memory_rig.h"

/* ---- more regions, and files ---- */

#define FILE_SIZE MIB(4)
#define FILE_GPA  GIB(8)

/* A file of somebody else: FILE_SIZE bytes of 0x11 at `offset`, and 0x22 around them. */
static int make_file(uint64_t offset)
{
	int fd = memfd_create("somebody's", MFD_CLOEXEC);
	uint64_t size = offset + FILE_SIZE + MIB(1);
	uint8_t *bytes;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(bytes, MAP_FAILED);
	memset(bytes, 0x22, size);
	memset(bytes + offset, 0x11, FILE_SIZE);
	(void)munmap(bytes, size);
	return fd;
}

static uint8_t file_byte(int fd, uint64_t at)
{
	uint8_t byte = 0;

	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
	return byte;
}

static blkcnt_t file_blocks(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return st.st_blocks;
}

static const struct {
	enum guest_region_kind kind;
	enum guest_memory_backing backing;
	/* What a reset leaves of a byte that the guest has written, and of one that it has not; in
	 * memory and in the file. */
	uint8_t written, other, file_written, file_other;
} files[] = {
	{ GUEST_REGION_RAM, GUEST_MEMORY_FILE_SHARED, 0, 0, 0, 0 },
	{ GUEST_REGION_RAM, GUEST_MEMORY_FILE_PRIVATE, 0, 0, 0x11, 0x11 },
	{ GUEST_REGION_HOTPLUG, GUEST_MEMORY_FILE_PRIVATE, 0, 0, 0x11, 0x11 },
	{ GUEST_REGION_PMEM, GUEST_MEMORY_FILE_SHARED, 0x33, 0x11, 0x33, 0x11 },
	{ GUEST_REGION_PMEM, GUEST_MEMORY_FILE_PRIVATE, 0x33, 0x11, 0x11, 0x11 },
};

/* A file that is not ours keeps its length and its blocks, whatever happens to the guest, and what is
 * around the region in it. */
START_TEST(test_files)
{
	const uint64_t offset = MIB(1), hole = MIB(1);
	uint64_t ram = small.size;
	int file = make_file(offset);
	struct guest_region_config config = {
		.kind = files[_i].kind,
		.gpa = FILE_GPA,
		.size = FILE_SIZE,
		.backing = files[_i].backing,
		.fd = fcntl(file, F_DUPFD_CLOEXEC, 0),
		.offset = offset,
	};
	bool shared = config.backing == GUEST_MEMORY_FILE_SHARED;
	blkcnt_t blocks = file_blocks(file);
	const uint8_t *host;
	uint8_t byte = 0x33;
	int index = guest_memory_add(&small, &config, &err);

	ck_assert_msg(index == 1, "%s", err.msg);
	ck_assert_uint_eq(small.size, config.kind == GUEST_REGION_PMEM ? ram : ram + FILE_SIZE);
	host = guest_memory_read_pointer(&small, FILE_GPA, FILE_SIZE);
	ck_assert_ptr_nonnull(host);
	ck_assert_ptr_null(guest_memory_read_pointer(&small, FILE_GPA + 1, FILE_SIZE));
	ck_assert(guarded(host - 1));
	ck_assert(guarded(host + FILE_SIZE));
	ck_assert_uint_eq(host[0], 0x11);
	ck_assert_uint_eq(host[FILE_SIZE - 1], 0x11);
	ck_assert(guest_memory_write(&small, FILE_GPA + 7, &byte, 1));
	ck_assert_uint_eq(file_byte(file, offset + 7), shared ? 0x33 : 0x11);
	/* More than what would be worth a hole in memory of our own. */
	ck_assert(guest_memory_zero(&small, FILE_GPA + hole, KIB(512)));
	ck_assert_uint_eq(host[hole + KIB(512) - 1], 0);
	ck_assert_uint_eq(host[hole + KIB(512)], 0x11);
	ck_assert_int_eq(file_blocks(file), blocks);

	for (int round = 0; round < 2; round++) {
		check_ok(guest_memory_discard(&small, &err), &err);
		ck_assert_uint_eq(host[7], files[_i].written);
		ck_assert_uint_eq(host[FILE_SIZE - 1], files[_i].other);
		ck_assert_uint_eq(file_byte(file, offset + 7), files[_i].file_written);
		ck_assert_uint_eq(file_byte(file, offset + FILE_SIZE - 1), files[_i].file_other);
	}
	ck_assert(guest_memory_write(&small, FILE_GPA, &byte, 1));
	ck_assert_uint_eq(host[0], 0x33);
	guest_memory_remove(&small, (uint32_t)index);
	ck_assert_ptr_null(guest_memory_read_pointer(&small, FILE_GPA, 0));
	ck_assert_uint_eq(small.size, ram);
	ck_assert_int_eq(file_blocks(file), blocks);
	ck_assert_uint_eq(file_byte(file, offset - 1), 0x22);
	ck_assert_uint_eq(file_byte(file, offset + FILE_SIZE), 0x22);
	(void)close(file);
}
END_TEST

static const struct {
	struct guest_region_config config;
	const char *says;
} bad_regions[] = {
	{ { .gpa = 0, .size = MIB(2) }, "overlap" },
	{ { .gpa = MIB(30), .size = MIB(4) }, "overlap" },
	{ { .gpa = GIB(8), .size = 0 }, "not aligned" },
	{ { .gpa = GIB(8), .size = 4095 }, "not aligned" },
	{ { .gpa = GIB(8) + 4096, .size = MIB(2) }, "not aligned" },
	{ { .gpa = -MIB(2), .size = MIB(4) }, "not aligned" },
	{ { .gpa = GIB(8), .size = MIB(2), .backing = GUEST_MEMORY_FILE_SHARED, .offset = 512 },
	  "not aligned" },
	{ { .gpa = GIB(8), .size = MIB(3), .backing = GUEST_MEMORY_HUGETLB }, "not aligned" },
	{ { .gpa = GIB(8), .size = MIB(8), .backing = GUEST_MEMORY_FILE_SHARED }, "too short" },
	{ { .gpa = GIB(8), .size = MIB(4), .backing = GUEST_MEMORY_FILE_PRIVATE, .offset = MIB(4) },
	  "too short" },
	{ { .gpa = GIB(8), .size = GIB(1) << 30 }, "address space" },
};

START_TEST(test_bad_region)
{
	struct guest_region_config config = bad_regions[_i].config;
	int fd = make_file(0);

	config.fd = fd;
	ck_assert_int_lt(guest_memory_add(&small, &config, &err), 0);
	ck_assert_msg(strstr(err.msg, bad_regions[_i].says) != NULL, "%s", err.msg);
	ck_assert_uint_eq(small.region_count, 1);
	ck_assert_uint_eq(small.size, MIB(32));
	ck_assert_int_ge(fcntl(fd, F_GETFD), 0); /* the caller's still */
	(void)close(fd);
}
END_TEST

/* Entries are used again, and there is an end of them. */
START_TEST(test_all_entries)
{
	struct guest_region_config config = { .kind = GUEST_REGION_HOTPLUG, .size = MIB(2) };

	for (int i = 1; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		config.gpa = GIB(8) + (uint64_t)i * MIB(2);
		ck_assert_int_eq(guest_memory_add(&small, &config, &err), i);
	}
	config.gpa = GIB(8);
	ck_assert_int_eq(guest_memory_add(&small, &config, &err), -ENOSPC);
	check_error(&err, ERROR_INTERNAL, "no entry is left");
	guest_memory_remove(&small, 5);
	ck_assert_ptr_null(guest_memory_read_pointer(&small, GIB(8) + 5 * MIB(2), 1));
	ck_assert_ptr_nonnull(guest_memory_read_pointer(&small, GIB(8) + 6 * MIB(2), 1));
	ck_assert_int_eq(guest_memory_add(&small, &config, &err), 5);
	ck_assert_ptr_eq(guest_memory_read_pointer(&small, GIB(8), 1), small.regions[5].host);
}
END_TEST

/* ---- listeners ---- */

#define HEARD_MAX 64

struct listener {
	struct guest_memory_listener listener;
	char heard[HEARD_MAX]; /* one letter and the region's index each */
	int fail_at;	       /* the call that fails; 0: none */
	int calls;
	uint64_t bit; /* collects this page once after each start */
};

static int hear(struct guest_memory_listener *l, char what, uint32_t index, struct error *e)
{
	struct listener *me = container_of(l, struct listener, listener);
	size_t len = strlen(me->heard);

	ck_assert_uint_lt(len + 2, sizeof(me->heard));
	me->heard[len] = what;
	me->heard[len + 1] = (char)('0' + index);
	return ++me->calls == me->fail_at ? error_set(e, ERROR_KVM, EIO, "the listener") : 0;
}

static int hear_added(struct guest_memory_listener *l, uint32_t index,
		      const struct guest_region *region, struct error *e)
{
	ck_assert_ptr_nonnull(region->host);
	region->host[0] = 0; /* mapped */
	return hear(l, '+', index, e);
}

static void hear_removed(struct guest_memory_listener *l, uint32_t index,
			 const struct guest_region *region)
{
	region->host[0] = 0;
	(void)hear(l, '-', index, NULL);
}

static int hear_start(struct guest_memory_listener *l, uint32_t index,
		      const struct guest_region *region, struct error *e)
{
	(void)region;
	return hear(l, 's', index, e);
}

static void hear_stop(struct guest_memory_listener *l, uint32_t index,
		      const struct guest_region *region)
{
	(void)region;
	(void)hear(l, 'e', index, NULL);
}

static int hear_collect(struct guest_memory_listener *l, uint32_t index,
			const struct guest_region *region, uint64_t *bitmap, struct error *e)
{
	struct listener *me = container_of(l, struct listener, listener);

	(void)region;
	bitmap[me->bit / 64] |= UINT64_C(1) << me->bit % 64;
	return hear(l, 'c', index, e);
}

static const struct guest_memory_listener functions = {
	.added = hear_added,
	.removed = hear_removed,
	.dirty_start = hear_start,
	.dirty_stop = hear_stop,
	.dirty_collect = hear_collect,
};

static void expect_heard(struct listener *l, const char *what)
{
	ck_assert_str_eq(l->heard, what);
	memset(l->heard, 0, sizeof(l->heard));
}

#define LOW_BITS   (LOW / 4096)
#define ABOVE_BITS (ABOVE / 4096)

START_TEST(test_listener)
{
	struct guest_region_config config = { .gpa = GIB(8), .size = MIB(2) };
	struct listener a = { .listener = functions, .bit = 3 };
	struct listener b = { .listener = functions, .bit = 70 };
	struct listener deaf = { 0 };
	uint64_t bitmap[ABOVE_BITS / 64] = { 0 };

	check_ok(guest_memory_listen(&large, &a.listener, &err), &err);
	check_ok(guest_memory_listen(&large, &deaf.listener, &err), &err);
	expect_heard(&a, "+0+1");
	ck_assert_int_eq(guest_memory_add(&large, &config, &err), 2);
	expect_heard(&a, "+2");
	check_ok(guest_memory_listen(&large, &b.listener, &err), &err);
	expect_heard(&b, "+0+1+2");

	check_ok(guest_region_dirty_start(&large, 1, &err), &err);
	expect_heard(&a, "s1");
	check_ok(guest_region_dirty_collect(&large, 1, bitmap, ABOVE_BITS, &err), &err);
	memset(bitmap, 0, sizeof(bitmap));
	guest_memory_written(&large, large.regions[1].host, 1);
	check_ok(guest_region_dirty_collect(&large, 1, bitmap, ABOVE_BITS, &err), &err);
	ck_assert_uint_eq(bitmap[0], 1 << 0 | 1 << 3); /* ours and theirs */
	ck_assert_uint_eq(bitmap[1], 1 << (70 - 64));
	check_ok(guest_region_dirty_collect(&large, 2, bitmap, MIB(2) / 4096, &err), &err);
	expect_heard(&a, "c1c1"); /* not of a region that is not tracked */
	check_ok(guest_region_dirty_start(&large, 2, &err), &err);
	guest_memory_remove(&large, 2);
	expect_heard(&a, "s2e2-2");
	guest_memory_dirty_stop(&large);
	expect_heard(&a, "e1");

	guest_memory_unlisten(&large, &a.listener);
	guest_memory_unlisten(&large, &a.listener);
	memset(b.heard, 0, sizeof(b.heard));
	guest_memory_finish(&large);
	expect_heard(&a, "");
	expect_heard(&b, "-0-1");
}
END_TEST

/* What one listener refuses has not happened for the others. */
START_TEST(test_listener_refuses)
{
	struct guest_region_config config = { .gpa = GIB(8), .size = MIB(2) };
	struct listener a = { .listener = functions };
	struct listener b = { .listener = functions };

	check_ok(guest_memory_listen(&large, &a.listener, &err), &err);
	b.fail_at = 2;
	ck_assert_int_eq(guest_memory_listen(&large, &b.listener, &err), -EIO);
	expect_heard(&b, "+0+1-0");
	b = (struct listener){ .listener = functions };
	check_ok(guest_memory_listen(&large, &b.listener, &err), &err);

	/* b is told before a. */
	a.fail_at = 3;
	ck_assert_int_eq(guest_memory_add(&large, &config, &err), -EIO);
	expect_heard(&b, "+0+1+2-2");
	expect_heard(&a, "+0+1+2");
	ck_assert_uint_eq(large.size, LOW + ABOVE);
	ck_assert_ptr_null(guest_memory_read_pointer(&large, GIB(8), 1));

	a.fail_at = 5; /* of the second region */
	ck_assert_int_eq(guest_memory_dirty_start(&large, &err), -EIO);
	expect_heard(&b, "s0s1e1e0");
	expect_heard(&a, "s0s1e0");
	ck_assert_uint_eq(large.tracked, 0);
	a.fail_at = 0;
	check_ok(guest_memory_dirty_start(&large, &err), &err);
	ck_assert_uint_eq(large.tracked, 2);
	guest_memory_finish(&large); /* before its listeners */
}
END_TEST

static uint64_t count_bits(const uint64_t *bitmap, uint64_t bits)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < bits / 64; i++) {
		n += (uint64_t)__builtin_popcountll(bitmap[i]);
	}
	return n;
}

static bool bit(const uint64_t *bitmap, uint64_t n)
{
	return (bitmap[n / 64] >> (n % 64) & 1) != 0;
}

/* offset and length -> first and last page */
static const struct {
	uint64_t gpa, len, first, pages;
} marks[] = {
	{ 0, 0, 0, 0 },
	{ 0, 1, 0, 1 },
	{ 4095, 1, 0, 1 },
	{ 4095, 2, 0, 2 },
	{ 4096, 4096, 1, 1 },
	{ 63 * 4096, 2 * 4096, 63, 2 },
	{ 64 * 4096, 64 * 4096, 64, 64 },
	{ 65 * 4096, 64 * 4096, 65, 64 },
	{ 5 * 4096 + 1, 300 * 4096, 5, 301 },
	{ ABOVE - 1, 1, ABOVE / 4096 - 1, 1 },
	{ 0, ABOVE, 0, ABOVE / 4096 },
};

/* After the start everything is dirty: nothing has been copied yet. */
static void start_clean(struct guest_memory *mem)
{
	uint64_t *bitmap = calloc(LOW_BITS / 64, sizeof(*bitmap));

	ck_assert_ptr_nonnull(bitmap);
	check_ok(guest_memory_dirty_start(mem, &err), &err);
	for (uint32_t i = 0; i < mem->region_count; i++) {
		memset(bitmap, 0, LOW_BITS / 8);
		check_ok(guest_region_dirty_collect(mem, i, bitmap, LOW_BITS, &err), &err);
		ck_assert_uint_eq(count_bits(bitmap, LOW_BITS), mem->regions[i].size / 4096);
		ck_assert(bit(bitmap, mem->regions[i].size / 4096 - 1));
	}
	free(bitmap);
}

static uint64_t collect(struct guest_memory *mem, uint32_t region, uint64_t *bitmap)
{
	uint64_t bits = ALIGN_UP(mem->regions[region].size / 4096, 64);

	check_ok(guest_region_dirty_collect(mem, region, bitmap, bits, &err), &err);
	return count_bits(bitmap, bits);
}

START_TEST(test_dirty)
{
	uint64_t *bitmap = calloc(LOW_BITS / 64, sizeof(*bitmap));

	ck_assert_ptr_nonnull(bitmap);
	for (uint32_t region = 0; region < 2; region++) {
		uint64_t base = region == 0 ? 0 : HIGH;
		uint8_t *host =
			guest_memory_write_pointer(&large, base + marks[_i].gpa, marks[_i].len);

		guest_memory_written(&large, host, marks[_i].len); /* off: nothing happens */
		start_clean(&large);
		ck_assert_uint_eq(collect(&large, region, bitmap), 0);
		guest_memory_written(&large, host, marks[_i].len);
		ck_assert_uint_eq(collect(&large, 1 - region, bitmap), 0);
		ck_assert_uint_eq(collect(&large, region, bitmap), marks[_i].pages);
		for (uint64_t page = 0; page < marks[_i].pages; page++) {
			ck_assert(bit(bitmap, marks[_i].first + page));
		}
		memset(bitmap, 0, LOW_BITS / 8);
		ck_assert_uint_eq(collect(&large, region, bitmap), 0);
		guest_memory_dirty_stop(&large);
	}
	free(bitmap);
}
END_TEST

/* A list over both regions, cut anywhere. */
START_TEST(test_dirty_list)
{
	uint64_t *bitmap = calloc(LOW_BITS / 64, sizeof(*bitmap));
	const struct iovec list[] = {
		{ large.regions[0].host + 4096, 4096 },
		{ large.regions[1].host, 2 * 4096 },
		{ large.regions[0].host + 8 * 4096 + 4095, 2 },
	};
	static const struct {
		uint64_t len, pages[2];
	} cuts[] = { { 0, { 0, 0 } },
		     { 1, { 1, 0 } },
		     { 4096, { 1, 0 } },
		     { 4097, { 1, 1 } },
		     { 3 * 4096, { 1, 2 } },
		     { 3 * 4096 + 1, { 2, 2 } },
		     { 3 * 4096 + 2, { 3, 2 } },
		     { UINT64_MAX, { 3, 2 } } };

	ck_assert_ptr_nonnull(bitmap);
	guest_memory_written_list(&large, list, ARRAY_SIZE(list), UINT64_MAX);
	start_clean(&large);
	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		guest_memory_written_list(&large, list, ARRAY_SIZE(list), cuts[i].len);
		for (uint32_t region = 0; region < 2; region++) {
			memset(bitmap, 0, LOW_BITS / 8);
			ck_assert_uint_eq(collect(&large, region, bitmap), cuts[i].pages[region]);
		}
	}
	free(bitmap);
}
END_TEST

START_TEST(test_dirty_by_writes)
{
	uint64_t bitmap[MIB(32) / 4096 / 64] = { 0 };
	uint8_t *word, byte = 1;

	start_clean(&small);
	bitmap[100] = 1;
	ck_assert_int_eq(guest_memory_dirty_start(&small, &err), -EALREADY);
	ck_assert_uint_eq(small.tracked, 1);
	ck_assert(guest_memory_write(&small, 7 * 4096, &byte, 1));
	ck_assert(guest_memory_zero(&small, 9 * 4096, 10));
	ck_assert(guest_memory_read(&small, 11 * 4096, &byte, 1));
	ck_assert(!guest_memory_write(&small, MIB(32), &byte, 1));
	word = guest_memory_write_pointer(&small, 13 * 4096, 8);
	guest_memory_store16(&small, word, 0x1234);
	ck_assert_uint_eq(word[0], 0x34);
	ck_assert_uint_eq(word[1], 0x12);
	guest_memory_store32(&small, word + 4096, 0x12345678);
	ck_assert_uint_eq(word[4096], 0x78);
	ck_assert_uint_eq(word[4096 + 3], 0x12);
	(void)collect(&small, 0, bitmap);
	ck_assert_uint_eq(bitmap[0], 1u << 7 | 1u << 9 | 1u << 13 | 1u << 14);
	ck_assert_uint_eq(bitmap[100], 1); /* bits that were there stay */
	check_ok(guest_memory_discard(&small, &err), &err);
	ck_assert_uint_eq(collect(&small, 0, bitmap), MIB(32) / 4096);
	guest_memory_dirty_stop(&small);
	guest_memory_dirty_stop(&small);
	ck_assert_uint_eq(small.tracked, 0);
	memset(bitmap, 0, sizeof(bitmap));
	ck_assert_uint_eq(collect(&small, 0, bitmap), 0);
}
END_TEST

/* The bits of a region that fills no word. */
START_TEST(test_dirty_odd_size)
{
	struct guest_memory mem;
	uint64_t bitmap[(MIB(1) + 4096) / 4096 / 64 + 1] = { 0 };

	check_ok(guest_memory_init(&mem, MIB(1) + 4096, GUEST_MEMORY_ANON, &err), &err);
	check_ok(guest_memory_dirty_start(&mem, &err), &err);
	ck_assert_uint_eq(collect(&mem, 0, bitmap), 257);
	ck_assert_uint_eq(bitmap[4], 1);
	guest_memory_finish(&mem);
}
END_TEST

#define MARKERS 3
#define MARKS	4000

static void *marker(void *arg)
{
	uint64_t lane = (uint64_t)(uintptr_t)arg;

	/* Lanes share words of the bitmap, never a bit. */
	for (uint64_t i = 0; i < MARKS; i++) {
		uint64_t page = i * MARKERS + lane;

		guest_memory_written(&large, large.regions[0].host + page * 4096, 1);
	}
	return NULL;
}

/* Every mark is harvested once, whoever runs at the same time; stopping under the markers is
 * harmless. */
START_TEST(test_dirty_threads)
{
	uint64_t *bitmap = calloc(LOW_BITS / 64, sizeof(*bitmap));
	pthread_t threads[MARKERS];

	ck_assert_ptr_nonnull(bitmap);
	start_clean(&large);
	for (uintptr_t i = 0; i < MARKERS; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, marker, (void *)i), 0);
	}
	for (int i = 0; i < 20; i++) {
		(void)collect(&large, 0, bitmap);
	}
	for (int i = 0; i < MARKERS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	}
	ck_assert_uint_eq(collect(&large, 0, bitmap), MARKERS * MARKS);
	for (uintptr_t i = 0; i < MARKERS; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, marker, (void *)i), 0);
	}
	for (int i = 0; i < 50; i++) {
		guest_memory_dirty_stop(&large);
		check_ok(guest_memory_dirty_start(&large, &err), &err);
	}
	for (int i = 0; i < MARKERS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	}
	free(bitmap);
}
END_TEST

CHECK_MAIN("memory_regions", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_dirty, marks);
	   CHECK_TEST(test_dirty_by_writes); CHECK_TEST(test_dirty_threads);
	   CHECK_TEST(test_dirty_list); CHECK_TEST(test_dirty_odd_size);
	   CHECK_TABLE(test_files, files); CHECK_TABLE(test_bad_region, bad_regions);
	   CHECK_TEST(test_all_entries); CHECK_TEST(test_listener);
	   CHECK_TEST(test_listener_refuses))
