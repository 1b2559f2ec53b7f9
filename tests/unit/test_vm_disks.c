/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of a VM go to another one that was loaded from its state, and back, while both are built: with real KVM, and a guest
 * that notices what is lost. Both are in this process, where each has files of its own; the last test has two processes.
 */
#include "../../src/block/raw.h"
#include "../../src/vmm/devices/virtio_node.h"
#include "../../src/vmm/vm_internal.h"
#include "harness/load_rig.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "vmm/virtio_blk.h"

static char base_path[96], overlay_path[96], other_path[96];
static struct vm *second; /* the one that is not `vm` */

static void make(char path[96], const char *end, uint64_t size)
{
	int fd;

	(void)snprintf(path, 96, "%s.%s", disk_path, end);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	(void)close(fd);
}

static void disks_setup(void)
{
	setup();
	make(base_path, "base", MIB(8));
	make(other_path, "other", MIB(1));
	(void)snprintf(overlay_path, sizeof(overlay_path), "%s.overlay", disk_path);
}

static void disks_teardown(void)
{
	ck_assert(vm_destroy(second));
	second = NULL;
	load_teardown();
	(void)unlink(base_path);
	(void)unlink(overlay_path);
	(void)unlink(other_path);
}

/* The guest works on the first disk that it finds. */
static void use_disks(bool overlay_first)
{
	const struct block_config overlay = { .id = "over",
					      .path = base_path,
					      .overlay = overlay_path };

	use_work("test=work");
	config.disks[0].id = "raw";
	config.disks[overlay_first ? 0 : 1] = overlay;
	config.disks[overlay_first ? 1 : 0] =
		(struct block_config){ .id = "raw", .path = disk_path };
	config.disk_count = 2;
}

static void swap(void)
{
	struct vm *other = vm;

	vm = second;
	second = other;
}

static int simple(enum vm_operation_type type)
{
	struct asked asked = { 0 };

	e = (struct error){ 0 };
	return do_it(&asked, type, &e);
}

static void must(enum vm_operation_type type)
{
	check_ok(simple(type), &e);
}

static void refused(enum vm_operation_type type)
{
	ck_assert_int_eq(simple(type), -EBUSY);
	check_error(&e, ERROR_WRONG_STATE, "the VM does not have its disks' locks");
	ck_assert_int_eq(vm_state(vm), VM_PAUSED);
}

/* A second VM becomes `vm`, from what was kept of the first one; its disks are not its own yet. */
static void load_second(void)
{
	struct vm_saved from = saved();

	from.disks_unlocked = true;
	swap();
	ck_assert_ptr_null(vm);
	check_ok(vm_load(&vm, &config, &from, &host, &e), &e);
	/* The guest would write at once. */
	ck_assert_int_eq(vm_start(vm, false, &e), -EBUSY);
	check_error(&e, ERROR_WRONG_STATE, "start: the VM does not have its disks' locks");
	ck_assert_int_eq(vm_state(vm), VM_CREATED);
	e = (struct error){ 0 };
	check_ok(vm_start(vm, true, &e), &e);
}

static void cannot_go_on(void)
{
	refused(VM_RESUME);
	refused(VM_RESET);
	ck_assert_int_eq(do_replace_disk(vm, "raw", other_path, &e), -EBUSY);
	check_error(&e, ERROR_WRONG_STATE, "change disk");
}

