/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and cards that come and go (vmm/pci_hotplug.h), as firmware and driver together: waits for the
 * event, reads the registers, drives what has arrived, gives back what is wanted. "then" says what is
 * done with a wanted device:
 *	eject	reset, and ejected; it has gone by then, so the host may not put another in its place at
 *		once
 *	give	the same without a look
 *	drop	ejected while its queue is in use
 *	ignore	nothing
 *	attack	ejects before anybody asks, of everything, twice, and uses what is gone
 */
#include "pci.h"

#define REG_ARRIVED (PLATFORM_PORT_PCI_HOTPLUG + 0)
#define REG_WANTED  (PLATFORM_PORT_PCI_HOTPLUG + 4)
#define REG_EJECT   (PLATFORM_PORT_PCI_HOTPLUG + 8)

#define EVENT_HOTPLUG 2U
#define SLOTS	      32U
#define BLK_IN	      0

static struct virtio devices[SLOTS];

/* One for each slot: disks have threads of their own. */
static struct request {
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header;
	uint8_t data[512];
	uint8_t status;
} requests[SLOTS] __attribute__((aligned(4096)));

static bool present(unsigned slot)
{
	return pci_read(slot << 3, 0, 4) != 0xffffffff;
}

static bool offer(struct virtio *v)
{
	struct request *request = &requests[v->slot];
	const struct virtio_buffer buffers[] = { { &request->header, 16, false },
						 { request->data, 512, true },
						 { &request->status, 1, true } };

	request->header.type = BLK_IN;
	request->header.sector = 0;
	request->status = 0xee;
	return virtio_add(v, 0, buffers, 3, v);
}

static void use_disk(struct virtio *v, unsigned slot)
{
	const struct request *request = &requests[slot];
	uint32_t written;

	virtio_negotiate(v, 0);
	virtio_queue(v, 0, 0);
	virtio_ready(v);
	virtio_interrupts(v);
	guest_require(offer(v));
	virtio_kick(v, 0);
	guest_check(virtio_take_wait(v, 0, &written) == v);
	guest_check(request->status == 0);
	guest_printf("disk in %u reads %c\n", slot, request->data[0] ? request->data[0] : '0');
}

static void arrived(unsigned slot)
{
	struct virtio *v = &devices[slot];

	guest_require(present(slot));
	v->slot = slot;
	virtio_pci_open(v, slot << 3);
	/* A disk of nothing cannot be read. */
	if (v->id == VIRTIO_ID_BLOCK && guest_read32(v->config)) {
		use_disk(v, slot);
	} else {
		guest_printf("device %u in %u\n", v->id, slot);
	}
}

static void eject(unsigned slot)
{
	guest_out32(REG_EJECT, 1U << slot);
	/* It has gone before the write is over. */
	guest_check(!present(slot));
	guest_printf("ejected %u\n", slot);
}

/* Fills the ring, and does not wait for any of it. */
static void drop(unsigned slot)
{
	struct virtio *v = &devices[slot];

	for (unsigned i = 0; v->id == VIRTIO_ID_BLOCK && i < 64 && offer(v); i++) {
		virtio_kick(v, 0);
	}
	eject(slot);
}

static void attack(unsigned slot)
{
	const struct virtio *v = &devices[slot];

	guest_out32(REG_EJECT, 0xffffffff);
	guest_out32(REG_EJECT, 0xffffffff);
	guest_check(!present(slot));
	guest_check(present(0));
	for (unsigned reg = 0; reg < 0x6000; reg += 0x1000) {
		guest_write32(v->base + reg, 0xffffffff);
		guest_check(guest_read32(v->base + reg) == 0xffffffff);
	}
	pci_write(slot << 3, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	pci_write(slot << 3, PCI_BAR0, 4, 0);
	guest_write16(v->notify, 0);
	guest_out32(REG_EJECT, 1U << slot);
	for (unsigned size = 1; size <= 2; size++) {
		for (uint16_t port = REG_ARRIVED; port < REG_EJECT + 4; port++) {
			if (size == 1) {
				guest_out8(port, 0xff);
			} else {
				guest_out16(port, 0xffff);
			}
		}
	}
	guest_printf("attacked %u\n", slot);
}

static void wanted(unsigned slot, const char *then)
{
	if (guest_equal(then, "eject")) {
		virtio_reset(&devices[slot]);
		eject(slot);
	} else if (guest_equal(then, "give")) {
		virtio_reset(&devices[slot]);
		guest_out32(REG_EJECT, 1U << slot);
	} else if (guest_equal(then, "drop")) {
		drop(slot);
	} else if (guest_equal(then, "attack")) {
		attack(slot);
	} else {
		guest_printf("ignored %u\n", slot);
	}
}

static void look(const char *then)
{
	uint32_t slots = guest_in32(REG_ARRIVED);

	for (unsigned slot = 0; slot < SLOTS; slot++) {
		if (slots >> slot & 1) {
			arrived(slot);
		}
	}
	slots = guest_in32(REG_WANTED);
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		if (slots >> slot & 1) {
			wanted(slot, then);
		}
	}
}

int test_hotplug(void)
{
	const char *then = guest_option("then");
	uint32_t seen = 0;

	if (!pci_present()) {
		guest_skip("no PCI");
	}
	for (unsigned slot = 1; slot < SLOTS; slot++) {
		if (present(slot)) {
			arrived(slot);
		}
	}
	if (then && guest_equal(then, "attack")) {
		/* Nobody has asked for any of them. */
		guest_out32(REG_EJECT, 0xffffffff);
		guest_check(guest_in32(REG_EJECT) == 0);
	}
	guest_lapic_enable();
	guest_ioapic_route(PLATFORM_GSI_ACPI);
	guest_irq_enable();
	guest_printf("waits\n");
	/* The line may have been high before anybody listened to it. */
	for (;;) {
		if (guest_in32(GUEST_ACPI_EVENT) & EVENT_HOTPLUG) {
			look(then ? then : "eject");
		}
		guest_irq_disable();
		if (guest_irq_count[GUEST_VECTOR_GSI(PLATFORM_GSI_ACPI)] == seen) {
			guest_halt();
		}
		seen = guest_irq_count[GUEST_VECTOR_GSI(PLATFORM_GSI_ACPI)];
		guest_irq_enable();
		if (guest_failures()) {
			guest_printf("FAIL hotplug\n");
			guest_exit(GUEST_FAIL);
		}
	}
}
