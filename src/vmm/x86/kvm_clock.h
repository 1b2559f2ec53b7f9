/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The time of a guest that was not there for a while. Private to src/vmm/x86.
 *
 * kvm-clock and the TSCs of a loaded machine go on from where they were saved, or, if machine->clock_steps
 * is set, from there plus what CLOCK_REALTIME has advanced since. The RTC shows the host's time
 * either way.
 */
#ifndef VMM_SRC_X86_KVM_CLOCK_H
#define VMM_SRC_X86_KVM_CLOCK_H

#include "vmm/types.h"

/* CLOCK_REALTIME, ns. */
uint64_t kvm_clock_realtime(void);
/* What has passed since then, by CLOCK_REALTIME: 0 if that was in the future, at most ten years. */
uint64_t kvm_clock_elapsed(uint64_t realtime);

#endif
