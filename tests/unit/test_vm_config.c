/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration checked as data: what is good passes, and each refusal names the object, the
 * value and the cure. */
#include "harness/check_main.h"
#include "vmm/options_json.h"
#include "vmm/platform.h"
#include "vmm/vm_config.h"

#include <stdlib.h>

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

static const struct queues_row {
	int transport;
	uint32_t vcpus, queues;
} queues[] = {
	{ VM_TRANSPORT_AUTO, 1, 1 }, { VM_TRANSPORT_AUTO, 2, 2 }, { VM_TRANSPORT_PCI, 4, 4 },
	{ VM_TRANSPORT_PCI, 32, 4 }, { VM_TRANSPORT_MMIO, 1, 1 }, { VM_TRANSPORT_MMIO, 4, 1 },
};

START_TEST(test_default_queues)
{
	config.machine.transport = queues[_i].transport;
	config.machine.vcpus = queues[_i].vcpus;
	ck_assert_uint_eq(vm_default_queues(&config), queues[_i].queues);
	config.boot.cmdline = "pci=off";
	if (queues[_i].transport == VM_TRANSPORT_AUTO) {
		ck_assert_uint_eq(vm_default_queues(&config), 1);
	}
}
END_TEST

static const struct memory_row {
	uint64_t size;
	const char *value, *cure;
} bad_memory[] = {
	{ 0, "--memory (mem_size_mib): 0 bytes", "512M" },
	{ 1, "--memory (mem_size_mib): 1 bytes", "1M" },
	{ MIB(1) - 1, "--memory (mem_size_mib): 1048575 bytes", "A plain number" },
	{ MIB(32) - 1, "--memory (mem_size_mib): 33554431 bytes", "--memory 32M" },
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
	{ "", "VM name ''" },
	{ name_65, "65 characters" },
	{ "../x", "'../x'" },
	{ ".hidden", "'.hidden'" },
	{ "-n", "'-n'" },
	{ "a b", "'a b'" },
	{ "a/b", "'a/b'" },
	{ "a\nb", "'a" },
	{ "gr\xc3\xbc\xc3\x9f", "'gr" },
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

/* ---- parts of the API's objects ---- */

START_TEST(test_machine)
{
	struct vm_machine_config *machine = &config.machine;

	machine->smt = true;
	for (uint32_t vcpus = 1; vcpus <= 32; vcpus++) {
		machine->vcpus = vcpus;
		e = (struct error){ 0 };
		if (vcpus == 1 || vcpus % 2 == 0) {
			check_ok(vm_machine_config_validate(machine, &e), &e);
		} else {
			ck_assert_int_lt(vm_machine_config_validate(machine, &e), 0);
			check_error(&e, ERROR_CONFIG, "vcpu_count");
			check_error(&e, ERROR_CONFIG, "smt");
		}
	}
	machine->vcpus = 2;
	machine->huge_pages = VM_HUGE_PAGES_2M;
	check_ok(vm_machine_config_validate(machine, &e), &e);
	machine->memory_backing = GUEST_MEMORY_HUGETLB;
	check_ok(vm_machine_config_validate(machine, &e), &e);
	machine->memory_backing = GUEST_MEMORY_MEMFD;
	ck_assert_int_lt(vm_machine_config_validate(machine, &e), 0);
	check_error(&e, ERROR_CONFIG, "huge_pages");
	machine->memory_backing = GUEST_MEMORY_AUTO;
	machine->memory_size = MIB(513);
	ck_assert_int_lt(vm_machine_config_validate(machine, &e), 0);
	check_error(&e, ERROR_CONFIG, "huge pages");
	ck_assert_str_eq(e.hint, "try --memory 514M");
	machine->huge_pages = VM_HUGE_PAGES_NONE;
	check_ok(vm_machine_config_validate(machine, &e), &e);
	machine->cpu_template = VM_CPU_TEMPLATE_T2;
	check_ok(vm_machine_config_validate(machine, &e), &e);
	machine->cpu_template = VM_CPU_TEMPLATE_V1N1;
	ck_assert_int_lt(vm_machine_config_validate(machine, &e), 0);
	check_error(&e, ERROR_CONFIG, "cpu_template");
	ck_assert_ptr_nonnull(strstr(e.hint, "/cpu-config"));
}
END_TEST

START_TEST(test_boot_args)
{
	config.boot.boot_args = "console=ttyS0";
	check_ok(vm_config_validate(&config, &e), &e);
	config.boot.cmdline = "quiet";
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_USAGE, "boot_args, cmdline and cmdline_only exclude");
	config.boot.cmdline = NULL;
	config.boot.cmdline_only = "";
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_USAGE, "boot_args");
}
END_TEST

