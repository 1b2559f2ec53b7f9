/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's end of further connections: include/vmm/migration_channels.h is the contract.
 *
 * Each thread accepts until it has a channel, and then stores what comes over that, up to its end. None hears what another does: who waits
 * for all of them (gather()) compares what each has said last.
 *
 * Who connects is nobody before it has said the token: of JOIN alone the parser takes more than a header. Then the other side
 * controls what comes, and when; it cannot keep a thread from ending, because that looks whether it has to before it hears more.
 *
 * The lock guards who has joined, what each has said, and the first error.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/loop.h"
#include "vmm/migration_channels.h"
#include "vmm/migration_link.h"
#include "vmm/worker.h"

LOG_DOMAIN("migration");

#define LOOK_NS 50000000L
/* A client has that long for its first words. */
#define HELLO_NS 10000000000ULL

struct channel {
	struct channel_sink *sink;
	struct migration_link link;
	struct compressor unpacks;
	struct worker worker;
	struct loop_post run;
	uint64_t heard; /* sequence number */
	/* Under the lock. */
	uint64_t gathered;
	bool out; /* it stores nothing any more */
};

struct channel_sink {
	struct channel_sink_config config;
	int wake_fd;
	int listener; /* gather()'s thread closes or gives it, when nobody accepts any more */
	uint64_t gathered;
	_Atomic bool stopping;
	_Atomic uint64_t received, moved_ns;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool open;	 /* memory is there to stay */
	uint32_t joined; /* a bit for each number */
	struct error why;
	struct channel channels[MIGRATION_CHANNELS_MAX];
};

static void note_failure(struct channel_sink *sink, const struct error *e)
{
	SCOPED_LOCK(&sink->lock);

	if (sink->why.code == ERROR_NONE) {
		sink->why = *e;
	}
	(void)pthread_cond_broadcast(&sink->changed);
}

/* --- who comes ----------------------------------------------------------------------------------- */

static bool knows_token(const struct channel_sink *sink, const uint8_t *token)
{
	uint8_t differs = 0;

	for (size_t i = 0; i < MIGRATION_CHANNELS_TOKEN; i++) {
		differs |= (uint8_t)(token[i] ^ sink->config.token[i]);
	}
	return differs == 0;
}

/* The number is its own from now on. */
static bool take_place(struct channel_sink *sink, const struct handover_frame *frame)
{
	const uint32_t number = load_le32(frame->payload + MIGRATION_CHANNELS_TOKEN);
	const uint32_t count = load_le32(frame->payload + MIGRATION_CHANNELS_TOKEN + 4);
	SCOPED_LOCK(&sink->lock);

	if (frame->epoch != sink->config.epoch || frame->sequence != 1 ||
	    count != sink->config.count || number >= count || (sink->joined >> number & 1) != 0) {
		return false;
	}
	sink->joined |= 1U << number;
	(void)pthread_cond_broadcast(&sink->changed);
	return true;
}

static uint8_t *place(void *arg, const struct handover_frame *frame)
{
	struct channel *channel = arg;
	const struct channel_sink *sink = channel->sink;

	if (frame->epoch != sink->config.epoch || frame->sequence != channel->heard + 1 ||
	    atomic_load(&sink->stopping)) {
		return NULL;
	}
	return migration_pages_place(sink->config.mem, frame->payload, frame->len);
}

/* False: it is nobody, and closed. */
static bool let_in(struct channel *channel, int fd)
{
	struct channel_sink *sink = channel->sink;
	struct migration_link *link = &channel->link;
	const struct handover_frame accept = { .message = HANDOVER_ACCEPT,
					       .epoch = sink->config.epoch,
					       .sequence = 1 };
	struct handover_frame frame;
	struct error e = { 0 };
	bool good = migration_link_init(link, fd, HANDOVER_DESTINATION, sink->wake_fd,
					sink->config.stall_ns, &e) == 0;

	if (good) {
		link->wake_first = true;
		handover_parser_only(&link->parser, 1U << HANDOVER_JOIN);
		handover_parser_set_sink(&link->parser, &(const struct handover_sink){
								.place = place, .arg = channel });
		good = migration_link_hear(link, &frame, MIN(sink->config.stall_ns, HELLO_NS),
					   &e) == MIGRATION_HEARD_MESSAGE &&
		       knows_token(sink, frame.payload) && take_place(sink, &frame);
	}
	if (!good) {
		log_warn("a client that has no place in this migration was closed");
		migration_link_finish(link);
		return false;
	}
	channel->heard = 1;
	handover_parser_only(&link->parser, 1U << HANDOVER_PAGES | 1U << HANDOVER_GATHER);
	if (migration_link_send(link, &accept, true, &e) < 0) {
		note_failure(sink, &e);
	}
	return true;
}

