/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-over of a VM as a model for SPIN: the tables of src/migration/tables.c row by row, and around them all that can happen.
 * include/vmm/handover.h has the protocol, and in words the argument that SPIN checks here. tests/migration/model compares every row
 * with the tables in C, has SPIN search everything, and has it find what is wrong in each of the mutants.
 *
 *	spin -a docs/handover.pml && cc -O2 -DSAFETY -o pan pan.c && ./pan -m100000
 *
 * With spin -DMUTANT=N -a, protocols that are wrong in one thing, of which each makes an assertion fail:
 *
 *	1  the destination runs before COMMIT
 *	2  a source that has sent COMMIT goes on when the connection is cut
 *	3  the destination shows its word when time is over, but would still hear COMMIT
 *	4  a source whose word was shown can still run
 *	5  a destination in doubt does not show its word
 *	6  epochs are not looked at
 *	7  any word does
 *
 * What may happen: the connection is cut at any moment, what is on it arrives or not, each side hears of that or does not; time is
 * over at any moment; what a side has to do fails; processes are killed; a message comes twice, or is an echo of an earlier attempt;
 * operators on both sides say whatever they can, with whatever words were shown, and vouch only for what is true.
 *
 * What holds: never do two run, never do both have the disks' locks, and who runs has them; no message comes that the table does not
 * know of. When nothing happens any more, one runs; or none, and a process was killed, an operator wanted that, or a side is in doubt
 * or blocked, and then one decision makes exactly one run. If one runs and the other side is in doubt, giving up ends it.
 *
 * Locks do not arbitrate here: either side could always take them, so that the protocol alone keeps the two apart.
 */
#ifndef MUTANT
#define MUTANT 0
#endif

/* How often. */
#define KILLS	 1
#define FAILURES 1
#define DOUBLES	 1
#define ECHOES	 (MUTANT == 6) /* otherwise nobody listens */

mtype = { NOTHING }
/* Messages. */
mtype = {
	OFFER, ACCEPT, REFUSE, PAGES, PASS_END, PASS_HELD, STATE, PREPARE, PREPARED, COMMIT,
	RUNNING, ABORT, FAILED, BLOCKS, GATHER, JOIN
}
/* Names get falling numbers. */
#define IS_MESSAGE(name) (name >= JOIN && name <= OFFER)
/* Other events. */
mtype = {
	BEGIN, CANCEL, CLOSED, DONE, CONVERGED, NOT_DONE, TIME_OVER, DECIDE_RUN,
	DECIDE_RUN_VOUCHED, DECIDE_GIVE_UP
}
/* What a side is told to do. */
mtype = {
	CLOSE, END, NEXT_PASS, PAUSE, SEND_LAST, RUN, RELEASE_LOCKS, TAKE_LOCKS, TELL_DOUBT,
	SHOW_WORD, TELL_BLOCKED, CHECK, STORE, LOAD
}
mtype = {
	source_idle, source_offered, source_copying, source_passed, source_pausing, source_saving,
	source_preparing, source_releasing, source_committed, source_in_doubt, source_reclaiming,
	source_retaking, source_resuming, source_blocked, source_kept, source_moved,
	source_given_up
}
mtype = {
	destination_waiting, destination_checking, destination_receiving, destination_loading,
	destination_prepared, destination_taking, destination_starting, destination_in_doubt,
	destination_claiming, destination_waking, destination_running, destination_given_up
}

#define SOURCE	    0
#define DESTINATION 1
#define OTHER	    (1 - me)

mtype state[2];
bool connected[2], dead[2], runs[2], locks[2];
bool closed[2];	     /* by this side */
bool heard_close[2]; /* nothing comes or goes any more */
bool word_shown[2], told_off[2];
byte sent[2], heard[2];
bool cut;
byte kills = KILLS, failures = FAILURES, doubles = DOUBLES, echoes = ECHOES;
byte passes = 1;
bool home; /* all but the two sides are */

chan wire[2] = [8] of { mtype, byte }; /* to a side: message, its number */
chan todo[2] = [8] of { mtype, byte };
chan told[2] = [1] of { mtype, bool }; /* by who is left at the end; whether the word is right */

