/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of this room. */
#ifndef MIGRATION_INTERNAL_H
#define MIGRATION_INTERNAL_H

#include "vmm/handover.h"

/* What a row is about: a message, or, behind these, another event. */
#define TRIGGER_EVENT(kind) (HANDOVER_MESSAGES + (kind))
#define TRIGGERS	    TRIGGER_EVENT(HANDOVER_EVENT_KINDS)

/* An action in a row: a message to send, or, behind these, another kind. 0 ends the list. */
#define TODO_ACTION(kind) (HANDOVER_MESSAGES + (kind))

struct transition {
	uint32_t from; /* a set of states: 1 << enum handover_state */
	uint8_t trigger;
	uint8_t next;
	uint8_t todo[HANDOVER_ACTIONS_MAX];
};

extern const struct transition handover_transitions[];
extern const size_t handover_transition_count;

/* NULL: nothing is said of it. */
const struct transition *handover_find(enum handover_state state, unsigned int trigger);
/* Which states may send this message of their own accord, in the course of an action. */
uint32_t handover_stamped_in(enum handover_message message);

/* poll(2)'s limit, in milliseconds and no longer than an int has room for: until that time; UINT64_MAX: for ever. link.c */
int migration_poll_limit(uint64_t until_ns);

#endif
