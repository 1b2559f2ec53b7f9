/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a socket that keeps message boundaries (SOCK_DGRAM, SOCK_SEQPACKET): one Ethernet
 * frame per message. A passed descriptor carries plain frames: the header is added as zeroes and
 * dropped again, and no offloads are possible. The pair that tests use carries the header and
 * allows all of them.
 *
 * The peer is hostile: it controls length and content of every message, including the header of a
 * pair; the caller checks. A peer that does not read makes send() say -EAGAIN. SIGPIPE is ignored
 * by the process. Nothing is saved.
 */
#include "vmm/netdev.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "netdev_internal.h"
#include "vmm/cleanup.h"

static int socket_error(const struct netdev *netdev, int sys)
{
	switch (sys) {
	case EPIPE:
	case ECONNRESET:
	case ENOTCONN:
		/* A connection has ended; a datagram socket may find a new peer. */
		return netdev->connected ? -ENODEV : -sys;
	default:
		return -sys;
	}
}

static ssize_t socket_receive(struct netdev *netdev, const struct iovec *iov, int count)
{
	int skip = netdev->plain ? 1 : 0;
	ssize_t n = readv(netdev->fd, iov + skip, count - skip);

	if (n < 0) {
		return socket_error(netdev, errno);
	}
	if (n == 0 && netdev->connected) {
		return -ENODEV;
	}
	if (netdev->plain) {
		memset(iov[0].iov_base, 0, NETDEV_HEADER_SIZE);
		n += NETDEV_HEADER_SIZE;
	}
	return n;
}

static int socket_send(struct netdev *netdev, const struct iovec *iov, int count)
{
	int skip = netdev->plain ? 1 : 0;

	if (writev(netdev->fd, iov + skip, count - skip) >= 0) {
		return 0;
	}
	return socket_error(netdev, errno);
}

static int socket_set_offloads(struct netdev *netdev, uint32_t offloads)
{
	(void)netdev;
	(void)offloads;
	return 0;
}

/* Of a pair's chain: what has come meanwhile is for nobody. */
static int socket_attach_queue(struct netdev *netdev, bool attach)
{
	uint8_t byte;
	const struct iovec iov = { &byte, sizeof(byte) };

	(void)attach;
	while (readv(netdev->fd, &iov, 1) > 0) {
	}
	return 0;
}

static const struct syscall_rule socket_rules[] = {
	SYSCALL("readv"),
	SYSCALL("writev"),
};

const struct netdev_ops netdev_socket_ops = {
	.kind = "socket",
	.syscalls = SYSCALL_LIST(socket_rules),
	.receive = socket_receive,
	.send = socket_send,
	.set_offloads = socket_set_offloads,
	.attach_queue = socket_attach_queue,
};

static struct netdev *new_socket(int fd, bool plain, bool connected, struct error *e)
{
	struct netdev *netdev = netdev_new(&netdev_socket_ops, e, "fd %d", fd);

	if (netdev != NULL) {
		netdev->fd = fd;
		netdev->plain = plain;
		netdev->connected = connected;
		netdev->offloads = plain ? 0 : NETDEV_OFFLOAD_ALL;
		netdev->link_up = true;
	}
	return netdev;
}

int netdev_adopt_socket(struct netdev **ret, int fd, struct error *e)
{
	struct netdev *netdev;
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 ||
	    (type != SOCK_DGRAM && type != SOCK_SEQPACKET)) {
		(void)error_set(e, ERROR_NET, EPROTOTYPE,
				"network fd %d: the socket does not keep frames apart", fd);
		return error_hint(e, "pass a tap, or a SOCK_DGRAM or SOCK_SEQPACKET socket");
	}
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
		return error_set_sys(e, ERROR_NET, errno, "network fd %d", fd);
	}
	netdev = new_socket(fd, true, type == SOCK_SEQPACKET, e);
	if (netdev == NULL) {
		return -ENOMEM;
	}
	*ret = netdev;
	return 0;
}

int netdev_open_pair(struct netdev **ret, int *peer, struct error *e)
{
	struct netdev *netdev;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
		return error_set_sys(e, ERROR_NET, errno, "network pair");
	}
	netdev = new_socket(fds[0], false, true, e);
	if (netdev == NULL) {
		close_fd(&fds[0]);
		close_fd(&fds[1]);
		return -ENOMEM;
	}
	*ret = netdev;
	*peer = fds[1];
	return 0;
}
