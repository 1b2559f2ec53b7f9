/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be changed and seen of a VM while it runs, and how its CPUs look, with real KVM and
 * bare-metal guests. In this process, without the sandbox; one test enters it in a child.
 */
#include <malloc.h>
#include <sys/wait.h>

#include "../../src/vmm/arch.h"
#include "../../src/vmm/vm_internal.h"
#include "../../src/vmm/x86/baseline.h"
#include "../../src/vmm/x86/static_templates.h"
#include "../../src/vmm/x86/vcpu.h"
#include "harness/vm_rig.h"

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
	config.disks[0].queues = _i < 4 ? 1 : 3;
	use_guest("test=block-load write=1 requests=1000000000");
	start();
	expect("start");
	wait_for_progress(progress() + 20);
	check_ok(do_replace_disk(vm, "vda", disk_path, &e), &e);
	before = holdings();
	for (int i = 0; i < 30; i++) {
		if (_i / 2 % 2 == 1) {
			check_ok(do_pause(vm, &e), &e);
		}
		check_ok(do_replace_disk(vm, "vda", paths[i % 3], &e), &e);
		if (_i / 2 % 2 == 1) {
			check_ok(do_resume(vm, &e), &e);
		}
		wait_for_progress(progress() + 20);
		ck_assert_int_eq(stops, 0);
	}
	check_nothing_kept(before, "replaced disks");
	/* After a reset the machine has the disk that it was given last. */
	check_ok(do_reset(vm, &e), &e);
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
	ck_assert_int_lt(do_replace_disk(vm, "vda", disk_path, &e), 0);
	check_error(&e, ERROR_CONFIG, "does not run");
	check_ok(do_start(vm, &e), &e);
	expect("start");
	before = running_holdings();
	ck_assert_int_lt(do_replace_disk(vm, "vda", "/nowhere/disk", &e), 0);
	check_error(&e, ERROR_DISK, "replace disk vda: open '/nowhere/disk'");
	ck_assert_int_lt(do_replace_disk(vm, "vda", other_path, &e), 0);
	check_error(&e, ERROR_DISK_LOCKED, other_path);
	ck_assert_int_lt(do_replace_disk(vm, "vda", "/tmp", &e), 0);
	check_error(&e, ERROR_DISK, "is a directory");
	ck_assert_int_lt(do_replace_disk(vm, "vdb", disk_path, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "the VM has no disk 'vdb'");
	ck_assert_int_lt(do_limit_disk(vm, "vdb", &(struct rate_limit_config){ 0 }, &e), 0);
	ck_assert_int_lt(do_limit_net(vm, "net0", NULL, NULL, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "the VM has no net 'net0'");
	check_nothing_kept(before, "refusals");
	wait_for_progress(progress() + 20);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	ck_assert_int_lt(do_replace_disk(vm, "vda", disk_path, &e), 0);
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
	check_ok(do_pause(vm, &e), &e);
	check_ok(do_resume(vm, &e), &e);
	rounds(20);
	ck_assert_uint_eq(disk_reads(), 100);
	check_ok(do_limit_disk(vm, "vda", &none, &e), &e);
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
	ck_assert_uint_eq(disk_reads(), 3000);
}
END_TEST

static char locked_path[] = "/tmp/vmm-test-locked-XXXXXX";
static char small_path[] = "/tmp/vmm-test-small-XXXXXX";

/* Main, in its filter, opens another file by either engine; a refusal does not end it either. */
static void replace_in_sandbox(void)
{
	config.sandbox = SANDBOX_ON;
	start();
	expect("start");
	for (int i = 0; i < 6; i++) {
		check_ok(do_replace_disk(vm, "vda", i % 2 == 0 ? other_path : disk_path, &e), &e);
		wait_for_progress(progress() + 20);
	}
	check_ok(do_replace_disk(vm, "vda", disk_path, &e), &e);
	ck_assert_int_lt(do_replace_disk(vm, "vda", "/nowhere/disk", &e), 0);
	ck_assert_int_lt(do_replace_disk(vm, "vda", "/tmp", &e), 0);
	ck_assert_int_lt(do_replace_disk(vm, "vda", "/dev/ptmx", &e), 0);
	ck_assert_int_lt(do_replace_disk(vm, "vda", "/proc/self/fd/9999", &e), 0);
	ck_assert_int_lt(do_replace_disk(vm, "vda", locked_path, &e), 0);
	check_error(&e, ERROR_DISK_LOCKED, "another process");
	/* None at all, and one that is smaller: taken, as Firecracker does, and told of. */
	check_ok(do_pause(vm, &e), &e);
	check_ok(do_replace_disk(vm, "vda", "/dev/null", &e), &e);
	check_ok(do_replace_disk(vm, "vda", other_path, &e), &e);
	check_ok(do_replace_disk(vm, "vda", small_path, &e), &e);
	check_ok(do_replace_disk(vm, "vda", disk_path, &e), &e);
	check_ok(do_resume(vm, &e), &e);
	wait_for_progress(progress() + 20);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	ck_assert(vm_destroy(vm));
	vm = NULL;
}

START_TEST(test_replace_disk_in_sandbox)
{
	const struct block_config locked = { .path = locked_path, .engine = BLOCK_ENGINE_SYNC };
	struct block *holder = NULL;
	int status, fd;
	pid_t pid;

	if (SANITIZED) {
		CHECK_SKIP("built with a sanitizer");
	}
	make_other(MIB(16));
	use_disk();
	config.disks[0].engine = _i % 2 == 0 ? BLOCK_ENGINE_AUTO : BLOCK_ENGINE_SYNC;
	config.disks[0].queues = _i < 2 ? 1 : 2;
	use_guest("test=block-load requests=1000000000");
	fd = mkstemp(locked_path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)MIB(1)), 0);
	(void)close(fd);
	fd = mkstemp(small_path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 1000), 0);
	(void)close(fd);
	check_ok(block_open(&holder, &locked, &e), &e);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		replace_in_sandbox();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	block_close(holder);
	(void)unlink(locked_path);
	(void)unlink(small_path);
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
	ck_assert(vm_destroy(vm));
	stops = 0;
	use_guest("test=exit mode=spin");
	start();
	expect("spinning");
	check_ok(do_reset(vm, &e), &e);
	/* From the loop, and never after the VM is gone. */
	ck_assert_int_eq(heard_resets, 2);
	rounds(2);
	ck_assert_int_eq(heard_resets, 3);
	check_ok(do_reset(vm, &e), &e);
	ck_assert(vm_destroy(vm));
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
	check_ok(do_start(vm, &e), &e);
	expect("start");
	wait_for_progress(progress() + 50);
	check_ok(do_pause(vm, &e), &e);
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
	check_ok(do_start(vm, &e), &e);
	while (stops == 0) {
		rounds(1);
	}
	/* A leaf that no hypervisor below this one has a mind of its own about. */
	ck_assert_msg(strstr(serial.text, "hypervisor leaves to 40005610 ") != NULL, "%s",
		      serial.text);
}
END_TEST

