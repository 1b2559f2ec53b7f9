/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of a VM that stall when the test says so: from then on nothing that is asked of them is done,
 * and who waits for that waits, until the test lets them go on. Opening another file stalls as well.
 * The test links with --wrap=block_open and --wrap=block_open_instead.
 */
#ifndef TESTS_UNIT_STALLED_DISK_H
#define TESTS_UNIT_STALLED_DISK_H

#include <pthread.h>
#include <stdlib.h>

#include "harness/check_main.h"
#include "vmm/block.h"

struct stalled {
	struct block block;
	struct block *inner; /* completes at commit */
	struct loop *loop;   /* of its worker */
	struct loop_post go_on;
	bool posted; /* under the lock */
	struct block_queue held;
	struct stalled *next;
};

/* Under the lock. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stalls;
	unsigned held;	  /* requests */
	unsigned waiting; /* threads that wait for one, or for a file to be opened */
	struct stalled *all;
} stall = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* A request on its way through the inner disk. */
struct stalled_pass {
	struct block_request req;
	struct stalled *disk;
	struct block_request *outer;
};

static void stalled_passed(struct block_request *req, int result)
{
	struct stalled_pass *pass = container_of(req, struct stalled_pass, req);
	struct block_request *outer = pass->outer;
	struct stalled *disk = pass->disk;

	outer->transferred = req->transferred;
	free(pass);
	block_complete(&disk->block, outer, result);
}

static void stalled_pass(struct stalled *disk, struct block_request *outer)
{
	struct stalled_pass *pass = calloc(1, sizeof(*pass));

	VMM_BUG_ON(pass == NULL);
	pass->req = *outer;
	pass->req.done = stalled_passed;
	pass->disk = disk;
	pass->outer = outer;
	block_submit(disk->inner, &pass->req);
	block_commit(disk->inner);
}

static unsigned stalled_release(struct stalled *disk)
{
	struct block_request *req;
	unsigned count = 0;

	while ((req = block_queue_pop(&disk->held)) != NULL) {
		count++;
		stalled_pass(disk, req);
	}
	(void)pthread_mutex_lock(&stall.lock);
	stall.held -= count;
	(void)pthread_mutex_unlock(&stall.lock);
	return count;
}

static void stalled_commit(struct block *b)
{
	struct stalled *disk = container_of(b, struct stalled, block);
	struct block_request *req;

	while ((req = block_next(b)) != NULL) {
		bool hold;

		(void)pthread_mutex_lock(&stall.lock);
		hold = stall.stalls;
		stall.held += hold;
		(void)pthread_mutex_unlock(&stall.lock);
		if (hold) {
			block_queue_push(&disk->held, req);
		} else {
			stalled_pass(disk, req);
		}
	}
}

/* The lock is held. */
static void stalled_sleep(void)
{
	stall.waiting++;
	while (stall.stalls) {
		(void)pthread_cond_wait(&stall.changed, &stall.lock);
	}
	stall.waiting--;
}

static void stalled_wait(struct block *b)
{
	struct stalled *disk = container_of(b, struct stalled, block);

	(void)pthread_mutex_lock(&stall.lock);
	stalled_sleep();
	(void)pthread_mutex_unlock(&stall.lock);
	(void)stalled_release(disk);
}

static void stalled_go_on(void *arg)
{
	struct stalled *disk = arg;

	(void)pthread_mutex_lock(&stall.lock);
	disk->posted = false;
	(void)pthread_mutex_unlock(&stall.lock);
	block_group_begin(&disk->block);
	(void)stalled_release(disk);
	block_group_end(&disk->block);
}

static int stalled_attach(struct block *b, struct loop *loop, struct error *e)
{
	struct stalled *disk = container_of(b, struct stalled, block);

	(void)e;
	(void)pthread_mutex_lock(&stall.lock);
	disk->loop = loop;
	disk->next = stall.all;
	stall.all = disk;
	(void)pthread_mutex_unlock(&stall.lock);
	return 0;
}

