/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving and loading from state tables; vmm/state.h has the rules, state_table.c checks the tables. Wire format, all
 * little-endian, no padding:
 *
 *	section = field*			in the order of the table; one field per tag
 *	field   = u16 tag, u32 length, value
 *	value   = number | one byte 0 or 1 | number* | bytes | u16 version, u32 count, element*
 *	element = u32 length, section
 *
 * Loading has four steps: check every tag, length and nesting of the input; store it into a copy of the plain struct, with
 * validate() from the innermost table outwards; put the copy in its place; post_load(). Input comes
 * from files and peers and is hostile: every length is checked against what is left, nesting is as deep as the tables only,
 * and what the numbers mean is left to validate(). Objects are quiesced: nobody else looks at them.
 */
#include "vmm/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state_internal.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"

#define FIELD_HEADER   6 /* tag and length */
#define STRUCTS_HEADER 6 /* version and count */
#define ELEMENT_HEADER 4

void state_buf_finish(struct state_buf *buf)
{
	free(buf->data);
	*buf = (struct state_buf){ 0 };
}

uint8_t *state_buf_grow(struct state_buf *buf, size_t len)
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
	case STATE_KIND_BLOB:
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
	case STATE_KIND_BLOB:
	case STATE_KIND_STRUCTS:
		break;
	}
}

size_t state_scalar_width(enum state_kind kind)
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
	case STATE_KIND_BLOB:
	case STATE_KIND_STRUCTS:
		break;
	}
	return 0;
}

/* Elements in use: what save writes. The owner's own number, so a wrong one is a bug of ours. */
static size_t used_count(const struct state_field *field, const uint8_t *object)
{
	uint32_t used;

	if (field->used == 0) {
		return field->count;
	}
	memcpy(&used, object + field->used - 1, sizeof(used));
	VMM_BUG_ON(used > field->count);
	return used;
}

static void save_section(const struct state_desc *desc, const uint8_t *object,
			 struct state_buf *buf);

static void save_structs(const struct state_field *field, const uint8_t *member, size_t count,
			 struct state_buf *buf)
{
	uint8_t *at = state_buf_grow(buf, STRUCTS_HEADER);

	if (at != NULL) {
		store_le16(at, field->nested->version);
		store_le32(at + 2, (uint32_t)count);
	}
	for (size_t i = 0; i < count; i++) {
		size_t header = buf->len;

		(void)state_buf_grow(buf, ELEMENT_HEADER);
		save_section(field->nested, member + i * field->size, buf);
		if (!buf->failed) {
			store_le32(buf->data + header,
				   (uint32_t)(buf->len - header - ELEMENT_HEADER));
		}
	}
}

static void save_value(const struct state_field *field, const uint8_t *member, size_t count,
		       struct state_buf *buf)
{
	size_t width = state_scalar_width(field->kind);
	uint8_t *at;

	if (field->kind == STATE_KIND_STRUCTS) {
		save_structs(field, member, count, buf);
		return;
	}
	at = state_buf_grow(buf, count * (width != 0 ? width : 1));
	if (at == NULL) {
		return;
	}
	if (width == 0) {
		memcpy(at, member, count);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		store_le(at + i * width, load_scalar(field->kind, member + i * width), width);
	}
}

static void save_section(const struct state_desc *desc, const uint8_t *object,
			 struct state_buf *buf)
{
	state_for_each_field (field, desc) {
		size_t header = buf->len;

		(void)state_buf_grow(buf, FIELD_HEADER);
		save_value(field, object + field->offset, used_count(field, object), buf);
		if (!buf->failed) {
			store_le16(buf->data + header, field->tag);
			store_le32(buf->data + header + 2,
				   (uint32_t)(buf->len - header - FIELD_HEADER));
		}
	}
}

/* The plain struct. */
static uint8_t *plain(const struct state_desc *desc, const void *object)
{
	return (uint8_t *)(uintptr_t)object + desc->inside;
}

int state_save(const struct state_desc *desc, const void *object, struct state_buf *buf,
	       struct error *e)
{
	size_t start = buf->len;

