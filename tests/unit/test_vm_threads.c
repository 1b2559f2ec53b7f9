/* SPDX-License-Identifier: Apache-2.0 */
/* A host that does not let every thread of a VM be made. */
#include "harness/vm_rig.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define VM_THREADS 8

static _Atomic int created; /* threads asked for since the last reset() */
static int failing;	    /* the first of them that cannot be made; 0: none */
static bool wait_for_vcpu;  /* before that is said */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);

/* The system call in which the thread of that name is, -1 if it runs. */
static long system_call_of(const char *wanted)
{
	char path[300], text[64];
	long number = -1;
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;

	ck_assert_ptr_nonnull(tasks);
	while ((entry = readdir(tasks)) != NULL) {
		FILE *file;

		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		file = fopen(path, "re");
		if (file == NULL) {
			continue;
		}
		if (fgets(text, sizeof(text), file) == NULL) {
			text[0] = '\0';
		}
		(void)fclose(file);
		text[strcspn(text, "\n")] = '\0';
		if (strstr(text, wanted) == NULL) {
			continue;
		}
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/syscall", entry->d_name);
		file = fopen(path, "re");
		ck_assert_msg(file != NULL, "%s", path);
		if (fgets(text, sizeof(text), file) != NULL && text[0] != 'r') {
			number = strtol(text, NULL, 10);
		}
		(void)fclose(file);
	}
	(void)closedir(tasks);
	return number;
}

/* The guest has told a device that its driver is there, and the vCPU waits for the device. */
static void wait_until_vcpu_waits(void)
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;
	const struct timespec moment = { .tv_nsec = 1000000 };
	uint64_t before = 0;

	while (exits() == 0 || exits() != before || system_call_of("vcpu") != SYS_futex) {
		ck_assert_msg(loop_now_ns() < deadline, "the vCPU waits for no device");
		before = exits();
		(void)nanosleep(&moment, NULL);
	}
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg)
{
	int number = ++created;

	if (failing == 0 || number < failing) {
		return __real_pthread_create(thread, attr, run, arg);
	}
	if (number == failing && wait_for_vcpu) {
		wait_until_vcpu_waits();
	}
	return EAGAIN;
}

static void use_devices(void)
{
	config.machine.vcpus = 2;
	config.console = config.entropy = true;
	use_disk();
	use_guest("test=block-load requests=3000");
	created = 0;
}

/* Each of a VM's threads in turn, and all after it, cannot be made: that is said, and all ends. */
START_TEST(test_each_thread)
{
	int r;

	use_devices();
	failing = _i + 1;
	r = vm_create(&vm, &config, &host, &e);
	if (r == 0) {
		r = do_start(vm, &e);
	}
	if (r == 0) {
		expect_stop(VM_STOP_ERROR, 0);
		e = last_stop.error;
	}
	check_error(&e, ERROR_INTERNAL, "thread");
	ck_assert_int_eq(e.sys, EAGAIN);
}
END_TEST

/* The loop above has reached the last one: the disk's two, console's two, entropy, the starter, two vCPUs. */
START_TEST(test_count)
{
	use_devices();
	failing = 0;
	start();
	expect_stop(VM_STOP_DEBUG_EXIT, 0);
	ck_assert_int_eq(created, VM_THREADS);
}
END_TEST

/* A vCPU waits for a device whose thread turns out not to be there. */
START_TEST(test_vcpu_waits)
{
	use_devices();
	config.machine.vcpus = 1;
	config.console = config.entropy = false;
	failing = 3;
	wait_for_vcpu = true;
	start();
	expect_stop(VM_STOP_ERROR, 0);
	check_error(&last_stop.error, ERROR_INTERNAL, "vda-disk");
	ck_assert_int_lt(do_pause(vm, &e), 0);
}
END_TEST

CHECK_MAIN("vm_threads", skip_without_kvm(); CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_count);
	   CHECK_LOOP(test_each_thread, VM_THREADS); CHECK_TEST(test_vcpu_waits))
