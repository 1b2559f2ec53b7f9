/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life cycle of vmm/vm.h with real KVM and bare-metal guests, in this process: the sandbox is
 * off, because nobody leaves it again. VMM_TEST_GUEST and VMM_TEST_HELLO name the guests.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/vm.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define PATIENCE_NS (50 * 1000000000ULL)
#define OUTPUT_MAX  KIB(64)

/* A console that keeps what comes. */
struct screen {
	struct console_channel channel;
	pthread_mutex_t lock;
	size_t len;
	char text[OUTPUT_MAX];
};

static struct loop loop;
static struct screen serial, hvc;
static struct vm_config config;
static struct vm *vm;
static struct error e;
static struct vm_stop last_stop;
static int stops;
static char disk_path[64];

static void screen_output(struct console_channel *channel, const uint8_t *data, size_t len)
{
	struct screen *screen = container_of(channel, struct screen, channel);

	(void)pthread_mutex_lock(&screen->lock);
	len = MIN(len, sizeof(screen->text) - 1 - screen->len);
	memcpy(screen->text + screen->len, data, len);
	screen->len += len;
	(void)pthread_mutex_unlock(&screen->lock);
}

static void screen_ready(struct console_channel *channel)
{
	(void)channel;
}

static void screen_init(struct screen *screen)
{
	*screen = (struct screen){ .channel = { screen_output, screen_ready } };
	(void)pthread_mutex_init(&screen->lock, NULL);
}

static unsigned occurrences(struct screen *screen, const char *text)
{
	unsigned count = 0;

	(void)pthread_mutex_lock(&screen->lock);
	for (const char *at = screen->text; (at = strstr(at, text)) != NULL; at++) {
		count++;
	}
	(void)pthread_mutex_unlock(&screen->lock);
	return count;
}

static void stopped(struct vm_host *h, const struct vm_stop *stop)
{
	(void)h;
	stops++;
	last_stop = *stop;
}

static struct vm_host host = {
	.loop = &loop, .stopped = stopped, .serial = &serial.channel, .hvc = &hvc.channel
};

static const char *environment(const char *name)
{
	const char *value = getenv(name);

	ck_assert_msg(value != NULL, "%s is not set", name);
	return value;
}

static void use_guest(const char *cmdline)
{
	config.boot.kernel = environment("VMM_TEST_GUEST");
	config.boot.cmdline_only = cmdline;
}

static void use_hello(void)
{
	config.boot.kernel = environment("VMM_TEST_HELLO");
}

static void use_disk(void)
{
	config.disks[0] = (struct block_config){ .path = disk_path };
	config.disk_count = 1;
}

static void *say_thread_id(void *arg)
{
	*(pid_t *)arg = gettid();
	return NULL;
}

/* With the first thread a sanitizer may start one of its own, which is nobody's leak. */
static void start_first_thread(void)
{
	pthread_t thread;
	pid_t id = 0;
	char path[64];

	ck_assert_int_eq(pthread_create(&thread, NULL, say_thread_id, &id), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	(void)snprintf(path, sizeof(path), "/proc/self/task/%d", (int)id);
	while (access(path, F_OK) == 0) {
		(void)sched_yield();
	}
}

static void setup(void)
{
	int fd;

	(void)snprintf(disk_path, sizeof(disk_path), "/tmp/vmm-test-vm-XXXXXX");
	fd = mkstemp(disk_path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)MIB(8)), 0);
	(void)close(fd);
	screen_init(&serial);
	screen_init(&hvc);
	memset(&e, 0, sizeof(e));
	memset(&last_stop, 0, sizeof(last_stop));
	stops = 0;
	config = (struct vm_config){ .machine = { .memory_size = MIB(64), .vcpus = 1 },
				     .debug_exit = true,
				     .sandbox = SANDBOX_OFF };
	check_ok(loop_init(&loop, &e), &e);
	start_first_thread();
}

static void teardown(void)
{
	vm_destroy(vm);
	vm = NULL;
	loop_finish(&loop);
	(void)unlink(disk_path);
}

static void create(void)
{
	check_ok(vm_create(&vm, &config, &host, &e), &e);
	ck_assert_int_eq(vm_state(vm), VM_CREATED);
}

