/* SPDX-License-Identifier: Apache-2.0 */
/* A disk with an overlay: what is read and written, against a model and on a host that misbehaves. */
#include "harness/cow_rig.h"

#define CAPACITY ((uint64_t)SECTORS * BLOCK_SECTOR)

START_TEST(test_reads_the_base_and_leaves_it_alone)
{
	static uint8_t data[8192], back[SECTORS * BLOCK_SECTOR];
	struct loop loop;
	struct block *b = open_cow_attached(engines[_i], &loop);

	if (b == NULL) {
		return;
	}
	ck_assert_uint_eq(b->capacity, CAPACITY);
	ck_assert_uint_eq(b->tail, TAIL);
	ck_assert_uint_eq(b->logical_block, 512);
	ck_assert_uint_ge(b->physical_block, 4096);
	ck_assert(!b->read_only && b->can_discard && b->can_write_zeroes);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, back, CAPACITY), 0);
	ck_assert_mem_eq(back, base_bytes, CAPACITY);
	/* A part of a block, some blocks, the last sectors. */
	pattern(data, sizeof(data), 3);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 1024, data, 512), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 65536 - 512, data, 8192), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, CAPACITY - 1024, data, 1024), 0);
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	for (int again = 0; again < 2; again++) {
		ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, back, CAPACITY), 0);
		ck_assert_mem_eq(back, base_bytes, 1024);
		ck_assert_mem_eq(back + 1024, data, 512);
		ck_assert_mem_eq(back + 1536, base_bytes + 1536, 65536 - 512 - 1536);
		ck_assert_mem_eq(back + 65536 - 512, data, 8192);
		ck_assert_mem_eq(back + 65536 + 7680, base_bytes + 65536 + 7680,
				 CAPACITY - 1024 - 65536 - 7680);
		ck_assert_mem_eq(back + CAPACITY - 1024, data, 1024);
		finish(b, &loop);
		b = open_cow_attached(engines[_i], &loop);
		ck_assert_ptr_nonnull(b);
	}
	finish(b, &loop);
	base_is_untouched();
	ck_assert_uint_le(data_blocks(overlay_path) * 512, 128 * 1024);
}
END_TEST

/* --- against a model --- */

#define BATCH 24

struct random_io {
	struct io io;
	struct iovec iov[64];
	uint8_t *bytes;
	uint8_t expected[128 * BLOCK_SECTOR];
	uint64_t offset, len;
};

static uint8_t model[SECTORS * BLOCK_SECTOR];

/* Cuts the buffer at random places. */
static uint32_t cut(struct random_io *random, uint32_t *state)
{
	uint64_t at = 0;
	uint32_t count = 0;

	while (at < random->len) {
		uint64_t n = MIN(1 + next_random(state) % 9000, random->len - at);

		n = count == ARRAY_SIZE(random->iov) - 1 ? random->len - at : n;
		random->iov[count].iov_base = random->bytes + at;
		random->iov[count++].iov_len = n;
		at += n;
	}
	return count;
}

static bool overlaps(const struct random_io *ios, int count, uint64_t offset, uint64_t len)
{
	for (int i = 0; i < count; i++) {
		if (offset < ios[i].offset + ios[i].len && ios[i].offset < offset + len) {
			return true;
		}
	}
	return false;
}

static void submit_random(struct block *b, struct random_io *random, uint32_t *state)
{
	static const enum block_op ops[] = { BLOCK_READ,  BLOCK_READ,	 BLOCK_READ,
					     BLOCK_WRITE, BLOCK_WRITE,	 BLOCK_WRITE,
					     BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };
	enum block_op op = ops[next_random(state) % ARRAY_SIZE(ops)];
	uint32_t count = 0;

	memcpy(random->expected, model + random->offset, random->len);
	if (op == BLOCK_WRITE) {
		pattern(random->bytes, random->len, next_random(state));
		memcpy(model + random->offset, random->bytes, random->len);
	} else if (op == BLOCK_WRITE_ZEROES) {
		memset(model + random->offset, 0, random->len);
	}
	if (op == BLOCK_READ || op == BLOCK_WRITE) {
		count = cut(random, state);
	}
	submit(b, &random->io, op, random->offset, op == BLOCK_FLUSH ? 0 : random->len, random->iov,
	       count);
	random->io.req.fua = next_random(state) % 8 == 0;
	random->io.req.unmap = next_random(state) % 2 == 0;
}

