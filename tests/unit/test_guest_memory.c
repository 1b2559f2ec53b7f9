/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/memory_rig.h"

START_TEST(test_layout)
{
	ck_assert_uint_eq(small.region_count, 1);
	ck_assert_uint_eq(small.regions[0].gpa, 0);
	ck_assert_uint_eq(small.regions[0].size, MIB(32));
	ck_assert_uint_eq(small.size, MIB(32));
	ck_assert_uint_eq(large.region_count, 2);
	ck_assert_uint_eq(large.regions[0].size, LOW);
	ck_assert_uint_eq(large.regions[1].gpa, HIGH);
	ck_assert_uint_eq(large.regions[1].size, ABOVE);
	ck_assert_uint_eq(large.size, LOW + ABOVE);
	for (int i = 0; i < 2; i++) {
		for (uint32_t n = 0; n < machine(i)->region_count; n++) {
			const struct guest_region *region = &machine(i)->regions[n];

			ck_assert_uint_eq((uintptr_t)region->host % MIB(2), region->gpa % MIB(2));
			ck_assert_int_eq(region->kind, GUEST_REGION_RAM);
			ck_assert_int_eq(region->fd >= 0, i == 0);
			ck_assert_uint_eq(region->offset, 0);
		}
	}
}
END_TEST

static const struct {
	int machine;
	uint64_t gpa, len;
	int region; /* -1: refused */
} ranges[] = {
	{ 0, 0, 0, 0 },
	{ 0, 0, 1, 0 },
	{ 0, 0, MIB(32), 0 },
	{ 0, 0, MIB(32) + 1, -1 },
	{ 0, MIB(32) - 1, 1, 0 },
	{ 0, MIB(32) - 1, 2, -1 },
	{ 0, MIB(32), 0, 0 },
	{ 0, MIB(32), 1, -1 },
	{ 0, MIB(32) + 1, 0, -1 },
	{ 0, 1, UINT64_MAX, -1 },
	{ 0, UINT64_MAX, 0, -1 },
	{ 0, UINT64_MAX, 1, -1 },
	{ 0, UINT64_MAX, UINT64_MAX, -1 },
	{ 0, 0, UINT64_MAX, -1 },
	{ 0, HIGH, 1, -1 },
	{ 1, 0, LOW, 0 },
	{ 1, LOW - 1, 1, 0 },
	{ 1, LOW - 1, 2, -1 },
	{ 1, LOW - 4, (HIGH - LOW) + 8, -1 },
	{ 1, LOW, 0, 0 },
	{ 1, LOW, 1, -1 },
	{ 1, LOW + 1, 0, -1 },
	{ 1, HIGH - 1, 0, -1 },
	{ 1, HIGH - 1, 2, -1 },
	{ 1, HIGH, 0, 1 },
	{ 1, HIGH, ABOVE, 1 },
	{ 1, HIGH, ABOVE + 1, -1 },
	{ 1, HIGH + ABOVE - 1, 1, 1 },
	{ 1, HIGH + ABOVE, 0, 1 },
	{ 1, HIGH + ABOVE, 1, -1 },
	{ 1, HIGH + ABOVE + 1, 0, -1 },
	{ 1, HIGH + 16, UINT64_MAX - HIGH, -1 },
	{ 1, LOW + ABOVE, 8, -1 }, /* inside the size, but in the hole */
};

START_TEST(test_translate)
{
	struct guest_memory *mem = machine(ranges[_i].machine);
	const uint8_t *host = guest_memory_read_pointer(mem, ranges[_i].gpa, ranges[_i].len);

	ck_assert_ptr_eq(guest_memory_write_pointer(mem, ranges[_i].gpa, ranges[_i].len), host);
	if (ranges[_i].region < 0) {
		ck_assert_ptr_null(host);
	} else {
		const struct guest_region *region = &mem->regions[ranges[_i].region];

		ck_assert_ptr_eq(host, region->host + (ranges[_i].gpa - region->gpa));
	}
}
END_TEST

