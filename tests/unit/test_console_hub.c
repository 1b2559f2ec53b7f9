/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console hub with real sockets and files, driven by loop_step(): replay, live output, clients
 * that are slow, many, gone or silent, input in order and under back-pressure, the log and what
 * goes wrong with it, threads, the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/console_hub.h"
#include "vmm/log.h"

#define GUEST_MAX   KIB(512)
#define CLIENTS_MAX 64

static struct loop loop;
static struct console_hub *hub;
static struct console_channel *channel;
static struct error e;
static struct sockaddr_un address;
static socklen_t address_len;
static int clients[CLIENTS_MAX];
static size_t client_count;
static int log_fd; /* ours */

/* The guest. */
static struct {
	uint8_t data[GUEST_MAX];
	size_t len, room;
} guest;

/* What the file system does. */
static struct {
	bool full, no_holes;
	int refused;
} disk;

/* Both names, of which the C library's headers choose one. */
int __real_fallocate64(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t len)
{
	ck_assert_int_eq(mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	if (disk.no_holes) {
		disk.refused++;
		errno = EOPNOTSUPP;
		return -1;
	}
	return __real_fallocate64(fd, mode, offset, len);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
	return __wrap_fallocate64(fd, mode, offset, len);
}

ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
	if (disk.full) {
		errno = ENOSPC;
		return -1;
	}
	/* Short writes are allowed, so there are some. */
	return __real_pwrite64(fd, buf, MIN(len, (size_t)5000), offset);
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	return __wrap_pwrite64(fd, buf, len, offset);
}

static size_t deliver(void *arg, const uint8_t *data, size_t len)
{
	size_t take = MIN(len, guest.room);

	ck_assert_ptr_eq(arg, &guest);
	ck_assert_uint_gt(len, 0);
	ck_assert_uint_le(guest.len + take, sizeof(guest.data));
	memcpy(guest.data + guest.len, data, take);
	guest.len += take;
	guest.room -= take;
	return take;
}

/* Rounds of the loop until nothing is ready. */
static void settle(void)
{
	for (int i = 0; i < 20; i++) {
		if (loop_step(&loop, 0) != 0) {
			ck_abort_msg("the loop failed");
		}
	}
}

/* As settle(), and the log's timer. */
static void settle_log(void)
{
	settle();
	while (loop.timers != NULL) {
		ck_assert_int_eq(loop_step(&loop, -1), 0);
	}
}

static void make_with(struct console_channel *terminal)
{
	struct console_hub_config config = {
		.loop = &loop, .terminal = terminal, .deliver = deliver, .arg = &guest
	};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	check_ok(console_hub_create(&hub, &config, &e), &e);
	channel = console_hub_channel(hub);
	/* An abstract address that the kernel chooses. */
	address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	address_len = sizeof(address);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &address_len), 0);
	ck_assert_int_eq(listen(fd, 128), 0);
	check_ok(console_hub_listen(hub, fd, &e), &e);
}

static void make(void)
{
	make_with(NULL);
	console_hub_start(hub);
}

static void log_to_file(void)
{
	log_fd = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_ge(log_fd, 0);
	console_hub_log_to(hub, fcntl(log_fd, F_DUPFD_CLOEXEC, 0));
}

static void setup(void)
{
	(void)signal(SIGPIPE, SIG_IGN);
	memset(&guest, 0, sizeof(guest));
	memset(&disk, 0, sizeof(disk));
	guest.room = GUEST_MAX;
	client_count = 0;
	log_fd = -1;
	hub = NULL;
	e = (struct error){ 0 };
	check_ok(loop_init(&loop, &e), &e);
}

static void teardown(void)
{
	console_hub_destroy(hub, 0);
	for (size_t i = 0; i < client_count; i++) {
		if (clients[i] >= 0) {
			(void)close(clients[i]);
		}
	}
	if (log_fd >= 0) {
		(void)close(log_fd);
	}
	loop_finish(&loop);
}

/* Not yet accepted; its index. */
static size_t connect_client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_uint_lt(client_count, CLIENTS_MAX);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, address_len), 0);
	clients[client_count] = fd;
	return client_count++;
}

static size_t attach(void)
{
	size_t client = connect_client();

	settle();
	return client;
}

static void go(size_t client)
{
	(void)close(clients[client]);
	clients[client] = -1;
}

static uint32_t attached(void)
{
	struct console_hub_stats stats;

	console_hub_stats(hub, &stats);
	return stats.clients;
}

static void output(const void *data, size_t len)
{
	channel->output(channel, data, len);
}

static void say(const char *text)
{
	output(text, strlen(text));
	settle();
}

static void type(size_t client, const char *text)
{
	ck_assert_int_eq(send(clients[client], text, strlen(text), 0), (ssize_t)strlen(text));
	settle();
}

static void expect_guest(const char *text)
{
	ck_assert_uint_eq(guest.len, strlen(text));
	ck_assert_mem_eq(guest.data, text, guest.len);
	guest.len = 0;
}

