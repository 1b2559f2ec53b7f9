/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures in the Prometheus text format (version 0.0.4). Who has figures writes them into a
 * metrics_text, one metric after the other with all of its samples, as the format demands. The
 * buffer grows on the heap; when memory is short the text is cut and `failed` set.
 */
#ifndef VMM_METRICS_H
#define VMM_METRICS_H

#include "vmm/types.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

struct metrics_text {
	char *data; /* NUL terminated once anything was written; free() it */
	size_t len, room;
	bool failed;
	const char *name; /* of the metric begun last */
};

/* A counter's name ends in "_total". `name` and `help` are literals of ours. */
void metrics_begin(struct metrics_text *text, const char *name, enum metric_type type,
		   const char *help);
/* `label` NULL: no label. The value of the label is escaped. */
void metrics_sample(struct metrics_text *text, const char *label, const char *label_value,
		    uint64_t value);
/* A metric with one sample without a label. */
void metrics_number(struct metrics_text *text, const char *name, enum metric_type type,
		    const char *help, uint64_t value);
void metrics_sample_seconds(struct metrics_text *text, const char *label, const char *label_value,
			    uint64_t nanoseconds);

#endif
