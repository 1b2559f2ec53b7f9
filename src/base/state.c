/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state from tables. Wire format, all little-endian, no padding:
 *
 *	section = field*			in the order of the table; one field per tag
 *	field   = u16 tag, u32 length, value
 *	value   = the number in its width | one byte 0 or 1 | the bytes | element*
 *	element = u32 length, section		as many as the table's `count`
 *
 * Loading walks the input twice: once to check every tag, length and nesting, then to store. Input
 * comes from files and peers and is hostile: every length is checked against what is left, nesting
 * is as deep as the tables only, and what the numbers mean is left to validate(), which runs from
 * the innermost table outwards. Objects are quiesced: nobody else looks at them.
 */
#include "vmm/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bytes.h"
#include "vmm/overflow.h"

#define FIELD_HEADER   6 /* tag and length */
#define ELEMENT_HEADER 4
#define DEPTH_MAX      8
#define FIELDS_MAX     256 /* of one table */

/* NOLINTBEGIN(bugprone-macro-parentheses): a declared name cannot have them */
#define state_for_each_field(field, desc)                      \
	for (const struct state_field *field = (desc)->fields; \
	     field != (desc)->fields + (desc)->count; field++)
/* NOLINTEND(bugprone-macro-parentheses) */

void state_buf_finish(struct state_buf *buf)
{
	free(buf->data);
	*buf = (struct state_buf){ 0 };
}

/* Room for `len` more bytes at the end; NULL once an allocation has failed. */
static uint8_t *buf_grow(struct state_buf *buf, size_t len)
{
	uint8_t *at;

	if (buf->failed) {
		return NULL;
	}
	if (len > buf->size - buf->len) {
		size_t size = MAX(buf->size, (size_t)256);
		uint8_t *data;

		while (size - buf->len < len) {
			if (size > SIZE_MAX / 2) {
				buf->failed = true;
				return NULL;
			}
			size *= 2;
		}
		data = realloc(buf->data, size);
		if (data == NULL) {
			buf->failed = true;
			return NULL;
		}
		buf->data = data;
		buf->size = size;
	}
	VMM_BUG_ON(buf->data == NULL);
	at = buf->data + buf->len;
	buf->len += len;
	return at;
}

/* Members may be atomic: they are read and written as such, in the width of their kind. */
static uint64_t load_scalar(enum state_kind kind, const void *member)
{
	switch (kind) {
	case STATE_KIND_U8:
		return __atomic_load_n((const uint8_t *)member, __ATOMIC_SEQ_CST);
	case STATE_KIND_U16:
		return __atomic_load_n((const uint16_t *)member, __ATOMIC_SEQ_CST);
	case STATE_KIND_U32:
		return __atomic_load_n((const uint32_t *)member, __ATOMIC_SEQ_CST);
	case STATE_KIND_U64:
		return __atomic_load_n((const uint64_t *)member, __ATOMIC_SEQ_CST);
	case STATE_KIND_BOOL:
		return __atomic_load_n((const bool *)member, __ATOMIC_SEQ_CST) ? 1 : 0;
	case STATE_KIND_BYTES:
	case STATE_KIND_STRUCTS:
		break;
	}
	return 0;
}

static void store_scalar(enum state_kind kind, void *member, uint64_t value)
{
	switch (kind) {
	case STATE_KIND_U8:
		__atomic_store_n((uint8_t *)member, (uint8_t)value, __ATOMIC_SEQ_CST);
		break;
	case STATE_KIND_U16:
		__atomic_store_n((uint16_t *)member, (uint16_t)value, __ATOMIC_SEQ_CST);
		break;
	case STATE_KIND_U32:
		__atomic_store_n((uint32_t *)member, (uint32_t)value, __ATOMIC_SEQ_CST);
		break;
	case STATE_KIND_U64:
		__atomic_store_n((uint64_t *)member, value, __ATOMIC_SEQ_CST);
		break;
	case STATE_KIND_BOOL:
		__atomic_store_n((bool *)member, value != 0, __ATOMIC_SEQ_CST);
		break;
	case STATE_KIND_BYTES:
	case STATE_KIND_STRUCTS:
		break;
	}
}

