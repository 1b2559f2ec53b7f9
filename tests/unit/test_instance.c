/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests before the start: what is accepted, what is refused, and that a refused one has changed
 * nothing: the configuration is byte for byte what it was. No KVM.
 */
#include "../../src/instance/internal.h"
#include "harness/count_descriptors.h"
#include "harness/instance_rig.h"
#include "vmm/log.h"
#include "vmm/log.h"

#define BOOT   REQUEST_PUT_BOOT_SOURCE
#define MACH   REQUEST_PUT_MACHINE_CONFIG
#define PMACH  REQUEST_PATCH_MACHINE_CONFIG
#define DRIVE  REQUEST_PUT_DISK
#define NET    REQUEST_PUT_NET
#define SERIAL REQUEST_PUT_SERIAL

/* A configuration with everything, to have something to lose. */
#define DRIVE_BODY(id, path, more)                                    \
	"{\"drive_id\": \"" id "\", \"path_on_host\": \"" path "\", " \
	"\"is_root_device\": false" more "}"
#define NET_BODY(id, tap, more) "{\"iface_id\": \"" id "\", \"host_dev_name\": \"" tap "\"" more "}"
#define LONG_ID			"x234567890123456789012345678901234567890123456789012345678901234x"

static void configure_all(void)
{
	rig_ok(BOOT, NULL, "{\"kernel_image_path\": \"kernel\", \"boot_args\": \"quiet\"}");
	rig_ok(MACH, NULL, "{\"vcpu_count\": 3, \"mem_size_mib\": 96}");
	rig_ok(DRIVE, "data",
	       "{\"drive_id\": \"data\", \"path_on_host\": \"disk2\", "
	       "\"is_root_device\": false}");
	rig_ok(DRIVE, "root",
	       "{\"drive_id\": \"root\", \"path_on_host\": \"disk\", "
	       "\"is_root_device\": true}");
	rig_ok(NET, "eth0",
	       "{\"iface_id\": \"eth0\", \"host_dev_name\": \"tap0\", "
	       "\"guest_mac\": \"06:00:00:00:00:01\"}");
	rig_ok(REQUEST_PUT_ENTROPY, NULL, "{}");
	rig_ok(REQUEST_PUT_CPU_CONFIG, NULL, "{\"cpuid_modifiers\": []}");
	rig_ok(SERIAL, NULL, "{\"serial_out_path\": \"serial.log\"}");
	rig_ok(REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"metrics.log\"}");
}

START_TEST(test_empty)
{
	json_t *config = rig_get(REQUEST_GET_VM_CONFIG, NULL);

	ck_assert_uint_eq(json_object_size(config), 9);
	ck_assert(json_is_null(json_object_get(config, "boot-source")));
	ck_assert(json_is_array(json_object_get(config, "drives")));
	ck_assert_int_eq(json_integer_value(json_object_get(
				 json_object_get(config, "machine-config"), "vcpu_count")),
			 2);
	json_decref(config);
	ck_assert_int_eq(instance_state(rig.instance), INSTANCE_NOT_STARTED);
	ck_assert_ptr_null(instance_vm(rig.instance));
	ck_assert_uint_eq(instance_uptime_ns(rig.instance), 0);
}
END_TEST

static const struct {
	enum request_type type;
	const char *id, *text;
} accepted[] = {
	{ BOOT, NULL, "{\"kernel_image_path\": \"kernel\"}" },
	{ BOOT, NULL,
	  "{\"kernel_image_path\": \"kernel\", \"initrd_path\": \"text\", "
	  "\"boot_args\": null}" },
	{ BOOT, NULL, "{\"kernel_image_path\": \"kernel\", \"boot_args\": \"\"}" },
	{ MACH, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 64, \"smt\": true}" },
	{ MACH, NULL,
	  "{\"vcpu_count\": 32, \"mem_size_mib\": 512, \"smt\": true, "
	  "\"track_dirty_pages\": true, \"huge_pages\": \"None\", "
	  "\"cpu_template\": \"None\"}" },
	{ PMACH, NULL, "{\"vcpu_count\": 4}" },
	{ PMACH, NULL, "{\"mem_size_mib\": 100, \"vcpu_count\": null}" },
	{ DRIVE, NULL, DRIVE_BODY("a/b c", "disk", "") },
	{ DRIVE, LONG_ID, DRIVE_BODY(LONG_ID, "disk", ", \"partuuid\": \"\"") },
	{ DRIVE, "root",
	  "{\"drive_id\": \"root\", \"path_on_host\": \"disk2\", "
	  "\"is_root_device\": true, \"is_read_only\": true}" },
	{ DRIVE, "root",
	  "{\"drive_id\": \"root\", \"path_on_host\": \"disk\", "
	  "\"is_root_device\": false}" },
	{ DRIVE, NULL,
	  "{\"drive_id\": \"third_1\", \"path_on_host\": \"disk\", "
	  "\"is_root_device\": false, \"cache_type\": \"Unsafe\", \"io_engine\": "
	  "\"Sync\", \"rate_limiter\": {\"ops\": {\"size\": 1, \"refill_time\": 2, "
	  "\"one_time_burst\": 3}}}" },
	{ NET, "eth0", "{\"iface_id\": \"eth0\", \"host_dev_name\": \"tap0\"}" },
	{ NET, "eth1", "{\"iface_id\": \"eth1\", \"host_dev_name\": \"tap1\", \"mtu\": 68}" },
	{ NET, "eth1", "{\"iface_id\": \"eth1\", \"host_dev_name\": \"tap1\", \"mtu\": 65535}" },
	{ SERIAL, NULL, "{}" },
	{ SERIAL, NULL,
	  "{\"serial_out_path\": \"fifo\", \"rate_limiter\": {\"size\": 10, "
	  "\"refill_time\": 100}}" },
	{ REQUEST_PUT_ENTROPY, NULL,
	  "{\"rate_limiter\": {\"bandwidth\": {\"size\": 10, "
	  "\"refill_time\": 100}}}" },
	{ REQUEST_PUT_CPU_CONFIG, NULL,
	  "{\"msr_modifiers\": [{\"addr\": \"0x10\", \"bitmap\": "
	  "\"0b1\"}]}" },
};

