// SPDX-License-Identifier: Apache-2.0
/*
 * vmm snapshot create and mark: the VM's process saves, this one asks it to and shows how far it is. The request
 * is answered when its job has begun; then the job is asked for until it is over. ^C cancels the job, and
 * is over when that is; a second one does not wait for it.
 *
 * What the VM answers is another process's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exit_codes.h"
#include "snapshot_command.h"
#include "vm_status.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("snapshot");

#define ASK_EVERY_MS 100
#define ASK_SOON_MS  10 /* the first times: most are over in no time */
#define ASK_SOON     20
/* Of one that is early: each of these is one that somebody waits. */
#define ASK_EARLY_MS 1
#define ASK_EARLY    50

char *snapshot_absolute_path(const char *path, struct error *e)
{
	auto_free char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
	char *ret = NULL;

	if (path[0] == '\0') {
		(void)error_set(e, ERROR_USAGE, EINVAL, "'': not the name of a directory");
		return NULL;
	}
	if (path[0] != '/' && here == NULL) {
		(void)error_set_sys(e, ERROR_CONFIG, errno, "the working directory");
		return NULL;
	}
	if (asprintf(&ret, "%s%s%s", here != NULL ? here : "", here != NULL ? "/" : "", path) < 0) {
		(void)error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		return NULL;
	}
	return ret;
}

int snapshot_fail(struct progress *progress, const struct error *e)
{
	const int number = progress_interrupted(progress);
	const int code = command_fail(e);

	return number != 0 && e->code == ERROR_CANCELLED ? EXIT_SIGNAL_BASE + number : code;
}

static uint64_t number_at(const json_t *object, const char *key)
{
	const json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 ? (uint64_t)n : 0;
}

static enum error_code code_of(const char *name)
{
	for (int code = 0; name != NULL && code < ERROR_CODES; code++) {
		if (strcmp(name, error_code_name((enum error_code)code)) == 0) {
			return (enum error_code)code;
		}
	}
	return ERROR_INTERNAL;
}

/* It is over: how. */
static int conclude(const struct snapshot_taking *taking, const json_t *job, struct error *e)
{
	const char *state = json_string_value(json_object_get(job, "state"));
	const json_t *why = json_object_get(job, "error");
	const char *message = json_string_value(json_object_get(why, "message"));
	const char *hint = json_string_value(json_object_get(why, "hint"));

	if (state != NULL && strcmp(state, "done") == 0) {
		return 0;
	}
	if (state != NULL && strcmp(state, "cancelled") == 0) {
		(void)error_set(e, ERROR_CANCELLED, ECANCELED,
				"the snapshot was cancelled: nothing new is in '%s'",
				taking->directory);
		return error_hint(e, "the VM is as it was");
	}
	(void)error_set(e, code_of(json_string_value(json_object_get(why, "code"))), EIO, "%s",
			message != NULL ? message : "the snapshot has failed");
	return hint != NULL ? error_hint(e, "%s", hint) : -EIO;
}

static void show(const struct snapshot_taking *taking, const json_t *job)
{
	const struct progress_figures figures = {
		.phase = json_string_value(json_object_get(job, "phase")),
		.done = number_at(job, "bytes_done"),
		.total = number_at(job, "bytes_total"),
		.rate = number_at(job, "bytes_per_second"),
		.seconds_left = number_at(job, "seconds_left"),
		.has_left = json_object_get(job, "seconds_left") != NULL,
	};

	progress_show(taking->progress, &figures);
}

static int interrupted(struct error *e)
{
	(void)error_set(e, ERROR_CANCELLED, ECANCELED,
			"the snapshot is being cancelled, which was not waited for");
	return error_hint(e, "GET /jobs of the VM shows when that is over");
}

static bool is_handed_over(const struct snapshot_taking *taking, const json_t *job)
{
	const char *phase = json_string_value(json_object_get(job, "phase"));

	return taking->early && !taking->handed_over && phase != NULL &&
	       strcmp(phase, SNAPSHOT_PHASE_EARLY) == 0;
}

static int pause_between(const struct snapshot_taking *taking, unsigned int times)
{
	if (taking->early && !taking->handed_over && times < ASK_EARLY) {
		return ASK_EARLY_MS;
	}
	return times < ASK_SOON ? ASK_SOON_MS : ASK_EVERY_MS;
}

static int follow(struct snapshot_taking *taking, struct error *e)
{
	const char *path = taking->job;
	bool cancelled = false;

	for (unsigned int times = 0;; times++) {
		auto_json json_t *job = NULL;
		const char *state;
		int r;

		if (!cancelled && progress_interrupted(taking->progress) != 0) {
			cancelled = true;
			/* It may be over by now: what it says then counts. */
			(void)client_call(taking->client, "DELETE", path, NULL, NULL, NULL);
		} else if (cancelled && progress_insisted(taking->progress)) {
			return interrupted(e);
		}
		r = client_call(taking->client, "GET", path, NULL, &job, e);
		if (r < 0) {
			return r;
		}
		state = json_string_value(json_object_get(job, "state"));
		if (state == NULL || strcmp(state, "running") != 0) {
			taking->elapsed_ms = number_at(job, "elapsed_ms");
			return conclude(taking, job, e);
		}
		if (!cancelled && is_handed_over(taking, job)) {
			taking->handed_over = true;
			return 0;
		}
		show(taking, job);
		progress_sleep(taking->progress, -1, pause_between(taking, times));
	}
}

