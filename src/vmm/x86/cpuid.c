// SPDX-License-Identifier: Apache-2.0
/*
 * CPUID as the guest sees it (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; Linux
 * Documentation/virt/kvm/x86/cpuid.rst). The base is KVM_GET_SUPPORTED_CPUID: what this host's KVM
 * can give. On top of it:
 *  - topology: one package of cores with one thread each, or two; APIC id = vCPU index, so
 * identifiers are dense;
 *  - hypervisor bit, TSC deadline timer, x2APIC: KVM implements them in the in-kernel APIC, and
 * reports some of them apart;
 *  - hidden: nested virtualisation (no state for it is saved yet), the performance counters (their
 * MSRs cost exits at boot, and are attack surface), MONITOR/MWAIT, the topology and thermal leaves
 * that describe the host rather than the guest.
 * What then lacks something that it needs is taken out by cpuid_features.c.
 *
 * Runs before the guest; the guest controls nothing here.
 */
#include "cpuid.h"

#include "baseline.h"
#include "cpu_template.h"
#include "cpuid_features.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#define LEAF_VENDOR	   0x0
#define LEAF_FEATURES	   0x1
#define LEAF_CACHE_INTEL   0x4
#define LEAF_MONITOR	   0x5
#define LEAF_THERMAL	   0x6
#define LEAF_PMU	   0xa
#define LEAF_TOPOLOGY	   0xb
#define LEAF_TSC	   0x15
#define LEAF_TOPOLOGY_V2   0x1f
#define LEAF_KVM_SIGNATURE 0x40000000
#define LEAF_KVM_TIMING	   0x40000010
#define LEAF_EXT_FEATURES  0x80000001
#define LEAF_EXT_CORES	   0x80000008
#define LEAF_CACHE_AMD	   0x8000001d
#define LEAF_TOPOLOGY_AMD  0x8000001e

#define VENDOR_EBX_AMD	 0x68747541U /* "Auth" */
#define VENDOR_EBX_HYGON 0x6f677948U /* "Hygo" */

#define ECX_MONITOR	 (1U << 3)
#define ECX_VMX		 (1U << 5)
#define ECX_PDCM	 (1U << 15)
#define ECX_X2APIC	 (1U << 21)
#define ECX_TSC_DEADLINE (1U << 24)
#define ECX_HYPERVISOR	 (1U << 31)
#define EDX_HTT		 (1U << 28)

#define EXT_ECX_CMP_LEGACY	    (1U << 1)
#define EXT_ECX_SVM		    (1U << 2)
#define EXT_ECX_TOPOLOGY_EXTENSIONS (1U << 22)
#define EXT_ECX_PERFCTR_CORE	    (1U << 23)
#define EXT_ECX_PERFCTR_NB	    (1U << 24)
#define EXT_ECX_PERFCTR_LLC	    (1U << 28)

/* KVM's local APIC counts nanoseconds (arch/x86/kvm/lapic.h: APIC_BUS_CYCLE_NS 1). */
#define APIC_BUS_KHZ 1000000U

#define TOPOLOGY_LEVEL_INVALID 0
#define TOPOLOGY_LEVEL_THREAD  1
#define TOPOLOGY_LEVEL_CORE    2

struct topology {
	uint32_t vcpus;
	uint32_t threads; /* of a core: 1 or 2 */
};

/* Bits that an APIC id needs to tell `count` of them apart. */
static uint32_t id_bits(uint32_t count)
{
	return count <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(count - 1);
}

static void edit_features(struct kvm_cpuid_entry2 *entry, uint32_t vcpus)
{
	entry->ecx &= ~(ECX_MONITOR | ECX_VMX | ECX_PDCM);
	entry->ecx |= ECX_HYPERVISOR | ECX_X2APIC | ECX_TSC_DEADLINE;
	/* EBX[23:16]: addressable ids in the package, valid with HTT. */
	entry->ebx = (entry->ebx & 0x0000ffff) | (1U << id_bits(vcpus)) << 16;
	if (vcpus > 1) {
		entry->edx |= EDX_HTT;
	} else {
		entry->edx &= ~EDX_HTT;
	}
}

/* EAX[25:14]: ids that share the cache, less one. EAX[31:26]: core ids in the package, less one
 * (Intel only). */
static void edit_cache(struct kvm_cpuid_entry2 *entry, const struct topology *topology)
{
	uint32_t type = entry->eax & 0x1f;
	uint32_t level = entry->eax >> 5 & 0x7;
	uint32_t package = (1U << id_bits(topology->vcpus)) - 1;
	uint32_t cores = (1U << (id_bits(topology->vcpus) - id_bits(topology->threads))) - 1;
	uint32_t sharing = level >= 3 ? package : topology->threads - 1;

	if (type == 0) {
		return;
	}
	entry->eax = (entry->eax & 0x3fff) | sharing << 14;
	if (entry->function == LEAF_CACHE_INTEL) {
		entry->eax |= cores << 26;
	}
}