/* A discard may have kept or zeroed each sector: the model learns which. */
static void learn(struct block *b, const struct random_io *random)
{
	static const uint8_t zero[BLOCK_SECTOR];
	static uint8_t now[sizeof(random->expected)];

	ck_assert_int_eq(run_buf(b, BLOCK_READ, random->offset, now, random->len), 0);
	for (uint64_t at = 0; at < random->len; at += BLOCK_SECTOR) {
		ck_assert(memcmp(now + at, random->expected + at, BLOCK_SECTOR) == 0 ||
			  memcmp(now + at, zero, BLOCK_SECTOR) == 0);
	}
	memcpy(model + random->offset, now, random->len);
}

static void run_batch(struct block *b, uint32_t *state)
{
	static struct random_io ios[BATCH];
	static uint8_t bytes[BATCH][sizeof(ios[0].expected)];
	int count = 0;

	for (int i = 0; i < BATCH; i++) {
		uint64_t sector = next_random(state) % SECTORS;
		uint64_t len = 1 + next_random(state) % (next_random(state) % 3 == 0 ? 128 : 16);

		len = MIN(len, SECTORS - sector) * BLOCK_SECTOR;
		if (overlaps(ios, count, sector * BLOCK_SECTOR, len)) {
			continue;
		}
		ios[count].bytes = bytes[count];
		ios[count].offset = sector * BLOCK_SECTOR;
		ios[count].len = len;
		submit_random(b, &ios[count++], state);
	}
	block_drain(b);
	for (int i = 0; i < count; i++) {
		ck_assert_int_eq(ios[i].io.calls, 1);
		ck_assert_int_eq(ios[i].io.result, 0);
		if (ios[i].io.req.op == BLOCK_READ) {
			ck_assert_mem_eq(ios[i].bytes, ios[i].expected, ios[i].len);
		} else if (ios[i].io.req.op == BLOCK_DISCARD) {
			learn(b, &ios[i]);
		}
	}
	ck_assert_uint_eq(b->in_flight, 0);
}

static void check_all(struct block *b)
{
	static uint8_t back[SECTORS * BLOCK_SECTOR];

	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, back, CAPACITY), 0);
	ck_assert_mem_eq(back, model, CAPACITY);
}

/* The file as it is while the disk is open: what a kill at this point leaves. */
static void kill_now(struct block *b, struct loop *loop)
{
	char killed[128];

	(void)snprintf(killed, sizeof(killed), "%s.killed", overlay_path);
	copy_sparse(overlay_path, killed);
	finish(b, loop);
	ck_assert_int_eq(rename(killed, overlay_path), 0);
}

static const struct model_row {
	int engine;
	uint32_t block_size; /* 0: the file system's */
} model_rows[] = { { BLOCK_ENGINE_SYNC, 0 },
		   { BLOCK_ENGINE_URING, 0 },
		   { BLOCK_ENGINE_SYNC, 65536 },
		   { BLOCK_ENGINE_URING, 16384 } };

START_TEST(test_random_requests)
{
	const struct model_row *row = &model_rows[_i];
	uint32_t state = (uint32_t)_i + 1;
	struct loop loop;
	struct block *b;

	if (row->block_size != 0) {
		craft_overlay(row->block_size);
	}
	memcpy(model, base_bytes, CAPACITY);
	b = open_cow_attached(row->engine, &loop);
	for (int i = 0; b != NULL && i < 400; i++) {
		run_batch(b, &state);
		if (i % 40 == 39) {
			check_all(b);
		}
		/* Fresh again now and then, or all of it would be in the overlay soon. */
		if (i % 100 == 99) {
			finish(b, &loop);
			ck_assert_int_eq(unlink(overlay_path), 0);
			if (row->block_size != 0) {
				craft_overlay(row->block_size);
			}
			memcpy(model, base_bytes, CAPACITY);
			b = open_cow_attached(row->engine, &loop);
			ck_assert_ptr_nonnull(b);
		} else if (i % 10 == 9) {
			if (i % 20 == 9) {
				kill_now(b, &loop);
			} else {
				finish(b, &loop);
			}
			b = open_cow_attached(row->engine, &loop);
			ck_assert_ptr_nonnull(b);
			check_all(b);
		}
	}
	if (b != NULL) {
		finish(b, &loop);
	}
	base_is_untouched();
}
END_TEST

