/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that KVM keeps for one vCPU, read and written in the one order that works. Private to
 * src/vmm. For a machine reset, which writes back power-on, and for a saved VM.
 */
#ifndef VMM_SRC_X86_VCPU_STATE_H
#define VMM_SRC_X86_VCPU_STATE_H

#include <linux/kvm.h>

#include "../kvm.h"
#include "cpuid.h"
#include "tsc.h"
#include "vmm/loader.h"
#include "vmm/state.h"

#define VCPU_MSRS_MAX  256
#define VCPU_XSAVE_MAX 12288 /* with AMX, the largest that there is, it is 11008 */

#define MSR_IA32_TSC 0x10

/* The MSRs that this host's KVM saves; the same for all vCPUs. */
struct msr_list {
	uint32_t count;
	uint32_t indices[VCPU_MSRS_MAX];
};

/* Plain: KVM's structs as they are, which its ABI promises. */
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
	uint32_t xsave_size; /* kvm->fpu_size */
	uint8_t xsave[VCPU_XSAVE_MAX];
};

int msr_list_read(struct msr_list *list, int kvm_fd, struct error *e);

/* Of a vCPU that is saved. */
struct vcpu_saved {
	const struct kvm *kvm;
	struct vcpu_state state;
	struct cpuid cpuid; /* as the guest sees it */
	struct cpuid given; /* what KVM has been told of it; not saved */
	struct tsc_state tsc;
};
/* Of struct vcpu_saved. */
extern const struct state_desc vcpu_saved_state, vcpu_saved_cpuid, vcpu_saved_tsc;

/* The vCPU is not in KVM_RUN. */
int vcpu_state_get(struct vcpu_state *state, const struct kvm *kvm, const struct msr_list *msrs,
		   int vcpu_fd, struct error *e);
/*
 * RESET: TSC and TSC_ADJUST stay, since time runs on, and an MSR that KVM refuses is skipped (it is this
 * host's own). LOAD: an MSR that KVM refuses is an error that names it, unless it has that value.
 */
enum vcpu_state_use { VCPU_STATE_RESET, VCPU_STATE_LOAD };
int vcpu_state_set(const struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd,
		   enum vcpu_state_use use, struct error *e);

/*
 * An INIT, which ends what KVM itself has under way for this vCPU and no other call does: one that KVM halts until a page of
 * guest memory has come (an asynchronous page fault, while the host reads it back from swap or a pager brings it) would else
 * stand still for good, for turning these faults off, as a reset does, forgets the page but not the halt.
 */
int vcpu_send_init(const struct kvm *kvm, int vcpu_fd, struct error *e);

/* Power-on settings that KVM leaves to us: MTRR default type, fast strings, LINT0/1. */
int vcpu_set_power_on(int vcpu_fd, struct error *e);
/* The boot vCPU at the kernel's first instruction. */
int vcpu_set_entry(int vcpu_fd, const struct boot_entry *entry, struct error *e);

#endif
