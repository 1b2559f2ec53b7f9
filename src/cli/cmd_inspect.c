// SPDX-License-Identifier: Apache-2.0
/* vmm inspect: all that is known of one VM, as JSON: what it says itself while it lives, the report
 * that it left when it has ended. */
#include <errno.h>
#include <string.h>

#include "client.h"
#include "command.h"
#include "definition.h"
#include "end_report.h"
#include "exit_codes.h"
#include "parked.h"
#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/log.h"
#include "vmm/run_directory.h"

struct inspect {
	struct target target;
	bool json, help; /* `json`: it is JSON anyway */
};

static const struct option option_list[] = {
	OPTION_INCLUDED(struct inspect, target, target_options),
	{ .name = "json",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct inspect, json),
	  .help = "no effect: it always is JSON" },
	HELP_OPTION(struct inspect, help),
};
static const struct option_table table = OPTION_TABLE("inspect", option_list);

static int ask(const struct target *target, json_t **ret, struct error *e)
{
	struct client client = { .fd = -1 };
	json_t *vm = NULL, *config = NULL;
	int r = client_connect(&client, target->name, target->api_socket, CLIENT_TIMEOUT_MS, e);

	if (r == 0) {
		r = client_call(&client, "GET", "/vm", NULL, &vm, e);
	}
	if (r == 0) {
		r = client_call(&client, "GET", "/vm/config", NULL, &config, e);
	}
	client_close(&client);
	if (r == 0) {
		*ret = json_pack("{s:s*, s:o*, s:o*}", "name", target->name, "vm", vm, "config",
				 config);
		return 0;
	}
	json_decref(vm);
	json_decref(config);
	return r;
}

/* A definition that cannot be read is said, and no reason to hide the rest. */
static void add_definition(json_t *object, const char *name)
{
	struct definition definition;
	struct error e = { 0 };

	if (definition_load(&definition, name, &e) < 0) {
		if (e.code != ERROR_NOT_FOUND) {
			log_error_object(&e);
		}
		return;
	}
	if (definition.kernel_cmdline != NULL) {
		(void)json_object_set_new(json_object_get(object, "vm"), "kernel_cmdline",
					  json_string(definition.kernel_cmdline));
	}
	(void)json_object_set(object, "run", json_object_get(definition.root, "run"));
	(void)json_object_set(object, "config", json_object_get(definition.root, "config"));
	definition_finish(&definition);
}

/* *ret stays NULL if the VM lives. */
static int look_at_ended(const char *name, json_t **ret, struct error *e)
{
	auto_close int dir_fd = -1;
	auto_close int report_fd = -1;
	const char *state = "ended";
	bool alive = false;
	int r = run_directory_find(name, &dir_fd, &alive, e);

	if (r < 0 && e->code == ERROR_NOT_FOUND && definition_exists(name)) {
		state = "defined";
		r = 0;
	}
	if (r < 0 || alive) {
		return r;
	}
	if (parked_state(name) == PARKED_PARKED) {
		state = "parked";
	}
	report_fd = dir_fd >= 0 ? end_report_open(dir_fd) : -1;
	*ret = json_pack("{s:s, s:{s:s}}", "name", name, "vm", "state", state);
	add_definition(*ret, name);
	if (report_fd >= 0) {
		(void)json_object_set_new(*ret, "exit", end_report_load(report_fd));
	}
	return 0;
}

static int look(const struct target *target, json_t **ret, struct error *e)
{
	int r = target->name != NULL ? look_at_ended(target->name, ret, e) : 0;

	return r == 0 && *ret == NULL ? ask(target, ret, e) : r;
}

static int run(int argc, char **argv)
{
	struct inspect inspect = { 0 };
	struct vm_names names = { 0 };
	auto_json json_t *list = json_array();
	json_t *object = NULL;
	int code;

	if (command_parse_names(&command_inspect, &inspect, &inspect.help, &inspect.target, NULL,
				WHICH_ALL, &names, argc, argv, &code) < 0) {
		return code;
	}
	code = EXIT_OK;
	for (size_t i = 0; i < names.count; i++) {
		struct error e = { 0 };

		object = NULL;
		inspect.target.name = names.names[i];
		if (look(&inspect.target, &object, &e) < 0) {
			code = MAX(code, command_fail(&e));
		} else if (names.many) {
			(void)json_array_append_new(list, object);
		}
	}
	if (names.many) {
		object = json_incref(list);
	}
	if (object != NULL || code == EXIT_OK) {
		code = MAX(code, command_print_json(object, true));
	}
	vm_names_finish(&names);
	return code;
}

static const struct command_example examples[] = {
	{ "vmm inspect web | jq .config.drives", "the disks of a VM" },
	{ NULL, NULL },
};

const struct command command_inspect = {
	.name = "inspect",
	.operands = " NAME...",
	.help = "print state and configuration of a VM",
	.options = &table,
	.run = run,
	.description =
		"Prints one JSON object: *name*; *vm* with what GET /vm answers (state, uptime, "
		"processors, memory, the current job); *config* with what GET /vm/config answers, "
		"which vmm run --config-file accepts.\n\n"
		"Of several VMs it is an array of such objects.\n\n"
		"Of a VM that has ended, or is only defined, *vm* has the state and the kernel's "
		"command line; *config* and *run* (flags that the API has not) are what vmm start "
		"takes; *exit* is the report of its end.",
	.examples = examples,
};
