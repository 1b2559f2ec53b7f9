// SPDX-License-Identifier: Apache-2.0
/*
 * Time stamp counters of a saved VM: rate and offsets. See tsc.h.
 *
 * The rate: KVM scales a counter where the processor can; without that a difference of up to 250 ppm is
 * taken for noise of the measurement, as what NTP corrects.
 *
 * By the thread that owns the machine, vCPUs parked. Whoever wrote the file controls the values.
 */
#include "tsc.h"

#include <errno.h>

#include "caps.h"
#include "kvm_clock.h"

#define TOLERANCE_PPM 250

const struct state_field tsc_fields[4] = {
	STATE_FIELD(1, struct tsc_state, khz, 1),
	STATE_FIELD(2, struct tsc_state, has_offset, 1),
	STATE_FIELD(3, struct tsc_state, offset, 1),
	STATE_FIELD(4, struct tsc_state, realtime, 1),
};

static struct kvm_device_attr offset_attribute(uint64_t *value)
{
	return (struct kvm_device_attr){ .group = KVM_VCPU_TSC_CTRL,
					 .attr = KVM_VCPU_TSC_OFFSET,
					 .addr = (uintptr_t)value };
}

static bool read_offset(int vcpu_fd, uint64_t *offset)
{
	struct kvm_device_attr attribute = offset_attribute(offset);

	return kvm_ioctl(vcpu_fd, KVM_GET_DEVICE_ATTR, &attribute) == 0;
}

int tsc_capture(struct tsc_state *tsc, int vcpu_fd, struct error *e)
{
	int khz = kvm_ioctl(vcpu_fd, KVM_GET_TSC_KHZ, NULL);

	if (khz < 0) {
		return error_set_sys(e, ERROR_KVM, -khz, "KVM_GET_TSC_KHZ");
	}
	*tsc = (struct tsc_state){ .khz = (uint32_t)khz, .realtime = kvm_clock_realtime() };
	tsc->has_offset = read_offset(vcpu_fd, &tsc->offset);
	return 0;
}

static bool is_near(uint32_t want, uint32_t have)
{
	uint64_t difference = want > have ? want - have : have - want;

	return difference * 1000000 <= (uint64_t)have * TOLERANCE_PPM;
}

int tsc_apply_rate(const struct tsc_state *tsc, const struct kvm *kvm, int vcpu_fd, struct error *e)
{
	int have = kvm_ioctl(vcpu_fd, KVM_GET_TSC_KHZ, NULL);
	int r;

	if (have < 0) {
		return error_set_sys(e, ERROR_KVM, -have, "KVM_GET_TSC_KHZ");
	}
	if (tsc->khz == (uint32_t)have || tsc->khz == 0) {
		return 0;
	}
	if (!kvm_has(kvm, X86_TSC_CONTROL)) {
		if (is_near(tsc->khz, (uint32_t)have)) {
			return 0;
		}
		(void)error_set(e, ERROR_STATE, ENOTSUP,
				"its time stamp counter has %u kHz, this host's %d, and cannot be "
				"scaled",
				tsc->khz, have);
		return error_hint(e, "load it on a host of the same frequency");
	}
	r = kvm_ioctl(vcpu_fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)tsc->khz);
	return r < 0 ? error_set_sys(e, ERROR_STATE, -r, "KVM_SET_TSC_KHZ %u", tsc->khz) : 0;
}

int tsc_apply_offset(const struct tsc_state *tsc, int vcpu_fd, const struct tsc_state *first,
		     int first_fd, struct error *e)
{
	struct kvm_device_attr attribute;
	uint64_t offset;
	int r;

	if (!tsc->has_offset || !first->has_offset || !read_offset(first_fd, &offset)) {
		return 0;
	}
	offset += tsc->offset - first->offset;
	attribute = offset_attribute(&offset);
	r = kvm_ioctl(vcpu_fd, KVM_SET_DEVICE_ATTR, &attribute);
	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "KVM_VCPU_TSC_OFFSET") : 0;
}

uint64_t tsc_elapsed(const struct tsc_state *tsc)
{
	return (uint64_t)((unsigned __int128)kvm_clock_elapsed(tsc->realtime) * tsc->khz / 1000000);
}
