/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance with real KVM and bare-metal guests, in this process: the sandbox is off, because nobody
 * leaves it again. VMM_TEST_GUEST and VMM_TEST_HELLO name the guests.
 */
#ifndef TESTS_HARNESS_RUNNING_RIG_H
#define TESTS_HARNESS_RUNNING_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../../src/instance/internal.h"
#include "harness/instance_rig.h"
#include "harness/need_kvm.h"

#define PATIENCE_NS (200 * 1000000000ULL)

/* A console that keeps what comes. */
static struct {
	struct console_channel channel;
	pthread_mutex_t lock;
	size_t len;
	char text[KIB(64)];
} screen;

static inline void screen_output(struct console_channel *channel, const uint8_t *data, size_t len)
{
	(void)channel;
	(void)pthread_mutex_lock(&screen.lock);
	len = MIN(len, sizeof(screen.text) - 1 - screen.len);
	memcpy(screen.text + screen.len, data, len);
	screen.len += len;
	(void)pthread_mutex_unlock(&screen.lock);
}

static inline void screen_ready(struct console_channel *channel)
{
	(void)channel;
}

static inline bool screen_has(const char *text)
{
	bool found;

	(void)pthread_mutex_lock(&screen.lock);
	found = strstr(screen.text, text) != NULL;
	(void)pthread_mutex_unlock(&screen.lock);
	return found;
}

static inline void setup(void)
{
	rig_setup();
	memset(&screen, 0, sizeof(screen));
	screen.channel = (struct console_channel){ screen_output, screen_ready, NULL };
	(void)pthread_mutex_init(&screen.lock, NULL);
	rig.host.serial = &screen.channel;
	ck_assert(instance_destroy(rig.instance));
	rig.settings.debug_exit = true;
	check_ok(instance_create(&rig.instance, &rig.settings, &rig.host, &rig.e), &rig.e);
}

static inline void put_kernel(const char *path, const char *cmdline)
{
	json_t *json = json_pack("{s:s, s:s}", "kernel_image_path", path, "cmdline_only", cmdline);

	check_ok(rig_request(REQUEST_PUT_BOOT_SOURCE, NULL, json, NULL), &rig.e);
	json_decref(json);
}

static inline void put_guest(const char *cmdline)
{
	const char *guest = getenv("VMM_TEST_GUEST");

	ck_assert_ptr_nonnull(guest);
	put_kernel(guest, cmdline);
	rig_ok(REQUEST_PUT_MACHINE_CONFIG, NULL, "{\"vcpu_count\": 1, \"mem_size_mib\": 64}");
}

static inline void step(void)
{
	ck_assert_int_eq(loop_step(&rig.loop, 1), 0);
}

#define step_until(condition)                                                                 \
	for (uint64_t deadline_ = loop_now_ns() + PATIENCE_NS; !(condition); step()) {        \
		ck_assert_msg(loop_now_ns() < deadline_, "never: %s; output '%s'; end %d %s", \
			      #condition, screen.text, rig.stop.reason, rig.stop.error.msg);  \
	}

static inline void start_now(void)
{
	check_ok(instance_start_now(rig.instance, false, &rig.e), &rig.e);
	ck_assert_int_eq(instance_state(rig.instance), INSTANCE_RUNNING);
	ck_assert_ptr_nonnull(instance_vm(rig.instance));
	ck_assert_uint_eq(rig.started, 1);
}

/* Without waiting for its answer. */
static inline void request_action(struct rig_call *call, enum action_type type)
{
	const struct action action = { .type = type };
	const struct request request = { .type = REQUEST_PUT_ACTION, .object = &action };

	*call = (struct rig_call){ .base.done = rig_done };
	instance_request(rig.instance, &request, &call->base);
}

static inline void start_by_request(struct rig_call *waiting)
{
	request_action(waiting, ACTION_INSTANCE_START);
}

static inline void check_state(const char *vm_state, const char *instance_state)
{
	json_t *vm = rig_get(REQUEST_GET_VM, NULL);
	json_t *instance = rig_get(REQUEST_GET_INSTANCE, NULL);

	ck_assert_str_eq(json_string_value(json_object_get(vm, "state")), vm_state);
	ck_assert_str_eq(json_string_value(json_object_get(instance, "state")), instance_state);
	json_decref(vm);
	json_decref(instance);
}

#endif