START_TEST(test_copy)
{
	uint8_t in[64], out[64], guard[64];

	for (size_t i = 0; i < sizeof(in); i++) {
		in[i] = (uint8_t)(i * 7 + 1);
	}
	ck_assert(guest_memory_write(&large, HIGH + ABOVE - sizeof(in), in, sizeof(in)));
	ck_assert(guest_memory_read(&large, HIGH + ABOVE - sizeof(in), out, sizeof(out)));
	ck_assert_mem_eq(in, out, sizeof(in));
	ck_assert_mem_eq(large.regions[1].host + ABOVE - sizeof(in), in, sizeof(in));
	/* Refused as a whole: neither side changes. */
	memset(out, 0xaa, sizeof(out));
	memset(guard, 0xaa, sizeof(guard));
	ck_assert(!guest_memory_read(&large, HIGH + ABOVE - 8, out, sizeof(out)));
	ck_assert_mem_eq(out, guard, sizeof(out));
	ck_assert(!guest_memory_write(&small, MIB(32) - 8, guard, sizeof(guard)));
	ck_assert(guest_memory_read(&small, MIB(32) - 8, out, 8));
	memset(in, 0, sizeof(in));
	ck_assert_mem_eq(out, in, 8);
	ck_assert(guest_memory_read(&small, MIB(32), NULL, 0));
	ck_assert(guest_memory_write(&small, MIB(32), NULL, 0));
	ck_assert(!guest_memory_write(&small, MIB(32) + 1, NULL, 0));
}
END_TEST

static const struct {
	uint64_t size;
	enum guest_memory_backing backing;
	const char *text[3];
} sizes[] = {
	{ 0, GUEST_MEMORY_AUTO, { "0 bytes", "1 MiB", "512M" } },
	{ 1, GUEST_MEMORY_AUTO, { "1 bytes", "too small", "1 MiB" } },
	{ MIB(1) - 4096, GUEST_MEMORY_ANON, { "1044480 bytes", "too small", "1 MiB" } },
	{ MIB(64) + 1, GUEST_MEMORY_AUTO, { "67108865", "4 KiB", "67112960" } },
	{ MIB(64) + 2048, GUEST_MEMORY_ANON, { "67110912", "4 KiB", "67108864" } },
	{ MIB(65), GUEST_MEMORY_HUGETLB, { "68157440", "2 MiB", "67108864" } },
	{ UINT64_MAX, GUEST_MEMORY_AUTO, { "18446744073709551615", "host", "--memory" } },
	{ UINT64_MAX - 4095,
	  GUEST_MEMORY_MEMFD,
	  { "GiB", "larger than this host's memory of", "M" } },
	{ GIB(1) << 20, GUEST_MEMORY_HUGETLB, { "1048576 GiB", "larger", "M" } },
};

