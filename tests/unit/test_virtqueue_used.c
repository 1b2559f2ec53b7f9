/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues, what the device gives back: order, notifications both ways, stop, dirty pages, saved
 * state, and memory that changes meanwhile. "M..." are the device requirements of virtio 1.3.
 */
#include "harness/virtqueue_rig.h"

/* M2.7.8.2-1, and M2.8.12-2's like for split rings: in the order in which they complete. */
START_TEST(test_used_order)
{
	struct virtqueue_chain chains[3];
	uint32_t id, len;

	start(SIZE, 0);
	for (uint32_t i = 0; i < 3; i++) {
		const struct fake_buf buf = { 0x100000, 100 + i, true };

		fake_ring_add(&ring, &buf, 1);
	}
	for (size_t i = 0; i < 3; i++) {
		ck_assert_int_eq(virtqueue_pop(&q, &chains[i], iov + i, 1), 1);
	}
	virtqueue_push(&q, &chains[2], 102);
	ck_assert_uint_eq(fake_ring_used_idx(&ring), 0);
	ck_assert_uint_eq(host(ring.used_gpa)[4], 2);
	ck_assert_uint_eq(host(ring.used_gpa)[8], 102);
	virtqueue_push(&q, &chains[0], 7);
	virtqueue_push(
		&q, &chains[1],
		5000); /* more than there is room: a bug of a device must not reach the guest */
	ck_assert(virtqueue_publish(&q));
	ck_assert(fake_ring_used(&ring, &id, &len));
	ck_assert_uint_eq(id, 2);
	ck_assert_uint_eq(len, 102);
	ck_assert(fake_ring_used(&ring, &id, &len));
	ck_assert_uint_eq(id, 0);
	ck_assert_uint_eq(len, 7);
	ck_assert(fake_ring_used(&ring, &id, &len));
	ck_assert_uint_eq(id, 1);
	ck_assert_uint_eq(len, 101);
	ck_assert(!fake_ring_used(&ring, &id, &len));
	ck_assert(!virtqueue_publish(&q)); /* nothing new */
}
END_TEST

/* T-D18: what the driver writes into the used ring does not matter. */
START_TEST(test_used_overwritten)
{
	const struct fake_buf buf = { 0x100000, 16, true };

	start(SIZE, 0);
	for (uint16_t round = 0; round < 3 * SIZE; round++) {
		fake_ring_add(&ring, &buf, 1);
		memset(host(ring.used_gpa), 0xff, 4 + 8 * SIZE);
		while (pop() > 0) {
			virtqueue_push(&q, &chain, 16);
		}
		ck_assert(virtqueue_publish(&q));
		ck_assert_uint_eq(fake_ring_used_idx(&ring), round + 1);
	}
}
END_TEST

/* 2^16 and more requests: positions wrap, with and without EVENT_IDX. */
START_TEST(test_wrap)
{
	const struct fake_buf buf = { 0x100000, 16, true };
	uint32_t interrupts = 0;

	start(4, _i == 0 ? 0 : EVENT_IDX);
	for (uint32_t i = 0; i < 0x10000 + 100; i++) {
		uint32_t id, len;
		uint16_t head;

		if (_i != 0) {
			fake_ring_set_used_event(&ring, (uint16_t)i);
			ck_assert_uint_eq(fake_ring_avail_event(&ring), (uint16_t)i);
		}
		head = fake_ring_add(&ring, &buf, 1);
		virtqueue_suppress_kicks(&q, true);
		ck_assert_int_eq(pop(), 1);
		virtqueue_push(&q, &chain, i % 17);
		ck_assert_int_eq(pop(), 0);
		interrupts += virtqueue_publish(&q);
		virtqueue_suppress_kicks(&q, false);
		ck_assert(!virtqueue_has_work(&q));
		ck_assert(fake_ring_used(&ring, &id, &len));
		ck_assert_uint_eq(id, head);
		ck_assert_uint_eq(len, i % 17);
	}
	ck_assert_uint_eq(interrupts, 0x10000 + 100);
}
END_TEST

