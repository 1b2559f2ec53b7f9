/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels without ACPI: which they are, as far as their images tell, and whose command line gets the
 * words that name the devices. */
#include "harness/check_main.h"
#include "harness/fake_kernel.h"

#define WORDS "virtio_mmio.device=4K@0xd0000000:5"

static const struct {
	const char *has; /* the kernel's strings */
	bool acpi_off;
	const char *cmdline, *expected;
	bool legacy;
} kernels[] = {
	/* Reads ACPI: none of it. */
	{ "Interpreter enabled", false, "a", "a", false },
	{ "RSD PTR ", false, "a", "a", false },
	{ "Linux version RSD PTR virtio_mmio.device", false, "a -- b", "a -- b", false },
	/* Is told not to. */
	{ "Linux version RSD PTR ", true, "acpi=off", "acpi=off " WORDS, true },
	{ "RSD PTR virtio_mmio.device", true, "acpi=off", "acpi=off " WORDS, true },
	{ "RSD PTR ", true, "acpi=off", "acpi=off", true },
	/* Does not. */
	{ "Linux version ", false, "a", "a " WORDS, true },
	{ "virtio_mmio.device", false, "", WORDS, true },
	{ "virtio_mmio.device", false, "a -- b", "a " WORDS " -- b", true },
	{ "virtio_mmio.device", false, "a  --", "a  " WORDS " --", true },
	{ "virtio_mmio.device", false, "-- b", WORDS " -- b", true },
	{ "virtio_mmio.device", false, "a=\"x -- y\" --b", "a=\"x -- y\" --b " WORDS, true },
	{ "virtio_mmio.device", false, "a -- virtio_mmio.device=1",
	  "a " WORDS " -- virtio_mmio.device=1", true },
	/* Some other system. */
	{ "RSD PTR", false, "a", "a", true },
	{ "", false, "a", "a", true },
};

START_TEST(test_kernels)
{
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;
	char line[128];

	fake_elf(image, true);
	ck_assert_uint_gt(FAKE_ELF_SIZE, strlen(kernels[_i].has) + 64);
	memcpy(image + FAKE_ELF_SIZE - strlen(kernels[_i].has), kernels[_i].has,
	       strlen(kernels[_i].has));
	fake_guest_init(&g, MIB(64));
	g.request.cmdline = kernels[_i].cmdline;
	check_ok(cmdline_insert(kernels[_i].cmdline, WORDS, line, sizeof(line), &g.e), &g.e);
	g.request.cmdline_devices = line;
	g.request.acpi_off = kernels[_i].acpi_off;
	check_ok(fake_guest_load(&g, image, sizeof(image)), &g.e);
	ck_assert_str_eq((const char *)fake_guest_at(&g, PLATFORM_CMDLINE, 256),
			 kernels[_i].expected);
	ck_assert_int_eq(g.entry.legacy, kernels[_i].legacy);
	fake_guest_finish(&g);
}
END_TEST

/* What it is cannot be seen: only the command line says something. */
START_TEST(test_packed)
{
	uint8_t image[FAKE_BZIMAGE_SIZE];
	struct fake_guest g;

	fake_bzimage(image, sizeof(image));
	fake_guest_init(&g, MIB(64));
	g.request.cmdline_devices = "console=ttyS0 " WORDS;
	check_ok(fake_guest_load(&g, image, sizeof(image)), &g.e);
	ck_assert_int_eq(g.entry.reads_acpi, LOADER_UNKNOWN);
	ck_assert(!g.entry.legacy);
	ck_assert_str_eq((const char *)fake_guest_at(&g, PLATFORM_CMDLINE, 256), "console=ttyS0");
	g.request.acpi_off = true;
	check_ok(fake_guest_load(&g, image, sizeof(image)), &g.e);
	ck_assert(g.entry.legacy);
	ck_assert_str_eq((const char *)fake_guest_at(&g, PLATFORM_CMDLINE, 256),
			 "console=ttyS0 " WORDS);
	fake_guest_finish(&g);
}
END_TEST

START_TEST(test_insert_bounds)
{
	const size_t need = strlen("a " WORDS " -- b") + 1;
	char buf[128];
	struct error e;

	for (size_t size = 0; size <= need; size++) {
		memset(buf, 'x', sizeof(buf));
		if (size == need) {
			check_ok(cmdline_insert("a -- b", WORDS, buf, size, &e), &e);
			ck_assert_str_eq(buf, "a " WORDS " -- b");
		} else {
			ck_assert_int_lt(cmdline_insert("a -- b", WORDS, buf, size, &e), 0);
			check_error(&e, ERROR_CMDLINE, "characters, the limit is");
		}
		ck_assert_int_eq(buf[size], 'x');
	}
}
END_TEST

static const struct {
	const char *line, *word, *without; /* NULL: it is not there */
} removals[] = {
	{ "noapic", "noapic", "" },
	{ "ro noapic reboot=k", "noapic", "ro reboot=k" },
	{ "ro noapic", "noapic", "ro" },
	{ "noapic ro noapic  -- noapic", "noapic", "ro -- noapic" },
	{ "ro\tnoapic\tx", "noapic", "ro\tx" },
	{ "noapics xnoapic -- noapic", "noapic", NULL },
	{ "a=\"x noapic y\"", "noapic", NULL },
	{ "a=\"x noapic", "noapic", NULL },
	{ "", "noapic", NULL },
	{ "--", "noapic", NULL },
};

START_TEST(test_removal)
{
	const char *line = removals[_i].line, *without = removals[_i].without;
	char buf[64];

	(void)snprintf(buf, sizeof(buf), "%s", line);
	ck_assert_int_eq(cmdline_has_word(line, removals[_i].word), without != NULL);
	ck_assert_int_eq(cmdline_remove_word(buf, removals[_i].word), without != NULL);
	ck_assert_str_eq(buf, without != NULL ? without : line);
}
END_TEST

CHECK_MAIN("legacy", CHECK_TABLE(test_kernels, kernels); CHECK_TEST(test_packed);
	   CHECK_TEST(test_insert_bounds); CHECK_TABLE(test_removal, removals))
