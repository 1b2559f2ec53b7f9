/* SPDX-License-Identifier: Apache-2.0 */
/* What vmm snapshot does with the copies of disks in a snapshot's directory (vmm/disk_copies.h). Main thread. */
#ifndef VMM_SRC_CLI_SNAPSHOT_DISKS_H
#define VMM_SRC_CLI_SNAPSHOT_DISKS_H

#include "progress.h"
#include "vmm/disk_copies.h"
#include "vmm/snapshot.h"

/* Finished after a failure. `directory` is for the error. */
int snapshot_disks_read(struct disk_copies *copies, const struct snapshot_reader *reader,
			const char *directory, struct error *e);
/* snapshot_reader_describe(), with "disk_copies": [{"drive_id", "file", "size", "overlay"}], null if it was not to have any; NULL:
 * nobody can say, and the key is missing. NULL if memory is short. */
json_t *snapshot_disks_describe(const struct snapshot_reader *reader,
				const struct disk_copies *copies);
/* Each against its witness; *count: how many there are. */
int snapshot_disks_verify(const struct snapshot_reader *reader, const char *directory,
			  uint32_t *count, struct error *e);

struct snapshot_disks_move {
	const struct snapshot_reader *reader; /* of `directory` */
	const char *directory, *to;
	struct progress *progress;
};
/* snapshot_merge's also(), of a struct snapshot_disks_move: what is merged has them as well. */
int snapshot_disks_move(void *arg, int directory, struct error *e);

#endif
