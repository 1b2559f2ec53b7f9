/* SPDX-License-Identifier: Apache-2.0 */
/* A disk's file copied: content, holes, what is left behind after a failure, and overlays of disks that are in use. */
#include <linux/fs.h>
#include <stdarg.h>

#include "harness/cow_rig.h"
#include "vmm/disk_copy.h"

/* --- a kernel with and without reflinks and copy_file_range ------------------------------------- */

static struct {
	int range_error, clone_error;
	bool clones; /* by copying */
	int ranges, clone_calls;
	size_t most; /* bytes of one call */
} host;

ssize_t __real_copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len,
			       unsigned int flags);
ssize_t __wrap_copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len,
			       unsigned int flags);
int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

ssize_t __wrap_copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len,
			       unsigned int flags)
{
	host.ranges++;
	if (host.range_error != 0) {
		errno = host.range_error;
		return -1;
	}
	len = host.most != 0 ? MIN(len, host.most) : len;
	return __real_copy_file_range(in, in_at, out, out_at, len, flags);
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	long argument;

	va_start(args, request);
	argument = va_arg(args, long);
	va_end(args);
	if (request == FICLONE && (host.clones || host.clone_error != 0)) {
		static uint8_t bytes[MIB(4)];
		ssize_t n;

		host.clone_calls++;
		if (host.clone_error != 0) {
			errno = host.clone_error;
			return -1;
		}
		n = pread((int)argument, bytes, sizeof(bytes), 0);
		ck_assert_int_eq(pwrite(fd, bytes, (size_t)n, 0), n);
		return 0;
	}
	return __real_ioctl(fd, request, argument);
}

static char copy_path[96];

static void copy_setup(void)
{
	make_base();
	(void)snprintf(copy_path, sizeof(copy_path), "%s/copy", dir);
	memset(&host, 0, sizeof(host));
	host.clone_error = EOPNOTSUPP;
}

static int copy_file(const char *from, enum disk_copy_way way, bool *shared, struct error *e)
{
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	const struct disk_copy copy = { .from = fd,
					.path = from,
					.folder = AT_FDCWD,
					.name = copy_path,
					.way = way,
					.sync = true };
	int r;

	ck_assert_int_ge(fd, 0);
	r = disk_copy(&copy, shared, e);
	(void)close(fd);
	return r;
}

/* Data, zeroes that are data, holes; it ends within a page, in a hole or not. */
static void make_source(uint64_t size)
{
	static uint8_t bytes[65536];
	int fd;

	make_file(disk_path, size);
	fd = open(disk_path, O_WRONLY | O_CLOEXEC);
	pattern(bytes, sizeof(bytes), 1);
	for (uint64_t at = 0; at + 131072 < size; at += 262144) {
		ck_assert_int_eq(pwrite(fd, bytes, sizeof(bytes), (off_t)at), sizeof(bytes));
	}
	memset(bytes, 0, sizeof(bytes));
	if (size > 200000) {
		ck_assert_int_eq(pwrite(fd, bytes, 65536, 131072), 65536);
	}
	if (size % 2 != 0) {
		ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)size - 1), 1);
	}
	(void)close(fd);
}

static void same_content(const char *a, const char *b)
{
	char command[256];

	(void)snprintf(command, sizeof(command), "cmp '%s' '%s'", a, b);
	ck_assert_int_eq(system(command), 0);
}

