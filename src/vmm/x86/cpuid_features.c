/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prerequisites of CPU features (Intel SDM volume 1, the detection sections of chapters 12 to 18;
 * AMD APM volume 3, appendix D). A host reports a consistent set; one whose KVM or whose hypervisor
 * masks some bits, or a CPU template that does, may not, and then a kernel that looks at AVX2 alone
 * executes what faults. Only what an instruction or a register cannot do without stands here:
 * optional speed-ups and mitigations are nobody's prerequisite.
 *
 * On each vCPU's thread before the guest runs. Bits come from KVM and from a client's template; the
 * guest controls nothing. Pure.
 */
#include "cpuid_features.h"

#include "vmm/vm_config.h"

enum {
	L1,    /* 0x1 */
	L7,    /* 0x7, 0 */
	L7_1,  /* 0x7, 1 */
	LXCR0, /* 0xd, 0: EAX has the bits of XCR0 */
	LXSS,  /* 0xd, 1: EAX has variants of XSAVE, ECX the bits of IA32_XSS */
	LEXT,  /* 0x80000001 */
};

const struct cpuid_feature_leaf cpuid_feature_leaves[] = {
	[L1] = { 0x1, 0 },    [L7] = { 0x7, 0 },   [L7_1] = { 0x7, 1 },
	[LXCR0] = { 0xd, 0 }, [LXSS] = { 0xd, 1 }, [LEXT] = { 0x80000001, 0 },
};
const size_t cpuid_feature_leaf_count = ARRAY_SIZE(cpuid_feature_leaves);

#define A(leaf, bit)                 \
	{                            \
		leaf, CPUID_EAX, bit \
	}
#define B(leaf, bit)                 \
	{                            \
		leaf, CPUID_EBX, bit \
	}
#define C(leaf, bit)                 \
	{                            \
		leaf, CPUID_ECX, bit \
	}
#define D(leaf, bit)                 \
	{                            \
		leaf, CPUID_EDX, bit \
	}

#define FPU	  D(L1, 0)
#define TSC	  D(L1, 4)
#define PAE	  D(L1, 6)
#define CX8	  D(L1, 8)
#define APIC	  D(L1, 9)
#define MMX	  D(L1, 23)
#define FXSR	  D(L1, 24)
#define SSE	  D(L1, 25)
#define SSE2	  D(L1, 26)
#define SSE3	  C(L1, 0)
#define PCLMULQDQ C(L1, 1)
#define SSSE3	  C(L1, 9)
#define FMA	  C(L1, 12)
#define CX16	  C(L1, 13)
#define SSE4_1	  C(L1, 19)
#define SSE4_2	  C(L1, 20)
#define X2APIC	  C(L1, 21)
#define DEADLINE  C(L1, 24)
#define AES	  C(L1, 25)
#define XSAVE	  C(L1, 26)
#define OSXSAVE	  C(L1, 27)
#define AVX	  C(L1, 28)
#define F16C	  C(L1, 29)

#define LONG_MODE D(LEXT, 29)
#define AVX2	  B(L7, 5)
#define MPX	  B(L7, 14)
#define AVX512F	  B(L7, 16)
#define AVX512DQ  B(L7, 17)
#define SHA	  B(L7, 29)
#define AVX512BW  B(L7, 30)
#define AVX512VL  B(L7, 31)
#define PKU	  C(L7, 3)
#define SHSTK	  C(L7, 7)
#define AMX_TILE  D(L7, 24)

#define XSAVEC	A(LXSS, 1)
#define XGETBV1 A(LXSS, 2)
#define XSAVES	A(LXSS, 3)
#define XFD	A(LXSS, 4)

