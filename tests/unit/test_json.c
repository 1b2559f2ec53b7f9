/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/json.h"

static struct error err;

static void setup(void)
{
	err = (struct error){ 0 };
}

/* A text whose bytes need not be a C string. */
struct text {
	const char *bytes;
	size_t len;
};
#define T(literal)                             \
	{                                      \
		(literal), sizeof(literal) - 1 \
	}

/*
 * The classes of the public parsing test suites: what a parser must take, what it must refuse, and
 * what the grammar leaves open, where this is what we decided.
 */
static const struct text accepted[] = {
	/* structures */
	T("{}"),
	T("[]"),
	T("[[]   ]"),
	T("[[],[[]]]"),
	T("{\"a\":{\"b\":[{\"c\":{}}]}}"),
	T("{\"\":0}"),
	T("{\"a\":1,\"b\":1,\"A\":2}"),
	T("[null, 1, \"1\", {}]"),
	T("[1,null,null,null,2]"),
	T("{\"a\":[]}"),
	T("{\"min\": -1.0e+28, \"max\": 1.0e+28}"),
	/* lonely values */
	T("42"),
	T("-0.1"),
	T("null"),
	T("true"),
	T("false"),
	T("\"asd\""),
	T("\"\""),
	/* whitespace */
	T(" [] "),
	T("\t\n\r []\r\n"),
	T("{\n\"a\"\t:\r1 ,\n\"b\" : 2}\n"),
	/* numbers */
	T("[0]"),
	T("[-0]"),
	T("[0e+1]"),
	T("[0e1]"),
	T("[0.0]"),
	T("[1E22]"),
	T("[1E-2]"),
	T("[1E+2]"),
	T("[123e45]"),
	T("[123.456e78]"),
	T("[123.456789]"),
	T("[-0.000000000000000000000000000000000000000000000000000000000000000000000000000001]"),
	T("[-123]"),
	T("[-1]"),
	T("[9223372036854775807]"),
	T("[-9223372036854775808]"),
	T("[9223372036854775808]"),
	T("[18446744073709551615]"),
	T("[1e-10000]"), /* open: underflow is zero */
	T("[0.3333333333333333333333333333333333333333333333333333333333333333333333]"),
	/* strings */
	T("[\"\\u0060\\u012a\\u12AB\"]"),
	T("[\"\\ud801\\udc37\"]"),
	T("[\"\\ud83d\\ude39\\ud83d\\udc8d\"]"),
	T("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]"),
	T("[\"\\\\u0000\"]"),
	T("[\"a/*b*/c/*d//e\"]"),
	T("[\"\\\\a\"]"),
	T("[\"\\u0012\"]"),
	T("[\"\\uFFFF\"]"),
	T("[\"\\u0061\\u30af\\u30EA\"]"),
	T("[\"[{\\\"\"]"),
	T("[\"\x7f\"]"),
	/* UTF-8, the first and last character of each length, and what is no character but legal */
	T("\"\xc2\x80\""),
	T("\"\xdf\xbf\""),
	T("\"\xe0\xa0\x80\""),
	T("\"\xed\x9f\xbf\""),
	T("\"\xee\x80\x80\""),
	T("\"\xef\xbf\xbf\""),
	T("\"\xf0\x90\x80\x80\""),
	T("\"\xf4\x8f\xbf\xbf\""),
	T("\"\xe2\x80\xa8\xe2\x80\xa9\""),
	T("\"\xef\xbb\xbf\""), /* a byte order mark inside a string is a character */
	T("{\"\xc3\xa9\":\"\xf0\x9f\x98\x80\"}"),
};

START_TEST(test_accepted)
{
	json_t *value = NULL;

	check_ok(json_parse(&value, accepted[_i].bytes, accepted[_i].len, &err), &err);
	ck_assert_ptr_nonnull(value);
	json_decref(value);
}
END_TEST

