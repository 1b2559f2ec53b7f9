/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The time stamp counters of a saved VM. Private to src/vmm/x86.
 *
 * KVM gives a guest its TSC as the host's plus an offset, one for each vCPU; as long as all are the same
 * it can serve kvm-clock without locks (its "master clock"), and a guest believes that its TSCs are
 * synchronised. So after a load vCPU 0 is given its value, and each other vCPU the same distance from
 * it in offsets as before, not a value of its own.
 */
#ifndef VMM_SRC_X86_TSC_H
#define VMM_SRC_X86_TSC_H

#include "../kvm.h"
#include "vmm/state.h"

struct tsc_state {
	uint32_t khz;
	bool has_offset;   /* KVM has told it */
	uint64_t offset;   /* guest's TSC - host's, modulo 2^64 */
	uint64_t realtime; /* CLOCK_REALTIME when the vCPU was captured, ns */
};
extern const struct state_field tsc_fields[4];

int tsc_capture(struct tsc_state *tsc, int vcpu_fd, struct error *e);
/* Before registers are loaded: the rate. ERROR_STATE names both if this host cannot have it. */
int tsc_apply_rate(const struct tsc_state *tsc, const struct kvm *kvm, int vcpu_fd,
		   struct error *e);
/* After that: vCPU 0 has its value; `first` is its state. */
int tsc_apply_offset(const struct tsc_state *tsc, int vcpu_fd, const struct tsc_state *first,
		     int first_fd, struct error *e);
/* How far the counter has come in the time since the capture: for a guest whose clock steps on. */
uint64_t tsc_elapsed(const struct tsc_state *tsc);

#endif
