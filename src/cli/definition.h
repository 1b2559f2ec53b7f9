/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What STATE/NAME/vm.json (vmm/definition_store.h) says, so that `vmm start` can start the VM again:
 *
 *	{"version": 1,
 *	 "created": true,		made by `vmm create`: `vmm run` does not replace it
 *	 "kernel_cmdline": "...",	of the last start, for people; not read
 *	 "run": {...},			flags that the API has not (run_settings.h)
 *	 "config": {...}}		all that the API configures, as a config file has it
 *
 * Paths are absolute. "run" and "config" are written and read by option tables. Every key but
 * "kernel_cmdline" and "created" is required, others are refused, and so is a higher version. What a
 * client changes while the VM runs does not change it.
 *
 * The file is the user's own, as a config file is; it is read as strictly.
 */
#ifndef VMM_SRC_CLI_DEFINITION_H
#define VMM_SRC_CLI_DEFINITION_H

#include "run_settings.h"
#include "vmm/json.h"

#define DEFINITION_VERSION 1

struct definition {
	json_t *root; /* owns what the others point to */
	const json_t *config;
	struct run_settings settings;
	const char *kernel_cmdline; /* NULL: never started */
	bool created;
};

/* Takes `config` over; NULL stands for "out of memory", as the result does. `kernel_cmdline` may be
 * NULL. */
json_t *definition_make(json_t *config, const struct run_settings *settings,
			const char *kernel_cmdline, bool created);
/* For who holds the lock of that name. On any thread. */
int definition_save(const char *name, const json_t *definition, struct error *e);
/* ERROR_NOT_FOUND if there is none. */
int definition_load(struct definition *definition, const char *name, struct error *e);
/* Can it be started? Not one with a network card that was somebody's open descriptor. */
int definition_check(const struct definition *definition, struct error *e);
/* Accepts a zeroed one. */
void definition_finish(struct definition *definition);

#endif