/* --- the tables --- */

#define SAY(message)                                                 \
	if                                                           \
	:: connected[me] -> sent[me]++; todo[me]!message, sent[me]   \
	:: else                                                      \
	fi;
#define DO(action)                                                   \
	if                                                           \
	:: action == CLOSE && !connected[me]                         \
	:: else ->                                                   \
		connected[me] = connected[me] && action != CLOSE;    \
		todo[me]!action, 0                                   \
	fi;
#define ROW(from, trigger, to, actions) \
	:: state[me] == from && event == trigger -> state[me] = to; actions
/* A row of a mutant; the test does not compare it. */
#define WRONG(from, trigger, to, actions) \
	:: state[me] == from && event == trigger -> state[me] = to; actions

inline source_row()
{
	if
	ROW(source_idle, BEGIN, source_offered, SAY(OFFER))
	ROW(source_idle, CANCEL, source_kept, DO(CLOSE) DO(END))
	ROW(source_idle, CLOSED, source_kept, DO(END))
	ROW(source_offered, ACCEPT, source_copying, DO(NEXT_PASS))
	ROW(source_offered, REFUSE, source_kept, DO(CLOSE) DO(END))
	ROW(source_copying, DONE, source_passed, SAY(PASS_END))
	ROW(source_copying, CONVERGED, source_pausing, DO(PAUSE))
	ROW(source_copying, NOT_DONE, source_kept, SAY(ABORT) DO(CLOSE) DO(END))
	ROW(source_passed, PASS_HELD, source_copying, DO(NEXT_PASS))
	ROW(source_offered, FAILED, source_kept, DO(CLOSE) DO(END))
	ROW(source_copying, FAILED, source_kept, DO(CLOSE) DO(END))
	ROW(source_passed, FAILED, source_kept, DO(CLOSE) DO(END))
	ROW(source_offered, CLOSED, source_kept, DO(END))
	ROW(source_copying, CLOSED, source_kept, DO(END))
	ROW(source_passed, CLOSED, source_kept, DO(END))
	ROW(source_offered, TIME_OVER, source_kept, SAY(ABORT) DO(CLOSE) DO(END))
	ROW(source_copying, TIME_OVER, source_kept, SAY(ABORT) DO(CLOSE) DO(END))
	ROW(source_passed, TIME_OVER, source_kept, SAY(ABORT) DO(CLOSE) DO(END))
	ROW(source_offered, CANCEL, source_kept, SAY(ABORT) DO(CLOSE) DO(END))
	ROW(source_copying, CANCEL, source_kept, SAY(ABORT) DO(CLOSE) DO(END))
	ROW(source_passed, CANCEL, source_kept, SAY(ABORT) DO(CLOSE) DO(END))
	ROW(source_pausing, DONE, source_saving, DO(SEND_LAST))
	ROW(source_saving, DONE, source_preparing, SAY(PREPARE))
	ROW(source_pausing, NOT_DONE, source_resuming, SAY(ABORT) DO(CLOSE) DO(RUN))
	ROW(source_saving, NOT_DONE, source_resuming, SAY(ABORT) DO(CLOSE) DO(RUN))
	ROW(source_preparing, PREPARED, source_releasing, DO(RELEASE_LOCKS))
	ROW(source_pausing, FAILED, source_resuming, DO(CLOSE) DO(RUN))
	ROW(source_saving, FAILED, source_resuming, DO(CLOSE) DO(RUN))
	ROW(source_preparing, FAILED, source_resuming, DO(CLOSE) DO(RUN))
	ROW(source_pausing, CLOSED, source_resuming, DO(RUN))
	ROW(source_saving, CLOSED, source_resuming, DO(RUN))
	ROW(source_preparing, CLOSED, source_resuming, DO(RUN))
	ROW(source_pausing, TIME_OVER, source_resuming, SAY(ABORT) DO(CLOSE) DO(RUN))
	ROW(source_saving, TIME_OVER, source_resuming, SAY(ABORT) DO(CLOSE) DO(RUN))
	ROW(source_preparing, TIME_OVER, source_resuming, SAY(ABORT) DO(CLOSE) DO(RUN))
	ROW(source_pausing, CANCEL, source_resuming, SAY(ABORT) DO(CLOSE) DO(RUN))
	ROW(source_saving, CANCEL, source_resuming, SAY(ABORT) DO(CLOSE) DO(RUN))
	ROW(source_preparing, CANCEL, source_resuming, SAY(ABORT) DO(CLOSE) DO(RUN))
	ROW(source_releasing, DONE, source_committed, SAY(COMMIT))
	ROW(source_releasing, NOT_DONE, source_retaking, SAY(ABORT) DO(CLOSE) DO(TAKE_LOCKS))
	ROW(source_releasing, FAILED, source_retaking, DO(CLOSE) DO(TAKE_LOCKS))
	ROW(source_releasing, CLOSED, source_retaking, DO(TAKE_LOCKS))
	ROW(source_releasing, TIME_OVER, source_retaking, SAY(ABORT) DO(CLOSE) DO(TAKE_LOCKS))
	ROW(source_releasing, CANCEL, source_retaking, SAY(ABORT) DO(CLOSE) DO(TAKE_LOCKS))
	ROW(source_committed, RUNNING, source_moved, DO(CLOSE) DO(END))
	ROW(source_in_doubt, RUNNING, source_moved, DO(CLOSE) DO(END))
	ROW(source_committed, FAILED, source_retaking, DO(CLOSE) DO(TAKE_LOCKS))
	ROW(source_in_doubt, FAILED, source_retaking, DO(CLOSE) DO(TAKE_LOCKS))
	ROW(source_reclaiming, FAILED, source_retaking, DO(CLOSE) DO(TAKE_LOCKS))
#if MUTANT == 2
	WRONG(source_committed, CLOSED, source_retaking, DO(TAKE_LOCKS))
#else
	ROW(source_committed, CLOSED, source_in_doubt, DO(TELL_DOUBT))
#endif
	ROW(source_committed, TIME_OVER, source_in_doubt, DO(TELL_DOUBT))
	ROW(source_in_doubt, CLOSED, source_in_doubt, )
	ROW(source_in_doubt, DECIDE_RUN, source_reclaiming, DO(TAKE_LOCKS))
	ROW(source_in_doubt, DECIDE_RUN_VOUCHED, source_reclaiming, DO(TAKE_LOCKS))
#if MUTANT == 4
	WRONG(source_in_doubt, DECIDE_GIVE_UP, source_in_doubt, DO(SHOW_WORD))
#else
	ROW(source_in_doubt, DECIDE_GIVE_UP, source_given_up, DO(CLOSE) DO(SHOW_WORD) DO(END))
#endif
	ROW(source_reclaiming, DONE, source_resuming, DO(CLOSE) DO(RUN))
	ROW(source_reclaiming, NOT_DONE, source_in_doubt, DO(RELEASE_LOCKS) DO(TELL_DOUBT))
	ROW(source_reclaiming, RUNNING, source_moved, DO(CLOSE) DO(RELEASE_LOCKS) DO(END))
	ROW(source_reclaiming, CLOSED, source_reclaiming, )
	ROW(source_retaking, DONE, source_resuming, DO(RUN))
	ROW(source_retaking, NOT_DONE, source_blocked, DO(TELL_BLOCKED))
	ROW(source_resuming, NOT_DONE, source_blocked, DO(TELL_BLOCKED))
	ROW(source_resuming, DONE, source_kept, DO(END))
	ROW(source_blocked, DECIDE_RUN, source_retaking, DO(TAKE_LOCKS))
	ROW(source_blocked, DECIDE_RUN_VOUCHED, source_retaking, DO(TAKE_LOCKS))
	ROW(source_blocked, DECIDE_GIVE_UP, source_given_up, DO(RELEASE_LOCKS) DO(SHOW_WORD) DO(END))
	:: else -> assert(!IS_MESSAGE(event))
	fi
}

