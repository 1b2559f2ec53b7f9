/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of option tables as JSON, their JSON Schema (2020-12), and copies of them.
 *
 * The schema says what options_from_json() accepts, `null` for what is not required included, so
 * that a client, or a test, that believes it meets no surprise. What it cannot say: that a MAC
 * address must not be zero.
 *
 * Everything here is our own data, except strings, which may come from anywhere and may be no UTF-8
 * when they come from a command line. Any thread; what is returned belongs to the caller.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options_internal.h"
#include "vmm/cleanup.h"
#include "vmm/options_json.h"

/* JSON has signed numbers here; more than they hold has no meaning for any option. */
static json_t *number_value(uint64_t n)
{
	return json_integer((json_int_t)MIN(n, (uint64_t)INT64_MAX));
}

static json_t *enum_value(const struct option *option, int chosen)
{
	for (const struct option_value *v = option_json_values(option); v->name != NULL; v++) {
		if (v->value == chosen) {
			return json_string(v->name);
		}
	}
	return json_null();
}

static json_t *mac_value(const uint8_t *mac)
{
	char text[18];

	(void)snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		       mac[3], mac[4], mac[5]);
	return json_string(text);
}

static json_t *member_value(const struct option *option, const void *member, unsigned int flags)
{
	switch (option->type) {
	case OPTION_FLAG:
	case OPTION_BOOL:
		return json_boolean(*(const bool *)member);
	case OPTION_STRING:
		return json_any_string(*(const char *const *)member, "?");
	case OPTION_U32:
		return number_value(*(const uint32_t *)member / option_json_unit(option));
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_DURATION:
		return number_value(*(const uint64_t *)member / option_json_unit(option));
	case OPTION_ENUM:
		return enum_value(option, *(const int *)member);
	case OPTION_MAC:
		return mac_value(member);
	case OPTION_OBJECT:
		return options_to_json(option->object, member, flags);
	case OPTION_OBJECTS:
		return json_deep_copy(*(const json_t *const *)member);
	case OPTION_FD:
	case OPTION_LIST:
	case OPTION_INCLUDE:
		break;
	}
	return json_null();
}

static bool is_zero(const struct option *option, const char *member)
{
	const void *value = member;

	switch (option->type) {
	case OPTION_FLAG:
	case OPTION_BOOL:
		return !*(const bool *)value;
	case OPTION_U32:
		return *(const uint32_t *)value == 0;
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_DURATION:
		return *(const uint64_t *)value == 0;
	case OPTION_ENUM:
		return *(const int *)value == 0;
	default:
		return false;
	}
}

static bool is_given(const struct option *option, const char *owner)
{
	static const uint8_t zero[6];
	const char *member = owner + option->offset;

	if (option->present != 0 && !*((const bool *)owner + option->present - 1)) {
		return false;
	}
	if (option->type == OPTION_STRING || option->type == OPTION_OBJECTS) {
		return *(const void *const *)(const void *)member != NULL;
	}
	if (option->zero == OPTION_ZERO_NOT_GIVEN && is_zero(option, member)) {
		return false;
	}
	return option->type != OPTION_MAC || option->present != 0 ||
	       memcmp(member, zero, sizeof(zero)) != 0;
}

/* Of an embedded object: does it, as Firecracker sees it, say anything? */
static bool says_something(const struct option_table *table, const char *object)
{
	struct option_iter at = option_iter(table);
	bool something = false;

	while (option_next(&at)) {
		const char *owner = object + at.base, *member = owner + at.option->offset;

		if (at.option->zero == OPTION_ZERO_NO_OBJECT && is_zero(at.option, member)) {
			return false;
		}
		something |= option_has_json(at.option) && is_given(at.option, owner) &&
			     (at.option->type != OPTION_OBJECT ||
			      says_something(at.option->object, member));
	}
	return something;
}

static bool is_hidden(const struct option *option, const char *owner, unsigned int flags)
{
	if (!option_has_json(option)) {
		return true;
	}
	return (flags & OPTIONS_JSON_FIRECRACKER) != 0 &&
	       (option->ours || (option->zero == OPTION_ZERO_NOT_THEIRS &&
				 is_zero(option, owner + option->offset)));
}

json_t *options_to_json(const struct option_table *table, const void *object, unsigned int flags)
{
	bool firecracker = (flags & OPTIONS_JSON_FIRECRACKER) != 0;
	struct option_iter at = option_iter(table);
	auto_json json_t *ret = json_object();

	while (option_next(&at)) {
		const char *owner = (const char *)object + at.base;

		json_t *value;

		if (is_hidden(at.option, owner, flags)) {
			continue;
		}
		if (is_given(at.option, owner) &&
		    (!firecracker || at.option->type != OPTION_OBJECT ||
		     says_something(at.option->object, owner + at.option->offset))) {
			value = member_value(at.option, owner + at.option->offset, flags);
		} else if (firecracker) {
			value = json_null();
		} else {
			continue;
		}
		if (!json_put(ret, at.option->json, value)) {
			return NULL;
		}
	}
	return take_ptr(ret);
}

