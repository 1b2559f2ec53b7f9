/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device of two queues that copies what it is given, on the fake driver.
 */
#ifndef TESTS_HARNESS_ECHO_DEVICE_H
#define TESTS_HARNESS_ECHO_DEVICE_H

#include "harness/check_main.h"
#include "harness/count_descriptors.h"
#include "harness/fake_driver.h"

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
	_Atomic bool secret;  /* says that it has written nothing */
	struct fake_ring *ring;
};

static inline struct echo *echo_of(struct virtio_device *dev)
{
	return container_of(dev, struct echo, dev);
}

static inline void echo_config_read(struct virtio_device *dev, uint32_t offset, void *buf,
				    uint32_t len)
{
	ck_assert_uint_le((uint64_t)offset + len, CONFIG_SIZE);
	memcpy(buf, echo_of(dev)->config + offset, len);
}

static inline void echo_config_write(struct virtio_device *dev, uint32_t offset, const void *buf,
				     uint32_t len)
{
	ck_assert_uint_le((uint64_t)offset + len, CONFIG_SIZE);
	memcpy(echo_of(dev)->config + offset, buf, len);
}

static inline void echo_reset(struct virtio_device *dev)
{
	ck_assert(!dev->queues[0].started && !dev->queues[1].started);
	echo_of(dev)->resets++;
}

static inline void echo_activate(struct virtio_device *dev)
{
	ck_assert(!dev->queues[0].started && !dev->queues[1].started);
	echo_of(dev)->activations++;
}

static inline void check_thread(const struct virtio_queue *queue)
{
	if (!worker_is_current(queue->worker)) {
		atomic_store(&echo_of(queue->device)->wrong_thread, true);
	}
}

static inline void echo_start(struct virtio_device *dev, struct virtio_queue *queue)
{
	check_thread(queue);
	ck_assert(queue->ring.running);
	atomic_fetch_add(&echo_of(dev)->started[queue->index], 1);
}

static inline void echo_stop(struct virtio_device *dev, struct virtio_queue *queue)
{
	check_thread(queue);
	ck_assert(queue->ring.running);
	atomic_fetch_add(&echo_of(dev)->stopped[queue->index], 1);
}

static inline void echo_process(struct virtio_device *dev, struct virtio_queue *queue)
{
	struct echo *echo = echo_of(dev);
	struct virtqueue_chain chain;
	struct iovec iov[64];

	check_thread(queue);
	ck_assert((atomic_load(&dev->state.status) & DRIVER_OK) != 0);
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
			if (atomic_load(&echo->secret)) {
				virtqueue_push_exact(&queue->ring, &chain, 0);
			} else {
				virtqueue_push(&queue->ring, &chain, (uint32_t)n);
			}
			if (atomic_load(&echo->endless)) {
				fake_ring_offer(echo->ring, chain.head);
				fake_ring_publish(echo->ring);
			}
		}
	} while (virtio_queue_more(queue));
}

static inline void echo_destroy(struct virtio_device *dev)
{
	ck_assert(!echo_of(dev)->wrong_thread);
	virtio_device_finish(dev);
	free(echo_of(dev));
}

static inline bool echo_features_valid(const struct virtio_device *dev, uint64_t features)
{
	(void)dev;
	return (features & FEATURE_B) == 0 || (features & FEATURE_A) != 0;
}

static const struct virtio_queue_type queues[] = { { 64, "echo0" }, { 32, "echo1" } };

static const struct virtio_ops echo_ops = {
	.name = "virtio-echo",
	.id = 42,
	.queue_types = queues,
	.queue_type_count = 2,
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

static inline void setup(void)
{
	memset(&e, 0, sizeof(e));
	fake_driver_init(&d);
	echo = calloc(1, sizeof(*echo));
	ck_assert_ptr_nonnull(echo);
	check_ok(virtio_device_init(&echo->dev, &echo_ops, "echo0", &d.mem, FEATURE_A | FEATURE_B,
				    CONFIG_SIZE, 2, d.workers, &e),
		 &e);
	fake_driver_attach(&d, &echo->dev);
}

static inline void teardown(void)
{
	fake_driver_finish(&d);
}

static inline uint32_t status(void)
{
	return atomic_load(&echo->dev.state.status);
}

static inline uint16_t add(uint32_t queue, uint64_t from, uint64_t to)
{
	const struct fake_buf bufs[] = { { from, 16, false }, { to, 16, true } };

	return fake_ring_add(&d.rings[queue], bufs, 2);
}

static inline void check_echo(uint32_t queue)
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

#endif