inline destination_row()
{
	if
	ROW(destination_waiting, OFFER, destination_checking, DO(CHECK))
	ROW(destination_waiting, CLOSED, destination_given_up, DO(END))
	ROW(destination_waiting, TIME_OVER, destination_given_up, DO(CLOSE) DO(END))
	ROW(destination_waiting, CANCEL, destination_given_up, DO(CLOSE) DO(END))
	ROW(destination_checking, DONE, destination_receiving, SAY(ACCEPT))
	ROW(destination_checking, NOT_DONE, destination_given_up, SAY(REFUSE) DO(CLOSE) DO(END))
	ROW(destination_receiving, PAGES, destination_receiving, DO(STORE))
	ROW(destination_receiving, BLOCKS, destination_receiving, DO(STORE))
	ROW(destination_receiving, GATHER, destination_receiving, DO(STORE))
	ROW(destination_receiving, PASS_END, destination_receiving, SAY(PASS_HELD))
	ROW(destination_receiving, STATE, destination_receiving, DO(STORE))
	ROW(destination_receiving, PREPARE, destination_loading, DO(LOAD))
#if MUTANT == 1
	WRONG(destination_loading, DONE, destination_taking, SAY(PREPARED) DO(TAKE_LOCKS))
#else
	ROW(destination_loading, DONE, destination_prepared, SAY(PREPARED))
#endif
	ROW(destination_receiving, NOT_DONE, destination_given_up, SAY(FAILED) DO(CLOSE) DO(END))
	ROW(destination_loading, NOT_DONE, destination_given_up, SAY(FAILED) DO(CLOSE) DO(END))
	ROW(destination_checking, ABORT, destination_given_up, DO(CLOSE) DO(END))
	ROW(destination_receiving, ABORT, destination_given_up, DO(CLOSE) DO(END))
	ROW(destination_loading, ABORT, destination_given_up, DO(CLOSE) DO(END))
	ROW(destination_prepared, ABORT, destination_given_up, DO(CLOSE) DO(END))
	ROW(destination_checking, CLOSED, destination_given_up, DO(END))
	ROW(destination_receiving, CLOSED, destination_given_up, DO(END))
	ROW(destination_loading, CLOSED, destination_given_up, DO(END))
	ROW(destination_checking, TIME_OVER, destination_given_up, SAY(FAILED) DO(CLOSE) DO(END))
	ROW(destination_receiving, TIME_OVER, destination_given_up, SAY(FAILED) DO(CLOSE) DO(END))
	ROW(destination_loading, TIME_OVER, destination_given_up, SAY(FAILED) DO(CLOSE) DO(END))
	ROW(destination_checking, CANCEL, destination_given_up, SAY(FAILED) DO(CLOSE) DO(END))
	ROW(destination_receiving, CANCEL, destination_given_up, SAY(FAILED) DO(CLOSE) DO(END))
	ROW(destination_loading, CANCEL, destination_given_up, SAY(FAILED) DO(CLOSE) DO(END))
	ROW(destination_prepared, COMMIT, destination_taking, DO(TAKE_LOCKS))
	ROW(destination_prepared, CANCEL, destination_given_up, SAY(FAILED) DO(CLOSE) DO(SHOW_WORD) DO(END))
#if MUTANT == 5
	WRONG(destination_prepared, CLOSED, destination_in_doubt, DO(TELL_DOUBT))
#else
	ROW(destination_prepared, CLOSED, destination_in_doubt, DO(SHOW_WORD) DO(TELL_DOUBT))
#endif
#if MUTANT == 3
	WRONG(destination_prepared, TIME_OVER, destination_prepared, DO(SHOW_WORD))
#else
	ROW(destination_prepared, TIME_OVER, destination_in_doubt, DO(CLOSE) DO(SHOW_WORD) DO(TELL_DOUBT))
#endif
	ROW(destination_taking, DONE, destination_starting, DO(RUN))
	ROW(destination_taking, NOT_DONE, destination_given_up, DO(RELEASE_LOCKS) SAY(FAILED) DO(CLOSE) DO(SHOW_WORD) DO(END))
	ROW(destination_starting, DONE, destination_running, SAY(RUNNING) DO(CLOSE) DO(END))
	ROW(destination_starting, NOT_DONE, destination_given_up, DO(RELEASE_LOCKS) SAY(FAILED) DO(CLOSE) DO(SHOW_WORD) DO(END))
	ROW(destination_taking, CLOSED, destination_taking, )
	ROW(destination_starting, CLOSED, destination_starting, )
	ROW(destination_in_doubt, DECIDE_RUN, destination_claiming, DO(TAKE_LOCKS))
	ROW(destination_in_doubt, DECIDE_RUN_VOUCHED, destination_claiming, DO(TAKE_LOCKS))
	ROW(destination_in_doubt, DECIDE_GIVE_UP, destination_given_up, DO(SHOW_WORD) DO(END))
	ROW(destination_claiming, DONE, destination_waking, DO(RUN))
	ROW(destination_claiming, NOT_DONE, destination_in_doubt, DO(RELEASE_LOCKS) DO(SHOW_WORD) DO(TELL_DOUBT))
	ROW(destination_waking, NOT_DONE, destination_in_doubt, DO(RELEASE_LOCKS) DO(SHOW_WORD) DO(TELL_DOUBT))
	ROW(destination_waking, DONE, destination_running, DO(END))
	:: else -> assert(!IS_MESSAGE(event))
	fi
}

