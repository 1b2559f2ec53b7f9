/* SPDX-License-Identifier: Apache-2.0 */
/* A disk of several workers: each has an open file and an engine of its own, all of them are one disk. */
#include <pthread.h>
#include <stdatomic.h>

#include "harness/block_rig.h"

static struct raw *raw_of(struct block *b)
{
	return container_of(b, struct raw, block);
}

static ino_t inode(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return st.st_ino;
}

/* Each has a file of its own, all of them are one disk, with one lock. */
START_TEST(test_several_queues)
{
	struct block_config config = {
		.path = disk_path, .engine = engines[_i], .serial = "S", .sector = 4096, .queues = 3
	};
	struct block *b = NULL, *next = NULL, *second = NULL;
	struct error e = { 0 };
	uint32_t count = 0;

	make_file(disk_path, MIB(1) + 1000);
	if (block_open(&b, &config, &e) < 0) {
		CHECK_SKIP(e.msg);
	}
	ck_assert_uint_eq(block_count(b), 3);
	for (struct block *each = b; each != NULL; each = each->more, count++) {
		ck_assert_uint_eq(each->capacity, MIB(1));
		ck_assert_uint_eq(each->tail, 1000);
		ck_assert_uint_eq(each->logical_block, 4096);
		ck_assert_str_eq(each->serial, "S");
		ck_assert_str_eq(each->ops->name, b->ops->name);
		ck_assert_int_eq(inode(raw_of(each)->fd), inode(raw_of(b)->fd));
		for (struct block *other = b; other != each; other = other->more) {
			ck_assert_int_ne(raw_of(each)->fd, raw_of(other)->fd);
		}
	}
	ck_assert_uint_eq(count, 3);
	ck_assert_int_lt(block_open(&second, &config, &e), 0);
	check_error(&e, ERROR_DISK_LOCKED, "is given twice");
	check_ok(block_open_instead(&next, &config, b, &e), &e);
	ck_assert_uint_eq(block_count(next), 3);
	block_close(b);
	ck_assert_int_lt(block_open(&second, &config, &e), 0);
	block_close(next);
	check_ok(block_open(&second, &config, &e), &e);
	block_close(second);
}
END_TEST

/* Open files of their own: where one reads and writes is no business of another, and what the host says
 * of lost data is told to each. */
START_TEST(test_several_queues_work)
{
	struct block_config config = { .path = disk_path, .engine = engines[_i], .queues = 2 };
	static uint8_t out[8192], in[8192];
	struct loop loops[2];
	struct block *b = NULL;
	struct error e = { 0 };

	make_file(disk_path, DISK_SIZE);
	if (block_open(&b, &config, &e) < 0) {
		CHECK_SKIP(e.msg);
	}
	for (int i = 0; i < 2; i++) {
		check_ok(loop_init(&loops[i], &e), &e);
		check_ok(block_attach(i == 0 ? b : b->more, &loops[i], NULL, NULL, &e), &e);
	}
	pattern(out, sizeof(out), 1);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 4096, out, sizeof(out)), 0);
	ck_assert_int_eq(run_buf(b->more, BLOCK_READ, 4096, in, sizeof(in)), 0);
	ck_assert_mem_eq(in, out, sizeof(in));
	ck_assert_int_eq(run(b->more, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	raw_of(b)->sync_failed = true;
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), -EIO);
	ck_assert_int_eq(run(b->more, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	for (int i = 0; i < 2; i++) {
		block_detach(i == 0 ? b : b->more);
	}
	block_close(b);
	loop_finish(&loops[0]);
	loop_finish(&loops[1]);
}
END_TEST

static _Atomic bool swapper_stop;

/* What the path names changes all the time. */
static void *swapper(void *arg)
{
	while (!atomic_load(&swapper_stop)) {
		ck_assert_int_eq(syscall(SYS_renameat2, AT_FDCWD, disk_path, AT_FDCWD,
					 (const char *)arg, 2 /* RENAME_EXCHANGE */),
				 0);
	}
	return NULL;
}

/* All of the chain are one file, or there is no chain. */
START_TEST(test_file_changes_while_opened)
{
	struct block_config config = {
		.path = disk_path, .engine = BLOCK_ENGINE_SYNC, .lock = BLOCK_LOCK_OFF, .queues = 4
	};
	uint64_t deadline = loop_now_ns() + 200 * UINT64_C(1000000000);
	bool opened = false, refused = false;
	struct error e = { 0 };
	pthread_t thread;
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/other", dir);
	make_file(disk_path, 4096);
	make_file(path, 8192);
	if (syscall(SYS_renameat2, AT_FDCWD, disk_path, AT_FDCWD, path, 2) != 0) {
		CHECK_SKIP("the file system cannot exchange two files");
	}
	atomic_store(&swapper_stop, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, swapper, path), 0);
	while (!(opened && refused) && loop_now_ns() < deadline) {
		struct block *b = NULL;

		if (block_open(&b, &config, &e) < 0) {
			check_error(&e, ERROR_DISK, "became another file while it was opened");
			refused = true;
			continue;
		}
		for (const struct block *each = b; each != NULL; each = each->more) {
			ck_assert_int_eq(inode(raw_of((struct block *)(uintptr_t)each)->fd),
					 inode(raw_of(b)->fd));
		}
		block_close(b);
		opened = true;
	}
	atomic_store(&swapper_stop, true);
	(void)pthread_join(thread, NULL);
	ck_assert(opened && refused);
}
END_TEST

CHECK_MAIN("block_several", CHECK_FIXTURE(setup, teardown);
	   CHECK_TABLE(test_several_queues, engines);
	   CHECK_TABLE(test_several_queues_work, engines);
	   CHECK_TEST(test_file_changes_while_opened))
