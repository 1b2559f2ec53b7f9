/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's end of further connections: include/vmm/migration_channels.h is the contract.
 *
 * Each channel has a thread, which waits for a pass, takes pieces of it until there are none, says GATHER, and waits for the next. The
 * caller's thread takes pieces as well, and then waits for the others, which are at their last piece at that time. Whatever fails in one ends the pass in all:
 * `stop`, and wake_fd for who waits for a socket.
 *
 * The other side controls how fast it takes what is sent. Nothing of it is heard but one ACCEPT.
 *
 * The lock guards what pass it is, who is at it, and the first error.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"
#include "vmm/migration_channels.h"
#include "vmm/migration_link.h"
#include "vmm/worker.h"

/* How soon who waits sees that nobody wants that any more. */
#define LOOK_NS	  20000000L
#define JOIN_SIZE 24

struct channel {
	struct channel_source *source;
	struct migration_link link;
	struct migration_pages_sender sender;
	struct worker worker;
	struct loop_post run;
	uint64_t sequence, pass;
};

struct channel_source {
	struct channel_source_config config;
	int wake_fd;
	_Atomic bool stop; /* for good */
	pthread_mutex_t lock;
	pthread_cond_t begins, ends;
	uint64_t pass;
	uint32_t busy;
	struct error why; /* code ERROR_NONE: nothing has failed */
	struct channel channels[MIGRATION_CHANNELS_MAX];
};

int channel_source_create(struct channel_source **ret, const struct channel_source_config *config,
			  struct error *e)
{
	struct channel_source *source = calloc(1, sizeof(*source));
	int r = 0;

	VMM_BUG_ON(config->count == 0 || config->count > MIGRATION_CHANNELS_MAX);
	if (source == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	source->config = *config;
	(void)pthread_mutex_init(&source->lock, NULL);
	(void)pthread_cond_init(&source->begins, NULL);
	(void)pthread_cond_init(&source->ends, NULL);
	for (uint32_t i = 0; i < MIGRATION_CHANNELS_MAX; i++) {
		source->channels[i].source = source;
		source->channels[i].link.fd = -1;
	}
	source->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (source->wake_fd < 0) {
		r = error_set_sys(e, ERROR_MIGRATION, errno, "migration: eventfd");
	}
	for (uint32_t i = 0; r == 0 && i < config->count; i++) {
		r = migration_pages_sender_init(&source->channels[i].sender, config->pages, e);
	}
	if (r < 0) {
		channel_source_destroy(source);
		return r;
	}
	*ret = source;
	return 0;
}

/* For good: whoever sends, or waits, returns. */
static void stop(struct channel_source *source)
{
	const uint64_t one = 1;

	atomic_store(&source->stop, true);
	if (source->wake_fd >= 0) {
		(void)!write(source->wake_fd, &one, sizeof(one));
	}
	SCOPED_LOCK(&source->lock);
	(void)pthread_cond_broadcast(&source->begins);
}

void channel_source_destroy(struct channel_source *source)
{
	if (source == NULL) {
		return;
	}
	stop(source);
	for (uint32_t i = 0; i < MIGRATION_CHANNELS_MAX; i++) {
		struct channel *channel = &source->channels[i];

		worker_finish(&channel->worker);
		migration_link_finish(&channel->link);
		migration_pages_sender_finish(&channel->sender);
	}
	close_fd(&source->wake_fd);
	(void)pthread_mutex_destroy(&source->lock);
	(void)pthread_cond_destroy(&source->begins);
	(void)pthread_cond_destroy(&source->ends);
	free(source);
}

/* --- connecting ---------------------------------------------------------------------------------- */

static int send_message(struct channel *channel, enum handover_message message,
			const uint8_t *payload, uint32_t len, struct error *e)
{
	const struct handover_frame frame = { .message = message,
					      .epoch = channel->source->config.epoch,
					      .sequence = ++channel->sequence,
					      .payload = payload,
					      .len = len };

	return migration_link_send(&channel->link, &frame, true, e);
}

static int join(struct channel_source *source, uint32_t number, struct error *e)
{
	struct channel *channel = &source->channels[number];
	uint8_t payload[JOIN_SIZE];
	int fd = source->config.connect(source->config.arg, e);
	int r;

	if (fd < 0) {
		return fd;
	}
	r = migration_link_init(&channel->link, fd, HANDOVER_SOURCE, source->wake_fd,
				source->config.stall_ns, e);
	memcpy(payload, source->config.token, MIGRATION_CHANNELS_TOKEN);
	store_le32(payload + MIGRATION_CHANNELS_TOKEN, number);
	store_le32(payload + MIGRATION_CHANNELS_TOKEN + 4, source->config.count);
	return r == 0 ? send_message(channel, HANDOVER_JOIN, payload, JOIN_SIZE, e) : r;
}

static int not_let_in(struct error *e)
{
	(void)error_set(e, ERROR_MIGRATION, EPIPE,
			"migration: the other side does not take the connection");
	return error_hint(e, "migrate with --connections 1 where there can be only one");
}

static int hear_accept(struct channel_source *source, struct channel *channel, struct error *e)
{
	const uint64_t until = loop_now_ns() + source->config.stall_ns;
	struct handover_frame frame;

	handover_parser_only(&channel->link.parser, 1U << HANDOVER_ACCEPT);
	while (!source->config.called(source->config.arg)) {
		switch (migration_link_hear(&channel->link, &frame, LOOK_NS, e)) {
		case MIGRATION_HEARD_MESSAGE:
			return frame.epoch == source->config.epoch ? 0 : not_let_in(e);
		case MIGRATION_HEARD_NOTHING:
			if (loop_now_ns() < until) {
				break;
			}
			return error_set(e, ERROR_MIGRATION, ETIMEDOUT,
					 "migration: the other side does not answer on a further "
					 "connection");
		default:
			return not_let_in(e);
		}
	}
	return error_set(e, ERROR_CANCELLED, ECANCELED, "migration: cancelled");
}

int channel_source_connect(struct channel_source *source, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < source->config.count; i++) {
		r = join(source, i, e);
	}
	for (uint32_t i = 0; r == 0 && i < source->config.count; i++) {
		r = hear_accept(source, &source->channels[i], e);
	}
	return r;
}

