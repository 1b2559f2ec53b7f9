/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See migration_view.h. A decision is a client's request that the migration's own thread answers: one at a time; whoever asked may have
 * gone by then. The other side's words (an error's text) are in answers as text.
 */
#include "migration_view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/text.h"

static const char *const part_names[MIGRATION_PARTS] = {
	[MIGRATION_PART_PAUSE] = "pause",   [MIGRATION_PART_SAVE] = "save",
	[MIGRATION_PART_PAGES] = "pages",   [MIGRATION_PART_PREPARE] = "prepare",
	[MIGRATION_PART_COMMIT] = "commit",
};

const char *migration_view_advice(enum handover_state state)
{
	switch (state) {
	case HANDOVER_S_IN_DOUBT:
		return "the VM may run on the other side: look there. If it runs, decide give-up "
		       "here; if "
		       "that side has a word, decide run here with it";
	case HANDOVER_S_BLOCKED:
		return "the VM stays here, but its disks are in use by another process: end that, "
		       "and "
		       "decide run";
	case HANDOVER_D_IN_DOUBT:
		return "the VM may run on the other side: look there. If it runs, decide give-up "
		       "here; if "
		       "that side has given up, it has a word: decide run here with it";
	default:
		return NULL;
	}
}

/* The thread of the migration has answered. */
static void answered(void *arg)
{
	struct instance *instance = arg;
	struct migration_view *view = &instance->migration;
	struct instance_call *call = view->call;

	view->asking = false;
	view->call = NULL;
	if (call != NULL) {
		call->done(call, NULL, view->question.result < 0 ? &view->question.error : NULL);
	}
}

static void post_answer(struct migration_question *question)
{
	struct migration_view *view = container_of(question, struct migration_view, question);
	struct instance *instance = container_of(view, struct instance, migration);

	loop_post(instance->host->loop, &view->answered);
}

void migration_view_init(struct instance *instance)
{
	instance->migration.answered = (struct loop_post){ .run = answered, .arg = instance };
}

void migration_view_finish(struct instance *instance)
{
	loop_post_cancel(instance->host->loop, &instance->migration.answered);
	free(take_ptr(instance->migration.address));
}

void migration_view_begin(struct instance *instance, enum handover_role role, const char *address)
{
	struct migration_view *view = &instance->migration;

	free(view->address);
	view->address = strdup(address);
	view->known = true;
	view->role = role;
	view->m = NULL;
	view->state = role == HANDOVER_SOURCE ? HANDOVER_S_IDLE : HANDOVER_D_WAITING;
	view->epoch = view->word = 0;
	view->error = (struct error){ 0 };
	atomic_store(&view->passes, 0);
	atomic_store(&view->sent, 0);
	atomic_store(&view->left, 0);
	atomic_store(&view->rate, 0);
	atomic_store(&view->dirty_rate, 0);
	atomic_store(&view->expected_ns, 0);
	atomic_store(&view->throttle, 0);
	atomic_store(&view->throttle_most, 0);
	for (int i = 0; i < MIGRATION_PARTS; i++) {
		atomic_store(&view->parts_ns[i], 0);
	}
}

void migration_view_drive(struct instance *instance, struct migration *m)
{
	instance->migration.m = m;
}

static void take_last(struct migration_view *view)
{
	if (view->m != NULL) {
		view->state = migration_state(view->m);
		view->epoch = migration_epoch(view->m);
		view->word = migration_word(view->m);
	}
}

void migration_view_end(struct instance *instance, const struct error *why)
{
	struct migration_view *view = &instance->migration;

	take_last(view);
	view->m = NULL;
	if (why != NULL) {
		view->error = *why;
	}
}

void migration_view_forget(struct instance *instance, const struct instance_call *call)
{
	if (instance->migration.call == call) {
		instance->migration.call = NULL;
	}
}

/* --- decisions ----------------------------------------------------------------------------------- */

static int ask(struct instance *instance, enum handover_event_kind kind, uint64_t word,
	       struct error *e)
{
	struct migration_view *view = &instance->migration;
	int r;

	if (view->m == NULL) {
		(void)error_set(e, ERROR_WRONG_STATE, ENOTCONN, "there is no migration under way");
		return error_hint(e, "GET /migration shows the last one");
	}
	if (view->asking) {
		return error_set(e, ERROR_BUSY, EBUSY, "another decision is being made");
	}
	view->question =
		(struct migration_question){ .kind = kind, .word = word, .answered = post_answer };
	view->asking = true;
	r = migration_ask(view->m, &view->question, e);
	view->asking = r == 0;
	return r;
}

int migration_view_cancel(struct instance *instance, struct error *e)
{
	return ask(instance, HANDOVER_CANCEL, 0, e);
}

static int decide_kind(const struct migration_decision *decision, enum handover_event_kind *kind,
		       uint64_t *word, struct error *e)
{
	const char *text = decision->word;

	*word = 0;
	if (decision->decision != MIGRATION_DECIDE_RUN) {
		*kind = decision->decision == MIGRATION_DECIDE_CANCEL ? HANDOVER_CANCEL
								      : HANDOVER_DECIDE_GIVE_UP;
		return text == NULL && !decision->vouched
			       ? 0
			       : error_set(e, ERROR_CONFIG, EINVAL,
					   "a word, or that you vouch, is for decision run");
	}
	if (text != NULL && decision->vouched) {
		return error_set(e, ERROR_CONFIG, EINVAL,
				 "run: either a word, or you vouch, not both");
	}
	*kind = text == NULL ? HANDOVER_DECIDE_RUN_VOUCHED : HANDOVER_DECIDE_RUN;
	if (text != NULL && text_to_number(text, strlen(text), 16, word) != 0) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "'%.40s' is not a word of a migration",
				text);
		return error_hint(
			e, "'vmm migrate --status' of the other side shows it: 16 digits and "
			   "letters");
	}
	return 0;
}

