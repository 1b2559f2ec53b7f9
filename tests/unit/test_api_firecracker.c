/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API as clients of Firecracker see it that know nothing else: texts as the real one writes them,
 * byte for byte where nothing of the machine is in them, so that a reader that refuses unknown keys
 * takes them.
 */
#define RIG_FIRECRACKER true
#include "harness/api_rig.h"

#include <net/if.h>
#include <sched.h>

#define MACHINE                                                                             \
	"{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":false,\"track_dirty_pages\":false," \
	"\"huge_pages\":\"None\"}"

static void check_get(const char *path, const char *body)
{
	struct reply reply;

	rig_ask("GET", path, NULL, &reply);
	ck_assert_int_eq(reply.status, 200);
	ck_assert_str_eq(reply.body, body);
	reply_finish(&reply);
}

/* Taps of this test alone. */
static bool have_taps(void)
{
	return unshare(CLONE_NEWNET) == 0 && access("/dev/net/tun", R_OK | W_OK) == 0;
}

#define NEEDS_TAPS()                                                            \
	do {                                                                    \
		if (!have_taps()) {                                             \
			CHECK_SKIP("no network namespace with taps: not root"); \
		}                                                               \
	} while (0)

static bool exists(const char *interface)
{
	return if_nametoindex(interface) != 0;
}

static void net_refused(const char *id, const char *tap, const char *text)
{
	char path[64], body[128];
	struct reply reply;

	(void)snprintf(path, sizeof(path), "/network-interfaces/%s", id);
	(void)snprintf(body, sizeof(body), "{\"iface_id\":\"%s\",\"host_dev_name\":\"%s\"}", id,
		       tap);
	rig_ask("PUT", path, body, &reply);
	ck_assert_int_eq(reply.status, 400);
	ck_assert_msg(strstr(reply.body, text) != NULL, "'%s' in %s", text, reply.body);
	reply_finish(&reply);
}

/* The real one attaches to the interface, and makes one, when it is told of it. */
START_TEST(test_tap_is_held)
{
	int fd = -1;
	struct error e = { 0 };

	NEEDS_TAPS();
	net_refused("e", "lo", "not a tap");
	rig_put("PUT", "/network-interfaces/e", "{\"iface_id\":\"e\",\"host_dev_name\":\"t0\"}");
	ck_assert(exists("t0"));
	ck_assert_int_lt(netdev_claim_tap(&fd, "t0", false, &e), 0);
	check_error(&e, ERROR_NET, "in use by another program");
	/* Again, with something else. */
	rig_put("PUT", "/network-interfaces/e",
		"{\"iface_id\":\"e\",\"host_dev_name\":\"t0\",\"mtu\":9000}");
	ck_assert(exists("t0"));
	net_refused("e", "lo", "not a tap");
	ck_assert(exists("t0"));
	rig_put("PUT", "/network-interfaces/e", "{\"iface_id\":\"e\",\"host_dev_name\":\"t1\"}");
	ck_assert(exists("t1") && !exists("t0"));
	check_ok(netdev_claim_tap(&fd, "t0", false, &e), &e);
	net_refused("f", "t0", "in use by another program");
	(void)close(fd);
	rig_put("PUT", "/network-interfaces/f", "{\"iface_id\":\"f\",\"host_dev_name\":\"t0\"}");
	ck_assert(exists("t1") && exists("t0"));
}
END_TEST

START_TEST(test_fresh)
{
	check_get("/",
		  "{\"id\":\"rig\",\"state\":\"Not started\",\"vmm_version\":\"" INSTANCE_API_LEVEL
		  "\",\"app_name\":\"Firecracker\"}");
	check_get("/version", "{\"firecracker_version\":\"" INSTANCE_API_LEVEL "\"}");
	check_get("/version/of/it", "{\"firecracker_version\":\"" INSTANCE_API_LEVEL "\"}");
	check_get("/machine-config", MACHINE);
	check_get("/vm/config",
		  "{\"balloon\":null,\"drives\":[],\"boot-source\":{\"kernel_image_path\":\"\","
		  "\"initrd_path\":null,\"boot_args\":null},\"cpu-config\":null,\"logger\":null,"
		  "\"machine-config\":" MACHINE
		  ",\"metrics\":null,\"mmds-config\":null,\"network-interfaces\":[],\"vsock\":null,"
		  "\"entropy\":null,\"pmem\":[],\"memory-hotplug\":null}");
}
END_TEST

