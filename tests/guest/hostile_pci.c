/* SPDX-License-Identifier: Apache-2.0 */
/* Abuses of what only PCI has: the BAR's pages, configuration space, MSI-X. See hostile.h. */
#include "hostile.h"
#include "pci.h"

#define PAGE	      0x1000U
#define NOTIFY_OFFSET 0x3000U
#define BAR_PAGES     8U
#define PLACES	      3U
#define ECAM(devfn)   (PLATFORM_PCI_ECAM + ((uint64_t)(devfn) << 12))

static const uint32_t values[] = { 0, 1, 0xffffffff, 0x80000000, 0x5a5a5a5a };

static void every_access(uint64_t at)
{
	guest_read8(at);
	guest_read16(at);
	guest_read32(at);
	guest_read64(at);
	for (size_t i = 0; i < GUEST_ARRAY_SIZE(values); i++) {
		guest_write8(at, (uint8_t)values[i]);
		guest_write16(at, (uint16_t)values[i]);
		guest_write64(at, values[i] * 0x100000001ULL);
		guest_write32(at, values[i]);
	}
}

/* Where firmware had put it, turned on, MSI-X off: as virtio_find() has it. */
static void put_back(const struct hostile *h)
{
	const struct virtio *v = &h->v;

	pci_set_bar(v->devfn, v->base);
	pci_write(v->devfn, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	pci_write(v->devfn, v->msix + MSIX_CONTROL, 2, 0);
	pci_write(v->devfn, v->access + 12, 4, 0);
}

void hostile_abuse_pci_registers(struct hostile *h)
{
	static const unsigned lengths[BAR_PAGES] = {
		0x80, 0x10, 0x60, 0x30, 0x60, 0x10, 0x10, 0x10
	};
	const struct virtio *v = &h->v;

	for (unsigned state = 0; state < 2; state++) {
		if (state) {
			hostile_set_up(h);
			pci_write(v->devfn, v->msix + MSIX_CONTROL, 2, MSIX_ENABLE);
		} else {
			virtio_reset(&h->v);
		}
		for (unsigned page = 0; page < BAR_PAGES; page++) {
			uint64_t base = v->base + page * PAGE;

			for (unsigned at = 0; at < lengths[page]; at++) {
				every_access(base + at);
			}
			/* The seam to the next. */
			for (unsigned at = PAGE - 8; at < PAGE; at++) {
				every_access(base + at);
			}
		}
		put_back(h);
		hostile_alive(h, "registers");
	}
	/* Every vector is masked again, whatever was written over it. */
	for (unsigned i = 0; i < v->vectors; i++) {
		guest_write32(v->table + i * MSIX_ENTRY + 12, 1);
		guest_check(guest_read32(v->table + i * MSIX_ENTRY + 12) == 1);
	}
	/* Not at a register's own width: nothing to be had. */
	guest_check(guest_read32(v->common + 20) == 0xffffffff);
	guest_check(guest_read64(v->common) == ~0ULL);
	guest_check(guest_read16(v->isr) == 0xffff);
	/* Kicks of every shape, of queues that there are not, too. */
	hostile_set_up(h);
	for (unsigned bit = 0; bit < 32; bit++) {
		guest_write32(v->notify, 1U << bit);
		guest_write16(v->notify, (uint16_t) ~(1U << bit));
		guest_write8(v->notify + 4UL * bit, (uint8_t)bit);
		guest_write64(v->notify + 4UL * bit, ~0ULL);
	}
	hostile_alive(h, "notifications");
}

/* The way in by configuration space, pointed everywhere. */
static void abuse_access_capability(struct hostile *h)
{
	static const uint32_t offsets[] = { 0,	    20,	    0x1000,	0x2000,
					    0x3000, 0x4000, 0x4008,	0x5000,
					    0x7ffc, 0x8000, 0xfffffffc, 0x80000000,
					    3,	    0x1fff, 0xffffffff, 0x7fffffff };
	static const uint32_t lengths[] = { 0, 1, 2, 3, 4, 8, 0x1000, 0xffffffff };
	const struct virtio *v = &h->v;

	for (unsigned bar = 0; bar < 8; bar++) {
		pci_write(v->devfn, v->access + 4, 1, bar == 7 ? 0xff : bar);
		for (size_t i = 0; i < GUEST_ARRAY_SIZE(offsets); i++) {
			for (size_t j = 0; j < GUEST_ARRAY_SIZE(lengths); j++) {
				pci_write(v->devfn, v->access + 8, 4, offsets[i]);
				pci_write(v->devfn, v->access + 12, 4, lengths[j]);
				pci_read(v->devfn, v->access + 16, 4);
				pci_write(v->devfn, v->access + 16, 4, 0xffffffff);
				pci_write(v->devfn, v->access + 17, 1, 0);
			}
		}
	}
	/* And honestly: the status, through configuration space alone. */
	pci_write(v->devfn, PCI_COMMAND, 2, 0);
	pci_write(v->devfn, v->access + 4, 1, 0);
	pci_write(v->devfn, v->access + 8, 4, 20);
	pci_write(v->devfn, v->access + 12, 4, 1);
	pci_write(v->devfn, v->access + 16, 1, 0);
	guest_check(pci_read(v->devfn, v->access + 16, 1) == 0);
	pci_write(v->devfn, v->access + 16, 1, 1);
	guest_check(pci_read(v->devfn, v->access + 16, 1) == 1);
	put_back(h);
	guest_check(virtio_read(&h->v, VIRTIO_STATUS) == 1);
}

void hostile_abuse_config_space(struct hostile *h)
{
	const struct virtio *v = &h->v;
	uint32_t ids = pci_read(v->devfn, 0, 4);

	hostile_set_up(h);
	for (unsigned reg = 0; reg < 256; reg++) {
		for (size_t i = 0; i < GUEST_ARRAY_SIZE(values); i++) {
			pci_write(v->devfn, reg, 1, values[i]);
			if (reg % 4 != 3) {
				pci_write(v->devfn, reg, 2, values[i]);
			}
			if (reg % 4 == 0) {
				pci_write(v->devfn, reg, 4, values[i]);
				guest_check(pci_read(v->devfn, reg, 4) ==
					    guest_read32(ECAM(v->devfn) + reg));
			}
		}
	}
	put_back(h);
	guest_check(pci_read(v->devfn, 0, 4) == ids);
	hostile_alive(h, "configuration space");
	/* Both ways in at every width and byte; functions and buses that there are not. */
	for (unsigned at = 0; at < 8; at++) {
		every_access(ECAM(v->devfn) + at);
		every_access(ECAM(v->devfn) + 0xff8 + at);
		every_access(ECAM(255) + 0xff8 + at);
		guest_in8((uint16_t)(PLATFORM_PORT_PCI_ADDRESS + at));
		guest_in16((uint16_t)(PLATFORM_PORT_PCI_ADDRESS + at));
		guest_in32((uint16_t)(PLATFORM_PORT_PCI_ADDRESS + at));
		guest_out8((uint16_t)(PLATFORM_PORT_PCI_ADDRESS + at), 0xff);
		guest_out16((uint16_t)(PLATFORM_PORT_PCI_ADDRESS + at), 0xffff);
	}
	guest_check(pci_read(254, 0, 4) == 0xffffffff);
	guest_out32(PLATFORM_PORT_PCI_ADDRESS, 0x80010000U);
	guest_check(guest_in32(PLATFORM_PORT_PCI_DATA) == 0xffffffff);
	guest_check(guest_read64(ECAM(v->devfn)) == ~0ULL);
	/* Beyond the aperture, over RAM, over the bridge's own windows: nobody is hit. */
	for (size_t i = 0; i < GUEST_ARRAY_SIZE(values); i++) {
		pci_set_bar(v->devfn, values[i] * 0x100000001ULL);
		guest_check(virtio_read(&h->v, VIRTIO_STATUS) == 0xff);
	}
	pci_set_bar(v->devfn, PLATFORM_PCI_ECAM);
	guest_check(guest_read32(ECAM(v->devfn)) == ids);
	put_back(h);
	abuse_access_capability(h);
	hostile_alive(h, "places of the BAR");
}

/* An honest request with this table, whose messages may go anywhere. */
static void request(struct hostile *h, const char *name, uint64_t parameter)
{
	h->ready = false;
	hostile_begin(h);
	virtio_pci_interrupts(&h->v);
	hostile_block_header(h, 0, 0);
	hostile_desc(h, 0, h->arena->header, 16,
		     VIRTQ_F_NEXT | (h->v.id == VIRTIO_ID_RNG ? VIRTQ_F_WRITE : 0), 1);
	hostile_desc(h, 1, h->arena->data, 512,
		     VIRTQ_F_NEXT |
			     (h->v.id == VIRTIO_ID_BLOCK || h->v.id == VIRTIO_ID_RNG ? VIRTQ_F_WRITE
										     : 0),
		     2);
	hostile_desc(h, 2, h->arena->status, 1, VIRTQ_F_WRITE, 0);
	if (h->v.id != VIRTIO_ID_BLOCK) {
		hostile_desc(h, 1, h->arena->data, 512,
			     h->v.id == VIRTIO_ID_RNG ? VIRTQ_F_WRITE : 0, 0);
	}
	hostile_make_available(h, 0);
	guest_write32(h->v.table, (uint32_t)parameter);
	guest_write32(h->v.table + 4, (uint32_t)(parameter >> 32));
	hostile_expect(h, name, parameter, DONE | BROKEN);
}

void hostile_abuse_vectors(struct hostile *h)
{
	/* Wild, and no interrupt of this CPU's: RAM, the IOAPIC, APICs that there are not, the reserved
	 * half. What is sent there is sent to nobody, and RAM is not written. */
	const uint64_t addresses[] = { 0,
				       (uint64_t)h->arena->data & ~3ULL,
				       h->ram_end - 4,
				       PLATFORM_IOAPIC,
				       PLATFORM_LAPIC | 0x7f000,
				       PLATFORM_LAPIC | 0x7f00c,
				       0xfef00000,
				       0x1fee00000,
				       0xfee00000fee00000,
				       ~3ULL };
	static const uint16_t wild[] = { 0x7f, 0x3ff, 0x7ff, 0x800, 0x8000, 0xfffe, 0xffff };
	const struct virtio *v = &h->v;

	for (size_t i = 0; i < GUEST_ARRAY_SIZE(addresses); i++) {
		request(h, "message address", addresses[i]);
	}
	put_back(h);
	hostile_set_up(h);
	pci_write(v->devfn, v->msix + MSIX_CONTROL, 2, MSIX_ENABLE);
	for (size_t i = 0; i < GUEST_ARRAY_SIZE(wild); i++) {
		guest_write16(v->common + 16, wild[i]);
		guest_check(guest_read16(v->common + 16) == NO_VECTOR);
		virtio_write(v, VIRTIO_QUEUE_SEL, h->queue);
		guest_write16(v->common + 26, wild[i]);
		guest_check(guest_read16(v->common + 26) == NO_VECTOR);
	}
	/* No vector, no interrupt, and all the same an answer. */
	request(h, "no vector", v->table);
	put_back(h);
	hostile_alive(h, "vectors");
}

/* What the other CPU moves; it stops when there is nothing. */
static struct hostile *volatile moved;

static uint64_t place_of(const struct virtio *v, unsigned i)
{
	return v->base + (uint64_t)i * 0x100000;
}

static void move(unsigned cpu)
{
	unsigned i = cpu;
	struct hostile *h;

	while ((h = moved)) {
		const struct virtio *v = &h->v;

		i = i * 1664525 + 1013904223;
		switch (i >> 28) {
		case 0:
			pci_write(v->devfn, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
			pci_write(v->devfn, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
			pci_write(v->devfn, PCI_COMMAND, 2,
				  PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
			break;
		case 1:
			pci_write(v->devfn, v->msix + MSIX_CONTROL, 2, MSIX_ENABLE | MSIX_MASK_ALL);
			break;
		case 2:
			pci_write(v->devfn, v->msix + MSIX_CONTROL, 2, i & 64 ? 0 : MSIX_ENABLE);
			break;
		case 3:
		case 4:
			pci_set_bar(v->devfn, place_of(v, i / 64 % PLACES));
			break;
		default:
			for (unsigned place = 0; place < PLACES; place++) {
				uint64_t entry = place_of(v, place) + (v->table - v->base);

				guest_write32(entry + 12, i >> 8 & 1);
				guest_write32(entry + 8, h->v.vector + (i >> 9 & 1));
			}
			break;
		}
	}
}

static void kick_everywhere(struct hostile *h)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (unsigned place = 0; place < PLACES; place++) {
		guest_write16(place_of(&h->v, place) + NOTIFY_OFFSET + 4UL * h->queue, 0);
	}
}

unsigned hostile_move_concurrently(struct hostile *h, unsigned rounds)
{
	unsigned answers = 0;
	uint32_t before;

	if (h->queue != hostile_busy_queue(h)) {
		return 0; /* which waits for data from outside */
	}
	h->features = 0; /* every answer interrupts */
	hostile_alive(h, "the start of moving");
	hostile_set_up(h);
	virtio_pci_interrupts(&h->v);
	guest_irq_enable();
	hostile_block_header(h, 4, 0); /* a flush is enough */
	hostile_desc(h, 0, h->arena->header, 16,
		     (h->v.id == VIRTIO_ID_BLOCK ? VIRTQ_F_NEXT : 0) |
			     (h->v.id == VIRTIO_ID_RNG ? VIRTQ_F_WRITE : 0),
		     1);
	hostile_desc(h, 1, h->arena->status, 1, VIRTQ_F_WRITE, 0);
	moved = h;
	if (!guest_smp_run(move)) {
		return 0;
	}
	for (unsigned i = 0; i < rounds * 20; i++) {
		uint16_t used = h->arena->used.index;

		hostile_make_available(h, 0);
		guest_require(guest_wait((kick_everywhere(h), h->arena->used.index != used)));
		answers++;
	}
	moved = NULL;
	guest_require(guest_wait(guest_smp_finished() > 0));
	/* Nothing of it stays: the next answer interrupts. */
	put_back(h);
	guest_check(virtio_read(&h->v, VIRTIO_STATUS) == 15);
	virtio_pci_interrupts(&h->v);
	before = guest_irq_count[h->v.vector];
	hostile_make_available(h, 0);
	hostile_kick(h);
	guest_check(guest_wait(guest_irq_count[h->v.vector] != before));
	guest_irq_disable();
	virtio_reset(&h->v);
	put_back(h);
	return answers;
}
