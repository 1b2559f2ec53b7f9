// SPDX-License-Identifier: Apache-2.0
/* vmm version */
#include <stdio.h>

#include "command.h"
#include "exit_codes.h"

static const struct option option_list[] = {
	{ .type = OPTION_INCLUDE, .offset = 0, .object = &common_options },
};
static const struct option_table table = OPTION_TABLE("version", option_list);

static int run(int argc, char **argv)
{
	struct common_options options = { 0 };
	int code;

	if (command_parse_exactly(&command_version, &options, &options.help, 0, 0, argc, argv,
				  &code) < 0) {
		return code;
	}
	if (options.json) {
		return command_print_json(json_pack("{s:s}", "version", VMM_VERSION), true);
	}
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
