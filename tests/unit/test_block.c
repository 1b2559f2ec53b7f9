/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks: both engines on real files, the rules of block_open(), and the test disks. Fault rows F1,
 * F2, F3, F5 and image rows T-I1, T-I4 of the catalogue.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/block/raw.h"
#include "harness/check_main.h"
#include "vmm/block.h"
#include "vmm/block_test.h"

#define DISK_SIZE MIB(4)

static char dir[64];
static char disk_path[96];

static void make_dir(const char *parent)
{
	(void)snprintf(dir, sizeof(dir), "%s/vmm-block-XXXXXX", parent);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(disk_path, sizeof(disk_path), "%s/disk", dir);
}

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	make_dir(tmp != NULL ? tmp : "/tmp");
	(void)signal(SIGXFSZ, SIG_IGN);
}

static void teardown(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

static void make_file(const char *path, uint64_t size)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	(void)close(fd);
}

static uint64_t file_size(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static const int engines[] = { BLOCK_ENGINE_SYNC, BLOCK_ENGINE_URING };

/* The engine of this table row on a fresh disk of DISK_SIZE, attached to `loop`; NULL: not on this
 * host. */
static struct block *open_attached(int engine, struct loop *loop, void (*completed)(void *),
				   void *arg)
{
	struct block_config config = { .path = disk_path, .engine = engine };
	struct error e = { 0 };
	struct block *b = NULL;

	make_file(disk_path, DISK_SIZE);
	if (block_open(&b, &config, &e) < 0) {
		ck_assert_msg(engine == BLOCK_ENGINE_URING, "%s", e.msg);
		fprintf(stderr, "# SKIP io_uring: %s\n", e.msg);
		return NULL;
	}
	check_ok(loop_init(loop, &e), &e);
	check_ok(block_attach(b, loop, completed, arg, &e), &e);
	return b;
}

static void finish(struct block *b, struct loop *loop)
{
	block_detach(b);
	block_close(b);
	loop_finish(loop);
}

struct io {
	struct block_request req;
	int result;
	int calls;
};

static void io_done(struct block_request *req, int result)
{
	struct io *io = container_of(req, struct io, req);

	io->result = result;
	io->calls++;
}

static void submit(struct block *b, struct io *io, enum block_op op, uint64_t offset, uint64_t len,
		   const struct iovec *iov, uint32_t count)
{
	*io = (struct io){ .req = { .op = op,
				    .offset = offset,
				    .len = len,
				    .iov = iov,
				    .iov_count = count,
				    .done = io_done } };
	block_submit(b, &io->req);
}

static int run(struct block *b, enum block_op op, uint64_t offset, uint64_t len,
	       const struct iovec *iov, uint32_t count)
{
	struct io io;

	submit(b, &io, op, offset, len, iov, count);
	block_drain(b);
	ck_assert_int_eq(io.calls, 1);
	return io.result;
}

static int run_buf(struct block *b, enum block_op op, uint64_t offset, void *buf, uint64_t len)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = len };

	return run(b, op, offset, len, &iov, 1);
}

/* Bytes that are different everywhere. */
static void pattern(uint8_t *buf, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		buf[i] = (uint8_t)(seed >> 24);
	}
}

static void check_file(uint64_t offset, const uint8_t *expected, size_t len)
{
	uint8_t *got = malloc(len);
	int fd = open(disk_path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, got, len, (off_t)offset), (int)len);
	ck_assert_mem_eq(got, expected, len);
	(void)close(fd);
	free(got);
}

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

/* --- opening --- */

enum kind { MISSING, DIRECTORY, FIFO, SOCKET, FILE_OF, LINK_TO_NOTHING };

