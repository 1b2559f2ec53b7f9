/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keyboard controller as a device; src/devices/i8042.c is the part itself.
 */
#include "../../arch.h"
#include "../../devices/kinds.h"
#include "vmm/i8042.h"

static int i8042_create(struct device *device, struct machine *machine,
			const struct vm_config *config, uint32_t index, struct error *e)
{
	(void)config;
	(void)index;
	(void)e;
	i8042_init(device->object,
		   irqchip_level_line(machine->irqchip, PLATFORM_GSI_I8042_KEYBOARD),
		   machine->power);
	return 0;
}

static int reset(struct device *device, struct error *e)
{
	(void)e;
	i8042_reset(device->object);
	return 0;
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	states[0] = (struct state_part){ &i8042_state, &((struct i8042 *)device->object)->state };
	return 1;
}

static int loaded(struct device *device, struct error *e)
{
	(void)e;
	i8042_resume(device->object);
	return 0;
}

static void destroy(struct device *device)
{
	i8042_finish(device->object);
}

int arch_press_ctrl_alt_del(struct machine *machine, struct error *e)
{
	(void)e;
	i8042_ctrl_alt_del(machine_object(machine, &i8042_kind));
	return 0;
}

static const struct device_ops ops = {
	.reset = reset, .states = states, .loaded = loaded, .destroy = destroy
};

const struct device_kind i8042_kind = {
	.name = "i8042",
	.size = sizeof(struct i8042),
	.ops = &ops,
	.create = i8042_create,
	.node = { "KBD", "PNP0303", NULL, PLATFORM_GSI_I8042_KEYBOARD },
	.windows = { { PLATFORM_PORT_I8042_DATA, 1, &i8042_data_bus_ops },
		     { PLATFORM_PORT_I8042_COMMAND, 1, &i8042_command_bus_ops } },
};