static void same_holes(const char *a, const char *b)
{
	int fds[2] = { open(a, O_RDONLY | O_CLOEXEC), open(b, O_RDONLY | O_CLOEXEC) };
	off_t at[2] = { 0, 0 };

	for (int whence = SEEK_DATA; at[0] >= 0; whence = SEEK_DATA + SEEK_HOLE - whence) {
		at[0] = lseek(fds[0], at[0], whence);
		at[1] = lseek(fds[1], at[1], whence);
		ck_assert_int_eq(at[0], at[1]);
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static const uint64_t copy_sizes[] = { 0, 1, 512, 4096, 100001, MIB(1), MIB(20) + 513 };

static const struct way_row {
	int range_error;
	size_t most;
} way_rows[] = { { 0, 0 },	{ 0, 70001 },	   { EXDEV, 0 },
		 { ENOSYS, 0 }, { EOPNOTSUPP, 0 }, { EINVAL, 0 } };

START_TEST(test_content_and_holes)
{
	struct error e = { 0 };
	bool shared = true;

	host.range_error = way_rows[_i].range_error;
	host.most = way_rows[_i].most;
	for (size_t i = 0; i < ARRAY_SIZE(copy_sizes); i++) {
		make_source(copy_sizes[i]);
		check_ok(copy_file(disk_path, DISK_COPY_ANY, &shared, &e), &e);
		ck_assert(!shared);
		ck_assert_uint_eq(file_size(copy_path), copy_sizes[i]);
		same_content(disk_path, copy_path);
		same_holes(disk_path, copy_path);
		ck_assert_int_eq(unlink(copy_path), 0);
	}
	ck_assert_int_gt(host.ranges, 0);
}
END_TEST

START_TEST(test_reflink)
{
	struct error e = { 0 };
	bool shared = false;

	make_source(100001);
	ck_assert_int_lt(copy_file(disk_path, DISK_COPY_REFLINK, &shared, &e), 0);
	check_error(&e, ERROR_NOT_SUPPORTED, "cannot share its content");
	check_error(&e, ERROR_NOT_SUPPORTED, "btrfs");
	ck_assert_int_ne(access(copy_path, F_OK), 0);
	host.clone_error = 0;
	host.clones = true;
	check_ok(copy_file(disk_path, DISK_COPY_REFLINK, &shared, &e), &e);
	ck_assert(shared);
	same_content(disk_path, copy_path);
	ck_assert_int_eq(unlink(copy_path), 0);
	check_ok(copy_file(disk_path, DISK_COPY_ANY, &shared, &e), &e);
	ck_assert(shared);
	ck_assert_int_eq(host.ranges, 0);
	ck_assert_int_eq(unlink(copy_path), 0);
	host.clone_calls = 0;
	check_ok(copy_file(disk_path, DISK_COPY_BYTES, &shared, &e), &e);
	ck_assert(!shared);
	ck_assert_int_eq(host.clone_calls, 0);
}
END_TEST

/* --- failures ----------------------------------------------------------------------------------- */

START_TEST(test_nothing_is_left)
{
	static const int errors[] = { ENOSPC, EIO };
	struct rlimit old, small = { .rlim_cur = MIB(1) };
	struct error e = { 0 };

	make_source(MIB(4));
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		host.range_error = errors[i];
		ck_assert_int_lt(copy_file(disk_path, DISK_COPY_ANY, NULL, &e), 0);
		check_error(&e, ERROR_DISK, strerror(errors[i]));
		check_error(&e, ERROR_DISK, copy_path);
		check_error(&e, ERROR_DISK, disk_path);
		ck_assert_int_ne(access(copy_path, F_OK), 0);
	}
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 2; i++) {
		host.range_error = i == 0 ? 0 : EXDEV;
		ck_assert_int_lt(copy_file(disk_path, DISK_COPY_ANY, NULL, &e), 0);
		check_error(&e, ERROR_DISK, "File too large");
		ck_assert_int_ne(access(copy_path, F_OK), 0);
	}
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
}
END_TEST

START_TEST(test_what_is_there_stays)
{
	struct error e = { 0 };

	make_source(4096);
	make_file(copy_path, 77);
	ck_assert_int_lt(copy_file(disk_path, DISK_COPY_ANY, NULL, &e), 0);
	check_error(&e, ERROR_DISK, "File exists");
	ck_assert_uint_eq(file_size(copy_path), 77);
	ck_assert_int_eq(unlink(copy_path), 0);
	ck_assert_int_eq(symlink("elsewhere", copy_path), 0);
	ck_assert_int_lt(copy_file(disk_path, DISK_COPY_ANY, NULL, &e), 0);
	check_error(&e, ERROR_DISK, "File exists");
	(void)snprintf(copy_path, sizeof(copy_path), "%s/none/copy", dir);
	ck_assert_int_lt(copy_file(disk_path, DISK_COPY_ANY, NULL, &e), 0);
	check_error(&e, ERROR_DISK, "No such file");
}
END_TEST

