/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: JSON to an object with every type of option, and back. The input is taken as JSON
 * text, and as a recipe for an object with many of the right keys and some of the right types.
 *
 * Beyond crashes: a refusal says why, in UTF-8, and leaves the object as it was; what was accepted is
 * within its range; written out, read again and copied it is the same, also after what it came from
 * is gone.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_input.h"
#include "vmm/options_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bucket {
	uint64_t size, refill;
	uint32_t burst;
};
struct limits {
	struct bucket ops;
	bool has_ops;
	const char *note;
};
struct common {
	const char *id;
	uint32_t count;
};
struct config {
	struct common common;
	const char *args, *shown;
	uint64_t memory, wait, large;
	bool ro, on, has_on, has_mac, has_limits;
	int mode, fd;
	uint8_t mac[6];
	struct limits limits;
};

static const struct option_value modes[] = { { "a", 0 }, { "b", 1 }, { "", 2 }, { NULL, 0 } };

#define IN(type, member) .offset = offsetof(struct type, member)

static const struct option bucket_list[] = {
	{ .json = "size", .type = OPTION_U64, IN(bucket, size), .json_required = true },
	{ .json = "refill",
	  .type = OPTION_DURATION,
	  IN(bucket, refill),
	  .json_required = true,
	  .min = 1000000 },
	{ .json = "burst", .type = OPTION_U32, IN(bucket, burst), .fallback = "7" },
};
static const struct option_table bucket_table = { .name = "bucket",
						  .options = bucket_list,
						  .count = ARRAY_SIZE(bucket_list) };
static const struct option limits_list[] = {
	{ .json = "ops",
	  .type = OPTION_OBJECT,
	  .object = &bucket_table,
	  IN(limits, ops),
	  .present = offsetof(struct limits, has_ops) + 1 },
	{ .json = "note", .type = OPTION_STRING, IN(limits, note) },
};
static const struct option_table limits_table = { .name = "limits",
						  .options = limits_list,
						  .count = ARRAY_SIZE(limits_list) };
static const struct option common_list[] = {
	{ .json = "id", .type = OPTION_STRING, IN(common, id), .json_required = true },
	{ .json = "n",
	  .type = OPTION_U32,
	  IN(common, count),
	  .min = 1,
	  .max = 32,
	  .fallback = "1" },
};
static const struct option_table common_table = { .name = "common",
						  .options = common_list,
						  .count = ARRAY_SIZE(common_list) };
static const struct option config_list[] = {
	{ .type = OPTION_INCLUDE, .object = &common_table, IN(config, common) },
	{ .json = "args", .type = OPTION_STRING, IN(config, args), .verbatim = true },
	{ .json = "mem",
	  .json_unit = MIB(1),
	  .type = OPTION_SIZE,
	  IN(config, memory),
	  .max = GIB(64) },
	{ .json = "wait", .type = OPTION_DURATION, IN(config, wait), .fallback = "1s" },
	{ .json = "large", .type = OPTION_U64, IN(config, large) },
	{ .json = "ro", .type = OPTION_FLAG, IN(config, ro) },
	{ .json = "on",
	  .type = OPTION_BOOL,
	  IN(config, on),
	  .present = offsetof(struct config, has_on) + 1 },
	{ .json = "mode", .type = OPTION_ENUM, IN(config, mode), .values = modes },
	{ .json = "mac",
	  .type = OPTION_MAC,
	  IN(config, mac),
	  .present = offsetof(struct config, has_mac) + 1 },
	{ .name = "fd", .type = OPTION_FD, IN(config, fd) },
	{ .name = "shown", .type = OPTION_STRING, IN(config, shown) },
	{ .json = "limits",
	  .type = OPTION_OBJECT,
	  .object = &limits_table,
	  IN(config, limits),
	  .present = offsetof(struct config, has_limits) + 1 },
};
static const struct option_table table = { .name = "fuzz",
					   .options = config_list,
					   .count = ARRAY_SIZE(config_list) };

static const char *const keys[] = { "id",   "n",    "args",   "mem",   "wait",	 "large",
				    "ro",   "on",   "mode",   "mac",   "limits", "ops",
				    "note", "size", "refill", "burst", "fd",	 "" };

static json_t *make_value(struct fuzz_input *in, int depth);

static json_t *make_object(struct fuzz_input *in, int depth)
{
	json_t *object = json_object();
	size_t count = fuzz_take(in, 1) % 12;

	for (size_t i = 0; i < count; i++) {
		const char *key = keys[fuzz_take(in, 1) % ARRAY_SIZE(keys)];

		(void)json_object_set_new(object, key, make_value(in, depth + 1));
	}
	/* What has to be there, mostly. */
	if (depth == 0 && fuzz_take(in, 1) % 4 != 0) {
		(void)json_object_set_new(object, "id", json_string("x"));
	}
	return object;
}

