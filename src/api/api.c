/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API: a request of HTTP becomes a typed request of the instance, and its outcome the answer.
 * Which method and path mean what is in routes.c; what a body may say is in the option table of its
 * object. The texts of errors that Firecracker's API has, too, are Firecracker's, because clients
 * look for them.
 *
 * All is decided before anything is done: a request that is refused here has reached nobody.
 *
 * Everything in a request is the client's. Its body is bounded by the server; parsed, it lives until
 * the answer. Main thread.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api_internal.h"
#include "routes.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/options_json.h"

LOG_DOMAIN("api");

#define FLUSH_MS   100 /* for answers on their way when the API ends */
#define PATH_SHOWN 120 /* bytes of a path that a message repeats */
/* After "Connection: close". Clients of Firecracker's, which never closes, go on with the
 * connection between two steps of theirs; others may wait for the end of file. */
#define CLOSE_GRACE_FIRECRACKER_NS 10000000000ULL
#define CLOSE_GRACE_NS		   1000000000ULL

/* One request at the instance. Lives until it is done, also if the API has gone meanwhile. */
struct api_call {
	struct instance_call base;
	struct http_call *http;
	const struct route *route;
	json_t *body; /* what strings in `object` point into */
	void *object;
	bool log;
	bool firecracker;
	char id[]; /* "": none */
};

/* Clients wait for lines of this form. Not limited, as there: who has the API may end the VM. */
static void log_arrival(const struct http_request *request)
{
	static const char *const methods[HTTP_METHODS] = {
		[HTTP_GET] = "Get",
		[HTTP_PUT] = "Put",
		[HTTP_PATCH] = "Patch",
		[HTTP_DELETE] = "Delete",
	};
	const char *method = methods[request->method];

	if (method == NULL) {
		method = http_method_name(request->method);
	}
	if (request->body_len == 0) {
		log_info("The API server received a %s request on \"%s\".", method, request->path);
	} else {
		log_info("The API server received a %s request on \"%s\" with body \"%s\".", method,
			 request->path, request->body);
	}
}

static void log_outcome(const struct error *failure, bool empty)
{
	if (failure != NULL) {
		log_error("Received Error. Status code: 400 Bad Request. Message: %s",
			  failure->msg);
	} else {
		log_info("The request was executed successfully. Status code: %s.",
			 empty ? "204 No Content" : "200 OK");
	}
}

/* What changes something, or was meant to. A client decides how often: the lines are limited. */
static void log_request(const struct api_call *call, const struct error *failure)
{
	const char *method = http_method_name(call->route->method);
	const char *path = call->route->path;
	const char *of = call->id[0] != '\0' ? " of " : "";

	if (call->firecracker) {
		log_outcome(failure, call->route->method != HTTP_GET);
		return;
	}
	if (!call->log || call->route->method == HTTP_GET) {
		return;
	}
	if (failure != NULL) {
		log_guest(LOG_WARN, "%s %s%s%s: refused: %s%s%s", method, path, of, call->id,
			  failure->msg, failure->hint[0] != '\0' ? "; hint: " : "", failure->hint);
	} else {
		log_guest(LOG_INFO, "%s %s%s%s: done", method, path, of, call->id);
	}
}

void api_show_text(char *buf, size_t size, const char *text, size_t len)
{
	len = MIN(len, size - 1);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		buf[i] = isascii(c) && isprint(c) ? text[i] : '?';
	}
	buf[len] = '\0';
}

void api_reply_no_memory(struct http_call *call)
{
	struct error e;

	(void)error_set(&e, ERROR_NO_MEMORY, ENOMEM, "The host has no memory for this request.");
	http_call_reply_error(call, 400, &e, NULL);
}

void api_reply_json(struct http_call *call, json_t *value, bool sorted)
{
	size_t len;
	char *text = NULL;

	if (value != NULL) {
		text = sorted ? json_text(value, &len) : json_text_in_order(value, &len);
	}
	json_decref(value);
	if (text == NULL) {
		api_reply_no_memory(call);
		return;
	}
	http_call_reply(call, 200, "application/json", text, len);
}

static void destroy_call(struct api_call *call)
{
	json_decref(call->body);
	free(call->object);
	free(call);
}

