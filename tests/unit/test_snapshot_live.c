/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of a VM that runs: what is saved is what they were when they were held, whatever came before and after; compressed or not. */
#include "harness/snapshot_rig.h"

#include <sys/mman.h>

static struct guest_memory mem;

static void setup(void)
{
	rig_setup();
	make_memory(&mem, GUEST_MEMORY_MEMFD);
	fill_memory(&mem, 1);
	check_ok(guest_memory_dirty_start(&mem, &err), &err);
}

static void teardown(void)
{
	guest_memory_finish(&mem);
	rig_teardown();
}

static void collect(struct snapshot_writer *w)
{
	for (uint32_t i = 0; i < mem.region_count; i++) {
		uint64_t bits, *pages = snapshot_writer_pages(w, i, &bits);

		check_ok(guest_region_dirty_collect(&mem, i, pages, bits, &err), &err);
	}
}

/* As the guest goes on: new pages, others, zeroes where something was. */
static void live_on(uint32_t seed)
{
	fill_page(&mem, 5 * PAGE, seed);
	fill_page(&mem, (600 + seed) * PAGE, seed);
	fill_page(&mem, HIGH_GPA + seed * PAGE, seed);
	ck_assert(guest_memory_zero(&mem, (510 + seed % 4) * PAGE, PAGE));
	ck_assert(guest_memory_zero(&mem, HIGH_GPA + MIB(3) + seed * PAGE, 2 * PAGE));
}

/* Saves while the memory changes; `want` gets what it was in the pause. */
static int save_live(struct snapshot_paths paths, const struct snapshot_paths *parent,
		     bool compress, struct guest_memory *want)
{
	struct snapshot_writer_config config = {
		.paths = paths, .mem = &mem, .pagemap_fd = pagemap, .compress = compress
	};
	struct snapshot_writer *w = NULL;
	int r;

	config.parent = parent != NULL ? *parent : config.parent;
	r = snapshot_writer_create(&w, &config, &err);
	r = r == 0 ? snapshot_writer_begin_live(w, &err) : r;
	if (r < 0) {
		snapshot_writer_destroy(w);
		return r;
	}
	if (parent == NULL) {
		check_ok(snapshot_writer_scan(w, &err), &err);
	}
	for (uint32_t seed = 1; seed < 4; seed++) {
		collect(w);
		check_ok(snapshot_writer_pass(w, &err), &err);
		live_on(seed);
	}
	collect(w);
	make_memory(want, GUEST_MEMORY_MEMFD);
	for (uint32_t i = 0; i < mem.region_count; i++) {
		memcpy(want->regions[i].host, mem.regions[i].host, mem.regions[i].size);
	}
	snapshot_writer_hold(w);
	live_on(9);
	fill_memory(&mem, 99);
	check_ok(snapshot_writer_settle(w, &err), &err);
	check_ok(snapshot_writer_commit(w, contents(), &err), &err);
	snapshot_writer_destroy(w);
	return 0;
}

static bool have_zstd(void)
{
	struct snapshot_writer_config config = { .mem = &mem, .pagemap_fd = -1, .compress = true };
	struct snapshot_writer *w = NULL;
	int r;

	config.paths = in_directory("try");
	r = snapshot_writer_create(&w, &config, &err);
	snapshot_writer_destroy(w);
	return r == 0;
}

/* & 1: compressed; & 2: two files. */
START_TEST(test_live)
{
	struct snapshot_paths full = in_directory("full"), diff = in_directory("diff");
	struct guest_memory want;
	bool compress = (_i & 1) != 0;

	if (compress && !have_zstd()) {
		CHECK_SKIP("vmm was built without zstd");
	}
	if ((_i & 2) != 0) {
		full = in_files("full.s", "full.m");
		diff = in_files("diff.s", "diff.m");
	}
	check_ok(save_live(full, NULL, compress, &want), &err);
	check_has(full, &want);
	guest_memory_finish(&want);
	check_ok(save_live(diff, &full, compress, &want), &err);
	check_has(diff, &want);
	guest_memory_finish(&want);
	ck_assert_int_eq(entries_of(top), (_i & 2) != 0 ? 4 : 2);
	if ((_i & 2) == 0) {
		ck_assert_int_eq(entries_of(path_of("full")), 2);
	}
}
END_TEST

START_TEST(test_live_into_descriptors)
{
	struct guest_memory want;
	int fds[2];
	struct snapshot_paths paths = { .fds = fds };

	for (int i = 0; i < 2; i++) {
		fds[i] = memfd_create("snapshot", MFD_CLOEXEC);
		ck_assert_int_ge(fds[i], 0);
	}
	if (have_zstd()) {
		ck_assert_int_lt(save_live(paths, NULL, true, &want), 0);
		check_error(&err, ERROR_NOT_SUPPORTED, "merge");
	}
	ck_assert_int_eq(ftruncate(fds[0], 0), 0);
	ck_assert_int_eq(ftruncate(fds[1], 0), 0);
	check_ok(save_live(paths, NULL, false, &want), &err);
	check_has(paths, &want);
	guest_memory_finish(&want);
}
END_TEST

CHECK_MAIN("snapshot_live", CHECK_FIXTURE(setup, teardown); CHECK_LOOP(test_live, 4);
	   CHECK_TEST(test_live_into_descriptors))
