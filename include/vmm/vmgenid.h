/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMGenID (Microsoft, "Virtual Machine Generation ID", 2012): 16 random bytes in guest memory that are others when the guest is a
 * copy of itself, one that was restored or forked. Linux puts them into its random number generator, and seeds that anew when they
 * change (drivers/virt/vmgenid.c). They stay while the VM is paused, migrated or reset.
 *
 * The place is reserved in the memory map, cached, and no page that the kernel gives to its programs. The guest can write there, which
 * deceives nobody but itself: nothing is read back.
 *
 * By the thread that owns the machine, with all vCPUs parked. Saved: the identifier, for a reset after a migration. Who restores or forks
 * replaces it, so no copy has one that came from a file.
 */
#ifndef VMM_VMGENID_H
#define VMM_VMGENID_H

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/state.h"

#define VMGENID_SIZE 16

/* What is saved. */
struct vmgenid_state {
	uint8_t guid[VMGENID_SIZE];
};

struct vmgenid {
	struct guest_memory *mem; /* borrowed */
	gpa_t gpa;		  /* multiple of 8 */
	struct vmgenid_state state;
};

extern const struct state_desc vmgenid_state;

/* All zeroes until vmgenid_set(). */
void vmgenid_init(struct vmgenid *vmgenid, struct guest_memory *mem, gpa_t gpa);
/* From now on; vmgenid_write() tells the guest. */
void vmgenid_set(struct vmgenid *vmgenid, const uint8_t guid[VMGENID_SIZE]);
/* To where the guest looks: into fresh RAM, or in place of what is there. ERROR_INTERNAL: that is not RAM. */
int vmgenid_write(struct vmgenid *vmgenid, struct error *e);

#endif
