/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are no kernel are refused by name, and nothing blocks or reads without end (T-K4). */
#include "harness/check_main.h"
#include "harness/fake_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static const struct {
	size_t offset;
	const char *magic;
	size_t len;
	const char *text;
} files[] = {
#define FILE_ROW(offset, magic, text)                        \
	{                                                    \
		(offset), (magic), sizeof(magic) - 1, (text) \
	}
	FILE_ROW(56, "ARM\x64", "this is an arm64 Image"),
	FILE_ROW(56, "RSC\x05", "this is a RISC-V Image"),
	FILE_ROW(0x24, "\x18\x28\x6f\x01", "this is an ARM zImage"),
	FILE_ROW(0, "BZh9", "bzip2 -dc"),
	FILE_ROW(0, "\x02\x21\x4c\x18", "lz4 -dc"),
	FILE_ROW(0, "QFI\xfb", "this is a qcow2 disk image"),
	FILE_ROW(0, "KDMV", "VMDK"),
	FILE_ROW(0x8001, "CD001", "this is an ISO 9660 image"),
	FILE_ROW(510, "\x55\xaa", "this is a disk image or a boot sector"),
	FILE_ROW(0x438, "\x53\xef", "this is an ext2/3/4 file system"),
	FILE_ROW(0, "070701", "--initrd"),
	FILE_ROW(0, "!<arch>\ndebian-binary", "dpkg -x"),
	FILE_ROW(0, "MZ", "a program for EFI, Windows or DOS"),
	FILE_ROW(0, "MZ", "a unified kernel image would have a section .linux"),
	FILE_ROW(0,
		 "\x7f"
		 "ELF\1\1\1\0\0\0\0\0\0\0\0\0\2\0\3\0",
		 "a 32-bit ELF file for x86"),
	FILE_ROW(0,
		 "\x7f"
		 "ELF\1\1\1\0\0\0\0\0\0\0\0\0\2\0\3\0",
		 "Xen and other multiboot"),
	FILE_ROW(0, "#!/bin/sh\n", "this is a script"),
	FILE_ROW(0, "\x99\x88\x77\x66", "begins with 99 88 77 66 (a raw image, or"),
	FILE_ROW(0, "\xfc\x8b\x03\x8d", "make an ELF file of it"),
	FILE_ROW(0, "", "bytes are zero"),
};

START_TEST(test_magics)
{
	size_t size = files[_i].offset + 0x1000;
	uint8_t *image = calloc(1, size);
	struct fake_guest g;
	int r;

	memcpy(image + files[_i].offset, files[_i].magic, files[_i].len);
	fake_guest_init(&g, MIB(32));
	r = fake_guest_load(&g, image, size);
	ck_assert_int_lt(r, 0);
	fake_guest_check(&g, r);
	check_error(&g.e, ERROR_KERNEL_IMAGE, files[_i].text);
	ck_assert_str_ne(g.e.hint, "");
	fake_guest_finish(&g);
	free(image);
}
END_TEST

START_TEST(test_text)
{
	static const char text[] =
		"These are words.\n\tOf no use to a CPU, in r\xc3\xa9sum\xc3\xa9.\n";
	struct fake_guest g;

	fake_guest_init(&g, MIB(32));
	ck_assert_int_lt(fake_guest_load(&g, text, sizeof(text) - 1), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "this is a text file");
	fake_guest_finish(&g);
}
END_TEST

/* Nothing but its first bytes, of each size up to an ELF header. */
START_TEST(test_tiny)
{
	uint8_t image[64] = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT };
	struct fake_guest g;
	int r;

	fake_guest_init(&g, MIB(32));
	for (size_t len = 0; len < sizeof(image); len++) {
		r = fake_guest_load(&g, image, len);
		ck_assert_int_lt(r, 0);
		fake_guest_check(&g, r);
		check_error(&g.e, ERROR_KERNEL_IMAGE, len == 0 ? "the file is empty" : "truncated");
	}
	fake_guest_finish(&g);
}
END_TEST

