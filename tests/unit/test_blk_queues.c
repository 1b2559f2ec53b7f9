/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block device with several queues (virtio 1.2 §5.2, VIRTIO_BLK_F_MQ): each on a worker of its own,
 * one disk, one limit, one life.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>

#include "harness/check_main.h"
#include "harness/fake_driver.h"
#include "harness/state_round_trip.h"
#include "vmm/block_test.h"
#include "vmm/bytes.h"
#include "vmm/virtio_blk.h"

#define FEATURE(bit) (UINT64_C(1) << (bit))
#define FEATURES     (FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_MQ))
#define QUEUES	     4
#define QUEUE_SIZE   64
#define CAPACITY     MIB(1)
#define HOUR_MS	     3600000

/* Request `i` of queue `q`. */
#define HEADER(q, i) (FAKE_DATA + (q)*MIB(1) + (i)*16ULL)
#define STATUS(q, i) (FAKE_DATA + (q)*MIB(1) + 0x8000 + (i))
#define DATA(q, i)   (FAKE_DATA + (q)*MIB(1) + 0x10000 + (i)*512ULL)
#define NO_STATUS    0xee

/* A disk of `QUEUES` workers, each of which can fail by itself. */
struct disk {
	struct block_memory *memory[QUEUES];
	struct block_fault *fault[QUEUES];
};

static struct fake_driver d;
static struct virtio_device *dev;
static struct disk disk, other;
static struct error e;

static struct block *make_disk(struct disk *made, uint64_t capacity, uint8_t byte)
{
	for (uint32_t i = 0; i < QUEUES; i++) {
		if (i == 0) {
			check_ok(block_memory_create(&made->memory[0], capacity, &e), &e);
			memset(made->memory[0]->data, byte, capacity);
		} else {
			check_ok(block_memory_again(&made->memory[i], made->memory[0], &e), &e);
		}
		check_ok(block_fault_create(&made->fault[i], &made->memory[i]->block, &e), &e);
	}
	for (uint32_t i = 0; i + 1 < QUEUES; i++) {
		made->fault[i]->block.more = &made->fault[i + 1]->block;
	}
	memcpy(made->fault[0]->block.serial, "serial-of-20-letters", BLOCK_SERIAL_SIZE);
	return &made->fault[0]->block;
}

static void start(void)
{
	ck_assert(fake_driver_start(&d, FEATURES, QUEUE_SIZE));
}

static void setup(void)
{
	e = (struct error){ 0 };
	fake_driver_init_queues(&d, QUEUES);
	check_ok(virtio_blk_create(&dev, "vda", make_disk(&disk, CAPACITY, 0), &d.mem, d.workers,
				   &e),
		 &e);
	fake_driver_attach(&d, dev);
}

static void teardown(void)
{
	fake_driver_finish(&d);
}

static void hold_reads(struct disk *which, uint32_t q, uint32_t count)
{
	block_fault_add(which->fault[q], &(struct block_fault_rule){ .ops = 1U << BLOCK_READ,
								     .count = count,
								     .kind = BLOCK_FAULT_HOLD });
}

/* Request number `i` of queue `q`; no kick. */
static void add(uint32_t q, uint32_t i, uint32_t type, uint64_t sector)
{
	const bool data = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_OUT;
	const struct fake_buf bufs[] = { { HEADER(q, i), 16, false },
					 { DATA(q, i), 512, type == VIRTIO_BLK_T_IN },
					 { STATUS(q, i), 1, true } };
	const struct fake_buf without[] = { bufs[0], bufs[2] };
	uint8_t header[16] = { 0 };

	store_le32(header, type);
	store_le64(header + 8, sector);
	fake_driver_write(&d, HEADER(q, i), header, sizeof(header));
	fake_driver_fill(&d, STATUS(q, i), NO_STATUS, 1);
	(void)fake_ring_add(&d.rings[q], data ? bufs : without, data ? 3 : 2);
}

static void add_reads(uint32_t q, uint32_t from, uint32_t count)
{
	for (uint32_t i = from; i < from + count; i++) {
		add(q, i, VIRTIO_BLK_T_IN, q * 100 + i);
	}
}

static uint8_t byte_at(uint64_t gpa)
{
	uint8_t byte;

	fake_driver_read(&d, gpa, &byte, 1);
	return byte;
}

static uint16_t used(uint32_t q)
{
	return fake_ring_used_idx(&d.rings[q]);
}

