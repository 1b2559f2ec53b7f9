// SPDX-License-Identifier: Apache-2.0
/*
 * vmm stats: what VMs do at the moment, from the difference of two answers to GET /vm. On a terminal
 * the table is drawn over itself; otherwise each sample is a block of its own, and with --json a line
 * each. VMs come and go meanwhile: each round looks for them anew.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "exit_codes.h"
#include "vm_status.h"
#include "vmm/cleanup.h"
#include "vmm/run_directory.h"

#define ANSWER_MS 1000
#define NS_PER_MS 1000000ULL
#define NS_PER_S  1000000000ULL

struct sample {
	char name[80];
	struct vm_status status;
	uint64_t time_ns; /* 0: none before */
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
	{ .type = OPTION_INCLUDE,
	  .offset = offsetof(struct stats, common),
	  .object = &common_options },
};
static const struct option_table table = {
	.name = "stats",
	.options = option_list,
	.count = ARRAY_SIZE(option_list),
};

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

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
	struct vm_status *statuses = NULL;
	int *dir_fds = NULL;
	int r = choose(stats, samples, e);

	if (r < 0) {
		return r;
	}
	statuses = calloc(samples->count + 1, sizeof(*statuses));
	dir_fds = calloc(samples->count + 1, sizeof(*dir_fds));
	if (statuses == NULL || dir_fds == NULL) {
		free(statuses);
		free(dir_fds);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < samples->count; i++) {
		bool alive = false;

		dir_fds[i] = -1;
		(void)snprintf(statuses[i].state, sizeof(statuses[i].state), "ended");
		if (run_directory_find(samples->list[i].name, &dir_fds[i], &alive, NULL) == 0 &&
		    !alive) {
			close_fd(&dir_fds[i]);
		}
	}
	vm_status_ask(statuses, dir_fds, samples->count, ANSWER_MS);
	for (size_t i = 0; i < samples->count; i++) {
		samples->list[i].status = statuses[i];
		samples->list[i].time_ns = now_ns();
		close_fd(&dir_fds[i]);
	}
	free(statuses);
	free(dir_fds);
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

struct rates {
	bool known;
	double cpu_percent, exits_per_s; /* 100 % is one processor */
};

/* Between two samples of one start: a VM that was ended and started again begins at 0. */
static struct rates rates_between(const struct sample *before, const struct sample *now)
{
	struct rates rates = { 0 };
	double seconds;

	if (before == NULL || !before->status.answered || !now->status.answered ||
	    now->time_ns <= before->time_ns || now->status.pid != before->status.pid ||
	    now->status.cpu_time_us < before->status.cpu_time_us ||
	    now->status.exits < before->status.exits) {
		return rates;
	}
	seconds = (double)(now->time_ns - before->time_ns) / 1e9;
	rates.known = true;
	rates.cpu_percent =
		(double)(now->status.cpu_time_us - before->status.cpu_time_us) / 1e4 / seconds;
	rates.exits_per_s = (double)(now->status.exits - before->status.exits) / seconds;
	return rates;
}

static void print_line(const struct sample *now, const struct rates *rates)
{
	const struct vm_status *status = &now->status;
	char cpu[24] = "-", exits[24] = "-", memory[48] = "-", up[FIGURE_SIZE] = "-";
	char resident[FIGURE_SIZE], size[FIGURE_SIZE];

	if (rates->known) {
		(void)snprintf(cpu, sizeof(cpu), "%.1f", rates->cpu_percent);
		(void)snprintf(exits, sizeof(exits), "%.0f", rates->exits_per_s);
	}
	if (status->answered) {
		(void)snprintf(memory, sizeof(memory), "%s / %s",
			       show_bytes(resident, status->resident),
			       show_bytes(size, status->memory));
		(void)show_duration(up, status->uptime_ms / 1000);
	}
	(void)printf("%-20s %-14s %7s %9s  %-15s %5s\n", now->name, status->state, cpu, exits,
		     memory, up);
}

static json_t *describe(const struct sample *now, const struct rates *rates)
{
	const struct vm_status *status = &now->status;
	json_t *object = json_pack("{s:s, s:s}", "name", now->name, "state", status->state);

	if (status->answered) {
		(void)json_object_update_new(
			object, json_pack("{s:I, s:I, s:I, s:I, s:I}", "uptime_ms",
					  (json_int_t)status->uptime_ms, "memory_bytes",
					  (json_int_t)status->memory, "resident_bytes",
					  (json_int_t)status->resident, "cpu_time_us",
					  (json_int_t)status->cpu_time_us, "exits",
					  (json_int_t)status->exits));
	}
	if (rates->known) {
		(void)json_object_update_new(object, json_pack("{s:f, s:f}", "cpu_percent",
							       rates->cpu_percent, "exits_per_s",
							       rates->exits_per_s));
	}
	return object;
}

static int show(const struct stats *stats, const struct samples *before, const struct samples *now,
		bool redraw)
{
	json_t *list = stats->common.json ? json_array() : NULL;

	if (redraw) {
		(void)fputs("\x1b[H\x1b[J", stdout); /* to the top, and empty from there on */
	}
	if (!stats->common.json) {
		(void)printf("%-20s %-14s %7s %9s  %-15s %5s\n", "NAME", "STATE", "CPU%", "EXITS/S",
			     "MEMORY", "UP");
	}
	for (size_t i = 0; i < now->count; i++) {
		const struct sample *sample = &now->list[i];
		struct rates rates = rates_between(find_sample(before, sample->name), sample);

		if (stats->common.json) {
			(void)json_array_append_new(list, describe(sample, &rates));
		} else {
			print_line(sample, &rates);
		}
	}
	if (stats->common.json) {
		return command_print_json(list, false);
	}
	if (!redraw) {
		(void)putchar('\n');
	}
	return EXIT_OK;
}

static void sleep_ns(uint64_t ns)
{
	struct timespec left = { .tv_sec = (time_t)(ns / NS_PER_S),
				 .tv_nsec = (long)(ns % NS_PER_S) };

	while (nanosleep(&left, &left) < 0 && errno == EINTR) {
	}
}

/* Until --count, the reader's end, or that of every VM that was named. */
static int watch(const struct stats *stats, struct error *e)
{
	bool redraw = !stats->common.json && isatty(STDOUT_FILENO) != 0;
	struct samples before = { 0 }, now = { 0 };
	bool more = true;
	int code = EXIT_OK;
	int r = take(stats, &before, e);

	for (uint32_t i = 0; r == 0 && more; i++) {
		bool some = stats->name_count == 0;

		sleep_ns(stats->interval_ns);
		r = take(stats, &now, e);
		if (r < 0) {
			break;
		}
		code = show(stats, &before, &now, redraw);
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
	return watch(&stats, &e);
}

static const struct command_example examples[] = {
	{ "vmm stats", "all VMs, once a second, until Ctrl-C" },
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
		"ones), exits from the guest per second, and memory: what the process has of the "
		"host's, and what the guest was given. Without names: all VMs that live.\n\n"
		"On a terminal the table is drawn over itself. Otherwise each sample is a table of "
		"its own, with --json an array on one line.",
	.examples = examples,
};