static const struct net_row {
	struct vm_net_config net;
	const char *text; /* NULL: good */
} net_rows[] = {
	{ { .tap = "tap0", .fd = -1 }, NULL },
	{ { .tap = "tap0", .kind = VM_NET_TAP }, NULL },
	{ { .fd = 7 }, NULL },
	{ { .fd = 7, .kind = VM_NET_FD }, NULL },
	{ { .tap = "tap0", .fd = -1, .mtu = 68 }, NULL },
	{ { .tap = "tap0", .fd = -1, .mtu = 65535 }, NULL },
	{ { .fd = -1 }, "host_dev_name" },
	{ { .tap = "tap0", .fd = 7 }, "neither or both" },
	{ { .tap = "", .fd = -1 }, "host_dev_name" },
	{ { .tap = "a/b", .fd = -1 }, "a/b" },
	{ { .tap = "a234567890123456", .fd = -1 }, "a234567890123456" },
	{ { .tap = "tap0", .fd = -1, .queues = 8 }, NULL },
	{ { .fd = 5, .queues = 1 }, NULL },
	{ { .tap = "tap0", .fd = -1, .queues = 9 }, "9 is not between 1 and 8" },
	{ { .fd = 5, .queues = 2 }, "is one queue, not 2" },
	{ { .tap = "tap0", .fd = -1, .mtu = 67 }, "mtu" },
	{ { .tap = "tap0", .fd = -1, .mtu = 65536 }, "65536" },
	{ { .tap = "tap0", .fd = -1, .id = "a/b" }, NULL },
	{ { .tap = "tap0", .fd = -1, .id = "a\nb" }, "iface_id" },
	{ { .tap = "tap0", .fd = -1, .id = "" }, "iface_id" },
};

START_TEST(test_net)
{
	const struct net_row *row = &net_rows[_i];

	config.net_count = 1;
	config.nets[0] = row->net;
	if (row->text == NULL) {
		check_ok(vm_net_config_validate(&row->net, &e), &e);
		check_ok(vm_config_validate(&config, &e), &e);
	} else {
		ck_assert_int_lt(vm_config_validate(&config, &e), 0);
		ck_assert_msg(strstr(e.msg, row->text) != NULL, "no '%s' in '%s'", row->text,
			      e.msg);
	}
}
END_TEST

static void two_disks(const char *a, const char *b)
{
	config.disk_count = 2;
	config.disks[0] = (struct block_config){ .path = "a.img", .id = a };
	config.disks[1] = (struct block_config){ .path = "b.img", .id = b };
}

START_TEST(test_disk_ids)
{
	char id[VM_ID_MAX + 2] = "";

	two_disks(NULL, NULL);
	check_ok(vm_config_validate(&config, &e), &e);
	two_disks("rootfs", "data-1_x.y");
	check_ok(vm_config_validate(&config, &e), &e);
	two_disks("x", "x");
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "drive_id");
	check_error(&e, ERROR_CONFIG, "'x'");
	/* The name that the other has without being given it. */
	two_disks(NULL, "drive0");
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "'drive0'");
	two_disks("a b", "\xc3\xa9");
	check_ok(vm_config_validate(&config, &e), &e);
	memset(id, 'x', VM_ID_MAX);
	id[VM_ID_MAX] = '\0';
	two_disks(id, NULL);
	check_ok(vm_config_validate(&config, &e), &e);
	id[VM_ID_MAX] = 'x';
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "1025 bytes");
	two_disks("a\x7f", NULL);
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "0x7f");
}
END_TEST

