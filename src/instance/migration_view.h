/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migration that is under way, or was the last, as clients see it (GET /migration), and what they decide of it. Main's, but for what
 * is atomic, which the job's thread writes. Private to src/instance.
 */
#ifndef VMM_INSTANCE_MIGRATION_VIEW_H
#define VMM_INSTANCE_MIGRATION_VIEW_H

#include "vmm/instance.h"
#include "vmm/json.h"
#include "vmm/loop.h"
#include "vmm/migration.h"
#include "vmm/page_service.h"

/* Of the time that the guest stands still, in their order. */
enum migration_part {
	MIGRATION_PART_PAUSE,	/* vCPUs and devices come to rest */
	MIGRATION_PART_SAVE,	/* state, and the last pages are found */
	MIGRATION_PART_PAGES,	/* they are sent, and the state */
	MIGRATION_PART_PREPARE, /* the other side loads */
	MIGRATION_PART_COMMIT,	/* locks are released; the other side takes them, and runs */
	MIGRATION_PARTS,
};

struct change;

/* Of a VM that has moved before all of its memory had. */
enum migration_memory {
	MIGRATION_MEMORY_NONE,	/* it is all there, or none is */
	MIGRATION_MEMORY_COMES, /* it goes from one side to the other */
	MIGRATION_MEMORY_LOST,	/* its connections are lost, and tried again by the source */
	MIGRATION_MEMORY_WAITS, /* source: and not tried any more */
};

struct migration_view {
	bool known; /* there is one */
	enum handover_role role;
	char *address;
	struct migration *m; /* under way; NULL: over, and these three are what it was */
	enum handover_state state;
	uint64_t epoch, word;
	struct error error; /* why it is over; code ERROR_NONE: it is not, or as it should be */
	_Atomic uint64_t passes, sent, left; /* bytes */
	_Atomic uint64_t rate, dirty_rate;   /* bytes a second, of the last pass; 0: not known */
	_Atomic uint64_t expected_ns;	     /* the guest would stand still, by those */
	_Atomic uint32_t throttle,
		throttle_most; /* percent that it is slowed down by, and was at most */
	_Atomic uint64_t parts_ns[MIGRATION_PARTS]; /* of the time that it stood still */
	/* Post-copy: it may come to it; a client wants it now. */
	_Atomic bool may_switch, switches;
	bool insecure;	    /* of the request */
	_Atomic int memory; /* enum migration_memory */
	/* While memory goes over. Main ends them, and clears these before. */
	_Atomic(struct page_source *) source;
	_Atomic(struct page_sink *) sink;
	/* The one decision that is being made. */
	struct migration_question question;
	struct loop_post answered;
	bool asking;
	struct instance_call *call; /* NULL: nobody waits */
};

void migration_view_init(struct instance *instance);
void migration_view_finish(struct instance *instance);
/* A new one, of which nothing is known yet but this. */
void migration_view_begin(struct instance *instance, enum handover_role role, const char *address);
/* It is driven from now on: what is asked reaches it. */
void migration_view_drive(struct instance *instance, struct migration *m);
/* Over; `m` is about to be destroyed. `why` NULL: as it should be. */
void migration_view_end(struct instance *instance, const struct error *why);
void migration_view_forget(struct instance *instance, const struct instance_call *call);
/* Whether it has been told to cancel. */
int migration_view_cancel(struct instance *instance, struct error *e);
/* What an operator has to know; NULL: nothing is to be decided. */
const char *migration_view_advice(enum handover_state state);
json_t *answer_migration(struct instance *instance);
/* Of a change that is a migration: whoever waits for its end hears that it may be long in coming, and what to do; or how it went, when nobody
 * can ask for that later, since the instance ends. */
void migration_view_answer_doubt(struct change *change, enum handover_state state);
/* The same, of one that has moved and lacks memory that nobody can bring. */
void migration_view_answer_memory(struct change *change);
void migration_view_answer_moved(struct instance *instance, struct change *change);

#endif
