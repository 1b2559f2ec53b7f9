/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process that waits for its VM makes of it meanwhile (vmm/vm.h, struct vm_spare): on a thread, from the round of main's
 * loop that follows the first request on, so that the first answer does not wait for it. Who waits himself has it made
 * at once, on main (instance_prepare()).
 *
 * Main begins and ends it; the start, on whatever thread it is, waits for its thread and takes what there is.
 */
#include <pthread.h>

#include "internal.h"
#include "vmm/cleanup.h"

static void *make(void *arg)
{
	struct instance *instance = arg;

	(void)pthread_setname_np(pthread_self(), "spare");
	instance->spare = vm_spare_create();
	return NULL;
}

static void begin(void *arg)
{
	struct instance *instance = arg;

	if (instance->state == INSTANCE_NOT_STARTED && !instance->ending) {
		instance->spare_runs =
			pthread_create(&instance->spare_thread, NULL, make, instance) == 0;
	}
}

void spare_init(struct instance *instance)
{
	instance->spare_post = (struct loop_post){ .run = begin, .arg = instance };
}

void spare_begin(struct instance *instance)
{
	if (instance->settings.spare && !instance->spare_asked) {
		instance->spare_asked = true;
		loop_post(instance->host->loop, &instance->spare_post);
	}
}

void instance_prepare(struct instance *instance)
{
	if (!instance->spare_asked && instance->state == INSTANCE_NOT_STARTED) {
		instance->spare_asked = true;
		instance->spare = vm_spare_create();
	}
}

void spare_use(struct instance *instance)
{
	if (instance->spare_runs) {
		(void)pthread_join(instance->spare_thread, NULL);
		instance->spare_runs = false;
	}
	instance->vm_host.spare = take_ptr(instance->spare);
}

void spare_give_back(struct instance *instance)
{
	vm_spare_destroy(take_ptr(instance->vm_host.spare));
}

void spare_end(struct instance *instance)
{
	loop_post_cancel(instance->host->loop, &instance->spare_post);
	spare_use(instance);
	spare_give_back(instance);
}
