/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CPU template out of JSON, in Firecracker's form:
 *
 *	{ "kvm_capabilities": [ "171", "!56" ],
 *	  "cpuid_modifiers": [ { "leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [
 *		{ "register": "ecx", "bitmap": "0bx00000000000000000000000000000xx" } ] } ],
 *	  "msr_modifiers": [ { "addr": "0x10a", "bitmap": "0b..." } ] }
 *
 * and, of ours, the most that the guest may see at all (vmm/cpu_baseline.h), which is applied behind the modifiers:
 *
 *	{ "baseline": { "version": 1, "vendor": "GenuineIntel",
 *	  "cpuid": [ { "leaf": "0x1", "subleaf": "0x0", "register": "ecx", "bits": "0x80202001" } ],
 *	  "arch_capabilities": "0x0" } }
 *
 * Numbers are strings in hexadecimal ("0x") or binary ("0b"). A bitmap has the highest bit first;
 * 'x' leaves a bit alone, '_' may stand between digits, bits in front that are not written are left
 * alone.
 *
 * The JSON is a client's: what is accepted is bounded by CPU_TEMPLATE_..._MAX, unknown keys are
 * refused. Pure functions.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/cpu_baseline.h"
#include "vmm/text.h"

#define BASELINE_VERSION 1

static const char *const register_names[] = { "eax", "ebx", "ecx", "edx" };

/* Where in the JSON: "/cpuid_modifiers/0/modifiers/1". */
struct place {
	char text[80];
};

static int __printf_like(3, 4)
	refuse(const struct place *place, struct error *e, const char *fmt, ...)
{
	char text[240];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return error_set(e, ERROR_JSON, EINVAL, "CPU template%s%s: %s", place->text[0] ? " " : "",
			 place->text, text);
}

static struct place inside(const struct place *outer, const char *key, size_t index)
{
	struct place place;

	(void)snprintf(place.text, sizeof(place.text), "%.40s/%s/%zu", outer->text, key, index);
	return place;
}

/* An object with no other keys than these, a list that ends in NULL. */
static int check_object(const json_t *value, const char *const *keys, const struct place *place,
			struct error *e)
{
	const char *unknown = json_unknown_key(value, keys);

	if (!json_is_object(value)) {
		return refuse(place, e, "not an object");
	}
	return unknown != NULL ? refuse(place, e, "unknown key '%.60s'", unknown) : 0;
}

/* An array of at most `max` values, also absent or null: *ret is NULL then. */
static int get_array(const json_t *object, const char *key, size_t max, const struct place *place,
		     const json_t **ret, struct error *e)
{
	const json_t *value = json_object_get(object, key);

	*ret = NULL;
	if (value == NULL || json_is_null(value)) {
		return 0;
	}
	if (!json_is_array(value)) {
		return refuse(place, e, "'%s' is not an array", key);
	}
	if (json_array_size(value) > max) {
		return refuse(place, e, "'%s' has %zu entries: at most %zu are possible", key,
			      json_array_size(value), max);
	}
	*ret = value;
	return 0;
}

static const char *get_text(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	const char *text = json_string_value(value);

	return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}

/* "0x1f" or "0b101". */
static int get_number(const json_t *object, const char *key, unsigned int bits,
		      const struct place *place, uint64_t *ret, struct error *e)
{
	const char *text = get_text(object, key);
	unsigned int base;
	uint64_t n = 0;
	int r;

	if (text == NULL) {
		return refuse(place, e, "'%s' is not given as a string such as \"0x1\"", key);
	}
	base = strncmp(text, "0x", 2) == 0 ? 16 : strncmp(text, "0b", 2) == 0 ? 2 : 0;
	if (base == 0 || text[2] == '\0') {
		return refuse(place, e, "'%s': \"%.40s\" does not begin with 0x or 0b", key, text);
	}
	r = text_to_number(text + 2, strlen(text + 2), base, &n);
	if (r == -EINVAL) {
		return refuse(place, e, "'%s': \"%.40s\" is not a number", key, text);
	}
	*ret = n;
	return r == 0 && (bits == 64 || n >> bits == 0)
		       ? 0
		       : refuse(place, e, "'%s': \"%.40s\" does not fit into %u bits", key, text,
				bits);
}

static int get_u32(const json_t *object, const char *key, const struct place *place, uint32_t *ret,
		   struct error *e)
{
	uint64_t n = 0;
	int r = get_number(object, key, 32, place, &n, e);

	*ret = (uint32_t)n;
	return r;
}

