/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The platform devices of a PC. Constant.
 */
#include "../../arch.h"
#include "../../devices/kinds.h"

const struct device_kind *const arch_device_kinds[] = {
	&irqchip_kind, /* first: see vmm/device.h */
	&kvm_clock_kind, &serial_kind,	&rtc_kind,	  &i8042_kind, &acpi_power_kind,
	&pm_timer_kind,	 &pvpanic_kind, &debug_exit_kind, NULL,
};
