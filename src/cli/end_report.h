/* SPDX-License-Identifier: Apache-2.0 */
/* How a VM ended, from the exit.json in its directory (exit_report.h writes it). */
#ifndef VMM_SRC_CLI_END_REPORT_H
#define VMM_SRC_CLI_END_REPORT_H

#include "vmm/json.h"

struct end_report {
	char reason[24]; /* "": there is no report */
	int exit_code;	 /* 0-255 */
};

/* Opens it, for reading later: a VM may take it along when it ends. -1: not there. */
int end_report_open(int dir_fd);
/* NULL if there is none, or not a whole one. The caller owns the object. */
json_t *end_report_load(int fd);
/* From the directory, at once. */
void end_report_read(struct end_report *report, int dir_fd);
void end_report_take(struct end_report *report, const json_t *root);

#endif
