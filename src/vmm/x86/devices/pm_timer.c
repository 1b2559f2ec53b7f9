/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI power management timer as a device; src/devices/pm_timer.c is the part itself.
 */
#include "../../devices/kinds.h"
#include "vmm/pm_timer.h"

static int pm_timer_create(struct device *device, struct machine *machine,
			   const struct vm_config *config, uint32_t index, struct error *e)
{
	(void)machine;
	(void)config;
	(void)index;
	(void)e;
	pm_timer_init(device->object);
	return 0;
}

static int reset(struct device *device, struct error *e)
{
	(void)e;
	pm_timer_reset(device->object);
	return 0;
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	states[0] =
		(struct state_part){ &pm_timer_state, &((struct pm_timer *)device->object)->state };
	return 1;
}

static int capture(struct device *device, struct error *e)
{
	(void)e;
	pm_timer_capture(device->object);
	return 0;
}

static int loaded(struct device *device, struct error *e)
{
	(void)e;
	pm_timer_resume(device->object);
	return 0;
}

static const struct device_ops ops = {
	.reset = reset, .states = states, .capture = capture, .loaded = loaded
};

const struct device_kind pm_timer_kind = {
	.name = "pm-timer",
	.size = sizeof(struct pm_timer),
	.ops = &ops,
	.create = pm_timer_create,
	.windows = { { PLATFORM_PORT_PM_TIMER, PM_TIMER_PORTS, &pm_timer_bus_ops } },
};
