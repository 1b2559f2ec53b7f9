// SPDX-License-Identifier: Apache-2.0
/* vmm version */
#include <stdio.h>

#include "command.h"
#include "exit_codes.h"

static const struct option_table table = { .name = "version" };

static int run(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	(void)printf("vmm " VMM_VERSION "\n");
	return EXIT_OK;
}

const struct command command_version = {
	.name = "version",
	.operands = "",
	.help = "print the version",
	.options = &table,
	.run = run,
};
