/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device against a driver made from a string of bytes: headers and buffers cut anywhere,
 * any type, sector, flags and ranges, a disk that fails, shortens and holds requests, resets and
 * pauses meanwhile.
 *
 * Checked besides crashes (guest memory has guard pages, the disk is a heap block): every chain
 * comes back once with a used length that its writable part has room for; what is in flight is what
 * the disk holds, and nothing after a quiesce; a read-only disk does not change.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <stdlib.h>

#include "fuzz_input.h"
#include "harness/fake_driver.h"
#include "vmm/block_test.h"
#include "vmm/log.h"
#include "vmm/virtio_blk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)          \
	do {                        \
		if (!(condition)) { \
			abort();    \
		}                   \
	} while (0)

#define RING_SIZE 32
#define CAPACITY  KIB(64)
#define BUFS_MAX  6
#define AREA	  KIB(256) /* buffers lie in [FAKE_DATA, FAKE_DATA + AREA) */

struct rig {
	struct fake_driver d;
	struct block_memory *memory;
	struct block_fault *fault;
	struct fuzz_input in;
	bool running;
	uint32_t out; /* descriptors that are not back yet, at most */
	uint64_t writable[RING_SIZE];
	bool busy[RING_SIZE];
};

static void sync_worker(struct rig *rig)
{
	fake_driver_sync(&rig->d);
}

static void release(void *arg)
{
	struct rig *rig = arg;

	(void)block_fault_release(rig->fault, (uint32_t)fuzz_take(&rig->in, 1) % 8);
}

static bool broken(struct rig *rig)
{
	return (fake_driver_status(&rig->d) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
}

static void collect(struct rig *rig)
{
	uint32_t id, len;

	while (rig->running && fake_ring_used(&rig->d.rings[0], &id, &len)) {
		REQUIRE(id < RING_SIZE && rig->busy[id]);
		REQUIRE(len <= rig->writable[id]);
		rig->busy[id] = false;
		rig->out--;
	}
}

static void start(struct rig *rig)
{
	uint64_t features = 0;
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);

	features |= (uint64_t)(how & 1) << VIRTIO_BLK_F_FLUSH;
	features |= (uint64_t)(how >> 1 & 1) << VIRTIO_BLK_F_CONFIG_WCE;
	features |= (uint64_t)(how >> 2 & 1) << 28 | (uint64_t)(how >> 3 & 1) << 29;
	if (!rig->fault->block.read_only) {
		features |= (uint64_t)(how >> 4 & 1) << VIRTIO_BLK_F_DISCARD;
		features |= (uint64_t)(how >> 5 & 1) << VIRTIO_BLK_F_WRITE_ZEROES;
	}
	memset(rig->busy, 0, sizeof(rig->busy));
	rig->out = 0;
	rig->running = fake_driver_start(&rig->d, features, RING_SIZE);
	REQUIRE(rig->running);
}

static void put_header(struct rig *rig, uint64_t at)
{
	static const uint32_t types[] = { 0, 1, 4, 8, 11, 13, 2, 0, 1, 13, 11, 0x80000000 };
	uint8_t header[16] = { 0 };
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);

	store_le32(header, types[how % ARRAY_SIZE(types)]);
	store_le64(header + 8, (how & 0x80) != 0 ? fuzz_take(&rig->in, 8) : fuzz_take(&rig->in, 1));
	fake_driver_write(&rig->d, at, header, sizeof(header));
}

/* Ranges for DISCARD and WRITE_ZEROES where data would be. */
static void put_range(struct rig *rig, uint64_t at)
{
	uint8_t range[16] = { 0 };

	store_le64(range, fuzz_take(&rig->in, 1));
	store_le32(range + 8, (uint32_t)fuzz_take(&rig->in, 1));
	store_le32(range + 12, (uint32_t)fuzz_take(&rig->in, 1) % 4);
	fake_driver_write(&rig->d, at, range, sizeof(range));
}

