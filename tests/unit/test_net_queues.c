/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-net device with several pairs of queues (virtio 1.2 §5.1, VIRTIO_NET_F_MQ) and its control
 * queue. With socket pairs, where the test is the one that spreads frames; with a tap, where the
 * kernel does.
 */
#include "harness/net_queues_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"

#define FEATURES   (F(MRG_RXBUF) | F(CTRL_VQ) | F(MQ))
#define FRAME	   100
#define RX_BUFFER  2048
#define TAP	   "vmmtest0"
#define TX(pair)   (2 * (pair) + 1)
#define RX_AREA(q) (FAKE_DATA + MIB(1) + (q)*KIB(256))
#define HOUR_MS	   3600000
#define PAIRS_END  (2 * 7) /* how far the pairs in use are from the end of the state */

static uint32_t posted[PAIRS];

static void post(uint32_t pair, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct fake_buf buf = { RX_AREA(pair) + posted[pair] % RING_SIZE * RX_BUFFER,
					      RX_BUFFER, true };

		(void)fake_ring_add(&d.rings[RX(pair)], &buf, 1);
		posted[pair]++;
	}
	fake_driver_kick(&d, RX(pair));
}

static void start(void)
{
	ck_assert(fake_driver_start(&d, FEATURES, RING_SIZE));
	for (uint32_t i = 0; i < PAIRS; i++) {
		posted[i] = 0;
		post(i, 32);
	}
}

static void arrive(uint32_t pair)
{
	uint8_t frame[HEADER + FRAME] = { 0 };

	ck_assert_int_eq(send(peers[pair], frame, sizeof(frame), MSG_DONTWAIT),
			 (ssize_t)sizeof(frame));
}

/* Whatever has arrived has been looked at. */
static void settle(void)
{
	fake_driver_sync(&d);
	fake_driver_sync(&d);
}

static int set_pairs(uint16_t count)
{
	const uint8_t bytes[] = { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
				  (uint8_t)count, (uint8_t)(count >> 8) };

	return command_on(CONTROL, bytes, sizeof(bytes), 1);
}

/* Exactly the first `count` pairs get frames. */
static void expect_active(uint32_t count)
{
	for (uint32_t i = 0; i < PAIRS; i++) {
		uint16_t before = used(RX(i));

		arrive(i);
		settle();
		ck_assert_msg(used(RX(i)) == (uint16_t)(before + (i < count)),
			      "pair %u of %u in use: %u frames, before %u", i, count, used(RX(i)),
			      before);
		post(i, used(RX(i)) - before);
	}
}

/* ---- what the driver is told ---- */

static uint16_t told_pairs(void)
{
	struct virtio_net_config config = { 0 };

	(void)pthread_mutex_lock(&d.dev->lock);
	virtio_config_read(d.dev, 0, &config, sizeof(config));
	(void)pthread_mutex_unlock(&d.dev->lock);
	return le16toh(config.max_virtqueue_pairs);
}

/* m_5_1_4_1_1 */
START_TEST(test_configuration)
{
	open_pairs();
	ck_assert_uint_eq(d.dev->queue_count, QUEUES);
	ck_assert((fake_driver_offered(&d) & (F(MQ) | F(CTRL_VQ))) == (F(MQ) | F(CTRL_VQ)));
	ck_assert_uint_eq(told_pairs(), PAIRS);
	/* §5.1.3.1 */
	ck_assert(!fake_driver_start(&d, F(MQ), RING_SIZE));
	ck_assert(fake_driver_start(&d, F(CTRL_VQ), RING_SIZE));
}
END_TEST

START_TEST(test_configuration_of_one_pair)
{
	open_device(make_chain(1));
	ck_assert_uint_eq(d.dev->queue_count, 2);
	ck_assert((fake_driver_offered(&d) & (F(MQ) | F(CTRL_VQ))) == 0);
	ck_assert_uint_eq(told_pairs(), 1);
}
END_TEST

/* ---- commands ---- */

