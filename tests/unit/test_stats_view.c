/* SPDX-License-Identifier: Apache-2.0 */
/* The table of `vmm stats`: it fits every window, and what matters most stays longest. */
#include "harness/check_main.h"

#include <string.h>

#include "../../src/cli/stats_view.h"

static struct stats_history history;
static const struct stats_row rows[] = {
	{ .name = "web", .state = "running", .history = &history },
	{ .name = "a-name-that-is-longer-than-any-column-is-wide-and-goes-on",
	  .state = "not answering at all",
	  .answered = true,
	  .known = true,
	  .cpu_percent = 1e30,
	  .exits_per_s = 123456789012,
	  .disk_per_s = 1e18,
	  .net_per_s = 1e18,
	  .resident = UINT64_MAX,
	  .memory = UINT64_MAX,
	  .uptime_s = UINT64_MAX,
	  .history = &history },
};

static char text[4096];

/* Line 0 is the header. */
static const char *line(const struct stats_view *view, size_t number)
{
	FILE *out = fmemopen(text, sizeof(text), "w");

	ck_assert_ptr_nonnull(out);
	if (number == 0) {
		stats_view_header(view, out);
	} else {
		stats_view_row(view, &rows[number - 1], out);
	}
	ck_assert_int_eq(fclose(out), 0);
	ck_assert_uint_gt(strlen(text), 0);
	ck_assert_int_eq(text[strlen(text) - 1], '\n');
	text[strlen(text) - 1] = '\0';
	return text;
}

/* Characters, not bytes. */
static size_t width(const char *at)
{
	size_t count = 0;

	for (; *at != '\0'; at++) {
		count += ((unsigned char)*at & 0xc0) != 0x80 ? 1 : 0;
	}
	return count;
}

static void fill_history(void)
{
	history.count = 0;
	for (int i = 0; i < STATS_HISTORY + 5; i++) {
		stats_history_add(&history, i * 20.0, 2);
	}
}

START_TEST(test_fits_every_window)
{
	fill_history();
	for (unsigned int columns = 1; columns <= 200; columns++) {
		for (int utf8 = 0; utf8 < 2; utf8++) {
			struct stats_view view = { .width = columns, .utf8 = utf8 != 0 };

			for (size_t i = 0; i <= ARRAY_SIZE(rows); i++) {
				const char *shown = line(&view, i);

				ck_assert_msg(width(shown) <= columns, "%u columns: '%s'", columns,
					      shown);
				ck_assert(strpbrk(shown, "\n\x1b") == NULL);
			}
		}
	}
}
END_TEST

/* What is there at a width; at every smaller one there is no more. */
START_TEST(test_narrower_shows_less)
{
	static const char *const titles[] = { "CPU%",  "MEMORY", "DISK/S", "NET/S",
					      "STATE", "UP",	 "EXITS/S" };
	bool gone[ARRAY_SIZE(titles)] = { false };

	for (unsigned int columns = 200; columns > 0; columns--) {
		const struct stats_view view = { .width = columns };
		const char *shown = line(&view, 0);
		bool before = true;

		for (size_t i = 0; i < ARRAY_SIZE(titles); i++) {
			bool there = strstr(shown, titles[i]) != NULL;

			ck_assert_msg(!there || before, "%u columns: %s without those before it",
				      columns, titles[i]);
			ck_assert(!there || !gone[i]);
			gone[i] = !there;
			before = there;
		}
	}
	ck_assert_ptr_nonnull(strstr(line(&(struct stats_view){ .width = 80 }, 0), "NET/S"));
	ck_assert_ptr_nonnull(strstr(line(&(struct stats_view){ .width = 40 }, 0), "MEMORY"));
}
END_TEST

START_TEST(test_not_a_window)
{
	const struct stats_view view = { .width = 0 };

	fill_history();
	ck_assert_ptr_nonnull(strstr(line(&view, 0), "EXITS/S"));
	ck_assert_ptr_nonnull(strstr(line(&view, 2), rows[1].name));
	ck_assert_ptr_nonnull(strstr(line(&view, 2), rows[1].state));
	ck_assert_ptr_null(strchr(line(&view, 1), '#'));
}
END_TEST

START_TEST(test_bars)
{
	const struct stats_view plain = { .width = 200 }, blocks = { .width = 200, .utf8 = true };

	history.count = 0;
	for (int i = 0; i <= 8; i++) {
		stats_history_add(&history, i * 25.0, 2);
	}
	stats_history_add(&history, -5, 2);
	stats_history_add(&history, 1e9, 2);
	stats_history_add(&history, 50, 0);
	ck_assert_ptr_nonnull(strstr(line(&plain, 1), "_.-=+*%##_#_"));
	ck_assert_ptr_nonnull(strstr(line(&blocks, 1), "\u2581\u2582\u2583"));
	/* The oldest goes. */
	fill_history();
	ck_assert_uint_eq(history.count, STATS_HISTORY);
	ck_assert_uint_eq(history.samples[STATS_HISTORY - 1], 255);
	ck_assert_uint_eq(history.samples[0], (uint8_t)(5 * 20.0 / 200 * 255 + 0.5));
}
END_TEST

CHECK_MAIN("stats_view", CHECK_TEST(test_fits_every_window); CHECK_TEST(test_narrower_shows_less);
	   CHECK_TEST(test_not_a_window); CHECK_TEST(test_bars))
