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
#include "vmm/virtio.h"
#include "vmm/worker.h"

#define VIRTIO_ENTROPY_QUEUE_SIZE  64
#define VIRTIO_ENTROPY_REQUEST_MAX KIB(4)

extern const struct virtio_ops virtio_entropy_ops;

/* `name` and `mem` are borrowed; `workers` is one initialised worker. Freed by
 * (*ret)->ops->destroy(). */
int virtio_entropy_create(struct virtio_device **ret, const char *name, struct guest_memory *mem,
			  struct worker *workers, struct error *e);

#endif
