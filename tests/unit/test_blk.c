/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device against a driver that does what it likes. Names begin with the statement of
 * virtio 1.2 (as numbered in the catalogue) or the catalogue row that they show.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <unistd.h>

#include "../../src/devices/virtio/blk_batch.h"
#include "harness/check_main.h"
#include "harness/fake_driver.h"
#include "harness/state_round_trip.h"
#include "vmm/block_test.h"
#include "vmm/bytes.h"
#include "vmm/virtio_blk.h"

#define FEATURE(bit) (UINT64_C(1) << (bit))
#define FEATURES                                                          \
	(FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE) | \
	 FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES))
#define WITH_INDIRECT (FEATURES | FEATURE(28))

#define CAPACITY MIB(1)
#define SECTORS	 (CAPACITY / 512)

/* Where requests live. */
#define HEADER (FAKE_DATA)
#define STATUS (FAKE_DATA + 0x800)
#define DATA   (FAKE_DATA + 0x1000)

#define NO_STATUS 0xee /* what a status byte holds before it is written */

static struct fake_driver d;
static struct block_memory *memory;
static struct block_fault *fault;
static struct virtio_device *dev;

static void start(uint64_t features)
{
	ck_assert(fake_driver_start(&d, features, VIRTIO_BLK_QUEUE_SIZE));
}

static void make_device(struct block *block)
{
	struct error e = { 0 };

	fake_driver_init(&d);
	check_ok(virtio_blk_create(&dev, "vda", block, &d.mem, d.workers, &e), &e);
	fake_driver_attach(&d, dev);
}

static void setup(void)
{
	struct error e = { 0 };

	check_ok(block_memory_create(&memory, CAPACITY, &e), &e);
	check_ok(block_fault_create(&fault, &memory->block, &e), &e);
	memcpy(fault->block.serial, "serial-of-20-letters", BLOCK_SERIAL_SIZE);
	make_device(&fault->block);
}

static void teardown(void)
{
	fake_driver_finish(&d);
}

static void put_header(uint64_t at, uint32_t type, uint64_t sector)
{
	uint8_t header[16] = { 0 };

	store_le32(header, type);
	store_le64(header + 8, sector);
	fake_driver_write(&d, at, header, sizeof(header));
}

static uint8_t get8(uint64_t at)
{
	uint8_t v;

	fake_driver_read(&d, at, &v, 1);
	return v;
}

/* Runs one chain to its end. Returns the used length. */
static uint32_t run_chain(const struct fake_buf *bufs, uint16_t n)
{
	uint16_t head = fake_ring_add(&d.rings[0], bufs, n);
	uint32_t id = 0, len = 0;

	fake_driver_kick(&d, 0);
	ck_assert(fake_driver_wait_used(&d, 0, (uint16_t)(d.rings[0].used_seen + 1)));
	ck_assert(fake_ring_used(&d.rings[0], &id, &len));
	ck_assert_uint_eq(id, head);
	ck_assert(!fake_ring_used(&d.rings[0], &id, &len));
	return len;
}

/* header, data, status. Returns the status; *used may be NULL. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t len, bool device_writes,
		       uint32_t *used)
{
	const struct fake_buf bufs[] = { { HEADER, 16, false },
					 { DATA, len, device_writes },
					 { STATUS, 1, true } };
	const struct fake_buf without[] = { { HEADER, 16, false }, { STATUS, 1, true } };
	uint32_t written;

	put_header(HEADER, type, sector);
	fake_driver_fill(&d, STATUS, NO_STATUS, 1);
	written = len != 0 ? run_chain(bufs, 3) : run_chain(without, 2);
	if (used != NULL) {
		*used = written;
	}
	return get8(STATUS);
}

static uint8_t range_request(uint32_t type, const struct virtio_blk_discard_write_zeroes *ranges,
			     uint32_t n)
{
	fake_driver_write(&d, DATA, ranges, n * sizeof(*ranges));
	return request(type, 0, (uint32_t)(n * sizeof(*ranges)), false, NULL);
}

static struct virtio_blk_discard_write_zeroes range(uint64_t sector, uint32_t sectors,
						    uint32_t flags)
{
	return (struct virtio_blk_discard_write_zeroes){ htole64(sector), htole32(sectors),
							 htole32(flags) };
}

static void config_read(uint32_t offset, void *buf, uint32_t len)
{
	(void)pthread_mutex_lock(&dev->lock);
	virtio_config_read(dev, offset, buf, len);
	(void)pthread_mutex_unlock(&dev->lock);
}

static uint8_t writeback(void)
{
	uint8_t v;

	config_read(offsetof(struct virtio_blk_config, wce), &v, 1);
	return v;
}

static void config_write(uint32_t offset, const void *buf, uint32_t len)
{
	(void)pthread_mutex_lock(&dev->lock);
	virtio_config_write(dev, offset, buf, len);
	(void)pthread_mutex_unlock(&dev->lock);
}

static void set_writeback(uint8_t v)
{
	config_write(offsetof(struct virtio_blk_config, wce), &v, 1);
}

/* --- features and configuration --- */

