/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be set on a block device beside its disk: limits, an unsafe cache, another disk in place
 * of the one it has. With a driver that kicks when it likes.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>

#include "harness/check_main.h"
#include "harness/fake_driver.h"
#include "vmm/block_test.h"
#include "vmm/bytes.h"
#include "vmm/virtio_blk.h"

#define FEATURE(bit) (UINT64_C(1) << (bit))
#define FEATURES                                                       \
	(FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_DISCARD) | \
	 FEATURE(VIRTIO_BLK_F_WRITE_ZEROES))
#define CAPACITY  MIB(1)
#define HEADER(i) (FAKE_DATA + (i)*16ULL)
#define STATUS(i) (FAKE_DATA + 0x8000 + (i))
#define DATA(i)	  (FAKE_DATA + 0x10000 + (i)*KIB(4))
#define NO_STATUS 0xee
#define HOUR_MS	  3600000

static struct fake_driver d;
static struct block_memory *memory, *other;
static struct block_fault *fault;
static struct virtio_device *dev;
static struct error e;

static void start(void)
{
	ck_assert(fake_driver_start(&d, FEATURES, VIRTIO_BLK_QUEUE_SIZE));
}

static void setup(void)
{
	e = (struct error){ 0 };
	check_ok(block_memory_create(&memory, CAPACITY, &e), &e);
	check_ok(block_fault_create(&fault, &memory->block, &e), &e);
	memcpy(fault->block.serial, "serial-of-20-letters", BLOCK_SERIAL_SIZE);
	fake_driver_init(&d);
	check_ok(virtio_blk_create(&dev, "vda", &fault->block, &d.mem, d.workers, &e), &e);
	fake_driver_attach(&d, dev);
}

static void teardown(void)
{
	fake_driver_finish(&d);
}

static struct virtio_blk_counters counters(void)
{
	struct virtio_blk_counters c;

	virtio_blk_read_counters(dev, &c);
	return c;
}

/* Request number `i` of the test; no kick. */
static void add(uint32_t i, uint32_t type, uint64_t sector, uint32_t len)
{
	const struct fake_buf bufs[] = { { HEADER(i), 16, false },
					 { DATA(i), len, type == VIRTIO_BLK_T_IN },
					 { STATUS(i), 1, true } };
	const struct fake_buf without[] = { { HEADER(i), 16, false }, { STATUS(i), 1, true } };
	uint8_t header[16] = { 0 };

	store_le32(header, type);
	store_le64(header + 8, sector);
	fake_driver_write(&d, HEADER(i), header, sizeof(header));
	fake_driver_fill(&d, STATUS(i), NO_STATUS, 1);
	if (len != 0) {
		(void)fake_ring_add(&d.rings[0], bufs, 3);
	} else {
		(void)fake_ring_add(&d.rings[0], without, 2);
	}
}

static void add_reads(uint32_t from, uint32_t count, uint32_t len)
{
	for (uint32_t i = from; i < from + count; i++) {
		add(i, VIRTIO_BLK_T_IN, i, len);
	}
}

static uint8_t status(uint32_t i)
{
	uint8_t value;

	fake_driver_read(&d, STATUS(i), &value, 1);
	return value;
}

static uint8_t first_byte(uint32_t i)
{
	uint8_t value;

	fake_driver_read(&d, DATA(i), &value, 1);
	return value;
}

static uint16_t used(void)
{
	return fake_ring_used_idx(&d.rings[0]);
}

/* Exactly the first `count` requests are answered, whatever kicks and calls come. */
static void expect_answered(uint32_t count, uint32_t of)
{
	for (int i = 0; i < 3; i++) {
		fake_driver_kick(&d, 0);
		fake_driver_sync(&d);
	}
	ck_assert_uint_eq(used(), count);
	for (uint32_t i = 0; i < of; i++) {
		ck_assert_msg((status(i) == VIRTIO_BLK_S_OK) == (i < count), "request %u: 0x%x", i,
			      status(i));
	}
}

static struct rate_limit_config ops_per_hour(uint64_t size, uint64_t burst)
{
	return (struct rate_limit_config){ .ops = { size, burst, HOUR_MS }, .has_ops = true };
}

