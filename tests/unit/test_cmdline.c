/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel command line: what it is made of, what it refuses, and that each kernel gets all of it
 * or an error (T-K6). */
#include "harness/check_main.h"
#include "harness/fake_kernel.h"

static const struct {
	struct cmdline_request request;
	const char *expected;
} lines[] = {
	{ { 0 }, "panic=-1 pci=off" },
	{ { .serial = true }, "console=ttyS0 panic=-1 pci=off" },
	{ { .serial = true, .pci = true }, "console=ttyS0 panic=-1" },
	{ { .boot_args = "quiet" }, "quiet" },
	{ { .serial = true, .root_disk = true },
	  "console=ttyS0 panic=-1 pci=off root=/dev/vda rw" },
	{ { .root_disk = true, .root_read_only = true }, "panic=-1 pci=off root=/dev/vda ro" },
	{ { .root_read_only = true }, "panic=-1 pci=off" },
	{ { .serial = true, .quiet = true, .initrd = true },
	  "console=ttyS0 panic=-1 pci=off quiet" },
	{ { .serial = true, .hvc = true }, "console=ttyS0 console=hvc0 panic=-1 pci=off" },
	{ { .root_disk = true, .append = "root=/dev/vdb init=/bin/sh -- a b" },
	  "panic=-1 pci=off root=/dev/vda rw root=/dev/vdb init=/bin/sh -- a b" },
	{ { .append = "" }, "panic=-1 pci=off" },
	{ { .only = "x", .serial = true, .root_disk = true, .quiet = true }, "x" },
	{ { .only = "", .serial = true }, "" },
	{ { .root_disk = true, .root_partuuid = "0eaa91a0-01" },
	  "panic=-1 pci=off root=PARTUUID=0eaa91a0-01 rw" },
	{ { .root_partuuid = "0eaa91a0-01" }, "panic=-1 pci=off" },
	{ { .boot_args = "a b", .serial = true, .hvc = true, .quiet = true }, "a b" },
	{ { .boot_args = "", .root_disk = true }, "root=/dev/vda rw" },
	{ { .boot_args = "console=ttyS0 root=/dev/vdb", .root_disk = true, .root_read_only = true },
	  "console=ttyS0 root=/dev/vdb root=/dev/vda ro" },
	{ { .boot_args = "a", .root_disk = true, .root_partuuid = "B" }, "a root=PARTUUID=B rw" },
	/* Whatever a client's are, and ours where the kernel looks for them. */
	{ { .boot_args = "a\tb\n c\n", .root_disk = true }, "a b  c root=/dev/vda rw" },
	{ { .boot_args = "\x01\xc3\xa9\x7f" }, "\x01\xc3\xa9\x7f" },
	{ { .boot_args = "a -- b c", .root_disk = true }, "a root=/dev/vda rw -- b c" },
	{ { .boot_args = "a  --\tb", .root_disk = true }, "a root=/dev/vda rw -- b" },
	{ { .boot_args = "-- b", .root_disk = true }, "root=/dev/vda rw -- b" },
	{ { .boot_args = "a --", .root_disk = true }, "a root=/dev/vda rw --" },
	{ { .boot_args = "a -- b -- c", .root_disk = true }, "a root=/dev/vda rw -- b -- c" },
	{ { .boot_args = "a -- b" }, "a -- b" },
	{ { .boot_args = "a--b --c d-- --- x=--", .root_disk = true },
	  "a--b --c d-- --- x=-- root=/dev/vda rw" },
	{ { .boot_args = "x=\"a -- b\" c -- d", .root_disk = true },
	  "x=\"a -- b\" c root=/dev/vda rw -- d" },
	{ { .root_disk = true, .root_partuuid = "" }, "panic=-1 pci=off root=PARTUUID= rw" },
	{ { .boot_args = "", .root_disk = true, .root_partuuid = "no uuid" },
	  "root=PARTUUID=no uuid rw" },
	{ { .append = "name=\xc3\xa9" }, "panic=-1 pci=off name=\xc3\xa9" },
};

START_TEST(test_words)
{
	char buf[128];
	struct error e;

	check_ok(cmdline_build(&lines[_i].request, buf, sizeof(buf), &e), &e);
	ck_assert_str_eq(buf, lines[_i].expected);
}
END_TEST

static const struct {
	struct cmdline_request request;
	const char *text;
} bad[] = {
	{ { .append = "a\nb" }, "--cmdline: control character 0x0a at offset 1" },
	{ { .append = "\ta" }, "0x09 at offset 0" },
	{ { .root_disk = true, .root_partuuid = "1\ninit=/evil" },
	  "partuuid: control character 0x0a" },
	{ { .append = "abc\x7f" }, "0x7f at offset 3" },
	{ { .only = "ab\x1b[0m" }, "--cmdline-only: control character 0x1b at offset 2" },
};

