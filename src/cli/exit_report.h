/* SPDX-License-Identifier: Apache-2.0 */
/* `--exit-report FILE`: why the VM ended, as one JSON object, for scripts that do not want to guess
 * from an exit code. */
#ifndef VMM_SRC_CLI_EXIT_REPORT_H
#define VMM_SRC_CLI_EXIT_REPORT_H

#include "vmm/error.h"
#include "vmm/vm.h"

struct exit_report {
	const char *name;
	const char *reason; /* "power-off", "reboot", "panic", "triple-fault", "debug-exit",
			       "boot-loop", "timeout", "signal", "stopped", "error" */
	int exit_code;
	uint64_t uptime_ns;
	struct vm_stats stats;
	const struct error *error; /* NULL: none */
};

/* Creates or truncates the file now, so that a bad path is refused before the guest starts. *ret_fd
 * is the caller's. */
int exit_report_open(const char *path, int *ret_fd, struct error *e);
int exit_report_write(int fd, const struct exit_report *report, struct error *e);

#endif
