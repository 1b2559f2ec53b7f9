// SPDX-License-Identifier: Apache-2.0
/*
 * Whether a state table is sound: tags and versions in range and used once, members inside the object, of the size of their
 * kind, and apart from each other, a table for every nested struct. Tests ask it of every table; nothing at run time does.
 */
#include <errno.h>

#include "state_internal.h"
#include "vmm/overflow.h"

static int check_desc(const struct state_desc *desc, uint32_t depth, struct error *e);

static int table_error(const struct state_desc *desc, const struct state_field *field,
		       const char *why, struct error *e)
{
	return error_set(e, ERROR_INTERNAL, EINVAL, "state table '%s', field '%s': %s", desc->name,
			 field->name != NULL ? field->name : "?", why);
}

/* Bytes of the object that the field takes. */
static size_t inside(const struct state_field *field)
{
	return field->size * field->count;
}

static int check_desc_field(const struct state_desc *desc, const struct state_field *field,
			    uint32_t depth, struct error *e)
{
	size_t width = state_scalar_width(field->kind);
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
	    !range_within(field->offset, inside(field), desc->object_size)) {
		return table_error(desc, field, "not inside the object", e);
	}
	if (width != 0 && (field->size != width || field->offset % width != 0)) {
		return table_error(desc, field, "size or alignment is not that of its kind", e);
	}
	if (width == 0 && field->kind != STATE_KIND_STRUCTS && field->size != 1) {
		return table_error(desc, field, "an array of something other than bytes", e);
	}
	if (field->used != 0 &&
	    (field->kind == STATE_KIND_BLOB ||
	     !range_within(field->used - 1, sizeof(uint32_t), desc->object_size))) {
		return table_error(desc, field, "its count is not inside the object", e);
	}
	if (field->kind == STATE_KIND_STRUCTS) {
		if (field->nested == NULL || field->nested->object_size != field->size) {
			return table_error(desc, field, "no nested table of the member's size", e);
		}
		return check_desc(field->nested, depth + 1, e);
	}
	if (width == 0 && field->kind != STATE_KIND_BYTES && field->kind != STATE_KIND_BLOB) {
		return table_error(desc, field, "unknown kind", e);
	}
	return field->nested == NULL
		       ? 0
		       : table_error(desc, field, "a nested table without structs", e);
}

static bool covers(const struct state_field *field, size_t offset, size_t size)
{
	return ranges_overlap(field->offset, inside(field), offset, size);
}

/* The elements of one with the elements or the count of the other. */
static bool fields_overlap(const struct state_field *one, const struct state_field *other)
{
	return covers(one, other->offset, inside(other)) ||
	       (other->used != 0 && covers(one, other->used - 1, sizeof(uint32_t))) ||
	       (one->used != 0 && one->used == other->used);
}

static int check_desc(const struct state_desc *desc, uint32_t depth, struct error *e)
{
	if (desc->name == NULL || desc->name[0] == '\0' || desc->version == 0) {
		return error_set(e, ERROR_INTERNAL, EINVAL,
				 "state table without a name or version");
	}
	if (depth != 0 && desc->inside != 0) {
		return error_set(e, ERROR_INTERNAL, EINVAL,
				 "state table '%s': nested, and inside of something", desc->name);
	}
	if (depth >= STATE_DEPTH_MAX || desc->count > STATE_FIELDS_MAX) {
		return error_set(e, ERROR_INTERNAL, EINVAL,
				 "state table '%s': nested deeper than %d, or more than %d fields",
				 desc->name, STATE_DEPTH_MAX, STATE_FIELDS_MAX);
	}
	state_for_each_field (field, desc) {
		int r = check_desc_field(desc, field, depth, e);

		if (r < 0) {
			return r;
		}
		if (field->used != 0 && covers(field, field->used - 1, sizeof(uint32_t))) {
			return table_error(desc, field, "holds its own count", e);
		}
		for (const struct state_field *other = desc->fields; other != field; other++) {
			if (other->tag == field->tag) {
				return table_error(desc, field, "its tag is used twice", e);
			}
			if (fields_overlap(other, field) || fields_overlap(field, other)) {
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
