/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an instance, and which handler a request gets: one table before the start, one after.
 * What is in neither table at the time is refused before anything was looked at.
 *
 * Main thread; other threads are start.c's. Requests are a client's. Saved: nothing here.
 */
#include "vmm/instance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/text.h"

LOG_DOMAIN("instance");

/* --- what the VM tells ------------------------------------------------------------------------- */

static void stopped(struct vm_host *host, const struct vm_stop *stop)
{
	struct instance *instance = container_of(host, struct instance, vm_host);

	struct error e = { 0 };

	if (stop->reason == VM_STOP_REQUESTED && instance->own_stop.reason != VM_STOP_NONE) {
		stop = &instance->own_stop;
	}
	instance->stop = stop;
	instance->ended_ns = loop_now_ns();
	instance_enter(instance, INSTANCE_ENDED);
	/* It leaves a report, which is there before a client hears of the end. */
	instance->host->ended(instance->host, stop);
	event_log_add(&instance->events, "stopped", describe_stop(stop));
	figures_end(instance);
	(void)instance_has_ended(&e);
	changes_fail(instance, &e);
	plug_fail(instance, &e);
	control_stopped(instance);
}

static void was_reset(struct vm_host *host)
{
	event_log_add_reset(&container_of(host, struct instance, vm_host)->events);
}

static int enter_job(struct job_spawner *spawner, struct error *e)
{
	const struct instance *instance = container_of(spawner, struct instance, spawner);

	return sandbox_enter_thread(instance->settings.sandbox, SANDBOX_ROLE_JOB, e);
}

static bool may_restart(struct vm_host *host, struct error *why)
{
	struct instance_host *above = container_of(host, struct instance, vm_host)->host;

	return above->may_restart(above, why);
}

struct instance_boot instance_boot(const struct instance *instance)
{
	const struct vm_config *vm = &instance->config->vm;

	return (struct instance_boot){ .initrd = vm->boot.initrd != NULL,
				       .disks = vm->disk_count,
				       .serial_elsewhere = vm->serial.output_path != NULL,
				       .console = vm->console,
				       .debug_exit = vm->debug_exit };
}

/* --- life -------------------------------------------------------------------------------------- */

int instance_create(struct instance **ret, const struct instance_settings *settings,
		    struct instance_host *host, struct error *e)
{
	struct instance *instance;
	int r = vm_name_validate(settings->id, e);

	if (r < 0) {
		return r;
	}
	instance = calloc(1, sizeof(*instance));
	if (instance == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "create an instance: out of memory");
	}
	instance->settings = *settings;
	if (instance->settings.id == NULL) {
		instance->settings.id = "vm";
	}
	instance->host = host;
	instance->metrics.fd = -1;
	(void)pthread_mutex_init(&instance->serial.lock, NULL);
	event_log_init(&instance->events);
	instance->vm_host = (struct vm_host){
		.loop = host->loop,
		.stopped = stopped,
		.was_reset = was_reset,
		.may_restart = host->may_restart != NULL ? may_restart : NULL,
		.begin = instance_begin,
		.device_gone = plug_gone,
		.patience_ns = settings->patience_ns,
	};
	instance->spawner.spawn = control_spawn;
	spare_init(instance);
	migration_view_init(instance);
	instance->spawner.enter = enter_job;
	/* Who is in a hurry opens it when the VM runs. */
	atomic_init(&instance->pagemap_fd, -1);
	atomic_init(&instance->freezer_fd, -EBADF);
	atomic_init(&instance->statm_fd, settings->files_at_start ? -1 : open_statm());
	instance->config = config_create(&instance->settings, e);
	r = instance->config != NULL ? 0 : -EINVAL;
	if (r == 0) {
		r = jobs_create(&instance->jobs, host->loop, &instance->events, e);
	}
	if (r < 0) {
		(void)instance_destroy(instance);
		return r;
	}
	*ret = instance;
	return 0;
}

