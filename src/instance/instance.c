/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an instance, and which handler a request gets: one table before the start, one after.
 * What is in neither table at the time is refused before anything was looked at.
 *
 * Main thread; the one other thread, that of a start, is start.c's. Requests are a client's. Saved:
 * nothing here.
 */
#include "vmm/instance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("instance");

typedef int handler(struct instance *instance, const struct request *request, json_t **reply,
		    struct error *e);

/* --- what the VM tells ------------------------------------------------------------------------- */

static void stopped(struct vm_host *host, const struct vm_stop *stop)
{
	struct instance *instance = container_of(host, struct instance, vm_host);

	instance->stop = stop;
	instance->ended_ns = loop_now_ns();
	instance->state = INSTANCE_ENDED;
	event_log_add(&instance->events, "stopped", describe_stop(stop));
	figures_end(instance);
	instance->host->ended(instance->host, stop);
}

static void was_reset(struct vm_host *host)
{
	event_log_add_reset(&container_of(host, struct instance, vm_host)->events);
}

static bool may_restart(struct vm_host *host, struct error *why)
{
	struct instance_host *above = container_of(host, struct instance, vm_host)->host;

	return above->may_restart(above, why);
}

struct instance_boot instance_boot(const struct instance *instance)
{
	const struct config_store *store = &instance->config;

	return (struct instance_boot){ .initrd = store->boot.initrd != NULL,
				       .disks = store->drive_count,
				       .serial_elsewhere = store->serial.output_path != NULL };
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
		.start_threads = instance_start_threads,
	};
	/* Who is in a hurry opens it when somebody asks. */
	instance->statm_fd = settings->files_at_start ? -1 : open_statm();
	r = config_store_init(&instance->config, settings, e);
	if (r == 0) {
		r = jobs_create(&instance->jobs, host->loop, &instance->events, e);
	}
	if (r < 0) {
		instance_destroy(instance);
		return r;
	}
	*ret = instance;
	return 0;
}

void instance_destroy(struct instance *instance)
{
	if (instance == NULL) {
		return;
	}
	jobs_end(instance->jobs);
	instance_abandon_start(instance);
	if (instance->state == INSTANCE_RUNNING || instance->state == INSTANCE_PAUSED) {
		figures_end(instance);
	}
	vm_destroy(instance->vm);
	jobs_destroy(instance->jobs);
	json_decref(instance->metrics_before);
	event_log_finish(&instance->events);
	if (instance->config.log_fd >= 0) {
		log_leave(instance->settings.firecracker ? STDOUT_FILENO : STDERR_FILENO);
		instance_style_log(&instance->settings, NULL);
	}
	config_store_finish(&instance->config);
	(void)pthread_mutex_destroy(&instance->serial.lock);
	close_fd(&instance->statm_fd);
	free(instance);
}

enum instance_state instance_state(const struct instance *instance)
{
	enum instance_state state = instance->state;

	/* The VM has stopped, and its word is on the way. */
	if ((state == INSTANCE_RUNNING || state == INSTANCE_PAUSED) &&
	    vm_state(instance->vm) == VM_STOPPED) {
		return INSTANCE_ENDED;
	}
	return state;
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

static int give(json_t *value, json_t **reply, struct error *e)
{
	if (value == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "answer: out of memory");
	}
	*reply = value;
	return 0;
}

static int get_instance(struct instance *instance, const struct request *request, json_t **reply,
			struct error *e)
{
	(void)request;
	return give(answer_instance(instance), reply, e);
}

static int get_version(struct instance *instance, const struct request *request, json_t **reply,
		       struct error *e)
{
	(void)request;
	return give(answer_version(instance), reply, e);
}

static int get_vm(struct instance *instance, const struct request *request, json_t **reply,
		  struct error *e)
{
	(void)request;
	return give(answer_vm(instance), reply, e);
}

static int get_config(struct instance *instance, const struct request *request, json_t **reply,
		      struct error *e)
{
	(void)request;
	return give(config_store_to_json(&instance->config, instance->settings.firecracker), reply,
		    e);
}

int instance_describe(struct instance *instance, json_t **ret, struct error *e)
{
	auto_free char *directory = getcwd(NULL, 0);
	json_t *config = config_store_to_json(&instance->config, false);

	if (config != NULL && directory != NULL && config_absolute_paths(config, directory)) {
		*ret = config;
		return 0;
	}
	json_decref(config);
	return directory == NULL ? error_set_sys(e, ERROR_CONFIG, errno, "the working directory")
				 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
}

