/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of jobs: a thread for the one that runs, and what is left of the last JOBS_KEPT.
 *
 * The job's thread writes its progress into atomics and, once, its result; then it posts to main's
 * loop, which only then reads the result. Main's cancellation is one flag. A job's record stays at
 * its place in `list` until JOBS_KEPT later ones have begun.
 *
 * The worker may be started while main goes on: `lock` guards what says how far that is. A job that
 * is started in that moment waits for the worker.
 */
#include "vmm/job.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cleanup.h"
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
	uint64_t last; /* id of the newest */
	struct job list[JOBS_KEPT];
	struct job *running; /* NULL: none */
	pthread_t thread;    /* of that one, if `has_thread` */
	bool has_thread;
	struct loop_post over; /* to main */
	bool worker_expected;  /* main cannot start threads */

	pthread_mutex_t lock;
	struct worker worker;
	struct loop_post work; /* to the worker */
	bool worker_runs;      /* until jobs_end() */
	bool work_waits;       /* for the worker to be there */
	bool ended;
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

static bool set_number(json_t *object, const char *key, uint64_t value)
{
	return json_object_set_new(object, key, json_integer((json_int_t)MIN(value, INT64_MAX))) ==
	       0;
}

static bool describe_progress(const struct job *job, json_t *object)
{
	uint64_t ns = elapsed_ns(job);
	uint64_t done = atomic_load(&job->done);
	uint64_t total = atomic_load(&job->total);
	uint64_t rate = ns == 0 ? 0 : (uint64_t)((double)done * 1e9 / (double)ns);
	bool ok = json_object_set_new(object, "phase", json_string(atomic_load(&job->phase))) == 0;

	ok = ok && set_number(object, "bytes_done", done) &&
	     set_number(object, "bytes_total", total) &&
	     set_number(object, "bytes_per_second", rate) &&
	     set_number(object, "elapsed_ms", ns / 1000000);
	if (ok && job->state == JOB_RUNNING && rate != 0 && total > done) {
		ok = set_number(object, "seconds_left", (total - done) / rate);
	}
	return ok;
}

static json_t *describe(const struct job *job)
{
	json_t *object = json_pack("{s:I, s:s, s:s}", "id", (json_int_t)job->id, "kind",
				   job->ops->kind, "state", state_names[job->state]);
	bool ok = object != NULL && describe_progress(job, object);

	if (ok && job->state == JOB_FAILED) {
		ok = json_object_set_new(object, "error",
					 json_pack("{s:s, s:s}", "code",
						   error_code_name(job->error.code), "message",
						   job->error.msg)) == 0;
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

/* Its result is there. */
static void finish(struct jobs *jobs)
{
	struct job *job = jobs->running;

	if (jobs->has_thread) {
		(void)pthread_join(jobs->thread, NULL);
		jobs->has_thread = false;
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
	job->ops->ended(job->arg);
	job->arg = NULL;
	add_event(jobs, job);
}

static void job_over(void *arg)
{
	finish(arg);
}

static void do_work(void *arg)
{
	struct jobs *jobs = arg;
	struct job *job = jobs->running;

	job->result = job->ops->run(job, job->arg, &job->error);
	loop_post(jobs->loop, &jobs->over);
}

static void *run(void *arg)
{
	do_work(arg);
	return NULL;
}

int jobs_create(struct jobs **ret, struct loop *loop, struct event_log *events, struct error *e)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));

	if (jobs == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "jobs: out of memory");
	}
	jobs->loop = loop;
	jobs->events = events;
	jobs->over = (struct loop_post){ .run = job_over, .arg = jobs };
	jobs->work = (struct loop_post){ .run = do_work, .arg = jobs };
	(void)pthread_mutex_init(&jobs->lock, NULL);
	*ret = jobs;
	return 0;
}

static void nothing(void *arg)
{
	(void)arg;
}

static void cancel(struct job *job)
{
	if (!atomic_exchange(&job->cancel, true) && job->ops->cancel != NULL) {
		job->ops->cancel(job->arg);
	}
}

void jobs_end(struct jobs *jobs)
{
	bool never_begun;

	if (jobs == NULL) {
		return;
	}
	if (jobs->running != NULL) {
		cancel(jobs->running);
	}
	{
		SCOPED_LOCK(&jobs->lock);
		jobs->ended = true;
		never_begun = jobs->work_waits;
		jobs->work_waits = false;
	}
	if (jobs->worker_runs) {
		/* Behind the job, if there is one. */
		(void)worker_call(&jobs->worker, nothing, NULL);
		worker_finish(&jobs->worker);
		jobs->worker_runs = false;
	}
	if (jobs->running != NULL) {
		if (never_begun) {
			jobs->running->result = -ECANCELED;
		}
		finish(jobs);
		/* Its thread has ended: it has been posted, and will not be again. */
		loop_post_cancel(jobs->loop, &jobs->over);
	}
}

void jobs_destroy(struct jobs *jobs)
{
	if (jobs == NULL) {
		return;
	}
	jobs_end(jobs);
	(void)pthread_mutex_destroy(&jobs->lock);
	free(jobs);
}

void jobs_expect_worker(struct jobs *jobs, bool expected)
{
	jobs->worker_expected = expected;
}

int jobs_start_worker(struct jobs *jobs, const char *name, int (*enter)(void *arg, struct error *e),
		      void *arg, struct error *e)
{
	int r;

	SCOPED_LOCK(&jobs->lock);
	if (jobs->ended || jobs->worker_runs) {
		return 0;
	}
	r = worker_init(&jobs->worker, name, e);
	if (r == 0) {
		r = worker_start(&jobs->worker, enter, arg, e);
	}
	if (r < 0) {
		worker_finish(&jobs->worker);
		return r;
	}
	jobs->worker_runs = true;
	if (jobs->work_waits) {
		jobs->work_waits = false;
		loop_post(&jobs->worker.loop, &jobs->work);
	}
	return 0;
}

/* 0, or an errno. */
static int begin(struct jobs *jobs)
{
	int r;

	{
		SCOPED_LOCK(&jobs->lock);
		if (jobs->worker_runs) {
			loop_post(&jobs->worker.loop, &jobs->work);
			return 0;
		}
		if (jobs->worker_expected) {
			jobs->work_waits = true;
			return 0;
		}
	}
	r = pthread_create(&jobs->thread, NULL, run, jobs);
	jobs->has_thread = r == 0;
	return r;
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
	r = begin(jobs);
	if (r != 0) {
		memset(job, 0, sizeof(*job));
		jobs->running = NULL;
		return error_set_sys(e, ERROR_INTERNAL, r, "%s: start a thread", ops->kind);
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
