/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include <errno.h>

#include "vmm/cleanup.h"
#include "vmm/options_json.h"

struct bucket {
	uint64_t size, refill;
	uint32_t burst;
};
struct limits {
	struct bucket bandwidth, ops;
	bool has_bandwidth, has_ops;
	const char *note;
};
struct common {
	const char *id;
	uint32_t cpus;
};
struct config {
	struct common common;
	const char *path, *args, *shown;
	uint64_t memory, wait, count, bytes;
	bool ro, has_ro, on, flag, has_mac, has_limits, has_count;
	int mode, fd, items;
	uint8_t mac[6];
	struct limits limits;
};

static const struct option_value modes[] = { { "fast", 3 }, { "safe", 4 }, { NULL, 0 } };
static const struct option_value json_modes[] = { { "Fast", 3 }, { "Safe", 4 }, { NULL, 0 } };

static int add_item(void *object, const char *value, struct error *e)
{
	(void)value;
	(void)e;
	((struct config *)object)->items++;
	return 0;
}

#define IN(type, member)    .offset = offsetof(struct type, member)
#define GIVEN(type, member) .present = offsetof(struct type, member) + 1
#define TABLE(name_, list)                                                    \
	{                                                                     \
		.name = (name_), .options = (list), .count = ARRAY_SIZE(list) \
	}

static const struct option bucket_list[] = {
	{ .json = "size", .type = OPTION_U64, IN(bucket, size), .json_required = true },
	{ .json = "refill",
	  .type = OPTION_DURATION,
	  IN(bucket, refill),
	  .json_required = true,
	  .min = 1,
	  .max = 3600000000000 },
	{ .json = "burst", .type = OPTION_U32, IN(bucket, burst), .fallback = "7" },
};
static const struct option_table bucket_table = TABLE("bucket", bucket_list);
static const struct option limits_list[] = {
	{ .json = "bandwidth",
	  .type = OPTION_OBJECT,
	  .object = &bucket_table,
	  IN(limits, bandwidth),
	  GIVEN(limits, has_bandwidth) },
	{ .json = "ops",
	  .type = OPTION_OBJECT,
	  .object = &bucket_table,
	  IN(limits, ops),
	  GIVEN(limits, has_ops) },
	{ .json = "note", .type = OPTION_STRING, IN(limits, note) },
};
static const struct option_table limits_table = TABLE("limits", limits_list);
static const struct option common_list[] = {
	{ .name = "id",
	  .json = "drive_id",
	  .type = OPTION_STRING,
	  IN(common, id),
	  .json_required = true,
	  .help = "name of the drive" },
	{ .name = "cpus",
	  .json = "vcpu_count",
	  .type = OPTION_U32,
	  IN(common, cpus),
	  .min = 1,
	  .max = 32,
	  .fallback = "2" },
};
static const struct option_table common_table = TABLE("common", common_list);
static const struct option config_list[] = {
	{ .type = OPTION_INCLUDE, .object = &common_table, IN(config, common) },
	{ .name = "path", .json = "path_on_host", .type = OPTION_STRING, IN(config, path) },
	{ .json = "boot_args", .type = OPTION_STRING, IN(config, args), .verbatim = true },
	{ .name = "memory",
	  .json = "mem_size_mib",
	  .json_unit = MIB(1),
	  .type = OPTION_SIZE,
	  IN(config, memory),
	  .min = MIB(32),
	  .max = GIB(64),
	  .fallback = "512M",
	  .help = "guest memory" },
	{ .json = "wait_ms", .type = OPTION_DURATION, IN(config, wait), .fallback = "3s" },
	{ .json = "count", .type = OPTION_U64, IN(config, count), GIVEN(config, has_count) },
	{ .json = "bytes", .type = OPTION_SIZE, IN(config, bytes) },
	{ .name = "ro",
	  .json = "is_read_only",
	  .type = OPTION_FLAG,
	  IN(config, ro),
	  GIVEN(config, has_ro) },
	{ .name = "on", .json = "on", .type = OPTION_BOOL, IN(config, on), .fallback = "on" },
	{ .json = "flag", .type = OPTION_FLAG, IN(config, flag) },
	{ .json = "mode",
	  .type = OPTION_ENUM,
	  IN(config, mode),
	  .values = modes,
	  .json_values = json_modes,
	  .fallback = "safe" },
	{ .json = "guest_mac", .type = OPTION_MAC, IN(config, mac), GIVEN(config, has_mac) },
	{ .name = "fd", .type = OPTION_FD, IN(config, fd) },
	{ .name = "item", .type = OPTION_LIST, .add = add_item },
	{ .name = "shown", .type = OPTION_STRING, IN(config, shown) }, /* command line only */
	{ .json = "rate_limiter",
	  .type = OPTION_OBJECT,
	  .object = &limits_table,
	  IN(config, limits),
	  GIVEN(config, has_limits) },
};
static const struct option_table table = TABLE("drive", config_list);

