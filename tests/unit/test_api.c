/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API as clients meet it, before the start of a VM: every method on every path is answered,
 * refusals have the words that clients know and change nothing, answers are what the description
 * says, streams reach who reads and drop who does not.
 */
#include "harness/api_rig.h"

#include <elf.h>
#include <malloc.h>

#include "../../src/api/routes.h"
#include "harness/json_schema.h"
#include "vmm/cleanup.h"

static const char *const methods[] = { "GET", "PUT", "PATCH", "DELETE", "POST", "HEAD", "OPTIONS" };

/* Well-framed, of a status that there is, and an error says why. */
static void check_reply(const char *method, const char *path, const struct reply *reply)
{
	bool none = reply->status == 204;

	ck_assert_msg(none ? !reply->has_length : reply->has_length || reply->chunked, "%s %s: %s",
		      method, path, reply->head);
	ck_assert_msg(reply->status == 200 || none || reply->status == 400 ||
			      reply->status == 404 || reply->status == 405,
		      "%s %s: %d", method, path, reply->status);
	if (reply->status == 405) {
		ck_assert_ptr_nonnull(reply_header(reply, "Allow"));
	}
	if (reply->status >= 400) {
		ck_assert_str_eq(reply_header(reply, "Content-Type"), "application/json");
	}
	if (reply->status >= 400 && strcmp(method, "HEAD") != 0) {
		check_refusal(reply, NULL, NULL);
	}
}

/* Every method on the paths of all routes and on some that are not there, one connection. */
START_TEST(test_every)
{
	static const char *const others[] = { "/nothing", "/drives", "/vm/config/x", "//", "/%20" };
	int fd = rig_connect();

	for (size_t i = 0; i < route_count + ARRAY_SIZE(others); i++) {
		const char *pattern = i < route_count ? routes[i].path : others[i - route_count];
		int fixed = (int)strcspn(pattern, "{");
		char path[96];

		(void)snprintf(path, sizeof(path), "%.*s%s%s", fixed, pattern,
			       pattern[fixed] != '\0' ? "some_id" : "",
			       strcmp(pattern, "/events") == 0 ? "?follow=false" : "");
		for (size_t m = 0; m < ARRAY_SIZE(methods); m++) {
			bool body = m == HTTP_PUT || m == HTTP_PATCH || m == HTTP_POST;
			struct reply reply;

			rig_exchange(fd, methods[m], path, body ? "{}" : NULL, &reply);
			check_reply(methods[m], path, &reply);
			reply_finish(&reply);
		}
	}
	(void)close(fd);
}
END_TEST

#define JSON_TEXT "An error occurred when deserializing the json body of a request: "

