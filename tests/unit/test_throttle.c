/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM whose vCPUs are slowed down: how much is left of them, compared with themselves in the same run; and everything else that
 * happens to a VM meanwhile. With real KVM and bare-metal guests.
 */
#include "../../src/vmm/vm_internal.h"
#include "harness/vm_rig.h"

#include <errno.h>

#define MS	1000000ULL
#define SPAN_NS (400 * MS)

static const uint32_t percents[] = { 1, 20, 50, 75, 90, 95, 99 };

static int throttle(uint32_t percent)
{
	struct asked asked = { .operation.throttle = { percent } };

	return do_it(&asked, VM_THROTTLE, &e);
}

static void must_throttle(uint32_t percent)
{
	check_ok(throttle(percent), &e);
}

/* Exits a second, over a span of time. */
static double speed(uint64_t span_ns)
{
	const uint64_t began = loop_now_ns(), before = exits();
	uint64_t now = began;

	while (now - began < span_ns || exits() == before) {
		ck_assert_msg(now - began < PATIENCE_NS, "the guest stands still");
		rounds(1);
		now = loop_now_ns();
	}
	return (double)(exits() - before) * 1e9 / (double)(now - began);
}

static void start_busy(uint32_t vcpus)
{
	config.machine.vcpus = vcpus;
	use_guest("test=exit mode=registers");
	config.entropy = true;
	start();
	expect("reading");
}

/* --- the shares, without a VM -------------------------------------------------------------------- */

START_TEST(test_shares)
{
	const uint32_t percent = percents[_i];
	const uint64_t run = throttle_run_ns(percent), rest = throttle_rest_ns(percent, run);

	ck_assert_uint_ge(run, MS);
	ck_assert_uint_eq(rest * 100 / (run + rest), percent);
	ck_assert_uint_ge(run + rest, 10 * MS);
	ck_assert_uint_le(run + rest, 100 * MS);
	/* A timer that was late: the share stays. One that was very late: nobody rests for long. */
	ck_assert_uint_eq(throttle_rest_ns(percent, 2 * run), 2 * rest);
	ck_assert_uint_eq(throttle_rest_ns(percent, 0), 0);
	ck_assert_uint_eq(throttle_rest_ns(percent, UINT64_MAX), 4 * rest);
}
END_TEST

/* --- a VM ---------------------------------------------------------------------------------------- */

struct speeds {
	double full, half, little, least, again;
};

static struct speeds measure(void)
{
	struct speeds speeds;

	speeds.full = speed(SPAN_NS);
	must_throttle(50);
	speeds.half = speed(SPAN_NS);
	must_throttle(90);
	speeds.little = speed(SPAN_NS);
	must_throttle(99);
	speeds.least = speed(4 * SPAN_NS);
	must_throttle(0);
	speeds.again = speed(SPAN_NS);
	printf("# of %.0f exits a second are left: 50 %%: %.3f, 90 %%: %.3f, 99 %%: %.4f; then "
	       "%.2f\n",
	       speeds.full, speeds.half / speeds.full, speeds.little / speeds.full,
	       speeds.least / speeds.full, speeds.again / speeds.full);
	return speeds;
}

static bool shrinks(const struct speeds *speeds)
{
	const double full = MAX(speeds->full, speeds->again);

	return speeds->half < 0.8 * full && speeds->little < 0.4 * full &&
	       speeds->least < 0.1 * full && speeds->again > 2 * speeds->little &&
	       speeds->least > 0;
}

/* What is left is less the more is taken; and at the end all is back. A host that is busy for a part of it shows something else: once more then. */
START_TEST(test_progress_shrinks)
{
	const uint64_t until = loop_now_ns() + PATIENCE_NS;
	struct speeds speeds;

	start_busy(1);
	do {
		speeds = measure();
	} while (!shrinks(&speeds) && loop_now_ns() < until);
	ck_assert_msg(shrinks(&speeds), "%f, %f, %f, %f, %f", speeds.full, speeds.half,
		      speeds.little, speeds.least, speeds.again);
}
END_TEST

/* A pause ends it: who resumes has the whole VM. */
START_TEST(test_pause_ends_it)
{
	const uint64_t until = loop_now_ns() + PATIENCE_NS;
	double least;

	start_busy(2);
	must_throttle(99);
	least = speed(2 * SPAN_NS);
	check_ok(do_pause(vm, &e), &e);
	ck_assert_uint_eq(vm->throttle.percent, 0);
	ck_assert_int_eq(throttle(10), -ENOTCONN);
	check_ok(do_resume(vm, &e), &e);
	/* A host that is busy now may be less so later. */
	while (speed(SPAN_NS) <= 2 * least) {
		ck_assert_msg(loop_now_ns() < until, "it is as slow as before: %f", least);
	}
}
END_TEST

/* Held for a moment, looked at, reset, again and again in any phase: all goes on, and it stays throttled. */
START_TEST(test_meanwhile)
{
	struct state_buf state = { 0 };

	start_busy(2);
	must_throttle(percents[_i]);
	for (int i = 0; i < 20; i++) {
		struct asked save = { .operation.save = { .buf = &state } }, look = { 0 };

		state.len = 0;
		rounds(i % 3);
		check_ok(do_it(&save, VM_SAVE, &e), &e);
		check_ok(do_it(&look, VM_LOOK, &e), &e);
	}
	for (unsigned i = 2; i < 5; i++) {
		check_ok(do_reset(vm, &e), &e);
		expect_times("reading", i);
	}
	ck_assert_uint_eq(vm->throttle.percent, percents[_i]);
	state_buf_finish(&state);
}
END_TEST

/* Steps up and down, at once one after the other. */
START_TEST(test_steps)
{
	start_busy(2);
	for (int i = 0; i < 200; i++) {
		must_throttle((uint32_t)(i * 37) % (THROTTLE_PERCENT_MAX + 1));
	}
	must_throttle(0);
	(void)speed(SPAN_NS / 10);
}
END_TEST

/* A processor that halts is woken by its own timer, as ever. */
START_TEST(test_halted)
{
	use_guest("test=timer");
	start();
	must_throttle(percents[_i]);
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
}
END_TEST

/* The guest ends, or is ended, or is gone at once, in a rest or between two. */
START_TEST(test_end)
{
	start_busy(2);
	must_throttle(99);
	rounds(_i);
	if (_i % 2 == 0) {
		vm_stop(vm);
		expect_stop(VM_STOP_REQUESTED, 0);
	}
}
END_TEST

CHECK_MAIN("throttle", skip_without_kvm(); CHECK_FIXTURE(setup, teardown);
	   CHECK_TABLE(test_shares, percents); CHECK_TEST(test_progress_shrinks);
	   CHECK_TEST(test_pause_ends_it); CHECK_TABLE(test_meanwhile, percents);
	   CHECK_TEST(test_steps); CHECK_TABLE(test_halted, percents); CHECK_LOOP(test_end, 8))
