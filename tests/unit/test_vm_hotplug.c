/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and cards that come and go while a VM runs, with real KVM and a bare-metal guest that is
 * firmware and driver: each is used, given back, forgotten about, thrown away under load; what a reset, a
 * pause and the end make of it; what is refused. One test does it within the sandbox.
 */
#include <sys/socket.h>
#include <sys/wait.h>

#include "harness/vm_rig.h"

static char files[4][64];
static struct vm_config more;
static unsigned gone_count;
static char gone[64];

static void device_gone(struct vm_host *h, enum vm_device device, const char *id)
{
	(void)h;
	gone_count++;
	(void)snprintf(gone, sizeof(gone), "%s %s", device == VM_DISK ? "disk" : "net", id);
}

/* The first byte says which it is. */
static void make_files(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		const char letter = (char)('A' + i);
		int fd;

		(void)snprintf(files[i], sizeof(files[i]), "/tmp/vmm-test-plug-XXXXXX");
		fd = mkstemp(files[i]);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(ftruncate(fd, (off_t)MIB(4)), 0);
		ck_assert_int_eq(pwrite(fd, &letter, 1, 0), 1);
		(void)close(fd);
	}
}

static void hotplug_setup(void)
{
	setup();
	make_files();
	gone_count = 0;
	host.device_gone = device_gone;
	use_guest("test=hotplug");
}

static void hotplug_teardown(void)
{
	teardown();
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		(void)unlink(files[i]);
	}
}

static int add_disk(const char *id, size_t file, uint32_t queues, struct error *err)
{
	struct asked asked = { .operation.add = { VM_DISK, &more, id } };

	vm_config_init(&more);
	more.disk_count = 1;
	more.disks[0] = (struct block_config){ .id = id, .path = files[file], .queues = queues };
	return do_it(&asked, VM_ADD_DEVICE, err);
}

static int remove_device(enum vm_device device, const char *id, bool force, struct error *err)
{
	struct asked asked = { .operation.remove = { device, id, force } };

	return do_it(&asked, VM_REMOVE_DEVICE, err);
}

static void expect_gone(unsigned count, const char *what)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;

	while (gone_count < count) {
		ck_assert_msg(loop_now_ns() < deadline && stops == 0, "not gone: %s; '%s'", what,
			      serial.text);
		rounds(1);
	}
	ck_assert_uint_eq(gone_count, count);
	ck_assert_str_eq(gone, what);
}

static bool has_figures(const char *name)
{
	struct metrics_text text = { 0 };
	char label[64];
	bool found;

	(void)snprintf(label, sizeof(label), "vmm_disk_reads_total{device=\"%s\"}", name);
	vm_write_metrics(vm, &text);
	ck_assert(!text.failed);
	found = strstr(text.data, label) != NULL;
	free(text.data);
	return found;
}

