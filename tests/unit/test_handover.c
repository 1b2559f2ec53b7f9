/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-over, each message at a time: it is lost, late, heard twice, out of order, an echo, and who sends or hears it is killed,
 * before and after. Which messages there are is the table's word, so that a new one cannot be forgotten.
 */
#include <errno.h>

#include "harness/handover_rig.h"

/* How an attempt goes, so that each message is sent in one of them at least. */
enum plan {
	PLAN_MOVES,
	PLAN_OFFER_REFUSED,
	PLAN_LOAD_FAILS,
	PLAN_RUN_FAILS, /* on the destination, after COMMIT */
	PLAN_CANCELLED, /* while it copies */
	PLAN_CANCELLED_LATE,
	PLANS,
};

static bool succeeds(enum plan plan, int side, enum handover_action_kind kind)
{
	return side == SOURCE || !((plan == PLAN_OFFER_REFUSED && kind == HANDOVER_CHECK) ||
				   (plan == PLAN_LOAD_FAILS && kind == HANDOVER_LOAD) ||
				   (plan == PLAN_RUN_FAILS && kind == HANDOVER_RUN));
}

static void maybe_cancel(struct rig *rig, enum plan plan)
{
	enum handover_state state = rig_state(rig, SOURCE);

	if ((plan == PLAN_CANCELLED && state == HANDOVER_S_PASSED) ||
	    (plan == PLAN_CANCELLED_LATE && state == HANDOVER_S_RELEASING)) {
		ck_assert_int_eq(rig_tell(rig, SOURCE, HANDOVER_CANCEL, 0), 0);
	}
}

/* What is about to happen. */
struct moment {
	bool sends; /* or else it is about to be heard */
	int side;
	uint8_t message;
};

/* One step of the plan; *moment is what the next one is. False: there is none. */
static bool look_ahead(const struct rig *rig, struct moment *moment)
{
	for (int i = 0; i < 2; i++) {
		const struct rig_side *side = &rig->side[i];

		if (!side->dead && side->todo_count > 0) {
			/* Pages and state are sent within an action; they are seen on the wire. */
			*moment = (struct moment){ side->todo[0].kind == HANDOVER_SEND, i,
						   (uint8_t)side->todo[0].message };
			return true;
		}
	}
	for (int i = 0; i < 2; i++) {
		if (rig->to[i].count > 0 && !rig->side[i].dead) {
			*moment = (struct moment){ false, i, rig->to[i].all[0].message };
			return true;
		}
	}
	return false;
}

static void go_on(struct rig *rig, enum plan plan, const struct moment *moment)
{
	const struct rig_side *side = &rig->side[moment->side];

	if (side->todo_count > 0) {
		ck_assert(rig_do(rig, moment->side,
				 succeeds(plan, moment->side, side->todo[0].kind)));
	} else {
		(void)rig_deliver(rig, moment->side);
	}
	maybe_cancel(rig, plan);
}

/* Until the message is about to be heard, or sent. False: it never is. */
static bool go_until(struct rig *rig, enum plan plan, uint8_t message, bool sends)
{
	struct moment moment;

	rig_begin(rig);
	while (look_ahead(rig, &moment)) {
		if (moment.message == message && moment.sends == sends) {
			return true;
		}
		go_on(rig, plan, &moment);
	}
	return false;
}

static void settle_plan(struct rig *rig, enum plan plan)
{
	struct moment moment;

	while (look_ahead(rig, &moment)) {
		go_on(rig, plan, &moment);
	}
	rig_settle(rig);
}

enum fault {
	FAULT_LOST_SOURCE_HEARS_FIRST,
	FAULT_LOST_DESTINATION_HEARS_FIRST,
	FAULT_LOST_SILENTLY, /* half open: only the time limits tell */
	FAULT_CUT_AFTER,
	FAULT_LATE, /* the hearer's time is over before it comes */
	FAULT_LATE_FOR_BOTH,
	FAULT_TWICE,
	FAULT_AGAIN_LATER,
	FAULT_OVERTAKES, /* the one before it has not come */
	FAULT_ECHO,	 /* of an earlier attempt, just before it */
	FAULT_SENDER_KILLED,
	FAULT_HEARER_KILLED,
	FAULT_SENDER_KILLED_AFTER,
	FAULT_HEARER_KILLED_AFTER,
	FAULTS,
};