/* Publishes `count` chains at used position `at` with this used_event. */
static bool publish_at(uint16_t at, uint16_t count, uint16_t event)
{
	const struct fake_buf buf = { 0x100000, 16, true };

	fake_ring_init(&ring, &mem, SIZE, FAKE_RINGS);
	virtqueue_init(&q, SIZE);
	fake_ring_configure(&ring, &q);
	q.state.avail_next = at;
	q.state.used_next = at;
	ring.avail_idx = at;
	fake_ring_publish(&ring);
	ck_assert(virtqueue_start(&q, &mem, EVENT_IDX));
	for (uint16_t i = 0; i < count; i++) {
		fake_ring_add(&ring, &buf, 1);
	}
	fake_ring_set_used_event(&ring, event);
	while (pop() > 0) {
		virtqueue_push(&q, &chain, 0);
	}
	return virtqueue_publish(&q);
}

START_TEST(test_M2_7_7_2_4_used_event)
{
	static const uint16_t ats[] = { 0, 1, 100, 0x7ffe, 0x8000, 0xfffa, 0xfffe, 0xffff };

	for (size_t i = 0; i < ARRAY_SIZE(ats); i++) {
		for (uint16_t count = 1; count <= SIZE; count++) {
			for (int around = -20; around <= 20; around++) {
				uint16_t event = (uint16_t)(ats[i] + around);
				bool expected = false;

				for (uint16_t k = 0; k < count; k++) {
					expected |= (uint16_t)(ats[i] + k) == event;
				}
				ck_assert_msg(publish_at(ats[i], count, event) == expected,
					      "at %u, %u chains, event %u", ats[i], count, event);
			}
		}
	}
}
END_TEST

START_TEST(test_M2_7_7_2_3_flags_ignored_with_event_idx)
{
	ck_assert(publish_at(5, 1, 5));
	fake_ring_set_avail_flags(&ring, VRING_AVAIL_F_NO_INTERRUPT);
	fake_ring_set_used_event(&ring, 6);
	fake_ring_add(&ring, &(struct fake_buf){ 0x100000, 1, true }, 1);
	ck_assert_int_eq(pop(), 1);
	virtqueue_push(&q, &chain, 0);
	ck_assert(virtqueue_publish(&q));
}
END_TEST

START_TEST(test_M2_7_7_2_1_and_2_flags_without_event_idx)
{
	const struct fake_buf buf = { 0x100000, 16, true };

	start(SIZE, 0);
	for (uint16_t flags = 0; flags < 2; flags++) {
		for (uint16_t event = 0; event < 4; event++) {
			fake_ring_set_avail_flags(&ring, flags);
			fake_ring_set_used_event(&ring, event);
			fake_ring_add(&ring, &buf, 1);
			ck_assert(virtqueue_has_work(&q));
			ck_assert_int_eq(pop(), 1);
			virtqueue_push(&q, &chain, 0);
			ck_assert_int_eq(virtqueue_publish(&q), flags == 0);
		}
	}
}
END_TEST

START_TEST(test_M2_7_10_2_1_kick_flag_without_event_idx)
{
	start(SIZE, 0);
	ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
	virtqueue_suppress_kicks(&q, true);
	ck_assert_uint_eq(fake_ring_used_flags(&ring), VRING_USED_F_NO_NOTIFY);
	/* A stop in between leaves it there; the next start clears it. */
	virtqueue_stop(&q);
	ck_assert(virtqueue_start(&q, &mem, 0));
	ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
	virtqueue_suppress_kicks(&q, true);
	virtqueue_suppress_kicks(&q, false);
	ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
}
END_TEST

