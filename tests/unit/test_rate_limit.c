/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include "vmm/options_json.h"
#include "vmm/rate_limit.h"

#define MS ((uint64_t)1000000)
#define S  ((uint64_t)1000000000)

static struct rate_limit limit;
static uint64_t start; /* of the buckets; time is ours from there on */
static struct error err;

static void make(uint64_t size, uint64_t refill_ms, uint64_t burst, uint64_t ops,
		 uint64_t ops_refill_ms)
{
	const struct rate_limit_config config = {
		.bandwidth = { .size = size, .refill_time_ms = refill_ms, .one_time_burst = burst },
		.ops = { .size = ops, .refill_time_ms = ops_refill_ms },
		.has_bandwidth = size != 0,
		.has_ops = ops != 0,
	};

	rate_limit_init(&limit, &config);
	start = MAX(limit.bandwidth.updated_ns, limit.ops.updated_ns);
	limit.bandwidth.updated_ns = start;
	limit.ops.updated_ns = start;
}

START_TEST(test_no_limit)
{
	const struct rate_limit_config nothing = { 0 };
	const struct rate_limit_config zero = {
		.bandwidth = { .size = 0, .refill_time_ms = 100, .one_time_burst = 5 },
		.ops = { .size = 100, .refill_time_ms = 0 },
		.has_bandwidth = true,
		.has_ops = true,
	};
	const struct rate_limit_config *configs[] = { &nothing, &zero };

	for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
		rate_limit_init(&limit, configs[i]);
		ck_assert(!rate_limit_active(&limit));
		for (int k = 0; k < 1000; k++) {
			ck_assert_uint_eq(rate_limit_delay(&limit, 5), 0);
			rate_limit_take(&limit, UINT64_MAX, 5);
		}
	}
}
END_TEST

START_TEST(test_what_is_not_given_does_not_limit)
{
	const struct rate_limit_config config = { .bandwidth = { .size = 1, .refill_time_ms = 1 },
						  .ops = { .size = 1, .refill_time_ms = 1 } };

	rate_limit_init(&limit, &config);
	ck_assert(!rate_limit_active(&limit));
}
END_TEST

START_TEST(test_bandwidth)
{
	make(1000, 100, 0, 0, 0);
	ck_assert(rate_limit_active(&limit));
	ck_assert_uint_eq(rate_limit_delay(&limit, start), 0);
	rate_limit_take(&limit, 999, start);
	ck_assert_uint_eq(rate_limit_delay(&limit, start), 0);
	rate_limit_take(&limit, 1, start);
	ck_assert_uint_eq(rate_limit_delay(&limit, start), 100000); /* 100 ms / 1000 */
	ck_assert_uint_eq(rate_limit_delay(&limit, start + 99999), 1);
	ck_assert_uint_eq(rate_limit_delay(&limit, start + 100000), 0);
	ck_assert_uint_eq(limit.bandwidth.tokens, 1);
	/* Never more than full. */
	ck_assert_uint_eq(rate_limit_delay(&limit, start + 3600 * S), 0);
	ck_assert_uint_eq(limit.bandwidth.tokens, 1000);
}
END_TEST

/* A request of ten buckets passes at once, and is worked off before the next one. */
START_TEST(test_debt)
{
	make(1000, 100, 0, 0, 0);
	rate_limit_take(&limit, 10000, start);
	ck_assert_uint_eq(rate_limit_delay(&limit, start), 900 * MS + 100000);
	ck_assert_uint_eq(rate_limit_delay(&limit, start + 900 * MS), 100000);
	ck_assert_uint_eq(limit.bandwidth.tokens, 0);
	ck_assert_uint_eq(rate_limit_delay(&limit, start + 900 * MS + 100000), 0);
}
END_TEST

START_TEST(test_burst)
{
	make(1000, 100, 5000, 0, 0);
	rate_limit_take(&limit, 4999, start);
	ck_assert_uint_eq(rate_limit_delay(&limit, start), 0);
	ck_assert_uint_eq(limit.bandwidth.tokens, 1000);
	rate_limit_take(&limit, 1001, start);
	ck_assert_uint_eq(rate_limit_delay(&limit, start), 100000);
	/* Once: it does not come back. */
	ck_assert_uint_eq(rate_limit_delay(&limit, start + 1000 * S), 0);
	ck_assert_uint_eq(limit.bandwidth.burst, 0);
	rate_limit_take(&limit, 1000, start + 1000 * S);
	ck_assert_uint_ne(rate_limit_delay(&limit, start + 1000 * S), 0);
}
END_TEST

