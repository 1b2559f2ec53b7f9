/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMGenID as a device of every machine; src/devices/vmgenid.c is the part itself, ../generation.c says when it changes.
 */
#include "../acpi_nodes.h"
#include "kinds.h"
#include "vmm/vmgenid.h"

static int vmgenid_create(struct device *device, struct machine *machine,
			  const struct vm_config *config, uint32_t index, struct error *e)
{
	(void)config;
	(void)index;
	(void)e;
	vmgenid_init(device->object, machine->mem, PLATFORM_VMGENID);
	return 0;
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	states[0] =
		(struct state_part){ &vmgenid_state, &((struct vmgenid *)device->object)->state };
	return 1;
}

static void describe(const struct device *device, struct machine *machine, struct aml *aml)
{
	(void)device;
	(void)machine;
	acpi_describe_vmgenid(aml);
}

static const struct device_ops ops = { .states = states, .describe = describe };

const struct device_kind vmgenid_kind = {
	.name = "vmgenid",
	.size = sizeof(struct vmgenid),
	.ops = &ops,
	.create = vmgenid_create,
};
