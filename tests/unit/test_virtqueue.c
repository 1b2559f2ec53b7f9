/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues against a driver that may do anything. "M..." are the device requirements of
 * virtio 1.3 in research/reliability.md §3.3.
 */
#include "harness/check_main.h"
#include "harness/fake_driver.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <pthread.h>

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT  (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

#define F_NEXT	   VRING_DESC_F_NEXT
#define F_WRITE	   VRING_DESC_F_WRITE
#define F_INDIRECT VRING_DESC_F_INDIRECT

#define SIZE 8

static struct guest_memory mem;
static struct fake_ring ring;
static struct virtqueue q;
static struct virtqueue_chain chain;
static struct iovec iov[VIRTQUEUE_SIZE_MAX];

static void setup(void)
{
	fake_memory_init(&mem);
}

static void teardown(void)
{
	fake_memory_finish(&mem);
}

static void start(uint16_t size, uint64_t features)
{
	fake_ring_init(&ring, &mem, size, FAKE_RINGS);
	virtqueue_init(&q, VIRTQUEUE_SIZE_MAX);
	fake_ring_configure(&ring, &q);
	ck_assert(virtqueue_start(&q, &mem, features));
}

static int pop(void)
{
	return virtqueue_pop(&q, &chain, iov, ARRAY_SIZE(iov));
}

static bool publish(void)
{
	return virtqueue_publish(&q);
}

static uint8_t *host(uint64_t gpa)
{
	return guest_memory_translate(&mem, gpa, 1);
}

static const struct {
	uint32_t size;
	uint64_t desc, avail, used;
	bool good;
} places[] = {
	{ 8, 0x1000, 0x2000, 0x3000, true },
	{ 1, 0x1000, 0x1010, 0x1018, true },
	{ 8, 0, 0x2000, 0x3000, true },
	{ 8, FAKE_HIGH_START, FAKE_HIGH_START + 0x1000, FAKE_HIGH_START + 0x2000, true },
	{ 8, FAKE_LOW_SIZE - 128, FAKE_HIGH_START + FAKE_HIGH_SIZE - 22, 0x3000, true },
	{ 8, 0x1000, 0x2000, FAKE_LOW_SIZE - 72, true },
	{ 1024, 0x10000, 0x20000, 0x30000, true },
	/* sizes */
	{ 0, 0x1000, 0x2000, 0x3000, false },
	{ 3, 0x1000, 0x2000, 0x3000, false },
	{ 2048, 0x10000, 0x20000, 0x30000, false },
	{ 0x8000, 0x100000, 0x200000, 0x300000, false },
	{ 0xffff, 0x100000, 0x200000, 0x300000, false },
	{ 0x10008, 0x1000, 0x2000, 0x3000, false },
	{ 0xffffffff, 0x1000, 0x2000, 0x3000, false },
	/* alignment */
	{ 8, 0x1008, 0x2000, 0x3000, false },
	{ 8, 0x1000, 0x2001, 0x3000, false },
	{ 8, 0x1000, 0x2000, 0x3002, false },
	/* outside, straddling the end of a region, wrapping */
	{ 8, FAKE_LOW_SIZE - 112, 0x2000, 0x3000, false },
	{ 8, 0x1000, FAKE_LOW_SIZE - 20, 0x3000, false },
	{ 8, 0x1000, 0x2000, FAKE_LOW_SIZE - 68, false },
	{ 8, FAKE_LOW_SIZE, 0x2000, 0x3000, false },
	{ 8, 0xd0000000, 0x2000, 0x3000, false },
	{ 8, 0x1000, 0xfee00000, 0x3000, false },
	{ 8, FAKE_HIGH_START - 16, 0x2000, 0x3000, false },
	{ 8, 0x1000, 0x2000, FAKE_HIGH_START + FAKE_HIGH_SIZE - 64, false },
	{ 8, UINT64_MAX - 15, 0x2000, 0x3000, false },
	{ 8, 0x1000, UINT64_MAX - 1, 0x3000, false },
	{ 8, 0x1000, 0x2000, UINT64_MAX - 3, false },
	/* overlapping by the last bytes */
	{ 8, 0x1000, 0x107e, 0x3000, false },
	{ 8, 0x1000, 0x2000, 0x107c, false },
	{ 8, 0x1000, 0x2000, 0x2014, false },
	{ 8, 0x1000, 0x3044, 0x3000, false },
	{ 8, 0x1000, 0x1000, 0x1000, false },
};

START_TEST(test_start_place)
{
	virtqueue_init(&q, 1024);
	virtqueue_set_size(&q, places[_i].size);
	q.desc_gpa = places[_i].desc;
	q.avail_gpa = places[_i].avail;
	q.used_gpa = places[_i].used;
	ck_assert_int_eq(virtqueue_start(&q, &mem, EVENT_IDX), places[_i].good);
	ck_assert_int_eq(q.running, places[_i].good);
	ck_assert_int_eq(pop(), 0);
}
END_TEST

START_TEST(test_start_size_above_ours)
{
	virtqueue_init(&q, 64);
	virtqueue_set_size(&q, 128);
	ck_assert_uint_eq(q.size, 0);
	q.size = 128; /* as from a saved state of another machine */
	q.desc_gpa = 0x1000;
	q.avail_gpa = 0x2000;
	q.used_gpa = 0x3000;
	ck_assert(!virtqueue_start(&q, &mem, 0));
}
END_TEST

START_TEST(test_reset_values)
{
	start(SIZE, 0);
	virtqueue_stop(&q);
	virtqueue_reset(&q);
	ck_assert_uint_eq(q.size_max, VIRTQUEUE_SIZE_MAX);
	ck_assert_uint_eq(q.size, VIRTQUEUE_SIZE_MAX);
	ck_assert(!q.ready && !q.running && !q.broken);
	ck_assert_uint_eq(q.desc_gpa | q.avail_gpa | q.used_gpa | q.avail_next | q.used_next, 0);
}
END_TEST

START_TEST(test_direct_chain)
{
	const struct fake_buf bufs[] = { { 0x100001, 16, false },
					 { FAKE_HIGH_START + FAKE_HIGH_SIZE - 5, 5, false },
					 { 0x200000, 4096, true },
					 { 0x0, 1, true } };
	uint16_t head;

	start(SIZE, 0);
	ring.next_desc = 6; /* around the end of the table */
	ck_assert_int_eq(pop(), 0);
	head = fake_ring_add(&ring, bufs, ARRAY_SIZE(bufs));
	ck_assert(virtqueue_has_work(&q));
	ck_assert_uint_eq(virtqueue_available(&q), 1);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.head, head);
	ck_assert_uint_eq(chain.out_count, 2);
	ck_assert_uint_eq(chain.in_count, 2);
	ck_assert_uint_eq(chain.out_len, 21);
	ck_assert_uint_eq(chain.in_len, 4097);
	for (size_t i = 0; i < ARRAY_SIZE(bufs); i++) {
		ck_assert_ptr_eq(iov[i].iov_base, host(bufs[i].addr));
		ck_assert_uint_eq(iov[i].iov_len, bufs[i].len);
	}
	ck_assert(!virtqueue_has_work(&q));
	ck_assert_int_eq(pop(), 0);
}
END_TEST