static void expect_templates(const char *named, bool own)
{
	json_t *config = rig_get(REQUEST_GET_VM_CONFIG, NULL);
	const json_t *machine = json_object_get(config, "machine-config");

	ck_assert_str_eq(json_string_value(json_object_get(machine, "cpu_template")), named);
	ck_assert_int_eq(json_is_object(json_object_get(config, "cpu-config")), own);
	json_decref(config);
}

/* Of a named template and one's own the last one counts; what does not name one leaves it. */
START_TEST(test_cpu_templates)
{
	static const char own[] = "{\"kvm_capabilities\": [\"!7\"]}";

	rig_ok(MACH, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 64, \"cpu_template\": \"T2S\"}");
	expect_templates("T2S", false);
	rig_ok(MACH, NULL, "{\"vcpu_count\": 2, \"mem_size_mib\": 64, \"cpu_template\": null}");
	expect_templates("T2S", false);
	rig_ok(REQUEST_PUT_CPU_CONFIG, NULL, own);
	expect_templates("None", true);
	rig_ok(MACH, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 64}");
	rig_ok(PMACH, NULL, "{\"vcpu_count\": 2}");
	expect_templates("None", true);
	rig_ok(PMACH, NULL, "{\"cpu_template\": \"T2A\"}");
	expect_templates("T2A", false);
	rig_ok(REQUEST_PUT_CPU_CONFIG, NULL, own);
	rig_ok(PMACH, NULL, "{\"cpu_template\": \"None\"}");
	expect_templates("None", false);
}
END_TEST

/* What is accepted can be read back, and applying what was read changes nothing. */
START_TEST(test_accepted)
{
	char *text, *before;
	json_t *json;

	configure_all();
	before = rig_text(REQUEST_GET_VM_CONFIG);
	rig_ok(accepted[_i].type, accepted[_i].id, accepted[_i].text);
	text = rig_text(REQUEST_GET_VM_CONFIG);
	json = json_loads(text, 0, NULL);
	check_ok(instance_apply_config(rig.instance, json, &rig.e), &rig.e);
	rig_expect(REQUEST_GET_VM_CONFIG, text);
	/* And a fresh instance becomes the same by it. */
	ck_assert(instance_destroy(rig.instance));
	rig_create();
	check_ok(instance_apply_config(rig.instance, json, &rig.e), &rig.e);
	rig_expect(REQUEST_GET_VM_CONFIG, text);
	json_decref(json);
	free(text);
	free(before);
}
END_TEST

