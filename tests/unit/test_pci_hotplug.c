/* SPDX-License-Identifier: Apache-2.0 */
/* Hot-plug registers: what is told once, what may be ejected and what not, and threads that all eject. */
#include "harness/check_main.h"
#include "harness/state_round_trip.h"

#include <sched.h>
#include <stdatomic.h>

#include "vmm/pci_hotplug.h"

#define ONES 0xffffffffU

struct sink {
	struct pci_hotplug_sink sink;
	_Atomic uint32_t notified, left;
	_Atomic uint32_t ejected[32];
	_Atomic bool linger; /* an eject stays inside */
	_Atomic bool inside;
};

static struct sink sink;
static struct pci_hotplug hotplug;

static void notify(struct pci_hotplug_sink *s)
{
	atomic_fetch_add(&container_of(s, struct sink, sink)->notified, 1);
}

static void eject(struct pci_hotplug_sink *s, uint32_t slot)
{
	struct sink *mine = container_of(s, struct sink, sink);

	atomic_fetch_add(&mine->ejected[slot], 1);
	atomic_store(&mine->inside, true);
	while (atomic_load(&mine->linger)) {
		(void)sched_yield();
	}
}

static void left(struct pci_hotplug_sink *s)
{
	atomic_fetch_add(&container_of(s, struct sink, sink)->left, 1);
}

static void setup(void)
{
	memset(&sink, 0, sizeof(sink));
	sink.sink = (struct pci_hotplug_sink){ notify, eject, left };
	pci_hotplug_init(&hotplug, &sink.sink);
}

static void teardown(void)
{
	pci_hotplug_finish(&hotplug);
	pci_hotplug_finish(&hotplug);
}

static uint32_t in(uint64_t reg)
{
	return (uint32_t)pci_hotplug_bus_ops.read(&hotplug, reg, 4);
}

static void out(uint64_t reg, uint32_t value)
{
	pci_hotplug_bus_ops.write(&hotplug, reg, 4, value);
}

static uint32_t ejects(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < 32; i++) {
		count += atomic_load(&sink.ejected[i]);
	}
	return count;
}

START_TEST(test_arrivals_are_told_once)
{
	ck_assert_uint_eq(in(PCI_HOTPLUG_ARRIVED), 0);
	pci_hotplug_added(&hotplug, 5);
	pci_hotplug_added(&hotplug, 31);
	ck_assert_uint_eq(atomic_load(&sink.notified), 2);
	ck_assert_uint_eq(in(PCI_HOTPLUG_WANTED), 0);
	ck_assert_uint_eq(in(PCI_HOTPLUG_ARRIVED), 1U << 5 | 1U << 31);
	ck_assert_uint_eq(in(PCI_HOTPLUG_ARRIVED), 0);
	/* The host bridge is in no slot. */
	pci_hotplug_added(&hotplug, 0);
	ck_assert_uint_eq(in(PCI_HOTPLUG_ARRIVED), 0);
}
END_TEST

START_TEST(test_a_device_goes)
{
	pci_hotplug_request(&hotplug, 3);
	ck_assert_uint_eq(atomic_load(&sink.notified), 1);
	ck_assert(!pci_hotplug_heard(&hotplug, 3));
	ck_assert_uint_eq(in(PCI_HOTPLUG_WANTED), 1U << 3);
	ck_assert_uint_eq(in(PCI_HOTPLUG_WANTED), 0);
	ck_assert(pci_hotplug_heard(&hotplug, 3));
	ck_assert_uint_eq(pci_hotplug_take(&hotplug, false), 0);
	out(PCI_HOTPLUG_EJECT, 1U << 3);
	ck_assert_uint_eq(atomic_load(&sink.ejected[3]), 1);
	ck_assert_uint_eq(atomic_load(&sink.left), 1);
	ck_assert_uint_eq(in(PCI_HOTPLUG_EJECT), 0);
	ck_assert(!pci_hotplug_withdraw(&hotplug, 3));
	ck_assert_uint_eq(pci_hotplug_take(&hotplug, false), 1U << 3);
	ck_assert_uint_eq(pci_hotplug_take(&hotplug, true), 0);
	/* The slot is as new. */
	ck_assert(!pci_hotplug_heard(&hotplug, 3));
	pci_hotplug_added(&hotplug, 3);
	ck_assert_uint_eq(in(PCI_HOTPLUG_ARRIVED), 1U << 3);
	out(PCI_HOTPLUG_EJECT, 1U << 3);
	ck_assert_uint_eq(ejects(), 1);
}
END_TEST

