/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tap interfaces (Linux, Documentation/networking/tuntap.rst): readv() takes a frame that the host
 * sends into the interface, writev() lets one arrive from it, each behind a virtio_net_hdr_v1. The
 * kernel computes checksums and segments as the header asks, and leaves to the reader what
 * TUNSETOFFLOAD allows. It writes the header in the host's byte order, which is the little-endian
 * of virtio here.
 *
 * What the kernel says: EIO from writev() - the interface is down, EPOLLOUT comes with the next
 * "up". EBADFD - it has been deleted (epoll: EPOLLERR for ever). EINVAL - the header does not fit
 * the frame. Reading from an interface that is down is EAGAIN.
 *
 * Frames and headers are checked by the caller. Nothing is saved.
 */
#include "vmm/netdev.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "netdev_internal.h"
#include "vmm/cleanup.h"

#define TUN_PATH "/dev/net/tun"

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "big-endian hosts need TUNSETVNETLE");
_Static_assert(IFNAMSIZ == NETDEV_NAME_SIZE, "interface names");

static ssize_t tap_receive(struct netdev *netdev, const struct iovec *iov, int count)
{
	ssize_t n = readv(netdev->fd, iov, count);

	if (n >= 0) {
		return n;
	}
	return errno == EBADFD ? -ENODEV : -errno;
}

static int tap_send(struct netdev *netdev, const struct iovec *iov, int count)
{
	if (writev(netdev->fd, iov, count) >= 0) {
		return 0;
	}
	switch (errno) {
	case EIO:
		return -ENETDOWN;
	case EBADFD:
		return -ENODEV;
	default:
		return -errno;
	}
}

static int tap_set_offloads(struct netdev *netdev, uint32_t offloads)
{
	unsigned long flags = 0;

	flags |= (offloads & NETDEV_OFFLOAD_CSUM) != 0 ? TUN_F_CSUM : 0;
	flags |= (offloads & NETDEV_OFFLOAD_TSO4) != 0 ? TUN_F_TSO4 : 0;
	flags |= (offloads & NETDEV_OFFLOAD_TSO6) != 0 ? TUN_F_TSO6 : 0;
	flags |= (offloads & NETDEV_OFFLOAD_ECN) != 0 ? TUN_F_TSO_ECN : 0;
	if (ioctl(netdev->fd, TUNSETOFFLOAD, flags) != 0) {
		return errno == EBADFD ? -ENODEV : -errno;
	}
	return 0;
}

