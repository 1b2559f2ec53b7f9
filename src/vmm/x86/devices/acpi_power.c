/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI power block as a device; src/devices/acpi_power.c is the part itself.
 */
#include "../../devices/kinds.h"
#include "../acpi_events.h"
#include "vmm/acpi_power.h"

static int acpi_power_create(struct device *device, struct machine *machine,
			     const struct vm_config *config, uint32_t index, struct error *e)
{
	(void)config;
	(void)index;
	(void)e;
	acpi_power_init(device->object, irqchip_level_line(machine->irqchip, PLATFORM_GSI_ACPI),
			machine->power);
	return 0;
}

static int reset(struct device *device, struct error *e)
{
	(void)e;
	acpi_power_reset(device->object);
	return 0;
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	states[0] = (struct state_part){ &acpi_power_state,
					 &((struct acpi_power *)device->object)->state };
	return 1;
}

static int loaded(struct device *device, struct error *e)
{
	(void)e;
	acpi_power_loaded(device->object);
	return 0;
}

static void describe(const struct device *device, struct machine *machine, struct aml *aml)
{
	(void)device;
	acpi_describe_events(aml, machine_object(machine, &pci_hotplug_kind) != NULL);
}

static void destroy(struct device *device)
{
	acpi_power_finish(device->object);
}

static const struct device_ops ops = {
	.reset = reset, .states = states, .loaded = loaded, .describe = describe, .destroy = destroy
};

const struct device_kind acpi_power_kind = {
	.name = "acpi-power",
	.size = sizeof(struct acpi_power),
	.ops = &ops,
	.create = acpi_power_create,
	.windows = { { PLATFORM_PORT_ACPI, ACPI_POWER_PORTS, &acpi_power_bus_ops } },
};
