/* SPDX-License-Identifier: Apache-2.0 */
/* A CPU template (vmm/vm_config.h) applied to CPUID and MSRs. Private to src/vmm. */
#ifndef VMM_SRC_X86_CPU_TEMPLATE_H
#define VMM_SRC_X86_CPU_TEMPLATE_H

#include "cpuid.h"
#include "vmm/vm_config.h"

/* The MSRs of one vCPU as the template wants them. */
struct template_msrs {
	uint32_t count;
	struct kvm_msr_entry *entries; /* owned; NULL: none */
};

/* Changes the leaves in place. ERROR_CONFIG names a leaf that this host's CPUID does not have. */
int cpu_template_edit_cpuid(const struct cpu_template *cpu, struct cpuid *cpuid, struct error *e);
/* Reads what the vCPU has and works out the template's values. The vCPU's CPUID is set. */
int template_msrs_init(struct template_msrs *msrs, const struct cpu_template *cpu, int vcpu_fd,
		       struct error *e);
/* Writes them; an error names the MSR that KVM refuses. The vCPU is not in KVM_RUN. */
int template_msrs_write(const struct template_msrs *msrs, int vcpu_fd, struct error *e);
void template_msrs_finish(struct template_msrs *msrs);

#endif
