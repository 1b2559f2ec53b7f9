/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: see vmm/vmgenid.h. Bytes in guest memory and nothing else; who tells the guest that they have changed is the
 * machine (src/vmm/generation.c). Runs with all vCPUs parked, no lock. The guest controls nothing here. Saved: the identifier.
 */
#include "vmm/vmgenid.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const struct state_field vmgenid_fields[] = {
	STATE_BYTES(1, struct vmgenid_state, guid, 1),
};
const struct state_desc vmgenid_state =
	STATE_DESC("vmgenid", 1, struct vmgenid_state, vmgenid_fields);

void vmgenid_init(struct vmgenid *vmgenid, struct guest_memory *mem, gpa_t gpa)
{
	*vmgenid = (struct vmgenid){ .mem = mem, .gpa = gpa };
}

void vmgenid_set(struct vmgenid *vmgenid, const uint8_t guid[VMGENID_SIZE])
{
	memcpy(vmgenid->state.guid, guid, VMGENID_SIZE);
}

int vmgenid_write(struct vmgenid *vmgenid, struct error *e)
{
	if (!guest_memory_write(vmgenid->mem, vmgenid->gpa, vmgenid->state.guid, VMGENID_SIZE)) {
		return error_set(e, ERROR_INTERNAL, EFAULT, "VMGenID: no guest RAM at 0x%" PRIx64,
				 vmgenid->gpa);
	}
	return 0;
}
