/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console hub's clients: slow, many, gone or silent; input in order and under back-pressure.
 */
#include "harness/hub_rig.h"

START_TEST(test_slow_client)
{
	struct reader slow = { 0 }, quick = { 0 };
	size_t slow_client, quick_client;
	struct console_hub_stats stats;
	const uint64_t total = MIB(3);

	make();
	slow_client = attach();
	quick_client = attach();
	for (uint64_t at = 0; at < total; at += KIB(32)) {
		write_pattern(at, KIB(32));
		settle();
		read_pattern(quick_client, &quick);
	}
	ck_assert_uint_eq(quick.at, total);
	ck_assert_uint_eq(quick.lost, 0);
	/* Now the slow one: what its socket held, then how much it missed, then the newest. */
	read_pattern(slow_client, &slow);
	ck_assert_uint_eq(slow.at, total);
	ck_assert_uint_eq(slow.notes, 1);
	ck_assert_uint_gt(slow.lost, MIB(1));
	console_hub_stats(hub, &stats);
	ck_assert_uint_eq(stats.lost_bytes, slow.lost);
	ck_assert_uint_eq(stats.output_bytes, total);
	/* And it is like any other again. */
	write_pattern(total, 100);
	settle();
	read_pattern(slow_client, &slow);
	ck_assert_uint_eq(slow.at, total + 100);
	ck_assert_uint_eq(slow.notes, 1);
}
END_TEST

/* A socket with little room, read a few bytes at a time: notes and data in any cut. */
START_TEST(test_tiny_reads)
{
	struct reader reader = { 0 };
	uint64_t written = 0;
	size_t client;
	char buf[700];
	bool ended;

	make();
	client = attach();
	for (int i = 0; i < 700; i++) {
		write_pattern(written, 6000);
		written += 6000;
		settle();
		check_pattern(&reader, buf, take(client, buf, (size_t)(i * 13) % 700, &ended));
	}
	read_pattern(client, &reader);
	ck_assert_uint_eq(reader.at, written);
	ck_assert_uint_gt(reader.notes, 1);
}
END_TEST

/* More in one go than the ring holds. */
START_TEST(test_huge_output)
{
	struct reader reader = { 0 };
	static char data[MIB(1)];
	size_t client;

	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = pattern(i);
	}
	make();
	client = attach();
	output(data, sizeof(data));
	output("", 0);
	settle();
	read_pattern(client, &reader);
	ck_assert_uint_eq(reader.at, sizeof(data));
	ck_assert_uint_eq(reader.lost, sizeof(data) - CONSOLE_HUB_RING);
}
END_TEST

START_TEST(test_too_many_clients)
{
	char buf[128] = "";
	size_t extra;
	bool ended;

	make();
	say("hello");
	for (int i = 0; i < CONSOLE_HUB_CLIENTS; i++) {
		(void)connect_client();
	}
	settle();
	ck_assert_uint_eq(attached(), CONSOLE_HUB_CLIENTS);
	extra = connect_client();
	(void)send(clients[extra], "unread", 6, 0);
	settle();
	ck_assert_uint_eq(attached(), CONSOLE_HUB_CLIENTS);
	(void)take(extra, buf, sizeof(buf) - 1, &ended);
	ck_assert_msg(strstr(buf, "too many clients") != NULL, "'%s'", buf);
	ck_assert(ended);
	for (int i = 0; i < CONSOLE_HUB_CLIENTS; i++) {
		expect((size_t)i, "hello");
	}
	/* One goes, the next may come. */
	go(7);
	settle();
	ck_assert_uint_eq(attached(), CONSOLE_HUB_CLIENTS - 1);
	expect(attach(), "hello");
}
END_TEST

START_TEST(test_clients_come_and_go)
{
	int before;

	make();
	log_to_file();
	write_pattern(0, KIB(100));
	before = dup(0);
	(void)close(before);
	for (int i = 0; i < 1000; i++) {
		size_t client = connect_client();

		(void)send(clients[client], "x", 1, 0);
		if (i % 3 != 0) {
			ck_assert_int_eq(loop_step(&loop, 0), 0);
		}
		go(client);
		client_count--;
		output("y", 1);
	}
	settle();
	ck_assert_uint_eq(attached(), 0);
	ck_assert_uint_eq(guest.len, 1000);
	/* The lowest free descriptor is what it was. */
	ck_assert_int_eq(dup(0), before);
	(void)close(before);
}
END_TEST

START_TEST(test_input_order)
{
	size_t a, b;

	make();
	a = attach();
	b = attach();
	guest.room = 0;
	type(a, "1st ");
	type(b, "2nd ");
	/* Not read yet: that one's first is still here. */
	type(a, "4th ");
	type(b, "5th ");
	ck_assert_uint_eq(guest.len, 0);
	for (int i = 0; i < 16; i++) {
		guest.room = 1;
		channel->input_ready(channel);
		settle();
	}
	guest.room = GUEST_MAX;
	channel->input_ready(channel);
	channel->input_ready(channel);
	settle();
	expect_guest("1st 2nd 4th 5th ");
	type(b, "b");
	type(a, "a");
	expect_guest("ba");
}
END_TEST

START_TEST(test_input_before_start)
{
	size_t client;
	struct console_hub_stats stats;

	make_with(NULL);
	client = attach();
	type(client, "early");
	ck_assert_uint_eq(guest.len, 0);
	console_hub_start(hub);
	expect_guest("early");
	settle();
	type(client, " late");
	expect_guest(" late");
	console_hub_stats(hub, &stats);
	ck_assert_uint_eq(stats.input_bytes, 10);
}
END_TEST