static const struct text refused[] = {
	/* nothing, or more than one value */
	T(""),
	T(" "),
	T("\n"),
	T("[][]"),
	T("1 2"),
	T("{} {}"),
	T("{}\n,"),
	T("[]]"),
	T("{}}"),
	T("[1]x"),
	T("{}#"),
	T("{}//"),
	T("{}/**/"),
	T("/**/{}"),
	T("<null>"),
	T("\xe2\x81\xa0[]"),
	T("\x0c[]"),
	T("[\x0b]"),
	T("\xc2\xa0[]"),
	T("\xc2\x85[]"),
	/* arrays */
	T("["),
	T("]"),
	T("[1"),
	T("[1,"),
	T("[1,]"),
	T("[1,,]"),
	T("[,1]"),
	T("[,]"),
	T("[1,,2]"),
	T("[1 true]"),
	T("[3[4]]"),
	T("[\"x\", truth]"),
	T("[\"\": 1]"),
	T("[a"),
	T("[*]"),
	T("[}"),
	T("[\"a\""),
	T("[\"a\",\n4\n,1,"),
	T("[1:2]"),
	T("[<null>]"),
	/* objects */
	T("{"),
	T("}"),
	T("{]"),
	T("{1:1}"),
	T("{a:1}"),
	T("{'a':1}"),
	T("{null:null}"),
	T("{\"a\"}"),
	T("{\"a\" b}"),
	T("{\"a\":"),
	T("{\"a\":}"),
	T("{\"a\":1,}"),
	T("{\"a\":1,,}"),
	T("{,\"a\":1}"),
	T("{\"a\"::1}"),
	T("{\"a\",1}"),
	T("{\"a\":1 \"b\":2}"),
	T("{\"a\":1"),
	T("{\"a\":'b'}"),
	T("{\"a\":1}{"),
	T("{[]:1}"),
	T("{\"a\":/*x*/1}"),
	T("{\"x\"::\"b\"}"),
	T("{\"a\":1,\"a\":1}"),
	T("{\"a\":1,\"\\u0061\":2}"),
	T("{\"a\":1,\"b\":{\"c\":1,\"d\":2,\"c\":3}}"),
	/* words */
	T("nul"),
	T("nulll"),
	T("Null"),
	T("tru"),
	T("True"),
	T("TRUE"),
	T("fals"),
	T("undefined"),
	T("NaN"),
	T("-NaN"),
	T("Infinity"),
	T("-Infinity"),
	T("inf"),
	/* numbers */
	T("-"),
	T("+1"),
	T("++1"),
	T("- 1"),
	T("-01"),
	T("01"),
	T("00"),
	T("012"),
	T("-012"),
	T("1."),
	T(".1"),
	T("-.1"),
	T("2.e3"),
	T("2.e+3"),
	T("1e"),
	T("1e+"),
	T("1E"),
	T("0e"),
	T("0e+-1"),
	T("1eE2"),
	T("1.0e"),
	T("1.0e+"),
	T("0.1.2"),
	T("1_000"),
	T("1 000"),
	T("0x1"),
	T("0x"),
	T("1a"),
	T("1+2"),
	T("1.2a-3"),
	T("--1"),
	T("\xef\xbc\x91"),
	T("-9223372036854775809"),
	T("18446744073709551616"),
	T("100000000000000000000000000000000000000000000000000000000000000000000000"),
	T("1e309"),
	T("-1e9999"),
	T("123123e100000"),
	T("0.4e00669999999999999999999999999999999999999999999999999999999999999999999999999"),
	/* strings */
	T("\""),
	T("\"abc"),
	T("\"\\"),
	T("\"\\\""),
	T("'a'"),
	T("abc"),
	T("\\n"),
	T("\"\\x00\""),
	T("\"\\a\""),
	T("\"\\'\""),
	T("\"\\0\""),
	T("\"\\u\""),
	T("\"\\u00A\""),
	T("\"\\u00G0\""),
	T("\"\\uD834\\uDd\""),
	T("\"\\U0041\""),
	T("\"\\\xf0\x9f\x8c\x80\""),
	T("\"\\u{61}\""),
	T("\"a\nb\""),
	T("\"a\tb\""),
	T("\"a\x1f\""),
	T("\"a\" \"b\""),
	/* lone and broken surrogates */
	T("\"\\ud800\""),
	T("\"\\udfff\""),
	T("\"\\ud800\\ud800\""),
	T("\"\\ud800\\u0041\""),
	T("\"\\ud800\\n\""),
	T("\"\\udc00\\ud800\""),
	T("\"\\ud800abc\""),
	T("{\"\\ud800\":1}"),
	/* NUL: as an escape, as a byte anywhere */
	T("\"\\u0000\""),
	T("{\"\\u0000a\":1}"),
	T("{\"a\\u0000b\":1}"),
	T("\"a\0b\""),
	T("\0"),
	T("[\0]"),
	T("{}\0"),
	T("{}\0{}"),
	T("1\0"),
	T("1\0{}"),
	T("[1\0,2]"),
	T("[1\0]"),
	/* not UTF-8 */
	T("\"\x80\""),
	T("\"\xbf\""),
	T("\"\xc0\x80\""),
	T("\"\xc0\xaf\""),
	T("\"\xc1\xbf\""),
	T("\"\xc3\""),
	T("\"\xc3(\""),
	T("\"\xe0\x80\xaf\""),
	T("\"\xe0\x9f\xbf\""),
	T("\"\xed\xa0\x80\""),
	T("\"\xed\xbf\xbf\""),
	T("\"\xe2\x82\""),
	T("\"\xf0\x80\x80\xaf\""),
	T("\"\xf0\x8f\xbf\xbf\""),
	T("\"\xf4\x90\x80\x80\""),
	T("\"\xf5\x80\x80\x80\""),
	T("\"\xfc\x83\xbf\xbf\xbf\xbf\""),
	T("\"\xfe\""),
	T("\"\xff\""),
	T("\"\xe9\""),
	T("\xff"),
	T("[\xff]"),
	T("{\"\xb9\":0}"),
	T("\"\xf0\x9f"),
	T("\xc3"),
	/* other encodings and marks */
	T("\xef\xbb\xbf{}"),
	T("\xef\xbb\xbf"),
	T("\xef\xbb{}"),
	T("\xff\xfe[\0]\0"),
	T("\xfe\xff\0[\0]"),
	T("[\0\"\0]\0"),
};