static const struct rate_limit_config unlimited = { .has_bandwidth = true, .has_ops = true };

/* ---- limits ---- */

static const struct limit_row {
	struct rate_limit_config limit;
	uint32_t len, passes; /* of 8 requests */
} limits[] = {
	{ { .ops = { 3, 0, HOUR_MS }, .has_ops = true }, 512, 3 },
	{ { .ops = { 3, 2, HOUR_MS }, .has_ops = true }, 512, 5 },
	{ { .bandwidth = { 1024, 0, HOUR_MS }, .has_bandwidth = true }, 512, 2 },
	{ { .bandwidth = { 1024, 1024, HOUR_MS }, .has_bandwidth = true }, 512, 4 },
	/* What is larger than the bucket passes, with a debt. */
	{ { .bandwidth = { 512, 0, HOUR_MS }, .has_bandwidth = true }, 4096, 1 },
	{ { .bandwidth = { 513, 0, HOUR_MS }, .has_bandwidth = true }, 512, 2 },
	/* The tighter one counts. */
	{ { .bandwidth = { 4096, 0, HOUR_MS },
	    .ops = { 2, 0, HOUR_MS },
	    .has_bandwidth = true,
	    .has_ops = true },
	  512,
	  2 },
	{ { .has_bandwidth = true, .has_ops = true }, 512, 8 },
	{ { .bandwidth = { 0, 100, HOUR_MS }, .has_bandwidth = true }, 512, 8 },
	{ { .ops = { 1, 100, 0 }, .has_ops = true }, 512, 8 },
	/* The longest delays that can be said. */
	{ { .ops = { 1, 0, UINT64_MAX }, .has_ops = true }, 512, 1 },
	{ { .bandwidth = { 1, 0, UINT64_MAX }, .has_bandwidth = true }, 4096, 1 },
};

START_TEST(test_limit_holds_back)
{
	const struct limit_row *row = &limits[_i];

	virtio_blk_init_limit(dev, &row->limit);
	start();
	add_reads(0, 8, row->len);
	expect_answered(row->passes, 8);
	/* Lifted: all go on, in their order. */
	virtio_blk_limit(dev, &unlimited);
	expect_answered(8, 8);
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t id, len;

		ck_assert(fake_ring_used(&d.rings[0], &id, &len));
		ck_assert_uint_eq(id, i * 3);
		ck_assert_uint_eq(len, row->len + 1);
	}
}
END_TEST

/* Requests of all kinds are operations. */
START_TEST(test_limit_counts_all_kinds)
{
	const struct rate_limit_config limit = ops_per_hour(3, 0);

	virtio_blk_init_limit(dev, &limit);
	start();
	add(0, VIRTIO_BLK_T_FLUSH, 0, 0);
	add(1, VIRTIO_BLK_T_OUT, 0, 512);
	add(2, VIRTIO_BLK_T_FLUSH, 0, 0);
	add(3, VIRTIO_BLK_T_FLUSH, 0, 0);
	expect_answered(3, 4);
}
END_TEST

/* A limit that is set while the device runs counts from there on. */
START_TEST(test_limit_begins_later)
{
	const struct rate_limit_config limit = ops_per_hour(1, 0);

	start();
	add_reads(0, 4, 512);
	expect_answered(4, 4);
	virtio_blk_limit(dev, &limit);
	add_reads(4, 3, 512);
	expect_answered(5, 7);
	/* Only what is given changes: the operations stay limited. */
	virtio_blk_limit(dev, &(struct rate_limit_config){ .has_bandwidth = true });
	expect_answered(5, 7);
	virtio_blk_limit(dev, &unlimited);
	expect_answered(7, 7);
}
END_TEST

/* The timer goes on by itself: one kick, and everything is answered, once, in order. */
START_TEST(test_limit_goes_on)
{
	const struct rate_limit_config limit = { .ops = { 7, 0, 5 }, .has_ops = true };
	uint32_t id, len;

	virtio_blk_init_limit(dev, &limit);
	start();
	add_reads(0, 60, 512);
	fake_driver_kick(&d, 0);
	ck_assert(fake_driver_wait_used(&d, 0, 60));
	for (uint32_t i = 0; i < 60; i++) {
		ck_assert(fake_ring_used(&d.rings[0], &id, &len));
		ck_assert_uint_eq(id, i * 3);
		ck_assert_uint_eq(status(i), VIRTIO_BLK_S_OK);
	}
	ck_assert(!fake_ring_used(&d.rings[0], &id, &len));
	ck_assert_uint_eq(counters().reads, 60);
}
END_TEST

