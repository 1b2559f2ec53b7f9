/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is stored compressed: each chunk's stored pages, in order, are one frame of zstd, anywhere in the file `memory`. The
 * section "packing" says where.
 *
 *	packing	0 u32 method: 1  4 u32 frames  8 u64 length of the frames' part of the file, a multiple of 4 KiB
 *		frames: u64 offset, u32 length, u32 0: one for each entry of the section "memory" that has stored pages, in order
 *
 * A thread that packs or unpacks takes a lane: contexts of the library and room for a chunk on both sides. Lanes are made when there is none
 * left, so there are as many as threads at a time, and kept until the writer or reader goes.
 *
 * What is unpacked is hostile: a frame gives exactly the bytes that its pages have, or is refused, and then its checksum is
 * compared. A vmm that was built without the library says so.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/bytes.h"
#include "vmm/compress.h"

#define HEAD_SIZE   16
#define FRAME_SIZE  16
#define METHOD_ZSTD 1
/* What a chunk may become at worst, by the library's own formula, and more. */
#define PACKED_MAX (SNAPSHOT_CHUNK + SNAPSHOT_CHUNK / 128 + KIB(4))

struct pack_lane {
	struct pack_lane *next;
	struct compressor compressor;
	uint8_t raw[SNAPSHOT_CHUNK], packed[PACKED_MAX];
};

void pack_init(struct pack *pack)
{
	(void)pthread_mutex_init(&pack->lock, NULL);
	pack->lanes = NULL;
}

static struct pack_lane *take_lane(struct pack *pack)
{
	struct pack_lane *lane;

	(void)pthread_mutex_lock(&pack->lock);
	lane = pack->lanes;
	if (lane != NULL) {
		pack->lanes = lane->next;
	}
	(void)pthread_mutex_unlock(&pack->lock);
	if (lane == NULL) {
		lane = malloc(sizeof(*lane));
		if (lane != NULL) {
			lane->compressor = (struct compressor){ 0 };
		}
	}
	return lane;
}

static void give_lane(struct pack *pack, struct pack_lane *lane)
{
	(void)pthread_mutex_lock(&pack->lock);
	lane->next = pack->lanes;
	pack->lanes = lane;
	(void)pthread_mutex_unlock(&pack->lock);
}

static uint8_t *gather(struct pack_lane *lane, const uint8_t *bytes,
		       const uint64_t stored[MAP_WORDS])
{
	uint8_t *to = lane->raw;

	for (uint64_t page = 0; page < PAGES_PER_CHUNK;) {
		uint64_t n = run_length(stored, page, PAGES_PER_CHUNK);

		memcpy(to, bytes + page * PAGE_SIZE_4K, n * PAGE_SIZE_4K);
		to += n * PAGE_SIZE_4K;
		page += MAX(n, 1ULL);
	}
	return to;
}

static void scatter(const struct pack_lane *lane, uint8_t *bytes, const uint64_t stored[MAP_WORDS])
{
	const uint8_t *from = lane->raw;

	for (uint64_t page = 0; page < PAGES_PER_CHUNK;) {
		uint64_t n = run_length(stored, page, PAGES_PER_CHUNK);

		memcpy(bytes + page * PAGE_SIZE_4K, from, n * PAGE_SIZE_4K);
		from += n * PAGE_SIZE_4K;
		page += MAX(n, 1ULL);
	}
}

void pack_finish(struct pack *pack)
{
	while (pack->lanes != NULL) {
		struct pack_lane *next = pack->lanes->next;

		compressor_finish(&pack->lanes->compressor);
		free(pack->lanes);
		pack->lanes = next;
	}
	(void)pthread_mutex_destroy(&pack->lock);
}

int pack_supported(const char *path, struct error *e)
{
	if (compress_supported()) {
		return 0;
	}
	(void)error_set(e, ERROR_NOT_SUPPORTED, ENOTSUP,
			"snapshot '%s' is compressed, and this vmm was built without zstd", path);
	return error_hint(e, "build it with -Dzstd=enabled, or do without compression");
}