/* As in a migration: loaded while the source has the disks, which go over then, as does the guest. */
START_TEST(test_hand_over)
{
	unsigned long round;
	char nonce[32], first[32];

	use_disks(_i % 2 == 1);
	config.machine.vcpus = _i < 2 ? 1 : 4;
	start();
	(void)wait_for_round(0, first);
	for (int i = 0; i < 10; i++) {
		must(VM_SYNC_DISKS);
		check_ok(do_pause(vm, &e), &e);
		keep();
		round = last_round(nonce);
		load_second();
		cannot_go_on();
		ck_assert_int_eq(simple(VM_TAKE_DISKS), -EAGAIN);
		check_error(&e, ERROR_DISK_LOCKED, "disk vda");
		cannot_go_on();
		swap();
		must(VM_TAKE_DISKS); /* it has them */
		must(VM_RELEASE_DISKS);
		must(VM_RELEASE_DISKS);
		cannot_go_on();
		if (i % 3 == 1) {
			/* It comes to nothing: the guest goes on here. */
			if (i % 2 == 1) {
				swap();
				must(VM_TAKE_DISKS);
				must(VM_RELEASE_DISKS);
				swap();
			}
			must(VM_TAKE_DISKS);
			ck_assert(vm_destroy(second));
			second = NULL;
		} else {
			swap();
			must(VM_TAKE_DISKS);
			must(VM_TAKE_DISKS);
			ck_assert(vm_destroy(second));
			second = NULL;
		}
		forget_output();
		must(VM_RESUME);
		(void)wait_for_round(round + 1, nonce);
		ck_assert_str_eq(nonce, first);
	}
	ck_assert_uint_eq(occurrences(&serial, "work"), 0);
	check_ok(do_replace_disk(vm, "raw", disk_path, &e), &e);
	(void)wait_for_round(last_round(nonce) + 1, nonce);
	check_ok(do_reset(vm, &e), &e);
	expect("work");
	ck_assert_int_eq(stops, 0);
}
END_TEST

/* Disks move while the guest stands still, and only then. */
START_TEST(test_states)
{
	use_disks(false);
	create();
	ck_assert_int_eq(simple(VM_RELEASE_DISKS), -ENOTCONN);
	ck_assert_int_eq(simple(VM_SYNC_DISKS), -ENOTCONN);
	check_ok(vm_start(vm, false, &e), &e);
	ck_assert_int_eq(simple(VM_RELEASE_DISKS), -ENOTCONN);
	check_error(&e, ERROR_CONFIG, "release disks: the VM is not paused");
	ck_assert_int_eq(simple(VM_TAKE_DISKS), -ENOTCONN);
	must(VM_SYNC_DISKS);
	must(VM_PAUSE);
	must(VM_SYNC_DISKS);
	must(VM_TAKE_DISKS);
	must(VM_RELEASE_DISKS);
	must(VM_SYNC_DISKS);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	ck_assert_int_eq(simple(VM_TAKE_DISKS), -ENOTCONN);
}
END_TEST

static struct block *holder;

static bool hold(const char *path)
{
	const struct block_config wanted = { .path = path,
					     .engine = BLOCK_ENGINE_SYNC,
					     .format = BLOCK_FORMAT_RAW };

	e = (struct error){ 0 };
	if (block_open(&holder, &wanted, &e) < 0) {
		check_error(&e, ERROR_DISK_LOCKED, path);
		return false;
	}
	return true;
}

static bool can_be_held(const char *path)
{
	bool can = hold(path);

	if (can) {
		block_close(holder);
	}
	return can;
}

static struct raw *raw_of(const char *id)
{
	const struct device *device = machine_find(&vm->machine, vm_device_kinds[VM_DISK], id, &e);

	ck_assert_ptr_nonnull(device);
	return container_of(virtio_blk_disk(virtio_of(device)), struct raw, block);
}

