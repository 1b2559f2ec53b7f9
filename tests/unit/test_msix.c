/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X table and pending bits (PCI Local Bus 3.0 §6.8.2), with a controller that keeps what is sent. */
#include "harness/check_main.h"
#include "harness/fake_msi.h"
#include "harness/state_round_trip.h"

#include "vmm/bus.h"
#include "vmm/msix.h"

#define VECTORS	 5
#define MESSAGE	 0xfee01000ULL
#define CONTROL	 12
#define ENTRY(i) ((uint64_t)(i)*MSIX_ENTRY_SIZE)

static struct fake_msi msi;
static struct msix msix;

static void setup(void)
{
	struct error e = { 0 };

	fake_msi_init(&msi);
	check_ok(msix_init(&msix, &msi.controller, VECTORS, &e), &e);
}

static void teardown(void)
{
	msix_finish(&msix);
}

static void wr(uint64_t offset, unsigned int size, uint64_t value)
{
	msix_table_write(&msix, offset, size, value);
}

static uint64_t rd(uint64_t offset, unsigned int size)
{
	return msix_table_read(&msix, offset, size);
}

static void program(uint32_t vector, uint32_t data)
{
	wr(ENTRY(vector), 4, MESSAGE);
	wr(ENTRY(vector) + 4, 4, 0);
	wr(ENTRY(vector) + 8, 4, data);
}

static void mask(uint32_t vector, bool masked)
{
	wr(ENTRY(vector) + CONTROL, 4, masked);
}

static uint64_t pending(void)
{
	return msix_pending_read(&msix, 0, 8);
}

static uint32_t sent(uint32_t vector)
{
	return fake_msi_sent(&msi, vector);
}

static uint32_t last_data(uint32_t vector)
{
	return (uint32_t)atomic_load(&msi.lines[vector].last);
}

START_TEST(test_power_on)
{
	for (uint32_t i = 0; i < VECTORS; i++) {
		ck_assert_uint_eq(rd(ENTRY(i), 8), 0);
		ck_assert_uint_eq(rd(ENTRY(i) + 8, 4), 0);
		ck_assert_uint_eq(rd(ENTRY(i) + CONTROL, 4), 1);
		msix_trigger(&msix, i);
		ck_assert_uint_eq(sent(i), 0);
	}
	ck_assert_uint_eq(pending(), 0); /* off: nothing is remembered */
}
END_TEST

START_TEST(test_table_is_memory)
{
	wr(ENTRY(1), 8, 0x1122334455667788);
	ck_assert_uint_eq(rd(ENTRY(1), 8), 0x1122334455667788);
	ck_assert_uint_eq(rd(ENTRY(1), 4), 0x55667788);
	ck_assert_uint_eq(rd(ENTRY(1) + 4, 4), 0x11223344);
	wr(ENTRY(1), 4, 0xffffffff); /* the lowest two bits are 0 */
	ck_assert_uint_eq(rd(ENTRY(1), 8), 0x11223344fffffffc);
	wr(ENTRY(1) + 4, 4, 0xabcdef01);
	ck_assert_uint_eq(rd(ENTRY(1), 8), 0xabcdef01fffffffc);
	wr(ENTRY(1) + 8, 8, 0xfffffffe12345678); /* data, and control but for the mask */
	ck_assert_uint_eq(rd(ENTRY(1) + 8, 8), 0x12345678);
	wr(ENTRY(1) + 8, 8, 0xffffffff12345679);
	ck_assert_uint_eq(rd(ENTRY(1) + 8, 8), 0x0000000112345679);
	ck_assert_uint_eq(rd(ENTRY(0), 8), 0);
	ck_assert_uint_eq(rd(ENTRY(2), 8), 0);
}
END_TEST

/* T-Q3: every offset in every width, to the end of the page. */
START_TEST(test_widths)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		unsigned int width = widths[i];
		uint64_t ones = bus_all_ones(width);

		for (uint64_t offset = 0; offset + width <= 0x1000; offset++) {
			bool known = width >= 4 && offset % width == 0 && offset < ENTRY(VECTORS);

			if (known) {
				ck_assert_uint_ne(rd(offset, width), ones);
				continue;
			}
			ck_assert_uint_eq(rd(offset, width), ones);
			wr(offset, width, UINT64_MAX);
			wr(offset, width, 0);
			if (width < 4 || offset % width != 0 || offset >= 8) {
				ck_assert_uint_eq(msix_pending_read(&msix, offset, width), ones);
			}
		}
	}
	for (uint32_t i = 0; i < VECTORS; i++) {
		ck_assert_uint_eq(rd(ENTRY(i), 8), 0);
		ck_assert_uint_eq(rd(ENTRY(i) + 8, 8), 1ULL << 32);
	}
	msix_trigger(&msix, VECTORS);
	msix_trigger(&msix, 0xffff);
	msix_trigger(&msix, UINT32_MAX);
	ck_assert_uint_eq(pending(), 0);
}
END_TEST

