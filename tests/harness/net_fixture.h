/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-net device with a driver of our own on one side and a socket pair on the other;
 * test_net.c and test_net_rx.c. */
#ifndef TESTS_NET_FIXTURE_H
#define TESTS_NET_FIXTURE_H

#include "harness/check_main.h"

#define FIXTURE static __attribute__((unused))

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_driver.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/virtio_net.h"

#define HEADER	      NETDEV_HEADER_SIZE
#define F(bit)	      (UINT64_C(1) << (VIRTIO_NET_F_##bit))
#define GUEST_OFFLOAD (F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6) | F(GUEST_ECN))
#define HOST_OFFLOAD  (F(CSUM) | F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_ECN))
#define RX	      VIRTIO_NET_QUEUE_RX
#define TX	      VIRTIO_NET_QUEUE_TX
#define QUEUE_SIZE    256
#define RX_AREA	      (FAKE_DATA + MIB(8))
#define RX_FILL	      0xaa

#define CSUM4 .csum_start = 34, .csum_offset = 16

typedef struct virtio_net_hdr_v1 header_t;

FIXTURE const uint8_t mac[6] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };

FIXTURE struct fake_driver d;
FIXTURE int peer;
FIXTURE struct netdev *backend;
FIXTURE uint8_t wire[HEADER + NETDEV_FRAME_MAX + 64]; /* as the peer sends or receives it */
FIXTURE uint8_t got[HEADER + NETDEV_FRAME_MAX + 64];

/* Receive buffers, in the order they were given. */
FIXTURE struct {
	uint64_t addr;
	uint32_t len;
} posted[65536];
FIXTURE uint32_t posts, taken;
FIXTURE uint64_t rx_next;

FIXTURE void setup_with(uint16_t mtu)
{
	struct virtio_device *dev;
	struct error e = { 0 };

	(void)signal(SIGPIPE, SIG_IGN);
	fake_driver_init(&d);
	check_ok(netdev_open_pair(&backend, &peer, &e), &e);
	backend->mtu = mtu;
	check_ok(virtio_net_create(&dev, "net0", backend, mac, &d.mem, d.workers, &e), &e);
	fake_driver_attach(&d, dev);
	posts = taken = 0;
	rx_next = RX_AREA;
}

FIXTURE void setup(void)
{
	setup_with(0);
}

FIXTURE void teardown(void)
{
	fake_driver_finish(&d);
	close_fd(&peer);
}

FIXTURE void start(uint64_t features)
{
	ck_assert(fake_driver_start(&d, features, QUEUE_SIZE));
	posts = taken = 0;
	rx_next = RX_AREA;
}

FIXTURE struct virtio_net_counters counters(void)
{
	struct virtio_net_counters c;

	virtio_net_read_counters(d.dev, &c);
	return c;
}

FIXTURE uint16_t link_status(void)
{
	struct virtio_net_config config;

	(void)pthread_mutex_lock(&d.dev->lock);
	virtio_config_read(d.dev, 0, &config, sizeof(config));
	(void)pthread_mutex_unlock(&d.dev->lock);
	return config.status;
}

/* A frame whose bytes tell where they belong. */
FIXTURE void make_frame(const header_t *header, size_t len, uint8_t seed)
{
	memcpy(wire, header, HEADER);
	for (size_t i = 0; i < len; i++) {
		wire[HEADER + i] = (uint8_t)(seed + i * 7 + (i >> 8) * 13);
	}
}

FIXTURE ssize_t peer_read(void)
{
	memset(got, 0xee, sizeof(got));
	return recv(peer, got, sizeof(got), MSG_DONTWAIT);
}

FIXTURE void peer_send(size_t len)
{
	ck_assert_int_eq(send(peer, wire, HEADER + len, 0), (ssize_t)(HEADER + len));
	fake_driver_sync(&d);
}

FIXTURE void transmit_bufs(const struct fake_buf *bufs, uint16_t count)
{
	uint16_t before = fake_ring_used_idx(&d.rings[TX]);
	uint32_t id, len;
	uint16_t head = fake_ring_add(&d.rings[TX], bufs, count);

	fake_driver_kick(&d, TX);
	/* Whatever it was: completed, nothing written. */
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[TX]), (uint16_t)(before + 1));
	ck_assert(fake_ring_used(&d.rings[TX], &id, &len));
	ck_assert_uint_eq(id, head);
	ck_assert_uint_eq(len, 0);
}

