/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport, register by register (virtio 1.2 §4.2.2). "M..." are the device requirements
 * of virtio 1.3, "T-..." rows of the catalogue.
 */
#include "harness/check_main.h"
#include "harness/fake_driver.h"
#include "harness/fake_irq.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#define VERSION_1 (UINT64_C(1) << VIRTIO_F_VERSION_1)
#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT  (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

#define WINDOW	    0x1000
#define CONFIG_SIZE 20

/* Gives back every chain at once; configuration space is memory. */
struct sink {
	struct virtio_device dev;
	uint8_t config[CONFIG_SIZE];
	_Atomic uint32_t processed[2];
};

static struct sink *sink_of(struct virtio_device *dev)
{
	return container_of(dev, struct sink, dev);
}

static void sink_config_read(struct virtio_device *dev, uint32_t offset, void *buf, uint32_t len)
{
	memcpy(buf, sink_of(dev)->config + offset, len);
}

static void sink_config_write(struct virtio_device *dev, uint32_t offset, const void *buf,
			      uint32_t len)
{
	memcpy(sink_of(dev)->config + offset, buf, len);
}

static void sink_process(struct virtio_device *dev, struct virtio_queue *queue)
{
	struct virtqueue_chain chain;
	struct iovec iov[64];

	atomic_fetch_add(&sink_of(dev)->processed[queue->index], 1);
	virtio_queue_begin(queue);
	do {
		while (virtqueue_pop(&queue->ring, &chain, iov, ARRAY_SIZE(iov)) > 0) {
			virtqueue_push(&queue->ring, &chain, 0);
		}
	} while (virtio_queue_more(queue));
}

static void sink_destroy(struct virtio_device *dev)
{
	virtio_device_finish(dev);
	free(sink_of(dev));
}

static const struct virtio_queue_type queues[] = { { 64, "a" }, { 16, "b" } };

static const struct virtio_ops sink_ops = {
	.name = "virtio-sink",
	.id = 0x2a,
	.queue_types = queues,
	.queue_type_count = 2,
	.config_read = sink_config_read,
	.config_write = sink_config_write,
	.queue_process = sink_process,
	.destroy = sink_destroy,
};

static struct fake_driver d;
static struct sink *sink;
static struct virtio_mmio mmio;
static struct fake_irq irq;

static void setup(void)
{
	struct error e = { 0 };

	fake_driver_init(&d);
	sink = calloc(1, sizeof(*sink));
	ck_assert_ptr_nonnull(sink);
	check_ok(virtio_device_init(&sink->dev, &sink_ops, "sink0", &d.mem, 1, CONFIG_SIZE, 2,
				    d.workers, &e),
		 &e);
	fake_driver_attach(&d, &sink->dev);
	fake_irq_init_edge(&irq, 5);
	virtio_mmio_init(&mmio, &sink->dev, &irq.line);
	d.mmio = &mmio;
}

static void teardown(void)
{
	fake_driver_finish(&d);
}

static uint64_t rd(uint64_t offset, unsigned int size)
{
	return virtio_mmio_bus_ops.read(&mmio, offset, size);
}

static void wr(uint64_t offset, unsigned int size, uint64_t value)
{
	virtio_mmio_bus_ops.write(&mmio, offset, size, value);
}

static uint32_t rd32(uint64_t offset)
{
	return (uint32_t)rd(offset, 4);
}

static void wr32(uint64_t offset, uint32_t value)
{
	wr(offset, 4, value);
}

static uint64_t ones(unsigned int size)
{
	return size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;
}

START_TEST(test_M4_2_2_1_1_and_2_identity)
{
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_VERSION), 2);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_DEVICE_ID), 0x2a);
	ck_assert_uint_ne(rd32(VIRTIO_MMIO_VENDOR_ID), 0);
}
END_TEST

