// SPDX-License-Identifier: Apache-2.0
/*
 * vmm stop, kill, rm: the end of VMs and what they leave. All work by a VM's directory: the lock
 * says when it has ended, whatever ended it, and the report in it how.
 *
 * Several VMs are asked to power off at once, and then waited for one after the other, each until
 * its own time is over: stopping ten takes no longer than stopping one.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "elsewhere.h"
#include "ended.h"
#include "exit_codes.h"
#include "parked.h"
#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/log.h"
#include "vmm/loop.h"
#include "vmm/run_directory.h"

LOG_DOMAIN("stop");

struct ending {
	struct common_options common;
	uint64_t timeout_ns;
	bool force, all;
};

#define ALL_OPTION OPTION_INCLUDED(struct ending, all, all_options)

/* ---- stop ---- */

static const struct option stop_list[] = {
	{ .name = "timeout",
	  .letter = 't',
	  .type = OPTION_DURATION,
	  .offset = offsetof(struct ending, timeout_ns),
	  .argument = "TIME",
	  .fallback = "30s",
	  .help = "how long the guest has to power off" },
	{ .name = "force",
	  .letter = 'f',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct ending, force),
	  .help = "do not ask the guest",
	  .careful = true },
	ALL_OPTION,
	OPTION_INCLUDED(struct ending, common, common_options),
};
static const struct option_table stop_table =
	OPTION_TABLE("stop", stop_list, .foreign = elsewhere_end_flags);

struct stopping {
	struct ended vm;
	int r; /* of what was done last */
	struct error e;
	int64_t until_ms; /* the guest's time */
	const char *outcome, *said;
};

#define NOBODY_TO_ASK 1

/* Presses the button. NOBODY_TO_ASK if there is no guest yet. */
static int press(const struct ended *vm, struct error *e)
{
	struct vm_status status;
	int r = ended_get_state(vm, &status, e);

	if (r < 0) {
		return r;
	}
	if (strcmp(status.state, "paused") == 0) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY,
				"the VM is paused: it cannot power off");
		return error_hint(e, "vmm resume %s first, or vmm stop --force %s", vm->name,
				  vm->name);
	}
	if (strcmp(status.state, "not-started") == 0) {
		return NOBODY_TO_ASK;
	}
	/* Somebody was faster: it only has to be waited for. */
	if (strcmp(status.state, "stopping") == 0) {
		return 0;
	}
	return ended_action(vm, "PowerButton", e);
}

static void begin_stop(struct stopping *stopping, const char *name, const struct ending *ending)
{
	stopping->r = ended_open_living(&stopping->vm, name, &stopping->e);
	if (stopping->r == 0) {
		stopping->r = ending->force ? NOBODY_TO_ASK : press(&stopping->vm, &stopping->e);
		stopping->until_ms = loop_now_ms() + ended_ms(ending->timeout_ns);
	}
}

/* A VM without a guest has nothing to stop; its process ends by a signal. */
static int stop_at_once(const struct ended *vm, struct error *e)
{
	int r = ended_action(vm, "Stop", e);

	if (r < 0 && e->code == ERROR_WRONG_STATE) {
		r = ended_signal(vm, SIGTERM, e);
	}
	return r < 0 ? r : run_directory_wait(vm->dir_fd, ENDED_STOP_MS, e);
}

static void finish_stop(struct stopping *stopping)
{
	const struct ended *vm = &stopping->vm;
	int64_t left = stopping->until_ms - loop_now_ms();
	int r = stopping->r;

	if (vm->dir_fd < 0 || !vm->alive) {
		return;
	}
	stopping->outcome = "powered-off";
	stopping->said = "has powered off";
	if (r == 0) {
		r = run_directory_wait(vm->dir_fd, (int)MAX(left, (int64_t)0), &stopping->e);
	}
	if (r == -ETIMEDOUT || r == NOBODY_TO_ASK) {
		stopping->outcome = "stopped";
		stopping->said =
			r == NOBODY_TO_ASK ? "was stopped" : "did not power off in time: stopped";
		r = stop_at_once(vm, &stopping->e);
	}
	/* It may end while it is being asked. */
	if (r < 0 && run_directory_wait(vm->dir_fd, 0, NULL) == 0) {
		r = 0;
	}
	stopping->r = r;
	if (r < 0) {
		(void)error_prefix(&stopping->e, "stop '%s'", vm->name);
	}
}

