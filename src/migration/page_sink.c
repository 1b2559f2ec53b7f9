/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's end of the page service: include/vmm/page_service.h is the contract.
 *
 *	the pager's thread	hears of faults, asks, and puts what comes for them: connections beside the stream (page_asking.c)
 *	"pages"			accepts, puts what the stream brings, says what is missing; closes a session
 *
 * So what is waited for is not behind the stream, neither on the way nor here. Connections are handed from the second to the first, and the end
 * of a session too, by a post; the other way goes that one is broken.
 *
 * Who connects is nobody until it has said the token. There is room for few such at a time; one more takes the place of the oldest.
 *
 * The other side controls when and what it sends. It can put pages only where they are missing.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "page_sink_internal.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("migration");

/* How long a source that has not heard that everything is there may come and ask. */
#define LINGER_NS 60000000000ULL
static void enter_state(struct page_sink *sink, enum page_sink_state state, const struct error *why)
{
	SCOPED_LOCK(&sink->lock);

	sink->state = state;
	if (why != NULL) {
		sink->why = *why;
	}
	(void)pthread_cond_broadcast(&sink->changed);
}

int page_sink_put(struct page_sink *sink, const struct page_frame *frame, struct error *e)
{
	if (!atomic_load(&sink->armed) ||
	    !page_range_is_good(sink->mem, frame->region, frame->first, frame->count) ||
	    (frame->len != 0 && frame->len != (uint64_t)frame->count * PAGE_SIZE_4K)) {
		return page_nonsense(frame, "there are no such pages here", e);
	}
	return pager_put(sink->pager, frame->region, frame->first, frame->count,
			 frame->len != 0 ? frame->payload : NULL, e);
}

void page_sink_gone(struct page_sink *sink)
{
	struct error why = { 0 };

	(void)error_set(&why, ERROR_MIGRATION, EPIPE,
			"the source has ended, and with it memory that this VM still lacked");
	(void)error_hint(&why,
			 "a VM that has moved before all of its memory needs the source until "
			 "that is here: start it again");
	page_sink_lose(sink, &why);
}

/* --- the thread "pages": sessions ---------------------------------------------------------------- */

static void post_delivery(struct page_sink *sink)
{
	if (!sink->posted) {
		sink->posted = true;
		loop_post(pager_loop(sink->pager), &sink->deliver);
	}
}

static void close_session(struct page_sink *sink)
{
	page_link_finish(&sink->stream);
	sink->joined = 0;
	sink->whole = sink->said_missing = sink->said_done = false;
	{
		SCOPED_LOCK(&sink->lock);
		for (uint32_t i = 0; i < PAGE_SERVICE_ASKING_MAX; i++) {
			page_link_finish(&sink->inbox[i]);
		}
		sink->drop = true;
		post_delivery(sink);
	}
}

static bool lacks(const struct page_sink *sink)
{
	return atomic_load(&sink->armed) && !atomic_load(&sink->finished) &&
	       !atomic_load(&sink->lost);
}

static void session_lost(struct page_sink *sink, const struct error *why)
{
	if (sink->stream.fd < 0 && sink->joined == 0) {
		return;
	}
	log_info("a session for pages has ended: %s", why->msg);
	close_session(sink);
	if (lacks(sink)) {
		enter_state(sink, PAGE_SINK_LOST, why);
	}
}

static void join_stream(struct page_sink *sink, struct joining *joining)
{
	if (sink->joined != 0) {
		close_session(sink);
	}
	sink->session = joining->hello.first;
	sink->wanted = joining->hello.count;
	sink->stream = joining->link;
	sink->joined = 1;
	joining->link = (struct page_link){ .fd = -1 };
}

static void join_asking(struct page_sink *sink, struct joining *joining)
{
	SCOPED_LOCK(&sink->lock);
	struct page_link *inbox = &sink->inbox[joining->hello.region - 1];

	page_link_finish(inbox);
	*inbox = joining->link;
	joining->link = (struct page_link){ .fd = -1 };
	sink->joined |= 1U << joining->hello.region;
	atomic_store(&sink->asked_session, sink->session);
	post_delivery(sink);
}

/* Whoever has said hello: into its session, or out. It waits if that has not begun. */
static void try_join(struct page_sink *sink, struct joining *joining)
{
	const struct page_frame *hello = &joining->hello, welcome = { .message = PAGE_WELCOME };
	struct error e = { 0 };

	if (hello->region != 0 && hello->first > sink->session) {
		return;
	}
	if (hello->region == 0
		    ? hello->first <= sink->session
		    : hello->first != sink->session || hello->region > sink->wanted ||
			      (sink->joined >> hello->region & 1) != 0 || sink->joined == 0) {
		page_link_finish(&joining->link);
		return;
	}
	if (page_link_send_all(&joining->link, &welcome, sink->wake_fd,
			       joining->since_ns + sink->stall_ns, &e) < 0) {
		page_link_finish(&joining->link);
		return;
	}
	if (hello->region == 0) {
		join_stream(sink, joining);
	} else {
		join_asking(sink, joining);
	}
}

