/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device without its transport (virtio 1.2 §2.1 status, §2.2 features, §2.5 configuration
 * space, §3.1 initialisation): include/vmm/virtio.h is the contract.
 *
 * Threads: vCPUs call under dev->lock; queues run on their workers without it; a worker sets bits
 * of status and interrupt_status atomically. A queue changes hands by worker_call(): before start
 * and after stop the caller owns it.
 *
 * The doorbell is an eventfd that nobody reads: the worker waits for edges, and every write is one,
 * so a kick costs the worker one system call. What was written before the queue started needs no
 * memory either, because a queue is processed once when it starts.
 *
 * The guest controls status, features, queue registers and configuration writes. Saved: all of
 * those.
 */
#include "vmm/virtio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/overflow.h"

LOG_DOMAIN("virtio");

#define STATUS_DRIVER_BITS                                                                    \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | \
	 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

#define INTERRUPT_USED	 1U
#define INTERRUPT_CONFIG 2U

#define FEATURE(bit) (UINT64_C(1) << (bit))
#define CORE_FEATURES                                                         \
	(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | \
	 FEATURE(VIRTIO_RING_F_EVENT_IDX))
/* §2.2: bits 24 to 41 belong to queues and transports, not to device types. */
#define RESERVED_FEATURES (FEATURE(42) - FEATURE(24))

/* Passes over a queue before the worker looks at its other work: with 256 entries some thousand
 * requests. */
#define PASSES_MAX 16

static const struct state_field device_fields[] = {
	STATE_FIELD(1, struct virtio_device_state, features, 1),
	STATE_FIELD(2, struct virtio_device_state, status, 1),
	STATE_FIELD(3, struct virtio_device_state, interrupt_status, 1),
	STATE_FIELD(4, struct virtio_device_state, config_generation, 1),
};

static bool features_acceptable(const struct virtio_device *dev, uint64_t features)
{
	return (features & ~dev->features_offered) == 0 &&
	       (features & FEATURE(VIRTIO_F_VERSION_1)) != 0 &&
	       (dev->ops->features_valid == NULL || dev->ops->features_valid(dev, features));
}

static int device_validate(const void *object, const void *owner, struct error *e)
{
	/* The steps of §3.1.1 without FAILED and NEEDS_RESET, which may join any of them. */
	static const uint32_t steps[] = { 0x0, 0x1, 0x3, 0xb, 0xf };
	const struct virtio_device_state *state = object;
	const struct virtio_device *dev = owner;
	uint32_t status = atomic_load(&state->status);
	uint32_t step = status & ~(uint32_t)(VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET);
	uint32_t interrupts = atomic_load(&state->interrupt_status);
	bool known = false;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		known |= step == steps[i];
	}
	if (!known) {
		return error_set(e, ERROR_STATE, EINVAL, "virtio device: impossible status 0x%x",
				 status);
	}
	if ((step & VIRTIO_CONFIG_S_FEATURES_OK) != 0 &&
	    !features_acceptable(dev, state->features)) {
		return error_set(
			e, ERROR_STATE, EINVAL,
			"virtio device: features 0x%llx are not among those offered here, 0x%llx",
			(unsigned long long)state->features,
			(unsigned long long)dev->features_offered);
	}
	if ((interrupts & ~(INTERRUPT_USED | INTERRUPT_CONFIG)) != 0) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "virtio device: impossible interrupt status 0x%x", interrupts);
	}
	return 0;
}

const struct state_desc virtio_device_state =
	STATE_DESC_IN(struct virtio_device, state, "virtio-device", 1, device_fields,
		      .validate = device_validate);

uint32_t virtio_device_parts(struct virtio_device *dev, struct state_part parts[VIRTIO_STATES_MAX])
{
	uint32_t count = 0;

	parts[count++] = (struct state_part){ &virtio_device_state, dev };
	if (dev->ops->state != NULL) {
		parts[count++] = (struct state_part){ dev->ops->state, dev };
	}
	for (uint32_t i = 0; i < dev->queue_count; i++) {
		parts[count++] = (struct state_part){ &virtqueue_state, &dev->queues[i].ring };
	}
	return count;
}

static bool has_status(const struct virtio_device *dev, uint32_t bits)
{
	return (atomic_load(&dev->state.status) & bits) != 0;
}

static void notify_config(struct virtio_device *dev)
{
	if (dev->transport != NULL) {
		dev->transport->notify_config(dev);
	}
}

