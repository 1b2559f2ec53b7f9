/* SPDX-License-Identifier: Apache-2.0 */
/* Which method and path finds which route, what a path allows, and ids. */
#include "harness/check_main.h"

#include "../../src/api/routes.h"

static const struct {
	enum http_method method;
	const char *path;
	const char *found; /* operationId; NULL: no route */
	const char *id;	   /* NULL: none */
	const char *allow; /* NULL: not compared; "": there is no such path */
	bool ours;
} finds[] = {
	{ HTTP_GET, "/", "GetInstance", NULL, "GET, HEAD, OPTIONS", false },
	{ HTTP_HEAD, "/", "GetInstance", NULL, NULL, false },
	{ HTTP_PUT, "/", NULL, NULL, "GET, HEAD, OPTIONS", false },
	{ HTTP_GET, "/version/", "GetVersion", NULL, NULL, false },
	{ HTTP_GET, "/version//", "GetVersion", NULL, NULL, false },
	{ HTTP_GET, "/version/x", "GetVersion", NULL, "GET, HEAD, OPTIONS", false },
	{ HTTP_GET, "/version/config/y/", "GetVersion", NULL, NULL, false },
	{ HTTP_GET, "//version", "GetVersion", NULL, NULL, false },
	{ HTTP_GET, "//", "GetInstance", NULL, NULL, false },
	{ HTTP_GET, "/x", NULL, NULL, "", false },
	{ HTTP_GET, "/x/version", NULL, NULL, "", false },
	{ HTTP_PUT, "/vsock/vsock0", "PutVsock", NULL, NULL, false },
	{ HTTP_PUT, "/actions/now", "PutAction", NULL, NULL, false },
	{ HTTP_GET, "/vm/config/x", "GetVmConfig", NULL, NULL, false },
	{ HTTP_GET, "/vm/configs", NULL, NULL, "PATCH, OPTIONS", false },
	{ HTTP_PATCH, "/vm/x", "PatchVm", NULL, NULL, false },
	{ HTTP_GET, "/vm/", "GetVm", NULL, NULL, false },
	{ HTTP_GET, "/metrics/x", NULL, NULL, "PUT, OPTIONS", false },
	{ HTTP_PUT, "/metrics/x", "PutMetrics", NULL, NULL, false },
	{ HTTP_PATCH, "/balloon/statistics/x", "PatchBalloonStatistics", NULL, NULL, false },
	{ HTTP_GET, "/events/x", NULL, NULL, "", false },
	{ HTTP_GET, "/jobs/7/x", NULL, NULL, "", false },
	{ HTTP_GET, "/openapi.json/x", NULL, NULL, "", false },
	{ HTTP_GET, "/versio", NULL, NULL, "", false },
	{ HTTP_GET, "/versions", NULL, NULL, "", false },
	{ HTTP_GET, "/VERSION", NULL, NULL, "", false },
	{ HTTP_GET, "/vm", "GetVm", NULL, "GET, HEAD, PATCH, OPTIONS", false },
	{ HTTP_PATCH, "/vm", "PatchVm", NULL, NULL, false },
	{ HTTP_GET, "/vm/config", "GetVmConfig", NULL, "GET, HEAD, OPTIONS", false },
	{ HTTP_GET, "/machine-config", "GetMachineConfig", NULL, "GET, HEAD, PUT, PATCH, OPTIONS",
	  false },
	{ HTTP_PUT, "/drives/root", "PutDrive", "root", "PUT, PATCH, DELETE, OPTIONS", false },
	{ HTTP_PUT, "/drives/root/", "PutDrive", "root", NULL, false },
	{ HTTP_PUT, "/drives/root/x", "PutDrive", "root", NULL, false },
	{ HTTP_PUT, "/drives", "PutDrive", "", NULL, false },
	{ HTTP_PUT, "/drives/", "PutDrive", "", NULL, false },
	{ HTTP_PUT, "/drives//", "PutDrive", "", NULL, false },
	{ HTTP_PUT, "/drives//a", "PutDrive", "", NULL, false },
	{ HTTP_PUT, "/drivesx", NULL, NULL, "", false },
	{ HTTP_PATCH, "/drives/a", "PatchDrive", "a", NULL, false },
	{ HTTP_DELETE, "/drives/a", "DeleteDrive", "a", NULL, false },
	{ HTTP_GET, "/drives/a", NULL, "a", NULL, false },
	{ HTTP_POST, "/drives/a", NULL, "a", NULL, false },
	{ HTTP_PATCH, "/network-interfaces/eth0", "PatchNetworkInterface", "eth0", NULL, false },
	{ HTTP_GET, "/metrics", "GetMetrics", NULL, "GET, HEAD, PUT, OPTIONS", false },
	{ HTTP_PUT, "/metrics", "PutMetrics", NULL, NULL, false },
	{ HTTP_PATCH, "/balloon/hinting/start", "StartBalloonHinting", NULL, "PATCH, OPTIONS",
	  false },
	{ HTTP_GET, "/jobs", "GetJobs", NULL, "GET, HEAD, OPTIONS", true },
	{ HTTP_GET, "/jobs/", "GetJobs", NULL, NULL, true },
	{ HTTP_GET, "/jobs/7", "GetJob", "7", "GET, HEAD, DELETE, OPTIONS", true },
	{ HTTP_DELETE, "/jobs/7/", "DeleteJob", "7", NULL, true },
	{ HTTP_DELETE, "/jobs", NULL, NULL, "GET, HEAD, OPTIONS", true },
	{ HTTP_PUT, "/events", NULL, NULL, "GET, HEAD, OPTIONS", true },
	{ HTTP_GET, "/openapi.json", "GetOpenapi", NULL, NULL, true },
	{ HTTP_PATCH, "/console", "PatchConsole", NULL, "PATCH, OPTIONS", true },
	{ HTTP_OPTIONS, "/console", NULL, NULL, "PATCH, OPTIONS", true },
	{ HTTP_OPTIONS, "/nothing", NULL, NULL, "", false },
};

