/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI power management timer (ACPI 6.4 §4.8.3.3): one 32-bit port that counts at 3.579545 MHz,
 * read only. The one clock of known rate that a guest without kvm-clock has: Linux measures the TSC
 * against it, and keeps time by it if the TSC will not do. It is not part of what hardware-reduced
 * ACPI has, but Linux reads the FADT's field all the same.
 *
 * Counts the host's CLOCK_MONOTONIC, also while the VM is paused, as the TSC does. Any vCPU thread;
 * no lock, because nothing changes but while vCPUs are stopped. The guest controls only when it
 * reads. Saved: the count, as of pm_timer_capture().
 */
#ifndef VMM_PM_TIMER_H
#define VMM_PM_TIMER_H

#include "vmm/bus.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define PM_TIMER_PORTS 4
#define PM_TIMER_HZ    3579545

/* What is saved. */
struct pm_timer_state {
	uint32_t count;
};

struct pm_timer {
	int64_t (*now)(void); /* nanoseconds; the test clock replaces it */
	int64_t origin;	      /* when the count was state.count */
	struct pm_timer_state state;
};

extern const struct bus_ops pm_timer_bus_ops;
extern const struct state_desc pm_timer_state;

void pm_timer_init(struct pm_timer *timer);
/* Machine reset: counts from 0. */
void pm_timer_reset(struct pm_timer *timer);
/* Before state_save(); vCPUs are stopped. */
void pm_timer_capture(struct pm_timer *timer);
/* After state_load(): counts on from there. */
void pm_timer_resume(struct pm_timer *timer);

#endif
