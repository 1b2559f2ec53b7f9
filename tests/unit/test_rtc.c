/* SPDX-License-Identifier: Apache-2.0 */
/* The real-time clock with a clock of the test's own: every format, setting, freezing, and values
 * that are no time. */
#include <time.h>

#include "harness/check_main.h"
#include "harness/state_round_trip.h"
#include "vmm/rtc.h"

enum { SEC = 0, MIN = 2, HOUR = 4, WEEKDAY = 6, DAY = 7, MONTH = 8, YEAR = 9, CENTURY = 0x32 };
enum { A = 10, B = 11, C = 12, D = 13 };

static struct rtc rtc;
static int64_t host_now;

static int64_t test_now(void)
{
	return host_now;
}

/* 2026-11-23 05:48:44 UTC, a Monday */
#define MORNING INT64_C(1795412924)

static void setup(void)
{
	host_now = MORNING;
	rtc_init(&rtc);
	rtc.now = test_now;
}

static void teardown(void)
{
	rtc_finish(&rtc);
}

static uint8_t get(uint8_t index)
{
	rtc_bus_ops.write(&rtc, 0, 1, index);
	return (uint8_t)rtc_bus_ops.read(&rtc, 1, 1);
}

static void set(uint8_t index, uint8_t value)
{
	rtc_bus_ops.write(&rtc, 0, 1, index);
	rtc_bus_ops.write(&rtc, 1, 1, value);
}

static void expect(const uint8_t *fields)
{
	static const uint8_t registers[] = { SEC, MIN, HOUR, WEEKDAY, DAY, MONTH, YEAR, CENTURY };

	/* Register A first, as drivers do. */
	ck_assert_uint_eq(get(A) & 0x80, 0);
	for (size_t i = 0; i < sizeof(registers); i++) {
		uint8_t value = get(registers[i]);

		ck_assert_msg(value == fields[i], "register 0x%02x: 0x%02x, expected 0x%02x",
			      registers[i], value, fields[i]);
	}
}

/* Values that differ between the formats: a quarter to eleven at night on 31 December 2034, a
 * Sunday. */
#define LATE INT64_C(2051217899)

static const struct format_row {
	uint8_t b;
	int64_t when;
	uint8_t fields[8];
} formats[] = {
	{ 0x02, MORNING, { 0x44, 0x48, 0x05, 2, 0x23, 0x11, 0x26, 0x20 } },
	{ 0x06, MORNING, { 44, 48, 5, 2, 23, 11, 26, 20 } },
	{ 0x00, MORNING, { 0x44, 0x48, 0x05, 2, 0x23, 0x11, 0x26, 0x20 } },
	{ 0x02, LATE, { 0x59, 0x44, 0x22, 1, 0x31, 0x12, 0x34, 0x20 } },
	{ 0x06, LATE, { 59, 44, 22, 1, 31, 12, 34, 20 } },
	{ 0x00, LATE, { 0x59, 0x44, 0x90, 1, 0x31, 0x12, 0x34, 0x20 } },
	{ 0x04, LATE, { 59, 44, 0x8a, 1, 31, 12, 34, 20 } },
	{ 0x00, 0, { 0x00, 0x00, 0x12, 5, 0x01, 0x01, 0x70, 0x19 } }, /* midnight is 12 */
	{ 0x00, 43200, { 0x00, 0x00, 0x92, 5, 0x01, 0x01, 0x70, 0x19 } },
	{ 0x06, INT64_C(951827696), { 56, 34, 12, 3, 29, 2, 0, 20 } }, /* 2000-02-29 */
	{ 0x06, INT64_C(-1), { 59, 59, 23, 4, 31, 12, 69, 19 } },
	{ 0x06, INT64_C(253402300799), { 59, 59, 23, 6, 31, 12, 99, 99 } },
	{ 0x06, INT64_MAX, { 59, 59, 23, 6, 31, 12, 99, 99 } },
	{ 0x06, INT64_MIN, { 0, 0, 0, 7, 1, 1, 0, 0 } },
};

START_TEST(test_formats)
{
	const struct format_row *row = &formats[_i];

	set(B, row->b);
	host_now = row->when;
	expect(row->fields);
}
END_TEST

/* Against the C library, over days of four centuries. */
START_TEST(test_calendar_agrees_with_libc)
{
	set(B, 0x06);
	for (int64_t day = -30000; day < 120000; day += 7) {
		time_t when = (time_t)(day * 86400 + day % 86400);
		struct tm tm;
		uint8_t fields[8];

		ck_assert_ptr_nonnull(gmtime_r(&when, &tm));
		fields[0] = (uint8_t)tm.tm_sec;
		fields[1] = (uint8_t)tm.tm_min;
		fields[2] = (uint8_t)tm.tm_hour;
		fields[3] = (uint8_t)(tm.tm_wday + 1);
		fields[4] = (uint8_t)tm.tm_mday;
		fields[5] = (uint8_t)(tm.tm_mon + 1);
		fields[6] = (uint8_t)((tm.tm_year + 1900) % 100);
		fields[7] = (uint8_t)((tm.tm_year + 1900) / 100);
		host_now = when;
		expect(fields);
	}
}
END_TEST

