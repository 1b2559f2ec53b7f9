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
#define CELL_SIZE      64
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

static const char *show_name(char cell[CELL_SIZE], const struct stats_row *row)
{
	(void)cell;
	return row->name;
}

static const char *show_state(char cell[CELL_SIZE], const struct stats_row *row)
{
	(void)cell;
	return row->state;
}

static const char *show_number(char cell[CELL_SIZE], const struct stats_row *row, double value,
			       int decimals)
{
	if (!row->known) {
		return "-";
	}
	(void)snprintf(cell, CELL_SIZE, "%.*f", decimals, value);
	return cell;
}

static const char *show_cpu(char cell[CELL_SIZE], const struct stats_row *row)
{
	return show_number(cell, row, row->cpu_percent, 1);
}

static const char *show_exits(char cell[CELL_SIZE], const struct stats_row *row)
{
	return show_number(cell, row, row->exits_per_s, 0);
}

static const char *show_rate(char cell[CELL_SIZE], const struct stats_row *row, double rate)
{
	char figure[FIGURE_SIZE];

	if (!row->known) {
		return "-";
	}
	(void)snprintf(cell, CELL_SIZE, "%s", show_bytes(figure, (uint64_t)rate));
	return cell;
}

static const char *show_disk(char cell[CELL_SIZE], const struct stats_row *row)
{
	return show_rate(cell, row, row->disk_per_s);
}

static const char *show_net(char cell[CELL_SIZE], const struct stats_row *row)
{
	return show_rate(cell, row, row->net_per_s);
}

static const char *show_memory(char cell[CELL_SIZE], const struct stats_row *row)
{
	char resident[FIGURE_SIZE], size[FIGURE_SIZE];

	if (!row->answered) {
		return "-";
	}
	(void)snprintf(cell, CELL_SIZE, "%s / %s", show_bytes(resident, row->resident),
		       show_bytes(size, row->memory));
	return cell;
}

static const char *show_up(char cell[CELL_SIZE], const struct stats_row *row)
{
	char figure[FIGURE_SIZE];

	if (!row->answered) {
		return "-";
	}
	(void)snprintf(cell, CELL_SIZE, "%s", show_duration(figure, row->uptime_s));
	return cell;
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

/* In the order in which they are shown; rank 0 always is. */
static const struct column {
	const char *title;
	unsigned int width, rank;
	bool left;
	const char *(*show)(char cell[CELL_SIZE], const struct stats_row *row); /* NULL: bars */
} columns[] = {
	{ "NAME", 20, 0, true, show_name },	 { "STATE", 14, 5, true, show_state },
	{ "CPU%", 7, 1, false, show_cpu },	 { "EXITS/S", 9, 7, false, show_exits },
	{ "DISK/S", 7, 3, false, show_disk },	 { "NET/S", 7, 4, false, show_net },
	{ "MEMORY", 13, 2, false, show_memory }, { "UP", 5, 6, false, show_up },
	{ "CPU", STATS_HISTORY, 8, true, NULL },
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

static void print_line(const struct stats_view *view, const struct stats_row *row, FILE *out)
{
	unsigned int name, rank = choose(view, &name);

	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		const struct column *column = &columns[i];
		int width = (int)(i == 0 ? name : column->width);
		char cell[CELL_SIZE];
		const char *text = column->title;

		if (column->rank > rank) {
			continue;
		}
		if (i != 0) {
			(void)fputc(' ', out);
		}
		if (row != NULL && column->show == NULL) {
			print_history(view, row->history, out);
			continue;
		}
		if (row != NULL) {
			text = column->show(cell, row);
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