static const struct open_row {
	const char *name;
	enum kind kind;
	uint64_t size;
	const char *header;
	uint32_t header_at, header_len;
	enum error_code code;
	const char *text, *hint;
} open_rows[] = {
	{ "missing", MISSING, 0, NULL, 0, 0, ERROR_DISK, "No such file", "truncate -s" },
	{ "dangling link", LINK_TO_NOTHING, 0, NULL, 0, 0, ERROR_DISK, "No such file",
	  "truncate -s" },
	{ "directory", DIRECTORY, 0, NULL, 0, 0, ERROR_DISK, "is a directory", "block device" },
	{ "fifo", FIFO, 0, NULL, 0, 0, ERROR_DISK, "is a named pipe", "block device" },
	{ "socket", SOCKET, 0, NULL, 0, 0, ERROR_DISK, "is a socket", "block device" },
	{ "empty", FILE_OF, 0, NULL, 0, 0, ERROR_DISK, "is empty", "truncate -s" },
	{ "odd size", FILE_OF, 1000, NULL, 0, 0, ERROR_DISK, "1000 bytes", "truncate -s %512" },
	{ "qcow2", FILE_OF, 4096, "QFI\xfb", 0, 4, ERROR_DISK, "looks like qcow2",
	  "qemu-img convert -f qcow2" },
	{ "vhdx", FILE_OF, 4096, "vhdxfile", 0, 8, ERROR_DISK, "looks like vhdx", "-O raw" },
	{ "vmdk", FILE_OF, 4096, "KDMV", 0, 4, ERROR_DISK, "looks like vmdk", "-O raw" },
	{ "vmdk text", FILE_OF, 512, "# Disk DescriptorFile\n", 0, 22, ERROR_DISK,
	  "looks like vmdk", "-O raw" },
	{ "vdi", FILE_OF, 4096, "\x7f\x10\xda\xbe", 0x40, 4, ERROR_DISK, "looks like vdi",
	  "format=raw" },
};

static void make_kind(const struct open_row *row)
{
	int fd;

	switch (row->kind) {
	case MISSING:
		break;
	case LINK_TO_NOTHING:
		ck_assert_int_eq(symlink("nothing", disk_path), 0);
		break;
	case DIRECTORY:
		ck_assert_int_eq(mkdir(disk_path, 0700), 0);
		break;
	case FIFO:
		ck_assert_int_eq(mkfifo(disk_path, 0600), 0);
		break;
	case SOCKET: {
		struct sockaddr_un addr = { .sun_family = AF_UNIX };

		(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", disk_path);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
		(void)close(fd);
		break;
	}
	case FILE_OF:
		make_file(disk_path, row->size);
		if (row->header != NULL) {
			fd = open(disk_path, O_WRONLY);
			ck_assert_int_eq(pwrite(fd, row->header, row->header_len, row->header_at),
					 (int)row->header_len);
			(void)close(fd);
		}
		break;
	}
}

START_TEST(test_open_refuses)
{
	const struct open_row *row = &open_rows[_i];

	make_kind(row);
	for (int ro = 0; ro < 2; ro++) {
		struct block_config config = { .path = disk_path, .read_only = ro != 0 };
		struct error e = { 0 };
		struct block *b = NULL;

		ck_assert_int_lt(block_open(&b, &config, &e), 0);
		ck_assert_ptr_null(b);
		check_error(&e, row->code, row->text);
		check_error(&e, row->code, row->hint);
		check_error(&e, row->code, disk_path);
	}
}
END_TEST

START_TEST(test_open_refuses_character_device)
{
	struct block_config config = { .path = "/dev/null" };
	struct error e = { 0 };
	struct block *b = NULL;

	ck_assert_int_lt(block_open(&b, &config, &e), 0);
	check_error(&e, ERROR_DISK, "character device");
	config.path = "";
	ck_assert_int_lt(block_open(&b, &config, &e), 0);
	check_error(&e, ERROR_CONFIG, "path");
	config.path = NULL;
	ck_assert_int_lt(block_open(&b, &config, &e), 0);
}
END_TEST

START_TEST(test_open_says_that_ro_would_work)
{
	struct block_config config = { .path = disk_path };
	struct error e = { 0 };
	struct block *b = NULL;

	make_file(disk_path, 4096);
	ck_assert_int_eq(chmod(disk_path, 0444), 0);
	ck_assert_int_eq(chmod(dir, 0755), 0);
	if (getuid() == 0 && seteuid(65534) != 0) {
		CHECK_SKIP("cannot become another user");
	}
	ck_assert_int_lt(block_open(&b, &config, &e), 0);
	check_error(&e, ERROR_DISK, "Permission denied");
	check_error(&e, ERROR_DISK, ",ro");
	config.read_only = true;
	check_ok(block_open(&b, &config, &e), &e);
	block_close(b);
	if (getuid() == 0) {
		ck_assert_int_eq(seteuid(0), 0);
	}
}
END_TEST

/* T-I1, T-I4: the header is looked at only to refuse; the user may insist; opening changes nothing.
 */
START_TEST(test_raw_by_insistence)
{
	struct block_config config = { .path = disk_path, .format = BLOCK_FORMAT_RAW };
	uint8_t data[4096] = "QFI\xfb";
	struct error e = { 0 };
	struct block *b = NULL;
	struct stat before, after;
	struct loop loop;

	make_file(disk_path, 8192);
	check_ok(block_open(&b, &config, &e), &e);
	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
	finish(b, &loop);
	ck_assert_int_eq(stat(disk_path, &before), 0);
	check_ok(block_open(&b, &config, &e), &e);
	ck_assert_uint_eq(b->capacity, 8192);
	block_close(b);
	config.format = BLOCK_FORMAT_AUTO;
	ck_assert_int_lt(block_open(&b, &config, &e), 0);
	ck_assert_int_eq(stat(disk_path, &after), 0);
	ck_assert_int_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	ck_assert_int_eq(before.st_blocks, after.st_blocks);
}
END_TEST

START_TEST(test_read_only_disk)
{
	struct block_config config = { .path = disk_path,
				       .read_only = true,
				       .engine = engines[_i] };
	static uint8_t data[512];
	struct error e = { 0 };
	struct block *b = NULL;
	struct loop loop;

	make_file(disk_path, 4096);
	if (block_open(&b, &config, &e) < 0) {
		CHECK_SKIP(e.msg);
	}
	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
	ck_assert(b->read_only && !b->can_discard && !b->can_write_zeroes);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, data, 512), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, 512), -EROFS);
	ck_assert_int_eq(run(b, BLOCK_DISCARD, 0, 512, NULL, 0), -EROFS);
	ck_assert_int_eq(run(b, BLOCK_WRITE_ZEROES, 0, 512, NULL, 0), -EROFS);
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	finish(b, &loop);
}
END_TEST

