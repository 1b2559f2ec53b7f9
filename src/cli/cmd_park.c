// SPDX-License-Identifier: Apache-2.0
/*
 * vmm park and unpark: a VM is saved and ends, and later goes on under its name. parked.h has the note that
 * is kept of it, and why its state is written before each step that cannot be taken back:
 *
 *	park	pause, save, note "parking", stop, note "parked"
 *	unpark	note "unparking", restore, remove the note, remove the snapshot
 *
 * Who is interrupted loses nothing: before the stop the VM is there, after the save the snapshot is. What is
 * not known then (has the guest run since?) is asked of the user.
 *
 * Main thread; vmm unpark is the parent of the VM's process, as vmm run -d is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "definition.h"
#include "ended.h"
#include "exit_codes.h"
#include "parked.h"
#include "run.h"
#include "snapshot_command.h"
#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/log.h"

LOG_DOMAIN("park");

/* ---- park ---- */

struct park_command {
	const char *to;
	bool help;
};

static const struct option park_list[] = {
	{ .name = "to",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct park_command, to),
	  .argument = "PATH",
	  .help = "directory for the snapshot, in place of one beside the VM's definition" },
	HELP_OPTION(struct park_command, help),
};
static const struct option_table park_table = OPTION_TABLE("park", park_list);

struct parking {
	const char *name;
	char *directory;
	struct client client;
	struct ended vm;
	struct progress progress;
	bool was_paused;
};

static int set_state(struct parking *parking, const char *state, struct error *e)
{
	auto_json json_t *body = json_pack("{s:s}", "state", state);

	return client_call(&parking->client, "PATCH", "/vm", body, NULL, e);
}

static int choose_directory(struct parking *parking, const char *to, struct error *e)
{
	char own[RUN_DIRECTORY_PATH_SIZE + 16];
	int r = 0;

	if (to == NULL) {
		r = parked_directory(parking->name, own, sizeof(own), e);
	}
	if (r == 0) {
		parking->directory = snapshot_absolute_path(to != NULL ? to : own, e);
		r = parking->directory != NULL ? 0 : -EINVAL;
	}
	return r;
}

/* Nothing would be left of one without a name to go on from. */
static int check_kept(const char *name, struct error *e)
{
	if (definition_exists(name)) {
		return 0;
	}
	(void)error_set(e, ERROR_WRONG_STATE, EINVAL,
			"VM '%s' has no definition, and is gone when it ends", name);
	return error_hint(
		e,
		"one that is started with --name or -d is kept; or vmm snapshot create %s "
		"DIR, and vmm restore DIR",
		name);
}

static int open_vm(struct parking *parking, struct error *e)
{
	struct vm_status status = { .answered = false };
	int r = ended_open_living(&parking->vm, parking->name, e);

	if (r < 0 && e->code == ERROR_NOT_FOUND) {
		(void)parked_check(parking->name, e);
	}
	if (r == 0) {
		r = check_kept(parking->name, e);
	}
	if (r == 0) {
		r = client_connect_at(&parking->client, parking->vm.dir_fd, CLIENT_TIMEOUT_MS, e);
	}
	if (r == 0) {
		r = ended_get_state(&parking->vm, &status, e);
	}
	if (r == 0 && strcmp(status.state, "running") != 0 && strcmp(status.state, "paused") != 0) {
		r = error_set(e, ERROR_WRONG_STATE, EBUSY,
			      "the VM is %s: it can be parked while it "
			      "runs or is paused",
			      status.state);
	}
	parking->was_paused = strcmp(status.state, "paused") == 0;
	return r;
}

/* The guest stands still from here on, and so does what is saved. */
static int save(struct parking *parking, struct error *e)
{
	struct snapshot_taking taking = { .client = &parking->client,
					  .directory = parking->directory,
					  .progress = &parking->progress };
	int r = parking->was_paused ? 0 : set_state(parking, "Paused", e);

	if (r == 0) {
		r = snapshot_take(&taking, e);
	}
	if (r == 0) {
		r = parked_save(parking->name, PARKED_PARKING, parking->directory,
				parking->was_paused, e);
	}
	if (r < 0 && !parking->was_paused) {
		struct error why = { 0 };

		if (set_state(parking, "Resumed", &why) < 0) {
			log_warn("'%s' is paused: %s", parking->name, why.msg);
		}
	}
	return r;
}

