/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy on write: a disk that reads what its overlay does not have from a base, and writes to the overlay only. The base is
 * opened read-only and read-locked, so any number of machines stand on one.
 *
 * Below are two raw disks, overlay and base, each with an engine of its own. A request whose blocks are all on one side goes
 * down as it is and costs what it costs there; struct block's `over` has both count it. Only these take more:
 *
 * - A READ that is on both sides is cut into parts, eight under way at a time (cow_read.c).
 * - A WRITE of blocks that the overlay does not have (cow_write.c): what the request leaves out of its first and last block
 *   is read from the base, data and filling go down as neighbours, which the raw engine makes one transfer, those of a batch
 *   with one call; then the states, with one more. Later writes of such a block are raw ones. Reading the base waits, as the
 *   page cache of a raw disk does when less than a page is written.
 * - WRITE_ZEROES, and DISCARD of what is there: holes, and states. A discard of a block that is not in the overlay does
 *   nothing: its content is the base's still.
 *
 * Workers. Each of the disk's has files and engines of its own. They share one bit a block, `present`, which is only ever
 * set, so whoever reads it set goes past the lock for good. Writes of absent blocks hold the disk's lock from the look at
 * the bit to its setting: otherwise one that fills a block from the base could undo what another has just written there.
 * That costs nothing: the kernel takes a file's buffered writes one at a time. What has to be read of the base is read
 * before, since the base does not change.
 *
 * Crashes. A block has a state in the file: absent, fresh or settled (cow.h). Its data is in the host's cache before its
 * state is, and its state before done(): if vmm is killed, the cache has both, and nothing that was completed is lost.
 *
 * If the host loses its power, it may have kept any of what was written since the last sync, in whatever order. A state that
 * came without its data must not show zeroes, so `fresh` is believed only if the file has data for all of the block:
 * file systems give a file its blocks when their content is on the disk (ext4 with data=ordered, XFS, btrfs). Blocks here
 * are as large as the file system's at least, so that it keeps account of each one. Then a block shows its old content, the
 * base's, or its new one. A sync of the file is a sync of both, so what was flushed is there. Three things could break this:
 *
 * - Data without a state, of a write that a crash has cut off: the state of a later write would find it and show it. Such
 *   data is taken away, for good, when the file is opened after a crash; so that this need not be looked for at each
 *   opening, a file that was closed has a mark, which is taken off, for good, before the first absent block is written.
 * - A hole that is meant: it would read as the base. So a block that is about to be zeroed becomes `settled` first, and if it
 *   was fresh, that is made stable: a sync the first time, since a settled block stays so.
 * - Files copied by what turns zeroes into holes, as cp does. At its closing a disk is synced, and all blocks settled, so it
 *   can be copied by anything; an overlay that was not closed wants one that keeps holes and data apart.
 *
 * A file system that has no SEEK_DATA, or gives blocks before their content is written (ext4 with data=writeback), keeps all
 * of this but for the loss of power: there a fresh block may show what such file systems show of any new block.
 *
 * Runs on the worker that owns the disk. The guest controls order and sizes of requests, block.c has checked their ranges.
 * Nothing is saved: the disk is drained before a save.
 */
#include "cow_requests.h"

#include <stdlib.h>

void cow_start_below(struct cow *cow, struct block *below, struct block_request *req)
{
	cow->block.in_flight++; /* below counts it out here, too */
	block_submit(below, req);
}

void cow_finish(struct cow *cow, struct block_request *req, int result)
{
	cow->overlay->in_flight++;
	raw_done(cow_raw(cow->overlay), req, result);
}

/* All of what waits below. Stable writes wait for a sync that nothing else may start. */
static void commit_below(struct cow *cow)
{
	struct block *overlay = cow->overlay;

	do {
		block_commit(overlay);
		block_commit(cow->base);
		if (cow_raw(overlay)->sync_waiting.head != NULL) {
			overlay->committing = true;
			overlay->ops->commit(overlay);
			overlay->committing = false;
		}
	} while (overlay->pending.head != NULL || cow->base->pending.head != NULL);
}

static void cow_commit(struct block *b)
{
	struct cow *cow = cow_of(b);
	struct block_request *req;

	while ((req = block_next(b)) != NULL) {
		switch (req->op) {
		case BLOCK_READ:
			cow_read(cow, req);
			break;
		case BLOCK_WRITE:
			if (cow_all_present(cow->disk, req->offset, req->len)) {
				block_submit(cow->overlay, req);
			} else {
				block_queue_push(&cow->absent, req);
			}
			break;
		case BLOCK_FLUSH:
			block_submit(cow->overlay, req);
			break;
		default:
			block_queue_push(&cow->zeroing, req);
			break;
		}
	}
	cow_write_absent(cow);
	cow_zero(cow);
	commit_below(cow);
}

/* Has everything of what follows from a group of completions below started, then tells the owner. */
static void completed_below(void *arg)
{
	struct cow *cow = arg;

	commit_below(cow);
	block_group_end(&cow->block);
}

static void cow_wait(struct block *b)
{
	struct cow *cow = cow_of(b);
	struct block *below = cow->overlay->in_flight != 0 ? cow->overlay : cow->base;

	below->committing = true;
	below->ops->wait(below);
	below->committing = false;
	commit_below(cow);
}

static int cow_attach(struct block *b, struct loop *loop, struct error *e)
{
	struct cow *cow = cow_of(b);
	int r = block_attach(cow->overlay, loop, completed_below, cow, e);

	if (r == 0) {
		r = block_attach(cow->base, loop, completed_below, cow, e);
		if (r < 0) {
			block_detach(cow->overlay);
		}
	}
	return r;
}

static void cow_detach(struct block *b)
{
	struct cow *cow = cow_of(b);

	block_detach(cow->overlay);
	block_detach(cow->base);
}