static const struct {
	const char *method, *path, *body;
	int status;
	const char *code, *text;
} refusals[] = {
	{ "GET", "/foo", NULL, 404, "no-route", "Invalid request method and/or path: GET foo." },
	{ "PUT", "/foo/x", "{}", 404, "no-route", "method and/or path: PUT foo/x." },
	{ "GET", "/vm/x", NULL, 400, "no-route", "GET vm/x." },
	{ "GET", "/jobs/1/x", NULL, 404, "no-route", "GET jobs/1/x." },
	{ "POST", "/drives/a", "{}", 400, "no-route",
	  "Invalid request method and/or path: POST drives/a." },
	{ "DELETE", "/", NULL, 400, "no-route", "Invalid request method and/or path: DELETE /." },
	{ "GET", "/actions", NULL, 400, "no-route", "GET actions." },
	{ "HEAD", "/actions", NULL, 400, NULL, NULL },
	{ "PUT", "/events", "{}", 405, "no-route", "PUT events." },
	{ "POST", "/jobs", "{}", 405, "no-route", "POST jobs." },
	{ "GET", "/", "{}", 400, "http", "GET request cannot have a body." },
	{ "DELETE", "/jobs/1", "{}", 400, "http", "DELETE request cannot have a body." },
	{ "PUT", "/actions", NULL, 400, "json", "Empty PUT request." },
	{ "PATCH", "/vm", NULL, 400, "json", "Empty PATCH request." },
	{ "PUT", "/snapshot/mark", NULL, 400, "wrong-state", "before starting" },
	{ "PUT", "/snapshot/mark", "{}", 400, "wrong-state", "before starting" },
	{ "PUT", "/snapshot/mark", "{\"x\": 1}", 400, "json", "no fields" },
	{ "PUT", "/snapshot/mark", "[]", 400, "json", "no fields" },
	{ "PUT", "/snapshot/mark/x", "{}", 404, "no-route", "mark/x" },
	{ "PATCH", "/machine-config", "{}", 400, "json", "Empty PATCH request." },
	{ "PUT", "/actions", "{", 400, "json", JSON_TEXT },
	{ "PUT", "/actions", " ", 400, "json", JSON_TEXT },
	{ "PUT", "/actions", "[]", 400, "json", JSON_TEXT },
	{ "PUT", "/actions", "null", 400, "json", JSON_TEXT },
	{ "PUT", "/actions", "{}", 400, "json", JSON_TEXT },
	{ "PUT", "/actions", "{\"action_type\":\"Fly\"}", 400, "json", JSON_TEXT },
	{ "PUT", "/actions", "{\"action_type\":7}", 400, "json", JSON_TEXT },
	{ "PUT", "/actions", "{\"action_type\":\"Stop\",\"x\":1}", 400, "json", JSON_TEXT },
	{ "PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":128,\"vcpu_count\":2}", 400,
	  "json", JSON_TEXT },
	{ "PUT", "/machine-config", "{\"vcpu_count\":1}", 400, "json", JSON_TEXT },
	{ "PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":-1}", 400, "json",
	  JSON_TEXT },
	{ "PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":17592186044416}", 400,
	  "json", JSON_TEXT },
	{ "PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":18446744073709551616}", 400,
	  "json", JSON_TEXT },
	{ "PUT", "/machine-config", "{\"vcpu_count\":4294967297,\"mem_size_mib\":128}", 400, "json",
	  JSON_TEXT },
	{ "PUT", "/machine-config", "{\"vcpu_count\":0,\"mem_size_mib\":128}", 400, NULL, NULL },
	{ "PATCH", "/machine-config", "{\"vcpu_count\":1.5}", 400, "json", JSON_TEXT },
	{ "PUT", "/drives/a",
	  "{\"drive_id\":\"b\",\"is_root_device\":false,\"path_on_host\":\"/dev/null\"}", 400,
	  "config", "The id from the path does not match the id from the body!" },
	{ "PATCH", "/drives/a", "{\"drive_id\":\"b\"}", 400, "config",
	  "The id from the path does not match the id from the body!" },
	{ "PUT", "/drives/a-b", "{\"drive_id\":\"a-b\"}", 400, "config",
	  "API Resource IDs can only contain alphanumeric characters and underscores." },
	{ "PUT", "/drives/", "{\"drive_id\":\"\"}", 400, "config", "The ID cannot be empty." },
	{ "PUT", "/drives", "{}", 400, "config", "The ID cannot be empty." },
	{ "PUT", "/boot-source", "{\"kernel_image_path\":\"/nonexistent/kernel\"}", 400, NULL,
	  "/nonexistent/kernel" },
	{ "PATCH", "/vm", "{\"state\":\"Paused\"}", 400, "wrong-state", NULL },
	{ "PUT", "/actions", "{\"action_type\":\"PowerButton\"}", 400, "wrong-state", NULL },
	{ "PUT", "/actions", "{\"action_type\":\"Reset\"}", 400, "wrong-state", NULL },
	{ "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", 400, NULL, NULL },
	{ "PATCH", "/console", "{\"columns\":0,\"rows\":24}", 400, "json", JSON_TEXT },
	{ "PATCH", "/console", "{\"columns\":65536,\"rows\":24}", 400, "json", JSON_TEXT },
	{ "GET", "/jobs/7", NULL, 404, "not-found", NULL },
	{ "DELETE", "/jobs/7", NULL, 404, "not-found", NULL },
	{ "GET", "/jobs/18446744073709551617", NULL, 404, "not-found", NULL },
	{ "GET", "/jobs/x", NULL, 404, "not-found", NULL },
	{ "GET", "/events?after=x", NULL, 400, "http", "'after=x'" },
	{ "GET", "/events?after=", NULL, 400, "http", "'after='" },
	{ "GET", "/events?after=18446744073709551616", NULL, 400, "http", "after=" },
	{ "GET", "/events?follow", NULL, 400, "http", "'follow'" },
	{ "GET", "/events?until=7", NULL, 400, "http", "'until=7'" },
	{ "GET", "/balloon", NULL, 400, "not-supported", "no memory balloon device" },
	{ "PUT", "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}", 400, "not-supported",
	  "no vsock device" },
	{ "PUT", "/balloon", "nonsense", 400, "not-supported", "balloon" },
	{ "DELETE", "/drives/a", NULL, 400, "wrong-state", "before starting" },
	{ "DELETE", "/network-interfaces/a?force&timeout=5s", NULL, 400, "wrong-state", "before" },
	{ "DELETE", "/drives/a?force=true&&", NULL, 400, "wrong-state", "before starting" },
	{ "DELETE", "/drives/a?force=yes", NULL, 400, "http", "'force=yes'" },
	{ "DELETE", "/drives/a?timeout", NULL, 400, "http", "'timeout'" },
	{ "DELETE", "/drives/a?timeout=0", NULL, 400, "http", "'timeout=0'" },
	{ "DELETE", "/drives/a?timeout=2d,force", NULL, 400, "http", "'timeout=2d,force'" },
	{ "DELETE", "/drives/a?=", NULL, 400, "http", "'='" },
	{ "GET", "/mmds", NULL, 400, "not-supported", "MMDS" },
};

