// SPDX-License-Identifier: Apache-2.0
/*
 * Names of CPUID's bits as Linux has them in /proc/cpuinfo, of those that people know; the others are told by their place. Pure.
 */
#include "cpuid_names.h"

#include <stdio.h>
#include <string.h>

#include "vmm/vm_config.h"

#define MORE_ROOM 16 /* ", 12345 more" */

static const struct {
	uint32_t function, index;
	uint8_t reg, bit;
	const char *name;
} names[] = {
	{ 0x1, 0, CPUID_EDX, 0, "fpu" },
	{ 0x1, 0, CPUID_EDX, 8, "cx8" },
	{ 0x1, 0, CPUID_EDX, 15, "cmov" },
	{ 0x1, 0, CPUID_EDX, 23, "mmx" },
	{ 0x1, 0, CPUID_EDX, 24, "fxsr" },
	{ 0x1, 0, CPUID_EDX, 25, "sse" },
	{ 0x1, 0, CPUID_EDX, 26, "sse2" },
	{ 0x1, 0, CPUID_ECX, 0, "sse3" },
	{ 0x1, 0, CPUID_ECX, 1, "pclmulqdq" },
	{ 0x1, 0, CPUID_ECX, 9, "ssse3" },
	{ 0x1, 0, CPUID_ECX, 12, "fma" },
	{ 0x1, 0, CPUID_ECX, 13, "cx16" },
	{ 0x1, 0, CPUID_ECX, 17, "pcid" },
	{ 0x1, 0, CPUID_ECX, 19, "sse4_1" },
	{ 0x1, 0, CPUID_ECX, 20, "sse4_2" },
	{ 0x1, 0, CPUID_ECX, 22, "movbe" },
	{ 0x1, 0, CPUID_ECX, 23, "popcnt" },
	{ 0x1, 0, CPUID_ECX, 24, "tsc_deadline_timer" },
	{ 0x1, 0, CPUID_ECX, 25, "aes" },
	{ 0x1, 0, CPUID_ECX, 26, "xsave" },
	{ 0x1, 0, CPUID_ECX, 28, "avx" },
	{ 0x1, 0, CPUID_ECX, 29, "f16c" },
	{ 0x1, 0, CPUID_ECX, 30, "rdrand" },
	{ 0x7, 0, CPUID_EBX, 0, "fsgsbase" },
	{ 0x7, 0, CPUID_EBX, 1, "tsc_adjust" },
	{ 0x7, 0, CPUID_EBX, 3, "bmi1" },
	{ 0x7, 0, CPUID_EBX, 4, "hle" },
	{ 0x7, 0, CPUID_EBX, 5, "avx2" },
	{ 0x7, 0, CPUID_EBX, 7, "smep" },
	{ 0x7, 0, CPUID_EBX, 8, "bmi2" },
	{ 0x7, 0, CPUID_EBX, 9, "erms" },
	{ 0x7, 0, CPUID_EBX, 10, "invpcid" },
	{ 0x7, 0, CPUID_EBX, 11, "rtm" },
	{ 0x7, 0, CPUID_EBX, 16, "avx512f" },
	{ 0x7, 0, CPUID_EBX, 17, "avx512dq" },
	{ 0x7, 0, CPUID_EBX, 18, "rdseed" },
	{ 0x7, 0, CPUID_EBX, 19, "adx" },
	{ 0x7, 0, CPUID_EBX, 20, "smap" },
	{ 0x7, 0, CPUID_EBX, 21, "avx512ifma" },
	{ 0x7, 0, CPUID_EBX, 23, "clflushopt" },
	{ 0x7, 0, CPUID_EBX, 24, "clwb" },
	{ 0x7, 0, CPUID_EBX, 28, "avx512cd" },
	{ 0x7, 0, CPUID_EBX, 29, "sha_ni" },
	{ 0x7, 0, CPUID_EBX, 30, "avx512bw" },
	{ 0x7, 0, CPUID_EBX, 31, "avx512vl" },
	{ 0x7, 0, CPUID_ECX, 1, "avx512vbmi" },
	{ 0x7, 0, CPUID_ECX, 2, "umip" },
	{ 0x7, 0, CPUID_ECX, 3, "pku" },
	{ 0x7, 0, CPUID_ECX, 6, "avx512_vbmi2" },
	{ 0x7, 0, CPUID_ECX, 8, "gfni" },
	{ 0x7, 0, CPUID_ECX, 9, "vaes" },
	{ 0x7, 0, CPUID_ECX, 10, "vpclmulqdq" },
	{ 0x7, 0, CPUID_ECX, 11, "avx512_vnni" },
	{ 0x7, 0, CPUID_ECX, 12, "avx512_bitalg" },
	{ 0x7, 0, CPUID_ECX, 14, "avx512_vpopcntdq" },
	{ 0x7, 0, CPUID_ECX, 16, "la57" },
	{ 0x7, 0, CPUID_ECX, 22, "rdpid" },
	{ 0x7, 0, CPUID_EDX, 4, "fsrm" },
	{ 0x7, 0, CPUID_EDX, 10, "md_clear" },
	{ 0x7, 0, CPUID_EDX, 22, "amx_bf16" },
	{ 0x7, 0, CPUID_EDX, 23, "avx512_fp16" },
	{ 0x7, 0, CPUID_EDX, 24, "amx_tile" },
	{ 0x7, 0, CPUID_EDX, 25, "amx_int8" },
	{ 0x7, 0, CPUID_EDX, 26, "spec_ctrl" },
	{ 0x7, 0, CPUID_EDX, 27, "intel_stibp" },
	{ 0x7, 0, CPUID_EDX, 28, "flush_l1d" },
	{ 0x7, 0, CPUID_EDX, 29, "arch_capabilities" },
	{ 0x7, 0, CPUID_EDX, 31, "ssbd" },
	{ 0x7, 1, CPUID_EAX, 4, "avx_vnni" },
	{ 0x7, 1, CPUID_EAX, 5, "avx512_bf16" },
	{ 0xd, 0, CPUID_EAX, 2, "avx state" },
	{ 0xd, 0, CPUID_EAX, 5, "avx512 opmask state" },
	{ 0xd, 0, CPUID_EAX, 6, "avx512 zmm_hi256 state" },
	{ 0xd, 0, CPUID_EAX, 7, "avx512 hi16_zmm state" },
	{ 0xd, 0, CPUID_EAX, 9, "pkru state" },
	{ 0xd, 1, CPUID_EAX, 0, "xsaveopt" },
	{ 0xd, 1, CPUID_EAX, 1, "xsavec" },
	{ 0xd, 1, CPUID_EAX, 2, "xgetbv1" },
	{ 0xd, 1, CPUID_EAX, 3, "xsaves" },
	{ 0x80000001, 0, CPUID_ECX, 0, "lahf_lm" },
	{ 0x80000001, 0, CPUID_ECX, 5, "lzcnt" },
	{ 0x80000001, 0, CPUID_ECX, 6, "sse4a" },
	{ 0x80000001, 0, CPUID_ECX, 8, "3dnowprefetch" },
	{ 0x80000001, 0, CPUID_EDX, 11, "syscall" },
	{ 0x80000001, 0, CPUID_EDX, 20, "nx" },
	{ 0x80000001, 0, CPUID_EDX, 26, "pdpe1gb" },
	{ 0x80000001, 0, CPUID_EDX, 27, "rdtscp" },
	{ 0x80000001, 0, CPUID_EDX, 29, "lm" },
	{ 0x80000007, 0, CPUID_EDX, 8, "constant_tsc" },
	{ 0x80000008, 0, CPUID_EBX, 0, "clzero" },
	{ 0x80000008, 0, CPUID_EBX, 9, "wbnoinvd" },
	{ 0x80000008, 0, CPUID_EBX, 12, "ibpb" },
};

