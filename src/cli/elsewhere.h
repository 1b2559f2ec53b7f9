/* SPDX-License-Identifier: Apache-2.0 */
/* Words of other programs' users, and what stands here in their place (elsewhere.c). */
#ifndef VMM_SRC_CLI_ELSEWHERE_H
#define VMM_SRC_CLI_ELSEWHERE_H

#include "vmm/options.h"

/* A command of another program's: a hint that says what is here; NULL if it is nobody's. */
const char *elsewhere_command(const char *name);

/* Flags, for the tables of commands: those that start a VM, `vmm logs`, those that end or remove. */
extern const struct option_foreign elsewhere_run_flags[], elsewhere_restore_flags[],
	elsewhere_serve_flags[], elsewhere_logs_flags[], elsewhere_end_flags[];

#endif
