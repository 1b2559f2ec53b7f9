// SPDX-License-Identifier: Apache-2.0
/*
 * CPU baselines on x86: levels as the System V psABI for x86-64 lists them (its table 3.1), and what of CPUID and of
 * IA32_ARCH_CAPABILITIES a baseline is about (Intel SDM volume 2, CPUID, volume 4; AMD APM volume 3, appendix E).
 *
 * A level says what programs may use. A guest's kernel needs more, which every processor has that can run one under KVM: the rest of
 * leaf 1's EDX, NX, RDTSCP, and what KVM implements itself: the TSC's deadline timer and adjustment, its constant rate, the leaf of
 * KVM's own. These are shown where the host has them. Mitigations, and hardening such as SMEP, are of no level: a fleet that
 * is alike enough for them makes a baseline of its own.
 *
 * Before the guest runs, on each vCPU's thread; a baseline of a client's own is his. Pure, but for arch_baseline_read_host().
 */
#include "baseline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../arch.h"
#include "cpuid_features.h"
#include "cpuid_names.h"

enum {
	P1C,
	P1D,
	P6A,
	P7B,
	P7C,
	P7D,
	P71A,
	P71B,
	P71C,
	P71D,
	P72D,
	PXA,
	PXD,
	PX1A,
	PX1C,
	PX1D,
	PEC,
	PED,
	P7E,
	P8E,
	P21E,
	PKVM,
};

/* What is ours: OSXSAVE, the hypervisor bit and x2APIC; HTT; OSPKE; AMD's CMP_LEGACY. */
const struct cpu_baseline_place arch_baseline_places[CPU_BASELINE_PLACES] = {
	[P1C] = { 0x1, 0, CPUID_ECX, 1U << 21 | 1U << 27 | 1U << 31 },
	[P1D] = { 0x1, 0, CPUID_EDX, 1U << 28 },
	[P6A] = { 0x6, 0, CPUID_EAX, 0 },
	[P7B] = { 0x7, 0, CPUID_EBX, 0 },
	[P7C] = { 0x7, 0, CPUID_ECX, 1U << 4 },
	[P7D] = { 0x7, 0, CPUID_EDX, 0 },
	[P71A] = { 0x7, 1, CPUID_EAX, 0 },
	[P71B] = { 0x7, 1, CPUID_EBX, 0 },
	[P71C] = { 0x7, 1, CPUID_ECX, 0 },
	[P71D] = { 0x7, 1, CPUID_EDX, 0 },
	[P72D] = { 0x7, 2, CPUID_EDX, 0 },
	[PXA] = { 0xd, 0, CPUID_EAX, 0 },
	[PXD] = { 0xd, 0, CPUID_EDX, 0 },
	[PX1A] = { 0xd, 1, CPUID_EAX, 0 },
	[PX1C] = { 0xd, 1, CPUID_ECX, 0 },
	[PX1D] = { 0xd, 1, CPUID_EDX, 0 },
	[PEC] = { 0x80000001, 0, CPUID_ECX, 1U << 1 },
	[PED] = { 0x80000001, 0, CPUID_EDX, 0 },
	[P7E] = { 0x80000007, 0, CPUID_EDX, 0 },
	[P8E] = { 0x80000008, 0, CPUID_EBX, 0 },
	[P21E] = { 0x80000021, 0, CPUID_EAX, 0 },
	[PKVM] = { 0x40000001, 0, CPUID_EAX, 0 },
};
_Static_assert(PKVM + 1 == CPU_BASELINE_PLACES, "each place has its number");

/* RSBA and RRSBA: returns may be predicted from elsewhere. */
const uint64_t arch_capabilities_worse = 1ULL << 2 | 1ULL << 19;

