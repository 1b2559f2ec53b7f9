/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM comes from another vmm: the destination's side of vmm/migration.h. It is a start (start.c) in three steps:
 *
 *	waiting		a thread, within the filter of a job before it accepts anybody, listens, and hears an offer. A client that says
 *			nothing, or nonsense, is closed, and the next one is listened to
 *	making		the machine is built of the offer's configuration, the offer's state is tried, and the VM is started, paused:
 *			whatever is not possible here is known before a page has come, and all threads are there
 *	receiving	a job: pages into guest memory, the state, and the hand-over; what it needs of the VM it asks of the machine thread
 *
 * A migration that fails after that ends the instance: within its filter main can make no other VM.
 *
 * All that comes is the other side's, and hostile. Files that its configuration names are opened only if the client that asked for this
 * allows their folder, or has named others in their place; what network cards are on here that client always says. Memory and state
 * cannot be larger than what the configuration and the offer's state have, which were made before.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "asking.h"
#include "migrate_channels.h"
#include "migrate_postcopy.h"
#include "moving_disks.h"
#include "receive_rules.h"
#include "offering.h"
#include "upgrade.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/migration_address.h"
#include "vmm/migration_pages.h"
#include "vmm/sandbox.h"

LOG_DOMAIN("migration");

/* How soon who waits for a client sees that nobody wants that any more. */
#define LOOK_MS 100
/* The state may have grown since the offer, by requests that devices have noted. */
#define STATE_GROWTH MIB(1)

struct receive {
	struct instance *instance;
	char *address, *allow;
	uint64_t silence_ns, memory_max;
	uint32_t connections;	 /* in all, at most */
	json_int_t uptime_ns;	 /* of the VM, as the other side says */
	int listener;		 /* -1: nobody is listened to any more */
	bool upgrades;		 /* it is to be one in place, from one client */
	struct upgrade *upgrade; /* NULL: nothing has been passed */
	int life_fd;		 /* as struct receive_socket has it */
	bool single;		 /* the listener is the one client itself */
	_Atomic bool cancelled;
	pthread_mutex_t lock; /* guards `m` against who cancels, until the VM is there */
	struct migration *m;
	uint8_t *offer_state;
	struct offer offer;
	struct moving_disks disks;

	/* The job's. */
	struct change *change;
	struct asking asking;
	bool asks;	       /* `asking` has been made */
	struct loop_post told; /* to main: somebody has to decide */
	struct job *job;
	struct guest_memory *mem;
	struct state_buf state;
	struct compressor unpacks;
	uint64_t received;
	uint8_t token[PAGE_SERVICE_TOKEN];
	struct channels_offer channels_offer;
	struct channel_sink *channels; /* NULL: memory comes over the one connection */
	struct page_sink *sink; /* NULL: memory comes before the VM runs; the memory's otherwise */
	bool lacks;		/* pages are missing when it does */
	/* It has ended with this while an operation is under way. */
	bool result_known;
	int result;
	struct error error;
};

/* "/a/." and "/a/" are "/a". */
static void trim_folder(char *folder)
{
	size_t len = strlen(folder);

	while (len > 1 &&
	       (folder[len - 1] == '/' || (folder[len - 1] == '.' && folder[len - 2] == '/'))) {
		folder[--len] = '\0';
	}
}

static int open_listener(struct receive *receive, const struct receive_request *request,
			 struct error *e)
{
	const struct receive_socket *given = request->socket;

	receive->life_fd = given != NULL ? given->life_fd : -1;
	receive->single = given != NULL && !given->listens;
	receive->listener =
		given != NULL ? given->fd
			      : migration_address_listen(request->address, request->insecure, e);
	return MIN(receive->listener, 0);
}

static void stop_listening(struct receive *receive)
{
	close_fd(&receive->listener);
	close_fd(&receive->life_fd);
}