static void call_done(struct instance_call *base, json_t *reply, const struct error *failure)
{
	struct api_call *call = container_of(base, struct api_call, base);

	log_request(call, failure);
	if (failure != NULL) {
		/* Clients of Firecracker know 400 only. */
		bool absent = call->route->ours && failure->code == ERROR_NOT_FOUND;

		http_call_reply_error(call->http, absent ? 404 : 400, failure, NULL);
		json_decref(reply);
	} else if (reply != NULL) {
		api_reply_json(call->http, reply, !call->firecracker);
	} else {
		http_call_reply(call->http, 204, NULL, NULL, 0);
	}
	destroy_call(call);
}

/* Whatever was wrong with a body's JSON, in the words that clients know. */
static int deserialize_error(struct error *e)
{
	size_t len;

	if (e->code != ERROR_JSON) {
		return error_prefix(e, "request body");
	}
	(void)error_prefix(e, "An error occurred when deserializing the json body of a request");
	len = strlen(e->msg);
	if (len > 0 && len < sizeof(e->msg) - 1 && e->msg[len - 1] != '.') {
		memcpy(e->msg + len, ".", 2);
	}
	return -EINVAL;
}

static int check_id_in_body(const struct api_call *call, struct error *e)
{
	size_t len = 0;
	const char *key = route_parameter(call->route, &len);
	json_t *id = key != NULL ? json_object_getn(call->body, key, len) : NULL;

	if (json_is_string(id) && strcmp(json_string_value(id), call->id) != 0) {
		char shown[65], named[65];

		/* What a path has need not be UTF-8. */
		api_show_text(named, sizeof(named), call->id, strlen(call->id));
		api_show_text(shown, sizeof(shown), json_string_value(id), json_string_length(id));
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"The id from the path does not match the id from the body!");
		return error_hint(e, "'%s' in the path, '%s' as \"%.*s\"", named, shown, (int)len,
				  key);
	}
	return 0;
}

/* An object that gives nothing. */
static bool is_empty(json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		if (!json_is_null(value)) {
			return false;
		}
	}
	return json_is_object(object);
}

