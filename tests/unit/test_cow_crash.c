/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk with an overlay whose host loses its power, or whose vmm is killed.
 *
 * The power: the calls of the engine are noted, page by page, between two syncs. A crash keeps of each page the state that it
 * had at any of these points, whatever it keeps of others: more disorder than a file system makes, except that data and the
 * extent that says that there is data come together, which is what cow.c relies on. After it each page of the disk must
 * show what it had at the last flush or later; and what it has shown once it keeps.
 */
#include <sys/mman.h>

#include "harness/cow_rig.h"

#define PAGE	   4096
#define PAGES	   300 /* of the overlay's file, at most */
#define EVENTS	   8000
#define DISK_PAGES 24 /* that are written to: the first ones, and the last ones */
#define VERSIONS   64

struct page {
	bool hole;
	uint8_t bytes[PAGE];
};

/* The host's disk, and what may or may not have got there since the last sync. */
static struct page stable[PAGES];
static struct event {
	uint64_t page;
	struct page now;
} * events;
static uint32_t event_count;

static void note(int fd, off_t offset, uint64_t len, bool punched)
{
	uint64_t end = (uint64_t)offset + len;

	for (uint64_t page = (uint64_t)offset / PAGE; page * PAGE < end; page++) {
		struct event *event = &events[event_count++];

		ck_assert_uint_lt(event_count, EVENTS);
		ck_assert_uint_lt(page, PAGES);
		event->page = page;
		event->now.hole =
			punched && page * PAGE >= (uint64_t)offset && (page + 1) * PAGE <= end;
		ck_assert_int_eq(pread(fd, event->now.bytes, PAGE, (off_t)(page * PAGE)), PAGE);
	}
}

static ssize_t note_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	ssize_t n = pwritev2(fd, iov, count, offset, flags);

	ck_assert_int_gt(n, 0);
	note(fd, offset, (uint64_t)n, false);
	return n;
}

static int note_fallocate(int fd, int mode, off_t offset, off_t len)
{
	int r = fallocate(fd, mode, offset, len);

	if (r == 0) {
		note(fd, offset, (uint64_t)len, true);
	}
	return r;
}

static int note_fdatasync(int fd)
{
	(void)fd;
	for (uint32_t i = 0; i < event_count; i++) {
		stable[events[i].page] = events[i].now;
	}
	event_count = 0;
	return 0;
}

static const struct raw_io noting_io = {
	.preadv2 = preadv2,
	.pwritev2 = note_pwritev2,
	.fdatasync = note_fdatasync,
	.fallocate = note_fallocate,
};

/* What is in the file now is on the host's disk. */
static void all_is_stable(void)
{
	int fd = open(overlay_path, O_RDONLY | O_CLOEXEC);

	ck_assert_uint_le(file_size(overlay_path), (uint64_t)PAGES * PAGE);
	for (uint64_t page = 0; page < PAGES; page++) {
		stable[page].hole =
			lseek(fd, (off_t)(page * PAGE), SEEK_DATA) != (off_t)(page * PAGE);
		memset(stable[page].bytes, 0, PAGE);
		ck_assert_int_ge(pread(fd, stable[page].bytes, PAGE, (off_t)(page * PAGE)), 0);
	}
	(void)close(fd);
	event_count = 0;
}

/* Of each page one of its states since the last sync; then the file is made of these. */
static void lose_power(uint32_t *state)
{
	uint64_t size = file_size(overlay_path);
	int fd;

	for (uint64_t page = 0; page < PAGES; page++) {
		uint32_t count = 0, keep;

		for (uint32_t i = 0; i < event_count; i++) {
			count += events[i].page == page ? 1 : 0;
		}
		keep = next_random(state) % (count + 1);
		for (uint32_t i = 0; i < event_count && keep != 0; i++) {
			if (events[i].page == page) {
				stable[page] = events[i].now;
				keep--;
			}
		}
	}
	make_file(overlay_path, size);
	fd = open(overlay_path, O_WRONLY | O_CLOEXEC);
	for (uint64_t page = 0; page * PAGE < size; page++) {
		if (!stable[page].hole) {
			ck_assert_int_eq(pwrite(fd, stable[page].bytes, PAGE, (off_t)(page * PAGE)),
					 PAGE);
		}
	}
	(void)close(fd);
}

