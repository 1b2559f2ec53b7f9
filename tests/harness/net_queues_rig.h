/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-net device with several pairs of queues, each with a socket pair as its back end, and its
 * control queue; test_net_queues.c, test_net_announce.c. */
#ifndef TESTS_NET_QUEUES_RIG_H
#define TESTS_NET_QUEUES_RIG_H

#include "harness/check_main.h"

#include <linux/virtio_net.h>
#include <signal.h>

#include "fake_driver.h"
#include "harness/virtio_state.h"
#include "vmm/cleanup.h"
#include "vmm/virtio_net.h"

#define FIXTURE static __attribute__((unused))

#define F(bit)	  (UINT64_C(1) << (VIRTIO_NET_F_##bit))
#define PAIRS	  4
#define QUEUES	  (2 * PAIRS + 1)
#define CONTROL	  (2 * PAIRS)
#define RING_SIZE 64
#define HEADER	  NETDEV_HEADER_SIZE
#define RX(pair)  (2 * (pair))
#define TX_AREA	  (FAKE_DATA + KIB(64))

FIXTURE const uint8_t mac[6] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };

FIXTURE struct fake_driver d;
FIXTURE struct error e;
FIXTURE int peers[PAIRS];

FIXTURE struct netdev *make_chain(uint32_t count)
{
	struct netdev *first = NULL;
	struct netdev **end = &first;

	for (uint32_t i = 0; i < count; i++, end = &(*end)->more) {
		check_ok(netdev_open_pair(end, &peers[i], &e), &e);
	}
	return first;
}

FIXTURE void open_device(struct netdev *netdev)
{
	struct virtio_device *dev;

	check_ok(virtio_net_create(&dev, "net0", netdev, mac, &d.mem, d.workers, &e), &e);
	fake_driver_attach(&d, dev);
}

FIXTURE void setup(void)
{
	(void)signal(SIGPIPE, SIG_IGN);
	e = (struct error){ 0 };
	for (int i = 0; i < PAIRS; i++) {
		peers[i] = -1;
	}
	fake_driver_init_queues(&d, QUEUES);
}

FIXTURE void open_pairs(void)
{
	open_device(make_chain(PAIRS));
}

FIXTURE void teardown(void)
{
	fake_driver_finish(&d);
	for (int i = 0; i < PAIRS; i++) {
		close_fd(&peers[i]);
	}
}

FIXTURE uint16_t used(uint32_t queue)
{
	return fake_ring_used_idx(&d.rings[queue]);
}

/* A command with its data; the answer, or -1 without one. On the queue `queue`. */
FIXTURE int command_on(uint32_t queue, const uint8_t *bytes, uint32_t len, uint32_t room)
{
	const struct fake_buf bufs[] = { { TX_AREA, len, false },
					 { TX_AREA + 0x1000, room, true } };
	uint16_t before = used(queue);
	uint8_t ack = 0xee;
	uint32_t id, written;

	fake_driver_write(&d, TX_AREA, bytes, len);
	fake_driver_write(&d, TX_AREA + 0x1000, &ack, 1);
	(void)fake_ring_add(&d.rings[queue], len != 0 ? bufs : bufs + 1,
			    (uint16_t)((len != 0) + (room != 0)));
	fake_driver_kick(&d, queue);
	if (!fake_driver_wait_used(&d, queue, (uint16_t)(before + 1))) {
		ck_abort_msg("no answer");
	}
	ck_assert(fake_ring_used(&d.rings[queue], &id, &written));
	ck_assert_uint_eq(written, room != 0 ? 1 : 0);
	fake_driver_read(&d, TX_AREA + 0x1000, &ack, 1);
	return room != 0 ? ack : -1;
}

#endif
