/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's interrupt controllers as a device. They exist before the machine does, because KVM wants them
 * before vCPUs. Saved: what KVM gives of PICs and IOAPIC, and of the PIT where there is one; the guest
 * controls all of that.
 */
#include "../irqchip.h"

#include "../../devices/kinds.h"

static struct irqchip *irqchip_of(struct device *device)
{
	struct irqchip **object = device->object;

	return *object;
}

static int irqchip_create(struct device *device, struct machine *machine,
			  const struct vm_config *config, uint32_t index, struct error *e)
{
	struct irqchip **object = device->object;

	(void)config;
	(void)index;
	(void)e;
	*object = machine->irqchip;
	return 0;
}

static int reset(struct device *device, struct error *e)
{
	return irqchip_reset(irqchip_of(device), e);
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	states[0] = (struct state_part){ &irqchip_state_desc, &irqchip_of(device)->arch->now };
	return 1;
}

static int capture(struct device *device, struct error *e)
{
	return irqchip_capture(irqchip_of(device), e);
}

static int loaded(struct device *device, struct error *e)
{
	return irqchip_apply(irqchip_of(device), e);
}

static const struct device_ops ops = {
	.reset = reset, .states = states, .capture = capture, .loaded = loaded
};

const struct device_kind irqchip_kind = {
	.name = "irqchip",
	.size = sizeof(struct irqchip *),
	.ops = &ops,
	.create = irqchip_create,
};