START_TEST(test_M5_2_5_2_1_flush_is_offered_with_config_wce)
{
	uint64_t features = fake_driver_offered(&d);

	ck_assert_uint_ne(features & FEATURE(VIRTIO_BLK_F_CONFIG_WCE), 0);
	ck_assert_uint_ne(features & FEATURE(VIRTIO_BLK_F_FLUSH), 0);
	ck_assert_uint_eq(features & FEATURE(VIRTIO_BLK_F_RO), 0);
	ck_assert_uint_eq(features & FEATURE(VIRTIO_BLK_F_SIZE_MAX), 0);
	ck_assert_uint_eq(features & FEATURE(VIRTIO_BLK_F_MQ), 0);
}
END_TEST

START_TEST(test_M5_2_5_2_2_writeback_is_0_without_flush)
{
	ck_assert_uint_eq(writeback(), 1);
	ck_assert(fake_driver_negotiate(&d, FEATURE(32) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE)));
	ck_assert_uint_eq(writeback(), 0);
	fake_driver_reset(&d);
	ck_assert(fake_driver_negotiate(&d, FEATURE(32) | FEATURES));
	ck_assert_uint_eq(writeback(), 1);
}
END_TEST

START_TEST(test_M5_2_5_2_3_and_M2_5_2_1_config)
{
	struct virtio_blk_config config;

	/* Before any status. */
	config_read(0, &config, 60);
	ck_assert_uint_eq(le64toh(config.capacity), SECTORS);
	ck_assert_uint_eq(le32toh(config.seg_max), 254);
	ck_assert_uint_eq(le32toh(config.blk_size), 512);
	ck_assert_uint_eq(config.unused, 0);
	ck_assert_uint_eq(config.unused1[0] | config.unused1[1] | config.unused1[2], 0);
	ck_assert_uint_eq(config.write_zeroes_may_unmap, 1);
	ck_assert_uint_eq(le32toh(config.max_discard_seg), VIRTIO_BLK_RANGES_MAX);
	ck_assert_uint_gt(le32toh(config.max_discard_sectors), 0);
	ck_assert_uint_gt(le32toh(config.max_write_zeroes_sectors), 0);
	ck_assert_uint_gt(le32toh(config.discard_sector_alignment), 0);
}
END_TEST

/* T-Q5 */
START_TEST(test_T_Q5_config_edges)
{
	static const uint64_t offsets[] = { 59, 60, 61, 0x7fffffff, UINT64_MAX, UINT64_MAX - 3 };
	uint8_t buf[8], before[60], after[60];

	start(FEATURES);
	config_read(0, before, sizeof(before));
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		for (uint32_t len = 1; len <= 8; len++) {
			memset(buf, 0xff, sizeof(buf));
			(void)pthread_mutex_lock(&dev->lock);
			virtio_config_write(dev, offsets[i], buf, len);
			virtio_config_read(dev, offsets[i], buf, len);
			(void)pthread_mutex_unlock(&dev->lock);
			ck_assert_uint_eq(buf[0], 0);
		}
	}
	/* Everything but writeback is read-only, at any width. */
	memset(buf, 0xff, sizeof(buf));
	for (uint32_t at = 0; at < 60; at++) {
		config_write(at, buf, MIN(8U, 60 - at));
	}
	config_read(0, after, sizeof(after));
	ck_assert_mem_eq(before, after, sizeof(after));
	buf[0] = 0;
	config_write(30, (uint8_t[]){ 0xff, 0xff, 0, 0xff }, 4);
	ck_assert_uint_eq(writeback(), 0);
	fake_driver_reset(&d);
	ck_assert_uint_eq(writeback(), 1);
	set_writeback(0); /* not negotiated */
	ck_assert_uint_eq(writeback(), 1);
}
END_TEST

/* --- data --- */

START_TEST(test_write_then_read)
{
	uint8_t data[4096], back[4096];
	uint32_t used;

	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (uint8_t)(i * 7 + i / 256);
	}
	start(FEATURES);
	fake_driver_write(&d, DATA, data, sizeof(data));
	ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 3, sizeof(data), false, &used),
			  VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(used, 1);
	ck_assert_mem_eq(memory->data + 3 * 512, data, sizeof(data));
	fake_driver_fill(&d, DATA, 0, sizeof(data));
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 3, sizeof(data), true, &used), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(used, sizeof(data) + 1);
	fake_driver_read(&d, DATA, back, sizeof(back));
	ck_assert_mem_eq(data, back, sizeof(back));
	ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, &used), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(used, 1);
	ck_assert_uint_eq(memory->ops[BLOCK_FLUSH], 1);
}
END_TEST

