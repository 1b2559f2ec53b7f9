/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio console, hvc0: one, if the configuration wants it.
 */
#include <stdio.h>

#include "virtio_node.h"
#include "vmm/virtio_console.h"

static int console_create(struct device *device, struct machine *machine,
			  const struct vm_config *config, uint32_t index, struct error *e)
{
	struct virtio_node *node = virtio_node_of(device);
	int r;

	(void)config;
	(void)index;
	(void)snprintf(device->name, sizeof(device->name), "hvc0");
	r = virtio_node_begin(device, machine, &virtio_console_ops, VIRTIO_CONSOLE_QUEUES,
			      SANDBOX_ROLE_CONSOLE, e);
	if (r == 0) {
		r = virtio_console_create(&node->virtio, device->name, machine->host->hvc,
					  machine->mem, node->workers, e);
	}
	if (r == 0) {
		r = virtio_node_wire(device, machine, e);
	}
	return r < 0 ? error_prefix(e, "console %s", device->name) : 0;
}

static uint32_t console_count(const struct vm_config *config)
{
	return config->console ? 1 : 0;
}

static void read_figures(const struct device *device, void *ret)
{
	virtio_console_read_counters(virtio_of(device), ret);
}

#define FIGURE(name_, help_)                                              \
	{                                                                 \
		.name = #name_, .help = (help_),                          \
		.offset = offsetof(struct virtio_console_counters, name_) \
	}
static const struct device_figure list[] = {
	FIGURE(input_bytes, "Bytes typed into the console."),
	FIGURE(output_bytes, "Bytes that the guest wrote to the console."),
	{ .name = "output_dropped_bytes",
	  .help = "Bytes of the guest beyond what one request may hold.",
	  .offset = offsetof(struct virtio_console_counters, output_dropped) },
};
#undef FIGURE
static const struct device_figures figures = {
	.prefix = "console",
	.list = list,
	.count = ARRAY_SIZE(list),
	.read = read_figures,
};

const struct device_kind console_kind = {
	.name = "console",
	.size = sizeof(struct virtio_node),
	.ops = &virtio_node_ops,
	.count = console_count,
	.create = console_create,
	.figures = &figures,
};
