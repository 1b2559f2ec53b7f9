/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an instance that waits for its VM makes in advance (src/instance/spare.c): after the first request, in the next round of
 * the loop; taken by the start, whenever that comes.
 */
#include "harness/restore_rig.h"

/* An instance as `vmm serve` has it. */
static void setup_waiting(void)
{
	setup();
	rig.settings.spare = true;
	anew();
}

static struct vm_spare *finished_spare(void)
{
	step_until(rig.instance->spare_runs);
	ck_assert_int_eq(pthread_join(rig.instance->spare_thread, NULL), 0);
	rig.instance->spare_runs = false;
	return rig.instance->spare;
}

START_TEST(test_begins)
{
	ck_assert_int_eq(loop_step(&rig.loop, 1), 0);
	ck_assert(!rig.instance->spare_runs && !rig.instance->spare_asked);
	json_decref(rig_get(REQUEST_GET_VM, NULL));
	ck_assert(rig.instance->spare_asked);
	ck_assert_ptr_nonnull(finished_spare());
	/* Once. */
	json_decref(rig_get(REQUEST_GET_VM, NULL));
	ck_assert_int_eq(loop_step(&rig.loop, 1), 0);
	ck_assert(!rig.instance->spare_runs);
}
END_TEST

/* The start finds it finished, being made, asked for, or not needed by a machine with a template. */
START_TEST(test_start)
{
	struct rig_call waiting;

	put_guest("test=exit mode=code value=5");
	if (_i == 0) {
		ck_assert_ptr_nonnull(finished_spare());
	} else if (_i == 1) {
		step_until(rig.instance->spare_runs);
	} else if (_i == 3) {
		rig_ok(REQUEST_PUT_CPU_CONFIG, NULL, "{\"kvm_capabilities\": [\"!171717\"]}");
		ck_assert_ptr_nonnull(finished_spare());
	}
	start_by_request(&waiting);
	step_until(waiting.done != 0);
	ck_assert_msg(waiting.failure.code == ERROR_NONE, "%s", waiting.failure.msg);
	step_until(rig.ended != 0);
	ck_assert_int_eq(rig.stop.code, 5);
	ck_assert_ptr_null(rig.instance->spare);
	ck_assert_ptr_null(rig.instance->vm_host.spare);
}
END_TEST

/* A start that fails has used it up; the next one does without. */
START_TEST(test_failure)
{
	put_guest("test=exit mode=code value=5");
	put_disk("disk");
	ck_assert_ptr_nonnull(finished_spare());
	ck_assert_int_eq(rename("disk", "moved"), 0);
	ck_assert_int_lt(instance_start_now(rig.instance, false, &rig.e), 0);
	check_error(&rig.e, ERROR_DISK, "disk");
	ck_assert_ptr_null(rig.instance->spare);
	ck_assert_int_eq(rename("moved", "disk"), 0);
	start_now();
	step_until(rig.ended != 0);
	ck_assert_int_eq(rig.stop.code, 5);
}
END_TEST

START_TEST(test_load)
{
	make_snapshot();
	json_decref(rig_get(REQUEST_GET_VM, NULL));
	ck_assert_ptr_nonnull(finished_spare());
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, "{\"directory\": \"snap\", \"resume_vm\": true}");
	expect_goes_on();
	remove_snapshot("snap");
}
END_TEST

/* The instance goes before its VM comes. */
START_TEST(test_end)
{
	json_decref(rig_get(REQUEST_GET_VM, NULL));
	if (_i == 0) {
		step_until(rig.instance->spare_runs);
	}
	anew();
	ck_assert(!rig.instance->spare_runs);
}
END_TEST

CHECK_MAIN("instance_spare", skip_without_kvm(); CHECK_FIXTURE(setup_waiting, rig_teardown);
	   CHECK_TEST(test_begins); CHECK_LOOP(test_start, 4); CHECK_TEST(test_failure);
	   CHECK_TEST(test_load); CHECK_LOOP(test_end, 2))