static struct template_row {
	struct cpu_template template;
	const char *text;
} bad_templates[] = {
	{ { .cpuid_count = 1, .cpuid = { { 0x77777777, 0, 0, CPUID_EAX, 1, 1 } } }, "0x77777777" },
	{ { .cpuid_count = 1, .cpuid = { { 0x1, 9, 0, CPUID_EAX, 1, 1 } } }, "subleaf 0x9" },
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
	ck_assert_int_lt(do_start(vm, &e), 0);
	check_error(&e, ERROR_CONFIG, bad_templates[_i].text);
	check_error(&e, ERROR_CONFIG, "CPU template");
	ck_assert_str_ne(e.msg, "");
}
END_TEST

/* Firecracker's named templates are for some hosts; their bits make a CPU that runs on others. */
START_TEST(test_static_template)
{
	struct cpu_template template;
	struct host_cpu cpu;
	bool amd;

	host_cpu_read(&cpu);
	amd = strcmp(cpu.vendor, "AuthenticAMD") == 0;
	config.machine.cpu_template = amd ? VM_CPU_TEMPLATE_T2 : VM_CPU_TEMPLATE_T2A;
	use_guest("test=cpuid");
	ck_assert_int_lt(vm_create(&vm, &config, &host, &e), 0);
	check_error(&e, ERROR_CONFIG, "Failed to get CPU template: CPU vendor mismatched");
	check_error(&e, ERROR_CONFIG, cpu.vendor);
	if (!amd && strcmp(cpu.vendor, "GenuineIntel") != 0) {
		CHECK_SKIP("neither Intel's nor AMD's CPU");
	}
	cpu.signature = amd ? 0x00a00f11 : 0x00050654;
	check_ok(static_template_make(&template, amd ? VM_CPU_TEMPLATE_T2A : VM_CPU_TEMPLATE_T2,
				      &cpu, &e),
		 &e);
	config.machine.cpu_template = VM_CPU_TEMPLATE_NONE;
	config.cpu_template = &template;
	run_cpuid_guest();
	ck_assert_msg(strstr(serial.text, "cpuid 00000001.0 000306f2") != NULL, "%s", serial.text);
}
END_TEST

