/* SPDX-License-Identifier: Apache-2.0 */
/* Raw disks that go from one process to another while both have them open (src/block/hold.c). */
#include "harness/block_rig.h"
#include "harness/hold_rig.h"

#include <linux/fs.h>

static const struct hold_row {
	int engine;
	uint32_t queues;
	int lock;
} rows[] = {
	{ BLOCK_ENGINE_SYNC, 1, BLOCK_LOCK_ON },   { BLOCK_ENGINE_URING, 1, BLOCK_LOCK_ON },
	{ BLOCK_ENGINE_SYNC, 3, BLOCK_LOCK_ON },   { BLOCK_ENGINE_URING, 3, BLOCK_LOCK_ON },
	{ BLOCK_ENGINE_URING, 2, BLOCK_LOCK_OFF },
};

/* What both processes have: the disk as it should be. */
struct model {
	uint32_t state; /* of the series of numbers */
	uint8_t bytes[DISK_SIZE];
};
static struct model *model;

static uint32_t next_number(void)
{
	model->state = model->state * 1664525 + 1013904223;
	return model->state >> 8;
}

static void hold_setup(void)
{
	setup();
	model = mmap(NULL, sizeof(*model), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	ck_assert_ptr_ne(model, MAP_FAILED);
	make_file(disk_path, DISK_SIZE);
}

static void hold_teardown(void)
{
	(void)munmap(model, sizeof(*model));
	teardown();
}

static struct block_config config_of(const struct hold_row *row)
{
	return (struct block_config){
		.path = disk_path, .engine = row->engine, .queues = row->queues, .lock = row->lock
	};
}

static void read_all(struct block *b)
{
	static uint8_t back[DISK_SIZE];

	ck_assert_int_eq(run_buf(queue_of(b, next_number()), BLOCK_READ, 0, back, sizeof(back)), 0);
	ck_assert_mem_eq(back, model->bytes, sizeof(back));
}

/* Reads what there is, and writes a few things, by all queues. */
static void work(struct block *b)
{
	read_all(b);
	for (int i = 0; i < 12; i++) {
		uint64_t at = next_number() % (DISK_SIZE / BLOCK_SECTOR) * BLOCK_SECTOR;
		uint64_t len = MIN((1 + next_number() % 64) * BLOCK_SECTOR, DISK_SIZE - at);
		struct block *queue = queue_of(b, next_number());

		if (next_number() % 4 == 0) {
			memset(model->bytes + at, 0, len);
			ck_assert_int_eq(run(queue, BLOCK_WRITE_ZEROES, at, len, NULL, 0), 0);
		} else {
			pattern(model->bytes + at, len, next_number());
			ck_assert_int_eq(run_buf(queue, BLOCK_WRITE, at, model->bytes + at, len),
					 0);
		}
	}
	if (next_number() % 4 == 0) {
		ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	}
}

static bool can_be_opened(void)
{
	const struct block_config config = { .path = disk_path, .engine = BLOCK_ENGINE_SYNC };
	struct error e = { 0 };
	struct block *b = NULL;

	if (block_open(&b, &config, &e) < 0) {
		check_error(&e, ERROR_DISK_LOCKED, disk_path);
		return false;
	}
	block_close(b);
	return true;
}

/* Forth and back, and only ever one can write. */
START_TEST(test_there_and_back)
{
	const struct hold_row *row = &rows[_i];
	const struct block_config config = config_of(row);
	struct side sides[2];

	if (!side_open(&sides[0], &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	ck_assert(side_open(&sides[1], &config, true));
	for (uint32_t i = 0; i < 40; i++) {
		struct block *from = sides[i % 2].b, *to = sides[1 - i % 2].b;

		take(from); /* done already */
		refuses_requests(to);
		if (row->lock == BLOCK_LOCK_ON) {
			take_fails(to, ERROR_DISK_LOCKED, disk_path);
			take_fails(to, ERROR_DISK_LOCKED, "stop the other machine first");
			ck_assert(!can_be_opened());
		}
		refuses_requests(to);
		if (i % 3 == 0) {
			block_sync_ahead(from);
		}
		work(from);
		release(from);
		release(from);
		refuses_requests(from);
		ck_assert(can_be_opened());
		if (i % 5 == 0) {
			/* Not this time: it goes on where it was. */
			take(from);
			work(from);
			release(from);
		}
		take(to);
	}
	read_all(sides[0].b);
	side_close(&sides[0]);
	ck_assert(row->lock == BLOCK_LOCK_ON ? can_be_opened() : true);
	side_close(&sides[1]);
	check_file(0, model->bytes, DISK_SIZE);
}
END_TEST

START_TEST(test_processes)
{
	const struct block_config config = config_of(&rows[_i]);
	struct other other;
	struct side side;

	if (!side_open(&side, &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	start_other(&other, &config, work);
	for (int i = 0; i < 100; i++) {
		work(side.b);
		if (rows[_i].lock == BLOCK_LOCK_ON && i % 10 == 0) {
			ck_assert_int_eq(ask_other(&other, ORDER_TAKE), -EAGAIN);
		}
		release(side.b);
		ck_assert_int_eq(ask_other(&other, ORDER_TAKE), 0);
		ck_assert_int_eq(ask_other(&other, ORDER_WORK), 0);
		if (rows[_i].lock == BLOCK_LOCK_ON && i % 10 == 0) {
			take_fails(side.b, ERROR_DISK_LOCKED, disk_path);
		}
		ck_assert_int_eq(ask_other(&other, ORDER_RELEASE), 0);
		take(side.b);
	}
	read_all(side.b);
	end_other(&other, false);
	side_close(&side);
}
END_TEST

/* Who is killed leaves what it has written, and the lock. */
START_TEST(test_killed_holder)
{
	const struct block_config config = config_of(&rows[_i]);
	struct other other;
	struct side side;

	if (!side_open(&side, &config, true)) {
		CHECK_SKIP("no io_uring");
	}
	start_other(&other, &config, work);
	ck_assert_int_eq(ask_other(&other, ORDER_TAKE), 0);
	ck_assert_int_eq(ask_other(&other, ORDER_WORK), 0);
	if (rows[_i].lock == BLOCK_LOCK_ON) {
		take_fails(side.b, ERROR_DISK_LOCKED, disk_path);
	}
	end_other(&other, true);
	take_in_the_end(side.b);
	work(side.b);
	read_all(side.b);
	side_close(&side);
}
END_TEST

/* The file is what it was, or the lock is not taken, and the file left alone. */
START_TEST(test_other_size)
{
	const struct block_config config = config_of(&rows[_i]);
	static const uint64_t sizes[] = { DISK_SIZE + 4096, DISK_SIZE + 1, DISK_SIZE - 512, 0 };
	struct side sides[2];
	char text[64];

	if (!side_open(&sides[0], &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	ck_assert(side_open(&sides[1], &config, true));
	release(sides[0].b);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		ck_assert_int_eq(truncate(disk_path, (off_t)sizes[i]), 0);
		(void)snprintf(text, sizeof(text), "it had %llu bytes, and has %llu",
			       (unsigned long long)DISK_SIZE, (unsigned long long)sizes[i]);
		take_fails(sides[1].b, ERROR_DISK, text);
		take_fails(sides[0].b, ERROR_DISK, disk_path);
		refuses_requests(sides[1].b);
		ck_assert(can_be_opened());
	}
	ck_assert_int_eq(truncate(disk_path, (off_t)DISK_SIZE), 0);
	take(sides[1].b);
	work(sides[1].b);
	side_close(&sides[0]);
	side_close(&sides[1]);
}
END_TEST

/* A file whose last sector is not whole. */
START_TEST(test_odd_size)
{
	const struct block_config config = config_of(&rows[_i]);
	struct side sides[2];

	make_file(disk_path, DISK_SIZE + 100);
	if (!side_open(&sides[0], &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	ck_assert(side_open(&sides[1], &config, true));
	ck_assert_uint_eq(sides[1].b->tail, 100);
	release(sides[0].b);
	take(sides[1].b);
	work(sides[1].b);
	side_close(&sides[1]);
	side_close(&sides[0]);
}
END_TEST

/* Whoever does not hold it when it is closed has written nothing since. */
START_TEST(test_closed_unheld)
{
	const struct block_config config = config_of(&rows[_i]);
	struct side sides[2];
	struct snap was;

	if (!side_open(&sides[0], &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	ck_assert(side_open(&sides[1], &config, true));
	work(sides[0].b);
	release(sides[0].b);
	was = snap(disk_path);
	refuses_requests(sides[0].b);
	side_close(&sides[1]);
	side_close(&sides[0]);
	is_as_it_was(disk_path, &was);
}
END_TEST

/* Many can have it, so nobody is in anybody's way; a writer is. */
START_TEST(test_readers)
{
	struct block_config config = config_of(&rows[_i]);
	struct block_config writer = { .path = disk_path, .engine = BLOCK_ENGINE_SYNC };
	struct side sides[2];
	struct block *w;

	config.read_only = true;
	if (!side_open(&sides[0], &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	ck_assert(side_open(&sides[1], &config, true));
	take(sides[1].b);
	release(sides[0].b);
	release(sides[1].b);
	w = open_held(&writer, false);
	if (rows[_i].lock == BLOCK_LOCK_ON) {
		take_fails(sides[1].b, ERROR_DISK_LOCKED, disk_path);
	}
	block_close(w);
	take(sides[1].b);
	read_all(sides[1].b);
	side_close(&sides[0]);
	side_close(&sides[1]);
}
END_TEST

START_TEST(test_null)
{
	const struct block_config config = { .path = "/dev/null" };
	struct block *a = open_held(&config, false), *b = open_held(&config, true);

	for (int i = 0; i < 3; i++) {
		block_sync_ahead(a);
		take(b);
		release(a);
		release(b);
		take(a);
	}
	block_close(a);
	block_close(b);
}
END_TEST

/* --- a host that fails ------------------------------------------------------------------------- */

static int syncs, sync_error;

static int host_sync(int fd)
{
	ck_assert_int_ge(fd, 0);
	syncs++;
	errno = sync_error;
	return sync_error != 0 ? -1 : 0;
}

/* What was written is stable when the lock goes; if it cannot be, the lock stays, and the guest goes on, knowing. */
START_TEST(test_stable)
{
	struct block_config config = { .path = disk_path, .engine = engines[_i], .queues = 2 };
	struct raw_io io = raw_io;
	struct side side;
	struct error e = { 0 };

	if (!side_open(&side, &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	io.fdatasync = host_sync;
	syncs = sync_error = 0;
	container_of(side.b, struct raw, block)->io = &io;
	work(side.b->more);
	syncs = 0;
	release(side.b);
	ck_assert_int_eq(syncs, 1);
	take(side.b);
	ck_assert_int_eq(syncs, 1);
	/* Who is of this host sees it all the same, and waits for nothing. */
	side.b->stays_here = true;
	release(side.b);
	ck_assert_int_eq(syncs, 1);
	take(side.b);
	side.b->stays_here = false;
	sync_error = EIO;
	ck_assert_int_eq(block_release_lock(side.b, &e), -EIO);
	check_error(&e, ERROR_DISK, "cannot be given away");
	ck_assert(!side.b->unheld && !side.b->more->unheld);
	ck_assert(!can_be_opened());
	sync_error = 0;
	ck_assert_int_eq(run(side.b, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	ck_assert_int_eq(run(side.b->more, BLOCK_WRITE_ZEROES, 0, 4096, NULL, 0), 0);
	/* What is lost is lost. */
	ck_assert_int_eq(block_release_lock(side.b, &e), -EIO);
	side_close(&side);
	/* Another worker has heard of it. */
	ck_assert(side_open(&side, &config, false));
	container_of(side.b->more, struct raw, block)->sync_failed = true;
	ck_assert_int_eq(block_release_lock(side.b, &e), -EIO);
	side_close(&side);
}
END_TEST

/* Who wants nothing to be stable waits for nothing, but where others would not see it. */
START_TEST(test_unsafe)
{
	struct block_config config = { .path = disk_path,
				       .engine = engines[_i],
				       .cache = BLOCK_CACHE_UNSAFE };
	struct raw_io io = raw_io;
	struct side side;

	if (!side_open(&side, &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	io.fdatasync = host_sync;
	syncs = sync_error = 0;
	container_of(side.b, struct raw, block)->io = &io;
	release(side.b);
	ck_assert_int_eq(syncs, 0);
	take(side.b);
	container_of(side.b, struct raw, block)->is_remote = true;
	release(side.b);
	ck_assert_int_eq(syncs, 1);
	take(side.b);
	side_close(&side);
}
END_TEST

/* --- devices ------------------------------------------------------------------------------------ */

static char device[64];

/* False: there are none here. */
static bool attach_device(void)
{
	char command[256];
	FILE *losetup;
	bool got;

	(void)snprintf(command, sizeof(command), "losetup --find --show '%s' 2>/dev/null",
		       disk_path);
	losetup = popen(command, "r");
	got = losetup != NULL && fgets(device, sizeof(device), losetup) != NULL;
	if (losetup != NULL) {
		(void)pclose(losetup);
	}
	device[strcspn(device, "\n")] = '\0';
	return got;
}

/* It goes with its last descriptor. */
static void detach_device(void)
{
	char command[96];

	(void)snprintf(command, sizeof(command), "losetup -d %s", device);
	ck_assert_int_eq(system(command), 0);
}

/* As a mount would; -1: it is claimed. */
static int claim(void)
{
	int fd = open(device, O_RDONLY | O_CLOEXEC | O_EXCL);

	ck_assert(fd >= 0 || errno == EBUSY);
	return fd;
}

/* As another host does, whose disk it is as well: this one has read it, and keeps the pages. */
static void write_behind_the_cache(void)
{
	int fd = open(disk_path, O_WRONLY | O_CLOEXEC);

	pattern(model->bytes, 65536, 99);
	ck_assert_int_eq(pwrite(fd, model->bytes, 65536, 0), 65536);
	(void)close(fd);
}

static void hand_device_over(struct side sides[2])
{
	static uint8_t page[4096];
	int fd = claim();

	ck_assert_int_lt(fd, 0);
	take_fails(sides[1].b, ERROR_DISK_LOCKED, device);
	work(sides[0].b);
	/* Dirty pages of a claimed device are dropped for its owner only, which every worker is. */
	for (uint32_t i = 0; i < 3; i++) {
		memset(model->bytes + (size_t)i * 65536, 0, 8192);
		pattern(page, sizeof(page), i);
		ck_assert_int_eq(run_buf(queue_of(sides[0].b, i), BLOCK_WRITE, (uint64_t)i * 65536,
					 page, sizeof(page)),
				 0);
		ck_assert_int_eq(run(queue_of(sides[0].b, i), BLOCK_DISCARD, (uint64_t)i * 65536,
				     8192, NULL, 0),
				 0);
		ck_assert_int_eq(run(queue_of(sides[0].b, i), BLOCK_WRITE_ZEROES,
				     (uint64_t)i * 65536, 8192, NULL, 0),
				 0);
	}
	release(sides[0].b);
	fd = claim();
	ck_assert_int_ge(fd, 0);
	take_fails(sides[1].b, ERROR_DISK_LOCKED, "in use by this host");
	(void)close(fd);
	write_behind_the_cache();
	take(sides[1].b);
	ck_assert_int_lt(claim(), 0);
	work(sides[1].b);
}

/* The claim goes with the lock. */
START_TEST(test_device)
{
	struct block_config config = { .path = device,
				       .engine = engines[_i / 2],
				       .queues = _i % 2 == 0 ? 1 : 3 };
	struct side sides[2];
	struct block *next = NULL;
	struct error e = { 0 };
	int fd;

	if (!attach_device()) {
		CHECK_SKIP("no loop devices");
	}
	sides[0].b = open_held(&config, false);
	detach_device();
	if (sides[0].b != NULL) {
		side_attach(&sides[0]);
		ck_assert(side_open(&sides[1], &config, true));
		hand_device_over(sides);
		release(sides[1].b);
		take(sides[0].b);
		read_all(sides[0].b);
		/* It stays claimed when another one takes its place. */
		check_ok(block_open_instead(&next, &config, sides[0].b, &e), &e);
		side_close(&sides[0]);
		ck_assert_int_lt(claim(), 0);
		release(next);
		take(sides[1].b);
		read_all(sides[1].b);
		side_close(&sides[1]);
		block_close(next);
		fd = claim();
		ck_assert_int_ge(fd, 0);
		(void)close(fd);
	}
}
END_TEST

CHECK_MAIN("block_hold", CHECK_FIXTURE(hold_setup, hold_teardown);
	   CHECK_TABLE(test_there_and_back, rows); CHECK_TABLE(test_processes, rows);
	   CHECK_TABLE(test_killed_holder, rows); CHECK_TABLE(test_other_size, rows);
	   CHECK_TABLE(test_odd_size, rows); CHECK_TABLE(test_closed_unheld, rows);
	   CHECK_TABLE(test_readers, rows); CHECK_TEST(test_null);
	   CHECK_TABLE(test_stable, engines); CHECK_TABLE(test_unsafe, engines);
	   CHECK_LOOP(test_device, 4))
