/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to a VM whose machine is at something else: who is answered when, by the order of events,
 * never by time. With real KVM and a disk that does not answer until the test says so.
 */
#include "stalled_disk.h"

#include "../../src/instance/internal.h"
#include "harness/instance_rig.h"
#include "harness/need_kvm.h"

static void step(void)
{
	ck_assert_int_eq(loop_step(&rig.loop, 1), 0);
}

#define step_until(condition)                                                                \
	for (uint64_t deadline_ = loop_now_ns() + RIG_PATIENCE_NS; !(condition); step()) {   \
		ck_assert_msg(loop_now_ns() < deadline_, "never: %s; end %d %s", #condition, \
			      rig.stop.reason, rig.stop.error.msg);                          \
	}

static void make_anew(uint64_t patience_ns)
{
	ck_assert(instance_destroy(rig.instance));
	rig.settings.debug_exit = true;
	rig.settings.patience_ns = patience_ns;
	check_ok(instance_create(&rig.instance, &rig.settings, &rig.host, &rig.e), &rig.e);
}

static void put_guest(const char *cmdline)
{
	json_t *json = json_pack("{s:s, s:s}", "kernel_image_path", getenv("VMM_TEST_GUEST"),
				 "cmdline_only", cmdline);

	check_ok(rig_request(REQUEST_PUT_BOOT_SOURCE, NULL, json, NULL), &rig.e);
	json_decref(json);
	rig_ok(REQUEST_PUT_MACHINE_CONFIG, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 64}");
	rig_ok(REQUEST_PUT_DISK, "data",
	       "{\"drive_id\": \"data\", \"path_on_host\": \"disk\", "
	       "\"is_root_device\": false}");
}

static bool has_read(void)
{
	json_t *vm = rig_get(REQUEST_GET_VM, NULL);
	bool some =
		json_integer_value(json_object_get(json_object_get(vm, "disk"), "read_bytes")) > 0;

	json_decref(vm);
	return some;
}

/* A change that is under way and waits for the disk. */
static void start_and_stall(void)
{
	put_guest("test=block-load requests=1000000000");
	check_ok(instance_start_now(rig.instance, false, &rig.e), &rig.e);
	step_until(has_read());
	stall_begin();
	step_until(stall_held() != 0);
}

static void setup(void)
{
	rig_setup();
	make_anew(RIG_PATIENCE_NS);
}

static void teardown(void)
{
	stall_end();
	while (!instance_destroy(rig.instance)) {
		step();
	}
	rig.instance = NULL;
	rig_teardown();
	ck_assert_uint_eq(stall_held(), 0);
}

/* Calls that remember in which order they were answered. */
static unsigned answered;
struct call {
	struct instance_call base;
	unsigned number; /* 0: not yet */
	struct error failure;
};

static void done(struct instance_call *base, json_t *reply, const struct error *failure)
{
	struct call *call = container_of(base, struct call, base);

	ck_assert_uint_eq(call->number, 0);
	json_decref(reply);
	call->number = ++answered;
	call->failure = failure != NULL ? *failure : (struct error){ 0 };
}

static void ask(struct call *call, enum request_type type, const char *id, const void *object)
{
	const struct request request = { .type = type, .id = id, .object = object };

	*call = (struct call){ .base.done = done };
	instance_request(rig.instance, &request, &call->base);
}

static void ask_state(struct call *call, enum vm_wanted wanted)
{
	const struct vm_update update = { .state = wanted };

	ask(call, REQUEST_PATCH_VM, NULL, &update);
}

static void ask_action(struct call *call, enum action_type type)
{
	const struct action action = { .type = type };

	ask(call, REQUEST_PUT_ACTION, NULL, &action);
}

static void expect_state(const char *vm_state, const char *instance_state)
{
	json_t *vm = rig_get(REQUEST_GET_VM, NULL);
	json_t *instance = rig_get(REQUEST_GET_INSTANCE, NULL);

	ck_assert_str_eq(json_string_value(json_object_get(vm, "state")), vm_state);
	ck_assert_str_eq(json_string_value(json_object_get(instance, "state")), instance_state);
	json_decref(vm);
	json_decref(instance);
}

