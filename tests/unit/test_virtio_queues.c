/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device core: queues changing hands, reset, pause, saved state, all of it from several threads. Names
 * as in test_virtio.c.
 */
#include "harness/echo_device.h"
#include "harness/virtio_state.h"

START_TEST(test_M2_4_1_reset)
{
	uint32_t interrupts, processed;

	ck_assert(fake_driver_start(&d, EVENT_IDX, 32));
	check_echo(0);
	fake_driver_reset(&d);
	ck_assert_uint_eq(status(), 0);
	ck_assert_uint_eq(echo->dev.state.features, 0);
	ck_assert_uint_eq(atomic_load(&echo->dev.state.interrupt_status), 0);
	for (uint32_t i = 0; i < 2; i++) {
		const struct virtqueue *ring = &echo->dev.queues[i].ring;

		ck_assert(!ring->state.ready && !ring->running);
		ck_assert_uint_eq(ring->state.size, queues[i].size_max);
		ck_assert_uint_eq(
			ring->state.desc_gpa | ring->state.avail_gpa | ring->state.used_gpa, 0);
		ck_assert_uint_eq(ring->state.avail_next | ring->state.used_next, 0);
		ck_assert_uint_eq(atomic_load(&echo->stopped[i]), 1);
	}
	/* T-D16 */
	interrupts = atomic_load(&d.queue_interrupts[0]);
	processed = atomic_load(&echo->processed[0]);
	(void)add(0, FAKE_DATA, FAKE_DATA + 16);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), interrupts);
	ck_assert_uint_eq(atomic_load(&echo->processed[0]), processed);
}
END_TEST

START_TEST(test_failed_stops_queues)
{
	ck_assert(fake_driver_start(&d, 0, 32));
	fake_driver_set_status(&d, 0x8f);
	ck_assert_uint_eq(atomic_load(&echo->stopped[0]), 1);
	(void)add(0, FAKE_DATA, FAKE_DATA + 16);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 0);
	/* Pause and resume do not start it again. */
	virtio_device_quiesce(&echo->dev);
	virtio_device_resume(&echo->dev);
	ck_assert_uint_eq(atomic_load(&echo->started[0]), 1);
	ck_assert(fake_driver_start(&d, 0, 32));
	check_echo(0);
}
END_TEST

START_TEST(test_many_resets)
{
	int before = count_descriptors();

	for (uint32_t i = 0; i < 2000; i++) {
		ck_assert(fake_driver_start(&d, i % 2 == 0 ? EVENT_IDX : 0, 32));
		(void)add(i % 2, FAKE_DATA, FAKE_DATA + 16);
		virtio_kick(&echo->dev, i % 2);
		if (i % 64 == 0) {
			virtio_device_reset(&echo->dev);
		}
	}
	ck_assert_int_eq(count_descriptors(), before);
	ck_assert(fake_driver_start(&d, 0, 32));
	check_echo(0);
}
END_TEST

START_TEST(test_queue_selection)
{
	ck_assert_ptr_null(virtio_select_queue(&echo->dev, 2, false));
	ck_assert_ptr_null(virtio_select_queue(&echo->dev, 0xffff, true));
	ck_assert_ptr_null(virtio_select_queue(&echo->dev, UINT32_MAX, false));
	ck_assert_ptr_eq(virtio_select_queue(&echo->dev, 1, true), &echo->dev.queues[1]);
	ck_assert(fake_driver_start(&d, 0, 32));
	/* T-Q1: frozen */
	ck_assert_ptr_null(virtio_select_queue(&echo->dev, 1, true));
	ck_assert_ptr_eq(virtio_select_queue(&echo->dev, 1, false), &echo->dev.queues[1]);
	fake_driver_set_status(&d, 0x8f);
	ck_assert_ptr_null(virtio_select_queue(&echo->dev, 1, true));
}
END_TEST

/* T-Q8: one unusable queue, and none starts. */
START_TEST(test_unusable_queue)
{
	ck_assert(fake_driver_negotiate(&d, VERSION_1));
	fake_driver_setup_queue(&d, 0, 32);
	fake_driver_setup_queue(&d, 1, 32);
	if (_i == 0) {
		virtqueue_set_size(&echo->dev.queues[1].ring, 33);
	} else if (_i == 1) {
		echo->dev.queues[1].ring.state.desc_gpa = FAKE_LOW_SIZE;
	} else {
		virtqueue_set_size(&echo->dev.queues[1].ring, 64); /* its maximum is 32 */
	}
	(void)add(0, FAKE_DATA, FAKE_DATA + 16);
	fake_driver_set_status(&d, 0xf);
	ck_assert_uint_eq(status(), 0xf | NEEDS_RESET);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 0);
	ck_assert_uint_eq(atomic_load(&echo->started[0]) + atomic_load(&echo->started[1]), 0);
	ck_assert(fake_driver_start(&d, 0, 32));
	check_echo(1);
}
END_TEST

