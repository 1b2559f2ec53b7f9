/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device core: status machine, features, queues changing hands, reset, pause, saved state.
 * "M..." are the device requirements of virtio 1.3 in research/reliability.md §3.3, "T-..." tests
 * of its §1.
 */
#include "harness/check_main.h"
#include "harness/fake_driver.h"

#include <dirent.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sys/resource.h>

#define VERSION_1 (UINT64_C(1) << VIRTIO_F_VERSION_1)
#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT  (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)
#define FEATURE_A (UINT64_C(1) << 3)
#define FEATURE_B (UINT64_C(1) << 50) /* needs A */

#define CONFIG_SIZE 12

enum { ACK = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 0x40, FAILED = 0x80 };

/* Copies what it reads to where it may write. */
struct echo {
	struct virtio_device dev;
	uint8_t config[CONFIG_SIZE];
	_Atomic uint32_t processed[2], started[2], stopped[2];
	uint32_t resets, activations;
	_Atomic bool wrong_thread;
	_Atomic bool endless; /* the driver adds again whatever it gets back */
	struct fake_ring *ring;
};

static struct echo *echo_of(struct virtio_device *dev)
{
	return container_of(dev, struct echo, dev);
}

static void echo_config_read(struct virtio_device *dev, uint32_t offset, void *buf, uint32_t len)
{
	ck_assert_uint_le((uint64_t)offset + len, CONFIG_SIZE);
	memcpy(buf, echo_of(dev)->config + offset, len);
}

static void echo_config_write(struct virtio_device *dev, uint32_t offset, const void *buf,
			      uint32_t len)
{
	ck_assert_uint_le((uint64_t)offset + len, CONFIG_SIZE);
	memcpy(echo_of(dev)->config + offset, buf, len);
}

static void echo_reset(struct virtio_device *dev)
{
	ck_assert(!dev->queues[0].started && !dev->queues[1].started);
	echo_of(dev)->resets++;
}

static void echo_activate(struct virtio_device *dev)
{
	ck_assert(!dev->queues[0].started && !dev->queues[1].started);
	echo_of(dev)->activations++;
}

static void check_thread(const struct virtio_queue *queue)
{
	if (!worker_is_current(queue->worker)) {
		atomic_store(&echo_of(queue->device)->wrong_thread, true);
	}
}

static void echo_start(struct virtio_device *dev, struct virtio_queue *queue)
{
	check_thread(queue);
	ck_assert(queue->ring.running);
	atomic_fetch_add(&echo_of(dev)->started[queue->index], 1);
}

static void echo_stop(struct virtio_device *dev, struct virtio_queue *queue)
{
	check_thread(queue);
	ck_assert(queue->ring.running);
	atomic_fetch_add(&echo_of(dev)->stopped[queue->index], 1);
}

static void echo_process(struct virtio_device *dev, struct virtio_queue *queue)
{
	struct echo *echo = echo_of(dev);
	struct virtqueue_chain chain;
	struct iovec iov[64];

	check_thread(queue);
	ck_assert((atomic_load(&dev->status) & DRIVER_OK) != 0);
	atomic_fetch_add(&echo->processed[queue->index], 1);
	virtio_queue_begin(queue);
	do {
		while (virtqueue_pop(&queue->ring, &chain, iov, ARRAY_SIZE(iov)) > 0) {
			uint8_t buf[64];
			size_t n = 0;

			if (chain.out_count != 0 && chain.in_count != 0) {
				n = MIN(iov[0].iov_len, sizeof(buf));
				n = MIN(n, iov[chain.out_count].iov_len);
				memcpy(buf, iov[0].iov_base, n);
				memcpy(iov[chain.out_count].iov_base, buf, n);
			}
			virtqueue_push(&queue->ring, &chain, (uint32_t)n);
			if (atomic_load(&echo->endless)) {
				fake_ring_offer(echo->ring, chain.head);
				fake_ring_publish(echo->ring);
			}
		}
	} while (virtio_queue_more(queue));
}

static void echo_destroy(struct virtio_device *dev)
{
	ck_assert(!echo_of(dev)->wrong_thread);
	virtio_device_finish(dev);
	free(echo_of(dev));
}

