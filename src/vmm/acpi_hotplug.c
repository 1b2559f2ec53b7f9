/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DSDT's part of PCI hot-plug (ACPI 6.4 §5.6.6, §6.1.1 _ADR, §6.1.11 _SUN, §6.3.3 _EJ0), in terms of
 * the registers of vmm/pci_hotplug.h. Every device number of the bus but the bridge's is a slot, whether
 * somebody is there or not, so the tables never change. There is no _STA: who wants to know whether a
 * slot is occupied reads the vendor from configuration space.
 *
 *	HPLG: Notify (slot, device check) for what has arrived, then Notify (slot, eject request) for
 *	what is wanted; each register is read once. The guest's kernel does what there is to do, and
 *	calls the slot's _EJ0 when it has let go of the device.
 *
 * Constant, and made when vmm is built; nothing is saved. That only some slots can be ejected, and when, is decided at the
 * registers.
 */
#include "acpi_hotplug.h"

#include <inttypes.h>
#include <stdio.h>

#include "vmm/pci.h"
#include "vmm/pci_hotplug.h"
#include "vmm/platform.h"

#define NOTIFY_DEVICE_CHECK  1
#define NOTIFY_EJECT_REQUEST 3

#define SLOT_NAME_SIZE 5

static void name_slot(char name[SLOT_NAME_SIZE], uint32_t slot)
{
	(void)snprintf(name, SLOT_NAME_SIZE, "S%03" PRIX32, slot & 0xfff);
}

static void describe_slot(struct aml *aml, uint32_t slot)
{
	char name[SLOT_NAME_SIZE];
	size_t device, method;

	name_slot(name, slot);
	device = aml_device_begin(aml, name);
	aml_name_integer(aml, "_ADR", (uint64_t)slot << 16);
	aml_name_integer(aml, "_SUN", slot);
	method = aml_method_begin(aml, "_EJ0", 1, false);
	aml_store(aml);
	aml_integer(aml, UINT32_C(1) << slot);
	aml_path(aml, "HPEJ");
	aml_end(aml, method);
	aml_end(aml, device);
}

static void notify_slots(struct aml *aml, const char *field, uint8_t value)
{
	aml_store(aml);
	aml_path(aml, field);
	aml_local(aml, 0);
	for (uint32_t slot = 1; slot < PCI_DEVICES_MAX; slot++) {
		size_t branch = aml_if_begin(aml);
		char name[SLOT_NAME_SIZE];

		aml_and_begin(aml);
		aml_local(aml, 0);
		aml_integer(aml, UINT32_C(1) << slot);
		aml_and_end(aml);
		name_slot(name, slot);
		aml_notify(aml, name, value);
		aml_end(aml, branch);
	}
}

void acpi_describe_hotplug(struct aml *aml)
{
	static const char *const fields[] = { "HPAR", "HPWA", "HPEJ" };
	size_t method;

	aml_port_region(aml, "HPRG", PLATFORM_PORT_PCI_HOTPLUG, PCI_HOTPLUG_PORTS);
	aml_dword_fields(aml, "HPRG", fields, ARRAY_SIZE(fields));
	for (uint32_t slot = 1; slot < PCI_DEVICES_MAX; slot++) {
		describe_slot(aml, slot);
	}
	method = aml_method_begin(aml, "HPLG", 0, true);
	notify_slots(aml, "HPAR", NOTIFY_DEVICE_CHECK);
	notify_slots(aml, "HPWA", NOTIFY_EJECT_REQUEST);
	aml_end(aml, method);
}
