// SPDX-License-Identifier: Apache-2.0
/*
 * vmm device: disks and network cards of a VM that runs. What a flag of vmm run says is said the same
 * way here, by the same tables, and goes to the VM as a request each. An id that nobody gives is the
 * first that is free in the VM, as it would be at a start: so its configuration is asked for first.
 *
 * Paths are this process's: made absolute, because the VM's working directory is another one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "command.h"
#include "exit_codes.h"
#include "run_config.h"
#include "vmm/cleanup.h"
#include "vmm/options_json.h"
#include "vmm/request.h"

#define TARGET_MAX 4096 /* of a request, with an id that is all escapes */

struct device_command {
	struct target target;
	struct device_removal removal;
	bool json, help;
	struct vm_config vm; /* at the end: of its arrays only what is used is touched */
};

static const struct option option_list[] = {
	OPTION_INCLUDED(struct device_command, vm, run_device_options),
	OPTION_INCLUDED(struct device_command, removal, device_removal_options),
	OPTION_INCLUDED(struct device_command, target, target_options),
	{ .name = "json",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct device_command, json),
	  .help = "ls: print JSON" },
	HELP_OPTION(struct device_command, help),
};
static const struct option_table table = OPTION_TABLE("device", option_list);

static const struct list {
	const char *name, *path, *id, *what, *kind;
	const struct option_table *table;
} lists[] = {
	{ "drives", "/drives/", "drive_id", "path_on_host", "disk", &block_options },
	{ "network-interfaces", "/network-interfaces/", "iface_id", "host_dev_name", "net",
	  &vm_net_options },
};

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "-";
}

/* "/drives/a%20b" and what follows. */
static void make_target(char target[TARGET_MAX], const struct list *list, const char *id,
			const char *query)
{
	size_t len = (size_t)snprintf(target, TARGET_MAX, "%s", list->path);

	for (; *id != '\0' && len < TARGET_MAX - 100; id++) {
		len += (size_t)snprintf(target + len, TARGET_MAX - len, "%%%02X",
					(unsigned char)*id);
	}
	(void)snprintf(target + len, TARGET_MAX - len, "%s", query);
}

/* --- add --------------------------------------------------------------------------------------- */

/* Those that the VM has already, so that ours get other ids. */
static int put_present(struct vm_config *vm, const json_t *config, struct error *e)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(config, "drives"), i, entry)
	{
		const struct block_config disk = { .id = text_of(entry, "drive_id") };

		if (vm_config_add_disk(vm, &disk, e) == NULL) {
			return -ENOSPC;
		}
	}
	json_array_foreach(json_object_get(config, "network-interfaces"), i, entry)
	{
		const struct vm_net_config net = { .id = text_of(entry, "iface_id"), .fd = -1 };

		if (vm_config_add_net(vm, &net, e) == NULL) {
			return -ENOSPC;
		}
	}
	return 0;
}

static int add_one(struct client *client, const struct list *list, const void *object,
		   const char *id, struct error *e)
{
	auto_free char *directory = getcwd(NULL, 0);
	auto_json json_t *body = options_to_json(list->table, object, 0);
	char target[TARGET_MAX];
	int r;

	if (body == NULL || directory == NULL ||
	    !options_absolute_paths(list->table, body, directory)) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	make_target(target, list, id, "");
	r = client_call(client, "PUT", target, body, NULL, e);
	if (r == 0) {
		(void)puts(id);
	}
	return r;
}

static int check_cards(const struct vm_config *vm, uint32_t first, struct error *e)
{
	for (uint32_t i = first; i < vm->net_count; i++) {
		if (vm->nets[i].kind == VM_NET_FD) {
			(void)error_set(e, ERROR_USAGE, EINVAL,
					"--net fd=%d: a VM that runs cannot be given a descriptor",
					vm->nets[i].fd);
			return error_hint(e, "name a tap that is there: --net tap=NAME");
		}
	}
	return 0;
}