START_TEST(test_zero_length_left_out)
{
	const struct fake_buf bufs[] = { { 0x100000, 0, false },
					 { 0x100000, 3, false },
					 { FAKE_LOW_SIZE, 0, true },
					 { 0x200000, 7, true } };

	start(SIZE, 0);
	fake_ring_add(&ring, bufs, ARRAY_SIZE(bufs));
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.out_count, 1);
	ck_assert_uint_eq(chain.in_count, 1);
	ck_assert_uint_eq(iov[0].iov_len, 3);
	ck_assert_uint_eq(iov[1].iov_len, 7);
}
END_TEST

/* T-D9: the specification asks for no alignment of an indirect table. */
START_TEST(test_indirect_any_alignment)
{
	const struct fake_buf bufs[] = { { 0x100000, 10, false }, { 0x200000, 20, true } };

	start(SIZE, INDIRECT);
	ring.next_table = ring.tables_gpa + (uint64_t)_i;
	fake_ring_add_indirect(&ring, bufs, ARRAY_SIZE(bufs));
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.out_len, 10);
	ck_assert_uint_eq(chain.in_len, 20);
	ck_assert_ptr_eq(iov[0].iov_base, host(0x100000));
	ck_assert_ptr_eq(iov[1].iov_base, host(0x200000));
}
END_TEST

START_TEST(test_M2_7_5_3_2_1_write_flag_of_indirect_ignored)
{
	start(SIZE, INDIRECT);
	fake_table_set_desc(&mem, FAKE_TABLES, 0, 0x100000, 4, 0, 0);
	fake_ring_set_desc(&ring, 0, FAKE_TABLES, 16, F_INDIRECT | F_WRITE, 0);
	fake_ring_offer(&ring, 0);
	fake_ring_publish(&ring);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.out_count, 1);
	ck_assert_uint_eq(chain.in_count, 0);
}
END_TEST

START_TEST(test_M2_7_5_3_2_2_chain_then_indirect)
{
	start(SIZE, INDIRECT);
	fake_ring_set_desc(&ring, 0, 0x100000, 1, F_NEXT, 3);
	fake_ring_set_desc(&ring, 3, 0x100010, 2, F_NEXT, 5);
	fake_ring_set_desc(&ring, 5, FAKE_TABLES, 48, F_INDIRECT, 0);
	/* The table is not in order, and longer than what is used of it. */
	fake_table_set_desc(&mem, FAKE_TABLES, 0, 0x100020, 4, F_NEXT, 2);
	fake_table_set_desc(&mem, FAKE_TABLES, 2, 0x100030, 8, F_WRITE, 0);
	fake_ring_offer(&ring, 0);
	fake_ring_publish(&ring);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.out_count, 3);
	ck_assert_uint_eq(chain.out_len, 7);
	ck_assert_uint_eq(chain.in_len, 8);
}
END_TEST

