/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID tables as an Intel and an AMD host would report them, edited for guests of 1 to 32 vCPUs:
 * what the leaves say about the topology agrees, whichever leaf a kernel asks.
 */
#include <string.h>

#include "harness/check_main.h"

#include "../../src/vmm/x86/cpu_template.h"
#include "../../src/vmm/x86/cpuid.h"

#define VCPUS_MAX 32U

static struct cpuid cpuid;

static struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid.count; i++) {
		if (cpuid.entries[i].function == function && cpuid.entries[i].index == index) {
			return &cpuid.entries[i];
		}
	}
	ck_abort_msg("leaf 0x%x.%u is not in the table", function, index);
	return NULL;
}

static bool has_leaf(uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid.count; i++) {
		if (cpuid.entries[i].function == function && cpuid.entries[i].index == index) {
			return true;
		}
	}
	return false;
}

static void add(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx,
		uint32_t edx)
{
	ck_assert_uint_lt(cpuid.count, CPUID_ENTRIES_MAX);
	cpuid.entries[cpuid.count++] = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.eax = eax,
		.ebx = ebx,
		.ecx = ecx,
		.edx = edx,
	};
}

/* Bits of leaf 1 ECX and of 0x80000001 ECX that guests may not see, and what they must. */
#define HIDDEN_1   (1U << 3 | 1U << 5 | 1U << 15)
#define SHOWN_1	   (1U << 31 | 1U << 24 | 1U << 21)
#define HIDDEN_EXT (1U << 2 | 1U << 23 | 1U << 24 | 1U << 28)
#define CMP_LEGACY (1U << 1)
#define HTT	   (1U << 28)

/* A host of 12 cores with two threads each; every register that the edit owns holds the host's
 * values. */
