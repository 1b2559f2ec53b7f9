/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk for tests that fails, shortens, delays and reorders requests by rules, in front of another
 * disk that completes at commit. Runs on the thread that commits.
 */
#include "vmm/block_test.h"

#include <errno.h>
#include <stdlib.h>

/* A request on its way through the inner disk. */
struct passed {
	struct block_request req;
	struct block_fault *fault;
	struct block_request *outer;
	int error; /* what it ends with after having been transferred in part; 0: what the inner
		      disk says */
	struct iovec iov[BLOCK_IOV_MAX];
};

static struct block_fault *to_fault(struct block *b)
{
	return container_of(b, struct block_fault, block);
}

static void passed_done(struct block_request *req, int result)
{
	struct passed *passed = container_of(req, struct passed, req);
	struct block_fault *fault = passed->fault;
	struct block_request *outer = passed->outer;
	int r = passed->error != 0 ? -passed->error : result;

	outer->transferred = req->transferred;
	free(passed);
	block_complete(&fault->block, outer, r);
}

/* Carries `len` bytes of the request out on the inner disk. */
static void pass(struct block_fault *fault, struct block_request *outer, uint64_t len, int error)
{
	struct passed *passed = calloc(1, sizeof(*passed));
	uint64_t left = len;

	if (passed == NULL) {
		block_complete(&fault->block, outer, -ENOMEM);
		return;
	}
	passed->req = *outer;
	passed->req.len = len;
	passed->req.done = passed_done;
	passed->req.iov = passed->iov;
	passed->req.iov_count = 0;
	passed->fault = fault;
	passed->outer = outer;
	passed->error = error;
	for (uint32_t i = 0; i < outer->iov_count && left != 0; i++) {
		passed->iov[i] = outer->iov[i];
		passed->iov[i].iov_len = MIN(outer->iov[i].iov_len, left);
		left -= passed->iov[i].iov_len;
		passed->req.iov_count++;
	}
	block_submit(fault->inner, &passed->req);
	block_commit(fault->inner);
}

/* The rule that this request meets, counted; NULL if none. */
static const struct block_fault_rule *meet(struct block_fault *fault,
					   const struct block_request *req)
{
	for (uint32_t i = 0; i < fault->rule_count; i++) {
		struct block_fault_rule *rule = &fault->rules[i];

		if ((rule->ops >> req->op & 1) == 0) {
			continue;
		}
		if (rule->skip != 0) {
			rule->skip--;
			continue;
		}
		if (rule->count != 0) {
			rule->count--;
			return rule;
		}
	}
	return NULL;
}

static void fault_commit(struct block *b)
{
	struct block_fault *fault = to_fault(b);
	struct block_request *req;

	while ((req = block_next(b)) != NULL) {
		const struct block_fault_rule *rule = meet(fault, req);

		switch (rule != NULL ? rule->kind : BLOCK_FAULT_NONE) {
		case BLOCK_FAULT_ERROR:
			block_complete(b, req, -rule->error);
			break;
		case BLOCK_FAULT_SHORT:
			pass(fault, req, ALIGN_DOWN(req->len / 2, BLOCK_SECTOR), rule->error);
			break;
		case BLOCK_FAULT_HOLD:
			block_queue_push(&fault->held, req);
			fault->held_count++;
			break;
		case BLOCK_FAULT_NONE:
		default:
			pass(fault, req, req->len, 0);
			break;
		}
	}
}

static struct block_request *take_last(struct block_queue *q)
{
	struct block_queue rest;
	struct block_request *req;

	block_queue_init(&rest);
	while ((req = block_queue_pop(q)) != NULL && q->head != NULL) {
		block_queue_push(&rest, req);
	}
	*q = rest;
	if (q->head == NULL) {
		block_queue_init(q);
	}
	return req;
}

static uint32_t release(struct block_fault *fault, uint32_t count)
{
	uint32_t released = 0;

	while (released < count && fault->held_count != 0) {
		struct block_request *req =
			fault->reverse ? take_last(&fault->held) : block_queue_pop(&fault->held);

		fault->held_count--;
		released++;
		pass(fault, req, req->len, 0);
	}
	return released;
}

uint32_t block_fault_release(struct block_fault *fault, uint32_t count)
{
	uint32_t released;

	block_group_begin(&fault->block);
	released = release(fault, count);
	block_group_end(&fault->block);
	return released;
}

static void fault_wait(struct block *b)
{
	(void)release(to_fault(b), 1);
}

static void fault_close(struct block *b)
{
	struct block_fault *fault = to_fault(b);

	block_close(fault->inner);
	free(fault);
}

static const struct block_ops fault_ops = {
	.name = "fault",
	.commit = fault_commit,
	.wait = fault_wait,
	.close = fault_close,
};

int block_fault_create(struct block_fault **ret, struct block *inner, struct error *e)
{
	struct block_fault *fault = calloc(1, sizeof(*fault));

	if (fault == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "fault disk");
	}
	block_init(&fault->block, &fault_ops, inner->capacity);
	fault->block.logical_block = inner->logical_block;
	fault->block.physical_block = inner->physical_block;
	fault->block.read_only = inner->read_only;
	fault->block.can_discard = inner->can_discard;
	fault->block.can_write_zeroes = inner->can_write_zeroes;
	fault->inner = inner;
	block_queue_init(&fault->held);
	*ret = fault;
	return 0;
}

void block_fault_add(struct block_fault *fault, const struct block_fault_rule *rule)
{
	VMM_BUG_ON(fault->rule_count == BLOCK_FAULT_RULES_MAX);
	fault->rules[fault->rule_count++] = *rule;
}

void block_fault_clear(struct block_fault *fault)
{
	fault->rule_count = 0;
}
