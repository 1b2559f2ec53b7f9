/* SPDX-License-Identifier: Apache-2.0 */
/* Disks with an overlay that go from one process to another while both have them open: src/block/hold.c, cow_file.c. */
#include "harness/cow_rig.h"
#include "harness/hold_rig.h"

static const struct hold_row {
	int engine;
	uint32_t queues;
	int lock, cache;
	uint32_t block_size; /* 0: as the file system has it */
} rows[] = {
	{ BLOCK_ENGINE_SYNC, 1, BLOCK_LOCK_ON, BLOCK_CACHE_WRITEBACK, 0 },
	{ BLOCK_ENGINE_URING, 1, BLOCK_LOCK_ON, BLOCK_CACHE_WRITEBACK, 0 },
	{ BLOCK_ENGINE_SYNC, 3, BLOCK_LOCK_ON, BLOCK_CACHE_UNSAFE, 16384 },
	{ BLOCK_ENGINE_URING, 3, BLOCK_LOCK_ON, BLOCK_CACHE_WRITEBACK, 65536 },
	{ BLOCK_ENGINE_URING, 2, BLOCK_LOCK_OFF, BLOCK_CACHE_WRITEBACK, 0 },
};

#define CAPACITY ((uint64_t)SECTORS * BLOCK_SECTOR)

/* What both processes have: the disk as it should be. */
struct model {
	uint32_t state; /* of the series of numbers */
	uint8_t bytes[CAPACITY];
};
static struct model *model;