START_TEST(test_refused)
{
	/* Exactly as long as the text, so that a sanitizer sees a byte read behind its end. */
	char *copy = malloc(refused[_i].len + (refused[_i].len == 0));
	json_t *value = (json_t *)&err;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, refused[_i].bytes, refused[_i].len);
	ck_assert_int_eq(json_parse(&value, copy, refused[_i].len, &err), -EINVAL);
	ck_assert_int_eq(err.code, ERROR_JSON);
	ck_assert_ptr_eq(value, &err);
	ck_assert_ptr_nonnull(strstr(err.msg, "JSON"));
	free(copy);
}
END_TEST

static const struct {
	const char *text, *message;
} messages[] = {
	{ "", "JSON: the text is empty" },
	{ "{\"a\":1,\n \"a\":2}", "JSON, line 2, column 4: duplicate object key near '\"a\"'" },
	{ "[1,\n\n2,]", "line 3, column 3" },
	{ "[18446744073709551616]", "an integer that does not fit into 64 bits" },
	{ "[-9223372036854775809]", "an integer that does not fit into 64 bits" },
	{ "[1e400]", "a number that is too large" },
	{ "\"\\u0000\"", "a NUL (\\u0000) inside a string" },
	{ "\xef\xbb\xbf{}", "a byte order mark" },
	{ "\"\xff\"", "unable to decode byte 0xff" },
	{ "\"\\u\xc3\xa9", "invalid escape near '\"\\u?'" }, /* not half of the letter */
	{ "\"\xc3\xa9\\x\"", "invalid escape near '\"\xc3\xa9\\x'" },
};