static const struct {
	enum request_type type;
	const char *id, *text;
	enum error_code code;
	const char *says;
} refused[] = {
	{ BOOT, NULL, "{}", ERROR_JSON, "/kernel_image_path" },
	{ BOOT, NULL, "{\"kernel_image_path\": 1}", ERROR_JSON, "/kernel_image_path" },
	{ BOOT, NULL, "{\"kernel_image_path\": \"\"}", ERROR_JSON, "/kernel_image_path" },
	{ BOOT, NULL, "{\"kernel_image_path\": \"nowhere\"}", ERROR_KERNEL_IMAGE, "nowhere" },
	{ BOOT, NULL, "{\"kernel_image_path\": \"text\"}", ERROR_KERNEL_IMAGE, "text file" },
	{ BOOT, NULL, "{\"kernel_image_path\": \"qcow2\"}", ERROR_KERNEL_IMAGE, "qcow2" },
	{ BOOT, NULL, "{\"kernel_image_path\": \"directory\"}", ERROR_KERNEL_IMAGE, "directory" },
	{ BOOT, NULL, "{\"kernel_image_path\": \"fifo\"}", ERROR_KERNEL_IMAGE, "fifo" },
	{ BOOT, NULL, "{\"kernel_image_path\": \"kernel\", \"initrd_path\": \"nowhere\"}",
	  ERROR_INITRD, "nowhere" },
	{ BOOT, NULL, "{\"kernel_image_path\": \"kernel\", \"kernel\": \"x\"}", ERROR_JSON,
	  "unknown key 'kernel'" },
	{ BOOT, NULL,
	  "{\"kernel_image_path\": \"kernel\", \"boot_args\": \"a\", "
	  "\"cmdline\": \"b\"}",
	  ERROR_USAGE, "exclude" },
	{ MACH, NULL, "{\"vcpu_count\": 1}", ERROR_JSON, "/mem_size_mib" },
	{ MACH, NULL, "{\"mem_size_mib\": 64}", ERROR_JSON, "/vcpu_count" },
	{ MACH, NULL, "{\"vcpu_count\": 0, \"mem_size_mib\": 64}", ERROR_CONFIG, "vcpu_count" },
	{ MACH, NULL, "{\"vcpu_count\": 33, \"mem_size_mib\": 64}", ERROR_CONFIG, "vcpu_count" },
	{ MACH, NULL, "{\"vcpu_count\": 4294967296, \"mem_size_mib\": 64}", ERROR_JSON,
	  "/vcpu_count" },
	{ MACH, NULL, "{\"vcpu_count\": -1, \"mem_size_mib\": 64}", ERROR_JSON, "negative" },
	{ MACH, NULL, "{\"vcpu_count\": 1.0, \"mem_size_mib\": 64}", ERROR_JSON, "/vcpu_count" },
	{ MACH, NULL, "{\"vcpu_count\": \"1\", \"mem_size_mib\": 64}", ERROR_JSON, "/vcpu_count" },
	{ MACH, NULL, "{\"vcpu_count\": 3, \"mem_size_mib\": 64, \"smt\": true}", ERROR_CONFIG,
	  "smt" },
	{ MACH, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 0}", ERROR_CONFIG, "mem_size_mib" },
	{ MACH, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 9223372036854775807}", ERROR_JSON,
	  "/mem_size_mib" },
	{ MACH, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 64, \"huge_pages\": \"1G\"}",
	  ERROR_JSON, "/huge_pages" },
	{ MACH, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 65, \"huge_pages\": \"2M\"}",
	  ERROR_CONFIG, "2 MiB" },
	{ MACH, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 64, \"cpu_template\": \"V1N1\"}",
	  ERROR_CONFIG, "cpu_template" },
	{ MACH, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 64, \"ht_enabled\": true}", ERROR_JSON,
	  "ht_enabled" },
	{ PMACH, NULL, "{}", ERROR_JSON, "empty" },
	{ PMACH, NULL, "[]", ERROR_JSON, "array" },
	{ PMACH, NULL, "{\"vcpu_count\": 33, \"mem_size_mib\": 64}", ERROR_CONFIG, "vcpu_count" },
	{ PMACH, NULL, "{\"smt\": true}", ERROR_CONFIG, "smt" },
	{ PMACH, NULL, "{\"vcpus\": 1}", ERROR_JSON, "vcpus" },
	{ DRIVE, "a", DRIVE_BODY("b", "disk", ""), ERROR_CONFIG, "does not match" },
	{ DRIVE, "", DRIVE_BODY("b", "disk", ""), ERROR_CONFIG, "does not match" },
	{ DRIVE, NULL, DRIVE_BODY("", "disk", ""), ERROR_JSON, "empty" },
	{ DRIVE, "new", DRIVE_BODY("new", "nowhere", ""), ERROR_DISK, "nowhere" },
	{ DRIVE, "data", DRIVE_BODY("data", "nowhere", ""), ERROR_DISK, "nowhere" },
	{ DRIVE, "data", DRIVE_BODY("data", "qcow2", ""), ERROR_DISK, "qcow2" },
	{ DRIVE, "data", DRIVE_BODY("data", "directory", ""), ERROR_DISK, "directory" },
	{ DRIVE, "data", DRIVE_BODY("data", "fifo", ""), ERROR_DISK, "fifo" },
	{ DRIVE, "data", DRIVE_BODY("data", "disk", ", \"serial\": \"123456789012345678901\""),
	  ERROR_CONFIG, "serial" },
	{ DRIVE, "data", DRIVE_BODY("data", "disk", ", \"socket\": \"x\""), ERROR_NOT_SUPPORTED,
	  "socket" },
	{ DRIVE, "data", DRIVE_BODY("data", "disk", ", \"io_engine\": \"Fast\""), ERROR_JSON,
	  "/io_engine" },
	{ DRIVE, "data", DRIVE_BODY("data", "disk", ", \"rate_limiter\": {\"ops\": {\"size\": 1}}"),
	  ERROR_JSON, "refill_time" },
	{ DRIVE, "data", "{\"drive_id\": \"data\", \"path_on_host\": \"disk\"}", ERROR_JSON,
	  "/is_root_device" },
	{ DRIVE, "data",
	  "{\"drive_id\": \"data\", \"path_on_host\": \"disk\", "
	  "\"is_root_device\": true}",
	  ERROR_CONFIG, "'root' is the root drive" },
	{ NET, "eth1", NET_BODY("eth0", "tap1", ""), ERROR_CONFIG, "does not match" },
	{ NET, "eth1", NET_BODY("eth1", "tap0", ""), ERROR_CONFIG, "'eth0' uses" },
	{ NET, "eth1", NET_BODY("eth1", "tap1", ", \"guest_mac\": \"06:00:00:00:00:01\""),
	  ERROR_CONFIG, "same address" },
	{ NET, "eth1", NET_BODY("eth1", "tap1", ", \"guest_mac\": \"01:00:00:00:00:01\""),
	  ERROR_JSON, "/guest_mac" },
	{ NET, "eth1", NET_BODY("eth1", "tap1", ", \"guest_mac\": \"06:00\""), ERROR_JSON,
	  "/guest_mac" },
	{ NET, "eth1", NET_BODY("eth1", "tap1", ", \"mtu\": 67"), ERROR_CONFIG, "67" },
	{ NET, "eth1", NET_BODY("eth1", "tap1", ", \"mtu\": 65536"), ERROR_CONFIG, "65536" },
	{ NET, "eth1", NET_BODY("eth1", "a/b", ""), ERROR_NET, "a/b" },
	{ NET, "eth1", NET_BODY("eth1", "1234567890123456", ""), ERROR_NET, "1234567890123456" },
	{ NET, "eth1", "{\"iface_id\": \"eth1\"}", ERROR_JSON, "/host_dev_name" },
	{ SERIAL, NULL, "{\"serial_out_path\": \"directory\"}", ERROR_CONSOLE, "directory" },
	{ SERIAL, NULL, "{\"serial_out_path\": \"no/where\"}", ERROR_CONSOLE, "no/where" },
	{ SERIAL, NULL, "{\"rate_limiter\": {}}", ERROR_JSON, "/rate_limiter" },
	{ REQUEST_PUT_ENTROPY, NULL, "{\"rate\": 1}", ERROR_JSON, "rate" },
	{ REQUEST_PUT_CPU_CONFIG, NULL, "[]", ERROR_JSON, "object" },
	{ REQUEST_PUT_CPU_CONFIG, NULL, "{\"x\": 1}", ERROR_JSON, "unknown key" },
	{ REQUEST_PUT_LOGGER, NULL, "{\"log_path\": \"directory\"}", ERROR_CONFIG, "directory" },
	{ REQUEST_PUT_LOGGER, NULL, "{\"level\": \"Loud\"}", ERROR_JSON, "/level" },
	{ REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"other\"}", ERROR_EXISTS, "metrics.log" },
	{ REQUEST_PATCH_DISK, "data", "{\"drive_id\": \"data\"}", ERROR_WRONG_STATE,
	  "before starting" },
	{ REQUEST_PATCH_NET, "eth0", "{\"iface_id\": \"eth0\"}", ERROR_WRONG_STATE,
	  "before starting" },
	{ REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}", ERROR_WRONG_STATE, "before starting" },
	{ REQUEST_PUT_ACTION, NULL, "{\"action_type\": \"FlushMetrics\"}", ERROR_WRONG_STATE,
	  "The requested operation is not supported before starting the microVM." },
	{ REQUEST_PUT_ACTION, NULL, "{\"action_type\": \"SendCtrlAltDel\"}", ERROR_WRONG_STATE,
	  "before starting" },
	{ REQUEST_PUT_ACTION, NULL, "{\"action_type\": \"PowerButton\"}", ERROR_WRONG_STATE,
	  "before starting" },
	{ REQUEST_PUT_ACTION, NULL, "{\"action_type\": \"Reset\"}", ERROR_WRONG_STATE,
	  "before starting" },
	{ REQUEST_PUT_ACTION, NULL, "{\"action_type\": \"Stop\"}", ERROR_WRONG_STATE,
	  "before starting" },
	{ REQUEST_GET_JOB, "1", NULL, ERROR_NOT_FOUND, "'1'" },
	{ REQUEST_GET_JOB, "", NULL, ERROR_NOT_FOUND, "''" },
	{ REQUEST_GET_JOB, "-1", NULL, ERROR_NOT_FOUND, "'-1'" },
	{ REQUEST_GET_JOB, "99999999999999999999999", NULL, ERROR_NOT_FOUND, "9999" },
	{ REQUEST_DELETE_JOB, "1", NULL, ERROR_NOT_FOUND, "job 1" },
	{ REQUEST_DELETE_JOB, "01", NULL, ERROR_NOT_FOUND, "'01'" },
};

