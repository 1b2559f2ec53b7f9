// SPDX-License-Identifier: Apache-2.0
/*
 * The state of one vCPU in KVM: registers, FPU, MSRs, local APIC, pending events.
 *
 * Read order: MP_STATE first, because reading it may deliver INIT/SIPI and change registers;
 * VCPU_EVENTS last of what depends on it. Write order: SREGS before LAPIC (SREGS carries the APIC
 * base); REGS before VCPU_EVENTS (setting REGS clears pending exceptions); LAPIC before MSRs
 * (TSC_DEADLINE needs the timer mode); TSC_DEADLINE after all other MSRs; MP_STATE last.
 *
 * Which MSRs: those that KVM lists as what a VM is saved with (all of its own, 0x4b564d00 and on, among
 * them), and the MTRRs, which it keeps but does not list.
 *
 * Runs while the vCPU is parked, on its own thread or the machine's. The guest controls the values, not
 * their shape; of a state that is loaded, whoever wrote it controls both.
 */
#include "vcpu_state.h"

#include <errno.h>
#include <string.h>

#include "caps.h"

#define MSR_IA32_TSC_ADJUST   0x3b
#define MSR_IA32_TSC_DEADLINE 0x6e0

struct msr_buffer {
	struct kvm_msrs header;
	struct kvm_msr_entry entries[VCPU_MSRS_MAX];
};

/* SDM 3, 12.11. */
static const struct {
	uint32_t first, count;
} mtrrs[] = { { 0x200, 16 }, { 0x250, 1 }, { 0x258, 2 }, { 0x268, 8 }, { 0x2ff, 1 } };

static bool has_msr(const struct msr_list *list, uint32_t index)
{
	for (uint32_t i = 0; i < list->count; i++) {
		if (list->indices[i] == index) {
			return true;
		}
	}
	return false;
}

static void add_mtrrs(struct msr_list *list)
{
	for (size_t i = 0; i < ARRAY_SIZE(mtrrs); i++) {
		for (uint32_t j = 0; j < mtrrs[i].count; j++) {
			uint32_t index = mtrrs[i].first + j;

			if (list->count < VCPU_MSRS_MAX && !has_msr(list, index)) {
				list->indices[list->count++] = index;
			}
		}
	}
}

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
	add_mtrrs(list);
	return 0;
}

static const struct state_field msr_fields[] = {
	STATE_FIELD(1, struct kvm_msr_entry, index, 1),
	STATE_FIELD(2, struct kvm_msr_entry, data, 1),
};
static const struct state_desc msr_state = STATE_DESC("msr", 1, struct kvm_msr_entry, msr_fields);

static const struct state_field vcpu_fields[] = {
	STATE_BLOB(1, struct vcpu_state, regs, 1),
	STATE_BLOB(2, struct vcpu_state, sregs, 1),
	STATE_BLOB(3, struct vcpu_state, xcrs, 1),
	STATE_BLOB(4, struct vcpu_state, debugregs, 1),
	STATE_BLOB(5, struct vcpu_state, lapic, 1),
	STATE_BLOB(6, struct vcpu_state, events, 1),
	STATE_BLOB(7, struct vcpu_state, mp_state, 1),
	STATE_STRUCTS_USED(8, struct vcpu_state, msrs, msr_count, &msr_state, 1),
	STATE_BYTES_USED(9, struct vcpu_state, xsave, xsave_size, 1),
};

/* The rest KVM judges. */
static int vcpu_validate(const void *object, const void *owner, struct error *e)
{
	const struct vcpu_state *state = object;
	const struct vcpu_saved *saved = owner;

	if (state->xsave_size != saved->kvm->fpu_size) {
		(void)error_set(e, ERROR_STATE, EINVAL,
				"the registers of XSAVE take %u bytes, and %u on this processor",
				state->xsave_size, saved->kvm->fpu_size);
		return error_hint(e, "a CPU template makes processors alike");
	}
	return 0;
}

const struct state_desc vcpu_saved_state = STATE_DESC_IN(struct vcpu_saved, state, "vcpu-x86", 1,
							 vcpu_fields, .validate = vcpu_validate);
const struct state_desc vcpu_saved_cpuid =
	STATE_DESC_IN(struct vcpu_saved, cpuid, "cpuid-x86", 1, cpuid_fields);
