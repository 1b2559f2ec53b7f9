/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMM_X86_ACPI_EVENTS_H
#define VMM_X86_ACPI_EVENTS_H

#include "../aml.h"

/* The power block's nodes in \_SB. */
void acpi_describe_events(struct aml *aml, bool hotplug);

#endif
