/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip files (RFC 1952) and the DEFLATE stream in them (RFC 1951). It is ours for lz4.c's reasons: two
 * pages of code, where zlib costs more than the budget of the feature. Codes are looked up in a table
 * of 10 bits, the few longer ones by the canonical order of their length (RFC 1951 §3.2.2).
 *
 * Every byte of the input is hostile. A code set that is over-subscribed or incomplete is refused (but
 * for the one-code distance set that encoders write), a match reaches back only to the first byte,
 * what comes out is bounded by the sink, and length and checksum must be those of the trailer. One
 * member is unpacked; bytes behind it are refused.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/bytes.h"

#define INPUT_SIZE   KIB(16)
#define HISTORY	     KIB(32)
#define WINDOW_SIZE  (HISTORY + KIB(64))
#define CODE_BITS    15
#define LOOKUP_BITS  10
#define LITERALS     288
#define DISTANCES    32
#define LENGTH_CODES 19
#define END_OF_BLOCK 256
#define MATCH_MAX    258

#define GZIP_TRAILER 8

enum { FLAG_CRC = 2, FLAG_EXTRA = 4, FLAG_NAME = 8, FLAG_COMMENT = 16, FLAG_RESERVED = 0xe0 };

struct code_set {
	uint16_t lookup[1 << LOOKUP_BITS]; /* symbol << 4 | length; 0: longer or none */
	uint16_t count[CODE_BITS + 1];	   /* codes of each length */
	uint16_t symbols[LITERALS];	   /* in canonical order */
};

struct inflate {
	const struct source *src;
	struct unpack_sink *sink;
	struct error *e;
	uint64_t next; /* file offset of what is not in `in` yet */
	size_t in_at, in_len;
	uint64_t bits; /* the low `bit_count` are the next ones */
	unsigned int bit_count;
	size_t pos, flushed; /* in `window` */
	uint64_t total;
	uint32_t crc;
	uint32_t crc_table[8][256];
	struct code_set literals, distances;
	uint8_t in[INPUT_SIZE];
	uint8_t window[WINDOW_SIZE];
};

static int damaged(const struct inflate *z, const char *why)
{
	source_error(z->src, z->e, "this gzip file is damaged before offset %" PRIu64 ": %s",
		     z->next - (z->in_len - z->in_at), why);
	return error_hint(z->e, "fetch or build the kernel again");
}

/* CRC-32 of IEEE 802.3, eight bytes at a time. */
static void init_crc(struct inflate *z)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;

		for (int bit = 0; bit < 8; bit++) {
			crc = crc >> 1 ^ (0xedb88320U & -(crc & 1));
		}
		z->crc_table[0][i] = crc;
	}
	for (uint32_t i = 0; i < 256; i++) {
		for (int k = 1; k < 8; k++) {
			uint32_t crc = z->crc_table[k - 1][i];

			z->crc_table[k][i] = crc >> 8 ^ z->crc_table[0][crc & 0xff];
		}
	}
	z->crc = UINT32_MAX;
}

static void add_crc(struct inflate *z, const uint8_t *p, size_t len)
{
	uint32_t crc = z->crc;

	for (; len >= 8; p += 8, len -= 8) {
		uint64_t word = load_le64(p) ^ crc;

		crc = 0;
		for (int k = 0; k < 8; k++) {
			crc ^= z->crc_table[7 - k][word >> (8 * k) & 0xff];
		}
	}
	for (; len != 0; p++, len--) {
		crc = crc >> 8 ^ z->crc_table[0][(crc ^ *p) & 0xff];
	}
	z->crc = crc;
}

static int refill(struct inflate *z)
{
	uint64_t n = MIN((uint64_t)INPUT_SIZE, z->src->size - z->next);
	int r;

	if (n == 0) {
		return damaged(z, "it ends in the middle");
	}
	r = source_read(z->src, z->next, z->in, n, z->e);
	if (r == 0) {
		z->next += n;
		z->in_at = 0;
		z->in_len = (size_t)n;
	}
	return r;
}

static int take_byte(struct inflate *z, uint8_t *byte)
{
	int r = z->in_at == z->in_len ? refill(z) : 0;

	if (r == 0) {
		*byte = z->in[z->in_at++];
	}
	return r;
}

/* As many bits as there are, up to what is wanted: the end of a stream has fewer than a lookup. */
static int want_bits(struct inflate *z, unsigned int count)
{
	while (z->bit_count < count) {
		uint8_t byte;

		if (z->in_at == z->in_len && z->next == z->src->size) {
			return 0;
		}
		if (take_byte(z, &byte) != 0) {
			return -EINVAL;
		}
		z->bits |= (uint64_t)byte << z->bit_count;
		z->bit_count += 8;
	}
	return 0;
}

