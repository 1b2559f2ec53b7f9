/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a section of saved state against a table with every kind of field. Beyond crashes: a
 * refusal leaves the object alone, and what was accepted is saved and loaded again
 * to the same object.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct leaf {
	uint8_t small;
	_Atomic uint32_t wide;
};

struct branch {
	uint16_t index;
	struct leaf leaves[2];
};

struct root {
	uint8_t u8;
	_Atomic uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	_Atomic bool flag;
	uint8_t bytes[3];
	struct branch branches[3];
	uint32_t numbers[3];
	uint32_t some_len;
	uint16_t some[5];
	struct leaf blob;
	uint32_t young;
};

static const struct state_field leaf_fields[] = {
	STATE_FIELD(1, struct leaf, small, 1),
	STATE_FIELD(2, struct leaf, wide, 1),
};
static const struct state_desc leaf_state = STATE_DESC("leaf", 1, struct leaf, leaf_fields);

static int branch_validate(const void *object, struct error *e)
{
	const struct branch *branch = object;

	return branch->index < 256 ? 0 : error_set(e, ERROR_STATE, 0, "index %u", branch->index);
}

static const struct state_field branch_fields[] = {
	STATE_FIELD(1, struct branch, index, 1),
	STATE_STRUCTS(2, struct branch, leaves, &leaf_state, 2, 1),
};
static const struct state_desc branch_state =
	STATE_DESC("branch", 1, struct branch, branch_fields, .validate = branch_validate);

static const struct state_field root_fields[] = {
	STATE_FIELD(1, struct root, u8, 1),
	STATE_FIELD(2, struct root, u16, 1),
	STATE_FIELD(3, struct root, u32, 1),
	STATE_FIELD(4, struct root, u64, 1),
	STATE_FIELD(5, struct root, flag, 1),
	STATE_BYTES(6, struct root, bytes, 1),
	STATE_STRUCTS(7, struct root, branches, &branch_state, 3, 1),
	STATE_FIELD(8, struct root, young, 2),
	STATE_ARRAY(9, struct root, numbers, 1),
	STATE_ARRAY_USED(10, struct root, some, some_len, 1),
	STATE_BLOB(11, struct root, blob, 1),
};
static const struct state_desc root_state = STATE_DESC("root", 2, struct root, root_fields);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct root object, again;
	struct state_buf buf = { 0 };
	struct error e = { 0 };
	uint16_t version = size != 0 && (data[size - 1] & 1) != 0 ? 1 : 2;

	memset(&object, 0, sizeof(object));
	memset(&again, 0, sizeof(again));
	if (state_load(&root_state, &object, data, size, version, &e) < 0) {
		VMM_BUG_ON(e.code != ERROR_STATE || e.msg[0] == '\0');
		VMM_BUG_ON(memcmp(&object, &again, sizeof(object)) != 0);
		return 0;
	}
	VMM_BUG_ON(state_save(&root_state, &object, &buf, NULL) != 0);
	VMM_BUG_ON(state_load(&root_state, &again, buf.data, buf.len, 2, NULL) != 0);
	VMM_BUG_ON(memcmp(&object, &again, sizeof(object)) != 0);
	state_buf_finish(&buf);
	return 0;
}