/* M2.7.4.1-1: cuts[] splits header+data (readable) and data+status (writable) at every byte near
 * the borders. */
START_TEST(test_M2_7_4_1_1_any_arrangement)
{
	uint8_t out[16 + 1024], in[1024 + 1];

	start(FEATURES);
	for (uint32_t cut = 1; cut < sizeof(out); cut += cut < 40 ? 1 : 97) {
		const struct fake_buf bufs[] = {
			{ DATA, cut, false },
			{ DATA + 0x2000, (uint32_t)sizeof(out) - cut, false },
			{ STATUS, 1, true },
		};

		memset(out, 0, 16);
		store_le32(out, VIRTIO_BLK_T_OUT);
		store_le64(out + 8, 2);
		memset(out + 16, (int)cut, sizeof(out) - 16);
		fake_driver_write(&d, DATA, out, cut);
		fake_driver_write(&d, DATA + 0x2000, out + cut, sizeof(out) - cut);
		fake_driver_fill(&d, STATUS, NO_STATUS, 1);
		ck_assert_uint_eq(run_chain(bufs, 3), 1);
		ck_assert_uint_eq(get8(STATUS), VIRTIO_BLK_S_OK);
		ck_assert_mem_eq(memory->data + 1024, out + 16, 1024);
	}
	for (uint32_t cut = 1; cut < sizeof(in); cut += cut < 40 || cut > 1000 ? 1 : 97) {
		const struct fake_buf bufs[] = {
			{ HEADER, 16, false },
			{ DATA, cut, true },
			{ DATA + 0x2000, (uint32_t)sizeof(in) - cut, true },
		};

		put_header(HEADER, VIRTIO_BLK_T_IN, 2);
		fake_driver_fill(&d, DATA, NO_STATUS, cut);
		fake_driver_fill(&d, DATA + 0x2000, NO_STATUS, sizeof(in) - cut);
		ck_assert_uint_eq(run_chain(bufs, 3), sizeof(in));
		fake_driver_read(&d, DATA, in, cut);
		fake_driver_read(&d, DATA + 0x2000, in + cut, sizeof(in) - cut);
		ck_assert_mem_eq(in, memory->data + 1024, 1024);
		ck_assert_uint_eq(in[1024], VIRTIO_BLK_S_OK);
	}
}
END_TEST

START_TEST(test_header_in_single_bytes)
{
	struct fake_buf bufs[16 + 512 / 4 + 2];
	uint16_t n = 0;

	start(FEATURES);
	memset(memory->data, 0x5a, 512);
	put_header(HEADER, VIRTIO_BLK_T_IN, 0);
	for (uint32_t i = 0; i < 16; i++) {
		bufs[n++] = (struct fake_buf){ HEADER + i, 1, false };
	}
	bufs[n++] = (struct fake_buf){ DATA + 4096, 0, true }; /* empty ones count for nothing */
	for (uint32_t i = 0; i < 128; i++) {
		bufs[n++] = (struct fake_buf){ DATA + 8 * i, 4, true };
	}
	bufs[n++] = (struct fake_buf){ STATUS, 1, true };
	ck_assert_uint_eq(run_chain(bufs, n), 513);
	ck_assert_uint_eq(get8(STATUS), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(get8(DATA + 8 * 127 + 3), 0x5a);
	ck_assert_uint_eq(get8(DATA + 8 * 127 + 4), 0);
}
END_TEST

START_TEST(test_seg_max_through_an_indirect_table)
{
	static struct fake_buf bufs[256];
	uint32_t id, len;

	start(WITH_INDIRECT);
	put_header(HEADER, VIRTIO_BLK_T_OUT, 0);
	fake_driver_fill(&d, STATUS, NO_STATUS, 1);
	bufs[0] = (struct fake_buf){ HEADER, 16, false };
	for (uint32_t i = 0; i < 254; i++) {
		fake_driver_fill(&d, DATA + 1024 * i, (uint8_t)i, 512);
		bufs[1 + i] = (struct fake_buf){ DATA + 1024 * i, 512, false };
	}
	bufs[255] = (struct fake_buf){ STATUS, 1, true };
	(void)fake_ring_add_indirect(&d.rings[0], bufs, 256);
	fake_driver_kick(&d, 0);
	ck_assert(fake_ring_used(&d.rings[0], &id, &len));
	ck_assert_uint_eq(get8(STATUS), VIRTIO_BLK_S_OK);
	for (uint32_t i = 0; i < 254; i++) {
		ck_assert_uint_eq(memory->data[512 * i], i);
		ck_assert_uint_eq(memory->data[512 * i + 511], i);
	}
}
END_TEST

/* --- T-B1 --- */

START_TEST(test_T_B1_ranges)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
	} rows[] = {
		{ SECTORS, 512 },	   { SECTORS - 1, 1024 }, { UINT64_C(1) << 55, 512 },
		{ UINT64_MAX, 512 },	   { UINT64_MAX, 1024 },  { (UINT64_C(1) << 55) - 1, 1024 },
		{ UINT64_MAX / 512, 512 },
	};

	start(FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct virtio_blk_discard_write_zeroes r =
			range(rows[i].sector, rows[i].len / 512, 0);
		uint32_t used;

		ck_assert_uint_eq(
			request(VIRTIO_BLK_T_IN, rows[i].sector, rows[i].len, true, &used),
			VIRTIO_BLK_S_IOERR);
		ck_assert_uint_eq(used, 0); /* nothing of the data was written */
		ck_assert_uint_eq(
			request(VIRTIO_BLK_T_OUT, rows[i].sector, rows[i].len, false, &used),
			VIRTIO_BLK_S_IOERR);
		ck_assert_uint_eq(used, 1);
		ck_assert_uint_eq(range_request(VIRTIO_BLK_T_DISCARD, &r, 1), VIRTIO_BLK_S_IOERR);
		ck_assert_uint_eq(range_request(VIRTIO_BLK_T_WRITE_ZEROES, &r, 1),
				  VIRTIO_BLK_S_IOERR);
	}
	ck_assert_uint_eq(memory->ops[BLOCK_READ] + memory->ops[BLOCK_WRITE], 0);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, SECTORS - 1, 512, true, NULL), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, SECTORS, 0, true, NULL), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, SECTORS + 1, 0, true, NULL), VIRTIO_BLK_S_IOERR);
}
END_TEST