/* Somebody may have let it go on meanwhile: then it is not what was saved any more. */
static int stop(struct parking *parking, struct error *e)
{
	struct vm_status status;
	int r = ended_get_state(&parking->vm, &status, e);

	if (r == 0 && strcmp(status.state, "paused") != 0) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY,
				"somebody has let it go on while it was saved: it is %s",
				status.state);
		(void)error_hint(e, "try again");
		(void)parked_forget(parking->name, NULL);
		return -EBUSY;
	}
	if (r == 0) {
		r = ended_action(&parking->vm, "Stop", e);
	}
	if (r == 0) {
		r = run_directory_wait(parking->vm.dir_fd, ENDED_STOP_MS, e);
	}
	return r == 0 ? parked_save(parking->name, PARKED_PARKED, parking->directory,
				    parking->was_paused, e)
		      : r;
}

static int park(struct parking *parking, const char *to, struct error *e)
{
	auto_close int lock = -1;
	int r = open_vm(parking, e);

	if (r == 0) {
		r = parked_lock(parking->name, &lock, e);
	}
	if (r == 0) {
		r = choose_directory(parking, to, e);
	}
	if (r == 0) {
		r = save(parking, e);
	}
	return r == 0 ? stop(parking, e) : r;
}

static int run_park(int argc, char **argv)
{
	struct park_command command = { .to = NULL };
	struct parking parking = { .client = { .fd = -1 },
				   .vm = { .dir_fd = -1, .report_fd = -1 } };
	struct error e = { 0 };
	int code;

	if (command_parse_exactly(&command_park, &command, &command.help, 1, 1, argc, argv, &code) <
	    0) {
		return code;
	}
	json_prepare();
	parking.name = argv[1];
	progress_begin(&parking.progress, false);
	code = EXIT_OK;
	if (park(&parking, command.to, &e) < 0) {
		progress_wipe(&parking.progress);
		if (strstr(e.msg, parking.name) == NULL) {
			(void)error_prefix(&e, "park '%s'", parking.name);
		}
		code = snapshot_fail(&parking.progress, &e);
	}
	progress_end(&parking.progress);
	client_close(&parking.client);
	ended_close(&parking.vm);
	free(parking.directory);
	return code;
}

/* ---- unpark ---- */

struct unpark_command {
	bool force, help;
};

static const struct option unpark_list[] = {
	{ .name = "force",
	  .letter = 'f',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct unpark_command, force),
	  .help = "also if nobody knows whether it has run since (you do, and it has not), or "
		  "its disks have changed",
	  .careful = true },
	HELP_OPTION(struct unpark_command, help),
};
static const struct option_table unpark_table = OPTION_TABLE("unpark", unpark_list);

static int not_parked(const char *name, struct error *e)
{
	auto_close int dir_fd = -1;
	bool alive = false;

	if (run_directory_find(name, &dir_fd, &alive, NULL) < 0 && !definition_exists(name)) {
		(void)error_set(e, ERROR_NOT_FOUND, ENOENT, "there is no VM named '%s'", name);
		return error_hint(e, "vmm ps -a lists them");
	}
	(void)error_set(e, ERROR_NOT_FOUND, ESRCH, "VM '%s' is not parked", name);
	return alive ? error_hint(e, "it lives: vmm park %s parks it", name)
		     : error_hint(e, "vmm start %s starts it", name);
}

static int check_state(const char *name, const struct parked *parked, bool force, struct error *e)
{
	if (parked->state == PARKED_PARKED || force) {
		return 0;
	}
	(void)error_set(
		e, ERROR_WRONG_STATE, EBUSY,
		parked->state == PARKED_PARKING
			? "vmm park was interrupted when VM '%s' was saved: it may have run on "
			  "since"
			: "vmm unpark was interrupted: VM '%s' may have run since it was parked",
		name);
	return error_hint(
		e,
		"if it has not, vmm unpark --force %s lets it go on; going on from an old "
		"state on disks that were written since damages them",
		name);
}