static void start(void)
{
	create();
	check_ok(vm_start(vm, &e), &e);
	ck_assert_int_eq(vm_state(vm), VM_RUNNING);
}

static void rounds(int count)
{
	for (int i = 0; i < count; i++) {
		ck_assert_int_eq(loop_step(&loop, 1), 0);
	}
}

/* Runs the loop until the guest has said `text` so many times. */
static void expect_times(const char *text, unsigned times)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;

	while (occurrences(&serial, text) < times) {
		ck_assert_msg(loop_now_ns() < deadline && stops == 0,
			      "no %u times '%s' in '%s'; stopped for %d: %s", times, text,
			      serial.text, last_stop.reason, last_stop.error.msg);
		ck_assert_int_eq(loop_step(&loop, 1), 0);
	}
}

static void expect(const char *text)
{
	expect_times(text, 1);
}

static void expect_stop(enum vm_stop_reason reason, uint8_t code)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;

	while (stops == 0) {
		ck_assert_msg(loop_now_ns() < deadline, "no end; output '%s'", serial.text);
		ck_assert_int_eq(loop_step(&loop, 10), 0);
	}
	ck_assert_msg(last_stop.reason == reason && last_stop.code == code,
		      "reason %d code %u error '%s' output '%s'", last_stop.reason, last_stop.code,
		      last_stop.error.msg, serial.text);
	ck_assert_int_eq(vm_state(vm), VM_STOPPED);
	rounds(3);
	ck_assert_int_eq(stops, 1);
}

static uint64_t exits(void)
{
	struct vm_stats stats;

	vm_stats(vm, &stats);
	return stats.exits_io + stats.exits_mmio + stats.exits_other;
}

static uint64_t resets(void)
{
	struct vm_stats stats;

	vm_stats(vm, &stats);
	return stats.resets;
}

/* Main is busy elsewhere meanwhile: the loop does not run. */
static void wait_for_exits(uint64_t count)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;

	while (exits() < count) {
		const struct timespec moment = { .tv_nsec = 1000000 };

		ck_assert_msg(loop_now_ns() < deadline, "%llu exits, not %llu",
			      (unsigned long long)exits(), (unsigned long long)count);
		(void)nanosleep(&moment, NULL);
	}
}

static int entries(const char *path)
{
	DIR *directory = opendir(path);
	int count = 0;

	ck_assert_ptr_nonnull(directory);
	while (readdir(directory) != NULL) {
		count++;
	}
	(void)closedir(directory);
	return count;
}

struct holdings {
	int descriptors, threads;
};

static struct holdings holdings(void)
{
	return (struct holdings){ entries("/proc/self/fd"), entries("/proc/self/task") };
}

