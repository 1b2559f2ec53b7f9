/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2 §5.1): the device around its two queues. net_rx.c and net_tx.c move the
 * frames.
 *
 * Threads: creation and configuration under the device's lock; each queue on its own worker. Both
 * workers may find that the link has changed. The counters have one writer each.
 *
 * The guest controls features, chains and transmitted headers; the back end controls received
 * frames and their headers. Offloads that the back end may use towards the guest are exactly those
 * that this driver has accepted, set by the receive worker each time it starts.
 *
 * Saved: MAC address, MTU and link state as the guest knows them. Not offered yet: CTRL_VQ with
 * GUEST_ANNOUNCE (comes with migration: a third queue), MQ.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "net_device.h"
#include "vmm/cleanup.h"

#define FEATURE(bit) (UINT64_C(1) << (bit))

/* Configuration space ends after mtu: what follows belongs to features that are not offered
 * (§5.1.4). */
#define CONFIG_SIZE (offsetof(struct virtio_net_config, mtu) + sizeof(uint16_t))

_Static_assert(sizeof(struct virtio_net_hdr_v1) == NETDEV_HEADER_SIZE, "header with num_buffers");

void net_set_link(struct virtio_net *net, bool up)
{
	bool gone;

	/* The other worker may find the back end gone while this one sees it up: gone wins. */
	do {
		gone = atomic_load(&net->gone);
		if (atomic_exchange(&net->link_up, up && !gone) != (up && !gone)) {
			virtio_config_changed(&net->dev);
		}
	} while (atomic_load(&net->gone) != gone);
}

void net_set_gone(struct virtio_net *net)
{
	atomic_store(&net->gone, true);
	net_set_link(net, false);
}

uint32_t net_offloads(uint64_t features, unsigned int csum, unsigned int tso4, unsigned int tso6,
		      unsigned int ecn)
{
	uint32_t offloads = 0;

	offloads |= (features & FEATURE(csum)) != 0 ? NETDEV_OFFLOAD_CSUM : 0;
	offloads |= (features & FEATURE(tso4)) != 0 ? NETDEV_OFFLOAD_TSO4 : 0;
	offloads |= (features & FEATURE(tso6)) != 0 ? NETDEV_OFFLOAD_TSO6 : 0;
	offloads |= (features & FEATURE(ecn)) != 0 ? NETDEV_OFFLOAD_ECN : 0;
	return netdev_usable_offloads(offloads);
}

