/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzImage by the 64-bit boot protocol: the header's fields at their limits (T-K3), kernels unpacked
 * here, damaged payloads, and the real kernels of a directory if VMM_TEST_KERNEL_DIR names one
 * (files vmlinuz and vmlinux, as fetch-kernel makes it).
 */
#include "../../src/loader/x86/x86.h"
#include "harness/check_main.h"
#include "harness/fake_kernel.h"

#include <fcntl.h>

#define RAM MIB(64)

static struct fake_guest guest;
static uint8_t image[FAKE_BZIMAGE_SIZE];

static void setup(void)
{
	fake_guest_init(&guest, RAM);
	fake_bzimage(image, sizeof(image));
}

static void teardown(void)
{
	fake_guest_finish(&guest);
}

static void check_code(const uint8_t *bytes, gpa_t gpa)
{
	ck_assert_int_eq(memcmp(fake_guest_at(&guest, gpa, FAKE_CODE_SIZE),
				bytes + FAKE_CODE_OFFSET, FAKE_CODE_SIZE),
			 0);
}

START_TEST(test_loads)
{
	struct setup_header hdr = fake_header_get(image);
	struct boot_params params;

	check_ok(fake_guest_load(&guest, image, sizeof(image)), &guest.e);
	ck_assert_int_eq(guest.entry.protocol, BOOT_LINUX64);
	ck_assert_uint_eq(guest.entry.entry, FAKE_PREF + 0x200);
	check_code(image, FAKE_PREF);
	memcpy(&params, fake_guest_at(&guest, guest.entry.info, sizeof(params)), sizeof(params));

	/* What a loader writes; the rest of the header is the image's own. */
	hdr.type_of_loader = 0xff;
	hdr.vid_mode = 0xffff;
	hdr.code32_start = (uint32_t)FAKE_PREF;
	hdr.cmd_line_ptr = PLATFORM_CMDLINE;
	ck_assert_int_eq(memcmp(&params.hdr, &hdr, sizeof(hdr)), 0);
	ck_assert_uint_eq(params.sentinel, 0);
	ck_assert_uint_eq(params.acpi_rsdp_addr, PLATFORM_ACPI);
	ck_assert_uint_eq(params.e820_entries, 4);
	ck_assert_uint_eq(params.e820_table[1].addr, PLATFORM_EBDA);
	ck_assert_uint_eq(params.e820_table[1].type, 2);
	ck_assert_uint_eq(params.e820_table[2].addr + params.e820_table[2].size, RAM);
	ck_assert_uint_eq(params.e820_table[3].addr, PLATFORM_PCI_ECAM);
	ck_assert_uint_eq(params.e820_table[3].size, PLATFORM_PCI_ECAM_SIZE);
	ck_assert_uint_eq(params.e820_table[3].type, 2);
	ck_assert_str_eq((const char *)fake_guest_at(&guest, PLATFORM_CMDLINE, 32),
			 "console=ttyS0");
}
END_TEST

/* Walks the page tables as a CPU does. */
static gpa_t walk(gpa_t cr3, uint64_t linear)
{
	gpa_t table = cr3;
	uint64_t entry = 0;

	for (int shift = 39; shift >= 21; shift -= 9) {
		entry = load_le64(fake_guest_at(&guest, table + (linear >> shift) % 512 * 8, 8));
		ck_assert_uint_eq(entry & 3, 3);
		table = entry & 0xffffffffff000;
	}
	ck_assert_uint_ne(entry & 0x80, 0);
	return table + linear % MIB(2);
}

START_TEST(test_long_mode)
{
	static const uint64_t addresses[] = { 0,	  0x7fff,
					      FAKE_PREF,  PLATFORM_VIRTIO_MMIO,
					      0xfee00000, 0xffffffff };
	const uint8_t *gdt;

	check_ok(fake_guest_load(&guest, image, sizeof(image)), &guest.e);
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		ck_assert_uint_eq(walk(guest.entry.page_tables, addresses[i]), addresses[i]);
	}
	ck_assert_uint_ge(guest.entry.gdt_limit, 0x1f);
	gdt = fake_guest_at(&guest, guest.entry.gdt, guest.entry.gdt_limit + 1U);
	ck_assert_uint_eq(load_le64(gdt), 0);
	/* present, ring 0: 64-bit code at 0x10, writable data at 0x18, both flat */
	ck_assert_uint_eq(load_le64(gdt + 0x10), 0x00af9b000000ffff);
	ck_assert_uint_eq(load_le64(gdt + 0x18), 0x00cf93000000ffff);
}
END_TEST

