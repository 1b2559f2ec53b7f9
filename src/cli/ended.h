/* SPDX-License-Identifier: Apache-2.0 */
/* A VM whose end is waited for or brought about (stop, kill, wait, rm): its open directory, whose
 * lock says when it has ended, and the report in it, which says how. */
#ifndef VMM_SRC_CLI_ENDED_H
#define VMM_SRC_CLI_ENDED_H

#include "vm_status.h"
#include "vmm/error.h"

#define ENDED_STOP_MS 10000 /* for a VM that was told to stop at once, or was killed */

struct ended {
	const char *name;
	int dir_fd, report_fd; /* -1: not open */
	bool alive;
};

/* `ended` is overwritten. */
int ended_open(struct ended *ended, const char *name, struct error *e);
/* As above; one that has ended is ERROR_NOT_FOUND. */
int ended_open_living(struct ended *ended, const char *name, struct error *e);
/* Accepts one that was not opened whole, not a zeroed one. */
void ended_close(struct ended *ended);
/* By its API. */
int ended_get_state(const struct ended *ended, struct vm_status *status, struct error *e);
int ended_action(const struct ended *ended, const char *action, struct error *e);
int ended_signal(const struct ended *ended, int number, struct error *e);
/* SIGKILL, and its end. */
int ended_kill(const struct ended *ended, struct error *e);
/* Milliseconds for a duration in nanoseconds, as waiting takes them. */
int ended_ms(uint64_t ns);

#endif
