/* SPDX-License-Identifier: Apache-2.0 */
/* A disk in RAM for tests. Runs on the thread that commits; nothing stays in flight. Who shares its
 * bytes sees to it that no two threads use the same ones at a time. */
#include "vmm/block_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct block_memory *to_memory(struct block *b)
{
	return container_of(b, struct block_memory, block);
}

static void transfer(struct block_memory *disk, struct block_request *req)
{
	uint8_t *at = disk->data + req->offset;

	for (uint32_t i = 0; i < req->iov_count; i++) {
		if (req->op == BLOCK_READ) {
			memcpy(req->iov[i].iov_base, at, req->iov[i].iov_len);
		} else {
			memcpy(at, req->iov[i].iov_base, req->iov[i].iov_len);
		}
		at += req->iov[i].iov_len;
		req->transferred += req->iov[i].iov_len;
	}
}

static void memory_commit(struct block *b)
{
	struct block_memory *disk = to_memory(b);
	struct block_request *req;

	disk->commits++;
	while ((req = block_next(b)) != NULL) {
		if (req->op == BLOCK_READ || req->op == BLOCK_WRITE) {
			transfer(disk, req);
		} else if (req->op != BLOCK_FLUSH) {
			memset(disk->data + req->offset, 0, req->len);
		}
		disk->ops[req->op]++;
		disk->fua_writes += req->fua ? 1 : 0;
		block_complete(b, req, 0);
	}
}

static void memory_close(struct block *b)
{
	struct block_memory *disk = to_memory(b);

	if (!disk->borrowed) {
		free(disk->data);
	}
	free(disk);
}

static const struct block_ops memory_ops = {
	.name = "memory",
	.commit = memory_commit,
	.close = memory_close,
};

int block_memory_create(struct block_memory **ret, uint64_t capacity, struct error *e)
{
	struct block_memory *disk = calloc(1, sizeof(*disk));
	uint8_t *data = calloc(1, capacity);

	if (disk == NULL || data == NULL) {
		free(disk);
		free(data);
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "memory disk");
	}
	block_init(&disk->block, &memory_ops, capacity);
	disk->block.can_discard = true;
	disk->block.can_write_zeroes = true;
	disk->data = data;
	*ret = disk;
	return 0;
}

int block_memory_again(struct block_memory **ret, const struct block_memory *first, struct error *e)
{
	struct block_memory *disk = calloc(1, sizeof(*disk));

	if (disk == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "memory disk");
	}
	block_init(&disk->block, &memory_ops, first->block.capacity);
	disk->block.can_discard = true;
	disk->block.can_write_zeroes = true;
	disk->data = first->data;
	disk->borrowed = true;
	*ret = disk;
	return 0;
}
