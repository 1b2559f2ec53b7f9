/* SPDX-License-Identifier: Apache-2.0 */
/* One VM from its settings to its end, for `vmm run` and `vmm start` (cmd_run.c). */
#ifndef VMM_SRC_CLI_RUN_H
#define VMM_SRC_CLI_RUN_H

#include "definition.h"
#include "run_config.h"
#include "vmm/instance.h"

/* A config file. Messages name --config-file. `edit` has the file before anybody reads it; NULL:
 * nobody changes it. */
int run_apply_file(struct instance *instance, const char *path,
		   int (*edit)(json_t *file, const void *arg, struct error *e), const void *arg,
		   struct error *e);
/* Flags that say the same as a resource of a file. */
struct overlay {
	const char *resource;
	const struct option_table
		*part; /* of the resource; `object` is what the flags made of it */
	const void *object;
	const struct option_table *table; /* of the command line, on which `given` was */
	uint64_t given;
	bool add; /* if the file does not have the resource */
};
/* What was given takes the place of what the file says. */
int run_overlay(json_t *file, const struct overlay *flags, struct error *e);
/* By flags, and the file that they name. The instance has not been started. */
int run_configure(struct instance *instance, const struct run_config *config, struct error *e);
/* Starts what was defined: at once and to its end with `attach`, else in the background, and returns
 * when it runs. The exit code. */
int run_defined(const char *name, const struct definition *definition, bool attach);

/* A VM that is restored from a snapshot. Strings are borrowed during the call. */
struct run_restore {
	const char *name; /* NULL: the first free one */
	struct run_settings settings;
	const struct snapshot_load_request *request;
	const struct receive_request *receive; /* instead: it comes from elsewhere */
	/* Before that, in the VM's process: fills in what `receive` lacks. NULL: nothing. */
	int (*carry)(void *arg, struct error *e);
	void *carry_arg;
	const struct net_fd *net_fds; /* of either */
	uint32_t net_fd_count;
	bool detach, quiet;
	/* It is one of its definition, which stays as it is. */
	bool definition_stays;
};
/* To its end, or until it runs in the background. The exit code. */
int run_restored(const struct run_restore *restore);

#endif