static void ask_pause_that_waits(struct call *pause)
{
	start_and_stall();
	answered = 0;
	ask_state(pause, VM_WANTED_PAUSED);
	step_until(stall_waiting() != 0);
	ck_assert_uint_eq(pause->number, 0);
}

/* Everybody else is answered while the pause waits; then it is answered. */
START_TEST(test_pause_waits)
{
	struct metrics_text text = { 0 };
	struct call pause;

	ask_pause_that_waits(&pause);
	expect_state("pausing", "Running");
	json_decref(rig_get(REQUEST_GET_VM_CONFIG, NULL));
	json_decref(rig_get(REQUEST_GET_JOBS, NULL));
	rig_ok(REQUEST_PATCH_CONSOLE, NULL, "{\"columns\": 80, \"rows\": 24}");
	rig_action("FlushMetrics");
	rig_action("SendCtrlAltDel");
	rig_action_refused("PowerButton", ERROR_WRONG_STATE, "the VM is pausing");
	rig_refused(REQUEST_PUT_ENTROPY, NULL, "{}", ERROR_WRONG_STATE, "after starting");
	instance_write_metrics(rig.instance, &text);
	ck_assert_ptr_nonnull(strstr(text.data, "vmm_state{state=\"pausing\"} 1\n"));
	free(text.data);
	ck_assert_uint_eq(pause.number, 0);
	ck_assert_uint_eq(rig_events("paused"), 0);
	stall_end();
	step_until(pause.number != 0);
	check_ok(-(int)pause.failure.code, &pause.failure);
	expect_state("paused", "Paused");
	ck_assert_uint_eq(rig_events("paused"), 1);
}
END_TEST

/* What waits is judged and answered in the order in which it came, also what is refused then. */
START_TEST(test_order)
{
	const struct disk_update unknown = { .id = "none" };
	const struct disk_update change = { .id = "data", .path = "disk2" };
	struct call pause, again, reset, drive, wrong, resume, resume_again, reset_later;

	ask_pause_that_waits(&pause);
	ask_state(&again, VM_WANTED_PAUSED);
	ask_action(&reset, ACTION_RESET);
	ask(&drive, REQUEST_PATCH_DISK, "data", &change);
	ask(&wrong, REQUEST_PATCH_DISK, "none", &unknown);
	ask_state(&resume, VM_WANTED_RESUMED);
	ask_state(&resume_again, VM_WANTED_RESUMED);
	ask_action(&reset_later, ACTION_RESET);
	for (int i = 0; i < 5; i++) {
		step();
	}
	ck_assert_uint_eq(answered, 0);
	stall_end();
	step_until(reset_later.number != 0);
	ck_assert_uint_eq(pause.number, 1);
	ck_assert_uint_eq(again.number, 2);
	ck_assert_int_eq(again.failure.code, ERROR_NONE);
	ck_assert_uint_eq(reset.number, 3);
	check_error(&reset.failure, ERROR_WRONG_STATE, "the VM is paused");
	ck_assert_uint_eq(drive.number, 4);
	check_ok(-(int)drive.failure.code, &drive.failure);
	ck_assert_uint_eq(wrong.number, 5);
	check_error(&wrong.failure, ERROR_NOT_FOUND, "'none'");
	ck_assert_uint_eq(resume.number, 6);
	ck_assert_int_eq(resume.failure.code, ERROR_NONE);
	ck_assert_uint_eq(resume_again.number, 7);
	ck_assert_int_eq(resume_again.failure.code, ERROR_NONE);
	ck_assert_uint_eq(reset_later.number, 8);
	ck_assert_int_eq(reset_later.failure.code, ERROR_NONE);
	expect_state("running", "Running");
	ck_assert_uint_eq(rig_events("paused"), 1);
	ck_assert_uint_eq(rig_events("resumed"), 1);
	ck_assert_uint_eq(rig_events("drive-updated"), 1);
}
END_TEST