START_TEST(test_open_vector_sends)
{
	msix_set_mode(&msix, MSIX_MASKED);
	program(2, 0x42);
	mask(2, false);
	ck_assert_uint_eq(msi.commits, 0); /* the function is masked: no call to the host */
	msix_set_mode(&msix, MSIX_ON);
	ck_assert_uint_eq(msi.commits, 1);
	msix_trigger(&msix, 2);
	msix_trigger(&msix, 2);
	ck_assert_uint_eq(sent(2), 2);
	ck_assert_uint_eq(last_data(2), 0x42);
	ck_assert_uint_eq(pending(), 0);
	ck_assert_uint_eq(sent(0) + sent(1) + sent(3) + sent(4), 0);
}
END_TEST

/* As Linux does: the function masked, every vector written, then opened: one call for all of them. */
START_TEST(test_calls_to_the_host)
{
	msix_set_mode(&msix, MSIX_MASKED);
	for (uint32_t i = 0; i < VECTORS; i++) {
		program(i, 0x30 + i);
		mask(i, false);
	}
	msix_set_mode(&msix, MSIX_ON);
	ck_assert_uint_eq(msi.commits, 1);
	/* Masking and unmasking cost nothing while the message stays, writes under a mask neither. */
	for (uint32_t i = 0; i < 10; i++) {
		mask(1, true);
		mask(1, false);
		msix_set_mode(&msix, MSIX_MASKED);
		msix_set_mode(&msix, MSIX_ON);
	}
	mask(1, true);
	program(1, 0x99);
	program(1, 0x77);
	ck_assert_uint_eq(msi.commits, 1);
	mask(1, false);
	ck_assert_uint_eq(msi.commits, 2);
	msix_trigger(&msix, 1);
	ck_assert_uint_eq(last_data(1), 0x77);
}
END_TEST

START_TEST(test_vector_mask_keeps_events)
{
	msix_set_mode(&msix, MSIX_ON);
	program(3, 0x50);
	msix_trigger(&msix, 3);
	msix_trigger(&msix, 3);
	ck_assert_uint_eq(sent(3), 0);
	ck_assert_uint_eq(pending(), 1 << 3);
	ck_assert_uint_eq(msix_pending_read(&msix, 0, 4), 1 << 3);
	ck_assert_uint_eq(msix_pending_read(&msix, 4, 4), 0);
	program(3, 0x51); /* the message is the one of the unmasking */
	mask(3, false);
	ck_assert_uint_eq(sent(3), 1);
	ck_assert_uint_eq(last_data(3), 0x51);
	ck_assert_uint_eq(pending(), 0);
	mask(3, true);
	mask(3, false);
	ck_assert_uint_eq(sent(3), 1);
}
END_TEST

START_TEST(test_function_mask_keeps_events)
{
	msix_set_mode(&msix, MSIX_ON);
	program(0, 0x60);
	program(4, 0x64);
	mask(0, false);
	msix_set_mode(&msix, MSIX_MASKED);
	msix_trigger(&msix, 0);
	msix_trigger(&msix, 4);
	ck_assert_uint_eq(pending(), 0x11);
	mask(4, false);
	ck_assert_uint_eq(pending(), 0x11);
	ck_assert_uint_eq(sent(0) + sent(4), 0);
	msix_set_mode(&msix, MSIX_ON);
	ck_assert_uint_eq(sent(0), 1);
	ck_assert_uint_eq(sent(4), 1);
	ck_assert_uint_eq(last_data(4), 0x64);
	ck_assert_uint_eq(pending(), 0);
}
END_TEST

