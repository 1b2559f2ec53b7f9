/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device (virtio 1.2 §5.2) with one or several (MQ) queues of 256: IN, OUT, FLUSH, GET_ID,
 * DISCARD, WRITE_ZEROES. Everything else is answered UNSUPP.
 *
 * Answers: IOERR for what the disk cannot do (range beyond capacity, length no multiple of 512, a
 * write to a read-only disk, an error of the host), UNSUPP for what the device does not know. A
 * chain without room for a status byte is given back with 0 bytes written. The used length counts
 * the bytes from the first writable one on that have been written, without a gap.
 *
 * Write cache: with FLUSH accepted writes may be cached by the host until a FLUSH; without it, or
 * with the `writeback` field set to 0 (CONFIG_WCE), every write is on stable storage before its
 * completion. A FLUSH makes stable what had been completed on any queue when it came; requests of
 * different queues have no other order.
 *
 * A limit (requests and bytes per time, of the disk, whatever its queues) holds requests back in
 * their rings, in order.
 *
 * Threads: configuration space under the device's lock on a vCPU, requests on each queue's worker.
 * Saved: writeback. Requests in flight are completed before a save.
 */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

#include "vmm/block.h"
#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/rate_limit.h"
#include "vmm/virtio.h"
#include "vmm/worker.h"

#define VIRTIO_BLK_QUEUE_SIZE 256
/* Ranges of one DISCARD or WRITE_ZEROES. */
#define VIRTIO_BLK_RANGES_MAX 16

extern const struct virtio_ops virtio_blk_ops;

/*
 * Takes `disk` over on success: a queue for each struct block of its chain. `workers` has an
 * initialised one for each. `name` ("vda") is borrowed. Allocates what all requests of the queues
 * need, as address space only.
 */
int virtio_blk_create(struct virtio_device **ret, const char *name, struct block *disk,
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
 * Machine thread, the workers run: completes what is in flight on all queues, puts `next`, of as many struct
 * blocks, in place of the disk, and tells the driver of its capacity. On success the device owns
 * `next`, which gets the old one's serial number, and the caller owns *old. Refused if the guest
 * could not use it as it uses the old one; a failure changes nothing.
 */
struct block *virtio_blk_disk(const struct virtio_device *dev); /* main: the one that it has now */
int virtio_blk_replace(struct virtio_device *dev, struct block *next, struct block **old,
		       struct error *e);
/* Since the device was made, of all queues. Any thread. */
struct virtio_blk_counters {
	uint64_t reads, writes, flushes,
		discards; /* completed with OK; WRITE_ZEROES counts as a discard */
	uint64_t read_bytes, written_bytes;
	uint64_t errors;      /* completed with IOERR */
	uint64_t unsupported; /* completed with UNSUPP */
	uint64_t malformed;   /* chains without header or status */
	uint64_t batches; /* publications of used buffers: requests per batch = sum of the above /
			     batches */
};
void virtio_blk_read_counters(const struct virtio_device *dev, struct virtio_blk_counters *ret);

#endif