/* Width of a scalar in memory and on the wire; 0 for the other kinds. */
static size_t scalar_width(enum state_kind kind)
{
	switch (kind) {
	case STATE_KIND_U8:
	case STATE_KIND_BOOL:
		return 1;
	case STATE_KIND_U16:
		return 2;
	case STATE_KIND_U32:
		return 4;
	case STATE_KIND_U64:
		return 8;
	case STATE_KIND_BYTES:
	case STATE_KIND_STRUCTS:
		break;
	}
	return 0;
}

static void save_section(const struct state_desc *desc, const uint8_t *object,
			 struct state_buf *buf);

static void save_structs(const struct state_field *field, const uint8_t *member,
			 struct state_buf *buf)
{
	for (size_t i = 0; i < field->count; i++) {
		size_t header = buf->len;

		(void)buf_grow(buf, ELEMENT_HEADER);
		save_section(field->nested, member + i * field->size, buf);
		if (!buf->failed) {
			store_le32(buf->data + header,
				   (uint32_t)(buf->len - header - ELEMENT_HEADER));
		}
	}
}

static void save_section(const struct state_desc *desc, const uint8_t *object,
			 struct state_buf *buf)
{
	state_for_each_field (field, desc) {
		const uint8_t *member = object + field->offset;
		size_t width = scalar_width(field->kind);
		size_t header = buf->len;
		uint8_t *at;

		(void)buf_grow(buf, FIELD_HEADER);
		if (field->kind == STATE_KIND_STRUCTS) {
			save_structs(field, member, buf);
		} else {
			at = buf_grow(buf, width != 0 ? width : field->count);
			if (at != NULL && width != 0) {
				store_le(at, load_scalar(field->kind, member), width);
			} else if (at != NULL) {
				memcpy(at, member, field->count);
			}
		}
		if (!buf->failed) {
			store_le16(buf->data + header, field->tag);
			store_le32(buf->data + header + 2,
				   (uint32_t)(buf->len - header - FIELD_HEADER));
		}
	}
}

int state_save(const struct state_desc *desc, const void *object, struct state_buf *buf,
	       struct error *e)
{
	size_t start = buf->len;

	save_section(desc, object, buf);
	if (buf->failed) {
		buf->len = MIN(start, buf->len);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "save state of '%s': out of memory",
				 desc->name);
	}
	if (buf->len - start > UINT32_MAX) {
		buf->len = start;
		return error_set(e, ERROR_INTERNAL, EFBIG, "state of '%s' is larger than 4 GiB",
				 desc->name);
	}
	return 0;
}

static const struct state_field *find_field(const struct state_desc *desc, uint16_t tag)
{
	state_for_each_field (field, desc) {
		if (field->tag == tag) {
			return field;
		}
	}
	return NULL;
}

/* One field of the input, bounded by what is left of it. */
struct wire_field {
	uint16_t tag;
	uint32_t len;
	const uint8_t *value;
};

/* Takes the field at `data`; false if it does not fit into `len`. */
static bool take_field(const uint8_t *data, size_t len, struct wire_field *ret)
{
	if (len < FIELD_HEADER) {
		return false;
	}
	ret->tag = load_le16(data);
	ret->len = load_le32(data + 2);
	ret->value = data + FIELD_HEADER;
	return ret->len <= len - FIELD_HEADER;
}

static int check_section(const struct state_desc *desc, const uint8_t *data, size_t len,
			 uint16_t version, uint32_t depth, struct error *e);

static int check_structs(const struct state_desc *desc, const struct state_field *field,
			 const struct wire_field *wire, uint16_t version, uint32_t depth,
			 struct error *e)
{
	const uint8_t *at = wire->value;
	size_t left = wire->len;

	for (size_t i = 0; i < field->count; i++) {
		size_t len;
		int r;

		if (left < ELEMENT_HEADER || load_le32(at) > left - ELEMENT_HEADER) {
			return error_set(e, ERROR_STATE, EINVAL,
					 "%s: field '%s': element %zu of %zu is cut off",
					 desc->name, field->name, i, field->count);
		}
		len = load_le32(at);
		r = check_section(field->nested, at + ELEMENT_HEADER, len, version, depth + 1, e);
		if (r < 0) {
			return error_prefix(e, "%s: field '%s', element %zu", desc->name,
					    field->name, i);
		}
		at += ELEMENT_HEADER + len;
		left -= ELEMENT_HEADER + len;
	}
	if (left != 0) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "%s: field '%s' has more than its %zu elements", desc->name,
				 field->name, field->count);
	}
	return 0;
}