/* --- T-B2, M5.2.6.2-1 --- */

START_TEST(test_T_B2_and_M5_2_6_2_1_read_only)
{
	struct virtio_blk_discard_write_zeroes r = range(0, 1, 0);

	teardown();
	{
		struct error e = { 0 };

		check_ok(block_memory_create(&memory, CAPACITY, &e), &e);
		memory->block.read_only = true;
		make_device(&memory->block);
	}
	ck_assert_uint_ne(fake_driver_offered(&d) & FEATURE(VIRTIO_BLK_F_RO), 0);
	ck_assert_uint_eq(fake_driver_offered(&d) & (FEATURE(VIRTIO_BLK_F_DISCARD) |
						     FEATURE(VIRTIO_BLK_F_WRITE_ZEROES)),
			  0);
	for (int negotiated = 0; negotiated < 2; negotiated++) {
		start(negotiated != 0 ? FEATURE(VIRTIO_BLK_F_RO) : 0);
		fake_driver_fill(&d, DATA, 0xff, 512);
		ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 0, 512, false, NULL),
				  VIRTIO_BLK_S_IOERR);
		ck_assert_uint_eq(range_request(VIRTIO_BLK_T_DISCARD, &r, 1), VIRTIO_BLK_S_UNSUPP);
		ck_assert_uint_eq(range_request(VIRTIO_BLK_T_WRITE_ZEROES, &r, 1),
				  VIRTIO_BLK_S_UNSUPP);
		ck_assert_uint_eq(memory->data[0], 0);
		ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, 512, true, NULL), VIRTIO_BLK_S_OK);
		ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
	}
}
END_TEST

/* --- T-B3 --- */

START_TEST(test_T_B3_unknown_types)
{
	static const uint32_t types[] = { 2,  3,  5,  6,  7,	      9,	  10,	     12,
					  14, 15, 16, 24, 0x80000000, 0x80000001, UINT32_MAX };

	start(FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		uint32_t used;

		fake_driver_fill(&d, DATA, 0x77, 512);
		ck_assert_uint_eq(request(types[i], 0, 512, true, &used), VIRTIO_BLK_S_UNSUPP);
		ck_assert_uint_eq(used, 0);
		ck_assert_uint_eq(get8(DATA), 0x77);
		ck_assert_uint_eq(request(types[i], 0, 0, true, &used), VIRTIO_BLK_S_UNSUPP);
		ck_assert_uint_eq(used, 1);
	}
}
END_TEST

START_TEST(test_T_B3_lengths)
{
	static const uint32_t lens[] = { 1, 511, 513, 1023, 4095 };

	start(FEATURES);
	memset(memory->data, 0x11, CAPACITY);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		fake_driver_fill(&d, DATA, 0x22, lens[i]);
		ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 0, lens[i], false, NULL),
				  VIRTIO_BLK_S_IOERR);
		ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, lens[i], true, NULL),
				  VIRTIO_BLK_S_IOERR);
		ck_assert_uint_eq(get8(DATA), 0x22);
	}
	ck_assert_uint_eq(memory->data[0], 0x11);
}
END_TEST

