/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `state` as bytes: a header whose layout every version keeps, then sections.
 *
 *	header	0 "VMMSTATE"  8 u32 format  12 u32 sections  16 u64 length of the file  24 id[16]  40 version[32]
 *		72 u64 created  80 zeroes  124 u32 CRC32C of the 124 bytes before
 *	section	0 name[16]  16 u32 flags  20 u32 CRC32C  24 u64 length, then so many bytes and 1 to 8 zeroes, so that the next
 *		one begins at a multiple of 8
 *
 * All little-endian. A section's checksum is that of the id, its bytes, name, flags and length: a section of another snapshot
 * does not fit. Those that this version knows come once each and in the order of `known`; others are skipped unless
 * their flags say that they must be understood.
 *
 * Reading is pure: every byte of the file belongs to something that is checked. Writing goes through a buffer to one
 * descriptor; nothing is allocated. The writer of a file controls all of it; lengths are compared with what is there.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "vmm/bytes.h"
#include "vmm/crc32c.h"
#include "vmm/overflow.h"

#define SECTION_MANDATORY 1U

static const struct {
	const char *name;
	uint64_t max;
	bool optional;
} known[SECTIONS] = {
	[SECTION_ABOUT] = { "about", SNAPSHOT_TEXT_MAX, false },
	[SECTION_CONFIG] = { "config", SNAPSHOT_TEXT_MAX, false },
	[SECTION_MACHINE] = { "machine", SNAPSHOT_MACHINE_MAX, false },
	[SECTION_PARENT] = { "parent", KIB(4), true },
	[SECTION_PACKING] = { "packing", STATE_FILE_MAX, true },
	[SECTION_EARLY] = { "early", 0, true },
	[SECTION_MEMORY] = { "memory", STATE_FILE_MAX, false },
};

void id_text(const struct snapshot_id *id, char text[SNAPSHOT_ID_TEXT])
{
	for (size_t i = 0; i < SNAPSHOT_ID_SIZE; i++) {
		(void)snprintf(text + 2 * i, 3, "%02x", id->bytes[i]);
	}
}

static int __printf_like(3, 4) __cold
	damaged(struct error *e, const char *path, const char *fmt, ...)
{
	char what[200];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	(void)error_set(e, ERROR_SNAPSHOT, EBADMSG, "snapshot '%s': %s", path, what);
	return error_hint(e, "the file is damaged, or not whole: use another copy of the snapshot");
}

static bool is_zero(const uint8_t *p, size_t len)
{
	uint8_t all = 0;

	for (size_t i = 0; i < len; i++) {
		all |= p[i];
	}
	return all == 0;
}

/* Printable text, then zeroes up to `size`, of which there is one at least. */
static bool is_text(const uint8_t *p, size_t size)
{
	size_t len = 0;

	while (len < size && p[len] > ' ' && p[len] < 0x7f) {
		len++;
	}
	return len > 0 && len < size && is_zero(p + len, size - len);
}

int state_header_parse(struct state_header *header, const uint8_t *data, const char *path,
		       struct error *e)
{
	struct state_header h = {
		.format = load_le32(data + 8),
		.section_count = load_le32(data + 12),
		.length = load_le64(data + 16),
		.created = load_le64(data + 72),
	};

	if (memcmp(data, STATE_MAGIC, 8) != 0) {
		(void)error_set(e, ERROR_SNAPSHOT, EINVAL,
				"'%s' is not the state of a snapshot of vmm's", path);
		return error_hint(e, "name the file `state` that `vmm snapshot create` has made");
	}
	if (load_le32(data + 124) != crc32c(0, data, 124)) {
		return damaged(e, path, "the checksum of its header is wrong");
	}
	if (!is_text(data + 40, SNAPSHOT_VERSION_SIZE)) {
		return damaged(e, path, "its header does not say which vmm wrote it");
	}
	memcpy(h.id.bytes, data + 24, sizeof(h.id.bytes));
	memcpy(h.version, data + 40, sizeof(h.version));
	if (h.format == 0 || h.format > SNAPSHOT_FORMAT) {
		(void)error_set(e, ERROR_SNAPSHOT, ENOTSUP,
				"snapshot '%s' has format %" PRIu32
				" (vmm %s); this is vmm " VMM_VERSION
				", which reads formats up to %d",
				path, h.format, h.version, SNAPSHOT_FORMAT);
		return error_hint(e, "restore it with vmm %s or a later one", h.version);
	}
	if (!is_zero(data + 80, 44)) {
		return damaged(e, path, "its header has something where zeroes belong");
	}
	*header = h;
	return 0;
}

