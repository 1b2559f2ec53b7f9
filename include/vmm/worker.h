/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An I/O worker: a named thread with an event loop. A virtqueue, and what it needs of a back end,
 * belongs to exactly one worker, so rings need no lock. Other threads reach in by worker_call()
 * only.
 *
 * worker_init() may run long before worker_start(): calls made meanwhile wait for the thread, or for
 * worker_cancel(), if there will be none.
 * worker_call() must never be made by a queue's worker to another, and none of them ever waits for a
 * vCPU, the machine thread (which has a worker of its own) or main: that order keeps it free of
 * deadlock.
 */
#ifndef VMM_WORKER_H
#define VMM_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/error.h"
#include "vmm/loop.h"
#include "vmm/syscalls.h"
#include "vmm/types.h"

#define WORKER_NAME_SIZE  16 /* with the NUL: the kernel's limit for thread names */
#define WORKER_STACK_SIZE KIB(256)

struct worker {
	char name[WORKER_NAME_SIZE];
	struct loop loop;
	pthread_t thread;
	_Atomic(pthread_t) self; /* `thread`, once it runs; 0 before and after */
	bool initialised, started;
	pthread_mutex_t lock; /* a call is posted, or refused because of `cancelled` */
	bool cancelled;	      /* under the lock */
	/*
	 * Runs first on the new thread: enters the sandbox. A failure ends the process with the
	 * error printed.
	 */
	int (*enter)(void *arg, struct error *e);
	void *enter_arg;
};

/* Any thread that is to end. False: it has not, and is still to be joined. */
bool thread_join_in_time(pthread_t thread, uint64_t limit_ns);

/* What every worker needs: loop, eventfds and irqfds, mutexes, the end of the thread. */
extern const struct syscall_list worker_syscalls;

int worker_init(struct worker *worker, const char *name, struct error *e);
int worker_start(struct worker *worker, int (*enter)(void *arg, struct error *e), void *enter_arg,
		 struct error *e);
/*
 * Runs fn(arg) on the worker's thread, waits until it has returned. Any thread but a worker's. False
 * if it has not run, nor ever will: the worker was cancelled.
 */
bool worker_call(struct worker *worker, void (*fn)(void *arg), void *arg);
/* This worker, not started, never will be: calls return, those that wait for it and later ones. */
void worker_cancel(struct worker *worker);
/* True on the worker's own thread. */
bool worker_is_current(const struct worker *worker);
/* Its loop has been stopped, or will be: joins the thread. False: it has not ended in time. */
bool worker_join(struct worker *worker, uint64_t limit_ns);
/* Stops the loop and joins the thread, if started; then frees the loop. Accepts a zeroed worker. */
void worker_finish(struct worker *worker);

#endif
