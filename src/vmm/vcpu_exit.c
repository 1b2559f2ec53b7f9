// SPDX-License-Identifier: Apache-2.0
/*
 * What a vCPU does when KVM_RUN returns: port and MMIO accesses go to the buses, a shutdown is a
 * triple fault, the rest is an error that ends the VM. Runs on
 * the vCPU's thread, without locks; the devices behind the buses bring their own. The guest
 * controls address, width, direction, count and data of an access; struct kvm_run is shared with
 * the kernel only, not with the guest.
 */
#include <errno.h>

#include "arch.h"

static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	vcpu_count(&vcpu->exits_mmio);
	if (run->mmio.is_write) {
		vcpu_count(&vcpu->exits_mmio_write);
		(void)bus_write(vcpu->all->mmio, run->mmio.phys_addr, run->mmio.data,
				run->mmio.len);
	} else {
		(void)bus_read(vcpu->all->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	}
}

static bool fail(struct vcpu *vcpu)
{
	vcpu->all->failed(vcpu->all, vcpu);
	return false;
}

/* What is left are exits of any architecture, and those that nobody knows. */
static bool handle_other(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	vcpu_count(&vcpu->exits_other);
	switch (run->exit_reason) {
	case KVM_EXIT_INTR:
		return true;
	case KVM_EXIT_SYSTEM_EVENT:
		power_report(vcpu->all->power,
			     run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ? POWER_OFF
										 : POWER_RESET,
			     0);
		return true;
	case KVM_EXIT_FAIL_ENTRY:
		(void)error_set(&vcpu->error, ERROR_KVM, EIO,
				"vCPU %u: KVM failed to enter the guest, reason 0x%llx",
				vcpu->index, run->fail_entry.hardware_entry_failure_reason);
		return fail(vcpu);
	case KVM_EXIT_INTERNAL_ERROR:
		(void)error_set(&vcpu->error, ERROR_KVM, EIO, "vCPU %u: KVM internal error %u",
				vcpu->index, run->internal.suberror);
		return fail(vcpu);
	default:
		(void)error_set(&vcpu->error, ERROR_KVM, EIO, "vCPU %u: unexpected KVM exit %u",
				vcpu->index, run->exit_reason);
		return fail(vcpu);
	}
}

bool vcpu_handle_exit(struct vcpu *vcpu)
{
	if (vcpu->run->exit_reason == KVM_EXIT_MMIO) {
		handle_mmio(vcpu);
		return true;
	}
	switch (arch_handle_exit(vcpu)) {
	case ARCH_EXIT_DONE:
		return true;
	case ARCH_EXIT_FAILED:
		return fail(vcpu);
	case ARCH_EXIT_UNKNOWN:
		break;
	}
	return handle_other(vcpu);
}
