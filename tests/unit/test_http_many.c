/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server with many clients, without descriptors or places, and with clients that do anything. */
#include "harness/http_rig.h"

/* --- Many --- */

START_TEST(test_eviction_order)
{
	int fds[4], more;

	restart(4, BODY_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
	}
	/* By their last signs of life: 1 (began a request), 0 (an answer), 3, 2. */
	say(fds[1], "G");
	say(fds[0], "GET /a HTTP/1.1\r\n\r\n");
	check_answer(fds[0], 200, "/a");
	say(fds[3], "GET / HTTP/1.1\r\nX: y");
	say(fds[2], "GET /big HTTP/1.1\r\n\r\n");
	say(fds[1], "ET / HTTP/1.1\r\n"); /* does not count */
	more = dial();
	ck_assert(!is_open(fds[1]));
	ck_assert(is_open(fds[0]) && is_open(fds[3]) && is_open(more));
	(void)close(fds[1]);
	fds[1] = dial();
	ck_assert(!is_open(fds[0]));
	ck_assert(is_open(fds[1]) && is_open(fds[3]) && is_open(more));
	(void)close(fds[0]);
	fds[0] = dial();
	ck_assert(!is_open(fds[3]));
	(void)close(fds[3]);
	/* A client that does not take its answer goes, too. */
	fds[3] = dial();
	ck_assert_uint_eq(stats().connections, 4);
	ck_assert_uint_eq(stats().evicted, 4);
	ck_assert(is_open(fds[0]) && is_open(fds[1]) && is_open(fds[3]) && is_open(more));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		(void)close(fds[i]);
	}
	(void)close(more);
}
END_TEST

START_TEST(test_no_room)
{
	int fds[3], more;

	restart(3, BODY_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
		say(fds[i], i < 2 ? "GET /later HTTP/1.1\r\n\r\n" : "GET /stream HTTP/1.1\r\n\r\n");
	}
	get_answer(fds[2], &answer, false);
	more = dial_only();
	ck_assert_int_gt(send(more, "GET / HTTP/1.1\r\n\r\n", 18, 0), 0);
	check_refused(more, 503, "Too many open connections", false);
	ck_assert_uint_eq(stats().connections, 3);
	ck_assert_uint_eq(stats().evicted, 0);
	(void)close(more);
	reply_text(later[0], "now");
	check_answer(fds[0], 200, "now");
	more = dial();
	ck_assert(!is_open(fds[0]));
	say(more, "GET /a HTTP/1.1\r\n\r\n");
	check_answer(more, 200, "/a");
	reply_text(later[1], "now");
	check_answer(fds[1], 200, "now");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		(void)close(fds[i]);
	}
	(void)close(more);
}
END_TEST

static bool allow_descriptors(rlim_t count)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_max < count) {
		return false;
	}
	limit.rlim_cur = MAX(limit.rlim_cur, count);
	return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

START_TEST(test_thousand_connections)
{
	static int fds[HTTP_CONNECTIONS_MAX + 1];

	if (!allow_descriptors(2 * HTTP_CONNECTIONS_MAX + 100)) {
		CHECK_SKIP("too few descriptors allowed");
	}
	for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		fds[i] = dial_only();
		ck_assert_int_eq(loop_step(&loop, 0), 0);
	}
	pump();
	ck_assert_uint_eq(stats().connections, HTTP_CONNECTIONS_MAX);
	ck_assert_uint_eq(server->buffered, 0);
	for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		ck_assert_int_eq(send(fds[i], "GET /a HTTP/1.1\r\n\r\n", 19, 0), 19);
	}
	pump();
	pump();
	for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i += 50) {
		check_answer(fds[i], 200, "/a");
	}
	ck_assert_int_eq(handled, HTTP_CONNECTIONS_MAX);
	fds[HTTP_CONNECTIONS_MAX] = dial();
	say(fds[HTTP_CONNECTIONS_MAX], "GET /b HTTP/1.1\r\n\r\n");
	check_answer(fds[HTTP_CONNECTIONS_MAX], 200, "/b");
	ck_assert_uint_eq(stats().connections, HTTP_CONNECTIONS_MAX);
	ck_assert_uint_eq(stats().evicted, 1);
	for (size_t i = 0; i <= HTTP_CONNECTIONS_MAX; i++) {
		(void)close(fds[i]);
	}
	for (int i = 0; i < 20 && stats().connections != 0; i++) {
		pump();
	}
	ck_assert_uint_eq(stats().connections, 0);
}
END_TEST

