/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2 §5.1): the device around its queues. net_rx.c and net_tx.c move the
 * frames, net_ctrl.c obeys commands, net_announce.c tells switches where the card is now.
 *
 * Threads: creation and configuration under the device's lock; each queue on its own worker. Any
 * worker may find that the link has changed. The counters have one writer each.
 *
 * The guest controls features, chains and transmitted headers; the back end controls received
 * frames and their headers. Offloads that the back end may use towards the guest are exactly those
 * that this driver has accepted, set by the receive worker each time it starts.
 *
 * A card with one pair has no control queue, and so neither MQ nor GUEST_ANNOUNCE: it would cost every
 * VM a thread and a tenth of a millisecond of its start, for what net_announce.c does without the
 * driver as well; Firecracker's card has none; and saved cards with two queues have to fit.
 *
 * Saved: MAC address, MTU and link state as the guest knows them, pairs in use, what net_announce.c
 * says.
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

	/* Another worker may find the back end gone while this one sees it up: gone wins. */
	do {
		gone = atomic_load(&net->gone);
		if (atomic_exchange(&net->state.link_up, up && !gone) != (up && !gone)) {
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
		{ FEATURE(VIRTIO_NET_F_MQ), FEATURE(VIRTIO_NET_F_CTRL_VQ) },
		{ FEATURE(VIRTIO_NET_F_GUEST_ANNOUNCE), FEATURE(VIRTIO_NET_F_CTRL_VQ) },
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

static uint16_t config_status(struct virtio_net *net)
{
	unsigned int status = atomic_load(&net->state.link_up) ? VIRTIO_NET_S_LINK_UP : 0;

	if (virtio_has_feature(&net->dev, VIRTIO_NET_F_GUEST_ANNOUNCE) &&
	    atomic_load(&net->state.announce)) {
		status |= VIRTIO_NET_S_ANNOUNCE;
	}
	return (uint16_t)status;
}

static void net_config_read(struct virtio_device *dev, uint32_t offset, void *buf, uint32_t len)
{
	struct virtio_net *net = net_of(dev);
	struct virtio_net_config config = {
		.status = htole16(config_status(net)),
		.max_virtqueue_pairs = htole16((uint16_t)net->pair_count),
		.mtu = htole16(net->state.mtu),
	};

	memcpy(config.mac, net->state.mac, sizeof(config.mac));
	memcpy(buf, (const uint8_t *)&config + offset, len);
}

enum role { ROLE_RX, ROLE_TX, ROLE_CTRL, ROLE_NONE };

static enum role role_of(const struct virtio_net *net, const struct virtio_queue *queue)
{
	uint32_t pairs = virtio_has_feature(&net->dev, VIRTIO_NET_F_MQ) ? net->pair_count : 1;

	if (queue->index < 2 * pairs) {
		return queue->index % 2 == VIRTIO_NET_QUEUE_RX ? ROLE_RX : ROLE_TX;
	}
	return queue->index == 2 * pairs && virtio_has_feature(&net->dev, VIRTIO_NET_F_CTRL_VQ)
		       ? ROLE_CTRL
		       : ROLE_NONE;
}

static void net_queue_start(struct virtio_device *dev, struct virtio_queue *queue)
{
	struct virtio_net *net = net_of(dev);

	switch (role_of(net, queue)) {
	case ROLE_RX:
		net_rx_start(&net->pairs[queue->index / 2]);
		break;
	case ROLE_TX:
		net_tx_start(&net->pairs[queue->index / 2]);
		break;
	case ROLE_CTRL:
		/* Not before the driver can, and of whichever queue that is. */
		queue_limit_init(&net->ctrl.limit, &net->ctrl.rate, queue);
		break;
	case ROLE_NONE:
		break;
	}
}

static void net_queue_process(struct virtio_device *dev, struct virtio_queue *queue)
{
	struct virtio_net *net = net_of(dev);

	switch (role_of(net, queue)) {
	case ROLE_RX:
		net_rx_process(&net->pairs[queue->index / 2]);
		break;
	case ROLE_TX:
		net_tx_process(&net->pairs[queue->index / 2]);
		break;
	case ROLE_CTRL:
		net_ctrl_process(net, queue);
		break;
	case ROLE_NONE:
		break;
	}
}

static void net_queue_stop(struct virtio_device *dev, struct virtio_queue *queue)
{
	struct virtio_net *net = net_of(dev);

	switch (role_of(net, queue)) {
	case ROLE_RX:
		net_rx_stop(&net->pairs[queue->index / 2]);
		break;
	case ROLE_TX:
		net_tx_stop(&net->pairs[queue->index / 2]);
		break;
	case ROLE_CTRL:
		net_ctrl_stop(net);
		break;
	case ROLE_NONE:
		break;
	}
}

/* The back end is told when the first receive queue starts. */
static void net_reset(struct virtio_device *dev)
{
	atomic_store(&net_of(dev)->state.active_pairs, 1);
	net_clear_announce(net_of(dev));
}

static size_t net_size(uint32_t pairs)
{
	return sizeof(struct virtio_net) + pairs * sizeof(struct net_pair);
}

/* Mapped, not allocated: malloc may clear, and thereby touch, all of the buffers that only traffic
 * needs. */
static struct virtio_net *net_alloc(uint32_t pairs)
{
	void *p = mmap(NULL, net_size(pairs), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	return p != MAP_FAILED ? p : NULL;
}

static void net_free(struct virtio_net *net, uint32_t pairs)
{
	(void)munmap(net, net_size(pairs));
}

static void net_destroy(struct virtio_device *dev)
{
	struct virtio_net *net = net_of(dev);

	netdev_destroy(net->netdev);
	virtio_device_finish(dev);
	shared_rate_finish(&net->rx_rate);
	shared_rate_finish(&net->tx_rate);
	shared_rate_finish(&net->ctrl.rate);
	for (uint32_t i = 0; i < net->pair_count; i++) {
		(void)pthread_mutex_destroy(&net->pairs[i].rx.run);
	}
	net_free(net, net->pair_count);
}

static const struct state_field net_fields[] = {
	STATE_BYTES(1, struct virtio_net_state, mac, 1),
	STATE_FIELD(2, struct virtio_net_state, mtu, 1),
	STATE_FIELD(3, struct virtio_net_state, link_up, 1),
	STATE_FIELD(4, struct virtio_net_state, active_pairs, 1),
	STATE_FIELD(5, struct virtio_net_state, announce, 2),
	STATE_FIELD(6, struct virtio_net_state, announce_offered, 2),
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

static int net_validate(const void *object, const void *owner, struct error *e)
{
	const struct virtio_net_state *state = object;
	const struct virtio_net *net = owner;
	uint16_t pairs = atomic_load(&state->active_pairs);

	if (!mac_usable(state->mac)) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "virtio-net: the MAC address is not a unicast one");
	}
	if (!mtu_usable(state->mtu)) {
		return error_set(e, ERROR_STATE, EINVAL, "virtio-net: MTU %u is below %d",
				 state->mtu, NETDEV_MTU_MIN);
	}
	if (pairs == 0 || pairs > net->pair_count) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "virtio-net: %u pairs of queues in use, the device has %u", pairs,
				 net->pair_count);
	}
	if ((state->announce_offered || atomic_load(&state->announce)) && net->pair_count == 1) {
		return error_set(
			e, ERROR_STATE, EINVAL,
			"virtio-net: GUEST_ANNOUNCE needs a control queue, which the device "
			"does not have");
	}
	return 0;
}

