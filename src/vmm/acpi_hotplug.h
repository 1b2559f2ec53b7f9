/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMM_SRC_ACPI_HOTPLUG_H
#define VMM_SRC_ACPI_HOTPLUG_H

#include "aml.h"

/* For the event method, on ACPI_EVENT_PCI_HOTPLUG. */
#define ACPI_HOTPLUG_METHOD "\\_SB.PCI0.HPLG"

/* Inside the host bridge: slots, and the method above. For compile_hotplug.c, which makes the bytes below
 * of it when vmm is built. */
void acpi_describe_hotplug(struct aml *aml);
extern const uint8_t acpi_hotplug_aml[];
extern const size_t acpi_hotplug_aml_size;

#endif