START_TEST(test_ops)
{
	make(0, 0, 0, 10, 1000);
	for (int i = 0; i < 10; i++) {
		ck_assert_uint_eq(rate_limit_delay(&limit, start), 0);
		rate_limit_take(&limit, MIB(100), start);
	}
	ck_assert_uint_eq(rate_limit_delay(&limit, start), 100 * MS);
	ck_assert_uint_eq(rate_limit_delay(&limit, start + 100 * MS), 0);
}
END_TEST

START_TEST(test_the_slower_one_counts)
{
	make(1000, 100, 0, 1, 10000);
	rate_limit_take(&limit, 1000, start);
	ck_assert_uint_eq(rate_limit_delay(&limit, start), 10 * S);
	ck_assert_uint_eq(rate_limit_delay(&limit, start + 10 * S), 0);
	rate_limit_take(&limit, 1000000, start + 10 * S);
	ck_assert_uint_gt(rate_limit_delay(&limit, start + 20 * S), 10 * S);
}
END_TEST

/* Size, refill time in ms, bytes of a request, nanoseconds between questions. */
static const struct {
	uint64_t size, refill_ms, request, step_ns;
} rates[] = {
	{ 1000, 100, 1, 1 },
	{ 1000, 100, 7, 99999 },
	{ 7, 3, 1, 333 },
	{ 3, 7000, 1, 1234567 },
	{ 1ULL << 30, 1000, 65536, 999 },
	{ 999999937, 1, 4096, 1 },
	{ 1, 1, 1, 77 },
	{ 1ULL << 40, 1000, 1 << 20, 313 },
	{ UINT64_MAX, 1, 1 << 20, 10 },
	{ UINT64_MAX / 3, UINT64_MAX / MS, 1, 9999999 },
};

/* However often somebody asks: what passed is what dripped, to one token and one request. */
START_TEST(test_exact)
{
	uint64_t now, passed = 0;
	unsigned __int128 dripped;

	make(rates[_i].size, rates[_i].refill_ms, 0, 0, 0);
	rate_limit_take(&limit, rates[_i].size, start); /* empty from here on */
	now = start;
	for (int i = 0; i < 100000; i++) {
		now += rates[_i].step_ns;
		if (rate_limit_delay(&limit, now) == 0) {
			rate_limit_take(&limit, rates[_i].request, now);
			passed += rates[_i].request;
		}
	}
	(void)rate_limit_delay(&limit, now);
	dripped = (unsigned __int128)(now - start) * rates[_i].size / (rates[_i].refill_ms * MS);
	/* What is not taken lies in the bucket, what was taken too early is debt. */
	ck_assert(limit.bandwidth.tokens == rates[_i].size ||
		  dripped + limit.bandwidth.debt ==
			  (unsigned __int128)passed + limit.bandwidth.tokens);
	ck_assert_uint_le(limit.bandwidth.tokens, rates[_i].size);
}
END_TEST

/* The delay is right: a nanosecond before it is too early, then it is time. */
START_TEST(test_delay)
{
	uint64_t now;

	make(rates[_i].size, rates[_i].refill_ms, 0, 0, 0);
	rate_limit_take(&limit, rates[_i].size, start);
	now = start;
	for (int i = 0; i < 1000; i++) {
		uint64_t delay;

		rate_limit_take(&limit, rates[_i].request * (uint64_t)(i % 3 + 1), now);
		delay = rate_limit_delay(&limit, now);
		if (delay > 1) {
			ck_assert_uint_eq(rate_limit_delay(&limit, now + delay - 1), 1);
		}
		now += delay;
		ck_assert_uint_eq(rate_limit_delay(&limit, now), 0);
	}
}
END_TEST

static const uint64_t extremes[] = { 1, 2, 1000, INT64_MAX, UINT64_MAX - 1, UINT64_MAX };