/* --- many parts --- */

/* Every other block is in the overlay; reads of all of it, more at a time than there is room for, in small entries. */
START_TEST(test_reads_in_parts)
{
	enum { READS = 80, LEN = 256 * 1024, ENTRY = 700 };
	static uint8_t data[4096], back[READS][LEN];
	static struct iovec iov[READS][LEN / ENTRY + 1];
	static struct io ios[READS];
	struct loop loop;
	struct block *b = open_cow_attached(engines[_i], &loop);

	if (b == NULL) {
		return;
	}
	memcpy(model, base_bytes, CAPACITY);
	for (uint64_t at = 0; at + 4096 <= CAPACITY; at += 8192) {
		pattern(data, sizeof(data), (uint32_t)at);
		memcpy(model + at, data, sizeof(data));
		ck_assert_int_eq(run_buf(b, BLOCK_WRITE, at, data, sizeof(data)), 0);
	}
	for (int i = 0; i < READS; i++) {
		uint64_t offset = (uint64_t)i * 7 * 512;
		uint32_t count = 0;

		for (size_t at = 0; at < LEN; at += ENTRY, count++) {
			iov[i][count] =
				(struct iovec){ back[i] + at, MIN((size_t)ENTRY, LEN - at) };
		}
		submit(b, &ios[i], BLOCK_READ, offset, LEN, iov[i], count);
	}
	block_commit(b);
	while (b->in_flight != 0) {
		ck_assert_int_eq(loop_step(&loop, 10000), 0);
	}
	for (int i = 0; i < READS; i++) {
		ck_assert_int_eq(ios[i].calls, 1);
		ck_assert_int_eq(ios[i].result, 0);
		ck_assert_uint_eq(ios[i].req.transferred, LEN);
		ck_assert_mem_eq(back[i], model + (size_t)i * 7 * 512, LEN);
	}
	finish(b, &loop);
}
END_TEST

/* Parts of one block in one batch: each is filled from what the one before has left. */
START_TEST(test_sectors_of_one_block)
{
	static uint8_t data[16][512], back[8192];
	struct iovec iov[16];
	struct io ios[16];
	struct loop loop;
	struct block *b = open_cow_attached(engines[_i], &loop);

	if (b == NULL) {
		return;
	}
	for (int i = 0; i < 16; i++) {
		pattern(data[i], 512, (uint32_t)i);
		iov[i] = (struct iovec){ data[i], 512 };
		submit(b, &ios[i], BLOCK_WRITE, 8192 + (uint64_t)(i * 5 % 16) * 512, 512, &iov[i],
		       1);
	}
	block_drain(b);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 8192, back, sizeof(back)), 0);
	for (int i = 0; i < 16; i++) {
		ck_assert_int_eq(ios[i].result, 0);
		ck_assert_mem_eq(back + (i * 5 % 16) * 512, data[i], 512);
	}
	finish(b, &loop);
}
END_TEST

START_TEST(test_ranges_are_enforced)
{
	static const enum block_op ops[] = { BLOCK_READ, BLOCK_WRITE, BLOCK_DISCARD,
					     BLOCK_WRITE_ZEROES };
	static const struct {
		uint64_t offset, len;
	} rows[] = {
		{ CAPACITY, 512 },	    { CAPACITY - 512, 1024 }, { UINT64_MAX - 511, 512 },
		{ UINT64_MAX - 511, 1024 }, { 1ULL << 63, 512 },      { CAPACITY + 512, 0 },
	};
	static uint8_t data[1024];
	const struct iovec iov = { data, sizeof(data) };
	struct loop loop;
	struct block *b = open_cow_attached(engines[_i], &loop);
	uint64_t size;

	if (b == NULL) {
		return;
	}
	size = file_size(overlay_path);
	for (size_t op = 0; op < ARRAY_SIZE(ops); op++) {
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
			ck_assert_int_eq(run(b, ops[op], rows[i].offset, rows[i].len, &iov, 1),
					 -ERANGE);
		}
		ck_assert_int_eq(run(b, ops[op], CAPACITY, 0, NULL, 0), 0);
	}
	ck_assert_int_eq(run(b, BLOCK_WRITE, 0, 512, &iov, BLOCK_IOV_MAX + 1), -EINVAL);
	ck_assert_int_eq(run(b, BLOCK_WRITE_ZEROES, 0, CAPACITY, NULL, 0), 0);
	ck_assert_uint_eq(file_size(overlay_path), size);
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
		req->offset += 1536;
		block_submit(chain->b, req);
		block_commit(chain->b);
	}
}

