/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net's receive queue against a driver of our own and a socket pair as back end. Names of
 * the form m_5_1_6_2_2_1 are MUST statements of virtio 1.2, device side; t_n1 and so on are classes
 * of bugs that other virtual network cards had.
 */
#include "harness/net_fixture.h"

/* ---- receive ---- */

/* M5.1.6.3.2-2, M5.1.6.4.1-1 */
START_TEST(test_rx_single_buffer)
{
	start(0);
	post(HEADER + 1514, 4);
	kick_rx();
	make_frame(&(header_t){ .num_buffers = 77 }, 1514, 1);
	peer_send(1514);
	expect_received(1514, false);
	ck_assert_uint_eq(got_header().num_buffers, 1);
	ck_assert_uint_eq(counters().rx_frames, 1);
	ck_assert_uint_eq(counters().rx_bytes, 1514);
	ck_assert_uint_ge(atomic_load(&d.queue_interrupts[RX]), 1);
}
END_TEST

START_TEST(test_rx_single_buffer_in_pieces)
{
	/* Header split at every byte, and nothing assumed of the rest (M2.7.4.1-1). */
	const uint32_t lens[] = { (uint32_t)_i + 1, 12 - (uint32_t)_i, 1, 700, 900 };

	start(0);
	post_bufs(lens, ARRAY_SIZE(lens));
	make_frame(&(header_t){ 0 }, 1514, 2);
	peer_send(1514);
	expect_received(1514, false);
}
END_TEST

START_TEST(test_rx_single_buffer_too_small)
{
	start(0);
	post(HEADER + 100, 2);
	make_frame(&(header_t){ 0 }, 101, 3);
	peer_send(101);
	ck_assert_int_eq(receive(false), -1);
	ck_assert_uint_eq(counters().rx_no_room, 1);
	make_frame(&(header_t){ 0 }, 100, 4);
	peer_send(100);
	expect_received(100, false);
}
END_TEST

static const struct {
	uint32_t buffer, frame;
	uint16_t buffers;
} merges[] = {
	{ 1536, 60, 1 },
	{ 1536, 1524, 1 },
	{ 1536, 1525, 2 },
	{ 1536, 9000, 6 },
	{ 1536, 65535, 43 },
	{ 1536, NETDEV_FRAME_MAX, 43 },
	{ 12, 14, 3 },
	{ 13, 1514, 118 },
	{ 65570, NETDEV_FRAME_MAX, 1 },
	{ 65569, NETDEV_FRAME_MAX, 2 },
	{ 4096, 65535, 17 },
};

/* M5.1.6.3.2-1, M5.1.6.4.1-2, -3, -4 with and without segmentation offload. */
START_TEST(test_rx_merge)
{
	uint32_t at = (uint32_t)_i / 2;
	uint64_t features = F(MRG_RXBUF) | (_i % 2 != 0 ? GUEST_OFFLOAD : 0);

	start(features);
	post(merges[at].buffer, MIN(250U, (uint32_t)(MIB(5) / merges[at].buffer)));
	for (uint8_t round = 0; round < 2; round++) {
		make_frame(&(header_t){ 0 }, merges[at].frame, round);
		peer_send(merges[at].frame);
		expect_received(merges[at].frame, true);
		ck_assert_uint_eq(got_header().num_buffers, merges[at].buffers);
	}
	ck_assert_uint_eq(counters().rx_no_room, 0);
}
END_TEST

/* Frames of all sizes, buffers of all shapes, through many compactions of the list of buffers held
 * ready. */
