/* SPDX-License-Identifier: Apache-2.0 */
/* CPU baselines: levels, masks and intersections with made-up processors, their JSON, and everything that is wrong in one. */
#include "../../src/instance/internal.h"
#include "../../src/vmm/x86/baseline.h"
#include "../../src/vmm/x86/cpuid_features.h"
#include "../../src/vmm/x86/cpuid_names.h"
#include "harness/check_main.h"
#include "vmm/cpu_baseline.h"

static struct error e;
static uint64_t seed;

static uint32_t random_word(void)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 32);
}

static struct kvm_cpuid_entry2 *entry_of(struct cpuid *cpuid, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < cpuid->count; i++) {
		if (cpuid->entries[i].function == leaf && cpuid->entries[i].index == subleaf) {
			return &cpuid->entries[i];
		}
	}
	cpuid->entries[cpuid->count] =
		(struct kvm_cpuid_entry2){ .function = leaf, .index = subleaf };
	return &cpuid->entries[cpuid->count++];
}

static uint32_t *word_of(struct cpuid *cpuid, uint32_t i)
{
	const struct cpu_baseline_place *place = cpu_baseline_place(i);
	struct kvm_cpuid_entry2 *entry = entry_of(cpuid, place->leaf, place->subleaf);
	uint32_t *const registers[] = { &entry->eax, &entry->ebx, &entry->ecx, &entry->edx };

	return registers[place->reg];
}

/* A processor that can everything, of Intel's. */
static void make_all(struct cpuid *cpuid)
{
	struct kvm_cpuid_entry2 *vendor;

	memset(cpuid, 0, sizeof(*cpuid));
	vendor = entry_of(cpuid, 0, 0);
	memcpy(&vendor->ebx, "Genu", 4);
	memcpy(&vendor->edx, "ineI", 4);
	memcpy(&vendor->ecx, "ntel", 4);
	for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
		*word_of(cpuid, i) = UINT32_MAX;
	}
	for (uint32_t i = 2; i < 20; i++) {
		*entry_of(cpuid, 0xd, i) =
			(struct kvm_cpuid_entry2){ 0xd, i, 1, 64, 512 + 64 * i, i == 8, 0, { 0 } };
	}
	entry_of(cpuid, 0xd, 0)->ecx = 4096;
	entry_of(cpuid, 0xd, 0)->ebx = 4096;
	entry_of(cpuid, 0x14, 0)->ebx = entry_of(cpuid, 0x19, 0)->ebx = 0xff;
	entry_of(cpuid, 0x1d, 1)->eax = entry_of(cpuid, 0x1e, 0)->ebx = 0xff;
}

static void make_random(struct cpuid *cpuid)
{
	make_all(cpuid);
	for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
		*word_of(cpuid, i) = random_word() | random_word();
	}
}

/* As a vCPU gets it. */
static void mask(struct cpuid *cpuid, const struct cpu_template *cpu)
{
	baselines_mask(cpu, cpuid);
	cpuid_clear_unusable(cpuid);
	baseline_clear_leaves(cpuid);
}

static struct cpu_template *use_level(enum vm_cpu_level level)
{
	static struct cpu_template cpu;

	memset(&cpu, 0, sizeof(cpu));
	cpu_baseline_of_level(&cpu.baselines[0], level);
	cpu.baseline_count = 1;
	return &cpu;
}

/* --- levels -------------------------------------------------------------------------------------- */