/* A guest that does not read: one buffer of a client waits here, the rest in its socket. */
START_TEST(test_backpressure)
{
	static char data[MIB(1)];
	size_t client, sent = 0;
	struct pollfd p;

	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = pattern(i);
	}
	make();
	client = attach();
	guest.room = 10;
	for (int idle = 0; idle < 3;) {
		ssize_t n = send(clients[client], data + sent, sizeof(data) - sent, MSG_DONTWAIT);

		idle = n > 0 ? 0 : idle + 1;
		sent += n > 0 ? (size_t)n : 0;
		settle();
	}
	ck_assert_uint_eq(guest.len, 10);
	ck_assert_uint_lt(sent, sizeof(data));
	/* Meanwhile its output goes on. */
	say("still here");
	expect(client, "still here");
	guest.room = GUEST_MAX - guest.len;
	channel->input_ready(channel);
	for (int i = 0; i < 50 && guest.len < sent; i++) {
		settle();
	}
	p = (struct pollfd){ .fd = clients[client], .events = POLLOUT };
	ck_assert_int_eq(poll(&p, 1, 0), 1);
	ck_assert_uint_eq(guest.len, sent);
	ck_assert_mem_eq(guest.data, data, sent);
}
END_TEST

START_TEST(test_half_closed)
{
	size_t client;

	make();
	client = attach();
	type(client, "last words");
	ck_assert_int_eq(shutdown(clients[client], SHUT_WR), 0);
	settle();
	expect_guest("last words");
	say("output goes on");
	expect(client, "output goes on");
	ck_assert_uint_eq(attached(), 1);
	go(client);
	settle();
	ck_assert_uint_eq(attached(), 0);
}
END_TEST

/* One that only types. */
START_TEST(test_closed_for_reading)
{
	size_t client;

	make();
	client = attach();
	ck_assert_int_eq(shutdown(clients[client], SHUT_RD), 0);
	say("not wanted");
	type(client, "typed");
	expect_guest("typed");
	ck_assert_uint_eq(attached(), 1);
	go(client);
	settle();
	ck_assert_uint_eq(attached(), 0);
}
END_TEST

/* It dies with output on its way, with output that waits, and with input that the guest has not
 * taken: the others notice nothing, and what it typed arrives. */
START_TEST(test_client_dies)
{
	struct reader reader = { 0 };
	size_t full, reading, typing;

	make();
	full = attach();
	reading = attach();
	typing = attach();
	write_pattern(0, MIB(1));
	settle();
	guest.room = 0;
	type(typing, "typed ");
	type(typing, "before the end");
	go(full);
	go(typing);
	write_pattern(MIB(1), 1000);
	settle();
	read_pattern(reading, &reader);
	ck_assert_uint_eq(reader.at, MIB(1) + 1000);
	ck_assert_uint_eq(attached(), 2);
	guest.room = GUEST_MAX;
	channel->input_ready(channel);
	settle();
	expect_guest("typed before the end");
	ck_assert_uint_eq(attached(), 1);
}
END_TEST

/* The guest takes nothing, and places are held by those who typed and left. */
START_TEST(test_the_gone_make_room)
{
	make();
	say("hello");
	guest.room = 0;
	for (size_t i = 0; i < CONSOLE_HUB_CLIENTS; i++) {
		type(attach(), "x");
		if (i != 3) {
			go(i);
		}
	}
	settle();
	ck_assert_uint_eq(attached(), CONSOLE_HUB_CLIENTS);
	for (int i = 0; i < CONSOLE_HUB_CLIENTS - 1; i++) {
		expect(attach(), "hello");
	}
	expect(3, "hello");
	ck_assert_uint_eq(attached(), CONSOLE_HUB_CLIENTS);
	/* Now all live. */
	(void)connect_client();
	client_count--;
	settle();
	ck_assert_uint_eq(attached(), CONSOLE_HUB_CLIENTS);
	guest.room = GUEST_MAX;
	channel->input_ready(channel);
	settle();
	expect_guest("x");
}
END_TEST

/* No descriptor is left for a connection: it waits, nobody spins, and it comes later. */
START_TEST(test_no_descriptors)
{
	struct rlimit before, few;
	size_t client;
	int next;

	make();
	client = connect_client();
	next = dup(0);
	(void)close(next);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = (rlim_t)next;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert_uint_eq(attached(), 0);
	ck_assert_ptr_nonnull(loop.timers);
	ck_assert_uint_eq(loop.slots_used, 2);
	while (attached() == 0) {
		ck_assert_int_eq(loop_step(&loop, -1), 0);
	}
	settle();
	say("at last");
	expect(client, "at last");
}
END_TEST

START_TEST(test_second_socket)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	make();
	ck_assert_int_lt(console_hub_listen(hub, fd, &e), 0);
	ck_assert_int_lt(fcntl(fd, F_GETFD), 0);
}
END_TEST

CHECK_MAIN("console_clients", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_slow_client);
	   CHECK_TEST(test_tiny_reads); CHECK_TEST(test_huge_output);
	   CHECK_TEST(test_too_many_clients); CHECK_TEST(test_clients_come_and_go);
	   CHECK_TEST(test_input_order); CHECK_TEST(test_input_before_start);
	   CHECK_TEST(test_backpressure); CHECK_TEST(test_half_closed);
	   CHECK_TEST(test_closed_for_reading); CHECK_TEST(test_client_dies);
	   CHECK_TEST(test_the_gone_make_room); CHECK_TEST(test_no_descriptors);
	   CHECK_TEST(test_second_socket))
