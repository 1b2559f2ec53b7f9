/* SPDX-License-Identifier: Apache-2.0 */
/* The flags of `vmm run`: every one with its values, what is refused and how, disks and network
 * cards as device strings. */
#include "harness/check_main.h"

#include "../../src/cli/run_config.h"

#define ARGS_MAX 48

static struct run_config config;
static struct error e;

static void setup(void)
{
	e = (struct error){ 0 };
}

static void teardown(void)
{
	run_config_finish(&config);
}

/* Parses "run" and the words of `line`, which are separated by blanks. */
static int parse(const char *line)
{
	static char copy[4096];
	static char run[] = "run";
	char *argv[ARGS_MAX + 1] = { run };
	int argc = 1;
	char *rest = NULL;

	(void)snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok_r(copy, " ", &rest); word != NULL && argc < ARGS_MAX;
	     word = strtok_r(NULL, " ", &rest)) {
		argv[argc++] = word;
	}
	return run_config_parse(&config, &run_options, argc, argv, &e);
}

START_TEST(test_defaults)
{
	check_ok(parse(""), &e);
	ck_assert_ptr_null(config.vm.name);
	ck_assert_ptr_null(config.vm.boot.kernel);
	ck_assert_ptr_null(config.vm.boot.initrd);
	ck_assert_ptr_null(config.vm.boot.cmdline);
	ck_assert_ptr_null(config.vm.boot.cmdline_only);
	ck_assert_uint_eq(config.vm.machine.memory_size, MIB(512));
	ck_assert_int_eq(config.vm.machine.memory_backing, GUEST_MEMORY_AUTO);
	ck_assert_uint_eq(config.vm.machine.vcpus, 2);
	ck_assert_uint_eq(config.vm.disk_count, 0);
	ck_assert_uint_eq(config.vm.net_count, 0);
	ck_assert(config.vm.console && config.vm.entropy && !config.vm.debug_exit);
	ck_assert_int_eq(config.vm.machine.on_reboot, VM_ON_REBOOT_AUTO);
	/* Nobody has to ask for the sandbox. */
	ck_assert_int_eq(config.vm.sandbox, SANDBOX_ON);
	ck_assert_int_eq(config.settings.console, RUN_CONSOLE_SERIAL);
	ck_assert_uint_eq(config.settings.timeout_ns, 0);
	ck_assert_uint_eq(config.settings.process.stop_timeout_ns, 30000000000ULL);
	ck_assert_ptr_null(config.settings.process.exit_report);
	ck_assert(!config.quiet && !config.help);
}
END_TEST

START_TEST(test_strings)
{
	check_ok(parse("--kernel k --initrd=i --cmdline c=1 --cmdline-only o -n web --exit-report "
		       "r.json"),
		 &e);
	ck_assert_str_eq(config.vm.boot.kernel, "k");
	ck_assert_str_eq(config.vm.boot.initrd, "i");
	ck_assert_str_eq(config.vm.boot.cmdline, "c=1");
	ck_assert_str_eq(config.vm.boot.cmdline_only, "o");
	ck_assert_str_eq(config.vm.name, "web");
	ck_assert_str_eq(config.settings.process.exit_report, "r.json");
}
END_TEST

static const struct number_row {
	const char *line;
	size_t offset;
	uint64_t value;
} numbers[] = {
	{ "-m 64M", offsetof(struct run_config, vm.machine.memory_size), MIB(64) },
	{ "-m64M", offsetof(struct run_config, vm.machine.memory_size), MIB(64) },
	{ "--memory 5G", offsetof(struct run_config, vm.machine.memory_size), GIB(5) },
	{ "--memory=1048576", offsetof(struct run_config, vm.machine.memory_size), MIB(1) },
	{ "--memory 3GiB", offsetof(struct run_config, vm.machine.memory_size), GIB(3) },
	/* Ranges are the machine's: vm_config_validate() refuses these. */
	{ "--memory 0", offsetof(struct run_config, vm.machine.memory_size), 0 },
	{ "--timeout 30s", offsetof(struct run_config, settings.timeout_ns), 30000000000ULL },
	{ "--timeout 5", offsetof(struct run_config, settings.timeout_ns), 5000000000ULL },
	{ "--timeout 250ms", offsetof(struct run_config, settings.timeout_ns), 250000000ULL },
	{ "--stop-timeout 2m", offsetof(struct run_config, settings.process.stop_timeout_ns),
	  120000000000ULL },
	{ "--stop-timeout 0", offsetof(struct run_config, settings.process.stop_timeout_ns), 0 },
};

