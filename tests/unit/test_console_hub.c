/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console hub: replay and live output, the terminal, threads, the end.
 */
#include "harness/hub_rig.h"

START_TEST(test_replay_and_live)
{
	size_t early, late;

	make();
	early = attach();
	say("one ");
	expect(early, "one ");
	say("two ");
	late = attach();
	expect(early, "two ");
	expect(late, "one two ");
	say("three");
	expect(early, "three");
	expect(late, "three");
	ck_assert_uint_eq(attached(), 2);
}
END_TEST

/* Of a ring that has gone round: the newest, from the beginning of a line. */
START_TEST(test_replay_of_full_ring)
{
	char buf[KIB(128)], line[32];
	unsigned first = 0, count = 0;
	size_t client, len;
	bool ended;

	make();
	for (unsigned i = 0; i < 20000; i++) {
		(void)snprintf(line, sizeof(line), "line %05u\n", i);
		output(line, 11);
	}
	client = attach();
	len = take(client, buf, sizeof(buf), &ended);
	ck_assert_uint_le(len, CONSOLE_HUB_RING);
	ck_assert_uint_gt(len, CONSOLE_HUB_RING - 11);
	ck_assert_uint_eq(len % 11, 0);
	ck_assert_int_eq(sscanf(buf, "line %u\n", &first), 1);
	for (size_t at = 0; at < len; at += 11, count++) {
		(void)snprintf(line, sizeof(line), "line %05u\n", first + count);
		ck_assert_mem_eq(buf + at, line, 11);
	}
	ck_assert_uint_eq(first + count, 20000);
}
END_TEST

/* Nobody attached, no log: main sleeps. */
START_TEST(test_no_wakeup)
{
	make();
	write_pattern(0, KIB(200));
	ck_assert_ptr_null(loop.posts_head);
	ck_assert_ptr_null(loop.timers);
	/* One that does not read costs no more than the bytes that its socket took. */
	(void)attach();
	for (uint64_t at = KIB(200); at < MIB(2); at += KIB(50)) {
		write_pattern(at, KIB(50));
		settle();
	}
	write_pattern(MIB(2), KIB(10));
	ck_assert_ptr_null(loop.posts_head);
}
END_TEST

/* The terminal of `vmm run`. */
static struct {
	struct console_channel channel;
	char text[64];
	size_t len;
	int ready;
	bool refuses;
} terminal;

static void terminal_output(struct console_channel *c, const uint8_t *data, size_t len)
{
	ck_assert_ptr_eq(c, &terminal.channel);
	memcpy(terminal.text + terminal.len, data, len);
	terminal.len += len;
}

static void terminal_input_ready(struct console_channel *c)
{
	ck_assert_ptr_eq(c, &terminal.channel);
	terminal.ready++;
}

static bool terminal_may_output(struct console_channel *c, size_t len)
{
	ck_assert_ptr_eq(c, &terminal.channel);
	return !terminal.refuses && len < 100;
}

START_TEST(test_terminal)
{
	size_t client;

	memset(&terminal, 0, sizeof(terminal));
	terminal.channel = (struct console_channel){ .output = terminal_output,
						     .input_ready = terminal_input_ready,
						     .may_output = terminal_may_output };
	make_with(&terminal.channel);
	console_hub_start(hub);
	client = attach();
	output("hello", 5);
	/* At once, without main. */
	ck_assert_str_eq(terminal.text, "hello");
	settle();
	expect(client, "hello");
	ck_assert(channel->may_output(channel, 99));
	ck_assert(!channel->may_output(channel, 100));
	terminal.refuses = true;
	ck_assert(!channel->may_output(channel, 1));
	guest.room = 0;
	type(client, "x");
	guest.room = 10;
	channel->input_ready(channel);
	ck_assert_int_eq(terminal.ready, 1);
	settle();
	expect_guest("x");
	/* One that is always ready, and does not care. */
	terminal.channel.may_output = NULL;
	terminal.channel.input_ready = NULL;
	ck_assert(channel->may_output(channel, MIB(1)));
	channel->input_ready(channel);
}
END_TEST

START_TEST(test_without_terminal_all_is_taken)
{
	make();
	(void)attach();
	ck_assert(channel->may_output(channel, MIB(100)));
}
END_TEST

#define THREAD_PIECES 4000

static void *write_much(void *arg)
{
	(void)arg;
	for (int i = 0; i < THREAD_PIECES; i++) {
		output("0123456789abcdef", 16);
		if (i % 64 == 0) {
			channel->input_ready(channel);
			(void)channel->may_output(channel, 16);
		}
	}
	return NULL;
}

