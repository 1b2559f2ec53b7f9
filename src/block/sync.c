/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw disks by plain system calls: the synchronous engine, and the blocking steps that the io_uring
 * engine falls back to.
 *
 * Runs on the worker that owns the disk; no locks. The guest controls order, sizes and content of
 * requests, not their place: block.c has checked ranges.
 *
 * Neighbours in one batch that continue each other on the disk are one transfer; several transfers
 * go with one call (aio.c). Durability is done in groups: a FLUSH and a write with `fua` wait until
 * everything else of the batch has been transferred, then one fdatasync() serves them all. That
 * keeps errors apart, too: a failed write is the write's own failure, a failed sync spoils the
 * disk's promise (F2: Linux reports a lost page once and forgets it), which O_DSYNC writes could
 * not tell.
 *
 * The page cache is between us and the disk: a transfer of less than a block of the host's is read,
 * changed and written by the kernel, under the lock of the page.
 *
 * The file may be truncated by others at any time: a read beyond its end is -EIO. It is never
 * mapped, so there is no SIGBUS.
 */
#include "raw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/cleanup.h"

#define PARTIAL_IOV 128 /* entries of a list that is continued in the middle; on the stack */

static int submit(aio_context_t context, long count, struct iocb **list)
{
	return (int)syscall(SYS_io_submit, context, count, list);
}

const struct raw_io raw_io = {
	.preadv2 = preadv2,
	.pwritev2 = pwritev2,
	.fdatasync = fdatasync,
	.fallocate = fallocate,
	.io_submit = submit,
};

static const uint8_t zero_page[PAGE_SIZE_4K];

int raw_init(struct raw *raw, const struct block_ops *ops, struct raw_disk *disk, struct error *e)
{
	struct aio *aio = malloc(sizeof(*aio));
	char *path = disk->path != NULL ? strdup(disk->path) : NULL;

	if (aio == NULL || (disk->path != NULL && path == NULL)) {
		free(aio);
		free(path);
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "disk");
	}
	block_init(&raw->block, ops, disk->capacity);
	raw->block.logical_block = disk->logical_block;
	raw->block.physical_block = disk->physical_block;
	raw->block.read_only = disk->read_only;
	raw->block.can_discard = !disk->read_only;
	raw->block.can_write_zeroes = !disk->read_only;
	memcpy(raw->block.serial, disk->serial, sizeof(disk->serial));
	raw->fd = disk->fd;
	disk->fd = -1;
	raw->first = raw;
	raw->path = path;
	raw->claim = disk->claim;
	disk->claim = -1;
	raw->locks = disk->locks;
	raw->unsafe = disk->unsafe;
	raw->is_remote = disk->is_remote;
	raw->block.unheld = disk->unheld;
	raw->twin = disk->twin;
	if (raw->twin != NULL) {
		raw->twin->twin = raw;
	}
	raw->block.tail = disk->tail;
	raw->block.table_block = disk->table_block;
	raw->host_block = MAX(disk->host_block, 1U);
	raw->is_device = disk->is_device;
	raw->block.is_null = disk->is_null;
	raw->in_memory = disk->in_memory;
	raw->io = &raw_io;
	raw->aio = aio;
	aio_init(aio);
	block_queue_init(&raw->transfers);
	block_queue_init(&raw->sync_waiting);
	return 0;
}

/*
 * Unlocked by word: a registered file outlives its descriptor until the kernel has taken the ring
 * apart, which it does later, and the next machine may be waiting for the disk.
 */
void raw_finish(struct raw *raw)
{
	if (raw->twin != NULL) {
		raw->twin->twin = NULL; /* the lock is its alone from here on */
	} else {
		unlock_disk(raw->fd);
	}
	close_fd(&raw->fd);
	close_fd(&raw->claim);
	aio_finish(raw->aio);
	free(raw->aio);
	free(raw->path);
}

/* The part of the list from `skip` on, as far as it fits. Returns the entries used. */
static int list_from(const struct iovec *iov, uint32_t count, uint64_t skip, struct iovec *ret)
{
	int used = 0;

	for (uint32_t i = 0; i < count && used < PARTIAL_IOV; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		ret[used].iov_base = (uint8_t *)iov[i].iov_base + skip;
		ret[used].iov_len = iov[i].iov_len - skip;
		used++;
		skip = 0;
	}
	return used;
}