START_TEST(test_two_queues_share_one_ring)
{
	ck_assert(fake_driver_negotiate(&d, VERSION_1));
	fake_driver_setup_queue(&d, 0, 32);
	fake_ring_configure(&d.rings[0], &echo->dev.queues[1].ring);
	fake_driver_set_status(&d, 0xf);
	ck_assert_uint_eq(status(), 0xf);
	fake_driver_reset(&d);
	ck_assert_uint_eq(status(), 0);
}
END_TEST

/* T-D4: a driver that never stops adding cannot hold the worker: a reset still gets through. */
START_TEST(test_endless_driver)
{
	ck_assert(fake_driver_start(&d, _i == 0 ? 0 : EVENT_IDX, 32));
	echo->ring = &d.rings[0];
	atomic_store(&echo->endless, true);
	for (uint32_t i = 0; i < 8; i++) {
		(void)add(0, FAKE_DATA, FAKE_DATA + 16);
	}
	fake_driver_kick(&d, 0);
	/* One kick is enough: the queue comes back to its work by itself, round after round. */
	for (uint32_t i = 0; i < 10; i++) {
		uint32_t before = atomic_load(&echo->processed[0]);

		fake_driver_sync(&d);
		ck_assert_uint_gt(atomic_load(&echo->processed[0]), before);
	}
	fake_driver_reset(&d);
	ck_assert_uint_eq(status(), 0);
}
END_TEST

START_TEST(test_quiesce)
{
	uint32_t id, len, processed;

	ck_assert(fake_driver_start(&d, EVENT_IDX, 32));
	check_echo(0);
	virtio_device_quiesce(&echo->dev);
	virtio_device_quiesce(&echo->dev);
	processed = atomic_load(&echo->processed[0]);
	(void)add(0, FAKE_DATA, FAKE_DATA + 16);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(atomic_load(&echo->processed[0]), processed);
	ck_assert_uint_eq(status(), 0xf);
	virtio_device_resume(&echo->dev);
	ck_assert(fake_ring_used(&d.rings[0], &id, &len));
	check_echo(0);
	check_echo(1);
}
END_TEST

START_TEST(test_quiesce_before_driver)
{
	virtio_device_quiesce(&echo->dev);
	virtio_device_resume(&echo->dev);
	ck_assert_uint_eq(atomic_load(&echo->started[0]), 0);
	ck_assert(fake_driver_start(&d, 0, 32));
	check_echo(0);
}
END_TEST

static void save(struct state_buf *buf)
{
	const struct state_entry entry = virtio_entry(&echo->dev, NULL, NULL);

	check_ok(state_set_save(&entry, 1, buf, &e), &e);
}

START_TEST(test_machine_reset_is_power_on)
{
	struct state_buf fresh = { 0 }, after = { 0 };

	save(&fresh);
	ck_assert(fake_driver_start(&d, EVENT_IDX | FEATURE_A, 16));
	check_echo(0);
	virtio_config_changed(&echo->dev);
	fake_ring_set_avail_idx(&d.rings[1], 0x7fff);
	fake_driver_kick(&d, 1);
	virtio_device_reset(&echo->dev);
	save(&after);
	ck_assert_uint_eq(fresh.len, after.len);
	ck_assert_mem_eq(fresh.data, after.data, fresh.len);
	state_buf_finish(&fresh);
	state_buf_finish(&after);
}
END_TEST

START_TEST(test_state_round_trip)
{
	struct state_buf saved = { 0 };
	struct state_entry entry;
	uint32_t id, len;

	check_ok(state_desc_check(&virtio_device_state, &e), &e);
	ck_assert(fake_driver_start(&d, EVENT_IDX | FEATURE_A, 16));
	for (uint32_t i = 0; i < 21; i++) {
		check_echo(0);
	}
	virtio_device_quiesce(&echo->dev);
	(void)add(0, FAKE_DATA, FAKE_DATA + 16);
	save(&saved);
	virtio_device_reset(&echo->dev);
	entry = virtio_entry(&echo->dev, NULL, NULL);
	check_ok(virtio_load(&entry, &saved, &e), &e);
	state_buf_finish(&saved);
	ck_assert_uint_eq(status(), 0xf);
	ck_assert_uint_eq(echo->dev.state.features, VERSION_1 | EVENT_IDX | FEATURE_A);
	ck_assert_uint_eq(atomic_load(&echo->dev.state.interrupt_status), 1);
	ck_assert_uint_eq(echo->activations, 1);
	virtio_device_resume(&echo->dev);
	ck_assert_uint_eq(echo->activations, 2);
	ck_assert(fake_ring_used(&d.rings[0], &id, &len));
	check_echo(0);
	check_echo(1);
	/* A mere pause does not activate again. */
	virtio_device_quiesce(&echo->dev);
	virtio_device_resume(&echo->dev);
	ck_assert_uint_eq(echo->activations, 2);
}
END_TEST