/* 8 TiB of nothing: as kernel and as initrd. */
START_TEST(test_sparse)
{
	int fd = memfd_create("sparse", MFD_CLOEXEC);
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;

	ck_assert_int_eq(ftruncate(fd, 8LL << 40), 0);
	fake_guest_init(&g, MIB(32));
	g.request.kernel.fd = fd;
	ck_assert_int_lt(loader_load(&g.mem, &g.request, &g.entry, &g.e), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "bytes are zero");

	fake_elf(image, true);
	g.request.initrd_count = 1;
	g.request.initrds[0].fd = fd;
	ck_assert_int_lt(fake_guest_load(&g, image, sizeof(image)), 0);
	check_error(&g.e, ERROR_INITRD,
		    "8796093022208 bytes are more than the guest's RAM of 33554432");
	check_error(&g.e, ERROR_INITRD, "no amount of memory helps");
	fake_guest_finish(&g);
	close(fd);
}
END_TEST

static char dir[] = "/tmp/vmm-test-detect.XXXXXX";
static char path[128];

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/kernel", dir);
}

static void teardown(void)
{
	(void)unlink(path);
	(void)rmdir(dir);
	memset(dir + sizeof(dir) - 7, 'X', 6);
}

static void check_refused(const char *name, enum error_code code, int sys, const char *text)
{
	struct loader_image image = { "untouched", -7 };
	struct error e = { 0 };

	ck_assert_int_eq(loader_open(&image, name, code, &e), -sys);
	check_error(&e, code, text);
	ck_assert_ptr_nonnull(strstr(e.msg, name));
	ck_assert_str_eq(image.path, "untouched");
	ck_assert_int_eq(image.fd, -7);
}

START_TEST(test_open_missing)
{
	check_refused(path, ERROR_KERNEL_IMAGE, ENOENT, "kernel '");
	check_refused(path, ERROR_INITRD, ENOENT, "initrd '");
	check_refused("", ERROR_KERNEL_IMAGE, ENOENT, "No such file");
}
END_TEST

START_TEST(test_open_directory)
{
	check_refused(dir, ERROR_KERNEL_IMAGE, EISDIR, "this is a directory");
}
END_TEST

START_TEST(test_open_fifo)
{
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	check_refused(path, ERROR_INITRD, EINVAL, "this is a FIFO");
}
END_TEST

START_TEST(test_open_socket)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_lt(snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path),
			 (int)sizeof(addr.sun_path));
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	check_refused(path, ERROR_KERNEL_IMAGE, EINVAL, "this is a socket");
	close(fd);
}
END_TEST

START_TEST(test_open_device)
{
	check_refused("/dev/zero", ERROR_KERNEL_IMAGE, EINVAL, "this is a character device");
	check_refused("/dev/null", ERROR_INITRD, EINVAL, "this is a character device");
}
END_TEST

START_TEST(test_open_permission)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	close(fd);
	if (access(path, R_OK) == 0) {
		CHECK_SKIP("root reads files of any mode");
	}
	check_refused(path, ERROR_KERNEL_IMAGE, EACCES, "Permission denied");
}
END_TEST

START_TEST(test_open_file)
{
	struct loader_image image = { NULL, -1 };
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	struct error e;

	ck_assert_int_ge(fd, 0);
	close(fd);
	check_ok(loader_open(&image, path, ERROR_KERNEL_IMAGE, &e), &e);
	ck_assert_str_eq(image.path, path);
	ck_assert_int_ge(image.fd, 0);
	ck_assert_int_ne(fcntl(image.fd, F_GETFD) & FD_CLOEXEC, 0);
	close(image.fd);
}
END_TEST

CHECK_MAIN("detect", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_magics, files);
	   CHECK_TEST(test_text); CHECK_TEST(test_tiny); CHECK_TEST(test_sparse);
	   CHECK_TEST(test_open_missing); CHECK_TEST(test_open_directory);
	   CHECK_TEST(test_open_fifo); CHECK_TEST(test_open_socket); CHECK_TEST(test_open_device);
	   CHECK_TEST(test_open_permission); CHECK_TEST(test_open_file))