static void edit_topology(struct kvm_cpuid_entry2 *entry, const struct topology *topology)
{
	uint32_t type = TOPOLOGY_LEVEL_INVALID;

	entry->eax = 0;
	entry->ebx = 0;
	if (entry->index == 0) {
		type = TOPOLOGY_LEVEL_THREAD;
		entry->eax = id_bits(topology->threads);
		entry->ebx = topology->threads;
	} else if (entry->index == 1) {
		type = TOPOLOGY_LEVEL_CORE;
		entry->eax = id_bits(topology->vcpus);
		entry->ebx = topology->vcpus;
	}
	entry->ecx = type << 8 | (entry->index & 0xff);
}

static void edit_entry(struct kvm_cpuid_entry2 *entry, const struct topology *topology, bool amd)
{
	uint32_t vcpus = topology->vcpus;

	switch (entry->function) {
	case LEAF_FEATURES:
		edit_features(entry, vcpus);
		break;
	case LEAF_CACHE_INTEL:
	case LEAF_CACHE_AMD:
		edit_cache(entry, topology);
		break;
	case LEAF_MONITOR:
	case LEAF_PMU:
		entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
		break;
	case LEAF_THERMAL:
		/* ARAT stays: the APIC timer does not stop in deep idle. Energy and frequency hints
		 * describe the host. */
		entry->eax &= 1U << 2;
		entry->ebx = entry->ecx = entry->edx = 0;
		break;
	case LEAF_TOPOLOGY:
	case LEAF_TOPOLOGY_V2:
		edit_topology(entry, topology);
		break;
	case LEAF_EXT_FEATURES:
		entry->ecx &= ~(EXT_ECX_SVM | EXT_ECX_PERFCTR_CORE | EXT_ECX_PERFCTR_NB |
				EXT_ECX_PERFCTR_LLC | EXT_ECX_CMP_LEGACY);
		/* On an Intel CPU it would make Linux ignore the topology of leaf 1. */
		if (amd && vcpus > 1) {
			entry->ecx |= EXT_ECX_CMP_LEGACY;
		}
		break;
	case LEAF_EXT_CORES:
		entry->ecx = amd ? id_bits(vcpus) << 12 | (vcpus - 1) : 0;
		break;
	case LEAF_TOPOLOGY_AMD:
		entry->ebx = (topology->threads - 1) << 8;
		entry->ecx = 0; /* one node */
		break;
	default:
		break;
	}
}

static struct kvm_cpuid_entry2 *find(struct cpuid *cpuid, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->count; i++) {
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index) {
			return &cpuid->entries[i];
		}
	}
	return NULL;
}

/* The sub-leaves 0 and 1 of an extended topology leaf must exist; some hosts report only the first.
 */
static void complete_topology(struct cpuid *cpuid, uint32_t function)
{
	if (find(cpuid, function, 0) == NULL) {
		return;
	}
	for (uint32_t index = 1; index <= 2; index++) {
		if (find(cpuid, function, index) == NULL && cpuid->count < CPUID_ENTRIES_MAX) {
			cpuid->entries[cpuid->count++] = (struct kvm_cpuid_entry2){
				.function = function,
				.index = index,
				.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			};
		}
	}
}

/* AMD's leaves: also of Hygon, whose CPUs are AMD's. */
static bool is_amd(struct cpuid *cpuid)
{
	const struct kvm_cpuid_entry2 *vendor = find(cpuid, LEAF_VENDOR, 0);

	return vendor != NULL && (vendor->ebx == VENDOR_EBX_AMD || vendor->ebx == VENDOR_EBX_HYGON);
}

void cpuid_edit(struct cpuid *cpuid, uint32_t vcpus, uint32_t threads)
{
	const struct topology topology = { .vcpus = vcpus, .threads = threads };
	bool amd = is_amd(cpuid);

	complete_topology(cpuid, LEAF_TOPOLOGY);
	complete_topology(cpuid, LEAF_TOPOLOGY_V2);
	for (uint32_t i = 0; i < cpuid->count; i++) {
		edit_entry(&cpuid->entries[i], &topology, amd);
	}
}

void cpuid_set_apic_id(struct cpuid *cpuid, uint32_t apic_id)
{
	for (uint32_t i = 0; i < cpuid->count; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		switch (entry->function) {
		case LEAF_FEATURES:
			entry->ebx = (entry->ebx & 0x00ffffff) | apic_id << 24;
			break;
		case LEAF_TOPOLOGY:
		case LEAF_TOPOLOGY_V2:
			entry->edx = apic_id;
			break;
		case LEAF_TOPOLOGY_AMD:
			entry->eax = apic_id;
			/* EBX[7:0] is the core's id, EBX[15:8] its threads less one. */
			entry->ebx = (entry->ebx & 0xff00) |
				     (apic_id / ((entry->ebx >> 8 & 0xff) + 1) & 0xff);
			break;
		default:
			break;
		}
	}
}