/* One field of the header, the value, and the refusal's words; NULL: it loads, at `load` if that is
 * not 0. */
static const struct {
	size_t offset, size;
	uint64_t value;
	const char *text;
	gpa_t load;
} fields[] = {
#define FIELD(member, value, text, load)                                              \
	{                                                                             \
		FAKE_HDR + offsetof(struct setup_header, member),                     \
			sizeof(((struct setup_header *)0)->member), value, text, load \
	}
	FIELD(version, 0x0200, "boot protocol 2.00 is too old", 0),
	FIELD(version, 0x0205, "boot protocol 2.05 is too old", 0),
	FIELD(version, 0x0206, "32-bit only kernel", 0),
	FIELD(version, 0x020b, "32-bit only kernel", 0),
	FIELD(version, 0x020c, NULL, FAKE_PREF),
	FIELD(version, 0xffff, NULL, FAKE_PREF),
	FIELD(loadflags, 0, "zImage", 0),
	FIELD(xloadflags, 0, "32-bit only kernel", 0),
	FIELD(xloadflags, 0xffff & ~XLF_KERNEL_64, "32-bit only kernel", 0),
	FIELD(xloadflags, XLF_KERNEL_64, NULL, FAKE_PREF),
	FIELD(setup_sects, 0, NULL, FAKE_PREF), /* means 4 */
	FIELD(setup_sects, 5, "truncated: its header promises 7168 bytes, the file has 6656", 0),
	FIELD(setup_sects, 255, "truncated", 0),
	FIELD(syssize, 0, "code has only 0 bytes", 0),
	FIELD(syssize, 0x200 / 16, "code has only 512 bytes", 0),
	FIELD(syssize, 0x200 / 16 + 1, NULL, FAKE_PREF),
	FIELD(syssize, FAKE_CODE_SIZE / 16 + 1, "truncated", 0),
	FIELD(syssize, 0xffffffff, "truncated", 0),
	FIELD(payload_length, 0xffffffff, NULL, FAKE_PREF), /* without an offset there is none */
	FIELD(kernel_alignment, 0, "kernel_alignment 0x0", 0),
	FIELD(kernel_alignment, 3, "kernel_alignment 0x3", 0),
	FIELD(kernel_alignment, 0x201000, "not a power of two", 0),
	FIELD(kernel_alignment, 0x80000000, "kernel_alignment", 0),
	FIELD(kernel_alignment, 0x40000000, "--memory 1032M", 0),
	FIELD(kernel_alignment, MIB(32), NULL, MIB(32)),
	FIELD(kernel_alignment, 4096, NULL, FAKE_PREF),
	FIELD(pref_address, 0, NULL, MIB(2)),
	FIELD(pref_address, 1, NULL, MIB(2)),
	FIELD(pref_address, MIB(56), NULL, MIB(56)),
	FIELD(pref_address, MIB(56) + 1, "0x3a00000-0x4200000", 0),
	FIELD(pref_address, MIB(64), "--memory 72M", 0),
	FIELD(pref_address, PLATFORM_RAM_LOW_END - 1, "is not in low RAM", 0),
	FIELD(pref_address, PLATFORM_RAM_LOW_END - MIB(4), "no amount of memory helps", 0),
	FIELD(pref_address, UINT64_MAX, "is not in low RAM", 0),
	FIELD(pref_address, GIB(4) + FAKE_PREF, "is not in low RAM", 0),
	FIELD(init_size, 0, NULL, FAKE_PREF),
	FIELD(init_size, RAM - FAKE_PREF, NULL, FAKE_PREF),
	FIELD(init_size, RAM - FAKE_PREF + 1, "--memory 65M", 0),
	FIELD(init_size, 0xffffffff, "no amount of memory helps", 0),
	FIELD(relocatable_kernel, 0, NULL, FAKE_PREF),
	FIELD(initrd_addr_max, 0, NULL, FAKE_PREF),
	FIELD(setup_data, 0x1234, NULL, FAKE_PREF),
	FIELD(jump, 0x10eb, "32-bit only kernel", 0), /* a header that ends before xloadflags */
	FIELD(jump, 0xffeb, NULL, FAKE_PREF),
};