/* With everything configured, and with nothing. */
START_TEST(test_refused)
{
	char *before;
	int open_before;

	configure_all();
	before = rig_text(REQUEST_GET_VM_CONFIG);
	open_before = count_descriptors();
	rig_refused(refused[_i].type, refused[_i].id, refused[_i].text, refused[_i].code,
		    refused[_i].says);
	rig_expect(REQUEST_GET_VM_CONFIG, before);
	ck_assert_int_eq(count_descriptors(), open_before);
	free(before);
	ck_assert(instance_destroy(rig.instance));
	rig_create();
	before = rig_text(REQUEST_GET_VM_CONFIG);
	if (rig_put(refused[_i].type, refused[_i].id, refused[_i].text) < 0) {
		rig_expect(REQUEST_GET_VM_CONFIG, before);
	}
	free(before);
}
END_TEST

/* Config files that are refused, whole. */
static const struct {
	const char *text;
	enum error_code code;
	const char *says;
} files[] = {
	{ "[]", ERROR_JSON, "not a JSON object" },
	{ "{\"vsock\": {\"guest_cid\": 3, \"uds_path\": \"x\"}}", ERROR_NOT_SUPPORTED, "vsock" },
	{ "{\"balloon\": {}}", ERROR_NOT_SUPPORTED, "balloon" },
	{ "{\"mmds-config\": {}}", ERROR_NOT_SUPPORTED, "mmds-config" },
	{ "{\"pmem\": [{}]}", ERROR_NOT_SUPPORTED, "pmem" },
	{ "{\"memory-hotplug\": 1}", ERROR_NOT_SUPPORTED, "memory-hotplug" },
	{ "{\"drives\": {}}", ERROR_JSON, "drives" },
	{ "{\"drives\": [1]}", ERROR_JSON, "drives/0" },
	{ "{\"drives\": [null]}", ERROR_JSON, "drives/0" },
	{ "{\"drives\": [" DRIVE_BODY("a", "disk", "") ", " DRIVE_BODY("b", "nowhere", "") "]}",
	  ERROR_DISK, "drives/1" },
	{ "{\"drives\": [" DRIVE_BODY("a", "disk", "") ", " DRIVE_BODY("a", "disk2", "") "]}",
	  ERROR_CONFIG, "twice" },
	{ "{\"network-interfaces\": [" NET_BODY("a", "t1", "") ", " NET_BODY("a", "t2", "") "]}",
	  ERROR_CONFIG, "twice" },
	{ "{\"boot-source\": {\"kernel_image_path\": \"kernel\"}, \"machine-config\": "
	  "{\"vcpu_count\": 0, \"mem_size_mib\": 64}}",
	  ERROR_CONFIG, "machine-config" },
	{ "{\"boot-source\": 1}", ERROR_JSON, "boot-source" },
	{ "{\"cpu-config\": \"nowhere\"}", ERROR_CONFIG, "nowhere" },
	{ "{\"cpu-config\": \"text\"}", ERROR_JSON, "cpu-config" },
	{ "{\"metrics\": {\"metrics_path\": \"new.log\"}, \"serial\": {\"x\": 1}}", ERROR_JSON,
	  "serial" },
	{ "{\"logger\": {\"log_path\": \"new.log\"}, \"entropy\": 1}", ERROR_JSON, "entropy" },
};