static void check_config(const char *path)
{
	auto_json json_t *config = rig_get("/vm/config"), *wanted = NULL;
	struct error e = { 0 };
	char text[2048];
	int len = snprintf(
		text, sizeof(text),
		"{\"balloon\":null,\"drives\":[{\"drive_id\":\"root\",\"partuuid\":null,"
		"\"is_root_device\":true,\"cache_type\":\"Unsafe\",\"is_read_only\":true,"
		"\"path_on_host\":\"%s\",\"rate_limiter\":null,\"io_engine\":\"Sync\","
		"\"socket\":null},{\"drive_id\":\"data\",\"partuuid\":null,"
		"\"is_root_device\":false,\"cache_type\":\"Writeback\",\"is_read_only\":true,"
		"\"path_on_host\":\"%s\",\"rate_limiter\":{\"bandwidth\":null,\"ops\":{"
		"\"size\":10,\"one_time_burst\":null,\"refill_time\":100}},"
		"\"io_engine\":\"Async\",\"socket\":null}],\"boot-source\":{"
		"\"kernel_image_path\":\"\",\"initrd_path\":null,\"boot_args\":null},"
		"\"cpu-config\":null,\"logger\":null,\"machine-config\":" MACHINE
		",\"metrics\":null,\"mmds-config\":null,\"network-interfaces\":[{"
		"\"iface_id\":\"e\",\"host_dev_name\":\"tap7\",\"guest_mac\":null,"
		"\"mtu\":null,\"rx_rate_limiter\":null,\"tx_rate_limiter\":null}],"
		"\"vsock\":null,\"entropy\":{\"rate_limiter\":null},\"pmem\":[],"
		"\"memory-hotplug\":null}",
		path, path);

	check_ok(json_parse(&wanted, text, (size_t)len, &e), &e);
	if (!json_equal(config, wanted)) {
		size_t got_len;

		ck_assert_str_eq(json_text(config, &got_len), text);
	}
}

/* What is not given is as the real one has it, and reads null; what is ours has an effect, and is not
 * shown. */
START_TEST(test_configured)
{
	char path[128], body[512];

	NEEDS_TAPS();

	rig_write_file("disk", "");
	rig_path(path, sizeof(path), "disk");
	ck_assert_int_eq(truncate(path, 4096), 0);
	rig_put("PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":128}");
	check_get("/machine-config", MACHINE);
	rig_put("PATCH", "/machine-config",
		"{\"memory_backing\":\"memfd\",\"on_reboot\":\"restart\"}");
	check_get("/machine-config", MACHINE);
	(void)snprintf(body, sizeof(body),
		       "{\"drive_id\":\"data\",\"is_root_device\":false,\"path_on_host\":\"%s\","
		       "\"is_read_only\":true,\"serial\":\"s\",\"lock\":\"off\",\"rate_limiter\":{"
		       "\"ops\":{\"size\":10,\"one_time_burst\":null,\"refill_time\":100}}}",
		       path);
	rig_put("PUT", "/drives/data", body);
	(void)snprintf(body, sizeof(body),
		       "{\"drive_id\":\"root\",\"is_root_device\":true,\"path_on_host\":\"%s\","
		       "\"is_read_only\":true,\"cache_type\":\"Unsafe\",\"io_engine\":\"Sync\"}",
		       path);
	rig_put("PUT", "/drives/root", body);
	rig_put("PUT", "/network-interfaces/e", "{\"iface_id\":\"e\",\"host_dev_name\":\"tap7\"}");
	rig_put("PUT", "/entropy", "{}");
	rig_put("PUT", "/serial", "{}");
	(void)snprintf(body, sizeof(body), "{\"metrics_path\":\"%s/metrics\"}", rig_dir);
	rig_put("PUT", "/metrics", body);
	check_config(path);
}
END_TEST

