/* SPDX-License-Identifier: Apache-2.0 */
/* A VM with real KVM and bare-metal guests, in this process; test_vm.c and test_vm_changes.c.
 * VMM_TEST_GUEST and VMM_TEST_HELLO name the guests. */
#ifndef TESTS_UNIT_VM_RIG_H
#define TESTS_UNIT_VM_RIG_H

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "harness/need_kvm.h"
#include "vmm/vm.h"

#define FIXTURE static __attribute__((unused))

#define PATIENCE_NS (200 * 1000000000ULL)
#define OUTPUT_MAX  KIB(64)

/* A console that keeps what comes. */
struct screen {
	struct console_channel channel;
	pthread_mutex_t lock;
	size_t len;
	char text[OUTPUT_MAX];
};

FIXTURE struct loop loop;
FIXTURE struct screen serial, hvc;
FIXTURE struct vm_config config;
FIXTURE struct vm *vm;
FIXTURE struct error e;
FIXTURE struct vm_stop last_stop;
FIXTURE int stops;
FIXTURE char disk_path[64];

FIXTURE void screen_output(struct console_channel *channel, const uint8_t *data, size_t len)
{
	struct screen *screen = container_of(channel, struct screen, channel);

	(void)pthread_mutex_lock(&screen->lock);
	len = MIN(len, sizeof(screen->text) - 1 - screen->len);
	memcpy(screen->text + screen->len, data, len);
	screen->len += len;
	(void)pthread_mutex_unlock(&screen->lock);
}

FIXTURE void screen_ready(struct console_channel *channel)
{
	(void)channel;
}

FIXTURE void screen_init(struct screen *screen)
{
	*screen = (struct screen){ .channel = { screen_output, screen_ready } };
	(void)pthread_mutex_init(&screen->lock, NULL);
}

FIXTURE unsigned occurrences(struct screen *screen, const char *text)
{
	unsigned count = 0;

	(void)pthread_mutex_lock(&screen->lock);
	for (const char *at = screen->text; (at = strstr(at, text)) != NULL; at++) {
		count++;
	}
	(void)pthread_mutex_unlock(&screen->lock);
	return count;
}

FIXTURE void stopped(struct vm_host *h, const struct vm_stop *stop)
{
	(void)h;
	stops++;
	last_stop = *stop;
}

FIXTURE struct vm_host host = {
	.loop = &loop,
	.stopped = stopped,
	.serial = &serial.channel,
	.hvc = &hvc.channel,
	.patience_ns = PATIENCE_NS,
};

FIXTURE const char *environment(const char *name)
{
	const char *value = getenv(name);

	ck_assert_msg(value != NULL, "%s is not set", name);
	return value;
}

FIXTURE void use_guest(const char *cmdline)
{
	config.boot.kernel = environment("VMM_TEST_GUEST");
	config.boot.cmdline_only = cmdline;
}

FIXTURE void use_hello(void)
{
	config.boot.kernel = environment("VMM_TEST_HELLO");
}

FIXTURE void use_disk(void)
{
	config.disks[0] = (struct block_config){ .path = disk_path };
	config.disk_count = 1;
}

FIXTURE void *say_thread_id(void *arg)
{
	*(pid_t *)arg = gettid();
	return NULL;
}

/* With the first thread a sanitizer may start one of its own, which is nobody's leak. */
FIXTURE void start_first_thread(void)
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

FIXTURE void setup(void)
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
	if (getenv("VMM_TEST_TRANSPORT") != NULL) {
		ck_assert_str_eq(getenv("VMM_TEST_TRANSPORT"), "mmio");
		config.machine.transport = VM_TRANSPORT_MMIO;
	}
	check_ok(loop_init(&loop, &e), &e);
	start_first_thread();
}

FIXTURE void teardown(void)
{
	ck_assert(vm_destroy(vm));
	vm = NULL;
	loop_finish(&loop);
	(void)unlink(disk_path);
}

FIXTURE void create(void)
{
	check_ok(vm_create(&vm, &config, &host, &e), &e);
	ck_assert_int_eq(vm_state(vm), VM_CREATED);
}

FIXTURE int do_start(struct vm *v, struct error *err)
{
	return vm_start(v, false, err);
}

FIXTURE void start(void)
{
	create();
	check_ok(do_start(vm, &e), &e);
	ck_assert_int_eq(vm_state(vm), VM_RUNNING);
}

FIXTURE void rounds(int count)
{
	for (int i = 0; i < count; i++) {
		ck_assert_int_eq(loop_step(&loop, 1), 0);
	}
}

/* An operation that the loop brings to its end. */
struct asked {
	struct vm_operation operation;
	unsigned done;
};

FIXTURE void asked_done(struct vm_operation *operation)
{
	container_of(operation, struct asked, operation)->done++;
}

FIXTURE void ask(struct asked *asked, enum vm_operation_type type)
{
	asked->operation.type = type;
	asked->operation.done = asked_done;
	asked->done = 0;
	vm_ask(vm, &asked->operation);
}

