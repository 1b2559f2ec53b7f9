/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a snapshot's file `state`, by its first byte
 *
 *	& 3 == 0	as it is
 *	& 3 == 1	as it is, with right checksums
 *	& 3 == 2	the section "memory" (or "parent", & 4) of a file that is right otherwise
 *	& 3 == 3	changes of bytes, three each: offset, value, of a right file; with right checksums unless & 4
 *
 * Beyond crashes: what was accepted is within its bounds. & 8: it is a difference; & 16: memory is compressed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/snapshot/internal.h"
#include "fuzz_input.h"
#include "vmm/bytes.h"
#include "vmm/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_MAX KIB(16)

struct file {
	uint8_t bytes[FILE_MAX];
	size_t len;
	uint32_t sections;
};

static void check(bool right)
{
	if (!right) {
		abort();
	}
}

static void add(struct file *file, const char *name, const void *payload, size_t len)
{
	uint8_t *at = file->bytes + file->len;
	size_t room = SECTION_HEADER_SIZE + ((len + 8) & ~(size_t)7);

	if (room > FILE_MAX - file->len) {
		return;
	}
	memset(at, 0, room);
	memcpy(at, name, strlen(name));
	store_le32(at + 16, 1);
	store_le64(at + 24, len);
	memcpy(at + SECTION_HEADER_SIZE, payload, len);
	file->len += room;
	file->sections++;
}

/* Right lengths are not made: only checksums, of whatever sections there seem to be. */
static void seal(uint8_t *bytes, size_t len)
{
	size_t at = STATE_HEADER_SIZE;

	while (len >= SECTION_HEADER_SIZE && at <= len - SECTION_HEADER_SIZE) {
		uint64_t size = load_le64(bytes + at + 24);
		uint32_t crc = crc32c(0, bytes + 24, SNAPSHOT_ID_SIZE);

		if (size > len - at - SECTION_HEADER_SIZE) {
			break;
		}
		crc = crc32c(crc, bytes + at + SECTION_HEADER_SIZE, size);
		crc = crc32c(crc, bytes + at, SECTION_NAME_SIZE + 4);
		store_le32(bytes + at + 20, crc32c(crc, bytes + at + 24, 8));
		at += SECTION_HEADER_SIZE + ((size + 8) & ~7ULL);
	}
	if (len >= STATE_HEADER_SIZE) {
		store_le32(bytes + 124, crc32c(0, bytes, 124));
	}
}

static void begin(struct file *file)
{
	memset(file->bytes, 0, STATE_HEADER_SIZE);
	memcpy(file->bytes, STATE_MAGIC, 8);
	store_le32(file->bytes + 8, SNAPSHOT_FORMAT);
	memcpy(file->bytes + 40, "0.1", 3);
	file->len = STATE_HEADER_SIZE;
	file->sections = 0;
	add(file, "about", "{}", 2);
	add(file, "config", "{}", 2);
	add(file, "machine", "machine", 7);
}

static void end(struct file *file)
{
	store_le32(file->bytes + 12, file->sections);
	store_le64(file->bytes + 16, file->len);
	seal(file->bytes, file->len);
}

static size_t some_parent(uint8_t *payload)
{
	memset(payload, 0, 64);
	store_le32(payload + 16, 2);
	store_le16(payload + 20, PARENT_DIRECTORY);
	store_le16(payload + 22, 4);
	memcpy(payload + 28, "base", 4);
	return 32;
}

/* Two regions, three chunks: all of one, some of another, and in a difference some zeroes. */
static size_t some_memory(uint8_t *payload, bool diff)
{
	memset(payload, 0, 512);
	store_le32(payload, 2);
	store_le32(payload + 4, 3);
	store_le64(payload + 8, MIB(8));
	store_le64(payload + 16 + 16, MIB(3));
	store_le32(payload + 48, 1);
	store_le64(payload + 48 + 8, GIB(4));
	store_le64(payload + 48 + 16, MIB(4));
	store_le64(payload + 48 + 24, MIB(4));
	store_le32(payload + 80 + 4, 1);
	store_le32(payload + 92, 1);
	store_le32(payload + 92 + 4, diff ? 10 : 2);
	payload[92 + 12 + 31] = 0x80;
	if (diff) {
		payload[92 + 12 + 64] = 1;
	}
	store_le32(payload + (diff ? 232 : 168), 3);
	store_le32(payload + (diff ? 236 : 172), 1);
	return diff ? 244 : 180;
}

