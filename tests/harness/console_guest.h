/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands behind a console in a test: a guest that takes as much input as the test says and writes
 * long outputs that can be told apart from what was lost of them, a loop, and the log's lines. The
 * file that includes it says what output() is.
 */
#ifndef TESTS_HARNESS_CONSOLE_GUEST_H
#define TESTS_HARNESS_CONSOLE_GUEST_H

#include <sys/mman.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/log.h"
#include "vmm/loop.h"

#define GUEST_MAX KIB(512)

static struct loop loop;
static struct error e;
static struct {
	uint8_t data[GUEST_MAX];
	size_t len, room;
} guest;

static void output(const void *data, size_t len);

/* For the fixture: a guest that takes all, and a loop. */
static inline void guest_begin(void)
{
	memset(&guest, 0, sizeof(guest));
	guest.room = GUEST_MAX;
	e = (struct error){ 0 };
	check_ok(loop_init(&loop, &e), &e);
}

/* What it takes of an input. */
static inline size_t guest_take(const uint8_t *data, size_t len)
{
	size_t take = MIN(len, guest.room);

	ck_assert_uint_gt(len, 0);
	ck_assert_uint_le(guest.len + take, sizeof(guest.data));
	memcpy(guest.data + guest.len, data, take);
	guest.len += take;
	guest.room -= take;
	return take;
}

static inline void expect_guest(const char *text)
{
	ck_assert_uint_eq(guest.len, strlen(text));
	ck_assert_mem_eq(guest.data, text, guest.len);
	guest.len = 0;
}

/* Rounds of the loop until nothing is ready. */
static inline void settle(void)
{
	for (int i = 0; i < 50; i++) {
		/* libcheck notes each assertion that holds, with a system call. */
		if (loop_step(&loop, 0) != 0) {
			ck_abort_msg("the loop failed");
		}
	}
}

/* Byte number `i` of a long output: never part of a note of loss, never a line's end. */
static inline char pattern(uint64_t i)
{
	return (char)('a' + (i * 7 + (i >> 8) * 3 + (i >> 16)) % 26);
}

/* The guest writes `len` bytes of it, in pieces of `size`. */
static inline void write_pieces(uint64_t from, uint64_t len, size_t size)
{
	char piece[1000];

	ck_assert_uint_le(size, sizeof(piece));
	for (uint64_t at = from; at < from + len; at += size) {
		size_t n = MIN(size, from + len - at);

		for (size_t i = 0; i < n; i++) {
			piece[i] = pattern(at + i);
		}
		output(piece, n);
	}
}

/* Lines of the log go to a file in memory until end_messages(). */
static inline int begin_messages(void)
{
	int messages = memfd_create("messages", MFD_CLOEXEC);

	log_init(LOG_INFO, messages);
	return messages;
}

/* How often `text` was said. */
static inline unsigned end_messages(int messages, const char *text)
{
	char buf[4096] = "";
	unsigned count = 0;

	log_init(LOG_INFO, STDERR_FILENO);
	ck_assert_int_ge(pread(messages, buf, sizeof(buf) - 1, 0), 0);
	for (const char *at = buf; (at = strstr(at, text)) != NULL; at++) {
		count++;
	}
	(void)close(messages);
	return count;
}

#endif
