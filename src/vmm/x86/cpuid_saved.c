// SPDX-License-Identifier: Apache-2.0
/*
 * CPUID of a saved VM: a guest goes on with the processor that it has seen, so it is given the table that
 * was saved, whatever this host would make of it. Saved is what the vCPU was given, not what KVM says that
 * it has, because one without VT-x or AMD-V shows its guests more than it supports. A host that cannot do something of it is refused,
 * because the guest uses what it has found at its boot: leaves whose bits are abilities have to be a subset
 * of what KVM supports here, and the vendor the same; each bit that is not is named. Frequencies, topology and caches are only words.
 *
 * By the thread that owns the machine. Whoever wrote the file controls the table; KVM judges the rest
 * of it, and the processor what the guest does with it.
 */
#include "cpuid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cpuid_names.h"
#include "vmm/vm_config.h"

#define VENDOR_LEAF    0
#define SIGNATURE_LEAF 0x40000000

static const struct state_field entry_fields[] = {
	STATE_FIELD(1, struct kvm_cpuid_entry2, function, 1),
	STATE_FIELD(2, struct kvm_cpuid_entry2, index, 1),
	STATE_FIELD(3, struct kvm_cpuid_entry2, flags, 1),
	STATE_FIELD(4, struct kvm_cpuid_entry2, eax, 1),
	STATE_FIELD(5, struct kvm_cpuid_entry2, ebx, 1),
	STATE_FIELD(6, struct kvm_cpuid_entry2, ecx, 1),
	STATE_FIELD(7, struct kvm_cpuid_entry2, edx, 1),
};
static const struct state_desc entry_desc =
	STATE_DESC("cpuid-entry", 1, struct kvm_cpuid_entry2, entry_fields);
const struct state_field cpuid_fields[1] = {
	STATE_STRUCTS_USED(1, struct cpuid, entries, count, &entry_desc, 1),
};

/* Whose bits are abilities of the processor or of KVM. */
static const struct {
	uint32_t function, index;
	uint8_t registers; /* bit n: register n of EAX, EBX, ECX, EDX */
} abilities[] = {
	{ 1, 0, 0xc },		{ 7, 0, 0xe },		{ 7, 1, 0xf },
	{ 7, 2, 0x8 },		{ 0xd, 0, 0x9 },	{ 0xd, 1, 0x1 },
	{ 0x1e, 1, 0x1 },	{ 0x80000001, 0, 0xc }, { 0x80000008, 0, 0x2 },
	{ 0x80000021, 0, 0x1 }, { 0x40000001, 0, 0x1 },
};

/* Leaf 1 has bits that say what the guest does (OSXSAVE), and what hypervisors are known by. */
#define ECX1_OURS (1U << 27 | 1U << 31)
/* Leaf 7: OSPKE. */
#define ECX7_OURS (1U << 4)

bool cpuid_equal(const struct cpuid *a, const struct cpuid *b)
{
	return a->count == b->count &&
	       memcmp(a->entries, b->entries, a->count * sizeof(a->entries[0])) == 0;
}

static const struct kvm_cpuid_entry2 *find(const struct cpuid *cpuid, uint32_t function,
					   uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->count; i++) {
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index) {
			return &cpuid->entries[i];
		}
	}
	return NULL;
}

static uint32_t register_of(const struct kvm_cpuid_entry2 *entry, uint32_t number)
{
	const uint32_t all[] = { entry->eax, entry->ebx, entry->ecx, entry->edx };

	return all[number];
}

/* Bits of the register that `here` has not. */
static uint32_t missing(const struct cpuid *saved, const struct cpuid *here, size_t i, uint32_t reg)
{
	const struct kvm_cpuid_entry2 *want =
		find(saved, abilities[i].function, abilities[i].index);
	const struct kvm_cpuid_entry2 *have = find(here, abilities[i].function, abilities[i].index);
	uint32_t bits;

	if (want == NULL || (abilities[i].registers >> reg & 1) == 0) {
		return 0;
	}
	bits = register_of(want, reg) & ~(have != NULL ? register_of(have, reg) : 0);
	if (reg == CPUID_ECX && abilities[i].function == 1) {
		bits &= ~ECX1_OURS;
	} else if (reg == CPUID_ECX && abilities[i].function == 7 && abilities[i].index == 0) {
		bits &= ~ECX7_OURS;
	}
	return bits;
}

