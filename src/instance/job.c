/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of jobs: a thread for the one that runs, and what is left of the last JOBS_KEPT.
 *
 * The job's thread writes its progress into atomics and, once, its result; then it posts to main's
 * loop, which only then reads the result. Main's cancellation is one flag. A job's record stays at
 * its place in `list` until JOBS_KEPT later ones have begun.
 *
 * A thread that a spawner has started waits until main has heard of it (`go`). Before that main cannot wait for its end, and
 * what jobs work on may be destroyed: then the thread finds itself cancelled, and has touched nothing.
 */
#include "vmm/job.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/worker.h"

enum job_state { JOB_NONE, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };
static const char *const state_names[] = {
	[JOB_NONE] = "none",	 [JOB_RUNNING] = "running",	[JOB_DONE] = "done",
	[JOB_FAILED] = "failed", [JOB_CANCELLED] = "cancelled",
};

struct job {
	uint64_t id;
	enum job_state state;
	const struct job_ops *ops;
	void *arg;
	uint64_t started_ns, ended_ns;
	/* From the job's thread. */
	_Atomic(const char *) phase;
	_Atomic uint64_t done, total;
	int result; /* these two: before the post */
	struct error error;
	/* To it. */
	_Atomic bool cancel;
};

struct jobs {
	struct loop *loop;
	struct event_log *events;
	struct job_spawner *spawner; /* NULL: main starts threads */
	uint64_t last;		     /* id of the newest */
	struct job list[JOBS_KEPT];
	struct job *running; /* NULL: none */
	bool ended;

	/* Of the one that runs. */
	pthread_t thread;
	bool has_thread;       /* that main knows of */
	sem_t go;	       /* to it */
	struct loop_post post; /* to main */
};

static struct job *find(struct jobs *jobs, uint64_t id)
{
	struct job *job = &jobs->list[id % JOBS_KEPT];

	return id != 0 && job->id == id ? job : NULL;
}

static uint64_t elapsed_ns(const struct job *job)
{
	return (job->state == JOB_RUNNING ? loop_now_ns() : job->ended_ns) - job->started_ns;
}

static bool describe_progress(const struct job *job, json_t *object)
{
	uint64_t ns = elapsed_ns(job);
	uint64_t done = atomic_load(&job->done);
	uint64_t total = atomic_load(&job->total);
	uint64_t rate = ns == 0 ? 0 : (uint64_t)((double)done * 1e9 / (double)ns);
	bool ok = json_object_set_new(object, "phase", json_string(atomic_load(&job->phase))) == 0;

	ok = ok && json_put_number(object, "bytes_done", done) &&
	     json_put_number(object, "bytes_total", total) &&
	     json_put_number(object, "bytes_per_second", rate) &&
	     json_put_number(object, "elapsed_ms", ns / 1000000);
	if (ok && job->state == JOB_RUNNING && rate != 0 && total > done) {
		ok = json_put_number(object, "seconds_left", (total - done) / rate);
	}
	return ok;
}

static json_t *describe(const struct job *job)
{
	json_t *object = json_pack("{s:I, s:s, s:s}", "id", (json_int_t)job->id, "kind",
				   job->ops->kind, "state", state_names[job->state]);
	bool ok = object != NULL && describe_progress(job, object);

	if (ok && job->state == JOB_FAILED) {
		const char *hint = job->error.hint[0] != '\0' ? job->error.hint : NULL;

		ok = json_object_set_new(object, "error",
					 json_pack("{s:s, s:s, s:s*}", "code",
						   error_code_name(job->error.code), "message",
						   job->error.msg, "hint", hint)) == 0;
	}
	if (!ok) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static void add_event(struct jobs *jobs, const struct job *job)
{
	event_log_add(jobs->events, "job",
		      json_pack("{s:I, s:s, s:s}", "id", (json_int_t)job->id, "kind",
				job->ops->kind, "state", state_names[job->state]));
}

/* Its result is there, or its thread is about to end. */
static void finish(struct jobs *jobs)
{
	struct job *job = jobs->running;

	if (jobs->has_thread) {
		(void)pthread_join(jobs->thread, NULL);
		jobs->has_thread = false;
		/* The thread has posted, and will not again. */
		loop_post_cancel(jobs->loop, &jobs->post);
	}
	jobs->running = NULL;
	job->ended_ns = loop_now_ns();
	if (job->result == 0) {
		job->state = JOB_DONE;
	} else if (job->result == -ECANCELED && atomic_load(&job->cancel)) {
		job->state = JOB_CANCELLED;
	} else {
		job->state = JOB_FAILED;
	}
	job->ops->ended(job->arg, job->result, &job->error);
	job->arg = NULL;
	add_event(jobs, job);
}

static void job_over(void *arg)
{
	finish(arg);
}

static int work(struct jobs *jobs, struct job *job)
{
	int r = jobs->spawner != NULL ? jobs->spawner->enter(jobs->spawner, &job->error) : 0;

	if (r < 0) {
		return r;
	}
	return job_cancel_wanted(job) ? -ECANCELED : job->ops->run(job, job->arg, &job->error);
}

static void *run(void *arg)
{
	struct jobs *jobs = arg;

	while (sem_wait(&jobs->go) != 0) {
		VMM_BUG_ON(errno != EINTR);
	}
	(void)pthread_setname_np(pthread_self(), "job");
	log_name_thread("job");
	jobs->running->result = work(jobs, jobs->running);
	loop_post(jobs->loop, &jobs->post);
	return NULL;
}

static int start_thread(void *arg, struct error *e)
{
	struct jobs *jobs = arg;
	pthread_attr_t attr;
	int r = pthread_attr_init(&attr);

	if (r == 0) {
		(void)pthread_attr_setstacksize(&attr, WORKER_STACK_SIZE);
		r = pthread_create(&jobs->thread, &attr, run, jobs);
		(void)pthread_attr_destroy(&attr);
	}
	return r == 0 ? 0 : error_set_sys(e, ERROR_INTERNAL, r, "start a thread");
}

static void let_go(struct jobs *jobs)
{
	jobs->has_thread = true;
	(void)sem_post(&jobs->go);
}

/* The spawner has done what it could. */
static void told(void *arg, const struct error *failure)
{
	struct jobs *jobs = arg;
	struct job *job = jobs->running;

	if (failure != NULL) {
		job->error = *failure;
		job->result = failure->sys != 0 ? -failure->sys : -EIO;
	} else {
		let_go(jobs);
	}
	if (failure != NULL || jobs->ended) {
		finish(jobs);
	}
}

int jobs_create(struct jobs **ret, struct loop *loop, struct event_log *events, struct error *e)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));

	if (jobs == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "jobs: out of memory");
	}
	jobs->loop = loop;
	jobs->events = events;
	jobs->post = (struct loop_post){ .run = job_over, .arg = jobs };
	VMM_BUG_ON(sem_init(&jobs->go, 0, 0) != 0);
	*ret = jobs;
	return 0;
}

