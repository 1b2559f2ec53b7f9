/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of a hand-over, driven: include/vmm/migration.h is the contract.
 *
 * The loop has three sources of events: what was done (reports), what the other side says or fails to say (the link and its limit of
 * time), and what an operator asks. Each goes into the state machine, whose actions are carried out in their order before anything
 * else is heard. A message that cannot be sent is no report of its own: the connection is gone then, which is heard next, behind what
 * the other side has sent before, because that may say why.
 *
 * run()'s thread owns all but `question`, `left`, `called` and what is published, which others reach by atomics and the eventfd.
 * The other side controls the order of messages and their content, as far as tables and bounds let it.
 */
#include "vmm/migration.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"
#include "vmm/migration_link.h"

#define WORD_SIZE 8
/* One row is under way, and what comes of it. */
#define TODO_MAX ((size_t)(4 * HANDOVER_ACTIONS_MAX))
/* Of what each side tells the other of a failure. */
#define REASON_MAX (sizeof(((struct error *)NULL)->msg) + sizeof(((struct error *)NULL)->hint) + 8)

struct migration {
	const struct migration_ops *ops;
	void *arg;
	uint64_t stall_ns;
	struct handover handover;
	struct migration_link link;
	int wake_fd;
	bool begun, over;
	bool lost;   /* the connection cannot be used any more, which was not heard yet */
	bool silent; /* nothing was taken for too long */
	uint64_t heard_ns;

	struct handover_action todo[TODO_MAX]; /* in their order */
	size_t todo_count;
	bool put_off; /* act() has said MIGRATION_LATER */
	enum handover_action_kind put_off_what;
	struct handover_frame frame; /* the message that the actions are about */

	struct error why; /* the first reason to end; code ERROR_NONE: none yet */
	char reason[REASON_MAX];
	uint8_t word[WORD_SIZE];

	_Atomic(struct migration_question *) question;
	_Atomic bool left, called, closed;
	_Atomic int state; /* enum handover_state */
	_Atomic uint64_t shown_word, epoch;
};

static int draw_word(uint64_t *word, struct error *e)
{
	do {
		if (getrandom(word, sizeof(*word), 0) != (ssize_t)sizeof(*word)) {
			return error_set_sys(e, ERROR_MIGRATION, errno, "migration: getrandom");
		}
	} while (*word == 0);
	return 0;
}

static void publish(struct migration *m)
{
	atomic_store(&m->epoch, handover_epoch(&m->handover));
	atomic_store(&m->state, (int)handover_state(&m->handover));
}

/*
 * Before the state machine has judged the message, so only if it will be taken: in this state every end but that is that this side has
 * given up, and its VM with all that is in its memory. In any later one memory may be what somebody decides to run.
 */
static uint8_t *place(void *arg, const struct handover_frame *frame)
{
	struct migration *m = arg;
	const struct handover_event event = handover_frame_event(frame);

	if (m->ops->place == NULL || !handover_will_store(&m->handover, &event)) {
		return NULL;
	}
	return m->ops->place(m->arg, frame);
}

