/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API's description (OpenAPI 3.1), made from the table of routes, the option tables of the
 * objects in bodies, and the schemas of answers. What the server does by the same tables cannot
 * differ from it; docs/openapi.json is this text, compared by a test.
 *
 * Only constant data goes in, so the document is the same each time and on each host. Any thread.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "routes.h"
#include "schemas.h"
#include "vmm/api.h"
#include "vmm/cleanup.h"
#include "vmm/options_json.h"

static const char description[] =
	"The API of one virtual machine, spoken as HTTP/1.1 on a Unix socket. It is that of "
	"Firecracker, extended. Firecracker's endpoints whose device this version "
	"does not have are listed, and refuse with the code `not-supported`.\n\n"
	"Success is 200 with JSON, or 204. Whatever is refused has changed nothing; the answer "
	"has a text for people (`fault_message`), a name for programs that never changes "
	"(`code`), and often a cure (`hint`). The status is 400, as in Firecracker, also for a "
	"method that a path does not have; only paths that Firecracker does not have answer 405 "
	"with `Allow`, and paths that nobody has 404. HEAD is answered wherever GET is, OPTIONS "
	"everywhere, with 204 and `Allow`. A '/' at the end of a path makes no difference, nor do "
	"more segments behind a path of Firecracker's.\n\n"
	"What is no proper HTTP is refused with the status that HTTP has for it, and the same "
	"JSON with the text also as `error`.";

static bool append(json_t *array, json_t *value)
{
	return json_array_append_new(array, value) == 0;
}

static json_t *reference(const char *kind, const char *name)
{
	return json_pack("{s:o}", "$ref", json_sprintf("#/components/%s/%s", kind, name));
}

static json_t *json_content(const char *type, json_t *schema)
{
	return json_pack("{s:{s:o}}", type, "schema", schema);
}

/* Schemas. */

static json_t *enum_schema(const char *names, size_t len)
{
	auto_json json_t *list = json_array();
	const char *end = names + len;

	while (names < end) {
		const char *bar = memchr(names, '|', (size_t)(end - names));
		const char *stop = bar != NULL ? bar : end;

		if (!append(list, json_stringn(names, (size_t)(stop - names)))) {
			return NULL;
		}
		names = stop + 1;
	}
	return json_pack("{s:s, s:O}", "type", "string", "enum", list);
}

static json_t *error_code_schema(void)
{
	auto_json json_t *list = json_array();

	for (int code = ERROR_NONE + 1; code < ERROR_CODES; code++) {
		if (!append(list, json_string(error_code_name((enum error_code)code)))) {
			return NULL;
		}
	}
	return json_pack("{s:s, s:O}", "type", "string", "enum", list);
}

static json_t *plain_schema(const char *type, size_t len)
{
	if (memchr(type, '|', len) != NULL) {
		return enum_schema(type, len);
	}
	if (isupper((unsigned char)type[0])) {
		return json_pack("{s:o}", "$ref",
				 json_sprintf("#/components/schemas/%.*s", (int)len, type));
	}
	if (len == strlen("error-code") && memcmp(type, "error-code", len) == 0) {
		return error_code_schema();
	}
	if (len == strlen("integer") && memcmp(type, "integer", len) == 0) {
		return json_pack("{s:s, s:i}", "type", "integer", "minimum", 0);
	}
	return json_pack("{s:o}", "type", json_stringn(type, len));
}

/* Of the notation of struct schema_field. */
static json_t *type_schema(const char *type)
{
	size_t len = strlen(type);
	bool nullable = len > 1 && type[len - 1] == '?';
	auto_json json_t *schema = NULL;

	len -= nullable;
	if (len > 2 && memcmp(type + len - 2, "[]", 2) == 0) {
		schema = json_pack("{s:s, s:o}", "type", "array", "items",
				   plain_schema(type, len - 2));
	} else {
		schema = plain_schema(type, len);
	}
	return nullable ? json_pack("{s:[O, {s:s}]}", "anyOf", schema, "type", "null")
			: take_ptr(schema);
}

static json_t *field_schema(const struct schema_field *field)
{
	auto_json json_t *schema = type_schema(field->type);

	if (field->help != NULL && !json_put(schema, "description", json_string(field->help))) {
		return NULL;
	}
	return take_ptr(schema);
}