/* --- what the disk may show --------------------------------------------------------------------- */

static struct content {
	uint32_t count; /* the last is what it shows now */
	uint8_t versions[VERSIONS][PAGE];
} contents[DISK_PAGES];

static uint64_t place(uint32_t page)
{
	return page < DISK_PAGES / 2 ? (uint64_t)page * PAGE
				     : ((uint64_t)SECTORS / 8 + 1 - DISK_PAGES + page) * PAGE;
}

/* The last page of the disk is not a whole one. */
static uint64_t page_len(uint32_t page)
{
	return MIN((uint64_t)PAGE, (uint64_t)SECTORS * BLOCK_SECTOR - place(page));
}

static uint8_t *latest(uint32_t page)
{
	return contents[page].versions[contents[page].count - 1];
}

static void only_latest(uint32_t page)
{
	memmove(contents[page].versions[0], latest(page), PAGE);
	contents[page].count = 1;
}

static uint8_t *new_version(uint32_t page)
{
	struct content *content = &contents[page];

	ck_assert_uint_lt(content->count, VERSIONS);
	memcpy(content->versions[content->count], latest(page), PAGE);
	return content->versions[content->count++];
}

static void check_pages(struct block *b, bool crashed)
{
	uint8_t now[PAGE];

	for (uint32_t page = 0; page < DISK_PAGES; page++) {
		uint64_t len = page_len(page);
		bool known = false;

		ck_assert_int_eq(run_buf(b, BLOCK_READ, place(page), now, len), 0);
		for (uint32_t i = crashed ? 0 : contents[page].count - 1;
		     i < contents[page].count && !known; i++) {
			known = memcmp(now, contents[page].versions[i], len) == 0;
		}
		ck_assert_msg(known, "page %u shows what it never had, %s", page,
			      crashed ? "after a crash" : "without one");
		if (crashed) {
			memcpy(contents[page].versions[0], now, len);
			contents[page].count = 1;
		}
	}
}

/* --- random requests ---------------------------------------------------------------------------- */

static struct block *open_noting(struct loop *loop)
{
	struct block *b = open_cow_attached(BLOCK_ENGINE_SYNC, loop);

	cow_raw(cow_of(b)->overlay)->io = &noting_io;
	return b;
}

static void run_write(struct block *b, uint32_t *state)
{
	static const enum block_op ops[] = { BLOCK_WRITE, BLOCK_WRITE,	      BLOCK_WRITE,
					     BLOCK_WRITE, BLOCK_WRITE_ZEROES, BLOCK_DISCARD };
	enum block_op op = ops[next_random(state) % ARRAY_SIZE(ops)];
	uint32_t page = next_random(state) % DISK_PAGES;
	uint32_t pages = MIN(1 + next_random(state) % 4,
			     (page < DISK_PAGES / 2 ? DISK_PAGES / 2 : DISK_PAGES) - page);
	uint64_t end = place(page + pages - 1) + page_len(page + pages - 1);
	uint64_t from = place(page), to = end;
	static uint8_t bytes[4 * PAGE];
	struct iovec iov = { .iov_base = bytes };
	struct io io;

	if (next_random(state) % 2 == 0) {
		from += next_random(state) % 8 * BLOCK_SECTOR;
		to -= next_random(state) % (page_len(page + pages - 1) / BLOCK_SECTOR) *
		      BLOCK_SECTOR;
	}
	if (from >= to) {
		return;
	}
	if (op == BLOCK_WRITE) {
		pattern(bytes, to - from, next_random(state));
	} else {
		memset(bytes, 0, to - from);
	}
	iov.iov_len = to - from;
	submit(b, &io, op, from, to - from, &iov, op == BLOCK_WRITE ? 1 : 0);
	io.req.fua = next_random(state) % 16 == 0;
	io.req.unmap = next_random(state) % 2 == 0;
	block_drain(b);
	ck_assert_int_eq(io.result, 0);
	for (uint32_t i = page; i < page + pages; i++) {
		uint8_t *version = new_version(i);
		uint64_t first = MAX(from, place(i)), last = MIN(to, place(i) + page_len(i));

		if (op == BLOCK_DISCARD) {
			ck_assert_int_eq(run_buf(b, BLOCK_READ, place(i), version, page_len(i)), 0);
		} else if (first < last) {
			memcpy(version + (first - place(i)), bytes + (first - from), last - first);
		}
		if (io.req.fua) {
			only_latest(i);
		}
	}
}

