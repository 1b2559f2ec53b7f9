/* SPDX-License-Identifier: Apache-2.0 */
/* Unified kernel images, made byte by byte: the kernel is booted with its initrd and command line, and
 * headers that lie are refused or mean nothing. */
#include "harness/check_main.h"
#include "harness/fake_kernel.h"

#include <stdio.h>

#define PE_AT	  0x80U
#define OPTIONAL  0xf0U
#define TABLE_AT  (PE_AT + 24 + OPTIONAL)
#define DATA_AT	  0x1000U
#define FILE_SIZE 0x10000U

static uint8_t file[FILE_SIZE];
static uint32_t sections, data_end;
static struct fake_guest g;
static char *cmdline;

static uint8_t *section(uint32_t index)
{
	return file + TABLE_AT + index * 40;
}

static void add(const char *name, const void *bytes, uint32_t len)
{
	uint8_t *p = section(sections++);
	uint32_t padded = (len + 511) / 512 * 512;

	memcpy(p, name, strnlen(name, 8));
	store_le32(p + 8, len);
	store_le32(p + 12, 0x10000 * sections);
	store_le32(p + 16, padded);
	store_le32(p + 20, data_end);
	memcpy(file + data_end, bytes, len);
	memset(file + data_end + len, 0xee, padded - len);
	data_end += padded;
	store_le16(file + PE_AT + 6, (uint16_t)sections);
}

static void begin(void)
{
	memset(file, 0, sizeof(file));
	sections = 0;
	data_end = DATA_AT;
	memcpy(file, "MZ", 2);
	store_le32(file + 0x3c, PE_AT);
	memcpy(file + PE_AT, "PE\0\0", 4);
	store_le16(file + PE_AT + 4, 0x8664);
	store_le16(file + PE_AT + 20, OPTIONAL);
	add(".text", "stub", 4);
}

static void add_kernel(void)
{
	uint8_t image[FAKE_ELF_SIZE];

	fake_elf(image, true);
	add(".linux", image, sizeof(image));
}

static void setup(void)
{
	fake_guest_init(&g, MIB(64));
	begin();
}

static void teardown(void)
{
	fake_guest_finish(&g);
	free(cmdline);
}

static int prepare(size_t len)
{
	int r;

	g.request.kernel = (struct loader_image){ "kernel.test", fake_file(file, len) };
	g.request.initrd_count = 0;
	r = loader_prepare(&g.request, &cmdline, &g.e);
	if (r == 0) {
		r = loader_load(&g.mem, &g.request, &g.entry, &g.e);
	}
	return r;
}

static void finish(void)
{
	close(g.request.kernel.fd);
	free(cmdline);
	cmdline = NULL;
}

START_TEST(test_all_parts)
{
	const uint8_t *info, *module;
	uint8_t *at;

	add(".cmdline", "root=/dev/vda1\tquiet\nx  \n\0garbage", 33);
	add(".initrd", "INITRD", 6);
	add_kernel();
	g.request.kernel = (struct loader_image){ "kernel.test", fake_file(file, FILE_SIZE) };
	g.request.initrds[0] = (struct loader_image){ "more.test", fake_file("more", 4) };
	g.request.initrd_count = 1;
	check_ok(loader_prepare(&g.request, &cmdline, &g.e), &g.e);
	ck_assert_str_eq(cmdline, "root=/dev/vda1 quiet x");
	ck_assert_uint_eq(g.request.initrd_count, 2);
	check_ok(loader_load(&g.mem, &g.request, &g.entry, &g.e), &g.e);
	ck_assert_int_eq(g.entry.protocol, BOOT_PVH);
	info = fake_guest_at(&g, g.entry.info, 56);
	module = fake_guest_at(&g, load_le64(info + 16), 16);
	/* Its own first, the user's at the next multiple of four. */
	ck_assert_uint_eq(load_le64(module + 8), 12);
	at = fake_guest_at(&g, load_le64(module), 12);
	ck_assert_mem_eq(at, "INITRD\0\0more", 12);
	close(g.request.initrds[1].fd);
	finish();
}
END_TEST