static void drop_bits(struct inflate *z, unsigned int count)
{
	z->bits >>= count;
	z->bit_count -= count;
}

static int take_bits(struct inflate *z, unsigned int count, uint32_t *value)
{
	int r = want_bits(z, count);

	if (r == 0 && z->bit_count < count) {
		r = damaged(z, "it ends in the middle");
	}
	if (r == 0) {
		*value = (uint32_t)(z->bits & ((UINT64_C(1) << count) - 1));
		drop_bits(z, count);
	}
	return r;
}

static uint32_t reverse(uint32_t code, unsigned int len)
{
	uint32_t out = 0;

	for (unsigned int i = 0; i < len; i++) {
		out |= (code >> i & 1) << (len - 1 - i);
	}
	return out;
}

static void fill_lookup(struct code_set *set, const uint8_t *lengths, unsigned int n)
{
	uint32_t next[CODE_BITS + 1] = { 0 };
	uint32_t code = 0;

	memset(set->lookup, 0, sizeof(set->lookup));
	for (unsigned int len = 1; len <= CODE_BITS; len++) {
		code = (code + (len == 1 ? 0 : set->count[len - 1])) << 1;
		next[len] = code;
	}
	for (unsigned int i = 0; i < n; i++) {
		unsigned int len = lengths[i];
		uint32_t at;

		if (len == 0) {
			continue;
		}
		at = reverse(next[len]++, len);
		for (; len <= LOOKUP_BITS && at < ARRAY_SIZE(set->lookup); at += 1U << len) {
			set->lookup[at] = (uint16_t)(i << 4 | len);
		}
	}
}

/* False if the lengths are those of no code. `may_lack`: one code of one bit is enough. */
static bool build(struct code_set *set, const uint8_t *lengths, unsigned int n, bool may_lack)
{
	uint16_t offsets[CODE_BITS + 1] = { 0 };
	int left = 1;

	memset(set->count, 0, sizeof(set->count));
	for (unsigned int i = 0; i < n; i++) {
		set->count[lengths[i]]++;
	}
	set->count[0] = 0;
	for (unsigned int len = 1; len <= CODE_BITS; len++) {
		left = left * 2 - set->count[len];
		if (left < 0) {
			return false;
		}
		offsets[len] = (uint16_t)(offsets[len - 1] + set->count[len - 1]);
	}
	for (unsigned int i = 0; i < n; i++) {
		if (lengths[i] != 0) {
			set->symbols[offsets[lengths[i]]++] = (uint16_t)i;
		}
	}
	fill_lookup(set, lengths, n);
	return left == 0 || (may_lack && left == 1 << (CODE_BITS - 1) && set->count[1] == 1) ||
	       (may_lack && left == 1 << CODE_BITS);
}

/* A code that is longer than the lookup: bit by bit in canonical order. */
static int take_long(struct inflate *z, const struct code_set *set, uint32_t *symbol)
{
	int code = 0, first = 0, index = 0;

	for (unsigned int len = 1; len <= CODE_BITS && len <= z->bit_count; len++) {
		code |= (int)(z->bits >> (len - 1) & 1);
		if (code - set->count[len] < first) {
			*symbol = set->symbols[index + (code - first)];
			drop_bits(z, len);
			return 0;
		}
		index += set->count[len];
		first = (first + set->count[len]) << 1;
		code <<= 1;
	}
	return damaged(z, "a code that nobody announced");
}

static int take_symbol(struct inflate *z, const struct code_set *set, uint32_t *symbol)
{
	uint16_t entry;
	int r = want_bits(z, CODE_BITS);

	if (r != 0) {
		return r;
	}
	entry = set->lookup[z->bits & ((1U << LOOKUP_BITS) - 1)];
	if (entry == 0 || (entry & 0xfU) > z->bit_count) {
		return take_long(z, set, symbol);
	}
	*symbol = entry >> 4;
	drop_bits(z, entry & 0xf);
	return 0;
}

static int flush(struct inflate *z)
{
	size_t len = z->pos - z->flushed;
	int r = len == 0 ? 0 : z->sink->write(z->sink, z->window + z->flushed, len, z->e);

	add_crc(z, z->window + z->flushed, len);
	if (z->pos > HISTORY) {
		memmove(z->window, z->window + z->pos - HISTORY, HISTORY);
		z->pos = HISTORY;
	}
	z->flushed = z->pos;
	return r;
}

static int make_room(struct inflate *z, size_t len)
{
	return WINDOW_SIZE - z->pos < len ? flush(z) : 0;
}

