/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a job asks of the machine thread, by way of the change whose work it is: the job's thread asks and waits; main begins the
 * operation as the change's, if the VM still lives, and answers when the change's step() is called with what came of it.
 *
 * A job that is told to leave (asking_leave()) does so while what it has asked for may be under way: from then on what was to be called
 * on the machine thread for it is not.
 */
#ifndef VMM_INSTANCE_ASKING_H
#define VMM_INSTANCE_ASKING_H

#include <pthread.h>
#include <semaphore.h>

#include "internal.h"

struct asking {
	struct instance *instance;
	struct change *change;
	/* Main, before an operation begins: its type. May be NULL. */
	void (*begins)(struct asking *asking, enum vm_operation_type type);

	struct loop_post post; /* to main, with `wanted` */
	sem_t go;	       /* to the job, with what came of it */
	struct vm_operation wanted;
	int result;
	struct error error;
	_Atomic bool left;
	pthread_mutex_t lock; /* held while something is called on the machine thread */
	bool gone;
};

/* For a change and its job; both live as long. */
void asking_init(struct asking *asking, struct instance *instance, struct change *change);
void asking_finish(struct asking *asking);

/*
 * The job's thread. Of `wanted` all is used but `done`; `also` and `use` are called as they are. ERROR_CANCELLED: it was told to
 * leave; -ENOTCONN: the VM has ended.
 */
int asking_ask(struct asking *asking, const struct vm_operation *wanted, struct error *e);
/* Main, from the change's step(): what came of it. */
void asking_answer(struct asking *asking, int result, const struct error *e);
/* Main: the job shall end. */
void asking_leave(struct asking *asking);

#endif
