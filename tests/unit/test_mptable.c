/* SPDX-License-Identifier: Apache-2.0 */
/* The MP table as a guest reads it (MP specification 1.4, §4): found by its pointer, sums to zero,
 * counts its entries, and names every processor and interrupt once. */
#include "harness/check_main.h"
#include "vmm/bytes.h"
#include "vmm/mptable.h"
#include "vmm/platform.h"

#define BASE 0xf0000

static uint8_t area[PLATFORM_MPTABLE_END - PLATFORM_MPTABLE];
static struct error e;

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t total = 0;

	for (size_t i = 0; i < len; i++) {
		total += p[i];
	}
	return total;
}

static void check_processor(const uint8_t *entry, uint32_t index)
{
	ck_assert_uint_eq(entry[1], index);
	ck_assert_uint_eq(entry[3], index == 0 ? 3 : 1);
	ck_assert_uint_eq(load_le32(entry + 8) & 0x201, 0x201);
}

static const uint32_t counts[] = { 1, 2, 3, PLATFORM_VCPUS_MAX };

START_TEST(test_table)
{
	uint32_t vcpus = counts[_i], processors = 0, interrupts = 0, locals = 0, entries = 0;
	const uint8_t *table = area + 16, *p = table + 44, *end;
	uint8_t ioapic = 0;
	size_t used;

	memset(area, 0xaa, sizeof(area));
	check_ok(mptable_build(area, sizeof(area), BASE, vcpus, &used, &e), &e);
	ck_assert_mem_eq(area, "_MP_", 4);
	ck_assert_uint_eq(sum(area, 16), 0);
	ck_assert_uint_eq(load_le32(area + 4), BASE + 16);
	ck_assert_uint_eq(area[9], 4);
	ck_assert_uint_eq(area[11], 0); /* there is a table */
	ck_assert_uint_eq(area[12], 0); /* no IMCR */
	ck_assert_mem_eq(table, "PCMP", 4);
	ck_assert_uint_eq(load_le16(table + 4), used - 16);
	ck_assert_uint_eq(sum(table, used - 16), 0);
	ck_assert_uint_eq(load_le32(table + 36), PLATFORM_LAPIC);
	for (end = table + load_le16(table + 4); p < end; entries++) {
		switch (p[0]) {
		case 0:
			check_processor(p, processors++);
			p += 20;
			continue;
		case 1:
			ck_assert_mem_eq(p + 2, "ISA   ", 6);
			break;
		case 2:
			ioapic = p[1];
			ck_assert_uint_ge(ioapic, vcpus);
			ck_assert_uint_eq(load_le32(p + 4), PLATFORM_IOAPIC);
			break;
		case 3:
			ck_assert_uint_eq(p[5], interrupts);
			ck_assert_uint_eq(p[6], ioapic);
			ck_assert_uint_eq(p[7], interrupts++);
			break;
		default:
			ck_assert_uint_eq(p[0], 4);
			locals++;
		}
		p += 8;
	}
	ck_assert_ptr_eq(p, end);
	ck_assert_uint_eq(entries, load_le16(table + 34));
	ck_assert_uint_eq(processors, vcpus);
	ck_assert_uint_eq(interrupts, PLATFORM_GSIS);
	ck_assert_uint_eq(locals, 2);
	ck_assert_uint_eq(area[used], 0xaa);
}
END_TEST

START_TEST(test_no_room)
{
	size_t used;

	for (size_t size = 0; size < 16 + 44 + 20 + 28 * 8; size++) {
		ck_assert_int_lt(mptable_build(area, size, BASE, 1, &used, &e), 0);
		check_error(&e, ERROR_INTERNAL, "MP table");
	}
	ck_assert_int_lt(mptable_build(area, sizeof(area), BASE, 0, &used, &e), 0);
	ck_assert_int_lt(mptable_build(area, sizeof(area), BASE, PLATFORM_VCPUS_MAX + 1, &used, &e),
			 0);
}
END_TEST

START_TEST(test_in_guest_memory)
{
	struct guest_memory mem = { 0 };
	uint8_t pointer[16];

	check_ok(guest_memory_init(&mem, PLATFORM_MEMORY_MIN, GUEST_MEMORY_ANON, &e), &e);
	check_ok(mptable_write(&mem, 4, &e), &e);
	ck_assert(guest_memory_read(&mem, PLATFORM_MPTABLE, pointer, sizeof(pointer)));
	ck_assert_uint_eq(load_le32(pointer + 4), PLATFORM_MPTABLE + 16);
	guest_memory_finish(&mem);
}
END_TEST

CHECK_MAIN("mptable", CHECK_LOOP(test_table, ARRAY_SIZE(counts)); CHECK_TEST(test_no_room);
	   CHECK_TEST(test_in_guest_memory))