/* Without a word, of one that is blocked, nobody has to vouch for anything. */
static int check_vouched(const struct instance *instance, const struct migration_decision *decision,
			 struct error *e)
{
	const struct migration_view *view = &instance->migration;

	if (decision->decision != MIGRATION_DECIDE_RUN || decision->word != NULL ||
	    decision->vouched || view->m == NULL ||
	    migration_state(view->m) == HANDOVER_S_BLOCKED) {
		return 0;
	}
	(void)error_set(e, ERROR_CONFIG, EINVAL, "run: the other side's word is missing");
	return error_hint(
		e, "'vmm migrate --status' there shows it. If that side is gone for good, and "
		   "the VM cannot run anywhere else, vouch for that");
}

int instance_decide(struct instance *instance, const struct asked *asked, struct error *e)
{
	const struct migration_decision *decision = asked->request->object;
	enum handover_event_kind kind = HANDOVER_CANCEL;
	uint64_t word;
	int r = decide_kind(decision, &kind, &word, e);

	r = r == 0 ? check_vouched(instance, decision, e) : r;
	r = r == 0 ? ask(instance, kind, word, e) : r;
	if (r < 0) {
		return r;
	}
	instance->migration.call = asked->call;
	return CHANGE_PENDING;
}

/* --- the answer ---------------------------------------------------------------------------------- */

static bool put_downtime(const struct migration_view *view, json_t *object)
{
	json_t *parts = json_object();
	bool known = false, good = parts != NULL;

	for (int i = 0; good && i < MIGRATION_PARTS; i++) {
		uint64_t ns = atomic_load(&view->parts_ns[i]);

		known |= ns != 0;
		good = json_put_number(parts, part_names[i], ns / 1000);
	}
	if (!good || !known) {
		json_decref(parts);
		return good;
	}
	return json_put(object, "downtime_us", parts);
}

static bool put_numbers(const struct migration_view *view, json_t *object)
{
	const uint64_t expected = atomic_load(&view->expected_ns);
	bool good =
		json_put_number(object, "passes", atomic_load(&view->passes)) &&
		json_put_number(object, "sent_bytes", atomic_load(&view->sent)) &&
		json_put_number(object, "left_bytes", atomic_load(&view->left)) &&
		json_put_number(object, "bytes_per_second", atomic_load(&view->rate)) &&
		json_put_number(object, "dirty_bytes_per_second", atomic_load(&view->dirty_rate)) &&
		json_put_number(object, "throttle_percent", atomic_load(&view->throttle)) &&
		json_put_number(object, "throttle_most_percent", atomic_load(&view->throttle_most));

	if (good && expected != 0) {
		good = json_put_number(object, "expected_downtime_us", expected / 1000);
	}
	return good && put_downtime(view, object);
}

static bool put_words(const struct migration_view *view, json_t *object)
{
	const char *decide = migration_view_advice(view->state);
	char word[20];
	bool good = true;

	if (view->word != 0) {
		(void)snprintf(word, sizeof(word), "%016" PRIx64, view->word);
		good = json_put(object, "word", json_string(word));
	}
	if (good && decide != NULL && view->m != NULL) {
		good = json_put(object, "decide", json_string(decide));
	}
	if (good && view->error.code != ERROR_NONE) {
		const char *hint = view->error.hint[0] != '\0' ? view->error.hint : NULL;

		good = json_put(object, "error",
				json_pack("{s:s, s:s, s:s*}", "code",
					  error_code_name(view->error.code), "message",
					  view->error.msg, "hint", hint));
	}
	return good;
}

json_t *answer_migration(struct instance *instance)
{
	struct migration_view *view = &instance->migration;
	const struct handover_state_info *info;
	json_t *object;

	if (!view->known) {
		return json_pack("{s:s}", "state", "none");
	}
	take_last(view);
	info = handover_state_info(view->state);
	object = json_pack("{s:s, s:s, s:b, s:s*, s:I}", "role",
			   view->role == HANDOVER_SOURCE ? "source" : "destination", "state",
			   info->name, "under_way", view->m != NULL, "address", view->address,
			   "epoch", (json_int_t)view->epoch);
	if (object == NULL || !put_numbers(view, object) || !put_words(view, object)) {
		json_decref(object);
		return NULL;
	}
	return object;
}

void migration_view_answer_doubt(struct change *change, enum handover_state state)
{
	const char *advice = migration_view_advice(state);
	struct instance_call *call = change->call;
	struct error e = { 0 };

	if (call == NULL || advice == NULL) {
		return;
	}
	(void)error_set(&e, ERROR_MIGRATION, EINPROGRESS, "the migration is %s, and the VM paused",
			state == HANDOVER_S_BLOCKED ? "over, but blocked" : "in doubt");
	(void)error_hint(&e, "%s", advice);
	change->call = NULL;
	change->answered = true;
	call->done(call, NULL, &e);
}

void migration_view_answer_moved(struct instance *instance, struct change *change)
{
	struct instance_call *call = change->call;

	if (call != NULL) {
		change->call = NULL;
		change->answered = true;
		call->done(call, answer_migration(instance), NULL);
	}
}
