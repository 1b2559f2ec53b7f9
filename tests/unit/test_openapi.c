/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API's description: the same each time, complete, and sound as far as this can be told without
 * a validator (tests/api/validate-openapi uses one): every reference leads somewhere, every
 * component is used, operation ids are unique, every schema is of a form that we write.
 */
#include "harness/check_main.h"

#include <ctype.h>

#include "../../src/api/routes.h"
#include "vmm/api.h"

static json_t *document;

static void setup(void)
{
	document = api_describe();
	ck_assert_ptr_nonnull(document);
}

static void teardown(void)
{
	json_decref(document);
}

static json_t *at(const json_t *value, const char *a, const char *b, const char *c)
{
	json_t *ret = json_object_get(value, a);

	ret = b != NULL ? json_object_get(ret, b) : ret;
	return c != NULL ? json_object_get(ret, c) : ret;
}

START_TEST(test_same)
{
	auto_json json_t *again = api_describe();
	size_t len, len2;
	char *text = json_text(document, &len), *text2 = json_text(again, &len2);

	ck_assert_str_eq(text, text2);
	ck_assert_str_eq(json_string_value(json_object_get(document, "openapi")), "3.1.0");
	ck_assert_str_eq(json_string_value(at(document, "info", "version", NULL)), VMM_VERSION);
	free(text);
	free(text2);
}
END_TEST

static json_t *operation_of(const struct route *route)
{
	const char *name = http_method_name(route->method);
	char method[8] = "";

	for (size_t i = 0; name[i] != '\0'; i++) {
		method[i] = (char)tolower((unsigned char)name[i]);
	}
	return at(document, "paths", route->path, method);
}

static bool has_response(const json_t *operation, const char *status)
{
	return at(operation, "responses", status, NULL) != NULL;
}

START_TEST(test_operation)
{
	const struct route *route = &routes[_i];
	const json_t *operation = operation_of(route);
	bool later = route->kind == ROUTE_LATER;
	size_t len;

	ck_assert_ptr_nonnull(operation);
	ck_assert_str_eq(json_string_value(json_object_get(operation, "operationId")),
			 route_name(route));
	ck_assert_uint_gt(json_string_length(json_object_get(operation, "summary")), 0);
	ck_assert(has_response(operation, "400"));
	ck_assert_int_eq(has_response(operation, "200") + has_response(operation, "204"), !later);
	ck_assert_int_eq(has_response(operation, "413"), route->body != NULL);
	ck_assert_int_eq(json_object_get(operation, "requestBody") != NULL, route->body != NULL);
	if (route_parameter(route, &len) != NULL) {
		const json_t *parameter =
			json_array_get(json_object_get(operation, "parameters"), 0);

		ck_assert_str_eq(json_string_value(json_object_get(parameter, "in")), "path");
		ck_assert_uint_eq(json_string_length(json_object_get(parameter, "name")), len);
	}
}
END_TEST

/* "#/components/schemas/Name" leads to an object, and is counted there. */
static void follow(const char *target, json_t *used)
{
	char kind[16], name[64];

	ck_assert_int_eq(sscanf(target, "#/components/%15[a-z]/%63[A-Za-z0-9]", kind, name), 2);
	ck_assert_msg(json_is_object(at(document, "components", kind, name)), "%s", target);
	json_object_set_new(used, name, json_true());
}

static void walk(const json_t *value, json_t *used)
{
	void *iter = json_object_iter((json_t *)(uintptr_t)value);

	for (size_t i = 0; i < json_array_size(value); i++) {
		walk(json_array_get(value, i), used);
	}
	for (; iter != NULL; iter = json_object_iter_next((json_t *)(uintptr_t)value, iter)) {
		const json_t *member = json_object_iter_value(iter);

		if (strcmp(json_object_iter_key(iter), "$ref") == 0) {
			follow(json_string_value(member), used);
		}
		walk(member, used);
	}
}

START_TEST(test_references)
{
	auto_json json_t *used = json_object();
	static const char *const kinds[] = { "schemas", "responses" };

	walk(document, used);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const char *name;
		json_t *value;

		json_object_foreach(at(document, "components", kinds[i], NULL), name, value)
		{
			/* Event is what the lines of a stream are: its type is text. */
			ck_assert_msg(json_object_get(used, name) != NULL ||
					      strcmp(name, "Event") == 0,
				      "%s is not used", name);
		}
	}
}
END_TEST

static void check_schema(const char *name, const json_t *schema)
{
	static const char *const types[] = { "object",	"array",  "string", "integer",
					     "boolean", "number", NULL };
	const json_t *type = json_object_get(schema, "type");
	const char *text = json_string_value(json_is_array(type) ? json_array_get(type, 0) : type);
	size_t i = 0;

	if (json_object_get(schema, "anyOf") != NULL) {
		schema = json_array_get(json_object_get(schema, "anyOf"), 0);
		type = json_object_get(schema, "type");
		text = json_string_value(type);
	}
	if (json_object_get(schema, "$ref") != NULL) {
		return;
	}
	ck_assert_msg(text != NULL, "%s has no type", name);
	while (types[i] != NULL && strcmp(types[i], text) != 0) {
		i++;
	}
	ck_assert_msg(types[i] != NULL, "%s: type %s", name, text);
	if (strcmp(text, "object") == 0) {
		const json_t *properties = json_object_get(schema, "properties");
		const char *key;
		json_t *value;
		size_t k;

		json_object_foreach((json_t *)(uintptr_t)properties, key, value)
		{
			check_schema(key, value);
		}
		json_array_foreach(json_object_get(schema, "required"), k, value)
		{
			ck_assert_ptr_nonnull(
				json_object_get(properties, json_string_value(value)));
		}
	}
	if (strcmp(text, "array") == 0) {
		check_schema(name, json_object_get(schema, "items"));
	}
}

START_TEST(test_schemas)
{
	const char *name;
	json_t *schema;

	json_object_foreach(at(document, "components", "schemas", NULL), name, schema)
	{
		check_schema(name, schema);
	}
	/* Bodies refuse what they do not know; ranges come from the option tables. */
	schema = at(document, "components", "schemas", "ConsoleUpdate");
	ck_assert(json_is_false(json_object_get(schema, "additionalProperties")));
	ck_assert_int_eq(json_integer_value(at(schema, "properties", "rows", "minimum")), 1);
	ck_assert_int_eq(json_integer_value(at(schema, "properties", "rows", "maximum")),
			 UINT16_MAX);
}
END_TEST

START_TEST(test_error_codes)
{
	const json_t *codes =
		at(at(document, "components", "schemas", "Error"), "properties", "code", "enum");

	ck_assert_uint_eq(json_array_size(codes), ERROR_CODES - 1);
}
END_TEST

CHECK_MAIN("openapi", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_same);
	   CHECK_LOOP(test_operation, route_count); CHECK_TEST(test_references);
	   CHECK_TEST(test_schemas); CHECK_TEST(test_error_codes))