/* Ten thousand that send a byte and no more, while one client works. */
START_TEST(test_flood)
{
	int fds[100] = { 0 }, quick;

	restart(50, BODY_MAX);
	quick = dial();
	for (int i = 0; i < 10000; i++) {
		int *fd = &fds[i % 100];

		if (*fd != 0) {
			(void)close(*fd);
		}
		*fd = dial_only();
		ck_assert_int_eq(send(*fd, "G", 1, MSG_NOSIGNAL), 1);
		if (i % 20 == 0) {
			say(quick, "GET /quick HTTP/1.1\r\n\r\n");
			check_answer(quick, 200, "/quick");
		}
	}
	pump();
	ck_assert_uint_le(stats().connections, 50);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		(void)close(fds[i]);
	}
	(void)close(quick);
}
END_TEST

/* Takes descriptors until only `left` can be had. */
static int hoard(int *fds, int max, int left)
{
	int count = 0;

	while (count < max) {
		fds[count] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
		if (fds[count] < 0) {
			break;
		}
		count++;
	}
	ck_assert_int_lt(count, max);
	while (left-- > 0) {
		(void)close(fds[--count]);
	}
	return count;
}

START_TEST(test_no_descriptors)
{
	const struct rlimit limit = { .rlim_cur = 100, .rlim_max = 100 };
	int fds[100] = { 0 }, count, busy, idle, more;

	/* Of this test's process alone, if it has one. */
	if (getenv("CK_FORK") != NULL) {
		CHECK_SKIP("would limit the tests that follow");
	}
	busy = dial();
	idle = dial();
	say(busy, "GET /later HTTP/1.1\r\n\r\n");
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	/* Who is idle makes room. */
	count = hoard(fds, (int)ARRAY_SIZE(fds), 1);
	more = dial();
	ck_assert(!is_open(idle));
	say(more, "GET /later HTTP/1.1\r\n\r\n");
	check_silent(more);
	ck_assert_uint_eq(later_count, 2);
	/* Nobody is: the reserve serves to say so, more than once. */
	(void)close(idle);
	for (int i = 0; i < 3; i++) {
		idle = dial();
		check_refused(idle, 503, "Too many", false);
		(void)close(idle);
	}
	ck_assert_uint_eq(stats().connections, 2);
	ck_assert_uint_eq(stats().evicted, 1);
	/* Without the reserve the listener rests, does not spin, and comes back. */
	close_fd(&server->reserve_fd);
	fds[count] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	ck_assert_int_ge(fds[count++], 0);
	idle = dial();
	ck_assert_uint_eq(server->listeners[0].source.events, 0);
	check_silent(idle);
	while (count > 0) {
		(void)close(fds[--count]);
	}
	while (server->listeners[0].source.events == 0) {
		ck_assert_int_eq(loop_step(&loop, -1), 0);
	}
	say(idle, "GET /a HTTP/1.1\r\n\r\n");
	check_answer(idle, 200, "/a");
	ck_assert_uint_eq(stats().connections, 3);
	reply_text(later[0], "1");
	reply_text(later[1], "2");
	(void)close(busy);
	(void)close(idle);
	(void)close(more);
}
END_TEST

/* A loop without a slot is like a process without a descriptor. */
START_TEST(test_no_slots)
{
	static struct loop small;
	struct http_server_config config = server->config;
	int fds[3], fd;

	destroy();
	check_ok(loop_init_sized(&small, 4, &err), &err);
	config.loop = &small;
	check_ok(http_server_create(&server, &config, &err), &err);
	fd = listener();
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &address_len), 0);
	check_ok(http_server_listen(server, fd, &err), &err);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial_only();
		ck_assert_int_eq(loop_step(&small, 0), 0);
	}
	ck_assert_uint_eq(stats().connections, 2);
	ck_assert_uint_eq(stats().evicted, 1);
	ck_assert(!is_open(fds[0]));
	ck_assert(is_open(fds[1]) && is_open(fds[2]));
	destroy();
	loop_finish(&small);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		(void)close(fds[i]);
	}
}
END_TEST

