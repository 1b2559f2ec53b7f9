/* SPDX-License-Identifier: Apache-2.0 */
/* Network back ends: names, addresses, passed descriptors, real tap interfaces. */
#include "harness/tap_rig.h"

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
	ck_assert_int_lt(netdev_open_tap(&netdev, names[_i].name, false, &e), 0);
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

	ck_assert_int_eq(netdev_open_tap(&netdev, name, false, &e), -sys);
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
	check_ok(netdev_open_tap(&netdev, TAP, false, &e), &e);
	ck_assert(netdev->made && !netdev->link_up);
	ck_assert_uint_eq(netdev->mtu_max, 1500);
	ck_assert_int_eq(interface_ioctl(TAP, SIOCGIFFLAGS, &ifr), 0);
	ck_assert_int_eq(ifr.ifr_flags & IFF_UP, 0);
	expect_tap_refused(TAP, EBUSY, "in use by another program", "of its own");
	netdev_destroy(netdev);
	ck_assert_int_lt(interface_ioctl(TAP, SIOCGIFFLAGS, &ifr), 0);
	/* As a descriptor that becomes a back end later. */
	check_ok(netdev_claim_tap(&fd, TAP, false, &e), &e);
	expect_tap_refused(TAP, EBUSY, "in use by another program", "of its own");
	check_ok(netdev_open_fd(&netdev, fd, &e), &e);
	ck_assert_str_eq(netdev->name, TAP);
	netdev_destroy(netdev);
	ck_assert_int_lt(interface_ioctl(TAP, SIOCGIFFLAGS, &ifr), 0);
	/* One that was there stays. */
	make_tap(TAP, IFF_TAP | IFF_NO_PI);
	check_ok(netdev_open_tap(&netdev, TAP, false, &e), &e);
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
	check_ok(netdev_open_tap(&netdev, TAP, false, &e), &e);
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
	check_ok(netdev_open_tap(&netdev, TAP, false, &e), &e);
	expect_tap_refused(TAP, EBUSY, "in use by another program", "of its own");
	netdev_destroy(netdev);
	check_ok(netdev_open_tap(&netdev, TAP, false, &e), &e);
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
	check_ok(netdev_open_tap(&netdev, TAP, false, &e), &e);
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
	check_ok(netdev_open_tap(&netdev, "mine0", false, &e), &e);
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

CHECK_MAIN("tap", CHECK_FIXTURE(setup, NULL); CHECK_TABLE(test_names, names);
	   CHECK_TEST(test_mac_from_seed); CHECK_TEST(test_mac_is_stable);
	   CHECK_TEST(test_usable_offloads); CHECK_TEST(test_fd_refused);
	   CHECK_TEST(test_fd_of_tun_refused); CHECK_TEST(test_fd_of_tap);
	   CHECK_LOOP(test_fd_of_socket, 2); CHECK_TEST(test_tap_made); CHECK_TEST(test_mtu_of_tap);
	   CHECK_TEST(test_tap_in_use); CHECK_TEST(test_not_a_tap);
	   CHECK_TEST(test_tap_of_several_queues); CHECK_TEST(test_no_permission_on_device);
	   CHECK_TEST(test_no_permission_on_tap); CHECK_TEST(test_no_tun_device))