static bool echo_features_valid(const struct virtio_device *dev, uint64_t features)
{
	(void)dev;
	return (features & FEATURE_B) == 0 || (features & FEATURE_A) != 0;
}

static const uint16_t sizes[] = { 64, 32 };
static const char *const names[] = { "echo0", "echo1" };

static const struct virtio_ops echo_ops = {
	.name = "virtio-echo",
	.id = 42,
	.queue_count = 2,
	.queue_sizes = sizes,
	.queue_names = names,
	.features_valid = echo_features_valid,
	.config_read = echo_config_read,
	.config_write = echo_config_write,
	.reset = echo_reset,
	.activate = echo_activate,
	.queue_start = echo_start,
	.queue_process = echo_process,
	.queue_stop = echo_stop,
	.destroy = echo_destroy,
};

static struct fake_driver d;
static struct echo *echo;
static struct error e;

static void setup(void)
{
	memset(&e, 0, sizeof(e));
	fake_driver_init(&d);
	echo = calloc(1, sizeof(*echo));
	ck_assert_ptr_nonnull(echo);
	check_ok(virtio_device_init(&echo->dev, &echo_ops, "echo0", &d.mem, FEATURE_A | FEATURE_B,
				    CONFIG_SIZE, d.workers, &e),
		 &e);
	fake_driver_attach(&d, &echo->dev);
}

static void teardown(void)
{
	fake_driver_finish(&d);
}

static uint32_t status(void)
{
	return atomic_load(&echo->dev.status);
}

static uint16_t add(uint32_t queue, uint64_t from, uint64_t to)
{
	const struct fake_buf bufs[] = { { from, 16, false }, { to, 16, true } };

	return fake_ring_add(&d.rings[queue], bufs, 2);
}

static void check_echo(uint32_t queue)
{
	static const char text[17] = "sixteen bytes!!!";
	char got[16];
	uint32_t id, len;
	uint16_t head;

	fake_driver_write(&d, FAKE_DATA, text, 16);
	fake_driver_fill(&d, FAKE_DATA + 16, 0, 16);
	head = add(queue, FAKE_DATA, FAKE_DATA + 16);
	fake_driver_kick(&d, queue);
	ck_assert(fake_ring_used(&d.rings[queue], &id, &len));
	ck_assert_uint_eq(id, head);
	ck_assert_uint_eq(len, 16);
	fake_driver_read(&d, FAKE_DATA + 16, got, 16);
	ck_assert_mem_eq(got, text, 16);
}

/* Drives a device in any state to one of the steps. */
static void drive_to(uint32_t target)
{
	fake_driver_set_status(&d, 0);
	if ((target & ACK) != 0) {
		fake_driver_set_status(&d, ACK);
	}
	if ((target & DRIVER) != 0) {
		fake_driver_set_status(&d, ACK | DRIVER);
		virtio_set_features(&echo->dev, 1, (uint32_t)(VERSION_1 >> 32));
	}
	if ((target & FEATURES_OK) != 0) {
		fake_driver_set_status(&d, ACK | DRIVER | FEATURES_OK);
	}
	if ((target & DRIVER_OK) != 0) {
		fake_driver_set_status(&d, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
	}
	if ((target & FAILED) != 0) {
		fake_driver_set_status(&d, target);
	}
	if ((target & NEEDS_RESET) != 0) {
		virtio_needs_reset(&echo->dev, "test");
	}
	ck_assert_uint_eq(status(), target);
}

static uint32_t model(uint32_t old, uint32_t value)
{
	static const uint32_t steps[] = { ACK, DRIVER, FEATURES_OK, DRIVER_OK };
	uint32_t bits = value & ~(uint32_t)NEEDS_RESET;
	uint32_t now = old;

	if (value == 0) {
		return 0;
	}
	if ((bits & ~0x8fU) != 0 || ((old & 0x8f) & ~bits) != 0 || (old & FAILED) != 0) {
		return old;
	}
	if ((bits & FAILED) != 0) {
		return old | FAILED;
	}
	if ((old & NEEDS_RESET) != 0) {
		return old;
	}
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if ((bits & steps[i]) == 0) {
			break; /* what comes after it is not due */
		}
		/* From below DRIVER the driver has had no chance to accept VERSION_1. */
		if (steps[i] == FEATURES_OK && (old & DRIVER) == 0) {
			break;
		}
		now |= steps[i];
	}
	return now;
}

