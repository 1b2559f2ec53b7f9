/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of a hand-over, driven through the tables: include/vmm/handover.h is the contract. Who sends and hears what is checked
 * here for all rows alike: epochs, sequence numbers, words, whether there is a connection.
 */
#include <errno.h>
#include <inttypes.h>

#include "internal.h"

static void init(struct handover *h, enum handover_role role, uint64_t epoch, uint64_t word)
{
	VMM_BUG_ON(word == 0);
	*h = (struct handover){
		.role = role,
		.state = role == HANDOVER_SOURCE ? HANDOVER_S_IDLE : HANDOVER_D_WAITING,
		.connected = true,
		.epoch = epoch,
		.own_word = word,
	};
}

void handover_source_init(struct handover *h, uint64_t epoch, uint64_t word)
{
	VMM_BUG_ON(epoch == 0);
	init(h, HANDOVER_SOURCE, epoch, word);
}

void handover_destination_init(struct handover *h, uint64_t epoch, uint64_t word)
{
	init(h, HANDOVER_DESTINATION, epoch, word);
}

enum handover_state handover_state(const struct handover *h)
{
	return h->state;
}

uint64_t handover_epoch(const struct handover *h)
{
	return h->epoch;
}

uint64_t handover_own_word(const struct handover *h)
{
	return h->own_word;
}

static struct handover_action stamp_next(struct handover *h, enum handover_message message)
{
	return (struct handover_action){ HANDOVER_SEND, message, h->epoch, ++h->sent };
}

static void add(struct handover *h, struct handover_actions *todo, uint8_t what)
{
	struct handover_action *action = &todo->all[todo->count];

	if (what < HANDOVER_MESSAGES) {
		if (h->connected) {
			*action = stamp_next(h, (enum handover_message)what);
			todo->count++;
		}
		return;
	}
	if (what == TODO_ACTION(HANDOVER_CLOSE)) {
		if (!h->connected) {
			return;
		}
		h->connected = false;
	}
	*action = (struct handover_action){
		.kind = (enum handover_action_kind)(what - HANDOVER_MESSAGES),
	};
	todo->count++;
}

static void take(struct handover *h, const struct transition *t, struct handover_actions *todo)
{
	h->state = (enum handover_state)t->next;
	for (size_t i = 0; i < HANDOVER_ACTIONS_MAX && t->todo[i] != 0; i++) {
		VMM_BUG_ON(todo->count == HANDOVER_ACTIONS_MAX);
		add(h, todo, t->todo[i]);
	}
}

/* What the peer does cannot be: to this side it is as good as gone. */
static void give_up_peer(struct handover *h, struct handover_actions *todo)
{
	const struct transition *t = handover_find(h->state, TRIGGER_EVENT(HANDOVER_CLOSED));

	add(h, todo, TODO_ACTION(HANDOVER_CLOSE));
	if (t != NULL) {
		take(h, t, todo);
	}
}

static int __cold broken(struct handover *h, const struct handover_event *event,
			 struct handover_actions *todo, struct error *e, const char *why)
{
	const struct handover_message_info *info = handover_message_info(event->message);

	(void)error_set(e, ERROR_MIGRATION, EPROTO,
			"migration %" PRIu64 ": message %s (number %" PRIu64
			" of migration %" PRIu64 ") in state %s: %s",
			h->epoch, info != NULL ? info->name : "of unknown type", event->sequence,
			event->epoch, handover_state_info(h->state)->name, why);
	give_up_peer(h, todo);
	return error_hint(e, "the other side is no vmm of this version, or something between them "
			     "changes what they say");
}

/* An offer of an attempt that was seen already is an echo, as everything else of it is. */
static bool is_echo(const struct handover *h, const struct handover_event *event)
{
	if (h->state == HANDOVER_D_WAITING && event->message == HANDOVER_OFFER) {
		return event->epoch <= h->epoch;
	}
	return event->epoch < h->epoch || (event->epoch == h->epoch && event->sequence <= h->heard);
}

static int hear(struct handover *h, const struct handover_event *event,
		struct handover_actions *todo, struct error *e)
{
	const struct handover_message_info *info = handover_message_info(event->message);
	const struct transition *t;
	bool opens = h->state == HANDOVER_D_WAITING && event->message == HANDOVER_OFFER;

