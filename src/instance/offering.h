/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a source offers (vmm/handover.h, OFFER): the VM's configuration and what else the other side looks at before memory moves, as
 * JSON behind its length; then the machine's state of that moment. Private to src/instance.
 */
#ifndef VMM_INSTANCE_OFFERING_H
#define VMM_INSTANCE_OFFERING_H

#include "internal.h"

/* Bytes, little-endian. */
#define OFFER_JSON_LENGTH 4
#define OFFER_TOKEN	  16

struct offering {
	char *about, *config;
	json_t *disk_bytes; /* {id: size} */
	uint64_t uptime_ns;
	bool described; /* it is there as a whole */
};

/* Main: what there is to say of the VM now. Once; nothing is `described` if memory is short. */
void offering_describe(struct offering *offering, struct instance *instance);
/* Any thread, after that. `moving_disks`, and what of further connections there is, are taken over. *ret is malloc'ed. ERROR_NOT_SUPPORTED: it is more than a message can have. */
int offering_make(const struct offering *offering, const struct state_buf *state, bool paused,
		  json_t *moving_disks, json_t *postcopy, json_t *channels, uint8_t **ret,
		  uint32_t *ret_len, struct error *e);
/* What opens further connections: random, and as the offer says it. */
int offering_draw_token(uint8_t token[OFFER_TOKEN], json_t **ret, struct error *e);
/* Of any text, or none. */
bool offering_read_token(const char *text, uint8_t token[OFFER_TOKEN]);
/* Accepts a zeroed one. */
void offering_finish(struct offering *offering);

#endif
