/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include "vmm/iov.h"

/* "abcdefghij" in pieces of 3, 0, 1 and 6 bytes. */
static const char all[] = "abcdefghij";
static char pieces[4][8];
static struct iovec iov[4];

static void setup(void)
{
	static const char *const text[] = { "abc", "", "d", "efghij" };

	for (size_t i = 0; i < ARRAY_SIZE(text); i++) {
		strcpy(pieces[i], text[i]);
		iov[i] = (struct iovec){ .iov_base = pieces[i], .iov_len = strlen(text[i]) };
	}
}

static void collect(char *text)
{
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(iov); i++) {
		memcpy(text + len, pieces[i], iov[i].iov_len);
		len += iov[i].iov_len;
	}
	text[len] = '\0';
}

START_TEST(test_length)
{
	ck_assert_uint_eq(iov_length(iov, 4), 10);
	ck_assert_uint_eq(iov_length(iov, 0), 0);
	ck_assert_uint_eq(iov_length(NULL, 0), 0);
}
END_TEST

/* Every offset and length, also beyond the end. */
START_TEST(test_read_everywhere)
{
	for (size_t offset = 0; offset <= 12; offset++) {
		for (size_t len = 0; len <= 12; len++) {
			size_t expected = offset >= 10 ? 0 : MIN(len, (size_t)10 - offset);
			char buf[16];

			memset(buf, '.', sizeof(buf));
			ck_assert_uint_eq(iov_read(iov, 4, offset, buf, len), expected);
			ck_assert_mem_eq(buf, all + MIN(offset, (size_t)10), expected);
			ck_assert_int_eq(buf[expected], '.');
		}
	}
	ck_assert_uint_eq(iov_read(iov, 4, UINT64_MAX, pieces, 1), 0);
}
END_TEST

START_TEST(test_write_and_zero_everywhere)
{
	for (size_t offset = 0; offset <= 12; offset++) {
		for (size_t len = 0; len <= 12; len++) {
			size_t done = offset >= 10 ? 0 : MIN(len, (size_t)10 - offset);
			char expected[16] = "abcdefghij";
			char got[16];

			setup();
			memcpy(expected + MIN(offset, (size_t)10), "0123456789AB", done);
			ck_assert_uint_eq(iov_write(iov, 4, offset, "0123456789AB", len), done);
			collect(got);
			ck_assert_str_eq(got, expected);
			memset(expected + MIN(offset, (size_t)10), 0, done);
			ck_assert_uint_eq(iov_zero(iov, 4, offset, len), done);
			collect(got);
			ck_assert_mem_eq(got, expected, 10);
		}
	}
}
END_TEST

START_TEST(test_slice_everywhere)
{
	for (size_t offset = 0; offset <= 11; offset++) {
		for (size_t len = 0; len <= 11; len++) {
			struct iovec slice[4];
			char buf[16] = "";
			int n = iov_slice(iov, 4, offset, len, slice, 4);

			if (offset + len > 10) {
				ck_assert_int_eq(n, -1);
				continue;
			}
			ck_assert_int_ge(n, 0);
			ck_assert_uint_eq(iov_length(slice, (size_t)n), len);
			ck_assert_uint_eq(iov_read(slice, (size_t)n, 0, buf, len), len);
			ck_assert_mem_eq(buf, all + offset, len);
		}
	}
	ck_assert_int_eq(iov_slice(iov, 4, UINT64_MAX, 1, iov, 4), -1);
	ck_assert_int_eq(iov_slice(iov, 4, 1, UINT64_MAX, iov, 4), -1);
}
END_TEST

START_TEST(test_slice_room)
{
	struct iovec slice[4];

	ck_assert_int_eq(iov_slice(iov, 4, 0, 10, slice, 3), 3); /* the empty piece needs none */
	ck_assert_int_eq(iov_slice(iov, 4, 0, 10, slice, 2), -1);
	ck_assert_int_eq(iov_slice(iov, 4, 0, 4, slice, 2), 2);
	ck_assert_int_eq(iov_slice(iov, 4, 5, 0, NULL, 0), 0);
}
END_TEST

START_TEST(test_slice_in_place)
{
	char buf[16];

	ck_assert_int_eq(iov_slice(iov, 4, 0, 5, iov, 4), 3);
	ck_assert_uint_eq(iov_read(iov, 3, 0, buf, sizeof(buf)), 5);
	ck_assert_mem_eq(buf, "abcde", 5);
}
END_TEST

CHECK_MAIN("iov", CHECK_FIXTURE(setup, NULL); CHECK_TEST(test_length);
	   CHECK_TEST(test_read_everywhere); CHECK_TEST(test_write_and_zero_everywhere);
	   CHECK_TEST(test_slice_everywhere); CHECK_TEST(test_slice_room);
	   CHECK_TEST(test_slice_in_place))