START_TEST(test_fields)
{
	int r;

	store_le(image + fields[_i].offset, fields[_i].value, fields[_i].size);
	r = fake_guest_load(&guest, image, sizeof(image));
	fake_guest_check(&guest, r);
	if (fields[_i].text != NULL) {
		ck_assert_int_lt(r, 0);
		check_error(&guest.e, ERROR_KERNEL_IMAGE, fields[_i].text);
	} else {
		struct boot_params *params;

		check_ok(r, &guest.e);
		ck_assert_uint_eq(guest.entry.entry, fields[_i].load + 0x200);
		params = (void *)fake_guest_at(&guest, guest.entry.info, sizeof(*params));
		ck_assert_uint_eq(params->hdr.setup_data, 0);
	}
}
END_TEST

/* Any 1, 2, 4 or 8 bytes of the header become any boundary value: refused or loaded, never worse.
 */
START_TEST(test_any_field)
{
	static const uint64_t values[] = { 0,
					   1,
					   4,
					   127,
					   128,
					   255,
					   0x1ff,
					   0x200,
					   0x7fff,
					   0xffff,
					   FAKE_BZIMAGE_SIZE,
					   0x7fffffff,
					   0x80000000,
					   0xffffffff,
					   1ULL << 63,
					   UINT64_MAX,
					   RAM,
					   RAM - 1 };
	size_t width = 1U << _i;

	for (size_t at = FAKE_HDR; at + width <= FAKE_HDR + sizeof(struct setup_header); at++) {
		for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
			fake_bzimage(image, sizeof(image));
			store_le(image + at, values[i], width);
			int r = fake_guest_load(&guest, image, sizeof(image));

			if (r != 0 && guest.e.code == ERROR_CMDLINE) {
				continue; /* cmdline_size became small */
			}
			fake_guest_check(&guest, r);
		}
	}
}
END_TEST

START_TEST(test_truncated)
{
	int r;

	for (size_t len = 0; len < sizeof(image); len += 64) {
		r = fake_guest_load(&guest, image, len);
		ck_assert_int_lt(r, 0);
		fake_guest_check(&guest, r);
	}
	/* syssize is rounded up: the last paragraph may be short */
	check_ok(fake_guest_load(&guest, image, sizeof(image) - 15), &guest.e);
	ck_assert_int_lt(fake_guest_load(&guest, image, sizeof(image) - 16), 0);
}
END_TEST

START_TEST(test_signed)
{
	uint8_t longer[FAKE_BZIMAGE_SIZE + 1000];

	/* A signature behind the code is not loaded. */
	memcpy(longer, image, sizeof(image));
	memset(longer + sizeof(image), 0xee, 1000);
	check_ok(fake_guest_load(&guest, longer, sizeof(longer)), &guest.e);
	check_code(longer, FAKE_PREF);
	ck_assert_uint_eq(*fake_guest_at(&guest, FAKE_PREF + FAKE_CODE_SIZE, 1), 0);
}
END_TEST

/* An lz4 encoder that is as greedy as it is simple: one block of at most 8 MiB. */
static size_t put_length(uint8_t *to, size_t length)
{
	size_t n = 0;

	for (length -= 15; length >= 255; length -= 255) {
		to[n++] = 255;
	}
	to[n++] = (uint8_t)length;
	return n;
}

static size_t put_sequence(uint8_t *to, const uint8_t *literals, size_t count, size_t offset,
			   size_t match)
{
	size_t n = 1;

	to[0] = (uint8_t)(MIN(count, (size_t)15) << 4);
	if (count >= 15) {
		n += put_length(to + n, count);
	}
	memcpy(to + n, literals, count);
	n += count;
	if (offset != 0) {
		to[0] |= (uint8_t)MIN(match - 4, (size_t)15);
		store_le16(to + n, (uint16_t)offset);
		n += 2;
		if (match - 4 >= 15) {
			n += put_length(to + n, match - 4);
		}
	}
	return n;
}