START_TEST(test_rx_merge_mixed)
{
	uint32_t seed = 12345, ready = 0;

	start(F(MRG_RXBUF) | GUEST_OFFLOAD);
	for (uint32_t i = 0; i < 3000; i++) {
		uint32_t len;

		while (ready < 40) {
			const uint32_t lens[] = { 700 + seed % 100, 1, 2000 + seed % 900 };

			if (rx_next > RX_AREA + MIB(5)) {
				rx_next = RX_AREA;
			}
			seed = seed * 1103515245 + 12345;
			post_bufs(lens, 3);
			ready++;
		}
		kick_rx();
		seed = seed * 1103515245 + 12345;
		len = 14 + (seed >> 8) % (i % 8 == 0 ? 60000 : 1501);
		make_frame(&(header_t){ 0 }, len, (uint8_t)i);
		peer_send(len);
		expect_received(len, true);
		ready -= got_header().num_buffers;
	}
	ck_assert_uint_eq(counters().rx_frames, 3000);
}
END_TEST

START_TEST(test_rx_waits_for_buffers)
{
	start(F(MRG_RXBUF));
	make_frame(&(header_t){ 0 }, 60, 5);
	for (int i = 0; i < 5; i++) {
		peer_send(60);
	}
	expect_idle(RX);
	ck_assert_int_eq(receive(true), -1);
	post(1536, 3);
	kick_rx();
	for (int i = 0; i < 3; i++) {
		expect_received(60, true);
	}
	ck_assert_int_eq(receive(true), -1);
	post(1536, 2);
	kick_rx();
	expect_received(60, true);
	expect_received(60, true);
}
END_TEST

/* A frame longer than what is there waits for the driver's next buffers, and nothing of it is seen
 * before (no partial publish). */
START_TEST(test_rx_long_frame_waits_for_rest)
{
	start(F(MRG_RXBUF));
	post(1500, 2);
	make_frame(&(header_t){ 0 }, 4000, 6);
	peer_send(4000);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[RX]), 0);
	post(1500, 1);
	kick_rx();
	if (counters().rx_no_room ==
	    0) { /* unless this machine stood still for longer than a frame waits */
		expect_received(4000, true);
		ck_assert_uint_eq(got_header().num_buffers, 3);
	}
}
END_TEST

/* A ring that can never hold the frame loses it, and goes on. */
START_TEST(test_rx_ring_too_small_for_frame)
{
	uint64_t deadline = loop_now_ns() + FAKE_WAIT_NS;

	ck_assert(fake_driver_start(&d, F(MRG_RXBUF) | GUEST_OFFLOAD, 8));
	post(1536, 8);
	make_frame(&(header_t){ 0 }, 60000, 7);
	peer_send(60000);
	while (counters().rx_no_room == 0) {
		ck_assert_uint_lt(loop_now_ns(), deadline);
		fake_driver_sync(&d);
	}
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[RX]), 0);
	make_frame(&(header_t){ 0 }, 9000, 8);
	peer_send(9000);
	expect_received(9000, true);
}
END_TEST

/* Buffers so small that the list for one system call is full: dropped at once. */
START_TEST(test_rx_buffers_of_crumbs)
{
	static struct fake_buf bufs[200];

	start(F(MRG_RXBUF) | UINT64_C(1) << 28); /* INDIRECT_DESC */
	for (uint32_t i = 0; i < 8; i++) {
		for (uint32_t j = 0; j < ARRAY_SIZE(bufs); j++) {
			bufs[j] = (struct fake_buf){ RX_AREA + (i * 256 + j) * 16ULL, 1, true };
		}
		fake_ring_add_indirect(&d.rings[RX], bufs, ARRAY_SIZE(bufs));
	}
	make_frame(&(header_t){ 0 }, 1514, 9);
	peer_send(1514);
	ck_assert_uint_eq(counters().rx_no_room, 1);
	make_frame(&(header_t){ 0 }, 300, 9);
	peer_send(300);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[RX]), 2);
}
END_TEST