static void hear_close(struct rig *rig, int first)
{
	rig->cut = true;
	rig->to[0].count = 0;
	rig->to[1].count = 0;
	for (int i = 0; i < 2; i++) {
		int side = i == 0 ? first : OTHER(first);

		if (rig_can_hear_close(rig, side)) {
			(void)rig_tell(rig, side, HANDOVER_CLOSED, 0);
		}
	}
}

/* The message is the first on its way to `to`. */
static void inject(struct rig *rig, int to, enum fault fault)
{
	struct rig_message m = rig->to[to].all[0], changed = m;

	switch (fault) {
	case FAULT_LOST_SOURCE_HEARS_FIRST:
		hear_close(rig, SOURCE);
		break;
	case FAULT_LOST_DESTINATION_HEARS_FIRST:
		hear_close(rig, DESTINATION);
		break;
	case FAULT_LOST_SILENTLY:
		rig->to[to].count = 0;
		break;
	case FAULT_CUT_AFTER:
		(void)rig_deliver(rig, to);
		hear_close(rig, to);
		break;
	case FAULT_LATE_FOR_BOTH:
		(void)rig_tell(rig, OTHER(to), HANDOVER_TIME_OVER, 0);
		__attribute__((fallthrough));
	case FAULT_LATE:
		(void)rig_tell(rig, to, HANDOVER_TIME_OVER, 0);
		(void)rig_deliver(rig, to);
		break;
	case FAULT_TWICE:
		(void)rig_deliver(rig, to);
		ck_assert_int_eq(rig_hand(rig, to, m), 0);
		break;
	case FAULT_AGAIN_LATER:
		(void)rig_deliver(rig, to);
		break;
	case FAULT_OVERTAKES:
		changed.sequence++;
		(void)rig_take_off(rig, to);
		ck_assert_int_eq(rig_hand(rig, to, changed), -EPROTO);
		break;
	case FAULT_ECHO:
		changed.epoch = RIG_EPOCH - 2;
		ck_assert_int_eq(rig_hand(rig, to, changed), 0);
		break;
	case FAULT_HEARER_KILLED:
		rig_kill(rig, to);
		break;
	case FAULT_SENDER_KILLED_AFTER:
		rig_kill(rig, OTHER(to));
		break;
	case FAULT_HEARER_KILLED_AFTER:
		(void)rig_deliver(rig, to);
		rig_kill(rig, to);
		break;
	default:
		ck_abort();
	}
}

/* Every two things that an operator could say then, in whichever order, on both sides, make no two run. */
static void check_operators(const struct rig *rig)
{
	static const enum handover_event_kind kinds[] = { HANDOVER_DECIDE_RUN,
							  HANDOVER_DECIDE_RUN_VOUCHED,
							  HANDOVER_DECIDE_GIVE_UP,
							  HANDOVER_CANCEL };

	for (size_t i = 0; i < 8 * ARRAY_SIZE(kinds) * ARRAY_SIZE(kinds); i++) {
		struct rig copy = *rig;
		size_t k = i / 8;
		enum handover_event_kind said[2] = { kinds[k % 4], kinds[k / 4] };

		for (int n = 0; n < 2; n++) {
			int who = (int)(i >> n & 1);

			if (said[n] != HANDOVER_DECIDE_RUN_VOUCHED || copy.side[OTHER(who)].dead) {
				(void)rig_decide(&copy, who, said[n]);
			}
			if ((i & 4) != 0) {
				rig_settle(&copy);
			}
		}
		rig_settle(&copy);
		ck_assert_int_le(rig_running(&copy), 1);
	}
}

