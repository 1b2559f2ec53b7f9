/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk's file copied to a new one: shared with the file system where that can be (a reflink: no byte is moved), else what
 * has data, and holes stay holes. That matters beside the space: of an overlay that is in use, holes mean something
 * (src/block/cow.c), so such a file is copied by this and by nothing else.
 *
 * For a job's thread and its filter: nothing but the calls below, no lock, no state. Nobody may write to the file meanwhile
 * (the VM is paused, and its disks drained), or the copy has some of it and some not.
 */
#ifndef VMM_DISK_COPY_H
#define VMM_DISK_COPY_H

#include "vmm/error.h"
#include "vmm/syscalls.h"
#include "vmm/types.h"

enum disk_copy_way {
	DISK_COPY_ANY,	   /* shared, else copied */
	DISK_COPY_REFLINK, /* shared, else ERROR_NOT_SUPPORTED */
	DISK_COPY_BYTES,   /* copied: what is damaged in the one file later is whole in the other */
};

/* Strings and descriptors are borrowed. */
struct disk_copy {
	int from; /* open for reading: a regular file or a block device; its offset is moved */
	const char *path; /* its name, for errors */
	int folder;	  /* where the copy will be; AT_FDCWD: names are of the working directory */
	const char *name;
	enum disk_copy_way way;
	bool sync; /* on stable storage before it returns, the name not included (fsync the folder) */
	/* Called before each step of at most DISK_COPY_STEP bytes, and at the end; false: stop, which is ERROR_CANCELLED.
	 * `total` is what there will be at most. NULL: nobody asks. */
	bool (*go_on)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};
#define DISK_COPY_STEP MIB(8)

/* *shared (NULL is fine): it is a reflink. After a failure there is no new file; one that was there before is an error, and
 * stays. */
int disk_copy(const struct disk_copy *copy, bool *shared, struct error *e);

#define DISK_COPY_SYSCALL_RULES                                                                  \
	SYSCALL_IF("openat", 2,                                                                  \
		   02 | 0100 | 0200 | 02000000 /* O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC */),           \
		SYSCALL_IOCTL(0x40049409 /* FICLONE */), SYSCALL("copy_file_range"),             \
		SYSCALL("pread64"), SYSCALL("pwrite64"), SYSCALL("lseek"), SYSCALL("ftruncate"), \
		SYSCALL("fsync"), SYSCALL("fstat"), SYSCALL("newfstatat"), SYSCALL("unlinkat"),  \
		SYSCALL("close")

#endif
