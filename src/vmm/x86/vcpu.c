// SPDX-License-Identifier: Apache-2.0
/*
 * A vCPU's x86 side: what CPUID says, power-on, reset, where it stands, and the exits that only x86
 * has: ports, halts, the triple fault, instructions that KVM cannot emulate.
 *
 * Set-up and exits on the vCPU's own thread, the rest while it is parked. The guest controls the
 * registers, and what it writes to which port.
 */
#include "vcpu.h"

#include <errno.h>
#include <stdlib.h>

#include "../arch.h"
#include "baseline.h"
#include "caps.h"
#include "vmm/cleanup.h"

/* Where a vCPU of AMD's is after KVM has reset it (APM 2, 14.1.5). */
#define RESET_RIP 0xfff0

/* struct kvm has it. */
struct arch_host {
	struct cpuid supported;
	struct msr_list msrs;
};

int arch_host_read(struct kvm *kvm, struct error *e)
{
	int r;

	kvm->host = calloc(1, sizeof(*kvm->host));
	if (kvm->host == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "CPUID");
	}
	r = cpuid_read_supported(&kvm->host->supported, kvm->fd, e);
	return r == 0 ? msr_list_read(&kvm->host->msrs, kvm->fd, e) : r;
}

int arch_vcpus_identify(struct vcpus *all, struct error *e)
{
	const struct arch_host *host = all->kvm->host;
	int r;

	all->arch = calloc(1, sizeof(*all->arch));
	if (all->arch == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "CPUID");
	}
	r = cpuid_prepare(&all->arch->cpuid, host != NULL ? &host->supported : NULL, all->kvm->fd,
			  all->count, all->threads, e);
	if (r == 0 && all->cpu_template != NULL) {
		r = baselines_check(all->cpu_template, &all->arch->cpuid, e);
	}
	if (r == 0 && host != NULL) {
		all->arch->msrs = host->msrs;
	} else if (r == 0) {
		r = msr_list_read(&all->arch->msrs, all->kvm->fd, e);
	}
	return r;
}

void arch_vcpus_finish(struct vcpus *all)
{
	free(take_ptr(all->arch));
}

int arch_vcpu_init(struct vcpu *vcpu, struct error *e)
{
	const struct vcpus *all = vcpu->all;
	const struct cpu_template *cpu = all->cpu_template;
	struct arch_vcpu *arch = calloc(1, sizeof(*arch));
	int r;

	if (arch == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "registers");
	}
	vcpu->arch = arch;
	r = cpuid_apply(&all->arch->cpuid, cpu, vcpu->fd, vcpu->index, e);
	if (r == 0) {
		r = vcpu_set_power_on(vcpu->fd, e);
	}
	if (r == 0 && cpu != NULL) {
		r = template_msrs_init(&arch->template_msrs, cpu, vcpu->fd, e);
	}
	if (r == 0) {
		r = template_msrs_write(&arch->template_msrs, vcpu->fd, e);
	}
	return r == 0 ? vcpu_state_get(&arch->power_on, all->kvm, &all->arch->msrs, vcpu->fd, e)
		      : r;
}

void arch_vcpu_finish(struct vcpu *vcpu)
{
	if (vcpu->arch != NULL) {
		free(vcpu->arch->saved);
		template_msrs_finish(&vcpu->arch->template_msrs);
		free(take_ptr(vcpu->arch));
	}
}

int arch_vcpu_reset(struct vcpu *vcpu, struct error *e)
{
	int r;

	vcpu->arch->changed = true;
	r = vcpu_send_init(vcpu->all->kvm, vcpu->fd, e);

	if (r == 0) {
		r = vcpu_state_set(&vcpu->arch->power_on, vcpu->all->kvm, vcpu->fd,
				   VCPU_STATE_RESET, e);
	}
	return r == 0 ? template_msrs_write(&vcpu->arch->template_msrs, vcpu->fd, e) : r;
}

/* Each of KVM's calls costs; of one that nothing has happened to there is nothing new to hear. Who loads asks, to have it back. */
static int get_state(const struct vcpu *vcpu, struct vcpu_state *state, struct error *e)
{
	const struct vcpus *all = vcpu->all;

	if (!all->opened && !vcpu->arch->changed) {
		*state = vcpu->arch->power_on;
		return 0;
	}
	return vcpu_state_get(state, all->kvm, &all->arch->msrs, vcpu->fd, e);
}

int arch_vcpu_capture(struct vcpu *vcpu, struct error *e)
{
	const struct vcpus *all = vcpu->all;
	struct vcpu_saved **saved = &vcpu->arch->saved;
	int r;

	if (*saved == NULL) {
		*saved = calloc(1, sizeof(**saved));
		if (*saved == NULL) {
			return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "registers");
		}
	}
	(*saved)->kvm = all->kvm;
	r = get_state(vcpu, &(*saved)->state, e);
	/* Once it was made, or loaded, it stays. */
	if (r == 0 && (*saved)->cpuid.count == 0) {
		r = cpuid_make(&(*saved)->cpuid, &all->arch->cpuid, all->cpu_template, vcpu->fd,
			       vcpu->index, e);
		(*saved)->given = (*saved)->cpuid;
	}
	return r == 0 ? tsc_capture(&(*saved)->tsc, vcpu->fd, e) : r;
}

