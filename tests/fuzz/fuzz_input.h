/* SPDX-License-Identifier: Apache-2.0 */
/* A string of bytes taken apart from the front, at most 8 at a time; beyond its end all is 0. */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <string.h>

#include "vmm/bytes.h"
#include "vmm/types.h"

struct fuzz_input {
	const uint8_t *data;
	size_t len;
};

static inline uint64_t fuzz_take(struct fuzz_input *in, size_t bytes)
{
	uint8_t raw[8] = { 0 };
	size_t n = MIN(bytes, in->len);

	memcpy(raw, in->data, n);
	in->data += n;
	in->len -= n;
	return load_le64(raw);
}

#endif
