/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device, shared by blk.c (the device) and blk_queue.c (its requests).
 *
 * Each queue has its own struct block of the disk, and whatever a request needs on its way: workers
 * share nothing that they write to but the buckets of the limit.
 *
 * A request lives in a slot. There are as many as queue entries, in one mapping that is touched as
 * far as the guest's queue depth and list lengths go: short lists live in the slot, long ones in
 * the slot's own area behind all slots.
 */
#ifndef VMM_BLK_DEVICE_H
#define VMM_BLK_DEVICE_H

#include <linux/virtio_blk.h>

#include "blk_batch.h"
#include "queue_limit.h"
#include "vmm/virtio_blk.h"

/* What one range may cover, in sectors: a discard is quick; zeroes may have to be written. */
#define DISCARD_SECTORS_MAX	 (GIB(2) / BLOCK_SECTOR)
#define WRITE_ZEROES_SECTORS_MAX (MIB(16) / BLOCK_SECTOR)

#define BLK_LINE 64
#define SLOT_IOV 8 /* entries of a list that is kept in the slot itself */

/* The `writeback` field before the driver writes it: what it accepted decides (§5.2.5.2). */
enum cache { CACHE_WRITE_THROUGH, CACHE_WRITE_BACK, CACHE_DEFAULT };

struct virtio_blk;
struct blk_queue;

struct slot {
	struct block_request req;
	struct virtqueue_chain chain;
	struct blk_queue *bq;
	uint8_t *status;
	struct slot *next_free;
	uint16_t range, range_count; /* DISCARD, WRITE_ZEROES: the one that is being worked on */
	union {
		struct iovec iov[SLOT_IOV];
		struct virtio_blk_discard_write_zeroes ranges[VIRTIO_BLK_RANGES_MAX];
	} u;
};

/* For lists longer than SLOT_IOV: the chain as popped, and the data part of it if that begins or
 * ends inside an entry. */
struct slot_area {
	struct iovec chain[VIRTIO_BLK_QUEUE_SIZE];
	struct iovec data[VIRTIO_BLK_QUEUE_SIZE];
};

/* Of one queue; in a mapping, zero until touched. */
struct slots {
	struct iovec scratch[VIRTIO_BLK_QUEUE_SIZE]; /* where chains are popped to */
	struct slot slots[VIRTIO_BLK_QUEUE_SIZE];
	struct slot_area areas[VIRTIO_BLK_QUEUE_SIZE] __attribute__((aligned(PAGE_SIZE_4K)));
};

/* Written by the worker with relaxed stores, read by any thread. Never reset. */
struct blk_counters {
	_Atomic uint64_t reads, writes, flushes, discards;
	_Atomic uint64_t read_bytes, written_bytes;
	_Atomic uint64_t errors, unsupported, malformed, batches;
};

/* The worker's, but for the counters. No two workers write to one cache line. */
struct blk_queue {
	struct virtio_blk *blk;
	struct virtio_queue *queue;
	struct block *block; /* the device's; also who has stopped the worker's use of it */
	bool held;	     /* another disk is on its way: nothing is taken meanwhile */
	struct queue_limit limit;
	struct slots *slots;
	struct slot *free;
	uint64_t
		batch_start_ns; /* when the first request that the driver cannot see yet was done */
	uint32_t fresh;		/* slots from here on have never been used */
	struct blk_batch batch;
	struct blk_counters counters;
} __attribute__((aligned(BLK_LINE)));

struct virtio_blk_state {
	_Atomic uint8_t writeback; /* enum cache */
};

struct virtio_blk {
	struct virtio_device dev;
	struct virtio_blk_state state;
	struct block *disk; /* owned: of the first queue, with those of the others; main */
	bool unsafe;	    /* no FLUSH, no write through; before the first driver */
	struct virtio_blk_config config; /* under the device's lock */
	struct shared_rate rate;
	struct slots *slots; /* of all queues, mapped */
	struct blk_queue *queues;
};

static inline struct virtio_blk *blk_of(const struct virtio_device *dev)
{
	return container_of((struct virtio_device *)(uintptr_t)dev, struct virtio_blk, dev);
}

/* Queue operations of the device. */
void blk_process(struct virtio_device *dev, struct virtio_queue *queue);
void blk_queue_start(struct virtio_device *dev, struct virtio_queue *queue);
void blk_queue_stop(struct virtio_device *dev, struct virtio_queue *queue);
/*
 * Worker, for a change of the disk. Hold: nothing is in flight, bq->block is not used any more, and no
 * request is taken. Use: `next`, which is not attached, is the queue's from now on; on failure it
 * still has bq->block. Release: goes on.
 */
void blk_queue_hold(struct blk_queue *bq);
int blk_queue_use(struct blk_queue *bq, struct block *next, struct error *e);
void blk_queue_release(struct blk_queue *bq);

#endif