static const struct {
	uint8_t bytes[8];
	uint32_t len;
	int answer;
	uint32_t active; /* afterwards */
} commands[] = {
	{ { 4, 0, 1, 0 }, 4, VIRTIO_NET_OK, 1 },
	{ { 4, 0, 2, 0 }, 4, VIRTIO_NET_OK, 2 },
	{ { 4, 0, 4, 0 }, 4, VIRTIO_NET_OK, 4 },
	{ { 4, 0, 3, 0, 9, 9 }, 6, VIRTIO_NET_OK, 3 },
	{ { 4, 0, 0, 0 }, 4, VIRTIO_NET_ERR, 2 },
	{ { 4, 0, 5, 0 }, 4, VIRTIO_NET_ERR, 2 },
	{ { 4, 0, 2, 1 }, 4, VIRTIO_NET_ERR, 2 },
	{ { 4, 0, 0xff, 0xff }, 4, VIRTIO_NET_ERR, 2 },
	{ { 4, 0, 3 }, 3, VIRTIO_NET_ERR, 2 },
	{ { 4, 0 }, 2, VIRTIO_NET_ERR, 2 },
	{ { 4 }, 1, VIRTIO_NET_ERR, 2 },
	{ { 0 }, 0, VIRTIO_NET_ERR, 2 },
	{ { 4, 1, 3, 0 }, 4, VIRTIO_NET_ERR, 2 },	      /* RSS */
	{ { 0, 0, 1 }, 3, VIRTIO_NET_ERR, 2 },		      /* promiscuous */
	{ { 1, 1, 2, 2, 2, 2, 2, 2 }, 8, VIRTIO_NET_ERR, 2 }, /* an address */
	{ { 3, 0 }, 2, VIRTIO_NET_ERR, 2 }, /* announced, which it was not asked for */
	{ { 255, 255, 3, 0 }, 4, VIRTIO_NET_ERR, 2 },
};

START_TEST(test_commands)
{
	open_pairs();
	start();
	ck_assert_int_eq(set_pairs(2), VIRTIO_NET_OK);
	ck_assert_int_eq(command_on(CONTROL, commands[_i].bytes, commands[_i].len, 1),
			 commands[_i].answer);
	expect_active(commands[_i].active);
	/* Nobody to tell; it is carried out all the same. */
	ck_assert_int_eq(command_on(CONTROL, (const uint8_t[]){ 4, 0, 1, 0 }, 4, 0), -1);
	expect_active(1);
	/* More room than an answer needs. */
	ck_assert_int_eq(command_on(CONTROL, (const uint8_t[]){ 4, 0, 3, 0 }, 4, 100),
			 VIRTIO_NET_OK);
	expect_active(3);
	ck_assert_uint_eq(fake_driver_status(&d), 0xf);
}
END_TEST

/* m_5_1_6_5_6_2_1: after initialisation and after a reset it is the first pair alone. */
START_TEST(test_first_pair_alone)
{
	open_pairs();
	start();
	expect_active(1);
	ck_assert_int_eq(set_pairs(4), VIRTIO_NET_OK);
	expect_active(4);
	start();
	expect_active(1);
	ck_assert_int_eq(set_pairs(3), VIRTIO_NET_OK);
	virtio_device_reset(d.dev);
	start();
	expect_active(1);
}
END_TEST

START_TEST(test_up_and_down)
{
	static const uint16_t counts[] = { 4, 1, 2, 3, 4, 2, 2, 1, 1, 4, 3 };

	open_pairs();
	start();
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		ck_assert_int_eq(set_pairs(counts[i]), VIRTIO_NET_OK);
		expect_active(counts[i]);
	}
}
END_TEST

