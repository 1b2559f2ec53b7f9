/* SPDX-License-Identifier: Apache-2.0 */
/* What `vmm serve`, or vmm under the name `firecracker`, was told. */
#ifndef VMM_SRC_CLI_SERVE_CONFIG_H
#define VMM_SRC_CLI_SERVE_CONFIG_H

#include "run_settings.h"
#include "vmm/options.h"
#include "vmm/request.h"

struct serve_config {
	const char *api_socket, *name, *id;
	const char *config_file;
	struct logger_settings logger;
	struct metrics_settings metrics;
	struct process_settings process;
	uint64_t body_max;
	bool no_api;
	/* Firecracker's, see serve_options. */
	bool no_seccomp, boot_timer, enable_pci, snapshot_version;
	const char *seccomp_filter, *metadata, *describe_snapshot;
	uint64_t mmds_size, start_time_us, start_time_cpu_us, parent_cpu_time_us;
	bool help, version;
	uint64_t given; /* flags, see options_given() */
};

extern const struct option_table serve_options;

/* A command line without a command, but with the time at which a jailer has started: argv[0] is the
 * program's name. What else is wrong with it does not matter. */
bool serve_config_by_jailer(int argc, char *const argv[]);
/* It wants to know something, and no VM. */
bool serve_config_asks(const struct serve_config *config);
/* argv[0] is the command's name. */
int serve_config_parse(struct serve_config *config, int argc, char **argv, struct error *e);

#endif
