/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open disk: bytes [0, capacity) that are read, written, flushed, discarded and zeroed, behind a
 * table of operations.
 *
 * A disk that several workers use is a chain of as many struct blocks (`more`), each with an open
 * file and an engine of its own; what follows is about one of them. The host tells each open file
 * once of data that it has lost, so each of them knows, and a FLUSH makes stable what any of them
 * has written.
 *
 * Life: opened by main before the sandbox is entered; then owned by exactly one worker thread,
 * which attaches it to its loop (block_attach), and only that thread calls block_submit(),
 * block_commit(), block_drain() and block_detach(). Another thread may take over after
 * block_detach(), in the same process; an io_uring, once it has been used, stays with the first
 * worker. block_close() is called when no worker uses the disk any more.
 *
 * Batches: block_submit() only queues; block_commit() hands everything queued to the kernel, with
 * one system call if the engine can. done() is called exactly once for each request, on the
 * worker's thread: inside block_commit() if the request completed at once, else from the loop or
 * from block_drain(). done() may submit more (also its own request again); what it submits is
 * committed by whoever called it.
 *
 * Nothing in a request can make the disk grow: ranges beyond the capacity, writes to a read-only
 * disk and abilities that the disk does not have are answered with an error, whatever the caller
 * has checked before.
 *
 * Durability: a write is stable after a FLUSH that was submitted after the write's done(), or at
 * its own done() if it had `fua`. Once the host has failed a sync, it may have dropped the data, so
 * every later FLUSH fails, until the disk is opened anew; writes with `fua` are still judged one by
 * one.
 */
#ifndef VMM_BLOCK_H
#define VMM_BLOCK_H

#include <sys/uio.h>

#include "vmm/error.h"
#include "vmm/loop.h"
#include "vmm/options.h"
#include "vmm/rate_limit.h"
#include "vmm/syscalls.h"
#include "vmm/types.h"

#define BLOCK_SECTOR 512
/* Workers of one disk. */
#define BLOCK_QUEUES_MAX 16
/* Length of a serial number, virtio 1.2 §5.2.6 (VIRTIO_BLK_ID_BYTES); no NUL at full length. */
#define BLOCK_SERIAL_SIZE 20
/* Segments of one request: UIO_MAXIOV of the kernel. */
#define BLOCK_IOV_MAX 1024
/* Bytes of one read or write: the kernel transfers at most 2 GiB - 4 KiB at a time. Longer requests
 * are cut by the engine. */
#define BLOCK_TRANSFER_MAX (GIB(2) - KIB(4))

enum block_engine {
	BLOCK_ENGINE_AUTO = 0, /* uring where the host has it, else sync */
	BLOCK_ENGINE_SYNC,     /* preadv2, pwritev2 and so on, on the worker's thread */
	BLOCK_ENGINE_URING, /* reads, syncs and discards by io_uring; an error that says why not if
			       there is none */
};

enum block_format {
	BLOCK_FORMAT_AUTO =
		0,	  /* raw; refused if the first bytes are those of a known image format */
	BLOCK_FORMAT_RAW, /* raw, the user insists */
};

enum block_lock {
	BLOCK_LOCK_ON = 0,
	BLOCK_LOCK_OFF, /* for file systems that have no locks */
};

/* What a driver may take for granted about its writes (virtio-blk's FLUSH). */
enum block_cache {
	BLOCK_CACHE_WRITEBACK = 0, /* the driver can flush */
	BLOCK_CACHE_UNSAFE,	   /* no FLUSH is offered, and writes are not made stable either */
};

/*
 * Plain data; strings are borrowed during block_open() only. What a disk is made of, and what its
 * device does with it: block_open() uses path, overlay, serial, read_only, engine, format, lock,
 * lock_later, queues, and of cache what is made stable when a disk is closed or given away.
 */