static void cow_close(struct block *b)
{
	struct cow *cow = cow_of(b);

	cow_disk_close(cow->disk, cow_raw(cow->overlay));
	block_close(cow->overlay);
	block_close(cow->base);
	free(cow->filling);
	free(cow);
}

/* hold.c sees to the disk itself. */
static void set_below(struct block *b, bool unheld)
{
	for (; b != NULL; b = b->more) {
		cow_of(b)->overlay->unheld = cow_of(b)->base->unheld = unheld;
	}
}

static int cow_release(struct block *b, struct error *e)
{
	struct raw *overlay = cow_raw(cow_of(b)->overlay);
	int r;

	for (struct block *each = b; each != NULL; each = each->more) {
		if (cow_raw(cow_of(each)->overlay)->sync_failed) {
			return raw_refuse_release(overlay, EIO, e);
		}
	}
	r = cow_disk_release(cow_of(b)->disk, overlay, e);
	if (r == 0) {
		raw_let_go(overlay);
		raw_let_go(cow_raw(cow_of(b)->base));
		set_below(b, true);
	}
	return r;
}

static int cow_take(struct block *b, struct error *e)
{
	struct cow *cow = cow_of(b);
	struct raw *overlay = cow_raw(cow->overlay), *base = cow_raw(cow->base);
	int r = raw_take(cow->base, e);

	if (r < 0) {
		return r;
	}
	r = raw_take(cow->overlay, e);
	if (r == 0) {
		r = cow_disk_read(cow->disk, overlay, base, e);
		if (r < 0) {
			raw_let_go(overlay);
		}
	}
	if (r < 0) {
		raw_let_go(base);
	} else {
		set_below(b, false);
	}
	return r;
}

static void cow_sync_ahead(struct block *b)
{
	raw_sync_ahead(cow_of(b)->overlay);
}

static const struct block_ops cow_ops = {
	.name = "cow",
	.attach = cow_attach,
	.detach = cow_detach,
	.commit = cow_commit,
	.wait = cow_wait,
	.close = cow_close,
	.release = cow_release,
	.take = cow_take,
	.sync_ahead = cow_sync_ahead,
};

bool cow_is(const struct block *b)
{
	return b != NULL && b->ops == &cow_ops;
}

void block_get_files(const struct block *b, struct block_files *ret)
{
	*ret = (struct block_files){ .fd = -1, .base = -1 };
	if (cow_is(b)) {
		const struct cow *cow =
			container_of((struct block *)(uintptr_t)b, struct cow, block);

		ret->fd = cow_raw(cow->overlay)->fd;
		ret->size = cow->disk->states_at;
		ret->base = cow_raw(cow->base)->fd;
		ret->base_size = cow->disk->size;
		ret->unit = (uint32_t)cow_block_size(cow->disk);
	} else if (b->ops->raw) {
		ret->fd = cow_raw((struct block *)(uintptr_t)b)->fd;
		ret->size = b->capacity + b->tail;
	}
}

void block_get_above(const struct block *b, uint64_t *bits)
{
	const struct cow *cow = container_of((struct block *)(uintptr_t)b, struct cow, block);
	const struct cow_disk *disk = cow->disk;
	const uint64_t units = (b->capacity + cow_block_size(disk) - 1) >> disk->block_shift;

	for (uint64_t i = 0; i < (units + 63) / 64; i++) {
		bits[i] = atomic_load_explicit(&disk->present[i], memory_order_acquire);
	}
}

/* One worker's; does not take anything over. */
static struct cow *create_one(const struct block *base, struct cow_disk *disk)
{
	struct cow *cow = calloc(1, sizeof(*cow));
	uint8_t *filling = malloc(cow_block_size(disk) * COW_ROUND * 2);
	struct block *b;

	if (cow == NULL || filling == NULL) {
		free(cow);
		free(filling);
		return NULL;
	}
	b = &cow->block;
	block_init(b, &cow_ops, base->capacity);
	b->tail = base->tail;
	b->table_block = base->table_block;
	b->logical_block = base->logical_block;
	b->physical_block = MAX(base->physical_block, (uint32_t)cow_block_size(disk));
	b->can_discard = b->can_write_zeroes = true;
	b->unheld = base->unheld;
	memcpy(b->serial, base->serial, sizeof(b->serial));
	cow->disk = disk;
	cow->filling = filling;
	block_queue_init(&cow->absent);
	block_queue_init(&cow->zeroing);
	cow_read_init(cow);
	return cow;
}

/* Takes the first of a chain off. */
static struct block *take_first(struct block **chain)
{
	struct block *first = *chain;

	VMM_BUG_ON(first == NULL);
	*chain = first->more;
	first->more = NULL;
	return first;
}

int cow_create(struct block **ret, struct block *overlay, struct block *base, struct cow_disk *disk,
	       struct error *e)
{
	struct block *made = NULL, **end = &made;

	for (const struct block *each = base; each != NULL; each = each->more) {
		struct cow *cow = create_one(base, disk);

		if (cow == NULL) {
			goto fail;
		}
		*end = &cow->block;
		end = &cow->block.more;
	}
	for (struct block *b = made; b != NULL; b = b->more) {
		struct cow *cow = cow_of(b);

		cow->overlay = take_first(&overlay);
		cow->base = take_first(&base);
		cow->overlay->capacity = disk->header_at + COW_PAGE;
		cow->overlay->tail = 0;
		cow->overlay->over = cow->base->over = b;
		disk->users++;
	}
	*ret = made;
	return 0;

fail:
	while (made != NULL) {
		struct cow *cow = cow_of(take_first(&made));

		free(cow->filling);
		free(cow);
	}
	return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "disk");
}
