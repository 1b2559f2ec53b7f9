/* SPDX-License-Identifier: Apache-2.0 */
/* Which pages of guest memory may be other than zero, by backing; files that lie over each other. */
#include "harness/memory_rig.h"

#include <sys/ioctl.h>

#define SIZE  MIB(8)
#define PAGES (SIZE / PAGE_SIZE_4K)
#define WORDS (PAGES / 64)

static int pagemap = -1;
static bool no_scan;

/* In place of the C library's: a kernel that is older. */
int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	if (no_scan) {
		errno = ENOTTY;
		return -1;
	}
	return __real_ioctl(fd, request, arg);
}

static void open_pagemap(void)
{
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(pagemap, 0);
}

static void close_pagemap(void)
{
	close_fd(&pagemap);
}

static bool is_set(const uint64_t *bitmap, uint64_t page)
{
	return (bitmap[page / 64] >> page % 64 & 1) != 0;
}

static uint64_t count(const uint64_t *bitmap)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < WORDS; i++) {
		n += (uint64_t)__builtin_popcountll(bitmap[i]);
	}
	return n;
}

static uint64_t touched(struct guest_memory *mem, uint64_t *bitmap)
{
	memset(bitmap, 0, WORDS * sizeof(*bitmap));
	check_ok(guest_region_touched(mem, 0, pagemap, bitmap, PAGES, &err), &err);
	return count(bitmap);
}

static const struct {
	enum guest_memory_backing backing;
	bool old_kernel;
} backings[] = {
	{ GUEST_MEMORY_ANON, false },
	{ GUEST_MEMORY_ANON, true },
	{ GUEST_MEMORY_MEMFD, false },
};

START_TEST(test_touched)
{
	struct guest_memory mem;
	uint64_t bitmap[WORDS], resident;

	no_scan = backings[_i].old_kernel;
	check_ok(guest_memory_init(&mem, SIZE, backings[_i].backing, &err), &err);
	/* Otherwise a page is as large as the host likes. */
	(void)madvise(mem.regions[0].host, SIZE, MADV_NOHUGEPAGE);
	ck_assert_uint_eq(touched(&mem, bitmap), 0);
	mem.regions[0].host[5 * 4096 + 7] = 1;
	memset(mem.regions[0].host + 100 * 4096, 2, 300 * 4096);
	mem.regions[0].host[SIZE - 1] = 3;
	resident = touched(&mem, bitmap);
	ck_assert_uint_ge(resident, 302);
	ck_assert_uint_le(resident, 302 + 32);
	ck_assert(is_set(bitmap, 5) && is_set(bitmap, 100) && is_set(bitmap, 399));
	ck_assert(is_set(bitmap, PAGES - 1));
	ck_assert(!is_set(bitmap, 1000));
	/* Looking has touched nothing. */
	ck_assert_uint_eq(touched(&mem, bitmap), resident);
	guest_memory_finish(&mem);
}
END_TEST

/* A page that was only read is the one of zeroes. */
START_TEST(test_read_is_not_touched)
{
	struct guest_memory mem;
	uint64_t bitmap[WORDS], pages;

	check_ok(guest_memory_init(&mem, SIZE, GUEST_MEMORY_ANON, &err), &err);
	(void)madvise(mem.regions[0].host, SIZE, MADV_NOHUGEPAGE);
	ck_assert_int_eq(*(volatile uint8_t *)mem.regions[0].host, 0);
	pages = touched(&mem, bitmap);
	no_scan = true;
	if (touched(&mem, bitmap) != 1 || pages == 1) {
		CHECK_SKIP("this kernel does not tell the page of zeroes");
	}
	ck_assert_uint_eq(pages, 0);
	guest_memory_finish(&mem);
}
END_TEST