#define AWAITS(which, what) :: state[me] == which && action == what
#define TIMED(which)	    || state[me] == which

/* Of what was done only what is waited for matters. */
inline report(outcome)
{
	if
	AWAITS(source_copying, NEXT_PASS)
	AWAITS(source_pausing, PAUSE)
	AWAITS(source_saving, SEND_LAST)
	AWAITS(source_releasing, RELEASE_LOCKS)
	AWAITS(source_reclaiming, TAKE_LOCKS)
	AWAITS(source_retaking, TAKE_LOCKS)
	AWAITS(source_resuming, RUN)
	AWAITS(destination_checking, CHECK)
	AWAITS(destination_receiving, STORE)
	AWAITS(destination_loading, LOAD)
	AWAITS(destination_taking, TAKE_LOCKS)
	AWAITS(destination_starting, RUN)
	AWAITS(destination_claiming, TAKE_LOCKS)
	AWAITS(destination_waking, RUN)
	:: else -> outcome = NOTHING
	fi
}

#define IS_TIMED (false \
	TIMED(source_offered) \
	TIMED(source_copying) \
	TIMED(source_passed) \
	TIMED(source_pausing) \
	TIMED(source_saving) \
	TIMED(source_preparing) \
	TIMED(source_releasing) \
	TIMED(source_committed) \
	TIMED(destination_waiting) \
	TIMED(destination_checking) \
	TIMED(destination_receiving) \
	TIMED(destination_loading) \
	TIMED(destination_prepared))