/* --- T-B4 --- */

START_TEST(test_T_B4_header_too_short)
{
	start(FEATURES);
	put_header(HEADER, VIRTIO_BLK_T_FLUSH, 0);
	for (uint32_t len = 0; len < 16; len++) {
		const struct fake_buf bufs[] = { { HEADER, len, false }, { STATUS, 1, true } };

		fake_driver_fill(&d, STATUS, NO_STATUS, 1);
		ck_assert_uint_eq(run_chain(bufs, 2), 1);
		ck_assert_uint_eq(get8(STATUS), VIRTIO_BLK_S_IOERR);
	}
	ck_assert_uint_eq(atomic_load(&virtio_blk_metrics(dev)->malformed), 16);
	ck_assert_uint_eq(fake_driver_status(&d), 0xf);
}
END_TEST

START_TEST(test_T_B4_header_writable)
{
	const struct fake_buf bufs[] = { { HEADER, 16, true }, { STATUS, 1, true } };

	start(FEATURES);
	put_header(HEADER, VIRTIO_BLK_T_IN, 0);
	ck_assert_uint_eq(run_chain(bufs, 2), 0);
	ck_assert_uint_eq(get8(STATUS), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(get8(HEADER), VIRTIO_BLK_T_IN);
}
END_TEST

/* No room for a status: the chain comes back with nothing written, and the device goes on. */
START_TEST(test_T_B4_no_status)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
					  VIRTIO_BLK_T_GET_ID, 99 };

	start(FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		const struct fake_buf only_header[] = { { HEADER, 16, false } };
		const struct fake_buf readable[] = { { HEADER, 16, false },
						     { DATA, 512, false },
						     { STATUS, 1, false } };
		const struct fake_buf empty[] = { { HEADER, 16, false }, { STATUS, 0, true } };

		put_header(HEADER, types[i], 0);
		fake_driver_fill(&d, STATUS, NO_STATUS, 1);
		ck_assert_uint_eq(run_chain(only_header, 1), 0);
		ck_assert_uint_eq(run_chain(readable, 3), 0);
		ck_assert_uint_eq(run_chain(empty, 2), 0);
		ck_assert_uint_eq(get8(STATUS), NO_STATUS);
	}
	ck_assert_uint_eq(memory->ops[BLOCK_WRITE] + memory->ops[BLOCK_FLUSH], 0);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

/* The status is the last byte of an oversized area; nothing before it is touched. */
START_TEST(test_T_B4_status_oversized)
{
	const struct fake_buf bufs[] = { { HEADER, 16, false }, { DATA, 4096, true } };

	start(FEATURES);
	put_header(HEADER, VIRTIO_BLK_T_FLUSH, 0);
	fake_driver_fill(&d, DATA, NO_STATUS, 4096);
	ck_assert_uint_eq(run_chain(bufs, 2), 0); /* no byte from the front on */
	ck_assert_uint_eq(get8(DATA), NO_STATUS);
	ck_assert_uint_eq(get8(DATA + 4094), NO_STATUS);
	ck_assert_uint_eq(get8(DATA + 4095), VIRTIO_BLK_S_OK);
}
END_TEST

/* --- GET_ID --- */