/* Of these three. */
static size_t some_packing(uint8_t *payload)
{
	memset(payload, 0, 64);
	store_le32(payload, 1);
	store_le32(payload + 4, 3);
	store_le64(payload + 8, KIB(8));
	for (uint32_t i = 0; i < 3; i++) {
		store_le64(payload + 16 + (size_t)i * 16, (uint64_t)i * 100);
		store_le32(payload + 16 + (size_t)i * 16 + 8, 100);
	}
	return 64;
}

static void look(const uint8_t *bytes, size_t len)
{
	struct state_file file;
	struct layout_table table;
	struct parent_link parent;
	struct error e;
	bool diff;
	const struct state_section *memory = &file.sections[SECTION_MEMORY];
	const struct state_section *packing = &file.sections[SECTION_PACKING];

	if (state_file_parse(&file, bytes, len, "fuzz", &e) < 0) {
		check(e.msg[0] != '\0');
		return;
	}
	for (int i = 0; i < SECTIONS; i++) {
		const struct state_section *section = &file.sections[i];

		check(section->data == NULL ||
		      (section->data >= bytes + STATE_HEADER_SIZE &&
		       section->len < len - (size_t)(section->data - bytes) &&
		       section->data[section->len] == 0));
	}
	diff = file.sections[SECTION_PARENT].data != NULL;
	if (diff && parent_parse(&parent, file.sections[SECTION_PARENT].data,
				 file.sections[SECTION_PARENT].len, "fuzz", &e) == 0) {
		check(parent.form == PARENT_ELSEWHERE || name_is_plain(parent.names[0]));
		check(parent.form != PARENT_FILES || name_is_plain(parent.names[1]));
	}
	if (layout_table_parse(&table, memory->data, memory->len, diff, "fuzz", &e) < 0) {
		check(e.msg[0] != '\0');
		return;
	}
	check(table.layout.region_count >= 1 && table.layout.length <= LAYOUT_MAX);
	if (packing->data != NULL) {
		uint64_t length;

		if (pack_parse(&table, packing->data, packing->len, &length, "fuzz", &e) < 0) {
			check(e.msg[0] != '\0');
			layout_table_finish(&table);
			return;
		}
		for (uint32_t i = 0; i < table.count; i++) {
			const struct frame *frame = &table.entries[i].frame;

			check(frame->offset <= length && frame->length <= length - frame->offset);
		}
	}
	for (uint32_t i = 0; i < table.count; i++) {
		uint32_t region = UINT32_MAX;
		uint32_t pages = layout_chunk_pages(&table.layout, table.entries[i].chunk, &region);
		struct chunk_pages maps;

		check(pages > 0 && region < table.layout.region_count);
		check(layout_table_find(&table, table.entries[i].chunk) == &table.entries[i]);
		chunk_entry_pages(&table.entries[i], pages, &maps);
		for (uint32_t page = pages; page < PAGES_PER_CHUNK; page++) {
			check(!page_is_set(maps.stored, page) && !page_is_set(maps.zero, page));
		}
	}
	layout_table_finish(&table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct file file;
	struct fuzz_input in = { data, size };
	uint8_t kind = (uint8_t)fuzz_take(&in, 1), payload[512], packed[64];
	bool diff = (kind & 8) != 0 || (kind & 7) == 6;

	if ((kind & 3) < 2) {
		file.len = MIN(in.len, sizeof(file.bytes));
		memcpy(file.bytes, in.data, file.len);
		if ((kind & 1) != 0) {
			seal(file.bytes, file.len);
		}
		look(file.bytes, file.len);
		return 0;
	}
	begin(&file);
	if ((kind & 7) == 6) {
		add(&file, "parent", in.data, in.len);
	} else if (diff) {
		add(&file, "parent", payload, some_parent(payload));
	}
	if ((kind & 16) != 0) {
		add(&file, "packing", packed, some_packing(packed));
	}
	if ((kind & 7) == 2) {
		add(&file, "memory", in.data, in.len);
	} else {
		add(&file, "memory", payload, some_memory(payload, diff));
	}
	end(&file);
	if ((kind & 3) == 3) {
		while (in.len > 0) {
			file.bytes[fuzz_take(&in, 2) % file.len] = (uint8_t)fuzz_take(&in, 1);
		}
		if ((kind & 4) == 0) {
			seal(file.bytes, file.len);
		}
	}
	/* As it was, and only that long. */
	data = malloc(file.len);
	check(data != NULL);
	memcpy((void *)(uintptr_t)data, file.bytes, file.len);
	look(data, file.len);
	free((void *)(uintptr_t)data);
	return 0;
}
