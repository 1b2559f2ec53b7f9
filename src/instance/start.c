/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a configuration to a running VM. vm_create() does what takes long (files, memory, loading the
 * kernel); it runs on the caller's thread, or on a thread of its own that main joins when its post
 * arrives. What follows is main's: the process enters its sandbox, vm_start() has main enter its
 * filter and lets the guest go.
 *
 * While the thread runs, it alone touches `vm_config`, `vm_host`, `new_vm` and what the
 * configuration lends them; main answers reading requests and refuses the others. A failure destroys
 * what was made, and the instance is as it was.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"
#include "vmm/cleanup.h"

static void add_failure_event(struct instance *instance, const struct error *e)
{
	event_log_add(&instance->events, "start-failed",
		      json_pack("{s:s, s:s}", "code", error_code_name(e->code), "message", e->msg));
}

static int prepare(struct instance *instance, struct error *e)
{
	const struct serial_settings *serial = &instance->config.serial;

	if (!instance->config.has_boot) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"Cannot start the VM without a kernel: none is configured");
		return error_hint(e, "PUT /boot-source names one");
	}
	if (serial->output_path != NULL && instance->config.serial_fd < 0 &&
	    config_store_open_serial(&instance->config.serial_fd, serial->output_path, e) < 0) {
		return -EINVAL;
	}
	if (instance->host->starting != NULL && instance->host->starting(instance->host, e) < 0) {
		return -EINVAL;
	}
	instance->vm_config = malloc(sizeof(*instance->vm_config));
	if (instance->vm_config == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "start: out of memory");
	}
	config_store_to_vm(&instance->config, &instance->settings, instance->vm_config,
			   instance->drive_places);
	addresses_complete(instance->vm_config, instance->settings.identity,
			   &instance->address_random);
	instance->vm_host.serial =
		serial_file_init(&instance->serial, &instance->config, instance->host->serial);
	instance->vm_host.hvc = instance->host->hvc;
	instance->vm_config->console =
		instance->settings.virtio_console || instance->host->hvc != NULL;
	instance->state = INSTANCE_STARTING;
	event_log_add(&instance->events, "starting", NULL);
	return 0;
}

static int enter_job(void *arg, struct error *e)
{
	const struct instance *instance = arg;

	return sandbox_enter_thread(instance->settings.sandbox, SANDBOX_ROLE_JOB, e);
}

/* The thread that starts the VM's workers, while the guest begins. */
int instance_start_threads(struct vm_host *host, struct error *e)
{
	struct instance *instance = container_of(host, struct instance, vm_host);
	const char *name = instance->settings.firecracker ? "fc_api" : "jobs";
	int r = jobs_start_worker(instance->jobs, name, enter_job, instance, e);

	if (r == 0 && instance->host->settle != NULL) {
		instance->host->settle(instance->host);
	}
	return r;
}

static int run(struct instance *instance, struct error *e)
{
	struct instance_host *host = instance->host;
	int r = host->prepare != NULL ? host->prepare(host, e) : 0;

	if (r == 0) {
		r = sandbox_enter_process(instance->settings.sandbox, e);
	}
	instance->started_ns = loop_now_ns();
	jobs_expect_worker(instance->jobs, true);
	return r == 0 ? vm_start(instance->vm, e) : r;
}

/*
 * Main has entered its filter, within which no VM can be made: what failed after that (KVM, not
 * something that a client could correct) is the end.
 */
static void end_for_good(struct instance *instance, const struct error *e)
{
	instance->failed_stop = (struct vm_stop){ .reason = VM_STOP_ERROR, .error = *e };
	instance->stop = &instance->failed_stop;
	instance->state = INSTANCE_ENDED;
	event_log_add(&instance->events, "stopped", describe_stop(instance->stop));
}

