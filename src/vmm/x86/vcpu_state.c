// SPDX-License-Identifier: Apache-2.0
/*
 * The state of one vCPU in KVM: registers, FPU, MSRs, local APIC, pending events.
 *
 * Read order: MP_STATE first, because reading it may deliver INIT/SIPI and change registers;
 * VCPU_EVENTS last of what depends on it. Write order: SREGS before LAPIC (SREGS carries the APIC
 * base); REGS before VCPU_EVENTS (setting REGS clears pending exceptions); LAPIC before MSRs
 * (TSC_DEADLINE needs the timer mode); TSC_DEADLINE after all other MSRs; MP_STATE last.
 *
 * Runs while the vCPU is parked, on its own thread or on main. The guest controls the values, not
 * their shape.
 */
#include "vcpu_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cleanup.h"

#define MSR_IA32_TSC	      0x10
#define MSR_IA32_TSC_ADJUST   0x3b
#define MSR_IA32_TSC_DEADLINE 0x6e0

struct msr_buffer {
	struct kvm_msrs header;
	struct kvm_msr_entry entries[VCPU_MSRS_MAX];
};

int msr_list_read(struct msr_list *list, int kvm_fd, struct error *e)
{
	struct {
		struct kvm_msr_list header;
		uint32_t indices[VCPU_MSRS_MAX];
	} kernel_list;
	int r;

	kernel_list.header.nmsrs = VCPU_MSRS_MAX;
	r = kvm_ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, &kernel_list);
	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_GET_MSR_INDEX_LIST (room for %u)",
				     VCPU_MSRS_MAX);
	}
	list->count = kernel_list.header.nmsrs;
	memcpy(list->indices, kernel_list.indices, list->count * sizeof(list->indices[0]));
	return 0;
}

void vcpu_state_finish(struct vcpu_state *state)
{
	free(take_ptr(state->xsave));
}

/* KVM stops at the first MSR that this vCPU does not have; that one is left out, and reading goes
 * on behind it. */
static int get_msrs(struct vcpu_state *state, const struct msr_list *list, int vcpu_fd,
		    struct error *e)
{
	uint32_t next = 0;

	state->msr_count = 0;
	while (next < list->count) {
		struct msr_buffer buf;
		uint32_t asked = list->count - next;
		int got;

		memset(&buf.header, 0, sizeof(buf.header));
		buf.header.nmsrs = asked;
		for (uint32_t i = 0; i < asked; i++) {
			buf.entries[i] = (struct kvm_msr_entry){ .index = list->indices[next + i] };
		}
		got = kvm_ioctl(vcpu_fd, KVM_GET_MSRS, &buf);
		if (got < 0) {
			return error_set_sys(e, ERROR_KVM, -got, "KVM_GET_MSRS");
		}
		memcpy(&state->msrs[state->msr_count], buf.entries,
		       (size_t)got * sizeof(buf.entries[0]));
		state->msr_count += (uint32_t)got;
		next += (uint32_t)got + 1;
	}
	return 0;
}

static int get_xsave(struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd, struct error *e)
{
	int r;

	if (state->xsave == NULL) {
		state->xsave = calloc(1, kvm->xsave_size);
		if (state->xsave == NULL) {
			return error_set(e, ERROR_NO_MEMORY, ENOMEM, "vCPU state: out of memory");
		}
	}
	r = kvm_ioctl(vcpu_fd, kvm->has_xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, state->xsave);
	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "KVM_GET_XSAVE") : 0;
}

struct part {
	bool present;
	unsigned long request;
	void *data;
	const char *name;
};

static int run_parts(int vcpu_fd, const struct part *parts, size_t count, struct error *e)
{
	for (size_t i = 0; i < count; i++) {
		int r;

		if (!parts[i].present) {
			continue;
		}
		r = kvm_ioctl(vcpu_fd, parts[i].request, parts[i].data);
		if (r < 0) {
			return error_set_sys(e, ERROR_KVM, -r, "%s", parts[i].name);
		}
	}
	return 0;
}

