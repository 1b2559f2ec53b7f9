/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a Motorola MC146818A clock with 128 bytes of RAM, as PCs have it: time
 * registers 0x00-0x09, century at 0x32 (the FADT names it), registers A-D. There are no interrupts;
 * the alarm registers are RAM.
 *
 * While the clock runs, the time registers are made from the host's clock plus an offset. Setting
 * one of them makes a time of all of them and changes the offset. With SET in register B they are
 * plain RAM, so that a guest can write day and month in any order. All arithmetic is on seconds
 * within the years 0 to 9999: values of a guest are brought into the range of their register, sums
 * are clamped.
 *
 * Any vCPU thread; `lock` covers all members. The guest controls index, registers and RAM. Saved:
 * index, offset, RAM.
 */
#include "vmm/rtc.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "byte_ports.h"
#include "vmm/calendar.h"
#include "vmm/cleanup.h"

enum {
	REG_SECONDS = 0x00,
	REG_MINUTES = 0x02,
	REG_HOURS = 0x04,
	REG_WEEKDAY = 0x06,
	REG_DAY = 0x07,
	REG_MONTH = 0x08,
	REG_YEAR = 0x09,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	REG_CENTURY = 0x32,
};

#define PORT_INDEX 0
#define INDEX_MASK 0x7f /* bit 7 masks NMIs elsewhere on the board */

#define A_DEFAULT    0x26 /* 32.768 kHz, periodic rate 1.024 kHz */
#define A_UPDATING   0x80
#define B_24_HOURS   0x02
#define B_BINARY     0x04
#define B_INTERRUPTS 0x70
#define B_SET	     0x80
#define D_BATTERY_OK 0x80
#define HOURS_PM     0x80

#define YEAR_LAST	 9999
#define TIME_FIRST	 INT64_C(-62167219200) /* 0000-01-01 00:00:00 */
#define TIME_LAST	 INT64_C(253402300799) /* 9999-12-31 23:59:59 */
#define OFFSET_LIMIT	 (2 * (TIME_LAST - TIME_FIRST))
#define SAME_MOMENT_SECS 1

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
	return value < low ? low : value > high ? high : value;
}

static uint8_t encode(const struct rtc *rtc, int value)
{
	if ((rtc->state.cmos[REG_B] & B_BINARY) != 0) {
		return (uint8_t)value;
	}
	return (uint8_t)(value / 10 << 4 | value % 10);
}

static int decode(const struct rtc *rtc, uint8_t raw, int low, int high)
{
	int value = raw;

	if ((rtc->state.cmos[REG_B] & B_BINARY) == 0) {
		value = (raw >> 4) * 10 + (raw & 0x0f);
	}
	return (int)clamp(value, low, high);
}

static uint8_t encode_hour(const struct rtc *rtc, int hour)
{
	if ((rtc->state.cmos[REG_B] & B_24_HOURS) != 0) {
		return encode(rtc, hour);
	}
	return encode(rtc, hour % 12 == 0 ? 12 : hour % 12) | (hour >= 12 ? HOURS_PM : 0);
}

static int decode_hour(const struct rtc *rtc, uint8_t raw)
{
	if ((rtc->state.cmos[REG_B] & B_24_HOURS) != 0) {
		return decode(rtc, raw, 0, 23);
	}
	return decode(rtc, raw & (uint8_t)~HOURS_PM, 1, 12) % 12 + ((raw & HOURS_PM) != 0 ? 12 : 0);
}

static bool is_time_register(uint8_t index)
{
	switch (index) {
	case REG_SECONDS:
	case REG_MINUTES:
	case REG_HOURS:
	case REG_WEEKDAY:
	case REG_DAY:
	case REG_MONTH:
	case REG_YEAR:
	case REG_CENTURY:
		return true;
	default:
		return false;
	}
}

static void registers_from_time(struct rtc *rtc, int64_t when)
{
	struct calendar c = calendar_from_time(when);

	rtc->state.cmos[REG_SECONDS] = encode(rtc, c.second);
	rtc->state.cmos[REG_MINUTES] = encode(rtc, c.minute);
	rtc->state.cmos[REG_HOURS] = encode_hour(rtc, c.hour);
	rtc->state.cmos[REG_WEEKDAY] = encode(rtc, c.weekday);
	rtc->state.cmos[REG_DAY] = encode(rtc, c.day);
	rtc->state.cmos[REG_MONTH] = encode(rtc, c.month);
	rtc->state.cmos[REG_YEAR] = encode(rtc, (int)(c.year % 100));
	rtc->state.cmos[REG_CENTURY] = encode(rtc, (int)(c.year / 100));
}

static int64_t time_from_registers(const struct rtc *rtc)
{
	struct calendar c;

	c.year = decode(rtc, rtc->state.cmos[REG_CENTURY], 0, 99) * 100 +
		 decode(rtc, rtc->state.cmos[REG_YEAR], 0, 99);
	c.month = decode(rtc, rtc->state.cmos[REG_MONTH], 1, 12);
	c.day = decode(rtc, rtc->state.cmos[REG_DAY], 1, calendar_days_in_month(c.year, c.month));
	c.hour = decode_hour(rtc, rtc->state.cmos[REG_HOURS]);
	c.minute = decode(rtc, rtc->state.cmos[REG_MINUTES], 0, 59);
	c.second = decode(rtc, rtc->state.cmos[REG_SECONDS], 0, 59);
	return calendar_to_time(&c);
}

static int64_t host_time(const struct rtc *rtc)
{
	return clamp(rtc->now(), TIME_FIRST, TIME_LAST);
}

static int64_t guest_time(const struct rtc *rtc)
{
	/* Both are bounded, the sum cannot overflow. */
	return clamp(host_time(rtc) + rtc->state.offset, TIME_FIRST, TIME_LAST);
}