/* Fresh values of all registers that can be read; the others read as 0. */
static const struct {
	uint64_t offset;
	uint32_t value;
} fresh[] = {
	{ VIRTIO_MMIO_DEVICE_FEATURES, 1 | (uint32_t)(INDIRECT | EVENT_IDX) },
	{ VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0 },
	{ VIRTIO_MMIO_DRIVER_FEATURES, 0 },
	{ VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0 },
	{ 0x028, 0 }, /* GuestPageSize of version 1 */
	{ VIRTIO_MMIO_QUEUE_SEL, 0 },
	{ VIRTIO_MMIO_QUEUE_NUM_MAX, 64 },
	{ VIRTIO_MMIO_QUEUE_NUM, 0 },
	{ 0x03c, 0 }, /* QueueAlign and QueuePFN of version 1 */
	{ 0x040, 0 },
	{ VIRTIO_MMIO_QUEUE_READY, 0 },
	{ VIRTIO_MMIO_QUEUE_NOTIFY, 0 },
	{ VIRTIO_MMIO_INTERRUPT_STATUS, 0 },
	{ VIRTIO_MMIO_INTERRUPT_ACK, 0 },
	{ VIRTIO_MMIO_STATUS, 0 },
	{ VIRTIO_MMIO_QUEUE_DESC_LOW, 0 },
	{ VIRTIO_MMIO_QUEUE_USED_HIGH, 0 },
	{ 0x0ac, 0 }, /* SHMSel */
	{ VIRTIO_MMIO_SHM_LEN_LOW, 0xffffffff },
	{ VIRTIO_MMIO_SHM_LEN_HIGH, 0xffffffff },
	{ VIRTIO_MMIO_SHM_BASE_LOW, 0xffffffff },
	{ VIRTIO_MMIO_SHM_BASE_HIGH, 0xffffffff },
	{ 0x0c0, 0 }, /* QueueReset is not offered */
	{ VIRTIO_MMIO_CONFIG_GENERATION, 0 },
	{ 0x0f8, 0 },
};

START_TEST(test_fresh)
{
	ck_assert_uint_eq(rd32(fresh[_i].offset), fresh[_i].value);
}
END_TEST

/* T-Q10: every offset below configuration space in every width: all ones unless it is a 32-bit
 * register. */
START_TEST(test_widths)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	ck_assert(fake_driver_negotiate(&d, VERSION_1));
	for (uint64_t offset = 0; offset < VIRTIO_MMIO_CONFIG; offset++) {
		for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
			if (widths[i] == 4 && offset % 4 == 0) {
				continue;
			}
			ck_assert_uint_eq(rd(offset, widths[i]), ones(widths[i]));
			wr(offset, widths[i], 0);
			wr(offset, widths[i], UINT64_MAX);
		}
	}
	/* No such write did anything. */
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_STATUS), 0xb);
	ck_assert_uint_eq(mmio.state.queue_sel | mmio.state.device_features_sel, 0);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.size, 64);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.desc_gpa, 0);
}
END_TEST

START_TEST(test_read_only_and_reserved_writes)
{
	for (uint64_t offset = 0; offset < VIRTIO_MMIO_CONFIG; offset += 4) {
		if (offset < VIRTIO_MMIO_DEVICE_FEATURES_SEL ||
		    offset == VIRTIO_MMIO_QUEUE_NUM_MAX || offset == VIRTIO_MMIO_INTERRUPT_STATUS ||
		    offset >= 0xac) {
			wr32(offset, 0);
			wr32(offset, 0xffffffff);
			wr32(offset, 1);
		}
	}
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_CONFIG_GENERATION), 0);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_STATUS), 0);
	ck_assert_uint_eq(rd32(0xc0), 0);
}
END_TEST

