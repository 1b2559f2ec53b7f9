/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console on standard input and output, with pipes in their place and a guest that takes as
 * much as the test says: a slow reader, a reader that goes, escape sequences, input that the guest
 * does not want yet, files as input.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/log.h"

#include "../../src/cli/stdio_console.h"

#define GUEST_MAX KIB(256)

static struct loop loop;
static struct stdio_console console;
static bool console_made;
static struct error e;
static int saved_stdin, saved_stdout, saved_stderr;
static int to_console = -1, from_console = -1; /* our ends */

/* The guest. */
static struct {
	uint8_t data[GUEST_MAX];
	size_t len, room;
	int commands[8];
	int command_count;
} guest;

static size_t deliver(struct stdio_console *c, const uint8_t *data, size_t len)
{
	size_t take = MIN(len, guest.room);

	ck_assert_ptr_eq(c, &console);
	ck_assert_uint_gt(len, 0);
	ck_assert_uint_le(guest.len + take, sizeof(guest.data));
	memcpy(guest.data + guest.len, data, take);
	guest.len += take;
	guest.room -= take;
	return take;
}

static void command(struct stdio_console *c, enum escape_command number)
{
	ck_assert_ptr_eq(c, &console);
	ck_assert_int_lt(guest.command_count, (int)ARRAY_SIZE(guest.commands));
	guest.commands[guest.command_count++] = (int)number;
}

static void setup(void)
{
	(void)signal(SIGPIPE, SIG_IGN);
	saved_stdin = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
	saved_stdout = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);
	saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	memset(&guest, 0, sizeof(guest));
	guest.room = GUEST_MAX;
	memset(&console, 0, sizeof(console));
	console_made = false;
	e = (struct error){ 0 };
	check_ok(loop_init(&loop, &e), &e);
	to_console = from_console = -1;
}

static void close_end(int *fd)
{
	if (*fd >= 0) {
		(void)close(*fd);
	}
	*fd = -1;
}

static void teardown(void)
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
static void replace(int fd, int standard)
{
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(dup2(fd, standard), standard);
	(void)close(fd);
}

static void use_pipes(void)
{
	int in[2], out[2];

	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	to_console = in[1];
	from_console = out[0];
	replace(in[0], STDIN_FILENO);
	replace(out[1], STDOUT_FILENO);
}

static void make(bool escapes)
{
	check_ok(stdio_console_init(&console, &loop, escapes, &e), &e);
	console_made = true;
	console.deliver = deliver;
	console.command = command;
}

static void start(void)
{
	check_ok(stdio_console_start(&console, &e), &e);
}

/* Rounds of the loop until nothing is ready. */
static void settle(void)
{
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(loop_step(&loop, 0), 0);
	}
}

static void output(const void *data, size_t len)
{
	console.channel.output(&console.channel, data, len);
}

static void type(const char *text)
{
	ck_assert_int_eq(write(to_console, text, strlen(text)), (ssize_t)strlen(text));
}

static void expect_guest(const char *text)
{
	ck_assert_uint_eq(guest.len, strlen(text));
	ck_assert_mem_eq(guest.data, text, guest.len);
	guest.len = 0;
}

/* Byte number `i` of a long output. */
static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + (i >> 8));
}

static size_t pipe_size(void)
{
	return (size_t)fcntl(from_console, F_GETPIPE_SZ);
}

