/* SPDX-License-Identifier: Apache-2.0 */
/* Packed kernel files: what is in them is booted, whatever packed it; damaged ones are refused at any
 * place, and a program that is missing is named with the cure. */
#include "harness/check_main.h"
#include "harness/fake_kernel.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define IMAGE_SIZE MIB(3)

static char dir[] = "/tmp/vmm-test-packed.XXXXXX";
static char plain[128], packed[128];
static uint8_t *image;
static struct fake_guest g;
static char *cmdline;

/* An ELF file of which some packs well, some does not and some repeats at every distance. */
static void make_image(void)
{
	image = calloc(1, IMAGE_SIZE);
	fake_fill(image + MIB(1), MIB(1), 7);
	for (size_t i = MIB(2); i < IMAGE_SIZE; i++) {
		image[i] = (uint8_t)((i >> 9) ^ (i % 251) ^ (i % (i >> 15) == 0 ? i >> 3 : 0));
	}
	fake_elf(image, true);
}

static void write_file(const char *path, const void *bytes, size_t len)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, len, f), len);
	ck_assert_int_eq(fclose(f), 0);
}

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(plain, sizeof(plain), "%s/plain", dir);
	(void)snprintf(packed, sizeof(packed), "%s/packed", dir);
	make_image();
	write_file(plain, image, IMAGE_SIZE);
	fake_guest_init(&g, MIB(64));
}

static void teardown(void)
{
	fake_guest_finish(&g);
	free(image);
	free(cmdline);
	(void)unlink(plain);
	(void)unlink(packed);
	(void)rmdir(dir);
}

static bool pack(const char *how)
{
	char command[400];

	(void)snprintf(command, sizeof(command), "%s <%s >%s 2>/dev/null", how, plain, packed);
	return system(command) == 0;
}

/* Opens and prepares the packed file. */
static int prepare(void)
{
	int r = loader_open(&g.request.kernel, packed, ERROR_KERNEL_IMAGE, &g.e);

	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(loader_check_kernel(&g.request.kernel, &g.e), 0);
	return loader_prepare(&g.request, &cmdline, &g.e);
}

static void close_kernel(void)
{
	close(g.request.kernel.fd);
	g.request.kernel.fd = -1;
}

static const char *const packers[] = { "gzip -1c",	     "gzip -9c",  "gzip -6Nc", "xz -1c",
				       "xz --check=none -c", "zstd -1qc", "zstd -19qc" };

START_TEST(test_unpacks_to_the_same)
{
	uint8_t *got = malloc(IMAGE_SIZE + 1);

	if (!pack(packers[_i])) {
		free(got);
		CHECK_SKIP("that program is not installed");
	}
	check_ok(prepare(), &g.e);
	ck_assert_int_eq(pread(g.request.kernel.fd, got, IMAGE_SIZE + 1, 0), (int)IMAGE_SIZE);
	ck_assert_mem_eq(got, image, IMAGE_SIZE);
	check_ok(loader_load(&g.mem, &g.request, &g.entry, &g.e), &g.e);
	ck_assert_int_eq(g.entry.protocol, BOOT_PVH);
	/* Again, as at a machine reset. */
	ck_assert_int_eq(guest_memory_discard(&g.mem, &g.e), 0);
	check_ok(loader_load(&g.mem, &g.request, &g.entry, &g.e), &g.e);
	close_kernel();
	free(got);
}
END_TEST

/* A stream by hand: a stored block, then one with the fixed codes, behind a header with all fields. */
START_TEST(test_gzip_by_hand)
{
	uint8_t file[] = {
		0x1f, 0x8b, 8,	  0x1f, 0,    0,    0,	 0,   0,    3,	  /* all flags */
		2,    0,    'e',  'x',	'n',  0,    'c', 0,   0xaa, 0xbb, /* what they announce */
		0x00, 3,    0,	  0xfc, 0xff, 'a',  'b', 'c',		  /* stored */
		0x73, 0x74, 0x72, 0x76, 0x01, 0x00,			  /* fixed codes: "ABCD" */
		0x5a, 0xc4, 0x50, 0xd1, 7,    0,    0,	 0,
	};

	write_file(packed, file, sizeof(file));
	ck_assert_int_lt(prepare(), 0);
	/* It was unpacked: what is in it is no kernel. */
	check_error(&g.e, ERROR_KERNEL_IMAGE, "this is a text file");
	close_kernel();
	file[sizeof(file) - 4]++;
	write_file(packed, file, sizeof(file));
	ck_assert_int_lt(prepare(), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "its checksum or length is another");
	close_kernel();
}
END_TEST

