/* SPDX-License-Identifier: Apache-2.0 */
/* A split virtqueue over the fake driver's ring, without a device. */
#ifndef TESTS_HARNESS_VIRTQUEUE_RIG_H
#define TESTS_HARNESS_VIRTQUEUE_RIG_H

#include "harness/check_main.h"
#include "harness/fake_driver.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <pthread.h>

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT  (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

#define F_NEXT	   VRING_DESC_F_NEXT
#define F_WRITE	   VRING_DESC_F_WRITE
#define F_INDIRECT VRING_DESC_F_INDIRECT

#define SIZE 8

static struct guest_memory mem;
static struct fake_ring ring;
static struct virtqueue q;
static struct virtqueue_chain chain;
static struct iovec iov[VIRTQUEUE_SIZE_MAX];

static inline void setup(void)
{
	fake_memory_init(&mem);
}

static inline void teardown(void)
{
	fake_memory_finish(&mem);
}

static inline void start(uint16_t size, uint64_t features)
{
	fake_ring_init(&ring, &mem, size, FAKE_RINGS);
	virtqueue_init(&q, VIRTQUEUE_SIZE_MAX);
	fake_ring_configure(&ring, &q);
	ck_assert(virtqueue_start(&q, &mem, features));
}

static inline int pop(void)
{
	return virtqueue_pop(&q, &chain, iov, ARRAY_SIZE(iov));
}

static inline bool publish(void)
{
	return virtqueue_publish(&q);
}

static inline uint8_t *host(uint64_t gpa)
{
	return guest_memory_write_pointer(&mem, gpa, 1);
}

#endif