/* One section at data[*at], which moves behind it. *which: SECTIONS if it is to be skipped. */
static int parse_section(const struct state_file *file, const uint8_t *data, size_t len, size_t *at,
			 struct state_section *ret, enum section *which, const char *path,
			 struct error *e)
{
	const uint8_t *head = data + *at;
	uint64_t size, stored, flags;
	uint32_t crc;
	const char *name = (const char *)head;

	if (len - *at < SECTION_HEADER_SIZE) {
		return damaged(e, path, "it ends inside of a section's header");
	}
	if (!is_text(head, SECTION_NAME_SIZE)) {
		return damaged(e, path, "a section at byte %zu has no name", *at);
	}
	flags = load_le32(head + 16);
	size = load_le64(head + 24);
	if (size >= len || (stored = (size + 8) & ~7ULL) > len - *at - SECTION_HEADER_SIZE) {
		return damaged(e, path,
			       "section '%s' is said to have %" PRIu64
			       " bytes, more than there are",
			       name, size);
	}
	crc = crc32c(0, file->header.id.bytes, SNAPSHOT_ID_SIZE);
	crc = crc32c(crc, head + SECTION_HEADER_SIZE, size);
	crc = crc32c(crc, head, SECTION_NAME_SIZE + 4);
	crc = crc32c(crc, head + 24, 8);
	if (crc != load_le32(head + 20)) {
		return damaged(e, path, "the checksum of section '%s' is wrong", name);
	}
	if (!is_zero(head + SECTION_HEADER_SIZE + size, stored - size) ||
	    (flags & ~(uint64_t)SECTION_MANDATORY) != 0) {
		return damaged(e, path, "section '%s' has something where zeroes belong", name);
	}
	*which = 0;
	while (*which < SECTIONS && strcmp(known[*which].name, name) != 0) {
		(*which)++;
	}
	if (*which == SECTIONS && flags != 0) {
		(void)error_set(
			e, ERROR_SNAPSHOT, ENOTSUP,
			"snapshot '%s' (vmm %s) has a section '%s', which this vmm " VMM_VERSION
			" does not know and must not ignore",
			path, file->header.version, name);
		return error_hint(e, "restore it with vmm %s or a later one", file->header.version);
	}
	*ret = (struct state_section){ head + SECTION_HEADER_SIZE, size, crc };
	*at += SECTION_HEADER_SIZE + stored;
	return 0;
}

/* Text is handed on as a string. */
static int check_content(enum section which, const struct state_section *section, const char *path,
			 struct error *e)
{
	if (section->len > known[which].max) {
		return damaged(e, path,
			       "section '%s' has %" PRIu64 " bytes; %" PRIu64 " are allowed",
			       known[which].name, section->len, known[which].max);
	}
	if ((which == SECTION_ABOUT || which == SECTION_CONFIG) &&
	    memchr(section->data, 0, section->len) != NULL) {
		return damaged(e, path, "section '%s' is not text", known[which].name);
	}
	return 0;
}

int state_file_parse(struct state_file *file, const uint8_t *data, size_t len, const char *path,
		     struct error *e)
{
	struct state_file f = { 0 };
	size_t at = STATE_HEADER_SIZE;
	int last = -1, r;

