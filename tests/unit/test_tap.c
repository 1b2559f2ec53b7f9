/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network back ends: names, addresses, passed descriptors, and real tap interfaces with a
 * virtio-net device on them. Taps are made in a network namespace of this test alone; where that is
 * not allowed, those tests are skipped.
 */
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

static void setup(void)
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
static int new_tap(const char *name, int flags)
{
	struct ifreq ifr = { .ifr_flags = (short)flags };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	memcpy(ifr.ifr_name, name, strlen(name));
	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	return fd;
}

static void make_tap(const char *name, int flags)
{
	int fd = new_tap(name, flags);

	ck_assert_int_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
}

static int interface_ioctl(const char *name, unsigned long request, struct ifreq *ifr)
{
	auto_close int sock = socket(AF_UNIX, SOCK_DGRAM, 0);

	memcpy(ifr->ifr_name, name, strlen(name));
	return ioctl(sock, request, ifr);
}

static void set_up(const char *name, bool up)
{
	struct ifreq ifr = { 0 };

	ck_assert_int_eq(interface_ioctl(name, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags = (short)(up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP);
	ck_assert_int_eq(interface_ioctl(name, SIOCSIFFLAGS, &ifr), 0);
}

static int interface_index(const char *name)
{
	struct ifreq ifr = { 0 };

	ck_assert_int_eq(interface_ioctl(name, SIOCGIFINDEX, &ifr), 0);
	return ifr.ifr_ifindex;
}

/* ip link del */
static void delete_interface(const char *name)
{
	auto_close int sock = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} request = {
		.header = { .nlmsg_len = sizeof(request),
			    .nlmsg_type = RTM_DELLINK,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.info = { .ifi_index = interface_index(name) },
	};
	uint8_t answer[1024];
	struct nlmsgerr error;

	ck_assert_int_eq(send(sock, &request, sizeof(request), 0), sizeof(request));
	ck_assert_int_ge(recv(sock, answer, sizeof(answer), 0),
			 (ssize_t)(NLMSG_HDRLEN + sizeof(error)));
	memcpy(&error, answer + NLMSG_HDRLEN, sizeof(error));
	ck_assert_int_eq(error.error, 0);
}

/* ---- names and addresses ---- */

static const struct {
	const char *name, *why; /* NULL: fine */
} names[] = {
	{ "tap0", NULL },
	{ "a", NULL },
	{ "exactly15chars_", NULL },
	{ "sixteen_chars_16", "at most 15" },
	{ "a-name-that-is-much-longer-than-any-name-of-an-interface-could-ever-be", "at most 15" },
	{ "", "empty" },
	{ ".", "not possible" },
	{ "..", "not possible" },
	{ "../../x", "0x2f at position 3" },
	{ "tap%d", "0x25" },
	{ "tap 0", "0x20" },
	{ "tap:0", "0x3a" },
	{ "tap\n", "0x0a" },
	{ "t\xc3\xa4p", "0xc3" },
};

START_TEST(test_names)
{
	struct netdev *netdev = NULL;
	struct error e = { 0 };

	if (names[_i].why == NULL) {
		check_ok(netdev_check_name(names[_i].name, &e), &e);
		return;
	}
	ck_assert_int_lt(netdev_open_tap(&netdev, names[_i].name, &e), 0);
	check_error(&e, ERROR_NET, names[_i].why);
	ck_assert_ptr_null(netdev);
}
END_TEST

START_TEST(test_mac_from_seed)
{
	uint8_t a[6], b[6], seen[200][6];

	for (uint32_t i = 0; i < 200; i++) {
		char seed[16];

		(void)snprintf(seed, sizeof(seed), "vm%u", i / 2);
		netdev_make_mac(a, seed, i % 2);
		netdev_make_mac(b, seed, i % 2);
		ck_assert_mem_eq(a, b, 6);
		ck_assert_uint_eq(a[0] & 3, 2); /* unicast, local */
		memcpy(seen[i], a, 6);
		for (uint32_t j = 0; j < i; j++) {
			ck_assert_mem_ne(seen[j], a, 6);
		}
	}
	netdev_make_mac(a, NULL, 0);
	netdev_make_mac(b, NULL, 0);
	ck_assert_mem_ne(a, b, 6);
	ck_assert_uint_eq(a[0] & 3, 2);
}
END_TEST

/* An address that guests have must stay theirs in every later version. */
START_TEST(test_mac_is_stable)
{
	uint8_t a[6];
	char text[18];

	netdev_make_mac(a, "web", 0);
	(void)snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3],
		       a[4], a[5]);
	ck_assert_str_eq(text, "f2:75:a3:92:3f:f0");
}
END_TEST

