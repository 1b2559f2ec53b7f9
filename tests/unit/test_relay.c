/* SPDX-License-Identifier: Apache-2.0 */
/* The pump of a relay: sockets and pipes, more than its buffers at once and both ways, an end on one side, and peers that have gone. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/relay.h"

#define LOAD (3 * RELAY_BUFFER + 1234)

static int left[2], right[2]; /* [0] is the test's, [1] the relay's */
static struct relay_stream a, b;
static struct error err;
static pthread_t thread;
static int result;

static void setup(void)
{
	(void)signal(SIGPIPE, SIG_IGN);
	err = (struct error){ 0 };
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, left), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, right), 0);
	relay_stream_plain(&a, left[1], left[1]);
	relay_stream_plain(&b, right[1], right[1]);
}

static void teardown(void)
{
	for (int i = 0; i < 2; i++) {
		(void)close(left[i]);
		(void)close(right[i]);
	}
}

static void *run(void *arg)
{
	(void)arg;
	result = relay_pump(&a, &b, &err);
	return NULL;
}

static void begin(void)
{
	ck_assert_int_eq(pthread_create(&thread, NULL, run, NULL), 0);
}

static int end(void)
{
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	return result;
}

static uint8_t byte_at(size_t i, uint8_t salt)
{
	return (uint8_t)(i * 7 + i / 251 + salt);
}

static void *write_load(void *arg)
{
	int fd = *(const int *)arg;
	uint8_t piece[1000];

	for (size_t at = 0; at < LOAD;) {
		size_t len = MIN(sizeof(piece), (size_t)LOAD - at);
		ssize_t n;

		for (size_t i = 0; i < len; i++) {
			piece[i] = byte_at(at + i, (uint8_t)(fd == left[0]));
		}
		n = write(fd, piece, len);
		ck_assert_int_gt(n, 0);
		at += (size_t)n;
	}
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	return NULL;
}

/* All of what the other side has written, and its end. */
static void read_load(int fd, uint8_t salt)
{
	uint8_t piece[4096];
	size_t at = 0;
	ssize_t n;

	while ((n = read(fd, piece, sizeof(piece))) > 0) {
		for (ssize_t i = 0; i < n; i++, at++) {
			ck_assert_uint_eq(piece[i], byte_at(at, salt));
		}
	}
	ck_assert_int_eq(n, 0);
	ck_assert_uint_eq(at, LOAD);
}

START_TEST(test_both_ways)
{
	pthread_t writers[2];

	begin();
	ck_assert_int_eq(pthread_create(&writers[0], NULL, write_load, &left[0]), 0);
	ck_assert_int_eq(pthread_create(&writers[1], NULL, write_load, &right[0]), 0);
	read_load(right[0], 1);
	read_load(left[0], 0);
	(void)pthread_join(writers[0], NULL);
	(void)pthread_join(writers[1], NULL);
	ck_assert_int_eq(end(), 0);
}
END_TEST

/* Who has said its last is answered still. */
START_TEST(test_half)
{
	char text[8];

	begin();
	ck_assert_int_eq(shutdown(left[0], SHUT_WR), 0);
	ck_assert_int_eq(read(right[0], text, sizeof(text)), 0);
	ck_assert_int_eq(write(right[0], "last", 4), 4);
	ck_assert_int_eq(shutdown(right[0], SHUT_WR), 0);
	ck_assert_int_eq(read(left[0], text, sizeof(text)), 4);
	ck_assert_int_eq(end(), 0);
}
END_TEST

/* Who has gone with something unread takes the other way with it. */
START_TEST(test_gone)
{
	begin();
	ck_assert_int_eq(close(left[0]), 0);
	left[0] = -1;
	while (write(right[0], "more", 4) > 0) {
		if (fcntl(right[0], F_SETFL, O_NONBLOCK) < 0) {
			break;
		}
	}
	(void)shutdown(right[0], SHUT_RDWR);
	(void)end();
	ck_assert_int_eq(result == 0 || result == -EPIPE || result == -ECONNRESET, 1);
	ck_assert_int_eq(result == 0, err.code == ERROR_NONE);
}
END_TEST

START_TEST(test_pipes)
{
	int in[2], out[2], fd;
	char text[8];

	ck_assert_int_eq(pipe(in), 0);
	ck_assert_int_eq(pipe(out), 0);
	fd = relay_open_pipe(in[0], O_RDONLY, &err);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(fcntl(out[1], F_SETFL, O_NONBLOCK), 0);
	relay_stream_plain(&a, fd, out[1]);
	begin();
	ck_assert_int_eq(write(in[1], "there", 5), 5);
	ck_assert_int_eq(read(right[0], text, sizeof(text)), 5);
	ck_assert_int_eq(write(right[0], "back", 4), 4);
	ck_assert_int_eq(read(out[0], text, sizeof(text)), 4);
	(void)close(in[1]);
	ck_assert_int_eq(read(right[0], text, sizeof(text)), 0);
	ck_assert_int_eq(shutdown(right[0], SHUT_WR), 0);
	ck_assert_int_eq(read(out[0], text, sizeof(text)), 0);
	ck_assert_int_eq(end(), 0);
	ck_assert_int_eq(a.out, -1);
	(void)close(fd);
	(void)close(in[0]);
	(void)close(out[0]);
}
END_TEST

START_TEST(test_no_pipe)
{
	ck_assert_int_lt(relay_open_pipe(left[0], O_RDONLY, &err), 0);
	ck_assert_int_eq(err.code, ERROR_CONFIG);
	ck_assert_str_ne(err.hint, "");
}
END_TEST

CHECK_MAIN("relay", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_both_ways);
	   CHECK_TEST(test_half); CHECK_TEST(test_gone); CHECK_TEST(test_pipes);
	   CHECK_TEST(test_no_pipe))
