/* SPDX-License-Identifier: Apache-2.0 */
/* An option table that includes one that includes one, with options that are not for command lines. */
#include "harness/check_main.h"

#include "vmm/options.h"

static struct error err;

/* A table that includes one that includes one, with options that are not for command lines. */
struct inner {
	uint64_t big;
	bool shy;
};
struct middle {
	const char *path;
	struct inner inner;
	uint32_t secret;
	bool has_path;
};
struct outer {
	uint32_t first;
	struct middle middle, other;
	bool has_other, last;
	int items;
};

static int add_outer(void *object, const char *value, struct error *e)
{
	(void)value;
	(void)e;
	((struct outer *)object)->items++;
	return 0;
}

static const struct option inner_list[] = {
	{ .name = "big",
	  .json = "big",
	  .type = OPTION_U64,
	  .offset = offsetof(struct inner, big),
	  .min = 5,
	  .fallback = "5",
	  .help = "large number" },
	{ .json = "shy",
	  .type = OPTION_BOOL,
	  .offset = offsetof(struct inner, shy),
	  .fallback = "on" },
};
static const struct option_table inner_table = { .name = "inner",
						 .options = inner_list,
						 .count = ARRAY_SIZE(inner_list) };
static const struct option middle_list[] = {
	{ .name = "path",
	  .letter = 'p',
	  .type = OPTION_STRING,
	  .offset = offsetof(struct middle, path),
	  .present = offsetof(struct middle, has_path) + 1,
	  .first = true,
	  .help = "the file" },
	{ .type = OPTION_INCLUDE,
	  .object = &inner_table,
	  .offset = offsetof(struct middle, inner) },
	{ .json = "secret",
	  .letter = 's',
	  .type = OPTION_U32,
	  .offset = offsetof(struct middle, secret),
	  .fallback = "9" },
};
static const struct option_table middle_table = { .name = "middle",
						  .options = middle_list,
						  .count = ARRAY_SIZE(middle_list) };
static const struct option outer_list[] = {
	{ .name = "item", .type = OPTION_LIST, .add = add_outer },
	{ .name = "first", .type = OPTION_U32, .offset = offsetof(struct outer, first) },
	{ .type = OPTION_INCLUDE,
	  .object = &middle_table,
	  .offset = offsetof(struct outer, middle) },
	{ .json = "other",
	  .type = OPTION_OBJECT,
	  .object = &middle_table,
	  .offset = offsetof(struct outer, other),
	  .present = offsetof(struct outer, has_other) + 1 },
	{ .name = "last",
	  .letter = 'l',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct outer, last) },
};
static const struct option_table outer_table = { .name = "outer",
						 .options = outer_list,
						 .count = ARRAY_SIZE(outer_list) };

static struct outer outer;

static void outer_defaults(void)
{
	memset(&outer, 0x55, sizeof(outer));
	check_ok(options_defaults(&outer_table, &outer, &err), &err);
	outer.items = 0;
}

START_TEST(test_include_order)
{
	static const char *const names[] = { "item", "first",  "path",	"big",
					     "shy",  "secret", "other", "last" };
	struct option_iter at = option_iter(&outer_table);

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		ck_assert(option_next(&at));
		ck_assert_uint_eq(at.index, i);
		ck_assert_str_eq(at.option->name != NULL ? at.option->name : at.option->json,
				 names[i]);
	}
	ck_assert(!option_next(&at));
	ck_assert(!option_next(&at));
}
END_TEST

START_TEST(test_include_defaults)
{
	outer_defaults();
	ck_assert_uint_eq(outer.first, 0);
	ck_assert_uint_eq(outer.middle.inner.big, 5);
	ck_assert_uint_eq(outer.middle.secret, 9);
	ck_assert(outer.middle.inner.shy && !outer.middle.has_path && !outer.last);
	ck_assert_ptr_null(outer.middle.path);
	/* What is embedded gets its defaults too, and is not given. */
	ck_assert(!outer.has_other && !outer.other.has_path && outer.other.inner.shy);
	ck_assert_uint_eq(outer.other.inner.big, 5);
	ck_assert_uint_eq(outer.other.secret, 9);
}
END_TEST