static void flush(struct block *b)
{
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	for (uint32_t page = 0; page < DISK_PAGES; page++) {
		only_latest(page);
	}
}

static const uint32_t block_sizes[] = { 0, 16384 };

/* Nothing is in it: what is fresh today is settled tomorrow. */
static struct block *begin_anew(uint32_t block_size, struct loop *loop)
{
	struct block *b;

	(void)unlink(overlay_path);
	if (block_size != 0) {
		craft_overlay(block_size);
	}
	for (uint32_t page = 0; page < DISK_PAGES; page++) {
		contents[page].count = 1;
		memcpy(latest(page), base_bytes + place(page), page_len(page));
	}
	b = open_noting(loop);
	all_is_stable();
	return b;
}

START_TEST(test_power)
{
	uint32_t state = (uint32_t)_i + 1;
	struct loop loop;
	struct block *b;

	events = malloc(EVENTS * sizeof(*events));
	b = begin_anew(block_sizes[_i], &loop);
	for (int life = 0; life < 600; life++) {
		uint32_t requests = 1 + next_random(&state) % 20;

		if (life % 6 == 5) {
			finish(b, &loop);
			b = begin_anew(block_sizes[_i], &loop);
		}
		for (uint32_t i = 0; i < requests; i++) {
			if (next_random(&state) % 12 == 0) {
				flush(b);
			} else {
				run_write(b, &state);
			}
		}
		check_pages(b, false);
		if (next_random(&state) % 4 == 0) {
			/* Closed; and perhaps the host goes down before the file's mark arrives. */
			finish(b, &loop);
			b = open_noting(&loop);
			check_pages(b, false);
		}
		if (next_random(&state) % 3 != 0) {
			lose_power(&state);
			/* Not closed with care: nothing of this life reaches the file. */
			cow_of(b)->disk->unsafe = true;
			finish(b, &loop);
			b = open_noting(&loop);
			check_pages(b, true);
			all_is_stable();
		}
	}
	finish(b, &loop);
	free(events);
	base_is_untouched();
}
END_TEST

/* --- killed ------------------------------------------------------------------------------------- */

/* Shared with the process that is killed: how often each sector has been begun and done. */
static struct shared {
	_Atomic uint32_t total;
	_Atomic uint32_t begun[SECTORS], done[SECTORS];
} * shared;

static void sector_bytes(uint8_t *bytes, uint32_t sector, uint32_t number)
{
	if (number == 0) {
		memcpy(bytes, base_bytes + (uint64_t)sector * BLOCK_SECTOR, BLOCK_SECTOR);
	} else if (number % 8 == 7) {
		memset(bytes, 0, BLOCK_SECTOR); /* written by WRITE_ZEROES */
	} else {
		pattern(bytes, BLOCK_SECTOR, sector * 1000 + number);
	}
}

/* In the process that is killed, in place of Check's: half of a message of theirs would be in its file, which is shared. */
static void insist(bool condition)
{
	if (!condition) {
		_exit(1);
	}
}

