/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM moves to another vmm: the source's side of vmm/migration.h, as a change (changes.c) whose work is a job's (migrate_work.c). No
 * other change has its turn until the migration is over, for whose end it waits in line.
 *
 * At its end either the VM has gone, and this instance ends, or it runs on as before. In doubt the job goes on, the VM paused, until
 * a client decides (migration_view.c).
 *
 * Main thread. The client controls the request.
 */
#include <errno.h>
#include <stdlib.h>

#include "migrate_task.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/migration_address.h"

LOG_DOMAIN("migration");

static void task_destroy(struct migrate_task *task)
{
	if (task == NULL) {
		return;
	}
	loop_post_cancel(task->instance->host->loop, &task->driven);
	loop_post_cancel(task->instance->host->loop, &task->told);
	postcopy_end(&task->postcopy);
	channel_source_destroy(task->channels);
	asking_finish(&task->asking);
	migration_destroy(task->m);
	upgrade_destroy(task->upgrade);
	migration_pages_finish(&task->pages);
	moving_disks_finish(&task->disks);
	state_buf_finish(&task->state);
	offering_finish(&task->offering);
	free(task->offer);
	free(task);
}

static void add_event(const struct migrate_task *task, enum handover_state state, const char *why)
{
	event_log_add(&task->instance->events, "migration",
		      json_pack("{s:s, s:s, s:s*, s:s*}", "role", "source", "state",
				handover_state_info(state)->name, "error", why, "memory",
				task->upgrade == NULL	      ? NULL
				: migrate_passes_memory(task) ? "passed"
							      : "sent"));
}

/* Whoever waits for the end hears that it may be long in coming. */
static void told(void *arg)
{
	struct migrate_task *task = arg;
	enum handover_state state = migration_state(atomic_load(&task->made));

	add_event(task, state, NULL);
	if (atomic_load(&migrate_view_of(task)->source) != NULL) {
		migration_view_answer_memory(task->change);
	} else {
		migration_view_answer_doubt(task->change, state);
	}
}

static void driven(void *arg)
{
	struct migrate_task *task = arg;

	if (!task->ended) {
		migration_view_drive(task->instance, task->m);
	}
	/* It was told before there was somebody to tell. */
	if (!task->ended && task->job != NULL && job_cancel_wanted(task->job)) {
		(void)migration_view_cancel(task->instance, NULL);
	}
}

static void enter(struct migrate_task *task, enum instance_state state)
{
	if (instance_lives(task->instance) && task->instance->state != state) {
		instance_enter(task->instance, state);
	}
}

static void begins(struct asking *asking, enum vm_operation_type type)
{
	struct migrate_task *task = container_of(asking, struct migrate_task, asking);

	if (type == VM_PAUSE) {
		enter(task, INSTANCE_PAUSING);
	} else if (type == VM_RESUME) {
		enter(task, INSTANCE_RESUMING);
	} else if (type == VM_MEMORY && !task->tracked) {
		task->tracking = true;
	} else if (type == VM_THROTTLE) {
		task->throttled = true;
	}
}

static int stop_tracking(void *arg, struct guest_memory *mem, struct error *e)
{
	(void)arg;
	(void)e;
	guest_memory_dirty_stop(mem);
	return 0;
}

/* The job has ended: what it has left is undone. */
static int finish(struct migrate_task *task, struct error *e)
{
	struct instance *instance = task->instance;
	struct vm_operation *operation = &task->change->operation;
	const bool left = migrate_has_left(task);
	int result = task->result;

	if (task->throttled && !left && instance_lives(instance)) {
		task->throttled = false;
		atomic_store(&instance->migration.throttle, 0);
		operation->type = VM_THROTTLE;
		operation->throttle.percent = 0;
		return CHANGE_PENDING;
	}
	if (task->tracking && !left && instance_lives(instance)) {
		task->tracking = false;
		operation->type = VM_MEMORY;
		operation->memory.use = stop_tracking;
		return CHANGE_PENDING;
	}
	if (task->tracked && task->started) {
		/* What was written since the last snapshot is not known any more: the next one is full. */
		snapshot_parent_set(instance, NULL, NULL, NULL);
	}
	migration_view_end(instance, result < 0 ? &task->error : NULL);
	*e = task->error;
	if (left && task->upgrade != NULL && !task->upgrade->ours) {
		instance->host->left(instance->host);
	}
	if (result == 0) {
		migration_view_answer_moved(instance, task->change);
	}
	task_destroy(task);
	if (left && instance_lives(instance)) {
		instance_end_moved(instance);
	}
	return result;
}

