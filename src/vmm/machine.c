// SPDX-License-Identifier: Apache-2.0
/*
 * The list of devices: makes them by the table of kinds, and walks it. In the order of the table, so
 * that vda is the first disk whatever else there is.
 *
 * By the thread that owns the machine. What the guest controls goes through the devices.
 */
#include "machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cleanup.h"

/* Where a kind answers on the ports. */
static int add_windows(struct machine *machine, const struct device *device, struct error *e)
{
	const struct device_kind *kind = device->kind;

	for (size_t i = 0; i < DEVICE_WINDOWS_MAX && kind->windows[i].len != 0; i++) {
		int r = bus_add(&machine->ports, kind->windows[i].port, kind->windows[i].len,
				kind->windows[i].ops, device->object, kind->name, e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

int device_take_id(struct device *device, const char *id, struct error *e)
{
	device->id = id != NULL ? strdup(id) : NULL;
	if (id != NULL && device->id == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "%s", device->name);
	}
	return 0;
}

bool machine_has_name(const struct machine *machine, const char *name)
{
	for (uint32_t i = 0; i < machine->count; i++) {
		if (strcmp(machine->devices[i]->name, name) == 0) {
			return true;
		}
	}
	return false;
}

int device_make(struct device **ret, struct machine *machine, const struct vm_config *config,
		const struct device_kind *kind, uint32_t index, struct error *e)
{
	struct device *device = calloc(1, sizeof(*device) + kind->size);
	int r;

	*ret = device;
	if (device == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "%s", kind->name);
	}
	device->kind = kind;
	device->object = device + 1;
	(void)snprintf(device->name, sizeof(device->name), "%s", kind->name);
	r = kind->create(device, machine, config, index, e);
	return r == 0 && device->id == NULL ? device_take_id(device, device->name, e) : r;
}

void device_destroy(struct device *device)
{
	if (device != NULL && device->kind->ops->destroy != NULL) {
		device->kind->ops->destroy(device);
	}
}

void device_free(struct device *device)
{
	if (device != NULL) {
		free(device->id);
		free(device);
	}
}

/* At the start. What is half-made is machine_finish()'s as well. */
static int make_device(struct machine *machine, const struct vm_config *config,
		       const struct device_kind *kind, uint32_t index, struct error *e)
{
	struct device *device = NULL;
	int r;

	VMM_BUG_ON(machine->count == ARRAY_SIZE(machine->devices));
	r = device_make(&device, machine, config, kind, index, e);
	if (device != NULL) {
		machine->devices[machine->count++] = device;
	}
	return r == 0 ? add_windows(machine, device, e) : r;
}

/* Where the kind is in the table. */
static uint32_t rank(const struct device_kind *kind)
{
	uint32_t i = 0;

	while (device_kind_at(i) != kind) {
		i++;
	}
	return i;
}

void machine_link(struct machine *machine, struct device *device)
{
	uint32_t at;

	SCOPED_LOCK(&machine->lock);
	VMM_BUG_ON(machine->count == ARRAY_SIZE(machine->devices));
	at = machine->count++;
	for (; at > 0 && rank(machine->devices[at - 1]->kind) > rank(device->kind); at--) {
		machine->devices[at] = machine->devices[at - 1];
	}
	machine->devices[at] = device;
}

void machine_unlink(struct machine *machine, struct device *device)
{
	uint32_t at = 0;

	SCOPED_LOCK(&machine->lock);
	while (machine->devices[at] != device) {
		at++;
	}
	machine->count--;
	for (; at < machine->count; at++) {
		machine->devices[at] = machine->devices[at + 1];
	}
}

int machine_init(struct machine *machine, const struct vm_config *config, struct kvm *kvm,
		 struct irqchip *irqchip, struct guest_memory *mem, struct vm_host *host,
		 struct power_sink *power, struct error *e)
{
	const struct device_kind *kind;

	machine->kvm = kvm;
	machine->irqchip = irqchip;
	machine->mem = mem;
	machine->host = host;
	machine->power = power;
	machine->sandbox = config->sandbox;
	(void)pthread_mutex_init(&machine->lock, NULL);
	bus_init(&machine->ports, 0x10000);
	bus_init(&machine->mmio, 0);
	for (uint32_t k = 0; (kind = device_kind_at(k)) != NULL; k++) {
		uint32_t count = kind->count != NULL ? kind->count(config) : 1;

		for (uint32_t i = 0; i < count; i++) {
			int r = make_device(machine, config, kind, i, e);

			if (r < 0) {
				return r;
			}
		}
	}
	return 0;
}

void machine_cancel_workers(struct machine *machine)
{
	for (uint32_t i = 0; i < machine->count; i++) {
		struct device *device = machine->devices[i];

		if (device->kind->ops->cancel != NULL) {
			device->kind->ops->cancel(device);
		}
	}
}

int machine_start_workers(struct machine *machine, struct error *e)
{
	machine->runs = true;
	for (uint32_t i = 0; i < machine->count; i++) {
		struct device *device = machine->devices[i];
		int r = device->kind->ops->start != NULL ? device->kind->ops->start(device, e) : 0;

		if (r < 0) {
			return error_prefix(e, "%s", device->name);
		}
	}
	return 0;
}

int machine_reset(struct machine *machine, struct error *e)
{
	for (uint32_t i = machine->count; i-- > 0;) {
		struct device *device = machine->devices[i];
		int r = device->kind->ops->reset != NULL ? device->kind->ops->reset(device, e) : 0;

		if (r < 0) {
			return error_prefix(e, "%s", device->name);
		}
	}
	return 0;
}

void machine_quiesce(struct machine *machine)
{
	for (uint32_t i = machine->count; i-- > 0;) {
		struct device *device = machine->devices[i];

		if (device->kind->ops->quiesce != NULL) {
			device->kind->ops->quiesce(device);
		}
	}
}

void machine_resume(struct machine *machine)
{
	for (uint32_t i = 0; i < machine->count; i++) {
		struct device *device = machine->devices[i];

		if (device->kind->ops->resume != NULL) {
			device->kind->ops->resume(device);
		}
	}
}

void machine_finish(struct machine *machine)
{
	while (machine->count > 0) {
		struct device *device = machine->devices[--machine->count];

		device_destroy(device);
		device_free(device);
		machine->devices[machine->count] = NULL;
	}
	while (machine->gone_count > 0) {
		device_free(machine->gone[--machine->gone_count]);
	}
	if (machine->kvm != NULL) {
		(void)pthread_mutex_destroy(&machine->lock);
		machine->kvm = NULL;
	}
}

void *machine_object(struct machine *machine, const struct device_kind *kind)
{
	SCOPED_LOCK(&machine->lock);
	for (uint32_t i = 0; i < machine->count; i++) {
		if (machine->devices[i]->kind == kind) {
			return machine->devices[i]->object;
		}
	}
	return NULL;
}

struct device *machine_find(const struct machine *machine, const struct device_kind *kind,
			    const char *id, struct error *e)
{
	for (uint32_t i = 0; i < machine->count; i++) {
		struct device *device = machine->devices[i];

		if (device->kind == kind && strcmp(device->id, id) == 0) {
			return device;
		}
	}
	(void)error_set(e, ERROR_NOT_FOUND, ENOENT, "the VM has no %s '%.64s'", kind->name, id);
	return NULL;
}
