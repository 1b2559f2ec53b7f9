/* SPDX-License-Identifier: Apache-2.0 */
/* queue_limit.h says it. Sizes and times are a client's, any 64-bit number; the guest controls how
 * much it asks for. */
#include "queue_limit.h"

/* Longer delays are asked for anew: a timer's deadline must not overflow. */
#define DELAY_MAX_NS (UINT64_C(3600) * 1000000000)

void queue_limit_init(struct queue_limit *limit, struct virtio_queue *queue,
		      const struct rate_limit_config *config)
{
	*limit = (struct queue_limit){ .queue = queue };
	rate_limit_init(&limit->rate, config);
	limit->active = rate_limit_active(&limit->rate);
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
	delay = rate_limit_delay(&limit->rate, loop_now_ns());
	if (delay == 0) {
		return false;
	}
	limit->throttled = true;
	loop_timer_set(&limit->queue->worker->loop, &limit->timer, MIN(delay, DELAY_MAX_NS),
		       expired);
	return true;
}

struct change {
	struct queue_limit *limit;
	const struct rate_limit_config *config;
};

static void change_on_worker(void *arg)
{
	const struct change *change = arg;
	struct queue_limit *limit = change->limit;
	bool waits = limit->throttled;

	rate_limit_update(&limit->rate, change->config);
	limit->active = rate_limit_active(&limit->rate);
	queue_limit_stop(limit);
	if (waits && limit->queue->started) {
		virtio_queue_process(limit->queue);
	}
}

void queue_limit_change(struct queue_limit *limit, const struct rate_limit_config *config)
{
	struct change change = { .limit = limit, .config = config };

	(void)worker_call(limit->queue->worker, change_on_worker, &change);
}
