/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an ELF kernel. */
#include "fuzz_kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint8_t ident[] = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT };
	static uint8_t image[KIB(128)];

	if (len < 64 || len > sizeof(image)) {
		return 0;
	}
	memcpy(image, data, len);
	memcpy(image, ident, sizeof(ident));
	store_le16(image + offsetof(Elf64_Ehdr, e_machine), EM_X86_64);
	store_le16(image + offsetof(Elf64_Ehdr, e_phentsize), sizeof(Elf64_Phdr));
	fuzz_kernel(image, len);
	return 0;
}
