/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an instance with real KVM and bare-metal guests, in this process: the sandbox is off,
 * because nobody leaves it again; one test enters it in a child. VMM_TEST_GUEST and VMM_TEST_HELLO name the guests.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../../src/instance/internal.h"
#include "instance_rig.h"

#define PATIENCE_NS (200 * 1000000000ULL)

/* A console that keeps what comes. */
static struct {
	struct console_channel channel;
	pthread_mutex_t lock;
	size_t len;
	char text[KIB(64)];
} screen;

static void screen_output(struct console_channel *channel, const uint8_t *data, size_t len)
{
	(void)channel;
	(void)pthread_mutex_lock(&screen.lock);
	len = MIN(len, sizeof(screen.text) - 1 - screen.len);
	memcpy(screen.text + screen.len, data, len);
	screen.len += len;
	(void)pthread_mutex_unlock(&screen.lock);
}

static void screen_ready(struct console_channel *channel)
{
	(void)channel;
}

static bool screen_has(const char *text)
{
	bool found;

	(void)pthread_mutex_lock(&screen.lock);
	found = strstr(screen.text, text) != NULL;
	(void)pthread_mutex_unlock(&screen.lock);
	return found;
}

static void setup(void)
{
	rig_setup();
	memset(&screen, 0, sizeof(screen));
	screen.channel = (struct console_channel){ screen_output, screen_ready, NULL };
	(void)pthread_mutex_init(&screen.lock, NULL);
	rig.host.serial = &screen.channel;
	instance_destroy(rig.instance);
	rig.settings.debug_exit = true;
	check_ok(instance_create(&rig.instance, &rig.settings, &rig.host, &rig.e), &rig.e);
}

static void put_kernel(const char *path, const char *cmdline)
{
	json_t *json = json_pack("{s:s, s:s}", "kernel_image_path", path, "cmdline_only", cmdline);

	check_ok(rig_request(REQUEST_PUT_BOOT_SOURCE, NULL, json, NULL), &rig.e);
	json_decref(json);
}

static void put_guest(const char *cmdline)
{
	const char *guest = getenv("VMM_TEST_GUEST");

	ck_assert_ptr_nonnull(guest);
	put_kernel(guest, cmdline);
	rig_ok(REQUEST_PUT_MACHINE_CONFIG, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 64}");
}

static void step(void)
{
	ck_assert_int_eq(loop_step(&rig.loop, 1), 0);
}