START_TEST(test_done_may_submit_again)
{
	static uint8_t data[8][8192];
	struct chain_io chains[8];
	struct loop loop;
	struct block *b = open_cow_attached(engines[_i], &loop);

	if (b == NULL) {
		return;
	}
	for (int i = 0; i < 8; i++) {
		chains[i].b = b;
		chains[i].left = 60;
		chains[i].iov = (struct iovec){ data[i], sizeof(data[i]) };
		submit(b, &chains[i].io, i % 2 == 0 ? BLOCK_READ : BLOCK_WRITE, (uint64_t)i * 65536,
		       sizeof(data[i]), &chains[i].iov, 1);
		chains[i].io.req.done = again;
	}
	if (_i % 2 == 0) {
		block_drain(b);
	} else {
		block_commit(b);
		while (b->in_flight != 0) {
			ck_assert_int_eq(loop_step(&loop, 10000), 0);
		}
	}
	for (int i = 0; i < 8; i++) {
		ck_assert_int_eq(chains[i].left, -1);
	}
	finish(b, &loop);
}
END_TEST

static void count_groups(void *arg)
{
	(*(int *)arg)++;
}

/* What completes by the loop is told of, from either side. */
START_TEST(test_completion_by_the_loop)
{
	static uint8_t data[16][4096];
	struct iovec iov[16];
	struct io ios[17];
	struct error e = { 0 };
	struct loop loop;
	int groups = 0;
	bool inline_only;
	struct block *b = open_cow(engines[_i], 1);

	if (b == NULL) {
		return;
	}
	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(b, &loop, count_groups, &groups, &e), &e);
	for (int i = 0; i < 16; i++) {
		iov[i] = (struct iovec){ data[i], sizeof(data[i]) };
		submit(b, &ios[i], i % 2 == 0 ? BLOCK_WRITE : BLOCK_READ, (uint64_t)i * 6144,
		       sizeof(data[i]), &iov[i], 1);
		ios[i].req.fua = i % 4 == 0;
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
	ck_assert(inline_only ? groups == 0 : groups >= 1);
	finish(b, &loop);
}
END_TEST

/* Space goes back to the host, zeroes stay zeroes, also where nothing has been. */
START_TEST(test_zeroes_and_discards)
{
	static uint8_t data[256 * 1024], back[256 * 1024], zero[256 * 1024];
	struct loop loop;
	struct block *b = open_cow_attached(engines[_i], &loop);
	uint64_t before;

	if (b == NULL) {
		return;
	}
	pattern(data, sizeof(data), 1);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
	before = data_blocks(overlay_path);
	ck_assert_int_eq(run(b, BLOCK_DISCARD, 0, 128 * 1024, NULL, 0), 0);
	ck_assert_uint_lt(data_blocks(overlay_path), before);
	ck_assert_int_eq(run(b, BLOCK_WRITE_ZEROES, 512 * 1024 - 512, 8192, NULL, 0), 0);
	/* Of a block that is the base's a discard leaves what is there. */
	ck_assert_int_eq(run(b, BLOCK_DISCARD, 768 * 1024, 65536, NULL, 0), 0);
	for (int pass = 0; pass < 2; pass++) {
		ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, back, sizeof(back)), 0);
		ck_assert_mem_eq(back, zero, 128 * 1024);
		ck_assert_mem_eq(back + 128 * 1024, data + 128 * 1024, 128 * 1024);
		ck_assert_int_eq(run_buf(b, BLOCK_READ, 512 * 1024 - 1024, back, 16384), 0);
		ck_assert_mem_eq(back, base_bytes + 512 * 1024 - 1024, 512);
		ck_assert_mem_eq(back + 512, zero, 8192);
		ck_assert_mem_eq(back + 8704, base_bytes + 512 * 1024 + 7680, 16384 - 8704);
		ck_assert_int_eq(run_buf(b, BLOCK_READ, 768 * 1024, back, 65536), 0);
		ck_assert_mem_eq(back, base_bytes + 768 * 1024, 65536);
		if (pass == 0) {
			finish(b, &loop);
			b = open_cow_attached(engines[_i], &loop);
			ck_assert_ptr_nonnull(b);
		}
	}
	finish(b, &loop);
}
END_TEST

