// SPDX-License-Identifier: Apache-2.0
/*
 * The thread "machine": what it does to the machine, one task after the other (vm.c gives them).
 * It is the one thread that waits, for vCPUs to park and for workers to finish what their disks are
 * at; and the one that starts threads and opens files once all filters are up. The order that keeps
 * the house free of deadlock: machine -> vCPUs -> workers. It waits for main never.
 *
 * The guest controls how long its disk has work to finish, and what stands in a vCPU's registers.
 * Saved: nothing here, the parts save themselves.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch.h"
#include "devices/kinds.h"
#include "places.h"
#include "vm_internal.h"

static int do_pause(struct vm *vm, struct vm_task *task, struct error *e)
{
	(void)task;
	(void)e;
	vcpus_hold(&vm->vcpus);
	throttle_end(&vm->throttle);
	machine_quiesce(&vm->machine);
	return 0;
}

static int do_resume(struct vm *vm, struct vm_task *task, struct error *e)
{
	(void)task;
	(void)e;
	vcpus_excuse_pause(&vm->vcpus);
	machine_resume(&vm->machine);
	if (vm->moved) {
		vm->moved = false;
		machine_announce(&vm->machine);
	}
	/* With an event main has something else in mind for them. */
	if (atomic_load(&vm->event) == 0) {
		vcpus_release(&vm->vcpus);
	}
	return 0;
}

/* All vCPUs are parked. */
static int start_anew(struct vm *vm, struct error *e)
{
	const struct vcpu *failed = atomic_load(&vm->failed);
	int r;

	if (failed != NULL) {
		/* Main has not heard of it yet; its thread runs no more. */
		*e = failed->error;
		return -EIO;
	}
	machine_take_left(&vm->machine, true);
	r = machine_reset(&vm->machine, e);
	if (r == 0) {
		r = guest_memory_discard(&vm->mem, e);
	}
	if (r == 0) {
		r = vcpus_reset(&vm->vcpus, e);
	}
	if (r == 0) {
		r = vm_load_kernel(vm, e);
	}
	return r == 0 ? vm_place_vcpus(vm, e) : r;
}

static int do_reset(struct vm *vm, struct vm_task *task, struct error *e)
{
	int r;

	(void)task;
	vcpus_hold(&vm->vcpus);
	r = start_anew(vm, e);
	if (r < 0) {
		return error_prefix(e, "reset");
	}
	atomic_store(&vm->event, 0);
	vcpus_release(&vm->vcpus);
	return 0;
}

static int do_look(struct vm *vm, struct vm_task *task, struct error *e)
{
	struct vm_operation *operation = task->operation;

	(void)e;
	vcpus_hold(&vm->vcpus);
	operation->look.known = arch_vcpu_address(&vm->vcpus.list[0], &operation->look.address);
	if (atomic_load(&vm->event) == 0) {
		vcpus_release(&vm->vcpus);
	}
	return 0;
}

static int do_change_disk(struct vm *vm, struct vm_task *task, struct error *e)
{
	const struct vm_operation *operation = task->operation;
	const char *id = operation->disk.id;
	int r = 0;

	if (operation->disk.path != NULL) {
		r = machine_replace_disk(&vm->machine, id, operation->disk.path, e);
	}
	if (r == 0 && operation->disk.limiter != NULL) {
		r = machine_limit_disk(&vm->machine, id, operation->disk.limiter, e);
	}
	return r;
}

static int do_change_net(struct vm *vm, struct vm_task *task, struct error *e)
{
	const struct vm_operation *operation = task->operation;

	return machine_limit_net(&vm->machine, operation->net.id, operation->net.rx,
				 operation->net.tx, e);
}

const struct device_kind *const vm_device_kinds[VM_DEVICES] = {
	[VM_DISK] = &disk_kind,
	[VM_NET] = &net_kind,
};

