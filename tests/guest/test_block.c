/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the disk: every request type, with what must be refused, and the reboot counter that
 * lives in its first sector. */
#include "virtio.h"

#define SECTOR 512UL
#define BLOCK  4096UL
#define DEPTH  32

#define BLK_F_RO	   (1ULL << 5)
#define BLK_F_FLUSH	   (1ULL << 9)
#define BLK_F_MQ	   (1ULL << 12)
#define BLK_F_DISCARD	   (1ULL << 13)
#define BLK_F_WRITE_ZEROES (1ULL << 14)

enum {
	BLK_IN = 0,
	BLK_OUT = 1,
	BLK_FLUSH = 4,
	BLK_GET_ID = 8,
	BLK_DISCARD = 11,
	BLK_WRITE_ZEROES = 13
};
enum { BLK_OK = 0, BLK_IOERR = 1, BLK_UNSUPPORTED = 2, BLK_NO_ANSWER = 0xee };

struct request {
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header;
	uint8_t status;
	uint8_t *data;
};

struct range {
	uint64_t sector;
	uint32_t count, flags;
};

static struct virtio disk;
static struct request requests[DEPTH];

static void open_disk(uint64_t features)
{
	virtio_negotiate(&disk, features);
	virtio_queue(&disk, 0, 0);
	virtio_ready(&disk);
	if (disk.interrupts) {
		virtio_interrupts(&disk);
	}
}

static void find_disk(unsigned nth)
{
	if (!virtio_find(&disk, VIRTIO_ID_BLOCK, nth)) {
		guest_skip("no disk");
	}
	for (unsigned i = 0; i < DEPTH; i++) {
		requests[i].data = guest_alloc(BLOCK, BLOCK);
	}
}

static uint64_t capacity(void)
{
	return guest_read32(disk.config) | (uint64_t)guest_read32(disk.config + 4) << 32;
}

static void submit_to(unsigned queue, struct request *r, uint32_t type, uint64_t sector,
		      uint32_t length)
{
	struct virtio_buffer buffers[3] = {
		{ &r->header, 16, false },
		{ r->data, length, type == BLK_IN || type == BLK_GET_ID },
		{ &r->status, 1, true },
	};

	r->header.type = type;
	r->header.reserved = 0;
	r->header.sector = sector;
	r->status = BLK_NO_ANSWER;
	if (!length) {
		buffers[1] = buffers[2];
	}
	guest_require(virtio_add(&disk, queue, buffers, length ? 3 : 2, r));
}

static void submit(struct request *r, uint32_t type, uint64_t sector, uint32_t length)
{
	submit_to(0, r, type, sector, length);
}

static uint8_t one(uint32_t type, uint64_t sector, uint32_t length)
{
	uint32_t written;

	submit(&requests[0], type, sector, length);
	virtio_kick(&disk, 0);
	guest_check(virtio_take_wait(&disk, 0, &written) == &requests[0]);
	/* 2.7.8.2: bytes written from the start on. A read that failed wrote its status behind data
	 * that it did not. */
	guest_check(written >= 1 || type == BLK_IN || requests[0].status != BLK_OK);
	if (requests[0].status == BLK_OK && (type == BLK_IN)) {
		guest_check(written == length + 1);
	}
	return requests[0].status;
}

static uint64_t pattern(uint64_t sector, uint64_t word, uint64_t seed)
{
	return (sector * 64 + word) * 0x9e3779b97f4a7c15ULL + seed;
}

static void fill_block(struct request *r, uint64_t sector, uint64_t seed)
{
	for (uint64_t i = 0; i < BLOCK / 8; i++) {
		((uint64_t *)r->data)[i] = pattern(sector, i, seed);
	}
}

static void check_block(const struct request *r, uint64_t sector, uint64_t seed)
{
	for (uint64_t i = 0; i < BLOCK / 8; i++) {
		if (((uint64_t *)r->data)[i] != pattern(sector, i, seed)) {
			guest_printf("sector %lu word %lu holds %lx\n", sector, i,
				     ((uint64_t *)r->data)[i]);
			guest_require(!"the disk returns what was written");
		}
	}
}

