/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a virtio device, for tests without KVM: guest memory, rings, feature
 * negotiation, a transport that counts. Nothing here checks anything on behalf of the device; a
 * test can build what a hostile guest would.
 *
 *	struct fake_driver d;
 *	fake_driver_init(&d);				memory and running workers
 *	my_device_create(&dev, "vda", ..., &d.mem, d.workers, ...);
 *	fake_driver_attach(&d, dev);			counting transport, or PCI
 *	fake_driver_start(&d, my_features, 256);	all the way to DRIVER_OK
 *	head = fake_ring_add(&d.rings[0], bufs, 3);	makes a chain available
 *	fake_driver_kick(&d, 0);			and waits until the worker has looked
 *	ck_assert(fake_ring_used(&d.rings[0], &id, &len));
 *	fake_driver_finish(&d);				resets and destroys the device
 *
 * The driver watches what is written to its memory: a page in which bytes have changed that the
 * driver has not written must be marked dirty (vmm/guest_memory.h), at the latest when the device
 * has been reset. Whoever breaks that rule ends the test program with the page's address. A test's
 * own writes therefore go through the functions below.
 *
 * Memory map: FAKE_LOW_SIZE at 0 and FAKE_HIGH_SIZE at FAKE_HIGH_START, adjacent in the host but
 * not in the guest. Queue n has its rings in the 64 KiB at FAKE_RINGS + n * 64 KiB; FAKE_TABLES is
 * for indirect tables; tests own the rest, from FAKE_DATA on. Queues from FAKE_QUEUES on have rings,
 * of at most 256 entries, and tables at the end of high memory, 64 KiB each.
 *
 * With VMM_TEST_TRANSPORT=pci in the environment fake_driver_attach() is fake_driver_attach_pci(), so
 * that the same tests run through the registers of the PCI transport.
 */
#ifndef TESTS_FAKE_DRIVER_H
#define TESTS_FAKE_DRIVER_H

#include <stdatomic.h>

#include "fake_msi.h"
#include "vmm/guest_memory.h"
#include "vmm/virtio.h"
#include "vmm/virtio_mmio.h"
#include "vmm/virtio_pci.h"
#include "vmm/virtqueue.h"
#include "vmm/worker.h"

#define FAKE_LOW_SIZE	MIB(16)
#define FAKE_HIGH_START GIB(4)
#define FAKE_HIGH_SIZE	MIB(4)
#define FAKE_RINGS	0x10000ULL
#define FAKE_RING_SPACE 0x10000ULL
#define FAKE_TABLES	0x80000ULL
#define FAKE_DATA	0x100000ULL

/* How long another thread or the kernel may take before it counts as hung: a machine may be busy with
 * other things. Less than what ends a test (CHECK_TIMEOUT_SECONDS). */
#define FAKE_WAIT_MS 200000
#define FAKE_WAIT_NS (FAKE_WAIT_MS * UINT64_C(1000000))

#define FAKE_MEMORY_SIZE (FAKE_LOW_SIZE + FAKE_HIGH_SIZE)
#define FAKE_LOW_PAGES	 (FAKE_LOW_SIZE / PAGE_SIZE_4K)
#define FAKE_PAGES	 (FAKE_MEMORY_SIZE / PAGE_SIZE_4K)

/* Guest memory with the map above; finish with fake_memory_finish() only. */
void fake_memory_init(struct guest_memory *mem);
void fake_memory_finish(struct guest_memory *mem);
/* All of it zeroes again; not while it is watched. */
void fake_memory_clear(struct guest_memory *mem);
/* Where a byte is, in the order of the host: low memory, then high memory. */
uint64_t fake_memory_offset(const struct guest_memory *mem, const void *host);
/* Dirty tracking from here on, with nothing dirty yet; what was marked since the last time, for
 * region 0 (bit n: page n), and how many pages that are. */
void fake_memory_track(struct guest_memory *mem);
uint64_t fake_memory_dirty(struct guest_memory *mem, uint64_t bitmap[FAKE_LOW_PAGES / 64]);

/* One buffer of a chain. */
struct fake_buf {
	uint64_t addr;
	uint32_t len;
	bool write; /* for the device to write */
};

struct fake_ring {
	struct guest_memory *mem;
	uint16_t size;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	uint16_t avail_idx;  /* next to fill; what the device sees after fake_ring_publish() */
	uint16_t used_seen;  /* next used element to look at */
	uint16_t next_desc;  /* where fake_ring_add() builds the next chain, round and round */
	uint64_t next_table; /* where fake_ring_add_indirect() builds the next table */
	uint64_t tables_gpa, tables_size; /* for this ring's tables */
};

/* Lays the three areas out at `gpa` (64 KiB are enough for 1024 entries) and clears them. */
void fake_ring_init(struct fake_ring *ring, struct guest_memory *mem, uint16_t size, uint64_t gpa);
/* Where queue `index` of a driver has its ring. */
uint64_t fake_ring_place(uint32_t index);
/* Writes the ring's settings into a queue, as a transport would. */
void fake_ring_configure(const struct fake_ring *ring, struct virtqueue *q);

/* Raw access: any value, any time. Indexes are taken modulo the size. */
void fake_ring_set_desc(struct fake_ring *ring, uint16_t index, uint64_t addr, uint32_t len,
			uint16_t flags, uint16_t next);
void fake_table_set_desc(struct guest_memory *mem, uint64_t table, uint32_t index, uint64_t addr,
			 uint32_t len, uint16_t flags, uint16_t next);