START_TEST(test_get_id)
{
	static const uint32_t lens[] = { 1, 19, 20, 21, 512 };
	uint8_t id[20];

	start(FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		uint32_t n = MIN(lens[i], 20U), used;

		fake_driver_fill(&d, DATA, 0x99, 513);
		ck_assert_uint_eq(request(VIRTIO_BLK_T_GET_ID, 0, lens[i], true, &used),
				  VIRTIO_BLK_S_OK);
		ck_assert_uint_eq(used, lens[i] <= 20 ? lens[i] + 1 : 20);
		fake_driver_read(&d, DATA, id, n);
		ck_assert_mem_eq(id, "serial-of-20-letters", n);
		ck_assert_uint_eq(get8(DATA + n), 0x99);
	}
	ck_assert_uint_eq(request(VIRTIO_BLK_T_GET_ID, 0, 0, true, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

/* --- DISCARD, WRITE_ZEROES --- */

START_TEST(test_M5_2_6_2_2_and_3_flags)
{
	static const struct {
		uint32_t type, flags;
		uint8_t status;
	} rows[] = {
		{ VIRTIO_BLK_T_DISCARD, 0, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_DISCARD, 1, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_DISCARD, 2, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_DISCARD, 0x80000000, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 1, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 2, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 3, VIRTIO_BLK_S_UNSUPP },
	};

	start(FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct virtio_blk_discard_write_zeroes r[2] = { range(0, 8, 0),
								range(16, 8, rows[i].flags) };

		memset(memory->data, 0x33, CAPACITY);
		ck_assert_uint_eq(range_request(rows[i].type, r, 2), rows[i].status);
		/* Nothing at all is done for a request that is refused. */
		ck_assert_uint_eq(memory->data[0], rows[i].status == VIRTIO_BLK_S_OK ? 0 : 0x33);
	}
}
END_TEST

START_TEST(test_M5_2_6_2_4_zeroes_are_read)
{
	struct virtio_blk_discard_write_zeroes r[VIRTIO_BLK_RANGES_MAX];
	uint8_t sector[512];

	start(FEATURES);
	memset(memory->data, 0x44, CAPACITY);
	for (uint32_t i = 0; i < VIRTIO_BLK_RANGES_MAX; i++) {
		r[i] = range(i * 10, 3, i % 2);
	}
	ck_assert_uint_eq(range_request(VIRTIO_BLK_T_WRITE_ZEROES, r, VIRTIO_BLK_RANGES_MAX),
			  VIRTIO_BLK_S_OK);
	for (uint32_t s = 0; s < VIRTIO_BLK_RANGES_MAX * 10; s++) {
		ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, s, 512, true, NULL), VIRTIO_BLK_S_OK);
		fake_driver_read(&d, DATA, sector, sizeof(sector));
		ck_assert_uint_eq(sector[0], s % 10 < 3 ? 0 : 0x44);
		ck_assert_uint_eq(sector[511], s % 10 < 3 ? 0 : 0x44);
	}
}
END_TEST

START_TEST(test_range_lists)
{
	static struct virtio_blk_discard_write_zeroes r[VIRTIO_BLK_RANGES_MAX + 1];
	struct virtio_blk_config config;
	uint64_t commits;

	start(FEATURES);
	config_read(0, &config, 60);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		r[i] = range(0, 1, 0);
	}
	ck_assert_uint_eq(range_request(VIRTIO_BLK_T_DISCARD, r, ARRAY_SIZE(r)),
			  VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_DISCARD, 0, 0, false, NULL), VIRTIO_BLK_S_IOERR);
	for (uint32_t len = 1; len < 48; len++) {
		uint8_t expected = len % 16 == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;

		ck_assert_uint_eq(request(VIRTIO_BLK_T_DISCARD, 0, len, false, NULL), expected);
	}
	r[0] = range(0, le32toh(config.max_discard_sectors) + 1, 0);
	ck_assert_uint_eq(range_request(VIRTIO_BLK_T_DISCARD, r, 1), VIRTIO_BLK_S_IOERR);
	r[0] = range(0, UINT32_MAX, 0);
	ck_assert_uint_eq(range_request(VIRTIO_BLK_T_WRITE_ZEROES, r, 1), VIRTIO_BLK_S_IOERR);
	commits = memory->ops[BLOCK_DISCARD];
	r[0] = range(SECTORS, 0, 0);
	ck_assert_uint_eq(range_request(VIRTIO_BLK_T_DISCARD, r, 1), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(memory->ops[BLOCK_DISCARD], commits);
}
END_TEST

START_TEST(test_ranges_that_were_not_negotiated)
{
	struct virtio_blk_discard_write_zeroes r = range(0, 8, 0);

	start(FEATURE(VIRTIO_BLK_F_FLUSH));
	memset(memory->data, 0x55, 4096);
	ck_assert_uint_eq(range_request(VIRTIO_BLK_T_DISCARD, &r, 1), VIRTIO_BLK_S_UNSUPP);
	ck_assert_uint_eq(range_request(VIRTIO_BLK_T_WRITE_ZEROES, &r, 1), VIRTIO_BLK_S_UNSUPP);
	ck_assert_uint_eq(memory->data[0], 0x55);
}
END_TEST

