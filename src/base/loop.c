/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop. A source sits in a slot; what epoll hands back is the slot and the generation the
 * slot had when the source was added, so an event that was fetched before its source was removed
 * (or the slot given to another one) is recognised and dropped. Free slots form a list, and slots
 * that were never used are not even touched: a server's loop for thousands of clients costs memory
 * for those that it has.
 *
 * Order of one round: wait; what is ready, of which posts are one source; expired timers. A post
 * that a callback makes runs in a later round, and a timer that it arms lies behind the time the
 * round looks at, so no callback can keep a round from ending.
 *
 * Threads: one runs the loop and owns sources and timers. Any thread may post or stop: posts are a
 * list under post_lock, which is held for a few instructions and is the innermost lock. The eventfd
 * is written when the list stops being empty only.
 *
 * System calls after loop_init(): epoll_pwait, epoll_ctl, read, write (and futex under contention).
 * No guest data comes here.
 */
#include "vmm/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cleanup.h"

#define EVENTS_PER_ROUND 16
#define NS_PER_S	 1000000000ULL
#define NS_PER_MS	 1000000ULL

uint64_t loop_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t source_ref(const struct loop *loop, uint32_t slot)
{
	return (uint64_t)loop->slots[slot].generation << 32 | slot;
}

static bool take_slot(struct loop *loop, uint32_t *ret)
{
	if (loop->free_slot != 0) {
		*ret = loop->free_slot - 1;
		loop->free_slot = loop->slots[*ret].next_free;
		return true;
	}
	if (loop->slots_used == loop->sources_max) {
		return false;
	}
	*ret = loop->slots_used++;
	return true;
}

static void give_slot(struct loop *loop, uint32_t slot)
{
	loop->slots[slot].source = NULL;
	loop->slots[slot].generation++;
	loop->slots[slot].next_free = loop->free_slot;
	loop->free_slot = slot + 1;
}

int loop_source_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		    void (*ready)(struct loop_source *, uint32_t), struct error *e)
{
	struct epoll_event event = { .events = events };
	uint32_t slot;

	if (!take_slot(loop, &slot)) {
		return error_set(e, ERROR_INTERNAL, ENOSPC,
				 "event loop: more than %u descriptors to wait for",
				 loop->sources_max);
	}
	event.data.u64 = source_ref(loop, slot);
	if (events != 0 && epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
		int r = error_set_sys(e, ERROR_INTERNAL, errno,
				      "event loop: wait for descriptor %d", fd);

		give_slot(loop, slot);
		return r;
	}
	*source = (struct loop_source){
		.loop = loop, .fd = fd, .events = events, .ready = ready, .slot = slot
	};
	loop->slots[slot].source = source;
	return 0;
}

/*
 * Silence cannot be said with an event mask of 0: epoll reports EPOLLERR and EPOLLHUP regardless,
 * and a hung-up descriptor would spin the loop. Such a source leaves the epoll set but keeps its
 * slot.
 */
int loop_source_modify(struct loop_source *source, uint32_t events)
{
	struct loop *loop = source->loop;
	struct epoll_event event = { .events = events };
	int op = EPOLL_CTL_MOD;

	if (loop == NULL) {
		return -EINVAL;
	}
	if (events == source->events) {
		return 0;
	}
	if (events == 0) {
		op = EPOLL_CTL_DEL;
	} else if (source->events == 0) {
		op = EPOLL_CTL_ADD;
	}
	event.data.u64 = source_ref(loop, source->slot);
	if (epoll_ctl(loop->epoll_fd, op, source->fd, &event) != 0) {
		return -errno;
	}
	source->events = events;
	return 0;
}

