/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of the hand-over: states, messages, and what leads from state to state. include/vmm/handover.h has the argument why
 * these rows never let two run; docs/handover.pml has them once more, and a test compares.
 *
 * What no row speaks of: a message is the peer's mistake, any other event is late and ignored, a decision is refused.
 */
#include "internal.h"

#define S(state) (1U << HANDOVER_S_##state)
#define D(state) (1U << HANDOVER_D_##state)

#define NO_REPORT HANDOVER_ACTION_KINDS

/* clang-format off */
static const struct handover_state_info states[HANDOVER_STATES] = {
#define STATE_ROW(side, state, name, phase, awaits, ...)                                             \
	[HANDOVER_##side##_##state] = { name, HANDOVER_##side##_ROLE, HANDOVER_PHASE_##phase, awaits, \
					__VA_ARGS__ }
#define HANDOVER_S_ROLE HANDOVER_SOURCE
#define HANDOVER_D_ROLE HANDOVER_DESTINATION
	STATE_ROW(S, IDLE, "source-idle", OFFER, NO_REPORT, .runs = true, .locks = true),
	STATE_ROW(S, OFFERED, "source-offered", OFFER, NO_REPORT, .runs = true, .locks = true, .timed = true),
	STATE_ROW(S, COPYING, "source-copying", COPY, HANDOVER_NEXT_PASS, .runs = true, .locks = true, .timed = true),
	STATE_ROW(S, PASSED, "source-passed", COPY, NO_REPORT, .runs = true, .locks = true, .timed = true),
	STATE_ROW(S, PAUSING, "source-pausing", STOP, HANDOVER_PAUSE, .runs = true, .locks = true, .timed = true),
	STATE_ROW(S, SAVING, "source-saving", STOP, HANDOVER_SEND_LAST, .locks = true, .timed = true),
	STATE_ROW(S, PREPARING, "source-preparing", PREPARE, NO_REPORT, .locks = true, .timed = true),
	STATE_ROW(S, RELEASING, "source-releasing", COMMIT, HANDOVER_RELEASE_LOCKS, .locks = true, .timed = true),
	STATE_ROW(S, COMMITTED, "source-committed", COMMIT, NO_REPORT, .timed = true),
	STATE_ROW(S, IN_DOUBT, "source-in-doubt", DOUBT, NO_REPORT),
	STATE_ROW(S, RECLAIMING, "source-reclaiming", DOUBT, HANDOVER_TAKE_LOCKS, .locks = true),
	STATE_ROW(S, RETAKING, "source-retaking", STOP, HANDOVER_TAKE_LOCKS, .locks = true),
	STATE_ROW(S, RESUMING, "source-resuming", STOP, HANDOVER_RUN, .runs = true, .locks = true),
	STATE_ROW(S, BLOCKED, "source-blocked", STOP, NO_REPORT, .locks = true),
	STATE_ROW(S, KEPT, "source-kept", OVER, NO_REPORT, .runs = true, .locks = true, .over = true),
	STATE_ROW(S, MOVED, "source-moved", OVER, NO_REPORT, .over = true),
	STATE_ROW(S, GIVEN_UP, "source-given-up", OVER, NO_REPORT, .over = true),
	STATE_ROW(D, WAITING, "destination-waiting", OFFER, NO_REPORT, .timed = true),
	STATE_ROW(D, CHECKING, "destination-checking", OFFER, HANDOVER_CHECK, .timed = true),
	STATE_ROW(D, RECEIVING, "destination-receiving", COPY, HANDOVER_STORE, .timed = true),
	STATE_ROW(D, LOADING, "destination-loading", PREPARE, HANDOVER_LOAD, .timed = true),
	STATE_ROW(D, PREPARED, "destination-prepared", COMMIT, NO_REPORT, .timed = true),
	STATE_ROW(D, TAKING, "destination-taking", COMMIT, HANDOVER_TAKE_LOCKS, .locks = true),
	STATE_ROW(D, STARTING, "destination-starting", COMMIT, HANDOVER_RUN, .runs = true, .locks = true),
	STATE_ROW(D, IN_DOUBT, "destination-in-doubt", DOUBT, NO_REPORT),
	STATE_ROW(D, CLAIMING, "destination-claiming", DOUBT, HANDOVER_TAKE_LOCKS, .locks = true),
	STATE_ROW(D, WAKING, "destination-waking", DOUBT, HANDOVER_RUN, .runs = true, .locks = true),
	STATE_ROW(D, RUNNING, "destination-running", OVER, NO_REPORT, .runs = true, .locks = true, .over = true),
	STATE_ROW(D, GIVEN_UP, "destination-given-up", OVER, NO_REPORT, .over = true),
};