/* Without MQ the control queue is the third (§5.1.2), and there is one pair whatever one asks for. */
START_TEST(test_control_queue_without_mq)
{
	open_pairs();
	ck_assert(fake_driver_start(&d, F(MRG_RXBUF) | F(CTRL_VQ), RING_SIZE));
	posted[0] = 0;
	post(0, 32);
	ck_assert_int_eq(command_on(2, (const uint8_t[]){ 4, 0, 1, 0 }, 4, 1), VIRTIO_NET_ERR);
	ck_assert_int_eq(command_on(2, (const uint8_t[]){ 4, 0, 2, 0 }, 4, 1), VIRTIO_NET_ERR);
	arrive(0);
	settle();
	ck_assert_uint_eq(used(RX(0)), 1);
	/* The others are nothing. */
	for (uint32_t queue = 3; queue < QUEUES; queue++) {
		const struct fake_buf buf = { TX_AREA, HEADER + FRAME, queue % 2 == 0 };

		(void)fake_ring_add(&d.rings[queue], &buf, 1);
		fake_driver_kick(&d, queue);
		ck_assert_uint_eq(used(queue), 0);
	}
	/* And with neither, not even that. */
	ck_assert(fake_driver_start(&d, F(MRG_RXBUF), RING_SIZE));
	(void)fake_ring_add(&d.rings[2], &(struct fake_buf){ TX_AREA, 4, false }, 1);
	fake_driver_kick(&d, 2);
	ck_assert_uint_eq(used(2), 0);
}
END_TEST

/* A driver that only gives commands gives them slowly, and loses none. */
START_TEST(test_many_commands)
{
	const struct fake_buf bufs[] = { { TX_AREA, 4, false }, { TX_AREA + 0x1000, 1, true } };
	const uint8_t bytes[] = { 4, 0, 2, 0 };

	open_pairs();
	start();
	fake_driver_write(&d, TX_AREA, bytes, sizeof(bytes));
	for (uint16_t round = 1; round <= 3; round++) {
		for (uint32_t i = 0; i < RING_SIZE / 2; i++) {
			(void)fake_ring_add(&d.rings[CONTROL], bufs, 2);
		}
		fake_driver_kick(&d, CONTROL);
		if (round == 3) {
			ck_assert_uint_lt(used(CONTROL), 3 * RING_SIZE / 2);
		}
		ck_assert(fake_driver_wait_used(&d, CONTROL, (uint16_t)(round * (RING_SIZE / 2))));
	}
	expect_active(2);
}
END_TEST

/* ---- frames ---- */

START_TEST(test_every_pair_sends)
{
	struct virtio_net_counters c;

	open_pairs();
	start();
	ck_assert_int_eq(set_pairs(PAIRS), VIRTIO_NET_OK);
	for (uint32_t i = 0; i < PAIRS; i++) {
		const struct fake_buf buf = { TX_AREA, HEADER + FRAME, false };
		uint8_t frame[HEADER + FRAME] = { 0 };

		frame[HEADER + 50] = (uint8_t)(i + 1);
		fake_driver_write(&d, TX_AREA, frame, sizeof(frame));
		(void)fake_ring_add(&d.rings[TX(i)], &buf, 1);
		fake_driver_kick(&d, TX(i));
		ck_assert_uint_eq(used(TX(i)), 1);
		ck_assert_int_eq(recv(peers[i], frame, sizeof(frame), MSG_DONTWAIT),
				 (ssize_t)sizeof(frame));
		ck_assert_uint_eq(frame[HEADER + 50], i + 1);
		arrive(i);
		settle();
		ck_assert_uint_eq(atomic_load(&d.queue_interrupts[RX(i)]), 1);
		ck_assert_uint_eq(atomic_load(&d.queue_interrupts[TX(i)]), 1);
	}
	virtio_net_read_counters(d.dev, &c);
	ck_assert_uint_eq(c.tx_frames, PAIRS);
	ck_assert_uint_eq(c.rx_frames, PAIRS);
	ck_assert_uint_eq(c.rx_bytes, PAIRS * FRAME);
}
END_TEST

/* A frame that waits for buffers goes with its pair. */
START_TEST(test_waiting_frame_of_a_pair_that_goes)
{
	uint8_t frame[HEADER + 5000] = { 0 };
	struct virtio_net_counters c;

	open_pairs();
	ck_assert(fake_driver_start(&d, FEATURES, RING_SIZE));
	memset(posted, 0, sizeof(posted));
	post(1, 1); /* too few */
	ck_assert_int_eq(set_pairs(2), VIRTIO_NET_OK);
	ck_assert_int_eq(send(peers[1], frame, sizeof(frame), 0), (ssize_t)sizeof(frame));
	settle();
	ck_assert_int_eq(set_pairs(1), VIRTIO_NET_OK);
	post(1, 10);
	ck_assert_uint_eq(used(RX(1)), 0);
	ck_assert_int_eq(set_pairs(2), VIRTIO_NET_OK);
	settle();
	ck_assert_uint_eq(used(RX(1)), 0);
	virtio_net_read_counters(d.dev, &c);
	ck_assert_uint_eq(c.rx_no_room, 1);
	arrive(1);
	settle();
	ck_assert_uint_eq(used(RX(1)), 1);
}
END_TEST

