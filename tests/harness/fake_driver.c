/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See fake_driver.h. Ring accesses are atomic with the driver's memory order, so that
 * ThreadSanitizer sees what a real guest and device rely on. Workers are real threads;
 * fake_driver_sync() makes their progress deterministic.
 */
#include "fake_ways.h"

#include <endian.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vmm/platform.h"

/*
 * One mapping: guard, memory, guard, shadow. The shadow is what memory would be if only the driver
 * wrote to it.
 */
#define GUARD	       PAGE_SIZE_4K
#define SHADOW	       (FAKE_MEMORY_SIZE + GUARD) /* from a byte to its shadow */
#define MAPPING_SIZE   (2 * (FAKE_MEMORY_SIZE + GUARD))
#define WORDS_PER_PAGE (PAGE_SIZE_4K / sizeof(uint64_t))

void fake_memory_init(struct guest_memory *mem)
{
	uint8_t *guarded = mmap(NULL, MAPPING_SIZE, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *host = guarded + GUARD;

	CHECK(guarded != MAP_FAILED);
	CHECK(mprotect(host, FAKE_MEMORY_SIZE, PROT_READ | PROT_WRITE) == 0);
	CHECK(mprotect(host + SHADOW, FAKE_MEMORY_SIZE, PROT_READ | PROT_WRITE) == 0);
	memset(mem, 0, sizeof(*mem));
	mem->size = FAKE_MEMORY_SIZE;
	atomic_store(&mem->region_count, 2);
	mem->regions[0] = (struct guest_region){
		.size = FAKE_LOW_SIZE,
		.host = host,
		.backing = GUEST_MEMORY_ANON,
		.fd = -1,
	};
	mem->regions[1] = (struct guest_region){
		.gpa = FAKE_HIGH_START,
		.size = FAKE_HIGH_SIZE,
		.host = host + FAKE_LOW_SIZE,
		.backing = GUEST_MEMORY_ANON,
		.fd = -1,
	};
}

void fake_memory_finish(struct guest_memory *mem)
{
	if (mem->size != 0) {
		(void)munmap(mem->regions[0].host - GUARD, MAPPING_SIZE);
		free(mem->regions[0].dirty_storage);
		free(mem->regions[1].dirty_storage);
	}
	memset(mem, 0, sizeof(*mem));
}

void fake_memory_clear(struct guest_memory *mem)
{
	CHECK(madvise(mem->regions[0].host, FAKE_MEMORY_SIZE, MADV_DONTNEED) == 0);
}

uint64_t fake_memory_offset(const struct guest_memory *mem, const void *host)
{
	return (uintptr_t)host - (uintptr_t)mem->regions[0].host;
}

void fake_memory_track(struct guest_memory *mem)
{
	uint64_t marks[FAKE_PAGES / 64] = { 0 };

	CHECK(guest_memory_dirty_start(mem, NULL) == 0);
	CHECK(guest_region_dirty_collect(mem, 0, marks, FAKE_PAGES, NULL) == 0);
	CHECK(guest_region_dirty_collect(mem, 1, marks, FAKE_PAGES, NULL) == 0);
}

uint64_t fake_memory_dirty(struct guest_memory *mem, uint64_t bitmap[FAKE_LOW_PAGES / 64])
{
	uint64_t count = 0;

	memset(bitmap, 0, FAKE_LOW_PAGES / 8);
	CHECK(guest_region_dirty_collect(mem, 0, bitmap, FAKE_LOW_PAGES, NULL) == 0);
	for (size_t i = 0; i < FAKE_LOW_PAGES / 64; i++) {
		count += (uint64_t)__builtin_popcountll(bitmap[i]);
	}
	return count;
}

/* A worker may be writing to it. */
__attribute__((no_sanitize("thread"))) static bool page_changed(const uint8_t *host)
{
	const volatile uint64_t *page = (const volatile uint64_t *)(const void *)host;
	const uint64_t *shadow = (const uint64_t *)(const void *)(host + SHADOW);

	for (size_t i = 0; i < WORDS_PER_PAGE; i++) {
		if (page[i] != shadow[i]) {
			return true;
		}
	}
	return false;
}

__attribute__((no_sanitize("thread"))) static void page_accept(uint8_t *host)
{
	const volatile uint64_t *page = (const volatile uint64_t *)(const void *)host;
	uint64_t *shadow = (uint64_t *)(void *)(host + SHADOW);

	for (size_t i = 0; i < WORDS_PER_PAGE; i++) {
		shadow[i] = page[i];
	}
}

/*
 * A page that has changed and is marked is accepted as it is. One that is not marked is looked at
 * again the next time: its mark may be on the way. Pages that were never touched are not looked at.
 */
static uint64_t unmarked(struct fake_driver *d, uint64_t *first)
{
	static unsigned char touched[FAKE_PAGES];
	uint64_t marks[FAKE_PAGES / 64] = { 0 };
	uint8_t *host = d->mem.regions[0].host;
	uint64_t count = 0;

	CHECK(guest_region_dirty_collect(&d->mem, 0, marks, FAKE_LOW_PAGES, NULL) == 0);
	CHECK(guest_region_dirty_collect(&d->mem, 1, marks + FAKE_LOW_PAGES / 64,
					 FAKE_PAGES - FAKE_LOW_PAGES, NULL) == 0);
	CHECK(mincore(host, FAKE_MEMORY_SIZE, touched) == 0);
	for (uint64_t page = 0; page < FAKE_PAGES; page++) {
		if ((touched[page] & 1) == 0 || !page_changed(host + page * PAGE_SIZE_4K)) {
			continue;
		}
		if ((marks[page / 64] >> page % 64 & 1) != 0) {
			page_accept(host + page * PAGE_SIZE_4K);
		} else if (count++ == 0) {
			*first = page * PAGE_SIZE_4K;
		}
	}
	return count;
}

uint64_t fake_driver_unmarked(struct fake_driver *d)
{
	uint64_t first;

	return d->watched ? unmarked(d, &first) : 0;
}

/* The device is at rest. */
static void check_marks(struct fake_driver *d)
{
	uint64_t first;

	if (d->watched && unmarked(d, &first) != 0) {
		fprintf(stderr,
			"the device has written to page 0x%llx of guest memory (in the host's "
			"order) and not marked it dirty\n",
			(unsigned long long)first);
		abort();
	}
}

void fake_driver_unwatch(struct fake_driver *d)
{
	if (d->watched) {
		d->watched = false;
		guest_memory_dirty_stop(&d->mem);
	}
}

static const void *at(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	const void *p = guest_memory_read_pointer(mem, gpa, len);

	CHECK(p != NULL);
	return p;
}

/* The driver's own writes are no device's, so they are not marked. */
static uint8_t *at_to_write(struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	uint8_t *p = guest_memory_write_pointer(mem, gpa, len);

	CHECK(p != NULL);
	return p;
}

static void put(struct guest_memory *mem, uint64_t gpa, const void *data, uint64_t len)
{
	uint8_t *p = at_to_write(mem, gpa, len);

	memcpy(p, data, len);
	memcpy(p + SHADOW, data, len);
}

static void fill(struct guest_memory *mem, uint64_t gpa, uint8_t byte, uint64_t len)
{
	uint8_t *p = at_to_write(mem, gpa, len);

	memset(p, byte, len);
	memset(p + SHADOW, byte, len);
}

static void store16(const struct fake_ring *ring, uint64_t gpa, uint16_t v)
{
	uint8_t *p = at_to_write(ring->mem, gpa, 2);

	v = htole16(v);
	memcpy(p + SHADOW, &v, sizeof(v));
	__atomic_store_n((uint16_t *)(void *)p, v, __ATOMIC_SEQ_CST);
}

static uint16_t load16(const struct fake_ring *ring, uint64_t gpa)
{
	return le16toh(__atomic_load_n((const uint16_t *)at(ring->mem, gpa, 2), __ATOMIC_SEQ_CST));
}

static uint32_t load32(const struct fake_ring *ring, uint64_t gpa)
{
	return le32toh(__atomic_load_n((const uint32_t *)at(ring->mem, gpa, 4), __ATOMIC_RELAXED));
}

uint64_t fake_ring_place(uint32_t index)
{
	return index < FAKE_QUEUES ? FAKE_RINGS + index * FAKE_RING_SPACE
				   : FAKE_HIGH_START + FAKE_HIGH_SIZE -
					     (index - FAKE_QUEUES + 1) * FAKE_RING_SPACE;
}

void fake_ring_init(struct fake_ring *ring, struct guest_memory *mem, uint16_t size, uint64_t gpa)
{
	*ring = (struct fake_ring){ .mem = mem, .size = size };
	ring->desc_gpa = gpa;
	ring->avail_gpa = gpa + 16ULL * size;
	ring->used_gpa = ALIGN_UP(ring->avail_gpa + 6 + 2ULL * size, 4);
	if (gpa < FAKE_HIGH_START) {
		ring->tables_gpa =
			FAKE_TABLES + (gpa - FAKE_RINGS) / FAKE_RING_SPACE % FAKE_QUEUES * 0x20000;
		ring->tables_size = 0x20000;
	} else {
		CHECK(size <= 256);
		ring->tables_gpa = gpa + FAKE_RING_SPACE / 2;
		ring->tables_size = FAKE_RING_SPACE / 2;
	}
	ring->next_table = ring->tables_gpa;
	fill(mem, gpa, 0, FAKE_RING_SPACE);
}

void fake_ring_configure(const struct fake_ring *ring, struct virtqueue *q)
{
	virtqueue_set_size(q, ring->size);
	q->state.desc_gpa = ring->desc_gpa;
	q->state.avail_gpa = ring->avail_gpa;
	q->state.used_gpa = ring->used_gpa;
	q->state.ready = true;
}

void fake_table_set_desc(struct guest_memory *mem, uint64_t table, uint32_t index, uint64_t addr,
			 uint32_t len, uint16_t flags, uint16_t next)
{
	const uint64_t raw[2] = { htole64(addr),
				  htole64(len | (uint64_t)flags << 32 | (uint64_t)next << 48) };

	put(mem, table + 16ULL * index, raw, sizeof(raw));
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
	uint16_t head = ring->next_desc;
	uint64_t table;

	if (ring->next_table + 16ULL * count > ring->tables_gpa + ring->tables_size) {
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
	fake_driver_init_queues(d, FAKE_QUEUES);
}

void fake_driver_init_queues(struct fake_driver *d, uint32_t workers)
{
	struct error e = { 0 };

	memset(d, 0, sizeof(*d));
	fake_memory_init(&d->mem);
	fake_memory_track(&d->mem);
	d->watched = true;
	d->worker_count = workers;
	for (uint32_t i = 0; i < workers; i++) {
		char name[WORKER_NAME_SIZE];

		(void)snprintf(name, sizeof(name), "queue%u", i);
		CHECK(worker_init(&d->workers[i], name, &e) == 0);
		CHECK(worker_start(&d->workers[i], NULL, NULL, &e) == 0);
	}
}

void fake_driver_finish(struct fake_driver *d)
{
	if (d->dev != NULL) {
		virtio_device_reset(d->dev);
		check_marks(d);
	}
	for (uint32_t i = 0; i < d->worker_count; i++) {
		worker_finish(&d->workers[i]);
	}
	if (d->pci != NULL) {
		pci_bus_remove(&d->pci_bus, &d->pci->function);
		virtio_pci_finish(d->pci);
		pci_bus_finish(&d->pci_bus);
	}
	if (d->dev != NULL) {
		d->dev->ops->destroy(d->dev);
	}
	fake_memory_finish(&d->mem);
	d->dev = NULL;
	d->pci = NULL;
}

void fake_driver_attach(struct fake_driver *d, struct virtio_device *dev)
{
	const char *transport = getenv("VMM_TEST_TRANSPORT");

	if (transport != NULL && strcmp(transport, "pci") == 0) {
		fake_driver_attach_pci(d, dev);
		return;
	}
	CHECK(transport == NULL);
	d->dev = dev;
	dev->transport = &counting_transport;
	dev->transport_data = d;
}

/* PCI ---------------------------------------------------------------------------------------- */

static void message_sent(struct fake_msi *msi, uint32_t line)
{
	struct fake_driver *d = container_of(msi, struct fake_driver, msi);

	if (line < d->dev->queue_count) {
		atomic_fetch_add(&d->queue_interrupts[line], 1);
	} else {
		atomic_fetch_add(&d->config_interrupts, 1);
	}
}

static uint64_t bar_address(struct fake_driver *d)
{
	return (fake_config_read(d, PCI_BASE_ADDRESS_0, 4) & ~0xfU) |
	       (uint64_t)fake_config_read(d, PCI_BASE_ADDRESS_1, 4) << 32;
}

uint64_t fake_pci_read(struct fake_driver *d, uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	(void)bus_read(&d->pci_mmio, bar_address(d) + offset, &value, size);
	return value;
}

void fake_pci_write(struct fake_driver *d, uint64_t offset, unsigned int size, uint64_t value)
{
	if (!fake_msi_ring(&d->msi, bar_address(d) + offset)) {
		(void)bus_write(&d->pci_mmio, bar_address(d) + offset, &value, size);
	}
}

static gpa_t config_address(uint32_t reg)
{
	return PLATFORM_PCI_ECAM + ((gpa_t)FAKE_DEVFN << 12) + reg;
}

uint32_t fake_config_read(struct fake_driver *d, uint32_t reg, unsigned int size)
{
	uint32_t value = 0;

	(void)bus_read(&d->pci_mmio, config_address(reg), &value, size);
	return value;
}

void fake_config_write(struct fake_driver *d, uint32_t reg, unsigned int size, uint32_t value)
{
	(void)bus_write(&d->pci_mmio, config_address(reg), &value, size);
}

void fake_pci_open_vector(struct fake_driver *d, uint32_t vector, uint32_t data)
{
	uint64_t entry = VIRTIO_PCI_PAGE_MSIX_TABLE * VIRTIO_PCI_PAGE_SIZE +
			 (uint64_t)vector * MSIX_ENTRY_SIZE;

	fake_pci_write(d, entry, 8, 0xfee00000);
	fake_pci_write(d, entry + 8, 4, data);
	fake_pci_write(d, entry + 12, 4, 0);
}

void fake_driver_attach_pci(struct fake_driver *d, struct virtio_device *dev)
{
	struct error e = { 0 };

	d->dev = dev;
	fake_msi_init(&d->msi);
	d->msi.sent = message_sent;
	bus_init(&d->pci_ports, 0x10000);
	bus_init(&d->pci_mmio, 0);
	pci_bus_init(&d->pci_bus, FAKE_PCI_APERTURE, GIB(1));
	CHECK(pci_bus_attach(&d->pci_bus, &d->pci_ports, &d->pci_mmio, &e) == 0);
	CHECK(virtio_pci_init(&d->pci_function, dev, &d->msi.controller, &d->msi.doorbells, &e) ==
	      0);
	CHECK(pci_bus_add(&d->pci_bus, &d->pci_function.function, FAKE_DEVFN, &e) == 0);
	d->pci = &d->pci_function;
	fake_config_write(d, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	fake_config_write(d, d->pci->msix_capability + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	for (uint32_t i = 0; i <= dev->queue_count; i++) {
		fake_pci_open_vector(d, i, 0x40 + i);
	}
}

uint32_t fake_driver_status(struct fake_driver *d)
{
	return fake_way_to(d)->status(d);
}

void fake_driver_set_status(struct fake_driver *d, uint32_t status)
{
	fake_way_to(d)->set_status(d, status);
}

uint64_t fake_driver_offered(struct fake_driver *d)
{
	uint64_t features = 0;

	for (uint32_t select = 0; select < 2; select++) {
		features |= (uint64_t)fake_way_to(d)->offered(d, select) << (32 * select);
	}
	return features;
}

bool fake_driver_negotiate(struct fake_driver *d, uint64_t features)
{
	fake_driver_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	fake_driver_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	for (uint32_t select = 0; select < 2; select++) {
		fake_way_to(d)->accept(d, select, (uint32_t)(features >> (32 * select)));
	}
	fake_driver_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
					  VIRTIO_CONFIG_S_FEATURES_OK);
	return (fake_driver_status(d) & VIRTIO_CONFIG_S_FEATURES_OK) != 0;
}

void fake_driver_setup_queue(struct fake_driver *d, uint32_t index, uint16_t size)
{
	fake_ring_init(&d->rings[index], &d->mem, size, fake_ring_place(index));
	fake_way_to(d)->setup_queue(d, index);
}

bool fake_driver_start(struct fake_driver *d, uint64_t features, uint16_t size)
{
	fake_driver_reset(d);
	if (!fake_driver_negotiate(d, features | UINT64_C(1) << VIRTIO_F_VERSION_1)) {
		return false;
	}
	for (uint32_t i = 0; i < d->dev->queue_count; i++) {
		fake_driver_setup_queue(d, i, size);
	}
	fake_driver_set_status(d, 0xf);
	return fake_driver_status(d) == 0xf;
}

void fake_driver_reset(struct fake_driver *d)
{
	fake_driver_set_status(d, 0);
	check_marks(d);
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
	for (uint32_t i = 0; i < d->worker_count; i++) {
		worker_call(&d->workers[i], nothing, NULL);
		worker_call(&d->workers[i], nothing, NULL);
	}
}

void fake_driver_kick(struct fake_driver *d, uint32_t index)
{
	fake_way_to(d)->kick(d, index);
	fake_driver_sync(d);
	(void)fake_driver_unmarked(d);
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
	put(&d->mem, gpa, data, len);
}

void fake_driver_read(struct fake_driver *d, uint64_t gpa, void *data, size_t len)
{
	memcpy(data, at(&d->mem, gpa, len), len);
}

void fake_driver_fill(struct fake_driver *d, uint64_t gpa, uint8_t byte, size_t len)
{
	fill(&d->mem, gpa, byte, len);
}
