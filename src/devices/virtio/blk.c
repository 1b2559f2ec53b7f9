/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device (virtio 1.2 §5.2): include/vmm/virtio_blk.h is the contract. blk_queue.c carries
 * requests out.
 *
 * Threads: configuration space under the device's lock on a vCPU; `writeback` is atomic because the
 * worker reads it. A disk is replaced by main, with the lock held so that the queue neither starts
 * nor stops meanwhile, on the worker.
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
	uint8_t writeback = atomic_load(&blk->writeback);

	if (writeback == CACHE_DEFAULT) {
		bool decided = (atomic_load(&blk->dev.status) & VIRTIO_CONFIG_S_FEATURES_OK) != 0;

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

	if ((atomic_load(&dev->status) & VIRTIO_CONFIG_S_FEATURES_OK) == 0 ||
	    !virtio_has_feature(dev, VIRTIO_BLK_F_CONFIG_WCE) || offset > field ||
	    field - offset >= len) {
		return;
	}
	atomic_store(&blk->writeback, ((const uint8_t *)buf)[field - offset] != 0
					      ? CACHE_WRITE_BACK
					      : CACHE_WRITE_THROUGH);
}

static void blk_reset(struct virtio_device *dev)
{
	atomic_store(&blk_of(dev)->writeback, CACHE_DEFAULT);
}

static void blk_destroy(struct virtio_device *dev)
{
	struct virtio_blk *blk = blk_of(dev);

	virtio_device_finish(dev);
	block_close(blk->block);
	if (blk->slots != NULL) {
		(void)munmap(blk->slots, sizeof(*blk->slots));
	}
	free(blk);
}

static int blk_validate(const void *object, struct error *e)
{
	uint8_t writeback = atomic_load(&((const struct virtio_blk *)object)->writeback);

	if (writeback > CACHE_DEFAULT) {
		return error_set(e, ERROR_STATE, EINVAL, "virtio-blk: writeback %u is unknown",
				 writeback);
	}
	return 0;
}

static const struct state_field blk_fields[] = {
	STATE_FIELD(1, struct virtio_blk, writeback, 1),
};
static const struct state_desc blk_state =
	STATE_DESC("virtio-blk", 1, struct virtio_blk, blk_fields, .validate = blk_validate);

static const uint16_t blk_queue_sizes[] = { VIRTIO_BLK_QUEUE_SIZE };
static const char *const blk_queue_names[] = { "disk" };
static const struct syscall_rule blk_rules[] = { BLOCK_SYSCALL_RULES };

const struct virtio_ops virtio_blk_ops = {
	.name = "virtio-blk",
	.id = VIRTIO_ID_BLOCK,
	.queue_count = ARRAY_SIZE(blk_queue_sizes),
	.queue_sizes = blk_queue_sizes,
	.queue_names = blk_queue_names,
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

int virtio_blk_create(struct virtio_device **ret, const char *name, struct block *block,
		      struct guest_memory *mem, struct worker *workers, struct error *e)
{
	struct virtio_blk *blk = calloc(1, sizeof(*blk));
	uint64_t features;
	void *map;
	int r;

	if (blk == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "virtio-blk '%s'", name);
	}
	map = mmap(NULL, sizeof(*blk->slots), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED) {
		free(blk);
		return error_set_sys(e, ERROR_NO_MEMORY, errno, "virtio-blk '%s': requests", name);
	}
	blk->slots = map;
	blk_batch_init(&blk->batch);
	atomic_store(&blk->writeback, CACHE_DEFAULT);
	features = make_config(&blk->config, block);
	r = virtio_device_init(&blk->dev, &virtio_blk_ops, name, mem, features, CONFIG_SIZE,
			       workers, e);
	if (r < 0) {
		(void)munmap(blk->slots, sizeof(*blk->slots));
		free(blk);
		return r;
	}
	queue_limit_init(&blk->limit, &blk->dev.queues[0], &(struct rate_limit_config){ 0 });
	blk->block = block;
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
	queue_limit_init(&blk_of(dev)->limit, &dev->queues[0], config);
}

void virtio_blk_limit(struct virtio_device *dev, const struct rate_limit_config *config)
{
	queue_limit_change(&blk_of(dev)->limit, config);
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
	if (next->read_only != blk->block->read_only) {
		return error_set(e, ERROR_DISK, EINVAL,
				 "it is %s, and the guest counts on the opposite",
				 next->read_only ? "read-only" : "writable");
	}
	return 0;
}

struct swap {
	struct virtio_blk *blk;
	struct block *next;
	int result;
	struct error *e;
};

static void swap_on_worker(void *arg)
{
	struct swap *swap = arg;
	struct virtio_blk *blk = swap->blk;

	if (blk->dev.queues[0].started) {
		swap->result = blk_queue_swap(blk, &blk->dev.queues[0], swap->next, swap->e);
	} else {
		blk->block = swap->next;
	}
}

struct block *virtio_blk_disk(const struct virtio_device *dev)
{
	return blk_of(dev)->block;
}

int virtio_blk_replace(struct virtio_device *dev, struct block *next, struct block **old,
		       struct error *e)
{
	struct virtio_blk *blk = blk_of(dev);
	struct swap swap = { .blk = blk, .next = next, .e = e };
	struct block *before = blk->block;
	int r = check_replacement(blk, next, e);

	if (r < 0) {
		return r;
	}
	memcpy(next->serial, before->serial, sizeof(next->serial));
	{
		SCOPED_LOCK(&dev->lock);
		if (!worker_call(dev->queues[0].worker, swap_on_worker, &swap)) {
			return error_set(e, ERROR_INTERNAL, ECANCELED,
					 "its thread could not be started");
		}
		if (swap.result < 0) {
			return swap.result;
		}
		blk->config.capacity = htole64(next->capacity / BLOCK_SECTOR);
		virtio_config_changed(dev);
	}
	*old = before;
	return 0;
}

const struct virtio_blk_metrics *virtio_blk_metrics(const struct virtio_device *dev)
{
	return &blk_of(dev)->metrics;
}
