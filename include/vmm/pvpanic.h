/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ISA pvpanic port (QEMU's docs/specs/pvpanic describe the contract that Linux' driver
 * expects): a read gives the supported events, a write of bit 0 says "panicked", of bit 1 "crash
 * kernel loaded" (that one saves its dump, so the machine runs on). And the debug-exit port: the
 * byte written becomes the process's exit status; it is on the bus only behind a flag. vCPU
 * threads; no state worth saving.
 */
#ifndef VMM_PVPANIC_H
#define VMM_PVPANIC_H

#include "vmm/bus.h"
#include "vmm/power.h"

#define PVPANIC_PANICKED     1
#define PVPANIC_CRASH_LOADED 2

struct pvpanic {
	struct power_sink *power; /* borrowed */
};
struct debug_exit {
	struct power_sink *power; /* borrowed */
};

extern const struct bus_ops pvpanic_bus_ops;
extern const struct bus_ops debug_exit_bus_ops;

#endif
