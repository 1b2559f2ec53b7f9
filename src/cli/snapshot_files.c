// SPDX-License-Identifier: Apache-2.0
/*
 * vmm snapshot inspect, verify, ls, rm, diff, merge: what can be done with the files of a snapshot and no
 * VM. Of strings in them whoever wrote them controls all: a terminal is not shown their control
 * characters.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exit_codes.h"
#include "snapshot_command.h"
#include "snapshot_disks.h"
#include "vm_status.h"
#include "vmm/calendar.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("snapshot");

#define THREADS_MAX 4
#define TIME_SIZE   32
#define TEXT_SIZE   512
/* Of differences: in words, and as JSON. */
#define RANGES_SHOWN 20
#define RANGES_MAX   100000

static uint32_t threads(void)
{
	const long count = sysconf(_SC_NPROCESSORS_ONLN);

	return count < 1 ? 1 : (uint32_t)MIN(count, (long)THREADS_MAX);
}

static int open_reader(struct snapshot_reader **ret, const char *directory, bool state_only,
		       struct error *e)
{
	const struct snapshot_reader_config config = { .paths = { .directory = directory },
						       .state_only = state_only };

	return snapshot_reader_create(ret, &config, e);
}

static const char *show_time(char buf[TIME_SIZE], uint64_t seconds)
{
	const struct calendar at =
		calendar_from_time((int64_t)MIN(seconds, (uint64_t)UINT32_MAX * 64));

	(void)snprintf(buf, TIME_SIZE, "%04" PRId64 "-%02d-%02d %02d:%02d:%02d", at.year, at.month,
		       at.day, at.hour, at.minute, at.second);
	return buf;
}

/* Text in UTF-8 without what a terminal obeys. */
static const char *plain(char buf[TEXT_SIZE], const char *text)
{
	size_t len = 0;

	for (; text != NULL && *text != '\0' && len + 1 < TEXT_SIZE; text++) {
		const uint8_t byte = (uint8_t)text[0], next = (uint8_t)text[1];
		const bool c1 = byte == 0xc2 && next >= 0x80 && next < 0xa0;

		buf[len++] = byte < ' ' || byte == 0x7f || c1 ? '?' : (char)byte;
		text += c1;
	}
	buf[len] = '\0';
	return len > 0 ? buf : "-";
}

static const char *text_at(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* --- inspect ----------------------------------------------------------------------------------- */

static void print_devices(const json_t *config)
{
	static const struct {
		const char *list, *word, *id, *path;
	} kinds[] = { { "drives", "disk", "drive_id", "path_on_host" },
		      { "network-interfaces", "net", "iface_id", "host_dev_name" } };
	char id[TEXT_SIZE], path[TEXT_SIZE];
	const json_t *entry;
	size_t i;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		json_array_foreach(json_object_get(config, kinds[k].list), i, entry)
		{
			(void)printf("%-10s  %-16s %s%s\n", kinds[k].word,
				     plain(id, text_at(entry, kinds[k].id)),
				     plain(path, text_at(entry, kinds[k].path)),
				     json_is_true(json_object_get(entry, "is_read_only"))
					     ? " (read-only)"
					     : "");
		}
	}
}

static void print_copies(const struct disk_copies *copies)
{
	char name[NAME_MAX + 1], id[TEXT_SIZE], file[TEXT_SIZE], size[FIGURE_SIZE];

	for (uint32_t i = 0; i < copies->count; i++) {
		const struct disk_copy_info *one = &copies->list[i];

		disk_copy_name(one->id, name);
		(void)printf("%-10s  %-16s %s, %s%s\n", "copy of", plain(id, one->id),
			     plain(file, name), show_bytes(size, one->witness.size),
			     one->overlay ? " (of the overlay)" : "");
	}
}

/* What a restore would make of it. */
static void print_working_set(int known, uint64_t bytes, const struct error *why)
{
	char size[FIGURE_SIZE], text[TEXT_SIZE];

	if (known == 0) {
		(void)printf("%-10s  %s come first, lazily\n", "touched", show_bytes(size, bytes));
	} else if (known != -ENOENT) {
		(void)printf("%-10s  ignored: %s\n", "touched", plain(text, why->msg));
	}
}

/* {"bytes"} or {"ignored": why}; null: there is none. */
static json_t *describe_working_set(int known, uint64_t bytes, const struct error *why)
{
	if (known == -ENOENT) {
		return json_null();
	}
	return known == 0 ? json_pack("{s:I}", "bytes", (json_int_t)bytes)
			  : json_pack("{s:o}", "ignored", json_any_string(why->msg, "?"));
}