/* What the psABI lists, by the names that people know. */
static const struct {
	enum vm_cpu_level level;
	uint32_t leaf, subleaf, reg, bit;
} listed[] = {
	{ VM_CPU_LEVEL_V2, 0x1, 0, CPUID_EDX, 26 },	   /* SSE2 */
	{ VM_CPU_LEVEL_V2, 0x80000001, 0, CPUID_EDX, 11 }, /* SYSCALL */
	{ VM_CPU_LEVEL_V2, 0x1, 0, CPUID_ECX, 13 },	   /* CMPXCHG16B */
	{ VM_CPU_LEVEL_V2, 0x80000001, 0, CPUID_ECX, 0 },  /* LAHF */
	{ VM_CPU_LEVEL_V2, 0x1, 0, CPUID_ECX, 23 },	   /* POPCNT */
	{ VM_CPU_LEVEL_V2, 0x1, 0, CPUID_ECX, 0 },	   /* SSE3 */
	{ VM_CPU_LEVEL_V2, 0x1, 0, CPUID_ECX, 19 },	   /* SSE4.1 */
	{ VM_CPU_LEVEL_V2, 0x1, 0, CPUID_ECX, 20 },	   /* SSE4.2 */
	{ VM_CPU_LEVEL_V2, 0x1, 0, CPUID_ECX, 9 },	   /* SSSE3 */
	{ VM_CPU_LEVEL_V3, 0x1, 0, CPUID_ECX, 28 },	   /* AVX */
	{ VM_CPU_LEVEL_V3, 0x7, 0, CPUID_EBX, 5 },	   /* AVX2 */
	{ VM_CPU_LEVEL_V3, 0x7, 0, CPUID_EBX, 3 },	   /* BMI1 */
	{ VM_CPU_LEVEL_V3, 0x7, 0, CPUID_EBX, 8 },	   /* BMI2 */
	{ VM_CPU_LEVEL_V3, 0x1, 0, CPUID_ECX, 29 },	   /* F16C */
	{ VM_CPU_LEVEL_V3, 0x1, 0, CPUID_ECX, 12 },	   /* FMA */
	{ VM_CPU_LEVEL_V3, 0x80000001, 0, CPUID_ECX, 5 },  /* LZCNT */
	{ VM_CPU_LEVEL_V3, 0x1, 0, CPUID_ECX, 22 },	   /* MOVBE */
	{ VM_CPU_LEVEL_V3, 0x1, 0, CPUID_ECX, 26 },	   /* XSAVE, for OSXSAVE */
	{ VM_CPU_LEVEL_V4, 0x7, 0, CPUID_EBX, 16 },	   /* AVX512F */
	{ VM_CPU_LEVEL_V4, 0x7, 0, CPUID_EBX, 30 },	   /* AVX512BW */
	{ VM_CPU_LEVEL_V4, 0x7, 0, CPUID_EBX, 28 },	   /* AVX512CD */
	{ VM_CPU_LEVEL_V4, 0x7, 0, CPUID_EBX, 17 },	   /* AVX512DQ */
	{ VM_CPU_LEVEL_V4, 0x7, 0, CPUID_EBX, 31 },	   /* AVX512VL */
};

START_TEST(test_listed)
{
	for (enum vm_cpu_level level = VM_CPU_LEVEL_V2; level < VM_CPU_LEVELS; level++) {
		const struct cpu_baseline *baseline = &use_level(level)->baselines[0];
		bool must = false, may = false;

		for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
			const struct cpu_baseline_place *place = cpu_baseline_place(i);

			if (place->leaf == listed[_i].leaf &&
			    place->subleaf == listed[_i].subleaf && place->reg == listed[_i].reg) {
				must = (baseline->must[i] >> listed[_i].bit & 1) != 0;
				may = (baseline->may[i] >> listed[_i].bit & 1) != 0;
			}
		}
		ck_assert_msg(must == (level >= listed[_i].level) && !may, "row %d, level %s", _i,
			      cpu_level_name(level));
	}
}
END_TEST

/* Each has all of the one before, and hides what comes later, whatever the processor can. */
START_TEST(test_levels_are_nested)
{
	static struct cpuid tables[VM_CPU_LEVELS];

	for (enum vm_cpu_level level = VM_CPU_LEVEL_V2; level < VM_CPU_LEVELS; level++) {
		struct cpu_template *cpu = use_level(level);
		uint32_t more = 0;

		make_all(&tables[level]);
		check_ok(baselines_check(cpu, &tables[level], &e), &e);
		mask(&tables[level], cpu);
		for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
			const uint32_t bits = *word_of(&tables[level], i);

			ck_assert_uint_eq(bits & ~cpu_baseline_place(i)->ours &
						  ~cpu->baselines[0].must[i] &
						  ~cpu->baselines[0].may[i],
					  0);
			ck_assert_uint_eq(~bits & cpu->baselines[0].must[i], 0);
			if (level > VM_CPU_LEVEL_V2) {
				const uint32_t before = *word_of(&tables[level - 1], i);

				ck_assert_uint_eq(before & ~bits, 0);
				more |= bits & ~before;
			}
		}
		ck_assert(level == VM_CPU_LEVEL_V2 || more != 0);
		/* What is beyond any level. */
		ck_assert_uint_eq(entry_of(&tables[level], 0x14, 0)->ebx, 0);
		ck_assert_uint_eq(entry_of(&tables[level], 0x19, 0)->ebx, 0);
		ck_assert_uint_eq(entry_of(&tables[level], 0x1d, 1)->eax, 0);
		/* What a guest of a hypervisor needs. */
		ck_assert_uint_eq(entry_of(&tables[level], 1, 0)->ecx >> 31, 1);
		ck_assert_uint_eq(entry_of(&tables[level], 1, 0)->ecx >> 21 & 1, 1);
		ck_assert_uint_eq(entry_of(&tables[level], 0x80000007, 0)->edx, 1 << 8);
		ck_assert_uint_eq(entry_of(&tables[level], 0x40000001, 0)->eax, UINT32_MAX);
	}
}
END_TEST