START_TEST(test_listeners)
{
	int fds[HTTP_LISTENERS_MAX], fd;

	for (int i = 1; i < HTTP_LISTENERS_MAX; i++) {
		check_ok(http_server_listen(server, listener(), &err), &err);
	}
	fd = listener();
	ck_assert_int_lt(http_server_listen(server, fd, &err), 0);
	check_error(&err, ERROR_CONFIG, "listening sockets");
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1); /* it was given away */
	for (int i = 0; i < HTTP_LISTENERS_MAX; i++) {
		address_len = sizeof(address);
		ck_assert_int_eq(getsockname(server->listeners[i].fd, (struct sockaddr *)&address,
					     &address_len),
				 0);
		fds[i] = dial();
		say(fds[i], "GET /a HTTP/1.1\r\n\r\n");
		check_answer(fds[i], 200, "/a");
	}
	for (int i = 0; i < HTTP_LISTENERS_MAX; i++) {
		(void)close(fds[i]);
	}
}
END_TEST

/* --- Anything --- */

static uint64_t seed = 0x9e3779b97f4a7c15ULL;

static uint32_t random_below(uint32_t limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % limit;
}

static const char *const pieces[] = {
	"GET /a HTTP/1.1\r\n\r\n",
	"GET /big HTTP/1.1\r\n",
	"\r\n",
	"GET /later HTTP/1.1\r\n\r\n",
	"PUT /echo HTTP/1.1\r\n",
	"Content-Length: 7\r\n\r\n",
	"1234567",
	"BREW / HTTP/1.1\r\n",
	"Transfer-Encoding: chunked\r\n\r\n",
	"5\r\nhello\r\n",
	"0\r\n\r\n",
	"Connection: close\r\n",
	"HEAD /stream-head HTTP/1.1\r\n\r\n",
	"GET /stream-on HTTP/1.1\r\n\r\n",
	"Content-Length: 9",
	"GET /stream-now HTTP/1.0\r\n\r\n",
	"Expect: 100-continue\r\n",
	"\n",
	"GET / HTTP/1.1\r\n\r\n",
};

/* Clients that do anything in any order harm nobody but themselves. */
START_TEST(test_monkeys)
{
	int fds[12] = { 0 }, good;
	static char data[1 << 16];

	restart(9, BODY_MAX);
	for (int i = 0; i < 20000; i++) {
		int *fd = &fds[random_below(ARRAY_SIZE(fds))];
		const char *piece = pieces[random_below(ARRAY_SIZE(pieces))];

		switch (*fd == 0 ? 99 : random_below(40)) {
		case 99:
			*fd = dial_only();
			break;
		case 0:
			(void)close(*fd);
			*fd = 0;
			break;
		case 1:
			(void)shutdown(*fd, (int)random_below(3));
			break;
		case 2:
		case 3:
		case 4:
			(void)recv(*fd, data, sizeof(data), 0);
			break;
		case 5:
			if (later_count != 0) {
				reply_text(later[--later_count], "later");
			}
			break;
		default:
			(void)send(*fd, piece, strlen(piece), MSG_NOSIGNAL);
			break;
		}
		ck_assert_int_eq(loop_step(&loop, 0), 0);
		if (later_count == LATER_MAX - 20) {
			reply_text(later[--later_count], "later");
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] != 0) {
			(void)close(fds[i]);
		}
	}
	pump();
	pump();
	while (later_count != 0) {
		reply_text(later[--later_count], "too late");
	}
	ck_assert_uint_eq(stats().connections, 0);
	ck_assert_uint_eq(server->buffered, 0);
	good = dial();
	say(good, "GET /a HTTP/1.1\r\n\r\n");
	check_answer(good, 200, "/a");
	(void)close(good);
}
END_TEST

CHECK_MAIN("http_many", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_eviction_order);
	   CHECK_TEST(test_no_room); CHECK_TEST(test_thousand_connections); CHECK_TEST(test_flood);
	   CHECK_TEST(test_no_descriptors); CHECK_TEST(test_no_slots); CHECK_TEST(test_listeners);
	   CHECK_TEST(test_monkeys))
