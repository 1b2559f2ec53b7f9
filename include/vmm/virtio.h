/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device independent of its transport (virtio 1.2 §2, §3): status machine, features,
 * configuration space, queues with their workers. Device types are ops tables; transports (MMIO,
 * PCI) call the virtio_* functions below.
 *
 * Threads and locks: registers are driven by vCPU threads under `lock` (rank: device). Each queue
 * is served by its own worker: queue_* ops run there, without the lock, between start and stop.
 * Starting and stopping are worker_call()s made by the vCPU that wrote the status, under the lock;
 * a worker never takes `lock`. `status`, `interrupt_status` and `config_generation` are atomic
 * because workers set bits in them.
 *
 * Status machine (§2.1, §3.1), strict: 0 -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK (refused unless
 * the features are a subset of ours with VERSION_1) -> DRIVER_OK (every ready queue is started; an
 * unusable one makes NEEDS_RESET). Bits can only be added, in that order; FAILED may be added any
 * time; writing 0 resets: queues stopped and drained, everything back to power-on. Illegal writes
 * are ignored. Features cannot change after FEATURES_OK, queue registers not after DRIVER_OK.
 */
#ifndef VMM_VIRTIO_H
#define VMM_VIRTIO_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/irq.h"
#include "vmm/loop.h"
#include "vmm/state.h"
#include "vmm/syscalls.h"
#include "vmm/virtqueue.h"
#include "vmm/worker.h"

/* Eight pairs of a network card and its control queue. */
#define VIRTIO_QUEUES_MAX 17

struct virtio_device;

/* One queue of a device with the worker that owns it. */
struct virtio_queue {
	struct virtio_device *device;
	uint16_t index;
	struct virtqueue ring;
	struct worker *worker;	 /* borrowed: given by virtio_device_init()'s caller */
	int kick_fd;		 /* eventfd: the driver's doorbell (ioeventfd), owned */
	struct loop_source kick; /* of the worker's loop while started */
	bool started;		 /* the worker owns the ring; changes on the worker only */
	uint32_t passes;	 /* of the current virtio_queue_begin() */
};

struct virtio_queue_type {
	uint16_t size_max;
	const char *name; /* short, for thread names: "disk", "net-rx" */
};

struct virtio_ops {
	const char *name; /* "virtio-blk" */
	uint32_t id;	  /* VIRTIO_ID_* of <linux/virtio_ids.h> */
	/*
	 * The queues in their order. The first `queue_repeat` of them come as often as an instance
	 * has room for in its number of queues, the others once, after these, as far as there is
	 * room. With 0 an instance has exactly these.
	 */
	const struct virtio_queue_type *queue_types;
	uint32_t queue_type_count, queue_repeat;
	/* Of what the type saves in the device's own struct, which begins with its virtio_device; NULL:
	 * nothing. */
	const struct state_desc *state;
	struct syscall_list syscalls; /* of its workers, beyond the base list of every worker */
	uint32_t pci_class;	      /* base class, subclass, interface; 0: of no class */

	/*
	 * Under the lock: may the driver take exactly these (a subset of the offered ones, with
	 * VERSION_1)? For features that need each other. NULL: any subset will do.
	 */
	bool (*features_valid)(const struct virtio_device *dev, uint64_t features);
	/*
	 * Under the lock, on a vCPU. [offset, offset + len) is inside config_size. NULL: reads give
	 * zeroes, writes are dropped.
	 */
	void (*config_read)(struct virtio_device *dev, uint32_t offset, void *buf, uint32_t len);
	void (*config_write)(struct virtio_device *dev, uint32_t offset, const void *buf,
			     uint32_t len);
	/* Under the lock, queues stopped. NULL: nothing beyond the core's reset. */
	void (*reset)(struct virtio_device *dev);
	/*
	 * Under the lock, features are final, queues not started yet: at DRIVER_OK, and when a
	 * device resumes for the first time after its state was loaded. NULL: nothing.
	 */
	void (*activate)(struct virtio_device *dev);

	/* On the queue's worker, the ring has just started: register sources. NULL: nothing. */
	void (*queue_start)(struct virtio_device *dev, struct virtio_queue *queue);
	/* The driver has kicked, or the queue has just started. Must never be NULL. */
	void (*queue_process)(struct virtio_device *dev, struct virtio_queue *queue);
	/*
	 * Drain: unregister sources; every chain that a back end still works on is waited for and
	 * pushed. After it the ring is not touched. NULL: nothing is ever in flight.
	 */
	void (*queue_stop)(struct virtio_device *dev, struct virtio_queue *queue);

	/*
	 * Frees the device (container of `dev`): workers are gone already, queues are stopped.
	 * Never NULL.
	 */
	void (*destroy)(struct virtio_device *dev);
};

struct virtio_transport {
	/* Interrupt for used buffers of a queue. Worker. */
	void (*notify_queue)(struct virtio_device *dev, uint16_t queue);
	/* Interrupt for a configuration change. Any thread. */
	void (*notify_config)(struct virtio_device *dev);
};

/* What is saved, beside the queues and what the type has. */
struct virtio_device_state {
	uint64_t features; /* what the driver accepted */
	_Atomic uint32_t status;
	_Atomic uint32_t interrupt_status; /* §4.2.2: bit 0 used buffers, bit 1 configuration */
	_Atomic uint32_t config_generation;
};

