// SPDX-License-Identifier: Apache-2.0
/*
 * See snapshot_disks.h. What a snapshot says of its copies, and what they have, its writer controls.
 */
#include "snapshot_disks.h"

#include <errno.h>

#include "vmm/cleanup.h"

int snapshot_disks_read(struct disk_copies *copies, const struct snapshot_reader *reader,
			const char *directory, struct error *e)
{
	int r = disk_copies_read(copies, snapshot_reader_info(reader)->config, e);

	return r < 0 ? error_prefix(e, "snapshot '%.120s'", directory) : 0;
}

static json_t *list(const struct disk_copies *copies)
{
	auto_json json_t *array = json_array();

	for (uint32_t i = 0; i < copies->count; i++) {
		const struct disk_copy_info *one = &copies->list[i];
		char name[NAME_MAX + 1];

		disk_copy_name(one->id, name);
		if (json_array_append_new(array, json_pack("{s:s, s:s, s:I, s:b}", "drive_id",
							   one->id, "file", name, "size",
							   (json_int_t)MIN(one->witness.size,
									   (uint64_t)INT64_MAX),
							   "overlay", one->overlay)) != 0) {
			return NULL;
		}
	}
	return take_ptr(array);
}

json_t *snapshot_disks_describe(const struct snapshot_reader *reader,
				const struct disk_copies *copies)
{
	auto_json json_t *value = snapshot_reader_describe(reader);

	if (value == NULL ||
	    (copies != NULL &&
	     !json_put(value, "disk_copies", copies->taken ? list(copies) : json_null()))) {
		return NULL;
	}
	return take_ptr(value);
}

int snapshot_disks_verify(const struct snapshot_reader *reader, const char *directory,
			  uint32_t *count, struct error *e)
{
	const struct disk_copies_place place = { .directory = snapshot_reader_directory(reader),
						 .path = directory };
	struct disk_copies copies;
	int r = snapshot_disks_read(&copies, reader, directory, e);

	for (uint32_t i = 0; r == 0 && i < copies.count; i++) {
		auto_close int fd = -1;

		r = disk_copies_open(&copies.list[i], &place, true, &fd, e);
	}
	*count = copies.count;
	disk_copies_finish(&copies);
	return r;
}

static bool go_on(void *arg, uint64_t done, uint64_t total)
{
	return progress_step(arg, "disks", done, total);
}

int snapshot_disks_move(void *arg, int directory, struct error *e)
{
	const struct snapshot_disks_move *move = arg;
	const struct disk_copies_place place = { .directory =
							 snapshot_reader_directory(move->reader),
						 .path = move->directory };
	char name[NAME_MAX + 1];
	const struct disk_copies_to to = { .folder = directory,
					   .path = move->to,
					   .name = name,
					   .sync = true,
					   .go_on = go_on,
					   .arg = move->progress };
	struct disk_copies copies;
	int r = snapshot_disks_read(&copies, move->reader, move->directory, e);

	for (uint32_t i = 0; r == 0 && i < copies.count; i++) {
		disk_copy_name(copies.list[i].id, name);
		r = disk_copies_copy(&copies.list[i], &place, true, &to, e);
	}
	disk_copies_finish(&copies);
	return r;
}
