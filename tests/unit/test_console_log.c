/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console hub's log: what is in it, its bounds, and what goes wrong with it.
 */
#include "harness/hub_rig.h"

START_TEST(test_log)
{
	make();
	output("before ", 7);
	log_to_file();
	expect_log("before ");
	for (const char *c = "a byte at a time"; *c != '\0'; c++) {
		output(c, 1);
	}
	ck_assert_ptr_nonnull(loop.posts_head);
	ck_assert_ptr_null(loop.posts_head->next);
	settle_log();
	expect_log("before a byte at a time");
	output("!", 1);
	settle_log();
	expect_log("before a byte at a time!");
	output(" end", 4);
	console_hub_destroy(hub, 0);
	hub = NULL;
	expect_log("before a byte at a time! end");
}
END_TEST

/* The timer does not hold up what would overrun the ring. */
START_TEST(test_log_keeps_up)
{
	struct reader reader = { 0 };
	size_t len;
	char *log;

	make();
	log_to_file();
	for (uint64_t at = 0; at < MIB(2); at += KIB(20)) {
		write_pattern(at, KIB(20));
		ck_assert_int_eq(loop_step(&loop, 0), 0);
	}
	settle_log();
	log = read_log(0, &len);
	check_pattern(&reader, log, len);
	ck_assert_uint_ge(reader.at, MIB(2));
	ck_assert_uint_eq(reader.lost, 0);
	free(log);
}
END_TEST

/* Main was away: the log says what it lacks. */
START_TEST(test_log_lost)
{
	struct reader reader = { 0 };
	size_t len;
	char *log;

	make();
	log_to_file();
	write_pattern(0, KIB(10));
	settle_log();
	write_pattern(KIB(10), KIB(500));
	settle_log();
	log = read_log(0, &len);
	check_pattern(&reader, log, len);
	ck_assert_uint_eq(reader.at, KIB(510));
	ck_assert_uint_eq(reader.lost, KIB(500) - CONSOLE_HUB_RING);
	free(log);
}
END_TEST

START_TEST(test_log_punched)
{
	const uint64_t total = MIB(11) + 777;
	struct reader reader;
	struct stat st;
	size_t len;
	char *log;

	make();
	log_to_file();
	for (uint64_t at = 0; at < total; at += KIB(32)) {
		write_pattern(at, MIN(KIB(32), total - at));
		ck_assert_int_eq(loop_step(&loop, 0), 0);
	}
	settle_log();
	ck_assert_int_eq(fstat(log_fd, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, total);
	ck_assert_uint_le((uint64_t)st.st_blocks * 512, CONSOLE_HUB_LOG_MAX + MIB(1));
	/* The last of it is whole. */
	reader = (struct reader){ .at = total - CONSOLE_HUB_LOG_MAX };
	log = read_log(reader.at, &len);
	check_pattern(&reader, log, len);
	ck_assert_uint_eq(reader.at, total);
	ck_assert_uint_eq(reader.lost, 0);
	ck_assert_int_eq(lseek(log_fd, 0, SEEK_DATA) > 0, 1);
	free(log);
}
END_TEST

START_TEST(test_log_without_holes)
{
	const uint64_t total = MIB(11);
	int messages = begin_messages();
	struct reader reader;
	struct stat st;
	size_t len;
	char *log;

	disk.no_holes = true;
	make();
	log_to_file();
	for (uint64_t at = 0; at < total; at += KIB(32)) {
		write_pattern(at, KIB(32));
		ck_assert_int_eq(loop_step(&loop, 0), 0);
		ck_assert_int_eq(fstat(log_fd, &st), 0);
		ck_assert_uint_le((uint64_t)st.st_size, CONSOLE_HUB_LOG_MAX + MIB(1));
	}
	settle_log();
	/* It began anew twice, and ends with the newest. */
	log = read_log(0, &len);
	ck_assert_uint_gt(len, KIB(64));
	reader = (struct reader){ .at = total - len };
	check_pattern(&reader, log, len);
	ck_assert_uint_eq(reader.at, total);
	free(log);
	ck_assert_int_eq(disk.refused, 1);
	ck_assert_uint_eq(end_messages(messages, "begins anew"), 1);
}
END_TEST

START_TEST(test_log_on_full_disk)
{
	int messages = begin_messages();
	struct console_hub_stats stats;
	size_t client;

	make();
	log_to_file();
	client = attach();
	output("kept ", 5);
	settle_log();
	disk.full = true;
	output("lost", 4);
	settle_log();
	output(" lost", 5);
	settle_log();
	expect(client, "kept lost lost");
	disk.full = false;
	output("kept again", 10);
	settle_log();
	expect_log("kept [9 bytes lost]\r\nkept again");
	console_hub_stats(hub, &stats);
	ck_assert_uint_eq(stats.lost_bytes, 9);
	ck_assert_uint_eq(end_messages(messages, "No space left on device"), 1);
}
END_TEST

CHECK_MAIN("console_log", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_log);
	   CHECK_TEST(test_log_keeps_up); CHECK_TEST(test_log_lost); CHECK_TEST(test_log_punched);
	   CHECK_TEST(test_log_without_holes); CHECK_TEST(test_log_on_full_disk))
