/* SPDX-License-Identifier: Apache-2.0 */
/* ELF kernels: PVH and 64-bit entry, and every header field spoiled (T-K1, T-K2). */
#include "../../src/loader/x86/x86.h"
#include "harness/check_main.h"
#include "harness/fake_kernel.h"

#define RAM MIB(64)

static void check_segments(struct fake_guest *g, const uint8_t *image)
{
	static const uint8_t zeroes[0x1000];

	ck_assert_int_eq(memcmp(fake_guest_at(g, FAKE_ELF_GPA, 0x1000), image + 0x1000, 0x1000), 0);
	ck_assert_int_eq(memcmp(fake_guest_at(g, MIB(3), 0x1000), image + 0x2000, 0x1000), 0);
	ck_assert_int_eq(memcmp(fake_guest_at(g, MIB(3) + 0x1000, 0x1000), zeroes, 0x1000), 0);
}

START_TEST(test_pvh)
{
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;
	const uint8_t *info, *map;

	fake_elf(image, true);
	fake_guest_init(&g, RAM);
	check_ok(fake_guest_load(&g, image, sizeof(image)), &g.e);
	ck_assert_int_eq(g.entry.protocol, BOOT_PVH);
	ck_assert_uint_eq(g.entry.entry, FAKE_ELF_PVH);
	ck_assert_uint_eq(g.entry.page_tables, 0);
	check_segments(&g, image);

	/* struct hvm_start_info */
	info = fake_guest_at(&g, g.entry.info, 56);
	ck_assert_uint_eq(load_le32(info), 0x336ec578);
	ck_assert_uint_eq(load_le32(info + 4), 1);
	ck_assert_uint_eq(load_le32(info + 8), 0);
	ck_assert_uint_eq(load_le32(info + 12), 0);
	ck_assert_uint_eq(load_le64(info + 16), 0);
	ck_assert_str_eq((const char *)fake_guest_at(&g, load_le64(info + 24), 64),
			 "console=ttyS0");
	ck_assert_uint_eq(load_le64(info + 32), PLATFORM_ACPI);
	ck_assert_uint_eq(load_le32(info + 48), 4);
	map = fake_guest_at(&g, load_le64(info + 40), 4UL * 24);
	for (int i = 0; i < 4; i++) {
		static const uint64_t expected[4][3] = {
			{ 0, PLATFORM_EBDA, 1 },
			{ PLATFORM_EBDA, MIB(1) - PLATFORM_EBDA, 2 },
			{ MIB(1), RAM - MIB(1), 1 },
			{ PLATFORM_PCI_ECAM, PLATFORM_PCI_ECAM_SIZE, 2 },
		};

		ck_assert_uint_eq(load_le64(map + 24UL * i), expected[i][0]);
		ck_assert_uint_eq(load_le64(map + 24UL * i + 8), expected[i][1]);
		ck_assert_uint_eq(load_le32(map + 24UL * i + 16), expected[i][2]);
		ck_assert_uint_eq(load_le32(map + 24UL * i + 20), 0);
	}
	fake_guest_finish(&g);
}
END_TEST

START_TEST(test_entry64)
{
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;
	struct boot_params params;

	fake_elf(image, false);
	fake_guest_init(&g, RAM);
	check_ok(fake_guest_load(&g, image, sizeof(image)), &g.e);
	ck_assert_int_eq(g.entry.protocol, BOOT_LINUX64);
	ck_assert_uint_eq(g.entry.entry, FAKE_ELF_ENTRY);
	check_segments(&g, image);
	memcpy(&params, fake_guest_at(&g, g.entry.info, sizeof(params)), sizeof(params));
	ck_assert_uint_eq(params.hdr.boot_flag, 0xaa55);
	ck_assert_uint_eq(params.hdr.header, 0x53726448);
	ck_assert_uint_ge(params.hdr.version, 0x20c);
	ck_assert_uint_eq(params.hdr.type_of_loader, 0xff);
	ck_assert_uint_eq(params.hdr.cmd_line_ptr, PLATFORM_CMDLINE);
	fake_guest_finish(&g);
}
END_TEST

