/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMM_DEVICES_PCI_HOTPLUG_H
#define VMM_DEVICES_PCI_HOTPLUG_H

#include "pci.h"
#include "vmm/pci_hotplug.h"

struct acpi_power;

struct pci_slots {
	struct pci_hotplug hotplug; /* first: the object of its ports */
	struct pci_hotplug_sink sink;
	struct machine *machine;
	struct pci_host *host;
	struct acpi_power *power;
	int query; /* netdev_open_query(), once the machine's thread runs; -1: not yet */
};

/* NULL: the machine has none. */
static inline struct pci_hotplug *pci_hotplug_of(struct machine *machine)
{
	return machine_object(machine, &pci_hotplug_kind);
}

/* For cards that come when no socket can be made any more; -1: that is not yet. */
static inline int pci_hotplug_query(struct machine *machine)
{
	const struct pci_slots *slots = machine_object(machine, &pci_hotplug_kind);

	return slots != NULL ? slots->query : -1;
}

#endif
