/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MC146818A real-time clock and CMOS RAM at ports 0x70/0x71: time of day from the host's
 * CLOCK_REALTIME plus an offset that the guest sets, status registers A-D, alarm and periodic
 * interrupts absent (register C reads 0), 128 bytes of CMOS RAM. Any vCPU thread; one lock inside.
 * Saved: index, RAM, registers, offset.
 *
 * The update-in-progress bit is never set: instead, registers read one after the other within a
 * second show one moment (a register that is read again, or register A, starts a new one). While
 * register B's SET bit stops the clock, the time registers are plain RAM; clearing it makes a time
 * of them. Values that are no time are brought into range.
 */
#ifndef VMM_RTC_H
#define VMM_RTC_H

#include <pthread.h>

#include "vmm/bus.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define RTC_PORTS     2
#define RTC_CMOS_SIZE 128

/* What is saved. */
struct rtc_state {
	uint8_t index;
	int64_t offset;		     /* guest time minus host time, seconds */
	uint8_t cmos[RTC_CMOS_SIZE]; /* the time registers count only while SET stops the clock */
};

struct rtc {
	pthread_mutex_t lock;
	int64_t (*now)(void); /* seconds since 1970 UTC; the test clock replaces it */
	struct rtc_state state;
	int64_t shown;	     /* the moment that the time registers show, seconds of guest time */
	uint64_t shown_mask; /* which of them have been read of that moment */
};

extern const struct bus_ops rtc_bus_ops;
extern const struct state_desc rtc_state;

void rtc_init(struct rtc *rtc);
void rtc_finish(struct rtc *rtc);
/* Machine reset: the clock runs on (it has a battery), the index returns to 0, interrupt enables
 * clear. */
void rtc_reset(struct rtc *rtc);

#endif