static size_t put_block(uint8_t *to, const uint8_t *from, size_t len)
{
	static uint32_t last[65536];
	size_t n = 4, at = 0, literals = 0;

	memset(last, 0, sizeof(last));
	while (at + 12 < len) {
		uint32_t hash = load_le32(from + at) * 2654435761U >> 16;
		size_t candidate = last[hash];
		size_t match = 0;

		last[hash] = (uint32_t)at;
		if (candidate < at && at - candidate < 65536) {
			while (at + match < len - 5 &&
			       from[candidate + match] == from[at + match]) {
				match++;
			}
		}
		if (match < 4) {
			at++;
			continue;
		}
		n += put_sequence(to + n, from + literals, at - literals, at - candidate, match);
		at += match;
		literals = at;
	}
	n += put_sequence(to + n, from + literals, len - literals, 0, 0);
	store_le32(to, (uint32_t)(n - 4));
	return n;
}

static size_t put_frame(uint8_t *to, const uint8_t *from, size_t len)
{
	size_t n = 4;

	store_le32(to, 0x184c2102);
	for (size_t at = 0; at < len; at += MIB(8)) {
		n += put_block(to + n, from + at, MIN(len - at, (size_t)MIB(8)));
	}
	return n;
}

/* A bzImage around an ELF file; to be freed. `payload` gets the payload's offset. */
static uint8_t *packed(const uint8_t *elf, size_t elf_len, size_t *len, size_t *payload)
{
	size_t max = FAKE_CODE_OFFSET + 0x300 + elf_len + elf_len / 128 + 4096;
	uint8_t *bytes = calloc(1, max);
	struct setup_header hdr;
	size_t n;

	ck_assert_ptr_nonnull(bytes);
	*payload = FAKE_CODE_OFFSET + 0x300;
	n = put_frame(bytes + *payload, elf, elf_len);
	store_le32(bytes + *payload + n, (uint32_t)elf_len);
	n += 4;
	*len = FAKE_CODE_OFFSET + ALIGN_UP(0x300 + n, 16);
	ck_assert_uint_le(*len, max);
	fake_bzimage(image, sizeof(image));
	hdr = fake_header_get(image);
	hdr.syssize = (uint32_t)((*len - FAKE_CODE_OFFSET) / 16);
	hdr.payload_offset = 0x300;
	hdr.payload_length = (uint32_t)n;
	memcpy(bytes, image, FAKE_CODE_OFFSET);
	fake_header_put(bytes, &hdr);
	return bytes;
}

static void check_elf_loaded(const uint8_t *elf)
{
	ck_assert_int_eq(guest.entry.protocol, BOOT_LINUX64);
	ck_assert_uint_eq(guest.entry.entry, FAKE_ELF_ENTRY);
	ck_assert_int_eq(memcmp(fake_guest_at(&guest, FAKE_ELF_GPA, 0x1000), elf + 0x1000, 0x1000),
			 0);
	ck_assert_int_eq(memcmp(fake_guest_at(&guest, MIB(3), 0x1000), elf + 0x2000, 0x1000), 0);
}

START_TEST(test_unpacks)
{
	uint8_t elf[FAKE_ELF_SIZE];
	struct boot_params params;
	size_t len, payload;
	uint8_t *bytes;

	fake_elf(elf, _i == 1); /* the note makes no difference: 64-bit entry with the image's own
				   header */
	bytes = packed(elf, sizeof(elf), &len, &payload);
	check_ok(fake_guest_load(&guest, bytes, len), &guest.e);
	check_elf_loaded(elf);
	memcpy(&params, fake_guest_at(&guest, guest.entry.info, sizeof(params)), sizeof(params));
	ck_assert_uint_eq(params.hdr.version, 0x20f);
	ck_assert_uint_eq(params.hdr.cmdline_size, 2047);
	ck_assert_uint_eq(params.hdr.loadflags & KASLR_FLAG, 0);
	free(bytes);
}
END_TEST

/* 20 MiB: several blocks, long and short matches, patterns of each small distance, zeroes, and
 * bytes that do not pack. */
START_TEST(test_unpacks_much)
{
	const size_t size = MIB(20) + 12345;
	uint8_t *elf = calloc(1, size + 4096);
	size_t len, payload;
	uint8_t *bytes;

	fake_elf(elf, false);
	fake_elf_headers(elf)->phdr[1].p_paddr = MIB(4);
	fake_elf_headers(elf)->phdr[1].p_offset = 0x2003;
	fake_elf_headers(elf)->phdr[1].p_filesz = size - 0x2003;
	fake_elf_headers(elf)->phdr[1].p_memsz = size;
	fake_fill(elf + 0x2000, MIB(3), 9);
	for (size_t distance = 1; distance < 40; distance++) {
		size_t at = MIB(4) + distance * KIB(70);

		fake_fill(elf + at, distance, (uint32_t)distance);
		for (size_t i = distance; i < KIB(distance) + 77; i++) {
			elf[at + i] = elf[at + i - distance];
		}
	}
	for (size_t at = MIB(8) - 99; at < size; at += 3 + elf[at - 1] % 64) {
		fake_fill(elf + at, 1 + at % 7, (uint32_t)at % 11);
	}
	bytes = packed(elf, size, &len, &payload);
	check_ok(fake_guest_load(&guest, bytes, len), &guest.e);
	ck_assert_int_eq(
		memcmp(fake_guest_at(&guest, MIB(4), size - 0x2003), elf + 0x2003, size - 0x2003),
		0);
	free(bytes);
	free(elf);
}
END_TEST