#define TEXT_MAX 16384U

static const struct handover_message_info messages[HANDOVER_MESSAGES] = {
	/* Versions and configuration as JSON, behind its length of 4 bytes; then the machine's state of some moment. */
	[HANDOVER_OFFER] = { "OFFER", HANDOVER_DESTINATION, 6, 8U << 20 },
	[HANDOVER_ACCEPT] = { "ACCEPT", HANDOVER_SOURCE, 0, 0 },
	/* Text: why not, each difference. */
	[HANDOVER_REFUSE] = { "REFUSE", HANDOVER_SOURCE, 0, TEXT_MAX },
	/* A run of pages with its place: 24 bytes, and up to 2 MiB. */
	[HANDOVER_PAGES] = { "PAGES", HANDOVER_DESTINATION, 24, 24 + (2U << 20) },
	/* Number of the pass, pages sent in it: 8 bytes each. */
	[HANDOVER_PASS_END] = { "PASS_END", HANDOVER_DESTINATION, 16, 16 },
	[HANDOVER_PASS_HELD] = { "PASS_HELD", HANDOVER_SOURCE, 0, 0 },
	/* The machine's, in pieces. */
	[HANDOVER_STATE] = { "STATE", HANDOVER_DESTINATION, 1, 1U << 20 },
	[HANDOVER_PREPARE] = { "PREPARE", HANDOVER_DESTINATION, 8, 8 },
	[HANDOVER_PREPARED] = { "PREPARED", HANDOVER_SOURCE, 8, 8 },
	[HANDOVER_COMMIT] = { "COMMIT", HANDOVER_DESTINATION, 0, 0 },
	[HANDOVER_RUNNING] = { "RUNNING", HANDOVER_SOURCE, 0, 0 },
	/* Text: why. */
	[HANDOVER_ABORT] = { "ABORT", HANDOVER_DESTINATION, 0, TEXT_MAX },
	[HANDOVER_FAILED] = { "FAILED", HANDOVER_SOURCE, 0, TEXT_MAX },
	/* A run of clusters with its place: 24 bytes, and up to 1 MiB. */
	[HANDOVER_BLOCKS] = { "BLOCKS", HANDOVER_DESTINATION, 24, 24 + (1U << 20) },
	/* A number: 8 bytes. */
	[HANDOVER_GATHER] = { "GATHER", HANDOVER_DESTINATION, 8, 8 },
	/* Token: 16 bytes; which of how many channels: 4 bytes each. */
	[HANDOVER_JOIN] = { "JOIN", HANDOVER_DESTINATION, 24, 24 },
};

#define ON(event)	TRIGGER_EVENT(HANDOVER_##event)
#define GOT(message)	HANDOVER_##message
#define TO(state)	HANDOVER_##state
#define DO(action)	TODO_ACTION(HANDOVER_##action)
#define SAY(message)	HANDOVER_##message

#define S_WHILE_RUNNING (S(OFFERED) | S(COPYING) | S(PASSED))
/* Paused or about to be, and COMMIT is not sent: the destination never will run unless this side goes on with it. */
#define S_WHILE_STOPPED (S(PAUSING) | S(SAVING) | S(PREPARING))
#define D_BEFORE_PREPARED (D(CHECKING) | D(RECEIVING) | D(LOADING))

