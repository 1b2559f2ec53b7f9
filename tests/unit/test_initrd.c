/* SPDX-License-Identifier: Apache-2.0 */
/* Where an initrd goes, what it never touches, and files that change size (T-K4, T-K5). */
#include "../../src/loader/x86/x86.h"
#include "harness/check_main.h"
#include "harness/fake_kernel.h"

static uint8_t *initrd_bytes(size_t size)
{
	uint8_t *bytes = malloc(size);

	ck_assert_ptr_nonnull(bytes);
	fake_fill(bytes, size, 3);
	return bytes;
}

/* RAM, kernel [start, end), initrd_end, size -> expected address, 0: refused with `text` */
static const struct {
	uint64_t ram;
	gpa_t start, end;
	uint64_t initrd_end;
	uint64_t size;
	gpa_t expected;
	const char *text;
} places[] = {
	/* as high as possible, page aligned */
	{ MIB(64), MIB(16), MIB(32), GIB(2), 1, MIB(64) - 4096, NULL },
	{ MIB(64), MIB(16), MIB(32), GIB(2), 4096, MIB(64) - 4096, NULL },
	{ MIB(64), MIB(16), MIB(32), GIB(2), 4097, MIB(64) - 8192, NULL },
	{ MIB(64), MIB(16), MIB(32), MIB(48), MIB(1), MIB(47), NULL },
	{ MIB(64), MIB(16), MIB(32), MIB(48) - 1, MIB(1), MIB(47) - 4096, NULL },
	/* exactly above, exactly below, one byte too much */
	{ MIB(64), MIB(16), MIB(32), GIB(2), MIB(32), MIB(32), NULL },
	{ MIB(64), MIB(40), MIB(63), GIB(2), MIB(39), MIB(1), NULL },
	{ MIB(64), MIB(40), MIB(63), GIB(2), MIB(39) + 1, 0, "--memory" },
	{ MIB(64), MIB(16), MIB(64), GIB(2), MIB(2), MIB(14), NULL },
	{ MIB(64), MIB(1), MIB(62), GIB(2), MIB(3), 0, "do not fit beside the kernel" },
	{ MIB(64), MIB(16), MIB(32), MIB(1), 1, 0, "do not fit" },
	{ MIB(64), MIB(16), MIB(32), 1, 1, 0, "no amount of memory helps" },
	{ MIB(64), MIB(16), MIB(32), GIB(2), MIB(64) + 1, 0,
	  "67108865 bytes are more than the guest's RAM of 67108864" },
	/* a kernel that ends where the initrd must */
	{ MIB(64), MIB(16), MIB(32), MIB(32), MIB(1), MIB(15), NULL },
	/* below the hole, never above it */
	{ GIB(4), MIB(16), MIB(32), GIB(4), 4096, PLATFORM_RAM_LOW_END - 4096, NULL },
	{ GIB(4), MIB(16), MIB(32), 0x80000000, 4096, 0x80000000 - 4096, NULL },
};

START_TEST(test_places)
{
	const struct kernel kernel = { .start = places[_i].start,
				       .end = places[_i].end,
				       .initrd_end = places[_i].initrd_end };
	struct loader_image image = { "initrd.test", -1 };
	uint8_t *bytes = initrd_bytes(places[_i].size);
	struct initrd initrd;
	struct fake_guest g;
	int r;

	fake_guest_init(&g, places[_i].ram);
	image.fd = fake_file(bytes, places[_i].size);
	r = initrd_load(&image, 1, &g.mem, &kernel, &initrd, &g.e);
	if (places[_i].expected == 0) {
		ck_assert_int_lt(r, 0);
		check_error(&g.e, ERROR_INITRD, places[_i].text);
	} else {
		check_ok(r, &g.e);
		ck_assert_uint_eq(initrd.gpa, places[_i].expected);
		ck_assert_uint_eq(initrd.size, places[_i].size);
		ck_assert_int_eq(
			memcmp(fake_guest_at(&g, initrd.gpa, initrd.size), bytes, initrd.size), 0);
	}
	close(image.fd);
	fake_guest_finish(&g);
	free(bytes);
}
END_TEST

/* Both protocols tell the guest where it is; the kernel and every table are as without an initrd.
 */