#define step_until(condition)                                                                 \
	for (uint64_t deadline_ = loop_now_ns() + PATIENCE_NS; !(condition); step()) {        \
		ck_assert_msg(loop_now_ns() < deadline_, "never: %s; output '%s'; end %d %s", \
			      #condition, screen.text, rig.stop.reason, rig.stop.error.msg);  \
	}

static void start_now(void)
{
	check_ok(instance_start_now(rig.instance, &rig.e), &rig.e);
	ck_assert_int_eq(instance_state(rig.instance), INSTANCE_RUNNING);
	ck_assert_ptr_nonnull(instance_vm(rig.instance));
	ck_assert_uint_eq(rig.started, 1);
}

/* A call that waits for its answer. */
struct waiting {
	struct instance_call call;
	unsigned done;
	struct error failure; /* code ERROR_NONE: success */
};

static void done(struct instance_call *call, json_t *reply, const struct error *failure)
{
	struct waiting *waiting = container_of(call, struct waiting, call);

	json_decref(reply);
	waiting->done++;
	waiting->failure = failure != NULL ? *failure : (struct error){ 0 };
}

static void start_by_request(struct waiting *waiting)
{
	const struct action action = { .type = ACTION_INSTANCE_START };
	const struct request request = { .type = REQUEST_PUT_ACTION, .object = &action };

	*waiting = (struct waiting){ .call.done = done };
	instance_request(rig.instance, &request, &waiting->call);
}

static void check_state(const char *vm_state, const char *instance_state)
{
	json_t *vm = rig_get(REQUEST_GET_VM, NULL);
	json_t *instance = rig_get(REQUEST_GET_INSTANCE, NULL);

	ck_assert_str_eq(json_string_value(json_object_get(vm, "state")), vm_state);
	ck_assert_str_eq(json_string_value(json_object_get(instance, "state")), instance_state);
	json_decref(vm);
	json_decref(instance);
}

/* Whichever way it is started. */
START_TEST(test_start)
{
	struct waiting waiting = { .done = 0 };

	put_guest("test=exit mode=code value=5");
	if (_i == 0) {
		start_now();
	} else {
		start_by_request(&waiting);
		ck_assert_uint_eq(waiting.done, 0);
		check_state("starting", "Not started");
		step_until(waiting.done != 0);
		ck_assert_msg(waiting.failure.code == ERROR_NONE, "%s", waiting.failure.msg);
		ck_assert_uint_eq(rig.started, 1);
	}
	step_until(rig.ended != 0);
	ck_assert_int_eq(rig.stop.reason, VM_STOP_DEBUG_EXIT);
	ck_assert_int_eq(rig.stop.code, 5);
	ck_assert_int_eq(instance_state(rig.instance), INSTANCE_ENDED);
	ck_assert_uint_ge(waiting.done, (unsigned)_i);
	ck_assert_uint_eq(rig_events("starting"), 1);
	ck_assert_uint_eq(rig_events("started"), 1);
	ck_assert_uint_eq(rig_events("stopped"), 1);
}
END_TEST

START_TEST(test_ended)
{
	json_t *vm, *ended;
	uint64_t uptime;

	put_guest("test=exit mode=code value=7");
	start_now();
	step_until(rig.ended != 0);
	check_state("ended", "Not started");
	vm = rig_get(REQUEST_GET_VM, NULL);
	ended = json_object_get(vm, "ended");
	ck_assert_str_eq(json_string_value(json_object_get(ended, "reason")), "debug-exit");
	ck_assert_int_eq(json_integer_value(json_object_get(ended, "code")), 7);
	json_decref(vm);
	uptime = instance_uptime_ns(rig.instance);
	ck_assert_uint_ne(uptime, 0);
	ck_assert_uint_eq(instance_uptime_ns(rig.instance), uptime);
	rig_refused(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}", ERROR_WRONG_STATE, "ended");
	rig_action_refused("Stop", ERROR_WRONG_STATE, "ended");
	rig_action_refused("Reset", ERROR_WRONG_STATE, "ended");
	rig_action_refused("InstanceStart", ERROR_WRONG_STATE, "after starting");
	rig_action("FlushMetrics");
	ck_assert_int_lt(instance_start_now(rig.instance, &rig.e), 0);
	check_error(&rig.e, ERROR_WRONG_STATE, "after starting");
}
END_TEST

static unsigned entries(const char *path)
{
	DIR *directory = opendir(path);
	unsigned count = 0;

	while (readdir(directory) != NULL) {
		count++;
	}
	(void)closedir(directory);
	return count;
}

/* A start that fails leaves nothing behind, and works when its cause is gone. */
START_TEST(test_failed_start)
{
	struct waiting waiting;
	unsigned descriptors;
	char *before;

	put_guest("test=exit mode=code value=0");
	rig_ok(REQUEST_PUT_NET, "eth0", "{\"iface_id\": \"eth0\", \"host_dev_name\": \"lo\"}");
	rig_ok(REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"metrics\"}");
	before = rig_text(REQUEST_GET_VM_CONFIG);
	descriptors = entries("/proc/self/fd");
	for (unsigned i = 1; i <= 3; i++) {
		if (_i == 0) {
			ck_assert_int_lt(instance_start_now(rig.instance, &waiting.failure), 0);
		} else {
			start_by_request(&waiting);
			step_until(waiting.done != 0);
			ck_assert_uint_eq(rig.failed, i);
		}
		check_error(&waiting.failure, ERROR_NET, "'lo' is an interface, but not a tap");
		ck_assert_int_eq(instance_state(rig.instance), INSTANCE_NOT_STARTED);
		ck_assert_ptr_null(instance_vm(rig.instance));
		ck_assert_uint_eq(instance_uptime_ns(rig.instance), 0);
		ck_assert_uint_eq(rig_events("start-failed"), i);
		rig_expect(REQUEST_GET_VM_CONFIG, before);
		ck_assert_uint_eq(entries("/proc/self/fd"), descriptors);
	}
	free(before);
	/* The configuration without the card, as a client would have to bring it about. */
	{
		json_t *config = rig_get(REQUEST_GET_VM_CONFIG, NULL);

		(void)json_object_del(config, "network-interfaces");
		check_ok(instance_apply_config(rig.instance, config, &rig.e), &rig.e);
		json_decref(config);
	}
	start_now();
	step_until(rig.ended != 0);
	ck_assert_int_eq(rig.stop.reason, VM_STOP_DEBUG_EXIT);
}
END_TEST

/* Less than Linux wants is enough for others; what is too small for the kernel that is named is the
 * start's to say. */
START_TEST(test_small_memory)
{
	struct error e = { 0 };

	put_guest("test=exit mode=code value=5");
	rig_ok(REQUEST_PUT_MACHINE_CONFIG, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 1}");
	ck_assert_int_lt(instance_start_now(rig.instance, &e), 0);
	ck_assert_msg(strstr(e.msg, "kernel") != NULL, "%s", e.msg);
	ck_assert_msg(strstr(e.hint, "--memory") != NULL, "%s", e.hint);
	rig_ok(REQUEST_PUT_MACHINE_CONFIG, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 4}");
	start_now();
	step_until(rig.ended != 0);
	ck_assert_int_eq(rig.stop.reason, VM_STOP_DEBUG_EXIT);
	ck_assert_int_eq(rig.stop.code, 5);
}
END_TEST

/* What changes the VM is refused while it is being started; what reads is answered. */
START_TEST(test_busy)
{
	struct waiting waiting, second;

	put_guest("test=exit mode=spin");
	start_by_request(&waiting);
	rig_refused(REQUEST_PUT_ENTROPY, NULL, "{}", ERROR_BUSY, "being started");
	rig_refused(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}", ERROR_BUSY, "being started");
	rig_action_refused("Stop", ERROR_BUSY, "being started");
	rig_action_refused("InstanceStart", ERROR_BUSY, "being started");
	start_by_request(&second);
	ck_assert_uint_eq(second.done, 1);
	check_error(&second.failure, ERROR_BUSY, "being started");
	ck_assert_int_lt(instance_start_now(rig.instance, &rig.e), 0);
	check_error(&rig.e, ERROR_BUSY, "being started");
	rig_ok(REQUEST_PATCH_CONSOLE, NULL, "{\"columns\": 80, \"rows\": 24}");
	json_decref(rig_get(REQUEST_GET_VM_CONFIG, NULL));
	step_until(waiting.done != 0);
	ck_assert_int_eq(waiting.failure.code, ERROR_NONE);
	ck_assert_uint_eq(second.done, 1);
}
END_TEST

/* The instance ends while it starts: at once, or when the thread is over and main has not heard of
 * it. The caller hears of it unless it is gone. */
START_TEST(test_destroy_while_starting)
{
	struct waiting waiting;

	put_guest("test=exit mode=spin");
	start_by_request(&waiting);
	if (_i % 2 == 1) {
		const struct timespec moment = { .tv_nsec = 100000000 };

		(void)nanosleep(&moment, NULL);
	}
	if (_i / 2 == 1) {
		instance_forget(rig.instance, &waiting.call);
	}
	instance_destroy(rig.instance);
	rig.instance = NULL;
	ck_assert_uint_eq(waiting.done, _i / 2 == 1 ? 0 : 1);
	if (waiting.done != 0) {
		check_error(&waiting.failure, ERROR_CANCELLED, "ends");
	}
	step();
	ck_assert_uint_eq(rig.started + rig.ended, 0);
}
END_TEST

START_TEST(test_forgotten)
{
	struct waiting waiting;

	put_guest("test=exit mode=spin");
	start_by_request(&waiting);
	instance_forget(rig.instance, &waiting.call);
	step_until(rig.started != 0);
	ck_assert_uint_eq(waiting.done, 0);
	ck_assert_int_eq(instance_state(rig.instance), INSTANCE_RUNNING);
}
END_TEST

START_TEST(test_pause)
{
	put_guest("test=exit mode=spin");
	start_now();
	step_until(screen_has("spinning"));
	check_state("running", "Running");
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
	ck_assert_uint_eq(rig_events("resumed"), 0);
	for (unsigned i = 1; i <= 3; i++) {
		rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}");
		rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}");
		check_state("paused", "Paused");
		ck_assert_uint_eq(rig_events("paused"), i);
		rig_action_refused("Reset", ERROR_WRONG_STATE, "resume it first");
		rig_action_refused("PowerButton", ERROR_WRONG_STATE, "resume it first");
		rig_action("SendCtrlAltDel");
		ck_assert_uint_eq(rig_events("ctrl-alt-del"), i);
		rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
		rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
		check_state("running", "Running");
		ck_assert_uint_eq(rig_events("resumed"), i);
	}
	if (_i == 1) {
		rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}");
	}
	rig_action("Stop");
	/* At once, though the VM's own word comes from the loop. */
	check_state("ended", "Not started");
	rig_action_refused("Stop", ERROR_WRONG_STATE, "ended");
	step_until(rig.ended != 0);
	ck_assert_int_eq(rig.stop.reason, VM_STOP_REQUESTED);
	step();
	ck_assert_uint_eq(rig.ended, 1);
}
END_TEST

