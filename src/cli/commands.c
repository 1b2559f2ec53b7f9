// SPDX-License-Identifier: Apache-2.0
/*
 * The table of commands, and what all of them share: finding one by name, usage and help, reading a
 * command line, printing JSON. Standard output is for data; all else goes to standard error.
 *
 * Main thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "elsewhere.h"
#include "exit_codes.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/vm_config.h"

#define COMMANDS_MAX 64

static const struct command *const starting[] = { &command_run,	  &command_create,
						  &command_start, &command_restore,
						  &command_fork,  &command_receive,
						  &command_serve };
static const struct command *const looking[] = { &command_ps,	 &command_inspect, &command_console,
						 &command_logs,	 &command_stats,   &command_metrics,
						 &command_events };
static const struct command *const steering[] = {
	&command_pause,	 &command_resume,  &command_reset,  &command_stop,     &command_kill,
	&command_wait,	 &command_rm,	   &command_device, &command_snapshot, &command_park,
	&command_unpark, &command_migrate, &command_upgrade
};
static const struct command *const helping[] = { &command_doctor, &command_api, &command_completion,
						 &command_version };
static const struct command *const hidden[] = { &command_man };

#define GROUP(title_, commands_)                                                           \
	{                                                                                  \
		.title = (title_), .commands = (commands_), .count = ARRAY_SIZE(commands_) \
	}
const struct command_group command_groups[] = {
	GROUP("Start a VM", starting), GROUP("Look at VMs", looking), GROUP("Steer a VM", steering),
	GROUP("Around it", helping),   GROUP(NULL, hidden),
};
const size_t command_group_count = ARRAY_SIZE(command_groups);

const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < command_group_count; i++) {
		for (size_t j = 0; j < command_groups[i].count; j++) {
			if (strcmp(command_groups[i].commands[j]->name, name) == 0) {
				return command_groups[i].commands[j];
			}
		}
	}
	return NULL;
}

int command_unknown(const char *name, struct error *e)
{
	struct option options[COMMANDS_MAX] = { 0 };
	struct option_table table = { .name = "commands", .options = options };
	const char *here = elsewhere_command(name);
	const char *meant;

	for (size_t i = 0; i < command_group_count; i++) {
		for (size_t j = 0; command_groups[i].title != NULL && j < command_groups[i].count;
		     j++) {
			const struct command *command = command_groups[i].commands[j];

			options[table.count].name = command->name;
			options[table.count++].careful = command->careful;
		}
	}
	(void)error_set(e, ERROR_USAGE, EINVAL, "'%.80s' is not a command", name);
	if (here != NULL) {
		return error_hint(e, "%s", here);
	}
	if (name[0] == '-') {
		return error_hint(e,
				  "a command comes first, such as vmm run; vmm --help lists them");
	}
	meant = options_nearest(&table, name);
	return meant != NULL
		       ? error_hint(e, "did you mean vmm %s? vmm --help lists the commands", meant)
		       : error_hint(e, "vmm --help lists the commands");
}

int command_value(int r, struct error *e)
{
	if (r < 0 && e->code == ERROR_CONFIG) {
		e->code = ERROR_USAGE;
	}
	return r;
}

int command_fail(const struct error *e)
{
	log_error_object(e);
	return e->code == ERROR_USAGE ? EXIT_USAGE : EXIT_VMM_ERROR;
}

void command_print_usage(bool to_stderr)
{
	FILE *out = to_stderr ? stderr : stdout;

	(void)fprintf(out, "usage: vmm COMMAND [OPTIONS]\n");
	for (size_t i = 0; i < command_group_count; i++) {
		const struct command_group *group = &command_groups[i];

		if (group->title == NULL) {
			continue;
		}
		(void)fprintf(out, "\n%s:\n", group->title);
		for (size_t j = 0; j < group->count; j++) {
			(void)fprintf(out, "  %-10s  %s\n", group->commands[j]->name,
				      group->commands[j]->help);
		}
	}
	(void)fprintf(out, "\n'vmm COMMAND --help' shows the options of a command.\n");
}

static void print_examples(const struct command_example *example)
{
	if (example == NULL) {
		return;
	}
	(void)printf("\nexamples:\n");
	for (; example->line != NULL; example++) {
		(void)printf("  %s\n      %s\n", example->line, example->help);
	}
}

bool command_next_exit(const char **exits, struct command_exit *ret)
{
	const char *line = *exits;
	int len;

	if (line == NULL || *line == '\0') {
		return false;
	}
	len = (int)strcspn(line, "\n");
	ret->code = line;
	ret->code_len = (int)strcspn(line, " ");
	ret->meaning = line + ret->code_len + 1;
	ret->meaning_len = len - ret->code_len - 1;
	*exits = line + len + (line[len] == '\n');
	return true;
}

static void print_exits(const char *exits)
{
	struct command_exit at;

	(void)printf("\nexit codes:\n");
	while (command_next_exit(&exits, &at)) {
		(void)printf("  %-5.*s  %.*s\n", at.code_len, at.code, at.meaning_len, at.meaning);
	}
}

void command_print_help(const struct command *command)
{
	size_t need = options_help(command->options, NULL, 0);
	auto_free char *text = malloc(need + 1);

	(void)printf("usage: vmm %s%s%s\n\n%s\n\n", command->name,
		     command->options->count > 0 ? " [OPTIONS]" : "", command->operands,
		     command->help);
	if (text != NULL) {
		(void)options_help(command->options, text, need + 1);
		(void)fputs(text, stdout);
	}
	print_examples(command->examples);
	if (command->exits != NULL) {
		print_exits(command->exits);
	}
}

static const struct option common_option_list[] = {
	{ .name = "json",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct common_options, json),
	  .help = "print JSON" },
	HELP_OPTION(struct common_options, help),
};
const struct option_table common_options = OPTION_TABLE("common", common_option_list);

static const struct option target_option_list[] = {
	{ .name = "api-sock",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct target, api_socket),
	  .argument = "PATH",
	  .help = "the VM whose API is at this socket, in place of NAME" },
};
const struct option_table target_options = OPTION_TABLE("target", target_option_list);

int command_parse(const struct command *command, void *object, const bool *help, int argc,
		  char **argv, int *code)
{
	struct error e = { 0 };
	uint64_t given;
	int r = options_parse_all(command->options, object, &given, argc, argv, &e);

	if (r < 0) {
		*code = command_fail(&e);
		return -1;
	}
	if (*help) {
		command_print_help(command);
		*code = EXIT_OK;
		return -1;
	}
	return r;
}

int command_no_operand(const char *operand, const char *hint, struct error *e)
{
	(void)error_set(e, ERROR_USAGE, EINVAL, "'%s': no operand expected", operand);
	return error_hint(e, "%s", hint);
}

int command_wrong_operands(const struct command *command, const char *what, const char *text)
{
	struct error e = { 0 };

	(void)error_set(&e, ERROR_USAGE, EINVAL, "vmm %s: %s%s", command->name, what, text);
	(void)error_hint(&e, "usage: vmm %s%s%s", command->name,
			 command->options->count > 0 ? " [OPTIONS]" : "", command->operands);
	return command_fail(&e);
}

/* What cannot be a VM's name makes the command line wrong, before anybody is looked for. */
static int check_names(const struct command *command, int count, char **names, int *code)
{
	bool many = strstr(command->operands, "NAME...") != NULL;
	struct error e = { 0 };

	for (int i = 0; i < count && (many || i == 0); i++) {
		if (strstr(command->operands, "NAME") != NULL &&
		    command_value(vm_name_validate(names[i], &e), &e) < 0) {
			*code = command_fail(&e);
			return -1;
		}
	}
	return 0;
}

