/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM that is saved, ends, and goes on in another: with real KVM and a guest that notices what is lost
 * (tests/guest/test_work.c). Memory is copied here; how it is kept is src/snapshot's.
 */
#include "../../src/vmm/devices/virtio_node.h"
#include "../../src/vmm/vm_internal.h"
#include "harness/load_rig.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"

static unsigned int times(void)
{
	const char *wanted = getenv("VMM_TEST_LOADS");

	return wanted != NULL ? (unsigned int)atoi(wanted) : 10;
}

/* With requests in flight, timers that run, and processors that count: it goes on where it was, again and
 * again, and it is the one that was saved. */
START_TEST(test_goes_on)
{
	char nonce[32], first[32];
	unsigned long round;

	use_work("test=work");
	config.machine.vcpus = _i == 0 ? 1 : 4;
	start();
	(void)wait_for_round(0, first);
	for (unsigned int i = 0; i < times(); i++) {
		check_ok(do_pause(vm, &e), &e);
		keep();
		round = last_round(nonce);
		end();
		forget_output();
		load(false);
		(void)wait_for_round(round + 1, nonce);
		ck_assert_str_eq(nonce, first);
	}
	ck_assert_uint_eq(occurrences(&serial, "work"), 0);
	ck_assert_int_eq(stops, 0);
}
END_TEST

/* The one that was saved may go on as well: what a save reads it does not change. */
START_TEST(test_save_changes_nothing)
{
	char nonce[32];
	struct state_buf again = { 0 };
	struct asked save = { .operation.save = { &again } };
	unsigned long round;

	use_work("test=work");
	config.machine.vcpus = 2;
	start();
	round = wait_for_round(0, nonce);
	/* One that runs stands still for it. */
	check_ok(do_it(&save, VM_SAVE, &e), &e);
	ck_assert_int_eq(vm_state(vm), VM_RUNNING);
	ck_assert_uint_gt(save.operation.save.still_ns, 0);
	round = wait_for_round(round, nonce);
	again.len = 0;
	check_ok(do_pause(vm, &e), &e);
	keep();
	check_ok(do_it(&save, VM_SAVE, &e), &e);
	ck_assert_uint_eq(again.len, kept.state.len);
	check_ok(do_resume(vm, &e), &e);
	(void)wait_for_round(round + 2, nonce);
	state_buf_finish(&again);
}
END_TEST

START_TEST(test_paused_load)
{
	char nonce[32];
	unsigned long round;

	use_work("test=work");
	start();
	(void)wait_for_round(0, nonce);
	check_ok(do_pause(vm, &e), &e);
	keep();
	round = last_round(nonce);
	end();
	load(true);
	ck_assert_int_eq(vm_state(vm), VM_PAUSED);
	rounds(10);
	ck_assert_uint_eq(last_round(nonce), round);
	/* Saved as it is, it is the same. */
	keep();
	end();
	load(true);
	check_ok(do_resume(vm, &e), &e);
	(void)wait_for_round(round, nonce);
}
END_TEST

/* Its kernel is looked for then, and not before. */
START_TEST(test_reset)
{
	char nonce[32], path[] = "/tmp/vmm-test-kernel-XXXXXX", command[300];
	unsigned long round;

	use_work("test=work");
	(void)close(mkstemp(path));
	(void)snprintf(command, sizeof(command), "cp '%s' '%s'", config.boot.kernel, path);
	ck_assert_int_eq(system(command), 0);
	config.boot.kernel = path;
	start();
	(void)wait_for_round(0, nonce);
	check_ok(do_pause(vm, &e), &e);
	keep();
	round = last_round(nonce);
	end();
	if (_i == 1) {
		ck_assert_int_eq(unlink(path), 0);
	}
	load(false);
	(void)wait_for_round(round, nonce);
	if (_i == 1) {
		ck_assert_int_lt(do_reset(vm, &e), 0);
		ck_assert_ptr_nonnull(strstr(e.msg, path));
		expect_stop(VM_STOP_ERROR, 0);
		ck_assert_ptr_nonnull(strstr(last_stop.error.msg, path));
		return;
	}
	forget_output();
	check_ok(do_reset(vm, &e), &e);
	expect("work");
	check_ok(do_reset(vm, &e), &e);
	expect_times("work", 2);
	(void)unlink(path);
}
END_TEST