static const uint32_t matrix_states[] = { 0x00, 0x01, 0x03, 0x0b, 0x0f, 0x80, 0x81, 0x83,
					  0x8b, 0x8f, 0x4f, 0xcf, 0x40, 0x43, 0x4b };

/* T-Q9: every write in every state. */
START_TEST(test_status_matrix)
{
	uint32_t state = matrix_states[_i];

	for (uint32_t value = 0; value < 0x100; value++) {
		drive_to(state);
		fake_driver_set_status(&d, value);
		ck_assert_msg(status() == model(state, value), "0x%x in 0x%x: 0x%x, not 0x%x",
			      value, state, status(), model(state, value));
	}
	for (uint32_t bit = 8; bit < 32; bit++) {
		drive_to(state);
		fake_driver_set_status(&d, UINT32_C(1) << bit | 0x1);
		ck_assert_uint_eq(status(), state);
	}
}
END_TEST

/* The same said by hand. */
static const struct {
	uint32_t from, write, to;
} status_rows[] = {
	{ 0x00, 0x02, 0x00 }, { 0x00, 0x04, 0x00 }, { 0x00, 0x03, 0x03 }, { 0x01, 0x09, 0x01 },
	{ 0x03, 0x0b, 0x0b }, { 0x03, 0x07, 0x03 }, { 0x03, 0x0f, 0x0f }, { 0x0b, 0x03, 0x0b },
	{ 0x0f, 0x0b, 0x0f }, { 0x0f, 0x00, 0x00 }, { 0x0f, 0x8f, 0x8f }, { 0x8f, 0x0f, 0x8f },
	{ 0x8f, 0x00, 0x00 }, { 0x4f, 0xcf, 0xcf }, { 0x4f, 0x8f, 0xcf }, { 0x4f, 0x0f, 0x4f },
	{ 0x0f, 0x4f, 0x0f }, { 0x0b, 0x1f, 0x0b }, { 0x03, 0x83, 0x83 }, { 0x00, 0x80, 0x80 },
};

START_TEST(test_status_rows)
{
	drive_to(status_rows[_i].from);
	fake_driver_set_status(&d, status_rows[_i].write);
	ck_assert_uint_eq(status(), status_rows[_i].to);
}
END_TEST

START_TEST(test_M6_2_1_offered)
{
	ck_assert_uint_eq(fake_driver_offered(&d),
			  VERSION_1 | INDIRECT | EVENT_IDX | FEATURE_A | FEATURE_B);
	ck_assert_uint_eq(virtio_offered_features(&echo->dev, 2), 0);
	ck_assert_uint_eq(virtio_offered_features(&echo->dev, UINT32_MAX), 0);
}
END_TEST

static const struct {
	uint64_t features;
	bool accepted;
} feature_rows[] = {
	{ VERSION_1, true },
	{ VERSION_1 | FEATURE_A, true },
	{ VERSION_1 | FEATURE_A | FEATURE_B | EVENT_IDX | INDIRECT, true },
	{ VERSION_1 | EVENT_IDX, true },
	{ 0, false },
	{ FEATURE_A, false },
	{ VERSION_1 | FEATURE_B, false }, /* which needs A */
	{ VERSION_1 | 1, false },
	{ VERSION_1 | UINT64_C(1) << 34, false },
	{ VERSION_1 | UINT64_C(1) << 40, false },
	{ VERSION_1 | UINT64_C(1) << 63, false },
	{ UINT64_MAX, false },
};

START_TEST(test_M2_2_2_2_subsets)
{
	ck_assert_int_eq(fake_driver_negotiate(&d, feature_rows[_i].features),
			 feature_rows[_i].accepted);
	ck_assert_uint_eq(status(), feature_rows[_i].accepted ? 0xb : 0x3);
	/* A driver that was refused may think again. */
	if (!feature_rows[_i].accepted) {
		virtio_set_features(&echo->dev, 0, 0);
		virtio_set_features(&echo->dev, 1, 1);
		fake_driver_set_status(&d, 0xb);
		ck_assert_uint_eq(status(), 0xb);
	}
}
END_TEST

