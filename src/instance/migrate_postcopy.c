/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy, the source's side: see migrate_postcopy.h. The connections that memory goes over are made while the guest runs still, so that the
 * pause has only to say which pages are missing. Then the page service's own thread sends them, already before the hand-over is
 * over: the other side's devices may touch them when they load.
 *
 * When the VM has moved, this side's job stays: so does the change, behind which all others wait. The VM stands still, and
 * its memory does not change. If its connections are lost they are made again for as long as the other side may be silent, then when a
 * client says so (migration_view.c).
 *
 * The token is random, and the other side's as soon as it has the offer. The client controls when it comes to all this.
 */
#include "migrate_postcopy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "migrate_task.h"
#include "offering.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("migration");

/* Connections that are asked over. */
#define ASKING 2

int postcopy_offer(struct postcopy *postcopy, json_t **ret, struct error *e)
{
	const struct migrate_request *request = postcopy->request;
	int r;

	*ret = NULL;
	if (!request->postcopy && request->at_limit != MIGRATE_LIMIT_POSTCOPY) {
		return 0;
	}
	r = offering_draw_token(postcopy->token, ret, e);
	if (r == 0) {
		postcopy->offered = true;
		atomic_store(&postcopy->instance->migration.may_switch, true);
	}
	return r;
}

bool postcopy_is_due(const struct postcopy *postcopy, bool late)
{
	const struct migrate_request *request = postcopy->request;

	return postcopy->offered &&
	       (request->postcopy || (late && request->at_limit == MIGRATE_LIMIT_POSTCOPY) ||
		atomic_load(&postcopy->instance->migration.switches));
}

/* The machine thread may start threads. */
static int start(void *arg, struct guest_memory *mem, struct error *e)
{
	struct postcopy *postcopy = arg;

	(void)mem;
	return page_source_start(postcopy->source, migrate_enter_job, postcopy->instance, e);
}

int postcopy_begin(struct postcopy *postcopy, struct guest_memory *mem, struct error *e)
{
	const struct migrate_request *request = postcopy->request;
	struct page_source_config config = { .mem = mem,
					     .asking = ASKING,
					     .stall_ns = request->silence_ns,
					     .retry_ns = request->silence_ns,
					     .bandwidth = request->bandwidth,
					     .address = request->address };
	int r;

	memcpy(config.token, postcopy->token, sizeof(config.token));
	r = page_source_create(&postcopy->source, &config, e);
	r = r == 0 ? page_source_connect(postcopy->source, e) : r;
	if (r == 0) {
		r = asking_ask(postcopy->asking,
			       &(const struct vm_operation){ .type = VM_MEMORY,
							     .memory = { start, postcopy } },
			       e);
	}
	postcopy->switching = r == 0;
	return r;
}

static int send_piece(void *arg, const uint8_t *payload, uint32_t len, struct error *e)
{
	return migration_send(arg, HANDOVER_PAGES, payload, len, e);
}

int postcopy_say_missing(struct migration *m, struct migration_pages *pages, struct error *e)
{
	auto_free uint8_t *buf = malloc(PAGE_MISSING_BYTES);
	int r = 0;

	if (buf == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	for (uint32_t i = 0; r == 0 && i < GUEST_MEMORY_REGIONS_MAX; i++) {
		uint64_t bits, *wanted = migration_pages_wanted(pages, i, &bits);

		if (wanted != NULL) {
			const uint64_t count =
				atomic_load(&pages->mem->regions[i].size) / PAGE_SIZE_4K;

			r = page_missing_send(i, wanted, count, buf, send_piece, m, e);
		}
	}
	return r;
}

static int left_alone(struct error *e)
{
	(void)error_set(e, ERROR_CANCELLED, ECANCELED,
			"the VM has moved, but not all of its memory has");
	return error_hint(e, "the other side cannot go on without it");
}

int postcopy_serve(struct postcopy *postcopy, struct job *job, void (*waits)(void *arg), void *arg,
		   struct error *e)
{
	struct migration_view *view = &postcopy->instance->migration;
	struct page_source *source = postcopy->source;
	enum page_source_state state = PAGE_SOURCE_CONNECTED;
	struct error why = { 0 };

	atomic_store(&view->memory, MIGRATION_MEMORY_COMES);
	atomic_store(&view->source, source);
	page_source_moved(source);
	job_progress(job, "serves memory", page_source_sent(source), 0);
	for (;;) {
		state = page_source_wait(source, state, &why);
		switch (state) {
		case PAGE_SOURCE_DONE:
			atomic_store(&view->memory, MIGRATION_MEMORY_NONE);
			atomic_store(&view->left, 0);
			return 0;
		case PAGE_SOURCE_LEFT:
			return left_alone(e);
		case PAGE_SOURCE_CONNECTED:
			atomic_store(&view->memory, MIGRATION_MEMORY_COMES);
			job_progress(job, "serves memory", page_source_sent(source), 0);
			break;
		case PAGE_SOURCE_LOST:
			log_warn("%s: connects again", why.msg);
			atomic_store(&view->memory, MIGRATION_MEMORY_LOST);
			job_progress(job, "memory waits", page_source_sent(source), 0);
			break;
		case PAGE_SOURCE_WAITS:
			log_warn("what memory went over is lost: vmm migrate --resume goes on");
			atomic_store(&view->memory, MIGRATION_MEMORY_WAITS);
			waits(arg);
			break;
		}
	}
}

void postcopy_leave(struct postcopy *postcopy)
{
	struct page_source *source = atomic_load(&postcopy->instance->migration.source);

	if (source != NULL) {
		page_source_leave(source, true);
	}
}

void postcopy_end(struct postcopy *postcopy)
{
	if (postcopy->instance != NULL) {
		atomic_store(&postcopy->instance->migration.source, NULL);
	}
	page_source_destroy(take_ptr(postcopy->source));
}
