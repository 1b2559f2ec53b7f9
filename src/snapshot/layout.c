/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the file `memory` has, as bytes: the sections "memory" and "parent" of `state`, and the trailer behind the pages.
 *
 *	memory	0 u32 regions  4 u32 entries  8 u64 length of the pages' part of the file
 *		regions: u32 kind, u32 0, u64 gpa, u64 size, u64 offset in the file
 *		entries: u32 chunk, u32 flags, u32 checksum, [map of stored pages], [map of zero pages]
 *	parent	0 id[16]  16 u32 depth  20 u16 form, u16 length, u16 length, u16 0, names
 *	trailer	0 "VMMPAGES"  8 u32 format, u32 0  16 id[16]  32 u64 length of the pages' part  40 u32 checksum of the section "memory"
 *		zeroes  4092 u32 CRC32C of the 4092 bytes before
 *
 * Regions lie one after the other, each from a multiple of a chunk (2 MiB) on, so a page's place follows from its address. Chunks
 * count through the file. A map is 512 bits, the lowest bit of the first byte being the first page. Entries ascend.
 *
 * Pure but for the allocation of the table, which is bounded by the section's length. Whoever wrote the file controls all of it:
 * nothing is believed that is not in a range, in order, and apart.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/bytes.h"
#include "vmm/crc32c.h"
#include "vmm/overflow.h"

#define HEAD_SIZE	 16
#define REGION_SIZE	 32
#define ENTRY_SIZE	 12
#define PARENT_HEAD_SIZE 28
#define TRAILER_MAGIC	 "VMMPAGES"
#define TRAILER_CRC	 (TRAILER_SIZE - 4)

/* Two bits each: none, all, or as the map says. */
#define FLAG_STORED_ALL 1U
#define FLAG_STORED_MAP 2U
#define FLAG_ZERO_ALL	4U
#define FLAG_ZERO_MAP	8U

static int __cold bad(struct error *e, const char *path, const char *what)
{
	(void)error_set(e, ERROR_SNAPSHOT, EBADMSG, "snapshot '%s': %s", path, what);
	return error_hint(e, "the file is damaged, or not whole: use another copy of the snapshot");
}

int layout_place(struct layout *layout, const char *path, struct error *e)
{
	uint64_t offset = 0, end = 0;

	layout->memory_size = 0;
	for (uint32_t i = 0; i < layout->region_count; i++) {
		struct snapshot_region *region = &layout->regions[i];

		if (region->kind > GUEST_REGION_PMEM || region->size == 0 ||
		    region->size > LAYOUT_MAX || region->gpa > LAYOUT_MAX ||
		    region->size % PAGE_SIZE_4K != 0 || region->gpa % SNAPSHOT_CHUNK != 0 ||
		    region->gpa < end) {
			(void)error_set(e, ERROR_SNAPSHOT, EINVAL,
					"snapshot '%s': a region of memory at 0x%" PRIx64
					" with 0x%" PRIx64 " bytes of kind %" PRIu32
					" cannot be in its place",
					path, region->gpa, region->size, region->kind);
			return error_hint(e, "the file is damaged, or not made by vmm");
		}
		end = region->gpa + region->size;
		region->offset = offset;
		offset += ALIGN_UP(region->size, SNAPSHOT_CHUNK);
		layout->memory_size += region->size;
	}
	if (layout->region_count == 0 || offset > LAYOUT_MAX) {
		return bad(e, path, "it has no memory, or more than there can be");
	}
	layout->length = offset;
	return 0;
}

uint32_t layout_chunk_pages(const struct layout *layout, uint32_t chunk, uint32_t *region)
{
	uint64_t at = (uint64_t)chunk * SNAPSHOT_CHUNK;

	for (uint32_t i = 0; i < layout->region_count; i++) {
		const struct snapshot_region *r = &layout->regions[i];

		if (at >= r->offset && at - r->offset < r->size) {
			uint64_t rest = r->size - (at - r->offset);

			*region = i;
			return (uint32_t)(MIN(rest, SNAPSHOT_CHUNK) / PAGE_SIZE_4K);
		}
	}
	return 0;
}

/* `bytes` NULL: nothing of it; `all`: every page. */
static void expand(uint64_t map[MAP_WORDS], bool all, const uint8_t *bytes, uint32_t pages)
{
	for (uint32_t i = 0; i < MAP_WORDS; i++) {
		uint32_t first = i * 64;

		map[i] = 0;
		if (all && first < pages) {
			map[i] = UINT64_MAX >> (64 - MIN(pages - first, 64U));
		} else if (bytes != NULL) {
			map[i] = load_le64(bytes + (size_t)i * 8);
		}
	}
}