START_TEST(test_root_drives)
{
	two_disks("a", "b");
	config.disks[0].root = true;
	check_ok(vm_config_validate(&config, &e), &e);
	config.disks[1].root = true;
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "'a' is the root drive already (is_root_device)");
	config.disks[0].root = false;
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "is_root_device");
}
END_TEST

START_TEST(test_net_names)
{
	config.net_count = 2;
	config.nets[0] = (struct vm_net_config){ .tap = "tap0", .fd = -1, .id = "eth0" };
	config.nets[1] = (struct vm_net_config){ .tap = "tap1", .fd = -1, .id = "eth0" };
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "iface_id");
	config.nets[1].id = NULL;
	check_ok(vm_config_validate(&config, &e), &e);
	/* An address of zeroes that nobody gave is not one. */
	config.nets[0].has_mac = config.nets[1].has_mac = true;
	memcpy(config.nets[0].mac, "\x02\x00\x00\x00\x00\x01", 6);
	memcpy(config.nets[1].mac, "\x02\x00\x00\x00\x00\x02", 6);
	check_ok(vm_config_validate(&config, &e), &e);
	config.nets[1].mac[5] = 1;
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "guest_mac");
	check_error(&e, ERROR_CONFIG, "02:00:00:00:00:01");
	config.nets[1].mac[5] = 2;
	config.nets[1].tap = "tap0";
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "'eth0' uses the interface 'tap0' already");
}
END_TEST

/* A vhost-user back end is known by its key, so that it can be refused. */
START_TEST(test_socket)
{
	two_disks("a", "b");
	config.disks[1].socket = "b.sock";
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_NOT_SUPPORTED, "socket");
}
END_TEST

START_TEST(test_overlay)
{
	two_disks("a", "b");
	config.disks[1].overlay = "b.cow";
	check_ok(vm_config_validate(&config, &e), &e);
	config.disks[1].read_only = true;
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "an overlay is for what the guest writes");
	check_error(&e, ERROR_CONFIG, "leave out one of them");
}
END_TEST

/* What is booted can be said later only where somebody is still at it, and then it is judged. */
START_TEST(test_unfinished)
{
	config.boot.kernel = NULL;
	config.unfinished = true;
	check_ok(vm_config_validate(&config, &e), &e);
	config.boot.kernel = "";
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_USAGE, "no kernel");
}
END_TEST

/* ---- changes ---- */

static void add(const char *id, const char *path, bool root)
{
	const struct block_config disk = { .id = id, .path = path, .root = root };

	ck_assert_ptr_nonnull(vm_config_add_disk(&config, &disk, &e));
}

/* "a=a.img b=b.img": ids and paths in their order. */
static const char *disks(const struct vm_config *of)
{
	static char text[256];

	text[0] = '\0';
	for (uint32_t i = 0; i < of->disk_count; i++) {
		size_t used = strlen(text);

		(void)snprintf(text + used, sizeof(text) - used, "%s%s=%s", used == 0 ? "" : " ",
			       of->disks[i].id, of->disks[i].path);
	}
	return text;
}

START_TEST(test_disks_by_id)
{
	const struct block_config other = { .id = "b", .path = "other.img" };
	const struct block_config root = { .id = "c", .path = "c.img", .root = true };
	char path[] = "borrowed.img";

	ck_assert_ptr_null(vm_config_find_disk(&config, "a"));
	add("a", "a.img", false);
	add("b", path, false);
	add(NULL, "c.img", false);
	add("drive4", "d.img", false);
	add(NULL, "e.img", false);
	path[0] = 'B';
	ck_assert_str_eq(disks(&config), "a=a.img b=borrowed.img drive2=c.img drive4=d.img "
					 "drive5=e.img");
	ck_assert_ptr_eq(vm_config_find_disk(&config, "drive2"), &config.disks[2]);
	ck_assert_ptr_eq(vm_config_put_disk(&config, &other, &e), &config.disks[1]);
	ck_assert_ptr_eq(vm_config_put_disk(&config, &root, &e), &config.disks[0]);
	ck_assert(vm_config_remove_disk(&config, "drive4"));
	ck_assert(!vm_config_remove_disk(&config, "drive4"));
	ck_assert_str_eq(disks(&config), "c=c.img a=a.img b=other.img drive2=c.img drive5=e.img");
	check_ok(vm_config_validate(&config, &e), &e);
	/* A second root drive stays where it is, for the validation to refuse. */
	add("r", "r.img", true);
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "'c' is the root drive already");
	ck_assert(vm_config_remove_disk(&config, "r"));
	add("a", "again.img", false);
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "'a' (drive_id) is there twice");
	vm_config_finish(&config);
}
END_TEST

