/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is asked of a VM that runs, and what comes in between: a disk that does not answer, events of
 * the guest, a stop, the end. With real KVM and bare-metal guests; always by the order of events,
 * never by time.
 */
#include "../../src/vmm/vm_internal.h"
#include "stalled_disk.h"
#include "harness/vm_rig.h"

#include <errno.h>
#include <stdatomic.h>

/* Over at once. */
#define SHORT_PATIENCE_NS 1000000

#define step_until(condition)                                                                  \
	for (uint64_t deadline_ = loop_now_ns() + PATIENCE_NS; !(condition); rounds(1)) {      \
		ck_assert_msg(loop_now_ns() < deadline_, "never: %s; output '%s'", #condition, \
			      serial.text);                                                    \
	}

static void use_load(const char *cmdline)
{
	use_disk();
	use_guest(cmdline);
}

/* Its disk has stopped to answer, with requests in flight. */
static void start_and_stall(void)
{
	use_load("test=block-load write=1 requests=1000000000");
	start();
	expect("start");
	stall_begin();
	step_until(stall_held() != 0);
}

/* The machine thread, or whom it waits for, waits for the disk. */
static void expect_waiting(void)
{
	step_until(stall_waiting() != 0);
	rounds(3);
}

static void operations_teardown(void)
{
	stall_end();
	host.patience_ns = PATIENCE_NS;
	while (!vm_destroy(vm)) {
		(void)poll(NULL, 0, 1);
	}
	vm = NULL;
	teardown();
	ck_assert_uint_eq(stall_held(), 0);
}

/* --- a disk that does not answer --------------------------------------------------------------- */

/* Main does everything else meanwhile. */
static void check_alive(void)
{
	struct metrics_text text = { 0 };
	struct vm_vcpu_stats vcpu;
	struct vm_stats stats;

	vm_stats(vm, &stats);
	vm_vcpu_stats(vm, 0, &vcpu);
	vm_write_metrics(vm, &text);
	ck_assert(!text.failed);
	free(text.data);
	(void)vm_serial_input(vm, (const uint8_t *)"x", 1);
	check_ok(vm_press_ctrl_alt_del(vm, &e), &e);
	vm_console_resize(vm, 80, 25);
}

START_TEST(test_pause_waits)
{
	struct asked pause = { 0 };

	config.console = true;
	start_and_stall();
	ask(&pause, VM_PAUSE);
	expect_waiting();
	check_alive();
	ck_assert_uint_eq(pause.done, 0);
	ck_assert_int_eq(vm_state(vm), VM_RUNNING);
	stall_end();
	check_ok(wait_for(&pause, &e), &e);
	ck_assert_int_eq(vm_state(vm), VM_PAUSED);
	check_ok(do_resume(vm, &e), &e);
	wait_for_progress(progress() + 20);
	ck_assert_int_eq(stops, 0);
}
END_TEST

/* It is a vCPU that waits for the disk, and the machine for that vCPU. */
START_TEST(test_vcpu_waits)
{
	struct asked pause = { 0 };

	use_load("test=block-load requests=0 then=drop");
	stall_begin();
	start();
	expect("leaving");
	expect_waiting();
	ask(&pause, VM_PAUSE);
	rounds(5);
	check_alive();
	ck_assert_uint_eq(pause.done, 0);
	stall_end();
	check_ok(wait_for(&pause, &e), &e);
	check_ok(do_resume(vm, &e), &e);
	expect("left");
}
END_TEST

/* The guest resets, or powers off, and leaves its disk at work. */
START_TEST(test_guest_leaves)
{
	use_load(_i == 0 ? "test=block-load requests=0 then=reset"
			 : "test=block-load requests=0 then=acpi");
	stall_begin();
	start();
	expect("leaving");
	if (_i == 0) {
		expect_waiting();
		check_alive();
		ck_assert_uint_eq(resets(), 0);
		stall_end();
		expect_times("leaving", 2);
		ck_assert_uint_ge(resets(), 1);
	} else {
		/* The machine stops without its disk; only the end waits for it. */
		expect_stop(VM_STOP_POWER_OFF, 0);
		host.patience_ns = SHORT_PATIENCE_NS;
		ck_assert(!vm_destroy(vm));
		ck_assert(!vm_destroy(vm));
		stall_end();
		step_until(stall_held() == 0);
	}
}
END_TEST

