/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a request of HTTP, as the server hands it over, to a typed request. Server and
 * instance are counterfeit; between them is the whole API. The input is a recipe: a method, a route
 * or any path, a body that is any text or an object with many of the right keys.
 *
 * Beyond crashes: each request gets exactly one answer or reaches the instance exactly once, not
 * both; what reaches the instance has the id and the object that its type wants, and fits the schema
 * that the API's description gives for its body; a refusal says why and has a status that there is.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/api/routes.h"
#include "fuzz_input.h"
#include "harness/json_schema.h"
#include "vmm/api.h"
#include "vmm/options_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the counterfeits saw of the request at hand. */
static struct {
	struct http_server_config server;
	struct event_log events;
	unsigned int answers, requests, streams;
	enum http_method method;
	bool ended; /* a stream */
} seen;
static struct schema_check description;

/* A server whose one call is `seen`. */

const char *http_method_name(enum http_method method)
{
	static const char *const names[HTTP_METHODS] = { "GET",	 "PUT",	 "PATCH",  "DELETE",
							 "POST", "HEAD", "OPTIONS" };

	return names[method];
}

int http_server_create(struct http_server **ret, const struct http_server_config *config,
		       struct error *e)
{
	(void)e;
	seen.server = *config;
	*ret = (struct http_server *)(void *)&seen;
	return 0;
}

int http_server_listen(struct http_server *server, int fd, struct error *e)
{
	(void)server;
	(void)fd;
	(void)e;
	return 0;
}

void http_server_unlisten(struct http_server *server)
{
	(void)server;
}

void http_server_stats(const struct http_server *server, struct http_server_stats *stats)
{
	(void)server;
	*stats = (struct http_server_stats){ .requests = 1 };
}

void http_server_destroy(struct http_server *server)
{
	(void)server;
}

void http_server_flush(struct http_server *server, int timeout_ms)
{
	(void)server;
	(void)timeout_ms;
}

void http_call_reply(struct http_call *call, int status, const char *type, char *body, size_t len)
{
	(void)call;
	(void)type;
	VMM_BUG_ON(status != 200 && status != 204);
	VMM_BUG_ON((body == NULL) != (len == 0) || (status == 204 && body != NULL));
	free(body);
	seen.answers++;
}

void http_call_reply_error(struct http_call *call, int status, const struct error *e,
			   const char *allow)
{
	auto_json json_t *text = json_string(e->msg), *hint = json_string(e->hint);

	(void)call;
	VMM_BUG_ON(status != 400 && status != 404 && status != 405);
	VMM_BUG_ON((status == 405) != (allow != NULL));
	/* Also valid UTF-8. */
	VMM_BUG_ON(e->code == ERROR_NONE || e->msg[0] == '\0' || text == NULL || hint == NULL);
	seen.answers++;
}

void http_call_set_deprecated(struct http_call *call)
{
	(void)call;
}

void http_call_reply_allow(struct http_call *call, const char *allow)
{
	(void)call;
	VMM_BUG_ON(seen.method != HTTP_OPTIONS || strstr(allow, "OPTIONS") == NULL);
	seen.answers++;
}

void http_call_begin_stream(struct http_call *call, const char *type, void (*closed)(void *arg),
			    void *arg)
{
	(void)call;
	(void)type;
	(void)closed;
	(void)arg;
	seen.streams++;
}

void http_call_stream(struct http_call *call, const char *data, size_t len)
{
	(void)call;
	VMM_BUG_ON(seen.streams != 1 || seen.ended || len == 0 || data[len - 1] != '\n');
}

void http_call_end_stream(struct http_call *call)
{
	(void)call;
	VMM_BUG_ON(seen.streams != 1 || seen.ended);
	seen.ended = true;
}

/* An instance that does nothing. */

static void check_object(const struct request *request, const struct request_info *info)
{
	for (size_t i = 0; i < route_count; i++) {
		const struct route *route = &routes[i];

		if (route->kind != ROUTE_REQUEST || route->request != request->type ||
		    route->body == NULL || info->body == NULL) {
			continue;
		}
		VMM_BUG_ON(request->json == NULL || request->object == NULL);
		if (!schema_fits(&description, route->body, schema_of(&description, route->body),
				 request->json)) {
			(void)fprintf(stderr, "accepted against the schema: %s\n", description.why);
			abort();
		}
	}
}

void instance_request(struct instance *instance, const struct request *request,
		      struct instance_call *call)
{
	const struct request_info *info = &request_infos[request->type];
	struct error e;

	(void)instance;
	VMM_BUG_ON(info->has_id != (request->id != NULL));
	VMM_BUG_ON(request->id != NULL &&
		   route_check_id(request->id, strlen(request->id), NULL) < 0);
	check_object(request, info);
	seen.requests++;
	if (request->type % 2 == 0) {
		call->done(call, info->replies ? json_object() : NULL, NULL);
	} else {
		(void)error_set(&e, ERROR_NOT_FOUND, 0, "not here");
		call->done(call, NULL, &e);
	}
}

bool instance_is_firecracker(const struct instance *instance)
{
	(void)instance;
	return false;
}

struct event_log *instance_events(struct instance *instance)
{
	(void)instance;
	return &seen.events;
}

void instance_write_metrics(struct instance *instance, struct metrics_text *text)
{
	(void)instance;
	metrics_begin(text, "vmm_fuzz", METRIC_GAUGE, "Nothing");
	metrics_sample(text, NULL, NULL, 1);
}

/* Requests. */

static json_t *make_member(struct fuzz_input *in, const json_t *schema, int depth);

