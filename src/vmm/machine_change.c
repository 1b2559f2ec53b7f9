/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can change in a machine while it runs: the file behind a disk, and limits. Main thread, at
 * any time between vm_start() and the end; what concerns a queue is done on its worker, which is
 * waited for.
 *
 * Paths and limits are a client's. Opening a disk happens within main's filter (src/vmm/syscalls.c
 * lists what it takes).
 */
#include "machine.h"

#include <errno.h>

#include "vmm/log.h"
#include "vmm/virtio_blk.h"
#include "vmm/virtio_net.h"

LOG_DOMAIN("vm");

static struct machine_device *find_disk(struct machine *machine, uint32_t index, struct error *e)
{
	if (index >= machine->disk_count) {
		(void)error_set(e, ERROR_CONFIG, ENOENT, "disk %u: the VM has %u", index,
				machine->disk_count);
		return NULL;
	}
	return machine->devices[index];
}

int machine_replace_disk(struct machine *machine, uint32_t index, const char *path, struct error *e)
{
	struct machine_device *slot = find_disk(machine, index, e);
	struct block_config config;
	struct block *next = NULL;
	struct block *old = NULL;
	int r;

	if (slot == NULL) {
		return -ENOENT;
	}
	config = slot->disk;
	config.path = path;
	r = block_open_instead(&next, &config, virtio_blk_disk(slot->virtio), e);
	if (r == 0) {
		r = virtio_blk_replace(slot->virtio, next, &old, e);
		if (r < 0) {
			block_close(next);
			(void)error_prefix(e, "'%s'", path);
		}
	}
	if (r < 0) {
		return error_prefix(e, "replace disk %s", slot->name);
	}
	machine_warn_of_disk(slot->name, path, next);
	if (old != NULL && next->capacity < old->capacity) {
		log_warn("disk %s: '%s' has %llu bytes, the one before had %llu: what the guest "
			 "keeps beyond that is gone",
			 slot->name, path, (unsigned long long)next->capacity,
			 (unsigned long long)old->capacity);
	}
	block_close(old);
	return 0;
}

int machine_limit_disk(struct machine *machine, uint32_t index,
		       const struct rate_limit_config *limiter, struct error *e)
{
	struct machine_device *slot = find_disk(machine, index, e);

	if (slot == NULL) {
		return -ENOENT;
	}
	virtio_blk_limit(slot->virtio, limiter);
	return 0;
}

int machine_limit_net(struct machine *machine, uint32_t index, const struct rate_limit_config *rx,
		      const struct rate_limit_config *tx, struct error *e)
{
	if (index >= machine->net_count) {
		return error_set(e, ERROR_CONFIG, ENOENT, "network card %u: the VM has %u", index,
				 machine->net_count);
	}
	virtio_net_limit(machine->devices[machine->disk_count + index]->virtio, rx, tx);
	return 0;
}