START_TEST(test_features_frozen)
{
	virtio_set_features(&echo->dev, 0, 0x8);
	ck_assert_uint_eq(echo->dev.features, 0); /* before DRIVER */
	fake_driver_set_status(&d, ACK | DRIVER);
	virtio_set_features(&echo->dev, 0, 0x8);
	virtio_set_features(&echo->dev, 1, 0x1);
	virtio_set_features(&echo->dev, 2, 0xffffffff);
	virtio_set_features(&echo->dev, UINT32_MAX, 0xffffffff);
	ck_assert_uint_eq(echo->dev.features, VERSION_1 | FEATURE_A);
	fake_driver_set_status(&d, ACK | DRIVER | FEATURES_OK);
	virtio_set_features(&echo->dev, 0, 0);
	virtio_set_features(&echo->dev, 1, 0xffffffff);
	ck_assert_uint_eq(echo->dev.features, VERSION_1 | FEATURE_A);
	ck_assert(virtio_has_feature(&echo->dev, 3));
	ck_assert(!virtio_has_feature(&echo->dev, 50));
}
END_TEST

START_TEST(test_echo)
{
	ck_assert(fake_driver_start(&d, EVENT_IDX | INDIRECT, 32));
	ck_assert_uint_eq(echo->activations, 1);
	for (uint32_t i = 0; i < 200; i++) {
		fake_ring_set_used_event(&d.rings[i % 2], fake_ring_used_idx(&d.rings[i % 2]));
		check_echo(i % 2);
	}
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 100);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[1]), 100);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	ck_assert_uint_eq(atomic_load(&echo->dev.interrupt_status), 1);
}
END_TEST

/* M2.1.2-1, and the kick is not lost. */
START_TEST(test_M2_1_2_1_kick_before_driver_ok)
{
	uint32_t id, len;

	ck_assert(fake_driver_negotiate(&d, VERSION_1));
	fake_driver_setup_queue(&d, 0, 32);
	(void)add(0, FAKE_DATA, FAKE_DATA + 16);
	fake_driver_kick(&d, 0);
	fake_driver_kick(&d, 1);
	ck_assert_uint_eq(atomic_load(&echo->processed[0]), 0);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 0);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 0);
	fake_driver_set_status(&d, 0xf);
	ck_assert(fake_ring_used(&d.rings[0], &id, &len));
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 1);
	/* The other queue was never made ready. */
	fake_driver_sync(&d);
	ck_assert_uint_eq(atomic_load(&echo->processed[1]), 0);
	ck_assert_uint_eq(atomic_load(&echo->started[1]), 0);
}
END_TEST

START_TEST(test_M2_7_10_2_3_spurious_kicks)
{
	ck_assert(fake_driver_start(&d, EVENT_IDX, 32));
	for (uint32_t i = 0; i < 100; i++) {
		fake_driver_kick(&d, i % 2);
	}
	for (uint32_t i = 0; i < 1000; i++) {
		virtio_kick(&echo->dev, 0);
	}
	virtio_kick(&echo->dev, 2);
	virtio_kick(&echo->dev, 0x80000000);
	virtio_kick(&echo->dev, UINT32_MAX);
	fake_driver_sync(&d);
	ck_assert_uint_eq(status(), 0xf);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 0);
	check_echo(0);
}
END_TEST

START_TEST(test_M2_1_2_2_needs_reset_signals)
{
	virtio_needs_reset(&echo->dev, "test");
	ck_assert_uint_eq(status(), NEEDS_RESET);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	fake_driver_reset(&d);
	ck_assert(fake_driver_start(&d, 0, 32));
	virtio_needs_reset(&echo->dev, "test");
	virtio_needs_reset(&echo->dev, "test");
	ck_assert_uint_eq(status(), 0xf | NEEDS_RESET);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	ck_assert_uint_eq(atomic_load(&echo->dev.interrupt_status), 2);
}
END_TEST

/* T-Q15: a broken queue stops its device, and a reset revives it. */
START_TEST(test_broken_queue)
{
	uint32_t processed;

	ck_assert(fake_driver_start(&d, 0, 32));
	check_echo(0);
	fake_ring_set_avail_idx(&d.rings[0], 0x7fff);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(status(), 0xf | NEEDS_RESET);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	processed = atomic_load(&echo->processed[1]);
	fake_driver_kick(&d, 1);
	ck_assert_uint_eq(atomic_load(&echo->processed[1]), processed);
	ck_assert(fake_driver_start(&d, 0, 32));
	check_echo(0);
	check_echo(1);
}
END_TEST

