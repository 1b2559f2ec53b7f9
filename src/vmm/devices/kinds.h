/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The types of devices, a file each in this folder. Those whose objects others call are listed here:
 * machine_object(machine, &serial_kind) is the serial port.
 */
#ifndef VMM_DEVICES_KINDS_H
#define VMM_DEVICES_KINDS_H

#include "../machine.h"

extern const struct device_kind irqchip_kind, kvm_clock_kind, serial_kind, rtc_kind, i8042_kind,
	acpi_power_kind, pm_timer_kind, pvpanic_kind, debug_exit_kind, pci_kind, pci_hotplug_kind,
	disk_kind, net_kind, console_kind, entropy_kind, vmgenid_kind, vmclock_kind;

/* Their objects begin with a virtio_node. */
bool kind_is_virtio(const struct device_kind *kind);

#endif
