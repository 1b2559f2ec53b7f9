/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtqueue between a hostile driver and a device that takes, completes and gives back in any
 * order, both driven by one string of bytes: descriptors, tables, heads, indexes and plain bytes
 * are written while the device works.
 *
 * Checked besides crashes (guest memory has guard pages): buffers lie in one region, chains are as
 * long as the queue at most, no head is out twice, everything popped is accounted for, what is
 * published is what was pushed, the descriptor table is never written.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>

#include "fuzz_input.h"
#include "harness/fake_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE_MAX_LOG 5
#define HOLD_MAX     (1U << SIZE_MAX_LOG)

#define REQUIRE(condition)          \
	do {                        \
		if (!(condition)) { \
			abort();    \
		}                   \
	} while (0)

struct held {
	struct virtqueue_chain chain;
	struct iovec iov[HOLD_MAX];
};

struct rig {
	struct guest_memory *mem;
	struct fake_ring ring;
	struct virtqueue q;
	struct held held[HOLD_MAX];
	uint32_t held_count;
	uint16_t pushed;
	uint64_t features;
};

static const uint64_t addresses[] = { 0,
				      FAKE_RINGS,
				      FAKE_TABLES,
				      FAKE_TABLES + 1,
				      FAKE_DATA,
				      FAKE_LOW_SIZE - 1,
				      FAKE_LOW_SIZE - 16,
				      FAKE_LOW_SIZE,
				      0xfee00000,
				      FAKE_HIGH_START - 1,
				      FAKE_HIGH_START,
				      FAKE_HIGH_START + FAKE_HIGH_SIZE - 512,
				      FAKE_HIGH_START + FAKE_HIGH_SIZE,
				      UINT64_C(1) << 63,
				      UINT64_MAX - 15,
				      UINT64_MAX };
static const uint32_t lengths[] = { 0,		1,	    11,		12,	   15,	 16,
				    17,		32,	    511,	512,	   4096, 65536,
				    0x01000000, 0x7fffffff, 0x80000000, 0xffffffff };

static void set_desc(struct rig *rig, struct fuzz_input *in, uint64_t table)
{
	uint32_t index = (uint32_t)fuzz_take(in, 1) % (2 * HOLD_MAX);
	uint8_t where = (uint8_t)fuzz_take(in, 1);
	uint64_t addr = addresses[where % ARRAY_SIZE(addresses)] + (where >> 4) * 8;
	uint32_t len = lengths[fuzz_take(in, 1) % ARRAY_SIZE(lengths)];
	uint16_t flags = (uint16_t)fuzz_take(in, 1);
	uint16_t next = (uint16_t)fuzz_take(in, 1);

	fake_table_set_desc(rig->mem, table, index, addr, len, flags, next == 0xff ? 0xffff : next);
}

static void check_chain(const struct rig *rig, const struct held *held)
{
	const struct virtqueue_chain *chain = &held->chain;
	uint64_t total = 0;

	REQUIRE(chain->head < rig->q.state.size);
	REQUIRE(chain->out_count + chain->in_count <= rig->q.state.size);
	for (uint32_t i = 0; i < (uint32_t)chain->out_count + chain->in_count; i++) {
		const struct iovec *v = &held->iov[i];
		uint64_t offset = fake_memory_offset(rig->mem, v->iov_base);

		total += v->iov_len;
		REQUIRE(v->iov_len != 0 && offset < rig->mem->size);
		REQUIRE(offset >= FAKE_LOW_SIZE || offset + v->iov_len <= FAKE_LOW_SIZE);
		REQUIRE(offset + v->iov_len <= rig->mem->size);
	}
	REQUIRE(total == chain->in_len + chain->out_len && total <= GIB(4));
	for (uint32_t i = 0; i < rig->held_count; i++) {
		REQUIRE(rig->held[i].chain.head != chain->head);
	}
}

/* The device's writes: real ones, also over rings that a buffer points at. */
static uint32_t scribble(const struct virtqueue_chain *chain, uint8_t byte)
{
	uint32_t written = 0;

	for (uint32_t i = 0; i < chain->in_count; i++) {
		const struct iovec *v = &chain->iov[chain->out_count + i];
		size_t n = MIN(v->iov_len, (size_t)48);

		memset(v->iov_base, byte, n);
		written += (uint32_t)n;
	}
	return written;
}

static void pop(struct rig *rig, bool back)
{
	struct held *held = &rig->held[rig->held_count];
	int r;

	if (rig->held_count == HOLD_MAX) {
		return;
	}
	r = virtqueue_pop(&rig->q, &held->chain, held->iov, ARRAY_SIZE(held->iov));
	REQUIRE(r == 0 || r == 1 || r == -EIO);
	REQUIRE((r == -EIO) == rig->q.state.broken || !rig->q.running);
	if (r != 1) {
		return;
	}
	check_chain(rig, held);
	if (back) {
		virtqueue_unpop(&rig->q, &held->chain);
		return;
	}
	rig->held_count++;
}

