/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks: from configuration to virtio block devices. Paths are a client's; the files are opened with
 * the rights of the process, before its sandbox.
 */
#include "disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/log.h"
#include "vmm/virtio_blk.h"

LOG_DOMAIN("vm");

_Static_assert(VM_DISKS_MAX <= 'z' - 'a' + 1, "names of disks have one letter");

void disk_warn(const char *name, const char *path, const struct block *block)
{
	if (block->capacity == 0 && !block->is_null) {
		log_warn("disk %s: '%s' is too small for a disk: the guest sees one of 0 bytes "
			 "('truncate -s 4G' gives a file a size)",
			 name, path);
	} else if (block->tail != 0) {
		log_warn(
			"disk %s: the guest does not see the last %u bytes of '%s', which are less "
			"than a block of %u",
			name, block->tail, path, block->logical_block);
	}
	if (block->table_block != 0) {
		log_warn("disk %s: '%s' has a partition table for sectors of %u bytes, and the "
			 "guest "
			 "sees sectors of %u: it finds no partitions (',sector=%u' mends it)",
			 name, path, block->table_block, block->logical_block, block->table_block);
	}
}

static void prepare(struct disk *disk, const struct block_config *config)
{
	disk->config = *config;
	disk->config.lock_later = false; /* what takes its place is locked at once */
	disk->config.id = disk->config.path = disk->config.partuuid = NULL;
	disk->config.overlay = NULL;
	disk->config.serial = disk->config.socket = NULL;
	if (config->cache == BLOCK_CACHE_UNSAFE) {
		virtio_blk_make_unsafe(disk->node.virtio);
	}
	if (config->has_limiter) {
		virtio_blk_init_limit(disk->node.virtio, &config->limiter);
	}
}

static int name_disk(struct device *device, const struct machine *machine, struct error *e)
{
	for (uint32_t i = 0; i < VM_DISKS_MAX; i++) {
		(void)snprintf(device->name, sizeof(device->name), "vd%c", (char)('a' + i));
		if (!machine_has_name(machine, device->name)) {
			return 0;
		}
	}
	(void)error_set(e, ERROR_CONFIG, ENOSPC, "the machine has room for %d disks", VM_DISKS_MAX);
	return error_hint(e, "leave out a disk");
}

static int disk_create(struct device *device, struct machine *machine,
		       const struct vm_config *config, uint32_t index, struct error *e)
{
	struct block_config wanted = config->disks[index];
	struct disk *disk = device->object;
	struct virtio_node *node = &disk->node;
	struct block *block = NULL;
	int r;

	if (wanted.queues == 0) {
		wanted.queues = vm_default_queues(config);
	}
	wanted.lock_later = machine->disks_later;
	r = name_disk(device, machine, e);
	if (r == 0) {
		r = device_take_id(device, wanted.id, e);
	}
	if (r == 0) {
		r = virtio_node_begin(device, machine, &virtio_blk_ops, wanted.queues,
				      SANDBOX_ROLE_BLOCK, e);
	}
	if (r == 0) {
		r = machine->runs ? block_open_late(&block, &wanted, e)
				  : block_open(&block, &wanted, e);
	}
	if (r == 0) {
		r = virtio_blk_create(&node->virtio, device->name, block, machine->mem,
				      node->workers, e);
		if (r < 0) {
			block_close(block);
		}
	}
	if (r < 0) {
		return error_prefix(e, "disk %s", device->name);
	}
	VMM_BUG_ON(block == NULL); /* it has been opened */
	prepare(disk, &wanted);
	disk_warn(device->name, wanted.path, block);
	return virtio_node_wire(device, machine, e);
}

static uint32_t disk_count(const struct vm_config *config)
{
	return config->disk_count;
}

static void read_figures(const struct device *device, void *ret)
{
	virtio_blk_read_counters(virtio_of(device), ret);
}

#define FIGURE(name_, theirs_, total_, help_)                                          \
	{                                                                              \
		.name = #name_, .theirs = (theirs_), .total = DEVICE_TOTAL_##total_,   \
		.help = (help_), .offset = offsetof(struct virtio_blk_counters, name_) \
	}
static const struct device_figure list[] = {
	FIGURE(reads, "read_count", NONE, "Reads that succeeded."),
	FIGURE(read_bytes, NULL, DISK_READ, "Bytes read."),
	FIGURE(writes, "write_count", NONE, "Writes that succeeded."),
	FIGURE(written_bytes, "write_bytes", DISK_WRITTEN, "Bytes written."),
	FIGURE(flushes, "flush_count", NONE, "Flushes that succeeded."),
	FIGURE(discards, NULL, NONE, "Discards, and writes of zeroes, that succeeded."),
	FIGURE(errors, "execute_fails", NONE, "Requests answered with an error."),
	FIGURE(unsupported, NULL, NONE, "Requests of a kind that the disk has not."),
	FIGURE(malformed, "invalid_reqs_count", NONE, "Requests without header or status."),
};
#undef FIGURE
static const struct device_figures figures = {
	.prefix = "disk",
	.theirs = "block",
	.each = true,
	.list = list,
	.count = ARRAY_SIZE(list),
	.read = read_figures,
};
_Static_assert(sizeof(struct virtio_blk_counters) <= DEVICE_FIGURES_SIZE, "figures of a disk");

const struct device_kind disk_kind = {
	.name = "disk",
	.size = sizeof(struct disk),
	.ops = &virtio_node_ops,
	.count = disk_count,
	.create = disk_create,
	.figures = &figures,
};