static void stalled_detach(struct block *b)
{
	struct stalled *disk = container_of(b, struct stalled, block);
	struct stalled **at = &stall.all;
	struct loop *loop = disk->loop;

	(void)pthread_mutex_lock(&stall.lock);
	while (*at != disk) {
		at = &(*at)->next;
	}
	*at = disk->next;
	disk->loop = NULL;
	disk->posted = false;
	(void)pthread_mutex_unlock(&stall.lock);
	loop_post_cancel(loop, &disk->go_on);
}

static void stalled_close(struct block *b)
{
	struct stalled *disk = container_of(b, struct stalled, block);

	block_close(disk->inner);
	free(disk);
}

static const struct block_ops stalled_ops = {
	.name = "stalled",
	.attach = stalled_attach,
	.detach = stalled_detach,
	.commit = stalled_commit,
	.wait = stalled_wait,
	.close = stalled_close,
};

static struct block *stalled_create(struct block *inner)
{
	struct stalled *disk = calloc(1, sizeof(*disk));

	VMM_BUG_ON(disk == NULL);
	block_init(&disk->block, &stalled_ops, inner->capacity);
	disk->block.logical_block = inner->logical_block;
	disk->block.physical_block = inner->physical_block;
	disk->block.read_only = inner->read_only;
	disk->inner = inner;
	disk->go_on = (struct loop_post){ .run = stalled_go_on, .arg = disk };
	block_queue_init(&disk->held);
	return &disk->block;
}

int __real_block_open(struct block **ret, const struct block_config *config, struct error *e);
int __wrap_block_open(struct block **ret, const struct block_config *config, struct error *e);
int __real_block_open_instead(struct block **ret, const struct block_config *config,
			      struct block *old, struct error *e);
int __wrap_block_open_instead(struct block **ret, const struct block_config *config,
			      struct block *old, struct error *e);

int __wrap_block_open(struct block **ret, const struct block_config *config, struct error *e)
{
	struct block_config plain = *config;
	struct block *inner = NULL;
	int r;

	plain.engine = BLOCK_ENGINE_SYNC;
	r = __real_block_open(&inner, &plain, e);
	if (r == 0) {
		*ret = stalled_create(inner);
	}
	return r;
}

int __wrap_block_open_instead(struct block **ret, const struct block_config *config,
			      struct block *old, struct error *e)
{
	struct block_config plain = *config;
	struct block *inner = NULL;
	int r;

	(void)pthread_mutex_lock(&stall.lock);
	stalled_sleep();
	(void)pthread_mutex_unlock(&stall.lock);
	plain.engine = BLOCK_ENGINE_SYNC;
	plain.lock = BLOCK_LOCK_OFF;
	r = __real_block_open_instead(&inner, &plain, old, e);
	if (r == 0) {
		*ret = stalled_create(inner);
	}
	return r;
}

/* From now on disks stall. */
static inline void stall_begin(void)
{
	(void)pthread_mutex_lock(&stall.lock);
	stall.stalls = true;
	(void)pthread_mutex_unlock(&stall.lock);
}

static inline void stall_end(void)
{
	(void)pthread_mutex_lock(&stall.lock);
	stall.stalls = false;
	(void)pthread_cond_broadcast(&stall.changed);
	for (struct stalled *disk = stall.all; disk != NULL; disk = disk->next) {
		if (!disk->posted) {
			disk->posted = true;
			loop_post(disk->loop, &disk->go_on);
		}
	}
	(void)pthread_mutex_unlock(&stall.lock);
}

static inline unsigned stall_held(void)
{
	unsigned held;

	(void)pthread_mutex_lock(&stall.lock);
	held = stall.held;
	(void)pthread_mutex_unlock(&stall.lock);
	return held;
}

/* Threads that wait for a disk. */
static inline unsigned stall_waiting(void)
{
	unsigned waiting;

	(void)pthread_mutex_lock(&stall.lock);
	waiting = stall.waiting;
	(void)pthread_mutex_unlock(&stall.lock);
	return waiting;
}

#endif