const struct transition handover_transitions[] = {
	{ S(IDLE), ON(BEGIN), TO(S_OFFERED), { SAY(OFFER) } },
	{ S(IDLE), ON(CANCEL), TO(S_KEPT), { DO(CLOSE), DO(END) } },
	{ S(IDLE), ON(CLOSED), TO(S_KEPT), { DO(END) } },
	{ S(OFFERED), GOT(ACCEPT), TO(S_COPYING), { DO(NEXT_PASS) } },
	{ S(OFFERED), GOT(REFUSE), TO(S_KEPT), { DO(CLOSE), DO(END) } },
	{ S(COPYING), ON(DONE), TO(S_PASSED), { SAY(PASS_END) } },
	{ S(COPYING), ON(CONVERGED), TO(S_PAUSING), { DO(PAUSE) } },
	{ S(COPYING), ON(NOT_DONE), TO(S_KEPT), { SAY(ABORT), DO(CLOSE), DO(END) } },
	{ S(PASSED), GOT(PASS_HELD), TO(S_COPYING), { DO(NEXT_PASS) } },
	{ S_WHILE_RUNNING, GOT(FAILED), TO(S_KEPT), { DO(CLOSE), DO(END) } },
	{ S_WHILE_RUNNING, ON(CLOSED), TO(S_KEPT), { DO(END) } },
	{ S_WHILE_RUNNING, ON(TIME_OVER), TO(S_KEPT), { SAY(ABORT), DO(CLOSE), DO(END) } },
	{ S_WHILE_RUNNING, ON(CANCEL), TO(S_KEPT), { SAY(ABORT), DO(CLOSE), DO(END) } },

	{ S(PAUSING), ON(DONE), TO(S_SAVING), { DO(SEND_LAST) } },
	{ S(SAVING), ON(DONE), TO(S_PREPARING), { SAY(PREPARE) } },
	{ S(PAUSING) | S(SAVING), ON(NOT_DONE), TO(S_RESUMING), { SAY(ABORT), DO(CLOSE), DO(RUN) } },
	{ S(PREPARING), GOT(PREPARED), TO(S_RELEASING), { DO(RELEASE_LOCKS) } },
	{ S_WHILE_STOPPED, GOT(FAILED), TO(S_RESUMING), { DO(CLOSE), DO(RUN) } },
	{ S_WHILE_STOPPED, ON(CLOSED), TO(S_RESUMING), { DO(RUN) } },
	{ S_WHILE_STOPPED, ON(TIME_OVER), TO(S_RESUMING), { SAY(ABORT), DO(CLOSE), DO(RUN) } },
	{ S_WHILE_STOPPED, ON(CANCEL), TO(S_RESUMING), { SAY(ABORT), DO(CLOSE), DO(RUN) } },

	{ S(RELEASING), ON(DONE), TO(S_COMMITTED), { SAY(COMMIT) } },
	{ S(RELEASING), ON(NOT_DONE), TO(S_RETAKING), { SAY(ABORT), DO(CLOSE), DO(TAKE_LOCKS) } },
	{ S(RELEASING), GOT(FAILED), TO(S_RETAKING), { DO(CLOSE), DO(TAKE_LOCKS) } },
	{ S(RELEASING), ON(CLOSED), TO(S_RETAKING), { DO(TAKE_LOCKS) } },
	{ S(RELEASING), ON(TIME_OVER), TO(S_RETAKING), { SAY(ABORT), DO(CLOSE), DO(TAKE_LOCKS) } },
	{ S(RELEASING), ON(CANCEL), TO(S_RETAKING), { SAY(ABORT), DO(CLOSE), DO(TAKE_LOCKS) } },

	{ S(COMMITTED) | S(IN_DOUBT), GOT(RUNNING), TO(S_MOVED), { DO(CLOSE), DO(END) } },
	{ S(COMMITTED) | S(IN_DOUBT) | S(RECLAIMING), GOT(FAILED), TO(S_RETAKING), { DO(CLOSE), DO(TAKE_LOCKS) } },
	/* When time is over the connection stays: what is late ends the doubt as well as what is not. */
	{ S(COMMITTED), ON(CLOSED), TO(S_IN_DOUBT), { DO(TELL_DOUBT) } },
	{ S(COMMITTED), ON(TIME_OVER), TO(S_IN_DOUBT), { DO(TELL_DOUBT) } },
	{ S(IN_DOUBT), ON(CLOSED), TO(S_IN_DOUBT), { 0 } },
	{ S(IN_DOUBT), ON(DECIDE_RUN), TO(S_RECLAIMING), { DO(TAKE_LOCKS) } },
	{ S(IN_DOUBT), ON(DECIDE_RUN_VOUCHED), TO(S_RECLAIMING), { DO(TAKE_LOCKS) } },
	{ S(IN_DOUBT), ON(DECIDE_GIVE_UP), TO(S_GIVEN_UP), { DO(CLOSE), DO(SHOW_WORD), DO(END) } },
	{ S(RECLAIMING), ON(DONE), TO(S_RESUMING), { DO(CLOSE), DO(RUN) } },
	/* Whoever has the disk may be the destination. */
	{ S(RECLAIMING), ON(NOT_DONE), TO(S_IN_DOUBT), { DO(RELEASE_LOCKS), DO(TELL_DOUBT) } },
	/* An operator who vouched was wrong, and it shows in time. */
	{ S(RECLAIMING), GOT(RUNNING), TO(S_MOVED), { DO(CLOSE), DO(RELEASE_LOCKS), DO(END) } },
	{ S(RECLAIMING), ON(CLOSED), TO(S_RECLAIMING), { 0 } },

	{ S(RETAKING), ON(DONE), TO(S_RESUMING), { DO(RUN) } },
	{ S(RETAKING) | S(RESUMING), ON(NOT_DONE), TO(S_BLOCKED), { DO(TELL_BLOCKED) } },
	{ S(RESUMING), ON(DONE), TO(S_KEPT), { DO(END) } },
	{ S(BLOCKED), ON(DECIDE_RUN), TO(S_RETAKING), { DO(TAKE_LOCKS) } },
	{ S(BLOCKED), ON(DECIDE_RUN_VOUCHED), TO(S_RETAKING), { DO(TAKE_LOCKS) } },
	{ S(BLOCKED), ON(DECIDE_GIVE_UP), TO(S_GIVEN_UP), { DO(RELEASE_LOCKS), DO(SHOW_WORD), DO(END) } },

	{ D(WAITING), GOT(OFFER), TO(D_CHECKING), { DO(CHECK) } },
	{ D(WAITING), ON(CLOSED), TO(D_GIVEN_UP), { DO(END) } },
	{ D(WAITING), ON(TIME_OVER), TO(D_GIVEN_UP), { DO(CLOSE), DO(END) } },
	{ D(WAITING), ON(CANCEL), TO(D_GIVEN_UP), { DO(CLOSE), DO(END) } },
	{ D(CHECKING), ON(DONE), TO(D_RECEIVING), { SAY(ACCEPT) } },
	{ D(CHECKING), ON(NOT_DONE), TO(D_GIVEN_UP), { SAY(REFUSE), DO(CLOSE), DO(END) } },
	{ D(RECEIVING), GOT(PAGES), TO(D_RECEIVING), { DO(STORE) } },
	{ D(RECEIVING), GOT(BLOCKS), TO(D_RECEIVING), { DO(STORE) } },
	{ D(RECEIVING), GOT(GATHER), TO(D_RECEIVING), { DO(STORE) } },
	{ D(RECEIVING), GOT(PASS_END), TO(D_RECEIVING), { SAY(PASS_HELD) } },
	{ D(RECEIVING), GOT(STATE), TO(D_RECEIVING), { DO(STORE) } },
	{ D(RECEIVING), GOT(PREPARE), TO(D_LOADING), { DO(LOAD) } },
	{ D(LOADING), ON(DONE), TO(D_PREPARED), { SAY(PREPARED) } },
	{ D(RECEIVING) | D(LOADING), ON(NOT_DONE), TO(D_GIVEN_UP), { SAY(FAILED), DO(CLOSE), DO(END) } },
	{ D_BEFORE_PREPARED | D(PREPARED), GOT(ABORT), TO(D_GIVEN_UP), { DO(CLOSE), DO(END) } },
	{ D_BEFORE_PREPARED, ON(CLOSED), TO(D_GIVEN_UP), { DO(END) } },
	{ D_BEFORE_PREPARED, ON(TIME_OVER), TO(D_GIVEN_UP), { SAY(FAILED), DO(CLOSE), DO(END) } },
	{ D_BEFORE_PREPARED, ON(CANCEL), TO(D_GIVEN_UP), { SAY(FAILED), DO(CLOSE), DO(END) } },

	{ D(PREPARED), GOT(COMMIT), TO(D_TAKING), { DO(TAKE_LOCKS) } },
	{ D(PREPARED), ON(CANCEL), TO(D_GIVEN_UP), { SAY(FAILED), DO(CLOSE), DO(SHOW_WORD), DO(END) } },
	/* The word says that no COMMIT will be heard, so the connection is closed first. */
	{ D(PREPARED), ON(CLOSED), TO(D_IN_DOUBT), { DO(SHOW_WORD), DO(TELL_DOUBT) } },
	{ D(PREPARED), ON(TIME_OVER), TO(D_IN_DOUBT), { DO(CLOSE), DO(SHOW_WORD), DO(TELL_DOUBT) } },
	{ D(TAKING), ON(DONE), TO(D_STARTING), { DO(RUN) } },
	{ D(TAKING), ON(NOT_DONE), TO(D_GIVEN_UP), { DO(RELEASE_LOCKS), SAY(FAILED), DO(CLOSE), DO(SHOW_WORD), DO(END) } },
	{ D(STARTING), ON(DONE), TO(D_RUNNING), { SAY(RUNNING), DO(CLOSE), DO(END) } },
	{ D(STARTING), ON(NOT_DONE), TO(D_GIVEN_UP), { DO(RELEASE_LOCKS), SAY(FAILED), DO(CLOSE), DO(SHOW_WORD), DO(END) } },
	/* The source is in doubt then; this side is not. */
	{ D(TAKING), ON(CLOSED), TO(D_TAKING), { 0 } },
	{ D(STARTING), ON(CLOSED), TO(D_STARTING), { 0 } },

	{ D(IN_DOUBT), ON(DECIDE_RUN), TO(D_CLAIMING), { DO(TAKE_LOCKS) } },
	{ D(IN_DOUBT), ON(DECIDE_RUN_VOUCHED), TO(D_CLAIMING), { DO(TAKE_LOCKS) } },
	{ D(IN_DOUBT), ON(DECIDE_GIVE_UP), TO(D_GIVEN_UP), { DO(SHOW_WORD), DO(END) } },
	{ D(CLAIMING), ON(DONE), TO(D_WAKING), { DO(RUN) } },
	/* Not given up: the source may have, and then nobody else has the VM. */
	{ D(CLAIMING) | D(WAKING), ON(NOT_DONE), TO(D_IN_DOUBT), { DO(RELEASE_LOCKS), DO(SHOW_WORD), DO(TELL_DOUBT) } },
	{ D(WAKING), ON(DONE), TO(D_RUNNING), { DO(END) } },
};
/* clang-format on */
const size_t handover_transition_count = ARRAY_SIZE(handover_transitions);