/* The command line once more, behind what the VM has. */
static int add(struct client *client, struct device_command *command, const json_t *config,
	       int argc, char **argv, struct error *e)
{
	struct vm_config *vm = &command->vm;
	uint32_t disks, nets;
	uint64_t given = 0;
	int r;

	vm_config_finish(vm);
	r = put_present(vm, config, e);
	disks = vm->disk_count;
	nets = vm->net_count;
	if (r == 0) {
		r = MIN(options_parse_all(&table, command, &given, argc, argv, e), 0);
	}
	if (r == 0) {
		r = check_cards(vm, nets, e);
	}
	if (r == 0 && disks == vm->disk_count && nets == vm->net_count) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "vmm device add: what?");
		r = error_hint(e, "--disk PATH[,...] or --net tap=NAME[,...]");
	}
	for (uint32_t i = disks; r == 0 && i < vm->disk_count; i++) {
		r = add_one(client, &lists[0], &vm->disks[i], vm->disks[i].id, e);
	}
	for (uint32_t i = nets; r == 0 && i < vm->net_count; i++) {
		r = add_one(client, &lists[1], &vm->nets[i], vm->nets[i].id, e);
	}
	return r;
}

/* --- rm and ls --------------------------------------------------------------------------------- */

/* Which list has it; NULL with `e`: none, or both. */
static const struct list *find(const json_t *config, const char *id, struct error *e)
{
	const struct list *found = NULL;
	const json_t *entry;
	size_t i;

	for (size_t k = 0; k < ARRAY_SIZE(lists); k++) {
		json_array_foreach(json_object_get(config, lists[k].name), i, entry)
		{
			if (strcmp(text_of(entry, lists[k].id), id) != 0) {
				continue;
			}
			if (found != NULL) {
				(void)error_set(e, ERROR_CONFIG, EEXIST,
						"'%.64s' is a disk and a network card", id);
				(void)error_hint(e, "vmm api NAME DELETE /drives/ID says which is "
						    "meant");
				return NULL;
			}
			found = &lists[k];
		}
	}
	if (found == NULL) {
		(void)error_set(e, ERROR_NOT_FOUND, ENOENT,
				"there is no disk or network card '%.64s'", id);
		(void)error_hint(e, "vmm device ls shows what there is");
	}
	return found;
}

static int take_out(struct client *client, const struct device_command *command,
		    const json_t *config, const char *id, struct error *e)
{
	const struct list *list = find(config, id, e);
	const uint64_t ms = (command->removal.timeout_ns + 999999) / 1000000;
	char target[TARGET_MAX], query[64];

	if (list == NULL) {
		return -ENOENT;
	}
	(void)snprintf(query, sizeof(query), "?timeout=%llums%s", (unsigned long long)ms,
		       command->removal.force ? "&force" : "");
	make_target(target, list, id, query);
	/* The VM says when the guest's time is over. */
	client->timeout_ms = (int)MIN(ms + CLIENT_TIMEOUT_MS, (uint64_t)INT32_MAX);
	return client_call(client, "DELETE", target, NULL, NULL, e);
}

static int show(const struct device_command *command, const json_t *config)
{
	json_t *shown = command->json ? json_object() : NULL;
	const json_t *entry;
	size_t i;

	for (size_t k = 0; k < ARRAY_SIZE(lists); k++) {
		json_t *all = json_object_get(config, lists[k].name);

		if (shown != NULL) {
			(void)json_object_set(shown, lists[k].name, all);
			continue;
		}
		json_array_foreach(all, i, entry)
		{
			(void)printf("%-5s %-20s %s\n", lists[k].kind, text_of(entry, lists[k].id),
				     text_of(entry, lists[k].what));
		}
	}
	return shown != NULL ? command_print_json(shown, true) : EXIT_OK;
}

/* --- all of them ------------------------------------------------------------------------------- */

static const struct verb {
	const char *name;
	int ids; /* how many operands behind the VM */
} verbs[] = { { "add", 0 }, { "rm", 1 }, { "ls", 0 } };
enum { ADD, RM, LS };

