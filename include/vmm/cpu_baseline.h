/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU baselines: the most that a guest may see of its processor, so that it can move to every host of a fleet. A baseline has, for each
 * register of CPUID whose bits are abilities (a place), which of them a host must have and the guest sees, and which the guest
 * sees where the host has them. All others are hidden, and with them what they need: components of XSAVE, leaves that describe them.
 *
 *	x86-64-v2, v3, v4	the levels of the psABI; besides them what a guest of a hypervisor starts with, whichever host it is on
 *	read from a host	all that its guests can see; of several hosts the intersection
 *
 * What the VMM decides by itself (topology, the hypervisor's leaves, x2APIC) is in no baseline. Whoever made a baseline controls its
 * bits and vendor; they hide, and never show what the host has not. Pure, but for cpu_baseline_read_host().
 */
#ifndef VMM_CPU_BASELINE_H
#define VMM_CPU_BASELINE_H

#include "vmm/error.h"
#include "vmm/types.h"
#include "vmm/vm_config.h"

/* Of the arrays in a struct cpu_baseline. */
struct cpu_baseline_place {
	uint32_t leaf, subleaf;
	uint8_t reg;   /* enum cpuid_register */
	uint32_t ours; /* bits that are in no baseline */
};
/* `i` is below CPU_BASELINE_PLACES. */
const struct cpu_baseline_place *cpu_baseline_place(uint32_t i);

/* `level` is not VM_CPU_LEVEL_HOST. */
void cpu_baseline_of_level(struct cpu_baseline *baseline, enum vm_cpu_level level);
/* "x86-64-v2" */
const char *cpu_level_name(enum vm_cpu_level level);
/* What guests of this host can see; opens /dev/kvm. */
int cpu_baseline_read_host(struct cpu_baseline *baseline, struct error *e);
/* `baseline` keeps what both have. ERROR_CONFIG: they are of two vendors; `baseline` is as it was. */
int cpu_baseline_intersect(struct cpu_baseline *baseline, const struct cpu_baseline *other,
			   struct error *e);

#endif