/* Reads what is there; checks that it goes on as pattern(). */
static size_t read_pattern(size_t at)
{
	uint8_t buf[4096];
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
static void write_pattern(size_t from, size_t len)
{
	uint8_t piece[100];

	for (size_t at = from; at < from + len; at += sizeof(piece)) {
		size_t n = MIN(sizeof(piece), from + len - at);

		for (size_t i = 0; i < n; i++) {
			piece[i] = pattern(at + i);
		}
		output(piece, n);
	}
}

START_TEST(test_output)
{
	char text[16] = "";

	use_pipes();
	make(false);
	start();
	output("hello", 5);
	/* At once, without main. */
	ck_assert_int_eq(read(from_console, text, sizeof(text)), 5);
	ck_assert_str_eq(text, "hello");
	ck_assert_uint_eq(console.dropped, 0);
}
END_TEST

/* A pipe that is full, then the ring, then main empties it in order when the reader reads. */
START_TEST(test_slow_reader)
{
	size_t total, got = 0;

	use_pipes();
	make(false);
	start();
	total = pipe_size() + STDIO_CONSOLE_RING / 2;
	write_pattern(0, total);
	ck_assert_uint_eq(console.dropped, 0);
	ck_assert_uint_gt(console.ring_len, 0);
	for (int i = 0; i < 100 && got < total; i++) {
		settle();
		got += read_pattern(got);
	}
	ck_assert_uint_eq(got, total);
	settle();
	ck_assert(!console.draining);
	/* And straight again. */
	write_pattern(total, 100);
	ck_assert_uint_eq(console.ring_len, 0);
	ck_assert_uint_eq(read_pattern(total), 100);
}
END_TEST

START_TEST(test_dropped)
{
	size_t pipe_bytes, got = 0;

	use_pipes();
	make(false);
	start();
	pipe_bytes = pipe_size();
	write_pattern(0, pipe_bytes + STDIO_CONSOLE_RING + 12345);
	settle();
	ck_assert_uint_eq(console.ring_len, STDIO_CONSOLE_RING);
	ck_assert_uint_ge(console.dropped, 12345);
	/* What was kept is the beginning, whole. */
	for (int i = 0; i < 100; i++) {
		got += read_pattern(got);
		settle();
	}
	ck_assert_uint_eq(got + console.dropped, pipe_bytes + STDIO_CONSOLE_RING + 12345);
}
END_TEST

/* More than once around the ring. */
START_TEST(test_ring_wraps)
{
	size_t sent = 0, got = 0;

	use_pipes();
	(void)fcntl(from_console, F_SETPIPE_SZ, 4096);
	make(false);
	start();
	for (int i = 0; i < 200; i++) {
		write_pattern(sent, 3000);
		sent += 3000;
		settle();
		got += read_pattern(got);
		settle();
	}
	for (int i = 0; i < 100 && got < sent; i++) {
		settle();
		got += read_pattern(got);
	}
	ck_assert_uint_eq(console.dropped, 0);
	ck_assert_uint_eq(got, sent);
}
END_TEST

START_TEST(test_reader_goes)
{
	use_pipes();
	make(false);
	start();
	close_end(&from_console);
	output("lost", 4);
	output("lost", 4);
	settle();
	ck_assert(console.output_failed);
	ck_assert_uint_eq(console.dropped, 8);
}
END_TEST

START_TEST(test_reader_goes_while_full)
{
	use_pipes();
	make(false);
	start();
	write_pattern(0, pipe_size() + 1000);
	settle();
	ck_assert_uint_gt(console.ring_len, 0);
	close_end(&from_console);
	settle();
	ck_assert(console.output_failed);
	ck_assert_uint_eq(console.ring_len, 0);
	ck_assert(!console.draining);
	ck_assert_uint_ge(console.dropped, 1000);
}
END_TEST

static void *write_much(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2000; i++) {
		output("0123456789abcdef", 16);
	}
	return NULL;
}

/* Two threads of the guest write while main drains: pieces of 16 stay whole, and nothing vanishes
 * uncounted. */
START_TEST(test_threads)
{
	pthread_t threads[2];
	uint64_t got = 0;
	uint8_t buf[4096];
	struct pollfd p;
	size_t phase = 0;

	use_pipes();
	make(false);
	start();
	for (size_t i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_much, NULL), 0);
	}
	p = (struct pollfd){ .fd = from_console, .events = POLLIN };
	for (int idle = 0; idle < 3;) {
		(void)loop_step(&loop, 0);
		if (poll(&p, 1, 20) == 1) {
			ssize_t n = read(from_console, buf, sizeof(buf));

			idle = 0;
			got += (uint64_t)n;
			for (ssize_t i = 0; i < n && console.dropped == 0; i++) {
				ck_assert_int_eq(buf[i], "0123456789abcdef"[phase++ % 16]);
			}
		} else {
			idle++;
		}
	}
	for (size_t i = 0; i < 2; i++) {
		(void)pthread_join(threads[i], NULL);
	}
	settle();
	while (poll(&p, 1, 0) == 1) {
		got += (uint64_t)read(from_console, buf, sizeof(buf));
		settle();
	}
	ck_assert_uint_eq(got + console.dropped, 2 * 2000 * 16);
}
END_TEST

/* The flags of descriptions that the shell shares stay as they are. */
START_TEST(test_shared_flags)
{
	int in, out;

	use_pipes();
	in = fcntl(STDIN_FILENO, F_GETFL);
	out = fcntl(STDOUT_FILENO, F_GETFL);
	make(false);
	start();
	write_pattern(0, pipe_size() + 10);
	settle();
	ck_assert_int_eq(fcntl(STDIN_FILENO, F_GETFL), in);
	ck_assert_int_eq(fcntl(STDOUT_FILENO, F_GETFL), out);
	ck_assert_int_eq(out & O_NONBLOCK, 0);
	ck_assert(console.output_own);
}
END_TEST