/* Guest RAM on both sides of the hole, and a second load of the same files. */
START_TEST(test_high_memory_and_reset)
{
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;
	const uint8_t *info, *last;

	fake_elf(image, true);
	fake_guest_init(&g, GIB(4));
	for (int i = 0; i < 2; i++) {
		check_ok(fake_guest_load(&g, image, sizeof(image)), &g.e);
		check_segments(&g, image);
		info = fake_guest_at(&g, g.entry.info, 56);
		ck_assert_uint_eq(load_le32(info + 48), 5);
		last = fake_guest_at(&g, load_le64(info + 40), 4UL * 24) + 48;
		ck_assert_uint_eq(load_le64(last) + load_le64(last + 8), PLATFORM_RAM_LOW_END);
		ck_assert_uint_eq(load_le64(last + 24), PLATFORM_RAM_HIGH_START);
		ck_assert_uint_eq(load_le64(last + 32), GIB(1));
	}
	fake_guest_finish(&g);
}
END_TEST

/* One spoiled field and the words that the refusal must have. */
static const struct {
	size_t offset, size;
	uint64_t value;
	const char *text;
} spoiled[] = {
#define EHDR(member, value, text)                                                                 \
	{                                                                                         \
		offsetof(struct fake_elf, ehdr.member), sizeof(((Elf64_Ehdr *)0)->member), value, \
			text                                                                      \
	}
#define PHDR(i, member, value, text)                                                          \
	{                                                                                     \
		offsetof(struct fake_elf, phdr[i].member), sizeof(((Elf64_Phdr *)0)->member), \
			value, text                                                           \
	}
	EHDR(e_type, ET_REL, "not an executable"),
	EHDR(e_type, ET_CORE, "not an executable"),
	EHDR(e_machine, EM_AARCH64, "arm64"),
	EHDR(e_machine, EM_386, "a 32-bit ELF file for x86"),
	EHDR(e_machine, EM_RISCV, "RISC-V"),
	EHDR(e_machine, 0xbeef, "machine 48879"),
	EHDR(e_ident[EI_CLASS], ELFCLASS32, "32-bit ELF"),
	EHDR(e_ident[EI_VERSION], 7, "damaged"),
	EHDR(e_phnum, 0, "no program headers"),
	EHDR(e_phnum, 0xffff, "program headers"),
	EHDR(e_phentsize, 55, "55 bytes instead of 56"),
	EHDR(e_phoff, FAKE_ELF_SIZE, "beyond"),
	EHDR(e_phoff, UINT64_MAX, "beyond"),
	EHDR(e_phoff, UINT64_MAX - 111, "beyond"),
	EHDR(e_entry, 0, "entry point 0x0"),
	EHDR(e_entry, FAKE_ELF_GPA + 0x1000, "entry point"),
	EHDR(e_entry, 0xffffffff80200010, "entry points are physical"),
	PHDR(0, p_type, PT_INTERP, "a program for an operating system"),
	PHDR(0, p_offset, FAKE_ELF_SIZE - 0xfff, "truncated"),
	PHDR(0, p_offset, UINT64_MAX, "truncated"),
	PHDR(0, p_filesz, UINT64_MAX, "truncated"),
	PHDR(0, p_filesz, 0x1001, "more bytes in the file (4097) than in memory (4096)"),
	PHDR(0, p_memsz, 0xfff, "more bytes in the file"),
	PHDR(0, p_memsz, UINT64_MAX, "wraps"),
	PHDR(0, p_memsz, RAM, "outside RAM (0-0x4000000)"),
	PHDR(0, p_memsz, MIB(1) + 1, "overlap: 0x200000-0x300001 and 0x300000-0x302000"),
	PHDR(0, p_paddr, 0, "below 1 MiB"),
	PHDR(0, p_paddr, PLATFORM_BOOT_PARAMS, "below 1 MiB"),
	PHDR(0, p_paddr, PLATFORM_PAGE_TABLES, "below 1 MiB"),
	PHDR(0, p_paddr, PLATFORM_ACPI, "below 1 MiB"),
	PHDR(0, p_paddr, RAM - 0xfff, "--memory 65M"),
	PHDR(0, p_paddr, PLATFORM_VIRTIO_MMIO, "never RAM"),
	PHDR(0, p_paddr, GIB(4), "outside RAM"),
	PHDR(0, p_paddr, UINT64_MAX - 0xfff, "wraps"),
	PHDR(0, p_paddr, 0xffffffff80000000, "outside RAM"),
	PHDR(0, p_paddr, MIB(3) + 0x1000, "overlap"),
	PHDR(1, p_paddr, FAKE_ELF_GPA, "overlap"),
};

