/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives and cards that come and go by requests, with real KVM and a guest that is driver and firmware:
 * what is answered and when, what the configuration and the events say, what is refused. By the order
 * of events, never by time; a time limit that is to be over is as short as can be, one that is not is
 * as long.
 */
#include "../../src/instance/internal.h"
#include "harness/instance_rig.h"
#include "harness/need_kvm.h"

#define HOUR_NS (3600 * 1000000000ULL)

static void setup(void)
{
	rig_setup();
	ck_assert(instance_destroy(rig.instance));
	rig.settings.debug_exit = true;
	check_ok(instance_create(&rig.instance, &rig.settings, &rig.host, &rig.e), &rig.e);
}

static void start(const char *cmdline, const char *machine)
{
	json_t *json = json_pack("{s:s, s:s}", "kernel_image_path", getenv("VMM_TEST_GUEST"),
				 "cmdline_only", cmdline);

	check_ok(rig_request(REQUEST_PUT_BOOT_SOURCE, NULL, json, NULL), &rig.e);
	json_decref(json);
	rig_ok(REQUEST_PUT_MACHINE_CONFIG, NULL, machine);
	rig_ok(REQUEST_PUT_DISK, "root",
	       "{\"drive_id\": \"root\", \"path_on_host\": \"disk\", \"is_root_device\": true}");
	check_ok(instance_start_now(rig.instance, false, &rig.e), &rig.e);
}

#define MACHINE "{\"vcpu_count\": 1, \"mem_size_mib\": 64}"
#define DATA	"{\"drive_id\": \"data\", \"path_on_host\": \"disk2\", \"is_root_device\": false}"

static void ask_removal(struct rig_call *call, const char *id, bool force, uint64_t limit_ns)
{
	const struct device_removal removal = { .force = force, .timeout_ns = limit_ns };
	const struct request request = { .type = REQUEST_DELETE_DISK,
					 .id = id,
					 .object = &removal };

	*call = (struct rig_call){ .base.done = rig_done };
	instance_request(rig.instance, &request, &call->base);
}

static int remove_disk(const char *id, bool force, uint64_t limit_ns)
{
	struct rig_call call;

	ask_removal(&call, id, force, limit_ns);
	return rig_wait(&call, NULL);
}

static size_t count_drives(void)
{
	json_t *config = rig_get(REQUEST_GET_VM_CONFIG, NULL);
	size_t count = json_array_size(json_object_get(config, "drives"));

	json_decref(config);
	return count;
}

START_TEST(test_come_and_go)
{
	start("test=hotplug then=give", MACHINE);
	for (unsigned i = 1; i <= 3; i++) {
		rig_ok(REQUEST_PUT_DISK, "data", DATA);
		ck_assert_uint_eq(count_drives(), 2);
		ck_assert_uint_eq(rig_events("drive-added"), i);
		/* A drive as any other. */
		rig_ok(REQUEST_PATCH_DISK, "data",
		       "{\"drive_id\": \"data\", \"rate_limiter\": {\"ops\": {\"size\": 1000, "
		       "\"refill_time\": 100}}}");
		check_ok(remove_disk("data", false, HOUR_NS), &rig.e);
		ck_assert_uint_eq(count_drives(), 1);
		ck_assert_uint_eq(rig_events("drive-removed"), i);
	}
	/* Without the guest. */
	rig_ok(REQUEST_PUT_DISK, "data", DATA);
	check_ok(remove_disk("data", true, HOUR_NS), &rig.e);
	ck_assert_uint_eq(count_drives(), 1);
	ck_assert_uint_eq(rig_events("drive-removed"), 4);
}
END_TEST

