/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LZ4 decoder for kernel payloads: the legacy frame that `lz4 -l` writes (lz4_Frame_format.md
 * "Legacy frame"), whose blocks follow lz4_Block_format.md. It is ours because it is a page of
 * code, where the library costs a tenth of our binary, and because it streams: input is read in
 * pieces, output goes to the sink through a window that stays in the CPU's cache, so unpacking
 * takes half a MiB and touches no page of RAM that the kernel does not fill.
 *
 * Every byte of the input is hostile. Literals and matches are bounded by the block's input, by
 * LEGACY_BLOCK_MAX and by the output that the caller allows; a match reaches back only to the start
 * of its block.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/bytes.h"

#define LEGACY_MAGIC	 0x184c2102U
#define LEGACY_BLOCK_MAX MIB(8) /* unpacked; fixed by the format */
#define MIN_MATCH	 4
#define LENGTH_MORE	 15 /* a length nibble that continues in bytes */

#define INPUT_SIZE   KIB(64)
#define HISTORY	     KIB(64) /* offsets have 16 bits */
#define WINDOW_SIZE  (HISTORY + KIB(384))
#define WILD	     32UL /* what a fast copy may write or read too much */
#define FAST_LITERAL 16
#define FAST_MATCH   18 /* MIN_MATCH + LENGTH_MORE - 1 */

struct lz4 {
	const struct source *src;
	struct unpack_sink *sink;
	struct error *e;
	uint64_t next, end; /* file offsets of what is not in `in` yet */
	uint64_t block_in;  /* bytes of the block not yet consumed */
	uint64_t block_out; /* bytes that the block has produced */
	size_t in_at, in_len;
	size_t pos, flushed; /* in `window` */
	uint8_t in[INPUT_SIZE + WILD];
	uint8_t window[WINDOW_SIZE + WILD];
};

static int damaged(const struct lz4 *z, const char *why)
{
	uint64_t at = z->next - (z->in_len - z->in_at);

	source_error(z->src, z->e, "its lz4 payload is damaged at offset %" PRIu64 ": %s", at, why);
	return error_hint(z->e, "fetch or build the kernel again");
}

/* Makes at least one byte available unless the payload is at its end. */
static int refill(struct lz4 *z)
{
	size_t left = z->in_len - z->in_at;
	uint64_t n;
	int r;

	memmove(z->in, z->in + z->in_at, left);
	n = MIN((uint64_t)INPUT_SIZE - left, z->end - z->next);
	r = source_read(z->src, z->next, z->in + left, n, z->e);
	if (r == 0) {
		z->next += n;
		z->in_at = 0;
		z->in_len = left + (size_t)n;
	}
	return r;
}

static int flush(struct lz4 *z)
{
	int r = z->sink->write(z->sink, z->window + z->flushed, z->pos - z->flushed, z->e);

	if (r == 0 && z->pos > HISTORY) {
		memmove(z->window, z->window + z->pos - HISTORY, HISTORY);
		z->pos = HISTORY;
	}
	z->flushed = z->pos;
	return r;
}

/* One byte of the block. */
static int next_byte(struct lz4 *z, uint8_t *byte)
{
	int r;

	if (z->block_in == 0) {
		return damaged(z, "a block ends within a sequence");
	}
	if (z->in_at == z->in_len) {
		r = refill(z);
		if (r != 0) {
			return r;
		}
	}
	*byte = z->in[z->in_at++];
	z->block_in--;
	return 0;
}

/* Adds the bytes that continue a length. Bounded: each costs a byte of input, and no length beyond
 * a block is of use. */
static int read_length(struct lz4 *z, uint64_t *length)
{
	uint8_t byte = 0;
	int r;

	do {
		r = next_byte(z, &byte);
		if (r != 0) {
			return r;
		}
		*length += byte;
	} while (byte == 255);
	return 0;
}

static int copy_literals(struct lz4 *z, uint64_t len)
{
	int r = 0;

	if (len > z->block_in) {
		return damaged(z, "literals beyond the block");
	}
	if (len > LEGACY_BLOCK_MAX - z->block_out) {
		return damaged(z, "a block of more than 8 MiB");
	}
	z->block_in -= len;
	z->block_out += len;
	while (len != 0 && r == 0) {
		size_t n = (size_t)MIN(len, (uint64_t)(z->in_len - z->in_at));

		n = MIN(n, (size_t)WINDOW_SIZE - z->pos);
		memcpy(z->window + z->pos, z->in + z->in_at, n);
		z->in_at += n;
		z->pos += n;
		len -= n;
		if (len != 0) {
			r = z->pos == WINDOW_SIZE ? flush(z) : refill(z);
		}
	}
	return r;
}

/* `len` bytes from `offset` bytes back; the ranges may overlap, which repeats a pattern. */
static void repeat(uint8_t *to, size_t offset, size_t len)
{
	const uint8_t *from = to - offset;

	while (len != 0) {
		size_t n = MIN(len, (size_t)(to - from));

		memcpy(to, from, n);
		to += n;
		len -= n;
	}
}

