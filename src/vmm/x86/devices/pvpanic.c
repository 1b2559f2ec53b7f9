/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The panic port, and the debug-exit port, as devices; src/devices/pvpanic.c has the parts themselves.
 * Neither has state.
 */
#include "../../devices/kinds.h"
#include "vmm/pvpanic.h"

static int pvpanic_create(struct device *device, struct machine *machine,
			  const struct vm_config *config, uint32_t index, struct error *e)
{
	struct pvpanic *pvpanic = device->object;

	(void)config;
	(void)index;
	(void)e;
	pvpanic->power = machine->power;
	return 0;
}

static int debug_exit_create(struct device *device, struct machine *machine,
			     const struct vm_config *config, uint32_t index, struct error *e)
{
	struct debug_exit *debug_exit = device->object;

	(void)config;
	(void)index;
	(void)e;
	debug_exit->power = machine->power;
	return 0;
}

static uint32_t debug_exit_count(const struct vm_config *config)
{
	return config->debug_exit ? 1 : 0;
}

static const struct device_ops ops;

const struct device_kind pvpanic_kind = {
	.name = "pvpanic",
	.size = sizeof(struct pvpanic),
	.ops = &ops,
	.create = pvpanic_create,
	/* Drivers bind by the name: QEMU's docs/specs/pvpanic. */
	.node = { "PEVT", "QEMU0001", NULL, 0 },
	.windows = { { PLATFORM_PORT_PVPANIC, 1, &pvpanic_bus_ops } },
};

const struct device_kind debug_exit_kind = {
	.name = "debug-exit",
	.size = sizeof(struct debug_exit),
	.ops = &ops,
	.count = debug_exit_count,
	.create = debug_exit_create,
	.windows = { { PLATFORM_PORT_DEBUG_EXIT, 1, &debug_exit_bus_ops } },
};