/* Components of XSAVE follow: none, up to AVX, up to the upper half of 32 registers of 512 bits. */
START_TEST(test_xsave)
{
	static const struct {
		uint32_t xcr0, end, last;
	} rows[] = {
		[VM_CPU_LEVEL_V2] = { 0, 0, 0 },
		[VM_CPU_LEVEL_V3] = { 0x7, 512 + 64 * 2 + 64, 2 },
		[VM_CPU_LEVEL_V4] = { 0xe7, 512 + 64 * 7 + 64, 7 },
	};
	struct cpuid cpuid;

	make_all(&cpuid);
	mask(&cpuid, use_level((enum vm_cpu_level)_i));
	ck_assert_uint_eq(entry_of(&cpuid, 0xd, 0)->eax, rows[_i].xcr0);
	ck_assert_uint_eq(entry_of(&cpuid, 0xd, 0)->ecx, rows[_i].end);
	ck_assert_uint_le(entry_of(&cpuid, 0xd, 0)->ebx, rows[_i].end);
	ck_assert_uint_eq(entry_of(&cpuid, 0xd, 1)->eax, 0);
	for (uint32_t i = 2; i < 20; i++) {
		ck_assert_uint_eq(entry_of(&cpuid, 0xd, i)->eax,
				  (rows[_i].xcr0 >> i & 1) != 0 ? 64 : 0);
	}
}
END_TEST

/* A host that lacks one is refused, and each that it lacks is named; what is only shown if it is there may lack. */
START_TEST(test_host_lacks)
{
	struct cpu_template *cpu = use_level((enum vm_cpu_level)_i);
	const struct cpu_baseline *baseline = &cpu->baselines[0];
	struct cpuid cpuid;

	for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
		for (uint32_t bit = 0; bit < 32; bit++) {
			const struct cpu_baseline_place *place = cpu_baseline_place(i);
			struct cpuid_list list = { .len = 0 };

			make_all(&cpuid);
			*word_of(&cpuid, i) &= ~(1U << bit);
			e = (struct error){ 0 };
			if ((baseline->must[i] >> bit & 1) == 0) {
				check_ok(baselines_check(cpu, &cpuid, &e), &e);
				continue;
			}
			cpuid_list_bits(&list, place->leaf, place->subleaf, place->reg, 1U << bit);
			ck_assert_int_lt(baselines_check(cpu, &cpuid, &e), 0);
			check_error(&e, ERROR_CONFIG, cpuid_list_text(&list));
			check_error(&e, ERROR_CONFIG, baseline->name);
		}
	}
	make_all(&cpuid);
	entry_of(&cpuid, 7, 0)->ebx = 0;
	entry_of(&cpuid, 1, 0)->ecx = 0;
	ck_assert_int_lt(baselines_check(use_level(VM_CPU_LEVEL_V4), &cpuid, &e), 0);
	for (const char *name = "sse4_2\0avx2\0bmi1\0bmi2\0avx512f\0avx512vl\0popcnt\0";
	     *name != '\0'; name += strlen(name) + 1) {
		check_error(&e, ERROR_CONFIG, name);
	}
	/* A table without any leaf lacks all of it, in bounded words. */
	cpuid.count = 0;
	ck_assert_int_lt(baselines_check(use_level(VM_CPU_LEVEL_V4), &cpuid, &e), 0);
	check_error(&e, ERROR_CONFIG, " more");
}
END_TEST

/* --- several hosts ------------------------------------------------------------------------------- */

static struct cpu_baseline random_baseline(void)
{
	struct cpu_baseline baseline;
	struct cpuid cpuid;

	make_random(&cpuid);
	baseline_of_table(&baseline, &cpuid);
	baseline.arch_capabilities = (uint64_t)random_word() << 32 | random_word();
	return baseline;
}

static struct cpu_baseline both(struct cpu_baseline a, struct cpu_baseline b)
{
	check_ok(cpu_baseline_intersect(&a, &b, &e), &e);
	return a;
}

static bool equal(struct cpu_baseline a, struct cpu_baseline b)
{
	return strcmp(a.vendor, b.vendor) == 0 && memcmp(a.must, b.must, sizeof(a.must)) == 0 &&
	       memcmp(a.may, b.may, sizeof(a.may)) == 0 &&
	       a.arch_capabilities == b.arch_capabilities;
}

