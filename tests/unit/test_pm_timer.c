/* SPDX-License-Identifier: Apache-2.0 */
/* The PM timer with a clock of the test's own: its rate over seconds and years, every access, and
 * that a saved one counts on from where it was. */
#include <inttypes.h>

#include "harness/check_main.h"
#include "harness/state_round_trip.h"
#include "vmm/pm_timer.h"

#define SECOND INT64_C(1000000000)

static struct pm_timer timer;
static int64_t host_now;

static int64_t test_now(void)
{
	return host_now;
}

static void setup(void)
{
	host_now = 1234567890123456789;
	pm_timer_init(&timer);
	timer.now = test_now;
	pm_timer_reset(&timer);
}

static uint32_t read_all(void)
{
	return (uint32_t)pm_timer_bus_ops.read(&timer, 0, 4);
}

static const struct {
	int64_t ns;
	uint64_t ticks;
} moments[] = {
	{ 0, 0 },
	{ 279, 0 },
	{ 280, 1 },
	{ SECOND - 1, PM_TIMER_HZ - 1 },
	{ SECOND, PM_TIMER_HZ },
	{ 5 * SECOND, UINT64_C(5) * PM_TIMER_HZ },	 /* beyond 24 bits */
	{ 1200 * SECOND, UINT64_C(1200) * PM_TIMER_HZ }, /* beyond 32 bits */
	{ SECOND * 200 * 365 * 86400, UINT64_C(200) * 365 * 86400 * PM_TIMER_HZ },
	{ -SECOND, 0 }, /* a host's clock that goes backwards stops it */
};

START_TEST(test_rate)
{
	host_now += moments[_i].ns;
	ck_assert_uint_eq(read_all(), (uint32_t)moments[_i].ticks);
}
END_TEST

START_TEST(test_reads_of_every_size)
{
	uint32_t count;

	host_now += 1000 * SECOND + 1;
	count = read_all();
	for (unsigned int offset = 0; offset < PM_TIMER_PORTS; offset++) {
		for (unsigned int size = 1; offset + size <= PM_TIMER_PORTS; size++) {
			uint64_t want = (uint64_t)count >> (8 * offset);

			want &= (UINT64_C(1) << (8 * size)) - 1;
			ck_assert_uint_eq(pm_timer_bus_ops.read(&timer, offset, size), want);
		}
	}
}
END_TEST

START_TEST(test_writes_do_nothing)
{
	host_now += SECOND;
	for (unsigned int size = 1; size <= 4; size *= 2) {
		pm_timer_bus_ops.write(&timer, 0, size, UINT32_MAX);
	}
	ck_assert_uint_eq(read_all(), PM_TIMER_HZ);
}
END_TEST

START_TEST(test_reset)
{
	host_now += SECOND;
	pm_timer_reset(&timer);
	ck_assert_uint_eq(read_all(), 0);
	host_now += SECOND;
	ck_assert_uint_eq(read_all(), PM_TIMER_HZ);
}
END_TEST

START_TEST(test_state)
{
	struct pm_timer other;

	host_now += 3 * SECOND;
	pm_timer_capture(&timer);
	ck_assert_uint_eq(read_all(), 3 * PM_TIMER_HZ);
	/* The other host's clock is another. */
	host_now = 17;
	pm_timer_init(&other);
	other.now = test_now;
	check_state_round_trip(&pm_timer_state, &timer.state, &other.state);
	pm_timer_resume(&other);
	ck_assert_uint_eq((uint32_t)pm_timer_bus_ops.read(&other, 0, 4), 3 * PM_TIMER_HZ);
	host_now += SECOND;
	ck_assert_uint_eq((uint32_t)pm_timer_bus_ops.read(&other, 0, 4), 4 * PM_TIMER_HZ);
}
END_TEST

START_TEST(test_host_clock)
{
	uint32_t first, second = 0;

	pm_timer_init(&timer);
	first = read_all();
	for (int i = 0; i < 100000000 && second <= first; i++) {
		second = read_all();
	}
	ck_assert_uint_gt(second, first);
}
END_TEST

CHECK_MAIN("pm_timer", CHECK_FIXTURE(setup, NULL); CHECK_TABLE(test_rate, moments);
	   CHECK_TEST(test_reads_of_every_size); CHECK_TEST(test_writes_do_nothing);
	   CHECK_TEST(test_reset); CHECK_TEST(test_state); CHECK_TEST(test_host_clock))