static struct config config;
static struct error err;

static void setup(void)
{
	memset(&config, 0, sizeof(config));
	check_ok(options_defaults(&table, &config, &err), &err);
}

static json_t *parse(const char *text)
{
	json_t *value = NULL;

	check_ok(json_parse(&value, text, strlen(text), &err), &err);
	return value;
}

/* The object as text, which says all there is to say about it. */
static char *text_of(const struct config *object)
{
	auto_json json_t *value = options_to_json(&table, object, 0);
	size_t len;
	char *text = json_text(value, &len);

	ck_assert_ptr_nonnull(text);
	return text;
}

#define DEFAULTS "\"flag\":false,\"mem_size_mib\":512,\"mode\":\"Safe\",\"on\":true,"

START_TEST(test_defaults)
{
	auto_json json_t *value = parse("{\"drive_id\":\"a\"}");
	auto_free char *text = NULL;

	memset(&config, 0x55, sizeof(config));
	config.items = 0;
	check_ok(options_from_json(&table, &config, value, 0, &err), &err);
	text = text_of(&config);
	ck_assert_str_eq(text, "{\"bytes\":0,\"drive_id\":\"a\"," DEFAULTS
			       "\"vcpu_count\":2,\"wait_ms\":3000}");
	ck_assert_int_eq(config.fd, -1);
	ck_assert_uint_eq(config.memory, MIB(512));
	ck_assert_uint_eq(config.wait, 3000000000);
	ck_assert(!config.has_ro && !config.has_mac && !config.has_limits && !config.has_count);
	ck_assert_ptr_null(config.path);
	ck_assert_ptr_null(config.shown);
}
END_TEST

START_TEST(test_all)
{
	static const char source[] =
		"{\"boot_args\":\"a\\tb\",\"bytes\":9223372036854775807,\"count\":0,\"drive_id\":"
		"\"a\","
		"\"flag\":true,\"guest_mac\":\"06:00:ac:10:00:02\",\"is_read_only\":false,"
		"\"mem_size_mib\":65536,\"mode\":\"Fast\",\"on\":false,\"path_on_host\":\"/x/"
		"\xc3\xa9\","
		"\"rate_limiter\":{\"bandwidth\":{\"burst\":0,\"refill\":100,\"size\":5},"
		"\"note\":\"n\",\"ops\":{\"burst\":4294967295,\"refill\":3600000,\"size\":0}},"
		"\"vcpu_count\":32,\"wait_ms\":0}";
	static const uint8_t mac[6] = { 6, 0, 0xac, 0x10, 0, 2 };
	auto_json json_t *value = parse(source);
	auto_free char *text = NULL;

	check_ok(options_from_json(&table, &config, value, 0, &err), &err);
	text = text_of(&config);
	ck_assert_str_eq(text, source);
	ck_assert_str_eq(config.common.id, "a");
	ck_assert_uint_eq(config.common.cpus, 32);
	ck_assert_str_eq(config.args, "a\tb");
	ck_assert_uint_eq(config.memory, GIB(64));
	ck_assert_uint_eq(config.bytes, INT64_MAX);
	ck_assert(!config.ro && config.has_ro && !config.on && config.flag && config.has_count);
	ck_assert_int_eq(config.mode, 3);
	ck_assert(config.has_mac && config.has_limits && config.limits.has_bandwidth);
	ck_assert_mem_eq(config.mac, mac, 6);
	ck_assert_uint_eq(config.limits.bandwidth.refill, 100000000);
	ck_assert_uint_eq(config.limits.ops.burst, UINT32_MAX);
	/* Strings are those of the JSON value. */
	ck_assert_ptr_eq(config.path, json_string_value(json_object_get(value, "path_on_host")));
}
END_TEST