START_TEST(test_bad_size)
{
	struct guest_memory mem;

	ck_assert_int_lt(guest_memory_init(&mem, sizes[_i].size, sizes[_i].backing, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(sizes[_i].text); i++) {
		check_error(&err, ERROR_CONFIG, sizes[_i].text[i]);
	}
	ck_assert_uint_eq(mem.size, 0);
	ck_assert_uint_eq(mem.region_count, 0);
	guest_memory_finish(&mem);
	ck_assert_int_lt(guest_memory_init(&mem, sizes[_i].size, sizes[_i].backing, NULL), 0);
}
END_TEST

START_TEST(test_finish_of_nothing)
{
	struct guest_memory mem = { 0 };

	guest_memory_finish(&mem);
	guest_memory_finish(&mem);
	guest_memory_finish(&small);
	guest_memory_finish(&small);
	ck_assert_ptr_null(guest_memory_read_pointer(&small, 0, 0));
}
END_TEST

/* A zeroed object has descriptor 0 in it, which is not its own. */
START_TEST(test_finish_keeps_stdin)
{
	struct guest_memory mem = { 0 };
	int null_fd = open("/dev/null", O_RDONLY);

	ck_assert_int_ge(null_fd, 0);
	ck_assert_int_eq(dup2(null_fd, STDIN_FILENO), STDIN_FILENO);
	guest_memory_finish(&mem);
	ck_assert_int_ge(fcntl(STDIN_FILENO, F_GETFD), 0);
	(void)close(null_fd);
}
END_TEST

/* AUTO is a wish; what was chosen is said. */
START_TEST(test_auto)
{
	struct guest_memory mem;

	check_ok(guest_memory_init(&mem, MIB(32), GUEST_MEMORY_AUTO, &err), &err);
	ck_assert(mem.regions[0].backing == GUEST_MEMORY_MEMFD ||
		  mem.regions[0].backing == GUEST_MEMORY_ANON);
	ck_assert_int_eq(mem.regions[0].fd >= 0, mem.regions[0].backing == GUEST_MEMORY_MEMFD);
	ck_assert_uint_eq(mem.regions[0].host[MIB(32) - 1], 0);
	guest_memory_finish(&mem);
}
END_TEST

START_TEST(test_memfd)
{
	struct stat st;
	char path[64], name[64] = "";
	int fd = small.regions[0].fd;

	ck_assert_int_eq(small.regions[0].backing, GUEST_MEMORY_MEMFD);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW),
			 F_SEAL_SHRINK | F_SEAL_GROW);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, (off_t)MIB(32));
	ck_assert_int_eq(st.st_blocks, 0);
	ck_assert_int_eq(ftruncate(fd, 4096), -1);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ck_assert_int_gt(readlink(path, name, sizeof(name) - 1), 0);
	ck_assert_str_eq(name, "/memfd:vmm-ram (deleted)");
}
END_TEST

START_TEST(test_guards)
{
	struct guest_memory odd;

	for (int i = 0; i < 2; i++) {
		for (uint32_t n = 0; n < machine(i)->region_count; n++) {
			const struct guest_region *region = &machine(i)->regions[n];

			ck_assert(guarded(region->host - 1));
			ck_assert(guarded(region->host + region->size));
			ck_assert(!guarded(region->host));
		}
	}
	check_ok(guest_memory_init(&odd, MIB(33) + 4096, GUEST_MEMORY_MEMFD, &err), &err);
	ck_assert(guarded(odd.regions[0].host + odd.size));
	odd.regions[0].host[odd.size - 1] = 1;
	guest_memory_finish(&odd);
}
END_TEST

/* Nothing of the address space stays behind. */
START_TEST(test_no_leak)
{
	char before[64] = "", after[64] = "";

	for (int i = 0; i < 20; i++) {
		struct guest_memory mem;
		FILE *f;

		check_ok(guest_memory_init(&mem, MIB(32) + 4096 * (uint64_t)i,
					   i % 2 == 0 ? GUEST_MEMORY_MEMFD : GUEST_MEMORY_ANON,
					   &err),
			 &err);
		check_ok(guest_memory_dirty_start(&mem, &err), &err);
		guest_memory_finish(&mem);
		f = fopen("/proc/self/statm", "re");
		ck_assert_ptr_nonnull(f);
		ck_assert_int_eq(fscanf(f, "%63s", i < 10 ? before : after), 1);
		(void)fclose(f);
	}
	ck_assert_str_eq(before, after);
}
END_TEST

static const struct {
	uint64_t gpa, len;
} zeroed[] = {
	{ 0, 0 },
	{ 1, 1 },
	{ 100, 5000 },
	{ 4096, KIB(64) },
	{ 4095, KIB(64) + 2 },
	{ 123, KIB(300) + 7 },
	{ MIB(2), MIB(4) },
	{ MIB(1) + 1, MIB(3) - 2 },
	{ 0, MIB(32) },
	{ MIB(31), MIB(1) },
	{ KIB(64), KIB(64) },
	{ 1, KIB(64) },
};