START_TEST(test_bad_files)
{
	json_t *json = json_loads(files[_i].text, 0, NULL);
	int open_before;
	char *before;

	ck_assert_ptr_nonnull(json);
	configure_all();
	before = rig_text(REQUEST_GET_VM_CONFIG);
	open_before = count_descriptors();
	ck_assert_int_lt(instance_apply_config(rig.instance, json, &rig.e), 0);
	check_error(&rig.e, files[_i].code, files[_i].says);
	rig_expect(REQUEST_GET_VM_CONFIG, before);
	ck_assert_int_eq(count_descriptors(), open_before);
	free(before);
	json_decref(json);
}
END_TEST

/* A config file is all there is, but for where messages and figures go. */
START_TEST(test_file)
{
	json_t *json;
	json_t *config;

	rig_write_file("template", "{\"msr_modifiers\": []}", 21, 21);
	configure_all();
	json = json_loads("{\"boot-source\": {\"kernel_image_path\": \"kernel\"}, \"vsock\": null, "
			  "\"pmem\": [], \"drives\": [], \"cpu-config\": \"template\"}",
			  0, NULL);
	check_ok(instance_apply_config(rig.instance, json, &rig.e), &rig.e);
	json_decref(json);
	config = rig_get(REQUEST_GET_VM_CONFIG, NULL);
	ck_assert_ptr_nonnull(json_object_get(config, "boot-source"));
	ck_assert_ptr_nonnull(json_object_get(config, "metrics"));
	ck_assert_ptr_nonnull(
		json_object_get(json_object_get(config, "cpu-config"), "msr_modifiers"));
	ck_assert_uint_eq(json_array_size(json_object_get(config, "drives")), 0);
	ck_assert(json_is_null(json_object_get(config, "serial")));
	ck_assert_uint_eq(json_object_size(config), 9);
	json_decref(config);
}
END_TEST

/* As Firecracker does; but it is said, once, by name. */
START_TEST(test_unknown_resource)
{
	json_t *json = json_loads("{\"boot-source\": {\"kernel_image_path\": \"kernel\"}, "
				  "\"drive\": [{}], \"note\": 1}",
				  0, NULL);
	char text[1000] = "";
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	log_init(LOG_WARN, fd);
	check_ok(instance_apply_config(rig.instance, json, &rig.e), &rig.e);
	log_init(LOG_WARN, -1);
	json_decref(json);
	ck_assert_int_gt(pread(fd, text, sizeof(text) - 1, 0), 0);
	(void)close(fd);
	ck_assert_ptr_nonnull(strstr(text, "'drive' is no resource: ignored"));
	ck_assert_ptr_nonnull(strstr(text, "'note'"));
	ck_assert_ptr_null(strstr(text, "'boot-source'"));
}
END_TEST

START_TEST(test_limits)
{
	char id[16], text[128];

	for (int i = 0; i < VM_DISKS_MAX; i++) {
		(void)snprintf(id, sizeof(id), "d%d", i);
		(void)snprintf(text, sizeof(text), DRIVE_BODY("d%d", "disk", ""), i);
		rig_ok(DRIVE, id, text);
	}
	rig_refused(DRIVE, "more", DRIVE_BODY("more", "disk", ""), ERROR_CONFIG, "24 drives");
	rig_ok(DRIVE, "d3", DRIVE_BODY("d3", "disk2", ""));
	for (int i = 0; i < VM_NETS_MAX; i++) {
		(void)snprintf(id, sizeof(id), "n%d", i);
		(void)snprintf(text, sizeof(text), NET_BODY("n%d", "tap%d", ""), i, i);
		rig_ok(NET, id, text);
	}
	rig_refused(NET, "more", NET_BODY("more", "tap99", ""), ERROR_CONFIG, "24 network cards");
	rig_ok(NET, "n0", NET_BODY("n0", "tap99", ""));
}
END_TEST