int receive_create(struct receive **ret, struct instance *instance,
		   const struct receive_request *request, struct error *e)
{
	struct receive *receive;
	int r;

	if (request->allow != NULL && request->allow[0] != '/') {
		return error_set(e, ERROR_CONFIG, EINVAL, "allow: '%.200s' is not an absolute path",
				 request->allow);
	}
	receive = calloc(1, sizeof(*receive));
	if (receive == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");
	}
	(void)pthread_mutex_init(&receive->lock, NULL);
	receive->instance = instance;
	receive->silence_ns = request->silence_ns;
	receive->memory_max = request->memory_max;
	receive->connections =
		request->connections != 0 ? request->connections : 1 + MIGRATION_CHANNELS_MAX;
	receive->disks.folder = -1;
	receive->upgrades = request->upgrade;
	r = open_listener(receive, request, e);
	if (r < 0) {
		receive_destroy(receive);
		return r;
	}
	receive->address = strdup(request->address);
	receive->allow = request->allow != NULL ? strdup(request->allow) : NULL;
	if (receive->address == NULL || (request->allow != NULL && receive->allow == NULL)) {
		receive_destroy(receive);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");
	}
	if (receive->allow != NULL) {
		trim_folder(receive->allow);
	}
	r = moving_disks_init(&receive->disks, request->disks_to, request->disks_max, e);
	if (r < 0) {
		receive_destroy(receive);
		return r;
	}
	migration_view_begin(instance, HANDOVER_DESTINATION, request->address);
	*ret = receive;
	return 0;
}

static void forget_offer(struct receive *receive)
{
	free(take_ptr(receive->offer.config));
	free(take_ptr(receive->offer.cmdline));
	json_decref(receive->offer.disk_bytes);
	free(take_ptr(receive->offer_state));
	moving_disks_forget_offer(&receive->disks);
	receive->offer = (struct offer){ 0 };
}

void receive_destroy(struct receive *receive)
{
	if (receive == NULL) {
		return;
	}
	if (receive->asks) {
		loop_post_cancel(receive->instance->host->loop, &receive->told);
		asking_finish(&receive->asking);
	}
	channel_sink_destroy(receive->channels);
	migration_destroy(receive->m);
	stop_listening(receive);
	forget_offer(receive);
	moving_disks_finish(&receive->disks);
	upgrade_destroy(receive->upgrade);
	state_buf_finish(&receive->state);
	compressor_finish(&receive->unpacks);
	(void)pthread_mutex_destroy(&receive->lock);
	free(receive->address);
	free(receive->allow);
	free(receive);
}

void receive_cancel(struct receive *receive)
{
	SCOPED_LOCK(&receive->lock);

	atomic_store(&receive->cancelled, true);
	if (receive->m != NULL) {
		migration_leave(receive->m);
	}
}

/* --- the offer ----------------------------------------------------------------------------------- */

static int __cold bad_offer(const char *why, struct error *e)
{
	(void)error_set(e, ERROR_MIGRATION, EPROTO, "the offer %s", why);
	return error_hint(e, "use the same vmm on both sides");
}

/* The processor's features and all else of the state are looked at when that is tried. */
static int read_offer(struct receive *receive, const json_t *json, struct error *e)
{
	const char *config = json_string_value(json_object_get(json, "config"));
	const char *about = json_string_value(json_object_get(json, "about"));
	const json_t *token = json_object_get(json, "postcopy");
	struct offer *offer = &receive->offer;
	int r;

	if (config == NULL || about == NULL) {
		return bad_offer("has no configuration", e);
	}
	if (token != NULL && !offering_read_token(json_string_value(token), receive->token)) {
		return bad_offer("has a token that is none", e);
	}
	if (token != NULL && receive->single) {
		(void)error_set(e, ERROR_NOT_SUPPORTED, ENOTSUP,
				"there is one connection, and post-copy needs more, and new ones");
		return error_hint(e, "have vmm receive wait at unix:PATH or tcp:HOST:PORT");
	}
	r = channels_read_offer(&receive->channels_offer, json_object_get(json, "channels"),
				receive->connections, receive->single, e);
	if (r < 0) {
		return r;
	}
	offer->postcopy = token != NULL;
	offer->config = strdup(config);
	offer->cmdline = saved_cmdline(about);
	offer->paused = json_is_true(json_object_get(json, "paused"));
	offer->state = receive->offer_state;
	offer->disk_bytes = json_incref(json_object_get(json, "disk_bytes"));
	receive->uptime_ns = json_integer_value(json_object_get(json, "uptime_ns"));
	if (offer->config == NULL || offer->cmdline == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");
	}
	return moving_disks_read(&receive->disks, json_object_get(json, "moving_disks"),
				 offer->disk_bytes, e);
}