/* Two threads of the guest, two clients of which one does not read, and a log: pieces stay whole,
 * and nothing vanishes uncounted. */
START_TEST(test_threads)
{
	struct console_hub_stats stats;
	uint64_t got = 0;
	pthread_t threads[2];
	char buf[4096];
	size_t client, other;

	make();
	log_to_file();
	client = attach();
	other = attach();
	for (size_t i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_much, NULL), 0);
	}
	do {
		bool ended;

		ck_assert_int_eq(loop_step(&loop, 1), 0);
		got += take(client, buf, sizeof(buf), &ended);
		if (got % 7 == 0) {
			(void)send(clients[client], "x", 1, MSG_DONTWAIT);
		}
		console_hub_stats(hub, &stats);
	} while (stats.output_bytes < 2ULL * THREAD_PIECES * 16);
	for (size_t i = 0; i < 2; i++) {
		(void)pthread_join(threads[i], NULL);
	}
	settle_log();
	for (size_t n = 1; n > 0; got += n) {
		bool ended;

		n = take(client, buf, sizeof(buf), &ended);
		settle();
	}
	console_hub_stats(hub, &stats);
	/* Notes are a few bytes besides; without losses the count is exact. */
	if (stats.lost_bytes == 0) {
		ck_assert_uint_eq(got, stats.output_bytes);
	}
	go(other);
	settle();
	ck_assert_uint_eq(attached(), 1);
}
END_TEST

/* At the end everything leaves that can, and the stream ends in order, also if the client's own
 * words were never read. */
START_TEST(test_destroy_flushes)
{
	static char buf[KIB(128)];
	size_t client, len;
	bool ended;

	make();
	client = attach();
	guest.room = 0;
	type(client, "unread ");
	type(client, "and more");
	write_pattern(0, KIB(30));
	console_hub_destroy(hub, 100);
	hub = NULL;
	len = take(client, buf, sizeof(buf), &ended);
	ck_assert_uint_eq(len, KIB(30));
	ck_assert(ended);
}
END_TEST

static void *read_all(void *arg)
{
	struct reader *reader = arg;
	char buf[1000];
	ssize_t n;

	while ((n = recv(clients[0], buf, sizeof(buf), 0)) > 0) {
		check_pattern(reader, buf, (size_t)n);
	}
	return NULL;
}

/* A client that has much to read yet, and does: it gets the time. */
START_TEST(test_destroy_waits)
{
	struct reader reader = { 0 };
	uint64_t written = 0;
	pthread_t thread;

	make();
	(void)attach();
	for (int i = 0; i < 40; i++) {
		write_pattern(written, KIB(10));
		written += KIB(10);
		settle();
	}
	ck_assert_int_eq(pthread_create(&thread, NULL, read_all, &reader), 0);
	console_hub_destroy(hub, 60000);
	hub = NULL;
	(void)pthread_join(thread, NULL);
	ck_assert_uint_eq(reader.at, written);
}
END_TEST

/* One that does not: it does not keep us. */
START_TEST(test_destroy_gives_up)
{
	struct reader reader = { 0 };

	make();
	(void)attach();
	write_pattern(0, MIB(1));
	settle();
	write_pattern(MIB(1), MIB(1));
	console_hub_destroy(hub, 20);
	hub = NULL;
	(void)read_all(&reader);
	ck_assert_uint_gt(reader.at, 0);
}
END_TEST

START_TEST(test_destroy_at_once)
{
	char buf[16];
	bool ended;

	make_with(NULL);
	(void)attach();
	log_to_file();
	output("x", 1); /* posted, never run */
	channel->input_ready(channel);
	console_hub_destroy(hub, 0);
	hub = NULL;
	expect_log("x");
	ck_assert_uint_eq(take(0, buf, sizeof(buf), &ended), 1);
	ck_assert(ended);
}
END_TEST

START_TEST(test_end_of_stream)
{
	size_t client;

	make();
	client = attach();
	console_hub_destroy(hub, 0);
	hub = NULL;
	expect_end(client);
	console_hub_destroy(NULL, 0);
}
END_TEST

CHECK_MAIN("console_hub", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_replay_and_live);
	   CHECK_TEST(test_replay_of_full_ring); CHECK_TEST(test_no_wakeup);
	   CHECK_TEST(test_terminal); CHECK_TEST(test_without_terminal_all_is_taken);
	   CHECK_TEST(test_threads); CHECK_TEST(test_destroy_flushes);
	   CHECK_TEST(test_destroy_waits); CHECK_TEST(test_destroy_gives_up);
	   CHECK_TEST(test_destroy_at_once); CHECK_TEST(test_end_of_stream))