static void net_post_load(void *state, void *owner)
{
	(void)state;
	net_offer_announce(owner);
}

static const struct state_desc net_state =
	STATE_DESC_IN(struct virtio_net, state, "virtio-net", 2, net_fields,
		      .validate = net_validate, .post_load = net_post_load);

static const struct virtio_queue_type queues[] = {
	{ VIRTIO_NET_QUEUE_SIZE, "net-rx" },
	{ VIRTIO_NET_QUEUE_SIZE, "net-tx" },
	{ VIRTIO_NET_CTRL_QUEUE_SIZE, "net-ctl" },
};

/* System calls of the queues are those of the back ends: netdev_ops.syscalls. */
const struct virtio_ops virtio_net_ops = {
	.name = "virtio-net",
	.id = VIRTIO_ID_NET,
	.pci_class = 0x020000, /* Ethernet */
	.queue_types = queues,
	.queue_type_count = ARRAY_SIZE(queues),
	.queue_repeat = 2,
	.state = &net_state,
	.features_valid = net_features_valid,
	.config_read = net_config_read,
	.reset = net_reset,
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
	if (netdev->more != NULL) {
		features |= FEATURE(VIRTIO_NET_F_CTRL_VQ) | FEATURE(VIRTIO_NET_F_MQ) |
			    FEATURE(VIRTIO_NET_F_GUEST_ANNOUNCE);
	}
	return features | (netdev->mtu != 0 ? FEATURE(VIRTIO_NET_F_MTU) : 0);
}

