/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Further connections for memory (vmm/migration_channels.h), for migrate_work.c and receive.c. Private to src/instance; each function is of the
 * job's thread, but where it says otherwise.
 */
#ifndef VMM_INSTANCE_MIGRATE_CHANNELS_H
#define VMM_INSTANCE_MIGRATE_CHANNELS_H

#include "internal.h"
#include "vmm/handover_frames.h"
#include "vmm/migration.h"
#include "vmm/migration_channels.h"
#include "vmm/page_service.h"

/* As the offer has it: {"count": N, "token": TEXT}. A zeroed one is of none. */
struct channels_offer {
	uint32_t count;
	uint8_t token[MIGRATION_CHANNELS_TOKEN];
};

struct migrate_task;

/* The source's: what the offer says of it, the caller's; NULL: nothing, one connection it is. */
int migrate_channels_offer(struct migrate_task *task, json_t **ret, struct error *e);
/* The offer was accepted: connections are made, and threads. */
int migrate_channels_begin(struct migrate_task *task, struct error *e);
/* Pages that are wanted, over all connections if that pays; by send() on the hand-over's own. */
int migrate_channels_send(struct migrate_task *task,
			  int (*send)(void *arg, const uint8_t *payload, uint32_t len,
				      struct error *e),
			  struct error *e);

/* The destination's. `json`: what the offer says of it, NULL for nothing; `most`: connections in all that are allowed; `single`: there can be no other. */
int channels_read_offer(struct channels_offer *ret, const json_t *json, uint32_t most, bool single,
			struct error *e);
/* A thread that may start threads; `listener` is used up. */
int channels_receive(struct channel_sink **ret, const struct channels_offer *offer,
		     struct instance *instance, struct channel_sink_config *config,
		     struct error *e);
/* GATHER has come. Who has joined need not be waited for any more: `pages`, if there is such a one, listens from then on. `sink` may be NULL. */
int channels_gather(struct channel_sink *sink, const struct handover_frame *frame,
		    struct migration *m, struct page_sink *pages, struct error *e);
/* Nothing is written into memory any more, and nobody waited for. `sink` may be NULL. */
void channels_end(struct channel_sink *sink, struct page_sink *pages);

#endif
