/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of saved objects; vmm/state_set.h has the contract and the encoding. Everything that is read is
 * hostile: each length is checked against what is left, ids and names against those of the objects,
 * the rest by the tables.
 */
#include "vmm/state_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/bytes.h"

/* Writing ------------------------------------------------------------------------------------ */

static void put(struct state_buf *buf, const void *bytes, size_t len)
{
	uint8_t *at = state_buf_grow(buf, len);

	if (at != NULL) {
		memcpy(at, bytes, len);
	}
}

static void put_number(struct state_buf *buf, uint64_t value, unsigned int width)
{
	uint8_t bytes[8];

	store_le(bytes, value, width);
	put(buf, bytes, width);
}

static void put_string(struct state_buf *buf, const char *text)
{
	size_t len = strlen(text);

	VMM_BUG_ON(len > STATE_ID_MAX);
	put_number(buf, len, 2);
	put(buf, text, len);
}

/* How many bytes came since `at`, into the four before it. */
static void put_length(struct state_buf *buf, size_t at)
{
	if (!buf->failed) {
		store_le32(buf->data + at - 4, (uint32_t)(buf->len - at));
	}
}

static int save_entry(const struct state_entry *entry, struct state_buf *buf, struct error *e)
{
	size_t start;

	put_number(buf, 0, 4);
	start = buf->len;
	put_string(buf, entry->id);
	put_string(buf, entry->kind);
	put_number(buf, entry->count, 2);
	for (uint32_t i = 0; i < entry->count; i++) {
		const struct state_part *part = &entry->parts[i];
		size_t section;
		int r;

		put_string(buf, part->desc->name);
		put_number(buf, part->desc->version, 2);
		put_number(buf, 0, 4);
		section = buf->len;
		r = state_save(part->desc, part->object, buf, e);
		if (r < 0) {
			return error_prefix(e, "%s '%s'", entry->kind, entry->id);
		}
		put_length(buf, section);
	}
	put_length(buf, start);
	return 0;
}

int state_set_save(const struct state_entry *entries, size_t count, struct state_buf *buf,
		   struct error *e)
{
	size_t start = buf->len;
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		r = save_entry(&entries[i], buf, e);
	}
	if (r == 0 && buf->failed) {
		r = error_set(e, ERROR_NO_MEMORY, ENOMEM, "save state: out of memory");
	}
	if (r < 0) {
		buf->len = MIN(start, buf->len);
	}
	return r;
}

/* Reading ------------------------------------------------------------------------------------ */

/* What is left of the input, or of a piece of it. */
struct input {
	const uint8_t *at;
	size_t left;
};

struct text {
	char bytes[STATE_ID_MAX + 1];
};

/* NULL: there is less. */
static const uint8_t *take(struct input *input, size_t len)
{
	const uint8_t *at = input->at;

	if (len > input->left) {
		return NULL;
	}
	input->at += len;
	input->left -= len;
	return at;
}

static bool take_number(struct input *input, unsigned int width, uint32_t *ret)
{
	const uint8_t *at = take(input, width);

	if (at != NULL) {
		*ret = (uint32_t)load_le(at, width);
	}
	return at != NULL;
}

/* Without control characters, as ids and names are; messages show it. */
static bool take_string(struct input *input, struct text *ret)
{
	const uint8_t *at;
	uint32_t len;

	if (!take_number(input, 2, &len) || len > STATE_ID_MAX || (at = take(input, len)) == NULL) {
		return false;
	}
	for (uint32_t i = 0; i < len; i++) {
		if (at[i] < 0x20 || at[i] == 0x7f) {
			return false;
		}
	}
	memcpy(ret->bytes, at, len);
	ret->bytes[len] = '\0';
	return true;
}

static bool take_piece(struct input *input, struct input *ret)
{
	uint32_t len;

	if (!take_number(input, 4, &len)) {
		return false;
	}
	ret->at = take(input, len);
	ret->left = len;
	return ret->at != NULL;
}

static int cut_off(struct error *e)
{
	return error_set(e, ERROR_STATE, EINVAL, "saved state is cut off, or damaged");
}

static int other_machine(struct error *e)
{
	return error_hint(e, "the machine has to have the devices of the one that was saved, with "
			     "as many queues, on the same transport");
}

static int read_part(const struct state_part *part, struct input *input, void **ret,
		     struct error *e)
{
	struct text name;
	struct input section;
	uint32_t version;

