// SPDX-License-Identifier: Apache-2.0
/*
 * Code at f000:fff0, where a PC's BIOS starts. Linux on hardware-reduced ACPI prefers EFI's reset
 * service to ACPI's reset register (arch/x86/platform/efi/quirks.c, efi_reboot_required()), and
 * without EFI goes on to jump to the BIOS in real mode: a stock kernel's reboot ends here, whatever
 * its command line says. So the code writes the ACPI reset register.
 *
 * Written at every load, before the first instruction. The guest may overwrite it like any RAM;
 * then its reboots are its own affair.
 */
#include "reset_vector.h"

#include <errno.h>

#include "vmm/acpi_power.h"
#include "vmm/platform.h"

#define RESET_PORT (PLATFORM_PORT_ACPI + ACPI_POWER_RESET)

/* mov dx, RESET_PORT; mov al, ACPI_POWER_RESET_VALUE; out dx, al; 1: hlt; jmp 1b */
static const uint8_t code[] = {
	0xba, RESET_PORT & 0xff, RESET_PORT >> 8, 0xb0, ACPI_POWER_RESET_VALUE, 0xee, 0xf4, 0xeb,
	0xfd,
};
_Static_assert(sizeof(code) <= 16, "from the reset vector to 1 MiB");

int reset_vector_write(struct guest_memory *mem, struct error *e)
{
	if (!guest_memory_write(mem, PLATFORM_RESET_VECTOR, code, sizeof(code))) {
		return error_set(e, ERROR_INTERNAL, EFAULT, "write the reset vector");
	}
	return 0;
}