void chunk_entry_pages(const struct chunk_entry *entry, uint32_t pages, struct chunk_pages *ret)
{
	expand(ret->stored, (entry->flags & FLAG_STORED_ALL) != 0, entry->stored, pages);
	expand(ret->zero, (entry->flags & FLAG_ZERO_ALL) != 0, entry->zero, pages);
}

static int parse_regions(struct layout *layout, const uint8_t *data, uint64_t len, const char *path,
			 struct error *e)
{
	uint64_t length = load_le64(data + 8);
	int r;

	layout->region_count = load_le32(data);
	if (layout->region_count > GUEST_MEMORY_REGIONS_MAX ||
	    len < HEAD_SIZE + (uint64_t)layout->region_count * REGION_SIZE) {
		return bad(e, path, "it has more regions of memory than there can be");
	}
	for (uint32_t i = 0; i < layout->region_count; i++) {
		const uint8_t *p = data + HEAD_SIZE + (size_t)i * REGION_SIZE;

		layout->regions[i] = (struct snapshot_region){
			.kind = load_le32(p),
			.gpa = load_le64(p + 8),
			.size = load_le64(p + 16),
		};
		if (load_le32(p + 4) != 0) {
			return bad(e, path, "a region of memory is not as it should be");
		}
	}
	r = layout_place(layout, path, e);
	for (uint32_t i = 0; r == 0 && i < layout->region_count; i++) {
		const uint8_t *p = data + HEAD_SIZE + (size_t)i * REGION_SIZE;

		if (load_le64(p + 24) != layout->regions[i].offset) {
			r = bad(e, path, "a region of memory is not where it belongs in the file");
		}
	}
	if (r == 0 && layout->length != length) {
		r = bad(e, path, "the length of its memory is not that of its regions");
	}
	return r;
}

/* What a chunk's entry says of pages makes sense. */
static int check_entry(const struct layout *layout, const struct chunk_entry *entry, bool diff,
		       uint64_t *stored, const char *path, struct error *e)
{
	uint32_t region, pages = layout_chunk_pages(layout, entry->chunk, &region);
	struct chunk_pages maps, all;
	uint64_t any = 0;
	const struct chunk_entry whole = { .flags = FLAG_STORED_ALL };

	if (pages == 0) {
		return bad(e, path, "it has pages where no memory is");
	}
	if (entry->flags == FLAG_STORED_ALL) {
		/* Most of a full one's, and nothing can be wrong with them: a restore waits. */
		*stored += pages;
		return 0;
	}
	chunk_entry_pages(entry, pages, &maps);
	chunk_entry_pages(&whole, pages, &all);
	for (uint32_t i = 0; i < MAP_WORDS; i++) {
		if (((maps.stored[i] | maps.zero[i]) & ~all.stored[i]) != 0 ||
		    (maps.stored[i] & maps.zero[i]) != 0 || (!diff && maps.zero[i] != 0)) {
			return bad(e, path, "its map of pages contradicts itself");
		}
		any |= maps.stored[i] | maps.zero[i];
	}
	if (any == 0) {
		return bad(e, path, "its table of pages has an entry about nothing");
	}
	*stored += map_count(maps.stored);
	return 0;
}