static json_t *table_schema(const struct schema *table)
{
	auto_json json_t *properties = json_object();
	auto_json json_t *required = json_array();
	auto_json json_t *schema = NULL;

	for (size_t i = 0; i < table->count; i++) {
		const struct schema_field *field = &table->fields[i];
		size_t len = strcspn(field->key, "?");
		json_t *value = field_schema(field);

		if (json_object_setn_new(properties, field->key, len, value) != 0 ||
		    (field->key[len] == '\0' && !append(required, json_string(field->key)))) {
			return NULL;
		}
	}
	schema = json_pack("{s:s, s:s, s:O, s:O}", "type", "object", "description", table->help,
			   "properties", properties, "required", required);
	if (table->closed && !json_put(schema, "additionalProperties", json_false())) {
		return NULL;
	}
	return take_ptr(schema);
}

/* Bodies with an option table. One name may stand at several routes; they have the same table. */
static bool put_body_schemas(json_t *all)
{
	for (size_t i = 0; i < route_count; i++) {
		const struct request_info *info = &request_infos[routes[i].request];

		if (routes[i].kind == ROUTE_REQUEST && routes[i].body != NULL &&
		    info->body != NULL &&
		    !json_put(all, routes[i].body,
			      options_schema(info->body, info->patch ? OPTIONS_JSON_PATCH : 0))) {
			return false;
		}
	}
	return true;
}

static json_t *describe_schemas(void)
{
	auto_json json_t *all = json_object();

	for (size_t i = 0; i < schema_count; i++) {
		if (!json_put(all, schemas[i].name, table_schema(&schemas[i]))) {
			return NULL;
		}
	}
	return put_body_schemas(all) ? take_ptr(all) : NULL;
}

/* Operations. */

static json_t *path_parameter(const struct route *route)
{
	size_t len;
	const char *name = route_parameter(route, &len);

	return json_pack("{s:s%, s:s, s:b, s:{s:s, s:s, s:i, s:i}}", "name", name, len, "in",
			 "path", "required", 1, "schema", "type", "string", "pattern",
			 "^[A-Za-z0-9_]+$", "minLength", 1, "maxLength", ROUTE_ID_MAX);
}

static bool put_event_parameters(json_t *parameters)
{
	return append(parameters,
		      json_pack("{s:s, s:s, s:s, s:{s:s, s:i, s:i}}", "name", "after", "in",
				"query", "description",
				"Leave out events up to this number; without it, all that are kept "
				"come first",
				"schema", "type", "integer", "minimum", 0, "default", 0)) &&
	       append(parameters,
		      json_pack("{s:s, s:s, s:s, s:{s:s, s:b}}", "name", "follow", "in", "query",
				"description", "false: end after the events that are kept",
				"schema", "type", "boolean", "default", 1));
}

/* What a request takes in its query, by its table. */
static bool put_query(json_t *parameters, const struct option_table *table)
{
	struct option_iter at = option_iter(table);
	bool ok = true;

	while (ok && option_next(&at)) {
		const struct option *option = at.option;
		const char *type = option->type == OPTION_FLAG ? "boolean" : "string";

		ok = append(parameters,
			    json_pack("{s:s, s:s, s:s, s:b, s:{s:s, s:s*}}", "name", option->name,
				      "in", "query", "description", option->help, "allowEmptyValue",
				      option->type == OPTION_FLAG, "schema", "type", type,
				      "default", option->fallback));
	}
	return ok;
}

static bool put_parameters(json_t *operation, const struct route *route)
{
	auto_json json_t *parameters = json_array();
	size_t len;

	if (route_parameter(route, &len) != NULL && !append(parameters, path_parameter(route))) {
		return false;
	}
	if (route->kind == ROUTE_EVENTS && !put_event_parameters(parameters)) {
		return false;
	}
	if (route->kind == ROUTE_REQUEST && request_infos[route->request].query &&
	    !put_query(parameters, request_infos[route->request].body)) {
		return false;
	}
	return json_array_size(parameters) == 0 ||
	       json_object_set(operation, "parameters", parameters) == 0;
}

