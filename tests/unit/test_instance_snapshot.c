/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a VM by request, with real KVM and a guest that notices what is lost
 * (tests/guest/test_work.c). By the order of events, never by time.
 */
#include "harness/restore_rig.h"

#include "vmm/freezer.h"
#include "vmm/snapshot.h"

/* --- written ------------------------------------------------------------------------------------- */

/* A VM that runs goes on; its snapshot is whole. */
START_TEST(test_of_running)
{
	json_t *jobs;

	start_work();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"snap\"}");
	ck_assert(state_is(INSTANCE_RUNNING));
	ck_assert(there("snap/state") && there("snap/memory"));
	ck_assert_uint_eq(count_files("snap"), 2);
	forget_output();
	step_until(screen_has("round "));
	jobs = rig_get(REQUEST_GET_JOBS, NULL);
	ck_assert_uint_eq(json_array_size(jobs), 1);
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(jobs, 0), "state")),
			 "done");
	json_decref(jobs);
	/* Another one in its place. */
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"snap\"}");
	ck_assert_uint_eq(count_files("snap"), 2);
	remove_snapshot("snap");
}
END_TEST

START_TEST(test_of_paused)
{
	start_work();
	rig_refused(REQUEST_PUT_SNAPSHOT, NULL,
		    "{\"snapshot_path\": \"s\", \"mem_file_path\": \"m\"}", ERROR_WRONG_STATE,
		    "paused");
	ck_assert(state_is(INSTANCE_RUNNING));
	pause_vm();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"snapshot_path\": \"s\", \"mem_file_path\": \"m\"}");
	ck_assert(state_is(INSTANCE_PAUSED));
	ck_assert(there("s") && there("m"));
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"snap\"}");
	ck_assert(state_is(INSTANCE_PAUSED));
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
	forget_output();
	step_until(screen_has("round "));
	remove_snapshot("snap");
}
END_TEST

static const struct {
	const char *body, *says;
	enum error_code code;
} bad_creates[] = {
	{ "{}", "snapshot_path is not given", ERROR_CONFIG },
	{ "{\"snapshot_path\": \"s\"}", "mem_file_path is not given", ERROR_CONFIG },
	{ "{\"mem_file_path\": \"m\"}", "snapshot_path is not given", ERROR_CONFIG },
	{ "{\"directory\": \"d\", \"snapshot_path\": \"s\"}", "one or the other", ERROR_CONFIG },
	{ "{\"directory\": \"nowhere/d\"}", "nowhere", ERROR_NOT_FOUND },
	{ "{\"directory\": \"text\"}", "text", ERROR_EXISTS },
	{ "{\"directory\": \"/proc/d\"}", "/proc", ERROR_NOT_FOUND },
	{ "{\"directory\": \"d\", \"snapshot_type\": \"Half\"}", "Half", ERROR_JSON },
	{ "{\"directory\": \"d\", \"early\": true}", "only of a live", ERROR_CONFIG },
	{ "{\"directory\": \"d\", \"early\": true, \"live\": true, \"compress\": true}",
	  "neither compressed", ERROR_CONFIG },
	{ "{\"snapshot_path\": \"s\", \"mem_file_path\": \"m\", \"with_disks\": true}", "no place",
	  ERROR_CONFIG },
	{ "{\"directory\": \"d\", \"with_disks\": true, \"drive_copies\": [{\"drive_id\": "
	  "\"data\", "
	  "\"path_on_host\": \"copy\"}]}",
	  "exclude each other", ERROR_CONFIG },
};

START_TEST(test_refused)
{
	start_work();
	rig_refused(REQUEST_PUT_SNAPSHOT, NULL, bad_creates[_i].body, bad_creates[_i].code,
		    bad_creates[_i].says);
	ck_assert(!there("d") && !there("s") && !there("m"));
	/* It runs on as if nothing had been. */
	step_until(state_is(INSTANCE_RUNNING));
	forget_output();
	step_until(screen_has("round "));
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"snap\"}");
	remove_snapshot("snap");
}
END_TEST