static json_int_t figure(const char *key)
{
	json_t *vm = rig_get(REQUEST_GET_VM, NULL);
	json_int_t n = json_integer_value(json_object_get(vm, key));

	json_decref(vm);
	return n;
}

/* By request, and by the guest: numbered, told, and not told a thousand times. */
START_TEST(test_reset)
{
	put_guest("test=exit mode=spin");
	start_now();
	for (int i = 0; i < 20; i++) {
		rig_action("Reset");
	}
	step();
	ck_assert_int_eq(figure("resets"), 20);
	ck_assert_uint_ge(rig_events("reset"), 1);
	ck_assert_uint_le(rig_events("reset"), 20);
	step_until(screen_has("spinning"));
}
END_TEST

START_TEST(test_guest_reboots)
{
	/* It counts on its disk. */
	put_guest("test=reboot mode=reset count=4");
	rig_ok(REQUEST_PUT_DRIVE, "data",
	       "{\"drive_id\": \"data\", \"path_on_host\": \"disk\", "
	       "\"is_root_device\": false}");
	start_now();
	step_until(rig.ended != 0);
	ck_assert_int_eq(rig.stop.reason, VM_STOP_POWER_OFF);
	ck_assert_int_eq(figure("resets"), 3);
	ck_assert_uint_ge(rig_events("reset"), 1);
}
END_TEST