struct virtio_device {
	struct virtio_device_state state;
	const struct virtio_ops *ops;
	const struct virtio_transport *transport; /* set by the transport's init */
	void *transport_data;
	struct guest_memory *mem; /* borrowed */
	const char *name;	  /* "vda", "net0": borrowed, for messages */

	pthread_mutex_t lock;
	uint64_t features_offered;
	uint32_t config_size;
	bool activated;		     /* since the last reset; not saved */
	bool dma_off;		     /* the transport's: queues do not run; not saved */
	uint32_t queue_count;	     /* fixed when it was made */
	struct virtio_queue *queues; /* owned */
};

extern const struct state_desc virtio_device_state; /* of struct virtio_device */

/* The tables of a device, without its transport's: its own, its type's, one a queue. Returns how many. */
#define VIRTIO_STATES_MAX (2 + VIRTIO_QUEUES_MAX)
uint32_t virtio_device_parts(struct virtio_device *dev, struct state_part parts[VIRTIO_STATES_MAX]);

/* What queue `index` of an instance with `count` of them is. */
const struct virtio_queue_type *virtio_queue_type(const struct virtio_ops *ops, uint32_t count,
						  uint32_t index);
/* What its worker's thread is called: "vda-disk", "vda-disk1". The device's name is short enough. */
void virtio_worker_name(const struct virtio_ops *ops, const char *device, uint32_t count,
			uint32_t index, char name[WORKER_NAME_SIZE]);

/*
 * `features` is what this instance offers besides VERSION_1, INDIRECT_DESC and EVENT_IDX, which the
 * core adds. It has `queue_count` queues, 1 to VIRTIO_QUEUES_MAX; `workers` holds an initialised
 * one for each.
 */
int virtio_device_init(struct virtio_device *dev, const struct virtio_ops *ops, const char *name,
		       struct guest_memory *mem, uint64_t features, uint32_t config_size,
		       uint32_t queue_count, struct worker *workers, struct error *e);
void virtio_device_finish(struct virtio_device *dev);

/* For transports, with dev->lock held by them. Without DMA started queues stop and none starts, until
 * it is allowed again; nothing else changes. */
void virtio_allow_dma(struct virtio_device *dev, bool allowed);
void virtio_set_status(struct virtio_device *dev, uint32_t status);
void virtio_set_features(struct virtio_device *dev, uint32_t select, uint32_t value);
uint32_t virtio_offered_features(const struct virtio_device *dev, uint32_t select);
/* NULL if there is no such queue, or its registers are frozen and `for_write`. */
struct virtio_queue *virtio_select_queue(struct virtio_device *dev, uint32_t index, bool for_write);
/* Any offset and length: outside config_size reads give zeroes, writes are dropped. */
void virtio_config_read(struct virtio_device *dev, uint64_t offset, void *buf, uint32_t len);
void virtio_config_write(struct virtio_device *dev, uint64_t offset, const void *buf, uint32_t len);

/* Machine reset; vCPUs are parked. Takes the lock. */
void virtio_device_reset(struct virtio_device *dev);
/*
 * Stops workers from touching the rings while keeping the device's state (pause, snapshot); resume
 * starts them again and processes what came meanwhile. vCPUs are parked. Machine thread. Take the
 * lock.
 */
void virtio_device_quiesce(struct virtio_device *dev);
void virtio_device_resume(struct virtio_device *dev);

/*
 * For device types, on the queue's worker: the passes of queue_process().
 *
 *	virtio_queue_begin(queue);
 *	do {
 *		while ((r = virtqueue_pop(&queue->ring, ...)) > 0) {
 *			... virtqueue_push(), now or later
 *		}
 *	} while (virtio_queue_more(queue));
 *
 * begin: the driver need not kick. more: publishes, interrupts if wanted, asks for kicks again and
 * looks whether work came meanwhile. A driver that never stops adding does not hold the worker:
 * after some passes `more` says no and kicks by itself, so that calls and other sources get their
 * turn. A broken ring makes NEEDS_RESET there, too.
 */
void virtio_queue_begin(struct virtio_queue *queue);
bool __must_use virtio_queue_more(struct virtio_queue *queue);
/* Worker: as if the driver had kicked; nothing if the device needs a reset. */
void virtio_queue_process(struct virtio_queue *queue);
/* Worker: publish, and interrupt if the driver wants it. */
void virtio_queue_publish(struct virtio_queue *queue);
/* Any thread: the device is broken until the driver resets it; rate-limited log line with `why`. */
void virtio_needs_reset(struct virtio_device *dev, const char *why);
/* Any thread: configuration space has changed. */
void virtio_config_changed(struct virtio_device *dev);
/* For drivers without ioeventfd (tests): as if the driver had written QueueNotify. */
void virtio_kick(struct virtio_device *dev, uint32_t index);

/* One half of a queue's address. */
static inline void virtio_set_half(uint64_t *address, bool high, uint32_t value)
{
	unsigned int shift = high ? 32 : 0;

	*address = (*address & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

static inline bool virtio_has_feature(const struct virtio_device *dev, unsigned int bit)
{
	return (dev->state.features >> bit & 1) != 0;
}

#endif
