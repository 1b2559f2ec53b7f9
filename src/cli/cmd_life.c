// SPDX-License-Identifier: Apache-2.0
/* vmm pause, resume, reset: one request each. */
#include <errno.h>
#include <string.h>

#include "client.h"
#include "command.h"
#include "exit_codes.h"

struct life {
	struct target target;
	bool all, help;
};

#define LIFE_OPTIONS \
	OPTION_INCLUDED(struct life, target, target_options), HELP_OPTION(struct life, help)
static const struct option clock_list[] = {
	OPTION_INCLUDED(struct life, all, all_options),
	LIFE_OPTIONS,
};
/* Not --all: what it does to a guest cannot be taken back. */
static const struct option reset_list[] = { LIFE_OPTIONS };

/* One each: messages name the command. */
static const struct option_table pause_table = OPTION_TABLE("pause", clock_list),
				 resume_table = OPTION_TABLE("resume", clock_list),
				 reset_table = OPTION_TABLE("reset", reset_list);

/* What is asked of each. */
struct asking {
	struct life life;
	const char *method, *path;
	json_t *body;
};

static int request_one(const void *object, const char *name)
{
	const struct asking *asking = object;
	struct client client = { .fd = -1 };
	struct error e = { 0 };
	int r = client_connect(&client, name, asking->life.target.api_socket, CLIENT_TIMEOUT_MS,
			       &e);

	if (r == 0) {
		r = client_call(&client, asking->method, asking->path, asking->body, NULL, &e);
	}
	client_close(&client);
	if (r < 0 && name != NULL && strstr(e.msg, name) == NULL) {
		(void)error_prefix(&e, "VM '%s'", name);
	}
	return r < 0 ? command_fail(&e) : EXIT_OK;
}

static int request(const struct command *command, const char *method, const char *path,
		   const char *key, const char *value, int argc, char **argv)
{
	auto_json json_t *body = json_pack("{s:s}", key, value);
	struct asking asking = { .method = method, .path = path, .body = body };
	struct life *life = &asking.life;

	return command_for_each(command, &asking, &life->help, &life->target, &life->all,
				WHICH_LIVING, argc, argv, request_one);
}

static int run_pause(int argc, char **argv)
{
	return request(&command_pause, "PATCH", "/vm", "state", "Paused", argc, argv);
}

static int run_resume(int argc, char **argv)
{
	return request(&command_resume, "PATCH", "/vm", "state", "Resumed", argc, argv);
}

static int run_reset(int argc, char **argv)
{
	return request(&command_reset, "PUT", "/actions", "action_type", "Reset", argc, argv);
}

const struct command command_pause = {
	.name = "pause",
	.operands = " NAME...",
	.help = "stop the clock of a VM",
	.options = &pause_table,
	.run = run_pause,
	.description =
		"The guest's processors stop, disk and network requests that are under way are "
		"completed, nothing is lost. When this returns, the VM is paused. Pausing a paused "
		"VM changes nothing.",
};

const struct command command_resume = {
	.name = "resume",
	.operands = " NAME...",
	.help = "let a paused VM go on",
	.options = &resume_table,
	.run = run_resume,
	.description = "The guest goes on where vmm pause stopped it. Resuming a VM that runs "
		       "changes nothing.",
};

const struct command command_reset = {
	.name = "reset",
	.operands = " NAME...",
	.help = "reset the machine, as its reset button would",
	.careful = true,
	.options = &reset_table,
	.run = run_reset,
	.description =
		"The guest is not asked: what it has not written to its disks is lost, its memory "
		"is emptied, and the kernel starts anew. Sockets, console and log stay.",
};
