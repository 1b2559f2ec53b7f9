/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net, all but its two directions (test_net_tx.c, test_net_rx.c), against a driver of our own and a
 * socket pair as back end. Names of the form m_5_1_6_2_2_1 are MUST statements of virtio 1.2, device side;
 * t_n1 and so on are classes of bugs that other virtual network cards had.
 */
#include "harness/net_fixture.h"

#include "harness/state_round_trip.h"

/* ---- configuration and features ---- */

START_TEST(test_config)
{
	struct virtio_net_config config;

	(void)pthread_mutex_lock(&d.dev->lock);
	virtio_config_read(d.dev, 0, &config, sizeof(config)); /* M2.5.2-1: before FEATURES_OK */
	(void)pthread_mutex_unlock(&d.dev->lock);
	ck_assert_mem_eq(config.mac, mac, 6);
	ck_assert_uint_eq(config.status, VIRTIO_NET_S_LINK_UP);
	ck_assert_uint_eq(config.max_virtqueue_pairs, 1);
	ck_assert_uint_eq(config.mtu, 0);
	ck_assert_uint_eq(d.dev->config_size, 12);
}
END_TEST

START_TEST(test_config_any_offset)
{
	static const uint64_t offsets[] = { 0, 5, 11, 12, 0x80000000, UINT64_MAX };
	uint8_t buf[8];

	for (uint32_t len = 1; len <= 8; len++) {
		(void)pthread_mutex_lock(&d.dev->lock);
		virtio_config_read(d.dev, offsets[_i], buf, len);
		memset(buf, 0xff, sizeof(buf));
		virtio_config_write(d.dev, offsets[_i], buf, len);
		virtio_config_read(d.dev, 0, buf, 6);
		(void)pthread_mutex_unlock(&d.dev->lock);
		ck_assert_mem_eq(buf, mac, 6);
	}
}
END_TEST

START_TEST(test_features_offered)
{
	uint64_t net = F(MAC) | F(STATUS) | F(MRG_RXBUF) | GUEST_OFFLOAD | HOST_OFFLOAD;
	uint64_t core = UINT64_C(1) << 32 | UINT64_C(1) << 28 | UINT64_C(1) << 29;

	/* M2.2.2-3: nothing that would not work: no UFO, MQ, CTRL_VQ, MTU */
	ck_assert_uint_eq(fake_driver_offered(&d), net | core);
}
END_TEST

START_TEST(test_features_of_plain_backend)
{
	struct virtio_device *dev;
	struct error e = { 0 };
	int fds[2];
	struct netdev *plain;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
	check_ok(netdev_open_fd(&plain, fds[0], &e), &e);
	check_ok(virtio_net_create(&dev, "net1", plain, mac, &d.mem, d.workers, &e), &e);
	ck_assert_uint_eq(dev->features_offered & (GUEST_OFFLOAD | HOST_OFFLOAD), 0);
	dev->ops->destroy(dev);
	close(fds[1]);
}
END_TEST