/* --- what a side does --- */

inline flush()
{
	do
	:: nempty(wire[me]) -> wire[me]?_, _
	:: empty(wire[me]) -> break
	od
}

inline send(message, n)
{
	if
	:: heard_close[me] || dead[OTHER] || heard_close[OTHER] || closed[OTHER]
	:: else -> wire[OTHER]!message, n
	fi
}

inline stamp_and_send(message)
{
	if
	:: connected[me] && (state[me] == source_copying || state[me] == source_saving) ->
		sent[me]++;
		send(message, sent[me])
	:: else
	fi
}

/* Whether it comes out well. A guest that never stopped is going on; locks that must go do. */
inline try(what)
{
	well = true;
	if
	:: failures > 0 && !(what == RUN && runs[me]) &&
	   (what != RELEASE_LOCKS || state[me] == source_releasing) ->
		failures--;
		well = false
	:: true
	fi;
	event = (well -> DONE : NOT_DONE)
}

inline perform()
{
	if
	:: IS_MESSAGE(action) -> send(action, number)
	:: action == CLOSE -> closed[me] = true; flush()
	:: action == SHOW_WORD -> word_shown[me] = true
	:: action == TELL_DOUBT || action == TELL_BLOCKED || action == END
	:: action == CHECK || action == LOAD || action == STORE -> try(action)
	:: action == NEXT_PASS ->
		if
		:: true -> stamp_and_send(PAGES)
		:: true -> stamp_and_send(BLOCKS)
		:: true -> stamp_and_send(GATHER)
		fi;
		try(action);
		if
		:: well && passes == 0 -> event = CONVERGED
		:: well && passes > 0 -> passes--
		:: else
		fi
	:: action == SEND_LAST -> stamp_and_send(STATE); try(action)
	:: action == PAUSE -> try(action); runs[me] = runs[me] && !well
	:: action == RUN -> try(action); runs[me] = runs[me] || well
	:: action == RELEASE_LOCKS -> try(action); locks[me] = locks[me] && !well
	:: action == TAKE_LOCKS -> try(action); locks[me] = locks[me] || well
	fi;
	if
	:: event == NOTHING || event == CONVERGED
	:: else -> report(event)
	fi
}

