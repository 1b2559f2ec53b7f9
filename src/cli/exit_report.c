// SPDX-License-Identifier: Apache-2.0
/* See exit_report.h. Opened before the sandbox, written from within it: open descriptor, memory and
 * write(2) are all it needs. */
#include "exit_report.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/text.h"
#include "vmm/json.h"

int exit_report_open(const char *path, int *ret_fd, struct error *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);

	if (fd < 0) {
		(void)error_set_sys(e, ERROR_CONFIG, errno, "--exit-report: open '%s'", path);
		return error_hint(
			e, "name a file in a directory that exists and that you may write to");
	}
	/* Fixed, so that the first JSON object does not read /dev/urandom from within the sandbox:
	 * no hostile keys here. */
	json_object_seed(1);
	*ret_fd = fd;
	return 0;
}

/* JSON is UTF-8; a file name in a message need not be, and a message may have been cut. */
static json_t *make_string(const char *text)
{
	return json_any_string(text, "?");
}

static json_t *describe(const struct exit_report *report)
{
	const struct vm_stats *stats = &report->stats;
	const uint64_t uptime_us = report->uptime_ns / 1000;
	json_t *root = json_pack(
		"{s:s, s:o, s:s, s:i, s:f, s:{s:I, s:I, s:I, s:I}}", "vmm_version", VMM_VERSION,
		"name", make_string(report->name), "reason", report->reason, "exit_code",
		report->exit_code, "uptime_seconds", (double)uptime_us / 1e6, "stats", "resets",
		(json_int_t)stats->resets, "exits_io", (json_int_t)stats->exits_io, "exits_mmio",
		(json_int_t)stats->exits_mmio, "exits_other", (json_int_t)stats->exits_other);

	if (root != NULL && report->error != NULL) {
		(void)json_object_set_new(root, "error",
					  json_pack("{s:s, s:o, s:o}", "code",
						    error_code_name(report->error->code), "message",
						    make_string(report->error->msg), "hint",
						    make_string(report->error->hint)));
	}
	return root;
}

int exit_report_write(int fd, const struct exit_report *report, struct error *e)
{
	json_t *root = describe(report);
	auto_free char *text = root != NULL ? json_dumps(root, JSON_INDENT(2) | JSON_DIGITS) : NULL;
	size_t len;
	int r;

	json_decref(root);
	if (text == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "--exit-report: out of memory");
	}
	len = strlen(text);
	text[len] = '\n'; /* over the NUL: written by length */
	r = write_all(fd, text, len + 1);
	return r < 0 ? error_set_sys(e, ERROR_CONFIG, -r, "--exit-report: write") : 0;
}