START_TEST(test_null)
{
	auto_json json_t *value = parse(
		"{\"drive_id\":\"a\",\"path_on_host\":null,\"mem_size_mib\":null,\"on\":null,"
		"\"is_read_only\":null,\"guest_mac\":null,\"mode\":null,\"rate_limiter\":null,"
		"\"count\":null}");

	check_ok(options_from_json(&table, &config, value, 0, &err), &err);
	ck_assert_uint_eq(config.memory, MIB(512));
	ck_assert(config.on && !config.has_ro && !config.has_mac && !config.has_limits &&
		  !config.has_count);
	ck_assert_ptr_null(config.path);
}
END_TEST

#define ID "{\"drive_id\":\"a\","

static const struct {
	const char *json, *message, *hint;
} refused[] = {
	/* not an object */
	{ "[]", "JSON: an array where an object is expected", "" },
	{ "\"x\"", "JSON: the string \"x\" where an object", "" },
	{ "3", "JSON: 3 where an object", "" },
	{ "null", "JSON: null where an object", "" },
	/* keys */
	{ "{}", "/drive_id: is required, but not given", "" },
	{ "{\"drive_id\":null}", "/drive_id: is required, but null", "" },
	{ "{\"driv_id\":\"a\"}", "unknown key 'driv_id'", "did you mean 'drive_id'?" },
	{ ID "\"drive_Id\":\"a\"}", "unknown key 'drive_Id'", "'drive_id'" },
	{ ID "\"zzz\":null}", "unknown key 'zzz'", "the keys are: drive_id, vcpu_count" },
	{ ID "\"\":1}", "unknown key ''", "the keys are" },
	{ ID "\"id\":\"a\"}", "unknown key 'id'", "" },
	{ ID "\"fd\":1}", "unknown key 'fd'", "" },
	{ ID "\"item\":\"a\"}", "unknown key 'item'", "" },
	{ ID "\"shown\":\"a\"}", "unknown key 'shown'", "" },
	{ ID "\"rate_limiter\":{\"bandwith\":{}}}", "unknown key 'bandwith' in /rate_limiter",
	  "did you mean 'bandwidth'?" },
	{ ID "\"rate_limiter\":{\"ops\":{\"size\":1}}}",
	  "/rate_limiter/ops/refill: is required, but not given", "" },
	{ ID "\"rate_limiter\":{\"ops\":{\"size\":1,\"refill\":null}}}",
	  "/rate_limiter/ops/refill: is required, but null", "" },
	/* numbers */
	{ ID "\"vcpu_count\":0}",
	  "/vcpu_count: 0 is too small; accepted is a whole number from 1 to 32", "" },
	{ ID "\"vcpu_count\":33}", "/vcpu_count: 33 is too large", "" },
	{ ID "\"vcpu_count\":-1}", "/vcpu_count: -1 is negative", "" },
	{ ID "\"vcpu_count\":4294967298}", "too large", "" },
	{ ID "\"vcpu_count\":-9223372036854775808}", "negative", "" },
	{ ID "\"vcpu_count\":2.0}", "/vcpu_count: the number 2, with a fraction", "" },
	{ ID "\"vcpu_count\":2e0}", "with a fraction or an exponent, is not a whole number", "" },
	{ ID "\"vcpu_count\":\"2\"}", "/vcpu_count: the string \"2\" is not a whole number",
	  "without quotes" },
	{ ID "\"vcpu_count\":true}", "/vcpu_count: true is not a whole number", "" },
	{ ID "\"vcpu_count\":[2]}", "/vcpu_count: an array is", "" },
	{ ID "\"vcpu_count\":{}}", "/vcpu_count: an object is", "" },
	{ ID "\"mem_size_mib\":31}", "31 is too small; accepted is a whole number from 32 to 65536",
	  "" },
	{ ID "\"mem_size_mib\":65537}", "65537 is too large", "" },
	{ ID "\"mem_size_mib\":17592186044416}", "too large", "" },
	{ ID "\"mem_size_mib\":9223372036854775807}", "too large", "" },
	{ ID "\"wait_ms\":9223372036854775807}",
	  "/wait_ms: 9223372036854775807 or more is too large", "" },
	{ ID "\"wait_ms\":\"3s\"}", "/wait_ms: the string \"3s\" is not", "without quotes" },
	{ ID "\"count\":-1}", "accepted is a whole number, at least 0", "" },
	{ ID "\"rate_limiter\":{\"ops\":{\"size\":1,\"refill\":3600001}}}",
	  "/rate_limiter/ops/refill: 3600001 is too large; accepted is a whole number from 1 to "
	  "3600000",
	  "" },
	{ ID "\"rate_limiter\":{\"ops\":{\"size\":\"x\",\"refill\":1}}}",
	  "/rate_limiter/ops/size: the string", "" },
	/* booleans */
	{ ID "\"on\":1}", "/on: 1 is not a boolean; accepted is true or false", "" },
	{ ID "\"on\":\"true\"}", "/on: the string \"true\" is not a boolean", "without quotes" },
	{ ID "\"flag\":0}", "/flag: 0 is not a boolean", "" },
	{ ID "\"is_read_only\":[]}", "/is_read_only: an array", "" },
	/* strings */
	{ "{\"drive_id\":5}", "/drive_id: 5 is not a string", "in quotes" },
	{ "{\"drive_id\":\"\"}", "/drive_id: the string is empty", "" },
	{ ID "\"path_on_host\":\"a\\nb\"}", "/path_on_host: control character 0x0a at byte 2", "" },
	{ ID "\"path_on_host\":\"\\u007f\"}", "control character 0x7f at byte 1", "" },
	{ ID "\"path_on_host\":{}}", "/path_on_host: an object is not a string", "" },
	{ ID "\"boot_args\":false}", "/boot_args: false is not a string", "" },
	/* enums */
	{ ID "\"mode\":\"fast\"}",
	  "/mode: the string \"fast\" is not known; accepted is one of the strings: Fast, Safe",
	  "" },
	{ ID "\"mode\":3}", "/mode: 3 is not a string", "" },
	{ ID "\"mode\":\"\"}", "/mode: the string \"\" is not known", "" },
	/* addresses */
	{ ID "\"guest_mac\":\"06:00:ac:10:00\"}",
	  "/guest_mac: the string \"06:00:ac:10:00\" is not a MAC", "" },
	{ ID "\"guest_mac\":\"01:00:ac:10:00:02\"}", "a multicast address", "" },
	{ ID "\"guest_mac\":\"00:00:00:00:00:00\"}", "the zero address", "" },
	{ ID "\"guest_mac\":1}", "/guest_mac: 1 is not a MAC", "" },
	/* embedded objects */
	{ ID "\"rate_limiter\":[]}", "/rate_limiter: an array is not an object", "" },
	{ ID "\"rate_limiter\":true}", "/rate_limiter: true is not an object", "" },
	{ ID "\"rate_limiter\":{\"ops\":7}}", "/rate_limiter/ops: 7 is not an object", "" },
	/* the last key of many is wrong: the ones before had no effect */
	{ "{\"drive_id\":\"b\",\"vcpu_count\":3,\"path_on_host\":\"/"
	  "y\",\"on\":false,\"is_read_only\":true,"
	  "\"guest_mac\":\"06:00:ac:10:00:02\",\"rate_limiter\":{\"note\":\"x\",\"ops\":{\"size\":"
	  "1,"
	  "\"refill\":0}}}",
	  "/rate_limiter/ops/refill: 0 is too small", "" },
};