FIXTURE int wait_for(struct asked *asked, struct error *err)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;

	while (asked->done == 0) {
		ck_assert_msg(loop_now_ns() < deadline, "operation %d is not done",
			      (int)asked->operation.type);
		ck_assert_int_eq(loop_step(&loop, 10), 0);
	}
	ck_assert_uint_eq(asked->done, 1);
	*err = asked->operation.error;
	return asked->operation.result;
}

FIXTURE int do_it(struct asked *asked, enum vm_operation_type type, struct error *err)
{
	ask(asked, type);
	return wait_for(asked, err);
}

FIXTURE int do_pause(struct vm *v, struct error *err)
{
	struct asked asked = { 0 };

	(void)v;
	return do_it(&asked, VM_PAUSE, err);
}

FIXTURE int do_resume(struct vm *v, struct error *err)
{
	struct asked asked = { 0 };

	(void)v;
	return do_it(&asked, VM_RESUME, err);
}

FIXTURE int do_reset(struct vm *v, struct error *err)
{
	struct asked asked = { 0 };

	(void)v;
	return do_it(&asked, VM_RESET, err);
}

FIXTURE int do_replace_disk(struct vm *v, const char *id, const char *path, struct error *err)
{
	struct asked asked = { .operation.disk = { .id = id, .path = path } };

	(void)v;
	return do_it(&asked, VM_CHANGE_DISK, err);
}

FIXTURE int do_limit_disk(struct vm *v, const char *id, const struct rate_limit_config *limiter,
			  struct error *err)
{
	struct asked asked = { .operation.disk = { .id = id, .limiter = limiter } };

	(void)v;
	return do_it(&asked, VM_CHANGE_DISK, err);
}

FIXTURE int do_limit_net(struct vm *v, const char *id, const struct rate_limit_config *rx,
			 const struct rate_limit_config *tx, struct error *err)
{
	struct asked asked = { .operation.net = { .id = id, .rx = rx, .tx = tx } };

	(void)v;
	return do_it(&asked, VM_CHANGE_NET, err);
}

/* Runs the loop until the guest has said `text` so many times. */
FIXTURE void expect_times(const char *text, unsigned times)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;

	while (occurrences(&serial, text) < times) {
		ck_assert_msg(loop_now_ns() < deadline && stops == 0,
			      "no %u times '%s' in '%s'; stopped for %d: %s", times, text,
			      serial.text, last_stop.reason, last_stop.error.msg);
		ck_assert_int_eq(loop_step(&loop, 1), 0);
	}
}

FIXTURE void expect(const char *text)
{
	expect_times(text, 1);
}

FIXTURE void expect_stop(enum vm_stop_reason reason, uint8_t code)
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

FIXTURE uint64_t exits(void)
{
	struct vm_stats stats;

	vm_stats(vm, &stats);
	return stats.exits_io + stats.exits_mmio + stats.exits_other;
}

FIXTURE uint64_t resets(void)
{
	struct vm_stats stats;

	vm_stats(vm, &stats);
	return stats.resets;
}

/* What the guest does: exits, of which a disk on PCI has next to none, and blocks of its disks. */
FIXTURE uint64_t progress(void)
{
	struct vm_stats stats;

	vm_stats(vm, &stats);
	return exits() + (stats.disk_read + stats.disk_written) / 4096;
}

/* Main is busy elsewhere meanwhile: the loop does not run. */
FIXTURE void wait_for_progress(uint64_t count)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;

	while (progress() < count) {
		ck_assert_msg(loop_now_ns() < deadline, "%llu exits and blocks, not %llu",
			      (unsigned long long)progress(), (unsigned long long)count);
		/* Which main may also in its filter. */
		(void)poll(NULL, 0, 1);
	}
}

/* Gives the device all of `text`, as it takes it. */
FIXTURE void type(size_t (*input)(struct vm *, const uint8_t *, size_t), const char *text)
{
	size_t len = strlen(text), sent = 0;
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;

	while (sent < len) {
		sent += input(vm, (const uint8_t *)text + sent, len - sent);
		ck_assert_msg(loop_now_ns() < deadline, "%zu bytes taken of '%s'", sent, text);
		rounds(1);
	}
}

FIXTURE int entries(const char *path)
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

FIXTURE struct holdings holdings(void)
{
	return (struct holdings){ entries("/proc/self/fd"), entries("/proc/self/task") };
}

/* Of a VM that runs, whose machine thread opens a few things as it begins: they are there once it has answered. */
FIXTURE struct holdings running_holdings(void)
{
	check_ok(do_pause(vm, &e), &e);
	check_ok(do_resume(vm, &e), &e);
	return holdings();
}

/* A thread that was joined may be seen for a moment more. */
FIXTURE void check_nothing_kept(struct holdings before, const char *what)
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

#endif