START_TEST(test_spoiled)
{
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;
	int r;

	fake_elf(image, false);
	store_le(image + spoiled[_i].offset, spoiled[_i].value, spoiled[_i].size);
	fake_guest_init(&g, RAM);
	r = fake_guest_load(&g, image, sizeof(image));
	ck_assert_int_lt(r, 0);
	fake_guest_check(&g, r);
	check_error(&g.e, ERROR_KERNEL_IMAGE, spoiled[_i].text);
	fake_guest_finish(&g);
}
END_TEST

/* T-K1: any 16, 32 or 64 bits of the headers become any boundary value: refused or loaded, never
 * worse. */
START_TEST(test_any_field)
{
	static const uint64_t values[] = { 0,
					   1,
					   63,
					   64,
					   FAKE_ELF_SIZE - 1,
					   FAKE_ELF_SIZE,
					   0x7fff,
					   0xffff,
					   0x7fffffff,
					   0x80000000,
					   0xffffffff,
					   1ULL << 32,
					   1ULL << 63,
					   (1ULL << 63) - 1,
					   UINT64_MAX,
					   UINT64_MAX - 0xfff,
					   RAM,
					   RAM - 1 };
	static const size_t widths[] = { 2, 4, 8 };
	size_t width = widths[_i];
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;

	fake_guest_init(&g, RAM);
	for (size_t at = 0; at + width <= sizeof(struct fake_elf); at += width) {
		for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
			fake_elf(image, true);
			store_le(image + at, values[i], width);
			fake_guest_check(&g, fake_guest_load(&g, image, sizeof(image)));
		}
	}
	fake_guest_finish(&g);
}
END_TEST

START_TEST(test_truncated)
{
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;
	int r;

	fake_elf(image, true);
	fake_guest_init(&g, RAM);
	for (size_t len = 0; len < sizeof(image); len += 64) {
		r = fake_guest_load(&g, image, len);
		ck_assert_int_lt(r, 0);
		fake_guest_check(&g, r);
	}
	fake_guest_finish(&g);
}
END_TEST

START_TEST(test_many_segments)
{
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;
	Elf64_Ehdr ehdr;

	fake_elf(image, false);
	memcpy(&ehdr, image, sizeof(ehdr));
	for (unsigned int n = ELF_SEGMENTS_MAX; n <= ELF_SEGMENTS_MAX + 1; n++) {
		ehdr.e_phnum = (uint16_t)n;
		memcpy(image, &ehdr, sizeof(ehdr));
		for (unsigned int i = 0; i < n; i++) {
			Elf64_Phdr phdr = { .p_type = PT_LOAD,
					    .p_paddr = FAKE_ELF_GPA + 0x1000UL * i,
					    .p_offset = i,
					    .p_filesz = 0x100,
					    .p_memsz = 0x1000 };

			memcpy(image + ehdr.e_phoff + i * sizeof(phdr), &phdr, sizeof(phdr));
		}
		fake_guest_init(&g, RAM);
		if (n <= ELF_SEGMENTS_MAX) {
			check_ok(fake_guest_load(&g, image, sizeof(image)), &g.e);
		} else {
			ck_assert_int_lt(fake_guest_load(&g, image, sizeof(image)), 0);
			check_error(&g.e, ERROR_KERNEL_IMAGE, "more than 64");
		}
		fake_guest_finish(&g);
	}
}
END_TEST