/* --- a host that misbehaves --- */

static struct {
	int submits, calls, syncs;
	int write_error, read_error, sync_error;
	int good;	  /* writes before the error */
	uint64_t from;	  /* writes before this place in the file are fine */
	uint64_t ordered; /* writes behind this place come after a sync */
} host;

static bool fails(int error, off_t offset)
{
	return error != 0 && (uint64_t)offset >= host.from && host.good-- <= 0;
}

static ssize_t host_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	host.calls++;
	if (host.read_error != 0) {
		errno = host.read_error;
		return -1;
	}
	return preadv2(fd, iov, count, offset, flags);
}

static ssize_t host_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	host.calls++;
	ck_assert(host.ordered == 0 || (uint64_t)offset < host.ordered || host.syncs != 0);
	if (fails(host.write_error, offset)) {
		/* Half of the first entry arrives. */
		ssize_t n = pwrite(fd, iov[0].iov_base, iov[0].iov_len / 2, offset);

		ck_assert_int_ge(n, 0);
		errno = host.write_error;
		return -1;
	}
	return pwritev2(fd, iov, count, offset, flags);
}

static int host_fdatasync(int fd)
{
	host.syncs++;
	if (host.sync_error != 0) {
		errno = host.sync_error;
		return -1;
	}
	return fdatasync(fd);
}

static int host_submit(aio_context_t context, long count, struct iocb **list)
{
	host.submits++;
	return (int)syscall(SYS_io_submit, context, count, list);
}

static const struct raw_io host_io = {
	.preadv2 = host_preadv2,
	.pwritev2 = host_pwritev2,
	.fdatasync = host_fdatasync,
	.fallocate = fallocate,
};
static const struct raw_io many_io = {
	.preadv2 = host_preadv2,
	.pwritev2 = host_pwritev2,
	.fdatasync = host_fdatasync,
	.fallocate = fallocate,
	.io_submit = host_submit,
};

static struct block *open_on_host(const struct raw_io *io, struct loop *loop)
{
	struct block *b = open_cow_attached(BLOCK_ENGINE_SYNC, loop);

	cow_raw(cow_of(b)->overlay)->io = io;
	cow_raw(cow_of(b)->base)->io = io;
	memset(&host, 0, sizeof(host));
	return b;
}

/* Data of a batch with one call, states with another; then like a raw disk's. */
START_TEST(test_calls_of_a_batch)
{
	enum { COUNT = 32 };
	static uint8_t data[COUNT][4096];
	struct iovec iov[COUNT];
	struct io ios[COUNT];
	struct loop loop;
	struct block *b = open_on_host(&many_io, &loop);

	for (int pass = 0; pass < 2; pass++) {
		memset(&host, 0, sizeof(host));
		/* A slow host's first call would make the next ones smaller. */
		cow_raw(cow_of(b)->overlay)->aio->limit = AIO_TRANSFERS_MAX;
		for (int i = 0; i < COUNT; i++) {
			iov[i] = (struct iovec){ data[i], 4096 };
			submit(b, &ios[i], BLOCK_WRITE, (uint64_t)i * 16384, 4096, &iov[i], 1);
		}
		block_drain(b);
		if (host.submits == 0) {
			CHECK_SKIP("this host has no Linux AIO");
		}
		ck_assert_int_eq(host.submits, 1);
		ck_assert_int_eq(host.calls, pass == 0 ? 1 : 0);
		ck_assert_int_eq(host.syncs, 0);
	}
	/* A part of a block: what is left of it is read, and all of it written with one call. */
	memset(&host, 0, sizeof(host));
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 8192 + 512, data[0], 512), 0);
	ck_assert_int_eq(host.submits, 0);
	ck_assert_int_eq(host.calls, 2 + 1 + 1);
	finish(b, &loop);
}
END_TEST