/* As the command line makes them: objects without JSON, without ids, with what JSON cannot say. */
START_TEST(test_objects)
{
	const struct block_config drive = { .path = "disk", .root = true };
	const struct vm_net_config net = { .kind = VM_NET_FD, .fd = 42 };
	const struct vm_machine_config machine = { .vcpus = 1,
						   .memory_size = MIB(64),
						   .on_reboot = VM_ON_REBOOT_EXIT };
	struct request request = { .type = DRIVE, .object = &drive };
	json_t *config;

	check_ok(instance_request_now(rig.instance, &request, NULL, &rig.e), &rig.e);
	ck_assert_int_lt(instance_request_now(rig.instance, &request, NULL, &rig.e), 0);
	check_error(&rig.e, ERROR_CONFIG, "drive1");
	request = (struct request){ .type = NET, .object = &net };
	check_ok(instance_request_now(rig.instance, &request, NULL, &rig.e), &rig.e);
	request = (struct request){ .type = MACH, .object = &machine };
	check_ok(instance_request_now(rig.instance, &request, NULL, &rig.e), &rig.e);
	config = rig_get(REQUEST_GET_VM_CONFIG, NULL);
	ck_assert_str_eq(json_string_value(json_object_get(
				 json_array_get(json_object_get(config, "drives"), 0), "drive_id")),
			 "drive0");
	ck_assert_str_eq(json_string_value(json_object_get(
				 json_array_get(json_object_get(config, "network-interfaces"), 0),
				 "iface_id")),
			 "net0");
	ck_assert_str_eq(json_string_value(json_object_get(
				 json_object_get(config, "machine-config"), "on_reboot")),
			 "exit");
	json_decref(config);
	/* Doors that leave out what a request needs hear of it. */
	request = (struct request){ .type = BOOT };
	ck_assert_int_lt(instance_request_now(rig.instance, &request, NULL, &rig.e), 0);
	check_error(&rig.e, ERROR_INTERNAL, "PutBootSource");
	request = (struct request){ .type = PMACH, .object = &machine };
	ck_assert_int_lt(instance_request_now(rig.instance, &request, NULL, &rig.e), 0);
	check_error(&rig.e, ERROR_INTERNAL, "PatchMachineConfig");
	request = (struct request){ .type = REQUEST_TYPES };
	ck_assert_int_lt(instance_request_now(rig.instance, &request, NULL, &rig.e), 0);
	check_error(&rig.e, ERROR_INTERNAL, "not known");
}
END_TEST

/* PUT resets what is not named, PATCH does not; a reboot does what the door says until named. */
START_TEST(test_machine)
{
	const char *const reboots[] = { "restart", "exit" };
	json_t *machine;

	ck_assert(instance_destroy(rig.instance));
	rig.settings.on_reboot = _i == 0 ? VM_ON_REBOOT_RESTART : VM_ON_REBOOT_EXIT;
	rig_create();
	rig_ok(MACH, NULL,
	       "{\"vcpu_count\": 2, \"mem_size_mib\": 64, \"smt\": true, "
	       "\"on_reboot\": \"restart\"}");
	rig_ok(PMACH, NULL, "{\"vcpu_count\": 4}");
	machine = rig_get(REQUEST_GET_MACHINE_CONFIG, NULL);
	ck_assert_int_eq(json_integer_value(json_object_get(machine, "vcpu_count")), 4);
	ck_assert_int_eq(json_integer_value(json_object_get(machine, "mem_size_mib")), 64);
	ck_assert(json_is_true(json_object_get(machine, "smt")));
	ck_assert_str_eq(json_string_value(json_object_get(machine, "on_reboot")), "restart");
	json_decref(machine);
	rig_ok(MACH, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 128}");
	machine = rig_get(REQUEST_GET_MACHINE_CONFIG, NULL);
	ck_assert(json_is_false(json_object_get(machine, "smt")));
	ck_assert_str_eq(json_string_value(json_object_get(machine, "on_reboot")), reboots[_i]);
	json_decref(machine);
}
END_TEST

START_TEST(test_answers)
{
	json_t *answer;

	rig_expect(REQUEST_GET_INSTANCE,
		   "{\"app_name\":\"vmm\",\"firecracker_version\":\"" INSTANCE_API_LEVEL
		   "\",\"id\":\"test\",\"state\":\"Not started\",\"vmm_version\":\"" VMM_VERSION
		   "\"}");
	answer = rig_get(REQUEST_GET_VERSION, NULL);
	ck_assert_ptr_nonnull(json_object_get(answer, "firecracker_version"));
	ck_assert_str_eq(json_string_value(json_object_get(answer, "vmm_version")), VMM_VERSION);
	json_decref(answer);
	rig_expect(REQUEST_GET_JOBS, "[]");
	answer = rig_get(REQUEST_GET_VM, NULL);
	ck_assert_str_eq(json_string_value(json_object_get(answer, "state")), "not-started");
	ck_assert_int_eq(json_integer_value(json_object_get(answer, "pid")), getpid());
	ck_assert_int_eq(json_integer_value(json_object_get(answer, "uptime_ms")), 0);
	ck_assert_int_gt(json_integer_value(json_object_get(json_object_get(answer, "memory"),
							    "resident_bytes")),
			 4096);
	ck_assert(json_is_null(json_object_get(answer, "job")));
	ck_assert(json_is_null(json_object_get(answer, "ended")));
	ck_assert_uint_eq(json_array_size(json_object_get(answer, "vcpus")), 0);
	json_decref(answer);
}
END_TEST

START_TEST(test_console)
{
	rig_ok(REQUEST_PATCH_CONSOLE, NULL, "{\"columns\": 100, \"rows\": 40}");
	ck_assert_uint_eq(rig.resized, 1);
}
END_TEST

static void expect_file(const char *name, const char *text)
{
	char buf[4096];
	int fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	(void)close(fd);
	ck_assert_int_ge(n, 0);
	buf[n] = '\0';
	ck_assert_msg(strstr(buf, text) != NULL, "no '%s' in '%s'", text, buf);
}

LOG_DOMAIN("test");

