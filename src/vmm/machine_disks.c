/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has the disks of a machine: they go to another process, or back, while both have the machine built (vmm/handover.h, "Disk
 * locks"). What that takes of each disk is src/block's; here it is all or none.
 *
 * The thread that owns the machine, while devices are quiesced: workers have detached from their disks, and attach again when they
 * are resumed. Neither the guest nor a client controls anything here.
 */
#include "devices/disk.h"

#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/virtio_blk.h"

LOG_DOMAIN("vm");

/* NULL: that is no disk. */
static struct block *disk_at(const struct machine *machine, uint32_t i)
{
	const struct device *device = machine->devices[i];

	return device->kind == &disk_kind ? virtio_blk_disk(virtio_of(device)) : NULL;
}

/* Takes those of `mine` back, or lets them go; what fails of that is logged, since somebody hears of a failure already. */
static void undo(const struct machine *machine, const bool mine[MACHINE_DEVICES_MAX],
		 int (*back)(struct block *b, struct error *e))
{
	for (uint32_t i = 0; i < machine->count; i++) {
		struct error e = { 0 };

		if (mine[i] && back(disk_at(machine, i), &e) < 0) {
			log_warn("disk %s: %s", machine->devices[i]->name, e.msg);
		}
	}
}

/* Has all disks `held`, or none changed. */
static int move_all(const struct machine *machine, bool held,
		    int (*there)(struct block *b, struct error *e),
		    int (*back)(struct block *b, struct error *e), struct error *e)
{
	bool mine[MACHINE_DEVICES_MAX] = { false };

	for (uint32_t i = 0; i < machine->count; i++) {
		struct block *b = disk_at(machine, i);
		int r;

		if (b == NULL || b->unheld == !held) {
			continue;
		}
		r = there(b, e);
		if (r < 0) {
			undo(machine, mine, back);
			return error_prefix(e, "disk %s", machine->devices[i]->name);
		}
		mine[i] = true;
	}
	return 0;
}

int machine_release_disks(struct machine *machine, bool stay_here, struct error *e)
{
	for (uint32_t i = 0; i < machine->count; i++) {
		struct block *b = disk_at(machine, i);

		if (b != NULL) {
			b->stays_here = stay_here;
		}
	}
	return move_all(machine, false, block_release_lock, block_take_lock, e);
}

int machine_take_disks(struct machine *machine, struct error *e)
{
	return move_all(machine, true, block_take_lock, block_release_lock, e);
}

void machine_sync_disks(struct machine *machine)
{
	for (uint32_t i = 0; i < machine->count; i++) {
		struct block *b = disk_at(machine, i);

		if (b != NULL) {
			block_sync_ahead(b);
		}
	}
}

bool machine_lacks_disks(const struct machine *machine)
{
	for (uint32_t i = 0; i < machine->count; i++) {
		const struct block *b = disk_at(machine, i);

		if (b != NULL && b->unheld) {
			return true;
		}
	}
	return false;
}