/* count blocks from sector on, DEPTH at a time; written with a pattern, or read and compared with
 * it. */
static void transfer(bool write, uint64_t sector, unsigned count, uint64_t seed)
{
	unsigned sent = 0, done = 0;

	while (done < count) {
		/* A whole batch comes back before its slots are used again; in which order is the
		 * device's business. */
		while (sent < count && sent - done < DEPTH) {
			struct request *r = &requests[sent % DEPTH];

			if (write) {
				fill_block(r, sector + sent * (BLOCK / SECTOR), seed);
			} else {
				memset(r->data, 0x55, BLOCK);
			}
			submit(r, write ? BLK_OUT : BLK_IN, sector + sent * (BLOCK / SECTOR),
			       BLOCK);
			sent++;
		}
		virtio_kick(&disk, 0);
		while (done < sent) {
			uint32_t length;
			struct request *r = virtio_take_wait(&disk, 0, &length);

			guest_require(r->status == BLK_OK);
			guest_check(length == (write ? 1 : BLOCK + 1));
			if (!write) {
				check_block(r, r->header.sector, seed);
			}
			done++;
		}
	}
}

static void check_refusals(uint64_t sectors)
{
	static const uint64_t bad[] = { 1ULL << 55, 1ULL << 63, ~0ULL, ~0ULL - 7 };

	guest_check(one(BLK_IN, sectors, SECTOR) == BLK_IOERR);
	guest_check(one(BLK_IN, sectors - 1, SECTOR) == BLK_OK);
	guest_check(one(BLK_IN, sectors - 1, 2 * SECTOR) == BLK_IOERR);
	guest_check(one(BLK_OUT, sectors, SECTOR) == BLK_IOERR);
	guest_check(one(BLK_OUT, sectors - 1, 2 * SECTOR) == BLK_IOERR);
	for (size_t i = 0; i < GUEST_ARRAY_SIZE(bad); i++) {
		guest_check(one(BLK_IN, bad[i], SECTOR) == BLK_IOERR);
		guest_check(one(BLK_OUT, bad[i], SECTOR) == BLK_IOERR);
	}
	/* Not a multiple of a sector. */
	guest_check(one(BLK_IN, 0, SECTOR - 1) == BLK_IOERR);
	guest_check(one(BLK_OUT, 0, SECTOR + 1) == BLK_IOERR);
	/* SCSI pass-through and numbers that nobody gave out. */
	guest_check(one(2, 0, SECTOR) == BLK_UNSUPPORTED);
	guest_check(one(0xffffffff, 0, SECTOR) == BLK_UNSUPPORTED);
}

static uint8_t one_range(uint32_t type, uint64_t sector, uint32_t count, uint32_t flags)
{
	struct range range = { sector, count, flags };

	memcpy(requests[0].data, &range, sizeof(range));
	return one(type, 0, sizeof(range));
}

static bool is_zero(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (data[i]) {
			return false;
		}
	}
	return true;
}

static void check_zeroes(uint64_t sectors)
{
	transfer(true, 64, 8, 3);
	guest_check(one_range(BLK_WRITE_ZEROES, 72, 16, 0) == BLK_OK);
	guest_check(one(BLK_IN, 72, BLOCK) == BLK_OK && is_zero(requests[0].data, BLOCK));
	guest_check(one(BLK_IN, 80, BLOCK) == BLK_OK && is_zero(requests[0].data, BLOCK));
	transfer(false, 64, 1, 3);
	transfer(false, 88, 5, 3);
	/* With UNMAP, and not on a block's border. */
	guest_check(one_range(BLK_WRITE_ZEROES, 97, 1, 1) == BLK_OK);
	guest_check(one(BLK_IN, 97, SECTOR) == BLK_OK && is_zero(requests[0].data, SECTOR));
	guest_check(one(BLK_IN, 98, SECTOR) == BLK_OK && !is_zero(requests[0].data, SECTOR));
	guest_check(one_range(BLK_WRITE_ZEROES, sectors - 1, 2, 0) == BLK_IOERR);
	guest_check(one_range(BLK_WRITE_ZEROES, 1ULL << 55, 1, 0) == BLK_IOERR);
	guest_check(one_range(BLK_WRITE_ZEROES, ~0ULL, 2, 0) == BLK_IOERR);
	guest_check(one_range(BLK_WRITE_ZEROES, 0, 1, 0x10) == BLK_UNSUPPORTED);
}