int migration_create(struct migration **ret, const struct migration_config *config, struct error *e)
{
	struct migration *m = calloc(1, sizeof(*m));
	uint64_t word = 0;
	int fd = config->fd;
	int r;

	if (m == NULL) {
		(void)close(fd);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	m->ops = config->ops;
	m->arg = config->arg;
	m->stall_ns = config->stall_ns;
	m->link.fd = -1;
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = m->wake_fd >= 0 ? draw_word(&word, e)
			    : error_set_sys(e, ERROR_MIGRATION, errno, "migration: eventfd");
	if (r < 0) {
		(void)close(fd);
		migration_destroy(m);
		return r;
	}
	if (config->role == HANDOVER_SOURCE) {
		handover_source_init(&m->handover, config->epoch, word);
	} else {
		handover_destination_init(&m->handover, config->epoch, word);
	}
	publish(m);
	r = migration_link_init(&m->link, fd, config->role, m->wake_fd, m->stall_ns, e);
	if (r < 0) {
		migration_destroy(m);
		return r;
	}
	handover_parser_set_sink(&m->link.parser,
				 &(const struct handover_sink){ .place = place, .arg = m });
	*ret = m;
	return 0;
}

void migration_destroy(struct migration *m)
{
	if (m == NULL) {
		return;
	}
	migration_link_finish(&m->link);
	close_fd(&m->wake_fd);
	free(m);
}

/* --- why it ends --------------------------------------------------------------------------------- */

static void note_why(struct migration *m, const struct error *e)
{
	if (m->why.code == ERROR_NONE && e->code != ERROR_NONE) {
		m->why = *e;
	}
}

/* The other side's words, as text: nothing of them is believed. */
static void note_their_reason(struct migration *m, const struct handover_frame *frame)
{
	struct error e = { 0 };
	char text[REASON_MAX];
	size_t len = MIN((size_t)frame->len, sizeof(text) - 1);

	for (size_t i = 0; i < len; i++) {
		text[i] = (char)frame->payload[i];
		if (text[i] < ' ' || text[i] > '~') {
			text[i] = '?';
		}
	}
	text[len] = '\0';
	(void)error_set(&e, ERROR_MIGRATION, ECONNABORTED, "the other side %s%s%s",
			frame->message == HANDOVER_REFUSE ? "refuses" : "has given up",
			len != 0 ? ": " : "", text);
	/* Worth more than that the connection has gone. */
	m->why = e;
}

static void say_reason(struct migration *m, struct handover_frame *frame)
{
	const struct error *why = &m->why;
	int n = 0;

	if (why->code != ERROR_NONE) {
		n = snprintf(m->reason, sizeof(m->reason), "%s%s%s", why->msg,
			     why->hint[0] != '\0' ? "; " : "", why->hint);
	}
	frame->payload = (const uint8_t *)m->reason;
	frame->len = (uint32_t)MIN(MAX(n, 0), (int)sizeof(m->reason) - 1);
}

/* --- actions ------------------------------------------------------------------------------------- */

static void send_failed(struct migration *m, int r, const struct error *e)
{
	m->lost |= r != -ECANCELED;
	m->silent |= r == -ETIMEDOUT;
	if (r != -ECANCELED) {
		note_why(m, e);
	}
}

static void send(struct migration *m, const struct handover_action *action)
{
	struct handover_frame frame = { .message = action->message,
					.epoch = action->epoch,
					.sequence = action->sequence };
	struct error e = { 0 };
	int r;

	switch (action->message) {
	case HANDOVER_PREPARE:
	case HANDOVER_PREPARED:
		store_le64(m->word, handover_own_word(&m->handover));
		frame.payload = m->word;
		frame.len = WORD_SIZE;
		break;
	case HANDOVER_REFUSE:
	case HANDOVER_ABORT:
	case HANDOVER_FAILED:
		say_reason(m, &frame);
		break;
	default:
		m->ops->say(m->arg, &frame);
		break;
	}
	r = migration_link_send(&m->link, &frame, false, &e);
	if (r < 0) {
		send_failed(m, r, &e);
	}
}

int migration_send(struct migration *m, enum handover_message message, const uint8_t *payload,
		   uint32_t len, struct error *e)
{
	struct handover_action stamp;
	struct handover_frame frame = { .message = message, .payload = payload, .len = len };
	int r = handover_stamp(&m->handover, message, &stamp, e);

	if (r < 0) {
		return r;
	}
	frame.epoch = stamp.epoch;
	frame.sequence = stamp.sequence;
	r = migration_link_send(&m->link, &frame, true, e);
	if (r < 0) {
		send_failed(m, r, e);
	}
	return r;
}

static int feed_event(struct migration *m, const struct handover_event *event, struct error *e)
{
	struct handover_actions more;
	int r = handover_event(&m->handover, event, &more, e);

	publish(m);
	/* Only what was reported leads on before all is done, one row for one. */
	VMM_BUG_ON(m->todo_count + more.count > TODO_MAX);
	for (size_t i = 0; i < more.count; i++) {
		m->todo[m->todo_count++] = more.all[i];
	}
	return r;
}

static void feed(struct migration *m, const struct handover_event *event)
{
	struct error e = { 0 };

	if (feed_event(m, event, &e) < 0) {
		note_why(m, &e);
	}
}

/*
 * What could not be sent is heard of as a lost connection, or was ended for somebody's question, which comes next. And whatever a side that
 * is left had asked for may be under way still: to say that it was not done could be a lie, by which the other side would run.
 */
static bool is_no_report(const struct migration *m, enum handover_action_kind what, int r)
{
	const bool sends = what == HANDOVER_NEXT_PASS || what == HANDOVER_SEND_LAST;
	const bool ended = r == -ECANCELED && atomic_load(&m->called);

	return atomic_load(&m->left) || (sends && (m->lost || ended)) ||
	       (what == HANDOVER_STORE && ended);
}

static void report(struct migration *m, enum handover_action_kind what, int r,
		   const struct error *e)
{
	struct handover_event event = { .kind = HANDOVER_DONE, .action = what };

	if (r == MIGRATION_CONVERGED) {
		event.kind = HANDOVER_CONVERGED;
	} else if (r < 0) {
		event.kind = HANDOVER_NOT_DONE;
		if (is_no_report(m, what, r)) {
			return;
		}
		note_why(m, e);
	}
	feed(m, &event);
}

static void act(struct migration *m, enum handover_action_kind what)
{
	struct error e = { 0 };
	int r = m->ops->act(m->arg, what, &m->frame, &e);

	if (r == MIGRATION_LATER) {
		m->put_off = true;
		m->put_off_what = what;
		return;
	}
	/* Not COMMIT into a connection that is known to be gone: that would be a doubt without need. */
	if (what == HANDOVER_RELEASE_LOCKS && r == 0 && m->link.fd >= 0 &&
	    migration_link_is_closed(&m->link)) {
		m->lost = true;
		return;
	}
	report(m, what, r, &e);
}

static void perform(struct migration *m, const struct handover_action *action)
{
	switch (action->kind) {
	case HANDOVER_SEND:
		send(m, action);
		break;
	case HANDOVER_CLOSE:
		close_fd(&m->link.fd);
		break;
	case HANDOVER_END:
		m->over = true;
		break;
	case HANDOVER_SHOW_WORD:
		atomic_store(&m->shown_word, handover_own_word(&m->handover));
		act(m, action->kind);
		break;
	default:
		act(m, action->kind);
		break;
	}
}

/* All that there is to do; false: something was put off. */
static bool perform_all(struct migration *m)
{
	while (m->todo_count > 0) {
		struct handover_action action = m->todo[0];

		m->todo_count--;
		memmove(&m->todo[0], &m->todo[1], m->todo_count * sizeof(m->todo[0]));
		perform(m, &action);
		if (m->put_off) {
			return false;
		}
		/* The other side was waiting for us. */
		m->heard_ns = loop_now_ns();
	}
	return true;
}

void migration_report(struct migration *m, int result, const struct error *e)
{
	VMM_BUG_ON(!m->put_off);
	m->put_off = false;
	m->heard_ns = loop_now_ns();
	report(m, m->put_off_what, result, e);
}

/* --- what comes ---------------------------------------------------------------------------------- */

static void answer_question(struct migration *m)
{
	struct migration_question *question;
	struct handover_event event = { 0 };
	struct error why = { 0 };
	uint64_t count;

	(void)!read(m->wake_fd, &count, sizeof(count));
	atomic_store(&m->called, false);
	question = atomic_exchange(&m->question, NULL);
	if (question == NULL) {
		return;
	}
	event.kind = question->kind;
	event.word = question->word;
	question->result = feed_event(m, &event, &question->error);
	if (question->result == 0 && question->kind == HANDOVER_CANCEL) {
		(void)error_set(&why, ERROR_CANCELLED, ECANCELED, "migration: cancelled");
		note_why(m, &why);
	}
	question->answered(question);
}

static void closed(struct migration *m, const struct error *e)
{
	struct error why = *e;

	if (why.code == ERROR_NONE) {
		(void)error_set(&why, ERROR_MIGRATION, EPIPE,
				"migration: the other side has closed the connection");
	}
	note_why(m, &why);
	m->lost = false;
	close_fd(&m->link.fd);
	feed(m, &(const struct handover_event){ .kind = HANDOVER_CLOSED });
}

static void time_over(struct migration *m)
{
	struct error e = { 0 };

	(void)error_set(&e, ERROR_MIGRATION, ETIMEDOUT,
			"migration: nothing has come from the other side for %" PRIu64 " s",
			m->stall_ns / 1000000000);
	(void)error_hint(&e, "look at the network between the hosts, and whether the other vmm "
			     "still answers");
	note_why(m, &e);
	feed(m, &(const struct handover_event){ .kind = HANDOVER_TIME_OVER });
}

static void heard(struct migration *m)
{
	struct handover_event event = handover_frame_event(&m->frame);

	m->heard_ns = loop_now_ns();
	if (m->frame.message == HANDOVER_REFUSE || m->frame.message == HANDOVER_FAILED ||
	    m->frame.message == HANDOVER_ABORT) {
		note_their_reason(m, &m->frame);
	}
	feed(m, &event);
}

/* How long the other side may be silent in this state. */
static uint64_t patience_ns(const struct migration *m)
{
	const struct handover_state_info *info = handover_state_info(handover_state(&m->handover));
	uint64_t now = loop_now_ns(), until = m->heard_ns + m->stall_ns;

	if (!info->timed || m->link.fd < 0) {
		return UINT64_MAX;
	}
	return until > now ? until - now : 0;
}

/* Of a connection that is known to be lost: what came before. */
static void drain(struct migration *m)
{
	struct error e = { 0 };

	if (migration_link_hear(&m->link, &m->frame, 0, &e) == MIGRATION_HEARD_MESSAGE) {
		heard(m);
	} else if (m->silent) {
		m->lost = m->silent = false;
		time_over(m);
	} else {
		closed(m, &m->why);
	}
}

/* Without a connection only somebody's question comes. */
static void wait_for_question(const struct migration *m)
{
	struct pollfd fd = { .fd = m->wake_fd, .events = POLLIN };

	(void)poll(&fd, 1, -1);
}

static void hear(struct migration *m)
{
	struct error e = { 0 };

	if (m->link.fd < 0) {
		wait_for_question(m);
		answer_question(m);
		return;
	}
	switch (migration_link_hear(&m->link, &m->frame, patience_ns(m), &e)) {
	case MIGRATION_HEARD_MESSAGE:
		heard(m);
		break;
	case MIGRATION_HEARD_WAKE:
		answer_question(m);
		break;
	case MIGRATION_HEARD_NOTHING:
		time_over(m);
		break;
	case MIGRATION_HEARD_CLOSED:
	case MIGRATION_HEARD_NONSENSE:
		closed(m, &e);
		break;
	}
}

static int result(struct migration *m, struct error *e)
{
	enum handover_state state = handover_state(&m->handover);

	atomic_store(&m->closed, true);
	if (state == HANDOVER_S_MOVED || state == HANDOVER_D_RUNNING) {
		return 0;
	}
	if (m->why.code == ERROR_NONE) {
		(void)error_set(&m->why, ERROR_MIGRATION, ECONNABORTED, "migration: given up");
	}
	if (e != NULL) {
		*e = m->why;
	}
	return m->why.sys != 0 ? -m->why.sys : -ECONNABORTED;
}

static void refuse_question(struct migration *m)
{
	struct migration_question *question = atomic_exchange(&m->question, NULL);

	if (question != NULL) {
		question->result = error_set(&question->error, ERROR_WRONG_STATE, ENOTCONN,
					     "migration: it is over");
		question->answered(question);
	}
}

int migration_run(struct migration *m, struct error *e)
{
	int r;

	if (!m->begun) {
		m->begun = true;
		m->heard_ns = loop_now_ns();
		feed(m, &(const struct handover_event){ .kind = HANDOVER_BEGIN });
	}
	for (;;) {
		if (!perform_all(m)) {
			return MIGRATION_LATER;
		}
		if (m->over || atomic_load(&m->left)) {
			break;
		}
		if (atomic_load(&m->called)) {
			answer_question(m);
		} else if (m->lost) {
			drain(m);
		} else {
			hear(m);
		}
	}
	if (!m->over) {
		(void)error_set(&m->why, ERROR_CANCELLED, ECANCELED, "migration: left");
	}
	r = result(m, e);
	refuse_question(m);
	return r;
}

/* --- others -------------------------------------------------------------------------------------- */

static void wake(struct migration *m)
{
	const uint64_t one = 1;

	atomic_store(&m->called, true);
	(void)!write(m->wake_fd, &one, sizeof(one));
}

static bool may_decide(enum handover_state state)
{
	return handover_state_info(state)->phase == HANDOVER_PHASE_DOUBT ||
	       state == HANDOVER_S_BLOCKED;
}

int migration_ask(struct migration *m, struct migration_question *question, struct error *e)
{
	struct migration_question *none = NULL;

	if (atomic_load(&m->closed)) {
		return error_set(e, ERROR_WRONG_STATE, ENOTCONN, "migration: it is over");
	}
	/* Nobody's message is left in its middle for one that comes too early. */
	if (question->kind != HANDOVER_CANCEL && !may_decide(migration_state(m))) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY,
				"migration: there is nothing to decide");
		return error_hint(e, "decide when it is in doubt; cancel it before");
	}
	question->result = 0;
	question->error = (struct error){ 0 };
	if (!atomic_compare_exchange_strong(&m->question, &none, question)) {
		return error_set(e, ERROR_BUSY, EBUSY, "migration: another decision is being made");
	}
	wake(m);
	/* It may have ended in between, and looked before. */
	if (atomic_load(&m->closed)) {
		refuse_question(m);
	}
	return 0;
}

void migration_leave(struct migration *m)
{
	atomic_store(&m->left, true);
	wake(m);
}

bool migration_is_called(const struct migration *m)
{
	return atomic_load(&m->called);
}

enum handover_state migration_state(const struct migration *m)
{
	return (enum handover_state)atomic_load(&m->state);
}

uint64_t migration_epoch(const struct migration *m)
{
	return atomic_load(&m->epoch);
}

uint64_t migration_word(const struct migration *m)
{
	return atomic_load(&m->shown_word);
}
