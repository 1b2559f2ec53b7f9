/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine is in the middle of, beside its memory: the state of all vCPUs and devices in one
 * buffer, each by its id (vmm/state_set.h), and back.
 *
 * Saved from a machine at rest: vCPUs are parked, with no access half done, and devices quiesced, with
 * no request in flight (a back end that stalls is waited for, as by a pause). Loaded into a machine
 * that was built for the same devices and is at rest as well; its memory has its regions, but need
 * not have its content yet. Who loads resumes the devices and opens the gate afterwards.
 *
 * Order of a load. Everything is read, decoded and found valid before anything changes. Then all
 * objects get their state, tables do what follows from it (post_load), and what KVM holds is written:
 * local APICs before the IOAPIC, which sends what is pending in it. KVM can refuse that, and then
 * everything is put back as it was.
 *
 * By the thread that owns the machine; before its filter, which does not allow all of these calls. The
 * guest, or whoever wrote the file, controls every byte that is read.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "arch.h"
#include "machine.h"
#include "vmm/cleanup.h"

#define VCPU_ID_SIZE 16

/* The objects of a machine. */
struct roll {
	struct machine *machine;
	struct vcpus *vcpus;
	struct state_entry *entries; /* vCPUs, then devices */
	size_t count;
	char (*vcpu_ids)[VCPU_ID_SIZE];
	struct device **devices; /* of the entries; NULL: a vCPU's */
};

static void roll_finish(struct roll *roll)
{
	free(roll->entries);
	free(roll->vcpu_ids);
	free(roll->devices);
}

static void add_vcpu(struct roll *roll, uint32_t index)
{
	struct state_entry *entry = &roll->entries[roll->count++];

	(void)snprintf(roll->vcpu_ids[index], VCPU_ID_SIZE, "vcpu%u", index);
	entry->id = roll->vcpu_ids[index];
	entry->kind = "vcpu";
	entry->count = arch_vcpu_states(&roll->vcpus->list[index], entry->parts);
}

static void add_device(struct roll *roll, struct device *device)
{
	struct state_entry *entry = &roll->entries[roll->count];

	entry->id = device->id;
	entry->kind = device->kind->name;
	entry->count = device->kind->ops->states(device, entry->parts);
	roll->devices[roll->count++] = device;
}

/* From KVM, and wherever else devices have state, into the objects. */
static int capture(const struct roll *roll, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && roll->vcpus != NULL && i < roll->vcpus->count; i++) {
		r = arch_vcpu_capture(&roll->vcpus->list[i], e);
	}
	for (uint32_t i = 0; r == 0 && i < roll->machine->count; i++) {
		struct device *device = roll->machine->devices[i];

		if (device->kind->ops->capture != NULL) {
			r = device->kind->ops->capture(device, e);
		}
	}
	return r;
}

/* Captures, because only then is there something to call. */
static int roll_call(struct roll *roll, struct machine *machine, struct vcpus *vcpus,
		     struct error *e)
{
	uint32_t vcpu_count = vcpus != NULL ? vcpus->count : 0;
	size_t most = (size_t)vcpu_count + machine->count;
	int r;

	*roll = (struct roll){ .machine = machine, .vcpus = vcpus };
	roll->entries = calloc(most, sizeof(*roll->entries));
	roll->devices = calloc(most, sizeof(struct device *));
	roll->vcpu_ids = calloc(vcpu_count + 1, sizeof(*roll->vcpu_ids));
	if (roll->entries == NULL || roll->devices == NULL || roll->vcpu_ids == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "state of the machine");
	}
	r = capture(roll, e);
	for (uint32_t i = 0; r == 0 && i < vcpu_count; i++) {
		add_vcpu(roll, i);
	}
	for (uint32_t i = 0; r == 0 && i < machine->count; i++) {
		if (machine->devices[i]->kind->ops->states != NULL) {
			add_device(roll, machine->devices[i]);
		}
	}
	return r;
}

/* Out of the objects to where else it has to be. Stops at the first failure. */
static int apply(const struct roll *roll, struct error *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < roll->count; i++) {
		struct device *device = roll->devices[i];

		if (device == NULL) {
			r = arch_vcpu_apply(&roll->vcpus->list[i], roll->machine->clock_steps, e);
		} else if (device->kind->ops->loaded != NULL) {
			r = device->kind->ops->loaded(device, e);
		}
		if (r < 0) {
			return error_prefix(e, "load state of %s '%s'", roll->entries[i].kind,
					    roll->entries[i].id);
		}
	}
	return r;
}

int machine_save(struct machine *machine, struct vcpus *vcpus, struct state_buf *buf,
		 struct error *e)
{
	struct roll roll;
	int r = roll_call(&roll, machine, vcpus, e);

	if (r == 0) {
		r = state_set_save(roll.entries, roll.count, buf, e);
	}
	roll_finish(&roll);
	return r;
}

static int load(struct machine *machine, struct vcpus *vcpus, const uint8_t *data, size_t len,
		bool keep, struct error *e)
{
	struct state_reading reading = { 0 };
	struct roll roll;
	int r = roll_call(&roll, machine, vcpus, e);

	if (r == 0) {
		r = state_set_read(roll.entries, roll.count, data, len, &reading, e);
	}
	if (r == 0) {
		state_set_exchange(&reading);
		r = apply(&roll, e);
		if (r < 0 || !keep) {
			/* KVM takes back what it gave a moment ago. */
			state_set_exchange(&reading);
			(void)apply(&roll, NULL);
		}
	}
	state_set_finish(&reading);
	roll_finish(&roll);
	return r;
}

int machine_load(struct machine *machine, struct vcpus *vcpus, const uint8_t *data, size_t len,
		 struct error *e)
{
	return load(machine, vcpus, data, len, true, e);
}

int machine_try_load(struct machine *machine, struct vcpus *vcpus, const uint8_t *data, size_t len,
		     struct error *e)
{
	return load(machine, vcpus, data, len, false, e);
}
