/* SPDX-License-Identifier: Apache-2.0 */
/* What src/vmm/vcpu.c keeps for us, of a vCPU and of all. Private to src/vmm/x86. */
#ifndef VMM_SRC_X86_VCPU_H
#define VMM_SRC_X86_VCPU_H

#include "cpu_template.h"
#include "cpuid.h"
#include "vcpu_state.h"

struct arch_vcpus {
	struct cpuid cpuid;
	struct msr_list msrs;
};

struct arch_vcpu {
	struct vcpu_state power_on; /* for machine reset */
	bool changed;		    /* by us, since that was read */
	struct template_msrs template_msrs;
	struct vcpu_saved *saved; /* NULL: it was never captured */
};

#endif