START_TEST(test_refused)
{
	auto_json json_t *value = parse(refused[_i].json);
	struct config before;
	unsigned int flags;

	memcpy(&before, &config, sizeof(config));
	ck_assert_int_eq(options_from_json(&table, &config, value, 0, &err), -EINVAL);
	check_error(&err, ERROR_JSON, refused[_i].message);
	ck_assert_msg(strstr(err.hint, refused[_i].hint) != NULL, "hint '%s'", err.hint);
	ck_assert_mem_eq(&before, &config, sizeof(config));
	/* A change is refused for the same reasons, but that something is missing at the top. */
	flags = OPTIONS_JSON_PATCH;
	if (strstr(refused[_i].message, "/drive_id: is required") == NULL) {
		ck_assert_int_eq(options_from_json(&table, &config, value, flags, NULL), -EINVAL);
		ck_assert_int_eq(options_from_json(&table, &config, value, flags, &err), -EINVAL);
		check_error(&err, ERROR_JSON, refused[_i].message);
	}
	ck_assert_mem_eq(&before, &config, sizeof(config));
}
END_TEST

/* jansson's own interface can make what its parser does not: a NUL inside. */
START_TEST(test_nul_inside)
{
	static const char *const keys[] = { "drive_id", "boot_args", "mode", "guest_mac" };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		auto_json json_t *value = json_pack("{ss}", "drive_id", "a");

		ck_assert_int_eq(json_object_set_new(value, keys[i], json_stringn("Fast\0x", 6)),
				 0);
		ck_assert_int_lt(options_from_json(&table, &config, value, 0, &err), 0);
		check_error(&err, ERROR_JSON, keys[i]);
	}
}
END_TEST

