/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rate limits by token buckets, one for bytes and one for operations, as in Firecracker's API
 * ("rate_limiter"): a bucket of `size` tokens, full at start, refilled evenly to full within
 * `refill_time_ms`; `one_time_burst` tokens come on top once, and are used first. A bucket whose size or refill time is
 * 0 limits nothing. A request may take more than is left: the debt is worked off before the next
 * one, so requests larger than the bucket pass, at the right average rate.
 *
 * The configuration is plain data with an option table. The limiter belongs to one thread, asks for
 * the time itself only if it limits anything, and keeps no timer: the owner arms one for the delay it
 * is told.
 */
#ifndef VMM_RATE_LIMIT_H
#define VMM_RATE_LIMIT_H

#include "vmm/options.h"
#include "vmm/types.h"

struct token_bucket_config {
	uint64_t size, one_time_burst, refill_time_ms;
};

struct rate_limit_config {
	struct token_bucket_config bandwidth, ops;
	bool has_bandwidth, has_ops; /* given */
};

/* "bandwidth" and "ops", JSON keys size, one_time_burst, refill_time. */
extern const struct option_table token_bucket_options, rate_limit_options;

struct token_bucket {
	uint64_t size, burst, refill_ns; /* burst: what is left of it */
	uint64_t tokens;
	uint64_t debt;
	uint64_t updated_ns;
	uint64_t fraction; /* of a token that has dripped since, in 1/refill_ns */
};

struct rate_limit {
	struct token_bucket bandwidth, ops;
};

/* What is not given does not limit. Both buckets are full. */
void rate_limit_init(struct rate_limit *limit, const struct rate_limit_config *config);
/*
 * A change at run time: only the buckets that are given change, to full ones.
 */
void rate_limit_update(struct rate_limit *limit, const struct rate_limit_config *config);
/* May one more operation start now? 0: yes; else nanoseconds until it is worth asking again. */
uint64_t rate_limit_delay(struct rate_limit *limit, uint64_t now_ns);
/* An operation of so many bytes has started. */
void rate_limit_take(struct rate_limit *limit, uint64_t bytes, uint64_t now_ns);
static inline bool rate_limit_active(const struct rate_limit *limit)
{
	return limit->bandwidth.size != 0 || limit->ops.size != 0;
}

#endif
