/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that is configured as one JSON object in the form of Firecracker's config file: what GET
 * /vm/config answers, and what a config file has. Each member is the body of the request that would
 * set it, or an array of such bodies, and is put into a store by the same handlers.
 *
 * Main thread. The JSON is a file's or a client's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/options_json.h"

LOG_DOMAIN("config");

/* What Firecracker's answer says of a resource, whatever is configured. */
enum theirs { THEIRS_VALUE, THEIRS_NULL, THEIRS_EMPTY, THEIRS_NO_KEY };

#define AT(member) offsetof(struct vm_config, member)

/* In the order of Firecracker's answer, which is the order they are read in as well, but that a CPU
 * template comes last: of it and machine-config's the later one counts. */
static const struct resource {
	const char *key;
	enum request_type type; /* REQUEST_TYPES: later */
	enum theirs theirs;
	size_t part;  /* offset in the configuration; of lists: of the first one */
	size_t has;   /* offset of a bool that says whether there is one; 0: there is, or a list */
	size_t count; /* of lists: offset of how many there are; 0: no list */
} resources[] = {
	{ "balloon", REQUEST_TYPES, THEIRS_NULL },
	{ "drives", REQUEST_PUT_DISK, THEIRS_VALUE, AT(disks), .count = AT(disk_count) },
	{ "boot-source", REQUEST_PUT_BOOT_SOURCE, THEIRS_VALUE, AT(boot) },
	{ "cpu-config", REQUEST_PUT_CPU_CONFIG, THEIRS_NULL },
	{ "logger", REQUEST_PUT_LOGGER, THEIRS_NULL, AT(logger), AT(has_logger) },
	{ "machine-config", REQUEST_PUT_MACHINE_CONFIG, THEIRS_VALUE, AT(machine) },
	{ "metrics", REQUEST_PUT_METRICS, THEIRS_NULL, AT(metrics), AT(has_metrics) },
	{ "mmds-config", REQUEST_TYPES, THEIRS_NULL },
	{ "network-interfaces", REQUEST_PUT_NET, THEIRS_VALUE, AT(nets), .count = AT(net_count) },
	{ "vsock", REQUEST_TYPES, THEIRS_NULL },
	{ "entropy", REQUEST_PUT_ENTROPY, THEIRS_VALUE, AT(entropy_settings), AT(entropy) },
	{ "pmem", REQUEST_TYPES, THEIRS_EMPTY },
	{ "memory-hotplug", REQUEST_TYPES, THEIRS_NULL },
	{ "serial", REQUEST_PUT_SERIAL, THEIRS_NO_KEY, AT(serial), AT(has_serial) },
};

