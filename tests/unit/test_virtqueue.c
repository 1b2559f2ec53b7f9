/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues against a driver that may do anything: where rings lie, which chains it gets, and
 * those that break the queue. "M..." are the device requirements of virtio 1.3.
 */
#include "harness/virtqueue_rig.h"

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
	q.state.desc_gpa = places[_i].desc;
	q.state.avail_gpa = places[_i].avail;
	q.state.used_gpa = places[_i].used;
	ck_assert_int_eq(virtqueue_start(&q, &mem, EVENT_IDX), places[_i].good);
	ck_assert_int_eq(q.running, places[_i].good);
	ck_assert_int_eq(pop(), 0);
}
END_TEST

START_TEST(test_start_size_above_ours)
{
	virtqueue_init(&q, 64);
	virtqueue_set_size(&q, 128);
	ck_assert_uint_eq(q.state.size, 0);
	q.state.size = 128; /* as from a saved state of another machine */
	q.state.desc_gpa = 0x1000;
	q.state.avail_gpa = 0x2000;
	q.state.used_gpa = 0x3000;
	ck_assert(!virtqueue_start(&q, &mem, 0));
}
END_TEST

START_TEST(test_reset_values)
{
	start(SIZE, 0);
	virtqueue_stop(&q);
	virtqueue_reset(&q);
	ck_assert_uint_eq(q.size_max, VIRTQUEUE_SIZE_MAX);
	ck_assert_uint_eq(q.state.size, VIRTQUEUE_SIZE_MAX);
	ck_assert(!q.state.ready && !q.running && !q.state.broken);
	ck_assert_uint_eq(q.state.desc_gpa | q.state.avail_gpa | q.state.used_gpa |
				  q.state.avail_next | q.state.used_next,
			  0);
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
	ck_assert(q.state.broken);
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

CHECK_MAIN("virtqueue", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_start_place, places);
	   CHECK_TEST(test_start_size_above_ours); CHECK_TEST(test_reset_values);
	   CHECK_TEST(test_direct_chain); CHECK_TEST(test_zero_length_left_out);
	   CHECK_LOOP(test_indirect_any_alignment, 16);
	   CHECK_TEST(test_M2_7_5_3_2_1_write_flag_of_indirect_ignored);
	   CHECK_TEST(test_M2_7_5_3_2_2_chain_then_indirect); CHECK_TEST(test_longest_chains);
	   CHECK_TEST(test_chain_total); CHECK_TABLE(test_bad, bad); CHECK_LOOP(test_too_long, 2);
	   CHECK_TEST(test_head_in_flight); CHECK_TEST(test_head_again_after_push);
	   CHECK_TEST(test_list_too_small); CHECK_TEST(test_pass_is_bounded);
	   CHECK_TEST(test_has_work_then_pop); CHECK_TEST(test_unpop))
