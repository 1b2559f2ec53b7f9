/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a snapshot remembers of the disks that it does not have: a witness of each (vmm/disk_witness.h), of the file that
 * the guest writes, which of a disk with an overlay is the overlay. Who restores on a disk that has changed since
 * would have a guest whose memory and disk do not fit, so that is refused unless asked for.
 *
 * A disk that cannot be opened, or is no file and no block device, has no witness.
 */
#ifndef VMM_INSTANCE_SAVED_DISKS_H
#define VMM_INSTANCE_SAVED_DISKS_H

#include "vmm/disk_copies.h"
#include "vmm/disk_witness.h"
#include "vmm/json.h"
#include "vmm/vm_config.h"

struct saved_disk {
	char *id, *path;
	bool read_only;
	const char *copy; /* to make of it; borrowed; NULL: none */
	bool reflink;	  /* it has to be one */
	bool copied;
	bool inside; /* a copy of it lies in the snapshot's directory (vmm/disk_copies.h) */
	int fd;	     /* -1: it has no witness */
	bool taken;
	struct disk_witness witness;
};
struct saved_disks {
	uint32_t count;
	bool with_copies; /* of all that are written, in the snapshot's directory */
	int directory;	  /* that, from when there is one; borrowed */
	struct saved_disk list[VM_DISKS_MAX];
};

/* Main: which they are. Accepts a zeroed one; -ENOMEM. */
int saved_disks_init(struct saved_disks *disks, const struct vm_config *vm, struct error *e);
/* Any thread: opens them, and reads what will be read again when the VM stands still. */
void saved_disks_open(struct saved_disks *disks);
/* Main: the copies that an array of disk_copy_options asks for; borrowed. ERROR_NOT_FOUND. */
int saved_disks_want(struct saved_disks *disks, const json_t *copies, struct error *e);
/* Main: a copy in the snapshot's directory of each that is written. ERROR_CONFIG: one has an id that no file can have. */
int saved_disks_want_all(struct saved_disks *disks, struct error *e);
/* The VM stands still: makes them. `go_on` as struct disk_copy. */
int saved_disks_copy(struct saved_disks *disks,
		     bool (*go_on)(void *arg, uint64_t done, uint64_t total), void *arg,
		     struct error *e);
/* Those in the directory are on stable storage; the VM may run. */
int saved_disks_sync(const struct saved_disks *disks, struct error *e);
/* There was no snapshot: removes them, but for those in its directory, which goes as a whole. */
void saved_disks_forget(struct saved_disks *disks);
/* The VM stands still. */
void saved_disks_take(struct saved_disks *disks);
/* {id: witness, ...}; NULL if memory is short. */
json_t *saved_disks_to_json(const struct saved_disks *disks);
/* The ids of those with a copy in the directory; JSON's null: there were to be none. NULL if memory is short. */
json_t *saved_disks_copies_to_json(const struct saved_disks *disks);
void saved_disks_finish(struct saved_disks *disks);

/*
 * Whether the disks of a configuration are as `json` says; those in `others`, an array of disk_override_options, have a new overlay
 * over the disk that is meant: ERROR_DISK names one that is not, and what of it has changed. `copies` are the snapshot's, for the
 * hint. The file controls `json`.
 */
int saved_disks_check(const json_t *json, const struct vm_config *vm, const json_t *others,
		      const struct disk_copies *copies, struct error *e);

#endif