	if (len < STATE_HEADER_SIZE) {
		return damaged(e, path, "it has %zu bytes, less than a header", len);
	}
	r = state_header_parse(&f.header, data, path, e);
	if (r < 0) {
		return r;
	}
	if (f.header.length != len || f.header.section_count > SECTIONS_MAX) {
		return damaged(e, path,
			       "it has %zu bytes; its header speaks of %" PRIu64 " in %" PRIu32
			       " sections",
			       len, f.header.length, f.header.section_count);
	}
	for (uint32_t i = 0; i < f.header.section_count; i++) {
		struct state_section section = { 0 };
		enum section which = SECTIONS;

		r = parse_section(&f, data, len, &at, &section, &which, path, e);
		if (r < 0) {
			return r;
		}
		if (which == SECTIONS) {
			continue;
		}
		if (f.sections[which].data != NULL || (int)which < last) {
			return damaged(e, path, "section '%s' comes %s", known[which].name,
				       f.sections[which].data != NULL ? "twice" : "too late");
		}
		r = check_content(which, &section, path, e);
		if (r < 0) {
			return r;
		}
		f.sections[which] = section;
		last = (int)which;
	}
	if (at != len) {
		return damaged(e, path, "something follows its last section");
	}
	for (int i = 0; i < SECTIONS; i++) {
		if (f.sections[i].data == NULL && !known[i].optional) {
			return damaged(e, path, "section '%s' is missing", known[i].name);
		}
	}
	*file = f;
	return 0;
}

/* --- writing --- */

static void flush(struct state_output *out)
{
	if (out->failure == 0 && out->used != 0) {
		out->failure = file_write(out->fd, out->buffer, out->used, out->at);
	}
	out->at += out->used;
	out->used = 0;
}

static void put_raw(struct state_output *out, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		size_t n = MIN(len, sizeof(out->buffer) - out->used);

		memcpy(out->buffer + out->used, p, n);
		out->used += n;
		p += n;
		len -= n;
		if (out->used == sizeof(out->buffer)) {
			flush(out);
		}
	}
}

void state_output_begin(struct state_output *out, int fd, const struct snapshot_id *id,
			uint64_t created)
{
	memset(out, 0, offsetof(struct state_output, buffer));
	out->fd = fd;
	out->at = STATE_HEADER_SIZE;
	out->header =
		(struct state_header){ .format = SNAPSHOT_FORMAT, .created = created, .id = *id };
	(void)snprintf(out->header.version, sizeof(out->header.version), "%s", VMM_VERSION);
}

void state_output_section(struct state_output *out)
{
	static const uint8_t room[SECTION_HEADER_SIZE];

	out->section_at = out->at + out->used;
	put_raw(out, room, sizeof(room));
	out->section_len = 0;
	out->crc = crc32c(0, out->header.id.bytes, SNAPSHOT_ID_SIZE);
}

void state_output_put(struct state_output *out, const void *data, size_t len)
{
	out->crc = crc32c(out->crc, data, len);
	out->section_len += len;
	put_raw(out, data, len);
}

uint32_t state_output_section_end(struct state_output *out, enum section section)
{
	static const uint8_t zeroes[8];
	uint8_t head[SECTION_HEADER_SIZE] = { 0 };

	memcpy(head, known[section].name, strlen(known[section].name));
	store_le32(head + 16, SECTION_MANDATORY);
	store_le64(head + 24, out->section_len);
	out->crc = crc32c(out->crc, head, SECTION_NAME_SIZE + 4);
	out->crc = crc32c(out->crc, head + 24, 8);
	store_le32(head + 20, out->crc);
	put_raw(out, zeroes, 8 - out->section_len % 8);
	flush(out);
	if (out->failure == 0) {
		out->failure = file_write(out->fd, head, sizeof(head), out->section_at);
	}
	out->header.section_count++;
	return out->crc;
}

int state_output_end(struct state_output *out)
{
	uint8_t head[STATE_HEADER_SIZE] = STATE_MAGIC;

	flush(out);
	store_le32(head + 8, out->header.format);
	store_le32(head + 12, out->header.section_count);
	store_le64(head + 16, out->at);
	memcpy(head + 24, out->header.id.bytes, SNAPSHOT_ID_SIZE);
	memcpy(head + 40, out->header.version, SNAPSHOT_VERSION_SIZE);
	store_le64(head + 72, out->header.created);
	store_le32(head + 124, crc32c(0, head, 124));
	if (out->failure == 0) {
		out->failure = file_write(out->fd, head, sizeof(head), 0);
	}
	return out->failure;
}
