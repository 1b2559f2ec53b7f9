/* SPDX-License-Identifier: Apache-2.0 */
/* One VM from its settings to its end, for `vmm run` and `vmm start` (cmd_run.c). */
#ifndef VMM_SRC_CLI_RUN_H
#define VMM_SRC_CLI_RUN_H

#include "definition.h"
#include "run_config.h"
#include "vmm/instance.h"

/* A config file. Messages name --config-file. */
int run_apply_file(struct instance *instance, const char *path, struct error *e);
/* Makes requests of flags. The instance has not been started. */
int run_configure(struct instance *instance, struct run_config *config, struct error *e);
/* Starts what was defined: at once and to its end with `attach`, else in the background, and returns
 * when it runs. The exit code. */
int run_defined(const char *name, const struct definition *definition, bool attach);

#endif
