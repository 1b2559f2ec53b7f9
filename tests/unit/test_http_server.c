/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers, clients that go or do not read. */
#include "harness/http_rig.h"

/* --- Requests and answers --- */

START_TEST(test_bytes_of_an_answer)
{
	static const char expected[] =
		"HTTP/1.1 200 OK\r\nServer: unit\r\nConnection: keep-alive\r\n"
		"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n/a";
	char data[1000];
	int fd = dial();

	say(fd, "GET /a HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
	ck_assert_int_eq(hear(fd, data, sizeof(data)), sizeof(expected) - 1);
	ck_assert_mem_eq(data, expected, sizeof(expected) - 1);
	check_silent(fd);
	ck_assert_uint_eq(stats().requests, 1);
	ck_assert_uint_eq(stats().accepted, 1);
	ck_assert_uint_eq(stats().connections, 1);
	hang_up(fd);
	ck_assert_uint_eq(stats().connections, 0);
}
END_TEST

START_TEST(test_kinds_of_answers)
{
	int fd = dial();

	say(fd, "HEAD /a HTTP/1.1\r\n\r\nGET /none HTTP/1.1\r\n\r\nGET /empty HTTP/1.1\r\n\r\n"
		"OPTIONS /allow HTTP/1.1\r\n\r\nPUT /405 HTTP/1.1\r\n\r\n"
		"GET /query?a=%20 HTTP/1.1\r\n\r\n");
	get_answer(fd, &answer, true);
	ck_assert_uint_eq(answer.len, 2);
	check_answer(fd, 204, "");
	ck_assert_ptr_null(strstr(answer.head, "Content-"));
	check_answer(fd, 200, "");
	ck_assert_str_eq(header(&answer, "Content-Length: "), "0");
	check_answer(fd, 204, "");
	ck_assert_str_eq(header(&answer, "Allow: "), "GET, PUT");
	check_answer(fd, 405, NULL);
	ck_assert_str_eq(header(&answer, "Allow: "), "GET");
	ck_assert_str_eq(error_text("fault_message"),
			 "no \"/405\"\n\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xc3\xa9");
	ck_assert_str_eq(error_text("code"), "no-route");
	ck_assert_str_eq(error_text("hint"), "try\tGET");
	ck_assert_str_eq(error_text("error"), "(none)");
	check_answer(fd, 200, "a=%20");
	(void)close(fd);
}
END_TEST

static const char mixed[] = "GET /one HTTP/1.1\r\n\r\n\r\n"
			    "PUT /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
			    "PUT /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
			    "3;x\r\nwor\r\n2\r\nld\r\n0\r\nT: r\r\n\r\n"
			    "BREW / HTTP/1.1\r\nContent-Length: 4\r\n\r\nxxxx"
			    "GET /two HTTP/1.1\r\n\r\n";

static void check_mixed(int fd)
{
	check_answer(fd, 200, "/one");
	check_answer(fd, 200, "hello");
	check_answer(fd, 200, "world");
	check_answer(fd, 501, NULL);
	check_answer(fd, 200, "/two");
	check_silent(fd);
}

START_TEST(test_byte_at_a_time)
{
	int fd = dial();

	for (size_t i = 0; i < sizeof(mixed) - 1; i++) {
		ck_assert_int_eq(send(fd, mixed + i, 1, 0), 1);
		ck_assert_int_eq(loop_step(&loop, 0), 0);
	}
	check_mixed(fd);
	(void)close(fd);
}
END_TEST

START_TEST(test_pipelining)
{
	char text[100 * 64], expected[64];
	size_t len = 0;
	int fd = dial();

	say(fd, mixed);
	check_mixed(fd);
	for (int i = 0; i < 100; i++) {
		len += (size_t)snprintf(text + len, sizeof(text) - len, "GET /n%d HTTP/1.1\r\n\r\n",
					i);
	}
	ck_assert_int_eq(send(fd, text, len, 0), (ssize_t)len);
	/* A round does not let one client have it all. */
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_lt(handled, 50);
	for (int i = 0; i < 100; i++) {
		(void)snprintf(expected, sizeof(expected), "/n%d", i);
		check_answer(fd, 200, expected);
	}
	check_silent(fd);
	ck_assert_uint_eq(server->buffered, 0);
	(void)close(fd);
}
END_TEST

START_TEST(test_answers_in_order)
{
	int fd = dial();

	say(fd, "GET /later HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n");
	say(fd, "GET /last HTTP/1.1\r\n\r\n");
	check_silent(fd);
	ck_assert_int_eq(handled, 1);
	reply_text(later[0], "now");
	ck_assert_int_eq(handled, 1); /* not from within the answer */
	check_answer(fd, 200, "now");
	check_answer(fd, 200, "/next");
	check_answer(fd, 200, "/last");
	(void)close(fd);
}
END_TEST

START_TEST(test_large_body)
{
	char *body = malloc(BODY_MAX), head[100];
	int fd = dial();

	ck_assert_ptr_nonnull(body);
	for (size_t i = 0; i < BODY_MAX; i++) {
		body[i] = (char)('a' + i % 23);
	}
	for (size_t len = BODY_MAX - 1; len <= BODY_MAX; len++) {
		(void)snprintf(head, sizeof(head),
			       "PUT /echo HTTP/1.1\r\nContent-Length: %zu\r\n\r\n", len);
		say(fd, head);
		say_bytes(fd, body, len);
		check_answer(fd, 200, NULL);
		ck_assert_uint_eq(answer.len, len);
		ck_assert_mem_eq(answer.body, body, len);
	}
	say(fd, "PUT /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (size_t at = 0; at < BODY_MAX; at += KIB(128)) {
		say(fd, "20000\r\n");
		say_bytes(fd, body + at, KIB(128));
		say(fd, "\r\n");
	}
	say(fd, "0\r\n\r\n");
	check_answer(fd, 200, NULL);
	ck_assert_uint_eq(answer.len, BODY_MAX);
	ck_assert_mem_eq(answer.body, body, BODY_MAX);
	/* One byte more is answered before it has come, and is thrown away. */
	say(fd, "PUT /echo HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n");
	check_answer(fd, 413, NULL);
	ck_assert_str_eq(error_text("code"), "too-large");
	say_bytes(fd, body, BODY_MAX);
	say(fd, "xGET /on HTTP/1.1\r\n\r\n");
	check_answer(fd, 200, "/on");
	check_silent(fd);
	ck_assert_uint_eq(server->buffered, 0);
	free(body);
	(void)close(fd);
}
END_TEST

struct refusal {
	const char *request;
	int status;
	const char *message;
	bool goes_on;
};

static const struct refusal refusals[] = {
	{ "nonsense\r\n\r\n", 400, "METHOD" },
	{ "GET / HTTP/3.0\r\n\r\n", 505, "HTTP/3.0" },
	{ "BREW / HTTP/1.1\r\n\r\n", 501, "BREW", true },
	{ "GET /%00 HTTP/1.1\r\n\r\n", 400, "%00", true },
	{ "GET / HTTP/1.1\r\nExpect: x\r\n\r\n", 417, "'x'", true },
	{ "GET / HTTP/1.1\r\na : b\r\n\r\n", 400, "0x20" },
	{ "PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "Content-Length" },
	{ "PUT / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", 400, "Content-Length" },
	{ "PUT / HTTP/1.1\r\nContent-Length: 2147483648\r\n\r\n", 413, "limit" },
	{ "PUT / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\n", 413, "limit" },
	{ "PUT / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", 413, "64 bits" },
	{ "PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "twice" },
	{ "PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
	  "in one" },
	{ "PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "gzip" },
	{ "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n", 413, "limit" },
	{ "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400, "hexadecimal" },
	{ "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1048577\r\n\r\n", 413,
	  "limit" },
};

START_TEST(test_refusals)
{
	const struct refusal *row = &refusals[_i];
	int fd = dial();

	say(fd, row->request);
	check_refused(fd, row->status, row->message, row->goes_on);
	ck_assert_uint_eq(stats().refused, 1);
	ck_assert_int_eq(handled, row->goes_on);
	/* One that ends does so when the client does, for its answer's sake. */
	hang_up(fd);
	ck_assert_uint_eq(stats().connections, 0);
}
END_TEST

/* The answer survives what the client goes on sending. */
START_TEST(test_refused_while_sending)
{
	char *body = calloc(1, BODY_MAX);
	int fd = dial();

	ck_assert_ptr_nonnull(body);
	say(fd, "PUT / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n");
	say_bytes(fd, body, BODY_MAX);
	check_answer(fd, 413, NULL);
	say_bytes(fd, body, BODY_MAX);
	check_eof(fd);
	hang_up(fd);
	/* With a chunk that makes no sense behind a refused head. */
	fd = dial();
	say(fd, "BREW / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
	check_answer(fd, 501, NULL);
	say(fd, "x\r\n");
	check_eof(fd);
	(void)close(fd);
	ck_assert_uint_eq(stats().connections, 0);
	ck_assert_uint_eq(stats().refused, 2);
	ck_assert_int_eq(handled, 0);
	free(body);
}
END_TEST

START_TEST(test_expect_continue)
{
	char data[100] = "";
	int fd = dial();

	say(fd, "PUT /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
	ck_assert_int_eq(hear(fd, data, sizeof(data)), 25);
	ck_assert_str_eq(data, "HTTP/1.1 100 Continue\r\n\r\n");
	check_silent(fd);
	say(fd, "he");
	check_silent(fd);
	say(fd, "llo");
	check_answer(fd, 200, "hello");
	/* Not if the body is there already; each request anew. */
	say(fd, "PUT /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"
		"PUT /echo HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
	check_answer(fd, 200, "hi");
	ck_assert_int_eq(hear(fd, data, sizeof(data)), 25);
	say(fd, "1\r\na\r\n0\r\n\r\n");
	check_answer(fd, 200, "a");
	(void)close(fd);
}
END_TEST

START_TEST(test_connection_close)
{
	int fd = dial();

	/* The answer says so, and the closing is the client's; what else it asks is answered. */
	say(fd, "GET /a HTTP/1.1\r\nConnection: close\r\n\r\n");
	check_answer(fd, 200, "/a");
	ck_assert_str_eq(header(&answer, "Connection: "), "close");
	check_silent(fd);
	say(fd, "GET /b HTTP/1.1\r\nConnection: close\r\n\r\nGET /c HTTP/1.1\r\n\r\n");
	check_answer(fd, 200, "/b");
	check_answer(fd, 200, "/c");
	ck_assert_str_eq(header(&answer, "Connection: "), "keep-alive");
	check_silent(fd);
	(void)close(fd);
	/* A refused one; and who has shut down its side waits for nothing. */
	fd = dial();
	say(fd, "BREW /a HTTP/1.1\r\nConnection: close\r\n\r\n");
	check_answer(fd, 501, NULL);
	ck_assert_str_eq(header(&answer, "Connection: "), "close");
	check_silent(fd);
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	check_eof(fd);
	(void)close(fd);
	/* HTTP/1.0 is no reason to close. */
	fd = dial();
	say(fd, "GET /a HTTP/1.0\r\n\r\n");
	check_answer(fd, 200, "/a");
	ck_assert_str_eq(header(&answer, "Connection: "), "keep-alive");
	check_silent(fd);
	say(fd, "GET /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /c HTTP/1.0\r\n\r\n");
	check_answer(fd, 200, "/b");
	check_answer(fd, 200, "/c");
	check_silent(fd);
	hang_up(fd);
	ck_assert_uint_eq(stats().connections, 0);
	ck_assert_int_eq(handled, 6);
}
END_TEST

START_TEST(test_close_after_a_while)
{
	int asked[3], other, fd;

	teardown();
	close_grace_ns = 1000000;
	start(HTTP_CONNECTIONS_MAX, BODY_MAX);
	close_grace_ns = LONG_GRACE_NS;
	other = dial();
	say(other, "GET /a HTTP/1.1\r\n\r\n");
	check_answer(other, 200, "/a");
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		asked[i] = dial();
		say(asked[i], "GET /a HTTP/1.1\r\nConnection: close\r\n\r\n");
		check_answer(asked[i], 200, "/a");
	}
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		wait_for_eof(asked[i]);
		(void)close(asked[i]);
	}
	/* A large answer all of which the client gets; one that is not there yet. */
	fd = dial();
	say(fd, "GET /big HTTP/1.1\r\nConnection: close\r\n\r\n");
	check_answer(fd, 200, NULL);
	ck_assert_uint_eq(answer.len, BIG);
	wait_for_eof(fd);
	(void)close(fd);
	fd = dial();
	say(fd, "GET /later HTTP/1.1\r\nConnection: close\r\n\r\n");
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(loop_step(&loop, 1), 0);
	}
	check_silent(fd);
	reply_text(later[0], "now");
	check_answer(fd, 200, "now");
	wait_for_eof(fd);
	(void)close(fd);
	check_silent(other); /* it never asked for that */
	hang_up(other);
	ck_assert_uint_eq(stats().connections, 0);
}
END_TEST

/* --- Clients that go, half or whole --- */

START_TEST(test_half_closed)
{
	int fd = dial();

	say(fd, "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	check_answer(fd, 200, "/a");
	check_answer(fd, 200, "/b");
	check_eof(fd);
	(void)close(fd);
	/* All of it before the server looks. */
	fd = dial_only();
	ck_assert_int_eq(send(fd, mixed, sizeof(mixed) - 1, 0), sizeof(mixed) - 1);
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	check_answer(fd, 200, "/one");
	check_answer(fd, 200, "hello");
	check_answer(fd, 200, "world");
	check_answer(fd, 501, NULL);
	check_answer(fd, 200, "/two");
	check_eof(fd);
	(void)close(fd);
	/* An answer that takes time, and one that takes many rounds. */
	fd = dial();
	say(fd, "GET /later HTTP/1.1\r\n\r\nGET /big HTTP/1.1\r\n\r\n");
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	check_silent(fd);
	reply_text(later[0], "now");
	check_answer(fd, 200, "now");
	check_answer(fd, 200, NULL);
	ck_assert_uint_eq(answer.len, BIG);
	check_eof(fd);
	(void)close(fd);
	/* In the middle of a request. */
	fd = dial();
	say(fd, "PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell");
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	check_refused(fd, 400, "ends", false);
	(void)close(fd);
	pump();
	ck_assert_uint_eq(stats().connections, 0);
}
END_TEST

START_TEST(test_gone_before_the_answer)
{
	int fd = dial(), other;

	say(fd, "GET /later HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n");
	hang_up(fd);
	ck_assert_uint_eq(stats().connections, 0);
	reply_text(later[0], "nobody hears it");
	/* Gone before the server has read anything: the request counts. */
	fd = dial_only();
	ck_assert_int_gt(send(fd, "GET /later HTTP/1.1\r\n\r\n", 23, 0), 0);
	(void)close(fd);
	pump();
	ck_assert_uint_eq(later_count, 2);
	http_call_reply_error(later[1], 400, &err, "GET");
	/* In the middle of an answer, and of a request. */
	fd = dial();
	say(fd, "GET /big HTTP/1.1\r\n\r\n");
	other = dial();
	say(other, "PUT / HTTP/1.1\r\nContent-Le");
	ck_assert_uint_eq(stats().connections, 2);
	(void)close(other);
	hang_up(fd);
	ck_assert_uint_eq(stats().connections, 0);
	/* A client that reads no more, and says so, while its answer is being made. */
	fd = dial();
	say(fd, "GET /later HTTP/1.1\r\n\r\n");
	ck_assert_int_eq(shutdown(fd, SHUT_RD), 0);
	pump();
	reply_text(later[2], "nobody hears it");
	hang_up(fd);
	ck_assert_uint_eq(stats().connections, 0);
}
END_TEST

START_TEST(test_never_reading)
{
	int slow = dial(), quick = dial();

	say(slow, "GET /big HTTP/1.1\r\n\r\n");
	say(slow, "GET /after HTTP/1.1\r\n\r\n");
	for (int i = 0; i < 100; i++) {
		say(quick, "GET /quick HTTP/1.1\r\n\r\n");
		check_answer(quick, 200, "/quick");
	}
	ck_assert_int_eq(handled, 101);
	/* Nothing is lost when it reads at last. */
	check_answer(slow, 200, NULL);
	ck_assert_uint_eq(answer.len, BIG);
	check_answer(slow, 200, "/after");
	(void)close(slow);
	(void)close(quick);
}
END_TEST

/* One that asks and asks, and never reads: its small answers fill the socket, then it waits. */
START_TEST(test_asking_without_reading)
{
	static const char request[] = "GET /a HTTP/1.1\r\n\r\n";
	int fd = dial(), asked = 0, answered = 0;

	for (int full = 0; full < 3;) {
		if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0) {
			ck_assert_int_eq(errno, EAGAIN);
			full++;
		} else {
			asked++;
		}
		ck_assert_int_eq(loop_step(&loop, 0), 0);
	}
	ck_assert_int_lt(handled, asked);
	ck_assert_uint_le(server->buffered, KIB(128));
	for (; answered < asked; answered++) {
		check_answer(fd, 200, "/a");
	}
	check_silent(fd);
	ck_assert_uint_eq(server->buffered, 0);
	(void)close(fd);
}
END_TEST

START_TEST(test_memory_of_requests)
{
	char *body = calloc(1, MIB(4));
	int fds[20], quick, refused = 0;

	ck_assert_ptr_nonnull(body);
	restart(HTTP_CONNECTIONS_MAX, MIB(4));
	ck_assert_uint_lt(sizeof(struct http_connection) + sizeof(struct loop_slot), 300);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
		say(fds[i], "PUT /echo HTTP/1.1\r\nContent-Length: 4194304\r\n\r\n");
		say_bytes(fds[i], body, MIB(4) - 1);
		ck_assert_uint_le(server->buffered, MIB(64) + KIB(16) * ARRAY_SIZE(fds));
	}
	/* Small ones go on. */
	quick = dial();
	say(quick, "PUT /echo HTTP/1.1\r\nContent-Length: 10000\r\n\r\n");
	say_bytes(quick, body, 10000);
	check_answer(quick, 200, NULL);
	(void)close(quick);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		(void)send(fds[i], "x", 1, MSG_NOSIGNAL);
		get_answer(fds[i], &answer, false);
		if (answer.status == 503) {
			ck_assert_str_eq(error_text("code"), "no-memory");
			refused++;
		} else {
			ck_assert_int_eq(answer.status, 200);
		}
		(void)close(fds[i]);
	}
	ck_assert_int_ge(refused, 4);
	ck_assert_int_lt(refused, 10);
	pump();
	ck_assert_uint_eq(server->buffered, 0);
	free(body);
}
END_TEST

CHECK_MAIN("http_server", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_bytes_of_an_answer);
	   CHECK_TEST(test_kinds_of_answers); CHECK_TEST(test_byte_at_a_time);
	   CHECK_TEST(test_pipelining); CHECK_TEST(test_answers_in_order);
	   CHECK_TEST(test_large_body); CHECK_TABLE(test_refusals, refusals);
	   CHECK_TEST(test_refused_while_sending); CHECK_TEST(test_expect_continue);
	   CHECK_TEST(test_connection_close); CHECK_TEST(test_close_after_a_while);
	   CHECK_TEST(test_half_closed); CHECK_TEST(test_gone_before_the_answer);
	   CHECK_TEST(test_never_reading); CHECK_TEST(test_asking_without_reading);
	   CHECK_TEST(test_memory_of_requests))
