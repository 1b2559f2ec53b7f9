/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A card that is somewhere else now, after a restore, a fork or a migration: switches learn where (virtio 1.2
 * §5.1.6.5.4, Gratuitous Packet Sending). A driver that has accepted GUEST_ANNOUNCE finds a bit set in
 * the configuration, sends what its own addresses need (Linux: a gratuitous ARP for each), and says so
 * on the control queue. For any other one, or none, the card's address is shown by a frame of ours: a
 * reverse ARP request (RFC 903) to everybody, which switches learn from and hardly anybody answers.
 *
 * Once. A frame that is lost is followed by the guest's own ones sooner or later; more of ours would
 * need a timer that wakes an idle machine.
 *
 * A card offers for all of its life what it did when the guest first saw it: what was saved by a vmm that had no
 * GUEST_ANNOUNCE is loaded without it, though a fresh card offers it.
 *
 * Threads: the one that owns the machine, with vCPUs parked; the frame is sent by the worker of the
 * first transmit queue, which owns that side of the back end, whether or not the queue runs. The guest
 * controls when the bit is cleared, and nothing of the frame. Saved: the bit, and whether the feature
 * is offered.
 */
#include <errno.h>
#include <string.h>

#include "net_device.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("virtio-net");

#define ANNOUNCE_BIT (UINT64_C(1) << VIRTIO_NET_F_GUEST_ANNOUNCE)

/* The shortest frame of Ethernet, without its checksum. */
#define RARP_FRAME_SIZE 60

void net_clear_announce(struct virtio_net *net)
{
	if (atomic_exchange(&net->state.announce, false)) {
		/* §4.1.4.3.1: what the driver has read is no longer true. It knows, so it is not
		 * interrupted. */
		atomic_fetch_add(&net->dev.state.config_generation, 1);
	}
}

void net_offer_announce(struct virtio_net *net)
{
	net->dev.features_offered &= ~ANNOUNCE_BIT;
	net->dev.features_offered |= net->state.announce_offered ? ANNOUNCE_BIT : 0;
}

void virtio_net_expect_state(struct virtio_device *dev)
{
	/* The feature itself stays until then: what the driver has accepted is compared with it. */
	net_of(dev)->state.announce_offered = false;
}

static void make_rarp(uint8_t frame[RARP_FRAME_SIZE], const uint8_t mac[NETDEV_MAC_SIZE])
{
	/* EtherType; of Ethernet and IPv4; their addresses' lengths; 3: request reverse */
	static const uint8_t constants[] = { 0x80, 0x35, 0, 1, 0x08, 0, NETDEV_MAC_SIZE, 4, 0, 3 };

	memset(frame, 0, RARP_FRAME_SIZE);
	memset(frame, 0xff, NETDEV_MAC_SIZE);
	memcpy(frame + 6, mac, NETDEV_MAC_SIZE);
	memcpy(frame + 12, constants, sizeof(constants));
	memcpy(frame + 22, mac, NETDEV_MAC_SIZE); /* sender, whose IPv4 address is 0 */
	memcpy(frame + 32, mac, NETDEV_MAC_SIZE); /* target */
}

static void send_rarp(void *arg)
{
	struct virtio_net *net = arg;
	struct virtio_net_hdr_v1 header = { .gso_type = VIRTIO_NET_HDR_GSO_NONE };
	uint8_t frame[RARP_FRAME_SIZE];
	const struct iovec iov[] = { { &header, sizeof(header) }, { frame, sizeof(frame) } };
	struct error e = { 0 };
	int r = -ENODEV;

	make_rarp(frame, net->state.mac);
	if (!atomic_load(&net->gone)) {
		r = net->netdev->ops->send(net->netdev, iov, ARRAY_SIZE(iov));
	}
	if (r < 0) {
		(void)error_set_sys(
			&e, ERROR_NET, -r,
			"%s: '%s' does not take the frame by which switches would learn "
			"where the card is now",
			net->dev.name, net->netdev->name);
		log_info("%s", e.msg);
	}
}

static bool driver_listens(const struct virtio_net *net)
{
	uint32_t status = atomic_load(&net->dev.state.status);

	return (status & VIRTIO_CONFIG_S_DRIVER_OK) != 0 &&
	       (status & (VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET)) == 0 &&
	       virtio_has_feature(&net->dev, VIRTIO_NET_F_STATUS) &&
	       virtio_has_feature(&net->dev, VIRTIO_NET_F_GUEST_ANNOUNCE);
}

void virtio_net_announce(struct virtio_device *dev)
{
	struct virtio_net *net = net_of(dev);
	bool asked = false;

	{
		SCOPED_LOCK(&dev->lock);
		if (driver_listens(net)) {
			/* One that was asked before may have sent its frames already, elsewhere, and be
			 * about to answer: then it does nothing any more. */
			asked = !atomic_exchange(&net->state.announce, true);
			virtio_config_changed(dev);
		}
	}
	if (!asked) {
		(void)worker_call(net->pairs[0].tx_queue->worker, send_rarp, net);
	}
}
