/* SPDX-License-Identifier: Apache-2.0 */
/* Opening disks: what is refused and with which words, serial numbers, locks (catalogue: F12, F22, T-I1). */
#include "harness/block_rig.h"

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
	struct block_config config = { .path = "/dev/ptmx" };
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

/* What does not fill a sector is out of reach, and stays as it is. */
static const struct size_row {
	uint64_t size, capacity;
	uint32_t tail;
} sizes[] = { { 0, 0, 0 }, { 1, 0, 1 }, { 511, 0, 511 }, { 512, 512, 0 }, { 1000, 512, 488 } };

START_TEST(test_size)
{
	const struct size_row *row = &sizes[_i / 2];
	struct block_config config = { .path = disk_path, .engine = engines[_i % 2] };
	static uint8_t data[512];
	struct error e = { 0 };
	struct block *b = NULL;
	struct loop loop;
	int result = row->capacity != 0 ? 0 : -ERANGE;

	make_file(disk_path, row->size);
	if (block_open(&b, &config, &e) < 0) {
		CHECK_SKIP(e.msg);
	}
	ck_assert_uint_eq(b->capacity, row->capacity);
	ck_assert_uint_eq(b->tail, row->tail);
	ck_assert(!b->is_null);
	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, 512), result);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, data, 512), result);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, row->capacity, data, 512), -ERANGE);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, row->capacity, data, 512), -ERANGE);
	ck_assert_int_eq(run(b, BLOCK_DISCARD, row->capacity, 512, NULL, 0), -ERANGE);
	ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	finish(b, &loop);
	ck_assert_uint_eq(file_size(disk_path), row->size);
}
END_TEST

/* As the guest is to see it; what does not fill one is out of reach. */
static const struct sector_row {
	int sector;
	uint32_t block, tail;
} sectors[] = { { 0, 512, 488 }, { 512, 512, 488 }, { 4096, 4096, 1000 } };

START_TEST(test_sector_of_a_file)
{
	const struct sector_row *row = &sectors[_i];
	struct block_config config = { .path = disk_path, .sector = row->sector };
	struct block *b = NULL, *next = NULL;
	struct error e = { 0 };

	make_file(disk_path, MIB(1) + 1000);
	check_ok(block_open(&b, &config, &e), &e);
	ck_assert_uint_eq(b->logical_block, row->block);
	ck_assert_uint_eq(b->physical_block, 4096);
	ck_assert_uint_eq(b->capacity % row->block, 0);
	ck_assert_uint_eq(b->capacity + b->tail, MIB(1) + 1000);
	ck_assert_uint_eq(b->tail, row->tail);
	/* A guest cannot be told anew. */
	config.sector = row->sector == 4096 ? 512 : 4096;
	check_ok(block_open_instead(&next, &config, b, &e), &e);
	ck_assert_uint_eq(next->logical_block, row->block);
	block_close(b);
	block_close(next);
}
END_TEST

static const struct table_row {
	int sector;
	off_t at, also;
	uint32_t warned;
} tables[] = { { 0, 512, 0, 0 },      { 0, 4096, 0, 4096 },  { 512, 4096, 0, 4096 },
	       { 4096, 4096, 0, 0 },  { 4096, 512, 0, 512 }, { 4096, 512, 4096, 0 },
	       { 512, 512, 4096, 0 }, { 512, 1024, 0, 0 } };