static int check_field(const struct state_desc *desc, const struct state_field *field,
		       const struct wire_field *wire, uint16_t version, uint32_t depth,
		       struct error *e)
{
	size_t expected = scalar_width(field->kind);

	/* Nested tables grow with the table that holds them: the section's version counts for both.
	 */
	if (depth == 0 && field->since > version) {
		return error_set(
			e, ERROR_STATE, EINVAL,
			"%s: field '%s' is new in version %u, but the state is of version %u",
			desc->name, field->name, field->since, version);
	}
	if (field->kind == STATE_KIND_STRUCTS) {
		return check_structs(desc, field, wire, version, depth, e);
	}
	if (expected == 0) {
		expected = field->count;
	}
	if (wire->len != expected) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "%s: field '%s' has %u bytes, expected %zu", desc->name,
				 field->name, wire->len, expected);
	}
	if (field->kind == STATE_KIND_BOOL && wire->value[0] > 1) {
		return error_set(e, ERROR_STATE, EINVAL, "%s: field '%s' is %u, expected 0 or 1",
				 desc->name, field->name, wire->value[0]);
	}
	return 0;
}

static int check_section(const struct state_desc *desc, const uint8_t *data, size_t len,
			 uint16_t version, uint32_t depth, struct error *e)
{
	uint64_t seen[FIELDS_MAX / 64] = { 0 };
	size_t offset = 0;

	VMM_BUG_ON(depth >= DEPTH_MAX || desc->count > FIELDS_MAX);
	while (offset < len) {
		const struct state_field *field;
		struct wire_field wire;
		size_t index;
		int r;

		if (!take_field(data + offset, len - offset, &wire)) {
			return error_set(e, ERROR_STATE, EINVAL, "%s: cut off at byte %zu of %zu",
					 desc->name, offset, len);
		}
		field = find_field(desc, wire.tag);
		if (field == NULL) {
			return error_set(e, ERROR_STATE, EINVAL, "%s: unknown field with tag %u",
					 desc->name, wire.tag);
		}
		index = (size_t)(field - desc->fields);
		if ((seen[index / 64] >> (index % 64) & 1) != 0) {
			return error_set(e, ERROR_STATE, EINVAL, "%s: field '%s' is there twice",
					 desc->name, field->name);
		}
		seen[index / 64] |= 1ULL << (index % 64);
		r = check_field(desc, field, &wire, version, depth, e);
		if (r < 0) {
			return r;
		}
		offset += FIELD_HEADER + wire.len;
	}
	return 0;
}

static int store_section(const struct state_desc *desc, uint8_t *object, const uint8_t *data,
			 size_t len, struct error *e);

static int store_structs(const struct state_desc *desc, const struct state_field *field,
			 uint8_t *member, const uint8_t *at, struct error *e)
{
	for (size_t i = 0; i < field->count; i++) {
		size_t len = load_le32(at);
		int r = store_section(field->nested, member + i * field->size, at + ELEMENT_HEADER,
				      len, e);

		if (r < 0) {
			return error_prefix(e, "%s: field '%s', element %zu", desc->name,
					    field->name, i);
		}
		at += ELEMENT_HEADER + len;
	}
	return 0;
}

/* The input has passed check_section(). */
static int store_section(const struct state_desc *desc, uint8_t *object, const uint8_t *data,
			 size_t len, struct error *e)
{
	struct wire_field wire;

	for (size_t offset = 0; offset < len && take_field(data + offset, len - offset, &wire);
	     offset += FIELD_HEADER + wire.len) {
		const struct state_field *field = find_field(desc, wire.tag);
		uint8_t *member;

		VMM_BUG_ON(field == NULL);
		member = object + field->offset;
		if (field->kind == STATE_KIND_STRUCTS) {
			int r = store_structs(desc, field, member, wire.value, e);

			if (r < 0) {
				return r;
			}
		} else if (field->kind == STATE_KIND_BYTES) {
			memcpy(member, wire.value, wire.len);
		} else {
			store_scalar(field->kind, member, load_le(wire.value, wire.len));
		}
	}
	if (desc->validate != NULL) {
		int r = desc->validate(object, e);

		if (r < 0) {
			return error_prefix(e, "%s", desc->name);
		}
	}
	return 0;
}