void loop_source_remove(struct loop_source *source)
{
	struct loop *loop = source->loop;

	if (loop == NULL) {
		return;
	}
	if (source->events != 0) {
		(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	}
	give_slot(loop, source->slot);
	source->loop = NULL;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_ns,
		    void (*expired)(struct loop_timer *))
{
	struct loop_timer **at = &loop->timers;
	uint64_t now = loop_now_ns();

	loop_timer_cancel(timer);
	timer->loop = loop;
	timer->deadline_ns = delay_ns < UINT64_MAX - now ? now + delay_ns : UINT64_MAX;
	timer->expired = expired;
	while (*at != NULL && (*at)->deadline_ns <= timer->deadline_ns) {
		at = &(*at)->next;
	}
	timer->next = *at;
	*at = timer;
}

void loop_timer_cancel(struct loop_timer *timer)
{
	struct loop_timer **at;

	if (timer->loop == NULL) {
		return;
	}
	for (at = &timer->loop->timers; *at != NULL; at = &(*at)->next) {
		if (*at == timer) {
			*at = timer->next;
			break;
		}
	}
	timer->loop = NULL;
	timer->next = NULL;
}

static void wake(struct loop *loop)
{
	const uint64_t one = 1;

	/* EAGAIN means that the counter is full: the loop is awake already. */
	while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}

void loop_post(struct loop *loop, struct loop_post *post)
{
	bool first;

	post->next = NULL;
	{
		SCOPED_LOCK(&loop->post_lock);
		first = loop->posts_head == NULL;
		*loop->posts_tail = post;
		loop->posts_tail = &post->next;
		/*
		 * Inside the lock, because the loop may be torn down as soon as the node has run.
		 * An eventfd never blocks here.
		 */
		if (first) {
			wake(loop);
		}
	}
}

void loop_stop(struct loop *loop)
{
	__atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
	wake(loop);
}

static void run_posts(struct loop *loop)
{
	{
		SCOPED_LOCK(&loop->post_lock);
		loop->posts_taken = loop->posts_head;
		loop->posts_head = NULL;
		loop->posts_tail = &loop->posts_head;
	}
	while (loop->posts_taken != NULL) {
		struct loop_post *post = loop->posts_taken;

		loop->posts_taken = post->next;
		post->next = NULL;
		post->run(post->arg); /* may free or post the node again, and cancel others */
	}
}

/* Returns the link that led to the node, NULL if it is not in the list. */
static struct loop_post **unlink_post(struct loop_post **link, const struct loop_post *post)
{
	for (; *link != NULL; link = &(*link)->next) {
		if (*link == post) {
			*link = post->next;
			return link;
		}
	}
	return NULL;
}

void loop_post_cancel(struct loop *loop, struct loop_post *post)
{
	struct loop_post **link;

	(void)unlink_post(&loop->posts_taken, post);
	SCOPED_LOCK(&loop->post_lock);
	link = unlink_post(&loop->posts_head, post);
	if (link != NULL && *link == NULL) {
		loop->posts_tail = link;
	}
}

static void wake_ready(struct loop_source *source, uint32_t events)
{
	uint64_t count;

	(void)events;
	/* Before the list is taken: a post that comes in between wakes the next round. */
	(void)!read(source->fd, &count, sizeof(count));
	run_posts(source->loop);
}

int loop_init(struct loop *loop, struct error *e)
{
	return loop_init_sized(loop, LOOP_SOURCES_MAX, e);
}

int loop_init_sized(struct loop *loop, uint32_t sources_max, struct error *e)
{
	int r;

	VMM_BUG_ON(sources_max == 0 || sources_max > LOOP_SOURCES_SIZED_MAX);
	*loop = (struct loop){ .epoll_fd = -1, .wake_fd = -1 };
	/* Zeroed memory from the kernel stays address space; a small table shares a page of the heap. */
	loop->slots = calloc(sources_max, sizeof(*loop->slots));
	if (loop->slots == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM,
				 "event loop: no memory for %u descriptors", sources_max);
	}
	loop->sources_max = sources_max;
	r = pthread_mutex_init(&loop->post_lock, NULL);
	if (r != 0) {
		free(take_ptr(loop->slots));
		return error_set_sys(e, ERROR_INTERNAL, r, "event loop: mutex");
	}
	loop->posts_tail = &loop->posts_head;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		r = error_set_sys(e, ERROR_INTERNAL, errno, "event loop: epoll_create1");
		goto fail;
	}
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0) {
		r = error_set_sys(e, ERROR_INTERNAL, errno, "event loop: eventfd");
		goto fail;
	}
	r = loop_source_add(loop, &loop->wake_source, loop->wake_fd, EPOLLIN, wake_ready, e);
	if (r < 0) {
		goto fail;
	}
	return 0;

fail:
	loop_finish(loop);
	return r;
}

void loop_finish(struct loop *loop)
{
	if (loop->posts_tail == NULL) {
		return; /* never made */
	}
	for (uint32_t slot = 0; slot < loop->slots_used; slot++) {
		if (loop->slots[slot].source != NULL) {
			loop->slots[slot].source->loop = NULL;
		}
	}
	while (loop->timers != NULL) {
		loop_timer_cancel(loop->timers);
	}
	close_fd(&loop->wake_fd);
	close_fd(&loop->epoll_fd);
	(void)pthread_mutex_destroy(&loop->post_lock);
	free(loop->slots);
	*loop = (struct loop){ .epoll_fd = -1, .wake_fd = -1 };
}

/* Milliseconds until the next timer, rounded up so that it has expired then; at most `timeout_ms`
 * (-1: no limit). */
static int round_timeout(const struct loop *loop, int timeout_ms)
{
	uint64_t now, left;

	if (loop->timers == NULL || timeout_ms == 0 || loop->timers->deadline_ns == UINT64_MAX) {
		return timeout_ms;
	}
	now = loop_now_ns();
	if (loop->timers->deadline_ns <= now) {
		return 0;
	}
	left = (loop->timers->deadline_ns - now - 1) / NS_PER_MS + 1;
	if (left > INT_MAX) {
		left = INT_MAX;
	}
	return timeout_ms < 0 || (int)left < timeout_ms ? (int)left : timeout_ms;
}

static void run_sources(struct loop *loop, const struct epoll_event *events, int count)
{
	for (int i = 0; i < count; i++) {
		uint32_t slot = (uint32_t)events[i].data.u64;
		struct loop_source *source = loop->slots[slot].source;
		uint32_t what;

		if (source == NULL || source_ref(loop, slot) != events[i].data.u64) {
			continue;
		}
		/* A callback of this round may have narrowed what the source waits for. */
		what = source->events == 0
			       ? 0
			       : events[i].events & (source->events | EPOLLERR | EPOLLHUP);
		if (what != 0) {
			source->ready(source, what);
		}
	}
}

static void run_timers(struct loop *loop)
{
	uint64_t now;

	if (loop->timers == NULL) {
		return;
	}
	now = loop_now_ns();
	while (loop->timers != NULL && loop->timers->deadline_ns <= now) {
		struct loop_timer *timer = loop->timers;

		loop_timer_cancel(timer);
		timer->expired(timer); /* may arm or free it */
	}
}

int loop_step(struct loop *loop, int timeout_ms)
{
	struct epoll_event events[EVENTS_PER_ROUND];
	int count = epoll_pwait(loop->epoll_fd, events, EVENTS_PER_ROUND,
				round_timeout(loop, timeout_ms), NULL);

	if (count < 0) {
		if (errno != EINTR) {
			return -errno;
		}
		count = 0;
	}
	run_sources(loop, events, count);
	run_timers(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	int r;

	do {
		r = loop_step(loop, -1);
	} while (r == 0 && !__atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE));
	__atomic_store_n(&loop->stop, false, __ATOMIC_RELAXED);
	return r;
}
