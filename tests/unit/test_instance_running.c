/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a running instance is asked for: changes of its disks and cards, its output and figures in files,
 * and what cannot be changed any more.
 */
#include "harness/running_rig.h"

/* What is made before the start is not changed after it. */
START_TEST(test_after_start)
{
	static const struct {
		enum request_type type;
		const char *text;
	} rows[] = {
		{ REQUEST_PUT_BOOT_SOURCE, "{\"kernel_image_path\": \"kernel\"}" },
		{ REQUEST_PUT_MACHINE_CONFIG, "{\"vcpu_count\": 1, \"mem_size_mib\": 64}" },
		{ REQUEST_PATCH_MACHINE_CONFIG, "{\"vcpu_count\": 1}" },
		{ REQUEST_PUT_CPU_CONFIG, "{}" },
		{ REQUEST_PUT_SERIAL, "{}" },
		{ REQUEST_PUT_ENTROPY, "{}" },
		{ REQUEST_PUT_LOGGER, "{\"log_path\": \"new.log\"}" },
		{ REQUEST_PUT_METRICS, "{\"metrics_path\": \"new.log\"}" },
	};
	json_t *config;
	char *before;

	put_guest("test=exit mode=spin");
	start_now();
	before = rig_text(REQUEST_GET_VM_CONFIG);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		rig_refused(rows[i].type, NULL, rows[i].text, ERROR_WRONG_STATE,
			    "The requested operation is not supported after starting the microVM.");
	}
	config = rig_get(REQUEST_GET_VM_CONFIG, NULL);
	ck_assert_int_lt(instance_apply_config(rig.instance, config, &rig.e), 0);
	check_error(&rig.e, ERROR_WRONG_STATE, "after starting");
	json_decref(config);
	rig_expect(REQUEST_GET_VM_CONFIG, before);
	ck_assert_int_ne(access("new.log", F_OK), 0);
	free(before);
}
END_TEST

/* Drives keep their ids, whichever place the root drive gives them. */
START_TEST(test_patch_drive)
{
	json_t *config, *drives;

	put_guest("test=exit mode=spin");
	rig_ok(REQUEST_PUT_DISK, "data",
	       "{\"drive_id\": \"data\", \"path_on_host\": \"disk\", "
	       "\"is_root_device\": false}");
	rig_ok(REQUEST_PUT_DISK, "root",
	       "{\"drive_id\": \"root\", \"path_on_host\": \"disk2\", "
	       "\"is_root_device\": true, \"is_read_only\": true}");
	rig_write_file("other", "", 0, (off_t)MIB(2));
	start_now();
	rig_refused(REQUEST_PATCH_DISK, "none", "{\"drive_id\": \"none\"}", ERROR_NOT_FOUND,
		    "'none'");
	rig_refused(REQUEST_PATCH_DISK, "data", "{\"drive_id\": \"root\"}", ERROR_CONFIG,
		    "does not match");
	rig_refused(REQUEST_PATCH_DISK, "data",
		    "{\"drive_id\": \"data\", \"path_on_host\": \"nowhere\"}", ERROR_DISK,
		    "nowhere");
	rig_ok(REQUEST_PATCH_DISK, "data", "{\"drive_id\": \"data\"}");
	rig_ok(REQUEST_PATCH_DISK, "data",
	       "{\"drive_id\": \"data\", \"path_on_host\": \"other\", \"rate_limiter\": {\"ops\": "
	       "{\"size\": 7, \"refill_time\": 100}}}");
	rig_ok(REQUEST_PATCH_DISK, "data",
	       "{\"drive_id\": \"data\", \"rate_limiter\": {\"bandwidth\": {\"size\": 9, "
	       "\"refill_time\": 100}}}");
	config = rig_get(REQUEST_GET_VM_CONFIG, NULL);
	/* As the machine has them: the root drive is the first one. */
	drives = json_object_get(config, "drives");
	ck_assert_str_eq(
		json_string_value(json_object_get(json_array_get(drives, 1), "path_on_host")),
		"other");
	ck_assert_uint_eq(
		json_object_size(json_object_get(json_array_get(drives, 1), "rate_limiter")), 2);
	ck_assert_str_eq(
		json_string_value(json_object_get(json_array_get(drives, 0), "path_on_host")),
		"disk2");
	json_decref(config);
	rig_refused(REQUEST_PATCH_NET, "eth0", "{\"iface_id\": \"eth0\"}", ERROR_NOT_FOUND,
		    "'eth0'");
	ck_assert_uint_eq(rig_events("drive-updated"), 3);
}
END_TEST

