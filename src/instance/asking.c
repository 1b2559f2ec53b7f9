/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations for a job: see asking.h. What the job's thread and main share is handed over by a post and a semaphore; what is called on
 * the machine thread holds the lock, so that a job that leaves knows that it is not under way. Nothing here is the guest's.
 */
#include "asking.h"

#include <errno.h>
#include <string.h>

#include "vmm/cleanup.h"

bool instance_lives(const struct instance *instance)
{
	return instance->vm != NULL && !instance->ending &&
	       instance_states[instance->state].stage == STAGE_AFTER &&
	       instance->state != INSTANCE_STOPPING && instance->state != INSTANCE_ENDED;
}

static int cancelled(struct error *e)
{
	return error_set(e, ERROR_CANCELLED, ECANCELED, "cancelled");
}

static int call_also(void *arg, struct guest_memory *mem, struct error *e)
{
	struct asking *asking = arg;
	SCOPED_LOCK(&asking->lock);

	return asking->gone ? cancelled(e)
			    : asking->wanted.save.also(asking->wanted.save.arg, mem, e);
}

static int call_use(void *arg, struct guest_memory *mem, struct error *e)
{
	struct asking *asking = arg;
	SCOPED_LOCK(&asking->lock);

	return asking->gone ? cancelled(e)
			    : asking->wanted.memory.use(asking->wanted.memory.arg, mem, e);
}

/* Main: the job has asked. */
static void begin(void *arg)
{
	struct asking *asking = arg;
	struct vm_operation *operation = &asking->change->operation;
	void (*done)(struct vm_operation * operation) = operation->done;
	struct error e = { 0 };

	if (!instance_lives(asking->instance)) {
		asking_answer(asking, instance_has_ended(&e), &e);
		return;
	}
	*operation = asking->wanted;
	operation->done = done;
	if (operation->type == VM_SAVE && operation->save.also != NULL) {
		operation->save.also = call_also;
		operation->save.arg = asking;
	} else if (operation->type == VM_MEMORY) {
		operation->memory.use = call_use;
		operation->memory.arg = asking;
	}
	if (asking->begins != NULL) {
		asking->begins(asking, operation->type);
	}
	changes_ask(asking->change);
}

void asking_init(struct asking *asking, struct instance *instance, struct change *change)
{
	*asking = (struct asking){ .instance = instance, .change = change };
	asking->post = (struct loop_post){ .run = begin, .arg = asking };
	(void)pthread_mutex_init(&asking->lock, NULL);
	VMM_BUG_ON(sem_init(&asking->go, 0, 0) != 0);
}

void asking_finish(struct asking *asking)
{
	loop_post_cancel(asking->instance->host->loop, &asking->post);
	(void)sem_destroy(&asking->go);
	(void)pthread_mutex_destroy(&asking->lock);
}

int asking_ask(struct asking *asking, const struct vm_operation *wanted, struct error *e)
{
	if (atomic_load(&asking->left)) {
		return cancelled(e);
	}
	asking->wanted = *wanted;
	loop_post(asking->instance->host->loop, &asking->post);
	while (sem_wait(&asking->go) != 0) {
		VMM_BUG_ON(errno != EINTR);
	}
	if (atomic_load(&asking->left)) {
		SCOPED_LOCK(&asking->lock);

		asking->gone = true;
		return cancelled(e);
	}
	if (asking->result < 0) {
		*e = asking->error;
	}
	return asking->result;
}

void asking_answer(struct asking *asking, int result, const struct error *e)
{
	asking->result = result;
	if (result < 0) {
		asking->error = *e;
	}
	(void)sem_post(&asking->go);
}

void asking_leave(struct asking *asking)
{
	atomic_store(&asking->left, true);
	(void)sem_post(&asking->go);
}