/* A queue that is detached is as one of an interface that nobody sends to. */
static int tap_attach_queue(struct netdev *netdev, bool attach)
{
	struct ifreq ifr = { .ifr_flags = attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	if (ioctl(netdev->fd, TUNSETQUEUE, &ifr) != 0) {
		return errno == EBADFD ? -ENODEV : -errno;
	}
	return 0;
}

static const struct syscall_rule tap_rules[] = {
	SYSCALL("readv"),
	SYSCALL("writev"),
	SYSCALL_IOCTL(TUNSETOFFLOAD),
	SYSCALL_IOCTL(TUNSETQUEUE),
};

static const struct syscall_rule open_rules[] = {
	SYSCALL_IOCTL(SIOCGIFMTU),
	SYSCALL_IOCTL(TUNSETIFF),
	SYSCALL_IOCTL(TUNSETVNETHDRSZ),
	SYSCALL("poll"),
};
const struct syscall_list netdev_open_syscalls = SYSCALL_LIST(open_rules);

const struct netdev_ops netdev_tap_ops = {
	.kind = "tap",
	.syscalls = SYSCALL_LIST(tap_rules),
	.receive = tap_receive,
	.send = tap_send,
	.set_offloads = tap_set_offloads,
	.attach_queue = tap_attach_queue,
};

/* Common end of both ways to a tap: `netdev->fd` is attached to an interface. */
static int tap_prepare(struct netdev *netdev, struct error *e)
{
	struct pollfd writable = { .fd = netdev->fd, .events = POLLOUT };
	int header = NETDEV_HEADER_SIZE;

	if (ioctl(netdev->fd, TUNSETVNETHDRSZ, &header) != 0) {
		return error_set_sys(e, ERROR_NET, errno, "tap '%s': set the header's size",
				     netdev->name);
	}
	netdev->offloads = NETDEV_OFFLOAD_ALL;
	/* Writable means "up". Asked this way, it works for an interface of another network
	 * namespace too. */
	netdev->link_up = poll(&writable, 1, 0) > 0 && (writable.revents & POLLOUT) != 0;
	return 0;
}

int netdev_open_query(void)
{
	int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return sock >= 0 ? sock : -errno;
}

/* Asks the kernel of the interface `name` in our network namespace; negative errno. By that socket or,
 * if there is none, by one of its own. */
static int ask(int query, const char *name, unsigned long request, struct ifreq *ifr)
{
	auto_close int own = query < 0 ? netdev_open_query() : -1;

	if (query < 0 && own < 0) {
		return own;
	}
	*ifr = (struct ifreq){ 0 };
	memcpy(ifr->ifr_name, name, strlen(name));
	return ioctl(query < 0 ? own : query, request, ifr) == 0 ? 0 : -errno;
}

/* *mtu is 0 if there is no such interface. */
static int look_up(int query, const char *name, uint32_t *mtu, struct error *e)
{
	struct ifreq ifr = { 0 };
	int r = ask(query, name, SIOCGIFMTU, &ifr);

	if (r < 0 && r != -ENODEV) {
		return error_set_sys(e, ERROR_NET, -r, "tap '%s'", name);
	}
	*mtu = r == 0 && ifr.ifr_mtu > 0 ? (uint32_t)ifr.ifr_mtu : 0;
	return 0;
}

static int missing(const char *name, struct error *e)
{
	(void)error_set(e, ERROR_NET, ENODEV,
			"tap '%s': there is no such interface, and we may not make one", name);
	return error_hint(e,
			  "create it: sudo ip tuntap add %s mode tap user $USER vnet_hdr && sudo "
			  "ip link set %s up",
			  name, name);
}

static int open_tun(int *ret, const char *name, struct error *e)
{
	int fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int sys = errno;

	if (fd >= 0) {
		*ret = fd;
		return 0;
	}
	(void)error_set_sys(e, ERROR_NET, sys, "tap '%s': open '%s'", name, TUN_PATH);
	if (sys == EACCES || sys == EPERM) {
		(void)error_hint(e,
				 "let users open it, each can use only taps of their own: sudo "
				 "chmod 0666 %s",
				 TUN_PATH);
	} else if (sys == ENOENT || sys == ENODEV || sys == ENXIO) {
		(void)error_hint(e, "load the driver: sudo modprobe tun");
	}
	return -sys;
}

static int attach_error(int sys, const char *name, struct error *e)
{
	switch (sys) {
	case EPERM:
		(void)error_set(e, ERROR_NET, sys,
				"tap '%s': no permission, it belongs to another user", name);
		return error_hint(e,
				  "make it yours: sudo ip tuntap del %s mode tap; sudo ip tuntap "
				  "add %s mode tap user $USER vnet_hdr",
				  name, name);
	case EBUSY:
		(void)error_set(e, ERROR_NET, sys, "tap '%s' is in use by another program", name);
		return error_hint(e, "give each VM a tap of its own");
	case EINVAL:
		(void)error_set(e, ERROR_NET, sys, "'%s' is an interface, but not a tap", name);
		return error_hint(
			e,
			"taps are made with: sudo ip tuntap add NAME mode tap user $USER vnet_hdr");
	default:
		return error_set_sys(e, ERROR_NET, sys, "tap '%s': attach", name);
	}
}

static int set_interface(int fd, const char *name, bool several)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

	if (several) {
		ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_MULTI_QUEUE);
	}
	memcpy(ifr.ifr_name, name, strlen(name));
	return ioctl(fd, TUNSETIFF, &ifr) == 0 ? 0 : -errno;
}

static int attach(int fd, const char *name, bool several, struct error *e)
{
	int r = set_interface(fd, name, several);

	/* An interface has to be asked for as it was made, for one queue or for one of several. */
	if (r == -EINVAL && set_interface(fd, name, !several) == 0) {
		if (!several) {
			return 0;
		}
		(void)error_set(e, ERROR_NET, EINVAL, "tap '%s' was made for one queue", name);
		return error_hint(e,
				  "make it for several: sudo ip tuntap del %s mode tap; sudo ip "
				  "tuntap add %s mode tap user $USER vnet_hdr multi_queue",
				  name, name);
	}
	return r == 0 ? 0 : attach_error(-r, name, e);
}

/* Opens the interface, or makes it: TUNSETIFF does either. */
static int claim(int *ret, const char *name, bool several, int query, bool *made, uint32_t *mtu,
		 struct error *e)
{
	auto_close int fd = -1;
	int r = look_up(query, name, mtu, e);

	if (r < 0) {
		return r;
	}
	*made = *mtu == 0;
	r = open_tun(&fd, name, e);
	if (r == 0) {
		r = attach(fd, name, several, e);
	}
	if (*made && (r == -EPERM || r == -EACCES)) {
		return missing(name, e);
	}
	if (r == 0 && *made) {
		r = look_up(query, name, mtu, e);
	}
	if (r == 0) {
		*ret = take_fd(&fd);
	}
	return r;
}

int netdev_claim_tap(int *ret, const char *name, bool several, struct error *e)
{
	uint32_t mtu;
	bool made;
	int r = netdev_check_name(name, e);

	return r == 0 ? claim(ret, name, several, -1, &made, &mtu, e) : r;
}