START_TEST(test_status_registers)
{
	ck_assert_uint_eq(get(A), 0x26);
	ck_assert_uint_eq(get(B), 0x02);
	ck_assert_uint_eq(get(C), 0);
	ck_assert_uint_eq(get(D), 0x80);
	set(A, 0xff);
	ck_assert_uint_eq(get(A), 0x7f);
	set(C, 0xff);
	set(D, 0x00);
	ck_assert_uint_eq(get(C), 0);
	ck_assert_uint_eq(get(D), 0x80);
	/* Linux' rtc-cmos insists on 24 hours and on "update in progress" going away. */
	ck_assert_uint_eq(get(B) & 0x02, 0x02);
}
END_TEST

/* Registers read one after the other belong to one moment, although the clock ticks in between. */
START_TEST(test_reading_is_consistent)
{
	host_now = LATE + 15 * 60; /* 22:59:59 */
	ck_assert_uint_eq(get(A) & 0x80, 0);
	ck_assert_uint_eq(get(SEC), 0x59);
	host_now++;
	ck_assert_uint_eq(get(MIN), 0x59);
	ck_assert_uint_eq(get(HOUR), 0x22);
	/* Reading one again shows that time went on. */
	ck_assert_uint_eq(get(SEC), 0x00);
	ck_assert_uint_eq(get(MIN), 0x00);
	ck_assert_uint_eq(get(HOUR), 0x23);
	/* A guest that only ever looks at one register sees it move. */
	host_now += 3600;
	ck_assert_uint_eq(get(HOUR), 0x00);
	/* And an old moment is not shown. */
	host_now += 120;
	ck_assert_uint_eq(get(MIN), 0x02);
	/* Backwards too. */
	host_now -= 3600;
	ck_assert_uint_eq(get(HOUR), 0x23);
}
END_TEST

START_TEST(test_setting_the_time_running)
{
	set(HOUR, 0x23);
	ck_assert_int_eq(rtc.state.offset, 18 * 3600);
	set(CENTURY, 0x21);
	ck_assert_uint_eq(get(CENTURY), 0x21);
	ck_assert_uint_eq(get(HOUR), 0x23);
	ck_assert_uint_eq(get(MIN), 0x48);
	host_now += 3600;
	ck_assert_uint_eq(get(HOUR), 0x00);
	ck_assert_uint_eq(get(DAY), 0x24);
}
END_TEST

/* Linux' mc146818_set_time(): SET, all fields, SET off. */
START_TEST(test_setting_the_time_stopped)
{
	static const uint8_t written[] = { 0x59, 0x59, 0x23, 0x03, 0x29, 0x02, 0x28, 0x20 };

	set(B, 0x82);
	ck_assert_uint_eq(get(DAY), 0x23);
	host_now += 100; /* the clock stands */
	ck_assert_uint_eq(get(SEC), 0x44);
	/* The day first, while the month still has too few. */
	set(MONTH, 0x02);
	set(DAY, 0x29);
	set(YEAR, 0x28);
	set(HOUR, 0x23);
	set(MIN, 0x59);
	set(SEC, 0x59);
	set(CENTURY, 0x20);
	set(WEEKDAY, 0x07);
	ck_assert_uint_eq(get(WEEKDAY), 0x07);
	set(B, 0x02);
	expect(written);
	host_now++;
	ck_assert_uint_eq(get(MONTH), 0x03);
	ck_assert_uint_eq(get(DAY), 0x01);
}
END_TEST

START_TEST(test_setting_in_12_hours_and_binary)
{
	set(B, 0x84);
	set(HOUR, 0x80 | 12);
	set(B, 0x04);
	ck_assert_uint_eq(get(HOUR), 0x80 | 12);
	set(B, 0x06);
	ck_assert_uint_eq(get(HOUR), 12);
	set(B, 0x84);
	set(HOUR, 12);
	set(B, 0x06);
	ck_assert_uint_eq(get(HOUR),
			  12); /* decoded in the format that the clock has when it starts */
}
END_TEST

