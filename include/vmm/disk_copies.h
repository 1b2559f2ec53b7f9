/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copies of disks that a snapshot's directory has beside its two files: `disk-ID` of each disk that the guest writes, as it
 * was in the moment of the snapshot; of a disk with an overlay, of the overlay. Which there are, and a witness of each
 * (vmm/disk_witness.h), is in the snapshot's configuration; src/instance/saved_disks.c makes them.
 *
 * What is read here a stranger wrote: an id becomes a part of a file's name only if it is one, a copy is a regular
 * file in that directory and no link out of it, and it is only ever read.
 *
 * Any thread; for a process without a filter. Errors: ERROR_SNAPSHOT: the snapshot, or a copy; ERROR_DISK: the
 * content of one; ERROR_EXISTS: the place of a new one is taken.
 */
#ifndef VMM_DISK_COPIES_H
#define VMM_DISK_COPIES_H

#include <limits.h>

#include "vmm/disk_witness.h"
#include "vmm/json.h"
#include "vmm/vm_config.h"

/* Bytes of an id, so that "disk-ID" and "ID.img" are names of files. */
#define DISK_COPY_ID_MAX 250

struct disk_copy_info {
	const char *id;
	bool overlay; /* it is of the overlay */
	struct disk_witness witness;
};
struct disk_copies {
	bool taken; /* the snapshot was to have copies; there may be none to take */
	uint32_t count;
	struct disk_copy_info list[VM_DISKS_MAX];
	json_t *config; /* has the strings */
};

/* Whether a drive of that id can have a copy; ERROR_CONFIG. */
int disk_copy_check_id(const char *id, struct error *e);
/* "disk-ID". */
void disk_copy_name(const char *id, char name[NAME_MAX + 1]);

/* Out of snapshot_info's `config`. *ret is finished after a failure. */
int disk_copies_read(struct disk_copies *ret, const char *config, struct error *e);
/* Accepts a zeroed one. */
void disk_copies_finish(struct disk_copies *copies);
const struct disk_copy_info *disk_copies_find(const struct disk_copies *copies, const char *id);

/* Where a snapshot is. Borrowed. */
struct disk_copies_place {
	int directory;	  /* snapshot_reader_directory() */
	const char *path; /* for messages */
};
/* *ret is the copy, open for reading; with `verify`, as its witness says. */
int disk_copies_open(const struct disk_copy_info *one, const struct disk_copies_place *place,
		     bool verify, int *ret, struct error *e);

struct disk_copies_to {
	int folder;
	const char *path; /* of the folder, for messages */
	const char *name; /* which is not there */
	bool sync;
	bool (*go_on)(void *arg, uint64_t done, uint64_t total); /* as struct disk_copy */
	void *arg;
};
/* A copy of a copy, shared where that can be. */
int disk_copies_copy(const struct disk_copy_info *one, const struct disk_copies_place *place,
		     bool verify, const struct disk_copies_to *to, struct error *e);

#endif