static const char *name_of(uint32_t function, uint32_t index, uint32_t reg, uint32_t bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (names[i].function == function && names[i].index == index &&
		    names[i].reg == reg && names[i].bit == bit) {
			return names[i].name;
		}
	}
	return NULL;
}

static void add(struct cpuid_list *list, const char *name)
{
	const char *between = list->count > 0 ? ", " : "";

	if (list->more > 0 ||
	    list->len + strlen(between) + strlen(name) + MORE_ROOM >= sizeof(list->text)) {
		list->more++;
		return;
	}
	list->len += (uint32_t)snprintf(list->text + list->len, sizeof(list->text) - list->len,
					"%s%s", between, name);
	list->count++;
}

void cpuid_list_bits(struct cpuid_list *list, uint32_t function, uint32_t index, uint32_t reg,
		     uint32_t bits)
{
	static const char registers[][4] = { "EAX", "EBX", "ECX", "EDX" };
	char place[48];

	for (uint32_t bit = 0; bit < 32; bit++) {
		const char *name = name_of(function, index, reg, bit);

		if ((bits >> bit & 1) == 0) {
			continue;
		}
		(void)snprintf(place, sizeof(place), "0x%x.%u %s bit %u", function, index,
			       registers[reg & 3], bit);
		add(list, name != NULL ? name : place);
	}
}

const char *cpuid_list_text(struct cpuid_list *list)
{
	if (list->more > 0) {
		(void)snprintf(list->text + list->len, sizeof(list->text) - list->len, ", %u more",
			       list->more);
	}
	return list->text;
}
