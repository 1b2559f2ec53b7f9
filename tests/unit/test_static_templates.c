/* SPDX-License-Identifier: Apache-2.0 */
/* Firecracker's named CPU templates: which hosts they are for, and what CPU they make. */
#include <string.h>

#include "harness/check_main.h"

#include "../../src/vmm/x86/cpu_template.h"
#include "../../src/vmm/x86/cpuid_features.h"
#include "../../src/vmm/x86/static_templates.h"

#define SKYLAKE	     0x00050654
#define CASCADE_LAKE 0x00050657
#define ICE_LAKE     0x000606a6
#define MILAN	     0x00a00f11
#define GENOA	     0x00a10f11

static struct error e;

#define VENDOR "CPU vendor mismatched between actual CPU and CPU template."
#define MODEL  "The current CPU model is not permitted to apply the CPU template."

static const struct {
	enum vm_cpu_template which;
	struct host_cpu host;
	const char *says; /* NULL: it fits */
} fits[] = {
	{ VM_CPU_TEMPLATE_C3, { "GenuineIntel", SKYLAKE }, NULL },
	{ VM_CPU_TEMPLATE_C3, { "GenuineIntel", CASCADE_LAKE }, NULL },
	{ VM_CPU_TEMPLATE_C3, { "GenuineIntel", ICE_LAKE }, NULL },
	{ VM_CPU_TEMPLATE_C3, { "AuthenticAMD", MILAN }, VENDOR },
	{ VM_CPU_TEMPLATE_T2, { "GenuineIntel", SKYLAKE }, NULL },
	{ VM_CPU_TEMPLATE_T2, { "GenuineIntel", ICE_LAKE }, NULL },
	/* What is neither family, model nor stepping says nothing. */
	{ VM_CPU_TEMPLATE_T2, { "GenuineIntel", SKYLAKE | 0xf000f000 }, NULL },
	{ VM_CPU_TEMPLATE_T2, { "GenuineIntel", SKYLAKE + 1 }, MODEL },
	{ VM_CPU_TEMPLATE_T2, { "GenuineIntel", MILAN }, MODEL },
	{ VM_CPU_TEMPLATE_T2, { "GenuineIntel", 0 }, MODEL },
	{ VM_CPU_TEMPLATE_T2, { "AuthenticAMD", SKYLAKE }, VENDOR },
	{ VM_CPU_TEMPLATE_T2, { "", SKYLAKE }, VENDOR },
	{ VM_CPU_TEMPLATE_T2S, { "GenuineIntel", CASCADE_LAKE }, NULL },
	{ VM_CPU_TEMPLATE_T2S, { "GenuineIntel", ICE_LAKE }, MODEL },
	{ VM_CPU_TEMPLATE_T2CL, { "GenuineIntel", ICE_LAKE }, NULL },
	{ VM_CPU_TEMPLATE_T2CL, { "GenuineIntel", SKYLAKE }, MODEL },
	{ VM_CPU_TEMPLATE_T2A, { "AuthenticAMD", MILAN }, NULL },
	{ VM_CPU_TEMPLATE_T2A, { "AuthenticAMD", GENOA }, MODEL },
	{ VM_CPU_TEMPLATE_T2A, { "HygonGenuine", MILAN }, VENDOR },
	{ VM_CPU_TEMPLATE_T2A, { "GenuineIntel", SKYLAKE }, VENDOR },
	{ VM_CPU_TEMPLATE_NONE, { "GenuineIntel", SKYLAKE }, "no template" },
	{ VM_CPU_TEMPLATE_V1N1, { "GenuineIntel", SKYLAKE }, "no template" },
	{ (enum vm_cpu_template)99, { "GenuineIntel", SKYLAKE }, "no template" },
};

START_TEST(test_fits)
{
	struct cpu_template template = { 0 };
	int r = static_template_make(&template, fits[_i].which, &fits[_i].host, &e);

	if (fits[_i].says == NULL) {
		check_ok(r, &e);
		ck_assert_uint_ge(template.cpuid_count, 10);
		return;
	}
	ck_assert_int_lt(r, 0);
	check_error(&e, ERROR_CONFIG, fits[_i].says);
}
END_TEST

/* Places of cpuid_feature_leaves[]. */
#define LEAF_1 0
#define LEAF_7 1