static const struct {
	const char *method, *path, *body, *reply;
} refusals[] = {
	{ "PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}",
	  "{\"fault_message\":\"The requested operation is not supported before starting the "
	  "microVM.\"}" },
	{ "GET", "/nothing", NULL,
	  "{\"fault_message\":\"Invalid request method and/or path: GET nothing.\"}" },
	{ "PATCH", "/machine-config", "{\"vcpu_count\":null,\"smt\":null}",
	  "{\"fault_message\":\"Empty PATCH request.\"}" },
	{ "PUT", "/drives/a-b", "{}",
	  "{\"fault_message\":\"API Resource IDs can only contain alphanumeric characters and "
	  "underscores.\"}" },
};

/* No key but theirs, and never another status than 400. */
START_TEST(test_refusal)
{
	struct reply reply;

	rig_ask(refusals[_i].method, refusals[_i].path, refusals[_i].body, &reply);
	ck_assert_int_eq(reply.status, 400);
	ck_assert_str_eq(reply.body, refusals[_i].reply);
	reply_finish(&reply);
}
END_TEST

static const struct {
	const char *method, *body;
	int status;
	bool deprecated;
} deprecations[] = {
	{ "PUT", "{\"vcpu_count\":1,\"mem_size_mib\":64,\"cpu_template\":\"None\"}", 204, true },
	{ "PUT", "{\"vcpu_count\":0,\"mem_size_mib\":64,\"cpu_template\":\"None\"}", 400, true },
	{ "PUT", "{\"vcpu_count\":1,\"mem_size_mib\":64,\"cpu_template\":null}", 204, false },
	{ "PUT", "{\"vcpu_count\":1,\"mem_size_mib\":64}", 204, false },
	{ "PUT", "{\"vcpu_count\":1,\"cpu_template\":\"None\"}", 400, false },
	{ "PATCH", "{\"cpu_template\":\"None\"}", 204, true },
	{ "PATCH", "{\"vcpu_count\":1}", 204, false },
};

START_TEST(test_deprecation)
{
	int fd = rig_connect();
	struct reply reply;

	for (int i = 0; i < 2; i++) {
		const char *header;

		rig_exchange(fd, deprecations[_i].method, "/machine-config", deprecations[_i].body,
			     &reply);
		ck_assert_int_eq(reply.status, deprecations[_i].status);
		header = reply_header(&reply, "Deprecation");
		ck_assert_int_eq(header != NULL, deprecations[_i].deprecated);
		ck_assert(header == NULL || strcmp(header, "true") == 0);
		reply_finish(&reply);
		/* It is the one answer's, not the connection's. */
		rig_exchange(fd, "GET", "/version", NULL, &reply);
		ck_assert_ptr_null(reply_header(&reply, "Deprecation"));
		reply_finish(&reply);
	}
	(void)close(fd);
}
END_TEST

#define DRIVE(id, more) \
	"{\"drive_id\":\"" id "\",\"is_root_device\":true,\"path_on_host\":\"disk\"" more "}"
#define NET(more)    "{\"iface_id\":\"e\",\"host_dev_name\":\"tap7\"" more "}"
#define BOOT(more)   "{\"kernel_image_path\":\"disk\"" more "}"
#define MEMORY(more) "{\"vcpu_count\":1,\"mem_size_mib\":" more "}"
#define UTF8_ID	     "\xc3\xa9t\xc3\xa9_\xe6\xbc\xa2"
#define LONG_ID                                                                          \
	"a23456789012345678901234567890123456789012345678901234567890123456789012345678" \
	"9012345678901234567890"

