/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all virtio devices of a machine have beside their type: a transport at a place on a bus, an
 * interrupt line, a worker a queue. The object of their kinds begins with a virtio_node.
 */
#ifndef VMM_DEVICES_VIRTIO_NODE_H
#define VMM_DEVICES_VIRTIO_NODE_H

#include "pci.h"
#include "vmm/virtio.h"
#include "vmm/virtio_mmio.h"
#include "vmm/virtio_pci.h"
#include "vmm/worker.h"

struct virtio_node {
	struct virtio_device *virtio; /* owned; NULL: create() has failed */
	struct machine *machine;      /* that has given it a place; NULL: none has */
	struct pci_host *host;	      /* whose bus it is on; NULL: virtio-mmio */
	struct virtio_pci pci;
	struct virtio_mmio mmio;
	struct worker *workers; /* one a queue */
	uint32_t worker_count;
	enum sandbox_mode sandbox;
	enum sandbox_role role;
	/* Of virtio-mmio. */
	gpa_t base;
	uint32_t gsi;
};

extern const struct device_ops virtio_node_ops;

static inline struct virtio_node *virtio_node_of(const struct device *device)
{
	return device->object;
}
static inline struct virtio_device *virtio_of(const struct device *device)
{
	return virtio_node_of(device)->virtio;
}
static inline bool device_is_virtio(const struct device *device)
{
	return kind_is_virtio(device->kind);
}

/* The two halves of a create(). First: a place, and workers, whose threads are called after the
 * device's name. Then, with node->virtio made of those workers: on the bus. */
int virtio_node_begin(struct device *device, struct machine *machine, const struct virtio_ops *ops,
		      uint32_t queue_count, enum sandbox_role role, struct error *e);
int virtio_node_wire(struct device *device, struct machine *machine, struct error *e);

#endif