static void init_pair(struct virtio_net *net, uint32_t index, struct netdev *netdev)
{
	struct net_pair *pair = &net->pairs[index];

	pair->net = net;
	pair->netdev = netdev;
	pair->rx_queue = &net->dev.queues[2 * index + VIRTIO_NET_QUEUE_RX];
	pair->tx_queue = &net->dev.queues[2 * index + VIRTIO_NET_QUEUE_TX];
	(void)pthread_mutex_init(&pair->rx.run, NULL);
	queue_limit_init(&pair->rx.limit, &net->rx_rate, pair->rx_queue);
	queue_limit_init(&pair->tx.limit, &net->tx_rate, pair->tx_queue);
}

static int check(const char *name, const struct netdev *netdev, const uint8_t *mac, struct error *e)
{
	if (!mac_usable(mac)) {
		return error_set(e, ERROR_NET, EINVAL,
				 "%s: %02x:%02x:%02x:%02x:%02x:%02x is not the address of one card",
				 name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	}
	if (!mtu_usable(netdev->mtu)) {
		return error_set(e, ERROR_NET, EINVAL, "%s: MTU %u is not between %d and %d", name,
				 netdev->mtu, NETDEV_MTU_MIN, NETDEV_MTU_MAX);
	}
	return 0;
}

int virtio_net_create(struct virtio_device **ret, const char *name, struct netdev *netdev,
		      const uint8_t mac[NETDEV_MAC_SIZE], struct guest_memory *mem,
		      struct worker *workers, struct error *e)
{
	static const struct rate_limit_config ctrl_rate = { .ops = { NET_CTRL_RATE, 0, 1000 },
							    .has_ops = true };
	uint32_t pairs = netdev_count(netdev);
	struct virtio_net *net;
	int r = check(name, netdev, mac, e);

	if (r < 0) {
		return r;
	}
	net = net_alloc(pairs);
	if (net == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "%s", name);
	}
	r = virtio_device_init(&net->dev, &virtio_net_ops, name, mem, features_of(netdev),
			       CONFIG_SIZE, virtio_net_queues(pairs), workers, e);
	if (r < 0) {
		net_free(net, pairs);
		return r;
	}
	memcpy(net->state.mac, mac, sizeof(net->state.mac));
	net->state.mtu = netdev->mtu;
	net->netdev = netdev;
	net->pair_count = pairs;
	net->state.announce_offered = pairs > 1;
	atomic_store(&net->state.link_up, netdev->link_up);
	atomic_store(&net->state.active_pairs, 1);
	shared_rate_init(&net->rx_rate);
	shared_rate_init(&net->tx_rate);
	shared_rate_init(&net->ctrl.rate);
	shared_rate_change(&net->ctrl.rate, &ctrl_rate);
	for (uint32_t i = 0; i < pairs; i++, netdev = netdev->more) {
		init_pair(net, i, netdev);
	}
	*ret = &net->dev;
	return 0;
}

void virtio_net_init_limits(struct virtio_device *dev, const struct rate_limit_config *rx,
			    const struct rate_limit_config *tx)
{
	shared_rate_change(&net_of(dev)->rx_rate, rx);
	shared_rate_change(&net_of(dev)->tx_rate, tx);
}

void virtio_net_limit(struct virtio_device *dev, const struct rate_limit_config *rx,
		      const struct rate_limit_config *tx)
{
	struct virtio_net *net = net_of(dev);

	if (rx != NULL) {
		shared_rate_change(&net->rx_rate, rx);
	}
	if (tx != NULL) {
		shared_rate_change(&net->tx_rate, tx);
	}
	for (uint32_t i = 0; i < net->pair_count; i++) {
		if (rx != NULL) {
			queue_limit_wake(&net->pairs[i].rx.limit);
		}
		if (tx != NULL) {
			queue_limit_wake(&net->pairs[i].tx.limit);
		}
	}
}

void virtio_net_read_counters(const struct virtio_device *dev, struct virtio_net_counters *ret)
{
	const struct virtio_net *net = container_of(dev, const struct virtio_net, dev);

	*ret = (struct virtio_net_counters){ 0 };
	for (uint32_t i = 0; i < net->pair_count; i++) {
		const struct net_counters *c = &net->pairs[i].counters;

#define ADD(field) ret->field += atomic_load_explicit(&c->field, memory_order_relaxed)
		ADD(rx_frames);
		ADD(rx_bytes);
		ADD(rx_invalid);
		ADD(rx_no_room);
		ADD(rx_errors);
		ADD(tx_frames);
		ADD(tx_bytes);
		ADD(tx_invalid);
		ADD(tx_errors);
		ADD(tx_waits);
#undef ADD
	}
}

const struct netdev *virtio_net_backend(const struct virtio_device *dev)
{
	return container_of(dev, const struct virtio_net, dev)->netdev;
}