/* A thread that was joined may be seen for a moment more. */
static void check_nothing_kept(struct holdings before, const char *what)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;
	struct holdings now = holdings();

	while ((now.threads > before.threads || now.descriptors > before.descriptors) &&
	       loop_now_ns() < deadline) {
		rounds(1);
		now = holdings();
	}
	ck_assert_msg(now.descriptors == before.descriptors && now.threads <= before.threads,
		      "%s: %d descriptors were %d, %d threads were %d", what, now.descriptors,
		      before.descriptors, now.threads, before.threads);
}

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
	config.nets[0] = (struct vm_net_config){ .kind = VM_NET_TAP, .tap = "nosuchtap" };
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
	{ miss_tap, ERROR_NET, "nosuchtap" },
	{ miss_tap_late, ERROR_NET, "nosuchtap" },
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
	check_ok(vm_start(vm, &e), &e);
	if (stage == SPOKEN || stage == PAUSED || stage == RESET) {
		expect("start");
	}
	if (stage == PAUSED) {
		check_ok(vm_pause(vm, &e), &e);
	} else if (stage == RESET) {
		check_ok(vm_reset(vm, &e), &e);
	} else if (stage == EVENT_ON_ITS_WAY) {
		wait_for_exits(2);
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
		vm_destroy(vm);
		vm = NULL;
		rounds(5);
		ck_assert_int_eq(stops, heard);
		check_nothing_kept(before, "destroy");
		screen_init(&serial);
		stops = 0;
	}
	vm_destroy(NULL);
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

		check_ok(vm_pause(vm, &e), &e);
		ck_assert_int_eq(vm_state(vm), VM_PAUSED);
		then = exits();
		rounds(2);
		ck_assert_uint_eq(exits(), then);
		check_ok(vm_resume(vm, &e), &e);
		ck_assert_int_eq(vm_state(vm), VM_RUNNING);
		/* An interrupt's acknowledgement is an exit: requests are being completed. */
		wait_for_exits(then + 20);
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
	use_guest("test=block-load requests=3000");
	start();
	expect("start");
	while (stops == 0 && loop_now_ns() < deadline) {
		if (vm_state(vm) == VM_RUNNING) {
			check_ok(vm_pause(vm, &e), &e);
			check_ok(vm_resume(vm, &e), &e);
			pauses++;
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
		check_ok(vm_pause(vm, &e), &e);
		check_ok(vm_resume(vm, &e), &e);
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
		check_ok(vm_pause(vm, &e), &e);
		check_ok(vm_resume(vm, &e), &e);
		wait_for_exits(exits() + 20);
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
		check_ok(vm_reset(vm, &e), &e);
	}
	ck_assert_uint_eq(resets(), 20);
	ck_assert_int_eq(vm_state(vm), VM_RUNNING);
	/* The first byte comes again after each reset that leaves the time for it. */
	for (unsigned i = 0; i < 20; i++) {
		unsigned before;

		check_ok(vm_reset(vm, &e), &e);
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
	ck_assert_int_lt(vm_reset(vm, &e), 0);
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
		wait_for_exits(exits() + 5);
		check_ok(vm_reset(vm, &e), &e);
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
	check_refused(vm_pause, "pause");
	check_refused(vm_resume, "resume");
	check_refused(vm_reset, "reset");
	check_refused(vm_press_power_button, "power button");
	check_refused(vm_press_ctrl_alt_del, "Ctrl-Alt-Del");
	check_ok(vm_start(vm, &e), &e);
	check_refused(vm_start, "start");
	check_refused(vm_resume, "resume");
	check_refused(vm_press_ctrl_alt_del, "Ctrl-Alt-Del");
	check_ok(vm_pause(vm, &e), &e);
	check_refused(vm_start, "start");
	check_refused(vm_pause, "pause");
	check_refused(vm_reset, "reset");
	check_refused(vm_press_power_button, "power button");
	ck_assert_uint_eq(resets(), 0);
	check_ok(vm_resume(vm, &e), &e);
	expect("spinning");
	vm_stop(vm);
	check_refused(vm_start, "start");
	check_refused(vm_pause, "pause");
	check_refused(vm_resume, "resume");
	check_refused(vm_reset, "reset");
	check_refused(vm_press_power_button, "power button");
	expect_stop(VM_STOP_REQUESTED, 0);
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
	wait_for_exits(2);
	check_ok(vm_pause(vm, &e), &e);
	rounds(5);
	ck_assert_int_eq(stops, 0);
	ck_assert_int_eq(vm_state(vm), VM_PAUSED);
	check_ok(vm_resume(vm, &e), &e);
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
	check_ok(vm_pause(vm, &e), &e);
	rounds(5);
	ck_assert_uint_eq(resets(), 0);
	check_ok(vm_resume(vm, &e), &e);
	expect_times("ending by reset", 3);
	ck_assert_uint_ge(resets(), 2);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

/* A stop that is asked for wins over an event that main has not seen. */
START_TEST(test_stop_before_event)
{
	use_hello();
	start();
	wait_for_exits(2);
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

/* Gives the device all of `text`, as it takes it. */
static void type(size_t (*input)(struct vm *, const uint8_t *, size_t), const char *text)
{
	size_t len = strlen(text), sent = 0;
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;

	while (sent < len) {
		sent += input(vm, (const uint8_t *)text + sent, len - sent);
		ck_assert_msg(loop_now_ns() < deadline, "%zu bytes taken of '%s'", sent, text);
		rounds(1);
	}
}

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
		check_ok(vm_pause(vm, &e), &e);
		check_ok(vm_resume(vm, &e), &e);
		check_ok(vm_reset(vm, &e), &e);
	}
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

/* ---- changes while it runs ---- */

static char other_path[64];

static void make_other(uint64_t size)
{
	int fd;

	(void)snprintf(other_path, sizeof(other_path), "/tmp/vmm-test-other-XXXXXX");
	fd = mkstemp(other_path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	(void)close(fd);
}

/* Another file, the same one again (larger), and back, while the guest transfers: it loses nothing,
 * and nothing stays open. */
START_TEST(test_replace_disk)
{
	static const int engines[] = { BLOCK_ENGINE_AUTO, BLOCK_ENGINE_SYNC };
	const char *paths[] = { other_path, disk_path, disk_path };
	struct holdings before;

	make_other(MIB(16));
	use_disk();
	config.disks[0].engine = engines[_i % 2];
	use_guest("test=block-load write=1 requests=1000000000");
	start();
	expect("start");
	wait_for_exits(exits() + 20);
	check_ok(vm_replace_disk(vm, 0, disk_path, &e), &e);
	before = holdings();
	for (int i = 0; i < 30; i++) {
		if (_i / 2 == 1) {
			check_ok(vm_pause(vm, &e), &e);
		}
		check_ok(vm_replace_disk(vm, 0, paths[i % 3], &e), &e);
		if (_i / 2 == 1) {
			check_ok(vm_resume(vm, &e), &e);
		}
		wait_for_exits(exits() + 20);
		ck_assert_int_eq(stops, 0);
	}
	check_nothing_kept(before, "replaced disks");
	/* After a reset the machine has the disk that it was given last. */
	check_ok(vm_reset(vm, &e), &e);
	expect_times("start", 2);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	(void)unlink(other_path);
}
END_TEST

START_TEST(test_replace_disk_refused)
{
	const struct block_config busy = { .path = other_path, .engine = BLOCK_ENGINE_SYNC };
	struct block *holder = NULL;
	struct holdings before;

	make_other(MIB(8));
	check_ok(block_open(&holder, &busy, &e), &e);
	use_disk();
	use_guest("test=block-load requests=1000000000");
	create();
	ck_assert_int_lt(vm_replace_disk(vm, 0, disk_path, &e), 0);
	check_error(&e, ERROR_CONFIG, "does not run");
	check_ok(vm_start(vm, &e), &e);
	expect("start");
	before = holdings();
	ck_assert_int_lt(vm_replace_disk(vm, 0, "/nowhere/disk", &e), 0);
	check_error(&e, ERROR_DISK, "replace disk vda: open '/nowhere/disk'");
	ck_assert_int_lt(vm_replace_disk(vm, 0, other_path, &e), 0);
	check_error(&e, ERROR_DISK_LOCKED, other_path);
	ck_assert_int_lt(vm_replace_disk(vm, 0, "/tmp", &e), 0);
	check_error(&e, ERROR_DISK, "is a directory");
	ck_assert_int_lt(vm_replace_disk(vm, 1, disk_path, &e), 0);
	check_error(&e, ERROR_CONFIG, "disk 1: the VM has 1");
	ck_assert_int_lt(vm_limit_disk(vm, 1, &(struct rate_limit_config){ 0 }, &e), 0);
	ck_assert_int_lt(vm_limit_net(vm, 0, NULL, NULL, &e), 0);
	check_error(&e, ERROR_CONFIG, "network card 0: the VM has 0");
	check_nothing_kept(before, "refusals");
	wait_for_exits(exits() + 20);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	ck_assert_int_lt(vm_replace_disk(vm, 0, disk_path, &e), 0);
	check_error(&e, ERROR_CONFIG, "does not run");
	block_close(holder);
	(void)unlink(other_path);
}
END_TEST

static uint64_t disk_reads(void)
{
	static const char name[] = "\nvmm_disk_reads_total{device=\"vda\"} ";
	struct metrics_text text = { 0 };
	const char *at;
	uint64_t value;

	vm_write_metrics(vm, &text);
	ck_assert(!text.failed);
	at = strstr(text.data, name);
	ck_assert_msg(at != NULL, "no reads in:\n%s", text.data);
	value = strtoull(at + strlen(name), NULL, 10);
	free(text.data);
	return value;
}

/* A limit from the start stops the guest's transfers, and lifting it lets them go on. */
START_TEST(test_limit_disk)
{
	const struct rate_limit_config none = { .has_ops = true };

	use_disk();
	config.disks[0].has_limiter = true;
	config.disks[0].limiter =
		(struct rate_limit_config){ .ops = { 100, 0, 3600000 }, .has_ops = true };
	use_guest("test=block-load requests=3000");
	start();
	expect("start");
	while (disk_reads() < 100) {
		rounds(1);
	}
	ck_assert_uint_eq(disk_reads(), 100);
	check_ok(vm_pause(vm, &e), &e);
	check_ok(vm_resume(vm, &e), &e);
	rounds(20);
	ck_assert_uint_eq(disk_reads(), 100);
	check_ok(vm_limit_disk(vm, 0, &none, &e), &e);
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
	ck_assert_uint_eq(disk_reads(), 3000);
}
END_TEST

/* Main, in its filter, opens another file by either engine; a refusal does not end it either. */
static void replace_in_sandbox(void)
{
	config.sandbox = SANDBOX_ON;
	start();
	expect("start");
	for (int i = 0; i < 6; i++) {
		check_ok(vm_replace_disk(vm, 0, i % 2 == 0 ? other_path : disk_path, &e), &e);
		wait_for_exits(exits() + 20);
	}
	check_ok(vm_replace_disk(vm, 0, disk_path, &e), &e);
	ck_assert_int_lt(vm_replace_disk(vm, 0, "/nowhere/disk", &e), 0);
	ck_assert_int_lt(vm_replace_disk(vm, 0, "/tmp", &e), 0);
	ck_assert_int_lt(vm_replace_disk(vm, 0, "/dev/null", &e), 0);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	vm_destroy(vm);
	vm = NULL;
}

START_TEST(test_replace_disk_in_sandbox)
{
	int status;
	pid_t pid;

	if (SANITIZED) {
		CHECK_SKIP("built with a sanitizer");
	}
	make_other(MIB(16));
	use_disk();
	config.disks[0].engine = _i == 0 ? BLOCK_ENGINE_AUTO : BLOCK_ENGINE_SYNC;
	use_guest("test=block-load requests=1000000000");
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		replace_in_sandbox();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status 0x%x",
		      (unsigned int)status);
	(void)unlink(other_path);
}
END_TEST

/* ---- what it looks like ---- */

static int heard_resets;

static void was_reset(struct vm_host *h)
{
	ck_assert_ptr_eq(h, &host);
	heard_resets++;
}

START_TEST(test_was_reset)
{
	host.was_reset = was_reset;
	heard_resets = 0;
	use_disk();
	use_guest("test=reboot mode=reset count=3");
	start();
	expect_stop(VM_STOP_POWER_OFF, 0);
	ck_assert_int_eq(heard_resets, 2);
	vm_destroy(vm);
	stops = 0;
	use_guest("test=exit mode=spin");
	start();
	expect("spinning");
	check_ok(vm_reset(vm, &e), &e);
	/* From the loop, and never after the VM is gone. */
	ck_assert_int_eq(heard_resets, 2);
	rounds(2);
	ck_assert_int_eq(heard_resets, 3);
	check_ok(vm_reset(vm, &e), &e);
	vm_destroy(vm);
	vm = NULL;
	rounds(3);
	ck_assert_int_eq(heard_resets, 3);
	host.was_reset = NULL;
}
END_TEST

START_TEST(test_metrics)
{
	static const char *const names[] = {
		"vmm_resets_total 0\n",
		"vmm_vcpu_exits_total{vcpu=\"0\",reason=\"io\"} ",
		"vmm_vcpu_exits_total{vcpu=\"1\",reason=\"mmio\"} ",
		"vmm_vcpu_cpu_seconds_total{vcpu=\"1\"} ",
		"vmm_disk_written_bytes_total{device=\"vda\"} 0\n",
		"vmm_disk_errors_total{device=\"vdb\"} 0\n",
		"vmm_console_output_bytes_total{device=\"hvc0\"} 0\n",
		"vmm_entropy_bytes_total{device=\"rng0\"} 0\n",
	};
	struct metrics_text text = { 0 };
	struct vm_vcpu_stats stats;
	struct vm_stats all;

	config.machine.vcpus = 2;
	config.console = config.entropy = true;
	make_other(MIB(8));
	use_disk();
	config.disks[1] = (struct block_config){ .path = other_path };
	config.disk_count = 2;
	use_guest("test=block-load requests=1000000000");
	create();
	ck_assert_uint_eq(vm_vcpu_count(vm), 2);
	check_ok(vm_start(vm, &e), &e);
	expect("start");
	wait_for_exits(exits() + 50);
	check_ok(vm_pause(vm, &e), &e);
	vm_stats(vm, &all);
	vm_vcpu_stats(vm, 0, &stats);
	ck_assert_uint_gt(stats.cpu_time_ns, 0);
	all.exits_io -= stats.exits_io;
	all.exits_mmio -= stats.exits_mmio;
	all.exits_other -= stats.exits_other;
	vm_vcpu_stats(vm, 1, &stats);
	ck_assert_uint_eq(all.exits_io, stats.exits_io);
	ck_assert_uint_eq(all.exits_mmio, stats.exits_mmio);
	ck_assert_uint_eq(all.exits_other, stats.exits_other);
	vm_write_metrics(vm, &text);
	ck_assert(!text.failed);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		ck_assert_msg(strstr(text.data, names[i]) != NULL, "no %s in:\n%s", names[i],
			      text.data);
	}
	ck_assert_ptr_null(strstr(text.data, "vmm_net_"));
	free(text.data);
	ck_assert_uint_gt(disk_reads(), 0);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	(void)unlink(other_path);
}
END_TEST

/* What the guest has read: eax, ebx, ecx, edx. */
static void guest_cpuid(const char *leaf, uint32_t regs[4])
{
	const char *at = strstr(serial.text, leaf);

	ck_assert_msg(at != NULL && sscanf(at + strlen(leaf), " %x %x %x %x", &regs[0], &regs[1],
					   &regs[2], &regs[3]) == 4,
		      "no '%s' in '%s'", leaf, serial.text);
}

static void run_cpuid_guest(void)
{
	use_guest("test=cpuid");
	start();
	while (stops == 0) {
		rounds(1);
	}
	ck_assert_int_eq((int)last_stop.reason, VM_STOP_DEBUG_EXIT);
}

START_TEST(test_cpu_template)
{
	static struct cpu_template template;

	template = (struct cpu_template){
		.cpuid_count = 1,
		.cpuid = { { 0x40000000, 0, 0, CPUID_EAX, 0x0000ff00, 0x12345678 } },
		.msr_count = 1,
		.msrs = { { 0x174, 0xff, 0x55 } }, /* IA32_SYSENTER_CS */
	};
	config.machine.vcpus = 2;
	config.cpu_template = &template;
	use_guest("test=cpuid");
	create();
	memset(&template, 0xff, sizeof(template)); /* borrowed by vm_create() only */
	check_ok(vm_start(vm, &e), &e);
	while (stops == 0) {
		rounds(1);
	}
	/* A leaf that no hypervisor below this one has a mind of its own about. */
	ck_assert_msg(strstr(serial.text, "hypervisor leaves to 40005610 ") != NULL, "%s",
		      serial.text);
}
END_TEST

static const struct template_row {
	struct cpu_template template;
	const char *text;
} bad_templates[] = {
	{ { .cpuid_count = 1, .cpuid = { { 0x77777777, 0, 0, CPUID_EAX, 1, 1 } } }, "0x77777777" },
	{ { .cpuid_count = 1, .cpuid = { { 0x1, 9, 0, CPUID_EAX, 1, 1 } } }, "subleaf 0x9" },
	{ { .cpuid_count = 1, .cpuid = { { 0x1, 0, 1, CPUID_EAX, 1, 1 } } }, "flags 0x1" },
	{ { .cpuid_count = 1, .cpuid = { { 0x1, 0, 0, 9, 1, 1 } } }, "no register 9" },
	{ { .msr_count = 2, .msrs = { { 0x174, 0, 0 }, { 0xdeadbeef, 1, 1 } } }, "0xdeadbeef" },
	/* EFER with a reserved bit. */
	{ { .msr_count = 1, .msrs = { { 0xc0000080, UINT64_MAX, UINT64_MAX } } }, "0xc0000080" },
};

START_TEST(test_bad_cpu_templates)
{
	config.cpu_template = &bad_templates[_i].template;
	use_guest("test=cpuid");
	create();
	ck_assert_int_lt(vm_start(vm, &e), 0);
	check_error(&e, ERROR_CONFIG, bad_templates[_i].text);
	check_error(&e, ERROR_CONFIG, "CPU template");
	ck_assert_str_ne(e.msg, "");
}
END_TEST

static const struct smt_row {
	uint32_t vcpus;
	bool smt;
	uint32_t threads;
} smt_rows[] = { { 1, true, 1 }, { 2, true, 2 }, { 2, false, 1 }, { 6, true, 2 } };

START_TEST(test_smt)
{
	uint32_t regs[4];

	config.machine.vcpus = smt_rows[_i].vcpus;
	config.machine.smt = smt_rows[_i].smt;
	run_cpuid_guest();
	if (strstr(serial.text, "cpuid 0000000b.1") != NULL) {
		guest_cpuid("cpuid 0000000b.0", regs);
		ck_assert_uint_eq(regs[0], smt_rows[_i].threads - 1);
		ck_assert_uint_eq(regs[1], smt_rows[_i].threads);
		guest_cpuid("cpuid 0000000b.1", regs);
		ck_assert_uint_eq(regs[1], smt_rows[_i].vcpus);
	}
}
END_TEST

static void *create_elsewhere(void *arg)
{
	*(int *)arg = vm_create(&vm, &config, &host, &e);
	return NULL;
}

/* Another thread may open everything, if it has ended before the start. */
START_TEST(test_create_on_another_thread)
{
	pthread_t thread;
	int r = -1;

	config.machine.vcpus = 4;
	config.console = config.entropy = true;
	use_disk();
	use_guest("test=block-load requests=3000");
	ck_assert_int_eq(pthread_create(&thread, NULL, create_elsewhere, &r), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	check_ok(r, &e);
	check_ok(vm_start(vm, &e), &e);
	expect("start");
	check_ok(vm_pause(vm, &e), &e);
	check_ok(vm_resume(vm, &e), &e);
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
}
END_TEST

static void skip_without_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		printf("1..0 # SKIP /dev/kvm cannot be opened\n");
		exit(EXIT_SUCCESS);
	}
}

