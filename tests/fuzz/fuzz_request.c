/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: bytes as requests to an instance that is not started, JSON as a client sends it. Three
 * bytes choose the type, the id in the path, and where the JSON comes from: the bytes that follow as
 * they are, or as a recipe for an object with the right keys and values that are mostly plausible.
 *
 * Beyond crashes: a refused request says why and leaves the configuration byte for byte as it was;
 * what GET answers is accepted as a config file, and says the same again.
 *
 * Nothing is opened for writing and no VM is started: types that would are left out, and paths are
 * looked at only at a start.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_input.h"
#include "vmm/instance.h"
#include "vmm/options_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUESTS_MAX 16

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

static void ended(struct instance_host *host, const struct vm_stop *stop)
{
	(void)host;
	(void)stop;
	abort();
}

/* An object of any type. */
union object {
	struct vm_boot_config boot;
	struct block_config drive;
	struct vm_net_config net;
	uint8_t bytes[2048];
};

static char *config_text(struct instance *instance)
{
	const struct request request = { .type = REQUEST_GET_VM_CONFIG };
	json_t *reply = NULL;
	size_t len;
	char *text;

	require(instance_request_now(instance, &request, &reply, NULL) == 0 && reply != NULL);
	text = json_text(reply, &len);
	require(text != NULL);
	json_decref(reply);
	return text;
}

/* Files come to be when somebody writes to them, and logger and metrics go on after the run. */
static bool harmless(enum request_type type, const union object *object)
{
	const struct action *action = (const void *)object;
	const struct serial_settings *serial = (const void *)object;

	switch (type) {
	case REQUEST_PUT_LOGGER:
	case REQUEST_PUT_METRICS:
		return false;
	case REQUEST_PUT_SERIAL:
		return serial->output_path == NULL;
	case REQUEST_PUT_ACTION:
		return action->type != ACTION_INSTANCE_START;
	default:
		return true;
	}
}

static int make_request(struct instance *instance, enum request_type type, const char *id,
			const json_t *json, struct error *e)
{
	const struct request_info *info = &request_infos[type];
	struct request request = { .type = type, .id = id, .json = json };
	union object object;
	json_t *reply = NULL;
	int r = 0;

	memset(&object, 0, sizeof(object));
	if (info->body != NULL) {
		require(info->size <= sizeof(object));
		r = options_from_json(info->body, &object, json,
				      info->patch ? OPTIONS_JSON_PATCH : 0, e);
		request.object = &object;
	}
	if (r == 0 && !harmless(type, &object)) {
		return 0;
	}
	r = r == 0 ? instance_request_now(instance, &request, &reply, e) : r;
	require((reply != NULL) == (r == 0 && info->replies));
	json_decref(reply);
	/* What it lent is gone. */
	memset(&object, 0x5a, sizeof(object));
	return r;
}

static const struct option_value *json_values(const struct option *option)
{
	return option->json_values != NULL ? option->json_values : option->values;
}

static json_t *make_object(struct fuzz_input *in, const struct option_table *table, int depth);

/* The right type. */
static json_t *make_right(struct fuzz_input *in, const struct option *option, int depth)
{
	static const char *const texts[] = { "a", "b", "root", "tap0", "x y", "kernel" };
	static const char *const macs[] = { "06:00:00:00:00:01", "06:00:00:00:00:02", "x" };
	uint64_t byte = fuzz_take(in, 1);

	switch (option->type) {
	case OPTION_STRING:
		return json_string(texts[byte % ARRAY_SIZE(texts)]);
	case OPTION_MAC:
		return json_string(macs[byte % ARRAY_SIZE(macs)]);
	case OPTION_FLAG:
	case OPTION_BOOL:
		return json_boolean(byte & 1);
	case OPTION_ENUM:
		for (const struct option_value *v = json_values(option); v->name != NULL; v++) {
			if (byte-- == 0 || v[1].name == NULL) {
				return json_string(v->name);
			}
		}
		return json_null();
	case OPTION_OBJECT:
		return make_object(in, option->object, depth + 1);
	default:
		return json_integer((json_int_t)(byte < 64 ? byte : byte * 4));
	}
}

