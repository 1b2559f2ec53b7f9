/* SPDX-License-Identifier: Apache-2.0 */
/* The bus: which windows it takes, and that no access, whatever its address and width, reaches
 * beyond a window. */
#include <errno.h>

#include "harness/check_main.h"
#include "vmm/bus.h"

#define PORTS 0x10000

struct probe {
	unsigned int reads, writes, size;
	uint64_t offset, value, window;
};

static struct bus bus;
static struct probe probe, other;
static struct error error;

static uint64_t probe_read(void *device, uint64_t offset, unsigned int size)
{
	struct probe *p = device;

	p->reads++;
	p->offset = offset;
	p->size = size;
	ck_assert_uint_le(offset + size, p->window);
	return UINT64_C(0x8877665544332211);
}

static void probe_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	struct probe *p = device;

	p->writes++;
	p->offset = offset;
	p->size = size;
	p->value = value;
	ck_assert_uint_le(offset + size, p->window);
}

static const struct bus_ops probe_ops = { .read = probe_read, .write = probe_write };
static const struct bus_ops no_ops = { 0 };

static int add(struct probe *p, uint64_t base, uint64_t len, const char *name)
{
	p->window = len;
	return bus_add(&bus, base, len, &probe_ops, p, name, &error);
}

static void setup(void)
{
	bus_init(&bus, PORTS);
	probe = (struct probe){ 0 };
	other = (struct probe){ 0 };
	error = (struct error){ 0 };
}

START_TEST(test_windows_are_kept_sorted)
{
	static const uint64_t bases[] = { 0x3f8, 0x60, 0x64, 0xfff8, 0x0, 0x70, 0x600 };

	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		check_ok(bus_add(&bus, bases[i], 2, &probe_ops, NULL, "w", &error), &error);
	}
	for (uint32_t i = 1; i < bus.count; i++) {
		ck_assert_uint_lt(bus.windows[i - 1].base, bus.windows[i].base);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		const struct bus_window *window = bus_find(&bus, bases[i] + 1, 1);

		ck_assert_ptr_nonnull(window);
		ck_assert_uint_eq(window->base, bases[i]);
		ck_assert_ptr_null(bus_find(&bus, bases[i] + 2, 1));
	}
}
END_TEST

static const struct refuse_row {
	uint64_t limit, base, len;
	const char *text;
} refused[] = {
	{ PORTS, 0x100, 0, "'new'" },	    { PORTS, 0x10000, 1, "beyond" },
	{ PORTS, 0xffff, 2, "beyond" },	    { PORTS, 0, 0x10001, "beyond" },
	{ PORTS, 1, UINT64_MAX, "beyond" }, { PORTS, 0x200, 0x10, "'old'" },
	{ PORTS, 0x20f, 1, "'old'" },	    { PORTS, 0x1ff, 2, "'old'" },
	{ PORTS, 0x1f0, 0x100, "'old'" },   { PORTS, 0x204, 4, "'old'" },
	{ 0, UINT64_MAX, 2, "beyond" },	    { 0, 1, UINT64_MAX, "'old'" },
	{ 0, 0, UINT64_MAX, "'old'" },
};

START_TEST(test_bad_windows_are_refused)
{
	const struct refuse_row *row = &refused[_i];

	bus_init(&bus, row->limit);
	check_ok(add(&probe, 0x200, 0x10, "old"), &error);
	ck_assert_int_lt(add(&other, row->base, row->len, "new"), 0);
	check_error(&error, ERROR_INTERNAL, "'new'");
	check_error(&error, ERROR_INTERNAL, row->text);
	ck_assert_uint_eq(bus.count, 1);
}
END_TEST

START_TEST(test_neighbours_and_ends_of_the_space_are_fine)
{
	check_ok(add(&probe, 0x200, 0x10, "middle"), &error);
	check_ok(bus_add(&bus, 0x1f0, 0x10, &probe_ops, NULL, "below", &error), &error);
	check_ok(bus_add(&bus, 0x210, 0x10, &probe_ops, NULL, "above", &error), &error);
	check_ok(bus_add(&bus, 0xffff, 1, &probe_ops, NULL, "last", &error), &error);
	check_ok(bus_add(&bus, 0, 1, &probe_ops, NULL, "first", &error), &error);

	bus_init(&bus, 0);
	check_ok(bus_add(&bus, UINT64_MAX, 1, &probe_ops, NULL, "last", &error), &error);
	check_ok(bus_add(&bus, 0, UINT64_MAX, &probe_ops, NULL, "all but the last", &error),
		 &error);
	ck_assert_ptr_nonnull(bus_find(&bus, UINT64_MAX, 1));
	ck_assert_ptr_null(bus_find(&bus, UINT64_MAX, 2));
}
END_TEST

START_TEST(test_full_table_says_so)
{
	for (uint64_t i = 0; i < BUS_WINDOWS_MAX; i++) {
		check_ok(bus_add(&bus, 8 * (BUS_WINDOWS_MAX - i), 8, &probe_ops, NULL, "w", &error),
			 &error);
	}
	ck_assert_int_eq(add(&probe, 0, 8, "one more"), -ENOSPC);
	check_error(&error, ERROR_INTERNAL, "one more");
	ck_assert_uint_eq(bus.count, BUS_WINDOWS_MAX);
}
END_TEST

static const unsigned int widths[] = { 1, 2, 4, 8 };

