/* SPDX-License-Identifier: Apache-2.0 */
/* When a source has copied enough, and when it slows the guest down: arithmetic, and a made-up guest on a made-up link. */
#include "harness/check_main.h"
#include "vmm/migration_converge.h"

#define MS 1000000ULL
#define S  (1000 * MS)

/* 100 MiB/s. */
static const struct migration_pass rows_pass = { .sent = MIB(100), .took_ns = S };

static const struct {
	const char *what;
	uint64_t left, downtime_ns, time_limit_ns, elapsed_ns;
	bool force;
	enum migration_verdict verdict;
} rows[] = {
	{ "nothing is left", 0, MS, 0, 0, false, MIGRATION_PAUSE_NOW },
	{ "it fits", MIB(2), 30 * MS, 0, 0, false, MIGRATION_PAUSE_NOW },
	{ "it does not fit", MIB(10), 30 * MS, 0, 0, false, MIGRATION_AGAIN },
	{ "a shorter pause than any", MIB(1) / 10, 1, 0, 0, false, MIGRATION_PAUSE_NOW },
	{ "there is time", MIB(10), 30 * MS, 10 * S, 9 * S, false, MIGRATION_AGAIN },
	{ "there is none", MIB(10), 30 * MS, 10 * S, 10 * S, false, MIGRATION_GIVE_UP },
	{ "there is none, it must", MIB(10), 30 * MS, 10 * S, 10 * S, true, MIGRATION_PAUSE_NOW },
	{ "it is shorter in time", MIB(2), 30 * MS, 10 * S, 11 * S, false, MIGRATION_PAUSE_NOW },
};

START_TEST(test_verdict)
{
	struct migration_converge converge = { .downtime_ns = rows[_i].downtime_ns,
					       .time_limit_ns = rows[_i].time_limit_ns,
					       .force = rows[_i].force };
	struct migration_pass pass = rows_pass;

	pass.left = rows[_i].left;
	ck_assert_msg(migration_judge_pass(&converge, &pass, rows[_i].elapsed_ns) ==
			      rows[_i].verdict,
		      "%s", rows[_i].what);
	ck_assert_uint_eq(converge.rate, MIB(100));
	ck_assert_uint_eq(converge.dirty_rate, rows[_i].left);
	ck_assert_uint_ge(converge.expected_ns, rows[_i].left * S / MIB(100));
	ck_assert_uint_eq(converge.throttle, 0);
}
END_TEST

/* What a pause costs anyway counts. */
START_TEST(test_fixed_cost)
{
	struct migration_converge converge = { .downtime_ns = 30 * MS, .still_ns = 25 * MS };
	struct migration_pass pass = rows_pass;

	pass.left = MIB(1);
	ck_assert_int_eq(migration_judge_pass(&converge, &pass, 0), MIGRATION_AGAIN);
	converge.still_ns = MS;
	ck_assert_int_eq(migration_judge_pass(&converge, &pass, 0), MIGRATION_PAUSE_NOW);
}
END_TEST

/* A pass of next to nothing is no measure; one that took no time says that nothing is known. */
START_TEST(test_no_measure)
{
	struct migration_converge converge = { .downtime_ns = 30 * MS };
	struct migration_pass pass = rows_pass;

	pass.left = MIB(10);
	(void)migration_judge_pass(&converge, &pass, 0);
	pass = (struct migration_pass){ .sent = KIB(4), .took_ns = S, .left = MIB(10) };
	(void)migration_judge_pass(&converge, &pass, 0);
	ck_assert_uint_eq(converge.rate, MIB(100));
	converge = (struct migration_converge){ .downtime_ns = 30 * MS };
	pass = (struct migration_pass){ .left = MIB(10) };
	ck_assert_int_eq(migration_judge_pass(&converge, &pass, 0), MIGRATION_AGAIN);
	ck_assert_uint_eq(converge.rate, 0);
}
END_TEST

/* From any percent to any limit, whatever is measured: always further, never too far, and there in the end. */
START_TEST(test_steps)
{
	static const uint64_t amounts[] = { 0, 1, KIB(4), MIB(1), GIB(1), UINT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(amounts) * ARRAY_SIZE(amounts); i++) {
		const uint64_t sent = amounts[i / ARRAY_SIZE(amounts)];
		const uint64_t left = amounts[i % ARRAY_SIZE(amounts)];

		for (uint32_t limit = 0; limit < 100; limit++) {
			uint32_t percent = 0, steps = 0;

			while (percent < limit) {
				uint32_t next = migration_throttle_step(percent, limit, sent, left);

				ck_assert_uint_gt(next, percent);
				ck_assert_uint_le(next, limit);
				percent = next;
				steps++;
			}
			ck_assert_uint_le(steps, 14);
			ck_assert_uint_eq(migration_throttle_step(percent, limit, sent, left),
					  percent);
		}
	}
	/* The more is written, the larger the step. */
	ck_assert_uint_eq(migration_throttle_step(0, 99, 100, 100), 50);
	ck_assert_uint_eq(migration_throttle_step(0, 99, 100, 75), 34);
	ck_assert_uint_eq(migration_throttle_step(0, 99, 100, 1000), 75);
	ck_assert_uint_eq(migration_throttle_step(50, 99, 100, 100), 75);
	ck_assert_uint_eq(migration_throttle_step(98, 99, 100, 1000), 99);
	ck_assert_uint_eq(migration_throttle_step(50, 60, 100, 100), 60);
}
END_TEST

