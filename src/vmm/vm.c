// SPDX-License-Identifier: Apache-2.0
/*
 * The life cycle of a VM; states in vmm/vm.h. This is main's side of it: which task the thread
 * "machine" gets next (operations.c), what comes of it, events, and the end. Main never waits, but
 * in vm_destroy().
 *
 * Tasks are given one at a time, in this order: a stop, the end of a VM that is broken, taking down
 * what the guest has ejected, an event of the guest, what was asked for; but after an event what was asked for has its turn, so that a guest
 * which resets all the time keeps nobody waiting.
 *
 * report_event() and report_failure() run on vCPU threads: they write down the first event, close
 * the gate so that the guest does not run on, and post to main's loop.
 *
 * The guest controls when events come and which; nothing else. Saved: nothing here, the parts save
 * themselves.
 */
#include <errno.h>
#include <stdlib.h>

#include "vm_internal.h"
#include "vmm/log.h"
#include "vmm/pager.h"

LOG_DOMAIN("vm");

/* --- vCPU threads ------------------------------------------------------------------------------ */

static void report(struct vm *vm, uint32_t event)
{
	uint32_t none = 0;

	if (!atomic_compare_exchange_strong(&vm->event, &none, event)) {
		return;
	}
	if (vcpu_current() != NULL) {
		atomic_store(&vm->reporter, vcpu_current()->index);
	}
	vcpus_want_hold(&vm->vcpus);
	if (!atomic_exchange(&vm->event_posted, true)) {
		loop_post(vm->host->loop, &vm->event_post);
	}
}

static void report_event(struct power_sink *sink, enum power_event event, uint8_t code)
{
	report(container_of(sink, struct vm, power), VM_EVENT(event, code));
}

static void report_failure(struct vcpus *all, struct vcpu *vcpu)
{
	struct vm *vm = container_of(all, struct vm, vcpus);

	atomic_store(&vm->failed, vcpu);
	report(vm, VM_EVENT(VM_EVENT_FAILURE, 0));
}

void vm_memory_lost(struct guest_memory *mem, const struct error *why)
{
	struct vm *vm = container_of(mem, struct vm, mem);

	vm->memory_failure = *why;
	vcpus_close(&vm->vcpus);
	/* Before that main looks itself (vm_start()), or who makes the VM. */
	if (atomic_load(&vm->is_mains)) {
		loop_post(vm->host->loop, &vm->memory_post);
	}
}

static void device_left(struct machine *machine)
{
	struct vm *vm = container_of(machine, struct vm, machine);

	if (!atomic_exchange(&vm->left_posted, true)) {
		loop_post(vm->host->loop, &vm->left_post);
	}
}

/* --- tasks ------------------------------------------------------------------------------------- */

/* The machine thread. */
static void run_task(void *arg)
{
	struct vm *vm = arg;
	struct vm_task *task = &vm->task;

	task->result = task->run(vm, task, &task->error);
	task->lacks_disks = machine_lacks_disks(&vm->machine);
	task->gone_count = machine_take_gone(&vm->machine, task->gone);
	loop_post(vm->host->loop, &task->back);
}

static void begin(struct vm *vm, int (*run)(struct vm *vm, struct vm_task *task, struct error *e),
		  struct vm_operation *operation, enum vm_state after)
{
	struct vm_task *task = &vm->task;

	task->run = run;
	task->operation = operation;
	task->after = after;
	task->error = (struct error){ 0 };
	vm->busy = true;
	loop_post(&vm->thread.loop, &task->there);
}

/* `why` NULL: there is nothing to say. */
static void begin_end(struct vm *vm, enum vm_stop_reason reason, uint8_t code,
		      const struct error *why)
{
	vm->task.stop = (struct vm_stop){ .reason = reason, .code = code };
	if (why != NULL) {
		vm->task.stop.error = *why;
	}
	begin(vm, vm_do_end, NULL, VM_STOPPED);
}

