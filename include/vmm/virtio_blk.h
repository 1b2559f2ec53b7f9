/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device (virtio 1.2 §5.2) with one queue of 256: IN, OUT, FLUSH, GET_ID, DISCARD,
 * WRITE_ZEROES. Everything else is answered UNSUPP.
 *
 * Answers: IOERR for what the disk cannot do (range beyond capacity, length no multiple of 512, a
 * write to a read-only disk, an error of the host), UNSUPP for what the device does not know. A
 * chain without room for a status byte is given back with 0 bytes written. The used length counts
 * the bytes from the first writable one on that have been written, without a gap.
 *
 * Write cache: with FLUSH accepted writes may be cached by the host until a FLUSH; without it, or
 * with the `writeback` field set to 0 (CONFIG_WCE), every write is on stable storage before its
 * completion.
 *
 * A limit (requests and bytes per time) holds requests back in the ring, in order.
 *
 * Threads: configuration space under the device's lock on a vCPU, requests on the queue's worker.
 * Saved: writeback. Requests in flight are completed before a save.
 */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

#include <stdatomic.h>

#include "vmm/block.h"
#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/rate_limit.h"
#include "vmm/virtio.h"
#include "vmm/worker.h"

#define VIRTIO_BLK_QUEUE_SIZE 256
/* Ranges of one DISCARD or WRITE_ZEROES. */
#define VIRTIO_BLK_RANGES_MAX 16

/* Written by the worker with relaxed stores, readable by any thread. Never saved, never reset. */
struct virtio_blk_metrics {
	_Atomic uint64_t reads, writes, flushes,
		discards; /* completed with OK; WRITE_ZEROES counts as a discard */
	_Atomic uint64_t read_bytes, written_bytes;
	_Atomic uint64_t errors;      /* completed with IOERR */
	_Atomic uint64_t unsupported; /* completed with UNSUPP */
	_Atomic uint64_t malformed;   /* chains without header or status */
	_Atomic uint64_t batches; /* publications of used buffers: requests per batch = sum of the
				     above / batches */
};

extern const struct virtio_ops virtio_blk_ops;

/*
 * Takes `block` over on success. `workers` is one initialised worker. `name` ("vda") is borrowed.
 * Allocates what all requests of the queue need, as address space only.
 */
int virtio_blk_create(struct virtio_device **ret, const char *name, struct block *block,
		      struct guest_memory *mem, struct worker *workers, struct error *e);
/*
 * Before the first driver: FLUSH and CONFIG_WCE are not offered, and writes are complete when the
 * host has them, not when they are on stable storage.
 */
void virtio_blk_make_unsafe(struct virtio_device *dev);
/*
 * Requests and bytes per second; both kinds of request count together, FLUSH and the others as
 * operations. init_limit: before the worker starts. limit: any thread but a worker's; only what is
 * given changes.
 */
void virtio_blk_init_limit(struct virtio_device *dev, const struct rate_limit_config *config);
void virtio_blk_limit(struct virtio_device *dev, const struct rate_limit_config *config);
/*
 * Main, the worker runs: completes what is in flight, puts `next` in place of the disk, and tells
 * the driver of its capacity. On success the device owns `next`, which gets the old one's serial
 * number, and the caller owns *old. Refused if the guest could not use it as it uses the old one;
 * a failure changes nothing.
 */
struct block *virtio_blk_disk(const struct virtio_device *dev); /* main: the one that it has now */
int virtio_blk_replace(struct virtio_device *dev, struct block *next, struct block **old,
		       struct error *e);
const struct virtio_blk_metrics *virtio_blk_metrics(const struct virtio_device *dev);

#endif
