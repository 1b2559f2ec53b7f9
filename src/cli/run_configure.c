// SPDX-License-Identifier: Apache-2.0
/*
 * A command line or a config file as requests to an instance that was not started. What is given by
 * place gets an id of its place: "drive0", "net0".
 *
 * Main thread.
 */
#include <stdio.h>

#include "run.h"

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

int run_apply_file(struct instance *instance, const char *path, struct error *e)
{
	auto_json json_t *file = NULL;
	int r = json_read_file(&file, path, CONFIG_FILE_MAX, e);

	if (r < 0) {
		return error_prefix(e, "--config-file");
	}
	r = instance_apply_config(instance, file, e);
	return r < 0 ? error_prefix(e, "--config-file '%s'", path) : 0;
}

int run_configure(struct instance *instance, struct run_config *config, struct error *e)
{
	const struct entropy_settings entropy = { .has_limiter = false };
	int r;

	if (config->config_file != NULL) {
		return run_apply_file(instance, config->config_file, e);
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