/* What a guest reads as its card's address, in an instance of that identity. */
static void read_address(const char *identity, char mac[18])
{
	struct vm_net_config net = { .kind = VM_NET_FD };
	const struct request request = { .type = REQUEST_PUT_NET, .id = "eth0", .object = &net };
	const char *line;
	int pair[2];

	ck_assert(instance_destroy(rig.instance));
	rig.settings.identity = identity;
	rig.started = rig.ended = 0;
	screen.len = 0;
	memset(screen.text, 0, sizeof(screen.text));
	check_ok(instance_create(&rig.instance, &rig.settings, &rig.host, &rig.e), &rig.e);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	net.fd = pair[0];
	put_guest("test=net count=0");
	check_ok(instance_request_now(rig.instance, &request, NULL, &rig.e), &rig.e);
	start_now();
	step_until(rig.ended != 0);
	line = strstr(screen.text, "mac ");
	ck_assert_msg(line != NULL, "%s", screen.text);
	(void)snprintf(mac, 18, "%s", line + 4);
	(void)close(pair[1]);
}

/* Two VMs that nobody gave a name or an address, and one of them again. */
START_TEST(test_addresses_differ)
{
	char one[18], two[18], again[18], nobody[18], no_one[18];

	read_address("id x at /run/one.sock", one);
	read_address("id x at /run/two.sock", two);
	read_address("id x at /run/one.sock", again);
	read_address(NULL, nobody);
	read_address(NULL, no_one);
	ck_assert_str_ne(one, two);
	ck_assert_str_eq(one, again);
	ck_assert_str_ne(nobody, no_one);
	ck_assert_str_ne(one, nobody);
}
END_TEST

/* A card whose frames go to a socket. */
START_TEST(test_patch_net)
{
	struct vm_net_config net = { .kind = VM_NET_FD };
	const struct request request = { .type = REQUEST_PUT_NET, .id = "eth0", .object = &net };
	json_t *config, *card;
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	net.fd = pair[0];
	put_guest("test=exit mode=spin");
	check_ok(instance_request_now(rig.instance, &request, NULL, &rig.e), &rig.e);
	start_now();
	rig_ok(REQUEST_PATCH_NET, "eth0",
	       "{\"iface_id\": \"eth0\", \"rx_rate_limiter\": {\"ops\": {\"size\": 1000, "
	       "\"refill_time\": 100}}}");
	rig_ok(REQUEST_PATCH_NET, "eth0",
	       "{\"iface_id\": \"eth0\", \"tx_rate_limiter\": {\"bandwidth\": {\"size\": 5, "
	       "\"refill_time\": 100}}, \"rx_rate_limiter\": {\"ops\": {\"size\": 0, "
	       "\"refill_time\": 0}}}");
	rig_refused(REQUEST_PATCH_NET, "eth1", "{\"iface_id\": \"eth1\"}", ERROR_NOT_FOUND,
		    "'eth1'");
	config = rig_get(REQUEST_GET_VM_CONFIG, NULL);
	card = json_array_get(json_object_get(config, "network-interfaces"), 0);
	ck_assert_int_eq(
		json_integer_value(json_object_get(
			json_object_get(json_object_get(card, "rx_rate_limiter"), "ops"), "size")),
		0);
	ck_assert_ptr_nonnull(
		json_object_get(json_object_get(card, "tx_rate_limiter"), "bandwidth"));
	json_decref(config);
	ck_assert_uint_eq(rig_events("net-updated"), 2);
	(void)close(pair[1]);
}
END_TEST

static char *read_file(const char *name)
{
	static char text[KIB(64)];
	int fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	(void)close(fd);
	text[MAX(n, 0)] = '\0';
	return text;
}

/* What leaves the VM's report knows of its end before a client does. */
START_TEST(test_host_hears_first)
{
	put_guest("test=exit mode=code value=0");
	start_now();
	step_until(rig.ended != 0);
	ck_assert_uint_eq(rig.heard, 0);
	ck_assert_uint_eq(rig_events("stopped"), 1);
}
END_TEST

/* The serial port's output into a file, instead of the console. */
START_TEST(test_serial_file)
{
	put_guest("test=exit mode=spin");
	rig_ok(REQUEST_PUT_SERIAL, NULL,
	       _i == 0 ? "{\"serial_out_path\": \"out\"}" : "{\"serial_out_path\": \"fifo\"}");
	start_now();
	step_until(strstr(read_file(_i == 0 ? "out" : "fifo"), "spin") != NULL || _i == 1);
	ck_assert_uint_eq(screen.len, 0);
}
END_TEST

/* Beyond its limit output is lost, and counted. */
START_TEST(test_serial_limit)
{
	struct metrics_text text = { 0 };

	put_guest("test=exit mode=code value=0");
	rig_ok(REQUEST_PUT_SERIAL, NULL,
	       "{\"rate_limiter\": {\"size\": 3, \"refill_time\": 100000000}}");
	start_now();
	step_until(rig.ended != 0);
	ck_assert_uint_le(screen.len, 4);
	instance_write_metrics(rig.instance, &text);
	ck_assert_ptr_nonnull(strstr(text.data, "vmm_serial_output_lost_bytes_total "));
	ck_assert_ptr_null(strstr(text.data, "vmm_serial_output_lost_bytes_total 0\n"));
	free(text.data);
}
END_TEST

