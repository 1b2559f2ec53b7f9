/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2 §5.1): pairs of queues, receive 2n and transmit 2n + 1, and with several
 * pairs a control queue after them, each with a worker. Offers MAC, STATUS, MRG_RXBUF, the back
 * end's offloads in both directions, MTU if the back end has one, CTRL_VQ, MQ and GUEST_ANNOUNCE if it
 * has several queues. The driver says how many pairs it uses, the back end spreads flows over them;
 * before that, and after a reset, only the first has frames.
 *
 * Lost frames are counted, never reported to the guest. Saved: MAC address, MTU, link state, pairs in
 * use, whether the driver is asked to announce itself, and whether it can be; no frame is in flight
 * while queues are stopped.
 */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include "vmm/netdev.h"
#include "vmm/rate_limit.h"
#include "vmm/virtio.h"

#define VIRTIO_NET_QUEUE_RX   0
#define VIRTIO_NET_QUEUE_TX   1
#define VIRTIO_NET_QUEUE_SIZE 256
#define VIRTIO_NET_PAIRS_MAX  8

#define VIRTIO_NET_CTRL_QUEUE_SIZE 64

/* Of a device with so many pairs. */
static inline uint32_t virtio_net_queues(uint32_t pairs)
{
	return pairs == 1 ? 2 : 2 * pairs + 1;
}

extern const struct virtio_ops virtio_net_ops;

/*
 * `name` ("net0") and `mem` are borrowed. `netdev` is owned on success: a pair for each of its
 * chain, at most VIRTIO_NET_PAIRS_MAX. `mac` is copied; unicast. `workers` holds an initialised one
 * for each of the queues. Freed with (*ret)->ops->destroy().
 */
int virtio_net_create(struct virtio_device **ret, const char *name, struct netdev *netdev,
		      const uint8_t mac[NETDEV_MAC_SIZE], struct guest_memory *mem,
		      struct worker *workers, struct error *e);

/*
 * Frames and bytes per time in each direction, of the card, whatever its queues. What goes beyond waits: in the ring, and in the back
 * end, which drops what it has no room for. init_limits: before the workers start. limit: any
 * thread but a worker's, the workers run; NULL: that direction stays; only what is given changes.
 */
void virtio_net_init_limits(struct virtio_device *dev, const struct rate_limit_config *rx,
			    const struct rate_limit_config *tx);
void virtio_net_limit(struct virtio_device *dev, const struct rate_limit_config *rx,
		      const struct rate_limit_config *tx);

/*
 * The guest goes on somewhere else, or is a copy: switches are to learn where it is. A driver with
 * GUEST_ANNOUNCE is asked to send what they learn from (VIRTIO_NET_S_ANNOUNCE and an interrupt); for
 * any other one, or none, a frame is sent, once, which no counter and no limit has. What fails is
 * logged. By the thread that owns the machine: vCPUs are parked, the device was resumed.
 */
void virtio_net_announce(struct virtio_device *dev);
/* Before workers start: a state is going to be loaded, and says whether GUEST_ANNOUNCE is offered. One
 * from before there was the feature does not say, and has none. */
void virtio_net_expect_state(struct virtio_device *dev);

/* What is behind it, which stays the device's; its descriptor lives as long. */
const struct netdev *virtio_net_backend(const struct virtio_device *dev);

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
