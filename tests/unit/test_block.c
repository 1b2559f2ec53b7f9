/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks: both engines on real files, and the test disks. Fault rows F1, F2, F5 and image rows T-I1,
 * T-I4 of the catalogue.
 */
#include "harness/block_rig.h"

/* --- both engines --- */

START_TEST(test_scattered_write_and_read)
{
	enum { SEGMENTS = 254 };
	static uint8_t data[SEGMENTS * 512], back[SEGMENTS * 512];
	struct iovec out[SEGMENTS], in[SEGMENTS];
	struct loop loop;
	struct block *b = open_attached(engines[_i], &loop, NULL, NULL);
	size_t at = 0;

	if (b == NULL) {
		return;
	}
	pattern(data, sizeof(data), 1);
	for (int i = 0; i < SEGMENTS; i++) {
		size_t n = i % 2 == 0 ? 1 : 1023; /* no entry is a sector */

		out[i] = (struct iovec){ .iov_base = data + at, .iov_len = n };
		in[SEGMENTS - 1 - i] = (struct iovec){ .iov_len = n };
		at += n;
	}
	at = 0;
	for (int i = 0; i < SEGMENTS; i++) {
		in[i].iov_base = back + at;
		at += in[i].iov_len;
	}
	ck_assert_int_eq(run(b, BLOCK_WRITE, 512, sizeof(data), out, SEGMENTS), 0);
	check_file(512, data, sizeof(data));
	ck_assert_int_eq(run(b, BLOCK_READ, 512, sizeof(data), in, SEGMENTS), 0);
	ck_assert_mem_eq(back, data, sizeof(data));
	ck_assert_uint_eq(file_size(disk_path), DISK_SIZE);
	finish(b, &loop);
}
END_TEST

/* More requests than the ring has entries; neighbours that can be moved together, and some that
 * cannot. */
START_TEST(test_batches)
{
	enum { COUNT = 400 };
	static uint8_t data[COUNT * 1024], back[COUNT * 1024];
	static struct io ios[COUNT];
	static struct iovec iov[COUNT];
	struct loop loop;
	struct block *b = open_attached(engines[_i], &loop, NULL, NULL);

	if (b == NULL) {
		return;
	}
	pattern(data, sizeof(data), 2);
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < COUNT; i++) {
			int k = i % 7 == 3 ? COUNT - 1 - i
					   : i; /* each once: i and its mirror swap below */
			uint8_t *base = pass == 0 ? data : back;

			if ((COUNT - 1 - i) % 7 == 3 && i % 7 != 3) {
				k = COUNT - 1 - i;
			}
			iov[i] = (struct iovec){ .iov_base = base + k * 1024, .iov_len = 1024 };
			submit(b, &ios[i], pass == 0 ? BLOCK_WRITE : BLOCK_READ, (uint64_t)k * 1024,
			       1024, &iov[i], 1);
		}
		block_drain(b);
		for (int i = 0; i < COUNT; i++) {
			ck_assert_int_eq(ios[i].calls, 1);
			ck_assert_int_eq(ios[i].result, 0);
		}
	}
	check_file(0, data, sizeof(data));
	ck_assert_mem_eq(back, data, sizeof(data));
	ck_assert_uint_eq(b->in_flight, 0);
	finish(b, &loop);
}
END_TEST

static void count_groups(void *arg)
{
	(*(int *)arg)++;
}

/* What does not complete at commit completes by the loop, and completed() is told. */
START_TEST(test_completion_by_the_loop)
{
	static uint8_t data[16][4096];
	struct io ios[17];
	struct iovec iov[16];
	struct loop loop;
	int groups = 0;
	struct block *b = open_attached(engines[_i], &loop, count_groups, &groups);
	bool inline_only;

	if (b == NULL) {
		return;
	}
	for (int i = 0; i < 16; i++) {
		pattern(data[i], sizeof(data[i]), (uint32_t)i);
		iov[i] = (struct iovec){ .iov_base = data[i], .iov_len = sizeof(data[i]) };
		submit(b, &ios[i], BLOCK_WRITE, (uint64_t)i * 8192, sizeof(data[i]), &iov[i], 1);
	}
	submit(b, &ios[16], BLOCK_FLUSH, 0, 0, NULL, 0);
	block_commit(b);
	inline_only = b->in_flight == 0;
	while (b->in_flight != 0) {
		ck_assert_int_eq(loop_step(&loop, 10000), 0);
	}
	for (int i = 0; i < 17; i++) {
		ck_assert_int_eq(ios[i].calls, 1);
		ck_assert_int_eq(ios[i].result, 0);
	}
	ck_assert(inline_only || groups >= 1);
	ck_assert(!inline_only || groups == 0);
	check_file(15 * 8192, data[15], sizeof(data[15]));
	finish(b, &loop);
}
END_TEST

