/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power block of a hardware-reduced ACPI machine (ACPI 6.4 §4.8.3.7, §5.6.9): sleep and reset registers that the FADT names, and
 * the status register of the Generic Event Device that the DSDT reads in its _EVT method. 8 ports at PLATFORM_PORT_ACPI:
 *	+0 sleep control, byte: SLP_TYP << 2 | SLP_EN (0x20); type 5 powers off, others are ignored
 *	+1 sleep status, byte: WAK_STS (0x80), write 1 to clear; always reads 0
 *	+2 reset, byte: ACPI_POWER_RESET_VALUE resets
 *	+4 event status, dword: a read returns the pending events and clears them
 * vCPU threads and main; pending events are atomic. Saved: pending events.
 */
#ifndef VMM_ACPI_POWER_H
#define VMM_ACPI_POWER_H

#include <stdatomic.h>

#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/power.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define ACPI_POWER_PORTS	 8
#define ACPI_POWER_SLEEP_CONTROL 0
#define ACPI_POWER_SLEEP_STATUS	 1
#define ACPI_POWER_RESET	 2
#define ACPI_POWER_EVENTS	 4
#define ACPI_POWER_RESET_VALUE	 1
#define ACPI_POWER_SLP_TYP_S5	 5

#define ACPI_EVENT_POWER_BUTTON (1U << 0)

struct acpi_power {
	struct irq_line *irq;	  /* GED's GSI, edge; borrowed */
	struct power_sink *power; /* borrowed */
	_Atomic uint32_t events;
};

extern const struct bus_ops acpi_power_bus_ops;
extern const struct state_desc acpi_power_state;

void acpi_power_init(struct acpi_power *pm, struct irq_line *irq, struct power_sink *power);
void acpi_power_reset(struct acpi_power *pm);
/* Raises an event towards the guest's GED. Any thread. */
void acpi_power_notify(struct acpi_power *pm, uint32_t event);

#endif
