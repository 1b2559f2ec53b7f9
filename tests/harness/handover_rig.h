/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two sides of a hand-over, what is between them, and those around them: each does in order what its machine says, and reports.
 * Nothing happens by itself; a test says what comes next. What must hold at every moment is checked after every step.
 *
 * Locks do not arbitrate here: both sides could have them, so that the protocol alone keeps them apart.
 */
#ifndef TESTS_HANDOVER_RIG_H
#define TESTS_HANDOVER_RIG_H

#include <errno.h>

#include "harness/check_main.h"
#include "vmm/handover.h"

#define SOURCE	    HANDOVER_SOURCE
#define DESTINATION HANDOVER_DESTINATION
#define OTHER(side) (1 - (side))

#define RIG_EPOCH	     7
#define RIG_SOURCE_WORD	     0x51
#define RIG_DESTINATION_WORD 0xd2

#define RIG_QUEUE 16

struct rig_message {
	uint8_t message, epoch, sequence;
};

struct rig_wire {
	uint8_t count;
	struct rig_message all[RIG_QUEUE];
};

struct rig_side {
	struct handover h;
	struct handover_action todo[RIG_QUEUE];
	uint8_t todo_count;
	bool dead, runs, locks;
	bool closed;	  /* by this side */
	bool heard_close; /* nothing comes or goes any more */
	bool word_shown;
	bool told_off; /* an operator has said that it is not to run */
};

struct rig {
	struct rig_side side[2];
	struct rig_wire to[2]; /* what is on its way to a side */
	bool cut;
	uint8_t passes; /* still to be made before it converges */
};

static inline const char *rig_state_name(const struct rig *rig, int side)
{
	return handover_state_info(handover_state(&rig->side[side].h))->name;
}

static inline enum handover_state rig_state(const struct rig *rig, int side)
{
	return handover_state(&rig->side[side].h);
}

static inline bool rig_in_doubt(const struct rig *rig, int side)
{
	return !rig->side[side].dead &&
	       handover_state_info(rig_state(rig, side))->phase == HANDOVER_PHASE_DOUBT;
}

static inline int rig_running(const struct rig *rig)
{
	return rig->side[SOURCE].runs + rig->side[DESTINATION].runs;
}

static inline void rig_check(const struct rig *rig)
{
	ck_assert_msg(rig_running(rig) < 2, "two run: %s, %s", rig_state_name(rig, SOURCE),
		      rig_state_name(rig, DESTINATION));
	ck_assert_msg(!(rig->side[SOURCE].locks && rig->side[DESTINATION].locks),
		      "both have the disk: %s, %s", rig_state_name(rig, SOURCE),
		      rig_state_name(rig, DESTINATION));
	for (int i = 0; i < 2; i++) {
		const struct rig_side *side = &rig->side[i];
		const struct handover_state_info *info = handover_state_info(side->h.state);

		ck_assert_msg(!side->runs || side->locks, "%s runs without the disk", info->name);
		/* What is still to be done may not be done yet. */
		if (!side->dead && side->todo_count == 0) {
			ck_assert_msg(!side->runs || info->runs, "%s runs", info->name);
			ck_assert_msg(!side->locks || info->locks, "%s has locks", info->name);
		}
	}
}

/* Which rows have been taken: state, and message or, behind these, event. */
static bool rig_rows_taken[HANDOVER_STATES][HANDOVER_MESSAGES + HANDOVER_EVENT_KINDS];

static inline int rig_event(struct rig *rig, int to, const struct handover_event *event,
			    struct error *e)
{
	struct rig_side *side = &rig->side[to];
	struct handover_actions todo;
	enum handover_state before = side->h.state;
	int r;