/* Lines go where they shall, with the level that was asked for, also into a FIFO. */
START_TEST(test_logger)
{
	int reader;

	rig_ok(REQUEST_PUT_LOGGER, NULL, "{\"log_path\": \"log\", \"level\": \"Error\"}");
	log_warn("a warning");
	log_error("first");
	expect_file("log", ":main:ERROR] first\n");
	rig_ok(REQUEST_PUT_LOGGER, NULL, "{\"level\": \"Debug\"}");
	ck_assert(log_enabled(LOG_DEBUG));
	log_debug("second");
	expect_file("log", ":main:DEBUG] second\n");
	rig_ok(REQUEST_PUT_LOGGER, NULL, "{\"level\": \"Off\"}");
	ck_assert(!log_enabled(LOG_ERROR));
	reader = open("fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	rig_ok(REQUEST_PUT_LOGGER, NULL, "{\"log_path\": \"fifo\"}");
	log_info("third");
	expect_file("fifo", ":main:INFO] third\n");
	/* Nobody reads any more, and it gets full. */
	(void)close(reader);
	for (int i = 0; i < 5000; i++) {
		log_info("one more line that nobody reads");
	}
	ck_assert(instance_destroy(rig.instance));
	rig.instance = NULL;
	log_set_level(LOG_WARN);
}
END_TEST

/* A file's logger without a path leaves the log where an earlier request has sent it. */
START_TEST(test_logger_of_file)
{
	static const char text[] = "{\"boot-source\": {\"kernel_image_path\": \"kernel\"},"
				   " \"logger\": {\"level\": \"Debug\"}}";
	auto_json json_t *json = json_loads(text, 0, NULL);
	json_t *reply = NULL;

	rig_ok(REQUEST_PUT_LOGGER, NULL, "{\"log_path\": \"log\", \"level\": \"Error\"}");
	check_ok(instance_apply_config(rig.instance, json, &rig.e), &rig.e);
	log_debug("a detail");
	expect_file("log", ":main:DEBUG] a detail\n");
	ck_assert_int_eq(rig_request(REQUEST_GET_VM_CONFIG, NULL, NULL, &reply), 0);
	ck_assert_str_eq(
		json_string_value(json_object_get(json_object_get(reply, "logger"), "log_path")),
		"log");
	json_decref(reply);
	/* A path of its own takes the log there. */
	ck_assert_int_eq(json_object_set_new(json_object_get(json, "logger"), "log_path",
					     json_string("log2")),
			 0);
	check_ok(instance_apply_config(rig.instance, json, &rig.e), &rig.e);
	log_debug("another");
	expect_file("log2", ":main:DEBUG] another\n");
	ck_assert(instance_destroy(rig.instance));
	rig.instance = NULL;
	log_set_level(LOG_WARN);
}
END_TEST

static size_t drain(int fd, char *buf, size_t size)
{
	ssize_t n = read(fd, buf, size - 1);

	n = MAX(n, 0);
	buf[n] = '\0';
	return (size_t)n;
}

/* A FIFO takes half of a long line; what follows is a line of its own again. */
START_TEST(test_output_cut)
{
	static char line[KIB(100)], buf[KIB(200)];
	struct output output = { .fd = -1 };

	ck_assert(!output_write(&output, "nowhere", 7));
	check_ok(output_open(&output.fd, "test", "fifo", ERROR_CONFIG, &rig.e), &rig.e);
	memset(line, 'x', sizeof(line));
	ck_assert(output_write(&output, "first", 5));
	ck_assert(!output_write(&output, line, sizeof(line)));
	ck_assert_uint_eq(output.lost, 1);
	ck_assert(output.cut);
	ck_assert(!output_write(&output, "second", 6));
	ck_assert_uint_eq(output.lost, 2);
	ck_assert_uint_gt(drain(output.fd, buf, sizeof(buf)), 5);
	ck_assert_mem_eq(buf, "first\nxxx", 9);
	ck_assert(output_write(&output, "third", 5));
	(void)drain(output.fd, buf, sizeof(buf));
	ck_assert_str_eq(buf, "\nthird\n");
	ck_assert_uint_eq(output.lines, 2);
	(void)close(output.fd);
}
END_TEST

/* A disk that is full. */
START_TEST(test_output_full)
{
	struct output output = { .fd = -1 };

	check_ok(output_open(&output.fd, "test", "/dev/full", ERROR_CONFIG, &rig.e), &rig.e);
	ck_assert(!output_write(&output, "line", 4));
	ck_assert_uint_eq(output.lost, 1);
	ck_assert(!output.cut);
	(void)close(output.fd);
}
END_TEST

/* A FIFO without a reader neither waits nor ends the process. */
START_TEST(test_metrics_path)
{
	rig_ok(REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"fifo\", \"emit_id\": true}");
	rig_refused(REQUEST_PUT_METRICS, NULL, "{\"metrics_path\": \"fifo\"}", ERROR_EXISTS,
		    "fifo");
}
END_TEST

START_TEST(test_prometheus)
{
	struct metrics_text text = { 0 };

	instance_write_metrics(rig.instance, &text);
	ck_assert(!text.failed);
	ck_assert_ptr_nonnull(strstr(text.data, "vmm_state{state=\"not-started\"} 1\n"));
	ck_assert_ptr_nonnull(strstr(text.data, "vmm_state{state=\"running\"} 0\n"));
	ck_assert_ptr_nonnull(strstr(text.data, "vmm_info{version=\"" VMM_VERSION "\"} 1\n"));
	free(text.data);
}
END_TEST

/* Nothing to start. */
START_TEST(test_no_kernel)
{
	ck_assert_int_lt(instance_start_now(rig.instance, false, &rig.e), 0);
	check_error(&rig.e, ERROR_CONFIG, "without a kernel");
	rig_action_refused("InstanceStart", ERROR_CONFIG, "without a kernel");
	ck_assert_int_eq(instance_state(rig.instance), INSTANCE_NOT_STARTED);
}
END_TEST

START_TEST(test_bad_id)
{
	struct instance *other = NULL;
	const struct instance_settings settings = { .id = "a/b" };

	ck_assert_int_lt(instance_create(&other, &settings, &rig.host, &rig.e), 0);
	check_error(&rig.e, ERROR_CONFIG, "'a/b'");
	ck_assert_ptr_null(other);
	ck_assert(instance_destroy(NULL));
}
END_TEST

/* For who starts at once, files are the start's business. */
START_TEST(test_files_at_start)
{
	ck_assert(instance_destroy(rig.instance));
	rig.settings.files_at_start = true;
	rig_create();
	rig_ok(BOOT, NULL, "{\"kernel_image_path\": \"nowhere\"}");
	rig_ok(DRIVE, "a", DRIVE_BODY("a", "nowhere", ""));
	rig_refused(DRIVE, NULL,
		    "{\"drive_id\": \"a\", \"path_on_host\": \"\", "
		    "\"is_root_device\": true}",
		    ERROR_JSON, "/path_on_host");
}
END_TEST

/* 10,000 requests leave no descriptor behind, and no memory (the sanitizer's part). */
START_TEST(test_many)
{
	int open_before;

	configure_all();
	open_before = count_descriptors();
	for (int i = 0; i < 2000; i++) {
		rig_ok(DRIVE, "data", DRIVE_BODY("data", "disk", ""));
		rig_ok(NET, "eth0", NET_BODY("eth0", "tap0", ""));
		rig_ok(SERIAL, NULL, "{\"serial_out_path\": \"serial.log\"}");
		rig_ok(BOOT, NULL, "{\"kernel_image_path\": \"kernel\"}");
		json_decref(rig_get(REQUEST_GET_VM_CONFIG, NULL));
	}
	ck_assert_int_eq(count_descriptors(), open_before);
}
END_TEST

/* Whatever tells two VMs apart makes other addresses; the same VM has the same at every start. */
START_TEST(test_addresses)
{
	static const struct {
		const char *identity, *host, *tap;
	} rows[] = {
		{ "web", "host1", "tap0" }, { "web", "host2", "tap0" }, { "db", "host1", "tap0" },
		{ "web", "host1", "tap1" }, { "web", "host1", NULL },
	};
	struct vm_config configs[ARRAY_SIZE(rows)] = { 0 };
	static const uint8_t given[] = { 2, 0, 0, 0, 0, 7 };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config again = { 0 };

		for (uint32_t k = 0; k < 3; k++) {
			configs[i].nets[k].tap = rows[i].tap;
		}
		configs[i].net_count = 3;
		memcpy(configs[i].nets[1].mac, given, sizeof(given));
		configs[i].nets[1].has_mac = true;
		again = configs[i];
		addresses_make(&configs[i], rows[i].identity, rows[i].host);
		addresses_make(&again, rows[i].identity, rows[i].host);
		ck_assert_mem_eq(configs[i].nets[1].mac, given, sizeof(given));
		for (uint32_t k = 0; k < 3; k += 2) {
			const uint8_t *mac = configs[i].nets[k].mac;

			/* Made, not given: nobody is shown it. */
			ck_assert(!configs[i].nets[k].has_mac);
			ck_assert_uint_eq(mac[0] & 3, 2); /* unicast, locally administered */
			ck_assert_mem_eq(mac, again.nets[k].mac, NETDEV_MAC_SIZE);
			ck_assert_mem_ne(mac, configs[i].nets[2 - k].mac, NETDEV_MAC_SIZE);
			for (size_t other = 0; other < i; other++) {
				ck_assert_mem_ne(mac, configs[other].nets[k].mac, NETDEV_MAC_SIZE);
			}
		}
	}
}
END_TEST