static int step(struct instance *instance, struct change *change, int result, struct error *e)
{
	struct migrate_task *task = change->migrate;

	switch (change->operation.type) {
	case VM_PAUSE:
		enter(task, result == 0 ? INSTANCE_PAUSED : INSTANCE_RUNNING);
		task->throttled = task->throttled && result != 0;
		if (!task->throttled) {
			atomic_store(&migrate_view_of(task)->throttle, 0);
		}
		if (result == 0 && task->upgrade != NULL) {
			instance->host->rests(instance->host);
		}
		break;
	case VM_RESUME:
		enter(task, result == 0 ? INSTANCE_RUNNING : INSTANCE_PAUSED);
		break;
	case VM_SAVE:
		task->still_ns =
			task->still_ns == 0 ? change->operation.save.still_ns : task->still_ns;
		offering_describe(&task->offering, instance);
		break;
	default:
		break;
	}
	if (task->ended) {
		return finish(task, e);
	}
	if (result == 0 && change->operation.type == VM_SAVE && !task->offering.described) {
		result = error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	asking_answer(&task->asking, result, e);
	return CHANGE_WAITS;
}

static void ended(void *arg, int result, struct error *e)
{
	struct migrate_task *task = arg;
	struct change *change = task->change;
	struct error why = *e;
	int r;

	if (result < 0 && why.code == ERROR_NONE) {
		(void)error_set(&why, ERROR_CANCELLED, ECANCELED, "migration: cancelled");
	}
	add_event(task, task->m != NULL ? migration_state(task->m) : HANDOVER_S_KEPT,
		  result < 0 ? why.msg : NULL);
	task->ended = true;
	task->result = result;
	task->error = why;
	if (!change->waits) {
		return; /* an operation is under way; step() comes */
	}
	r = finish(task, &why);
	if (r == CHANGE_PENDING) {
		changes_ask(change);
	} else {
		changes_end(change, r, &why);
	}
}

/* A client's, or because the VM ends. */
static void cancel(void *arg)
{
	struct migrate_task *task = arg;
	struct migration *m = atomic_load(&task->made);

	if (instance_lives(task->instance)) {
		(void)migration_view_cancel(task->instance, NULL);
		return;
	}
	if (m != NULL) {
		migration_leave(m);
	}
	postcopy_leave(&task->postcopy);
	asking_leave(&task->asking);
}

static const struct job_ops job_ops = {
	.kind = "migration", .run = migrate_work, .ended = ended, .cancel = cancel
};

static struct migrate_task *task_create(struct instance *instance, struct change *change)
{
	struct migrate_task *task = calloc(1, sizeof(*task));

	if (task == NULL) {
		return NULL;
	}
	task->instance = instance;
	task->change = change;
	task->request = change->object;
	task->was_running = instance->state == INSTANCE_RUNNING;
	task->tracked = instance->config->vm.machine.track_dirty_pages;
	task->mem = vm_memory(instance->vm);
	task->pagemap_fd = atomic_load(&instance->pagemap_fd);
	task->disks.folder = -1;
	task->epoch = ++instance->migrations;
	task->converge = (struct migration_converge){
		.downtime_ns = task->request->downtime_ns,
		.time_limit_ns = task->request->time_limit_ns,
		.force = task->request->at_limit == MIGRATE_LIMIT_FORCE,
		.throttle_limit = task->was_running ? task->request->throttle_percent : 0,
	};
	task->postcopy = (struct postcopy){ .instance = instance,
					    .request = change->object,
					    .asking = &task->asking };
	task->driven = (struct loop_post){ .run = driven, .arg = task };
	task->told = (struct loop_post){ .run = told, .arg = task };
	asking_init(&task->asking, instance, change);
	task->asking.begins = begins;
	return task;
}

static int prepare(struct instance *instance, struct change *change, struct error *e)
{
	const struct migrate_request *request = change->object;
	uint64_t job;
	int r = instance_check_alive(instance, e);

	if (r < 0) {
		return r;
	}
	change->migrate = task_create(instance, change);
	if (change->migrate == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	if (request->upgrade) {
		r = upgrade_create(&change->migrate->upgrade, instance, request, e);
	}
	r = r < 0 ? r : change_start_job(change, &job_ops, change->migrate, &job, e);
	if (r < 0) {
		task_destroy(change->migrate);
		return r;
	}
	migration_view_begin(instance, HANDOVER_SOURCE, request->address);
	instance->migration.insecure = request->insecure;
	if (request->background) {
		change_answer_begun(change, job);
	}
	return CHANGE_WAITS;
}

static const struct change_kind migrate_kind = { .during = INSTANCE_STATES,
						 .prepare = prepare,
						 .step = step };

int instance_migrate(struct instance *instance, const struct asked *asked, struct error *e)
{
	const struct migrate_request *request = asked->request->object;
	int r = migration_address_check(request->address, request->insecure, e);

	return r == 0 ? control_change(instance, &migrate_kind, asked, e) : r;
}