static json_t *success_content(const struct route *route)
{
	switch (route->kind) {
	case ROUTE_METRICS:
		return json_content("text/plain", json_pack("{s:s}", "type", "string"));
	case ROUTE_EVENTS:
		return json_content("application/x-ndjson",
				    json_pack("{s:s, s:s}", "type", "string", "description",
					      "Lines, each a JSON object: the schema Event"));
	default:
		return json_content("application/json", type_schema(route->reply));
	}
}

static json_t *describe_responses(const struct route *route)
{
	auto_json json_t *responses = json_pack("{s:o}", "400", reference("responses", "Refused"));
	bool replies = route->reply != NULL || route->kind == ROUTE_METRICS;
	size_t len;

	if (route->kind == ROUTE_LATER) {
		return take_ptr(responses);
	}
	if (replies ? !json_put(responses, "200",
				json_pack("{s:s, s:o}", "description", "Success", "content",
					  success_content(route)))
		    : !json_put(responses, "204", json_pack("{s:s}", "description", "Success"))) {
		return NULL;
	}
	if (route->ours && route_parameter(route, &len) != NULL &&
	    !json_put(responses, "404", reference("responses", "NotFound"))) {
		return NULL;
	}
	if (route->body != NULL &&
	    !json_put(responses, "413", reference("responses", "TooLarge"))) {
		return NULL;
	}
	return take_ptr(responses);
}

static const char *when_allowed(const struct route *route)
{
	const struct request_info *info = &request_infos[route->request];

	if (route->kind == ROUTE_LATER) {
		return route->missing;
	}
	if (route->kind != ROUTE_REQUEST || (info->before_start && info->after_start)) {
		return "At any time.";
	}
	return info->before_start ? "Before the VM was started." : "Once the VM was started.";
}

static json_t *describe_operation(const struct route *route)
{
	auto_json json_t *operation =
		json_pack("{s:s, s:s, s:s, s:o}", "operationId", route_name(route), "summary",
			  route_summary(route), "description", when_allowed(route), "responses",
			  describe_responses(route));

	if (!put_parameters(operation, route)) {
		return NULL;
	}
	if (route->body != NULL &&
	    !json_put(operation, "requestBody",
		      json_pack("{s:b, s:o}", "required", 1, "content",
				json_content("application/json",
					     reference("schemas", route->body))))) {
		return NULL;
	}
	return take_ptr(operation);
}

static json_t *describe_paths(void)
{
	auto_json json_t *paths = json_object();

	for (size_t i = 0; i < route_count; i++) {
		json_t *path = json_object_get(paths, routes[i].path);
		char method[8] = "";

		if (path == NULL) {
			path = json_object();
			if (!json_put(paths, routes[i].path, path)) {
				return NULL;
			}
		}
		for (size_t k = 0; k < sizeof(method) - 1; k++) {
			char c = http_method_name(routes[i].method)[k];

			method[k] = (char)tolower((unsigned char)c);
			if (c == '\0') {
				break;
			}
		}
		if (!json_put(path, method, describe_operation(&routes[i]))) {
			return NULL;
		}
	}
	return take_ptr(paths);
}

static json_t *error_response(const char *what)
{
	return json_pack("{s:s, s:o}", "description", what, "content",
			 json_content("application/json", reference("schemas", "Error")));
}

static json_t *describe_info(void)
{
	return json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "title", "vmm", "version", VMM_VERSION,
			 "description", description, "license", "name", "Apache-2.0", "identifier",
			 "Apache-2.0");
}

static json_t *describe_errors(void)
{
	return json_pack("{s:o, s:o, s:o}", "Refused",
			 error_response("Refused; nothing has changed"), "NotFound",
			 error_response("There is nothing of that name"), "TooLarge",
			 error_response("The body is larger than the server takes"));
}

json_t *api_describe(void)
{
	return json_pack("{s:s, s:o, s:[{s:s, s:s}], s:o, s:{s:o, s:o}}", "openapi", "3.1.0",
			 "info", describe_info(), "servers", "url", "http://localhost",
			 "description", "the Unix socket of the VM", "paths", describe_paths(),
			 "components", "schemas", describe_schemas(), "responses",
			 describe_errors());
}