/* The line is bounded; a stop is in no line. */
START_TEST(test_long_line)
{
	struct call pause, stop, waits[15], too_many;

	ask_pause_that_waits(&pause);
	for (size_t i = 0; i < ARRAY_SIZE(waits); i++) {
		ask_state(&waits[i], VM_WANTED_PAUSED);
	}
	ck_assert_uint_eq(answered, 0);
	ask_state(&too_many, VM_WANTED_PAUSED);
	ck_assert_uint_eq(too_many.number, 1);
	check_error(&too_many.failure, ERROR_BUSY, "15 changes of the VM wait");
	ask_action(&stop, ACTION_STOP);
	expect_state("stopping", "Running");
	ck_assert_uint_eq(answered, 1);
	stall_end();
	step_until(stop.number != 0);
	ck_assert_uint_eq(pause.number, 2);
	ck_assert_int_eq(pause.failure.code, ERROR_NONE);
	for (size_t i = 0; i < ARRAY_SIZE(waits); i++) {
		ck_assert_uint_eq(waits[i].number, 3 + i);
		check_error(&waits[i].failure, ERROR_WRONG_STATE, "stopped");
	}
	ck_assert_int_eq(stop.failure.code, ERROR_NONE);
	ck_assert_uint_eq(rig.ended, 1);
	expect_state("ended", "Not started");
}
END_TEST

/* Two stops, a change that comes after them, and one that nobody waits for any more. */
START_TEST(test_stop)
{
	struct call pause, stop, again, late;

	ask_pause_that_waits(&pause);
	ask_action(&stop, ACTION_STOP);
	ask_action(&again, ACTION_STOP);
	ask_state(&late, VM_WANTED_RESUMED);
	check_error(&late.failure, ERROR_WRONG_STATE, "being stopped");
	rig_action_refused("PowerButton", ERROR_WRONG_STATE, "being stopped");
	rig_action_refused("SendCtrlAltDel", ERROR_WRONG_STATE, "being stopped");
	instance_forget(rig.instance, &pause.base);
	instance_forget(rig.instance, &again.base);
	ck_assert_uint_eq(stop.number, 0);
	stall_end();
	step_until(stop.number != 0);
	ck_assert_uint_eq(pause.number, 0);
	ck_assert_uint_eq(again.number, 0);
	ck_assert_int_eq(rig.stop.reason, VM_STOP_REQUESTED);
	ck_assert_uint_eq(rig.ended, 1);
	rig_action_refused("Stop", ERROR_WRONG_STATE, "ended");
}
END_TEST

/* A disk that never answers: the instance ends all the same, and everybody hears of it. */
START_TEST(test_given_up)
{
	struct call pause, resume, stop;

	make_anew(1000000);
	ask_pause_that_waits(&pause);
	ask_state(&resume, VM_WANTED_RESUMED);
	if (_i == 0) {
		ask_action(&stop, ACTION_STOP);
		step_until(rig.ended != 0);
		ck_assert_int_eq(rig.stop.reason, VM_STOP_REQUESTED);
		expect_state("ended", "Not started");
		check_error(&pause.failure, ERROR_WRONG_STATE, "The VM has ended.");
		check_error(&resume.failure, ERROR_WRONG_STATE, "The VM has ended.");
		ck_assert_uint_eq(stop.number, 3);
		ck_assert_int_eq(stop.failure.code, ERROR_NONE);
	}
	ck_assert(!instance_destroy(rig.instance));
	ck_assert(!instance_destroy(rig.instance));
	ck_assert_uint_eq(pause.number, 1);
	ck_assert_uint_eq(resume.number, 2);
	if (_i == 1) {
		check_error(&pause.failure, ERROR_CANCELLED, "ends");
		check_error(&resume.failure, ERROR_CANCELLED, "ends");
	}
	ck_assert_uint_eq(rig_events("paused"), 0);
	/* The rest is teardown()'s: nothing is lost when the disk answers. */
}
END_TEST

