/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rate limit on a virtqueue (vmm/rate_limit.h). Private to the devices. The device asks before it
 * takes a chain, or reads a frame, and says afterwards how large it was:
 *
 *	while (!queue_limit_stops(&limit) && virtqueue_pop(...) > 0) {
 *		queue_limit_take(&limit, bytes);
 *	}
 *	if (limit.throttled) {
 *		... publish, and leave kicks suppressed
 *		return;
 *	}
 *
 * While `throttled` a timer runs, and the device takes nothing whatever kicks come; when it
 * expires, the queue is processed as after a kick. What a guest has used stays used across its
 * resets of the device, or they would be a way around the limit. A queue without a limit costs a
 * branch.
 *
 * The queue's worker only, but for queue_limit_init() and queue_limit_change(). Nothing is saved.
 */
#ifndef VMM_QUEUE_LIMIT_H
#define VMM_QUEUE_LIMIT_H

#include "vmm/loop.h"
#include "vmm/rate_limit.h"
#include "vmm/virtio.h"

struct queue_limit {
	bool active;	/* limits anything */
	bool throttled; /* the timer runs */
	struct rate_limit rate;
	struct loop_timer timer;
	struct virtio_queue *queue;
};

/* Before the worker starts. */
void queue_limit_init(struct queue_limit *limit, struct virtio_queue *queue,
		      const struct rate_limit_config *config);
/* Any thread but a worker's, the worker runs: what is given changes, and counts at once. */
void queue_limit_change(struct queue_limit *limit, const struct rate_limit_config *config);
/* The queue stops. */
void queue_limit_stop(struct queue_limit *limit);

bool queue_limit_ask(struct queue_limit *limit);
static inline bool queue_limit_stops(struct queue_limit *limit)
{
	return __builtin_expect(limit->active, false) && queue_limit_ask(limit);
}

static inline void queue_limit_take(struct queue_limit *limit, uint64_t bytes)
{
	if (__builtin_expect(limit->active, false)) {
		rate_limit_take(&limit->rate, bytes, loop_now_ns());
	}
}

#endif