const struct state_desc vcpu_saved_tsc =
	STATE_DESC_IN(struct vcpu_saved, tsc, "tsc-x86", 1, tsc_fields);

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
	int r = kvm_ioctl(vcpu_fd, kvm_has(kvm, X86_XSAVE2) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE,
			  state->xsave);

	state->xsave_size = kvm->fpu_size;
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
		{ kvm_has(kvm, X86_XCRS), KVM_GET_XCRS, &state->xcrs, "KVM_GET_XCRS" },
		{ kvm_has(kvm, X86_DEBUGREGS), KVM_GET_DEBUGREGS, &state->debugregs,
		  "KVM_GET_DEBUGREGS" },
		{ true, KVM_GET_LAPIC, &state->lapic, "KVM_GET_LAPIC" },
		{ kvm_has(kvm, X86_VCPU_EVENTS), KVM_GET_VCPU_EVENTS, &state->events,
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

/* KVM has refused to write it. */
static int judge_refusal(const struct kvm_msr_entry *want, int vcpu_fd, struct error *e)
{
	struct msr_buffer buf = { .header.nmsrs = 1, .entries[0].index = want->index };

	if (kvm_ioctl(vcpu_fd, KVM_GET_MSRS, &buf) == 1 && buf.entries[0].data == want->data) {
		return 0;
	}
	(void)error_set(e, ERROR_STATE, EINVAL,
			"KVM does not take 0x%llx for MSR 0x%x, which this host may not have",
			want->data, want->index);
	return error_hint(e, "load it on a host like the one it was saved on");
}

/* TSC_DEADLINE is armed by its write, so it is one of its own, after all others. */
static bool is_wanted(uint32_t index, enum vcpu_state_use use, bool deadline)
{
	bool is_tsc = index == MSR_IA32_TSC || index == MSR_IA32_TSC_ADJUST;

	return (index == MSR_IA32_TSC_DEADLINE) == deadline && !(use == VCPU_STATE_RESET && is_tsc);
}

/* KVM stops at the first that it refuses; writing goes on behind it. */
static int set_msrs(const struct vcpu_state *state, int vcpu_fd, enum vcpu_state_use use,
		    bool deadline, struct error *e)
{
	uint32_t next = 0;

	while (next < state->msr_count) {
		struct msr_buffer buf;
		uint32_t origin[VCPU_MSRS_MAX];
		uint32_t count = 0;
		int done;

		memset(&buf.header, 0, sizeof(buf.header));
		for (uint32_t i = next; i < state->msr_count; i++) {
			if (is_wanted(state->msrs[i].index, use, deadline)) {
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
		if (use == VCPU_STATE_LOAD) {
			int r = judge_refusal(&state->msrs[origin[done]], vcpu_fd, e);

			if (r < 0) {
				return r;
			}
		}
		next = origin[done] + 1;
	}
	return 0;
}

int vcpu_state_set(const struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd,
		   enum vcpu_state_use use, struct error *e)
{
	/* The ioctls only read these; struct part is shared with the getters. */
	struct vcpu_state *s = (struct vcpu_state *)(uintptr_t)state;
	const struct part before_msrs[] = {
		{ true, KVM_SET_SREGS, &s->sregs, "KVM_SET_SREGS" },
		{ true, KVM_SET_REGS, &s->regs, "KVM_SET_REGS" },
		{ true, KVM_SET_XSAVE, s->xsave, "KVM_SET_XSAVE" },
		{ kvm_has(kvm, X86_XCRS), KVM_SET_XCRS, &s->xcrs, "KVM_SET_XCRS" },
		{ kvm_has(kvm, X86_DEBUGREGS), KVM_SET_DEBUGREGS, &s->debugregs,
		  "KVM_SET_DEBUGREGS" },
		{ true, KVM_SET_LAPIC, &s->lapic, "KVM_SET_LAPIC" },
	};
	const struct part after_msrs[] = {
		{ kvm_has(kvm, X86_VCPU_EVENTS), KVM_SET_VCPU_EVENTS, &s->events,
		  "KVM_SET_VCPU_EVENTS" },
		{ true, KVM_SET_MP_STATE, &s->mp_state, "KVM_SET_MP_STATE" },
	};
	int r = run_parts(vcpu_fd, before_msrs, ARRAY_SIZE(before_msrs), e);

	if (r == 0) {
		r = set_msrs(state, vcpu_fd, use, false, e);
	}
	if (r == 0) {
		r = set_msrs(state, vcpu_fd, use, true, e);
	}
	if (r == 0) {
		r = run_parts(vcpu_fd, after_msrs, ARRAY_SIZE(after_msrs), e);
	}
	return r;
}

/* INIT is latched as if the vCPU were in SMM, and asking for its MP state delivers it. */
int vcpu_send_init(const struct kvm *kvm, int vcpu_fd, struct error *e)
{
	struct kvm_vcpu_events events = { .flags = KVM_VCPUEVENT_VALID_SMM,
					  .smi = { .latched_init = 1 } };
	struct kvm_mp_state state;
	const struct part parts[] = {
		{ true, KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS (INIT)" },
		{ true, KVM_GET_MP_STATE, &state, "KVM_GET_MP_STATE" },
	};

	return kvm_has(kvm, X86_VCPU_EVENTS) ? run_parts(vcpu_fd, parts, ARRAY_SIZE(parts), e) : 0;
}