static _Atomic bool flood_stop;

static void *flood(void *arg)
{
	uint8_t frame[HEADER + FRAME] = { 0 };

	(void)arg;
	while (!atomic_load(&flood_stop)) {
		for (uint32_t i = 1; i < PAIRS; i++) {
			(void)send(peers[i], frame, sizeof(frame), MSG_DONTWAIT);
		}
	}
	return NULL;
}

/* m_5_1_6_5_6_2_2: once the command has been used, no buffer of the other pairs is, whatever comes. */
START_TEST(test_no_frame_after_the_answer)
{
	pthread_t thread;

	open_pairs();
	start();
	atomic_store(&flood_stop, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, flood, NULL), 0);
	for (uint32_t round = 0; round < 25; round++) {
		uint16_t before[PAIRS];

		uint64_t deadline = loop_now_ns() + FAKE_WAIT_NS;
		uint16_t used_before = used(RX(1));

		ck_assert_int_eq(set_pairs(PAIRS), VIRTIO_NET_OK);
		for (uint32_t i = 1; i < PAIRS; i++) {
			/* What the flood has used. */
			post(i, (uint16_t)(32 - (posted[i] - used(RX(i)))) % 33);
		}
		while (used(RX(1)) == used_before) {
			ck_assert(loop_now_ns() < deadline);
		}
		ck_assert_int_eq(set_pairs(1), VIRTIO_NET_OK);
		for (uint32_t i = 1; i < PAIRS; i++) {
			before[i] = used(RX(i));
		}
		settle();
		for (uint32_t i = 1; i < PAIRS; i++) {
			ck_assert_uint_eq(used(RX(i)), before[i]);
		}
	}
	atomic_store(&flood_stop, true);
	(void)pthread_join(thread, NULL);
}
END_TEST

/* What one pair has taken of a limit is not there for another. */
START_TEST(test_limit_is_of_the_card)
{
	static const struct rate_limit_config none, unlimited = { .has_ops = true };
	const struct rate_limit_config limit = { .ops = { 10, 0, HOUR_MS }, .has_ops = true };
	uint32_t sum = 0;

	open_pairs();
	virtio_net_init_limits(d.dev, &limit, &none);
	start();
	ck_assert_int_eq(set_pairs(PAIRS), VIRTIO_NET_OK);
	for (uint32_t i = 0; i < PAIRS; i++) {
		for (uint32_t j = 0; j < 7; j++) {
			arrive(i);
		}
		settle();
	}
	for (uint32_t i = 0; i < PAIRS; i++) {
		sum += used(RX(i));
	}
	ck_assert_uint_eq(sum, 10);
	virtio_net_limit(d.dev, &unlimited, NULL);
	for (uint32_t i = 0; i < PAIRS; i++) {
		ck_assert(fake_driver_wait_used(&d, RX(i), 7));
	}
}
END_TEST

/* ---- pause and state ---- */

static uint16_t saved_pairs(const struct virtio_device *dev)
{
	struct state_buf buf = { 0 };
	uint16_t pairs;

	check_ok(state_save(dev->ops->state, dev, &buf, &e), &e);
	/* The last field before those of announcements: tag, length, number. */
	ck_assert_uint_ge(buf.len, PAIRS_END + 8);
	ck_assert_uint_eq(load_le16(buf.data + buf.len - PAIRS_END - 8), 4);
	pairs = load_le16(buf.data + buf.len - PAIRS_END - 2);
	state_buf_finish(&buf);
	return pairs;
}