/* Kicks are asked for while buffers are missing, and only then. */
START_TEST(test_rx_kicks)
{
	start(F(MRG_RXBUF));
	make_frame(&(header_t){ 0 }, 60, 5);
	post(1536, 2);
	kick_rx();
	ck_assert_uint_eq(fake_ring_used_flags(&d.rings[RX]), 1); /* NO_NOTIFY */
	peer_send(60);
	peer_send(60);
	peer_send(60);
	ck_assert_uint_eq(fake_ring_used_flags(&d.rings[RX]), 0);
	post(1536, 2);
	kick_rx();
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[RX]), 3);
	ck_assert_uint_eq(fake_ring_used_flags(&d.rings[RX]), 1);
}
END_TEST

START_TEST(test_rx_kicks_with_event_idx)
{
	start(F(MRG_RXBUF) | UINT64_C(1) << 29);
	make_frame(&(header_t){ 0 }, 60, 5);
	post(1536, 2);
	kick_rx();
	for (int i = 0; i < 3; i++) {
		peer_send(60);
	}
	ck_assert_uint_eq(fake_ring_avail_event(&d.rings[RX]), 2);
	post(1536, 3);
	kick_rx();
	ck_assert_uint_eq(fake_ring_avail_event(&d.rings[RX]), 2);
	for (int i = 0; i < 3; i++) {
		peer_send(60);
	}
	ck_assert_uint_eq(fake_ring_avail_event(&d.rings[RX]), 5);
}
END_TEST

/* T-N4: readable buffers in the receive queue are not written and not used. */
START_TEST(test_t_n4_rx_readable)
{
	const struct fake_buf readable = { FAKE_DATA, 2000, false };
	const struct fake_buf mixed[] = { { FAKE_DATA, 2000, false },
					  { RX_AREA + MIB(1), 2000, true } };
	uint8_t bytes[2000];
	uint32_t id, len;

	start(F(MRG_RXBUF));
	fake_driver_fill(&d, FAKE_DATA, 0x77, 2000);
	fake_ring_add(&d.rings[RX], &readable, 1);
	fake_ring_add(&d.rings[RX], mixed, 2);
	make_frame(&(header_t){ 0 }, 500, 10);
	peer_send(500);
	ck_assert(fake_ring_used(&d.rings[RX], &id, &len));
	ck_assert_uint_eq(len, 0);
	ck_assert(fake_ring_used(&d.rings[RX], &id, &len));
	ck_assert_uint_eq(len, HEADER + 500);
	fake_driver_read(&d, RX_AREA + MIB(1), bytes, 512);
	ck_assert_mem_eq(bytes + HEADER, wire + HEADER, 500);
	ck_assert_uint_eq(load_le16(bytes + 10),
			  1); /* num_buffers: the readable chain is not one */
	fake_driver_read(&d, FAKE_DATA, bytes, 2000);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ck_assert_uint_eq(bytes[i], 0x77);
	}
}
END_TEST

