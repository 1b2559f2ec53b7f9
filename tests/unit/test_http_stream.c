/* SPDX-License-Identifier: Apache-2.0 */
/* Answers without an end, and the end of the server. */
#include "harness/http_rig.h"

/* --- Streams --- */

static void check_heard(int fd, const char *expected)
{
	char data[1000];
	ssize_t n;

	pump();
	n = hear(fd, data, sizeof(data) - 1);
	ck_assert_int_ge(n, 0);
	data[n] = '\0';
	ck_assert_str_eq(data, expected);
}

START_TEST(test_stream)
{
	int fd = dial();

	say(fd, "GET /stream HTTP/1.1\r\n\r\n");
	check_heard(fd, "HTTP/1.1 200 OK\r\nServer: unit\r\nConnection: keep-alive\r\n"
			"Content-Type: text/x\r\nTransfer-Encoding: chunked\r\n\r\n");
	http_call_stream(later[0], "hello\n", 6);
	check_heard(fd, "6\r\nhello\n\r\n");
	/* What the client asks meanwhile waits for the end. */
	say(fd, "GET /stream-now HTTP/1.1\r\n\r\nHEAD /stream-head HTTP/1.1\r\n\r\n");
	http_call_stream(later[0], "0123456789abcdef", 16);
	check_heard(fd, "10\r\n0123456789abcdef\r\n");
	ck_assert_int_eq(handled, 1);
	http_call_end_stream(later[0]);
	check_heard(fd, "0\r\n\r\n"
			"HTTP/1.1 200 OK\r\nServer: unit\r\nConnection: keep-alive\r\n"
			"Content-Type: text/x\r\nTransfer-Encoding: chunked\r\n\r\n"
			"4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n"
			"HTTP/1.1 200 OK\r\nServer: unit\r\nConnection: keep-alive\r\n"
			"Content-Type: text/x\r\nTransfer-Encoding: chunked\r\n\r\n");
	ck_assert_int_eq(closed_count, 1); /* HEAD's */
	say(fd, "GET /a HTTP/1.1\r\n\r\n");
	check_answer(fd, 200, "/a");
	(void)close(fd);
}
END_TEST

