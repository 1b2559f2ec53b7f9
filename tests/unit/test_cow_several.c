/* SPDX-License-Identifier: Apache-2.0 */
/* A disk with an overlay and several workers: they write parts of the same blocks, for the first time, at once. */
#include <pthread.h>

#include "harness/cow_rig.h"
#include "vmm/block_dirty.h"

#define WORKERS 4
/* Sectors of the disk that belong to a worker: every fourth, so that each block has some of each. */
#define OWN (SECTORS / WORKERS)

struct own {
	struct block *b;
	uint32_t number, seed;
	pthread_t thread;
	uint8_t expected[OWN][BLOCK_SECTOR];
};

static uint64_t place(const struct own *own, uint32_t i)
{
	return ((uint64_t)i * WORKERS + own->number) * BLOCK_SECTOR;
}

static void check_own(struct own *own, uint32_t i)
{
	uint8_t back[BLOCK_SECTOR];

	ck_assert_int_eq(run_buf(own->b, BLOCK_READ, place(own, i), back, sizeof(back)), 0);
	ck_assert_mem_eq(back, own->expected[i], sizeof(back));
}

/* All go through the disk in the same order, so that they meet in each block. */
static void *work(void *arg)
{
	struct own *own = arg;
	struct error e = { 0 };
	struct loop loop;

	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(own->b, &loop, NULL, NULL, &e), &e);
	for (uint32_t i = 0; i < OWN; i++) {
		switch (next_random(&own->seed) % 8) {
		case 0:
			memset(own->expected[i], 0, BLOCK_SECTOR);
			ck_assert_int_eq(run(own->b, BLOCK_WRITE_ZEROES, place(own, i),
					     BLOCK_SECTOR, NULL, 0),
					 0);
			break;
		case 1:
			check_own(own, i);
			break;
		case 2:
			ck_assert_int_eq(run(own->b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
			break;
		default:
			pattern(own->expected[i], BLOCK_SECTOR, own->seed);
			ck_assert_int_eq(run_buf(own->b, BLOCK_WRITE, place(own, i),
						 own->expected[i], BLOCK_SECTOR),
					 0);
			break;
		}
		check_own(own, next_random(&own->seed) % (i + 1));
	}
	block_detach(own->b);
	loop_finish(&loop);
	return NULL;
}

START_TEST(test_workers_share_blocks)
{
	static struct own owns[WORKERS];

	for (uint32_t life = 0; life < 3; life++) {
		struct block *b = open_cow(engines[_i], WORKERS), *each = b;

		if (b == NULL) {
			return;
		}
		for (uint32_t n = 0; n < WORKERS; n++, each = each->more) {
			owns[n].b = each;
			owns[n].number = n;
			owns[n].seed = n + 10 * life;
			for (uint32_t i = 0; life == 0 && i < OWN; i++) {
				memcpy(owns[n].expected[i], base_bytes + place(&owns[n], i),
				       BLOCK_SECTOR);
			}
		}
		for (uint32_t n = 0; n < WORKERS; n++) {
			ck_assert_int_eq(pthread_create(&owns[n].thread, NULL, work, &owns[n]), 0);
		}
		for (uint32_t n = 0; n < WORKERS; n++) {
			(void)pthread_join(owns[n].thread, NULL);
		}
		block_close(b);
	}
	base_is_untouched();
}
END_TEST

/* One fills blocks from the base while the other writes them whole. */
struct whole {
	struct block *b;
	uint8_t fill;
};

static void *write_blocks(void *arg)
{
	static uint8_t data[2][4096];
	struct whole *whole = arg;
	uint8_t *bytes = data[whole->fill];
	struct error e = { 0 };
	struct loop loop;

	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(whole->b, &loop, NULL, NULL, &e), &e);
	memset(bytes, whole->fill + 1, 4096);
	for (uint64_t at = 0; at + 4096 <= sizeof(base_bytes); at += 4096) {
		ck_assert_int_eq(run_buf(whole->b, BLOCK_WRITE, whole->fill != 0 ? at : at + 1024,
					 bytes, whole->fill != 0 ? 4096 : 512),
				 0);
	}
	block_detach(whole->b);
	loop_finish(&loop);
	return NULL;
}