static json_t *make_object(struct fuzz_input *in, const json_t *schema, int depth)
{
	json_t *properties = json_object_get(schema, "properties"), *object = json_object(), *value;
	const char *key;

	if (fuzz_take(in, 1) % 32 == 31) {
		(void)json_object_set_new(object, "unknown", json_true());
	}
	json_object_foreach(properties, key, value)
	{
		if (fuzz_take(in, 1) % 4 != 3) {
			(void)json_object_set_new(object, key, make_member(in, value, depth + 1));
		}
	}
	return object;
}

static json_t *make_any(struct fuzz_input *in)
{
	static const char *const texts[] = { "", "a", "06:00:ac:10:00:02", "x\ny", "\xc3\xa9" };
	uint64_t kind = fuzz_take(in, 1);

	switch (kind % 8) {
	case 0:
		return json_null();
	case 1:
		return json_boolean(kind & 8);
	case 2:
		return json_real((double)kind / 16);
	case 3:
		return json_integer((json_int_t)fuzz_take(in, 8));
	case 4:
		return json_integer((json_int_t)fuzz_take(in, 1) - 16);
	case 5:
		return json_pack("[n]");
	default:
		return json_string(texts[kind / 8 % ARRAY_SIZE(texts)]);
	}
}

/* Mostly of the right type. */
static json_t *make_member(struct fuzz_input *in, const json_t *schema, int depth)
{
	json_t *list = json_object_get(schema, "enum");
	uint64_t kind = fuzz_take(in, 1);

	if (kind % 32 == 31 || depth > 6) {
		return make_any(in);
	}
	if (list != NULL) {
		return json_incref(json_array_get(list, kind / 8 % json_array_size(list)));
	}
	if (json_object_get(schema, "properties") != NULL) {
		return make_object(in, schema, depth);
	}
	if (json_object_get(schema, "minimum") != NULL) {
		return json_integer((json_int_t)fuzz_take(in, kind % 2 == 0 ? 1 : 4));
	}
	if (json_object_get(schema, "pattern") != NULL) {
		return json_string(kind % 2 == 0 ? "a" : "06:00:ac:10:00:02");
	}
	return json_boolean(kind & 8);
}

/* malloc'ed, with its NUL. */
static char *make_body(struct fuzz_input *in, const struct route *route, size_t *len)
{
	auto_json json_t *object = NULL;
	char *text;

	if (route != NULL && route->body != NULL && fuzz_take(in, 1) % 8 != 7) {
		object = make_object(in, schema_of(&description, route->body), 0);
		text = json_text(object, len);
		VMM_BUG_ON(text == NULL);
		return text;
	}
	text = malloc(in->len + 1);
	VMM_BUG_ON(text == NULL);
	memcpy(text, in->data, in->len);
	text[in->len] = '\0';
	*len = in->len;
	return text;
}

/* Of a route, or anything. `query` gets what is behind '?'. */
static const struct route *make_path(struct fuzz_input *in, char *path, size_t size,
				     const char **query)
{
	const struct route *route = &routes[fuzz_take(in, 1) % route_count];
	uint64_t kind = fuzz_take(in, 1);
	int fixed = (int)strcspn(route->path, "{");
	char raw[9] = "";
	char *mark;

	store_le64(raw, fuzz_take(in, 8));
	if (kind % 8 == 7) {
		route = NULL;
		(void)snprintf(path, size, "/%s", raw);
	} else if (kind % 8 != 6) {
		(void)snprintf(path, size, "%.*s%s", fixed, route->path,
			       route->path[fixed] != '\0' ? "a" : "");
	} else {
		(void)snprintf(path, size, "%.*s%s", fixed, route->path, raw);
	}
	mark = strchr(path, '?');
	if (mark != NULL) {
		*mark = '\0';
		*query = mark + 1;
	}
	return route;
}

static struct api *make_api(void)
{
	struct api *api = NULL;
	struct error e = { 0 };

	json_prepare();
	description.document = api_describe();
	event_log_init(&seen.events);
	event_log_add(&seen.events, "configured", NULL);
	VMM_BUG_ON(api_create(&api, &(struct api_config){ 0 }, &e) != 0);
	return api;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct api *api; /* for the life of the process */
	struct fuzz_input in = { data, size };
	const char *query = NULL;
	const struct route *route;
	char path[128];
	size_t len;
	char *body;

	if (api == NULL) {
		api = make_api();
	}
	seen.answers = seen.requests = seen.streams = 0;
	seen.ended = false;
	description.why[0] = '\0';
	route = make_path(&in, path, sizeof(path), &query);
	seen.method = fuzz_take(&in, 1) % 8 == 7 || route == NULL
			      ? (enum http_method)(fuzz_take(&in, 1) % HTTP_METHODS)
			      : route->method;
	body = make_body(&in, route, &len);
	/* None where there must be none, mostly. */
	if ((fuzz_take(&in, 1) % 16 == 15) != (route == NULL || route->body == NULL)) {
		len = 0;
		body[0] = '\0';
	}
	seen.server.handle(seen.server.arg, (struct http_call *)(void *)&seen,
			   &(struct http_request){ .method = seen.method,
						   .path = path,
						   .query = query,
						   .body = body,
						   .body_len = len });
	free(body);
	VMM_BUG_ON(seen.answers + seen.streams != 1 || seen.requests > 1);
	if (seen.streams == 1 && !seen.ended) {
		/* It would be told of what comes, for ever: as when the client goes. */
		VMM_BUG_ON(seen.events.subscribers == NULL);
		api_destroy(api);
		VMM_BUG_ON(!seen.ended || seen.events.subscribers != NULL);
		api = NULL;
		json_decref((json_t *)(uintptr_t)description.document);
		event_log_finish(&seen.events);
	}
	return 0;
}