static void expect_used(uint32_t q, uint16_t count)
{
	ck_assert_msg(fake_driver_wait_used(&d, q, count), "queue %u has used %u, not %u", q,
		      used(q), count);
}

/* ---- what the driver is told ---- */

START_TEST(test_configuration)
{
	struct virtio_blk_config config;
	struct block_memory *one;
	struct virtio_device *single;

	ck_assert_uint_eq(dev->queue_count, QUEUES);
	ck_assert((fake_driver_offered(&d) & FEATURE(VIRTIO_BLK_F_MQ)) != 0);
	(void)pthread_mutex_lock(&dev->lock);
	virtio_config_read(dev, 0, &config, sizeof(config));
	(void)pthread_mutex_unlock(&dev->lock);
	ck_assert_uint_eq(le16toh(config.num_queues), QUEUES);

	check_ok(block_memory_create(&one, CAPACITY, &e), &e);
	check_ok(virtio_blk_create(&single, "vdb", &one->block, &d.mem, d.workers, &e), &e);
	ck_assert_uint_eq(single->queue_count, 1);
	ck_assert((single->features_offered & FEATURE(VIRTIO_BLK_F_MQ)) == 0);
	(void)pthread_mutex_lock(&single->lock);
	virtio_config_read(single, 0, &config, sizeof(config));
	(void)pthread_mutex_unlock(&single->lock);
	ck_assert_uint_eq(le16toh(config.num_queues), 0);
	single->ops->destroy(single);
}
END_TEST

/* ---- one disk ---- */

START_TEST(test_each_queue_sees_the_disk)
{
	start();
	for (uint32_t from = 0; from < QUEUES; from++) {
		for (uint32_t to = 0; to < QUEUES; to++) {
			uint16_t before = used(from);

			fake_driver_fill(&d, DATA(from, 0), (uint8_t)(16 * from + to + 1), 512);
			add(from, 0, VIRTIO_BLK_T_OUT, from * QUEUES + to);
			fake_driver_kick(&d, from);
			expect_used(from, (uint16_t)(before + 1));
			before = used(to);
			add(to, 1, VIRTIO_BLK_T_IN, from * QUEUES + to);
			fake_driver_kick(&d, to);
			expect_used(to, (uint16_t)(before + 1));
			ck_assert_uint_eq(byte_at(STATUS(to, 1)), VIRTIO_BLK_S_OK);
			ck_assert_uint_eq(byte_at(DATA(to, 1)), 16 * from + to + 1);
		}
	}
	for (uint32_t q = 0; q < QUEUES; q++) {
		/* Of its own queue. */
		ck_assert_uint_eq(atomic_load(&d.queue_interrupts[q]), 2 * QUEUES);
		ck_assert_uint_eq(disk.memory[q]->ops[BLOCK_READ], QUEUES);
		ck_assert_uint_eq(disk.memory[q]->ops[BLOCK_WRITE], QUEUES);
	}
}
END_TEST

/* A slow request of one queue keeps no other waiting. */
START_TEST(test_queues_do_not_wait_for_each_other)
{
	start();
	hold_reads(&disk, 1, 5);
	add_reads(1, 0, 5);
	fake_driver_kick(&d, 1);
	for (uint32_t q = 0; q < QUEUES; q++) {
		if (q != 1) {
			add_reads(q, 0, 20);
			add(q, 20, VIRTIO_BLK_T_FLUSH, 0);
			fake_driver_kick(&d, q);
			expect_used(q, 21);
			ck_assert_uint_eq(byte_at(STATUS(q, 20)), VIRTIO_BLK_S_OK);
		}
	}
	ck_assert_uint_eq(used(1), 0);
	ck_assert_uint_eq(disk.fault[1]->held_count, 5);
}
END_TEST

