/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"
#include "harness/fake_driver.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include "vmm/virtio_entropy.h"

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT  (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

static struct fake_driver d;
static struct virtio_device *dev;

static void setup(void)
{
	struct error e = { 0 };

	fake_driver_init(&d);
	check_ok(virtio_entropy_create(&dev, "rng0", &d.mem, d.workers, &e), &e);
	fake_driver_attach(&d, dev);
	ck_assert(fake_driver_start(&d, EVENT_IDX | INDIRECT, VIRTIO_ENTROPY_QUEUE_SIZE));
}

static void teardown(void)
{
	fake_driver_finish(&d);
}

static uint32_t used_len(uint16_t head)
{
	uint32_t id, len;

	ck_assert(fake_ring_used(&d.rings[0], &id, &len));
	ck_assert_uint_eq(id, head);
	return len;
}

/* Random bytes have no zero runs: 16 zeroes in a row come by chance once in 2^128. */
static bool random_looking(uint64_t gpa, size_t len)
{
	static const uint8_t zeroes[16];

	for (size_t i = 0; i + sizeof(zeroes) <= len; i += sizeof(zeroes)) {
		uint8_t bytes[sizeof(zeroes)];

		fake_driver_read(&d, gpa + i, bytes, sizeof(bytes));
		if (memcmp(bytes, zeroes, sizeof(bytes)) == 0) {
			return false;
		}
	}
	return true;
}

START_TEST(test_identity)
{
	ck_assert_uint_eq(dev->ops->id, VIRTIO_ID_RNG);
	ck_assert_uint_eq(dev->queue_count, 1);
	ck_assert_uint_eq(dev->config_size, 0);
	ck_assert_str_eq(dev->ops->syscalls.rules[0].name, "getrandom");
}
END_TEST

/* T-D14: what used.len says is written, what is beyond it is not. */
START_TEST(test_M5_4_6_2_1_fills)
{
	static const uint32_t lens[] = { 1, 16, 64, 4095, 4096, 4097, 65536, 1 << 20 };

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		const struct fake_buf buf = { FAKE_DATA, lens[i], true };
		uint32_t expected = (uint32_t)MIN((uint64_t)lens[i], VIRTIO_ENTROPY_REQUEST_MAX);
		uint8_t beyond[64], poison[64];
		uint16_t head;

		fake_driver_fill(&d, FAKE_DATA, 0, lens[i] + 64);
		memset(poison, 0, sizeof(poison));
		head = fake_ring_add(&d.rings[0], &buf, 1);
		fake_driver_kick(&d, 0);
		ck_assert_uint_eq(used_len(head), expected);
		ck_assert(random_looking(FAKE_DATA, expected));
		fake_driver_read(&d, FAKE_DATA + expected, beyond, sizeof(beyond));
		ck_assert_mem_eq(beyond, poison, sizeof(beyond));
	}
}
END_TEST

/* M2.7.4.1-1: cut into single bytes in two places. */
START_TEST(test_M2_7_4_1_1_scattered)
{
	struct fake_buf bufs[64];
	uint8_t bytes[64];
	unsigned int zeroes = 0;
	uint16_t head;

	fake_driver_fill(&d, FAKE_DATA, 0, 4096);
	fake_driver_fill(&d, FAKE_HIGH_START, 0, 4096);
	for (size_t i = 0; i < ARRAY_SIZE(bufs); i++) {
		bufs[i] = (struct fake_buf){ (i % 2 == 0 ? FAKE_DATA : FAKE_HIGH_START) + i, 1,
					     true };
	}
	head = fake_ring_add_indirect(&d.rings[0], bufs, ARRAY_SIZE(bufs));
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(used_len(head), 64);
	for (size_t i = 0; i < ARRAY_SIZE(bufs); i++) {
		fake_driver_read(&d, bufs[i].addr, &bytes[i], 1);
		zeroes += bytes[i] == 0;
	}
	ck_assert_uint_lt(zeroes, 16);
}
END_TEST

/* Buffers that are there to be read stay as they are. */
START_TEST(test_M2_7_5_1_1_readable)
{
	const struct fake_buf bufs[] = { { FAKE_DATA, 64, false }, { FAKE_DATA + 64, 32, true } };
	uint8_t bytes[64], before[64];
	uint16_t head;

	memset(before, 0x5a, sizeof(before));
	fake_driver_fill(&d, FAKE_DATA, 0x5a, 64);
	fake_driver_fill(&d, FAKE_DATA + 64, 0, 32);
	head = fake_ring_add(&d.rings[0], bufs, 2);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(used_len(head), 32);
	ck_assert(random_looking(FAKE_DATA + 64, 32));
	fake_driver_read(&d, FAKE_DATA, bytes, sizeof(bytes));
	ck_assert_mem_eq(bytes, before, sizeof(bytes));
	/* Nothing to write at all: given back with 0. */
	head = fake_ring_add(&d.rings[0], bufs, 1);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(used_len(head), 0);
	ck_assert_uint_eq(atomic_load(&dev->state.status), 0xf);
}
END_TEST

