/* SPDX-License-Identifier: Apache-2.0 */
/* See pci.h. Boot CPU only, but for tests that mean to race. */
#include "pci.h"

#define VECTOR_BASE 0x70U /* of the device in slot 0 */

/* Common configuration. */
enum {
	COMMON_DEVICE_FEATURE_SELECT = 0,
	COMMON_DEVICE_FEATURE = 4,
	COMMON_DRIVER_FEATURE_SELECT = 8,
	COMMON_DRIVER_FEATURE = 12,
	COMMON_CONFIG_VECTOR = 16,
	COMMON_STATUS = 20,
	COMMON_GENERATION = 21,
	COMMON_QUEUE_SELECT = 22,
	COMMON_QUEUE_SIZE = 24,
	COMMON_QUEUE_VECTOR = 26,
	COMMON_QUEUE_ENABLE = 28,
	COMMON_QUEUE_DESC = 32,
	COMMON_QUEUE_DRIVER = 40,
	COMMON_QUEUE_DEVICE = 48,
};

enum { CFG_COMMON = 1, CFG_NOTIFY, CFG_ISR, CFG_DEVICE, CFG_ACCESS, CFG_TYPES };

static void address(unsigned devfn, unsigned reg)
{
	guest_out32(PLATFORM_PORT_PCI_ADDRESS, 0x80000000U | devfn << 8 | (reg & 0xfc));
}

uint32_t pci_read(unsigned devfn, unsigned reg, unsigned size)
{
	uint16_t port = (uint16_t)(PLATFORM_PORT_PCI_DATA + (reg & 3));

	address(devfn, reg);
	return size == 1 ? guest_in8(port) : size == 2 ? guest_in16(port) : guest_in32(port);
}

void pci_write(unsigned devfn, unsigned reg, unsigned size, uint32_t value)
{
	uint16_t port = (uint16_t)(PLATFORM_PORT_PCI_DATA + (reg & 3));

	address(devfn, reg);
	if (size == 1) {
		guest_out8(port, (uint8_t)value);
	} else if (size == 2) {
		guest_out16(port, (uint16_t)value);
	} else {
		guest_out32(port, value);
	}
}

bool pci_present(void)
{
	return pci_read(0, 8, 4) >> 8 == 0x060000;
}

unsigned pci_capability(unsigned devfn, unsigned id, unsigned from)
{
	unsigned at = pci_read(devfn, from ? from : PCI_CAPABILITIES, 1);

	for (unsigned steps = 0; at && steps < 48; steps++) {
		if (pci_read(devfn, at, 1) == id) {
			return at;
		}
		at = pci_read(devfn, at + 1, 1);
	}
	return 0;
}

uint64_t pci_bar(unsigned devfn)
{
	return (pci_read(devfn, PCI_BAR0, 4) & ~15U) | (uint64_t)pci_read(devfn, PCI_BAR1, 4) << 32;
}

void pci_set_bar(unsigned devfn, uint64_t base)
{
	pci_write(devfn, PCI_BAR0, 4, (uint32_t)base);
	pci_write(devfn, PCI_BAR1, 4, (uint32_t)(base >> 32));
}

/* Where the capabilities say the structures are. */
static void find_structures(struct virtio *v)
{
	uint64_t at[CFG_TYPES] = { 0 };
	unsigned cap = pci_capability(v->devfn, PCI_CAP_VENDOR, 0);

	while (cap) {
		unsigned type = pci_read(v->devfn, cap + 3, 1);

		guest_require(type >= CFG_COMMON && type < CFG_TYPES && !at[type]);
		guest_require(pci_read(v->devfn, cap + 4, 1) == 0);
		at[type] = v->base + pci_read(v->devfn, cap + 8, 4);
		if (type == CFG_NOTIFY) {
			v->notify_multiplier = pci_read(v->devfn, cap + 16, 4);
		} else if (type == CFG_ACCESS) {
			v->access = cap;
		}
		cap = pci_capability(v->devfn, PCI_CAP_VENDOR, cap + 1);
	}
	v->common = at[CFG_COMMON];
	v->notify = at[CFG_NOTIFY];
	v->isr = at[CFG_ISR];
	v->config = at[CFG_DEVICE];
	guest_require(v->common && v->notify && v->isr && v->access);
	v->msix = pci_capability(v->devfn, PCI_CAP_MSIX, 0);
	guest_require(v->msix);
	v->vectors = (pci_read(v->devfn, v->msix + MSIX_CONTROL, 2) & 0x7ff) + 1;
	v->table = v->base + (pci_read(v->devfn, v->msix + 4, 4) & ~7U);
	v->pending = v->base + (pci_read(v->devfn, v->msix + 8, 4) & ~7U);
}