START_TEST(test_table_of_another_sector)
{
	const struct table_row *row = &tables[_i];
	struct error e = { 0 };
	int fd;

	make_file(disk_path, MIB(1));
	fd = open(disk_path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(pwrite(fd, "EFI PART", 8, row->at), 8);
	if (row->also != 0) {
		ck_assert_int_eq(pwrite(fd, "EFI PART", 8, row->also), 8);
	}
	(void)close(fd);
	for (int format = 0; format < 2; format++) {
		struct block_config config = { .path = disk_path,
					       .sector = row->sector,
					       .format = format == 0 ? BLOCK_FORMAT_AUTO
								     : BLOCK_FORMAT_RAW };
		struct block *b = NULL;

		check_ok(block_open(&b, &config, &e), &e);
		ck_assert_uint_eq(b->table_block, row->warned);
		block_close(b);
	}
}
END_TEST

/* Any number of them, with no lock between them, whichever engine was asked for. */
START_TEST(test_null)
{
	static const char *const paths[] = { "/dev/null", "/dev/zero" };
	struct block_config config = { .path = paths[_i], .engine = BLOCK_ENGINE_URING };
	struct block *first = NULL, *second = NULL;
	struct error e = { 0 };
	uint8_t data[512];
	struct loop loop;

	check_ok(block_open(&first, &config, &e), &e);
	check_ok(block_open(&second, &config, &e), &e);
	block_close(second);
	check_ok(block_open_instead(&second, &config, first, &e), &e);
	block_close(first);
	ck_assert(second->is_null && second->capacity == 0 && second->tail == 0);
	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(second, &loop, NULL, NULL, &e), &e);
	ck_assert_int_eq(run_buf(second, BLOCK_READ, 0, data, 512), -ERANGE);
	ck_assert_int_eq(run(second, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	ck_assert_int_eq(run(second, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
	finish(second, &loop);
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
	ck_assert_int_eq(e.holder, (int)child);
	(void)close(go[1]);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	check_ok(block_open(&b, &config, &e), &e); /* it died with its holder */
	block_close(b);
}
END_TEST

/* An open file of no process, as of one that has ended while the kernel takes its io_uring apart: it is in a message. */
static void lock_by_nobody(const int pair[2], off_t first, off_t len)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = first, .l_len = len };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .bytes = { 0 } };
	char byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fd = open(disk_path, O_RDWR | O_CLOEXEC);

	ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &lock), 0);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	ck_assert_int_eq(sendmsg(pair[0], &message, 0), 1);
	(void)close(fd);
}

