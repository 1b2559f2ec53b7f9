/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio block device on a disk in memory, behind one that fails on demand, with the fake driver: for test_blk.c and
 * test_blk_queue.c. Requests live at fixed places.
 */
#ifndef TESTS_HARNESS_BLK_RIG_H
#define TESTS_HARNESS_BLK_RIG_H

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

static inline void start(uint64_t features)
{
	ck_assert(fake_driver_start(&d, features, VIRTIO_BLK_QUEUE_SIZE));
}

static inline void make_device(struct block *block)
{
	struct error e = { 0 };

	fake_driver_init(&d);
	check_ok(virtio_blk_create(&dev, "vda", block, &d.mem, d.workers, &e), &e);
	fake_driver_attach(&d, dev);
}

static inline void setup(void)
{
	struct error e = { 0 };

	check_ok(block_memory_create(&memory, CAPACITY, &e), &e);
	check_ok(block_fault_create(&fault, &memory->block, &e), &e);
	memcpy(fault->block.serial, "serial-of-20-letters", BLOCK_SERIAL_SIZE);
	make_device(&fault->block);
}

static inline void teardown(void)
{
	fake_driver_finish(&d);
}

static inline struct virtio_blk_counters counters(void)
{
	struct virtio_blk_counters c;

	virtio_blk_read_counters(dev, &c);
	return c;
}

static inline void put_header(uint64_t at, uint32_t type, uint64_t sector)
{
	uint8_t header[16] = { 0 };

	store_le32(header, type);
	store_le64(header + 8, sector);
	fake_driver_write(&d, at, header, sizeof(header));
}

static inline uint8_t get8(uint64_t at)
{
	uint8_t v;

	fake_driver_read(&d, at, &v, 1);
	return v;
}

/* Runs one chain to its end. Returns the used length. */
static inline uint32_t run_chain(const struct fake_buf *bufs, uint16_t n)
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
static inline uint8_t request(uint32_t type, uint64_t sector, uint32_t len, bool device_writes,
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

static inline uint8_t
range_request(uint32_t type, const struct virtio_blk_discard_write_zeroes *ranges, uint32_t n)
{
	fake_driver_write(&d, DATA, ranges, n * sizeof(*ranges));
	return request(type, 0, (uint32_t)(n * sizeof(*ranges)), false, NULL);
}

static inline struct virtio_blk_discard_write_zeroes range(uint64_t sector, uint32_t sectors,
							   uint32_t flags)
{
	return (struct virtio_blk_discard_write_zeroes){ htole64(sector), htole32(sectors),
							 htole32(flags) };
}

static inline void config_read(uint32_t offset, void *buf, uint32_t len)
{
	(void)pthread_mutex_lock(&dev->lock);
	virtio_config_read(dev, offset, buf, len);
	(void)pthread_mutex_unlock(&dev->lock);
}

static inline uint8_t writeback(void)
{
	uint8_t v;

	config_read(offsetof(struct virtio_blk_config, wce), &v, 1);
	return v;
}

static inline void config_write(uint32_t offset, const void *buf, uint32_t len)
{
	(void)pthread_mutex_lock(&dev->lock);
	virtio_config_write(dev, offset, buf, len);
	(void)pthread_mutex_unlock(&dev->lock);
}

static inline void set_writeback(uint8_t v)
{
	config_write(offsetof(struct virtio_blk_config, wce), &v, 1);
}

#endif
