/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm-clock as a device: the one value that KVM has of it for the whole VM, nanoseconds since the machine
 * was made. What each vCPU has of it, the address of its page, is an MSR.
 *
 * By the thread that owns the machine. Saved: the value, and CLOCK_REALTIME at that moment; whoever
 * wrote the file controls both.
 */
#include "../kvm_clock.h"

#include <errno.h>
#include <time.h>

#include "../../devices/kinds.h"
#include "../../kvm.h"

#define ELAPSED_MAX (UINT64_C(10) * 365 * 86400 * 1000000000)

struct kvm_clock_state {
	uint64_t ns, realtime;
};

struct kvm_clock {
	struct machine *machine;
	struct kvm_clock_state state;
};

uint64_t kvm_clock_realtime(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t kvm_clock_elapsed(uint64_t realtime)
{
	uint64_t now = kvm_clock_realtime();

	return now > realtime ? MIN(now - realtime, ELAPSED_MAX) : 0;
}

static int clock_create(struct device *device, struct machine *machine,
			const struct vm_config *config, uint32_t index, struct error *e)
{
	struct kvm_clock *clock = device->object;

	(void)config;
	(void)index;
	(void)e;
	clock->machine = machine;
	return 0;
}

static int capture(struct device *device, struct error *e)
{
	struct kvm_clock *clock = device->object;
	struct kvm_clock_data data = { 0 };
	int r = kvm_ioctl(clock->machine->kvm->vm_fd, KVM_GET_CLOCK, &data);

	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_GET_CLOCK");
	}
	clock->state = (struct kvm_clock_state){ data.clock, kvm_clock_realtime() };
	return 0;
}

static int loaded(struct device *device, struct error *e)
{
	struct kvm_clock *clock = device->object;
	struct kvm_clock_data data = { .clock = clock->state.ns };
	int r;

	if (clock->machine->clock_steps) {
		data.clock += kvm_clock_elapsed(clock->state.realtime);
	}
	r = kvm_ioctl(clock->machine->kvm->vm_fd, KVM_SET_CLOCK, &data);
	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "KVM_SET_CLOCK") : 0;
}

static const struct state_field fields[] = {
	STATE_FIELD(1, struct kvm_clock_state, ns, 1),
	STATE_FIELD(2, struct kvm_clock_state, realtime, 1),
};
static const struct state_desc desc = STATE_DESC("kvm-clock", 1, struct kvm_clock_state, fields);

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	states[0] = (struct state_part){ &desc, &((struct kvm_clock *)device->object)->state };
	return 1;
}

static const struct device_ops ops = { .states = states, .capture = capture, .loaded = loaded };

const struct device_kind kvm_clock_kind = {
	.name = "kvm-clock",
	.size = sizeof(struct kvm_clock),
	.ops = &ops,
	.create = clock_create,
};