void jobs_spawn_by(struct jobs *jobs, struct job_spawner *spawner)
{
	jobs->spawner = spawner;
}

static void cancel(struct job *job)
{
	if (!atomic_exchange(&job->cancel, true) && job->ops->cancel != NULL) {
		job->ops->cancel(job->arg);
	}
}

void jobs_end(struct jobs *jobs)
{
	if (jobs == NULL) {
		return;
	}
	jobs->ended = true;
	if (jobs->running != NULL) {
		cancel(jobs->running);
		if (jobs->has_thread) {
			finish(jobs);
		}
	}
}

void jobs_destroy(struct jobs *jobs)
{
	if (jobs == NULL) {
		return;
	}
	jobs_end(jobs);
	(void)sem_destroy(&jobs->go);
	free(jobs);
}

static int begin(struct jobs *jobs, struct error *e)
{
	int r;

	if (jobs->spawner == NULL) {
		r = start_thread(jobs, e);
		if (r == 0) {
			let_go(jobs);
		}
		return r;
	}
	return jobs->spawner->spawn(jobs->spawner, start_thread, told, jobs, e);
}

int jobs_start(struct jobs *jobs, const struct job_ops *ops, void *arg, uint64_t *id,
	       struct error *e)
{
	uint64_t number = jobs->last + 1;
	struct job *job = &jobs->list[number % JOBS_KEPT];
	int r;

	if (jobs->ended) {
		return error_set(e, ERROR_CANCELLED, ECANCELED, "%s: the VM ends", ops->kind);
	}
	if (jobs->running != NULL) {
		(void)error_set(e, ERROR_BUSY, EBUSY, "%s: job %llu (%s) is under way", ops->kind,
				(unsigned long long)jobs->running->id, jobs->running->ops->kind);
		return error_hint(e, "one job runs at a time: wait for its end or cancel it");
	}
	memset(job, 0, sizeof(*job));
	job->ops = ops;
	job->arg = arg;
	job->started_ns = loop_now_ns();
	atomic_store(&job->phase, "starting");
	job->state = JOB_RUNNING;
	job->id = number;
	jobs->running = job;
	r = begin(jobs, e);
	if (r < 0) {
		memset(job, 0, sizeof(*job));
		jobs->running = NULL;
		return error_prefix(e, "%s", ops->kind);
	}
	jobs->last = number;
	*id = number;
	add_event(jobs, job);
	return 0;
}

static int unknown(uint64_t id, struct error *e)
{
	(void)error_set(e, ERROR_NOT_FOUND, ENOENT, "job %llu: there is no such job",
			(unsigned long long)id);
	return error_hint(e, "the last %d jobs are kept", JOBS_KEPT);
}

int jobs_cancel(struct jobs *jobs, uint64_t id, struct error *e)
{
	struct job *job = find(jobs, id);

	if (job == NULL) {
		return unknown(id, e);
	}
	if (job->state != JOB_RUNNING) {
		return error_set(e, ERROR_WRONG_STATE, EALREADY, "job %llu is over: %s",
				 (unsigned long long)id, state_names[job->state]);
	}
	cancel(job);
	return 0;
}

json_t *jobs_describe(struct jobs *jobs, uint64_t id)
{
	const struct job *job = find(jobs, id);

	return job == NULL ? NULL : describe(job);
}

json_t *jobs_describe_all(struct jobs *jobs)
{
	json_t *list = json_array();
	uint64_t first = jobs->last < JOBS_KEPT ? 1 : jobs->last - JOBS_KEPT + 1;

	for (uint64_t id = first; list != NULL && id <= jobs->last; id++) {
		const struct job *job = find(jobs, id);

		/* A failed jobs_start() has emptied the place of the oldest. */
		if (job != NULL && json_array_append_new(list, describe(job)) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

uint64_t jobs_current(const struct jobs *jobs)
{
	return jobs->running == NULL ? 0 : jobs->running->id;
}

void job_progress(struct job *job, const char *phase, uint64_t done, uint64_t total)
{
	atomic_store(&job->phase, phase);
	atomic_store(&job->done, done);
	atomic_store(&job->total, total);
}

bool job_cancel_wanted(struct job *job)
{
	return atomic_load(&job->cancel);
}
