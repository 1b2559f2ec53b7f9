/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PVH start info, version 1: the structure that %ebx points to, followed by the list of modules
 * (the initrd) and the memory map (xen/include/public/arch-x86/hvm/start_info.h, whose layout the
 * offsets below repeat).
 */
#include "x86.h"
#include "vmm/bytes.h"
#include "vmm/platform.h"

#define START_INFO_MAGIC 0x336ec578U
#define START_INFO_SIZE	 56
#define MODULE_SIZE	 32
#define MEMMAP_SIZE	 24

int pvh_write(struct guest_memory *mem, const struct initrd *initrd, gpa_t rsdp,
	      struct boot_entry *entry, struct error *e)
{
	uint8_t info[START_INFO_SIZE + MODULE_SIZE + MEMMAP_ENTRIES_MAX * MEMMAP_SIZE] = { 0 };
	const gpa_t gpa = PLATFORM_PVH_START_INFO;
	struct memmap_entry map[MEMMAP_ENTRIES_MAX];
	uint32_t count = memmap_build(mem, map);
	uint8_t *p;

	store_le32(info + 0, START_INFO_MAGIC);
	store_le32(info + 4, 1); /* version; flags at 8 are 0 */
	if (initrd->size != 0) {
		store_le32(info + 12, 1);
		store_le64(info + 16, gpa + START_INFO_SIZE);
		p = info + START_INFO_SIZE;
		store_le64(p + 0, initrd->gpa);
		store_le64(p + 8, initrd->size);
	}
	store_le64(info + 24, PLATFORM_CMDLINE);
	store_le64(info + 32, rsdp);
	store_le64(info + 40, gpa + START_INFO_SIZE + MODULE_SIZE);
	store_le32(info + 48, count);
	p = info + START_INFO_SIZE + MODULE_SIZE;
	for (uint32_t i = 0; i < count; i++, p += MEMMAP_SIZE) {
		store_le64(p + 0, map[i].base);
		store_le64(p + 8, map[i].size);
		store_le32(p + 16, map[i].type);
	}
	if (!guest_memory_write(mem, gpa, info, sizeof(info))) {
		return error_set(e, ERROR_INTERNAL, 0, "the PVH start info is outside RAM");
	}
	entry->info = gpa;
	return 0;
}

_Static_assert(PLATFORM_PVH_START_INFO + START_INFO_SIZE + MODULE_SIZE +
			       MEMMAP_ENTRIES_MAX * MEMMAP_SIZE <=
		       PLATFORM_BOOT_PARAMS,
	       "the start info ends before boot_params");