/* Nobody waits for it any more, and no thread works for it. */
static bool end(struct instance *instance)
{
	struct error e = { 0 };

	if (!instance->ending) {
		instance->ending = true;
		(void)error_set(&e, ERROR_CANCELLED, ECANCELED, "the instance ends");
		changes_fail(instance, &e);
		plug_fail(instance, &e);
		control_stopped(instance);
		jobs_end(instance->jobs);
		if (instance->vm != NULL && instance->state != INSTANCE_ENDED) {
			figures_end(instance);
		}
	}
	return instance_abandon_start(instance) && instance_destroy_vm(instance);
}

static void close_atomic(_Atomic int *fd)
{
	int value = atomic_load(fd);

	close_fd(&value);
}

bool instance_destroy(struct instance *instance)
{
	if (instance == NULL) {
		return true;
	}
	if (!end(instance)) {
		return false;
	}
	spare_end(instance);
	jobs_destroy(instance->jobs);
	receive_destroy(take_ptr(instance->receive));
	migration_view_finish(instance);
	json_decref(instance->metrics_before);
	snapshot_parent_set(instance, NULL, NULL, NULL);
	event_log_finish(&instance->events);
	if (instance->config != NULL && instance->config->log_fd >= 0) {
		log_leave(instance->settings.firecracker ? STDOUT_FILENO : STDERR_FILENO);
		instance_style_log(&instance->settings, NULL);
	}
	config_drop(instance->config, NULL);
	(void)pthread_mutex_destroy(&instance->serial.lock);
	close_atomic(&instance->statm_fd);
	close_atomic(&instance->pagemap_fd);
	close_atomic(&instance->freezer_fd);
	free(instance);
	return true;
}

bool instance_is_firecracker(const struct instance *instance)
{
	return instance->settings.firecracker;
}

struct vm *instance_vm(struct instance *instance)
{
	return instance->vm;
}

void instance_count_sigpipe(struct instance *instance)
{
	instance->sigpipes++;
}

struct event_log *instance_events(struct instance *instance)
{
	return &instance->events;
}

struct jobs *instance_jobs(struct instance *instance)
{
	return instance->jobs;
}

uint64_t instance_uptime_ns(const struct instance *instance)
{
	if (instance->started_ns == 0) {
		return 0;
	}
	return (instance->ended_ns != 0 ? instance->ended_ns : loop_now_ns()) -
	       instance->started_ns;
}

/* --- requests at any time ---------------------------------------------------------------------- */

static json_t *get_config(struct instance *instance)
{
	return config_to_json(&instance->config->vm, instance->settings.firecracker);
}

static json_t *get_machine(struct instance *instance)
{
	return config_machine_to_json(&instance->config->vm, instance->settings.firecracker);
}

static json_t *get_jobs(struct instance *instance)
{
	return jobs_describe_all(instance->jobs);
}

/* Requests that read, but for those with an id. NULL if memory is short. */
static json_t *(*const readers[REQUEST_TYPES])(struct instance *instance) = {
	[REQUEST_GET_INSTANCE] = answer_instance,
	[REQUEST_GET_VERSION] = answer_version,
	[REQUEST_GET_VM] = answer_vm,
	[REQUEST_GET_VM_CONFIG] = get_config,
	[REQUEST_GET_MACHINE_CONFIG] = get_machine,
	[REQUEST_GET_JOBS] = get_jobs,
	[REQUEST_GET_MIGRATION] = answer_migration,
};

int instance_describe(struct instance *instance, json_t **ret, struct error *e)
{
	auto_free char *directory = getcwd(NULL, 0);
	json_t *config = config_to_json(&instance->config->vm, false);

	if (config != NULL && directory != NULL && config_absolute_paths(config, directory)) {
		*ret = config;
		return 0;
	}
	json_decref(config);
	return directory == NULL ? error_set_sys(e, ERROR_CONFIG, errno, "the working directory")
				 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
}

static int unknown_job(const char *id, struct error *e)
{
	(void)error_set(e, ERROR_NOT_FOUND, ENOENT, "there is no job '%.40s'", id);
	return error_hint(e, "GET /jobs shows the last %d", JOBS_KEPT);
}