static void offer(struct rig *rig)
{
	struct fake_ring *ring = &rig->d.rings[0];
	struct fake_buf bufs[BUFS_MAX];
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);
	uint16_t count = (uint16_t)(1 + how % BUFS_MAX), head;
	uint64_t writable = 0;

	if (!rig->running || rig->out >= RING_SIZE / BUFS_MAX || rig->busy[ring->next_desc]) {
		return;
	}
	for (uint16_t i = 0; i < count; i++) {
		uint64_t where = fuzz_take(&rig->in, 2);
		uint32_t len = (uint32_t)fuzz_take(&rig->in, 1);

		/* Mostly the sizes that make sense: 16, 512 n, 1. */
		len = len < 64 ? len : len < 128 ? (len - 64) * 512 : len < 192 ? 16 : 1;
		bufs[i] = (struct fake_buf){ FAKE_DATA + where * 3 % (AREA - KIB(32)), len,
					     i >= 1 + (how >> 3) % BUFS_MAX };
		writable += bufs[i].write ? len : 0;
	}
	put_header(rig, bufs[0].addr);
	if (count > 1) {
		put_range(rig, bufs[1].addr);
	}
	for (uint16_t i = 0; i < RING_SIZE; i++) {
		/* A direct chain must not overwrite descriptors of one that is out. */
		if (rig->busy[i] && (how & 0x40) == 0) {
			return;
		}
	}
	head = (how & 0x40) != 0 ? fake_ring_add_indirect(ring, bufs, count)
				 : fake_ring_add(ring, bufs, count);
	rig->busy[head] = true;
	rig->writable[head] = writable;
	rig->out++;
	if ((how & 0x80) != 0) {
		fake_driver_kick(&rig->d, 0);
		collect(rig);
	}
}

static void add_fault(struct rig *rig)
{
	static const int errors[] = { EIO, ENOSPC, EINTR, ENOMEM };
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);

	sync_worker(rig);
	block_fault_clear(rig->fault);
	block_fault_add(rig->fault,
			&(struct block_fault_rule){ .ops = (uint32_t)fuzz_take(&rig->in, 1),
						    .skip = how >> 6,
						    .count = 1 + (how >> 4 & 3),
						    .kind = (enum block_fault_kind)(how % 4),
						    .error = errors[how >> 2 & 3] });
	rig->fault->reverse = (how & 8) != 0;
}

static void check(void *arg)
{
	struct rig *rig = arg;
	const struct virtqueue *q = &rig->d.dev->queues[0].ring;

	REQUIRE(rig->fault->block.pending.head == NULL);
	REQUIRE(rig->fault->block.in_flight == rig->fault->held_count);
	REQUIRE(!q->running || q->state.broken || q->in_flight_count == rig->fault->held_count);
}

static void step(struct rig *rig)
{
	struct virtio_device *dev = rig->d.dev;
	uint8_t byte;

	switch (fuzz_take(&rig->in, 1) % 12) {
	case 0:
		start(rig);
		break;
	case 1:
		add_fault(rig);
		break;
	case 2:
		worker_call(&rig->d.workers[0], release, rig);
		break;
	case 3:
		virtio_device_quiesce(dev);
		collect(rig);
		REQUIRE(rig->fault->block.in_flight == 0);
		virtio_device_resume(dev);
		break;
	case 4:
		byte = (uint8_t)fuzz_take(&rig->in, 1);
		(void)pthread_mutex_lock(&dev->lock);
		virtio_config_write(dev, offsetof(struct virtio_blk_config, wce), &byte, 1);
		virtio_config_read(dev, fuzz_take(&rig->in, 1), &byte, 1);
		(void)pthread_mutex_unlock(&dev->lock);
		break;
	case 5:
		fake_driver_kick(&rig->d, 0);
		break;
	default:
		offer(rig);
		break;
	}
	collect(rig);
	if (rig->running && broken(rig)) {
		start(rig);
	}
	worker_call(&rig->d.workers[0], check, rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t untouched[CAPACITY];
	static struct rig rig;
	struct virtio_device *dev;
	struct error e;

	memset(&rig, 0, sizeof(rig));
	log_init(LOG_ERROR, -1);
	rig.in = (struct fuzz_input){ data, size };
	fake_driver_init(&rig.d);
	REQUIRE(block_memory_create(&rig.memory, CAPACITY, &e) == 0);
	rig.memory->block.read_only = fuzz_take(&rig.in, 1) % 8 == 0;
	REQUIRE(block_fault_create(&rig.fault, &rig.memory->block, &e) == 0);
	REQUIRE(virtio_blk_create(&dev, "vda", &rig.fault->block, &rig.d.mem, rig.d.workers, &e) ==
		0);
	fake_driver_attach(&rig.d, dev);
	start(&rig);
	while (rig.in.len != 0) {
		step(&rig);
	}
	if (rig.memory->block.read_only) {
		REQUIRE(memcmp(rig.memory->data, untouched, CAPACITY) == 0);
	}
	fake_driver_finish(&rig.d);
	return 0;
}
