// SPDX-License-Identifier: Apache-2.0
/* vmm pause, resume, reset: one request each. */
#include <errno.h>
#include <string.h>

#include "client.h"
#include "command.h"
#include "exit_codes.h"

struct life {
	struct target target;
	bool help;
};

#define LIFE_OPTIONS                                                       \
	{ .type = OPTION_INCLUDE,                                          \
	  .offset = offsetof(struct life, target),                         \
	  .object = &target_options },                                     \
	{                                                                  \
		.name = "help", .letter = 'h', .type = OPTION_FLAG,        \
		.offset = offsetof(struct life, help), .help = "show this" \
	}
static const struct option option_list[] = { LIFE_OPTIONS };

/* One each: messages name the command. */
#define TABLE(name_)                                                                      \
	{                                                                                 \
		.name = (name_), .options = option_list, .count = ARRAY_SIZE(option_list) \
	}
static const struct option_table pause_table = TABLE("pause"), resume_table = TABLE("resume"),
				 reset_table = TABLE("reset");

static int request(const struct command *command, const char *method, const char *path,
		   const char *key, const char *value, int argc, char **argv)
{
	struct client client = { .fd = -1 };
	struct error e = { 0 };
	auto_json json_t *body = json_pack("{s:s}", key, value);
	struct life life = { 0 };
	int code, r;

	if (command_parse_target(command, &life, &life.help, &life.target, 0, 0, argc, argv,
				 &code) < 0) {
		return code;
	}
	r = client_connect(&client, life.target.name, life.target.api_socket, CLIENT_TIMEOUT_MS,
			   &e);
	if (r == 0) {
		r = client_call(&client, method, path, body, NULL, &e);
	}
	client_close(&client);
	return r < 0 ? command_fail(&e) : EXIT_OK;
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
	.operands = " NAME",
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
	.operands = " NAME",
	.help = "let a paused VM go on",
	.options = &resume_table,
	.run = run_resume,
	.description = "The guest goes on where vmm pause stopped it. Resuming a VM that runs "
		       "changes nothing.",
};

const struct command command_reset = {
	.name = "reset",
	.operands = " NAME",
	.help = "reset the machine, as its reset button would",
	.options = &reset_table,
	.run = run_reset,
	.description =
		"The guest is not asked: what it has not written to its disks is lost, its memory "
		"is emptied, and the kernel starts anew. Sockets, console and log stay.",
};