/* Refused in known words; what is configured stays as it was, to the byte. */
START_TEST(test_refusal)
{
	struct reply before, reply, after;

	rig_put("PUT", "/machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":256}");
	rig_ask("GET", "/vm/config", NULL, &before);
	rig_ask(refusals[_i].method, refusals[_i].path, refusals[_i].body, &reply);
	ck_assert_msg(reply.status == refusals[_i].status, "%d: %s", reply.status, reply.body);
	if (strcmp(refusals[_i].method, "HEAD") != 0) {
		check_refusal(&reply, refusals[_i].code, refusals[_i].text);
	}
	rig_ask("GET", "/vm/config", NULL, &after);
	ck_assert_str_eq(before.body, after.body);
	reply_finish(&before);
	reply_finish(&reply);
	reply_finish(&after);
}
END_TEST

START_TEST(test_allow)
{
	struct reply reply;

	rig_ask("DELETE", "/jobs", NULL, &reply);
	ck_assert_int_eq(reply.status, 405);
	ck_assert_str_eq(reply_header(&reply, "Allow"), "GET, HEAD, OPTIONS");
	reply_finish(&reply);
	rig_ask("OPTIONS", "/machine-config", NULL, &reply);
	ck_assert_int_eq(reply.status, 204);
	ck_assert_str_eq(reply_header(&reply, "Allow"), "GET, HEAD, PUT, PATCH, OPTIONS");
	reply_finish(&reply);
	rig_ask("OPTIONS", "/nothing", NULL, &reply);
	ck_assert_int_eq(reply.status, 404);
	reply_finish(&reply);
}
END_TEST

/* A path may hold anything; the message about it is text. */
START_TEST(test_odd_paths)
{
	char path[4096] = "/";
	struct reply reply;

	rig_ask("GET", "/%ff%fe%22%5c", NULL, &reply);
	ck_assert_int_eq(reply.status, 404);
	check_refusal(&reply, "no-route", "GET ??\"\\.");
	reply_finish(&reply);
	memset(path + 1, 'x', sizeof(path) - 2);
	rig_ask("GET", path, NULL, &reply);
	ck_assert_int_eq(reply.status, 404);
	check_refusal(&reply, "no-route", "GET xxxxxxxx");
	reply_finish(&reply);
}
END_TEST