static void try_fault(enum plan plan, uint8_t message, enum fault fault, const struct rig *calm,
		      unsigned int *tried)
{
	const struct handover_message_info *info = handover_message_info(message);
	struct rig rig;

	if (fault == FAULT_SENDER_KILLED) {
		int sender = (int)OTHER(info->to);
		bool within = message == HANDOVER_PAGES || message == HANDOVER_BLOCKS ||
			      message == HANDOVER_GATHER || message == HANDOVER_STATE;

		if (!go_until(&rig, plan, message, !within)) {
			return;
		}
		rig.to[info->to].count = within ? 0 : rig.to[info->to].count;
		rig_kill(&rig, sender);
	} else {
		struct rig_message m;

		if (!go_until(&rig, plan, message, false)) {
			return;
		}
		m = rig.to[info->to].all[0];
		inject(&rig, (int)info->to, fault);
		maybe_cancel(&rig, plan);
		if (fault == FAULT_AGAIN_LATER) {
			settle_plan(&rig, plan);
			(void)rig_hand(&rig, (int)info->to, m);
		}
	}
	(*tried)++;
	settle_plan(&rig, plan);
	rig_check_rest(&rig);
	check_operators(&rig);
	if (fault == FAULT_TWICE || fault == FAULT_AGAIN_LATER || fault == FAULT_ECHO) {
		ck_assert_str_eq(rig_state_name(&rig, SOURCE), rig_state_name(calm, SOURCE));
		ck_assert_str_eq(rig_state_name(&rig, DESTINATION),
				 rig_state_name(calm, DESTINATION));
	}
}

START_TEST(test_every_message)
{
	const struct handover_message_info *info = handover_message_info((uint32_t)_i + 1);

	ck_assert_ptr_nonnull(info);
	/* Of other connections (test_migration_channels.c): here nobody hears it. */
	if (_i + 1 == HANDOVER_JOIN) {
		struct handover_row row;

		for (size_t i = 0; handover_row(i, &row); i++) {
			ck_assert(row.event != HANDOVER_MESSAGE || row.message != HANDOVER_JOIN);
		}
		return;
	}
	for (enum fault fault = 0; fault < FAULTS; fault++) {
		unsigned int tried = 0;

		for (enum plan plan = 0; plan < PLANS; plan++) {
			struct rig calm;

			rig_begin(&calm);
			settle_plan(&calm, plan);
			try_fault(plan, (uint8_t)(_i + 1), fault, &calm, &tried);
		}
		ck_assert_msg(tried > 0, "no plan sends %s: fault %d was not tried", info->name,
			      (int)fault);
	}
}
END_TEST

struct end {
	enum plan plan;
	enum handover_state source, destination;
};

static const struct end ends[] = {
	{ PLAN_MOVES, HANDOVER_S_MOVED, HANDOVER_D_RUNNING },
	{ PLAN_OFFER_REFUSED, HANDOVER_S_KEPT, HANDOVER_D_GIVEN_UP },
	{ PLAN_LOAD_FAILS, HANDOVER_S_KEPT, HANDOVER_D_GIVEN_UP },
	{ PLAN_RUN_FAILS, HANDOVER_S_KEPT, HANDOVER_D_GIVEN_UP },
	{ PLAN_CANCELLED, HANDOVER_S_KEPT, HANDOVER_D_GIVEN_UP },
	{ PLAN_CANCELLED_LATE, HANDOVER_S_KEPT, HANDOVER_D_GIVEN_UP },
};
_Static_assert(ARRAY_SIZE(ends) == PLANS, "each plan has an end");

START_TEST(test_calm)
{
	struct rig rig;

	rig_begin(&rig);
	settle_plan(&rig, ends[_i].plan);
	ck_assert_int_eq(rig_state(&rig, SOURCE), ends[_i].source);
	ck_assert_int_eq(rig_state(&rig, DESTINATION), ends[_i].destination);
	ck_assert_int_eq(rig_running(&rig), 1);
	ck_assert(rig.side[ends[_i].plan == PLAN_MOVES ? DESTINATION : SOURCE].runs);
}
END_TEST

/* What the header's table of doubts says. */
struct doubt {
	uint8_t message;
	enum fault fault;
	const char *source, *destination;
	int run; /* who can be made to; -1: one runs */
};

static const struct doubt doubts[] = {
	{ HANDOVER_COMMIT, FAULT_LOST_SILENTLY, "source-in-doubt", "destination-in-doubt", SOURCE },
	{ HANDOVER_COMMIT, FAULT_LOST_SOURCE_HEARS_FIRST, "source-in-doubt", "destination-in-doubt",
	  SOURCE },
	{ HANDOVER_RUNNING, FAULT_LOST_SOURCE_HEARS_FIRST, "source-in-doubt", "destination-running",
	  -1 },
	{ HANDOVER_PREPARED, FAULT_LOST_SOURCE_HEARS_FIRST, "source-kept", "destination-in-doubt",
	  -1 },
	{ HANDOVER_PREPARE, FAULT_LOST_SOURCE_HEARS_FIRST, "source-kept", "destination-given-up",
	  -1 },
	{ HANDOVER_COMMIT, FAULT_SENDER_KILLED, "source-releasing", "destination-in-doubt",
	  DESTINATION },
	{ HANDOVER_RUNNING, FAULT_LATE, "source-moved", "destination-running", -1 },
};