/* `named` of them, the first ones, are not counted. */
static int check_count(const struct command *command, int operands, int named, int min, int max,
		       char **argv, int *code)
{
	if (operands < named + min) {
		*code = command_wrong_operands(
			command, operands < named ? "which VM?" : "an operand is missing", "");
		return -1;
	}
	if (operands - named > max) {
		*code = command_wrong_operands(command,
					       "one operand too many: ", argv[named + max + 1]);
		return -1;
	}
	return 0;
}

int command_parse_exactly(const struct command *command, void *object, const bool *help, int min,
			  int max, int argc, char **argv, int *code)
{
	int operands = command_parse(command, object, help, argc, argv, code);

	if (operands < 0 || check_count(command, operands, 0, min, max, argv, code) < 0 ||
	    check_names(command, operands, argv + 1, code) < 0) {
		return -1;
	}
	return operands;
}

int command_parse_target(const struct command *command, void *object, const bool *help,
			 struct target *target, int min, int max, int argc, char **argv, int *code)
{
	int operands = command_parse(command, object, help, argc, argv, code);
	int named = target->api_socket == NULL ? 1 : 0;

	if (operands < 0 || check_count(command, operands, named, min, max, argv, code) < 0 ||
	    check_names(command, named, argv + 1, code) < 0) {
		return -1;
	}
	operands -= named;
	target->name = named != 0 ? argv[1] : NULL;
	for (int i = 1; i <= operands; i++) {
		argv[i] = argv[i + named];
	}
	return operands;
}

int command_print_json(json_t *value, bool indent)
{
	auto_free char *text =
		value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_DIGITS |
							  (indent ? JSON_INDENT(2) : JSON_COMPACT))
			      : NULL;
	struct error e = { 0 };

	json_decref(value);
	if (text == NULL) {
		(void)error_set(&e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		return command_fail(&e);
	}
	(void)puts(text);
	return EXIT_OK;
}