int state_load(const struct state_desc *desc, void *object, const uint8_t *data, size_t len,
	       uint16_t version, struct error *e)
{
	int r;

	if (version == 0 || version > desc->version) {
		error_set(e, ERROR_STATE, EINVAL, "%s: state of version %u, known are 1 to %u",
			  desc->name, version, desc->version);
		return error_hint(e, "it was written by a newer vmm: load it with that one");
	}
	r = check_section(desc, data, len, version, 0, e);
	if (r < 0) {
		return r;
	}
	return store_section(desc, object, data, len, e);
}

static int check_desc(const struct state_desc *desc, uint32_t depth, struct error *e);

static int table_error(const struct state_desc *desc, const struct state_field *field,
		       const char *why, struct error *e)
{
	return error_set(e, ERROR_INTERNAL, EINVAL, "state table '%s', field '%s': %s", desc->name,
			 field->name != NULL ? field->name : "?", why);
}

static int check_desc_field(const struct state_desc *desc, const struct state_field *field,
			    uint32_t depth, struct error *e)
{
	size_t width = scalar_width(field->kind);
	uint64_t bytes;

	if (field->name == NULL || field->name[0] == '\0') {
		return table_error(desc, field, "no name", e);
	}
	if (field->tag == 0) {
		return table_error(desc, field, "tags start at 1", e);
	}
	if (field->since == 0 || field->since > desc->version) {
		return table_error(desc, field, "'since' is not a version of the table", e);
	}
	if (field->count == 0 || field->size == 0 ||
	    mul_overflow(field->size, field->count, &bytes) || bytes > UINT32_MAX ||
	    !range_within(field->offset, bytes, desc->object_size)) {
		return table_error(desc, field, "not inside the object", e);
	}
	if (width != 0 &&
	    (field->size != width || field->count != 1 || field->offset % width != 0)) {
		return table_error(desc, field, "size or alignment is not that of its kind", e);
	}
	if (field->kind == STATE_KIND_BYTES && field->size != 1) {
		return table_error(desc, field, "an array of something other than bytes", e);
	}
	if (field->kind == STATE_KIND_STRUCTS) {
		if (field->nested == NULL || field->nested->object_size != field->size) {
			return table_error(desc, field, "no nested table of the member's size", e);
		}
		return check_desc(field->nested, depth + 1, e);
	}
	if (width == 0 && field->kind != STATE_KIND_BYTES) {
		return table_error(desc, field, "unknown kind", e);
	}
	return field->nested == NULL
		       ? 0
		       : table_error(desc, field, "a nested table without structs", e);
}

static int check_desc(const struct state_desc *desc, uint32_t depth, struct error *e)
{
	if (desc->name == NULL || desc->name[0] == '\0' || desc->version == 0) {
		return error_set(e, ERROR_INTERNAL, EINVAL,
				 "state table without a name or version");
	}
	if (depth >= DEPTH_MAX || desc->count > FIELDS_MAX) {
		return error_set(e, ERROR_INTERNAL, EINVAL,
				 "state table '%s': nested deeper than %d, or more than %d fields",
				 desc->name, DEPTH_MAX, FIELDS_MAX);
	}
	state_for_each_field (field, desc) {
		int r = check_desc_field(desc, field, depth, e);

		if (r < 0) {
			return r;
		}
		for (const struct state_field *other = desc->fields; other != field; other++) {
			if (other->tag == field->tag) {
				return table_error(desc, field, "its tag is used twice", e);
			}
			if (ranges_overlap(other->offset, other->size * other->count, field->offset,
					   field->size * field->count)) {
				return table_error(desc, field, "overlaps another field", e);
			}
		}
	}
	return 0;
}

int state_desc_check(const struct state_desc *desc, struct error *e)
{
	return check_desc(desc, 0, e);
}