/* What vCPU 0 was given, as it is saved. KVM is asked as well if it answers with that, and not with what its own processor has. */
static void read_given(struct cpu_baseline *given)
{
	struct cpuid cpuid = { .count = CPUID_ENTRIES_MAX };
	struct cpu_baseline kvms;

	check_ok(arch_vcpu_capture(&vm->vcpus.list[0], &e), &e);
	baseline_of_table(given, &vm->vcpus.list[0].arch->saved->given);
	if (!kvm_has_hardware()) {
		return;
	}
	ck_assert_int_eq(kvm_ioctl(vm->vcpus.list[0].fd, KVM_GET_CPUID2, &cpuid), 0);
	baseline_of_table(&kvms, &cpuid);
	ck_assert(memcmp(kvms.must, given->must, sizeof(kvms.must)) == 0);
}

static uint32_t place_of(uint32_t leaf, uint32_t reg)
{
	uint32_t i = 0;

	while (cpu_baseline_place(i)->leaf != leaf || cpu_baseline_place(i)->reg != reg) {
		i++;
	}
	return i;
}

/*
 * A level that this host has shows no more than it has; of one that it has not the start names what is missing. The guest reads it
 * as KVM has it, but where KVM shows guests more than it supports.
 */
START_TEST(test_cpu_levels)
{
	struct cpu_baseline level, have, given;
	uint32_t regs[4], lacks = 0;

	cpu_baseline_of_level(&level, (enum vm_cpu_level)_i);
	check_ok(cpu_baseline_read_host(&have, &e), &e);
	for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
		lacks |= level.must[i] & ~have.must[i];
	}
	config.machine.cpu_level = _i;
	use_guest("test=cpuid");
	create();
	if (lacks != 0) {
		ck_assert_int_lt(do_start(vm, &e), 0);
		check_error(&e, ERROR_CONFIG, level.name);
		check_error(&e, ERROR_CONFIG, "this host has not");
		return;
	}
	check_ok(vm_start(vm, true, &e), &e);
	read_given(&given);
	for (uint32_t i = 0; i < CPU_BASELINE_PLACES; i++) {
		ck_assert_uint_eq(given.must[i] & ~level.must[i] & ~level.may[i], 0);
		ck_assert_uint_eq(level.must[i] & ~given.must[i], 0);
	}
	check_ok(do_resume(vm, &e), &e);
	while (stops == 0) {
		rounds(1);
	}
	if (!kvm_has_hardware()) {
		CHECK_SKIP("this KVM shows guests its own processor's CPUID");
	}
	guest_cpuid("cpuid 00000001.0", regs);
	ck_assert_uint_eq(regs[2] & ~cpu_baseline_place(0)->ours, given.must[0]);
	guest_cpuid("cpuid 00000007.0", regs);
	ck_assert_uint_eq(regs[1], given.must[place_of(7, CPUID_EBX)]);
	ck_assert_uint_eq(regs[3], given.must[place_of(7, CPUID_EDX)]);
}
END_TEST