static void wait_until_open(struct channel_sink *sink)
{
	SCOPED_LOCK(&sink->lock);

	while (!sink->open && !atomic_load(&sink->stopping)) {
		(void)pthread_cond_wait(&sink->changed, &sink->lock);
	}
}

/* False: nobody is wanted any more. */
static bool wait_for_client(struct channel *channel)
{
	struct channel_sink *sink = channel->sink;

	wait_until_open(sink);
	while (!atomic_load(&sink->stopping)) {
		struct pollfd fds[2] = { { .fd = sink->listener, .events = POLLIN },
					 { .fd = sink->wake_fd, .events = POLLIN } };
		struct error e = { 0 };
		int fd;

		if (poll(fds, 2, -1) <= 0 || fds[1].revents != 0) {
			continue;
		}
		fd = accept4(sink->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0 && let_in(channel, fd)) {
			return true;
		}
		/* Another thread was quicker, or the client has gone again; anything else would come again at once. */
		if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
			(void)error_set_sys(&e, ERROR_MIGRATION, errno, "migration: accept");
			note_failure(sink, &e);
			return false;
		}
	}
	return false;
}

/* --- what comes ---------------------------------------------------------------------------------- */

static int __cold nonsense(const struct handover_frame *frame, const char *why, struct error *e)
{
	(void)error_set(e, ERROR_MIGRATION, EPROTO,
			"migration: message %s (number %" PRIu64 ") of a further connection: %s",
			handover_message_info(frame->message)->name, frame->sequence, why);
	return error_hint(e, "the other side is no vmm of this version, or something between them "
			     "changes what they say");
}

static int note_gather(struct channel *channel, const struct handover_frame *frame, struct error *e)
{
	struct channel_sink *sink = channel->sink;
	const uint64_t number = load_le64(frame->payload);
	SCOPED_LOCK(&sink->lock);

	if (number != channel->gathered + 1) {
		return nonsense(frame, "that is not the next pass", e);
	}
	channel->gathered = number;
	(void)pthread_cond_broadcast(&sink->changed);
	return 0;
}

static int take(struct channel *channel, const struct handover_frame *frame, struct error *e)
{
	struct channel_sink *sink = channel->sink;
	uint64_t bytes = 0;
	int r = 0;

	if (frame->epoch != sink->config.epoch || frame->sequence != channel->heard + 1) {
		return nonsense(frame, "it is not the next one of this migration", e);
	}
	channel->heard++;
	atomic_store(&sink->moved_ns, loop_now_ns());
	if (frame->message == HANDOVER_GATHER) {
		return note_gather(channel, frame, e);
	}
	if (frame->placed) {
		migration_pages_placed(sink->config.mem, frame->payload, &bytes);
	} else {
		r = migration_pages_store(sink->config.mem, &channel->unpacks, frame->payload,
					  frame->len, &bytes, e);
	}
	atomic_fetch_add(&sink->received, bytes);
	return r;
}

static int closed(struct error *e)
{
	if (e->code == ERROR_NONE) {
		(void)error_set(e, ERROR_MIGRATION, EPIPE,
				"migration: the other side has closed a further connection");
	}
	return -EPIPE;
}

/* 0: it was told to stop. */
static int store_all(struct channel *channel, struct error *e)
{
	const struct channel_sink *sink = channel->sink;
	struct handover_frame frame;
	int r = 0;

	while (r == 0 && !atomic_load(&sink->stopping)) {
		switch (migration_link_hear(&channel->link, &frame, UINT64_MAX, e)) {
		case MIGRATION_HEARD_MESSAGE:
			r = take(channel, &frame, e);
			break;
		case MIGRATION_HEARD_WAKE:
		case MIGRATION_HEARD_NOTHING:
			break;
		default:
			r = closed(e);
			break;
		}
	}
	return r;
}

static void run(void *arg)
{
	struct channel *channel = arg;
	struct channel_sink *sink = channel->sink;
	struct error e = { 0 };

	if (wait_for_client(channel) && store_all(channel, &e) < 0) {
		note_failure(sink, &e);
	}
	/* The source hears at once that it is over with this one. */
	migration_link_finish(&channel->link);
	SCOPED_LOCK(&sink->lock);
	channel->out = true;
	(void)pthread_cond_broadcast(&sink->changed);
}

/* --- made and ended ------------------------------------------------------------------------------ */

static int start(struct channel *channel, struct error *e)
{
	const struct channel_sink_config *config = &channel->sink->config;
	int r = worker_init(&channel->worker, "channel", e);

	if (r < 0) {
		return r;
	}
	channel->run = (struct loop_post){ .run = run, .arg = channel };
	channel->out = false;
	loop_post(&channel->worker.loop, &channel->run);
	r = worker_start(&channel->worker, config->enter, config->arg, e);
	/* One that never was is none to wait for. */
	if (r < 0) {
		channel->out = true;
	}
	return r;
}