/* M2.2.2-2: a subset is accepted if every bit has what it requires (§5.1.3.1). All 256 subsets. */
START_TEST(test_t_n5_every_subset_of_offloads)
{
	static const uint64_t bits[] = { F(GUEST_CSUM), F(GUEST_TSO4), F(GUEST_TSO6), F(GUEST_ECN),
					 F(CSUM),	F(HOST_TSO4),  F(HOST_TSO6),  F(HOST_ECN) };
	uint64_t f = 0;
	uint32_t set = 0;
	bool valid;

	for (int i = 0; i < 8; i++) {
		f |= (_i >> i & 1) != 0 ? bits[i] : 0;
	}
	valid = ((f & (F(GUEST_TSO4) | F(GUEST_TSO6))) == 0 || (f & F(GUEST_CSUM)) != 0) &&
		((f & F(GUEST_ECN)) == 0 || (f & (F(GUEST_TSO4) | F(GUEST_TSO6))) != 0) &&
		((f & (F(HOST_TSO4) | F(HOST_TSO6))) == 0 || (f & F(CSUM)) != 0) &&
		((f & F(HOST_ECN)) == 0 || (f & (F(HOST_TSO4) | F(HOST_TSO6))) != 0);
	ck_assert_int_eq(fake_driver_start(&d, f, QUEUE_SIZE), valid);
	if (!valid) {
		return;
	}
	set |= (f & F(GUEST_CSUM)) != 0 ? NETDEV_OFFLOAD_CSUM : 0;
	set |= (f & F(GUEST_TSO4)) != 0 ? NETDEV_OFFLOAD_TSO4 : 0;
	set |= (f & F(GUEST_TSO6)) != 0 ? NETDEV_OFFLOAD_TSO6 : 0;
	set |= (f & F(GUEST_ECN)) != 0 ? NETDEV_OFFLOAD_ECN : 0;
	ck_assert_uint_eq(backend->offloads_set, set);
	/* A next driver that wants nothing gets nothing. */
	start(0);
	ck_assert_uint_eq(backend->offloads_set, 0);
}
END_TEST

START_TEST(test_offloads_again_after_restore)
{
	start(F(GUEST_CSUM) | F(GUEST_TSO4));
	virtio_device_quiesce(d.dev);
	backend->offloads_set = 0; /* as a fresh back end has it */
	virtio_device_resume(d.dev);
	ck_assert_uint_eq(backend->offloads_set, NETDEV_OFFLOAD_CSUM | NETDEV_OFFLOAD_TSO4);
}
END_TEST

START_TEST(test_m_5_1_4_1_mtu_range)
{
	static const uint16_t mtus[] = { 1, 67, 68, 65535 };
	struct virtio_device *dev;
	struct error e = { 0 };
	struct netdev *nd;
	int other;

	check_ok(netdev_open_pair(&nd, &other, &e), &e);
	nd->mtu = mtus[_i];
	if (mtus[_i] < 68) {
		ck_assert_int_lt(virtio_net_create(&dev, "n", nd, mac, &d.mem, d.workers, &e), 0);
		check_error(&e, ERROR_NET, "MTU");
		netdev_destroy(nd);
	} else {
		uint8_t field[2] = { 0xff, 0xff };

		check_ok(virtio_net_create(&dev, "n", nd, mac, &d.mem, d.workers, &e), &e);
		ck_assert(dev->features_offered & F(MTU));
		virtio_config_write(dev, 10, field, 2); /* M5.1.4.1-3 */
		virtio_config_read(dev, 10, field, 2);
		ck_assert_uint_eq(field[0] | field[1] << 8, mtus[_i]);
		dev->ops->destroy(dev);
	}
	close(other);
}
END_TEST

START_TEST(test_bad_mac)
{
	static const uint8_t bad[][6] = { { 0 },
					  { 0x01, 0, 0x5e, 0, 0, 1 },
					  { 255, 255, 255, 255, 255, 255 } };
	struct virtio_device *dev;
	struct error e = { 0 };

	ck_assert_int_lt(virtio_net_create(&dev, "n", backend, bad[_i], &d.mem, d.workers, &e), 0);
	check_error(&e, ERROR_NET, "address");
}
END_TEST

/* ---- both ---- */