static const struct {
	const char *what;
	uint64_t features;
	header_t in;
	bool received;
	uint8_t flags, gso_type;
} rx_headers[] = {
	/* M5.1.6.4.1-5 */
	{ "data valid, no GUEST_CSUM", 0, { .flags = 2 }, true, 0, 0 },
	{ "needs csum, no GUEST_CSUM", 0, { .flags = 1, CSUM4 }, false, 0, 0 },
	/* -11, -15, -16 */
	{ "flags kept", GUEST_OFFLOAD, { .flags = 3, CSUM4 }, true, 3, 0 },
	{ "no RSC_INFO and unknown flags", GUEST_OFFLOAD, { .flags = 0xfe }, true, 2, 0 },
	{ "csum outside",
	  GUEST_OFFLOAD,
	  { .flags = 1, .csum_start = 1000, .csum_offset = 0 },
	  false,
	  0,
	  0 },
	/* -6, -8, -12 */
	{ "tso4 without feature",
	  F(GUEST_CSUM) | F(GUEST_TSO6),
	  { .flags = 1, .gso_type = 1, .gso_size = 100, CSUM4 },
	  false,
	  0,
	  0 },
	{ "tso6 without feature",
	  F(GUEST_CSUM) | F(GUEST_TSO4),
	  { .flags = 1, .gso_type = 4, .gso_size = 100, CSUM4 },
	  false,
	  0,
	  0 },
	{ "tso4 without any",
	  0,
	  { .flags = 1, .gso_type = 1, .gso_size = 100, CSUM4 },
	  false,
	  0,
	  0 },
	{ "tso4",
	  GUEST_OFFLOAD,
	  { .flags = 1, .gso_type = 1, .gso_size = 100, CSUM4 },
	  true,
	  1,
	  1 },
	{ "tso6",
	  GUEST_OFFLOAD,
	  { .flags = 1, .gso_type = 4, .gso_size = 100, CSUM4 },
	  true,
	  1,
	  4 },
	/* -7, -9 */
	{ "ufo",
	  GUEST_OFFLOAD,
	  { .flags = 1, .gso_type = 3, .gso_size = 100, CSUM4 },
	  false,
	  0,
	  0 },
	{ "uso",
	  GUEST_OFFLOAD,
	  { .flags = 1, .gso_type = 5, .gso_size = 100, CSUM4 },
	  false,
	  0,
	  0 },
	/* -10 */
	{ "ecn",
	  GUEST_OFFLOAD,
	  { .flags = 1, .gso_type = 0x81, .gso_size = 100, CSUM4 },
	  true,
	  1,
	  0x81 },
	{ "ecn without feature",
	  F(GUEST_CSUM) | F(GUEST_TSO4),
	  { .flags = 1, .gso_type = 0x81, .gso_size = 100, CSUM4 },
	  false,
	  0,
	  0 },
	/* -13 */
	{ "gso without csum", GUEST_OFFLOAD, { .gso_type = 1, .gso_size = 100 }, false, 0, 0 },
	{ "gso without size", GUEST_OFFLOAD, { .flags = 1, .gso_type = 1, CSUM4 }, false, 0, 0 },
};

START_TEST(test_m_5_1_6_4_1_rx_headers)
{
	start(F(MRG_RXBUF) | rx_headers[_i].features);
	post(1536, 100);
	kick_rx();
	make_frame(&rx_headers[_i].in, 300, 1);
	peer_send(300);
	if (rx_headers[_i].received) {
		expect_received(300, true);
		ck_assert_uint_eq(got_header().flags, rx_headers[_i].flags);
		ck_assert_uint_eq(got_header().gso_type, rx_headers[_i].gso_type);
		if (rx_headers[_i].gso_type != 0) {
			ck_assert_uint_eq(got_header().gso_size, 100);
		}
	} else {
		ck_assert_msg(receive(true) == -1, "%s", rx_headers[_i].what);
		ck_assert_uint_eq(counters().rx_invalid, 1);
	}
	/* The buffers of a dropped frame serve the next one. */
	make_frame(&(header_t){ 0 }, 200, 2);
	peer_send(200);
	expect_received(200, true);
}
END_TEST

static const struct {
	uint32_t len;
	bool received;
} rx_lengths[] = { { 0, false },
		   { 13, false },
		   { 14, true },
		   { NETDEV_FRAME_MAX, true },
		   { NETDEV_FRAME_MAX + 1, false },
		   { NETDEV_FRAME_MAX + 40, false } };

START_TEST(test_rx_lengths)
{
	start(F(MRG_RXBUF) | GUEST_OFFLOAD);
	post(1536, 100);
	make_frame(&(header_t){ 0 }, rx_lengths[_i].len, 1);
	peer_send(rx_lengths[_i].len);
	if (rx_lengths[_i].received) {
		expect_received(rx_lengths[_i].len, true);
	} else {
		ck_assert_int_eq(receive(true), -1);
		ck_assert_uint_eq(counters().rx_invalid, 1);
	}
}
END_TEST

