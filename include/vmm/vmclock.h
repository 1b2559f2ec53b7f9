/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMClock (UAPI group's specification 13; its numbers are those of Linux' include/uapi/linux/vmclock-abi.h, version 1, where the two
 * disagree): a page in guest memory that a guest can give to its programs, so that these see without a system call that the
 * counter they keep time by was disrupted, or that they run in a copy. Two words of it change with a copy: `disruption_marker` and
 * `vm_generation_counter`. They are random, so that they differ between copies as well, and stay while the VM is paused or reset.
 *
 * No clock is told: the counter is "invalid", its status "unknown", which the specification has for that; time is kvm-clock's.
 *
 * The page is reserved in the memory map and the guest's own: it can write there, which deceives nobody but itself, because nothing is
 * read back. By the thread that owns the machine, with all vCPUs parked. Saved: the two words, and the sequence number.
 */
#ifndef VMM_VMCLOCK_H
#define VMM_VMCLOCK_H

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/state.h"

#define VMCLOCK_PAGE_SIZE 0x1000 /* bytes, of the window that _CRS names; rest: zeroes */

#define VMCLOCK_MAGIC		    0x4b4c4356 /* "VCLK" */
#define VMCLOCK_VERSION		    1
#define VMCLOCK_COUNTER_INVALID	    0xff
#define VMCLOCK_STATUS_UNKNOWN	    0
#define VMCLOCK_FLAG_VM_GEN_COUNTER (1U << 8)
#define VMCLOCK_FLAG_NOTIFICATION   (1U << 9)

/* Offsets in the page, little-endian. Those in between are of the clock, and zero. */
enum {
	VMCLOCK_AT_MAGIC = 0x00,	/* u32 */
	VMCLOCK_AT_SIZE = 0x04,		/* u32, of the page */
	VMCLOCK_AT_VERSION = 0x08,	/* u16 */
	VMCLOCK_AT_COUNTER_ID = 0x0a,	/* u8 */
	VMCLOCK_AT_SEQ_COUNT = 0x0c,	/* u32, odd while what follows changes */
	VMCLOCK_AT_DISRUPTION = 0x10,	/* u64 */
	VMCLOCK_AT_FLAGS = 0x18,	/* u64 */
	VMCLOCK_AT_CLOCK_STATUS = 0x22, /* u8 */
	VMCLOCK_AT_GENERATION = 0x68,	/* u64 */
	VMCLOCK_USED = 0x70,
};

/* What is saved. */
struct vmclock_state {
	uint32_t seq_count; /* even */
	uint64_t disruption_marker, vm_generation_counter;
};

struct vmclock {
	struct guest_memory *mem; /* borrowed */
	gpa_t gpa;		  /* of the page */
	struct vmclock_state state;
};

extern const struct state_desc vmclock_state;

void vmclock_init(struct vmclock *vmclock, struct guest_memory *mem, gpa_t gpa);
/* Before vmclock_write(): the words of this life. */
void vmclock_set(struct vmclock *vmclock, uint64_t disruption, uint64_t generation);
/* The page, into fresh RAM. ERROR_INTERNAL: there is none. */
int vmclock_write(struct vmclock *vmclock, struct error *e);
/* Other words than those that the guest has seen: as the specification wants a page to be changed that is being read. */
int vmclock_change(struct vmclock *vmclock, uint64_t disruption, uint64_t generation,
		   struct error *e);

#endif