START_TEST(test_longest_chains)
{
	struct fake_buf bufs[SIZE];

	start(SIZE, INDIRECT);
	for (size_t i = 0; i < SIZE; i++) {
		bufs[i] = (struct fake_buf){ 0x100000 + 0x1000 * i, 512, i > 3 };
	}
	fake_ring_add(&ring, bufs, SIZE);
	ck_assert_int_eq(pop(), 1);
	virtqueue_push(&q, &chain, 0);
	fake_ring_add_indirect(&ring, bufs, SIZE);
	ck_assert_int_eq(pop(), 0);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.out_count + chain.in_count, SIZE);
}
END_TEST

/* §2.7.5.1: 2^32 bytes in total are the limit; buffers may overlap, so small memory is enough to
 * try. */
START_TEST(test_chain_total)
{
	struct fake_buf bufs[257];

	start(512, INDIRECT);
	for (size_t i = 0; i < ARRAY_SIZE(bufs); i++) {
		bufs[i] = (struct fake_buf){ 0, (uint32_t)FAKE_LOW_SIZE, i >= 128 };
	}
	fake_ring_add(&ring, bufs, 256);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.in_len + chain.out_len, GIB(4));
	bufs[256] = (struct fake_buf){ 0, 1, true };
	fake_ring_add_indirect(&ring, bufs, 257);
	ck_assert_int_eq(pop(), 0);
	ck_assert_int_eq(pop(), -EIO);
}
END_TEST

/*
 * What makes a queue broken: descriptors of the ring and of an indirect table at FAKE_TABLES, then
 * the head and the avail index that the driver shows.
 */