START_TEST(test_without_pagemap)
{
	struct guest_memory mem;
	uint64_t bitmap[WORDS];

	close_fd(&pagemap);
	check_ok(guest_memory_init(&mem, SIZE, GUEST_MEMORY_ANON, &err), &err);
	ck_assert_uint_eq(touched(&mem, bitmap), PAGES);
	guest_memory_finish(&mem);
	/* A memfd needs none. */
	check_ok(guest_memory_init(&mem, SIZE, GUEST_MEMORY_MEMFD, &err), &err);
	ck_assert_uint_eq(touched(&mem, bitmap), 0);
	guest_memory_finish(&mem);
}
END_TEST

/* A sparse file of SIZE with `page` filled with `byte`. */
static int sparse(uint64_t page, uint8_t byte)
{
	uint8_t bytes[4096];
	int fd = memfd_create("file", MFD_CLOEXEC);

	memset(bytes, byte, sizeof(bytes));
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
	ck_assert_int_eq(pwrite(fd, bytes, sizeof(bytes), (off_t)(page * 4096)), 4096);
	return fd;
}

static void add_private(struct guest_memory *mem, int fd)
{
	struct guest_region_config config = { .size = SIZE,
					      .backing = GUEST_MEMORY_FILE_PRIVATE,
					      .fd = fd };

	ck_assert_int_eq(guest_memory_add(mem, &config, &err), 0);
}

static const bool kernels[] = { false, true };

START_TEST(test_private_file)
{
	struct guest_memory mem = { 0 };
	uint64_t bitmap[WORDS] = { 0 };

	no_scan = kernels[_i];
	add_private(&mem, sparse(9, 0x99));
	ck_assert_uint_eq(touched(&mem, bitmap), 1);
	ck_assert(is_set(bitmap, 9));
	ck_assert_int_eq(*(volatile uint8_t *)(mem.regions[0].host + 9 * 4096), 0x99);
	mem.regions[0].host[700 * 4096] = 1;
	ck_assert_uint_eq(touched(&mem, bitmap), 2);
	ck_assert(is_set(bitmap, 700));
	memset(bitmap, 0, sizeof(bitmap));
	check_ok(guest_region_changed(&mem, 0, pagemap, bitmap, PAGES, &err), &err);
	ck_assert_uint_eq(count(bitmap), 1);
	ck_assert(is_set(bitmap, 700));
	check_ok(guest_memory_discard(&mem, &err), &err);
	ck_assert_uint_eq(touched(&mem, bitmap), 0);
	memset(bitmap, 0, sizeof(bitmap));
	check_ok(guest_region_changed(&mem, 0, pagemap, bitmap, PAGES, &err), &err);
	ck_assert_uint_eq(count(bitmap), PAGES);
	guest_memory_finish(&mem);
}
END_TEST

START_TEST(test_overlay)
{
	struct guest_memory mem = { 0 };
	uint64_t bitmap[WORDS], *content = calloc(WORDS, sizeof(*content));
	int over = sparse(3, 0x33);
	const uint8_t *host;

	ck_assert_ptr_nonnull(content);
	content[0] = 1 << 9 | 1 << 3;
	add_private(&mem, sparse(9, 0x99));
	check_ok(guest_region_overlay(&mem, 0, 3 * 4096, 4096, over, 3 * 4096, &err), &err);
	guest_region_set_content(&mem, 0, content);
	close(over);
	host = mem.regions[0].host;
	ck_assert(host[3 * 4096] == 0x33 && host[9 * 4096] == 0x99 && host[4 * 4096] == 0);
	ck_assert_uint_eq(touched(&mem, bitmap), 2);
	ck_assert(is_set(bitmap, 3) && is_set(bitmap, 9));
	/* A reset takes both files away. */
	check_ok(guest_memory_discard(&mem, &err), &err);
	ck_assert(host[3 * 4096] == 0 && host[9 * 4096] == 0);
	ck_assert_ptr_null(mem.regions[0].content);
	guest_memory_finish(&mem);
}
END_TEST

CHECK_MAIN("memory_touched", CHECK_FIXTURE(open_pagemap, close_pagemap);
	   CHECK_TABLE(test_touched, backings); CHECK_TEST(test_read_is_not_touched);
	   CHECK_TEST(test_without_pagemap); CHECK_TABLE(test_private_file, kernels);
	   CHECK_TEST(test_overlay))
