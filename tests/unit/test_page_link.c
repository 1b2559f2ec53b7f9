/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a peer of the page service: who sends a byte now and then has no more time than who sends none; what cannot be waited for is
 * an error, and not tried for ever. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../src/migration/page_link.h"
#include "harness/check_main.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"

#define SHORT_NS 200000000ULL
#define LONG_NS	 200000000000ULL

static struct error e;
static int pairs[3][2]; /* ours, the peer's */
static int wake_fd;

static void setup(void)
{
	e = (struct error){ 0 };
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]), 0);
	}
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_ge(wake_fd, 0);
}

/* The peer's ends; ours are the links'. */
static void teardown(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		close_fd(&pairs[i][1]);
	}
	close_fd(&wake_fd);
}

/* A welcome, in single bytes, all of which take longer than SHORT_NS. */
static void *drip(void *arg)
{
	const struct page_frame frame = { .message = PAGE_WELCOME };
	struct page_link link;
	uint8_t welcome[PAGE_HEADER];
	struct error ignored = { 0 };

	(void)arg;
	check_ok(page_link_init(&link, pairs[2][0], PAGE_SINK, &ignored), &ignored);
	ck_assert_int_eq(page_link_send(&link, &frame, &ignored), 1);
	ck_assert_int_eq(recv(pairs[2][1], welcome, sizeof(welcome), MSG_WAITALL), PAGE_HEADER);
	for (size_t i = 0; i < sizeof(welcome); i++) {
		(void)usleep(20000);
		(void)send(pairs[0][1], welcome + i, 1, MSG_NOSIGNAL);
	}
	page_link_finish(&link);
	return NULL;
}

START_TEST(test_slow_message)
{
	struct page_link link;
	struct page_frame frame;
	pthread_t thread;

	close_fd(&pairs[1][0]);
	check_ok(page_link_init(&link, pairs[0][0], PAGE_SOURCE, &e), &e);
	ck_assert_int_eq(pthread_create(&thread, NULL, drip, NULL), 0);
	ck_assert_int_eq(page_link_hear_one(&link, &frame, wake_fd, loop_now_ns() + SHORT_NS, &e),
			 -ETIMEDOUT);
	check_error(&e, ERROR_MIGRATION, "nothing has come");
	/* It is not lost by that. */
	check_ok(page_link_hear_one(&link, &frame, wake_fd, loop_now_ns() + LONG_NS, &e), &e);
	ck_assert_int_eq(frame.message, PAGE_WELCOME);
	(void)pthread_join(thread, NULL);
	page_link_finish(&link);
}
END_TEST

static int next_pair;

static int connect_next(void *arg, const char *address, struct error *error)
{
	(void)arg;
	(void)address;
	(void)error;
	return pairs[next_pair++][0];
}

/* All of a session's beginning has one limit. */
START_TEST(test_slow_handshake)
{
	struct guest_memory mem = { 0 };
	const struct guest_region_config region = { .size = MIB(1), .backing = GUEST_MEMORY_ANON };
	const struct page_source_config config = { .mem = &mem,
						   .asking = 1,
						   .stall_ns = SHORT_NS,
						   .connect = connect_next,
						   .address = "unix:x" };
	struct page_source *source;
	pthread_t thread;

	next_pair = 0;
	check_ok(guest_memory_add(&mem, &region, &e), &e);
	check_ok(page_source_create(&source, &config, &e), &e);
	ck_assert_int_eq(pthread_create(&thread, NULL, drip, NULL), 0);
	ck_assert_int_eq(page_source_connect(source, &e), -ETIMEDOUT);
	(void)pthread_join(thread, NULL);
	page_source_destroy(source);
	guest_memory_finish(&mem);
}
END_TEST

/* Who is woken, and who is left, do not wait. */
START_TEST(test_wake_and_end)
{
	struct page_link link;
	struct page_frame frame;

	close_fd(&pairs[1][0]);
	close_fd(&pairs[2][0]);
	check_ok(page_link_init(&link, pairs[0][0], PAGE_SOURCE, &e), &e);
	page_wake(wake_fd);
	ck_assert_int_eq(page_link_hear_one(&link, &frame, wake_fd, loop_now_ns() + LONG_NS, &e),
			 -ECANCELED);
	page_wake_take(wake_fd);
	close_fd(&pairs[0][1]);
	ck_assert_int_eq(page_link_hear_one(&link, &frame, wake_fd, loop_now_ns() + LONG_NS, &e),
			 -EPIPE);
	page_link_finish(&link);
}
END_TEST

START_TEST(test_poll_fails)
{
	struct rlimit limit, none;
	struct page_link link;
	struct page_frame frame;
	int r;

	close_fd(&pairs[1][0]);
	close_fd(&pairs[2][0]);
	check_ok(page_link_init(&link, pairs[0][0], PAGE_SOURCE, &e), &e);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	/* So many descriptors poll(2) does not take then. */
	none = (struct rlimit){ .rlim_cur = 1, .rlim_max = limit.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	r = page_link_hear_one(&link, &frame, wake_fd, UINT64_MAX, &e);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_int_eq(r, -EINVAL);
	page_link_finish(&link);
}
END_TEST

CHECK_MAIN("page_link", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_slow_message);
	   CHECK_TEST(test_slow_handshake); CHECK_TEST(test_wake_and_end);
	   CHECK_TEST(test_poll_fails))