int vcpu_state_get(struct vcpu_state *state, const struct kvm *kvm, const struct msr_list *msrs,
		   int vcpu_fd, struct error *e)
{
	const struct part first = { true, KVM_GET_MP_STATE, &state->mp_state, "KVM_GET_MP_STATE" };
	const struct part parts[] = {
		{ true, KVM_GET_REGS, &state->regs, "KVM_GET_REGS" },
		{ true, KVM_GET_SREGS, &state->sregs, "KVM_GET_SREGS" },
		{ kvm->has_xcrs, KVM_GET_XCRS, &state->xcrs, "KVM_GET_XCRS" },
		{ kvm->has_debugregs, KVM_GET_DEBUGREGS, &state->debugregs, "KVM_GET_DEBUGREGS" },
		{ true, KVM_GET_LAPIC, &state->lapic, "KVM_GET_LAPIC" },
		{ kvm->has_vcpu_events, KVM_GET_VCPU_EVENTS, &state->events,
		  "KVM_GET_VCPU_EVENTS" },
	};
	int r = run_parts(vcpu_fd, &first, 1, e);

	if (r == 0) {
		r = get_xsave(state, kvm, vcpu_fd, e);
	}
	if (r == 0) {
		r = get_msrs(state, msrs, vcpu_fd, e);
	}
	return r == 0 ? run_parts(vcpu_fd, parts, ARRAY_SIZE(parts), e) : r;
}

/* Writes the MSRs for which `want` agrees. One that KVM lists but refuses to write (host-dependent)
 * is skipped. */
static int set_msrs(const struct vcpu_state *state, int vcpu_fd,
		    bool (*want)(uint32_t index, bool keep_tsc), bool keep_tsc, struct error *e)
{
	uint32_t next = 0;

	while (next < state->msr_count) {
		struct msr_buffer buf;
		uint32_t origin[VCPU_MSRS_MAX];
		uint32_t count = 0;
		int done;

		memset(&buf.header, 0, sizeof(buf.header));
		for (uint32_t i = next; i < state->msr_count; i++) {
			if (want(state->msrs[i].index, keep_tsc)) {
				origin[count] = i;
				buf.entries[count++] = state->msrs[i];
			}
		}
		if (count == 0) {
			return 0;
		}
		buf.header.nmsrs = count;
		done = kvm_ioctl(vcpu_fd, KVM_SET_MSRS, &buf);
		if (done < 0) {
			return error_set_sys(e, ERROR_KVM, -done, "KVM_SET_MSRS");
		}
		if ((uint32_t)done >= count) {
			return 0;
		}
		next = origin[done] + 1;
	}
	return 0;
}

static bool want_common(uint32_t index, bool keep_tsc)
{
	if (index == MSR_IA32_TSC_DEADLINE) {
		return false;
	}
	return !(keep_tsc && (index == MSR_IA32_TSC || index == MSR_IA32_TSC_ADJUST));
}

static bool want_deadline(uint32_t index, bool keep_tsc)
{
	(void)keep_tsc;
	return index == MSR_IA32_TSC_DEADLINE;
}

int vcpu_state_set(const struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd,
		   bool keep_tsc, struct error *e)
{
	/* The ioctls only read these; struct part is shared with the getters. */
	struct vcpu_state *s = (struct vcpu_state *)(uintptr_t)state;
	const struct part before_msrs[] = {
		{ true, KVM_SET_SREGS, &s->sregs, "KVM_SET_SREGS" },
		{ true, KVM_SET_REGS, &s->regs, "KVM_SET_REGS" },
		{ true, KVM_SET_XSAVE, s->xsave, "KVM_SET_XSAVE" },
		{ kvm->has_xcrs, KVM_SET_XCRS, &s->xcrs, "KVM_SET_XCRS" },
		{ kvm->has_debugregs, KVM_SET_DEBUGREGS, &s->debugregs, "KVM_SET_DEBUGREGS" },
		{ true, KVM_SET_LAPIC, &s->lapic, "KVM_SET_LAPIC" },
	};
	const struct part after_msrs[] = {
		{ kvm->has_vcpu_events, KVM_SET_VCPU_EVENTS, &s->events, "KVM_SET_VCPU_EVENTS" },
		{ true, KVM_SET_MP_STATE, &s->mp_state, "KVM_SET_MP_STATE" },
	};
	int r = run_parts(vcpu_fd, before_msrs, ARRAY_SIZE(before_msrs), e);

	if (r == 0) {
		r = set_msrs(state, vcpu_fd, want_common, keep_tsc, e);
	}
	if (r == 0) {
		r = set_msrs(state, vcpu_fd, want_deadline, keep_tsc, e);
	}
	if (r == 0) {
		r = run_parts(vcpu_fd, after_msrs, ARRAY_SIZE(after_msrs), e);
	}
	return r;
}