/* Main: vm_create() has returned `r`, with `e` filled if that is negative. */
static int conclude(struct instance *instance, int r, struct error *e)
{
	instance->vm = instance->new_vm;
	instance->new_vm = NULL;
	/* Its strings are the configuration's, which requests change. */
	free(take_ptr(instance->vm_config));
	if (r == 0) {
		r = run(instance, e);
	}
	if (r < 0) {
		vm_destroy(instance->vm);
		jobs_expect_worker(instance->jobs, false);
		instance->vm = NULL;
		instance->started_ns = 0;
		instance->state = INSTANCE_NOT_STARTED;
		if (instance->host->explain != NULL && !sandbox_thread_entered()) {
			instance->host->explain(instance->host, e);
		}
		add_failure_event(instance, e);
		if (sandbox_thread_entered()) {
			end_for_good(instance, e);
		}
		return r;
	}
	instance->state = INSTANCE_RUNNING;
	event_log_add(&instance->events, "started", NULL);
	if (instance->columns != 0) {
		vm_console_resize(instance->vm, instance->columns, instance->rows);
	}
	figures_begin(instance);
	if (instance->host->started != NULL) {
		instance->host->started(instance->host, NULL);
	}
	return 0;
}

int instance_start_now(struct instance *instance, struct error *e)
{
	struct error failure = { 0 };
	int r;

	if (instance->state != INSTANCE_NOT_STARTED) {
		return instance_wrong_state(instance, e);
	}
	r = prepare(instance, &failure);
	if (r == 0) {
		r = vm_create(&instance->new_vm, instance->vm_config, &instance->vm_host, &failure);
		r = conclude(instance, r, &failure);
	}
	if (r < 0 && e != NULL) {
		*e = failure;
	}
	return r;
}

static void *create(void *arg)
{
	struct instance *instance = arg;

	instance->start_result = vm_create(&instance->new_vm, instance->vm_config,
					   &instance->vm_host, &instance->start_error);
	loop_post(instance->host->loop, &instance->start_post);
	return NULL;
}

static void answer(struct instance *instance, const struct error *failure)
{
	struct instance_call *call = instance->start_call;

	instance->start_call = NULL;
	if (failure != NULL) {
		instance->counts[REQUEST_PUT_ACTION].failed++;
	}
	if (call != NULL) {
		call->done(call, NULL, failure);
	}
}

static void created(void *arg)
{
	struct instance *instance = arg;
	int r;

	(void)pthread_join(instance->thread, NULL);
	instance->thread_runs = false;
	r = conclude(instance, instance->start_result, &instance->start_error);
	if (r < 0 && instance->host->started != NULL) {
		instance->host->started(instance->host, &instance->start_error);
	}
	answer(instance, r < 0 ? &instance->start_error : NULL);
	if (instance->state == INSTANCE_ENDED && instance->vm == NULL) {
		instance->host->ended(instance->host, instance->stop);
	}
}

void instance_start_async(struct instance *instance, struct instance_call *call)
{
	struct error *e = &instance->start_error;
	int r;

	*e = (struct error){ 0 };
	instance->start_call = call;
	r = prepare(instance, e);
	if (r < 0) {
		answer(instance, e);
		return;
	}
	instance->start_post = (struct loop_post){ .run = created, .arg = instance };
	r = pthread_create(&instance->thread, NULL, create, instance);
	if (r != 0) {
		free(take_ptr(instance->vm_config));
		instance->state = INSTANCE_NOT_STARTED;
		(void)error_set_sys(e, ERROR_INTERNAL, r, "start: a thread");
		add_failure_event(instance, e);
		answer(instance, e);
		return;
	}
	instance->thread_runs = true;
}

void instance_abandon_start(struct instance *instance)
{
	struct error e = { 0 };

	if (!instance->thread_runs) {
		return;
	}
	(void)pthread_join(instance->thread, NULL);
	instance->thread_runs = false;
	loop_post_cancel(instance->host->loop, &instance->start_post);
	vm_destroy(instance->new_vm);
	instance->new_vm = NULL;
	free(take_ptr(instance->vm_config));
	instance->state = INSTANCE_NOT_STARTED;
	(void)error_set(&e, ERROR_CANCELLED, ECANCELED, "start: the instance ends");
	answer(instance, &e);
}