/* The source ends sooner than it said. */
static bool cut(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)total;
	if (done != 0) {
		ck_assert_int_eq(truncate(disk_path, 4096), 0);
	}
	return true;
}

struct progress {
	int calls, stop;
	uint64_t last, total;
};

static bool watch(void *arg, uint64_t done, uint64_t total)
{
	struct progress *progress = arg;

	ck_assert_uint_ge(done, progress->last);
	ck_assert_uint_le(done, total);
	progress->last = done;
	progress->total = total;
	return ++progress->calls != progress->stop;
}

START_TEST(test_progress_and_cancel)
{
	struct disk_copy copy = { .path = disk_path, .folder = AT_FDCWD, .name = copy_path };
	struct progress progress = { 0 };
	struct error e = { 0 };
	int calls;

	make_source(MIB(20) + 513);
	copy.from = open(disk_path, O_RDONLY | O_CLOEXEC);
	copy.go_on = watch;
	copy.arg = &progress;
	host.most = 32768;
	check_ok(disk_copy(&copy, NULL, &e), &e);
	calls = progress.calls;
	ck_assert_int_gt(calls, 100);
	ck_assert_uint_gt(progress.last, MIB(5));
	ck_assert_int_eq(unlink(copy_path), 0);
	for (int stop = 1; stop <= calls;
	     stop += stop < 5 || stop == calls - 1 ? 1 : (calls - 1 - stop) / 2 + 1) {
		progress = (struct progress){ .stop = stop };
		ck_assert_int_eq(disk_copy(&copy, NULL, &e), -ECANCELED);
		check_error(&e, ERROR_CANCELLED, "cancelled");
		ck_assert_int_ne(access(copy_path, F_OK), 0);
	}
	copy.go_on = cut;
	ck_assert_int_lt(disk_copy(&copy, NULL, &e), 0);
	check_error(&e, ERROR_DISK, "it ends at byte");
	ck_assert_int_ne(access(copy_path, F_OK), 0);
	(void)close(copy.from);
}
END_TEST

/* --- overlays ----------------------------------------------------------------------------------- */

static void write_pattern(struct block *b, uint64_t offset, uint64_t len, uint32_t seed)
{
	static uint8_t data[65536];

	pattern(data, len, seed);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, offset, data, len), 0);
}

static void check_pattern(struct block *b, uint64_t offset, uint64_t len, uint32_t seed)
{
	static uint8_t data[65536], back[65536];

	pattern(data, len, seed);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, offset, back, len), 0);
	ck_assert_mem_eq(back, data, len);
}

static void check_base(struct block *b, uint64_t offset, uint64_t len)
{
	static uint8_t back[65536];

	ck_assert_int_eq(run_buf(b, BLOCK_READ, offset, back, len), 0);
	ck_assert_mem_eq(back, base_bytes + offset, len);
}

