/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-net device between a driver and a peer that a string of bytes plays; shared by
 * fuzz_net_tx.c and fuzz_net_rx.c. */
#ifndef TESTS_FUZZ_NET_H
#define TESTS_FUZZ_NET_H

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz_input.h"
#include "harness/fake_driver.h"
#include "vmm/log.h"
#include "vmm/virtio_net.h"

#define REQUIRE(condition)          \
	do {                        \
		if (!(condition)) { \
			abort();    \
		}                   \
	} while (0)

#define RING_SIZE 64
#define HEADER	  NETDEV_HEADER_SIZE
#define F(bit)	  (UINT64_C(1) << (VIRTIO_NET_F_##bit))

struct rig {
	struct fake_driver *d;
	struct fuzz_input in;
	int peer;
	uint64_t features;
	bool honest; /* the rings are as the driver made them */
};

static inline void fuzz_nothing(void *arg)
{
	(void)arg;
}

/* As fake_driver_sync(), for the workers of this device. */
static inline void fuzz_sync(struct rig *rig)
{
	for (uint32_t i = 0; i < 2 * rig->d->dev->queue_count; i++) {
		worker_call(&rig->d->workers[i / 2], fuzz_nothing, NULL);
	}
}

static inline void fuzz_kick(struct rig *rig, uint32_t index)
{
	virtio_kick(rig->d->dev, index);
	fuzz_sync(rig);
}

/* The features that a byte stands for; invalid combinations are refused by the device. */
static inline uint64_t fuzz_features(uint8_t byte)
{
	static const uint64_t bits[8] = {
		F(CSUM) | F(GUEST_CSUM),
		F(HOST_TSO4) | F(GUEST_TSO4),
		F(HOST_TSO6) | F(GUEST_TSO6),
		F(HOST_ECN) | F(GUEST_ECN),
		F(MRG_RXBUF),
		UINT64_C(1) << 28, /* INDIRECT_DESC */
		UINT64_C(1) << 29, /* EVENT_IDX */
		F(MTU),
	};
	uint64_t features = F(MAC) | F(STATUS);

	for (int i = 0; i < 8; i++) {
		features |= (byte >> i & 1) != 0 ? bits[i] : 0;
	}
	return features;
}

static inline void fuzz_start(struct rig *rig)
{
	rig->features = fuzz_features((uint8_t)fuzz_take(&rig->in, 1));
	rig->honest = fake_driver_start(rig->d, rig->features, RING_SIZE);
}

/* Nothing in flight between passes, unless the device has given up. */
static inline void fuzz_check_quiet(struct rig *rig)
{
	struct virtio_device *dev = rig->d->dev;

	virtio_device_quiesce(dev);
	for (uint32_t i = 0; i < rig->d->dev->queue_count; i++) {
		const struct virtqueue *q = &dev->queues[i].ring;

		REQUIRE(q->state.broken || q->in_flight_count == 0);
		REQUIRE(state_validate(&virtqueue_state, q, NULL) == 0);
	}
	REQUIRE(state_validate(virtio_net_ops.state, dev, NULL) == 0);
	virtio_device_resume(dev);
	fuzz_sync(rig);
}

static inline void fuzz_mutate(struct rig *rig, uint32_t queue)
{
	uint64_t offset = fuzz_take(&rig->in, 2) % 0x800;

	*guest_memory_write_pointer(&rig->d->mem, FAKE_RINGS + queue * FAKE_RING_SPACE + offset,
				    1) = (uint8_t)fuzz_take(&rig->in, 1);
	rig->honest = false;
}

static inline void fuzz_open(struct rig *rig, struct fake_driver *d, const uint8_t *data,
			     size_t size)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };
	struct virtio_device *dev;
	struct netdev *netdev;

	if (d->mem.size == 0) {
		log_init(LOG_ERROR, -1);
		(void)signal(SIGPIPE, SIG_IGN);
		fake_driver_init(d);
		fake_driver_unwatch(d);
	}
	*rig = (struct rig){ .d = d, .in = { .data = data, .len = size } };
	fake_memory_clear(&d->mem);
	REQUIRE(netdev_open_pair(&netdev, &rig->peer, NULL) == 0);
	netdev->mtu = 1500;
	REQUIRE(virtio_net_create(&dev, "net0", netdev, mac, &d->mem, d->workers, NULL) == 0);
	fake_driver_attach(d, dev);
	memset(d->rings, 0, sizeof(d->rings));
	fuzz_start(rig);
}

static inline void fuzz_close(struct rig *rig)
{
	struct virtio_device *dev = rig->d->dev;

	virtio_device_reset(dev);
	dev->ops->destroy(dev);
	rig->d->dev = NULL;
	(void)close(rig->peer);
}

/*
 * What a header may say in one direction, told anew from the text of the specification: `csum` and
 * so on are the bits of that direction.
 */
static inline void fuzz_check_header(const uint8_t *bytes, size_t len, bool csum, bool tso4,
				     bool tso6, bool ecn)
{
	uint8_t flags = bytes[0], gso = bytes[1];
	uint32_t end = (uint32_t)load_le16(bytes + 6) + load_le16(bytes + 8) + 2;

	REQUIRE(len >= HEADER + 14 && len <= HEADER + NETDEV_FRAME_MAX);
	REQUIRE((flags & ~3) == 0 && (flags == 0 || csum));
	REQUIRE((flags & 1) == 0 || (end <= len - HEADER && load_le16(bytes + 6) >= 14));
	if (gso != 0) {
		REQUIRE((flags & 1) != 0 && load_le16(bytes + 4) != 0);
		REQUIRE((gso & 0x80) == 0 || ecn);
		REQUIRE(((gso & 0x7f) == 1 && tso4) || ((gso & 0x7f) == 4 && tso6));
		REQUIRE(load_le16(bytes + 2) <= len - HEADER);
	}
}

#endif
