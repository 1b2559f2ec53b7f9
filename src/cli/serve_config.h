/* SPDX-License-Identifier: Apache-2.0 */
/* What `vmm serve`, or vmm under the name `firecracker`, was told. */
#ifndef VMM_SRC_CLI_SERVE_CONFIG_H
#define VMM_SRC_CLI_SERVE_CONFIG_H

#include "vmm/options.h"
#include "vmm/request.h"

struct serve_config {
	const char *api_socket, *name, *id;
	const char *config_file;
	const char *log_path, *metrics_path, *module;
	const char *exit_report;
	int level; /* enum logger_level */
	bool show_level, show_log_origin;
	uint64_t body_max;
	uint64_t stop_timeout_ns;
	int sandbox; /* enum sandbox_mode */
	bool no_api;
	/* Firecracker's, see serve_options. */
	bool no_seccomp, boot_timer, enable_pci, snapshot_version;
	const char *seccomp_filter, *metadata, *describe_snapshot;
	uint64_t mmds_size, start_time_us, start_time_cpu_us, parent_cpu_time_us;
	bool help, version;
	uint64_t given; /* flags, see options_given() */
};

extern const struct option_table serve_options;

/* argv[0] is the command's name. */
int serve_config_parse(struct serve_config *config, int argc, char **argv, struct error *e);

#endif
