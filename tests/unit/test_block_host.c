/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks on a host that misbehaves: short transfers, interrupted and failing calls, of the synchronous
 * steps and of many transfers with one call. Rows F2, F3 and T-D15 of the catalogue.
 */
#include "harness/block_rig.h"

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

CHECK_MAIN("block_host", CHECK_FIXTURE(setup, teardown);
	   CHECK_TEST(test_short_transfers_are_finished); CHECK_TEST(test_short_common_transfers);
	   CHECK_TABLE(test_batch_is_one_call, engines); CHECK_TABLE(test_batch_of_runs, engines);
	   CHECK_TEST(test_batch_call_misbehaves); CHECK_TEST(test_batch_errors_are_apart);
	   CHECK_TEST(test_slow_calls_get_less); CHECK_TEST(test_neighbours_share_a_call);
	   CHECK_TEST(test_transfer_errors); CHECK_TEST(test_sync_errors_stick);
	   CHECK_TEST(test_syncs_are_grouped); CHECK_TEST(test_without_fallocate))