static int same_name(const struct cpuid *saved, const struct cpuid *here, uint32_t leaf,
		     const char *what, struct error *e)
{
	const struct kvm_cpuid_entry2 *want = find(saved, leaf, 0), *have = find(here, leaf, 0);
	char wanted[13], had[13];

	if (want == NULL || have == NULL ||
	    (want->ebx == have->ebx && want->ecx == have->ecx && want->edx == have->edx)) {
		return 0;
	}
	/* In the order in which the processor spells its name; leaf 0x40000000 another. */
	memcpy(wanted, &want->ebx, 4);
	memcpy(wanted + 4, leaf == VENDOR_LEAF ? &want->edx : &want->ecx, 4);
	memcpy(wanted + 8, leaf == VENDOR_LEAF ? &want->ecx : &want->edx, 4);
	memcpy(had, &have->ebx, 4);
	memcpy(had + 4, leaf == VENDOR_LEAF ? &have->edx : &have->ecx, 4);
	memcpy(had + 8, leaf == VENDOR_LEAF ? &have->ecx : &have->edx, 4);
	wanted[12] = had[12] = '\0';
	(void)error_set(e, ERROR_STATE, ENOTSUP, "it was saved on a %s of '%s', and this is '%s'",
			what, wanted, had);
	return error_hint(e, "load it on a host like the one it was saved on");
}

int cpuid_compare(const struct cpuid *saved, const struct cpuid *here, struct error *e)
{
	struct cpuid_list list = { .len = 0 };

	for (size_t i = 0; i < ARRAY_SIZE(abilities); i++) {
		for (uint32_t reg = CPUID_EAX; reg <= CPUID_EDX; reg++) {
			cpuid_list_bits(&list, abilities[i].function, abilities[i].index, reg,
					missing(saved, here, i, reg));
		}
	}
	if (cpuid_list_count(&list) == 0) {
		return 0;
	}
	(void)error_set(e, ERROR_STATE, ENOTSUP, "its processor has what this host's has not: %s",
			cpuid_list_text(&list));
	return error_hint(e, "load it on a host like the one it was saved on; vmm run --cpu makes "
			     "processors alike, see vmm doctor --cpu-baseline");
}

/* What we do not show a guest by ourselves a CPU template may have asked for: only if there is something to
 * object to, KVM is asked for all that it supports. */
static int compare_with_host(const struct cpuid *saved, const struct cpuid *here, int kvm_fd,
			     struct error *e)
{
	struct cpuid all;
	int r = same_name(saved, here, VENDOR_LEAF, "processor", e);

	if (r == 0) {
		r = same_name(saved, here, SIGNATURE_LEAF, "hypervisor", e);
	}
	if (r < 0 || cpuid_compare(saved, here, NULL) == 0) {
		return r;
	}
	r = cpuid_read_supported(&all, kvm_fd, e);
	return r == 0 ? cpuid_compare(saved, &all, e) : r;
}

int cpuid_load(const struct cpuid *saved, const struct cpuid *here, int kvm_fd, int vcpu_fd,
	       struct error *e)
{
	struct cpuid copy = *saved;
	int r = compare_with_host(saved, here, kvm_fd, e);

	if (r < 0) {
		return r;
	}
	r = kvm_ioctl(vcpu_fd, KVM_SET_CPUID2, &copy);
	if (r < 0) {
		(void)error_set_sys(e, ERROR_STATE, -r, "KVM_SET_CPUID2");
		return error_hint(e, "load it into a machine that has not run");
	}
	return 0;
}
