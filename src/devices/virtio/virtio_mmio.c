/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport (virtio 1.2 §4.2.2), version 2: 32-bit registers below 0x100, configuration
 * space above.
 *
 * vCPU threads; every access takes the device's lock, except QueueNotify, which only writes the
 * queue's eventfd (and normally does not come here at all: ioeventfd). Workers reach the interrupt
 * line without a lock.
 *
 * The guest controls offset, width, value and order. Saved: the three selectors.
 */
#include "vmm/virtio_mmio.h"

#include <linux/virtio_mmio.h>
#include <string.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"

#define MAGIC	"virt"
#define VERSION 2
/* Any value will do (§4.2.2, VendorID): "vmm\0". */
#define VENDOR 0x006d6d76U

#define REGISTER_WIDTH 4

static const struct state_field mmio_fields[] = {
	STATE_FIELD(1, struct virtio_mmio_state, device_features_sel, 1),
	STATE_FIELD(2, struct virtio_mmio_state, driver_features_sel, 1),
	STATE_FIELD(3, struct virtio_mmio_state, queue_sel, 1),
};

/* A selector may have any value: a guest can write any, and each use checks it. */
const struct state_desc virtio_mmio_state =
	STATE_DESC_IN(struct virtio_mmio, state, "virtio-mmio", 1, mmio_fields);

static uint32_t register_read(struct virtio_mmio *mmio, uint64_t offset)
{
	struct virtio_device *dev = mmio->device;
	const struct virtio_queue *queue;

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return load_le32(MAGIC);
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return dev->ops->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return virtio_offered_features(dev, mmio->state.device_features_sel);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		queue = virtio_select_queue(dev, mmio->state.queue_sel, false);
		return queue != NULL ? queue->ring.size_max : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		queue = virtio_select_queue(dev, mmio->state.queue_sel, false);
		return queue != NULL && queue->ring.state.ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return atomic_load(&dev->state.interrupt_status);
	case VIRTIO_MMIO_STATUS:
		return atomic_load(&dev->state.status);
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX; /* no such shared memory region, whatever SHMSel says */
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return atomic_load(&dev->state.config_generation);
	default:
		return 0; /* write-only or reserved */
	}
}

/* Registers of the selected queue: frozen after DRIVER_OK, and all but QueueReady while the queue
 * is ready. */
static void queue_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtio_queue *queue = virtio_select_queue(mmio->device, mmio->state.queue_sel, true);
	struct virtqueue *ring;

	if (queue == NULL) {
		return;
	}
	ring = &queue->ring;
	if (offset == VIRTIO_MMIO_QUEUE_READY) {
		if (value <= 1) {
			ring->state.ready = value == 1;
		}
		return;
	}
	if (ring->state.ready) {
		return;
	}
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		virtqueue_set_size(ring, value);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		virtio_set_half(&ring->state.desc_gpa, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH,
				value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		virtio_set_half(&ring->state.avail_gpa, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
				value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		virtio_set_half(&ring->state.used_gpa, offset == VIRTIO_MMIO_QUEUE_USED_HIGH,
				value);
		break;
	default:
		break;
	}
}

static void register_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtio_device *dev = mmio->device;

	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		mmio->state.device_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		virtio_set_features(dev, mmio->state.driver_features_sel, value);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		mmio->state.driver_features_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		mmio->state.queue_sel = value;
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		atomic_fetch_and(&dev->state.interrupt_status, ~value);
		break;
	case VIRTIO_MMIO_STATUS:
		virtio_set_status(dev, value);
		break;
	default:
		queue_write(mmio, offset, value);
		break;
	}
}

static uint64_t mmio_read(void *device, uint64_t offset, unsigned int size)
{
	struct virtio_mmio *mmio = device;
	uint8_t bytes[8];
	SCOPED_LOCK(&mmio->device->lock);

	if (offset >= VIRTIO_MMIO_CONFIG) {
		virtio_config_read(mmio->device, offset - VIRTIO_MMIO_CONFIG, bytes, size);
		return load_le(bytes, size);
	}
	if (size != REGISTER_WIDTH || offset % REGISTER_WIDTH != 0) {
		return bus_all_ones(size);
	}
	return register_read(mmio, offset);
}

static void mmio_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	struct virtio_mmio *mmio = device;
	uint8_t bytes[8];

	if (offset == VIRTIO_MMIO_NOTIFY_OFFSET && size == REGISTER_WIDTH) {
		virtio_kick(mmio->device, (uint32_t)value);
		return;
	}
	SCOPED_LOCK(&mmio->device->lock);
	if (offset >= VIRTIO_MMIO_CONFIG) {
		store_le(bytes, value, size);
		virtio_config_write(mmio->device, offset - VIRTIO_MMIO_CONFIG, bytes, size);
	} else if (size == REGISTER_WIDTH && offset % REGISTER_WIDTH == 0) {
		register_write(mmio, offset, (uint32_t)value);
	}
}

const struct bus_ops virtio_mmio_bus_ops = { .read = mmio_read, .write = mmio_write };

static void interrupt(struct virtio_device *dev)
{
	struct virtio_mmio *mmio = dev->transport_data;

	irq_trigger(mmio->irq);
}

static void notify_queue(struct virtio_device *dev, uint16_t queue)
{
	(void)queue;
	interrupt(dev);
}

static const struct virtio_transport mmio_transport = {
	.notify_queue = notify_queue,
	.notify_config = interrupt,
};

void virtio_mmio_init(struct virtio_mmio *mmio, struct virtio_device *device, struct irq_line *irq)
{
	*mmio = (struct virtio_mmio){ .device = device, .irq = irq };
	device->transport = &mmio_transport;
	device->transport_data = mmio;
}

void virtio_mmio_reset(struct virtio_mmio *mmio)
{
	mmio->state = (struct virtio_mmio_state){ 0 };
}
