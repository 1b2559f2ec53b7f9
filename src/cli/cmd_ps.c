// SPDX-License-Identifier: Apache-2.0
/*
 * vmm ps: the VMs of this user. Which there are, and which live, say their directories; the rest
 * says each VM itself, within ANSWER_MS, so that one that is stuck is shown as such and holds up
 * nobody.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "end_report.h"
#include "exit_codes.h"
#include "parked.h"
#include "vm_status.h"
#include "vmm/cleanup.h"
#include "vmm/run_directory.h"

#define ANSWER_MS 1000

struct ps {
	struct common_options common;
	bool all, names;
};

static const struct option option_list[] = {
	{ .name = "all",
	  .letter = 'a',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct ps, all),
	  .help = "also VMs that have ended, or are defined" },
	{ .name = "names",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct ps, names),
	  .help = "print only the names" },
	OPTION_INCLUDED(struct ps, common, common_options),
};
static const struct option_table table = OPTION_TABLE("ps", option_list);

struct view {
	struct run_entry *entries;
	/* Of each. */
	struct vm_asked *asked;
	struct end_report *ends;
	size_t count;
};

static void look_at_ended(const struct run_entry *entry, struct vm_status *status,
			  struct end_report *end)
{
	auto_close int dir_fd = -1;
	bool alive;

	(void)snprintf(status->state, sizeof(status->state), entry->left ? "ended" : "defined");
	if (parked_state(entry->name) == PARKED_PARKED) {
		(void)snprintf(status->state, sizeof(status->state), "parked");
		return;
	}
	if (entry->left && run_directory_find(entry->name, &dir_fd, &alive, NULL) == 0) {
		end_report_read(end, dir_fd);
	}
}

static int fill(struct view *view, struct error *e)
{
	view->asked = calloc(view->count + 1, sizeof(*view->asked));
	view->ends = calloc(view->count + 1, sizeof(*view->ends));
	if (view->asked == NULL || view->ends == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < view->count; i++) {
		view->asked[i].name = view->entries[i].alive ? view->entries[i].name : NULL;
	}
	vm_status_ask(view->asked, view->count, ANSWER_MS);
	for (size_t i = 0; i < view->count; i++) {
		struct vm_status *status = &view->asked[i].status;

		if (!view->entries[i].alive || strcmp(status->state, "ended") == 0) {
			look_at_ended(&view->entries[i], status, &view->ends[i]);
		}
	}
	return 0;
}

/* A line of the table, as words. */
struct line {
	char name[80], state[48], cpus[24], memory[2 * FIGURE_SIZE + 4], up[FIGURE_SIZE], pid[24];
};

static void make_line(struct line *line, const struct view *view, size_t i)
{
	const struct vm_status *status = &view->asked[i].status;
	const char *reason = view->ends[i].reason;
	char resident[FIGURE_SIZE], size[FIGURE_SIZE];

	*line = (struct line){ .cpus = "-", .memory = "-", .up = "-", .pid = "-" };
	(void)snprintf(line->name, sizeof(line->name), "%s", view->entries[i].name);
	(void)snprintf(line->state, sizeof(line->state), "%s", status->state);
	if (status->moving != NULL) {
		(void)snprintf(line->state, sizeof(line->state), "%s (%s)", status->state,
			       status->moving);
	}
	if (reason[0] != '\0') {
		(void)snprintf(line->state, sizeof(line->state), "ended (%s)", reason);
	}
	if (status->answered) {
		(void)snprintf(line->cpus, sizeof(line->cpus), "%" PRIu64, status->vcpus);
		(void)snprintf(line->memory, sizeof(line->memory), "%s / %s",
			       show_bytes(resident, status->resident),
			       show_bytes(size, status->memory));
		(void)show_duration(line->up, status->uptime_ms / 1000);
	}
	if (status->pid != 0) {
		(void)snprintf(line->pid, sizeof(line->pid), "%" PRIu64, status->pid);
	}
}

static void print_line(const struct line *line, int name_width, int state_width)
{
	(void)printf("%-*s %-*s %4s  %-15s %5s  %7s\n", name_width, line->name, state_width,
		     line->state, line->cpus, line->memory, line->up, line->pid);
}