START_TEST(test_feature_selectors)
{
	static const uint32_t selectors[] = { 2, 3, 0x20, 0x80000000, 0xffffffff };

	ck_assert_uint_eq(fake_driver_offered(&d), 1 | INDIRECT | EVENT_IDX | VERSION_1);
	wr32(VIRTIO_MMIO_STATUS, 3);
	for (size_t i = 0; i < ARRAY_SIZE(selectors); i++) {
		wr32(VIRTIO_MMIO_DEVICE_FEATURES_SEL, selectors[i]);
		ck_assert_uint_eq(rd32(VIRTIO_MMIO_DEVICE_FEATURES), 0);
		wr32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, selectors[i]);
		wr32(VIRTIO_MMIO_DRIVER_FEATURES, 0xffffffff);
	}
	ck_assert_uint_eq(sink->dev.state.features, 0);
	wr32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	wr32(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	wr32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	wr32(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	ck_assert_uint_eq(sink->dev.state.features, VERSION_1 | 1);
}
END_TEST

/* T-Q2 */
START_TEST(test_queue_selector)
{
	static const uint32_t selectors[] = { 2, 3, 4, 0xffff, 0x10000, 0x80000000, 0xffffffff };

	for (size_t i = 0; i < ARRAY_SIZE(selectors); i++) {
		wr32(VIRTIO_MMIO_QUEUE_SEL, selectors[i]);
		ck_assert_uint_eq(rd32(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
		ck_assert_uint_eq(rd32(VIRTIO_MMIO_QUEUE_READY), 0);
		for (uint64_t offset = VIRTIO_MMIO_QUEUE_NUM; offset <= VIRTIO_MMIO_QUEUE_USED_HIGH;
		     offset += 4) {
			if (offset != VIRTIO_MMIO_STATUS && offset != VIRTIO_MMIO_QUEUE_NOTIFY) {
				wr32(offset, 1);
			}
		}
		ck_assert_uint_eq(rd32(VIRTIO_MMIO_QUEUE_READY), 0);
	}
	wr32(VIRTIO_MMIO_QUEUE_SEL, 1);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_QUEUE_NUM_MAX), 16);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.size, 64);
}
END_TEST

START_TEST(test_queue_registers)
{
	const struct virtqueue *ring = &sink->dev.queues[1].ring;

	wr32(VIRTIO_MMIO_QUEUE_SEL, 1);
	wr32(VIRTIO_MMIO_QUEUE_NUM, 8);
	wr32(VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x11111111);
	wr32(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x22222220);
	wr32(VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x33333330);
	wr32(VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0x44444444);
	wr32(VIRTIO_MMIO_QUEUE_USED_HIGH, 0x55555555);
	wr32(VIRTIO_MMIO_QUEUE_USED_LOW, 0x66666660);
	ck_assert_uint_eq(ring->state.size, 8);
	ck_assert_uint_eq(ring->state.desc_gpa, 0x1111111122222220);
	ck_assert_uint_eq(ring->state.avail_gpa, 0x4444444433333330);
	ck_assert_uint_eq(ring->state.used_gpa, 0x5555555566666660);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.desc_gpa, 0);
}
END_TEST

static const struct {
	uint32_t written;
	uint16_t kept;
} queue_nums[] = {
	{ 1, 1 },	{ 2, 2 },	   { 64, 64 },	      { 0, 0 },	     { 3, 0 },
	{ 65, 0 },	{ 128, 0 },	   { 0x8000, 0 },     { 0xffff, 0 }, { 0x10000, 0 },
	{ 0x10040, 0 }, { 0x80000000, 0 }, { 0xffffffff, 0 },
};

/* T-Q8 */
START_TEST(test_queue_num)
{
	wr32(VIRTIO_MMIO_QUEUE_NUM, queue_nums[_i].written);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.size, queue_nums[_i].kept);
}
END_TEST

START_TEST(test_queue_ready)
{
	static const uint32_t values[] = { 2, 3, 0x100, 0x80000000, 0xffffffff, 0x10001 };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		wr32(VIRTIO_MMIO_QUEUE_READY, values[i]);
		ck_assert_uint_eq(rd32(VIRTIO_MMIO_QUEUE_READY), 0);
	}
	wr32(VIRTIO_MMIO_QUEUE_READY, 1);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		wr32(VIRTIO_MMIO_QUEUE_READY, values[i]);
		ck_assert_uint_eq(rd32(VIRTIO_MMIO_QUEUE_READY), 1);
	}
	/* A ready queue keeps its settings. */
	wr32(VIRTIO_MMIO_QUEUE_NUM, 8);
	wr32(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.size, 64);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.desc_gpa, 0);
	wr32(VIRTIO_MMIO_QUEUE_READY, 0);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_QUEUE_READY), 0);
	wr32(VIRTIO_MMIO_QUEUE_NUM, 8);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.size, 8);
}
END_TEST

/* T-Q1: after DRIVER_OK every queue register is frozen, and the device goes on with what it
 * checked. */
