/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net's transmit queue (virtio 1.2 §5.1.6.2): one system call per frame, straight from guest
 * memory. The header is copied once, checked, and goes to the back end from the copy; the guest may
 * still change the payload, which harms that frame only.
 *
 * A back end that is full keeps the chain in the ring (put back) and the driver's kicks suppressed,
 * until it says that it can take more; a limit that is used up does the same until its timer
 * expires, and what the host sends to nowhere counts, too. A link that is down drops frames, and is watched for coming
 * up.
 *
 * Transmit worker only, no lock. Guest-controlled: everything in the chain. Nothing is in flight
 * between passes.
 */
#include <errno.h>

#include "net_device.h"
#include "vmm/iov.h"

/* Frames after which the driver sees them as used, so that it fills the ring while the rest is
 * sent. */
#define TX_BATCH 32

static void wait_writable(struct net_pair *pair)
{
	if (loop_source_modify(&pair->tx.source, EPOLLOUT) < 0) {
		/* Not to be waited for: frames are dropped from here on. */
		net_set_gone(pair->net);
	}
}

static bool frame_valid(struct net_pair *pair, const struct virtqueue_chain *chain)
{
	struct virtio_net_hdr_v1 *header = &pair->tx.header;

	if (chain->out_len < NETDEV_HEADER_SIZE + NETDEV_FRAME_MIN ||
	    chain->out_len > NETDEV_HEADER_SIZE + NETDEV_FRAME_MAX) {
		return false;
	}
	if (iov_read(chain->iov, chain->out_count, 0, header, sizeof(*header)) != sizeof(*header)) {
		return false;
	}
	header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header->num_buffers = 0;
	return net_check_header(header, chain->out_len - NETDEV_HEADER_SIZE, pair->tx.offloads);
}

/* False if the back end is full: the chain is still to be sent. Otherwise it is done with, sent or
 * not. */
static bool send_frame(struct net_pair *pair, const struct virtqueue_chain *chain)
{
	struct net_tx *tx = &pair->tx;
	uint32_t count = chain->out_count;
	struct iovec *list;
	int r;

	if (!frame_valid(pair, chain)) {
		net_count(&pair->counters.tx_invalid, 1);
		return true;
	}
	list = net_split_header(chain->iov, &count, &tx->header, NULL);
	r = atomic_load_explicit(&pair->net->gone, memory_order_relaxed)
		    ? -ENODEV
		    : pair->netdev->ops->send(pair->netdev, list, (int)count);
	switch (r) {
	case 0:
		net_count(&pair->counters.tx_frames, 1);
		net_count(&pair->counters.tx_bytes, chain->out_len - NETDEV_HEADER_SIZE);
		return true;
	case -EAGAIN:
		wait_writable(pair);
		if (atomic_load(&pair->net->gone)) {
			break;
		}
		net_count(&pair->counters.tx_waits, 1);
		tx->waiting = true;
		return false;
	case -ENETDOWN:
		wait_writable(pair);
		net_set_link(pair->net, false);
		break;
	case -ENODEV:
		net_set_gone(pair->net);
		break;
	default:
		break;
	}
	net_count(&pair->counters.tx_errors, 1);
	return true;
}

void net_tx_process(struct net_pair *pair)
{
	struct virtio_queue *queue = pair->tx_queue;
	struct queue_limit *limit = &pair->tx.limit;
	struct virtqueue_chain chain;
	uint32_t batch = 0;

	if (pair->tx.waiting || limit->throttled || net_broken(pair->net)) {
		return;
	}
	virtio_queue_begin(queue);
	do {
		while (!queue_limit_stops(limit) &&
		       virtqueue_pop(&queue->ring, &chain, pair->tx.iov + 1,
				     ARRAY_SIZE(pair->tx.iov) - 1) > 0) {
			if (!send_frame(pair, &chain)) {
				virtqueue_unpop(&queue->ring, &chain);
				virtio_queue_publish(queue);
				return;
			}
			queue_limit_take(limit, chain.out_len);
			virtqueue_push(&queue->ring, &chain, 0);
			if (++batch % TX_BATCH == 0) {
				virtio_queue_publish(queue);
			}
		}
		if (limit->throttled) {
			virtio_queue_publish(queue);
			return; /* kicks stay suppressed until the limit's timer */
		}
	} while (virtio_queue_more(queue));
}

static void backend_ready(struct loop_source *source, uint32_t events)
{
	struct net_pair *pair = container_of(source, struct net_pair, tx.source);

	(void)loop_source_modify(source, 0);
	pair->tx.waiting = false;
	if ((events & EPOLLOUT) != 0) {
		net_set_link(pair->net, true);
	} else {
		net_set_gone(pair->net);
	}
	net_tx_process(pair);
}

void net_tx_start(struct net_pair *pair)
{
	struct net_tx *tx = &pair->tx;
	struct error e = { 0 };

	tx->waiting = false;
	tx->offloads =
		net_offloads(pair->net->dev.state.features, VIRTIO_NET_F_CSUM,
			     VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN);
	if (loop_source_add(&pair->tx_queue->worker->loop, &tx->source, pair->netdev->fd, 0,
			    backend_ready, &e) < 0) {
		virtio_needs_reset(&pair->net->dev, e.msg);
		return;
	}
	if (!atomic_load(&pair->net->state.link_up) && !atomic_load(&pair->net->gone)) {
		wait_writable(pair);
	}
}

void net_tx_stop(struct net_pair *pair)
{
	queue_limit_stop(&pair->tx.limit);
	loop_source_remove(&pair->tx.source);
	pair->tx.waiting = false;
}
