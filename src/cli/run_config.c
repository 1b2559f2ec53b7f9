// SPDX-License-Identifier: Apache-2.0
/*
 * The option tables of `vmm run` and `vmm create`, which fill the one configuration, and how it becomes
 * that of an instance, alone or over a config file. Ranges that depend on the machine (memory, vCPUs)
 * are checked by vm_config_validate(), which all doors share; the table only knows syntax.
 *
 * Main thread.
 */
#include "run_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "elsewhere.h"
#include "run.h"
#include "vmm/cleanup.h"
#include "vmm/cpu_baseline.h"
#include "vmm/options_json.h"

/* There are as many as can be; or memory is short. */
static int no_place(const char *flag, const char *value, struct error *e)
{
	return command_value(error_prefix(e, "%s %s", flag, value), e);
}

static int add_disk(void *object, const char *value, struct error *e)
{
	struct vm_config *vm = object;
	struct block_config disk = { 0 };
	char *text = vm_config_keep(vm, value, e);
	int r;

	if (text == NULL) {
		return -ENOMEM;
	}
	r = options_defaults(&block_options, &disk, e);
	if (r == 0) {
		r = options_parse_keys(&block_options, &disk, "--disk", text, e);
	}
	return r == 0 && vm_config_add_disk(vm, &disk, e) == NULL ? no_place("--disk", value, e)
								  : r;
}

static int add_net(void *object, const char *value, struct error *e)
{
	struct vm_config *vm = object;
	struct vm_net_config net = { .fd = -1 };
	char *text;
	int r;

	if (strcmp(value, "none") == 0) {
		return 0;
	}
	text = vm_config_keep(vm, value, e);
	if (text == NULL) {
		return -ENOMEM;
	}
	r = options_parse_keys(&vm_net_options, &net, "--net", text, e);
	if (r < 0) {
		return r;
	}
	if ((net.tap != NULL) == (net.fd >= 0)) {
		(void)error_set(e, ERROR_USAGE, EINVAL,
				"--net %s: neither or both of tap= and fd=", value);
		return error_hint(e,
				  "--net none, --net tap=NAME[,mac=MAC] or --net fd=N[,mac=MAC]");
	}
	net.kind = net.tap != NULL ? VM_NET_TAP : VM_NET_FD;
	return vm_config_add_net(vm, &net, e) == NULL ? no_place("--net", value, e) : 0;
}

/* Bytes of a config file. */
#define CONFIG_FILE_MAX MIB(4)

static const struct option device_list[] = {
	{ .name = "disk",
	  .type = OPTION_LIST,
	  .add = add_disk,
	  .argument = "PATH[,ro][,serial=S]",
	  .help = "raw image or block device; may be repeated" },
	{ .name = "net",
	  .type = OPTION_LIST,
	  .add = add_net,
	  .argument = "none|tap=NAME|fd=N[,mac=M]",
	  .help = "network card; may be repeated" },
};
const struct option_table run_device_options = OPTION_TABLE("devices", device_list);

#define AT(member) .offset = offsetof(struct run_config, member)

/* What makes a VM, whoever starts it when. */
#define VM_OPTIONS                                                                                 \
	{ .type = OPTION_INCLUDE, AT(vm.boot), .object = &vm_boot_options },                       \
		{ .type = OPTION_INCLUDE, AT(vm.machine), .object = &vm_machine_options },         \
		{ .type = OPTION_INCLUDE, AT(vm), .object = &run_device_options },                 \
		{ .name = "cpu",                                                                   \
		  .type = OPTION_STRING,                                                           \
		  AT(cpu),                                                                         \
		  .argument = "FILE|LEVEL",                                                        \
		  .help = "the most that the guest sees of its processor: host, x86-64-v2, "       \
			  "x86-64-v3, x86-64-v4, or a file of vmm doctor --cpu-baseline" },        \
		{ .name = "name",                                                                  \
		  .letter = 'n',                                                                   \
		  .type = OPTION_STRING,                                                           \
		  AT(vm.name),                                                                     \
		  .argument = "NAME",                                                              \
		  .help = "name of the VM, by which other commands find it" },                     \
	{                                                                                          \
		.name = "config-file", .type = OPTION_STRING, AT(config_file), .argument = "FILE", \
		.help = "describe the VM in JSON, as Firecracker's --config-file; flags override " \
			"it"                                                                       \
	}

static const struct option run_list[] = {
	VM_OPTIONS,
	{ .name = "detach",
	  .letter = 'd',
	  .type = OPTION_FLAG,
	  AT(detach),
	  .help = "run in the background, print the VM's name" },
	{ .type = OPTION_INCLUDE, AT(settings), .object = &run_settings_options },
	{ .name = "no-api",
	  .type = OPTION_FLAG,
	  AT(no_api),
	  .help = "no API, no directory: nobody finds the VM" },
	QUIET_OPTION(struct run_config, quiet),
	HELP_OPTION(struct run_config, help),
};
const struct option_table run_options =
	OPTION_TABLE("run", run_list, .foreign = elsewhere_run_flags);

static const struct option create_list[] = {
	VM_OPTIONS,
	{ .type = OPTION_INCLUDE, AT(settings), .object = &run_settings_options },
	HELP_OPTION(struct run_config, help),
};
const struct option_table create_options =
	OPTION_TABLE("create", create_list, .foreign = elsewhere_run_flags);