/* One call; the number of bytes moved, or a negative errno. */
static ssize_t move(const struct raw *raw, enum block_op op, const struct iovec *iov, int count,
		    uint64_t offset)
{
	ssize_t r;

	do {
		if (op == BLOCK_READ) {
			r = raw->io->preadv2(raw->fd, iov, count, (off_t)offset, 0);
		} else {
			r = raw->io->pwritev2(raw->fd, iov, count, (off_t)offset, 0);
		}
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int raw_transfer(struct raw *raw, struct block_request *req)
{
	struct iovec part[PARTIAL_IOV];

	while (req->transferred < req->len) {
		const struct iovec *iov = req->iov;
		int count = (int)req->iov_count;
		ssize_t moved;

		if (req->transferred != 0) {
			iov = part;
			count = list_from(req->iov, req->iov_count, req->transferred, part);
		}
		moved = move(raw, req->op, iov, count, req->offset + req->transferred);
		if (moved < 0) {
			return (int)moved;
		}
		if (moved == 0) {
			return -EIO; /* the file has become shorter than the disk */
		}
		req->transferred += (uint64_t)moved;
	}
	return 0;
}

/* Zeroes by writing: always works. */
static int write_zeroes(struct raw *raw, uint64_t offset, uint64_t len)
{
	struct iovec iov[PARTIAL_IOV];

	while (len != 0) {
		uint64_t step = 0;
		int count = 0;
		ssize_t moved;

		while (count < PARTIAL_IOV && step < len) {
			uint64_t n = MIN(len - step, (uint64_t)sizeof(zero_page));

			iov[count].iov_base = (void *)(uintptr_t)zero_page;
			iov[count].iov_len = n;
			step += n;
			count++;
		}
		moved = move(raw, BLOCK_WRITE, iov, count, offset);
		if (moved <= 0) {
			return moved < 0 ? (int)moved : -EIO;
		}
		offset += (uint64_t)moved;
		len -= (uint64_t)moved;
	}
	return 0;
}

int raw_fallocate_mode(const struct raw *raw, const struct block_request *req)
{
	if ((req->offset | req->len) % raw->host_block != 0) {
		return -1;
	}
	if (req->op == BLOCK_DISCARD || req->unmap) {
		return raw->no_punch_hole ? -1 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	}
	return raw->no_zero_range ? -1 : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
}

/* The kernel drops cached pages of a range for who has claimed the device; for others of a claimed one it refuses if they are
 * dirty (EBUSY). */
static int deallocation_fd(const struct raw *raw)
{
	return raw->first->claim >= 0 ? raw->first->claim : raw->fd;
}

static int allocate(const struct raw *raw, int mode, const struct block_request *req)
{
	int r;

	do {
		r = raw->io->fallocate(deallocation_fd(raw), mode, (off_t)req->offset,
				       (off_t)req->len);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int deallocate_blocks(struct raw *raw, const struct block_request *req)
{
	int mode = raw_fallocate_mode(raw, req);

	if (mode >= 0) {
		int r = allocate(raw, mode, req);

		if (r != -EOPNOTSUPP) {
			return r;
		}
		if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) {
			raw->no_punch_hole = true;
		} else {
			raw->no_zero_range = true;
		}
	}
	if (req->op == BLOCK_WRITE_ZEROES) {
		return write_zeroes(raw, req->offset, req->len);
	}
	if (raw->is_device) {
		/* A device that can discard but promises no zeroes afterwards has no hole to punch.
		 */
		uint64_t range[2] = { req->offset, req->len };

		if (ioctl(deallocation_fd(raw), BLKDISCARD, range) < 0 && errno == EIO) {
			return -EIO;
		}
	}
	return 0; /* a discard is advice */
}

/* A device zeroes and discards whole blocks of its own; what is left at the ends, where the guest
 * sees smaller ones, is written. */
int raw_deallocate(struct raw *raw, const struct block_request *req)
{
	const uint64_t end = req->offset + req->len;
	struct block_request inner = *req;
	uint64_t inner_end = end - end % raw->host_block;
	bool zeroes = req->op == BLOCK_WRITE_ZEROES;
	int r = 0;

	inner.offset = ALIGN_UP(req->offset, (uint64_t)raw->host_block);
	if (inner.offset >= inner_end) {
		return zeroes ? write_zeroes(raw, req->offset, req->len) : 0;
	}
	inner.len = inner_end - inner.offset;
	if (zeroes) {
		r = write_zeroes(raw, req->offset, inner.offset - req->offset);
	}
	if (r == 0) {
		r = deallocate_blocks(raw, &inner);
	}
	return r == 0 && zeroes ? write_zeroes(raw, inner_end, end - inner_end) : r;
}

int raw_sync(struct raw *raw)
{
	int r;

	if (raw->block.is_null) {
		return 0; /* there is nothing that could be lost, and the call is refused */
	}
	do {
		r = raw->io->fdatasync(raw->fd);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

void raw_synced(struct raw *raw, struct block_queue *synced, int result)
{
	struct block_request *req;

	if (result < 0) {
		raw->sync_failed = true;
	}
	while ((req = block_queue_pop(synced)) != NULL) {
		int r = result;

		if (req->op == BLOCK_FLUSH && raw->sync_failed) {
			r = result < 0 ? result : -EIO;
		}
		block_complete(&raw->block, req, r);
	}
}

void raw_done(struct raw *raw, struct block_request *req, int result)
{
	if (result == 0 && req->fua && req->op != BLOCK_READ && req->op != BLOCK_FLUSH) {
		block_queue_push(&raw->sync_waiting, req);
	} else {
		block_complete(&raw->block, req, result);
	}
}

/* True if `next` can be moved together with `t`, whose list would then have its place in the
 * `room` entries that are left. */
static bool continues(const struct block_request *next, const struct transfer *t, uint32_t room)
{
	return next != NULL && next->op == t->op && next->offset == t->offset + t->len &&
	       next->len <= BLOCK_TRANSFER_MAX - t->len &&
	       (uint64_t)t->iov_count + next->iov_count <= room;
}

/* The next of raw->transfers, with what continues it; `*merged` is where its list may be put. */
static void take_transfer(struct raw *raw, struct transfer *t, struct iovec **merged)
{
	struct block_request *req = block_queue_pop(&raw->transfers);
	uint32_t room = (uint32_t)(raw->aio->merged + BLOCK_IOV_MAX - *merged);

	*t = (struct transfer){
		.op = req->op,
		.iov = req->iov,
		.iov_count = req->iov_count,
		.offset = req->offset,
		.len = MIN(req->len, BLOCK_TRANSFER_MAX),
	};
	block_queue_init(&t->requests);
	block_queue_push(&t->requests, req);
	while (continues(raw->transfers.head, t, room)) {
		req = block_queue_pop(&raw->transfers);
		if (t->iov != *merged) {
			memcpy(*merged, t->iov, t->iov_count * sizeof(*t->iov));
			t->iov = *merged;
		}
		memcpy(*merged + t->iov_count, req->iov, req->iov_count * sizeof(*req->iov));
		t->iov_count += req->iov_count;
		t->len += req->len;
		block_queue_push(&t->requests, req);
	}
	if (t->iov == *merged) {
		*merged += t->iov_count;
	}
}

/* What the common call has left undone is done one by one, so that each request gets its own
 * answer. */
static void finish_transfer(struct raw *raw, struct transfer *t)
{
	uint64_t left = t->moved > 0 ? (uint64_t)t->moved : 0;
	struct block_request *req;

	while ((req = block_queue_pop(&t->requests)) != NULL) {
		req->transferred = MIN(left, req->len);
		left -= req->transferred;
		raw_done(raw, req, raw_transfer(raw, req));
	}
}

void raw_transfer_all(struct raw *raw)
{
	struct aio *aio = raw->aio;

	while (raw->transfers.head != NULL) {
		struct iovec *merged = aio->merged;
		uint32_t limit = raw->io->io_submit == NULL || aio->unusable ? 1 : aio->limit;
		uint32_t count = 0;

		while (raw->transfers.head != NULL && count < limit) {
			take_transfer(raw, &aio->transfers[count++], &merged);
		}
		if (count > 1) {
			aio_transfer(raw, count);
		} else if (aio->transfers[0].iov == aio->merged) {
			aio->transfers[0].moved =
				move(raw, aio->transfers[0].op, aio->transfers[0].iov,
				     (int)aio->transfers[0].iov_count, aio->transfers[0].offset);
		}
		for (uint32_t i = 0; i < count; i++) {
			finish_transfer(raw, &aio->transfers[i]);
		}
	}
}

static void sync_commit(struct block *b)
{
	struct raw *raw = container_of(b, struct raw, block);
	struct block_request *req;

	while ((req = block_next(b)) != NULL) {
		switch (req->op) {
		case BLOCK_READ:
		case BLOCK_WRITE:
			block_queue_push(&raw->transfers, req);
			break;
		case BLOCK_FLUSH:
			block_queue_push(&raw->sync_waiting, req);
			break;
		default:
			raw_done(raw, req, raw_deallocate(raw, req));
			break;
		}
	}
	raw_transfer_all(raw);
	if (raw->sync_waiting.head != NULL) {
		raw_synced(raw, &raw->sync_waiting, raw_sync(raw));
	}
}

static void sync_close(struct block *b)
{
	struct raw *raw = container_of(b, struct raw, block);

	raw_finish(raw);
	free(raw);
}

static const struct block_ops sync_ops = {
	.name = "sync",
	.raw = true,
	.commit = sync_commit,
	.close = sync_close,
	.release = raw_release,
	.take = raw_take,
	.sync_ahead = raw_sync_ahead,
};

int sync_create(struct block **ret, struct raw_disk *disk, struct error *e)
{
	struct raw *raw = calloc(1, sizeof(*raw));
	int r;

	if (raw == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "disk");
	}
	r = raw_init(raw, &sync_ops, disk, e);
	if (r < 0) {
		free(raw);
		return r;
	}
	*ret = &raw->block;
	return 0;
}
