/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_params, the "zero page" that %rsi points to in the 64-bit boot protocol
 * (Documentation/arch/x86/{boot,zero-page}.rst): all zero except the kernel's own setup header,
 * what a loader has to fill in, and the memory map. A vmlinux brings no setup header; it gets the
 * few fields that Linux looks at.
 */
#include <string.h>

#include "x86.h"
#include "vmm/bytes.h"
#include "vmm/platform.h"

#define LOADER_UNASSIGNED 0xff /* type_of_loader: no id is assigned to us */
#define VID_MODE_NORMAL	  0xffff
#define BOOT_FLAG	  0xaa55
#define HEADER_MAGIC	  0x53726448 /* "HdrS" */
#define PROTOCOL_2_12	  0x020c     /* the first with a 64-bit entry */

static void fill_header(struct setup_header *hdr, const struct kernel *kernel,
			const struct initrd *initrd)
{
	if (kernel->has_header) {
		memcpy(hdr, kernel->header, sizeof(*hdr));
	} else {
		hdr->boot_flag = htole16(BOOT_FLAG);
		hdr->header = htole32(HEADER_MAGIC);
		hdr->version = htole16(PROTOCOL_2_12);
		hdr->loadflags = LOADED_HIGH;
		hdr->xloadflags = htole16(XLF_KERNEL_64);
		hdr->cmdline_size = htole32((uint32_t)kernel->cmdline_max);
	}
	hdr->vid_mode = htole16(VID_MODE_NORMAL);
	hdr->type_of_loader = LOADER_UNASSIGNED;
	hdr->ext_loader_type = 0;
	hdr->ext_loader_ver = 0;
	hdr->code32_start = htole32((uint32_t)kernel->start);
	hdr->setup_data = 0;
	hdr->cmd_line_ptr = htole32(PLATFORM_CMDLINE);
	hdr->ramdisk_image = htole32((uint32_t)initrd->gpa);
	hdr->ramdisk_size = htole32((uint32_t)initrd->size);
}

int boot_params_write(struct guest_memory *mem, const struct kernel *kernel,
		      const struct initrd *initrd, gpa_t rsdp, struct boot_entry *entry,
		      struct error *e)
{
	struct boot_params params = { 0 };
	struct memmap_entry map[MEMMAP_ENTRIES_MAX];
	uint32_t count = memmap_build(mem, map);

	fill_header(&params.hdr, kernel, initrd);
	params.ext_ramdisk_image = htole32((uint32_t)(initrd->gpa >> 32));
	params.ext_ramdisk_size = htole32((uint32_t)(initrd->size >> 32));
	params.acpi_rsdp_addr = htole64(rsdp);
	for (uint32_t i = 0; i < count; i++) {
		params.e820_table[i].addr = htole64(map[i].base);
		params.e820_table[i].size = htole64(map[i].size);
		params.e820_table[i].type = htole32(map[i].type);
	}
	params.e820_entries = (uint8_t)count;
	if (!guest_memory_write(mem, PLATFORM_BOOT_PARAMS, &params, sizeof(params))) {
		return error_set(e, ERROR_INTERNAL, 0, "boot_params is outside RAM");
	}
	entry->info = PLATFORM_BOOT_PARAMS;
	return 0;
}

_Static_assert(sizeof(struct boot_params) == 4096 &&
		       PLATFORM_BOOT_PARAMS + sizeof(struct boot_params) <= PLATFORM_PAGE_TABLES,
	       "boot_params ends before the page tables");
