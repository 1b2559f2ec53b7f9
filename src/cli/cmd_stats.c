// SPDX-License-Identifier: Apache-2.0
/*
 * vmm stats: what VMs do at the moment, from the difference of two answers to GET /vm. On a terminal
 * the table is drawn over itself, as wide and high as the window, and the key q ends it; otherwise each
 * sample is a block of its own, and with --json a line each. VMs come and go meanwhile: each round
 * looks for them anew. How the table looks: stats_view.c.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "exit_codes.h"
#include "stats_view.h"
#include "terminal.h"
#include "vm_status.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"
#include "vmm/run_directory.h"

#define ANSWER_MS 1000
#define NS_PER_MS 1000000ULL
#define NS_PER_S  1000000000ULL

struct sample {
	char name[80];
	struct vm_status status;
	uint64_t time_ns; /* 0: none before */
	struct stats_history history;
};

struct samples {
	struct sample *list;
	size_t count;
};

struct stats {
	struct common_options common;
	uint64_t interval_ns;
	uint32_t count;
	char **names;
	int name_count; /* 0: all that live */
};

static const struct option option_list[] = {
	{ .name = "interval",
	  .type = OPTION_DURATION,
	  .offset = offsetof(struct stats, interval_ns),
	  .min = 100 * NS_PER_MS,
	  .max = 3600 * NS_PER_S,
	  .unit = "100ms to 1h",
	  .argument = "TIME",
	  .fallback = "1s",
	  .help = "between two samples" },
	{ .name = "count",
	  .type = OPTION_U32,
	  .offset = offsetof(struct stats, count),
	  .argument = "N",
	  .fallback = "0",
	  .help = "end after so many samples, 0 for never" },
	OPTION_INCLUDED(struct stats, common, common_options),
};
static const struct option_table table = OPTION_TABLE("stats", option_list);

static void free_samples(struct samples *samples)
{
	free(take_ptr(samples->list));
	samples->count = 0;
}

/* The names that this round is about. */
static int choose(const struct stats *stats, struct samples *samples, struct error *e)
{
	struct run_entry *entries = NULL;
	size_t count = 0;
	int r = stats->name_count == 0 ? run_directory_list(&entries, &count, e) : 0;

	if (r < 0) {
		return r;
	}
	samples->list = calloc(count + (size_t)stats->name_count + 1, sizeof(*samples->list));
	for (size_t i = 0; samples->list != NULL && i < count; i++) {
		if (entries[i].alive) {
			struct sample *sample = &samples->list[samples->count++];

			(void)snprintf(sample->name, sizeof(sample->name), "%s", entries[i].name);
		}
	}
	for (int i = 0; samples->list != NULL && i < stats->name_count; i++) {
		struct sample *sample = &samples->list[samples->count++];

		(void)snprintf(sample->name, sizeof(sample->name), "%s", stats->names[i]);
	}
	free(entries);
	return samples->list != NULL ? 0 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
}

static int take(const struct stats *stats, struct samples *samples, struct error *e)
{
	auto_free struct vm_asked *asked = NULL;
	int r = choose(stats, samples, e);

	if (r < 0) {
		return r;
	}
	asked = calloc(samples->count + 1, sizeof(*asked));
	if (asked == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < samples->count; i++) {
		asked[i].name = samples->list[i].name;
	}
	vm_status_ask(asked, samples->count, ANSWER_MS);
	for (size_t i = 0; i < samples->count; i++) {
		samples->list[i].status = asked[i].status;
		samples->list[i].time_ns = loop_now_ns();
	}
	return 0;
}

static const struct sample *find_sample(const struct samples *samples, const char *name)
{
	for (size_t i = 0; i < samples->count; i++) {
		if (strcmp(samples->list[i].name, name) == 0) {
			return &samples->list[i];
		}
	}
	return NULL;
}

/*
 * Between two samples of one start: a VM that was ended and started again begins at 0. The history of
 * the one before goes on in this one.
 */