	if (side->dead) {
		return 0;
	}
	r = handover_event(&side->h, event, &todo, e);
	ck_assert(r == 0 || r == -EPROTO || todo.count == 0);
	if (todo.count > 0 || side->h.state != before || event->kind == HANDOVER_CLOSED) {
		rig_rows_taken[before][event->kind == HANDOVER_MESSAGE
					       ? (int)event->message
					       : HANDOVER_MESSAGES + (int)event->kind] = true;
	}
	for (size_t i = 0; i < todo.count; i++) {
		ck_assert(!side->heard_close || (todo.all[i].kind != HANDOVER_SEND &&
						 todo.all[i].kind != HANDOVER_CLOSE));
		ck_assert_uint_lt(side->todo_count, RIG_QUEUE);
		side->todo[side->todo_count++] = todo.all[i];
	}
	rig_check(rig);
	return r;
}

static inline int rig_tell(struct rig *rig, int to, enum handover_event_kind kind, uint64_t word)
{
	struct handover_event event = { .kind = kind, .word = word };
	struct error e;

	if (kind == HANDOVER_CLOSED) {
		rig->side[to].heard_close = true;
		rig->to[to].count = 0;
	}
	return rig_event(rig, to, &event, &e);
}

static inline int rig_hand(struct rig *rig, int to, struct rig_message m)
{
	struct handover_event event = {
		.kind = HANDOVER_MESSAGE,
		.message = (enum handover_message)m.message,
		.epoch = m.epoch,
		.sequence = m.sequence,
		.word = m.message == HANDOVER_PREPARE	 ? RIG_SOURCE_WORD
			: m.message == HANDOVER_PREPARED ? RIG_DESTINATION_WORD
							 : 0,
	};
	struct error e;

	return rig_event(rig, to, &event, &e);
}

static inline struct rig_message rig_take_off(struct rig *rig, int to)
{
	struct rig_wire *wire = &rig->to[to];
	struct rig_message m = wire->all[0];

	ck_assert_uint_gt(wire->count, 0);
	wire->count--;
	memmove(wire->all, wire->all + 1, sizeof(wire->all[0]) * wire->count);
	memset(&wire->all[wire->count], 0, sizeof(wire->all[0]));
	return m;
}

static inline int rig_deliver(struct rig *rig, int to)
{
	return rig_hand(rig, to, rig_take_off(rig, to));
}

static inline void rig_send(struct rig *rig, int from, const struct handover_action *action)
{
	struct rig_wire *wire = &rig->to[OTHER(from)];

	if (rig->side[from].heard_close || rig->side[OTHER(from)].dead ||
	    rig->side[OTHER(from)].heard_close || rig->side[OTHER(from)].closed) {
		return;
	}
	ck_assert_uint_lt(wire->count, RIG_QUEUE);
	wire->all[wire->count++] =
		(struct rig_message){ (uint8_t)action->message, (uint8_t)action->epoch,
				      (uint8_t)action->sequence };
}

static inline bool rig_reported(enum handover_action_kind kind)
{
	switch (kind) {
	case HANDOVER_CHECK:
	case HANDOVER_NEXT_PASS:
	case HANDOVER_PAUSE:
	case HANDOVER_SEND_LAST:
	case HANDOVER_STORE:
	case HANDOVER_LOAD:
	case HANDOVER_RELEASE_LOCKS:
	case HANDOVER_TAKE_LOCKS:
	case HANDOVER_RUN:
		return true;
	default:
		return false;
	}
}

static inline void rig_stamp_and_send(struct rig *rig, int from, enum handover_message message)
{
	struct handover_action stamp;
	struct error e;

	if (handover_stamp(&rig->side[from].h, message, &stamp, &e) == 0) {
		rig_send(rig, from, &stamp);
	}
}