static void intel_host(void)
{
	memset(&cpuid, 0, sizeof(cpuid));
	add(0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69);
	add(1, 0, 0x000906ea, 0x07200800, 0x7ffafbff & ~(1U << 31), 0xbfebfbff);
	add(4, 0, 0x1c004121, 0x01c0003f, 0x3f, 0);
	add(4, 1, 0x1c004122, 0x01c0003f, 0x3f, 0);
	add(4, 2, 0x1c004143, 0x00c0003f, 0x3ff, 0);
	add(4, 3, 0x1c03c163, 0x03c0003f, 0x2fff, 6);
	add(4, 4, 0, 0, 0, 0);
	add(5, 0, 0x40, 0x40, 3, 0x11142120);
	add(6, 0, 0x27f7, 2, 9, 0);
	add(7, 0, 2, 0xd39ffffb, 0x40000000, 0xbc000400);
	add(0xa, 0, 0x07300404, 0, 0, 0x603);
	add(0xb, 0, 1, 2, 0x100, 7);
	add(0xb, 1, 4, 24, 0x201, 7);
	add(0x15, 0, 2, 0xd8, 0, 0);
	add(0x1f, 0, 1, 2, 0x100, 7);
	add(0x1f, 1, 4, 24, 0x201, 7);
	add(0x1f, 2, 7, 24, 0x502, 7);
	add(0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	add(0x40000001, 0, 0x01007efb, 0, 0, 0);
	add(0x80000000, 0, 0x80000008, 0, 0, 0);
	add(0x80000001, 0, 0, 0, 0x121, 0x2c100800);
	add(0x80000008, 0, 0x3027, 0, 0, 0);
}

static void amd_host(void)
{
	memset(&cpuid, 0, sizeof(cpuid));
	add(0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65);
	add(1, 0, 0x00a20f10, 0x0b180800, 0x7ef8320b, 0x178bfbff);
	add(6, 0, 4, 0, 1, 0);
	add(0xb, 0, 1, 2, 0x100, 0xb); /* one sub-leaf only, as some KVMs report it */
	add(0x40000000, 0, 0, 0x4b4d564b, 0x564b4d56, 0x4d);
	add(0x40000001, 0, 0x01007efb, 0, 0, 0);
	add(0x80000000, 0, 0x80000023, 0x68747541, 0x444d4163, 0x69746e65);
	add(0x80000001, 0, 0x00a20f10, 0x20000000, 0x75c237ff, 0x2fd3fbff);
	add(0x80000008, 0, 0x3030, 0x111ef657, 0x5017, 0x10000);
	add(0x8000001d, 0, 0x4121, 0x01c0003f, 0x3f, 0);
	add(0x8000001d, 1, 0x4122, 0x01c0003f, 0x3f, 0);
	add(0x8000001d, 2, 0x4143, 0x01c0003f, 0x3ff, 2);
	add(0x8000001d, 3, 0x5c163, 0x03c0003f, 0x7fff, 1);
	add(0x8000001d, 4, 0, 0, 0, 0);
	add(0x8000001e, 0, 0xb, 0x105, 0x300, 0);
}

static const struct host_row {
	const char *name;
	void (*make)(void);
	uint32_t cache_leaf;
	bool amd;
} hosts[] = {
	{ "Intel", intel_host, 4, false },
	{ "AMD", amd_host, 0x8000001d, true },
};

/* The smallest shift that holds `count` ids. */
static uint32_t shift_for(uint32_t count)
{
	uint32_t shift = 0;

	while (1U << shift < count) {
		shift++;
	}
	return shift;
}

static void check_extended_topology(uint32_t function, uint32_t vcpus, uint32_t threads)
{
	const struct kvm_cpuid_entry2 *thread = leaf(function, 0);
	const struct kvm_cpuid_entry2 *core = leaf(function, 1);
	const struct kvm_cpuid_entry2 *end = leaf(function, 2);

	ck_assert_uint_eq(thread->eax, shift_for(threads));
	ck_assert_uint_eq(thread->ebx, threads);
	ck_assert_uint_eq(thread->ecx, 0x100);
	ck_assert_uint_eq(core->eax, shift_for(vcpus));
	ck_assert_uint_eq(core->ebx, vcpus);
	ck_assert_uint_eq(core->ecx, 0x201);
	ck_assert_uint_eq(end->eax, 0);
	ck_assert_uint_eq(end->ebx, 0);
	ck_assert_uint_eq(end->ecx, 2);
}

static void check_caches(const struct host_row *host, uint32_t vcpus, uint32_t threads)
{
	uint32_t package = 1U << shift_for(vcpus);
	struct cpuid edited = cpuid;

	host->make();
	for (uint32_t i = 0; i < 5; i++) {
		const struct kvm_cpuid_entry2 *before = leaf(host->cache_leaf, i);
		const struct kvm_cpuid_entry2 *after = NULL;

		for (uint32_t k = 0; k < edited.count; k++) {
			if (edited.entries[k].function == host->cache_leaf &&
			    edited.entries[k].index == i) {
				after = &edited.entries[k];
			}
		}
		ck_assert_ptr_nonnull(after);
		ck_assert_uint_eq(after->eax & 0x3fff, before->eax & 0x3fff);
		ck_assert_uint_eq(after->ebx, before->ebx);
		ck_assert_uint_eq(after->ecx, before->ecx);
		if ((before->eax & 0x1f) == 0) {
			ck_assert_uint_eq(after->eax, before->eax);
			continue;
		}
		/* Levels 1 and 2 belong to a core, level 3 to the package. */
		ck_assert_uint_eq((after->eax >> 14 & 0xfff) + 1,
				  (before->eax >> 5 & 7) == 3 ? package : threads);
		ck_assert_uint_eq((after->eax >> 26) + 1, host->amd ? 1 : package / threads);
	}
	cpuid = edited;
}

static void check_vcpu_ids(const struct host_row *host, uint32_t vcpus, uint32_t threads)
{
	uint32_t shift = shift_for(vcpus);
	struct cpuid all = cpuid;

	for (uint32_t id = 0; id < vcpus; id++) {
		cpuid = all;
		cpuid_set_apic_id(&cpuid, id);
		ck_assert_uint_eq(leaf(1, 0)->ebx >> 24, id);
		ck_assert_uint_eq(leaf(1, 0)->ebx & 0xffffff, all.entries[1].ebx & 0xffffff);
		for (uint32_t index = 0; index < 3; index++) {
			ck_assert_uint_eq(leaf(0xb, index)->edx, id);
			ck_assert(host->amd || leaf(0x1f, index)->edx == id);
		}
		/* One package: its number is 0 for all. */
		ck_assert_uint_eq(leaf(0xb, 0)->edx >> shift, 0);
		if (host->amd) {
			ck_assert_uint_eq(leaf(0x8000001e, 0)->eax, id);
			ck_assert_uint_eq(leaf(0x8000001e, 0)->ebx & 0xff, id / threads);
			ck_assert_uint_eq(leaf(0x8000001e, 0)->ebx >> 8 & 0xff, threads - 1);
			ck_assert_uint_eq(leaf(0x8000001e, 0)->ecx & 0x7ff, 0);
		}
	}
	cpuid = all;
}

static void check_topology(const struct host_row *host, uint32_t vcpus, uint32_t threads)
{
	host->make();
	cpuid_edit(&cpuid, vcpus, threads);
	ck_assert_uint_eq(leaf(1, 0)->ebx >> 16 & 0xff, 1U << shift_for(vcpus));
	ck_assert_uint_eq(leaf(1, 0)->edx & HTT, vcpus > 1 ? HTT : 0);
	check_extended_topology(0xb, vcpus, threads);
	if (host->amd) {
		ck_assert_uint_eq(leaf(0x80000001, 0)->ecx & CMP_LEGACY,
				  vcpus > 1 ? CMP_LEGACY : 0);
		ck_assert_uint_eq((leaf(0x80000008, 0)->ecx & 0xff) + 1, vcpus);
		ck_assert_uint_eq(leaf(0x80000008, 0)->ecx >> 12 & 0xf, shift_for(vcpus));
	} else {
		check_extended_topology(0x1f, vcpus, threads);
		/* Both are AMD's; Linux ignores the topology of a CPU that sets the first. */
		ck_assert_uint_eq(leaf(0x80000001, 0)->ecx & CMP_LEGACY, 0);
		ck_assert_uint_eq(leaf(0x80000008, 0)->ecx, 0);
	}
	check_caches(host, vcpus, threads);
	check_vcpu_ids(host, vcpus, threads);
}

START_TEST(test_topology)
{
	check_topology(&hosts[(uint32_t)_i / VCPUS_MAX], (uint32_t)_i % VCPUS_MAX + 1, 1);
}
END_TEST

START_TEST(test_topology_of_two_threads)
{
	check_topology(&hosts[(uint32_t)_i / (VCPUS_MAX / 2)],
		       ((uint32_t)_i % (VCPUS_MAX / 2) + 1) * 2, 2);
}
END_TEST

/* Bits of the mask change, others and other leaves do not. */
START_TEST(test_template)
{
	static const struct cpu_template template = {
		.cpuid_count = 6,
		.cpuid = { { 0x1, 0, 0, CPUID_EAX, 0xf, 0xffffffff },
			   { 0x1, 0, 0, CPUID_EBX, 0xff00, 0x1234 },
			   { 0x1, 0, 0, CPUID_ECX, 0x80000000, 0 },
			   { 0x1, 0, 0, CPUID_EDX, 0xffffffff, 0x87654321 },
			   { 0xb, 1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, CPUID_EBX, 0xff, 0x42 },
			   { 0x80000000, 0, 0, CPUID_EAX, 0, 0xffffffff } },
	};
	struct kvm_cpuid_entry2 before, topology;
	struct error e = { 0 };
	struct cpuid all;

	hosts[_i].make();
	cpuid_edit(&cpuid, 4, 1);
	for (uint32_t i = 0; i < cpuid.count; i++) {
		if (cpuid.entries[i].function == 0xb) {
			cpuid.entries[i].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		}
	}
	all = cpuid;
	before = *leaf(1, 0);
	topology = *leaf(0xb, 1);
	check_ok(cpu_template_edit_cpuid(&template, &cpuid, &e), &e);
	ck_assert_uint_eq(leaf(1, 0)->eax, before.eax | 0xf);
	ck_assert_uint_eq(leaf(1, 0)->ebx, (before.ebx & 0xffff00ff) | 0x1200);
	ck_assert_uint_eq(leaf(1, 0)->ecx, before.ecx & 0x7fffffff);
	ck_assert_uint_eq(leaf(1, 0)->edx, 0x87654321);
	ck_assert_uint_eq(leaf(0xb, 1)->ebx, 0x42);
	for (uint32_t i = 0; i < cpuid.count; i++) {
		if (all.entries[i].function == 1) {
			all.entries[i] = *leaf(1, 0);
		} else if (all.entries[i].function == 0xb && all.entries[i].index == 1) {
			all.entries[i].ebx = 0x42;
		}
	}
	ck_assert_mem_eq(&all, &cpuid, sizeof(all));
	ck_assert_uint_eq(topology.eax, leaf(0xb, 1)->eax);
}
END_TEST

START_TEST(test_features)
{
	const struct host_row *host = &hosts[_i];
	struct kvm_cpuid_entry2 before;

	host->make();
	before = *leaf(1, 0);
	cpuid_edit(&cpuid, 4, 1);
	ck_assert_uint_eq(leaf(1, 0)->ecx & HIDDEN_1, 0);
	ck_assert_uint_eq(leaf(1, 0)->ecx & SHOWN_1, SHOWN_1);
	/* Nothing else of the leaf is touched. */
	ck_assert_uint_eq((leaf(1, 0)->ecx ^ before.ecx) & ~(HIDDEN_1 | SHOWN_1), 0);
	ck_assert_uint_eq((leaf(1, 0)->edx ^ before.edx) & ~HTT, 0);
	ck_assert_uint_eq(leaf(1, 0)->eax, before.eax);
	ck_assert_uint_eq(leaf(1, 0)->ebx & 0xffff, before.ebx & 0xffff);
	ck_assert_uint_eq(leaf(0x80000001, 0)->ecx & HIDDEN_EXT, 0);
	ck_assert_uint_eq(leaf(6, 0)->eax, 4); /* ARAT alone */
	ck_assert_uint_eq(leaf(6, 0)->ecx, 0);
	if (!host->amd) {
		const struct kvm_cpuid_entry2 *monitor = leaf(5, 0), *pmu = leaf(0xa, 0);

		ck_assert_uint_eq(monitor->eax | monitor->ebx | monitor->ecx | monitor->edx, 0);
		ck_assert_uint_eq(pmu->eax | pmu->ebx | pmu->ecx | pmu->edx, 0);
		ck_assert_uint_eq(leaf(7, 0)->ebx, 0xd39ffffb);
	}
}
END_TEST

/* An edit twice is the same as once: a reset may prepare again. */
START_TEST(test_idempotent)
{
	struct cpuid once;

	hosts[_i].make();
	cpuid_edit(&cpuid, 6, 1);
	once = cpuid;
	cpuid_edit(&cpuid, 6, 1);
	ck_assert_mem_eq(&once, &cpuid, sizeof(cpuid));
}
END_TEST

START_TEST(test_no_topology_leaf)
{
	amd_host();
	cpuid.entries[3].function = 0xc; /* 0xb is not there: it is not invented */
	cpuid_edit(&cpuid, 32, 1);
	ck_assert(!has_leaf(0xb, 0));
	ck_assert(!has_leaf(0xb, 1));
	ck_assert(!has_leaf(0x1f, 0));
}
END_TEST

START_TEST(test_full_table)
{
	amd_host();
	while (cpuid.count < CPUID_ENTRIES_MAX) {
		add(0x20000000, cpuid.count, 1, 2, 3, 4);
	}
	cpuid_edit(&cpuid, 32, 1);
	cpuid_set_frequencies(&cpuid, 2500000);
	ck_assert_uint_eq(cpuid.count, CPUID_ENTRIES_MAX);
	ck_assert(!has_leaf(0x40000010, 0));
	/* A timing leaf that is not there is not announced either. */
	ck_assert_uint_eq(leaf(0x40000000, 0)->eax, 0);
}
END_TEST

static const uint32_t frequencies[] = { 1, 999999, 2500000, 3999999, UINT32_MAX };

START_TEST(test_frequencies)
{
	uint32_t khz = frequencies[_i];
	const struct kvm_cpuid_entry2 *tsc;
	uint64_t hz;

	intel_host();
	cpuid_edit(&cpuid, 2, 1);
	cpuid_set_frequencies(&cpuid, khz);
	tsc = leaf(0x15, 0);
	ck_assert_uint_ne(tsc->eax, 0);
	hz = (uint64_t)tsc->ecx * tsc->ebx / tsc->eax;
	ck_assert_uint_eq(hz, (uint64_t)khz * 1000);
	ck_assert_uint_eq(leaf(0x40000010, 0)->eax, khz);
	/* The APIC timer's rate is the crystal's, in both. */
	ck_assert_uint_eq(leaf(0x40000010, 0)->ebx, tsc->ecx / 1000);
	ck_assert_uint_ge(leaf(0x40000000, 0)->eax, 0x40000010);
	cpuid_set_frequencies(&cpuid, khz);
	ck_assert_uint_eq(leaf(0x40000010, 0)->eax, khz);
}
END_TEST

START_TEST(test_unknown_frequency)
{
	struct cpuid before;

	intel_host();
	before = cpuid;
	cpuid_set_frequencies(&cpuid, 0);
	ck_assert_mem_eq(&before, &cpuid, sizeof(cpuid));
}
END_TEST

CHECK_MAIN("cpuid", CHECK_LOOP(test_topology, ARRAY_SIZE(hosts) * VCPUS_MAX);
	   CHECK_LOOP(test_topology_of_two_threads, ARRAY_SIZE(hosts) * VCPUS_MAX / 2);
	   CHECK_TABLE(test_template, hosts); CHECK_TABLE(test_features, hosts);
	   CHECK_TABLE(test_idempotent, hosts); CHECK_TEST(test_no_topology_leaf);
	   CHECK_TEST(test_full_table); CHECK_TABLE(test_frequencies, frequencies);
	   CHECK_TEST(test_unknown_frequency))
