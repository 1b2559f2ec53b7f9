/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See vmm/migration_converge.h. A pass takes as long as what it sends needs, and the next one sends what was written meanwhile: passes get
 * shorter if the guest writes less than is sent. A guest that writes the same few pages over and over writes less, by this measure, the
 * longer a pass is; so a step is not computed from the rates alone, but takes at least a third of what was left to the guest.
 */
#include "vmm/migration_converge.h"

/* What a hand-over costs beside sending, about: 1 ms was measured on two processors of a server. */
#define FIXED_NS 2000000ULL
/* A pass that has sent less says nothing of how fast it goes. */
#define MEASURED_MIN MIB(1)
/* A pass is shorter if it leaves less than three quarters of what it has sent; that one is not may be chance, two are not. */
#define SHORTER_NUM   3
#define SHORTER_DENOM 4
#define STUCK_TIMES   2
/* Aimed at by a step: half as much is left as was sent. It leaves the guest a quarter to two thirds of what it had. */
#define STEP_AIM 0.5
#define STEP_MIN (2.0 / 3)
#define STEP_MAX 0.25

/* Bytes in a time, as a rate; 0: not known. */
static uint64_t rate_of(uint64_t bytes, uint64_t ns)
{
	return ns == 0 ? 0 : (uint64_t)((double)bytes * 1e9 / (double)ns);
}

/* Sending what is left, as fast as the last pass was. */
static uint64_t sending_ns(uint64_t left, uint64_t rate)
{
	if (left == 0 || rate == 0) {
		return left == 0 ? 0 : UINT32_MAX;
	}
	return (uint64_t)((double)left * 1e9 / (double)rate);
}

uint32_t migration_throttle_step(uint32_t percent, uint32_t limit, uint64_t sent, uint64_t left)
{
	double factor = left == 0 ? STEP_MIN : STEP_AIM * (double)sent / (double)left, kept;
	uint32_t next;

	if (percent >= limit) {
		return percent;
	}
	factor = MAX(MIN(factor, STEP_MIN), STEP_MAX);
	kept = (100 - percent) * factor;
	next = 100 - (uint32_t)kept;
	return MIN(MAX(next, percent + 1), limit);
}

/* Whether it has to be slower. */
static bool look_whether_stuck(struct migration_converge *converge,
			       const struct migration_pass *pass)
{
	const uint64_t shorter = pass->sent / SHORTER_DENOM * SHORTER_NUM;

	converge->stuck = pass->left < shorter ? 0 : converge->stuck + 1;
	if (converge->stuck < STUCK_TIMES || converge->throttle >= converge->throttle_limit) {
		return false;
	}
	/* The next pass says whether this step was enough. */
	converge->stuck = STUCK_TIMES - 1;
	converge->throttle = migration_throttle_step(converge->throttle, converge->throttle_limit,
						     pass->sent, pass->left);
	return true;
}

enum migration_verdict migration_judge_pass(struct migration_converge *converge,
					    const struct migration_pass *pass, uint64_t elapsed_ns)
{
	uint64_t sending;

	if (pass->sent >= MEASURED_MIN || converge->rate == 0) {
		converge->rate = rate_of(pass->sent, pass->took_ns);
	}
	converge->dirty_rate = rate_of(pass->left, pass->took_ns);
	sending = sending_ns(pass->left, converge->rate);
	converge->expected_ns = FIXED_NS + converge->still_ns + sending;
	/* A pause that is to be shorter than what it costs anyway gets no shorter by more passes. */
	if (converge->expected_ns <= converge->downtime_ns || sending <= FIXED_NS) {
		return MIGRATION_PAUSE_NOW;
	}
	if (converge->time_limit_ns != 0 && elapsed_ns >= converge->time_limit_ns) {
		return converge->force ? MIGRATION_PAUSE_NOW : MIGRATION_GIVE_UP;
	}
	return look_whether_stuck(converge, pass) ? MIGRATION_SLOWER : MIGRATION_AGAIN;
}
