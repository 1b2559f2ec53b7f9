// SPDX-License-Identifier: Apache-2.0
/*
 * See vmm/cpu_baseline.h; what of it is the same for every architecture. The rest is behind arch.h.
 */
#include "vmm/cpu_baseline.h"

#include <errno.h>
#include <string.h>

#include "arch.h"

static const char *const level_names[VM_CPU_LEVELS] = {
	[VM_CPU_LEVEL_HOST] = "host",
	[VM_CPU_LEVEL_V2] = "x86-64-v2",
	[VM_CPU_LEVEL_V3] = "x86-64-v3",
	[VM_CPU_LEVEL_V4] = "x86-64-v4",
};

const char *cpu_level_name(enum vm_cpu_level level)
{
	return level_names[level];
}

const struct cpu_baseline_place *cpu_baseline_place(uint32_t i)
{
	return &arch_baseline_places[i];
}

void cpu_baseline_of_level(struct cpu_baseline *baseline, enum vm_cpu_level level)
{
	arch_baseline_of_level(baseline, level);
}

int cpu_baseline_read_host(struct cpu_baseline *baseline, struct error *e)
{
	struct kvm kvm = { .fd = -1, .vm_fd = -1 };
	int r = kvm_open(&kvm, NULL, e);

	r = r == 0 ? arch_baseline_read_host(baseline, &kvm, e) : r;
	kvm_close(&kvm);
	return r;
}

int cpu_baseline_intersect(struct cpu_baseline *baseline, const struct cpu_baseline *other,
			   struct error *e)
{
	const uint64_t worse = arch_capabilities_worse;
	const uint64_t a = baseline->arch_capabilities, b = other->arch_capabilities;

	if (baseline->vendor[0] != '\0' && other->vendor[0] != '\0' &&
	    strcmp(baseline->vendor, other->vendor) != 0) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"CPU baseline: one is of processors of '%s', one of '%s'",
				baseline->vendor, other->vendor);
		return error_hint(e, "a VM moves between processors of one vendor only: make a "
				     "baseline for each");
	}
	if (baseline->vendor[0] == '\0') {
		memcpy(baseline->vendor, other->vendor, sizeof(baseline->vendor));
	}
	for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
		const uint32_t seen =
			(baseline->must[i] | baseline->may[i]) & (other->must[i] | other->may[i]);

		baseline->may[i] = seen & baseline->may[i] & other->may[i];
		baseline->must[i] = seen & ~baseline->may[i];
	}
	baseline->arch_capabilities = (a & b & ~worse) | ((a | b) & worse);
	return 0;
}
