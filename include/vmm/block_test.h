/* SPDX-License-Identifier: Apache-2.0 */
/* Disks for tests: one in RAM, and one that fails on purpose. */
#ifndef VMM_BLOCK_TEST_H
#define VMM_BLOCK_TEST_H

#include "vmm/block.h"

/* A disk in RAM, zeroed. Completes inside block_commit(). Write and flush counts are visible. */
struct block_memory {
	struct block block;
	uint8_t *data;
	uint64_t ops[BLOCK_OPS]; /* requests completed with 0 */
	uint64_t fua_writes;
	uint64_t commits;
	bool borrowed; /* the data */
};
int block_memory_create(struct block_memory **ret, uint64_t capacity, struct error *e);
/* The same bytes for another worker, which are there as long as `first` is; not in its chain yet. */
int block_memory_again(struct block_memory **ret, const struct block_memory *first,
		       struct error *e);

enum block_fault_kind {
	BLOCK_FAULT_NONE = 0,
	BLOCK_FAULT_ERROR, /* fails with `error`, nothing is transferred */
	BLOCK_FAULT_SHORT, /* the first half, rounded down to sectors, is transferred, then `error`
			    */
	BLOCK_FAULT_HOLD,  /* stays in flight until block_fault_release() or a drain */
};

/* Applies to requests with op in `ops` (bit mask of 1 << enum block_op): skips `skip` of them, then
 * hits `count`. */
struct block_fault_rule {
	uint32_t ops;
	uint32_t skip, count;
	enum block_fault_kind kind;
	int error; /* positive errno */
};
#define BLOCK_FAULT_RULES_MAX 8

/* Passes requests on to another disk, except what rules say. Takes the inner disk over on success;
 * it must complete at commit. */
struct block_fault {
	struct block block;
	struct block *inner;
	struct block_fault_rule rules[BLOCK_FAULT_RULES_MAX];
	uint32_t rule_count;
	bool reverse; /* held requests are released last first */
	struct block_queue held;
	uint32_t held_count;
};
int block_fault_create(struct block_fault **ret, struct block *inner, struct error *e);
void block_fault_add(struct block_fault *fault, const struct block_fault_rule *rule);
void block_fault_clear(struct block_fault *fault);
/* Worker: completes up to `count` held requests. Returns how many. */
uint32_t block_fault_release(struct block_fault *fault, uint32_t count);

#endif