/* A socket cannot be opened a second time: it is asked before each write, and does not block
 * either. */
START_TEST(test_socket_output)
{
	int pair[2];
	char buf[4096];
	ssize_t n;
	size_t got = 0;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	from_console = pair[0];
	replace(pair[1], STDOUT_FILENO);
	replace(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
	make(false);
	start();
	write_pattern(0, MIB(1));
	settle();
	ck_assert(!console.output_own);
	ck_assert_int_eq(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK, 0);
	while ((n = recv(from_console, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		for (ssize_t i = 0; i < n; i++, got++) {
			ck_assert_msg((uint8_t)buf[i] == pattern(got), "byte %zu", got);
		}
		settle();
	}
	ck_assert_uint_eq(got + console.dropped, MIB(1));
	ck_assert_uint_ge(got, STDIO_CONSOLE_RING);
}
END_TEST

/* A file keeps its offset: what was in it before stays. */
START_TEST(test_file_output)
{
	int file = memfd_create("out", MFD_CLOEXEC);
	char text[64] = "";

	ck_assert_int_eq(write(file, "before ", 7), 7);
	replace(fcntl(file, F_DUPFD_CLOEXEC, 0), STDOUT_FILENO);
	replace(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
	make(false);
	start();
	output("after", 5);
	ck_assert_int_eq(pread(file, text, sizeof(text) - 1, 0), 12);
	ck_assert_str_eq(text, "before after");
	(void)close(file);
}
END_TEST

START_TEST(test_finish_flushes)
{
	size_t total, got;

	use_pipes();
	make(false);
	start();
	total = pipe_size() + 100;
	write_pattern(0, total);
	got = read_pattern(0);
	stdio_console_finish(&console);
	console_made = false;
	got += read_pattern(got);
	ck_assert_uint_eq(got, total);
}
END_TEST

START_TEST(test_finish_says_what_was_dropped)
{
	int messages = memfd_create("messages", MFD_CLOEXEC);
	char text[512] = "";

	use_pipes();
	log_init(LOG_INFO, messages);
	make(false);
	start();
	close_end(&from_console);
	output("12345", 5);
	stdio_console_finish(&console);
	stdio_console_finish(&console); /* a second one does nothing */
	console_made = false;
	log_init(LOG_INFO, STDERR_FILENO);
	ck_assert_int_gt(pread(messages, text, sizeof(text) - 1, 0), 0);
	ck_assert_msg(strstr(text, "5 bytes") != NULL, "'%s'", text);
	(void)close(messages);
}
END_TEST

START_TEST(test_input)
{
	use_pipes();
	make(false);
	start();
	type("root\n");
	settle();
	expect_guest("root\n");
	/* From a pipe, the escape prefix is a byte as any other. */
	type("\x1dk\x1d");
	settle();
	expect_guest("\x1dk\x1d");
	ck_assert_int_eq(guest.command_count, 0);
	close_end(&to_console);
	settle();
	ck_assert(console.input_ended);
}
END_TEST

/* Nothing is read before the guest is there. */
START_TEST(test_input_waits_for_start)
{
	use_pipes();
	make(false);
	type("early");
	settle();
	ck_assert_uint_eq(guest.len, 0);
	start();
	settle();
	expect_guest("early");
}
END_TEST

START_TEST(test_backpressure)
{
	static char text[8192];
	size_t sent = 0;

	use_pipes();
	(void)fcntl(to_console, F_SETPIPE_SZ, 4096);
	ck_assert_int_eq(fcntl(to_console, F_SETFL, O_NONBLOCK), 0);
	memset(text, 'x', sizeof(text));
	make(false);
	start();
	guest.room = 10;
	for (int i = 0; i < 100; i++) {
		ssize_t n = write(to_console, text, sizeof(text));

		sent += n > 0 ? (size_t)n : 0;
		settle();
	}
	/* The guest has its ten, one buffer waits here, the rest in the pipe: memory is bounded. */
	ck_assert_uint_eq(guest.len, 10);
	ck_assert_uint_le(sent, 10 + sizeof(console.pending) + 4096);
	/* Room again, as a device says it: all comes. */
	guest.room = GUEST_MAX;
	console.channel.input_ready(&console.channel);
	settle();
	ck_assert_uint_eq(guest.len, sent);
	type("more");
	settle();
	ck_assert_uint_eq(guest.len, sent + 4);
}
END_TEST

/* One byte of room at a time, the order stays. */
START_TEST(test_drop_by_drop)
{
	use_pipes();
	make(false);
	start();
	guest.room = 0;
	type("abcdefgh");
	settle();
	for (int i = 0; i < 8; i++) {
		guest.room = 1;
		console.channel.input_ready(&console.channel);
		settle();
	}
	expect_guest("abcdefgh");
}
END_TEST

static void use_file(size_t size)
{
	int file = memfd_create("in", MFD_CLOEXEC);
	uint8_t *data = malloc(size + 1);

	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < size; i++) {
		data[i] = pattern(i);
	}
	ck_assert_int_eq(pwrite(file, data, size, 0), (ssize_t)size);
	free(data);
	replace(file, STDIN_FILENO);
	replace(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
}

static const size_t file_sizes[] = { 0, 1, 4095, 4096, 4097, 100000 };

/* epoll cannot wait for a file: it is read as far as the guest takes it. */
START_TEST(test_file_input)
{
	use_file(file_sizes[_i]);
	make(false);
	guest.room = 50;
	start();
	for (int i = 0; i < 3000 && !console.input_ended; i++) {
		settle();
		guest.room = 50;
		console.channel.input_ready(&console.channel);
	}
	ck_assert(console.input_ended);
	ck_assert_uint_eq(guest.len, file_sizes[_i]);
	for (size_t i = 0; i < guest.len; i++) {
		ck_assert_uint_eq(guest.data[i], pattern(i));
	}
	/* A guest that asks on and on does not make main spin. */
	console.channel.input_ready(&console.channel);
	settle();
}
END_TEST

START_TEST(test_null_input)
{
	use_file(0);
	replace(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
	make(false);
	start();
	settle();
	ck_assert(console.input_ended);
	ck_assert_uint_eq(guest.len, 0);
	output("goes nowhere", 12);
	ck_assert_uint_eq(console.dropped, 0);
}
END_TEST

START_TEST(test_closed_input)
{
	use_pipes();
	(void)close(STDIN_FILENO);
	make(false);
	if (stdio_console_start(&console, &e) < 0) {
		ck_assert_str_ne(e.msg, "");
	}
	settle();
	ck_assert_uint_eq(guest.len, 0);
}
END_TEST

static const struct escape_row {
	const char *typed, *arrives;
	int commands[4];
	int count;
} escapes[] = {
	{ "plain", "plain", { 0 }, 0 },
	{ "a\x1dqb", "ab", { ESCAPE_POWER_BUTTON }, 1 },
	{ "\x1dk", "", { ESCAPE_STOP }, 1 },
	{ "\x1dr", "", { ESCAPE_RESET }, 1 },
	{ "\x1d"
	  "c",
	  "",
	  { ESCAPE_CTRL_ALT_DEL },
	  1 },
	{ "\x1d\x1d", "\x1d", { 0 }, 0 },
	{ "\x1d\x1dk", "\x1dk", { 0 }, 0 },
	{ "\x1d\x1d\x1dk", "\x1d", { ESCAPE_STOP }, 1 },
	{ "\x1d?x", "x", { 0 }, 0 },
	{ "\x1dzk", "k", { 0 }, 0 },
	{ "\x1dq\x1d"
	  "c\x1drx",
	  "x",
	  { ESCAPE_POWER_BUTTON, ESCAPE_CTRL_ALT_DEL, ESCAPE_RESET },
	  3 },
	{ "text\x1d", "text", { 0 }, 0 },
	/* Says how one would detach. */
	{ "\x1d"
	  "dx",
	  "x",
	  { 0 },
	  0 },
};

static void check_escapes(const struct escape_row *row)
{
	expect_guest(row->arrives);
	ck_assert_int_eq(guest.command_count, row->count);
	for (int i = 0; i < row->count; i++) {
		ck_assert_int_eq(guest.commands[i], row->commands[i]);
	}
}

static void quiet_stderr(void)
{
	replace(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
}

START_TEST(test_escapes)
{
	use_pipes();
	quiet_stderr();
	make(true);
	start();
	type(escapes[_i].typed);
	settle();
	check_escapes(&escapes[_i]);
}
END_TEST

/* As people type: a key at a time. */
START_TEST(test_escapes_key_by_key)
{
	use_pipes();
	quiet_stderr();
	make(true);
	start();
	for (const char *key = escapes[_i].typed; *key != '\0'; key++) {
		char one[2] = { *key, '\0' };

		type(one);
		settle();
	}
	check_escapes(&escapes[_i]);
}
END_TEST

/* Nothing comes after the prefix: in the end it was for the guest, and so is the next key. */
START_TEST(test_prefix_alone)
{
	use_pipes();
	make(true);
	start();
	type("a\x1d");
	settle();
	expect_guest("a");
	ck_assert_ptr_nonnull(loop.timers);
	while (loop.timers != NULL) {
		ck_assert_int_eq(loop_step(&loop, -1), 0);
	}
	expect_guest("\x1d");
	type("k");
	settle();
	expect_guest("k");
	ck_assert_int_eq(guest.command_count, 0);
	/* A command in time leaves no timer; nor does the end. */
	type("\x1dk");
	settle();
	ck_assert_int_eq(guest.command_count, 1);
	ck_assert_ptr_null(loop.timers);
	type("\x1d");
	settle();
	stdio_console_finish(&console);
	console_made = false;
	ck_assert_ptr_null(loop.timers);
}
END_TEST

/* A guest that takes nothing: a prefix alone is lost like anything else that is typed. */
START_TEST(test_prefix_alone_to_deaf_guest)
{
	use_pipes();
	make(true);
	start();
	guest.room = 0;
	type("a");
	settle();
	type("\x1d");
	settle();
	while (loop.timers != NULL) {
		ck_assert_int_eq(loop_step(&loop, -1), 0);
	}
	guest.room = 10;
	console.channel.input_ready(&console.channel);
	settle();
	expect_guest("a");
}
END_TEST

START_TEST(test_escape_help)
{
	int messages = memfd_create("help", MFD_CLOEXEC);
	char text[1024] = "";

	use_pipes();
	replace(fcntl(messages, F_DUPFD_CLOEXEC, 0), STDERR_FILENO);
	make(true);
	start();
	type("\x1d?");
	settle();
	ck_assert_int_gt(pread(messages, text, sizeof(text) - 1, 0), 0);
	for (const char *key = "?qkrc"; *key != '\0'; key++) {
		char words[16];

		(void)snprintf(words, sizeof(words), "Ctrl-] %c ", *key);
		ck_assert_msg(strstr(text, words) != NULL, "no '%s' in the help", words);
	}
	(void)close(messages);
}
END_TEST

/* A guest that reads nothing must not take the commands away from the user. */
START_TEST(test_escapes_of_deaf_guest)
{
	use_pipes();
	make(true);
	start();
	guest.room = 0;
	type("typed before\r");
	settle();
	type("and lost");
	settle();
	type("\x1d");
	settle();
	type("k");
	settle();
	ck_assert_int_eq(guest.command_count, 1);
	ck_assert_int_eq(guest.commands[0], ESCAPE_STOP);
	/* What was read first still arrives when the guest listens. */
	guest.room = GUEST_MAX;
	console.channel.input_ready(&console.channel);
	settle();
	expect_guest("typed before\r");
	type("again");
	settle();
	expect_guest("again");
}
END_TEST

/* The terminal goes away while the guest does not listen: heard once, not again and again. */
START_TEST(test_hangup_with_deaf_guest)
{
	use_pipes();
	make(true);
	start();
	guest.room = 0;
	type("typed before\r");
	settle();
	close_end(&to_console);
	settle();
	ck_assert(console.input_ended);
	guest.room = GUEST_MAX;
	console.channel.input_ready(&console.channel);
	settle();
	expect_guest("typed before\r");
}
END_TEST

CHECK_MAIN("stdio_console", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_output);
	   CHECK_TEST(test_slow_reader); CHECK_TEST(test_dropped); CHECK_TEST(test_ring_wraps);
	   CHECK_TEST(test_reader_goes); CHECK_TEST(test_reader_goes_while_full);
	   CHECK_TEST(test_threads); CHECK_TEST(test_shared_flags); CHECK_TEST(test_socket_output);
	   CHECK_TEST(test_file_output); CHECK_TEST(test_finish_flushes);
	   CHECK_TEST(test_finish_says_what_was_dropped); CHECK_TEST(test_input);
	   CHECK_TEST(test_input_waits_for_start); CHECK_TEST(test_backpressure);
	   CHECK_TEST(test_drop_by_drop); CHECK_TABLE(test_file_input, file_sizes);
	   CHECK_TEST(test_null_input); CHECK_TEST(test_closed_input);
	   CHECK_TABLE(test_escapes, escapes); CHECK_TABLE(test_escapes_key_by_key, escapes);
	   CHECK_TEST(test_prefix_alone); CHECK_TEST(test_prefix_alone_to_deaf_guest);
	   CHECK_TEST(test_escape_help); CHECK_TEST(test_escapes_of_deaf_guest);
	   CHECK_TEST(test_hangup_with_deaf_guest))
