// SPDX-License-Identifier: Apache-2.0
/*
 * vmm stop, kill, wait, rm: the end of a VM and what it leaves. All work by its directory: the lock
 * says when it has ended, whatever ended it, and the report in it how.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "command.h"
#include "end_report.h"
#include "exit_codes.h"
#include "vm_status.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/run_directory.h"

LOG_DOMAIN("stop");

#define NS_PER_MS   1000000
#define STOP_MS	    10000 /* for a VM that was told to stop at once, or was killed */
#define RUN_POLL_MS 20

struct ended {
	struct common_options common;
	uint64_t timeout_ns;
	bool has_timeout, force;
	int state;
	const char *name;
	int dir_fd, report_fd;
	bool alive;
};

static int open_vm(struct ended *ended, const char *name, struct error *e)
{
	int r;

	ended->name = name;
	r = run_directory_find(name, &ended->dir_fd, &ended->alive, e);
	if (r == 0) {
		/* Now: the VM may take it along. */
		ended->report_fd = end_report_open(ended->dir_fd);
	}
	return r;
}

static void close_vm(struct ended *ended)
{
	close_fd(&ended->report_fd);
	close_fd(&ended->dir_fd);
}

static int not_alive(const char *name, struct error *e)
{
	(void)error_set(e, ERROR_NOT_FOUND, ESRCH, "VM '%s' has ended already", name);
	return error_hint(e, "vmm rm %s removes what it left", name);
}

static int to_ms(uint64_t ns)
{
	return (int)MIN(ns / NS_PER_MS, (uint64_t)INT_MAX);
}

/* ---- stop ---- */

static const struct option stop_list[] = {
	{ .name = "timeout",
	  .letter = 't',
	  .type = OPTION_DURATION,
	  .offset = offsetof(struct ended, timeout_ns),
	  .argument = "TIME",
	  .fallback = "30s",
	  .help = "how long the guest has to power off" },
	{ .name = "force",
	  .letter = 'f',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct ended, force),
	  .help = "do not ask the guest" },
	{ .type = OPTION_INCLUDE,
	  .offset = offsetof(struct ended, common),
	  .object = &common_options },
};
static const struct option_table stop_table = { .name = "stop",
						.options = stop_list,
						.count = ARRAY_SIZE(stop_list) };

static int act(const struct ended *ended, const char *action, struct error *e)
{
	auto_json json_t *body = json_pack("{s:s}", "action_type", action);
	struct client client = { .fd = -1 };
	int r = client_connect_at(&client, ended->dir_fd, CLIENT_TIMEOUT_MS, e);

	if (r == 0) {
		r = client_call(&client, "PUT", "/actions", body, NULL, e);
	}
	client_close(&client);
	return r;
}

static int get_state(const struct ended *ended, struct vm_status *status, struct error *e)
{
	struct client client = { .fd = -1 };
	auto_json json_t *vm = NULL;
	int r = client_connect_at(&client, ended->dir_fd, CLIENT_TIMEOUT_MS, e);

	if (r == 0) {
		r = client_call(&client, "GET", "/vm", NULL, &vm, e);
	}
	if (r == 0) {
		vm_status_read(status, vm);
	}
	client_close(&client);
	return r;
}

static int send_signal(const struct ended *ended, int number, struct error *e)
{
	auto_close int pidfd = -1;
	pid_t pid;
	int r = run_directory_process(ended->dir_fd, &pidfd, &pid, e);

	if (r == 0 && syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0) < 0 &&
	    errno != ESRCH) {
		r = error_set_sys(e, ERROR_INTERNAL, errno, "signal to process %d", (int)pid);
	}
	return r;
}

static bool has_ended(const struct ended *ended)
{
	return run_directory_wait(ended->dir_fd, 0, NULL) == 0;
}

#define NOBODY_TO_ASK 1

/* Presses the button and waits. -ETIMEDOUT if the guest does not mind. */
static int power_off(const struct ended *ended, struct error *e)
{
	struct vm_status status;
	int r = get_state(ended, &status, e);

	if (r < 0) {
		return r;
	}
	if (strcmp(status.state, "paused") == 0) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY,
				"the VM is paused: it cannot power off");
		return error_hint(e, "vmm resume %s first, or vmm stop --force %s", ended->name,
				  ended->name);
	}
	/* No guest yet: nobody to ask. */
	if (strcmp(status.state, "not-started") == 0) {
		return NOBODY_TO_ASK;
	}
	r = act(ended, "PowerButton", e);
	return r < 0 ? r : run_directory_wait(ended->dir_fd, to_ms(ended->timeout_ns), e);
}