START_TEST(test_M2_7_10_2_2_flags_zero_with_event_idx)
{
	const struct fake_buf buf = { 0x100000, 16, true };

	start(SIZE, EVENT_IDX);
	for (uint16_t i = 1; i < 20; i++) {
		fake_ring_add(&ring, &buf, 1);
		virtqueue_suppress_kicks(&q, true);
		ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
		/* The driver's check: does adding entry i - 1 need a kick? The device is busy, so
		 * it must not. */
		ck_assert(i == 1 ||
			  !vring_need_event(fake_ring_avail_event(&ring), (uint16_t)(i + 1), i));
		ck_assert(virtqueue_has_work(&q));
		ck_assert_int_eq(pop(), 1);
		virtqueue_push(&q, &chain, 0);
		ck_assert_int_eq(pop(), 0);
		virtqueue_suppress_kicks(&q, false);
		ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
		ck_assert_uint_eq(fake_ring_avail_event(&ring), i);
		ck_assert(vring_need_event(fake_ring_avail_event(&ring), (uint16_t)(i + 1), i));
	}
}
END_TEST

START_TEST(test_stop)
{
	const struct fake_buf buf = { 0x100000, 16, true };
	struct virtqueue_chain dropped;

	start(SIZE, EVENT_IDX);
	fake_ring_add(&ring, &buf, 1);
	fake_ring_add(&ring, &buf, 1);
	ck_assert_int_eq(pop(), 1);
	dropped = chain;
	virtqueue_stop(&q);
	ck_assert_int_eq(pop(), 0);
	ck_assert(!virtqueue_has_work(&q));
	virtqueue_push(&q, &dropped, 16);
	ck_assert(!virtqueue_publish(&q));
	virtqueue_suppress_kicks(&q, true);
	ck_assert_uint_eq(fake_ring_used_idx(&ring), 0);
	/* It goes on where it was. */
	ck_assert(virtqueue_start(&q, &mem, EVENT_IDX));
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.head, 1);
	virtqueue_push(&q, &chain, 16);
	publish();
	ck_assert_uint_eq(fake_ring_used_idx(&ring), 1);
}
END_TEST

static uint64_t dirty_pages(uint64_t *first)
{
	uint64_t bitmap[FAKE_LOW_PAGES / 64];
	uint64_t count = fake_memory_dirty(&mem, bitmap);

	*first = bitmap[0];
	return count;
}

/* The VMM's own writes: the buffers, or what a device that knows it has written of them, the used
 * ring, and nothing else. */
START_TEST(test_dirty)
{
	const struct fake_buf bufs[] = { { 0x100000, 4096, false },
					 { 0x200800, 4096, true },
					 { 0x300000, 4096, true } };
	uint64_t low;

	start(SIZE, EVENT_IDX);
	fake_ring_add(&ring, bufs, ARRAY_SIZE(bufs));
	fake_ring_add(&ring, bufs, ARRAY_SIZE(bufs));
	fake_memory_track(&mem);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(dirty_pages(&low), 0);
	virtqueue_push(&q, &chain, 2048 + 1);
	ck_assert_uint_eq(dirty_pages(&low), 4); /* and 0x300000: a status, or an error's rest */
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(dirty_pages(&low), 0);
	virtqueue_push_exact(&q, &chain, 2048 + 1);
	publish();
	ck_assert_uint_eq(dirty_pages(&low), 3); /* used ring, 0x200000, 0x201000 */
	ck_assert_uint_eq(low, UINT64_C(1) << (FAKE_RINGS >> 12));
	virtqueue_suppress_kicks(&q, false);
	ck_assert_uint_eq(dirty_pages(&low), 1);
	guest_memory_dirty_stop(&mem);
}
END_TEST

/* T-D10: the driver's memory changes under our hands. Sanitizers look for what must not happen. */
static _Atomic bool mutator_stop;

__attribute__((no_sanitize("thread"))) static void *mutator(void *arg)
{
	volatile uint8_t *p = host(FAKE_RINGS);
	uint32_t random = 12345;

	(void)arg;
	while (!atomic_load_explicit(&mutator_stop, memory_order_relaxed)) {
		random = random * 1664525 + 1013904223;
		p[(random >> 8) % 0x200] = (uint8_t)(random >> 24);
	}
	return NULL;
}