static void hear_hello(struct page_sink *sink, struct joining *joining)
{
	struct page_frame *hello = &joining->hello;
	struct error e = { 0 };
	int r;

	if (joining->said) {
		return;
	}
	r = page_link_hear(&joining->link, hello, &e);
	if (r == 0) {
		return;
	}
	if (r < 0 || !page_hello_is_good(hello, sink->token)) {
		log_warn("a client that knows no token of this migration was closed");
		page_link_finish(&joining->link);
		return;
	}
	joining->said = true;
}

static void accept_one(struct page_sink *sink)
{
	int fd = accept4(atomic_load(&sink->listener), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct joining *oldest = &sink->joining[0];
	struct error e = { 0 };

	if (fd < 0) {
		/* Of a host without descriptors, say: the client stays, and would be tried again at once. */
		sink->rests = errno != EAGAIN && errno != ECONNABORTED && errno != EINTR;
		return;
	}
	for (uint32_t i = 0; i < JOINING_MAX; i++) {
		struct joining *joining = &sink->joining[i];

		if (joining->link.fd < 0) {
			oldest = joining;
			break;
		}
		oldest = joining->since_ns < oldest->since_ns ? joining : oldest;
	}
	page_link_finish(&oldest->link);
	*oldest = (struct joining){ .since_ns = loop_now_ns() };
	if (page_link_init(&oldest->link, fd, PAGE_SINK, &e) < 0) {
		log_warn("%s", e.msg);
	}
}

/* The stream's hello may come after those of its session. */
static void serve_joining(struct page_sink *sink)
{
	for (uint32_t pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < JOINING_MAX; i++) {
			struct joining *joining = &sink->joining[i];

			if (joining->link.fd >= 0) {
				hear_hello(sink, joining);
			}
			if (joining->link.fd >= 0 && joining->said) {
				try_join(sink, joining);
			}
			if (joining->link.fd >= 0 &&
			    loop_now_ns() - joining->since_ns > sink->stall_ns) {
				page_link_finish(&joining->link);
			}
		}
	}
}

/* --- the thread "pages": the stream -------------------------------------------------------------- */

static int say(struct page_sink *sink, const struct page_frame *frame, struct error *e)
{
	return page_link_send_all(&sink->stream, frame, sink->wake_fd,
				  loop_now_ns() + sink->stall_ns, e);
}

static int say_region(struct page_sink *sink, uint32_t region, struct error *e)
{
	const uint64_t pages = atomic_load(&sink->mem->regions[region].size) / PAGE_SIZE_4K;
	uint8_t payload[PAGE_SAY_PAGES / 8];
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < pages; at += PAGE_SAY_PAGES) {
		struct page_frame frame = { .message = PAGE_MISSING,
					    .region = region,
					    .first = at,
					    .count = (uint32_t)MIN(pages - at, PAGE_SAY_PAGES) };

		if (page_missing_fill(&frame, sink->pager, payload)) {
			r = say(sink, &frame, e);
		}
	}
	return r;
}

static int say_missing(struct page_sink *sink, struct error *e)
{
	const struct page_frame end = { .message = PAGE_MISSING_END };
	int r = 0;

	sink->said_missing = true;
	for (uint32_t i = 0; r == 0 && i < GUEST_MEMORY_REGIONS_MAX; i++) {
		r = say_region(sink, i, e);
	}
	return r == 0 ? say(sink, &end, e) : r;
}

static int hear_stream(struct page_sink *sink, struct error *e)
{
	int r = 1;

	for (int i = 0; r > 0 && i < AT_ONCE && !sink->bye; i++) {
		struct page_frame frame;

		r = page_link_hear(&sink->stream, &frame, e);
		if (r <= 0) {
			break;
		}
		switch (frame.message) {
		case PAGE_PAGES:
			r = page_sink_put(sink, &frame, e);
			r = r == 0 ? 1 : r;
			break;
		case PAGE_SENT:
			/* What came over the others may be on its way still: it is sent once more. */
			sink->said_missing = false;
			break;
		case PAGE_BYE:
			sink->bye = sink->said_done;
			break;
		case PAGE_GONE:
			page_sink_gone(sink);
			break;
		default:
			r = page_nonsense(&frame, "not on this connection", e);
			break;
		}
	}
	return r < 0 ? r : 0;
}

