/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token buckets. Tokens drip in at size / refill_ns per nanosecond; what is left of a whole one is
 * kept as a fraction, so nothing is lost to rounding however often somebody asks.
 *
 * What is taken comes from the one-time burst first and from the bucket next; the rest is debt,
 * which later drops work off before the bucket fills again.
 *
 * Sizes and times are a client's and may be any 64-bit number; products are made in 128 bits and
 * sums saturate. The caller's clock is monotonic; a time before the last one counts as no time.
 *
 * The limiter's own thread only. Saved with a device: nothing, buckets start full.
 */
#include "vmm/rate_limit.h"

#include "vmm/loop.h"
#include "vmm/overflow.h"

#define NS_PER_MS 1000000ULL

__extension__ typedef unsigned __int128 u128;

static const struct option bucket_option_list[] = {
	{ .json = "size",
	  .type = OPTION_U64,
	  .offset = offsetof(struct token_bucket_config, size),
	  .zero = OPTION_ZERO_NO_OBJECT,
	  .json_required = true,
	  .help = "tokens that the bucket holds: bytes or operations; 0: no limit" },
	{ .json = "one_time_burst",
	  .type = OPTION_U64,
	  .offset = offsetof(struct token_bucket_config, one_time_burst),
	  .fallback = "0",
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .help = "tokens on top at the start, which are not refilled" },
	{ .json = "refill_time",
	  .type = OPTION_U64,
	  .offset = offsetof(struct token_bucket_config, refill_time_ms),
	  .zero = OPTION_ZERO_NO_OBJECT,
	  .json_required = true,
	  .help = "milliseconds in which an empty bucket fills; 0: no limit" },
};
const struct option_table token_bucket_options =
	OPTION_TABLE("token-bucket", bucket_option_list, .open = true);

static const struct option limit_option_list[] = {
	{ .json = "bandwidth",
	  .type = OPTION_OBJECT,
	  .object = &token_bucket_options,
	  .offset = offsetof(struct rate_limit_config, bandwidth),
	  .present = offsetof(struct rate_limit_config, has_bandwidth) + 1,
	  .help = "limits bytes" },
	{ .json = "ops",
	  .type = OPTION_OBJECT,
	  .object = &token_bucket_options,
	  .offset = offsetof(struct rate_limit_config, ops),
	  .present = offsetof(struct rate_limit_config, has_ops) + 1,
	  .help = "limits operations" },
};
const struct option_table rate_limit_options = OPTION_TABLE("rate-limiter", limit_option_list);

/* `size` 0 stands for a bucket that limits nothing. */
static struct token_bucket full_bucket(const struct token_bucket_config *config, uint64_t now_ns)
{
	uint64_t refill_ns;

	if (config->size == 0 || config->refill_time_ms == 0) {
		return (struct token_bucket){ 0 };
	}
	if (mul_overflow(config->refill_time_ms, NS_PER_MS, &refill_ns)) {
		refill_ns = UINT64_MAX; /* 584 years */
	}
	return (struct token_bucket){ .size = config->size,
				      .burst = config->one_time_burst,
				      .refill_ns = refill_ns,
				      .tokens = config->size,
				      .updated_ns = now_ns };
}

void rate_limit_init(struct rate_limit *limit, const struct rate_limit_config *config)
{
	*limit = (struct rate_limit){ 0 };
	rate_limit_update(limit, config);
}

void rate_limit_update(struct rate_limit *limit, const struct rate_limit_config *config)
{
	uint64_t now_ns = config->has_bandwidth || config->has_ops ? loop_now_ns() : 0;

	if (config->has_bandwidth) {
		limit->bandwidth = full_bucket(&config->bandwidth, now_ns);
	}
	if (config->has_ops) {
		limit->ops = full_bucket(&config->ops, now_ns);
	}
}

/* Books what has dripped since the last time. */
static void refill(struct token_bucket *bucket, uint64_t now_ns)
{
	uint64_t room = bucket->size - bucket->tokens;
	u128 parts, tokens, paid;

	if (now_ns <= bucket->updated_ns) {
		return;
	}
	/* At most (2^64 - 1)^2 + 2^64 - 1. */
	parts = (u128)(now_ns - bucket->updated_ns) * bucket->size + bucket->fraction;
	tokens = parts / bucket->refill_ns;
	bucket->updated_ns = now_ns;
	if (tokens >= (u128)bucket->debt + room) {
		bucket->debt = 0;
		bucket->tokens = bucket->size;
		bucket->fraction = 0; /* full: what would drip now runs over */
		return;
	}
	bucket->fraction = (uint64_t)(parts % bucket->refill_ns);
	paid = MIN(tokens, (u128)bucket->debt);
	bucket->debt -= (uint64_t)paid;
	bucket->tokens += (uint64_t)(tokens - paid);
}

/* 0, or how long it takes until the debt is worked off and a token is there. */
static uint64_t bucket_delay(struct token_bucket *bucket, uint64_t now_ns)
{
	u128 parts, ns;

	if (bucket->size == 0) {
		return 0;
	}
	refill(bucket, now_ns);
	if (bucket->burst != 0 || (bucket->debt == 0 && bucket->tokens != 0)) {
		return 0;
	}
	parts = ((u128)bucket->debt + 1) * bucket->refill_ns - bucket->fraction;
	ns = parts / bucket->size + (parts % bucket->size != 0);
	return (uint64_t)MIN(ns, (u128)UINT64_MAX);
}

static void bucket_take(struct token_bucket *bucket, uint64_t amount, uint64_t now_ns)
{
	uint64_t part;

	if (bucket->size == 0) {
		return;
	}
	refill(bucket, now_ns);
	part = MIN(amount, bucket->burst);
	bucket->burst -= part;
	amount -= part;
	part = MIN(amount, bucket->tokens);
	bucket->tokens -= part;
	amount -= part;
	if (add_overflow(bucket->debt, amount, &bucket->debt)) {
		bucket->debt = UINT64_MAX;
	}
}

uint64_t rate_limit_delay(struct rate_limit *limit, uint64_t now_ns)
{
	uint64_t bytes = bucket_delay(&limit->bandwidth, now_ns);
	uint64_t ops = bucket_delay(&limit->ops, now_ns);

	return MAX(bytes, ops);
}

void rate_limit_take(struct rate_limit *limit, uint64_t bytes, uint64_t now_ns)
{
	bucket_take(&limit->bandwidth, bytes, now_ns);
	bucket_take(&limit->ops, 1, now_ns);
}