/* 0: no number of a job. */
static uint64_t job_number(const char *id)
{
	uint64_t n = 0;

	return id != NULL && id[0] != '0' && text_to_number(id, strlen(id), 10, &n) == 0 ? n : 0;
}

static int get_job(struct instance *instance, const char *id, json_t **reply, struct error *e)
{
	*reply = jobs_describe(instance->jobs, job_number(id));
	return *reply != NULL ? 0 : unknown_job(id != NULL ? id : "", e);
}

static int delete_job(struct instance *instance, const struct asked *asked, struct error *e)
{
	const char *id = asked->request->id;
	uint64_t number = job_number(id);

	return number != 0 ? jobs_cancel(instance->jobs, number, e)
			   : unknown_job(id != NULL ? id : "", e);
}

static int read_out(struct instance *instance, const struct request *request, json_t **reply,
		    struct error *e)
{
	if (request->type == REQUEST_GET_JOB) {
		return get_job(instance, request->id, reply, e);
	}
	*reply = readers[request->type](instance);
	return *reply != NULL ? 0 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "answer: out of memory");
}

/* --- requests before the start ----------------------------------------------------------------- */

void instance_style_log(const struct instance_settings *settings,
			const struct logger_settings *logger)
{
	const bool firecracker = settings->firecracker;
	struct log_style style = { .stamped = firecracker,
				   .zoned = !firecracker,
				   .id = settings->id };

	if (logger != NULL) {
		/* What goes to somebody's terminal or journal has its time from there. */
		style.stamped = firecracker || logger->path != NULL;
		style.show_level = logger->show_level || !firecracker;
		style.show_origin = logger->show_origin;
		style.module = logger->module;
	}
	log_set_style(&style);
}

/* What of the configuration has an effect at once. */
static void use_outputs(struct instance *instance)
{
	static const enum log_level levels[] = {
		[LOGGER_ERROR] = LOG_ERROR, [LOGGER_WARNING] = LOG_WARN, [LOGGER_INFO] = LOG_INFO,
		[LOGGER_DEBUG] = LOG_DEBUG, [LOGGER_TRACE] = LOG_TRACE,	 [LOGGER_OFF] = LOG_OFF,
	};
	const struct config *config = instance->config;
	const struct logger_settings *logger = &config->vm.logger;

	instance->metrics.fd = config->metrics_fd;
	if (!config->vm.has_logger) {
		return;
	}
	instance_style_log(&instance->settings, logger);
	if (config->log_fd >= 0) {
		log_init(levels[logger->level], config->log_fd);
	} else {
		log_set_level(levels[logger->level]);
	}
}

void instance_reopen_outputs(struct instance *instance)
{
	const struct config *config = instance->config;
	const struct {
		int fd;
		const char *what, *path;
	} outputs[] = {
		{ config->log_fd, "logger", config->vm.logger.path },
		{ config->metrics_fd, "metrics", config->vm.metrics.path },
		{ config->serial_fd, "serial", config->vm.serial.output_path },
	};
	struct error e = { 0 };
	bool opened = true;

	for (size_t i = 0; i < ARRAY_SIZE(outputs); i++) {
		if (output_reopen(outputs[i].fd, outputs[i].what, outputs[i].path, &e) < 0) {
			log_error_object(&e);
			opened = false;
		}
	}
	instance->metrics.cut = false;
	if (opened) {
		log_info("files of log, metrics and serial port: opened anew");
	}
}

/* The draft takes its place, if it is good. `what` names the event; NULL: it is none. */
static int conclude(struct instance *instance, struct config *draft, const char *what, int r)
{
	if (r < 0) {
		config_drop(draft, instance->config);
		return r;
	}
	config_commit(&instance->config, draft);
	use_outputs(instance);
	if (what != NULL) {
		event_log_add(&instance->events, "configured", json_pack("{s:s}", "request", what));
	}
	return 0;
}