/* Where it is in the configuration, which has it. */
static uint32_t index_of(const struct vm_config *config, enum vm_device device, const char *id)
{
	uint32_t i = 0;

	while (strcmp(device == VM_DISK ? config->disks[i].id : config->nets[i].id, id) != 0) {
		i++;
	}
	return i;
}

static int do_add_device(struct vm *vm, struct vm_task *task, struct error *e)
{
	const struct vm_config *config = task->operation->add.config;
	const enum vm_device device = task->operation->add.device;

	return machine_add_device(&vm->machine, config, vm_device_kinds[device],
				  index_of(config, device, task->operation->add.id), e);
}

static int do_remove_device(struct vm *vm, struct vm_task *task, struct error *e)
{
	const struct vm_operation *operation = task->operation;

	return machine_remove_device(&vm->machine, vm_device_kinds[operation->remove.device],
				     operation->remove.id, operation->remove.force, e);
}

int vm_do_take_left(struct vm *vm, struct vm_task *task, struct error *e)
{
	(void)task;
	(void)e;
	machine_take_left(&vm->machine, false);
	return 0;
}

static int save_state(struct vm *vm, struct state_buf *buf, struct error *e)
{
	size_t before = buf->len;
	int r = places_save(&vm->machine, buf, e);

	if (r == 0) {
		r = machine_save(&vm->machine, &vm->vcpus, buf, e);
	}
	if (r < 0) {
		buf->len = MIN(before, buf->len);
	}
	return r;
}

/* A guest that has just reset, or ended, or failed, is not one to go on from. */
static int check_event(const struct vm *vm, struct error *e)
{
	if (atomic_load(&vm->event) == 0) {
		return 0;
	}
	(void)error_set(e, ERROR_BUSY, EBUSY, "save: the guest resets or ends at this moment");
	return error_hint(e, "try again");
}

static int do_save(struct vm *vm, struct vm_task *task, struct error *e)
{
	struct vm_operation *operation = task->operation;
	const bool runs = task->after == VM_RUNNING;
	const uint64_t began = loop_now_ns();
	int r;

	if (runs) {
		vcpus_hold(&vm->vcpus);
		machine_quiesce(&vm->machine);
	}
	r = check_event(vm, e);
	if (r == 0 && operation->save.buf != NULL) {
		r = save_state(vm, operation->save.buf, e);
	}
	if (r == 0 && operation->save.also != NULL) {
		r = operation->save.also(operation->save.arg, &vm->mem, e);
	}
	if (runs) {
		(void)do_resume(vm, task, NULL);
	}
	operation->save.still_ns = loop_now_ns() - began;
	return r;
}

/* The devices' places on the bus are those of the state that was tried. */
static int do_load(struct vm *vm, struct vm_task *task, struct error *e)
{
	const uint8_t *state = task->operation->load.state;
	size_t len = task->operation->load.state_len;
	struct places *places = NULL;
	int r = places_read(&places, &state, &len, e);

	if (r == 0) {
		r = machine_load(&vm->machine, &vm->vcpus, state, len, e);
	}
	vm->awaits_state = r < 0;
	free(places);
	return r;
}

static int do_memory(struct vm *vm, struct vm_task *task, struct error *e)
{
	const struct vm_operation *operation = task->operation;

	return operation->memory.use(operation->memory.arg, &vm->mem, e);
}

static int do_spawn(struct vm *vm, struct vm_task *task, struct error *e)
{
	const struct vm_operation *operation = task->operation;

	(void)vm;
	return operation->spawn.start(operation->spawn.arg, e);
}

static int do_release_disks(struct vm *vm, struct vm_task *task, struct error *e)
{
	return machine_release_disks(&vm->machine, task->operation->release.stay_here, e);
}

static int do_take_disks(struct vm *vm, struct vm_task *task, struct error *e)
{
	(void)task;
	return machine_take_disks(&vm->machine, e);
}

static int do_sync_disks(struct vm *vm, struct vm_task *task, struct error *e)
{
	(void)task;
	(void)e;
	machine_sync_disks(&vm->machine);
	return 0;
}