/* What is pending stays so while MSI-X is off, and a reset of the device forgets it. */
START_TEST(test_off)
{
	msix_set_mode(&msix, MSIX_ON);
	program(1, 0x70);
	msix_trigger(&msix, 1);
	msix_set_mode(&msix, MSIX_OFF);
	msix_trigger(&msix, 2);
	mask(1, false);
	ck_assert_uint_eq(sent(1), 0);
	ck_assert_uint_eq(pending(), 2);
	msix_set_mode(&msix, MSIX_ON);
	ck_assert_uint_eq(sent(1), 1);
	msix_set_mode(&msix, MSIX_MASKED);
	msix_trigger(&msix, 1);
	msix_forget_pending(&msix);
	ck_assert_uint_eq(pending(), 0);
	msix_set_mode(&msix, MSIX_ON);
	ck_assert_uint_eq(sent(1), 1);
}
END_TEST

/* §6.8.2 leaves it undefined; here the new message is sent from now on. */
START_TEST(test_written_while_open)
{
	msix_set_mode(&msix, MSIX_ON);
	program(0, 0x80);
	mask(0, false);
	wr(ENTRY(0) + 8, 4, 0x81);
	msix_trigger(&msix, 0);
	ck_assert_uint_eq(last_data(0), 0x81);
	wr(ENTRY(0) + 8, 8, 0x82); /* data and control in one */
	msix_trigger(&msix, 0);
	ck_assert_uint_eq(last_data(0), 0x82);
	wr(ENTRY(0) + 8, 8, 0x100000083);
	msix_trigger(&msix, 0);
	ck_assert_uint_eq(sent(0), 2);
	ck_assert_uint_eq(pending(), 1);
	wr(ENTRY(0) + 8, 8, 0x84);
	ck_assert_uint_eq(sent(0), 3);
	ck_assert_uint_eq(last_data(0), 0x84);
}
END_TEST

START_TEST(test_reset)
{
	msix_set_mode(&msix, MSIX_ON);
	program(0, 0x90);
	msix_trigger(&msix, 0);
	mask(1, false);
	msix_reset(&msix);
	ck_assert_uint_eq(pending(), 0);
	ck_assert_uint_eq(rd(ENTRY(0), 8), 0);
	ck_assert_uint_eq(rd(ENTRY(1) + CONTROL, 4), 1);
	msix_trigger(&msix, 1);
	ck_assert_uint_eq(sent(1) + pending(), 0);
}
END_TEST

START_TEST(test_all_vectors)
{
	struct error e = { 0 };

	msix_finish(&msix);
	check_ok(msix_init(&msix, &msi.controller, MSIX_VECTORS_MAX, &e), &e);
	msix_set_mode(&msix, MSIX_MASKED);
	for (uint32_t i = 0; i < MSIX_VECTORS_MAX; i++) {
		program(i, i);
		mask(i, false);
		msix_trigger(&msix, i);
	}
	ck_assert_uint_eq(pending(), UINT64_MAX);
	ck_assert_uint_eq(msix_pending_read(&msix, 4, 4), UINT32_MAX);
	msix_set_mode(&msix, MSIX_ON);
	ck_assert_uint_eq(pending(), 0);
	for (uint32_t i = 0; i < MSIX_VECTORS_MAX; i++) {
		ck_assert_uint_eq(sent(i), 1);
		ck_assert_uint_eq(last_data(i), i);
	}
}
END_TEST

START_TEST(test_no_lines)
{
	struct error e = { 0 };

	msix_finish(&msix);
	msi.refuse = true;
	ck_assert_int_lt(msix_init(&msix, &msi.controller, 2, &e), 0);
	check_error(&e, ERROR_KVM, "no more");
}
END_TEST

START_TEST(test_state)
{
	static struct msix other;
	struct error e = { 0 };

	check_ok(msix_init(&other, &msi.controller, VECTORS, &e), &e);
	msix_set_mode(&msix, MSIX_ON);
	program(0, 0xa0);
	mask(0, false);
	program(4, 0xa4);
	msix_trigger(&msix, 4);
	check_state_round_trip(&msix_state, &msix, &other);
	ck_assert_uint_eq(atomic_load(&other.registers.pending), 1 << 4);
	ck_assert(!atomic_load(&other.registers.entries[0].masked));
	msix_set_mode(&other, MSIX_ON);
	ck_assert(msi.lines[VECTORS].committed.data == 0xa0);
	check_state_refused(&msix_state, &msix, registers.count, VECTORS + 1, "6 entries");
	check_state_refused(&msix_state, &msix, registers.count, 0, "0 entries");
	check_state_refused(&msix_state, &msix, registers.pending, 1 << VECTORS, "pending");
	check_state_refused(&msix_state, &msix, registers.entries[1].address, 0xfee00002,
			    "vector 1");
	msix_finish(&other);
}
END_TEST