START_TEST(test_intersection)
{
	seed = (uint64_t)_i;
	for (int i = 0; i < 200; i++) {
		struct cpu_baseline a = random_baseline(), b = random_baseline(),
				    c = random_baseline(), all = both(a, both(b, c));

		ck_assert(equal(both(a, b), both(b, a)));
		ck_assert(equal(both(both(a, b), c), all));
		ck_assert(equal(both(a, a), a));
		ck_assert(equal(both(all, b), all));
		for (uint32_t k = 0; k < CPU_BASELINE_PLACES; k++) {
			ck_assert_uint_eq(all.must[k], a.must[k] & b.must[k] & c.must[k]);
		}
		/* That returns are predicted badly on one is true of the fleet. */
		ck_assert_uint_eq(
			all.arch_capabilities >> 2 & 1,
			(a.arch_capabilities | b.arch_capabilities | c.arch_capabilities) >> 2 & 1);
		ck_assert_uint_eq(all.arch_capabilities & 1, a.arch_capabilities &
								     b.arch_capabilities &
								     c.arch_capabilities & 1);
	}
}
END_TEST

/* Each host of a fleet has its intersection, and guests see the same on all. */
START_TEST(test_fleet)
{
	struct cpuid tables[3], seen[3];
	struct cpu_template cpu = { .baseline_count = 1 };

	seed = (uint64_t)_i;
	for (int i = 0; i < 3; i++) {
		struct cpu_baseline one;

		make_random(&tables[i]);
		cpuid_clear_unusable(&tables[i]);
		baseline_of_table(&one, &tables[i]);
		cpu.baselines[0] = i == 0 ? one : both(cpu.baselines[0], one);
	}
	for (int i = 0; i < 3; i++) {
		check_ok(baselines_check(&cpu, &tables[i], &e), &e);
		seen[i] = tables[i];
		mask(&seen[i], &cpu);
		for (uint32_t k = 0; k < CPU_BASELINE_PLACES; k++) {
			const uint32_t ours = cpu_baseline_place(k)->ours;

			ck_assert_uint_eq(*word_of(&seen[i], k) & ~ours,
					  *word_of(&seen[0], k) & ~ours);
		}
	}
}
END_TEST

START_TEST(test_vendors)
{
	struct cpu_template cpu = { .baseline_count = 1 };
	struct cpu_baseline other;
	struct cpuid cpuid;

	make_all(&cpuid);
	baseline_of_table(&other, &cpuid);
	ck_assert_str_eq(other.vendor, "GenuineIntel");
	cpu.baselines[0] = other;
	memcpy(cpu.baselines[0].vendor, "AuthenticAMD", 13);
	ck_assert_int_lt(baselines_check(&cpu, &cpuid, &e), 0);
	check_error(&e, ERROR_CONFIG, "'AuthenticAMD', and this one is of 'GenuineIntel'");
	e = (struct error){ 0 };
	ck_assert_int_lt(cpu_baseline_intersect(&cpu.baselines[0], &other, &e), 0);
	check_error(&e, ERROR_CONFIG, "'GenuineIntel'");
}
END_TEST

START_TEST(test_arch_capabilities)
{
	struct cpu_template cpu = { .baseline_count = 2 };

	cpu.baselines[0].arch_capabilities = 0xff;
	cpu.baselines[1].arch_capabilities = 0xf4;
	ck_assert_uint_eq(baselines_arch_capabilities(&cpu, 0x33), 0x34);
	cpu.baseline_count = 0;
	ck_assert_uint_eq(baselines_arch_capabilities(&cpu, 0x33), 0x33);
	ck_assert_uint_eq(baselines_arch_capabilities(use_level(VM_CPU_LEVEL_V4), UINT64_MAX), 0);
}
END_TEST

/* --- JSON ---------------------------------------------------------------------------------------- */

START_TEST(test_json)
{
	for (int i = 0; i < 50; i++) {
		struct cpu_baseline baseline = random_baseline();
		struct cpu_template *cpu = NULL;
		json_t *json = cpu_baseline_to_json(&baseline);

		check_ok(cpu_template_from_json(&cpu, json, &e), &e);
		ck_assert_uint_eq(cpu->baseline_count, 1);
		ck_assert(equal(cpu->baselines[0], baseline));
		json_decref(json);
		free(cpu);
	}
}
END_TEST

