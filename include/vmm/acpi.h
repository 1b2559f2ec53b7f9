/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables of a hardware-reduced machine (ACPI 6.4): RSDP, XSDT, FADT, MADT, DSDT, written into
 * guest RAM at PLATFORM_ACPI before the first instruction. Pure function of its description;
 * allocates nothing. No FACS, no SCI, no interrupt source overrides: each device's _CRS says how
 * its interrupt works. The RTC node has no interrupt, as the device has none.
 *
 * DSDT, whose nodes the devices write themselves (src/vmm/acpi_nodes.h): one LNRO0005 node per
 * virtio-mmio device (edge, active high), COM1 (PNP0501), RTC
 * (PNP0B00), keyboard (PNP0303), GED (ACPI0013) with the power button (PNP0C0C), pvpanic
 * (QEMU0001), VMGenID (VMGENCTR), VMClock (AMZNC10C), processors (ACPI0007), \_S5. With PCI: the
 * host bridge PCI0 (PNP0A08) with its windows,
 * no _PRT, because no function has an interrupt pin, and no _OSC, so that hot-plug and errors stay
 * the platform's; its 31 slots, each with _EJ0, and the method that tells of those whose device comes
 * or is to go (vmm/pci_hotplug.h); the ECAM region as a motherboard resource (PNP0C02), without which Linux does not
 * believe the MCFG table.
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

/* One bus, 0 of segment 0. */
struct acpi_pci {
	gpa_t ecam;
	uint64_t ecam_size;
	gpa_t aperture;
	uint64_t aperture_size;
};

struct aml;

struct acpi_machine {
	uint32_t vcpus;
	const uint32_t *apic_ids; /* `vcpus` of them; may have gaps */
	const struct acpi_virtio_mmio *virtio;
	uint32_t virtio_count;
	const struct acpi_pci *pci; /* for MCFG; NULL: none */
	/* Writes the nodes of all other devices into \_SB, PCI's among them; NULL: there are none. */
	void (*describe)(const struct acpi_machine *machine, struct aml *aml);
	void *devices; /* describe()'s */
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