/* Every width at every alignment around both ends of a window (T-Q6, T-Q10). */
START_TEST(test_access_only_inside_a_window)
{
	unsigned int size = widths[_i];

	check_ok(add(&probe, 0x400, 16, "window"), &error);
	for (uint64_t addr = 0x3f0; addr < 0x420; addr++) {
		bool inside = addr >= 0x400 && addr + size <= 0x410;
		uint8_t data[10];
		unsigned int reads = probe.reads, writes = probe.writes;

		memset(data, 0x5a, sizeof(data));
		ck_assert(bus_read(&bus, addr, data + 1, size) == inside);
		ck_assert_uint_eq(probe.reads, reads + (inside ? 1 : 0));
		ck_assert_uint_eq(data[0], 0x5a);
		ck_assert_uint_eq(data[1 + size], 0x5a);
		for (unsigned int i = 0; i < size; i++) {
			ck_assert_uint_eq(data[1 + i], inside ? 0x11 * (i + 1) : 0xff);
		}
		for (unsigned int i = 0; i < size; i++) {
			data[1 + i] = (uint8_t)(0xa0 + i);
		}
		ck_assert(bus_write(&bus, addr, data + 1, size) == inside);
		ck_assert_uint_eq(probe.writes, writes + (inside ? 1 : 0));
		if (inside) {
			uint64_t mask = size == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;

			ck_assert_uint_eq(probe.offset, addr - 0x400);
			ck_assert_uint_eq(probe.size, size);
			ck_assert_uint_eq(probe.value, UINT64_C(0xa7a6a5a4a3a2a1a0) & mask);
		}
	}
}
END_TEST

START_TEST(test_access_across_two_windows_reaches_neither)
{
	uint32_t data = 0;

	check_ok(add(&probe, 0x100, 2, "a"), &error);
	check_ok(add(&other, 0x102, 2, "b"), &error);
	ck_assert(!bus_read(&bus, 0x100, &data, 4));
	ck_assert_uint_eq(data, UINT32_MAX);
	ck_assert(!bus_write(&bus, 0x101, &data, 2));
	ck_assert_uint_eq(probe.reads + probe.writes + other.reads + other.writes, 0);
}
END_TEST

START_TEST(test_access_at_the_top_does_not_wrap)
{
	uint64_t data = 0;

	bus_init(&bus, 0);
	check_ok(add(&probe, UINT64_MAX - 3, 4, "top"), &error);
	check_ok(add(&other, 0, 8, "bottom"), &error);
	ck_assert(bus_read(&bus, UINT64_MAX - 3, &data, 4));
	ck_assert(!bus_read(&bus, UINT64_MAX - 3, &data, 8));
	ck_assert(!bus_read(&bus, UINT64_MAX, &data, 2));
	ck_assert(!bus_write(&bus, UINT64_MAX - 1, &data, 4));
	ck_assert_uint_eq(probe.reads, 1);
	ck_assert_uint_eq(other.reads + other.writes + probe.writes, 0);
	/* Around 4 GiB, where 32-bit sums would wrap. */
	bus_init(&bus, 0);
	check_ok(add(&probe, UINT32_MAX, 2, "across 4 GiB"), &error);
	ck_assert(bus_read(&bus, UINT32_MAX, &data, 2));
	ck_assert(!bus_read(&bus, UINT32_MAX, &data, 4));
}
END_TEST

/* KVM cuts accesses at page borders into pieces of any size up to 8. */
START_TEST(test_odd_widths_are_not_answered)
{
	static const unsigned int odd[] = { 0, 3, 5, 6, 7 };
	uint8_t data[8] = { 0 };

	check_ok(add(&probe, 0x100, 16, "window"), &error);
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		memset(data, 0, sizeof(data));
		ck_assert(!bus_read(&bus, 0x100, data, odd[i]));
		for (unsigned int k = 0; k < sizeof(data); k++) {
			ck_assert_uint_eq(data[k], k < odd[i] ? 0xff : 0);
		}
		ck_assert(!bus_write(&bus, 0x100, data, odd[i]));
	}
	ck_assert_uint_eq(probe.reads + probe.writes, 0);
}
END_TEST

START_TEST(test_empty_bus_and_missing_functions)
{
	uint16_t data = 0;

	ck_assert(!bus_read(&bus, 0, &data, 2));
	ck_assert_uint_eq(data, 0xffff);
	ck_assert(!bus_write(&bus, 0, &data, 2));
	check_ok(bus_add(&bus, 0, 4, &no_ops, NULL, "mute", &error), &error);
	data = 0;
	ck_assert(!bus_read(&bus, 0, &data, 2));
	ck_assert_uint_eq(data, 0xffff);
	ck_assert(!bus_write(&bus, 0, &data, 2));
}
END_TEST

CHECK_MAIN("bus", CHECK_FIXTURE(setup, NULL); CHECK_TEST(test_windows_are_kept_sorted);
	   CHECK_TABLE(test_bad_windows_are_refused, refused);
	   CHECK_TEST(test_neighbours_and_ends_of_the_space_are_fine);
	   CHECK_TEST(test_full_table_says_so);
	   CHECK_TABLE(test_access_only_inside_a_window, widths);
	   CHECK_TEST(test_access_across_two_windows_reaches_neither);
	   CHECK_TEST(test_access_at_the_top_does_not_wrap);
	   CHECK_TEST(test_odd_widths_are_not_answered);
	   CHECK_TEST(test_empty_bus_and_missing_functions))