START_TEST(test_nets_by_id)
{
	const struct vm_net_config net = { .tap = "tap0", .kind = VM_NET_TAP, .fd = -1 };
	struct vm_net_config named = { .id = "net1", .tap = "tap1", .kind = VM_NET_TAP, .fd = -1 };

	ck_assert_ptr_nonnull(vm_config_add_net(&config, &net, &e));
	ck_assert_ptr_nonnull(vm_config_put_net(&config, &named, &e));
	named.tap = "tap2";
	ck_assert_ptr_eq(vm_config_put_net(&config, &named, &e), &config.nets[1]);
	ck_assert_str_eq(config.nets[0].id, "net0");
	ck_assert_str_eq(config.nets[1].tap, "tap2");
	ck_assert(vm_config_remove_net(&config, "net0") && !vm_config_remove_net(&config, "x"));
	ck_assert_uint_eq(config.net_count, 1);
	ck_assert_ptr_eq(vm_config_find_net(&config, "net1"), &config.nets[0]);
	vm_config_finish(&config);
}
END_TEST

/* Whatever becomes of the one is nothing to the other. */
START_TEST(test_copy)
{
	char name[] = "web", kernel[] = "kernel", log[] = "log", tap[] = "tap0";
	const struct vm_net_config net = { .id = "n", .tap = tap, .kind = VM_NET_TAP, .fd = 7 };
	struct vm_config copy;

	config.name = name;
	config.boot.kernel = kernel;
	config.boot.more_initrds[2] = log;
	config.serial.output_path = config.logger.path = config.metrics.path = log;
	config.cpu_config = json_object();
	config.cpu_template = calloc(1, sizeof(*config.cpu_template));
	config.cpu_template->msr_count = 1;
	add("a", "a.img", true);
	ck_assert_ptr_nonnull(vm_config_add_net(&config, &net, &e));
	check_ok(vm_config_copy(&copy, &config, &e), &e);
	name[0] = kernel[0] = log[0] = tap[0] = 'X';
	ck_assert(vm_config_remove_disk(&config, "a"));
	vm_config_finish(&config);
	ck_assert_str_eq(copy.name, "web");
	ck_assert_str_eq(copy.boot.kernel, "kernel");
	ck_assert_str_eq(copy.boot.more_initrds[2], "log");
	ck_assert_str_eq(copy.serial.output_path, "log");
	ck_assert_str_eq(copy.logger.path, "log");
	ck_assert_str_eq(copy.metrics.path, "log");
	ck_assert_str_eq(disks(&copy), "a=a.img");
	ck_assert_str_eq(copy.nets[0].tap, "tap0");
	ck_assert_int_eq(copy.nets[0].fd, 7);
	ck_assert_uint_eq(copy.cpu_template->msr_count, 1);
	ck_assert(json_is_object(copy.cpu_config));
	check_ok(vm_config_validate(&copy, &e), &e);
	vm_config_finish(&copy);
	ck_assert_ptr_null(copy.name);
	vm_config_finish(&copy);
}
END_TEST