/* Each vCPU's TSC has the distance from vCPU 0's that it had: all the same. */
START_TEST(test_tsc)
{
	char nonce[32];
	uint64_t offsets[4];

	use_work("test=work");
	config.machine.vcpus = 4;
	start();
	(void)wait_for_round(0, nonce);
	check_ok(do_pause(vm, &e), &e);
	keep();
	end();
	load(true);
	for (uint32_t i = 0; i < 4; i++) {
		struct kvm_device_attr attribute = { .group = KVM_VCPU_TSC_CTRL,
						     .attr = KVM_VCPU_TSC_OFFSET,
						     .addr = (uintptr_t)&offsets[i] };

		if (kvm_ioctl(vm->vcpus.list[i].fd, KVM_GET_DEVICE_ATTR, &attribute) < 0) {
			return; /* an old KVM does not tell */
		}
		ck_assert_uint_eq(offsets[i], offsets[0]);
	}
}
END_TEST

static uint64_t clock_of_vm(void)
{
	struct kvm_clock_data data = { 0 };

	ck_assert_int_eq(kvm_ioctl(vm->kvm.vm_fd, KVM_GET_CLOCK, &data), 0);
	return data.clock;
}

/* kvm-clock goes on where it was, or over the time in which the guest was not there. */
START_TEST(test_clock)
{
	struct vm_saved from;
	char nonce[32];
	uint64_t earliest, latest, began, after;

	use_work("test=work");
	start();
	(void)wait_for_round(0, nonce);
	check_ok(do_pause(vm, &e), &e);
	earliest = clock_of_vm();
	keep();
	latest = clock_of_vm();
	end();
	(void)poll(NULL, 0, 300);
	from = saved();
	from.clock_steps = _i == 1;
	began = loop_now_ns();
	check_ok(vm_load(&vm, &config, &from, &host, &e), &e);
	after = clock_of_vm();
	ck_assert_uint_ge(after, earliest);
	if (_i == 1) {
		ck_assert_uint_ge(after, earliest + 300000000);
	} else {
		ck_assert_uint_le(after, latest + (loop_now_ns() - began));
	}
	check_ok(vm_start(vm, false, &e), &e);
}
END_TEST

/* --- what does not fit ---------------------------------------------------------------------------- */

static void save_one(void)
{
	char nonce[32];

	use_work("test=work");
	config.disks[0].queues = 1;
	config.machine.vcpus = 2;
	start();
	(void)wait_for_round(0, nonce);
	check_ok(do_pause(vm, &e), &e);
	keep();
	end();
}

static void expect_refused(const char *words)
{
	const struct vm_saved from = saved();
	struct holdings before = holdings();

	e = (struct error){ 0 };
	ck_assert_int_lt(vm_load(&vm, &config, &from, &host, &e), 0);
	ck_assert_msg(strstr(e.msg, words) != NULL, "'%s' is not in '%s'", words, e.msg);
	vm = NULL;
	check_nothing_kept(before, words);
}

START_TEST(test_other_machines)
{
	uint64_t size;

	save_one();
	config.machine.vcpus = 3;
	expect_refused("vcpu2");
	config.machine.vcpus = 1;
	expect_refused("vcpu1");
	config.machine.vcpus = 2;
	config.disk_count = 0;
	expect_refused("vda");
	config.disk_count = 1;
	config.disks[0].id = "other";
	/* By MMIO the places are the same. */
	expect_refused(getenv("VMM_TEST_TRANSPORT") == NULL ? "'other'" : "'vda'");
	config.disks[0].id = NULL;
	config.disks[0].queues = 3;
	expect_refused("tables of it");
	config.disks[0].queues = 1;
	config.machine.transport = config.machine.transport == VM_TRANSPORT_MMIO
					   ? VM_TRANSPORT_PCI
					   : VM_TRANSPORT_MMIO;
	expect_refused("");
	config.machine.transport = config.machine.transport == VM_TRANSPORT_MMIO
					   ? VM_TRANSPORT_AUTO
					   : VM_TRANSPORT_MMIO;
	size = kept.size;
	kept.size = MIB(16);
	expect_refused("not that of a machine with 32 MiB");
	kept.size = size;
	load(false);
	(void)wait_for_round(last_round((char[32]){ 0 }), (char[32]){ 0 });
}
END_TEST

/* Cut anywhere, it is refused; nothing is kept. */
START_TEST(test_truncated)
{
	size_t len;

	save_one();
	len = kept.state.len;
	for (size_t at = 0; at < len; at += 1 + at / 8) {
		kept.state.len = at;
		expect_refused("");
	}
	kept.state.len = len;
	load(true);
}
END_TEST

