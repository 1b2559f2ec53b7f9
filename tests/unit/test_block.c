/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks: both engines on real files, the rules of block_open(), and the test disks. Fault rows F1,
 * F2, F3, F5 and image rows T-I1, T-I4 of the catalogue.
 */
#include "block_rig.h"

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

/* --- the synchronous steps with a host that misbehaves: F3, T-D15, F2 --- */

static struct {
	size_t most;	    /* bytes that one call moves; 0: no limit */
	int interrupts;	    /* calls that fail with EINTR first */
	int transfer_error; /* after `good` calls */
	int good;
	int sync_error;
	int allocate_error;
	int calls, syncs;
} host;

static ssize_t limited(int fd, const struct iovec *iov, int count, off_t offset, bool write)
{
	struct iovec part[1024];
	size_t left = host.most != 0 ? host.most : SIZE_MAX;
	int used = 0;

	if (host.interrupts > 0) {
		host.interrupts--;
		errno = EINTR;
		return -1;
	}
	if (host.transfer_error != 0 && host.good-- <= 0) {
		errno = host.transfer_error;
		return -1;
	}
	host.calls++;
	for (; used < count && left != 0; used++) {
		part[used] = iov[used];
		part[used].iov_len = MIN(part[used].iov_len, left);
		left -= part[used].iov_len;
	}
	return write ? pwritev2(fd, part, used, offset, 0) : preadv2(fd, part, used, offset, 0);
}

static ssize_t host_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	ck_assert_int_eq(flags, 0);
	return limited(fd, iov, count, offset, false);
}

static ssize_t host_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	ck_assert_int_eq(flags, 0);
	return limited(fd, iov, count, offset, true);
}

static int host_fdatasync(int fd)
{
	host.syncs++;
	if (host.interrupts > 0) {
		host.interrupts--;
		errno = EINTR;
		return -1;
	}
	if (host.sync_error != 0) {
		errno = host.sync_error;
		return -1;
	}
	return fdatasync(fd);
}

static int host_fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (host.interrupts > 0) {
		host.interrupts--;
		errno = EINTR;
		return -1;
	}
	if (host.allocate_error != 0) {
		errno = host.allocate_error;
		return -1;
	}
	return fallocate(fd, mode, offset, len);
}

static const struct raw_io host_io = {
	.preadv2 = host_preadv2,
	.pwritev2 = host_pwritev2,
	.fdatasync = host_fdatasync,
	.fallocate = host_fallocate,
};

static struct block *open_on_bad_host(struct loop *loop)
{
	struct block *b = open_attached(BLOCK_ENGINE_SYNC, loop, NULL, NULL);

	container_of(b, struct raw, block)->io = &host_io;
	memset(&host, 0, sizeof(host));
	return b;
}

START_TEST(test_short_transfers_are_finished)
{
	static uint8_t data[1024], back[1024];
	struct iovec out[] = {
		{ data, 1 }, { data + 1, 510 }, { data + 511, 2 }, { data + 513, 511 }
	};
	struct iovec in[] = { { back, 300 }, { back + 300, 724 } };
	struct loop loop;
	struct block *b = open_on_bad_host(&loop);

	for (size_t most = 1; most <= sizeof(data); most += most < 16 || most > 500 ? 7 : 61) {
		pattern(data, sizeof(data), (uint32_t)most);
		memset(back, 0, sizeof(back));
		host.most = most;
		host.interrupts = (int)(most % 3);
		ck_assert_int_eq(run(b, BLOCK_WRITE, 512, sizeof(data), out, ARRAY_SIZE(out)), 0);
		check_file(512, data, sizeof(data));
		host.interrupts = (int)(most % 2);
		ck_assert_int_eq(run(b, BLOCK_READ, 512, sizeof(data), in, ARRAY_SIZE(in)), 0);
		ck_assert_mem_eq(back, data, sizeof(data));
	}
	finish(b, &loop);
}
END_TEST

/* A common transfer that ends anywhere gives each request its own answer and its own bytes. */
START_TEST(test_short_common_transfers)
{
	enum { COUNT = 5 };
	static uint8_t data[COUNT * 512];
	struct io ios[COUNT];
	struct iovec iov[COUNT];
	struct loop loop;
	struct block *b = open_on_bad_host(&loop);

	for (int i = 0; i < COUNT; i++) {
		iov[i] = (struct iovec){ data + i * 512, 512 };
	}
	for (size_t most = 1; most <= sizeof(data); most += 37) {
		pattern(data, sizeof(data), (uint32_t)most);
		host.most = most;
		for (int i = 0; i < COUNT; i++) {
			submit(b, &ios[i], BLOCK_WRITE, (uint64_t)i * 512, 512, &iov[i], 1);
		}
		block_drain(b);
		check_file(0, data, sizeof(data));
	}
	/* One good call of 3.5 sectors, then errors: three are written. */
	host.most = 512 * 3 + 256;
	host.transfer_error = EIO;
	host.good = 1;
	for (int i = 0; i < COUNT; i++) {
		submit(b, &ios[i], BLOCK_WRITE, (uint64_t)i * 512, 512, &iov[i], 1);
	}
	block_drain(b);
	for (int i = 0; i < COUNT; i++) {
		ck_assert_int_eq(ios[i].result, i < 3 ? 0 : -EIO);
	}
	finish(b, &loop);
}
END_TEST