START_TEST(test_values_that_are_no_time)
{
	static const uint8_t registers[] = { SEC, MIN, HOUR, WEEKDAY, DAY, MONTH, YEAR, CENTURY };
	static const uint8_t values[] = { 0x00, 0x01, 0x0a, 0x1f, 0x60, 0x7f, 0x80, 0x9a, 0xff };
	static const uint8_t modes[] = { 0x00, 0x02, 0x04, 0x06 };

	for (size_t m = 0; m < sizeof(modes); m++) {
		for (size_t r = 0; r < sizeof(registers); r++) {
			for (size_t v = 0; v < sizeof(values); v++) {
				set(B, 0x80 | modes[m]);
				for (size_t i = 0; i < sizeof(registers); i++) {
					set(registers[i], 0xff);
				}
				set(registers[r], values[v]);
				set(B, modes[m]);
				set(registers[r], values[v]);
				ck_assert_int_eq(state_validate(&rtc_state, &rtc.state, NULL), 0);
				/* What comes out is a time again. */
				set(B, 0x06);
				ck_assert_uint_lt(get(SEC), 60);
				ck_assert_uint_lt(get(HOUR), 24);
				ck_assert_uint_lt((uint8_t)(get(MONTH) - 1), 12);
				ck_assert_uint_lt((uint8_t)(get(DAY) - 1), 31);
				ck_assert_uint_lt((uint8_t)(get(WEEKDAY) - 1), 7);
				ck_assert_uint_lt(get(CENTURY), 100);
			}
		}
	}
	/* Year 9999, then a host clock at the other end of time. */
	host_now = INT64_MAX;
	set(B, 0x06);
	set(CENTURY, 99);
	host_now = INT64_MIN;
	(void)get(SEC);
	set(YEAR, 99);
	host_now = INT64_MAX;
	ck_assert_uint_eq(get(CENTURY), 99);
}
END_TEST

START_TEST(test_ram)
{
	for (unsigned int i = 0; i < 256; i++) {
		uint8_t index = i & 0x7f;

		if (index <= D || index == CENTURY) {
			continue;
		}
		/* Bit 7 of the index is not part of it. */
		set((uint8_t)i, (uint8_t)~index);
		ck_assert_uint_eq(get(index), (uint8_t)~index);
	}
	/* The alarm registers are RAM too. */
	set(1, 0x12);
	set(3, 0x34);
	set(5, 0xc0);
	ck_assert_uint_eq(get(1), 0x12);
	ck_assert_uint_eq(get(3), 0x34);
	ck_assert_uint_eq(get(5), 0xc0);
}
END_TEST

START_TEST(test_widths)
{
	/* outw selects and writes, inw reads the index (as ones) and the register. */
	rtc_bus_ops.write(&rtc, 0, 2, 0xab40);
	ck_assert_uint_eq(get(0x40), 0xab);
	ck_assert_uint_eq(rtc_bus_ops.read(&rtc, 0, 2), 0xabff);
	ck_assert_uint_eq(rtc_bus_ops.read(&rtc, 0, 1), 0xff);
}
END_TEST

START_TEST(test_reset_keeps_the_time)
{
	set(HOUR, 0x01);
	set(0x40, 0x77);
	set(B, 0x72);
	rtc_reset(&rtc);
	ck_assert_uint_eq(rtc.state.index, 0);
	ck_assert_uint_eq(get(B), 0x02);
	ck_assert_uint_eq(get(HOUR), 0x01);
	ck_assert_uint_eq(get(0x40), 0x77);
}
END_TEST

START_TEST(test_state)
{
	struct rtc restored;

	set(YEAR, 0x30);
	set(0x55, 0x99);
	rtc_init(&restored);
	restored.now = test_now;
	check_state_round_trip(&rtc_state, &rtc.state, &restored.state);
	ck_assert_uint_eq(rtc_bus_ops.read(&restored, 1, 1), 0x99);
	ck_assert_int_eq(restored.state.offset, rtc.state.offset);
	rtc_finish(&restored);

	check_state_refused(&rtc_state, &rtc.state, index, 0x80, "index 0x80");
	check_state_refused(&rtc_state, &rtc.state, offset, INT64_MAX, "offset");
	check_state_refused(&rtc_state, &rtc.state, offset, INT64_MIN, "offset");
	check_state_refused(&rtc_state, &rtc.state, cmos[A], 0x80, "A 0x80");
	check_state_refused(&rtc_state, &rtc.state, cmos[C], 0x01, "C 0x01");
	check_state_refused(&rtc_state, &rtc.state, cmos[D], 0x00, "D 0x00");
}
END_TEST

START_TEST(test_real_clock)
{
	struct timespec before, after;
	int64_t shown;

	rtc_finish(&rtc);
	rtc_init(&rtc);
	(void)clock_gettime(CLOCK_REALTIME, &before);
	shown = rtc.now();
	(void)clock_gettime(CLOCK_REALTIME, &after);
	ck_assert_int_ge(shown, before.tv_sec);
	ck_assert_int_le(shown, after.tv_sec);
}
END_TEST

CHECK_MAIN("rtc", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_formats, formats);
	   CHECK_TEST(test_calendar_agrees_with_libc); CHECK_TEST(test_status_registers);
	   CHECK_TEST(test_reading_is_consistent); CHECK_TEST(test_setting_the_time_running);
	   CHECK_TEST(test_setting_the_time_stopped);
	   CHECK_TEST(test_setting_in_12_hours_and_binary);
	   CHECK_TEST(test_values_that_are_no_time); CHECK_TEST(test_ram); CHECK_TEST(test_widths);
	   CHECK_TEST(test_reset_keeps_the_time); CHECK_TEST(test_state);
	   CHECK_TEST(test_real_clock))
