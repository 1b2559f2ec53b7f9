// SPDX-License-Identifier: Apache-2.0
/*
 * vmm wait: until a VM runs, or has ended, and how. The lock on its directory says that it has ended,
 * whatever ended it. One in the foreground takes its directory along, so the report is opened before
 * the wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "end_report.h"
#include "ended.h"
#include "exit_codes.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"
#include "vmm/run_directory.h"

#define RUN_POLL_MS 20

struct waiting {
	struct common_options common;
	uint64_t timeout_ns;
	bool has_timeout;
	int state;
};

enum wait_for { WAIT_STOPPED = 0, WAIT_RUNNING };
static const struct option_value wait_states[] = {
	{ "stopped", WAIT_STOPPED },
	{ "running", WAIT_RUNNING },
	{ NULL, 0 },
};
static const struct option wait_list[] = {
	{ .name = "for",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct waiting, state),
	  .values = wait_states,
	  .argument = "stopped|running",
	  .fallback = "stopped",
	  .help = "what to wait for" },
	{ .name = "timeout",
	  .letter = 't',
	  .type = OPTION_DURATION,
	  .offset = offsetof(struct waiting, timeout_ns),
	  .present = offsetof(struct waiting, has_timeout) + 1,
	  .argument = "TIME",
	  .help = "give up after this time, exit code 124" },
	OPTION_INCLUDED(struct waiting, common, common_options),
};
static const struct option_table wait_table = OPTION_TABLE("wait", wait_list);

/* Why it takes so long, as far as its state says. */
static int hint_at_state(const struct ended *ended, const struct vm_status *status, struct error *e)
{
	const char *name = ended->name;

	if (!status->answered) {
		return error_hint(e, "it is stuck, or stopped by a signal: vmm kill %s ends it",
				  name);
	}
	if (strcmp(status->state, "paused") == 0) {
		return error_hint(e, "vmm resume %s lets it go on", name);
	}
	if (strcmp(status->state, "not-started") == 0) {
		return error_hint(e,
				  "it waits for requests: vmm api %s PUT /actions "
				  "'{\"action_type\": \"InstanceStart\"}'",
				  name);
	}
	return error_hint(e, "vmm logs -n 20 %s shows what it said last; vmm stop %s ends it", name,
			  name);
}

static int wait_until_running(const struct ended *ended, int timeout_ms, struct error *e)
{
	int64_t end = loop_now_ms() + timeout_ms;

	for (;;) {
		struct vm_status status = { 0 };
		int64_t left = timeout_ms < 0 ? RUN_POLL_MS : MIN(end - loop_now_ms(), RUN_POLL_MS);

		if (ended_get_state(ended, &status, e) == 0 &&
		    strcmp(status.state, "running") == 0) {
			return 0;
		}
		if (left <= 0) {
			(void)error_set(e, ERROR_BUSY, ETIMEDOUT,
					"VM '%s' does not run in time: it is %s", ended->name,
					status.answered ? status.state : "not answering");
			return hint_at_state(ended, &status, e);
		}
		/* An early end ends the waiting, too. */
		if (run_directory_wait(ended->dir_fd, (int)left, NULL) == 0) {
			return error_set(e, ERROR_WRONG_STATE, ESRCH, "VM '%s' has ended",
					 ended->name);
		}
	}
}

static int wait_until_ended(const struct ended *ended, int timeout_ms, struct error *e)
{
	struct vm_status status = { 0 };
	int r = run_directory_wait(ended->dir_fd, timeout_ms, e);

	if (r != -ETIMEDOUT) {
		return r;
	}
	(void)ended_get_state(ended, &status, NULL);
	(void)error_set(e, ERROR_BUSY, ETIMEDOUT, "VM '%s' has not ended in time: it is %s",
			ended->name, status.answered ? status.state : "not answering");
	return hint_at_state(ended, &status, e);
}

/* The exit code of the VM is ours. */
static int tell_end(struct ended *ended, bool json)
{
	struct end_report report;
	auto_json json_t *root = end_report_load(ended->report_fd);
	struct error e;
	int code = EXIT_OK;

	if (root == NULL) {
		close_fd(&ended->report_fd);
		ended->report_fd = end_report_open(ended->dir_fd);
		root = end_report_load(ended->report_fd);
	}
	end_report_take(&report, root);
	if (json) {
		code = command_print_json(
			root != NULL ? json_incref(root)
				     : json_pack("{s:s, s:n}", "name", ended->name, "reason"),
			true);
	}
	/* An orderly end without a report takes the directory along. */
	if (root == NULL && faccessat(ended->dir_fd, "lock", F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		(void)error_set(&e, ERROR_NOT_FOUND, ENOENT,
				"VM '%s' has ended without a report: it was killed", ended->name);
		return command_fail(&e);
	}
	return code != EXIT_OK ? code : report.exit_code;
}

static int run_wait(int argc, char **argv)
{
	struct waiting waiting = { 0 };
	struct error e = { 0 };
	int timeout_ms, code = EXIT_OK, r;
	struct ended ended;

	if (command_parse_exactly(&command_wait, &waiting, &waiting.common.help, 1, 1, argc, argv,
				  &code) < 0) {
		return code;
	}
	code = EXIT_OK;
	timeout_ms = waiting.has_timeout ? ended_ms(waiting.timeout_ns) : -1;
	r = ended_open(&ended, argv[1], &e);
	if (r == 0) {
		r = waiting.state == WAIT_RUNNING ? wait_until_running(&ended, timeout_ms, &e)
						  : wait_until_ended(&ended, timeout_ms, &e);
	}
	if (r == 0 && waiting.state == WAIT_STOPPED) {
		code = tell_end(&ended, waiting.common.json);
	} else if (r == 0 && waiting.common.json) {
		code = command_print_json(
			json_pack("{s:s, s:s}", "name", argv[1], "state", "running"), true);
	}
	ended_close(&ended);
	if (r < 0) {
		code = command_fail(&e);
	}
	return r == -ETIMEDOUT ? EXIT_TIMED_OUT : code;
}

static const struct command_example wait_examples[] = {
	{ "vmm wait --for running --timeout 10s web", "until the guest runs" },
	{ "vmm wait --json web | jq -r .reason", "until it has ended, and why" },
	{ NULL, NULL },
};

const struct command command_wait = {
	.name = "wait",
	.operands = " NAME",
	.help = "wait until a VM has ended, or runs",
	.options = &wait_table,
	.run = run_wait,
	.description =
		"Waits for the end of the VM and ends with its exit code, from the report in its "
		"directory; with --json the report is printed, see --exit-report in vmm-run(1). A "
		"VM that has ended already is not waited for.\n\n"
		"A VM that runs in the background (vmm run --detach) leaves its report; one in the "
		"foreground takes it along, so that only who waits before the end learns of it. "
		"One that was killed leaves its directory without a report, which is an error.\n\n"
		"With --for running it waits until the guest runs; the end of the VM is then an "
		"error.",
	.examples = wait_examples,
	.exits = "124 --timeout is over\n"
		 "0-255 the exit code of the VM, see vmm-run(1)",
};
