/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio driver for the test guests: split rings, indirect descriptors, event index. Over PCI where
 * there is a bus, over MMIO (virtio 1.2, 4.2.2) else. Registers have the names and numbers of MMIO;
 * over PCI those that mean the same are read and written.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "guest.h"

enum virtio_id { VIRTIO_ID_NET = 1, VIRTIO_ID_BLOCK = 2, VIRTIO_ID_CONSOLE = 3, VIRTIO_ID_RNG = 4 };

enum virtio_register {
	VIRTIO_MAGIC = 0x000,
	VIRTIO_VERSION = 0x004,
	VIRTIO_DEVICE_ID = 0x008,
	VIRTIO_VENDOR_ID = 0x00c,
	VIRTIO_DEVICE_FEATURES = 0x010,
	VIRTIO_DEVICE_FEATURES_SEL = 0x014,
	VIRTIO_DRIVER_FEATURES = 0x020,
	VIRTIO_DRIVER_FEATURES_SEL = 0x024,
	VIRTIO_QUEUE_SEL = 0x030,
	VIRTIO_QUEUE_NUM_MAX = 0x034,
	VIRTIO_QUEUE_NUM = 0x038,
	VIRTIO_QUEUE_READY = 0x044,
	VIRTIO_QUEUE_NOTIFY = 0x050,
	VIRTIO_INTERRUPT_STATUS = 0x060,
	VIRTIO_INTERRUPT_ACK = 0x064,
	VIRTIO_STATUS = 0x070,
	VIRTIO_QUEUE_DESC = 0x080,
	VIRTIO_QUEUE_DRIVER = 0x090,
	VIRTIO_QUEUE_DEVICE = 0x0a0,
	VIRTIO_CONFIG_GENERATION = 0x0fc,
	VIRTIO_CONFIG = 0x100,
};

#define VIRTIO_S_ACKNOWLEDGE 1U
#define VIRTIO_S_DRIVER	     2U
#define VIRTIO_S_DRIVER_OK   4U
#define VIRTIO_S_FEATURES_OK 8U
#define VIRTIO_S_NEEDS_RESET 0x40U
#define VIRTIO_S_FAILED	     0x80U

#define VIRTIO_F_INDIRECT  (1ULL << 28)
#define VIRTIO_F_EVENT_IDX (1ULL << 29)
#define VIRTIO_F_VERSION_1 (1ULL << 32)

#define VIRTQ_F_NEXT	 1U
#define VIRTQ_F_WRITE	 2U
#define VIRTQ_F_INDIRECT 4U

struct virtq_desc {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

struct virtq_avail {
	volatile uint16_t flags, index;
	volatile uint16_t ring[]; /* and used_event behind it */
};

struct virtq_used {
	volatile uint16_t flags, index;
	volatile struct {
		uint32_t id, length;
	} ring[]; /* and avail_event behind it */
};

#define VIRTQ_SIZE_MAX	   256
#define VIRTQ_INDIRECT_MAX 8

struct virtq {
	unsigned index, size;
	volatile struct virtq_desc *desc;
	struct virtq_avail *avail;
	struct virtq_used *used;
	struct virtq_desc (*indirect)[VIRTQ_INDIRECT_MAX];
	uint16_t free_head, free_count, used_seen, avail_kicked;
	uint32_t kicks;
	void *token[VIRTQ_SIZE_MAX];
};

#define VIRTIO_QUEUES 4

struct virtio {
	uint64_t base;
	uint64_t config; /* device configuration */
	unsigned slot, gsi;
	unsigned vector; /* of its interrupts */
	uint32_t id;
	/* Over PCI. */
	bool pci;
	unsigned devfn, access, msix, vectors; /* access, msix: capabilities */
	uint64_t common, isr, notify, table, pending;
	uint32_t notify_multiplier;
	uint64_t features; /* negotiated */
	bool interrupts;
	uint32_t interrupts_seen;
	struct virtq queue[VIRTIO_QUEUES];
};

struct virtio_buffer {
	void *address;
	uint32_t length;
	bool device_writes;
};

uint32_t virtio_read(const struct virtio *v, unsigned reg);
void virtio_write(const struct virtio *v, unsigned reg, uint32_t value);

/* The nth device with this id (0 for any). */
bool virtio_find(struct virtio *v, uint32_t id, unsigned nth);
uint64_t virtio_offered(const struct virtio *v);
/* Reset, and wait for it. */
void virtio_reset(struct virtio *v);
/* Reset up to FEATURES_OK, with those of the wanted features that are offered; VERSION_1 always. */
void virtio_negotiate(struct virtio *v, uint64_t wanted);
/* Queue memory is taken once per struct virtio and reused by every later set-up. size 0: the
 * maximum up to VIRTQ_SIZE_MAX. */
void virtio_queue(struct virtio *v, unsigned index, unsigned size);
void virtio_ready(struct virtio *v);
/* Use interrupts in virtio_take_wait(); without this it polls. */
void virtio_interrupts(struct virtio *v);

/* Offer a chain; false when the ring is full. token comes back from virtio_take(). */
bool virtio_add(struct virtio *v, unsigned queue, const struct virtio_buffer *buffers,
		unsigned count, void *token);
/* Tell the device, unless it asked not to be told. */
void virtio_kick(struct virtio *v, unsigned queue);
/* A finished chain's token, or NULL. */
void *virtio_take(struct virtio *v, unsigned queue, uint32_t *length);
/* Waits so long, or GUEST_PATIENCE and then the test fails. */
void *virtio_take_within(struct virtio *v, unsigned queue, uint32_t *length, uint64_t cycles);
void *virtio_take_wait(struct virtio *v, unsigned queue, uint32_t *length);

#endif
