// SPDX-License-Identifier: Apache-2.0
/*
 * The program's entry: finds the command in the table and runs it. Everything printed to standard
 * output is data; messages go to standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "exit_codes.h"
#include "vmm/log.h"

static const struct command *const commands[] = {
	&command_run,
	&command_doctor,
	&command_version,
};

static void print_usage(FILE *out)
{
	(void)fprintf(out, "usage: vmm COMMAND [OPTIONS]\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		(void)fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->help);
	}
	(void)fprintf(out, "\n'vmm COMMAND --help' shows the options of a command.\n");
}

int command_fail(const struct error *e)
{
	log_error_object(e);
	return e->code == ERROR_USAGE ? EXIT_USAGE : EXIT_VMM_ERROR;
}

void command_print_help(const struct command *command)
{
	size_t need = options_help(command->options, NULL, 0);
	char *text = malloc(need + 1);

	(void)printf("usage: vmm %s%s%s\n\n%s\n\n", command->name,
		     command->options->count > 0 ? " [OPTIONS]" : "", command->operands,
		     command->help);
	if (text != NULL) {
		(void)options_help(command->options, text, need + 1);
		(void)fputs(text, stdout);
	}
	free(text);
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i]->name, name) == 0) {
			return commands[i];
		}
	}
	return NULL;
}

/* A descriptor of ours must never be taken for a standard one: what a guest says would go there. */
static bool fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) {
			return false;
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	const struct command *command;

	if (!fill_standard_descriptors()) {
		return EXIT_VMM_ERROR;
	}

	(void)signal(SIGPIPE, SIG_IGN);
	log_init(LOG_INFO, STDERR_FILENO);
	/* One heap: a second one for each thread that allocates would cost address space and dirty
	 * pages. */
	(void)mallopt(M_ARENA_MAX, 1);
	if (argc < 2) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		print_usage(stdout);
		return EXIT_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		return command_version.run(1, argv + 1);
	}
	command = find_command(argv[1]);
	if (command == NULL) {
		struct error e;

		(void)error_set(&e, ERROR_USAGE, EINVAL, "'%s' is not a command", argv[1]);
		(void)error_hint(&e, "vmm --help lists the commands");
		return command_fail(&e);
	}
	return command->run(argc - 1, argv + 1);
}