#define HEAD  "\"version\": 1, \"vendor\": \"GenuineIntel\", \"arch_capabilities\": \"0x0\", "
#define ONE_C "{\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"register\": \"ecx\", \"bits\": \"0x1\"}"
static const struct {
	const char *baseline, *text;
} wrong[] = {
	{ "[]", "/baseline: not an object" },
	{ "7", "/baseline: not an object" },
	{ "{}", "'version' is not 1" },
	{ "{\"version\": \"1\"}", "'version' is not 1" },
	{ "{\"version\": 2}", "'version' is not 1" },
	{ "{\"version\": 1}", "'vendor'" },
	{ "{\"version\": 1, \"vendor\": \"\"}", "'vendor'" },
	{ "{\"version\": 1, \"vendor\": \"GenuineIntel!\"}", "'vendor'" },
	{ "{\"version\": 1, \"vendor\": 4}", "'vendor'" },
	{ "{" HEAD "\"x\": 1}", "unknown key 'x'" },
	{ "{" HEAD "\"cpuid\": null}", "'cpuid' is not given" },
	{ "{" HEAD "\"cpuid\": {}}", "'cpuid' is not an array" },
	{ "{" HEAD "\"cpuid\": [7]}", "/baseline/cpuid/0: not an object" },
	{ "{" HEAD "\"cpuid\": [" ONE_C ", " ONE_C "]}",
	  "/baseline/cpuid/1: CPUID leaf 0x1, subleaf 0x0, ecx is there twice" },
	{ "{" HEAD "\"cpuid\": [{\"leaf\": \"0x77\", \"subleaf\": \"0x2\", \"register\": \"eax\", "
	  "\"bits\": \"0x1\"}]}",
	  "no baseline has CPUID leaf 0x77, subleaf 0x2, eax" },
	{ "{" HEAD "\"cpuid\": [{\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"register\": \"eax\", "
	  "\"bits\": \"0x1\"}]}",
	  "no baseline has CPUID leaf 0x1, subleaf 0x0, eax" },
	{ "{" HEAD "\"cpuid\": [{\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"register\": \"efx\", "
	  "\"bits\": \"0x1\"}]}",
	  "'register' is not one of" },
	{ "{" HEAD "\"cpuid\": [{\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"register\": \"ecx\", "
	  "\"bits\": \"0x100000000\"}]}",
	  "does not fit into 32 bits" },
	{ "{" HEAD "\"cpuid\": [{\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"register\": \"ecx\", "
	  "\"bits\": 1}]}",
	  "'bits' is not given as a string" },
	{ "{" HEAD "\"cpuid\": [{\"leaf\": \"1\", \"subleaf\": \"0x0\", \"register\": \"ecx\", "
	  "\"bits\": \"0x1\"}]}",
	  "'leaf': \"1\" does not begin with 0x" },
	{ "{" HEAD "\"cpuid\": [0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}",
	  "'cpuid' has 23 entries: at most 22" },
	{ "{\"version\": 1, \"vendor\": \"x\", \"cpuid\": []}",
	  "'arch_capabilities' is not given" },
	{ "{\"version\": 1, \"vendor\": \"x\", \"cpuid\": [], \"arch_capabilities\": "
	  "\"0x10000000000000000\"}",
	  "does not fit into 64 bits" },
};

START_TEST(test_wrong_json)
{
	struct cpu_template *cpu = NULL;
	char text[600];
	json_t *json;

	(void)snprintf(text, sizeof(text), "{\"baseline\": %s}", wrong[_i].baseline);
	json = json_loads(text, 0, NULL);
	ck_assert_msg(json != NULL, "not JSON: %s", text);
	ck_assert_int_lt(cpu_template_from_json(&cpu, json, &e), 0);
	check_error(&e, ERROR_JSON, wrong[_i].text);
	ck_assert_ptr_null(cpu);
	json_decref(json);
}
END_TEST

CHECK_MAIN("cpu_baseline", CHECK_TABLE(test_listed, listed); CHECK_TEST(test_levels_are_nested);
	   tcase_add_loop_test(check_tcase_, test_xsave, VM_CPU_LEVEL_V2, VM_CPU_LEVELS);
	   tcase_add_loop_test(check_tcase_, test_host_lacks, VM_CPU_LEVEL_V2, VM_CPU_LEVELS);
	   CHECK_LOOP(test_intersection, 4); CHECK_LOOP(test_fleet, 100); CHECK_TEST(test_vendors);
	   CHECK_TEST(test_arch_capabilities); CHECK_TEST(test_json);
	   CHECK_TABLE(test_wrong_json, wrong))
