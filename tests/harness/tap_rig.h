/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taps in a network namespace of the test alone; where that is not allowed, NEEDS_NAMESPACE() skips.
 */
#ifndef TESTS_HARNESS_TAP_RIG_H
#define TESTS_HARNESS_TAP_RIG_H

#include "harness/check_main.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "fake_driver.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/virtio_net.h"

#define F(bit)	   (UINT64_C(1) << (VIRTIO_NET_F_##bit))
#define HEADER	   NETDEV_HEADER_SIZE
#define RX	   VIRTIO_NET_QUEUE_RX
#define TX	   VIRTIO_NET_QUEUE_TX
#define TEST_PROTO 0x88b5 /* IEEE 802 local experimental */
#define TAP	   "vmmtest0"
#define NOBODY	   65534
#define RX_AREA	   (FAKE_DATA + MIB(8))
#define RX_BUFFER  2048

static const uint8_t mac[6] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };
static const char *no_namespace; /* why there is none */

static inline void setup(void)
{
	int fd;

	(void)signal(SIGPIPE, SIG_IGN);
	no_namespace = NULL;
	if (unshare(CLONE_NEWNET) != 0) {
		no_namespace = "no network namespace: not root";
		return;
	}
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		no_namespace = "no /dev/net/tun";
		return;
	}
	close(fd);
	/* No neighbour discovery in between the test's frames. */
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		ck_assert_int_eq(write(fd, "1", 1), 1);
		close(fd);
	}
}

#define NEEDS_NAMESPACE()                         \
	do {                                      \
		if (no_namespace != NULL) {       \
			CHECK_SKIP(no_namespace); \
		}                                 \
	} while (0)

/* An attached descriptor of a new interface. */
static inline int new_tap(const char *name, int flags)
{
	struct ifreq ifr = { .ifr_flags = (short)flags };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	memcpy(ifr.ifr_name, name, strlen(name));
	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	return fd;
}

static inline void make_tap(const char *name, int flags)
{
	int fd = new_tap(name, flags);

	ck_assert_int_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
}

static inline int interface_ioctl(const char *name, unsigned long request, struct ifreq *ifr)
{
	auto_close int sock = socket(AF_UNIX, SOCK_DGRAM, 0);

	memcpy(ifr->ifr_name, name, strlen(name));
	return ioctl(sock, request, ifr);
}

static inline void set_up(const char *name, bool up)
{
	struct ifreq ifr = { 0 };

	ck_assert_int_eq(interface_ioctl(name, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags = (short)(up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP);
	ck_assert_int_eq(interface_ioctl(name, SIOCSIFFLAGS, &ifr), 0);
}

static inline int interface_index(const char *name)
{
	struct ifreq ifr = { 0 };

	ck_assert_int_eq(interface_ioctl(name, SIOCGIFINDEX, &ifr), 0);
	return ifr.ifr_ifindex;
}

/* What the kernel answers to a request about an interface. */
static inline size_t ask_of_link(const char *name, uint16_t type, uint16_t flags, uint8_t *answer,
				 size_t size)
{
	auto_close int sock = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} request = {
		.header = { .nlmsg_len = sizeof(request),
			    .nlmsg_type = type,
			    .nlmsg_flags = NLM_F_REQUEST | flags },
		.info = { .ifi_index = interface_index(name) },
	};
	ssize_t n;

	ck_assert_int_eq(send(sock, &request, sizeof(request), 0), sizeof(request));
	n = recv(sock, answer, size, 0);
	ck_assert_int_ge(n, (ssize_t)NLMSG_HDRLEN);
	return (size_t)n;
}

/* The name of what queues the frames that the host sends on it. */
static inline void read_qdisc(const char *name, char text[16])
{
	static _Alignas(struct nlmsghdr) uint8_t answer[16384];
	size_t n = ask_of_link(name, RTM_GETLINK, 0, answer, sizeof(answer));

	text[0] = '\0';
	for (size_t at = NLMSG_LENGTH(sizeof(struct ifinfomsg)); at + RTA_LENGTH(0) <= n;) {
		const struct rtattr *attribute = (const void *)(answer + at);

		ck_assert_uint_ge(attribute->rta_len, RTA_LENGTH(0));
		if (attribute->rta_type == IFLA_QDISC) {
			(void)snprintf(text, 16, "%s", (const char *)attribute + RTA_LENGTH(0));
		}
		at += RTA_ALIGN(attribute->rta_len);
	}
}

/*
 * An interface that is up gets its carrier when somebody attaches to its tap, and the host's kernel acts on that when it gets
 * to it: until then it drops, silently, what is sent on it.
 */
static inline void wait_for_carrier(const char *name)
{
	char qdisc[16];

	do {
		read_qdisc(name, qdisc);
	} while (strcmp(qdisc, "noop") == 0);
	ck_assert_str_ne(qdisc, "");
}

/* ip link del */
static inline void delete_interface(const char *name)
{
	uint8_t answer[1024];
	struct nlmsgerr error;

	ck_assert_uint_ge(ask_of_link(name, RTM_DELLINK, NLM_F_ACK, answer, sizeof(answer)),
			  NLMSG_HDRLEN + sizeof(error));
	memcpy(&error, answer + NLMSG_HDRLEN, sizeof(error));
	ck_assert_int_eq(error.error, 0);
}

#endif
