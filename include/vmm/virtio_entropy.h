/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entropy device (virtio 1.2 §5.4): one queue of buffers that are filled with random bytes from
 * the host's getrandom(2). No features, no configuration space, no state beyond the core's. A
 * request gets at most VIRTIO_ENTROPY_REQUEST_MAX bytes, which §5.4.6.2 allows, so that no buffer
 * however large costs memory or time.
 */
#ifndef VMM_VIRTIO_ENTROPY_H
#define VMM_VIRTIO_ENTROPY_H

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/rate_limit.h"
#include "vmm/virtio.h"
#include "vmm/worker.h"

#define VIRTIO_ENTROPY_QUEUE_SIZE  64
#define VIRTIO_ENTROPY_REQUEST_MAX KIB(4)

extern const struct virtio_ops virtio_entropy_ops;

/* `name` and `mem` are borrowed; `workers` is one initialised worker. Freed by
 * (*ret)->ops->destroy(). */
int virtio_entropy_create(struct virtio_device **ret, const char *name, struct guest_memory *mem,
			  struct worker *workers, struct error *e);
/* Requests and bytes per time; requests beyond wait in the ring. Before the worker starts. */
void virtio_entropy_init_limit(struct virtio_device *dev, const struct rate_limit_config *config);

struct virtio_entropy_counters {
	uint64_t requests, bytes;
};
/* Any thread. */
void virtio_entropy_read_counters(const struct virtio_device *dev,
				  struct virtio_entropy_counters *ret);

#endif