START_TEST(test_reboot_ends)
{
	instance_destroy(rig.instance);
	rig.settings.on_reboot = VM_ON_REBOOT_EXIT;
	check_ok(instance_create(&rig.instance, &rig.settings, &rig.host, &rig.e), &rig.e);
	put_guest("test=exit mode=reset");
	start_now();
	step_until(rig.ended != 0);
	ck_assert_int_eq(rig.stop.reason, VM_STOP_REBOOT);
}
END_TEST

START_TEST(test_power_button)
{
	put_guest("test=powerbutton");
	start_now();
	step_until(screen_has("ready"));
	rig_action("PowerButton");
	ck_assert_uint_eq(rig_events("power-button"), 1);
	rig_action("SendCtrlAltDel"); /* which has no driver for it */
	ck_assert_uint_eq(rig_events("ctrl-alt-del"), 1);
	step_until(rig.ended != 0);
}
END_TEST

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
		{ REQUEST_PUT_DRIVE, "{\"drive_id\": \"a\", \"path_on_host\": \"disk\", "
				     "\"is_root_device\": false}" },
		{ REQUEST_PUT_NET, "{\"iface_id\": \"a\", \"host_dev_name\": \"t\"}" },
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
	rig_ok(REQUEST_PUT_DRIVE, "data",
	       "{\"drive_id\": \"data\", \"path_on_host\": \"disk\", "
	       "\"is_root_device\": false}");
	rig_ok(REQUEST_PUT_DRIVE, "root",
	       "{\"drive_id\": \"root\", \"path_on_host\": \"disk2\", "
	       "\"is_root_device\": true, \"is_read_only\": true}");
	rig_write_file("other", "", 0, (off_t)MIB(2));
	start_now();
	rig_refused(REQUEST_PATCH_DRIVE, "none", "{\"drive_id\": \"none\"}", ERROR_NOT_FOUND,
		    "'none'");
	rig_refused(REQUEST_PATCH_DRIVE, "data", "{\"drive_id\": \"root\"}", ERROR_CONFIG,
		    "does not match");
	rig_refused(REQUEST_PATCH_DRIVE, "data",
		    "{\"drive_id\": \"data\", \"path_on_host\": \"nowhere\"}", ERROR_DISK,
		    "nowhere");
	rig_ok(REQUEST_PATCH_DRIVE, "data", "{\"drive_id\": \"data\"}");
	rig_ok(REQUEST_PATCH_DRIVE, "data",
	       "{\"drive_id\": \"data\", \"path_on_host\": \"other\", \"rate_limiter\": {\"ops\": "
	       "{\"size\": 7, \"refill_time\": 100}}}");
	rig_ok(REQUEST_PATCH_DRIVE, "data",
	       "{\"drive_id\": \"data\", \"rate_limiter\": {\"bandwidth\": {\"size\": 9, "
	       "\"refill_time\": 100}}}");
	config = rig_get(REQUEST_GET_VM_CONFIG, NULL);
	drives = json_object_get(config, "drives");
	ck_assert_str_eq(
		json_string_value(json_object_get(json_array_get(drives, 0), "path_on_host")),
		"other");
	ck_assert_uint_eq(
		json_object_size(json_object_get(json_array_get(drives, 0), "rate_limiter")), 2);
	ck_assert_str_eq(
		json_string_value(json_object_get(json_array_get(drives, 1), "path_on_host")),
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

	instance_destroy(rig.instance);
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
	rig_ok(REQUEST_PUT_DRIVE, "data",
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

/* As long as the process lives, one after the other. */
START_TEST(test_destroy_while_running)
{
	put_guest("test=exit mode=spin");
	rig_ok(REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"metrics\"}");
	start_now();
	if (_i == 1) {
		rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}");
	}
	if (_i == 2) {
		rig_action("Stop");
	}
	instance_destroy(rig.instance);
	rig.instance = NULL;
	step();
	ck_assert_uint_eq(rig.ended, 0);
}
END_TEST

/* --- jobs in the sandbox ------------------------------------------------------------------------ */

/* A job's heap, also where it asks the kernel for more; or a call that is not a job's. */
static int job_run(struct job *job, void *arg, struct error *e)
{
	const bool *strays = arg;

	(void)e;
	for (size_t size = 1; size <= MIB(16); size *= 4) {
		char *room = malloc(size);

		ck_assert_ptr_nonnull(room);
		memset(room, 1, size);
		free(room);
		job_progress(job, "filling", size, MIB(16));
	}
	return *strays ? socket(AF_INET, SOCK_DGRAM, 0) : 0;
}

static unsigned jobs_over;

static void job_ended(void *arg)
{
	(void)arg;
	jobs_over++;
}

/* Main has entered its filter, in which it could not start a thread for a job. */
static void jobs_in_sandbox(bool stray)
{
	static const struct job_ops ops = { .kind = "fill", .run = job_run, .ended = job_ended };
	struct jobs *jobs;
	uint64_t id = 0;

	instance_destroy(rig.instance);
	rig.settings.sandbox = SANDBOX_ON;
	check_ok(instance_create(&rig.instance, &rig.settings, &rig.host, &rig.e), &rig.e);
	put_guest("test=exit mode=spin");
	start_now();
	jobs = instance_jobs(rig.instance);
	for (unsigned i = 0; i < 3; i++) {
		/* The first one perhaps before the worker is there. */
		check_ok(jobs_start(jobs, &ops, &stray, &id, &rig.e), &rig.e);
		step_until(jobs_over == i + 1);
	}
	instance_destroy(rig.instance);
}

START_TEST(test_jobs_in_sandbox)
{
	int status;
	pid_t pid;

	if (SANITIZED) {
		CHECK_SKIP("built with a sanitizer");
	}
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		jobs_in_sandbox(_i == 1);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == (_i == 1 ? 125 : 0),
		      "status 0x%x", (unsigned int)status);
}
END_TEST