START_TEST(test_rx_shorter_than_header)
{
	start(F(MRG_RXBUF));
	post(1536, 10);
	memset(wire, 0, HEADER);
	ck_assert_int_eq(send(peer, wire, 5, 0), 5);
	fake_driver_sync(&d);
	ck_assert_int_eq(receive(true), -1);
	ck_assert_uint_eq(counters().rx_invalid, 1);
}
END_TEST

/* M5.1.4.1-4 and -5 */
START_TEST(test_m_5_1_4_1_mtu)
{
	teardown();
	setup_with(1000);
	start(F(MRG_RXBUF) | F(MTU) | GUEST_OFFLOAD);
	post(1536, 100);
	make_frame(&(header_t){ 0 }, 1015, 1);
	peer_send(1015);
	ck_assert_int_eq(receive(true), -1);
	make_frame(&(header_t){ 0 }, 1014, 2);
	peer_send(1014);
	expect_received(1014, true);
	/* A VLAN tag, or two of them, is not the packet's; three are not Ethernet's any more. */
	for (uint32_t tags = 1; tags <= 3; tags++) {
		make_frame(&(header_t){ 0 }, 1014 + 4 * tags, (uint8_t)(10 + tags));
		for (uint32_t i = 0; i < tags; i++) {
			memcpy(wire + HEADER + 12 + 4 * i, i == 0 ? "\x88\xa8" : "\x81\x00", 2);
		}
		wire[HEADER + 12 + 4 * tags] = 0x08;
		peer_send(1014 + 4 * tags);
		if (tags <= 2) {
			expect_received(1014 + 4 * tags, true);
		} else {
			ck_assert_int_eq(receive(true), -1);
		}
	}
	make_frame(&(header_t){ .flags = 1, .gso_type = 1, .gso_size = 900, CSUM4 }, 30000, 3);
	peer_send(30000);
	expect_received(30000, true);
	make_frame(&(header_t){ 0 }, 1014, 4);
	transmit(HEADER + 1014);
	ck_assert_int_eq(peer_read(), HEADER + 1014);
	/* not negotiated: no limit */
	start(F(MRG_RXBUF));
	post(1536, 100);
	make_frame(&(header_t){ 0 }, 1500, 1);
	peer_send(1500);
	expect_received(1500, true);
}
END_TEST

/* Buffers that the device holds ready are the driver's again while it is quiesced, and used in
 * order afterwards. */
START_TEST(test_rx_quiesce)
{
	start(F(MRG_RXBUF) | GUEST_OFFLOAD);
	post(1536, 200);
	for (uint8_t i = 0; i < 5; i++) {
		make_frame(&(header_t){ 0 }, 3000, i);
		peer_send(3000);
		expect_received(3000, true);
		virtio_device_quiesce(d.dev);
		ck_assert_uint_eq(d.dev->queues[RX].ring.in_flight_count, 0);
		ck_assert_uint_eq(d.dev->queues[RX].ring.state.avail_next,
				  d.dev->queues[RX].ring.state.used_next);
		ck_assert_int_eq(send(peer, wire, HEADER + 3000, 0), HEADER + 3000);
		virtio_device_resume(d.dev);
		fake_driver_sync(&d);
		expect_received(3000, true); /* what came meanwhile */
	}
}
END_TEST

START_TEST(test_rx_quiesce_with_pending_frame)
{
	start(F(MRG_RXBUF));
	post(1500, 2);
	make_frame(&(header_t){ 0 }, 4000, 6);
	peer_send(4000);
	virtio_device_quiesce(d.dev);
	ck_assert_uint_eq(d.dev->queues[RX].ring.in_flight_count, 0);
	ck_assert_uint_eq(counters().rx_no_room, 1);
	virtio_device_resume(d.dev);
	make_frame(&(header_t){ 0 }, 2000, 7);
	peer_send(2000);
	expect_received(2000, true);
}
END_TEST

