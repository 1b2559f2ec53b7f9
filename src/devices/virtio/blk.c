/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device (virtio 1.2 §5.2): include/vmm/virtio_blk.h is the contract. blk_queue.c carries
 * requests out.
 *
 * Threads: configuration space under the device's lock on a vCPU; `writeback` is atomic because
 * workers read it. A disk is replaced by the machine thread, with the lock held so that queues neither start nor
 * stop meanwhile: all workers hold still, then all have the new disk, or none has.
 *
 * Saved: writeback. Requests are completed before a save, so none is ever saved.
 */
#include "blk_device.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"

#define FEATURE(bit) (UINT64_C(1) << (bit))

/* Up to and with unused1[3] after write_zeroes_may_unmap (§5.2.4). */
#define CONFIG_SIZE 60
/* Header and status take a descriptor each. */
#define SEG_MAX (VIRTIO_BLK_QUEUE_SIZE - 2)

/* What the `writeback` field reads as. */
static uint8_t shown_writeback(const struct virtio_blk *blk)
{
	uint8_t writeback = atomic_load(&blk->state.writeback);

	if (writeback == CACHE_DEFAULT) {
		bool decided =
			(atomic_load(&blk->dev.state.status) & VIRTIO_CONFIG_S_FEATURES_OK) != 0;

		return !decided || virtio_has_feature(&blk->dev, VIRTIO_BLK_F_FLUSH) ? 1 : 0;
	}
	return writeback == CACHE_WRITE_BACK ? 1 : 0;
}

static void blk_config_read(struct virtio_device *dev, uint32_t offset, void *buf, uint32_t len)
{
	const struct virtio_blk *blk = blk_of(dev);
	struct virtio_blk_config config = blk->config;

	config.wce = shown_writeback(blk);
	memcpy(buf, (const uint8_t *)&config + offset, len);
}

/* Only the `writeback` field can be written, and only by a driver that has accepted it. */
static void blk_config_write(struct virtio_device *dev, uint32_t offset, const void *buf,
			     uint32_t len)
{
	struct virtio_blk *blk = blk_of(dev);
	const uint32_t field = offsetof(struct virtio_blk_config, wce);

	if ((atomic_load(&dev->state.status) & VIRTIO_CONFIG_S_FEATURES_OK) == 0 ||
	    !virtio_has_feature(dev, VIRTIO_BLK_F_CONFIG_WCE) || offset > field ||
	    field - offset >= len) {
		return;
	}
	atomic_store(&blk->state.writeback, ((const uint8_t *)buf)[field - offset] != 0
						    ? CACHE_WRITE_BACK
						    : CACHE_WRITE_THROUGH);
}

static void blk_reset(struct virtio_device *dev)
{
	atomic_store(&blk_of(dev)->state.writeback, CACHE_DEFAULT);
}

static void blk_free(struct virtio_blk *blk)
{
	if (blk->slots != NULL) {
		(void)munmap(blk->slots, blk->dev.queue_count * sizeof(*blk->slots));
	}
	shared_rate_finish(&blk->rate);
	free(blk->queues);
	free(blk);
}

static void blk_destroy(struct virtio_device *dev)
{
	struct virtio_blk *blk = blk_of(dev);

	block_close(blk->disk);
	virtio_device_finish(dev);
	blk_free(blk);
}

static int blk_validate(const void *object, const void *owner, struct error *e)
{
	const struct virtio_blk_state *state = object;
	uint8_t writeback = atomic_load(&state->writeback);

	(void)owner;
	if (writeback > CACHE_DEFAULT) {
		return error_set(e, ERROR_STATE, EINVAL, "virtio-blk: writeback %u is unknown",
				 writeback);
	}
	return 0;
}

static const struct state_field blk_fields[] = {
	STATE_FIELD(1, struct virtio_blk_state, writeback, 1),
};
static const struct state_desc blk_state = STATE_DESC_IN(struct virtio_blk, state, "virtio-blk", 1,
							 blk_fields, .validate = blk_validate);

static const struct virtio_queue_type blk_queues[] = { { VIRTIO_BLK_QUEUE_SIZE, "disk" } };
static const struct syscall_rule blk_rules[] = { BLOCK_SYSCALL_RULES };

const struct virtio_ops virtio_blk_ops = {
	.name = "virtio-blk",
	.id = VIRTIO_ID_BLOCK,
	.pci_class = 0x018000, /* mass storage, other */
	.queue_types = blk_queues,
	.queue_type_count = ARRAY_SIZE(blk_queues),
	.queue_repeat = 1,
	.state = &blk_state,
	.syscalls = SYSCALL_LIST(blk_rules),
	.config_read = blk_config_read,
	.config_write = blk_config_write,
	.reset = blk_reset,
	.queue_start = blk_queue_start,
	.queue_process = blk_process,
	.queue_stop = blk_queue_stop,
	.destroy = blk_destroy,
};

