/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a disk with an overlay: what is made, what is refused and with which words, locks, and files that lie. */
#include "harness/cow_rig.h"

#define BLOCKS (ALIGN_UP(sizeof(base_bytes), 4096) / 4096)

static int try_open(const struct block_config *config, struct error *e)
{
	struct block *b = NULL;
	int r = block_open(&b, config, e);

	block_close(b);
	return r;
}

static void check_refused(const struct block_config *config, enum error_code code, const char *text,
			  const char *hint)
{
	struct error e = { 0 };

	ck_assert_int_lt(try_open(config, &e), 0);
	check_error(&e, code, text);
	if (hint != NULL) {
		check_error(&e, code, hint);
	}
}

static void change(const char *path, off_t at, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	ck_assert_int_eq(pwrite(fd, bytes, len, at), (ssize_t)len);
	(void)close(fd);
}

/* An overlay with a block in it, closed. */
static void make_overlay(void)
{
	static uint8_t data[4096];
	struct loop loop;
	struct block *b = open_cow_attached(BLOCK_ENGINE_SYNC, &loop);

	pattern(data, sizeof(data), 5);
	ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 8192, data, sizeof(data)), 0);
	finish(b, &loop);
}

START_TEST(test_makes_what_is_missing)
{
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	struct error e = { 0 };
	struct block *b = NULL;

	for (int i = 0; i < 3; i++) {
		/* Nothing there; an empty file; one of some length without content. */
		if (i != 0) {
			make_file(overlay_path, i == 1 ? 0 : 70000);
		}
		check_ok(block_open(&b, &config, &e), &e);
		block_close(b);
		ck_assert_uint_eq(file_size(overlay_path), BLOCKS * 4096 + 3 * 4096);
		ck_assert_uint_le(data_blocks(overlay_path) * 512, 16384);
		check_ok(try_open(&config, &e), &e);
		ck_assert_int_eq(unlink(overlay_path), 0);
	}
	make_file(overlay_path, MIB(8));
	check_refused(&config, ERROR_DISK, "more than an overlay over", "made if it is not there");
}
END_TEST

/* While a VM runs it makes no files, but takes an empty one. */
START_TEST(test_late)
{
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	struct error e = { 0 };
	struct block *b = NULL;

	ck_assert_int_lt(block_open_late(&b, &config, &e), 0);
	check_error(&e, ERROR_DISK, "No such file");
	check_error(&e, ERROR_DISK, "touch");
	ck_assert_int_ne(access(overlay_path, F_OK), 0);
	make_file(overlay_path, 0);
	check_ok(block_open_late(&b, &config, &e), &e);
	block_close(b);
}
END_TEST

START_TEST(test_refuses_configurations)
{
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	char path[128];

	config.read_only = true;
	check_refused(&config, ERROR_CONFIG, "read-only", "leave out");
	config.read_only = false;
	config.overlay = base_path;
	check_refused(&config, ERROR_CONFIG, "is its base", "is made if");
	config.overlay = "";
	check_refused(&config, ERROR_CONFIG, "needs a path", NULL);
	config.overlay = dir;
	check_refused(&config, ERROR_DISK, "is a directory", NULL);
	config.overlay = "/dev/null";
	check_refused(&config, ERROR_DISK, "is a device", "is made");
	(void)snprintf(path, sizeof(path), "%s/none/overlay", dir);
	config.overlay = path;
	check_refused(&config, ERROR_DISK, "No such file", NULL);
	config.overlay = overlay_path;
	config.path = path;
	check_refused(&config, ERROR_DISK, "No such file", NULL);
	config.path = "/dev/null";
	check_refused(&config, ERROR_DISK, "is empty", NULL);
	(void)snprintf(path, sizeof(path), "%s/small", dir);
	make_file(path, 100);
	config.path = path;
	check_refused(&config, ERROR_DISK, "is empty", NULL);
	make_file(path, 8192);
	change(path, 0, "QFI\xfb", 4);
	check_refused(&config, ERROR_DISK, "looks like qcow2", "qemu-img convert");
	ck_assert_int_ne(access(overlay_path, F_OK), 0);
}
END_TEST