static int copy_match(struct inflate *z, uint32_t length, uint32_t distance)
{
	int r = make_room(z, MATCH_MAX);

	if (r != 0) {
		return r;
	}
	if (distance > z->total || distance > z->pos) {
		return damaged(z, "a match reaches back before its start");
	}
	for (uint32_t i = 0; i < length; i++, z->pos++) {
		z->window[z->pos] = z->window[z->pos - distance];
	}
	z->total += length;
	return 0;
}

/* RFC 1951 §3.2.5: the first length or distance of a symbol, and how many bits are added to it. */
static int take_length(struct inflate *z, uint32_t symbol, uint32_t *length)
{
	uint32_t index = symbol - (END_OF_BLOCK + 1), extra = 0;
	unsigned int bits = index < 8 ? 0 : (index - 4) / 4;
	int r;

	if (symbol == 285) {
		*length = MATCH_MAX;
		return 0;
	}
	if (symbol > 285) {
		return damaged(z, "a length that does not exist");
	}
	r = take_bits(z, bits, &extra);
	*length = 3 + (index < 8 ? index : ((4 + index % 4) << bits)) + extra;
	return r;
}

static int take_distance(struct inflate *z, uint32_t *distance)
{
	uint32_t symbol = 0, extra = 0;
	unsigned int bits;
	int r = take_symbol(z, &z->distances, &symbol);

	if (r == 0 && symbol > 29) {
		return damaged(z, "a distance that does not exist");
	}
	if (r != 0) {
		return r;
	}
	bits = symbol < 4 ? 0 : (symbol - 2) / 2;
	r = take_bits(z, bits, &extra);
	*distance = 1 + (symbol < 4 ? symbol : ((2 + symbol % 2) << bits)) + extra;
	return r;
}

static int coded_block(struct inflate *z)
{
	for (;;) {
		uint32_t symbol = 0, length = 0, distance = 0;
		int r = take_symbol(z, &z->literals, &symbol);

		if (r != 0 || symbol == END_OF_BLOCK) {
			return r;
		}
		if (symbol < END_OF_BLOCK) {
			r = make_room(z, 1);
			z->window[z->pos] = (uint8_t)symbol;
			z->pos += r == 0;
			z->total += r == 0;
		} else {
			r = take_length(z, symbol, &length);
			if (r == 0) {
				r = take_distance(z, &distance);
			}
			if (r == 0) {
				r = copy_match(z, length, distance);
			}
		}
		if (r != 0) {
			return r;
		}
	}
}

static int stored_block(struct inflate *z)
{
	uint32_t len = 0, inverse = 0;
	int r;

	drop_bits(z, z->bit_count % 8);
	r = take_bits(z, 16, &len);
	if (r == 0) {
		r = take_bits(z, 16, &inverse);
	}
	if (r == 0 && (len ^ 0xffff) != inverse) {
		return damaged(z, "a stored block contradicts itself");
	}
	for (; r == 0 && len != 0; len--) {
		uint32_t byte = 0;

		r = take_bits(z, 8, &byte);
		if (r == 0) {
			r = make_room(z, 1);
		}
		if (r == 0) {
			z->window[z->pos++] = (uint8_t)byte;
			z->total++;
		}
	}
	return r;
}

static void use_fixed_codes(struct inflate *z)
{
	uint8_t lengths[LITERALS];

	for (unsigned int i = 0; i < LITERALS; i++) {
		lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
	}
	(void)build(&z->literals, lengths, LITERALS, false);
	memset(lengths, 5, DISTANCES);
	(void)build(&z->distances, lengths, DISTANCES, false);
}

/* The lengths of both codes in one run, packed by a third one (§3.2.7). */
static int take_lengths(struct inflate *z, uint8_t *lengths, uint32_t n)
{
	static const uint8_t extra_bits[] = { 2, 3, 7 }, base[] = { 3, 3, 11 };

	for (uint32_t i = 0; i < n;) {
		uint32_t symbol = 0, times = 1;
		uint8_t value;
		int r = take_symbol(z, &z->literals, &symbol);

		if (r != 0) {
			return r;
		}
		value = (uint8_t)symbol;
		if (symbol >= 16) {
			r = take_bits(z, extra_bits[symbol - 16], &times);
			times += base[symbol - 16];
			if (r == 0 && symbol == 16 && i == 0) {
				r = damaged(z, "it repeats a length before the first");
			}
			if (r != 0) {
				return r;
			}
			value = symbol == 16 ? lengths[i - 1] : 0;
		}
		if (times > n - i) {
			return damaged(z, "more code lengths than announced");
		}
		memset(lengths + i, value, times);
		i += times;
	}
	return 0;
}

