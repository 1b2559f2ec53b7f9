// SPDX-License-Identifier: Apache-2.0
/*
 * What main does with a VM at any time and without its thread: input, buttons, figures. None of it
 * waits, but for locks that are held for a moment; none of it changes what the machine is made of.
 *
 * Input is a client's or a terminal's. The guest controls the figures.
 */
#include <errno.h>

#include "arch.h"
#include "devices/disk.h"
#include "devices/kinds.h"
#include "devices/virtio_node.h"
#include "vm_internal.h"
#include "vmm/acpi_power.h"
#include "vmm/cleanup.h"
#include "vmm/serial.h"
#include "vmm/virtio_blk.h"
#include "vmm/virtio_console.h"
#include "vmm/virtio_net.h"

static int check_running(const struct vm *vm, const char *what, struct error *e)
{
	if (vm->state != VM_RUNNING) {
		return error_set(e, ERROR_CONFIG, ENOTCONN, "%s: the VM does not run", what);
	}
	return 0;
}

bool vm_removal_heard(struct vm *vm, enum vm_device device, const char *id)
{
	return machine_removal_heard(&vm->machine, vm_device_kinds[device], id);
}

int vm_press_power_button(struct vm *vm, struct error *e)
{
	int r = check_running(vm, "power button", e);

	if (r == 0) {
		acpi_power_notify(machine_object(&vm->machine, &acpi_power_kind),
				  ACPI_EVENT_POWER_BUTTON);
	}
	return r;
}

int vm_press_ctrl_alt_del(struct vm *vm, struct error *e)
{
	if (vm->state != VM_RUNNING && vm->state != VM_PAUSED) {
		return check_running(vm, "Ctrl-Alt-Del", e);
	}
	return arch_press_ctrl_alt_del(&vm->machine, e);
}

size_t vm_serial_input(struct vm *vm, const uint8_t *data, size_t len)
{
	return serial_input(machine_object(&vm->machine, &serial_kind), data, len);
}

/* NULL: the machine has no virtio console. */
static struct virtio_device *console_of(struct vm *vm)
{
	const struct virtio_node *node = machine_object(&vm->machine, &console_kind);

	return node != NULL ? node->virtio : NULL;
}

size_t vm_hvc_input(struct vm *vm, const uint8_t *data, size_t len)
{
	struct virtio_device *console = console_of(vm);

	return console != NULL ? virtio_console_input(console, data, len) : len;
}

void vm_hvc_output_ready(struct vm *vm)
{
	struct virtio_device *console = console_of(vm);

	if (console != NULL) {
		virtio_console_output_ready(console);
	}
}

void vm_console_resize(struct vm *vm, uint16_t columns, uint16_t rows)
{
	struct virtio_device *console = console_of(vm);

	if (console != NULL) {
		virtio_console_resize(console, columns, rows);
	}
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

void vm_stats(struct vm *vm, struct vm_stats *stats)
{
	const struct pci_host *host = pci_host_of(&vm->machine);
	uint64_t totals[DEVICE_TOTALS] = { 0 };

	*stats = (struct vm_stats){ .resets = vm->resets };
	for (uint32_t i = 0; i < vm->vcpus.count; i++) {
		const struct vcpu *vcpu = &vm->vcpus.list[i];

		stats->exits_io += atomic_load_explicit(&vcpu->exits_io, memory_order_relaxed);
		stats->exits_mmio += atomic_load_explicit(&vcpu->exits_mmio, memory_order_relaxed);
		stats->exits_other +=
			atomic_load_explicit(&vcpu->exits_other, memory_order_relaxed);
	}
	machine_add_totals(&vm->machine, totals);
	stats->disk_read = totals[DEVICE_TOTAL_DISK_READ];
	stats->disk_written = totals[DEVICE_TOTAL_DISK_WRITTEN];
	stats->net_received = totals[DEVICE_TOTAL_NET_RECEIVED];
	stats->net_sent = totals[DEVICE_TOTAL_NET_SENT];
	stats->pci_unseen = host != NULL && !atomic_load(&host->bus.asked);
}

struct guest_memory *vm_memory(struct vm *vm)
{
	return &vm->mem;
}

const char *vm_cmdline(const struct vm *vm)
{
	return vm->cmdline;
}

uint32_t vm_vcpu_count(const struct vm *vm)
{
	return vm->vcpus.count;
}

void vm_vcpu_stats(const struct vm *vm, uint32_t index, struct vm_vcpu_stats *stats)
{
	const struct vcpu *vcpu = &vm->vcpus.list[index];

	*stats = (struct vm_vcpu_stats){
		.exits_io = atomic_load_explicit(&vcpu->exits_io, memory_order_relaxed),
		.exits_mmio = atomic_load_explicit(&vcpu->exits_mmio, memory_order_relaxed),
		.exits_other = atomic_load_explicit(&vcpu->exits_other, memory_order_relaxed),
		.exits_io_out = atomic_load_explicit(&vcpu->exits_io_out, memory_order_relaxed),
		.exits_mmio_write =
			atomic_load_explicit(&vcpu->exits_mmio_write, memory_order_relaxed),
		.cpu_time_ns = vcpu_cpu_time_ns(vcpu),
	};
}

void vm_write_metrics(struct vm *vm, struct metrics_text *text)
{
	metrics_begin(text, "vmm_resets_total", METRIC_COUNTER,
		      "Machine resets, by the guest or on request.");
	metrics_sample(text, NULL, NULL, vm->resets);
	vcpus_write_metrics(&vm->vcpus, text);
	machine_write_metrics(&vm->machine, text);
}

void vm_visit_figures(struct vm *vm, vm_figure_visitor *visit, void *arg)
{
	machine_visit_figures(&vm->machine, visit, arg);
}

void vm_visit_blocks(struct vm *vm, vm_block_visitor *visit, void *arg)
{
	struct machine *machine = &vm->machine;
	SCOPED_LOCK(&machine->lock);

	for (uint32_t i = 0; i < machine->count; i++) {
		const struct device *device = machine->devices[i];

		if (device->kind == &disk_kind) {
			visit(arg, device->id, virtio_blk_disk(virtio_of(device)));
		}
	}
}

void vm_visit_disks(struct vm *vm, vm_disk_visitor *visit, void *arg)
{
	struct machine *machine = &vm->machine;
	SCOPED_LOCK(&machine->lock);

	for (uint32_t i = 0; i < machine->count; i++) {
		const struct device *device = machine->devices[i];

		if (device->kind == &disk_kind) {
			visit(arg, device->id, virtio_blk_disk(virtio_of(device))->capacity);
		}
	}
}

void vm_visit_nets(struct vm *vm, vm_net_visitor *visit, void *arg)
{
	struct machine *machine = &vm->machine;
	SCOPED_LOCK(&machine->lock);

	for (uint32_t i = 0; i < machine->count; i++) {
		const struct device *device = machine->devices[i];

		if (device->kind == &net_kind) {
			const struct netdev *netdev = virtio_net_backend(virtio_of(device));

			visit(arg, device->id, netdev->fd, netdev_count(netdev));
		}
	}
}
