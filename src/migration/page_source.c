/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's end of the page service: include/vmm/page_service.h is the contract.
 *
 * One thread: between two pieces of the stream it looks whether somebody has asked, so that an ask waits for one piece at most; and what it sends
 * then does not wait behind the stream, because it goes over another connection. What is sent is memory itself, of a VM that
 * stands still.
 *
 * `left` is what the other side has said that it lacks, less what was sent since. It is a matter of not sending twice only: a page that is
 * asked for is sent whatever `left` has. When the stream has sent all, the other side says what is still missing, or that
 * nothing is.
 *
 * The other side controls which pages it asks for; what is not memory ends the session. The lock guards what others see and ask for.
 */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "page_link.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"
#include "vmm/migration_address.h"
#include "vmm/worker.h"

#define ADDRESS_MAX 256
/* Asks of one connection that wait for their answers; those behind them are not read yet. */
#define ASKS_MAX 64U
/* Around a page that is asked for: so many, in their place. */
#define AROUND 16U
/* A piece of the stream. */
#define PIECE	     32U
#define ZEROES_MAX   4096U
#define LAST_MS	     1000
#define RETRY_MIN_NS 100000000ULL
#define RETRY_MAX_NS 2000000000ULL
#define LINKS	     (1 + PAGE_SERVICE_ASKING_MAX)

struct place {
	uint32_t region;
	uint64_t page;
};

struct answering {
	struct page_link link;
	struct place asks[ASKS_MAX];
	uint32_t first, count;
};

struct page_source {
	struct guest_memory *mem;
	uint8_t token[PAGE_SERVICE_TOKEN];
	uint32_t asking;
	uint64_t stall_ns, retry_ns, bandwidth;
	int (*connect)(void *arg, const char *address, struct error *e);
	void *arg;
	int wake_fd;
	struct worker worker;
	struct loop_post run;

	/* The thread's. */
	struct page_link stream;
	struct answering answering[PAGE_SERVICE_ASKING_MAX];
	uint64_t session;
	uint64_t *left[GUEST_MEMORY_REGIONS_MAX];
	struct place next; /* of the stream */
	bool streaming;	   /* the other side has said what is missing */
	bool said_sent, done;
	uint64_t stream_after_ns; /* by the bandwidth */
	uint64_t begun_ns;

	_Atomic uint64_t left_pages, sent_bytes;
	_Atomic bool leaving, gone, moved;
	pthread_mutex_t lock; /* guards the following */
	pthread_cond_t changed;
	enum page_source_state state;
	struct error why;
	bool resume;
	char address[ADDRESS_MAX];
};

static bool has(const struct page_source *source, uint32_t region, uint64_t page)
{
	return (source->left[region][page / 64] >> page % 64 & 1) != 0;
}

static void enter_state(struct page_source *source, enum page_source_state state,
			const struct error *why)
{
	SCOPED_LOCK(&source->lock);

	source->state = state;
	if (why != NULL) {
		source->why = *why;
	}
	(void)pthread_cond_broadcast(&source->changed);
}

/* --- made, and connected ------------------------------------------------------------------------- */

static int connect_by_address(void *arg, const char *address, struct error *e)
{
	(void)arg;
	/* Whether the network is trusted was judged when the migration began. */
	return migration_address_connect(address, true, e);
}

int page_source_create(struct page_source **ret, const struct page_source_config *config,
		       struct error *e)
{
	const uint32_t count = atomic_load(&config->mem->region_count);
	struct page_source *source = calloc(1, sizeof(*source));
	bool made = source != NULL;