START_TEST(test_head)
{
	struct reply head, get;

	rig_ask("HEAD", "/version", NULL, &head);
	rig_ask("GET", "/version", NULL, &get);
	ck_assert_int_eq(head.status, 200);
	ck_assert_str_eq(head.head, get.head);
	ck_assert_uint_gt(get.len, 0);
	reply_finish(&head);
	reply_finish(&get);
	rig_ask("HEAD", "/events", NULL, &head);
	ck_assert_int_eq(head.status, 200);
	reply_finish(&head);
}
END_TEST

/* What was put can be read, as the same values. */
START_TEST(test_round_trip)
{
	static const char machine[] = "{\"vcpu_count\":3,\"mem_size_mib\":192,\"smt\":false,"
				      "\"huge_pages\":\"None\"}";
	auto_json json_t *wanted = NULL, *config = NULL, *machine_config = NULL;
	struct error e = { 0 };
	char path[128], body[512];
	const char *key;
	json_t *value;

	rig_write_file("disk", "4096 bytes would be more, but one sector does");
	rig_path(path, sizeof(path), "disk");
	ck_assert_int_eq(truncate(path, 4096), 0);
	rig_put("PUT", "/machine-config", machine);
	(void)snprintf(body, sizeof(body),
		       "{\"drive_id\":\"data\",\"is_root_device\":false,\"path_on_host\":\"%s\","
		       "\"is_read_only\":true,\"rate_limiter\":{\"ops\":{\"size\":10,"
		       "\"refill_time\":100}}}",
		       path);
	rig_put("PUT", "/drives/data/", body);
	rig_put("PUT", "/entropy", "{}");
	check_ok(json_parse(&wanted, machine, strlen(machine), &e), &e);
	machine_config = rig_get("/machine-config");
	json_object_foreach(wanted, key, value)
	{
		ck_assert_msg(json_equal(value, json_object_get(machine_config, key)), "%s", key);
	}
	rig_put("PATCH", "/machine-config", "{\"vcpu_count\":4}");
	config = rig_get("/vm/config");
	ck_assert_int_eq(json_integer_value(json_object_get(
				 json_object_get(config, "machine-config"), "vcpu_count")),
			 4);
	ck_assert_int_eq(json_integer_value(json_object_get(
				 json_object_get(config, "machine-config"), "mem_size_mib")),
			 192);
	value = json_array_get(json_object_get(config, "drives"), 0);
	ck_assert_str_eq(json_string_value(json_object_get(value, "path_on_host")), path);
	value = json_object_get(json_object_get(value, "rate_limiter"), "ops");
	ck_assert_int_eq(json_integer_value(json_object_get(value, "refill_time")), 100);
}
END_TEST

START_TEST(test_metrics)
{
	struct reply reply;

	rig_ask("GET", "/metrics", NULL, &reply);
	ck_assert_int_eq(reply.status, 200);
	ck_assert_str_eq(reply_header(&reply, "Content-Type"),
			 "text/plain; version=0.0.4; charset=utf-8");
	ck_assert_ptr_nonnull(strstr(reply.body, "# TYPE vmm_http_requests_total counter\n"));
	ck_assert_ptr_nonnull(strstr(reply.body, "\nvmm_http_connections 1\n"));
	ck_assert_int_eq(reply.body[reply.len - 1], '\n');
	reply_finish(&reply);
}
END_TEST

/* Answers against the description. */

/* No key is there that the description does not name. */
static struct schema_check description = { .closed = true };

static void conform(const char *place, const json_t *value, const json_t *schema)
{
	ck_assert_msg(schema_fits(&description, place, schema, value), "%s", description.why);
}

static void conform_reply(const char *path)
{
	auto_json json_t *value = rig_get(path);
	const json_t *paths = json_object_get(description.document, "paths");
	const json_t *get = json_object_get(json_object_get(paths, path), "get");
	const json_t *reply = json_object_get(json_object_get(get, "responses"), "200");

	reply = json_object_get(json_object_get(reply, "content"), "application/json");
	ck_assert_ptr_nonnull(reply);
	conform(path, value, json_object_get(reply, "schema"));
}

