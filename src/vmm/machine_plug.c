// SPDX-License-Identifier: Apache-2.0
/*
 * Disks and cards that come and go while the machine runs, on a PCI bus.
 *
 * To come: the device is made beside the list, as those of the start were made in it, and gets its
 * threads; then it is linked, and the guest is told. To go: the guest is asked (vmm/pci_hotplug.h); what
 * it has ejected is off the bus already when machine_take_left() unlinks it and takes it down, or a
 * reset comes before that and takes down all that was asked for. `force` does without the guest. What
 * has gone is handed to main, empty, which says so to whom it concerns.
 *
 * The thread that owns the machine, with vCPUs running or parked; but what reads the list takes its
 * lock, and main may. What is to come is a client's; the guest controls whether and when something
 * goes. Nothing of its own is saved.
 */
#include <errno.h>
#include <string.h>

#include "devices/pci_hotplug.h"
#include "devices/virtio_node.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("vm");

static int no_pci(const char *what, struct error *e)
{
	(void)error_set(e, ERROR_CONFIG, ENOTSUP,
			"%s: the VM's devices are on virtio-mmio, where they "
			"neither come nor go while it runs",
			what);
	return error_hint(
		e, "start the VM with PCI (--transport pci, which is the default; firecracker "
		   "--enable-pci)");
}

static uint32_t slot_of(const struct device *device)
{
	return virtio_node_of(device)->pci.function.config.devfn >> 3;
}

/* A vCPU that has found the device already may wait for a worker. */
static void cancel_workers(struct device *device)
{
	if (device != NULL && device->kind->ops->cancel != NULL) {
		device->kind->ops->cancel(device);
	}
}

int machine_add_device(struct machine *machine, const struct vm_config *config,
		       const struct device_kind *kind, uint32_t index, struct error *e)
{
	struct pci_hotplug *hotplug = pci_hotplug_of(machine);
	struct device *device = NULL;
	int r;

	if (hotplug == NULL) {
		return no_pci(kind->name, e);
	}
	r = device_make(&device, machine, config, kind, index, e);
	if (r == 0 && machine_find(machine, kind, device->id, NULL) != NULL) {
		r = error_set(e, ERROR_CONFIG, EEXIST, "the VM has a %s '%.64s'", kind->name,
			      device->id);
	}
	if (r == 0) {
		r = kind->ops->start(device, e);
	}
	if (r < 0) {
		cancel_workers(device);
		device_destroy(device);
		device_free(device);
		return r;
	}
	machine_link(machine, device);
	pci_hotplug_added(hotplug, slot_of(device));
	return 0;
}

static void take_down(struct machine *machine, struct device *device)
{
	machine_unlink(machine, device);
	device_destroy(device);
	VMM_BUG_ON(machine->gone_count == ARRAY_SIZE(machine->gone));
	machine->gone[machine->gone_count++] = device;
}

/* It can go without others. */
static int check_alone(const struct device *device, struct error *e)
{
	struct virtio_node *node = virtio_node_of(device);
	uint32_t slot = slot_of(device);

	if (pci_bus_count(&node->host->bus, slot) <= 1) {
		return 0;
	}
	(void)error_set(
		e, ERROR_CONFIG, EBUSY,
		"%s '%.64s' shares slot %u of the PCI bus with other devices, which would go "
		"with it",
		device->kind->name, device->id, slot);
	return error_hint(e,
			  "a VM that starts with at most %d devices has each in a slot of its own",
			  PCI_DEVICES_MAX - 1);
}

int machine_remove_device(struct machine *machine, const struct device_kind *kind, const char *id,
			  bool force, struct error *e)
{
	struct pci_hotplug *hotplug = pci_hotplug_of(machine);
	struct device *device = machine_find(machine, kind, id, e);
	int r;

	if (device == NULL) {
		return -ENOENT;
	}
	if (hotplug == NULL) {
		return no_pci(kind->name, e);
	}
	r = check_alone(device, e);
	if (r < 0) {
		return r;
	}
	if (!force) {
		pci_hotplug_request(hotplug, slot_of(device));
	} else if (pci_hotplug_withdraw(hotplug, slot_of(device))) {
		take_down(machine, device);
	}
	return 0;
}

void machine_take_left(struct machine *machine, bool all)
{
	struct pci_hotplug *hotplug = pci_hotplug_of(machine);
	uint32_t slots = hotplug != NULL ? pci_hotplug_take(hotplug, all) : 0;

	for (uint32_t i = machine->count; slots != 0 && i-- > 0;) {
		struct device *device = machine->devices[i];

		if (device_is_virtio(device) && (slots >> slot_of(device) & 1) != 0) {
			take_down(machine, device);
		}
	}
}

uint32_t machine_take_gone(struct machine *machine, struct device *gone[MACHINE_GONE_MAX])
{
	uint32_t count = machine->gone_count;

	for (uint32_t i = 0; i < count; i++) {
		gone[i] = machine->gone[i];
	}
	machine->gone_count = 0;
	return count;
}

bool machine_removal_heard(struct machine *machine, const struct device_kind *kind, const char *id)
{
	struct pci_hotplug *hotplug = pci_hotplug_of(machine);

	SCOPED_LOCK(&machine->lock);
	for (uint32_t i = 0; hotplug != NULL && i < machine->count; i++) {
		const struct device *device = machine->devices[i];

		if (device->kind == kind && strcmp(device->id, id) == 0) {
			return pci_hotplug_heard(hotplug, slot_of(device));
		}
	}
	return false;
}
