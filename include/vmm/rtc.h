/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MC146818A real-time clock and CMOS RAM at ports 0x70/0x71: time of day from the host's CLOCK_REALTIME plus an offset that the
 * guest sets, status registers A-D, alarm and periodic interrupts absent (register C reads 0), 128 bytes of CMOS RAM.
 * Any vCPU thread; one lock inside. Saved: index, RAM, registers, offset.
 */
#ifndef VMM_RTC_H
#define VMM_RTC_H

#include <pthread.h>

#include "vmm/bus.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define RTC_PORTS 2
#define RTC_CMOS_SIZE 128

struct rtc {
	pthread_mutex_t lock;
	int64_t (*now)(void); /* seconds since 1970 UTC; the test clock replaces it */
	uint8_t index;
	int64_t offset; /* guest time minus host time, seconds */
	int64_t frozen; /* guest time while register B's SET bit stops the clock */
	uint8_t cmos[RTC_CMOS_SIZE];
};

extern const struct bus_ops rtc_bus_ops;
extern const struct state_desc rtc_state;

void rtc_init(struct rtc *rtc);
void rtc_finish(struct rtc *rtc);
/* Machine reset: the clock runs on (it has a battery), the index returns to 0, interrupt enables clear. */
void rtc_reset(struct rtc *rtc);

#endif