struct bad_desc {
	enum { NONE, RING, TABLE } where;
	uint16_t index;
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

#define ANY 0x100000 /* a good address */
#define TO_TABLE(len, flags)                                       \
	{                                                          \
		RING, 0, FAKE_TABLES, len, F_INDIRECT | (flags), 0 \
	}

static const struct {
	const char *name;
	uint64_t features;
	struct bad_desc descs[2];
	uint16_t head, more; /* the avail index is 1 + more */
} bad[] = {
	{ "self loop", 0, { { RING, 0, ANY, 1, F_NEXT, 0 } }, 0, 0 },
	{ "self loop of nothing", 0, { { RING, 0, ANY, 0, F_NEXT, 0 } }, 0, 0 },
	{ "cycle", 0, { { RING, 0, ANY, 1, F_NEXT, 1 }, { RING, 1, ANY, 1, F_NEXT, 0 } }, 0, 0 },
	{ "next = size", 0, { { RING, 0, ANY, 1, F_NEXT, SIZE } }, 0, 0 },
	{ "next = 0xffff", 0, { { RING, 0, ANY, 1, F_NEXT, 0xffff } }, 0, 0 },
	{ "outside", 0, { { RING, 0, FAKE_LOW_SIZE, 1, 0, 0 } }, 0, 0 },
	{ "end + 1", 0, { { RING, 0, FAKE_LOW_SIZE - 511, 512, 0, 0 } }, 0, 0 },
	{ "seam", 0, { { RING, 0, FAKE_LOW_SIZE - 256, 512, F_WRITE, 0 } }, 0, 0 },
	{ "end of high memory",
	  0,
	  { { RING, 0, FAKE_HIGH_START + FAKE_HIGH_SIZE - 1, 2, F_WRITE, 0 } },
	  0,
	  0 },
	{ "hole", 0, { { RING, 0, 0xfee00000, 4, F_WRITE, 0 } }, 0, 0 },
	{ "wrap", 0, { { RING, 0, UINT64_MAX, 0xffffffff, F_WRITE, 0 } }, 0, 0 },
	{ "wrap, short", 0, { { RING, 0, UINT64_MAX - 15, 32, 0, 0 } }, 0, 0 },
	{ "2^63", 0, { { RING, 0, UINT64_C(1) << 63, 1, 0, 0 } }, 0, 0 },
	{ "huge", 0, { { RING, 0, 0, 0xffffffff, 0, 0 } }, 0, 0 },
	{ "nothing, outside", 0, { { RING, 0, 0xd0000000, 0, 0, 0 } }, 0, 0 },
	{ "readable after writable",
	  0,
	  { { RING, 0, ANY, 1, F_NEXT | F_WRITE, 1 }, { RING, 1, ANY, 1, 0, 0 } },
	  0,
	  0 },
	{ "readable after empty writable",
	  0,
	  { { RING, 0, ANY, 0, F_NEXT | F_WRITE, 1 }, { RING, 1, ANY, 1, 0, 0 } },
	  0,
	  0 },
	{ "empty readable after writable",
	  0,
	  { { RING, 0, ANY, 1, F_NEXT | F_WRITE, 1 }, { RING, 1, ANY, 0, 0, 0 } },
	  0,
	  0 },
	{ "indirect, not negotiated", 0, { TO_TABLE(16, 0), { TABLE, 0, ANY, 1, 0, 0 } }, 0, 0 },
	{ "INDIRECT|NEXT", INDIRECT, { TO_TABLE(16, F_NEXT), { TABLE, 0, ANY, 1, 0, 0 } }, 0, 0 },
	{ "nested",
	  INDIRECT,
	  { TO_TABLE(16, 0), { TABLE, 0, FAKE_TABLES, 16, F_INDIRECT, 0 } },
	  0,
	  0 },
	{ "empty table", INDIRECT, { TO_TABLE(0, 0) }, 0, 0 },
	{ "table of 15 bytes", INDIRECT, { TO_TABLE(15, 0), { TABLE, 0, ANY, 1, 0, 0 } }, 0, 0 },
	{ "table of 17 bytes", INDIRECT, { TO_TABLE(17, 0), { TABLE, 0, ANY, 1, 0, 0 } }, 0, 0 },
	{ "table outside", INDIRECT, { { RING, 0, FAKE_LOW_SIZE - 16, 32, F_INDIRECT, 0 } }, 0, 0 },
	{ "table wraps",
	  INDIRECT,
	  { { RING, 0, UINT64_MAX - 15, 0xfffffff0, F_INDIRECT, 0 } },
	  0,
	  0 },
	{ "loop in table", INDIRECT, { TO_TABLE(32, 0), { TABLE, 0, ANY, 1, F_NEXT, 0 } }, 0, 0 },
	{ "next beyond table",
	  INDIRECT,
	  { TO_TABLE(32, 0), { TABLE, 0, ANY, 1, F_NEXT, 2 } },
	  0,
	  0 },
	{ "next = 0xffff in table",
	  INDIRECT,
	  { TO_TABLE(32, 0), { TABLE, 0, ANY, 1, F_NEXT, 0xffff } },
	  0,
	  0 },
	{ "head = size", 0, { { NONE, 0, 0, 0, 0, 0 } }, SIZE, 0 },
	{ "head = 0xffff", 0, { { NONE, 0, 0, 0, 0, 0 } }, 0xffff, 0 },
	{ "avail index jumps", 0, { { RING, 0, ANY, 1, 0, 0 } }, 0, SIZE },
	{ "avail index jumps far", 0, { { RING, 0, ANY, 1, 0, 0 } }, 0, 0x7fff },
	{ "avail index goes back", 0, { { RING, 0, ANY, 1, 0, 0 } }, 0, 0xfffe },
};

static void check_broken(const char *name)
{
	uint8_t before[16 * SIZE];

	memcpy(before, host(ring.desc_gpa), sizeof(before));
	ck_assert(virtqueue_has_work(&q));
	ck_assert_msg(pop() == -EIO, "%s", name);
	ck_assert_msg(pop() == -EIO, "%s, again", name);
	ck_assert(q.broken);
	ck_assert(!virtqueue_has_work(&q));
	ck_assert(!virtqueue_publish(&q));
	virtqueue_suppress_kicks(&q, true);
	ck_assert_uint_eq(fake_ring_used_idx(&ring), 0);
	ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
	/* M2.7.5.1-2 */
	ck_assert_mem_eq(before, host(ring.desc_gpa), sizeof(before));
}

START_TEST(test_bad)
{
	start(SIZE, bad[_i].features);
	for (size_t i = 0; i < ARRAY_SIZE(bad[_i].descs); i++) {
		const struct bad_desc *desc = &bad[_i].descs[i];

		if (desc->where != NONE) {
			fake_table_set_desc(&mem, desc->where == RING ? ring.desc_gpa : FAKE_TABLES,
					    desc->index, desc->addr, desc->len, desc->flags,
					    desc->next);
		}
	}
	fake_ring_set_avail(&ring, 0, bad[_i].head);
	fake_ring_set_avail_idx(&ring, (uint16_t)(1 + bad[_i].more));
	check_broken(bad[_i].name);
}
END_TEST

/* One buffer more than the queue has descriptors: all in a table, or one outside of it. */
START_TEST(test_too_long)
{
	uint16_t outside = (uint16_t)_i;

	start(SIZE, INDIRECT);
	fake_ring_set_desc(&ring, 0, ANY, 1, F_NEXT, 1);
	fake_ring_set_desc(&ring, outside, FAKE_TABLES, 16U * (SIZE + 1U - outside), F_INDIRECT, 0);
	for (uint16_t i = 0; i < SIZE + 1 - outside; i++) {
		fake_table_set_desc(&mem, FAKE_TABLES, i, ANY, 1, i < SIZE - outside ? F_NEXT : 0,
				    (uint16_t)(i + 1));
	}
	fake_ring_offer(&ring, 0);
	fake_ring_publish(&ring);
	check_broken("too long");
}
END_TEST

/* T-D1, T-D12: a head cannot be taken twice before it is given back. */
START_TEST(test_head_in_flight)
{
	const struct fake_buf buf = { 0x100000, 16, true };
	struct virtqueue_chain first;

	start(SIZE, 0);
	fake_ring_add(&ring, &buf, 1);
	ck_assert_int_eq(pop(), 1);
	first = chain;
	fake_ring_offer(&ring, first.head);
	fake_ring_publish(&ring);
	ck_assert_int_eq(pop(), 0);
	ck_assert_int_eq(pop(), -EIO);
	/* What is in flight completes into the void. */
	virtqueue_push(&q, &first, 16);
	ck_assert(!virtqueue_publish(&q));
	ck_assert_uint_eq(fake_ring_used_idx(&ring), 0);
}
END_TEST

START_TEST(test_head_again_after_push)
{
	const struct fake_buf buf = { 0x100000, 16, true };

	start(SIZE, 0);
	fake_ring_add(&ring, &buf, 1);
	ck_assert_int_eq(pop(), 1);
	virtqueue_push(&q, &chain, 16);
	fake_ring_offer(&ring, chain.head);
	fake_ring_publish(&ring);
	ck_assert(virtqueue_has_work(&q));
	ck_assert_int_eq(pop(), 1);
}
END_TEST

START_TEST(test_list_too_small)
{
	const struct fake_buf bufs[] = { { 0x100000, 1, false }, { 0x100000, 1, false } };

	start(SIZE, 0);
	fake_ring_add(&ring, bufs, 2);
	ck_assert_int_eq(virtqueue_pop(&q, &chain, iov, 1), -EIO);
}
END_TEST

/* T-D4: a driver that adds for ever cannot keep a pass from ending. */
START_TEST(test_pass_is_bounded)
{
	const struct fake_buf buf = { 0x100000, 16, true };
	unsigned int taken = 0;

	start(SIZE, 0);
	fake_ring_add(&ring, &buf, 1);
	fake_ring_add(&ring, &buf, 1);
	while (pop() > 0) {
		ck_assert_uint_le(++taken, SIZE);
		virtqueue_push(&q, &chain, 0);
		fake_ring_add(&ring, &buf, 1);
	}
	ck_assert_uint_eq(taken, 2);
	ck_assert(virtqueue_has_work(&q));
	ck_assert_int_eq(pop(), 1);
}
END_TEST

/* has_work() means that pop() has something, also in the middle of a pass. */
START_TEST(test_has_work_then_pop)
{
	const struct fake_buf buf = { 0x100000, 16, true };

	start(SIZE, EVENT_IDX);
	fake_ring_add(&ring, &buf, 1);
	ck_assert_int_eq(pop(), 1);
	fake_ring_add(&ring, &buf, 1);
	ck_assert(virtqueue_has_work(&q));
	ck_assert_int_eq(pop(), 1);
	ck_assert(!virtqueue_has_work(&q));
	fake_ring_add(&ring, &buf, 1);
	ck_assert(virtqueue_has_work(&q));
	ck_assert_int_eq(pop(), 1);
}
END_TEST

START_TEST(test_unpop)
{
	const struct fake_buf bufs[] = { { 0x100000, 16, true }, { 0x200000, 32, true } };
	uint16_t head;

	start(SIZE, 0);
	head = fake_ring_add(&ring, &bufs[0], 1);
	fake_ring_add(&ring, &bufs[1], 1);
	ck_assert_int_eq(pop(), 1);
	virtqueue_unpop(&q, &chain);
	ck_assert_uint_eq(q.in_flight_count, 0);
	ck_assert(virtqueue_has_work(&q));
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.head, head);
	virtqueue_push(&q, &chain, 16);
	ck_assert_int_eq(pop(), 1);
	virtqueue_unpop(&q, &chain);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.in_len, 32);
}
END_TEST

