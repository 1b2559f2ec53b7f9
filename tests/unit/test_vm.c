/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life cycle of vmm/vm.h with real KVM and bare-metal guests, in this process: the sandbox is
 * off, because nobody leaves it again.
 */
#include "harness/vm_rig.h"

START_TEST(test_hello)
{
	use_hello();
	start();
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
	ck_assert_str_eq(serial.text, "!");
	ck_assert_uint_ge(exits(), 2);
}
END_TEST

static const struct {
	const char *cmdline;
	enum vm_on_reboot on_reboot;
	enum vm_stop_reason reason;
	uint8_t code;
} ends[] = {
	{ "test=exit mode=code value=5", VM_ON_REBOOT_RESTART, VM_STOP_DEBUG_EXIT, 5 },
	{ "test=exit mode=code value=255", VM_ON_REBOOT_RESTART, VM_STOP_DEBUG_EXIT, 255 },
	{ "test=exit mode=acpi", VM_ON_REBOOT_RESTART, VM_STOP_POWER_OFF, 0 },
	{ "test=exit mode=panic", VM_ON_REBOOT_RESTART, VM_STOP_PANIC, 0 },
	{ "test=exit mode=triple", VM_ON_REBOOT_RESTART, VM_STOP_TRIPLE_FAULT, 0 },
	{ "test=exit mode=reset", VM_ON_REBOOT_EXIT, VM_STOP_REBOOT, 0 },
	{ "test=exit mode=i8042", VM_ON_REBOOT_EXIT, VM_STOP_REBOOT, 0 },
};

START_TEST(test_ends)
{
	use_guest(ends[_i].cmdline);
	config.machine.on_reboot = ends[_i].on_reboot;
	start();
	expect_stop(ends[_i].reason, ends[_i].code);
}
END_TEST

/* Ways to spoil a configuration, from what is seen first to what is seen last. */
static void spoil_kernel(void)
{
	config.boot.kernel = NULL;
}
static void miss_kernel(void)
{
	config.boot.kernel = "/nowhere/kernel";
}
static void bad_kernel(void)
{
	config.boot.kernel = disk_path;
}
static void miss_initrd(void)
{
	config.boot.initrd = "/nowhere/initrd";
}
static void no_memory(void)
{
	config.machine.memory_size = 0;
}
static void odd_memory(void)
{
	config.machine.memory_size = MIB(64) + 1;
}
static void huge_memory(void)
{
	config.machine.memory_size = GIB(1) << 16;
}
static void no_vcpus(void)
{
	config.machine.vcpus = 0;
}
static void many_vcpus(void)
{
	config.machine.vcpus = 33;
}
static void bad_name(void)
{
	config.name = "a/b";
}
static void two_cmdlines(void)
{
	config.boot.cmdline = config.boot.cmdline_only = "x";
}
static void long_cmdline(void)
{
	static char text[KIB(66)];

	memset(text, 'x', sizeof(text) - 1);
	config.boot.cmdline_only = text;
}
static void miss_disk(void)
{
	config.disks[0].path = "/nowhere/disk";
	config.disk_count = 1;
}
static void unnamed_disk(void)
{
	config.disk_count = 1;
}
static void same_disk_twice(void)
{
	use_disk();
	config.disks[1] = config.disks[0];
	config.disk_count = 2;
}
static void miss_tap(void)
{
	use_disk();
	config.nets[0] = (struct vm_net_config){ .kind = VM_NET_TAP, .tap = "lo" };
	config.net_count = 1;
}
/* All that there can be before it, all of it half made or made. */
static void miss_tap_late(void)
{
	config.machine.vcpus = 32;
	config.console = config.entropy = true;
	miss_tap();
}