static uint8_t log2_of(uint32_t power)
{
	return (uint8_t)__builtin_ctz(power);
}

static uint64_t make_config(struct virtio_blk_config *config, const struct block *block)
{
	uint64_t features = FEATURE(VIRTIO_BLK_F_SEG_MAX) | FEATURE(VIRTIO_BLK_F_BLK_SIZE) |
			    FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE) |
			    FEATURE(VIRTIO_BLK_F_TOPOLOGY);
	uint32_t preferred = block->physical_block / block->logical_block;

	config->capacity = htole64(block->capacity / BLOCK_SECTOR);
	config->seg_max = htole32(SEG_MAX);
	config->blk_size = htole32(block->logical_block);
	config->physical_block_exp = log2_of(preferred);
	config->min_io_size = htole16((uint16_t)preferred);
	if (block->more != NULL) {
		config->num_queues = htole16((uint16_t)block_count(block));
		features |= FEATURE(VIRTIO_BLK_F_MQ);
	}
	if (block->read_only) {
		return features | FEATURE(VIRTIO_BLK_F_RO);
	}
	if (block->can_discard) {
		features |= FEATURE(VIRTIO_BLK_F_DISCARD);
		config->max_discard_sectors = htole32(DISCARD_SECTORS_MAX);
		config->max_discard_seg = htole32(VIRTIO_BLK_RANGES_MAX);
		config->discard_sector_alignment = htole32(block->physical_block / BLOCK_SECTOR);
	}
	if (block->can_write_zeroes) {
		features |= FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
		config->max_write_zeroes_sectors = htole32(WRITE_ZEROES_SECTORS_MAX);
		config->max_write_zeroes_seg = htole32(VIRTIO_BLK_RANGES_MAX);
		config->write_zeroes_may_unmap = 1;
	}
	return features;
}

/* What belongs to queues, for `count` of them. */
static int make_queues(struct virtio_blk *blk, uint32_t count)
{
	void *map = mmap(NULL, count * sizeof(*blk->slots), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED) {
		return -errno;
	}
	blk->slots = map;
	blk->queues = aligned_alloc(BLK_LINE, count * sizeof(*blk->queues));
	if (blk->queues == NULL) {
		return -ENOMEM;
	}
	memset(blk->queues, 0, count * sizeof(*blk->queues));
	return 0;
}

int virtio_blk_create(struct virtio_device **ret, const char *name, struct block *disk,
		      struct guest_memory *mem, struct worker *workers, struct error *e)
{
	struct virtio_blk *blk = calloc(1, sizeof(*blk));
	uint32_t count = block_count(disk);
	struct block *block = disk;
	uint64_t features;
	int r;

	if (blk == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "virtio-blk '%s'", name);
	}
	shared_rate_init(&blk->rate);
	atomic_store(&blk->state.writeback, CACHE_DEFAULT);
	features = make_config(&blk->config, disk);
	r = virtio_device_init(&blk->dev, &virtio_blk_ops, name, mem, features, CONFIG_SIZE, count,
			       workers, e);
	if (r < 0) {
		blk_free(blk);
		return r;
	}
	r = make_queues(blk, count);
	if (r < 0) {
		virtio_device_finish(&blk->dev);
		blk_free(blk);
		return error_set_sys(e, ERROR_NO_MEMORY, -r, "virtio-blk '%s': requests", name);
	}
	for (uint32_t i = 0; i < count; i++, block = block->more) {
		struct blk_queue *bq = &blk->queues[i];

		bq->blk = blk;
		bq->queue = &blk->dev.queues[i];
		bq->block = block;
		bq->slots = &blk->slots[i];
		blk_batch_init(&bq->batch);
		queue_limit_init(&bq->limit, &blk->rate, bq->queue);
	}
	blk->disk = disk;
	*ret = &blk->dev;
	return 0;
}

void virtio_blk_make_unsafe(struct virtio_device *dev)
{
	blk_of(dev)->unsafe = true;
	dev->features_offered &= ~(FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE));
}

void virtio_blk_init_limit(struct virtio_device *dev, const struct rate_limit_config *config)
{
	shared_rate_change(&blk_of(dev)->rate, config);
}

void virtio_blk_limit(struct virtio_device *dev, const struct rate_limit_config *config)
{
	struct virtio_blk *blk = blk_of(dev);

	shared_rate_change(&blk->rate, config);
	for (uint32_t i = 0; i < dev->queue_count; i++) {
		queue_limit_wake(&blk->queues[i].limit);
	}
}

/* What the guest has been told and cannot be told anew. */
static int check_replacement(const struct virtio_blk *blk, const struct block *next,
			     struct error *e)
{
	uint32_t told = le32toh(blk->config.blk_size);

