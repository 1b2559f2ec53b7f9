/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include <errno.h>
#include <limits.h>

START_TEST(test_set)
{
	struct error e = { .code = ERROR_NET, .sys = 7, .msg = "old", .hint = "old" };

	ck_assert_int_eq(error_set(&e, ERROR_DISK, EACCES, "open '%s': %s", "/x", "denied"),
			 -EACCES);
	ck_assert_int_eq(e.code, ERROR_DISK);
	ck_assert_int_eq(e.sys, EACCES);
	ck_assert_str_eq(e.msg, "open '/x': denied");
	ck_assert_str_eq(e.hint, "");
}
END_TEST

/* sys given -> value returned, and e->sys kept for later prefixes */
static const struct {
	int sys, returned, kept;
} numbers[] = {
	{ 0, -EINVAL, 0 },	 { ENOENT, -ENOENT, ENOENT },	 { -5, -EINVAL, 0 },
	{ INT_MIN, -EINVAL, 0 }, { INT_MAX, -INT_MAX, INT_MAX },
};

START_TEST(test_numbers)
{
	struct error e;

	ck_assert_int_eq(error_set(&e, ERROR_CONFIG, numbers[_i].sys, "m"), numbers[_i].returned);
	ck_assert_int_eq(e.sys, numbers[_i].kept);
	ck_assert_int_eq(error_prefix(&e, "p"), numbers[_i].returned);
	ck_assert_int_eq(error_hint(&e, "h"), numbers[_i].returned);
	ck_assert_int_eq(error_set(NULL, ERROR_CONFIG, numbers[_i].sys, "m"), numbers[_i].returned);
	ck_assert_int_eq(error_set_sys(NULL, ERROR_CONFIG, numbers[_i].sys, "m"),
			 numbers[_i].returned);
}
END_TEST

START_TEST(test_set_sys)
{
	struct error e;

	ck_assert_int_eq(error_set_sys(&e, ERROR_NET, ENOENT, "tap '%s'", "t0"), -ENOENT);
	ck_assert_str_eq(e.msg, "tap 't0': No such file or directory");
}
END_TEST

START_TEST(test_prefix_chain)
{
	struct error e;

	error_set(&e, ERROR_DISK, EACCES, "open '/x': Permission denied");
	ck_assert_int_eq(error_prefix(&e, "disk '%s'", "vda"), -EACCES);
	error_prefix(&e, "start 'web'");
	ck_assert_str_eq(e.msg, "start 'web': disk 'vda': open '/x': Permission denied");
	ck_assert_int_eq(e.code, ERROR_DISK);
}
END_TEST

START_TEST(test_suffix)
{
	struct error e;
	char long_text[500];

	error_set(&e, ERROR_DISK_LOCKED, EAGAIN, "in use");
	ck_assert_int_eq(e.holder, 0);
	e.holder = 7;
	ck_assert_int_eq(error_suffix(&e, ", the VM '%s'", "web"), -EAGAIN);
	error_prefix(&e, "disk vda");
	ck_assert_str_eq(e.msg, "disk vda: in use, the VM 'web'");
	ck_assert_int_eq(e.holder, 7);
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	error_suffix(&e, "%s", long_text);
	ck_assert_uint_eq(strlen(e.msg), sizeof(e.msg) - 1);
	ck_assert_str_eq(e.msg + sizeof(e.msg) - 4, "...");
	ck_assert_int_eq(error_suffix(NULL, "x"), -EINVAL);
	error_set(&e, ERROR_DISK, 0, "another");
	ck_assert_int_eq(e.holder, 0);
}
END_TEST

START_TEST(test_hint_first_wins)
{
	struct error e;

	error_set(&e, ERROR_NET, 0, "m");
	error_hint(&e, "inner %d", 1);
	error_hint(&e, "outer");
	ck_assert_str_eq(e.hint, "inner 1");
	ck_assert_str_eq(e.msg, "m");
}
END_TEST

START_TEST(test_null)
{
	ck_assert_int_eq(error_prefix(NULL, "p"), -EINVAL);
	ck_assert_int_eq(error_hint(NULL, "h"), -EINVAL);
}
END_TEST

/* A text of every length around the buffer's end is either whole or ends in the ellipsis, always
 * inside the buffer. */
