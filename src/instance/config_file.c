/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that is configured as one JSON object in the form of Firecracker's config file: what GET
 * /vm/config answers, and what a config file has. Each member is the body of the request that would
 * set it, or an array of such bodies, and is put into a store by the same handlers.
 *
 * Main thread. The JSON is a file's or a client's.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/options_json.h"

#define CPU_CONFIG_FILE_MAX MIB(1)

/* In the order they are shown and read in. */
static const struct resource {
	const char *key;
	enum request_type type;
	bool many;
} resources[] = {
	{ "boot-source", REQUEST_PUT_BOOT_SOURCE, false },
	{ "machine-config", REQUEST_PUT_MACHINE_CONFIG, false },
	{ "cpu-config", REQUEST_PUT_CPU_CONFIG, false },
	{ "drives", REQUEST_PUT_DRIVE, true },
	{ "network-interfaces", REQUEST_PUT_NET, true },
	{ "logger", REQUEST_PUT_LOGGER, false },
	{ "metrics", REQUEST_PUT_METRICS, false },
	{ "entropy", REQUEST_PUT_ENTROPY, false },
	{ "serial", REQUEST_PUT_SERIAL, false },
};

/* What Firecracker has besides. */
static const char *const absent[] = { "vsock", "balloon", "mmds-config", "pmem", "memory-hotplug" };

/* Takes `value`; false if memory is short. */
static bool put(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) == 0;
}

static json_t *drives_to_json(const struct config_store *store)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < store->drive_count; i++) {
		if (json_array_append_new(
			    list, options_to_json(&block_options, &store->drives[i])) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *nets_to_json(const struct config_store *store)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < store->net_count; i++) {
		if (json_array_append_new(list,
					  options_to_json(&vm_net_options, &store->nets[i])) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

json_t *config_store_machine_to_json(const struct config_store *store)
{
	return options_to_json(&vm_machine_options, &store->machine);
}

json_t *config_store_to_json(const struct config_store *store)
{
	auto_json json_t *all = json_object();
	bool ok = all != NULL;

	if (store->has_boot) {
		ok = ok && put(all, "boot-source", options_to_json(&vm_boot_options, &store->boot));
	}
	ok = ok && put(all, "machine-config", config_store_machine_to_json(store));
	if (store->cpu_config != NULL) {
		ok = ok && put(all, "cpu-config", json_deep_copy(store->cpu_config));
	}
	if (store->drive_count != 0) {
		ok = ok && put(all, "drives", drives_to_json(store));
	}
	if (store->net_count != 0) {
		ok = ok && put(all, "network-interfaces", nets_to_json(store));
	}
	if (store->has_logger) {
		ok = ok &&
		     put(all, "logger", options_to_json(&logger_settings_options, &store->logger));
	}
	if (store->has_metrics) {
		ok = ok && put(all, "metrics",
			       options_to_json(&metrics_settings_options, &store->metrics));
	}
	if (store->has_entropy) {
		ok = ok && put(all, "entropy",
			       options_to_json(&entropy_settings_options, &store->entropy));
	}
	if (store->has_serial) {
		ok = ok &&
		     put(all, "serial", options_to_json(&serial_settings_options, &store->serial));
	}
	return ok ? take_ptr(all) : NULL;
}

static int check_keys(const json_t *config, struct error *e)
{
	/* The iteration does not change the object, its type just does not say so. */
	json_t *object = (json_t *)(uintptr_t)config;

	for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
		const char *key = json_object_iter_key(i);
		const json_t *value = json_object_iter_value(i);
		size_t k = 0;

		while (k < ARRAY_SIZE(resources) && strcmp(resources[k].key, key) != 0) {
			k++;
		}
		if (k < ARRAY_SIZE(resources)) {
			continue;
		}
		for (k = 0; k < ARRAY_SIZE(absent) && strcmp(absent[k], key) != 0;) {
			k++;
		}
		if (k == ARRAY_SIZE(absent)) {
			(void)error_set(e, ERROR_JSON, EINVAL, "unknown resource '%.60s'", key);
			return error_hint(e, "there are boot-source, machine-config, cpu-config, "
					     "drives, network-interfaces, logger, metrics, "
					     "entropy, serial");
		}
		if (!json_is_null(value) &&
		    !(json_is_array(value) && json_array_size(value) == 0)) {
			return error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP,
					 "'%s' is a resource that this version does not have", key);
		}
	}
	return 0;
}

/* The second of two would replace the first. */
static int check_new(const struct config_store *store, enum request_type type, const json_t *body,
		     struct error *e)
{
	bool drive = type == REQUEST_PUT_DRIVE;
	const char *id = json_string_value(json_object_get(body, drive ? "drive_id" : "iface_id"));

	if (id != NULL &&
	    (drive ? config_store_find_drive(store, id) : config_store_find_net(store, id)) >= 0) {
		return error_set(e, ERROR_CONFIG, EEXIST, "'%.64s' is there twice", id);
	}
	return 0;
}

static int put_body(struct config_store *store, const struct instance_settings *settings,
		    enum request_type type, const json_t *body, struct error *e)
{
	const struct request_info *info = &request_infos[type];
	union {
		struct vm_boot_config boot;
		struct vm_machine_config machine;
		struct block_config drive;
		struct vm_net_config net;
		struct serial_settings serial;
		struct entropy_settings entropy;
		struct logger_settings logger;
		struct metrics_settings metrics;
	} object;
	struct request request = { .type = type, .json = body };
	int r = 0;

	memset(&object, 0, sizeof(object));
	if (info->body != NULL) {
		r = options_from_json(info->body, &object, body, 0, e);
		request.object = &object;
	}
	return r == 0 ? config_store_put(store, settings, &request, e) : r;
}

static int put_list(struct config_store *store, const struct instance_settings *settings,
		    const struct resource *resource, const json_t *list, struct error *e)
{
	int r = 0;

	if (!json_is_array(list)) {
		return error_set(e, ERROR_JSON, EINVAL, "%s: not an array", resource->key);
	}
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		const json_t *body = json_array_get(list, i);

		r = check_new(store, resource->type, body, e);
		if (r == 0) {
			r = put_body(store, settings, resource->type, body, e);
		}
		if (r < 0) {
			(void)error_prefix(e, "%s/%zu", resource->key, i);
		}
	}
	return r;
}

