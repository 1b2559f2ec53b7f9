/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy, the destination's side: see migrate_postcopy.h. The VM runs; whoever touches memory that is missing waits for it, and nobody is
 * needed for that but the page service's threads. The job stays until all is there, and with it the change, behind which all others
 * wait: a snapshot finds memory complete.
 *
 * When nobody brings memory any more the VM is paused, so that its clocks and its peers see one that stands still and not one whose
 * processors wait, one after the other. A processor that waits for a page already is parked when that has come: the pause may take until
 * then, which is as good.
 *
 * The other side's memory is its own affair, as is what it puts where something is missing.
 */
#include <errno.h>

#include "migrate_postcopy.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("migration");

struct receiving {
	struct asking *asking;
	bool paused; /* by us */
	bool runs;
};

static int stand_still(struct receiving *receiving, struct error *e)
{
	int r;

	if (!receiving->runs || receiving->paused) {
		return 0;
	}
	r = asking_ask(receiving->asking, &(const struct vm_operation){ .type = VM_PAUSE }, e);
	receiving->paused = r == 0;
	return r == -EALREADY ? 0 : r;
}

static int go_on(struct receiving *receiving, struct error *e)
{
	int r = 0;

	if (receiving->paused) {
		r = asking_ask(receiving->asking, &(const struct vm_operation){ .type = VM_RESUME },
			       e);
		receiving->paused = false;
	}
	return r;
}

int postcopy_receive(struct instance *instance, struct page_sink *sink, struct asking *asking,
		     struct job *job, bool runs, struct error *e)
{
	struct migration_view *view = &instance->migration;
	struct receiving receiving = { .asking = asking, .runs = runs };
	enum page_sink_state state = PAGE_SINK_READY;
	struct error why = { 0 };
	int r = 0;

	atomic_store(&view->memory, MIGRATION_MEMORY_COMES);
	atomic_store(&view->sink, sink);
	job_progress(job, "memory comes", 0, 0);
	while (r == 0) {
		state = page_sink_wait(sink, state, &why);
		switch (state) {
		case PAGE_SINK_DONE:
			atomic_store(&view->sink, NULL);
			atomic_store(&view->memory, MIGRATION_MEMORY_NONE);
			atomic_store(&view->left, 0);
			return go_on(&receiving, e);
		case PAGE_SINK_GONE:
			*e = why;
			return -EPIPE;
		case PAGE_SINK_LEFT:
			return error_set(e, ERROR_CANCELLED, ECANCELED, "receive: cancelled");
		case PAGE_SINK_LOST:
			log_warn("memory is missing, and nobody brings it: the VM stands still");
			atomic_store(&view->memory, MIGRATION_MEMORY_LOST);
			job_progress(job, "waits for memory", 0, 0);
			r = stand_still(&receiving, e);
			break;
		case PAGE_SINK_SERVED:
			atomic_store(&view->memory, MIGRATION_MEMORY_COMES);
			job_progress(job, "memory comes", 0, 0);
			r = go_on(&receiving, e);
			break;
		case PAGE_SINK_READY:
			break;
		}
	}
	return r;
}

void postcopy_abandon(struct page_sink *sink)
{
	struct error why = { 0 };

	page_sink_leave(sink);
	/* Threads that wait for memory could not end. */
	(void)error_set(&why, ERROR_CANCELLED, ECANCELED,
			"the VM ends before all of its memory has come");
	page_sink_lose(sink, &why);
}