CHECK_MAIN("vm", skip_without_kvm(); CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_hello);
	   CHECK_TABLE(test_ends, ends); CHECK_TABLE(test_refusals, refusals);
	   CHECK_LOOP(test_destroy, STAGES); CHECK_LOOP(test_pause_during_transfers, 2);
	   CHECK_TEST(test_pause_loses_nothing); CHECK_LOOP(test_pause_of_quiet_guests, 2);
	   CHECK_TEST(test_pause_within_instructions); CHECK_TEST(test_reset_at_once);
	   CHECK_TEST(test_reset_fails); CHECK_TEST(test_reset_during_transfers);
	   CHECK_TEST(test_guest_resets); CHECK_TEST(test_states); CHECK_LOOP(test_stop, 4);
	   CHECK_TEST(test_event_while_paused); CHECK_TEST(test_reset_while_paused);
	   CHECK_TEST(test_stop_before_event); CHECK_TEST(test_power_button);
	   CHECK_TEST(test_serial_input); CHECK_TEST(test_hvc_input); CHECK_TEST(test_no_consoles);
	   CHECK_LOOP(test_vcpus, 3); CHECK_TEST(test_life_of_32); CHECK_LOOP(test_replace_disk, 4);
	   CHECK_TEST(test_replace_disk_refused); CHECK_TEST(test_limit_disk);
	   CHECK_LOOP(test_replace_disk_in_sandbox, 2); CHECK_TEST(test_was_reset);
	   CHECK_TEST(test_metrics); CHECK_TEST(test_cpu_template);
	   CHECK_TABLE(test_bad_cpu_templates, bad_templates); CHECK_TABLE(test_smt, smt_rows);
	   CHECK_TEST(test_create_on_another_thread))