/* Any bit may be wrong: it is refused, or loaded, perhaps to crash; the process goes on. */
START_TEST(test_flipped)
{
	save_one();
	srandom(1);
	for (unsigned int i = 0; i < 60; i++) {
		size_t at = (size_t)random() % kept.state.len;
		uint8_t bit = (uint8_t)(1 << random() % 8);
		const struct vm_saved from = saved();

		kept.state.data[at] ^= bit;
		e = (struct error){ 0 };
		if (vm_load(&vm, &config, &from, &host, &e) == 0) {
			check_ok(vm_start(vm, false, &e), &e);
			stops = 0;
			for (int j = 0; j < 3 && stops == 0; j++) {
				rounds(1);
			}
			vm_stop(vm);
			while (stops == 0) {
				rounds(1);
			}
			end();
		} else {
			ck_assert_int_ne(e.code, ERROR_NONE);
			vm = NULL;
		}
		kept.state.data[at] ^= bit;
	}
	stops = 0;
	forget_output();
	load(false);
	(void)wait_for_round(0, (char[32]){ 0 });
}
END_TEST

/* A guest knows its disk by its place, whoever has gone before it. */
START_TEST(test_places)
{
	struct asked gone = { .operation.remove = { VM_DISK, "first", true } };
	char nonce[32], second[80];
	const struct device *device;
	uint8_t devfn;

	if (getenv("VMM_TEST_TRANSPORT") != NULL) {
		return; /* by MMIO nothing comes and goes */
	}
	use_work("test=work");
	(void)snprintf(second, sizeof(second), "%s.second", disk_path);
	ck_assert_int_eq(close(open(second, O_CREAT | O_RDWR | O_CLOEXEC, 0600)), 0);
	ck_assert_int_eq(truncate(second, (off_t)MIB(1)), 0);
	/* The guest uses the first that it finds. */
	config.disks[0].id = "kept";
	config.disks[1] = (struct block_config){ .id = "first", .path = second };
	config.disks[2] = (struct block_config){ .id = "last", .path = "/dev/null" };
	config.disk_count = 3;
	start();
	(void)wait_for_round(0, nonce);
	check_ok(do_pause(vm, &e), &e);
	check_ok(do_it(&gone, VM_REMOVE_DEVICE, &e), &e);
	device = machine_find(&vm->machine, vm_device_kinds[VM_DISK], "last", &e);
	ck_assert_ptr_nonnull(device);
	devfn = ((struct virtio_node *)device->object)->pci.function.config.devfn;
	keep();
	end();
	config.disks[1] = config.disks[2];
	config.disk_count = 2;
	load(false);
	device = machine_find(&vm->machine, vm_device_kinds[VM_DISK], "last", &e);
	ck_assert_ptr_nonnull(device);
	ck_assert_uint_eq(((struct virtio_node *)device->object)->pci.function.config.devfn, devfn);
	(void)wait_for_round(last_round(nonce), nonce);
	(void)unlink(second);
}
END_TEST

/* --- network cards say where they are now -------------------------------------------------------- */

static const uint8_t mac[NETDEV_MAC_SIZE] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };
static int peer = -1;

/* A card whose other end is the test's; the guest has no driver for it. */
static void connect_card(void)
{
	int ends[2];

	close_fd(&peer);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	config.nets[0] =
		(struct vm_net_config){ .kind = VM_NET_FD, .fd = ends[0], .has_mac = true };
	memcpy(config.nets[0].mac, mac, sizeof(mac));
	config.net_count = 1;
	peer = ends[1];
}

static void expect_no_frame(void)
{
	uint8_t frame[100];

	ck_assert_int_lt(recv(peer, frame, sizeof(frame), MSG_DONTWAIT), 0);
	ck_assert_int_eq(errno, EAGAIN);
}

static void expect_rarp(void)
{
	struct pollfd readable = { .fd = peer, .events = POLLIN };
	uint8_t frame[100];

	ck_assert_int_eq(poll(&readable, 1, (int)(PATIENCE_NS / 1000000)), 1);
	ck_assert_int_eq(recv(peer, frame, sizeof(frame), MSG_DONTWAIT), 60);
	ck_assert_mem_eq(frame + 6, mac, sizeof(mac));
	ck_assert_uint_eq(load_le16(frame + 12), 0x3580);
}