static int configure(struct instance *instance, const struct asked *asked, struct error *e)
{
	const struct request *request = asked->request;
	const struct instance_settings *settings = &instance->settings;
	const char *what = settings->files_at_start ? NULL : request_infos[request->type].name;
	struct config *draft = config_draft(instance->config, e);

	return draft != NULL
		       ? conclude(instance, draft, what, config_put(draft, settings, request, e))
		       : -ENOMEM;
}

/* A fresh draft, if it is the time for that. NULL with `e`. */
static struct config *begin_anew(struct instance *instance, struct error *e)
{
	if (instance->state != INSTANCE_NOT_STARTED) {
		(void)instance_wrong_state(instance, e);
		return NULL;
	}
	return config_create(&instance->settings, e);
}

/* Of a fresh one that is filled, with `r` saying whether it is good. */
static int conclude_anew(struct instance *instance, struct config *draft, const char *what, int r,
			 struct error *e)
{
	if (r == 0) {
		r = config_keep_outputs(draft, instance->config, e);
	}
	return conclude(instance, draft, what, r);
}

int instance_apply_config(struct instance *instance, const json_t *config, struct error *e)
{
	struct config *draft = begin_anew(instance, e);

	if (draft == NULL) {
		return -EINVAL;
	}
	draft->vm.logger.show_level = instance->config->vm.logger.show_level;
	draft->vm.logger.show_origin = instance->config->vm.logger.show_origin;
	return conclude_anew(instance, draft, "ApplyConfig",
			     config_read(draft, &instance->settings, config, e), e);
}

int instance_take_config(struct instance *instance, const struct vm_config *config, struct error *e)
{
	struct config *draft = begin_anew(instance, e);

	return draft != NULL ? conclude_anew(instance, draft, NULL,
					     config_take(draft, &instance->settings, config, e), e)
			     : -EINVAL;
}

static int action_before(struct instance *instance, const struct asked *asked, struct error *e)
{
	const struct action *action = asked->request->object;

	if (action_check(action, e) < 0) {
		return -EINVAL;
	}
	if (action->type != ACTION_INSTANCE_START) {
		return instance_wrong_state(instance, e);
	}
	return asked->call != NULL ? instance_start_async(instance, action->paused, asked->call, e)
				   : instance_start_now(instance, action->paused, e);
}

/* --- dispatch ---------------------------------------------------------------------------------- */

#define AT_ANY_TIME \
	[REQUEST_DELETE_JOB] = delete_job, [REQUEST_PATCH_CONSOLE] = control_patch_console

static instance_handler *const at_any_time[REQUEST_TYPES] = { AT_ANY_TIME };
static instance_handler *const before_start[REQUEST_TYPES] = {
	AT_ANY_TIME,
	[REQUEST_PUT_BOOT_SOURCE] = configure,
	[REQUEST_PUT_MACHINE_CONFIG] = configure,
	[REQUEST_PATCH_MACHINE_CONFIG] = configure,
	[REQUEST_PUT_CPU_CONFIG] = configure,
	[REQUEST_PUT_DISK] = configure,
	[REQUEST_PUT_NET] = configure,
	[REQUEST_PUT_SERIAL] = configure,
	[REQUEST_PUT_ENTROPY] = configure,
	[REQUEST_PUT_LOGGER] = configure,
	[REQUEST_PUT_METRICS] = configure,
	[REQUEST_PUT_ACTION] = action_before,
	[REQUEST_PUT_SNAPSHOT_LOAD] = instance_load,
	[REQUEST_PUT_MIGRATION_RECEIVE] = instance_receive,
};
static instance_handler *const after_start[REQUEST_TYPES] = {
	AT_ANY_TIME,
	[REQUEST_PUT_DISK] = plug_add,
	[REQUEST_PUT_NET] = plug_add,
	[REQUEST_DELETE_DISK] = plug_remove,
	[REQUEST_DELETE_NET] = plug_remove,
	[REQUEST_PATCH_DISK] = control_patch_disk,
	[REQUEST_PATCH_NET] = control_patch_net,
	[REQUEST_PATCH_VM] = control_patch_vm,
	[REQUEST_PUT_SNAPSHOT] = snapshot_create,
	[REQUEST_PUT_SNAPSHOT_MARK] = instance_mark,
	[REQUEST_PUT_MIGRATION] = instance_migrate,
	[REQUEST_PATCH_MIGRATION] = instance_decide,
	[REQUEST_PUT_ACTION] = control_action,
};