START_TEST(test_state)
{
	struct state_buf all = { 0 }, own = { 0 };
	struct state_entry entry;

	open_pairs();
	start();
	ck_assert_int_eq(set_pairs(3), VIRTIO_NET_OK);
	expect_active(3);
	virtio_device_quiesce(d.dev);
	ck_assert_uint_eq(saved_pairs(d.dev), 3);
	entry = virtio_entry(d.dev, NULL, NULL);
	check_ok(state_set_save(&entry, 1, &all, &e), &e);
	check_ok(state_save(d.dev->ops->state, d.dev, &own, &e), &e);
	virtio_device_reset(d.dev);
	ck_assert_uint_eq(saved_pairs(d.dev), 1);
	check_ok(virtio_load(&entry, &all, &e), &e);
	virtio_device_resume(d.dev);
	ck_assert_uint_eq(saved_pairs(d.dev), 3);
	expect_active(3);
	for (uint16_t bad = 0; bad <= PAIRS + 1; bad = (uint16_t)(bad + PAIRS + 1)) {
		store_le16(own.data + own.len - PAIRS_END - 2, bad);
		ck_assert_int_lt(state_load(d.dev->ops->state, d.dev, own.data, own.len,
					    d.dev->ops->state->version, &e),
				 0);
		check_error(&e, ERROR_STATE, "pairs of queues in use, the device has 4");
	}
	state_buf_finish(&all);
	state_buf_finish(&own);
}
END_TEST

/* ---- a tap, whose kernel spreads flows ---- */

static int packet = -1;

static int interface_ioctl(unsigned long request, struct ifreq *ifr)
{
	auto_close int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", TAP);
	return ioctl(sock, request, ifr);
}

/* NULL, or why there is no tap. */
static const char *open_tap(void)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct netdev *netdev = NULL;
	struct ifreq ifr = { 0 };
	int fd;

	if (unshare(CLONE_NEWNET) != 0) {
		return "no network namespace: not root";
	}
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		return "no /dev/net/tun";
	}
	(void)close(fd);
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		ck_assert_int_eq(write(fd, "1", 1), 1);
		(void)close(fd);
	}
	check_ok(netdev_open_tap(&netdev, TAP, true, &e), &e);
	check_ok(netdev_add_queues(netdev, PAIRS, &e), &e);
	ck_assert_uint_eq(netdev_count(netdev), PAIRS);
	ck_assert(!netdev->detached && netdev->more->detached);
	ck_assert_int_eq(interface_ioctl(SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_UP);
	ck_assert_int_eq(interface_ioctl(SIOCSIFFLAGS, &ifr), 0);
	ck_assert_int_eq(interface_ioctl(SIOCGIFINDEX, &ifr), 0);
	address.sll_ifindex = ifr.ifr_ifindex;
	packet = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
	ck_assert_int_ge(packet, 0);
	ck_assert_int_eq(bind(packet, (struct sockaddr *)&address, sizeof(address)), 0);
	open_device(netdev);
	return NULL;
}

/* A datagram of flow number `flow`, from the host. */
static void send_flow(uint16_t flow)
{
	uint8_t frame[60] = { 0 };
	uint8_t *ip = frame + 14, *udp = ip + 20;
	uint32_t sum = 0;

	memcpy(frame, mac, 6);
	frame[6] = 2;
	frame[12] = 0x08;
	ip[0] = 0x45;
	ip[3] = 46;
	ip[8] = 64;
	ip[9] = 17;
	ip[12] = ip[16] = 10;
	ip[15] = 1;
	ip[19] = 2;
	for (int i = 0; i < 20; i += 2) {
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	}
	sum = ~((sum & 0xffff) + (sum >> 16));
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
	udp[0] = (uint8_t)(flow >> 8);
	udp[1] = (uint8_t)flow;
	udp[2] = 0x12;
	udp[5] = 26;
	ck_assert_int_eq(send(packet, frame, sizeof(frame), 0), (ssize_t)sizeof(frame));
}

#define FLOWS 24