static void hold_setup(void)
{
	make_base();
	model = mmap(NULL, sizeof(*model), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	ck_assert_ptr_ne(model, MAP_FAILED);
	memcpy(model->bytes, base_bytes, CAPACITY);
}

static void hold_teardown(void)
{
	base_is_untouched();
	(void)munmap(model, sizeof(*model));
	teardown();
}

static struct block_config config_of(const struct hold_row *row)
{
	struct block_config config = cow_config(row->engine, row->queues);

	config.lock = row->lock;
	config.cache = row->cache;
	if (row->block_size != 0) {
		craft_overlay(row->block_size);
	}
	return config;
}

static void read_all(struct block *b)
{
	static uint8_t back[CAPACITY];

	ck_assert_int_eq(
		run_buf(queue_of(b, next_random(&model->state)), BLOCK_READ, 0, back, CAPACITY), 0);
	ck_assert_mem_eq(back, model->bytes, CAPACITY);
}

/* A discard may have kept or zeroed each sector: the model learns which. */
static void learn(struct block *b, uint64_t at, uint64_t len)
{
	static const uint8_t zero[BLOCK_SECTOR];
	static uint8_t now[64 * BLOCK_SECTOR];

	ck_assert_int_eq(run_buf(b, BLOCK_READ, at, now, len), 0);
	for (uint64_t i = 0; i < len; i += BLOCK_SECTOR) {
		ck_assert(memcmp(now + i, model->bytes + at + i, BLOCK_SECTOR) == 0 ||
			  memcmp(now + i, zero, BLOCK_SECTOR) == 0);
	}
	memcpy(model->bytes + at, now, len);
}

static void change(struct block *b)
{
	uint64_t at = next_random(&model->state) % SECTORS * BLOCK_SECTOR;
	uint64_t len = (1 + next_random(&model->state) % 64) * BLOCK_SECTOR;
	struct block *queue = queue_of(b, next_random(&model->state));

	len = MIN(len, CAPACITY - at);
	switch (next_random(&model->state) % 6) {
	case 0:
		memset(model->bytes + at, 0, len);
		ck_assert_int_eq(run(queue, BLOCK_WRITE_ZEROES, at, len, NULL, 0), 0);
		break;
	case 1:
		ck_assert_int_eq(run(queue, BLOCK_DISCARD, at, len, NULL, 0), 0);
		learn(queue, at, len);
		break;
	default:
		pattern(model->bytes + at, len, next_random(&model->state));
		ck_assert_int_eq(run_buf(queue, BLOCK_WRITE, at, model->bytes + at, len), 0);
		break;
	}
}

/* A few at a time, so that there are blocks of the base until the end. */
static void work(struct block *b)
{
	uint32_t count = next_random(&model->state) % 6;

	read_all(b);
	for (uint32_t i = 0; i < count; i++) {
		change(b);
	}
	if (next_random(&model->state) % 4 == 0) {
		ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	}
	read_all(b);
}

static bool can_be_opened(void)
{
	const struct block_config config = { .path = overlay_path,
					     .engine = BLOCK_ENGINE_SYNC,
					     .format = BLOCK_FORMAT_RAW };
	struct error e = { 0 };
	struct block *b = NULL;

	if (block_open(&b, &config, &e) < 0) {
		check_error(&e, ERROR_DISK_LOCKED, overlay_path);
		return false;
	}
	block_close(b);
	return true;
}

START_TEST(test_there_and_back)
{
	const struct hold_row *row = &rows[_i];
	const struct block_config config = config_of(row);
	struct side sides[2];

	if (!side_open(&sides[0], &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	work(sides[0].b);
	ck_assert(side_open(&sides[1], &config, true));
	ck_assert_uint_eq(sides[1].b->capacity, CAPACITY);
	for (uint32_t i = 0; i < 100; i++) {
		struct block *from = sides[i % 2].b, *to = sides[1 - i % 2].b;

		refuses_requests(to);
		if (row->lock == BLOCK_LOCK_ON && i % 10 == 0) {
			take_fails(to, ERROR_DISK_LOCKED, overlay_path);
			ck_assert(!can_be_opened());
		}
		if (i % 3 == 0) {
			block_sync_ahead(from);
		}
		work(from);
		release(from);
		refuses_requests(from);
		ck_assert(can_be_opened());
		if (i % 5 == 0) {
			take(from);
			work(from);
			release(from);
		}
		take(to);
	}
	read_all(sides[0].b);
	side_close(&sides[1]);
	side_close(&sides[0]);
	ck_assert(side_open(&sides[0], &config, false));
	read_all(sides[0].b);
	side_close(&sides[0]);
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
		release(side.b);
		ck_assert_int_eq(ask_other(&other, ORDER_TAKE), 0);
		ck_assert_int_eq(ask_other(&other, ORDER_WORK), 0);
		if (rows[_i].lock == BLOCK_LOCK_ON && i % 10 == 0) {
			take_fails(side.b, ERROR_DISK_LOCKED, overlay_path);
		}
		ck_assert_int_eq(ask_other(&other, ORDER_RELEASE), 0);
		take(side.b);
	}
	read_all(side.b);
	end_other(&other, false);
	side_close(&side);
}
END_TEST

/* Its account says nothing of what it was at: who takes it then finds out. */
START_TEST(test_killed_holder)
{
	const struct block_config config = config_of(&rows[_i]);
	struct other other;
	struct side side;

	if (!side_open(&side, &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	for (int i = 0; i < 5; i++) {
		work(side.b);
		start_other(&other, &config, work);
		release(side.b);
		ck_assert_int_eq(ask_other(&other, ORDER_TAKE), 0);
		ck_assert_int_eq(ask_other(&other, ORDER_WORK), 0);
		end_other(&other, true);
		take_in_the_end(side.b);
		read_all(side.b);
	}
	side_close(&side);
}
END_TEST

static void open_fails(const struct block_config *config, enum error_code code, const char *text)
{
	struct block_config later = *config;
	struct error e = { 0 };
	struct block *b = NULL;

	later.lock_later = true;
	ck_assert_int_lt(block_open(&b, &later, &e), 0);
	check_error(&e, code, text);
}

/* Opening it makes nothing, and neither does closing it, from whichever state. */
START_TEST(test_writes_nothing)
{
	const struct block_config config = config_of(&rows[_i]);
	struct side sides[2];
	struct snap was;

	if (rows[_i].block_size == 0) {
		open_fails(&config, ERROR_DISK, "open overlay");
		ck_assert_int_lt(access(overlay_path, F_OK), 0);
		make_file(overlay_path, 0);
		open_fails(&config, ERROR_DISK, "is no overlay");
		ck_assert_uint_eq(file_size(overlay_path), 0);
	}
	if (!side_open(&sides[0], &config, false)) {
		CHECK_SKIP("no io_uring");
	}
	work(sides[0].b);
	was = snap(overlay_path);
	ck_assert(side_open(&sides[1], &config, true));
	if (rows[_i].lock == BLOCK_LOCK_ON) {
		take_fails(sides[1].b, ERROR_DISK_LOCKED, overlay_path);
	}
	side_close(&sides[1]);
	is_as_it_was(overlay_path, &was);
	ck_assert(side_open(&sides[1], &config, true));
	work(sides[0].b);
	release(sides[0].b);
	was = snap(overlay_path);
	side_close(&sides[0]);
	side_close(&sides[1]);
	is_as_it_was(overlay_path, &was);
}
END_TEST

/* Both files stay what they were. */
START_TEST(test_other_files)
{
	const struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000 } };
	struct side sides[2];
	struct stat st;
	uint64_t size;

	ck_assert(side_open(&sides[0], &config, false));
	ck_assert(side_open(&sides[1], &config, true));
	release(sides[0].b);
	ck_assert_int_eq(stat(base_path, &st), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, base_path, times, 0), 0);
	take_fails(sides[1].b, ERROR_DISK, "it was changed last at");
	ck_assert(can_be_opened());
	ck_assert_int_eq(truncate(base_path, (off_t)sizeof(base_bytes) + 1), 0);
	take_fails(sides[1].b, ERROR_DISK, "and has");
	ck_assert_int_eq(truncate(base_path, (off_t)sizeof(base_bytes)), 0);
	times[1] = st.st_mtim;
	ck_assert_int_eq(utimensat(AT_FDCWD, base_path, times, 0), 0);
	take(sides[1].b);
	work(sides[1].b);
	release(sides[1].b);
	size = file_size(overlay_path);
	ck_assert_int_eq(truncate(overlay_path, (off_t)size + 512), 0);
	take_fails(sides[0].b, ERROR_DISK, overlay_path);
	ck_assert_int_eq(truncate(overlay_path, (off_t)size - 4096), 0);
	take_fails(sides[0].b, ERROR_DISK, overlay_path);
	ck_assert_int_eq(truncate(overlay_path, (off_t)size), 0);
	take_fails(sides[0].b, ERROR_DISK, "is no overlay");
	/* Another overlay over the same base. */
	craft_overlay(4096);
	take_fails(sides[0].b, ERROR_DISK, "another overlay was made in its place");
	ck_assert(can_be_opened());
	side_close(&sides[0]);
	side_close(&sides[1]);
}
END_TEST

/* A base can be written when nobody has the disk, which is noticed. */
START_TEST(test_base_is_locked)
{
	const struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	const struct block_config writer = { .path = base_path, .engine = BLOCK_ENGINE_SYNC };
	struct side sides[2];
	struct error e = { 0 };
	struct block *w = NULL;

	ck_assert(side_open(&sides[0], &config, false));
	ck_assert(side_open(&sides[1], &config, true));
	ck_assert_int_lt(block_open(&w, &writer, &e), 0);
	release(sides[0].b);
	w = open_held(&writer, false);
	take_fails(sides[1].b, ERROR_DISK_LOCKED, base_path);
	ck_assert(can_be_opened());
	block_close(w);
	take(sides[1].b);
	ck_assert_int_lt(block_open(&w, &writer, &e), 0);
	side_close(&sides[0]);
	side_close(&sides[1]);
}
END_TEST

/* --- the account -------------------------------------------------------------------------------- */

static int syncs;
static int sync_error, fails_at; /* with this error; only the sync of that number, 0: all */

static int host_sync(int fd)
{
	syncs++;
	errno = sync_error;
	return sync_error != 0 && (fails_at == 0 || syncs == fails_at) ? -1 : fdatasync(fd);
}

static const struct raw_io host_io = {
	.preadv2 = preadv2,
	.pwritev2 = pwritev2,
	.fdatasync = host_sync,
	.fallocate = fallocate,
};

static bool has_mark(const struct cow_disk *disk)
{
	char mark[COW_MARK_SIZE];
	int fd = open(overlay_path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(pread(fd, mark, sizeof(mark), (off_t)disk->mark_at), COW_MARK_SIZE);
	(void)close(fd);
	return memcmp(mark, COW_CLEAN, sizeof(mark)) == 0;
}

/* As at a closing: the next one has nothing to find out, and what it writes then takes the mark off. */
START_TEST(test_account)
{
	const struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	static uint8_t data[4096];
	struct side sides[2];
	struct cow_disk *disks[2];
	struct raw *raw;

	ck_assert(side_open(&sides[0], &config, false));
	ck_assert(side_open(&sides[1], &config, true));
	for (int i = 0; i < 2; i++) {
		disks[i] = cow_of(sides[i].b)->disk;
	}
	raw = cow_raw(cow_of(sides[0].b)->overlay);
	raw->io = &host_io;
	syncs = sync_error = 0;
	ck_assert_int_eq(run_buf(sides[0].b, BLOCK_WRITE, 0, data, 4096), 0);
	ck_assert(!has_mark(disks[0]));
	release(sides[0].b);
	ck_assert_int_eq(syncs, 2);
	ck_assert(has_mark(disks[0]));
	take(sides[1].b);
	ck_assert(disks[1]->clean);
	ck_assert_int_eq(cow_get_state(disks[1], 0), COW_SETTLED);
	ck_assert_int_eq(cow_get_state(disks[1], 1), COW_ABSENT);
	/* What is there is written without a word, and the mark holds. */
	ck_assert_int_eq(run_buf(sides[1].b, BLOCK_WRITE, 0, data, 4096), 0);
	release(sides[1].b);
	ck_assert(has_mark(disks[0]));
	take(sides[0].b);
	ck_assert(disks[0]->clean);
	syncs = 0;
	ck_assert_int_eq(run_buf(sides[0].b, BLOCK_WRITE, 0, data, 4096), 0);
	release(sides[0].b);
	ck_assert_int_eq(syncs, 1);
	take(sides[0].b);
	ck_assert_int_eq(run_buf(sides[0].b, BLOCK_WRITE, 8192, data, 4096), 0);
	ck_assert(!has_mark(disks[0]));
	/* On another host's file system it must not come late. */
	raw->is_remote = true;
	syncs = 0;
	release(sides[0].b);
	ck_assert_int_eq(syncs, 3);
	side_close(&sides[0]);
	side_close(&sides[1]);
}
END_TEST

/* A disk that cannot be given away goes on: what it says of itself then is as true as before. */
START_TEST(test_failed_release)
{
	const struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	static uint8_t data[8192], back[8192];
	struct error e = { 0 };
	struct side side;
	struct cow_disk *disk;

	pattern(data, sizeof(data), 5);
	ck_assert(side_open(&side, &config, false));
	disk = cow_of(side.b)->disk;
	cow_raw(cow_of(side.b)->overlay)->io = &host_io;
	syncs = 0;
	ck_assert_int_eq(run_buf(side.b, BLOCK_WRITE, 0, data, 4096), 0);
	sync_error = EIO;
	ck_assert_int_eq(block_release_lock(side.b, &e), -EIO);
	check_error(&e, ERROR_DISK, "cannot be given away");
	sync_error = 0;
	ck_assert(!side.b->unheld);
	ck_assert(!can_be_opened());
	ck_assert(!has_mark(disk));
	ck_assert_int_eq(run(side.b, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	ck_assert_int_eq(run_buf(side.b, BLOCK_WRITE, 4096, data + 4096, 4096), 0);
	ck_assert_int_eq(block_release_lock(side.b, &e), -EIO);
	ck_assert(!has_mark(disk));
	side_close(&side);
	ck_assert(side_open(&side, &config, false));
	ck_assert(!cow_of(side.b)->disk->clean);
	ck_assert_int_eq(run_buf(side.b, BLOCK_READ, 0, back, sizeof(back)), 0);
	ck_assert_mem_eq(back, data, sizeof(data));
	side_close(&side);
}
END_TEST

/* It says that it is whole already when the host fails: it must not go on saying so. */
START_TEST(test_failed_late)
{
	const struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	static uint8_t data[4096];
	struct error e = { 0 };
	struct side side;
	struct raw *overlay;

	ck_assert(side_open(&side, &config, false));
	overlay = cow_raw(cow_of(side.b)->overlay);
	overlay->io = &host_io;
	overlay->is_remote = true;
	ck_assert_int_eq(run_buf(side.b, BLOCK_WRITE, 0, data, 4096), 0);
	syncs = 0;
	sync_error = EIO;
	fails_at = 3;
	ck_assert_int_eq(block_release_lock(side.b, &e), -EIO);
	sync_error = fails_at = 0;
	ck_assert(has_mark(cow_of(side.b)->disk));
	ck_assert_int_eq(run_buf(side.b, BLOCK_WRITE, 8192, data, 4096), 0);
	ck_assert(!has_mark(cow_of(side.b)->disk));
	side_close(&side);
}
END_TEST

/* A write that has failed is no reason to keep it: the next one looks through the file. */
START_TEST(test_failed_write)
{
	const struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	static uint8_t data[8192], back[8192];
	struct side sides[2];
	struct cow_disk *disk;

	pattern(data, sizeof(data), 5);
	ck_assert(side_open(&sides[0], &config, false));
	ck_assert(side_open(&sides[1], &config, true));
	disk = cow_of(sides[0].b)->disk;
	ck_assert_int_eq(run_buf(sides[0].b, BLOCK_WRITE, 4096, data + 4096, 4096), 0);
	/* As undo_write() leaves it, and with data that it could not take away. */
	disk->sync_owed = true;
	ck_assert_int_eq(pwrite(cow_raw(cow_of(sides[0].b)->overlay)->fd, data, 4096, 0), 4096);
	release(sides[0].b);
	ck_assert(!has_mark(disk));
	take(sides[1].b);
	ck_assert(!cow_of(sides[1].b)->disk->clean);
	memcpy(data, base_bytes, 4096);
	ck_assert_int_eq(run_buf(sides[1].b, BLOCK_READ, 0, back, sizeof(back)), 0);
	ck_assert_mem_eq(back, data, sizeof(data));
	side_close(&sides[1]);
	side_close(&sides[0]);
}
END_TEST

CHECK_MAIN("cow_hold", CHECK_FIXTURE(hold_setup, hold_teardown);
	   CHECK_TABLE(test_there_and_back, rows); CHECK_TABLE(test_processes, rows);
	   CHECK_TABLE(test_killed_holder, rows); CHECK_TABLE(test_writes_nothing, rows);
	   CHECK_TEST(test_other_files); CHECK_TEST(test_base_is_locked); CHECK_TEST(test_account);
	   CHECK_TEST(test_failed_release); CHECK_TEST(test_failed_late);
	   CHECK_TEST(test_failed_write))
