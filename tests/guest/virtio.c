/* SPDX-License-Identifier: Apache-2.0 */
/* See virtio.h. Boot CPU only. */
#include "pci.h"

#define MAGIC	0x74726976
#define NO_NEXT 0xffff

static void barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

uint32_t virtio_read(const struct virtio *v, unsigned reg)
{
	return v->pci ? virtio_pci_read(v, reg) : guest_read32(v->base + reg);
}

void virtio_write(const struct virtio *v, unsigned reg, uint32_t value)
{
	if (v->pci) {
		virtio_pci_write(v, reg, value);
	} else {
		guest_write32(v->base + reg, value);
	}
}

static bool find_on_pci(struct virtio *v, uint32_t id, unsigned nth)
{
	unsigned slot = 0;

	for (unsigned devfn = 8; devfn < 256; devfn++) {
		uint32_t ids = pci_read(devfn, 0, 4);

		if (ids == 0xffffffff && devfn % 8 == 0) {
			devfn += 7; /* no function 0, no others */
		}
		if ((ids & 0xffff) != VIRTIO_VENDOR) {
			continue;
		}
		if ((!id || ids >> 16 == VIRTIO_DEVICE_BASE + id) && !nth--) {
			memset(v, 0, sizeof(*v));
			v->slot = slot;
			virtio_pci_open(v, devfn);
			return true;
		}
		slot++;
	}
	return false;
}

static bool find_on_mmio(struct virtio *v, uint32_t id, unsigned nth)
{
	for (unsigned slot = 0; slot < PLATFORM_VIRTIO_MMIO_MAX; slot++) {
		uint64_t base = platform_virtio_address(slot);
		uint32_t found;

		if (guest_read32(base + VIRTIO_MAGIC) != MAGIC) {
			continue;
		}
		found = guest_read32(base + VIRTIO_DEVICE_ID);
		if (!found || (id && found != id) || nth--) {
			continue;
		}
		guest_check(guest_read32(base + VIRTIO_VERSION) == 2);
		memset(v, 0, sizeof(*v));
		v->base = base;
		v->slot = slot;
		v->config = base + VIRTIO_CONFIG;
		v->gsi = (uint8_t)platform_virtio_gsi(slot);
		v->vector = GUEST_VECTOR_GSI(v->gsi);
		v->id = found;
		return true;
	}
	return false;
}

bool virtio_find(struct virtio *v, uint32_t id, unsigned nth)
{
	return pci_present() ? find_on_pci(v, id, nth) : find_on_mmio(v, id, nth);
}

uint64_t virtio_offered(const struct virtio *v)
{
	uint64_t features;

	virtio_write(v, VIRTIO_DEVICE_FEATURES_SEL, 1);
	features = (uint64_t)virtio_read(v, VIRTIO_DEVICE_FEATURES) << 32;
	virtio_write(v, VIRTIO_DEVICE_FEATURES_SEL, 0);
	return features | virtio_read(v, VIRTIO_DEVICE_FEATURES);
}

void virtio_reset(struct virtio *v)
{
	virtio_write(v, VIRTIO_STATUS, 0);
	guest_require(guest_wait(virtio_read(v, VIRTIO_STATUS) == 0));
}

void virtio_negotiate(struct virtio *v, uint64_t wanted)
{
	virtio_reset(v);
	virtio_write(v, VIRTIO_STATUS, VIRTIO_S_ACKNOWLEDGE);
	virtio_write(v, VIRTIO_STATUS, VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER);
	v->features = virtio_offered(v) & (wanted | VIRTIO_F_VERSION_1);
	guest_require(v->features & VIRTIO_F_VERSION_1);
	virtio_write(v, VIRTIO_DRIVER_FEATURES_SEL, 0);
	virtio_write(v, VIRTIO_DRIVER_FEATURES, (uint32_t)v->features);
	virtio_write(v, VIRTIO_DRIVER_FEATURES_SEL, 1);
	virtio_write(v, VIRTIO_DRIVER_FEATURES, (uint32_t)(v->features >> 32));
	virtio_write(v, VIRTIO_STATUS,
		     VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_FEATURES_OK);
	guest_require(virtio_read(v, VIRTIO_STATUS) & VIRTIO_S_FEATURES_OK);
}

