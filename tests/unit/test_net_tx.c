/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net, sending: see test_net.c. */
#include "harness/net_fixture.h"

/* ---- transmit ---- */

START_TEST(test_tx_plain)
{
	make_frame(&(header_t){ 0 }, 60, 1);
	start(0);
	transmit(HEADER + 60);
	ck_assert_int_eq(peer_read(), HEADER + 60);
	ck_assert_mem_eq(got, wire, HEADER + 60);
	ck_assert_uint_eq(counters().tx_frames, 1);
	ck_assert_uint_eq(counters().tx_bytes, 60);
	ck_assert_uint_ge(atomic_load(&d.queue_interrupts[TX]), 1);
}
END_TEST

/* T-N1: first split at byte _i, then each byte of the header in a buffer of its own. */
START_TEST(test_t_n1_header_split_anywhere)
{
	struct fake_buf bufs[HEADER + 1];

	make_frame(&(header_t){ 0 }, 100, (uint8_t)_i);
	start(0);
	fake_driver_write(&d, FAKE_DATA, wire, HEADER + 100);
	if (_i == 0) {
		for (uint32_t i = 0; i < HEADER; i++) {
			bufs[i] = (struct fake_buf){ FAKE_DATA + i, 1, false };
		}
		bufs[HEADER] = (struct fake_buf){ FAKE_DATA + HEADER, 100, false };
		transmit_bufs(bufs, HEADER + 1);
	} else {
		bufs[0] = (struct fake_buf){ FAKE_DATA, (uint32_t)_i, false };
		bufs[1] = (struct fake_buf){ FAKE_DATA + (uint32_t)_i, HEADER + 100 - (uint32_t)_i,
					     false };
		transmit_bufs(bufs, 2);
	}
	ck_assert_int_eq(peer_read(), HEADER + 100);
	ck_assert_mem_eq(got, wire, HEADER + 100);
}
END_TEST

static const struct {
	uint32_t len;
	bool sent;
} tx_lengths[] = {
	{ 1, false },
	{ 11, false },
	{ 12, false }, /* header only */
	{ 12 + 13, false },
	{ 12 + 14, true },
	{ 12 + 1514, true },
	{ 12 + NETDEV_FRAME_MAX, true },
	{ 12 + NETDEV_FRAME_MAX + 1, false },
	{ MIB(4), false },
};

START_TEST(test_t_n3_tx_lengths)
{
	uint32_t len = tx_lengths[_i].len;
	const struct fake_buf buf = { FAKE_DATA, len, false };

	start(0);
	fake_driver_fill(&d, FAKE_DATA, 0, HEADER);
	transmit_bufs(&buf, 1);
	ck_assert_int_eq(peer_read(), tx_lengths[_i].sent ? (ssize_t)len : -1);
	ck_assert_uint_eq(counters().tx_frames, tx_lengths[_i].sent);
	ck_assert_uint_eq(counters().tx_invalid, !tx_lengths[_i].sent);
}
END_TEST

START_TEST(test_t_n3_tx_gigabytes_of_one_page)
{
	struct fake_buf bufs[255];
	struct rusage before, after;

	start(0);
	for (size_t i = 0; i < ARRAY_SIZE(bufs); i++) {
		bufs[i] = (struct fake_buf){ FAKE_DATA, MIB(14), false };
	}
	(void)getrusage(RUSAGE_SELF, &before);
	transmit_bufs(bufs, ARRAY_SIZE(bufs));
	(void)getrusage(RUSAGE_SELF, &after);
	ck_assert_uint_eq(counters().tx_invalid, 1);
	ck_assert_int_lt(after.ru_maxrss - before.ru_maxrss, 1024);
}
END_TEST