/* Epochs are seen to elsewhere: what is of an earlier one never comes here, but in a mutant. */
inline hear()
{
	if
	:: !connected[me] || number <= heard[me] -> event = NOTHING
	:: connected[me] && number > heard[me] + 1 ->
		connected[me] = false;
		todo[me]!CLOSE, 0;
		event = CLOSED
	:: else -> heard[me] = number
	fi
}

inline hear_echo()
{
	if
	:: me == SOURCE -> event = PREPARED
	:: me == SOURCE -> event = RUNNING
	:: me == SOURCE -> event = FAILED
	:: me == DESTINATION -> event = COMMIT
	:: me == DESTINATION -> event = ABORT
	fi;
#if MUTANT == 6
	/* Whatever the row says of it; a peer's mistake is none of this. */
	if
	:: connected[me] && ((event == FAILED && state[me] == source_committed) ||
			     (event == COMMIT && state[me] == destination_prepared))
	:: else -> event = NOTHING
	fi
#else
	event = NOTHING
#endif
}

inline hear_decision()
{
	if
	:: event == DECIDE_RUN && !well && state[me] != source_blocked && MUTANT != 7 ->
		event = NOTHING
	:: event == DECIDE_GIVE_UP -> told_off[me] = told_off[me] || state[me] == source_in_doubt ||
			state[me] == source_blocked || state[me] == destination_in_doubt
	:: else
	fi
}

/* Any, at any time, whether or not it makes sense; true are only the words, and that somebody is dead. */
inline hear_operator()
{
	if
	:: event = CANCEL
	:: event = DECIDE_GIVE_UP
	:: event = DECIDE_RUN; well = word_shown[OTHER]
	:: dead[OTHER] -> event = DECIDE_RUN_VOUCHED
	fi;
	hear_decision()
}

/* One of the things that can be next. */
inline next_event()
{
	if
	:: !dead[me] && nempty(todo[me]) -> todo[me]?action, number; perform()
	:: !dead[me] && nempty(wire[me]) -> wire[me]?event, number; hear()
	:: !dead[me] && nempty(wire[me]) && doubles > 0 && !home ->
		doubles--;
		wire[me]?<event, number>;
		hear()
	:: !dead[me] && nempty(wire[me]) && cut -> wire[me]?_, _; event = NOTHING
	:: !dead[me] && echoes > 0 && !home -> echoes--; hear_echo()
	:: !dead[me] && !closed[me] && !heard_close[me] &&
	   (cut || ((closed[OTHER] || heard_close[OTHER]) && empty(wire[me]))) ->
		heard_close[me] = true;
		flush();
		event = (connected[me] -> CLOSED : NOTHING);
		connected[me] = false
	:: !dead[me] && IS_TIMED -> event = TIME_OVER
	:: !dead[me] && nempty(told[me]) -> told[me]?event, well; hear_decision()
	:: !dead[me] && !home -> hear_operator()
	fi
}