static int parse_body(struct api_call *call, const struct http_request *request, struct error *e)
{
	const struct request_info *info = &request_infos[call->route->request];
	unsigned int flags = (info->patch ? OPTIONS_JSON_PATCH : 0) |
			     (call->firecracker ? OPTIONS_JSON_FIRECRACKER : 0);
	int r = json_parse(&call->body, request->body, request->body_len, e);

	if (r < 0) {
		return deserialize_error(e);
	}
	if (info->patch && is_empty(call->body)) {
		(void)error_set(e, ERROR_JSON, EINVAL, "Empty PATCH request.");
		return error_hint(e, "name at least one value to change");
	}
	if (call->route->body == NULL && !is_empty(call->body)) {
		(void)error_set(e, ERROR_JSON, EINVAL, "this request has no fields");
		return error_hint(e, "leave the body out, or send {}");
	}
	r = check_id_in_body(call, e);
	if (r < 0 || info->body == NULL) {
		return r;
	}
	call->object = calloc(1, info->size);
	if (call->object == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	r = options_defaults(info->body, call->object, e);
	if (r < 0) {
		return r;
	}
	r = options_from_json(info->body, call->object, call->body, flags, e);
	if (r < 0) {
		return deserialize_error(e);
	}
	if (options_json_deprecated(info->body, call->body)) {
		http_call_set_deprecated(call->http);
	}
	return 0;
}

static int bad_query(const char *pair, struct error *e)
{
	char shown[PATH_SHOWN];

	api_show_text(shown, sizeof(shown), pair, strlen(pair));
	return error_set(e, ERROR_HTTP, EINVAL, "'%s' in the query is not understood", shown);
}

/* "key=value"; of a flag "key", "key=true" and "key=false". */
static int parse_pair(const struct option_table *table, void *object, char *pair, struct error *e)
{
	struct option_iter at = option_iter(table);
	size_t len = strcspn(pair, "=");
	const char *value = pair[len] == '=' ? pair + len + 1 : "true";
	int r;

	while (option_next(&at)) {
		if (strlen(at.option->name) != len || memcmp(at.option->name, pair, len) != 0) {
			continue;
		}
		if (at.option->type != OPTION_FLAG) {
			r = options_set(at.option, object, at.option->name, value, e);
		} else if (strcmp(value, "true") == 0) {
			r = options_set(at.option, object, at.option->name, NULL, e);
		} else {
			r = strcmp(value, "false") == 0 ? 0 : bad_query(pair, e);
		}
		return r < 0 && e->code == ERROR_USAGE ? bad_query(pair, e) : r;
	}
	return bad_query(pair, e);
}

/* "a=1&b" by the table of the request. Firecracker's requests have no query that means something. */
static int parse_query(struct api_call *call, const struct http_request *request, struct error *e)
{
	const struct request_info *info = &request_infos[call->route->request];
	char *text, *rest, *pair;
	int r;

	call->object = calloc(1, info->size);
	if (call->object == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	r = options_defaults(info->body, call->object, e);
	if (r < 0 || request->query == NULL || request->query[0] == '\0' || call->firecracker) {
		return r;
	}
	text = strdup(request->query);
	if (text == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	rest = text;
	while (r == 0 && (pair = strsep(&rest, "&")) != NULL) {
		r = *pair != '\0' ? parse_pair(info->body, call->object, pair, e) : 0;
	}
	free(text);
	return r;
}

static int parse(struct api_call *call, const struct http_request *request, struct error *e)
{
	if (request_infos[call->route->request].query) {
		return parse_query(call, request, e);
	}
	return request->body_len > 0 ? parse_body(call, request, e) : 0;
}

static void make_request(struct api *api, struct http_call *http, const struct route_match *match,
			 const struct http_request *request)
{
	struct api_call *call = calloc(1, sizeof(*call) + match->id_len + 1);
	struct error e = { 0 };

	if (call == NULL) {
		api_reply_no_memory(http);
		return;
	}
	call->base.done = call_done;
	call->http = http;
	call->route = match->route;
	if (match->id != NULL) {
		memcpy(call->id, match->id, match->id_len);
	}
	call->log = api->log_requests;
	call->firecracker = api->firecracker;
	if (parse(call, request, &e) < 0) {
		log_request(call, &e);
		http_call_reply_error(http, 400, &e, NULL);
		destroy_call(call);
		return;
	}
	instance_request(api->instance,
			 &(struct request){ .type = match->route->request,
					    .id = match->id != NULL ? call->id : NULL,
					    .object = call->object,
					    .json = call->body },
			 &call->base);
}

static void write_server_metrics(const struct api *api, struct metrics_text *text)
{
	struct http_server_stats stats = { 0 };

	http_server_stats(api->server, &stats);
	metrics_number(text, "vmm_http_requests_total", METRIC_COUNTER, "Requests that were read",
		       stats.requests);
	metrics_number(text, "vmm_http_refused_total", METRIC_COUNTER,
		       "Requests that were refused because they break the rules of HTTP",
		       stats.refused);
	metrics_number(text, "vmm_http_accepted_total", METRIC_COUNTER, "Connections accepted",
		       stats.accepted);
	metrics_number(text, "vmm_http_evicted_total", METRIC_COUNTER,
		       "Idle connections that had to make room for others", stats.evicted);
	metrics_number(text, "vmm_http_connections", METRIC_GAUGE, "Connections that are open",
		       stats.connections);
	metrics_number(text, "vmm_event_streams", METRIC_GAUGE, "Clients that follow the events",
		       api->stream_count);
}

static void reply_metrics(struct api *api, struct http_call *call)
{
	struct metrics_text text = { 0 };

	instance_write_metrics(api->instance, &text);
	write_server_metrics(api, &text);
	if (text.failed || text.data == NULL) {
		free(text.data);
		api_reply_no_memory(call);
		return;
	}
	http_call_reply(call, 200, "text/plain; version=0.0.4; charset=utf-8", text.data, text.len);
}

static void refuse_route(const struct api *api, struct http_call *call,
			 const struct route_match *match, const struct http_request *request)
{
	/* As Firecracker shows it, without the first '/'. */
	const char *named = request->path[1] != '\0' ? request->path + 1 : request->path;
	char path[PATH_SHOWN];
	struct error e;

	api_show_text(path, sizeof(path), named, strlen(named));
	(void)error_set(&e, ERROR_NO_ROUTE, ENOENT, "Invalid request method and/or path: %s %s.",
			http_method_name(request->method), path);
	if (api->firecracker) {
		log_outcome(&e, false);
	}
	if (match->found) {
		(void)error_hint(&e, "this path takes %s", match->allow);
	} else {
		(void)error_hint(&e, "GET /openapi.json describes all that there is");
	}
	if (match->found && match->ours) {
		http_call_reply_error(call, 405, &e, match->allow);
	} else {
		http_call_reply_error(call, match->found || api->firecracker ? 400 : 404, &e, NULL);
	}
}

/* Bodies where there must be none, and the other way round. */
static int check_body(const struct http_request *request, const struct route *route,
		      struct error *e)
{
	const char *method = http_method_name(request->method);
	bool wanted = request->method == HTTP_PUT || request->method == HTTP_PATCH;

	if (wanted && request->body_len == 0 && route->body != NULL) {
		return error_set(e, ERROR_JSON, EINVAL, "Empty %s request.", method);
	}
	if (!wanted && request->body_len > 0) {
		return error_set(e, ERROR_HTTP, EINVAL, "%s request cannot have a body.", method);
	}
	return 0;
}

static int check_request(const struct route_match *match, const struct http_request *request,
			 struct error *e)
{
	int r;

	if (match->route->kind == ROUTE_LATER) {
		return error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP, "%s", match->route->missing);
	}
	r = check_body(request, match->route, e);
	if (r < 0 || match->id == NULL) {
		return r;
	}
	return route_check_id(match->id, match->id_len, e);
}

static void handle(void *arg, struct http_call *call, const struct http_request *request)
{
	struct api *api = arg;
	struct route_match match;
	struct error e = { 0 };

	if (api->firecracker) {
		log_arrival(request);
	}
	routes_find(&match, request->method, request->path);
	if (match.found && request->method == HTTP_OPTIONS) {
		http_call_reply_allow(call, match.allow);
		return;
	}
	if (match.route == NULL) {
		refuse_route(api, call, &match, request);
		return;
	}
	if (check_request(&match, request, &e) < 0) {
		if (api->firecracker) {
			log_outcome(&e, false);
		}
		http_call_reply_error(call, 400, &e, NULL);
		return;
	}
	switch (match.route->kind) {
	case ROUTE_METRICS:
		reply_metrics(api, call);
		break;
	case ROUTE_EVENTS:
		if (request->method == HTTP_HEAD) {
			http_call_reply(call, 200, NULL, NULL, 0);
		} else {
			api_begin_events(api, call, request->query);
		}
		break;
	case ROUTE_DESCRIPTION:
		api_reply_json(call, api_describe(), true);
		break;
	default:
		make_request(api, call, &match, request);
		break;
	}
}

int api_create(struct api **ret, const struct api_config *config, struct error *e)
{
	struct api *api = calloc(1, sizeof(*api));
	int r;

	if (api == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "API: out of memory");
	}
	api->instance = config->instance;
	api->log_requests = config->log_requests;
	api->firecracker = instance_is_firecracker(config->instance);
	r = http_server_create(&api->server,
			       &(struct http_server_config){
				       .loop = config->loop,
				       .connections_max = HTTP_CONNECTIONS_MAX,
				       .body_max = config->body_max != 0 ? config->body_max
									 : HTTP_BODY_MAX_DEFAULT,
				       .close_grace_ns = api->firecracker
								 ? CLOSE_GRACE_FIRECRACKER_NS
								 : CLOSE_GRACE_NS,
				       .bare_errors = api->firecracker,
				       /* A client that reads in blocks waits for ever behind an
					* answer that fills one: firecracker-rs-sdk's are of 64
					* bytes, as much as 204 has with a name of three. */
				       .name = api->firecracker ? "Firecracker API" : "vmm",
				       .handle = handle,
				       .arg = api,
			       },
			       e);
	if (r < 0) {
		free(api);
		return error_prefix(e, "API");
	}
	*ret = api;
	return 0;
}

int api_listen(struct api *api, int fd, struct error *e)
{
	if (api->firecracker) {
		log_info("API server started.");
	}
	return http_server_listen(api->server, fd, e);
}

void api_unlisten(struct api *api)
{
	if (api != NULL) {
		http_server_unlisten(api->server);
	}
}

void api_destroy(struct api *api)
{
	if (api == NULL) {
		return;
	}
	api_end_events(api);
	http_server_flush(api->server, FLUSH_MS);
	http_server_destroy(api->server);
	free(api);
}
