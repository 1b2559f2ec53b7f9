/* SPDX-License-Identifier: Apache-2.0 */
/* What KVM may have on x86, as bits of kvm->optional. Private to src/vmm/x86. */
#ifndef VMM_SRC_X86_CAPS_H
#define VMM_SRC_X86_CAPS_H

enum x86_capability {
	X86_TSC_DEADLINE,
	X86_XCRS,
	X86_VCPU_EVENTS,
	X86_DEBUGREGS,
	X86_KVMCLOCK_CTRL,
	X86_TSC_CONTROL,
	X86_XSAVE2, /* asked of the VM */
};

#endif