/* Sends some flows, and says which pairs had frames of them: bit n is pair n. */
static uint32_t spread(void)
{
	uint64_t deadline = loop_now_ns() + FAKE_WAIT_NS;
	uint16_t before[PAIRS];
	uint32_t pairs = 0, sum;

	for (uint32_t i = 0; i < PAIRS; i++) {
		before[i] = used(RX(i));
	}
	for (uint16_t flow = 0; flow < FLOWS; flow++) {
		send_flow((uint16_t)(1000 + flow * 37));
	}
	do {
		settle();
		sum = 0;
		for (uint32_t i = 0; i < PAIRS; i++) {
			sum += (uint16_t)(used(RX(i)) - before[i]);
		}
	} while (sum < FLOWS && loop_now_ns() < deadline);
	ck_assert_uint_eq(sum, FLOWS);
	for (uint32_t i = 0; i < PAIRS; i++) {
		uint16_t count = (uint16_t)(used(RX(i)) - before[i]);

		pairs |= count != 0 ? 1U << i : 0;
		post(i, count);
	}
	return pairs;
}

START_TEST(test_tap)
{
	const char *why = open_tap();

	if (why != NULL) {
		CHECK_SKIP(why);
	}
	start();
	ck_assert_uint_eq(spread(), 1);
	ck_assert_int_eq(set_pairs(4), VIRTIO_NET_OK);
	ck_assert_uint_eq(spread(), 0xf);
	ck_assert_int_eq(set_pairs(2), VIRTIO_NET_OK);
	ck_assert_uint_eq(spread(), 0x3);
	/* A pause keeps it, a reset does not. */
	virtio_device_quiesce(d.dev);
	virtio_device_resume(d.dev);
	ck_assert_uint_eq(spread(), 0x3);
	start();
	ck_assert_uint_eq(spread(), 1);
	/* A driver that knows nothing of it has all frames. */
	ck_assert(fake_driver_start(&d, F(MRG_RXBUF), RING_SIZE));
	memset(posted, 0, sizeof(posted));
	post(0, 32);
	ck_assert_uint_eq(spread(), 1);
	ck_assert_uint_eq(fake_driver_status(&d), 0xf);
	(void)close(packet);
}
END_TEST

/* What an interface was made for is what can be asked of it. */
START_TEST(test_tap_of_one_queue)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI, .ifr_name = TAP };
	struct netdev *netdev = NULL;
	int fd = -1;

	if (unshare(CLONE_NEWNET) != 0) {
		CHECK_SKIP("no network namespace: not root");
	}
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		CHECK_SKIP("no /dev/net/tun");
	}
	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	ck_assert_int_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	(void)close(fd);
	ck_assert_int_lt(netdev_open_tap(&netdev, TAP, true, &e), 0);
	check_error(&e, ERROR_NET, "was made for one queue");
	check_error(&e, ERROR_NET, "multi_queue");
	check_ok(netdev_open_tap(&netdev, TAP, false, &e), &e);
	ck_assert_int_lt(netdev_add_queues(netdev, 2, &e), 0);
	netdev_destroy(netdev);
	/* Held as several, and then opened. */
	check_ok(netdev_claim_tap(&fd, "vmmtest1", true, &e), &e);
	check_ok(netdev_open_fd(&netdev, fd, &e), &e);
	check_ok(netdev_add_queues(netdev, 3, &e), &e);
	ck_assert_uint_eq(netdev_count(netdev), 3);
	netdev_destroy(netdev);
}
END_TEST

CHECK_MAIN("net_queues", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_configuration);
	   CHECK_TEST(test_configuration_of_one_pair); CHECK_TABLE(test_commands, commands);
	   CHECK_TEST(test_first_pair_alone); CHECK_TEST(test_up_and_down);
	   CHECK_TEST(test_control_queue_without_mq); CHECK_TEST(test_many_commands);
	   CHECK_TEST(test_every_pair_sends); CHECK_TEST(test_waiting_frame_of_a_pair_that_goes);
	   CHECK_TEST(test_no_frame_after_the_answer); CHECK_TEST(test_limit_is_of_the_card);
	   CHECK_TEST(test_state); CHECK_TEST(test_tap); CHECK_TEST(test_tap_of_one_queue))