/* A line at the start, one for each flush, one at the end; each an object. */
START_TEST(test_metrics_file)
{
	json_int_t drives = 0, actions;
	unsigned lines = 0;
	char *rest, *line;

	put_guest("test=exit mode=spin");
	rig_ok(REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"metrics\", \"emit_id\": true}");
	rig_ok(REQUEST_PUT_DISK, "data",
	       "{\"drive_id\": \"data\", \"path_on_host\": \"disk\", "
	       "\"is_root_device\": false}");
	start_now();
	rig_action("FlushMetrics");
	rig_action("FlushMetrics");
	rig_action("Stop");
	step_until(rig.ended != 0);
	rest = read_file("metrics");
	while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
		json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

		ck_assert_msg(json != NULL, "not JSON: %s", line);
		lines++;
		ck_assert_str_eq(json_string_value(json_object_get(json, "id")), "test");
		ck_assert_int_gt(json_integer_value(json_object_get(json, "utc_timestamp_ms")),
				 1700000000000LL);
		ck_assert(json_is_object(json_object_get(json, "vcpu")));
		ck_assert(json_is_object(json_object_get(json, "block")));
		ck_assert_msg(json_is_object(json_object_get(json, "block_data")), "%s", line);
		/* Each says what came since the one before. */
		drives += json_integer_value(
			json_object_get(json_object_get(json, "put_api_requests"), "drive_count"));
		actions = json_integer_value(json_object_get(
			json_object_get(json, "put_api_requests"), "actions_count"));
		ck_assert_int_eq(actions, lines == 1 ? 0 : 1);
		json_decref(json);
	}
	ck_assert_uint_eq(lines, 4);
	ck_assert_int_eq(drives, 1);
}
END_TEST

/* Each minute, too. */
START_TEST(test_metrics_timer)
{
	put_guest("test=exit mode=spin");
	rig_ok(REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"metrics\"}");
	start_now();
	for (uint64_t i = 2; i <= 3; i++) {
		struct loop_timer *timer = &rig.instance->metrics_timer;

		ck_assert_uint_eq(rig.instance->metrics.lines, i - 1);
		ck_assert_uint_gt(timer->deadline_ns, loop_now_ns());
		loop_timer_set(&rig.loop, timer, 0, timer->expired);
		step_until(rig.instance->metrics.lines == i);
	}
}
END_TEST

/* A FIFO that nobody reads gets full; nothing waits. */
START_TEST(test_metrics_full)
{
	struct metrics_text text = { 0 };

	put_guest("test=exit mode=spin");
	rig_ok(REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"fifo\"}");
	start_now();
	for (int i = 0; i < 500; i++) {
		rig_action("FlushMetrics");
	}
	instance_write_metrics(rig.instance, &text);
	ck_assert_ptr_nonnull(strstr(text.data, "vmm_metrics_lines_lost_total "));
	ck_assert_ptr_null(strstr(text.data, "vmm_metrics_lines_lost_total 0\n"));
	ck_assert_ptr_nonnull(strstr(text.data, "vmm_state{state=\"running\"} 1\n"));
	free(text.data);
}
END_TEST

START_TEST(test_figures)
{
	json_t *vm, *vcpu;

	put_guest("test=exit mode=spin");
	rig_ok(REQUEST_PATCH_MACHINE_CONFIG, NULL, "{\"vcpu_count\": 2}");
	start_now();
	step_until(screen_has("spinning"));
	vm = rig_get(REQUEST_GET_VM, NULL);
	ck_assert_int_eq(json_integer_value(json_object_get(vm, "vcpu_count")), 2);
	ck_assert_uint_eq(json_array_size(json_object_get(vm, "vcpus")), 2);
	vcpu = json_array_get(json_object_get(vm, "vcpus"), 0);
	ck_assert_int_gt(json_integer_value(json_object_get(vcpu, "cpu_time_us")), 0);
	ck_assert_int_gt(json_integer_value(json_object_get(json_object_get(vcpu, "exits"), "io")),
			 0);
	ck_assert_int_eq(
		json_integer_value(json_object_get(json_object_get(vm, "memory"), "size_bytes")),
		MIB(64));
	json_decref(vm);
}
END_TEST

CHECK_MAIN("instance_running", skip_without_kvm(); CHECK_FIXTURE(setup, rig_teardown);
	   CHECK_TEST(test_after_start); CHECK_TEST(test_patch_drive); CHECK_TEST(test_patch_net);
	   CHECK_TEST(test_host_hears_first); CHECK_TEST(test_addresses_differ);
	   CHECK_LOOP(test_serial_file, 2); CHECK_TEST(test_serial_limit);
	   CHECK_TEST(test_metrics_file); CHECK_TEST(test_metrics_full);
	   CHECK_TEST(test_metrics_timer); CHECK_TEST(test_figures))
