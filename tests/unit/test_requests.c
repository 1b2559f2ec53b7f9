/* SPDX-License-Identifier: Apache-2.0 */
/* The table of requests, and the bodies that its option tables accept. */
#include "harness/check_main.h"
#include "vmm/options_json.h"
#include "vmm/request.h"

static struct error e;

static void setup(void)
{
	e = (struct error){ 0 };
}

START_TEST(test_table)
{
	const struct request_info *info = &request_infos[_i];

	ck_assert_ptr_nonnull(info->name);
	ck_assert_ptr_nonnull(info->help);
	ck_assert_int_eq(info->help[strlen(info->help) - 1], '.');
	ck_assert(info->before_start || info->after_start);
	ck_assert_int_eq(info->body != NULL, info->size != 0);
	ck_assert(!info->patch || info->body != NULL);
	ck_assert(!info->replies || info->body == NULL);
	ck_assert_int_eq(info->replies, strncmp(info->name, "Get", 3) == 0);
	for (int i = 0; i < REQUEST_TYPES; i++) {
		ck_assert(i == _i || strcmp(request_infos[i].name, info->name) != 0);
	}
}
END_TEST

/* Room for the largest object, with what must not be touched behind it. */
union object {
	uint8_t bytes[2048];
	struct serial_settings serial;
	struct entropy_settings entropy;
	struct logger_settings logger;
	struct metrics_settings metrics;
	struct disk_update drive;
	struct net_update net;
	struct vm_update vm;
	struct action action;
	struct console_update console;
};

static const struct {
	enum request_type type;
	const char *text;
	const char *says; /* NULL: accepted */
} bodies[] = {
	{ REQUEST_PUT_SERIAL, "{}", NULL },
	{ REQUEST_PUT_SERIAL, "{\"serial_out_path\": null}", NULL },
	{ REQUEST_PUT_SERIAL,
	  "{\"serial_out_path\": \"/tmp/x\", \"rate_limiter\": {\"size\": 1, "
	  "\"refill_time\": 1}}",
	  NULL },
	{ REQUEST_PUT_SERIAL, "{\"serial_out_path\": 1}", "/serial_out_path" },
	{ REQUEST_PUT_SERIAL, "{\"path\": \"x\"}", "unknown key 'path'" },
	{ REQUEST_PUT_SERIAL, "{\"rate_limiter\": {\"bandwidth\": {}}}", "bandwidth" },
	{ REQUEST_PUT_ENTROPY, "{}", NULL },
	{ REQUEST_PUT_ENTROPY,
	  "{\"rate_limiter\": {\"bandwidth\": {\"size\": 1, \"refill_time\": "
	  "1}, \"ops\": null}}",
	  NULL },
	{ REQUEST_PUT_ENTROPY,
	  "{\"rate_limiter\": {\"bandwidth\": {\"size\": -1, "
	  "\"refill_time\": 1}}}",
	  "/rate_limiter/bandwidth/size" },
	{ REQUEST_PUT_ENTROPY, "{\"rate_limiter\": 1}", "/rate_limiter" },
	{ REQUEST_PUT_LOGGER, "{}", NULL },
	{ REQUEST_PUT_LOGGER,
	  "{\"log_path\": \"/x\", \"level\": \"Warning\", \"show_level\": true, "
	  "\"show_log_origin\": false, \"module\": \"m\"}",
	  NULL },
	{ REQUEST_PUT_LOGGER, "{\"level\": \"Warn\"}", NULL },
	{ REQUEST_PUT_LOGGER, "{\"level\": \"OFF\"}", NULL },
	{ REQUEST_PUT_LOGGER, "{\"level\": \"Loud\"}", "/level" },
	{ REQUEST_PUT_LOGGER, "{\"level\": 1}", "/level" },
	{ REQUEST_PUT_LOGGER, "{\"show_level\": \"true\"}", "/show_level" },
	{ REQUEST_PUT_METRICS, "{\"metrics_path\": \"/x\"}", NULL },
	{ REQUEST_PUT_METRICS, "{\"metrics_path\": \"/x\", \"emit_id\": true}", NULL },
	{ REQUEST_PUT_METRICS, "{}", "/metrics_path" },
	{ REQUEST_PUT_METRICS, "{\"metrics_path\": null}", "/metrics_path" },
	{ REQUEST_PATCH_DISK, "{\"drive_id\": \"a\"}", NULL },
	{ REQUEST_PATCH_DISK,
	  "{\"drive_id\": \"a\", \"path_on_host\": \"/x\", \"rate_limiter\": "
	  "{\"ops\": {\"size\": 0, \"refill_time\": 0}}}",
	  NULL },
	{ REQUEST_PATCH_DISK, "{\"path_on_host\": \"/x\"}", "/drive_id" },
	{ REQUEST_PATCH_DISK, "{\"drive_id\": \"a\", \"is_read_only\": true}", "is_read_only" },
	{ REQUEST_PATCH_NET, "{\"iface_id\": \"a\", \"rx_rate_limiter\": {}}", NULL },
	{ REQUEST_PATCH_NET, "{}", "/iface_id" },
	{ REQUEST_PATCH_NET, "{\"iface_id\": \"a\", \"host_dev_name\": \"tap1\"}",
	  "host_dev_name" },
	{ REQUEST_PATCH_VM, "{\"state\": \"Paused\"}", NULL },
	{ REQUEST_PATCH_VM, "{\"state\": \"Resumed\"}", NULL },
	{ REQUEST_PATCH_VM, "{\"state\": \"paused\"}", "/state" },
	{ REQUEST_PATCH_VM, "{}", "/state" },
	{ REQUEST_PUT_ACTION, "{\"action_type\": \"InstanceStart\"}", NULL },
	{ REQUEST_PUT_ACTION, "{\"action_type\": \"Stop\"}", NULL },
	{ REQUEST_PUT_ACTION, "{\"action_type\": \"Start\"}", "/action_type" },
	{ REQUEST_PUT_ACTION, "{\"action_type\": null}", "/action_type" },
	{ REQUEST_PUT_ACTION, "{\"action_type\": \"Stop\", \"payload\": 1}", "payload" },
	{ REQUEST_PUT_ACTION, "[]", "array" },
	{ REQUEST_PATCH_CONSOLE, "{\"columns\": 1, \"rows\": 65535}", NULL },
	{ REQUEST_PATCH_CONSOLE, "{\"columns\": 0, \"rows\": 1}", "/columns" },
	{ REQUEST_PATCH_CONSOLE, "{\"columns\": 1, \"rows\": 65536}", "/rows" },
	{ REQUEST_PATCH_CONSOLE, "{\"columns\": 80}", "/rows" },
	{ REQUEST_PATCH_CONSOLE, "{\"columns\": 80.0, \"rows\": 24}", "/columns" },
};