uint32_t arch_vcpu_states(struct vcpu *vcpu, struct state_part states[STATE_PARTS_MAX])
{
	struct vcpu_saved *saved = vcpu->arch->saved;

	states[0] = (struct state_part){ &vcpu_saved_cpuid, saved };
	states[1] = (struct state_part){ &vcpu_saved_tsc, saved };
	states[2] = (struct state_part){ &vcpu_saved_state, saved };
	return 3;
}

/* A guest whose clock steps on: vCPU 0's counter, from which the others have their distance. */
static void advance_tsc(struct vcpu_saved *saved)
{
	struct vcpu_state *state = &saved->state;

	for (uint32_t i = 0; i < state->msr_count; i++) {
		if (state->msrs[i].index == MSR_IA32_TSC) {
			state->msrs[i].data += tsc_elapsed(&saved->tsc);
		}
	}
}

/* One that has run keeps what it has, which KVM would not take again. */
static int load_cpuid(const struct vcpu *vcpu, struct vcpu_saved *saved, struct error *e)
{
	const struct vcpus *all = vcpu->all;
	int r;

	if (cpuid_equal(&saved->cpuid, &saved->given)) {
		return 0;
	}
	r = cpuid_load(&saved->cpuid, &all->arch->cpuid, all->kvm->fd, vcpu->fd, e);
	if (r == 0) {
		saved->given = saved->cpuid;
	}
	return r;
}

int arch_vcpu_apply(struct vcpu *vcpu, bool clock_steps, struct error *e)
{
	const struct vcpus *all = vcpu->all;
	const struct vcpu *first = &all->list[0];
	struct vcpu_saved *saved = vcpu->arch->saved;
	int r;

	vcpu->arch->changed = true;
	r = load_cpuid(vcpu, saved, e);

	if (r == 0) {
		r = tsc_apply_rate(&saved->tsc, all->kvm, vcpu->fd, e);
	}
	if (r < 0) {
		return r;
	}
	if (clock_steps) {
		advance_tsc(saved);
	}
	r = vcpu_state_set(&saved->state, all->kvm, vcpu->fd, VCPU_STATE_LOAD, e);
	return r == 0 && vcpu != first ? tsc_apply_offset(&saved->tsc, vcpu->fd,
							  &first->arch->saved->tsc, first->fd, e)
				       : r;
}

int arch_vcpu_place(struct vcpu *vcpu, const struct boot_entry *entry, struct error *e)
{
	vcpu->arch->changed = true;
	return vcpu_set_entry(vcpu->fd, entry, e);
}

bool arch_vcpu_address(const struct vcpu *vcpu, uint64_t *ret)
{
	struct kvm_regs regs;

	if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0) {
		return false;
	}
	*ret = regs.rip;
	return true;
}

bool arch_is_reset_address(uint64_t address)
{
	return address == RESET_RIP;
}

void arch_vcpu_describe(const struct vcpu *vcpu, struct error *e)
{
	struct kvm_regs regs;

	if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0) {
		(void)error_hint(e, "rip 0x%llx rsp 0x%llx rflags 0x%llx", regs.rip, regs.rsp,
				 regs.rflags);
	}
}

/* Without this a guest that was paused for long takes the gap for a lock-up of its own. */
void arch_vcpu_excuse_pause(const struct vcpu *vcpu)
{
	if (kvm_has(vcpu->all->kvm, X86_KVMCLOCK_CTRL)) {
		/* Refused, rightly, for a vCPU whose guest has not set up its clock. */
		(void)kvm_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, NULL);
	}
}

static void handle_io(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)vcpu->run + run->io.data_offset;
	uint32_t size = run->io.size;

	vcpu_count(&vcpu->exits_io);
	if (run->io.direction == KVM_EXIT_IO_OUT) {
		vcpu_count(&vcpu->exits_io_out);
	}
	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			(void)bus_write(vcpu->all->ports, run->io.port, data, size);
		} else {
			(void)bus_read(vcpu->all->ports, run->io.port, data, size);
		}
	}
}

/* data[0]: flags, then a size byte and up to 15 instruction bytes (KVM_CAP documentation of
 * emulation_failure). */
static enum arch_exit handle_internal_error(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	const uint8_t *bytes = (const uint8_t *)&run->internal.data[1];

	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION || run->internal.ndata < 3) {
		return ARCH_EXIT_UNKNOWN;
	}
	vcpu_count(&vcpu->exits_other);
	(void)error_set(&vcpu->error, ERROR_KVM, EIO,
			"vCPU %u: KVM cannot emulate the instruction %02x %02x %02x %02x",
			vcpu->index, bytes[1], bytes[2], bytes[3], bytes[4]);
	return ARCH_EXIT_FAILED;
}

enum arch_exit arch_handle_exit(struct vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		return ARCH_EXIT_DONE;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_HLT:
		vcpu_count(&vcpu->exits_other);
		return ARCH_EXIT_DONE;
	case KVM_EXIT_SHUTDOWN:
		vcpu_count(&vcpu->exits_other);
		power_report(vcpu->all->power, POWER_TRIPLE_FAULT, 0);
		return ARCH_EXIT_DONE;
	case KVM_EXIT_INTERNAL_ERROR:
		return handle_internal_error(vcpu);
	default:
		return ARCH_EXIT_UNKNOWN;
	}
}
