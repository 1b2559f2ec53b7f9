/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all disks share: the queue of submitted requests, the check of each request against the
 * disk, and the rules of re-entrance. Runs on the worker that owns the disk; no locks. Requests
 * come from a guest by way of a device that has checked them already; they are checked again here
 * because this is the last place before the host's file.
 */
#include "vmm/block.h"

#include <errno.h>

#include "vmm/block_dirty.h"
#include "vmm/overflow.h"

void block_queue_init(struct block_queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

void block_queue_push(struct block_queue *q, struct block_request *req)
{
	req->next = NULL;
	*q->tail = req;
	q->tail = &req->next;
}

struct block_request *block_queue_pop(struct block_queue *q)
{
	struct block_request *req = q->head;

	if (req != NULL) {
		q->head = req->next;
		if (q->head == NULL) {
			q->tail = &q->head;
		}
		req->next = NULL;
	}
	return req;
}

void block_init(struct block *b, const struct block_ops *ops, uint64_t capacity)
{
	*b = (struct block){
		.ops = ops,
		.capacity = capacity,
		.logical_block = BLOCK_SECTOR,
		.physical_block = BLOCK_SECTOR,
	};
	block_queue_init(&b->pending);
}

void block_close(struct block *b)
{
	if (b != NULL) {
		block_dirty_finish(b);
	}
	while (b != NULL) {
		struct block *more = b->more;

		b->ops->close(b);
		b = more;
	}
}

uint32_t block_count(const struct block *b)
{
	uint32_t count = 0;

	for (; b != NULL; b = b->more) {
		count++;
	}
	return count;
}

int block_attach(struct block *b, struct loop *loop, void (*completed)(void *arg), void *arg,
		 struct error *e)
{
	int r = 0;

	b->completed = completed;
	b->completed_arg = arg;
	if (b->ops->attach != NULL) {
		r = b->ops->attach(b, loop, e);
	}
	if (r < 0) {
		b->completed = NULL;
	}
	return r;
}

void block_detach(struct block *b)
{
	block_drain(b);
	if (b->ops->detach != NULL) {
		b->ops->detach(b);
	}
	b->completed = NULL;
}

void block_submit(struct block *b, struct block_request *req)
{
	req->transferred = 0;
	b->in_flight++;
	block_queue_push(&b->pending, req);
}

/* 0, or what a request must be answered with whatever the engine. */
static int check(const struct block *b, const struct block_request *req)
{
	if (b->unheld) {
		return -EBUSY;
	}
	if (!range_within(req->offset, req->len, b->capacity)) {
		return -ERANGE;
	}
	if (b->read_only && req->op != BLOCK_READ && req->op != BLOCK_FLUSH) {
		return -EROFS;
	}
	switch (req->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		return req->iov_count <= BLOCK_IOV_MAX ? 0 : -EINVAL;
	case BLOCK_FLUSH:
		return 0;
	case BLOCK_DISCARD:
		return b->can_discard ? 0 : -EOPNOTSUPP;
	case BLOCK_WRITE_ZEROES:
		return b->can_write_zeroes ? 0 : -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
}

struct block_request *block_peek(struct block *b)
{
	struct block_request *req;

	while ((req = b->pending.head) != NULL) {
		int r = check(b, req);

		if (r == 0 && (req->len != 0 || req->op == BLOCK_FLUSH)) {
			return req;
		}
		(void)block_queue_pop(&b->pending);
		block_complete(b, req, r);
	}
	return NULL;
}

struct block_request *block_next(struct block *b)
{
	return block_peek(b) != NULL ? block_queue_pop(&b->pending) : NULL;
}

void block_complete(struct block *b, struct block_request *req, int result)
{
	VMM_BUG_ON(b->in_flight == 0);
	b->in_flight--;
	if (b->over != NULL) {
		VMM_BUG_ON(b->over->in_flight == 0);
		b->over->in_flight--;
	}
	/* Who wants to know asks the disk that the guest has. Parts of a request are noted as well, which is once too often. */
	block_dirty_note(b->over != NULL ? b->over : b, req);
	req->done(req, result);
}

void block_commit(struct block *b)
{
	if (b->committing) {
		return;
	}
	b->committing = true;
	while (b->pending.head != NULL) {
		b->ops->commit(b);
	}
	b->committing = false;
}

void block_drain(struct block *b)
{
	block_commit(b);
	b->committing = true;
	while (b->in_flight != 0) {
		if (b->pending.head != NULL) {
			b->ops->commit(b);
		} else {
			b->ops->wait(b);
		}
	}
	b->committing = false;
}

void block_group_begin(struct block *b)
{
	b->committing = true;
	if (b->over != NULL) {
		b->over->committing = true;
	}
}

void block_group_end(struct block *b)
{
	b->committing = false;
	block_commit(b);
	if (b->completed != NULL) {
		b->completed(b->completed_arg);
	}
}
