/* SPDX-License-Identifier: Apache-2.0 */
/* A device behind the PCI transport, for tests of it: gives back every chain at once; its configuration
 * is memory. */
#ifndef TESTS_VIRTIO_PCI_RIG_H
#define TESTS_VIRTIO_PCI_RIG_H

#include "check_main.h"
#include "fake_driver.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#define VERSION_1 (UINT64_C(1) << VIRTIO_F_VERSION_1)
#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT  (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

#define PAGE(page)  ((uint64_t)(page)*VIRTIO_PCI_PAGE_SIZE)
#define ISR	    PAGE(VIRTIO_PCI_PAGE_ISR)
#define DEVICE	    PAGE(VIRTIO_PCI_PAGE_DEVICE)
#define NOTIFY	    PAGE(VIRTIO_PCI_PAGE_NOTIFY)
#define TABLE	    PAGE(VIRTIO_PCI_PAGE_MSIX_TABLE)
#define PENDING	    PAGE(VIRTIO_PCI_PAGE_MSIX_PENDING)
#define CONFIG_SIZE 20
#define QUEUES	    2
#define NO_VECTOR   VIRTIO_MSI_NO_VECTOR
#define ENABLED	    (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)

/* Gives back every chain at once; configuration space is memory. */
struct sink {
	struct virtio_device dev;
	uint8_t config[CONFIG_SIZE];
	_Atomic uint32_t processed[QUEUES];
	_Atomic uint32_t started, stopped;
};

static inline struct sink *sink_of(struct virtio_device *dev)
{
	return container_of(dev, struct sink, dev);
}

static inline void sink_config_read(struct virtio_device *dev, uint32_t offset, void *buf,
				    uint32_t len)
{
	memcpy(buf, sink_of(dev)->config + offset, len);
}

static inline void sink_config_write(struct virtio_device *dev, uint32_t offset, const void *buf,
				     uint32_t len)
{
	memcpy(sink_of(dev)->config + offset, buf, len);
}

static inline void sink_start(struct virtio_device *dev, struct virtio_queue *queue)
{
	(void)queue;
	atomic_fetch_add(&sink_of(dev)->started, 1);
}

static inline void sink_stop(struct virtio_device *dev, struct virtio_queue *queue)
{
	(void)queue;
	atomic_fetch_add(&sink_of(dev)->stopped, 1);
}

static inline void sink_process(struct virtio_device *dev, struct virtio_queue *queue)
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

static inline void sink_destroy(struct virtio_device *dev)
{
	virtio_device_finish(dev);
	free(sink_of(dev));
}

static const struct virtio_queue_type queues[] = { { 64, "a" }, { 16, "b" } };

static const struct virtio_ops sink_ops = {
	.name = "virtio-sink",
	.id = 0x2a,
	.pci_class = 0x028000,
	.queue_types = queues,
	.queue_type_count = QUEUES,
	.config_read = sink_config_read,
	.config_write = sink_config_write,
	.queue_start = sink_start,
	.queue_process = sink_process,
	.queue_stop = sink_stop,
	.destroy = sink_destroy,
};

static struct fake_driver d;
static struct sink *sink;

static inline void setup(void)
{
	struct error e = { 0 };

	fake_driver_init(&d);
	sink = calloc(1, sizeof(*sink));
	ck_assert_ptr_nonnull(sink);
	check_ok(virtio_device_init(&sink->dev, &sink_ops, "sink0", &d.mem, 1, CONFIG_SIZE, QUEUES,
				    d.workers, &e),
		 &e);
	fake_driver_attach_pci(&d, &sink->dev);
}

static inline void teardown(void)
{
	fake_driver_finish(&d);
}

static inline uint64_t rd(uint64_t offset, unsigned int size)
{
	return fake_pci_read(&d, offset, size);
}

static inline void wr(uint64_t offset, unsigned int size, uint64_t value)
{
	fake_pci_write(&d, offset, size, value);
}

static inline uint32_t cfg(uint32_t reg, unsigned int size)
{
	return fake_config_read(&d, reg, size);
}

static inline void cfg_wr(uint32_t reg, unsigned int size, uint32_t value)
{
	fake_config_write(&d, reg, size, value);
}

static inline uint32_t status(void)
{
	return (uint32_t)rd(VIRTIO_PCI_COMMON_STATUS, 1);
}

static inline void select_queue(uint32_t index)
{
	wr(VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
}

static inline uint32_t queue_vector(uint32_t index)
{
	select_queue(index);
	return (uint32_t)rd(VIRTIO_PCI_COMMON_Q_MSIX, 2);
}

static inline void set_msix(uint32_t flags)
{
	cfg_wr(d.pci->msix_capability + PCI_MSIX_FLAGS, 2, flags);
}

static inline uint32_t processed(uint32_t queue)
{
	fake_driver_sync(&d);
	return atomic_load(&sink->processed[queue]);
}

/* One chain through a queue. */
static inline void request(uint32_t queue)
{
	const struct fake_buf buf = { FAKE_DATA, 16, true };

	fake_ring_add(&d.rings[queue], &buf, 1);
	fake_driver_kick(&d, queue);
}

/* Fields of the common configuration with their width and, of a fresh device, value. */
static const struct {
	uint32_t offset, width, fresh;
} fields[] = {
	{ VIRTIO_PCI_COMMON_DFSELECT, 4, 0 },
	{ VIRTIO_PCI_COMMON_DF, 4, 1 | (uint32_t)(INDIRECT | EVENT_IDX) },
	{ VIRTIO_PCI_COMMON_GFSELECT, 4, 0 },
	{ VIRTIO_PCI_COMMON_GF, 4, 0 },
	{ VIRTIO_PCI_COMMON_MSIX, 2, NO_VECTOR },
	{ VIRTIO_PCI_COMMON_NUMQ, 2, QUEUES },
	{ VIRTIO_PCI_COMMON_STATUS, 1, 0 },
	{ VIRTIO_PCI_COMMON_CFGGENERATION, 1, 0 },
	{ VIRTIO_PCI_COMMON_Q_SELECT, 2, 0 },
	{ VIRTIO_PCI_COMMON_Q_SIZE, 2, 64 },
	{ VIRTIO_PCI_COMMON_Q_MSIX, 2, NO_VECTOR },
	{ VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0 },
	{ VIRTIO_PCI_COMMON_Q_NOFF, 2, 0 },
	{ VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0 },
	{ VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0 },
	{ VIRTIO_PCI_COMMON_Q_AVAILLO, 4, 0 },
	{ VIRTIO_PCI_COMMON_Q_AVAILHI, 4, 0 },
	{ VIRTIO_PCI_COMMON_Q_USEDLO, 4, 0 },
	{ VIRTIO_PCI_COMMON_Q_USEDHI, 4, 0 },
};

#endif