static void answer(struct vm *vm, int result, const struct error *e)
{
	struct vm_operation *operation = vm->asked;

	vm->asked = NULL;
	vm->asked_state = ASKED_NOTHING;
	operation->result = result;
	operation->error = *e;
	operation->done(operation);
}

/* Whose disks are another process's, for now. */
static int refuse_without_disks(const char *what, struct error *e)
{
	(void)error_set(e, ERROR_WRONG_STATE, EBUSY, "%s: the VM does not have its disks' locks",
			what);
	return error_hint(e, "it has to take them first; another process may have them");
}

/* What would write to a disk, or let the guest do so. */
static bool needs_disks(enum vm_operation_type type)
{
	return type == VM_RESUME || type == VM_RESET || type == VM_CHANGE_DISK;
}

/* In a state in which it is not possible. */
static int judge(const struct vm *vm, struct error *e)
{
	enum vm_operation_type type = vm->asked->type;
	const struct vm_operation_info *info = &vm_operations[type];

	if (type == VM_REMOVE_DEVICE && vm->state == VM_PAUSED && !vm->asked->remove.force) {
		(void)error_set(e, ERROR_CONFIG, EBUSY,
				"'%.64s': the VM is paused, and its guest gives nothing back",
				vm->asked->remove.id);
		return error_hint(e, "resume it first");
	}
	if (vm->awaits_state ? type < VM_LOAD : type == VM_LOAD) {
		return error_set(e, ERROR_WRONG_STATE, EBUSY, "%s: the VM %s", info->name,
				 vm->awaits_state ? "has not come here yet"
						  : "has its state already");
	}
	if (vm->state == VM_PAUSED && vm->lacks_disks && needs_disks(type)) {
		return refuse_without_disks(info->name, e);
	}
	if ((info->states >> vm->state & 1) != 0) {
		return 0;
	}
	if (type == VM_PAUSE && vm->state == VM_PAUSED) {
		return error_set(e, ERROR_CONFIG, EALREADY, "pause: the VM is paused");
	}
	if (type == VM_RESUME && vm->state == VM_RUNNING) {
		return error_set(e, ERROR_CONFIG, EALREADY, "resume: the VM is not paused");
	}
	return error_set(e, ERROR_CONFIG, ENOTCONN, "%s: the VM %s", info->name,
			 info->states == 1U << VM_PAUSED ? "is not paused" : "does not run");
}

/* From the loop: who asks hears of it after that. */
static void refuse(void *arg)
{
	struct vm *vm = arg;
	struct error e = vm->asked->error;

	answer(vm, vm->asked->result, &e);
}

static void begin_asked(struct vm *vm)
{
	const struct vm_operation_info *info = &vm_operations[vm->asked->type];

	vm->asked->error = (struct error){ 0 };
	vm->asked->result = judge(vm, &vm->asked->error);
	if (vm->asked->result < 0) {
		vm->asked_state = ASKED_REFUSED;
		loop_post(vm->host->loop, &vm->refusal);
		return;
	}
	vm->asked_state = ASKED_UNDER_WAY;
	begin(vm, info->run, vm->asked, info->after == VM_STOPPED ? vm->state : info->after);
}

static void begin_reset(struct vm *vm)
{
	begin(vm, vm_operations[VM_RESET].run, NULL, VM_RUNNING);
}

static void reboot(struct vm *vm)
{
	const int on_reboot = vm->machine_config.on_reboot;
	struct vm_host *host = vm->host;
	struct error why = { 0 };

	if (on_reboot == VM_ON_REBOOT_EXIT) {
		begin_end(vm, VM_STOP_REBOOT, 0, NULL);
	} else if (on_reboot == VM_ON_REBOOT_AUTO && host->may_restart != NULL &&
		   !host->may_restart(host, &why)) {
		vm->resets++;
		begin_end(vm, VM_STOP_BOOT_LOOP, 0, &why);
	} else {
		begin_reset(vm);
	}
}