static void push(struct rig *rig, uint32_t which, uint32_t written)
{
	struct held *held;

	if (rig->held_count == 0) {
		return;
	}
	held = &rig->held[which % rig->held_count];
	virtqueue_push(&rig->q, &held->chain, written);
	rig->pushed += rig->q.running && !rig->q.state.broken;
	*held = rig->held[--rig->held_count];
	held->chain.iov = held->iov;
	rig->held[rig->held_count].chain.iov = rig->held[rig->held_count].iov;
}

static void publish(struct rig *rig)
{
	bool fresh = rig->q.state.used_next != rig->q.used_published;
	bool interrupt = virtqueue_publish(&rig->q);

	REQUIRE(fresh || !interrupt);
	if (rig->q.running && !rig->q.state.broken) {
		REQUIRE(rig->q.state.used_next == rig->pushed);
		REQUIRE(!fresh || fake_ring_used_idx(&rig->ring) == rig->pushed);
	}
}

static void restart(struct rig *rig)
{
	while (rig->held_count != 0) {
		push(rig, 0, 0);
	}
	virtqueue_stop(&rig->q);
	REQUIRE(virtqueue_pop(&rig->q, &rig->held[0].chain, rig->held[0].iov, 1) == 0);
	REQUIRE(virtqueue_start(&rig->q, rig->mem, rig->features));
}

static void device_step(struct rig *rig, struct fuzz_input *in, uint8_t op)
{
	uint8_t before[16U << SIZE_MAX_LOG];
	const uint8_t *table =
		guest_memory_read_pointer(rig->mem, rig->ring.desc_gpa, sizeof(before));
	uint8_t argument = (uint8_t)fuzz_take(in, 1);
	uint32_t written = 0;

	if (op == 8 && rig->held_count != 0) {
		written = scribble(&rig->held[argument % rig->held_count].chain, argument);
	}
	memcpy(before, table, sizeof(before));
	switch (op) {
	case 7:
		pop(rig, argument == 1);
		break;
	case 8:
		push(rig, argument, written);
		break;
	case 9:
		publish(rig);
		break;
	case 10:
		virtqueue_suppress_kicks(&rig->q, argument & 1);
		break;
	case 11:
		(void)virtqueue_available(&rig->q);
		break;
	default:
		if (argument < 16) {
			restart(rig);
		}
		break;
	}
	REQUIRE(memcmp(before, table, 16ULL * rig->q.state.size) == 0);
	REQUIRE(rig->q.state.broken || rig->q.in_flight_count == rig->held_count);
}

static void step(struct rig *rig, struct fuzz_input *in)
{
	uint8_t op = (uint8_t)fuzz_take(in, 1) % 13;
	uint16_t value;

	switch (op) {
	case 0:
		set_desc(rig, in, rig->ring.desc_gpa);
		break;
	case 1:
		set_desc(rig, in, FAKE_TABLES);
		break;
	case 2:
	case 3:
		fake_ring_offer(&rig->ring, (uint16_t)fuzz_take(in, 1));
		fake_ring_publish(&rig->ring);
		break;
	case 4:
		rig->ring.avail_idx = (uint16_t)(rig->ring.avail_idx + (int8_t)fuzz_take(in, 1));
		fake_ring_publish(&rig->ring);
		break;
	case 5:
		fake_ring_set_used_event(&rig->ring, (uint16_t)fuzz_take(in, 2));
		fake_ring_set_avail_flags(&rig->ring, (uint16_t)fuzz_take(in, 1));
		break;
	case 6:
		value = (uint16_t)fuzz_take(in, 2);
		*guest_memory_write_pointer(rig->mem, FAKE_RINGS + value % 0x400, 1) =
			(uint8_t)fuzz_take(in, 1);
		break;
	default:
		device_step(rig, in, op);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest_memory mem;
	static struct rig rig;
	struct fuzz_input in = { .data = data, .len = size };
	uint8_t head = (uint8_t)fuzz_take(&in, 1);
	uint16_t start = (uint16_t)fuzz_take(&in, 2);

	if (mem.size == 0) {
		fake_memory_init(&mem);
		fake_memory_track(&mem);
	}
	fake_memory_clear(&mem); /* nothing of the last run */
	memset(&rig, 0, sizeof(rig));
	rig.mem = &mem;
	rig.features = (uint64_t)(head >> 6 & 1) << VIRTIO_RING_F_EVENT_IDX |
		       (uint64_t)(head >> 7 & 1) << VIRTIO_RING_F_INDIRECT_DESC;
	fake_ring_init(&rig.ring, &mem, (uint16_t)(1U << (head & 7) % (SIZE_MAX_LOG + 1)),
		       FAKE_RINGS);
	virtqueue_init(&rig.q, HOLD_MAX);
	fake_ring_configure(&rig.ring, &rig.q);
	/* Anywhere in the life of a queue: positions wrap. */
	rig.q.state.avail_next = rig.q.state.used_next = rig.pushed = rig.ring.avail_idx = start;
	fake_ring_publish(&rig.ring);
	REQUIRE(virtqueue_start(&rig.q, &mem, rig.features));
	while (in.len != 0) {
		step(&rig, &in);
	}
	while (rig.held_count != 0) {
		push(&rig, 0, 0);
	}
	publish(&rig);
	REQUIRE(rig.q.state.broken || rig.q.in_flight_count == 0);
	virtqueue_stop(&rig.q);
	return 0;
}
