/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console (virtio 1.2 §5.3) with one port, hvc0 in Linux: receive queue 0, transmit queue 1,
 * each with a worker. Offers SIZE and EMERG_WRITE.
 *
 * Output waits in the queue while the channel says that it would drop it (may_output), for at most 50 ms: Linux' driver spins
 * until a buffer comes back. After that it is dropped until the channel takes some again. Input waits in a small
 * buffer until the driver has room; beyond that virtio_console_input() takes no more and the
 * channel hears input_ready() later. Saved: window size and waiting input.
 */
#ifndef VMM_VIRTIO_CONSOLE_H
#define VMM_VIRTIO_CONSOLE_H

#include "vmm/console.h"
#include "vmm/virtio.h"

#define VIRTIO_CONSOLE_QUEUE_RX	  0
#define VIRTIO_CONSOLE_QUEUE_TX	  1
#define VIRTIO_CONSOLE_QUEUES	  2
#define VIRTIO_CONSOLE_QUEUE_SIZE 64

extern const struct virtio_ops virtio_console_ops;

/*
 * `name` ("hvc0"), `channel` (may be NULL: output vanishes) and `mem` are borrowed. `workers` holds
 * VIRTIO_CONSOLE_QUEUES initialised ones. The channel's output() is called by one thread at a time:
 * the transmit worker, or a vCPU for an emergency write. Freed with
 * (*ret)->ops->destroy().
 */
int virtio_console_create(struct virtio_device **ret, const char *name,
			  struct console_channel *channel, struct guest_memory *mem,
			  struct worker *workers, struct error *e);

/* Main. Returns how many of `len` bytes were taken, also before a driver is there; input_ready()
 * follows if it was fewer. */
size_t virtio_console_input(struct virtio_device *dev, const uint8_t *data, size_t len);
/* Any thread: the channel has room for output again after it said no. */
void virtio_console_output_ready(struct virtio_device *dev);
/* Main. The host's window; takes the device's lock. Starts as 80 x 25. */
void virtio_console_resize(struct virtio_device *dev, uint16_t cols, uint16_t rows);

struct virtio_console_counters {
	uint64_t input_bytes, output_bytes;
	uint64_t output_dropped; /* beyond VIRTIO_CONSOLE_CHAIN_MAX in one request; the channel
				    counts its own losses */
};
/* Any thread. */
void virtio_console_read_counters(const struct virtio_device *dev,
				  struct virtio_console_counters *ret);

/* More than this in one chain is not the output of a console: a bound on the work that one
 * descriptor table can cause. */
#define VIRTIO_CONSOLE_CHAIN_MAX MIB(1)

#endif