static void release_all(void *arg)
{
	(void)arg;
	(void)block_fault_release(fault, UINT32_MAX);
}

/* What was taken before is shown as it finishes, and takes nothing along. */
START_TEST(test_limit_with_requests_in_flight)
{
	const struct rate_limit_config limit = ops_per_hour(4, 0);

	virtio_blk_init_limit(dev, &limit);
	start();
	block_fault_add(fault, &(struct block_fault_rule){ .ops = 1U << BLOCK_READ,
							   .count = 4,
							   .kind = BLOCK_FAULT_HOLD });
	add_reads(0, 9, 512);
	expect_answered(0, 9);
	ck_assert_uint_eq(fault->held_count, 4);
	worker_call(&d.workers[0], release_all, NULL);
	expect_answered(4, 9);
	virtio_blk_limit(dev, &unlimited);
	expect_answered(9, 9);
}
END_TEST

/* A pause ends the delay without giving anything away; so does a reset by the driver. */
START_TEST(test_limit_and_stops)
{
	const struct rate_limit_config limit = ops_per_hour(2, 0);

	virtio_blk_init_limit(dev, &limit);
	start();
	add_reads(0, 5, 512);
	expect_answered(2, 5);
	for (int i = 0; i < 3; i++) {
		virtio_device_quiesce(dev);
		fake_driver_sync(&d);
		ck_assert_uint_eq(used(), 2);
		virtio_device_resume(dev);
		expect_answered(2, 5);
	}
	virtio_device_quiesce(dev);
	virtio_blk_limit(dev, &unlimited);
	fake_driver_sync(&d);
	ck_assert_uint_eq(used(), 2);
	virtio_device_resume(dev);
	expect_answered(5, 5);
	virtio_blk_limit(dev, &limit);
	start();
	add_reads(0, 5, 512);
	expect_answered(2, 5);
	/* The next driver finds the bucket as this one left it. */
	start();
	add_reads(0, 5, 512);
	expect_answered(0, 5);
}
END_TEST

