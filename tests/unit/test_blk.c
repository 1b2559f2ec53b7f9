/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device and its requests against a driver that does what it likes. Names begin with the
 * statement of virtio 1.2 (as numbered in the catalogue) or the catalogue row that they show.
 */
#include "harness/blk_rig.h"

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
	ck_assert_uint_eq(counters().malformed, 16);
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

START_TEST(test_metrics)
{
	struct virtio_blk_counters m;
	struct virtio_blk_discard_write_zeroes r = range(0, 1, 0);

	start(FEATURES);
	(void)request(VIRTIO_BLK_T_OUT, 0, 1024, false, NULL);
	(void)request(VIRTIO_BLK_T_IN, 0, 512, true, NULL);
	(void)request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL);
	(void)range_request(VIRTIO_BLK_T_DISCARD, &r, 1);
	(void)request(VIRTIO_BLK_T_IN, SECTORS, 512, true, NULL);
	(void)request(77, 0, 0, true, NULL);
	m = counters();
	ck_assert_uint_eq(m.writes, 1);
	ck_assert_uint_eq(m.written_bytes, 1024);
	ck_assert_uint_eq(m.reads, 1);
	ck_assert_uint_eq(m.read_bytes, 512);
	ck_assert_uint_eq(m.flushes, 1);
	ck_assert_uint_eq(m.discards, 1);
	ck_assert_uint_eq(m.errors, 1);
	ck_assert_uint_eq(m.unsupported, 1);
	ck_assert_uint_eq(m.batches, 6);
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
	   CHECK_TEST(test_T_D14_used_length_of_a_partial_read); CHECK_TEST(test_metrics);
	   CHECK_TEST(test_saved_state))
