/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMClock as a device of every machine; src/devices/vmclock.c is the part itself, ../generation.c says when it changes.
 */
#include "../acpi_nodes.h"
#include "kinds.h"
#include "vmm/vmclock.h"

static int vmclock_create(struct device *device, struct machine *machine,
			  const struct vm_config *config, uint32_t index, struct error *e)
{
	(void)config;
	(void)index;
	(void)e;
	vmclock_init(device->object, machine->mem, PLATFORM_VMCLOCK);
	return 0;
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	states[0] =
		(struct state_part){ &vmclock_state, &((struct vmclock *)device->object)->state };
	return 1;
}

static void describe(const struct device *device, struct machine *machine, struct aml *aml)
{
	(void)device;
	(void)machine;
	acpi_describe_vmclock(aml);
}

static const struct device_ops ops = { .states = states, .describe = describe };

const struct device_kind vmclock_kind = {
	.name = "vmclock",
	.size = sizeof(struct vmclock),
	.ops = &ops,
	.create = vmclock_create,
};