/* Every truncation, and a bit at many places. */
START_TEST(test_damaged_gzip)
{
	static uint8_t bytes[KIB(64)];
	size_t len;
	FILE *f;

	/* The part that packs well. */
	write_file(plain, image + MIB(2), KIB(200));
	ck_assert(pack("gzip -9c"));
	f = fopen(packed, "r");
	len = fread(bytes, 1, sizeof(bytes), f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_uint_gt(len, 200);
	for (size_t n = 3; n < len; n += n < 100 || n + 20 > len ? 1 : 97) {
		write_file(packed, bytes, n);
		ck_assert_int_lt(prepare(), 0);
		ck_assert_int_eq(g.e.code, ERROR_KERNEL_IMAGE);
		close_kernel();
	}
	for (size_t n = 10; n < len; n += 1 + len / 500) {
		bytes[n] ^= (uint8_t)(1 << n % 8);
		write_file(packed, bytes, len);
		ck_assert_int_lt(prepare(), 0);
		ck_assert_msg(strstr(g.e.msg, "damaged") != NULL, "byte %zu: %s", n, g.e.msg);
		close_kernel();
		bytes[n] ^= (uint8_t)(1 << n % 8);
	}
	bytes[len] = 0;
	write_file(packed, bytes, len + 1);
	ck_assert_int_lt(prepare(), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "something follows its end");
	close_kernel();
}
END_TEST

static const struct {
	const char *how, *program;
} programs[] = { { "xz -0c", "xz" }, { "zstd -1qc", "zstd" } };

START_TEST(test_damaged_by_program)
{
	struct stat st;

	if (!pack(programs[_i].how)) {
		CHECK_SKIP("that program is not installed");
	}
	ck_assert_int_eq(stat(packed, &st), 0);
	ck_assert_int_eq(truncate(packed, st.st_size / 2), 0);
	ck_assert_int_lt(prepare(), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "could not unpack it (exit status 1)");
	close_kernel();
}
END_TEST

START_TEST(test_no_such_program)
{
	if (!pack(programs[_i].how)) {
		CHECK_SKIP("that program is not installed");
	}
	ck_assert_int_eq(setenv("PATH", dir, 1), 0);
	ck_assert_int_lt(prepare(), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "cannot be run here: No such file");
	ck_assert_ptr_nonnull(strstr(g.e.hint, programs[_i].program));
	ck_assert_ptr_nonnull(strstr(g.e.hint, "-dc FILE > vmlinux"));
	/* gzip needs none. */
	close_kernel();
}
END_TEST

START_TEST(test_gzip_needs_no_program)
{
	ck_assert(pack("gzip -c"));
	ck_assert_int_eq(setenv("PATH", dir, 1), 0);
	check_ok(prepare(), &g.e);
	close_kernel();
}
END_TEST

/* What is in it is judged like any file; packed twice is once too often. */
START_TEST(test_what_is_in_it)
{
	write_file(plain, "070701 and so on", 16);
	ck_assert(pack("gzip -c"));
	ck_assert_int_lt(prepare(), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "cpio archive");
	close_kernel();
	ck_assert(pack("(gzip -c | gzip -c)"));
	check_ok(prepare(), &g.e);
	ck_assert_int_lt(loader_load(&g.mem, &g.request, &g.entry, &g.e), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "packed twice");
	close_kernel();
}
END_TEST

CHECK_MAIN("packed", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_unpacks_to_the_same, packers);
	   CHECK_TEST(test_gzip_by_hand); CHECK_TEST(test_damaged_gzip);
	   CHECK_TABLE(test_damaged_by_program, programs);
	   CHECK_TABLE(test_no_such_program, programs); CHECK_TEST(test_gzip_needs_no_program);
	   CHECK_TEST(test_what_is_in_it))
