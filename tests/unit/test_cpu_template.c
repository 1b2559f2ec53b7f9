/* SPDX-License-Identifier: Apache-2.0 */
/* CPU templates out of JSON: bits, bounds, and every way to get them wrong. */
#include "../../src/instance/internal.h"
#include "harness/check_main.h"

static struct error e;

static int read_text(struct cpu_template **ret, const char *text)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	int r;

	ck_assert_msg(json != NULL, "not JSON: %s", text);
	e = (struct error){ 0 };
	r = cpu_template_from_json(ret, json, &e);
	json_decref(json);
	return r;
}

START_TEST(test_whole)
{
	struct cpu_template *t = NULL;

	check_ok(read_text(&t, "{\"kvm_capabilities\": [], \"cpuid_modifiers\": ["
			       "{\"leaf\": \"0x80000001\", \"subleaf\": \"0b11\", \"flags\": 1, "
			       "\"modifiers\": [{\"register\": \"edx\", \"bitmap\": "
			       "\"0b1_0x\"}, {\"register\": \"eax\", \"bitmap\": "
			       "\"0b1xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}]}], "
			       "\"msr_modifiers\": [{\"addr\": \"0x10a\", \"bitmap\": "
			       "\"0b0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			       "xxx1\"}], \"reg_modifiers\": null}"),
		 &e);
	ck_assert_uint_eq(t->cpuid_count, 2);
	ck_assert_uint_eq(t->cpuid[0].leaf, 0x80000001);
	ck_assert_uint_eq(t->cpuid[0].subleaf, 3);
	ck_assert_uint_eq(t->cpuid[0].flags, 1);
	ck_assert_uint_eq(t->cpuid[0].reg, CPUID_EDX);
	ck_assert_uint_eq(t->cpuid[0].mask, 6);
	ck_assert_uint_eq(t->cpuid[0].value, 4);
	ck_assert_uint_eq(t->cpuid[1].reg, CPUID_EAX);
	ck_assert_uint_eq(t->cpuid[1].mask, 0x80000000);
	ck_assert_uint_eq(t->cpuid[1].value, 0x80000000);
	ck_assert_uint_eq(t->msr_count, 1);
	ck_assert_uint_eq(t->msrs[0].index, 0x10a);
	ck_assert_uint_eq(t->msrs[0].mask, 1ULL << 63 | 1);
	ck_assert_uint_eq(t->msrs[0].value, 1);
	free(t);
}
END_TEST

START_TEST(test_capabilities)
{
	struct cpu_template *t = NULL;

	check_ok(read_text(&t, "{\"kvm_capabilities\": [\"171\", \"!56\", \"+7\", "
			       "\"!4294967295\"]}"),
		 &e);
	ck_assert_uint_eq(t->capability_count, 4);
	ck_assert_uint_eq(t->capabilities[0].number, 171);
	ck_assert(!t->capabilities[0].removed);
	ck_assert_uint_eq(t->capabilities[1].number, 56);
	ck_assert(t->capabilities[1].removed);
	ck_assert_uint_eq(t->capabilities[2].number, 7);
	ck_assert(!t->capabilities[2].removed);
	ck_assert_uint_eq(t->capabilities[3].number, UINT32_MAX);
	ck_assert(t->capabilities[3].removed);
	free(t);
}
END_TEST

static const char *const empty[] = {
	"{}",
	"{\"cpuid_modifiers\": null, \"msr_modifiers\": []}",
	("{\"cpuid_modifiers\": [{\"leaf\": \"0x0\", \"subleaf\": \"0x0\", \"flags\": 0, "
	 "\"modifiers\": []}]}"),
	"{\"vcpu_features\": []}",
};

START_TEST(test_empty)
{
	struct cpu_template *t = NULL;

	check_ok(read_text(&t, empty[_i]), &e);
	ck_assert_uint_eq(t->cpuid_count + t->msr_count, 0);
	free(t);
}
END_TEST