/* What is there for a client now; *ended if its stream is over. */
static size_t take(size_t client, char *buf, size_t size, bool *ended)
{
	size_t len = 0;

	*ended = false;
	while (len < size) {
		ssize_t n = recv(clients[client], buf + len, size - len, MSG_DONTWAIT);

		if (n < 0) {
			ck_assert_int_eq(errno, EAGAIN);
			break;
		}
		if (n == 0) {
			*ended = true;
			break;
		}
		len += (size_t)n;
	}
	return len;
}

static void expect(size_t client, const char *text)
{
	static char buf[KIB(128)];
	bool ended;
	size_t len = take(client, buf, sizeof(buf), &ended);

	ck_assert_msg(len == strlen(text) && memcmp(buf, text, len) == 0, "got '%.*s', want '%s'",
		      (int)len, buf, text);
	ck_assert(!ended);
}

static void expect_end(size_t client)
{
	char buf[16];
	bool ended;

	ck_assert_uint_eq(take(client, buf, sizeof(buf), &ended), 0);
	ck_assert(ended);
}

/* Byte number `i` of a long output: never part of a note of loss, never a line's end. */
static char pattern(uint64_t i)
{
	return (char)('a' + (i * 7 + (i >> 8) * 3 + (i >> 16)) % 26);
}

/* A guest that writes `len` bytes, in pieces. */
static void write_pattern(uint64_t from, uint64_t len)
{
	char piece[1000];

	for (uint64_t at = from; at < from + len; at += sizeof(piece)) {
		size_t n = MIN(sizeof(piece), from + len - at);

		for (size_t i = 0; i < n; i++) {
			piece[i] = pattern(at + i);
		}
		output(piece, n);
	}
}

/* Checks a stream of the pattern with notes of loss in it. */
struct reader {
	uint64_t at, lost;
	unsigned notes;
	char note[64];
	size_t note_len;
};

static void check_pattern(struct reader *reader, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned long long n;

		if (reader->note_len == 0 && data[i] != '[') {
			/* libcheck notes each assertion that holds, with a system call. */
			if (data[i] != pattern(reader->at)) {
				ck_abort_msg("byte %llu", (unsigned long long)reader->at);
			}
			reader->at++;
			continue;
		}
		ck_assert_uint_lt(reader->note_len, sizeof(reader->note) - 1);
		reader->note[reader->note_len++] = data[i];
		if (data[i] == '\n') {
			reader->note[reader->note_len] = '\0';
			ck_assert_msg(strstr(reader->note, " bytes lost]\r\n") != NULL, "'%s'",
				      reader->note);
			ck_assert_int_eq(sscanf(reader->note, "[%llu", &n), 1);
			reader->at += n;
			reader->lost += n;
			reader->notes++;
			reader->note_len = 0;
		}
	}
}

static void read_pattern(size_t client, struct reader *reader)
{
	static char buf[KIB(64)];
	bool ended;
	size_t n;

	while ((n = take(client, buf, sizeof(buf), &ended)) > 0) {
		check_pattern(reader, buf, n);
		settle();
	}
	ck_assert(!ended);
}

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

/* The whole log from `from` on. */
static char *read_log(uint64_t from, size_t *len)
{
	struct stat st;
	char *text;

	ck_assert_int_eq(fstat(log_fd, &st), 0);
	*len = (size_t)st.st_size - (size_t)from;
	text = malloc(*len + 1);
	ck_assert_ptr_nonnull(text);
	ck_assert_int_eq(pread(log_fd, text, *len, (off_t)from), (ssize_t)*len);
	text[*len] = '\0';
	return text;
}

static void expect_log(const char *text)
{
	size_t len;
	char *log = read_log(0, &len);

	ck_assert_str_eq(log, text);
	free(log);
}

START_TEST(test_log)
{
	make();
	output("before ", 7);
	log_to_file();
	expect_log("before ");
	for (const char *c = "a byte at a time"; *c != '\0'; c++) {
		output(c, 1);
	}
	ck_assert_ptr_nonnull(loop.posts_head);
	ck_assert_ptr_null(loop.posts_head->next);
	settle_log();
	expect_log("before a byte at a time");
	output("!", 1);
	settle_log();
	expect_log("before a byte at a time!");
	output(" end", 4);
	console_hub_destroy(hub, 0);
	hub = NULL;
	expect_log("before a byte at a time! end");
}
END_TEST

/* The timer does not hold up what would overrun the ring. */
START_TEST(test_log_keeps_up)
{
	struct reader reader = { 0 };
	size_t len;
	char *log;

	make();
	log_to_file();
	for (uint64_t at = 0; at < MIB(2); at += KIB(20)) {
		write_pattern(at, KIB(20));
		ck_assert_int_eq(loop_step(&loop, 0), 0);
	}
	settle_log();
	log = read_log(0, &len);
	check_pattern(&reader, log, len);
	ck_assert_uint_ge(reader.at, MIB(2));
	ck_assert_uint_eq(reader.lost, 0);
	free(log);
}
END_TEST