static struct stats_row make_row(const struct sample *before, struct sample *now)
{
	const struct vm_status *status = &now->status;
	struct stats_row row = { .name = now->name,
				 .state = status->state,
				 .answered = status->answered,
				 .resident = status->resident,
				 .memory = status->memory,
				 .uptime_s = status->uptime_ms / 1000,
				 .history = &now->history };
	double seconds;

	if (before == NULL || !before->status.answered || !status->answered ||
	    now->time_ns <= before->time_ns || status->pid != before->status.pid ||
	    status->cpu_time_us < before->status.cpu_time_us ||
	    status->exits < before->status.exits ||
	    status->disk_bytes < before->status.disk_bytes ||
	    status->net_bytes < before->status.net_bytes) {
		return row;
	}
	seconds = (double)(now->time_ns - before->time_ns) / 1e9;
	row.known = true;
	row.cpu_percent =
		(double)(status->cpu_time_us - before->status.cpu_time_us) / 1e4 / seconds;
	row.exits_per_s = (double)(status->exits - before->status.exits) / seconds;
	row.disk_per_s = (double)(status->disk_bytes - before->status.disk_bytes) / seconds;
	row.net_per_s = (double)(status->net_bytes - before->status.net_bytes) / seconds;
	now->history = before->history;
	stats_history_add(&now->history, row.cpu_percent, status->vcpus);
	return row;
}

static json_t *describe(const struct sample *now, const struct stats_row *row)
{
	const struct vm_status *status = &now->status;
	json_t *object = json_pack("{s:s, s:s}", "name", now->name, "state", status->state);

	if (status->answered) {
		(void)json_object_update_new(
			object, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "uptime_ms",
					  (json_int_t)status->uptime_ms, "memory_bytes",
					  (json_int_t)status->memory, "resident_bytes",
					  (json_int_t)status->resident, "cpu_time_us",
					  (json_int_t)status->cpu_time_us, "exits",
					  (json_int_t)status->exits, "disk_bytes",
					  (json_int_t)status->disk_bytes, "net_bytes",
					  (json_int_t)status->net_bytes));
	}
	if (row->known) {
		(void)json_object_update_new(
			object, json_pack("{s:f, s:f, s:f, s:f}", "cpu_percent", row->cpu_percent,
					  "exits_per_s", row->exits_per_s, "disk_bytes_per_s",
					  row->disk_per_s, "net_bytes_per_s", row->net_per_s));
	}
	return object;
}

static bool speaks_utf8(void)
{
	static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *value = getenv(names[i]);

		if (value != NULL && value[0] != '\0') {
			return strcasestr(value, "utf-8") != NULL ||
			       strcasestr(value, "utf8") != NULL;
		}
	}
	return false;
}

static int show_json(const struct samples *before, struct samples *now)
{
	json_t *list = json_array();

	for (size_t i = 0; i < now->count; i++) {
		struct sample *sample = &now->list[i];
		struct stats_row row = make_row(find_sample(before, sample->name), sample);

		(void)json_array_append_new(list, describe(sample, &row));
	}
	return command_print_json(list, false);
}

static void show_table(const struct samples *before, struct samples *now, bool redraw)
{
	struct stats_view view = { .utf8 = speaks_utf8() };
	unsigned short columns, rows;
	size_t room = SIZE_MAX;

	if (redraw && terminal_window_size(&columns, &rows)) {
		view.width = columns;
		room = rows > 2 ? rows - 2U : 1; /* header, and the line that the cursor is in */
	}
	if (redraw) {
		(void)fputs("\x1b[H\x1b[J", stdout); /* to the top, and empty from there on */
	}
	stats_view_header(&view, stdout);
	for (size_t i = 0; i < now->count; i++) {
		struct sample *sample = &now->list[i];
		struct stats_row row = make_row(find_sample(before, sample->name), sample);

		if (i < room) {
			stats_view_row(&view, &row, stdout);
		}
	}
	if (!redraw) {
		(void)putchar('\n');
	} else if (now->count > room) {
		(void)printf("and %zu more", now->count - room);
	}
}

