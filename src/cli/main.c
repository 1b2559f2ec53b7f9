// SPDX-License-Identifier: Apache-2.0
/*
 * The program's entry: finds the command (commands.c) and runs it. Everything printed to standard
 * output is data; messages go to standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "exit_codes.h"
#include "vmm/log.h"

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

/* Data that did not reach standard output is an error; a reader that has gone is not. */
static int finish_output(int code)
{
	struct pollfd reader = { .fd = STDOUT_FILENO };
	struct error e;

	errno = 0;
	if (fflush(stdout) == 0 && ferror(stdout) == 0) {
		return code;
	}
	if (errno == EPIPE || poll(&reader, 1, 0) > 0) {
		return code;
	}
	(void)error_set_sys(&e, ERROR_CONFIG, errno != 0 ? errno : EIO, "standard output");
	(void)command_fail(&e);
	return code == EXIT_OK ? EXIT_VMM_ERROR : code;
}

static int unknown_command(const char *name)
{
	struct error e;

	(void)command_unknown(name, &e);
	return command_fail(&e);
}

/* vmm help [COMMAND] */
static int print_help(const char *name)
{
	const struct command *command = name != NULL ? command_find(name) : NULL;

	if (name != NULL && command == NULL) {
		return unknown_command(name);
	}
	if (command != NULL) {
		command_print_help(command);
	} else {
		command_print_usage(false);
	}
	return EXIT_OK;
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
	if (firecracker_called(argc, argv)) {
		return firecracker_main(argc, argv);
	}
	if (argc < 2) {
		command_print_usage(true);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		return finish_output(print_help(argc > 2 ? argv[2] : NULL));
	}
	if (strcmp(argv[1], "--version") == 0) {
		return finish_output(command_version.run(1, argv + 1));
	}
	command = command_find(argv[1]);
	if (command == NULL) {
		return unknown_command(argv[1]);
	}
	return finish_output(command->run(argc - 1, argv + 1));
}