static int take_offer(struct receive *receive, const struct handover_frame *frame, struct error *e)
{
	auto_json json_t *json = NULL;
	const uint8_t *payload = frame->payload;
	uint32_t len;
	int r;

	if (frame->len < OFFER_JSON_LENGTH) {
		return bad_offer("is cut off", e);
	}
	len = load_le32(payload);
	if (len > frame->len - OFFER_JSON_LENGTH) {
		return bad_offer("is cut off", e);
	}
	receive->offer.state_len = frame->len - OFFER_JSON_LENGTH - len;
	receive->offer_state = malloc(receive->offer.state_len + 1);
	if (receive->offer_state == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");
	}
	memcpy(receive->offer_state, payload + OFFER_JSON_LENGTH + len, receive->offer.state_len);
	r = json_parse(&json, (const char *)payload + OFFER_JSON_LENGTH, len, e);
	return r == 0 ? read_offer(receive, json, e) : r;
}

/* --- acts ---------------------------------------------------------------------------------------- */

static int ask(struct receive *receive, enum vm_operation_type type, struct error *e)
{
	return asking_ask(&receive->asking, &(const struct vm_operation){ .type = type }, e);
}

static int store_state(struct receive *receive, const struct handover_frame *frame, struct error *e)
{
	const size_t most = receive->offer.state_len + STATE_GROWTH;
	uint8_t *to;

	if (frame->len > most - receive->state.len) {
		return error_set(e, ERROR_MIGRATION, EPROTO,
				 "the state is larger than the offer's by more than %llu bytes",
				 (unsigned long long)STATE_GROWTH);
	}
	to = state_buf_grow(&receive->state, frame->len);
	if (to == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");
	}
	memcpy(to, frame->payload, frame->len);
	return 0;
}

static void show_received(const struct receive *receive, const char *what)
{
	uint64_t bytes = receive->received;

	if (receive->channels != NULL) {
		bytes += channel_sink_received(receive->channels);
	}
	atomic_store(&receive->instance->migration.sent, bytes);
	job_progress(receive->job, what, bytes, 0);
}

static int store(struct receive *receive, const struct handover_frame *frame, struct error *e)
{
	uint64_t bytes = 0;
	int r;

	if (frame->message == HANDOVER_STATE) {
		return store_state(receive, frame, e);
	}
	if (frame->message == HANDOVER_GATHER) {
		r = channels_gather(receive->channels, frame, receive->m, receive->sink, e);
		show_received(receive, "memory");
		return r;
	}
	if (receive->sink != NULL && page_missing_is(frame->payload, frame->len)) {
		receive->lacks = true;
		return page_sink_miss(receive->sink, frame->payload, frame->len, e);
	}
	if (receive->lacks) {
		return error_set(e, ERROR_MIGRATION, EPROTO,
				 "pages have come after those that are missing");
	}
	if (frame->placed) {
		migration_pages_placed(receive->mem, frame->payload, &bytes);
		r = 0;
	} else if (frame->message == HANDOVER_BLOCKS) {
		r = migration_blocks_store(&receive->disks.blocks, frame->payload, frame->len,
					   &bytes, e);
	} else {
		r = migration_pages_store(receive->mem, &receive->unpacks, frame->payload,
					  frame->len, &bytes, e);
	}
	receive->received += bytes;
	show_received(receive, frame->message == HANDOVER_BLOCKS ? "disks" : "memory");
	return r;
}

static int load(struct receive *receive, struct error *e)
{
	const struct vm_operation wanted = {
		.type = VM_LOAD,
		.load = { .state = receive->state.data, .state_len = receive->state.len },
	};
	const struct vm_operation taken = {
		.type = VM_MEMORY,
		.memory = { .use = upgrade_adopt, .arg = receive->upgrade },
	};
	int r = migration_blocks_sync(&receive->disks.blocks, e);

	channels_end(receive->channels, receive->sink);
	job_progress(receive->job, "load", receive->received, 0);
	if (r == 0 && receive->upgrade != NULL && receive->upgrade->passes) {
		r = asking_ask(&receive->asking, &taken, e);
	} else if (r == 0 && receive->lacks) {
		r = page_sink_arm(receive->sink, e);
	} else if (receive->sink != NULL) {
		page_sink_stop(receive->sink);
	}
	return r == 0 ? asking_ask(&receive->asking, &wanted, e) : r;
}