_Static_assert(HANDOVER_STATES <= 32, "a set of states is 32 bits");

static const char *const action_names[HANDOVER_ACTION_KINDS] = {
	[HANDOVER_SEND] = "SEND",
	[HANDOVER_CLOSE] = "CLOSE",
	[HANDOVER_CHECK] = "CHECK",
	[HANDOVER_NEXT_PASS] = "NEXT_PASS",
	[HANDOVER_PAUSE] = "PAUSE",
	[HANDOVER_SEND_LAST] = "SEND_LAST",
	[HANDOVER_STORE] = "STORE",
	[HANDOVER_LOAD] = "LOAD",
	[HANDOVER_RELEASE_LOCKS] = "RELEASE_LOCKS",
	[HANDOVER_TAKE_LOCKS] = "TAKE_LOCKS",
	[HANDOVER_RUN] = "RUN",
	[HANDOVER_SHOW_WORD] = "SHOW_WORD",
	[HANDOVER_TELL_DOUBT] = "TELL_DOUBT",
	[HANDOVER_TELL_BLOCKED] = "TELL_BLOCKED",
	[HANDOVER_END] = "END",
};

static const char *const event_names[HANDOVER_EVENT_KINDS] = {
	[HANDOVER_MESSAGE] = "MESSAGE",
	[HANDOVER_BEGIN] = "BEGIN",
	[HANDOVER_CLOSED] = "CLOSED",
	[HANDOVER_TIME_OVER] = "TIME_OVER",
	[HANDOVER_DONE] = "DONE",
	[HANDOVER_NOT_DONE] = "NOT_DONE",
	[HANDOVER_CONVERGED] = "CONVERGED",
	[HANDOVER_CANCEL] = "CANCEL",
	[HANDOVER_DECIDE_RUN] = "DECIDE_RUN",
	[HANDOVER_DECIDE_RUN_VOUCHED] = "DECIDE_RUN_VOUCHED",
	[HANDOVER_DECIDE_GIVE_UP] = "DECIDE_GIVE_UP",
};