START_TEST(test_messages)
{
	json_t *value;

	ck_assert_int_lt(json_parse(&value, messages[_i].text, strlen(messages[_i].text), &err), 0);
	check_error(&err, ERROR_JSON, messages[_i].message);
	ck_assert_int_lt(json_parse(&value, messages[_i].text, strlen(messages[_i].text), NULL), 0);
}
END_TEST

/* How deep: at the limit, above it, and so deep that a recursive parser would not come back. */
static const struct {
	const char *open, *close;
	size_t depth;
	bool good;
} nests[] = {
	{ "[", "]", JSON_DEPTH_MAX, true },
	{ "[", "]", JSON_DEPTH_MAX + 1, false },
	{ "[", "", JSON_DEPTH_MAX + 1, false },
	{ "{\"a\":", "}", JSON_DEPTH_MAX + 1, false },
	{ "[{\"a\":", "}]", JSON_DEPTH_MAX / 2 + 1, false },
	{ "[", "]", 100000, false },
	{ "[", "", 100000, false },
	{ "{\"a\":", "", 100000, false },
	{ "[{\"\":", "}]", 50000, false },
};

START_TEST(test_depth)
{
	size_t open = strlen(nests[_i].open), close = strlen(nests[_i].close);
	size_t len = nests[_i].depth * (open + close);
	char *text = malloc(len);
	json_t *value = NULL;
	int r;

	ck_assert_ptr_nonnull(text);
	for (size_t i = 0; i < nests[_i].depth; i++) {
		memcpy(text + i * open, nests[_i].open, open);
		memcpy(text + nests[_i].depth * open + i * close, nests[_i].close, close);
	}
	r = json_parse(&value, text, len, &err);
	if (nests[_i].good) {
		check_ok(r, &err);
	} else {
		ck_assert_int_eq(r, -EINVAL);
		check_error(&err, ERROR_JSON, "more than 64 levels");
	}
	json_decref(value);
	free(text);
}
END_TEST

/* A few bytes of text must not become much memory. */
START_TEST(test_too_many_values)
{
	static char text[2 * JSON_VALUES_MAX + 4];
	json_t *value = NULL;

	memset(text, '0', sizeof(text));
	for (size_t i = 2; i < sizeof(text); i += 2) {
		text[i] = ',';
	}
	text[0] = '[';
	text[sizeof(text) - 1] = ']';
	ck_assert_int_eq(json_parse(&value, text, sizeof(text), &err), -E2BIG);
	check_error(&err, ERROR_TOO_LARGE, "more than 100000 values");
	ck_assert_ptr_null(value);
}
END_TEST

/* Brackets in strings are no levels, and many siblings are not deep. */
START_TEST(test_not_deep)
{
	static char text[100001];
	json_t *value;

	memset(text, '[', 100000);
	text[0] = '"';
	text[500] = '\\';
	text[501] = '"';
	text[502] = '\\';
	text[503] = '\\';
	text[99999] = '"';
	check_ok(json_parse(&value, text, 100000, &err), &err);
	json_decref(value);
	text[0] = '[';
	for (size_t i = 1; i + 3 <= 99999; i += 3) {
		memcpy(text + i, "[],", 3);
	}
	memcpy(text + 99997, "[]]", 3);
	check_ok(json_parse(&value, text, 100000, &err), &err);
	ck_assert_uint_eq(json_array_size(value), 33333);
	json_decref(value);
}
END_TEST