static json_t *list_to_json(const struct resource *resource, const struct vm_config *vm,
			    unsigned int flags)
{
	const struct request_info *info = &request_infos[resource->type];
	const char *part = (const char *)vm + resource->part;
	uint32_t count;
	json_t *list = json_array();

	memcpy(&count, (const char *)vm + resource->count, sizeof(count));
	for (uint32_t i = 0; i < count; i++) {
		if (json_array_append_new(
			    list, options_to_json(info->body, part + i * info->size, flags)) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *boot_to_json(const struct vm_config *vm, unsigned int flags)
{
	/* Firecracker has one always, of no kernel. */
	const struct vm_boot_config none = { .kernel = "" };

	if (vm->boot.kernel != NULL) {
		return options_to_json(&vm_boot_options, &vm->boot, flags);
	}
	return (flags & OPTIONS_JSON_FIRECRACKER) != 0
		       ? options_to_json(&vm_boot_options, &none, flags)
		       : json_null();
}

static json_t *resource_to_json(const struct resource *resource, const struct vm_config *vm,
				unsigned int flags)
{
	const char *base = (const char *)vm;

	switch (resource->type) {
	case REQUEST_PUT_BOOT_SOURCE:
		return boot_to_json(vm, flags);
	case REQUEST_PUT_CPU_CONFIG:
		return vm->cpu_config != NULL ? json_deep_copy(vm->cpu_config) : json_null();
	default:
		break;
	}
	if (resource->count != 0) {
		return list_to_json(resource, vm, flags);
	}
	return resource->has == 0 || *(const bool *)(base + resource->has)
		       ? options_to_json(request_infos[resource->type].body, base + resource->part,
					 flags)
		       : json_null();
}

json_t *config_machine_to_json(const struct vm_config *vm, bool firecracker)
{
	return options_to_json(&vm_machine_options, &vm->machine,
			       firecracker ? OPTIONS_JSON_FIRECRACKER : 0);
}

bool config_absolute_paths(json_t *config, const char *directory)
{
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(resources); i++) {
		json_t *value = json_object_get(config, resources[i].key);
		const struct option_table *table;

		if (resources[i].type == REQUEST_TYPES ||
		    request_infos[resources[i].type].body == NULL) {
			continue;
		}
		table = request_infos[resources[i].type].body;
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

static json_t *theirs_to_json(const struct resource *resource, const struct vm_config *vm)
{
	switch (resource->theirs) {
	case THEIRS_NULL:
		return json_null();
	case THEIRS_EMPTY:
		return json_array();
	default:
		return resource_to_json(resource, vm, OPTIONS_JSON_FIRECRACKER);
	}
}

json_t *config_to_json(const struct vm_config *vm, bool firecracker)
{
	auto_json json_t *all = json_object();
	bool ok = all != NULL;

	for (size_t i = 0; ok && i < ARRAY_SIZE(resources); i++) {
		const struct resource *resource = &resources[i];

		if (firecracker && resource->theirs != THEIRS_NO_KEY) {
			ok = json_put(all, resource->key, theirs_to_json(resource, vm));
		} else if (!firecracker && resource->type != REQUEST_TYPES) {
			ok = json_put(all, resource->key, resource_to_json(resource, vm, 0));
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
		} else if (resource->type == REQUEST_TYPES && !json_is_null(value) &&
			   !(json_is_array(value) && json_array_size(value) == 0)) {
			return error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP,
					 "'%s' is a resource that this version does not have", key);
		}
	}
	return 0;
}

static int put_body(struct config *draft, const struct instance_settings *settings,
		    enum request_type type, const json_t *body, struct error *e)
{
	const struct request_info *info = &request_infos[type];
	auto_free void *object = NULL;
	/* The second of two would replace the first. */
	struct request request = { .type = type, .json = body, .add = true };
	int r = 0;

	if (info->body != NULL) {
		object = calloc(1, info->size);
		r = object != NULL
			    ? options_from_json(
				      info->body, object, body,
				      settings->firecracker ? OPTIONS_JSON_FIRECRACKER : 0, e)
			    : error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		request.object = object;
	}
	return r == 0 ? config_put(draft, settings, &request, e) : r;
}

static int put_list(struct config *draft, const struct instance_settings *settings,
		    const struct resource *resource, const json_t *list, struct error *e)
{
	int r = 0;

	if (!json_is_array(list)) {
		return error_set(e, ERROR_JSON, EINVAL, "%s: not an array", resource->key);
	}
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		r = put_body(draft, settings, resource->type, json_array_get(list, i), e);
		if (r < 0) {
			(void)error_prefix(e, "%s/%zu", resource->key, i);
		}
	}
	return r;
}

/* In Firecracker's config files this is the path of a file. */
static int put_cpu_config(struct config *draft, const struct instance_settings *settings,
			  const json_t *value, struct error *e)
{
	auto_json json_t *file = NULL;
	const char *path = json_string_value(value);
	int r;

	if (path == NULL) {
		return put_body(draft, settings, REQUEST_PUT_CPU_CONFIG, value, e);
	}
	r = json_read_file(&file, path, CPU_CONFIG_FILE_MAX, e);
	return r == 0 ? put_body(draft, settings, REQUEST_PUT_CPU_CONFIG, file, e) : r;
}

static int read_resource(struct config *draft, const struct instance_settings *settings,
			 const struct resource *resource, const json_t *config, struct error *e)
{
	const json_t *value = json_object_get(config, resource->key);
	int r;

	if (value == NULL || json_is_null(value) || resource->type == REQUEST_TYPES) {
		return 0;
	}
	if (resource->count != 0) {
		return put_list(draft, settings, resource, value, e);
	}
	r = resource->type == REQUEST_PUT_CPU_CONFIG
		    ? put_cpu_config(draft, settings, value, e)
		    : put_body(draft, settings, resource->type, value, e);
	return r < 0 ? error_prefix(e, "%s", resource->key) : 0;
}

int config_read(struct config *draft, const struct instance_settings *settings,
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
				r = read_resource(draft, settings, &resources[i], config, e);
			}
		}
	}
	return r;
}
