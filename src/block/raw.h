/* SPDX-License-Identifier: Apache-2.0 */
/* What the engines for raw files and block devices share. Private to src/block and its tests. */
#ifndef VMM_BLOCK_RAW_H
#define VMM_BLOCK_RAW_H

#include <linux/aio_abi.h>

#include "vmm/block.h"

/* The system calls of the synchronous paths: tests put their own in to fail, interrupt and shorten
 * them. Return as the calls do. */
struct raw_io {
	ssize_t (*preadv2)(int fd, const struct iovec *iov, int count, off_t offset, int flags);
	ssize_t (*pwritev2)(int fd, const struct iovec *iov, int count, off_t offset, int flags);
	int (*fdatasync)(int fd);
	int (*fallocate)(int fd, int mode, off_t offset, off_t len);
	/* NULL: one call for each transfer. */
	int (*io_submit)(aio_context_t context, long count, struct iocb **list);
};
extern const struct raw_io raw_io;

/* A disk that has been opened and checked, without its engine. */
struct raw_disk {
	int fd;
	uint64_t capacity;
	uint32_t tail; /* bytes of the file behind it */
	uint32_t logical_block, physical_block;
	uint32_t host_block;  /* a device's own; 1: a file's, which has none */
	uint32_t table_block; /* see struct block */
	bool read_only;
	bool is_device;
	bool is_null;	/* a character device without content, such as /dev/null */
	bool in_memory; /* the file system keeps its files in RAM: no transfer has anything to wait
			   for */
	char serial[BLOCK_SERIAL_SIZE];
	struct raw *twin; /* NULL, or whose open file `fd` is, too */
	bool unheld;	  /* it is locked later */
	/* Of the first of a chain. */
	const char *path; /* borrowed; NULL: another one */
	int claim;	  /* see struct raw */
	bool locks, unsafe, is_remote;
};

/* Transfers of one call of io_submit(). */
#define AIO_TRANSFERS_MAX 64

/* Neighbours that are moved together: one transfer. */
struct transfer {
	struct block_queue requests;
	enum block_op op;
	const struct iovec *iov;
	uint32_t iov_count;
	uint64_t offset, len;
	int64_t moved; /* bytes, or a negative errno */
};

/* See aio.c. */
struct aio {
	aio_context_t context; /* 0: not made yet */
	bool unusable;	       /* this host has none */
	uint32_t limit;	       /* transfers of the next call */
	struct transfer transfers[AIO_TRANSFERS_MAX];
	struct iocb iocbs[AIO_TRANSFERS_MAX];
	struct iovec merged[BLOCK_IOV_MAX]; /* lists of transfers with several requests */
};

struct raw {
	struct block block;
	int fd; /* owned */
	uint32_t host_block;
	/* Another disk on the same open file, and so with the same lock; NULL: none. Main. */
	struct raw *twin;
	struct raw *first; /* of the chain */
	/* What hold.c needs, of the first of a chain. */
	char *path; /* owned; NULL: another one of the chain */
	/* Of a device that we write to, an open file with O_EXCL: nobody mounts it; -1. Changes while no
	 * worker is there only. */
	int claim;
	bool locks;	/* there is a lock to be taken: not with lock=off, nor for /dev/null */
	bool unsafe;	/* nothing needs to be stable */
	bool is_remote; /* on a file system whose files other hosts write to, behind our page cache */
	bool is_device, in_memory;
	bool no_zero_range; /* the file system has no FALLOC_FL_ZERO_RANGE */
	bool no_punch_hole;
	bool sync_failed; /* the host may have dropped data that a guest believes written: no FLUSH
			     succeeds any more */
	struct block_queue transfers;	 /* READ and WRITE for raw_transfer_all() */
	struct block_queue sync_waiting; /* FLUSH, and FUA writes that have been transferred */
	struct aio *aio;		 /* allocated, touched as far as it is needed */
	const struct raw_io *io;
};

/* Takes disk->fd and disk->claim over on success. */
int raw_init(struct raw *raw, const struct block_ops *ops, struct raw_disk *disk, struct error *e);
/* Unlocks and closes the file, frees what raw_init() has allocated. */
void raw_finish(struct raw *raw);

/* Blocking; continue from req->transferred. 0 or a negative errno. */
int raw_transfer(struct raw *raw, struct block_request *req);
/* Blocking: all of raw->transfers, neighbours together, several with one call. */
void raw_transfer_all(struct raw *raw);
/* Blocking: as many of `count` transfers as one call takes, results in `moved`; the others have 0
 * there. */
void aio_transfer(struct raw *raw, uint32_t count);
void aio_init(struct aio *aio);
void aio_finish(struct aio *aio);

/* Blocking: DISCARD or WRITE_ZEROES by whatever way the file has. */
int raw_deallocate(struct raw *raw, const struct block_request *req);
/* The fallocate() mode that does all of `req` best; -1 if only slower ways are left. */
int raw_fallocate_mode(const struct raw *raw, const struct block_request *req);
/* Blocking. */
int raw_sync(struct raw *raw);
/* Completes all of `synced` (FLUSH and FUA requests) with what a sync that was started after they
 * were queued returned. */
void raw_synced(struct raw *raw, struct block_queue *synced, int result);
/* A request has been carried out with `result`: completes it, or queues it for the next sync. */
void raw_done(struct raw *raw, struct block_request *req, int result);

/* block_open() and its relatives without what lies over raw disks. `running`: within the filter of a VM that runs. `old`
 * NULL: it takes nobody's place. */
int raw_open(struct block **ret, const struct block_config *config, struct block *old, bool running,
	     struct error *e);

int sync_create(struct block **ret, struct raw_disk *disk, struct error *e);
/* -ENOSYS, -EPERM and so on, with the error filled, if this host has no usable io_uring. */
int uring_create(struct block **ret, struct raw_disk *disk, struct error *e);

/* hold.c: the operations of block_release_lock() and its relatives, of both engines. */
int raw_release(struct block *b, struct error *e);
int raw_take(struct block *b, struct error *e);
void raw_sync_ahead(struct block *b);
/* The last step of a release: the lock, and the claim. What is neither locked nor claimed is left alone. */
void raw_let_go(struct raw *raw);
/* The host has lost what was written to one of the chain: it is not for others. */
int raw_refuse_release(const struct raw *raw, int sys, struct error *e);
/* A block device of which `fd` is one: *claim is ours, or stays if the kernel does not say. ERROR_DISK_LOCKED: it is in use by
 * this host. */
int raw_claim_device(int fd, const char *path, int *claim, struct error *e);

/* Locks the whole file. ERROR_DISK_LOCKED if somebody else has it; a holder that no process is may
 * go away, and is waited for: 90 ms; 20 ms and without looking for who it is if a machine is
 * `running`. */
int lock_disk(int fd, const char *path, bool read_only, bool running, struct error *e);
/* Before closing: an io_uring keeps the file, and with it the lock, for a moment longer. */
void unlock_disk(int fd);

#endif