inline check()
{
	assert(!(runs[SOURCE] && runs[DESTINATION]));
	/* In a mutant it is the above that is to fail. */
	assert(MUTANT != 0 || !(locks[SOURCE] && locks[DESTINATION]));
	assert(!runs[me] || locks[me]);
	action = NOTHING;
	number = 0;
	well = false;
	event = NOTHING
}

proctype source()
{
	byte me = SOURCE, number;
	mtype event = NOTHING, action = NOTHING;
	bool well;

end:	do
	:: atomic {
		next_event();
		if
		:: event != NOTHING -> source_row()
		:: else
		fi;
		check()
	}
	od
}

proctype destination()
{
	byte me = DESTINATION, number;
	mtype event = NOTHING, action = NOTHING;
	bool well;

end:	do
	:: atomic {
		next_event();
		if
		:: event != NOTHING -> destination_row()
		:: else
		fi;
		check()
	}
	od
}

/* --- around them --- */

inline kill(who)
{
	dead[who] = true;
	runs[who] = false;
	locks[who] = false;
	closed[who] = true;
	kills--
}

/* The connection, and whoever kills; then both have gone home, operators too. */
proctype world()
{
end:	do
	:: atomic { !cut -> cut = true }
	:: atomic { kills > 0 && !dead[SOURCE] -> kill(SOURCE) }
	:: atomic { kills > 0 && !dead[DESTINATION] -> kill(DESTINATION) }
	:: break
	od;
	home = true
}

#define ONE_RUNS       (runs[SOURCE] || runs[DESTINATION])
#define S_IN_DOUBT     (!dead[SOURCE] && state[SOURCE] == source_in_doubt)
#define D_IN_DOUBT     (!dead[DESTINATION] && state[DESTINATION] == destination_in_doubt)
#define S_BLOCKED      (!dead[SOURCE] && state[SOURCE] == source_blocked)

/* When nothing happens any more, from what can be seen, by one who wants one to run: one decision, by which all is over. */
proctype rest()
{
	bool settled; /* one ran before; the decision was to give up on the other side */

	timeout -> atomic {
		failures = 0;
		kills = 0;
		if
		:: ONE_RUNS && S_IN_DOUBT -> settled = true; told[SOURCE]!DECIDE_GIVE_UP, false
		:: ONE_RUNS && D_IN_DOUBT -> settled = true; told[DESTINATION]!DECIDE_GIVE_UP, false
		:: ONE_RUNS && !S_IN_DOUBT && !D_IN_DOUBT
		:: !ONE_RUNS && S_BLOCKED -> told[SOURCE]!DECIDE_RUN, false
		:: !ONE_RUNS && S_IN_DOUBT && word_shown[DESTINATION] -> told[SOURCE]!DECIDE_RUN, true
		:: !ONE_RUNS && D_IN_DOUBT && word_shown[SOURCE] -> told[DESTINATION]!DECIDE_RUN, true
		:: !ONE_RUNS && S_IN_DOUBT && dead[DESTINATION] -> told[SOURCE]!DECIDE_RUN_VOUCHED, false
		:: !ONE_RUNS && D_IN_DOUBT && dead[SOURCE] -> told[DESTINATION]!DECIDE_RUN_VOUCHED, false
		:: else ->
			assert(!S_IN_DOUBT && !D_IN_DOUBT);
			assert(dead[SOURCE] || dead[DESTINATION] || told_off[SOURCE] || told_off[DESTINATION]);
			goto end_none
		fi
	}
	timeout -> atomic {
		assert(ONE_RUNS);
		assert(!settled || (!S_IN_DOUBT && !D_IN_DOUBT))
	}
end_none:
	skip
}

init {
	atomic {
		state[SOURCE] = source_idle;
		state[DESTINATION] = destination_waiting;
		connected[SOURCE] = true;
		connected[DESTINATION] = true;
		runs[SOURCE] = true;
		locks[SOURCE] = true;
		told[SOURCE]!BEGIN, false;
		run source();
		run destination();
		run world();
		run rest()
	}
}