/* T-N6: both directions at once, much more than any buffer holds, then a frame each way. */
START_TEST(test_t_n6_flood)
{
	uint32_t ready = 0, received = 0, echoed = 0, id, len;
	struct fake_buf out = { .addr = FAKE_DATA, .len = HEADER + 1514 };

	start(F(MRG_RXBUF));
	make_frame(&(header_t){ 0 }, 1514, 1);
	fake_driver_write(&d, FAKE_DATA, wire, HEADER + 1514);
	while (received < 20000 || echoed < 20000) {
		while (send(peer, wire, HEADER + 1514, MSG_DONTWAIT) > 0) {
		}
		for (; ready < 200; ready++) {
			if (rx_next > RX_AREA + MIB(5)) {
				rx_next = RX_AREA;
			}
			if (posts == ARRAY_SIZE(posted)) {
				posts = 0;
			}
			post(1536, 1);
		}
		virtio_kick(d.dev, RX);
		while ((uint16_t)(d.rings[TX].avail_idx - d.rings[TX].used_seen) < QUEUE_SIZE) {
			fake_ring_add(&d.rings[TX], &out, 1);
		}
		virtio_kick(d.dev, TX);
		while (fake_ring_used(&d.rings[RX], &id, &len)) {
			ck_assert_uint_eq(len, HEADER + 1514);
			ready--;
			received++;
		}
		while (fake_ring_used(&d.rings[TX], &id, &len)) {
		}
		while (recv(peer, got, sizeof(got), MSG_DONTWAIT) > 0) {
			echoed++;
		}
	}
	ck_assert_uint_eq(fake_driver_status(&d), 0xf);
	ck_assert_uint_eq(counters().tx_errors + counters().rx_errors, 0);
}
END_TEST

/* The peer goes away: link down, told to the guest, workers alive and idle, chains completed. */
START_TEST(test_backend_gone)
{
	start(F(MRG_RXBUF) | F(STATUS));
	post(1536, 10);
	kick_rx();
	close_fd(&peer);
	fake_driver_sync(&d);
	fake_driver_sync(&d);
	ck_assert_uint_eq(link_status(), 0);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	make_frame(&(header_t){ 0 }, 60, 1);
	transmit(HEADER + 60);
	transmit(HEADER + 60);
	ck_assert_uint_eq(counters().tx_errors, 2);
	expect_idle(RX);
	expect_idle(TX);
	/* A next driver finds the same. */
	start(F(MRG_RXBUF) | F(STATUS));
	ck_assert_uint_eq(link_status(), 0);
	transmit(HEADER + 60);
	expect_idle(RX);
}
END_TEST

START_TEST(test_backend_gone_while_tx_waits)
{
	struct fake_buf buf = { .addr = FAKE_DATA, .len = HEADER + 60000 };
	uint16_t frames = 0;

	start(0);
	while (counters().tx_waits == 0) {
		fake_ring_add(&d.rings[TX], &buf, 1);
		frames++;
		fake_driver_kick(&d, TX);
	}
	close_fd(&peer);
	ck_assert(fake_driver_wait_used(&d, TX, frames));
	ck_assert_uint_eq(link_status(), 0);
	expect_idle(TX);
}
END_TEST

/* A broken ring stops this device until it is reset; nothing spins meanwhile. */
START_TEST(test_broken_ring)
{
	uint32_t queue = (uint32_t)_i;

	start(F(MRG_RXBUF) | GUEST_OFFLOAD);
	fake_ring_set_avail(&d.rings[queue], 0, QUEUE_SIZE);
	fake_ring_set_avail_idx(&d.rings[queue], 1);
	make_frame(&(header_t){ 0 }, 60, 1);
	peer_send(60);
	fake_driver_kick(&d, queue);
	ck_assert_uint_eq(fake_driver_status(&d), 0x4f);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	(void)send(peer, wire, HEADER + 60, 0);
	expect_idle(RX);
	expect_idle(TX);
	start(F(MRG_RXBUF) | GUEST_OFFLOAD);
	post(1536, 50);
	kick_rx();
	peer_send(60);
	ck_assert_int_gt(receive(true), 0);
	transmit(HEADER + 60);
	while (peer_read() > 0) {
	}
}
END_TEST

START_TEST(test_reset_with_traffic)
{
	for (int i = 0; i < 200; i++) {
		start(F(MRG_RXBUF) | (i % 2 != 0 ? GUEST_OFFLOAD : 0));
		post(1536, (uint32_t)i % 60);
		virtio_kick(d.dev, RX);
		make_frame(&(header_t){ 0 }, 3000, 1);
		(void)send(peer, wire, HEADER + 3000, MSG_DONTWAIT);
		fake_driver_reset(&d);
		ck_assert_uint_eq(fake_driver_status(&d), 0);
	}
}
END_TEST