static void write_until_killed(int engine, uint32_t seed)
{
	static uint8_t bytes[64][BLOCK_SECTOR];
	static struct iovec iov[64];
	static struct io ios[64];
	const struct block_config config = cow_config(engine, 1);
	struct error e = { 0 };
	struct loop loop;
	struct block *b;

	insist(block_open(&b, &config, &e) == 0 && loop_init(&loop, &e) == 0 &&
	       block_attach(b, &loop, NULL, NULL, &e) == 0);
	for (;;) {
		uint32_t first = next_random(&seed) % SECTORS, step = 1 + next_random(&seed) % 9;
		uint32_t count = 1 + next_random(&seed) % 64;

		count = MIN(count, (SECTORS - first + step - 1) / step);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t sector = first + i * step;
			uint32_t number = atomic_fetch_add(&shared->begun[sector], 1) + 1;
			bool zero = number % 8 == 7;

			sector_bytes(bytes[i], sector, number);
			iov[i] = (struct iovec){ bytes[i], BLOCK_SECTOR };
			submit(b, &ios[i], zero ? BLOCK_WRITE_ZEROES : BLOCK_WRITE,
			       (uint64_t)sector * BLOCK_SECTOR, BLOCK_SECTOR, &iov[i],
			       zero ? 0 : 1);
		}
		block_drain(b);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t sector = first + i * step;

			insist(ios[i].result == 0);
			atomic_store(&shared->done[sector], atomic_load(&shared->begun[sector]));
			(void)atomic_fetch_add(&shared->total, 1);
		}
	}
}

/* The host takes a killed process' rings down in its own time, and with them its open files. */
static void wait_for_lock(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(overlay_path, O_RDWR | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	while (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
		ck_assert_int_eq(errno, EAGAIN);
		(void)usleep(1000);
	}
	(void)close(fd);
}

static void check_after_kill(int engine)
{
	static uint8_t back[SECTORS * BLOCK_SECTOR];
	struct loop loop;
	struct block *b = open_cow_attached(engine, &loop);
	uint8_t expected[BLOCK_SECTOR];

	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, back, sizeof(back)), 0);
	finish(b, &loop);
	for (uint32_t sector = 0; sector < SECTORS; sector++) {
		const uint8_t *now = back + (uint64_t)sector * BLOCK_SECTOR;
		uint32_t done = atomic_load(&shared->done[sector]);
		uint32_t begun = atomic_load(&shared->begun[sector]);

		sector_bytes(expected, sector, done);
		if (memcmp(now, expected, sizeof(expected)) != 0) {
			sector_bytes(expected, sector, begun);
			ck_assert_uint_gt(begun, done);
			ck_assert_mem_eq(now, expected, sizeof(expected));
			done = begun;
		}
		/* It stays what it has shown. */
		atomic_store(&shared->begun[sector], done);
		atomic_store(&shared->done[sector], done);
	}
}

START_TEST(test_killed)
{
	uint32_t state = (uint32_t)_i + 11;
	struct block *b = open_cow(engines[_i], 1);

	if (b == NULL) {
		return;
	}
	block_close(b);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	for (int life = 0; life < 30; life++) {
		uint32_t until = atomic_load(&shared->total) + next_random(&state) % 3000;
		uint64_t deadline = loop_now_ns() + 100 * UINT64_C(1000000000);
		pid_t pid = fork();
		int status;

		ck_assert_int_ge(pid, 0);
		if (pid == 0) {
			write_until_killed(engines[_i], next_random(&state));
		}
		while (atomic_load(&shared->total) < until && loop_now_ns() < deadline) {
			(void)usleep(200);
		}
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		wait_for_lock();
		check_after_kill(engines[_i]);
	}
	(void)munmap(shared, sizeof(*shared));
	base_is_untouched();
}
END_TEST

CHECK_MAIN("cow_crash", CHECK_FIXTURE(make_base, teardown); CHECK_TABLE(test_power, block_sizes);
	   CHECK_TABLE(test_killed, engines))