START_TEST(test_memory_changes)
{
	pthread_t thread;

#if defined(__SANITIZE_THREAD__)
	CHECK_SKIP("the race is the subject of the test");
#endif
	atomic_store(&mutator_stop, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, mutator, NULL), 0);
	for (uint32_t round = 0; round < 20000; round++) {
		uint16_t taken = 0;

		start(SIZE, EVENT_IDX | INDIRECT);
		while (pop() > 0) {
			ck_assert_uint_le(++taken, SIZE);
			ck_assert_uint_le(chain.out_count + chain.in_count, SIZE);
			for (uint16_t i = 0; i < chain.out_count + chain.in_count; i++) {
				uint64_t offset = fake_memory_offset(&mem, iov[i].iov_base);

				ck_assert_uint_le(offset + iov[i].iov_len, mem.size);
			}
			virtqueue_push(&q, &chain, 0);
		}
		publish();
		virtqueue_stop(&q);
	}
	atomic_store(&mutator_stop, true);
	(void)pthread_join(thread, NULL);
}
END_TEST

static const struct {
	uint16_t size, avail_next, used_next;
	bool good;
} states[] = {
	{ 0, 0, 0, true },	{ 8, 0, 0, true },	    { 1024, 5, 5, true },
	{ 8, 3, 0xfffe, true }, { 8, 0x1000, 0xff8, true }, { 3, 0, 0, false },
	{ 2048, 0, 0, false },	{ 0xffff, 0, 0, false },    { 8, 9, 0, false },
	{ 8, 0, 1, false },	{ 0, 1, 0, false },
};

START_TEST(test_state_validate)
{
	struct error e = { 0 };

	virtqueue_init(&q, 1024);
	q.state.size = states[_i].size;
	q.state.avail_next = states[_i].avail_next;
	q.state.used_next = states[_i].used_next;
	ck_assert_int_eq(state_validate(&virtqueue_state, &q, &e) == 0, states[_i].good);
	ck_assert_int_eq(e.code, states[_i].good ? ERROR_NONE : ERROR_STATE);
}
END_TEST

START_TEST(test_state_round_trip)
{
	const struct fake_buf buf = { 0x100000, 16, true };
	struct state_buf saved = { 0 };
	struct virtqueue other;
	struct error e = { 0 };

	check_ok(state_desc_check(&virtqueue_state, &e), &e);
	start(SIZE, EVENT_IDX);
	for (uint16_t i = 0; i < 5; i++) {
		fake_ring_add(&ring, &buf, 1);
		ck_assert(virtqueue_has_work(&q));
		ck_assert_int_eq(pop(), 1);
		virtqueue_push(&q, &chain, 0);
	}
	publish();
	virtqueue_stop(&q);
	check_ok(state_save(&virtqueue_state, &q, &saved, &e), &e);
	virtqueue_init(&other, VIRTQUEUE_SIZE_MAX);
	check_ok(state_load(&virtqueue_state, &other, saved.data, saved.len,
			    virtqueue_state.version, &e),
		 &e);
	state_buf_finish(&saved);
	q = other;
	ck_assert(virtqueue_start(&q, &mem, EVENT_IDX));
	ck_assert_int_eq(pop(), 0);
	fake_ring_add(&ring, &buf, 1);
	ck_assert_int_eq(pop(), 1);
	virtqueue_push(&q, &chain, 0);
	publish();
	ck_assert_uint_eq(fake_ring_used_idx(&ring), 6);
}
END_TEST

CHECK_MAIN("virtqueue_used", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_used_order);
	   CHECK_TEST(test_used_overwritten); CHECK_LOOP(test_wrap, 2);
	   CHECK_TEST(test_M2_7_7_2_4_used_event);
	   CHECK_TEST(test_M2_7_7_2_3_flags_ignored_with_event_idx);
	   CHECK_TEST(test_M2_7_7_2_1_and_2_flags_without_event_idx);
	   CHECK_TEST(test_M2_7_10_2_1_kick_flag_without_event_idx);
	   CHECK_TEST(test_M2_7_10_2_2_flags_zero_with_event_idx); CHECK_TEST(test_stop);
	   CHECK_TEST(test_dirty); CHECK_TEST(test_memory_changes);
	   CHECK_TABLE(test_state_validate, states); CHECK_TEST(test_state_round_trip))