static void check_discard(uint64_t sectors)
{
	transfer(true, 128, 8, 4);
	guest_check(one_range(BLK_DISCARD, 136, 16, 0) == BLK_OK);
	guest_check(one(BLK_IN, 136, BLOCK) == BLK_OK);
	transfer(false, 128, 1, 4);
	transfer(false, 152, 5, 4);
	guest_check(one_range(BLK_DISCARD, sectors - 1, 2, 0) == BLK_IOERR);
	guest_check(one_range(BLK_DISCARD, 0, 0xffffffff, 0) == BLK_IOERR);
	guest_check(one_range(BLK_DISCARD, ~0ULL, 2, 0) == BLK_IOERR);
	guest_check(one_range(BLK_DISCARD, 0, 1, 1) == BLK_UNSUPPORTED);
	guest_check(one_range(BLK_DISCARD, 0, 1, 0x10) == BLK_UNSUPPORTED);
}

static void check_read_only(void)
{
	guest_check(one(BLK_IN, 0, BLOCK) == BLK_OK);
	guest_check(one(BLK_OUT, 0, BLOCK) == BLK_IOERR);
	if (disk.features & BLK_F_WRITE_ZEROES) {
		guest_check(one_range(BLK_WRITE_ZEROES, 0, 8, 0) != BLK_OK);
	}
	if (disk.features & BLK_F_DISCARD) {
		guest_check(one_range(BLK_DISCARD, 0, 8, 0) != BLK_OK);
	}
}

static void check_id(void)
{
	char id[21] = { 0 };
	const char *serial;

	memset(requests[0].data, 'x', 64);
	guest_check(one(BLK_GET_ID, 0, 20) == BLK_OK);
	memcpy(id, requests[0].data, 20);
	guest_check(requests[0].data[20] == 'x');
	guest_printf("serial \"%s\"\n", id);
	serial = guest_option("serial");
	if (serial) {
		guest_check(guest_equal(id, serial));
	}
}

/* disk=N the Nth disk; sectors=, serial=, ro=1 what it should be; indirect=, event=, irq= how to
 * talk to it; seed= the data. */
int test_block(void)
{
	uint64_t features = BLK_F_FLUSH | BLK_F_DISCARD | BLK_F_WRITE_ZEROES,
		 seed = guest_option_number("seed", 1), sectors;

	find_disk((unsigned)guest_option_number("disk", 0));
	features |= guest_option_number("indirect", 1) ? VIRTIO_F_INDIRECT : 0;
	features |= guest_option_number("event", 1) ? VIRTIO_F_EVENT_IDX : 0;
	disk.interrupts = guest_option_number("irq", 1);
	sectors = capacity();
	guest_printf("sectors %lu features %lx\n", sectors, virtio_offered(&disk));
	guest_check(sectors == guest_option_number("sectors", sectors));
	guest_require(sectors >= 8192);
	guest_check(!!(virtio_offered(&disk) & BLK_F_RO) == guest_option_number("ro", 0));
	/* The read-only flag is not acknowledged: it must hold all the same. */
	open_disk(features);
	guest_printf("negotiated %lx\n", disk.features);
	check_id();
	if (guest_option_number("ro", 0)) {
		check_read_only();
		return 0;
	}
	guest_check(disk.features & BLK_F_FLUSH);
	transfer(true, 1024, 256, seed);
	guest_check(one(BLK_FLUSH, 0, 0) == BLK_OK);
	transfer(false, 1024, 256, seed);
	check_refusals(sectors);
	if (disk.features & BLK_F_WRITE_ZEROES) {
		check_zeroes(sectors);
	}
	if (disk.features & BLK_F_DISCARD) {
		check_discard(sectors);
	}
	/* After a reset with requests in flight the disk works as before. */
	for (unsigned i = 0; i < DEPTH; i++) {
		submit(&requests[i], BLK_IN, 1024 + i * 8, BLOCK);
	}
	virtio_write(&disk, VIRTIO_QUEUE_NOTIFY, 0);
	open_disk(features);
	transfer(false, 1024, 256, seed);
	guest_check(capacity() == sectors);
	guest_printf("kicks %u interrupts %u\n", disk.queue[0].kicks, guest_irq_count[disk.vector]);
	return 0;
}

