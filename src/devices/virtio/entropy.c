/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entropy device (virtio 1.2 §5.4): include/vmm/virtio_entropy.h.
 *
 * Threads: the queue's worker only; no lock of its own. The guest controls how many buffers there
 * are and how they are cut: a request costs one getrandom(2) of bounded size into our buffer, and a
 * copy. Nothing is saved beyond the core's state.
 */
#include "vmm/virtio_entropy.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "queue_limit.h"
#include "vmm/iov.h"

struct virtio_entropy {
	struct virtio_device dev;
	struct shared_rate rate;
	struct queue_limit limit;
	_Atomic uint64_t requests, bytes; /* the worker writes */
};

static struct virtio_entropy *entropy_of(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_entropy, dev);
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* One request. Returns the bytes written. */
static uint32_t fill(const struct virtqueue_chain *chain)
{
	uint8_t bytes[VIRTIO_ENTROPY_REQUEST_MAX];
	size_t want = (size_t)MIN(chain->in_len, (uint64_t)sizeof(bytes));
	ssize_t got = 0;

	if (want == 0) {
		return 0;
	}
	do {
		got = getrandom(bytes, want, 0);
	} while (got < 0 && errno == EINTR);
	if (got < 0) {
		return 0;
	}
	got = (ssize_t)iov_write(chain->iov + chain->out_count, chain->in_count, 0, bytes,
				 (size_t)got);
	explicit_bzero(bytes, want);
	return (uint32_t)got;
}

static void entropy_process(struct virtio_device *dev, struct virtio_queue *queue)
{
	struct virtio_entropy *entropy = entropy_of(dev);
	struct iovec iov[VIRTIO_ENTROPY_QUEUE_SIZE];
	struct virtqueue_chain chain;

	if (entropy->limit.throttled) {
		return;
	}
	virtio_queue_begin(queue);
	do {
		while (!queue_limit_stops(&entropy->limit) &&
		       virtqueue_pop(&queue->ring, &chain, iov, ARRAY_SIZE(iov)) > 0) {
			uint32_t written = fill(&chain);

			count(&entropy->requests, 1);
			count(&entropy->bytes, written);
			queue_limit_take(&entropy->limit, written);
			virtqueue_push_exact(&queue->ring, &chain, written);
		}
		if (entropy->limit.throttled) {
			virtio_queue_publish(queue);
			return; /* kicks stay suppressed until the limit's timer */
		}
	} while (virtio_queue_more(queue));
}

static void entropy_queue_stop(struct virtio_device *dev, struct virtio_queue *queue)
{
	(void)queue;
	queue_limit_stop(&entropy_of(dev)->limit);
}

static void entropy_destroy(struct virtio_device *dev)
{
	struct virtio_entropy *entropy = entropy_of(dev);

	virtio_device_finish(dev);
	shared_rate_finish(&entropy->rate);
	free(entropy);
}

static const struct virtio_queue_type entropy_queues[] = { { VIRTIO_ENTROPY_QUEUE_SIZE, "rng" } };
static const struct syscall_rule entropy_rules[] = { SYSCALL("getrandom") };

const struct virtio_ops virtio_entropy_ops = {
	.name = "virtio-rng",
	.id = VIRTIO_ID_RNG,
	.queue_types = entropy_queues,
	.queue_type_count = ARRAY_SIZE(entropy_queues),
	.syscalls = SYSCALL_LIST(entropy_rules),
	.queue_process = entropy_process,
	.queue_stop = entropy_queue_stop,
	.destroy = entropy_destroy,
};

int virtio_entropy_create(struct virtio_device **ret, const char *name, struct guest_memory *mem,
			  struct worker *workers, struct error *e)
{
	struct virtio_entropy *entropy = calloc(1, sizeof(*entropy));
	int r;

	if (entropy == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "virtio-rng '%s'", name);
	}
	r = virtio_device_init(&entropy->dev, &virtio_entropy_ops, name, mem, 0, 0, 1, workers, e);
	if (r < 0) {
		free(entropy);
		return r;
	}
	shared_rate_init(&entropy->rate);
	queue_limit_init(&entropy->limit, &entropy->rate, &entropy->dev.queues[0]);
	*ret = &entropy->dev;
	return 0;
}

void virtio_entropy_init_limit(struct virtio_device *dev, const struct rate_limit_config *config)
{
	shared_rate_change(&entropy_of(dev)->rate, config);
}

void virtio_entropy_read_counters(const struct virtio_device *dev,
				  struct virtio_entropy_counters *ret)
{
	const struct virtio_entropy *entropy = container_of(dev, const struct virtio_entropy, dev);

	ret->requests = atomic_load_explicit(&entropy->requests, memory_order_relaxed);
	ret->bytes = atomic_load_explicit(&entropy->bytes, memory_order_relaxed);
}
