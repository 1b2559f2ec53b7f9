/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2 §5.1): one pair of queues, receive 0 and transmit 1, each with a worker.
 * Offers MAC, STATUS, MRG_RXBUF, the back end's offloads in both directions, MTU if the back end
 * has one.
 *
 * Lost frames are counted, never reported to the guest. Saved: MAC address, MTU, link state; no
 * frame is in flight while queues are stopped.
 */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include "vmm/netdev.h"
#include "vmm/rate_limit.h"
#include "vmm/virtio.h"

#define VIRTIO_NET_QUEUE_RX   0
#define VIRTIO_NET_QUEUE_TX   1
#define VIRTIO_NET_QUEUES     2
#define VIRTIO_NET_QUEUE_SIZE 256

extern const struct virtio_ops virtio_net_ops;

/*
 * `name` ("net0") and `mem` are borrowed. `netdev` is owned on success. `mac` is copied; unicast.
 * `workers` holds VIRTIO_NET_QUEUES initialised ones, which outlive the device's last queue. Freed
 * with (*ret)->ops->destroy().
 */
int virtio_net_create(struct virtio_device **ret, const char *name, struct netdev *netdev,
		      const uint8_t mac[NETDEV_MAC_SIZE], struct guest_memory *mem,
		      struct worker *workers, struct error *e);

/*
 * Frames and bytes per time in each direction. What goes beyond waits: in the ring, and in the back
 * end, which drops what it has no room for. init_limits: before the workers start. limit: any
 * thread but a worker's, the workers run; NULL: that direction stays; only what is given changes.
 */
void virtio_net_init_limits(struct virtio_device *dev, const struct rate_limit_config *rx,
			    const struct rate_limit_config *tx);
void virtio_net_limit(struct virtio_device *dev, const struct rate_limit_config *rx,
		      const struct rate_limit_config *tx);

/* Since the device was made. Each frame counts once: in frames, or in one of the others. */
struct virtio_net_counters {
	uint64_t rx_frames, rx_bytes; /* bytes without header */
	uint64_t rx_invalid; /* header asks for what the guest has not accepted, too short, over the
				MTU */
	uint64_t rx_no_room; /* larger than the buffers that the driver gave */
	uint64_t rx_errors;  /* the back end failed */
	uint64_t tx_frames, tx_bytes;
	uint64_t tx_invalid; /* header or length wrong */
	uint64_t tx_errors;  /* the back end did not take it */
	uint64_t tx_waits;   /* times that the back end was full */
};
/* Any thread. */
void virtio_net_read_counters(const struct virtio_device *dev, struct virtio_net_counters *ret);

#endif