START_TEST(test_no_room)
{
	const struct block_config disk = { .path = "x" };
	const struct vm_net_config net = { .tap = "t", .kind = VM_NET_TAP, .fd = -1 };

	for (int i = 0; i < VM_DISKS_MAX; i++) {
		ck_assert_ptr_nonnull(vm_config_add_disk(&config, &disk, &e));
	}
	ck_assert_ptr_null(vm_config_add_disk(&config, &disk, &e));
	check_error(&e, ERROR_CONFIG, "more than 24 drives");
	for (int i = 0; i < VM_NETS_MAX; i++) {
		ck_assert_ptr_nonnull(vm_config_add_net(&config, &net, &e));
	}
	ck_assert_ptr_null(vm_config_put_net(&config, &net, &e));
	check_error(&e, ERROR_CONFIG, "more than 24 network cards");
	vm_config_finish(&config);
}
END_TEST

static const struct {
	int transport;
	const char *cmdline, *boot_args, *only;
	bool pci;
} buses[] = {
	{ VM_TRANSPORT_AUTO, NULL, NULL, NULL, true },
	{ VM_TRANSPORT_AUTO, "quiet pci=off", NULL, NULL, false },
	{ VM_TRANSPORT_AUTO, NULL, "reboot=k panic=1 pci=off", NULL, false },
	{ VM_TRANSPORT_AUTO, NULL, NULL, "pci=off", false },
	{ VM_TRANSPORT_AUTO, "pci=nomsi", NULL, NULL, false },
	{ VM_TRANSPORT_AUTO, "pci=offline xpci=off -- pci=off", NULL, NULL, true },
	{ VM_TRANSPORT_PCI, "pci=off", NULL, NULL, true },
	{ VM_TRANSPORT_MMIO, NULL, NULL, NULL, false },
};

START_TEST(test_bus)
{
	config.machine.transport = buses[_i].transport;
	config.boot.cmdline = buses[_i].cmdline;
	config.boot.boot_args = buses[_i].boot_args;
	config.boot.cmdline_only = buses[_i].only;
	ck_assert(vm_config_has_pci(&config) == buses[_i].pci);
}
END_TEST

START_TEST(test_too_many_devices)
{
	static const char *const taps[] = { "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7" };

	config.disk_count = VM_DISKS_MAX + 1;
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "room for");
	/* As many as there is room for; and one more. */
	config.disk_count = 16;
	config.net_count = 8;
	for (uint32_t i = 0; i < config.disk_count; i++) {
		config.disks[i].path = "disk";
	}
	for (uint32_t i = 0; i < config.net_count; i++) {
		config.nets[i] =
			(struct vm_net_config){ .kind = VM_NET_TAP, .tap = taps[i], .fd = -1 };
	}
	config.console = config.entropy = true;
	check_ok(vm_config_validate(&config, &e), &e);
	config.disk_count = VM_DISKS_MAX;
	for (uint32_t i = 16; i < config.disk_count; i++) {
		config.disks[i].path = "disk";
	}
	/* A PCI bus takes all that a configuration can have; virtio-mmio does not. */
	check_ok(vm_config_validate(&config, &e), &e);
	config.machine.transport = VM_TRANSPORT_MMIO;
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "room for");
	config.disk_count = 0;
	config.net_count = UINT32_MAX;
	ck_assert_int_lt(vm_config_validate(&config, &e), 0);
	check_error(&e, ERROR_CONFIG, "room for");
}
END_TEST

/* ---- the tables, as JSON ---- */

static json_t *parse(const char *text)
{
	json_t *value = NULL;

	check_ok(json_parse(&value, text, strlen(text), &e), &e);
	return value;
}