/* A child of a disk that stays open, and a child of that: each goes its own way. */
START_TEST(test_overlay_in_use)
{
	static uint8_t zero[8192];
	struct block *disks[3];
	struct loop loops[3];
	struct error e = { 0 };

	for (uint32_t i = 0; i < 3; i++) {
		disks[i] = open_cow_attached(engines[_i], &loops[i]);
		if (disks[i] == NULL) {
			return;
		}
		/* Data, zeroes that are data, zeroes that are a hole. */
		write_pattern(disks[i], i * 131072ULL, 4096, 10 + i);
		write_pattern(disks[i], 700 * 1024, 512, i);
		ck_assert_int_eq(run_buf(disks[i], BLOCK_WRITE, 65536 + i * 8192ULL, zero, 8192),
				 0);
		ck_assert_int_eq(
			run(disks[i], BLOCK_WRITE_ZEROES, 524288 + i * 8192ULL, 8192, NULL, 0), 0);
		(void)snprintf(copy_path, sizeof(copy_path), "%s/child%u", dir, i);
		check_ok(copy_file(overlay_path, DISK_COPY_ANY, NULL, &e), &e);
		(void)snprintf(overlay_path, sizeof(overlay_path), "%s", copy_path);
	}
	for (uint32_t i = 0; i < 3; i++) {
		for (uint32_t k = 0; k < 3; k++) {
			if (k <= i) {
				check_pattern(disks[i], k * 131072ULL, 4096, 10 + k);
				ck_assert_int_eq(run_buf(disks[i], BLOCK_READ, 65536 + k * 8192ULL,
							 zero, 8192),
						 0);
				for (size_t n = 0; n < sizeof(zero); n++) {
					ck_assert_uint_eq(zero[n], 0);
				}
			} else {
				check_base(disks[i], k * 131072ULL, 4096);
				check_base(disks[i], 65536 + k * 8192ULL, 8192);
				check_base(disks[i], 524288 + k * 8192ULL, 8192);
			}
		}
		check_pattern(disks[i], 700 * 1024, 512, i);
	}
	for (uint32_t i = 0; i < 3; i++) {
		finish(disks[i], &loops[i]);
	}
	base_is_untouched();
}
END_TEST

static struct disk_witness take(const struct block *b, const struct disk_witness *like)
{
	struct disk_witness witness = { 0 };
	struct block_files files;
	struct error e = { 0 };

	block_get_files(b, &files);
	ck_assert_int_ge(files.base, 0);
	ck_assert_uint_eq(files.base_size, sizeof(base_bytes));
	check_ok(disk_witness_take(&witness, files.fd, files.size, overlay_path, like, &e), &e);
	return witness;
}

/* Closing changes an overlay's account, and nothing that its witness knows; a write does. */
START_TEST(test_witness_of_an_overlay)
{
	struct disk_witness then, now;
	struct error e = { 0 };
	struct loop loop;
	struct block *b = open_cow_attached(BLOCK_ENGINE_SYNC, &loop);

	write_pattern(b, 0, 65536, 3);
	then = take(b, NULL);
	finish(b, &loop);
	b = open_cow_attached(BLOCK_ENGINE_SYNC, &loop);
	ck_assert(cow_of(b)->disk->clean);
	now = take(b, &then);
	check_ok(disk_witness_compare(&then, &now, overlay_path, &e), &e);
	write_pattern(b, 0, 512, 4);
	now = take(b, &then);
	ck_assert_int_lt(disk_witness_compare(&then, &now, overlay_path, &e), 0);
	check_error(&e, ERROR_DISK, "is not what it was");
	finish(b, &loop);
}
END_TEST

START_TEST(test_files_of_other_disks)
{
	struct block_config config = { .path = base_path };
	struct block_memory *memory = NULL;
	struct block_files files;
	struct block *b = NULL;
	struct error e = { 0 };

	check_ok(block_open(&b, &config, &e), &e);
	block_get_files(b, &files);
	ck_assert_int_eq(files.fd, cow_raw(b)->fd);
	ck_assert_uint_eq(files.size, sizeof(base_bytes));
	ck_assert_int_eq(files.base, -1);
	block_close(b);
	check_ok(block_memory_create(&memory, 4096, &e), &e);
	block_get_files(&memory->block, &files);
	ck_assert_int_eq(files.fd, -1);
	block_close(&memory->block);
}
END_TEST

CHECK_MAIN("disk_copy", CHECK_FIXTURE(copy_setup, teardown);
	   CHECK_TABLE(test_content_and_holes, way_rows); CHECK_TEST(test_reflink);
	   CHECK_TEST(test_nothing_is_left); CHECK_TEST(test_what_is_there_stays);
	   CHECK_TEST(test_progress_and_cancel); CHECK_TABLE(test_overlay_in_use, engines);
	   CHECK_TEST(test_witness_of_an_overlay); CHECK_TEST(test_files_of_other_disks))
