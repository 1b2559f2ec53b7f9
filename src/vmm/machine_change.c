/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can change in a machine while it runs: the file behind a disk, and limits. Main thread, at
 * any time between vm_start() and the end; what concerns a queue is done on its worker, which is
 * waited for.
 *
 * Paths and limits are a client's. Opening a disk happens within main's filter (src/vmm/syscalls.c
 * lists what it takes).
 */
#include "devices/disk.h"

#include <errno.h>

#include "vmm/log.h"
#include "vmm/virtio_blk.h"
#include "vmm/virtio_net.h"

LOG_DOMAIN("vm");

int machine_replace_disk(struct machine *machine, const char *id, const char *path, struct error *e)
{
	struct device *device = machine_find(machine, &disk_kind, id, e);
	struct virtio_device *virtio;
	struct block_config config;
	struct block *next = NULL;
	struct block *old = NULL;
	int r;

	if (device == NULL) {
		return -ENOENT;
	}
	virtio = virtio_of(device);
	config = ((const struct disk *)device->object)->config;
	config.path = path;
	r = block_open_instead(&next, &config, virtio_blk_disk(virtio), e);
	if (r == 0) {
		r = virtio_blk_replace(virtio, next, &old, e);
		if (r < 0) {
			block_close(next);
			(void)error_prefix(e, "'%s'", path);
		}
	}
	if (r < 0) {
		return error_prefix(e, "replace disk %s", device->name);
	}
	disk_warn(device->name, path, next);
	if (old != NULL && next->capacity < old->capacity) {
		log_warn("disk %s: '%s' has %llu bytes, the one before had %llu: what the guest "
			 "keeps beyond that is gone",
			 device->name, path, (unsigned long long)next->capacity,
			 (unsigned long long)old->capacity);
	}
	block_close(old);
	return 0;
}

int machine_limit_disk(struct machine *machine, const char *id,
		       const struct rate_limit_config *limiter, struct error *e)
{
	struct device *device = machine_find(machine, &disk_kind, id, e);

	if (device == NULL) {
		return -ENOENT;
	}
	virtio_blk_limit(virtio_of(device), limiter);
	return 0;
}

int machine_limit_net(struct machine *machine, const char *id, const struct rate_limit_config *rx,
		      const struct rate_limit_config *tx, struct error *e)
{
	struct device *device = machine_find(machine, &net_kind, id, e);

	if (device == NULL) {
		return -ENOENT;
	}
	virtio_net_limit(virtio_of(device), rx, tx);
	return 0;
}
