/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device saved and loaded as a machine does it: with its type, its queues and its transport. */
#ifndef TESTS_VIRTIO_STATE_H
#define TESTS_VIRTIO_STATE_H

#include "vmm/state_set.h"
#include "vmm/virtio_mmio.h"
#include "vmm/virtio_pci.h"

/* One of the transports is NULL, or both. */
static inline struct state_entry virtio_entry(struct virtio_device *dev, struct virtio_pci *pci,
					      struct virtio_mmio *mmio)
{
	struct state_entry entry = { .id = "device", .kind = dev->ops->name };

	entry.count = virtio_device_parts(dev, entry.parts);
	if (pci != NULL) {
		entry.count += virtio_pci_parts(pci, entry.parts + entry.count);
	}
	if (mmio != NULL) {
		entry.parts[entry.count++] = (struct state_part){ &virtio_mmio_state, mmio };
	}
	return entry;
}

static inline int virtio_load(const struct state_entry *entry, const struct state_buf *buf,
			      struct error *err)
{
	struct state_reading reading;
	int r = state_set_read(entry, 1, buf->data, buf->len, &reading, err);

	if (r == 0) {
		state_set_exchange(&reading);
		state_set_finish(&reading);
	}
	return r;
}

#endif
