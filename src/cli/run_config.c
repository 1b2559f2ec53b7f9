// SPDX-License-Identifier: Apache-2.0
/*
 * The option tables of `vmm run` and `vmm create`. Ranges that depend on the machine (memory, vCPUs) are checked by
 * vm_config_validate(), which all doors share; the table only knows syntax.
 */
#include "run_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "elsewhere.h"
#include "vmm/cleanup.h"

static int copy_string(struct run_config *config, const char *value, char **ret, struct error *e)
{
	char *copy = strdup(value);

	if (copy == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	config->strings[config->string_count++] = copy;
	*ret = copy;
	return 0;
}

static int add_disk(void *object, const char *value, struct error *e)
{
	struct run_config *config = object;
	char *text = NULL;
	int r;

	if (config->vm.disk_count == VM_DISKS_MAX) {
		return error_set(e, ERROR_USAGE, E2BIG, "--disk %s: more than %d disks", value,
				 VM_DISKS_MAX);
	}
	r = copy_string(config, value, &text, e);
	if (r == 0) {
		r = options_defaults(&block_options, &config->vm.disks[config->vm.disk_count], e);
	}
	if (r == 0) {
		r = options_parse_keys(&block_options, &config->vm.disks[config->vm.disk_count],
				       "--disk", text, e);
	}
	if (r == 0) {
		config->vm.disk_count++;
	}
	return r;
}

static int add_net(void *object, const char *value, struct error *e)
{
	struct run_config *config = object;
	struct vm_net_config *net = &config->vm.nets[config->vm.net_count];
	char *text = NULL;
	int r;

	if (strcmp(value, "none") == 0) {
		return 0;
	}
	if (config->vm.net_count == VM_NETS_MAX) {
		return error_set(e, ERROR_USAGE, E2BIG, "--net %s: more than %d network cards",
				 value, VM_NETS_MAX);
	}
	r = copy_string(config, value, &text, e);
	if (r < 0) {
		return r;
	}
	*net = (struct vm_net_config){ .fd = -1 };
	r = options_parse_keys(&vm_net_options, net, "--net", text, e);
	if (r < 0) {
		return r;
	}
	if ((net->tap != NULL) == (net->fd >= 0)) {
		(void)error_set(e, ERROR_USAGE, EINVAL,
				"--net %s: neither or both of tap= and fd=", value);
		return error_hint(e,
				  "--net none, --net tap=NAME[,mac=MAC] or --net fd=N[,mac=MAC]");
	}
	net->kind = net->tap != NULL ? VM_NET_TAP : VM_NET_FD;
	config->vm.net_count++;
	return 0;
}

#define AT(member) .offset = offsetof(struct run_config, member)

/* What makes a VM, whoever starts it when. */
#define VM_OPTIONS                                                                                 \
	{ .type = OPTION_INCLUDE, AT(vm.boot), .object = &vm_boot_options },                       \
		{ .type = OPTION_INCLUDE, AT(vm.machine), .object = &vm_machine_options },         \
		{ .name = "disk",                                                                  \
		  .type = OPTION_LIST,                                                             \
		  .add = add_disk,                                                                 \
		  .argument = "PATH[,ro][,serial=S]",                                              \
		  .help = "raw image or block device; may be repeated" },                          \
		{ .name = "net",                                                                   \
		  .type = OPTION_LIST,                                                             \
		  .add = add_net,                                                                  \
		  .argument = "none|tap=NAME|fd=N[,mac=M]",                                        \
		  .help = "network card; may be repeated" },                                       \
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
	{ .name = "quiet", .letter = 'q', .type = OPTION_FLAG, AT(quiet), .help = "errors only" },
	HELP_OPTION(struct run_config, help),
};
const struct option_table run_options = {
	.name = "run",
	.options = run_list,
	.count = ARRAY_SIZE(run_list),
	.foreign = elsewhere_run_flags,
};

static const struct option create_list[] = {
	VM_OPTIONS,
	{ .type = OPTION_INCLUDE, AT(settings), .object = &run_settings_options },
	HELP_OPTION(struct run_config, help),
};
const struct option_table create_options = {
	.name = "create",
	.options = create_list,
	.count = ARRAY_SIZE(create_list),
	.foreign = elsewhere_run_flags,
};

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

static int check_doors(const struct run_config *config, struct error *e)
{
	if (config->no_api && config->settings.api_socket != NULL) {
		return error_set(e, ERROR_USAGE, EINVAL,
				 "--no-api and --api-sock exclude each other");
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
	return check_doors(config, e);
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
	for (uint32_t i = 0; i < config->string_count; i++) {
		free(take_ptr(config->strings[i]));
	}
	config->string_count = 0;
}