START_TEST(test_doubts)
{
	const struct doubt *doubt = &doubts[_i];
	const struct handover_message_info *info = handover_message_info(doubt->message);
	struct rig rig;

	if (doubt->fault == FAULT_SENDER_KILLED) {
		ck_assert(go_until(&rig, PLAN_MOVES, doubt->message, true));
		rig_kill(&rig, (int)OTHER(info->to));
	} else {
		ck_assert(go_until(&rig, PLAN_MOVES, doubt->message, false));
		inject(&rig, (int)info->to, doubt->fault);
	}
	rig_settle(&rig);
	ck_assert_str_eq(rig_state_name(&rig, DESTINATION), doubt->destination);
	ck_assert_int_eq(rig_running(&rig), doubt->run == -1 ? 1 : 0);
	/* Its word is out, so nothing may come any more. */
	if (rig_in_doubt(&rig, DESTINATION)) {
		ck_assert(rig.side[DESTINATION].closed || rig.side[DESTINATION].heard_close);
	}
	if (!rig.side[SOURCE].dead) {
		ck_assert_str_eq(rig_state_name(&rig, SOURCE), doubt->source);
		ck_assert(rig_decision_helps(&rig, SOURCE, HANDOVER_DECIDE_RUN) ==
			  (doubt->run == SOURCE));
		ck_assert(!rig_decision_helps(&rig, DESTINATION, HANDOVER_DECIDE_RUN));
	} else {
		ck_assert(rig_decision_helps(&rig, DESTINATION, HANDOVER_DECIDE_RUN_VOUCHED));
	}
}
END_TEST

/* Both in doubt, and the operator wants it there: source gives up, its word opens the destination. */
START_TEST(test_doubt_ends_there)
{
	struct rig rig;

	ck_assert(go_until(&rig, PLAN_MOVES, HANDOVER_COMMIT, false));
	inject(&rig, DESTINATION, FAULT_LOST_SILENTLY);
	rig_settle(&rig);
	ck_assert_int_eq(rig_decide(&rig, DESTINATION, HANDOVER_DECIDE_RUN), -EACCES);
	ck_assert_int_eq(rig_decide(&rig, SOURCE, HANDOVER_DECIDE_GIVE_UP), 0);
	rig_settle(&rig);
	ck_assert_int_eq(rig_decide(&rig, SOURCE, HANDOVER_DECIDE_RUN), -EBUSY);
	ck_assert_int_eq(rig_decide(&rig, DESTINATION, HANDOVER_DECIDE_RUN), 0);
	rig_settle(&rig);
	ck_assert(rig.side[DESTINATION].runs);
	ck_assert_int_eq(rig_state(&rig, DESTINATION), HANDOVER_D_RUNNING);
}
END_TEST

/* An operator who vouches is wrong: the destination runs, and has the disk; then its last word comes after all. */
START_TEST(test_vouched_in_error)
{
	struct rig rig;

	ck_assert(go_until(&rig, PLAN_MOVES, HANDOVER_RUNNING, false));
	ck_assert_int_eq(rig_tell(&rig, SOURCE, HANDOVER_TIME_OVER, 0), 0);
	ck_assert_int_eq(rig_state(&rig, SOURCE), HANDOVER_S_IN_DOUBT);
	ck_assert_int_eq(rig_tell(&rig, SOURCE, HANDOVER_DECIDE_RUN_VOUCHED, 0), 0);
	while (rig_state(&rig, SOURCE) == HANDOVER_S_RECLAIMING) {
		ck_assert(rig_do(&rig, SOURCE, false));
	}
	ck_assert_int_eq(rig_state(&rig, SOURCE), HANDOVER_S_IN_DOUBT);
	rig_settle(&rig);
	ck_assert_int_eq(rig_state(&rig, SOURCE), HANDOVER_S_MOVED);
	ck_assert_int_eq(rig_running(&rig), 1);
}
END_TEST