START_TEST(test_before_and_after)
{
	struct rig_call call;

	rig_refused(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"snap\"}", ERROR_WRONG_STATE,
		    "before starting");
	start_work();
	request_action(&call, ACTION_STOP);
	rig_wait(&call, NULL);
	step_until(rig.ended == 1);
	rig_refused(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"snap\"}", ERROR_WRONG_STATE,
		    "The VM has ended");
}
END_TEST

static void request_snapshot(struct rig_call *call, bool background, bool live)
{
	const struct snapshot_request object = { .directory = "snap",
						 .background = background,
						 .live = live };
	const struct request request = { .type = REQUEST_PUT_SNAPSHOT, .object = &object };

	*call = (struct rig_call){ .base.done = rig_done };
	instance_request(rig.instance, &request, &call->base);
}

/* Its number at once; cancelled at any moment, the VM runs on and there is a snapshot or nothing. */
START_TEST(test_cancelled)
{
	struct rig_call call;
	char number[24];
	json_t *reply, *job;
	const char *state;

	start_work();
	request_snapshot(&call, true, _i % 2 != 0);
	ck_assert_uint_eq(call.done, 1);
	ck_assert(!call.failed);
	reply = call.reply;
	(void)snprintf(number, sizeof(number), "%lld",
		       (long long)json_integer_value(json_object_get(reply, "job")));
	json_decref(reply);
	ck_assert_str_eq(number, "1");
	for (int i = 0; i < _i / 2; i++) {
		step();
	}
	(void)rig_put(REQUEST_DELETE_JOB, number, NULL);
	step_until(jobs_current(instance_jobs(rig.instance)) == 0);
	step_until(state_is(INSTANCE_RUNNING));
	job = rig_get(REQUEST_GET_JOB, number);
	state = json_string_value(json_object_get(job, "state"));
	if (strcmp(state, "done") == 0) {
		ck_assert_uint_eq(count_files("snap"), 2);
		remove_snapshot("snap");
	} else {
		ck_assert_str_eq(state, "cancelled");
		ck_assert(!there("snap"));
	}
	json_decref(job);
	/* kernel, text, disk, disk2, qcow2, fifo, directory */
	ck_assert_uint_eq(count_files("."), 7);
	forget_output();
	step_until(screen_has("round "));
	pause_vm();
	ck_assert(state_is(INSTANCE_PAUSED));
}
END_TEST

/* Changes wait for it, what reads does not; only one at a time. */
START_TEST(test_beside)
{
	struct rig_call first, second;

	start_work();
	request_snapshot(&first, false, false);
	request_snapshot(&second, false, false);
	json_decref(rig_get(REQUEST_GET_VM, NULL));
	pause_vm();
	ck_assert_uint_eq(first.done, 1);
	ck_assert_uint_eq(second.done, 1);
	ck_assert(!first.failed && !second.failed);
	ck_assert(state_is(INSTANCE_PAUSED));
	remove_snapshot("snap");
}
END_TEST

/* The VM is stopped, or the instance goes, at any moment of it. */
START_TEST(test_end_meanwhile)
{
	struct rig_call call, stop;

	start_work();
	request_snapshot(&call, false, _i / 2 % 2 != 0);
	for (int i = 0; i < _i / 4; i++) {
		step();
	}
	if (_i % 2 == 0) {
		request_action(&stop, ACTION_STOP);
		rig_wait(&stop, NULL);
		step_until(rig.ended == 1);
	}
	anew();
	ck_assert_uint_eq(call.done, 1);
	if (there("snap")) {
		ck_assert_uint_eq(count_files("snap"), 2);
		remove_snapshot("snap");
	}
	ck_assert_uint_eq(count_files("."), 7);
}
END_TEST

/* --- live, and what was written since ------------------------------------------------------------ */