START_TEST(test_ranges_stop_at_the_first_error)
{
	struct virtio_blk_discard_write_zeroes r[3] = { range(0, 1, 0), range(1, 1, 0),
							range(2, 1, 0) };

	start(FEATURES);
	memset(memory->data, 0x66, 4096);
	block_fault_add(fault, &(struct block_fault_rule){ .ops = 1U << BLOCK_WRITE_ZEROES,
							   .skip = 1,
							   .count = 1,
							   .kind = BLOCK_FAULT_ERROR,
							   .error = EIO });
	ck_assert_uint_eq(range_request(VIRTIO_BLK_T_WRITE_ZEROES, r, 3), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(memory->data[0], 0);
	ck_assert_uint_eq(memory->data[512], 0x66);
	ck_assert_uint_eq(memory->data[1024], 0x66);
}
END_TEST

/* --- M5.2.6.2-5: stable writes --- */

START_TEST(test_M5_2_6_2_5_stable_writes)
{
	static const struct {
		uint64_t features;
		int write; /* to writeback; -1: not */
		bool stable;
	} rows[] = {
		{ 0, -1, true },
		{ FEATURE(VIRTIO_BLK_F_FLUSH), -1, false },
		{ FEATURE(VIRTIO_BLK_F_FLUSH), 0, false }, /* the field is not there */
		{ FEATURE(VIRTIO_BLK_F_CONFIG_WCE), -1, true },
		{ FEATURE(VIRTIO_BLK_F_CONFIG_WCE), 1, false },
		{ FEATURE(VIRTIO_BLK_F_CONFIG_WCE), 0, true },
		{ FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE), -1, false },
		{ FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE), 0, true },
		{ FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE), 1, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct virtio_blk_discard_write_zeroes r = range(0, 1, 0);
		uint64_t expected = memory->fua_writes + (rows[i].stable ? 3 : 0);

		start(rows[i].features | FEATURE(VIRTIO_BLK_F_DISCARD) |
		      FEATURE(VIRTIO_BLK_F_WRITE_ZEROES));
		if (rows[i].write >= 0) {
			set_writeback((uint8_t)rows[i].write);
		}
		ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
		ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, 512, true, NULL), VIRTIO_BLK_S_OK);
		ck_assert_uint_eq(range_request(VIRTIO_BLK_T_DISCARD, &r, 1), VIRTIO_BLK_S_OK);
		ck_assert_uint_eq(range_request(VIRTIO_BLK_T_WRITE_ZEROES, &r, 1), VIRTIO_BLK_S_OK);
		ck_assert_uint_eq(memory->fua_writes, expected);
	}
}
END_TEST

/* --- F2, T-D14: errors of the disk --- */

START_TEST(test_F2_exactly_the_failed_requests)
{
	static const int errors[] = { EIO, ENOSPC, ENOMEM, EPERM };

	start(FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		block_fault_clear(fault);
		block_fault_add(fault, &(struct block_fault_rule){ .ops = UINT32_MAX,
								   .skip = 1,
								   .count = 1,
								   .kind = BLOCK_FAULT_ERROR,
								   .error = errors[i] });
		ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
		ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL),
				  VIRTIO_BLK_S_IOERR);
		ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, 512, true, NULL), VIRTIO_BLK_S_OK);
	}
	ck_assert_uint_eq(fake_driver_status(&d), 0xf);
}
END_TEST

START_TEST(test_T_D14_used_length_of_a_partial_read)
{
	uint32_t used;

	start(FEATURES);
	memset(memory->data, 0x12, CAPACITY);
	block_fault_add(fault, &(struct block_fault_rule){ .ops = 1U << BLOCK_READ,
							   .count = 2,
							   .kind = BLOCK_FAULT_SHORT,
							   .error = EIO });
	fake_driver_fill(&d, DATA, 0xab, 4096);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, 4096, true, &used), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(used, 2048);
	ck_assert_uint_eq(get8(DATA + 2047), 0x12);
	ck_assert_uint_eq(get8(DATA + 2048), 0xab);
}
END_TEST

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
	ck_assert_uint_le(atomic_load(&virtio_blk_metrics(dev)->batches), 16);
	ck_assert_uint_eq(atomic_load(&virtio_blk_metrics(dev)->reads), 256);
	ck_assert_uint_eq(atomic_load(&virtio_blk_metrics(dev)->read_bytes), 256 * 512);
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
	static uint64_t bitmap[FAKE_LOW_SIZE / 4096 / 64];
	const struct fake_buf bufs[] = { { HEADER, 16, false },
					 { DATA + 0x10000, 8192, true },
					 { DATA + 0x20000, 1, true } };
	struct error e = { 0 };

	start(FEATURES);
	for (int failing = 0; failing < 2; failing++) {
		memset(bitmap, 0, sizeof(bitmap));
		if (failing != 0) {
			block_fault_add(fault,
					&(struct block_fault_rule){ .ops = UINT32_MAX,
								    .count = 1,
								    .kind = BLOCK_FAULT_SHORT,
								    .error = EIO });
		}
		check_ok(guest_memory_dirty_start(&d.mem, &e), &e);
		put_header(HEADER, VIRTIO_BLK_T_IN, 0);
		(void)run_chain(bufs, 3);
		guest_memory_dirty_harvest(&d.mem, 0, bitmap, FAKE_LOW_SIZE / 4096);
		guest_memory_dirty_stop(&d.mem);
		ck_assert(is_dirty(bitmap, DATA + 0x10000));
		ck_assert(is_dirty(bitmap, DATA + 0x11000));
		ck_assert(is_dirty(bitmap, DATA + 0x20000));
		ck_assert(!is_dirty(bitmap, HEADER));
	}
}
END_TEST