/* A disk that cannot be taken leaves none taken, one that cannot be given away leaves all. */
START_TEST(test_all_or_none)
{
	char nonce[32];

	use_disks(true);
	config.disks[2] = (struct block_config){ .id = "null", .path = "/dev/null" };
	config.disk_count = 3;
	start();
	(void)wait_for_round(0, nonce);
	must(VM_PAUSE);
	must(VM_RELEASE_DISKS);
	/* The second of them is somebody else's. */
	ck_assert(hold(disk_path));
	ck_assert_int_eq(simple(VM_TAKE_DISKS), -EAGAIN);
	check_error(&e, ERROR_DISK_LOCKED, "disk vdb: '");
	cannot_go_on();
	block_close(holder);
	ck_assert(can_be_held(overlay_path));
	ck_assert(can_be_held(base_path));
	must(VM_TAKE_DISKS);
	ck_assert(!can_be_held(overlay_path));
	ck_assert(!can_be_held(base_path));
	ck_assert(!can_be_held(disk_path));
	/* The host has lost what was written to the second. */
	raw_of("raw")->sync_failed = true;
	ck_assert_int_eq(simple(VM_RELEASE_DISKS), -EIO);
	check_error(&e, ERROR_DISK, "disk vdb: '");
	ck_assert(!can_be_held(overlay_path));
	ck_assert(!can_be_held(disk_path));
	must(VM_RESUME);
	(void)wait_for_round(last_round(nonce), nonce);
	/* And the first, which had been given away, has changed meanwhile. */
	must(VM_PAUSE);
	ck_assert_int_eq(truncate(base_path, (off_t)MIB(9)), 0);
	ck_assert_int_eq(simple(VM_RELEASE_DISKS), -EIO);
	cannot_go_on();
	ck_assert(!can_be_held(disk_path));
	ck_assert(can_be_held(overlay_path));
	ck_assert_int_eq(simple(VM_TAKE_DISKS), -ESTALE);
	check_error(&e, ERROR_DISK, "disk vda: '");
	cannot_go_on();
}
END_TEST

/* One that comes is its own at once, and nobody's business else. */
START_TEST(test_added_disk)
{
	struct vm_config more;
	struct asked add = { .operation.add = { VM_DISK, &more, "more" } };
	struct asked gone = { .operation.remove = { VM_DISK, "more", true } };

	if (getenv("VMM_TEST_TRANSPORT") != NULL) {
		return; /* by MMIO nothing comes and goes */
	}
	use_disks(false);
	start();
	must(VM_PAUSE);
	keep();
	load_second();
	vm_config_init(&more);
	more.disk_count = 1;
	more.disks[0] = (struct block_config){ .id = "more", .path = other_path };
	check_ok(do_it(&add, VM_ADD_DEVICE, &e), &e);
	ck_assert(!can_be_held(other_path));
	cannot_go_on();
	ck_assert_int_eq(simple(VM_TAKE_DISKS), -EAGAIN);
	ck_assert(!can_be_held(other_path));
	must(VM_RELEASE_DISKS);
	ck_assert(can_be_held(other_path));
	swap();
	must(VM_RELEASE_DISKS);
	swap();
	must(VM_TAKE_DISKS);
	ck_assert(!can_be_held(other_path));
	/* It may go again when it is not held. */
	must(VM_RELEASE_DISKS);
	check_ok(do_it(&gone, VM_REMOVE_DEVICE, &e), &e);
	must(VM_TAKE_DISKS);
	must(VM_RESUME);
	ck_assert(can_be_held(other_path));
}
END_TEST

static void *content(const char *path, struct stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *bytes;

	ck_assert_int_eq(fstat(fd, st), 0);
	bytes = malloc((size_t)st->st_size);
	ck_assert_int_eq(pread(fd, bytes, (size_t)st->st_size, 0), st->st_size);
	(void)close(fd);
	return bytes;
}

/* Whoever does not have the disks, and ends, leaves them as they are. */
START_TEST(test_ends_without)
{
	const char *paths[] = { disk_path, base_path, overlay_path };
	struct stat then[3], now;
	void *bytes[3], *after;
	char nonce[32];

	use_disks(_i == 1);
	start();
	(void)wait_for_round(0, nonce);
	must(VM_PAUSE);
	keep();
	load_second();
	swap();
	must(VM_RELEASE_DISKS);
	for (int i = 0; i < 3; i++) {
		bytes[i] = content(paths[i], &then[i]);
	}
	end();
	swap();
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	end();
	for (int i = 0; i < 3; i++) {
		after = content(paths[i], &now);
		ck_assert_int_eq(now.st_size, then[i].st_size);
		ck_assert_int_eq(now.st_mtim.tv_sec, then[i].st_mtim.tv_sec);
		ck_assert_int_eq(now.st_mtim.tv_nsec, then[i].st_mtim.tv_nsec);
		ck_assert_mem_eq(after, bytes[i], (size_t)now.st_size);
		free(after);
		free(bytes[i]);
	}
}
END_TEST

