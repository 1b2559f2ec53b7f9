// SPDX-License-Identifier: Apache-2.0
/*
 * See calendar.h. In years that begin in March the leap day is the last one, and months have 31, 30,
 * 31, 30, 31 days, over and over; 400 years are 146097 days. Days are counted from 1 March of the
 * year 0, in eras of 400 years.
 */
#include "vmm/calendar.h"

#define SECONDS_PER_DAY INT64_C(86400)
#define YEARS_OF_ERA	400
#define DAYS_OF_ERA	146097
#define DAYS_TO_1970	719468

static int64_t divide_down(int64_t value, int64_t by)
{
	return value / by - (value % by < 0 ? 1 : 0);
}

struct calendar calendar_from_time(int64_t seconds)
{
	int64_t days = divide_down(seconds, SECONDS_PER_DAY);
	int64_t rest = seconds - days * SECONDS_PER_DAY;
	int64_t era = divide_down(days + DAYS_TO_1970, DAYS_OF_ERA);
	int64_t day = days + DAYS_TO_1970 - era * DAYS_OF_ERA;
	int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
	int64_t day_of_year = day - (365 * year + year / 4 - year / 100);
	int64_t from_march = (5 * day_of_year + 2) / 153;

	return (struct calendar){
		.year = era * YEARS_OF_ERA + year + (from_march >= 10 ? 1 : 0),
		.month = (int)(from_march < 10 ? from_march + 3 : from_march - 9),
		.day = (int)(day_of_year - (153 * from_march + 2) / 5 + 1),
		.weekday = (int)(((days + 4) % 7 + 7) % 7) + 1, /* day 0 was a Thursday */
		.hour = (int)(rest / 3600),
		.minute = (int)(rest / 60 % 60),
		.second = (int)(rest % 60),
	};
}

int64_t calendar_to_time(const struct calendar *c)
{
	int64_t year = c->month <= 2 ? c->year - 1 : c->year;
	int64_t era = divide_down(year, YEARS_OF_ERA);
	int64_t of_era = year - era * YEARS_OF_ERA;
	int64_t from_march = c->month > 2 ? c->month - 3 : c->month + 9;
	int64_t days = era * DAYS_OF_ERA + of_era * 365 + of_era / 4 - of_era / 100 +
		       (153 * from_march + 2) / 5 + c->day - 1 - DAYS_TO_1970;

	return days * SECONDS_PER_DAY + c->hour * INT64_C(3600) + c->minute * INT64_C(60) +
	       c->second;
}

int calendar_days_in_month(int64_t year, int month)
{
	static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap ? 1 : 0);
}
