/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker threads: include/vmm/worker.h is the contract. A worker is an event loop on a thread of
 * its own; everything crosses over as a posted closure, so there is no lock here besides the
 * loop's. Nothing is saved.
 */
#include "vmm/worker.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/log.h"

/* The exit code for a virtual machine that cannot be run (docs: exit codes). */
#define WORKER_EXIT_FAILURE 125

#define NS_PER_S      1000000000ULL
#define JOIN_SLICE_NS (NS_PER_S / 10)

static const struct syscall_rule worker_rules[] = {
	/* The event loop, its eventfds, and irqfds. */
	SYSCALL("epoll_wait"),
	SYSCALL("epoll_pwait"),
	SYSCALL("epoll_ctl"),
	SYSCALL("read"),
	SYSCALL("write"),
	SYSCALL("clock_gettime"),
	/* Mutexes, semaphores, and a thread that is joined. */
	SYSCALL("futex"),
	SYSCALL("restart_syscall"),
	SYSCALL("rt_sigreturn"),
	SYSCALL("rt_sigprocmask"),
	SYSCALL("sched_yield"),
	/* The end: glibc gives the stack's pages back. */
	SYSCALL("madvise"),
	SYSCALL("munmap"),
	SYSCALL("exit"),
	SYSCALL("exit_group"),
};

const struct syscall_list worker_syscalls = SYSCALL_LIST(worker_rules);

/*
 * In slices of the wall clock's time, which may be set meanwhile: the call that takes the other clock
 * is not known to thread sanitizers.
 */
bool thread_join_in_time(pthread_t thread, uint64_t limit_ns)
{
	uint64_t now = loop_now_ns();
	const uint64_t end = now + MIN(limit_ns, UINT64_MAX - now);
	int r = pthread_tryjoin_np(thread, NULL);

	for (; r != 0 && now < end; now = loop_now_ns()) {
		struct timespec until;
		uint64_t ns;

		(void)clock_gettime(CLOCK_REALTIME, &until);
		ns = (uint64_t)until.tv_nsec + MIN(end - now, JOIN_SLICE_NS);
		until.tv_sec += (time_t)(ns / NS_PER_S);
		until.tv_nsec = (long)(ns % NS_PER_S);
		r = pthread_timedjoin_np(thread, NULL, &until);
	}
	return r == 0;
}

struct call {
	struct loop_post post;
	struct worker *worker;
	void (*fn)(void *arg);
	void *arg;
	bool ran;
	sem_t done;
};

int worker_init(struct worker *worker, const char *name, struct error *e)
{
	int r;

	memset(worker, 0, sizeof(*worker));
	(void)snprintf(worker->name, sizeof(worker->name), "%s", name);
	r = loop_init(&worker->loop, e);
	if (r < 0) {
		return error_prefix(e, "worker '%s'", worker->name);
	}
	(void)pthread_mutex_init(&worker->lock, NULL);
	worker->initialised = true;
	return 0;
}

/* Asynchronous signals are main's; those that a thread raises by itself must reach their handler
 * here. */
static void block_signals(sigset_t *old)
{
	static const int synchronous[] = {
		SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGXFSZ
	};
	sigset_t set;

	(void)sigfillset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(synchronous); i++) {
		(void)sigdelset(&set, synchronous[i]);
	}
	(void)pthread_sigmask(SIG_SETMASK, &set, old);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct error e = { 0 };
	int r = 0;

	atomic_store(&worker->self, pthread_self());
	(void)pthread_setname_np(pthread_self(), worker->name);
	log_name_thread(worker->name);
	if (worker->enter != NULL) {
		r = worker->enter(worker->enter_arg, &e);
	}
	if (r >= 0) {
		r = loop_run(&worker->loop);
		if (r < 0) {
			(void)error_set_sys(&e, ERROR_INTERNAL, -r, "event loop");
		}
	}
	if (r < 0) {
		(void)error_prefix(&e, "thread '%s'", worker->name);
		log_error_object(&e);
		_exit(WORKER_EXIT_FAILURE);
	}
	return NULL;
}

int worker_start(struct worker *worker, int (*enter)(void *arg, struct error *e), void *enter_arg,
		 struct error *e)
{
	pthread_attr_t attr;
	sigset_t old;
	int r;

	VMM_BUG_ON(!worker->initialised || worker->started);
	worker->enter = enter;
	worker->enter_arg = enter_arg;
	r = pthread_attr_init(&attr);
	if (r == 0) {
		(void)pthread_attr_setstacksize(&attr, WORKER_STACK_SIZE);
		block_signals(&old);
		r = pthread_create(&worker->thread, &attr, worker_main, worker);
		(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
		(void)pthread_attr_destroy(&attr);
	}
	if (r != 0) {
		return error_set_sys(e, ERROR_INTERNAL, r, "start thread '%s'", worker->name);
	}
	worker->started = true;
	return 0;
}

static void call_run(void *arg)
{
	struct call *call = arg;

	/* Set before the loop runs for the last time, if at all. */
	if (!call->worker->cancelled) {
		call->fn(call->arg);
		call->ran = true;
	}
	(void)sem_post(&call->done);
}

static bool post_call(struct worker *worker, struct call *call)
{
	SCOPED_LOCK(&worker->lock);
	if (worker->cancelled) {
		return false;
	}
	loop_post(&worker->loop, &call->post);
	return true;
}

bool worker_call(struct worker *worker, void (*fn)(void *arg), void *arg)
{
	struct call call = {
		.post = { .run = call_run, .arg = &call },
		.worker = worker,
		.fn = fn,
		.arg = arg,
	};

	VMM_BUG_ON(!worker->initialised || worker_is_current(worker));
	VMM_BUG_ON(sem_init(&call.done, 0, 0) != 0);
	if (post_call(worker, &call)) {
		while (sem_wait(&call.done) != 0) {
			VMM_BUG_ON(errno != EINTR);
		}
	}
	(void)sem_destroy(&call.done);
	return call.ran;
}

void worker_cancel(struct worker *worker)
{
	VMM_BUG_ON(!worker->initialised || worker->started);
	{
		SCOPED_LOCK(&worker->lock);
		worker->cancelled = true;
	}
	/* Nobody adds a call any more, and nobody else runs the loop. */
	loop_stop(&worker->loop);
	(void)loop_run(&worker->loop);
}

bool worker_is_current(const struct worker *worker)
{
	return atomic_load(&worker->self) == pthread_self();
}

static void joined(struct worker *worker)
{
	atomic_store(&worker->self, 0);
	worker->started = false;
}

bool worker_join(struct worker *worker, uint64_t limit_ns)
{
	if (!thread_join_in_time(worker->thread, limit_ns)) {
		return false;
	}
	joined(worker);
	return true;
}

void worker_finish(struct worker *worker)
{
	if (!worker->initialised) {
		return;
	}
	if (worker->started) {
		loop_stop(&worker->loop);
		(void)pthread_join(worker->thread, NULL);
		joined(worker);
	}
	loop_finish(&worker->loop);
	(void)pthread_mutex_destroy(&worker->lock);
	worker->initialised = false;
}