static void print_words(const struct snapshot_info *info, const json_t *all)
{
	const json_t *about = json_object_get(all, "about");
	char a[TEXT_SIZE], b[TEXT_SIZE], size[FIGURE_SIZE], stored[FIGURE_SIZE], at[TIME_SIZE];

	(void)printf("id          %s\n", info->id);
	if (info->parent_id[0] != '\0') {
		(void)printf("parent      %s\n", info->parent_id);
	}
	(void)printf("kind        %s\n", info->parent_id[0] != '\0' ? "diff" : "full");
	(void)printf("created     %s UTC\n", show_time(at, info->created));
	(void)printf("written by  vmm %s, format %u\n", plain(a, info->version), info->format);
	(void)printf("VM          %s\n", plain(a, text_at(about, "name")));
	(void)printf("host        Linux %s, %s\n", plain(a, text_at(about, "host_kernel")),
		     plain(b, text_at(about, "processor")));
	(void)printf("processors  %" JSON_INTEGER_FORMAT "\n",
		     json_integer_value(json_object_get(about, "vcpu_count")));
	(void)printf("memory      %s, of which %s is stored here%s\n",
		     show_bytes(size, info->memory_size), show_bytes(stored, info->stored),
		     info->packed ? ", compressed" : "");
	print_devices(json_object_get(all, "config"));
}

