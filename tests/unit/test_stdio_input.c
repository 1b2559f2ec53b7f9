/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console on standard input and output, what comes in: input that the guest does not want yet, files as
 * input, escape sequences.
 */
#include "harness/stdio_rig.h"

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
	ck_assert_int_eq(asked.count, 0);
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
	ck_assert_int_eq(asked.count, row->count);
	for (int i = 0; i < row->count; i++) {
		ck_assert_int_eq(asked.commands[i], row->commands[i]);
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
	ck_assert_int_eq(asked.count, 0);
	/* A command in time leaves no timer; nor does the end. */
	type("\x1dk");
	settle();
	ck_assert_int_eq(asked.count, 1);
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
	ck_assert_int_eq(asked.count, 1);
	ck_assert_int_eq(asked.commands[0], ESCAPE_STOP);
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

CHECK_MAIN("stdio_input", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_input);
	   CHECK_TEST(test_input_waits_for_start); CHECK_TEST(test_backpressure);
	   CHECK_TEST(test_drop_by_drop); CHECK_TABLE(test_file_input, file_sizes);
	   CHECK_TEST(test_null_input); CHECK_TEST(test_closed_input);
	   CHECK_TABLE(test_escapes, escapes); CHECK_TABLE(test_escapes_key_by_key, escapes);
	   CHECK_TEST(test_prefix_alone); CHECK_TEST(test_prefix_alone_to_deaf_guest);
	   CHECK_TEST(test_escape_help); CHECK_TEST(test_escapes_of_deaf_guest);
	   CHECK_TEST(test_hangup_with_deaf_guest))