/* Whoever waits when the instance ends hears of it. */
START_TEST(test_destroy)
{
	struct call pause, resume;

	start_and_stall();
	stall_end();
	answered = 0;
	ask_state(&pause, VM_WANTED_PAUSED);
	ask_state(&resume, VM_WANTED_RESUMED);
	ck_assert_uint_eq(answered, 0);
	ck_assert(instance_destroy(rig.instance));
	rig.instance = NULL;
	ck_assert_uint_eq(answered, 2);
	check_error(&pause.failure, ERROR_CANCELLED, "ends");
	check_error(&resume.failure, ERROR_CANCELLED, "ends");
	step();
	ck_assert_uint_eq(rig.ended, 0);
}
END_TEST

/* The guest ends while a change waits for its turn. */
START_TEST(test_guest_ends)
{
	const struct disk_update change = { .id = "data", .path = "disk2" };
	struct call drive, pause;

	put_guest("test=block-load requests=0 then=acpi");
	check_ok(instance_start_now(rig.instance, true, &rig.e), &rig.e);
	answered = 0;
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
	stall_begin();
	ask(&drive, REQUEST_PATCH_DISK, "data", &change);
	ask_state(&pause, VM_WANTED_PAUSED);
	step_until(stall_waiting() != 0 || rig.ended != 0);
	stall_end();
	step_until(rig.ended != 0 || pause.number != 0);
	if (rig.ended == 0) {
		/* The pause has come first: the guest ends when it may go on. */
		rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
		step_until(rig.ended != 0);
	}
	ck_assert_int_eq(rig.stop.reason, VM_STOP_POWER_OFF);
	ck_assert_uint_eq(answered, 2);
	rig_refused(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}", ERROR_WRONG_STATE, "ended");
}
END_TEST

/* Two resets at once: both are carried out, one after the other. */
START_TEST(test_two_resets)
{
	struct call first, second;
	json_t *vm;

	put_guest("test=block-load write=1 requests=1000000000");
	check_ok(instance_start_now(rig.instance, false, &rig.e), &rig.e);
	answered = 0;
	ask_action(&first, ACTION_RESET);
	expect_state("resetting", "Running");
	ask_action(&second, ACTION_RESET);
	ck_assert_uint_eq(answered, 0);
	step_until(second.number != 0);
	ck_assert_uint_eq(first.number, 1);
	ck_assert_int_eq(first.failure.code, ERROR_NONE);
	ck_assert_int_eq(second.failure.code, ERROR_NONE);
	expect_state("running", "Running");
	vm = rig_get(REQUEST_GET_VM, NULL);
	ck_assert_int_eq(json_integer_value(json_object_get(vm, "resets")), 2);
	json_decref(vm);
}
END_TEST

/* Nobody waits for the answer: a failure goes to the log, the rest to the VM. */
START_TEST(test_not_waited_for)
{
	const struct action reset = { .type = ACTION_RESET };
	const struct action stop = { .type = ACTION_STOP };
	struct request request = { .type = REQUEST_PUT_ACTION, .object = &reset };

	put_guest("test=exit mode=spin");
	check_ok(instance_start_now(rig.instance, false, &rig.e), &rig.e);
	check_ok(instance_request_now(rig.instance, &request, NULL, &rig.e), &rig.e);
	check_ok(instance_request_now(rig.instance, &request, NULL, &rig.e), &rig.e);
	request.object = &stop;
	check_ok(instance_request_now(rig.instance, &request, NULL, &rig.e), &rig.e);
	check_ok(instance_request_now(rig.instance, &request, NULL, &rig.e), &rig.e);
	step_until(rig.ended != 0);
	ck_assert_int_lt(instance_request_now(rig.instance, &request, NULL, &rig.e), 0);
	check_error(&rig.e, ERROR_WRONG_STATE, "ended");
}
END_TEST

/* --- paused from the start --------------------------------------------------------------------- */