/* --- many transfers with one call (aio.c) --- */

static struct {
	long most;   /* transfers that one call takes */
	bool refuse; /* the call fails */
	bool slow;
	uint32_t cut;	   /* list entries that are left out at the end of each transfer */
	int submits, last; /* calls, and how many transfers the last one was offered */
} many;

static int many_submit(aio_context_t context, long count, struct iocb **list)
{
	many.submits++;
	many.last = (int)count;
	if (many.refuse) {
		errno = EAGAIN;
		return -1;
	}
	if (many.slow) {
		(void)usleep(2000);
	}
	for (long i = 0; i < count; i++) {
		list[i]->aio_nbytes -= many.cut;
	}
	return (int)syscall(SYS_io_submit, context, MIN(count, many.most), list);
}

static const struct raw_io many_io = {
	.preadv2 = host_preadv2,
	.pwritev2 = host_pwritev2,
	.fdatasync = host_fdatasync,
	.fallocate = host_fallocate,
	.io_submit = many_submit,
};

static struct raw *raw_of(struct block *b)
{
	return container_of(b, struct raw, block);
}

#define MANY 32

/* MANY requests with two list entries each, no neighbours. */
static void run_many(struct block *b, struct io *ios, enum block_op op, uint8_t *data)
{
	static struct iovec iov[MANY][2];

	for (int i = 0; i < MANY; i++) {
		iov[i][0] = (struct iovec){ data + (size_t)i * 1024, 700 };
		iov[i][1] = (struct iovec){ data + (size_t)i * 1024 + 700, 324 };
		submit(b, &ios[i], op, (uint64_t)(MANY - i) * 8192, 1024, iov[i], 2);
	}
	block_drain(b);
}

static void many_done(const struct io *ios)
{
	for (int i = 0; i < MANY; i++) {
		ck_assert_int_eq(ios[i].calls, 1);
		ck_assert_int_eq(ios[i].result, 0);
	}
}

/* False: this host has no Linux AIO. */
static bool open_many(struct block **b, int engine, struct loop *loop)
{
	aio_context_t context = 0;

	if (syscall(SYS_io_setup, AIO_TRANSFERS_MAX, &context) < 0) {
		fprintf(stderr, "# SKIP Linux AIO: %s\n", strerror(errno));
		return false;
	}
	(void)syscall(SYS_io_destroy, context);
	*b = open_attached(engine, loop, NULL, NULL);
	if (*b == NULL) {
		return false;
	}
	raw_of(*b)->io = &many_io;
	memset(&host, 0, sizeof(host));
	memset(&many, 0, sizeof(many));
	many.most = AIO_TRANSFERS_MAX;
	return true;
}

static void write_and_read_many(struct block *b)
{
	static uint8_t data[MANY * 1024], back[MANY * 1024];
	static uint32_t seed = 77;
	struct io ios[MANY];

	pattern(data, sizeof(data), seed++);
	memset(back, 0, sizeof(back));
	run_many(b, ios, BLOCK_WRITE, data);
	many_done(ios);
	for (size_t i = 0; i < MANY; i++) {
		check_file((MANY - i) * 8192, data + i * 1024, 1024);
	}
	run_many(b, ios, BLOCK_READ, back);
	many_done(ios);
	ck_assert_mem_eq(back, data, sizeof(data));
}

START_TEST(test_batch_is_one_call)
{
	static uint8_t data[MANY * 1024];
	struct io ios[MANY];
	struct loop loop;
	struct block *b;

	if (!open_many(&b, engines[_i], &loop)) {
		return;
	}
	run_many(b, ios, BLOCK_WRITE, data);
	many_done(ios);
	ck_assert_int_eq(many.submits, 1);
	ck_assert_int_eq(many.last, MANY);
	ck_assert_int_eq(host.calls, 0);
	/* One alone goes directly. */
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, 512), 0);
	ck_assert_int_eq(many.submits, 1);
	ck_assert_int_eq(host.calls, 1);
	write_and_read_many(b);
	ck_assert_int_eq(host.calls, 1);
	finish(b, &loop);
}
END_TEST

