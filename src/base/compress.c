/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks by zstd: include/vmm/compress.h is the contract. No threads, nothing saved. Whoever made a block controls all of its bytes;
 * the library bounds what it writes by the room that it is told of.
 */
#include "vmm/compress.h"

#include <errno.h>

#ifdef VMM_ZSTD
#include <zstd.h>
#include <zstd_errors.h>

/* The fastest of zstd's own: a disk or a network is not faster than that, and what is repeated in memory is near. */
#define LEVEL 1

bool compress_supported(void)
{
	return true;
}

void compressor_finish(struct compressor *compressor)
{
	(void)ZSTD_freeCCtx(compressor->packs);
	(void)ZSTD_freeDCtx(compressor->unpacks);
	*compressor = (struct compressor){ 0 };
}

int64_t compress_block(struct compressor *compressor, uint8_t *to, size_t room, const uint8_t *from,
		       size_t len)
{
	size_t n;

	if (compressor->packs == NULL) {
		compressor->packs = ZSTD_createCCtx();
	}
	if (compressor->packs == NULL) {
		return -ENOMEM;
	}
	n = ZSTD_compressCCtx(compressor->packs, to, room, from, len, LEVEL);
	if (!ZSTD_isError(n)) {
		return (int64_t)n;
	}
	return ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall ? -ENOSPC : -ENOMEM;
}

int decompress_block(struct compressor *compressor, uint8_t *to, size_t len, const uint8_t *from,
		     size_t packed)
{
	if (compressor->unpacks == NULL) {
		compressor->unpacks = ZSTD_createDCtx();
	}
	if (compressor->unpacks == NULL) {
		return -ENOMEM;
	}
	return ZSTD_decompressDCtx(compressor->unpacks, to, len, from, packed) == len ? 0
										      : -EBADMSG;
}
#else
bool compress_supported(void)
{
	return false;
}

void compressor_finish(struct compressor *compressor)
{
	(void)compressor;
}

int64_t compress_block(struct compressor *compressor, uint8_t *to, size_t room, const uint8_t *from,
		       size_t len)
{
	(void)compressor;
	(void)to;
	(void)room;
	(void)from;
	(void)len;
	return -ENOTSUP;
}

int decompress_block(struct compressor *compressor, uint8_t *to, size_t len, const uint8_t *from,
		     size_t packed)
{
	(void)compressor;
	(void)to;
	(void)len;
	(void)from;
	(void)packed;
	return -ENOTSUP;
}
#endif
