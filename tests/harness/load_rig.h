/* SPDX-License-Identifier: Apache-2.0 */
/* A VM that is saved and loaded, whose guest notices what is lost (tests/guest/test_work.c): test_vm_load.c and test_vm_disks.c.
 * Memory is copied here; how it is kept is src/snapshot's. */
#ifndef TESTS_UNIT_LOAD_RIG_H
#define TESTS_UNIT_LOAD_RIG_H

#include "harness/vm_rig.h"

/* What a snapshot has. */
FIXTURE struct {
	struct state_buf state;
	uint8_t *memory;
	uint64_t size;
} kept;

FIXTURE void load_teardown(void)
{
	teardown();
	state_buf_finish(&kept.state);
	free(kept.memory);
	memset(&kept, 0, sizeof(kept));
}

FIXTURE void use_work(const char *cmdline)
{
	use_disk();
	use_guest(cmdline);
	config.machine.memory_size = MIB(32);
}

/* Of a VM that is paused. */
FIXTURE void keep(void)
{
	struct asked save = { .operation.save = { &kept.state } };
	struct guest_memory *mem = vm_memory(vm);

	state_buf_finish(&kept.state);
	check_ok(do_it(&save, VM_SAVE, &e), &e);
	kept.size = mem->size;
	kept.memory = realloc(kept.memory, kept.size);
	ck_assert_ptr_nonnull(kept.memory);
	ck_assert(guest_memory_read(mem, 0, kept.memory, kept.size));
}

FIXTURE int fill(void *arg, struct guest_memory *mem, struct error *err)
{
	int r = guest_memory_init(mem, *(uint64_t *)arg, GUEST_MEMORY_AUTO, err);

	if (r == 0) {
		ck_assert(guest_memory_write(mem, 0, kept.memory, MIN(kept.size, mem->size)));
	}
	return r;
}

FIXTURE struct vm_saved saved(void)
{
	return (struct vm_saved){ .state = kept.state.data,
				  .state_len = kept.state.len,
				  .fill = fill,
				  .arg = &kept.size,
				  .cmdline = "words" };
}

FIXTURE void end(void)
{
	ck_assert(vm_destroy(vm));
	vm = NULL;
}

FIXTURE void load(bool paused)
{
	const struct vm_saved from = saved();

	check_ok(vm_load(&vm, &config, &from, &host, &e), &e);
	ck_assert_int_eq(vm_state(vm), VM_CREATED);
	ck_assert_str_eq(vm_cmdline(vm), "words");
	check_ok(vm_start(vm, paused, &e), &e);
}

/* The last number behind "round "; 0: there is none. */
FIXTURE unsigned long last_round(char nonce[32])
{
	unsigned long round = 0;

	(void)pthread_mutex_lock(&serial.lock);
	for (const char *at = serial.text; (at = strstr(at, "round ")) != NULL; at++) {
		char word[32];
		unsigned long number;

		if (strchr(at, '\n') != NULL && sscanf(at, "round %lu %31s", &number, word) == 2) {
			round = number;
			(void)snprintf(nonce, 32, "%s", word);
		}
	}
	(void)pthread_mutex_unlock(&serial.lock);
	return round;
}

FIXTURE unsigned long wait_for_round(unsigned long above, char nonce[32])
{
	uint64_t deadline = loop_now_ns() + PATIENCE_NS;
	unsigned long round;

	while ((round = last_round(nonce)) <= above) {
		ck_assert_msg(loop_now_ns() < deadline && stops == 0,
			      "no round above %lu; output '%s'; stopped for %d code %u: %s", above,
			      serial.text + (serial.len > 300 ? serial.len - 300 : 0),
			      last_stop.reason, last_stop.code, last_stop.error.msg);
		ck_assert_int_eq(loop_step(&loop, 1), 0);
	}
	return round;
}

FIXTURE void forget_output(void)
{
	(void)pthread_mutex_lock(&serial.lock);
	memset(serial.text, 0, serial.len);
	serial.len = 0;
	(void)pthread_mutex_unlock(&serial.lock);
}

#endif
