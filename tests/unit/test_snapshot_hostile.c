/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a snapshot that are damaged, not whole, of another version, or made by somebody who means harm. */
#include "harness/snapshot_rig.h"

/* As docs/snapshot.md has it. */
#define HEADER	     128
#define SECTION	     32
#define HEADER_CRC   124
#define TRAILER	     4096
#define MANDATORY    1
#define SECTIONS_ALL 4

static struct guest_memory mem;
static uint8_t *state;
static size_t state_len;

static void setup(void)
{
	rig_setup();
	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 1);
	save_full(&mem, in_files("s", "m"));
	state = read_file(path_of("s"), &state_len);
}

static void teardown(void)
{
	free(state);
	guest_memory_finish(&mem);
	rig_teardown();
}

/* 0: it opens, and its memory is whole. */
static int try_state(const uint8_t *bytes, size_t len)
{
	struct snapshot_reader *r = NULL;
	int x;

	write_file(path_of("x"), bytes, len);
	x = open_snapshot(&r, in_files("x", "m"));
	x = x == 0 ? snapshot_reader_verify(r, 1, NULL, &err) : x;
	snapshot_reader_destroy(r);
	return x;
}

/* Where section `name` begins. */
static size_t find_section(const uint8_t *bytes, size_t len, const char *name)
{
	for (size_t at = HEADER; at < len;
	     at += SECTION + ((load_le64(bytes + at + 24) + 8) & ~7ULL)) {
		if (strcmp((const char *)bytes + at, name) == 0) {
			return at;
		}
	}
	ck_abort_msg("no section %s", name);
}

static void seal_header(uint8_t *bytes)
{
	store_le32(bytes + HEADER_CRC, crc32c(0, bytes, HEADER_CRC));
}

/* Right checksums, as if it had been written like that. */
static void seal(uint8_t *bytes, size_t at)
{
	uint32_t crc = crc32c(0, bytes + 24, 16);

	crc = crc32c(crc, bytes + at + SECTION, load_le64(bytes + at + 24));
	crc = crc32c(crc, bytes + at, 20);
	crc = crc32c(crc, bytes + at + 24, 8);
	store_le32(bytes + at + 20, crc);
	seal_header(bytes);
}

static size_t section_end(const uint8_t *bytes, size_t at)
{
	return at + SECTION + ((load_le64(bytes + at + 24) + 8) & ~7ULL);
}

START_TEST(test_as_it_is)
{
	ck_assert_int_eq(try_state(state, state_len), 0);
}
END_TEST

START_TEST(test_every_truncation)
{
	for (size_t len = 0; len < state_len; len++) {
		ck_assert_msg(try_state(state, len) < 0, "%zu", len);
		ck_assert(err.msg[0] != '\0');
		ck_assert_msg(err.code == ERROR_SNAPSHOT, "%zu: %s", len, err.msg);
	}
	{
		uint8_t *longer = calloc(1, state_len + 8);

		ck_assert_ptr_nonnull(longer);
		memcpy(longer, state, state_len);
		ck_assert_int_lt(try_state(longer, state_len + 8), 0);
		free(longer);
	}
}
END_TEST

