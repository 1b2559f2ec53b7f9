/* SPDX-License-Identifier: Apache-2.0 */
/* A disk image in a directory of its own, and requests on it that are waited for: shared by the tests of src/block. */
#ifndef TESTS_UNIT_BLOCK_RIG_H
#define TESTS_UNIT_BLOCK_RIG_H

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

static inline void make_dir(const char *parent)
{
	(void)snprintf(dir, sizeof(dir), "%s/vmm-block-XXXXXX", parent);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(disk_path, sizeof(disk_path), "%s/disk", dir);
}

static inline void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	make_dir(tmp != NULL ? tmp : "/tmp");
	(void)signal(SIGXFSZ, SIG_IGN);
}

static inline void teardown(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

static inline void make_file(const char *path, uint64_t size)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	(void)close(fd);
}

static inline uint64_t file_size(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static const int engines[] = { BLOCK_ENGINE_SYNC, BLOCK_ENGINE_URING };

/* The engine of this table row on a fresh disk of DISK_SIZE, attached to `loop`; NULL: not on this
 * host. */
static inline struct block *open_attached(int engine, struct loop *loop, void (*completed)(void *),
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

static inline void finish(struct block *b, struct loop *loop)
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

static inline void io_done(struct block_request *req, int result)
{
	struct io *io = container_of(req, struct io, req);

	io->result = result;
	io->calls++;
}

static inline void submit(struct block *b, struct io *io, enum block_op op, uint64_t offset,
			  uint64_t len, const struct iovec *iov, uint32_t count)
{
	*io = (struct io){ .req = { .op = op,
				    .offset = offset,
				    .len = len,
				    .iov = iov,
				    .iov_count = count,
				    .done = io_done } };
	block_submit(b, &io->req);
}

static inline int run(struct block *b, enum block_op op, uint64_t offset, uint64_t len,
		      const struct iovec *iov, uint32_t count)
{
	struct io io;

	submit(b, &io, op, offset, len, iov, count);
	block_drain(b);
	ck_assert_int_eq(io.calls, 1);
	return io.result;
}

static inline int run_buf(struct block *b, enum block_op op, uint64_t offset, void *buf,
			  uint64_t len)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = len };

	return run(b, op, offset, len, &iov, 1);
}

/* Bytes that are different everywhere. */
static inline void pattern(uint8_t *buf, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		buf[i] = (uint8_t)(seed >> 24);
	}
}

static inline void check_file(uint64_t offset, const uint8_t *expected, size_t len)
{
	uint8_t *got = malloc(len);
	int fd = open(disk_path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, got, len, (off_t)offset), (int)len);
	ck_assert_mem_eq(got, expected, len);
	(void)close(fd);
	free(got);
}

#endif
