/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of bytes by zstd: each is a frame of its own. What is unpacked is hostile: it gives exactly the bytes that were asked for, or is
 * refused.
 *
 * A zeroed object is ready; what the library needs is had when it is used first. Threads: an object belongs to one at a time.
 * A vmm that was built without the library says -ENOTSUP.
 */
#ifndef VMM_COMPRESS_H
#define VMM_COMPRESS_H

#include "vmm/types.h"

/* All of it is private. */
struct compressor {
	void *packs, *unpacks;
};

bool compress_supported(void);
/* Accepts a zeroed one. */
void compressor_finish(struct compressor *compressor);
/* The length, or a negative errno: -ENOSPC: it does not fit into `room`. */
int64_t compress_block(struct compressor *compressor, uint8_t *to, size_t room, const uint8_t *from,
		       size_t len);
/* To exactly `len` bytes: 0; or a negative errno, and anything at `to`. -EBADMSG: it is no such block. */
int decompress_block(struct compressor *compressor, uint8_t *to, size_t len, const uint8_t *from,
		     size_t packed);

#endif