/* What one call does not take, cuts short, or refuses is finished all the same. */
START_TEST(test_batch_call_misbehaves)
{
	struct loop loop;
	struct block *b;

	if (!open_many(&b, BLOCK_ENGINE_SYNC, &loop)) {
		return;
	}
	for (many.most = 1; many.most <= MANY; many.most += 5) {
		write_and_read_many(b);
	}
	many.cut = 1;
	write_and_read_many(b);
	many.cut = 0;
	many.refuse = true;
	write_and_read_many(b);
	many.refuse = false;
	raw_of(b)->aio->unusable = true;
	many.submits = 0;
	host.calls = 0;
	write_and_read_many(b);
	ck_assert_int_eq(many.submits, 0);
	ck_assert_int_eq(host.calls, 2 * MANY);
	finish(b, &loop);
}
END_TEST

/* Of a batch, the request whose memory is bad fails, alone. */
START_TEST(test_batch_errors_are_apart)
{
	static uint8_t data[MANY * 1024];
	struct iovec iov[MANY];
	struct io ios[MANY];
	struct loop loop;
	struct block *b;

	if (!open_many(&b, BLOCK_ENGINE_SYNC, &loop)) {
		return;
	}
	for (int i = 0; i < MANY; i++) {
		iov[i] = (struct iovec){ i == 7 ? (void *)4096 : data + (size_t)i * 1024, 1024 };
		submit(b, &ios[i], BLOCK_WRITE, (uint64_t)i * 8192, 1024, &iov[i], 1);
	}
	block_drain(b);
	for (int i = 0; i < MANY; i++) {
		ck_assert_int_eq(ios[i].calls, 1);
		ck_assert_int_eq(ios[i].result, i == 7 ? -EFAULT : 0);
	}
	/* Beyond the file's end: others may have cut it. */
	ck_assert_int_eq(truncate(disk_path, 10 * 8192), 0);
	for (int i = 0; i < MANY; i++) {
		iov[i].iov_base = data;
		submit(b, &ios[i], BLOCK_READ, (uint64_t)i * 8192, 1024, &iov[i], 1);
	}
	block_drain(b);
	for (int i = 0; i < MANY; i++) {
		ck_assert_int_eq(ios[i].result, i < 10 ? 0 : -EIO);
	}
	finish(b, &loop);
}
END_TEST

START_TEST(test_slow_calls_get_less)
{
	static uint8_t data[MANY * 1024];
	struct io ios[MANY];
	struct loop loop;
	struct block *b;

	if (!open_many(&b, BLOCK_ENGINE_SYNC, &loop)) {
		return;
	}
	many.slow = true;
	for (int most = MANY; most >= 2; most /= 2) {
		many.submits = 0;
		run_many(b, ios, BLOCK_WRITE, data);
		many_done(ios);
		ck_assert_int_le(many.last, most);
		ck_assert_int_ge(many.submits, MANY / most);
	}
	/* Never less than two, or it could not recover. */
	ck_assert_int_eq(many.last, 2);
	finish(b, &loop);
}
END_TEST

/* Runs of neighbours that fill the space for common lists, in one batch with others. */
START_TEST(test_batch_of_runs)
{
	enum { COUNT = 200, ENTRIES = 16 };
	static uint8_t data[COUNT * 512];
	static struct iovec iov[COUNT][ENTRIES];
	static struct io ios[COUNT];
	struct loop loop;
	struct block *b;

	if (!open_many(&b, engines[_i], &loop)) {
		return;
	}
	pattern(data, sizeof(data), 5);
	for (int i = 0; i < COUNT; i++) {
		for (int k = 0; k < ENTRIES; k++) {
			iov[i][k] = (struct iovec){ data + i * 512 + k * 32, 32 };
		}
		/* Every seventh leaves a gap. */
		submit(b, &ios[i], BLOCK_WRITE, ((uint64_t)i + (uint64_t)i / 7) * 512, 512, iov[i],
		       ENTRIES);
	}
	block_drain(b);
	for (int i = 0; i < COUNT; i++) {
		ck_assert_int_eq(ios[i].calls, 1);
		ck_assert_int_eq(ios[i].result, 0);
		check_file(((uint64_t)i + (uint64_t)i / 7) * 512, data + (size_t)i * 512, 512);
	}
	finish(b, &loop);
}
END_TEST

START_TEST(test_neighbours_share_a_call)
{
	enum { COUNT = 32 };
	static uint8_t data[COUNT * 512];
	struct io ios[COUNT];
	struct iovec iov[COUNT];
	struct loop loop;
	struct block *b = open_on_bad_host(&loop);

	for (int i = 0; i < COUNT; i++) {
		iov[i] = (struct iovec){ data + i * 512, 512 };
		submit(b, &ios[i], BLOCK_READ, 4096 + (uint64_t)i * 512, 512, &iov[i], 1);
	}
	block_drain(b);
	ck_assert_int_eq(host.calls, 1);
	finish(b, &loop);
}
END_TEST

