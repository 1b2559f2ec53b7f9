/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration away from here, as its two files share it: the change, on main (migrate.c), and the job's thread (migrate_work.c). Private
 * to src/instance.
 */
#ifndef VMM_INSTANCE_MIGRATE_TASK_H
#define VMM_INSTANCE_MIGRATE_TASK_H

#include "asking.h"
#include "migrate_channels.h"
#include "migrate_postcopy.h"
#include "moving_disks.h"
#include "offering.h"
#include "upgrade.h"
#include "vmm/migration_converge.h"
#include "vmm/migration_pages.h"

struct migrate_task {
	struct instance *instance;
	struct change *change;
	const struct migrate_request *request;
	struct asking asking;
	struct upgrade *upgrade; /* NULL: it goes to another host, or as if */
	struct guest_memory *mem;
	int pagemap_fd;
	uint64_t epoch;
	bool was_running, tracked; /* as it began */
	bool tracking;		   /* by us, until it is undone */
	bool started;		   /* tracking has, and the first pass is known */
	bool ended;
	int result;
	struct error error;

	struct job *job;
	/* Written once, before whoever cancels is looked for. */
	struct migration *_Atomic made;
	struct migration *m;	 /* that, for the job's thread, and for main once it is over */
	struct loop_post driven; /* to main: there is one */
	struct loop_post told;	 /* to main: somebody has to decide */
	struct migration_pages pages;
	struct moving_disks disks;
	struct postcopy postcopy;
	struct channels_offer channels_offer;
	struct channel_source *channels; /* NULL: memory goes over the one connection */
	struct state_buf state;
	struct offering offering;
	uint8_t *offer;
	uint32_t offer_len;
	uint8_t pass_end[16];
	uint64_t pass, pass_sent, pass_began, copying_since;
	_Atomic uint64_t pass_wire; /* bytes that have gone over in this pass, on all connections */
	uint64_t still_ns;	    /* of the first save */
	struct migration_converge converge;
	bool throttled; /* by us, until it is undone; main's */
	uint64_t part_since;
};

/* Memory is the other process's as it is. */
static inline bool migrate_passes_memory(const struct migrate_task *task)
{
	return task->upgrade != NULL && task->upgrade->passes;
}

static inline struct migration_view *migrate_view_of(const struct migrate_task *task)
{
	return &task->instance->migration;
}

/* Is the VM somebody else's from now on, or nobody's? */
static inline bool migrate_has_left(const struct migrate_task *task)
{
	enum handover_state state = task->m != NULL ? migration_state(task->m) : HANDOVER_S_IDLE;

	return state == HANDOVER_S_MOVED || state == HANDOVER_S_GIVEN_UP;
}

/* Any of its threads that send: waits until what has gone over in this pass may have. */
void migrate_keep_to_bandwidth(const struct migrate_task *task);

/* A thread that a migration has started, first: the filter of a job. `arg`: the instance. */
int migrate_enter_job(void *arg, struct error *e);

/* The job: `arg` is the task. */
int migrate_work(struct job *job, void *arg, struct error *e);

#endif