START_TEST(test_every_bit)
{
	for (size_t bit = 0; bit < state_len * 8; bit++) {
		state[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_msg(try_state(state, state_len) < 0, "bit %zu", bit);
		ck_assert_msg(err.code == ERROR_SNAPSHOT, "bit %zu: %s", bit, err.msg);
		state[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}
END_TEST

START_TEST(test_memory_truncated)
{
	static const uint64_t cuts[] = { 1, TRAILER - 1, TRAILER, TRAILER + 1, MIB(2), MIB(9) };
	struct stat st;

	ck_assert_int_eq(stat(path_of("m"), &st), 0);
	ck_assert_int_eq(truncate(path_of("m"), st.st_size + 1), 0);
	ck_assert_int_lt(try_state(state, state_len), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		ck_assert_int_eq(truncate(path_of("m"), st.st_size - (off_t)cuts[i]), 0);
		ck_assert_msg(try_state(state, state_len) < 0, "%zu", i);
		ck_assert_int_eq(err.code, ERROR_SNAPSHOT);
	}
	ck_assert_int_eq(truncate(path_of("m"), 0), 0);
	ck_assert_int_lt(try_state(state, state_len), 0);
}
END_TEST

START_TEST(test_trailer_bits)
{
	struct stat st;
	auto_close int fd = open(path_of("m"), O_RDWR | O_CLOEXEC);
	struct snapshot_reader *r;

	ck_assert_int_eq(fstat(fd, &st), 0);
	for (uint64_t bit = 0; bit < TRAILER * 8ULL; bit += bit < 512 || bit > 32700 ? 1 : 67) {
		off_t at = st.st_size - TRAILER + (off_t)(bit / 8);
		uint8_t byte, wrong;

		ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
		wrong = byte ^ (uint8_t)(1 << bit % 8);
		ck_assert_int_eq(pwrite(fd, &wrong, 1, at), 1);
		ck_assert_msg(open_snapshot(&r, in_files("s", "m")) < 0, "bit %zu", (size_t)bit);
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	}
	ck_assert_int_eq(open_snapshot(&r, in_files("s", "m")), 0);
	snapshot_reader_destroy(r);
}
END_TEST

/* A byte of a page: found by whoever promises to look, and by nobody else. */
START_TEST(test_damaged_page)
{
	struct guest_memory got;
	struct snapshot_reader *r;

	flip(path_of("m"), 511 * PAGE + 77);
	check_ok(open_snapshot(&r, in_files("s", "m")), &err);
	ck_assert_int_lt(snapshot_reader_verify(r, 1, NULL, &err), 0);
	check_error(&err, ERROR_SNAPSHOT, "checksum of the 2 MiB at byte 0");
	ck_assert_int_lt(snapshot_reader_verify(r, 4, NULL, &err), 0);
	check_error(&err, ERROR_SNAPSHOT, "checksum of the 2 MiB at byte 0");
	snapshot_reader_destroy(r);
	ck_assert_int_lt(load(&got, in_files("s", "m"), SNAPSHOT_LOAD_MAP), 0);
	check_error(&err, ERROR_SNAPSHOT, "checksum");
	ck_assert_uint_eq(got.region_count, 0);
	ck_assert_int_lt(load(&got, in_files("s", "m"), SNAPSHOT_LOAD_READ), 0);
	check_error(&err, ERROR_SNAPSHOT, "checksum");
	ck_assert_uint_eq(got.region_count, 0);
	check_ok(load(&got, in_files("s", "m"), SNAPSHOT_LOAD_MAP_UNVERIFIED), &err);
	guest_memory_finish(&got);
}
END_TEST

START_TEST(test_foreign_memory)
{
	struct snapshot_reader *r;
	char ids[2][SNAPSHOT_ID_TEXT];

	save_full(&mem, in_files("s2", "m2"));
	for (int i = 0; i < 2; i++) {
		check_ok(open_snapshot(&r, in_files(i == 0 ? "s" : "s2", i == 0 ? "m" : "m2")),
			 &err);
		memcpy(ids[i], snapshot_reader_info(r)->id, SNAPSHOT_ID_TEXT);
		snapshot_reader_destroy(r);
	}
	ck_assert_str_ne(ids[0], ids[1]);
	ck_assert_int_lt(open_snapshot(&r, in_files("s", "m2")), 0);
	check_error(&err, ERROR_SNAPSHOT, ids[0]);
	check_error(&err, ERROR_SNAPSHOT, ids[1]);
	check_error(&err, ERROR_SNAPSHOT, "/m2'");
	check_error(&err, ERROR_SNAPSHOT, "/s'");
	/* Anything else. */
	ck_assert_int_lt(open_snapshot(&r, in_files("s", "s")), 0);
	ck_assert_int_lt(open_snapshot(&r, in_files("m", "s")), 0);
	check_error(&err, ERROR_SNAPSHOT, "is not the state of a snapshot");
	ck_assert_int_lt(open_snapshot(&r, in_files("s", "missing")), 0);
	check_error(&err, ERROR_NOT_FOUND, "missing");
	ck_assert_int_lt(open_snapshot(&r, in_files("missing", "m")), 0);
	check_error(&err, ERROR_NOT_FOUND, "missing");
	ck_assert_int_lt(open_snapshot(&r, in_directory("missing")), 0);
	check_error(&err, ERROR_NOT_FOUND, "missing");
	ck_assert_int_lt(open_snapshot(&r, (struct snapshot_paths){ 0 }), 0);
	check_error(&err, ERROR_SNAPSHOT, "no snapshot is named");
}
END_TEST

/* What is no file is not opened: a pipe would wait. */
START_TEST(test_no_files)
{
	struct snapshot_reader *r;

	ck_assert_int_eq(mkfifo(path_of("pipe"), 0600), 0);
	ck_assert_int_lt(open_snapshot(&r, in_files("pipe", "m")), 0);
	check_error(&err, ERROR_SNAPSHOT, "not a regular file");
	ck_assert_int_lt(open_snapshot(&r, in_files("s", "pipe")), 0);
	check_error(&err, ERROR_SNAPSHOT, "not a regular file");
	ck_assert_int_lt(open_snapshot(&r, (struct snapshot_paths){ .state = "/dev/zero",
								    .memory = path_of("m") }),
			 0);
	check_error(&err, ERROR_SNAPSHOT, "not a regular file");
	ck_assert_int_lt(open_snapshot(&r, in_directory("s")), 0);
	ck_assert_int_lt(open_snapshot(&r, in_files(".", "m")), 0);
}
END_TEST

/* --- sections --- */

static uint8_t built[KIB(16)];
static size_t built_len;

static void begin(void)
{
	memcpy(built, state, HEADER);
	store_le32(built + 12, 0);
	built_len = HEADER;
	store_le64(built + 16, built_len);
}

static void add_bytes(const uint8_t *bytes, size_t len)
{
	memcpy(built + built_len, bytes, len);
	built_len += len;
	store_le32(built + 12, load_le32(built + 12) + 1);
	store_le64(built + 16, built_len);
	seal_header(built);
}

static void add(const char *name)
{
	size_t at = find_section(state, state_len, name);

	add_bytes(state + at, section_end(state, at) - at);
}

static void add_new(const char *name, uint32_t flags, const char *text)
{
	size_t at = built_len, len = strlen(text);
	uint8_t bytes[256] = { 0 };

	memcpy(bytes, name, strlen(name));
	store_le32(bytes + 16, flags);
	store_le64(bytes + 24, len);
	memcpy(bytes + SECTION, text, len);
	add_bytes(bytes, SECTION + ((len + 8) & ~(size_t)7));
	seal(built, at);
}

static const struct {
	const char *
		order; /* first letters: about, config, machine, mEmory; u, U: unknown, optional or mandatory */
	const char *text; /* NULL: opens */
} orders[] = {
	{ "acmE", NULL },
	{ "uacmE", NULL },
	{ "aucumuEuu", NULL },
	{ "acm", "'memory' is missing" },
	{ "acE", "'machine' is missing" },
	{ "amE", "'config' is missing" },
	{ "cmE", "'about' is missing" },
	{ "", "'about' is missing" },
	{ "aacmE", "'about' comes twice" },
	{ "acmEa", "'about' comes twice" },
	{ "acmEE", "'memory' comes twice" },
	{ "camE", "'about' comes too late" },
	{ "aEcm", "'config' comes too late" },
	{ "acmUE", "'new-thing', which this vmm" },
	{ "acmEU", "'new-thing', which this vmm" },
};

START_TEST(test_order)
{
	begin();
	for (const char *c = orders[_i].order; *c != '\0'; c++) {
		if (*c == 'u' || *c == 'U') {
			add_new("new-thing", *c == 'U' ? MANDATORY : 0, "something");
		} else {
			add(*c == 'a'	? "about"
			    : *c == 'c' ? "config"
			    : *c == 'm' ? "machine"
					: "memory");
		}
	}
	seal_header(built);
	if (orders[_i].text == NULL) {
		check_ok(try_state(built, built_len), &err);
	} else {
		ck_assert_int_lt(try_state(built, built_len), 0);
		check_error(&err, ERROR_SNAPSHOT, orders[_i].text);
	}
}
END_TEST

START_TEST(test_other_versions)
{
	store_le32(state + 8, 2);
	memset(state + 40, 0, 32);
	memcpy(state + 40, "9.9.9", 5);
	seal_header(state);
	ck_assert_int_lt(try_state(state, state_len), 0);
	check_error(&err, ERROR_SNAPSHOT, "9.9.9");
	check_error(&err, ERROR_SNAPSHOT, VMM_VERSION);
	/* However large it is, and whatever follows. */
	ck_assert_int_lt(try_state(state, HEADER), 0);
	check_error(&err, ERROR_SNAPSHOT, "format 2");
	{
		struct snapshot_reader *r;

		ck_assert_int_eq(truncate(path_of("x"), (off_t)GIB(2)), 0);
		ck_assert_int_lt(open_snapshot(&r, in_files("x", "m")), 0);
		check_error(&err, ERROR_SNAPSHOT, "format 2");
		store_le32(state + 8, 1);
		seal_header(state);
		write_file(path_of("x"), state, state_len);
		ck_assert_int_eq(truncate(path_of("x"), (off_t)GIB(2)), 0);
		ck_assert_int_lt(open_snapshot(&r, in_files("x", "m")), 0);
		check_error(&err, ERROR_SNAPSHOT, "are too many");
	}
	store_le32(state + 8, 0);
	seal_header(state);
	ck_assert_int_lt(try_state(state, state_len), 0);
}
END_TEST

/* A section of another snapshot is right by itself. */
START_TEST(test_section_of_another)
{
	uint8_t *other;
	size_t len, at;

	save_full(&mem, in_files("s2", "m2"));
	other = read_file(path_of("s2"), &len);
	begin();
	add("about");
	at = find_section(other, len, "config");
	add_bytes(other + at, section_end(other, at) - at);
	add("machine");
	add("memory");
	ck_assert_int_lt(try_state(built, built_len), 0);
	check_error(&err, ERROR_SNAPSHOT, "checksum of section 'config'");
	free(other);
}
END_TEST

START_TEST(test_text)
{
	size_t at = find_section(state, state_len, "config");

	state[at + SECTION + 3] = '\0';
	seal(state, at);
	ck_assert_int_lt(try_state(state, state_len), 0);
	check_error(&err, ERROR_SNAPSHOT, "is not text");
}
END_TEST

/* --- the table of memory, with right checksums --- */

/* Offsets in the section. Two regions, then entries: chunks 0 (map), 1 (map), 2 (map), 4 (all). */
#define REGION(n) (16 + (n)*32)
#define ENTRIES	  REGION(2)
#define MAPPED	  (12 + 64)

static const struct {
	size_t offset;
	int size;
	uint64_t value;
} hostile[] = {
	{ 0, 4, 0 },
	{ 0, 4, 1 },
	{ 0, 4, 3 },
	{ 0, 4, 17 },
	{ 0, 4, UINT32_MAX },
	{ 4, 4, 0 },
	{ 4, 4, 3 },
	{ 4, 4, 5 },
	{ 4, 4, UINT32_MAX },
	{ 8, 8, 0 },
	{ 8, 8, UINT64_MAX },
	{ REGION(0), 4, 3 },
	{ REGION(0), 4, UINT32_MAX },
	{ REGION(0) + 4, 4, 1 },
	{ REGION(0) + 8, 8, 4096 },
	{ REGION(0) + 8, 8, GIB(4) },
	{ REGION(0) + 8, 8, UINT64_MAX - MIB(2) + 1 },
	{ REGION(0) + 16, 8, 0 },
	{ REGION(0) + 16, 8, LOW_SIZE + 1 },
	{ REGION(0) + 16, 8, LOW_SIZE + MIB(2) },
	{ REGION(0) + 16, 8, UINT64_MAX - 4095 },
	{ REGION(0) + 16, 8, 1ULL << 46 },
	{ REGION(0) + 24, 8, MIB(2) },
	{ REGION(1) + 8, 8, 0 },
	{ REGION(1) + 8, 8, MIB(4) },
	{ REGION(1) + 8, 8, UINT64_MAX - MIB(2) + 1 },
	{ REGION(1) + 16, 8, 1ULL << 63 },
	{ REGION(1) + 24, 8, 0 },
	{ REGION(1) + 24, 8, UINT64_MAX },
	{ ENTRIES, 4, 1 },
	{ ENTRIES, 4, 5 },
	{ ENTRIES, 4, UINT32_MAX },
	{ ENTRIES + 4, 4, 0 },
	{ ENTRIES + 4, 4, 1 },
	{ ENTRIES + 4, 4, 3 },
	{ ENTRIES + 4, 4, 6 },
	{ ENTRIES + 4, 4, 8 },
	{ ENTRIES + 4, 4, 10 },
	{ ENTRIES + 4, 4, 16 },
	{ ENTRIES + 8, 4, 0 },
	/* A map with nothing in it; pages behind the end of the region. */
	{ ENTRIES + 2 * MAPPED + 12 + 32, 8, UINT64_MAX },
	{ ENTRIES + 2 * MAPPED + 12 + 63, 1, 0x80 },
	{ ENTRIES + 3 * MAPPED, 4, 2 },
	{ ENTRIES + 3 * MAPPED, 4, 5 },
	{ ENTRIES + 3 * MAPPED + 4, 4, 2 },
	{ ENTRIES + 3 * MAPPED + 4, 4, 4 },
};

START_TEST(test_hostile_table)
{
	size_t at = find_section(state, state_len, "memory");

	ck_assert_uint_eq(load_le64(state + at + 24), ENTRIES + 3 * MAPPED + 12);
	store_le(state + at + SECTION + hostile[_i].offset, hostile[_i].value,
		 (size_t)hostile[_i].size);
	seal(state, at);
	ck_assert_int_lt(try_state(state, state_len), 0);
	ck_assert_int_eq(err.code, ERROR_SNAPSHOT);
}
END_TEST

/* The length of a section, with what is there. */
START_TEST(test_hostile_lengths)
{
	static const uint64_t lengths[] = {
		0, 1, 15, 16, 40, MIB(1), UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 8, 1ULL << 63
	};
	static const char *const names[] = { "about", "config", "machine", "memory" };
	const char *name = names[_i % 4];
	uint64_t length = lengths[_i / 4];
	size_t at = find_section(state, state_len, name);

	if (length < state_len) {
		/* As if it were so: the next section begins elsewhere. */
		uint8_t *bytes = calloc(1, 2 * state_len);
		size_t end = section_end(state, at);
		int r;

		ck_assert_ptr_nonnull(bytes);
		memcpy(bytes, state, MIN(end, at + SECTION + length));
		store_le64(bytes + at + 24, length);
		built_len = at + SECTION + ((length + 8) & ~7ULL);
		memset(bytes + at + SECTION + length, 0, built_len - (at + SECTION + length));
		memcpy(bytes + built_len, state + end, state_len - end);
		built_len += state_len - end;
		store_le64(bytes + 16, built_len);
		seal(bytes, at);
		r = try_state(bytes, built_len);
		/* What the others say is not for here. */
		ck_assert(strcmp(name, "memory") == 0 ? r < 0 : true);
		ck_assert(r == 0 || err.code == ERROR_SNAPSHOT);
		free(bytes);
		return;
	}
	store_le64(state + at + 24, length);
	seal_header(state);
	ck_assert_int_lt(try_state(state, state_len), 0);
	check_error(&err, ERROR_SNAPSHOT, "more than there are");
}
END_TEST

START_TEST(test_too_much_to_say)
{
	struct snapshot_writer_config config = { .mem = &mem, .pagemap_fd = -1 };
	struct snapshot_contents c = *contents();
	struct snapshot_writer *w;
	struct snapshot_reader *r;
	char *text = malloc(SNAPSHOT_TEXT_MAX + 2);

	ck_assert_ptr_nonnull(text);
	memset(text, ' ', SNAPSHOT_TEXT_MAX + 1);
	text[SNAPSHOT_TEXT_MAX + 1] = '\0';
	config.paths = in_directory("a");
	check_ok(snapshot_writer_create(&w, &config, &err), &err);
	check_ok(snapshot_writer_run(w, &err), &err);
	c.config = text;
	ck_assert_int_lt(snapshot_writer_commit(w, &c, &err), 0);
	check_error(&err, ERROR_TOO_LARGE, "more than it can have");
	text[SNAPSHOT_TEXT_MAX] = '\0';
	check_ok(snapshot_writer_commit(w, &c, &err), &err);
	snapshot_writer_destroy(w);
	check_ok(open_snapshot(&r, in_directory("a")), &err);
	ck_assert_uint_eq(strlen(snapshot_reader_info(r)->config), SNAPSHOT_TEXT_MAX);
	snapshot_reader_destroy(r);
	free(text);
}
END_TEST

CHECK_MAIN("snapshot_hostile", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_as_it_is);
	   CHECK_TEST(test_every_truncation); CHECK_TEST(test_every_bit);
	   CHECK_TEST(test_memory_truncated); CHECK_TEST(test_trailer_bits);
	   CHECK_TEST(test_damaged_page); CHECK_TEST(test_foreign_memory);
	   CHECK_TEST(test_no_files); CHECK_TABLE(test_order, orders);
	   CHECK_TEST(test_other_versions); CHECK_TEST(test_section_of_another);
	   CHECK_TEST(test_text); CHECK_TABLE(test_hostile_table, hostile);
	   CHECK_LOOP(test_hostile_lengths, 40); CHECK_TEST(test_too_much_to_say))