void fake_ring_set_avail(struct fake_ring *ring, uint16_t position, uint16_t head);
void fake_ring_set_avail_idx(struct fake_ring *ring, uint16_t idx);
void fake_ring_set_avail_flags(struct fake_ring *ring, uint16_t flags);
void fake_ring_set_used_event(struct fake_ring *ring, uint16_t event);
uint16_t fake_ring_used_idx(const struct fake_ring *ring);
uint16_t fake_ring_used_flags(const struct fake_ring *ring);
uint16_t fake_ring_avail_event(const struct fake_ring *ring);

/* Builds a direct chain in the descriptors from `head` on, modulo size. */
void fake_ring_chain(struct fake_ring *ring, uint16_t head, const struct fake_buf *bufs,
		     uint16_t count);
/* Puts a head into the avail ring without showing it; publish shows all of them. */
void fake_ring_offer(struct fake_ring *ring, uint16_t head);
void fake_ring_publish(struct fake_ring *ring);
/* Chain, offer, publish. Returns the head. The caller does not let more than `size` descriptors be
 * in flight. */
uint16_t fake_ring_add(struct fake_ring *ring, const struct fake_buf *bufs, uint16_t count);
/* The same through an indirect table; uses one descriptor of the ring. */
uint16_t fake_ring_add_indirect(struct fake_ring *ring, const struct fake_buf *bufs,
				uint16_t count);
/* The next used element, if there is one. */
bool fake_ring_used(struct fake_ring *ring, uint32_t *id, uint32_t *len);

/* Workers that a driver has unless it is asked for more. */
#define FAKE_QUEUES 4

struct fake_driver {
	struct guest_memory mem;
	struct worker workers[VIRTIO_QUEUES_MAX];
	uint32_t worker_count;
	struct virtio_device *dev;
	struct virtio_mmio *mmio; /* set after attach: everything goes through the registers */
	struct virtio_pci *pci;	  /* the same, by fake_driver_attach_pci() */
	struct virtio_pci pci_function;
	struct pci_bus pci_bus; /* the function is FAKE_DEVFN on it */
	struct bus pci_ports, pci_mmio;
	struct fake_msi msi;
	struct fake_ring rings[VIRTIO_QUEUES_MAX];
	_Atomic uint32_t queue_interrupts[VIRTIO_QUEUES_MAX];
	_Atomic uint32_t config_interrupts;
	bool watched;
};

void fake_driver_init(struct fake_driver *d);
void fake_driver_init_queues(struct fake_driver *d, uint32_t workers);
/* Resets and destroys the attached device, ends the workers, frees the memory. */
void fake_driver_finish(struct fake_driver *d);
/* Leaves dirty tracking to the test, or makes it faster: nobody watches any more. */
void fake_driver_unwatch(struct fake_driver *d);
/* Pages that the device has changed and not marked yet; 0 if it is at rest and does as it should. */
uint64_t fake_driver_unmarked(struct fake_driver *d);
/* Takes the device over and becomes its transport. */
void fake_driver_attach(struct fake_driver *d, struct virtio_device *dev);
/*
 * Takes the device over, behind the PCI transport: found and enabled, MSI-X on, each event with a
 * vector of its own, queues first. Interrupts are counted as ever, kicks are doorbells.
 */
#define FAKE_DEVFN	  PCI_DEVFN(3, 0)
#define FAKE_PCI_APERTURE GIB(16)
void fake_driver_attach_pci(struct fake_driver *d, struct virtio_device *dev);
/* Its BAR and its configuration space. */
uint64_t fake_pci_read(struct fake_driver *d, uint64_t offset, unsigned int size);
void fake_pci_write(struct fake_driver *d, uint64_t offset, unsigned int size, uint64_t value);
uint32_t fake_config_read(struct fake_driver *d, uint32_t reg, unsigned int size);
void fake_config_write(struct fake_driver *d, uint32_t reg, unsigned int size, uint32_t value);
/* Message `data` for a vector, which is unmasked. */
void fake_pci_open_vector(struct fake_driver *d, uint32_t vector, uint32_t data);

uint32_t fake_driver_status(struct fake_driver *d);
void fake_driver_set_status(struct fake_driver *d, uint32_t status);
uint64_t fake_driver_offered(struct fake_driver *d);
/* ACKNOWLEDGE, DRIVER, features, FEATURES_OK. True if the device agreed. `features` is taken as it
 * is. */
bool fake_driver_negotiate(struct fake_driver *d, uint64_t features);
/* Rings of `size` for queue `index`, told to the device and made ready. */
void fake_driver_setup_queue(struct fake_driver *d, uint32_t index, uint16_t size);
/* From reset to DRIVER_OK with VERSION_1 | features and all queues of `size`. True if DRIVER_OK
 * without NEEDS_RESET. */
bool __must_use fake_driver_start(struct fake_driver *d, uint64_t features, uint16_t size);
void fake_driver_reset(struct fake_driver *d);

/* Everything that was kicked or posted before is processed: each worker has come round. */
void fake_driver_sync(struct fake_driver *d);
/* QueueNotify, then sync. */
void fake_driver_kick(struct fake_driver *d, uint32_t index);
/* Waits until the device has used `count` chains altogether (modulo 2^16), however long a back end
 * takes. False after 20 s. */
bool __must_use fake_driver_wait_used(struct fake_driver *d, uint32_t index, uint16_t count);

/* Guest memory from the test's side; an invalid range ends the test program. */
void fake_driver_write(struct fake_driver *d, uint64_t gpa, const void *data, size_t len);
void fake_driver_read(struct fake_driver *d, uint64_t gpa, void *data, size_t len);
void fake_driver_fill(struct fake_driver *d, uint64_t gpa, uint8_t byte, size_t len);

#endif
