/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop over epoll: descriptors, one-shot timers, and closures posted from other threads.
 * Main has one, each I/O worker has one. Everything but loop_post() and loop_stop() is called on
 * the thread that runs the loop (or before it starts).
 *
 * A source may be removed at any time, also from its own or another callback of the same round:
 * pending events of a removed source are dropped. Callbacks never block. Storage for sources and
 * timers belongs to the caller; the loop allocates nothing after loop_init() except in loop_post().
 */
#ifndef VMM_LOOP_H
#define VMM_LOOP_H

#include <pthread.h>
#include <sys/epoll.h>

#include "vmm/error.h"
#include "vmm/types.h"

/* Of loop_init(): descriptors at one time; one of them is the loop's own. */
#define LOOP_SOURCES_MAX       64
#define LOOP_SOURCES_SIZED_MAX 65536 /* of loop_init_sized() */

struct loop;

struct loop_source {
	struct loop *loop; /* NULL while not added */
	int fd;		   /* borrowed */
	uint32_t events;   /* EPOLLIN and so on */
	void (*ready)(struct loop_source *source, uint32_t events);
	uint32_t slot;
};

struct loop_timer {
	struct loop *loop;    /* NULL while not armed */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC */
	void (*expired)(struct loop_timer *timer);
	struct loop_timer *next;
};

struct loop_post {
	void (*run)(void *arg);
	void *arg;
	struct loop_post *next;
};

struct loop_slot {
	struct loop_source *source; /* NULL: free */
	uint32_t generation;
	uint32_t next_free; /* slot + 1 of the next free one, 0 at the end */
};

struct loop {
	int epoll_fd;
	int wake_fd; /* eventfd: posts and stop */
	struct loop_source wake_source;
	uint32_t sources_max;
	uint32_t slots_used;	   /* the first so many of `slots` were in use at some time */
	uint32_t free_slot;	   /* slot + 1 of the first free one of these, 0: none */
	struct loop_slot *slots;   /* sources_max of them, address space until used */
	struct loop_timer *timers; /* sorted by deadline */
	pthread_mutex_t post_lock;
	struct loop_post *posts_head; /* under post_lock */
	struct loop_post **posts_tail;
	struct loop_post *posts_taken; /* of this round, not run yet; the loop's thread */
	bool stop;		       /* atomic */
};

int loop_init(struct loop *loop, struct error *e);
/* For up to `sources_max` descriptors, from 1 to LOOP_SOURCES_SIZED_MAX. */
int loop_init_sized(struct loop *loop, uint32_t sources_max, struct error *e);
/* Sources and timers that are still there are let go; posts that have not run never will. Nobody
 * may post or stop any more. */
void loop_finish(struct loop *loop);

/* -EPERM for a regular file, which epoll cannot wait for. `source` need not be initialised. */
int loop_source_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		    void (*ready)(struct loop_source *, uint32_t), struct error *e);
/* Changes the events waited for; 0 keeps the source registered but silent, also about EPOLLHUP.
 * Negative errno if epoll fails. */
int loop_source_modify(struct loop_source *source, uint32_t events);
/* Accepts a source that was never added. */
void loop_source_remove(struct loop_source *source);

/* (Re-)arms. `delay_ns` from now, never early, up to a millisecond late. A new timer must be
 * zeroed. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_ns,
		    void (*expired)(struct loop_timer *));
void loop_timer_cancel(struct loop_timer *timer);

/* Any thread. The node is the caller's, lives until run() is called; posted nodes run in order,
 * once each. */
void loop_post(struct loop *loop, struct loop_post *post);
/* The loop's thread: a node that is posted will not run. To free it, make sure that nobody posts it
 * any more. */
void loop_post_cancel(struct loop *loop, struct loop_post *post);
/* Any thread, also from a callback: loop_run() returns after the current round. If it does not run
 * yet, after its first one. */
void loop_stop(struct loop *loop);

/* Runs until loop_stop(). Returns 0, or a negative errno if epoll itself fails. */
int loop_run(struct loop *loop);
/*
 * One round: waits at most timeout_ms (-1: for ever), runs what is ready. 0, or a negative errno.
 * Tests drive loops with this.
 */
int loop_step(struct loop *loop, int timeout_ms);

uint64_t loop_now_ns(void);
static inline int64_t loop_now_ms(void)
{
	return (int64_t)(loop_now_ns() / 1000000);
}

#endif
