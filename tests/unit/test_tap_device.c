/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-net device on a real tap interface: frames, offloads, what the kernel refuses, links that come
 * and go.
 */
#include "harness/tap_rig.h"

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
	check_ok(netdev_open_tap(&netdev, TAP, false, &e), &e);
	ck_assert_int_eq(netdev->link_up, up);
	if (up) {
		wait_for_carrier(TAP);
	}
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

/* The host sees one frame, from the card; a link that is down takes none, and the next one all the same. */
START_TEST(test_announcement)
{
	uint8_t frame[1000], own[60] = { 0 };
	struct pollfd readable = { .events = POLLIN };
	uint16_t protocol;
	socklen_t len = sizeof(int);
	int down;

	NEEDS_NAMESPACE();
	device_open(_i == 0);
	readable.fd = packet;
	device_start(F(MRG_RXBUF) | F(STATUS), 10);
	virtio_net_announce(d.dev);
	if (_i == 1) {
		set_up(TAP, true);
		expect_link(VIRTIO_NET_S_LINK_UP);
		/* That it was down. */
		ck_assert_int_eq(getsockopt(packet, SOL_SOCKET, SO_ERROR, &down, &len), 0);
		virtio_net_announce(d.dev);
	}
	ck_assert_int_eq(host_receive(ETH_P_RARP, frame, sizeof(frame)), 10 + 60);
	ck_assert_mem_eq(frame + 10 + 6, mac, sizeof(mac));
	/* No other one is on its way, or it would come before this. */
	ethernet(own, TEST_PROTO);
	transmit(&(struct virtio_net_hdr_v1){ 0 }, own, sizeof(own));
	do {
		ck_assert_int_eq(poll(&readable, 1, FAKE_WAIT_MS), 1);
		ck_assert_int_ge(recv(packet, frame, sizeof(frame), 0), 24);
		protocol = (uint16_t)(frame[10 + 12] << 8 | frame[10 + 13]);
		ck_assert_uint_ne(protocol, ETH_P_RARP);
	} while (protocol != TEST_PROTO);
	device_close();
}
END_TEST

CHECK_MAIN("tap_device", CHECK_FIXTURE(setup, NULL); CHECK_TEST(test_frames_both_ways);
	   CHECK_TEST(test_segmentation_by_host);
	   CHECK_TEST(test_offloads_are_what_the_driver_took);
	   CHECK_TEST(test_kernel_refuses_frames); CHECK_TEST(test_link_down_and_up);
	   CHECK_LOOP(test_tap_deleted, 3); CHECK_LOOP(test_announcement, 2))