START_TEST(test_find)
{
	struct route_match match;

	routes_find(&match, finds[_i].method, finds[_i].path);
	if (finds[_i].found == NULL) {
		ck_assert_ptr_null(match.route);
	} else {
		ck_assert_ptr_nonnull(match.route);
		ck_assert_str_eq(route_name(match.route), finds[_i].found);
	}
	ck_assert_int_eq(match.id != NULL, finds[_i].id != NULL);
	if (finds[_i].id != NULL) {
		ck_assert_uint_eq(match.id_len, strlen(finds[_i].id));
		ck_assert_mem_eq(match.id, finds[_i].id, match.id_len);
	}
	if (finds[_i].allow != NULL) {
		ck_assert_str_eq(match.allow, finds[_i].allow);
		ck_assert_int_eq(match.found, finds[_i].allow[0] != '\0');
	}
	ck_assert_int_eq(match.ours, finds[_i].ours);
}
END_TEST

/* Each route is found by its own path, and by no other route's. */
START_TEST(test_each)
{
	const struct route *route = &routes[_i];
	struct route_match match;
	char path[80];
	size_t len = strcspn(route->path, "{");

	(void)snprintf(path, sizeof(path), "%.*s%s", (int)len, route->path,
		       route->path[len] != '\0' ? "some_id" : "");
	routes_find(&match, route->method, path);
	ck_assert_ptr_eq(match.route, route);
	ck_assert_uint_lt(strlen(match.allow), sizeof(match.allow) - 1);
	ck_assert_ptr_nonnull(route_name(route));
	ck_assert_ptr_nonnull(route_summary(route));
}
END_TEST