/* M2.1.2-1: nothing is consumed before DRIVER_OK. */
START_TEST(test_m_2_1_2_1_nothing_before_driver_ok)
{
	uint32_t id, len;

	ck_assert(fake_driver_negotiate(&d, UINT64_C(1) << 32));
	fake_driver_setup_queue(&d, RX, QUEUE_SIZE);
	fake_driver_setup_queue(&d, TX, QUEUE_SIZE);
	make_frame(&(header_t){ 0 }, 60, 1);
	fake_driver_write(&d, FAKE_DATA, wire, HEADER + 60);
	fake_ring_add(&d.rings[TX], &(struct fake_buf){ FAKE_DATA, HEADER + 60, false }, 1);
	post(1536, 1);
	fake_driver_kick(&d, TX);
	peer_send(60);
	kick_rx();
	ck_assert(!fake_ring_used(&d.rings[TX], &id, &len));
	ck_assert(!fake_ring_used(&d.rings[RX], &id, &len));
	fake_driver_set_status(&d, 0xf);
	fake_driver_sync(&d);
	ck_assert(fake_ring_used(&d.rings[TX], &id, &len));
	expect_received(60, false);
}
END_TEST

/* ---- saved state ---- */

START_TEST(test_state)
{
	const struct state_desc *desc = virtio_net_ops.state;
	static const uint8_t other[6] = { 0x02, 9, 9, 9, 9, 9 };
	struct virtio_device *dev;
	struct netdev *nd;
	struct error e = { 0 };
	struct state_buf buf = { 0 };
	uint8_t config[12];
	int fd;

	check_ok(netdev_open_pair(&nd, &fd, &e), &e);
	check_ok(virtio_net_create(&dev, "n", nd, other, &d.mem, d.workers, &e), &e);
	check_state_round_trip(desc, d.dev, dev);
	virtio_config_read(dev, 0, config, sizeof(config));
	ck_assert_mem_eq(config, mac, 6);

	/* A multicast address is refused, and the name of the device is in the message. */
	check_ok(state_save(desc, d.dev, &buf, &e), &e);
	for (size_t i = 0; i + 6 <= buf.len; i++) {
		if (memcmp(buf.data + i, mac, 6) == 0) {
			buf.data[i] |= 1;
		}
	}
	ck_assert_int_lt(state_load(desc, dev, buf.data, buf.len, desc->version, &e), 0);
	check_error(&e, ERROR_STATE, "MAC");
	state_buf_finish(&buf);
	dev->ops->destroy(dev);
	close(fd);
}
END_TEST

/* ---- limits ---- */

static const struct rate_limit_config unlimited = { .has_bandwidth = true, .has_ops = true };

/* `count` frames of 100 bytes, without a kick. */
static void offer_frames(uint8_t from, uint8_t count)
{
	for (uint8_t i = from; i < from + count; i++) {
		const struct fake_buf buf = { FAKE_DATA + i * KIB(1), HEADER + 100, false };

		make_frame(&(header_t){ 0 }, 100, i);
		fake_driver_write(&d, buf.addr, wire, HEADER + 100);
		(void)fake_ring_add(&d.rings[TX], &buf, 1);
	}
}

static void expect_frames(uint8_t from, uint8_t count)
{
	for (uint8_t i = from; i < from + count; i++) {
		make_frame(&(header_t){ 0 }, 100, i);
		ck_assert_int_eq(peer_read(), HEADER + 100);
		ck_assert_mem_eq(got + HEADER, wire + HEADER, 100);
	}
	ck_assert_int_eq(peer_read(), -1);
}

