/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entropy device: one, if the configuration wants it.
 */
#include <stdio.h>

#include "virtio_node.h"
#include "vmm/virtio_entropy.h"

static int entropy_create(struct device *device, struct machine *machine,
			  const struct vm_config *config, uint32_t index, struct error *e)
{
	struct virtio_node *node = virtio_node_of(device);
	int r;

	(void)index;
	(void)snprintf(device->name, sizeof(device->name), "rng0");
	r = virtio_node_begin(device, machine, &virtio_entropy_ops, 1, SANDBOX_ROLE_ENTROPY, e);
	if (r == 0) {
		r = virtio_entropy_create(&node->virtio, device->name, machine->mem, node->workers,
					  e);
	}
	if (r == 0) {
		virtio_entropy_init_limit(node->virtio, &config->entropy_settings.limiter);
		r = virtio_node_wire(device, machine, e);
	}
	return r < 0 ? error_prefix(e, "entropy device") : 0;
}

static uint32_t entropy_count(const struct vm_config *config)
{
	return config->entropy ? 1 : 0;
}

static void read_figures(const struct device *device, void *ret)
{
	virtio_entropy_read_counters(virtio_of(device), ret);
}

static const struct device_figure list[] = {
	{ .name = "requests",
	  .theirs = "entropy_event_count",
	  .help = "Requests for random bytes.",
	  .offset = offsetof(struct virtio_entropy_counters, requests) },
	{ .name = "bytes",
	  .theirs = "entropy_bytes",
	  .help = "Random bytes given to the guest.",
	  .offset = offsetof(struct virtio_entropy_counters, bytes) },
};
static const struct device_figures figures = {
	.prefix = "entropy",
	.theirs = "entropy",
	.list = list,
	.count = ARRAY_SIZE(list),
	.read = read_figures,
};

const struct device_kind entropy_kind = {
	.name = "entropy",
	.size = sizeof(struct virtio_node),
	.ops = &virtio_node_ops,
	.count = entropy_count,
	.create = entropy_create,
	.figures = &figures,
};