static int stay(struct job *job, void *arg, struct error *e)
{
	(void)arg;
	job_progress(job, "staying", 1, 100);
	while (!job_cancel_wanted(job)) {
		(void)usleep(1000);
	}
	(void)error_set(e, ERROR_CANCELLED, ECANCELED, "cancelled");
	return -ECANCELED;
}

static void stayed(void *arg, int result, struct error *failure)
{
	(void)result;
	(void)failure;
	*(bool *)arg = true;
}

static const struct job_ops staying = { .kind = "test", .run = stay, .ended = stayed };

static void check_named(const json_t *value, const char *name)
{
	conform(name, value, schema_of(&description, name));
}

START_TEST(test_described)
{
	static const char *const paths[] = { "/",	   "/version",	      "/vm",
					     "/vm/config", "/machine-config", "/jobs" };
	struct jobs *jobs = instance_jobs(rig_instance);
	auto_json json_t *described = rig_get("/openapi.json"), *job = NULL, *error = NULL;
	struct error e = { 0 };
	struct reply reply;
	bool over = false;
	uint64_t id;

	description.document = described;
	rig_put("PUT", "/serial", "{\"rate_limiter\":{\"size\":1000,\"refill_time\":100}}");
	rig_put("PUT", "/entropy", "{\"rate_limiter\":{\"ops\":{\"size\":9,\"refill_time\":1}}}");
	rig_put("PUT", "/cpu-config",
		"{\"kvm_capabilities\":[],\"cpuid_modifiers\":[{\"leaf\":\"0x1\","
		"\"subleaf\":\"0x0\",\"flags\":0,\"modifiers\":[{\"register\":\"ecx\","
		"\"bitmap\":\"0bxxxx0\"}]}],\"msr_modifiers\":[]}");
	check_ok(jobs_start(jobs, &staying, &over, &id, &e), &e);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		conform_reply(paths[i]);
	}
	job = rig_get("/jobs/1");
	check_named(job, "Job");
	ck_assert_str_eq(json_string_value(json_object_get(job, "state")), "running");
	rig_put("DELETE", "/jobs/1", NULL);
	for (int i = 0; !over && i < PATIENCE; i++) {
		ck_assert_int_eq(loop_step(&rig_loop, 1), 0);
	}
	json_decref(job);
	job = rig_get("/jobs/1/");
	check_named(job, "Job");
	ck_assert_str_eq(json_string_value(json_object_get(job, "state")), "cancelled");
	rig_ask("DELETE", "/jobs/1", NULL, &reply);
	ck_assert_int_eq(reply.status, 400);
	check_ok(json_parse(&error, reply.body, reply.len, &e), &e);
	check_named(error, "Error");
	reply_finish(&reply);
}
END_TEST

/* The document is that of the program, whoever asks. */
START_TEST(test_description)
{
	auto_json json_t *served = rig_get("/openapi.json"), *made = api_describe();

	ck_assert(json_equal(served, made));
}
END_TEST

/* It passes for a kernel until it is loaded. */
static void write_bad_kernel(char *path, size_t size)
{
	static const Elf64_Ehdr header = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
	};
	FILE *file;

	rig_path(path, size, "kernel");
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(&header, sizeof(header), 1, file), 1);
	ck_assert_int_eq(fclose(file), 0);
	ck_assert_int_eq(truncate(path, 8192), 0);
}

/* A start that fails answers when it has failed, and the next request is answered meanwhile. */
START_TEST(test_start)
{
	static const char start[] = "PUT /actions HTTP/1.1\r\nContent-Length: 31\r\n\r\n"
				    "{\"action_type\":\"InstanceStart\"}";
	char path[128], body[256];
	struct reply reply;
	int fd;

	write_bad_kernel(path, sizeof(path));
	(void)snprintf(body, sizeof(body), "{\"kernel_image_path\":\"%s\"}", path);
	rig_put("PUT", "/boot-source", body);
	for (int i = 0; i < 3; i++) {
		fd = rig_connect();
		rig_send(fd, start, strlen(start));
		if (i == 1) {
			(void)close(fd); /* the client does not wait */
		}
		json_decref(rig_get("/"));
		if (i != 1) {
			rig_reply(fd, false, &reply);
			ck_assert_int_eq(reply.status, 400);
			check_refusal(&reply, NULL, NULL);
			reply_finish(&reply);
			(void)close(fd);
		}
		for (int k = 0; instance_state(rig_instance) == INSTANCE_STARTING && k < PATIENCE;
		     k++) {
			ck_assert_int_eq(loop_step(&rig_loop, 1), 0);
		}
		ck_assert_int_eq(instance_state(rig_instance), INSTANCE_NOT_STARTED);
	}
	/* The end while a start is under way. */
	fd = rig_connect();
	rig_send(fd, start, strlen(start));
	api_destroy(rig_api);
	rig_api = NULL;
	(void)close(fd);
}
END_TEST

