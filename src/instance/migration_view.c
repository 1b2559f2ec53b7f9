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
#include "vmm/migration_address.h"
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

/* The same of memory that is not there yet. */
static const char *memory_advice(const struct migration_view *view)
{
	switch (atomic_load(&view->memory)) {
	case MIGRATION_MEMORY_WAITS:
		return "the VM has moved, and lacks memory that is here: when the other side can "
		       "be reached, decide resume. If it is gone for good, so is the VM: decide "
		       "give-up";
	case MIGRATION_MEMORY_LOST:
		return view->role == HANDOVER_SOURCE
			       ? NULL
			       : "the VM stands still, because memory is missing that the other "
				 "side has: resume it there. If that side is gone for good, so is "
				 "the VM: decide give-up";
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
	atomic_store(&view->may_switch, false);
	atomic_store(&view->switches, false);
	atomic_store(&view->memory, MIGRATION_MEMORY_NONE);
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

static int give_up_memory(struct page_sink *sink, struct page_source *source)
{
	struct error why = { 0 };

	if (source != NULL) {
		page_source_leave(source, true);
		return 0;
	}
	(void)error_set(&why, ERROR_MIGRATION, ECONNABORTED,
			"memory that this VM lacked was given up");
	(void)error_hint(&why, "start it again from its disks");
	page_sink_lose(sink, &why);
	return 0;
}

static int resume_memory(const struct migration_view *view, const char *address, struct error *e)
{
	struct page_source *source = atomic_load(&view->source);
	int r = address != NULL ? migration_address_check(address, view->insecure, e) : 0;

	if (r == 0 && source == NULL) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY,
				"no memory of this VM waits here for the other side");
		return error_hint(e, "it is the source that resumes; GET /migration shows which "
				     "side this is");
	}
	return r == 0 ? page_source_resume(source, address, e) : r;
}

static int want_switch(struct migration_view *view, struct error *e)
{
	if (view->m == NULL || !atomic_load(&view->may_switch)) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY,
				"there is no migration that could go on as post-copy");
		return error_hint(e, "one that was begun with at_limit postcopy can");
	}
	atomic_store(&view->switches, true);
	return 0;
}

/* What is decided of memory; 1: it is about something else. */
static int decide_memory(struct migration_view *view, const struct migration_decision *decision,
			 struct error *e)
{
	struct page_source *source = atomic_load(&view->source);
	struct page_sink *sink = atomic_load(&view->sink);

	switch (decision->decision) {
	case MIGRATION_DECIDE_SWITCH:
		return want_switch(view, e);
	case MIGRATION_DECIDE_RESUME:
		return resume_memory(view, decision->address, e);
	case MIGRATION_DECIDE_GIVE_UP:
		return source != NULL || sink != NULL ? give_up_memory(sink, source) : 1;
	default:
		return 1;
	}
}

int instance_decide(struct instance *instance, const struct asked *asked, struct error *e)
{
	const struct migration_decision *decision = asked->request->object;
	enum handover_event_kind kind = HANDOVER_CANCEL;
	uint64_t word;
	int r = decide_memory(&instance->migration, decision, e);

	if (r != 1) {
		return r;
	}
	r = decide_kind(decision, &kind, &word, e);
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

/* Of a VM that has moved before it. */
static bool put_memory(struct migration_view *view, json_t *object)
{
	static const char *const names[] = {
		[MIGRATION_MEMORY_COMES] = "comes",
		[MIGRATION_MEMORY_LOST] = "lost",
		[MIGRATION_MEMORY_WAITS] = "waits",
	};
	const struct page_source *source = atomic_load(&view->source);
	const struct page_sink *sink = atomic_load(&view->sink);
	const int memory = atomic_load(&view->memory);

	if (source != NULL) {
		atomic_store(&view->left, page_source_left(source));
	} else if (sink != NULL) {
		atomic_store(&view->left, page_sink_left(sink));
	}
	return memory == MIGRATION_MEMORY_NONE ||
	       json_put(object, "memory", json_string(names[memory]));
}

static bool put_words(const struct migration_view *view, json_t *object)
{
	const char *const memory = memory_advice(view);
	const char *decide = memory != NULL ? memory : migration_view_advice(view->state);
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
	if (object == NULL || !put_memory(view, object) || !put_numbers(view, object) ||
	    !put_words(view, object)) {
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

void migration_view_answer_memory(struct change *change)
{
	struct instance_call *call = change->call;
	struct error e = { 0 };

	if (call == NULL) {
		return;
	}
	(void)error_set(&e, ERROR_MIGRATION, EINPROGRESS,
			"the migration is over, but for memory, and what that goes over is lost");
	(void)error_hint(&e, "vmm migrate --resume goes on with it");
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
