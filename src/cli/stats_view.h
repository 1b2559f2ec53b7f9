/* SPDX-License-Identifier: Apache-2.0 */
/* The table of `vmm stats`: which columns there is room for, and how a row looks. Pure. */
#ifndef VMM_SRC_CLI_STATS_VIEW_H
#define VMM_SRC_CLI_STATS_VIEW_H

#include <stdio.h>

#include "vmm/types.h"

#define STATS_HISTORY 16 /* samples that the bars show */

/* Processor time of the last samples, the newest last, each in parts of 255 of all that the VM may
 * have. */
struct stats_history {
	uint32_t count;
	uint8_t samples[STATS_HISTORY];
};
void stats_history_add(struct stats_history *history, double cpu_percent, uint64_t vcpus);

struct stats_row {
	const char *name, *state;
	bool answered;						/* memory and up are known */
	bool known;						/* the rates are */
	double cpu_percent, exits_per_s, disk_per_s, net_per_s; /* the last two in bytes */
	uint64_t resident, memory, uptime_s;
	const struct stats_history *history;
};

/* Width 0: no end, which shows all columns but the bars. `utf8`: bars are block elements. */
struct stats_view {
	unsigned int width;
	bool utf8;
};
void stats_view_header(const struct stats_view *view, FILE *out);
void stats_view_row(const struct stats_view *view, const struct stats_row *row, FILE *out);

#endif