/* A VM without a guest has nothing to stop; its process ends by a signal. */
static int stop_at_once(const struct ended *ended, struct error *e)
{
	int r = act(ended, "Stop", e);

	if (r < 0 && e->code == ERROR_WRONG_STATE) {
		r = send_signal(ended, SIGTERM, e);
	}
	return r < 0 ? r : run_directory_wait(ended->dir_fd, STOP_MS, e);
}

static int stop(const struct ended *ended, const char **outcome, const char **said, struct error *e)
{
	int r = ended->force ? NOBODY_TO_ASK : power_off(ended, e);

	*outcome = "powered-off";
	*said = "has powered off";
	if (r == -ETIMEDOUT || r == NOBODY_TO_ASK) {
		*outcome = "stopped";
		*said = r == NOBODY_TO_ASK ? "was stopped" : "did not power off in time: stopped";
		r = stop_at_once(ended, e);
	}
	/* It may end while it is being asked. */
	return r < 0 && has_ended(ended) ? 0 : r;
}

static int open_living(struct ended *ended, const char *name, struct error *e)
{
	int r = open_vm(ended, name, e);

	return r == 0 && !ended->alive ? not_alive(name, e) : r;
}

static int run_stop(int argc, char **argv)
{
	struct ended ended = { .dir_fd = -1, .report_fd = -1 };
	struct error e = { 0 };
	const char *outcome = "", *said = "";
	int code, r;

	if (command_parse_exactly(&command_stop, &ended, &ended.common.help, 1, 1, argc, argv,
				  &code) < 0) {
		return code;
	}
	r = open_living(&ended, argv[1], &e);
	if (r == 0) {
		r = stop(&ended, &outcome, &said, &e);
		if (r < 0) {
			(void)error_prefix(&e, "stop '%s'", argv[1]);
		}
	}
	close_vm(&ended);
	if (r < 0) {
		return command_fail(&e);
	}
	if (ended.common.json) {
		return command_print_json(
			json_pack("{s:s, s:s}", "name", argv[1], "outcome", outcome), true);
	}
	log_info("'%s' %s", argv[1], said);
	return EXIT_OK;
}

/* ---- kill ---- */

static const struct option kill_list[] = {
	{ .name = "help",
	  .letter = 'h',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct ended, common.help),
	  .help = "show this" },
};
static const struct option_table kill_table = { .name = "kill",
						.options = kill_list,
						.count = ARRAY_SIZE(kill_list) };

static int run_kill(int argc, char **argv)
{
	struct ended ended = { .dir_fd = -1, .report_fd = -1 };
	struct error e = { 0 };
	int code, r;

	if (command_parse_exactly(&command_kill, &ended, &ended.common.help, 1, 1, argc, argv,
				  &code) < 0) {
		return code;
	}
	r = open_living(&ended, argv[1], &e);
	if (r == 0) {
		r = send_signal(&ended, SIGKILL, &e);
	}
	if (r == 0) {
		r = run_directory_wait(ended.dir_fd, STOP_MS, &e);
	}
	close_vm(&ended);
	return r < 0 ? command_fail(&e) : EXIT_OK;
}

/* ---- wait ---- */

enum wait_for { WAIT_STOPPED = 0, WAIT_RUNNING };
static const struct option_value wait_states[] = {
	{ "stopped", WAIT_STOPPED },
	{ "running", WAIT_RUNNING },
	{ NULL, 0 },
};
static const struct option wait_list[] = {
	{ .name = "for",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct ended, state),
	  .values = wait_states,
	  .argument = "stopped|running",
	  .fallback = "stopped",
	  .help = "what to wait for" },
	{ .name = "timeout",
	  .letter = 't',
	  .type = OPTION_DURATION,
	  .offset = offsetof(struct ended, timeout_ns),
	  .present = offsetof(struct ended, has_timeout) + 1,
	  .argument = "TIME",
	  .help = "give up after this time, exit code 124" },
	{ .type = OPTION_INCLUDE,
	  .offset = offsetof(struct ended, common),
	  .object = &common_options },
};
static const struct option_table wait_table = { .name = "wait",
						.options = wait_list,
						.count = ARRAY_SIZE(wait_list) };

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / NS_PER_MS;
}