/*
 * Leaf 0x15: TSC = ECX * EBX / EAX, with the "crystal" at the APIC's rate, so that Linux derives
 * both from it without measuring. Leaf 0x40000010: the same two in kHz, for guests that know
 * hypervisors' timing leaf.
 */
void cpuid_set_frequencies(struct cpuid *cpuid, uint32_t tsc_khz)
{
	struct kvm_cpuid_entry2 *entry = find(cpuid, LEAF_TSC, 0);
	struct kvm_cpuid_entry2 *signature = find(cpuid, LEAF_KVM_SIGNATURE, 0);

	if (tsc_khz == 0) {
		return;
	}
	if (entry != NULL) {
		entry->eax = APIC_BUS_KHZ;
		entry->ebx = tsc_khz;
		entry->ecx = APIC_BUS_KHZ * 1000;
	}
	entry = find(cpuid, LEAF_KVM_TIMING, 0);
	if (entry == NULL && signature != NULL && cpuid->count < CPUID_ENTRIES_MAX) {
		entry = &cpuid->entries[cpuid->count++];
		*entry = (struct kvm_cpuid_entry2){ .function = LEAF_KVM_TIMING };
		signature->eax = MAX(signature->eax, (uint32_t)LEAF_KVM_TIMING);
	}
	if (entry != NULL) {
		entry->eax = tsc_khz;
		entry->ebx = APIC_BUS_KHZ;
	}
}

static void hide_tsc_deadline(struct cpuid *cpuid)
{
	struct kvm_cpuid_entry2 *features = find(cpuid, LEAF_FEATURES, 0);

	if (features != NULL) {
		features->ecx &= ~ECX_TSC_DEADLINE;
	}
}

int cpuid_read_supported(struct cpuid *cpuid, int kvm_fd, struct error *e)
{
	int r;

	_Static_assert(offsetof(struct cpuid, entries) == offsetof(struct kvm_cpuid2, entries),
		       "struct cpuid is struct kvm_cpuid2 with room");
	cpuid->count = CPUID_ENTRIES_MAX;
	cpuid->padding = 0;
	r = kvm_ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "KVM_GET_SUPPORTED_CPUID") : 0;
}

int cpuid_prepare(struct cpuid *cpuid, const struct cpuid *supported, int kvm_fd, uint32_t vcpus,
		  uint32_t threads, struct error *e)
{
	void *deadline_timer = (void *)(uintptr_t)KVM_CAP_TSC_DEADLINE_TIMER;
	int r = 0;

	if (supported != NULL) {
		*cpuid = *supported;
	} else {
		r = cpuid_read_supported(cpuid, kvm_fd, e);
	}
	if (r < 0) {
		return r;
	}
	cpuid_edit(cpuid, vcpus, threads);
	if (kvm_ioctl(kvm_fd, KVM_CHECK_EXTENSION, deadline_timer) <= 0) {
		hide_tsc_deadline(cpuid);
	}
	return 0;
}

int cpuid_make(struct cpuid *own, const struct cpuid *cpuid, const struct cpu_template *cpu,
	       int vcpu_fd, uint32_t apic_id, struct error *e)
{
	int r = kvm_ioctl(vcpu_fd, KVM_GET_TSC_KHZ, NULL);

	own->count = cpuid->count;
	own->padding = 0;
	memcpy(own->entries, cpuid->entries, cpuid->count * sizeof(own->entries[0]));
	cpuid_set_frequencies(own, r > 0 ? (uint32_t)r : 0);
	if (cpu != NULL) {
		r = cpu_template_edit_cpuid(cpu, own, e);
		if (r < 0) {
			return r;
		}
		baselines_mask(cpu, own);
	}
	cpuid_clear_unusable(own);
	if (cpu != NULL && cpu->baseline_count > 0) {
		baseline_clear_leaves(own);
	}
	cpuid_set_apic_id(own, apic_id);
	return 0;
}

int cpuid_apply(const struct cpuid *cpuid, const struct cpu_template *cpu, int vcpu_fd,
		uint32_t apic_id, struct error *e)
{
	struct cpuid own;
	int r = cpuid_make(&own, cpuid, cpu, vcpu_fd, apic_id, e);

	if (r == 0) {
		r = kvm_ioctl(vcpu_fd, KVM_SET_CPUID2, &own);
		r = r < 0 ? error_set_sys(e, ERROR_KVM, -r, "KVM_SET_CPUID2") : 0;
	}
	return r;
}

uint32_t cpuid_physical_bits(void)
{
	uint32_t eax, ebx, ecx, edx;

	return __get_cpuid(LEAF_EXT_CORES, &eax, &ebx, &ecx, &edx) != 0 ? eax & 0xff : 36;
}