START_TEST(test_transfer_errors)
{
	static const int errors[] = { EIO, ENOSPC, EAGAIN, EFAULT };
	static uint8_t data[4096];
	struct loop loop;
	struct block *b = open_on_bad_host(&loop);

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		host.transfer_error = errors[i];
		host.good = 0;
		ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, sizeof(data)), -errors[i]);
		ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, data, sizeof(data)), -errors[i]);
		host.transfer_error = 0;
		ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
		ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	}
	finish(b, &loop);
}
END_TEST

START_TEST(test_sync_errors_stick)
{
	static uint8_t data[512];
	const struct iovec iov = { data, 512 };
	struct loop loop;
	struct block *b = open_on_bad_host(&loop);
	struct io write, flush;

	host.sync_error = EIO;
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	host.sync_error = 0;
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	submit(b, &write, BLOCK_WRITE, 0, 512, &iov, 1);
	write.req.fua = true;
	submit(b, &flush, BLOCK_FLUSH, 0, 0, NULL, 0);
	block_drain(b);
	ck_assert_int_eq(write.result, 0);
	ck_assert_int_eq(flush.result, -EIO);
	host.sync_error = ENOSPC;
	submit(b, &write, BLOCK_WRITE, 0, 512, &iov, 1);
	write.req.fua = true;
	block_drain(b);
	ck_assert_int_eq(write.result, -ENOSPC);
	finish(b, &loop);
}
END_TEST

/* A batch of flushes and stable writes costs one sync; a plain write costs none; nothing is synced
 * for a failed write. */
START_TEST(test_syncs_are_grouped)
{
	enum { COUNT = 8 };
	static uint8_t data[512];
	const struct iovec iov = { data, 512 };
	struct io ios[COUNT];
	struct loop loop;
	struct block *b = open_on_bad_host(&loop);

	for (int i = 0; i < COUNT; i++) {
		submit(b, &ios[i], i % 3 == 0 ? BLOCK_FLUSH : BLOCK_WRITE,
		       i % 3 == 0 ? 0 : 1024U * (unsigned)i, i % 3 == 0 ? 0 : 512, &iov,
		       i % 3 == 0 ? 0 : 1);
		ios[i].req.fua = true;
	}
	block_drain(b);
	ck_assert_int_eq(host.syncs, 1);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, 512), 0);
	ck_assert_int_eq(host.syncs, 1);
	host.transfer_error = ENOSPC;
	submit(b, &ios[0], BLOCK_WRITE, 0, 512, &iov, 1);
	ios[0].req.fua = true;
	block_drain(b);
	ck_assert_int_eq(ios[0].result, -ENOSPC);
	ck_assert_int_eq(host.syncs, 1);
	host.interrupts = 2;
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	ck_assert_int_eq(host.syncs, 4);
	finish(b, &loop);
}
END_TEST

START_TEST(test_without_fallocate)
{
	static uint8_t data[65536], zero[65536];
	struct loop loop;
	struct block *b = open_on_bad_host(&loop);

	host.allocate_error = EOPNOTSUPP;
	pattern(data, sizeof(data), 9);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
	ck_assert_int_eq(run(b, BLOCK_DISCARD, 0, 4096, NULL, 0), 0); /* advice, not taken */
	check_file(0, data, sizeof(data));
	host.most = 1000;
	ck_assert_int_eq(run(b, BLOCK_WRITE_ZEROES, 512, 40960, NULL, 0), 0);
	check_file(0, data, 512);
	check_file(512, zero, 40960);
	check_file(41472, data + 41472, sizeof(data) - 41472);
	host.allocate_error = EIO;
	host.interrupts = 1;
	container_of(b, struct raw, block)->no_punch_hole = false;
	ck_assert_int_eq(run(b, BLOCK_DISCARD, 0, 4096, NULL, 0), -EIO);
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
	   CHECK_TABLE(test_detach_and_attach_again, engines);
	   CHECK_TEST(test_short_transfers_are_finished); CHECK_TEST(test_short_common_transfers);
	   CHECK_TABLE(test_batch_is_one_call, engines); CHECK_TABLE(test_batch_of_runs, engines);
	   CHECK_TEST(test_batch_call_misbehaves); CHECK_TEST(test_batch_errors_are_apart);
	   CHECK_TEST(test_slow_calls_get_less); CHECK_TEST(test_neighbours_share_a_call);
	   CHECK_TEST(test_transfer_errors); CHECK_TEST(test_sync_errors_stick);
	   CHECK_TEST(test_syncs_are_grouped); CHECK_TEST(test_without_fallocate);
	   CHECK_TEST(test_fault_disk))