START_TEST(test_counters_are_sums)
{
	struct virtio_blk_counters c;

	start();
	for (uint32_t q = 0; q < QUEUES; q++) {
		add_reads(q, 0, 3);
		add(q, 3, VIRTIO_BLK_T_OUT, 0);
		add(q, 4, VIRTIO_BLK_T_FLUSH, 0);
		add(q, 5, VIRTIO_BLK_T_IN, CAPACITY / 512);
		add(q, 6, 77, 0);
		fake_driver_kick(&d, q);
		expect_used(q, 7);
	}
	virtio_blk_read_counters(dev, &c);
	ck_assert_uint_eq(c.reads, 3 * QUEUES);
	ck_assert_uint_eq(c.read_bytes, 3 * QUEUES * 512);
	ck_assert_uint_eq(c.writes, QUEUES);
	ck_assert_uint_eq(c.written_bytes, QUEUES * 512);
	ck_assert_uint_eq(c.flushes, QUEUES);
	ck_assert_uint_eq(c.errors, QUEUES);
	ck_assert_uint_eq(c.unsupported, QUEUES);
	ck_assert_uint_ge(c.batches, QUEUES);
}
END_TEST

/* A driver that knows nothing of MQ: one queue is set up, the others stay as they were. */
START_TEST(test_driver_with_one_queue)
{
	fake_driver_reset(&d);
	ck_assert(fake_driver_negotiate(&d,
					FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_F_VERSION_1)));
	fake_driver_setup_queue(&d, 0, QUEUE_SIZE);
	fake_driver_set_status(&d, 0xf);
	add_reads(0, 0, 3);
	for (uint32_t q = 0; q < QUEUES; q++) {
		fake_driver_kick(&d, q);
	}
	expect_used(0, 3);
	ck_assert_uint_eq(fake_driver_status(&d), 0xf);
}
END_TEST