START_TEST(test_metrics)
{
	const struct virtio_blk_metrics *m = virtio_blk_metrics(dev);
	struct virtio_blk_discard_write_zeroes r = range(0, 1, 0);

	start(FEATURES);
	(void)request(VIRTIO_BLK_T_OUT, 0, 1024, false, NULL);
	(void)request(VIRTIO_BLK_T_IN, 0, 512, true, NULL);
	(void)request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL);
	(void)range_request(VIRTIO_BLK_T_DISCARD, &r, 1);
	(void)request(VIRTIO_BLK_T_IN, SECTORS, 512, true, NULL);
	(void)request(77, 0, 0, true, NULL);
	ck_assert_uint_eq(atomic_load(&m->writes), 1);
	ck_assert_uint_eq(atomic_load(&m->written_bytes), 1024);
	ck_assert_uint_eq(atomic_load(&m->reads), 1);
	ck_assert_uint_eq(atomic_load(&m->read_bytes), 512);
	ck_assert_uint_eq(atomic_load(&m->flushes), 1);
	ck_assert_uint_eq(atomic_load(&m->discards), 1);
	ck_assert_uint_eq(atomic_load(&m->errors), 1);
	ck_assert_uint_eq(atomic_load(&m->unsupported), 1);
	ck_assert_uint_eq(atomic_load(&m->batches), 6);
}
END_TEST

START_TEST(test_saved_state)
{
	struct virtio_device *other;
	struct block_memory *disk;
	struct error e = { 0 };
	struct state_buf buf = { 0 };

	check_ok(block_memory_create(&disk, CAPACITY, &e), &e);
	check_ok(virtio_blk_create(&other, "vdb", &disk->block, &d.mem, &d.workers[1], &e), &e);
	start(FEATURES);
	set_writeback(0);
	check_state_round_trip(virtio_blk_ops.state, dev, other);
	check_ok(state_save(virtio_blk_ops.state, dev, &buf, &e), &e);
	buf.data[buf.len - 1] = 3;
	ck_assert_int_lt(state_load(virtio_blk_ops.state, other, buf.data, buf.len,
				    virtio_blk_ops.state->version, &e),
			 0);
	check_error(&e, ERROR_STATE, "writeback");
	state_buf_finish(&buf);
	other->ops->destroy(other);
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

CHECK_MAIN("blk", CHECK_FIXTURE(setup, teardown);
	   CHECK_TEST(test_M5_2_5_2_1_flush_is_offered_with_config_wce);
	   CHECK_TEST(test_M5_2_5_2_2_writeback_is_0_without_flush);
	   CHECK_TEST(test_M5_2_5_2_3_and_M2_5_2_1_config); CHECK_TEST(test_T_Q5_config_edges);
	   CHECK_TEST(test_write_then_read); CHECK_TEST(test_M2_7_4_1_1_any_arrangement);
	   CHECK_TEST(test_header_in_single_bytes);
	   CHECK_TEST(test_seg_max_through_an_indirect_table); CHECK_TEST(test_T_B1_ranges);
	   CHECK_TEST(test_T_B2_and_M5_2_6_2_1_read_only); CHECK_TEST(test_T_B3_unknown_types);
	   CHECK_TEST(test_T_B3_lengths); CHECK_TEST(test_T_B4_header_too_short);
	   CHECK_TEST(test_T_B4_header_writable); CHECK_TEST(test_T_B4_no_status);
	   CHECK_TEST(test_T_B4_status_oversized); CHECK_TEST(test_get_id);
	   CHECK_TEST(test_M5_2_6_2_2_and_3_flags); CHECK_TEST(test_M5_2_6_2_4_zeroes_are_read);
	   CHECK_TEST(test_range_lists); CHECK_TEST(test_ranges_that_were_not_negotiated);
	   CHECK_TEST(test_ranges_stop_at_the_first_error);
	   CHECK_TEST(test_M5_2_6_2_5_stable_writes);
	   CHECK_TEST(test_F2_exactly_the_failed_requests);
	   CHECK_TEST(test_T_D14_used_length_of_a_partial_read);
	   CHECK_TEST(test_interrupts_per_batch); CHECK_TEST(test_few_requests_never_wait);
	   CHECK_TEST(test_batch_goal_follows_the_depth);
	   CHECK_TEST(test_looks_in_vain_become_rare); CHECK_TEST(test_nothing_is_kept_back);
	   CHECK_TEST(test_full_queue_in_flight_and_reordered);
	   CHECK_TEST(test_T_B6_quiesce_drains); CHECK_TEST(test_reset_with_requests_in_flight);
	   CHECK_TEST(test_T_D1_head_in_flight_twice); CHECK_TEST(test_T_D5_buffer_outside_ram);
	   CHECK_TEST(test_everything_written_is_marked_dirty); CHECK_TEST(test_metrics);
	   CHECK_TEST(test_saved_state); CHECK_TABLE(test_engines_against_a_model, engines))
