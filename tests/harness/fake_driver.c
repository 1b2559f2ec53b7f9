/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See fake_driver.h. Ring accesses are atomic with the driver's memory order, so that
 * ThreadSanitizer sees what a real guest and device rely on. Workers are real threads;
 * fake_driver_sync() makes their progress deterministic.
 */
#include "fake_driver.h"

#include <endian.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

void fake_memory_init(struct guest_memory *mem)
{
	const uint64_t size = FAKE_LOW_SIZE + FAKE_HIGH_SIZE;
	uint8_t *guarded = mmap(NULL, size + 2 * PAGE_SIZE_4K, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(guarded != MAP_FAILED);
	CHECK(mprotect(guarded + PAGE_SIZE_4K, size, PROT_READ | PROT_WRITE) == 0);
	memset(mem, 0, sizeof(*mem));
	mem->fd = -1;
	mem->backing = GUEST_MEMORY_ANON;
	mem->map = guarded + PAGE_SIZE_4K;
	mem->size = size;
	mem->region_count = 2;
	mem->regions[0] =
		(struct guest_memory_region){ .gpa = 0, .size = FAKE_LOW_SIZE, .host = mem->map };
	mem->regions[1] = (struct guest_memory_region){ .gpa = FAKE_HIGH_START,
							.size = FAKE_HIGH_SIZE,
							.host = mem->map + FAKE_LOW_SIZE,
							.offset = FAKE_LOW_SIZE };
}

void fake_memory_finish(struct guest_memory *mem)
{
	if (mem->map != NULL) {
		(void)munmap(mem->map - PAGE_SIZE_4K, mem->size + 2 * PAGE_SIZE_4K);
		free(mem->dirty_storage);
	}
	memset(mem, 0, sizeof(*mem));
}

static void *at(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	void *p = guest_memory_translate(mem, gpa, len);

	CHECK(p != NULL);
	return p;
}

static void store16(const struct fake_ring *ring, uint64_t gpa, uint16_t v)
{
	__atomic_store_n((uint16_t *)at(ring->mem, gpa, 2), htole16(v), __ATOMIC_SEQ_CST);
}

static uint16_t load16(const struct fake_ring *ring, uint64_t gpa)
{
	return le16toh(__atomic_load_n((uint16_t *)at(ring->mem, gpa, 2), __ATOMIC_SEQ_CST));
}

static uint32_t load32(const struct fake_ring *ring, uint64_t gpa)
{
	return le32toh(__atomic_load_n((uint32_t *)at(ring->mem, gpa, 4), __ATOMIC_RELAXED));
}

void fake_ring_init(struct fake_ring *ring, struct guest_memory *mem, uint16_t size, uint64_t gpa)
{
	*ring = (struct fake_ring){ .mem = mem, .size = size };
	ring->desc_gpa = gpa;
	ring->avail_gpa = gpa + 16ULL * size;
	ring->used_gpa = ALIGN_UP(ring->avail_gpa + 6 + 2ULL * size, 4);
	ring->tables_gpa =
		FAKE_TABLES + (gpa - FAKE_RINGS) / FAKE_RING_SPACE % FAKE_QUEUES * 0x20000;
	ring->next_table = ring->tables_gpa;
	memset(at(mem, gpa, FAKE_RING_SPACE), 0, FAKE_RING_SPACE);
}

void fake_ring_configure(const struct fake_ring *ring, struct virtqueue *q)
{
	virtqueue_set_size(q, ring->size);
	q->desc_gpa = ring->desc_gpa;
	q->avail_gpa = ring->avail_gpa;
	q->used_gpa = ring->used_gpa;
	q->ready = true;
}

void fake_table_set_desc(struct guest_memory *mem, uint64_t table, uint32_t index, uint64_t addr,
			 uint32_t len, uint16_t flags, uint16_t next)
{
	const uint64_t raw[2] = { htole64(addr),
				  htole64(len | (uint64_t)flags << 32 | (uint64_t)next << 48) };

	memcpy(at(mem, table + 16ULL * index, 16), raw, sizeof(raw));
}

void fake_ring_set_desc(struct fake_ring *ring, uint16_t index, uint64_t addr, uint32_t len,
			uint16_t flags, uint16_t next)
{
	fake_table_set_desc(ring->mem, ring->desc_gpa, index % ring->size, addr, len, flags, next);
}

void fake_ring_set_avail(struct fake_ring *ring, uint16_t position, uint16_t head)
{
	store16(ring, ring->avail_gpa + 4 + 2ULL * (position % ring->size), head);
}

void fake_ring_set_avail_idx(struct fake_ring *ring, uint16_t idx)
{
	store16(ring, ring->avail_gpa + 2, idx);
}

void fake_ring_set_avail_flags(struct fake_ring *ring, uint16_t flags)
{
	store16(ring, ring->avail_gpa, flags);
}

void fake_ring_set_used_event(struct fake_ring *ring, uint16_t event)
{
	store16(ring, ring->avail_gpa + 4 + 2ULL * ring->size, event);
}

uint16_t fake_ring_used_idx(const struct fake_ring *ring)
{
	return load16(ring, ring->used_gpa + 2);
}

uint16_t fake_ring_used_flags(const struct fake_ring *ring)
{
	return load16(ring, ring->used_gpa);
}

uint16_t fake_ring_avail_event(const struct fake_ring *ring)
{
	return load16(ring, ring->used_gpa + 4 + 8ULL * ring->size);
}

static uint16_t buf_flags(const struct fake_buf *bufs, uint16_t i, uint16_t count)
{
	return (uint16_t)((bufs[i].write ? VRING_DESC_F_WRITE : 0) |
			  (i + 1 < count ? VRING_DESC_F_NEXT : 0));
}

void fake_ring_chain(struct fake_ring *ring, uint16_t head, const struct fake_buf *bufs,
		     uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		fake_ring_set_desc(ring, (uint16_t)(head + i), bufs[i].addr, bufs[i].len,
				   buf_flags(bufs, i, count),
				   (uint16_t)((head + i + 1) % ring->size));
	}
}