/* The most bytes that a chain may have: 63 buffers of 16 MiB. It costs no more than any other. */
START_TEST(test_enormous_request)
{
	struct fake_buf bufs[63];
	uint16_t head;

	for (size_t i = 0; i < ARRAY_SIZE(bufs); i++) {
		bufs[i] = (struct fake_buf){ FAKE_HIGH_START, (uint32_t)FAKE_HIGH_SIZE, true };
	}
	for (size_t round = 0; round < 100; round++) {
		head = fake_ring_add_indirect(&d.rings[0], bufs, ARRAY_SIZE(bufs));
		fake_driver_kick(&d, 0);
		ck_assert_uint_eq(used_len(head), VIRTIO_ENTROPY_REQUEST_MAX);
	}
}
END_TEST

START_TEST(test_full_queue)
{
	const struct fake_buf buf = { FAKE_DATA, 64, true };
	uint16_t heads[VIRTIO_ENTROPY_QUEUE_SIZE];

	for (size_t round = 0; round < 3; round++) {
		fake_ring_set_used_event(&d.rings[0],
					 (uint16_t)((round + 1) * ARRAY_SIZE(heads) - 1));
		for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
			heads[i] = fake_ring_add(&d.rings[0], &buf, 1);
		}
		fake_driver_kick(&d, 0);
		for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
			ck_assert_uint_eq(used_len(heads[i]), 64);
		}
		ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), round + 1);
	}
}
END_TEST

START_TEST(test_broken_and_reset)
{
	const struct fake_buf outside = { FAKE_LOW_SIZE, 1, true };
	const struct fake_buf buf = { FAKE_DATA, 64, true };
	uint16_t head;

	fake_ring_add(&d.rings[0], &outside, 1);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(atomic_load(&dev->state.status), 0x4f);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 0);
	ck_assert(fake_driver_start(&d, 0, VIRTIO_ENTROPY_QUEUE_SIZE));
	head = fake_ring_add(&d.rings[0], &buf, 1);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(used_len(head), 64);
}
END_TEST

static const struct limit_row {
	struct rate_limit_config limit;
	uint16_t passes; /* of 6 requests for 64 bytes */
} limits[] = {
	{ { .ops = { 2, 1, 3600000 }, .has_ops = true }, 3 },
	{ { .bandwidth = { 128, 0, 3600000 }, .has_bandwidth = true }, 2 },
	{ { .bandwidth = { 65, 0, 3600000 }, .has_bandwidth = true }, 2 },
	{ { .has_bandwidth = true, .has_ops = true }, 6 },
};

START_TEST(test_limit)
{
	const struct fake_buf buf = { FAKE_DATA, 64, true };
	struct virtio_entropy_counters counters;
	uint16_t heads[6];

	fake_driver_reset(&d);
	virtio_entropy_init_limit(dev, &limits[_i].limit);
	ck_assert(fake_driver_start(&d, EVENT_IDX | INDIRECT, VIRTIO_ENTROPY_QUEUE_SIZE));
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		heads[i] = fake_ring_add(&d.rings[0], &buf, 1);
	}
	for (int i = 0; i < 3; i++) {
		fake_driver_kick(&d, 0);
		ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), limits[_i].passes);
	}
	virtio_device_quiesce(dev);
	virtio_device_resume(dev);
	fake_driver_sync(&d);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), limits[_i].passes);
	for (uint16_t i = 0; i < limits[_i].passes; i++) {
		ck_assert_uint_eq(used_len(heads[i]), 64);
	}
	virtio_entropy_read_counters(dev, &counters);
	ck_assert_uint_eq(counters.requests, limits[_i].passes);
	ck_assert_uint_eq(counters.bytes, limits[_i].passes * 64U);
}
END_TEST

START_TEST(test_limit_goes_on)
{
	const struct rate_limit_config limit = { .ops = { 5, 0, 5 }, .has_ops = true };
	const struct fake_buf buf = { FAKE_DATA, 64, true };

	fake_driver_reset(&d);
	virtio_entropy_init_limit(dev, &limit);
	ck_assert(fake_driver_start(&d, EVENT_IDX | INDIRECT, VIRTIO_ENTROPY_QUEUE_SIZE));
	for (size_t i = 0; i < 40; i++) {
		(void)fake_ring_add(&d.rings[0], &buf, 1);
	}
	fake_driver_kick(&d, 0);
	ck_assert(fake_driver_wait_used(&d, 0, 40));
}
END_TEST

CHECK_MAIN("entropy", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_identity);
	   CHECK_TEST(test_M5_4_6_2_1_fills); CHECK_TEST(test_M2_7_4_1_1_scattered);
	   CHECK_TEST(test_M2_7_5_1_1_readable); CHECK_TEST(test_enormous_request);
	   CHECK_TEST(test_full_queue); CHECK_TEST(test_broken_and_reset);
	   CHECK_TABLE(test_limit, limits); CHECK_TEST(test_limit_goes_on))
