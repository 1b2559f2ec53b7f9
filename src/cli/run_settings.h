/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of a VM besides what the API configures: flags of `vmm run` and `vmm create`, and
 * "run" of a definition (definition.h), from one table. */
#ifndef VMM_SRC_CLI_RUN_SETTINGS_H
#define VMM_SRC_CLI_RUN_SETTINGS_H

#include "vmm/options.h"

/* Of any process around a VM: flags of `vmm serve` as well. */
struct process_settings {
	const char *exit_report;  /* NULL: none */
	uint64_t stop_timeout_ns; /* between the power button and the end */
	int sandbox;		  /* enum sandbox_mode, as the option table stores it */
};
extern const struct option_table process_settings_options;

/* Those of the following that any VM has, however it came about: what `vmm restore` and `vmm receive` have of them. */
extern const struct option_table outer_settings_options;

struct run_settings {
	const char *api_socket; /* besides the one in the VM's directory; NULL: none */
	uint64_t timeout_ns;	/* 0: none */
	int console;		/* enum run_console: what standard input and output are */
	struct process_settings process;
	bool debug_exit;
	bool paused; /* it starts so */
};
extern const struct option_table run_settings_options;

#endif