#define LEAF(fields) "{\"cpuid_modifiers\": [{" fields "}]}"
#define REG(fields)                                                                   \
	LEAF("\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"flags\": 0, \"modifiers\": " \
	     "[{" fields "}]")
#define BITMAP(bitmap) REG("\"register\": \"eax\", \"bitmap\": \"" bitmap "\"")
#define MSR(fields)    "{\"msr_modifiers\": [{" fields "}]}"
#define X32	       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct {
	const char *text;
	enum error_code code;
	const char *says;
} refusals[] = {
	{ "[]", ERROR_JSON, "not an object" },
	{ "\"T2\"", ERROR_JSON, "not an object" },
	{ "{\"cpuid\": []}", ERROR_JSON, "unknown key 'cpuid'" },
	{ "{\"cpuid_modifiers\": {}}", ERROR_JSON, "not an array" },
	{ "{\"cpuid_modifiers\": [1]}", ERROR_JSON, "/cpuid_modifiers/0" },
	{ "{\"kvm_capabilities\": {}}", ERROR_JSON, "not an array" },
	{ "{\"kvm_capabilities\": [171]}", ERROR_JSON, "/kvm_capabilities/0" },
	{ "{\"kvm_capabilities\": [\"1\", \"\"]}", ERROR_JSON, "/kvm_capabilities/1" },
	{ "{\"kvm_capabilities\": [\"!\"]}", ERROR_JSON, "not the number" },
	{ "{\"kvm_capabilities\": [\"!!1\"]}", ERROR_JSON, "not the number" },
	{ "{\"kvm_capabilities\": [\"-1\"]}", ERROR_JSON, "not the number" },
	{ "{\"kvm_capabilities\": [\"0x1\"]}", ERROR_JSON, "not the number" },
	{ "{\"kvm_capabilities\": [\"1 \"]}", ERROR_JSON, "not the number" },
	{ "{\"kvm_capabilities\": [\"1\\u0000\"]}", ERROR_JSON, "not a string" },
	{ "{\"kvm_capabilities\": [\"4294967296\"]}", ERROR_JSON, "32 bits" },
	{ "{\"reg_modifiers\": [{}]}", ERROR_NOT_SUPPORTED, "reg_modifiers" },
	{ "{\"vcpu_features\": [{}]}", ERROR_NOT_SUPPORTED, "vcpu_features" },
	{ "{\"vcpu_features\": 7}", ERROR_JSON, "not an array" },
	{ LEAF(""), ERROR_JSON, "'leaf'" },
	{ LEAF("\"leaf\": 1"), ERROR_JSON, "'leaf'" },
	{ LEAF("\"leaf\": \"1\""), ERROR_JSON, "0x or 0b" },
	{ LEAF("\"leaf\": \"0x\""), ERROR_JSON, "0x or 0b" },
	{ LEAF("\"leaf\": \"0xg\""), ERROR_JSON, "not a number" },
	{ LEAF("\"leaf\": \"0b2\""), ERROR_JSON, "not a number" },
	{ LEAF("\"leaf\": \"0x100000000\""), ERROR_JSON, "32 bits" },
	{ LEAF("\"leaf\": \"0x1\\u0000\""), ERROR_JSON, "'leaf'" },
	{ LEAF("\"leaf\": \"0x1\""), ERROR_JSON, "'subleaf'" },
	{ LEAF("\"leaf\": \"0x1\", \"subleaf\": \"0x0\""), ERROR_JSON, "'flags'" },
	{ LEAF("\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"flags\": -1"), ERROR_JSON, "'flags'" },
	{ LEAF("\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"flags\": 4294967296"), ERROR_JSON,
	  "'flags'" },
	{ LEAF("\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"flags\": 0"), ERROR_JSON, "modifiers" },
	{ LEAF("\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"flags\": 0, \"modifiers\": [1,2,3,4,5]"),
	  ERROR_JSON, "at most 4" },
	{ LEAF("\"leaves\": 1"), ERROR_JSON, "unknown key 'leaves'" },
	{ REG(""), ERROR_JSON, "'register'" },
	{ REG("\"register\": \"rax\""), ERROR_JSON, "'register'" },
	{ REG("\"register\": \"eax\""), ERROR_JSON, "'bitmap'" },
	{ REG("\"register\": \"eax\", \"bitmap\": \"0b1\", \"x\": 1"), ERROR_JSON, "unknown key" },
	{ BITMAP(""), ERROR_JSON, "empty" },
	{ BITMAP("0b"), ERROR_JSON, "empty" },
	{ BITMAP("0b_"), ERROR_JSON, "empty" },
	{ BITMAP("0b12"), ERROR_JSON, "accepted are" },
	{ BITMAP("0bX"), ERROR_JSON, "accepted are" },
	{ BITMAP("0b1" X32), ERROR_JSON, "more than 32" },
	{ MSR(""), ERROR_JSON, "'addr'" },
	{ MSR("\"addr\": \"0x1\""), ERROR_JSON, "'bitmap'" },
	{ MSR("\"addr\": \"0x1\", \"bitmap\": \"0b1" X32 X32 "\""), ERROR_JSON, "more than 64" },
	{ MSR("\"addr\": \"0x1\", \"bitmap\": \"0b1\"}, {\"addr\": \"0b1\", \"bitmap\": \"0b1\""),
	  ERROR_JSON, "twice" },
};