int pack_write(struct pack *pack, int fd, _Atomic uint64_t *end, const uint8_t *bytes,
	       const uint64_t stored[MAP_WORDS], struct frame *frame)
{
	struct pack_lane *lane;
	int64_t n;
	int r;

	if (map_count(stored) == 0) {
		return 0;
	}
	lane = take_lane(pack);
	if (lane == NULL) {
		return -ENOMEM;
	}
	n = compress_block(&lane->compressor, lane->packed, sizeof(lane->packed), lane->raw,
			   (size_t)(gather(lane, bytes, stored) - lane->raw));
	r = n < 0 ? (int)n : 0;
	if (r == 0) {
		frame->length = (uint32_t)n;
		frame->offset = atomic_fetch_add(end, (uint64_t)n);
		r = file_write(fd, lane->packed, (size_t)n, frame->offset);
	}
	give_lane(pack, lane);
	return r;
}

int pack_read(struct pack *pack, int fd, const struct frame *frame, uint8_t *bytes,
	      const uint64_t stored[MAP_WORDS], const char *path, struct error *e)
{
	size_t len = map_count(stored) * PAGE_SIZE_4K;
	struct pack_lane *lane;
	int r;

	if (len == 0) {
		return 0;
	}
	lane = take_lane(pack);
	if (lane == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "'%s'", path);
	}
	r = file_read(fd, lane->packed, frame->length, frame->offset, path, e);
	if (r == 0) {
		r = decompress_block(&lane->compressor, lane->raw, len, lane->packed,
				     frame->length);
		if (r < 0) {
			(void)error_set(e, ERROR_SNAPSHOT, -r,
					"'%s': the %" PRIu32 " bytes at byte %" PRIu64
					" cannot be unpacked",
					path, frame->length, frame->offset);
			r = error_hint(e, "the file is damaged: use another copy of the snapshot");
		}
	}
	if (r == 0) {
		scatter(lane, bytes, stored);
	}
	give_lane(pack, lane);
	return r;
}

void pack_put(struct state_output *out, const struct frame *frames, uint32_t chunks,
	      uint64_t length)
{
	uint8_t bytes[FRAME_SIZE] = { 0 };
	uint32_t count = 0;

	for (uint32_t i = 0; i < chunks; i++) {
		count += frames[i].length != 0 ? 1 : 0;
	}
	store_le32(bytes, METHOD_ZSTD);
	store_le32(bytes + 4, count);
	store_le64(bytes + 8, length);
	state_output_put(out, bytes, HEAD_SIZE);
	for (uint32_t i = 0; i < chunks; i++) {
		if (frames[i].length != 0) {
			store_le64(bytes, frames[i].offset);
			store_le32(bytes + 8, frames[i].length);
			store_le32(bytes + 12, 0);
			state_output_put(out, bytes, FRAME_SIZE);
		}
	}
}

static int __cold bad(struct error *e, const char *path)
{
	(void)error_set(e, ERROR_SNAPSHOT, EBADMSG,
			"snapshot '%s': section 'packing' does not fit its memory", path);
	return error_hint(e, "the file is damaged, or not whole: use another copy of the snapshot");
}

int pack_parse(struct layout_table *table, const uint8_t *data, uint64_t len, uint64_t *length,
	       const char *path, struct error *e)
{
	uint64_t count, used = 0;

	if (len < HEAD_SIZE) {
		return bad(e, path);
	}
	if (load_le32(data) != METHOD_ZSTD) {
		(void)error_set(e, ERROR_SNAPSHOT, ENOTSUP,
				"snapshot '%s' is compressed by method %" PRIu32
				", which this vmm " VMM_VERSION " does not know",
				path, load_le32(data));
		return error_hint(e, "restore it with a later vmm");
	}
	count = load_le32(data + 4);
	*length = load_le64(data + 8);
	if (len != HEAD_SIZE + count * FRAME_SIZE || *length > LAYOUT_MAX ||
	    *length % PAGE_SIZE_4K != 0) {
		return bad(e, path);
	}
	for (uint32_t i = 0; i < table->count; i++) {
		struct chunk_entry *entry = &table->entries[i];
		const uint8_t *p = data + HEAD_SIZE + used * FRAME_SIZE;

		if ((entry->flags & CHUNK_STORED) == 0) {
			continue;
		}
		if (used == count) {
			return bad(e, path);
		}
		entry->frame.offset = load_le64(p);
		entry->frame.length = load_le32(p + 8);
		if (load_le32(p + 12) != 0 || entry->frame.length == 0 ||
		    entry->frame.length > PACKED_MAX || entry->frame.offset > *length ||
		    entry->frame.length > *length - entry->frame.offset) {
			return bad(e, path);
		}
		used++;
	}
	return used == count ? 0 : bad(e, path);
}