/* M2.7.8.2-1, and M2.8.12-2's like for split rings: in the order in which they complete. */
START_TEST(test_used_order)
{
	struct virtqueue_chain chains[3];
	uint32_t id, len;

	start(SIZE, 0);
	for (uint32_t i = 0; i < 3; i++) {
		const struct fake_buf buf = { 0x100000, 100 + i, true };

		fake_ring_add(&ring, &buf, 1);
	}
	for (size_t i = 0; i < 3; i++) {
		ck_assert_int_eq(virtqueue_pop(&q, &chains[i], iov + i, 1), 1);
	}
	virtqueue_push(&q, &chains[2], 102);
	ck_assert_uint_eq(fake_ring_used_idx(&ring), 0);
	ck_assert_uint_eq(host(ring.used_gpa)[4], 2);
	ck_assert_uint_eq(host(ring.used_gpa)[8], 102);
	virtqueue_push(&q, &chains[0], 7);
	virtqueue_push(
		&q, &chains[1],
		5000); /* more than there is room: a bug of a device must not reach the guest */
	ck_assert(virtqueue_publish(&q));
	ck_assert(fake_ring_used(&ring, &id, &len));
	ck_assert_uint_eq(id, 2);
	ck_assert_uint_eq(len, 102);
	ck_assert(fake_ring_used(&ring, &id, &len));
	ck_assert_uint_eq(id, 0);
	ck_assert_uint_eq(len, 7);
	ck_assert(fake_ring_used(&ring, &id, &len));
	ck_assert_uint_eq(id, 1);
	ck_assert_uint_eq(len, 101);
	ck_assert(!fake_ring_used(&ring, &id, &len));
	ck_assert(!virtqueue_publish(&q)); /* nothing new */
}
END_TEST