static const struct {
	uint32_t status, interrupts;
	uint64_t features;
	bool good;
} states[] = {
	{ 0x00, 0, 0, true },
	{ 0x03, 0, UINT64_MAX, true }, /* a driver may write anything before FEATURES_OK */
	{ 0x0f, 3, VERSION_1, true },
	{ 0xcf, 0, VERSION_1, true },
	{ 0x40, 0, 0, true },
	{ 0x0f, 0, 0, false },
	{ 0x0b, 0, VERSION_1 | 1, false },
	{ 0x0b, 0, VERSION_1 | FEATURE_B, false },
	{ 0x02, 0, VERSION_1, false },
	{ 0x07, 0, VERSION_1, false },
	{ 0x10, 0, VERSION_1, false },
	{ 0x10f, 0, VERSION_1, false },
	{ 0xffffffff, 0, VERSION_1, false },
	{ 0x0f, 4, VERSION_1, false },
	{ 0x0f, 0x80000000, VERSION_1, false },
};

START_TEST(test_state_validate)
{
	atomic_store(&echo->dev.state.status, states[_i].status);
	atomic_store(&echo->dev.state.interrupt_status, states[_i].interrupts);
	echo->dev.state.features = states[_i].features;
	ck_assert_int_eq(state_validate(&virtio_device_state, &echo->dev, &e) == 0,
			 states[_i].good);
	ck_assert_int_eq(e.code, states[_i].good ? ERROR_NONE : ERROR_STATE);
	atomic_store(&echo->dev.state.status, 0);
}
END_TEST

/* Rings of a hostile state: found unusable when the device resumes. */
START_TEST(test_state_with_bad_ring)
{
	ck_assert(fake_driver_start(&d, 0, 32));
	virtio_device_quiesce(&echo->dev);
	echo->dev.queues[1].ring.state.used_gpa = UINT64_MAX - 3;
	virtio_device_resume(&echo->dev);
	ck_assert_uint_eq(status(), 0xf | NEEDS_RESET);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	ck_assert(fake_driver_start(&d, 0, 32));
	check_echo(0);
}
END_TEST

/* Several vCPUs at once: kicks, status reads, changes of configuration, resets. ThreadSanitizer is
 * the judge. */
static _Atomic bool hammer_stop;

static void *hammer(void *arg)
{
	uint32_t i = 0;

	(void)arg;
	while (!atomic_load(&hammer_stop)) {
		virtio_kick(&echo->dev, i++ % 3);
		if (i % 16 == 0) {
			virtio_config_changed(&echo->dev);
		}
		if (i % 1024 == 0) {
			virtio_needs_reset(&echo->dev, "test");
		}
		(void)atomic_load(&echo->dev.state.status);
	}
	return NULL;
}

START_TEST(test_concurrent_resets)
{
	pthread_t threads[2];

	atomic_store(&hammer_stop, false);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, NULL), 0);
	}
	for (uint32_t i = 0; i < 300; i++) {
		/* NEEDS_RESET may come at any moment, and another thread select a queue that has no
		 * size. */
		(void)!fake_driver_start(&d, EVENT_IDX, 32);
		if (d.rings[0].size != 0) {
			(void)add(0, FAKE_DATA, FAKE_DATA + 16);
		}
		fake_driver_kick(&d, 0);
		virtio_device_quiesce(&echo->dev);
		virtio_device_resume(&echo->dev);
	}
	atomic_store(&hammer_stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		(void)pthread_join(threads[i], NULL);
	}
	ck_assert(fake_driver_start(&d, EVENT_IDX, 32));
	check_echo(0);
}
END_TEST

CHECK_MAIN("virtio_queues", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_M2_4_1_reset);
	   CHECK_TEST(test_failed_stops_queues); CHECK_TEST(test_many_resets);
	   CHECK_TEST(test_queue_selection); CHECK_LOOP(test_unusable_queue, 3);
	   CHECK_TEST(test_two_queues_share_one_ring); CHECK_LOOP(test_endless_driver, 2);
	   CHECK_TEST(test_quiesce); CHECK_TEST(test_quiesce_before_driver);
	   CHECK_TEST(test_machine_reset_is_power_on); CHECK_TEST(test_state_round_trip);
	   CHECK_TABLE(test_state_validate, states); CHECK_TEST(test_state_with_bad_ring);
	   CHECK_TEST(test_concurrent_resets))