static const struct json_row {
	const struct option_table *table;
	const char *text, *refused; /* NULL: accepted */
} json_rows[] = {
	{ &vm_boot_options, "{\"kernel_image_path\":\"k\"}", NULL },
	{ &vm_boot_options,
	  "{\"kernel_image_path\":\"k\",\"initrd_path\":\"i\",\"boot_args\":\"\"}", NULL },
	{ &vm_boot_options, "{\"initrd_path\":\"i\"}", "kernel_image_path" },
	{ &vm_boot_options, "{\"kernel_image_path\":\"k\",\"kernel\":\"k\"}", "kernel" },
	{ &vm_machine_options, "{\"vcpu_count\":2,\"mem_size_mib\":64}", NULL },
	{ &vm_machine_options,
	  "{\"vcpu_count\":2,\"mem_size_mib\":64,\"smt\":true,\"cpu_template\":\"T2\","
	  "\"track_dirty_pages\":true,\"huge_pages\":\"2M\",\"memory_backing\":\"hugetlb\","
	  "\"on_reboot\":\"exit\"}",
	  NULL },
	{ &vm_machine_options, "{\"vcpu_count\":2}", "mem_size_mib" },
	{ &vm_machine_options, "{\"mem_size_mib\":64}", "vcpu_count" },
	{ &vm_machine_options, "{\"vcpu_count\":\"2\",\"mem_size_mib\":64}", "vcpu_count" },
	{ &vm_machine_options, "{\"vcpu_count\":2,\"mem_size_mib\":17592186044416}",
	  "mem_size_mib" },
	{ &vm_machine_options, "{\"vcpu_count\":2,\"mem_size_mib\":64,\"smt\":1}", "smt" },
	{ &vm_machine_options, "{\"vcpu_count\":2,\"mem_size_mib\":64,\"huge_pages\":\"1G\"}",
	  "huge_pages" },
	{ &vm_net_options, "{\"iface_id\":\"e\",\"host_dev_name\":\"tap0\"}", NULL },
	{ &vm_net_options,
	  "{\"iface_id\":\"e\",\"host_dev_name\":\"tap0\",\"guest_mac\":"
	  "\"06:00:ac:10:00:02\",\"mtu\":1400,\"rx_rate_limiter\":{\"ops\":{\"size\":1,"
	  "\"refill_time\":2}}}",
	  NULL },
	{ &vm_net_options, "{\"iface_id\":\"e\",\"host_dev_name\":\"t\",\"num_queue_pairs\":8}",
	  NULL },
	{ &vm_net_options, "{\"iface_id\":\"e\",\"host_dev_name\":\"t\",\"num_queue_pairs\":9}",
	  "num_queue_pairs" },
	{ &vm_net_options, "{\"iface_id\":\"e\",\"host_dev_name\":\"t\",\"num_queue_pairs\":0}",
	  "num_queue_pairs" },
	{ &vm_net_options, "{\"host_dev_name\":\"tap0\"}", "iface_id" },
	{ &vm_net_options, "{\"iface_id\":\"e\"}", "host_dev_name" },
	{ &vm_net_options, "{\"iface_id\":\"e\",\"host_dev_name\":\"t\",\"fd\":3}", "fd" },
};

START_TEST(test_json)
{
	union {
		struct vm_boot_config boot;
		struct vm_machine_config machine;
		struct vm_net_config net;
	} object;
	const struct json_row *row = &json_rows[_i];
	json_t *value = parse(row->text);
	int r = options_from_json(row->table, &object, value, 0, &e);

	if (row->refused == NULL) {
		check_ok(r, &e);
	} else {
		ck_assert_msg(r < 0, "%s was accepted", row->text);
		check_error(&e, ERROR_JSON, row->refused);
	}
	json_decref(value);
}
END_TEST

START_TEST(test_json_values)
{
	struct vm_machine_config machine;
	struct vm_net_config net;
	json_t *value = parse("{\"vcpu_count\":3,\"mem_size_mib\":96,\"huge_pages\":\"None\"}");

	check_ok(options_from_json(&vm_machine_options, &machine, value, 0, &e), &e);
	ck_assert_uint_eq(machine.vcpus, 3);
	ck_assert_uint_eq(machine.memory_size, MIB(96));
	ck_assert_int_eq(machine.huge_pages, VM_HUGE_PAGES_NONE);
	ck_assert_int_eq(machine.on_reboot, VM_ON_REBOOT_AUTO);
	ck_assert(!machine.smt);
	json_decref(value);
	value = parse("{\"iface_id\":\"e\",\"host_dev_name\":\"tap0\",\"tx_rate_limiter\":"
		      "{\"bandwidth\":{\"size\":7,\"refill_time\":8,\"one_time_burst\":9}}}");
	check_ok(options_from_json(&vm_net_options, &net, value, 0, &e), &e);
	ck_assert_int_eq(net.fd, -1);
	ck_assert(!net.has_mac && !net.has_rx && net.has_tx && net.tx.has_bandwidth);
	ck_assert(!net.tx.has_ops);
	ck_assert_uint_eq(net.tx.bandwidth.size, 7);
	ck_assert_uint_eq(net.tx.bandwidth.refill_time_ms, 8);
	ck_assert_uint_eq(net.tx.bandwidth.one_time_burst, 9);
	check_ok(vm_net_config_validate(&net, &e), &e);
	json_decref(value);
}
END_TEST