struct block_config {
	const char *id; /* "drive_id" of the API; NULL: "driveN" from its place */
	const char *path;
	/* What is written goes to this file, and `path` is the base under it, which is only read; NULL:
	 * there is none. */
	const char *overlay;
	const char *partuuid; /* root=PARTUUID=..., for a root drive */
	const char *socket;   /* of a vhost-user back end, which is refused; NULL: none */
	bool root;	      /* root=/dev/vda: it becomes the first disk */
	int cache;	      /* enum block_cache */
	struct rate_limit_config limiter;
	bool has_limiter;
	const char *serial; /* at most BLOCK_SERIAL_SIZE printable ASCII characters; NULL: none */
	bool read_only;
	int engine; /* enum block_engine */
	int format; /* enum block_format */
	int lock;   /* enum block_lock */
	/* No option: another process has the disk still. block_open() locks, makes and writes nothing,
	 * and the disk is of no use until block_take_lock(). An overlay has to be there: one that was
	 * just made on another host is when that has written it out (block_sync_ahead()). */
	bool lock_later;
	/* What the guest takes for the size of a sector, 512 or 4096: an image made for the one shows
	 * no partitions on a disk of the other. 0: the host's. */
	int sector;
	uint32_t
		queues; /* of the device, and workers; 0: as many as suit the machine, and here 1 */
};

/* PATH[,ro][,serial=...][,engine=auto|sync|uring] and so on of the flag --disk, into a struct
 * block_config. */
extern const struct option_table block_options;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };
#define BLOCK_OPS 5

/* Caller's storage from block_submit() until done(). */
struct block_request {
	enum block_op op;
	bool fua;   /* WRITE, DISCARD, WRITE_ZEROES: on stable storage before done() */
	bool unmap; /* WRITE_ZEROES: the range may be deallocated; it reads as zeroes either way */
	uint64_t offset, len; /* bytes; READ and WRITE: len is the sum of iov; FLUSH: 0 */
	const struct iovec
		*iov; /* READ, WRITE: unchanged by the engine; entries stay valid until done() */
	uint32_t iov_count; /* at most BLOCK_IOV_MAX */
	/* `result` is 0 or a negative errno. On failure of a READ any part of the buffers may have
	 * been written. */
	void (*done)(struct block_request *req, int result);

	/* The engine's from here. */
	struct block_request *next;
	uint64_t transferred; /* bytes moved so far; after done() of a READ: bytes known good from
				 the start */
	uint8_t stage;
};

struct block_queue {
	struct block_request *head, **tail;
};

struct block;
struct block_dirty;

struct block_ops {
	const char *name; /* "sync", "io_uring", "memory", "fault" */
	/* Worker. NULL: nothing to do. */
	int (*attach)(struct block *b, struct loop *loop, struct error *e);
	void (*detach)(struct block *b);
	/* Worker. Starts all that block_next() gives; may call done(). */
	void (*commit)(struct block *b);
	/* Worker, only while requests are in flight: waits until at least one more is done. NULL:
	 * never in flight after commit. */
	void (*wait)(struct block *b);
	void (*close)(struct block *b); /* frees `b` */
	/* Of the first of a chain: what block_release_lock() and its relatives do of an engine. NULL:
	 * nothing to do. */
	int (*release)(struct block *b, struct error *e);
	int (*take)(struct block *b, struct error *e);
	void (*sync_ahead)(struct block *b);
	bool raw; /* `b` is the first member of a struct raw (src/block/raw.h) */
};