	if (!h->connected || is_echo(h, event)) {
		return 0;
	}
	if (info == NULL || info->to != h->role) {
		return broken(h, event, todo, e, "that is not for this side");
	}
	if (event->epoch != h->epoch && !opens) {
		return broken(h, event, todo, e, "there was no offer of that migration");
	}
	if (event->sequence != h->heard + 1) {
		return broken(h, event, todo, e, "others before it are missing");
	}
	t = handover_find(h->state, event->message);
	if (t == NULL) {
		return broken(h, event, todo, e, "it cannot come here");
	}
	if (event->message == HANDOVER_PREPARE || event->message == HANDOVER_PREPARED) {
		if (event->word == 0) {
			return broken(h, event, todo, e, "it has no word");
		}
		h->peer_word = event->word;
	}
	h->epoch = event->epoch;
	h->heard = event->sequence;
	take(h, t, todo);
	return 0;
}

static int __cold refuse(const struct handover *h, const struct handover_event *event,
			 struct error *e)
{
	const struct handover_state_info *info = handover_state_info(h->state);

	(void)error_set(e, ERROR_WRONG_STATE, EBUSY, "migration %" PRIu64 ": no %s in state %s",
			h->epoch, handover_event_name(event->kind), info->name);
	if (event->kind == HANDOVER_CANCEL) {
		return error_hint(e, "it is too late: wait for the end, or, in doubt, decide");
	}
	return error_hint(e, info->phase == HANDOVER_PHASE_DOUBT || info->over
				     ? "there is nothing left to decide here"
				     : "decide when the migration is in doubt; cancel it before");
}

static int decide(struct handover *h, const struct handover_event *event,
		  struct handover_actions *todo, struct error *e)
{
	const struct transition *t = handover_find(h->state, TRIGGER_EVENT(event->kind));

	if (t == NULL) {
		return refuse(h, event, e);
	}
	/* A source that is blocked knows already that the destination never will run. */
	if (event->kind == HANDOVER_DECIDE_RUN && h->state != HANDOVER_S_BLOCKED &&
	    event->word != h->peer_word) {
		(void)error_set(e, ERROR_CONFIG, EACCES,
				"migration %" PRIu64 ": that is not the word of the other side",
				h->epoch);
		return error_hint(e, h->role == HANDOVER_SOURCE
					     ? "it is shown by a destination that is in doubt or "
					       "has given up; one that runs has none: give up here"
					     : "it is shown by a source that has given up; one "
					       "that runs has none: give up here");
	}
	take(h, t, todo);
	return 0;
}

int handover_event(struct handover *h, const struct handover_event *event,
		   struct handover_actions *todo, struct error *e)
{
	const struct transition *t;

	todo->count = 0;
	switch (event->kind) {
	case HANDOVER_MESSAGE:
		return hear(h, event, todo, e);
	case HANDOVER_CANCEL:
	case HANDOVER_DECIDE_RUN:
	case HANDOVER_DECIDE_RUN_VOUCHED:
	case HANDOVER_DECIDE_GIVE_UP:
		return decide(h, event, todo, e);
	case HANDOVER_CLOSED:
		if (!h->connected) {
			return 0;
		}
		h->connected = false;
		break;
	case HANDOVER_DONE:
	case HANDOVER_NOT_DONE:
		if (handover_state_info(h->state)->awaits != event->action) {
			return 0;
		}
		break;
	default:
		break;
	}
	t = handover_find(h->state, TRIGGER_EVENT(event->kind));
	if (t != NULL) {
		take(h, t, todo);
	}
	return 0;
}

bool handover_will_store(const struct handover *h, const struct handover_event *event)
{
	return h->connected && h->state == HANDOVER_D_RECEIVING &&
	       (event->message == HANDOVER_PAGES || event->message == HANDOVER_STATE) &&
	       event->epoch == h->epoch && event->sequence == h->heard + 1;
}

int handover_stamp(struct handover *h, enum handover_message message, struct handover_action *stamp,
		   struct error *e)
{
	const struct handover_message_info *info = handover_message_info(message);

	if (!h->connected || (handover_stamped_in(message) >> h->state & 1) == 0) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY,
				"migration %" PRIu64 ": %s cannot be sent in state %s%s", h->epoch,
				info != NULL ? info->name : "that",
				handover_state_info(h->state)->name,
				h->connected ? "" : ", without a connection");
		return error_hint(e, "the migration has ended, or been cancelled, meanwhile");
	}
	*stamp = stamp_next(h, message);
	return 0;
}