void fake_ring_offer(struct fake_ring *ring, uint16_t head)
{
	fake_ring_set_avail(ring, ring->avail_idx++, head);
}

void fake_ring_publish(struct fake_ring *ring)
{
	fake_ring_set_avail_idx(ring, ring->avail_idx);
}

uint16_t fake_ring_add(struct fake_ring *ring, const struct fake_buf *bufs, uint16_t count)
{
	uint16_t head = ring->next_desc;

	fake_ring_chain(ring, head, bufs, count);
	ring->next_desc = (uint16_t)((head + count) % ring->size);
	fake_ring_offer(ring, head);
	fake_ring_publish(ring);
	return head;
}

uint16_t fake_ring_add_indirect(struct fake_ring *ring, const struct fake_buf *bufs, uint16_t count)
{
	const uint64_t space = 0x20000;
	uint16_t head = ring->next_desc;
	uint64_t table;

	if (ring->next_table + 16ULL * count > ring->tables_gpa + space) {
		ring->next_table = ring->tables_gpa;
	}
	table = ring->next_table;
	ring->next_table += 16ULL * count;
	for (uint16_t i = 0; i < count; i++) {
		fake_table_set_desc(ring->mem, table, i, bufs[i].addr, bufs[i].len,
				    buf_flags(bufs, i, count), (uint16_t)(i + 1));
	}
	fake_ring_set_desc(ring, head, table, 16U * count, VRING_DESC_F_INDIRECT, 0);
	ring->next_desc = (uint16_t)((head + 1) % ring->size);
	fake_ring_offer(ring, head);
	fake_ring_publish(ring);
	return head;
}

bool fake_ring_used(struct fake_ring *ring, uint32_t *id, uint32_t *len)
{
	uint64_t elem = ring->used_gpa + 4 + 8ULL * (ring->used_seen % ring->size);

	if (fake_ring_used_idx(ring) == ring->used_seen) {
		return false;
	}
	*id = load32(ring, elem);
	*len = load32(ring, elem + 4);
	ring->used_seen++;
	return true;
}