/*
 * The races of msix.c: a worker that sends events, while a vCPU masks and unmasks, writes messages
 * and turns the function off and on. No event is lost: what was sent last before the vector was
 * opened for good arrives; nothing is sent while the vector is masked and none to an address that
 * was not the table's.
 */
static _Atomic uint64_t events;
static _Atomic bool race_ends;

static void *trigger_events(void *arg)
{
	(void)arg;
	while (!atomic_load(&race_ends)) {
		msix_trigger(&msix, 1);
		atomic_fetch_add(&events, 1);
	}
	return NULL;
}

static void close_somehow(uint32_t round)
{
	if (round % 2 == 0) {
		mask(1, true);
	} else {
		msix_set_mode(&msix, MSIX_MASKED);
	}
}

static void open_somehow(uint32_t round)
{
	if (round % 2 == 0) {
		mask(1, false);
	} else {
		msix_set_mode(&msix, MSIX_ON);
	}
}

START_TEST(test_nothing_is_sent_under_a_mask)
{
	pthread_t worker;

	atomic_store(&race_ends, false);
	msix_set_mode(&msix, MSIX_ON);
	program(1, 0);
	mask(1, false);
	ck_assert_int_eq(pthread_create(&worker, NULL, trigger_events, NULL), 0);
	for (uint32_t round = 0; round < 3000; round++) {
		uint32_t before;
		uint64_t event;

		close_somehow(round);
		before = sent(1);
		event = atomic_load(&events);
		wr(ENTRY(1) + 8, 4, round + 1);
		/* Until the worker has tried at least twice. */
		while (atomic_load(&events) < event + 2) {
			(void)sched_yield();
		}
		ck_assert_uint_eq(sent(1), before);
		ck_assert_uint_eq(pending(), 2);
		open_somehow(round);
		/* The worker may have taken the pending bit, and be about to send. */
		while (sent(1) == before) {
			(void)sched_yield();
		}
		ck_assert_uint_eq(last_data(1), round + 1);
	}
	atomic_store(&race_ends, true);
	ck_assert_int_eq(pthread_join(worker, NULL), 0);
}
END_TEST

/* One event a round, each of which has to arrive although the vector is masked and opened around it. */
static void *trigger_once_a_round(void *arg)
{
	uint64_t mine = 0;

	(void)arg;
	while (!atomic_load(&race_ends)) {
		uint64_t round = atomic_load(&events);

		if (round != mine) {
			mine = round;
			msix_trigger(&msix, 1);
		}
	}
	return NULL;
}

START_TEST(test_no_event_is_lost)
{
	pthread_t worker;

	atomic_store(&race_ends, false);
	atomic_store(&events, 0);
	msix_set_mode(&msix, MSIX_ON);
	program(1, 1);
	mask(1, false);
	ck_assert_int_eq(pthread_create(&worker, NULL, trigger_once_a_round, NULL), 0);
	for (uint32_t round = 1; round <= 3000; round++) {
		atomic_store(&events, round);
		for (uint32_t i = 0; i < round % 8; i++) {
			close_somehow(i);
			open_somehow(i);
		}
		while (sent(1) < round) {
			(void)sched_yield(); /* a lost one ends the test by its time limit */
		}
		ck_assert_uint_eq(sent(1), round); /* and none comes twice */
	}
	atomic_store(&race_ends, true);
	ck_assert_int_eq(pthread_join(worker, NULL), 0);
	ck_assert_uint_eq(pending(), 0);
}
END_TEST

CHECK_MAIN("msix", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_power_on);
	   CHECK_TEST(test_table_is_memory); CHECK_TEST(test_widths);
	   CHECK_TEST(test_open_vector_sends); CHECK_TEST(test_calls_to_the_host);
	   CHECK_TEST(test_vector_mask_keeps_events); CHECK_TEST(test_function_mask_keeps_events);
	   CHECK_TEST(test_off); CHECK_TEST(test_written_while_open); CHECK_TEST(test_reset);
	   CHECK_TEST(test_all_vectors); CHECK_TEST(test_no_lines); CHECK_TEST(test_state);
	   CHECK_TEST(test_nothing_is_sent_under_a_mask); CHECK_TEST(test_no_event_is_lost))