static const struct cpuid_feature has_fma = { LEAF_1, CPUID_ECX, 12 },
				  avx = { LEAF_1, CPUID_ECX, 28 },
				  rdrand = { LEAF_1, CPUID_ECX, 30 },
				  erms = { LEAF_7, CPUID_EBX, 9 }, avx2 = { LEAF_7, CPUID_EBX, 5 },
				  bmi2 = { LEAF_7, CPUID_EBX, 8 }, mpx = { LEAF_7, CPUID_EBX, 14 },
				  avx512f = { LEAF_7, CPUID_EBX, 16 },
				  rdseed = { LEAF_7, CPUID_EBX, 18 },
				  vaes = { LEAF_7, CPUID_ECX, 9 }, pku = { LEAF_7, CPUID_ECX, 3 };

static const struct {
	enum vm_cpu_template which;
	struct host_cpu host;
	uint32_t signature;
	bool haswell;
	uint32_t msrs;
} cpus[] = {
	{ VM_CPU_TEMPLATE_C3, { "GenuineIntel", SKYLAKE }, 0x000306e4, false, 0 },
	{ VM_CPU_TEMPLATE_T2, { "GenuineIntel", SKYLAKE }, 0x000306f2, true, 0 },
	{ VM_CPU_TEMPLATE_T2S, { "GenuineIntel", SKYLAKE }, 0x000306f2, true, 1 },
	{ VM_CPU_TEMPLATE_T2CL, { "GenuineIntel", ICE_LAKE }, 0x000306f2, true, 1 },
	{ VM_CPU_TEMPLATE_T2A, { "AuthenticAMD", MILAN }, 0x000306f2, true, 0 },
};

/* Of a host that has everything: the CPU that it is named after, and nothing that lacks what it
 * needs. */
START_TEST(test_cpu)
{
	struct cpu_template template;
	struct cpuid cpuid = { .count = 0 }, all;
	bool haswell = cpus[_i].haswell;

	for (uint32_t i = 0; i < cpuid_feature_leaf_count; i++) {
		cpuid.entries[cpuid.count++] = (struct kvm_cpuid_entry2){
			.function = cpuid_feature_leaves[i].function,
			.index = cpuid_feature_leaves[i].index,
			.eax = UINT32_MAX,
			.ebx = UINT32_MAX,
			.ecx = UINT32_MAX,
			.edx = UINT32_MAX,
		};
	}
	cpuid.entries[cpuid.count++] = (struct kvm_cpuid_entry2){ .function = 0x80000008 };
	check_ok(static_template_make(&template, cpus[_i].which, &cpus[_i].host, &e), &e);
	check_ok(cpu_template_edit_cpuid(&template, &cpuid, &e), &e);
	ck_assert_uint_eq(cpuid.entries[LEAF_1].eax & 0x0fff3fff, cpus[_i].signature);
	ck_assert(cpuid_has_feature(&cpuid, avx) && cpuid_has_feature(&cpuid, rdrand));
	ck_assert(cpuid_has_feature(&cpuid, has_fma) == haswell);
	ck_assert(cpuid_has_feature(&cpuid, avx2) == haswell);
	ck_assert(cpuid_has_feature(&cpuid, bmi2) == haswell);
	ck_assert(cpuid_has_feature(&cpuid, erms));
	ck_assert(!cpuid_has_feature(&cpuid, mpx) && !cpuid_has_feature(&cpuid, avx512f));
	ck_assert(!cpuid_has_feature(&cpuid, rdseed));
	ck_assert(!cpuid_has_feature(&cpuid, vaes) || !haswell);
	ck_assert(!cpuid_has_feature(&cpuid, pku));
	ck_assert_uint_eq(template.msr_count, cpus[_i].msrs);
	all = cpuid;
	cpuid_clear_unusable(&cpuid);
	for (uint32_t i = 0; i < 2; i++) {
		/* Nothing that those CPUs have goes. */
		ck_assert_uint_eq(all.entries[i].ebx, cpuid.entries[i].ebx);
	}
}
END_TEST

/* The host's words are text and a number, whatever they are. */
START_TEST(test_host)
{
	struct host_cpu host;

	memset(&host, 'x', sizeof(host));
	host_cpu_read(&host);
	ck_assert_uint_eq(strlen(host.vendor), 12);
	ck_assert_uint_ne(host.signature, 0);
}
END_TEST

CHECK_MAIN("static_templates", CHECK_TABLE(test_fits, fits); CHECK_TABLE(test_cpu, cpus);
	   CHECK_TEST(test_host))