START_TEST(test_refused)
{
	char *before;

	rig_refused(REQUEST_DELETE_DISK, "root", NULL, ERROR_WRONG_STATE, "before starting");
	start("test=hotplug", MACHINE);
	before = rig_text(REQUEST_GET_VM_CONFIG);
	rig_refused(REQUEST_PUT_DISK, "root",
		    "{\"drive_id\": \"root\", \"path_on_host\": \"disk2\", \"is_root_device\": "
		    "false}",
		    ERROR_EXISTS, "Device ID in use");
	rig_refused(REQUEST_PUT_DISK, "b",
		    "{\"drive_id\": \"b\", \"path_on_host\": \"disk2\", \"is_root_device\": true}",
		    ERROR_CONFIG, "root block device already exists");
	rig_refused(REQUEST_PUT_DISK, "b", DATA, ERROR_CONFIG, "does not match");
	rig_refused(REQUEST_PUT_DISK, "b",
		    "{\"drive_id\": \"b\", \"path_on_host\": \"nowhere\", \"is_root_device\": "
		    "false}",
		    ERROR_DISK, "drive 'b'");
	rig_refused(REQUEST_PUT_DISK, "b",
		    "{\"drive_id\": \"b\", \"path_on_host\": \"disk\", \"is_root_device\": false}",
		    ERROR_DISK_LOCKED, "in use");
	rig_refused(REQUEST_PUT_NET, "eth0",
		    "{\"iface_id\": \"eth0\", \"host_dev_name\": \"a name\"}", ERROR_NET, "a name");
	ck_assert_int_lt(remove_disk("nobody", false, HOUR_NS), 0);
	check_error(&rig.e, ERROR_NOT_FOUND, "Device not found");
	ck_assert_int_lt(remove_disk("root", true, HOUR_NS), 0);
	check_error(&rig.e, ERROR_CONFIG, "Cannot unplug root device");
	rig_expect(REQUEST_GET_VM_CONFIG, before);
	ck_assert_uint_eq(rig_events("drive-added") + rig_events("drive-removed"), 0);
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}");
	rig_ok(REQUEST_PUT_DISK, "data", DATA);
	ck_assert_int_lt(remove_disk("data", false, HOUR_NS), 0);
	check_error(&rig.e, ERROR_CONFIG, "is paused");
	free(before);
}
END_TEST

START_TEST(test_on_mmio)
{
	start("test=hotplug", "{\"vcpu_count\": 1, \"mem_size_mib\": 64, \"transport\": \"mmio\"}");
	rig_refused(REQUEST_PUT_DISK, "data", DATA, ERROR_NOT_SUPPORTED, "PCI is not enabled");
	ck_assert_ptr_nonnull(strstr(rig.e.hint, "--transport pci"));
	ck_assert_int_lt(remove_disk("root", false, HOUR_NS), 0);
	check_error(&rig.e, ERROR_NOT_SUPPORTED, "PCI is not enabled");
}
END_TEST

/* The time is over, the request stays; everything else is answered meanwhile. */
START_TEST(test_ignored)
{
	struct rig_call first, second;
	bool told = false;

	start("test=hotplug then=ignore", MACHINE);
	rig_ok(REQUEST_PUT_DISK, "data", DATA);
	while (!told) {
		ck_assert_int_lt(remove_disk("data", false, 1), 0);
		ck_assert_int_eq(rig.e.code, ERROR_BUSY);
		ck_assert_ptr_nonnull(strstr(rig.e.msg, "drive 'data'"));
		/* Whether the guest has looked by then is its own business. */
		told = strstr(rig.e.msg, "not given it back") != NULL;
		ck_assert(told || strstr(rig.e.msg, "not looked at the request") != NULL);
	}
	ask_removal(&first, "data", false, HOUR_NS);
	ask_removal(&second, "data", false, HOUR_NS);
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}");
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Resumed\"}");
	ck_assert_uint_eq(first.done + second.done, 0);
	ck_assert_uint_eq(count_drives(), 2);
	if (_i == 0) {
		/* A reset fulfils it; both are answered. */
		rig_action("Reset");
	} else if (_i == 1) {
		/* One goes away; force ends the other's waiting. */
		instance_forget(rig.instance, &first.base);
		check_ok(remove_disk("data", true, HOUR_NS), &rig.e);
		check_ok(rig_wait(&second, NULL), &rig.e);
		ck_assert_uint_eq(first.done, 0);
		ck_assert_uint_eq(count_drives(), 1);
		return;
	} else {
		rig_action("Stop");
		ck_assert_int_lt(rig_wait(&first, NULL), 0);
		check_error(&rig.e, ERROR_WRONG_STATE, "has ended");
		ck_assert_int_lt(rig_wait(&second, NULL), 0);
		return;
	}
	check_ok(rig_wait(&first, NULL), &rig.e);
	check_ok(rig_wait(&second, NULL), &rig.e);
	ck_assert_uint_eq(count_drives(), 1);
	ck_assert_uint_eq(rig_events("drive-removed"), 1);
}
END_TEST

/* The instance ends while somebody waits: teardown answers. */
START_TEST(test_end)
{
	struct rig_call call;

	start("test=hotplug then=ignore", MACHINE);
	rig_ok(REQUEST_PUT_DISK, "data", DATA);
	ask_removal(&call, "data", false, HOUR_NS);
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}");
	ck_assert_uint_eq(call.done, 0);
	ck_assert(instance_destroy(rig.instance));
	rig.instance = NULL;
	ck_assert_uint_eq(call.done, 1);
	ck_assert(call.failed);
}
END_TEST

CHECK_MAIN("instance_plug", skip_without_kvm(); CHECK_FIXTURE(setup, rig_teardown);
	   CHECK_TEST(test_come_and_go); CHECK_TEST(test_refused); CHECK_TEST(test_on_mmio);
	   CHECK_LOOP(test_ignored, 3); CHECK_TEST(test_end))