/* What a message repeats of a text is little, however long the text is. */
START_TEST(test_long_tokens)
{
	static char text[100000];
	static const char *const starts[] = { "{\"", "\"", "n", "[1,", "{\"a\":1,\"", "-" };

	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		json_t *value;

		memset(text, 'x', sizeof(text));
		memcpy(text, starts[i], strlen(starts[i]));
		ck_assert_int_lt(json_parse(&value, text, sizeof(text), &err), 0);
		ck_assert_uint_lt(strlen(err.msg), 180);
	}
}
END_TEST

START_TEST(test_many_keys)
{
	/* All different, all alike but for their end: still no time to speak of. */
	size_t size = 64 * 20000, len = 0;
	char *text = malloc(size);
	json_t *value;

	ck_assert_ptr_nonnull(text);
	for (int i = 0; i < 20000; i++) {
		len += (size_t)snprintf(text + len, size - len, "%c\"key-%08x\":%d",
					i == 0 ? '{' : ',', i, i);
	}
	text[len++] = '}';
	check_ok(json_parse(&value, text, len, &err), &err);
	ck_assert_uint_eq(json_object_size(value), 20000);
	json_decref(value);
	free(text);
}
END_TEST

START_TEST(test_text)
{
	static const char source[] =
		"{ \"b\": [1, 2.5, null],\n\"a\": \"x/\\u00e9\\n\" , \"\": -7}";
	auto_free char *text = NULL;
	json_t *value, *again;
	size_t len = 0;

	check_ok(json_parse(&value, source, strlen(source), &err), &err);
	text = json_text(value, &len);
	ck_assert_str_eq(text, "{\"\":-7,\"a\":\"x/\xc3\xa9\\n\",\"b\":[1,2.5,null]}");
	ck_assert_uint_eq(len, strlen(text));
	check_ok(json_parse(&again, text, len, &err), &err);
	ck_assert(json_equal(value, again));
	json_decref(again);
	json_decref(value);
	ck_assert_ptr_null(json_text(NULL, &len));
}
END_TEST

START_TEST(test_lonely_text)
{
	auto_json json_t *value = json_string("x");
	auto_free char *text = NULL;
	size_t len;

	text = json_text(value, &len);
	ck_assert_str_eq(text, "\"x\"");
	ck_assert_uint_eq(len, 3);
}
END_TEST

static char folder[] = "/tmp/test_json.XXXXXX";
static char path[64];

static void write_file(const char *bytes, size_t len)
{
	auto_close int fd = -1;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/file", folder);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, len), len);
}

static void remove_file(void)
{
	(void)unlink(path);
	(void)rmdir(folder);
}

START_TEST(test_file)
{
	json_t *value = NULL;

	write_file("{\"a\": 1}\n", 9);
	check_ok(json_read_file(&value, path, 9, &err), &err);
	ck_assert_int_eq(json_integer_value(json_object_get(value, "a")), 1);
	json_decref(value);
	value = NULL;
	ck_assert_int_eq(json_read_file(&value, path, 8, &err), -EFBIG);
	check_error(&err, ERROR_TOO_LARGE, "larger than 8 bytes");
	check_error(&err, ERROR_TOO_LARGE, path);
	ck_assert_int_eq(json_read_file(&value, path, 0, &err), -EFBIG);
	ck_assert_int_lt(json_read_file(&value, folder, 100, &err), 0);
	check_error(&err, ERROR_CONFIG, "Is a directory");
	ck_assert_int_eq(truncate(path, 7), 0);
	ck_assert_int_eq(json_read_file(&value, path, 100, &err), -EINVAL);
	check_error(&err, ERROR_JSON, "line 1, column 7");
	check_error(&err, ERROR_JSON, path);
	ck_assert_int_eq(truncate(path, 0), 0);
	ck_assert_int_eq(json_read_file(&value, path, 100, &err), -EINVAL);
	check_error(&err, ERROR_JSON, "empty");
	remove_file();
	ck_assert_int_eq(json_read_file(&value, path, 100, &err), -ENOENT);
	check_error(&err, ERROR_CONFIG, "No such file");
	ck_assert_ptr_null(value);
}
END_TEST