/* What the first level has, and each adds. */
static const struct {
	uint8_t place, level; /* from this one on; enum vm_cpu_level */
	bool optional;
	uint32_t bits;
} level_rows[] = {
	/* FPU, CX8, CMOV, MMX, FXSR, SSE, SSE2; SYSCALL, long mode */
	{ P1D, VM_CPU_LEVEL_V2, false, 0x07808101 },
	{ PED, VM_CPU_LEVEL_V2, false, 1U << 11 | 1U << 29 },
	/* SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF */
	{ P1C, VM_CPU_LEVEL_V2, false,
	  1U << 0 | 1U << 9 | 1U << 13 | 1U << 19 | 1U << 20 | 1U << 23 },
	{ PEC, VM_CPU_LEVEL_V2, false, 1U << 0 },
	/* FMA, MOVBE, XSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT; x87, SSE and AVX state */
	{ P1C, VM_CPU_LEVEL_V3, false, 1U << 12 | 1U << 22 | 1U << 26 | 1U << 28 | 1U << 29 },
	{ P7B, VM_CPU_LEVEL_V3, false, 1U << 3 | 1U << 5 | 1U << 8 },
	{ PEC, VM_CPU_LEVEL_V3, false, 1U << 5 },
	{ PXA, VM_CPU_LEVEL_V3, false, 0x7 },
	/* AVX512F, DQ, CD, BW, VL, and their state */
	{ P7B, VM_CPU_LEVEL_V4, false, 1U << 16 | 1U << 17 | 1U << 28 | 1U << 30 | 1U << 31 },
	{ PXA, VM_CPU_LEVEL_V4, false, 0xe0 },
	/* The rest of the first 64-bit processors' bits; deadline timer; ARAT; TSC_ADJUST */
	{ P1D, VM_CPU_LEVEL_V2, true, 0x078bfbff },
	{ P1C, VM_CPU_LEVEL_V2, true, 1U << 24 },
	{ P6A, VM_CPU_LEVEL_V2, true, 1U << 2 },
	{ P7B, VM_CPU_LEVEL_V2, true, 1U << 1 },
	/* AMD's topology; AMD's copies of leaf 1's EDX, NX, RDTSCP; a TSC of constant rate; KVM's own */
	{ PEC, VM_CPU_LEVEL_V2, true, 1U << 22 },
	{ PED, VM_CPU_LEVEL_V2, true, 0x0183f3ff | 1U << 20 | 1U << 27 },
	{ P7E, VM_CPU_LEVEL_V2, true, 1U << 8 },
	{ PKVM, VM_CPU_LEVEL_V2, true, UINT32_MAX },
};

void arch_baseline_of_level(struct cpu_baseline *baseline, enum vm_cpu_level level)
{
	*baseline = (struct cpu_baseline){ 0 };
	(void)snprintf(baseline->name, sizeof(baseline->name), "%s", cpu_level_name(level));
	for (size_t i = 0; i < ARRAY_SIZE(level_rows); i++) {
		uint32_t *bits = level_rows[i].optional ? baseline->may : baseline->must;

		if (level_rows[i].level <= level) {
			bits[level_rows[i].place] |= level_rows[i].bits;
		}
	}
	for (size_t i = 0; i < CPU_BASELINE_PLACES; i++) {
		baseline->may[i] &= ~baseline->must[i];
	}
}

/* --- tables -------------------------------------------------------------------------------------- */

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

static uint32_t *register_of(struct kvm_cpuid_entry2 *entry, uint8_t reg)
{
	uint32_t *const registers[] = { &entry->eax, &entry->ebx, &entry->ecx, &entry->edx };

	return registers[reg];
}

/* What the table has at a place. */
static uint32_t bits_of(const struct cpuid *cpuid, uint32_t i)
{
	const struct cpu_baseline_place *place = &arch_baseline_places[i];
	const struct kvm_cpuid_entry2 *entry = find(cpuid, place->leaf, place->subleaf);

	return entry != NULL ? *register_of((struct kvm_cpuid_entry2 *)(uintptr_t)entry, place->reg)
			     : 0;
}

static void read_vendor(char vendor[13], const struct cpuid *cpuid)
{
	const struct kvm_cpuid_entry2 *entry = find(cpuid, 0, 0);

	memset(vendor, 0, 13);
	if (entry != NULL) {
		memcpy(vendor, &entry->ebx, 4);
		memcpy(vendor + 4, &entry->edx, 4);
		memcpy(vendor + 8, &entry->ecx, 4);
	}
	for (size_t i = 0; i < 12 && vendor[i] != '\0'; i++) {
		vendor[i] = (char)(vendor[i] >= ' ' && vendor[i] <= '~' ? vendor[i] : '?');
	}
}

void baseline_of_table(struct cpu_baseline *baseline, const struct cpuid *cpuid)
{
	*baseline = (struct cpu_baseline){ 0 };
	read_vendor(baseline->vendor, cpuid);
	for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
		baseline->must[i] = bits_of(cpuid, i) & ~arch_baseline_places[i].ours;
	}
}

int arch_baseline_read_host(struct cpu_baseline *baseline, const struct kvm *kvm, struct error *e)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entry;
	} msr = { .header.nmsrs = 1, .entry.index = MSR_ARCH_CAPABILITIES };
	struct cpuid cpuid;
	int r = cpuid_prepare(&cpuid, NULL, kvm->fd, 1, 1, e);

	if (r < 0) {
		return r;
	}
	cpuid_clear_unusable(&cpuid);
	baseline_of_table(baseline, &cpuid);
	if (kvm_ioctl(kvm->fd, KVM_GET_MSRS, &msr) == 1) {
		baseline->arch_capabilities = msr.entry.data;
	}
	return 0;
}

/* --- a host, and a guest's table ----------------------------------------------------------------- */

static int check_vendor(const struct cpu_baseline *baseline, const struct cpuid *host,
			struct error *e)
{
	char vendor[13];

	read_vendor(vendor, host);
	if (baseline->vendor[0] == '\0' || strcmp(baseline->vendor, vendor) == 0) {
		return 0;
	}
	(void)error_set(e, ERROR_CONFIG, ENOTSUP,
			"CPU baseline: it is of processors of '%s', and this one is of '%s'",
			baseline->vendor, vendor);
	return error_hint(e, "make one of the hosts that this VM shall run on: vmm doctor "
			     "--cpu-baseline");
}