int layout_table_parse(struct layout_table *table, const uint8_t *data, uint64_t len, bool diff,
		       const char *path, struct error *e)
{
	uint64_t at, count;
	int r;

	*table = (struct layout_table){ 0 };
	if (len < HEAD_SIZE) {
		return bad(e, path, "section 'memory' is too short");
	}
	r = parse_regions(&table->layout, data, len, path, e);
	if (r < 0) {
		return r;
	}
	at = HEAD_SIZE + (uint64_t)table->layout.region_count * REGION_SIZE;
	count = load_le32(data + 4);
	if (count > (len - at) / ENTRY_SIZE) {
		return bad(e, path,
			   "its table of pages is said to have more entries than there are");
	}
	table->entries = calloc(MAX(count, 1ULL), sizeof(*table->entries));
	if (table->entries == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "snapshot '%s'", path);
	}
	for (uint64_t i = 0; i < count; i++) {
		struct chunk_entry *entry = &table->entries[i];

		if (len - at < ENTRY_SIZE) {
			r = bad(e, path, "its table of pages is too short");
			break;
		}
		entry->chunk = load_le32(data + at);
		entry->flags = load_le32(data + at + 4);
		entry->crc = load_le32(data + at + 8);
		at += ENTRY_SIZE;
		if (entry->flags > 15 || (entry->flags & 3) == 3 || entry->flags >> 2 == 3 ||
		    (i > 0 && entry->chunk <= entry[-1].chunk)) {
			r = bad(e, path, "its table of pages is not in order");
			break;
		}
		for (uint32_t flag = FLAG_STORED_MAP; flag <= FLAG_ZERO_MAP; flag <<= 2) {
			if ((entry->flags & flag) != 0 && len - at >= MAP_BYTES) {
				*(flag == FLAG_STORED_MAP ? &entry->stored : &entry->zero) =
					data + at;
				at += MAP_BYTES;
			} else if ((entry->flags & flag) != 0) {
				r = bad(e, path, "its table of pages is too short");
			}
		}
		r = r == 0 ? check_entry(&table->layout, entry, diff, &table->stored, path, e) : r;
		if (r < 0) {
			break;
		}
		table->count++;
	}
	if (r == 0 && at != len) {
		r = bad(e, path, "something follows its table of pages");
	}
	if (r < 0) {
		layout_table_finish(table);
	}
	return r;
}

void layout_table_finish(struct layout_table *table)
{
	free(table->entries);
	*table = (struct layout_table){ 0 };
}

const struct chunk_entry *layout_table_find(const struct layout_table *table, uint32_t chunk)
{
	uint32_t low = 0, high = table->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (table->entries[middle].chunk == chunk) {
			return &table->entries[middle];
		}
		if (table->entries[middle].chunk < chunk) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return NULL;
}

/* --- writing --- */

static uint32_t flags_of(const uint64_t map[MAP_WORDS], uint32_t pages)
{
	uint32_t n = map_count(map);

	return n == 0 ? 0 : n == pages ? 1 : 2;
}

static void put_map(struct state_output *out, uint32_t flags, const uint64_t map[MAP_WORDS])
{
	uint8_t bytes[MAP_BYTES];

	if (flags != 2) {
		return;
	}
	for (uint32_t i = 0; i < MAP_WORDS; i++) {
		store_le64(bytes + (size_t)i * 8, map[i]);
	}
	state_output_put(out, bytes, sizeof(bytes));
}

void layout_put(struct state_output *out, const struct layout *layout,
		const struct chunk_pages *chunks, const uint32_t *crcs)
{
	uint32_t chunk_count = (uint32_t)(layout->length / SNAPSHOT_CHUNK), count = 0, region;
	uint8_t bytes[REGION_SIZE] = { 0 };

	for (uint32_t i = 0; i < chunk_count; i++) {
		count += map_count(chunks[i].stored) + map_count(chunks[i].zero) != 0 ? 1 : 0;
	}
	store_le32(bytes, layout->region_count);
	store_le32(bytes + 4, count);
	store_le64(bytes + 8, layout->length);
	state_output_put(out, bytes, HEAD_SIZE);
	for (uint32_t i = 0; i < layout->region_count; i++) {
		store_le32(bytes, layout->regions[i].kind);
		store_le32(bytes + 4, 0);
		store_le64(bytes + 8, layout->regions[i].gpa);
		store_le64(bytes + 16, layout->regions[i].size);
		store_le64(bytes + 24, layout->regions[i].offset);
		state_output_put(out, bytes, REGION_SIZE);
	}
	for (uint32_t i = 0; i < chunk_count; i++) {
		uint32_t pages = layout_chunk_pages(layout, i, &region);
		uint32_t stored = flags_of(chunks[i].stored, pages);
		uint32_t zero = flags_of(chunks[i].zero, pages);

		if (stored + zero != 0) {
			store_le32(bytes, i);
			store_le32(bytes + 4, stored | zero << 2);
			store_le32(bytes + 8, crcs[i]);
			state_output_put(out, bytes, ENTRY_SIZE);
			put_map(out, stored, chunks[i].stored);
			put_map(out, zero, chunks[i].zero);
		}
	}
}

void trailer_make(uint8_t bytes[TRAILER_SIZE], const struct snapshot_id *id, uint64_t length,
		  uint32_t crc)
{
	memset(bytes, 0, TRAILER_SIZE);
	memcpy(bytes, TRAILER_MAGIC, 8);
	store_le32(bytes + 8, SNAPSHOT_FORMAT);
	memcpy(bytes + 16, id->bytes, SNAPSHOT_ID_SIZE);
	store_le64(bytes + 32, length);
	store_le32(bytes + 40, crc);
	store_le32(bytes + TRAILER_CRC, crc32c(0, bytes, TRAILER_CRC));
}

