/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a file that contains a kernel: a gzip file, whose header is forced, or a unified kernel
 * image, whose two signatures are, so that the fuzzer gets behind them. Those that a program unpacks
 * are left out. */
#include "fuzz_kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define PE_AT 0x40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t image[KIB(128)];
	struct loader_request request = { .kernel = { .path = "fuzz" }, .cmdline = "" };
	struct error e = { 0 };
	char *cmdline = NULL;
	int r;

	if (len < 0x80 || len > sizeof(image)) {
		return 0;
	}
	memcpy(image, data, len);
	if ((data[len - 1] & 1) != 0) {
		memcpy(image, "\x1f\x8b\x08", 3);
		image[3] &= 0x1f;
	} else {
		memcpy(image, "MZ", 2);
		store_le32(image + 0x3c, PE_AT);
		memcpy(image + PE_AT, "PE\0\0\x64\x86", 6);
		store_le16(image + PE_AT + 6, data[2] % 4);
		store_le16(image + PE_AT + 20, 0);
		memcpy(image + PE_AT + 24, ".linux\0", 8);
	}
	request.kernel.fd = memfd_create("fuzz", MFD_CLOEXEC);
	fuzz_require(pwrite(request.kernel.fd, image, len, 0) == (ssize_t)len);
	r = loader_prepare(&request, &cmdline, &e);
	if (r != 0) {
		fuzz_require(r < 0 && e.code != ERROR_NONE && e.msg[0] != '\0' && cmdline == NULL);
	} else {
		fuzz_require(request.initrd_count <= 1);
		fuzz_require(request.kernel.size <= len);
	}
	free(cmdline);
	close(request.kernel.fd);
	return 0;
}
