/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C: the examples of RFC 3720 §B.4, and the instruction beside the table at all lengths and alignments. */
#include "harness/check_main.h"

#include "vmm/crc32c.h"

START_TEST(test_examples)
{
	uint8_t zeroes[32] = { 0 }, ones[32], up[32], down[32];

	memset(ones, 0xff, sizeof(ones));
	for (size_t i = 0; i < sizeof(up); i++) {
		up[i] = (uint8_t)i;
		down[i] = (uint8_t)(31 - i);
	}
	ck_assert_uint_eq(crc32c(0, NULL, 0), 0);
	ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283);
	ck_assert_uint_eq(crc32c(0, zeroes, 32), 0x8a9136aa);
	ck_assert_uint_eq(crc32c(0, ones, 32), 0x62a8ab43);
	ck_assert_uint_eq(crc32c(0, up, 32), 0x46dd794e);
	ck_assert_uint_eq(crc32c(0, down, 32), 0x113fdb5c);
	ck_assert_uint_eq(crc32c_by_table(0, down, 32), 0x113fdb5c);
}
END_TEST

START_TEST(test_same)
{
	static uint8_t data[3 * 4096 + 64];
	uint64_t seed = 1;

	for (size_t i = 0; i < sizeof(data); i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		data[i] = (uint8_t)(seed >> 56);
	}
	for (size_t len = 0; len < sizeof(data) - 16; len += len < 300 ? 1 : 61) {
		size_t at = len % 16;

		ck_assert_uint_eq(crc32c((uint32_t)len * 77, data + at, len),
				  crc32c_by_table((uint32_t)len * 77, data + at, len));
	}
	for (size_t len = 4000; len < 4200; len++) {
		ck_assert_uint_eq(crc32c(5, data, len), crc32c_by_table(5, data, len));
	}
}
END_TEST

START_TEST(test_in_parts)
{
	static uint8_t data[20000];

	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (uint8_t)(i * 7 >> 3);
	}
	for (size_t cut = 0; cut < sizeof(data); cut += 97) {
		ck_assert_uint_eq(crc32c(crc32c(0, data, cut), data + cut, sizeof(data) - cut),
				  crc32c(0, data, sizeof(data)));
	}
}
END_TEST

CHECK_MAIN("crc32c", CHECK_TEST(test_examples); CHECK_TEST(test_same); CHECK_TEST(test_in_parts))