static const struct {
	void (*spoil)(void);
	enum error_code code;
	const char *text;
} refusals[] = {
	{ spoil_kernel, ERROR_USAGE, "kernel" },
	{ miss_kernel, ERROR_KERNEL_IMAGE, "/nowhere/kernel" },
	{ bad_kernel, ERROR_KERNEL_IMAGE, "vmm-test-vm-" },
	{ miss_initrd, ERROR_INITRD, "/nowhere/initrd" },
	{ no_memory, ERROR_CONFIG, "--memory (mem_size_mib): 0" },
	{ odd_memory, ERROR_CONFIG, "67108865" },
	{ huge_memory, ERROR_CONFIG, "larger than this host" },
	{ no_vcpus, ERROR_CONFIG, "--cpus (vcpu_count): 0" },
	{ many_vcpus, ERROR_CONFIG, "--cpus (vcpu_count): 33" },
	{ bad_name, ERROR_CONFIG, "'a/b'" },
	{ two_cmdlines, ERROR_USAGE, "--cmdline-only" },
	{ long_cmdline, ERROR_CMDLINE, "command line" },
	{ miss_disk, ERROR_DISK, "/nowhere/disk" },
	{ unnamed_disk, ERROR_CONFIG, "--disk 1" },
	{ same_disk_twice, ERROR_DISK_LOCKED, "disk" },
	{ miss_tap, ERROR_NET, "not a tap" },
	{ miss_tap_late, ERROR_NET, "not a tap" },
};

/* A refused VM says why, and keeps nothing. */
START_TEST(test_refusals)
{
	struct holdings before = holdings();

	use_hello();
	refusals[_i].spoil();
	for (int i = 0; i < 3; i++) {
		memset(&e, 0, sizeof(e));
		ck_assert_int_lt(vm_create(&vm, &config, &host, &e), 0);
		ck_assert_ptr_null(vm);
		check_error(&e, refusals[_i].code, refusals[_i].text);
	}
	check_nothing_kept(before, refusals[_i].text);
	ck_assert_int_eq(stops, 0);
}
END_TEST

enum stage { CREATED, STARTED, SPOKEN, PAUSED, RESET, EVENT_ON_ITS_WAY, STOPPING, STOPPED, STAGES };

static void go_to(enum stage stage)
{
	create();
	if (stage == CREATED) {
		return;
	}
	check_ok(do_start(vm, &e), &e);
	if (stage == SPOKEN || stage == PAUSED || stage == RESET) {
		expect("start");
	}
	if (stage == PAUSED) {
		check_ok(do_pause(vm, &e), &e);
	} else if (stage == RESET) {
		check_ok(do_reset(vm, &e), &e);
	} else if (stage == EVENT_ON_ITS_WAY) {
		wait_for_progress(2);
	} else if (stage >= STOPPING) {
		vm_stop(vm);
	}
	if (stage == STOPPED) {
		expect_stop(VM_STOP_REQUESTED, 0);
	}
}

/* At every stage a VM can be destroyed, keeps nothing, and is not heard of again. */
START_TEST(test_destroy)
{
	struct holdings before;

	config.machine.vcpus = 3;
	config.console = config.entropy = true;
	use_disk();
	if (_i == EVENT_ON_ITS_WAY) {
		use_hello();
	} else {
		use_guest("test=block-load requests=1000000000");
	}
	before = holdings();
	for (int i = 0; i < 3; i++) {
		int heard;

		go_to((enum stage)_i);
		heard = stops;
		ck_assert(vm_destroy(vm));
		vm = NULL;
		rounds(5);
		ck_assert_int_eq(stops, heard);
		check_nothing_kept(before, "destroy");
		screen_init(&serial);
		stops = 0;
	}
	ck_assert(vm_destroy(NULL));
}
END_TEST