static void act_on_event(struct vm *vm, uint32_t event)
{
	switch (event >> 8) {
	case POWER_OFF:
		begin_end(vm, VM_STOP_POWER_OFF, 0, NULL);
		break;
	case POWER_RESET:
		reboot(vm);
		break;
	case POWER_PANIC:
		begin_end(vm, VM_STOP_PANIC, 0, NULL);
		break;
	case POWER_TRIPLE_FAULT:
		begin_end(vm, VM_STOP_TRIPLE_FAULT, 0, NULL);
		break;
	case POWER_DEBUG_EXIT:
		begin_end(vm, VM_STOP_DEBUG_EXIT, (uint8_t)event, NULL);
		break;
	case VM_EVENT_FAILURE:
		begin_end(vm, VM_STOP_ERROR, 0, &atomic_load(&vm->failed)->error);
		break;
	default:
		break;
	}
}

/* What is next, if the machine thread has nothing to do. */
static void dispatch(struct vm *vm)
{
	bool asked = vm->asked_state == ASKED_WAITS;
	uint32_t event = 0;

	if (vm->busy || (vm->state != VM_RUNNING && vm->state != VM_PAUSED)) {
		return;
	}
	/* While PAUSED it waits for VM_RESUME. */
	if (vm->event_heard && vm->state == VM_RUNNING) {
		event = atomic_load(&vm->event);
	}
	if (vm->stop_wanted) {
		begin_end(vm, VM_STOP_REQUESTED, 0, NULL);
	} else if (vm->broken) {
		begin_end(vm, VM_STOP_ERROR, 0, &vm->failure);
	} else if (vm->left_heard) {
		vm->left_heard = false;
		begin(vm, vm_do_take_left, NULL, vm->state);
	} else if (event != 0 && !(asked && vm->event_was_last)) {
		vm->event_was_last = true;
		vm->event_heard = false;
		act_on_event(vm, event);
	} else if (asked) {
		vm->event_was_last = false;
		begin_asked(vm);
	}
}

static void event_arrived(void *arg)
{
	struct vm *vm = arg;

	atomic_store(&vm->event_posted, false);
	vm->event_heard = true;
	dispatch(vm);
}

static void left_arrived(void *arg)
{
	struct vm *vm = arg;

	atomic_store(&vm->left_posted, false);
	vm->left_heard = true;
	dispatch(vm);
}

static void memory_lost_arrived(void *arg)
{
	struct vm *vm = arg;

	vm->broken = true;
	vm->failure = vm->memory_failure;
	dispatch(vm);
}

static void failure_arrived(void *arg)
{
	struct vm *vm = arg;

	vm->broken = true;
	dispatch(vm);
}

/* --- what comes of them ------------------------------------------------------------------------ */

static void call_was_reset(void *arg)
{
	struct vm *vm = arg;

	vm->reset_posted = false;
	vm->host->was_reset(vm->host);
}

/* Once for several resets that follow each other quickly. */
static void note_reset(struct vm *vm)
{
	vm->resets++;
	if (vm->host->was_reset != NULL && !vm->reset_posted) {
		vm->reset_posted = true;
		loop_post(vm->host->loop, &vm->reset_post);
	}
}

/* The host may destroy the VM: this is the last that is done. */
static void call_stopped(void *arg)
{
	struct vm *vm = arg;

	vm->host->stopped(vm->host, &vm->stop);
}

static void conclude(struct vm *vm, const struct vm_stop *stop)
{
	struct error e = { 0 };

	loop_timer_cancel(&vm->patience);
	vm->state = VM_STOPPED;
	vm->stop = *stop;
	if (vm->asked_state == ASKED_WAITS) {
		int r = judge(vm, &e);

		answer(vm, r, &e);
	}
	call_stopped(vm);
}