static void queue_memory(struct virtq *q)
{
	if (!q->desc) {
		q->desc = guest_alloc(VIRTQ_SIZE_MAX * sizeof(struct virtq_desc), 4096);
		q->avail = guest_alloc(6 + 2 * VIRTQ_SIZE_MAX, 4096);
		q->used = guest_alloc(6 + 8 * VIRTQ_SIZE_MAX, 4096);
		q->indirect = guest_alloc(sizeof(*q->indirect) * VIRTQ_SIZE_MAX, 4096);
	}
	memset((void *)q->desc, 0, VIRTQ_SIZE_MAX * sizeof(struct virtq_desc));
	memset(q->avail, 0, 6 + 2 * VIRTQ_SIZE_MAX);
	memset(q->used, 0, 6 + 8 * VIRTQ_SIZE_MAX);
}

void virtio_queue(struct virtio *v, unsigned index, unsigned size)
{
	struct virtq *q = &v->queue[index];
	uint32_t max;

	guest_require(index < VIRTIO_QUEUES);
	virtio_write(v, VIRTIO_QUEUE_SEL, index);
	guest_require(virtio_read(v, VIRTIO_QUEUE_READY) == 0);
	max = virtio_read(v, VIRTIO_QUEUE_NUM_MAX);
	guest_require(max != 0 && size <= max);
	if (!size) {
		size = max < VIRTQ_SIZE_MAX ? max : VIRTQ_SIZE_MAX;
	}
	q->index = index;
	q->size = size;
	queue_memory(q);
	for (unsigned i = 0; i < size; i++) {
		q->desc[i].next = (uint16_t)(i + 1 < size ? i + 1 : NO_NEXT);
	}
	q->free_head = 0;
	q->free_count = (uint16_t)size;
	q->used_seen = 0;
	q->avail_kicked = 0;
	virtio_write(v, VIRTIO_QUEUE_NUM, size);
	virtio_write(v, VIRTIO_QUEUE_DESC, (uint32_t)(uint64_t)q->desc);
	virtio_write(v, VIRTIO_QUEUE_DESC + 4, (uint32_t)((uint64_t)q->desc >> 32));
	virtio_write(v, VIRTIO_QUEUE_DRIVER, (uint32_t)(uint64_t)q->avail);
	virtio_write(v, VIRTIO_QUEUE_DRIVER + 4, (uint32_t)((uint64_t)q->avail >> 32));
	virtio_write(v, VIRTIO_QUEUE_DEVICE, (uint32_t)(uint64_t)q->used);
	virtio_write(v, VIRTIO_QUEUE_DEVICE + 4, (uint32_t)((uint64_t)q->used >> 32));
	virtio_write(v, VIRTIO_QUEUE_READY, 1);
	guest_require(virtio_read(v, VIRTIO_QUEUE_READY) == 1);
}

void virtio_ready(struct virtio *v)
{
	virtio_write(v, VIRTIO_STATUS, virtio_read(v, VIRTIO_STATUS) | VIRTIO_S_DRIVER_OK);
	guest_require((virtio_read(v, VIRTIO_STATUS) &
		       (VIRTIO_S_DRIVER_OK | VIRTIO_S_NEEDS_RESET)) == VIRTIO_S_DRIVER_OK);
}

void virtio_interrupts(struct virtio *v)
{
	v->interrupts = true;
	if (v->pci) {
		virtio_pci_interrupts(v);
	} else {
		guest_ioapic_route(v->gsi);
	}
	guest_irq_enable();
}

static volatile uint16_t *used_event(struct virtq *q)
{
	return &q->avail->ring[q->size];
}

static uint16_t avail_event(struct virtq *q)
{
	return guest_read16((uint64_t)&q->used->ring[q->size]);
}

