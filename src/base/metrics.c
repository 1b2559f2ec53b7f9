/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures as text (Prometheus exposition format 0.0.4): two comment lines for a metric, then a line
 * for each of its samples. Names and help are our own; values of labels may come from configuration
 * and are escaped as the format says.
 *
 * One thread at a time per text. A line that finds no memory is left out whole, so that what is
 * there is still valid.
 */
#include "vmm/metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cleanup.h"
#include "vmm/text.h"

#define NS_PER_S ((uint64_t)1000000000)

static void __printf_like(2, 3) put(struct metrics_text *text, const char *fmt, ...)
{
	struct text_buffer buffer = { text->data, text->len, text->room };
	auto_free char *line = NULL;
	va_list args;
	int len;

	if (text->failed) {
		return;
	}
	va_start(args, fmt);
	len = vasprintf(&line, fmt, args);
	va_end(args);
	if (len < 0) {
		line = NULL; /* not defined then */
	}
	text->failed = line == NULL || !text_buffer_add(&buffer, line, (size_t)len);
	text->data = buffer.data;
	text->len = buffer.len;
	text->room = buffer.room;
}

void metrics_begin(struct metrics_text *text, const char *name, enum metric_type type,
		   const char *help)
{
	text->name = name;
	put(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
	    type == METRIC_COUNTER ? "counter" : "gauge");
}

/* Backslash, quote and line feed, as the format wants it. NULL if memory is short. */
static char *escape(const char *value)
{
	size_t len = strlen(value);
	char *ret = len < SIZE_MAX / 2 ? malloc(2 * len + 1) : NULL;
	char *out = ret;

	for (; ret != NULL && *value != '\0'; value++) {
		if (*value == '\\' || *value == '"' || *value == '\n') {
			*out++ = '\\';
		}
		*out++ = *value == '\n' ? 'n' : *value;
	}
	if (ret != NULL) {
		*out = '\0';
	}
	return ret;
}

/* `number` is text already. */
static void sample(struct metrics_text *text, const char *label, const char *label_value,
		   const char *number)
{
	auto_free char *escaped = NULL;

	if (label == NULL) {
		put(text, "%s %s\n", text->name, number);
		return;
	}
	escaped = escape(label_value);
	if (escaped == NULL) {
		text->failed = true;
		return;
	}
	put(text, "%s{%s=\"%s\"} %s\n", text->name, label, escaped, number);
}

void metrics_sample(struct metrics_text *text, const char *label, const char *label_value,
		    uint64_t value)
{
	char number[24];

	(void)snprintf(number, sizeof(number), "%" PRIu64, value);
	sample(text, label, label_value, number);
}

void metrics_number(struct metrics_text *text, const char *name, enum metric_type type,
		    const char *help, uint64_t value)
{
	metrics_begin(text, name, type, help);
	metrics_sample(text, NULL, NULL, value);
}

void metrics_sample_seconds(struct metrics_text *text, const char *label, const char *label_value,
			    uint64_t nanoseconds)
{
	char number[32];

	(void)snprintf(number, sizeof(number), "%" PRIu64 ".%09" PRIu64, nanoseconds / NS_PER_S,
		       nanoseconds % NS_PER_S);
	sample(text, label, label_value, number);
}