/* T-D18: what the driver writes into the used ring does not matter. */
START_TEST(test_used_overwritten)
{
	const struct fake_buf buf = { 0x100000, 16, true };

	start(SIZE, 0);
	for (uint16_t round = 0; round < 3 * SIZE; round++) {
		fake_ring_add(&ring, &buf, 1);
		memset(host(ring.used_gpa), 0xff, 4 + 8 * SIZE);
		while (pop() > 0) {
			virtqueue_push(&q, &chain, 16);
		}
		ck_assert(virtqueue_publish(&q));
		ck_assert_uint_eq(fake_ring_used_idx(&ring), round + 1);
	}
}
END_TEST

/* 2^16 and more requests: positions wrap, with and without EVENT_IDX. */
START_TEST(test_wrap)
{
	const struct fake_buf buf = { 0x100000, 16, true };
	uint32_t interrupts = 0;

	start(4, _i == 0 ? 0 : EVENT_IDX);
	for (uint32_t i = 0; i < 0x10000 + 100; i++) {
		uint32_t id, len;
		uint16_t head;

		if (_i != 0) {
			fake_ring_set_used_event(&ring, (uint16_t)i);
			ck_assert_uint_eq(fake_ring_avail_event(&ring), (uint16_t)i);
		}
		head = fake_ring_add(&ring, &buf, 1);
		virtqueue_suppress_kicks(&q, true);
		ck_assert_int_eq(pop(), 1);
		virtqueue_push(&q, &chain, i % 17);
		ck_assert_int_eq(pop(), 0);
		interrupts += virtqueue_publish(&q);
		virtqueue_suppress_kicks(&q, false);
		ck_assert(!virtqueue_has_work(&q));
		ck_assert(fake_ring_used(&ring, &id, &len));
		ck_assert_uint_eq(id, head);
		ck_assert_uint_eq(len, i % 17);
	}
	ck_assert_uint_eq(interrupts, 0x10000 + 100);
}
END_TEST

/* Publishes `count` chains at used position `at` with this used_event. */
static bool publish_at(uint16_t at, uint16_t count, uint16_t event)
{
	const struct fake_buf buf = { 0x100000, 16, true };

	fake_ring_init(&ring, &mem, SIZE, FAKE_RINGS);
	virtqueue_init(&q, SIZE);
	fake_ring_configure(&ring, &q);
	q.avail_next = at;
	q.used_next = at;
	ring.avail_idx = at;
	fake_ring_publish(&ring);
	ck_assert(virtqueue_start(&q, &mem, EVENT_IDX));
	for (uint16_t i = 0; i < count; i++) {
		fake_ring_add(&ring, &buf, 1);
	}
	fake_ring_set_used_event(&ring, event);
	while (pop() > 0) {
		virtqueue_push(&q, &chain, 0);
	}
	return virtqueue_publish(&q);
}

START_TEST(test_M2_7_7_2_4_used_event)
{
	static const uint16_t ats[] = { 0, 1, 100, 0x7ffe, 0x8000, 0xfffa, 0xfffe, 0xffff };

	for (size_t i = 0; i < ARRAY_SIZE(ats); i++) {
		for (uint16_t count = 1; count <= SIZE; count++) {
			for (int around = -20; around <= 20; around++) {
				uint16_t event = (uint16_t)(ats[i] + around);
				bool expected = false;

				for (uint16_t k = 0; k < count; k++) {
					expected |= (uint16_t)(ats[i] + k) == event;
				}
				ck_assert_msg(publish_at(ats[i], count, event) == expected,
					      "at %u, %u chains, event %u", ats[i], count, event);
			}
		}
	}
}
END_TEST

START_TEST(test_M2_7_7_2_3_flags_ignored_with_event_idx)
{
	ck_assert(publish_at(5, 1, 5));
	fake_ring_set_avail_flags(&ring, VRING_AVAIL_F_NO_INTERRUPT);
	fake_ring_set_used_event(&ring, 6);
	fake_ring_add(&ring, &(struct fake_buf){ 0x100000, 1, true }, 1);
	ck_assert_int_eq(pop(), 1);
	virtqueue_push(&q, &chain, 0);
	ck_assert(virtqueue_publish(&q));
}
END_TEST

START_TEST(test_M2_7_7_2_1_and_2_flags_without_event_idx)
{
	const struct fake_buf buf = { 0x100000, 16, true };

	start(SIZE, 0);
	for (uint16_t flags = 0; flags < 2; flags++) {
		for (uint16_t event = 0; event < 4; event++) {
			fake_ring_set_avail_flags(&ring, flags);
			fake_ring_set_used_event(&ring, event);
			fake_ring_add(&ring, &buf, 1);
			ck_assert(virtqueue_has_work(&q));
			ck_assert_int_eq(pop(), 1);
			virtqueue_push(&q, &chain, 0);
			ck_assert_int_eq(virtqueue_publish(&q), flags == 0);
		}
	}
}
END_TEST