START_TEST(test_M2_4_1_reset)
{
	uint32_t interrupts, processed;

	ck_assert(fake_driver_start(&d, EVENT_IDX, 32));
	check_echo(0);
	fake_driver_reset(&d);
	ck_assert_uint_eq(status(), 0);
	ck_assert_uint_eq(echo->dev.features, 0);
	ck_assert_uint_eq(atomic_load(&echo->dev.interrupt_status), 0);
	for (uint32_t i = 0; i < 2; i++) {
		const struct virtqueue *ring = &echo->dev.queues[i].ring;

		ck_assert(!ring->ready && !ring->running);
		ck_assert_uint_eq(ring->size, sizes[i]);
		ck_assert_uint_eq(ring->desc_gpa | ring->avail_gpa | ring->used_gpa, 0);
		ck_assert_uint_eq(ring->avail_next | ring->used_next, 0);
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

static unsigned int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL) {
		count++;
	}
	(void)closedir(dir);
	return count;
}

START_TEST(test_many_resets)
{
	unsigned int before = open_descriptors();

	for (uint32_t i = 0; i < 2000; i++) {
		ck_assert(fake_driver_start(&d, i % 2 == 0 ? EVENT_IDX : 0, 32));
		(void)add(i % 2, FAKE_DATA, FAKE_DATA + 16);
		virtio_kick(&echo->dev, i % 2);
		if (i % 64 == 0) {
			virtio_device_reset(&echo->dev);
		}
	}
	ck_assert_uint_eq(open_descriptors(), before);
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
		echo->dev.queues[1].ring.desc_gpa = FAKE_LOW_SIZE;
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

/* T-Q5 */
START_TEST(test_config_bounds)
{
	static const uint64_t offsets[] = { 0,
					    1,
					    7,
					    CONFIG_SIZE - 1,
					    CONFIG_SIZE,
					    CONFIG_SIZE + 1,
					    UINT64_C(1) << 31,
					    UINT32_MAX,
					    UINT64_MAX - 7,
					    UINT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		for (uint32_t len = 1; len <= 8; len++) {
			uint8_t buf[8], ones[8];

			for (uint8_t k = 0; k < CONFIG_SIZE; k++) {
				echo->config[k] = (uint8_t)(k + 1);
			}
			memset(buf, 0xee, sizeof(buf));
			memset(ones, 0xff, sizeof(ones));
			virtio_config_read(&echo->dev, offsets[i], buf, len);
			for (uint64_t k = 0; k < 8; k++) {
				uint64_t at = offsets[i] + k;
				bool inside = at >= k && at < CONFIG_SIZE;

				ck_assert_uint_eq(buf[k], k >= len ? 0xee : inside ? at + 1 : 0);
			}
			virtio_config_write(&echo->dev, offsets[i], ones, len);
			for (uint64_t k = 0; k < CONFIG_SIZE; k++) {
				bool hit = k >= offsets[i] && k - offsets[i] < len;

				ck_assert_uint_eq(echo->config[k], hit ? 0xff : k + 1);
			}
		}
	}
}
END_TEST

START_TEST(test_M4_2_2_1_6_config_changed)
{
	virtio_config_changed(&echo->dev);
	ck_assert_uint_eq(atomic_load(&echo->dev.config_generation), 1);
	ck_assert_uint_eq(atomic_load(&echo->dev.interrupt_status), 0);
	/* Between ACKNOWLEDGE and DRIVER_OK: the interrupt comes when the driver is ready. */
	ck_assert(fake_driver_negotiate(&d, VERSION_1));
	virtio_config_changed(&echo->dev);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	ck_assert_uint_eq(atomic_load(&echo->dev.interrupt_status), 2);
	fake_driver_set_status(&d, 0xf);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	virtio_config_changed(&echo->dev);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 2);
	ck_assert_uint_eq(atomic_load(&echo->dev.config_generation), 3);
	/* The driver's reset keeps the generation, a machine reset does not. */
	fake_driver_reset(&d);
	ck_assert_uint_eq(atomic_load(&echo->dev.config_generation), 3);
	virtio_device_reset(&echo->dev);
	ck_assert_uint_eq(atomic_load(&echo->dev.config_generation), 0);
}
END_TEST

