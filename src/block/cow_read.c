/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads of a disk with an overlay. One whose blocks are all on one side goes there as it is. Another is cut where the side
 * changes, or where a part has as many list entries as it has room for; its parts are under way together.
 *
 * A block that another worker is just putting into the overlay is read from the base: the write is not complete, and the
 * base is what was there before. Worker, no lock; `present` is atomic.
 */
#include "cow_requests.h"

void cow_read_init(struct cow *cow)
{
	block_queue_init(&cow->waiting);
	for (size_t i = 0; i < COW_SPLITS; i++) {
		cow->splits[i].cow = cow;
		for (size_t k = 0; k < COW_PARTS; k++) {
			cow->splits[i].parts[k].split = &cow->splits[i];
		}
	}
}

/* Where the run of blocks that begins at `at` ends, at most `end`; *present: on which side it is. */
static uint64_t run_end(const struct cow_disk *disk, uint64_t at, uint64_t end, bool *present)
{
	uint64_t block = at >> disk->block_shift;

	*present = cow_present(disk, block);
	do {
		block++;
	} while (block << disk->block_shift < end && cow_present(disk, block) == *present);
	return MIN(block << disk->block_shift, end);
}

/* As much of the outer list as goes into the part's, up to `run`. */
static void fill_list(struct cow_split *split, struct cow_part *part, uint64_t run)
{
	const struct iovec *list = split->outer->iov;
	uint64_t left = run - split->at;
	uint32_t used = 0;

	while (left != 0 && used < COW_IOV) {
		const struct iovec *entry = &list[split->entry];
		uint64_t len = MIN(entry->iov_len - split->skip, left);

		if (len != 0) {
			part->iov[used++] = (struct iovec){
				.iov_base = (uint8_t *)entry->iov_base + split->skip,
				.iov_len = len,
			};
		}
		left -= len;
		split->skip += len;
		if (split->skip == entry->iov_len) {
			split->entry++;
			split->skip = 0;
		}
	}
	part->req.iov = part->iov;
	part->req.iov_count = used;
	part->req.offset = split->at;
	part->req.len = run - split->at - left;
	split->at = run - left;
}

static void part_done(struct block_request *req, int result);

static void start_part(struct cow_split *split, struct cow_part *part)
{
	struct cow *cow = split->cow;
	bool present;
	uint64_t run = run_end(cow->disk, split->at, split->end, &present);

	part->req.op = BLOCK_READ;
	part->req.fua = part->req.unmap = false;
	part->req.done = part_done;
	fill_list(split, part, run);
	split->under_way++;
	cow_start_below(cow, present ? cow->overlay : cow->base, &part->req);
}

static struct cow_split *free_split(struct cow *cow)
{
	for (size_t i = 0; i < COW_SPLITS; i++) {
		if (cow->splits[i].outer == NULL) {
			return &cow->splits[i];
		}
	}
	return NULL;
}

static bool start_split(struct cow *cow, struct block_request *req)
{
	struct cow_split *split = free_split(cow);

	if (split == NULL) {
		return false;
	}
	split->outer = req;
	split->at = req->offset;
	split->end = req->offset + req->len;
	split->entry = 0;
	split->skip = 0;
	split->result = 0;
	for (size_t i = 0; i < COW_PARTS && split->at < split->end; i++) {
		start_part(split, &split->parts[i]);
	}
	return true;
}

static void part_done(struct block_request *req, int result)
{
	struct cow_part *part = container_of(req, struct cow_part, req);
	struct cow_split *split = part->split;
	struct cow *cow = split->cow;
	struct block_request *outer = split->outer;

	split->under_way--;
	if (result < 0 && split->result == 0) {
		split->result = result;
	}
	if (split->result == 0 && split->at < split->end) {
		start_part(split, part);
	}
	if (split->under_way != 0) {
		return;
	}
	split->outer = NULL;
	outer->transferred = split->result == 0 ? outer->len : 0;
	block_complete(&cow->block, outer, split->result);
	outer = block_queue_pop(&cow->waiting);
	if (outer != NULL) {
		(void)start_split(cow, outer); /* there is a free one */
	}
}

void cow_read(struct cow *cow, struct block_request *req)
{
	uint64_t end = req->offset + req->len;
	bool present;

	if (run_end(cow->disk, req->offset, end, &present) == end) {
		block_submit(present ? cow->overlay : cow->base, req);
	} else if (cow->waiting.head != NULL || !start_split(cow, req)) {
		block_queue_push(&cow->waiting, req);
	}
}
