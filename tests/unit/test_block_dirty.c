/* SPDX-License-Identifier: Apache-2.0 */
/* What was written to a disk is noted, whatever wrote it, by the time that its writer hears of it; nothing else is. */
#include <pthread.h>
#include <stdatomic.h>

#include "harness/block_rig.h"
#include "vmm/block_dirty.h"

#define CLUSTERS (DISK_SIZE / BLOCK_DIRTY_CLUSTER)

static uint64_t bits[CLUSTERS / 64 + 1];

static uint64_t collected(struct block *b)
{
	memset(bits, 0, sizeof(bits));
	block_dirty_collect(b, bits);
	return bits[0];
}

static int op(struct block *b, enum block_op kind, uint64_t offset, uint64_t len)
{
	return run(b, kind, offset, len, NULL, 0);
}

START_TEST(test_what_is_noted)
{
	static uint8_t data[2 * BLOCK_DIRTY_CLUSTER];
	struct loop loop;
	struct error e = { 0 };
	struct block *b = open_attached(engines[_i], &loop, NULL, NULL);

	if (b == NULL) {
		return;
	}
	ck_assert_uint_eq(block_dirty_words(b), CLUSTERS / 64);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, 4096), 0);
	ck_assert_uint_eq(collected(b), 0);
	check_ok(block_dirty_start(b, &e), &e);
	ck_assert_uint_eq(collected(b), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, data, sizeof(data)), 0);
	ck_assert_int_eq(op(b, BLOCK_FLUSH, 0, 0), 0);
	ck_assert_uint_eq(collected(b), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 3 * BLOCK_DIRTY_CLUSTER - 512, data, 1024), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, DISK_SIZE - 512, data, 512), 0);
	ck_assert_uint_eq(collected(b), 1ULL << 2 | 1ULL << 3 | 1ULL << 63);
	ck_assert_uint_eq(collected(b), 0);
	if (b->can_write_zeroes) {
		ck_assert_int_eq(op(b, BLOCK_WRITE_ZEROES, 0, DISK_SIZE), 0);
		ck_assert_uint_eq(collected(b), ~0ULL);
	}
	if (b->can_discard) {
		ck_assert_int_eq(op(b, BLOCK_DISCARD, BLOCK_DIRTY_CLUSTER, 2 * BLOCK_DIRTY_CLUSTER),
				 0);
		ck_assert_uint_eq(collected(b), 1ULL << 1 | 1ULL << 2);
	}
	ck_assert_int_lt(op(b, BLOCK_WRITE_ZEROES, DISK_SIZE - 512, 1024), 0);
	ck_assert_int_lt(op(b, BLOCK_WRITE_ZEROES, UINT64_MAX - 511, 512), 0);
	ck_assert_uint_eq(collected(b), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, 512), 0);
	check_ok(block_dirty_start(b, &e), &e);
	ck_assert_uint_eq(collected(b), 0);
	block_dirty_stop(b);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, 512), 0);
	ck_assert_uint_eq(collected(b), 0);
	finish(b, &loop);
}
END_TEST

/* One that the host has failed may have written some. */
START_TEST(test_failed_write_is_noted)
{
	static uint8_t data[1024];
	struct block_memory *memory = NULL;
	struct block_fault *fault = NULL;
	struct loop loop;
	struct error e = { 0 };
	const struct block_fault_rule rule = {
		.ops = 1U << BLOCK_WRITE, .count = 1, .kind = BLOCK_FAULT_SHORT, .error = EIO
	};

	check_ok(block_memory_create(&memory, DISK_SIZE, &e), &e);
	check_ok(block_fault_create(&fault, &memory->block, &e), &e);
	block_fault_add(fault, &rule);
	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(&fault->block, &loop, NULL, NULL, &e), &e);
	check_ok(block_dirty_start(&fault->block, &e), &e);
	ck_assert_int_eq(run_buf(&fault->block, BLOCK_WRITE, 0, data, sizeof(data)), -EIO);
	ck_assert_uint_eq(collected(&fault->block), 1);
	finish(&fault->block, &loop);
}
END_TEST

struct writer {
	pthread_t thread;
	struct block *b;
	uint32_t seed;
	_Atomic bool *stop;
	uint64_t said[CLUSTERS]; /* of each cluster, what was written last */
};

static void *write_at_random(void *arg)
{
	struct writer *writer = arg;
	uint64_t value[64] = { 0 };
	struct loop loop;
	struct error e = { 0 };

	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(writer->b, &loop, NULL, NULL, &e), &e);
	for (uint64_t n = 1; !atomic_load(writer->stop); n++) {
		/* Each writer has clusters of its own. */
		uint64_t cluster = (uint64_t)rand_r(&writer->seed) % (CLUSTERS / 2) * 2 +
				   (writer->b->more == NULL);

		value[0] = n;
		ck_assert_int_eq(run_buf(writer->b, BLOCK_WRITE, cluster * BLOCK_DIRTY_CLUSTER,
					 value, sizeof(value)),
				 0);
		writer->said[cluster] = n;
	}
	block_detach(writer->b);
	loop_finish(&loop);
	return NULL;
}

/* Two workers write while a third thread collects and copies: what is left at the end is all that its copy lacks. */
START_TEST(test_copied_while_written)
{
	struct block_config config = { .path = disk_path, .engine = engines[_i], .queues = 2 };
	static struct writer writers[2];
	static uint64_t copy[CLUSTERS];
	_Atomic bool stop = false;
	struct block *b = NULL;
	struct error e = { 0 };
	int fd;

	make_file(disk_path, DISK_SIZE);
	if (block_open(&b, &config, &e) < 0) {
		CHECK_SKIP(e.msg);
	}
	fd = open(disk_path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	for (uint32_t i = 0; i < 2; i++) {
		writers[i] =
			(struct writer){ .b = i == 0 ? b : b->more, .seed = i + 1, .stop = &stop };
		ck_assert_int_eq(
			pthread_create(&writers[i].thread, NULL, write_at_random, &writers[i]), 0);
	}
	check_ok(block_dirty_start(b, &e), &e);
	for (int pass = 0; pass < 52; pass++) {
		uint64_t look = pass == 0 ? ~0ULL : collected(b);

		for (uint64_t i = 0; i < CLUSTERS; i++) {
			if ((look >> i & 1) != 0) {
				ck_assert_int_eq(pread(fd, &copy[i], sizeof(copy[i]),
						       (off_t)(i * BLOCK_DIRTY_CLUSTER)),
						 sizeof(copy[i]));
			}
		}
		if (pass == 50) {
			stop = true;
			(void)pthread_join(writers[0].thread, NULL);
			(void)pthread_join(writers[1].thread, NULL);
		}
	}
	for (uint64_t i = 0; i < CLUSTERS; i++) {
		ck_assert_uint_eq(copy[i], writers[i % 2].said[i]);
	}
	(void)close(fd);
	block_close(b);
}
END_TEST

CHECK_MAIN("block_dirty", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_what_is_noted, engines);
	   CHECK_TEST(test_failed_write_is_noted); CHECK_TABLE(test_copied_while_written, engines))
