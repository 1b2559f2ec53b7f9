/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net's transmit queue: chains of any shape with any header, rings that are spoilt, a peer
 * that sometimes does not read.
 *
 * Checked besides crashes: what goes out has a header that the specification allows with the
 * features negotiated, every chain comes back with nothing written, data that the driver gave is
 * not changed.
 */
#include "fuzz_net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TX	VIRTIO_NET_QUEUE_TX
#define PATTERN 0x5a
#define AREA	KIB(256)

static void drain_peer(struct rig *rig)
{
	static uint8_t frame[HEADER + NETDEV_FRAME_MAX + 1];
	ssize_t n;

	while ((n = recv(rig->peer, frame, sizeof(frame), MSG_DONTWAIT)) > 0) {
		fuzz_check_header(frame, (size_t)n, (rig->features & F(CSUM)) != 0,
				  (rig->features & F(HOST_TSO4)) != 0,
				  (rig->features & F(HOST_TSO6)) != 0,
				  (rig->features & F(HOST_ECN)) != 0);
		REQUIRE((frame[0] & 2) == 0); /* DATA_VALID is not for this direction */
	}
}

static void offer(struct rig *rig)
{
	static const uint32_t lens[16] = { 0,  1,  2,	 5,    10,    11,    12,    13,
					   26, 60, 1514, 4096, 65535, 65558, 65571, 200000 };
	struct fake_ring *ring = &rig->d->rings[TX];
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);
	uint16_t count = (uint16_t)(1 + (how & 7));
	uint64_t header = fuzz_take(&rig->in, 8);
	struct fake_buf bufs[8];
	uint64_t at = FAKE_DATA;

	if (ring->size == 0 || (uint16_t)(ring->avail_idx - ring->used_seen) * 8 + 8 > RING_SIZE) {
		return;
	}
	fake_driver_write(rig->d, FAKE_DATA, &header, 8);
	for (uint16_t i = 0; i < count; i++) {
		uint8_t what = (uint8_t)fuzz_take(&rig->in, 1);

		bufs[i] = (struct fake_buf){ at, lens[what & 15], what >> 4 == 15 };
		at += bufs[i].len;
	}
	if ((how & 8) != 0) {
		fake_ring_add_indirect(ring, bufs, count);
	} else {
		fake_ring_add(ring, bufs, count);
	}
	fuzz_kick(rig, TX);
	/* The header's place may have been on its way until here: only a kick later it is free
	 * again. */
}

static void check(struct rig *rig)
{
	struct fake_ring *ring = &rig->d->rings[TX];
	uint32_t id, len;

	drain_peer(rig);
	fuzz_sync(rig);
	if (!rig->honest || ring->size == 0 || fake_driver_status(rig->d) != 0xf) {
		return;
	}
	while (fake_ring_used(ring, &id, &len)) {
		REQUIRE(len == 0);
	}
}

static void step(struct rig *rig)
{
	switch (fuzz_take(&rig->in, 1) % 8) {
	case 0:
		/* What is on its way was made with the features of before. */
		virtio_device_reset(rig->d->dev);
		drain_peer(rig);
		fuzz_start(rig);
		break;
	case 1:
		fuzz_mutate(rig, TX);
		break;
	case 2:
		fuzz_kick(rig, (uint32_t)fuzz_take(&rig->in, 1));
		break;
	case 3:
		check(rig);
		break;
	case 4:
		fuzz_check_quiet(rig);
		break;
	default:
		offer(rig);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_driver d;
	struct rig rig;

	fuzz_open(&rig, &d, data, size);
	fake_driver_fill(&d, FAKE_DATA + 8, PATTERN, AREA);
	while (rig.in.len != 0) {
		step(&rig);
	}
	drain_peer(&rig);
	fuzz_check_quiet(&rig);
	check(&rig);
	if (rig.honest) {
		const uint8_t *area = guest_memory_read_pointer(&d.mem, FAKE_DATA + 8, AREA);

		REQUIRE(area[0] == PATTERN && memcmp(area, area + 1, AREA - 1) == 0);
	}
	fuzz_close(&rig);
	return 0;
}