/* Nobody has asked for it; twice; the bridge; after it has gone. */
START_TEST(test_ejects_that_are_nobodys)
{
	out(PCI_HOTPLUG_EJECT, ONES);
	ck_assert_uint_eq(ejects(), 0);
	ck_assert_uint_eq(atomic_load(&sink.left), 0);
	pci_hotplug_request(&hotplug, 0);
	out(PCI_HOTPLUG_EJECT, ONES);
	ck_assert_uint_eq(ejects(), 0);
	pci_hotplug_request(&hotplug, 7);
	pci_hotplug_request(&hotplug, 9);
	/* All at once, not read before: those two. */
	out(PCI_HOTPLUG_EJECT, ONES);
	ck_assert_uint_eq(ejects(), 2);
	ck_assert_uint_eq(atomic_load(&sink.ejected[7]), 1);
	ck_assert_uint_eq(atomic_load(&sink.ejected[9]), 1);
	ck_assert_uint_eq(in(PCI_HOTPLUG_WANTED), 0);
	out(PCI_HOTPLUG_EJECT, ONES);
	ck_assert_uint_eq(ejects(), 2);
	/* Asked for again meanwhile: it is on its way, and the guest hears of it no more. */
	pci_hotplug_request(&hotplug, 7);
	ck_assert_uint_eq(in(PCI_HOTPLUG_WANTED), 0);
	out(PCI_HOTPLUG_EJECT, ONES);
	ck_assert_uint_eq(ejects(), 2);
	ck_assert_uint_eq(pci_hotplug_take(&hotplug, false), 1U << 7 | 1U << 9);
	out(PCI_HOTPLUG_EJECT, ONES);
	ck_assert_uint_eq(ejects(), 2);
}
END_TEST

START_TEST(test_asked_again)
{
	pci_hotplug_request(&hotplug, 4);
	ck_assert_uint_eq(in(PCI_HOTPLUG_WANTED), 1U << 4);
	pci_hotplug_request(&hotplug, 4);
	ck_assert(!pci_hotplug_heard(&hotplug, 4));
	ck_assert_uint_eq(atomic_load(&sink.notified), 2);
	ck_assert_uint_eq(in(PCI_HOTPLUG_WANTED), 1U << 4);
	/* Taken away from the guest: its eject comes too late. */
	ck_assert(pci_hotplug_withdraw(&hotplug, 4));
	out(PCI_HOTPLUG_EJECT, 1U << 4);
	ck_assert_uint_eq(ejects(), 0);
	ck_assert_uint_eq(pci_hotplug_take(&hotplug, true), 0);
}
END_TEST

/* What was asked for is fulfilled, and the rest forgotten. */
START_TEST(test_reset)
{
	pci_hotplug_added(&hotplug, 2);
	pci_hotplug_request(&hotplug, 3);
	pci_hotplug_request(&hotplug, 4);
	out(PCI_HOTPLUG_EJECT, 1U << 4);
	ck_assert_uint_eq(pci_hotplug_take(&hotplug, true), 1U << 3 | 1U << 4);
	pci_hotplug_reset(&hotplug);
	ck_assert_uint_eq(in(PCI_HOTPLUG_ARRIVED) | in(PCI_HOTPLUG_WANTED), 0);
	out(PCI_HOTPLUG_EJECT, ONES);
	ck_assert_uint_eq(ejects(), 1);
}
END_TEST

/* Every width at every offset: only whole registers are there. */
START_TEST(test_hostile_accesses)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	pci_hotplug_added(&hotplug, 1);
	pci_hotplug_request(&hotplug, 2);
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
		const unsigned int size = widths[w];

		for (unsigned int at = 0; at + size <= PCI_HOTPLUG_PORTS; at++) {
			if (size == 4 && at % 4 == 0) {
				continue;
			}
			ck_assert_uint_eq(pci_hotplug_bus_ops.read(&hotplug, at, size),
					  bus_all_ones(size));
			pci_hotplug_bus_ops.write(&hotplug, at, size, UINT64_MAX);
		}
	}
	ck_assert_uint_eq(ejects(), 0);
	out(PCI_HOTPLUG_ARRIVED, ONES);
	out(PCI_HOTPLUG_WANTED, ONES);
	ck_assert_uint_eq(ejects(), 0);
	ck_assert_uint_eq(in(PCI_HOTPLUG_ARRIVED), 1U << 1);
	ck_assert_uint_eq(in(PCI_HOTPLUG_WANTED), 1U << 2);
}
END_TEST

