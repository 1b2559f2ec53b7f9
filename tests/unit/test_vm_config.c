/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration checked as data: what is good passes, and each refusal names the object, the
 * value and the cure. */
#include "harness/check_main.h"
#include "vmm/platform.h"
#include "vmm/vm_config.h"

static struct vm_config config;
static struct error e;

static void setup(void)
{
	e = (struct error){ 0 };
	config = (struct vm_config){
		.boot = { .kernel = "bzImage" },
		.machine = { .memory_size = MIB(512), .vcpus = 2 },
	};
}

static const char name_64[] = "a234567890123456789012345678901234567890123456789012345678901234";
static const char name_65[] = "a2345678901234567890123456789012345678901234567890123456789012345";

static const struct good_row {
	const char *name;
	uint64_t memory;
	uint32_t vcpus;
} good[] = {
	{ NULL, MIB(512), 2 },	{ "vm", MIB(32), 1 },	     { "a", MIB(33), 32 },
	{ "7", MIB(3072), 31 }, { "web-1.b_c", GIB(64), 4 }, { name_64, MIB(5121), 2 },
};

START_TEST(test_good)
{
	config.name = good[_i].name;
	config.machine.memory_size = good[_i].memory;
	config.machine.vcpus = good[_i].vcpus;
	check_ok(vm_config_validate(&config, &e), &e);
	ck_assert_int_eq(e.code, ERROR_NONE);
}
END_TEST

static const struct memory_row {
	uint64_t size;
	const char *value, *cure;
} bad_memory[] = {
	{ 0, "--memory (mem_size_mib): 0 bytes", "512M" },
	{ 1, "--memory (mem_size_mib): 1 bytes", "512M" },
	{ MIB(32) - 1, "--memory (mem_size_mib): 33554431 bytes", "512M" },
	{ MIB(32) + 1, "--memory (mem_size_mib): 33554433 bytes", "--memory 33M" },
	{ MIB(512) - 4096, "--memory (mem_size_mib): 536866816 bytes", "--memory 512M" },
};

START_TEST(test_memory)
{
	config.machine.memory_size = bad_memory[_i].size;
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, bad_memory[_i].value);
	ck_assert_msg(strstr(e.hint, bad_memory[_i].cure) != NULL, "hint '%s'", e.hint);
}
END_TEST

static const uint32_t bad_vcpus[] = { 0, 33, 1000, UINT32_MAX };

START_TEST(test_vcpus)
{
	char value[32];

	config.machine.vcpus = bad_vcpus[_i];
	(void)snprintf(value, sizeof(value), "--cpus (vcpu_count): %u ", bad_vcpus[_i]);
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, value);
	check_error(&e, ERROR_CONFIG, "between 1 and 32");
	ck_assert_str_ne(e.hint, "");
}
END_TEST

static const struct name_row {
	const char *name, *value;
} bad_names[] = {
	{ "", "--name (id): ''" },
	{ name_65, "65 characters" },
	{ "../x", "'../x'" },
	{ ".hidden", "'.hidden'" },
	{ "-n", "'-n'" },
	{ "a b", "'a b'" },
	{ "a/b", "'a/b'" },
	{ "a\nb", "--name (id): 'a" },
	{ "gr\xc3\xbc\xc3\x9f", "--name (id): 'gr" },
};

START_TEST(test_name)
{
	config.name = bad_names[_i].name;
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, bad_names[_i].value);
	ck_assert_str_ne(e.hint, "");
}
END_TEST

START_TEST(test_no_kernel)
{
	config.boot.kernel = NULL;
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_USAGE, "kernel");
	check_error(&e, ERROR_USAGE, "--kernel FILE");
}
END_TEST

START_TEST(test_two_command_lines)
{
	config.boot.cmdline = "quiet";
	check_ok(vm_config_validate(&config, &e), &e);
	config.boot.cmdline_only = "debug";
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_USAGE, "--cmdline and --cmdline-only");
	ck_assert_str_ne(e.hint, "");
	config.boot.cmdline = NULL;
	check_ok(vm_config_validate(&config, &e), &e);
}
END_TEST

static const char *const bad_paths[] = { NULL, "" };

START_TEST(test_disk_without_path)
{
	config.disk_count = 2;
	config.disks[0].path = "a.img";
	config.disks[1].path = bad_paths[_i];
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "--disk 2");
	ck_assert_str_ne(e.hint, "");
	config.disks[1].path = "b.img";
	check_ok(vm_config_validate(&config, &e), &e);
}
END_TEST

CHECK_MAIN("vm_config", CHECK_FIXTURE(setup, NULL); CHECK_TABLE(test_good, good);
	   CHECK_TABLE(test_memory, bad_memory); CHECK_TABLE(test_vcpus, bad_vcpus);
	   CHECK_TABLE(test_name, bad_names); CHECK_TEST(test_no_kernel);
	   CHECK_TEST(test_two_command_lines); CHECK_TABLE(test_disk_without_path, bad_paths))
