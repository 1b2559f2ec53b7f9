// SPDX-License-Identifier: Apache-2.0
/*
 * See throttle.h. A period is 10 ms, and longer where the share that is left of it would be shorter than the loop's timers can tell: at
 * 99 % the guest runs for 1 ms and rests for 99. That is less than what a guest takes for a processor that hangs, and than what
 * a connection of its takes for a lost packet.
 */
#include "throttle.h"

#include "vmm/types.h"

#define PERIOD_NS  10000000ULL
#define RUN_MIN_NS 1000000ULL
/* A host that was busy meanwhile does not make the guest rest for seconds. */
#define LATE_TIMES 4

uint64_t throttle_run_ns(uint32_t percent)
{
	return MAX(PERIOD_NS * (100 - percent) / 100, RUN_MIN_NS);
}

uint64_t throttle_rest_ns(uint32_t percent, uint64_t ran_ns)
{
	return MIN(ran_ns, LATE_TIMES * throttle_run_ns(percent)) * percent / (100 - percent);
}

static void run_over(struct loop_timer *timer)
{
	struct throttle *throttle = container_of(timer, struct throttle, timer);
	const uint64_t now = loop_now_ns(), since = MIN(throttle->runs_since, now);
	const uint64_t rest = throttle_rest_ns(throttle->percent, now - since);

	vcpus_rest(throttle->vcpus, now + rest);
	throttle->runs_since = now + rest;
	loop_timer_set(throttle->loop, timer, rest + throttle_run_ns(throttle->percent), run_over);
}

void throttle_end(struct throttle *throttle)
{
	loop_timer_cancel(&throttle->timer);
	if (throttle->percent != 0) {
		throttle->percent = 0;
		vcpus_rest(throttle->vcpus, 0);
	}
}

void throttle_set(struct throttle *throttle, struct vcpus *vcpus, struct loop *loop,
		  uint32_t percent)
{
	const bool was_on = throttle->percent != 0;

	VMM_BUG_ON(percent > THROTTLE_PERCENT_MAX);
	if (percent == 0) {
		throttle_end(throttle);
		return;
	}
	throttle->vcpus = vcpus;
	throttle->loop = loop;
	throttle->percent = percent;
	if (!was_on) {
		throttle->runs_since = loop_now_ns();
		loop_timer_set(loop, &throttle->timer, throttle_run_ns(percent), run_over);
	}
}