struct block {
	const struct block_ops *ops;
	struct block *more; /* of the same disk, for the next worker; NULL: the last */
	/* The disk that this one is below, and that hands requests of its own callers down as they
	 * are: they are in flight on both, and a group here is one there. NULL: none. */
	struct block *over;
	uint64_t capacity;	/* bytes, multiple of logical_block, constant; 0 is possible */
	uint32_t tail;		/* bytes of the file that do not fill a block: out of reach */
	uint32_t logical_block; /* bytes: 512..4096, power of 2 */
	/* When it was opened, there was a partition table (GPT) for blocks of this size, and none for
	 * its own; 0: no such thing. */
	uint32_t table_block;
	uint32_t
		physical_block; /* bytes: preferred alignment, power of 2, at least logical_block */
	bool read_only;
	bool is_null; /* meant to be empty: /dev/null */
	/* Its lock is not ours, now or yet: all requests end with -EBUSY, and closing it writes
	 * nothing. All of a chain alike. */
	bool unheld;
	/* Who has it next is another process of this host, which has it open already: it sees what this host keeps of the file, and
	 * hears of what is lost of that. Said before a release, by the first of a chain. */
	bool stays_here;
	bool can_discard, can_write_zeroes;
	char serial[BLOCK_SERIAL_SIZE]; /* NUL padded */
	/* What was written; NULL: nobody has wanted to know (block_dirty.h). One of a chain. */
	struct block_dirty *_Atomic dirty;

	/* Worker. */
	struct block_queue pending; /* submitted, not committed */
	uint32_t in_flight;	    /* submitted, not done */
	bool committing;
	void (*completed)(void *arg); /* see block_attach() */
	void *completed_arg;
};

/*
 * Opens, checks and locks a raw disk: a regular file, a block device, or a character device without
 * content (/dev/null), which is an empty disk that nobody locks. A read-only disk takes a
 * read lock on the whole file, another a write lock (open file description locks), so a disk has
 * one writer or any number of readers. Reads the first bytes and writes nothing. Errors name path,
 * reason and cure; ERROR_DISK_LOCKED names the process that holds the disk if it can be found.
 * *ret is the first of config->queues struct blocks; it has the lock.
 */
int block_open(struct block **ret, const struct block_config *config, struct error *e);
/*
 * With `overlay`, the base is opened as a read-only disk is, and locked as such, so many disks share one. The overlay is a
 * regular file, locked for writing; block_open() makes one that is not there, sparse, of the base's size and its own account;
 * an empty file becomes one as well. It remembers its base (disk_witness.h): over another base, or one that has changed, it
 * is refused. src/block/cow.c says what it keeps through a crash.
 */
/* The same for a VM that runs, within its filter: nobody looks who holds a disk that is locked, and no overlay is made. */
int block_open_late(struct block **ret, const struct block_config *config, struct error *e);
/*
 * The same for a disk that is to take the place of `old`. The file may be the one that `old` is on,
 * perhaps with another size: both then share one lock, until both are closed. Its blocks have the
 * size of those of `old`, whatever the configuration says. Neither may have an overlay.
 */
int block_open_instead(struct block **ret, const struct block_config *config, struct block *old,
		       struct error *e);
/* The thread that block_open_instead() is for: all of the chain. Accepts NULL. Nothing may be in
 * flight. */
void block_close(struct block *b);
/*
 * A disk that goes to another process, or back, while both have it open: the lock (both of a disk with an overlay) moves, and
 * with it the right to write. By the thread that owns the machine, within its filter, for the first of a chain, while nothing is
 * in flight and no other disk shares its file (block_open_instead()). With lock=off, and for disks that nobody locks, they do the
 * same but for the lock.
 *
 * Release: what was written is in the file, an overlay's account as well, so that who opens or takes it has the same content; and
 * on stable storage, for the next one cannot hear of what this host loses. With cache=unsafe it need not be stable, but for file
 * systems of other hosts, which would not see it; nor if it `stays_here`, on a raw disk of this host's. Then the lock is dropped, and nothing is written any more. The file stays open.
 * Done already if it is not held. An error (ERROR_DISK: the host cannot keep what was written, now or before): it is held as
 * before, and goes on.
 *
 * Take: of one that was released, or opened with `lock_later`. Errors are those of a start: ERROR_DISK_LOCKED, after 20 ms if need
 * be, without looking who has it; ERROR_DISK if the file has another size than when it was opened, or an overlay's base has changed. Then
 * an overlay's account is read anew, and pages of the file that this host may have from before are forgotten (of block devices, and
 * of file systems of other hosts). Done already if it is held. After an error it is not held, and can be tried again.
 */