/* Who shares the disk as we would is not who keeps us from it. */
START_TEST(test_lock_of_nobody)
{
	struct flock shared = { .l_type = F_RDLCK, .l_start = 100, .l_len = 1 };
	struct block_config config = { .path = disk_path, .read_only = true };
	struct error e = { 0 };
	struct block *b = NULL;
	int pair[2], other;

	make_file(disk_path, 4096);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	lock_by_nobody(pair, 0, 10);
	other = open(disk_path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(fcntl(other, F_OFD_SETLK, &shared), 0);
	ck_assert_int_lt(block_open(&b, &config, &e), 0);
	check_error(&e, ERROR_DISK_LOCKED, "a process that writes to it");
	(void)close(pair[0]);
	(void)close(pair[1]);
	check_ok(block_open(&b, &config, &e), &e);
	block_close(b);
	(void)close(other);
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

/* False: there are none here. */
static bool attach_loop(char *device, size_t size, int block)
{
	char command[256];
	FILE *losetup;
	bool got;

	make_file(disk_path, DISK_SIZE);
	(void)snprintf(command, sizeof(command), "losetup -b %d --find --show '%s' 2>/dev/null",
		       block, disk_path);
	losetup = popen(command, "r");
	got = losetup != NULL && fgets(device, (int)size, losetup) != NULL;
	if (losetup != NULL) {
		(void)pclose(losetup);
	}
	device[strcspn(device, "\n")] = '\0';
	return got;
}

static void detach_loop(const char *device)
{
	char command[96];

	(void)snprintf(command, sizeof(command), "losetup -d %s", device);
	ck_assert_int_eq(system(command), 0);
}

static const struct device_row {
	int engine;
	int host; /* its sectors */
} devices[] = { { BLOCK_ENGINE_SYNC, 512 },
		{ BLOCK_ENGINE_URING, 512 },
		{ BLOCK_ENGINE_SYNC, 4096 },
		{ BLOCK_ENGINE_URING, 4096 } };

START_TEST(test_block_device)
{
	struct block_config config = { .engine = devices[_i].engine };
	static uint8_t data[4096], back[4096], zero[4096];
	struct error e = { 0 };
	struct block *b = NULL;
	char device[64] = "";
	struct loop loop;

	if (!attach_loop(device, sizeof(device), devices[_i].host)) {
		CHECK_SKIP("no loop devices");
	}
	config.path = device;
	if (block_open(&b, &config, &e) == 0) {
		check_ok(loop_init(&loop, &e), &e);
		check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
		ck_assert_uint_eq(b->capacity, DISK_SIZE);
		ck_assert_uint_eq(b->logical_block, (uint32_t)devices[_i].host);
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
	detach_loop(device);
	ck_assert_msg(e.code == ERROR_NONE, "%s", e.msg);
}
END_TEST

struct sector_write {
	struct block_request req;
	struct iovec iov;
	uint8_t data[512];
};

static void sector_written(struct block_request *req, int result)
{
	(void)req;
	ck_assert_int_eq(result, 0);
}

/*
 * Sectors of 512 bytes on a device that has 4096: all eight neighbours of each block are written at
 * once, in an order that leaves none beside the one before, and nothing that one of them wrote is
 * lost; zeroes and discards that begin or end inside a block leave the rest of it alone.
 */
START_TEST(test_small_sectors_on_a_device_of_large_ones)
{
	enum { COUNT = 256 };
	static struct sector_write writes[COUNT];
	struct block_config config = { .engine = engines[_i], .sector = 512 };
	static uint8_t back[512 * COUNT], want[512 * COUNT];
	struct error e = { 0 };
	struct block *b = NULL;
	char device[64] = "";
	struct loop loop;

	if (!attach_loop(device, sizeof(device), 4096)) {
		CHECK_SKIP("no loop devices");
	}
	config.path = device;
	if (block_open(&b, &config, &e) < 0) {
		detach_loop(device);
		ck_abort_msg("%s", e.msg);
	}
	check_ok(loop_init(&loop, &e), &e);
	check_ok(block_attach(b, &loop, NULL, NULL, &e), &e);
	ck_assert_uint_eq(b->logical_block, 512);
	ck_assert_uint_eq(b->physical_block, 4096);
	for (uint32_t i = 0; i < COUNT; i++) {
		struct sector_write *write = &writes[i];
		uint32_t at = i * 37 % COUNT;

		pattern(write->data, sizeof(write->data), at + 1);
		memcpy(want + (size_t)at * 512, write->data, 512);
		write->iov = (struct iovec){ write->data, 512 };
		write->req = (struct block_request){ .op = BLOCK_WRITE,
						     .offset = (uint64_t)at * 512,
						     .len = 512,
						     .iov = &write->iov,
						     .iov_count = 1,
						     .fua = i % 16 == 0,
						     .done = sector_written };
		block_submit(b, &write->req);
	}
	block_drain(b);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, back, sizeof(back)), 0);
	ck_assert_mem_eq(back, want, sizeof(back));
	for (uint32_t i = 0; i < 2; i++) {
		/* Within a block; over an edge; blocks with a piece at each end. */
		static const struct {
			uint32_t offset, len;
		} ranges[] = { { 512, 1024 }, { 3584, 1024 }, { 9 * 1024, 20 * 1024 } };

		for (size_t j = 0; j < ARRAY_SIZE(ranges); j++) {
			size_t at = ranges[j].offset + (size_t)i * 65536;

			memset(want + at, 0, ranges[j].len);
			ck_assert_int_eq(run(b, BLOCK_WRITE_ZEROES, at, ranges[j].len, NULL, 0), 0);
		}
	}
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, back, sizeof(back)), 0);
	ck_assert_mem_eq(back, want, sizeof(back));
	ck_assert_int_eq(run(b, BLOCK_DISCARD, 1536, 1024, NULL, 0), 0);
	ck_assert_int_eq(run(b, BLOCK_DISCARD, 7680, 10240, NULL, 0), 0);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, back, 8192), 0);
	ck_assert_mem_eq(back, want, 8192);
	finish(b, &loop);
	detach_loop(device);
}
END_TEST

/* --- another file in place of one --- */

static struct block *open_disk(const char *path, struct block *instead, int engine)
{
	const struct block_config config = { .path = path, .engine = engine };
	struct error e = { 0 };
	struct block *b = NULL;

	check_ok(block_open_instead(&b, &config, instead, &e), &e);
	return b;
}

static bool locked(const char *path)
{
	const struct block_config config = { .path = path, .engine = BLOCK_ENGINE_SYNC };
	struct error e = { 0 };
	struct block *b = NULL;

	if (block_open(&b, &config, &e) == 0) {
		block_close(b);
		return false;
	}
	check_error(&e, ERROR_DISK_LOCKED, "disk");
	return true;
}