START_TEST(test_kernel_alone)
{
	add_kernel();
	check_ok(prepare(FILE_SIZE), &g.e);
	ck_assert_ptr_null(cmdline);
	ck_assert_uint_eq(g.request.initrd_count, 0);
	finish();
}
END_TEST

/* The base is what stands before the first profile; of two sections of a name the first counts. */
START_TEST(test_profiles)
{
	add_kernel();
	add(".cmdline", "base", 4);
	add(".cmdline", "twice", 5);
	add(".profile", "ID=other", 8);
	add(".cmdline", "other", 5);
	add(".initrd", "other", 5);
	check_ok(prepare(FILE_SIZE), &g.e);
	ck_assert_str_eq(cmdline, "base");
	ck_assert_uint_eq(g.request.initrd_count, 0);
	finish();
}
END_TEST

START_TEST(test_another_architecture)
{
	add_kernel();
	store_le16(file + PE_AT + 4, 0xaa64);
	ck_assert_int_lt(prepare(FILE_SIZE), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "PE machine 0xaa64");
	finish();
}
END_TEST

START_TEST(test_no_kernel)
{
	add(".cmdline", "x", 1);
	ck_assert_int_lt(prepare(FILE_SIZE), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "a program for EFI, Windows or DOS");
	check_error(&g.e, ERROR_KERNEL_IMAGE, "would have a section .linux");
	finish();
}
END_TEST

static const struct {
	uint32_t offset; /* in the kernel's section header */
	uint32_t value;
	const char *text;
} lies[] = {
	{ 20, FILE_SIZE - 511, "is empty or beyond the file" },
	{ 20, UINT32_MAX, "is empty or beyond the file" },
	{ 16, UINT32_MAX, NULL }, /* the memory's size counts */
	{ 16, 0, "is empty or beyond the file" },
	{ 8, UINT32_MAX, NULL },	     /* padding and all */
	{ 8, 0, NULL },			     /* objcopy may say nothing */
	{ 8, 20, "truncated: an ELF file" }, /* of 20 bytes */
};

START_TEST(test_lies)
{
	uint32_t linux_at = sections;

	add_kernel();
	add(".sbat", "y", 1);
	store_le32(section(linux_at) + lies[_i].offset, lies[_i].value);
	if (lies[_i].text == NULL) {
		check_ok(prepare(FILE_SIZE), &g.e);
	} else {
		ck_assert_int_lt(prepare(FILE_SIZE), 0);
		check_error(&g.e, ERROR_KERNEL_IMAGE, lies[_i].text);
	}
	finish();
}
END_TEST

START_TEST(test_limits)
{
	add_kernel();
	store_le16(file + PE_AT + 6, 97);
	ck_assert_int_lt(prepare(FILE_SIZE), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "announces 97 sections");
	finish();
	store_le16(file + PE_AT + 6, (uint16_t)sections);
	store_le32(file + 0x3c, UINT32_MAX - 10);
	ck_assert_int_lt(prepare(FILE_SIZE), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "a program for EFI");
	finish();
	store_le32(file + 0x3c, PE_AT);
	store_le16(file + PE_AT + 20, UINT16_MAX);
	ck_assert_int_lt(prepare(FILE_SIZE), 0);
	finish();
}
END_TEST

START_TEST(test_every_truncation)
{
	add(".initrd", "INITRD", 6);
	add_kernel();
	for (size_t len = 0; len < data_end; len += len < DATA_AT ? 1 : 61) {
		ck_assert_int_lt(prepare(len), 0);
		ck_assert_int_eq(g.e.code, ERROR_KERNEL_IMAGE);
		finish();
	}
}
END_TEST

CHECK_MAIN("uki", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_all_parts);
	   CHECK_TEST(test_kernel_alone); CHECK_TEST(test_profiles);
	   CHECK_TEST(test_another_architecture); CHECK_TEST(test_no_kernel);
	   CHECK_TABLE(test_lies, lies); CHECK_TEST(test_limits); CHECK_TEST(test_every_truncation))
