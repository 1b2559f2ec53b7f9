/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initrd goes as high as it can in low RAM: below what the kernel allows, page aligned, clear
 * of the kernel and of the first MiB. Where a big kernel leaves no room above itself in a small
 * guest, it goes below the kernel.
 */
#include <inttypes.h>

#include "internal.h"
#include "vmm/platform.h"

/* The highest page-aligned place for `size` bytes in [start, end), or 0. */
static gpa_t highest_fit(gpa_t start, gpa_t end, uint64_t size)
{
	gpa_t gpa;

	if (end < size) {
		return 0;
	}
	gpa = ALIGN_DOWN(end - size, PAGE_SIZE_4K);
	return gpa >= start ? gpa : 0;
}

/* All files together; each but the last is padded. */
struct pile {
	struct source sources[LOADER_INITRDS_MAX];
	uint32_t count;
	uint64_t size;
};

#define PIECE_ALIGNMENT 4 /* Documentation/driver-api/early-userspace/buffer-format.rst */

static int add_file(struct pile *pile, const struct loader_image *image, struct error *e)
{
	struct source *src = &pile->sources[pile->count];
	int r = source_init(src, image, "initrd", ERROR_INITRD, e);

	if (r != 0) {
		return r;
	}
	pile->count++;
	/* Sizes of files: their sum cannot wrap. */
	pile->size = ALIGN_UP(pile->size, (uint64_t)PIECE_ALIGNMENT) + src->size;
	return 0;
}

static int too_large(const struct source *src, uint64_t size, const struct guest_memory *mem,
		     const struct kernel *kernel, struct error *e)
{
	uint64_t kernel_size = kernel->end - kernel->start;
	uint64_t mib = (ALIGN_UP(kernel->end, MIB(1)) + ALIGN_UP(size, MIB(1))) >> 20;

	if (size > mem->size) {
		source_error(src, e,
			     "its %" PRIu64 " bytes are more than the guest's RAM of %" PRIu64,
			     size, mem->size);
	} else {
		source_error(src, e,
			     "its %" PRIu64 " bytes do not fit beside the kernel (%" PRIu64
			     " bytes) into RAM of "
			     "%" PRIu64 " below 0x%" PRIx64,
			     size, kernel_size, mem->size,
			     MIN(kernel->initrd_end, arch_low_end(mem)));
	}
	if (size > PLATFORM_RAM_LOW_END || mib > PLATFORM_RAM_LOW_END >> 20 ||
	    mib << 20 > kernel->initrd_end) {
		return error_hint(e, "no amount of memory helps: the initrd has to be smaller");
	}
	/* Linux unpacks it beside itself; twice its size is what it takes at least. */
	return error_hint(e,
			  "give the guest more memory, --memory %" PRIu64
			  "M or more, or make the initrd smaller",
			  (mib + (size >> 20)));
}

int initrd_load(const struct loader_image *images, uint32_t count, struct guest_memory *mem,
		const struct kernel *kernel, struct initrd *initrd, struct error *e)
{
	gpa_t end = MIN(kernel->initrd_end, arch_low_end(mem));
	struct pile pile = { 0 };
	gpa_t gpa = 0, at;
	int r = 0;

	*initrd = (struct initrd){ 0 };
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		r = add_file(&pile, &images[i], e);
	}
	if (r != 0 || count == 0) {
		return r;
	}
	if (kernel->end < end) {
		gpa = highest_fit(MAX(kernel->end, (gpa_t)PLATFORM_KERNEL_MIN), end, pile.size);
	}
	if (gpa == 0) {
		gpa = highest_fit(PLATFORM_KERNEL_MIN, MIN(kernel->start, end), pile.size);
	}
	if (gpa == 0) {
		return too_large(&pile.sources[count - 1], pile.size, mem, kernel, e);
	}
	at = gpa;
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		at = ALIGN_UP(at, (gpa_t)PIECE_ALIGNMENT);
		r = source_load(&pile.sources[i], 0, mem, at, pile.sources[i].size, e);
		at += pile.sources[i].size;
	}
	if (r == 0) {
		*initrd = (struct initrd){ gpa, pile.size };
	}
	return r;
}