START_TEST(test_serial)
{
	struct block_config config = { .path = disk_path, .serial = "12345678901234567890" };
	struct error e = { 0 };
	struct block *b = NULL;

	make_file(disk_path, 4096);
	check_ok(block_open(&b, &config, &e), &e);
	ck_assert_mem_eq(b->serial, "12345678901234567890", 20);
	block_close(b);
	config.serial = "abc";
	check_ok(block_open(&b, &config, &e), &e);
	ck_assert_mem_eq(b->serial, "abc\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	block_close(b);
	config.serial = "123456789012345678901";
	ck_assert_int_lt(block_open(&b, &config, &e), 0);
	check_error(&e, ERROR_CONFIG, "21 characters");
	config.serial = "a\nb";
	ck_assert_int_lt(block_open(&b, &config, &e), 0);
	check_error(&e, ERROR_CONFIG, "printable");
}
END_TEST

/* --- F22, F12: the lock --- */

START_TEST(test_lock_rules)
{
	static const struct {
		bool first_ro, second_ro, ok;
	} rows[] = { { false, false, false },
		     { false, true, false },
		     { true, false, false },
		     { true, true, true } };
	struct error e = { 0 };

	make_file(disk_path, 4096);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct block_config config = { .path = disk_path, .read_only = rows[i].first_ro };
		struct block *first = NULL, *second = NULL;

		check_ok(block_open(&first, &config, &e), &e);
		config.read_only = rows[i].second_ro;
		if (rows[i].ok) {
			check_ok(block_open(&second, &config, &e), &e);
			block_close(second);
		} else {
			ck_assert_int_lt(block_open(&second, &config, &e), 0);
			check_error(&e, ERROR_DISK_LOCKED, "given twice");
			config.lock = BLOCK_LOCK_OFF;
			check_ok(block_open(&second, &config, &e), &e);
			block_close(second);
			config.lock = BLOCK_LOCK_ON;
		}
		block_close(first);
		check_ok(block_open(&second, &config, &e), &e); /* free again */
		block_close(second);
	}
}
END_TEST