const struct handover_state_info *handover_state_info(enum handover_state state)
{
	return &states[state];
}

const struct handover_message_info *handover_message_info(uint32_t message)
{
	if (message >= HANDOVER_MESSAGES || messages[message].name == NULL) {
		return NULL;
	}
	return &messages[message];
}

const char *handover_action_name(enum handover_action_kind kind)
{
	return kind < HANDOVER_ACTION_KINDS ? action_names[kind] : "nothing";
}

const char *handover_event_name(enum handover_event_kind kind)
{
	return kind < HANDOVER_EVENT_KINDS ? event_names[kind] : "nothing";
}

const struct transition *handover_find(enum handover_state state, unsigned int trigger)
{
	for (size_t i = 0; i < ARRAY_SIZE(handover_transitions); i++) {
		const struct transition *t = &handover_transitions[i];

		if (t->trigger == trigger && (t->from >> state & 1) != 0) {
			return t;
		}
	}
	return NULL;
}

uint32_t handover_stamped_in(enum handover_message message)
{
	switch (message) {
	case HANDOVER_PAGES:
	case HANDOVER_BLOCKS:
	case HANDOVER_GATHER:
		return S(COPYING) | S(SAVING);
	case HANDOVER_STATE:
		return S(SAVING);
	default:
		return 0;
	}
}

