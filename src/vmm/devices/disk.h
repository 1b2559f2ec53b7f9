/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk of the machine: a virtio block device and what is behind it. Shared by disk.c and
 * machine_change.c.
 */
#ifndef VMM_DEVICES_DISK_H
#define VMM_DEVICES_DISK_H

#include "virtio_node.h"
#include "vmm/block.h"

struct disk {
	struct virtio_node node; /* first: see there */
	/* As configured, without strings, which were vm_create()'s caller's. */
	struct block_config config;
};

/* Says what is odd about a disk that has just been opened and is used all the same. */
void disk_warn(const char *name, const char *path, const struct block *block);

#endif