static int get_machine(struct instance *instance, const struct request *request, json_t **reply,
		       struct error *e)
{
	(void)request;
	return give(config_store_machine_to_json(&instance->config, instance->settings.firecracker),
		    reply, e);
}

static int get_jobs(struct instance *instance, const struct request *request, json_t **reply,
		    struct error *e)
{
	(void)request;
	return give(jobs_describe_all(instance->jobs), reply, e);
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

	if (id == NULL || id[0] == '0' || strlen(id) > 18) {
		return 0;
	}
	for (; *id != '\0'; id++) {
		if (*id < '0' || *id > '9') {
			return 0;
		}
		n = n * 10 + (uint64_t)(*id - '0');
	}
	return n;
}

static int get_job(struct instance *instance, const struct request *request, json_t **reply,
		   struct error *e)
{
	json_t *job = jobs_describe(instance->jobs, job_number(request->id));

	if (job == NULL) {
		return unknown_job(request->id != NULL ? request->id : "", e);
	}
	*reply = job;
	return 0;
}

static int delete_job(struct instance *instance, const struct request *request, json_t **reply,
		      struct error *e)
{
	uint64_t id = job_number(request->id);

	(void)reply;
	if (id == 0) {
		return unknown_job(request->id != NULL ? request->id : "", e);
	}
	return jobs_cancel(instance->jobs, id, e);
}

static int patch_console(struct instance *instance, const struct request *request, json_t **reply,
			 struct error *e)
{
	(void)reply;
	return control_patch_console(instance, request, e);
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
	const struct config_store *store = &instance->config;

	instance->metrics.fd = store->metrics_fd;
	if (!store->has_logger) {
		return;
	}
	instance_style_log(&instance->settings, &store->logger);
	if (store->log_fd >= 0) {
		log_init(levels[store->logger.level], store->log_fd);
	} else {
		log_set_level(levels[store->logger.level]);
	}
}