static int do_throttle(struct vm *vm, struct vm_task *task, struct error *e)
{
	(void)e;
	throttle_set(&vm->throttle, &vm->vcpus, &vm->thread.loop,
		     task->operation->throttle.percent);
	return 0;
}

#define RUNS  (1U << VM_RUNNING)
#define WAITS (1U << VM_PAUSED)
#define LIVES (RUNS | WAITS)
#define STAYS VM_STOPPED

const struct vm_operation_info vm_operations[VM_OPERATIONS] = {
	[VM_PAUSE] = { "pause", RUNS, VM_PAUSED, do_pause },
	[VM_RESUME] = { "resume", WAITS, VM_RUNNING, do_resume },
	[VM_RESET] = { "reset", RUNS, STAYS, do_reset },
	[VM_LOOK] = { "look", RUNS, STAYS, do_look },
	[VM_CHANGE_DISK] = { "change disk", LIVES, STAYS, do_change_disk },
	[VM_CHANGE_NET] = { "change network card", LIVES, STAYS, do_change_net },
	[VM_ADD_DEVICE] = { "add a device", LIVES, STAYS, do_add_device },
	[VM_REMOVE_DEVICE] = { "remove a device", LIVES, STAYS, do_remove_device },
	[VM_SAVE] = { "save", LIVES, STAYS, do_save },
	[VM_LOAD] = { "load", 1U << VM_PAUSED, STAYS, do_load },
	[VM_MEMORY] = { "memory", LIVES, STAYS, do_memory },
	[VM_SPAWN] = { "start a thread", LIVES, STAYS, do_spawn },
	[VM_RELEASE_DISKS] = { "release disks", WAITS, STAYS, do_release_disks },
	[VM_TAKE_DISKS] = { "take disks", WAITS, STAYS, do_take_disks },
	[VM_SYNC_DISKS] = { "sync disks", LIVES, STAYS, do_sync_disks },
	[VM_THROTTLE] = { "throttle", RUNS, STAYS, do_throttle },
};

int vm_do_end(struct vm *vm, struct vm_task *task, struct error *e)
{
	struct vm_stop *stop = &task->stop;
	const struct vcpu *failed = atomic_load(&vm->failed);

	(void)e;
	vcpus_hold(&vm->vcpus);
	stop->vcpu = atomic_load(&vm->event) != 0 ? atomic_load(&vm->reporter) : 0;
	stop->has_address =
		arch_vcpu_address(&vm->vcpus.list[stop->vcpu], &stop->address) &&
		!(stop->reason == VM_STOP_TRIPLE_FAULT && arch_is_reset_address(stop->address));
	if (failed != NULL && stop->reason == VM_STOP_ERROR) {
		arch_vcpu_describe(failed, &stop->error);
	}
	return 0;
}

/* Main hears of it before anything that the guest makes of it. */
static void begin_failed(struct vm *vm, const struct error *why)
{
	vm->failure = *why;
	loop_post(vm->host->loop, &vm->failure_post);
}

/*
 * The guest needs workers only when its drivers are up, and six threads take a quarter of a
 * millisecond to start. Those of the host come last.
 */
int vm_begin_machine(void *arg, struct error *e)
{
	struct vm *vm = arg;
	struct error why = { 0 };
	int r = machine_start_workers(&vm->machine, &why);

	(void)e;
	if (r == 0 && vm->host->begin != NULL) {
		r = vm->host->begin(vm->host, &why);
	}
	if (r < 0) {
		begin_failed(vm, &why);
		machine_cancel_workers(&vm->machine);
	}
	/* Also where that has failed: it lives until the end. */
	if (sandbox_enter_thread(vm->sandbox, SANDBOX_ROLE_MACHINE, r == 0 ? &why : NULL) < 0 &&
	    r == 0) {
		begin_failed(vm, &why);
	}
	return 0;
}