/* Two passes in a row that are not shorter, and no fewer; then each. */
START_TEST(test_stuck)
{
	struct migration_converge converge = { .downtime_ns = 30 * MS, .throttle_limit = 80 };
	struct migration_pass same = rows_pass, shorter = rows_pass;

	same.left = MIB(100);
	shorter.left = MIB(50);
	ck_assert_int_eq(migration_judge_pass(&converge, &same, 0), MIGRATION_AGAIN);
	ck_assert_int_eq(migration_judge_pass(&converge, &shorter, 0), MIGRATION_AGAIN);
	ck_assert_int_eq(migration_judge_pass(&converge, &same, 0), MIGRATION_AGAIN);
	ck_assert_int_eq(migration_judge_pass(&converge, &same, 0), MIGRATION_SLOWER);
	ck_assert_uint_eq(converge.throttle, 50);
	ck_assert_int_eq(migration_judge_pass(&converge, &shorter, 0), MIGRATION_AGAIN);
	ck_assert_uint_eq(converge.throttle, 50);
	ck_assert_int_eq(migration_judge_pass(&converge, &same, 0), MIGRATION_AGAIN);
	ck_assert_int_eq(migration_judge_pass(&converge, &same, 0), MIGRATION_SLOWER);
	ck_assert_int_eq(migration_judge_pass(&converge, &same, 0), MIGRATION_SLOWER);
	ck_assert_uint_eq(converge.throttle, 80);
	ck_assert_int_eq(migration_judge_pass(&converge, &same, 0), MIGRATION_AGAIN);
	ck_assert_uint_eq(converge.throttle, 80);
}
END_TEST

/* Bytes a second that a guest writes at full speed, of so many that it has; what the link takes; whether it comes to an end. */
static const struct {
	uint64_t writes, has, link;
	uint32_t limit;
	bool ends;
} guests[] = {
	{ MIB(50), GIB(1), MIB(100), 0, true },	   { MIB(200), GIB(1), MIB(100), 0, false },
	{ MIB(200), GIB(1), MIB(100), 20, false }, { MIB(200), GIB(1), MIB(100), 99, true },
	{ GIB(2), MIB(64), MIB(100), 0, false },   { GIB(2), MIB(64), MIB(100), 99, true },
	{ GIB(5), GIB(4), MIB(100), 99, true },	   { GIB(20), GIB(4), MIB(100), 99, false },
	{ GIB(20), MIB(2), MIB(100), 0, true },
};

START_TEST(test_guests)
{
	struct migration_converge converge = { .downtime_ns = 30 * MS,
					       .time_limit_ns = 3600 * S,
					       .throttle_limit = guests[_i].limit };
	uint64_t left = guests[_i].has, elapsed = 0;
	enum migration_verdict verdict = MIGRATION_AGAIN;
	unsigned passes = 0;

	while (verdict == MIGRATION_AGAIN || verdict == MIGRATION_SLOWER) {
		struct migration_pass pass = { .sent = left };

		pass.took_ns = left * 1000 / (guests[_i].link / 1000) * 1000;
		left = (uint64_t)((double)guests[_i].writes * (100 - converge.throttle) / 100 *
				  (double)pass.took_ns / 1e9);
		left = pass.left = MIN(left, guests[_i].has);
		elapsed += pass.took_ns;
		verdict = migration_judge_pass(&converge, &pass, elapsed);
		passes++;
	}
	ck_assert_int_eq(verdict, guests[_i].ends ? MIGRATION_PAUSE_NOW : MIGRATION_GIVE_UP);
	ck_assert(!guests[_i].ends || passes < 40);
}
END_TEST

CHECK_MAIN("migration_converge", CHECK_TABLE(test_verdict, rows); CHECK_TEST(test_fixed_cost);
	   CHECK_TEST(test_no_measure); CHECK_TEST(test_steps); CHECK_TEST(test_stuck);
	   CHECK_TABLE(test_guests, guests))