/* --- sending ------------------------------------------------------------------------------------- */

static int ended(struct error *e)
{
	return error_set(e, ERROR_CANCELLED, ECANCELED, "migration: cancelled");
}

static int send_pages(void *arg, const uint8_t *payload, uint32_t len, struct error *e)
{
	struct channel *channel = arg;
	struct channel_source *source = channel->source;
	int r = atomic_load(&source->stop) ? ended(e) : 0;

	r = r == 0 ? send_message(channel, HANDOVER_PAGES, payload, len, e) : r;
	if (r == 0) {
		source->config.sent(source->config.arg, len);
	}
	return r;
}

static void note_end(struct channel_source *source, int r, const struct error *e)
{
	SCOPED_LOCK(&source->lock);

	source->busy--;
	if (r < 0 && source->why.code == ERROR_NONE) {
		source->why = *e;
	}
	(void)pthread_cond_signal(&source->ends);
}

/* False: there is no other. */
static bool wait_for_pass(struct channel *channel)
{
	struct channel_source *source = channel->source;
	SCOPED_LOCK(&source->lock);

	while (!atomic_load(&source->stop) && source->pass == channel->pass) {
		(void)pthread_cond_wait(&source->begins, &source->lock);
	}
	/* One that has begun is waited for. */
	if (source->pass == channel->pass) {
		return false;
	}
	channel->pass = source->pass;
	return true;
}

static void run(void *arg)
{
	struct channel *channel = arg;
	struct channel_source *source = channel->source;

	while (wait_for_pass(channel)) {
		struct error e = { 0 };
		uint8_t number[8];
		int r = migration_pages_share(source->config.pages, &channel->sender, send_pages,
					      channel, &e);

		store_le64(number, channel->pass);
		r = r == 0 ? send_message(channel, HANDOVER_GATHER, number, sizeof(number), &e) : r;
		note_end(source, r, &e);
	}
}

int channel_source_start(struct channel_source *source, int (*enter)(void *arg, struct error *e),
			 void *enter_arg, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < source->config.count; i++) {
		struct channel *channel = &source->channels[i];

		channel->run = (struct loop_post){ .run = run, .arg = channel };
		r = worker_init(&channel->worker, "channel", e);
		if (r == 0) {
			loop_post(&channel->worker.loop, &channel->run);
			r = worker_start(&channel->worker, enter, enter_arg, e);
		}
	}
	return r;
}

static void begin_pass(struct channel_source *source)
{
	SCOPED_LOCK(&source->lock);

	source->pass++;
	source->busy = source->config.count;
	(void)pthread_cond_broadcast(&source->begins);
}

/* True: they are all done; *failed: one of them has. */
static bool wait_a_little(struct channel_source *source, bool *failed)
{
	SCOPED_LOCK(&source->lock);
	struct timespec until;

	if (source->busy != 0) {
		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOOK_NS;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		(void)pthread_cond_clockwait(&source->ends, &source->lock, CLOCK_MONOTONIC, &until);
	}
	*failed = source->why.code != ERROR_NONE;
	return source->busy == 0;
}

struct own {
	struct channel_source *source;
	int (*send)(void *arg, const uint8_t *payload, uint32_t len, struct error *e);
	void *arg;
};

/* The caller's thread hears of another's end at its own next message. */
static int send_own(void *arg, const uint8_t *payload, uint32_t len, struct error *e)
{
	struct own *own = arg;
	bool failed;

	{
		SCOPED_LOCK(&own->source->lock);
		failed = own->source->why.code != ERROR_NONE;
	}
	return failed ? ended(e) : own->send(own->arg, payload, len, e);
}

int channel_source_send(struct channel_source *source,
			int (*send)(void *arg, const uint8_t *payload, uint32_t len,
				    struct error *e),
			void *arg, uint64_t *number, struct error *e)
{
	struct own own = { .source = source, .send = send, .arg = arg };
	bool called = false, failed = false;
	int r;

	migration_pages_begin(source->config.pages);
	begin_pass(source);
	r = migration_pages_share(source->config.pages, &source->config.pages->sender, send_own,
				  &own, e);
	if (r < 0) {
		stop(source);
	}
	while (!wait_a_little(source, &failed)) {
		called = source->config.called(source->config.arg);
		if ((called || failed) && !atomic_load(&source->stop)) {
			stop(source);
		}
	}
	*number = source->pass;
	/* Of two the channel's is the reason, if it was not ended by the other. */
	if (failed && source->why.code != ERROR_CANCELLED) {
		*e = source->why;
		return error_prefix(e, "a further connection");
	}
	if (failed || called) {
		return r < 0 ? r : ended(e);
	}
	return r;
}
