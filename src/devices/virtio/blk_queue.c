/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device's requests (virtio 1.2 §5.2.6), from the ring to the disk and back.
 *
 * The queue's worker only, without a lock; workers of other queues of the disk run beside it. The
 * guest controls every byte of a chain and how it is
 * cut. A request is parsed from one copy of its header (and of its ranges); addresses were
 * translated by the queue; ranges are checked here for the right status and again by the disk. The
 * status byte is the last writable byte wherever that is.
 *
 * While the limit has throttled the queue, finished requests are shown and none is taken.
 */
#include "blk_device.h"

#include <linux/virtio_config.h>
#include <string.h>

#include "vmm/bytes.h"
#include "vmm/iov.h"
#include "vmm/overflow.h"

/* How long a finished request may wait for the rest of its batch. */
#define BATCH_NS 2000000

/* Batches before other sources of the worker get their turn. */
#define BATCHES_MAX 16

/* The worker is the only writer. */
static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static struct slot *slot_take(struct blk_queue *bq)
{
	struct slot *slot = bq->free;

	if (slot != NULL) {
		bq->free = slot->next_free;
	} else {
		/* Heads in flight are unique, so there are never more than the queue has entries.
		 */
		VMM_BUG_ON(bq->fresh == VIRTIO_BLK_QUEUE_SIZE);
		slot = &bq->slots->slots[bq->fresh++];
		slot->bq = bq;
	}
	return slot;
}

static struct slot_area *slot_area(const struct slot *slot)
{
	struct slots *slots = slot->bq->slots;

	return &slots->areas[slot - slots->slots];
}

static bool write_through(const struct virtio_blk *blk)
{
	if (blk->unsafe) {
		return false;
	}
	if (!virtio_has_feature(&blk->dev, VIRTIO_BLK_F_FLUSH)) {
		/* The driver cannot flush, so nothing may wait for it (§5.2.6.2); unless it has
		 * asked for a cache. */
		return atomic_load_explicit(&blk->state.writeback, memory_order_relaxed) !=
		       CACHE_WRITE_BACK;
	}
	return atomic_load_explicit(&blk->state.writeback, memory_order_relaxed) ==
	       CACHE_WRITE_THROUGH;
}

/* Finished requests that the driver cannot see yet. */
static uint16_t unpublished(const struct blk_queue *bq)
{
	const struct virtqueue *ring = &bq->queue->ring;

	return (uint16_t)(ring->state.used_next - ring->used_published);
}

static void publish(struct blk_queue *bq)
{
	if (unpublished(bq) != 0) {
		count(&bq->counters.batches, 1);
	}
	virtio_queue_publish(bq->queue);
}

/* A batch is shown to the driver as a whole, unless the host takes long over it. */
static void publish_if_late(struct blk_queue *bq)
{
	uint64_t now = loop_now_ns();

	if (unpublished(bq) <= 1) {
		bq->batch_start_ns = now;
	} else if (now - bq->batch_start_ns > BATCH_NS) {
		publish(bq);
	}
}

/*
 * Ends a request. `filled` bytes from the first writable one on have been written; the status byte
 * counts as well if no unwritten byte lies before it.
 */
static void finish(struct slot *slot, uint8_t status, uint64_t filled)
{
	struct blk_queue *bq = slot->bq;

	if (slot->status != NULL) {
		*slot->status = status;
		if (filled == slot->chain.in_len - 1) {
			filled++;
		}
	}
	if (status == VIRTIO_BLK_S_IOERR) {
		count(&bq->counters.errors, 1);
	} else if (status == VIRTIO_BLK_S_UNSUPP) {
		count(&bq->counters.unsupported, 1);
	}
	virtqueue_push(&bq->queue->ring, &slot->chain, (uint32_t)filled);
	slot->next_free = bq->free;
	bq->free = slot;
	publish_if_late(bq);
}

static void read_done(struct block_request *req, int result)
{
	struct slot *slot = container_of(req, struct slot, req);
	struct blk_counters *counters = &slot->bq->counters;

	if (result == 0) {
		count(&counters->reads, 1);
		count(&counters->read_bytes, req->len);
		finish(slot, VIRTIO_BLK_S_OK, req->len);
		return;
	}
	finish(slot, VIRTIO_BLK_S_IOERR, MIN(req->transferred, req->len));
}

static void write_done(struct block_request *req, int result)
{
	struct slot *slot = container_of(req, struct slot, req);

	if (result == 0) {
		count(&slot->bq->counters.writes, 1);
		count(&slot->bq->counters.written_bytes, req->len);
	}
	finish(slot, result == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR, 0);
}