/* Columns are as wide as what stands in them. */
static int print_table(const struct view *view)
{
	const struct line head = { "NAME", "STATE", "CPUS", "MEMORY", "UP", "PID" };
	struct line *lines = calloc(view->count + 1, sizeof(*lines));
	size_t name_width = 20, state_width = 16;
	struct error e = { 0 };

	if (lines == NULL) {
		(void)error_set(&e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		return command_fail(&e);
	}
	for (size_t i = 0; i < view->count; i++) {
		make_line(&lines[i], view, i);
		name_width = MAX(name_width, strlen(lines[i].name));
		state_width = MAX(state_width, strlen(lines[i].state));
	}
	print_line(&head, (int)name_width, (int)state_width);
	for (size_t i = 0; i < view->count; i++) {
		print_line(&lines[i], (int)name_width, (int)state_width);
	}
	free(lines);
	return EXIT_OK;
}

static json_t *describe_row(const struct view *view, size_t i)
{
	const struct vm_status *status = &view->asked[i].status;
	const struct end_report *end = &view->ends[i];
	json_t *object =
		json_pack("{s:s, s:s}", "name", view->entries[i].name, "state", status->state);

	if (status->answered) {
		(void)json_object_update_new(object,
					     json_pack("{s:I, s:I, s:I, s:I}", "vcpu_count",
						       (json_int_t)status->vcpus, "memory_bytes",
						       (json_int_t)status->memory, "resident_bytes",
						       (json_int_t)status->resident, "uptime_ms",
						       (json_int_t)status->uptime_ms));
	}
	if (status->moving != NULL) {
		(void)json_object_set_new(object, "migration", json_string(status->moving));
	}
	if (status->pid != 0) {
		(void)json_object_set_new(object, "pid", json_integer((json_int_t)status->pid));
	}
	if (end->reason[0] != '\0') {
		(void)json_object_update_new(object, json_pack("{s:s, s:i}", "reason", end->reason,
							       "exit_code", end->exit_code));
	}
	return object;
}

static int print_json(const struct view *view)
{
	json_t *list = json_array();

	for (size_t i = 0; i < view->count; i++) {
		(void)json_array_append_new(list, describe_row(view, i));
	}
	return command_print_json(list, true);
}

static int list(struct view *view, bool all, struct error *e)
{
	size_t kept = 0;
	int r = all ? run_directory_list_all(&view->entries, &view->count, e)
		    : run_directory_list(&view->entries, &view->count, e);

	for (size_t i = 0; r == 0 && i < view->count; i++) {
		if (all || view->entries[i].alive) {
			view->entries[kept++] = view->entries[i];
		}
	}
	view->count = kept;
	return r;
}

static int run(int argc, char **argv)
{
	struct ps ps = { 0 };
	struct view view = { 0 };
	struct error e = { 0 };
	int code, r;

	if (command_parse_exactly(&command_ps, &ps, &ps.common.help, 0, 0, argc, argv, &code) < 0) {
		return code;
	}
	r = list(&view, ps.all, &e);
	if (r == 0 && ps.names) {
		for (size_t i = 0; i < view.count; i++) {
			(void)puts(view.entries[i].name);
		}
		code = EXIT_OK;
	} else {
		r = r == 0 ? fill(&view, &e) : r;
		code = r < 0		? command_fail(&e)
		       : ps.common.json ? print_json(&view)
					: print_table(&view);
	}
	free(view.asked);
	free(view.ends);
	free(view.entries);
	return code;
}

static const struct command_example examples[] = {
	{ "vmm ps -a", "every VM, also those that have ended and left their log" },
	{ "vmm ps --json | jq -r '.[] | select(.state == \"paused\").name'",
	  "the names of those that are paused" },
	{ NULL, NULL },
};

const struct command command_ps = {
	.name = "ps",
	.operands = "",
	.help = "list the VMs",
	.options = &table,
	.run = run,
	.description =
		"Lists the VMs of this user: name, state, processors, memory (what the process has "
		"of the host's, and what the guest was given), time since the start, and process. "
		"A VM that does not answer within a second is shown as 'not answering'.\n\n"
		"With --all also those that do not live: *ended*, with the reason, as long as what "
		"they have left is there; *defined* if there is a definition alone, by vmm create "
		"or since the host has restarted; *parked* those that vmm unpark lets go on. vmm "
		"start "
		"starts the others, vmm rm removes them.",
	.examples = examples,
};
