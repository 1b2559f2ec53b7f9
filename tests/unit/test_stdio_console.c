/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console on standard input and output, what goes out: a slow reader, a reader that goes, threads,
 * sockets and files, what is said at the end.
 */
#include "harness/stdio_rig.h"

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
			ck_assert_msg(buf[i] == pattern(got), "byte %zu", got);
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
	int messages = begin_messages();

	use_pipes();
	make(false);
	start();
	close_end(&from_console);
	output("12345", 5);
	stdio_console_finish(&console);
	stdio_console_finish(&console); /* a second one does nothing */
	console_made = false;
	ck_assert_uint_eq(end_messages(messages, "5 bytes"), 1);
}
END_TEST

CHECK_MAIN("stdio_console", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_output);
	   CHECK_TEST(test_slow_reader); CHECK_TEST(test_dropped); CHECK_TEST(test_ring_wraps);
	   CHECK_TEST(test_reader_goes); CHECK_TEST(test_reader_goes_while_full);
	   CHECK_TEST(test_threads); CHECK_TEST(test_shared_flags); CHECK_TEST(test_socket_output);
	   CHECK_TEST(test_file_output); CHECK_TEST(test_finish_flushes);
	   CHECK_TEST(test_finish_says_what_was_dropped))