/* Memory and descriptors do not grow with the number of requests. */
START_TEST(test_flat)
{
	static const char *const paths[] = { "/", "/machine-config", "/nothing", "/vm/config" };
	const int rounds = SANITIZED ? 5000 : 100000;
	int fd = rig_connect(), descriptors = 0;
	struct mallinfo2 before = { 0 }, after;

	for (int i = 0; i < rounds + 1000; i++) {
		struct reply reply;

		if (i == 1000) {
			before = mallinfo2();
			descriptors = count_descriptors();
		}
		if (i % 1000 == 999) {
			(void)close(fd);
			fd = rig_connect();
		}
		rig_exchange(fd, "GET", i % 100 == 0 ? paths[i / 100 % 4] : "/", NULL, &reply);
		reply_finish(&reply);
	}
	after = mallinfo2();
	ck_assert_int_eq(count_descriptors(), descriptors);
	if (!SANITIZED) {
		ck_assert_uint_le(after.uordblks, before.uordblks + 4096);
		ck_assert_uint_le(after.arena + after.hblkhd,
				  before.arena + before.hblkhd + KIB(256));
	}
	(void)close(fd);
}
END_TEST

/* Events. */

static void add_event(size_t padding)
{
	char *text = calloc(1, padding + 1);

	memset(text, 'x', padding);
	event_log_add(instance_events(rig_instance), "job", json_pack("{s:s}", "padding", text));
	free(text);
}

static uint64_t last_seq(void)
{
	return instance_events(rig_instance)->last;
}

/* Opens a stream and takes its head. */
static int follow_events(const char *query)
{
	struct reply reply = { 0 };
	char text[128];
	int fd = rig_connect();

	(void)snprintf(text, sizeof(text), "GET /events%s HTTP/1.1\r\n\r\n", query);
	rig_send(fd, text, strlen(text));
	receive_head(fd, &reply);
	ck_assert_int_eq(reply.status, 200);
	ck_assert_str_eq(reply_header(&reply, "Content-Type"), "application/x-ndjson");
	return fd;
}

/* The next line is an event of that number. */
static void take_event(int fd, uint64_t seq)
{
	auto_json json_t *event = NULL;
	struct reply reply = { 0 };
	struct error e = { 0 };

	ck_assert(receive_chunk(fd, &reply));
	ck_assert_int_eq(reply.body[reply.len - 1], '\n');
	check_ok(json_parse(&event, reply.body, reply.len, &e), &e);
	ck_assert_int_eq(json_integer_value(json_object_get(event, "seq")), (json_int_t)seq);
	reply_finish(&reply);
}

static void take_end(int fd)
{
	struct reply reply = { 0 };

	ck_assert(!receive_chunk(fd, &reply));
	reply_finish(&reply);
}

static long metric(const char *name)
{
	struct reply reply;
	const char *line;
	char start[64];
	long value;

	rig_ask("GET", "/metrics", NULL, &reply);
	(void)snprintf(start, sizeof(start), "\n%s ", name);
	line = strstr(reply.body, start);
	ck_assert_ptr_nonnull(line);
	value = strtol(line + strlen(start), NULL, 10);
	reply_finish(&reply);
	return value;
}

