/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power block (vmm/acpi_power.h) in the DSDT: the power button, and the Generic Event Device whose
 * method tells which event it was, and of whom. Constant; nothing is saved.
 */
#include "acpi_events.h"

#include "../acpi_hotplug.h"
#include "../acpi_nodes.h"
#include "vmm/acpi_power.h"
#include "vmm/platform.h"

#define NOTIFY_CHANGED 0x80 /* of each of these devices: what it is there to tell */

static void describe_power_button(struct aml *aml)
{
	size_t device = aml_device_begin(aml, "PWRB");

	aml_name_eisa_id(aml, "_HID", "PNP0C0C");
	aml_name_integer(aml, "_UID", 0);
	aml_end(aml, device);
}

/* What follows is done if the event is among those read. */
static size_t begin_event(struct aml *aml, uint32_t event)
{
	size_t branch = aml_if_begin(aml);

	aml_and_begin(aml);
	aml_local(aml, 0);
	aml_integer(aml, event);
	aml_and_end(aml);
	return branch;
}

static void notify_on(struct aml *aml, uint32_t event, const char *path)
{
	size_t branch = begin_event(aml, event);

	aml_notify(aml, path, NOTIFY_CHANGED);
	aml_end(aml, branch);
}

/* The Generic Event Device (§5.6.9): its one interrupt means "look at the event register", which
 * reading clears. */
static void describe_events(struct aml *aml, bool hotplug)
{
	static const char *const fields[] = { "EVTS" };
	size_t device = aml_device_begin(aml, "GED"), resources, method, branch;

	aml_name_string(aml, "_HID", "ACPI0013");
	aml_name_integer(aml, "_UID", 0);
	aml_name(aml, "_CRS");
	resources = aml_resources_begin(aml);
	aml_resource_level_interrupt(aml, PLATFORM_GSI_ACPI);
	aml_resources_end(aml, resources);
	aml_port_region(aml, "EVTR", PLATFORM_PORT_ACPI + ACPI_POWER_EVENTS, sizeof(uint32_t));
	aml_dword_fields(aml, "EVTR", fields, ARRAY_SIZE(fields));

	method = aml_method_begin(aml, "_EVT", 1, true);
	aml_store(aml);
	aml_path(aml, "EVTS");
	aml_local(aml, 0);
	notify_on(aml, ACPI_EVENT_VMGENID, ACPI_VMGENID);
	notify_on(aml, ACPI_EVENT_VMCLOCK, ACPI_VMCLOCK);
	notify_on(aml, ACPI_EVENT_POWER_BUTTON, "\\_SB.PWRB");
	if (hotplug) {
		branch = begin_event(aml, ACPI_EVENT_PCI_HOTPLUG);
		aml_path(aml, ACPI_HOTPLUG_METHOD);
		aml_end(aml, branch);
	}
	aml_end(aml, method);
	aml_end(aml, device);
}

void acpi_describe_events(struct aml *aml, bool hotplug)
{
	describe_power_button(aml);
	describe_events(aml, hotplug);
}
