/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that KVM keeps for one vCPU, read and written in the one order that works. Private to
 * src/vmm. Used by machine reset now, by snapshot and migration later.
 */
#ifndef VMM_SRC_X86_VCPU_STATE_H
#define VMM_SRC_X86_VCPU_STATE_H

#include <linux/kvm.h>

#include "../kvm.h"
#include "vmm/loader.h"

#define VCPU_MSRS_MAX 256

/* The MSRs that this host's KVM saves; the same for all vCPUs. */
struct msr_list {
	uint32_t count;
	uint32_t indices[VCPU_MSRS_MAX];
};

struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	uint32_t msr_count;
	struct kvm_msr_entry msrs[VCPU_MSRS_MAX];
	struct kvm_xsave *xsave; /* kvm->xsave_size bytes, owned */
};

int msr_list_read(struct msr_list *list, int kvm_fd, struct error *e);

void vcpu_state_finish(struct vcpu_state *state);
/* The vCPU is not in KVM_RUN. */
int vcpu_state_get(struct vcpu_state *state, const struct kvm *kvm, const struct msr_list *msrs,
		   int vcpu_fd, struct error *e);
/* `keep_tsc`: leaves TSC and TSC offset alone (machine reset: time runs on). */
int vcpu_state_set(const struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd,
		   bool keep_tsc, struct error *e);

/* Power-on settings that KVM leaves to us: MTRR default type, fast strings, LINT0/1. */
int vcpu_set_power_on(int vcpu_fd, struct error *e);
/* The boot vCPU at the kernel's first instruction. */
int vcpu_set_entry(int vcpu_fd, const struct boot_entry *entry, struct error *e);

#endif
