/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy (vmm/page_service.h) for migrate.c and receive.c. Private to src/instance; each function is of the job's thread, but where it
 * says otherwise.
 */
#ifndef VMM_INSTANCE_MIGRATE_POSTCOPY_H
#define VMM_INSTANCE_MIGRATE_POSTCOPY_H

#include "asking.h"
#include "vmm/migration_pages.h"
#include "vmm/page_service.h"

/* The source's. A zeroed one is of a migration that will not come to it. */
struct postcopy {
	struct instance *instance;
	const struct migrate_request *request;
	struct asking *asking;
	bool offered;	/* the other side knows that it may come to it */
	bool switching; /* it has */
	uint8_t token[PAGE_SERVICE_TOKEN];
	struct page_source *source;
};

/* What the offer says of it, the caller's; NULL: nothing, it was not asked for. */
int postcopy_offer(struct postcopy *postcopy, json_t **ret, struct error *e);
/* After a pass at least: it is asked for; `late`: the time for copying is over. */
bool postcopy_is_due(const struct postcopy *postcopy, bool late);
/* Connections are made and served, while the guest runs still. */
int postcopy_begin(struct postcopy *postcopy, struct guest_memory *mem, struct error *e);
/* In place of sending pages: says which those are. */
int postcopy_say_missing(struct migration *m, struct migration_pages *pages, struct error *e);
/* The VM has moved: until the other side has everything. waits() is called when somebody has to do something. */
int postcopy_serve(struct postcopy *postcopy, struct job *job, void (*waits)(void *arg), void *arg,
		   struct error *e);
/* Any thread, while that is under way or may be: it shall end, for this process does. */
void postcopy_leave(struct postcopy *postcopy);
/* The VM stays: nothing is sent any more. Also main, when the job has ended. */
void postcopy_end(struct postcopy *postcopy);

/* The destination's. Until everything is there; the VM stands still while nobody brings it. `runs`: it did until now. */
int postcopy_receive(struct instance *instance, struct page_sink *sink, struct asking *asking,
		     struct job *job, bool runs, struct error *e);
/* Main: this process ends, whatever is missing. */
void postcopy_abandon(struct page_sink *sink);

#endif
