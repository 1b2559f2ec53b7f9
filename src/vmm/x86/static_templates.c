/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Firecracker's static CPU templates: each gives guests on several generations of hosts the same
 * CPU, that of an instance type of EC2. C3 is an Ivy Bridge, the T2 family a Haswell, T2A the same on
 * AMD. The bits are Firecracker's (src/vmm/src/cpu_config/x86_64/static_cpu_templates), and so are
 * the hosts on which it allows them: what else such a host has is left as it is, so elsewhere the
 * result would be another.
 *
 * Applied like any other template (cpu_template.c). Pure, but for host_cpu_read().
 */
#include "static_templates.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#define SIGNATURE_MASK 0x0fff0fffU
#define SKYLAKE	       0x00050654U
#define CASCADE_LAKE   0x00050657U
#define ICE_LAKE       0x000606a6U
#define MILAN	       0x00a00f11U

#define MODELS_MAX 3

/* Of struct kvm_cpuid_entry2: the leaf has subleaves. */
#define INDEXED 1

#define ARCH_CAPABILITIES 0x10a

static const struct cpuid_modifier c3[] = {
	{ 0x1, 0, 0, CPUID_EAX, 0x0fff3fff, 0x000306e4 },
	{ 0x1, 0, 0, CPUID_ECX, 0x0040dd3c, 0 },
	{ 0x1, 0, 0, CPUID_EDX, 0xa8641080, 0x00001080 },
	{ 0x7, 0, INDEXED, CPUID_EBX, 0xffafdd3c, 0 },
	{ 0x7, 0, INDEXED, CPUID_ECX, 0x4041481e, 0 },
	{ 0x7, 0, INDEXED, CPUID_EDX, 0x0000000c, 0 },
	{ 0xd, 0, INDEXED, CPUID_EAX, 0x000002f8, 0 },
	{ 0xd, 1, INDEXED, CPUID_EAX, 0x0000000e, 0 },
	{ 0x80000001, 0, 0, CPUID_ECX, 0x00000120, 0 },
	{ 0x80000001, 0, 0, CPUID_EDX, 0x04000000, 0 },
};

/* What the T2 family has in common. */
static const struct cpuid_modifier t2_all[] = {
	{ 0x1, 0, 0, CPUID_EAX, 0x0fff3fff, 0x000306f2 },
	{ 0x1, 0, 0, CPUID_ECX, 0x0004cdfc, 0 },
	{ 0x1, 0, 0, CPUID_EDX, 0xe8641080, 0x00001080 },
	{ 0x7, 0, INDEXED, CPUID_EBX, 0xffefda14, 0x00000200 },
	{ 0x7, 0, INDEXED, CPUID_ECX, 0x40415f5e, 0 },
	{ 0x7, 0, INDEXED, CPUID_EDX, 0x0000011c, 0 },
	{ 0xd, 0, INDEXED, CPUID_EAX, 0x000002f8, 0 },
	{ 0xd, 1, INDEXED, CPUID_EAX, 0x0000000e, 0 },
};
static const struct cpuid_modifier t2[] = {
	{ 0x80000001, 0, 0, CPUID_ECX, 0x20000100, 0 },
	{ 0x80000001, 0, 0, CPUID_EDX, 0x04000000, 0 },
	{ 0x80000008, 0, 0, CPUID_EBX, 0x00000200, 0 },
};
static const struct cpuid_modifier t2cl[] = {
	{ 0x80000001, 0, 0, CPUID_ECX, 0x200001c0, 0 },
	{ 0x80000001, 0, 0, CPUID_EDX, 0x07c00000, 0 },
	{ 0x80000008, 0, 0, CPUID_EBX, 0x00000200, 0 },
};
static const struct cpuid_modifier t2a[] = {
	{ 0x80000001, 0, 0, CPUID_ECX, 0x200001c4, 0 },
	{ 0x80000001, 0, 0, CPUID_EDX, 0x06400000, 0 },
	{ 0x80000008, 0, 0, CPUID_EBX, 0x001c0205, 0x001c0004 },
};

static const struct msr_modifier t2s_msr = { ARCH_CAPABILITIES, UINT64_MAX, 0x0c0a0c4c };
static const struct msr_modifier t2cl_msr = { ARCH_CAPABILITIES, 0xffffffffe2f51e00, 0 };