START_TEST(test_control_characters)
{
	char buf[128] = "old";
	struct error e;

	ck_assert_int_lt(cmdline_build(&bad[_i].request, buf, sizeof(buf), &e), 0);
	check_error(&e, ERROR_CMDLINE, bad[_i].text);
	ck_assert_str_eq(buf, "old");
}
END_TEST

static const struct {
	const char *cmdline;
	bool wants;
} timers[] = {
	{ "", false },
	{ " ", false },
	{ "console=ttyS0 panic=-1", false },
	{ "acpi=off", true },
	{ "quiet acpi=off", true },
	{ "quiet\tnoapic\n", true },
	{ "reboot=k panic=1 nomodule 8250.nr_uarts=0 noapic", true },
	{ "acpi=noirq x", true },
	{ "nolapic", true },
	{ "nosmp", true },
	{ "xacpi=off", false },
	{ "acpi=offx noapic_timer nolapic_timer", false },
	{ "acpi=on acpi=force", false },
	{ "init=/bin/sh -- acpi=off", false },
	{ "--x acpi=off", true },
	{ "noapic -- a", true },
};

START_TEST(test_old_timer)
{
	ck_assert_int_eq(cmdline_wants_old_timer(timers[_i].cmdline), timers[_i].wants);
}
END_TEST

START_TEST(test_size)
{
	const struct cmdline_request request = { .only = "12345678" };
	char buf[16];
	struct error e;

	for (size_t size = 0; size < sizeof(buf); size++) {
		memset(buf, 'x', sizeof(buf));
		if (size > 8) {
			check_ok(cmdline_build(&request, buf, size, &e), &e);
			ck_assert_str_eq(buf, "12345678");
		} else {
			ck_assert_int_lt(cmdline_build(&request, buf, size, &e), 0);
			check_error(&e, ERROR_CMDLINE, "8 characters");
			ck_assert_int_eq(buf[0], 'x');
		}
		ck_assert_int_eq(buf[size > 8 ? 9 : 0], 'x');
	}
}
END_TEST

/* A command line of `len` characters is wholly in the guest, with its NUL, or refused. */
static void check_length(const uint8_t *image, size_t image_len, size_t len, size_t limit)
{
	char *line = malloc(len + 1);
	struct fake_guest g;
	int r;

	memset(line, 'a', len);
	line[len] = '\0';
	fake_guest_init(&g, MIB(64));
	memset(fake_guest_at(&g, PLATFORM_CMDLINE, PLATFORM_CMDLINE_MAX), 'z',
	       PLATFORM_CMDLINE_MAX);
	g.request.cmdline = line;
	r = fake_guest_load(&g, image, image_len);
	if (len <= limit) {
		check_ok(r, &g.e);
		ck_assert_int_eq(
			memcmp(fake_guest_at(&g, PLATFORM_CMDLINE, len + 1), line, len + 1), 0);
	} else {
		ck_assert_int_lt(r, 0);
		check_error(&g.e, ERROR_CMDLINE, "characters, the kernel takes");
	}
	fake_guest_finish(&g);
	free(line);
}

static const struct {
	uint32_t cmdline_size;
	size_t limit;
} limits[] = {
	{ 2047, 2047 },
	{ 255, 255 },
	{ 0, 0 },
	{ 0x10000, PLATFORM_CMDLINE_MAX - 1 },
	{ 0xffffffff, PLATFORM_CMDLINE_MAX - 1 },
};

START_TEST(test_bzimage_limit)
{
	uint8_t image[FAKE_BZIMAGE_SIZE];
	struct setup_header hdr;
	size_t limit = limits[_i].limit;

	fake_bzimage(image, sizeof(image));
	hdr = fake_header_get(image);
	hdr.cmdline_size = limits[_i].cmdline_size;
	fake_header_put(image, &hdr);
	if (limit > 0) {
		check_length(image, sizeof(image), limit - 1, limit);
	}
	check_length(image, sizeof(image), limit, limit);
	check_length(image, sizeof(image), limit + 1, limit);
}
END_TEST

START_TEST(test_elf_limit)
{
	uint8_t image[FAKE_ELF_SIZE];
	size_t limit = PLATFORM_CMDLINE_MAX - 1;

	fake_elf(image, _i == 1);
	check_length(image, sizeof(image), 0, limit);
	check_length(image, sizeof(image), limit, limit);
	check_length(image, sizeof(image), limit + 1, limit);
}
END_TEST

CHECK_MAIN("cmdline", CHECK_TABLE(test_words, lines); CHECK_TABLE(test_control_characters, bad);
	   CHECK_TEST(test_size); CHECK_TABLE(test_bzimage_limit, limits);
	   CHECK_LOOP(test_elf_limit, 2); CHECK_TABLE(test_old_timer, timers))