/* A file without an end, and one whose size says nothing. */
START_TEST(test_odd_files)
{
	json_t *value = NULL;
	int pipes[2];

	ck_assert_int_eq(json_read_file(&value, "/dev/zero", 100000, &err), -EFBIG);
	ck_assert_int_eq(json_read_file(&value, "/dev/null", 100000, &err), -EINVAL);
	check_error(&err, ERROR_JSON, "empty");
	ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
	ck_assert_int_eq(write(pipes[1], "[1,2]", 5), 5);
	(void)close(pipes[1]);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", pipes[0]);
	check_ok(json_read_file(&value, path, 5, &err), &err);
	ck_assert_uint_eq(json_array_size(value), 2);
	json_decref(value);
	(void)close(pipes[0]);
}
END_TEST

/* Longer than the first buffer, by one read after the other. */
START_TEST(test_large_file)
{
	static char text[70000];
	json_t *value = NULL;

	memset(text, ' ', sizeof(text));
	text[0] = '[';
	text[sizeof(text) - 1] = ']';
	write_file(text, sizeof(text));
	check_ok(json_read_file(&value, path, sizeof(text), &err), &err);
	ck_assert_uint_eq(json_array_size(value), 0);
	json_decref(value);
	ck_assert_int_eq(json_read_file(&value, path, sizeof(text) - 1, &err), -EFBIG);
	remove_file();
}
END_TEST

/* Preparing twice, or late, changes nothing that anybody sees. */
START_TEST(test_prepare)
{
	json_t *value;

	json_prepare();
	check_ok(json_parse(&value, "{\"a\":1,\"b\":2}", 13, &err), &err);
	json_prepare();
	ck_assert_int_eq(json_integer_value(json_object_get(value, "b")), 2);
	json_decref(value);
}
END_TEST

static const struct {
	const char *text, *expected;
} large[] = {
	{ "18446744073709551615", "9223372036854775807" },
	{ "[9223372036854775808,9223372036854775807,1]",
	  "[9223372036854775807,9223372036854775807,1]" },
	{ "{\"18446744073709551615\":18446744073709551614}",
	  "{\"18446744073709551615\":9223372036854775807}" },
	{ "[\"a\\\"9223372036854775808\",9223372036854775808]",
	  "[\"a\\\"9223372036854775808\",9223372036854775807]" },
	{ "[-9223372036854775808]", "[-9223372036854775808]" },
};

/* What an unsigned number of 64 bits holds is never refused. */
START_TEST(test_large_numbers)
{
	json_t *value = NULL;
	char *text;
	size_t len;

	check_ok(json_parse(&value, large[_i].text, strlen(large[_i].text), &err), &err);
	text = json_text(value, &len);
	ck_assert_str_eq(text, large[_i].expected);
	free(text);
	json_decref(value);
	/* With a fraction it is no such number. */
	check_ok(json_parse(&value, "[18446744073709551615.5]", 24, &err), &err);
	ck_assert(json_is_real(json_array_get(value, 0)));
	json_decref(value);
}
END_TEST

CHECK_MAIN("json", CHECK_FIXTURE(setup, NULL); CHECK_TABLE(test_large_numbers, large);
	   CHECK_TABLE(test_accepted, accepted); CHECK_TABLE(test_refused, refused);
	   CHECK_TABLE(test_messages, messages); CHECK_TABLE(test_depth, nests);
	   CHECK_TEST(test_too_many_values); CHECK_TEST(test_not_deep);
	   CHECK_TEST(test_long_tokens); CHECK_TEST(test_many_keys); CHECK_TEST(test_text);
	   CHECK_TEST(test_lonely_text); CHECK_TEST(test_file); CHECK_TEST(test_odd_files);
	   CHECK_TEST(test_large_file); CHECK_TEST(test_prepare))
