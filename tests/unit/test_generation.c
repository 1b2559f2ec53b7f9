/* SPDX-License-Identifier: Apache-2.0 */
/* VMGenID and VMClock: what a guest finds in its memory, how that changes while somebody reads it, and what is saved. */
#include "harness/check_main.h"
#include "harness/state_round_trip.h"

#include <pthread.h>

#include "vmm/bytes.h"
#include "vmm/platform.h"
#include "vmm/vmclock.h"
#include "vmm/vmgenid.h"

#define CHANGES_SEEN 1000 /* that the reader has to see */

static struct guest_memory mem;
static struct vmgenid vmgenid;
static struct vmclock vmclock;
static struct error e;
static const uint8_t guid[VMGENID_SIZE] = "0123456789abcde";

static void setup(void)
{
	mem = (struct guest_memory){ 0 };
	check_ok(guest_memory_init(&mem, PLATFORM_MEMORY_MIN, GUEST_MEMORY_ANON, &e), &e);
	vmgenid_init(&vmgenid, &mem, PLATFORM_VMGENID);
	vmclock_init(&vmclock, &mem, PLATFORM_VMCLOCK);
}

static void teardown(void)
{
	guest_memory_finish(&mem);
}

/* Which pages are marked, as bits of a map that begins at the one of VMClock; all marks go. */
static uint64_t collect(void)
{
	uint64_t map[ALIGN_UP(PLATFORM_MEMORY_MIN / KIB(4), 64) / 64] = { 0 };

	check_ok(guest_region_dirty_collect(&mem, 0, map, ARRAY_SIZE(map) * 64, &e), &e);
	return map[PLATFORM_VMCLOCK / KIB(4) / 64] >> PLATFORM_VMCLOCK / KIB(4) % 64;
}

START_TEST(test_guid)
{
	uint8_t seen[VMGENID_SIZE];

	check_ok(guest_memory_dirty_start(&mem, &e), &e);
	(void)collect();
	vmgenid_set(&vmgenid, guid);
	check_ok(vmgenid_write(&vmgenid, &e), &e);
	ck_assert(guest_memory_read(&mem, PLATFORM_VMGENID, seen, sizeof(seen)));
	ck_assert_mem_eq(seen, guid, sizeof(guid));
	ck_assert_uint_eq(collect(), 2);
	/* What the guest makes of it is not what comes back. */
	ck_assert(guest_memory_zero(&mem, PLATFORM_VMGENID, sizeof(seen)));
	check_ok(vmgenid_write(&vmgenid, &e), &e);
	ck_assert(guest_memory_read(&mem, PLATFORM_VMGENID, seen, sizeof(seen)));
	ck_assert_mem_eq(seen, guid, sizeof(guid));
	guest_memory_dirty_stop(&mem);
}
END_TEST

/* The places do not meet, nor those of firmware. */
START_TEST(test_places)
{
	ck_assert_uint_eq(PLATFORM_VMGENID % 8, 0);
	ck_assert_uint_eq(PLATFORM_VMCLOCK % VMCLOCK_PAGE_SIZE, 0);
	ck_assert_uint_ge(PLATFORM_VMCLOCK, PLATFORM_ACPI_END);
	ck_assert_uint_le(PLATFORM_VMCLOCK + VMCLOCK_PAGE_SIZE, PLATFORM_MPTABLE);
	ck_assert_uint_ge(PLATFORM_VMGENID, PLATFORM_MPTABLE_END);
	ck_assert_uint_le(PLATFORM_VMGENID + VMGENID_SIZE, PLATFORM_RESET_VECTOR);
	/* Linux looks for the signature of an extension ROM every 2 KiB: random bytes are not there. */
	ck_assert_uint_ne(PLATFORM_VMGENID % KIB(2), 0);
}
END_TEST

/* By the numbers of vmclock-abi.h, written out. */
START_TEST(test_page)
{
	uint8_t page[VMCLOCK_PAGE_SIZE], want[VMCLOCK_PAGE_SIZE] = { 'V', 'C', 'L', 'K' };

	want[5] = 0x10; /* size */
	want[8] = 1;	/* version */
	want[10] = 0xff;
	want[25] = 3; /* flags */
	store_le64(want + 16, UINT64_C(0x1122334455667788));
	store_le64(want + 104, UINT64_C(0x99aabbccddeeff00));
	check_ok(guest_memory_dirty_start(&mem, &e), &e);
	(void)collect();
	vmclock_set(&vmclock, UINT64_C(0x1122334455667788), UINT64_C(0x99aabbccddeeff00));
	check_ok(vmclock_write(&vmclock, &e), &e);
	ck_assert(guest_memory_read(&mem, PLATFORM_VMCLOCK, page, sizeof(page)));
	ck_assert_mem_eq(page, want, sizeof(want));
	ck_assert_uint_eq(collect(), 1);
	check_ok(vmclock_change(&vmclock, 5, 6, &e), &e);
	want[12] = 2; /* sequence */
	store_le64(want + 16, 5);
	store_le64(want + 104, 6);
	ck_assert(guest_memory_read(&mem, PLATFORM_VMCLOCK, page, sizeof(page)));
	ck_assert_mem_eq(page, want, sizeof(want));
	ck_assert_uint_eq(collect(), 1);
	/* The number is ours: a guest's own, odd one does not stay. */
	store_le32(page, 77);
	ck_assert(guest_memory_write(&mem, PLATFORM_VMCLOCK + VMCLOCK_AT_SEQ_COUNT, page, 4));
	check_ok(vmclock_change(&vmclock, 7, 8, &e), &e);
	ck_assert(guest_memory_read(&mem, PLATFORM_VMCLOCK + VMCLOCK_AT_SEQ_COUNT, page, 4));
	ck_assert_uint_eq(load_le32(page), 4);
	/* Once around. */
	vmclock.state.seq_count = UINT32_MAX - 1;
	check_ok(vmclock_change(&vmclock, 9, 10, &e), &e);
	ck_assert_uint_eq(vmclock.state.seq_count, 0);
	guest_memory_dirty_stop(&mem);
}
END_TEST

