/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a record of what a restored VM touches first: a change (changes.c) whose work is a job's, which writes the file into the
 * snapshot's directory (vmm/snapshot.h, snapshot_mark()) within its filter. The VM runs on; it cannot go away meanwhile, since the job ends
 * before it does.
 *
 * Neither client nor guest controls a path: the directory was opened by the load.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

static int work(struct job *job, void *arg, struct error *e)
{
	struct change *change = arg;

	job_progress(job, "working set", 0, 0);
	return snapshot_mark(change->mark.mem, &change->mark.bytes, e);
}

static void ended(void *arg, int result, struct error *e)
{
	struct change *change = arg;
	struct error why = *e;

	if (result == 0) {
		event_log_add(&change->instance->events, "working-set",
			      json_pack("{s:I}", "bytes", (json_int_t)change->mark.bytes));
	} else if (why.code == ERROR_NONE) {
		(void)error_set(&why, ERROR_CANCELLED, ECANCELED, "mark: cancelled");
	}
	changes_end(change, result, &why);
}

static const struct job_ops job_ops = { .kind = "mark", .run = work, .ended = ended };

static int prepare(struct instance *instance, struct change *change, struct error *e)
{
	uint64_t job;
	int r = instance_check_alive(instance, e);

	if (r < 0) {
		return r;
	}
	change->mark.mem = vm_memory(instance->vm);
	return change_start_job(change, &job_ops, change, &job, e);
}

static const struct change_kind mark_kind = { .during = INSTANCE_STATES, .prepare = prepare };

int instance_mark(struct instance *instance, const struct asked *asked, struct error *e)
{
	return control_change(instance, &mark_kind, asked, e);
}
