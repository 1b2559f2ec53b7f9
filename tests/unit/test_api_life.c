/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a VM by nothing but requests over the socket, with real KVM and bare-metal guests:
 * configured, started, paused, resumed, reset, stopped, while a client follows the events. The
 * sandbox is off, because nobody leaves it again. VMM_TEST_GUEST names the guest.
 */
#include "harness/api_rig.h"

#include "harness/json_schema.h"
#include "harness/need_kvm.h"

static struct schema_check description = { .closed = true };

static void check_described(const char *path, const char *name)
{
	json_t *value = rig_get(path);

	ck_assert_msg(schema_fits(&description, path, schema_of(&description, name), value), "%s",
		      description.why);
	json_decref(value);
}

/* Each answer has the shape that the description says. */
static void check_answers(const char *state)
{
	json_t *vm = rig_get("/vm");

	ck_assert_str_eq(json_string_value(json_object_get(vm, "state")), state);
	json_decref(vm);
	check_described("/", "Instance");
	check_described("/vm", "Vm");
	check_described("/vm/config", "VmConfig");
	check_described("/machine-config", "MachineConfig");
}

static void configure(const char *cmdline)
{
	char body[512];

	ck_assert_ptr_nonnull(getenv("VMM_TEST_GUEST"));
	(void)snprintf(body, sizeof(body), "{\"kernel_image_path\":\"%s\",\"cmdline_only\":\"%s\"}",
		       getenv("VMM_TEST_GUEST"), cmdline);
	rig_put("PUT", "/boot-source", body);
	rig_put("PUT", "/machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":64}");
}

static void act(const char *action)
{
	char body[64];

	(void)snprintf(body, sizeof(body), "{\"action_type\":\"%s\"}", action);
	rig_put("PUT", "/actions", body);
}

static void check_refused(const char *method, const char *path, const char *body, const char *code,
			  const char *text)
{
	struct reply reply;

	rig_ask(method, path, body, &reply);
	ck_assert_msg(reply.status == 400, "%s %s: %d %s", method, path, reply.status, reply.body);
	check_refusal(&reply, code, text);
	reply_finish(&reply);
}

/* Takes events until one of that name; *seq counts them without a gap. */
static void take_until(int fd, const char *name, json_int_t *seq)
{
	bool found = false;

	while (!found) {
		struct reply reply = { 0 };
		struct error e = { 0 };
		json_t *event = NULL;

		ck_assert(receive_chunk(fd, &reply));
		check_ok(json_parse(&event, reply.body, reply.len, &e), &e);
		ck_assert_int_eq(json_integer_value(json_object_get(event, "seq")), ++*seq);
		ck_assert_ptr_nonnull(json_string_value(json_object_get(event, "time")));
		found = strcmp(json_string_value(json_object_get(event, "event")), name) == 0;
		json_decref(event);
		reply_finish(&reply);
	}
}

static int follow(void)
{
	static const char request[] = "GET /events HTTP/1.1\r\n\r\n";
	struct reply reply = { 0 };
	int fd = rig_connect();

	rig_send(fd, request, strlen(request));
	receive_head(fd, &reply);
	ck_assert_int_eq(reply.status, 200);
	return fd;
}

START_TEST(test_life)
{
	json_t *document = rig_get("/openapi.json"), *vm;
	json_int_t seq = 0;
	struct reply reply;
	int fd = follow();

	description.document = document;
	check_answers("not-started");
	configure("test=exit mode=spin");
	act("InstanceStart");
	take_until(fd, "started", &seq);
	check_answers("running");
	/* What belongs before the start, and what was there before. */
	check_refused("PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":64}",
		      "wrong-state", "not supported after starting the microVM");
	check_refused("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", "wrong-state",
		      NULL);
	check_refused("PATCH", "/drives/none",
		      "{\"drive_id\":\"none\",\"path_on_host\":\"/dev/null\"}", "not-found",
		      "none");
	rig_put("PATCH", "/vm", "{\"state\":\"Paused\"}");
	take_until(fd, "paused", &seq);
	check_answers("paused");
	rig_put("PATCH", "/vm", "{\"state\":\"Paused\"}");
	rig_put("PATCH", "/vm", "{\"state\":\"Resumed\"}");
	take_until(fd, "resumed", &seq);
	act("Reset");
	take_until(fd, "reset", &seq);
	rig_put("PATCH", "/console", "{\"columns\":132,\"rows\":43}");
	act("SendCtrlAltDel"); /* this guest has no driver for it */
	act("PowerButton");
	take_until(fd, "power-button", &seq);
	rig_ask("GET", "/metrics", NULL, &reply);
	ck_assert_int_eq(reply.status, 200);
	ck_assert_ptr_nonnull(strstr(reply.body, "vmm_vcpu_exits_total{"));
	reply_finish(&reply);
	act("Stop");
	take_until(fd, "stopped", &seq);
	check_answers("ended");
	vm = rig_get("/vm");
	ck_assert_str_eq(json_string_value(json_object_get(json_object_get(vm, "ended"), "reason")),
			 "stopped");
	json_decref(vm);
	check_refused("PATCH", "/vm", "{\"state\":\"Resumed\"}", "wrong-state", "ended");
	(void)close(fd);
	json_decref(document);
}
END_TEST

/* The client has gone before the answer: the start goes on. */
START_TEST(test_gone)
{
	static const char start[] = "PUT /actions HTTP/1.1\r\nContent-Length: 31\r\n\r\n"
				    "{\"action_type\":\"InstanceStart\"}";
	json_int_t seq = 0;
	int events = follow(), fd = rig_connect();

	configure("test=exit mode=spin");
	rig_send(fd, start, strlen(start));
	(void)close(fd);
	take_until(events, "started", &seq);
	act("Stop");
	take_until(events, "stopped", &seq);
	(void)close(events);
}
END_TEST

/* The guest ends by itself; the API stays. */
START_TEST(test_end)
{
	json_int_t seq = 0;
	json_t *vm;
	int fd = follow();

	configure("test=exit mode=code value=9");
	act("InstanceStart");
	take_until(fd, "stopped", &seq);
	vm = rig_get("/vm");
	ck_assert_str_eq(json_string_value(json_object_get(vm, "state")), "ended");
	ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(vm, "ended"), "code")),
			 9);
	json_decref(vm);
	(void)close(fd);
}
END_TEST

static void setup(void)
{
	rig_debug_exit = true;
	rig_setup();
}

CHECK_MAIN("api_life", skip_without_kvm(); CHECK_FIXTURE(setup, rig_teardown);
	   CHECK_TEST(test_life); CHECK_TEST(test_gone); CHECK_TEST(test_end))