static int copy_match(struct lz4 *z, size_t offset, uint64_t len)
{
	int r;

	if (offset == 0 || offset > z->block_out) {
		return damaged(z, "a match before the block");
	}
	if (len > LEGACY_BLOCK_MAX - z->block_out) {
		return damaged(z, "a block of more than 8 MiB");
	}
	z->block_out += len;
	while (len != 0) {
		size_t n = (size_t)MIN(len, (uint64_t)WINDOW_SIZE - z->pos);

		repeat(z->window + z->pos, offset, n);
		z->pos += n;
		len -= n;
		if (len != 0) {
			r = flush(z);
			if (r != 0) {
				return r;
			}
		}
	}
	return 0;
}

/*
 * Sequences with short literals and a short match, by copies of a fixed size that may run over what
 * the next one writes again. Stops in front of the first sequence that is anything else; all checks
 * are left to copy_literals() and copy_match().
 */
static void run_fast(struct lz4 *z)
{
	const uint8_t *in = z->in + z->in_at;
	uint64_t room = MIN(z->block_in, (uint64_t)(z->in_len - z->in_at));
	/* A sequence takes at most 1 + 14 + 2 bytes, and the block goes on after it. */
	const uint8_t *in_stop = room > WILD ? in + room - WILD : in;
	uint8_t *out = z->window + z->pos;
	uint64_t out_room = MIN((uint64_t)WINDOW_SIZE - z->pos, LEGACY_BLOCK_MAX - z->block_out);
	uint8_t *out_start = out;
	const uint8_t *out_stop = out_room > 2 * WILD ? out + out_room - 2 * WILD : out;

	while (in < in_stop && out < out_stop) {
		unsigned int literals = *in >> 4;
		unsigned int match = *in & LENGTH_MORE;
		const uint8_t *seq_in = in + 1;
		size_t offset;

		if (literals == LENGTH_MORE || match == LENGTH_MORE) {
			break;
		}
		offset = load_le16(seq_in + literals);
		if (offset < 8 || offset > z->block_out + (uint64_t)(out - out_start) + literals) {
			break;
		}
		memcpy(out, seq_in, FAST_LITERAL);
		out += literals;
		memcpy(out, out - offset, 8);
		memcpy(out + 8, out - offset + 8, 8);
		memcpy(out + 16, out - offset + 16, 2);
		out += match + MIN_MATCH;
		in = seq_in + literals + 2;
	}
	z->block_in -= (uint64_t)(in - (z->in + z->in_at));
	z->in_at = (size_t)(in - z->in);
	z->block_out += (uint64_t)(out - out_start);
	z->pos = (size_t)(out - z->window);
}

static int run_sequence(struct lz4 *z)
{
	uint64_t literals, match;
	uint8_t token = 0, low = 0, high = 0;
	int r = next_byte(z, &token);

	if (r != 0) {
		return r;
	}
	literals = token >> 4;
	match = token & LENGTH_MORE;
	if (literals == LENGTH_MORE) {
		r = read_length(z, &literals);
	}
	if (r == 0) {
		r = copy_literals(z, literals);
	}
	if (r != 0 || z->block_in == 0) {
		return r; /* the last sequence of a block has no match */
	}
	r = next_byte(z, &low);
	if (r == 0) {
		r = next_byte(z, &high);
	}
	if (r == 0 && match == LENGTH_MORE) {
		r = read_length(z, &match);
	}
	if (r == 0) {
		r = copy_match(z, (size_t)low | (size_t)high << 8, match + MIN_MATCH);
	}
	return r;
}

static int read_block_size(struct lz4 *z)
{
	uint8_t raw[4];
	int r;

	z->block_in = sizeof(raw);
	for (size_t i = 0; i < sizeof(raw); i++) {
		if (z->in_at == z->in_len && z->next == z->end) {
			return damaged(z, "it ends within a block header");
		}
		r = next_byte(z, &raw[i]);
		if (r != 0) {
			return r;
		}
	}
	z->block_in = load_le32(raw);
	z->block_out = 0;
	return 0;
}

static int run_block(struct lz4 *z)
{
	int r = read_block_size(z);

	if (r != 0 || z->block_in == LEGACY_MAGIC) {
		z->block_in = 0; /* frames may follow each other */
		return r;
	}
	if (z->block_in == 0 || z->block_in > (z->in_len - z->in_at) + (z->end - z->next)) {
		return damaged(z, "a block lies beyond the payload");
	}
	while (z->block_in != 0) {
		run_fast(z);
		r = run_sequence(z);
		if (r == 0 && z->pos > WINDOW_SIZE - 4 * WILD) {
			r = flush(z);
		}
		if (r == 0 && z->in_len - z->in_at < 2 * WILD && z->next != z->end) {
			r = refill(z);
		}
		if (r != 0) {
			return r;
		}
	}
	return 0;
}

int lz4_unpack(const struct source *src, uint64_t offset, uint64_t len, struct unpack_sink *sink,
	       struct error *e)
{
	struct lz4 *z = malloc(sizeof(*z));
	int r = 0;

	if (z == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "kernel '%s': no memory to unpack it",
				 src->path);
	}
	/* The buffers need no clearing: nothing reads what was not written, see block_out. */
	memset(z, 0, offsetof(struct lz4, in));
	z->src = src;
	z->sink = sink;
	z->e = e;
	z->next = offset;
	z->end = offset + len;
	while (r == 0 && (z->in_at != z->in_len || z->next != z->end)) {
		r = run_block(z);
	}
	if (r == 0) {
		r = flush(z);
	}
	free(z);
	return r;
}
