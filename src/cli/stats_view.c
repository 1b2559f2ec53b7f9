/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of `vmm stats`. Every column has a width and a rank: in a window that is too narrow for
 * all, those of the last ranks go first, and the name, which always stays, is cut at the end. Main
 * thread; no state. Names are those of directories, states come from another process: both are
 * printable already (vm_status.c, run_directory.h).
 */
#include "stats_view.h"

#include <string.h>

#include "vm_status.h"

#define NAME_WIDTH_MIN 6
#define CELL_SIZE      80
#define LEVELS	       8

void stats_history_add(struct stats_history *history, double cpu_percent, uint64_t vcpus)
{
	double part = vcpus != 0 ? cpu_percent / (100 * (double)vcpus) : 0;

	if (history->count == STATS_HISTORY) {
		memmove(history->samples, history->samples + 1, STATS_HISTORY - 1);
		history->count--;
	}
	part = part < 0 ? 0 : MIN(part, 1.0);
	history->samples[history->count++] = (uint8_t)(part * 255 + 0.5);
}

/* Bars are drawn with block elements (U+2581 to U+2588), or with what looks most like them. */
static void print_history(const struct stats_view *view, const struct stats_history *history,
			  FILE *out)
{
	static const char *const blocks[] = { "\u2581", "\u2582", "\u2583", "\u2584",
					      "\u2585", "\u2586", "\u2587", "\u2588" };
	static const char marks[] = "_.-=+*%#";

	for (uint32_t i = 0; i < history->count; i++) {
		unsigned int level = MIN((history->samples[i] * LEVELS + 127U) / 255U, LEVELS - 1U);

		if (view->utf8) {
			(void)fputs(blocks[level], out);
		} else {
			(void)fputc(marks[level], out);
		}
	}
}

/* In the order in which they are shown. */
enum { NAME, STATE, CPU, EXITS, DISK, NET, MEMORY, UP, BARS, COLUMNS };

/* Rank 0 always is shown. */
static const struct column {
	const char *title;
	unsigned int width, rank;
	bool left;
} columns[COLUMNS] = {
	[NAME] = { "NAME", 20, 0, true },
	[STATE] = { "STATE", 14, 5, true },
	[CPU] = { "CPU%", 7, 1, false },
	[EXITS] = { "EXITS/S", 9, 7, false },
	[DISK] = { "DISK/S", 7, 3, false },
	[NET] = { "NET/S", 7, 4, false },
	[MEMORY] = { "MEMORY", 13, 2, false },
	[UP] = { "UP", 5, 6, false },
	[BARS] = { "CPU", STATS_HISTORY, 8, true },
};
#define LAST_RANK 8

/* Columns up to the rank that fits, with a blank before each but the first; *name gets what is left
 * for the name. */
static unsigned int choose(const struct stats_view *view, unsigned int *name)
{
	*name = columns[0].width;
	if (view->width == 0) {
		return LAST_RANK - 1;
	}
	for (unsigned int rank = LAST_RANK;; rank--) {
		unsigned int others = 0;

		for (size_t i = 1; i < ARRAY_SIZE(columns); i++) {
			others += columns[i].rank <= rank ? columns[i].width + 1 : 0;
		}
		if (others + NAME_WIDTH_MIN <= view->width) {
			*name = MIN(columns[0].width, view->width - others);
			return rank;
		}
		if (rank == 0) {
			*name = MIN(columns[0].width, view->width);
			return 0;
		}
	}
}

/* What stands in the columns but the bars; "-" where it is not known. */
static void fill_cells(char cells[COLUMNS][CELL_SIZE], const struct stats_row *row)
{
	char figure[FIGURE_SIZE], size[FIGURE_SIZE];

	for (int i = 0; i < COLUMNS; i++) {
		memcpy(cells[i], "-", 2);
	}
	(void)snprintf(cells[NAME], CELL_SIZE, "%s", row->name);
	(void)snprintf(cells[STATE], CELL_SIZE, "%s", row->state);
	if (row->known) {
		(void)snprintf(cells[CPU], CELL_SIZE, "%.1f", row->cpu_percent);
		(void)snprintf(cells[EXITS], CELL_SIZE, "%.0f", row->exits_per_s);
		(void)snprintf(cells[DISK], CELL_SIZE, "%s",
			       show_bytes(figure, (uint64_t)row->disk_per_s));
		(void)snprintf(cells[NET], CELL_SIZE, "%s",
			       show_bytes(figure, (uint64_t)row->net_per_s));
	}
	if (row->answered) {
		(void)snprintf(cells[MEMORY], CELL_SIZE, "%s / %s",
			       show_bytes(figure, row->resident), show_bytes(size, row->memory));
		(void)snprintf(cells[UP], CELL_SIZE, "%s", show_duration(figure, row->uptime_s));
	}
}

static void print_line(const struct stats_view *view, const struct stats_row *row, FILE *out)
{
	unsigned int name, rank = choose(view, &name);
	char cells[COLUMNS][CELL_SIZE];

	if (row != NULL) {
		fill_cells(cells, row);
	}
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		const struct column *column = &columns[i];
		int width = (int)(i == 0 ? name : column->width);
		const char *text = row != NULL ? cells[i] : column->title;

		if (column->rank > rank) {
			continue;
		}
		if (i != 0) {
			(void)fputc(' ', out);
		}
		if (row != NULL && i == BARS) {
			print_history(view, row->history, out);
			continue;
		}
		(void)fprintf(out, "%*.*s", column->left ? -width : width,
			      view->width == 0 ? (int)strlen(text) : width, text);
	}
	(void)fputc('\n', out);
}

void stats_view_header(const struct stats_view *view, FILE *out)
{
	print_line(view, NULL, out);
}

void stats_view_row(const struct stats_view *view, const struct stats_row *row, FILE *out)
{
	print_line(view, row, out);
}
