/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include "vmm/overflow.h"

#define MAX64 UINT64_MAX
#define HALF  (1ULL << 63)

static const struct {
	uint64_t a, b;
	bool add, mul; /* overflow? */
} sums[] = {
	{ 0, 0, false, false },
	{ 1, 2, false, false },
	{ MAX64, 0, false, false },
	{ MAX64, 1, true, false },
	{ MAX64 - 1, 1, false, false },
	{ MAX64, MAX64, true, true },
	{ HALF, HALF, true, true },
	{ HALF, HALF - 1, false, true },
	{ HALF, 2, false, true },
	{ HALF - 1, 2, false, false },
	{ 1ULL << 32, 1ULL << 32, false, true },
	{ (1ULL << 32) - 1, (1ULL << 32) + 1, false, false },
};

START_TEST(test_sums)
{
	uint64_t a = sums[_i].a, b = sums[_i].b, ret;

	ck_assert_int_eq(add_overflow(a, b, &ret), sums[_i].add);
	if (!sums[_i].add) {
		ck_assert_uint_eq(ret, a + b);
	}
	ck_assert_int_eq(add_overflow(b, a, &ret), sums[_i].add);
	ck_assert_int_eq(mul_overflow(a, b, &ret), sums[_i].mul);
	if (!sums[_i].mul) {
		ck_assert_uint_eq(ret, a * b);
	}
	ck_assert_int_eq(mul_overflow(b, a, &ret), sums[_i].mul);
}
END_TEST

static const struct {
	uint64_t offset, len, size;
	bool inside;
} ranges[] = {
	{ 0, 0, 0, true },	    { 0, 1, 0, false },
	{ 1, 0, 0, false },	    { 0, 10, 10, true },
	{ 0, 11, 10, false },	    { 10, 0, 10, true },
	{ 10, 1, 10, false },	    { 9, 1, 10, true },
	{ 9, 2, 10, false },	    { 11, 0, 10, false },
	{ 1, MAX64, 10, false },    { MAX64, 1, 10, false },
	{ MAX64, 2, MAX64, false }, { MAX64, 0, MAX64, true },
	{ 0, MAX64, MAX64, true },  { 2, MAX64 - 1, MAX64, false },
};

START_TEST(test_range_within)
{
	ck_assert_int_eq(range_within(ranges[_i].offset, ranges[_i].len, ranges[_i].size),
			 ranges[_i].inside);
}
END_TEST

static const struct {
	uint64_t a, a_len, b, b_len;
	bool overlap;
} pairs[] = {
	{ 0, 10, 10, 10, false },
	{ 0, 11, 10, 10, true },
	{ 5, 1, 0, 10, true },
	{ 0, 10, 0, 10, true },
	{ 5, 0, 0, 10, false },
	{ 0, 0, 0, 0, false },
	{ 9, 1, 10, 1, false },
	{ MAX64 - 10, 10, MAX64 - 5, 5, true },
	{ MAX64 - 10, 5, MAX64 - 5, 5, false },
};

START_TEST(test_ranges_overlap)
{
	ck_assert_int_eq(ranges_overlap(pairs[_i].a, pairs[_i].a_len, pairs[_i].b, pairs[_i].b_len),
			 pairs[_i].overlap);
	ck_assert_int_eq(ranges_overlap(pairs[_i].b, pairs[_i].b_len, pairs[_i].a, pairs[_i].a_len),
			 pairs[_i].overlap);
}
END_TEST

CHECK_MAIN("overflow", CHECK_TABLE(test_sums, sums); CHECK_TABLE(test_range_within, ranges);
	   CHECK_TABLE(test_ranges_overlap, pairs))