START_TEST(test_M2_7_10_2_1_kick_flag_without_event_idx)
{
	start(SIZE, 0);
	ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
	virtqueue_suppress_kicks(&q, true);
	ck_assert_uint_eq(fake_ring_used_flags(&ring), VRING_USED_F_NO_NOTIFY);
	/* A stop in between leaves it there; the next start clears it. */
	virtqueue_stop(&q);
	ck_assert(virtqueue_start(&q, &mem, 0));
	ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
	virtqueue_suppress_kicks(&q, true);
	virtqueue_suppress_kicks(&q, false);
	ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
}
END_TEST

START_TEST(test_M2_7_10_2_2_flags_zero_with_event_idx)
{
	const struct fake_buf buf = { 0x100000, 16, true };

	start(SIZE, EVENT_IDX);
	for (uint16_t i = 1; i < 20; i++) {
		fake_ring_add(&ring, &buf, 1);
		virtqueue_suppress_kicks(&q, true);
		ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
		/* The driver's check: does adding entry i - 1 need a kick? The device is busy, so
		 * it must not. */
		ck_assert(i == 1 ||
			  !vring_need_event(fake_ring_avail_event(&ring), (uint16_t)(i + 1), i));
		ck_assert(virtqueue_has_work(&q));
		ck_assert_int_eq(pop(), 1);
		virtqueue_push(&q, &chain, 0);
		ck_assert_int_eq(pop(), 0);
		virtqueue_suppress_kicks(&q, false);
		ck_assert_uint_eq(fake_ring_used_flags(&ring), 0);
		ck_assert_uint_eq(fake_ring_avail_event(&ring), i);
		ck_assert(vring_need_event(fake_ring_avail_event(&ring), (uint16_t)(i + 1), i));
	}
}
END_TEST

START_TEST(test_stop)
{
	const struct fake_buf buf = { 0x100000, 16, true };
	struct virtqueue_chain dropped;

	start(SIZE, EVENT_IDX);
	fake_ring_add(&ring, &buf, 1);
	fake_ring_add(&ring, &buf, 1);
	ck_assert_int_eq(pop(), 1);
	dropped = chain;
	virtqueue_stop(&q);
	ck_assert_int_eq(pop(), 0);
	ck_assert(!virtqueue_has_work(&q));
	virtqueue_push(&q, &dropped, 16);
	ck_assert(!virtqueue_publish(&q));
	virtqueue_suppress_kicks(&q, true);
	ck_assert_uint_eq(fake_ring_used_idx(&ring), 0);
	/* It goes on where it was. */
	ck_assert(virtqueue_start(&q, &mem, EVENT_IDX));
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.head, 1);
	virtqueue_push(&q, &chain, 16);
	publish();
	ck_assert_uint_eq(fake_ring_used_idx(&ring), 1);
}
END_TEST

static uint64_t dirty_pages(uint64_t *first)
{
	uint64_t bitmap[FAKE_LOW_SIZE / PAGE_SIZE_4K / 64] = { 0 };
	uint64_t count = 0;

	guest_memory_dirty_harvest(&mem, 0, bitmap, FAKE_LOW_SIZE / PAGE_SIZE_4K);
	for (size_t i = 0; i < ARRAY_SIZE(bitmap); i++) {
		count += (uint64_t)__builtin_popcountll(bitmap[i]);
	}
	*first = bitmap[0];
	return count;
}

/* The VMM's own writes: what was written of the buffers, the used ring, and nothing else. */
START_TEST(test_dirty)
{
	const struct fake_buf bufs[] = { { 0x100000, 4096, false },
					 { 0x200800, 4096, true },
					 { 0x300000, 4096, true } };
	struct error e = { 0 };
	uint64_t low;

	start(SIZE, EVENT_IDX);
	fake_ring_add(&ring, bufs, ARRAY_SIZE(bufs));
	check_ok(guest_memory_dirty_start(&mem, &e), &e);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(dirty_pages(&low), 0);
	virtqueue_push(&q, &chain, 2048 + 1);
	publish();
	ck_assert_uint_eq(dirty_pages(&low), 3); /* used ring, 0x200000, 0x201000 */
	ck_assert_uint_eq(low, UINT64_C(1) << (FAKE_RINGS >> 12));
	virtqueue_suppress_kicks(&q, false);
	ck_assert_uint_eq(dirty_pages(&low), 1);
	guest_memory_dirty_stop(&mem);
}
END_TEST

/* T-D10: the driver's memory changes under our hands. Sanitizers look for what must not happen. */
static _Atomic bool mutator_stop;

__attribute__((no_sanitize("thread"))) static void *mutator(void *arg)
{
	volatile uint8_t *p = host(FAKE_RINGS);
	uint32_t random = 12345;

	(void)arg;
	while (!atomic_load_explicit(&mutator_stop, memory_order_relaxed)) {
		random = random * 1664525 + 1013904223;
		p[(random >> 8) % 0x200] = (uint8_t)(random >> 24);
	}
	return NULL;
}

