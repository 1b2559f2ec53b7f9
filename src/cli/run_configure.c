// SPDX-License-Identifier: Apache-2.0
/*
 * A command line or a config file as requests to an instance that was not started. What is given by
 * place gets an id of its place: "drive0", "net0".
 *
 * Main thread.
 */
#include <errno.h>
#include <stdio.h>

#include "run.h"
#include "vmm/cleanup.h"
#include "vmm/options_json.h"

/* Bytes of a config file. */
#define CONFIG_FILE_MAX MIB(4)

static int request(struct instance *instance, enum request_type type, const char *id,
		   const void *object, struct error *e)
{
	const struct request request = { .type = type, .id = id, .object = object };

	return instance_request_now(instance, &request, NULL, e);
}

static int put_drives(struct instance *instance, struct run_config *config, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < config->vm.disk_count; i++) {
		struct block_config *drive = &config->vm.disks[i];
		char id[16];

		if (drive->id == NULL) {
			(void)snprintf(id, sizeof(id), "drive%u", i);
			drive->id = id;
		}
		r = request(instance, REQUEST_PUT_DRIVE, drive->id, drive, e);
		if (drive->id == id) {
			drive->id = NULL;
		}
	}
	return r;
}

static int put_nets(struct instance *instance, struct run_config *config, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < config->vm.net_count; i++) {
		struct vm_net_config *net = &config->vm.nets[i];
		char id[16];

		(void)snprintf(id, sizeof(id), "net%u", i);
		net->id = id;
		r = request(instance, REQUEST_PUT_NET, id, net, e);
		net->id = NULL;
	}
	return r;
}

int run_overlay(json_t *file, const struct overlay *flags, struct error *e)
{
	json_t *resource = json_object_get(file, flags->resource);
	auto_json json_t *all = options_to_json(flags->part, flags->object, 0);
	struct option_iter at = option_iter(flags->part);
	bool ok = all != NULL;

	if (!json_is_object(resource)) {
		/* What the file does not have the flags have whole, with their defaults. */
		return flags->add && json_object_set(file, flags->resource, all) < 0
			       ? error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory")
			       : 0;
	}
	while (ok && option_next(&at)) {
		const char *key = at.option->json;
		const char *flag = at.option->name != NULL ? at.option->name : at.option->more_of;

		if (key != NULL && flag != NULL &&
		    options_given(flags->table, flags->given, flag)) {
			json_t *value = json_object_get(all, key);

			(void)json_object_del(resource, key);
			ok = value == NULL || json_object_set(resource, key, value) == 0;
		}
	}
	return ok ? 0 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
}

int run_apply_file(struct instance *instance, const char *path,
		   int (*edit)(json_t *file, const void *arg, struct error *e), const void *arg,
		   struct error *e)
{
	auto_json json_t *file = NULL;
	int r = json_read_file(&file, path, CONFIG_FILE_MAX, e);

	if (r < 0) {
		return error_prefix(e, "--config-file");
	}
	r = edit != NULL && json_is_object(file) ? edit(file, arg, e) : 0;
	if (r == 0) {
		r = instance_apply_config(instance, file, e);
	}
	return r < 0 ? error_prefix(e, "--config-file '%s'", path) : 0;
}

static bool given(const struct run_config *config, const char *flag)
{
	return options_given(config->table, config->given, flag);
}

/* The file as the flags want it. Disks and cards are put as requests afterwards: what they can be is
 * more than JSON can say. */
static int edit(json_t *file, const void *arg, struct error *e)
{
	static const char *const cmdlines[] = { "boot_args", "cmdline", "cmdline_only" };
	const struct run_config *config = arg;
	const struct overlay machine = { "machine-config", &vm_machine_options, &config->vm.machine,
					 config->table,	   config->given,	true };
	const struct overlay boot = { "boot-source", &vm_boot_options, &config->vm.boot,
				      config->table, config->given,    true };
	int r;

	if (given(config, "cmdline") || given(config, "cmdline-only")) {
		for (size_t i = 0; i < ARRAY_SIZE(cmdlines); i++) {
			(void)json_object_del(json_object_get(file, "boot-source"), cmdlines[i]);
		}
	}
	if (given(config, "disk")) {
		(void)json_object_del(file, "drives");
	}
	if (given(config, "net")) {
		(void)json_object_del(file, "network-interfaces");
	}
	r = run_overlay(file, &machine, e);
	return r == 0 ? run_overlay(file, &boot, e) : r;
}

static int configure_from_file(struct instance *instance, struct run_config *config,
			       struct error *e)
{
	int r = run_apply_file(instance, config->config_file, edit, config, e);

	if (r == 0) {
		r = put_drives(instance, config, e);
	}
	return r == 0 ? put_nets(instance, config, e) : r;
}

int run_configure(struct instance *instance, struct run_config *config, struct error *e)
{
	const struct entropy_settings entropy = { .has_limiter = false };
	int r;

	if (config->config_file != NULL) {
		return configure_from_file(instance, config, e);
	}
	r = request(instance, REQUEST_PUT_MACHINE_CONFIG, NULL, &config->vm.machine, e);
	if (r == 0) {
		r = request(instance, REQUEST_PUT_BOOT_SOURCE, NULL, &config->vm.boot, e);
	}
	if (r == 0) {
		r = put_drives(instance, config, e);
	}
	if (r == 0) {
		r = put_nets(instance, config, e);
	}
	return r == 0 ? request(instance, REQUEST_PUT_ENTROPY, NULL, &entropy, e) : r;
}
