/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port COM1 as a device; src/devices/serial.c is the part itself.
 */
#include "../../devices/kinds.h"
#include "vmm/serial.h"

static int serial_create(struct device *device, struct machine *machine,
			 const struct vm_config *config, uint32_t index, struct error *e)
{
	(void)config;
	(void)index;
	(void)e;
	serial_init(device->object, irqchip_level_line(machine->irqchip, PLATFORM_GSI_SERIAL),
		    machine->host->serial);
	return 0;
}

static int reset(struct device *device, struct error *e)
{
	(void)e;
	serial_reset(device->object);
	return 0;
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	states[0] = (struct state_part){ &serial_state, &((struct serial *)device->object)->state };
	return 1;
}

static int loaded(struct device *device, struct error *e)
{
	(void)e;
	serial_resume(device->object);
	return 0;
}

static void destroy(struct device *device)
{
	serial_finish(device->object);
}

static const struct device_ops ops = {
	.reset = reset, .states = states, .loaded = loaded, .destroy = destroy
};

const struct device_kind serial_kind = {
	.name = "serial",
	.size = sizeof(struct serial),
	.ops = &ops,
	.create = serial_create,
	.node = { "COM1", "PNP0501", "COM1", PLATFORM_GSI_SERIAL },
	.windows = { { PLATFORM_PORT_SERIAL, SERIAL_PORTS, &serial_bus_ops } },
};
