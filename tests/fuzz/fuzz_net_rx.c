/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net's receive queue: buffers of any shape, frames of any length with any header, rings
 * that are spoilt.
 *
 * Checked besides crashes, while the rings are honest: frames arrive whole and in order, in buffers
 * of which all but the last are full, with a header that the specification allows with the features
 * negotiated.
 */
#include "fuzz_net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RX	   VIRTIO_NET_QUEUE_RX
#define AREA_SLOTS 128
#define SLOT	   KIB(80)

/* Chains by head: where they lie, one after the other in a slot, and their writable bytes. */
static struct {
	uint64_t addr;
	uint32_t len;
} chains[RING_SIZE];
static uint32_t descriptors; /* in flight */
static uint16_t counts[RING_SIZE];
static uint32_t next_slot;

static void restart(struct rig *rig)
{
	fuzz_start(rig);
	descriptors = 0;
}

static void offer(struct rig *rig)
{
	static const uint32_t lens[16] = { 0,	1,    2,    11,	  12,	13,   64,   100,
					   700, 1514, 1526, 1536, 2048, 4096, 9000, 70000 };
	struct fake_ring *ring = &rig->d->rings[RX];
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);
	uint16_t count = (uint16_t)(1 + (how & 3)), head;
	uint64_t at = FAKE_DATA + next_slot % AREA_SLOTS * SLOT;
	struct fake_buf bufs[5];
	uint32_t total = 0;
	bool readable = (how >> 4) == 15;

	if (ring->size == 0 || descriptors + count + 1 > RING_SIZE) {
		return;
	}
	next_slot++;
	bufs[0] = (struct fake_buf){ FAKE_HIGH_START, 100, false };
	for (uint16_t i = 0; i < count; i++) {
		uint32_t len = MIN(lens[fuzz_take(&rig->in, 1) & 15], (uint32_t)SLOT - total);

		bufs[i + 1] = (struct fake_buf){ at + total, len, true };
		total += len;
	}
	if (readable) {
		count++;
	}
	head = (how & 4) != 0 ? fake_ring_add_indirect(ring, readable ? bufs : bufs + 1, count)
			      : fake_ring_add(ring, readable ? bufs : bufs + 1, count);
	counts[head] = (how & 4) != 0 ? 1 : count;
	descriptors += counts[head];
	chains[head].addr = at;
	chains[head].len = total;
}

/* Byte i of frame n; n is also in the frame, after the Ethernet header. */
static uint8_t pattern(uint32_t n, size_t i)
{
	return (uint8_t)(n * 31UL + i * 7 + (i >> 8));
}

static void peer_send(struct rig *rig)
{
	static uint8_t frame[HEADER + NETDEV_FRAME_MAX + 64];
	uint32_t number = (uint32_t)fuzz_take(&rig->in, 1);
	uint64_t header = fuzz_take(&rig->in, 8);
	size_t len = fuzz_take(&rig->in, 2);

	if ((number & 1) != 0) {
		len = len % 2000;
	} else if (len > NETDEV_FRAME_MAX - 100) {
		len += 80; /* a little too long, too */
	}
	memset(frame, 0, HEADER);
	if ((number & 2) != 0) {
		memcpy(frame, &header, 8);
	}
	for (size_t i = 0; i < len; i++) {
		frame[HEADER + i] = i == 0 ? (uint8_t)number : pattern(number, i);
	}
	(void)send(rig->peer, frame, HEADER + len, MSG_DONTWAIT);
	fuzz_sync(rig);
}

/* Puts one frame together; false: none. */
static bool take_frame(struct rig *rig, uint8_t *frame, size_t *ret)
{
	struct fake_ring *ring = &rig->d->rings[RX];
	bool mergeable = (rig->features & F(MRG_RXBUF)) != 0;
	uint32_t buffers = 1, id, len;
	size_t total = 0;

	for (uint32_t i = 0; i < buffers; i++) {
		if (!fake_ring_used(ring, &id, &len)) {
			REQUIRE(i == 0);
			return false;
		}
		REQUIRE(id < RING_SIZE);
		descriptors -= counts[id];
		REQUIRE(len <= chains[id].len);
		if (chains[id].len == 0) {
			REQUIRE(i == 0); /* given back at once, not part of a frame */
			i--;
			continue;
		}
		REQUIRE(total + len <= HEADER + NETDEV_FRAME_MAX);
		fake_driver_read(rig->d, chains[id].addr, frame + total, len);
		total += len;
		if (mergeable && total < HEADER) {
			REQUIRE(len == chains[id].len);
			buffers++;
			continue;
		}
		if (mergeable && total - len < HEADER) {
			REQUIRE(load_le16(frame + 10) > i);
			buffers = load_le16(frame + 10);
		}
		REQUIRE(i + 1 == buffers || len == chains[id].len);
	}
	REQUIRE(load_le16(frame + 10) == buffers);
	*ret = total;
	return true;
}

static void check(struct rig *rig)
{
	static uint8_t frame[HEADER + NETDEV_FRAME_MAX];
	size_t len;

	fuzz_sync(rig);
	if (!rig->honest || rig->d->rings[RX].size == 0 || fake_driver_status(rig->d) != 0xf) {
		return;
	}
	while (take_frame(rig, frame, &len)) {
		uint64_t f = rig->features;

		fuzz_check_header(frame, len, (f & F(GUEST_CSUM)) != 0, (f & F(GUEST_TSO4)) != 0,
				  (f & F(GUEST_TSO6)) != 0, (f & F(GUEST_ECN)) != 0);
		REQUIRE((f & F(MTU)) == 0 || frame[1] != 0 || len - HEADER <= 1514);
		for (size_t i = 1; i < len - HEADER; i++) {
			REQUIRE(frame[HEADER + i] == pattern(frame[HEADER], i));
		}
	}
}

static void step(struct rig *rig)
{
	switch (fuzz_take(&rig->in, 1) % 12) {
	case 0:
		restart(rig);
		break;
	case 1:
		fuzz_mutate(rig, RX);
		break;
	case 2:
		fuzz_kick(rig, RX);
		break;
	case 3:
		check(rig);
		break;
	case 4:
		fuzz_check_quiet(rig);
		break;
	case 5:
	case 6:
	case 7:
		peer_send(rig);
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

	descriptors = 0;
	next_slot = 0;
	fuzz_open(&rig, &d, data, size);
	while (rig.in.len != 0) {
		step(&rig);
	}
	fuzz_kick(&rig, RX);
	check(&rig);
	fuzz_check_quiet(&rig);
	fuzz_close(&rig);
	return 0;
}