static inline void rig_act(struct rig *rig, int from, const struct handover_action *action, bool ok)
{
	struct rig_side *side = &rig->side[from];

	switch (action->kind) {
	case HANDOVER_SEND:
		rig_send(rig, from, action);
		break;
	case HANDOVER_CLOSE:
		side->closed = true;
		rig->to[from].count = 0;
		break;
	case HANDOVER_NEXT_PASS:
		rig_stamp_and_send(rig, from, HANDOVER_PAGES);
		rig_stamp_and_send(rig, from, HANDOVER_BLOCKS);
		rig_stamp_and_send(rig, from, HANDOVER_GATHER);
		break;
	case HANDOVER_SEND_LAST:
		rig_stamp_and_send(rig, from, HANDOVER_STATE);
		break;
	case HANDOVER_PAUSE:
		side->runs = side->runs && !ok;
		break;
	case HANDOVER_RUN:
		side->runs = side->runs || ok;
		break;
	case HANDOVER_RELEASE_LOCKS:
		/* One that cannot be released is a lock all the same. */
		side->locks = side->locks && !ok;
		break;
	case HANDOVER_TAKE_LOCKS:
		side->locks = side->locks || ok;
		break;
	case HANDOVER_SHOW_WORD:
		side->word_shown = true;
		break;
	default:
		break;
	}
	rig_check(rig);
}

/* The next of what a side has to do, and how that came out. False: it has nothing to do. */
static inline bool rig_do(struct rig *rig, int from, bool ok)
{
	struct rig_side *side = &rig->side[from];
	struct handover_action action = side->todo[0];
	struct handover_event event = { 0 };
	struct error e;

	if (side->dead || side->todo_count == 0) {
		return false;
	}
	side->todo_count--;
	memmove(side->todo, side->todo + 1, sizeof(action) * side->todo_count);
	memset(&side->todo[side->todo_count], 0, sizeof(action));
	/* A guest that never stopped is going on; locks that must go do. */
	ok = ok || (action.kind == HANDOVER_RUN && side->runs) ||
	     (action.kind == HANDOVER_RELEASE_LOCKS &&
	      handover_state_info(side->h.state)->awaits != HANDOVER_RELEASE_LOCKS);
	event.kind = ok ? HANDOVER_DONE : HANDOVER_NOT_DONE;
	rig_act(rig, from, &action, ok);
	if (action.kind == HANDOVER_NEXT_PASS && ok && rig->passes == 0) {
		event.kind = HANDOVER_CONVERGED;
	} else if (action.kind == HANDOVER_NEXT_PASS && ok) {
		rig->passes--;
	}
	if (rig_reported(action.kind)) {
		event.action = action.kind;
		(void)rig_event(rig, from, &event, &e);
	}
	return true;
}

/* The process is gone, and with it what it held and had not sent. */
static inline void rig_kill(struct rig *rig, int who)
{
	struct rig_side *side = &rig->side[who];

	side->dead = true;
	side->runs = false;
	side->locks = false;
	side->closed = true;
	side->todo_count = 0;
	memset(side->todo, 0, sizeof(side->todo));
	rig->to[who].count = 0;
}

/* A side can hear that the connection is closed: it was cut, or all is read that came before the peer closed. */
static inline bool rig_can_hear_close(const struct rig *rig, int who)
{
	const struct rig_side *side = &rig->side[who], *other = &rig->side[OTHER(who)];

	return !side->dead && !side->closed && !side->heard_close &&
	       (rig->cut || ((other->closed || other->heard_close) && rig->to[who].count == 0));
}

static inline void rig_begin(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	handover_source_init(&rig->side[SOURCE].h, RIG_EPOCH, RIG_SOURCE_WORD);
	handover_destination_init(&rig->side[DESTINATION].h, RIG_EPOCH - 2, RIG_DESTINATION_WORD);
	rig->side[SOURCE].runs = true;
	rig->side[SOURCE].locks = true;
	rig->passes = 1;
	(void)rig_tell(rig, SOURCE, HANDOVER_BEGIN, 0);
}