static void fill_row(struct handover_row *row, const struct transition *t,
		     enum handover_state state)
{
	*row = (struct handover_row){ .from = state, .next = (enum handover_state)t->next };
	if (t->trigger < HANDOVER_MESSAGES) {
		row->event = HANDOVER_MESSAGE;
		row->message = (enum handover_message)t->trigger;
	} else {
		row->event = (enum handover_event_kind)(t->trigger - HANDOVER_MESSAGES);
	}
	while (row->action_count < HANDOVER_ACTIONS_MAX && t->todo[row->action_count] != 0) {
		struct handover_action *action = &row->actions[row->action_count];
		uint8_t todo = t->todo[row->action_count++];

		if (todo < HANDOVER_MESSAGES) {
			action->kind = HANDOVER_SEND;
			action->message = (enum handover_message)todo;
		} else {
			action->kind = (enum handover_action_kind)(todo - HANDOVER_MESSAGES);
		}
	}
}

bool handover_row(size_t index, struct handover_row *row)
{
	for (size_t i = 0; i < ARRAY_SIZE(handover_transitions); i++) {
		const struct transition *t = &handover_transitions[i];
		size_t count = (size_t)__builtin_popcount(t->from);

		if (index >= count) {
			index -= count;
			continue;
		}
		for (unsigned int state = 0; state < HANDOVER_STATES; state++) {
			if ((t->from >> state & 1) != 0 && index-- == 0) {
				fill_row(row, t, (enum handover_state)state);
				return true;
			}
		}
	}
	return false;
}
