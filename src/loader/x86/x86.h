/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of src/loader/x86 share: bzImage, and the boot data of Linux' two entries.
 */
#ifndef VMM_LOADER_X86_H
#define VMM_LOADER_X86_H

#include <asm/bootparam.h>

#include "../internal.h"

_Static_assert(sizeof(struct setup_header) <= KERNEL_HEADER_MAX, "setup header of a kernel");

/* bzimage.c */
struct bzimage {
	struct setup_header header;
	uint64_t code_offset, code_size;       /* the protected-mode part in the file */
	uint64_t payload_offset, payload_size; /* in the file; size 0: none */
	gpa_t load;			       /* where the protected-mode part goes */
	uint64_t init_size;
};

int bzimage_parse(struct bzimage *bz, const struct source *src, struct error *e);
int bzimage_load(const struct source *src, struct guest_memory *mem, struct kernel *kernel,
		 struct error *e);

/* unpack.c: the payload of a bzImage, unpacked here. */
/* False if the packing is left to the guest; then nothing was done. */
bool unpack_supported(const struct bzimage *bz, const struct source *src);
int unpack_load(const struct bzimage *bz, const struct source *src, struct guest_memory *mem,
		struct kernel *kernel, struct error *e);

/* memmap.c: the memory map that E820 and PVH share; types are those of the ACPI specification §15.
 */
#define MEMMAP_RAM	   1
#define MEMMAP_RESERVED	   2
#define MEMMAP_ENTRIES_MAX 5

struct memmap_entry {
	gpa_t base;
	uint64_t size;
	uint32_t type;
};

uint32_t memmap_build(const struct guest_memory *mem, struct memmap_entry *entries);

/* boot_params.c, pvh.c: each writes its structure and fills entry->info. */
int boot_params_write(struct guest_memory *mem, const struct kernel *kernel,
		      const struct initrd *initrd, gpa_t rsdp, struct boot_entry *entry,
		      struct error *e);
int pvh_write(struct guest_memory *mem, const struct initrd *initrd, gpa_t rsdp,
	      struct boot_entry *entry, struct error *e);

/* longmode.c: page tables and GDT. */
int longmode_write(struct guest_memory *mem, struct boot_entry *entry, struct error *e);

#endif
