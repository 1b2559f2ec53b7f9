/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes of devices in the DSDT's \_SB (ACPI 6.4 §6.1 identification, §6.2 _CRS). Private to src/vmm: what
 * a kind of device says of itself (struct device_kind's `node`, struct device_ops' describe()) is written
 * by these. Pure functions.
 */
#ifndef VMM_SRC_ACPI_NODES_H
#define VMM_SRC_ACPI_NODES_H

#include "aml.h"
#include "vmm/acpi.h"
#include "vmm/device.h"

/* The node of a platform device: its name and identifiers, and the ports of its windows. Nothing if it
 * has none. */
void acpi_describe_node(struct aml *aml, const struct device_kind *kind);
/* VGEN and VCLK: where the two are (vmm/vmgenid.h, vmm/vmclock.h). */
#define ACPI_VMGENID "\\_SB.VGEN"
#define ACPI_VMCLOCK "\\_SB.VCLK"
void acpi_describe_vmgenid(struct aml *aml);
void acpi_describe_vmclock(struct aml *aml);
/* The host bridge PCI0 with its slots, and the ECAM region. */
void acpi_describe_pci(struct aml *aml, const struct acpi_pci *pci);

#endif