static struct fake_driver *driver_of(struct virtio_device *dev)
{
	return dev->transport_data;
}

static void count_queue(struct virtio_device *dev, uint16_t queue)
{
	atomic_fetch_add(&driver_of(dev)->queue_interrupts[queue], 1);
}

static void count_config(struct virtio_device *dev)
{
	atomic_fetch_add(&driver_of(dev)->config_interrupts, 1);
}

static const struct virtio_transport counting_transport = {
	.notify_queue = count_queue,
	.notify_config = count_config,
};

void fake_driver_init(struct fake_driver *d)
{
	struct error e = { 0 };

	memset(d, 0, sizeof(*d));
	fake_memory_init(&d->mem);
	for (size_t i = 0; i < FAKE_QUEUES; i++) {
		char name[WORKER_NAME_SIZE];

		(void)snprintf(name, sizeof(name), "queue%zu", i);
		CHECK(worker_init(&d->workers[i], name, &e) == 0);
		CHECK(worker_start(&d->workers[i], NULL, NULL, &e) == 0);
	}
}

void fake_driver_finish(struct fake_driver *d)
{
	if (d->dev != NULL) {
		virtio_device_reset(d->dev);
	}
	for (size_t i = 0; i < FAKE_QUEUES; i++) {
		worker_finish(&d->workers[i]);
	}
	if (d->dev != NULL) {
		d->dev->ops->destroy(d->dev);
	}
	fake_memory_finish(&d->mem);
	d->dev = NULL;
}

void fake_driver_attach(struct fake_driver *d, struct virtio_device *dev)
{
	d->dev = dev;
	dev->transport = &counting_transport;
	dev->transport_data = d;
}

static uint32_t reg_read(struct fake_driver *d, uint64_t offset)
{
	return (uint32_t)virtio_mmio_bus_ops.read(d->mmio, offset, 4);
}

static void reg_write(struct fake_driver *d, uint64_t offset, uint64_t value)
{
	virtio_mmio_bus_ops.write(d->mmio, offset, 4, (uint32_t)value);
}

uint32_t fake_driver_status(struct fake_driver *d)
{
	return d->mmio != NULL ? reg_read(d, VIRTIO_MMIO_STATUS) : atomic_load(&d->dev->status);
}

void fake_driver_set_status(struct fake_driver *d, uint32_t status)
{
	if (d->mmio != NULL) {
		reg_write(d, VIRTIO_MMIO_STATUS, status);
		return;
	}
	(void)pthread_mutex_lock(&d->dev->lock);
	virtio_set_status(d->dev, status);
	(void)pthread_mutex_unlock(&d->dev->lock);
}

uint64_t fake_driver_offered(struct fake_driver *d)
{
	uint64_t features = 0;

	for (uint32_t select = 0; select < 2; select++) {
		uint32_t half;

		if (d->mmio != NULL) {
			reg_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, select);
			half = reg_read(d, VIRTIO_MMIO_DEVICE_FEATURES);
		} else {
			half = virtio_offered_features(d->dev, select);
		}
		features |= (uint64_t)half << (32 * select);
	}
	return features;
}

bool fake_driver_negotiate(struct fake_driver *d, uint64_t features)
{
	fake_driver_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	fake_driver_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	for (uint32_t select = 0; select < 2; select++) {
		uint32_t half = (uint32_t)(features >> (32 * select));

		if (d->mmio != NULL) {
			reg_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
			reg_write(d, VIRTIO_MMIO_DRIVER_FEATURES, half);
		} else {
			(void)pthread_mutex_lock(&d->dev->lock);
			virtio_set_features(d->dev, select, half);
			(void)pthread_mutex_unlock(&d->dev->lock);
		}
	}
	fake_driver_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
					  VIRTIO_CONFIG_S_FEATURES_OK);
	return (fake_driver_status(d) & VIRTIO_CONFIG_S_FEATURES_OK) != 0;
}

