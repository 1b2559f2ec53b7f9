// SPDX-License-Identifier: Apache-2.0
/*
 * PCI hot-plug as a device: vmm/pci_hotplug.h between the power block, whose event tells the guest, the
 * bus, which a device leaves on the vCPU that ejects it, and the machine (machine_plug.c).
 *
 * vCPUs, and the thread that owns the machine. Saved: the registers.
 */
#include "pci_hotplug.h"

#include "vmm/acpi_power.h"
#include "vmm/cleanup.h"
#include "vmm/netdev.h"
#include "vmm/vm_config.h"

static void notify(struct pci_hotplug_sink *sink)
{
	acpi_power_notify(container_of(sink, struct pci_slots, sink)->power,
			  ACPI_EVENT_PCI_HOTPLUG);
}

static void eject(struct pci_hotplug_sink *sink, uint32_t slot)
{
	pci_bus_remove_device(&container_of(sink, struct pci_slots, sink)->host->bus, slot);
}

static void left(struct pci_hotplug_sink *sink)
{
	struct machine *machine = container_of(sink, struct pci_slots, sink)->machine;

	if (machine->device_left != NULL) {
		machine->device_left(machine);
	}
}

static int pci_hotplug_create(struct device *device, struct machine *machine,
			      const struct vm_config *config, uint32_t index, struct error *e)
{
	struct pci_slots *slots = device->object;

	(void)config;
	(void)index;
	(void)e;
	slots->sink = (struct pci_hotplug_sink){ notify, eject, left };
	slots->machine = machine;
	slots->query = -1;
	slots->host = pci_host_of(machine);
	slots->power = machine_object(machine, &acpi_power_kind);
	pci_hotplug_init(&slots->hotplug, &slots->sink);
	return 0;
}

static uint32_t pci_hotplug_count(const struct vm_config *config)
{
	return vm_config_has_pci(config) ? 1 : 0;
}

static int reset(struct device *device, struct error *e)
{
	(void)e;
	pci_hotplug_reset(&((struct pci_slots *)device->object)->hotplug);
	return 0;
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	struct pci_slots *slots = device->object;

	states[0] = (struct state_part){ &pci_hotplug_state, &slots->hotplug.state };
	return 1;
}

/* Without it cards cannot come; no reason not to start. */
static int start(struct device *device, struct error *e)
{
	struct pci_slots *slots = device->object;

	(void)e;
	slots->query = netdev_open_query();
	return 0;
}

static void destroy(struct device *device)
{
	struct pci_slots *slots = device->object;

	if (slots->machine != NULL) {
		close_fd(&slots->query);
		pci_hotplug_finish(&slots->hotplug);
	}
}

static const struct device_ops ops = {
	.start = start, .reset = reset, .states = states, .destroy = destroy
};

const struct device_kind pci_hotplug_kind = {
	.name = "pci-hotplug",
	.size = sizeof(struct pci_slots),
	.ops = &ops,
	.count = pci_hotplug_count,
	.create = pci_hotplug_create,
	.windows = { { PLATFORM_PORT_PCI_HOTPLUG, PCI_HOTPLUG_PORTS, &pci_hotplug_bus_ops } },
};