/* A source that cannot have its disk back waits for the operator, who then needs no word. */
START_TEST(test_blocked)
{
	struct rig rig;

	ck_assert(go_until(&rig, PLAN_RUN_FAILS, HANDOVER_FAILED, false));
	(void)rig_deliver(&rig, SOURCE);
	while (rig_state(&rig, SOURCE) == HANDOVER_S_RETAKING) {
		(void)rig_do(&rig, SOURCE, false);
	}
	rig_settle(&rig);
	ck_assert_int_eq(rig_state(&rig, SOURCE), HANDOVER_S_BLOCKED);
	ck_assert_int_eq(rig_running(&rig), 0);
	ck_assert_int_eq(rig_tell(&rig, SOURCE, HANDOVER_DECIDE_RUN, 0), 0);
	rig_settle(&rig);
	ck_assert_int_eq(rig_state(&rig, SOURCE), HANDOVER_S_KEPT);
	ck_assert(rig.side[SOURCE].runs);
}
END_TEST

static struct handover_actions todo;
static struct error err;

static int hand(struct handover *h, enum handover_message message, uint64_t epoch,
		uint64_t sequence, uint64_t word)
{
	struct handover_event event = { .kind = HANDOVER_MESSAGE,
					.message = message,
					.epoch = epoch,
					.sequence = sequence,
					.word = word };

	return handover_event(h, &event, &todo, &err);
}

START_TEST(test_peer_is_told_off)
{
	struct handover h;

	handover_destination_init(&h, 9, 1);
	ck_assert_int_eq(hand(&h, HANDOVER_COMMIT, 10, 1, 0), -EPROTO);
	check_error(&err, ERROR_MIGRATION, "no offer");
	check_error(&err, ERROR_MIGRATION, "no vmm of this version");
	ck_assert_int_eq(handover_state(&h), HANDOVER_D_GIVEN_UP);
	ck_assert_uint_eq(todo.count, 2);
	ck_assert_int_eq(todo.all[0].kind, HANDOVER_CLOSE);

	handover_destination_init(&h, 9, 1);
	ck_assert_int_eq(hand(&h, HANDOVER_OFFER, 9, 1, 0), 0);
	ck_assert_int_eq(handover_state(&h), HANDOVER_D_WAITING);
	ck_assert_int_eq(hand(&h, HANDOVER_OFFER, 10, 1, 0), 0);
	ck_assert_uint_eq(handover_epoch(&h), 10);
	ck_assert_int_eq(hand(&h, HANDOVER_PREPARE, 10, 2, 5), -EPROTO);
	check_error(&err, ERROR_MIGRATION, "PREPARE");
	check_error(&err, ERROR_MIGRATION, "destination-checking");

	handover_source_init(&h, 3, 1);
	ck_assert_int_eq(hand(&h, HANDOVER_OFFER, 3, 1, 0), -EPROTO);
	check_error(&err, ERROR_MIGRATION, "not for this side");
	ck_assert_int_eq(handover_state(&h), HANDOVER_S_KEPT);
	/* There is no connection any more, so nothing is heard. */
	ck_assert_int_eq(hand(&h, (enum handover_message)99, 3, 1, 0), 0);
	ck_assert_uint_eq(todo.count, 0);
}
END_TEST

START_TEST(test_a_word_is_needed)
{
	struct rig rig;

	ck_assert(go_until(&rig, PLAN_MOVES, HANDOVER_PREPARED, false));
	ck_assert_int_eq(hand(&rig.side[SOURCE].h, HANDOVER_PREPARED, RIG_EPOCH,
			      rig.to[SOURCE].all[0].sequence, 0),
			 -EPROTO);
	check_error(&err, ERROR_MIGRATION, "no word");
	ck_assert_int_eq(handover_state(&rig.side[SOURCE].h), HANDOVER_S_RESUMING);
}
END_TEST

START_TEST(test_operator_is_refused)
{
	struct handover_event event = { .kind = HANDOVER_DECIDE_RUN };
	struct handover h;

	handover_source_init(&h, 3, 1);
	ck_assert_int_eq(handover_event(&h, &event, &todo, &err), -EBUSY);
	check_error(&err, ERROR_WRONG_STATE, "no DECIDE_RUN in state source-idle");
	check_error(&err, ERROR_WRONG_STATE, "cancel it");
	ck_assert_uint_eq(todo.count, 0);
	event.kind = HANDOVER_CANCEL;
	ck_assert_int_eq(handover_event(&h, &event, &todo, &err), 0);
	ck_assert_int_eq(handover_event(&h, &event, &todo, &err), -EBUSY);
	check_error(&err, ERROR_WRONG_STATE, "too late");
}
END_TEST