START_TEST(test_empty_segments)
{
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;

	/* As linkers leave them: without bytes, at any address. */
	fake_elf(image, false);
	fake_elf_headers(image)->phdr[1] = (Elf64_Phdr){ .p_type = PT_LOAD };
	fake_guest_init(&g, RAM);
	check_ok(fake_guest_load(&g, image, sizeof(image)), &g.e);
	fake_elf_headers(image)->phdr[0].p_type = PT_NULL;
	ck_assert_int_lt(fake_guest_load(&g, image, sizeof(image)), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "nothing to load");
	fake_guest_finish(&g);
}
END_TEST

START_TEST(test_notes)
{
	uint8_t notes[64];
	gpa_t entry = 0;
	size_t len = fake_note(notes, "Xen", 18, 0x1000850, 4);

	ck_assert(elf_find_pvh(notes, len, 4, &entry));
	ck_assert_uint_eq(entry, 0x1000850);
	len = fake_note(notes, "Xen", 18, 0x123456789, 8);
	ck_assert(elf_find_pvh(notes, len, 4, &entry));
	ck_assert_uint_eq(entry, 0x123456789);
	for (size_t cut = 0; cut < len; cut++) {
		ck_assert(!elf_find_pvh(notes, cut, 4, &entry));
	}
	/* another owner, another type, another size */
	ck_assert(!elf_find_pvh(notes, fake_note(notes, "Xeo", 18, 1, 8), 4, &entry));
	ck_assert(!elf_find_pvh(notes, fake_note(notes, "Xen", 17, 1, 8), 4, &entry));
	ck_assert(!elf_find_pvh(notes, fake_note(notes, "Xen", 18, 1, 6), 4, &entry));
	ck_assert(!elf_find_pvh(notes, fake_note(notes, "Xen", 18, 1, 0), 4, &entry));
	for (int i = 0; i < 3; i++) {
		len = fake_note(notes, "Xen", 1, 1, 8);
		store_le32(notes + 4 * (size_t)i, 0xffffffff - (uint32_t)i);
		ck_assert(!elf_find_pvh(notes, len, _i == 0 ? 4 : 8, &entry));
	}
}
END_TEST

/* A PVH entry that points nowhere is refused, not replaced by another. */
START_TEST(test_pvh_entry)
{
	static const uint64_t entries[] = { 0, MIB(1), FAKE_ELF_GPA + 0x1000, GIB(4) + FAKE_ELF_GPA,
					    UINT64_MAX };
	uint8_t image[FAKE_ELF_SIZE];
	struct fake_guest g;

	fake_elf(image, true);
	fake_note(image + FAKE_ELF_NOTES, "Xen", 18, entries[_i], 8);
	fake_guest_init(&g, RAM);
	ck_assert_int_lt(fake_guest_load(&g, image, sizeof(image)), 0);
	check_error(&g.e, ERROR_KERNEL_IMAGE, "PVH entry point");
	fake_guest_finish(&g);
}
END_TEST

CHECK_MAIN("elf", CHECK_TEST(test_pvh); CHECK_TEST(test_entry64);
	   CHECK_TEST(test_high_memory_and_reset); CHECK_TABLE(test_spoiled, spoiled);
	   CHECK_LOOP(test_any_field, 3); CHECK_TEST(test_truncated);
	   CHECK_TEST(test_many_segments); CHECK_TEST(test_empty_segments);
	   CHECK_LOOP(test_notes, 2); CHECK_LOOP(test_pvh_entry, 5))
