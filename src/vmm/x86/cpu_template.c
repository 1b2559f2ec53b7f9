/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU templates: bits of CPUID and of MSRs as somebody wants them, on top of what cpuid.c makes of
 * the host's (Firecracker's "custom CPU templates"). What belongs to one vCPU, its APIC id, is put
 * in after this, so a template cannot give two vCPUs the same. Whether a leaf has subleaves (its
 * flags) is the host's word: a template's wrong one would make KVM answer with another subleaf.
 *
 * On the vCPU's own thread before the guest runs, and on main at a reset. The template comes from a
 * client: counts are checked by whoever has made it, leaves and MSRs are judged by the host. MSRs
 * are written again at each reset, because KVM does not list all of them as state.
 */
#include "cpu_template.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "baseline.h"
#include "vmm/cleanup.h"

static struct kvm_cpuid_entry2 *find(struct cpuid *cpuid, const struct cpuid_modifier *modifier)
{
	for (uint32_t i = 0; i < cpuid->count; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == modifier->leaf && entry->index == modifier->subleaf) {
			return entry;
		}
	}
	return NULL;
}

int cpu_template_edit_cpuid(const struct cpu_template *cpu, struct cpuid *cpuid, struct error *e)
{
	for (uint32_t i = 0; i < cpu->cpuid_count; i++) {
		const struct cpuid_modifier *modifier = &cpu->cpuid[i];
		struct kvm_cpuid_entry2 *entry = find(cpuid, modifier);
		uint32_t *value;

		if (entry == NULL) {
			(void)error_set(e, ERROR_CONFIG, EINVAL,
					"CPU template: this host has no CPUID leaf 0x%x, subleaf "
					"0x%x",
					modifier->leaf, modifier->subleaf);
			return error_hint(e, "take it out of the template's cpuid_modifiers");
		}
		switch (modifier->reg) {
		case CPUID_EAX:
			value = &entry->eax;
			break;
		case CPUID_EBX:
			value = &entry->ebx;
			break;
		case CPUID_ECX:
			value = &entry->ecx;
			break;
		case CPUID_EDX:
			value = &entry->edx;
			break;
		default:
			return error_set(e, ERROR_CONFIG, EINVAL,
					 "CPU template: CPUID has no register %u", modifier->reg);
		}
		*value = (*value & ~modifier->mask) | (modifier->value & modifier->mask);
	}
	return 0;
}

/* KVM takes as many as come before the first that it refuses; one at a time says which. */
static int one_msr(int vcpu_fd, unsigned long request, struct kvm_msr_entry *entry)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entry;
	} buf;
	int r;

	memset(&buf, 0, sizeof(buf));
	buf.header.nmsrs = 1;
	buf.entry = *entry;
	r = kvm_ioctl(vcpu_fd, request, &buf);
	if (r == 0) {
		return -EINVAL;
	}
	*entry = buf.entry;
	return r < 0 ? r : 0;
}

static int refused(const struct kvm_msr_entry *entry, const char *verb, int r, struct error *e)
{
	(void)error_set_sys(e, ERROR_CONFIG, -r, "CPU template: KVM does not %s MSR 0x%x", verb,
			    entry->index);
	return error_hint(e, "take it out of the template's msr_modifiers, or change its bits");
}

/* Where there is no such MSR, nothing has to be hidden. */
static void hide_capabilities(struct template_msrs *msrs, const struct cpu_template *cpu,
			      int vcpu_fd)
{
	struct kvm_msr_entry *entry = NULL, now = { .index = MSR_ARCH_CAPABILITIES };

	for (uint32_t i = 0; i < msrs->count; i++) {
		entry = msrs->entries[i].index == now.index ? &msrs->entries[i] : entry;
	}
	if (cpu->baseline_count == 0) {
		return;
	}
	if (entry == NULL && one_msr(vcpu_fd, KVM_GET_MSRS, &now) == 0) {
		entry = &msrs->entries[msrs->count++];
		*entry = now;
	}
	if (entry != NULL) {
		entry->data = baselines_arch_capabilities(cpu, entry->data);
	}
}

int template_msrs_init(struct template_msrs *msrs, const struct cpu_template *cpu, int vcpu_fd,
		       struct error *e)
{
	if (cpu->msr_count == 0 && cpu->baseline_count == 0) {
		return 0;
	}
	msrs->entries = calloc(cpu->msr_count + 1, sizeof(msrs->entries[0]));
	if (msrs->entries == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "CPU template: out of memory");
	}
	for (uint32_t i = 0; i < cpu->msr_count; i++) {
		const struct msr_modifier *modifier = &cpu->msrs[i];
		struct kvm_msr_entry *entry = &msrs->entries[i];
		int r;

		entry->index = modifier->index;
		r = one_msr(vcpu_fd, KVM_GET_MSRS, entry);
		if (r < 0) {
			return refused(entry, "have", r, e);
		}
		entry->data = (entry->data & ~modifier->mask) | (modifier->value & modifier->mask);
		msrs->count = i + 1;
	}
	hide_capabilities(msrs, cpu, vcpu_fd);
	return 0;
}

int template_msrs_write(const struct template_msrs *msrs, int vcpu_fd, struct error *e)
{
	for (uint32_t i = 0; i < msrs->count; i++) {
		struct kvm_msr_entry entry = msrs->entries[i];
		int r = one_msr(vcpu_fd, KVM_SET_MSRS, &entry);

		if (r < 0) {
			return refused(&msrs->entries[i], "accept the value for", r, e);
		}
	}
	return 0;
}

void template_msrs_finish(struct template_msrs *msrs)
{
	free(take_ptr(msrs->entries));
	msrs->count = 0;
}