/* Whoever gives a disk means to boot from the first one. */
static void choose_root(struct vm_config *config)
{
	for (uint32_t i = 0; i < config->disk_count; i++) {
		if (config->disks[i].root) {
			return;
		}
	}
	config->disks[0].root = config->disk_count > 0;
}

/* A level, or a file: its content becomes part of the configuration. */
static int choose_cpu(struct run_config *config, struct error *e)
{
	struct vm_config *vm = &config->vm;

	if (config->cpu == NULL) {
		return 0;
	}
	for (int level = 0; level < VM_CPU_LEVELS; level++) {
		if (strcmp(cpu_level_name((enum vm_cpu_level)level), config->cpu) == 0) {
			vm->machine.cpu_level = level;
			return 0;
		}
	}
	if (strchr(config->cpu, '/') == NULL && access(config->cpu, F_OK) != 0) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "--cpu: '%.60s' is no level, and no file",
				config->cpu);
		return error_hint(e, "host, x86-64-v2, x86-64-v3, x86-64-v4, or a file of vmm "
				     "doctor --cpu-baseline");
	}
	return cpu_config_read_file(&vm->cpu_config, &vm->cpu_template, config->cpu, e) < 0
		       ? error_prefix(e, "--cpu")
		       : 0;
}

static int check_doors(const struct run_config *config, struct error *e)
{
	if (config->no_api && config->settings.api_socket != NULL) {
		return error_set(e, ERROR_USAGE, EINVAL,
				 "--no-api and --api-sock exclude each other");
	}
	if (config->no_api && config->settings.paused) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "--no-api and --paused exclude each other");
		return error_hint(e, "nobody could let the VM go on");
	}
	if (config->no_api && config->detach) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "--no-api and --detach exclude each other");
		return error_hint(e, "a VM in the background could not be stopped");
	}
	return 0;
}

int run_config_parse(struct run_config *config, const struct option_table *table, int argc,
		     char **argv, struct error *e)
{
	char hint[80];
	int r;

	memset(config, 0, offsetof(struct run_config, vm));
	vm_config_init(&config->vm);
	config->vm.console = config->vm.entropy = true;
	config->table = table;
	r = options_parse_all(table, config, &config->given, argc, argv, e);
	if (r < 0 || config->help) {
		return MIN(r, 0);
	}
	if (r > 0) {
		(void)snprintf(hint, sizeof(hint), "vmm %s --name NAME --kernel FILE [OPTIONS]",
			       table->name);
		return command_no_operand(argv[1], hint, e);
	}
	config->vm.sandbox = (enum sandbox_mode)config->settings.process.sandbox;
	config->vm.debug_exit = config->settings.debug_exit;
	choose_root(&config->vm);
	r = choose_cpu(config, e);
	return r == 0 ? check_doors(config, e) : r;
}

int run_config_check(const struct run_config *config, struct error *e)
{
	int r;

	/* What a file adds is judged when it is read. */
	if (config->config_file == NULL) {
		r = vm_config_validate(&config->vm, e);
	} else {
		r = vm_name_validate(config->vm.name, e);
		if (r == 0) {
			r = vm_machine_config_validate(&config->vm.machine, e);
		}
	}
	if (r < 0) {
		e->code = ERROR_USAGE;
	}
	return r;
}

void run_config_finish(struct run_config *config)
{
	vm_config_finish(&config->vm);
}

/* --- into the configuration of an instance ------------------------------------------------------ */

/* The disks and cards of the flags, by their ids. */
static int put_devices(struct instance *instance, const struct vm_config *vm, struct error *e)
{
	struct request request = { .type = REQUEST_PUT_DISK, .add = true };
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < vm->disk_count; i++) {
		request.object = &vm->disks[i];
		r = instance_request_now(instance, &request, NULL, e);
	}
	request.type = REQUEST_PUT_NET;
	for (uint32_t i = 0; r == 0 && i < vm->net_count; i++) {
		request.object = &vm->nets[i];
		r = instance_request_now(instance, &request, NULL, e);
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

/* A level or a file of the flags takes the place of whatever the file has. */
static int overlay_cpu(json_t *file, const struct run_config *config, struct error *e)
{
	json_t *machine = json_object_get(file, "machine-config");
	const char *level = cpu_level_name((enum vm_cpu_level)config->vm.machine.cpu_level);
	bool good = json_object_set_new(machine, "cpu_baseline", json_string(level)) == 0;

	(void)json_object_del(file, "cpu-config");
	if (good && config->vm.cpu_config != NULL) {
		good = json_object_set(file, "cpu-config", config->vm.cpu_config) == 0;
	}
	return good ? 0 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
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
	r = r == 0 ? run_overlay(file, &boot, e) : r;
	return r == 0 && given(config, "cpu") ? overlay_cpu(file, config, e) : r;
}

int run_configure(struct instance *instance, const struct run_config *config, struct error *e)
{
	int r;

	if (config->config_file == NULL) {
		return instance_take_config(instance, &config->vm, e);
	}
	r = run_apply_file(instance, config->config_file, edit, config, e);
	return r == 0 ? put_devices(instance, &config->vm, e) : r;
}