static bool check_gso(struct virtio_net_hdr_v1 *header, uint64_t len, uint32_t offloads)
{
	uint32_t needs = NETDEV_OFFLOAD_CSUM;

	if ((header->gso_type & VIRTIO_NET_HDR_GSO_ECN) != 0) {
		needs |= NETDEV_OFFLOAD_ECN;
	}
	switch (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		needs |= NETDEV_OFFLOAD_TSO4;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		needs |= NETDEV_OFFLOAD_TSO6;
		break;
	default:
		return false;
	}
	/* A hint that may be wrong (§5.1.6.2.2); a back end may refuse one beyond the frame. */
	if (le16toh(header->hdr_len) > len) {
		header->hdr_len = htole16((uint16_t)len);
	}
	return (offloads & needs) == needs && header->gso_size != 0 &&
	       (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0;
}

bool net_check_header(struct virtio_net_hdr_v1 *header, uint64_t len, uint32_t offloads)
{
	if ((header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0) {
		uint32_t at = (uint32_t)le16toh(header->csum_start) + le16toh(header->csum_offset);

		if ((offloads & NETDEV_OFFLOAD_CSUM) == 0 ||
		    le16toh(header->csum_start) < NETDEV_FRAME_MIN || at + sizeof(uint16_t) > len) {
			return false;
		}
	} else {
		header->csum_start = 0;
		header->csum_offset = 0;
	}
	/* ECN alone says something about segments that are not there. */
	if ((header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_NONE) {
		header->gso_type = VIRTIO_NET_HDR_GSO_NONE;
		header->gso_size = 0;
		header->hdr_len = 0;
		return true;
	}
	return check_gso(header, len, offloads);
}

struct iovec *net_split_header(struct iovec *list, uint32_t *count, void *header,
			       struct net_split *saved)
{
	size_t skip = NETDEV_HEADER_SIZE;
	uint32_t i = 0;

	while (i < *count && list[i].iov_len <= skip) {
		skip -= list[i].iov_len;
		i++;
	}
	list += (ptrdiff_t)i - 1;
	*count -= i;
	if (saved != NULL) {
		*saved = (struct net_split){ .at = list, .before = list[0], .cut = *count != 0 };
		if (saved->cut) {
			saved->after = list[1];
		}
	}
	if (*count != 0) {
		list[1].iov_base = (uint8_t *)list[1].iov_base + skip;
		list[1].iov_len -= skip;
	}
	list[0] = (struct iovec){ .iov_base = header, .iov_len = NETDEV_HEADER_SIZE };
	++*count;
	return list;
}

void net_unsplit(const struct net_split *saved)
{
	saved->at[0] = saved->before;
	if (saved->cut) {
		saved->at[1] = saved->after;
	}
}

static bool net_features_valid(const struct virtio_device *dev, uint64_t features)
{
	/* §5.1.3.1, Feature bit requirements */
	static const struct {
		uint64_t bit, any_of;
	} requirements[] = {
		{ FEATURE(VIRTIO_NET_F_GUEST_TSO4), FEATURE(VIRTIO_NET_F_GUEST_CSUM) },
		{ FEATURE(VIRTIO_NET_F_GUEST_TSO6), FEATURE(VIRTIO_NET_F_GUEST_CSUM) },
		{ FEATURE(VIRTIO_NET_F_GUEST_ECN),
		  FEATURE(VIRTIO_NET_F_GUEST_TSO4) | FEATURE(VIRTIO_NET_F_GUEST_TSO6) },
		{ FEATURE(VIRTIO_NET_F_HOST_TSO4), FEATURE(VIRTIO_NET_F_CSUM) },
		{ FEATURE(VIRTIO_NET_F_HOST_TSO6), FEATURE(VIRTIO_NET_F_CSUM) },
		{ FEATURE(VIRTIO_NET_F_HOST_ECN),
		  FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_HOST_TSO6) },
	};

	(void)dev;
	for (size_t i = 0; i < ARRAY_SIZE(requirements); i++) {
		if ((features & requirements[i].bit) != 0 &&
		    (features & requirements[i].any_of) == 0) {
			return false;
		}
	}
	return true;
}

static void net_config_read(struct virtio_device *dev, uint32_t offset, void *buf, uint32_t len)
{
	struct virtio_net *net = net_of(dev);
	struct virtio_net_config config = {
		.status = htole16(atomic_load(&net->link_up) ? VIRTIO_NET_S_LINK_UP : 0),
		.max_virtqueue_pairs = htole16(1),
		.mtu = htole16(net->mtu),
	};

	memcpy(config.mac, net->mac, sizeof(config.mac));
	memcpy(buf, (const uint8_t *)&config + offset, len);
}

static void net_queue_start(struct virtio_device *dev, struct virtio_queue *queue)
{
	if (queue->index == VIRTIO_NET_QUEUE_RX) {
		net_rx_start(net_of(dev), queue);
	} else {
		net_tx_start(net_of(dev), queue);
	}
}

static void net_queue_process(struct virtio_device *dev, struct virtio_queue *queue)
{
	if (queue->index == VIRTIO_NET_QUEUE_RX) {
		net_rx_process(net_of(dev), queue);
	} else {
		net_tx_process(net_of(dev), queue);
	}
}

static void net_queue_stop(struct virtio_device *dev, struct virtio_queue *queue)
{
	if (queue->index == VIRTIO_NET_QUEUE_RX) {
		net_rx_stop(net_of(dev), queue);
	} else {
		net_tx_stop(net_of(dev), queue);
	}
}

/* Mapped, not allocated: malloc may clear, and thereby touch, all of the buffers that only traffic
 * needs. */
static struct virtio_net *net_alloc(void)
{
	void *p = mmap(NULL, sizeof(struct virtio_net), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p != MAP_FAILED ? p : NULL;
}

static void net_free(struct virtio_net *net)
{
	(void)munmap(net, sizeof(*net));
}

static void net_destroy(struct virtio_device *dev)
{
	struct virtio_net *net = net_of(dev);

	netdev_destroy(net->netdev);
	virtio_device_finish(dev);
	net_free(net);
}

static const struct state_field net_fields[] = {
	STATE_BYTES(1, struct virtio_net, mac, 1),
	STATE_FIELD(2, struct virtio_net, mtu, 1),
	STATE_FIELD(3, struct virtio_net, link_up, 1),
};

static bool mac_usable(const uint8_t *mac)
{
	static const uint8_t zero[NETDEV_MAC_SIZE];

	return (mac[0] & 1) == 0 && memcmp(mac, zero, sizeof(zero)) != 0;
}

static bool mtu_usable(uint16_t mtu)
{
	return mtu == 0 || mtu >= NETDEV_MTU_MIN;
}

static int net_validate(const void *object, struct error *e)
{
	const struct virtio_net *net = object;

	if (!mac_usable(net->mac)) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "virtio-net: the MAC address is not a unicast one");
	}
	if (!mtu_usable(net->mtu)) {
		return error_set(e, ERROR_STATE, EINVAL, "virtio-net: MTU %u is below %d", net->mtu,
				 NETDEV_MTU_MIN);
	}
	return 0;
}

static const struct state_desc net_state =
	STATE_DESC("virtio-net", 1, struct virtio_net, net_fields, .validate = net_validate);

static const uint16_t queue_sizes[VIRTIO_NET_QUEUES] = { VIRTIO_NET_QUEUE_SIZE,
							 VIRTIO_NET_QUEUE_SIZE };
static const char *const queue_names[VIRTIO_NET_QUEUES] = { "net-rx", "net-tx" };

/* System calls of the queues are those of the back ends: netdev_ops.syscalls. */
const struct virtio_ops virtio_net_ops = {
	.name = "virtio-net",
	.id = VIRTIO_ID_NET,
	.queue_count = VIRTIO_NET_QUEUES,
	.queue_sizes = queue_sizes,
	.queue_names = queue_names,
	.state = &net_state,
	.features_valid = net_features_valid,
	.config_read = net_config_read,
	.queue_start = net_queue_start,
	.queue_process = net_queue_process,
	.queue_stop = net_queue_stop,
	.destroy = net_destroy,
};

static uint64_t features_of(const struct netdev *netdev)
{
	static const struct {
		uint32_t offload;
		uint64_t features;
	} both_ways[] = {
		{ NETDEV_OFFLOAD_CSUM,
		  FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_CSUM) },
		{ NETDEV_OFFLOAD_TSO4,
		  FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_GUEST_TSO4) },
		{ NETDEV_OFFLOAD_TSO6,
		  FEATURE(VIRTIO_NET_F_HOST_TSO6) | FEATURE(VIRTIO_NET_F_GUEST_TSO6) },
		{ NETDEV_OFFLOAD_ECN,
		  FEATURE(VIRTIO_NET_F_HOST_ECN) | FEATURE(VIRTIO_NET_F_GUEST_ECN) },
	};
	uint32_t offloads = netdev_usable_offloads(netdev->offloads);
	uint64_t features = FEATURE(VIRTIO_NET_F_MAC) | FEATURE(VIRTIO_NET_F_STATUS) |
			    FEATURE(VIRTIO_NET_F_MRG_RXBUF);

	for (size_t i = 0; i < ARRAY_SIZE(both_ways); i++) {
		features |= (offloads & both_ways[i].offload) != 0 ? both_ways[i].features : 0;
	}
	return features | (netdev->mtu != 0 ? FEATURE(VIRTIO_NET_F_MTU) : 0);
}