/* Ten times: it comes, is found without a search, read, given back, and leaves nothing behind. */
START_TEST(test_comes_and_goes)
{
	struct holdings before;

	start();
	expect("waits");
	before = running_holdings();
	for (unsigned i = 1; i <= 10; i++) {
		check_ok(add_disk("data", i % 4, 1 + i % 3, &e), &e);
		expect_times("disk in 1 reads ", i);
		ck_assert(has_figures("vda"));
		check_ok(remove_device(VM_DISK, "data", false, &e), &e);
		expect_gone(i, "disk data");
		expect_times("ejected 1", i);
		ck_assert(!has_figures("vda"));
		check_nothing_kept(before, "a disk that was");
	}
	ck_assert_uint_eq(occurrences(&serial, "reads A"), 2);
	ck_assert_uint_eq(occurrences(&serial, "reads B"), 3);
	check_ok(do_pause(vm, &e), &e);
	check_ok(do_resume(vm, &e), &e);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

/* Places, names and ids: the first that are free, again. */
START_TEST(test_several)
{
	use_disk();
	config.console = true;
	start();
	expect("device 3 in 2");
	expect("waits");
	check_ok(add_disk("one", 0, 1, &e), &e);
	expect("disk in 3 reads A");
	check_ok(add_disk("two", 1, 1, &e), &e);
	expect("disk in 4 reads B");
	ck_assert(has_figures("vda") && has_figures("vdb") && has_figures("vdc"));
	check_ok(remove_device(VM_DISK, "one", false, &e), &e);
	expect_gone(1, "disk one");
	expect("ejected 3");
	ck_assert(has_figures("vda") && !has_figures("vdb") && has_figures("vdc"));
	ck_assert_int_lt(remove_device(VM_DISK, "one", false, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "the VM has no disk 'one'");
	check_ok(add_disk("three", 2, 1, &e), &e);
	expect("disk in 3 reads C");
	ck_assert(has_figures("vdb"));
	/* That of the start goes as well as any other. */
	check_ok(remove_device(VM_DISK, "vda", false, &e), &e);
	expect_gone(2, "disk vda");
	ck_assert(!has_figures("vda"));
	check_ok(do_replace_disk(vm, "two", files[3], &e), &e);
}
END_TEST

START_TEST(test_refused)
{
	struct holdings before;
	char id[8];

	create();
	ck_assert_int_lt(add_disk("x", 0, 1, &e), 0);
	check_error(&e, ERROR_CONFIG, "does not run");
	check_ok(do_start(vm, &e), &e);
	expect("waits");
	check_ok(add_disk("data", 0, 1, &e), &e);
	expect("reads A");
	before = holdings();
	ck_assert_int_lt(add_disk("data", 1, 2, &e), 0);
	check_error(&e, ERROR_CONFIG, "the VM has a disk 'data'");
	ck_assert_int_lt(add_disk("again", 0, 1, &e), 0);
	check_error(&e, ERROR_DISK_LOCKED, files[0]);
	(void)unlink(files[1]);
	ck_assert_int_lt(add_disk("none", 1, 1, &e), 0);
	check_error(&e, ERROR_DISK, "open");
	ck_assert_int_lt(remove_device(VM_NET, "data", false, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "no net 'data'");
	check_nothing_kept(before, "refusals");
	for (unsigned i = 1; i < VM_DISKS_MAX; i++) {
		(void)snprintf(id, sizeof(id), "d%u", i);
		vm_config_init(&more);
		more.disk_count = 1;
		more.disks[0] = (struct block_config){ .id = id, .path = "/dev/null" };
		check_ok(do_it(&(struct asked){ .operation.add = { VM_DISK, &more,
								   more.disks[0].id } },
			       VM_ADD_DEVICE, &e),
			 &e);
	}
	more.disks[0].id = "full";
	ck_assert_int_lt(
		do_it(&(struct asked){ .operation.add = { VM_DISK, &more, more.disks[0].id } },
		      VM_ADD_DEVICE, &e),
		0);
	check_error(&e, ERROR_CONFIG, "room for 24 disks");
	ck_assert_int_eq(stops, 0);
}
END_TEST

/* More than there are slots: they share, and go together or not at all. */
START_TEST(test_no_slot)
{
	config.disk_count = config.net_count = 0;
	for (; config.disk_count < VM_DISKS_MAX; config.disk_count++) {
		config.disks[config.disk_count] = (struct block_config){ .path = "/dev/null" };
	}
	for (; config.net_count < 7; config.net_count++) {
		int pair[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
		config.nets[config.net_count] = (struct vm_net_config){ .fd = pair[0] };
		config.nets[config.net_count].kind = VM_NET_FD;
		(void)close(pair[1]);
	}
	config.entropy = _i != 0;
	start();
	expect("waits");
	if (_i != 0) {
		ck_assert_int_lt(remove_device(VM_NET, "net6", false, &e), 0);
		check_error(&e, ERROR_CONFIG, "'net6' shares slot 31");
	}
	check_ok(remove_device(VM_DISK, "vdc", true, &e), &e);
	expect_gone(1, "disk vdc");
	check_ok(add_disk("c", 0, 1, &e), &e);
	expect("disk in 3 reads A");
	check_ok(remove_device(VM_DISK, "vdd", true, &e), &e);
	vm_config_init(&more);
	more.net_count = 1;
	/* A card takes the slot, and then there is none. */
	for (int i = 0; i < 2; i++) {
		int pair[2], r;

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
		more.nets[0] = (struct vm_net_config){ .id = i == 0 ? "card" : "full",
						       .kind = VM_NET_FD,
						       .fd = pair[0] };
		r = do_it(&(struct asked){ .operation.add = { VM_NET, &more, more.nets[0].id } },
			  VM_ADD_DEVICE, &e);
		ck_assert_int_eq(r < 0, i != 0);
		(void)close(pair[1]);
	}
	check_error(&e, ERROR_CONFIG, "all 31 slots");
	expect("device 1 in 4");
}
END_TEST

START_TEST(test_ignored)
{
	use_guest("test=hotplug then=ignore");
	start();
	expect("waits");
	check_ok(add_disk("data", 0, 1, &e), &e);
	expect("reads A");
	ck_assert(!vm_removal_heard(vm, VM_DISK, "data"));
	check_ok(remove_device(VM_DISK, "data", false, &e), &e);
	expect("ignored 1");
	ck_assert(vm_removal_heard(vm, VM_DISK, "data"));
	ck_assert(!vm_removal_heard(vm, VM_DISK, "nobody"));
	check_ok(remove_device(VM_DISK, "data", false, &e), &e);
	expect_times("ignored 1", 2);
	ck_assert_uint_eq(gone_count, 0);
	switch (_i) {
	case 0: /* without the guest */
		check_ok(remove_device(VM_DISK, "data", true, &e), &e);
		break;
	case 1: /* a reset fulfils it, and the next life knows nothing of it */
		check_ok(do_reset(vm, &e), &e);
		expect_times("waits", 2);
		break;
	default: /* the VM ends with it */
		vm_stop(vm);
		expect_stop(VM_STOP_REQUESTED, 0);
		return;
	}
	expect_gone(1, "disk data");
	check_ok(add_disk("data", 0, 1, &e), &e);
	expect_times("disk in 1 reads A", 2);
}
END_TEST

/* A reset between two lives: what was added is there, where it was. */
START_TEST(test_reset)
{
	start();
	expect("waits");
	check_ok(add_disk("data", 0, 2, &e), &e);
	expect("disk in 1 reads A");
	check_ok(do_reset(vm, &e), &e);
	expect_times("waits", 2);
	expect_times("disk in 1 reads A", 2);
	check_ok(remove_device(VM_DISK, "data", false, &e), &e);
	expect_gone(1, "disk data");
}
END_TEST

START_TEST(test_paused)
{
	start();
	expect("waits");
	check_ok(add_disk("before", 0, 1, &e), &e);
	expect("disk in 1 reads A");
	check_ok(do_pause(vm, &e), &e);
	check_ok(add_disk("data", 1, 1, &e), &e);
	ck_assert_int_lt(remove_device(VM_DISK, "data", false, &e), 0);
	check_error(&e, ERROR_CONFIG, "the VM is paused");
	check_ok(remove_device(VM_DISK, "before", true, &e), &e);
	expect_gone(1, "disk before");
	rounds(5);
	ck_assert_uint_eq(occurrences(&serial, "in 2"), 0);
	check_ok(do_resume(vm, &e), &e);
	expect("disk in 2 reads B");
	check_ok(remove_device(VM_DISK, "data", false, &e), &e);
	expect_gone(2, "disk data");
}
END_TEST

/* It comes before anybody listens: the event waits. */
START_TEST(test_before_its_driver)
{
	create();
	check_ok(vm_start(vm, true, &e), &e);
	check_ok(add_disk("data", 0, 1, &e), &e);
	check_ok(do_resume(vm, &e), &e);
	/* The guest's first search finds it, and its event afterwards. */
	expect_times("disk in 1 reads A", 2);
	check_ok(remove_device(VM_DISK, "data", false, &e), &e);
	expect_gone(1, "disk data");
}
END_TEST

/* What the guest throws away is at work, and is gone all the same. */
START_TEST(test_dropped)
{
	struct holdings before;

	use_guest("test=hotplug then=drop");
	start();
	expect("waits");
	before = running_holdings();
	for (unsigned i = 1; i <= 20; i++) {
		check_ok(add_disk("data", i % 4, 1, &e), &e);
		expect_times("disk in 1 reads ", i);
		check_ok(remove_device(VM_DISK, "data", false, &e), &e);
		expect_gone(i, "disk data");
		expect_times("ejected 1", i);
		check_nothing_kept(before, "a disk that was thrown away");
	}
	ck_assert_int_eq(stops, 0);
}
END_TEST

START_TEST(test_attacked)
{
	use_disk();
	use_guest("test=hotplug then=attack");
	start();
	expect("waits");
	for (unsigned i = 1; i <= 5; i++) {
		check_ok(add_disk("data", 0, 1, &e), &e);
		expect_times("disk in 2 reads A", i);
		ck_assert_uint_eq(gone_count, i - 1);
		check_ok(remove_device(VM_DISK, "data", false, &e), &e);
		expect_gone(i, "disk data");
		expect_times("attacked 2", i);
	}
	/* The one of the start has never gone. */
	ck_assert(has_figures("vda"));
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
}
END_TEST

START_TEST(test_on_mmio)
{
	config.machine.transport = VM_TRANSPORT_MMIO;
	use_disk();
	use_guest("test=block-load requests=1000000000");
	start();
	expect("start");
	ck_assert_int_lt(add_disk("data", 0, 1, &e), 0);
	check_error(&e, ERROR_CONFIG, "virtio-mmio");
	ck_assert_ptr_nonnull(strstr(e.hint, "--transport pci"));
	ck_assert_int_lt(remove_device(VM_DISK, "vda", false, &e), 0);
	check_error(&e, ERROR_CONFIG, "virtio-mmio");
}
END_TEST

/* Figures are read by main all the time meanwhile: what a thread sanitizer looks at. */
START_TEST(test_figures_meanwhile)
{
	struct asked asked;

	start();
	expect("waits");
	for (unsigned i = 1; i <= 10; i++) {
		vm_config_init(&more);
		more.disk_count = 1;
		more.disks[0] = (struct block_config){ .id = "data", .path = files[0] };
		asked = (struct asked){ .operation.add = { VM_DISK, &more, more.disks[0].id } };
		ask(&asked, VM_ADD_DEVICE);
		while (asked.done == 0) {
			(void)has_figures("vda");
			rounds(1);
		}
		check_ok(asked.operation.result, &asked.operation.error);
		expect_times("disk in 1 reads A", i);
		check_ok(remove_device(VM_DISK, "data", false, &e), &e);
		while (gone_count < i) {
			(void)has_figures("vda");
			rounds(1);
		}
		/* It looks whether the slot is empty: before somebody else is in it. */
		expect_times("ejected 1", i);
	}
}
END_TEST

static void in_sandbox(void)
{
	config.sandbox = SANDBOX_ON;
	start();
	expect("waits");
	for (unsigned i = 1; i <= 3; i++) {
		check_ok(add_disk("data", 0, i, &e), &e);
		expect_times("disk in 1 reads A", i);
		check_ok(remove_device(VM_DISK, "data", false, &e), &e);
		expect_gone(i, "disk data");
		expect_times("ejected 1", i);
	}
	check_ok(add_disk("data", 0, 4, &e), &e);
	expect_times("disk in 1 reads A", 4);
	check_ok(remove_device(VM_DISK, "data", true, &e), &e);
	expect_gone(4, "disk data");
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	ck_assert(vm_destroy(vm));
	vm = NULL;
}

START_TEST(test_within_the_filters)
{
	int status = 0;
	pid_t child;

	if (SANITIZED) {
		CHECK_SKIP("built with a sanitizer");
	}
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		in_sandbox();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status 0x%x",
		      (unsigned int)status);
}
END_TEST

CHECK_MAIN("vm_hotplug", skip_without_kvm(); CHECK_FIXTURE(hotplug_setup, hotplug_teardown);
	   CHECK_TEST(test_comes_and_goes); CHECK_TEST(test_several); CHECK_TEST(test_refused);
	   CHECK_LOOP(test_no_slot, 2); CHECK_LOOP(test_ignored, 3); CHECK_TEST(test_reset);
	   CHECK_TEST(test_paused); CHECK_TEST(test_before_its_driver); CHECK_TEST(test_dropped);
	   CHECK_TEST(test_attacked); CHECK_TEST(test_on_mmio); CHECK_TEST(test_figures_meanwhile);
	   CHECK_TEST(test_within_the_filters))