static int get_register(const json_t *object, const struct place *place, uint8_t *ret,
			struct error *e)
{
	const char *name = get_text(object, "register");
	size_t reg = 0;

	while (name != NULL && reg < ARRAY_SIZE(register_names) &&
	       strcmp(register_names[reg], name) != 0) {
		reg++;
	}
	if (name == NULL || reg == ARRAY_SIZE(register_names)) {
		return refuse(place, e, "'register' is not one of eax, ebx, ecx, edx");
	}
	*ret = (uint8_t)reg;
	return 0;
}

static int get_flags(const json_t *object, const struct place *place, uint32_t *ret,
		     struct error *e)
{
	const json_t *value = json_object_get(object, "flags");
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value) || n < 0 || n > UINT32_MAX) {
		return refuse(place, e, "'flags' is not given as a number from 0 to 4294967295");
	}
	*ret = (uint32_t)n;
	return 0;
}

/* `bits` is 32 or 64. */
static int get_bitmap(const json_t *object, unsigned int bits, const struct place *place,
		      uint64_t *mask, uint64_t *value, struct error *e)
{
	const char *text = get_text(object, "bitmap");
	unsigned int bit = 0;

	if (text == NULL) {
		return refuse(place, e, "'bitmap' is not given as a string such as \"0bxx01\"");
	}
	if (strncmp(text, "0b", 2) == 0) {
		text += 2;
	}
	*mask = *value = 0;
	for (size_t i = strlen(text); i > 0; i--) {
		char c = text[i - 1];

		if (c == '_') {
			continue;
		}
		if (c != '0' && c != '1' && c != 'x') {
			return refuse(place, e, "'bitmap': accepted are 0, 1, x and _");
		}
		if (bit == bits) {
			return refuse(place, e, "'bitmap': more than %u bits", bits);
		}
		*mask |= (uint64_t)(c != 'x') << bit;
		*value |= (uint64_t)(c == '1') << bit;
		bit++;
	}
	return bit != 0 ? 0 : refuse(place, e, "'bitmap' is empty");
}

static int read_register(struct cpu_template *template, struct cpuid_modifier modifier,
			 const json_t *json, const struct place *place, struct error *e)
{
	static const char *const keys[] = { "register", "bitmap", NULL };
	uint64_t mask = 0, value = 0;
	int r = check_object(json, keys, place, e);

	r = r == 0 ? get_register(json, place, &modifier.reg, e) : r;
	if (r < 0) {
		return r;
	}
	r = get_bitmap(json, 32, place, &mask, &value, e);
	if (r < 0) {
		return r;
	}
	if (template->cpuid_count == CPU_TEMPLATE_CPUID_MAX) {
		return refuse(place, e, "more than %d registers are changed",
			      CPU_TEMPLATE_CPUID_MAX);
	}
	modifier.mask = (uint32_t)mask;
	modifier.value = (uint32_t)value;
	template->cpuid[template->cpuid_count++] = modifier;
	return 0;
}

static int read_leaf(struct cpu_template *template, const json_t *json, const struct place *place,
		     struct error *e)
{
	static const char *const keys[] = { "leaf", "subleaf", "flags", "modifiers", NULL };
	struct cpuid_modifier modifier = { 0 };
	const json_t *list;
	int r = check_object(json, keys, place, e);

	if (r == 0) {
		r = get_u32(json, "leaf", place, &modifier.leaf, e);
	}
	if (r == 0) {
		r = get_u32(json, "subleaf", place, &modifier.subleaf, e);
	}
	if (r == 0) {
		r = get_flags(json, place, &modifier.flags, e);
	}
	if (r == 0) {
		r = get_array(json, "modifiers", 4, place, &list, e);
	}
	if (r == 0 && list == NULL) {
		r = refuse(place, e, "'modifiers' is not given");
	}
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		struct place here = inside(place, "modifiers", i);

		r = read_register(template, modifier, json_array_get(list, i), &here, e);
	}
	return r;
}

static int read_msr(struct cpu_template *template, const json_t *json, const struct place *place,
		    struct error *e)
{
	static const char *const keys[] = { "addr", "bitmap", NULL };
	struct msr_modifier *msr = &template->msrs[template->msr_count];
	int r = check_object(json, keys, place, e);

	if (r == 0) {
		r = get_u32(json, "addr", place, &msr->index, e);
	}
	if (r == 0) {
		r = get_bitmap(json, 64, place, &msr->mask, &msr->value, e);
	}
	for (uint32_t i = 0; r == 0 && i < template->msr_count; i++) {
		if (template->msrs[i].index == msr->index) {
			r = refuse(place, e, "MSR 0x%x is changed twice", msr->index);
		}
	}
	template->msr_count += r == 0 ? 1 : 0;
	return r;
}