/* A change that waits for a disk to be opened; the guest runs on. */
START_TEST(test_open_waits)
{
	struct asked change = { .operation.disk = { "vda", disk_path, NULL } };

	use_load("test=exit mode=registers");
	config.entropy = true;
	start();
	expect("reading");
	stall_begin();
	ask(&change, VM_CHANGE_DISK);
	expect_waiting();
	wait_for_progress(progress() + 20);
	check_alive();
	ck_assert_uint_eq(change.done, 0);
	stall_end();
	check_ok(wait_for(&change, &e), &e);
}
END_TEST

/* --- a stop, and the end ----------------------------------------------------------------------- */

/* It comes behind what is under way, and ahead of what waits; it is heard of once. */
START_TEST(test_stop_while_waiting)
{
	struct asked pause = { 0 };

	start_and_stall();
	ask(&pause, VM_PAUSE);
	expect_waiting();
	vm_stop(vm);
	vm_stop(vm);
	rounds(5);
	ck_assert_int_eq(stops, 0);
	stall_end();
	check_ok(wait_for(&pause, &e), &e);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

/* A machine that does not stop is given up: main goes on, and says what it cannot free. */
START_TEST(test_given_up)
{
	struct asked pause = { 0 }, after = { 0 };

	host.patience_ns = SHORT_PATIENCE_NS;
	start_and_stall();
	ask(&pause, VM_PAUSE);
	expect_waiting();
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	ck_assert(!last_stop.has_address);
	ck_assert_uint_eq(pause.done, 0);
	ck_assert(!vm_destroy(vm));
	if (_i == 1) {
		/* The disk comes back while main still looks. */
		stall_end();
		check_ok(wait_for(&pause, &e), &e);
		ck_assert_int_eq(vm_state(vm), VM_STOPPED);
		ask(&after, VM_RESUME);
		ck_assert_int_eq(wait_for(&after, &e), -ENOTCONN);
		rounds(5);
	}
	stall_end();
	host.patience_ns = PATIENCE_NS;
	while (!vm_destroy(vm)) {
		(void)poll(NULL, 0, 1);
	}
	vm = NULL;
	ck_assert_uint_eq(pause.done, 1);
	ck_assert_int_eq(pause.operation.result, 0);
	rounds(5);
	ck_assert_int_eq(stops, 1);
}
END_TEST

/* Whoever asked hears of it also if the VM is destroyed first: of what was done, of what was not. */
START_TEST(test_destroy_under_way)
{
	struct asked asked = { 0 };

	if (_i == 0) {
		use_load("test=block-load requests=1000000000");
		start();
		expect("start");
		ask(&asked, VM_PAUSE);
		ck_assert(vm_destroy(vm));
		vm = NULL;
		ck_assert_int_eq(asked.operation.result, 0);
	} else {
		/* The guest's reset is under way, and the pause waits. */
		use_load("test=block-load requests=0 then=reset");
		stall_begin();
		start();
		expect("leaving");
		expect_waiting();
		ask(&asked, VM_PAUSE);
		host.patience_ns = SHORT_PATIENCE_NS;
		ck_assert(!vm_destroy(vm));
		ck_assert_uint_eq(asked.done, 0);
		stall_end();
		while (!vm_destroy(vm)) {
			(void)poll(NULL, 0, 1);
		}
		vm = NULL;
		ck_assert_int_eq(asked.operation.result, -ECANCELED);
		check_error(&asked.operation.error, ERROR_CANCELLED, "pause: the VM ends");
	}
	ck_assert_uint_eq(asked.done, 1);
	rounds(5);
	ck_assert_uint_eq(asked.done, 1);
	ck_assert_int_eq(stops, 0);
}
END_TEST

/* The stop overtakes what waits behind the guest's reset. */
START_TEST(test_stop_overtakes)
{
	struct asked reset = { 0 };

	use_load("test=block-load requests=0 then=reset");
	stall_begin();
	start();
	expect("leaving");
	expect_waiting();
	ask(&reset, VM_RESET);
	vm_stop(vm);
	rounds(5);
	ck_assert_uint_eq(reset.done, 0);
	ck_assert_int_eq(stops, 0);
	stall_end();
	expect_stop(VM_STOP_REQUESTED, 0);
	ck_assert_uint_eq(reset.done, 1);
	ck_assert_int_eq(reset.operation.result, -ENOTCONN);
	ck_assert_uint_eq(resets(), 1);
}
END_TEST

/* --- events ------------------------------------------------------------------------------------ */

/* The guest ends while the machine is at something else. */
START_TEST(test_event_under_way)
{
	struct asked change = { .operation.disk = { "vda", disk_path, NULL } };

	use_load("test=serial");
	start();
	expect("ready");
	stall_begin();
	ask(&change, VM_CHANGE_DISK);
	expect_waiting();
	type(vm_serial_input, "hello there\n");
	step_until(vm->event_heard);
	rounds(5);
	ck_assert_int_eq(stops, 0);
	ck_assert_uint_eq(change.done, 0);
	stall_end();
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
	ck_assert_uint_eq(change.done, 1);
	ck_assert_int_eq(change.operation.result, 0);
}
END_TEST

/* A guest that resets all the time keeps nobody waiting, and nobody keeps it from that. */
START_TEST(test_resets_all_the_time)
{
	use_guest("test=exit mode=reset");
	start();
	for (unsigned i = 1; i <= 10; i++) {
		struct asked look = { 0 };
		uint64_t before = resets();

		check_ok(do_it(&look, VM_LOOK, &e), &e);
		check_ok(do_pause(vm, &e), &e);
		ck_assert_int_eq(vm_state(vm), VM_PAUSED);
		check_ok(do_resume(vm, &e), &e);
		check_ok(do_reset(vm, &e), &e);
		step_until(resets() >= before + 2);
	}
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

/* From within the answer to the one before. */
static struct chain {
	struct asked asked;
	unsigned left;
} chain;

static void next_reset(struct vm_operation *operation)
{
	ck_assert_ptr_eq(operation, &chain.asked.operation);
	check_ok(operation->result, &operation->error);
	chain.asked.done++;
	if (--chain.left > 0) {
		vm_ask(vm, operation);
	}
}

START_TEST(test_resets_in_a_row)
{
	use_load("test=block-load write=1 requests=1000000000");
	start();
	expect("start");
	chain = (struct chain){ .left = 20 };
	chain.asked.operation = (struct vm_operation){ .type = VM_RESET, .done = next_reset };
	vm_ask(vm, &chain.asked.operation);
	ck_assert_uint_eq(chain.asked.done, 0);
	step_until(chain.left == 0);
	ck_assert_uint_eq(resets(), 20);
	expect_times("start", 2);
}
END_TEST

/* --- paused from the start --------------------------------------------------------------------- */

START_TEST(test_start_paused)
{
	struct asked look = { 0 };

	use_load("test=block-load requests=1000000000");
	config.machine.vcpus = 2;
	create();
	check_ok(vm_start(vm, true, &e), &e);
	ck_assert_int_eq(vm_state(vm), VM_PAUSED);
	rounds(5);
	ck_assert_uint_eq(exits(), 0);
	ck_assert_int_eq(do_pause(vm, &e), -EALREADY);
	ck_assert_int_eq(do_reset(vm, &e), -ENOTCONN);
	check_error(&e, ERROR_CONFIG, "reset: the VM does not run");
	ck_assert_int_eq(do_it(&look, VM_LOOK, &e), -ENOTCONN);
	check_ok(do_replace_disk(vm, "vda", disk_path, &e), &e);
	ck_assert_uint_eq(exits(), 0);
	if (_i == 1) {
		vm_stop(vm);
		expect_stop(VM_STOP_REQUESTED, 0);
		ck_assert(last_stop.has_address);
	} else if (_i == 2) {
		check_ok(do_resume(vm, &e), &e);
		ck_assert_int_eq(do_resume(vm, &e), -EALREADY);
		expect("start");
		check_ok(do_it(&look, VM_LOOK, &e), &e);
		ck_assert(look.operation.look.known);
		check_ok(do_reset(vm, &e), &e);
		expect_times("start", 2);
	}
}
END_TEST

/* --- threads ----------------------------------------------------------------------------------- */

static struct {
	pthread_t spawner, thread;
	_Atomic bool ran;
} spawned;

static void *run_spawned(void *arg)
{
	(void)arg;
	atomic_store(&spawned.ran, true);
	return NULL;
}

static int spawn(void *arg, struct error *err)
{
	ck_assert_ptr_eq(arg, &spawned);
	spawned.spawner = pthread_self();
	return pthread_create(&spawned.thread, NULL, run_spawned, NULL) == 0
		       ? 0
		       : error_set(err, ERROR_INTERNAL, EAGAIN, "no thread");
}

static int spawn_nothing(void *arg, struct error *err)
{
	(void)arg;
	return error_set(err, ERROR_INTERNAL, EAGAIN, "there is none");
}

START_TEST(test_spawn)
{
	struct asked asked = { .operation.spawn = { spawn_nothing, &spawned } };

	use_guest("test=exit mode=spin");
	start();
	ck_assert_int_eq(do_it(&asked, VM_SPAWN, &e), -EAGAIN);
	check_error(&e, ERROR_INTERNAL, "there is none");
	if (_i == 1) {
		check_ok(do_pause(vm, &e), &e);
	}
	asked.operation.spawn.start = spawn;
	check_ok(do_it(&asked, VM_SPAWN, &e), &e);
	ck_assert_int_eq(pthread_join(spawned.thread, NULL), 0);
	ck_assert(atomic_load(&spawned.ran));
	ck_assert(!pthread_equal(spawned.spawner, pthread_self()));
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	ck_assert_int_eq(do_it(&asked, VM_SPAWN, &e), -ENOTCONN);
}
END_TEST

/* --- state ------------------------------------------------------------------------------------- */

/* A guest with requests in flight is saved, its machine reset but for the memory, and loaded: it goes on
 * where it was. */
START_TEST(test_save_and_load)
{
	struct state_buf saved = { 0 };
	uint64_t before;

	use_load("test=block-load write=1 requests=1000000000");
	config.machine.vcpus = 2;
	start();
	expect("start");
	wait_for_progress(progress() + 100);
	check_ok(do_pause(vm, &e), &e);
	check_ok(machine_save(&vm->machine, &vm->vcpus, &saved, &e), &e);
	check_ok(machine_reset(&vm->machine, &e), &e);
	check_ok(vcpus_reset(&vm->vcpus, &e), &e);
	/* A vCPU's last byte is the FPU's; without it none of the machine is loaded. */
	ck_assert_int_lt(machine_load(&vm->machine, &vm->vcpus, saved.data, saved.len - 1, &e), 0);
	check_error(&e, ERROR_STATE, "damaged");
	e = (struct error){ 0 };
	check_ok(machine_load(&vm->machine, &vm->vcpus, saved.data, saved.len, &e), &e);
	before = progress();
	check_ok(do_resume(vm, &e), &e);
	wait_for_progress(before + 100);
	ck_assert_int_eq(stops, 0);
	state_buf_finish(&saved);
}
END_TEST

CHECK_MAIN("vm_operations", skip_without_kvm(); CHECK_FIXTURE(setup, operations_teardown);
	   CHECK_TEST(test_save_and_load); CHECK_TEST(test_pause_waits);
	   CHECK_TEST(test_vcpu_waits); CHECK_LOOP(test_guest_leaves, 2);
	   CHECK_TEST(test_open_waits); CHECK_TEST(test_stop_while_waiting);
	   CHECK_LOOP(test_given_up, 2); CHECK_LOOP(test_destroy_under_way, 2);
	   CHECK_TEST(test_stop_overtakes); CHECK_TEST(test_event_under_way);
	   CHECK_TEST(test_resets_all_the_time); CHECK_TEST(test_resets_in_a_row);
	   CHECK_LOOP(test_start_paused, 3); CHECK_LOOP(test_spawn, 2))