/* Says what became of one; its exit code. */
static int tell_stop(const struct stopping *stopping, json_t *list)
{
	if (stopping->r < 0) {
		return command_fail(&stopping->e);
	}
	if (list != NULL) {
		(void)json_array_append_new(list, json_pack("{s:s, s:s}", "name", stopping->vm.name,
							    "outcome", stopping->outcome));
	} else {
		log_info("'%s' %s", stopping->vm.name, stopping->said);
	}
	return EXIT_OK;
}

static int stop_names(const struct ending *ending, const struct vm_names *names)
{
	struct stopping *all = calloc(names->count + 1, sizeof(*all));
	auto_json json_t *list = ending->common.json ? json_array() : NULL;
	struct error e = { 0 };
	int code = EXIT_OK;

	if (all == NULL) {
		(void)error_set(&e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		return command_fail(&e);
	}
	for (size_t i = 0; i < names->count; i++) {
		begin_stop(&all[i], names->names[i], ending);
	}
	for (size_t i = 0; i < names->count; i++) {
		int one;

		finish_stop(&all[i]);
		one = tell_stop(&all[i], list);
		code = MAX(code, one);
		ended_close(&all[i].vm);
	}
	free(all);
	if (list == NULL) {
		return code;
	}
	if (names->many) {
		return MAX(code, command_print_json(json_incref(list), true));
	}
	return json_array_size(list) == 0
		       ? code
		       : command_print_json(json_incref(json_array_get(list, 0)), true);
}

static int run_stop(int argc, char **argv)
{
	struct ending ending = { .force = false };
	struct vm_names names = { 0 };
	int code;

	if (command_parse_names(&command_stop, &ending, &ending.common.help, NULL, &ending.all,
				WHICH_LIVING, &names, argc, argv, &code) < 0) {
		return code;
	}
	code = stop_names(&ending, &names);
	vm_names_finish(&names);
	return code;
}

/* ---- kill ---- */

static const struct option kill_list[] = { ALL_OPTION, HELP_OPTION(struct ending, common.help) };
static const struct option_table kill_table =
	OPTION_TABLE("kill", kill_list, .foreign = elsewhere_end_flags);

static int kill_one(const void *object, const char *name)
{
	struct error e = { 0 };
	struct ended vm;
	int r = ended_open_living(&vm, name, &e);

	(void)object;
	if (r == 0) {
		r = ended_kill(&vm, &e);
	}
	ended_close(&vm);
	return r < 0 ? command_fail(&e) : EXIT_OK;
}

static int run_kill(int argc, char **argv)
{
	struct ending ending = { .force = false };

	return command_for_each(&command_kill, &ending, &ending.common.help, NULL, &ending.all,
				WHICH_LIVING, argc, argv, kill_one);
}

/* ---- rm ---- */

static const struct option rm_list[] = {
	{ .name = "force",
	  .letter = 'f',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct ending, force),
	  .help = "kill it first if it lives; one that is not there is no error",
	  .careful = true },
	ALL_OPTION,
	HELP_OPTION(struct ending, common.help),
};
static const struct option_table rm_table =
	OPTION_TABLE("rm", rm_list, .foreign = elsewhere_end_flags);

