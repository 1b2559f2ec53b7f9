/* SPDX-License-Identifier: Apache-2.0 */
/* What `vmm run` was told: the VM's configuration and what only this command knows. */
#ifndef VMM_SRC_CLI_RUN_CONFIG_H
#define VMM_SRC_CLI_RUN_CONFIG_H

#include "stdio_console.h"
#include "vmm/options.h"
#include "vmm/vm_config.h"

struct run_config {
	const char *config_file;  /* instead of the flags that describe the VM; NULL: none */
	const char *api_socket;	  /* besides the one in the VM's directory; NULL: none */
	const char *exit_report;  /* NULL: none */
	uint64_t timeout_ns;	  /* 0: none */
	uint64_t stop_timeout_ns; /* between the power button and the end */
	int console;		  /* enum run_console: what standard input and output are */
	int sandbox;		  /* enum sandbox_mode, as the option table stores it */
	bool no_api;
	bool detach;
	bool quiet;
	bool help;
	/* Copies of device strings, which the configuration points into. */
	char *strings[VM_DISKS_MAX + VM_NETS_MAX];
	uint32_t string_count;
	struct vm_config vm; /* at the end: of its arrays only what is used is touched */
};

extern const struct option_table run_options;

/* argv[0] is "run". */
int run_config_parse(struct run_config *config, int argc, char **argv, struct error *e);
/* A value that no VM can have makes the command line wrong (ERROR_USAGE): what the start would refuse
 * is refused before a VM in the background has a process. */
int run_config_check(const struct run_config *config, struct error *e);
void run_config_finish(struct run_config *config);

#endif