START_TEST(test_usable_offloads)
{
	ck_assert_uint_eq(netdev_usable_offloads(UINT32_MAX), NETDEV_OFFLOAD_ALL);
	ck_assert_uint_eq(netdev_usable_offloads(NETDEV_OFFLOAD_TSO4 | NETDEV_OFFLOAD_ECN), 0);
	ck_assert_uint_eq(netdev_usable_offloads(NETDEV_OFFLOAD_CSUM | NETDEV_OFFLOAD_ECN),
			  NETDEV_OFFLOAD_CSUM);
}
END_TEST

/* ---- descriptors ---- */

static void expect_fd_refused(int fd, const char *text)
{
	struct netdev *netdev = NULL;
	struct error e = { 0 };

	ck_assert_msg(netdev_open_fd(&netdev, fd, &e) < 0, "taken, although: %s", text);
	check_error(&e, ERROR_NET, text);
	ck_assert_ptr_null(netdev);
}

START_TEST(test_fd_refused)
{
	int fds[2];
	auto_close int null = open("/dev/null", O_RDWR);
	auto_close int file = open("/proc/self/exe", O_RDONLY);

	expect_fd_refused(-1, "not an open descriptor");
	expect_fd_refused(1000, "not an open descriptor");
	for (int fd = 0; fd < 3; fd++) {
		(void)dup2(null, fd == 2 ? 100 : fd);
		expect_fd_refused(fd, "standard input");
	}
	expect_fd_refused(null, "neither a tap");
	expect_fd_refused(file, "neither a tap");
	ck_assert_int_eq(pipe(fds), 0);
	expect_fd_refused(fds[0], "neither a tap");
	ck_assert_int_eq(fcntl(fds[0], F_GETFD), 0); /* still the caller's */
	close(fds[0]);
	close(fds[1]);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	expect_fd_refused(fds[0], "keep frames apart");
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(test_fd_of_tun_refused)
{
	int fd;

	NEEDS_NAMESPACE();
	fd = open("/dev/net/tun", O_RDWR);
	expect_fd_refused(fd, "without an interface");
	close(fd);
	fd = new_tap("t0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR);
	expect_fd_refused(fd, "tun interface");
	close(fd);
	fd = new_tap("t0", IFF_TAP | IFF_NO_PI);
	expect_fd_refused(fd, "without IFF_VNET_HDR");
	close(fd);
}
END_TEST

START_TEST(test_fd_of_tap)
{
	struct netdev *netdev;
	struct error e = { 0 };
	int fd, size = 0;

	NEEDS_NAMESPACE();
	fd = new_tap("t0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	(void)fcntl(fd, F_SETFL, 0);
	check_ok(netdev_open_fd(&netdev, fd, &e), &e);
	ck_assert_int_eq(netdev->fd, fd);
	ck_assert_ptr_eq(netdev->ops, &netdev_tap_ops);
	ck_assert_str_eq(netdev->name, "t0");
	ck_assert_uint_eq(netdev->offloads, NETDEV_OFFLOAD_ALL);
	ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(ioctl(fd, TUNGETVNETHDRSZ, &size), 0);
	ck_assert_int_eq(size, HEADER);
	ck_assert(!netdev->link_up);
	netdev_destroy(netdev);
	ck_assert_int_lt(fcntl(fd, F_GETFD), 0);
}
END_TEST

/* Plain frames on the wire, with a header of zeroes towards the device. */
START_TEST(test_fd_of_socket)
{
	static const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };
	uint8_t header[HEADER], frame[100], got[200];
	struct iovec iov[] = { { header, HEADER }, { frame, sizeof(frame) } };
	struct iovec in[] = { { header, HEADER }, { got, 60 }, { got + 60, 140 } };
	struct netdev *netdev;
	struct error e = { 0 };
	int fds[2];

	memset(frame, 0x42, sizeof(frame));
	ck_assert_int_eq(socketpair(AF_UNIX, types[_i], 0, fds), 0);
	check_ok(netdev_open_fd(&netdev, fds[0], &e), &e);
	ck_assert_uint_eq(netdev->offloads, 0);
	ck_assert(netdev->link_up);
	ck_assert_int_eq(netdev->ops->receive(netdev, in, 3), -EAGAIN);
	ck_assert_int_eq(netdev->ops->send(netdev, iov, 2), 0);
	ck_assert_int_eq(recv(fds[1], got, sizeof(got), 0), sizeof(frame));
	ck_assert_mem_eq(got, frame, sizeof(frame));
	memset(header, 0xff, sizeof(header));
	memset(got, 0, sizeof(got));
	ck_assert_int_eq(send(fds[1], frame, sizeof(frame), 0), sizeof(frame));
	ck_assert_int_eq(netdev->ops->receive(netdev, in, 3), HEADER + sizeof(frame));
	ck_assert_mem_eq(got, frame, sizeof(frame));
	for (size_t i = 0; i < HEADER; i++) {
		ck_assert_uint_eq(header[i], 0);
	}
	close(fds[1]);
	ck_assert_int_lt(netdev->ops->send(netdev, iov, 2), 0);
	if (types[_i] == SOCK_SEQPACKET) {
		ck_assert_int_eq(netdev->ops->receive(netdev, in, 3), -ENODEV);
	}
	netdev_destroy(netdev);
	netdev_destroy(NULL);
}
END_TEST

/* ---- taps by name ---- */

static void expect_tap_refused(const char *name, int sys, const char *text, const char *hint)
{
	struct netdev *netdev = NULL;
	struct error e = { 0 };

	ck_assert_int_eq(netdev_open_tap(&netdev, name, &e), -sys);
	check_error(&e, ERROR_NET, text);
	check_error(&e, ERROR_NET, hint);
	ck_assert_ptr_null(netdev);
}

/* What is not there is made, down, ours alone, and goes with its descriptor. */
START_TEST(test_tap_made)
{
	struct netdev *netdev = NULL;
	struct ifreq ifr = { 0 };
	struct error e = { 0 };
	int fd = -1;

	NEEDS_NAMESPACE();
	check_ok(netdev_open_tap(&netdev, TAP, &e), &e);
	ck_assert(netdev->made && !netdev->link_up);
	ck_assert_uint_eq(netdev->mtu_max, 1500);
	ck_assert_int_eq(interface_ioctl(TAP, SIOCGIFFLAGS, &ifr), 0);
	ck_assert_int_eq(ifr.ifr_flags & IFF_UP, 0);
	expect_tap_refused(TAP, EBUSY, "in use by another program", "of its own");
	netdev_destroy(netdev);
	ck_assert_int_lt(interface_ioctl(TAP, SIOCGIFFLAGS, &ifr), 0);
	/* As a descriptor that becomes a back end later. */
	check_ok(netdev_claim_tap(&fd, TAP, &e), &e);
	expect_tap_refused(TAP, EBUSY, "in use by another program", "of its own");
	check_ok(netdev_open_fd(&netdev, fd, &e), &e);
	ck_assert_str_eq(netdev->name, TAP);
	netdev_destroy(netdev);
	ck_assert_int_lt(interface_ioctl(TAP, SIOCGIFFLAGS, &ifr), 0);
	/* One that was there stays. */
	make_tap(TAP, IFF_TAP | IFF_NO_PI);
	check_ok(netdev_open_tap(&netdev, TAP, &e), &e);
	ck_assert(!netdev->made);
	netdev_destroy(netdev);
	ck_assert_int_eq(interface_ioctl(TAP, SIOCGIFFLAGS, &ifr), 0);
}
END_TEST

START_TEST(test_mtu_of_tap)
{
	struct netdev *netdev = NULL;
	struct ifreq ifr = { .ifr_mtu = 9000 };
	struct error e = { 0 };
	int fd;

	NEEDS_NAMESPACE();
	make_tap(TAP, IFF_TAP | IFF_NO_PI);
	ck_assert_int_eq(interface_ioctl(TAP, SIOCSIFMTU, &ifr), 0);
	check_ok(netdev_open_tap(&netdev, TAP, &e), &e);
	ck_assert_uint_eq(netdev->mtu_max, 9000);
	netdev_destroy(netdev);
	fd = new_tap(TAP, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	check_ok(netdev_open_fd(&netdev, fd, &e), &e);
	ck_assert_uint_eq(netdev->mtu_max, 9000);
	netdev_destroy(netdev);
	/* Another one of that name, here, says nothing about one that is elsewhere. */
	fd = new_tap(TAP, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	if (unshare(CLONE_NEWNET) != 0) {
		CHECK_SKIP("no second network namespace");
	}
	make_tap(TAP, IFF_TAP | IFF_NO_PI);
	check_ok(netdev_open_fd(&netdev, fd, &e), &e);
	ck_assert_uint_eq(netdev->mtu_max, 0);
	netdev_destroy(netdev);
}
END_TEST

START_TEST(test_tap_in_use)
{
	struct netdev *netdev;
	struct error e = { 0 };

	NEEDS_NAMESPACE();
	make_tap(TAP, IFF_TAP | IFF_NO_PI);
	check_ok(netdev_open_tap(&netdev, TAP, &e), &e);
	expect_tap_refused(TAP, EBUSY, "in use by another program", "of its own");
	netdev_destroy(netdev);
	check_ok(netdev_open_tap(&netdev, TAP, &e), &e);
	netdev_destroy(netdev);
}
END_TEST

START_TEST(test_not_a_tap)
{
	NEEDS_NAMESPACE();
	make_tap("tun9", IFF_TUN | IFF_NO_PI);
	expect_tap_refused("lo", EINVAL, "'lo' is an interface, but not a tap", "ip tuntap add");
	expect_tap_refused("tun9", EINVAL, "not a tap", "mode tap");
}
END_TEST

START_TEST(test_tap_of_several_queues)
{
	struct netdev *netdev;
	struct error e = { 0 };

	NEEDS_NAMESPACE();
	make_tap(TAP, IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE);
	check_ok(netdev_open_tap(&netdev, TAP, &e), &e);
	netdev_destroy(netdev);
}
END_TEST

START_TEST(test_no_permission_on_device)
{
	struct stat st;

	NEEDS_NAMESPACE();
	if (stat("/dev/net/tun", &st) != 0 || (st.st_mode & 07) != 0) {
		CHECK_SKIP("everybody may open /dev/net/tun here");
	}
	make_tap(TAP, IFF_TAP | IFF_NO_PI);
	ck_assert_int_eq(seteuid(NOBODY), 0);
	expect_tap_refused(TAP, EACCES, "open '/dev/net/tun'", "chmod");
	ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

/* /dev/net/tun as distributions have it: open to all. */
static bool open_tun_to_all(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", "/dev/net", "tmpfs", 0, "mode=755") == 0 &&
	       mknod("/dev/net/tun", S_IFCHR, makedev(10, 200)) == 0 &&
	       chmod("/dev/net/tun", 0666) == 0;
}

START_TEST(test_no_permission_on_tap)
{
	struct netdev *netdev;
	struct error e = { 0 };
	int fd;

	NEEDS_NAMESPACE();
	if (!open_tun_to_all()) {
		CHECK_SKIP("no mount namespace");
	}
	make_tap(TAP, IFF_TAP | IFF_NO_PI);
	fd = new_tap("mine0", IFF_TAP | IFF_NO_PI);
	ck_assert_int_eq(ioctl(fd, TUNSETOWNER, (unsigned long)NOBODY), 0);
	ck_assert_int_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
	fd = new_tap("other0", IFF_TAP | IFF_NO_PI);
	ck_assert_int_eq(ioctl(fd, TUNSETOWNER, 1UL), 0);
	ck_assert_int_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
	ck_assert_int_eq(seteuid(NOBODY), 0);
	expect_tap_refused("other0", EPERM, "belongs to another user", "user $USER vnet_hdr");
	expect_tap_refused("none0", ENODEV, "no such interface, and we may not make one",
			   "ip tuntap add none0 mode tap user $USER");
	check_ok(netdev_open_tap(&netdev, "mine0", &e), &e);
	netdev_destroy(netdev);
	ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

START_TEST(test_no_tun_device)
{
	NEEDS_NAMESPACE();
	make_tap(TAP, IFF_TAP | IFF_NO_PI);
	if (!open_tun_to_all()) {
		CHECK_SKIP("no mount namespace");
	}
	ck_assert_int_eq(unlink("/dev/net/tun"), 0);
	expect_tap_refused(TAP, ENOENT, "open '/dev/net/tun'", "modprobe tun");
}
END_TEST

/* ---- a device on a tap ---- */

static struct fake_driver d;
static int packet = -1; /* the host's end: frames on the interface, with a header of 10 bytes */
static uint32_t posts;

static void device_start(uint64_t features, uint32_t buffers)
{
	ck_assert(fake_driver_start(&d, features, 256));
	posts = 0;
	for (uint32_t i = 0; i < buffers; i++) {
		const struct fake_buf buf = { RX_AREA + (uint64_t)i * RX_BUFFER, RX_BUFFER, true };

		fake_ring_add(&d.rings[RX], &buf, 1);
	}
	fake_driver_kick(&d, RX);
}

static void device_open(bool up)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct virtio_device *dev;
	struct netdev *netdev;
	struct error e = { 0 };
	int one = 1;

	make_tap(TAP, IFF_TAP | IFF_NO_PI);
	if (up) {
		set_up(TAP, true);
	}
	fake_driver_init(&d);
	check_ok(netdev_open_tap(&netdev, TAP, &e), &e);
	ck_assert_int_eq(netdev->link_up, up);
	check_ok(virtio_net_create(&dev, "net0", netdev, mac, &d.mem, d.workers, &e), &e);
	fake_driver_attach(&d, dev);
	packet = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
	ck_assert_int_ge(packet, 0);
	ck_assert_int_eq(setsockopt(packet, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)), 0);
	address.sll_ifindex = interface_index(TAP);
	ck_assert_int_eq(bind(packet, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void device_close(void)
{
	fake_driver_finish(&d);
	close_fd(&packet);
}

static uint16_t link_status(void)
{
	struct virtio_net_config config;

	(void)pthread_mutex_lock(&d.dev->lock);
	virtio_config_read(d.dev, 0, &config, sizeof(config));
	(void)pthread_mutex_unlock(&d.dev->lock);
	return config.status;
}

static struct virtio_net_counters counters(void)
{
	struct virtio_net_counters c;

	virtio_net_read_counters(d.dev, &c);
	return c;
}

static void ethernet(uint8_t *frame, uint16_t protocol)
{
	memcpy(frame, mac, 6);
	memcpy(frame + 6, mac, 6);
	frame[11] ^= 1;
	frame[12] = (uint8_t)(protocol >> 8);
	frame[13] = (uint8_t)protocol;
}

static void transmit(const struct virtio_net_hdr_v1 *header, const uint8_t *frame, size_t len)
{
	const struct fake_buf bufs[] = { { FAKE_DATA, HEADER, false },
					 { FAKE_DATA + 4096, (uint32_t)len, false } };
	uint16_t used = fake_ring_used_idx(&d.rings[TX]);

	fake_driver_write(&d, FAKE_DATA, header, HEADER);
	fake_driver_write(&d, FAKE_DATA + 4096, frame, len);
	fake_ring_add(&d.rings[TX], bufs, 2);
	fake_driver_kick(&d, TX);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[TX]), (uint16_t)(used + 1));
}

/* The next frame of `protocol` that the host sees on the interface. Its kernel passes frames on
 * when it gets to it, which a device that has sent them does not wait for. */
static ssize_t host_receive(uint16_t protocol, uint8_t *buf, size_t size)
{
	struct pollfd p = { .fd = packet, .events = POLLIN };
	ssize_t n;

	do {
		ck_assert_int_eq(poll(&p, 1, FAKE_WAIT_MS), 1);
		n = recv(packet, buf, size, 0);
	} while (n >= 24 && (buf[10 + 12] << 8 | buf[10 + 13]) != protocol);
	return n;
}

static void wait_for_buffer(uint32_t *id, uint32_t *len)
{
	uint64_t deadline = loop_now_ns() + FAKE_WAIT_NS;

	while (!fake_ring_used(&d.rings[RX], id, len)) {
		ck_assert_uint_lt(loop_now_ns(), deadline);
		fake_driver_sync(&d);
	}
}

/* The next frame of `protocol` in the guest, with its header. One buffer per piece. */
static ssize_t guest_receive(uint16_t protocol, uint8_t *buf)
{
	uint32_t id, len;

	for (;;) {
		uint16_t pieces = 1;
		ssize_t total = 0;

		for (uint16_t i = 0; i < pieces; i++) {
			wait_for_buffer(&id, &len);
			fake_driver_read(&d, RX_AREA + (uint64_t)posts++ * RX_BUFFER, buf + total,
					 len);
			total += (ssize_t)len;
			pieces = MAX(pieces, load_le16(buf + 10));
		}
		if ((buf[HEADER + 12] << 8 | buf[HEADER + 13]) == protocol) {
			return total;
		}
	}
}

START_TEST(test_frames_both_ways)
{
	static uint8_t frame[1514], got[4096];

	NEEDS_NAMESPACE();
	device_open(true);
	device_start(F(MRG_RXBUF), 100);
	ck_assert_uint_eq(link_status(), 1);
	ethernet(frame, TEST_PROTO);
	for (uint32_t i = 0; i < 20; i++) {
		size_t len = 14 + i * 75;

		memset(frame + 14, (int)i + 1, sizeof(frame) - 14);
		transmit(&(struct virtio_net_hdr_v1){ 0 }, frame, len);
		ck_assert_int_eq(host_receive(TEST_PROTO, got, sizeof(got)), (ssize_t)(10 + len));
		ck_assert_mem_eq(got + 10, frame, len);

		memset(got, 0, 10);
		memcpy(got + 10, frame, len);
		ck_assert_int_eq(send(packet, got, 10 + len, 0), (ssize_t)(10 + len));
		ck_assert_int_eq(guest_receive(TEST_PROTO, got), (ssize_t)(HEADER + len));
		ck_assert_mem_eq(got + HEADER, frame, len);
		ck_assert_uint_eq(load_le16(got + 10), 1);
	}
	ck_assert_uint_eq(counters().tx_frames, 20);
	ck_assert_uint_eq(counters().tx_errors, 0);
	device_close();
}
END_TEST

#define IP_HEADER  20
#define TCP_HEADER 20
#define MSS	   1000
#define PAYLOAD	   5000
#define TCP_FRAME  (14 + IP_HEADER + TCP_HEADER + PAYLOAD)

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16 != 0) {
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

static uint32_t add_words(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++) {
		sum += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
	}
	return fold(sum);
}

/* An IPv4 TCP frame of PAYLOAD bytes whose checksum and segmentation are left to others. */
static void tcp_frame(uint8_t *frame)
{
	uint8_t *ip = frame + 14, *tcp = ip + IP_HEADER;
	uint16_t total = IP_HEADER + TCP_HEADER + PAYLOAD, sum;

	memset(frame, 0, TCP_FRAME);
	ethernet(frame, ETH_P_IP);
	ip[0] = 0x45;
	ip[2] = (uint8_t)(total >> 8);
	ip[3] = (uint8_t)total;
	ip[8] = 64;
	ip[9] = IPPROTO_TCP;
	memcpy(ip + 12, (const uint8_t[]){ 10, 0, 0, 1, 10, 0, 0, 2 }, 8);
	sum = (uint16_t)~add_words(ip, IP_HEADER, 0);
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
	tcp[0] = 10;
	tcp[2] = 20;
	tcp[12] = 0x50;
	tcp[13] = 0x10;
	/* pseudo header */
	sum = fold(add_words(ip + 12, 8, 0) + IPPROTO_TCP + TCP_HEADER + PAYLOAD);
	tcp[16] = (uint8_t)(sum >> 8);
	tcp[17] = (uint8_t)sum;
	for (size_t i = 0; i < PAYLOAD; i++) {
		tcp[TCP_HEADER + i] = (uint8_t)(i * 3);
	}
}

static const struct virtio_net_hdr_v1 tso = {
	.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
	.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
	.hdr_len = 14 + IP_HEADER + TCP_HEADER,
	.gso_size = MSS,
	.csum_start = 14 + IP_HEADER,
	.csum_offset = 16,
};

static bool tcp_checksum_right(const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + 14;
	uint32_t sum = add_words(ip + 12, 8, 0) + IPPROTO_TCP + (uint32_t)(len - 14 - IP_HEADER);

	return add_words(ip + IP_HEADER, len - 14 - IP_HEADER, fold(sum)) == 0xffff;
}

START_TEST(test_segmentation_by_host)
{
	static uint8_t frame[TCP_FRAME], got[65536];

	NEEDS_NAMESPACE();
	device_open(true);
	device_start(F(CSUM) | F(HOST_TSO4), 0);
	tcp_frame(frame);
	transmit(&tso, frame, sizeof(frame));
	ck_assert_int_eq(host_receive(ETH_P_IP, got, sizeof(got)), 10 + TCP_FRAME);
	ck_assert_mem_eq(got + 10, frame, sizeof(frame));
	ck_assert_uint_eq(got[1], VIRTIO_NET_HDR_GSO_TCPV4);
	ck_assert_uint_eq(load_le16(got + 4), MSS);
	device_close();
}
END_TEST

/* T-N5: a driver without the offload gets whole, checksummed segments from the same tap that gave
 * others a long frame. */
START_TEST(test_offloads_are_what_the_driver_took)
{
	static uint8_t wire[10 + TCP_FRAME], got[65536];

	NEEDS_NAMESPACE();
	device_open(true);
	memcpy(wire, &tso, 10);
	tcp_frame(wire + 10);
	for (int round = 0; round < 3; round++) {
		size_t seen = 0;

		device_start(F(MRG_RXBUF) | F(GUEST_CSUM) | F(GUEST_TSO4), 100);
		ck_assert_int_eq(send(packet, wire, sizeof(wire), 0), sizeof(wire));
		ck_assert_int_eq(guest_receive(ETH_P_IP, got), HEADER + TCP_FRAME);
		ck_assert_mem_eq(got + HEADER, wire + 10, TCP_FRAME);
		ck_assert_uint_eq(got[0], VIRTIO_NET_HDR_F_NEEDS_CSUM);
		ck_assert_uint_eq(got[1], VIRTIO_NET_HDR_GSO_TCPV4);
		ck_assert_uint_eq(load_le16(got + 4), MSS);

		device_start(F(MRG_RXBUF), 100);
		ck_assert_int_eq(send(packet, wire, sizeof(wire), 0), sizeof(wire));
		while (seen < PAYLOAD) {
			ck_assert_int_eq(guest_receive(ETH_P_IP, got), HEADER + 54 + MSS);
			for (size_t i = 0; i < 10; i++) {
				ck_assert_uint_eq(got[i], 0);
			}
			ck_assert(tcp_checksum_right(got + HEADER, 54 + MSS));
			ck_assert_mem_eq(got + HEADER + 54, wire + 10 + 54 + seen, MSS);
			seen += MSS;
		}
		fake_driver_sync(&d);
		ck_assert_uint_eq(fake_ring_used_idx(&d.rings[RX]), d.rings[RX].used_seen);
	}
	device_close();
}
END_TEST

/* T-N4 and T-N7 with the kernel behind: it may refuse any of these, and the device goes on. */
START_TEST(test_kernel_refuses_frames)
{
	static uint8_t frame[TCP_FRAME], got[65536];
	struct virtio_net_hdr_v1 header;

	NEEDS_NAMESPACE();
	device_open(true);
	device_start(F(CSUM) | F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_ECN), 0);
	tcp_frame(frame);
	for (uint32_t i = 0; i < 512; i++) {
		frame[23] = (uint8_t)i;		      /* any protocol */
		frame[14] = i % 3 == 0 ? 0x4f : 0x45; /* header longer than it is */
		header = tso;
		header.gso_type = i % 2 == 0 ? 0 : 1 + i % 4 / 2 * 3; /* none, TSO4, TSO6 */
		header.csum_start = (uint16_t)(14 + i % 5 * 1000);
		header.gso_size = (uint16_t)(i % 7 == 0 ? 1 : 65535);
		transmit(&header, frame, i % 11 == 0 ? 60 : sizeof(frame));
	}
	while (recv(packet, got, sizeof(got), 0) > 0) {
	}
	ethernet(frame, TEST_PROTO);
	transmit(&(struct virtio_net_hdr_v1){ 0 }, frame, 100);
	ck_assert_int_eq(host_receive(TEST_PROTO, got, sizeof(got)), 10 + 100);
	ck_assert_uint_eq(fake_driver_status(&d), 0xf);
	device_close();
}
END_TEST

static uint64_t cpu_ns(void)
{
	struct timespec t;

	ck_assert_int_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* A pause that is used for nothing. A sanitizer's thread may have something to do in one of them, and
 * a pause may be long on a machine with other work. */
static void expect_idle(void)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	uint64_t used = UINT64_MAX;

	for (int look = 0; look < 20 && used >= 20000000; look++) {
		uint64_t before = cpu_ns();

		(void)nanosleep(&pause, NULL);
		used = cpu_ns() - before;
	}
	ck_assert_uint_lt(used, 20000000);
}

static void expect_link(uint16_t status)
{
	uint64_t deadline = loop_now_ns() + FAKE_WAIT_NS;

	while (link_status() != status) {
		ck_assert_uint_lt(loop_now_ns(), deadline);
		fake_driver_sync(&d);
	}
}

/* F6: down and up again, as often as one likes. */
START_TEST(test_link_down_and_up)
{
	static uint8_t frame[100], got[4096];

	NEEDS_NAMESPACE();
	device_open(false);
	device_start(F(MRG_RXBUF) | F(STATUS), 100);
	ethernet(frame, TEST_PROTO);
	ck_assert_uint_eq(link_status(), 0);
	expect_idle();
	(void)recv(packet, got, sizeof(got), 0); /* ENETDOWN */
	for (uint32_t i = 0; i < 3; i++) {
		uint64_t errors = counters().tx_errors;

		set_up(TAP, true);
		expect_link(1);
		ck_assert_uint_eq(atomic_load(&d.config_interrupts), 2 * i + 1);
		transmit(&(struct virtio_net_hdr_v1){ 0 }, frame, sizeof(frame));
		ck_assert_int_eq(host_receive(TEST_PROTO, got, sizeof(got)), 10 + sizeof(frame));
		ck_assert_uint_eq(counters().tx_errors, errors);
		set_up(TAP, false);
		transmit(&(struct virtio_net_hdr_v1){ 0 }, frame,
			 sizeof(frame)); /* lost, and noticed */
		ck_assert_uint_eq(link_status(), 0);
		ck_assert_uint_eq(atomic_load(&d.config_interrupts), 2 * i + 2);
		ck_assert_uint_eq(counters().tx_errors, errors + 1);
		expect_idle();
		(void)recv(packet, got, sizeof(got), 0); /* ENETDOWN */
	}
	device_close();
}
END_TEST

/* F6: the interface is deleted under the running device. */
START_TEST(test_tap_deleted)
{
	static uint8_t frame[100];

	NEEDS_NAMESPACE();
	device_open(_i != 2);
	/* with buffers, without buffers (the tap is not polled), with the link down */
	device_start(F(MRG_RXBUF) | F(STATUS), _i == 1 ? 0 : 100);
	delete_interface(TAP);
	ethernet(frame, TEST_PROTO);
	if (_i != 1) {
		expect_link(0);
	}
	for (int i = 0; i < 100; i++) {
		transmit(&(struct virtio_net_hdr_v1){ 0 }, frame, sizeof(frame));
	}
	ck_assert_uint_eq(counters().tx_errors, 100);
	expect_link(0);
	expect_idle();
	/* The guest reboots, and finds a card without a cable. */
	device_start(F(MRG_RXBUF) | F(STATUS), 100);
	ck_assert_uint_eq(link_status(), 0);
	transmit(&(struct virtio_net_hdr_v1){ 0 }, frame, sizeof(frame));
	expect_idle();
	device_close();
}
END_TEST

CHECK_MAIN("tap", CHECK_FIXTURE(setup, NULL); CHECK_TABLE(test_names, names);
	   CHECK_TEST(test_mac_from_seed); CHECK_TEST(test_mac_is_stable);
	   CHECK_TEST(test_usable_offloads); CHECK_TEST(test_fd_refused);
	   CHECK_TEST(test_fd_of_tun_refused); CHECK_TEST(test_fd_of_tap);
	   CHECK_LOOP(test_fd_of_socket, 2); CHECK_TEST(test_tap_made); CHECK_TEST(test_mtu_of_tap);
	   CHECK_TEST(test_tap_in_use); CHECK_TEST(test_not_a_tap);
	   CHECK_TEST(test_tap_of_several_queues); CHECK_TEST(test_no_permission_on_device);
	   CHECK_TEST(test_no_permission_on_tap); CHECK_TEST(test_no_tun_device);
	   CHECK_TEST(test_frames_both_ways); CHECK_TEST(test_segmentation_by_host);
	   CHECK_TEST(test_offloads_are_what_the_driver_took);
	   CHECK_TEST(test_kernel_refuses_frames); CHECK_TEST(test_link_down_and_up);
	   CHECK_LOOP(test_tap_deleted, 3))