/* Each byte of a payload spoiled in turn, and the payload cut at each byte. */
START_TEST(test_damaged_payload)
{
	static const uint8_t xors[] = { 0x01, 0x80, 0xf0, 0x0f, 0xff };
	uint8_t elf[FAKE_ELF_SIZE];
	size_t len, payload, end;
	uint8_t *bytes;

	fake_elf(elf, false);
	memset(elf + 0x1040, 0x55, 0xf00); /* mostly matches: a short payload */
	memset(elf + 0x2040, 0x66, 0xf00);
	bytes = packed(elf, sizeof(elf), &len, &payload);
	ck_assert_uint_lt(len - payload, 1024);
	for (size_t at = payload; at < len; at++) {
		for (size_t i = 0; i < ARRAY_SIZE(xors); i++) {
			bytes[at] ^= xors[i];
			fake_guest_check(&guest, fake_guest_load(&guest, bytes, len));
			bytes[at] ^= xors[i];
		}
	}
	end = payload + fake_header_get(bytes).payload_length;
	for (size_t cut = payload + 9; cut < end; cut++) {
		struct setup_header hdr = fake_header_get(bytes);
		int r;

		hdr.payload_length = (uint32_t)(cut - payload);
		fake_header_put(bytes, &hdr);
		r = fake_guest_load(&guest, bytes, len);
		ck_assert_int_lt(r, 0);
		fake_guest_check(&guest, r);
	}
	free(bytes);
}
END_TEST

/* What the last four bytes of the payload promise. */
static const struct {
	uint32_t size;
	const char *text;
} promises[] = {
	{ 0, "announces 0 bytes" },
	{ 63, "announces 63 bytes" },
	{ FAKE_ELF_SIZE - 1, "unpacks to more than the 12287 bytes" },
	{ FAKE_ELF_SIZE + 1, "unpacks to 12288 bytes instead of the 12289" },
	{ 256U << 20, "unpacks to 12288 bytes instead of" },
	{ (256U << 20) + 1, "the limit is 268435456" },
	{ 0xffffffff, "the limit is 268435456" },
};

START_TEST(test_promised_size)
{
	uint8_t elf[FAKE_ELF_SIZE];
	size_t len, payload;
	uint8_t *bytes;
	int r;

	fake_elf(elf, false);
	bytes = packed(elf, sizeof(elf), &len, &payload);
	store_le32(bytes + payload + fake_header_get(bytes).payload_length - 4, promises[_i].size);
	r = fake_guest_load(&guest, bytes, len);
	ck_assert_int_lt(r, 0);
	fake_guest_check(&guest, r);
	check_error(&guest.e, ERROR_KERNEL_IMAGE, promises[_i].text);
	free(bytes);
}
END_TEST

START_TEST(test_payload_bounds)
{
	static const uint32_t bounds[][2] = {
		{ FAKE_CODE_SIZE, 1 },	    { FAKE_CODE_SIZE - 1, 2 }, { 1, FAKE_CODE_SIZE },
		{ 0xffffffff, 0xffffffff }, { 0xffffffff, 1 },	       { 1, 0xffffffff },
	};
	struct setup_header hdr = fake_header_get(image);

	hdr.payload_offset = bounds[_i][0];
	hdr.payload_length = bounds[_i][1];
	fake_header_put(image, &hdr);
	ck_assert_int_lt(fake_guest_load(&guest, image, sizeof(image)), 0);
	check_error(&guest.e, ERROR_KERNEL_IMAGE, "lies outside its code");
}
END_TEST

