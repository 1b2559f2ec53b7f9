// SPDX-License-Identifier: Apache-2.0
/*
 * KVM's interrupt controllers of a PC: two PICs, an IOAPIC, the local APICs, a PIT where one is needed.
 *
 * GSIs are wired as KVM wires them by default: 0-15 to PIC and IOAPIC, 16-23 to the IOAPIC alone,
 * each to the pin of its number. The power-on state of PIC, IOAPIC and PIT is read once, and written
 * back on a machine reset. Messages to the local APICs (0xfeeXXXXX) are interrupts.
 *
 * A PIT is made only for a kernel that cannot do without (cmdline_wants_old_timer(), and
 * those that do not read ACPI): nothing
 * announces it, and its period is the guest's to choose, but its interrupts are made by a thread of
 * the host's kernel that no control group of ours accounts for.
 *
 * Saved: what KVM gives of them, as it is; the guest controls all of it.
 */
#include "irqchip.h"

#include <errno.h>
#include <stdlib.h>

#include "../arch.h"
#include "vmm/cleanup.h"
#include "vmm/platform.h"

#define PIC_PINS	  8
#define PIC_GSIS	  (2 * PIC_PINS)
#define APIC_ADDRESS_BITS 20 /* below these an address says which APIC, not that it is one */

_Static_assert(PIC_GSIS + PLATFORM_GSIS <= ARCH_PIN_ROUTES_MAX, "a route for each pin");

/*
 * Firmware leaves the two PICs masked. Unmasked and without a vector base, as KVM makes them, they
 * would answer a guest that uses the IOAPIC only with a second interrupt, at an exception's vector.
 */
static int mask_pics(struct irqchip *chip, struct error *e)
{
	for (uint32_t i = KVM_IRQCHIP_PIC_MASTER; i <= KVM_IRQCHIP_PIC_SLAVE; i++) {
		int r;

		chip->arch->power_on.chips[i].chip.pic.imr = 0xff;
		r = kvm_ioctl(chip->kvm->vm_fd, KVM_SET_IRQCHIP, &chip->arch->power_on.chips[i]);
		if (r < 0) {
			return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_IRQCHIP %u", i);
		}
	}
	return 0;
}

static int capture_pit(const struct irqchip *chip, struct irqchip_state *state, struct error *e)
{
	int r = state->has_pit ? kvm_ioctl(chip->kvm->vm_fd, KVM_GET_PIT2, &state->pit) : 0;

	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "KVM_GET_PIT2") : 0;
}

static int capture(const struct irqchip *chip, struct irqchip_state *state, struct error *e)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(state->chips); i++) {
		int r;

		state->chips[i].chip_id = i;
		r = kvm_ioctl(chip->kvm->vm_fd, KVM_GET_IRQCHIP, &state->chips[i]);
		if (r < 0) {
			return error_set_sys(e, ERROR_KVM, -r, "KVM_GET_IRQCHIP %u", i);
		}
	}
	return capture_pit(chip, state, e);
}

static int apply(const struct irqchip *chip, struct irqchip_state *state, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; i < ARRAY_SIZE(state->chips); i++) {
		/* Of a file, so not what it says but what it is. */
		state->chips[i].chip_id = i;
		r = kvm_ioctl(chip->kvm->vm_fd, KVM_SET_IRQCHIP, &state->chips[i]);
		if (r < 0) {
			return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_IRQCHIP %u", i);
		}
	}
	if (state->has_pit) {
		r = kvm_ioctl(chip->kvm->vm_fd, KVM_SET_PIT2, &state->pit);
	}
	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "KVM_SET_PIT2") : 0;
}

int arch_irqchip_add_old_timer(struct irqchip *chip, struct error *e)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct irqchip_state *state = &chip->arch->power_on;
	int r;

	if (state->has_pit) {
		return 0;
	}
	r = kvm_ioctl(chip->kvm->vm_fd, KVM_CREATE_PIT2, &pit);
	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_CREATE_PIT2");
	}
	state->has_pit = true;
	return capture_pit(chip, state, e);
}

int arch_irqchip_create(struct irqchip *chip, bool old_timer, struct error *e)
{
	int r = kvm_ioctl(chip->kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL);

	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_CREATE_IRQCHIP");
	}
	chip->arch = calloc(1, sizeof(*chip->arch));
	if (chip->arch == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "interrupt controllers");
	}
	if (old_timer) {
		r = arch_irqchip_add_old_timer(chip, e);
		if (r < 0) {
			return r;
		}
	}
	r = capture(chip, &chip->arch->power_on, e);
	return r == 0 ? mask_pics(chip, e) : r;
}

void arch_irqchip_destroy(struct irqchip *chip)
{
	free(take_ptr(chip->arch));
}

static void add_pin(struct kvm_irq_routing *table, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	table->entries[table->nr++] =
		(struct kvm_irq_routing_entry){ .gsi = gsi,
						.type = KVM_IRQ_ROUTING_IRQCHIP,
						.u.irqchip = { .irqchip = chip, .pin = pin } };
}

void arch_add_pin_routes(struct kvm_irq_routing *table)
{
	for (uint32_t gsi = 0; gsi < PLATFORM_GSIS; gsi++) {
		add_pin(table, gsi, KVM_IRQCHIP_IOAPIC, gsi);
		if (gsi < PIC_GSIS) {
			add_pin(table, gsi,
				gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
				gsi % PIC_PINS);
		}
	}
}

bool arch_is_interrupt(const struct msi_message *message)
{
	return message->address >> APIC_ADDRESS_BITS == PLATFORM_LAPIC >> APIC_ADDRESS_BITS;
}

int irqchip_reset(struct irqchip *chip, struct error *e)
{
	return apply(chip, &chip->arch->power_on, e);
}

int irqchip_capture(struct irqchip *chip, struct error *e)
{
	chip->arch->now.has_pit = chip->arch->power_on.has_pit;
	return capture(chip, &chip->arch->now, e);
}

int irqchip_apply(struct irqchip *chip, struct error *e)
{
	int r = chip->arch->now.has_pit ? arch_irqchip_add_old_timer(chip, e) : 0;

	return r == 0 ? apply(chip, &chip->arch->now, e) : r;
}

static const struct state_field irqchip_fields[] = {
	STATE_BLOB(1, struct irqchip_state, chips, 1),
	STATE_FIELD(2, struct irqchip_state, has_pit, 1),
	STATE_BLOB(3, struct irqchip_state, pit, 1),
};
const struct state_desc irqchip_state_desc =
	STATE_DESC("irqchip", 1, struct irqchip_state, irqchip_fields);
