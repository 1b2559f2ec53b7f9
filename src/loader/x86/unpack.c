/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacks the kernel in a bzImage here and starts it as the ELF file that it is, which saves the
 * guest its own decompressor: that runs with cold caches and, in a nested or emulated guest, at a
 * fraction of our speed. What the guest's stub would have done besides is not done: no KASLR (the
 * kernel runs at its link address and is told so by the clear KASLR_FLAG in loadflags), no
 * relocations.
 *
 * Only packings that we unpack faster and with little memory are taken: lz4. Others (gzip, bzip2,
 * lzma, xz, lzo, zstd) are left to the guest. Once taken, a payload that does not unpack is an
 * error: the guest could not unpack it either.
 *
 * The bytes arrive as a stream. The ELF headers at its start say where the rest goes; what no
 * segment wants is dropped, and pages of zeroes are not written, because RAM is zero and stays
 * without pages there.
 */
#include <inttypes.h>
#include <string.h>

#include "x86.h"
#include "vmm/bytes.h"
#include "vmm/overflow.h"

#define MAGIC_LZ4_LEGACY 0x184c2102U
#define UNPACKED_MAX	 MIB(256)
#define SIZE_TRAILER \
	4 /* the kernel's build appends the unpacked size to all payloads but gzip's \
	   */

struct stream {
	struct unpack_sink sink;
	const struct source *src;
	struct guest_memory *mem;
	uint64_t at, size; /* bytes seen; bytes promised */
	struct elf_image elf;
	uint8_t head[ELF_HEADERS_MAX];
};

/* Puts a piece of the ELF file where its segments want it. */
static int place(struct stream *s, uint64_t offset, const uint8_t *data, uint64_t len,
		 struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < s->elf.segment_count; i++) {
		const struct elf_segment *seg = &s->elf.segments[i];
		uint64_t start = MAX(offset, seg->offset);
		uint64_t end = MIN(offset + len, seg->offset + seg->filesz);

		if (start < end) {
			r = memory_write_sparse(s->mem, seg->gpa + (start - seg->offset),
						data + (start - offset), end - start, e);
		}
	}
	return r;
}

static int parse_head(struct stream *s, uint64_t len, struct error *e)
{
	if (memcmp(s->head,
		   "\x7f"
		   "ELF\2\1\1",
		   7) != 0) {
		return source_error(
			s->src, e,
			"its payload unpacks to something that is not a 64-bit ELF file");
	}
	return elf_parse(&s->elf, s->src, s->head, len, s->size, s->mem, e);
}

static int stream_write(struct unpack_sink *sink, const uint8_t *data, size_t len, struct error *e)
{
	struct stream *s = container_of(sink, struct stream, sink);
	uint64_t head_len = MIN(s->size, (uint64_t)ELF_HEADERS_MAX);
	uint64_t n;
	int r = 0;

	if (len > s->size - s->at) {
		return source_error(s->src, e,
				    "its payload unpacks to more than the %" PRIu64
				    " bytes that it announces",
				    s->size);
	}
	if (s->at < head_len) {
		n = MIN((uint64_t)len, head_len - s->at);
		memcpy(s->head + s->at, data, n);
		s->at += n;
		data += n;
		len -= n;
		if (s->at == head_len) {
			r = parse_head(s, head_len, e);
			if (r == 0) {
				r = place(s, 0, s->head, head_len, e);
			}
		}
	}
	if (r == 0 && len != 0) {
		r = place(s, s->at, data, len, e);
		s->at += len;
	}
	return r;
}

bool unpack_supported(const struct bzimage *bz, const struct source *src)
{
	uint8_t magic[4];

	return bz->payload_size > sizeof(magic) + SIZE_TRAILER &&
	       source_read(src, bz->payload_offset, magic, sizeof(magic), NULL) == 0 &&
	       load_le32(magic) == MAGIC_LZ4_LEGACY;
}

int unpack_load(const struct bzimage *bz, const struct source *src, struct guest_memory *mem,
		struct kernel *kernel, struct error *e)
{
	struct stream s = { .sink.write = stream_write, .src = src, .mem = mem };
	uint64_t packed = bz->payload_size - SIZE_TRAILER;
	uint8_t trailer[SIZE_TRAILER];
	int r = source_read(src, bz->payload_offset + packed, trailer, sizeof(trailer), e);

	if (r != 0) {
		return r;
	}
	s.size = load_le32(trailer);
	if (s.size < ELF_HEADER_SIZE || s.size > UNPACKED_MAX) {
		return source_error(src, e,
				    "its payload announces %" PRIu64
				    " bytes unpacked, the limit is %" PRIu64,
				    s.size, UNPACKED_MAX);
	}
	r = lz4_unpack(src, bz->payload_offset, packed, &s.sink, e);
	if (r == 0 && s.at != s.size) {
		r = source_error(src, e,
				 "its payload unpacks to %" PRIu64 " bytes instead of the %" PRIu64
				 " that it announces",
				 s.at, s.size);
	}
	if (r == 0) {
		r = elf_finish(&s.elf, src, false, 0, kernel, e);
	}
	if (r == 0) {
		traits_read(mem, &s.elf, kernel);
	}
	return r;
}