START_TEST(test_stream_to_http10)
{
	int fd = dial();

	say(fd, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	check_heard(fd, "HTTP/1.1 200 OK\r\nServer: unit\r\nConnection: close\r\n"
			"Content-Type: text/x\r\n\r\n");
	http_call_stream(later[0], "hello\n", 6);
	check_heard(fd, "hello\n");
	http_call_end_stream(later[0]);
	check_eof(fd);
	ck_assert_int_eq(closed_count, 0);
	(void)close(fd);
}
END_TEST

START_TEST(test_stream_clients_that_go)
{
	int fd = dial(), half = dial();

	say(fd, "GET /stream HTTP/1.1\r\n\r\n");
	say(half, "GET /stream HTTP/1.1\r\n\r\n");
	ck_assert_int_eq(shutdown(half, SHUT_WR), 0);
	hang_up(fd);
	ck_assert_int_eq(closed_count, 1);
	get_answer(half, &answer, false);
	http_call_stream(later[1], "still there", 11);
	check_heard(half, "b\r\nstill there\r\n");
	/* Gone when it is written to. */
	(void)close(half);
	http_call_stream(later[1], "gone", 4);
	ck_assert_int_eq(closed_count, 2);
	/* Gone before the stream begins. */
	fd = dial();
	say(fd, "GET /later HTTP/1.1\r\n\r\n");
	hang_up(fd);
	http_call_begin_stream(later[2], "text/x", closed, &closed_count);
	ck_assert_int_eq(closed_count, 3);
	fd = dial();
	say(fd, "GET /later HTTP/1.1\r\n\r\n");
	(void)close(fd);
	http_call_begin_stream(later[3], "text/x", closed, &closed_count);
	ck_assert_int_eq(closed_count, 4);
	pump();
	ck_assert_uint_eq(stats().connections, 0);
}
END_TEST

/* How much a subscriber that does not read gets before it is dropped. */
START_TEST(test_slow_subscriber)
{
	static char line[1000];
	int fd = dial(), other = dial();
	size_t sent = 0, heard = 0;
	char data[4096];
	ssize_t n;

	memset(line, 'l', sizeof(line));
	say(fd, "GET /stream HTTP/1.1\r\n\r\n");
	say(other, "GET /stream HTTP/1.1\r\n\r\n");
	get_answer(other, &answer, false);
	while (closed_count == 0) {
		http_call_stream(later[0], line, sizeof(line));
		http_call_stream(later[1], line, sizeof(line));
		sent += sizeof(line);
		ck_assert_uint_lt(sent, MIB(16));
		while (hear(other, data, sizeof(data)) > 0) {
		}
	}
	ck_assert_uint_gt(sent, HTTP_STREAM_WAITING_MAX);
	ck_assert_uint_eq(stats().connections, 1);
	while ((n = hear(fd, data, sizeof(data))) > 0) {
		heard += (size_t)n;
	}
	ck_assert_int_eq(n, -1);
	ck_assert_uint_ge(heard, sent - HTTP_STREAM_WAITING_MAX - 2 * sizeof(line));
	http_call_stream(later[1], "x", 1);
	check_heard(other, "1\r\nx\r\n");
	/* One line that is too much by itself, for a socket that is full. */
	for (int i = 0; i < 100 && closed_count == 1; i++) {
		http_call_stream(later[1], line, sizeof(line));
	}
	ck_assert_int_eq(closed_count, 1);
	{
		char *much = calloc(1, MIB(2));

		ck_assert_ptr_nonnull(much);
		http_call_stream(later[1], much, MIB(2));
		free(much);
	}
	ck_assert_int_eq(closed_count, 2);
	(void)close(fd);
	(void)close(other);
}
END_TEST

/* A backlog reaches its reader whole and in order, and the end behind it. */
START_TEST(test_stream_backlog)
{
	int fd = dial(), next = 0, count = 0;
	char line[64], data[256] = "", expected[64];
	size_t len = 0;

	say(fd, "GET /stream HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\n\r\n");
	get_answer(fd, &answer, false);
	for (int round = 0; round < 3; round++) {
		/* Fill the socket, and then some; 5 bytes of framing. */
		while (((struct http_call *)later[0])->connection->out == NULL ||
		       later[0]->connection->out->body_len < KIB(64)) {
			(void)snprintf(line, sizeof(line), "%010d\n", count++);
			http_call_stream(later[0], line, 11);
			ck_assert_int_eq(closed_count, 0);
		}
		if (round == 2) {
			http_call_end_stream(later[0]);
		}
		while (next < count - (round == 2 ? 0 : 100)) {
			ssize_t n = hear(fd, data + len, 16 - len);

			ck_assert_int_gt(n, 0);
			len += (size_t)n;
			if (len == 16) {
				(void)snprintf(expected, sizeof(expected), "b\r\n%010d\n\r\n",
					       next++);
				ck_assert_mem_eq(data, expected, 16);
				len = 0;
			}
		}
	}
	ck_assert_int_eq(hear(fd, data, 5), 5);
	ck_assert_mem_eq(data, "0\r\n\r\n", 5);
	check_answer(fd, 200, "/a");
	ck_assert_int_eq(closed_count, 0);
	(void)close(fd);
}
END_TEST

/* --- The end of the server --- */

START_TEST(test_destroy_with_open_calls)
{
	int fds[5];
	static const char *const requests[] = { "GET /later HTTP/1.1\r\n\r\n",
						"GET /stream HTTP/1.1\r\n\r\n",
						"GET /big HTTP/1.1\r\n\r\n",
						"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "" };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
		say(fds[i], requests[i]);
	}
	destroy();
	destroy();
	ck_assert_int_eq(closed_count, 1);
	reply_text(later[0], "into nothing");
	pump();
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		(void)close(fds[i]);
	}
}
END_TEST

static const char *const destroyers[] = { "/destroy", "/reply-destroy" };

