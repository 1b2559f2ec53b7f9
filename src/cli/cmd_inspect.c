// SPDX-License-Identifier: Apache-2.0
/* vmm inspect: all that is known of one VM, as JSON: what it says itself while it lives, the report
 * that it left when it has ended. */
#include <errno.h>
#include <string.h>

#include "client.h"
#include "command.h"
#include "end_report.h"
#include "exit_codes.h"
#include "vmm/cleanup.h"
#include "vmm/run_directory.h"

struct inspect {
	struct target target;
	bool json, help; /* `json`: it is JSON anyway */
};

static const struct option option_list[] = {
	{ .type = OPTION_INCLUDE,
	  .offset = offsetof(struct inspect, target),
	  .object = &target_options },
	{ .name = "json",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct inspect, json),
	  .help = "no effect: it always is JSON" },
	{ .name = "help",
	  .letter = 'h',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct inspect, help),
	  .help = "show this" },
};
static const struct option_table table = {
	.name = "inspect",
	.options = option_list,
	.count = ARRAY_SIZE(option_list),
};

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

/* *ret stays NULL if the VM lives. */
static int look_at_ended(const char *name, json_t **ret, struct error *e)
{
	auto_close int dir_fd = -1;
	auto_close int report_fd = -1;
	bool alive = false;
	int r = run_directory_find(name, &dir_fd, &alive, e);

	if (r < 0 || alive) {
		return r;
	}
	report_fd = end_report_open(dir_fd);
	*ret = json_pack("{s:s, s:{s:s}, s:o*}", "name", name, "vm", "state", "ended", "exit",
			 end_report_load(report_fd));
	return 0;
}

static int run(int argc, char **argv)
{
	struct inspect inspect = { 0 };
	struct error e = { 0 };
	json_t *object = NULL;
	int code, r = 0;

	if (command_parse_target(&command_inspect, &inspect, &inspect.help, &inspect.target, 0, 0,
				 argc, argv, &code) < 0) {
		return code;
	}
	if (inspect.target.name != NULL) {
		r = look_at_ended(inspect.target.name, &object, &e);
	}
	if (r == 0 && object == NULL) {
		r = ask(&inspect.target, &object, &e);
	}
	return r < 0 ? command_fail(&e) : command_print_json(object, true);
}

static const struct command_example examples[] = {
	{ "vmm inspect web | jq .config.drives", "the disks of a VM" },
	{ NULL, NULL },
};

const struct command command_inspect = {
	.name = "inspect",
	.operands = " NAME",
	.help = "print state and configuration of a VM",
	.options = &table,
	.run = run,
	.description =
		"Prints one JSON object: *name*; *vm* with what GET /vm answers (state, uptime, "
		"processors, memory, the current job); *config* with what GET /vm/config answers, "
		"which vmm run --config-file accepts.\n\n"
		"Of a VM that has ended there is *name*, *vm.state* and, if it left a report, "
		"*exit*.",
	.examples = examples,
};