	VMM_BUG_ON(config->asking == 0 || config->asking > PAGE_SERVICE_ASKING_MAX);
	if (!made || strlen(config->address) >= ADDRESS_MAX) {
		free(source);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	source->mem = config->mem;
	memcpy(source->token, config->token, sizeof(source->token));
	source->asking = config->asking;
	source->stall_ns = config->stall_ns;
	source->retry_ns = config->retry_ns;
	source->bandwidth = config->bandwidth;
	source->connect = config->connect != NULL ? config->connect : connect_by_address;
	source->arg = config->arg;
	memcpy(source->address, config->address, strlen(config->address) + 1);
	source->state = PAGE_SOURCE_LOST;
	source->stream.fd = -1;
	for (uint32_t i = 0; i < PAGE_SERVICE_ASKING_MAX; i++) {
		source->answering[i].link.fd = -1;
	}
	(void)pthread_mutex_init(&source->lock, NULL);
	(void)pthread_cond_init(&source->changed, NULL);
	source->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	made = source->wake_fd >= 0;
	for (uint32_t i = 0; made && i < count; i++) {
		const uint64_t pages = atomic_load(&config->mem->regions[i].size) / PAGE_SIZE_4K;

		source->left[i] = calloc(pages / 64 + 1, sizeof(uint64_t));
		made = source->left[i] != NULL;
	}
	if (!made) {
		page_source_destroy(source);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	*ret = source;
	return 0;
}

static void close_session(struct page_source *source)
{
	page_link_finish(&source->stream);
	for (uint32_t i = 0; i < source->asking; i++) {
		page_link_finish(&source->answering[i].link);
		source->answering[i].count = 0;
	}
}

void page_source_destroy(struct page_source *source)
{
	if (source == NULL) {
		return;
	}
	page_source_leave(source, false);
	worker_finish(&source->worker);
	close_session(source);
	close_fd(&source->wake_fd);
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		free(source->left[i]);
	}
	(void)pthread_mutex_destroy(&source->lock);
	(void)pthread_cond_destroy(&source->changed);
	free(source);
}

static int open_link(struct page_source *source, struct page_link *link, uint32_t number,
		     uint64_t until_ns, struct error *e)
{
	const struct page_frame hello = { .message = PAGE_HELLO,
					  .region = number,
					  .count = source->asking,
					  .first = source->session,
					  .len = PAGE_SERVICE_TOKEN,
					  .payload = source->token };
	char address[ADDRESS_MAX];
	int fd, r;

	{
		SCOPED_LOCK(&source->lock);
		memcpy(address, source->address, sizeof(address));
	}
	fd = source->connect(source->arg, address, e);
	if (fd < 0) {
		return fd;
	}
	r = page_link_init(link, fd, PAGE_SOURCE, e);
	return r == 0 ? page_link_send_all(link, &hello, source->wake_fd, until_ns, e) : r;
}

static int hear_welcome(struct page_source *source, struct page_link *link, uint64_t until_ns,
			struct error *e)
{
	struct page_frame frame;
	int r = page_link_hear_one(link, &frame, source->wake_fd, until_ns, e);

	return r == 0 && frame.message != PAGE_WELCOME ? page_nonsense(&frame, "no welcome", e) : r;
}

/* However slowly the other side speaks, all of it is said within the time that it may be silent. */
static int open_session(struct page_source *source, struct error *e)
{
	uint64_t until;
	int r;

	source->session++;
	source->streaming = source->said_sent = false;
	source->stream_after_ns = 0;
	source->begun_ns = loop_now_ns();
	until = source->begun_ns + source->stall_ns;
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		const uint64_t pages = atomic_load(&source->mem->regions[i].size) / PAGE_SIZE_4K;

		if (source->left[i] != NULL) {
			memset(source->left[i], 0, (pages / 64 + 1) * sizeof(uint64_t));
		}
	}
	r = open_link(source, &source->stream, 0, until, e);
	for (uint32_t i = 0; r == 0 && i < source->asking; i++) {
		r = open_link(source, &source->answering[i].link, i + 1, until, e);
	}
	r = r == 0 ? hear_welcome(source, &source->stream, until, e) : r;
	for (uint32_t i = 0; r == 0 && i < source->asking; i++) {
		r = hear_welcome(source, &source->answering[i].link, until, e);
	}
	if (r < 0) {
		close_session(source);
	}
	return r;
}