START_TEST(test_whole_and_parts)
{
	static uint8_t back[4096];
	struct block *b = open_cow(engines[_i], 2);
	struct whole wholes[2];
	pthread_t threads[2];
	struct error e = { 0 };
	struct loop loop;

	if (b == NULL) {
		return;
	}
	for (uint8_t i = 0; i < 2; i++) {
		wholes[i] = (struct whole){ .b = i == 0 ? b : b->more, .fill = i };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_blocks, &wholes[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		(void)pthread_join(threads[i], NULL);
	}
	block_close(b);
	b = open_cow(BLOCK_ENGINE_SYNC, 1);
	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
	for (uint64_t at = 0; at + 4096 <= sizeof(base_bytes); at += 4096) {
		ck_assert_int_eq(run_buf(b, BLOCK_READ, at, back, sizeof(back)), 0);
		for (size_t i = 0; i < sizeof(back); i++) {
			ck_assert(back[i] == 2 || (back[i] == 1 && i >= 1024 && i < 1536));
		}
	}
	finish(b, &loop);
}
END_TEST

/* --- copied while it is written ------------------------------------------------------------------ */

#define DISK_BYTES ((uint64_t)SECTORS * BLOCK_SECTOR)

static uint8_t copy[SECTORS * BLOCK_SECTOR];
static _Atomic bool written;

/* What was noted, or all, as somebody reads it who has the files alone. */
static void copy_noted(struct block *b, bool all)
{
	uint64_t noted[DISK_BYTES / BLOCK_DIRTY_CLUSTER / 64 + 1] = { 0 };
	uint64_t above[DISK_BYTES / COW_BLOCK_MIN / 64 + 1] = { 0 };
	struct block_files files;

	block_get_files(b, &files);
	ck_assert_uint_ge(files.unit, COW_BLOCK_MIN);
	block_dirty_collect(b, noted);
	block_get_above(b, above);
	for (uint64_t at = 0; at < DISK_BYTES; at += files.unit) {
		const uint64_t cluster = at / BLOCK_DIRTY_CLUSTER, unit = at / files.unit;
		const size_t len = MIN((uint64_t)files.unit, DISK_BYTES - at);

		if (all || (noted[cluster / 64] >> cluster % 64 & 1) != 0) {
			ck_assert_int_eq(pread((above[unit / 64] >> unit % 64 & 1) != 0
						       ? files.fd
						       : files.base,
					       copy + at, len, (off_t)at),
					 (ssize_t)len);
		}
	}
}

static void *write_anything(void *arg)
{
	static const enum block_op ops[] = { BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE_ZEROES,
					     BLOCK_DISCARD };
	static uint8_t data[16 * BLOCK_SECTOR];
	struct block *b = arg;
	struct error e = { 0 };
	uint32_t seed = 5;
	struct loop loop;

	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
	for (int i = 0; i < 1500; i++) {
		const uint64_t sector = next_random(&seed) % SECTORS;
		const uint64_t len = MIN(next_random(&seed) % 16 + 1, SECTORS - sector);
		const enum block_op kind = ops[next_random(&seed) % ARRAY_SIZE(ops)];

		pattern(data, sizeof(data), seed);
		ck_assert_int_eq(
			kind == BLOCK_WRITE
				? run_buf(b, kind, sector * BLOCK_SECTOR, data, len * BLOCK_SECTOR)
				: run(b, kind, sector * BLOCK_SECTOR, len * BLOCK_SECTOR, NULL, 0),
			0);
	}
	block_detach(b);
	loop_finish(&loop);
	atomic_store(&written, true);
	return NULL;
}

START_TEST(test_copied_while_written)
{
	static uint8_t back[SECTORS * BLOCK_SECTOR];
	struct block *b = open_cow(engines[_i], 1);
	struct error e = { 0 };
	pthread_t thread;
	struct loop loop;

	if (b == NULL) {
		return;
	}
	atomic_store(&written, false);
	check_ok(block_dirty_start(b, &e), &e);
	ck_assert_int_eq(pthread_create(&thread, NULL, write_anything, b), 0);
	copy_noted(b, true);
	while (!atomic_load(&written)) {
		copy_noted(b, false);
	}
	(void)pthread_join(thread, NULL);
	copy_noted(b, false);
	block_close(b);
	b = open_cow(BLOCK_ENGINE_SYNC, 1);
	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, back, sizeof(back)), 0);
	ck_assert_mem_eq(back, copy, sizeof(copy));
	finish(b, &loop);
}
END_TEST

CHECK_MAIN("cow_several", CHECK_FIXTURE(make_base, teardown);
	   CHECK_TABLE(test_workers_share_blocks, engines);
	   CHECK_TABLE(test_whole_and_parts, engines);
	   CHECK_TABLE(test_copied_while_written, engines))