	if (next->logical_block > told) {
		return error_set(e, ERROR_DISK, EINVAL,
				 "its blocks have %u bytes, and the guest counts on %u",
				 next->logical_block, told);
	}
	if (next->read_only != blk->disk->read_only) {
		return error_set(e, ERROR_DISK, EINVAL,
				 "it is %s, and the guest counts on the opposite",
				 next->read_only ? "read-only" : "writable");
	}
	if (block_count(next) != blk->dev.queue_count) {
		return error_set(e, ERROR_INTERNAL, EINVAL,
				 "it was opened for %u queues, and the device has %u",
				 block_count(next), blk->dev.queue_count);
	}
	return 0;
}

/* Something to be done on the worker of a queue. */
struct turn {
	struct blk_queue *bq;
	struct block *next; /* for use */
	int result;
	struct error *e;
};

static void hold(void *arg)
{
	blk_queue_hold(((struct turn *)arg)->bq);
}

static void use(void *arg)
{
	struct turn *turn = arg;

	turn->result = blk_queue_use(turn->bq, turn->next, turn->e);
}

/* Back to the disk that another was to replace: a failure leaves the queue without one. */
static void use_again(void *arg)
{
	struct turn *turn = arg;
	struct error ignored;

	if (blk_queue_use(turn->bq, turn->next, &ignored) < 0) {
		virtio_needs_reset(&turn->bq->blk->dev, ignored.msg);
	}
}

static void let_go(void *arg)
{
	struct turn *turn = arg;

	if (turn->bq->queue->started) {
		block_detach(turn->bq->block);
	}
}

static void go_on(void *arg)
{
	blk_queue_release(((struct turn *)arg)->bq);
}

/* Calls fn on the workers of the first `count` queues. */
static void on_workers(struct virtio_blk *blk, uint32_t count, void (*fn)(void *arg),
		       struct block *disk)
{
	for (uint32_t i = 0; i < count; i++) {
		struct turn turn = { .bq = &blk->queues[i], .next = disk };

		(void)worker_call(blk->dev.queues[i].worker, fn, &turn);
		disk = disk != NULL ? disk->more : NULL;
	}
}

static int hold_all(struct virtio_blk *blk, struct error *e)
{
	for (uint32_t i = 0; i < blk->dev.queue_count; i++) {
		struct turn turn = { .bq = &blk->queues[i] };

		if (!worker_call(blk->dev.queues[i].worker, hold, &turn)) {
			on_workers(blk, i, use_again, blk->disk);
			on_workers(blk, i, go_on, NULL);
			return error_set(e, ERROR_INTERNAL, ECANCELED,
					 "its thread could not be started");
		}
	}
	return 0;
}

/* All queues hold still. */
static int use_all(struct virtio_blk *blk, struct block *next, struct error *e)
{
	struct block *block = next;

	for (uint32_t i = 0; i < blk->dev.queue_count; i++, block = block->more) {
		struct turn turn = { .bq = &blk->queues[i], .next = block, .e = e };

		(void)worker_call(blk->dev.queues[i].worker, use, &turn);
		if (turn.result < 0) {
			on_workers(blk, i, let_go, NULL);
			on_workers(blk, blk->dev.queue_count, use_again, blk->disk);
			return turn.result;
		}
	}
	return 0;
}

struct block *virtio_blk_disk(const struct virtio_device *dev)
{
	return blk_of(dev)->disk;
}

int virtio_blk_replace(struct virtio_device *dev, struct block *next, struct block **old,
		       struct error *e)
{
	struct virtio_blk *blk = blk_of(dev);
	int r = check_replacement(blk, next, e);

	if (r < 0) {
		return r;
	}
	for (struct block *block = next; block != NULL; block = block->more) {
		memcpy(block->serial, blk->disk->serial, sizeof(block->serial));
	}
	SCOPED_LOCK(&dev->lock);
	r = hold_all(blk, e);
	if (r < 0) {
		return r;
	}
	r = use_all(blk, next, e);
	if (r == 0) {
		*old = blk->disk;
		blk->disk = next;
		blk->config.capacity = htole64(next->capacity / BLOCK_SECTOR);
		virtio_config_changed(dev);
	}
	on_workers(blk, dev->queue_count, go_on, NULL);
	return r;
}

void virtio_blk_read_counters(const struct virtio_device *dev, struct virtio_blk_counters *ret)
{
	const struct virtio_blk *blk = blk_of(dev);

	*ret = (struct virtio_blk_counters){ 0 };
	for (uint32_t i = 0; i < dev->queue_count; i++) {
		const struct blk_counters *counters = &blk->queues[i].counters;

#define ADD(field) ret->field += atomic_load_explicit(&counters->field, memory_order_relaxed)
		ADD(reads);
		ADD(writes);
		ADD(flushes);
		ADD(discards);
		ADD(read_bytes);
		ADD(written_bytes);
		ADD(errors);
		ADD(unsupported);
		ADD(malformed);
		ADD(batches);
#undef ADD
	}
}