int page_source_connect(struct page_source *source, struct error *e)
{
	int r = open_session(source, e);

	if (r == 0) {
		enter_state(source, PAGE_SOURCE_CONNECTED, NULL);
	}
	return r;
}

/* --- what the other side says -------------------------------------------------------------------- */

static int take_missing(struct page_source *source, const struct page_frame *frame, struct error *e)
{
	uint64_t added = 0;

	if (source->streaming && !source->said_sent) {
		return page_nonsense(frame, "it has said before what is missing", e);
	}
	if (!page_range_is_good(source->mem, frame->region, frame->first, frame->count) ||
	    source->left[frame->region] == NULL || frame->first % 64 != 0 ||
	    frame->len != (frame->count + 63) / 64 * 8) {
		return page_nonsense(frame, "there are no such pages", e);
	}
	for (uint32_t i = 0; i < frame->len / 8; i++) {
		uint64_t bits = load_le64(frame->payload + (size_t)i * 8);
		uint64_t *left = &source->left[frame->region][frame->first / 64 + i];

		if (frame->count - i * 64 < 64) {
			bits &= (1ULL << (frame->count - i * 64)) - 1;
		}
		added += (uint64_t)__builtin_popcountll(bits & ~*left);
		*left |= bits;
	}
	atomic_fetch_add(&source->left_pages, added);
	return 0;
}

static int hear_stream(struct page_source *source, struct error *e)
{
	struct page_frame frame;
	int r = page_link_hear(&source->stream, &frame, e);

	if (r <= 0) {
		return r;
	}
	switch (frame.message) {
	case PAGE_MISSING:
		return take_missing(source, &frame, e);
	case PAGE_MISSING_END:
		source->streaming = true;
		source->said_sent = false;
		source->next = (struct place){ 0 };
		return 0;
	case PAGE_DONE:
		source->done = true;
		return 0;
	default:
		return page_nonsense(&frame, "not on this connection", e);
	}
}

static int hear_asks(struct page_source *source, struct answering *answering, struct error *e)
{
	struct page_frame frame;
	int r = 1;

	while (answering->count < ASKS_MAX &&
	       (r = page_link_hear(&answering->link, &frame, e)) > 0) {
		if (frame.message != PAGE_ASK ||
		    !page_range_is_good(source->mem, frame.region, frame.first, 1) ||
		    source->left[frame.region] == NULL) {
			return page_nonsense(&frame, "that cannot be asked for", e);
		}
		answering->asks[(answering->first + answering->count++) % ASKS_MAX] =
			(struct place){ frame.region, frame.first };
	}
	return r < 0 ? r : 0;
}

/* --- what is sent -------------------------------------------------------------------------------- */

static const uint8_t *at(const struct page_source *source, uint32_t region, uint64_t page)
{
	return source->mem->regions[region].host + page * PAGE_SIZE_4K;
}

static void note_sent(struct page_source *source, const struct page_frame *frame)
{
	for (uint64_t page = frame->first; page < frame->first + frame->count; page++) {
		if (has(source, frame->region, page)) {
			source->left[frame->region][page / 64] &= ~(1ULL << page % 64);
			atomic_fetch_sub(&source->left_pages, 1);
		}
	}
	atomic_fetch_add(&source->sent_bytes, frame->len);
}

/* From `page` on, before `end`, what is left and like it. */
static struct page_frame run_from(const struct page_source *source, uint32_t region, uint64_t page,
				  uint64_t end, uint32_t most)
{
	struct page_frame frame = { .message = PAGE_PAGES,
				    .region = region,
				    .first = page,
				    .count = 1,
				    .payload = at(source, region, page) };
	const bool zero = page_is_zero(frame.payload);

	most = zero ? ZEROES_MAX : most;
	while (frame.count < most && page + frame.count < end &&
	       has(source, region, page + frame.count) &&
	       page_is_zero(at(source, region, page + frame.count)) == zero) {
		frame.count++;
	}
	frame.len = zero ? 0 : frame.count * (uint32_t)PAGE_SIZE_4K;
	return frame;
}