static json_t *make_string(struct fuzz_input *in)
{
	static const char *const texts[] = {
		"a", "b", "06:00:ac:10:00:02", "ff:00:ac:10:00:02", "x\ny", "\xc3\xa9"
	};
	uint64_t kind = fuzz_take(in, 1);
	char raw[8];

	if (kind % 8 < ARRAY_SIZE(texts)) {
		return json_string(texts[kind % 8]);
	}
	store_le64(raw, fuzz_take(in, 8));
	return json_stringn(raw, kind / 8 % 9); /* NULL if it is no UTF-8 */
}

static json_t *make_value(struct fuzz_input *in, int depth)
{
	switch (fuzz_take(in, 1) % 10) {
	case 0:
	case 1:
		return json_integer((json_int_t)fuzz_take(in, 1) - 8);
	case 2:
		return json_integer((json_int_t)fuzz_take(in, 8));
	case 3:
		return json_boolean(fuzz_take(in, 1) & 1);
	case 4:
		return json_null();
	case 5:
		return json_real((double)fuzz_take(in, 2) / 4);
	case 6:
		return json_array();
	case 7:
		return depth < 4 ? make_object(in, depth) : json_null();
	default:
		return make_string(in);
	}
}

static void check_range(const struct config *config)
{
	VMM_BUG_ON(config->common.count < 1 || config->common.count > 32);
	VMM_BUG_ON(config->memory > GIB(64) || config->memory % MIB(1) != 0);
	VMM_BUG_ON(config->mode < 0 || config->mode > 2 || config->fd != -1);
	VMM_BUG_ON(config->has_mac && (config->mac[0] & 1) != 0);
	VMM_BUG_ON(config->common.id == NULL || config->common.id[0] == '\0');
	VMM_BUG_ON(config->limits.has_ops && config->limits.ops.refill < 1000000);
	for (const char *p = config->limits.note; p != NULL && *p != '\0'; p++) {
		VMM_BUG_ON((unsigned char)*p < 0x20 || *p == 0x7f);
	}
}

static void check_refusal(const struct error *e)
{
	json_t *message = json_string(e->msg), *hint = json_string(e->hint);

	VMM_BUG_ON(e->code != ERROR_JSON || message == NULL || hint == NULL || e->msg[0] == '\0');
	json_decref(message);
	json_decref(hint);
}

/* Out, through text, in again, out again. */
static void check_round_trip(const struct config *config)
{
	struct config again;
	struct error e = { 0 };
	json_t *out = options_to_json(&table, config, 0), *in = NULL, *out_again;
	size_t len;
	char *text = json_text(out, &len);

	VMM_BUG_ON(text == NULL || json_parse(&in, text, len, &e) != 0);
	VMM_BUG_ON(!json_equal(out, in));
	VMM_BUG_ON(options_from_json(&table, &again, in, 0, &e) != 0);
	check_range(&again);
	out_again = options_to_json(&table, &again, 0);
	VMM_BUG_ON(!json_equal(out, out_again));
	VMM_BUG_ON(again.has_on != config->has_on || again.has_mac != config->has_mac ||
		   again.has_limits != config->has_limits ||
		   again.limits.has_ops != config->limits.has_ops);
	json_decref(out);
	json_decref(in);
	json_decref(out_again);
	free(text);
}

/* True if it was accepted. */
static bool read_object(struct config *config, const json_t *value, unsigned int flags)
{
	struct config before;
	struct error e = { 0 };

	memcpy(&before, config, sizeof(before));
	if (options_from_json(&table, config, value, flags, &e) < 0) {
		check_refusal(&e);
		VMM_BUG_ON(memcmp(&before, config, sizeof(before)) != 0);
		return false;
	}
	check_range(config);
	check_round_trip(config);
	return true;
}

/* Takes both values. */
static void run(json_t *value, json_t *change)
{
	struct config config, copy;
	struct error e = { 0 };
	json_t *out, *out_copy;

	memset(&config, 0, sizeof(config));
	VMM_BUG_ON(options_defaults(&table, &config, &e) != 0);
	if (value == NULL || !read_object(&config, value, 0)) {
		config.common.id = "x";
	}
	if (change != NULL) {
		(void)read_object(&config, change, OPTIONS_JSON_PATCH);
	}
	VMM_BUG_ON(options_clone(&table, &copy, &config, sizeof(config), &e) != 0);
	out = options_to_json(&table, &config, 0);
	json_decref(value);
	json_decref(change);
	out_copy = options_to_json(&table, &copy, 0);
	VMM_BUG_ON(out == NULL || !json_equal(out, out_copy));
	json_decref(out);
	json_decref(out_copy);
	options_release(&table, &copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { .data = data, .len = size };
	json_t *value = NULL, *change;

	if (json_parse(&value, (const char *)data, size, NULL) == 0) {
		run(value, json_incref(value));
	}
	value = make_object(&in, 0);
	change = make_object(&in, 0);
	run(value, change);
	return 0;
}