static void start_tracked(void)
{
	const char *guest = getenv("VMM_TEST_GUEST");

	put_kernel(guest, "test=work pages=2000");
	rig_ok(REQUEST_PUT_MACHINE_CONFIG, NULL,
	       "{\"vcpu_count\": 2, \"mem_size_mib\": 64, \"track_dirty_pages\": true}");
	put_disk("disk");
	start_now();
	step_until(screen_has("round 3 "));
	read_nonce();
}

static void expect_loads(const char *directory)
{
	json_t *json = json_pack("{s:s, s:b, s:s}", "directory", directory, "resume_vm", 1,
				 "memory_mode", "verify");

	anew();
	check_ok(rig_request(REQUEST_PUT_SNAPSHOT_LOAD, NULL, json, NULL), &rig.e);
	json_decref(json);
	step_until(screen_has(nonce));
	ck_assert(!screen_has("work"));
	ck_assert(!screen_has("FAIL"));
}

/* Memory of our own is frozen, where the host can. */
static void check_method(void)
{
	struct event_log *log = instance_events(rig.instance);
	const int fd = freezer_open();
	const char *method = fd >= 0 ? "\"copy-before-write\"" : "\"passes\"";
	bool found = false;

	if (fd >= 0) {
		(void)close(fd);
	} else {
		fprintf(stderr, "# SKIP copy-before-write: %s\n", strerrordesc_np(-fd));
	}
	for (uint64_t seq = 1; seq <= log->last; seq++) {
		const char *line = event_log_line(log, seq);

		found |= line != NULL && strstr(line, method) != NULL;
	}
	ck_assert(found);
}

/* The guest never stops but for a moment; what it has is of one moment, or it would notice. */
START_TEST(test_live)
{
	if (_i == 0) {
		put_guest("test=work pages=2000");
		put_disk("disk");
		start_now();
		step_until(screen_has("round 3 "));
		read_nonce();
	} else {
		start_tracked();
	}
	/* Its disk goes on being written: a copy of it of that moment is not a snapshot's part yet. */
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"snap\", \"live\": true}");
	ck_assert(state_is(INSTANCE_RUNNING));
	ck_assert_uint_eq(count_files("snap"), 2);
	for (int i = 0; i < 3; i++) {
		forget_output();
		step_until(screen_has("round "));
	}
	/* Tracking that was begun for it has ended. */
	ck_assert_uint_eq(atomic_load(&vm_memory(rig.instance->vm)->tracked), _i == 0 ? 0 : 1);
	ck_assert(!screen_has("FAIL"));
	check_method();
	/* Nobody hears of its writes any more. */
	ck_assert(!atomic_load(&vm_memory(rig.instance->vm)->regions[0].held));
	anew();
	/* Its disk has gone on. */
	rig_refused(REQUEST_PUT_SNAPSHOT_LOAD, NULL, "{\"directory\": \"snap\"}", ERROR_DISK,
		    "drive 'data' has changed since the snapshot");
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL,
	       "{\"directory\": \"snap\", \"memory_mode\": \"verify\", \"changed_disks\": "
	       "\"accept\"}");
	remove_snapshot("snap");
}
END_TEST

/* Memory that is mapped from a file: in a tmpfs it is frozen as well, elsewhere there are passes. */
START_TEST(test_live_of_loaded)
{
	const struct guest_memory *mem;

	put_guest("test=work pages=2000");
	put_disk("disk");
	start_now();
	step_until(screen_has("round 3 "));
	read_nonce();
	pause_vm();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"d0\"}");
	expect_loads("d0");
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"d1\", \"live\": true}");
	for (int i = 0; i < 3; i++) {
		forget_output();
		step_until(screen_has("round "));
	}
	ck_assert(!screen_has("FAIL"));
	mem = vm_memory(rig.instance->vm);
	ck_assert_uint_eq(atomic_load(&mem->tracked), 0);
	ck_assert(!atomic_load(&mem->regions[0].held));
	anew();
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL,
	       "{\"directory\": \"d1\", \"memory_mode\": \"verify\", \"changed_disks\": "
	       "\"accept\"}");
	remove_snapshot("d0");
	remove_snapshot("d1");
}
END_TEST