/* "171": KVM must have the capability of that number as well; "!171": it need not have it. */
static int read_capability(struct cpu_template *template, const json_t *json,
			   const struct place *place, struct error *e)
{
	struct capability_modifier *modifier = &template->capabilities[template->capability_count];
	const char *text = json_string_value(json);
	const char *digits = text;
	uint64_t n = 0;
	int r;

	if (text == NULL || strlen(text) != json_string_length(json)) {
		return refuse(place, e, "not a string such as \"171\" or \"!171\"");
	}
	modifier->removed = digits[0] == '!';
	digits += modifier->removed ? 1 : 0;
	digits += digits[0] == '+' ? 1 : 0;
	r = text_to_number(digits, strlen(digits), 10, &n);
	if (r == -EINVAL) {
		return refuse(place, e, "\"%.40s\" is not the number of a capability", text);
	}
	if (r < 0 || n > UINT32_MAX) {
		return refuse(place, e, "\"%.40s\" does not fit into 32 bits", text);
	}
	modifier->number = (uint32_t)n;
	template->capability_count++;
	return 0;
}

/* --- a baseline ---------------------------------------------------------------------------------- */

/* Which place it is; CPU_BASELINE_PLACES: none. */
static uint32_t find_place(uint32_t leaf, uint32_t subleaf, uint8_t reg)
{
	uint32_t i = 0;

	while (i < CPU_BASELINE_PLACES &&
	       (cpu_baseline_place(i)->leaf != leaf || cpu_baseline_place(i)->subleaf != subleaf ||
		cpu_baseline_place(i)->reg != reg)) {
		i++;
	}
	return i;
}

/* `seen` has a bit for each place that there was. */
static int read_bits(struct cpu_baseline *baseline, uint32_t *seen, const json_t *json,
		     const struct place *place, struct error *e)
{
	static const char *const keys[] = { "leaf", "subleaf", "register", "bits", NULL };
	uint32_t leaf = 0, subleaf = 0, bits = 0, i;
	uint8_t reg = 0;
	int r = check_object(json, keys, place, e);

	r = r == 0 ? get_u32(json, "leaf", place, &leaf, e) : r;
	r = r == 0 ? get_u32(json, "subleaf", place, &subleaf, e) : r;
	r = r == 0 ? get_register(json, place, &reg, e) : r;
	r = r == 0 ? get_u32(json, "bits", place, &bits, e) : r;
	if (r < 0) {
		return r;
	}
	i = find_place(leaf, subleaf, reg);
	if (i == CPU_BASELINE_PLACES) {
		return refuse(place, e, "no baseline has CPUID leaf 0x%x, subleaf 0x%x, %s", leaf,
			      subleaf, register_names[reg]);
	}
	if ((*seen >> i & 1) != 0) {
		return refuse(place, e, "CPUID leaf 0x%x, subleaf 0x%x, %s is there twice", leaf,
			      subleaf, register_names[reg]);
	}
	*seen |= 1U << i;
	baseline->must[i] = bits & ~cpu_baseline_place(i)->ours;
	return 0;
}

static int read_vendor(struct cpu_baseline *baseline, const json_t *json, const struct place *place,
		       struct error *e)
{
	const char *vendor = get_text(json, "vendor");
	const size_t len = vendor != NULL ? strlen(vendor) : 0;

	if (len == 0 || len >= sizeof(baseline->vendor)) {
		return refuse(place, e,
			      "'vendor' is not given as a string such as "
			      "\"GenuineIntel\"");
	}
	memcpy(baseline->vendor, vendor, len + 1);
	return 0;
}

static int read_baseline(struct cpu_template *template, const json_t *json, struct error *e)
{
	static const char *const keys[] = { "version", "vendor", "cpuid", "arch_capabilities",
					    NULL };
	const struct place place = { "/baseline" };
	const json_t *version = json_object_get(json, "version"), *list = NULL;
	struct cpu_baseline *baseline = &template->baselines[template->baseline_count];
	uint32_t seen = 0;
	int r = check_object(json, keys, &place, e);

	if (r == 0 && json_integer_value(version) != BASELINE_VERSION) {
		r = refuse(&place, e, "'version' is not %d, which is the one that is known",
			   BASELINE_VERSION);
	}
	r = r == 0 ? read_vendor(baseline, json, &place, e) : r;
	r = r == 0 ? get_array(json, "cpuid", CPU_BASELINE_PLACES, &place, &list, e) : r;
	if (r == 0 && list == NULL) {
		r = refuse(&place, e, "'cpuid' is not given");
	}
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		struct place here = inside(&place, "cpuid", i);

		r = read_bits(baseline, &seen, json_array_get(list, i), &here, e);
	}
	if (r == 0) {
		r = get_number(json, "arch_capabilities", 64, &place, &baseline->arch_capabilities,
			       e);
	}
	template->baseline_count += r == 0 ? 1 : 0;
	return r;
}

