/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of a VM that is restored with `disks_to`: copies, in a folder, of those that the snapshot's directory has
 * (vmm/disk_copies.h), which stay as they are. The start's thread; main when that has ended.
 */
#ifndef VMM_INSTANCE_RESTORED_DISKS_H
#define VMM_INSTANCE_RESTORED_DISKS_H

#include "vmm/disk_copies.h"
#include "vmm/request.h"

struct restored_disks {
	struct disk_copies copies; /* that the snapshot has */
	json_t *overrides;	   /* of the request, and what it makes of copies */
	int folder;
	bool made[VM_DISKS_MAX]; /* as copies.list */
};

/* Zeroed, but for `folder` -1. What there is, and what the VM's disks will be; makes nothing. */
int restored_disks_init(struct restored_disks *disks, const char *config,
			const struct snapshot_load_request *request, struct error *e);
/* Makes them, of what is in `directory`. `go_on` as struct disk_copy. */
int restored_disks_make(struct restored_disks *disks, const struct snapshot_load_request *request,
			int directory, bool (*go_on)(void *arg, uint64_t done, uint64_t total),
			void *arg, struct error *e);
/* There is no VM: removes what was made. */
void restored_disks_forget(struct restored_disks *disks);
void restored_disks_finish(struct restored_disks *disks);
/* Whether a client's overrides name a file for the drive of that id. */
bool restored_disks_is_named(const json_t *overrides, const char *id);

#endif