/*
 * A chain with nothing to write to, between two that are held for frames: it is given back once,
 * and a stop, which puts held chains back, neither loses one nor gives any twice.
 */
START_TEST(test_rx_quiesce_around_a_useless_chain)
{
	const struct fake_buf useless = { FAKE_DATA, 64, false };
	uint32_t ids[5], id, len;
	uint16_t heads[5];

	start(F(MRG_RXBUF));
	for (uint16_t i = 0; i < 5; i++) {
		const struct fake_buf buf = { RX_AREA + i * KIB(4), 700, true };

		heads[i] = fake_ring_add(&d.rings[RX], i == 2 ? &useless : &buf, 1);
	}
	kick_rx();
	make_frame(&(header_t){ 0 }, 100, 1);
	for (int i = 0; i < 4; i++) {
		peer_send(100);
		virtio_device_quiesce(d.dev);
		ck_assert_uint_eq(d.dev->queues[RX].ring.in_flight_count, 0);
		virtio_device_resume(d.dev);
	}
	ck_assert(fake_driver_wait_used(&d, RX, 5));
	for (int i = 0; i < 5; i++) {
		ck_assert(fake_ring_used(&d.rings[RX], &ids[i], &len));
		ck_assert_uint_eq(len, i == 2 ? 0 : HEADER + 100);
		ck_assert_uint_eq(ids[i], heads[i]);
	}
	ck_assert(!fake_ring_used(&d.rings[RX], &id, &len));
	ck_assert_uint_eq(counters().rx_frames, 4);
	ck_assert_uint_eq(counters().rx_invalid, 1);
}
END_TEST

/* A frame that would need what is behind such a chain as well has no room. */
START_TEST(test_rx_useless_chain_in_the_way)
{
	const struct fake_buf useless = { FAKE_DATA, 64, false };
	const struct fake_buf small = { RX_AREA, 700, true },
			      large = { RX_AREA + KIB(4), 2000, true };
	uint32_t id, len;

	start(F(MRG_RXBUF));
	(void)fake_ring_add(&d.rings[RX], &small, 1);
	(void)fake_ring_add(&d.rings[RX], &useless, 1);
	(void)fake_ring_add(&d.rings[RX], &large, 1);
	kick_rx();
	make_frame(&(header_t){ 0 }, 1514, 1);
	peer_send(1514);
	ck_assert_uint_eq(counters().rx_no_room, 1);
	make_frame(&(header_t){ 0 }, 100, 2);
	peer_send(100);
	make_frame(&(header_t){ 0 }, 1514, 3);
	peer_send(1514);
	ck_assert(fake_driver_wait_used(&d, RX, 3));
	ck_assert(fake_ring_used(&d.rings[RX], &id, &len));
	ck_assert_uint_eq(len, HEADER + 100);
	ck_assert(fake_ring_used(&d.rings[RX], &id, &len));
	ck_assert_uint_eq(len, 0);
	ck_assert(fake_ring_used(&d.rings[RX], &id, &len));
	ck_assert_uint_eq(len, HEADER + 1514);
	expect_idle(RX);
}
END_TEST

START_TEST(test_rx_one_interrupt_for_many)
{
	start(F(MRG_RXBUF));
	virtio_device_quiesce(d.dev);
	make_frame(&(header_t){ 0 }, 60, 1);
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(send(peer, wire, HEADER + 60, 0), HEADER + 60);
	}
	post(1536, 60);
	virtio_device_resume(d.dev);
	fake_driver_sync(&d);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[RX]), 50);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[RX]), 1);
}
END_TEST

