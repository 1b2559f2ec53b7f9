/* SPDX-License-Identifier: Apache-2.0 */
/* queue_limit.h says it. Sizes and times are a client's, any 64-bit number; the guest controls how
 * much it asks for. */
#include "queue_limit.h"

#include "vmm/cleanup.h"

/* Longer delays are asked for anew: a timer's deadline must not overflow. */
#define DELAY_MAX_NS (UINT64_C(3600) * 1000000000)

void shared_rate_init(struct shared_rate *shared)
{
	(void)pthread_mutex_init(&shared->lock, NULL);
	atomic_store(&shared->active, false);
	rate_limit_init(&shared->rate, &(struct rate_limit_config){ 0 });
}

void shared_rate_finish(struct shared_rate *shared)
{
	(void)pthread_mutex_destroy(&shared->lock);
}

void shared_rate_change(struct shared_rate *shared, const struct rate_limit_config *config)
{
	SCOPED_LOCK(&shared->lock);
	rate_limit_update(&shared->rate, config);
	atomic_store(&shared->active, rate_limit_active(&shared->rate));
}

void queue_limit_init(struct queue_limit *limit, struct shared_rate *shared,
		      struct virtio_queue *queue)
{
	*limit = (struct queue_limit){ .shared = shared, .queue = queue };
}

void queue_limit_stop(struct queue_limit *limit)
{
	loop_timer_cancel(&limit->timer);
	limit->throttled = false;
}

static void expired(struct loop_timer *timer)
{
	struct queue_limit *limit = container_of(timer, struct queue_limit, timer);

	limit->throttled = false;
	virtio_queue_process(limit->queue);
}

bool queue_limit_ask(struct queue_limit *limit)
{
	uint64_t delay;

	if (limit->throttled) {
		return true;
	}
	{
		SCOPED_LOCK(&limit->shared->lock);
		delay = rate_limit_delay(&limit->shared->rate, loop_now_ns());
	}
	if (delay == 0) {
		return false;
	}
	limit->throttled = true;
	loop_timer_set(&limit->queue->worker->loop, &limit->timer, MIN(delay, DELAY_MAX_NS),
		       expired);
	return true;
}

void queue_limit_book(struct queue_limit *limit, uint64_t bytes)
{
	SCOPED_LOCK(&limit->shared->lock);
	rate_limit_take(&limit->shared->rate, bytes, loop_now_ns());
}

static void wake_on_worker(void *arg)
{
	struct queue_limit *limit = arg;
	bool waits = limit->throttled;

	queue_limit_stop(limit);
	if (waits && limit->queue->started) {
		virtio_queue_process(limit->queue);
	}
}

void queue_limit_wake(struct queue_limit *limit)
{
	(void)worker_call(limit->queue->worker, wake_on_worker, limit);
}
