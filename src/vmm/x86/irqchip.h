/* SPDX-License-Identifier: Apache-2.0 */
/* PICs, IOAPIC and PIT of KVM, as a device saves and resets them. Private to src/vmm/x86. */
#ifndef VMM_SRC_X86_IRQCHIP_H
#define VMM_SRC_X86_IRQCHIP_H

#include "../kvm.h"
#include "vmm/state.h"

/* What KVM holds of the two PICs, the IOAPIC and, where there is one, the PIT. */
struct irqchip_state {
	struct kvm_irqchip chips[3];
	bool has_pit;
	struct kvm_pit_state2 pit;
};
extern const struct state_desc irqchip_state_desc;

struct arch_irqchip {
	struct irqchip_state power_on;
	/* Between irqchip_capture() and a save, a load and irqchip_apply(). */
	struct irqchip_state now;
};

int irqchip_reset(struct irqchip *chip, struct error *e);
/* `now` from KVM, and to KVM; no vCPU runs, no line is triggered meanwhile. */
int irqchip_capture(struct irqchip *chip, struct error *e);
int irqchip_apply(struct irqchip *chip, struct error *e);

#endif