struct chain_io {
	struct io io;
	struct block *b;
	struct iovec iov;
	int left;
};

static void again(struct block_request *req, int result)
{
	struct chain_io *chain = container_of(req, struct chain_io, io.req);

	ck_assert_int_eq(result, 0);
	if (chain->left-- > 0) {
		req->offset += 512;
		block_submit(chain->b, req);
		block_commit(chain->b); /* does nothing here: whoever called done() goes on */
	}
}

START_TEST(test_done_may_submit_again)
{
	static uint8_t data[512];
	struct chain_io chains[8];
	struct loop loop;
	struct block *b = open_attached(engines[_i], &loop, NULL, NULL);

	if (b == NULL) {
		return;
	}
	for (int i = 0; i < 8; i++) {
		chains[i].b = b;
		chains[i].left = 100;
		chains[i].iov = (struct iovec){ .iov_base = data, .iov_len = sizeof(data) };
		submit(b, &chains[i].io, i % 2 == 0 ? BLOCK_READ : BLOCK_WRITE, (uint64_t)i * 65536,
		       512, &chains[i].iov, 1);
		chains[i].io.req.done = again;
	}
	block_drain(b);
	for (int i = 0; i < 8; i++) {
		ck_assert_int_eq(chains[i].left, -1);
	}
	finish(b, &loop);
}
END_TEST

/* T-B1: nothing grows the file, whatever the caller has let through. */
START_TEST(test_ranges_are_enforced)
{
	static const struct {
		uint64_t offset, len;
	} rows[] = {
		{ DISK_SIZE, 512 },	    { DISK_SIZE - 512, 1024 }, { UINT64_MAX - 511, 512 },
		{ UINT64_MAX - 511, 1024 }, { 1ULL << 63, 512 },       { 0, UINT64_MAX },
		{ DISK_SIZE + 512, 0 },
	};
	static const enum block_op ops[] = { BLOCK_READ, BLOCK_WRITE, BLOCK_DISCARD,
					     BLOCK_WRITE_ZEROES };
	static uint8_t data[1024];
	const struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	struct loop loop;
	struct block *b = open_attached(engines[_i], &loop, NULL, NULL);

	if (b == NULL) {
		return;
	}
	for (size_t op = 0; op < ARRAY_SIZE(ops); op++) {
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
			ck_assert_int_eq(run(b, ops[op], rows[i].offset, rows[i].len, &iov, 1),
					 -ERANGE);
		}
		ck_assert_int_eq(run(b, ops[op], DISK_SIZE, 0, NULL, 0), 0);
	}
	ck_assert_int_eq(run(b, BLOCK_READ, 0, 512, &iov, BLOCK_IOV_MAX + 1), -EINVAL);
	ck_assert_uint_eq(file_size(disk_path), DISK_SIZE);
	finish(b, &loop);
}
END_TEST

/* A neighbour that is refused does not join a common transfer. */
START_TEST(test_refused_neighbour)
{
	static uint8_t data[3][512];
	struct io ios[3];
	struct iovec iov[3];
	struct loop loop;
	struct block *b = open_attached(engines[_i], &loop, NULL, NULL);

	if (b == NULL) {
		return;
	}
	for (int i = 0; i < 3; i++) {
		pattern(data[i], 512, 40U + (uint32_t)i);
		iov[i] = (struct iovec){ .iov_base = data[i], .iov_len = 512 };
	}
	submit(b, &ios[0], BLOCK_WRITE, DISK_SIZE - 512, 512, &iov[0], 1);
	submit(b, &ios[1], BLOCK_WRITE, DISK_SIZE, 512, &iov[1], 1);
	submit(b, &ios[2], BLOCK_WRITE, 0, 512, &iov[2], 1);
	block_drain(b);
	ck_assert_int_eq(ios[0].result, 0);
	ck_assert_int_eq(ios[1].result, -ERANGE);
	ck_assert_int_eq(ios[2].result, 0);
	check_file(DISK_SIZE - 512, data[0], 512);
	check_file(0, data[2], 512);
	ck_assert_uint_eq(file_size(disk_path), DISK_SIZE);
	finish(b, &loop);
}
END_TEST

