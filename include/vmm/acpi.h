/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables of a hardware-reduced machine (ACPI 6.4): RSDP, XSDT, FADT, MADT, DSDT, written into
 * guest RAM at PLATFORM_ACPI before the first instruction. Pure function of its description;
 * allocates nothing. No FACS, no SCI, no interrupt source overrides: each device's _CRS says how
 * its interrupt works. The RTC node has no interrupt, as the device has none.
 *
 * DSDT: one LNRO0005 node per virtio-mmio device (edge, active high), COM1 (PNP0501), RTC
 * (PNP0B00), keyboard (PNP0303), GED (ACPI0013) with the power button (PNP0C0C), pvpanic
 * (QEMU0001), processors (ACPI0007), \_S5.
 */
#ifndef VMM_ACPI_H
#define VMM_ACPI_H

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/types.h"

struct acpi_virtio_mmio {
	gpa_t base;
	uint64_t size;
	uint32_t gsi;
};

struct acpi_machine {
	uint32_t vcpus;
	const uint32_t *apic_ids; /* `vcpus` of them; may have gaps */
	const struct acpi_virtio_mmio *virtio;
	uint32_t virtio_count;
	bool serial;
	bool pvpanic;
};

/*
 * Builds all tables in `area`, `size` bytes that the guest will see at `base` (16-byte aligned);
 * the RSDP comes first. *used gets how much of the area they take; bytes beyond are untouched.
 * Bytes below are undefined after a failure.
 */
int acpi_build_tables(uint8_t *area, size_t size, gpa_t base, const struct acpi_machine *machine,
		      size_t *used, struct error *e);
/* Writes all tables. *rsdp gets the RSDP's address. Fails (ERROR_INTERNAL) if the area is too
 * small. */
int acpi_write_tables(struct guest_memory *mem, const struct acpi_machine *machine, gpa_t *rsdp,
		      struct error *e);

#endif