static json_t *number_text(uint64_t n)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "0x%llx", (unsigned long long)n);
	return json_string(text);
}

json_t *cpu_baseline_to_json(const struct cpu_baseline *baseline)
{
	auto_json json_t *list = json_array();
	bool good = list != NULL;

	for (uint32_t i = 0; good && i < CPU_BASELINE_PLACES; i++) {
		const struct cpu_baseline_place *place = cpu_baseline_place(i);
		const uint32_t bits = baseline->must[i] | baseline->may[i];

		if (bits != 0) {
			good = json_array_append_new(
				       list, json_pack("{s:o, s:o, s:s, s:o}", "leaf",
						       number_text(place->leaf), "subleaf",
						       number_text(place->subleaf), "register",
						       register_names[place->reg], "bits",
						       number_text(bits))) == 0;
		}
	}
	return good ? json_pack("{s:{s:i, s:s, s:O, s:o}}", "baseline", "version", BASELINE_VERSION,
				"vendor", baseline->vendor, "cpuid", list, "arch_capabilities",
				number_text(baseline->arch_capabilities))
		    : NULL;
}

int cpu_config_read_file(json_t **json, struct cpu_template **ret, const char *path,
			 struct error *e)
{
	int r = json_read_file(json, path, CPU_CONFIG_FILE_MAX, e);

	r = r == 0 ? cpu_template_from_json(ret, *json, e) : r;
	return r < 0 ? error_prefix(e, "'%.120s'", path) : 0;
}

/* --- all of it ----------------------------------------------------------------------------------- */

/* Parts that mean nothing here may be there if they are empty. */
static int check_empty(const json_t *json, const char *key, const char *why, struct error *e)
{
	const struct place top = { "" };
	const json_t *list;
	int r = get_array(json, key, SIZE_MAX, &top, &list, e);

	if (r == 0 && json_array_size(list) != 0) {
		r = error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP, "CPU template: '%s': %s", key,
			      why);
	}
	return r;
}

static int read_template(struct cpu_template *template, const json_t *json, struct error *e)
{
	static const char *const keys[] = { "kvm_capabilities",
					    "cpuid_modifiers",
					    "msr_modifiers",
					    "reg_modifiers",
					    "vcpu_features",
					    "baseline",
					    NULL };
	static const struct {
		const char *key;
		size_t max;
		int (*read)(struct cpu_template *template, const json_t *json,
			    const struct place *place, struct error *e);
	} lists[] = {
		{ "kvm_capabilities", CPU_TEMPLATE_CAPABILITY_MAX, read_capability },
		{ "cpuid_modifiers", CPU_TEMPLATE_CPUID_MAX, read_leaf },
		{ "msr_modifiers", CPU_TEMPLATE_MSR_MAX, read_msr },
	};
	const json_t *baseline = json_object_get(json, "baseline");
	const struct place top = { "" };
	int r = check_object(json, keys, &top, e);

	if (r == 0 && baseline != NULL && !json_is_null(baseline)) {
		r = read_baseline(template, baseline, e);
	}
	if (r == 0) {
		r = check_empty(json, "reg_modifiers", "that is for other processors than x86", e);
	}
	if (r == 0) {
		r = check_empty(json, "vcpu_features", "that is for other processors than x86", e);
	}
	for (size_t k = 0; r == 0 && k < ARRAY_SIZE(lists); k++) {
		const json_t *list = NULL;

		r = get_array(json, lists[k].key, lists[k].max, &top, &list, e);
		for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
			struct place here = inside(&top, lists[k].key, i);

			r = lists[k].read(template, json_array_get(list, i), &here, e);
		}
	}
	return r;
}

int cpu_template_from_json(struct cpu_template **ret, const json_t *json, struct error *e)
{
	struct cpu_template *template = calloc(1, sizeof(*template));
	int r;

	if (template == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "CPU template: out of memory");
	}
	r = read_template(template, json, e);
	if (r < 0) {
		free(template);
		return r;
	}
	*ret = template;
	return 0;
}
