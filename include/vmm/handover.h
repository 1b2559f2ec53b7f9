/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-over of a VM from one process (the source) to another (the destination): what each side says, does and believes, as two
 * state machines in tables. No sockets, clocks, threads or VM in here: the caller brings events and does what it is told.
 * docs/handover.pml is a model of the same tables; a test compares them row by row and has SPIN check the model.
 *
 * Phases, of which each state has one:
 *
 *	offer	OFFER, ACCEPT or REFUSE: whether the destination can take it, before a byte of memory moves. The guest runs.
 *	copy	passes: PAGES, and BLOCKS of disks that move as well, then PASS_END, which the destination answers by PASS_HELD once it has
 *		them. The guest runs. If there are further connections for PAGES, GATHER is before PASS_END, and before what follows
 *		the last PAGES: storing it is waiting for all of them.
 *	stop	the source pauses the guest, sends the last PAGES and BLOCKS, the machine's STATE, and PREPARE
 *	prepare	the destination loads; PREPARED: it could run at once
 *	commit	the source releases its disk locks, then COMMIT; the destination takes the locks, runs, and says RUNNING, the last word
 *	doubt	COMMIT may or may not have arrived: below
 *	over	the end of the attempt, of the process too where the VM is not
 *
 * Either side ends it before: the source by ABORT, the destination by FAILED ("I never will"). Whoever says one of these closes the
 * connection, and hears nothing of it any more.
 *
 * Disk locks: the source's until RELEASE_LOCKS, just before COMMIT; the destination's from TAKE_LOCKS on, just after it. Neither has
 * them in between or in doubt, and who runs has them: a source that goes on takes them back first. If it cannot, because a third
 * process has the disk, it stays paused in "source-blocked" until the operator has cured that and says "run".
 *
 * Why never two run. Only what is certain makes a side run:
 *  1. The destination runs by COMMIT, or in doubt by the source's *word*. The source sends COMMIT only while paused; it shows its word
 *     only when it has given up, which is an end.
 *  2. A source that has sent COMMIT runs again by FAILED or by the destination's word alone; no cut and no time limit brings it there.
 *     Before COMMIT it may go on whenever it likes: the destination cannot run.
 *  3. FAILED comes from a destination that has given up, which is an end. Its word is shown by such a one, and by one in doubt, which
 *     has closed the connection, so that a late COMMIT is not heard; that one runs by the source's word alone.
 *  4. So of two that are in doubt the source is the one that chooses, and it is one machine: it runs, or it gives up for good and its
 *     word lets the destination run. Whatever an operator says on both sides, in whichever order, with whatever words there are, both
 *     cannot run.
 *  5. Words are of one attempt (as epochs are), so those of an earlier one open nothing.
 * A word is a random number. It keeps an operator from a mistake; a peer that wants to lie can (it has the VM's memory anyway).
 *
 * Who is in doubt, when the connection is cut or time is over (that no protocol can avoid it is the problem of the two generals):
 *
 *	source		destination	what was lost		what ends it
 *	runs		in-doubt	ABORT, or no COMMIT	destination: give up. "Run" is refused: the source never shows its word
 *	in-doubt	in-doubt	COMMIT			source: run, with the word that the destination shows. Or source: give up; destination: run,
 *								with the source's
 *	in-doubt	given-up	FAILED			source: run, with the word that the destination shows
 *	in-doubt	runs		RUNNING			source: give up. "Run" is refused: the destination never shows its word
 *	in-doubt	was killed	perhaps RUNNING		source: run, vouched. Did the destination run before, then its disks are newer than
 *								this memory: boot from them instead
 *	was killed	in-doubt	perhaps ABORT		destination: run, vouched, with the same caution
 *
 * In every line one decision makes exactly one run. "Vouched": instead of a word, the operator's own that the VM runs nowhere else and
 * will not; that alone the library cannot check (locks of shared disks do: a side that cannot take them stays in doubt). That the other
 * process is gone is not enough to say so: a source may have gone on, and moved the VM elsewhere since.
 *
 * Epochs number the attempts of a VM, and only grow; sequence numbers the messages of one direction, from 1. Of an earlier attempt, or
 * heard already: ignored. A gap, a later attempt within this one, or what may not come in this state: the peer is broken, which is
 * treated like a cut, because a cut is safe at any moment.
 *
 * Threads: an object belongs to one thread at a time; nothing is shared, nothing allocated.
 * Errors: ERROR_MIGRATION, the peer's doing; ERROR_WRONG_STATE: a decision or a message of ours that cannot be now; ERROR_CONFIG: a word
 * that is not the other side's.
 */
#ifndef VMM_HANDOVER_H
#define VMM_HANDOVER_H

#include "vmm/error.h"

/* Numbers of the wire: append only. */
enum handover_message {
	HANDOVER_NO_MESSAGE = 0,
	HANDOVER_OFFER,
	HANDOVER_ACCEPT,
	HANDOVER_REFUSE,
	HANDOVER_PAGES,
	HANDOVER_PASS_END,
	HANDOVER_PASS_HELD,
	HANDOVER_STATE,
	HANDOVER_PREPARE,  /* has the source's word */
	HANDOVER_PREPARED, /* has the destination's */
	HANDOVER_COMMIT,
	HANDOVER_RUNNING,
	HANDOVER_ABORT,
	HANDOVER_FAILED,
	HANDOVER_BLOCKS,
	HANDOVER_GATHER, /* has a number: what went over other connections before it was said there is waited for */
	HANDOVER_JOIN, /* opens one of those (vmm/migration_channels.h), and comes nowhere else */
	HANDOVER_MESSAGES,
};

enum handover_role { HANDOVER_SOURCE, HANDOVER_DESTINATION };

enum handover_phase {
	HANDOVER_PHASE_OFFER,
	HANDOVER_PHASE_COPY,
	HANDOVER_PHASE_STOP,
	HANDOVER_PHASE_PREPARE,
	HANDOVER_PHASE_COMMIT,
	HANDOVER_PHASE_DOUBT,
	HANDOVER_PHASE_OVER,
};

enum handover_state {
	HANDOVER_S_IDLE,
	HANDOVER_S_OFFERED,
	HANDOVER_S_COPYING,
	HANDOVER_S_PASSED, /* a pass was sent, not yet held */
	HANDOVER_S_PAUSING,
	HANDOVER_S_SAVING,
	HANDOVER_S_PREPARING,
	HANDOVER_S_RELEASING,
	HANDOVER_S_COMMITTED,
	HANDOVER_S_IN_DOUBT,
	HANDOVER_S_RECLAIMING, /* takes the locks because the operator says so */
	HANDOVER_S_RETAKING,   /* takes them because the destination never will */
	HANDOVER_S_RESUMING,
	HANDOVER_S_BLOCKED,
	HANDOVER_S_KEPT, /* the guest runs here, as before */
	HANDOVER_S_MOVED,
	HANDOVER_S_GIVEN_UP, /* never runs again; may be let go of when the word has been noted */
	HANDOVER_D_WAITING,
	HANDOVER_D_CHECKING,
	HANDOVER_D_RECEIVING,
	HANDOVER_D_LOADING,
	HANDOVER_D_PREPARED,
	HANDOVER_D_TAKING,
	HANDOVER_D_STARTING,
	HANDOVER_D_IN_DOUBT,
	HANDOVER_D_CLAIMING, /* takes the locks because the operator says so */
	HANDOVER_D_WAKING,   /* runs for the same reason */
	HANDOVER_D_RUNNING,
	HANDOVER_D_GIVEN_UP,
	HANDOVER_STATES,
};

/*
 * What a side is told to do, in this order and after all that it was told before. Of those marked * it reports how that came out
 * (HANDOVER_DONE, HANDOVER_NOT_DONE); a report that is not waited for any more is ignored, so all are reported.
 */
enum handover_action_kind {
	HANDOVER_SEND, /* `message`; a word of it is handover_own_word() */
	HANDOVER_CLOSE, /* the connection, once what was sent before is out; nothing of it is read any more */
	HANDOVER_CHECK,	    /* * what the offer says against what there is here */
	HANDOVER_NEXT_PASS, /* * send dirty PAGES and BLOCKS; or bring HANDOVER_CONVERGED instead */
	HANDOVER_PAUSE, /* * the guest, the devices' work drained. Not done: it runs as before */
	HANDOVER_SEND_LAST, /* * the last PAGES and BLOCKS, STATE */
	HANDOVER_STORE, /* * the PAGES, BLOCKS or STATE of this message, or all that GATHER is about; only a failure matters */
	HANDOVER_LOAD,	/* * the machine from STATE, all that needs no lock */
	HANDOVER_RELEASE_LOCKS, /* * can fail in "source-releasing" only: elsewhere by closing the disks, if need be */
	HANDOVER_TAKE_LOCKS, /* * done if they are held already */
	HANDOVER_RUN, /* * let the guest go on; done if it runs already. Not done: no instruction was executed */
	HANDOVER_SHOW_WORD, /* handover_own_word() to the operator, where it outlives the process */
	HANDOVER_TELL_DOUBT,
	HANDOVER_TELL_BLOCKED,
	HANDOVER_END, /* the attempt is over; what that means the state says */
	HANDOVER_ACTION_KINDS,
};

struct handover_action {
	enum handover_action_kind kind;
	/* Of HANDOVER_SEND; 0 otherwise. */
	enum handover_message message;
	uint64_t epoch, sequence;
};

#define HANDOVER_ACTIONS_MAX 6

struct handover_actions {
	size_t count;
	struct handover_action all[HANDOVER_ACTIONS_MAX];
};

enum handover_event_kind {
	HANDOVER_MESSAGE, /* a whole one has come */
	HANDOVER_BEGIN,	  /* source: the connection is there */
	HANDOVER_CLOSED,  /* by the peer, or broken; nothing can be sent */
	/* Nothing has come or could be sent for as long as the caller waits in this state. */
	HANDOVER_TIME_OVER,
	HANDOVER_DONE,
	HANDOVER_NOT_DONE,
	HANDOVER_CONVERGED, /* instead of a pass: what is left is little enough, or this is to end now */
	HANDOVER_CANCEL, /* the operator; before COMMIT */
	/* The operator, in doubt (run, give up: also when blocked). */
	HANDOVER_DECIDE_RUN, /* with the other side's word; blocked: none is needed */
	HANDOVER_DECIDE_RUN_VOUCHED,
	HANDOVER_DECIDE_GIVE_UP,
	HANDOVER_EVENT_KINDS,
};

struct handover_event {
	enum handover_event_kind kind;
	/* Of HANDOVER_MESSAGE, as its frame says. */
	enum handover_message message;
	uint64_t epoch, sequence;
	/* Of PREPARE and PREPARED, and of HANDOVER_DECIDE_RUN. */
	uint64_t word;
	/* Of HANDOVER_DONE and HANDOVER_NOT_DONE: of what. */
	enum handover_action_kind action;
};

/* One side. The caller owns it; all of it is private. A copy is as good. */
struct handover {
	enum handover_role role;
	enum handover_state state;
	bool connected;
	uint64_t epoch;
	uint64_t sent, heard; /* sequence numbers */
	uint64_t own_word, peer_word;
};

/* `epoch`: more than that of any earlier attempt with this VM; `word`: random, not 0. */
void handover_source_init(struct handover *h, uint64_t epoch, uint64_t word);
/* For a connection that is there. `epoch`: of the newest attempt that was seen with this VM, 0: none. */
void handover_destination_init(struct handover *h, uint64_t epoch, uint64_t word);

/*
 * What comes of an event; `todo` is filled in any case. 0, also if it is ignored; or, with `e`,
 *
 *	-EPROTO			what the peer sent cannot be: the connection is given up, as `todo` has it
 *	-EBUSY, -EACCES		a decision that cannot be made in this state, or not with that word: nothing has changed
 */
int handover_event(struct handover *h, const struct handover_event *event,
		   struct handover_actions *todo, struct error *e);

/*
 * Epoch and sequence number for PAGES, BLOCKS, GATHER or STATE, which the caller sends of its own in the course of NEXT_PASS and SEND_LAST. -EBUSY:
 * not in this state, or there is no connection; then it is not sent.
 */
int handover_stamp(struct handover *h, enum handover_message message, struct handover_action *stamp,
		   struct error *e);

/* Whether this message, if it comes now, leads to HANDOVER_STORE, and nothing else that can happen before it to a side that runs. */
bool handover_will_store(const struct handover *h, const struct handover_event *event);

enum handover_state handover_state(const struct handover *h);
/* Of this attempt; a destination's is that of the offer. */
uint64_t handover_epoch(const struct handover *h);
uint64_t handover_own_word(const struct handover *h);

/* --- the tables --- */

struct handover_state_info {
	const char *name; /* "source-in-doubt" */
	enum handover_role role;
	enum handover_phase phase;
	/* What is reported; HANDOVER_ACTION_KINDS: nothing. */
	enum handover_action_kind awaits;
	bool runs;  /* the guest may be running on this side */
	bool locks; /* this side may have the disk locks */
	bool timed; /* it waits for the peer: HANDOVER_TIME_OVER means something */
	bool over;
};
const struct handover_state_info *handover_state_info(enum handover_state state);

struct handover_message_info {
	const char *name; /* "COMMIT" */
	enum handover_role to;
	uint32_t min, max; /* bytes of payload */
};
/* NULL: there is no such type. */
const struct handover_message_info *handover_message_info(uint32_t message);

/* All rows, for tests: which `event` (of HANDOVER_MESSAGE: `message`) leads from where to where. The actions end with
 * HANDOVER_ACTION_KINDS. False: there are no more. */
struct handover_row {
	enum handover_state from, next;
	enum handover_event_kind event;
	enum handover_message message;
	struct handover_action actions[HANDOVER_ACTIONS_MAX];
	size_t action_count;
};
bool handover_row(size_t index, struct handover_row *row);
/* "TAKE_LOCKS", "TIME_OVER"; never NULL. */
const char *handover_action_name(enum handover_action_kind kind);
const char *handover_event_name(enum handover_event_kind kind);

#endif