/* In Firecracker's config files this is the path of a file. */
static int put_cpu_config(struct config_store *store, const struct instance_settings *settings,
			  const json_t *value, struct error *e)
{
	auto_json json_t *file = NULL;
	const char *path = json_string_value(value);
	int r;

	if (path == NULL) {
		return put_body(store, settings, REQUEST_PUT_CPU_CONFIG, value, e);
	}
	r = json_read_file(&file, path, CPU_CONFIG_FILE_MAX, e);
	return r == 0 ? put_body(store, settings, REQUEST_PUT_CPU_CONFIG, file, e) : r;
}

int config_store_read(struct config_store *store, const struct instance_settings *settings,
		      const json_t *config, struct error *e)
{
	int r;

	if (!json_is_object(config)) {
		return error_set(e, ERROR_JSON, EINVAL, "the configuration is not a JSON object");
	}
	r = check_keys(config, e);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(resources); i++) {
		const struct resource *resource = &resources[i];
		const json_t *value = json_object_get(config, resource->key);

		if (value == NULL || json_is_null(value)) {
			continue;
		}
		if (resource->many) {
			r = put_list(store, settings, resource, value, e);
			continue;
		}
		r = resource->type == REQUEST_PUT_CPU_CONFIG
			    ? put_cpu_config(store, settings, value, e)
			    : put_body(store, settings, resource->type, value, e);
		if (r < 0) {
			(void)error_prefix(e, "%s", resource->key);
		}
	}
	return r;
}
