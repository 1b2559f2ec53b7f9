// SPDX-License-Identifier: Apache-2.0
/*
 * What a vCPU does when KVM_RUN returns: port and MMIO accesses go to the buses, a shutdown is a
 * triple fault, the rest is an error that ends the VM with the registers in the message. Runs on
 * the vCPU's thread, without locks; the devices behind the buses bring their own. The guest
 * controls address, width, direction, count and data of an access; struct kvm_run is shared with
 * the kernel only, not with the guest.
 */
#include <errno.h>
#include <string.h>

#include "vcpu.h"

/* This thread alone writes it. */
static void count(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static void handle_io(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)vcpu->run + run->io.data_offset;
	uint32_t size = run->io.size;

	count(&vcpu->exits_io);
	if (run->io.direction == KVM_EXIT_IO_OUT) {
		count(&vcpu->exits_io_out);
	}
	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			(void)bus_write(vcpu->all->ports, run->io.port, data, size);
		} else {
			(void)bus_read(vcpu->all->ports, run->io.port, data, size);
		}
	}
}

static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	count(&vcpu->exits_mmio);
	if (run->mmio.is_write) {
		count(&vcpu->exits_mmio_write);
		(void)bus_write(vcpu->all->mmio, run->mmio.phys_addr, run->mmio.data,
				run->mmio.len);
	} else {
		(void)bus_read(vcpu->all->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	}
}

static bool fail(struct vcpu *vcpu)
{
	struct kvm_regs regs;

	if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0) {
		(void)error_hint(&vcpu->error, "rip 0x%llx rsp 0x%llx rflags 0x%llx", regs.rip,
				 regs.rsp, regs.rflags);
	}
	vcpu->all->failed(vcpu->all, vcpu);
	return false;
}

static bool handle_internal_error(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	const uint8_t *bytes = (const uint8_t *)&run->internal.data[1];

	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && run->internal.ndata >= 3) {
		/* data[0]: flags, then a size byte and up to 15 instruction bytes (KVM_CAP
		 * documentation of emulation_failure). */
		(void)error_set(&vcpu->error, ERROR_KVM, EIO,
				"vCPU %u: KVM cannot emulate the instruction %02x %02x %02x %02x",
				vcpu->index, bytes[1], bytes[2], bytes[3], bytes[4]);
	} else {
		(void)error_set(&vcpu->error, ERROR_KVM, EIO, "vCPU %u: KVM internal error %u",
				vcpu->index, run->internal.suberror);
	}
	return fail(vcpu);
}

bool vcpu_handle_exit(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		return true;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		return true;
	default:
		break;
	}
	count(&vcpu->exits_other);
	switch (run->exit_reason) {
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_HLT:
		return true;
	case KVM_EXIT_SHUTDOWN:
		power_report(vcpu->all->power, POWER_TRIPLE_FAULT, 0);
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
		return handle_internal_error(vcpu);
	default:
		(void)error_set(&vcpu->error, ERROR_KVM, EIO, "vCPU %u: unexpected KVM exit %u",
				vcpu->index, run->exit_reason);
		return fail(vcpu);
	}
}