static void tell_gone(struct vm *vm)
{
	struct vm_task *task = &vm->task;

	for (uint32_t i = 0; i < task->gone_count; i++) {
		struct device *device = task->gone[i];
		bool is_disk = device->kind == vm_device_kinds[VM_DISK];

		if (vm->host->device_gone != NULL) {
			vm->host->device_gone(vm->host, is_disk ? VM_DISK : VM_NET, device->id);
		}
		device_free(device);
	}
	task->gone_count = 0;
}

static void task_over(void *arg)
{
	struct vm *vm = arg;
	const struct vm_task *task = &vm->task;
	bool reset = task->run == vm_operations[VM_RESET].run;

	tell_gone(vm);
	vm->busy = false;
	vm->lacks_disks = task->lacks_disks;
	if (vm->state != VM_STOPPED && task->run == vm_do_end) {
		conclude(vm, &task->stop);
		return;
	}
	if (vm->state != VM_STOPPED && task->result == 0) {
		vm->state = task->after;
	}
	if (reset && task->result == 0) {
		note_reset(vm);
	} else if (reset) {
		vm->broken = true;
		vm->failure = task->error;
	}
	if (task->operation != NULL) {
		answer(vm, task->result, &task->error);
	}
	dispatch(vm);
}

void vm_ask(struct vm *vm, struct vm_operation *operation)
{
	VMM_BUG_ON(vm->asked != NULL);
	vm->asked = operation;
	vm->asked_state = ASKED_WAITS;
	if (vm->state == VM_CREATED || vm->state == VM_STOPPED) {
		begin_asked(vm);
	} else {
		dispatch(vm);
	}
}

/* --- life -------------------------------------------------------------------------------------- */

static void take_down(void *arg)
{
	struct vm *vm = arg;

	vm_take_down(vm);
	loop_stop(&vm->thread.loop);
}

void vm_init_life(struct vm *vm)
{
	vm->power.event = report_event;
	vm->vcpus.failed = report_failure;
	vm->task.there = (struct loop_post){ .run = run_task, .arg = vm };
	vm->task.back = (struct loop_post){ .run = task_over, .arg = vm };
	vm->finish = (struct loop_post){ .run = take_down, .arg = vm };
	vm->refusal = (struct loop_post){ .run = refuse, .arg = vm };
	vm->event_post = (struct loop_post){ .run = event_arrived, .arg = vm };
	vm->left_post = (struct loop_post){ .run = left_arrived, .arg = vm };
	vm->machine.device_left = device_left;
	vm->failure_post = (struct loop_post){ .run = failure_arrived, .arg = vm };
	vm->memory_post = (struct loop_post){ .run = memory_lost_arrived, .arg = vm };
	vm->stop_post = (struct loop_post){ .run = call_stopped, .arg = vm };
	vm->reset_post = (struct loop_post){ .run = call_was_reset, .arg = vm };
}

/* The vCPUs have set themselves up by now, as a rule. Main's filter comes last: it cannot place them,
 * and if they refuse (a CPU template), main must be able to make another VM. */
static int prepare_to_run(struct vm *vm, struct error *e)
{
	int r;

	atomic_store(&vm->is_mains, true);
	r = pager_check(vm->mem.pager, e);
	if (r == 0) {
		r = worker_start(&vm->thread, vm_begin_machine, vm, e);
	}
	if (r == 0) {
		r = vcpus_wait_ready(&vm->vcpus, e);
	}
	if (r == 0 && !vm->loaded) {
		r = vm_place_vcpus(vm, e);
	}
	return r == 0 ? sandbox_enter_thread(vm->sandbox, SANDBOX_ROLE_MAIN, e) : r;
}

int vm_start(struct vm *vm, bool paused, struct error *e)
{
	int r;

	if (vm->state != VM_CREATED) {
		return error_set(e, ERROR_CONFIG, EBUSY, "start: the VM was started before");
	}
	if (!paused && vm->lacks_disks) {
		return refuse_without_disks("start", e);
	}
	r = prepare_to_run(vm, e);
	if (r < 0) {
		return r;
	}
	vm->state = paused ? VM_PAUSED : VM_RUNNING;
	if (!paused && vm->loaded) {
		/* Queues that go on need their workers. */
		begin(vm, vm_operations[VM_RESUME].run, NULL, VM_RUNNING);
	} else if (!paused) {
		vcpus_release(&vm->vcpus);
	}
	return 0;
}

