/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power block of a hardware-reduced ACPI machine (ACPI 6.4 §4.8.3.7, §5.6.9): sleep and reset registers that the FADT names, and
 * the status register of the Generic Event Device that the DSDT reads in its _EVT method. 8 ports at PLATFORM_PORT_ACPI:
 *	+0 sleep control, byte: SLP_TYP << 2 | SLP_EN (0x20); type 5 powers off, others are ignored
 *	+1 sleep status, byte: WAK_STS (0x80), write 1 to clear; always reads 0
 *	+2 reset, byte: ACPI_POWER_RESET_VALUE resets
 *	+4 event status, dword: a read returns the pending events and clears them
 * The interrupt is a level: high as long as an event is pending, so that one which comes before the guest's driver waits for it.
 * vCPU threads, main and the thread that owns the machine; one lock. Saved: pending events.
 */
#ifndef VMM_ACPI_POWER_H
#define VMM_ACPI_POWER_H

#include <pthread.h>

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
#define ACPI_EVENT_PCI_HOTPLUG	(1U << 1)
#define ACPI_EVENT_VMGENID	(1U << 2)
#define ACPI_EVENT_VMCLOCK	(1U << 3)

/* What is saved. */
struct acpi_power_state {
	uint32_t events; /* pending ACPI_EVENT_... */
};

struct acpi_power {
	struct irq_line *irq;	  /* GED's GSI, level; borrowed */
	struct power_sink *power; /* borrowed */
	pthread_mutex_t lock;	  /* state, and the line that follows it */
	struct acpi_power_state state;
};

extern const struct bus_ops acpi_power_bus_ops;
extern const struct state_desc acpi_power_state;

void acpi_power_init(struct acpi_power *pm, struct irq_line *irq, struct power_sink *power);
/* Accepts a zeroed one. */
void acpi_power_finish(struct acpi_power *pm);
void acpi_power_reset(struct acpi_power *pm);
/* The state was loaded: the line as it says. */
void acpi_power_loaded(struct acpi_power *pm);
/* Raises events towards the guest's GED. Any thread. */
void acpi_power_notify(struct acpi_power *pm, uint32_t events);

#endif