/* What the rest relies on. */
START_TEST(test_table)
{
	for (size_t i = 0; i < route_count; i++) {
		const struct route *route = &routes[i];
		bool takes = route->method == HTTP_PUT || route->method == HTTP_PATCH;
		size_t len;

		for (size_t k = 0; k < i; k++) {
			ck_assert_str_ne(route_name(route), route_name(&routes[k]));
			/* Routes of one path stand together and agree on whose it is. */
			if (strcmp(route->path, routes[k].path) == 0) {
				ck_assert_str_eq(route->path, routes[i - 1].path);
				ck_assert_int_eq(route->ours, routes[k].ours);
			}
		}
		ck_assert_int_eq(route->kind == ROUTE_LATER, route->missing != NULL);
		if (route->kind != ROUTE_REQUEST) {
			continue;
		}
		/* Firecracker's always have a body; of ours there may be none where there is nothing to say. */
		ck_assert(takes ? route->body != NULL || route->ours : route->body == NULL);
		ck_assert_int_eq(request_infos[route->request].replies, route->reply != NULL);
		ck_assert_int_eq(request_infos[route->request].has_id,
				 route_parameter(route, &len) != NULL);
	}
}
END_TEST

static bool id_in_body(const char *key, size_t len, const struct option_table *table)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		if (at.option->json != NULL && strlen(at.option->json) == len &&
		    memcmp(at.option->json, key, len) == 0) {
			return true;
		}
	}
	return false;
}

/* The parameter of a path is a key of the body, where there is a body. */
START_TEST(test_parameters)
{
	for (size_t i = 0; i < route_count; i++) {
		const struct request_info *info = &request_infos[routes[i].request];
		size_t len;
		const char *key = route_parameter(&routes[i], &len);

		if (routes[i].kind == ROUTE_REQUEST && key != NULL && routes[i].body != NULL) {
			ck_assert(id_in_body(key, len, info->body));
		}
	}
}
END_TEST

/* Every request that there is can be made. */
START_TEST(test_complete)
{
	size_t found = 0;

	for (size_t i = 0; i < route_count; i++) {
		found += routes[i].kind == ROUTE_REQUEST && (int)routes[i].request == _i;
	}
	ck_assert_uint_eq(found, 1);
}
END_TEST

static const struct {
	const char *id;
	const char *text; /* NULL: good */
} ids[] = {
	{ "a", NULL },
	{ "Az_09", NULL },
	{ "0123456789012345678901234567890123456789012345678901234567890123", NULL },
	{ "", "The ID cannot be empty." },
	{ "a-b", "can only contain alphanumeric characters and underscores." },
	{ "a b", "can only contain alphanumeric" },
	{ "a.b", "can only contain alphanumeric" },
	{ "\x01", "can only contain alphanumeric" },
	{ "\xc3\xa4", NULL },
	{ "01234567890123456789012345678901234567890123456789012345678901234", NULL },
};

START_TEST(test_long_ids)
{
	char id[ROUTE_ID_MAX + 1];
	struct error e = { 0 };

	memset(id, 'x', sizeof(id));
	check_ok(route_check_id(id, ROUTE_ID_MAX, &e), &e);
	ck_assert_int_lt(route_check_id(id, ROUTE_ID_MAX + 1, &e), 0);
	check_error(&e, ERROR_CONFIG, "at most 1024");
}
END_TEST

START_TEST(test_ids)
{
	struct error e = { 0 };
	int r = route_check_id(ids[_i].id, strlen(ids[_i].id), &e);

	if (ids[_i].text == NULL) {
		check_ok(r, &e);
	} else {
		ck_assert_int_lt(r, 0);
		check_error(&e, ERROR_CONFIG, ids[_i].text);
	}
}
END_TEST

CHECK_MAIN("routes", CHECK_TABLE(test_find, finds); CHECK_LOOP(test_each, route_count);
	   CHECK_TEST(test_table); CHECK_TEST(test_parameters);
	   CHECK_LOOP(test_complete, REQUEST_TYPES); CHECK_TABLE(test_ids, ids);
	   CHECK_TEST(test_long_ids))