bool options_absolute_paths(const struct option_table *table, json_t *object, const char *directory)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		const char *key = at.option->json;
		const char *path = at.option->file && key != NULL
					   ? json_string_value(json_object_get(object, key))
					   : NULL;

		if (path != NULL && path[0] != '/' && path[0] != '\0' &&
		    json_object_set_new(object, key, json_sprintf("%s/%s", directory, path)) != 0) {
			return false;
		}
	}
	return true;
}

/* What the option is when nothing is given; NULL if that is nothing, or memory is short. */
static json_t *default_value(const struct option *option)
{
	struct option alone = *option;
	union {
		uint64_t number;
		const char *text;
		uint8_t mac[6];
	} member = { 0 };

	if (option->type == OPTION_OBJECT || option->type == OPTION_OBJECTS ||
	    option->present != 0 || option->json_required) {
		return NULL;
	}
	alone.offset = 0;
	if (option->fallback == NULL) {
		return option->type == OPTION_FLAG || option->type == OPTION_BOOL ? json_false()
										  : NULL;
	}
	if (option_set_value(&alone, &member, option->json, option->fallback, NULL) < 0) {
		return NULL;
	}
	return member_value(&alone, &member, 0);
}

static bool put_enum(json_t *schema, const struct option *option, bool nullable)
{
	json_t *list = json_array();
	bool good = list != NULL;

	for (const struct option_value *v = option_json_values(option); good && v->name != NULL;
	     v++) {
		good = json_array_append_new(list, json_string(v->name)) == 0;
	}
	if (good && nullable) {
		good = json_array_append_new(list, json_null()) == 0;
	}
	if (!good) {
		json_decref(list);
		return false;
	}
	return json_put(schema, "enum", list);
}

static bool put_range(json_t *schema, const struct option *option)
{
	uint64_t unit = option_json_unit(option);
	uint64_t low = option->min / unit + (option->min % unit != 0);
	uint64_t high = option_upper_bound(option) / unit;

	/* Numbers beyond jansson's are taken as its largest (json.c): there is no maximum to name. */
	return json_put(schema, "minimum", number_value(low)) &&
	       (high > INT64_MAX || json_put(schema, "maximum", number_value(high)));
}

static bool put_string_limits(json_t *schema, const struct option *option)
{
	if (option->verbatim) {
		return json_put(schema, "pattern", json_string("^[^\\x00]*$"));
	}
	return json_put(schema, "minLength", json_integer(1)) &&
	       json_put(schema, "pattern", json_string("^[^\\x00-\\x1f\\x7f]*$"));
}

/* "integer", or ["integer", "null"] for what need not be given. */
static bool put_type(json_t *schema, bool nullable, const char *type)
{
	return json_put(schema, "type",
			nullable ? json_pack("[ss]", type, "null") : json_string(type));
}

static json_t *object_schema(const struct option_table *table, unsigned int flags);

static bool put_kind(json_t *schema, const struct option *option, bool nullable)
{
	switch (option->type) {
	case OPTION_FLAG:
	case OPTION_BOOL:
		return put_type(schema, nullable, "boolean");
	case OPTION_STRING:
		return put_type(schema, nullable, "string") && put_string_limits(schema, option);
	case OPTION_U32:
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_DURATION:
		return put_type(schema, nullable, "integer") && put_range(schema, option);
	case OPTION_ENUM:
		return put_type(schema, nullable, "string") && put_enum(schema, option, nullable);
	case OPTION_MAC:
		return put_type(schema, nullable, "string") &&
		       json_put(schema, "pattern",
				json_string("^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$"));
	case OPTION_OBJECT: /* its schema is complete but for this */
		return put_type(schema, nullable, "object");
	case OPTION_OBJECTS:
		return put_type(schema, nullable, "array") &&
		       json_put(schema, "items", object_schema(option->object, 0));
	case OPTION_FD:
	case OPTION_LIST:
	case OPTION_INCLUDE:
		break;
	}
	return true;
}