int snapshot_run_inspect(const struct snapshot_command *command)
{
	struct snapshot_reader *reader = NULL;
	struct disk_copies copies;
	struct error e = { 0 }, why = { 0 }, useless = { 0 };
	json_t *all;
	int code = EXIT_OK;
	uint64_t touched;
	int r, known;

	if (open_reader(&reader, command->operands[0], true, &e) < 0) {
		return command_fail(&e);
	}
	r = snapshot_disks_read(&copies, reader, command->operands[0], &why);
	known = snapshot_reader_working_set(reader, command->operands[0], &touched, &useless);
	all = snapshot_disks_describe(reader, r == 0 ? &copies : NULL);
	if (all == NULL ||
	    !json_put(all, "working_set", describe_working_set(known, touched, &useless))) {
		(void)error_set(&e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		code = command_fail(&e);
	} else if (command->common.json) {
		code = command_print_json(json_incref(all), true);
	} else {
		print_words(snapshot_reader_info(reader), all);
		print_copies(&copies);
		print_working_set(known, touched, &useless);
	}
	/* All else of it is shown. */
	code = r < 0 ? MAX(code, command_fail(&why)) : code;
	disk_copies_finish(&copies);
	json_decref(all);
	snapshot_reader_destroy(reader);
	return code;
}

/* --- verify ------------------------------------------------------------------------------------ */

static void print_whole(const char *directory, const char *stored, uint32_t disks)
{
	(void)printf("%s: whole, %s", directory, stored);
	if (disks != 0) {
		(void)printf(", disks by their samples: %" PRIu32, disks);
	}
	(void)putchar('\n');
}

static int verify_one(const char *directory, struct progress *progress, json_t *list,
		      struct error *e)
{
	const struct snapshot_watch watch = { progress_step, progress };
	struct snapshot_reader *reader = NULL;
	const struct snapshot_info *info;
	char stored[FIGURE_SIZE];
	uint32_t disks = 0;
	int r = open_reader(&reader, directory, false, e);

	if (r == 0) {
		r = snapshot_reader_verify(reader, threads(), &watch, e);
	}
	if (r == 0) {
		r = snapshot_disks_verify(reader, directory, &disks, e);
	}
	progress_wipe(progress);
	if (r < 0 && strstr(e->msg, directory) == NULL) {
		(void)error_prefix(e, "'%s'", directory);
	}
	if (r < 0) {
		(void)json_array_append_new(
			list, json_pack("{s:o, s:b, s:{s:s, s:s}}", "directory",
					json_any_string(directory, "?"), "whole", false, "error",
					"code", error_code_name(e->code), "message", e->msg));
	} else {
		info = snapshot_reader_info(reader);
		(void)json_array_append_new(
			list, json_pack("{s:o, s:b, s:s, s:I, s:I}", "directory",
					json_any_string(directory, "?"), "whole", true, "id",
					info->id, "stored_bytes", (json_int_t)info->stored,
					"disk_copies", (json_int_t)disks));
		if (list == NULL) {
			print_whole(directory, show_bytes(stored, info->stored), disks);
		}
	}
	snapshot_reader_destroy(reader);
	return r;
}

int snapshot_run_verify(const struct snapshot_command *command)
{
	json_t *list = command->common.json ? json_array() : NULL;
	struct progress progress;
	int code = EXIT_OK;

	progress_begin(&progress, command->common.json);
	for (int i = 0; i < command->count; i++) {
		struct error e = { 0 };

		if (verify_one(command->operands[i], &progress, list, &e) < 0) {
			const int one = snapshot_fail(&progress, &e);

			code = MAX(code, one);
		}
		if (progress_interrupted(&progress) != 0) {
			break;
		}
	}
	progress_end(&progress);
	return list != NULL ? MAX(code, command_print_json(list, true)) : code;
}

/* --- ls ---------------------------------------------------------------------------------------- */

struct listing {
	json_t *list; /* NULL: a table */
	bool head;    /* was printed */
	int code;
};

static void print_head(struct listing *listing)
{
	if (!listing->head) {
		(void)printf("%-24s %-5s %-19s  %-16s %4s %7s %7s %5s  %s\n", "NAME", "KIND",
			     "CREATED", "VM", "CPUS", "MEMORY", "STORED", "DISKS", "ID");
		listing->head = true;
	}
}

static void list_line(struct listing *listing, const char *path, const struct snapshot_reader *r)
{
	const struct snapshot_info *info = snapshot_reader_info(r);
	struct disk_copies copies;
	const int known = snapshot_disks_read(&copies, r, path, NULL);
	auto_json json_t *all = snapshot_disks_describe(r, known == 0 ? &copies : NULL);
	const json_t *about = json_object_get(all, "about");
	char a[TEXT_SIZE], b[TEXT_SIZE], size[FIGURE_SIZE], stored[FIGURE_SIZE], at[TIME_SIZE];
	char disks[16] = "?";

	if (known == 0 && copies.taken) {
		(void)snprintf(disks, sizeof(disks), "%" PRIu32, copies.count);
	} else if (known == 0) {
		(void)snprintf(disks, sizeof(disks), "-");
	}
	disk_copies_finish(&copies);
	if (listing->list != NULL) {
		(void)json_object_set_new(all, "directory", json_any_string(path, "?"));
		(void)json_array_append(listing->list, all);
		return;
	}
	print_head(listing);
	(void)printf("%-24s %-5s %-19s  %-16s %4" JSON_INTEGER_FORMAT " %7s %7s %5s  %s\n",
		     plain(a, path), info->parent_id[0] != '\0' ? "diff" : "full",
		     show_time(at, info->created), plain(b, text_at(about, "name")),
		     json_integer_value(json_object_get(about, "vcpu_count")),
		     show_bytes(size, info->memory_size), show_bytes(stored, info->stored), disks,
		     info->id);
}

/* One that cannot be read is said, and the others are shown. */
static void list_one(struct listing *listing, const char *path)
{
	struct snapshot_reader *reader = NULL;
	struct error e = { 0 };
	struct stat st;
	auto_free char *state = NULL;

	if (asprintf(&state, "%s/state", path) < 0) {
		state = NULL;
		return;
	}
	if (stat(state, &st) < 0) {
		return; /* something else */
	}
	if (open_reader(&reader, path, true, &e) < 0) {
		listing->code = MAX(listing->code, command_fail(&e));
		return;
	}
	list_line(listing, path, reader);
	snapshot_reader_destroy(reader);
}

static int is_listed(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void list_directory(struct listing *listing, const char *path, bool here)
{
	struct dirent **entries = NULL;
	struct error e = { 0 };
	const int count = scandir(path, &entries, is_listed, alphasort);

	if (count < 0) {
		(void)error_set_sys(&e, ERROR_NOT_FOUND, errno, "'%s'", path);
		listing->code = MAX(listing->code, command_fail(&e));
		return;
	}
	list_one(listing, path);
	for (int i = 0; i < count; i++) {
		auto_free char *below = NULL;

		if (asprintf(&below, "%s%s%s", here ? "" : path, here ? "" : "/",
			     entries[i]->d_name) < 0) {
			below = NULL;
		} else {
			list_one(listing, below);
		}
		free(entries[i]);
	}
	free(entries);
}

int snapshot_run_ls(const struct snapshot_command *command)
{
	struct listing listing = { .list = command->common.json ? json_array() : NULL };

	for (int i = 0; i < command->count; i++) {
		list_directory(&listing, command->operands[i], false);
	}
	if (command->count == 0) {
		list_directory(&listing, ".", true);
	}
	if (listing.list != NULL) {
		return MAX(listing.code, command_print_json(listing.list, true));
	}
	print_head(&listing);
	return listing.code;
}

/* --- rm ---------------------------------------------------------------------------------------- */

int snapshot_run_rm(const struct snapshot_command *command)
{
	int code = EXIT_OK;

	for (int i = 0; i < command->count; i++) {
		const struct snapshot_paths paths = { .directory = command->operands[i] };
		struct error e = { 0 };

		if (snapshot_remove(&paths, &e) < 0) {
			code = MAX(code, command_fail(&e));
		}
	}
	return code;
}

/* --- diff -------------------------------------------------------------------------------------- */

struct ranges {
	json_t *list; /* NULL: words */
	uint64_t count;
};

static void take_range(void *arg, gpa_t gpa, uint64_t len)
{
	struct ranges *ranges = arg;
	char size[FIGURE_SIZE];

	ranges->count++;
	if (ranges->list == NULL) {
		if (ranges->count <= RANGES_SHOWN) {
			(void)printf("  0x%012" PRIx64 "  %s\n", gpa, show_bytes(size, len));
		}
	} else if (ranges->count <= RANGES_MAX) {
		(void)json_array_append_new(ranges->list,
					    json_pack("[I, I]", (json_int_t)gpa, (json_int_t)len));
	}
}

static int print_difference(const struct snapshot_difference *difference, struct ranges *ranges)
{
	char a[FIGURE_SIZE], b[FIGURE_SIZE];

	if (ranges->list != NULL) {
		const bool cut = ranges->count > RANGES_MAX;

		return command_print_json(
			json_pack("{s:I, s:I, s:I, s:I, s:b, s:o}", "compared_bytes",
				  (json_int_t)difference->compared, "different_bytes",
				  (json_int_t)difference->different, "only_first_bytes",
				  (json_int_t)difference->only_first, "only_second_bytes",
				  (json_int_t)difference->only_second, "cut", cut, "ranges",
				  ranges->list),
			true);
	}
	if (ranges->count > RANGES_SHOWN) {
		(void)printf("  and %" PRIu64 " more, which --json shows\n",
			     ranges->count - RANGES_SHOWN);
	}
	(void)printf("%s of %s differ\n", show_bytes(a, difference->different),
		     show_bytes(b, difference->compared));
	if (difference->only_first != 0 || difference->only_second != 0) {
		(void)printf("the first alone has %s, the second %s\n",
			     show_bytes(a, difference->only_first),
			     show_bytes(b, difference->only_second));
	}
	return EXIT_OK;
}

int snapshot_run_diff(const struct snapshot_command *command)
{
	struct ranges ranges = { .list = command->common.json ? json_array() : NULL };
	struct snapshot_reader *readers[2] = { NULL, NULL };
	struct snapshot_difference difference = { 0 };
	struct progress progress;
	const struct snapshot_compare how = { .range = take_range,
					      .arg = &ranges,
					      .watch = { progress_step, &progress } };
	struct error e = { 0 };
	int r = 0, code;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(readers); i++) {
		r = open_reader(&readers[i], command->operands[i], false, &e);
	}
	/* Lines of ranges come meanwhile: no bar where they go to the same terminal. */
	progress_begin(&progress, isatty(STDOUT_FILENO) == 1);
	if (r == 0) {
		r = snapshot_compare(readers[0], readers[1], &how, &difference, &e);
	}
	progress_wipe(&progress);
	if (r < 0) {
		json_decref(ranges.list);
		code = snapshot_fail(&progress, &e);
	} else {
		code = print_difference(&difference, &ranges);
	}
	progress_end(&progress);
	snapshot_reader_destroy(readers[0]);
	snapshot_reader_destroy(readers[1]);
	return code;
}

/* --- merge ------------------------------------------------------------------------------------- */

int snapshot_run_merge(const struct snapshot_command *command)
{
	struct snapshot_reader *reader = NULL;
	struct progress progress;
	struct snapshot_disks_move move = { .directory = command->operands[0],
					    .to = command->operands[1],
					    .progress = &progress };
	const struct snapshot_merge how = { .paths = { .directory = command->operands[1] },
					    .threads = threads(),
					    .watch = { progress_step, &progress },
					    .also = snapshot_disks_move,
					    .also_arg = &move };
	char id[SNAPSHOT_ID_TEXT] = "";
	struct error e = { 0 };
	int code = EXIT_OK;
	int r = open_reader(&reader, command->operands[0], false, &e);

	progress_begin(&progress, command->common.json);
	if (r == 0) {
		move.reader = reader;
		r = snapshot_merge(reader, &how, id, &e);
	}
	progress_wipe(&progress);
	if (r < 0) {
		code = snapshot_fail(&progress, &e);
	} else if (command->common.json) {
		code = command_print_json(json_pack("{s:s, s:o}", "id", id, "directory",
						    json_any_string(command->operands[1], "?")),
					  true);
	} else {
		(void)puts(id);
	}
	progress_end(&progress);
	snapshot_reader_destroy(reader);
	return code;
}
