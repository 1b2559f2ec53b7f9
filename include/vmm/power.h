/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest can ask of the machine as a whole. Devices report it here (from a vCPU thread); the
 * life cycle (src/vmm/vm.c) acts on it on the main thread. The first event of a machine's life
 * wins; later ones are ignored until reset.
 */
#ifndef VMM_POWER_H
#define VMM_POWER_H

#include "vmm/types.h"

enum power_event {
	POWER_NONE = 0,
	POWER_OFF,	    /* ACPI S5 */
	POWER_RESET,	    /* reset register, i8042 */
	POWER_PANIC,	    /* pvpanic */
	POWER_TRIPLE_FAULT, /* KVM_EXIT_SHUTDOWN */
	POWER_DEBUG_EXIT,   /* debug-exit port; code is the byte */
};

struct power_sink {
	void (*event)(struct power_sink *sink, enum power_event event, uint8_t code);
};

static inline void power_report(struct power_sink *sink, enum power_event event, uint8_t code)
{
	sink->event(sink, event, code);
}

#endif