/* Messages repeat a part of what is long, in whole characters. */
START_TEST(test_long)
{
	static char text[4000];
	static const char *const keys[] = { "mode", "guest_mac", "vcpu_count" };

	for (size_t shift = 0; shift < 4; shift++) {
		for (size_t i = 0; i <= ARRAY_SIZE(keys); i++) {
			auto_json json_t *value = json_pack("{ss}", "drive_id", "a");
			auto_json json_t *message = NULL;

			memset(text, 'x', shift);
			for (size_t k = shift; k + 5 < sizeof(text); k += 4) {
				memcpy(text + k, "\xf0\x9f\x98\x80", 5);
			}
			ck_assert_int_eq(json_object_set_new(value,
							     i < ARRAY_SIZE(keys) ? keys[i] : text,
							     json_string(text)),
					 0);
			ck_assert_int_lt(options_from_json(&table, &config, value, 0, &err), 0);
			ck_assert_uint_lt(strlen(err.msg), 250);
			message = json_string(err.msg); /* NULL if it is no UTF-8 */
			ck_assert_ptr_nonnull(message);
		}
	}
}
END_TEST

static const char before[] =
	"{\"drive_id\":\"a\",\"path_on_host\":\"/x\",\"vcpu_count\":4,\"is_read_only\":true,"
	"\"rate_limiter\":{\"note\":\"n\",\"ops\":{\"size\":1,\"refill\":2,\"burst\":3}}}";

/* change -> what differs from `before` then */
static const struct {
	const char *change, *after;
} patches[] = {
	{ "{\"path_on_host\":\"/y\"}", "{\"path_on_host\":\"/y\"}" },
	{ "{\"vcpu_count\":1,\"on\":false}", "{\"vcpu_count\":1,\"on\":false}" },
	{ "{\"drive_id\":\"b\",\"path_on_host\":null}", "{\"drive_id\":\"b\"}" },
	{ "{\"drive_id\":null}", "{}" },
	{ "{\"is_read_only\":false}", "{\"is_read_only\":false}" },
	{ "{\"guest_mac\":\"06:00:ac:10:00:02\"}", "{\"guest_mac\":\"06:00:ac:10:00:02\"}" },
	{ "{\"rate_limiter\":null}", "{}" },
	{ "{\"rate_limiter\":{}}", "{}" },
	{ "{\"rate_limiter\":{\"note\":\"m\"}}",
	  "{\"rate_limiter\":{\"note\":\"m\",\"ops\":{\"size\":1,\"refill\":2,\"burst\":3}}}" },
	{ "{\"rate_limiter\":{\"bandwidth\":{\"size\":7,\"refill\":8}}}",
	  "{\"rate_limiter\":{\"note\":\"n\",\"ops\":{\"size\":1,\"refill\":2,\"burst\":3},"
	  "\"bandwidth\":{\"size\":7,\"refill\":8,\"burst\":7}}}" },
	/* as a whole: the burst is the default again */
	{ "{\"rate_limiter\":{\"ops\":{\"size\":5,\"refill\":6}}}",
	  "{\"rate_limiter\":{\"note\":\"n\",\"ops\":{\"size\":5,\"refill\":6,\"burst\":7}}}" },
};