	save_section(desc, plain(desc, object), buf);
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

static int check_version(const struct state_desc *desc, uint16_t version, struct error *e)
{
	if (version == 0 || version > desc->version) {
		(void)error_set(e, ERROR_STATE, EINVAL,
				"%s: state of version %u, known are 1 to %u", desc->name, version,
				desc->version);
		return error_hint(e, "it was written by a newer vmm: load it with that one");
	}
	return 0;
}

static int check_elements(const struct state_desc *desc, const struct state_field *field,
			  const uint8_t *at, size_t left, uint32_t depth, struct error *e)
{
	uint16_t version = load_le16(at);
	uint32_t count = load_le32(at + 2);

	at += STRUCTS_HEADER;
	left -= STRUCTS_HEADER;
	for (uint32_t i = 0; i < count; i++) {
		size_t len;
		int r;

		if (left < ELEMENT_HEADER || load_le32(at) > left - ELEMENT_HEADER) {
			return error_set(e, ERROR_STATE, EINVAL,
					 "%s: field '%s': element %u of %u is cut off", desc->name,
					 field->name, i, count);
		}
		len = load_le32(at);
		r = check_section(field->nested, at + ELEMENT_HEADER, len, version, depth + 1, e);
		if (r < 0) {
			return error_prefix(e, "%s: field '%s', element %u", desc->name,
					    field->name, i);
		}
		at += ELEMENT_HEADER + len;
		left -= ELEMENT_HEADER + len;
	}
	if (left != 0) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "%s: field '%s' has more than its %u elements", desc->name,
				 field->name, count);
	}
	return 0;
}

static int check_structs(const struct state_desc *desc, const struct state_field *field,
			 const struct wire_field *wire, uint32_t depth, struct error *e)
{
	int r;

	if (wire->len < STRUCTS_HEADER) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "%s: field '%s' has %u bytes, expected %d and more", desc->name,
				 field->name, wire->len, STRUCTS_HEADER);
	}
	r = check_version(field->nested, load_le16(wire->value), e);
	if (r < 0) {
		return error_prefix(e, "%s: field '%s'", desc->name, field->name);
	}
	if (load_le32(wire->value + 2) > field->count) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "%s: field '%s' has %u elements, there is room for %zu",
				 desc->name, field->name, load_le32(wire->value + 2), field->count);
	}
	return check_elements(desc, field, wire->value, wire->len, depth, e);
}

/* Arrays may be shorter than the table says: they may have grown since, or have a count. */
static int check_length(const struct state_desc *desc, const struct state_field *field,
			uint32_t len, struct error *e)
{
	size_t width = MAX(state_scalar_width(field->kind), (size_t)1);
	bool exact = field->kind == STATE_KIND_BLOB || (field->count == 1 && field->used == 0);
	size_t most = field->count * width;

	if (exact ? len != most : len > most || len % width != 0) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "%s: field '%s' has %u bytes, expected %s%zu", desc->name,
				 field->name, len, exact ? "" : "whole numbers in up to ", most);
	}
	return 0;
}

static int check_field(const struct state_desc *desc, const struct state_field *field,
		       const struct wire_field *wire, uint16_t version, uint32_t depth,
		       struct error *e)
{
	int r;

	if (field->since > version) {
		return error_set(
			e, ERROR_STATE, EINVAL,
			"%s: field '%s' is new in version %u, but the state is of version %u",
			desc->name, field->name, field->since, version);
	}
	if (field->kind == STATE_KIND_STRUCTS) {
		return check_structs(desc, field, wire, depth, e);
	}
	r = check_length(desc, field, wire->len, e);
	if (r < 0 || field->kind != STATE_KIND_BOOL) {
		return r;
	}
	for (uint32_t i = 0; i < wire->len; i++) {
		if (wire->value[i] > 1) {
			return error_set(e, ERROR_STATE, EINVAL,
					 "%s: field '%s' is %u, expected 0 or 1", desc->name,
					 field->name, wire->value[i]);
		}
	}
	return 0;
}