/* A packing that is left to the guest, whatever it holds. */
START_TEST(test_other_packing)
{
	struct setup_header hdr = fake_header_get(image);

	hdr.payload_offset = 0x300;
	hdr.payload_length = _i == 0 ? 0x100 : (uint32_t)_i;
	fake_header_put(image, &hdr);
	store_le32(image + FAKE_CODE_OFFSET + 0x300, 0x587a37fd);
	check_ok(fake_guest_load(&guest, image, sizeof(image)), &guest.e);
	ck_assert_uint_eq(guest.entry.entry, FAKE_PREF + 0x200);
	check_code(image, FAKE_PREF);
}
END_TEST

struct collector {
	struct unpack_sink sink;
	uint8_t data[256];
	size_t len;
};

static int collect(struct unpack_sink *sink, const uint8_t *data, size_t len, struct error *e)
{
	struct collector *c = container_of(sink, struct collector, sink);

	(void)e;
	ck_assert_uint_le(len, sizeof(c->data) - c->len);
	memcpy(c->data + c->len, data, len);
	c->len += len;
	return 0;
}

/* Frames by hand, after the specification; out NULL: refused with `text`. */
static const struct {
	const char *frame;
	size_t len;
	const char *out;
	const char *text;
} frames[] = {
#define FRAME(bytes, out, text)                                                           \
	{                                                                                 \
		"\x02\x21\x4c\x18" bytes, sizeof("\x02\x21\x4c\x18" bytes) - 1, out, text \
	}
	FRAME("\x04\0\0\0\x30"
	      "abc",
	      "abc", NULL),
	FRAME("\x05\0\0\0\x10"
	      "a\x01\0\x00",
	      "aaaaa", NULL),
	FRAME("\x05\0\0\0\x20"
	      "ab\x02\0",
	      "ababab", NULL),
	FRAME("\x07\0\0\0\x32"
	      "abc\x03\0\x00",
	      "abcabcabc", NULL),
	FRAME("\x06\0\0\0\x1f"
	      "a\x01\0\x02\x00",
	      "aaaaaaaaaaaaaaaaaaaaaa", NULL),
	FRAME("\x12\0\0\0\xf0\x01"
	      "0123456789abcdef",
	      "0123456789abcdef", NULL),
	FRAME("\x04\0\0\0\x30"
	      "abc"
	      "\x03\0\0\0\x20"
	      "de",
	      "abcde", NULL),
	FRAME("\x02\x21\x4c\x18"
	      "\x02\0\0\0\x10"
	      "a",
	      "a", NULL),
	FRAME("", "", NULL),
	FRAME("\x02\0\0", NULL, "within a block header"),
	FRAME("\0\0\0\0", NULL, "beyond the payload"),
	FRAME("\x05\0\0\0\x30"
	      "abc",
	      NULL, "beyond the payload"),
	FRAME("\xff\xff\xff\xff\x30"
	      "abc",
	      NULL, "beyond the payload"),
	FRAME("\x04\0\0\0\x40"
	      "abcd",
	      NULL, "literals beyond the block"),
	FRAME("\x01\0\0\0\xf0", NULL, "within a sequence"),
	FRAME("\x03\0\0\0\xf0\xff\xff", NULL, "within a sequence"),
	FRAME("\x03\0\0\0\x10"
	      "a\x01",
	      NULL, "within a sequence"),
	FRAME("\x04\0\0\0\x10"
	      "a\0\0",
	      NULL, "a match before the block"),
	FRAME("\x04\0\0\0\x10"
	      "a\x02\0",
	      NULL, "a match before the block"),
	FRAME("\x02\0\0\0\x10"
	      "a"
	      "\x03\0\0\0\x00\x01\0",
	      NULL, "a match before the block"),
	FRAME("\x05\0\0\0\x1f"
	      "a\x01\0\xff",
	      NULL, "within a sequence"),
};

START_TEST(test_frames)
{
	struct loader_image file = { "kernel.test", fake_file(frames[_i].frame, frames[_i].len) };
	struct collector collector = { .sink.write = collect };
	struct source src;
	struct error e;
	int r;

	check_ok(source_init(&src, &file, "kernel", ERROR_KERNEL_IMAGE, &e), &e);
	r = lz4_unpack(&src, 0, frames[_i].len, &collector.sink, &e);
	if (frames[_i].out == NULL) {
		ck_assert_int_lt(r, 0);
		check_error(&e, ERROR_KERNEL_IMAGE, frames[_i].text);
	} else {
		check_ok(r, &e);
		ck_assert_uint_eq(collector.len, strlen(frames[_i].out));
		ck_assert_int_eq(memcmp(collector.data, frames[_i].out, collector.len), 0);
	}
	close(file.fd);
}
END_TEST