/* A transmitted header, the features of the driver, and whether (and how) it may go out. */
static const struct {
	const char *what;
	uint64_t features;
	header_t in;
	bool sent;
	header_t out;
} tx_headers[] = {
	/* M5.1.6.2.2-1 */
	{ "unknown flags", HOST_OFFLOAD, { .flags = 0xfe }, true, { 0 } },
	/* M5.1.6.2.2-2 */
	{ "csum fields without flag",
	  HOST_OFFLOAD,
	  { .csum_start = 0xffff, .csum_offset = 0xffff },
	  true,
	  { 0 } },
	/* M5.1.6.2.2-3 */
	{ "hdr_len without gso", HOST_OFFLOAD, { .hdr_len = 0xffff }, true, { 0 } },
	{ "hdr_len too long",
	  HOST_OFFLOAD,
	  { .flags = 1,
	    .gso_type = 1,
	    .hdr_len = 0xffff,
	    .gso_size = 100,
	    .csum_start = 34,
	    .csum_offset = 16 },
	  true,
	  { .flags = 1,
	    .gso_type = 1,
	    .hdr_len = 200,
	    .gso_size = 100,
	    .csum_start = 34,
	    .csum_offset = 16 } },
	{ "hdr_len zero",
	  HOST_OFFLOAD,
	  { .flags = 1, .gso_type = 1, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
	  true,
	  { .flags = 1, .gso_type = 1, .gso_size = 100, .csum_start = 34, .csum_offset = 16 } },
	{ "gso_size without gso", 0, { .gso_size = 1448, .num_buffers = 7 }, true, { 0 } },
	/* T-N4 */
	{ "csum not negotiated",
	  0,
	  { .flags = 1, .csum_start = 34, .csum_offset = 16 },
	  false,
	  { 0 } },
	{ "csum in the last two bytes",
	  HOST_OFFLOAD,
	  { .flags = 1, .csum_start = 182, .csum_offset = 16 },
	  true,
	  { .flags = 1, .csum_start = 182, .csum_offset = 16 } },
	{ "csum one beyond",
	  HOST_OFFLOAD,
	  { .flags = 1, .csum_start = 183, .csum_offset = 16 },
	  false,
	  { 0 } },
	{ "csum far beyond",
	  HOST_OFFLOAD,
	  { .flags = 1, .csum_start = 0xffff, .csum_offset = 0xffff },
	  false,
	  { 0 } },
	{ "csum sum wraps 16 bits",
	  HOST_OFFLOAD,
	  { .flags = 1, .csum_start = 34, .csum_offset = 0xffde + 16 },
	  false,
	  { 0 } },
	{ "csum in the ethernet header",
	  HOST_OFFLOAD,
	  { .flags = 1, .csum_start = 13 },
	  false,
	  { 0 } },
	{ "gso without csum", HOST_OFFLOAD, { .gso_type = 1, .gso_size = 100 }, false, { 0 } },
	{ "gso size 0",
	  HOST_OFFLOAD,
	  { .flags = 1, .gso_type = 1, .csum_start = 34, .csum_offset = 16 },
	  false,
	  { 0 } },
	{ "tso4 not negotiated",
	  F(CSUM) | F(HOST_TSO6),
	  { .flags = 1, .gso_type = 1, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
	  false,
	  { 0 } },
	{ "tso6 not negotiated",
	  F(CSUM) | F(HOST_TSO4),
	  { .flags = 1, .gso_type = 4, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
	  false,
	  { 0 } },
	{ "tso6",
	  HOST_OFFLOAD,
	  { .flags = 1, .gso_type = 4, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
	  true,
	  { .flags = 1, .gso_type = 4, .gso_size = 100, .csum_start = 34, .csum_offset = 16 } },
	{ "ecn",
	  HOST_OFFLOAD,
	  { .flags = 1, .gso_type = 0x81, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
	  true,
	  { .flags = 1, .gso_type = 0x81, .gso_size = 100, .csum_start = 34, .csum_offset = 16 } },
	{ "ecn not negotiated",
	  F(CSUM) | F(HOST_TSO4),
	  { .flags = 1, .gso_type = 0x81, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
	  false,
	  { 0 } },
	{ "ufo",
	  HOST_OFFLOAD,
	  { .flags = 1, .gso_type = 3, .gso_size = 100, .csum_start = 34, .csum_offset = 6 },
	  false,
	  { 0 } },
	{ "uso",
	  HOST_OFFLOAD,
	  { .flags = 1, .gso_type = 5, .gso_size = 100, .csum_start = 34, .csum_offset = 6 },
	  false,
	  { 0 } },
	{ "unknown gso",
	  HOST_OFFLOAD,
	  { .flags = 1, .gso_type = 0x7f, .gso_size = 100, .csum_start = 34, .csum_offset = 6 },
	  false,
	  { 0 } },
};

START_TEST(test_t_n4_tx_headers)
{
	make_frame(&tx_headers[_i].in, 200, 3);
	start(tx_headers[_i].features);
	transmit(HEADER + 200);
	if (tx_headers[_i].sent) {
		ck_assert_msg(peer_read() == HEADER + 200, "%s: not sent", tx_headers[_i].what);
		ck_assert_mem_eq(got, &tx_headers[_i].out, HEADER);
		ck_assert_mem_eq(got + HEADER, wire + HEADER, 200);
	} else {
		ck_assert_msg(peer_read() == -1, "%s: sent", tx_headers[_i].what);
		ck_assert_uint_eq(counters().tx_invalid, 1);
	}
	/* and the queue lives */
	make_frame(&(header_t){ 0 }, 200, 4);
	transmit(HEADER + 200);
	ck_assert_int_eq(peer_read(), HEADER + 200);
}
END_TEST

/* T-N7, M5.1.6.2.2-4: the device does not look into frames, whatever the flags say about them. */
START_TEST(test_t_n7_any_protocol_with_csum)
{
	start(HOST_OFFLOAD);
	for (unsigned int protocol = 0; protocol < 256; protocol++) {
		const header_t header = { .flags = 1,
					  .csum_start = 34,
					  .csum_offset = (uint16_t)(protocol % 64) };

		make_frame(&header, 100, (uint8_t)protocol);
		wire[HEADER + 23] = (uint8_t)protocol;
		transmit(HEADER + 100);
		ck_assert_int_eq(peer_read(), HEADER + 100);
		ck_assert_mem_eq(got, wire, HEADER + 100);
	}
}
END_TEST

START_TEST(test_t_n4_tx_writable)
{
	const struct fake_buf mixed[] = { { FAKE_DATA, HEADER + 60, false },
					  { FAKE_DATA + 4096, 64, true } };
	const struct fake_buf only = { FAKE_DATA + 4096, 64, true };
	uint8_t untouched[64];

	make_frame(&(header_t){ 0 }, 60, 9);
	start(0);
	fake_driver_write(&d, FAKE_DATA, wire, HEADER + 60);
	fake_driver_fill(&d, FAKE_DATA + 4096, 0x55, 64);
	transmit_bufs(&only, 1);
	ck_assert_int_eq(peer_read(), -1);
	transmit_bufs(mixed, 2);
	ck_assert_int_eq(peer_read(), HEADER + 60);
	ck_assert_mem_eq(got, wire, HEADER + 60);
	fake_driver_read(&d, FAKE_DATA + 4096, untouched, 64);
	ck_assert_uint_eq(untouched[0], 0x55);
	ck_assert_uint_eq(untouched[63], 0x55);
}
END_TEST

/* A peer that does not read: nothing is lost, nothing spins, and all goes out in order once it
 * reads. */
START_TEST(test_tx_waits_for_backend)
{
	const uint32_t frames = 2000;
	uint32_t sent = 0, seen = 0, id, len;
	struct fake_buf buf = { .len = HEADER + 1000 };

	start(0);
	make_frame(&(header_t){ 0 }, 1000, 0);
	for (uint32_t i = 0; i < QUEUE_SIZE; i++) {
		fake_driver_write(&d, FAKE_DATA + i * KIB(2), wire, HEADER + 1000);
	}
	while (seen < frames) {
		while (sent < frames &&
		       (uint16_t)(d.rings[TX].avail_idx - d.rings[TX].used_seen) < QUEUE_SIZE) {
			buf.addr = FAKE_DATA + sent % QUEUE_SIZE * KIB(2);
			fake_driver_write(&d, buf.addr + HEADER + 14, &sent, sizeof(sent));
			fake_ring_add(&d.rings[TX], &buf, 1);
			sent++;
		}
		fake_driver_kick(&d, TX);
		while (fake_ring_used(&d.rings[TX], &id, &len)) {
		}
		if (sent == frames ||
		    (uint16_t)(d.rings[TX].avail_idx - d.rings[TX].used_seen) == QUEUE_SIZE) {
			uint32_t number;

			if (seen == 0) {
				uint64_t waits = counters().tx_waits;

				ck_assert_uint_ge(waits, 1);
				expect_idle(TX);
				fake_driver_kick(&d, TX);
				ck_assert_uint_eq(counters().tx_waits, waits);
			}
			while (peer_read() > 0) {
				memcpy(&number, got + HEADER + 14, sizeof(number));
				ck_assert_uint_eq(number, seen);
				seen++;
			}
		}
	}
	ck_assert_uint_eq(counters().tx_frames, frames);
	ck_assert_uint_eq(counters().tx_errors + counters().tx_invalid, 0);
}
END_TEST

/* Quiesced while it waits: the frame stays the driver's and goes out after the resume. */
START_TEST(test_tx_quiesce_while_waiting)
{
	struct fake_buf buf = { .addr = FAKE_DATA, .len = HEADER + 60000 };
	uint32_t frames = 0, received = 0;

	start(0);
	while (counters().tx_waits == 0) {
		ck_assert_uint_lt(frames, 200);
		fake_ring_add(&d.rings[TX], &buf, 1);
		frames++;
		fake_driver_kick(&d, TX);
	}
	virtio_device_quiesce(d.dev);
	ck_assert_uint_eq(d.dev->queues[TX].ring.in_flight_count, 0);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[TX]), frames - 1);
	while (peer_read() > 0) {
		received++;
	}
	virtio_device_resume(d.dev);
	fake_driver_sync(&d);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[TX]), frames);
	while (peer_read() > 0) {
		received++;
	}
	ck_assert_uint_eq(received, frames);
}
END_TEST

CHECK_MAIN("net_tx", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_tx_plain);
	   CHECK_LOOP(test_t_n1_header_split_anywhere, HEADER + 1);
	   CHECK_TABLE(test_t_n3_tx_lengths, tx_lengths);
	   CHECK_TEST(test_t_n3_tx_gigabytes_of_one_page);
	   CHECK_TABLE(test_t_n4_tx_headers, tx_headers);
	   CHECK_TEST(test_t_n7_any_protocol_with_csum); CHECK_TEST(test_t_n4_tx_writable);
	   CHECK_TEST(test_tx_waits_for_backend); CHECK_TEST(test_tx_quiesce_while_waiting))
