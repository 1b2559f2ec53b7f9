/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What devices are in the DSDT. The order of a node's names is of no meaning to a guest. Constant
 * input; nothing is saved, the tables are guest memory.
 */
#include "acpi_nodes.h"

#include <string.h>

#include "acpi_hotplug.h"
#include "vmm/platform.h"
#include "vmm/vmclock.h"

#define STATUS_PRESENT 0x0f
#define EISA_ID_LEN    7 /* "PNP0501" is compressed, "QEMU0001" is a string (§6.1.5) */

void acpi_describe_node(struct aml *aml, const struct device_kind *kind)
{
	const struct device_node *node = &kind->node;
	size_t device, resources;

	if (node->name == NULL) {
		return;
	}
	device = aml_device_begin(aml, node->name);
	if (strlen(node->hid) == EISA_ID_LEN) {
		aml_name_eisa_id(aml, "_HID", node->hid);
	} else {
		aml_name_string(aml, "_HID", node->hid);
	}
	aml_name_integer(aml, "_UID", 0);
	if (node->ddn != NULL) {
		aml_name_string(aml, "_DDN", node->ddn);
	}
	aml_name_integer(aml, "_STA", STATUS_PRESENT);
	aml_name(aml, "_CRS");
	resources = aml_resources_begin(aml);
	for (size_t i = 0; i < DEVICE_WINDOWS_MAX && kind->windows[i].len != 0; i++) {
		aml_resource_ports(aml, kind->windows[i].port, (uint8_t)kind->windows[i].len);
	}
	if (node->gsi != 0) {
		aml_resource_interrupt(aml, node->gsi, false);
	}
	aml_resources_end(aml, resources);
	aml_end(aml, device);
}

/* Linux binds by the hardware identifier, others by the compatible one, which is longer than one may be. */
void acpi_describe_vmgenid(struct aml *aml)
{
	size_t device = aml_device_begin(aml, ACPI_VMGENID), package;

	aml_name_string(aml, "_HID", "VMGENCTR");
	aml_name_string(aml, "_CID", "VM_Gen_Counter");
	aml_name_string(aml, "_DDN", "VM_Gen_Counter");
	aml_name(aml, "ADDR");
	package = aml_package_begin(aml, 2);
	aml_integer(aml, PLATFORM_VMGENID); /* low half, high half */
	aml_integer(aml, 0);
	aml_end(aml, package);
	aml_end(aml, device);
}

void acpi_describe_vmclock(struct aml *aml)
{
	size_t device = aml_device_begin(aml, ACPI_VMCLOCK), resources;

	aml_name_string(aml, "_HID", "AMZNC10C");
	aml_name_string(aml, "_CID", "VMCLOCK");
	aml_name_string(aml, "_DDN", "VMCLOCK");
	aml_name(aml, "_CRS");
	resources = aml_resources_begin(aml);
	aml_resource_memory32(aml, PLATFORM_VMCLOCK, VMCLOCK_PAGE_SIZE);
	aml_resources_end(aml, resources);
	aml_end(aml, device);
}

static void describe_host_bridge(struct aml *aml, const struct acpi_pci *pci)
{
	size_t device = aml_device_begin(aml, "PCI0"), resources;

	aml_name_eisa_id(aml, "_HID", "PNP0A08");
	aml_name_eisa_id(aml, "_CID", "PNP0A03");
	aml_name_integer(aml, "_UID", 0);
	aml_name_integer(aml, "_SEG", 0);
	aml_name_integer(aml, "_BBN", 0);
	aml_name_integer(aml, "_CCA", 1);
	aml_name(aml, "_CRS");
	resources = aml_resources_begin(aml);
	aml_resource_buses(aml, 0, 1);
	aml_resource_ports(aml, PLATFORM_PORT_PCI_ADDRESS, 8);
	aml_resource_window64(aml, pci->aperture, pci->aperture_size);
	aml_resources_end(aml, resources);
	aml_bytes(aml, acpi_hotplug_aml, acpi_hotplug_aml_size);
	aml_end(aml, device);
}

static void describe_ecam(struct aml *aml, const struct acpi_pci *pci)
{
	size_t device = aml_device_begin(aml, "ECAM"), resources;

	aml_name_eisa_id(aml, "_HID", "PNP0C02");
	aml_name_integer(aml, "_UID", 0);
	aml_name(aml, "_CRS");
	resources = aml_resources_begin(aml);
	aml_resource_memory32(aml, (uint32_t)pci->ecam, (uint32_t)pci->ecam_size);
	aml_resources_end(aml, resources);
	aml_end(aml, device);
}

void acpi_describe_pci(struct aml *aml, const struct acpi_pci *pci)
{
	describe_host_bridge(aml, pci);
	describe_ecam(aml, pci);
}