START_TEST(test_refusals)
{
	struct cpu_template *t = (struct cpu_template *)&e;

	ck_assert_int_lt(read_text(&t, refusals[_i].text), 0);
	check_error(&e, refusals[_i].code, refusals[_i].says);
	ck_assert_ptr_eq(t, (struct cpu_template *)&e);
}
END_TEST

static json_t *many(const char *key, const char *entry, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++) {
		json_t *value = json_loads(entry, 0, NULL);
		char addr[24];

		if (json_object_get(value, "addr") != NULL) {
			(void)snprintf(addr, sizeof(addr), "0x%zx", i);
			(void)json_object_set_new(value, "addr", json_string(addr));
		}
		(void)json_array_append_new(list, value);
	}
	return json_pack("{s:o}", key, list);
}

/* As many as there can be, and one more. */
START_TEST(test_limits)
{
	const size_t limit = _i == 0 ? CPU_TEMPLATE_CPUID_MAX / 4 : CPU_TEMPLATE_MSR_MAX;
	const char *key = _i == 0 ? "cpuid_modifiers" : "msr_modifiers";
	const char *entry =
		_i == 0 ? "{\"leaf\": \"0x1\", \"subleaf\": \"0x0\", \"flags\": 0, \"modifiers\": ["
			  "{\"register\": \"eax\", \"bitmap\": \"0b1\"},"
			  "{\"register\": \"ebx\", \"bitmap\": \"0b1\"},"
			  "{\"register\": \"ecx\", \"bitmap\": \"0b1\"},"
			  "{\"register\": \"edx\", \"bitmap\": \"0b1\"}]}"
			: "{\"addr\": \"0x1\", \"bitmap\": \"0b1\"}";
	struct cpu_template *t = NULL;
	json_t *json = many(key, entry, limit);

	check_ok(cpu_template_from_json(&t, json, &e), &e);
	ck_assert_uint_eq(_i == 0 ? t->cpuid_count : t->msr_count,
			  _i == 0 ? CPU_TEMPLATE_CPUID_MAX : CPU_TEMPLATE_MSR_MAX);
	free(t);
	json_decref(json);
	json = many(key, entry, limit + 1);
	ck_assert_int_lt(cpu_template_from_json(&t, json, &e), 0);
	check_error(&e, ERROR_JSON, _i == 0 ? "more than 256" : "at most 128");
	json_decref(json);
}
END_TEST

CHECK_MAIN("cpu_template", CHECK_TEST(test_whole); CHECK_TEST(test_capabilities);
	   CHECK_TABLE(test_empty, empty); CHECK_TABLE(test_refusals, refusals);
	   CHECK_LOOP(test_limits, 2))