START_TEST(test_told)
{
	const size_t size = MIB(3) + 5;
	uint8_t *bytes = initrd_bytes(size);
	uint8_t image[FAKE_ELF_SIZE];
	struct boot_params params;
	struct fake_guest g;
	const uint8_t *info, *module;
	gpa_t gpa;

	fake_elf(image, _i == 1);
	fake_guest_init(&g, MIB(32));
	g.request.initrd_count = 1;
	g.request.initrds[0].fd = fake_file(bytes, size);
	check_ok(fake_guest_load(&g, image, sizeof(image)), &g.e);
	if (_i == 1) {
		info = fake_guest_at(&g, g.entry.info, 56);
		ck_assert_uint_eq(load_le32(info + 12), 1);
		module = fake_guest_at(&g, load_le64(info + 16), 32);
		gpa = load_le64(module);
		ck_assert_uint_eq(load_le64(module + 8), size);
		ck_assert_uint_eq(load_le64(module + 16), 0);
	} else {
		memcpy(&params, fake_guest_at(&g, g.entry.info, sizeof(params)), sizeof(params));
		gpa = params.hdr.ramdisk_image;
		ck_assert_uint_eq(params.hdr.ramdisk_size, size);
		ck_assert_uint_eq(params.ext_ramdisk_image, 0);
		ck_assert_uint_eq(params.ext_ramdisk_size, 0);
	}
	ck_assert_uint_eq(gpa % 4096, 0);
	ck_assert_int_eq(memcmp(fake_guest_at(&g, gpa, size), bytes, size), 0);
	ck_assert_int_eq(memcmp(fake_guest_at(&g, FAKE_ELF_GPA, 0x1000), image + 0x1000, 0x1000),
			 0);
	close(g.request.initrds[0].fd);
	fake_guest_finish(&g);
	free(bytes);
}
END_TEST

START_TEST(test_empty)
{
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;

	fake_elf(image, true);
	fake_guest_init(&g, MIB(32));
	g.request.initrd_count = 1;
	g.request.initrds[0].fd = fake_file("", 0);
	ck_assert_int_lt(fake_guest_load(&g, image, sizeof(image)), 0);
	check_error(&g.e, ERROR_INITRD, "initrd 'initrd.test': the file is empty");
	close(g.request.initrds[0].fd);
	fake_guest_finish(&g);
}
END_TEST

START_TEST(test_shrinks)
{
	struct loader_image image = { "shrinks", -1 };
	uint8_t bytes[4096] = { 1 };
	struct source src;
	struct error e;

	image.fd = fake_file(bytes, sizeof(bytes));
	check_ok(source_init(&src, &image, "initrd", ERROR_INITRD, &e), &e);
	ck_assert_uint_eq(src.size, sizeof(bytes));
	check_ok(source_read(&src, 0, bytes, sizeof(bytes), &e), &e);
	ck_assert_int_eq(ftruncate(image.fd, 100), 0);
	ck_assert_int_lt(source_read(&src, 0, bytes, sizeof(bytes), &e), 0);
	check_error(&e, ERROR_INITRD,
		    "initrd 'shrinks': the file shrank to 100 bytes while it was read");
	check_ok(source_read(&src, 50, bytes, 50, &e), &e);
	close(image.fd);
}
END_TEST

START_TEST(test_read_bounds)
{
	static const uint64_t beyond[][2] = { { 0, 4097 },	 { 4096, 1 },
					      { 4097, 0 },	 { UINT64_MAX, 1 },
					      { 1, UINT64_MAX }, { UINT64_MAX, UINT64_MAX },
					      { 1ULL << 63, 1 } };
	struct loader_image image = { "bounds", -1 };
	uint8_t bytes[4096] = { 1 };
	struct source src;
	struct error e;

	image.fd = fake_file(bytes, sizeof(bytes));
	check_ok(source_init(&src, &image, "kernel", ERROR_KERNEL_IMAGE, &e), &e);
	check_ok(source_read(&src, 4096, bytes, 0, &e), &e);
	for (size_t i = 0; i < ARRAY_SIZE(beyond); i++) {
		ck_assert_int_lt(source_read(&src, beyond[i][0], bytes, beyond[i][1], &e), 0);
		check_error(&e, ERROR_KERNEL_IMAGE, "truncated");
	}
	close(image.fd);
}
END_TEST

CHECK_MAIN("initrd", CHECK_TABLE(test_places, places); CHECK_LOOP(test_told, 2);
	   CHECK_TEST(test_empty); CHECK_TEST(test_shrinks); CHECK_TEST(test_read_bounds))