void instance_reopen_outputs(struct instance *instance)
{
	const struct config_store *store = &instance->config;
	const struct {
		int fd;
		const char *what, *path;
	} outputs[] = {
		{ store->log_fd, "logger", store->logger.path },
		{ store->metrics_fd, "metrics", store->metrics.path },
		{ store->serial_fd, "serial", store->serial.output_path },
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

static int configure(struct instance *instance, const struct request *request, json_t **reply,
		     struct error *e)
{
	int r = config_store_put(&instance->config, &instance->settings, request, e);

	(void)reply;
	if (r < 0) {
		return r;
	}
	if (request->type == REQUEST_PUT_LOGGER || request->type == REQUEST_PUT_METRICS) {
		use_outputs(instance);
	}
	if (!instance->settings.files_at_start) {
		event_log_add(&instance->events, "configured",
			      json_pack("{s:s}", "request", request_infos[request->type].name));
	}
	return 0;
}

int instance_apply_config(struct instance *instance, const json_t *config, struct error *e)
{
	struct config_store next, before;
	int r;

	if (instance->state != INSTANCE_NOT_STARTED) {
		return instance_wrong_state(instance, e);
	}
	r = config_store_init(&next, &instance->settings, e);
	next.logger.show_level = instance->config.logger.show_level;
	next.logger.show_origin = instance->config.logger.show_origin;
	if (r == 0) {
		r = config_store_read(&next, &instance->settings, config, e);
	}
	if (r < 0) {
		config_store_finish(&next);
		return r;
	}
	before = instance->config;
	config_store_keep_outputs(&next, &before);
	instance->config = next;
	use_outputs(instance);
	config_store_finish(&before);
	event_log_add(&instance->events, "configured",
		      json_pack("{s:s}", "request", "ApplyConfig"));
	return 0;
}

static int action_before(struct instance *instance, const struct request *request, json_t **reply,
			 struct error *e)
{
	const struct action *action = request->object;

	(void)reply;
	if (action->type == ACTION_INSTANCE_START) {
		return instance_start_now(instance, e);
	}
	return instance_wrong_state(instance, e);
}

/* --- requests after the start ------------------------------------------------------------------ */

static int action_after(struct instance *instance, const struct request *request, json_t **reply,
			struct error *e)
{
	(void)reply;
	return control_action(instance, request, e);
}

static int patch_drive(struct instance *instance, const struct request *request, json_t **reply,
		       struct error *e)
{
	(void)reply;
	return control_patch_drive(instance, request, e);
}

static int patch_net(struct instance *instance, const struct request *request, json_t **reply,
		     struct error *e)
{
	(void)reply;
	return control_patch_net(instance, request, e);
}

static int patch_vm(struct instance *instance, const struct request *request, json_t **reply,
		    struct error *e)
{
	(void)reply;
	return control_patch_vm(instance, request, e);
}

/* --- dispatch ---------------------------------------------------------------------------------- */

#define AT_ANY_TIME                                                                 \
	[REQUEST_GET_INSTANCE] = get_instance, [REQUEST_GET_VERSION] = get_version, \
	[REQUEST_GET_VM] = get_vm, [REQUEST_GET_VM_CONFIG] = get_config,            \
	[REQUEST_GET_MACHINE_CONFIG] = get_machine, [REQUEST_GET_JOBS] = get_jobs,  \
	[REQUEST_GET_JOB] = get_job, [REQUEST_DELETE_JOB] = delete_job,             \
	[REQUEST_PATCH_CONSOLE] = patch_console

static handler *const at_any_time[REQUEST_TYPES] = { AT_ANY_TIME };
static handler *const before_start[REQUEST_TYPES] = {
	AT_ANY_TIME,
	[REQUEST_PUT_BOOT_SOURCE] = configure,
	[REQUEST_PUT_MACHINE_CONFIG] = configure,
	[REQUEST_PATCH_MACHINE_CONFIG] = configure,
	[REQUEST_PUT_CPU_CONFIG] = configure,
	[REQUEST_PUT_DRIVE] = configure,
	[REQUEST_PUT_NET] = configure,
	[REQUEST_PUT_SERIAL] = configure,
	[REQUEST_PUT_ENTROPY] = configure,
	[REQUEST_PUT_LOGGER] = configure,
	[REQUEST_PUT_METRICS] = configure,
	[REQUEST_PUT_ACTION] = action_before,
};
static handler *const after_start[REQUEST_TYPES] = {
	AT_ANY_TIME,
	[REQUEST_PATCH_DRIVE] = patch_drive,
	[REQUEST_PATCH_NET] = patch_net,
	[REQUEST_PATCH_VM] = patch_vm,
	[REQUEST_PUT_ACTION] = action_after,
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

static handler *find_handler(const struct instance *instance, enum request_type type)
{
	switch (instance->state) {
	case INSTANCE_NOT_STARTED:
		return before_start[type];
	case INSTANCE_STARTING:
		return at_any_time[type];
	default:
		return after_start[type];
	}
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

int instance_request_now(struct instance *instance, const struct request *request, json_t **reply,
			 struct error *e)
{
	json_t *value = NULL;
	handler *handle;
	int r;

	if ((unsigned int)request->type >= REQUEST_TYPES) {
		return error_set(e, ERROR_INTERNAL, EINVAL, "request %d is not known",
				 (int)request->type);
	}
	instance->counts[request->type].made++;
	handle = find_handler(instance, request->type);
	r = handle == NULL ? instance_wrong_state(instance, e) : check_complete(request, e);
	if (r == 0) {
		r = handle(instance, request, &value, e);
	}
	if (r < 0) {
		instance->counts[request->type].failed++;
		return r;
	}
	if (reply != NULL) {
		*reply = value;
	} else {
		json_decref(value);
	}
	return 0;
}

static bool starts(const struct instance *instance, const struct request *request)
{
	const struct action *action = request->object;

	return request->type == REQUEST_PUT_ACTION && action != NULL &&
	       action->type == ACTION_INSTANCE_START && instance->state == INSTANCE_NOT_STARTED;
}

void instance_request(struct instance *instance, const struct request *request,
		      struct instance_call *call)
{
	struct error e = { 0 };
	json_t *reply = NULL;
	int r;

	if (starts(instance, request)) {
		instance->counts[REQUEST_PUT_ACTION].made++;
		instance_start_async(instance, call);
		return;
	}
	r = instance_request_now(instance, request, &reply, &e);
	call->done(call, reply, r < 0 ? &e : NULL);
}

void instance_forget(struct instance *instance, const struct instance_call *call)
{
	if (instance->start_call == call) {
		instance->start_call = NULL;
	}
}
