/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net's control queue (virtio 1.2 §5.1.6.5): how many pairs of queues are in use
 * (VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET), and that the driver has announced itself (VIRTIO_NET_CTRL_ANNOUNCE_ACK).
 * Every other command is answered with an error, because no feature that has one is offered.
 *
 * Fewer pairs: the back end stops giving frames to the others, then each of their receive workers
 * has let go of what it had in hand, then the command is answered (§5.1.6.5.6.2). More: the back end
 * gives frames to them, then their workers are woken.
 *
 * Control worker only; it waits for a receive worker's pass, which waits for nobody. Guest-controlled:
 * all of the chain. A change costs the host a lock of its network configuration, so a driver has
 * NET_CTRL_RATE of them a second. Saved: what commands have set (struct virtio_net_state).
 */
#include <errno.h>

#include "net_device.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/iov.h"

int net_attach_pairs(struct virtio_net *net, uint32_t count)
{
	for (uint32_t i = 1; i < net->pair_count; i++) {
		int r = netdev_attach_queue(net->pairs[i].netdev, i < count);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static uint8_t set_pairs(struct virtio_net *net, uint16_t count)
{
	uint16_t before = atomic_load(&net->state.active_pairs);

	if (!virtio_has_feature(&net->dev, VIRTIO_NET_F_MQ) || count == 0 ||
	    count > net->pair_count) {
		return VIRTIO_NET_ERR;
	}
	if (net_attach_pairs(net, count) < 0) {
		(void)net_attach_pairs(net, before);
		return VIRTIO_NET_ERR;
	}
	atomic_store(&net->state.active_pairs, count);
	for (uint32_t i = count; i < before; i++) {
		/* Whoever has it now began before the store. */
		SCOPED_LOCK(&net->pairs[i].rx.run);
	}
	for (uint32_t i = before; i < count; i++) {
		virtio_kick(&net->dev, net->pairs[i].rx_queue->index);
	}
	return VIRTIO_NET_OK;
}

/* §5.1.6.5.4.2: before the buffer is used. That nobody asks any more is no error: a driver that is asked
 * twice may answer twice. */
static uint8_t announced(struct virtio_net *net)
{
	if (!virtio_has_feature(&net->dev, VIRTIO_NET_F_GUEST_ANNOUNCE)) {
		return VIRTIO_NET_ERR;
	}
	net_clear_announce(net);
	return VIRTIO_NET_OK;
}

static uint8_t carry_out(struct virtio_net *net, const struct virtqueue_chain *chain)
{
	struct virtio_net_ctrl_hdr header;
	uint8_t pairs[2];

	if (iov_read(chain->iov, chain->out_count, 0, &header, sizeof(header)) != sizeof(header)) {
		return VIRTIO_NET_ERR;
	}
	if (header.class == VIRTIO_NET_CTRL_ANNOUNCE &&
	    header.cmd == VIRTIO_NET_CTRL_ANNOUNCE_ACK) {
		return announced(net);
	}
	if (header.class != VIRTIO_NET_CTRL_MQ || header.cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET ||
	    iov_read(chain->iov, chain->out_count, sizeof(header), pairs, sizeof(pairs)) !=
		    sizeof(pairs)) {
		return VIRTIO_NET_ERR;
	}
	return set_pairs(net, load_le16(pairs));
}

void net_ctrl_process(struct virtio_net *net, struct virtio_queue *queue)
{
	struct net_ctrl *ctrl = &net->ctrl;
	struct virtqueue_chain chain;

	virtio_queue_begin(queue);
	do {
		while (!queue_limit_stops(&ctrl->limit) &&
		       virtqueue_pop(&queue->ring, &chain, ctrl->iov, ARRAY_SIZE(ctrl->iov)) > 0) {
			uint8_t ack = carry_out(net, &chain);
			size_t n = iov_write(chain.iov + chain.out_count, chain.in_count, 0, &ack,
					     sizeof(ack));

			queue_limit_take(&ctrl->limit, 0);
			virtqueue_push_exact(&queue->ring, &chain, (uint32_t)n);
		}
		if (ctrl->limit.throttled) {
			virtio_queue_publish(queue);
			return; /* kicks stay suppressed until the limit's timer */
		}
	} while (virtio_queue_more(queue));
}

void net_ctrl_stop(struct virtio_net *net)
{
	queue_limit_stop(&net->ctrl.limit);
}