START_TEST(test_stamps)
{
	struct handover_action stamp;
	struct rig rig;

	rig_begin(&rig);
	ck_assert_int_eq(handover_stamp(&rig.side[SOURCE].h, HANDOVER_PAGES, &stamp, &err), -EBUSY);
	check_error(&err, ERROR_WRONG_STATE, "PAGES cannot be sent in state source-offered");
	ck_assert(go_until(&rig, PLAN_MOVES, HANDOVER_ACCEPT, false));
	(void)rig_deliver(&rig, SOURCE);
	check_ok(handover_stamp(&rig.side[SOURCE].h, HANDOVER_PAGES, &stamp, &err), &err);
	ck_assert_uint_eq(stamp.sequence, 2);
	ck_assert_uint_eq(stamp.epoch, RIG_EPOCH);
	ck_assert_int_eq(handover_stamp(&rig.side[SOURCE].h, HANDOVER_COMMIT, &stamp, &err),
			 -EBUSY);
	ck_assert_int_eq(handover_stamp(&rig.side[SOURCE].h, HANDOVER_STATE, &stamp, &err), -EBUSY);
}
END_TEST

/* A report of what is not waited for any more: the pause comes out well after the source has turned back. */
START_TEST(test_late_report)
{
	struct handover_event event = { .kind = HANDOVER_DONE, .action = HANDOVER_PAUSE };
	struct rig rig;

	ck_assert(go_until(&rig, PLAN_MOVES, HANDOVER_PASS_HELD, false));
	rig.side[SOURCE].h.state = HANDOVER_S_PAUSING;
	rig.to[SOURCE].count = 0;
	ck_assert_int_eq(rig_tell(&rig, SOURCE, HANDOVER_CLOSED, 0), 0);
	ck_assert_int_eq(rig_state(&rig, SOURCE), HANDOVER_S_RESUMING);
	ck_assert_int_eq(handover_event(&rig.side[SOURCE].h, &event, &todo, &err), 0);
	ck_assert_int_eq(rig_state(&rig, SOURCE), HANDOVER_S_RESUMING);
}
END_TEST

/* --- the tables themselves --- */

/* A cut, and the end of the time where a side waits, are said of each state in which there is a connection. */
START_TEST(test_every_cut_is_in_the_table)
{
	bool cut[HANDOVER_STATES] = { false }, late[HANDOVER_STATES] = { false };
	struct handover_row row;

	for (size_t i = 0; handover_row(i, &row); i++) {
		ck_assert(handover_state_info(row.from)->role ==
			  handover_state_info(row.next)->role);
		ck_assert(!handover_state_info(row.from)->over);
		ck_assert(row.event != HANDOVER_MESSAGE ||
			  handover_message_info(row.message)->to ==
				  handover_state_info(row.from)->role);
		cut[row.from] |= row.event == HANDOVER_CLOSED;
		late[row.from] |= row.event == HANDOVER_TIME_OVER;
	}
	for (enum handover_state state = 0; state < HANDOVER_STATES; state++) {
		const struct handover_state_info *info = handover_state_info(state);
		bool connected = !info->over && state != HANDOVER_S_RETAKING &&
				 state != HANDOVER_S_RESUMING && state != HANDOVER_S_BLOCKED &&
				 state != HANDOVER_D_IN_DOUBT && state != HANDOVER_D_CLAIMING &&
				 state != HANDOVER_D_WAKING;

		ck_assert_msg(cut[state] == connected, "%s", info->name);
		ck_assert_msg(late[state] == info->timed, "%s", info->name);
	}
}
END_TEST

CHECK_MAIN("handover", CHECK_LOOP(test_every_message, HANDOVER_MESSAGES - 1);
	   CHECK_TABLE(test_calm, ends); CHECK_TABLE(test_doubts, doubts);
	   CHECK_TEST(test_doubt_ends_there); CHECK_TEST(test_vouched_in_error);
	   CHECK_TEST(test_blocked); CHECK_TEST(test_peer_is_told_off);
	   CHECK_TEST(test_a_word_is_needed); CHECK_TEST(test_operator_is_refused);
	   CHECK_TEST(test_stamps); CHECK_TEST(test_late_report);
	   CHECK_TEST(test_every_cut_is_in_the_table))
