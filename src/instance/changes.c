// SPDX-License-Identifier: Apache-2.0
/*
 * The line of changes: requests that the VM's machine thread carries out, which may take as long as a
 * disk takes. One is under way, the others wait behind it in the order in which they came; each is
 * judged when its turn comes, against what those before it have made of the VM. So a client that
 * pauses and resumes without waiting gets a VM that runs, whatever the disk does meanwhile; and all
 * other requests are answered at once. A stop is in no line (control.c).
 *
 * A change of the configuration has a draft of it, made when its turn comes, which takes its place when
 * the machine thread has done its part.
 *
 * A change may take several operations, and work in between that is not the machine thread's, as a
 * snapshot does: it stays the first of the line all the while.
 *
 * A change keeps copies of what its request lends. It lives until it is answered, and as long as the
 * machine thread knows of it.
 *
 * Main thread. How many wait, and what they ask for, is the clients': CHANGES_MAX bounds them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/options_json.h"

LOG_DOMAIN("instance");

#define CHANGES_MAX 16

static void destroy(struct change *change)
{
	if (change->object != NULL) {
		options_release(request_infos[change->type].body, change->object);
	}
	if (change->draft != NULL) {
		config_drop(change->draft, change->instance->config);
	}
	free(change->object);
	free(change->id);
	free(change);
}

struct change *change_create(const struct change_kind *kind, struct error *e)
{
	struct change *change = calloc(1, sizeof(*change));

	if (change == NULL) {
		(void)error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		return NULL;
	}
	change->kind = kind;
	change->type = REQUEST_TYPES;
	return change;
}

static int copy_request(struct change *change, const struct request *request, struct error *e)
{
	const struct request_info *info = &request_infos[request->type];

	change->id = request->id != NULL ? strdup(request->id) : NULL;
	change->object = info->body != NULL ? malloc(info->size) : NULL;
	if ((info->body != NULL && change->object == NULL) ||
	    (request->id != NULL && change->id == NULL)) {
		free(take_ptr(change->object));
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	change->type = request->type;
	if (info->body == NULL) {
		return 0;
	}
	return options_clone(info->body, change->object, request->object, info->size, e);
}

/* Tells who waits for it, if anybody; once. */
static void answer(struct instance *instance, struct change *change, const struct error *failure)
{
	struct instance_call *call = change->call;

	if (change->answered) {
		return;
	}
	change->answered = true;
	change->call = NULL;
	if (failure != NULL && change->type != REQUEST_TYPES) {
		instance->counts[change->type].failed++;
	}
	if (change->kind->over != NULL) {
		change->kind->over(instance, change, failure);
	} else if (call != NULL) {
		call->done(call, NULL, failure);
	} else if (failure != NULL && change->unheard) {
		log_error_object(failure);
	}
}

int change_start_job(struct change *change, const struct job_ops *ops, void *arg, uint64_t *job,
		     struct error *e)
{
	int r;

	/* Already while its thread is being started, beside the line. */
	change->waits = true;
	r = jobs_start(change->instance->jobs, ops, arg, job, e);
	change->waits = r == 0;
	return r == 0 ? CHANGE_WAITS : r;
}

void change_answer_begun(struct change *change, uint64_t job)
{
	struct instance_call *call = change->call;

	if (call != NULL) {
		change->call = NULL;
		change->answered = true;
		call->done(call, json_pack("{s:I}", "job", (json_int_t)job), NULL);
	}
}

static void unlink_first(struct instance *instance)
{
	instance->changes = instance->changes->next;
	instance->change_count--;
}

static void leave_state(struct instance *instance, const struct change *change, bool success)
{
	enum instance_state during = change->kind->during;

	/* A stop may have come meanwhile. */
	if (during != INSTANCE_STATES && instance->state == during) {
		instance_enter(instance, success ? change->kind->after : change->from);
	}
}

static void conclude(struct change *change, int result, struct error *e)
{
	struct instance *instance = change->instance;
	bool success = result == 0;

	unlink_first(instance);
	leave_state(instance, change, success);
	if (success && !change->answered && change->draft != NULL) {
		config_commit(&instance->config, take_ptr(change->draft));
	}
	if (success && !change->answered && change->kind->done != NULL) {
		change->kind->done(instance, change);
	}
	/* Only a VM that has stopped refuses what was judged here. */
	if (result == -ENOTCONN) {
		(void)instance_has_ended(e);
	} else if (!success && change->kind->explain != NULL) {
		change->kind->explain(change, e);
	}
	answer(instance, change, success ? NULL : e);
	destroy(change);
	changes_next(instance);
}

/* What its kind says of how it goes on. */
static void go_on(struct change *change, int r, struct error *e)
{
	struct instance *instance = change->instance;

	change->waits = r == CHANGE_WAITS;
	if (r == CHANGE_PENDING && instance->beside) {
		change->behind = true;
	} else if (r == CHANGE_PENDING) {
		vm_ask(instance->vm, &change->operation);
	} else if (r != CHANGE_WAITS) {
		conclude(change, r, e);
	}
}