/* What the device writes is in the dirty bitmap. */
START_TEST(test_rx_marks_dirty)
{
	static uint64_t bitmap[FAKE_LOW_PAGES / 64];
	uint64_t page = RX_AREA / 4096;

	start(F(MRG_RXBUF));
	fake_driver_unwatch(&d);
	fake_memory_track(&d.mem);
	post(4096, 3);
	make_frame(&(header_t){ 0 }, 5000, 1);
	peer_send(5000);
	(void)fake_memory_dirty(&d.mem, bitmap);
	ck_assert((bitmap[page / 64] >> page % 64 & 1) != 0);
	page++;
	ck_assert((bitmap[page / 64] >> page % 64 & 1) != 0);
	page++;
	ck_assert((bitmap[page / 64] >> page % 64 & 1) == 0);
	guest_memory_dirty_stop(&d.mem);
}
END_TEST

static bool is_dirty(const uint64_t *bitmap, uint64_t gpa)
{
	uint64_t page = gpa / 4096;

	return (bitmap[page / 64] >> page % 64 & 1) != 0;
}

/* Exactly the pages of each frame, in buffers of every shape, while the list of buffers held ready
 * is moved many times. */
START_TEST(test_rx_marks_dirty_everywhere)
{
	static uint64_t bitmap[FAKE_LOW_PAGES / 64];
	const uint64_t readable = FAKE_DATA;
	uint32_t given = 0, seen = 0;

	start(F(MRG_RXBUF) | GUEST_OFFLOAD | UINT64_C(1) << 28);
	fake_driver_unwatch(&d);
	fake_memory_track(&d.mem);
	for (uint32_t i = 0; i < 600; i++) {
		uint32_t id, len;

		/* Each buffer on a page of its own. */
		for (; given - seen < 60; given++) {
			uint64_t at = RX_AREA + given % 512 * (2 * PAGE_SIZE_4K);
			const struct fake_buf bufs[] = { { readable, 100, false },
							 { at, 100 + given % 7, true },
							 { at + PAGE_SIZE_4K, 1800, true } };

			fake_ring_add_indirect(&d.rings[RX], given % 3 == 0 ? bufs : bufs + 1,
					       given % 3 == 0 ? 3 : 2);
		}
		kick_rx();
		make_frame(&(header_t){ 0 }, 1500, (uint8_t)i);
		peer_send(1500);
		ck_assert(fake_ring_used(&d.rings[RX], &id, &len));
		ck_assert_uint_eq(len, HEADER + 1500);
		(void)fake_memory_dirty(&d.mem, bitmap);
		for (uint32_t j = 0; j < 512; j++) {
			uint64_t at = RX_AREA + j * (2 * PAGE_SIZE_4K);

			ck_assert(is_dirty(bitmap, at) == (j == seen % 512));
			ck_assert(is_dirty(bitmap, at + PAGE_SIZE_4K) == (j == seen % 512));
		}
		ck_assert(!is_dirty(bitmap, readable));
		seen++;
	}
	guest_memory_dirty_stop(&d.mem);
}
END_TEST

/* ---- limits ---- */

static const struct rate_limit_config unlimited = { .has_bandwidth = true, .has_ops = true };

static void limit_rx(uint64_t frames, uint64_t bytes, uint64_t refill_ms)
{
	const struct rate_limit_config limit = { .ops = { frames, 0, refill_ms },
						 .bandwidth = { bytes, 0, refill_ms },
						 .has_ops = true,
						 .has_bandwidth = true };

	virtio_net_init_limits(d.dev, &limit, &unlimited);
}