void virtio_needs_reset(struct virtio_device *dev, const char *why)
{
	uint32_t old = atomic_fetch_or(&dev->state.status, VIRTIO_CONFIG_S_NEEDS_RESET);

	if ((old & VIRTIO_CONFIG_S_NEEDS_RESET) != 0) {
		return;
	}
	log_guest(LOG_WARN, "%s '%s' stops until its driver resets it: %s", dev->ops->name,
		  dev->name, why);
	if ((old & VIRTIO_CONFIG_S_DRIVER_OK) != 0) {
		atomic_fetch_or(&dev->state.interrupt_status, INTERRUPT_CONFIG);
		notify_config(dev);
	}
}

/*
 * A change before DRIVER_OK is shown in interrupt_status at once and interrupts at DRIVER_OK. Here
 * the bit is set before status is read, there status is set before the bit is read: one of the two
 * sees the other.
 */
void virtio_config_changed(struct virtio_device *dev)
{
	atomic_fetch_add(&dev->state.config_generation, 1);
	if (atomic_load(&dev->state.status) == 0) {
		return;
	}
	atomic_fetch_or(&dev->state.interrupt_status, INTERRUPT_CONFIG);
	if (has_status(dev, VIRTIO_CONFIG_S_DRIVER_OK)) {
		notify_config(dev);
	}
}

