/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device's data path: many requests at a time, their batches and interrupts, stops and resets
 * with requests in flight, dirty pages, and both engines against a model. Names as in test_blk.c.
 */
#include "harness/blk_rig.h"

/* --- order, depth, drain --- */

/* Makes `n` reads of one sector, sector and place i. */
static void add_reads(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct fake_buf bufs[] = { { HEADER + 16ULL * i, 16, false },
						 { DATA + 0x10000 + 512ULL * i, 512, true },
						 { DATA + i, 1, true } };

		put_header(HEADER + 16ULL * i, VIRTIO_BLK_T_IN, i);
		(void)fake_ring_add_indirect(&d.rings[0], bufs, 3);
	}
}

/* HEADER .. DATA holds 256 headers; DATA .. DATA + 256 their statuses. */
static void check_reads(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		ck_assert_uint_eq(get8(DATA + i), VIRTIO_BLK_S_OK);
		ck_assert_uint_eq(get8(DATA + 0x10000 + 512ULL * i + 511), i & 0xff);
	}
}

static void hold(uint32_t count)
{
	block_fault_add(fault, &(struct block_fault_rule){ .ops = UINT32_MAX,
							   .count = count,
							   .kind = BLOCK_FAULT_HOLD });
}

static void number_sectors(void)
{
	for (uint32_t i = 0; i < SECTORS; i++) {
		memset(memory->data + 512ULL * i, (int)i, 512);
	}
}

START_TEST(test_interrupts_per_batch)
{
	start(WITH_INDIRECT);
	number_sectors();
	fake_driver_fill(&d, DATA, NO_STATUS, 256);
	add_reads(256);
	fake_driver_kick(&d, 0);
	ck_assert(fake_driver_wait_used(&d, 0, 256));
	check_reads(256);
	/* One, unless this machine was so busy that the batch took long. */
	ck_assert_uint_le(atomic_load(&d.queue_interrupts[0]), 16);
	ck_assert_uint_le(counters().batches, 16);
	ck_assert_uint_eq(counters().reads, 256);
	ck_assert_uint_eq(counters().read_bytes, 256 * 512);
}
END_TEST

/* A driver with less than BLK_BATCH_LOOK_MIN requests never waits, whatever was before. */
START_TEST(test_few_requests_never_wait)
{
	struct blk_batch batch;

	blk_batch_init(&batch);
	for (uint32_t i = 0; i < 10000; i++) {
		uint32_t deep = i % 7 == 0 ? 32 : 0;

		for (uint32_t n = 0; n < BLK_BATCH_LOOK_MIN; n++) {
			ck_assert(!blk_batch_look_before(&batch, n));
			ck_assert(!blk_batch_look_after(&batch, n));
		}
		ck_assert(!blk_batch_open(0));
		(void)blk_batch_look_after(&batch, deep);
		blk_batch_looked_after(&batch, i % 3 == 0);
	}
}
END_TEST

/* Batches of a driver with a fixed depth: the goal settles below the depth, looks in vain are rare. */
START_TEST(test_batch_goal_follows_the_depth)
{
	for (uint32_t depth = 1; depth <= 64; depth++) {
		struct blk_batch batch;
		uint32_t vain = 0, finished;

		blk_batch_init(&batch);
		for (uint32_t i = 0; i < 1000; i++) {
			/* Requests come one by one until all that the driver has are finished. */
			for (finished = 1; blk_batch_look_before(&batch, finished) ||
					   finished < BLK_BATCH_LOOK_MIN;
			     finished++) {
				if (finished == depth) {
					if (blk_batch_look_before(&batch, finished)) {
						blk_batch_vain_before(&batch, finished);
						vain++;
					}
					break;
				}
			}
			ck_assert_uint_le(finished, MIN(depth, (uint32_t)BLK_BATCH_GOAL));
			(void)blk_batch_look_after(&batch, finished);
		}
		ck_assert_uint_le(vain, 1000 / BLK_BATCH_PATIENCE + BLK_BATCH_GOAL);
		if (depth >= 32) {
			ck_assert_uint_eq(vain, 0);
			ck_assert_uint_eq(batch.goal, BLK_BATCH_GOAL);
		}
		ck_assert_uint_ge(batch.goal, 1);
		ck_assert_uint_le(batch.goal, BLK_BATCH_GOAL);
	}
}
END_TEST