/* Main. */
static void add_event(const struct receive *receive, const char *why)
{
	event_log_add(&receive->instance->events, "migration",
		      json_pack("{s:s, s:s, s:s*}", "role", "destination", "state",
				handover_state_info(migration_state(receive->m))->name, "error",
				why));
}

static void told(void *arg)
{
	add_event(arg, NULL);
}

static int tell(struct receive *receive)
{
	if (upgrade_decide(receive->upgrade, receive->m)) {
		return 0;
	}
	loop_post(receive->instance->host->loop, &receive->told);
	log_warn("in doubt: GET /migration says what has to be decided");
	job_progress(receive->job, "in doubt", receive->received, 0);
	return 0;
}

static int act(void *arg, enum handover_action_kind what, const struct handover_frame *frame,
	       struct error *e)
{
	struct receive *receive = arg;
	int r;

	switch (what) {
	case HANDOVER_CHECK:
		r = take_offer(receive, frame, e);
		return r == 0 ? MIGRATION_LATER : r;
	case HANDOVER_STORE:
		return store(receive, frame, e);
	case HANDOVER_LOAD:
		return load(receive, e);
	case HANDOVER_TAKE_LOCKS:
		return ask(receive, VM_TAKE_DISKS, e);
	case HANDOVER_RELEASE_LOCKS:
		return ask(receive, VM_RELEASE_DISKS, e);
	case HANDOVER_RUN:
		return upgrade_go_on(receive->upgrade, &receive->asking, !receive->offer.paused, e);
	case HANDOVER_TELL_DOUBT:
		return tell(receive);
	default:
		return 0;
	}
}

/* Nothing that this side says has more than the migration itself knows. */
static void say(void *arg, struct handover_frame *frame)
{
	(void)arg;
	frame->payload = NULL;
	frame->len = 0;
}

static uint8_t *place(void *arg, const struct handover_frame *frame)
{
	struct receive *receive = arg;

	return migration_pages_place(receive->mem, frame->payload, frame->len);
}

static const struct migration_ops ops = { .act = act, .say = say, .place = place };

/* --- waiting ------------------------------------------------------------------------------------- */

/* A client, or negative: nobody wants one any more. Who is to be upgraded does not come late. */
static int wait_for_client(struct receive *receive, struct error *e)
{
	const uint64_t until = receive->upgrades ? loop_now_ns() + receive->silence_ns : UINT64_MAX;

	while (!receive->single) {
		struct pollfd fd = { .fd = receive->listener, .events = POLLIN };
		int client;

		if (atomic_load(&receive->cancelled)) {
			return error_set(e, ERROR_CANCELLED, ECANCELED, "receive: cancelled");
		}
		if (poll(&fd, 1, LOOK_MS) <= 0) {
			if (loop_now_ns() < until) {
				continue;
			}
			return error_set(e, ERROR_MIGRATION, ETIMEDOUT,
					 "upgrade: the VM's process has not come");
		}
		client = accept4(receive->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client >= 0) {
			return client;
		}
		/* A client that has gone again; anything else would come again at once. */
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
			return error_set_sys(e, ERROR_MIGRATION, errno, "receive: accept");
		}
	}
	return take_fd(&receive->listener);
}

static int begin_with(struct receive *receive, int client, struct error *e)
{
	const struct migration_config config = { .role = HANDOVER_DESTINATION,
						 .fd = client,
						 .stall_ns = receive->silence_ns,
						 .ops = &ops,
						 .arg = receive };
	int r = receive->upgrades ? upgrade_hear(&receive->upgrade, receive->instance, client,
						 receive->silence_ns, e)
				  : 0;

	if (r < 0) {
		(void)close(client);
		return r;
	}
	SCOPED_LOCK(&receive->lock);
	return migration_create(&receive->m, &config, e);
}

static void end_client(struct receive *receive)
{
	SCOPED_LOCK(&receive->lock);

	migration_destroy(take_ptr(receive->m));
	forget_offer(receive);
}