START_TEST(test_include_command_line)
{
	static const char *const line[] = {
		"outer", "--big=18446744073709551615", "--item", "a", "-lp", "x", "--first", "3",
		NULL
	};
	char *argv[ARRAY_SIZE(line)];

	outer_defaults();
	for (size_t i = 0; i < ARRAY_SIZE(line); i++) {
		argv[i] = (char *)(uintptr_t)line[i];
	}
	ck_assert_int_eq(options_parse(&outer_table, &outer, 8, argv, &err), 8);
	ck_assert_uint_eq(outer.middle.inner.big, UINT64_MAX);
	ck_assert_str_eq(outer.middle.path, "x");
	ck_assert(outer.middle.has_path && outer.last);
	ck_assert_int_eq(outer.items, 1);
	ck_assert_uint_eq(outer.first, 3);
	ck_assert_uint_eq(outer.other.inner.big, 5);
}
END_TEST

/* What has a JSON key only is no flag and no key, by no name and no letter, nor as a hint. */
static const char *const hidden[] = { "--secret=1", "-s1", "--shy=on", "--other", "--secre=1" };

START_TEST(test_json_only)
{
	char command[] = "outer", word[32], text[64];
	char *argv[] = { command, word, NULL };

	outer_defaults();
	(void)snprintf(word, sizeof(word), "%s", hidden[_i]);
	ck_assert_int_lt(options_parse(&outer_table, &outer, 2, argv, &err), 0);
	check_error(&err, ERROR_USAGE, "unknown flag");
	ck_assert_ptr_null(strstr(err.hint, "secret"));
	(void)snprintf(text, sizeof(text), "last,%s", word + strspn(word, "-"));
	ck_assert_int_lt(options_parse_keys(&outer_table, &outer, "--x", text, &err), 0);
	check_error(&err, ERROR_USAGE, "--x: unknown key");
	ck_assert_ptr_null(strstr(err.hint, "shy"));
}
END_TEST

START_TEST(test_include_keys)
{
	char good[] = "/a,,b,big=7,first=2,item=1,item=2,last", twice[] = "big=7,last,big=8",
	     range[] = "/a,big=4", unknown[] = "/a,bgi=4";

	outer_defaults();
	check_ok(options_parse_keys(&outer_table, &outer, "--x", good, &err), &err);
	ck_assert_str_eq(outer.middle.path, "/a,b");
	ck_assert_uint_eq(outer.middle.inner.big, 7);
	ck_assert(outer.middle.has_path && outer.last);
	ck_assert_int_eq(outer.items, 2);
	ck_assert_int_lt(options_parse_keys(&outer_table, &outer, "--x", twice, &err), 0);
	check_error(&err, ERROR_USAGE, "--x: key 'big' is given twice");
	ck_assert_int_lt(options_parse_keys(&outer_table, &outer, "--x", range, &err), 0);
	check_error(&err, ERROR_USAGE, "'4' is too small; accepted is a whole number, at least 5");
	ck_assert_int_lt(options_parse_keys(&outer_table, &outer, "--x", unknown, &err), 0);
	check_error(&err, ERROR_USAGE,
		    "did you mean 'big'? The keys are: item, first, path, big, last");
}
END_TEST

START_TEST(test_include_help)
{
	static char text[4096];

	ck_assert_uint_eq(options_help(&outer_table, text, sizeof(text)), strlen(text));
	ck_assert_str_eq(text, "      --item TEXT  \n"
			       "      --first N    \n"
			       "  -p, --path TEXT  the file\n"
			       "      --big N      large number (default 5)\n"
			       "  -l, --last       \n");
}
END_TEST

/* 18446744073709551616 does not fit, nor does what U64 cannot be. */
static const char *const not_u64[] = { "18446744073709551616", "-1", "1k", "0x5", "4", "", "5.0" };

START_TEST(test_u64)
{
	outer_defaults();
	ck_assert_int_lt(
		options_set(&inner_list[0], &outer.middle.inner, "--big", not_u64[_i], &err), 0);
	check_error(&err, ERROR_USAGE, "--big: ");
	ck_assert_uint_eq(outer.middle.inner.big, 5);
}
END_TEST

CHECK_MAIN("option_include", CHECK_TEST(test_include_order); CHECK_TEST(test_include_defaults);
	   CHECK_TEST(test_include_command_line); CHECK_TABLE(test_json_only, hidden);
	   CHECK_TEST(test_include_keys); CHECK_TEST(test_include_help);
	   CHECK_TABLE(test_u64, not_u64))
