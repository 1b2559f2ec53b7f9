/* SPDX-License-Identifier: Apache-2.0 */
/* CPU baselines (vmm/cpu_baseline.h) applied to CPUID. Private to src/vmm/x86. */
#ifndef VMM_SRC_X86_BASELINE_H
#define VMM_SRC_X86_BASELINE_H

#include "cpuid.h"
#include "vmm/cpu_baseline.h"

struct cpu_template;

/* ERROR_CONFIG: `host`, as cpuid_prepare() makes it, lacks something that one of the baselines has; each is named. */
int baselines_check(const struct cpu_template *cpu, const struct cpuid *host, struct error *e);
/* Hides what one of the baselines has not. Then cpuid_clear_unusable(), and: */
void baselines_mask(const struct cpu_template *cpu, struct cpuid *cpuid);
/* Leaves that describe what is not there any more. */
void baseline_clear_leaves(struct cpuid *cpuid);
/* What a host's table has of it; no vendor if it has none. */
void baseline_of_table(struct cpu_baseline *baseline, const struct cpuid *cpuid);

/* IA32_ARCH_CAPABILITIES as the guest sees it, which has `value` otherwise. */
#define MSR_ARCH_CAPABILITIES 0x10a
uint64_t baselines_arch_capabilities(const struct cpu_template *cpu, uint64_t value);

#endif