static void set_guest_time(struct rtc *rtc, int64_t when)
{
	rtc->state.offset = when - host_time(rtc);
	rtc->shown_mask = 0;
}

static uint64_t register_bit(uint8_t index)
{
	return UINT64_C(1) << (index & 63);
}

/* Brings the time registers to the moment that the guest is reading. */
static void show_moment(struct rtc *rtc, uint8_t index)
{
	int64_t now = guest_time(rtc);

	if (rtc->shown_mask == 0 || (rtc->shown_mask & register_bit(index)) != 0 ||
	    now < rtc->shown || now - rtc->shown > SAME_MOMENT_SECS) {
		rtc->shown = now;
		rtc->shown_mask = 0;
	}
	rtc->shown_mask |= register_bit(index);
	registers_from_time(rtc, rtc->shown);
}

static uint8_t read_register(struct rtc *rtc, uint8_t index)
{
	bool running = (rtc->state.cmos[REG_B] & B_SET) == 0;

	if (running && is_time_register(index)) {
		show_moment(rtc, index);
	} else if (index == REG_A) {
		/* Software looks here before it reads a time. */
		rtc->shown_mask = 0;
	}
	return rtc->state.cmos[index];
}

static void write_register_b(struct rtc *rtc, uint8_t value)
{
	bool was_set = (rtc->state.cmos[REG_B] & B_SET) != 0, set = (value & B_SET) != 0;

	if (set && !was_set) {
		registers_from_time(rtc, guest_time(rtc));
	}
	rtc->state.cmos[REG_B] = value;
	if (!set && was_set) {
		set_guest_time(rtc, time_from_registers(rtc));
	}
	rtc->shown_mask = 0;
}

static void write_register(struct rtc *rtc, uint8_t index, uint8_t value)
{
	bool running = (rtc->state.cmos[REG_B] & B_SET) == 0;

	switch (index) {
	case REG_A:
		rtc->state.cmos[REG_A] = value & (uint8_t)~A_UPDATING;
		return;
	case REG_B:
		write_register_b(rtc, value);
		return;
	case REG_C:
	case REG_D:
		return;
	default:
		break;
	}
	if (running && is_time_register(index)) {
		registers_from_time(rtc, guest_time(rtc));
		rtc->state.cmos[index] = value;
		set_guest_time(rtc, time_from_registers(rtc));
	} else {
		rtc->state.cmos[index] = value;
	}
}

static uint8_t read_port(void *device, uint64_t offset)
{
	struct rtc *rtc = device;

	/* The index cannot be read back. */
	if (offset == PORT_INDEX || offset >= RTC_PORTS) {
		return 0xff;
	}
	SCOPED_LOCK(&rtc->lock);
	return read_register(rtc, rtc->state.index);
}

static void write_port(void *device, uint64_t offset, uint8_t value)
{
	struct rtc *rtc = device;

	SCOPED_LOCK(&rtc->lock);
	if (offset == PORT_INDEX) {
		rtc->state.index = value & INDEX_MASK;
	} else if (offset < RTC_PORTS) {
		write_register(rtc, rtc->state.index, value);
	}
}

static uint64_t rtc_read(void *device, uint64_t offset, unsigned int size)
{
	return byte_ports_read(read_port, device, offset, size);
}

static void rtc_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	byte_ports_write(write_port, device, offset, size, value);
}

const struct bus_ops rtc_bus_ops = { .read = rtc_read, .write = rtc_write };

static int rtc_validate(const void *object, const void *owner, struct error *e)
{
	const struct rtc_state *state = object;

	(void)owner;
	if (state->index > INDEX_MASK) {
		return error_set(e, ERROR_STATE, EINVAL, "rtc: index 0x%02x: beyond 0x%02x",
				 state->index, INDEX_MASK);
	}
	if (state->offset < -OFFSET_LIMIT || state->offset > OFFSET_LIMIT) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "rtc: offset %" PRId64 " s: more than the clock can count",
				 state->offset);
	}
	if ((state->cmos[REG_A] & A_UPDATING) != 0 || state->cmos[REG_C] != 0 ||
	    state->cmos[REG_D] != D_BATTERY_OK) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "rtc: registers A 0x%02x C 0x%02x D 0x%02x: read-only bits differ",
				 state->cmos[REG_A], state->cmos[REG_C], state->cmos[REG_D]);
	}
	return 0;
}

static const struct state_field rtc_fields[] = {
	STATE_FIELD(1, struct rtc_state, index, 1),
	STATE_FIELD(2, struct rtc_state, offset, 1),
	STATE_BYTES(3, struct rtc_state, cmos, 1),
};
const struct state_desc rtc_state =
	STATE_DESC("rtc", 1, struct rtc_state, rtc_fields, .validate = rtc_validate);

static int64_t realtime_seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

void rtc_init(struct rtc *rtc)
{
	memset(rtc, 0, sizeof(*rtc));
	(void)pthread_mutex_init(&rtc->lock, NULL);
	rtc->now = realtime_seconds;
	rtc->state.cmos[REG_A] = A_DEFAULT;
	rtc->state.cmos[REG_B] = B_24_HOURS;
	rtc->state.cmos[REG_D] = D_BATTERY_OK;
}

void rtc_finish(struct rtc *rtc)
{
	(void)pthread_mutex_destroy(&rtc->lock);
}

void rtc_reset(struct rtc *rtc)
{
	SCOPED_LOCK(&rtc->lock);
	rtc->state.index = 0;
	rtc->state.cmos[REG_B] &= (uint8_t)~B_INTERRUPTS;
	rtc->shown_mask = 0;
}
