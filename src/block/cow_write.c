/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes of blocks that the overlay does not have, writes of zeroes, and discards: what changes states. cow.c has the rules;
 * the order of the steps here is what makes them true.
 *
 * Writes go in rounds, of requests that have no block in common. A raw engine has carried a plain write out when
 * block_commit() returns, which is what lets a round be one piece of code.
 *
 * Worker, with the disk's lock from the look at the states to their change.
 */
#include "cow_requests.h"

#include "vmm/cleanup.h"

/* States that lie nearer than this to each other, in words, are written together. */
#define WORDS_GAP 512

/* The rest of one block and the beginning of the next. */
#define ZERO_PAGES (2 * COW_BLOCK_MAX / PAGE_SIZE_4K)

static const uint8_t zero_page[PAGE_SIZE_4K];

/* --- a round ------------------------------------------------------------------------------------ */

static void piece_done(struct block_request *req, int result)
{
	struct cow_piece *piece = container_of(req, struct cow_piece, req);
	struct cow_write *write = piece->write;

	write->under_way--;
	if (result < 0 && write->result == 0) {
		write->result = result;
	}
}

static void start_piece(struct cow *cow, struct cow_piece *piece)
{
	piece->write->under_way++;
	cow_start_below(cow, cow->overlay, &piece->req);
}

/* Bytes [from, to) of the base, into the place that they have in the block buffer `into`. Without the lock. */
static int read_filling(struct cow *cow, struct cow_piece *piece, uint64_t from, uint64_t to,
			uint8_t *into)
{
	piece->iov = (struct iovec){ into, to - from };
	piece->req = (struct block_request){ .op = BLOCK_READ,
					     .offset = from,
					     .len = to - from,
					     .iov = &piece->iov,
					     .iov_count = 1 };
	return to > from ? raw_transfer(cow_raw(cow->base), &piece->req) : 0;
}

static void prepare_piece(struct cow_piece *piece, struct cow_write *write)
{
	piece->write = write;
	piece->req.op = BLOCK_WRITE;
	piece->req.done = piece_done;
}

/* False: it has a block in common with one of the round. */
static bool fits(const struct cow *cow, uint64_t first, uint64_t last)
{
	for (uint32_t i = 0; i < cow->round_count; i++) {
		if (first <= cow->round[i].last && last >= cow->round[i].first) {
			return false;
		}
	}
	return cow->round_count < COW_ROUND;
}

/* Adds a WRITE to the round, with what it leaves out of its first and its last block. False: the round is full. */
static bool add_write(struct cow *cow, struct block_request *req)
{
	const struct cow_disk *disk = cow->disk;
	uint64_t end = req->offset + req->len;
	uint64_t first = req->offset >> disk->block_shift, last = (end - 1) >> disk->block_shift;
	uint64_t last_end = MIN((last + 1) << disk->block_shift, disk->size);
	struct cow_write *write = &cow->round[cow->round_count];
	uint8_t *filling = cow->filling + ((uint64_t)cow->round_count << disk->block_shift) * 2;

	if (!fits(cow, first, last)) {
		return false;
	}
	*write = (struct cow_write){ .outer = req, .first = first, .last = last };
	if (!cow_present(disk, first)) {
		write->result = read_filling(cow, &write->head, first << disk->block_shift,
					     req->offset, filling);
	}
	if (write->result == 0 && !cow_present(disk, last)) {
		write->result = read_filling(cow, &write->tail, end, MAX(end, last_end),
					     filling + cow_block_size(disk));
	}
	write->data.req = (struct block_request){
		.offset = req->offset, .len = req->len, .iov = req->iov, .iov_count = req->iov_count
	};
	prepare_piece(&write->head, write);
	prepare_piece(&write->data, write);
	prepare_piece(&write->tail, write);
	cow->round_count++;
	return true;
}

/* As neighbours, which the engine moves together. A block that has come meanwhile wants no filling. */
static void start_write(struct cow *cow, struct cow_write *write)
{
	if (write->head.req.len != 0 && !cow_present(cow->disk, write->first)) {
		start_piece(cow, &write->head);
	}
	start_piece(cow, &write->data);
	if (write->tail.req.len != 0 && !cow_present(cow->disk, write->last)) {
		start_piece(cow, &write->tail);
	}
}