/* Which; -1: a wrong command line, *code says with what to end. *rest: behind verb and VM. */
static int find_verb(struct device_command *command, int operands, char **argv, char ***rest,
		     int *code)
{
	const int named = command->target.api_socket == NULL ? 1 : 0;
	struct error e = { 0 };

	*rest = &argv[2 + named];
	for (size_t i = 0; operands > 0 && i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(argv[1], verbs[i].name) != 0) {
			continue;
		}
		if (operands != 1 + named + verbs[i].ids) {
			*code = command_wrong_operands(&command_device,
						       operands < 1 + named + verbs[i].ids
							       ? "an operand is missing for "
							       : "one operand too many for ",
						       verbs[i].name);
			return -1;
		}
		command->target.name = named != 0 ? argv[2] : NULL;
		if (command_value(vm_name_validate(command->target.name, &e), &e) < 0) {
			*code = command_fail(&e);
			return -1;
		}
		return (int)i;
	}
	*code = command_wrong_operands(&command_device, "add, rm or ls? not ",
				       operands > 0 ? argv[1] : "nothing");
	return -1;
}

static int work(struct device_command *command, int verb, int argc, char **argv, const char *id)
{
	struct client client = { .fd = -1 };
	auto_json json_t *config = NULL;
	struct error e = { 0 };
	int r = client_connect(&client, command->target.name, command->target.api_socket,
			       CLIENT_TIMEOUT_MS, &e);

	if (r == 0) {
		r = client_call(&client, "GET", "/vm/config", NULL, &config, &e);
	}
	if (r == 0 && verb == ADD) {
		r = add(&client, command, config, argc, argv, &e);
	} else if (r == 0 && verb == RM) {
		r = take_out(&client, command, config, id, &e);
	}
	client_close(&client);
	if (r < 0) {
		return command_fail(&e);
	}
	return verb == LS ? show(command, config) : EXIT_OK;
}

static int run(int argc, char **argv)
{
	auto_free struct device_command *command = malloc(sizeof(*command));
	char **again;
	struct error e = { 0 };
	char **rest;
	int operands, verb, code;

	if (command == NULL) {
		(void)error_set(&e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		return command_fail(&e);
	}
	memset(command, 0, offsetof(struct device_command, vm));
	vm_config_init(&command->vm);
	again = calloc((size_t)argc + 1, sizeof(*again));
	if (again == NULL) {
		(void)error_set(&e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		return command_fail(&e);
	}
	memcpy(again, argv, (size_t)argc * sizeof(*again));
	operands = command_parse(&command_device, command, &command->help, argc, argv, &code);
	if (operands >= 0) {
		verb = find_verb(command, operands, argv, &rest, &code);
		if (verb >= 0) {
			code = work(command, verb, argc, again, rest[0]);
		}
	}
	vm_config_finish(&command->vm);
	free(again);
	return code;
}

static const struct command_example examples[] = {
	{ "vmm device add web --disk data.img,id=data", "a disk more; prints its id" },
	{ "vmm device add web --net tap=tap1", "a network card on a tap that is there" },
	{ "vmm device ls web", "what there is" },
	{ "vmm device rm web data", "asks the guest, which should have unmounted it" },
	{ "vmm device rm --force web data", "takes it away" },
	{ NULL, NULL },
};

const struct command command_device = {
	.name = "device",
	.operands = " add|rm|ls NAME [ID]",
	.help = "add disks and network cards to a VM that runs, remove them",
	.options = &table,
	.run = run,
	.description =
		"*add* takes what vmm run takes as --disk and --net, and prints the id of each. "
		"The "
		"guest is told by ACPI and finds the device by itself. A tap has to be there, and "
		"be "
		"ours to use.\n\n"
		"*rm* asks the guest to give the device back, and waits until it has. Linux does "
		"so "
		"without asking anybody: unmount a disk before. A guest that does not within "
		"--timeout is an error; the request stays, and is fulfilled when the guest follows "
		"it after all, or by the next reset. With --force it is not asked.\n\n"
		"*ls* lists what there is: the kind, the id, and what is behind it.\n\n"
		"The VM's devices have to be on PCI, which is the default. What is added lives as "
		"long as the process of the VM; its definition stays as it is, so that vmm start "
		"starts it as it was.",
	.examples = examples,
	.careful = true,
};