/* While the VM is paused nothing of it moves; each time it goes on, so do its transfers. */
START_TEST(test_pause_during_transfers)
{
	config.machine.vcpus = (uint32_t)_i + 1;
	use_disk();
	use_guest("test=block-load write=1 requests=1000000000");
	start();
	expect("start");
	for (int i = 0; i < 50; i++) {
		uint64_t then;

		check_ok(do_pause(vm, &e), &e);
		ck_assert_int_eq(vm_state(vm), VM_PAUSED);
		then = progress();
		rounds(2);
		ck_assert_uint_eq(progress(), then);
		check_ok(do_resume(vm, &e), &e);
		ck_assert_int_eq(vm_state(vm), VM_RUNNING);
		wait_for_progress(then + 20);
		ck_assert_int_eq(stops, 0);
	}
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

/* No request is lost or spoiled by pauses: the guest counts them all. */
START_TEST(test_pause_loses_nothing)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;
	int pauses = 0;

	use_disk();
	use_guest("test=block-load requests=20000");
	start();
	expect("start");
	while (stops == 0 && loop_now_ns() < deadline) {
		if (vm_state(vm) == VM_RUNNING && do_pause(vm, &e) == 0) {
			check_ok(do_resume(vm, &e), &e);
			pauses++;
		} else {
			/* Its end came first. */
			ck_assert_int_eq(vm_state(vm), VM_STOPPED);
		}
		rounds(1);
	}
	ck_assert_int_gt(pauses, 0);
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
	ck_assert_uint_eq(occurrences(&serial, "PASS block-load"), 1);
}
END_TEST