/* One of this host's own, less a bit: the guest starts, and that bit is not there. With a bit more it does not. */
START_TEST(test_own_baseline)
{
	static struct cpu_template template;
	struct cpu_baseline *own = &template.baselines[0], given;
	/* MMX: every processor has it, and nothing that this guest does needs it. */
	const uint32_t place = place_of(1, CPUID_EDX), bit = 1U << 23;

	template = (struct cpu_template){ .baseline_count = 1 };
	check_ok(cpu_baseline_read_host(own, &e), &e);
	ck_assert_uint_ne(own->must[place] & bit, 0);
	own->must[place] &= ~bit;
	config.cpu_template = &template;
	use_guest("test=cpuid");
	create();
	check_ok(vm_start(vm, true, &e), &e);
	read_given(&given);
	ck_assert_uint_eq(given.must[place] & bit, 0);
	ck_assert_uint_ne(given.must[place], 0);
	check_ok(do_resume(vm, &e), &e);
	while (stops == 0) {
		rounds(1);
	}
	ck_assert_int_eq((int)last_stop.reason, VM_STOP_DEBUG_EXIT);
	ck_assert(vm_destroy(vm));
	vm = NULL;
	/* IA64: no processor of this kind has it. */
	own->must[place] |= 1U << 30;
	create();
	ck_assert_int_lt(do_start(vm, &e), 0);
	check_error(&e, ERROR_CONFIG, "this host has not 0x1.0 EDX bit 30");
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

/* A word of a VM whose threads set themselves up meanwhile. */
static __attribute__((noinline, no_sanitize("thread"))) uintptr_t peek(const void *at)
{
	return *(const volatile uintptr_t *)at;
}

/* What the configuration lent may change or go, as a drive's path does when it is replaced. */
START_TEST(test_nothing_stays_borrowed)
{
	char *const strings[] = {
		strdup(environment("VMM_TEST_GUEST")),
		strdup("test=block-load requests=1000000"),
		strdup(disk_path),
		strdup("disk"),
		strdup("a-vm"),
		strdup("12345678-01"),
		strdup(disk_path),
	};
	uintptr_t word;

	config.boot.kernel = strings[0];
	config.boot.cmdline_only = strings[1];
	config.disks[0] = (struct block_config){
		.path = strings[2], .id = strings[3], .root = true, .partuuid = strings[5]
	};
	config.disk_count = 1;
	config.name = strings[4];
	config.boot.initrd = strings[6];
	create();
	for (size_t at = 0; at + sizeof(word) <= malloc_usable_size(vm); at += sizeof(word)) {
		word = peek((const uint8_t *)vm + at);
		for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
			ck_assert_msg(word < (uintptr_t)strings[i] ||
					      word > (uintptr_t)strings[i] + strlen(strings[i]),
				      "%zu: '%s'", at, strings[i]);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
		memset(strings[i], '?', strlen(strings[i]));
		free(strings[i]);
	}
	memset(&config, 0xff, sizeof(config));
	check_ok(do_start(vm, &e), &e);
	expect("start");
	check_ok(do_reset(vm, &e), &e);
	expect_times("start", 2);
	check_ok(do_replace_disk(vm, "disk", disk_path, &e), &e);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
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
	/* Paused from the start: a guest that runs may be through before it is paused. */
	check_ok(vm_start(vm, true, &e), &e);
	check_ok(do_resume(vm, &e), &e);
	expect("start");
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
}
END_TEST

CHECK_MAIN("vm_changes", skip_without_kvm(); CHECK_FIXTURE(setup, teardown);
	   CHECK_LOOP(test_replace_disk, 8); CHECK_TEST(test_replace_disk_refused);
	   CHECK_TEST(test_limit_disk); CHECK_LOOP(test_replace_disk_in_sandbox, 4);
	   CHECK_TEST(test_was_reset); CHECK_TEST(test_metrics); CHECK_TEST(test_cpu_template);
	   CHECK_TABLE(test_bad_cpu_templates, bad_templates); CHECK_TEST(test_static_template);
	   tcase_add_loop_test(check_tcase_, test_cpu_levels, VM_CPU_LEVEL_V2, VM_CPU_LEVELS);
	   CHECK_TEST(test_own_baseline); CHECK_TABLE(test_smt, smt_rows);
	   CHECK_TEST(test_create_on_another_thread); CHECK_TEST(test_nothing_stays_borrowed))