static int check_silence(const struct page_sink *sink, struct error *e)
{
	const uint64_t last = MAX(sink->stream.moved_ns, atomic_load(&sink->asking_moved_ns));

	if (!lacks(sink) || !sink->whole || loop_now_ns() - last < sink->stall_ns) {
		return 0;
	}
	return error_set(e, ERROR_MIGRATION, ETIMEDOUT,
			 "migration: no page has come from the source for %llu s",
			 (unsigned long long)(sink->stall_ns / 1000000000));
}

static int serve_session(struct page_sink *sink, struct error *e)
{
	int r;

	/* When all is there the source closes, and its last word on the stream may come behind that. */
	if (atomic_load(&sink->broken_session) == sink->session && !atomic_load(&sink->finished)) {
		return error_set(e, ERROR_MIGRATION, EPIPE,
				 "migration: a connection for pages was lost");
	}
	if (!sink->whole && sink->joined == (2U << sink->wanted) - 1) {
		sink->whole = true;
		if (lacks(sink)) {
			enter_state(sink, PAGE_SINK_SERVED, NULL);
		}
	}
	r = hear_stream(sink, e);
	if (r == 0 && sink->whole && lacks(sink) && !sink->said_missing) {
		r = say_missing(sink, e);
	}
	if (r == 0 && sink->whole && atomic_load(&sink->finished) && !sink->said_done) {
		sink->said_done = true;
		r = say(sink, &(const struct page_frame){ .message = PAGE_DONE }, e);
	}
	return r == 0 ? check_silence(sink, e) : r;
}

static void wait_for_something(struct page_sink *sink)
{
	const uint64_t turn_ns = MIN(sink->stall_ns / 2 + 1, 1000000000ULL);
	struct pollfd fds[3 + JOINING_MAX] = {
		{ .fd = sink->wake_fd, .events = POLLIN },
		{ .fd = sink->rests ? -1 : atomic_load(&sink->listener), .events = POLLIN },
		{ .fd = sink->stream.fd, .events = POLLIN },
	};

	for (uint32_t i = 0; i < JOINING_MAX; i++) {
		/* Who has said hello has nothing more to say before it is answered. */
		fds[3 + i].fd = sink->joining[i].said ? -1 : sink->joining[i].link.fd;
		fds[3 + i].events = POLLIN;
	}
	(void)page_poll(fds, ARRAY_SIZE(fds), loop_now_ns() + turn_ns);
	sink->rests = false;
	if (fds[0].revents != 0) {
		page_wake_take(sink->wake_fd);
	}
	if (fds[1].revents != 0) {
		accept_one(sink);
	}
}

/* Nobody has to be served any more. */
static bool is_over(struct page_sink *sink)
{
	if (atomic_load(&sink->stopping) || sink->bye) {
		return true;
	}
	if (atomic_load(&sink->lost)) {
		enter_state(sink, PAGE_SINK_GONE, NULL);
		return true;
	}
	if (!atomic_load(&sink->finished)) {
		return false;
	}
	if (sink->linger_ns == 0) {
		sink->linger_ns = loop_now_ns() + LINGER_NS;
		enter_state(sink, PAGE_SINK_DONE, NULL);
	}
	return loop_now_ns() > sink->linger_ns;
}

static void run(void *arg)
{
	struct page_sink *sink = arg;

	while (!is_over(sink)) {
		struct error why = { 0 };

		wait_for_something(sink);
		serve_joining(sink);
		if (!sink->announced && lacks(sink)) {
			sink->announced = true;
			enter_state(sink, sink->whole ? PAGE_SINK_SERVED : PAGE_SINK_LOST, NULL);
		}
		if (sink->stream.fd >= 0 && serve_session(sink, &why) < 0 &&
		    !atomic_load(&sink->stopping)) {
			/* Something to do here interrupts what waits for a slow peer: it begins again. */
			session_lost(sink, &why);
		}
	}
	close_session(sink);
	for (uint32_t i = 0; i < JOINING_MAX; i++) {
		page_link_finish(&sink->joining[i].link);
	}
	(void)close(atomic_exchange(&sink->listener, -1));
}

/* --- made and ended ------------------------------------------------------------------------------ */

static void stop(void *arg)
{
	page_sink_stop(arg);
	worker_finish(&((struct page_sink *)arg)->worker);
}

static void destroy(void *arg)
{
	struct page_sink *sink = arg;

	for (uint32_t i = 0; i < PAGE_SERVICE_ASKING_MAX; i++) {
		page_link_finish(&sink->asking[i].link);
		page_link_finish(&sink->inbox[i]);
	}
	if (atomic_load(&sink->listener) >= 0) {
		(void)close(atomic_load(&sink->listener));
	}
	close_fd(&sink->wake_fd);
	(void)pthread_mutex_destroy(&sink->lock);
	(void)pthread_cond_destroy(&sink->changed);
	free(sink);
}