/* What could not be made does not stay. */
START_TEST(test_no_room)
{
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	struct rlimit old, small = { .rlim_cur = 65536 };

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	check_refused(&config, ERROR_DISK, "make overlay", NULL);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	ck_assert_int_ne(access(overlay_path, F_OK), 0);
}
END_TEST

/* Many overlays on one base, one user of each; who writes to the base has it alone. */
START_TEST(test_locks)
{
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 2), second = config;
	struct block_config plain = { .path = base_path, .engine = BLOCK_ENGINE_SYNC };
	struct block *b = NULL, *other = NULL, *last = NULL;
	struct error e = { 0 };
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/second", dir);
	second.overlay = path;
	check_ok(block_open(&b, &config, &e), &e);
	check_ok(block_open(&other, &second, &e), &e);
	ck_assert_uint_eq(block_count(b), 2);
	check_refused(&config, ERROR_DISK_LOCKED, overlay_path, NULL);
	check_refused(&plain, ERROR_DISK_LOCKED, base_path, NULL);
	plain.read_only = true;
	check_ok(block_open(&last, &plain, &e), &e);
	block_close(last);
	block_close(b);
	block_close(other);
	check_ok(try_open(&config, &e), &e);
	plain.read_only = false;
	check_ok(block_open(&last, &plain, &e), &e);
	check_refused(&config, ERROR_DISK_LOCKED, base_path, NULL);
	block_close(last);
}
END_TEST

START_TEST(test_takes_nobodys_place)
{
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1),
			    plain = { .path = disk_path };
	struct block *b = NULL, *raw = NULL, *next = NULL;
	struct error e = { 0 };

	make_file(disk_path, 8192);
	check_ok(block_open(&b, &config, &e), &e);
	check_ok(block_open(&raw, &plain, &e), &e);
	ck_assert_int_lt(block_open_instead(&next, &plain, b, &e), 0);
	check_error(&e, ERROR_NOT_SUPPORTED, "with an overlay");
	check_error(&e, ERROR_NOT_SUPPORTED, "add another device");
	ck_assert_int_lt(block_open_instead(&next, &config, raw, &e), 0);
	check_error(&e, ERROR_NOT_SUPPORTED, "with an overlay");
	ck_assert_ptr_null(next);
	block_close(b);
	block_close(raw);
}
END_TEST

/* --- another base ------------------------------------------------------------------------------- */

START_TEST(test_another_base)
{
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	struct timespec times[2] = { 0 };
	struct error e = { 0 };
	struct stat st;
	char path[128];

	make_overlay();
	ck_assert_int_eq(stat(base_path, &st), 0);
	(void)snprintf(path, sizeof(path), "%s/else", dir);
	make_file(path, sizeof(base_bytes) + 512);
	config.path = path;
	check_refused(&config, ERROR_DISK, overlay_path, NULL);
	check_refused(&config, ERROR_DISK, base_path, NULL); /* made over this */
	check_refused(&config, ERROR_DISK, path, NULL);	     /* and not that */
	check_refused(&config, ERROR_DISK, "its size was", NULL);
	/* The same size and time, another content. */
	make_file(path, sizeof(base_bytes));
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
	check_refused(&config, ERROR_DISK, "samples of its content", NULL);
	/* The same content, another time: a copy that the user can vouch for. */
	change(path, 0, base_bytes, sizeof(base_bytes));
	check_refused(&config, ERROR_DISK, "it was changed last at", "touch -d");
	ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
	check_ok(try_open(&config, &e), &e);
	/* The base itself, changed. */
	config.path = base_path;
	change(base_path, 0, "x", 1);
	check_refused(&config, ERROR_DISK, "is not what it was", NULL);
}
END_TEST

/* --- files that lie ----------------------------------------------------------------------------- */

static uint8_t *load(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t *bytes;

	*size = file_size(path);
	bytes = malloc(*size);
	ck_assert_int_eq(read(fd, bytes, *size), (ssize_t)*size);
	(void)close(fd);
	return bytes;
}