/* A load that fails has locked nothing, and a disk that is not there is said to be missing. */
START_TEST(test_failed_load)
{
	struct vm_saved from;
	struct holdings before;

	use_disks(false);
	start();
	must(VM_PAUSE);
	keep();
	end();
	from = saved();
	from.disks_unlocked = true;
	ck_assert_int_eq(unlink(overlay_path), 0);
	before = holdings();
	ck_assert_int_lt(vm_load(&vm, &config, &from, &host, &e), 0);
	check_error(&e, ERROR_DISK, "open overlay");
	vm = NULL;
	check_nothing_kept(before, "a failed load");
	ck_assert_int_lt(access(overlay_path, F_OK), 0);
}
END_TEST

/* --- within the filters, another process having the disks -------------------------------------------- */

static void hold_overlay(void)
{
	struct block_config wanted = { .path = base_path,
				       .overlay = overlay_path,
				       .engine = BLOCK_ENGINE_SYNC,
				       .cache = BLOCK_CACHE_UNSAFE };

	check_ok(block_open(&holder, &wanted, &e), &e);
}

/* The child: takes them as soon as it can, when it has said that it cannot yet. */
static void take_in_sandbox(int said)
{
	char nonce[32];
	unsigned long round = last_round(nonce);
	int r;

	config.sandbox = SANDBOX_ON;
	load_second();
	ck_assert_int_eq(simple(VM_TAKE_DISKS), -EAGAIN);
	check_error(&e, ERROR_DISK_LOCKED, "disk vdb: '");
	refused(VM_RESUME);
	ck_assert_int_eq(write(said, "x", 1), 1);
	while ((r = simple(VM_TAKE_DISKS)) == -EAGAIN) {
	}
	check_ok(r, &e);
	for (int i = 0; i < 3; i++) {
		must(VM_RESUME);
		round = wait_for_round(round, nonce);
		must(VM_SYNC_DISKS);
		must(VM_PAUSE);
		must(VM_RELEASE_DISKS);
		must(VM_TAKE_DISKS);
	}
	must(VM_RESUME);
	vm_stop(vm);
	expect_stop(VM_STOP_REQUESTED, 0);
	end();
}

START_TEST(test_in_sandbox)
{
	static uint8_t junk[4096];
	int status, pair[2], fd;
	char byte, nonce[32];
	pid_t pid;

	if (SANITIZED) {
		CHECK_SKIP("built with a sanitizer");
	}
	use_disks(false);
	config.disks[0].engine = config.disks[1].engine =
		_i == 0 ? BLOCK_ENGINE_AUTO : BLOCK_ENGINE_SYNC;
	start();
	(void)wait_for_round(0, nonce);
	must(VM_PAUSE);
	keep();
	end();
	hold_overlay();
	ck_assert_int_eq(pipe2(pair, O_CLOEXEC), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		take_in_sandbox(pair[1]);
		_exit(0);
	}
	(void)close(pair[1]);
	ck_assert_int_eq(read(pair[0], &byte, 1), 1);
	/* There is something to be mended. */
	memset(junk, 7, sizeof(junk));
	fd = open(overlay_path, O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(pwrite(fd, junk, sizeof(junk), (off_t)MIB(4)), sizeof(junk));
	(void)close(fd);
	check_ok(block_release_lock(holder, &e), &e);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status 0x%x",
		      (unsigned int)status);
	block_close(holder);
	(void)close(pair[0]);
}
END_TEST

CHECK_MAIN("vm_disks", skip_without_kvm(); CHECK_FIXTURE(disks_setup, disks_teardown);
	   CHECK_LOOP(test_hand_over, 4); CHECK_TEST(test_states); CHECK_TEST(test_all_or_none);
	   CHECK_TEST(test_added_disk); CHECK_LOOP(test_ends_without, 2);
	   CHECK_TEST(test_failed_load); CHECK_LOOP(test_in_sandbox, 2))
