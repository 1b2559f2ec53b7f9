/* SPDX-License-Identifier: Apache-2.0 */
/* The line that says how far something is: whole parts, whatever the window's width and the figures are. */
#include "harness/check_main.h"

#include <string.h>

#include "../../src/cli/progress.h"

static char line[PROGRESS_LINE_MAX];

static const char *show(const char *phase, uint64_t done, uint64_t total, uint64_t rate,
			int64_t left, unsigned int columns)
{
	const struct progress_figures figures = {
		.phase = phase,
		.done = done,
		.total = total,
		.rate = rate,
		.seconds_left = left < 0 ? 0 : (uint64_t)left,
		.has_left = left >= 0,
	};

	memset(line, 'x', sizeof(line));
	progress_line(line, &figures, columns);
	ck_assert_ptr_nonnull(memchr(line, '\0', sizeof(line)));
	ck_assert_uint_le(strlen(line), columns);
	return line;
}

START_TEST(test_whole)
{
	ck_assert_str_eq(show("memory", MIB(32), MIB(64), MIB(16), 2, 79),
			 "memory  [##############              ]  50%  32M of 64M  16M/s  2s left");
	ck_assert_str_eq(show("memory", 0, MIB(64), 0, -1, 79),
			 "memory  [                            ]   0%  0 of 64M");
	ck_assert_str_eq(show("memory", MIB(64), MIB(64), 0, -1, 79),
			 "memory  [############################] 100%  64M of 64M");
	/* More than all: somebody has counted twice. */
	ck_assert_str_eq(show("memory", MIB(65), MIB(64), 0, -1, 79),
			 "memory  [############################] 100%  65M of 64M");
	ck_assert_str_eq(show("sync", 0, 0, 0, -1, 79), "sync  ");
	ck_assert_str_eq(show("sync", MIB(3), 0, 0, -1, 79), "sync  3.0M");
}
END_TEST

START_TEST(test_narrow)
{
	ck_assert_str_eq(show("memory", MIB(32), MIB(64), MIB(16), 2, 60),
			 "memory  [########         ]  50%  32M of 64M  16M/s  2s left");
	ck_assert_str_eq(show("memory", MIB(32), MIB(64), MIB(16), 2, 40),
			 "memory   50%  32M of 64M  16M/s  2s left");
	ck_assert_str_eq(show("memory", MIB(32), MIB(64), MIB(16), 2, 39),
			 "memory   50%  32M of 64M  16M/s");
	ck_assert_str_eq(show("memory", MIB(32), MIB(64), MIB(16), 2, 4), "memo");
	ck_assert_str_eq(show("memory", MIB(32), MIB(64), MIB(16), 2, 0), "");
}
END_TEST

START_TEST(test_hostile)
{
	for (unsigned int columns = 0; columns < 300; columns++) {
		(void)show("a phase of which there is no end and which goes on", UINT64_MAX,
			   UINT64_MAX, UINT64_MAX, INT64_MAX, columns);
		(void)show("x", UINT64_MAX, 1, 1, 0, columns);
	}
	ck_assert_str_eq(show("me\x1b[2Jmory", 0, 0, 0, -1, 79), "me  ");
	ck_assert_str_eq(show(NULL, 0, 0, 0, -1, 79), "  ");
}
END_TEST

CHECK_MAIN("progress", CHECK_TEST(test_whole); CHECK_TEST(test_narrow); CHECK_TEST(test_hostile))
