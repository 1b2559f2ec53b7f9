/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots in a folder that goes with the test, of a small guest memory with a pattern: shared by the tests of src/snapshot. */
#ifndef TESTS_SNAPSHOT_RIG_H
#define TESTS_SNAPSHOT_RIG_H

#include "harness/check_main.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/crc32c.h"
#include "vmm/pager.h"
#include "vmm/snapshot.h"

/* Not a whole number of chunks. */
#define LOW_SIZE  (MIB(5) + KIB(12))
#define HIGH_GPA  GIB(4)
#define HIGH_SIZE MIB(4)
#define PAGE	  4096ULL

#define ABOUT  "{\"name\": \"a\"}"
#define CONFIG "{\"machine-config\": {\"vcpu_count\": 1}}"
#define STATE  "machine state"

static char top[64];
static struct error err;
static int pagemap = -1;

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void rig_setup(void)
{
	const char *tmp = getenv("TMPDIR");

	(void)snprintf(top, sizeof(top), "%.40s/vmm-snap-XXXXXX", tmp != NULL ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(top));
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

static inline void rig_teardown(void)
{
	close_fd(&pagemap);
	(void)nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* In the folder; some hundred are valid at a time. */
static inline const char *path_of(const char *name)
{
	static char paths[512][128];
	static size_t next;
	char *path = paths[next++ % ARRAY_SIZE(paths)];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", top, name);
	return path;
}

static inline struct snapshot_paths in_directory(const char *name)
{
	return (struct snapshot_paths){ .directory = path_of(name) };
}

static inline struct snapshot_paths in_files(const char *state, const char *memory)
{
	return (struct snapshot_paths){ .state = path_of(state), .memory = path_of(memory) };
}

static inline void make_memory(struct guest_memory *mem, enum guest_memory_backing backing)
{
	struct guest_region_config low = { .size = LOW_SIZE, .backing = backing };
	struct guest_region_config high = {
		.gpa = HIGH_GPA, .size = HIGH_SIZE, .kind = GUEST_REGION_HOTPLUG, .backing = backing
	};

	*mem = (struct guest_memory){ 0 };
	ck_assert_int_ge(guest_memory_add(mem, &low, &err), 0);
	ck_assert_int_ge(guest_memory_add(mem, &high, &err), 0);
}

static inline void fill_page(struct guest_memory *mem, gpa_t gpa, uint32_t seed)
{
	uint32_t *page = (uint32_t *)(void *)guest_memory_write_pointer(mem, gpa, PAGE);

	ck_assert_ptr_nonnull(page);
	for (size_t i = 0; i < PAGE / 4; i++) {
		seed = seed * 1664525 + 1013904223;
		page[i] = seed;
	}
	guest_memory_written(mem, page, PAGE);
}

/* Pages at both ends, alone, in runs, over the border of chunks; and one that was written with zeroes. */
static inline void fill_memory(struct guest_memory *mem, uint32_t seed)
{
	static const gpa_t pages[] = { 0,   1,	 5,   6,    7,	  100,	510,
				       511, 512, 513, 1024, 1280, 1281, 1282 };

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		fill_page(mem, pages[i] * PAGE, seed + (uint32_t)i);
	}
	for (gpa_t gpa = HIGH_GPA + MIB(2); gpa < HIGH_GPA + MIB(4); gpa += PAGE) {
		fill_page(mem, gpa, seed + (uint32_t)(gpa / PAGE));
	}
	ck_assert(guest_memory_zero(mem, 20 * PAGE, PAGE));
	guest_memory_write_pointer(mem, 20 * PAGE, PAGE)[9] = 0;
}
/* How many of them are not zero. */
#define FILLED (14 + 512)

static inline bool same_memory(const struct guest_memory *a, const struct guest_memory *b)
{
	for (uint32_t i = 0; i < a->region_count; i++) {
		const uint8_t *other =
			guest_memory_read_pointer(b, a->regions[i].gpa, a->regions[i].size);

		if (other == NULL || memcmp(a->regions[i].host, other, a->regions[i].size) != 0) {
			return false;
		}
	}
	return a->region_count == b->region_count && a->size == b->size;
}

static inline const struct snapshot_contents *contents(void)
{
	static const struct snapshot_contents c = { ABOUT, CONFIG, STATE, sizeof(STATE) - 1 };

	return &c;
}

/* Full, or of what was written since `parent`, which tracking knows. Paths, memory and parent are put into `config`.
 * 0 or what failed. */
static inline int save_as(struct snapshot_writer_config config, struct guest_memory *mem,
			  struct snapshot_paths paths, const struct snapshot_paths *parent)
{
	struct snapshot_writer *w = NULL;
	int r;

	config.paths = paths;
	config.mem = mem;
	config.pagemap_fd = pagemap;
	config.parent = parent != NULL ? *parent : config.parent;
	r = snapshot_writer_create(&w, &config, &err);
	if (r == 0 && parent == NULL) {
		r = snapshot_writer_scan(w, &err);
	}
	for (uint32_t i = 0; r == 0 && parent != NULL && i < mem->region_count; i++) {
		uint64_t bits, *pages = snapshot_writer_pages(w, i, &bits);

		r = guest_region_dirty_collect(mem, i, pages, bits, &err);
	}
	r = r == 0 ? snapshot_writer_run(w, &err) : r;
	r = r == 0 ? snapshot_writer_commit(w, contents(), &err) : r;
	snapshot_writer_destroy(w);
	return r;
}

static inline int save(struct guest_memory *mem, struct snapshot_paths paths,
		       const struct snapshot_paths *parent, struct snapshot_watch watch)
{
	return save_as((struct snapshot_writer_config){ .watch = watch }, mem, paths, parent);
}

static inline void save_full(struct guest_memory *mem, struct snapshot_paths paths)
{
	check_ok(save(mem, paths, NULL, (struct snapshot_watch){ 0 }), &err);
}

static inline int open_snapshot(struct snapshot_reader **r, struct snapshot_paths paths)
{
	struct snapshot_reader_config config = { .paths = paths };

	*r = NULL;
	return snapshot_reader_create(r, &config, &err);
}

static inline int load(struct guest_memory *mem, struct snapshot_paths paths,
		       enum snapshot_load_mode mode)
{
	const struct snapshot_load how = { .mode = mode, .threads = 2 };
	struct snapshot_reader *r;
	int x = open_snapshot(&r, paths);

	*mem = (struct guest_memory){ 0 };
	x = x == 0 ? snapshot_reader_load(r, mem, &how, &err) : x;
	snapshot_reader_destroy(r);
	return x;
}

static inline int load_lazily(struct guest_memory *mem, struct snapshot_paths paths)
{
	struct snapshot_reader *r;
	int x = open_snapshot(&r, paths);

	*mem = (struct guest_memory){ 0 };
	return x == 0 ? snapshot_reader_load_lazily(&r, mem, &(struct snapshot_lazy){ 0 }, &err)
		      : x;
}

static inline bool can_load_lazily(void)
{
	struct guest_memory none = { 0 };
	struct pager *pager = NULL;
	bool can = pager_create(&pager, &none, &err) == 0;

	pager_destroy(pager);
	return can;
}

/* First in CHECK_MAIN. */
static inline void skip_without_userfaultfd(void)
{
	if (!can_load_lazily()) {
		printf("1..0 # SKIP %s\n", err.msg);
		exit(EXIT_SUCCESS);
	}
}

/* It has exactly this memory, whichever way it is loaded. */
static inline void check_has(struct snapshot_paths paths, const struct guest_memory *want)
{
	for (int mode = SNAPSHOT_LOAD_MAP_UNVERIFIED; mode <= SNAPSHOT_LOAD_READ; mode++) {
		struct guest_memory mem;

		check_ok(load(&mem, paths, mode), &err);
		ck_assert_msg(same_memory(&mem, want), "mode %d", mode);
		guest_memory_finish(&mem);
	}
	if (can_load_lazily()) {
		struct guest_memory mem;

		check_ok(load_lazily(&mem, paths), &err);
		ck_assert_msg(same_memory(&mem, want), "lazily");
		guest_memory_finish(&mem);
	}
}

/* --- files --- */

/* malloc'ed. */
static inline uint8_t *read_file(const char *path, size_t *len)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *bytes;

	ck_assert_msg(fd >= 0, "%s", path);
	ck_assert_int_eq(fstat(fd, &st), 0);
	bytes = malloc((size_t)st.st_size + 1);
	ck_assert_ptr_nonnull(bytes);
	ck_assert_int_eq(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
	*len = (size_t)st.st_size;
	return bytes;
}

static inline void write_file(const char *path, const void *bytes, size_t len)
{
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_msg(fd >= 0, "%s", path);
	ck_assert_int_eq(pwrite(fd, bytes, len, 0), (ssize_t)len);
}

static inline void flip(const char *path, uint64_t at)
{
	auto_close int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 0x40;
	ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
}

/* Entries of a folder, "." and ".." left out. */
static inline int entries_of(const char *path)
{
	DIR *dir = opendir(path);
	int n = 0;

	ck_assert_msg(dir != NULL, "%s", path);
	while (readdir(dir) != NULL) {
		n++;
	}
	(void)closedir(dir);
	return n - 2;
}

#endif