START_TEST(test_lock_names_the_holder)
{
	struct block_config config = { .path = disk_path };
	struct error e = { 0 };
	struct block *b = NULL;
	int ready[2], go[2], status;
	char text[32], c;
	pid_t child;

	make_file(disk_path, 4096);
	ck_assert_int_eq(pipe(ready), 0);
	ck_assert_int_eq(pipe(go), 0);
	child = fork();
	if (child == 0) {
		bool held = block_open(&b, &config, &e) == 0;

		(void)!write(ready[1], held ? "y" : "n", 1);
		(void)close(go[1]);
		(void)!read(go[0], &c, 1);
		_exit(0);
	}
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	ck_assert_int_eq(c, 'y');
	ck_assert_int_lt(block_open(&b, &config, &e), 0);
	(void)snprintf(text, sizeof(text), "process %d", (int)child);
	check_error(&e, ERROR_DISK_LOCKED, text);
	check_error(&e, ERROR_DISK_LOCKED, disk_path);
	check_error(&e, ERROR_DISK_LOCKED, ",ro");
	(void)close(go[1]);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	check_ok(block_open(&b, &config, &e), &e); /* it died with its holder */
	block_close(b);
}
END_TEST

START_TEST(test_close_on_exec)
{
	struct block_config config = { .path = disk_path, .engine = engines[_i] };
	struct error e = { 0 };
	struct block *b = NULL;

	make_file(disk_path, 4096);
	if (block_open(&b, &config, &e) < 0) {
		CHECK_SKIP(e.msg);
	}
	for (int fd = 3; fd < 64; fd++) {
		char link[64], target[256] = "";

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (readlink(link, target, sizeof(target) - 1) > 0 &&
		    (strcmp(target, disk_path) == 0 || strstr(target, "io_uring") != NULL)) {
			ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
			ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
		}
	}
	block_close(b);
}
END_TEST

START_TEST(test_block_device)
{
	struct block_config config = { .engine = engines[_i] };
	char command[256], device[64] = "";
	static uint8_t data[4096], back[4096], zero[4096];
	struct error e = { 0 };
	struct block *b = NULL;
	struct loop loop;
	FILE *losetup;

	make_file(disk_path, DISK_SIZE);
	(void)snprintf(command, sizeof(command), "losetup --find --show '%s' 2>/dev/null",
		       disk_path);
	losetup = popen(command, "r");
	if (losetup == NULL || fgets(device, sizeof(device), losetup) == NULL) {
		(void)pclose(losetup);
		CHECK_SKIP("no loop devices");
	}
	(void)pclose(losetup);
	device[strcspn(device, "\n")] = '\0';
	config.path = device;
	if (block_open(&b, &config, &e) == 0) {
		check_ok(loop_init(&loop, &e), &e);
		check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
		ck_assert_uint_eq(b->capacity, DISK_SIZE);
		ck_assert_uint_ge(b->logical_block, 512);
		pattern(data, sizeof(data), 11);
		ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 4096, data, sizeof(data)), 0);
		ck_assert_int_eq(run_buf(b, BLOCK_READ, 4096, back, sizeof(back)), 0);
		ck_assert_mem_eq(data, back, sizeof(back));
		ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
		ck_assert_int_eq(run(b, BLOCK_DISCARD, 8192, 4096, NULL, 0), 0);
		ck_assert_int_eq(run(b, BLOCK_WRITE_ZEROES, 4096, 4096, NULL, 0), 0);
		ck_assert_int_eq(run_buf(b, BLOCK_READ, 4096, back, sizeof(back)), 0);
		ck_assert_mem_eq(zero, back, sizeof(back));
		finish(b, &loop);
	}
	(void)snprintf(command, sizeof(command), "losetup -d %s", device);
	ck_assert_int_eq(system(command), 0);
	ck_assert_msg(e.code == ERROR_NONE, "%s", e.msg);
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
	   CHECK_TABLE(test_open_refuses, open_rows);
	   CHECK_TEST(test_open_refuses_character_device);
	   CHECK_TEST(test_open_says_that_ro_would_work); CHECK_TEST(test_raw_by_insistence);
	   CHECK_TABLE(test_read_only_disk, engines); CHECK_TEST(test_serial);
	   CHECK_TEST(test_lock_rules); CHECK_TEST(test_lock_names_the_holder);
	   CHECK_TABLE(test_close_on_exec, engines); CHECK_TABLE(test_block_device, engines);
	   CHECK_TEST(test_fault_disk))