static struct page_sink *make(struct guest_memory *mem, const struct page_sink_config *config)
{
	struct page_sink *sink = calloc(1, sizeof(*sink));

	if (sink == NULL) {
		return NULL;
	}
	sink->mem = mem;
	memcpy(sink->token, config->token, sizeof(sink->token));
	sink->stall_ns = config->stall_ns;
	sink->listener = -1;
	sink->stream.fd = -1;
	sink->run = (struct loop_post){ .run = run, .arg = sink };
	sink->deliver = (struct loop_post){ .run = page_asking_delivered, .arg = sink };
	for (uint32_t i = 0; i < PAGE_SERVICE_ASKING_MAX; i++) {
		sink->asking[i].sink = sink;
		sink->asking[i].link.fd = sink->inbox[i].fd = -1;
	}
	for (uint32_t i = 0; i < JOINING_MAX; i++) {
		sink->joining[i].link.fd = -1;
	}
	(void)pthread_mutex_init(&sink->lock, NULL);
	(void)pthread_cond_init(&sink->changed, NULL);
	sink->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return sink;
}

int page_sink_create(struct page_sink **ret, struct guest_memory *mem,
		     const struct page_sink_config *config, struct error *e)
{
	struct pager_source source = {
		.want = page_asking_want, .done = page_asking_done, .stop = stop, .destroy = destroy
	};
	struct page_sink *sink;
	struct pager *pager;
	int r = pager_create(&pager, mem, e);

	if (r < 0) {
		return r;
	}
	sink = make(mem, config);
	if (sink == NULL || sink->wake_fd < 0) {
		pager_destroy(pager);
		if (sink != NULL) {
			destroy(sink);
		}
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	sink->pager = pager;
	source.arg = sink;
	pager_attach(pager);
	/* From here on the memory's end is the sink's. */
	r = pager_serve(pager, &source, config->enter, config->arg, e);
	r = r == 0 ? worker_init(&sink->worker, "pages", e) : r;
	if (r == 0) {
		loop_post(&sink->worker.loop, &sink->run);
		r = worker_start(&sink->worker, config->enter, config->arg, e);
	}
	*ret = r == 0 ? sink : NULL;
	return r;
}

void page_sink_listen(struct page_sink *sink, int listener)
{
	atomic_store(&sink->listener, listener);
	page_wake(sink->wake_fd);
}

int page_sink_miss(struct page_sink *sink, const uint8_t *payload, uint32_t len, struct error *e)
{
	struct page_missing missing;
	int r;

	VMM_BUG_ON(atomic_load(&sink->armed));
	r = page_missing_read(&missing, sink->mem, payload, len, e);
	if (r < 0) {
		return r;
	}
	r = pager_miss(sink->pager, missing.region, missing.first, missing.count, missing.bitmap,
		       e);
	free(missing.bitmap);
	return r;
}

int page_sink_arm(struct page_sink *sink, struct error *e)
{
	int r = pager_arm(sink->pager, e);

	if (r == 0) {
		atomic_store(&sink->asking_moved_ns, loop_now_ns());
		atomic_store(&sink->armed, true);
		page_wake(sink->wake_fd);
	}
	return r;
}

void page_sink_stop(struct page_sink *sink)
{
	atomic_store(&sink->stopping, true);
	if (sink->wake_fd >= 0) {
		page_wake(sink->wake_fd);
	}
}

void page_sink_lose(struct page_sink *sink, const struct error *why)
{
	{
		SCOPED_LOCK(&sink->lock);
		sink->why = *why;
	}
	atomic_store(&sink->lost, true);
	pager_lose(sink->pager, why);
	page_wake(sink->wake_fd);
}

enum page_sink_state page_sink_wait(struct page_sink *sink, enum page_sink_state known,
				    struct error *why)
{
	SCOPED_LOCK(&sink->lock);

	while (sink->state == known && !sink->left) {
		(void)pthread_cond_wait(&sink->changed, &sink->lock);
	}
	if (why != NULL) {
		*why = sink->why;
	}
	return sink->left ? PAGE_SINK_LEFT : sink->state;
}

void page_sink_leave(struct page_sink *sink)
{
	SCOPED_LOCK(&sink->lock);

	sink->left = true;
	(void)pthread_cond_broadcast(&sink->changed);
}

uint64_t page_sink_left(const struct page_sink *sink)
{
	return pager_left(sink->pager) * PAGE_SIZE_4K;
}