START_TEST(test_truncation)
{
	char text[2 * sizeof(((struct error *)0)->msg)];
	struct error e;
	size_t length;

	for (length = sizeof(e.msg) - 6; length < sizeof(e.msg) + 8; length++) {
		memset(text, 'x', length);
		text[length] = '\0';
		memset(&e, 0x55, sizeof(e));
		error_set(&e, ERROR_DISK, 0, "%s", text);
		if (length < sizeof(e.msg)) {
			ck_assert_str_eq(e.msg, text);
		} else {
			ck_assert_uint_eq(strlen(e.msg), sizeof(e.msg) - 1);
			ck_assert_str_eq(e.msg + sizeof(e.msg) - 6, "xx...");
		}
		error_hint(&e, "%s", text);
		ck_assert_str_eq(e.hint + sizeof(e.hint) - 6, "xx...");
		error_prefix(&e, "disk");
		ck_assert_int_eq(strncmp(e.msg, "disk: xxx", 9), 0);
		ck_assert_str_eq(e.msg + sizeof(e.msg) - 6, "xx...");
		error_prefix(&e, "%s", text);
		ck_assert_str_eq(e.msg + sizeof(e.msg) - 4, "...");
		error_set_sys(&e, ERROR_DISK, EIO, "%s", text);
		ck_assert_str_eq(e.msg + sizeof(e.msg) - 4, "...");
	}
}
END_TEST

static bool utf8_whole(const char *s)
{
	static const struct {
		unsigned char mask, lead;
		int tail;
	} forms[] = { { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 1 }, { 0xf0, 0xe0, 2 }, { 0xf8, 0xf0, 3 } };

	while (*s != '\0') {
		size_t i;

		for (i = 0; i < ARRAY_SIZE(forms); i++) {
			if (((unsigned char)*s & forms[i].mask) == forms[i].lead) {
				break;
			}
		}
		if (i == ARRAY_SIZE(forms)) {
			return false;
		}
		s++;
		for (int tail = forms[i].tail; tail > 0; tail--, s++) {
			if (((unsigned char)*s & 0xc0) != 0x80) {
				return false;
			}
		}
	}
	return true;
}

static const char *const letters[] = { "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\xa7" };

START_TEST(test_truncation_keeps_utf8)
{
	for (size_t pad = 0; pad < 8; pad++) {
		char text[1024];
		struct error e;
		size_t n = pad;

		memset(text, 'a', pad);
		while (n + 5 < sizeof(text)) {
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s", letters[_i]);
		}
		error_set(&e, ERROR_DISK, 0, "%s", text);
		ck_assert_msg(utf8_whole(e.msg), "pad %zu: '%s'", pad, e.msg);
		ck_assert(strlen(e.msg) > sizeof(e.msg) - 5);
		error_prefix(&e, "%.*s", (int)pad, "ppppppppp");
		ck_assert(utf8_whole(e.msg));
	}
}
END_TEST

/* Bytes that are no UTF-8 at all must not send the cut looking before the buffer. */
START_TEST(test_truncation_of_garbage)
{
	char text[600];
	struct error e;

	memset(text, 0x80, sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	error_set(&e, ERROR_DISK, 0, "%s", text);
	ck_assert_uint_lt(strlen(e.msg), sizeof(e.msg));
	ck_assert_ptr_nonnull(strstr(e.msg, "..."));
}
END_TEST

START_TEST(test_code_names)
{
	for (int i = 0; i < ERROR_CODES; i++) {
		const char *name = error_code_name((enum error_code)i);

		ck_assert_ptr_nonnull(name);
		ck_assert_uint_eq(strspn(name, "abcdefghijklmnopqrstuvwxyz-"), strlen(name));
		for (int j = 0; j < i; j++) {
			ck_assert_str_ne(name, error_code_name((enum error_code)j));
		}
	}
	ck_assert_str_eq(error_code_name(ERROR_DISK_LOCKED), "disk-locked");
	ck_assert_str_eq(error_code_name(ERROR_STATE), "state");
	ck_assert_str_eq(error_code_name(ERROR_NO_ROUTE), "no-route");
	ck_assert_str_eq(error_code_name(ERROR_CANCELLED), "cancelled");
	ck_assert_str_eq(error_code_name(ERROR_SNAPSHOT), "snapshot");
	ck_assert_str_eq(error_code_name(ERROR_MIGRATION), "migration");
	ck_assert_str_eq(error_code_name(ERROR_CODES), "unknown");
	ck_assert_str_eq(error_code_name((enum error_code) - 1), "unknown");
}
END_TEST

CHECK_MAIN("error", CHECK_TEST(test_set); CHECK_TABLE(test_numbers, numbers);
	   CHECK_TEST(test_set_sys); CHECK_TEST(test_prefix_chain); CHECK_TEST(test_suffix);
	   CHECK_TEST(test_hint_first_wins); CHECK_TEST(test_null); CHECK_TEST(test_truncation);
	   CHECK_TABLE(test_truncation_keeps_utf8, letters); CHECK_TEST(test_truncation_of_garbage);
	   CHECK_TEST(test_code_names))