bool trailer_is_one(const uint8_t bytes[TRAILER_SIZE])
{
	return memcmp(bytes, TRAILER_MAGIC, 8) == 0;
}

int trailer_check(const uint8_t bytes[TRAILER_SIZE], const struct snapshot_id *id, uint64_t length,
		  uint32_t crc, const char *path, const char *state_path, struct error *e)
{
	struct snapshot_id other;
	char ids[2][SNAPSHOT_ID_TEXT];

	if (!trailer_is_one(bytes)) {
		(void)error_set(e, ERROR_SNAPSHOT, EBADMSG,
				"'%s' does not end as the memory of a snapshot does", path);
		return error_hint(e, "it is another file, or not whole; '%s' needs its own",
				  state_path);
	}
	if (load_le32(bytes + TRAILER_CRC) != crc32c(0, bytes, TRAILER_CRC)) {
		return bad(e, path, "the checksum at its end is wrong");
	}
	memcpy(other.bytes, bytes + 16, sizeof(other.bytes));
	if (!id_equal(&other, id)) {
		id_text(id, ids[0]);
		id_text(&other, ids[1]);
		(void)error_set(e, ERROR_SNAPSHOT, EXDEV,
				"'%s' is the memory of snapshot %s, but '%s' is the state of %s",
				path, ids[1], state_path, ids[0]);
		return error_hint(e, "the two files of a snapshot belong together");
	}
	if (load_le32(bytes + 8) != SNAPSHOT_FORMAT || load_le64(bytes + 32) != length ||
	    load_le32(bytes + 40) != crc) {
		return bad(e, path, "it does not have what its state says");
	}
	return 0;
}

/* --- the parent of a diff --- */

void parent_put(struct state_output *out, const struct parent_link *link)
{
	uint8_t head[PARENT_HEAD_SIZE] = { 0 };
	size_t lens[2] = { strlen(link->names[0]), strlen(link->names[1]) };

	memcpy(head, link->id.bytes, SNAPSHOT_ID_SIZE);
	store_le32(head + 16, link->depth);
	store_le16(head + 20, (uint16_t)link->form);
	store_le16(head + 22, (uint16_t)lens[0]);
	store_le16(head + 24, (uint16_t)lens[1]);
	state_output_put(out, head, sizeof(head));
	state_output_put(out, link->names[0], lens[0]);
	state_output_put(out, link->names[1], lens[1]);
}

int parent_parse(struct parent_link *link, const uint8_t *data, uint64_t len, const char *path,
		 struct error *e)
{
	struct parent_link l = { 0 };
	uint64_t lens[2], names;

	if (len < PARENT_HEAD_SIZE) {
		return bad(e, path, "section 'parent' is too short");
	}
	memcpy(l.id.bytes, data, SNAPSHOT_ID_SIZE);
	l.depth = load_le32(data + 16);
	l.form = load_le16(data + 20);
	lens[0] = load_le16(data + 22);
	lens[1] = load_le16(data + 24);
	names = l.form == PARENT_ELSEWHERE ? 0 : l.form == PARENT_DIRECTORY ? 1 : 2;
	if (l.form > PARENT_FILES || load_le16(data + 26) != 0 ||
	    len != PARENT_HEAD_SIZE + lens[0] + lens[1] || l.depth < 2 ||
	    l.depth > SNAPSHOT_CHAIN_MAX) {
		return bad(e, path, "section 'parent' is not as it should be");
	}
	data += PARENT_HEAD_SIZE;
	for (uint64_t i = 0; i < 2; i++) {
		if (lens[i] > NAME_MAX || memchr(data, 0, lens[i]) != NULL) {
			return bad(e, path, "section 'parent' is not as it should be");
		}
		memcpy(l.names[i], data, lens[i]);
		data += lens[i];
		if (i < names ? !name_is_plain(l.names[i]) : lens[i] != 0) {
			(void)error_set(
				e, ERROR_SNAPSHOT, EINVAL,
				"snapshot '%s' names its parent '%.80s', which is no name of a "
				"file beside it",
				path, l.names[i]);
			return error_hint(e, "the file is not made by vmm: do not trust it");
		}
	}
	*link = l;
	return 0;
}