void virtio_pci_open(struct virtio *v, unsigned devfn)
{
	v->pci = true;
	v->devfn = devfn;
	v->id = pci_read(devfn, 2, 2) - VIRTIO_DEVICE_BASE;
	v->base = pci_bar(devfn);
	/* Firmware has given it a place, and left it off. */
	guest_require(v->base >= PLATFORM_RAM_HIGH_START);
	guest_map(v->base);
	find_structures(v);
	v->vector = VECTOR_BASE + v->slot;
	pci_write(devfn, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* The register of the common configuration that does what a register of MMIO does; 0: none. */
static unsigned common_register(unsigned reg, unsigned *size)
{
	static const struct {
		uint16_t reg;
		uint8_t common, size;
	} same[] = {
		{ VIRTIO_DEVICE_FEATURES, COMMON_DEVICE_FEATURE, 4 },
		{ VIRTIO_DEVICE_FEATURES_SEL, COMMON_DEVICE_FEATURE_SELECT, 4 },
		{ VIRTIO_DRIVER_FEATURES, COMMON_DRIVER_FEATURE, 4 },
		{ VIRTIO_DRIVER_FEATURES_SEL, COMMON_DRIVER_FEATURE_SELECT, 4 },
		{ VIRTIO_QUEUE_SEL, COMMON_QUEUE_SELECT, 2 },
		{ VIRTIO_QUEUE_NUM_MAX, COMMON_QUEUE_SIZE, 2 },
		{ VIRTIO_QUEUE_NUM, COMMON_QUEUE_SIZE, 2 },
		{ VIRTIO_QUEUE_READY, COMMON_QUEUE_ENABLE, 2 },
		{ VIRTIO_STATUS, COMMON_STATUS, 1 },
		{ VIRTIO_QUEUE_DESC, COMMON_QUEUE_DESC, 4 },
		{ VIRTIO_QUEUE_DESC + 4, COMMON_QUEUE_DESC + 4, 4 },
		{ VIRTIO_QUEUE_DRIVER, COMMON_QUEUE_DRIVER, 4 },
		{ VIRTIO_QUEUE_DRIVER + 4, COMMON_QUEUE_DRIVER + 4, 4 },
		{ VIRTIO_QUEUE_DEVICE, COMMON_QUEUE_DEVICE, 4 },
		{ VIRTIO_QUEUE_DEVICE + 4, COMMON_QUEUE_DEVICE + 4, 4 },
		{ VIRTIO_CONFIG_GENERATION, COMMON_GENERATION, 1 },
	};

	for (size_t i = 0; i < GUEST_ARRAY_SIZE(same); i++) {
		if (same[i].reg == reg) {
			*size = same[i].size;
			return same[i].common;
		}
	}
	guest_require(!"a register that PCI has, too");
	return 0;
}

uint32_t virtio_pci_read(const struct virtio *v, unsigned reg)
{
	unsigned size = 0, at;

	if (reg == VIRTIO_INTERRUPT_STATUS) {
		return guest_read8(v->isr); /* and acknowledged */
	}
	at = common_register(reg, &size);
	return size == 1   ? guest_read8(v->common + at)
	       : size == 2 ? guest_read16(v->common + at)
			   : guest_read32(v->common + at);
}

void virtio_pci_write(const struct virtio *v, unsigned reg, uint32_t value)
{
	unsigned size = 0, at;

	if (reg == VIRTIO_INTERRUPT_ACK) {
		return;
	}
	if (reg == VIRTIO_QUEUE_NOTIFY) {
		guest_write16(v->notify + (uint64_t)value * v->notify_multiplier, (uint16_t)value);
		return;
	}
	at = common_register(reg, &size);
	if (size == 1) {
		guest_write8(v->common + at, (uint8_t)value);
	} else if (size == 2) {
		guest_write16(v->common + at, (uint16_t)value);
	} else {
		guest_write32(v->common + at, value);
	}
}

void virtio_pci_open_vector(const struct virtio *v, unsigned entry)
{
	uint64_t at = v->table + entry * MSIX_ENTRY;

	guest_write32(at, (uint32_t)(PLATFORM_LAPIC | guest_apic_id() << 12));
	guest_write32(at + 4, 0);
	guest_write32(at + 8, v->vector);
	guest_write32(at + 12, 0);
}

static void use_vector(const struct virtio *v, uint64_t reg)
{
	guest_write16(v->common + reg, 0);
	guest_require(guest_read16(v->common + reg) == 0);
}

void virtio_pci_interrupts(struct virtio *v)
{
	guest_lapic_enable();
	virtio_pci_open_vector(v, 0);
	pci_write(v->devfn, v->msix + MSIX_CONTROL, 2, MSIX_ENABLE);
	use_vector(v, COMMON_CONFIG_VECTOR);
	for (unsigned i = 0; i < VIRTIO_QUEUES; i++) {
		virtio_write(v, VIRTIO_QUEUE_SEL, i);
		if (virtio_read(v, VIRTIO_QUEUE_NUM_MAX)) {
			use_vector(v, COMMON_QUEUE_VECTOR);
		}
	}
}