/* Any configuration and any request: it saturates, and time is never negative or without end. */
START_TEST(test_extremes)
{
	uint64_t size = extremes[_i / 6], refill = extremes[_i % 6];

	for (size_t i = 0; i < ARRAY_SIZE(extremes); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(extremes); k++) {
			uint64_t delay;

			make(size, refill, extremes[i], 1, 1);
			rate_limit_take(&limit, extremes[k], start);
			rate_limit_take(&limit, extremes[k], start + 1);
			rate_limit_take(&limit, extremes[i], start + 2);
			delay = rate_limit_delay(&limit, start + 3);
			ck_assert_uint_ne(delay, 0); /* the operations */
			rate_limit_take(&limit, UINT64_MAX, UINT64_MAX);
			rate_limit_take(&limit, UINT64_MAX, UINT64_MAX);
			(void)rate_limit_delay(&limit, UINT64_MAX);
			ck_assert_uint_le(limit.bandwidth.tokens, size);
		}
	}
}
END_TEST

START_TEST(test_time_does_not_go_back)
{
	make(1000, 1000, 0, 0, 0);
	rate_limit_take(&limit, 1000, start + S);
	ck_assert_uint_eq(rate_limit_delay(&limit, start), MS);
	ck_assert_uint_eq(rate_limit_delay(&limit, 0), MS);
	ck_assert_uint_eq(rate_limit_delay(&limit, start + S + MS), 0);
	ck_assert_uint_eq(limit.bandwidth.tokens, 1);
}
END_TEST

START_TEST(test_update)
{
	struct rate_limit_config change = { .bandwidth = { .size = 5, .refill_time_ms = 1000 },
					    .has_bandwidth = true };

	make(1000, 1000, 0, 10, 1000);
	for (int i = 0; i < 10; i++) {
		rate_limit_take(&limit, 1000, start);
	}
	rate_limit_update(&limit, &change);
	ck_assert_uint_eq(limit.bandwidth.tokens, 5);
	ck_assert_uint_eq(limit.bandwidth.debt, 0);
	ck_assert_uint_eq(limit.ops.tokens, 0); /* not given: as it was */
	change = (struct rate_limit_config){ .has_bandwidth = true, .has_ops = true };
	rate_limit_update(&limit, &change);
	ck_assert(!rate_limit_active(&limit));
}
END_TEST

/* As a client of the API writes it. */
START_TEST(test_json)
{
	static const char text[] = "{\"bandwidth\":{\"size\":1048576,\"refill_time\":100},"
				   "\"ops\":{\"size\":3,\"one_time_burst\":7,\"refill_time\":9}}";
	auto_json json_t *value = NULL, *bad = NULL;
	struct rate_limit_config config;

	check_ok(json_parse(&value, text, strlen(text), &err), &err);
	check_ok(options_from_json(&rate_limit_options, &config, value, 0, &err), &err);
	ck_assert(config.has_bandwidth && config.has_ops);
	ck_assert_uint_eq(config.bandwidth.size, 1048576);
	ck_assert_uint_eq(config.bandwidth.refill_time_ms, 100);
	ck_assert_uint_eq(config.bandwidth.one_time_burst, 0);
	ck_assert_uint_eq(config.ops.size, 3);
	ck_assert_uint_eq(config.ops.one_time_burst, 7);
	ck_assert_uint_eq(config.ops.refill_time_ms, 9);
	check_ok(json_parse(&bad, "{\"ops\":{\"size\":3}}", 18, &err), &err);
	ck_assert_int_lt(options_from_json(&rate_limit_options, &config, bad, 0, &err), 0);
	check_error(&err, ERROR_JSON, "/ops/refill_time: is required");
	ck_assert_int_lt(
		options_from_json(&rate_limit_options, &config, bad, OPTIONS_JSON_PATCH, &err), 0);
}
END_TEST

CHECK_MAIN("rate_limit", CHECK_TEST(test_no_limit);
	   CHECK_TEST(test_what_is_not_given_does_not_limit); CHECK_TEST(test_bandwidth);
	   CHECK_TEST(test_debt); CHECK_TEST(test_burst); CHECK_TEST(test_ops);
	   CHECK_TEST(test_the_slower_one_counts); CHECK_TABLE(test_exact, rates);
	   CHECK_TABLE(test_delay, rates); CHECK_LOOP(test_extremes, 36);
	   CHECK_TEST(test_time_does_not_go_back); CHECK_TEST(test_update); CHECK_TEST(test_json))
