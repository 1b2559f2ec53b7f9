/* SPDX-License-Identifier: Apache-2.0 */
/* What `vmm run` or `vmm create` was told: the VM's configuration and what only this command knows. */
#ifndef VMM_SRC_CLI_RUN_CONFIG_H
#define VMM_SRC_CLI_RUN_CONFIG_H

#include "run_settings.h"
#include "stdio_console.h"
#include "vmm/options.h"
#include "vmm/vm_config.h"

struct run_config {
	const char *config_file;	  /* what it says is overridden by flags; NULL: none */
	const struct option_table *table; /* of the command */
	uint64_t given;			  /* flags, see options_given() */
	struct run_settings settings;
	bool no_api;
	bool detach;
	const char *cpu; /* a level, or a file of a CPU template or baseline; NULL: not given */
	bool quiet;
	bool help;
	struct vm_config vm; /* at the end: of its arrays only what is used is touched */
};

extern const struct option_table run_options, create_options;
/* Of struct vm_config: --disk and --net. */
extern const struct option_table run_device_options;

/* By one of both tables. argv[0] is its name. */
int run_config_parse(struct run_config *config, const struct option_table *table, int argc,
		     char **argv, struct error *e);
/* A value that no VM can have makes the command line wrong (ERROR_USAGE): what the start would refuse
 * is refused before a VM in the background has a process. */
int run_config_check(const struct run_config *config, struct error *e);
void run_config_finish(struct run_config *config);

#endif
