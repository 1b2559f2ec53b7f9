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
#include "vmm/log.h"
#include "vmm/options_json.h"

LOG_DOMAIN("config");

#define CPU_CONFIG_FILE_MAX MIB(1)

/* Takes `value`; false if memory is short. */
static bool put(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) == 0;
}

static json_t *or_null(bool has, const struct option_table *table, const void *object,
		       unsigned int flags)
{
	return has ? options_to_json(table, object, flags) : json_null();
}

/* Firecracker has one always, of no kernel. */
static json_t *boot_to_json(const struct config_store *store, unsigned int flags)
{
	const struct vm_boot_config none = { .kernel = "" };

	if (!store->has_boot && (flags & OPTIONS_JSON_FIRECRACKER) != 0) {
		return options_to_json(&vm_boot_options, &none, flags);
	}
	return or_null(store->has_boot, &vm_boot_options, &store->boot, flags);
}

static json_t *machine_to_json(const struct config_store *store, unsigned int flags)
{
	return options_to_json(&vm_machine_options, &store->machine, flags);
}

static json_t *cpu_to_json(const struct config_store *store, unsigned int flags)
{
	(void)flags;
	return store->cpu_config != NULL ? json_deep_copy(store->cpu_config) : json_null();
}

/* Firecracker's list begins with the root drive. */
static json_t *drives_to_json(const struct config_store *store, unsigned int flags)
{
	json_t *list = json_array();
	int (*append)(json_t *, json_t *) = json_array_append_new;

	for (uint32_t i = 0; i < store->drive_count; i++) {
		json_t *drive = options_to_json(&block_options, &store->drives[i], flags);
		bool first = store->drives[i].root && (flags & OPTIONS_JSON_FIRECRACKER) != 0;

		if ((first ? json_array_insert_new(list, 0, drive) : append(list, drive)) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *nets_to_json(const struct config_store *store, unsigned int flags)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < store->net_count; i++) {
		if (json_array_append_new(
			    list, options_to_json(&vm_net_options, &store->nets[i], flags)) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *logger_to_json(const struct config_store *store, unsigned int flags)
{
	return or_null(store->has_logger, &logger_settings_options, &store->logger, flags);
}

static json_t *metrics_to_json(const struct config_store *store, unsigned int flags)
{
	return or_null(store->has_metrics, &metrics_settings_options, &store->metrics, flags);
}

static json_t *entropy_to_json(const struct config_store *store, unsigned int flags)
{
	return or_null(store->has_entropy, &entropy_settings_options, &store->entropy, flags);
}

static json_t *serial_to_json(const struct config_store *store, unsigned int flags)
{
	return or_null(store->has_serial, &serial_settings_options, &store->serial, flags);
}

/* What Firecracker's answer says of a resource, whatever is configured. */
enum theirs { THEIRS_VALUE, THEIRS_NULL, THEIRS_EMPTY, THEIRS_NO_KEY };

/* In the order of Firecracker's answer, which is the order they are read in as well, but that a CPU
 * template comes last: of it and machine-config's the later one counts. */
static const struct resource {
	const char *key;
	json_t *(*to_json)(const struct config_store *store, unsigned int flags); /* NULL: later */
	enum request_type type;
	bool many;
	enum theirs theirs;
} resources[] = {
	{ .key = "balloon", .theirs = THEIRS_NULL },
	{ "drives", drives_to_json, REQUEST_PUT_DRIVE, true, THEIRS_VALUE },
	{ "boot-source", boot_to_json, REQUEST_PUT_BOOT_SOURCE, false, THEIRS_VALUE },
	{ "cpu-config", cpu_to_json, REQUEST_PUT_CPU_CONFIG, false, THEIRS_NULL },
	{ "logger", logger_to_json, REQUEST_PUT_LOGGER, false, THEIRS_NULL },
	{ "machine-config", machine_to_json, REQUEST_PUT_MACHINE_CONFIG, false, THEIRS_VALUE },
	{ "metrics", metrics_to_json, REQUEST_PUT_METRICS, false, THEIRS_NULL },
	{ .key = "mmds-config", .theirs = THEIRS_NULL },
	{ "network-interfaces", nets_to_json, REQUEST_PUT_NET, true, THEIRS_VALUE },
	{ .key = "vsock", .theirs = THEIRS_NULL },
	{ "entropy", entropy_to_json, REQUEST_PUT_ENTROPY, false, THEIRS_VALUE },
	{ .key = "pmem", .theirs = THEIRS_EMPTY },
	{ .key = "memory-hotplug", .theirs = THEIRS_NULL },
	{ "serial", serial_to_json, REQUEST_PUT_SERIAL, false, THEIRS_NO_KEY },
};

json_t *config_store_machine_to_json(const struct config_store *store, bool firecracker)
{
	return machine_to_json(store, firecracker ? OPTIONS_JSON_FIRECRACKER : 0);
}

bool config_absolute_paths(json_t *config, const char *directory)
{
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(resources); i++) {
		const struct option_table *table = request_infos[resources[i].type].body;
		json_t *value = json_object_get(config, resources[i].key);

		if (resources[i].to_json == NULL || table == NULL) {
			continue;
		}
		for (size_t k = 0; k < json_array_size(value); k++) {
			ok = ok &&
			     options_absolute_paths(table, json_array_get(value, k), directory);
		}
		if (json_is_object(value)) {
			ok = ok && options_absolute_paths(table, value, directory);
		}
	}
	return ok;
}

static json_t *theirs_to_json(const struct resource *resource, const struct config_store *store)
{
	switch (resource->theirs) {
	case THEIRS_NULL:
		return json_null();
	case THEIRS_EMPTY:
		return json_array();
	default:
		return resource->to_json(store, OPTIONS_JSON_FIRECRACKER);
	}
}

json_t *config_store_to_json(const struct config_store *store, bool firecracker)
{
	auto_json json_t *all = json_object();
	bool ok = all != NULL;

	for (size_t i = 0; ok && i < ARRAY_SIZE(resources); i++) {
		const struct resource *resource = &resources[i];

		if (firecracker && resource->theirs != THEIRS_NO_KEY) {
			ok = put(all, resource->key, theirs_to_json(resource, store));
		} else if (!firecracker && resource->to_json != NULL) {
			ok = put(all, resource->key, resource->to_json(store, 0));
		}
	}
	return ok ? take_ptr(all) : NULL;
}

static const struct resource *find_resource(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(resources); i++) {
		if (strcmp(resources[i].key, key) == 0) {
			return &resources[i];
		}
	}
	return NULL;
}

/* What is not known is not looked at, as Firecracker does, but said: it may be misspelt. */
static int check_keys(const json_t *config, struct error *e)
{
	/* The iteration does not change the object, its type just does not say so. */
	json_t *object = (json_t *)(uintptr_t)config;

	for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
		const char *key = json_object_iter_key(i);
		const json_t *value = json_object_iter_value(i);
		const struct resource *resource = find_resource(key);

		if (resource == NULL) {
			log_warn("config file: '%.60s' is no resource: ignored", key);
		} else if (resource->to_json == NULL && !json_is_null(value) &&
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
		r = options_from_json(info->body, &object, body,
				      settings->firecracker ? OPTIONS_JSON_FIRECRACKER : 0, e);
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

static int read_resource(struct config_store *store, const struct instance_settings *settings,
			 const struct resource *resource, const json_t *config, struct error *e)
{
	const json_t *value = json_object_get(config, resource->key);
	int r;

	if (value == NULL || json_is_null(value) || resource->to_json == NULL) {
		return 0;
	}
	if (resource->many) {
		return put_list(store, settings, resource, value, e);
	}
	r = resource->type == REQUEST_PUT_CPU_CONFIG
		    ? put_cpu_config(store, settings, value, e)
		    : put_body(store, settings, resource->type, value, e);
	return r < 0 ? error_prefix(e, "%s", resource->key) : 0;
}

int config_store_read(struct config_store *store, const struct instance_settings *settings,
		      const json_t *config, struct error *e)
{
	int r;

	if (!json_is_object(config)) {
		return error_set(e, ERROR_JSON, EINVAL, "the configuration is not a JSON object");
	}
	r = check_keys(config, e);
	for (int last = 0; last <= 1; last++) {
		for (size_t i = 0; r == 0 && i < ARRAY_SIZE(resources); i++) {
			if ((resources[i].type == REQUEST_PUT_CPU_CONFIG) == (last == 1)) {
				r = read_resource(store, settings, &resources[i], config, e);
			}
		}
	}
	return r;
}