START_TEST(test_frozen_after_driver_ok)
{
	const struct fake_buf buf = { FAKE_DATA, 16, true };
	uint32_t id, len;

	ck_assert(fake_driver_start(&d, 0, 16));
	for (uint32_t sel = 0; sel < 2; sel++) {
		struct virtqueue before = sink->dev.queues[sel].ring;
		const struct virtqueue *ring = &sink->dev.queues[sel].ring;

		wr32(VIRTIO_MMIO_QUEUE_SEL, sel);
		for (uint64_t offset = VIRTIO_MMIO_QUEUE_NUM; offset <= VIRTIO_MMIO_QUEUE_USED_HIGH;
		     offset += 4) {
			if (offset == VIRTIO_MMIO_STATUS || offset == VIRTIO_MMIO_QUEUE_NOTIFY) {
				continue;
			}
			wr32(offset, 0);
			wr32(offset, 1);
			wr32(offset, 0xfffffff0);
		}
		ck_assert_uint_eq(rd32(VIRTIO_MMIO_QUEUE_READY), 1);
		ck_assert_uint_eq(ring->state.size, before.state.size);
		ck_assert_uint_eq(ring->state.desc_gpa, before.state.desc_gpa);
		ck_assert_uint_eq(ring->state.avail_gpa, before.state.avail_gpa);
		ck_assert_uint_eq(ring->state.used_gpa, before.state.used_gpa);
		fake_ring_add(&d.rings[sel], &buf, 1);
		fake_driver_kick(&d, sel);
		ck_assert(fake_ring_used(&d.rings[sel], &id, &len));
	}
}
END_TEST

/* M4.2.2.1-7 */
START_TEST(test_M4_2_2_1_7_not_ready_not_touched)
{
	const struct fake_buf buf = { FAKE_DATA, 16, true };

	ck_assert(fake_driver_negotiate(&d, VERSION_1));
	fake_driver_setup_queue(&d, 0, 16);
	fake_driver_setup_queue(&d, 1, 16);
	wr32(VIRTIO_MMIO_QUEUE_SEL, 1);
	wr32(VIRTIO_MMIO_QUEUE_READY, 0);
	fake_ring_add(&d.rings[1], &buf, 1);
	wr32(VIRTIO_MMIO_STATUS, 0xf);
	fake_driver_kick(&d, 1);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[1]), 0);
	ck_assert_uint_eq(atomic_load(&sink->processed[1]), 0);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_STATUS), 0xf);
}
END_TEST

/* T-Q4 */
START_TEST(test_notify)
{
	static const uint32_t values[] = {
		2, 3, 0xff, 0xffff, 0x10000, 0x10001, 0x7fffffff, 0x80000000, 0x80000001, 0xffffffff
	};
	uint32_t before;

	ck_assert(fake_driver_start(&d, 0, 16));
	fake_driver_sync(&d);
	before = atomic_load(&sink->processed[0]) + atomic_load(&sink->processed[1]);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		wr32(VIRTIO_MMIO_QUEUE_NOTIFY, values[i]);
	}
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 1, 0);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 2, 0);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY, 8, 0);
	wr(VIRTIO_MMIO_QUEUE_NOTIFY + 1, 4, 0);
	fake_driver_sync(&d);
	ck_assert_uint_eq(atomic_load(&sink->processed[0]) + atomic_load(&sink->processed[1]),
			  before);
	wr32(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
	fake_driver_sync(&d);
	ck_assert_uint_eq(atomic_load(&sink->processed[0]) + atomic_load(&sink->processed[1]),
			  before + 1);
}
END_TEST

/* M4.2.2.1-3 and -4 */
START_TEST(test_M4_2_2_1_3_interrupts)
{
	const struct fake_buf buf = { FAKE_DATA, 16, true };

	ck_assert(fake_driver_start(&d, 0, 16));
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	fake_ring_add(&d.rings[0], &buf, 1);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_INTERRUPT_STATUS), 1);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_INTERRUPT_STATUS), 1); /* reading acknowledges nothing */
	ck_assert_uint_eq(fake_irq_count(&irq), 1);
	virtio_config_changed(&sink->dev);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	ck_assert_uint_eq(fake_irq_count(&irq), 2);
	wr32(VIRTIO_MMIO_INTERRUPT_ACK, 0xfffffffc); /* bits that there are not */
	wr32(VIRTIO_MMIO_INTERRUPT_ACK, 0);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	wr32(VIRTIO_MMIO_INTERRUPT_ACK, 1);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_INTERRUPT_STATUS), 2);
	wr32(VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	wr32(VIRTIO_MMIO_INTERRUPT_STATUS, 3); /* read-only */
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(fake_irq_count(&irq), 2);
}
END_TEST

