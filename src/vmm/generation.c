// SPDX-License-Identifier: Apache-2.0
/*
 * Which copy of itself a guest is, told by VMGenID and VMClock. A generation is random bytes from the host's kernel, all of it by one
 * call. It begins with the first boot, and lasts through pauses, resets and migrations, as both specifications have it; who restores
 * or forks begins another, which the guest is told of by the event device: a level, so it hears as soon as it runs, or when its driver
 * comes.
 *
 * By the thread that owns the machine, with all vCPUs parked. Where the bytes go is the platform's constant; neither the guest nor a
 * saved state controls anything here. Saved: by the devices.
 */
#include <errno.h>
#include <sys/random.h>

#include "devices/kinds.h"
#include "vmm/acpi_power.h"
#include "vmm/bytes.h"
#include "vmm/vmclock.h"
#include "vmm/vmgenid.h"

struct generation {
	uint8_t guid[VMGENID_SIZE];
	uint8_t disruption[sizeof(uint64_t)], counter[sizeof(uint64_t)];
};

/* Waits, once in a host's life, until its kernel has random bytes to give. */
static int draw(struct generation *ret, struct error *e)
{
	ssize_t got;

	do {
		got = getrandom(ret, sizeof(*ret), 0);
	} while (got < 0 && errno == EINTR);
	if (got != (ssize_t)sizeof(*ret)) {
		return error_set_sys(e, ERROR_INTERNAL, got < 0 ? errno : EIO,
				     "VMGenID: random bytes of the host");
	}
	return 0;
}

int machine_begin_generation(struct machine *machine, struct error *e)
{
	struct generation new;
	int r = draw(&new, e);

	if (r == 0) {
		vmgenid_set(machine_object(machine, &vmgenid_kind), new.guid);
		vmclock_set(machine_object(machine, &vmclock_kind), load_le64(new.disruption),
			    load_le64(new.counter));
	}
	return r;
}

int machine_write_generation(struct machine *machine, struct error *e)
{
	int r = vmgenid_write(machine_object(machine, &vmgenid_kind), e);

	return r == 0 ? vmclock_write(machine_object(machine, &vmclock_kind), e) : r;
}

int machine_new_generation(struct machine *machine, struct error *e)
{
	struct vmgenid *vmgenid = machine_object(machine, &vmgenid_kind);
	struct vmclock *vmclock = machine_object(machine, &vmclock_kind);
	struct generation new;
	int r = draw(&new, e);

	if (r == 0) {
		vmgenid_set(vmgenid, new.guid);
		r = vmgenid_write(vmgenid, e);
	}
	if (r == 0) {
		r = vmclock_change(vmclock, load_le64(new.disruption), load_le64(new.counter), e);
	}
	if (r == 0) {
		acpi_power_notify(machine_object(machine, &acpi_power_kind),
				  ACPI_EVENT_VMGENID | ACPI_EVENT_VMCLOCK);
	}
	return r;
}