/* What is accepted says the same when it is written and read again. */
START_TEST(test_bodies)
{
	const struct request_info *info = &request_infos[bodies[_i].type];
	json_t *json = json_loads(bodies[_i].text, 0, NULL);
	union object object, again, untouched;
	json_t *first, *second;
	int r;

	ck_assert_ptr_nonnull(json);
	memset(&object, 0xa5, sizeof(object));
	untouched = object;
	r = options_from_json(info->body, &object, json, 0, &e);
	if (bodies[_i].says != NULL) {
		ck_assert_int_lt(r, 0);
		check_error(&e, ERROR_JSON, bodies[_i].says);
		ck_assert_mem_eq(&object, &untouched, sizeof(object));
		json_decref(json);
		return;
	}
	check_ok(r, &e);
	ck_assert_mem_eq(object.bytes + info->size, untouched.bytes + info->size,
			 sizeof(object) - info->size);
	first = options_to_json(info->body, &object, 0);
	check_ok(options_from_json(info->body, &again, first, 0, &e), &e);
	second = options_to_json(info->body, &again, 0);
	ck_assert(json_equal(first, second));
	json_decref(first);
	json_decref(second);
	json_decref(json);
}
END_TEST

static const struct {
	const char *name;
	int level;
} levels[] = {
	{ "Error", LOGGER_ERROR }, { "Warning", LOGGER_WARNING }, { "Info", LOGGER_INFO },
	{ "Debug", LOGGER_DEBUG }, { "Trace", LOGGER_TRACE },	  { "Off", LOGGER_OFF },
};

/* Aliases are read, and shown by their first name. */
START_TEST(test_levels)
{
	json_t *json = json_pack("{s:s}", "level", levels[_i].name);
	struct logger_settings logger;

	check_ok(options_from_json(&logger_settings_options, &logger, json, 0, &e), &e);
	ck_assert_int_eq(logger.level, levels[_i].level);
	json_decref(json);
	json = options_to_json(&logger_settings_options, &logger, 0);
	ck_assert_str_eq(json_string_value(json_object_get(json, "level")), levels[_i].name);
	json_decref(json);
}
END_TEST

/* vmm migrate may be of another version than the VM's process: see test_vm_config.c. */
START_TEST(test_migrate_says_little)
{
	struct migrate_request request;
	json_t *json, *known;

	check_ok(options_defaults(&migrate_request_options, &request, &e), &e);
	request.address = "unix:x";
	json = options_to_json(&migrate_request_options, &request, 0);
	known = json_pack("{s:s, s:i, s:i, s:s, s:i, s:b}", "address", "unix:x", "downtime_ms", 30,
			  "time_limit_ms", 600000, "at_limit", "cancel", "silence_ms", 30000,
			  "insecure", false);
	ck_assert(json_equal(json, known));
	request.postcopy = true;
	request.throttle_percent = 1;
	json_decref(json);
	json = options_to_json(&migrate_request_options, &request, 0);
	ck_assert(json_is_true(json_object_get(json, "postcopy")));
	ck_assert_int_eq(json_integer_value(json_object_get(json, "throttle_percent")), 1);
	json_decref(json);
	json_decref(known);
}
END_TEST

CHECK_MAIN("requests", CHECK_FIXTURE(setup, NULL); CHECK_LOOP(test_table, REQUEST_TYPES);
	   CHECK_TABLE(test_bodies, bodies); CHECK_TABLE(test_levels, levels);
	   CHECK_TEST(test_migrate_says_little))
