/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: see vmm/pm_timer.h. The count is computed from the host's clock when it is
 * read: nothing ticks, and there is no interrupt (its "carry" bit would be in a register block that
 * hardware-reduced ACPI does not have).
 */
#include "vmm/pm_timer.h"

#include <time.h>

#define NS_PER_SECOND 1000000000LL

static int64_t monotonic_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static uint32_t count_now(const struct pm_timer *timer)
{
	int64_t now = timer->now();
	uint64_t ns = now > timer->origin ? (uint64_t)now - (uint64_t)timer->origin : 0;
	/* Seconds apart, so that no product overflows in 500 years. */
	uint64_t ticks =
		ns / NS_PER_SECOND * PM_TIMER_HZ + ns % NS_PER_SECOND * PM_TIMER_HZ / NS_PER_SECOND;

	return timer->state.count + (uint32_t)ticks;
}

/* The bus has checked that offset + size lies inside the window. */
static uint64_t pm_timer_read(void *device, uint64_t offset, unsigned int size)
{
	uint64_t value = (uint64_t)count_now(device) >> (8 * offset);

	return size >= sizeof(uint32_t) ? value : value & ((UINT64_C(1) << (8 * size)) - 1);
}

static void pm_timer_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)device;
	(void)offset;
	(void)size;
	(void)value;
}

const struct bus_ops pm_timer_bus_ops = { .read = pm_timer_read, .write = pm_timer_write };

static const struct state_field pm_timer_fields[] = {
	STATE_FIELD(1, struct pm_timer_state, count, 1),
};
const struct state_desc pm_timer_state =
	STATE_DESC("pm-timer", 1, struct pm_timer_state, pm_timer_fields);

void pm_timer_init(struct pm_timer *timer)
{
	timer->now = monotonic_ns;
	pm_timer_reset(timer);
}

void pm_timer_reset(struct pm_timer *timer)
{
	timer->state.count = 0;
	timer->origin = timer->now();
}

void pm_timer_capture(struct pm_timer *timer)
{
	int64_t now = timer->now();

	timer->state.count = count_now(timer);
	timer->origin = now;
}

void pm_timer_resume(struct pm_timer *timer)
{
	timer->origin = timer->now();
}