int instance_wrong_state(struct instance *instance, struct error *e)
{
	switch (instance->state) {
	case INSTANCE_NOT_STARTED:
		(void)error_set(e, ERROR_WRONG_STATE, ENOTCONN,
				"The requested operation is not supported before starting the "
				"microVM.");
		return error_hint(e, "PUT /actions with InstanceStart starts it");
	case INSTANCE_STARTING:
		(void)error_set(e, ERROR_BUSY, EBUSY, "The VM is being started.");
		return error_hint(e, "try again when it runs, or when its start has failed");
	default:
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY,
				"The requested operation is not supported after starting the "
				"microVM.");
		return error_hint(e, "a VM is started once, and its configuration is made before");
	}
}

static instance_handler *find_handler(const struct instance *instance, enum request_type type)
{
	static instance_handler *const *const tables[] = {
		[STAGE_BEFORE] = before_start,
		[STAGE_BETWEEN] = at_any_time,
		[STAGE_AFTER] = after_start,
	};

	return tables[instance_states[instance->state].stage][type];
}

/* A door that left out what the table of requests promises. */
static int check_complete(const struct request *request, struct error *e)
{
	const struct request_info *info = &request_infos[request->type];
	bool object = info->body != NULL && !info->patch;
	bool json = info->patch || request->type == REQUEST_PUT_CPU_CONFIG;

	if ((object && request->object == NULL) || (json && request->json == NULL)) {
		return error_set(e, ERROR_INTERNAL, EINVAL, "%s: a request without its object",
				 info->name);
	}
	return 0;
}

/* As a handler. */
static int make_request(struct instance *instance, const struct request *request, json_t **reply,
			struct instance_call *call, struct error *e)
{
	instance_handler *handle = NULL;
	int r;

	if ((unsigned int)request->type >= REQUEST_TYPES) {
		return error_set(e, ERROR_INTERNAL, EINVAL, "request %d is not known",
				 (int)request->type);
	}
	instance->counts[request->type].made++;
	if (request_infos[request->type].replies) {
		r = read_out(instance, request, reply, e);
	} else {
		handle = find_handler(instance, request->type);
		r = handle == NULL ? instance_wrong_state(instance, e) : check_complete(request, e);
	}
	if (r == 0 && handle != NULL) {
		r = handle(instance, &(struct asked){ request, call }, e);
	}
	if (r < 0) {
		instance->counts[request->type].failed++;
	}
	return r;
}

int instance_request_now(struct instance *instance, const struct request *request, json_t **reply,
			 struct error *e)
{
	json_t *value = NULL;
	int r = make_request(instance, request, &value, NULL, e);

	if (r < 0) {
		return r;
	}
	if (reply != NULL) {
		*reply = value;
	} else {
		json_decref(value);
	}
	return 0;
}

void instance_request(struct instance *instance, const struct request *request,
		      struct instance_call *call)
{
	struct error e = { 0 };
	json_t *reply = NULL;
	int r;

	spare_begin(instance);
	r = make_request(instance, request, &reply, call, &e);

	if (r != CHANGE_PENDING) {
		call->done(call, reply, r < 0 ? &e : NULL);
	}
}

void instance_forget(struct instance *instance, const struct instance_call *call)
{
	if (instance->start_call == call) {
		instance->start_call = NULL;
	} else if (!changes_forget(instance, call)) {
		control_forget(instance, call);
		plug_forget(instance, call);
		migration_view_forget(instance, call);
	}
}