/*
 * What is written of something that says nothing but its name. Older versions refuse keys that they do not know, at a restore, a
 * migration and an upgrade: a key that is new is not to appear here, but OPTION_ZERO_NOT_GIVEN.
 */
static const struct {
	const struct option_table *table;
	const char *keys;
} always_written[] = {
	{ &vm_boot_options, "kernel_image_path" },
	{ &vm_machine_options,
	  "vcpu_count mem_size_mib smt cpu_template track_dirty_pages huge_pages "
	  "memory_backing on_reboot transport" },
	{ &block_options, "path_on_host drive_id is_root_device is_read_only io_engine cache_type "
			  "format lock" },
	{ &vm_net_options, "iface_id host_dev_name" },
	{ &rate_limit_options, "" },
	{ &token_bucket_options, "size refill_time" },
	{ &serial_settings_options, "" },
	{ &entropy_settings_options, "" },
};

static void set_required_strings(const struct option_table *table, void *object)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		if (at.option->json_required && at.option->type == OPTION_STRING) {
			*(const char **)(void *)((char *)object + at.base + at.option->offset) =
				"name";
		}
	}
}

START_TEST(test_keys_always_written)
{
	union {
		struct vm_boot_config boot;
		struct vm_machine_config machine;
		struct block_config disk;
		struct vm_net_config net;
		struct rate_limit_config limits;
		struct token_bucket_config bucket;
		struct serial_settings serial;
		struct entropy_settings entropy;
	} object = { 0 };
	const struct option_table *table = always_written[_i].table;
	char keys[400] = "";
	const char *key;
	json_t *json, *value;

	check_ok(options_defaults(table, &object, &e), &e);
	set_required_strings(table, &object);
	json = options_to_json(table, &object, 0);
	json_object_foreach(json, key, value)
	{
		(void)snprintf(keys + strlen(keys), sizeof(keys) - strlen(keys), "%s%s",
			       keys[0] != '\0' ? " " : "", key);
	}
	ck_assert_str_eq(keys, always_written[_i].keys);
	json_decref(json);
}
END_TEST

CHECK_MAIN("vm_config", CHECK_FIXTURE(setup, NULL); CHECK_TABLE(test_good, good);
	   CHECK_TABLE(test_default_queues, queues); CHECK_TABLE(test_memory, bad_memory);
	   CHECK_TABLE(test_vcpus, bad_vcpus); CHECK_TABLE(test_name, bad_names);
	   CHECK_TEST(test_no_kernel); CHECK_TEST(test_two_command_lines);
	   CHECK_TABLE(test_disk_without_path, bad_paths); CHECK_TEST(test_machine);
	   CHECK_TEST(test_boot_args); CHECK_TABLE(test_net, net_rows); CHECK_TEST(test_disk_ids);
	   CHECK_TEST(test_root_drives); CHECK_TEST(test_net_names); CHECK_TEST(test_socket);
	   CHECK_TEST(test_overlay); CHECK_TEST(test_unfinished); CHECK_TEST(test_disks_by_id);
	   CHECK_TEST(test_nets_by_id); CHECK_TEST(test_copy); CHECK_TEST(test_no_room);
	   CHECK_TABLE(test_bus, buses); CHECK_TEST(test_too_many_devices);
	   CHECK_TABLE(test_json, json_rows); CHECK_TEST(test_json_values);
	   CHECK_TABLE(test_keys_always_written, always_written))
