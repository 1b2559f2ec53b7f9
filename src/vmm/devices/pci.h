/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI bus of a machine (vmm/pci.h), with the interrupts and doorbells that KVM gives its functions.
 * There is none where devices are on virtio-mmio.
 */
#ifndef VMM_DEVICES_PCI_H
#define VMM_DEVICES_PCI_H

#include "kinds.h"
#include "vmm/acpi.h"
#include "vmm/pci.h"

struct pci_host {
	struct pci_bus bus;
	struct msi msi;
	/* Virtio devices of the start have places in the order in which they are made, which is that of
	 * a guest's names for them: the first ones a device each, what is left over eight to a device.
	 * Who comes later has the first device that nobody has. */
	uint32_t planned, alone, placed;
};

/* NULL: the machine has none. */
static inline struct pci_host *pci_host_of(struct machine *machine)
{
	return machine_object(machine, &pci_kind);
}

/* The next free place; in a machine that is loaded, where it was. ERROR_CONFIG if there is none. */
int pci_host_place(struct pci_host *host, const struct device *device,
		   const struct machine *machine, uint8_t *devfn, struct error *e);

/* What ACPI tells of it. */
void pci_host_announce(const struct pci_host *host, struct acpi_pci *ret);

#endif