/* In the background, as it is left. */
static int restore(const char *name, const struct parked *parked, bool force,
		   const struct definition *definition)
{
	const struct snapshot_load_request request = {
		.directory = parked->directory,
		.resume = !parked->paused,
		.changed_disks = force ? CHANGED_DISKS_ACCEPT : CHANGED_DISKS_REFUSE
	};
	const struct run_restore run = {
		.name = name,
		.settings = definition->settings,
		.request = &request,
		.detach = true,
		.definition_stays = true,
	};

	return run_restored(&run);
}

static int unpark_locked(const char *name, struct parked *parked, bool force, struct error *e)
{
	struct definition definition = { 0 };
	int r = definition_load(&definition, name, e);
	int code;

	if (r == 0) {
		r = parked_save(name, PARKED_UNPARKING, parked->directory, parked->paused, e);
	}
	if (r < 0) {
		definition_finish(&definition);
		return command_fail(e);
	}
	code = restore(name, parked, force, &definition);
	definition_finish(&definition);
	if (code == EXIT_OK) {
		r = parked_forget(name, e);
	} else {
		/* It was said why; it never ran. */
		r = parked_save(name, PARKED_PARKED, parked->directory, parked->paused, e);
	}
	return r < 0 ? MAX(code, command_fail(e)) : code;
}

static int unpark(const char *name, bool force)
{
	auto_close int lock = -1;
	struct parked parked = { 0 };
	struct error e = { 0 };
	int code;
	int r = parked_state(name) == PARKED_NOT ? 0 : parked_lock(name, &lock, &e);

	if (r == 0) {
		r = parked_load(&parked, name, &e);
		if (r < 0 && e.code == ERROR_NOT_FOUND) {
			(void)not_parked(name, &e);
		}
	}
	if (r == 0) {
		r = check_state(name, &parked, force, &e);
	}
	code = r < 0 ? command_fail(&e) : unpark_locked(name, &parked, force, &e);
	parked_finish(&parked);
	return code;
}

static int run_unpark(int argc, char **argv)
{
	struct unpark_command command = { .force = false };
	int code;

	if (command_parse_exactly(&command_unpark, &command, &command.help, 1, 1, argc, argv,
				  &code) < 0) {
		return code;
	}
	json_prepare();
	return unpark(argv[1], command.force);
}

static const struct command_example park_examples[] = {
	{ "vmm park web", "saved and ended; its memory is free" },
	{ "vmm unpark web", "goes on where it was" },
	{ NULL, NULL },
};

const struct command command_park = {
	.name = "park",
	.operands = " NAME",
	.help = "save a VM and end it, until vmm unpark lets it go on",
	.options = &park_table,
	.run = run_park,
	.description = "The VM is paused, saved, and its process ends: all its memory is free for "
		       "others. The "
		       "guest does not notice, but for the time that has gone by. Its state is "
		       "kept in the "
		       "directory of its definition, or where *--to* says, also while the host "
		       "restarts. Its "
		       "disks are its own until then: nobody else should write to them.\n\n"
		       "*vmm ps -a* shows it as parked. *vmm rm* leaves it alone unless it is "
		       "forced to. If saving "
		       "fails or is interrupted (^C), the VM goes on.",
	.examples = park_examples,
	.exits = "128+N it was interrupted by signal N: the VM goes on",
	.careful = true,
};

const struct command command_unpark = {
	.name = "unpark",
	.operands = " NAME",
	.help = "let a parked VM go on",
	.options = &unpark_table,
	.run = run_unpark,
	.description = "Restores the VM under its name, in the background, with the flags of its "
		       "definition, "
		       "and removes the snapshot when it runs. One that was paused when it was "
		       "parked is paused. "
		       "If it cannot be restored, the reason is said and it stays parked.",
	.examples = park_examples,
};