START_TEST(test_tx_limit)
{
	const struct rate_limit_config limit = {
		.ops = { _i == 0 ? 3 : 0, 0, 3600000 },
		.bandwidth = { _i == 1 ? UINT64_C(112) * 3 : 0, 0, 3600000 },
		.has_ops = true,
		.has_bandwidth = true,
	};

	virtio_net_init_limits(d.dev, &unlimited, &limit);
	start(0);
	offer_frames(0, 8);
	for (int i = 0; i < 3; i++) {
		fake_driver_kick(&d, TX);
		ck_assert_uint_eq(fake_ring_used_idx(&d.rings[TX]), 3);
	}
	expect_frames(0, 3);
	expect_idle(TX);
	virtio_device_quiesce(d.dev);
	virtio_device_resume(d.dev);
	fake_driver_kick(&d, TX);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[TX]), 3);
	virtio_net_limit(d.dev, NULL, &unlimited);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[TX]), 8);
	expect_frames(3, 5);
	ck_assert_uint_eq(counters().tx_frames, 8);
}
END_TEST

START_TEST(test_tx_limit_goes_on)
{
	const struct rate_limit_config limit = { .ops = { 7, 0, 5 }, .has_ops = true };

	virtio_net_init_limits(d.dev, &unlimited, &limit);
	start(0);
	offer_frames(0, 60);
	fake_driver_kick(&d, TX);
	ck_assert(fake_driver_wait_used(&d, TX, 60));
	expect_frames(0, 60);
}
END_TEST

START_TEST(test_mtu_that_is_set)
{
	struct netdev netdev = { .name = "tap7" };
	struct error e = { 0 };

	check_ok(netdev_set_mtu(&netdev, 68, &e), &e);
	check_ok(netdev_set_mtu(&netdev, 65535, &e), &e);
	ck_assert_uint_eq(netdev.mtu, 65535);
	netdev.mtu_max = 1500;
	/* More than the interface's is the user's to mend: it was accepted by Firecracker. */
	check_ok(netdev_set_mtu(&netdev, 1501, &e), &e);
	ck_assert_uint_eq(netdev.mtu, 1501);
	check_ok(netdev_set_mtu(&netdev, 1500, &e), &e);
	ck_assert_int_lt(netdev_set_mtu(&netdev, 67, &e), 0);
	check_error(&e, ERROR_NET, "67");
	ck_assert_int_lt(netdev_set_mtu(&netdev, 65536, &e), 0);
	ck_assert_uint_eq(netdev.mtu, 1500);
}
END_TEST

/* What the guest would not do by itself, it is told. */
START_TEST(test_mtu_of_the_interface)
{
	static const struct {
		uint32_t own;
		uint16_t told;
	} rows[] = { { 0, 0 },	  { 67, 0 },	  { 68, 68 },	    { 1499, 1499 },
		     { 1500, 0 }, { 9000, 9000 }, { 65535, 65535 }, { 65536, 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct netdev netdev = { .name = "tap7", .mtu_max = rows[i].own };
		struct error e = { 0 };

		check_ok(netdev_set_mtu(&netdev, 0, &e), &e);
		ck_assert_uint_eq(netdev.mtu, rows[i].told);
	}
}
END_TEST

CHECK_MAIN("net", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_config);
	   CHECK_LOOP(test_config_any_offset, 6); CHECK_TEST(test_features_offered);
	   CHECK_TEST(test_features_of_plain_backend);
	   CHECK_LOOP(test_t_n5_every_subset_of_offloads, 256);
	   CHECK_TEST(test_offloads_again_after_restore); CHECK_LOOP(test_m_5_1_4_1_mtu_range, 4);
	   CHECK_LOOP(test_bad_mac, 3); CHECK_TEST(test_t_n6_flood); CHECK_TEST(test_backend_gone);
	   CHECK_TEST(test_backend_gone_while_tx_waits); CHECK_LOOP(test_broken_ring, 2);
	   CHECK_TEST(test_reset_with_traffic); CHECK_TEST(test_m_2_1_2_1_nothing_before_driver_ok);
	   CHECK_TEST(test_state); CHECK_LOOP(test_tx_limit, 2); CHECK_TEST(test_tx_limit_goes_on);
	   CHECK_TEST(test_mtu_that_is_set); CHECK_TEST(test_mtu_of_the_interface))