static void operation_done(struct vm_operation *operation)
{
	struct change *change = container_of(operation, struct change, operation);
	struct error e = operation->error;
	int r = operation->result;

	if (change->kind->step != NULL) {
		r = change->kind->step(change->instance, change, r, &e);
	}
	go_on(change, r, &e);
}

void changes_ask(struct change *change)
{
	VMM_BUG_ON(!change->waits);
	go_on(change, CHANGE_PENDING, NULL);
}

void changes_end(struct change *change, int result, struct error *e)
{
	VMM_BUG_ON(!change->waits);
	go_on(change, result, e);
}

static void beside_done(struct vm_operation *operation)
{
	struct change *change = container_of(operation, struct change, operation);
	struct instance *instance = change->instance;

	instance->beside = false;
	answer(instance, change, operation->result < 0 ? &operation->error : NULL);
	destroy(change);
	if (instance->changes != NULL && instance->changes->behind) {
		instance->changes->behind = false;
		vm_ask(instance->vm, &instance->changes->operation);
	}
}

void changes_beside(struct instance *instance, struct change *change)
{
	VMM_BUG_ON(instance->changes == NULL || !instance->changes->waits);
	instance->beside = true;
	change->instance = instance;
	change->operation.done = beside_done;
	vm_ask(instance->vm, &change->operation);
}

/* The first of the line has its turn. 0: it is as it should be; CHANGE_PENDING; negative: refused. */
static int begin(struct instance *instance, struct change *change, struct error *e)
{
	int r = change->kind->prepare(instance, change, e);

	if (r != CHANGE_PENDING && r != CHANGE_WAITS) {
		return r;
	}
	change->from = instance->state;
	if (change->kind->during != INSTANCE_STATES) {
		instance_enter(instance, change->kind->during);
	}
	change->under_way = true;
	change->operation.done = operation_done;
	change->waits = r == CHANGE_WAITS;
	if (!change->waits) {
		vm_ask(instance->vm, &change->operation);
	}
	return CHANGE_PENDING;
}

void changes_next(struct instance *instance)
{
	while (instance->changes != NULL && !instance->changes->under_way) {
		struct change *change = instance->changes;
		struct error e = { 0 };
		int r = begin(instance, change, &e);

		if (r == CHANGE_PENDING) {
			return;
		}
		unlink_first(instance);
		answer(instance, change, r < 0 ? &e : NULL);
		destroy(change);
	}
}

static int check_room(const struct instance *instance, struct error *e)
{
	if (instance->change_count < CHANGES_MAX) {
		return 0;
	}
	(void)error_set(e, ERROR_BUSY, EBUSY, "%d changes of the VM wait for one that is under way",
			CHANGES_MAX - 1);
	return error_hint(e, "it waits for a disk, perhaps; GET /vm shows the state, Stop is still "
			     "possible");
}

int changes_add(struct instance *instance, struct change *change, struct error *e)
{
	struct change **last = &instance->changes;
	int r = check_room(instance, e);

	change->instance = instance;
	if (r == 0) {
		while (*last != NULL) {
			last = &(*last)->next;
		}
		*last = change;
		instance->change_count++;
		r = instance->changes == change ? begin(instance, change, e) : CHANGE_PENDING;
		if (r != CHANGE_PENDING) {
			unlink_first(instance);
		}
	}
	if (r != CHANGE_PENDING) {
		destroy(change);
	} else {
		change->unheard = change->call == NULL;
	}
	return r;
}

int changes_request(struct instance *instance, const struct change_kind *kind,
		    const struct request *request, struct instance_call *call, struct error *e)
{
	struct change *change = change_create(kind, e);
	int r;

	if (change == NULL) {
		return -ENOMEM;
	}
	r = copy_request(change, request, e);
	if (r < 0) {
		free(take_ptr(change->object));
		destroy(change);
		return r;
	}
	change->call = call;
	return changes_add(instance, change, e);
}

void changes_fail(struct instance *instance, const struct error *failure)
{
	struct change *first = instance->changes;
	struct change *next = first;

	if (first != NULL && first->under_way) {
		/* The machine thread has it: it stays. What it does for us we hear from it. */
		next = first->next;
		first->next = NULL;
		instance->change_count = 1;
		if (first->kind->over == NULL) {
			answer(instance, first, failure);
		}
	} else {
		instance->changes = NULL;
		instance->change_count = 0;
	}
	while (next != NULL) {
		struct change *change = next;

		next = change->next;
		answer(instance, change, failure);
		destroy(change);
	}
}

bool changes_forget(struct instance *instance, const struct instance_call *call)
{
	for (struct change *change = instance->changes; change != NULL; change = change->next) {
		if (change->call == call) {
			change->call = NULL;
			return true;
		}
	}
	return false;
}
