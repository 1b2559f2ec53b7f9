/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rate limit on virtqueues (vmm/rate_limit.h). Private to the devices. All queues of a disk, and
 * those of a card in one direction, take from the same buckets (struct shared_rate): how many queues a
 * driver uses gives it no more. Each has a limit of its own that asks there (struct queue_limit). The
 * device asks before it takes a chain, or reads a frame, and says afterwards how large it was:
 *
 *	while (!queue_limit_stops(&limit) && virtqueue_pop(...) > 0) {
 *		queue_limit_take(&limit, bytes);
 *	}
 *	if (limit.throttled) {
 *		... publish, and leave kicks suppressed
 *		return;
 *	}
 *
 * Queues that ask at the same time may together take some requests more than there are tokens for;
 * that is debt, which is worked off before the next one.
 *
 * While `throttled` a timer runs, and the queue takes nothing whatever kicks come; when it
 * expires, the queue is processed as after a kick. Queues that wait for the same tokens wake at the
 * same time, and who is late asks again: none has a place in front of another. What a guest has used
 * stays used across its resets of the device, or they would be a way around the limit. A queue
 * without a limit costs a branch.
 *
 * Threads: a queue_limit belongs to the queue's worker; the buckets are shared under their lock, which
 * is innermost. Nothing is saved.
 */
#ifndef VMM_QUEUE_LIMIT_H
#define VMM_QUEUE_LIMIT_H

#include <pthread.h>

#include "vmm/loop.h"
#include "vmm/rate_limit.h"
#include "vmm/virtio.h"

struct shared_rate {
	pthread_mutex_t lock;
	_Atomic bool active; /* limits anything */
	struct rate_limit rate;
};

struct queue_limit {
	bool throttled; /* the timer runs */
	struct shared_rate *shared;
	struct loop_timer timer;
	struct virtio_queue *queue;
};

/* No limit yet. */
void shared_rate_init(struct shared_rate *shared);
void shared_rate_finish(struct shared_rate *shared);
/* Any thread: what is given changes, and counts at once, but for queues that wait: see
 * queue_limit_wake(). */
void shared_rate_change(struct shared_rate *shared, const struct rate_limit_config *config);

/* Before the worker starts. */
void queue_limit_init(struct queue_limit *limit, struct shared_rate *shared,
		      struct virtio_queue *queue);
/* Any thread but a worker's, the worker runs: a queue that waits asks anew. */
void queue_limit_wake(struct queue_limit *limit);
/* The queue stops. */
void queue_limit_stop(struct queue_limit *limit);

bool queue_limit_ask(struct queue_limit *limit);
static inline bool queue_limit_active(const struct queue_limit *limit)
{
	return __builtin_expect(atomic_load_explicit(&limit->shared->active, memory_order_relaxed),
				false);
}

static inline bool queue_limit_stops(struct queue_limit *limit)
{
	return queue_limit_active(limit) && queue_limit_ask(limit);
}

void queue_limit_book(struct queue_limit *limit, uint64_t bytes);
static inline void queue_limit_take(struct queue_limit *limit, uint64_t bytes)
{
	if (queue_limit_active(limit)) {
		queue_limit_book(limit, bytes);
	}
}

#endif