START_TEST(test_looks_in_vain_become_rare)
{
	struct blk_batch batch;
	uint32_t looks = 0;

	blk_batch_init(&batch);
	for (uint32_t i = 0; i < 6400; i++) {
		if (blk_batch_look_after(&batch, 32)) {
			blk_batch_looked_after(&batch, false);
			looks++;
		}
	}
	ck_assert_uint_le(looks, 6400 / 64 + BLK_BATCH_VAIN_MAX);
	ck_assert_uint_ge(looks, 6400 / 64);
	while (!blk_batch_look_after(&batch, 32)) {
	}
	blk_batch_looked_after(&batch, true);
	ck_assert(blk_batch_look_after(&batch, 32));
}
END_TEST

/* All sizes of batches, none of them followed by a kick or another request: everything is shown. */
START_TEST(test_nothing_is_kept_back)
{
	uint16_t total = 0;

	start(WITH_INDIRECT);
	number_sectors();
	for (int round = 0; round < 20; round++) {
		for (int n = 1; n <= 40; n++) {
			uint32_t id, len;

			fake_driver_fill(&d, DATA, NO_STATUS, 256);
			add_reads(n);
			virtio_kick(dev, 0);
			total = (uint16_t)(total + n);
			ck_assert(fake_driver_wait_used(&d, 0, total));
			check_reads(n);
			while (fake_ring_used(&d.rings[0], &id, &len)) {
			}
		}
	}
}
END_TEST

static void release_all(void *arg)
{
	(void)arg;
	(void)block_fault_release(fault, UINT32_MAX);
}

START_TEST(test_full_queue_in_flight_and_reordered)
{
	start(WITH_INDIRECT);
	number_sectors();
	for (int round = 0; round < 3; round++) {
		uint32_t id, len, seen = 0;

		block_fault_clear(fault);
		hold(256);
		fault->reverse = true;
		fake_driver_fill(&d, DATA, NO_STATUS, 256);
		add_reads(256);
		fake_driver_kick(&d, 0);
		ck_assert_uint_eq(fault->held_count, 256);
		ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), (uint16_t)(round * 256));
		worker_call(&d.workers[0], release_all, NULL);
		ck_assert(fake_driver_wait_used(&d, 0, (uint16_t)(round * 256 + 256)));
		check_reads(256);
		while (fake_ring_used(&d.rings[0], &id, &len)) {
			ck_assert_uint_eq(len, 513);
			seen++;
		}
		ck_assert_uint_eq(seen, 256);
	}
}
END_TEST

/* T-B6: nothing is in flight after a quiesce, and the driver gets every answer. */
START_TEST(test_T_B6_quiesce_drains)
{
	start(WITH_INDIRECT);
	number_sectors();
	hold(64);
	fake_driver_fill(&d, DATA, NO_STATUS, 256);
	add_reads(64);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(fault->held_count, 64);
	virtio_device_quiesce(dev);
	ck_assert_uint_eq(fault->held_count, 0);
	ck_assert_uint_eq(fault->block.in_flight, 0);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 64);
	check_reads(64);
	add_reads(32);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 64);
	virtio_device_resume(dev);
	ck_assert(fake_driver_wait_used(&d, 0, 96));
}
END_TEST

