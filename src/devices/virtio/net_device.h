/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio-net device, shared by net.c (the device), net_rx.c, net_tx.c, net_ctrl.c (its queues) and
 * net_announce.c. */
#ifndef VMM_NET_DEVICE_H
#define VMM_NET_DEVICE_H

#include <limits.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdatomic.h>

#include "queue_limit.h"
#include "vmm/netdev.h"
#include "vmm/virtio.h"
#include "vmm/virtio_net.h"

/* readv() and writev() take this many; header and spill included. */
#define NET_RX_IOV IOV_MAX

struct net_counters {
	_Atomic uint64_t rx_frames, rx_bytes, rx_invalid, rx_no_room, rx_errors;
	_Atomic uint64_t tx_frames, tx_bytes, tx_invalid, tx_errors, tx_waits;
};

/*
 * Receive worker only, but for `run`. Chains are popped ahead and kept in order, so that a frame of any length is
 * read straight into them; iov [iov_first, iov_end) is their flat list, `capacity` its bytes. What
 * does not fit goes to `spill` and waits as `pending` frame until the driver has given more.
 * Stopping the queue puts the chains back.
 */
struct net_rx {
	/* Held while frames are moved: who has taken the pair out of use takes it once, and knows
	 * that none is given to the driver any more. */
	pthread_mutex_t run;
	struct loop_source source; /* the back end: a frame waits */
	struct loop_timer timer;   /* a pending frame has waited long enough */
	struct queue_limit limit;  /* of frames read from the back end */
	bool held;		   /* by the limit: the back end is not polled */
	bool off;		   /* not one of the pairs in use: the back end is not polled */
	bool mergeable;
	uint32_t offloads; /* NETDEV_OFFLOAD_* that the driver can take */
	uint32_t mtu;	   /* negotiated; 0: none */
	uint32_t want;	   /* bytes of buffers to have at hand before reading */
	bool waiting;	   /* for the driver's buffers: the back end is not polled */
	bool full;	   /* no more chains can be taken before those at hand are used */
	uint32_t failures; /* of the back end, in a row */
	uint32_t pending;  /* bytes of the frame with its header; 0: none */
	uint32_t direct;   /* of these, bytes that lie in the chains already */
	uint64_t capacity;
	uint32_t chain_first, chain_end;
	uint32_t iov_first, iov_end; /* iov_first >= 1: the slot before is for the header */
	struct virtio_net_hdr_v1 header;
	struct virtqueue_chain chains[VIRTIO_NET_QUEUE_SIZE];
	struct iovec iov[NET_RX_IOV];
	uint8_t spill[NETDEV_FRAME_MAX + 1]; /* one more, to see that a frame is too long */
};

/* Transmit worker only. */
struct net_tx {
	struct loop_source
		source;	   /* the back end: can take frames again, or its link is up again */
	uint32_t offloads; /* NETDEV_OFFLOAD_* that the driver may ask for */
	bool waiting;	   /* the next chain waits for the back end */
	struct queue_limit limit;
	struct virtio_net_hdr_v1 header;
	struct iovec iov[1 + VIRTIO_NET_QUEUE_SIZE]; /* the first is for the header */
};

/* A receive and a transmit queue, and what is behind them. */
struct net_pair {
	struct virtio_net *net;
	struct netdev *netdev; /* the device's, or the next in its chain */
	struct virtio_queue *rx_queue, *tx_queue;
	struct net_counters counters;
	struct net_tx tx;
	struct net_rx rx;
};

/* Commands a second. */
#define NET_CTRL_RATE 64

/* Control worker only. */
struct net_ctrl {
	struct shared_rate rate;
	struct queue_limit limit;
	struct iovec iov[VIRTIO_NET_QUEUE_SIZE];
};

struct virtio_net_state {
	uint8_t mac[NETDEV_MAC_SIZE];
	uint16_t mtu;
	_Atomic uint16_t active_pairs; /* in use, from the first on; 1 after a reset */
	_Atomic bool link_up;
	_Atomic bool
		announce; /* VIRTIO_NET_S_ANNOUNCE; cleared by the driver's answer and by a reset */
	bool announce_offered; /* GUEST_ANNOUNCE is among the features */
};

struct virtio_net {
	struct virtio_device dev;
	struct virtio_net_state state;
	struct netdev *netdev; /* owned: of the first pair, with those of the others */
	_Atomic bool gone;     /* the back end will not come back */
	struct shared_rate rx_rate, tx_rate;
	struct net_ctrl ctrl;
	uint32_t pair_count;
	struct net_pair pairs[];
};

static inline struct virtio_net *net_of(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_net, dev);
}

/* Nothing happens until the driver resets the device. */
static inline bool net_broken(struct virtio_net *net)
{
	return (atomic_load(&net->dev.state.status) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
}

/* Each counter has one writer. */
static inline void net_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* One of those in use? */
static inline bool net_pair_active(const struct net_pair *pair)
{
	return pair - pair->net->pairs < atomic_load(&pair->net->state.active_pairs);
}

/* Any worker. */
void net_set_link(struct virtio_net *net, bool up);
void net_set_gone(struct virtio_net *net);
/* NETDEV_OFFLOAD_* of the bits for one direction. */
uint32_t net_offloads(uint64_t features, unsigned int csum, unsigned int tso4, unsigned int tso6,
		      unsigned int ecn);
/* Whether a header asks for no more than `offloads`, within a frame of `len` bytes; cleans the
 * fields that mean nothing. */
bool net_check_header(struct virtio_net_hdr_v1 *header, uint64_t len, uint32_t offloads);
/*
 * Makes a list for one frame out of `list`, whose first bytes are the header's place in guest
 * memory: `header`, then what follows them. Writes list[-1] at the lowest. Returns the list's first
 * entry and adds to *count. `saved`, if given, undoes it.
 */
struct net_split {
	struct iovec *at;
	struct iovec before, after;
	bool cut;
};
struct iovec *net_split_header(struct iovec *list, uint32_t *count, void *header,
			       struct net_split *saved);
void net_unsplit(const struct net_split *saved);

void net_rx_start(struct net_pair *pair);
void net_rx_process(struct net_pair *pair);
void net_rx_stop(struct net_pair *pair);
void net_tx_start(struct net_pair *pair);
void net_tx_process(struct net_pair *pair);
void net_tx_stop(struct net_pair *pair);
void net_ctrl_process(struct virtio_net *net, struct virtio_queue *queue);
void net_ctrl_stop(struct virtio_net *net);
/*
 * Makes the back end give frames to the first `count` queues and no others. The worker of the control
 * queue, or one that knows that it does not run. On failure those that were given frames are.
 */
int net_attach_pairs(struct virtio_net *net, uint32_t count);
/* Control worker, or with queues stopped: the driver has announced itself, or nobody is asked to. */
void net_clear_announce(struct virtio_net *net);
/* After a load: GUEST_ANNOUNCE is among the features offered if what was loaded says so. */
void net_offer_announce(struct virtio_net *net);

#endif