const struct cpuid_prerequisite cpuid_prerequisites[] = {
	/* The FPU's registers and their saving. */
	{ MMX, FPU },
	{ FXSR, FPU },
	{ SSE, FXSR },
	{ SSE2, SSE },
	{ SSE3, SSE2 },
	{ SSSE3, SSE3 },
	{ SSE4_1, SSSE3 },
	{ SSE4_2, SSE4_1 },
	{ AES, SSE2 },
	{ PCLMULQDQ, SSE2 },
	{ SHA, SSE2 },
	{ C(L7, 8), SSE2 },	      /* GFNI */
	{ C(LEXT, 6), SSE3 },	      /* SSE4A */
	{ C(LEXT, 7), SSE },	      /* misaligned SSE */
	{ D(LEXT, 25), FXSR },	      /* FFXSR */
	{ D(LEXT, 22), MMX },	      /* MMX extensions */
	{ D(LEXT, 31), MMX },	      /* 3DNow! */
	{ D(LEXT, 30), D(LEXT, 31) }, /* its extensions */
	{ XSAVE, FXSR },
	{ OSXSAVE, XSAVE },
	{ A(LXSS, 0), XSAVE }, /* XSAVEOPT */
	{ XSAVEC, XSAVE },
	{ XGETBV1, XSAVE },
	{ XSAVES, XSAVEC },
	{ XFD, XSAVES },
	{ XFD, XGETBV1 },
	{ SHSTK, XSAVES },
	{ PKU, XSAVE },
	{ C(L7, 4), PKU }, /* OSPKE */
	{ MPX, XSAVE },

	/* 256 bits. */
	{ AVX, XSAVE },
	{ AVX, SSE4_2 },
	{ FMA, AVX },
	{ F16C, AVX },
	{ C(LEXT, 11), AVX }, /* XOP */
	{ C(LEXT, 16), AVX }, /* FMA4 */
	{ C(L7, 9), AVX },    /* VAES */
	{ C(L7, 9), AES },
	{ C(L7, 10), AVX }, /* VPCLMULQDQ */
	{ C(L7, 10), PCLMULQDQ },
	{ AVX2, AVX },
	{ A(L7_1, 0), AVX2 },  /* SHA512 */
	{ A(L7_1, 1), AVX },   /* SM3 */
	{ A(L7_1, 2), AVX2 },  /* SM4 */
	{ A(L7_1, 4), AVX2 },  /* AVX-VNNI */
	{ A(L7_1, 23), AVX2 }, /* AVX-IFMA */
	{ D(L7_1, 4), AVX2 },  /* AVX-VNNI-INT8 */
	{ D(L7_1, 5), AVX2 },  /* AVX-NE-CONVERT */
	{ D(L7_1, 10), AVX2 }, /* AVX-VNNI-INT16 */
	{ D(L7_1, 19), AVX2 }, /* AVX10 */

	/* 512 bits. */
	{ AVX512F, AVX2 },
	{ AVX512F, FMA },
	{ AVX512F, F16C },
	{ AVX512DQ, AVX512F },
	{ AVX512BW, AVX512F },
	{ AVX512VL, AVX512F },
	{ B(L7, 21), AVX512F },	 /* IFMA */
	{ B(L7, 26), AVX512F },	 /* PF */
	{ B(L7, 27), AVX512F },	 /* ER */
	{ B(L7, 28), AVX512F },	 /* CD */
	{ C(L7, 1), AVX512F },	 /* VBMI */
	{ C(L7, 6), AVX512F },	 /* VBMI2 */
	{ C(L7, 11), AVX512F },	 /* VNNI */
	{ C(L7, 12), AVX512F },	 /* BITALG */
	{ C(L7, 14), AVX512F },	 /* VPOPCNTDQ */
	{ D(L7, 2), AVX512F },	 /* 4VNNIW */
	{ D(L7, 3), AVX512F },	 /* 4FMAPS */
	{ D(L7, 8), AVX512F },	 /* VP2INTERSECT */
	{ A(L7_1, 5), AVX512F }, /* BF16 */
	{ D(L7, 23), AVX512BW }, /* FP16 */

	/* Tiles. */
	{ AMX_TILE, XFD },
	{ D(L7, 22), AMX_TILE },   /* BF16 */
	{ D(L7, 25), AMX_TILE },   /* INT8 */
	{ A(L7_1, 21), AMX_TILE }, /* FP16 */
	{ D(L7_1, 8), AMX_TILE },  /* COMPLEX */

	/* Components of XCR0 and IA32_XSS. */
	{ A(LXCR0, 0), XSAVE },
	{ A(LXCR0, 1), XSAVE },
	{ A(LXCR0, 2), AVX },
	{ A(LXCR0, 3), MPX },
	{ A(LXCR0, 4), MPX },
	{ A(LXCR0, 5), AVX512F },
	{ A(LXCR0, 6), AVX512F },
	{ A(LXCR0, 7), AVX512F },
	{ A(LXCR0, 9), PKU },
	{ A(LXCR0, 17), AMX_TILE },
	{ A(LXCR0, 18), AMX_TILE },
	{ C(LXSS, 8), XSAVES },
	{ C(LXSS, 11), XSAVES },
	{ C(LXSS, 12), XSAVES },

	/* The rest. */
	{ CX16, CX8 },
	{ X2APIC, APIC },
	{ DEADLINE, APIC },
	{ DEADLINE, TSC },
	{ D(LEXT, 27), TSC }, /* RDTSCP */
	{ LONG_MODE, PAE },
	{ D(LEXT, 20), PAE },	    /* NX */
	{ C(LEXT, 0), LONG_MODE },  /* LAHF in it */
	{ D(LEXT, 26), LONG_MODE }, /* pages of 1 GiB */
	{ C(L7, 16), LONG_MODE },   /* five levels */
};
const size_t cpuid_prerequisite_count = ARRAY_SIZE(cpuid_prerequisites);

static const struct kvm_cpuid_entry2 *find(const struct cpuid *cpuid, uint32_t leaf)
{
	for (uint32_t i = 0; i < cpuid->count; i++) {
		const struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == cpuid_feature_leaves[leaf].function &&
		    entry->index == cpuid_feature_leaves[leaf].index) {
			return entry;
		}
	}
	return NULL;
}

static uint32_t *register_of(struct kvm_cpuid_entry2 *entry, uint32_t reg)
{
	uint32_t *const registers[] = {
		[CPUID_EAX] = &entry->eax,
		[CPUID_EBX] = &entry->ebx,
		[CPUID_ECX] = &entry->ecx,
		[CPUID_EDX] = &entry->edx,
	};

	return registers[reg];
}

static bool has(struct kvm_cpuid_entry2 *entry, struct cpuid_feature feature)
{
	return entry != NULL && (*register_of(entry, feature.reg) >> feature.bit & 1) != 0;
}

bool cpuid_has_feature(const struct cpuid *cpuid, struct cpuid_feature feature)
{
	return has((struct kvm_cpuid_entry2 *)(uintptr_t)find(cpuid, feature.leaf), feature);
}

void cpuid_clear_unusable(struct cpuid *cpuid)
{
	struct kvm_cpuid_entry2 *entries[ARRAY_SIZE(cpuid_feature_leaves)];

	for (uint32_t i = 0; i < ARRAY_SIZE(entries); i++) {
		entries[i] = (struct kvm_cpuid_entry2 *)(uintptr_t)find(cpuid, i);
	}
	for (size_t i = 0; i < cpuid_prerequisite_count; i++) {
		const struct cpuid_prerequisite *row = &cpuid_prerequisites[i];
		struct kvm_cpuid_entry2 *entry = entries[row->feature.leaf];

		if (has(entry, row->feature) && !has(entries[row->needs.leaf], row->needs)) {
			*register_of(entry, row->feature.reg) &= ~(1U << row->feature.bit);
		}
	}
}
