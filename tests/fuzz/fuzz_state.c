/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a section of saved state against a table with every kind of field. Beyond crashes: a
 * refusal leaves the object alone, and what was accepted is saved and loaded again
 * to the same object. An input that begins with an odd byte is a set of real devices instead
 * (vmm/state_set.h), with ids, kinds and names that a mutation keeps finding.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/acpi_power.h"
#include "vmm/i8042.h"
#include "vmm/pci.h"
#include "vmm/pm_timer.h"
#include "vmm/rtc.h"
#include "vmm/serial.h"
#include "vmm/state_set.h"
#include "vmm/vmclock.h"
#include "vmm/vmgenid.h"

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
	uint32_t twig_count;
	struct leaf twigs[2];
};

static const struct state_field leaf_fields[] = {
	STATE_FIELD(1, struct leaf, small, 1),
	STATE_FIELD(2, struct leaf, wide, 1),
};
static const struct state_desc leaf_state = STATE_DESC("leaf", 1, struct leaf, leaf_fields);

static int branch_validate(const void *object, const void *owner, struct error *e)
{
	const struct branch *branch = object;

	(void)owner;
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
	STATE_STRUCTS_USED(12, struct root, twigs, twig_count, &leaf_state, 1),
};
static const struct state_desc root_state = STATE_DESC("root", 2, struct root, root_fields);

static struct {
	struct serial_state serial;
	struct rtc_state rtc;
	struct i8042_state i8042;
	struct acpi_power_state power;
	struct pm_timer_state timer;
	struct pci_config config;
	struct vmgenid_state vmgenid;
	struct vmclock_state vmclock;
} devices;
static const struct state_entry entries[] = {
	{ "s", "s", 2, { { &serial_state, &devices.serial }, { &rtc_state, &devices.rtc } } },
	{ "k", "k", 1, { { &i8042_state, &devices.i8042 } } },
	{ "p",
	  "p",
	  2,
	  { { &acpi_power_state, &devices.power }, { &pm_timer_state, &devices.timer } } },
	{ "c", "c", 1, { { &pci_config_state, &devices.config } } },
	{ "g",
	  "g",
	  2,
	  { { &vmgenid_state, &devices.vmgenid }, { &vmclock_state, &devices.vmclock } } },
};

/* Everything is taken or nothing; what was taken is valid, and the same again. */
static void load_set(const uint8_t *data, size_t size)
{
	struct state_buf before = { 0 }, after = { 0 }, again = { 0 };
	struct state_reading reading;
	struct error e = { 0 };
	int r;

	memset(&devices, 0, sizeof(devices));
	VMM_BUG_ON(state_set_save(entries, ARRAY_SIZE(entries), &before, NULL) != 0);
	/* What the input is: bytes of a good set, some of them changed. */
	for (size_t i = 0; i + 2 < size; i += 3) {
		before.data[(data[i] | data[i + 1] << 8) % before.len] ^= data[i + 2];
	}
	r = state_set_read(entries, ARRAY_SIZE(entries), before.data, before.len, &reading, &e);
	VMM_BUG_ON(r < 0 && (e.code != ERROR_STATE || e.msg[0] == '\0'));
	if (r == 0) {
		state_set_exchange(&reading);
		for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
			for (uint32_t j = 0; j < entries[i].count; j++) {
				VMM_BUG_ON(state_validate(entries[i].parts[j].desc,
							  entries[i].parts[j].object, NULL) != 0);
			}
		}
		VMM_BUG_ON(state_set_save(entries, ARRAY_SIZE(entries), &after, NULL) != 0);
		state_set_finish(&reading);
		VMM_BUG_ON(state_set_read(entries, ARRAY_SIZE(entries), after.data, after.len,
					  &reading, NULL) != 0);
		state_set_exchange(&reading);
		state_set_finish(&reading);
		VMM_BUG_ON(state_set_save(entries, ARRAY_SIZE(entries), &again, NULL) != 0);
		VMM_BUG_ON(again.len != after.len ||
			   memcmp(again.data, after.data, after.len) != 0);
	}
	state_buf_finish(&before);
	state_buf_finish(&after);
	state_buf_finish(&again);
	/* As it is. */
	if (state_set_read(entries, ARRAY_SIZE(entries), data, size, &reading, NULL) == 0) {
		state_set_finish(&reading);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct root object, again;
	struct state_buf buf = { 0 };
	struct error e = { 0 };
	uint16_t version = size != 0 && (data[size - 1] & 1) != 0 ? 1 : 2;

	int r;

	if (size != 0 && (data[0] & 1) != 0) {
		load_set(data + 1, size - 1);
		return 0;
	}
	memset(&object, 0, sizeof(object));
	memset(&again, 0, sizeof(again));
	r = state_load(&root_state, &object, data, size, version, &e);
	if (r < 0) {
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
