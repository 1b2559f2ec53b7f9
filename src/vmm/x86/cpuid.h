/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID as the guest sees it. Private to src/vmm. */
#ifndef VMM_SRC_X86_CPUID_H
#define VMM_SRC_X86_CPUID_H

#include <linux/kvm.h>

#include "../kvm.h"
#include "vmm/state.h"

#define CPUID_ENTRIES_MAX 128

/* struct kvm_cpuid2 with room for its entries. */
struct cpuid {
	uint32_t count;
	uint32_t padding;
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
};

struct cpu_template;

/* What KVM supports. Any thread: a system ioctl. */
int cpuid_read_supported(struct cpuid *cpuid, int kvm_fd, struct error *e);
/* The same, edited for a guest of `vcpus` (1-32) in one package, `threads` (1 or 2) of which are one core. `supported` NULL: it is
 * read. */
int cpuid_prepare(struct cpuid *cpuid, const struct cpuid *supported, int kvm_fd, uint32_t vcpus,
		  uint32_t threads, struct error *e);
/* The vCPU's copy, with the frequency of its TSC, the template's bits if there is one, and its own APIC
 * id. */
int cpuid_make(struct cpuid *own, const struct cpuid *cpuid, const struct cpu_template *cpu,
	       int vcpu_fd, uint32_t apic_id, struct error *e);
/* The same, and gives it to the vCPU. */
int cpuid_apply(const struct cpuid *cpuid, const struct cpu_template *cpu, int vcpu_fd,
		uint32_t apic_id, struct error *e);
/* How many bits a physical address has, the host's and the guest's. */
uint32_t cpuid_physical_bits(void);

/* As it is saved: its table's fields. */
extern const struct state_field cpuid_fields[1];
bool cpuid_equal(const struct cpuid *a, const struct cpuid *b);
/*
 * Gives a vCPU that has not run what was saved. First it is
 * compared with what this host can do (`here`: as cpuid_prepare() makes it): ERROR_STATE names what is
 * missing.
 */
int cpuid_load(const struct cpuid *saved, const struct cpuid *here, int kvm_fd, int vcpu_fd,
	       struct error *e);
/* For tests: that comparison, of tables alone. ERROR_STATE names each bit, as many as there is room for, and counts the others. */
int cpuid_compare(const struct cpuid *saved, const struct cpuid *here, struct error *e);
/* For tests: edits a table in place as cpuid_prepare() does. */
void cpuid_edit(struct cpuid *cpuid, uint32_t vcpus, uint32_t threads);
void cpuid_set_apic_id(struct cpuid *cpuid, uint32_t apic_id);
void cpuid_set_frequencies(struct cpuid *cpuid, uint32_t tsc_khz);

#endif