static uint64_t patience_ns(const struct vm *vm)
{
	return vm->host->patience_ns != 0 ? vm->host->patience_ns : VM_PATIENCE_NS;
}

static void give_up(struct loop_timer *timer)
{
	struct vm *vm = container_of(timer, struct vm, patience);
	const struct vm_stop stop = { .reason = VM_STOP_REQUESTED };

	vm->given_up = true;
	log_warn("the machine does not stop: a disk, or what else it waits for, does not answer; "
		 "what is under way there is given up");
	conclude(vm, &stop);
}

void vm_stop(struct vm *vm)
{
	if (vm->state == VM_STOPPED || vm->stop_wanted) {
		return;
	}
	vm->stop_wanted = true;
	atomic_store(&vm->is_mains, true);
	if (vm->state == VM_CREATED) {
		vm->state = VM_STOPPED;
		vm->stop.reason = VM_STOP_REQUESTED;
		loop_post(vm->host->loop, &vm->stop_post);
		return;
	}
	vcpus_want_hold(&vm->vcpus);
	loop_timer_set(vm->host->loop, &vm->patience, patience_ns(vm), give_up);
	dispatch(vm);
}

/* The thread takes everything down, behind what it is at. */
static bool end_thread(struct vm *vm)
{
	if (!vm->thread.started) {
		vm_take_down(vm);
		return true;
	}
	if (!vm->finishing) {
		vm->finishing = true;
		loop_post(&vm->thread.loop, &vm->finish);
	}
	return worker_join(&vm->thread, vm->given_up ? 0 : patience_ns(vm));
}

/* Nobody posts any more; what was posted must not find a VM that is gone. */
static void cancel_posts(struct vm *vm)
{
	struct loop_post *const posts[] = { &vm->task.back, &vm->refusal,      &vm->event_post,
					    &vm->left_post, &vm->failure_post, &vm->memory_post,
					    &vm->stop_post, &vm->reset_post };

	for (size_t i = 0; i < ARRAY_SIZE(posts); i++) {
		loop_post_cancel(vm->host->loop, posts[i]);
	}
}

bool vm_destroy(struct vm *vm)
{
	struct error e = { 0 };

	if (vm == NULL) {
		return true;
	}
	loop_timer_cancel(&vm->patience);
	if (!end_thread(vm)) {
		if (!vm->given_up) {
			log_warn("the VM's threads do not end: a disk, or what else they wait for, "
				 "does not answer");
		}
		vm->given_up = true;
		return false;
	}
	/* Before that there are none, and this may be another thread than the loop's. */
	if (atomic_load(&vm->is_mains)) {
		cancel_posts(vm);
	}
	while (vm->task.gone_count > 0) {
		device_free(vm->task.gone[--vm->task.gone_count]);
	}
	if (vm->asked_state == ASKED_UNDER_WAY) {
		answer(vm, vm->task.result, &vm->task.error);
	} else if (vm->asked != NULL) {
		(void)error_set(&e, ERROR_CANCELLED, ECANCELED, "%s: the VM ends",
				vm_operations[vm->asked->type].name);
		answer(vm, -ECANCELED, &e);
	}
	worker_finish(&vm->thread);
	free(vm->cpu_template);
	free(vm->saved_cmdline);
	if (vm->boot_config != NULL) {
		vm_config_finish(vm->boot_config);
		free(vm->boot_config);
	}
	free(vm->kernel_path);
	for (uint32_t i = 0; i < VM_INITRDS_MAX; i++) {
		free(vm->initrd_paths[i]);
	}
	free(vm);
	return true;
}