static void reads_as(struct block *b, uint64_t offset, const uint8_t *expected, uint64_t len)
{
	static uint8_t back[65536];

	ck_assert_int_eq(run_buf(b, BLOCK_READ, offset, back, len), 0);
	ck_assert_mem_eq(back, expected, len);
}

static void has_no_data(off_t offset)
{
	int fd = open(overlay_path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(lseek(fd, offset, SEEK_DATA), offset + 4096);
	(void)close(fd);
}

static bool has_mark(const struct cow_disk *disk)
{
	char mark[COW_MARK_SIZE];
	int fd = open(overlay_path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(pread(fd, mark, sizeof(mark), (off_t)disk->mark_at), COW_MARK_SIZE);
	(void)close(fd);
	return memcmp(mark, COW_CLEAN, sizeof(mark)) == 0;
}

/* A write that fails, whatever part of it, leaves the base's content, now and after the next opening. */
START_TEST(test_failed_writes)
{
	static uint8_t data[8192];
	struct loop loop;
	struct block *b = open_on_host(&host_io, &loop);
	uint64_t states_at = cow_of(b)->disk->states_at;

	pattern(data, sizeof(data), 9);
	host.read_error = EIO; /* of the base, for the filling */
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 512, data, 512), -EIO);
	host.read_error = 0;
	reads_as(b, 0, base_bytes, 8192);
	host.write_error = ENOSPC;
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 512, data, 512), -ENOSPC);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 4096, data, 4096), -ENOSPC);
	reads_as(b, 0, base_bytes, 8192);
	has_no_data(0);
	has_no_data(4096);
	host.from = states_at; /* the data arrives */
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 4096, data, 8192), -ENOSPC);
	ck_assert_int_eq(run(b, BLOCK_WRITE_ZEROES, 65536, 8192, NULL, 0), -ENOSPC);
	reads_as(b, 0, base_bytes, 16384);
	reads_as(b, 65536, base_bytes + 65536, 8192);
	has_no_data(4096);
	has_no_data(8192);
	host.write_error = 0;
	for (int again = 0; again < 2; again++) {
		ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 12288, data, 4096), 0);
		reads_as(b, 0, base_bytes, 12288);
		reads_as(b, 12288, data, 4096);
		reads_as(b, 65536, base_bytes + 65536, 8192);
		finish(b, &loop);
		b = open_on_host(&host_io, &loop);
	}
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 4096, data, 8192), 0);
	ck_assert_int_eq(run(b, BLOCK_WRITE_ZEROES, 65536, 8192, NULL, 0), 0);
	reads_as(b, 4096, data, 8192);
	memset(data, 0, sizeof(data));
	reads_as(b, 65536, data, 8192);
	finish(b, &loop);
}
END_TEST

/* The first write to a file that was closed takes its mark off, and syncs; a sync that fails spoils later flushes. */
START_TEST(test_sync_errors_stick)
{
	static uint8_t data[4096];
	struct io fua;
	struct iovec iov = { data, sizeof(data) };
	struct loop loop;
	struct block *b = open_on_host(&host_io, &loop);

	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, 4096), 0);
	ck_assert_int_eq(host.syncs, 0); /* new: it had no mark */
	finish(b, &loop);
	b = open_on_host(&host_io, &loop);
	ck_assert(cow_of(b)->disk->clean);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, 4096), 0);
	ck_assert_int_eq(host.syncs, 0); /* it is there */
	host.sync_error = EIO;
	ck_assert(has_mark(cow_of(b)->disk));
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 4096, data, 4096), -EIO);
	host.sync_error = 0;
	reads_as(b, 4096, base_bytes + 4096, 4096);
	ck_assert(!has_mark(cow_of(b)->disk));
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 4096, data, 4096), 0);
	submit(b, &fua, BLOCK_WRITE, 8192, sizeof(data), &iov, 1);
	fua.req.fua = true;
	block_drain(b);
	ck_assert_int_eq(fua.result, 0);
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	finish(b, &loop);
	/* It is not said to be whole. */
	b = open_on_host(&host_io, &loop);
	ck_assert(!cow_of(b)->disk->clean);
	reads_as(b, 4096, data, 4096);
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	finish(b, &loop);
}
END_TEST