START_TEST(test_reset_with_requests_in_flight)
{
	for (int i = 0; i < 20; i++) {
		start(WITH_INDIRECT);
		block_fault_clear(fault);
		hold(64);
		add_reads(64);
		fake_driver_kick(&d, 0);
		fake_driver_reset(&d);
		ck_assert_uint_eq(fault->block.in_flight, 0);
	}
	block_fault_clear(fault);
	start(FEATURES);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

/* T-D1: the same head again before its first use has been answered. */
START_TEST(test_T_D1_head_in_flight_twice)
{
	const struct fake_buf bufs[] = { { HEADER, 16, false },
					 { DATA, 512, true },
					 { STATUS, 1, true } };
	uint16_t head;

	start(FEATURES);
	hold(1);
	put_header(HEADER, VIRTIO_BLK_T_IN, 0);
	head = fake_ring_add(&d.rings[0], bufs, 3);
	fake_driver_kick(&d, 0);
	fake_ring_offer(&d.rings[0], head);
	fake_ring_publish(&d.rings[0]);
	fake_driver_kick(&d, 0);
	ck_assert_uint_ne(fake_driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	worker_call(&d.workers[0], release_all, NULL);
	start(FEATURES);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

/* T-D5, T-D6: a buffer over the end of RAM. */
START_TEST(test_T_D5_buffer_outside_ram)
{
	const struct fake_buf bufs[] = { { HEADER, 16, false },
					 { FAKE_LOW_SIZE - 256, 512, true },
					 { STATUS, 1, true } };

	start(FEATURES);
	put_header(HEADER, VIRTIO_BLK_T_IN, 0);
	(void)fake_ring_add(&d.rings[0], bufs, 3);
	fake_driver_kick(&d, 0);
	ck_assert_uint_ne(fake_driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	ck_assert_uint_eq(memory->ops[BLOCK_READ], 0);
}
END_TEST

static bool is_dirty(const uint64_t *bitmap, uint64_t gpa)
{
	return (bitmap[gpa / 4096 / 64] >> (gpa / 4096 % 64) & 1) != 0;
}

START_TEST(test_everything_written_is_marked_dirty)
{
	static uint64_t bitmap[FAKE_LOW_PAGES / 64];
	const struct fake_buf bufs[] = { { HEADER, 16, false },
					 { DATA + 0x10000, 8192, true },
					 { DATA + 0x20000, 1, true } };

	start(FEATURES);
	fake_driver_unwatch(&d);
	for (int failing = 0; failing < 2; failing++) {
		if (failing != 0) {
			block_fault_add(fault,
					&(struct block_fault_rule){ .ops = UINT32_MAX,
								    .count = 1,
								    .kind = BLOCK_FAULT_SHORT,
								    .error = EIO });
		}
		fake_memory_track(&d.mem);
		put_header(HEADER, VIRTIO_BLK_T_IN, 0);
		(void)run_chain(bufs, 3);
		(void)fake_memory_dirty(&d.mem, bitmap);
		guest_memory_dirty_stop(&d.mem);
		ck_assert(is_dirty(bitmap, DATA + 0x10000));
		ck_assert(is_dirty(bitmap, DATA + 0x11000));
		ck_assert(is_dirty(bitmap, DATA + 0x20000));
		ck_assert(!is_dirty(bitmap, HEADER));
	}
}
END_TEST

/* --- both engines on a real file, at depth, against a model --- */

#define SOAK_DEPTH 32
static const int engines[] = { BLOCK_ENGINE_SYNC, BLOCK_ENGINE_URING };

struct soak_slot {
	bool busy, write;
	uint32_t head, sector, sectors;
	uint8_t seed;
};

static uint64_t soak_data(uint32_t slot)
{
	return DATA + 0x10000 + 16384ULL * slot;
}

static void soak_submit(struct soak_slot *s, uint32_t i, uint32_t random)
{
	uint64_t header = HEADER + 16ULL * i, status = DATA + i;
	uint32_t half;
	struct fake_buf bufs[4];

	s->busy = true;
	s->write = (random & 1) != 0;
	/* Each slot has 64 sectors of its own, so that the model knows what a read must give. */
	s->sector = i * 64 + (random >> 1) % 32;
	s->sectors = 1 + (random >> 8) % 32;
	s->seed = (uint8_t)(random >> 16);
	half = s->sectors * 512 / 3; /* inside a sector */
	put_header(header, s->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, s->sector);
	fake_driver_fill(&d, status, NO_STATUS, 1);
	fake_driver_fill(&d, soak_data(i), s->write ? s->seed : 0, s->sectors * 512);
	bufs[0] = (struct fake_buf){ header, 16, false };
	bufs[1] = (struct fake_buf){ soak_data(i), half, !s->write };
	bufs[2] = (struct fake_buf){ soak_data(i) + half, s->sectors * 512 - half, !s->write };
	bufs[3] = (struct fake_buf){ status, 1, true };
	s->head = fake_ring_add_indirect(&d.rings[0], bufs, 4);
}

static void soak_check(struct soak_slot *s, uint32_t i, uint8_t *model)
{
	static uint8_t back[16384];

	ck_assert_uint_eq(get8(DATA + i), VIRTIO_BLK_S_OK);
	if (s->write) {
		memset(model + s->sector * 512ULL, s->seed, s->sectors * 512);
	} else {
		fake_driver_read(&d, soak_data(i), back, s->sectors * 512);
		ck_assert_mem_eq(back, model + s->sector * 512ULL, s->sectors * 512);
	}
	s->busy = false;
}

START_TEST(test_engines_against_a_model)
{
	static uint8_t model[SOAK_DEPTH * 64 * 512];
	struct soak_slot slots[SOAK_DEPTH] = { 0 };
	char path[] = "/tmp/vmm-blk-XXXXXX";
	struct block_config config = { .path = path, .engine = engines[_i] };
	struct error e = { 0 };
	struct block *b = NULL;
	uint32_t random = 12345, done = 0;
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, sizeof(model)), 0);
	teardown();
	if (block_open(&b, &config, &e) < 0) {
		ck_assert_int_eq(engines[_i], BLOCK_ENGINE_URING);
		fprintf(stderr, "# SKIP %s\n", e.msg);
		setup();
		(void)unlink(path);
		return;
	}
	make_device(b);
	start(WITH_INDIRECT | FEATURE(29));
	while (done < 3000) {
		uint32_t id, len;

		for (uint32_t i = 0; i < SOAK_DEPTH; i++) {
			random = random * 1664525 + 1013904223;
			if (!slots[i].busy && (random >> 28) != 0) {
				soak_submit(&slots[i], i, random >> 4);
			}
		}
		fake_driver_kick(&d, 0);
		while (fake_ring_used_idx(&d.rings[0]) == d.rings[0].used_seen) {
			fake_driver_sync(&d);
		}
		while (fake_ring_used(&d.rings[0], &id, &len)) {
			uint32_t i = 0;

			while (i < SOAK_DEPTH && !(slots[i].busy && slots[i].head == id)) {
				i++;
			}
			ck_assert_uint_lt(i, SOAK_DEPTH);
			ck_assert_uint_eq(len, slots[i].write ? 1 : slots[i].sectors * 512 + 1);
			soak_check(&slots[i], i, model);
			done++;
		}
	}
	virtio_device_quiesce(dev);
	{
		static uint8_t file[sizeof(model)];
		uint32_t id, len;

		while (fake_ring_used(&d.rings[0], &id, &len)) {
			for (uint32_t i = 0; i < SOAK_DEPTH; i++) {
				if (slots[i].busy && slots[i].head == id) {
					soak_check(&slots[i], i, model);
				}
			}
		}
		ck_assert_int_eq(pread(fd, file, sizeof(file), 0), (int)sizeof(file));
		ck_assert_mem_eq(file, model, sizeof(model));
	}
	(void)close(fd);
	(void)unlink(path);
}
END_TEST

CHECK_MAIN("blk_queue", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_interrupts_per_batch);
	   CHECK_TEST(test_few_requests_never_wait); CHECK_TEST(test_batch_goal_follows_the_depth);
	   CHECK_TEST(test_looks_in_vain_become_rare); CHECK_TEST(test_nothing_is_kept_back);
	   CHECK_TEST(test_full_queue_in_flight_and_reordered);
	   CHECK_TEST(test_T_B6_quiesce_drains); CHECK_TEST(test_reset_with_requests_in_flight);
	   CHECK_TEST(test_T_D1_head_in_flight_twice); CHECK_TEST(test_T_D5_buffer_outside_ram);
	   CHECK_TEST(test_everything_written_is_marked_dirty);
	   CHECK_TABLE(test_engines_against_a_model, engines))
