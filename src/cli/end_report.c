// SPDX-License-Identifier: Apache-2.0
/* See end_report.h. The file may be empty (the VM lives, or was killed) or half written. */
#include "end_report.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cleanup.h"

#define REPORT_MAX KIB(64)

int end_report_open(int dir_fd)
{
	return openat(dir_fd, "exit.json",
		      O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

json_t *end_report_load(int fd)
{
	auto_free char *text = fd >= 0 ? malloc(REPORT_MAX) : NULL;
	ssize_t n = text != NULL ? pread(fd, text, REPORT_MAX, 0) : 0;
	json_t *root = NULL;

	if (n > 0 && json_parse(&root, text, (size_t)n, NULL) == 0 && !json_is_object(root)) {
		json_decref(root);
		root = NULL;
	}
	return root;
}

void end_report_take(struct end_report *report, const json_t *root)
{
	const char *reason = json_string_value(json_object_get(root, "reason"));
	json_int_t code = json_integer_value(json_object_get(root, "exit_code"));

	*report = (struct end_report){ 0 };
	if (reason != NULL && strspn(reason, "abcdefghijklmnopqrstuvwxyz-") == strlen(reason)) {
		(void)snprintf(report->reason, sizeof(report->reason), "%.23s", reason);
		report->exit_code = code >= 0 && code <= 255 ? (int)code : 125;
	}
}

void end_report_read(struct end_report *report, int dir_fd)
{
	auto_close int fd = end_report_open(dir_fd);
	auto_json json_t *root = end_report_load(fd);

	end_report_take(report, root);
}
