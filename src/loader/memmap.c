/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory map that the guest is told: RAM regions without the EBDA and the BIOS area below 1
 * MiB, where the ACPI tables are. What the loader puts below 640 KiB stays usable RAM: Linux copies
 * it or reserves the first MiB before it allocates.
 */
#include "internal.h"
#include "vmm/platform.h"

gpa_t memmap_low_end(const struct guest_memory *mem)
{
	for (uint32_t i = 0; i < mem->region_count; i++) {
		if (mem->regions[i].gpa == 0) {
			return mem->regions[i].size;
		}
	}
	return 0;
}

uint32_t memmap_build(const struct guest_memory *mem, struct memmap_entry *entries)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < mem->region_count; i++) {
		const struct guest_memory_region *region = &mem->regions[i];

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
	return n;
}

_Static_assert(GUEST_MEMORY_REGIONS_MAX + 2 <= MEMMAP_ENTRIES_MAX, "one region is split in three");