bool virtio_add(struct virtio *v, unsigned queue, const struct virtio_buffer *buffers,
		unsigned count, void *token)
{
	struct virtq *q = &v->queue[queue];
	bool indirect =
		(v->features & VIRTIO_F_INDIRECT) && count > 1 && count <= VIRTQ_INDIRECT_MAX;
	uint16_t head = q->free_head;

	if (q->free_count < (indirect ? 1 : count)) {
		return false;
	}
	if (indirect) {
		struct virtq_desc *table = q->indirect[head];

		for (unsigned i = 0; i < count; i++) {
			table[i].address = (uint64_t)buffers[i].address;
			table[i].length = buffers[i].length;
			table[i].flags = (uint16_t)((buffers[i].device_writes ? VIRTQ_F_WRITE : 0) |
						    (i + 1 < count ? VIRTQ_F_NEXT : 0));
			table[i].next = (uint16_t)(i + 1);
		}
		q->free_head = q->desc[head].next;
		q->free_count--;
		q->desc[head].address = (uint64_t)table;
		q->desc[head].length = (uint32_t)(count * sizeof(*table));
		q->desc[head].flags = VIRTQ_F_INDIRECT;
	} else {
		uint16_t at = head;

		for (unsigned i = 0; i < count; i++) {
			uint16_t next = q->desc[at].next;

			q->desc[at].address = (uint64_t)buffers[i].address;
			q->desc[at].length = buffers[i].length;
			q->desc[at].flags =
				(uint16_t)((buffers[i].device_writes ? VIRTQ_F_WRITE : 0) |
					   (i + 1 < count ? VIRTQ_F_NEXT : 0));
			at = next;
		}
		q->free_head = at;
		q->free_count = (uint16_t)(q->free_count - count);
	}
	q->token[head] = token;
	q->avail->ring[q->avail->index % q->size] = head;
	barrier();
	q->avail->index++;
	return true;
}

void virtio_kick(struct virtio *v, unsigned queue)
{
	struct virtq *q = &v->queue[queue];
	uint16_t now = q->avail->index, before = q->avail_kicked;
	bool wanted;

	barrier();
	if (v->features & VIRTIO_F_EVENT_IDX) {
		wanted = (uint16_t)(now - avail_event(q) - 1) < (uint16_t)(now - before);
	} else {
		wanted = !(q->used->flags & 1);
	}
	q->avail_kicked = now;
	if (wanted) {
		q->kicks++;
		virtio_write(v, VIRTIO_QUEUE_NOTIFY, queue);
	}
}

void *virtio_take(struct virtio *v, unsigned queue, uint32_t *length)
{
	struct virtq *q = &v->queue[queue];
	uint32_t id;
	uint16_t at;
	void *token;

	if (q->used->index == q->used_seen) {
		return NULL;
	}
	barrier();
	id = q->used->ring[q->used_seen % q->size].id;
	if (length) {
		*length = q->used->ring[q->used_seen % q->size].length;
	}
	q->used_seen++;
	guest_require(id < q->size && q->token[id] != NULL);
	token = q->token[id];
	q->token[id] = NULL;
	/* Back to the free list, the whole chain. */
	for (at = (uint16_t)id, q->free_count++; q->desc[at].flags & VIRTQ_F_NEXT;
	     q->free_count++) {
		at = q->desc[at].next;
	}
	q->desc[at].next = q->free_head;
	q->free_head = (uint16_t)id;
	return token;
}

static void acknowledge(struct virtio *v)
{
	uint32_t status = v->pci ? 0 : virtio_read(v, VIRTIO_INTERRUPT_STATUS);

	if (status) {
		virtio_write(v, VIRTIO_INTERRUPT_ACK, status);
	}
}

void *virtio_take_within(struct virtio *v, unsigned queue, uint32_t *length, uint64_t cycles)
{
	struct virtq *q = &v->queue[queue];
	volatile uint32_t *count = &guest_irq_count[v->vector];
	uint64_t start = guest_tsc();
	void *token;

	while (!(token = virtio_take(v, queue, length)) && guest_tsc() - start < cycles) {
		*used_event(q) = q->used_seen;
		barrier();
		/* Only an interrupt may end the wait; what arrived before it was asked for needs
		 * none. */
		if (v->interrupts && q->used->index == q->used_seen) {
			while (*count == v->interrupts_seen && guest_tsc() - start < cycles) {
				guest_pause();
			}
		}
		if (v->interrupts && *count != v->interrupts_seen) {
			v->interrupts_seen = *count;
			acknowledge(v);
		}
		guest_pause();
	}
	return token;
}

void *virtio_take_wait(struct virtio *v, unsigned queue, uint32_t *length)
{
	void *token = virtio_take_within(v, queue, length, GUEST_PATIENCE);

	if (!token) {
		guest_printf("slot %u queue %u: nothing comes back, status %x\n", v->slot, queue,
			     virtio_read(v, VIRTIO_STATUS));
		guest_require(!"an answer in time");
	}
	return token;
}
