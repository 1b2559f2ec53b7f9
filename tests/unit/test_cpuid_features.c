/* SPDX-License-Identifier: Apache-2.0 */
/* Prerequisites of CPU features: the table itself, and what it makes of any set of bits. */
#include <string.h>

#include "harness/check_main.h"

#include "../../src/vmm/x86/cpuid_features.h"
#include "vmm/vm_config.h"

#define LEAF_1	 0
#define LEAF_7	 1
#define LEAF_XSS 4
#define LEAF_EXT 5

static struct cpuid cpuid;
static uint64_t seed;

static uint32_t random_word(void)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 32);
}

static bool same(struct cpuid_feature a, struct cpuid_feature b)
{
	return a.leaf == b.leaf && a.reg == b.reg && a.bit == b.bit;
}

/* Each place exists, nothing is said twice, and a prerequisite's own rows come first: so there is no
 * circle, and one pass does it all. */
START_TEST(test_table)
{
	for (size_t i = 0; i < cpuid_prerequisite_count; i++) {
		const struct cpuid_prerequisite *row = &cpuid_prerequisites[i];
		const struct cpuid_feature both[] = { row->feature, row->needs };

		for (size_t k = 0; k < 2; k++) {
			ck_assert_uint_lt(both[k].leaf, cpuid_feature_leaf_count);
			ck_assert_uint_le(both[k].reg, CPUID_EDX);
			ck_assert_uint_lt(both[k].bit, 32);
		}
		for (size_t k = i; k < cpuid_prerequisite_count; k++) {
			const struct cpuid_prerequisite *later = &cpuid_prerequisites[k];

			ck_assert_msg(!same(later->feature, row->needs), "row %zu needs row %zu", i,
				      k);
			ck_assert_msg(k == i || !same(later->feature, row->feature) ||
					      !same(later->needs, row->needs),
				      "rows %zu and %zu", i, k);
		}
	}
}
END_TEST

/* All leaves, each bit with the probability density/8; some leaves not there at all. */
static void make_random(uint32_t density, bool leaves_missing)
{
	memset(&cpuid, 0, sizeof(cpuid));
	for (uint32_t i = 0; i < cpuid_feature_leaf_count; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid.entries[cpuid.count];
		uint32_t *const words[] = { &entry->eax, &entry->ebx, &entry->ecx, &entry->edx };

		if (leaves_missing && random_word() % 4 == 0) {
			continue;
		}
		cpuid.count++;
		entry->function = cpuid_feature_leaves[i].function;
		entry->index = cpuid_feature_leaves[i].index;
		for (size_t k = 0; k < ARRAY_SIZE(words); k++) {
			for (uint32_t bit = 0; bit < 32; bit++) {
				*words[k] |= (uint32_t)(random_word() % 8 < density) << bit;
			}
		}
	}
}

static void clear(struct cpuid *all, struct cpuid_feature feature)
{
	for (uint32_t i = 0; i < all->count; i++) {
		struct kvm_cpuid_entry2 *entry = &all->entries[i];
		uint32_t *const words[] = { &entry->eax, &entry->ebx, &entry->ecx, &entry->edx };

		if (entry->function == cpuid_feature_leaves[feature.leaf].function &&
		    entry->index == cpuid_feature_leaves[feature.leaf].index) {
			*words[feature.reg] &= ~(1U << feature.bit);
		}
	}
}

/* The same by going round until nothing changes any more. */
static void clear_slowly(struct cpuid *all)
{
	bool changed = true;

	while (changed) {
		changed = false;
		for (size_t i = cpuid_prerequisite_count; i-- > 0;) {
			const struct cpuid_prerequisite *row = &cpuid_prerequisites[i];

			if (cpuid_has_feature(all, row->feature) &&
			    !cpuid_has_feature(all, row->needs)) {
				clear(all, row->feature);
				changed = true;
			}
		}
	}
}

START_TEST(test_random)
{
	seed = (uint64_t)_i;
	for (uint32_t density = 0; density <= 8; density++) {
		struct cpuid expected;

		make_random(density, _i % 2 == 1);
		expected = cpuid;
		clear_slowly(&expected);
		cpuid_clear_unusable(&cpuid);
		ck_assert_mem_eq(&expected, &cpuid, sizeof(cpuid));
		for (size_t i = 0; i < cpuid_prerequisite_count; i++) {
			const struct cpuid_prerequisite *row = &cpuid_prerequisites[i];

			ck_assert(!cpuid_has_feature(&cpuid, row->feature) ||
				  cpuid_has_feature(&cpuid, row->needs));
		}
	}
}
END_TEST

static const struct cpuid_feature xsave = { LEAF_1, CPUID_ECX, 26 };

/* What no instruction can do without XSAVE, and what of the same age can. */
static const struct {
	const char *name;
	struct cpuid_feature feature;
	bool stays;
} features[] = {
	{ "AVX", { LEAF_1, CPUID_ECX, 28 }, false },
	{ "FMA", { LEAF_1, CPUID_ECX, 12 }, false },
	{ "F16C", { LEAF_1, CPUID_ECX, 29 }, false },
	{ "AVX2", { LEAF_7, CPUID_EBX, 5 }, false },
	{ "VAES", { LEAF_7, CPUID_ECX, 9 }, false },
	{ "VPCLMULQDQ", { LEAF_7, CPUID_ECX, 10 }, false },
	{ "AVX512F", { LEAF_7, CPUID_EBX, 16 }, false },
	{ "AVX512VL", { LEAF_7, CPUID_EBX, 31 }, false },
	{ "AVX512_FP16", { LEAF_7, CPUID_EDX, 23 }, false },
	{ "AMX_TILE", { LEAF_7, CPUID_EDX, 24 }, false },
	{ "PKU", { LEAF_7, CPUID_ECX, 3 }, false },
	{ "shadow stacks", { LEAF_7, CPUID_ECX, 7 }, false },
	{ "XSAVES", { LEAF_XSS, CPUID_EAX, 3 }, false },
	{ "FMA4", { LEAF_EXT, CPUID_ECX, 16 }, false },
	{ "SSE4.2", { LEAF_1, CPUID_ECX, 20 }, true },
	{ "AES", { LEAF_1, CPUID_ECX, 25 }, true },
	{ "PCLMULQDQ", { LEAF_1, CPUID_ECX, 1 }, true },
	{ "SHA", { LEAF_7, CPUID_EBX, 29 }, true },
	{ "GFNI", { LEAF_7, CPUID_ECX, 8 }, true },
	{ "BMI2", { LEAF_7, CPUID_EBX, 8 }, true },
	{ "long mode", { LEAF_EXT, CPUID_EDX, 29 }, true },
};

START_TEST(test_without_xsave)
{
	struct cpuid all;

	make_random(8, false);
	all = cpuid;
	cpuid_clear_unusable(&cpuid);
	ck_assert_mem_eq(&all, &cpuid, sizeof(cpuid));
	clear(&cpuid, xsave);
	cpuid_clear_unusable(&cpuid);
	ck_assert_msg(cpuid_has_feature(&cpuid, features[_i].feature) == features[_i].stays, "%s",
		      features[_i].name);
}
END_TEST

CHECK_MAIN("cpuid_features", CHECK_TEST(test_table); CHECK_LOOP(test_random, 64);
	   CHECK_TABLE(test_without_xsave, features))
