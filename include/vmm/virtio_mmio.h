/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport, version 2 registers (virtio 1.2 §4.2). 32-bit registers at 0x000-0x0ff (other
 * widths read as all ones, writes dropped), configuration space from 0x100 at any width. vCPU
 * threads, under the device's lock. Saved: the selectors.
 */
#ifndef VMM_VIRTIO_MMIO_H
#define VMM_VIRTIO_MMIO_H

#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/virtio.h"

struct virtio_mmio_state {
	uint32_t device_features_sel, driver_features_sel, queue_sel;
};

struct virtio_mmio {
	struct virtio_mmio_state state;
	struct virtio_device *device; /* borrowed */
	struct irq_line *irq;	      /* borrowed, edge */
};

extern const struct bus_ops virtio_mmio_bus_ops;
extern const struct state_desc virtio_mmio_state; /* of struct virtio_mmio */

#define VIRTIO_MMIO_NOTIFY_OFFSET \
	0x50 /* QueueNotify: where ioeventfds are put, 4 bytes, datamatch = queue */

void virtio_mmio_init(struct virtio_mmio *mmio, struct virtio_device *device, struct irq_line *irq);
/* Machine reset, after virtio_device_reset(). */
void virtio_mmio_reset(struct virtio_mmio *mmio);

#endif