/* What goes beyond waits in the back end, in order; kicks and buffers change nothing. */
START_TEST(test_rx_limit)
{
	bool bytes = _i / 2 != 0;
	bool mergeable = _i % 2 != 0;

	/* Each frame is 100 bytes and its header. */
	limit_rx(bytes ? 0 : 3, bytes ? 112 * 3 : 0, 3600000);
	start(mergeable ? F(MRG_RXBUF) : 0);
	post(1536, 4);
	kick_rx();
	for (uint8_t i = 0; i < 8; i++) {
		make_frame(&(header_t){ 0 }, 100, i);
		peer_send(100);
	}
	for (uint8_t i = 0; i < 3; i++) {
		make_frame(&(header_t){ 0 }, 100, i);
		expect_received(100, mergeable);
	}
	for (int i = 0; i < 3; i++) {
		post(1536, 2);
		kick_rx();
		ck_assert_int_eq(receive(mergeable), -1);
	}
	expect_idle(RX);
	virtio_device_quiesce(d.dev);
	virtio_device_resume(d.dev);
	fake_driver_sync(&d);
	ck_assert_int_eq(receive(mergeable), -1);
	virtio_net_limit(d.dev, &unlimited, NULL);
	fake_driver_sync(&d);
	ck_assert(fake_driver_wait_used(&d, RX, 8));
	for (uint8_t i = 3; i < 8; i++) {
		make_frame(&(header_t){ 0 }, 100, i);
		expect_received(100, mergeable);
	}
	ck_assert_uint_eq(counters().rx_frames, 8);
}
END_TEST

/* A frame in several buffers waits for the driver as ever, and is counted once. */
START_TEST(test_rx_limit_and_no_buffers)
{
	limit_rx(1, 0, 3600000);
	start(F(MRG_RXBUF));
	post(700, 1);
	kick_rx();
	make_frame(&(header_t){ 0 }, 1514, 1);
	peer_send(1514);
	ck_assert_int_eq(receive(true), -1);
	post(700, 2);
	kick_rx();
	ck_assert(fake_driver_wait_used(&d, RX, 3));
	expect_received(1514, true);
	post(1536, 4);
	kick_rx();
	peer_send(1514);
	ck_assert_int_eq(receive(true), -1);
}
END_TEST

START_TEST(test_rx_limit_goes_on)
{
	limit_rx(7, 0, 5);
	start(F(MRG_RXBUF));
	post(1536, 100);
	kick_rx();
	for (uint8_t i = 0; i < 60; i++) {
		make_frame(&(header_t){ 0 }, 100, i);
		peer_send(100);
	}
	ck_assert(fake_driver_wait_used(&d, RX, 60));
	for (uint8_t i = 0; i < 60; i++) {
		make_frame(&(header_t){ 0 }, 100, i);
		expect_received(100, true);
	}
}
END_TEST

CHECK_MAIN("net_rx", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_rx_single_buffer);
	   CHECK_LOOP(test_rx_single_buffer_in_pieces, 12);
	   CHECK_TEST(test_rx_single_buffer_too_small);
	   CHECK_LOOP(test_rx_merge, 2 * ARRAY_SIZE(merges)); CHECK_TEST(test_rx_merge_mixed);
	   CHECK_TEST(test_rx_waits_for_buffers); CHECK_TEST(test_rx_long_frame_waits_for_rest);
	   CHECK_TEST(test_rx_ring_too_small_for_frame); CHECK_TEST(test_rx_buffers_of_crumbs);
	   CHECK_TEST(test_rx_kicks); CHECK_TEST(test_rx_kicks_with_event_idx);
	   CHECK_TEST(test_t_n4_rx_readable); CHECK_TEST(test_rx_marks_dirty_everywhere);
	   CHECK_TABLE(test_m_5_1_6_4_1_rx_headers, rx_headers);
	   CHECK_TABLE(test_rx_lengths, rx_lengths); CHECK_TEST(test_rx_shorter_than_header);
	   CHECK_TEST(test_m_5_1_4_1_mtu); CHECK_TEST(test_rx_quiesce);
	   CHECK_TEST(test_rx_quiesce_with_pending_frame);
	   CHECK_TEST(test_rx_quiesce_around_a_useless_chain);
	   CHECK_TEST(test_rx_useless_chain_in_the_way); CHECK_TEST(test_rx_one_interrupt_for_many);
	   CHECK_TEST(test_rx_marks_dirty); CHECK_LOOP(test_rx_limit, 4);
	   CHECK_TEST(test_rx_limit_and_no_buffers); CHECK_TEST(test_rx_limit_goes_on))
