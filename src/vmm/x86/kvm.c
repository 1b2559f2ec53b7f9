// SPDX-License-Identifier: Apache-2.0
/*
 * What KVM has to have on x86, what it may have, and what a VM needs before anything else: two places
 * in the guest's memory that processors without unrestricted guest mode use.
 *
 * By the thread that makes the VM. Nothing is saved; the guest controls nothing here.
 */
#include <errno.h>
#include <stdio.h>

#include "../arch.h"
#include "caps.h"
#include "cpuid.h"
#include "static_templates.h"
#include "vcpu_state.h"
#include "vmm/platform.h"

static const struct kvm_capability required[] = {
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "CPU identification" },
	{ KVM_CAP_PIT2, "KVM_CAP_PIT2", "the timer" },
};
const struct kvm_capabilities arch_required = { required, ARRAY_SIZE(required) };

static const struct kvm_capability optional[] = {
	[X86_TSC_DEADLINE] = { KVM_CAP_TSC_DEADLINE_TIMER, "TSC deadline timer",
			       "guests use the slower periodic timer" },
	[X86_XCRS] = { KVM_CAP_XCRS, "XCRS", "AVX state cannot be saved" },
	[X86_VCPU_EVENTS] = { KVM_CAP_VCPU_EVENTS, "VCPU_EVENTS",
			      "pending interrupts are lost in snapshots" },
	[X86_DEBUGREGS] = { KVM_CAP_DEBUGREGS, "DEBUGREGS", NULL },
	[X86_KVMCLOCK_CTRL] = { KVM_CAP_KVMCLOCK_CTRL, "KVMCLOCK_CTRL",
				"guests may report lock-ups after a pause" },
	[X86_TSC_CONTROL] = { KVM_CAP_TSC_CONTROL, "TSC scaling",
			      "snapshots move only between hosts of one frequency" },
};
const struct kvm_capabilities arch_optional = { optional, ARRAY_SIZE(optional) };

int arch_vm_init(struct kvm *kvm, struct error *e)
{
	uint64_t identity_map = PLATFORM_KVM_IDENTITY_MAP;
	/* Only Intel CPUs without unrestricted guest mode use these pages; the others ignore them.
	 */
	int r = kvm_ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);

	if (r < 0 && r != -EINVAL && r != -ENOTTY) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_IDENTITY_MAP_ADDR");
	}
	r = kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)PLATFORM_KVM_TSS);
	if (r < 0 && r != -EINVAL && r != -ENOTTY) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_TSS_ADDR");
	}
	r = kvm_ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)KVM_CAP_XSAVE2);
	kvm->optional |= r > 0 ? 1U << X86_XSAVE2 : 0;
	if (r > VCPU_XSAVE_MAX) {
		return error_set(
			e, ERROR_KVM, ENOTSUP,
			"KVM_CAP_XSAVE2: the processor's XSAVE area has %d bytes, there is "
			"room for %d",
			r, VCPU_XSAVE_MAX);
	}
	kvm->fpu_size = r > (int)sizeof(struct kvm_xsave) ? (uint32_t)r : sizeof(struct kvm_xsave);
	return 0;
}

uint32_t arch_physical_bits(void)
{
	return cpuid_physical_bits();
}

/* SDM 2A, CPUID leaf 1: a family of 15 is extended, and models of 6 and 15. */
void arch_describe_processor(char *buf, size_t size)
{
	struct host_cpu host;
	uint32_t family, model;

	host_cpu_read(&host);
	family = host.signature >> 8 & 0xf;
	model = host.signature >> 4 & 0xf;
	if (family == 6 || family == 15) {
		model |= host.signature >> 12 & 0xf0;
	}
	if (family == 15) {
		family += host.signature >> 20 & 0xff;
	}
	(void)snprintf(buf, size, "%s family %u model %u stepping %u", host.vendor, family, model,
		       host.signature & 0xf);
}

int arch_make_cpu_template(struct cpu_template *ret, enum vm_cpu_template which, struct error *e)
{
	struct host_cpu host;

	host_cpu_read(&host);
	return static_template_make(ret, which, &host, e);
}