START_TEST(test_M4_2_2_1_5_reset)
{
	const struct fake_buf buf = { FAKE_DATA, 16, true };

	ck_assert(fake_driver_start(&d, 0, 16));
	fake_ring_add(&d.rings[0], &buf, 1);
	fake_driver_kick(&d, 0);
	virtio_config_changed(&sink->dev);
	wr32(VIRTIO_MMIO_STATUS, 0);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_STATUS), 0);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	for (uint32_t i = 0; i < 2; i++) {
		wr32(VIRTIO_MMIO_QUEUE_SEL, i);
		ck_assert_uint_eq(rd32(VIRTIO_MMIO_QUEUE_READY), 0);
	}
}
END_TEST

/* The status register takes all 32 bits of what is written. */
START_TEST(test_status_high_bits)
{
	wr32(VIRTIO_MMIO_STATUS, 0x101);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_STATUS), 0);
	wr32(VIRTIO_MMIO_STATUS, 1);
	wr32(VIRTIO_MMIO_STATUS, 0x100);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_STATUS), 1);
}
END_TEST

/* Every offset around configuration space in every width; M2.5.2-1: before FEATURES_OK as well. */
START_TEST(test_M2_5_2_1_config)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	for (uint64_t offset = VIRTIO_MMIO_CONFIG; offset < VIRTIO_MMIO_CONFIG + 40; offset++) {
		for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
			uint64_t expected = 0;

			for (uint8_t k = 0; k < CONFIG_SIZE; k++) {
				sink->config[k] = (uint8_t)(0xa0 + k);
			}
			for (unsigned int k = 0; k < widths[i]; k++) {
				uint64_t at = offset - VIRTIO_MMIO_CONFIG + k;

				expected |= at < CONFIG_SIZE ? (0xa0 + at) << 8 * k : 0;
			}
			ck_assert_uint_eq(rd(offset, widths[i]), expected);
			wr(offset, widths[i], 0x0807060504030201);
			for (uint64_t k = 0; k < CONFIG_SIZE; k++) {
				uint64_t at = VIRTIO_MMIO_CONFIG + k;
				bool hit = at >= offset && at - offset < widths[i];

				ck_assert_uint_eq(sink->config[k],
						  hit ? at - offset + 1 : 0xa0 + k);
			}
		}
	}
	ck_assert_uint_eq(rd(WINDOW - 8, 8), 0);
	ck_assert_uint_eq(rd(WINDOW - 1, 1), 0);
	wr(WINDOW - 8, 8, UINT64_MAX);
}
END_TEST

START_TEST(test_driver_through_registers)
{
	ck_assert(fake_driver_start(&d, EVENT_IDX | INDIRECT | 1, 16));
	for (uint32_t i = 0; i < 100; i++) {
		const struct fake_buf bufs[] = { { FAKE_DATA, 16, false },
						 { FAKE_DATA + 16, 16, true } };
		uint32_t id, len;
		uint16_t head;

		fake_ring_set_used_event(&d.rings[0], fake_ring_used_idx(&d.rings[0]));
		head = i % 2 == 0 ? fake_ring_add(&d.rings[0], bufs, 2)
				  : fake_ring_add_indirect(&d.rings[0], bufs, 2);
		fake_driver_kick(&d, 0);
		ck_assert(fake_ring_used(&d.rings[0], &id, &len));
		ck_assert_uint_eq(id, head);
	}
	ck_assert_uint_eq(fake_irq_count(&irq), 100);
}
END_TEST