/* With requests in flight: takes the disk from them, or the machine. */
static void leave(const char *how)
{
	for (unsigned i = 0; i < DEPTH; i++) {
		submit(&requests[i], BLK_IN, i * (BLOCK / SECTOR), BLOCK);
	}
	virtio_kick(&disk, 0);
	guest_puts("leaving\n");
	if (guest_equal(how, "drop")) {
		virtio_write(&disk, VIRTIO_STATUS, 0);
		guest_puts("left\n");
		guest_sleep();
	} else if (guest_equal(how, "reset")) {
		guest_out8(GUEST_ACPI_RESET, 1);
	} else {
		guest_out8(GUEST_ACPI_SLEEP_CONTROL, GUEST_ACPI_SLEEP_S5);
	}
	guest_wait(false);
}

/* What one CPU does with one queue. */
struct lane {
	struct request requests[DEPTH];
	uint64_t total, blocks, random, done;
	uint32_t type;
};

static struct lane lanes[VIRTIO_QUEUES];
static volatile uint32_t lanes_ready, lanes_go;

static void run_lane(unsigned cpu)
{
	struct lane *lane = &lanes[cpu];
	struct request *idle[DEPTH];
	unsigned idle_count = DEPTH;
	uint64_t sent = 0;

	for (unsigned i = 0; i < DEPTH; i++) {
		idle[i] = &lane->requests[i];
	}
	__atomic_fetch_add(&lanes_ready, 1, __ATOMIC_SEQ_CST);
	guest_require(guest_wait(lanes_go));
	while (lane->done < lane->total) {
		struct request *r;

		while (sent < lane->total && idle_count) {
			lane->random ^= lane->random << 13;
			lane->random ^= lane->random >> 7;
			lane->random ^= lane->random << 17;
			submit_to(cpu, idle[--idle_count], lane->type,
				  lane->random % lane->blocks * (BLOCK / SECTOR), BLOCK);
			sent++;
		}
		virtio_kick(&disk, cpu);
		for (r = virtio_take_wait(&disk, cpu, NULL); r; r = virtio_take(&disk, cpu, NULL)) {
			guest_require(r->status == BLK_OK);
			idle[idle_count++] = r;
			lane->done++;
		}
	}
}