/* F5: the file is cut while it is open. */
START_TEST(test_truncated_while_open)
{
	static uint8_t data[8192];
	struct loop loop;
	struct block *b = open_attached(engines[_i], &loop, NULL, NULL);

	if (b == NULL) {
		return;
	}
	ck_assert_int_eq(truncate(disk_path, 65536 + 1024), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 131072, data, sizeof(data)), -EIO);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 65536, data, sizeof(data)),
			 -EIO); /* the first KiB is there */
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, data, sizeof(data)), 0);
	(void)run_buf(b, BLOCK_WRITE, DISK_SIZE - sizeof(data), data, sizeof(data));
	ck_assert_uint_le(file_size(disk_path), DISK_SIZE);
	ck_assert_int_eq(unlink(disk_path), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
	finish(b, &loop);
}
END_TEST

START_TEST(test_discard_and_zeroes)
{
	static const struct {
		enum block_op op;
		bool unmap, fua;
	} rows[] = {
		{ BLOCK_DISCARD, false, false },      { BLOCK_DISCARD, false, true },
		{ BLOCK_WRITE_ZEROES, false, false }, { BLOCK_WRITE_ZEROES, true, false },
		{ BLOCK_WRITE_ZEROES, false, true },
	};
	static const char *const parents[] = { "/tmp",
					       "/dev/shm" }; /* tmpfs has no FALLOC_FL_ZERO_RANGE */
	static uint8_t data[MIB(2)], zero[MIB(2)];

	for (size_t p = 0; p < ARRAY_SIZE(parents); p++) {
		struct loop loop;
		struct block *b;

		if (access(parents[p], W_OK) != 0) {
			continue;
		}
		teardown();
		make_dir(parents[p]);
		b = open_attached(engines[_i], &loop, NULL, NULL);
		if (b == NULL) {
			return;
		}
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
			struct io io;

			pattern(data, sizeof(data), 3 + (uint32_t)i);
			ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
			submit(b, &io, rows[i].op, 1024, MIB(1) + 512, NULL, 0);
			io.req.unmap = rows[i].unmap;
			io.req.fua = rows[i].fua;
			block_drain(b);
			ck_assert_int_eq(io.result, 0);
			check_file(0, data, 1024);
			/* A discard is advice, which some file systems cannot take. */
			if (rows[i].op == BLOCK_DISCARD &&
			    container_of(b, struct raw, block)->no_punch_hole) {
				check_file(1024, data + 1024, MIB(1) + 512);
			} else {
				check_file(1024, zero, MIB(1) + 512);
			}
			check_file(MIB(1) + 1536, data + MIB(1) + 1536,
				   sizeof(data) - MIB(1) - 1536);
			ck_assert_uint_eq(file_size(disk_path), DISK_SIZE);
		}
		finish(b, &loop);
	}
}
END_TEST

/* F1: no room: an error, nothing else; the same request succeeds when there is room again. Also a
 * real short write. */
START_TEST(test_no_room)
{
	static uint8_t data[65536];
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	const struct rlimit limited = { MIB(1) + 4096, RLIM_INFINITY };
	struct loop loop;
	struct block *b = open_attached(engines[_i], &loop, NULL, NULL);

	if (b == NULL) {
		return;
	}
	pattern(data, sizeof(data), 5);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limited), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, MIB(1), data, sizeof(data)), -EFBIG);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, MIB(2), data, sizeof(data)), -EFBIG);
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, MIB(1), data, sizeof(data)), 0);
	check_file(MIB(1), data, sizeof(data));
	finish(b, &loop);
}
END_TEST

/* F2: what a failed sync leaves behind. */
START_TEST(test_flush_fails_for_good_after_a_failed_sync)
{
	static uint8_t data[512];
	struct loop loop;
	struct block *b = open_attached(engines[_i], &loop, NULL, NULL);
	struct io io;

	if (b == NULL) {
		return;
	}
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	container_of(b, struct raw, block)->sync_failed = true;
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	/* A write that is synced by itself is as good as its own sync. */
	submit(b, &io, BLOCK_WRITE, 0, 512, &(struct iovec){ data, 512 }, 1);
	io.req.fua = true;
	block_drain(b);
	ck_assert_int_eq(io.result, 0);
	finish(b, &loop);
}
END_TEST

