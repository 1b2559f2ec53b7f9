/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API of a VM whose disk does not answer: a request that waits for it holds its own connection,
 * and nobody else's. With real KVM; by the order of events, never by time.
 */
#include "stalled_disk.h"

#include "harness/api_rig.h"
#include "harness/need_kvm.h"

static const char pause_request[] = "PATCH /vm HTTP/1.1\r\nContent-Length: 18\r\n\r\n"
				    "{\"state\":\"Paused\"}";

static void start_and_stall(void)
{
	char body[512], disk[128];

	rig_path(disk, sizeof(disk), "disk");
	rig_write_file("disk", "");
	ck_assert_int_eq(truncate(disk, (off_t)MIB(1)), 0);
	(void)snprintf(body, sizeof(body),
		       "{\"kernel_image_path\":\"%s\",\"cmdline_only\":"
		       "\"test=block-load requests=1000000000\"}",
		       getenv("VMM_TEST_GUEST"));
	rig_put("PUT", "/boot-source", body);
	rig_put("PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":64}");
	(void)snprintf(body, sizeof(body),
		       "{\"drive_id\":\"data\",\"path_on_host\":\"%s\",\"is_root_device\":false}",
		       disk);
	rig_put("PUT", "/drives/data", body);
	stall_begin();
	rig_put("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
	while (stall_held() == 0) {
		ck_assert_int_eq(loop_step(&rig_loop, 1), 0);
	}
}

static bool has_answer(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK) > 0;
}

static void check_state(const char *state)
{
	json_t *vm = rig_get("/vm");

	ck_assert_str_eq(json_string_value(json_object_get(vm, "state")), state);
	json_decref(vm);
}

/* A pause waits; other connections are served; what follows on its own comes after its answer. */
START_TEST(test_waits)
{
	static const char next[] = "GET / HTTP/1.1\r\n\r\n";
	struct reply reply;
	json_t *value = NULL;
	struct error e = { 0 };
	int fd;

	start_and_stall();
	fd = rig_connect();
	rig_send(fd, pause_request, strlen(pause_request));
	rig_send(fd, next, strlen(next));
	while (stall_waiting() == 0) {
		ck_assert_int_eq(loop_step(&rig_loop, 1), 0);
	}
	check_state("pausing");
	rig_ask("GET", "/metrics", NULL, &reply);
	ck_assert_int_eq(reply.status, 200);
	reply_finish(&reply);
	rig_put("PATCH", "/console", "{\"columns\":132,\"rows\":43}");
	ck_assert(!has_answer(fd));
	stall_end();
	rig_reply(fd, false, &reply);
	ck_assert_int_eq(reply.status, 204);
	reply_finish(&reply);
	rig_reply(fd, false, &reply);
	ck_assert_int_eq(reply.status, 200);
	check_ok(json_parse(&value, reply.body, reply.len, &e), &e);
	ck_assert_str_eq(json_string_value(json_object_get(value, "state")), "Paused");
	json_decref(value);
	reply_finish(&reply);
	(void)close(fd);
}
END_TEST

/* The client goes before its answer: the pause goes on, and the next one finds it done. */
START_TEST(test_gone)
{
	int fd;

	start_and_stall();
	fd = rig_connect();
	rig_send(fd, pause_request, strlen(pause_request));
	while (stall_waiting() == 0) {
		ck_assert_int_eq(loop_step(&rig_loop, 1), 0);
	}
	(void)close(fd);
	check_state("pausing");
	stall_end();
	rig_put("PATCH", "/vm", "{\"state\":\"Paused\"}");
	check_state("paused");
}
END_TEST

/* The VM is stopped meanwhile: both are answered, the one with an error. */
START_TEST(test_stopped)
{
	static const char stop[] = "PUT /actions HTTP/1.1\r\nContent-Length: 22\r\n\r\n"
				   "{\"action_type\":\"Stop\"}";
	static const char reset[] = "PUT /actions HTTP/1.1\r\nContent-Length: 23\r\n\r\n"
				    "{\"action_type\":\"Reset\"}";
	int first, second, third;
	struct reply reply;

	start_and_stall();
	first = rig_connect();
	rig_send(first, pause_request, strlen(pause_request));
	second = rig_connect();
	rig_send(second, reset, strlen(reset));
	third = rig_connect();
	rig_send(third, stop, strlen(stop));
	check_state("stopping");
	ck_assert(!has_answer(first) && !has_answer(second) && !has_answer(third));
	stall_end();
	rig_reply(third, false, &reply);
	ck_assert_int_eq(reply.status, 204);
	reply_finish(&reply);
	rig_reply(second, false, &reply);
	ck_assert_int_eq(reply.status, 400);
	check_refusal(&reply, "wrong-state", NULL);
	reply_finish(&reply);
	rig_reply(first, false, &reply);
	ck_assert_int_eq(reply.status, 204);
	reply_finish(&reply);
	check_state("ended");
	(void)close(first);
	(void)close(second);
	(void)close(third);
}
END_TEST

static void setup(void)
{
	rig_debug_exit = true;
	rig_setup();
}

static void teardown(void)
{
	stall_end();
	rig_teardown();
}

CHECK_MAIN("api_changes", skip_without_kvm(); CHECK_FIXTURE(setup, teardown);
	   CHECK_TEST(test_waits); CHECK_TEST(test_gone); CHECK_TEST(test_stopped))