struct part {
	const struct cpuid_modifier *rows;
	uint32_t count;
};

#define ALL_OF(rows)                   \
	{                              \
		rows, ARRAY_SIZE(rows) \
	}

static const struct static_template {
	const char *name, *vendor;
	uint32_t models[MODELS_MAX]; /* 0: no more */
	struct part parts[2];
	const struct msr_modifier *msr; /* NULL: none */
} templates[] = {
	[VM_CPU_TEMPLATE_C3] = { "C3",
				 "GenuineIntel",
				 { SKYLAKE, CASCADE_LAKE, ICE_LAKE },
				 { ALL_OF(c3) },
				 NULL },
	[VM_CPU_TEMPLATE_T2] = { "T2",
				 "GenuineIntel",
				 { SKYLAKE, CASCADE_LAKE, ICE_LAKE },
				 { ALL_OF(t2_all), ALL_OF(t2) },
				 NULL },
	[VM_CPU_TEMPLATE_T2S] = { "T2S",
				  "GenuineIntel",
				  { SKYLAKE, CASCADE_LAKE },
				  { ALL_OF(t2_all), ALL_OF(t2) },
				  &t2s_msr },
	[VM_CPU_TEMPLATE_T2CL] = { "T2CL",
				   "GenuineIntel",
				   { CASCADE_LAKE, ICE_LAKE },
				   { ALL_OF(t2_all), ALL_OF(t2cl) },
				   &t2cl_msr },
	[VM_CPU_TEMPLATE_T2A] = { "T2A",
				  "AuthenticAMD",
				  { MILAN },
				  { ALL_OF(t2_all), ALL_OF(t2a) },
				  NULL },
};

void host_cpu_read(struct host_cpu *host)
{
	uint32_t ignored[3], words[3] = { 0 };

	(void)__get_cpuid(0, &ignored[0], &words[0], &words[2], &words[1]);
	memcpy(host->vendor, words, sizeof(words));
	host->vendor[sizeof(words)] = '\0';
	host->signature = 0;
	(void)__get_cpuid(1, &host->signature, &ignored[0], &ignored[1], &ignored[2]);
}

static int check_host(const struct static_template *template, const struct host_cpu *host,
		      struct error *e)
{
	static const char hint[] = "leave out cpu_template; PUT /cpu-config describes a CPU bit by "
				   "bit, on any host";

	if (strcmp(host->vendor, template->vendor) != 0) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"Failed to get CPU template: CPU vendor mismatched between actual "
				"CPU and CPU template. %s is for %s, not for %s",
				template->name, template->vendor, host->vendor);
		return error_hint(e, "%s", hint);
	}
	for (size_t i = 0; i < MODELS_MAX && template->models[i] != 0; i++) {
		if (template->models[i] == (host->signature & SIGNATURE_MASK)) {
			return 0;
		}
	}
	(void)error_set(e, ERROR_CONFIG, EINVAL,
			"Failed to get CPU template: The current CPU model is not permitted to "
			"apply the CPU template. %s is not for signature 0x%x",
			template->name, host->signature);
	return error_hint(e, "%s", hint);
}

int static_template_make(struct cpu_template *ret, enum vm_cpu_template which,
			 const struct host_cpu *host, struct error *e)
{
	const struct static_template *template;
	int r;

	if ((size_t)which >= ARRAY_SIZE(templates) || templates[which].name == NULL) {
		return error_set(e, ERROR_CONFIG, EINVAL, "cpu_template: there is no template %d",
				 (int)which);
	}
	template = &templates[which];
	r = check_host(template, host, e);
	if (r < 0) {
		return r;
	}
	*ret = (struct cpu_template){ 0 };
	for (size_t i = 0; i < ARRAY_SIZE(template->parts); i++) {
		const struct part *part = &template->parts[i];

		for (uint32_t k = 0; k < part->count; k++) {
			ret->cpuid[ret->cpuid_count++] = part->rows[k];
		}
	}
	if (template->msr != NULL) {
		ret->msrs[ret->msr_count++] = *template->msr;
	}
	return 0;
}