/* Waits for the next sample; true if the user has pressed q meanwhile. */
static bool wait_for_key(uint64_t ns, bool keys)
{
	struct pollfd input = { .fd = keys ? STDIN_FILENO : -1, .events = POLLIN };
	uint64_t end = loop_now_ns() + ns;

	for (uint64_t now = loop_now_ns(); now < end; now = loop_now_ns()) {
		char key;

		if (poll(&input, 1, (int)((end - now) / NS_PER_MS) + 1) <= 0) {
			continue;
		}
		if (read(STDIN_FILENO, &key, 1) != 1) {
			input.fd = -1; /* the terminal is gone: what ends us is something else */
		} else if (key == 'q' || key == 'Q') {
			return true;
		}
	}
	return false;
}

/* Until --count, the key q, the reader's end, or that of every VM that was named. */
static int watch(const struct stats *stats, bool redraw, bool keys, struct error *e)
{
	struct samples before = { 0 }, now = { 0 };
	bool more = true;
	int code = EXIT_OK;
	int r = take(stats, &before, e);

	for (uint32_t i = 0; r == 0 && more; i++) {
		bool some = stats->name_count == 0;

		if (wait_for_key(stats->interval_ns, keys)) {
			break;
		}
		r = take(stats, &now, e);
		if (r < 0) {
			break;
		}
		if (stats->common.json) {
			code = show_json(&before, &now);
		} else {
			show_table(&before, &now, redraw);
		}
		for (size_t j = 0; j < now.count; j++) {
			some |= strcmp(now.list[j].status.state, "ended") != 0;
		}
		more = code == EXIT_OK && fflush(stdout) == 0 && some &&
		       (stats->count == 0 || i + 1 < stats->count);
		free_samples(&before);
		before = now;
		now = (struct samples){ 0 };
	}
	free_samples(&before);
	free_samples(&now);
	return r < 0 ? command_fail(e) : code;
}

/* A process beside this one sees to it that the terminal is as before, whatever ends us. */
static int watch_on_terminal(const struct stats *stats, struct error *e)
{
	struct terminal terminal = { .guardian_fd = -1 };
	int code, r;

	terminal_init(&terminal);
	r = terminal_guard(&terminal, e);
	if (r == 0) {
		r = terminal_enter_keys(&terminal, e);
	}
	code = r == 0 ? watch(stats, true, terminal.present, e) : command_fail(e);
	terminal_finish(&terminal);
	return code;
}

static int run(int argc, char **argv)
{
	struct stats stats = { 0 };
	struct error e = { 0 };
	int code;
	int count = command_parse(&command_stats, &stats, &stats.common.help, argc, argv, &code);

	if (count < 0) {
		return code;
	}
	stats.names = argv + 1;
	stats.name_count = count;
	for (int i = 0; i < count; i++) {
		auto_close int dir_fd = -1;
		bool alive;

		if (run_directory_find(stats.names[i], &dir_fd, &alive, &e) < 0) {
			return command_fail(&e);
		}
	}
	if (stats.common.json || isatty(STDOUT_FILENO) == 0) {
		return watch(&stats, false, false, &e);
	}
	return watch_on_terminal(&stats, &e);
}

static const struct command_example examples[] = {
	{ "vmm stats", "all VMs, once a second, until q" },
	{ "vmm stats --json --count 60 web > stats.jsonl", "a minute of one VM, an array a line" },
	{ NULL, NULL },
};

const struct command command_stats = {
	.name = "stats",
	.operands = " [NAME...]",
	.help = "show what VMs do, live",
	.options = &table,
	.run = run,
	.description =
		"Shows processor time (100 % is one processor of the host, spent by the virtual "
		"ones), exits from the guest per second, bytes per second of disks and network "
		"cards, and memory: what the process has of the host's, and what the guest was "
		"given. Without names: all VMs that live.\n\n"
		"On a terminal the table is drawn over itself, with bars of the processor time of "
		"the last samples, and q ends it; what a narrow window has no room for is left "
		"out. Otherwise each sample is a table of its own, with --json an array on one "
		"line.",
	.examples = examples,
};