static void queue_by_registers(struct fake_driver *d, uint32_t index)
{
	const struct fake_ring *ring = &d->rings[index];

	reg_write(d, VIRTIO_MMIO_QUEUE_SEL, index);
	reg_write(d, VIRTIO_MMIO_QUEUE_NUM, ring->size);
	reg_write(d, VIRTIO_MMIO_QUEUE_DESC_LOW, ring->desc_gpa);
	reg_write(d, VIRTIO_MMIO_QUEUE_DESC_HIGH, ring->desc_gpa >> 32);
	reg_write(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, ring->avail_gpa);
	reg_write(d, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, ring->avail_gpa >> 32);
	reg_write(d, VIRTIO_MMIO_QUEUE_USED_LOW, ring->used_gpa);
	reg_write(d, VIRTIO_MMIO_QUEUE_USED_HIGH, ring->used_gpa >> 32);
	reg_write(d, VIRTIO_MMIO_QUEUE_READY, 1);
}

void fake_driver_setup_queue(struct fake_driver *d, uint32_t index, uint16_t size)
{
	struct virtio_queue *queue;

	fake_ring_init(&d->rings[index], &d->mem, size, FAKE_RINGS + index * FAKE_RING_SPACE);
	if (d->mmio != NULL) {
		queue_by_registers(d, index);
		return;
	}
	(void)pthread_mutex_lock(&d->dev->lock);
	queue = virtio_select_queue(d->dev, index, true);
	CHECK(queue != NULL);
	fake_ring_configure(&d->rings[index], &queue->ring);
	(void)pthread_mutex_unlock(&d->dev->lock);
}

bool fake_driver_start(struct fake_driver *d, uint64_t features, uint16_t size)
{
	fake_driver_reset(d);
	if (!fake_driver_negotiate(d, features | UINT64_C(1) << VIRTIO_F_VERSION_1)) {
		return false;
	}
	for (uint32_t i = 0; i < d->dev->ops->queue_count; i++) {
		fake_driver_setup_queue(d, i, size);
	}
	fake_driver_set_status(d, 0xf);
	return fake_driver_status(d) == 0xf;
}

void fake_driver_reset(struct fake_driver *d)
{
	fake_driver_set_status(d, 0);
}

static void nothing(void *arg)
{
	(void)arg;
}

/*
 * A worker runs posts last in a round. The first call may land in a round that began before the
 * kick; the second one cannot, so the round between has seen the kick.
 */
void fake_driver_sync(struct fake_driver *d)
{
	for (size_t i = 0; i < FAKE_QUEUES; i++) {
		worker_call(&d->workers[i], nothing, NULL);
		worker_call(&d->workers[i], nothing, NULL);
	}
}

void fake_driver_kick(struct fake_driver *d, uint32_t index)
{
	if (d->mmio != NULL) {
		reg_write(d, VIRTIO_MMIO_QUEUE_NOTIFY, index);
	} else {
		virtio_kick(d->dev, index);
	}
	fake_driver_sync(d);
}

bool fake_driver_wait_used(struct fake_driver *d, uint32_t index, uint16_t count)
{
	const struct timespec pause = { .tv_nsec = 100000 };
	uint64_t deadline = loop_now_ns() + FAKE_WAIT_NS;

	for (;;) {
		fake_driver_sync(d);
		if (fake_ring_used_idx(&d->rings[index]) == count) {
			return true;
		}
		if (loop_now_ns() > deadline) {
			return false;
		}
		(void)nanosleep(&pause, NULL);
	}
}

void fake_driver_write(struct fake_driver *d, uint64_t gpa, const void *data, size_t len)
{
	memcpy(at(&d->mem, gpa, len), data, len);
}

void fake_driver_read(struct fake_driver *d, uint64_t gpa, void *data, size_t len)
{
	memcpy(data, at(&d->mem, gpa, len), len);
}

void fake_driver_fill(struct fake_driver *d, uint64_t gpa, uint8_t byte, size_t len)
{
	memset(at(&d->mem, gpa, len), byte, len);
}
