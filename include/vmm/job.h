/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: work on a VM that takes long (snapshot, migration). One runs at a time, on a thread of its
 * own; it tells how far it is, can be cancelled, and its last state is kept when it is over. The
 * frame knows nothing of the work.
 *
 *	running --> done | failed | cancelled
 *
 * Each job has a thread of its own. Before the start of the VM main starts it, and it has no filter.
 * From then on main cannot start threads: a spawner can, and the thread first enters a filter
 * (SANDBOX_ROLE_JOB, whose calls of the frame are job_syscalls; each kind of job adds its own). What
 * a job needs opened it gets in `arg`.
 *
 * Threads: everything here is called on main but job_progress() and job_cancel_wanted(), which the
 * job's own thread calls, and what the spawner is given.
 */
#ifndef VMM_JOB_H
#define VMM_JOB_H

#include "vmm/error.h"
#include "vmm/event_log.h"
#include "vmm/json.h"
#include "vmm/loop.h"

#define JOBS_KEPT 16

struct job;
struct jobs;

struct job_ops {
	const char *kind; /* "snapshot" */
	/* The job's thread. 0, or negative with `e`; looks at job_cancel_wanted() often and then
	 * returns -ECANCELED. `arg` is the starter's. */
	int (*run)(struct job *job, void *arg, struct error *e);
	/* Main: it is over and `arg` is not used any more. `result` is run()'s, or why it did not run;
	 * negative with `e`. */
	void (*ended)(void *arg, int result, struct error *e);
	/* Main, for what does not poll, such as a socket to shut down. May be NULL. */
	void (*cancel)(void *arg);
};

int jobs_create(struct jobs **ret, struct loop *loop, struct event_log *events, struct error *e);
/* Who starts threads once main cannot. */
struct job_spawner {
	/*
	 * Main: has start(arg) called, once, on a thread that may start others, and told(arg) then on
	 * main, from the loop: `failure` NULL, or start()'s, or why it was not called. Negative: it
	 * will not be.
	 */
	int (*spawn)(struct job_spawner *spawner, int (*start)(void *arg, struct error *e),
		     void (*told)(void *arg, const struct error *failure), void *arg,
		     struct error *e);
	/* The new thread, once main has been told, before all else. A failure fails the job. */
	int (*enter)(struct job_spawner *spawner, struct error *e);
};
/* From now on. */
void jobs_spawn_by(struct jobs *jobs, struct job_spawner *spawner);
/*
 * The job that runs is cancelled and waited for, no other job can be started. For before what jobs
 * work on is destroyed; one whose thread is not there yet will begin nothing. Accepts NULL.
 */
void jobs_end(struct jobs *jobs);
/* Ends them first. The spawner has told what came of what it was asked for. Accepts NULL. */
void jobs_destroy(struct jobs *jobs);
/* ERROR_BUSY if one runs. *id gets its number, from 1. */
int jobs_start(struct jobs *jobs, const struct job_ops *ops, void *arg, uint64_t *id,
	       struct error *e);
/* ERROR_NOT_FOUND; a job that is over: ERROR_WRONG_STATE. Returns before it has ended. */
int jobs_cancel(struct jobs *jobs, uint64_t id, struct error *e);
/* Bytes per second are the average since the start; "seconds_left" only if that can be told.
 * {"id", "kind", "state", "phase", "bytes_done", "bytes_total", "bytes_per_second",
 * "seconds_left"?, "elapsed_ms", "error"?: {"code",
 * "message", "hint"?}}. NULL if unknown. */
json_t *jobs_describe(struct jobs *jobs, uint64_t id);
/* An array, the oldest first. NULL if memory is short. */
json_t *jobs_describe_all(struct jobs *jobs);
/* The one that runs, 0: none. */
uint64_t jobs_current(const struct jobs *jobs);

/* The job's thread. `phase` is a literal; `total` 0: not known. */
void job_progress(struct job *job, const char *phase, uint64_t done, uint64_t total);
bool job_cancel_wanted(struct job *job);

#endif