/* Main was away: the log says what it lacks. */
START_TEST(test_log_lost)
{
	struct reader reader = { 0 };
	size_t len;
	char *log;

	make();
	log_to_file();
	write_pattern(0, KIB(10));
	settle_log();
	write_pattern(KIB(10), KIB(500));
	settle_log();
	log = read_log(0, &len);
	check_pattern(&reader, log, len);
	ck_assert_uint_eq(reader.at, KIB(510));
	ck_assert_uint_eq(reader.lost, KIB(500) - CONSOLE_HUB_RING);
	free(log);
}
END_TEST

START_TEST(test_log_punched)
{
	const uint64_t total = MIB(11) + 777;
	struct reader reader;
	struct stat st;
	size_t len;
	char *log;

	make();
	log_to_file();
	for (uint64_t at = 0; at < total; at += KIB(32)) {
		write_pattern(at, MIN(KIB(32), total - at));
		ck_assert_int_eq(loop_step(&loop, 0), 0);
	}
	settle_log();
	ck_assert_int_eq(fstat(log_fd, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, total);
	ck_assert_uint_le((uint64_t)st.st_blocks * 512, CONSOLE_HUB_LOG_MAX + MIB(1));
	/* The last of it is whole. */
	reader = (struct reader){ .at = total - CONSOLE_HUB_LOG_MAX };
	log = read_log(reader.at, &len);
	check_pattern(&reader, log, len);
	ck_assert_uint_eq(reader.at, total);
	ck_assert_uint_eq(reader.lost, 0);
	ck_assert_int_eq(lseek(log_fd, 0, SEEK_DATA) > 0, 1);
	free(log);
}
END_TEST

static int begin_messages(void)
{
	int messages = memfd_create("messages", MFD_CLOEXEC);

	log_init(LOG_INFO, messages);
	return messages;
}

/* How often `text` was said. */
static unsigned end_messages(int messages, const char *text)
{
	char buf[4096] = "";
	unsigned count = 0;

	log_init(LOG_INFO, STDERR_FILENO);
	ck_assert_int_ge(pread(messages, buf, sizeof(buf) - 1, 0), 0);
	for (const char *at = buf; (at = strstr(at, text)) != NULL; at++) {
		count++;
	}
	(void)close(messages);
	return count;
}

START_TEST(test_log_without_holes)
{
	const uint64_t total = MIB(11);
	int messages = begin_messages();
	struct reader reader;
	struct stat st;
	size_t len;
	char *log;

	disk.no_holes = true;
	make();
	log_to_file();
	for (uint64_t at = 0; at < total; at += KIB(32)) {
		write_pattern(at, KIB(32));
		ck_assert_int_eq(loop_step(&loop, 0), 0);
		ck_assert_int_eq(fstat(log_fd, &st), 0);
		ck_assert_uint_le((uint64_t)st.st_size, CONSOLE_HUB_LOG_MAX + MIB(1));
	}
	settle_log();
	/* It began anew twice, and ends with the newest. */
	log = read_log(0, &len);
	ck_assert_uint_gt(len, KIB(64));
	reader = (struct reader){ .at = total - len };
	check_pattern(&reader, log, len);
	ck_assert_uint_eq(reader.at, total);
	free(log);
	ck_assert_int_eq(disk.refused, 1);
	ck_assert_uint_eq(end_messages(messages, "begins anew"), 1);
}
END_TEST

START_TEST(test_log_on_full_disk)
{
	int messages = begin_messages();
	struct console_hub_stats stats;
	size_t client;

	make();
	log_to_file();
	client = attach();
	output("kept ", 5);
	settle_log();
	disk.full = true;
	output("lost", 4);
	settle_log();
	output(" lost", 5);
	settle_log();
	expect(client, "kept lost lost");
	disk.full = false;
	output("kept again", 10);
	settle_log();
	expect_log("kept [9 bytes lost]\r\nkept again");
	console_hub_stats(hub, &stats);
	ck_assert_uint_eq(stats.lost_bytes, 9);
	ck_assert_uint_eq(end_messages(messages, "No space left on device"), 1);
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
	   CHECK_TEST(test_slow_client); CHECK_TEST(test_tiny_reads); CHECK_TEST(test_huge_output);
	   CHECK_TEST(test_too_many_clients); CHECK_TEST(test_clients_come_and_go);
	   CHECK_TEST(test_input_order); CHECK_TEST(test_input_before_start);
	   CHECK_TEST(test_backpressure); CHECK_TEST(test_half_closed);
	   CHECK_TEST(test_closed_for_reading); CHECK_TEST(test_client_dies);
	   CHECK_TEST(test_the_gone_make_room); CHECK_TEST(test_no_descriptors);
	   CHECK_TEST(test_second_socket); CHECK_TEST(test_log); CHECK_TEST(test_log_keeps_up);
	   CHECK_TEST(test_log_lost); CHECK_TEST(test_log_punched);
	   CHECK_TEST(test_log_without_holes); CHECK_TEST(test_log_on_full_disk);
	   CHECK_TEST(test_terminal); CHECK_TEST(test_without_terminal_all_is_taken);
	   CHECK_TEST(test_threads); CHECK_TEST(test_destroy_flushes);
	   CHECK_TEST(test_destroy_waits); CHECK_TEST(test_destroy_gives_up);
	   CHECK_TEST(test_destroy_at_once); CHECK_TEST(test_end_of_stream))