/* Every bit of the header: no byte of it may be another. */
START_TEST(test_header_bits)
{
	struct cow_header header;
	struct error e = { 0 };
	uint8_t page[COW_PAGE];
	uint8_t *bytes;
	size_t size;

	make_overlay();
	bytes = load(overlay_path, &size);
	memcpy(page, bytes + size - COW_PAGE, sizeof(page));
	check_ok(cow_header_decode(&header, page, "O", &e), &e);
	for (size_t bit = 0; bit < COW_PAGE * 8; bit++) {
		page[bit / 8] ^= (uint8_t)(1U << bit % 8);
		e = (struct error){ 0 };
		ck_assert_int_lt(cow_header_decode(&header, page, "O", &e), 0);
		ck_assert(e.code == ERROR_DISK || e.code == ERROR_NOT_SUPPORTED);
		ck_assert_ptr_nonnull(strstr(e.msg, "'O'"));
		page[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	free(bytes);
}
END_TEST

/* With a right checksum. */
static const struct lie {
	const char *name;
	uint32_t block_size;
	uint64_t size;
	uint32_t ns;
	const char *text;
} lies[] = {
	{ "no block size", 0, sizeof(base_bytes), 0, "no version writes" },
	{ "a small one", 512, sizeof(base_bytes), 0, "no version writes" },
	{ "a large one", 131072, sizeof(base_bytes), 0, "no version writes" },
	{ "an odd one", 4097, sizeof(base_bytes), 0, "no version writes" },
	{ "another that works", 8192, sizeof(base_bytes), 0, "length" },
	{ "time", 4096, sizeof(base_bytes), 1000000000, "no version writes" },
	{ "size", 4096, UINT64_MAX, 0, "size was" },
	{ "no size", 4096, 0, 0, "size was" },
};

START_TEST(test_header_lies)
{
	const struct lie *lie = &lies[_i];
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	struct cow_header header;
	struct error e = { 0 };
	uint8_t page[COW_PAGE];
	uint8_t *bytes;
	size_t size;

	make_overlay();
	bytes = load(overlay_path, &size);
	check_ok(cow_header_decode(&header, bytes + size - COW_PAGE, "O", &e), &e);
	header.block_size = lie->block_size;
	header.base.size = lie->size;
	header.base.mtime_ns = lie->ns != 0 ? lie->ns : header.base.mtime_ns;
	cow_header_encode(&header, page);
	change(overlay_path, (off_t)(size - COW_PAGE), page, sizeof(page));
	check_refused(&config, ERROR_DISK, lie->text, NULL);
	check_refused(&config, ERROR_DISK, overlay_path, NULL);
	free(bytes);
}
END_TEST

START_TEST(test_name_of_the_base)
{
	struct cow_header header = { .block_size = 4096 }, back;
	struct error e = { 0 };
	uint8_t page[COW_PAGE];

	memset(header.path, 'a', COW_HEADER_PATH);
	header.path[1] = '\n';
	header.path[2] = 0x1b;
	cow_header_encode(&header, page);
	check_ok(cow_header_decode(&back, page, "O", &e), &e);
	ck_assert_uint_eq(strlen(back.path), COW_HEADER_PATH - 1);
	ck_assert_int_eq(memcmp(back.path, "a??a", 4), 0);
}
END_TEST

/* At whatever place it ends. */
START_TEST(test_truncated)
{
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	struct error e = { 0 };
	uint8_t *bytes;
	size_t size;

	make_overlay();
	bytes = load(overlay_path, &size);
	for (size_t len = 8192 + 4096; len < size; len += len < size - 20000 ? 24000 : 500) {
		ck_assert_int_eq(truncate(overlay_path, (off_t)len), 0);
		check_refused(&config, ERROR_DISK, "is no overlay", NULL);
		ck_assert_uint_eq(file_size(overlay_path), len);
		change(overlay_path, 0, bytes, size);
	}
	check_ok(try_open(&config, &e), &e);
	ck_assert_int_eq(truncate(overlay_path, (off_t)size + 4096), 0);
	check_refused(&config, ERROR_DISK, "is no overlay", NULL);
	change(overlay_path, (off_t)size, bytes + size - 4096, 4096);
	check_refused(&config, ERROR_DISK, "length", NULL);
	free(bytes);
}
END_TEST

static const struct states_row {
	uint64_t block; /* whose state is changed */
	uint8_t state;
	bool refused;
} states_rows[] = {
	{ 0, 3, true },		  { 31, 3, true },
	{ BLOCKS - 1, 3, true },  { BLOCKS, 1, true },
	{ BLOCKS + 1, 2, true },  { BLOCKS - 1, 1, false },
	{ BLOCKS - 1, 2, false }, { BLOCKS + 100, 2, false }, /* in no word that counts */
};

START_TEST(test_states_that_lie)
{
	const struct states_row *row = &states_rows[_i];
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	struct error e = { 0 };
	uint8_t byte;

	make_overlay();
	byte = (uint8_t)(row->state << row->block % 4 * 2);
	change(overlay_path, (off_t)(BLOCKS * 4096 + row->block / 4), &byte, 1);
	if (row->refused) {
		check_refused(&config, ERROR_DISK, "states that there are not", NULL);
	} else {
		check_ok(try_open(&config, &e), &e);
	}
}
END_TEST

/* Of states that are possible: zeroes where it says so, the base where there is nothing, and no more than that. */
START_TEST(test_states_of_nothing)
{
	static uint8_t states[BLOCKS / 4 + 1], back[65536];
	struct loop loop;
	struct block *b;

	make_overlay();
	for (size_t i = 0; i < BLOCKS / 4; i++) {
		states[i] = 0x99; /* fresh, settled, fresh, settled */
	}
	change(overlay_path, (off_t)(BLOCKS * 4096), states, BLOCKS / 4);
	b = open_cow_attached(BLOCK_ENGINE_SYNC, &loop);
	ck_assert_int_eq(run_buf(b, BLOCK_READ, 16384, back, sizeof(back)), 0);
	for (size_t at = 0; at < sizeof(back); at += 8192) {
		ck_assert_mem_eq(back + at, base_bytes + 16384 + at, 4096);
		for (size_t i = 0; i < 4096; i++) {
			ck_assert_uint_eq(back[at + 4096 + i], 0);
		}
	}
	finish(b, &loop);
}
END_TEST

START_TEST(test_no_overlay)
{
	struct block_config config = cow_config(BLOCK_ENGINE_SYNC, 1);
	uint8_t *bytes;
	size_t size;

	for (size_t len = 1; len < 20000; len = len * 3 + 1) {
		make_file(overlay_path, 0);
		change(overlay_path, 0, base_bytes, len);
		check_refused(&config, ERROR_DISK, "is no overlay", "is made if");
		bytes = load(overlay_path, &size);
		ck_assert_uint_eq(size, len);
		ck_assert_mem_eq(bytes, base_bytes, len);
		free(bytes);
	}
	make_file(overlay_path, 0);
	make_overlay();
	bytes = load(overlay_path, &size);
	change(overlay_path, (off_t)(size - COW_PAGE + 8), "\2\0\0\0", 4);
	check_refused(&config, ERROR_NOT_SUPPORTED, "has format 2, and this version knows 1", NULL);
	free(bytes);
}
END_TEST

CHECK_MAIN("cow_open", CHECK_FIXTURE(make_base, teardown); CHECK_TEST(test_makes_what_is_missing);
	   CHECK_TEST(test_late); CHECK_TEST(test_refuses_configurations); CHECK_TEST(test_no_room);
	   CHECK_TEST(test_locks); CHECK_TEST(test_takes_nobodys_place);
	   CHECK_TEST(test_another_base); CHECK_TEST(test_header_bits);
	   CHECK_TABLE(test_header_lies, lies); CHECK_TEST(test_name_of_the_base);
	   CHECK_TEST(test_truncated); CHECK_TABLE(test_states_that_lie, states_rows);
	   CHECK_TEST(test_states_of_nothing); CHECK_TEST(test_no_overlay))
