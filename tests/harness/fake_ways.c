/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See fake_ways.h. Each is what a driver does by the specification, and no more (virtio 1.2 §3.1, §4.1, §4.2).
 */
#include "fake_ways.h"

#include <linux/virtio_mmio.h>
#include <linux/virtio_pci.h>

#include "vmm/cleanup.h"

static uint32_t direct_status(struct fake_driver *d)
{
	return atomic_load(&d->dev->state.status);
}

static void direct_set_status(struct fake_driver *d, uint32_t status)
{
	SCOPED_LOCK(&d->dev->lock);
	virtio_set_status(d->dev, status);
}

static uint32_t direct_offered(struct fake_driver *d, uint32_t select)
{
	return virtio_offered_features(d->dev, select);
}

static void direct_accept(struct fake_driver *d, uint32_t select, uint32_t features)
{
	SCOPED_LOCK(&d->dev->lock);
	virtio_set_features(d->dev, select, features);
}

static void direct_setup_queue(struct fake_driver *d, uint32_t index)
{
	SCOPED_LOCK(&d->dev->lock);
	struct virtio_queue *queue = virtio_select_queue(d->dev, index, true);

	CHECK(queue != NULL);
	fake_ring_configure(&d->rings[index], &queue->ring);
}

static void direct_kick(struct fake_driver *d, uint32_t index)
{
	virtio_kick(d->dev, index);
}

static const struct fake_way direct = { .status = direct_status,
					.set_status = direct_set_status,
					.offered = direct_offered,
					.accept = direct_accept,
					.setup_queue = direct_setup_queue,
					.kick = direct_kick };

static uint32_t reg_read(struct fake_driver *d, uint64_t offset)
{
	return (uint32_t)virtio_mmio_bus_ops.read(d->mmio, offset, 4);
}

static void reg_write(struct fake_driver *d, uint64_t offset, uint64_t value)
{
	virtio_mmio_bus_ops.write(d->mmio, offset, 4, (uint32_t)value);
}

static uint32_t mmio_status(struct fake_driver *d)
{
	return reg_read(d, VIRTIO_MMIO_STATUS);
}

static void mmio_set_status(struct fake_driver *d, uint32_t status)
{
	reg_write(d, VIRTIO_MMIO_STATUS, status);
}

static uint32_t mmio_offered(struct fake_driver *d, uint32_t select)
{
	reg_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, select);
	return reg_read(d, VIRTIO_MMIO_DEVICE_FEATURES);
}

static void mmio_accept(struct fake_driver *d, uint32_t select, uint32_t features)
{
	reg_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
	reg_write(d, VIRTIO_MMIO_DRIVER_FEATURES, features);
}

static void mmio_setup_queue(struct fake_driver *d, uint32_t index)
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

static void mmio_kick(struct fake_driver *d, uint32_t index)
{
	reg_write(d, VIRTIO_MMIO_QUEUE_NOTIFY, index);
}

static const struct fake_way by_mmio = { .status = mmio_status,
					 .set_status = mmio_set_status,
					 .offered = mmio_offered,
					 .accept = mmio_accept,
					 .setup_queue = mmio_setup_queue,
					 .kick = mmio_kick };

static uint32_t pci_status(struct fake_driver *d)
{
	return (uint32_t)fake_pci_read(d, VIRTIO_PCI_COMMON_STATUS, 1);
}

static void pci_set_status(struct fake_driver *d, uint32_t status)
{
	fake_pci_write(d, VIRTIO_PCI_COMMON_STATUS, 1, status);
}

static uint32_t pci_offered(struct fake_driver *d, uint32_t select)
{
	fake_pci_write(d, VIRTIO_PCI_COMMON_DFSELECT, 4, select);
	return (uint32_t)fake_pci_read(d, VIRTIO_PCI_COMMON_DF, 4);
}

static void pci_accept(struct fake_driver *d, uint32_t select, uint32_t features)
{
	fake_pci_write(d, VIRTIO_PCI_COMMON_GFSELECT, 4, select);
	fake_pci_write(d, VIRTIO_PCI_COMMON_GF, 4, features);
	fake_pci_write(d, VIRTIO_PCI_COMMON_MSIX, 2, d->dev->queue_count);
}

static void pci_address(struct fake_driver *d, uint64_t low, uint64_t gpa)
{
	fake_pci_write(d, low, 4, (uint32_t)gpa);
	fake_pci_write(d, low + 4, 4, gpa >> 32);
}

static void pci_setup_queue(struct fake_driver *d, uint32_t index)
{
	const struct fake_ring *ring = &d->rings[index];

	fake_pci_write(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
	fake_pci_write(d, VIRTIO_PCI_COMMON_Q_SIZE, 2, ring->size);
	pci_address(d, VIRTIO_PCI_COMMON_Q_DESCLO, ring->desc_gpa);
	pci_address(d, VIRTIO_PCI_COMMON_Q_AVAILLO, ring->avail_gpa);
	pci_address(d, VIRTIO_PCI_COMMON_Q_USEDLO, ring->used_gpa);
	fake_pci_write(d, VIRTIO_PCI_COMMON_Q_MSIX, 2, index);
	CHECK(fake_pci_read(d, VIRTIO_PCI_COMMON_Q_MSIX, 2) == index);
	fake_pci_write(d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static void pci_kick(struct fake_driver *d, uint32_t index)
{
	fake_pci_write(d,
		       VIRTIO_PCI_PAGE_NOTIFY * VIRTIO_PCI_PAGE_SIZE +
			       index * VIRTIO_PCI_NOTIFY_MULTIPLIER,
		       2, index);
}

static const struct fake_way by_pci = { .status = pci_status,
					.set_status = pci_set_status,
					.offered = pci_offered,
					.accept = pci_accept,
					.setup_queue = pci_setup_queue,
					.kick = pci_kick };

const struct fake_way *fake_way_to(const struct fake_driver *d)
{
	if (d->pci != NULL) {
		return &by_pci;
	}
	return d->mmio != NULL ? &by_mmio : &direct;
}
