/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seconds since 1970 as a date of the Gregorian calendar and a time of day, in UTC, and back. In
 * place of the C library's gmtime_r(3) and localtime_r(3), which read /etc/localtime first and have
 * the reading of it linked: 94 KiB of a static program.
 *
 * Pure functions; any thread.
 */
#ifndef VMM_CALENDAR_H
#define VMM_CALENDAR_H

#include "vmm/types.h"

/* Fields as people say them: month and day from 1, weekday 1 is Sunday. */
struct calendar {
	int64_t year; /* 0 is 1 BC */
	int month, day, weekday, hour, minute, second;
};
struct calendar calendar_from_time(int64_t seconds);
/* `weekday` is not looked at. Years up to 2^40 on both sides. */
int64_t calendar_to_time(const struct calendar *c);
int calendar_days_in_month(int64_t year, int month);

#endif