static void save(struct state_buf *buf)
{
	check_ok(state_save(&virtio_device_state, &echo->dev, buf, &e), &e);
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
	check_ok(state_load(&virtio_device_state, &echo->dev, saved.data, saved.len,
			    virtio_device_state.version, &e),
		 &e);
	state_buf_finish(&saved);
	ck_assert_uint_eq(status(), 0xf);
	ck_assert_uint_eq(echo->dev.features, VERSION_1 | EVENT_IDX | FEATURE_A);
	ck_assert_uint_eq(atomic_load(&echo->dev.interrupt_status), 1);
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
	atomic_store(&echo->dev.status, states[_i].status);
	atomic_store(&echo->dev.interrupt_status, states[_i].interrupts);
	echo->dev.features = states[_i].features;
	ck_assert_int_eq(virtio_device_state.validate(&echo->dev, &e) == 0, states[_i].good);
	ck_assert_int_eq(e.code, states[_i].good ? ERROR_NONE : ERROR_STATE);
	atomic_store(&echo->dev.status, 0);
}
END_TEST

/* Rings of a hostile state: found unusable when the device resumes. */
START_TEST(test_state_with_bad_ring)
{
	ck_assert(fake_driver_start(&d, 0, 32));
	virtio_device_quiesce(&echo->dev);
	echo->dev.queues[1].ring.used_gpa = UINT64_MAX - 3;
	virtio_device_resume(&echo->dev);
	ck_assert_uint_eq(status(), 0xf | NEEDS_RESET);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	ck_assert(fake_driver_start(&d, 0, 32));
	check_echo(0);
}
END_TEST

START_TEST(test_init_without_descriptors)
{
	struct rlimit limit = { 0 }, none;
	struct virtio_device dev;
	unsigned int before = open_descriptors();

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert_int_eq(virtio_device_init(&dev, &echo_ops, "echo1", &d.mem, 0, 0, d.workers, &e),
			 -EMFILE);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	check_error(&e, ERROR_INTERNAL, "virtio-echo 'echo1'");
	ck_assert_uint_eq(open_descriptors(), before);
	virtio_device_finish(&dev);
	memset(&dev, 0, sizeof(dev));
	virtio_device_finish(&dev);
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
		(void)atomic_load(&echo->dev.status);
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
		bool ok = fake_driver_start(&d, EVENT_IDX, 32);

		(void)ok; /* NEEDS_RESET may come at any moment */
		(void)add(0, FAKE_DATA, FAKE_DATA + 16);
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

CHECK_MAIN("virtio", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_status_matrix, matrix_states);
	   CHECK_TABLE(test_status_rows, status_rows); CHECK_TEST(test_M6_2_1_offered);
	   CHECK_TABLE(test_M2_2_2_2_subsets, feature_rows); CHECK_TEST(test_features_frozen);
	   CHECK_TEST(test_echo); CHECK_TEST(test_M2_1_2_1_kick_before_driver_ok);
	   CHECK_TEST(test_M2_7_10_2_3_spurious_kicks);
	   CHECK_TEST(test_M2_1_2_2_needs_reset_signals); CHECK_TEST(test_broken_queue);
	   CHECK_TEST(test_M2_4_1_reset); CHECK_TEST(test_failed_stops_queues);
	   CHECK_TEST(test_many_resets); CHECK_TEST(test_queue_selection);
	   CHECK_LOOP(test_unusable_queue, 3); CHECK_TEST(test_two_queues_share_one_ring);
	   CHECK_LOOP(test_endless_driver, 2); CHECK_TEST(test_quiesce);
	   CHECK_TEST(test_quiesce_before_driver); CHECK_TEST(test_config_bounds);
	   CHECK_TEST(test_M4_2_2_1_6_config_changed); CHECK_TEST(test_machine_reset_is_power_on);
	   CHECK_TEST(test_state_round_trip); CHECK_TABLE(test_state_validate, states);
	   CHECK_TEST(test_state_with_bad_ring); CHECK_TEST(test_init_without_descriptors);
	   CHECK_TEST(test_concurrent_resets))
