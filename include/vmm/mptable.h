/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Intel MultiProcessor table (MP specification 1.4), for guests that do not read ACPI: the
 * processors, one ISA bus, the I/O APIC, and which of its pins each interrupt line has. Written
 * into guest RAM at PLATFORM_MPTABLE before the first instruction, where the specification has
 * guests look for it (§4: the BIOS area). Pure function of its arguments; allocates nothing.
 */
#ifndef VMM_MPTABLE_H
#define VMM_MPTABLE_H

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/types.h"

/*
 * Builds pointer and table in `area`, `size` bytes that the guest will see at `base` (16-byte
 * aligned, below 4 GiB), for processors with the APIC ids 0 to vcpus - 1. *used gets how much they
 * take. Fails (ERROR_INTERNAL) if the area is too small.
 */
int mptable_build(uint8_t *area, size_t size, gpa_t base, uint32_t vcpus, size_t *used,
		  struct error *e);
int mptable_write(struct guest_memory *mem, uint32_t vcpus, struct error *e);

#endif
