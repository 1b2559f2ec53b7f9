/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a configuration to a running VM. vm_create() does what takes long (files, memory, loading the
 * kernel); it runs on the caller's thread, or on a thread of its own that main joins when its post
 * arrives. What follows is main's: the process enters its sandbox, vm_start() has main enter its
 * filter and lets the guest go. A start from a snapshot begins with a thread that reads what the snapshot
 * says (restore.c). The last that has no filter are the thread "machine", for a moment,
 * and the settler.
 *
 * While the thread runs, it alone touches `vm_host` and `new_vm`, and it reads the configuration; main
 * answers reading requests and refuses the others. A failure destroys
 * what was made, and the instance is as it was.
 */
#include <errno.h>
#include <fcntl.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/freezer.h"

static void add_failure_event(struct instance *instance, const struct error *e)
{
	event_log_add(&instance->events, "start-failed",
		      json_pack("{s:s, s:s}", "code", error_code_name(e->code), "message", e->msg));
}

static void enter_starting(struct instance *instance)
{
	if (instance->state != INSTANCE_STARTING) {
		instance_enter(instance, INSTANCE_STARTING);
		event_log_add(&instance->events, "starting", NULL);
	}
}

static int prepare(struct instance *instance, struct error *e)
{
	struct config *config = instance->config;
	struct vm_config *vm = &config->vm;

	if (vm->boot.kernel == NULL && instance->restore == NULL) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"Cannot start the VM without a kernel: none is configured");
		return error_hint(e, "PUT /boot-source names one");
	}
	if (vm->serial.output_path != NULL && config->serial_fd < 0 &&
	    config_open_serial(&config->serial_fd, vm->serial.output_path, e) < 0) {
		return -EINVAL;
	}
	if (instance->host->starting != NULL && instance->host->starting(instance->host, e) < 0) {
		return -EINVAL;
	}
	/* What nobody can say and nobody is shown. */
	if (instance->restore == NULL) {
		vm->console = instance->settings.virtio_console || instance->host->hvc != NULL;
	}
	addresses_complete(vm, instance->settings.identity, &instance->address_random);
	instance->vm_host.serial =
		serial_file_init(&instance->serial, config, instance->host->serial);
	instance->vm_host.hvc = instance->host->hvc;
	enter_starting(instance);
	return 0;
}

static void *settle(void *arg)
{
	struct instance *instance = arg;

	(void)pthread_setname_np(pthread_self(), "settle");
	instance->host->settle(instance->host);
	return NULL;
}