START_TEST(test_numbers)
{
	uint64_t value;

	check_ok(parse(numbers[_i].line), &e);
	memcpy(&value, (const char *)&config + numbers[_i].offset, sizeof(value));
	ck_assert_msg(value == numbers[_i].value, "%s: %llu", numbers[_i].line,
		      (unsigned long long)value);
}
END_TEST

static const struct cpus_row {
	const char *line;
	uint32_t value;
} cpus[] = { { "-c 1", 1 }, { "-c32", 32 }, { "--cpus 1000", 1000 }, { "--cpus=0", 0 } };

START_TEST(test_cpus)
{
	check_ok(parse(cpus[_i].line), &e);
	ck_assert_uint_eq(config.vm.machine.vcpus, cpus[_i].value);
}
END_TEST

START_TEST(test_choices)
{
	static const struct {
		const char *line;
		int backing, reboot, sandbox, console;
	} rows[] = {
		{ "--memory-backing auto", GUEST_MEMORY_AUTO, 0, 0, 0 },
		{ "--memory-backing memfd --on-reboot exit", GUEST_MEMORY_MEMFD, VM_ON_REBOOT_EXIT,
		  0, 0 },
		{ "--memory-backing anon --sandbox off", GUEST_MEMORY_ANON, 0, SANDBOX_OFF, 0 },
		{ "--memory-backing hugetlb --sandbox log --console hvc", GUEST_MEMORY_HUGETLB, 0,
		  SANDBOX_LOG, RUN_CONSOLE_HVC },
		{ "--on-reboot restart --sandbox on --console serial", GUEST_MEMORY_AUTO,
		  VM_ON_REBOOT_RESTART, SANDBOX_ON, RUN_CONSOLE_SERIAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		check_ok(parse(rows[i].line), &e);
		ck_assert_int_eq((int)config.vm.machine.memory_backing, rows[i].backing);
		ck_assert_int_eq((int)config.vm.machine.on_reboot, rows[i].reboot);
		ck_assert_int_eq((int)config.vm.sandbox, rows[i].sandbox);
		ck_assert_int_eq(config.settings.console, rows[i].console);
	}
}
END_TEST

START_TEST(test_flags)
{
	check_ok(parse("--debug-exit --quiet"), &e);
	ck_assert(config.vm.debug_exit && config.quiet && !config.help);
	check_ok(parse("-qh"), &e);
	ck_assert(config.quiet && config.help && !config.vm.debug_exit);
	check_ok(parse("bzImage --help"), &e);
	ck_assert(config.help);
}
END_TEST

static const struct bad_row {
	const char *line;
	const char *object, *value, *cure;
} bad[] = {
	{ "--memory", "--memory", "", "" },
	{ "--memory lots", "--memory", "lots", "512M" },
	{ "--memory -1", "--memory", "-1", "" },
	{ "--memory 99999999T", "--memory", "99999999T", "" },
	{ "--memory 1Q", "--memory", "1Q", "" },
	{ "--cpus two", "--cpus", "two", "" },
	{ "--cpus 1.5", "--cpus", "1.5", "" },
	{ "--cpus 4294967296", "--cpus", "4294967296", "" },
	{ "--timeout soon", "--timeout", "soon", "30s" },
	{ "--sandbox maybe", "--sandbox", "maybe", "off" },
	{ "--console vga", "--console", "vga", "hvc" },
	{ "--on-reboot stay", "--on-reboot", "stay", "restart" },
	{ "--memory-backing file", "--memory-backing", "file", "memfd" },
	{ "--debug-exit=1", "--debug-exit", "", "" },
	{ "--kernal x", "--kernal", "", "--kernel" },
	{ "-z", "-z", "", "" },
	{ "--kernel k bzImage", "", "bzImage", "--kernel FILE" },
	{ "bzImage -m 1G", "", "bzImage", "--kernel FILE" },
	{ "bzImage --kernal x", "--kernal", "", "--kernel" },
	{ "--disk ,ro", "--disk", "", "" },
	{ "--disk a,rw", "--disk", "rw", "" },
	{ "--disk a,ro,ro", "--disk", "ro", "" },
	{ "--disk a,queues=0", "--disk", "1 to 16", "" },
	{ "--disk a,queues=17", "--disk", "1 to 16", "" },
	{ "--net tap=t,queues=9", "--net", "1 to 8", "" },
	{ "--disk a,engine=fast", "--disk", "fast", "uring" },
	{ "--net tap", "--net", "tap", "" },
	{ "--net tap=", "--net", "tap", "" },
	{ "--net bridge=br0", "--net", "bridge", "tap" },
	{ "--net fd=x", "--net", "x", "" },
	{ "--net fd=-1", "--net", "-1", "" },
	{ "--net mac=02:00:00:00:00:01", "--net", "mac=02:00:00:00:00:01", "tap=NAME" },
	{ "--net tap=a,fd=3", "--net", "tap=a,fd=3", "tap=NAME" },
	{ "--net tap=a,mac=01:00:00:00:00:01", "--net", "01:00:00:00:00:01", "" },
	{ "--net tap=a,mac=02:00", "--net", "02:00", "" },
	{ "--net NONE", "--net", "NONE", "" },
	{ "--no-api --api-sock x", "--no-api", "--api-sock", "" },
	{ "--no-api --detach", "--no-api", "--detach", "could not be stopped" },
	{ "--no-api --paused", "--no-api", "--paused", "could let the VM go on" },
};

START_TEST(test_bad)
{
	const struct bad_row *row = &bad[_i];

	ck_assert_msg(parse(row->line) < 0, "'%s' was accepted", row->line);
	check_error(&e, ERROR_USAGE, row->object);
	check_error(&e, ERROR_USAGE, row->value);
	check_error(&e, ERROR_USAGE, row->cure);
}
END_TEST

START_TEST(test_disks)
{
	check_ok(parse("--disk root.img,queues=4 --disk b.img,ro,serial=X1 "
		       "--disk=/dev/sdz,engine=sync "
		       "--disk a,,b --disk base,overlay=c,,d.cow,queues=2"),
		 &e);
	ck_assert_uint_eq(config.vm.disk_count, 5);
	ck_assert_str_eq(config.vm.disks[0].path, "root.img");
	ck_assert_uint_eq(config.vm.disks[0].queues, 4);
	ck_assert_uint_eq(config.vm.disks[1].queues, 0); /* whatever suits the machine */
	ck_assert(!config.vm.disks[0].read_only);
	ck_assert_ptr_null(config.vm.disks[0].serial);
	ck_assert_int_eq(config.vm.disks[0].engine, BLOCK_ENGINE_AUTO);
	ck_assert_int_eq(config.vm.disks[0].lock, BLOCK_LOCK_ON);
	ck_assert_str_eq(config.vm.disks[1].path, "b.img");
	ck_assert(config.vm.disks[1].read_only);
	ck_assert_str_eq(config.vm.disks[1].serial, "X1");
	ck_assert_int_eq(config.vm.disks[2].engine, BLOCK_ENGINE_SYNC);
	ck_assert_str_eq(config.vm.disks[3].path, "a,b");
	ck_assert_ptr_null(config.vm.disks[3].overlay);
	ck_assert_str_eq(config.vm.disks[4].path, "base");
	ck_assert_str_eq(config.vm.disks[4].overlay, "c,d.cow");
}
END_TEST

/* Each has an id, its own or one of its place; the same twice is a wrong command line. */
START_TEST(test_ids)
{
	check_ok(parse("--kernel k --disk a --disk b,id=x --disk c --net tap=t"), &e);
	ck_assert_str_eq(config.vm.disks[0].id, "drive0");
	ck_assert_str_eq(config.vm.disks[1].id, "x");
	ck_assert_str_eq(config.vm.disks[2].id, "drive2");
	ck_assert_str_eq(config.vm.nets[0].id, "net0");
	ck_assert(config.vm.disks[0].root && !config.vm.disks[1].root);
	check_ok(run_config_check(&config, &e), &e);
	run_config_finish(&config);
	check_ok(parse("--kernel k --disk a,id=x --disk b,id=x"), &e);
	ck_assert_int_lt(run_config_check(&config, &e), 0);
	check_error(&e, ERROR_USAGE, "'x' (drive_id) is there twice");
}
END_TEST

START_TEST(test_nets)
{
	static const uint8_t mac[] = { 0x02, 0x00, 0x5e, 0x10, 0xab, 0xcd };

	check_ok(parse("--net none --net tap=tap0 --net fd=0,mac=02:00:5e:10:ab:CD"), &e);
	ck_assert_uint_eq(config.vm.net_count, 2);
	ck_assert_int_eq((int)config.vm.nets[0].kind, VM_NET_TAP);
	ck_assert_str_eq(config.vm.nets[0].tap, "tap0");
	ck_assert(!config.vm.nets[0].has_mac);
	ck_assert_int_eq((int)config.vm.nets[1].kind, VM_NET_FD);
	ck_assert_int_eq(config.vm.nets[1].fd, 0);
	ck_assert(config.vm.nets[1].has_mac);
	ck_assert_mem_eq(config.vm.nets[1].mac, mac, sizeof(mac));
}
END_TEST

/* As many as there is room for, and not one more; what was copied is freed. */
static const struct many_row {
	const char *word;
	int max;
} many[] = { { "--disk=a.img", VM_DISKS_MAX }, { "--net=tap=t", VM_NETS_MAX } };

/* --initrd adds as often as there is room, and then says so. */
START_TEST(test_initrds)
{
	check_ok(parse("--initrd a --kernel k --initrd b --initrd=c --initrd d"), &e);
	ck_assert_str_eq(config.vm.boot.initrd, "a");
	ck_assert_str_eq(config.vm.boot.more_initrds[0], "b");
	ck_assert_str_eq(config.vm.boot.more_initrds[1], "c");
	ck_assert_str_eq(config.vm.boot.more_initrds[2], "d");
	ck_assert(options_given(config.table, config.given, "initrd"));
	run_config_finish(&config);
	check_ok(parse("--initrd a"), &e);
	ck_assert_ptr_null(config.vm.boot.more_initrds[0]);
	run_config_finish(&config);
	ck_assert_int_lt(parse("--initrd a --initrd b --initrd c --initrd d --initrd e"), 0);
	check_error(&e, ERROR_USAGE, "--initrd is given too often");
}
END_TEST

START_TEST(test_many)
{
	char line[1024] = "";

	for (int i = 0; i < many[_i].max; i++) {
		size_t used = strlen(line);

		(void)snprintf(line + used, sizeof(line) - used, "%s ", many[_i].word);
	}
	check_ok(parse(line), &e);
	ck_assert_int_eq((int)(config.vm.disk_count + config.vm.net_count), many[_i].max);
	run_config_finish(&config);
	ck_assert_ptr_null(config.vm.texts);
	(void)snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s", many[_i].word);
	ck_assert_int_lt(parse(line), 0);
	check_error(&e, ERROR_USAGE, "more than");
}
END_TEST

START_TEST(test_help_names_every_flag)
{
	static char help[8192];
	struct option_iter at = option_iter(&run_options);

	ck_assert_uint_lt(options_help(&run_options, help, sizeof(help)), sizeof(help));
	while (option_next(&at)) {
		char flag[64];

		if (at.option->name == NULL) {
			continue;
		}
		(void)snprintf(flag, sizeof(flag), "--%s", at.option->name);
		ck_assert_msg(strstr(help, flag) != NULL, "no %s in the help", flag);
		ck_assert_msg(at.option->help != NULL, "%s has no help", flag);
	}
}
END_TEST

CHECK_MAIN("run_config", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_defaults);
	   CHECK_TEST(test_strings); CHECK_TABLE(test_numbers, numbers);
	   CHECK_TABLE(test_cpus, cpus); CHECK_TEST(test_choices); CHECK_TEST(test_flags);
	   CHECK_TABLE(test_bad, bad); CHECK_TEST(test_disks); CHECK_TEST(test_nets);
	   CHECK_TEST(test_ids); CHECK_TABLE(test_many, many); CHECK_TEST(test_initrds);
	   CHECK_TEST(test_help_names_every_flag))