int virtio_net_create(struct virtio_device **ret, const char *name, struct netdev *netdev,
		      const uint8_t mac[NETDEV_MAC_SIZE], struct guest_memory *mem,
		      struct worker *workers, struct error *e)
{
	static const struct rate_limit_config none;
	struct virtio_net *net;
	int r;

	if (!mac_usable(mac)) {
		return error_set(e, ERROR_NET, EINVAL,
				 "%s: %02x:%02x:%02x:%02x:%02x:%02x is not the address of one card",
				 name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	}
	if (!mtu_usable(netdev->mtu)) {
		return error_set(e, ERROR_NET, EINVAL, "%s: MTU %u is not between %d and %d", name,
				 netdev->mtu, NETDEV_MTU_MIN, NETDEV_MTU_MAX);
	}
	net = net_alloc();
	if (net == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "%s", name);
	}
	r = virtio_device_init(&net->dev, &virtio_net_ops, name, mem, features_of(netdev),
			       CONFIG_SIZE, workers, e);
	if (r < 0) {
		net_free(net);
		return r;
	}
	memcpy(net->mac, mac, sizeof(net->mac));
	net->mtu = netdev->mtu;
	net->netdev = netdev;
	atomic_store(&net->link_up, netdev->link_up);
	virtio_net_init_limits(&net->dev, &none, &none);
	*ret = &net->dev;
	return 0;
}

void virtio_net_init_limits(struct virtio_device *dev, const struct rate_limit_config *rx,
			    const struct rate_limit_config *tx)
{
	queue_limit_init(&net_of(dev)->rx.limit, &dev->queues[VIRTIO_NET_QUEUE_RX], rx);
	queue_limit_init(&net_of(dev)->tx.limit, &dev->queues[VIRTIO_NET_QUEUE_TX], tx);
}

void virtio_net_limit(struct virtio_device *dev, const struct rate_limit_config *rx,
		      const struct rate_limit_config *tx)
{
	if (rx != NULL) {
		queue_limit_change(&net_of(dev)->rx.limit, rx);
	}
	if (tx != NULL) {
		queue_limit_change(&net_of(dev)->tx.limit, tx);
	}
}

void virtio_net_read_counters(const struct virtio_device *dev, struct virtio_net_counters *ret)
{
	const struct net_counters *c = &container_of(dev, const struct virtio_net, dev)->counters;

#define READ(field) .field = atomic_load_explicit(&c->field, memory_order_relaxed)
	*ret = (struct virtio_net_counters){
		READ(rx_frames), READ(rx_bytes),  READ(rx_invalid), READ(rx_no_room),
		READ(rx_errors), READ(tx_frames), READ(tx_bytes),   READ(tx_invalid),
		READ(tx_errors), READ(tx_waits),
	};
#undef READ
}