static int check_one(const struct cpu_baseline *baseline, const struct cpuid *host, struct error *e)
{
	const bool named = baseline->name[0] != '\0';
	struct cpuid_list list = { .len = 0 };
	int r = check_vendor(baseline, host, e);

	if (r < 0) {
		return r;
	}
	for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
		const struct cpu_baseline_place *place = &arch_baseline_places[i];

		cpuid_list_bits(&list, place->leaf, place->subleaf, place->reg,
				baseline->must[i] & ~place->ours & ~bits_of(host, i));
	}
	if (cpuid_list_count(&list) == 0) {
		return 0;
	}
	(void)error_set(e, ERROR_CONFIG, ENOTSUP, "CPU baseline%s%s: this host has not %s",
			named ? " " : "", baseline->name, cpuid_list_text(&list));
	return error_hint(e, named ? "choose a lower level, or a host that has them"
				   : "make the baseline again, with this host's among those of "
				     "vmm doctor --cpu-baseline");
}

int baselines_check(const struct cpu_template *cpu, const struct cpuid *host, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < cpu->baseline_count; i++) {
		r = check_one(&cpu->baselines[i], host, e);
	}
	return r;
}

void baselines_mask(const struct cpu_template *cpu, struct cpuid *cpuid)
{
	for (uint32_t k = 0; k < cpu->baseline_count; k++) {
		const struct cpu_baseline *baseline = &cpu->baselines[k];

		for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
			const struct cpu_baseline_place *place = &arch_baseline_places[i];
			const struct kvm_cpuid_entry2 *entry =
				find(cpuid, place->leaf, place->subleaf);

			if (entry != NULL) {
				*register_of((struct kvm_cpuid_entry2 *)(uintptr_t)entry,
					     place->reg) &=
					baseline->must[i] | baseline->may[i] | place->ours;
			}
		}
	}
}

/* Leaves that only describe an ability: they go with its bit. */
static const struct {
	uint32_t function, place;
	uint8_t bit;
} described[] = {
	{ 0x12, P7B, 2 },		       /* SGX */
	{ 0x14, P7B, 25 },		       /* processor trace */
	{ 0x19, P7C, 23 },		       /* key locker */
	{ 0x1c, P7D, 19 },		       /* records of branches */
	{ 0x1d, P7D, 24 },		       /* tiles */
	{ 0x1e, P7D, 24 }, { 0x24, P71D, 19 }, /* AVX10 */
	{ 0xd, P1C, 26 },		       /* XSAVE */
};

static void zero(struct kvm_cpuid_entry2 *entry)
{
	entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
}

/* SDM 1, 13.2: without extensions the legacy area and the header. */
#define XSAVE_BYTES_MIN 576
#define IN_XSS		1

/* Components that are not there have no place, and the area ends with the last that is. */
static void edit_xsave(struct cpuid *cpuid)
{
	const uint64_t user = bits_of(cpuid, PXA) | (uint64_t)bits_of(cpuid, PXD) << 32;
	const uint64_t system = bits_of(cpuid, PX1C) | (uint64_t)bits_of(cpuid, PX1D) << 32;
	struct kvm_cpuid_entry2 *sizes = NULL;
	uint32_t end = XSAVE_BYTES_MIN;

	for (uint32_t i = 0; i < cpuid->count; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function != 0xd || entry->index == 1) {
			continue;
		}
		if (entry->index == 0) {
			sizes = entry;
		} else if (entry->index >= 64 || ((user | system) >> entry->index & 1) == 0) {
			zero(entry);
		} else if ((entry->ecx & IN_XSS) == 0) {
			end = MAX(end, entry->ebx + entry->eax);
		}
	}
	if (sizes != NULL) {
		sizes->ecx = end;
		sizes->ebx = MIN(sizes->ebx, end);
	}
}

void baseline_clear_leaves(struct cpuid *cpuid)
{
	for (size_t k = 0; k < ARRAY_SIZE(described); k++) {
		if ((bits_of(cpuid, described[k].place) >> described[k].bit & 1) != 0) {
			continue;
		}
		for (uint32_t i = 0; i < cpuid->count; i++) {
			if (cpuid->entries[i].function == described[k].function) {
				zero(&cpuid->entries[i]);
			}
		}
	}
	if ((bits_of(cpuid, P1C) >> 26 & 1) != 0) {
		edit_xsave(cpuid);
	}
}

uint64_t baselines_arch_capabilities(const struct cpu_template *cpu, uint64_t value)
{
	for (uint32_t i = 0; i < cpu->baseline_count; i++) {
		const uint64_t bits = cpu->baselines[i].arch_capabilities;

		value = (value & bits) | (arch_capabilities_worse & bits);
	}
	return value;
}
