/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network cards: from configuration to virtio network devices. Names of interfaces and numbers of
 * descriptors are a client's; they are opened before the sandbox.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "pci_hotplug.h"
#include "virtio_node.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/netdev.h"
#include "vmm/virtio_net.h"

LOG_DOMAIN("vm");

static int open_first(const struct vm_net_config *config, int query, struct netdev **ret,
		      struct error *e)
{
	if (config->kind == VM_NET_FD || (config->kind == VM_NET_NONE && config->tap == NULL)) {
		return netdev_open_fd(ret, config->fd, e);
	}
	if (config->fd > STDERR_FILENO) {
		auto_close int fd = fcntl(config->fd, F_DUPFD_CLOEXEC, 0);
		int r = fd < 0 ? error_set_sys(e, ERROR_NET, errno, "tap '%s'", config->tap)
			       : netdev_open_fd(ret, fd, e);

		if (r == 0) {
			(void)take_fd(&fd);
		}
		return r;
	}
	return netdev_open_tap_by(query, ret, config->tap, config->queues > 1, e);
}

static int open_netdev(const struct vm_net_config *config, int query, struct netdev **ret,
		       struct error *e)
{
	struct netdev *netdev = NULL;
	int r = open_first(config, query, &netdev, e);

	if (r == 0) {
		r = netdev_add_queues(netdev, config->queues, e);
	}
	if (r < 0) {
		netdev_destroy(netdev);
		return r;
	}
	*ret = netdev;
	return 0;
}

static void warn(const char *name, const struct netdev *netdev)
{
	if (netdev->made) {
		log_info("network card %s: made tap '%s', which was not there and goes when the VM "
			 "ends; 'ip link set %s up' connects it",
			 name, netdev->name, netdev->name);
	}
	if (netdev->mtu_max != 0 && netdev->mtu > netdev->mtu_max) {
		log_warn(
			"network card %s: mtu %u is more than that of '%s', %u: longer packets are "
			"lost ('ip link set %s mtu %u' mends it)",
			name, netdev->mtu, netdev->name, netdev->mtu_max, netdev->name,
			netdev->mtu);
	}
}

/* The device, of a back end that is open; which is closed if that fails. */
static int make_virtio(struct device *device, struct machine *machine,
		       const struct vm_config *config, uint32_t index, struct netdev *netdev,
		       struct error *e)
{
	static const struct rate_limit_config none;
	static const uint8_t no_mac[NETDEV_MAC_SIZE];
	const struct vm_net_config *net = &config->nets[index];
	struct virtio_node *node = virtio_node_of(device);
	uint8_t mac[NETDEV_MAC_SIZE];
	int r = netdev_set_mtu(netdev, net->mtu, e);

	memcpy(mac, net->mac, sizeof(mac));
	if (!net->has_mac && memcmp(mac, no_mac, sizeof(mac)) == 0) {
		netdev_make_mac(mac, config->name, index);
	}
	if (r == 0) {
		r = virtio_net_create(&node->virtio, device->name, netdev, mac, machine->mem,
				      node->workers, e);
	}
	if (r < 0) {
		netdev_destroy(netdev);
		return r;
	}
	warn(device->name, netdev);
	if (machine->places != NULL) {
		virtio_net_expect_state(node->virtio);
	}
	virtio_net_init_limits(node->virtio, net->has_rx ? &net->rx : &none,
			       net->has_tx ? &net->tx : &none);
	return 0;
}

static void name_card(struct device *device, const struct machine *machine)
{
	uint32_t number = 0;

	do {
		(void)snprintf(device->name, sizeof(device->name), "net%u", number++);
	} while (machine_has_name(machine, device->name));
}

static int net_create(struct device *device, struct machine *machine,
		      const struct vm_config *config, uint32_t index, struct error *e)
{
	const struct vm_net_config *net = &config->nets[index];
	struct netdev *netdev = NULL;
	int r;

	name_card(device, machine);
	r = device_take_id(device, net->id, e);
	if (r == 0) {
		r = virtio_node_begin(device, machine, &virtio_net_ops,
				      virtio_net_queues(MAX(net->queues, 1U)), SANDBOX_ROLE_NET, e);
	}
	if (r == 0) {
		r = open_netdev(net, pci_hotplug_query(machine), &netdev, e);
	}
	if (r == 0) {
		r = make_virtio(device, machine, config, index, netdev, e);
	}
	return r == 0 ? virtio_node_wire(device, machine, e)
		      : error_prefix(e, "network card %s", device->name);
}

static uint32_t net_count(const struct vm_config *config)
{
	return config->net_count;
}

static void read_figures(const struct device *device, void *ret)
{
	virtio_net_read_counters(virtio_of(device), ret);
}

#define FIGURE(name_, theirs_, total_, help_)                                          \
	{                                                                              \
		.name = #name_, .theirs = (theirs_), .total = DEVICE_TOTAL_##total_,   \
		.help = (help_), .offset = offsetof(struct virtio_net_counters, name_) \
	}
static const struct device_figure list[] = {
	FIGURE(rx_frames, "rx_packets_count rx_count", NONE, "Frames that the guest has received."),
	FIGURE(rx_bytes, "rx_bytes_count", NET_RECEIVED, "Bytes that the guest has received."),
	FIGURE(rx_invalid, NULL, NONE, "Frames for the guest dropped as invalid."),
	FIGURE(rx_no_room, "no_rx_avail_buffer", NONE,
	       "Frames for the guest dropped for want of room."),
	FIGURE(rx_errors, "rx_fails", NONE, "Frames for the guest that the host failed to give."),
	FIGURE(tx_frames, "tx_packets_count tx_count", NONE, "Frames that the guest has sent."),
	FIGURE(tx_bytes, "tx_bytes_count", NET_SENT, "Bytes that the guest has sent."),
	FIGURE(tx_invalid, "tx_malformed_frames", NONE, "Frames of the guest dropped as invalid."),
	FIGURE(tx_errors, "tx_fails", NONE, "Frames of the guest that the host did not take."),
	FIGURE(tx_waits, NULL, NONE, "Times that the host was full."),
};
#undef FIGURE
static const struct device_figures figures = {
	.prefix = "net",
	.theirs = "net",
	.each = true,
	.list = list,
	.count = ARRAY_SIZE(list),
	.read = read_figures,
};
_Static_assert(sizeof(struct virtio_net_counters) <= DEVICE_FIGURES_SIZE, "figures of a card");

const struct device_kind net_kind = {
	.name = "net",
	.size = sizeof(struct virtio_node),
	.ops = &virtio_node_ops,
	.count = net_count,
	.create = net_create,
	.figures = &figures,
};