static void kick(struct virtio_queue *queue)
{
	const uint64_t one = 1;

	/* Fails only when the counter is full, which would still be an edge to come. */
	while (write(queue->kick_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}

void virtio_kick(struct virtio_device *dev, uint32_t index)
{
	if (index < dev->queue_count) {
		kick(&dev->queues[index]);
	}
}

void virtio_queue_process(struct virtio_queue *queue)
{
	struct virtio_device *dev = queue->device;

	if (has_status(dev, VIRTIO_CONFIG_S_NEEDS_RESET)) {
		return;
	}
	dev->ops->queue_process(dev, queue);
	if (queue->ring.state.broken) {
		virtio_needs_reset(dev, "the driver broke a virtqueue");
	}
}

static void kicked(struct loop_source *source, uint32_t events)
{
	(void)events;
	virtio_queue_process(container_of(source, struct virtio_queue, kick));
}

static void queue_start(void *arg)
{
	struct virtio_queue *queue = arg;
	struct virtio_device *dev = queue->device;
	struct error e = { 0 };

	queue->started = true;
	if (loop_source_add(&queue->worker->loop, &queue->kick, queue->kick_fd, EPOLLIN | EPOLLET,
			    kicked, &e) < 0) {
		virtio_needs_reset(dev, e.msg);
	}
	if (dev->ops->queue_start != NULL) {
		dev->ops->queue_start(dev, queue);
	}
	virtio_queue_process(queue);
}

static void queue_stop(void *arg)
{
	struct virtio_queue *queue = arg;
	struct virtio_device *dev = queue->device;

	loop_source_remove(&queue->kick);
	if (dev->ops->queue_stop != NULL) {
		dev->ops->queue_stop(dev, queue);
	}
	virtqueue_stop(&queue->ring);
	queue->started = false;
}

static void queues_stop(struct virtio_device *dev)
{
	for (uint32_t i = 0; i < dev->queue_count; i++) {
		if (dev->queues[i].started) {
			(void)worker_call(dev->queues[i].worker, queue_stop, &dev->queues[i]);
		}
	}
}

/* Every ready queue or none. */
static void queues_start(struct virtio_device *dev)
{
	if (dev->dma_off) {
		return;
	}
	for (uint32_t i = 0; i < dev->queue_count; i++) {
		struct virtqueue *ring = &dev->queues[i].ring;

		if (ring->state.ready && !virtqueue_start(ring, dev->mem, dev->state.features)) {
			while (i-- > 0) {
				virtqueue_stop(&dev->queues[i].ring);
			}
			virtio_needs_reset(dev, "size or place of a virtqueue is unusable");
			return;
		}
	}
	for (uint32_t i = 0; i < dev->queue_count; i++) {
		if (dev->queues[i].ring.running) {
			if (!worker_call(dev->queues[i].worker, queue_start, &dev->queues[i])) {
				virtqueue_stop(&dev->queues[i].ring);
				virtio_needs_reset(dev, "its thread could not be started");
			}
		}
	}
}

static void device_reset(struct virtio_device *dev)
{
	queues_stop(dev);
	if (dev->ops->reset != NULL) {
		dev->ops->reset(dev);
	}
	for (uint32_t i = 0; i < dev->queue_count; i++) {
		virtqueue_reset(&dev->queues[i].ring);
	}
	dev->state.features = 0;
	dev->activated = false;
	atomic_store(&dev->state.interrupt_status, 0);
	atomic_store(&dev->state.status, 0);
}

static void activate(struct virtio_device *dev)
{
	if (!dev->activated && dev->ops->activate != NULL) {
		dev->ops->activate(dev);
	}
	dev->activated = true;
}

static void driver_ok(struct virtio_device *dev)
{
	activate(dev);
	atomic_fetch_or(&dev->state.status, VIRTIO_CONFIG_S_DRIVER_OK);
	if ((atomic_load(&dev->state.interrupt_status) & INTERRUPT_CONFIG) != 0) {
		notify_config(dev);
	}
	queues_start(dev);
}

/* Adds the bits of one write in the order of §3.1.1; stops at the first step that is not due or
 * refused. */
static void status_advance(struct virtio_device *dev, uint32_t added)
{
	static const uint32_t order[] = { VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER,
					  VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK };
	uint32_t before = 0;

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		if ((added & order[i]) != 0) {
			if ((atomic_load(&dev->state.status) & before) != before ||
			    (order[i] == VIRTIO_CONFIG_S_FEATURES_OK &&
			     !features_acceptable(dev, dev->state.features))) {
				return;
			}
			if (order[i] == VIRTIO_CONFIG_S_DRIVER_OK) {
				driver_ok(dev);
			} else {
				atomic_fetch_or(&dev->state.status, order[i]);
			}
		}
		before |= order[i];
	}
}

void virtio_set_status(struct virtio_device *dev, uint32_t status)
{
	uint32_t old = atomic_load(&dev->state.status) & STATUS_DRIVER_BITS;

	if (status == 0) {
		device_reset(dev);
		return;
	}
	status &= ~(uint32_t)VIRTIO_CONFIG_S_NEEDS_RESET; /* ours: a driver writes back what it has
							     read */
	if ((status & ~(uint32_t)STATUS_DRIVER_BITS) != 0 || (status & old) != old ||
	    (old & VIRTIO_CONFIG_S_FAILED) != 0) {
		return;
	}
	if ((status & VIRTIO_CONFIG_S_FAILED) != 0) {
		/* The driver has given up: nothing of it may be touched any more. */
		atomic_fetch_or(&dev->state.status, VIRTIO_CONFIG_S_FAILED);
		queues_stop(dev);
		return;
	}
	if (!has_status(dev, VIRTIO_CONFIG_S_NEEDS_RESET)) {
		status_advance(dev, status & ~old);
	}
}

void virtio_set_features(struct virtio_device *dev, uint32_t select, uint32_t value)
{
	if (select > 1 || !has_status(dev, VIRTIO_CONFIG_S_DRIVER) ||
	    has_status(dev, VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)) {
		return;
	}
	dev->state.features &= ~((uint64_t)UINT32_MAX << (select * 32));
	dev->state.features |= (uint64_t)value << (select * 32);
}

uint32_t virtio_offered_features(const struct virtio_device *dev, uint32_t select)
{
	return select > 1 ? 0 : (uint32_t)(dev->features_offered >> (select * 32));
}

struct virtio_queue *virtio_select_queue(struct virtio_device *dev, uint32_t index, bool for_write)
{
	if (index >= dev->queue_count) {
		return NULL;
	}
	if (for_write && has_status(dev, VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)) {
		return NULL;
	}
	return &dev->queues[index];
}

/* How many of the `len` bytes at `offset` are inside configuration space. */
static uint32_t config_inside(const struct virtio_device *dev, uint64_t offset, uint32_t len)
{
	if (offset >= dev->config_size) {
		return 0;
	}
	return (uint32_t)MIN((uint64_t)len, dev->config_size - offset);
}

void virtio_config_read(struct virtio_device *dev, uint64_t offset, void *buf, uint32_t len)
{
	uint32_t inside = config_inside(dev, offset, len);

	memset(buf, 0, len);
	if (inside != 0 && dev->ops->config_read != NULL) {
		dev->ops->config_read(dev, (uint32_t)offset, buf, inside);
	}
}

void virtio_config_write(struct virtio_device *dev, uint64_t offset, const void *buf, uint32_t len)
{
	uint32_t inside = config_inside(dev, offset, len);

	if (inside != 0 && dev->ops->config_write != NULL) {
		dev->ops->config_write(dev, (uint32_t)offset, buf, inside);
	}
}

void virtio_device_reset(struct virtio_device *dev)
{
	SCOPED_LOCK(&dev->lock);
	device_reset(dev);
	atomic_store(&dev->state.config_generation, 0);
}

void virtio_device_quiesce(struct virtio_device *dev)
{
	SCOPED_LOCK(&dev->lock);
	queues_stop(dev);
}

/* Goes on where queues_stop() has stopped. */
static void queues_continue(struct virtio_device *dev)
{
	if (has_status(dev, VIRTIO_CONFIG_S_DRIVER_OK) &&
	    !has_status(dev, VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET)) {
		activate(dev);
		queues_start(dev);
	}
}

void virtio_device_resume(struct virtio_device *dev)
{
	SCOPED_LOCK(&dev->lock);
	queues_continue(dev);
}

void virtio_allow_dma(struct virtio_device *dev, bool allowed)
{
	if (dev->dma_off == !allowed) {
		return;
	}
	dev->dma_off = !allowed;
	if (allowed) {
		queues_continue(dev);
	} else {
		queues_stop(dev);
	}
}

void virtio_queue_publish(struct virtio_queue *queue)
{
	struct virtio_device *dev = queue->device;

	if (virtqueue_publish(&queue->ring)) {
		atomic_fetch_or(&dev->state.interrupt_status, INTERRUPT_USED);
		dev->transport->notify_queue(dev, queue->index);
	}
}

void virtio_queue_begin(struct virtio_queue *queue)
{
	queue->passes = 0;
	virtqueue_suppress_kicks(&queue->ring, true);
}

bool virtio_queue_more(struct virtio_queue *queue)
{
	virtio_queue_publish(queue);
	if (queue->ring.state.broken) {
		virtio_needs_reset(queue->device, "the driver broke a virtqueue");
		return false;
	}
	virtqueue_suppress_kicks(&queue->ring, false);
	if (!virtqueue_has_work(&queue->ring)) {
		return false;
	}
	if (++queue->passes >= PASSES_MAX) {
		kick(queue);
		return false;
	}
	virtqueue_suppress_kicks(&queue->ring, true);
	return true;
}

const struct virtio_queue_type *virtio_queue_type(const struct virtio_ops *ops, uint32_t count,
						  uint32_t index)
{
	uint32_t repeated = ops->queue_repeat != 0 ? count - count % ops->queue_repeat : 0;
	uint32_t type = index < repeated ? index % ops->queue_repeat
					 : ops->queue_repeat + (index - repeated);

	VMM_BUG_ON(index >= count || type >= ops->queue_type_count);
	return &ops->queue_types[type];
}

void virtio_worker_name(const struct virtio_ops *ops, const char *device, uint32_t count,
			uint32_t index, char name[WORKER_NAME_SIZE])
{
	const struct virtio_queue_type *type = virtio_queue_type(ops, count, index);
	bool repeats = type < ops->queue_types + ops->queue_repeat;
	uint32_t number = repeats ? index / ops->queue_repeat : 0;
	int len = number == 0
			  ? snprintf(name, WORKER_NAME_SIZE, "%s-%s", device, type->name)
			  : snprintf(name, WORKER_NAME_SIZE, "%s-%s%u", device, type->name, number);

	VMM_BUG_ON(len < 0 || len >= WORKER_NAME_SIZE);
}

int virtio_device_init(struct virtio_device *dev, const struct virtio_ops *ops, const char *name,
		       struct guest_memory *mem, uint64_t features, uint32_t config_size,
		       uint32_t queue_count, struct worker *workers, struct error *e)
{
	VMM_BUG_ON(queue_count == 0 || queue_count > VIRTIO_QUEUES_MAX ||
		   (features & RESERVED_FEATURES) != 0);
	memset(dev, 0, sizeof(*dev));
	dev->queues = calloc(queue_count, sizeof(*dev->queues));
	if (dev->queues == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "%s '%s'", ops->name, name);
	}
	dev->ops = ops;
	dev->name = name;
	dev->mem = mem;
	dev->features_offered = features | CORE_FEATURES;
	dev->config_size = config_size;
	dev->queue_count = queue_count;
	(void)pthread_mutex_init(&dev->lock, NULL);
	for (uint32_t i = 0; i < queue_count; i++) {
		dev->queues[i].kick_fd = -1;
	}
	for (uint32_t i = 0; i < queue_count; i++) {
		struct virtio_queue *queue = &dev->queues[i];

		queue->device = dev;
		queue->index = (uint16_t)i;
		queue->worker = &workers[i];
		virtqueue_init(&queue->ring, virtio_queue_type(ops, queue_count, i)->size_max);
		queue->ring.mem = mem;
		queue->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (queue->kick_fd < 0) {
			int sys = errno;

			virtio_device_finish(dev);
			return error_set_sys(e, ERROR_INTERNAL, sys,
					     "%s '%s': doorbell of queue %u", ops->name, name, i);
		}
	}
	return 0;
}

void virtio_device_finish(struct virtio_device *dev)
{
	if (dev->ops == NULL) {
		return;
	}
	for (uint32_t i = 0; i < dev->queue_count; i++) {
		close_fd(&dev->queues[i].kick_fd);
	}
	free(dev->queues);
	dev->queues = NULL;
	(void)pthread_mutex_destroy(&dev->lock);
	dev->ops = NULL;
}