/* A boot says nothing, a load says it once, when the guest is let go on. */
START_TEST(test_announcement)
{
	char nonce[32];
	struct state_buf again = { 0 };
	struct asked save = { .operation.save = { &again } };

	use_work("test=work");
	connect_card();
	start();
	(void)wait_for_round(0, nonce);
	check_ok(do_pause(vm, &e), &e);
	check_ok(do_resume(vm, &e), &e);
	check_ok(do_pause(vm, &e), &e);
	keep();
	expect_no_frame();
	end();
	connect_card();
	load(_i == 1);
	if (_i == 1) {
		keep();
		expect_no_frame();
		check_ok(do_resume(vm, &e), &e);
	}
	expect_rarp();
	check_ok(do_it(&save, VM_SAVE, &e), &e);
	check_ok(do_pause(vm, &e), &e);
	check_ok(do_resume(vm, &e), &e);
	check_ok(do_reset(vm, &e), &e);
	check_ok(do_pause(vm, &e), &e);
	expect_no_frame();
	state_buf_finish(&again);
	close_fd(&peer);
}
END_TEST

START_TEST(test_no_announcement)
{
	struct vm_saved from;
	uint8_t frame[100];

	use_work("test=work");
	config.disks[0].queues = 1;
	connect_card();
	start();
	check_ok(do_pause(vm, &e), &e);
	keep();
	end();
	connect_card();
	config.machine.vcpus = 2;
	from = saved();
	ck_assert_int_lt(vm_load(&vm, &config, &from, &host, &e), 0);
	check_error(&e, ERROR_STATE, "vcpu1");
	vm = NULL;
	/* The card was there, and has gone. */
	ck_assert_int_eq(recv(peer, frame, sizeof(frame), MSG_DONTWAIT), 0);
	close_fd(&peer);
}
END_TEST

static uint8_t *find_kept(const char *bytes, size_t len)
{
	uint8_t *at = memmem(kept.state.data, kept.state.len, bytes, len);

	ck_assert_ptr_nonnull(at);
	return at;
}

/* The state as it was before version 2 of the card's own table: without its last two fields. */
static void make_older(void)
{
	const size_t fields = 2 * 7;
	uint8_t *entry = find_kept("\x04\0card\x03\0net", 11) - sizeof(uint32_t);
	uint8_t *part = find_kept("\x0a\0virtio-net", 12) + 12;
	uint32_t len = load_le32(part + 2);
	uint8_t *after = part + 6 + len;

	ck_assert_uint_eq(load_le16(part), 2);
	store_le16(part, 1);
	store_le32(part + 2, len - (uint32_t)fields);
	store_le32(entry, load_le32(entry) - (uint32_t)fields);
	memmove(after - fields, after, (size_t)(kept.state.data + kept.state.len - after));
	kept.state.len -= fields;
}

static uint64_t offered(void)
{
	const struct device *card = machine_find(&vm->machine, vm_device_kinds[VM_NET], "card", &e);

	ck_assert_ptr_nonnull(card);
	return virtio_of(card)->features_offered;
}

/* A card offers what it did when it was saved, also by a vmm that knew less. */
START_TEST(test_features_of_a_card)
{
	const uint64_t announce = UINT64_C(1) << VIRTIO_NET_F_GUEST_ANNOUNCE;
	uint64_t before;

	if (unshare(CLONE_NEWNET) != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
		CHECK_SKIP("no tap in a network namespace: not root, or no /dev/net/tun");
	}
	use_work("test=work");
	config.nets[0] = (struct vm_net_config){
		.id = "card", .kind = VM_NET_TAP, .tap = "vmmtest0", .fd = -1, .queues = 2
	};
	config.net_count = 1;
	start();
	check_ok(do_pause(vm, &e), &e);
	keep();
	before = offered();
	ck_assert(before & announce);
	end();
	load(true);
	ck_assert_uint_eq(offered(), before);
	end();
	make_older();
	for (int i = 0; i < 2; i++) {
		load(true);
		ck_assert_uint_eq(offered(), before & ~announce);
		check_ok(do_resume(vm, &e), &e);
		check_ok(do_reset(vm, &e), &e);
		check_ok(do_pause(vm, &e), &e);
		ck_assert_uint_eq(offered(), before & ~announce);
		keep();
		end();
	}
}
END_TEST

CHECK_MAIN("vm_load", skip_without_kvm(); CHECK_FIXTURE(setup, load_teardown);
	   CHECK_LOOP(test_goes_on, 2); CHECK_TEST(test_save_changes_nothing);
	   CHECK_TEST(test_paused_load); CHECK_LOOP(test_reset, 2); CHECK_TEST(test_tsc);
	   CHECK_LOOP(test_clock, 2); CHECK_TEST(test_places); CHECK_TEST(test_other_machines);
	   CHECK_TEST(test_truncated); CHECK_TEST(test_flipped); CHECK_LOOP(test_announcement, 2);
	   CHECK_TEST(test_no_announcement); CHECK_TEST(test_features_of_a_card))