/* The page, and what is around it. */
static int answer(struct page_source *source, struct answering *answering, struct error *e)
{
	const struct place ask = answering->asks[answering->first];
	const uint64_t pages = atomic_load(&source->mem->regions[ask.region].size) / PAGE_SIZE_4K;
	const uint64_t start = ALIGN_DOWN(ask.page, (uint64_t)AROUND);
	const bool zero = page_is_zero(at(source, ask.region, ask.page));
	struct page_frame frame;
	uint64_t first = ask.page;

	while (first > start && has(source, ask.region, first - 1) &&
	       page_is_zero(at(source, ask.region, first - 1)) == zero) {
		first--;
	}
	frame = run_from(source, ask.region, ask.page, MIN(start + AROUND, pages), AROUND);
	frame.count += (uint32_t)(ask.page - first);
	frame.first = first;
	frame.payload = at(source, ask.region, first);
	frame.len = zero ? 0 : frame.count * (uint32_t)PAGE_SIZE_4K;
	answering->first = (answering->first + 1) % ASKS_MAX;
	answering->count--;
	note_sent(source, &frame);
	return page_link_send(&answering->link, &frame, e);
}

static bool find_next(struct page_source *source)
{
	struct place *next = &source->next;

	for (; next->region < GUEST_MEMORY_REGIONS_MAX; next->region++, next->page = 0) {
		const uint64_t *left = source->left[next->region];
		const uint64_t pages =
			atomic_load(&source->mem->regions[next->region].size) / PAGE_SIZE_4K;

		while (left != NULL && next->page < pages) {
			const uint64_t bits = left[next->page / 64] >> next->page % 64;

			if (bits != 0) {
				next->page += (uint64_t)__builtin_ctzll(bits);
				return next->page < pages;
			}
			next->page = ALIGN_DOWN(next->page, 64ULL) + 64;
		}
	}
	return false;
}

static int send_piece(struct page_source *source, struct error *e)
{
	struct page_frame frame = { .message = PAGE_SENT };
	uint64_t now = loop_now_ns();

	if (find_next(source)) {
		frame = run_from(source, source->next.region, source->next.page,
				 atomic_load(&source->mem->regions[source->next.region].size) /
					 PAGE_SIZE_4K,
				 PIECE);
		note_sent(source, &frame);
		if (source->bandwidth != 0) {
			source->stream_after_ns =
				MAX(now, source->stream_after_ns) +
				(uint64_t)((double)frame.len * 1e9 / (double)source->bandwidth);
		}
	} else {
		source->said_sent = true;
	}
	return page_link_send(&source->stream, &frame, e);
}

/* --- a session ----------------------------------------------------------------------------------- */

/* The last word over a connection, if it can be said soon. */
static void say_last(struct page_link *link, enum page_message message)
{
	const struct page_frame frame = { .message = message };
	struct error ignored = { 0 };

	/* What is on its way before it, if the other side takes that. */
	while (link->out_busy && page_link_flush(link, &ignored) == 0) {
		struct pollfd fd = { .fd = link->fd, .events = POLLOUT };

		if (poll(&fd, 1, LAST_MS) <= 0) {
			return;
		}
	}
	if (link->fd >= 0 && !link->out_busy) {
		(void)page_link_send(link, &frame, &ignored);
	}
}

/* Over all connections: one of them that is only closed would be taken for a cut. */
static void say_gone(struct page_source *source)
{
	for (uint32_t i = 0; i < source->asking; i++) {
		say_last(&source->answering[i].link, PAGE_GONE);
	}
	say_last(&source->stream, PAGE_GONE);
}