START_TEST(test_start_paused)
{
	put_guest("test=block-load requests=1000000000");
	rig_refused(REQUEST_PUT_ACTION, NULL,
		    "{\"action_type\": \"FlushMetrics\", \"paused\": true}", ERROR_CONFIG,
		    "only InstanceStart");
	if (_i == 0) {
		check_ok(instance_start_now(rig.instance, true, &rig.e), &rig.e);
	} else {
		rig_ok(REQUEST_PUT_ACTION, NULL,
		       "{\"action_type\": \"InstanceStart\", \"paused\": true}");
	}
	expect_state("paused", "Paused");
	ck_assert_uint_eq(rig.started, 1);
	ck_assert_uint_eq(rig_events("started"), 1);
	ck_assert_uint_eq(rig_events("paused"), 1);
	rig_refused(REQUEST_PUT_ACTION, NULL, "{\"action_type\": \"Reset\", \"paused\": true}",
		    ERROR_CONFIG, "only InstanceStart");
	rig_action_refused("Reset", ERROR_WRONG_STATE, "resume it first");
	rig_ok(REQUEST_PATCH_DISK, "data", "{\"drive_id\": \"data\", \"path_on_host\": \"disk2\"}");
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
	expect_state("running", "Running");
	ck_assert_uint_eq(rig_events("resumed"), 1);
	stall_begin();
	step_until(stall_held() != 0);
	stall_end();
	rig_action("Stop");
	expect_state("ended", "Not started");
}
END_TEST

/* --- the table --------------------------------------------------------------------------------- */

START_TEST(test_states)
{
	for (unsigned i = 0; i < INSTANCE_STATES; i++) {
		const struct instance_state_info *info = &instance_states[i];
		bool lives = info->stage == STAGE_AFTER && i != INSTANCE_ENDED;

		ck_assert_str_eq(instance_state_name((enum instance_state)i), info->name);
		ck_assert_uint_eq(info->next >> INSTANCE_STATES, 0);
		ck_assert_uint_eq(info->next >> i & 1, 0);
		/* Whatever a VM is at, its end may come. */
		ck_assert_int_eq(info->next >> INSTANCE_ENDED & 1, lives || i == INSTANCE_STARTING);
		for (unsigned j = 0; j < i; j++) {
			ck_assert_str_ne(instance_states[j].name, info->name);
		}
	}
	ck_assert_uint_eq(instance_states[INSTANCE_ENDED].next, 0);
}
END_TEST

/* Where vCPU 0 stands, if nothing is under way. */
static unsigned told;

static void tell(void *arg, const uint64_t *address)
{
	ck_assert_ptr_eq(arg, &told);
	ck_assert_ptr_nonnull(address);
	told++;
}

START_TEST(test_look)
{
	struct call pause;

	ck_assert_int_lt(instance_look(rig.instance, tell, &told), 0);
	ask_pause_that_waits(&pause);
	ck_assert_int_lt(instance_look(rig.instance, tell, &told), 0);
	stall_end();
	step_until(pause.number != 0);
	ck_assert_int_lt(instance_look(rig.instance, tell, &told), 0);
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
	check_ok(instance_look(rig.instance, tell, &told), &rig.e);
	ck_assert_uint_eq(told, 0);
	step_until(told == 1);
	/* One that is under way as the instance ends is not told. */
	check_ok(instance_look(rig.instance, tell, &told), &rig.e);
	ck_assert(instance_destroy(rig.instance));
	rig.instance = NULL;
	step();
	ck_assert_uint_eq(told, 1);
}
END_TEST

CHECK_MAIN("instance_changes", skip_without_kvm(); CHECK_FIXTURE(setup, teardown);
	   CHECK_TEST(test_pause_waits); CHECK_TEST(test_order); CHECK_TEST(test_long_line);
	   CHECK_TEST(test_stop); CHECK_LOOP(test_given_up, 2); CHECK_TEST(test_destroy);
	   CHECK_TEST(test_guest_ends); CHECK_TEST(test_two_resets);
	   CHECK_TEST(test_not_waited_for); CHECK_LOOP(test_start_paused, 2);
	   CHECK_TEST(test_states); CHECK_TEST(test_look))