START_TEST(test_patch)
{
	auto_json json_t *first = parse(before), *change = parse(patches[_i].change);
	auto_json json_t *after = parse(patches[_i].after), *expected = NULL, *got = NULL;

	check_ok(options_from_json(&table, &config, first, 0, &err), &err);
	expected = options_to_json(&table, &config, 0);
	ck_assert_int_eq(json_object_update(expected, after), 0);
	check_ok(options_from_json(&table, &config, change, OPTIONS_JSON_PATCH, &err), &err);
	got = options_to_json(&table, &config, 0);
	ck_assert(json_equal(got, expected));
}
END_TEST

START_TEST(test_empty_patch)
{
	auto_json json_t *value = parse("{}");

	ck_assert_int_lt(options_from_json(&table, &config, value, OPTIONS_JSON_PATCH, &err), 0);
	check_error(&err, ERROR_JSON, "the object is empty");
	check_error(&err, ERROR_JSON, "what can be changed: drive_id, vcpu_count");
}
END_TEST

START_TEST(test_patch_of_a_part)
{
	auto_json json_t *value = parse("{\"rate_limiter\":{\"ops\":{\"size\":5}}}");

	ck_assert_int_lt(options_from_json(&table, &config, value, OPTIONS_JSON_PATCH, &err), 0);
	check_error(&err, ERROR_JSON, "/rate_limiter/ops/refill: is required");
}
END_TEST

START_TEST(test_clone)
{
	auto_json json_t *value = parse(before);
	auto_free char *text = NULL, *text_then = NULL;
	struct config copy, zero = { 0 };
	char shown[] = "not in JSON";

	check_ok(options_from_json(&table, &config, value, 0, &err), &err);
	config.shown = shown;
	text = text_of(&config);
	memset(&copy, 0x55, sizeof(copy));
	check_ok(options_clone(&table, &copy, &config, sizeof(config), &err), &err);
	ck_assert_ptr_ne(copy.path, config.path);
	ck_assert_ptr_ne(copy.limits.note, config.limits.note);
	ck_assert_ptr_ne(copy.shown, config.shown);
	json_decref(value);
	value = NULL;
	memset(&config, 0x55, sizeof(config));
	shown[0] = 'x';
	text_then = text_of(&copy);
	ck_assert_str_eq(text, text_then);
	ck_assert_str_eq(copy.shown, "not in JSON");
	ck_assert_ptr_null(copy.args);
	options_release(&table, &copy);
	ck_assert_ptr_null(copy.path);
	ck_assert_ptr_null(copy.common.id);
	ck_assert_ptr_null(copy.limits.note);
	options_release(&table, &copy);
	options_release(&table, &zero);
}
END_TEST

/* Two options that write the same member own one string. */
START_TEST(test_clone_alias)
{
	static const struct option list[] = {
		{ .name = "path", .type = OPTION_STRING, IN(config, path) },
		{ .json = "path_on_host", .type = OPTION_STRING, IN(config, path) },
	};
	static const struct option_table alias = TABLE("alias", list);
	struct config copy;

	config.path = "/x";
	check_ok(options_clone(&alias, &copy, &config, sizeof(config), &err), &err);
	ck_assert_str_eq(copy.path, "/x");
	options_release(&alias, &copy);
	ck_assert_ptr_null(copy.path);
}
END_TEST