/* Blocks [first, last] have changed their states: in which words they are. */
static void add_words(struct cow *cow, uint64_t first, uint64_t last)
{
	first /= COW_PER_WORD;
	last /= COW_PER_WORD;
	for (uint32_t i = 0; i < cow->words_count; i++) {
		struct cow_words *words = &cow->words[i];

		if (first <= words->last + WORDS_GAP && last + WORDS_GAP >= words->first) {
			words->first = MIN(words->first, first);
			words->last = MAX(words->last, last);
			return;
		}
	}
	cow->words[cow->words_count].first = first;
	cow->words[cow->words_count].last = last;
	cow->words_count++;
}

/* Writes all of them, with one call. */
static int put_words(struct cow *cow)
{
	const struct cow_disk *disk = cow->disk;
	struct cow_write all = { 0 };

	for (uint32_t i = 0; i < cow->words_count; i++) {
		struct cow_words *words = &cow->words[i];
		struct cow_piece *piece = &words->piece;

		piece->iov.iov_base = disk->states + words->first;
		piece->iov.iov_len = (words->last - words->first + 1) * sizeof(*disk->states);
		piece->req = (struct block_request){
			.offset = disk->states_at + words->first * sizeof(*disk->states),
			.len = piece->iov.iov_len,
			.iov = &piece->iov,
			.iov_count = 1,
		};
		prepare_piece(piece, &all);
		start_piece(cow, piece);
	}
	cow->words_count = 0;
	block_commit(cow->overlay);
	VMM_BUG_ON(all.under_way != 0);
	return all.result;
}

/* The data is there: absent blocks become fresh. */
static void note_write(struct cow *cow, const struct cow_write *write)
{
	struct cow_disk *disk = cow->disk;
	bool any = false;

	for (uint64_t block = write->first; block <= write->last; block++) {
		if (!cow_present(disk, block)) {
			cow_set_state(disk, block, COW_FRESH);
			any = true;
		}
	}
	if (any) {
		add_words(cow, write->first, write->last);
	}
}

/*
 * A write has failed, at whatever point: its absent blocks stay absent. What it may have left of data there goes, and as
 * nobody waits for that to be stable, the file is looked through when it is opened next.
 */
static void undo_write(struct cow *cow, const struct cow_write *write)
{
	struct cow_disk *disk = cow->disk;

	for (uint64_t block = write->first; block <= write->last; block++) {
		struct block_request req = { .op = BLOCK_DISCARD,
					     .offset = block << disk->block_shift,
					     .len = cow_block_size(disk) };

		if (!cow_present(disk, block)) {
			cow_set_state(disk, block, COW_ABSENT);
			(void)raw_deallocate(cow_raw(cow->overlay), &req);
		}
	}
	disk->sync_owed = true;
}

static void end_write(struct cow *cow, const struct cow_write *write)
{
	if (write->result < 0) {
		undo_write(cow, write);
		return;
	}
	for (uint64_t block = write->first; block <= write->last; block++) {
		cow_publish(cow->disk, block);
	}
}

static void carry_out(struct cow *cow)
{
	struct cow_disk *disk = cow->disk;
	SCOPED_LOCK(&disk->lock);
	int r = cow_begin(disk, cow_raw(cow->overlay));

	for (uint32_t i = 0; i < cow->round_count; i++) {
		struct cow_write *write = &cow->round[i];

		if (write->result == 0 && r == 0) {
			start_write(cow, write);
		} else if (write->result == 0) {
			write->result = r;
		}
	}
	block_commit(cow->overlay);
	for (uint32_t i = 0; i < cow->round_count; i++) {
		VMM_BUG_ON(cow->round[i].under_way != 0);
		if (cow->round[i].result == 0) {
			note_write(cow, &cow->round[i]);
		}
	}
	r = cow->words_count != 0 ? put_words(cow) : 0;
	for (uint32_t i = 0; i < cow->round_count; i++) {
		if (cow->round[i].result == 0) {
			cow->round[i].result = r;
		}
		end_write(cow, &cow->round[i]);
	}
}

static void run_round(struct cow *cow)
{
	uint32_t count = cow->round_count;

	if (count != 0) {
		carry_out(cow);
	}
	cow->round_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		cow_finish(cow, cow->round[i].outer, cow->round[i].result);
	}
}

void cow_write_absent(struct cow *cow)
{
	struct block_request *req;

	while ((req = block_queue_pop(&cow->absent)) != NULL) {
		if (!add_write(cow, req)) {
			run_round(cow);
			(void)add_write(cow, req);
		}
	}
	run_round(cow);
}

/* --- zeroes ------------------------------------------------------------------------------------- */

/* A WRITE of ours, which is waited for. */
struct own_write {
	struct block_request req;
	int result;
};