/* The same file, which has grown: it is locked until both are closed, in whichever order. */
START_TEST(test_instead_of_itself)
{
	int engine = _i / 2 == 0 ? BLOCK_ENGINE_SYNC : BLOCK_ENGINE_AUTO;
	struct block *old, *next, *last;

	make_file(disk_path, DISK_SIZE);
	old = open_disk(disk_path, NULL, engine);
	ck_assert_int_eq(truncate(disk_path, (off_t)(2 * DISK_SIZE)), 0);
	next = open_disk(disk_path, old, engine);
	ck_assert_uint_eq(old->capacity, DISK_SIZE);
	ck_assert_uint_eq(next->capacity, 2 * DISK_SIZE);
	ck_assert(locked(disk_path));
	block_close(_i % 2 == 0 ? old : next);
	ck_assert(locked(disk_path));
	/* And once more, with the one that is left. */
	last = open_disk(disk_path, _i % 2 == 0 ? next : old, engine);
	block_close(_i % 2 == 0 ? next : old);
	ck_assert(locked(disk_path));
	block_close(last);
	ck_assert(!locked(disk_path));
}
END_TEST

/* Two files have two locks; what is refused leaves the old one alone. */
START_TEST(test_instead_of_another)
{
	struct block_config config = { .engine = BLOCK_ENGINE_SYNC };
	char path[112];
	struct block *old, *next = NULL;
	struct error e = { 0 };

	(void)snprintf(path, sizeof(path), "%s-2", disk_path);
	make_file(disk_path, DISK_SIZE);
	make_file(path, DISK_SIZE);
	old = open_disk(disk_path, NULL, BLOCK_ENGINE_SYNC);
	next = open_disk(path, old, BLOCK_ENGINE_SYNC);
	ck_assert(locked(disk_path) && locked(path));
	block_close(old);
	ck_assert(!locked(disk_path) && locked(path));
	old = open_disk(disk_path, NULL, BLOCK_ENGINE_SYNC);
	config.path = disk_path;
	ck_assert_int_lt(block_open_instead(&next, &config, next, &e), 0);
	check_error(&e, ERROR_DISK_LOCKED, "disk");
	/* The other way of using the file needs a lock of its own. */
	config.read_only = true;
	ck_assert_int_lt(block_open_instead(&next, &config, old, &e), 0);
	check_error(&e, ERROR_DISK_LOCKED, "disk");
	config.path = "/nowhere/disk";
	ck_assert_int_lt(block_open_instead(&next, &config, old, &e), 0);
	check_error(&e, ERROR_DISK, "/nowhere/disk");
	ck_assert_ptr_nonnull(strstr(e.hint, "truncate"));
	/* No file is made where devices are. */
	config.path = "/dev/nothing-of-that-name";
	ck_assert_int_lt(block_open_instead(&next, &config, old, &e), 0);
	ck_assert_str_eq(e.hint, "");
	ck_assert(locked(disk_path) && locked(path));
	block_close(next);
	block_close(old);
}
END_TEST

CHECK_MAIN("block_open", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_open_refuses, open_rows);
	   CHECK_TEST(test_open_refuses_character_device);
	   CHECK_TABLE(test_sector_of_a_file, sectors);
	   CHECK_TABLE(test_table_of_another_sector, tables);
	   CHECK_LOOP(test_size, 2 * ARRAY_SIZE(sizes)); CHECK_LOOP(test_null, 2);
	   CHECK_TEST(test_open_says_that_ro_would_work); CHECK_TEST(test_raw_by_insistence);
	   CHECK_TABLE(test_read_only_disk, engines); CHECK_TEST(test_serial);
	   CHECK_TEST(test_lock_rules); CHECK_TEST(test_lock_names_the_holder);
	   CHECK_TEST(test_lock_of_nobody); CHECK_TABLE(test_close_on_exec, engines);
	   CHECK_TABLE(test_block_device, devices);
	   CHECK_TABLE(test_small_sectors_on_a_device_of_large_ones, engines);
	   CHECK_LOOP(test_instead_of_itself, 4); CHECK_TEST(test_instead_of_another))