/* Memory and disk are of one moment, though both go on: the guest compares. */
static const struct {
	const char *save, *load;
} disk_copies[] = {
	{ "{\"directory\": \"snap\", \"drive_copies\": [{\"drive_id\": \"data\", "
	  "\"path_on_host\": \"copy\"}]}",
	  "\"drive_overrides\": [{\"drive_id\": \"data\", \"path_on_host\": \"copy\"}]" },
	{ "{\"directory\": \"snap\", \"live\": true, \"drive_copies\": [{\"drive_id\": \"data\", "
	  "\"path_on_host\": \"copy\"}]}",
	  "\"drive_overrides\": [{\"drive_id\": \"data\", \"path_on_host\": \"copy\"}]" },
	{ "{\"directory\": \"snap\", \"with_disks\": true}", "\"disks_to\": \".\"" },
	{ "{\"directory\": \"snap\", \"live\": true, \"with_disks\": true}",
	  "\"disks_to\": \".\"" },
};

START_TEST(test_disk_copies)
{
	char body[200];

	start_tracked();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, disk_copies[_i].save);
	ck_assert(state_is(INSTANCE_RUNNING));
	for (int i = 0; i < 3; i++) {
		forget_output();
		step_until(screen_has("round "));
	}
	ck_assert(!screen_has("FAIL"));
	anew();
	(void)snprintf(body, sizeof(body), "{\"directory\": \"snap\", \"resume_vm\": true, %s}",
		       disk_copies[_i].load);
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL, body);
	for (int i = 0; i < 20; i++) {
		forget_output();
		step_until(screen_has(nonce));
		ck_assert(!screen_has("FAIL"));
	}
	remove_snapshot("snap");
}
END_TEST

static const struct {
	const char *copies, *says;
	enum error_code code;
} bad_copies[] = {
	{ "[{\"drive_id\": \"other\", \"path_on_host\": \"copy\"}]", "no drive 'other'",
	  ERROR_NOT_FOUND },
	{ "[{\"drive_id\": \"data\", \"path_on_host\": \"copy\"}, {\"drive_id\": \"data\", "
	  "\"path_on_host\": \"copy2\"}]",
	  "comes twice", ERROR_NOT_FOUND },
	{ "[{\"drive_id\": \"data\", \"path_on_host\": \"text\"}]", "text", ERROR_DISK },
	{ "[{\"drive_id\": \"data\", \"path_on_host\": \"nowhere/copy\"}]", "nowhere", ERROR_DISK },
	{ "[{\"drive_id\": \"data\"}]", "path_on_host: is required", ERROR_JSON },
};

START_TEST(test_bad_copies)
{
	char body[400];

	start_work();
	for (int live = 0; live <= 1; live++) {
		(void)snprintf(body, sizeof(body),
			       "{\"directory\": \"snap\", \"live\": %s, \"drive_copies\": %s}",
			       live ? "true" : "false", bad_copies[_i].copies);
		ck_assert_int_lt(rig_put(REQUEST_PUT_SNAPSHOT, NULL, body), 0);
		check_error(&rig.e, bad_copies[_i].code, bad_copies[_i].says);
		step_until(state_is(INSTANCE_RUNNING));
		ck_assert(!there("snap") && !there("copy"));
	}
	forget_output();
	step_until(screen_has("round "));
}
END_TEST

START_TEST(test_compressed)
{
	start_tracked();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL,
	       _i == 0 ? "{\"directory\": \"d0\", \"compress\": true}"
		       : "{\"directory\": \"d0\", \"compress\": true, \"live\": true}");
	pause_vm();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL,
	       "{\"directory\": \"d1\", \"compress\": true, \"snapshot_type\": \"Diff\"}");
	expect_loads("d1");
	remove_snapshot("d0");
	remove_snapshot("d1");
}
END_TEST