	if (!take_string(input, &name) || !take_number(input, 2, &version) ||
	    !take_piece(input, &section)) {
		return cut_off(e);
	}
	if (strcmp(name.bytes, part->desc->name) != 0) {
		(void)error_set(e, ERROR_STATE, EINVAL,
				"the saved state has a table '%.64s' where '%s' is expected",
				name.bytes, part->desc->name);
		return other_machine(e);
	}
	return state_decode(part->desc, part->object, section.at, section.left, (uint16_t)version,
			    ret, e);
}

static int read_parts(const struct state_entry *entry, struct input *input, void **decoded,
		      struct error *e)
{
	uint32_t count;
	int r = 0;

	if (!take_number(input, 2, &count)) {
		return cut_off(e);
	}
	if (count != entry->count) {
		(void)error_set(e, ERROR_STATE, EINVAL,
				"the saved state has %u tables of it, here are %u", count,
				entry->count);
		return other_machine(e);
	}
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		r = read_part(&entry->parts[i], input, &decoded[i], e);
	}
	return r == 0 && input->left != 0 ? cut_off(e) : r;
}

static int find_entry(const struct state_reading *reading, struct input *input, size_t *ret,
		      struct error *e)
{
	struct text id, kind;

	if (!take_string(input, &id) || !take_string(input, &kind)) {
		return cut_off(e);
	}
	for (size_t i = 0; i < reading->count; i++) {
		const struct state_entry *entry = &reading->entries[i];

		if (strcmp(entry->id, id.bytes) == 0 && strcmp(entry->kind, kind.bytes) == 0) {
			*ret = i;
			return 0;
		}
	}
	(void)error_set(e, ERROR_STATE, ENOENT,
			"the saved state has a %.64s '%.64s', which is not here", kind.bytes,
			id.bytes);
	return other_machine(e);
}

static int read_entry(struct state_reading *reading, struct input *input, bool *seen,
		      struct error *e)
{
	const struct state_entry *entry;
	struct input piece;
	size_t index;
	int r = take_piece(input, &piece) ? find_entry(reading, &piece, &index, e) : cut_off(e);

	if (r < 0) {
		return r;
	}
	entry = &reading->entries[index];
	if (seen[index]) {
		return error_set(e, ERROR_STATE, EEXIST, "the saved state has %s '%s' twice",
				 entry->kind, entry->id);
	}
	seen[index] = true;
	r = read_parts(entry, &piece, &reading->decoded[index * STATE_PARTS_MAX], e);
	return r < 0 ? error_prefix(e, "%s '%s'", entry->kind, entry->id) : 0;
}

int state_set_read(const struct state_entry *entries, size_t count, const uint8_t *data, size_t len,
		   struct state_reading *reading, struct error *e)
{
	struct input input = { .at = data, .left = len };
	bool *seen = calloc(count + 1, sizeof(*seen));
	int r = 0;

	*reading = (struct state_reading){
		.entries = entries,
		.count = count,
		.decoded = calloc(count * STATE_PARTS_MAX + 1, sizeof(*reading->decoded)),
	};
	if (seen == NULL || reading->decoded == NULL) {
		r = error_set(e, ERROR_NO_MEMORY, ENOMEM, "load state: out of memory");
	}
	while (r == 0 && input.left != 0) {
		r = read_entry(reading, &input, seen, e);
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		if (!seen[i]) {
			(void)error_set(e, ERROR_STATE, ENOENT, "the saved state has no %s '%s'",
					entries[i].kind, entries[i].id);
			r = other_machine(e);
		}
	}
	free(seen);
	if (r < 0) {
		state_set_finish(reading);
	}
	return r;
}

void state_set_exchange(struct state_reading *reading)
{
	for (size_t i = 0; i < reading->count; i++) {
		const struct state_entry *entry = &reading->entries[i];

		for (uint32_t j = 0; j < entry->count; j++) {
			state_exchange(entry->parts[j].desc, entry->parts[j].object,
				       reading->decoded[i * STATE_PARTS_MAX + j]);
		}
	}
	/* Of a whole machine: a table's may look at those of its device. */
	for (size_t i = 0; i < reading->count; i++) {
		const struct state_entry *entry = &reading->entries[i];

		for (uint32_t j = 0; j < entry->count; j++) {
			state_run_post_load(entry->parts[j].desc, entry->parts[j].object);
		}
	}
}

void state_set_finish(struct state_reading *reading)
{
	for (size_t i = 0; reading->decoded != NULL && i < reading->count * STATE_PARTS_MAX; i++) {
		free(reading->decoded[i]);
	}
	free(reading->decoded);
	*reading = (struct state_reading){ 0 };
}