START_TEST(test_memory_changes)
{
	pthread_t thread;

#if defined(__SANITIZE_THREAD__)
	CHECK_SKIP("the race is the subject of the test");
#endif
	atomic_store(&mutator_stop, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, mutator, NULL), 0);
	for (uint32_t round = 0; round < 20000; round++) {
		uint16_t taken = 0;

		start(SIZE, EVENT_IDX | INDIRECT);
		while (pop() > 0) {
			ck_assert_uint_le(++taken, SIZE);
			ck_assert_uint_le(chain.out_count + chain.in_count, SIZE);
			for (uint16_t i = 0; i < chain.out_count + chain.in_count; i++) {
				uint64_t offset = (uint64_t)((uint8_t *)iov[i].iov_base - mem.map);

				ck_assert_uint_le(offset + iov[i].iov_len, mem.size);
			}
			virtqueue_push(&q, &chain, 0);
		}
		publish();
		virtqueue_stop(&q);
	}
	atomic_store(&mutator_stop, true);
	(void)pthread_join(thread, NULL);
}
END_TEST

static const struct {
	uint16_t size, avail_next, used_next;
	bool good;
} states[] = {
	{ 0, 0, 0, true },	{ 8, 0, 0, true },	    { 1024, 5, 5, true },
	{ 8, 3, 0xfffe, true }, { 8, 0x1000, 0xff8, true }, { 3, 0, 0, false },
	{ 2048, 0, 0, false },	{ 0xffff, 0, 0, false },    { 8, 9, 0, false },
	{ 8, 0, 1, false },	{ 0, 1, 0, false },
};

START_TEST(test_state_validate)
{
	struct error e = { 0 };

	virtqueue_init(&q, 1024);
	q.size = states[_i].size;
	q.avail_next = states[_i].avail_next;
	q.used_next = states[_i].used_next;
	ck_assert_int_eq(virtqueue_state.validate(&q, &e) == 0, states[_i].good);
	ck_assert_int_eq(e.code, states[_i].good ? ERROR_NONE : ERROR_STATE);
}
END_TEST

START_TEST(test_state_round_trip)
{
	const struct fake_buf buf = { 0x100000, 16, true };
	struct state_buf saved = { 0 };
	struct virtqueue other;
	struct error e = { 0 };

	check_ok(state_desc_check(&virtqueue_state, &e), &e);
	start(SIZE, EVENT_IDX);
	for (uint16_t i = 0; i < 5; i++) {
		fake_ring_add(&ring, &buf, 1);
		ck_assert(virtqueue_has_work(&q));
		ck_assert_int_eq(pop(), 1);
		virtqueue_push(&q, &chain, 0);
	}
	publish();
	virtqueue_stop(&q);
	check_ok(state_save(&virtqueue_state, &q, &saved, &e), &e);
	virtqueue_init(&other, VIRTQUEUE_SIZE_MAX);
	check_ok(state_load(&virtqueue_state, &other, saved.data, saved.len,
			    virtqueue_state.version, &e),
		 &e);
	state_buf_finish(&saved);
	q = other;
	ck_assert(virtqueue_start(&q, &mem, EVENT_IDX));
	ck_assert_int_eq(pop(), 0);
	fake_ring_add(&ring, &buf, 1);
	ck_assert_int_eq(pop(), 1);
	virtqueue_push(&q, &chain, 0);
	publish();
	ck_assert_uint_eq(fake_ring_used_idx(&ring), 6);
}
END_TEST

CHECK_MAIN("virtqueue", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_start_place, places);
	   CHECK_TEST(test_start_size_above_ours); CHECK_TEST(test_reset_values);
	   CHECK_TEST(test_direct_chain); CHECK_TEST(test_zero_length_left_out);
	   CHECK_LOOP(test_indirect_any_alignment, 16);
	   CHECK_TEST(test_M2_7_5_3_2_1_write_flag_of_indirect_ignored);
	   CHECK_TEST(test_M2_7_5_3_2_2_chain_then_indirect); CHECK_TEST(test_longest_chains);
	   CHECK_TEST(test_chain_total); CHECK_TABLE(test_bad, bad); CHECK_LOOP(test_too_long, 2);
	   CHECK_TEST(test_head_in_flight); CHECK_TEST(test_head_again_after_push);
	   CHECK_TEST(test_list_too_small); CHECK_TEST(test_pass_is_bounded);
	   CHECK_TEST(test_has_work_then_pop); CHECK_TEST(test_unpop); CHECK_TEST(test_used_order);
	   CHECK_TEST(test_used_overwritten); CHECK_LOOP(test_wrap, 2);
	   CHECK_TEST(test_M2_7_7_2_4_used_event);
	   CHECK_TEST(test_M2_7_7_2_3_flags_ignored_with_event_idx);
	   CHECK_TEST(test_M2_7_7_2_1_and_2_flags_without_event_idx);
	   CHECK_TEST(test_M2_7_10_2_1_kick_flag_without_event_idx);
	   CHECK_TEST(test_M2_7_10_2_2_flags_zero_with_event_idx); CHECK_TEST(test_stop);
	   CHECK_TEST(test_dirty); CHECK_TEST(test_memory_changes);
	   CHECK_TABLE(test_state_validate, states); CHECK_TEST(test_state_round_trip))