/* wire[0, len) in one buffer. */
FIXTURE void transmit(size_t len)
{
	const struct fake_buf buf = { FAKE_DATA, (uint32_t)len, false };

	fake_driver_write(&d, FAKE_DATA, wire, len);
	transmit_bufs(&buf, 1);
}

FIXTURE void post_bufs(const uint32_t *lens, uint16_t count)
{
	struct fake_buf bufs[8];
	uint32_t total = 0;

	ck_assert_uint_le(count, ARRAY_SIZE(bufs));
	for (uint16_t i = 0; i < count; i++) {
		bufs[i] = (struct fake_buf){ rx_next + total, lens[i], true };
		total += lens[i];
	}
	if (rx_next + total > FAKE_LOW_SIZE - MIB(1)) {
		ck_abort_msg("receive area is full");
	}
	fake_driver_fill(&d, rx_next, RX_FILL, total);
	fake_ring_add(&d.rings[RX], bufs, count);
	posted[posts].addr = rx_next;
	posted[posts++].len = total;
	rx_next += ALIGN_UP(total, 64);
}

FIXTURE void post(uint32_t len, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		post_bufs(&len, 1);
	}
}

FIXTURE void kick_rx(void)
{
	fake_driver_kick(&d, RX);
}

FIXTURE void expect_untouched(uint64_t gpa, size_t len)
{
	static uint8_t bytes[65536 + 64];

	ck_assert_uint_le(len, sizeof(bytes));
	fake_driver_read(&d, gpa, bytes, len);
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != RX_FILL) {
			ck_abort_msg("byte %zu after those used was written", i);
		}
	}
}

/* The next received frame, put together from its buffers, into got[]. Returns its bytes with
 * header; -1: none. */
FIXTURE ssize_t receive(bool mergeable)
{
	struct virtio_net_counters c = counters();
	bool dropped = c.rx_invalid + c.rx_no_room != 0;
	uint32_t id, len, buffers = 1;
	size_t total = 0;

	for (uint32_t i = 0; i < buffers; i++) {
		uint32_t at = taken;

		if (!fake_ring_used(&d.rings[RX], &id, &len)) {
			ck_assert_msg(i == 0, "frame in %u buffers, only %u are used", buffers, i);
			return -1;
		}
		taken++;
		ck_assert_uint_le(len, posted[at].len);
		fake_driver_read(&d, posted[at].addr, got + total, len);
		if (i == 0) {
			header_t header;

			ck_assert_uint_ge(len, mergeable ? 1 : HEADER);
			memcpy(&header, got, HEADER);
			ck_assert_uint_ge(header.num_buffers, 1);
			buffers = mergeable ? header.num_buffers : 1;
		}
		if (i + 1 < buffers) {
			/* m_5_1_6_4_1_3 */
			ck_assert_uint_eq(len, posted[at].len);
		}
		/* Nothing beyond what used says (T-D14), unless a frame was dropped after it had
		 * been read. */
		if (!dropped) {
			expect_untouched(posted[at].addr + len, posted[at].len - len);
		}
		total += len;
	}
	return (ssize_t)total;
}

FIXTURE void expect_received(size_t len, bool mergeable)
{
	ck_assert_int_eq(receive(mergeable), (ssize_t)(HEADER + len));
	ck_assert_mem_eq(got + HEADER, wire + HEADER, len);
}

FIXTURE header_t got_header(void)
{
	header_t header;

	memcpy(&header, got, HEADER);
	return header;
}

FIXTURE uint64_t worker_cpu_ns(uint32_t queue)
{
	clockid_t clock;
	struct timespec t;

	ck_assert_int_eq(pthread_getcpuclockid(d.workers[queue].thread, &clock), 0);
	ck_assert_int_eq(clock_gettime(clock, &t), 0);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The worker sleeps: however long the pause, next to no time goes by on it. */
FIXTURE void expect_idle(uint32_t queue)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	uint64_t before = worker_cpu_ns(queue);

	(void)nanosleep(&pause, NULL);
	ck_assert_uint_lt(worker_cpu_ns(queue) - before, 20000000);
}

#endif
