/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: see vmm/vmclock.h. A change raises the sequence number to an odd one, changes what it guards, and raises it
 * again, with a barrier between: whoever reads it twice and finds the same even number has read what belongs together. What else is in
 * the page is written once in a guest's life.
 *
 * Runs with all vCPUs parked, no lock. The guest controls nothing here: the numbers are ours, not those in its memory. Saved: these; a
 * state that is in the middle of a change is refused.
 */
#include "vmm/vmclock.h"

#include <errno.h>
#include <inttypes.h>

#include "vmm/bytes.h"

static int vmclock_validate(const void *object, const void *owner, struct error *e)
{
	const struct vmclock_state *state = object;
	uint32_t seq = state->seq_count;

	(void)owner;
	if (seq % 2 != 0) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "vmclock: sequence number %" PRIu32 ": odd, and no change is ever "
				 "under way in a saved state",
				 seq);
	}
	return 0;
}

static const struct state_field vmclock_fields[] = {
	STATE_FIELD(1, struct vmclock_state, seq_count, 1),
	STATE_FIELD(2, struct vmclock_state, disruption_marker, 1),
	STATE_FIELD(3, struct vmclock_state, vm_generation_counter, 1),
};
const struct state_desc vmclock_state = STATE_DESC("vmclock", 1, struct vmclock_state,
						   vmclock_fields, .validate = vmclock_validate);

void vmclock_init(struct vmclock *vmclock, struct guest_memory *mem, gpa_t gpa)
{
	*vmclock = (struct vmclock){ .mem = mem, .gpa = gpa };
}

void vmclock_set(struct vmclock *vmclock, uint64_t disruption, uint64_t generation)
{
	vmclock->state.disruption_marker = disruption;
	vmclock->state.vm_generation_counter = generation;
}

static int no_page(const struct vmclock *vmclock, struct error *e)
{
	return error_set(e, ERROR_INTERNAL, EFAULT, "VMClock: no guest RAM at 0x%" PRIx64,
			 vmclock->gpa);
}

int vmclock_write(struct vmclock *vmclock, struct error *e)
{
	const struct vmclock_state *state = &vmclock->state;
	uint8_t page[VMCLOCK_USED] = { 0 };

	store_le32(page + VMCLOCK_AT_MAGIC, VMCLOCK_MAGIC);
	store_le32(page + VMCLOCK_AT_SIZE, VMCLOCK_PAGE_SIZE);
	store_le16(page + VMCLOCK_AT_VERSION, VMCLOCK_VERSION);
	page[VMCLOCK_AT_COUNTER_ID] = VMCLOCK_COUNTER_INVALID;
	store_le32(page + VMCLOCK_AT_SEQ_COUNT, state->seq_count);
	store_le64(page + VMCLOCK_AT_DISRUPTION, state->disruption_marker);
	store_le64(page + VMCLOCK_AT_FLAGS,
		   VMCLOCK_FLAG_VM_GEN_COUNTER | VMCLOCK_FLAG_NOTIFICATION);
	page[VMCLOCK_AT_CLOCK_STATUS] = VMCLOCK_STATUS_UNKNOWN;
	store_le64(page + VMCLOCK_AT_GENERATION, state->vm_generation_counter);
	return guest_memory_write(vmclock->mem, vmclock->gpa, page, sizeof(page))
		       ? 0
		       : no_page(vmclock, e);
}

/* Two halves: what is torn is guarded by the sequence number. */
static void store64(struct vmclock *vmclock, uint8_t *host, uint64_t value)
{
	guest_memory_store32(vmclock->mem, host, (uint32_t)value);
	guest_memory_store32(vmclock->mem, host + sizeof(uint32_t), (uint32_t)(value >> 32));
}

int vmclock_change(struct vmclock *vmclock, uint64_t disruption, uint64_t generation,
		   struct error *e)
{
	uint8_t *page = guest_memory_write_pointer(vmclock->mem, vmclock->gpa, VMCLOCK_USED);
	struct vmclock_state *state = &vmclock->state;

	if (page == NULL) {
		return no_page(vmclock, e);
	}
	vmclock_set(vmclock, disruption, generation);
	state->seq_count += 2;
	guest_memory_store32(vmclock->mem, page + VMCLOCK_AT_SEQ_COUNT, state->seq_count - 1);
	atomic_thread_fence(memory_order_seq_cst);
	store64(vmclock, page + VMCLOCK_AT_DISRUPTION, disruption);
	store64(vmclock, page + VMCLOCK_AT_GENERATION, generation);
	atomic_thread_fence(memory_order_seq_cst);
	guest_memory_store32(vmclock->mem, page + VMCLOCK_AT_SEQ_COUNT, state->seq_count);
	return 0;
}