int channel_sink_create(struct channel_sink **ret, const struct channel_sink_config *config,
			struct error *e)
{
	struct channel_sink *sink = calloc(1, sizeof(*sink));
	int r = 0;

	VMM_BUG_ON(config->count == 0 || config->count > MIGRATION_CHANNELS_MAX);
	if (sink == NULL) {
		(void)close(config->listener);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	sink->config = *config;
	sink->listener = config->listener;
	(void)pthread_mutex_init(&sink->lock, NULL);
	(void)pthread_cond_init(&sink->changed, NULL);
	for (uint32_t i = 0; i < MIGRATION_CHANNELS_MAX; i++) {
		sink->channels[i].sink = sink;
		sink->channels[i].link.fd = -1;
		sink->channels[i].out = true;
	}
	sink->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sink->wake_fd < 0) {
		r = error_set_sys(e, ERROR_MIGRATION, errno, "migration: eventfd");
	}
	for (uint32_t i = 0; r == 0 && i < config->count; i++) {
		r = start(&sink->channels[i], e);
	}
	if (r < 0) {
		channel_sink_destroy(sink);
		return r;
	}
	*ret = sink;
	return 0;
}

void channel_sink_open(struct channel_sink *sink)
{
	if (sink != NULL) {
		SCOPED_LOCK(&sink->lock);
		sink->open = true;
		(void)pthread_cond_broadcast(&sink->changed);
	}
}

static void wait_a_little(struct channel_sink *sink)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += LOOK_NS;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	(void)pthread_cond_clockwait(&sink->changed, &sink->lock, CLOCK_MONOTONIC, &until);
}

/* Under the lock. */
static bool have_all_said(const struct channel_sink *sink, uint64_t number)
{
	bool all = sink->joined == (1U << sink->config.count) - 1;

	for (uint32_t i = 0; i < sink->config.count; i++) {
		all = all && sink->channels[i].gathered >= number;
	}
	return all;
}

int channel_sink_gather(struct channel_sink *sink, uint64_t number, bool (*called)(void *arg),
			void *arg, struct error *e)
{
	const uint64_t began = loop_now_ns();
	SCOPED_LOCK(&sink->lock);

	if (number != sink->gathered + 1) {
		return error_set(e, ERROR_MIGRATION, EPROTO,
				 "migration: pass %" PRIu64 " is said to have come over further "
				 "connections, not %" PRIu64,
				 number, sink->gathered + 1);
	}
	while (!have_all_said(sink, number)) {
		if (sink->why.code != ERROR_NONE) {
			*e = sink->why;
			return e->sys != 0 ? -e->sys : -EPIPE;
		}
		if (called(arg)) {
			return error_set(e, ERROR_CANCELLED, ECANCELED, "migration: cancelled");
		}
		if (loop_now_ns() >
		    MAX(began, atomic_load(&sink->moved_ns)) + sink->config.stall_ns) {
			(void)error_set(e, ERROR_MIGRATION, ETIMEDOUT,
					"migration: nothing has come over the further connections "
					"for %" PRIu64 " s",
					sink->config.stall_ns / 1000000000);
			return error_hint(e, "look at the network between the hosts");
		}
		wait_a_little(sink);
	}
	sink->gathered = number;
	return 0;
}

void channel_sink_stop(struct channel_sink *sink)
{
	const uint64_t one = 1;
	bool all = false;

	if (sink == NULL) {
		return;
	}
	atomic_store(&sink->stopping, true);
	if (sink->wake_fd >= 0) {
		(void)!write(sink->wake_fd, &one, sizeof(one));
	}
	SCOPED_LOCK(&sink->lock);
	(void)pthread_cond_broadcast(&sink->changed);
	while (!all) {
		all = true;
		for (uint32_t i = 0; i < sink->config.count; i++) {
			all = all && sink->channels[i].out;
		}
		if (!all) {
			(void)pthread_cond_wait(&sink->changed, &sink->lock);
		}
	}
}

int channel_sink_take_listener(struct channel_sink *sink)
{
	return take_fd(&sink->listener);
}

uint64_t channel_sink_received(const struct channel_sink *sink)
{
	return atomic_load(&sink->received);
}

void channel_sink_destroy(struct channel_sink *sink)
{
	if (sink == NULL) {
		return;
	}
	channel_sink_stop(sink);
	for (uint32_t i = 0; i < MIGRATION_CHANNELS_MAX; i++) {
		struct channel *channel = &sink->channels[i];

		worker_finish(&channel->worker);
		migration_link_finish(&channel->link);
		compressor_finish(&channel->unpacks);
	}
	close_fd(&sink->listener);
	close_fd(&sink->wake_fd);
	(void)pthread_mutex_destroy(&sink->lock);
	(void)pthread_cond_destroy(&sink->changed);
	free(sink);
}