/* 260 bytes of input that would be 66 KB of output over and over: stopped at the block's 8 MiB at
 * the latest. */
static uint64_t swallowed;

static int swallow(struct unpack_sink *sink, const uint8_t *data, size_t len, struct error *e)
{
	(void)sink;
	(void)data;
	(void)e;
	swallowed += len;
	return 0;
}

START_TEST(test_bomb)
{
	const size_t len = 4 + 4 + 40000;
	uint8_t *frame = malloc(len);
	struct unpack_sink sink = { swallow };
	struct loader_image file = { "kernel.test", -1 };
	struct source src;
	struct error e;

	memset(frame, 0xff, len);
	store_le32(frame, 0x184c2102);
	store_le32(frame + 4, 40000);
	frame[8] = 0x1f;
	frame[9] = 'a';
	store_le16(frame + 10, 1);
	file.fd = fake_file(frame, len);
	frame[len - 1] = 0; /* ends the length */
	ck_assert_int_eq(pwrite(file.fd, frame, len, 0), (ssize_t)len);
	check_ok(source_init(&src, &file, "kernel", ERROR_KERNEL_IMAGE, &e), &e);
	swallowed = 0;
	ck_assert_int_lt(lz4_unpack(&src, 0, len, &sink, &e), 0);
	check_error(&e, ERROR_KERNEL_IMAGE, "a block of more than 8 MiB");
	ck_assert_uint_le(swallowed, MIB(8));
	close(file.fd);
	free(frame);
}
END_TEST

/* The stock kernel: what is unpacked here is what the distribution's vmlinux has. */
START_TEST(test_real_kernel)
{
	const char *dir = getenv("VMM_TEST_KERNEL_DIR");
	struct loader_image bz = { NULL, -1 }, elf = { NULL, -1 };
	char bz_path[4096], elf_path[4096];
	struct fake_guest a, b;

	if (dir == NULL) {
		CHECK_SKIP("VMM_TEST_KERNEL_DIR is not set (scripts/fetch-kernel prints one)");
	}
	(void)snprintf(bz_path, sizeof(bz_path), "%s/vmlinuz", dir);
	(void)snprintf(elf_path, sizeof(elf_path), "%s/vmlinux", dir);
	fake_guest_init(&a, MIB(256));
	fake_guest_init(&b, MIB(256));
	check_ok(loader_open(&bz, bz_path, ERROR_KERNEL_IMAGE, &a.e), &a.e);
	check_ok(loader_open(&elf, elf_path, ERROR_KERNEL_IMAGE, &b.e), &b.e);
	a.request.kernel = bz;
	b.request.kernel = elf;
	check_ok(loader_load(&a.mem, &a.request, &a.entry, &a.e), &a.e);
	check_ok(loader_load(&b.mem, &b.request, &b.entry, &b.e), &b.e);
	ck_assert_int_eq(a.entry.protocol, BOOT_LINUX64);
	if (a.entry.entry % KIB(4) == 0x200) {
		fprintf(stderr, "# %s: unpacked by the guest\n", bz_path);
	} else {
		ck_assert_int_eq(memcmp(fake_guest_at(&a, MIB(1), MIB(255)),
					fake_guest_at(&b, MIB(1), MIB(255)), MIB(255)),
				 0);
	}
	close(bz.fd);
	close(elf.fd);
	fake_guest_finish(&a);
	fake_guest_finish(&b);
}
END_TEST

CHECK_MAIN("bzimage", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_loads);
	   CHECK_TEST(test_long_mode); CHECK_TABLE(test_fields, fields);
	   CHECK_LOOP(test_any_field, 4); CHECK_TEST(test_truncated); CHECK_TEST(test_signed);
	   CHECK_LOOP(test_unpacks, 2); CHECK_TEST(test_unpacks_much);
	   CHECK_TEST(test_damaged_payload); CHECK_TABLE(test_promised_size, promises);
	   CHECK_LOOP(test_payload_bounds, 6); CHECK_LOOP(test_other_packing, 10);
	   CHECK_TABLE(test_frames, frames); CHECK_TEST(test_bomb); CHECK_TEST(test_real_kernel))
