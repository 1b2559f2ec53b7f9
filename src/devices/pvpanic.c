/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the pvpanic port (QEMU docs/specs/pvpanic) tells the host that the guest
 * panicked; the debug-exit port ends the process with the byte written. Both only pass the event on
 * to the life cycle. vCPU threads; no lock, nothing saved.
 *
 * "Crash kernel loaded" means that a kdump kernel takes over: the guest is still busy saving its
 * dump, so the machine goes on. The guest controls the value; only the low byte counts whatever the
 * width.
 */
#include "vmm/pvpanic.h"

static uint64_t pvpanic_read(void *device, uint64_t offset, unsigned int size)
{
	(void)device;
	(void)offset;
	(void)size;
	return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pvpanic *pvpanic = device;

	(void)offset;
	(void)size;
	if ((value & PVPANIC_PANICKED) != 0) {
		power_report(pvpanic->power, POWER_PANIC, (uint8_t)value);
	}
}

const struct bus_ops pvpanic_bus_ops = { .read = pvpanic_read, .write = pvpanic_write };

static uint64_t debug_exit_read(void *device, uint64_t offset, unsigned int size)
{
	(void)device;
	(void)offset;
	(void)size;
	return UINT64_MAX;
}

static void debug_exit_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	struct debug_exit *debug_exit = device;

	(void)offset;
	(void)size;
	power_report(debug_exit->power, POWER_DEBUG_EXIT, (uint8_t)value);
}

const struct bus_ops debug_exit_bus_ops = { .read = debug_exit_read, .write = debug_exit_write };
