/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of a hand-over at work: the state machine (vmm/handover.h), its connection (vmm/migration_link.h), limits of time, and what
 * an operator decides. What the side does to its VM it is told by calls.
 *
 *	migration_create()
 *	migration_run()		on a thread that may wait, until the attempt is over, or until act() has said
 *				MIGRATION_LATER; then migration_report() and run() once more, perhaps on another thread
 *	migration_ask()		any thread, meanwhile: cancel, or decide
 *	migration_destroy()	after run() has returned
 *
 * A side in doubt stays in run(): with its connection, as long as that lives, and then for the operator. migration_leave() gets it out,
 * for a process that ends; the other side then finds the connection closed, as if this one had been killed.
 *
 * Threads: as said. What looks at a side meanwhile uses migration_state().
 */
#ifndef VMM_MIGRATION_H
#define VMM_MIGRATION_H

#include "vmm/handover_frames.h"

/* act(): it will be reported. */
#define MIGRATION_LATER 1
/* act(HANDOVER_NEXT_PASS): there is no need of another. */
#define MIGRATION_CONVERGED 2

struct migration;

struct migration_ops {
	/*
	 * Does one of those marked * in vmm/handover.h, or TELL_DOUBT, TELL_BLOCKED, SHOW_WORD. 0: done; negative with `e`: not done, which
	 * the other side is told in those words where it is told; or one of the above. `frame`: the message of CHECK and STORE, borrowed.
	 */
	int (*act)(void *arg, enum handover_action_kind what, const struct handover_frame *frame,
		   struct error *e);
	/* What OFFER and PASS_END say: fills payload and len, which stay until the next call. */
	void (*say)(void *arg, struct handover_frame *frame);
	/*
	 * Where pages go (vmm/handover_frames.h), of a PAGES that STORE will be asked for next if it arrives whole and as it was sent;
	 * otherwise this side gives up. frame->placed says then that they are there. May be NULL.
	 */
	uint8_t *(*place)(void *arg, const struct handover_frame *frame);
};

struct migration_config {
	enum handover_role role;
	int fd;		   /* a connected stream socket: the migration's, in any case */
	uint64_t epoch;	   /* source: this attempt's; destination: of the last one seen, 0: none */
	uint64_t stall_ns; /* how long the other side may be silent, or take nothing */
	const struct migration_ops *ops;
	void *arg;
};

int migration_create(struct migration **ret, const struct migration_config *config,
		     struct error *e);
/* Accepts NULL. */
void migration_destroy(struct migration *m);

/*
 * 0: it is over as it should be: the source's VM has moved, the destination's runs. MIGRATION_LATER. Negative with `e`: over
 * otherwise, why; migration_state() tells whose the VM is. -ECANCELED, ERROR_CANCELLED: also after migration_leave().
 */
int migration_run(struct migration *m, struct error *e);
/* What came of what act() has put off: as its result. */
void migration_report(struct migration *m, int result, const struct error *e);

/* In the course of NEXT_PASS and SEND_LAST, by act(): one more PAGES or STATE. */
int migration_send(struct migration *m, enum handover_message message, const uint8_t *payload,
		   uint32_t len, struct error *e);

/*
 * Cancel, or a decision (enum handover_event_kind, HANDOVER_CANCEL or later). answered() is called on run()'s thread, once; with the
 * error of a decision that cannot be made. -EBUSY: another is being asked; -ENOTCONN: it is over.
 */
struct migration_question {
	enum handover_event_kind kind;
	uint64_t word;
	void (*answered)(struct migration_question *question);
	int result;
	struct error error;
};
int migration_ask(struct migration *m, struct migration_question *question, struct error *e);
/* Any thread: run() returns as soon as what it is at has returned, whatever the state. */
void migration_leave(struct migration *m);
/* Any thread: somebody wants what is being sent to end. For act(), between two things that take long. */
bool migration_is_called(const struct migration *m);

enum handover_state migration_state(const struct migration *m);
uint64_t migration_epoch(const struct migration *m);
/* That the operator needs on the other side; 0: there is none to show. */
uint64_t migration_word(const struct migration *m);

#endif