/* Each of `count` queues on a CPU of its own, without interrupts; there may be more CPUs. */
static void run_lanes(unsigned count, uint64_t total, uint32_t type)
{
	uint64_t start, done = 0;
	unsigned others;

	guest_require(count <= VIRTIO_QUEUES);
	virtio_negotiate(&disk, BLK_F_FLUSH | VIRTIO_F_INDIRECT | (count > 1 ? BLK_F_MQ : 0));
	for (unsigned i = 0; i < count; i++) {
		struct lane *lane = &lanes[i];

		virtio_queue(&disk, i, 0);
		disk.queue[i].avail->flags = 1;
		lane->total = total;
		lane->blocks = capacity() / (BLOCK / SECTOR);
		lane->random = 88172645463325252ULL + i;
		lane->type = type;
		for (unsigned j = 0; j < DEPTH; j++) {
			lane->requests[j].data = guest_alloc(BLOCK, BLOCK);
		}
	}
	virtio_ready(&disk);
	others = count > 1 ? guest_smp_run(run_lane) : 0;
	guest_require(others + 1 == count);
	guest_require(guest_wait(lanes_ready == others));
	guest_puts("start\n");
	start = guest_tsc();
	lanes_go = 1;
	run_lane(0);
	guest_require(guest_wait(guest_smp_finished() == others));
	start = guest_tsc() - start;
	for (unsigned i = 0; i < count; i++) {
		done += lanes[i].done;
	}
	guest_require(done == count * total);
	guest_printf("requests %lu cycles %lu kicks %u interrupts %u\n", done, start,
		     disk.queue[0].kicks, 0);
}

/* requests=N random reads of 4 KiB (write=1: writes), DEPTH in flight all the time. For
 * measurements. lanes=N: so many by each of N CPUs on a queue of its own. then=drop|reset|acpi: it
 * does not end, but leaves with requests in flight. */
int test_block_load(void)
{
	uint64_t total = guest_option_number("requests", 10000), start, blocks,
		 random = 88172645463325252ULL;
	uint32_t type = guest_option_number("write", 0) ? BLK_OUT : BLK_IN;
	uint64_t sent = 0, done = 0;
	struct request *idle[DEPTH];
	unsigned idle_count = DEPTH;

	find_disk(0);
	if (guest_option("lanes")) {
		run_lanes((unsigned)guest_option_number("lanes", 1), total, type);
		return 0;
	}
	for (unsigned i = 0; i < DEPTH; i++) {
		idle[i] = &requests[i];
	}
	disk.interrupts = guest_option_number("irq", 1);
	blocks = capacity() / (BLOCK / SECTOR);
	open_disk(BLK_F_FLUSH | VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX);
	guest_puts("start\n");
	start = guest_tsc();
	while (done < total) {
		struct request *r;

		while (sent < total && idle_count) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			submit(idle[--idle_count], type, random % blocks * (BLOCK / SECTOR), BLOCK);
			sent++;
		}
		virtio_kick(&disk, 0);
		for (r = virtio_take_wait(&disk, 0, NULL); r; r = virtio_take(&disk, 0, NULL)) {
			guest_require(r->status == BLK_OK);
			idle[idle_count++] = r;
			done++;
		}
	}
	guest_printf("requests %lu cycles %lu kicks %u interrupts %u\n", done, guest_tsc() - start,
		     disk.queue[0].kicks, guest_irq_count[disk.vector]);
	if (guest_option("then")) {
		leave(guest_option("then"));
	}
	return 0;
}

/* Sector 0 counts the boots; after count=N of them the machine powers off, before that it resets by
 * mode=. */
int test_reboot(void)
{
	static const char magic[] = "boots: ";
	uint64_t boots, wanted = guest_option_number("count", 3);
	uint64_t *counter;

	find_disk(0);
	open_disk(BLK_F_FLUSH);
	guest_require(one(BLK_IN, 0, SECTOR) == BLK_OK);
	counter = (uint64_t *)(requests[0].data + 8);
	if (memcmp(requests[0].data, magic, 8)) {
		memcpy(requests[0].data, magic, 8);
		*counter = 0;
	}
	boots = ++*counter;
	guest_require(one(BLK_OUT, 0, SECTOR) == BLK_OK);
	guest_require(one(BLK_FLUSH, 0, 0) == BLK_OK);
	guest_printf("boot %lu of %lu\n", boots, wanted);
	if (boots >= wanted) {
		guest_puts("PASS reboot\n");
		guest_out8(GUEST_ACPI_SLEEP_CONTROL, GUEST_ACPI_SLEEP_S5);
	}
	return test_exit();
}
