/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entropy device behind its MMIO registers, driven by a string of bytes: accesses of any
 * register and width, rings that are good or not, kicks, pauses, saved and restored state, machine
 * resets. The worker is a real thread; after every kick the driver waits for it, so that a run
 * depends on its input alone.
 *
 * Checked besides crashes: every state that can be reached is accepted by the state tables, a
 * device that has not asked for a reset has given every chain back, settings of a running queue do
 * not change.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>

#include "fuzz_input.h"
#include "harness/fake_driver.h"
#include "harness/fake_irq.h"
#include "harness/virtio_state.h"
#include "vmm/log.h"
#include "vmm/virtio_entropy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)          \
	do {                        \
		if (!(condition)) { \
			abort();    \
		}                   \
	} while (0)

#define RING_SIZE 16

struct rig {
	struct fake_driver *d;
	struct virtio_mmio mmio;
	struct fake_irq irq;
	struct fuzz_input in;
};

static void nothing(void *arg)
{
	(void)arg;
}

/* Twice: see fake_driver_sync(). */
static void sync_worker(struct rig *rig)
{
	for (int i = 0; i < 2; i++) {
		worker_call(&rig->d->workers[0], nothing, NULL);
	}
}

static void access_register(struct rig *rig, bool write)
{
	static const uint16_t known[] = {
		VIRTIO_MMIO_STATUS,	     VIRTIO_MMIO_QUEUE_NUM,
		VIRTIO_MMIO_QUEUE_READY,     VIRTIO_MMIO_QUEUE_NOTIFY,
		VIRTIO_MMIO_INTERRUPT_ACK,   VIRTIO_MMIO_QUEUE_SEL,
		VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL,
		VIRTIO_MMIO_QUEUE_DESC_LOW,  VIRTIO_MMIO_QUEUE_AVAIL_LOW,
		VIRTIO_MMIO_QUEUE_USED_LOW,  VIRTIO_MMIO_QUEUE_USED_HIGH
	};
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);
	unsigned int width = 1U << (how >> 6);
	uint64_t offset;

	if ((how & 0x20) != 0) {
		offset = fuzz_take(&rig->in, 2) % 0x1000;
	} else {
		offset = known[(how & 0x1f) % ARRAY_SIZE(known)];
		width = 4;
	}
	if (offset + width > 0x1000) {
		return;
	}
	if (write) {
		virtio_mmio_bus_ops.write(&rig->mmio, offset, width, fuzz_take(&rig->in, width));
		sync_worker(rig);
	} else {
		(void)virtio_mmio_bus_ops.read(&rig->mmio, offset, width);
	}
}

/* A good driver's start; the device may refuse when the input has made a mess before. */
static void start(struct rig *rig)
{
	uint64_t features = (fuzz_take(&rig->in, 1) & 3) << VIRTIO_RING_F_INDIRECT_DESC;

	if (!fake_driver_start(rig->d, features, RING_SIZE)) {
		REQUIRE(fake_driver_status(rig->d) != 0xf);
	}
}

static void offer(struct rig *rig)
{
	struct fake_ring *ring = &rig->d->rings[0];
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);
	struct fake_buf bufs[4];
	uint16_t count = (uint16_t)(1 + how % ARRAY_SIZE(bufs));

	if (ring->size == 0) {
		return;
	}
	for (uint16_t i = 0; i < count; i++) {
		uint64_t where = fuzz_take(&rig->in, 2);

		bufs[i] =
			(struct fake_buf){ where << 8 | (where & 7),
					   (uint32_t)fuzz_take(&rig->in, 2), (how >> 4 & 3) <= i };
	}
	if ((how & 0x40) != 0) {
		fake_ring_add_indirect(ring, bufs, count);
	} else {
		fake_ring_add(ring, bufs, count);
	}
}

static void mutate(struct rig *rig)
{
	uint64_t offset = fuzz_take(&rig->in, 2) % 0x400;

	*guest_memory_write_pointer(&rig->d->mem, FAKE_RINGS + offset, 1) =
		(uint8_t)fuzz_take(&rig->in, 1);
}

/* Through the state tables and back, as a snapshot would. */
static void save_and_load(struct rig *rig)
{
	struct virtio_device *dev = rig->d->dev;
	const struct state_entry entry = virtio_entry(dev, NULL, &rig->mmio);
	struct state_buf saved = { 0 };

	virtio_device_quiesce(dev);
	REQUIRE(state_set_save(&entry, 1, &saved, NULL) == 0);
	virtio_device_reset(dev);
	virtio_mmio_reset(&rig->mmio);
	REQUIRE(virtio_load(&entry, &saved, NULL) == 0);
	state_buf_finish(&saved);
	virtio_device_resume(dev);
	sync_worker(rig);
}

/* On the worker, between two passes: a queue that kicks itself may be busy after a sync. */
static void check(void *arg)
{
	struct rig *rig = arg;
	struct virtio_device *dev = rig->d->dev;
	const struct virtqueue *q = &dev->queues[0].ring;
	uint32_t status = atomic_load(&dev->state.status);

	REQUIRE(state_validate(&virtio_device_state, dev, NULL) == 0);
	REQUIRE(state_validate(&virtqueue_state, q, NULL) == 0);
	REQUIRE((status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0 ||
		(!q->state.broken && q->in_flight_count == 0));
	REQUIRE(!q->running || (status & VIRTIO_CONFIG_S_DRIVER_OK) != 0);
	REQUIRE(!q->running ||
		q->desc == guest_memory_write_pointer(dev->mem, q->state.desc_gpa, 16));
}

static void step(struct rig *rig)
{
	struct fake_driver *d = rig->d;

	switch (fuzz_take(&rig->in, 1) % 12) {
	case 0:
	case 1:
	case 2:
		access_register(rig, true);
		break;
	case 3:
		access_register(rig, false);
		break;
	case 4:
		start(rig);
		break;
	case 5:
	case 6:
		offer(rig);
		break;
	case 7:
		mutate(rig);
		break;
	case 8:
	case 9:
		virtio_kick(d->dev, (uint32_t)fuzz_take(&rig->in, 1));
		sync_worker(rig);
		break;
	case 10:
		save_and_load(rig);
		break;
	default:
		virtio_device_quiesce(d->dev);
		virtio_device_resume(d->dev);
		if (fuzz_take(&rig->in, 1) == 0xff) {
			virtio_device_reset(d->dev);
			virtio_mmio_reset(&rig->mmio);
		}
		break;
	}
	worker_call(&rig->d->workers[0], check, rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_driver d;
	struct rig rig = { .d = &d, .in = { .data = data, .len = size } };
	struct virtio_device *dev;

	if (d.mem.size == 0) {
		log_init(LOG_ERROR, -1);
		fake_driver_init(&d);
		fake_driver_unwatch(&d);
	}
	fake_memory_clear(&d.mem); /* nothing of the last run */
	REQUIRE(virtio_entropy_create(&dev, "rng0", &d.mem, d.workers, NULL) == 0);
	fake_driver_attach(&d, dev);
	fake_irq_init_edge(&rig.irq, 5);
	virtio_mmio_init(&rig.mmio, dev, &rig.irq.line);
	d.mmio = &rig.mmio;
	memset(d.rings, 0, sizeof(d.rings));
	while (rig.in.len != 0) {
		step(&rig);
	}
	virtio_device_reset(dev);
	dev->ops->destroy(dev);
	d.dev = NULL;
	return 0;
}