static void skip_without_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		printf("1..0 # SKIP /dev/kvm cannot be opened\n");
		exit(EXIT_SUCCESS);
	}
}

CHECK_MAIN("instance_start", skip_without_kvm(); CHECK_FIXTURE(setup, rig_teardown);
	   CHECK_LOOP(test_start, 2); CHECK_TEST(test_ended); CHECK_LOOP(test_failed_start, 2);
	   CHECK_TEST(test_busy); CHECK_TEST(test_small_memory);
	   CHECK_LOOP(test_destroy_while_starting, 4); CHECK_TEST(test_forgotten);
	   CHECK_LOOP(test_pause, 2); CHECK_TEST(test_reset); CHECK_TEST(test_guest_reboots);
	   CHECK_TEST(test_reboot_ends); CHECK_TEST(test_power_button);
	   CHECK_TEST(test_after_start); CHECK_TEST(test_patch_drive); CHECK_TEST(test_patch_net);
	   CHECK_TEST(test_addresses_differ); CHECK_LOOP(test_serial_file, 2);
	   CHECK_TEST(test_serial_limit); CHECK_TEST(test_metrics_file);
	   CHECK_TEST(test_metrics_full); CHECK_TEST(test_metrics_timer); CHECK_TEST(test_figures);
	   CHECK_LOOP(test_destroy_while_running, 3); CHECK_LOOP(test_jobs_in_sandbox, 2))