START_TEST(test_detach_and_attach_again)
{
	static uint8_t data[4096];
	struct error e = { 0 };
	struct loop loop;
	struct block *b = open_attached(engines[_i], &loop, NULL, NULL);

	if (b == NULL) {
		return;
	}
	for (int i = 0; i < 3; i++) {
		struct io io;

		submit(b, &io, BLOCK_WRITE, (uint64_t)i * 4096, 4096, &(struct iovec){ data, 4096 },
		       1);
		block_detach(b); /* drains */
		ck_assert_int_eq(io.calls, 1);
		ck_assert_int_eq(io.result, 0);
		check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
	}
	finish(b, &loop);
}
END_TEST

/* --- test disks --- */

START_TEST(test_fault_disk)
{
	struct block_memory *memory;
	struct block_fault *fault;
	static uint8_t data[2048], back[2048];
	struct error e = { 0 };
	struct io ios[3];
	struct iovec iov = { data, sizeof(data) };

	check_ok(block_memory_create(&memory, 65536, &e), &e);
	check_ok(block_fault_create(&fault, &memory->block, &e), &e);
	pattern(data, sizeof(data), 20);
	block_fault_add(fault, &(struct block_fault_rule){ .ops = 1U << BLOCK_WRITE,
							   .skip = 1,
							   .count = 1,
							   .kind = BLOCK_FAULT_ERROR,
							   .error = ENOSPC });
	ck_assert_int_eq(run_buf(&fault->block, BLOCK_WRITE, 0, data, sizeof(data)), 0);
	ck_assert_int_eq(run_buf(&fault->block, BLOCK_WRITE, 4096, data, sizeof(data)), -ENOSPC);
	ck_assert_int_eq(run_buf(&fault->block, BLOCK_WRITE, 4096, data, sizeof(data)), 0);
	block_fault_clear(fault);
	block_fault_add(fault, &(struct block_fault_rule){ .ops = 1U << BLOCK_READ,
							   .count = 1,
							   .kind = BLOCK_FAULT_SHORT,
							   .error = EIO });
	ck_assert_int_eq(run_buf(&fault->block, BLOCK_READ, 0, back, sizeof(back)), -EIO);
	ck_assert_mem_eq(back, data, 1024);
	ck_assert_int_eq(back[1024] | back[2047], 0);
	block_fault_clear(fault);
	block_fault_add(fault, &(struct block_fault_rule){ .ops = 1U << BLOCK_WRITE,
							   .count = 3,
							   .kind = BLOCK_FAULT_HOLD });
	for (int i = 0; i < 3; i++) {
		submit(&fault->block, &ios[i], BLOCK_WRITE, 0, sizeof(data), &iov, 1);
	}
	block_commit(&fault->block);
	ck_assert_uint_eq(fault->held_count, 3);
	fault->reverse = true;
	ck_assert_uint_eq(block_fault_release(fault, 1), 1);
	ck_assert_int_eq(ios[0].calls + ios[1].calls, 0);
	ck_assert_int_eq(ios[2].calls, 1);
	block_drain(&fault->block);
	ck_assert_int_eq(ios[0].calls + ios[1].calls + ios[2].calls, 3);
	block_close(&fault->block);
	block_close(NULL);
}
END_TEST

CHECK_MAIN("block", CHECK_FIXTURE(setup, teardown);
	   CHECK_TABLE(test_scattered_write_and_read, engines); CHECK_TABLE(test_batches, engines);
	   CHECK_TABLE(test_completion_by_the_loop, engines);
	   CHECK_TABLE(test_done_may_submit_again, engines);
	   CHECK_TABLE(test_ranges_are_enforced, engines);
	   CHECK_TABLE(test_refused_neighbour, engines);
	   CHECK_TABLE(test_truncated_while_open, engines);
	   CHECK_TABLE(test_discard_and_zeroes, engines); CHECK_TABLE(test_no_room, engines);
	   CHECK_TABLE(test_flush_fails_for_good_after_a_failed_sync, engines);
	   CHECK_TABLE(test_detach_and_attach_again, engines); CHECK_TEST(test_fault_disk))
