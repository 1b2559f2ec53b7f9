/* SPDX-License-Identifier: Apache-2.0 */
/* Dates and times of day of seconds since 1970: beside the C library's, at the ends of months and eras,
 * and back. */
#include "harness/check_main.h"

#include <time.h>

#include "vmm/calendar.h"

static const struct {
	int64_t when;
	struct calendar c;
} moments[] = {
	{ 0, { 1970, 1, 1, 5, 0, 0, 0 } },
	{ -1, { 1969, 12, 31, 4, 23, 59, 59 } },
	{ 951782399, { 2000, 2, 28, 2, 23, 59, 59 } },
	{ 951782400, { 2000, 2, 29, 3, 0, 0, 0 } },
	{ 4107542399, { 2100, 2, 28, 1, 23, 59, 59 } },
	{ 4107542400, { 2100, 3, 1, 2, 0, 0, 0 } },
	{ 253402300799, { 9999, 12, 31, 6, 23, 59, 59 } },
	{ -62162035200, { 0, 3, 1, 4, 0, 0, 0 } },
	{ -62162035201, { 0, 2, 29, 3, 23, 59, 59 } },
	{ -62167219201, { -1, 12, 31, 6, 23, 59, 59 } },
};

static void check_same(const struct calendar *c, const struct calendar *want, int64_t when)
{
	ck_assert_msg(c->year == want->year && c->month == want->month && c->day == want->day &&
			      c->weekday == want->weekday && c->hour == want->hour &&
			      c->minute == want->minute && c->second == want->second,
		      "%lld: %lld-%d-%d (%d) %d:%d:%d", (long long)when, (long long)c->year,
		      c->month, c->day, c->weekday, c->hour, c->minute, c->second);
}

START_TEST(test_moment)
{
	struct calendar c = calendar_from_time(moments[_i].when);

	check_same(&c, &moments[_i].c, moments[_i].when);
	ck_assert_int_eq(calendar_to_time(&moments[_i].c), moments[_i].when);
}
END_TEST

/* Each day of 400 years before 1970 and after it. */
START_TEST(test_days)
{
	for (int64_t day = -146097; day < 146097; day++) {
		time_t when = (time_t)(day * 86400 + (day & 0xffff));
		struct calendar c = calendar_from_time(when);
		struct tm tm;
		struct calendar want;

		ck_assert_ptr_nonnull(gmtime_r(&when, &tm));
		want = (struct calendar){ tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
					  tm.tm_wday + 1,    tm.tm_hour,    tm.tm_min,
					  tm.tm_sec };
		check_same(&c, &want, when);
		ck_assert_int_eq(calendar_to_time(&c), when);
	}
}
END_TEST

START_TEST(test_month_lengths)
{
	for (int64_t year = 1895; year < 2105; year++) {
		for (int month = 1; month <= 12; month++) {
			struct calendar first = { .year = year, .month = month, .day = 1 };
			struct calendar next = { .year = year + month / 12,
						 .month = month % 12 + 1,
						 .day = 1 };

			ck_assert_int_eq(calendar_days_in_month(year, month) * INT64_C(86400),
					 calendar_to_time(&next) - calendar_to_time(&first));
		}
	}
}
END_TEST

CHECK_MAIN("calendar", CHECK_TABLE(test_moment, moments); CHECK_TEST(test_days);
	   CHECK_TEST(test_month_lengths))
