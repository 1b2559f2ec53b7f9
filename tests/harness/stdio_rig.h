/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console on standard input and output, with pipes in their place.
 */
#ifndef TESTS_HARNESS_STDIO_RIG_H
#define TESTS_HARNESS_STDIO_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/console_guest.h"

#include "../../src/cli/stdio_console.h"

static struct stdio_console console;
static bool console_made;

static int saved_stdin, saved_stdout, saved_stderr;
static int to_console = -1, from_console = -1; /* our ends */

/* What the user asked for. */
static struct {
	int commands[8];
	int count;
} asked;

static inline size_t deliver(struct stdio_console *c, const uint8_t *data, size_t len)
{
	ck_assert_ptr_eq(c, &console);
	return guest_take(data, len);
}

static inline void command(struct stdio_console *c, enum escape_command number)
{
	ck_assert_ptr_eq(c, &console);
	ck_assert_int_lt(asked.count, (int)ARRAY_SIZE(asked.commands));
	asked.commands[asked.count++] = (int)number;
}

static inline void setup(void)
{
	(void)signal(SIGPIPE, SIG_IGN);
	saved_stdin = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
	saved_stdout = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);
	saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	memset(&asked, 0, sizeof(asked));
	guest_begin();
	memset(&console, 0, sizeof(console));
	console_made = false;
	to_console = from_console = -1;
}

static inline void close_end(int *fd)
{
	if (*fd >= 0) {
		(void)close(*fd);
	}
	*fd = -1;
}

static inline void teardown(void)
{
	close_end(&to_console);
	close_end(&from_console);
	if (console_made) {
		stdio_console_finish(&console);
	}
	loop_finish(&loop);
	(void)dup2(saved_stdin, STDIN_FILENO);
	(void)dup2(saved_stdout, STDOUT_FILENO);
	(void)dup2(saved_stderr, STDERR_FILENO);
	(void)close(saved_stdin);
	(void)close(saved_stdout);
	(void)close(saved_stderr);
}

/* Puts a descriptor in the place of a standard one and closes it. */
static inline void replace(int fd, int standard)
{
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(dup2(fd, standard), standard);
	(void)close(fd);
}

static inline void use_pipes(void)
{
	int in[2], out[2];

	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	to_console = in[1];
	from_console = out[0];
	replace(in[0], STDIN_FILENO);
	replace(out[1], STDOUT_FILENO);
}

static inline void make(bool escapes)
{
	check_ok(stdio_console_init(&console, &loop, escapes, &e), &e);
	console_made = true;
	console.deliver = deliver;
	console.command = command;
}

static inline void start(void)
{
	check_ok(stdio_console_start(&console, &e), &e);
}

/* Rounds of the loop until nothing is ready. */

static inline void output(const void *data, size_t len)
{
	console.channel.output(&console.channel, data, len);
}

static inline void type(const char *text)
{
	ck_assert_int_eq(write(to_console, text, strlen(text)), (ssize_t)strlen(text));
}

static inline size_t pipe_size(void)
{
	return (size_t)fcntl(from_console, F_GETPIPE_SZ);
}

/* Reads what is there; checks that it goes on as pattern(). */
static inline size_t read_pattern(size_t at)
{
	char buf[4096];
	struct pollfd p = { .fd = from_console, .events = POLLIN };
	size_t start_at = at;

	while (poll(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0) {
		ssize_t n = read(from_console, buf, sizeof(buf));

		ck_assert_int_gt(n, 0);
		for (ssize_t i = 0; i < n; i++, at++) {
			ck_assert_msg(buf[i] == pattern(at), "byte %zu", at);
		}
	}
	return at - start_at;
}

/* A guest that writes `len` bytes from its thread, in pieces of 100. */
static inline void write_pattern(size_t from, size_t len)
{
	write_pieces(from, len, 100);
}

#endif