static int remove_one(const char *name, bool force, struct error *e)
{
	struct run_directory dir = { 0 };
	struct error parked = { 0 };
	struct ended vm;
	int r = ended_open(&vm, name, e);

	if (r < 0 && force && e->code == ERROR_NOT_FOUND && !definition_exists(name)) {
		return 0;
	}
	if (r == 0 && vm.alive && !force) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY, "VM '%s' lives", name);
		r = error_hint(e, "vmm stop %s ends it", name);
	} else if (r == 0 && vm.alive) {
		r = ended_kill(&vm, e);
	} else if (!vm.alive && !force && parked_check(name, &parked) < 0) {
		*e = parked;
		r = -EBUSY;
	}
	ended_close(&vm);
	/* It may be defined and have nothing else. */
	if (r < 0 && e->code == ERROR_NOT_FOUND && definition_exists(name)) {
		r = 0;
	}
	/* Under the lock: somebody may start one of that name now. */
	if (r == 0) {
		r = run_directory_claim(&dir, name, e);
	}
	if (r == 0) {
		r = parked_forget(name, e);
	}
	if (r == 0) {
		r = definition_remove(name, e);
	}
	run_directory_finish(&dir);
	return r;
}

/* With --all and without --force: those that have ended for good. */
static int rm_one(const void *object, const char *name)
{
	const struct ending *ending = object;
	auto_close int dir_fd = -1;
	struct error e = { 0 };
	bool alive = false;

	if (ending->all && !ending->force &&
	    ((run_directory_find(name, &dir_fd, &alive, NULL) == 0 && alive) ||
	     parked_state(name) == PARKED_PARKED)) {
		return EXIT_OK;
	}
	return remove_one(name, ending->force, &e) < 0 ? command_fail(&e) : EXIT_OK;
}

static int run_rm(int argc, char **argv)
{
	struct ending ending = { .force = false };

	return command_for_each(&command_rm, &ending, &ending.common.help, NULL, &ending.all,
				WHICH_ALL, argc, argv, rm_one);
}

static const struct command_example stop_examples[] = {
	{ "vmm stop web", "ask the guest to power off; after 30 seconds, stop it" },
	{ "vmm stop --force web", "as if the plug was pulled" },
	{ "vmm stop --all", "every VM of this user, all at once" },
	{ NULL, NULL },
};

const struct command command_stop = {
	.name = "stop",
	.operands = " NAME...",
	.help = "power VMs off",
	.options = &stop_table,
	.run = run_stop,
	.description =
		"Presses the power button and waits until the VM has ended. If the guest has not "
		"powered off in time, the VM is stopped as it is. Which of both it was is said on "
		"standard error, and with --json on standard output as *outcome*: powered-off or "
		"stopped. Several VMs are asked at once; JSON is then an array.",
	.examples = stop_examples,
	.careful = true,
};

const struct command command_kill = {
	.name = "kill",
	.operands = " NAME...",
	.help = "end the processes of VMs at once",
	.options = &kill_table,
	.run = run_kill,
	.description = "For a VM that does not answer: its process gets SIGKILL. Its directory "
		       "stays, with "
		       "the log; the next VM of that name replaces it, vmm rm removes it.",
	.careful = true,
};

static const struct command_example rm_examples[] = {
	{ "vmm rm web db", "what both have left" },
	{ "vmm rm --all", "what every VM that has ended has left" },
	{ "vmm rm -f web", "end it if it lives, at once, and remove it" },
	{ NULL, NULL },
};

const struct command command_rm = {
	.name = "rm",
	.operands = " NAME...",
	.help = "remove VMs that have ended, or only are defined",
	.options = &rm_table,
	.run = run_rm,
	.description =
		"Removes the definition of a VM and what it has left: its log, its events and its "
		"report. Its disks are never touched. A VM that lives is left alone, which is an "
		"error; with "
		"--force it is killed first. So is one that is parked; with --force its memory is "
		"removed, "
		"too, if vmm park has put it beside the definition. With --all those that live or "
		"are parked are "
		"passed over.",
	.examples = rm_examples,
	.careful = true,
};