/* At the end: data, then states, then the mark, with a sync between each. */
START_TEST(test_closing)
{
	static uint8_t data[4096];
	struct loop loop;
	struct block *b = open_on_host(&host_io, &loop);
	struct cow_disk old = *cow_of(b)->disk;

	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, 4096), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 65536, data, 4096), 0);
	ck_assert_int_eq(host.syncs, 0);
	ck_assert(!has_mark(&old));
	host.ordered = old.states_at;
	finish(b, &loop);
	ck_assert_int_eq(host.syncs, 2);
	ck_assert(has_mark(&old));
	b = open_on_host(&host_io, &loop);
	ck_assert_int_eq(cow_get_state(cow_of(b)->disk, 0), COW_SETTLED);
	ck_assert_int_eq(cow_get_state(cow_of(b)->disk, 1), COW_ABSENT);
	ck_assert_int_eq(cow_get_state(cow_of(b)->disk, 16), COW_SETTLED);
	/* What changes nothing syncs nothing. */
	finish(b, &loop);
	ck_assert_int_eq(host.syncs, 0);
}
END_TEST

/* A stable write waits for one sync, of data and states; a batch of them, too. */
START_TEST(test_stable_writes)
{
	enum { COUNT = 8 };
	static uint8_t data[COUNT][4096];
	struct iovec iov[COUNT];
	struct io ios[COUNT];
	struct loop loop;
	struct block *b = open_on_host(&host_io, &loop);

	for (int i = 0; i < COUNT; i++) {
		iov[i] = (struct iovec){ data[i], 4096 };
		submit(b, &ios[i], BLOCK_WRITE, (uint64_t)i * 8192, 4096, &iov[i], 1);
		ios[i].req.fua = true;
	}
	block_drain(b);
	ck_assert_int_eq(host.syncs, 1);
	host.sync_error = EIO;
	submit(b, &ios[0], BLOCK_WRITE, 4096, 4096, &iov[0], 1);
	ios[0].req.fua = true;
	block_drain(b);
	ck_assert_int_eq(ios[0].result, -EIO);
	finish(b, &loop);
}
END_TEST

/* The same with writes that nobody makes stable, and a closing that syncs nothing. */
START_TEST(test_unsafe)
{
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	static uint8_t data[4096];
	struct error e = { 0 };
	struct block *b = NULL;
	struct loop loop;

	config.cache = BLOCK_CACHE_UNSAFE;
	pattern(data, sizeof(data), 4);
	for (int i = 0; i < 2; i++) {
		check_ok(block_open(&b, &config, &e), &e);
		check_ok(loop_init(&loop, &e), &e);
		check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
		cow_raw(cow_of(b)->overlay)->io = &host_io;
		memset(&host, 0, sizeof(host));
		if (i == 0) {
			ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 4096, data, 4096), 0);
		}
		reads_as(b, 4096, data, 4096);
		finish(b, &loop);
		ck_assert_int_eq(host.syncs, 0);
	}
}
END_TEST

CHECK_MAIN("cow", CHECK_FIXTURE(make_base, teardown);
	   CHECK_TABLE(test_reads_the_base_and_leaves_it_alone, engines);
	   CHECK_TABLE(test_random_requests, model_rows); CHECK_TABLE(test_reads_in_parts, engines);
	   CHECK_TABLE(test_sectors_of_one_block, engines);
	   CHECK_TABLE(test_ranges_are_enforced, engines);
	   CHECK_TABLE(test_done_may_submit_again, engines);
	   CHECK_TABLE(test_completion_by_the_loop, engines);
	   CHECK_TABLE(test_zeroes_and_discards, engines); CHECK_TEST(test_calls_of_a_batch);
	   CHECK_TEST(test_failed_writes); CHECK_TEST(test_sync_errors_stick);
	   CHECK_TEST(test_closing); CHECK_TEST(test_stable_writes); CHECK_TEST(test_unsafe))
