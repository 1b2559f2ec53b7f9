// SPDX-License-Identifier: Apache-2.0
/*
 * kvm_probe()'s guest: it counts down in real mode and then halts through a port. Main thread; the
 * guest controls nothing.
 */
#include <cpuid.h>

#include "../arch.h"
#include "vmm/platform.h"

#define CPUID_VMX (1U << 5)
#define CPUID_SVM (1U << 2)

#define ROUNDS 100000U

/* mov ecx, ROUNDS; 1: dec ecx; jnz 1b; out 0xf4, al; hlt */
static const uint8_t program[] = {
	0x66,
	0xb9,
	ROUNDS & 0xff,
	ROUNDS >> 8 & 0xff,
	ROUNDS >> 16 & 0xff,
	0x00,
	0x66,
	0x49,
	0x75,
	0xfc,
	0xe6,
	PLATFORM_PORT_DEBUG_EXIT,
	0xf4,
};
const struct arch_probe arch_probe = { program, sizeof(program), 2ULL * ROUNDS };

/* CPUID.1:ECX.VMX (Intel SDM 3A, 24.6), Fn8000_0001:ECX.SVM (AMD APM 3, E.4.2). */
bool arch_has_virtualization(void)
{
	unsigned int a, b, c, d;

	return (__get_cpuid(1, &a, &b, &c, &d) != 0 && (c & CPUID_VMX) != 0) ||
	       (__get_cpuid(0x80000001, &a, &b, &c, &d) != 0 && (c & CPUID_SVM) != 0);
}

int arch_probe_place(int vcpu_fd, uint32_t address, struct error *e)
{
	struct kvm_regs regs = { .rip = address, .rflags = 2 };
	struct kvm_sregs sregs;
	int r = kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);

	if (r == 0) {
		sregs.cs.base = 0;
		sregs.cs.selector = 0;
		r = kvm_ioctl(vcpu_fd, KVM_SET_SREGS, &sregs);
	}
	if (r == 0) {
		r = kvm_ioctl(vcpu_fd, KVM_SET_REGS, &regs);
	}
	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "set the registers of a vCPU") : 0;
}

bool arch_probe_has_ended(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_IO;
}