static int take_codes(struct inflate *z)
{
	static const uint8_t order[LENGTH_CODES] = { 16, 17, 18, 0, 8,	7, 9,  6, 10, 5,
						     11, 4,  12, 3, 13, 2, 14, 1, 15 };
	uint8_t lengths[LITERALS + DISTANCES] = { 0 };
	uint32_t literals = 0, distances = 0, codes = 0, value = 0;
	int r = take_bits(z, 5, &literals);

	r = r == 0 ? take_bits(z, 5, &distances) : r;
	r = r == 0 ? take_bits(z, 4, &codes) : r;
	for (uint32_t i = 0; r == 0 && i < codes + 4; i++) {
		r = take_bits(z, 3, &value);
		lengths[order[i]] = (uint8_t)value;
	}
	if (r != 0) {
		return r;
	}
	literals += 257;
	distances += 1;
	if (literals > 286 || distances > 30 ||
	    !build(&z->literals, lengths, LENGTH_CODES, false)) {
		return damaged(z, "its codes are none");
	}
	memset(lengths, 0, sizeof(lengths));
	r = take_lengths(z, lengths, literals + distances);
	if (r != 0) {
		return r;
	}
	if (lengths[END_OF_BLOCK] == 0 || !build(&z->literals, lengths, literals, true) ||
	    !build(&z->distances, lengths + literals, distances, true)) {
		return damaged(z, "its codes are none");
	}
	return 0;
}

static int inflate_blocks(struct inflate *z)
{
	uint32_t last = 0, type = 0;
	int r = 0;

	while (r == 0 && last == 0) {
		r = take_bits(z, 1, &last);
		r = r == 0 ? take_bits(z, 2, &type) : r;
		if (r != 0) {
			break;
		}
		switch (type) {
		case 0:
			r = stored_block(z);
			break;
		case 1:
			use_fixed_codes(z);
			r = coded_block(z);
			break;
		case 2:
			r = take_codes(z);
			r = r == 0 ? coded_block(z) : r;
			break;
		default:
			r = damaged(z, "a block of no known kind");
		}
	}
	return r == 0 ? flush(z) : r;
}

static int skip_string(struct inflate *z)
{
	uint8_t byte = 1;
	int r = 0;

	while (r == 0 && byte != 0) {
		r = take_byte(z, &byte);
	}
	return r;
}

static int skip_header(struct inflate *z)
{
	uint8_t head[10] = { 0 }, low = 0, high = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(head); i++) {
		r = take_byte(z, &head[i]);
	}
	if (r == 0 && (head[2] != 8 || (head[3] & FLAG_RESERVED) != 0)) {
		return damaged(z, "not packed by DEFLATE");
	}
	if (r == 0 && (head[3] & FLAG_EXTRA) != 0) {
		r = take_byte(z, &low);
		r = r == 0 ? take_byte(z, &high) : r;
		for (unsigned int i = 0; r == 0 && i < (unsigned int)(high << 8 | low); i++) {
			r = take_byte(z, &head[0]);
		}
	}
	r = r == 0 && (head[3] & FLAG_NAME) != 0 ? skip_string(z) : r;
	r = r == 0 && (head[3] & FLAG_COMMENT) != 0 ? skip_string(z) : r;
	if (r == 0 && (head[3] & FLAG_CRC) != 0) {
		r = take_byte(z, &low);
		r = r == 0 ? take_byte(z, &low) : r;
	}
	return r;
}

static int check_trailer(struct inflate *z)
{
	uint32_t word[4] = { 0 }; /* halves of the checksum and of the length */
	int r = 0;

	drop_bits(z, z->bit_count % 8);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(word); i++) {
		r = take_bits(z, 16, &word[i]);
	}
	if (r != 0) {
		return r;
	}
	if ((word[0] | word[1] << 16) != ~z->crc ||
	    (word[2] | word[3] << 16) != (uint32_t)z->total) {
		return damaged(z, "its checksum or length is another");
	}
	if (z->bit_count != 0 || z->in_at != z->in_len || z->next != z->src->size) {
		return damaged(z, "something follows its end");
	}
	return 0;
}

int gzip_unpack(const struct source *src, struct unpack_sink *sink, struct error *e)
{
	struct inflate *z = calloc(1, sizeof(*z));
	int r;

	if (z == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "kernel '%s': no memory", src->path);
	}
	z->src = src;
	z->sink = sink;
	z->e = e;
	init_crc(z);
	r = skip_header(z);
	r = r == 0 ? inflate_blocks(z) : r;
	r = r == 0 ? check_trailer(z) : r;
	free(z);
	return r;
}
