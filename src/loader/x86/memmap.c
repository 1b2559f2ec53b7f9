/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory map that the guest is told: RAM regions without the EBDA and the BIOS area below 1
 * MiB, where the ACPI tables are. What the loader puts below 640 KiB stays usable RAM: Linux copies
 * it or reserves the first MiB before it allocates. Configuration space of PCI is reserved, also where
 * there is none: Linux believes an MCFG table early only if the memory map agrees.
 */
#include "x86.h"
#include "vmm/platform.h"

gpa_t arch_low_end(const struct guest_memory *mem)
{
	for (uint32_t i = 0; i < mem->region_count; i++) {
		if (mem->regions[i].gpa == 0 && mem->regions[i].kind == GUEST_REGION_RAM) {
			return mem->regions[i].size;
		}
	}
	return 0;
}

uint32_t memmap_build(const struct guest_memory *mem, struct memmap_entry *entries)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < mem->region_count; i++) {
		const struct guest_region *region = &mem->regions[i];

		if (region->size == 0 || region->kind != GUEST_REGION_RAM) {
			continue;
		}
		VMM_BUG_ON(n + (region->gpa == 0 ? 3 : 1) > MEMMAP_ENTRIES_MAX);
		if (region->gpa != 0) {
			entries[n++] =
				(struct memmap_entry){ region->gpa, region->size, MEMMAP_RAM };
			continue;
		}
		entries[n++] = (struct memmap_entry){ 0, PLATFORM_EBDA, MEMMAP_RAM };
		entries[n++] =
			(struct memmap_entry){ PLATFORM_EBDA, PLATFORM_KERNEL_MIN - PLATFORM_EBDA,
					       MEMMAP_RESERVED };
		if (region->size > PLATFORM_KERNEL_MIN) {
			entries[n++] = (struct memmap_entry){ PLATFORM_KERNEL_MIN,
							      region->size - PLATFORM_KERNEL_MIN,
							      MEMMAP_RAM };
		}
	}
	VMM_BUG_ON(n == MEMMAP_ENTRIES_MAX);
	entries[n++] =
		(struct memmap_entry){ PLATFORM_PCI_ECAM, PLATFORM_PCI_ECAM_SIZE, MEMMAP_RESERVED };
	return n;
}