static int wait_until_running(const struct ended *ended, int timeout_ms, struct error *e)
{
	int64_t end = now_ms() + timeout_ms;

	for (;;) {
		struct vm_status status = { 0 };
		int64_t left = timeout_ms < 0 ? RUN_POLL_MS : MIN(end - now_ms(), RUN_POLL_MS);

		if (get_state(ended, &status, e) == 0 && strcmp(status.state, "running") == 0) {
			return 0;
		}
		if (left <= 0) {
			(void)error_set(e, ERROR_BUSY, ETIMEDOUT,
					"VM '%s' does not run in time: it is %s", ended->name,
					status.answered ? status.state : "not answering");
			return error_hint(e, "vmm inspect %s shows what it is doing", ended->name);
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
	(void)get_state(ended, &status, NULL);
	(void)error_set(e, ERROR_BUSY, ETIMEDOUT, "VM '%s' has not ended in time: it is %s",
			ended->name, status.answered ? status.state : "not answering");
	return error_hint(e, "vmm logs -n 20 %s shows what it said last; vmm stop %s ends it",
			  ended->name, ended->name);
}

/* The exit code of the VM is ours. */
static int tell_end(struct ended *ended)
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
	if (ended->common.json) {
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
	struct ended ended = { .dir_fd = -1, .report_fd = -1 };
	struct error e = { 0 };
	int timeout_ms, code = EXIT_OK, r;

	if (command_parse_exactly(&command_wait, &ended, &ended.common.help, 1, 1, argc, argv,
				  &code) < 0) {
		return code;
	}
	code = EXIT_OK;
	timeout_ms = ended.has_timeout ? to_ms(ended.timeout_ns) : -1;
	r = open_vm(&ended, argv[1], &e);
	if (r == 0) {
		r = ended.state == WAIT_RUNNING ? wait_until_running(&ended, timeout_ms, &e)
						: wait_until_ended(&ended, timeout_ms, &e);
	}
	if (r == 0 && ended.state == WAIT_STOPPED) {
		code = tell_end(&ended);
	} else if (r == 0 && ended.common.json) {
		code = command_print_json(
			json_pack("{s:s, s:s}", "name", argv[1], "state", "running"), true);
	}
	close_vm(&ended);
	if (r < 0) {
		code = command_fail(&e);
	}
	return r == -ETIMEDOUT ? EXIT_TIMED_OUT : code;
}

/* ---- rm ---- */

static const struct option_table rm_table = { .name = "rm",
					      .options = kill_list,
					      .count = ARRAY_SIZE(kill_list) };

static int remove_one(const char *name, struct error *e)
{
	struct run_directory dir = { 0 };
	auto_close int dir_fd = -1;
	bool alive = false;
	int r = run_directory_find(name, &dir_fd, &alive, e);

	if (r == 0 && alive) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY, "VM '%s' lives", name);
		return error_hint(e, "vmm stop %s ends it", name);
	}
	/* Under the lock: somebody may start one of that name now. */
	if (r == 0) {
		r = run_directory_claim(&dir, name, e);
	}
	run_directory_finish(&dir);
	return r;
}

static int run_rm(int argc, char **argv)
{
	struct ended ended = { 0 };
	int code, worst = EXIT_OK;
	int count = command_parse_exactly(&command_rm, &ended, &ended.common.help, 1, INT_MAX, argc,
					  argv, &code);

	if (count < 0) {
		return code;
	}
	for (int i = 1; i <= count; i++) {
		struct error e = { 0 };

		if (remove_one(argv[i], &e) < 0) {
			worst = command_fail(&e);
		}
	}
	return worst;
}

static const struct command_example stop_examples[] = {
	{ "vmm stop web", "ask the guest to power off; after 30 seconds, stop it" },
	{ "vmm stop --force web", "as if the plug was pulled" },
	{ NULL, NULL },
};

const struct command command_stop = {
	.name = "stop",
	.operands = " NAME",
	.help = "power a VM off",
	.options = &stop_table,
	.run = run_stop,
	.description =
		"Presses the power button and waits until the VM has ended. If the guest has not "
		"powered off in time, the VM is stopped as it is. Which of both it was is said on "
		"standard error, and with --json on standard output as *outcome*: powered-off or "
		"stopped.",
	.examples = stop_examples,
};

const struct command command_kill = {
	.name = "kill",
	.operands = " NAME",
	.help = "end the process of a VM at once",
	.options = &kill_table,
	.run = run_kill,
	.description = "For a VM that does not answer: its process gets SIGKILL. Its directory "
		       "stays, with "
		       "the log; the next VM of that name replaces it, vmm rm removes it.",
};

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

const struct command command_rm = {
	.name = "rm",
	.operands = " NAME...",
	.help = "remove what an ended VM has left",
	.options = &rm_table,
	.run = run_rm,
	.description = "Removes the directory of a VM that has ended, with its log and its report. "
		       "A VM that lives is left alone, which is an error.",
};
