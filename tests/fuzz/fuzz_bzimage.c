/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a bzImage: the setup header is forced to look like one, so that the fuzzer gets
 * behind detection. */
#include "fuzz_kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t image[KIB(128)];
	struct setup_header hdr;

	if (len < 0x1f1 + sizeof(hdr) || len > sizeof(image)) {
		return 0;
	}
	memcpy(image, data, len);
	memcpy(&hdr, image + 0x1f1, sizeof(hdr));
	hdr.header = 0x53726448;
	hdr.loadflags |= LOADED_HIGH;
	hdr.version |= 0x200;
	memcpy(image + 0x1f1, &hdr, sizeof(hdr));
	fuzz_kernel(image, len);
	return 0;
}