/* The machine thread, before its filter. */
int instance_begin(struct vm_host *host, struct error *e)
{
	struct instance *instance = container_of(host, struct instance, vm_host);
	int r;

	if (atomic_load(&instance->statm_fd) < 0) {
		atomic_store(&instance->statm_fd, open_statm());
	}
	/* As long as this process may look at itself. */
	atomic_store(&instance->pagemap_fd, open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	atomic_store(&instance->freezer_fd, freezer_open());
	if (instance->host->settle == NULL) {
		return 0;
	}
	r = pthread_create(&instance->settler, NULL, settle, instance);
	instance->settles = r == 0;
	return r == 0 ? 0 : error_set_sys(e, ERROR_INTERNAL, r, "start a thread");
}

bool instance_destroy_vm(struct instance *instance)
{
	const struct vm_host *host = &instance->vm_host;
	uint64_t patience = host->patience_ns != 0 ? host->patience_ns : VM_PATIENCE_NS;
	bool over = vm_destroy(instance->vm);

	if (over) {
		instance->vm = NULL;
	}
	/* Its thread was started by one of the VM's. */
	if (over && instance->settles) {
		over = thread_join_in_time(instance->settler, patience);
		instance->settles = !over;
	}
	return over;
}

static int run(struct instance *instance, struct error *e)
{
	struct instance_host *host = instance->host;
	int r = host->prepare != NULL ? host->prepare(host, e) : 0;

	if (r == 0) {
		r = sandbox_enter_process(instance->settings.sandbox, e);
	}
	instance->started_ns = loop_now_ns();
	if (r == 0) {
		r = vm_start(instance->vm, instance->start_paused, e);
	}
	if (r == 0) {
		jobs_spawn_by(instance->jobs, &instance->spawner);
	}
	return r;
}

/*
 * Main has entered its filter, within which no VM can be made, or a thread of this one does not end:
 * what failed after that (KVM, not something that a client could correct) is the end.
 */
static void end_for_good(struct instance *instance, const struct error *e)
{
	instance->own_stop = (struct vm_stop){ .reason = VM_STOP_ERROR, .error = *e };
	instance->stop = &instance->own_stop;
	instance_enter(instance, INSTANCE_ENDED);
	event_log_add(&instance->events, "stopped", describe_stop(instance->stop));
}

/* `failure` NULL: it has succeeded. */
static void end_restore(struct instance *instance, const struct error *failure)
{
	if (instance->restore != NULL) {
		restore_conclude(instance->restore, instance, failure);
		restore_destroy(take_ptr(instance->restore));
	}
}

/* What could not begin ends as a migration that failed. */
static void begin_receiving(struct instance *instance)
{
	struct error e = { 0 };

	if (receive_begin(instance, &e) < 0) {
		receive_refuse(instance->receive, &e);
		receive_destroy(take_ptr(instance->receive));
		instance_end_failed(instance, &e);
	}
}

/* Main: vm_create() has returned `r`, with `e` filled if that is negative. */
static int conclude(struct instance *instance, int r, struct error *e)
{
	bool restored = instance->restore != NULL;

	instance->vm = instance->new_vm;
	instance->new_vm = NULL;
	if (r == 0) {
		r = run(instance, e);
	}
	end_restore(instance, r < 0 ? e : NULL);
	if (r < 0) {
		bool final = !instance_destroy_vm(instance) || sandbox_thread_entered();

		instance->started_ns = 0;
		if (instance->host->explain != NULL && !sandbox_thread_entered()) {
			instance->host->explain(instance->host, e);
		}
		add_failure_event(instance, e);
		if (final) {
			end_for_good(instance, e);
		} else {
			instance_enter(instance, INSTANCE_NOT_STARTED);
		}
		return r;
	}
	instance_enter(instance, instance->start_paused ? INSTANCE_PAUSED : INSTANCE_RUNNING);
	event_log_add(&instance->events, "started",
		      restored ? json_pack("{s:b}", "restored", true) : NULL);
	if (instance->start_paused) {
		event_log_add(&instance->events, "paused", NULL);
	}
	if (instance->columns != 0) {
		vm_console_resize(instance->vm, instance->columns, instance->rows);
	}
	figures_begin(instance);
	if (instance->host->started != NULL) {
		instance->host->started(instance->host, NULL);
	}
	if (instance->receive != NULL) {
		begin_receiving(instance);
	}
	return 0;
}

static int make_vm(struct instance *instance, struct error *e)
{
	int r;

	spare_use(instance);
	r = instance->restore != NULL
		    ? restore_make_vm(instance->restore, instance, e)
		    : vm_create(&instance->new_vm, &instance->config->vm, &instance->vm_host, e);
	spare_give_back(instance);
	return r;
}

int instance_start_now(struct instance *instance, bool paused, struct error *e)
{
	struct error failure = { 0 };
	int r;

	if (instance->state != INSTANCE_NOT_STARTED) {
		return instance_wrong_state(instance, e);
	}
	instance->start_paused = paused;
	r = prepare(instance, &failure);
	if (r == 0) {
		r = make_vm(instance, &failure);
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

	instance->start_result = make_vm(instance, &instance->start_error);
	loop_post(instance->host->loop, &instance->start_post);
	return NULL;
}

static void answer(struct instance *instance, const struct error *failure)
{
	struct instance_call *call = instance->start_call;

	instance->start_call = NULL;
	if (failure != NULL) {
		instance->counts[instance->start_type].failed++;
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

/* `then` is posted to main when `work` has returned. */
static int begin_thread(struct instance *instance, void *(*work)(void *arg),
			void (*then)(void *arg), struct error *e)
{
	int r;

	instance->start_post = (struct loop_post){ .run = then, .arg = instance };
	r = pthread_create(&instance->thread, NULL, work, instance);
	instance->thread_runs = r == 0;
	return r == 0 ? 0 : error_set_sys(e, ERROR_INTERNAL, r, "start: a thread");
}

/* Nothing of it was made. */
static int undo(struct instance *instance, int r, const struct error *e)
{
	end_restore(instance, e);
	if (instance->state == INSTANCE_STARTING) {
		instance_enter(instance, INSTANCE_NOT_STARTED);
		add_failure_event(instance, e);
	}
	return r;
}

static void begin_async(struct instance *instance, enum request_type type, bool paused,
			struct instance_call *call)
{
	instance->start_error = (struct error){ 0 };
	instance->start_type = type;
	instance->start_paused = paused;
	instance->start_call = call;
}

int instance_start_async(struct instance *instance, bool paused, struct instance_call *call,
			 struct error *e)
{
	int r;

	begin_async(instance, REQUEST_PUT_ACTION, paused, NULL);
	r = prepare(instance, e);
	if (r == 0) {
		r = begin_thread(instance, create, created, e);
	}
	if (r < 0) {
		return undo(instance, r, e);
	}
	instance->start_call = call;
	return CHANGE_PENDING;
}

/* --- from a snapshot, or from elsewhere ----------------------------------------------------------------------------- */

static void *read_snapshot(void *arg)
{
	struct instance *instance = arg;

	instance->start_result =
		restore_read(instance->restore, &instance->settings, &instance->start_error);
	loop_post(instance->host->loop, &instance->start_post);
	return NULL;
}

static int use_snapshot(struct instance *instance, struct error *e)
{
	int r = restore_commit(instance->restore, instance, e);

	return r == 0 ? prepare(instance, e) : r;
}

/* Main: what the snapshot says is known. */
static void snapshot_read(void *arg)
{
	struct instance *instance = arg;
	struct error *e = &instance->start_error;
	int r;

	(void)pthread_join(instance->thread, NULL);
	instance->thread_runs = false;
	r = instance->start_result;
	if (r == 0) {
		r = use_snapshot(instance, e);
	}
	if (r == 0) {
		r = begin_thread(instance, create, created, e);
	}
	if (r < 0) {
		(void)undo(instance, r, e);
		if (instance->host->started != NULL) {
			instance->host->started(instance->host, e);
		}
		answer(instance, e);
	}
}

static int load_now(struct instance *instance, struct error *e)
{
	struct error failure = { 0 };
	int r = restore_read(instance->restore, &instance->settings, &failure);

	if (r == 0) {
		r = use_snapshot(instance, &failure);
	}
	if (r < 0) {
		(void)undo(instance, r, &failure);
	} else {
		r = make_vm(instance, &failure);
		r = conclude(instance, r, &failure);
	}
	if (r < 0 && e != NULL) {
		*e = failure;
	}
	return r;
}

static int begin_restore(struct instance *instance, const struct asked *asked, struct error *e)
{
	int r;

	begin_async(instance, asked->request->type, !restore_wants_resume(instance->restore), NULL);
	enter_starting(instance);
	if (asked->call == NULL) {
		return load_now(instance, e);
	}
	r = begin_thread(instance, read_snapshot, snapshot_read, e);
	if (r < 0) {
		return undo(instance, r, e);
	}
	instance->start_call = asked->call;
	return CHANGE_PENDING;
}

int instance_load(struct instance *instance, const struct asked *asked, struct error *e)
{
	int r = restore_create(&instance->restore, instance, asked->request, e);

	return r == 0 ? begin_restore(instance, asked, e) : r;
}

/* The thread that waits has a filter: it cannot be main's. */
int instance_receive(struct instance *instance, const struct asked *asked, struct error *e)
{
	int r;

	if (asked->call == NULL) {
		return error_set(e, ERROR_INTERNAL, EINVAL, "receive: nobody waits for it");
	}
	r = restore_create_receive(&instance->restore, instance, asked->request->object, e);
	return r == 0 ? begin_restore(instance, asked, e) : r;
}

bool instance_abandon_start(struct instance *instance)
{
	const struct vm_host *host = &instance->vm_host;
	uint64_t patience = host->patience_ns != 0 ? host->patience_ns : VM_PATIENCE_NS;
	struct error e = { 0 };

	if (!instance->thread_runs) {
		return true;
	}
	(void)error_set(&e, ERROR_CANCELLED, ECANCELED, "start: the instance ends");
	if (instance->restore != NULL) {
		restore_cancel(instance->restore);
	}
	answer(instance, &e);
	if (!thread_join_in_time(instance->thread, patience)) {
		return false;
	}
	instance->thread_runs = false;
	loop_post_cancel(instance->host->loop, &instance->start_post);
	(void)vm_destroy(instance->new_vm); /* it has no thread yet that could wait */
	instance->new_vm = NULL;
	end_restore(instance, &e);
	instance_enter(instance, INSTANCE_NOT_STARTED);
	return true;
}