/* One more queue, which gives no frames yet. */
static int open_queue(struct netdev **ret, const struct netdev *first, struct error *e)
{
	struct netdev *netdev = netdev_new(&netdev_tap_ops, e, "%s", first->name);
	int r = netdev != NULL ? open_tun(&netdev->fd, first->name, e) : -ENOMEM;

	if (r == 0) {
		r = attach(netdev->fd, first->name, true, e);
	}
	if (r == 0) {
		r = tap_prepare(netdev, e);
	}
	if (r == 0) {
		r = netdev_attach_queue(netdev, false);
		if (r < 0) {
			(void)error_set_sys(e, ERROR_NET, -r, "tap '%s': detach a queue",
					    first->name);
		}
	}
	if (r < 0) {
		netdev_destroy(netdev);
		return r;
	}
	*ret = netdev;
	return 0;
}

int netdev_add_queues(struct netdev *first, uint32_t count, struct error *e)
{
	struct netdev *last = first;

	for (uint32_t i = netdev_count(first); i < count; i++) {
		int r;

		while (last->more != NULL) {
			last = last->more;
		}
		r = open_queue(&last->more, first, e);
		if (r < 0) {
			return error_prefix(e, "queue %u", i + 1);
		}
	}
	return 0;
}

int netdev_open_tap_by(int query, struct netdev **ret, const char *name, bool several,
		       struct error *e)
{
	struct netdev *netdev;
	int r;

	r = netdev_check_name(name, e);
	if (r < 0) {
		return r;
	}
	netdev = netdev_new(&netdev_tap_ops, e, "%s", name);
	if (netdev == NULL) {
		return -ENOMEM;
	}
	r = claim(&netdev->fd, name, several, query, &netdev->made, &netdev->mtu_max, e);
	if (r == 0) {
		r = tap_prepare(netdev, e);
	}
	if (r < 0) {
		netdev_destroy(netdev);
		return r;
	}
	*ret = netdev;
	return 0;
}

int netdev_open_tap(struct netdev **ret, const char *name, bool several, struct error *e)
{
	return netdev_open_tap_by(-1, ret, name, several, e);
}

/* The descriptor is a tap's, and set up in the way that we need. */
static int check_adopted(int fd, struct ifreq *ifr, struct error *e)
{
	if (ioctl(fd, TUNGETIFF, ifr) != 0) {
		if (errno == EBADFD) {
			return error_set(e, ERROR_NET, errno,
					 "network fd %d: a tap descriptor without an interface "
					 "(TUNSETIFF comes first)",
					 fd);
		}
		return error_set(e, ERROR_NET, ENOTTY,
				 "network fd %d: neither a tap nor a datagram socket", fd);
	}
	ifr->ifr_name[IFNAMSIZ - 1] = '\0';
	if ((ifr->ifr_flags & IFF_TAP) == 0) {
		(void)error_set(e, ERROR_NET, EINVAL,
				"network fd %d: '%s' is a tun interface, not a tap", fd,
				ifr->ifr_name);
		return error_hint(e, "open it with IFF_TAP");
	}
	/* Whether IFF_NO_PI was given the kernel does not say: TUNGETIFF uses the bit for
	 * IFF_NOFILTER. */
	if ((ifr->ifr_flags & IFF_VNET_HDR) == 0) {
		(void)error_set(e, ERROR_NET, EINVAL,
				"network fd %d: tap '%s' was opened without IFF_VNET_HDR", fd,
				ifr->ifr_name);
		return error_hint(e, "open it with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR");
	}
	return 0;
}

/* The descriptor's interface may be in another network namespace, where its name tells nothing. */
static uint32_t adopted_mtu(int fd, const char *name)
{
	struct ifreq by_name = { 0 }, by_fd = { 0 };

	if (ioctl(fd, SIOCGIFHWADDR, &by_fd) != 0 || ask(-1, name, SIOCGIFHWADDR, &by_name) != 0 ||
	    memcmp(by_fd.ifr_hwaddr.sa_data, by_name.ifr_hwaddr.sa_data, NETDEV_MAC_SIZE) != 0 ||
	    ask(-1, name, SIOCGIFMTU, &by_name) != 0 || by_name.ifr_mtu < 0) {
		return 0;
	}
	return (uint32_t)by_name.ifr_mtu;
}

int netdev_adopt_tap(struct netdev **ret, int fd, struct error *e)
{
	struct ifreq ifr = { 0 };
	struct netdev *netdev;
	int r;

	r = check_adopted(fd, &ifr, e);
	if (r < 0) {
		return r;
	}
	netdev = netdev_new(&netdev_tap_ops, e, "%s", ifr.ifr_name);
	if (netdev == NULL) {
		return -ENOMEM;
	}
	netdev->fd = fd;
	netdev->mtu_max = adopted_mtu(fd, ifr.ifr_name);
	r = tap_prepare(netdev, e);
	if (r == 0 && (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 ||
		       fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)) {
		r = error_set_sys(e, ERROR_NET, errno, "network fd %d", fd);
	}
	if (r < 0) {
		netdev->fd = -1; /* stays the caller's */
		netdev_destroy(netdev);
		return r;
	}
	*ret = netdev;
	return 0;
}