static int check_section(const struct state_desc *desc, const uint8_t *data, size_t len,
			 uint16_t version, uint32_t depth, struct error *e)
{
	uint64_t seen[STATE_FIELDS_MAX / 64] = { 0 };
	size_t offset = 0;

	VMM_BUG_ON(depth >= STATE_DEPTH_MAX || desc->count > STATE_FIELDS_MAX);
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

static int store_section(const struct state_desc *desc, uint8_t *object, const void *owner,
			 const uint8_t *data, size_t len, struct error *e);

static int store_structs(const struct state_desc *desc, const struct state_field *field,
			 uint8_t *member, const void *owner, const uint8_t *at, struct error *e)
{
	uint32_t count = load_le32(at + 2);

	at += STRUCTS_HEADER;
	for (uint32_t i = 0; i < count; i++) {
		size_t len = load_le32(at);
		int r = store_section(field->nested, member + i * field->size, owner,
				      at + ELEMENT_HEADER, len, e);

		if (r < 0) {
			return error_prefix(e, "%s: field '%s', element %u", desc->name,
					    field->name, i);
		}
		at += ELEMENT_HEADER + len;
	}
	return 0;
}

/* How many elements an accepted field brings. */
static uint32_t wire_count(const struct state_field *field, const struct wire_field *wire)
{
	size_t width = MAX(state_scalar_width(field->kind), (size_t)1);

	return field->kind == STATE_KIND_STRUCTS ? load_le32(wire->value + 2)
						 : (uint32_t)(wire->len / width);
}

static int store_field(const struct state_desc *desc, const struct state_field *field,
		       uint8_t *object, const void *owner, const struct wire_field *wire,
		       struct error *e)
{
	size_t width = state_scalar_width(field->kind);
	uint8_t *member = object + field->offset;
	uint32_t count = wire_count(field, wire);

	if (field->used != 0) {
		memcpy(object + field->used - 1, &count, sizeof(count));
	}
	if (field->kind == STATE_KIND_STRUCTS) {
		return store_structs(desc, field, member, owner, wire->value, e);
	}
	if (width == 0 && wire->len != 0) {
		memcpy(member, wire->value, wire->len);
	}
	for (uint32_t i = 0; width != 0 && i < count; i++) {
		store_scalar(field->kind, member + i * width,
			     load_le(wire->value + i * width, width));
	}
	return 0;
}

/* The input has passed check_section(). */
static int store_section(const struct state_desc *desc, uint8_t *object, const void *owner,
			 const uint8_t *data, size_t len, struct error *e)
{
	struct wire_field wire;

	for (size_t offset = 0; offset < len && take_field(data + offset, len - offset, &wire);
	     offset += FIELD_HEADER + wire.len) {
		const struct state_field *field = find_field(desc, wire.tag);
		int r;

		VMM_BUG_ON(field == NULL);
		r = store_field(desc, field, object, owner, &wire, e);
		if (r < 0) {
			return r;
		}
	}
	if (desc->validate != NULL) {
		int r = desc->validate(object, owner, e);

		if (r < 0) {
			return error_prefix(e, "%s", desc->name);
		}
	}
	return 0;
}

static void run_post_load(const struct state_desc *desc, uint8_t *object, void *owner)
{
	state_for_each_field (field, desc) {
		for (size_t i = 0; field->kind == STATE_KIND_STRUCTS && i < field->count; i++) {
			run_post_load(field->nested, object + field->offset + i * field->size,
				      owner);
		}
	}
	if (desc->post_load != NULL) {
		desc->post_load(object, owner);
	}
}

void state_run_post_load(const struct state_desc *desc, void *object)
{
	run_post_load(desc, plain(desc, object), object);
}

int state_decode(const struct state_desc *desc, const void *object, const uint8_t *data, size_t len,
		 uint16_t version, void **ret, struct error *e)
{
	auto_free uint8_t *copy = NULL;
	int r = check_version(desc, version, e);

	if (r == 0) {
		r = check_section(desc, data, len, version, 0, e);
	}
	if (r < 0) {
		return r;
	}
	copy = malloc(desc->object_size);
	if (copy == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "load state of '%s': out of memory",
				 desc->name);
	}
	memcpy(copy, plain(desc, object), desc->object_size);
	r = store_section(desc, copy, object, data, len, e);
	if (r == 0) {
		*ret = take_ptr(copy);
	}
	return r;
}

void state_exchange(const struct state_desc *desc, void *object, void *decoded)
{
	uint8_t *here = plain(desc, object), *there = decoded;

	for (size_t i = 0; i < desc->object_size; i++) {
		uint8_t byte = here[i];

		here[i] = there[i];
		there[i] = byte;
	}
}

int state_validate(const struct state_desc *desc, const void *object, struct error *e)
{
	return desc->validate != NULL ? desc->validate(plain(desc, object), object, e) : 0;
}

int state_load(const struct state_desc *desc, void *object, const uint8_t *data, size_t len,
	       uint16_t version, struct error *e)
{
	void *decoded;
	int r = state_decode(desc, object, data, len, version, &decoded, e);

	if (r == 0) {
		memcpy(plain(desc, object), decoded, desc->object_size);
		free(decoded);
		state_run_post_load(desc, object);
	}
	return r;
}
