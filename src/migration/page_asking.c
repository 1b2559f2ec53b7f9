/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's end of the page service, on the pager's thread: connections by which it asks for pages that something waits for, and by
 * which they come. Those that the other thread has let in are handed over by a post (page_sink.c); the other way goes that one is broken.
 *
 * The source controls when and what it sends there. It can put pages only where they are missing.
 */
#include <errno.h>
#include <sys/epoll.h>

#include "page_sink_internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("migration");

static void asking_broke(struct asking *asking, const struct error *why)
{
	struct page_sink *sink = asking->sink;

	log_debug("%s", why->msg);
	loop_source_remove(&asking->source);
	page_link_finish(&asking->link);
	atomic_store(&sink->broken_session, atomic_load(&sink->asked_session));
	page_wake(sink->wake_fd);
}

/* As much as the socket takes. */
static void send_asks(struct asking *asking)
{
	struct error e = { 0 };
	int r = asking->link.out_busy ? page_link_flush(&asking->link, &e) : 1;

	while (r > 0 && asking->count != 0) {
		const uint64_t what = asking->outbox[asking->first % OUTBOX];
		const struct page_frame ask = { .message = PAGE_ASK,
						.region = (uint32_t)(what >> 48),
						.first = what & ((1ULL << 48) - 1),
						.count = 1 };

		asking->first++;
		asking->count--;
		r = page_link_send(&asking->link, &ask, &e);
	}
	if (r < 0) {
		asking_broke(asking, &e);
		return;
	}
	(void)loop_source_modify(&asking->source, EPOLLIN | (asking->link.out_busy ? EPOLLOUT : 0));
}

void page_asking_want(void *arg, uint32_t index, uint64_t page)
{
	struct page_sink *sink = arg;

	for (uint32_t i = 0; i < PAGE_SERVICE_ASKING_MAX; i++) {
		struct asking *asking = &sink->asking[(sink->asks + i) % PAGE_SERVICE_ASKING_MAX];

		if (asking->link.fd >= 0 && asking->count < OUTBOX) {
			sink->asks = (sink->asks + i + 1) % PAGE_SERVICE_ASKING_MAX;
			asking->outbox[(asking->first + asking->count++) % OUTBOX] =
				(uint64_t)index << 48 | page;
			send_asks(asking);
			return;
		}
	}
	sink->again = true;
}

/* Those for which there was no room. */
static void ask_again(struct page_sink *sink)
{
	if (sink->again) {
		sink->again = false;
		pager_want_again(sink->pager);
	}
}

static void asking_ready(struct loop_source *source, uint32_t events)
{
	struct asking *asking = container_of(source, struct asking, source);
	struct page_sink *sink = asking->sink;
	struct error e = { 0 };
	int r = 1;

	(void)events;
	for (int i = 0; r > 0 && i < AT_ONCE; i++) {
		struct page_frame frame;

		r = page_link_hear(&asking->link, &frame, &e);
		if (r > 0 && frame.message == PAGE_GONE) {
			page_sink_gone(sink);
		} else if (r > 0 && frame.message != PAGE_PAGES) {
			r = page_nonsense(&frame, "not on this connection", &e);
		} else if (r > 0) {
			r = page_sink_put(sink, &frame, &e);
			r = r == 0 ? 1 : r;
		}
	}
	atomic_store(&sink->asking_moved_ns, loop_now_ns());
	if (r < 0) {
		asking_broke(asking, &e);
		return;
	}
	send_asks(asking);
	ask_again(sink);
}

static void drop_asking(struct page_sink *sink)
{
	for (uint32_t i = 0; i < PAGE_SERVICE_ASKING_MAX; i++) {
		struct asking *asking = &sink->asking[i];

		loop_source_remove(&asking->source);
		page_link_finish(&asking->link);
		asking->count = 0;
	}
}

static void begin_asking(struct page_sink *sink, uint32_t i, struct page_link *link)
{
	struct asking *asking = &sink->asking[i];
	struct error e = { 0 };

	asking->link = *link;
	asking->first = asking->count = 0;
	if (loop_source_add(pager_loop(sink->pager), &asking->source, asking->link.fd, EPOLLIN,
			    asking_ready, &e) < 0) {
		asking_broke(asking, &e);
	}
}

/* What the other thread has for this one. */
void page_asking_delivered(void *arg)
{
	struct page_sink *sink = arg;
	struct page_link links[PAGE_SERVICE_ASKING_MAX];
	bool drop, any = false;

	{
		SCOPED_LOCK(&sink->lock);
		sink->posted = false;
		drop = sink->drop;
		sink->drop = false;
		for (uint32_t i = 0; i < PAGE_SERVICE_ASKING_MAX; i++) {
			links[i] = sink->inbox[i];
			sink->inbox[i] = (struct page_link){ .fd = -1 };
		}
	}
	if (drop) {
		drop_asking(sink);
	}
	for (uint32_t i = 0; i < PAGE_SERVICE_ASKING_MAX; i++) {
		if (links[i].fd >= 0) {
			any = true;
			begin_asking(sink, i, &links[i]);
		}
	}
	if (any) {
		sink->again = false;
		pager_want_again(sink->pager);
	}
}

void page_asking_done(void *arg)
{
	struct page_sink *sink = arg;

	if (pager_check(sink->pager, NULL) == 0) {
		atomic_store(&sink->finished, true);
	}
	page_wake(sink->wake_fd);
}