START_TEST(test_events_kept)
{
	uint64_t first = last_seq();
	struct reply reply;
	char path[64];
	int fd;

	for (int i = 0; i < 3; i++) {
		add_event(10);
	}
	(void)snprintf(path, sizeof(path), "?after=%llu&follow=false",
		       (unsigned long long)first + 1);
	fd = follow_events(path);
	take_event(fd, first + 2);
	take_event(fd, first + 3);
	take_end(fd);
	/* The connection goes on. */
	rig_exchange(fd, "GET", "/", NULL, &reply);
	ck_assert_int_eq(reply.status, 200);
	reply_finish(&reply);
	(void)close(fd);
	/* Numbers that are not there yet are no error. */
	fd = follow_events("?follow=false&after=18446744073709551615");
	take_end(fd);
	(void)close(fd);
	/* All that are kept. */
	for (int i = 0; i < 2 * EVENT_LOG_KEPT; i++) {
		add_event(1);
	}
	fd = follow_events("?follow=false&");
	for (uint64_t seq = last_seq() - EVENT_LOG_KEPT + 1; seq <= last_seq(); seq++) {
		take_event(fd, seq);
	}
	take_end(fd);
	(void)close(fd);
	ck_assert_int_eq(metric("vmm_event_streams"), 0);
}
END_TEST

#define SUBSCRIBERS 50

/* Who reads gets everything in order; who never reads is dropped, and nobody else. */
START_TEST(test_events_followed)
{
	int fds[SUBSCRIBERS];
	uint64_t first = last_seq();
	char query[64];

	(void)snprintf(query, sizeof(query), "?after=%llu", (unsigned long long)first);
	for (size_t i = 0; i < SUBSCRIBERS; i++) {
		fds[i] = follow_events(query);
	}
	ck_assert_int_eq(metric("vmm_event_streams"), SUBSCRIBERS);
	for (uint64_t n = 1; n <= 400; n++) {
		add_event(4000);
		for (size_t i = 1; i < SUBSCRIBERS; i++) {
			take_event(fds[i], first + n);
		}
	}
	ck_assert_int_eq(metric("vmm_event_streams"), SUBSCRIBERS - 1);
	/* Some leave in their own way; the rest still hears. */
	(void)close(fds[1]);
	(void)shutdown(fds[2], SHUT_RDWR);
	for (int i = 0; i < 10; i++) {
		rig_step();
	}
	ck_assert_int_eq(metric("vmm_event_streams"), SUBSCRIBERS - 3);
	add_event(1);
	for (size_t i = 3; i < SUBSCRIBERS; i++) {
		take_event(fds[i], first + 401);
	}
	/* The end of the API is the end of the streams, in order. */
	api_destroy(rig_api);
	rig_api = NULL;
	for (size_t i = 3; i < SUBSCRIBERS; i++) {
		take_end(fds[i]);
		(void)close(fds[i]);
	}
	(void)close(fds[0]);
	(void)close(fds[2]);
	add_event(1);
}
END_TEST

/* A subscriber that is dropped by what is kept when it comes. */
START_TEST(test_events_flood)
{
	char line[64];
	int fd;

	for (int i = 0; i < EVENT_LOG_KEPT; i++) {
		add_event(16000);
	}
	fd = rig_connect();
	(void)snprintf(line, sizeof(line), "GET /events HTTP/1.1\r\n\r\n");
	rig_send(fd, line, strlen(line));
	for (int i = 0; i < 10; i++) {
		rig_step();
	}
	ck_assert_int_eq(metric("vmm_event_streams"), 0);
	add_event(1);
	(void)close(fd);
}
END_TEST

CHECK_MAIN("api", CHECK_FIXTURE(rig_setup, rig_teardown); CHECK_TEST(test_every);
	   CHECK_TABLE(test_refusal, refusals); CHECK_TEST(test_allow); CHECK_TEST(test_odd_paths);
	   CHECK_TEST(test_head); CHECK_TEST(test_round_trip); CHECK_TEST(test_metrics);
	   CHECK_TEST(test_described); CHECK_TEST(test_description); CHECK_TEST(test_start);
	   CHECK_TEST(test_flat); CHECK_TEST(test_events_kept); CHECK_TEST(test_events_followed);
	   CHECK_TEST(test_events_flood))