/* Who is nobody has random ones, which are its own until it ends. */
START_TEST(test_random_addresses)
{
	struct vm_config one = { .net_count = 2 }, same = one, other = one, named = one;
	uint64_t first = 0, second = 0, unused = 0;

	addresses_complete(&one, NULL, &first);
	addresses_complete(&same, NULL, &first);
	addresses_complete(&other, NULL, &second);
	ck_assert_mem_eq(one.nets[1].mac, same.nets[1].mac, NETDEV_MAC_SIZE);
	ck_assert_mem_ne(one.nets[1].mac, other.nets[1].mac, NETDEV_MAC_SIZE);
	ck_assert_mem_ne(one.nets[0].mac, one.nets[1].mac, NETDEV_MAC_SIZE);
	addresses_complete(&named, "name", &unused);
	ck_assert_uint_eq(named.nets[0].mac[0] & 3, 2);
	ck_assert_uint_eq(named.nets[1].mac[0] & 3, 2);
}
END_TEST

CHECK_MAIN("instance", CHECK_FIXTURE(rig_setup, rig_teardown); CHECK_TEST(test_empty);
	   CHECK_TABLE(test_accepted, accepted); CHECK_TEST(test_cpu_templates);
	   CHECK_TABLE(test_refused, refused); CHECK_TABLE(test_bad_files, files);
	   CHECK_TEST(test_file); CHECK_TEST(test_limits); CHECK_TEST(test_unknown_resource);
	   CHECK_TEST(test_objects); CHECK_LOOP(test_machine, 2); CHECK_TEST(test_answers);
	   CHECK_TEST(test_console); CHECK_TEST(test_logger); CHECK_TEST(test_logger_of_file);
	   CHECK_TEST(test_metrics_path); CHECK_TEST(test_output_cut); CHECK_TEST(test_output_full);
	   CHECK_TEST(test_prometheus); CHECK_TEST(test_no_kernel); CHECK_TEST(test_bad_id);
	   CHECK_TEST(test_files_at_start); CHECK_TEST(test_many); CHECK_TEST(test_addresses);
	   CHECK_TEST(test_random_addresses))
