/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Further connections for memory: see migrate_channels.h. The source's threads are started by the machine thread, in the filter of a job; the
 * destination's while the VM is made. Disks that move, the state and all that decides anything go over the hand-over's own connection.
 *
 * The client controls how many there are, the other side whether it takes them; what an offer says is the other side's.
 */
#include "migrate_channels.h"

#include <errno.h>

#include "migrate_task.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/migration_address.h"
#include "vmm/sandbox.h"

/* Less than that a second is no work for another processor; and each sends a piece before it waits. */
#define BANDWIDTH_EACH MIB(4)
/* Less than that is gone before the others are awake. */
#define CHANNELS_FROM MIB(2)

/* --- the source ---------------------------------------------------------------------------------- */

int migrate_channels_offer(struct migrate_task *task, json_t **ret, struct error *e)
{
	const struct migrate_request *request = task->request;
	struct channels_offer *offer = &task->channels_offer;
	json_t *token;
	uint64_t count = request->connections;
	int r;

	*ret = NULL;
	if (request->bandwidth != 0) {
		count = MIN(count, request->bandwidth / BANDWIDTH_EACH);
	}
	if (task->upgrade != NULL || count <= 1) {
		return 0;
	}
	offer->count = (uint32_t)count - 1;
	r = offering_draw_token(offer->token, &token, e);
	if (r < 0) {
		return r;
	}
	*ret = json_pack("{s:I, s:o}", "count", (json_int_t)offer->count, "token", token);
	return *ret != NULL ? 0 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
}

static int connect_channel(void *arg, struct error *e)
{
	const struct migrate_task *task = arg;

	return migration_address_connect(task->request->address, task->request->insecure, e);
}

static void note_sent(void *arg, uint32_t len)
{
	struct migrate_task *task = arg;

	atomic_fetch_add(&task->pass_wire, len);
	migrate_keep_to_bandwidth(task);
}

static bool is_called(void *arg)
{
	const struct migrate_task *task = arg;

	return migration_is_called(task->m);
}

/* The machine thread may start threads. */
static int start(void *arg, struct guest_memory *mem, struct error *e)
{
	struct migrate_task *task = arg;

	(void)mem;
	return channel_source_start(task->channels, migrate_enter_job, task->instance, e);
}

int migrate_channels_begin(struct migrate_task *task, struct error *e)
{
	struct channel_source_config config = { .count = task->channels_offer.count,
						.epoch = task->epoch,
						.stall_ns = task->request->silence_ns,
						.pages = &task->pages,
						.connect = connect_channel,
						.sent = note_sent,
						.called = is_called,
						.arg = task };
	int r;

	if (config.count == 0) {
		return 0;
	}
	memcpy(config.token, task->channels_offer.token, sizeof(config.token));
	r = channel_source_create(&task->channels, &config, e);
	r = r == 0 ? channel_source_connect(task->channels, e) : r;
	if (r == 0) {
		r = asking_ask(&task->asking,
			       &(const struct vm_operation){ .type = VM_MEMORY,
							     .memory = { start, task } },
			       e);
	}
	return r;
}

int migrate_channels_send(struct migrate_task *task,
			  int (*send)(void *arg, const uint8_t *payload, uint32_t len,
				      struct error *e),
			  struct error *e)
{
	uint8_t payload[8];
	uint64_t number;
	int r;

	/* With the first pass the other side knows that they are all there. */
	if (task->channels == NULL ||
	    (task->pass != 0 && migration_pages_left(&task->pages) < CHANNELS_FROM)) {
		return migration_pages_send(&task->pages, send, task, e);
	}
	r = channel_source_send(task->channels, send, task, &number, e);
	if (r < 0) {
		return r;
	}
	store_le64(payload, number);
	return migration_send(task->m, HANDOVER_GATHER, payload, sizeof(payload), e);
}

/* --- the destination ----------------------------------------------------------------------------- */

int channels_read_offer(struct channels_offer *ret, const json_t *json, uint32_t most, bool single,
			struct error *e)
{
	const json_int_t count = json_integer_value(json_object_get(json, "count"));
	const char *token = json_string_value(json_object_get(json, "token"));

	*ret = (struct channels_offer){ 0 };
	if (json == NULL) {
		return 0;
	}
	if (count < 1 || count > MIGRATION_CHANNELS_MAX ||
	    !offering_read_token(token, ret->token)) {
		(void)error_set(e, ERROR_MIGRATION, EPROTO,
				"the offer's further connections are none");
		return error_hint(e, "use the same vmm on both sides");
	}
	if (single) {
		(void)error_set(e, ERROR_NOT_SUPPORTED, ENOTSUP,
				"there is one connection, and memory wants to come over %d",
				(int)count + 1);
		return error_hint(e, "migrate with --connections 1, or have vmm receive wait at "
				     "unix:PATH or tcp:HOST:PORT");
	}
	if (count + 1 > most) {
		(void)error_set(
			e, ERROR_CONFIG, E2BIG,
			"memory wants to come over %d connections, more than the %u allowed "
			"here",
			(int)count + 1, most);
		return error_hint(e, "vmm receive: --connections allows more, up to %d",
				  1 + MIGRATION_CHANNELS_MAX);
	}
	ret->count = (uint32_t)count;
	return 0;
}

static int enter_pages(void *arg, struct error *e)
{
	const struct instance *instance = arg;

	return sandbox_enter_thread(instance->settings.sandbox, SANDBOX_ROLE_PAGES, e);
}

int channels_receive(struct channel_sink **ret, const struct channels_offer *offer,
		     struct instance *instance, struct channel_sink_config *config, struct error *e)
{
	memcpy(config->token, offer->token, sizeof(config->token));
	config->count = offer->count;
	config->enter = enter_pages;
	config->arg = instance;
	return channel_sink_create(ret, config, e);
}

static void pass_listener(struct channel_sink *sink, struct page_sink *pages)
{
	int listener = channel_sink_take_listener(sink);

	if (listener >= 0 && pages != NULL) {
		page_sink_listen(pages, listener);
	} else {
		close_fd(&listener);
	}
}

static bool receiver_is_called(void *arg)
{
	return migration_is_called(arg);
}

int channels_gather(struct channel_sink *sink, const struct handover_frame *frame,
		    struct migration *m, struct page_sink *pages, struct error *e)
{
	int r;

	if (sink == NULL) {
		return error_set(e, ERROR_MIGRATION, EPROTO,
				 "there are no further connections that memory could come over");
	}
	r = channel_sink_gather(sink, load_le64(frame->payload), receiver_is_called, m, e);
	if (r == 0) {
		pass_listener(sink, pages);
	}
	return r;
}

void channels_end(struct channel_sink *sink, struct page_sink *pages)
{
	if (sink != NULL) {
		channel_sink_stop(sink);
		pass_listener(sink, pages);
	}
}
