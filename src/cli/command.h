/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the program: one file each, one table. */
#ifndef VMM_SRC_CLI_COMMAND_H
#define VMM_SRC_CLI_COMMAND_H

#include "vmm/error.h"
#include "vmm/options.h"

struct command {
	const char *name;
	const char *operands; /* for the usage line, "" if none */
	const char *help;     /* one line */
	const struct option_table *options;
	/* argv[0] is the command's name. Returns the process's exit code. */
	int (*run)(int argc, char **argv);
};

extern const struct command command_run, command_doctor, command_version;

/* Prints the error, and gives the exit code that it stands for. */
int command_fail(const struct error *e);
void command_print_help(const struct command *command);

#endif
