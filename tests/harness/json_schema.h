/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a JSON value fit a schema of the API's description? Knows what that uses: type, enum, $ref,
 * anyOf, properties, required, additionalProperties, minProperties, items, minimum, maximum,
 * minLength; not pattern. Says where it does not fit.
 */
#ifndef VMM_TESTS_JSON_SCHEMA_H
#define VMM_TESTS_JSON_SCHEMA_H

#include <stdio.h>
#include <string.h>

#include "vmm/json.h"

struct schema_check {
	const json_t *document; /* where references lead */
	bool closed;   /* keys that no schema names are wrong, even where they are allowed */
	char why[256]; /* "" as long as all fits */
};

static inline bool schema_wrong(struct schema_check *check, const char *place, const char *why)
{
	if (check->why[0] == '\0') {
		(void)snprintf(check->why, sizeof(check->why), "%.200s: %.40s", place, why);
	}
	return false;
}

static inline const json_t *schema_of(const struct schema_check *check, const char *name)
{
	const json_t *components = json_object_get(check->document, "components");

	return json_object_get(json_object_get(components, "schemas"), name);
}

static inline bool schema_type_is(const json_t *value, const char *type)
{
	return (strcmp(type, "object") == 0 && json_is_object(value)) ||
	       (strcmp(type, "array") == 0 && json_is_array(value)) ||
	       (strcmp(type, "string") == 0 && json_is_string(value)) ||
	       (strcmp(type, "integer") == 0 && json_is_integer(value)) ||
	       (strcmp(type, "number") == 0 && json_is_number(value)) ||
	       (strcmp(type, "boolean") == 0 && json_is_boolean(value)) ||
	       (strcmp(type, "null") == 0 && json_is_null(value));
}

static inline bool schema_has_type(const json_t *schema, const json_t *value)
{
	const json_t *type = json_object_get(schema, "type"), *one;
	size_t i;

	if (json_is_string(type)) {
		return schema_type_is(value, json_string_value(type));
	}
	json_array_foreach(type, i, one)
	{
		if (schema_type_is(value, json_string_value(one))) {
			return true;
		}
	}
	return type == NULL;
}

static inline bool schema_has_value(const json_t *schema, const json_t *value)
{
	const json_t *list = json_object_get(schema, "enum"), *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		if (json_equal(one, value)) {
			return true;
		}
	}
	return list == NULL;
}

static inline bool schema_in_range(const json_t *schema, const json_t *value)
{
	const json_t *low = json_object_get(schema, "minimum");
	const json_t *high = json_object_get(schema, "maximum");
	json_int_t n = json_integer_value(value);

	if (json_is_string(value)) {
		return (json_int_t)json_string_length(value) >=
		       json_integer_value(json_object_get(schema, "minLength"));
	}
	return !json_is_integer(value) || ((low == NULL || n >= json_integer_value(low)) &&
					   (high == NULL || n <= json_integer_value(high)));
}

static inline bool schema_fits(struct schema_check *check, const char *place, const json_t *schema,
			       const json_t *value);

static inline bool schema_object_fits(struct schema_check *check, const char *place,
				      const json_t *schema, const json_t *value)
{
	const json_t *properties = json_object_get(schema, "properties");
	bool closed = json_is_false(json_object_get(schema, "additionalProperties")) ||
		      (check->closed && properties != NULL);
	json_t *object = (json_t *)(uintptr_t)value, *member;
	const char *key;
	size_t i;

	if ((json_int_t)json_object_size(value) <
	    json_integer_value(json_object_get(schema, "minProperties"))) {
		return schema_wrong(check, place, "too few members");
	}
	json_object_foreach(object, key, member)
	{
		const json_t *property = json_object_get(properties, key);
		char inner[256];

		(void)snprintf(inner, sizeof(inner), "%.170s/%.80s", place, key);
		if (property == NULL && closed) {
			return schema_wrong(check, inner, "not described");
		}
		if (property != NULL && !schema_fits(check, inner, property, member)) {
			return false;
		}
	}
	json_array_foreach(json_object_get(schema, "required"), i, member)
	{
		if (json_object_get(value, json_string_value(member)) == NULL) {
			return schema_wrong(check, place, json_string_value(member));
		}
	}
	return true;
}

/* Schemas do not refer to themselves, so this ends. */
static inline bool schema_fits(struct schema_check *check, const char *place, const json_t *schema,
			       const json_t *value)
{
	const char *reference = json_string_value(json_object_get(schema, "$ref"));
	const json_t *either = json_object_get(schema, "anyOf"), *item;
	size_t i;

	if (reference != NULL) {
		schema = schema_of(check, strrchr(reference, '/') + 1);
	}
	if (either != NULL) { /* something, or null */
		return json_is_null(value) ||
		       schema_fits(check, place, json_array_get(either, 0), value);
	}
	if (schema == NULL || !schema_has_type(schema, value)) {
		return schema_wrong(check, place, "wrong type");
	}
	if (!schema_has_value(schema, value) || !schema_in_range(schema, value)) {
		return schema_wrong(check, place, "wrong value");
	}
	if (json_is_object(value) && !schema_object_fits(check, place, schema, value)) {
		return false;
	}
	json_array_foreach(value, i, item)
	{
		if (!schema_fits(check, place, json_object_get(schema, "items"), item)) {
			return false;
		}
	}
	return true;
}

#endif
