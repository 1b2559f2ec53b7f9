/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices as devices of the machine: functions of its PCI bus or, where there is none, register
 * pages at PLATFORM_VIRTIO_MMIO with an ioeventfd a queue, and an interrupt line of their own as long
 * as there are enough of them (vmm/platform.h). In the order in which they are made.
 *
 * By the thread that owns the machine. Saved: the core, the type's own, the queues, the transport.
 */
#include "virtio_node.h"

#include <errno.h>
#include <stdlib.h>

_Static_assert(VIRTIO_STATES_MAX + VIRTIO_PCI_STATES <= STATE_PARTS_MAX, "all tables of a device");

int virtio_node_begin(struct device *device, struct machine *machine, const struct virtio_ops *ops,
		      uint32_t queue_count, enum sandbox_role role, struct error *e)
{
	struct virtio_node *node = virtio_node_of(device);
	uint32_t room;

	node->host = pci_host_of(machine);
	room = node->host != NULL ? PLATFORM_VIRTIO_PCI_MAX : PLATFORM_VIRTIO_MMIO_MAX;
	if (machine->virtio_count == room) {
		return error_set(e, ERROR_CONFIG, ENOSPC,
				 "%s: the machine has room for %u virtio devices (disks, network "
				 "cards, console, entropy)",
				 device->name, room);
	}
	if (node->host == NULL) {
		node->base = platform_virtio_address(machine->virtio_count);
		node->gsi = platform_virtio_gsi(machine->virtio_count);
	}
	node->sandbox = machine->sandbox;
	node->role = role;
	node->machine = machine;
	machine->virtio_count++;
	node->workers = calloc(queue_count, sizeof(*node->workers));
	if (node->workers == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "%s", device->name);
	}
	for (uint32_t i = 0; i < queue_count; i++) {
		char worker_name[WORKER_NAME_SIZE];
		int r;

		virtio_worker_name(ops, device->name, queue_count, i, worker_name);
		r = worker_init(&node->workers[i], worker_name, e);
		if (r < 0) {
			return r;
		}
		node->worker_count = i + 1;
	}
	return 0;
}

static int wire_to_pci(const struct device *device, const struct machine *machine, struct error *e)
{
	struct virtio_node *node = virtio_node_of(device);
	struct pci_host *host = node->host;
	uint8_t devfn = 0;
	int r = virtio_pci_init(&node->pci, node->virtio, &host->msi.controller,
				&host->msi.doorbells, e);

	if (r == 0) {
		r = pci_host_place(host, device, machine, &devfn, e);
	}
	return r == 0 ? pci_bus_add(&host->bus, &node->pci.function, devfn, e) : r;
}

static int wire_to_mmio(struct device *device, struct machine *machine, struct error *e)
{
	struct virtio_node *node = virtio_node_of(device);
	struct virtio_device *virtio = node->virtio;
	struct irq_line *line = NULL;
	int r = irqchip_open_edge_line(machine->irqchip, node->gsi, &line, e);

	if (r < 0) {
		return r;
	}
	virtio_mmio_init(&node->mmio, virtio, line);
	r = bus_add(&machine->mmio, node->base, PLATFORM_VIRTIO_MMIO_SIZE, &virtio_mmio_bus_ops,
		    &node->mmio, device->name, e);
	for (uint32_t i = 0; r == 0 && i < virtio->queue_count; i++) {
		r = ioeventfd_add(machine->kvm, node->base + VIRTIO_MMIO_NOTIFY_OFFSET, 4, i,
				  virtio->queues[i].kick_fd, e);
	}
	return r;
}

int virtio_node_wire(struct device *device, struct machine *machine, struct error *e)
{
	struct virtio_node *node = virtio_node_of(device);

	return node->host != NULL ? wire_to_pci(device, machine, e)
				  : wire_to_mmio(device, machine, e);
}

static int enter_worker(void *arg, struct error *e)
{
	const struct virtio_node *node = arg;

	return sandbox_enter_thread(node->sandbox, node->role, e);
}

static int start(struct device *device, struct error *e)
{
	struct virtio_node *node = virtio_node_of(device);

	for (uint32_t i = 0; i < node->worker_count; i++) {
		int r = worker_start(&node->workers[i], enter_worker, node, e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static void cancel(struct device *device)
{
	struct virtio_node *node = virtio_node_of(device);

	for (uint32_t i = 0; i < node->worker_count; i++) {
		if (!node->workers[i].started) {
			worker_cancel(&node->workers[i]);
		}
	}
}

static int reset(struct device *device, struct error *e)
{
	struct virtio_node *node = virtio_node_of(device);

	(void)e;
	virtio_device_reset(node->virtio);
	if (node->host != NULL) {
		pci_function_reset(&node->pci.function);
	} else {
		virtio_mmio_reset(&node->mmio);
	}
	return 0;
}

static void quiesce(struct device *device)
{
	virtio_device_quiesce(virtio_of(device));
}

static void resume(struct device *device)
{
	virtio_device_resume(virtio_of(device));
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	struct virtio_node *node = virtio_node_of(device);
	uint32_t count = virtio_device_parts(node->virtio, states);

	if (node->host != NULL) {
		return count + virtio_pci_parts(&node->pci, states + count);
	}
	states[count] = (struct state_part){ &virtio_mmio_state, &node->mmio };
	return count + 1;
}

static void destroy(struct device *device)
{
	struct virtio_node *node = virtio_node_of(device);

	/* First, because vCPUs may run. */
	if (node->host != NULL) {
		pci_bus_remove(&node->host->bus, &node->pci.function);
	}
	if (node->virtio != NULL) {
		virtio_device_reset(node->virtio);
	}
	for (uint32_t i = 0; i < node->worker_count; i++) {
		worker_finish(&node->workers[i]);
	}
	if (node->host != NULL) {
		virtio_pci_finish(&node->pci);
	}
	if (node->virtio != NULL) {
		node->virtio->ops->destroy(node->virtio);
		node->virtio = NULL;
	}
	free(node->workers);
	node->workers = NULL;
	if (node->machine != NULL) {
		node->machine->virtio_count--;
		node->machine = NULL;
	}
}

bool kind_is_virtio(const struct device_kind *kind)
{
	return kind->ops == &virtio_node_ops;
}

const struct device_ops virtio_node_ops = {
	.start = start,
	.cancel = cancel,
	.reset = reset,
	.quiesce = quiesce,
	.resume = resume,
	.states = states,
	.destroy = destroy,
};