START_TEST(test_destroy_in_handle)
{
	int fd = dial(), other = dial();
	char text[100];

	(void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
		       destroyers[_i]);
	ck_assert_int_gt(send(other, "GET /a HTTP/1.1\r\n\r\n", 19, 0), 0);
	ck_assert_int_gt(send(fd, text, strlen(text), 0), 0);
	pump();
	ck_assert_ptr_null(server);
	if (_i == 1) {
		check_answer(fd, 200, "bye");
	}
	check_eof(fd);
	(void)close(fd);
	(void)close(other);
}
END_TEST

START_TEST(test_destroy_in_closed)
{
	int fds[3];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
		say(fds[i], "GET /stream HTTP/1.1\r\n\r\n");
	}
	/* One ends another, which is not told, and then everything. */
	end_in_closed = later[1];
	destroy_in_closed = true;
	hang_up(fds[0]);
	ck_assert_ptr_null(server);
	ck_assert_int_eq(closed_count, 2);
	(void)close(fds[1]);
	(void)close(fds[2]);
}
END_TEST

/* The same from within http_call_stream(), and while the server flushes. */
START_TEST(test_destroy_in_closed_of_writer)
{
	int fds[2];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
		say(fds[i], "GET /stream HTTP/1.1\r\n\r\n");
	}
	while (_i == 1 && later[0]->connection->out == NULL) {
		http_call_stream(later[0], "0123456789", 10);
	}
	(void)close(fds[0]);
	destroy_in_closed = true;
	if (_i == 0) {
		http_call_stream(later[0], "x", 1);
	} else {
		http_server_flush(server, 1000000);
	}
	ck_assert_ptr_null(server);
	ck_assert_int_eq(closed_count, 2);
	check_answer(fds[1], 200, NULL);
	check_eof(fds[1]);
	(void)close(fds[1]);
}
END_TEST

START_TEST(test_stream_ends_another_in_destroy)
{
	int fds[2];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
		say(fds[i], "GET /stream HTTP/1.1\r\n\r\n");
	}
	end_in_closed = later[1];
	destroy();
	ck_assert_int_eq(closed_count, 1);
	(void)close(fds[0]);
	(void)close(fds[1]);
}
END_TEST

static void *read_all(void *arg)
{
	int fd = *(int *)arg;
	static char data[1 << 16];
	size_t len = 0;
	ssize_t n;

	ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0);
	do {
		n = read(fd, data, sizeof(data));
		len += n > 0 ? (size_t)n : 0;
	} while (n > 0 && len < BIG);
	return (void *)(uintptr_t)len;
}

START_TEST(test_flush)
{
	int fd = dial(), never = dial(), stream = dial();
	pthread_t reader;
	void *len;

	http_server_flush(server, 1000000); /* nothing to wait for */
	say(stream, "GET /stream HTTP/1.1\r\n\r\n");
	say(fd, "GET /big HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n");
	ck_assert_int_eq(pthread_create(&reader, NULL, read_all, &fd), 0);
	http_server_flush(server, 1000000);
	ck_assert_int_eq(pthread_join(reader, &len), 0);
	ck_assert_uint_ge((uintptr_t)len, BIG);
	ck_assert_int_eq(handled, 2); /* no more requests are begun */
	pump();
	ck_assert_int_eq(handled, 3);
	/* Who does not read is waited for in vain; who is gone, not at all. */
	say(never, "GET /big HTTP/1.1\r\n\r\n");
	http_server_flush(server, 20);
	(void)close(never);
	http_server_flush(server, 1000000);
	ck_assert_uint_eq(stats().connections, 2);
	(void)close(fd);
	(void)close(stream);
}
END_TEST

CHECK_MAIN("http_stream", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_stream);
	   CHECK_TEST(test_stream_to_http10); CHECK_TEST(test_stream_clients_that_go);
	   CHECK_TEST(test_slow_subscriber); CHECK_TEST(test_stream_backlog);
	   CHECK_TEST(test_destroy_with_open_calls);
	   CHECK_TABLE(test_destroy_in_handle, destroyers); CHECK_TEST(test_destroy_in_closed);
	   CHECK_LOOP(test_destroy_in_closed_of_writer, 2);
	   CHECK_TEST(test_stream_ends_another_in_destroy); CHECK_TEST(test_flush))
