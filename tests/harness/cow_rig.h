/* SPDX-License-Identifier: Apache-2.0 */
/* A disk with an overlay over a base of fixed content, in a directory of its own: shared by the tests of src/block/cow*.c. */
#ifndef TESTS_UNIT_COW_RIG_H
#define TESTS_UNIT_COW_RIG_H

#include "../../src/block/cow_requests.h"
#include "harness/block_rig.h"

/* Sectors of the base, and bytes that fill none: the last block is not a whole one. */
#define SECTORS (2048 + 3)
#define TAIL	100

static char base_path[96], overlay_path[96];
static uint8_t base_bytes[SECTORS * BLOCK_SECTOR + TAIL];

static inline void make_base(void)
{
	int fd;

	setup();
	(void)snprintf(base_path, sizeof(base_path), "%s/base", dir);
	(void)snprintf(overlay_path, sizeof(overlay_path), "%s/overlay", dir);
	pattern(base_bytes, sizeof(base_bytes), 7);
	make_file(base_path, 0);
	fd = open(base_path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(write(fd, base_bytes, sizeof(base_bytes)), (ssize_t)sizeof(base_bytes));
	(void)close(fd);
}

static inline struct block_config cow_config(int engine, uint32_t queues)
{
	return (struct block_config){
		.path = base_path, .overlay = overlay_path, .engine = engine, .queues = queues
	};
}

/* An overlay with blocks of another size than the file system would have. */
static inline void craft_overlay(uint32_t block_size)
{
	struct cow_header header = { .block_size = block_size };
	uint64_t data = ALIGN_UP((uint64_t)sizeof(base_bytes), (uint64_t)block_size);
	uint64_t words = (data / block_size + COW_PER_WORD - 1) / COW_PER_WORD;
	uint64_t mark = ALIGN_UP(data + words * 8, (uint64_t)COW_PAGE);
	struct error e = { 0 };
	uint8_t page[COW_PAGE];
	int fd = open(base_path, O_RDONLY | O_CLOEXEC);

	check_ok(disk_witness_take(&header.base, fd, sizeof(base_bytes), base_path, NULL, &e), &e);
	(void)close(fd);
	(void)snprintf(header.path, sizeof(header.path), "%s", base_path);
	cow_header_encode(&header, page);
	fd = open(overlay_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_eq(pwrite(fd, page, sizeof(page), (off_t)(mark + COW_PAGE)), COW_PAGE);
	(void)close(fd);
}

/* NULL: not on this host. */
static inline struct block *open_cow(int engine, uint32_t queues)
{
	struct block_config config = cow_config(engine, queues);
	struct error e = { 0 };
	struct block *b = NULL;

	if (block_open(&b, &config, &e) < 0) {
		ck_assert_msg(engine == BLOCK_ENGINE_URING && strstr(e.msg, "io_uring") != NULL,
			      "%s", e.msg);
		fprintf(stderr, "# SKIP io_uring: %s\n", e.msg);
	}
	return b;
}

static inline struct block *open_cow_attached(int engine, struct loop *loop)
{
	struct block *b = open_cow(engine, 1);
	struct error e = { 0 };

	if (b != NULL) {
		check_ok(loop_init(loop, &e), &e);
		check_ok(block_attach(b, loop, NULL, NULL, &e), &e);
	}
	return b;
}

static inline void base_is_untouched(void)
{
	static uint8_t now[sizeof(base_bytes) + 1];
	int fd = open(base_path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(read(fd, now, sizeof(now)), (ssize_t)sizeof(base_bytes));
	ck_assert_mem_eq(now, base_bytes, sizeof(base_bytes));
	(void)close(fd);
}

static inline uint64_t data_blocks(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return (uint64_t)st.st_blocks;
}

/* Holes stay holes, and zeroes zeroes. */
static inline void copy_sparse(const char *from, const char *to)
{
	uint64_t size = file_size(from);
	int in = open(from, O_RDONLY | O_CLOEXEC), out;
	off_t data = 0, hole;

	make_file(to, size);
	out = open(to, O_WRONLY | O_CLOEXEC);
	while ((data = lseek(in, data, SEEK_DATA)) >= 0) {
		hole = lseek(in, data, SEEK_HOLE);
		for (; data < hole; data += 4096) {
			uint8_t page[4096];

			ck_assert_int_eq(pread(in, page, sizeof(page), data), sizeof(page));
			ck_assert_int_eq(pwrite(out, page, sizeof(page), data), sizeof(page));
		}
	}
	(void)close(in);
	(void)close(out);
}

/* A series of numbers that is the same each time. */
static inline uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

#endif