int block_release_lock(struct block *b, struct error *e);
int block_take_lock(struct block *b, struct error *e);
/* Has the host begin to write out what it keeps, so that a release has less to wait for. At any time, workers may be at it; does
 * not wait for the end of it, but may for room in the device's queue. What fails is heard of by FLUSH and release. */
void block_sync_ahead(struct block *b);

/* How many there are in the chain. */
uint32_t block_count(const struct block *b);

/*
 * What a disk is made of, for who records or copies it (disk_witness.h, disk_copy.h) while nothing is in flight. Descriptors
 * are the disk's, and good for pread(2), lseek(2) and fstat(2).
 */
struct block_files {
	int fd; /* what is written to: a raw disk's file, or the overlay; -1: a test's disk */
	uint64_t
		size; /* bytes of it that the guest has written or could: a raw disk's, or an overlay's data,
			* without its account, which closing it may change */
	int base; /* under an overlay; -1: there is none */
	uint64_t base_size;
	uint32_t
		unit; /* of an overlay: bytes that are in one of both files, 4 to 64 KiB, a power of 2 */
};
void block_get_files(const struct block *b, struct block_files *ret);
/*
 * Of a disk with an overlay, which has its lock: a bit for each unit of its capacity, set if it is in the overlay and not in the base. By any thread, also while workers use it: they only ever set one, before the request that made it so is done
 * (and noted, block_dirty.h).
 */
void block_get_above(const struct block *b, uint64_t *bits);

/*
 * Worker: from now on completions arrive through `loop`. After a group of done() calls from the
 * loop, completed(arg) is called once (not after block_commit() and block_drain(), whose callers
 * know): the place to publish the group and to submit more.
 */
int block_attach(struct block *b, struct loop *loop, void (*completed)(void *arg), void *arg,
		 struct error *e);
/* Worker: drains first. Accepts a disk that is not attached. */
void block_detach(struct block *b);

/* Queues a request. Never calls done(). */
void block_submit(struct block *b, struct block_request *req);
/* Starts what is queued. Called from within done() it does nothing: the caller of done() does it.
 */
void block_commit(struct block *b);
/* Commits, and waits until nothing is in flight. */
void block_drain(struct block *b);

/* For engines. */
void block_init(struct block *b, const struct block_ops *ops, uint64_t capacity);
void block_queue_init(struct block_queue *q);
void block_queue_push(struct block_queue *q, struct block_request *req);
struct block_request *block_queue_pop(struct block_queue *q);
/* The next request to start, NULL if there is none. Requests that the disk cannot do are answered
 * here and never seen. */
struct block_request *block_next(struct block *b);
/* As block_next(), and leaves it queued. */
struct block_request *block_peek(struct block *b);
/* Counts the request out and calls done(). */
void block_complete(struct block *b, struct block_request *req, int result);
/* Around a group of block_complete() calls from the loop: what they submit is committed at its end,
 * then completed() called. */
void block_group_begin(struct block *b);
void block_group_end(struct block *b);

/*
 * What the thread that owns a disk of either engine calls at run time, for arrays of `struct
 * syscall_rule`. The ring of io_uring is made by block_open(), disabled, with the disk as its only
 * registered file and restricted to operations on it; the first worker enables it.
 */
#define BLOCK_SYSCALL_RULES                                                                  \
	SYSCALL("preadv2"), SYSCALL("pwritev2"), SYSCALL("fdatasync"), SYSCALL("fallocate"), \
		SYSCALL_IF("io_setup", 0, 64 /* AIO_TRANSFERS_MAX */), SYSCALL("io_submit"), \
		SYSCALL("io_getevents"), SYSCALL_IOCTL(0x1277 /* BLKDISCARD */),             \
		SYSCALL("io_uring_enter"),                                                   \
		SYSCALL_IF("io_uring_register", 1, 12 /* IORING_REGISTER_ENABLE_RINGS */)

#endif