/* Until one has made an offer that is one. */
static int hear_offers(struct receive *receive, struct error *e)
{
	for (;;) {
		struct error why = { 0 };
		int client = wait_for_client(receive, e);
		int r;

		if (client < 0) {
			return client;
		}
		r = begin_with(receive, client, &why);
		if (r == 0) {
			r = migration_run(receive->m, &why);
		}
		if (r == MIGRATION_LATER) {
			return 0;
		}
		end_client(receive);
		if (receive->single || receive->upgrades) {
			*e = why;
			if (receive->single) {
				(void)error_prefix(e, "no VM comes");
			}
			return r < 0 ? r : -EPROTO;
		}
		log_warn("a client has made no offer: %s", why.msg);
	}
}

int receive_offer(struct receive *receive, const struct offer **offer, struct error *e)
{
	const enum sandbox_mode mode = receive->instance->settings.sandbox;
	int r = sandbox_enter_thread(mode, SANDBOX_ROLE_RECEIVE, e);

	if (r == 0) {
		log_info("waits for a VM at %s", receive->address);
		r = hear_offers(receive, e);
	}
	if (r < 0 || (!receive->offer.postcopy && receive->channels_offer.count == 0)) {
		stop_listening(receive);
	}
	*offer = &receive->offer;
	return r;
}

static int enter_pages(void *arg, struct error *e)
{
	const struct instance *instance = arg;

	return sandbox_enter_thread(instance->settings.sandbox, SANDBOX_ROLE_PAGES, e);
}

int receive_make_sink(struct receive *receive, struct guest_memory *mem, struct error *e)
{
	struct page_sink_config config = { .stall_ns = receive->silence_ns,
					   .enter = enter_pages,
					   .arg = receive->instance };
	int r = 0;

	if (receive->offer.postcopy) {
		memcpy(config.token, receive->token, sizeof(config.token));
		r = page_sink_create(&receive->sink, mem, &config, e);
	}
	if (r == 0 && receive->channels_offer.count != 0) {
		struct channel_sink_config channels = { .epoch = migration_epoch(receive->m),
							.stall_ns = receive->silence_ns,
							.mem = mem,
							.listener = take_fd(&receive->listener) };

		return channels_receive(&receive->channels, &receive->channels_offer,
					receive->instance, &channels, e);
	}
	if (r == 0 && receive->sink != NULL) {
		page_sink_listen(receive->sink, take_fd(&receive->listener));
	}
	return r;
}

/* --- what may be opened -------------------------------------------------------------------------- */

struct upgrade *receive_upgrade(const struct receive *receive)
{
	return receive->upgrade;
}

int receive_check_config(const struct receive *receive, const struct vm_config *vm,
			 const struct snapshot_load_request *request, struct error *e)
{
	const struct receive_rules rules = { .allow = receive->allow,
					     .memory_max = receive->memory_max,
					     .anything = receive->upgrade != NULL };

	return receive_rules_check(&rules, vm, request, e);
}

int receive_check_disks(const struct receive *receive, struct vm *vm, struct error *e)
{
	return receive_rules_compare_disks(receive->offer.disk_bytes, vm, e);
}

int receive_override_disks(const struct receive *receive, const json_t *overrides, json_t **ret,
			   struct error *e)
{
	return moving_disks_override(&receive->disks, overrides, ret, e);
}

int receive_make_disks(struct receive *receive, struct error *e)
{
	return moving_disks_make(&receive->disks, e);
}

void receive_refuse(struct receive *receive, const struct error *why)
{
	/* Within its filter main can remove nothing. */
	if (!sandbox_thread_entered()) {
		moving_disks_remove(&receive->disks);
	}
	if (receive->m == NULL) {
		return;
	}
	migration_report(receive->m, why->sys != 0 ? -why->sys : -EINVAL, why);
	(void)migration_run(receive->m, NULL);
}

/* --- receiving ----------------------------------------------------------------------------------- */

static int work(struct job *job, void *arg, struct error *e)
{
	struct receive *receive = arg;
	const struct error none = { 0 };
	int r;

	receive->job = job;
	channel_sink_open(receive->channels);
	migration_report(receive->m, 0, &none);
	r = migration_run(receive->m, e);
	if (r == 0 && receive->lacks) {
		r = postcopy_receive(receive->instance, receive->sink, &receive->asking, job,
				     !receive->offer.paused, e);
	}
	/* In doubt they stay, like the VM. */
	if (r < 0 && migration_state(receive->m) == HANDOVER_D_GIVEN_UP) {
		moving_disks_remove(&receive->disks);
	}
	return r;
}