static void flush_done(struct block_request *req, int result)
{
	struct slot *slot = container_of(req, struct slot, req);

	if (result == 0) {
		count(&slot->bq->counters.flushes, 1);
	}
	finish(slot, result == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR, 0);
}

/* The data part of a list: in place where it begins and ends with an entry. */
static void set_data(struct slot *slot, struct iovec *list, uint32_t entries, uint64_t offset,
		     uint64_t len)
{
	struct block_request *req = &slot->req;
	uint32_t first = 0, end;
	uint64_t sum = 0;
	int used;

	while (first < entries && sum < offset) {
		sum += list[first++].iov_len;
	}
	end = first;
	if (sum == offset) {
		for (sum = 0; end < entries && sum < len; end++) {
			sum += list[end].iov_len;
		}
		if (sum == len) {
			req->iov = list + first;
			req->iov_count = end - first;
			return;
		}
	}
	used = iov_slice(list, entries, offset, len, slot_area(slot)->data, VIRTIO_BLK_QUEUE_SIZE);
	VMM_BUG_ON(used < 0); /* no more entries than the list has */
	req->iov = slot_area(slot)->data;
	req->iov_count = (uint32_t)used;
}

/* READ and WRITE: `len` bytes of `list` from `offset` on. */
static void start_transfer(struct slot *slot, enum block_op op, uint64_t sector, struct iovec *list,
			   uint32_t entries, uint64_t offset, uint64_t len)
{
	struct block *block = slot->bq->block;
	struct block_request *req = &slot->req;
	uint64_t at;

	if (len % BLOCK_SECTOR != 0 || mul_overflow(sector, BLOCK_SECTOR, &at) ||
	    !range_within(at, len, block->capacity)) {
		finish(slot, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	set_data(slot, list, entries, offset, len);
	req->op = op;
	req->offset = at;
	req->len = len;
	req->fua = op == BLOCK_WRITE && write_through(slot->bq->blk);
	req->done = op == BLOCK_READ ? read_done : write_done;
	block_submit(block, req);
}

static void start_flush(struct slot *slot)
{
	struct block_request *req = &slot->req;

	if (slot->bq->blk->unsafe) {
		finish(slot, VIRTIO_BLK_S_UNSUPP, 0);
		return;
	}
	req->op = BLOCK_FLUSH;
	req->offset = 0;
	req->len = 0;
	req->iov_count = 0;
	req->fua = false;
	req->done = flush_done;
	block_submit(slot->bq->block, req);
}

static void get_id(struct slot *slot)
{
	struct virtqueue_chain *chain = &slot->chain;
	size_t len = (size_t)MIN(chain->in_len - 1, (uint64_t)BLOCK_SERIAL_SIZE);

	len = iov_write(chain->iov + chain->out_count, chain->in_count, 0, slot->bq->block->serial,
			len);
	finish(slot, VIRTIO_BLK_S_OK, len);
}

static void submit_range(struct slot *slot);

static void range_done(struct block_request *req, int result)
{
	struct slot *slot = container_of(req, struct slot, req);

	if (result == 0 && ++slot->range < slot->range_count) {
		submit_range(slot);
		return;
	}
	if (result == 0) {
		count(&slot->bq->counters.discards, 1);
	}
	finish(slot, result == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR, 0);
}

static void submit_range(struct slot *slot)
{
	const struct virtio_blk_discard_write_zeroes *range = &slot->u.ranges[slot->range];
	struct block_request *req = &slot->req;

	req->offset = le64toh(range->sector) * BLOCK_SECTOR;
	req->len = (uint64_t)le32toh(range->num_sectors) * BLOCK_SECTOR;
	req->unmap = (le32toh(range->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0;
	block_submit(slot->bq->block, req);
}

/* The status that a range asks for, VIRTIO_BLK_S_OK if it may be carried out. */
static uint8_t check_range(const struct block *block,
			   const struct virtio_blk_discard_write_zeroes *range, bool discard)
{
	uint32_t flags = le32toh(range->flags);
	uint32_t sectors = le32toh(range->num_sectors);
	uint64_t at;

	if ((flags & ~(uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0 ||
	    (discard && flags != 0)) {
		return VIRTIO_BLK_S_UNSUPP;
	}
	if (sectors > (discard ? DISCARD_SECTORS_MAX : WRITE_ZEROES_SECTORS_MAX) ||
	    mul_overflow(le64toh(range->sector), BLOCK_SECTOR, &at) ||
	    !range_within(at, (uint64_t)sectors * BLOCK_SECTOR, block->capacity)) {
		return VIRTIO_BLK_S_IOERR;
	}
	return VIRTIO_BLK_S_OK;
}

/* All ranges are checked before the first is touched; UNSUPP goes before IOERR. */
static void start_ranges(struct slot *slot, bool discard)
{
	struct virtio_blk *blk = slot->bq->blk;
	struct block *block = slot->bq->block;
	struct virtqueue_chain *chain = &slot->chain;
	struct virtio_blk_discard_write_zeroes ranges[VIRTIO_BLK_RANGES_MAX];
	const size_t header = sizeof(struct virtio_blk_outhdr);
	uint64_t len = chain->out_len - header;
	uint8_t status = VIRTIO_BLK_S_OK;

	/* A disk that has replaced another may be able to do less. */
	if (!virtio_has_feature(&blk->dev,
				discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES) ||
	    !(discard ? block->can_discard : block->can_write_zeroes)) {
		finish(slot, VIRTIO_BLK_S_UNSUPP, 0);
		return;
	}
	if (len == 0 || len % sizeof(ranges[0]) != 0 || len > sizeof(ranges)) {
		finish(slot, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	(void)iov_read(chain->iov, chain->out_count, header, ranges, (size_t)len);
	slot->range = 0;
	slot->range_count = (uint16_t)(len / sizeof(ranges[0]));
	for (uint16_t i = 0; i < slot->range_count && status != VIRTIO_BLK_S_UNSUPP; i++) {
		uint8_t s = check_range(block, &ranges[i], discard);

		status = s == VIRTIO_BLK_S_OK ? status : s;
	}
	if (status != VIRTIO_BLK_S_OK) {
		finish(slot, status, 0);
		return;
	}
	/* The chain's list moves out of the ranges' way. */
	if (chain->iov == slot->u.iov) {
		memcpy(slot_area(slot)->chain, slot->u.iov,
		       (size_t)(chain->out_count + chain->in_count) * sizeof(struct iovec));
		chain->iov = slot_area(slot)->chain;
	}
	memcpy(slot->u.ranges, ranges, (size_t)len);
	slot->req.op = discard ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES;
	slot->req.iov_count = 0;
	slot->req.fua = write_through(blk);
	slot->req.done = range_done;
	submit_range(slot);
}

static void start_request(struct slot *slot)
{
	struct virtqueue_chain *chain = &slot->chain;
	struct virtio_blk_outhdr header;
	bool readable = iov_read(chain->iov, chain->out_count, 0, &header, sizeof(header)) ==
			sizeof(header);
	struct iovec *in = chain->iov + chain->out_count;

	slot->status = NULL;
	if (chain->in_count != 0) {
		const struct iovec *last = &in[chain->in_count - 1];

		slot->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	}
	if (!readable || slot->status == NULL) {
		count(&slot->bq->counters.malformed, 1);
		finish(slot, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	switch (le32toh(header.type)) {
	case VIRTIO_BLK_T_IN:
		start_transfer(slot, BLOCK_READ, le64toh(header.sector), in, chain->in_count, 0,
			       chain->in_len - 1);
		break;
	case VIRTIO_BLK_T_OUT:
		if (slot->bq->block->read_only) {
			finish(slot, VIRTIO_BLK_S_IOERR, 0);
			break;
		}
		start_transfer(slot, BLOCK_WRITE, le64toh(header.sector), chain->iov,
			       chain->out_count, sizeof(header), chain->out_len - sizeof(header));
		break;
	case VIRTIO_BLK_T_FLUSH:
		start_flush(slot);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(slot);
		break;
	case VIRTIO_BLK_T_DISCARD:
		start_ranges(slot, true);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		start_ranges(slot, false);
		break;
	default:
		finish(slot, VIRTIO_BLK_S_UNSUPP, 0);
		break;
	}
}

/* What the limit counts: data, without header and status. */
static uint64_t data_bytes(const struct virtqueue_chain *chain)
{
	const uint64_t around = sizeof(struct virtio_blk_outhdr) + 1;
	uint64_t sum = chain->out_len + chain->in_len;

	return sum > around ? sum - around : 0;
}

/* Takes everything that is available and within the limit. */
static void take_requests(struct blk_queue *bq)
{
	struct iovec *scratch = bq->slots->scratch;
	struct virtqueue_chain chain;

	while (!queue_limit_stops(&bq->limit) &&
	       virtqueue_pop(&bq->queue->ring, &chain, scratch, VIRTIO_BLK_QUEUE_SIZE) > 0) {
		struct slot *slot = slot_take(bq);
		size_t entries = (size_t)chain.out_count + chain.in_count;

		slot->chain = chain;
		slot->chain.iov = entries <= SLOT_IOV ? slot->u.iov : slot_area(slot)->chain;
		memcpy(slot->chain.iov, scratch, entries * sizeof(*scratch));
		queue_limit_take(&bq->limit, data_bytes(&chain));
		start_request(slot);
	}
}

/* Looks at the ring until something comes, at most until `end_ns`. */
static bool look(struct virtqueue *ring, uint64_t now_ns, uint64_t end_ns)
{
	while (now_ns < end_ns) {
		if (virtqueue_has_work(ring)) {
			return true;
		}
		now_ns = loop_now_ns();
	}
	return false;
}

/*
 * All that was taken is finished or under way: true if the finished ones shall wait for more, which
 * has come. Never while something is under way, because nobody would see that finish.
 */
static bool batch_grows(struct blk_queue *bq)
{
	struct virtqueue *ring = &bq->queue->ring;
	uint32_t finished = unpublished(bq);
	uint64_t now, end;

	if (ring->in_flight_count != 0 || bq->limit.throttled || !blk_batch_open(finished)) {
		return false;
	}
	if (virtqueue_has_work(ring)) {
		return true;
	}
	if (!blk_batch_look_before(&bq->batch, finished)) {
		return false;
	}
	now = loop_now_ns();
	end = MIN(now + BLK_BATCH_LOOK_NS, bq->batch_start_ns + BLK_BATCH_NS);
	if (now >= end) {
		return false;
	}
	if (look(ring, now, end)) {
		return true;
	}
	blk_batch_vain_before(&bq->batch, finished);
	return false;
}

/* Takes and shows one batch; true if the next one has come already. */
static bool process_batch(struct blk_queue *bq)
{
	struct virtqueue *ring = &bq->queue->ring;
	uint32_t shown;
	uint64_t now;
	bool came;

	do {
		take_requests(bq);
		block_commit(bq->block);
	} while (batch_grows(bq));
	shown = unpublished(bq);
	publish(bq);
	if (ring->in_flight_count != 0 || bq->limit.throttled ||
	    !blk_batch_look_after(&bq->batch, shown)) {
		return false;
	}
	now = loop_now_ns();
	came = look(ring, now, now + BLK_BATCH_LOOK_NS);
	blk_batch_looked_after(&bq->batch, came);
	return came;
}

void blk_process(struct virtio_device *dev, struct virtio_queue *queue)
{
	struct blk_queue *bq = &blk_of(dev)->queues[queue->index];

	if (bq->held) {
		return; /* whoever holds it kicks */
	}
	virtio_queue_begin(queue);
	do {
		uint32_t batches = 1;

		while (process_batch(bq) && batches < BATCHES_MAX) {
			batches++;
		}
		if (bq->limit.throttled) {
			return; /* kicks stay suppressed until the limit's timer */
		}
	} while (virtio_queue_more(queue));
}

/* A group of requests has been completed by the loop. */
static void completed(void *arg)
{
	struct blk_queue *bq = arg;
	struct virtio_device *dev = &bq->blk->dev;

	if ((atomic_load(&dev->state.status) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0) {
		publish(bq);
	} else {
		blk_process(dev, bq->queue);
	}
}

void blk_queue_start(struct virtio_device *dev, struct virtio_queue *queue)
{
	struct blk_queue *bq = &blk_of(dev)->queues[queue->index];
	struct error e;

	if (block_attach(bq->block, &queue->worker->loop, completed, bq, &e) < 0) {
		virtio_needs_reset(dev, e.msg);
	}
}

void blk_queue_stop(struct virtio_device *dev, struct virtio_queue *queue)
{
	struct blk_queue *bq = &blk_of(dev)->queues[queue->index];

	queue_limit_stop(&bq->limit);
	block_detach(bq->block);
	publish(bq);
}

void blk_queue_hold(struct blk_queue *bq)
{
	bq->held = true;
	if (bq->queue->started) {
		block_detach(bq->block);
		publish(bq);
	}
}

int blk_queue_use(struct blk_queue *bq, struct block *next, struct error *e)
{
	int r = bq->queue->started ? block_attach(next, &bq->queue->worker->loop, completed, bq, e)
				   : 0;

	if (r == 0) {
		bq->block = next;
	}
	return r;
}

void blk_queue_release(struct blk_queue *bq)
{
	bq->held = false;
	if (bq->queue->started) {
		virtio_queue_process(bq->queue);
	}
}