static int serve_asks(struct page_source *source, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < source->asking; i++) {
		struct answering *answering = &source->answering[i];

		r = hear_asks(source, answering, e);
		if (r == 0 && answering->link.out_busy) {
			r = page_link_flush(&answering->link, e);
		}
		while (r >= 0 && answering->count != 0 && !answering->link.out_busy) {
			r = answer(source, answering, e);
		}
	}
	return r < 0 ? r : 0;
}

static bool may_stream(const struct page_source *source)
{
	return source->streaming && !source->said_sent && !source->stream.out_busy &&
	       loop_now_ns() >= source->stream_after_ns;
}

static uint64_t last_moved(const struct page_source *source)
{
	uint64_t last = MAX(source->stream.moved_ns, source->begun_ns);

	for (uint32_t i = 0; i < source->asking; i++) {
		last = MAX(last, source->answering[i].link.moved_ns);
	}
	return last;
}

static int check_silence(const struct page_source *source, struct error *e)
{
	if (!atomic_load(&source->moved) || source->stream_after_ns > loop_now_ns() ||
	    loop_now_ns() - last_moved(source) < source->stall_ns) {
		return 0;
	}
	return error_set(e, ERROR_MIGRATION, ETIMEDOUT,
			 "migration: the other side has neither taken nor asked for pages for %llu "
			 "s",
			 (unsigned long long)(source->stall_ns / 1000000000));
}

static void wait_for_something(const struct page_source *source)
{
	struct pollfd fds[LINKS + 1] = { { .fd = source->wake_fd, .events = POLLIN },
					 { .fd = source->stream.fd, .events = POLLIN } };
	uint64_t until = loop_now_ns() + source->stall_ns / 2 + 1;

	fds[1].events |= source->stream.out_busy ? POLLOUT : 0;
	for (uint32_t i = 0; i < source->asking; i++) {
		const struct answering *answering = &source->answering[i];

		fds[2 + i].fd = answering->link.fd;
		fds[2 + i].events = (short)((answering->count < ASKS_MAX ? POLLIN : 0) |
					    (answering->link.out_busy ? POLLOUT : 0));
	}
	if (source->streaming && !source->said_sent && !source->stream.out_busy) {
		until = MIN(until, source->stream_after_ns);
	}
	(void)page_poll(fds, 2 + source->asking, until);
}

/* 0: done, or told to leave; negative: it is lost. */
static int serve_session(struct page_source *source, struct error *e)
{
	for (;;) {
		int r = serve_asks(source, e);

		r = r == 0 ? hear_stream(source, e) : r;
		if (r == 0 && source->stream.out_busy) {
			r = page_link_flush(&source->stream, e);
		}
		if (r >= 0 && may_stream(source)) {
			r = send_piece(source, e);
		} else if (r >= 0 && !source->done && !atomic_load(&source->leaving)) {
			r = check_silence(source, e);
			if (r == 0) {
				wait_for_something(source);
				page_wake_take(source->wake_fd);
			}
		}
		if (r < 0 || source->done || atomic_load(&source->leaving)) {
			return r < 0 ? r : 0;
		}
	}
}

/* --- the thread ---------------------------------------------------------------------------------- */

static bool take_resume(struct page_source *source)
{
	SCOPED_LOCK(&source->lock);
	bool resume = source->resume;

	source->resume = false;
	return resume;
}

/* False: it is to leave. */
static bool sleep_before_retry(struct page_source *source, uint64_t ns, bool *resumed)
{
	struct pollfd fd = { .fd = source->wake_fd, .events = POLLIN };

	(void)page_poll(&fd, 1, ns == UINT64_MAX ? ns : loop_now_ns() + ns);
	page_wake_take(source->wake_fd);
	*resumed |= take_resume(source);
	return !atomic_load(&source->leaving);
}