static json_t *make_value(struct fuzz_input *in, const struct option *option, int depth)
{
	switch (fuzz_take(in, 1) % 32) {
	case 0:
		return json_integer((json_int_t)fuzz_take(in, 8));
	case 1:
		return json_null();
	case 2:
		return json_array();
	case 3:
		return json_real(1);
	case 4:
		return json_string("");
	default:
		return make_right(in, option, depth);
	}
}

static json_t *make_object(struct fuzz_input *in, const struct option_table *table, int depth)
{
	struct option_iter at = option_iter(table);
	json_t *object = json_object();

	while (depth < 4 && option_next(&at)) {
		if (at.option->json != NULL &&
		    (at.option->json_required || fuzz_take(in, 1) % 4 == 0)) {
			(void)json_object_set_new(object, at.option->json,
						  make_value(in, at.option, depth));
		}
	}
	if (fuzz_take(in, 1) == 255) {
		(void)json_object_set_new(object, "more", json_true());
	}
	return object;
}

static json_t *make_template(struct fuzz_input *in)
{
	static const char *const bitmaps[] = { "0b1", "0bx0", "1", "0b2" };
	uint64_t byte = fuzz_take(in, 1);

	return json_pack("{s:[{s:s, s:s}]}", "msr_modifiers", "addr", byte & 1 ? "0x10" : "16",
			 "bitmap", bitmaps[byte / 2 % ARRAY_SIZE(bitmaps)]);
}

/* As it comes, or from the table; NULL if it is no JSON. */
static json_t *make_json(struct fuzz_input *in, enum request_type type)
{
	const struct option_table *table = request_infos[type].body;
	uint64_t len = fuzz_take(in, 1);
	json_t *json = NULL;
	struct error e = { 0 };

	if (len < 32) {
		len = MIN(len * 4, in->len);
		if (json_parse(&json, (const char *)in->data, len, &e) < 0) {
			require(e.code != ERROR_NONE && e.msg[0] != '\0');
		}
		in->data += len;
		in->len -= len;
		return json;
	}
	return table != NULL ? make_object(in, table, 0) : make_template(in);
}

static void one_request(struct instance *instance, struct fuzz_input *in)
{
	static const char *const ids[] = { NULL, "a", "1", "root", "" };
	enum request_type type = (enum request_type)(fuzz_take(in, 1) % REQUEST_TYPES);
	const char *id = ids[fuzz_take(in, 1) % ARRAY_SIZE(ids)];
	json_t *json = make_json(in, type);
	char *before = config_text(instance), *after;
	struct error e = { 0 };
	int r = json != NULL ? make_request(instance, type, id, json, &e) : 0;

	json_decref(json);
	after = config_text(instance);
	if (r < 0) {
		require(e.code != ERROR_NONE && e.msg[0] != '\0');
		require(strcmp(before, after) == 0);
	}
	free(before);
	free(after);
}

/* What is configured, as a config file, and once more. */
static void check_round_trip(struct instance *instance)
{
	char *text = config_text(instance);
	struct error e = { 0 };
	json_t *json = NULL;
	char *again;

	require(json_parse(&json, text, strlen(text), &e) == 0);
	require(instance_apply_config(instance, json, &e) == 0);
	again = config_text(instance);
	require(strcmp(text, again) == 0);
	json_decref(json);
	free(text);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop loop;
	struct instance_host host = { .loop = &loop, .ended = ended };
	const struct instance_settings settings = { .id = "fuzz", .files_at_start = true };
	struct fuzz_input in = { .data = data, .len = size };
	struct instance *instance = NULL;
	struct error e = { 0 };

	if (loop.slots == NULL) {
		require(loop_init(&loop, &e) == 0);
	}
	require(instance_create(&instance, &settings, &host, &e) == 0);
	for (unsigned i = 0; i < REQUESTS_MAX && in.len > 0; i++) {
		one_request(instance, &in);
	}
	check_round_trip(instance);
	require(instance_state(instance) == INSTANCE_NOT_STARTED);
	(void)instance_destroy(instance);
	return 0;
}