static void own_done(struct block_request *req, int result)
{
	container_of(req, struct own_write, req)->result = result;
}

/* Less than a block at the end of a range: bytes like others. */
static int write_zeroes(struct cow *cow, uint64_t from, uint64_t to)
{
	struct iovec iov[ZERO_PAGES];
	struct own_write own = { .req = { .op = BLOCK_WRITE,
					  .offset = from,
					  .len = to - from,
					  .iov = iov,
					  .done = own_done } };

	while (from < to) {
		uint64_t n = MIN(to - from, (uint64_t)sizeof(zero_page));

		iov[own.req.iov_count++] =
			(struct iovec){ (void *)(uintptr_t)zero_page, (size_t)n };
		from += n;
	}
	if (own.req.len == 0) {
		return 0;
	}
	cow->block.in_flight++;
	(void)add_write(cow, &own.req);
	run_round(cow);
	return own.result;
}

/* Fresh blocks of the range become settled, for good: from then on their holes are zeroes. */
static int settle_range(struct cow_disk *disk, struct raw *overlay, uint64_t first, uint64_t end)
{
	bool any = false;
	int r;

	for (uint64_t block = first; (block = cow_find(disk, block, end, 1U << COW_FRESH)) < end;
	     block++) {
		cow_set_state(disk, block, COW_SETTLED);
		any = true;
	}
	if (!any && !disk->sync_owed) {
		return 0;
	}
	r = cow_put_states(disk, overlay, first, end);
	if (r < 0) {
		disk->sync_owed = true;
	}
	return r < 0 ? r : cow_sync(disk, overlay);
}

/* Absent blocks of the range, in which the file has no data, become settled. */
static int make_present(struct cow_disk *disk, struct raw *overlay, uint64_t first, uint64_t end)
{
	uint64_t block = cow_find(disk, first, end, 1U << COW_ABSENT);
	int r;

	if (block == end) {
		return 0;
	}
	for (; block < end; block++) {
		if (!cow_present(disk, block)) {
			cow_set_state(disk, block, COW_SETTLED);
		}
	}
	r = cow_put_states(disk, overlay, first, end);
	for (block = first; block < end; block++) {
		if (r == 0) {
			cow_publish(disk, block);
		} else if (!cow_present(disk, block)) {
			cow_set_state(disk, block, COW_ABSENT);
		}
	}
	return r;
}

/* Whole blocks [first, end). */
static int zero_blocks(struct cow *cow, const struct block_request *req, uint64_t first,
		       uint64_t end)
{
	struct cow_disk *disk = cow->disk;
	struct raw *overlay = cow_raw(cow->overlay);
	struct block_request inner = *req;
	SCOPED_LOCK(&disk->lock);
	int r;

	if (req->op == BLOCK_DISCARD &&
	    cow_find(disk, first, end, 1U << COW_FRESH | 1U << COW_SETTLED) == end) {
		return 0;
	}
	inner.offset = first << disk->block_shift;
	inner.len = (end - first) << disk->block_shift;
	r = cow_begin(disk, overlay);
	if (r == 0) {
		r = settle_range(disk, overlay, first, end);
	}
	if (r == 0) {
		r = raw_deallocate(overlay, &inner);
	}
	if (r == 0 && req->op == BLOCK_WRITE_ZEROES) {
		r = make_present(disk, overlay, first, end);
	}
	return r;
}

static int zero(struct cow *cow, const struct block_request *req)
{
	const struct cow_disk *disk = cow->disk;
	const uint64_t offset = req->offset, limit = offset + req->len;
	uint64_t first = (offset + cow_block_size(disk) - 1) >> disk->block_shift;
	uint64_t end = limit == disk->size ? disk->blocks : limit >> disk->block_shift;
	bool zeroes = req->op == BLOCK_WRITE_ZEROES;
	int r = 0;

	if (first >= end) {
		return zeroes ? write_zeroes(cow, offset, limit) : 0;
	}
	if (zeroes) {
		r = write_zeroes(cow, offset, first << disk->block_shift);
	}
	if (r == 0) {
		r = zero_blocks(cow, req, first, end);
	}
	if (r == 0 && zeroes && end << disk->block_shift < limit) {
		r = write_zeroes(cow, end << disk->block_shift, limit);
	}
	return r;
}

void cow_zero(struct cow *cow)
{
	struct block_request *req;

	while ((req = block_queue_pop(&cow->zeroing)) != NULL) {
		cow_finish(cow, req, zero(cow, req));
	}
}