/* A vCPU that never leaves the guest by itself, and one that rests in it. */
START_TEST(test_pause_of_quiet_guests)
{
	use_guest(_i == 0 ? "test=exit mode=spin" : "test=exit mode=hang");
	config.machine.vcpus = 2;
	start();
	expect(_i == 0 ? "spinning" : "hanging");
	for (int i = 0; i < 50; i++) {
		check_ok(do_pause(vm, &e), &e);
		check_ok(do_resume(vm, &e), &e);
	}
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

/* One instruction of the guest is many accesses: a pause comes between them and spoils none. */
START_TEST(test_pause_within_instructions)
{
	config.entropy = true;
	use_guest("test=exit mode=registers");
	start();
	expect("reading");
	for (int i = 0; i < 200; i++) {
		check_ok(do_pause(vm, &e), &e);
		check_ok(do_resume(vm, &e), &e);
		wait_for_progress(progress() + 20);
		rounds(1);
		ck_assert_msg(stops == 0, "the guest has read something else: %s", serial.text);
	}
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

START_TEST(test_reset_at_once)
{
	config.debug_exit = false;
	config.machine.vcpus = 2;
	use_hello();
	start();
	for (int i = 0; i < 20; i++) {
		check_ok(do_reset(vm, &e), &e);
	}
	ck_assert_uint_eq(resets(), 20);
	ck_assert_int_eq(vm_state(vm), VM_RUNNING);
	/* The first byte comes again after each reset that leaves the time for it. */
	for (unsigned i = 0; i < 20; i++) {
		unsigned before;

		check_ok(do_reset(vm, &e), &e);
		before = occurrences(&serial, "!");
		if (i > 0) {
			expect_times("!", MAX(before, i));
		}
	}
	ck_assert_uint_eq(resets(), 40);
}
END_TEST

static void copy_file(const char *from, const char *to)
{
	static char bytes[MIB(1)];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_TRUNC);
	ssize_t n = read(in, bytes, sizeof(bytes));

	ck_assert(n > 0 && (size_t)n < sizeof(bytes) && write(out, bytes, (size_t)n) == n);
	(void)close(in);
	(void)close(out);
}

/* A kernel that cannot be loaded again: the machine is half reset and must not be left so. */
START_TEST(test_reset_fails)
{
	config.debug_exit = false;
	use_hello();
	copy_file(config.boot.kernel, disk_path);
	config.boot.kernel = disk_path;
	start();
	expect("!");
	ck_assert_int_eq(truncate(disk_path, 100), 0);
	ck_assert_int_lt(do_reset(vm, &e), 0);
	check_error(&e, ERROR_KERNEL_IMAGE, "reset: kernel '");
	expect_stop(VM_STOP_ERROR, 0);
	check_error(&last_stop.error, ERROR_KERNEL_IMAGE, "reset: kernel '");
	ck_assert_uint_eq(resets(), 0);
}
END_TEST

START_TEST(test_reset_during_transfers)
{
	use_disk();
	use_guest("test=block-load write=1 requests=1000000000");
	config.machine.vcpus = 2;
	start();
	for (unsigned i = 1; i <= 20; i++) {
		expect_times("start", i);
		wait_for_progress(progress() + 5);
		check_ok(do_reset(vm, &e), &e);
	}
	expect_times("start", 21);
	ck_assert_uint_eq(resets(), 20);
}
END_TEST

/* The guest resets itself, and counts on its disk. */
START_TEST(test_guest_resets)
{
	use_disk();
	use_guest("test=reboot mode=reset count=20");
	start();
	expect_stop(VM_STOP_POWER_OFF, 0);
	ck_assert_uint_eq(occurrences(&serial, "boot "), 20);
	ck_assert_uint_eq(resets(), 19);
}
END_TEST

static void check_refused(int (*act)(struct vm *, struct error *), const char *what)
{
	enum vm_state state = vm_state(vm);

	memset(&e, 0, sizeof(e));
	ck_assert_msg(act(vm, &e) < 0, "%s in state %d", what, (int)state);
	ck_assert_int_eq(e.code, ERROR_CONFIG);
	ck_assert_msg(strstr(e.msg, what) != NULL, "no '%s' in '%s'", what, e.msg);
	ck_assert_int_eq(vm_state(vm), state);
}

/* What is not possible in a state is refused and changes nothing. */
START_TEST(test_states)
{
	use_guest("test=exit mode=spin");
	create();
	check_refused(do_pause, "pause");
	check_refused(do_resume, "resume");
	check_refused(do_reset, "reset");
	check_refused(vm_press_power_button, "power button");
	check_refused(vm_press_ctrl_alt_del, "Ctrl-Alt-Del");
	check_ok(do_start(vm, &e), &e);
	check_refused(do_start, "start");
	check_refused(do_resume, "resume");
	check_ok(vm_press_ctrl_alt_del(vm, &e), &e); /* its guest has no driver */
	check_ok(do_pause(vm, &e), &e);
	check_ok(vm_press_ctrl_alt_del(vm, &e), &e);
	check_refused(do_start, "start");
	check_refused(do_pause, "pause");
	check_refused(do_reset, "reset");
	check_refused(vm_press_power_button, "power button");
	ck_assert_uint_eq(resets(), 0);
	check_ok(do_resume(vm, &e), &e);
	expect("spinning");
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	check_refused(do_start, "start");
	check_refused(do_pause, "pause");
	check_refused(do_resume, "resume");
	check_refused(do_reset, "reset");
	check_refused(vm_press_power_button, "power button");
}
END_TEST

START_TEST(test_stop)
{
	static const enum stage stages[] = { CREATED, STARTED, SPOKEN, PAUSED };

	use_disk();
	config.console = true;
	config.machine.vcpus = 2;
	use_guest("test=block-load requests=1000000000");
	go_to(stages[_i]);
	vm_stop(vm);
	/* The host hears of it from the loop, once. */
	ck_assert_int_eq(stops, 0);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	vm_stop(vm);
	rounds(3);
	ck_assert_int_eq(stops, 1);
}
END_TEST

/* An event that main has not seen before it paused the VM waits for the resume. */
START_TEST(test_event_while_paused)
{
	use_hello();
	start();
	wait_for_progress(2);
	check_ok(do_pause(vm, &e), &e);
	rounds(5);
	ck_assert_int_eq(stops, 0);
	ck_assert_int_eq(vm_state(vm), VM_PAUSED);
	check_ok(do_resume(vm, &e), &e);
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
	ck_assert_str_eq(serial.text, "!");
}
END_TEST

/* The same with a guest that asks for a reset: it starts anew at the resume, not before. */
START_TEST(test_reset_while_paused)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS, seen = UINT64_MAX;

	use_guest("test=exit mode=reset");
	start();
	/* The guest rests when its reset is on its way: main does not run the loop. */
	while (occurrences(&serial, "ending by reset") == 0 || seen != exits()) {
		const struct timespec moment = { .tv_nsec = 20000000 };

		ck_assert_msg(loop_now_ns() < deadline, "output '%s'", serial.text);
		seen = exits();
		(void)nanosleep(&moment, NULL);
	}
	check_ok(do_pause(vm, &e), &e);
	rounds(5);
	ck_assert_uint_eq(resets(), 0);
	check_ok(do_resume(vm, &e), &e);
	expect_times("ending by reset", 3);
	/* The guest may say so before the loop hears of the second. */
	while (resets() < 2) {
		ck_assert_msg(loop_now_ns() < deadline, "%u resets", (unsigned int)resets());
		rounds(1);
	}
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

/* A stop that is asked for wins over an event that main has not seen. */
START_TEST(test_stop_before_event)
{
	use_hello();
	start();
	wait_for_progress(2);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

START_TEST(test_power_button)
{
	use_guest("test=powerbutton");
	start();
	expect("ready");
	check_ok(vm_press_power_button(vm, &e), &e);
	expect_stop(VM_STOP_POWER_OFF, 0);
	ck_assert_uint_eq(occurrences(&serial, "event 1"), 1);
}
END_TEST

START_TEST(test_serial_input)
{
	use_guest("test=serial");
	start();
	expect("ready");
	type(vm_serial_input, "hello there\n");
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
	ck_assert_uint_eq(occurrences(&serial, "line \"hello there\""), 1);
	ck_assert_uint_eq(hvc.len, 0);
}
END_TEST

static void expect_hvc(const char *text)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;

	while (occurrences(&hvc, text) == 0) {
		ck_assert_msg(loop_now_ns() < deadline && stops == 0, "no '%s' in '%s'", text,
			      hvc.text);
		rounds(1);
	}
}

START_TEST(test_hvc_input)
{
	config.console = true;
	use_guest("test=console");
	start();
	expect_hvc("console ready");
	vm_console_resize(vm, 132, 43);
	type(vm_hvc_input, "typed by someone\n");
	expect_hvc("typed by someone");
	type(vm_hvc_input, "quit\n");
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
}
END_TEST

/* Without the device, what is typed is gone; without channels, what is said is. */
START_TEST(test_no_consoles)
{
	host.serial = host.hvc = NULL;
	use_hello();
	start();
	ck_assert_uint_eq(vm_hvc_input(vm, (const uint8_t *)"abc", 3), 3);
	vm_console_resize(vm, 80, 25);
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
	host.serial = &serial.channel;
	host.hvc = &hvc.channel;
}
END_TEST

START_TEST(test_vcpus)
{
	static const uint32_t counts[] = { 1, 2, 32 };
	char cmdline[64];

	config.machine.vcpus = counts[_i];
	(void)snprintf(cmdline, sizeof(cmdline), "test=smp cpus=%u", counts[_i]);
	use_guest(cmdline);
	start();
	expect("cpus ");
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
	ck_assert_uint_eq(occurrences(&serial, "PASS smp"), 1);
}
END_TEST

/* All 32 park, run and are reset together. */
START_TEST(test_life_of_32)
{
	config.machine.vcpus = 32;
	use_guest("test=exit mode=spin");
	start();
	for (unsigned i = 1; i <= 5; i++) {
		expect_times("spinning", i);
		check_ok(do_pause(vm, &e), &e);
		check_ok(do_resume(vm, &e), &e);
		check_ok(do_reset(vm, &e), &e);
	}
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

static const struct {
	const char *cmdline, *only, *expected, *without_pci;
} cmdlines[] = {
	{ "ro noapic reboot=k acpi=noirq", NULL, "console=hvc0 panic=-1 ro reboot=k",
	  "console=hvc0 panic=-1 pci=off ro reboot=k" },
	{ "quiet -- noapic", NULL, "console=hvc0 panic=-1 quiet -- noapic",
	  "console=hvc0 panic=-1 pci=off quiet -- noapic" },
	{ NULL, "noapic no-kvmclock", "noapic no-kvmclock", "noapic no-kvmclock" },
	/* No Linux: the words that name its devices would mean nothing to it. */
	{ "acpi=off", NULL, "console=hvc0 panic=-1 acpi=off",
	  "console=hvc0 panic=-1 pci=off acpi=off" },
};

/* Words that would leave the guest without interrupts are left out, but not of --cmdline-only. */
START_TEST(test_cmdline)
{
	use_hello();
	config.boot.cmdline = cmdlines[_i].cmdline;
	config.boot.cmdline_only = cmdlines[_i].only;
	config.entropy = true;
	create();
	ck_assert_str_eq(vm_cmdline(vm), vm_config_has_pci(&config) ? cmdlines[_i].expected
								    : cmdlines[_i].without_pci);
}
END_TEST

/* Whether a guest has looked at PCI, if there is any. */
START_TEST(test_pci_unseen)
{
	struct vm_stats stats;

	config.debug_exit = false;
	use_disk();
	if (_i == 0) {
		use_hello();
		start();
		expect("!");
	} else {
		use_guest("test=block-load requests=1000000000");
		start();
		expect("start");
	}
	vm_stats(vm, &stats);
	ck_assert(stats.pci_unseen == (_i == 0 && vm_config_has_pci(&config)));
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

/* A guest that may not ask kvm-clock is told the rate of its TSC, unless the user did. */
START_TEST(test_clock)
{
	use_hello();
	config.boot.cmdline = _i == 0 ? "no-kvmclock" : "tsc_early_khz=1000000 nopv";
	create();
	if (strstr(vm_cmdline(vm), "tsc_early_khz") == NULL) {
		return; /* this KVM does not know it */
	}
	ck_assert_ptr_eq(strstr(strstr(vm_cmdline(vm), "tsc_early_khz=") + 1, "tsc_early_khz="),
			 NULL);
	ck_assert((strstr(vm_cmdline(vm), "=1000000 ") != NULL) == (_i == 1));
}
END_TEST

CHECK_MAIN("vm", skip_without_kvm(); CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_hello);
	   CHECK_TABLE(test_ends, ends); CHECK_TABLE(test_cmdline, cmdlines);
	   CHECK_LOOP(test_pci_unseen, 2); CHECK_LOOP(test_clock, 2);
	   CHECK_TABLE(test_refusals, refusals); CHECK_LOOP(test_destroy, STAGES);
	   CHECK_LOOP(test_pause_during_transfers, 2); CHECK_TEST(test_pause_loses_nothing);
	   CHECK_LOOP(test_pause_of_quiet_guests, 2); CHECK_TEST(test_pause_within_instructions);
	   CHECK_TEST(test_reset_at_once); CHECK_TEST(test_reset_fails);
	   CHECK_TEST(test_reset_during_transfers); CHECK_TEST(test_guest_resets);
	   CHECK_TEST(test_states); CHECK_LOOP(test_stop, 4); CHECK_TEST(test_event_while_paused);
	   CHECK_TEST(test_reset_while_paused); CHECK_TEST(test_stop_before_event);
	   CHECK_TEST(test_power_button); CHECK_TEST(test_serial_input); CHECK_TEST(test_hvc_input);
	   CHECK_TEST(test_no_consoles); CHECK_LOOP(test_vcpus, 3); CHECK_TEST(test_life_of_32))
