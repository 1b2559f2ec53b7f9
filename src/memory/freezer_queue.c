/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue between a freezer's thread and its taker: freezer_queue.h is the contract.
 *
 * Everything but the copies' pages is allocated at first: whoever copies a page that somebody waits for must not fail. Slots are
 * used again, the last one first; those beyond a few go back to the host when they have been taken.
 *
 * The guest controls how many copies there are, up to one of each chunk. Saved: nothing.
 */
#include "freezer_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "vmm/cleanup.h"

#define PATIENCE_NS 100000000
#define NS_PER_S    1000000000

int freezer_queue_init(struct freezer_queue *queue, uint64_t total, struct error *e)
{
	*queue = (struct freezer_queue){ .total = total, .head = total, .tail = total };
	(void)pthread_mutex_init(&queue->lock, NULL);
	(void)pthread_cond_init(&queue->news, NULL);
	queue->list = calloc(2 * total, sizeof(*queue->list));
	queue->hurried = calloc(total, sizeof(*queue->hurried));
	queue->unused = calloc(total, sizeof(*queue->unused));
	queue->slots = mmap(NULL, total * FREEZER_CHUNK, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (queue->slots == MAP_FAILED) {
		queue->slots = NULL;
	}
	if (queue->list == NULL || queue->hurried == NULL || queue->unused == NULL ||
	    queue->slots == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "guest memory, frozen");
	}
	/* A wish. */
	(void)madvise(queue->slots, total * FREEZER_CHUNK, MADV_HUGEPAGE);
	return 0;
}

void freezer_queue_finish(struct freezer_queue *queue)
{
	if (queue->slots != NULL) {
		(void)munmap(queue->slots, queue->total * FREEZER_CHUNK);
	}
	free(queue->list);
	free(queue->hurried);
	free(queue->unused);
	(void)pthread_cond_destroy(&queue->news);
	(void)pthread_mutex_destroy(&queue->lock);
	*queue = (struct freezer_queue){ 0 };
}

uint8_t *freezer_queue_slot(const struct freezer_queue *queue, uint32_t slot)
{
	return queue->slots + (uint64_t)slot * FREEZER_CHUNK;
}

/* --- the freezer's side -------------------------------------------------------------------------- */

uint32_t freezer_queue_take_slot(struct freezer_queue *queue)
{
	SCOPED_LOCK(&queue->lock);

	return queue->unused_count != 0 ? queue->unused[--queue->unused_count] : queue->used++;
}

uint32_t freezer_queue_used(struct freezer_queue *queue)
{
	SCOPED_LOCK(&queue->lock);

	return queue->used;
}

void freezer_queue_put(struct freezer_queue *queue, const struct freezer_chunk *chunk, bool first)
{
	SCOPED_LOCK(&queue->lock);

	VMM_BUG_ON(first ? queue->head == 0 : queue->tail == 2 * queue->total);
	queue->list[first ? --queue->head : queue->tail++] = *chunk;
	(void)pthread_cond_broadcast(&queue->news);
}

bool freezer_queue_next_hurried(struct freezer_queue *queue, uint32_t *index, uint32_t *chunk)
{
	SCOPED_LOCK(&queue->lock);

	if (queue->hurried_next == queue->hurried_count) {
		return false;
	}
	*index = queue->hurried[queue->hurried_next].index;
	*chunk = queue->hurried[queue->hurried_next++].chunk;
	return true;
}

/* Under the lock. */
static bool to_front(struct freezer_queue *queue, uint32_t index, uint64_t offset)
{
	for (uint64_t i = queue->head; i < queue->tail; i++) {
		const struct freezer_chunk found = queue->list[i];

		if (found.index == index && found.offset == offset) {
			queue->list[i] = queue->list[queue->head];
			queue->list[queue->head] = found;
			return true;
		}
	}
	return false;
}

void freezer_queue_to_front(struct freezer_queue *queue, uint32_t index, uint64_t offset)
{
	SCOPED_LOCK(&queue->lock);

	(void)to_front(queue, index, offset);
}

bool freezer_queue_is_long(struct freezer_queue *queue)
{
	SCOPED_LOCK(&queue->lock);

	return queue->tail - queue->head >= FREEZER_AHEAD;
}

void freezer_queue_add_bytes(struct freezer_queue *queue, uint64_t bytes)
{
	SCOPED_LOCK(&queue->lock);

	queue->bytes += bytes;
}

void freezer_queue_armed(struct freezer_queue *queue)
{
	SCOPED_LOCK(&queue->lock);

	queue->armed = true;
	(void)pthread_cond_broadcast(&queue->news);
}

void freezer_queue_ended(struct freezer_queue *queue)
{
	SCOPED_LOCK(&queue->lock);

	queue->ended = true;
	(void)pthread_cond_broadcast(&queue->news);
}

void freezer_queue_failed(struct freezer_queue *queue, const struct error *why)
{
	SCOPED_LOCK(&queue->lock);

	if (!queue->failed) {
		queue->failed = true;
		queue->failure = *why;
		(void)pthread_cond_broadcast(&queue->news);
	}
}

/* --- the taker's ---------------------------------------------------------------------------------- */

/* Under the lock: until something has happened, or some time has gone by. */
static void await_news(struct freezer_queue *queue)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += PATIENCE_NS;
	if (until.tv_nsec >= NS_PER_S) {
		until.tv_nsec -= NS_PER_S;
		until.tv_sec++;
	}
	(void)pthread_cond_timedwait(&queue->news, &queue->lock, &until);
}

/* Under the lock. */
static int check(const struct freezer_queue *queue, struct error *e)
{
	if (!queue->failed) {
		return 0;
	}
	*e = queue->failure;
	return queue->failure.sys != 0 ? -queue->failure.sys : -EIO;
}

int freezer_queue_check(struct freezer_queue *queue, struct error *e)
{
	SCOPED_LOCK(&queue->lock);

	return check(queue, e);
}

int freezer_queue_await_armed(struct freezer_queue *queue, struct error *e)
{
	SCOPED_LOCK(&queue->lock);

	if (!queue->failed && !queue->armed) {
		await_news(queue);
	}
	return queue->failed ? check(queue, e) : queue->armed;
}

int freezer_queue_take(struct freezer_queue *queue, struct freezer_chunk *chunk, struct error *e)
{
	SCOPED_LOCK(&queue->lock);

	if (!queue->failed && queue->head == queue->tail && !queue->ended) {
		await_news(queue);
	}
	if (queue->failed) {
		return check(queue, e);
	}
	if (queue->head == queue->tail) {
		return queue->ended ? FREEZER_END : FREEZER_LATER;
	}
	*chunk = queue->list[queue->head++];
	return FREEZER_TAKEN;
}

void freezer_queue_hurry(struct freezer_queue *queue, uint32_t index, uint32_t chunk)
{
	SCOPED_LOCK(&queue->lock);

	/* Who asks for more than there are repeats himself. */
	if (!to_front(queue, index, (uint64_t)chunk * FREEZER_CHUNK) &&
	    queue->hurried_count < queue->total) {
		queue->hurried[queue->hurried_count++] =
			(struct freezer_place){ .index = index, .chunk = chunk };
	}
}

void freezer_queue_give_back(struct freezer_queue *queue, uint32_t slot)
{
	if (slot == FREEZER_NO_SLOT) {
		return;
	}
	if (slot >= FREEZER_KEPT) {
		(void)madvise(freezer_queue_slot(queue, slot), FREEZER_CHUNK, MADV_DONTNEED);
	}
	SCOPED_LOCK(&queue->lock);
	queue->unused[queue->unused_count++] = slot;
}