/* What a command line can say and JSON cannot. */
START_TEST(test_odd_values_out)
{
	auto_free char *text = NULL;

	config.common.id = "caf\xe9\xff";
	config.bytes = UINT64_MAX;
	config.mode = 99;
	config.memory = MIB(100) + 1;
	text = text_of(&config);
	ck_assert_ptr_nonnull(strstr(text, "\"drive_id\":\"caf??\""));
	ck_assert_ptr_nonnull(strstr(text, "\"bytes\":9223372036854775807"));
	ck_assert_ptr_nonnull(strstr(text, "\"mode\":null"));
	ck_assert_ptr_nonnull(strstr(text, "\"mem_size_mib\":100,"));
}
END_TEST

static json_t *property(json_t *schema, const char *key, const char *what)
{
	json_t *all = json_object_get(schema, "properties");

	ck_assert_ptr_nonnull(json_object_get(all, key));
	return json_object_get(json_object_get(all, key), what);
}

static void check_json(const json_t *value, const char *expected)
{
	size_t len;
	auto_free char *text = value != NULL ? json_text(value, &len) : NULL;

	ck_assert_pstr_eq(text, expected);
}

/* key, word of JSON Schema, its value; for the whole object and for a change */
static const struct {
	const char *key, *word, *whole, *change;
} schemas[] = {
	{ "drive_id", "type", "\"string\"", "[\"string\",\"null\"]" },
	{ "drive_id", "description", "\"name of the drive\"", "\"name of the drive\"" },
	{ "drive_id", "minLength", "1", "1" },
	{ "drive_id", "default", NULL, NULL },
	{ "path_on_host", "type", "[\"string\",\"null\"]", "[\"string\",\"null\"]" },
	{ "path_on_host", "pattern", "\"^[^\\\\x00-\\\\x1f\\\\x7f]*$\"",
	  "\"^[^\\\\x00-\\\\x1f\\\\x7f]*$\"" },
	{ "boot_args", "minLength", NULL, NULL },
	{ "boot_args", "pattern", "\"^[^\\\\x00]*$\"", "\"^[^\\\\x00]*$\"" },
	{ "vcpu_count", "type", "[\"integer\",\"null\"]", "[\"integer\",\"null\"]" },
	{ "vcpu_count", "minimum", "1", "1" },
	{ "vcpu_count", "maximum", "32", "32" },
	{ "vcpu_count", "default", "2", NULL },
	{ "mem_size_mib", "minimum", "32", "32" },
	{ "mem_size_mib", "maximum", "65536", "65536" },
	{ "mem_size_mib", "default", "512", NULL },
	{ "wait_ms", "default", "3000", NULL },
	{ "wait_ms", "minimum", "0", "0" },
	{ "wait_ms", "maximum", "18446744073709", "18446744073709" },
	{ "bytes", "maximum", NULL, NULL },
	{ "is_read_only", "type", "[\"boolean\",\"null\"]", "[\"boolean\",\"null\"]" },
	{ "is_read_only", "default", NULL, NULL },
	{ "flag", "default", "false", NULL },
	{ "on", "default", "true", NULL },
	{ "mode", "enum", "[\"Fast\",\"Safe\",null]", "[\"Fast\",\"Safe\",null]" },
	{ "mode", "default", "\"Safe\"", NULL },
	{ "rate_limiter", "type", "[\"object\",\"null\"]", "[\"object\",\"null\"]" },
	{ "rate_limiter", "additionalProperties", "false", "false" },
	{ "rate_limiter", "required", NULL, NULL },
	{ "rate_limiter", "minProperties", NULL, NULL },
};

START_TEST(test_schema)
{
	auto_json json_t *whole = options_schema(&table, 0);
	auto_json json_t *change = options_schema(&table, OPTIONS_JSON_PATCH);

	check_json(property(whole, schemas[_i].key, schemas[_i].word), schemas[_i].whole);
	check_json(property(change, schemas[_i].key, schemas[_i].word), schemas[_i].change);
}
END_TEST