/* What the real one lets pass, though some of it fails later. */
static const struct {
	const char *method, *path, *body;
} accepted[] = {
	{ "PUT", "/boot-source", BOOT("") },
	{ "PUT", "/boot-source", "{\"kernel_image_path\":\"/\",\"initrd_path\":\"/dev/null\"}" },
	{ "PUT", "/boot-source", BOOT(",\"boot_args\":\"a\\tb\\nc -- d\\u0001\"") },
	{ "PUT", "/machine-config", MEMORY("1") },
	{ "PUT", "/machine-config", MEMORY("31") },
	{ "PUT", "/machine-config", MEMORY("18446744073709551615") },
	{ "PUT", "/cpu-config", "[]" },
	{ "PUT", "/drives/a",
	  "{\"drive_id\":\"a\",\"is_root_device\":false,\"is_read_only\":true,\"path_on_host\":\"."
	  "\"}" },
	{ "PUT", "/drives/" UTF8_ID, DRIVE(UTF8_ID, "") },
	{ "PUT", "/drives/" LONG_ID, DRIVE(LONG_ID, "") },
	{ "PUT", "/drives/a/and/more", DRIVE("a", ",\"partuuid\":\"\"") },
	{ "PUT", "/drives/a", DRIVE("a", ",\"partuuid\":\"no uuid\"") },
	{ "PUT", "/drives/a",
	  DRIVE("a", ",\"rate_limiter\":{\"ops\":{\"size\":18446744073709551615,\"refill_time\":1,"
		     "\"note\":1}}") },
	{ "PUT", "/network-interfaces/e", NET(",\"guest_mac\":\"01:00:00:00:00:00\"") },
	{ "PUT", "/network-interfaces/e", NET(",\"guest_mac\":\"00:00:00:00:00:00\"") },
	{ "PUT", "/logger", "{\"level\":\"wArNiNg\",\"module\":\"\"}" },
	{ "PUT", "/serial", "{\"serial_out_path\":\"\"}" },
	{ "PUT", "/serial", "{\"serial_out_path\":\"/nonexistent/x\"}" },
	{ "PUT", "/metrics", "{\"metrics_path\":\"metrics\",\"properties\":{\"a\":\"b\"}}" },
};

START_TEST(test_accepted)
{
	struct reply reply;
	int here, r;

	if (strstr(accepted[_i].path, "network") != NULL) {
		NEEDS_TAPS();
	}
	here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(here, 0);
	rig_write_file("disk", "");
	ck_assert_int_eq(chdir(rig_dir), 0);
	ck_assert_int_eq(truncate("disk", 4096), 0);
	rig_ask(accepted[_i].method, accepted[_i].path, accepted[_i].body, &reply);
	r = fchdir(here);
	ck_assert_int_eq(r, 0);
	(void)close(here);
	ck_assert_msg(reply.status == 204, "%d %s", reply.status, reply.body);
	reply_finish(&reply);
}
END_TEST

/* Where its output cannot go is told at the start, with the place. */
START_TEST(test_serial_at_the_start)
{
	struct reply reply;

	rig_put("PUT", "/boot-source", "{\"kernel_image_path\":\"/dev/null\"}");
	rig_put("PUT", "/serial", "{\"serial_out_path\":\"/nonexistent/x\"}");
	rig_ask("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", &reply);
	ck_assert_int_eq(reply.status, 400);
	ck_assert_msg(strstr(reply.body, "/nonexistent/x") != NULL, "%s", reply.body);
	reply_finish(&reply);
}
END_TEST

CHECK_MAIN("api_firecracker", CHECK_FIXTURE(rig_setup, rig_teardown); CHECK_TEST(test_fresh);
	   CHECK_TEST(test_configured); CHECK_TEST(test_tap_is_held);
	   CHECK_TABLE(test_refusal, refusals); CHECK_TABLE(test_deprecation, deprecations);
	   CHECK_TABLE(test_accepted, accepted); CHECK_TEST(test_serial_at_the_start))