/* One step of what happens without an operator, if nothing goes wrong. */
static inline bool rig_step(struct rig *rig)
{
	for (int i = 0; i < 2; i++) {
		if (rig_do(rig, i, true)) {
			return true;
		}
	}
	for (int i = 0; i < 2; i++) {
		if (rig->to[i].count > 0 && !rig->side[i].dead) {
			(void)rig_deliver(rig, i);
			return true;
		}
		if (rig_can_hear_close(rig, i)) {
			(void)rig_tell(rig, i, HANDOVER_CLOSED, 0);
			return true;
		}
	}
	return false;
}

/* Until nothing happens any more, whoever waits having waited long enough. */
static inline void rig_settle(struct rig *rig)
{
	bool more = true;

	for (int steps = 0; more; steps++) {
		ck_assert_msg(steps < 200, "it does not end: %s, %s", rig_state_name(rig, SOURCE),
			      rig_state_name(rig, DESTINATION));
		more = rig_step(rig);
		for (int i = 0; i < 2 && !more; i++) {
			if (!rig->side[i].dead && handover_state_info(rig_state(rig, i))->timed) {
				(void)rig_tell(rig, i, HANDOVER_TIME_OVER, 0);
				more = true;
			}
		}
	}
}

/* What an operator can say to a side with what there is to read, and with the truth about who is dead. */
static inline int rig_decide(struct rig *rig, int who, enum handover_event_kind kind)
{
	uint64_t word = 0;
	int r;

	if (kind == HANDOVER_DECIDE_RUN && rig->side[OTHER(who)].word_shown) {
		word = who == SOURCE ? RIG_DESTINATION_WORD : RIG_SOURCE_WORD;
	}
	r = rig_tell(rig, who, kind, word);
	rig->side[who].told_off |= r == 0 && (kind == HANDOVER_DECIDE_GIVE_UP);
	return r;
}

/* Whether this decision, all going well, ends with exactly one that runs; never with two. */
static inline bool rig_decision_helps(const struct rig *rig, int who, enum handover_event_kind kind)
{
	struct rig copy = *rig;

	if (kind == HANDOVER_DECIDE_RUN_VOUCHED && !rig->side[OTHER(who)].dead) {
		return false;
	}
	if (rig->side[who].dead || rig_decide(&copy, who, kind) != 0) {
		return false;
	}
	rig_settle(&copy);
	return rig_running(&copy) == 1;
}

/*
 * At rest: exactly one runs, and a doubt elsewhere is ended by giving up; or none does, for a reason, and where a side is in doubt
 * one decision makes one run.
 */
static inline void rig_check_rest(const struct rig *rig)
{
	bool helps = false, lost = false;

	for (int i = 0; i < 2; i++) {
		const struct rig_side *side = &rig->side[i];

		lost = lost || side->dead || side->told_off;
		if (!side->dead && rig_state(rig, i) == HANDOVER_S_BLOCKED) {
			ck_assert(rig_decision_helps(rig, i, HANDOVER_DECIDE_RUN));
			lost = true;
		}
		helps = helps || rig_decision_helps(rig, i, HANDOVER_DECIDE_RUN) ||
			rig_decision_helps(rig, i, HANDOVER_DECIDE_RUN_VOUCHED);
		if (rig_in_doubt(rig, i) && rig_running(rig) == 1) {
			ck_assert_msg(rig_decision_helps(rig, i, HANDOVER_DECIDE_GIVE_UP),
				      "%s cannot be ended", rig_state_name(rig, i));
		}
	}
	if (rig_running(rig) == 1) {
		return;
	}
	if (rig_in_doubt(rig, SOURCE) || rig_in_doubt(rig, DESTINATION)) {
		ck_assert_msg(helps, "no decision helps: %s, %s", rig_state_name(rig, SOURCE),
			      rig_state_name(rig, DESTINATION));
		return;
	}
	ck_assert_msg(lost, "none runs: %s, %s", rig_state_name(rig, SOURCE),
		      rig_state_name(rig, DESTINATION));
}

#endif
