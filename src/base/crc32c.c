/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC32C, polynomial 0x1edc6f41, reflected, as in RFC 3720 §12.1.
 *
 * The instruction takes eight bytes a cycle but has a latency of three, so three parts of a block run beside each
 * other. What the first has is then moved over the length of those behind it: multiplied by x^(8 * length) modulo the
 * polynomial. That is one carry-less multiplication by x^(8 * length - 33), whose product the instruction itself
 * reduces (by x^32; a product of reflected numbers is one bit short).
 *
 * Pure; any thread. The processor is asked at each call, which is a load.
 */
#include "vmm/crc32c.h"

#include <string.h>

#include "vmm/bytes.h"

uint32_t crc32c_by_table(uint32_t crc, const void *data, size_t len)
{
	/* Of four bits: a table that fits in a cache line serves a processor that no host has. */
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const uint8_t *p = data;

	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		crc = (crc >> 4) ^ table[crc & 15];
		crc = (crc >> 4) ^ table[crc & 15];
	}
	return ~crc;
}

#ifdef __x86_64__
#include <immintrin.h>

#define LANE 1360 /* bytes; three of them are 4 KiB less 16 bytes */
/* x^(8 * LANE - 33) and x^(16 * LANE - 33) modulo the polynomial, reflected. */
#define OVER_ONE 0x3f70cc6fU
#define OVER_TWO 0x5aa1f3cfU

__attribute__((target("sse4.2,pclmul"))) static uint32_t move(uint64_t crc, uint32_t over)
{
	__m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc),
					       _mm_cvtsi64_si128((long long)over), 0);

	return (uint32_t)_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t
by_instruction(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t a = (uint32_t)~crc;

	while (len >= (size_t)3 * LANE) {
		uint64_t b = 0, c = 0;

		for (size_t i = 0; i < LANE; i += 8) {
			a = _mm_crc32_u64(a, load_le64(p + i));
			b = _mm_crc32_u64(b, load_le64(p + LANE + i));
			c = _mm_crc32_u64(c, load_le64(p + (size_t)2 * LANE + i));
		}
		a = move(a, OVER_TWO) ^ move(b, OVER_ONE) ^ c;
		p += (size_t)3 * LANE;
		len -= (size_t)3 * LANE;
	}
	for (; len >= 8; len -= 8, p += 8) {
		a = _mm_crc32_u64(a, load_le64(p));
	}
	for (; len > 0; len--, p++) {
		a = _mm_crc32_u8((uint32_t)a, *p);
	}
	return ~(uint32_t)a;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")) {
		return by_instruction(crc, data, len);
	}
#endif
	return crc32c_by_table(crc, data, len);
}