int snapshot_await(struct snapshot_taking *taking, struct error *e)
{
	return taking->handed_over ? follow(taking, e) : 0;
}

/* A VM that was started by an older vmm knows nothing of it. */
static int begin(struct snapshot_taking *taking, json_t *body, json_t **reply, struct error *e)
{
	int r;

	if (taking->early && json_object_set_new(body, "early", json_true()) == 0) {
		r = client_call(taking->client, "PUT", "/snapshot/create", body, reply, e);
		if (r >= 0 || e->code != ERROR_JSON) {
			return r;
		}
		(void)json_object_del(body, "early");
		*e = (struct error){ 0 };
	}
	return client_call(taking->client, "PUT", "/snapshot/create", body, reply, e);
}

int snapshot_take(struct snapshot_taking *taking, struct error *e)
{
	auto_json json_t *body = json_pack(
		"{s:s, s:b, s:s, s:b, s:b, s:O*}", "directory", taking->directory, "background",
		true, "snapshot_type", taking->diff ? "Diff" : "Full", "live", taking->live,
		"compress", taking->compress, "drive_copies", taking->copies);
	auto_json json_t *reply = NULL;
	uint64_t job;
	int r;

	/* Not to a VM of an older vmm that need not know of it. */
	if (taking->with_disks && body != NULL) {
		(void)json_object_set_new(body, "with_disks", json_true());
	}
	if (body == NULL) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "'%.120s' is not UTF-8", taking->directory);
		return error_hint(e, "the API takes names in UTF-8");
	}
	r = begin(taking, body, &reply, e);
	if (r < 0) {
		return r;
	}
	job = number_at(reply, "job");
	if (job == 0) {
		return error_set(e, ERROR_HTTP, EPROTO, "the VM does not say which job it is");
	}
	(void)snprintf(taking->job, sizeof(taking->job), "/jobs/%llu", (unsigned long long)job);
	return follow(taking, e);
}

/* What is there now. */
static int print(const struct snapshot_command *command, const struct snapshot_taking *taking)
{
	const struct snapshot_reader_config config = { .paths = { .directory = taking->directory },
						       .state_only = true };
	const char *name = command->target.name != NULL ? command->target.name : "the VM";
	struct snapshot_reader *reader = NULL;
	char stored[FIGURE_SIZE], size[FIGURE_SIZE];
	const struct snapshot_info *info;
	struct error e = { 0 };
	int code = EXIT_OK;

	if (snapshot_reader_create(&reader, &config, &e) < 0) {
		return command_fail(&e);
	}
	info = snapshot_reader_info(reader);
	if (command->common.json) {
		code = command_print_json(json_pack("{s:s, s:s, s:I, s:I, s:I}", "id", info->id,
						    "directory", taking->directory, "memory_bytes",
						    (json_int_t)info->memory_size, "stored_bytes",
						    (json_int_t)info->stored, "elapsed_ms",
						    (json_int_t)taking->elapsed_ms),
					  true);
	} else {
		log_info("%s is saved: %s of %s is stored, %llu.%llu s", name,
			 show_bytes(stored, info->stored), show_bytes(size, info->memory_size),
			 (unsigned long long)taking->elapsed_ms / 1000,
			 (unsigned long long)taking->elapsed_ms % 1000 / 100);
		(void)puts(info->id);
	}
	snapshot_reader_destroy(reader);
	return code;
}

int snapshot_run_mark(const struct snapshot_command *command)
{
	const char *name = command->target.name;
	struct client client = { .fd = -1 };
	struct error e = { 0 };
	int r = client_connect(&client, name, command->target.api_socket, CLIENT_TIMEOUT_MS, &e);

	if (r == 0) {
		r = client_call(&client, "PUT", "/snapshot/mark", NULL, NULL, &e);
	}
	client_close(&client);
	if (r < 0 && name != NULL && strstr(e.msg, name) == NULL) {
		(void)error_prefix(&e, "VM '%s'", name);
	}
	return r < 0 ? command_fail(&e) : EXIT_OK;
}

int snapshot_run_create(const struct snapshot_command *command)
{
	const char *name = command->target.name;
	struct client client = { .fd = -1 };
	struct error e = { 0 };
	auto_free char *directory = snapshot_absolute_path(command->operands[0], &e);
	struct progress progress;
	struct snapshot_taking taking = { .client = &client,
					  .directory = directory,
					  .diff = command->diff,
					  .live = command->live,
					  .compress = command->compress,
					  .with_disks = command->with_disks,
					  .progress = &progress };
	int code, r;

	if (directory == NULL) {
		return command_fail(&e);
	}
	r = client_connect(&client, name, command->target.api_socket, CLIENT_TIMEOUT_MS, &e);
	progress_begin(&progress, command->common.json);
	if (r == 0) {
		r = snapshot_take(&taking, &e);
		if (r < 0 && name != NULL && strstr(e.msg, name) == NULL) {
			(void)error_prefix(&e, "VM '%s'", name);
		}
	}
	client_close(&client);
	progress_wipe(&progress);
	code = r < 0 ? snapshot_fail(&progress, &e) : print(command, &taking);
	progress_end(&progress);
	return code;
}
