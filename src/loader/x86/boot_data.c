/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loader's contract with an architecture (../internal.h) for x86: bzImage, and boot data by the
 * protocol that the kernel was found to have.
 */
#include "x86.h"

int arch_load_image(const struct source *src, enum image_format format, struct guest_memory *mem,
		    struct kernel *kernel, struct error *e)
{
	return format == IMAGE_BZIMAGE ? bzimage_load(src, mem, kernel, e)
				       : source_error(src, e, "it is packed twice");
}

int arch_write_boot_data(struct guest_memory *mem, const struct kernel *kernel,
			 const struct initrd *initrd, gpa_t rsdp, struct boot_entry *entry,
			 struct error *e)
{
	int r;

	if (kernel->protocol == BOOT_PVH) {
		return pvh_write(mem, initrd, rsdp, entry, e);
	}
	r = boot_params_write(mem, kernel, initrd, rsdp, entry, e);
	return r == 0 ? longmode_write(mem, entry, e) : r;
}