/* One ring that is broken stops the device, and a reset revives all of it. */
START_TEST(test_one_broken_ring)
{
	start();
	fake_ring_set_avail_idx(&d.rings[2], 0x7fff);
	fake_driver_kick(&d, 2);
	ck_assert((fake_driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0);
	add_reads(0, 0, 1);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(used(0), 0);
	start();
	for (uint32_t q = 0; q < QUEUES; q++) {
		add_reads(q, 0, 4);
		fake_driver_kick(&d, q);
		expect_used(q, 4);
	}
}
END_TEST

/* ---- pause and state ---- */

/* Whatever is in flight on whichever queue is completed before the device is quiet. */
START_TEST(test_quiesce)
{
	struct fake_driver unused;
	struct virtio_device *into;
	struct disk empty;

	start();
	for (uint32_t q = 0; q < QUEUES; q++) {
		hold_reads(&disk, q, q + 1);
		add_reads(q, 0, q + 1);
		fake_driver_kick(&d, q);
		ck_assert_uint_eq(disk.fault[q]->held_count, q + 1);
	}
	virtio_device_quiesce(dev);
	for (uint32_t q = 0; q < QUEUES; q++) {
		ck_assert_uint_eq(used(q), q + 1);
		ck_assert_uint_eq(dev->queues[q].ring.in_flight_count, 0);
		ck_assert_uint_eq(disk.fault[q]->block.in_flight, 0);
	}
	fake_driver_init_queues(&unused, QUEUES);
	check_ok(virtio_blk_create(&into, "vdb", make_disk(&empty, CAPACITY, 0), &d.mem,
				   unused.workers, &e),
		 &e);
	check_state_round_trip(&virtio_device_state, dev, into);
	check_state_round_trip(dev->ops->state, dev, into);
	for (uint32_t q = 0; q < QUEUES; q++) {
		check_state_round_trip(&virtqueue_state, &dev->queues[q].ring,
				       &into->queues[q].ring);
		ck_assert_uint_eq(into->queues[q].ring.state.used_next, q + 1);
		ck_assert_uint_eq(into->queues[q].ring.state.used_gpa, d.rings[q].used_gpa);
	}
	into->ops->destroy(into);
	fake_driver_finish(&unused);
	virtio_device_resume(dev);
	for (uint32_t q = 0; q < QUEUES; q++) {
		add_reads(q, q + 1, 1);
		fake_driver_kick(&d, q);
		expect_used(q, (uint16_t)(q + 2));
	}
}
END_TEST

/* ---- one limit ---- */

static const struct rate_limit_config unlimited = { .has_bandwidth = true, .has_ops = true };

static uint32_t used_in_all(void)
{
	uint32_t sum = 0;

	for (uint32_t q = 0; q < QUEUES; q++) {
		sum += used(q);
	}
	return sum;
}

/* What one queue has taken is not there for another. */
START_TEST(test_limit_is_of_the_disk)
{
	const struct rate_limit_config limit = { .ops = { 10, 0, HOUR_MS }, .has_ops = true };

	virtio_blk_init_limit(dev, &limit);
	start();
	for (uint32_t q = 0; q < QUEUES; q++) {
		add_reads(q, 0, 7);
		fake_driver_kick(&d, q);
	}
	ck_assert_uint_eq(used(0), 7);
	ck_assert_uint_eq(used(1), 3);
	ck_assert_uint_eq(used_in_all(), 10);
	virtio_blk_limit(dev, &unlimited); /* those that wait are woken, all of them */
	for (uint32_t q = 0; q < QUEUES; q++) {
		expect_used(q, 7);
	}
}
END_TEST

/* All queues go on at the rate of the disk: none is left behind. */
START_TEST(test_limit_serves_all)
{
	const struct rate_limit_config limit = { .ops = { 2, 0, 1 }, .has_ops = true };

	virtio_blk_init_limit(dev, &limit);
	start();
	for (uint32_t q = 0; q < QUEUES; q++) {
		add_reads(q, 0, 20);
		virtio_kick(dev, q);
	}
	for (uint32_t q = 0; q < QUEUES; q++) {
		expect_used(q, 20);
	}
}
END_TEST

/* Kicks of all queues at once take no more than there is, and what little they take together too
 * much. */
START_TEST(test_limit_races)
{
	const struct rate_limit_config limit = { .ops = { 8, 0, HOUR_MS }, .has_ops = true };

	virtio_blk_init_limit(dev, &limit);
	start();
	for (uint32_t q = 0; q < QUEUES; q++) {
		add_reads(q, 0, 16);
	}
	for (uint32_t q = 0; q < QUEUES; q++) {
		virtio_kick(dev, q);
	}
	fake_driver_sync(&d);
	ck_assert_uint_ge(used_in_all(), 8);
	ck_assert_uint_lt(used_in_all(), 8 + QUEUES);
}
END_TEST

/* ---- another disk ---- */

static void replace(void)
{
	struct block *before = virtio_blk_disk(dev), *old = NULL;

	check_ok(virtio_blk_replace(dev, make_disk(&other, CAPACITY, 0x77), &old, &e), &e);
	ck_assert_ptr_eq(old, before);
	ck_assert_uint_eq(block_count(old), QUEUES);
	for (const struct block *b = old; b != NULL; b = b->more) {
		ck_assert_uint_eq(b->in_flight, 0);
		ck_assert_ptr_null(b->completed);
	}
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	block_close(old);
}

START_TEST(test_replace)
{
	start();
	for (uint32_t q = 0; q < QUEUES; q++) {
		hold_reads(&disk, q, 2);
		add_reads(q, 0, 2);
		fake_driver_kick(&d, q);
		ck_assert_uint_eq(used(q), 0);
	}
	replace();
	for (uint32_t q = 0; q < QUEUES; q++) {
		/* Answered by the disk that they were sent to. */
		ck_assert_uint_eq(used(q), 2);
		ck_assert_uint_eq(byte_at(DATA(q, 0)), 0);
		add_reads(q, 2, 1);
		fake_driver_kick(&d, q);
		expect_used(q, 3);
		ck_assert_uint_eq(byte_at(DATA(q, 2)), 0x77);
		ck_assert_mem_eq(other.fault[q]->block.serial, "serial-of-20-letters",
				 BLOCK_SERIAL_SIZE);
	}
}
END_TEST

/* While requests come without a pause: each is answered by one of the two, and none is lost. */
START_TEST(test_replace_often)
{
	start();
	for (uint32_t round = 0; round < 10; round++) {
		struct block *old = NULL;

		for (uint32_t q = 0; q < QUEUES; q++) {
			add_reads(q, round * 4, 4);
			virtio_kick(dev, q);
		}
		check_ok(virtio_blk_replace(dev, make_disk(&other, CAPACITY, (uint8_t)(round + 1)),
					    &old, &e),
			 &e);
		block_close(old);
	}
	for (uint32_t q = 0; q < QUEUES; q++) {
		expect_used(q, 40);
		for (uint32_t i = 0; i < 40; i++) {
			uint8_t byte = byte_at(DATA(q, i));

			ck_assert_uint_eq(byte_at(STATUS(q, i)), VIRTIO_BLK_S_OK);
			ck_assert(byte == i / 4 || byte == i / 4 + 1);
		}
	}
}
END_TEST

static int failing_attach(struct block *b, struct loop *loop, struct error *error)
{
	(void)b;
	(void)loop;
	return error_set(error, ERROR_DISK, EIO, "no attaching today");
}

/* If one queue cannot have the new disk, none has it, and all go on with the old one. */
START_TEST(test_replace_refused)
{
	struct block *next = make_disk(&other, CAPACITY, 0x77);
	struct block_ops spoilt = *other.fault[_i]->block.ops;
	struct block *old = NULL;

	spoilt.attach = failing_attach;
	other.fault[_i]->block.ops = &spoilt;
	start();
	for (uint32_t q = 0; q < QUEUES; q++) {
		add_reads(q, 0, 2);
		fake_driver_kick(&d, q);
	}
	ck_assert_int_lt(virtio_blk_replace(dev, next, &old, &e), 0);
	check_error(&e, ERROR_DISK, "no attaching today");
	ck_assert_ptr_null(old);
	for (uint32_t q = 0; q < QUEUES; q++) {
		ck_assert_ptr_null(other.fault[q]->block.completed);
		ck_assert_uint_eq(other.fault[q]->block.in_flight, 0);
	}
	block_close(next);
	ck_assert_ptr_eq(virtio_blk_disk(dev), &disk.fault[0]->block);
	for (uint32_t q = 0; q < QUEUES; q++) {
		add_reads(q, 2, 2);
		fake_driver_kick(&d, q);
		expect_used(q, 4);
		ck_assert_uint_eq(byte_at(DATA(q, 3)), 0);
	}
	ck_assert_uint_eq(fake_driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}
END_TEST

/* A disk that was opened for fewer workers is not taken. */
START_TEST(test_replace_by_too_few)
{
	struct block *next = make_disk(&other, CAPACITY, 0x77), *old = NULL;
	struct block *rest = other.fault[1]->block.more;

	other.fault[1]->block.more = NULL;
	start();
	ck_assert_int_lt(virtio_blk_replace(dev, next, &old, &e), 0);
	check_error(&e, ERROR_INTERNAL, "for 2 queues, and the device has 4");
	block_close(rest);
	block_close(next);
}
END_TEST

/* ---- all at once ---- */

#define LANES 16 /* requests in flight of each queue */

/* Every queue writes and reads back sectors of its own, as deep as it goes. */
START_TEST(test_all_queues_busy)
{
	start();
	for (uint32_t round = 0; round < 50; round++) {
		for (uint32_t q = 0; q < QUEUES; q++) {
			for (uint32_t i = 0; i < LANES; i++) {
				fake_driver_fill(&d, DATA(q, i), (uint8_t)(round + q * 50 + i),
						 512);
				add(q, i, VIRTIO_BLK_T_OUT, q * 100 + i);
			}
			virtio_kick(dev, q);
		}
		for (uint32_t q = 0; q < QUEUES; q++) {
			expect_used(q, (uint16_t)(2 * LANES * round + LANES));
			for (uint32_t i = 0; i < LANES; i++) {
				fake_driver_fill(&d, DATA(q, i), 0, 512);
				add(q, i, VIRTIO_BLK_T_IN, q * 100 + i);
			}
			virtio_kick(dev, q);
		}
		for (uint32_t q = 0; q < QUEUES; q++) {
			expect_used(q, (uint16_t)(2 * LANES * (round + 1)));
			for (uint32_t i = 0; i < LANES; i++) {
				ck_assert_uint_eq(byte_at(STATUS(q, i)), VIRTIO_BLK_S_OK);
				ck_assert_uint_eq(byte_at(DATA(q, i)),
						  (uint8_t)(round + q * 50 + i));
			}
		}
	}
}
END_TEST

CHECK_MAIN("blk_queues", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_configuration);
	   CHECK_TEST(test_each_queue_sees_the_disk);
	   CHECK_TEST(test_queues_do_not_wait_for_each_other); CHECK_TEST(test_counters_are_sums);
	   CHECK_TEST(test_driver_with_one_queue); CHECK_TEST(test_one_broken_ring);
	   CHECK_TEST(test_quiesce); CHECK_TEST(test_limit_is_of_the_disk);
	   CHECK_TEST(test_limit_serves_all); CHECK_TEST(test_limit_races);
	   CHECK_TEST(test_replace); CHECK_TEST(test_replace_often);
	   CHECK_LOOP(test_replace_refused, QUEUES); CHECK_TEST(test_replace_by_too_few);
	   CHECK_TEST(test_all_queues_busy))