static void enter(struct receive *receive, enum instance_state state)
{
	if (instance_lives(receive->instance) && receive->instance->state != state) {
		instance_enter(receive->instance, state);
	}
}

static void begins(struct asking *asking, enum vm_operation_type type)
{
	if (type == VM_RESUME || type == VM_PAUSE) {
		enter(container_of(asking, struct receive, asking),
		      type == VM_RESUME ? INSTANCE_RESUMING : INSTANCE_PAUSING);
	}
}

static int finish(struct receive *receive, int result, struct error *e)
{
	struct instance *instance = receive->instance;

	migration_view_end(instance, result < 0 ? e : NULL);
	if (result == 0) {
		instance->migrations = MAX(instance->migrations, migration_epoch(receive->m));
	}
	if (result == 0 && receive->upgrade != NULL) {
		instance->started_ns -= MIN((uint64_t)MAX(receive->uptime_ns, (json_int_t)0),
					    instance->started_ns - 1);
		upgrade_take_place(receive->upgrade);
	}
	instance->receive = NULL;
	atomic_store(&instance->migration.sink, NULL);
	receive_destroy(receive);
	if (result < 0 && instance_lives(instance)) {
		instance_end_failed(instance, e);
	} else if (result == 0 && instance->host->arrived != NULL) {
		instance->host->arrived(instance->host);
	}
	return result;
}

static int step(struct instance *instance, struct change *change, int result, struct error *e)
{
	struct receive *receive = instance->receive;

	if (change->operation.type == VM_RESUME) {
		enter(receive, result == 0 ? INSTANCE_RUNNING : INSTANCE_PAUSED);
	} else if (change->operation.type == VM_PAUSE) {
		enter(receive, result == 0 ? INSTANCE_PAUSED : INSTANCE_RUNNING);
	}
	if (receive->result_known) {
		*e = receive->error;
		return finish(receive, receive->result, e);
	}
	asking_answer(&receive->asking, result, e);
	return CHANGE_WAITS;
}

static void ended(void *arg, int result, struct error *e)
{
	struct receive *receive = arg;
	struct change *change = receive->change;
	struct error why = *e;

	if (result < 0 && why.code == ERROR_NONE) {
		(void)error_set(&why, ERROR_CANCELLED, ECANCELED, "receive: cancelled");
	}
	add_event(receive, result < 0 ? why.msg : NULL);
	if (!change->waits) {
		receive->result_known = true;
		receive->result = result;
		receive->error = why;
		return; /* an operation is under way; step() comes */
	}
	changes_end(change, finish(receive, result, &why), &why);
}

static void cancel(void *arg)
{
	struct receive *receive = arg;

	if (instance_lives(receive->instance)) {
		(void)migration_view_cancel(receive->instance, NULL);
		return;
	}
	migration_leave(receive->m);
	if (receive->sink != NULL) {
		postcopy_abandon(receive->sink);
	}
	asking_leave(&receive->asking);
}

static const struct job_ops job_ops = {
	.kind = "receive", .run = work, .ended = ended, .cancel = cancel
};

static int prepare(struct instance *instance, struct change *change, struct error *e)
{
	struct receive *receive = instance->receive;
	uint64_t job;
	int r;

	receive->change = change;
	receive->mem = vm_memory(instance->vm);
	asking_init(&receive->asking, instance, change);
	receive->asking.begins = begins;
	receive->told = (struct loop_post){ .run = told, .arg = receive };
	receive->asks = true;
	r = change_start_job(change, &job_ops, receive, &job, e);
	if (r == CHANGE_WAITS) {
		migration_view_drive(instance, receive->m);
	}
	return r;
}

/* Nobody waits for an answer: what became of it is an event. */
static void over(struct instance *instance, struct change *change, const struct error *failure)
{
	(void)instance;
	(void)change;
	(void)failure;
}

static const struct change_kind receive_kind = {
	.during = INSTANCE_STATES, .prepare = prepare, .step = step, .over = over
};

int receive_begin(struct instance *instance, struct error *e)
{
	struct change *change = change_create(&receive_kind, e);
	int r = change != NULL ? changes_add(instance, change, e) : -ENOMEM;

	return r < 0 ? r : 0;
}
