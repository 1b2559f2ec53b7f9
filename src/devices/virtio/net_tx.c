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

static void wait_writable(struct virtio_net *net)
{
	if (loop_source_modify(&net->tx.source, EPOLLOUT) < 0) {
		/* Not to be waited for: frames are dropped from here on. */
		net_set_gone(net);
	}
}

static bool frame_valid(struct virtio_net *net, const struct virtqueue_chain *chain)
{
	struct virtio_net_hdr_v1 *header = &net->tx.header;

	if (chain->out_len < NETDEV_HEADER_SIZE + NETDEV_FRAME_MIN ||
	    chain->out_len > NETDEV_HEADER_SIZE + NETDEV_FRAME_MAX) {
		return false;
	}
	if (iov_read(chain->iov, chain->out_count, 0, header, sizeof(*header)) != sizeof(*header)) {
		return false;
	}
	header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header->num_buffers = 0;
	return net_check_header(header, chain->out_len - NETDEV_HEADER_SIZE, net->tx.offloads);
}

/* False if the back end is full: the chain is still to be sent. Otherwise it is done with, sent or
 * not. */
static bool send_frame(struct virtio_net *net, const struct virtqueue_chain *chain)
{
	struct net_tx *tx = &net->tx;
	uint32_t count = chain->out_count;
	struct iovec *list;
	int r;

	if (!frame_valid(net, chain)) {
		net_count(&net->counters.tx_invalid, 1);
		return true;
	}
	list = net_split_header(chain->iov, &count, &tx->header, NULL);
	r = atomic_load_explicit(&net->gone, memory_order_relaxed)
		    ? -ENODEV
		    : net->netdev->ops->send(net->netdev, list, (int)count);
	switch (r) {
	case 0:
		net_count(&net->counters.tx_frames, 1);
		net_count(&net->counters.tx_bytes, chain->out_len - NETDEV_HEADER_SIZE);
		return true;
	case -EAGAIN:
		wait_writable(net);
		if (atomic_load(&net->gone)) {
			break;
		}
		net_count(&net->counters.tx_waits, 1);
		tx->waiting = true;
		return false;
	case -ENETDOWN:
		wait_writable(net);
		net_set_link(net, false);
		break;
	case -ENODEV:
		net_set_gone(net);
		break;
	default:
		break;
	}
	net_count(&net->counters.tx_errors, 1);
	return true;
}

void net_tx_process(struct virtio_net *net, struct virtio_queue *queue)
{
	struct queue_limit *limit = &net->tx.limit;
	struct virtqueue_chain chain;
	uint32_t batch = 0;

	if (net->tx.waiting || limit->throttled || net_broken(net)) {
		return;
	}
	virtio_queue_begin(queue);
	do {
		while (!queue_limit_stops(limit) &&
		       virtqueue_pop(&queue->ring, &chain, net->tx.iov + 1,
				     ARRAY_SIZE(net->tx.iov) - 1) > 0) {
			if (!send_frame(net, &chain)) {
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
	struct virtio_net *net = container_of(source, struct virtio_net, tx.source);
	struct virtio_queue *queue = &net->dev.queues[VIRTIO_NET_QUEUE_TX];

	(void)loop_source_modify(source, 0);
	net->tx.waiting = false;
	if ((events & EPOLLOUT) != 0) {
		net_set_link(net, true);
	} else {
		net_set_gone(net);
	}
	net_tx_process(net, queue);
}

void net_tx_start(struct virtio_net *net, struct virtio_queue *queue)
{
	struct net_tx *tx = &net->tx;
	struct error e = { 0 };

	tx->waiting = false;
	tx->offloads = net_offloads(net->dev.features, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4,
				    VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN);
	if (loop_source_add(&queue->worker->loop, &tx->source, net->netdev->fd, 0, backend_ready,
			    &e) < 0) {
		virtio_needs_reset(&net->dev, e.msg);
		return;
	}
	if (!atomic_load(&net->link_up) && !atomic_load(&net->gone)) {
		wait_writable(net);
	}
}

void net_tx_stop(struct virtio_net *net, struct virtio_queue *queue)
{
	(void)queue;
	queue_limit_stop(&net->tx.limit);
	loop_source_remove(&net->tx.source);
	net->tx.waiting = false;
}