static void check_zeroed(struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	uint8_t *low = mem->regions[0].host;

	memset(low, 0x5a, MIB(32));
	ck_assert(guest_memory_zero(mem, gpa, len));
	for (uint64_t i = 0; i < MIB(32); i++) {
		uint8_t expected = i >= gpa && i - gpa < len ? 0 : 0x5a;

		if (low[i] != expected) {
			ck_abort_msg("byte %#llx is %#x", (unsigned long long)i, low[i]);
		}
	}
}

START_TEST(test_zero)
{
	check_zeroed(&small, zeroed[_i].gpa, zeroed[_i].len);
	check_zeroed(&large, zeroed[_i].gpa, zeroed[_i].len);
	ck_assert(!guest_memory_zero(&small, MIB(32) - 1, 2));
	ck_assert_uint_eq(small.regions[0].host[0],
			  zeroed[_i].gpa == 0 && zeroed[_i].len != 0 ? 0 : 0x5a);
}
END_TEST

START_TEST(test_zero_keeps_holes)
{
	struct stat st;

	ck_assert(guest_memory_zero(&small, 0, MIB(16)));
	ck_assert_int_eq(fstat(small.regions[0].fd, &st), 0);
	ck_assert_int_eq(st.st_blocks, 0);
}
END_TEST

START_TEST(test_discard)
{
	struct guest_memory *mem = machine(_i);
	struct stat st;

	for (int round = 0; round < 2; round++) {
		for (uint32_t n = 0; n < mem->region_count; n++) {
			const struct guest_region *region = &mem->regions[n];

			region->host[5] = 1;
			region->host[region->size - 1] = 1;
		}
		check_ok(guest_memory_discard(mem, &err), &err);
		for (uint32_t n = 0; n < mem->region_count; n++) {
			const struct guest_region *region = &mem->regions[n];

			ck_assert_uint_eq(region->host[5], 0);
			ck_assert_uint_eq(region->host[region->size - 1], 0);
			if (region->fd >= 0) {
				check_ok(guest_memory_discard(mem, &err), &err);
				ck_assert_int_eq(fstat(region->fd, &st), 0);
				ck_assert_int_eq(st.st_blocks, 0);
			}
		}
	}
}
END_TEST

START_TEST(test_hugetlb)
{
	struct guest_memory mem;
	int r = guest_memory_init(&mem, MIB(64), GUEST_MEMORY_HUGETLB, &err);

	if (r < 0) {
		if (r == -ENOMEM) {
			check_error(&err, ERROR_CONFIG, "2 MiB pages are free");
			check_error(&err, ERROR_CONFIG, "/proc/sys/vm/nr_hugepages");
		} else {
			check_error(&err, ERROR_CONFIG, "huge pages");
		}
		CHECK_SKIP("no 2 MiB huge pages are reserved: only the error was tested");
	}
	memset(mem.regions[0].host, 0x5a, mem.size);
	ck_assert(guest_memory_zero(&mem, MIB(2), MIB(4)));
	ck_assert_uint_eq(mem.regions[0].host[MIB(2)], 0);
	ck_assert_uint_eq(mem.regions[0].host[MIB(6)], 0x5a);
	check_ok(guest_memory_discard(&mem, &err), &err);
	ck_assert_uint_eq(mem.regions[0].host[0], 0);
	guest_memory_finish(&mem);
}
END_TEST

CHECK_MAIN("guest_memory", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_layout);
	   CHECK_TABLE(test_translate, ranges); CHECK_TEST(test_copy);
	   CHECK_TABLE(test_bad_size, sizes); CHECK_TEST(test_finish_of_nothing);
	   CHECK_TEST(test_finish_keeps_stdin); CHECK_TEST(test_auto); CHECK_TEST(test_memfd);
	   CHECK_TEST(test_guards); CHECK_TEST(test_no_leak); CHECK_TABLE(test_zero, zeroed);
	   CHECK_TEST(test_zero_keeps_holes); CHECK_LOOP(test_discard, 2); CHECK_TEST(test_hugetlb))