/* A device that its driver has broken stays so when a delay ends. */
START_TEST(test_limit_and_broken_ring)
{
	const struct rate_limit_config limit = ops_per_hour(1, 0);
	const struct fake_buf outside = { FAKE_LOW_SIZE, 16, false };

	virtio_blk_init_limit(dev, &limit);
	start();
	add_reads(0, 1, 512);
	(void)fake_ring_add(&d.rings[0], &outside, 1);
	add_reads(1, 1, 512);
	expect_answered(1, 2);
	ck_assert_uint_eq(fake_driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	virtio_blk_limit(dev, &unlimited);
	fake_driver_sync(&d);
	ck_assert_uint_ne(fake_driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	ck_assert_uint_eq(used(), 1);
	virtio_blk_limit(dev, &limit);
	virtio_blk_limit(dev, &unlimited);
	ck_assert_uint_eq(used(), 1);
}
END_TEST

/* ---- cache ---- */

START_TEST(test_unsafe)
{
	virtio_blk_make_unsafe(dev);
	ck_assert_uint_eq(fake_driver_offered(&d) &
				  (FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE)),
			  0);
	ck_assert(!fake_driver_start(&d, FEATURES, VIRTIO_BLK_QUEUE_SIZE));
	ck_assert(fake_driver_start(&d, FEATURE(VIRTIO_BLK_F_DISCARD), VIRTIO_BLK_QUEUE_SIZE));
	add(0, VIRTIO_BLK_T_OUT, 0, 512);
	add(1, VIRTIO_BLK_T_FLUSH, 0, 0);
	fake_driver_kick(&d, 0);
	ck_assert(fake_driver_wait_used(&d, 0, 2));
	ck_assert_uint_eq(status(0), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(status(1), VIRTIO_BLK_S_UNSUPP);
	ck_assert_uint_eq(memory->ops[BLOCK_WRITE], 1);
	ck_assert_uint_eq(memory->fua_writes, 0);
	ck_assert_uint_eq(memory->ops[BLOCK_FLUSH], 0);
}
END_TEST

/* ---- another disk ---- */

static uint64_t told_capacity(void)
{
	uint64_t sectors = 0;

	(void)pthread_mutex_lock(&dev->lock);
	virtio_config_read(dev, 0, &sectors, sizeof(sectors));
	(void)pthread_mutex_unlock(&dev->lock);
	return le64toh(sectors) * 512;
}

/* A disk full of `fill`, in `other`. */
static void make_other(uint64_t capacity, uint8_t fill)
{
	check_ok(block_memory_create(&other, capacity, &e), &e);
	memset(other->data, fill, capacity);
}

static void replace(void)
{
	struct block *before = virtio_blk_disk(dev), *old = NULL;

	check_ok(virtio_blk_replace(dev, &other->block, &old, &e), &e);
	ck_assert_ptr_eq(old, before);
	ck_assert_ptr_eq(virtio_blk_disk(dev), &other->block);
	ck_assert_uint_eq(old->in_flight, 0);
	ck_assert_ptr_null(old->completed);
	block_close(old);
}

static const uint64_t sizes[] = { CAPACITY, MIB(2), KIB(64), 512 };

START_TEST(test_replace)
{
	uint32_t generation = atomic_load(&dev->state.config_generation);

	start();
	add_reads(0, 1, 512);
	expect_answered(1, 1);
	ck_assert_uint_eq(first_byte(0), 0);
	make_other(sizes[_i], 0x77);
	replace();
	ck_assert_uint_eq(told_capacity(), sizes[_i]);
	ck_assert_uint_ne(atomic_load(&dev->state.config_generation), generation);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	ck_assert_mem_eq(other->block.serial, "serial-of-20-letters", BLOCK_SERIAL_SIZE);
	add(1, VIRTIO_BLK_T_IN, sizes[_i] / 512 - 1, 512);
	add(2, VIRTIO_BLK_T_IN, sizes[_i] / 512, 512);
	fake_driver_kick(&d, 0);
	ck_assert(fake_driver_wait_used(&d, 0, 3));
	ck_assert_uint_eq(status(1), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(first_byte(1), 0x77);
	ck_assert_uint_eq(status(2), VIRTIO_BLK_S_IOERR);
}
END_TEST

/* What is in flight is answered by the disk that it was sent to, and nothing gets lost. */
START_TEST(test_replace_in_flight)
{
	start();
	block_fault_add(fault, &(struct block_fault_rule){ .ops = 1U << BLOCK_READ,
							   .count = 5,
							   .kind = BLOCK_FAULT_HOLD });
	add_reads(0, 5, 512);
	expect_answered(0, 5);
	ck_assert_uint_eq(fault->held_count, 5);
	make_other(CAPACITY, 0x77);
	replace();
	ck_assert_uint_eq(used(), 5);
	for (uint32_t i = 0; i < 5; i++) {
		ck_assert_uint_eq(first_byte(i), 0);
	}
	add_reads(5, 5, 512);
	expect_answered(10, 10);
	ck_assert_uint_eq(first_byte(9), 0x77);
}
END_TEST

/* A device that is paused, throttled, or has no driver yet. */
START_TEST(test_replace_at_rest)
{
	const struct rate_limit_config limit = ops_per_hour(1, 0);

	make_other(MIB(2), 0x11);
	replace();
	ck_assert_uint_eq(told_capacity(), MIB(2));
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	virtio_blk_init_limit(dev, &limit);
	start();
	add_reads(0, 3, 512);
	expect_answered(1, 3);
	ck_assert_uint_eq(first_byte(0), 0x11);
	make_other(MIB(3), 0x22);
	replace();
	expect_answered(1, 3);
	virtio_device_quiesce(dev);
	make_other(MIB(4), 0x33);
	replace();
	virtio_blk_limit(dev, &unlimited);
	ck_assert_uint_eq(used(), 1);
	virtio_device_resume(dev);
	expect_answered(3, 3);
	ck_assert_uint_eq(first_byte(2), 0x33);
	ck_assert_uint_eq(told_capacity(), MIB(4));
}
END_TEST

/* Many times between requests of a driver that does not wait. */
START_TEST(test_replace_often)
{
	start();
	for (uint32_t i = 0; i < 40; i++) {
		add_reads(i, 1, 512);
		virtio_kick(dev, 0);
		make_other(CAPACITY, (uint8_t)(i + 1));
		replace();
	}
	ck_assert(fake_driver_wait_used(&d, 0, 40));
	for (uint32_t i = 0; i < 40; i++) {
		ck_assert_uint_eq(status(i), VIRTIO_BLK_S_OK);
		/* Of the disk before or the one after. */
		ck_assert(first_byte(i) == i || first_byte(i) == i + 1);
	}
}
END_TEST

static int failing_attach(struct block *b, struct loop *loop, struct error *error)
{
	(void)b;
	(void)loop;
	return error_set(error, ERROR_DISK, EIO, "no attaching today");
}

static struct block_ops spoilt_ops;

static void spoil_attach(void)
{
	spoilt_ops = *other->block.ops;
	spoilt_ops.attach = failing_attach;
	other->block.ops = &spoilt_ops;
}
static void spoil_read_only(void)
{
	other->block.read_only = true;
}
static void spoil_blocks(void)
{
	other->block.logical_block = other->block.physical_block = 4096;
}

static const struct refusal_row {
	void (*spoil)(void);
	const char *text;
} refusals[] = {
	{ spoil_attach, "no attaching today" },
	{ spoil_read_only, "read-only" },
	{ spoil_blocks, "4096 bytes" },
};

/* Refused: the old disk goes on as if nothing had been. */
START_TEST(test_replace_refused)
{
	struct block *before = virtio_blk_disk(dev), *old = NULL;

	start();
	make_other(MIB(2), 0x77);
	refusals[_i].spoil();
	ck_assert_int_lt(virtio_blk_replace(dev, &other->block, &old, &e), 0);
	check_error(&e, ERROR_DISK, refusals[_i].text);
	block_close(&other->block);
	ck_assert_ptr_null(old);
	ck_assert_ptr_eq(virtio_blk_disk(dev), before);
	ck_assert_uint_eq(told_capacity(), CAPACITY);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	ck_assert_uint_eq(fake_driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	add_reads(0, 3, 512);
	expect_answered(3, 3);
	ck_assert_uint_eq(first_byte(2), 0);
}
END_TEST

/* The new disk can do less than the driver has been told. */
START_TEST(test_replace_by_a_poorer_disk)
{
	struct virtio_blk_discard_write_zeroes range = { 0, htole32(1), 0 };

	start();
	make_other(CAPACITY, 0x77);
	other->block.can_discard = other->block.can_write_zeroes = false;
	replace();
	for (uint32_t i = 0; i < 2; i++) {
		add(i, i == 0 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(range));
		fake_driver_write(&d, DATA(i), &range, sizeof(range));
	}
	fake_driver_kick(&d, 0);
	ck_assert(fake_driver_wait_used(&d, 0, 2));
	ck_assert_uint_eq(status(0), VIRTIO_BLK_S_UNSUPP);
	ck_assert_uint_eq(status(1), VIRTIO_BLK_S_UNSUPP);
}
END_TEST

CHECK_MAIN("blk_changes", CHECK_FIXTURE(setup, teardown);
	   CHECK_TABLE(test_limit_holds_back, limits); CHECK_TEST(test_limit_counts_all_kinds);
	   CHECK_TEST(test_limit_begins_later); CHECK_TEST(test_limit_goes_on);
	   CHECK_TEST(test_limit_with_requests_in_flight); CHECK_TEST(test_limit_and_stops);
	   CHECK_TEST(test_limit_and_broken_ring); CHECK_TEST(test_unsafe);
	   CHECK_TABLE(test_replace, sizes); CHECK_TEST(test_replace_in_flight);
	   CHECK_TEST(test_replace_at_rest); CHECK_TEST(test_replace_often);
	   CHECK_TABLE(test_replace_refused, refusals); CHECK_TEST(test_replace_by_a_poorer_disk))