/* Until there is a session again. False: it is to leave. */
static bool connect_again(struct page_source *source)
{
	uint64_t until = loop_now_ns() + source->retry_ns, pause = RETRY_MIN_NS;

	for (;;) {
		const bool tries = loop_now_ns() < until;
		struct error why = { 0 };
		bool resumed = false;

		if (!tries) {
			enter_state(source, PAGE_SOURCE_WAITS, NULL);
		}
		if (!sleep_before_retry(source, tries ? pause : UINT64_MAX, &resumed)) {
			return false;
		}
		pause = MIN(pause * 2, RETRY_MAX_NS);
		if (!tries && !resumed) {
			continue;
		}
		if (open_session(source, &why) == 0) {
			enter_state(source, PAGE_SOURCE_CONNECTED, NULL);
			return true;
		}
		if (resumed) {
			until = loop_now_ns() + source->retry_ns;
			pause = RETRY_MIN_NS;
		}
		enter_state(source, PAGE_SOURCE_LOST, &why);
	}
}

static void run(void *arg)
{
	struct page_source *source = arg;

	for (;;) {
		struct error why = { 0 };
		int r = serve_session(source, &why);

		if (source->done) {
			say_last(&source->stream, PAGE_BYE);
			break;
		}
		if (r == 0) {
			if (atomic_load(&source->gone)) {
				say_gone(source);
			}
			break;
		}
		close_session(source);
		atomic_store(&source->left_pages, 0);
		enter_state(source, PAGE_SOURCE_LOST, &why);
		if (!connect_again(source)) {
			break;
		}
	}
	close_session(source);
	enter_state(source, source->done ? PAGE_SOURCE_DONE : PAGE_SOURCE_LEFT, NULL);
}

int page_source_start(struct page_source *source, int (*enter)(void *arg, struct error *e),
		      void *enter_arg, struct error *e)
{
	int r = worker_init(&source->worker, "pages", e);

	if (r == 0) {
		source->run = (struct loop_post){ .run = run, .arg = source };
		loop_post(&source->worker.loop, &source->run);
		r = worker_start(&source->worker, enter, enter_arg, e);
	}
	return r;
}

/* --- others -------------------------------------------------------------------------------------- */

void page_source_moved(struct page_source *source)
{
	atomic_store(&source->moved, true);
	page_wake(source->wake_fd);
}

int page_source_resume(struct page_source *source, const char *address, struct error *e)
{
	SCOPED_LOCK(&source->lock);

	if (source->state != PAGE_SOURCE_LOST && source->state != PAGE_SOURCE_WAITS) {
		return error_set(e, ERROR_WRONG_STATE, EBUSY,
				 "migration: its connections are not lost");
	}
	if (address != NULL && strlen(address) >= ADDRESS_MAX) {
		return error_set(e, ERROR_CONFIG, ENAMETOOLONG,
				 "migration: the address is too long");
	}
	if (address != NULL) {
		memcpy(source->address, address, strlen(address) + 1);
	}
	source->resume = true;
	page_wake(source->wake_fd);
	return 0;
}

void page_source_leave(struct page_source *source, bool gone)
{
	atomic_store(&source->gone, gone || atomic_load(&source->gone));
	atomic_store(&source->leaving, true);
	if (source->wake_fd >= 0) {
		page_wake(source->wake_fd);
	}
}

enum page_source_state page_source_wait(struct page_source *source, enum page_source_state known,
					struct error *why)
{
	SCOPED_LOCK(&source->lock);

	while (source->state == known) {
		(void)pthread_cond_wait(&source->changed, &source->lock);
	}
	if (why != NULL) {
		*why = source->why;
	}
	return source->state;
}

uint64_t page_source_left(const struct page_source *source)
{
	return atomic_load(&source->left_pages) * PAGE_SIZE_4K;
}

uint64_t page_source_sent(const struct page_source *source)
{
	return atomic_load(&source->sent_bytes);
}
