/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that comes from a snapshot when it is touched: what is saved of it, and what is damaged. Its content: check_has(). */
#include "harness/snapshot_rig.h"

static struct guest_memory mem, lazy;

static void setup(void)
{
	rig_setup();
	make_memory(&mem, GUEST_MEMORY_ANON);
	fill_memory(&mem, 1);
	save_full(&mem, in_directory("s"));
}

static void teardown(void)
{
	guest_memory_finish(&lazy);
	guest_memory_finish(&mem);
	rig_teardown();
}

/* A snapshot of it has what nobody has touched as well, and what was written since. */
START_TEST(test_saved)
{
	check_ok(load_lazily(&lazy, in_directory("s")), &err);
	fill_page(&lazy, 3 * PAGE, 99);
	fill_page(&mem, 3 * PAGE, 99);
	save_full(&lazy, in_directory("t"));
	check_has(in_directory("t"), &mem);
}
END_TEST

/* What cannot be brought is zeroes to who reads it: no snapshot is made of that. */
START_TEST(test_damaged)
{
	/* The first page that is stored; the first of the second region. */
	flip(path_of("s/memory"), _i == 0 ? 100 : 3 * MIB(2) + MIB(2) + 100);
	check_ok(load_lazily(&lazy, in_directory("s")), &err);
	ck_assert_int_lt(save(&lazy, in_directory("t"), NULL, (struct snapshot_watch){ 0 }), 0);
	check_error(&err, ERROR_SNAPSHOT, "checksum");
	ck_assert_int_lt(access(path_of("t"), F_OK), 0);
	ck_assert_int_eq(entries_of(top), 1);
}
END_TEST

CHECK_MAIN("snapshot_lazy", skip_without_userfaultfd(); CHECK_FIXTURE(setup, teardown);
	   CHECK_TEST(test_saved); CHECK_LOOP(test_damaged, 2))