/* A chain: each has what the one before has not, and is loaded directly. */
START_TEST(test_diffs)
{
	struct stat full, diff;

	start_tracked();
	/* The first one has nothing to differ from. */
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"d0\", \"snapshot_type\": \"Diff\"}");
	forget_output();
	step_until(screen_has("round "));
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL,
	       _i == 0 ? "{\"directory\": \"d1\", \"snapshot_type\": \"Diff\"}"
		       : "{\"directory\": \"d1\", \"snapshot_type\": \"Diff\", \"live\": true}");
	forget_output();
	step_until(screen_has("round "));
	pause_vm();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"d2\", \"snapshot_type\": \"Diff\"}");
	/* Nothing was written since. */
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"d3\", \"snapshot_type\": \"Diff\"}");
	ck_assert_int_eq(stat("d0/memory", &full), 0);
	ck_assert_int_eq(stat("d3/memory", &diff), 0);
	ck_assert_int_lt(diff.st_blocks, full.st_blocks);
	ck_assert_int_lt(diff.st_blocks, 200);
	expect_loads("d3");
	/* Without its parent it is nothing. */
	ck_assert_int_eq(rename("d1", "gone"), 0);
	anew();
	rig_refused(REQUEST_PUT_SNAPSHOT_LOAD, NULL, "{\"directory\": \"d3\"}", ERROR_NOT_FOUND,
		    "d1");
	ck_assert_int_eq(rename("gone", "d1"), 0);
	for (char name[] = "d0"; name[1] < '4'; name[1]++) {
		remove_snapshot(name);
	}
}
END_TEST

/* One that was loaded goes on the chain. */
START_TEST(test_diff_of_loaded)
{
	start_tracked();
	pause_vm();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"d0\"}");
	anew();
	rig_ok(REQUEST_PUT_SNAPSHOT_LOAD, NULL,
	       "{\"directory\": \"d0\", \"resume_vm\": true, \"track_dirty_pages\": true}");
	step_until(screen_has(nonce));
	pause_vm();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"d1\", \"snapshot_type\": \"Diff\"}");
	expect_loads("d1");
	/* Not tracked any more. */
	rig_refused(REQUEST_PUT_SNAPSHOT, NULL,
		    "{\"directory\": \"d2\", \"snapshot_type\": \"Diff\"}", ERROR_WRONG_STATE,
		    "nobody has noted");
	remove_snapshot("d0");
	remove_snapshot("d1");
}
END_TEST

/* What one that has failed, or was cancelled, has looked at the next one has. */
START_TEST(test_diff_after_failure)
{
	struct rig_call call;

	start_tracked();
	pause_vm();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"d0\"}");
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
	forget_output();
	step_until(screen_has("round "));
	request_snapshot(&call, true, _i % 2 != 0);
	json_decref(call.reply);
	for (int i = 0; i < _i / 2; i++) {
		step();
	}
	(void)rig_put(REQUEST_DELETE_JOB, "2", NULL);
	step_until(jobs_current(instance_jobs(rig.instance)) == 0);
	pause_vm();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"d1\", \"snapshot_type\": \"Diff\"}");
	expect_loads("d1");
	remove_snapshot("d0");
	remove_snapshot("d1");
	if (there("snap")) {
		remove_snapshot("snap");
	}
}
END_TEST

CHECK_MAIN("instance_snapshot", skip_without_kvm(); CHECK_FIXTURE(setup, rig_teardown);
	   CHECK_TEST(test_of_running); CHECK_TEST(test_of_paused);
	   CHECK_TABLE(test_refused, bad_creates); CHECK_TEST(test_before_and_after);
	   CHECK_LOOP(test_cancelled, 24); CHECK_TEST(test_beside); CHECK_LOOP(test_live, 2);
	   CHECK_TEST(test_live_of_loaded); CHECK_LOOP(test_compressed, 2);
	   CHECK_TABLE(test_disk_copies, disk_copies); CHECK_TABLE(test_bad_copies, bad_copies);
	   CHECK_LOOP(test_diffs, 2); CHECK_TEST(test_diff_of_loaded);
	   CHECK_LOOP(test_diff_after_failure, 16); CHECK_LOOP(test_end_meanwhile, 32))
