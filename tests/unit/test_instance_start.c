/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an instance with a guest: starts that succeed, fail and are given up, pause, reset, the power
 * button, ends. One test enters the sandbox, in a child.
 */
#include "harness/running_rig.h"

/* Whichever way it is started. */
START_TEST(test_start)
{
	struct rig_call waiting = { .done = 0 };

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
	ck_assert_int_lt(instance_start_now(rig.instance, false, &rig.e), 0);
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
	struct rig_call waiting;
	unsigned descriptors;
	char *before;

	put_guest("test=exit mode=code value=0");
	rig_ok(REQUEST_PUT_NET, "eth0", "{\"iface_id\": \"eth0\", \"host_dev_name\": \"lo\"}");
	rig_ok(REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"metrics\"}");
	before = rig_text(REQUEST_GET_VM_CONFIG);
	descriptors = entries("/proc/self/fd");
	for (unsigned i = 1; i <= 3; i++) {
		if (_i == 0) {
			ck_assert_int_lt(instance_start_now(rig.instance, false, &waiting.failure),
					 0);
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
	ck_assert_int_lt(instance_start_now(rig.instance, false, &e), 0);
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
	struct rig_call waiting, second;

	put_guest("test=exit mode=spin");
	start_by_request(&waiting);
	rig_refused(REQUEST_PUT_ENTROPY, NULL, "{}", ERROR_BUSY, "being started");
	rig_refused(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}", ERROR_BUSY, "being started");
	rig_action_refused("Stop", ERROR_BUSY, "being started");
	rig_action_refused("InstanceStart", ERROR_BUSY, "being started");
	start_by_request(&second);
	ck_assert_uint_eq(second.done, 1);
	check_error(&second.failure, ERROR_BUSY, "being started");
	ck_assert_int_lt(instance_start_now(rig.instance, false, &rig.e), 0);
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
	struct rig_call waiting;

	put_guest("test=exit mode=spin");
	start_by_request(&waiting);
	if (_i % 2 == 1) {
		const struct timespec moment = { .tv_nsec = 100000000 };

		(void)nanosleep(&moment, NULL);
	}
	if (_i / 2 == 1) {
		instance_forget(rig.instance, &waiting.base);
	}
	ck_assert(instance_destroy(rig.instance));
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
	struct rig_call waiting;

	put_guest("test=exit mode=spin");
	start_by_request(&waiting);
	instance_forget(rig.instance, &waiting.base);
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
	rig_ok(REQUEST_PUT_DISK, "data",
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
	ck_assert(instance_destroy(rig.instance));
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

/* As long as the process lives, one after the other. */
START_TEST(test_destroy_while_running)
{
	struct rig_call stop = { .done = 0 };

	put_guest("test=exit mode=spin");
	rig_ok(REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"metrics\"}");
	start_now();
	if (_i == 1) {
		rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}");
	}
	if (_i == 2) {
		request_action(&stop, ACTION_STOP);
	}
	ck_assert(instance_destroy(rig.instance));
	rig.instance = NULL;
	ck_assert_uint_eq(stop.done, _i == 2);
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

static void job_ended(void *arg, int result, struct error *failure)
{
	(void)arg;
	(void)result;
	(void)failure;
	jobs_over++;
}

/* Main has entered its filter, in which it could not start a thread for a job. */
static void jobs_in_sandbox(bool stray)
{
	static const struct job_ops ops = { .kind = "fill", .run = job_run, .ended = job_ended };
	struct jobs *jobs;
	uint64_t id = 0;

	ck_assert(instance_destroy(rig.instance));
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
	ck_assert(instance_destroy(rig.instance));
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

/* --enable-pci is the default until a machine-config says otherwise, under either name. */
START_TEST(test_enable_pci)
{
	static const char *const defaults[] = { "auto", "pci" };
	json_t *machine;

	ck_assert(instance_destroy(rig.instance));
	rig.settings.enable_pci = _i == 1;
	rig_create();
	for (int i = 0; i < 2; i++) {
		machine = rig_get(REQUEST_GET_MACHINE_CONFIG, NULL);
		ck_assert_str_eq(json_string_value(json_object_get(machine, "transport")),
				 defaults[_i]);
		json_decref(machine);
		rig_ok(REQUEST_PUT_MACHINE_CONFIG, NULL,
		       "{\"vcpu_count\": 1, \"mem_size_mib\": 128}");
	}
	rig_ok(REQUEST_PUT_MACHINE_CONFIG, NULL,
	       "{\"vcpu_count\": 1, \"mem_size_mib\": 128, \"transport\": \"mmio\"}");
	machine = rig_get(REQUEST_GET_MACHINE_CONFIG, NULL);
	ck_assert_str_eq(json_string_value(json_object_get(machine, "transport")), "mmio");
	json_decref(machine);
}
END_TEST

CHECK_MAIN("instance_start", skip_without_kvm(); CHECK_FIXTURE(setup, rig_teardown);
	   CHECK_LOOP(test_start, 2); CHECK_LOOP(test_enable_pci, 2); CHECK_TEST(test_ended);
	   CHECK_LOOP(test_failed_start, 2); CHECK_TEST(test_busy); CHECK_TEST(test_small_memory);
	   CHECK_LOOP(test_destroy_while_starting, 4); CHECK_TEST(test_forgotten);
	   CHECK_LOOP(test_pause, 2); CHECK_TEST(test_reset); CHECK_TEST(test_guest_reboots);
	   CHECK_TEST(test_reboot_ends); CHECK_TEST(test_power_button);
	   CHECK_LOOP(test_destroy_while_running, 3); CHECK_LOOP(test_jobs_in_sandbox, 2))
