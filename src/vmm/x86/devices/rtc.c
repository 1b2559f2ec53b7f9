/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real-time clock as a device; src/devices/rtc.c is the part itself.
 */
#include "../../devices/kinds.h"
#include "vmm/rtc.h"

static int rtc_create(struct device *device, struct machine *machine,
		      const struct vm_config *config, uint32_t index, struct error *e)
{
	(void)machine;
	(void)config;
	(void)index;
	(void)e;
	rtc_init(device->object);
	return 0;
}

static int reset(struct device *device, struct error *e)
{
	(void)e;
	rtc_reset(device->object);
	return 0;
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	states[0] = (struct state_part){ &rtc_state, &((struct rtc *)device->object)->state };
	return 1;
}

static void destroy(struct device *device)
{
	rtc_finish(device->object);
}

static const struct device_ops ops = { .reset = reset, .states = states, .destroy = destroy };

const struct device_kind rtc_kind = {
	.name = "rtc",
	.size = sizeof(struct rtc),
	.ops = &ops,
	.create = rtc_create,
	.node = { "RTC", "PNP0B00", NULL, 0 },
	.windows = { { PLATFORM_PORT_RTC, RTC_PORTS, &rtc_bus_ops } },
};