static json_t *option_schema(const struct option *option, unsigned int flags)
{
	auto_json json_t *schema = NULL;
	auto_json json_t *fallback = default_value(option);
	bool patch = (flags & OPTIONS_JSON_PATCH) != 0;

	if (option->type == OPTION_OBJECT) {
		schema = object_schema(option->object, option_table_is_whole(option->object)
							       ? flags & ~OPTIONS_JSON_PATCH
							       : flags);
	} else {
		schema = json_object();
	}
	if (!put_kind(schema, option, patch || !option->json_required)) {
		return NULL;
	}
	if (option->help != NULL && !json_put(schema, "description", json_string(option->help))) {
		return NULL;
	}
	if (option->deprecated && !json_put(schema, "deprecated", json_true())) {
		return NULL;
	}
	if (fallback != NULL && !patch && json_object_set(schema, "default", fallback) != 0) {
		return NULL;
	}
	return take_ptr(schema);
}

static json_t *object_schema(const struct option_table *table, unsigned int flags)
{
	struct option_iter at = option_iter(table);
	auto_json json_t *schema = json_object();
	auto_json json_t *properties = json_object();
	auto_json json_t *required = json_array();

	while (option_next(&at)) {
		const struct option *option = at.option;

		if (!option_has_json(option)) {
			continue;
		}
		if (!json_put(properties, option->json, option_schema(option, flags))) {
			return NULL;
		}
		if (option->json_required && (flags & OPTIONS_JSON_PATCH) == 0 &&
		    json_array_append_new(required, json_string(option->json)) != 0) {
			return NULL;
		}
	}
	if (!json_put(schema, "type", json_string("object")) ||
	    json_object_set(schema, "properties", properties) != 0 ||
	    !json_put(schema, "additionalProperties", json_false())) {
		return NULL;
	}
	if (json_array_size(required) != 0 && json_object_set(schema, "required", required) != 0) {
		return NULL;
	}
	return take_ptr(schema);
}

json_t *options_schema(const struct option_table *table, unsigned int flags)
{
	auto_json json_t *schema = object_schema(table, flags);

	if (schema == NULL || ((flags & OPTIONS_JSON_PATCH) != 0 &&
			       !json_put(schema, "minProperties", json_integer(1)))) {
		return NULL;
	}
	return take_ptr(schema);
}

/* Two options may write the same member: of one that is kept for the second time there are two. */
bool options_keep(const struct option_table *table, void *object,
		  char *(*keep)(void *arg, const char *text), void *arg)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		void *member = (char *)object + at.base + at.option->offset;
		const char **text = member;

		if (at.option->type == OPTION_OBJECT &&
		    !options_keep(at.option->object, member, keep, arg)) {
			return false;
		}
		if (at.option->type == OPTION_STRING && *text != NULL) {
			char *kept = keep(arg, *text);

			if (kept == NULL) {
				return false;
			}
			*text = kept;
		}
	}
	return true;
}

/* Calls use() for every string in the object, also inside embedded ones, until it says false. */
static bool each_string(const struct option_table *table, char *copy, const char *object,
			bool (*use)(char **copy, const char *original))
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		size_t offset = at.base + at.option->offset;
		const char *from = object != NULL ? object + offset : NULL;

		if (at.option->type == OPTION_OBJECT &&
		    !each_string(at.option->object, copy + offset, from, use)) {
			return false;
		}
		if (at.option->type == OPTION_STRING &&
		    !use((char **)(void *)(copy + offset),
			 from != NULL ? *(const char *const *)(const void *)from : NULL)) {
			return false;
		}
	}
	return true;
}

static bool forget(char **copy, const char *original)
{
	(void)original;
	*copy = NULL;
	return true;
}

static bool release(char **copy, const char *original)
{
	(void)original;
	free(*copy);
	*copy = NULL;
	return true;
}

/* Two options may write the same member: that is one string. */
static bool duplicate(char **copy, const char *original)
{
	if (original != NULL && *copy == NULL) {
		*copy = strdup(original);
		return *copy != NULL;
	}
	return true;
}

/* A clone shares them: nobody changes one. In tables of requests only, not in embedded ones. */
static void hold_arrays(const struct option_table *table, void *copy)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		if (at.option->type == OPTION_OBJECTS) {
			(void)json_incref(
				*(json_t **)(void *)((char *)copy + at.base + at.option->offset));
		}
	}
}

int options_clone(const struct option_table *table, void *copy, const void *object, size_t size,
		  struct error *e)
{
	memcpy(copy, object, size);
	hold_arrays(table, copy);
	(void)each_string(table, copy, NULL, forget);
	if (!each_string(table, copy, object, duplicate)) {
		options_release(table, copy);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	return 0;
}

void options_release(const struct option_table *table, void *clone)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		if (at.option->type == OPTION_OBJECTS) {
			json_t **array = (void *)((char *)clone + at.base + at.option->offset);

			json_decref(take_ptr(*array));
		}
	}
	(void)each_string(table, clone, NULL, release);
}
