/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is remembered of a disk that is not copied: enough to notice that it is another one, or has changed. Size, time of
 * the last change, and a checksum (CRC32C) of samples: DISK_WITNESS_PLACES at places that every disk has, its first and last
 * bytes among them, and as many at places that a seed decides. A change elsewhere that leaves the time as it was goes
 * unnoticed: it is a witness, no proof.
 *
 * A block device has no time of change that means anything; its node's is not looked at. Device and inode number are for
 * people: a copy is as good as the original.
 */
#ifndef VMM_DISK_WITNESS_H
#define VMM_DISK_WITNESS_H

#include <jansson.h>

#include "vmm/error.h"
#include "vmm/syscalls.h"
#include "vmm/types.h"

/* Of each kind. */
#define DISK_WITNESS_PLACES 16
#define DISK_WITNESS_BYTES  4096 /* of each sample */

struct disk_witness {
	uint64_t size; /* bytes */
	bool is_device;
	int64_t mtime_s; /* of a file: since 1970; 0 for a device */
	uint32_t mtime_ns;
	uint64_t seed;	 /* of the places that it decides */
	uint32_t sample; /* the checksum */
	uint64_t device, inode;
};

/*
 * Of an open file or block device, of which `size` bytes count. `like` NULL: with a seed of this moment; else with its seed,
 * so that both can be compared. Reads 128 KiB at most, changes nothing (pread64, fstat, clock_gettime). `path` is for the
 * error.
 */
int disk_witness_take(struct disk_witness *ret, int fd, uint64_t size, const char *path,
		      const struct disk_witness *like, struct error *e);
/* 0, or an error that says what of the disk at `path` is not as it was: "size was 1, is 2". `now` was taken like `then`. */
int disk_witness_compare(const struct disk_witness *then, const struct disk_witness *now,
			 const char *path, struct error *e);

/*
 * {"size", "type": "file" | "device", "mtime"?: [SECONDS, NANOSECONDS], "sample": "crc32c:%08x", "seed", "device", "inode"}.
 * NULL if memory is short. Reading: hostile; `what` ("disk 'vda'") is for the error, ERROR_STATE. Keys that it does not know
 * are left alone; device and inode may be missing.
 */
json_t *disk_witness_to_json(const struct disk_witness *witness);
int disk_witness_from_json(struct disk_witness *ret, const json_t *json, const char *what,
			   struct error *e);

/* Of disk_witness_take(). */
#define DISK_WITNESS_SYSCALL_RULES \
	SYSCALL("fstat"), SYSCALL("newfstatat"), SYSCALL("pread64"), SYSCALL("clock_gettime")

#endif
