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

static json_t *describe(const struct exit_report *report)
{
	json_t *root = json_pack(
		"{s:s, s:s, s:s, s:i, s:f, s:{s:I, s:I, s:I, s:I}}", "vmm_version", VMM_VERSION,
		"name", report->name, "reason", report->reason, "exit_code", report->exit_code,
		"uptime_seconds", (double)report->uptime_ns / 1e9, "stats", "resets",
		(json_int_t)report->stats.resets, "exits_io", (json_int_t)report->stats.exits_io,
		"exits_mmio", (json_int_t)report->stats.exits_mmio, "exits_other",
		(json_int_t)report->stats.exits_other);

	if (root != NULL && report->error != NULL) {
		(void)json_object_set_new(
			root, "error",
			json_pack("{s:s, s:s, s:s}", "code", error_code_name(report->error->code),
				  "message", report->error->msg, "hint", report->error->hint));
	}
	return root;
}

int exit_report_write(int fd, const struct exit_report *report, struct error *e)
{
	json_t *root = describe(report);
	auto_free char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
	size_t len;

	json_decref(root);
	if (text == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "--exit-report: out of memory");
	}
	len = strlen(text);
	text[len] = '\n'; /* over the NUL: written by length */
	for (size_t done = 0; done < len + 1;) {
		ssize_t n = write(fd, text + done, len + 1 - done);

		if (n < 0 && errno != EINTR) {
			return error_set_sys(e, ERROR_CONFIG, errno, "--exit-report: write");
		}
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}