static void *eject_three(void *arg)
{
	(void)arg;
	out(PCI_HOTPLUG_EJECT, 1U << 3);
	return NULL;
}

/* One vCPU is at it: others do nothing, and it is not there to be taken before it is off the bus. */
START_TEST(test_one_eject_at_a_time)
{
	pthread_t thread;

	pci_hotplug_request(&hotplug, 3);
	atomic_store(&sink.linger, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, eject_three, NULL), 0);
	while (!atomic_load(&sink.inside)) {
		(void)sched_yield();
	}
	out(PCI_HOTPLUG_EJECT, ONES);
	ck_assert_uint_eq(ejects(), 1);
	ck_assert(!pci_hotplug_withdraw(&hotplug, 3));
	pci_hotplug_request(&hotplug, 3);
	ck_assert_uint_eq(in(PCI_HOTPLUG_WANTED), 0);
	ck_assert_uint_eq(pci_hotplug_take(&hotplug, false), 0);
	ck_assert_uint_eq(atomic_load(&sink.left), 0);
	atomic_store(&sink.linger, false);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(atomic_load(&sink.left), 1);
	ck_assert_uint_eq(pci_hotplug_take(&hotplug, false), 1U << 3);
}
END_TEST

static _Atomic bool stop;

static void *eject_all(void *arg)
{
	while (!atomic_load(&stop)) {
		(void)in(PCI_HOTPLUG_WANTED);
		out(PCI_HOTPLUG_EJECT, ONES);
	}
	return arg;
}

/* However many vCPUs eject all the time, each request is one eject. */
START_TEST(test_threads)
{
	pthread_t threads[3];

	atomic_store(&stop, false);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, eject_all, NULL), 0);
	}
	for (uint32_t round = 1; round <= 2000; round++) {
		const uint32_t slot = 1 + round % 31;
		const uint32_t before = ejects();
		uint32_t taken = 0;

		pci_hotplug_request(&hotplug, slot);
		while (taken == 0) {
			taken = pci_hotplug_take(&hotplug, false);
		}
		ck_assert_uint_eq(taken, 1U << slot);
		ck_assert_uint_eq(ejects(), before + 1);
	}
	atomic_store(&stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	}
}
END_TEST

START_TEST(test_state)
{
	struct pci_hotplug restored;

	pci_hotplug_init(&restored, &sink.sink);
	pci_hotplug_added(&hotplug, 9);
	pci_hotplug_request(&hotplug, 10);
	pci_hotplug_request(&hotplug, 11);
	(void)in(PCI_HOTPLUG_WANTED);
	pci_hotplug_request(&hotplug, 10);
	out(PCI_HOTPLUG_EJECT, 1U << 11);
	check_state_round_trip(&pci_hotplug_state, &hotplug.state, &restored.state);
	ck_assert_uint_eq(pci_hotplug_take(&restored, false), 1U << 11);
	ck_assert_uint_eq(pci_hotplug_bus_ops.read(&restored, PCI_HOTPLUG_ARRIVED, 4), 1U << 9);
	ck_assert_uint_eq(pci_hotplug_bus_ops.read(&restored, PCI_HOTPLUG_WANTED, 4), 1U << 10);
	pci_hotplug_finish(&restored);
	check_state_refused(&pci_hotplug_state, &hotplug.state, arrived, 1, "arrived 0x1");
	check_state_refused(&pci_hotplug_state, &hotplug.state, leaving, ONES, "leaving 0xff");
	check_state_refused(&pci_hotplug_state, &hotplug.state, wanted, 1U << 20,
			    "wanted 0x100000");
	check_state_refused(&pci_hotplug_state, &hotplug.state, left, 1U << 20, "left 0x100000");
}
END_TEST

CHECK_MAIN("pci_hotplug", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_arrivals_are_told_once);
	   CHECK_TEST(test_a_device_goes); CHECK_TEST(test_ejects_that_are_nobodys);
	   CHECK_TEST(test_asked_again); CHECK_TEST(test_reset); CHECK_TEST(test_hostile_accesses);
	   CHECK_TEST(test_one_eject_at_a_time); CHECK_TEST(test_threads); CHECK_TEST(test_state))