START_TEST(test_schema_object)
{
	auto_json json_t *whole = options_schema(&table, 0);
	auto_json json_t *change = options_schema(&table, OPTIONS_JSON_PATCH);
	json_t *both[] = { whole, change };

	check_json(json_object_get(whole, "type"), "\"object\"");
	check_json(json_object_get(whole, "required"), "[\"drive_id\"]");
	check_json(json_object_get(whole, "additionalProperties"), "false");
	check_json(json_object_get(whole, "minProperties"), NULL);
	check_json(json_object_get(change, "required"), NULL);
	check_json(json_object_get(change, "minProperties"), "1");
	/* All keys and no others; a bucket is whole in a change too. */
	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		json_t *all = json_object_get(both[i], "properties");
		json_t *limiter = json_object_get(all, "rate_limiter");

		ck_assert_uint_eq(json_object_size(all), 14);
		ck_assert_ptr_null(json_object_get(all, "fd"));
		check_json(property(limiter, "ops", "required"), "[\"size\",\"refill\"]");
		check_json(json_object_get(property(limiter, "ops", "properties"), "size"),
			   "{\"minimum\":0,\"type\":\"integer\"}");
	}
}
END_TEST

/* An array of objects: each looked at, all borrowed, and shared by a clone. */
struct fleet {
	const json_t *drives;
};
static const struct option fleet_list[] = {
	{ .json = "drives",
	  .type = OPTION_OBJECTS,
	  .object = &common_table,
	  .offset = offsetof(struct fleet, drives) },
};
static const struct option_table fleet_table = TABLE("fleet", fleet_list);

static int read_fleet(struct fleet *fleet, json_t **json, const char *text)
{
	*json = json_loads(text, 0, NULL);
	ck_assert_ptr_nonnull(*json);
	err = (struct error){ 0 };
	return options_from_json(&fleet_table, fleet, *json, 0, &err);
}

START_TEST(test_objects)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "{\"drives\": {}}", "/drives: an object is not an array" },
		{ "{\"drives\": [{\"drive_id\": \"a\"}, 1]}", "/drives/1: 1 is not an object" },
		{ "{\"drives\": [{}]}", "/drives/0/drive_id: is required" },
		{ "{\"drives\": [{\"drive_id\": \"a\", \"x\": 1}]}", "unknown key 'x'" },
	};
	struct fleet fleet = { 0 }, clone;
	json_t *json, *written, *schema;

	check_ok(read_fleet(&fleet, &json, "{\"drives\": [{\"drive_id\": \"a\"}]}"), &err);
	ck_assert_ptr_eq(fleet.drives, json_object_get(json, "drives"));
	check_ok(options_clone(&fleet_table, &clone, &fleet, sizeof(fleet), &err), &err);
	json_decref(json);
	ck_assert_uint_eq(json_array_size(clone.drives), 1);
	written = options_to_json(&fleet_table, &clone, 0);
	ck_assert_uint_eq(json_array_size(json_object_get(written, "drives")), 1);
	json_decref(written);
	options_release(&fleet_table, &clone);
	ck_assert_ptr_null(clone.drives);
	check_ok(read_fleet(&fleet, &json, "{\"drives\": null}"), &err);
	ck_assert_ptr_null(fleet.drives);
	json_decref(json);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_int_lt(read_fleet(&fleet, &json, bad[i].text), 0);
		check_error(&err, ERROR_JSON, bad[i].says);
		json_decref(json);
	}
	schema = options_schema(&fleet_table, 0);
	ck_assert_ptr_nonnull(json_object_get(
		json_object_get(json_object_get(json_object_get(schema, "properties"), "drives"),
				"items"),
		"properties"));
	json_decref(schema);
}
END_TEST

CHECK_MAIN("options_json", CHECK_TEST(test_objects); CHECK_FIXTURE(setup, NULL);
	   CHECK_TEST(test_defaults); CHECK_TEST(test_all); CHECK_TEST(test_null);
	   CHECK_TABLE(test_refused, refused); CHECK_TEST(test_nul_inside); CHECK_TEST(test_long);
	   CHECK_TABLE(test_patch, patches); CHECK_TEST(test_empty_patch);
	   CHECK_TEST(test_patch_of_a_part); CHECK_TEST(test_clone); CHECK_TEST(test_clone_alias);
	   CHECK_TEST(test_odd_values_out); CHECK_TABLE(test_schema, schemas);
	   CHECK_TEST(test_schema_object))