START_TEST(test_bus_window)
{
	static struct bus bus;
	uint8_t bytes[8];
	struct error e = { 0 };

	bus_init(&bus, 0);
	check_ok(bus_add(&bus, 0xd0000000, WINDOW, &virtio_mmio_bus_ops, &mmio, "sink0", &e), &e);
	ck_assert(bus_read(&bus, 0xd0000000, bytes, 4));
	ck_assert_mem_eq(bytes, "virt", 4);
	ck_assert(!bus_read(&bus, 0xd0000000 + WINDOW - 4, bytes, 8));
	ck_assert(bus_read(&bus, 0xd0000000 + WINDOW - 8, bytes, 8));
}
END_TEST

START_TEST(test_selectors_saved_and_reset)
{
	struct state_buf saved = { 0 };
	struct error e = { 0 };

	check_ok(state_desc_check(&virtio_mmio_state, &e), &e);
	wr32(VIRTIO_MMIO_QUEUE_SEL, 0xffffffff);
	wr32(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	wr32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 7);
	check_ok(state_save(&virtio_mmio_state, &mmio, &saved, &e), &e);
	virtio_mmio_reset(&mmio);
	ck_assert_uint_eq(mmio.state.queue_sel | mmio.state.device_features_sel |
				  mmio.state.driver_features_sel,
			  0);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_QUEUE_NUM_MAX), 64);
	check_ok(state_load(&virtio_mmio_state, &mmio, saved.data, saved.len,
			    virtio_mmio_state.version, &e),
		 &e);
	state_buf_finish(&saved);
	ck_assert_uint_eq(mmio.state.queue_sel, 0xffffffff);
	ck_assert_uint_eq(rd32(VIRTIO_MMIO_DEVICE_FEATURES), 1);
	ck_assert_uint_eq(mmio.state.driver_features_sel, 7);
}
END_TEST

/* T-Q1 with several vCPUs: registers hammered while the device is started and reset. */
static _Atomic bool hammer_stop;

static void *hammer(void *arg)
{
	uint32_t random = *(const uint32_t *)arg;

	while (!atomic_load(&hammer_stop)) {
		uint64_t offset;

		random = random * 1664525 + 1013904223;
		offset = (random >> 8) % 0x48 * 4;
		if (offset == VIRTIO_MMIO_STATUS) {
			continue;
		}
		if ((random >> 31) != 0) {
			(void)rd32(offset);
		} else {
			wr32(offset, random >> 4 & 0xf);
		}
	}
	return NULL;
}

START_TEST(test_concurrent_registers)
{
	static const uint32_t seeds[] = { 1, 99 };
	pthread_t threads[ARRAY_SIZE(seeds)];
	uint32_t seed[ARRAY_SIZE(seeds)];

	atomic_store(&hammer_stop, false);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		seed[i] = seeds[i];
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &seed[i]), 0);
	}
	for (uint32_t i = 0; i < 500; i++) {
		bool started = fake_driver_start(&d, EVENT_IDX, 16);

		(void)started;
	}
	atomic_store(&hammer_stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		(void)pthread_join(threads[i], NULL);
	}
	ck_assert(fake_driver_start(&d, EVENT_IDX, 16));
}
END_TEST

CHECK_MAIN("virtio_mmio", CHECK_FIXTURE(setup, teardown);
	   CHECK_TEST(test_M4_2_2_1_1_and_2_identity); CHECK_TABLE(test_fresh, fresh);
	   CHECK_TEST(test_widths); CHECK_TEST(test_read_only_and_reserved_writes);
	   CHECK_TEST(test_feature_selectors); CHECK_TEST(test_queue_selector);
	   CHECK_TEST(test_queue_registers); CHECK_TABLE(test_queue_num, queue_nums);
	   CHECK_TEST(test_queue_ready); CHECK_TEST(test_frozen_after_driver_ok);
	   CHECK_TEST(test_M4_2_2_1_7_not_ready_not_touched); CHECK_TEST(test_notify);
	   CHECK_TEST(test_M4_2_2_1_3_interrupts); CHECK_TEST(test_M4_2_2_1_5_reset);
	   CHECK_TEST(test_status_high_bits); CHECK_TEST(test_M2_5_2_1_config);
	   CHECK_TEST(test_driver_through_registers); CHECK_TEST(test_bus_window);
	   CHECK_TEST(test_selectors_saved_and_reset); CHECK_TEST(test_concurrent_registers))