static uint64_t load64(const uint8_t *at)
{
	const uint32_t *words = (const void *)at;
	uint64_t low = __atomic_load_n(words, __ATOMIC_RELAXED);

	return low | (uint64_t)__atomic_load_n(words + 1, __ATOMIC_RELAXED) << 32;
}

static _Atomic bool enough;

/* As the specification tells a guest to read. Returns the number of changes seen that did not belong together. */
static void *read_page(void *arg)
{
	const uint8_t *page = arg;
	const uint32_t *seq = (const void *)(page + VMCLOCK_AT_SEQ_COUNT);
	uintptr_t bad = 0;
	uint32_t last = 0;

	for (unsigned int seen = 0; seen < CHANGES_SEEN;) {
		uint32_t before = __atomic_load_n(seq, __ATOMIC_ACQUIRE), after;
		uint64_t disruption, generation;

		if (before % 2 != 0 || before == last) {
			continue;
		}
		disruption = load64(page + VMCLOCK_AT_DISRUPTION);
		generation = load64(page + VMCLOCK_AT_GENERATION);
		atomic_thread_fence(memory_order_acquire);
		after = __atomic_load_n(seq, __ATOMIC_RELAXED);
		if (before == after) {
			bad += disruption != ~generation || generation != before ? 1 : 0;
			last = before;
			seen++;
		}
	}
	atomic_store(&enough, true);
	return (void *)bad;
}

/* A reader that looks at the sequence number sees words of one change, never of two. */
START_TEST(test_sequence)
{
	uint8_t *page = guest_memory_write_pointer(&mem, PLATFORM_VMCLOCK, VMCLOCK_PAGE_SIZE);
	pthread_t reader;
	void *bad;

	atomic_store(&enough, false);
	check_ok(vmclock_write(&vmclock, &e), &e);
	ck_assert_int_eq(pthread_create(&reader, NULL, read_page, page), 0);
	while (!atomic_load(&enough)) {
		uint64_t next = (uint32_t)(vmclock.state.seq_count + 2);

		check_ok(vmclock_change(&vmclock, ~next, next, &e), &e);
	}
	ck_assert_int_eq(pthread_join(reader, &bad), 0);
	ck_assert_uint_eq((uintptr_t)bad, 0);
}
END_TEST

/* Memory that is not there is an error, and nothing is written beside it. */
START_TEST(test_no_memory)
{
	struct guest_memory none = { 0 };

	vmgenid_init(&vmgenid, &none, PLATFORM_VMGENID);
	ck_assert_int_lt(vmgenid_write(&vmgenid, &e), 0);
	check_error(&e, ERROR_INTERNAL, "no guest RAM at 0xfff00");
	vmclock_init(&vmclock, &none, PLATFORM_VMCLOCK);
	ck_assert_int_lt(vmclock_write(&vmclock, &e), 0);
	check_error(&e, ERROR_INTERNAL, "no guest RAM at 0xfe000");
	ck_assert_int_lt(vmclock_change(&vmclock, 1, 2, &e), 0);
	ck_assert_uint_eq(vmclock.state.seq_count, 0);
	vmgenid_init(&vmgenid, &mem, PLATFORM_MEMORY_MIN - 8);
	ck_assert_int_lt(vmgenid_write(&vmgenid, &e), 0);
	vmclock_init(&vmclock, &mem, UINT64_MAX - 8);
	ck_assert_int_lt(vmclock_change(&vmclock, 1, 2, &e), 0);
}
END_TEST

START_TEST(test_state)
{
	struct vmgenid other_id;
	struct vmclock other_clock;

	vmgenid_set(&vmgenid, guid);
	vmgenid_init(&other_id, &mem, PLATFORM_VMGENID);
	check_state_round_trip(&vmgenid_state, &vmgenid.state, &other_id.state);
	ck_assert_mem_eq(other_id.state.guid, guid, sizeof(guid));
	check_ok(vmclock_change(&vmclock, 11, 12, &e), &e);
	vmclock_init(&other_clock, &mem, PLATFORM_VMCLOCK);
	check_state_round_trip(&vmclock_state, &vmclock.state, &other_clock.state);
	ck_assert_uint_eq(other_clock.state.disruption_marker, 11);
	ck_assert_uint_eq(other_clock.state.vm_generation_counter, 12);
	check_state_refused(&vmclock_state, &vmclock.state, seq_count, 3, "sequence number 3: odd");
	check_state_refused(&vmclock_state, &vmclock.state, seq_count, UINT32_MAX, "odd");
}
END_TEST

CHECK_MAIN("generation", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_guid);
	   CHECK_TEST(test_places); CHECK_TEST(test_page); CHECK_TEST(test_sequence);
	   CHECK_TEST(test_no_memory); CHECK_TEST(test_state))
