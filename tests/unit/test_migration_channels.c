/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Further connections of a migration: passes over several of them, by real sockets and threads, and what memory has after each; a channel that
 * is closed, or says nothing any more, at each of its messages; clients and sources that say what they should not.
 *
 * What a hand-over's own connection would carry is put into memory here by hand, and so is its GATHER.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/handover_frames.h"
#include "vmm/migration_address.h"
#include "vmm/migration_channels.h"

#define SIZE	 MIB(24)
#define PAGES	 (SIZE / PAGE_SIZE_4K)
#define EPOCH	 5
#define PATIENT	 20000000000ULL
#define STALL_NS 300000000ULL

static struct guest_memory here, there;
static struct migration_pages pages;
static struct channel_source *source;
static struct channel_sink *sink;
static struct compressor unpacks;
static struct error e;
static char address[64];
static uint8_t token[MIGRATION_CHANNELS_TOKEN] = "as good as any";
static _Atomic bool called;
static _Atomic uint64_t wire;

/* --- what is between the sides: all connections of the source, as messages --- */

static struct {
	_Atomic int listener;
	char address[64];
	_Atomic unsigned messages, cut_at; /* of all; 0: never */
	_Atomic bool stalls, end;
	pthread_t threads[2 * MIGRATION_CHANNELS_MAX];
	_Atomic unsigned count;
} between;

static bool pass_on(int to, const struct handover_frame *frame)
{
	uint8_t header[HANDOVER_HEADER_SIZE];
	struct iovec iov[2] = { { header, sizeof(header) },
				{ (void *)(uintptr_t)frame->payload, frame->len } };
	const struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };

	handover_frame_header(header, frame);
	/* Blocking: all of it, or it is closed. */
	return sendmsg(to, &message, MSG_NOSIGNAL) == (ssize_t)(sizeof(header) + frame->len);
}

/* Towards the destination. False: it is over. */
static bool relay_some(struct handover_parser *parser, int from, int to, uint8_t *buf)
{
	ssize_t n = recv(from, buf, 65536, 0);
	size_t used = 0;

	if (n <= 0) {
		return false;
	}
	for (size_t at = 0; at < (size_t)n; at += used) {
		struct handover_frame frame;
		struct error why = { 0 };
		int r = handover_parser_take(parser, buf + at, (size_t)n - at, &used, &frame, &why);

		ck_assert_int_ge(r, 0);
		if (r == 0) {
			continue;
		}
		if (atomic_fetch_add(&between.messages, 1) + 1 == atomic_load(&between.cut_at)) {
			while (atomic_load(&between.stalls) && !atomic_load(&between.end)) {
				(void)usleep(1000);
			}
			return false;
		}
		if (!pass_on(to, &frame)) {
			return false;
		}
	}
	return true;
}

static void *relay(void *arg)
{
	int from = (int)(intptr_t)arg, to;
	struct error ignored = { 0 };
	struct handover_parser parser;
	uint8_t *buf = malloc(65536);
	bool goes = true;

	ck_assert_ptr_nonnull(buf);
	to = migration_address_connect(address, true, &ignored);
	handover_parser_init(&parser, HANDOVER_DESTINATION);
	(void)fcntl(to, F_SETFL, 0);
	while (goes && to >= 0 && !atomic_load(&between.end)) {
		struct pollfd fds[2] = { { .fd = from, .events = POLLIN },
					 { .fd = to, .events = POLLIN } };

		(void)poll(fds, 2, 20);
		if (fds[0].revents != 0) {
			goes = relay_some(&parser, from, to, buf);
		}
		if (goes && fds[1].revents != 0) {
			ssize_t n = recv(to, buf, 65536, 0);

			goes = n > 0 && send(from, buf, (size_t)n, MSG_NOSIGNAL) == n;
		}
	}
	(void)close(from);
	if (to >= 0) {
		(void)close(to);
	}
	handover_parser_finish(&parser);
	free(buf);
	return NULL;
}

/* --- the sides --- */

static int connect_source(void *arg, struct error *ret)
{
	int fds[2];

	(void)arg;
	(void)ret;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(pthread_create(&between.threads[atomic_fetch_add(&between.count, 1)], NULL,
					relay, (void *)(intptr_t)fds[1]),
			 0);
	return fds[0];
}

static void note_sent(void *arg, uint32_t len)
{
	(void)arg;
	atomic_fetch_add(&wire, len);
}

static bool is_called(void *arg)
{
	(void)arg;
	return atomic_load(&called);
}

static void make_memory(void)
{
	check_ok(guest_memory_init(&here, SIZE, GUEST_MEMORY_ANON, &e), &e);
	check_ok(guest_memory_init(&there, SIZE, GUEST_MEMORY_ANON, &e), &e);
	check_ok(migration_pages_init(&pages, &here, &e), &e);
	(void)snprintf(address, sizeof(address), "unix:/tmp/vmm-channels-%d", (int)getpid());
}

static void make_sink(uint32_t count, uint64_t stall_ns)
{
	struct channel_sink_config config = {
		.count = count, .epoch = EPOCH, .stall_ns = stall_ns, .mem = &there
	};

	memcpy(config.token, token, sizeof(token));
	config.listener = migration_address_listen(address, false, &e);
	ck_assert_msg(config.listener >= 0, "%s", e.msg);
	check_ok(channel_sink_create(&sink, &config, &e), &e);
	channel_sink_open(sink);
}

static void make_source(uint32_t count, uint64_t stall_ns)
{
	struct channel_source_config config = { .count = count,
						.epoch = EPOCH,
						.stall_ns = stall_ns,
						.pages = &pages,
						.connect = connect_source,
						.sent = note_sent,
						.called = is_called };

	memcpy(config.token, token, sizeof(token));
	check_ok(channel_source_create(&source, &config, &e), &e);
}

static int connect_and_start(void)
{
	int r = channel_source_connect(source, &e);

	return r == 0 ? channel_source_start(source, NULL, NULL, &e) : r;
}

static void setup(void)
{
	make_memory();
}

static void teardown(void)
{
	atomic_store(&between.end, true);
	channel_source_destroy(source);
	channel_sink_destroy(sink);
	for (unsigned i = 0; i < atomic_load(&between.count); i++) {
		(void)pthread_join(between.threads[i], NULL);
	}
	migration_pages_finish(&pages);
	guest_memory_finish(&here);
	guest_memory_finish(&there);
	compressor_finish(&unpacks);
	(void)unlink(address + strlen("unix:"));
}

/* What a pass finds to send: every `step`th page, of random bytes, or zero. */
static void dirty(uint64_t step, unsigned seed)
{
	uint64_t bits, *look = migration_pages_wanted(&pages, 0, &bits);

	for (uint64_t page = 0; page < PAGES; page += step) {
		uint64_t *words = (uint64_t *)(void *)(here.regions[0].host + page * PAGE_SIZE_4K);

		for (size_t i = 0; i < PAGE_SIZE_4K / 8; i++) {
			words[i] =
				page % 5 == 1 ? 0 : (page * 512 + i) * 0x9e3779b97f4a7c15ULL + seed;
		}
		look[page / 64] |= 1ULL << page % 64;
	}
}

static int own_messages;

/* The hand-over's own connection. */
static int store_own(void *arg, const uint8_t *payload, uint32_t len, struct error *ret)
{
	uint64_t bytes;

	(void)arg;
	own_messages++;
	return migration_pages_store(&there, &unpacks, payload, len, &bytes, ret);
}

/* As both sides have it. */
static int pass(void)
{
	uint64_t number;
	int r = channel_source_send(source, store_own, NULL, &number, &e);

	return r == 0 ? channel_sink_gather(sink, number, is_called, NULL, &e) : r;
}

/* The row: how many, packed or not. */
START_TEST(test_passes)
{
	static const uint32_t counts[] = { 1, 3, MIGRATION_CHANNELS_MAX };
	const uint32_t count = counts[_i / 2];

	if (_i % 2 != 0 && compress_supported()) {
		check_ok(migration_pages_pack(&pages, &e), &e);
	}
	make_sink(count, PATIENT);
	make_source(count, PATIENT);
	check_ok(connect_and_start(), &e);
	for (unsigned number = 1; number <= 4; number++) {
		dirty(number == 1 ? 1 : number * 3, number * 1000);
		check_ok(pass(), &e);
		ck_assert_uint_eq(migration_pages_left(&pages), 0);
		ck_assert_mem_eq(here.regions[0].host, there.regions[0].host, SIZE);
	}
	/* Nothing is wanted: that is a pass as well. */
	check_ok(pass(), &e);
	ck_assert_int_ge(channel_sink_take_listener(sink), 0);
	ck_assert_int_eq(channel_sink_take_listener(sink), -1);
	ck_assert_uint_le(channel_sink_received(sink), atomic_load(&pages.sent) + SIZE);
	if (_i % 2 == 0) {
		ck_assert_uint_ge(atomic_load(&pages.wire), atomic_load(&wire));
	}
	channel_sink_stop(sink);
}
END_TEST

/* The row: which message of both channels is the one that does not arrive; whether that is a cut. */
START_TEST(test_every_cut)
{
	const unsigned at = (unsigned)_i / 2 + 1;
	const bool stalls = _i % 2 != 0;
	const uint64_t limit = stalls ? STALL_NS : PATIENT;
	int r;

	atomic_store(&between.cut_at, at);
	atomic_store(&between.stalls, stalls);
	make_sink(2, limit);
	make_source(2, limit);
	r = connect_and_start();
	for (unsigned number = 1; r == 0 && number <= 3; number++) {
		dirty(number == 1 ? 1 : 20, number);
		r = pass();
		if (r == 0) {
			ck_assert_mem_eq(here.regions[0].host, there.regions[0].host, SIZE);
		}
	}
	/* How many messages a channel has is a matter of who takes which piece. */
	ck_assert_msg(r < 0 || atomic_load(&between.messages) < at,
		      "message %u was missed by nobody", at);
	ck_assert_msg(r == 0 || e.code == ERROR_MIGRATION, "%s", e.msg);
}
END_TEST

/* Somebody ends it while the other side takes nothing: while it connects, while it sends, while it is waited for. */
START_TEST(test_cancel)
{
	atomic_store(&between.stalls, true);
	atomic_store(&between.cut_at, _i == 0 ? 1 : 3);
	make_sink(2, PATIENT);
	make_source(2, PATIENT);
	if (_i == 0) {
		atomic_store(&called, true);
		ck_assert_int_eq(connect_and_start(), -ECANCELED);
	} else if (_i == 1) {
		check_ok(connect_and_start(), &e);
		dirty(1, 1);
		atomic_store(&called, true);
		ck_assert_int_eq(pass(), -ECANCELED);
	} else {
		atomic_store(&called, true);
		ck_assert_int_eq(channel_sink_gather(sink, 1, is_called, NULL, &e), -ECANCELED);
	}
	check_error(&e, ERROR_CANCELLED, "cancelled");
}
END_TEST

/* The hand-over's own connection fails: the others end with it, and that is the reason. */
static int fail_own(void *arg, const uint8_t *payload, uint32_t len, struct error *ret)
{
	(void)arg;
	(void)payload;
	(void)len;
	return error_set(ret, ERROR_MIGRATION, EPIPE, "as told");
}

START_TEST(test_own_connection_fails)
{
	uint64_t number;

	make_sink(1, PATIENT);
	make_source(1, PATIENT);
	check_ok(connect_and_start(), &e);
	do {
		dirty(1, 1);
		/* It may come too late for any piece. */
	} while (channel_source_send(source, fail_own, NULL, &number, &e) == 0);
	check_error(&e, ERROR_MIGRATION, "as told");
}
END_TEST

/* --- who says what he should not --- */

static int client(void)
{
	int fd = migration_address_connect(address, false, &e);

	ck_assert_msg(fd >= 0, "%s", e.msg);
	(void)fcntl(fd, F_SETFL, 0);
	return fd;
}

static void say(int fd, enum handover_message message, uint64_t epoch, uint64_t sequence,
		const void *payload, uint32_t len)
{
	(void)pass_on(fd, &(const struct handover_frame){ message, epoch, sequence, payload, len });
}

/* The other side has closed; or has let it in. */
static bool is_let_in(int fd)
{
	uint8_t header[HANDOVER_HEADER_SIZE];
	ssize_t n = recv(fd, header, sizeof(header), MSG_WAITALL);

	return n == (ssize_t)sizeof(header) && load_le16(header + 6) == HANDOVER_ACCEPT;
}

static int join_as(const uint8_t *with, uint32_t number, uint32_t count, uint64_t epoch,
		   uint64_t sequence)
{
	uint8_t payload[24];
	int fd = client();

	memcpy(payload, with, MIGRATION_CHANNELS_TOKEN);
	store_le32(payload + 16, number);
	store_le32(payload + 20, count);
	say(fd, HANDOVER_JOIN, epoch, sequence, payload, sizeof(payload));
	return fd;
}

START_TEST(test_strangers)
{
	static const uint8_t wrong[MIGRATION_CHANNELS_TOKEN] = "as good as anx";
	static const uint8_t word[8];
	uint8_t number[8];
	int fds[2], fd;

	make_sink(2, PATIENT);
	fd = join_as(wrong, 0, 2, EPOCH, 1);
	ck_assert(!is_let_in(fd));
	(void)close(fd);
	for (int i = 0; i < 5; i++) {
		/* A place that there is not, another count, another attempt, the second message. */
		fd = join_as(token,
			     i == 0   ? 2
			     : i == 1 ? UINT32_MAX
				      : 0,
			     i == 2 ? 7 : 2, i == 3 ? EPOCH - 1 : EPOCH, i == 4 ? 2 : 1);
		ck_assert_msg(!is_let_in(fd), "row %d", i);
		(void)close(fd);
	}
	fd = client();
	say(fd, HANDOVER_PREPARE, EPOCH, 1, word, sizeof(word));
	ck_assert(!is_let_in(fd));
	(void)close(fd);
	fd = client();
	(void)!write(fd, "GET / HTTP/1.1\r\nHost: somebody.example\r\n\r\n", 42);
	ck_assert(!is_let_in(fd));
	(void)close(fd);
	/* One that goes again, and then who has a place. */
	(void)close(client());
	fds[0] = join_as(token, 1, 2, EPOCH, 1);
	ck_assert(is_let_in(fds[0]));
	fd = join_as(token, 1, 2, EPOCH, 1);
	ck_assert(!is_let_in(fd));
	(void)close(fd);
	fds[1] = join_as(token, 0, 2, EPOCH, 1);
	ck_assert(is_let_in(fds[1]));
	/* Now nobody is heard any more. */
	fd = join_as(token, 0, 2, EPOCH, 1);
	store_le64(number, 1);
	say(fds[0], HANDOVER_GATHER, EPOCH, 2, number, sizeof(number));
	say(fds[1], HANDOVER_GATHER, EPOCH, 2, number, sizeof(number));
	check_ok(channel_sink_gather(sink, 1, is_called, NULL, &e), &e);
	(void)close(channel_sink_take_listener(sink));
	ck_assert(!is_let_in(fd));
	(void)close(fd);
	(void)close(fds[0]);
	(void)close(fds[1]);
}
END_TEST

static void page_header(uint8_t *payload, uint32_t region, uint32_t count, uint64_t first,
			uint32_t flags)
{
	store_le32(payload, region);
	store_le32(payload + 4, count);
	store_le64(payload + 8, first);
	store_le32(payload + 16, flags);
	store_le32(payload + 20, 0);
}

/* Who was let in. None of it is taken, and all of it is the end. */
START_TEST(test_bad_sources)
{
	static uint8_t payload[24 + 2 * PAGE_SIZE_4K];
	int fd;

	make_sink(1, PATIENT);
	fd = join_as(token, 0, 1, EPOCH, 1);
	ck_assert(is_let_in(fd));
	memset(payload + 24, 0xa5, sizeof(payload) - 24);
	page_header(payload, 0, 1, 7, 0);
	switch (_i) {
	case 0: /* a region, or pages, that there are not */
		page_header(payload, 1, 1, 7, 0);
		say(fd, HANDOVER_PAGES, EPOCH, 2, payload, 24 + PAGE_SIZE_4K);
		break;
	case 1:
		page_header(payload, 0, 2, PAGES - 1, 0);
		say(fd, HANDOVER_PAGES, EPOCH, 2, payload, sizeof(payload));
		break;
	case 2: /* which pages are missing is not said here */
		page_header(payload, 0, 64, 0, 4);
		say(fd, HANDOVER_PAGES, EPOCH, 2, payload, 32);
		break;
	case 3: /* a gap, an echo, another attempt */
		say(fd, HANDOVER_PAGES, EPOCH, 3, payload, 24 + PAGE_SIZE_4K);
		break;
	case 4:
		say(fd, HANDOVER_PAGES, EPOCH, 1, payload, 24 + PAGE_SIZE_4K);
		break;
	case 5:
		say(fd, HANDOVER_PAGES, EPOCH + 1, 2, payload, 24 + PAGE_SIZE_4K);
		break;
	case 6: /* what only the hand-over's own connection has */
		say(fd, HANDOVER_STATE, EPOCH, 2, payload, 8);
		break;
	case 7: /* not the next pass */
		store_le64(payload, 2);
		say(fd, HANDOVER_GATHER, EPOCH, 2, payload, 8);
		break;
	case 8: /* once more */
		say(fd, HANDOVER_JOIN, EPOCH, 2, payload, 24);
		break;
	case 9: /* the middle of a message */
		say(fd, HANDOVER_PAGES, EPOCH, 2, payload, 24 + PAGE_SIZE_4K);
		(void)!write(fd, "VMMH", 4);
		(void)shutdown(fd, SHUT_WR);
		break;
	default: /* noise */
		for (int i = 0; i < 10; i++) {
			(void)send(fd, payload + 24, PAGE_SIZE_4K, MSG_NOSIGNAL);
		}
		break;
	}
	ck_assert_int_lt(channel_sink_gather(sink, 1, is_called, NULL, &e), 0);
	ck_assert_int_eq(e.code, ERROR_MIGRATION);
	ck_assert(!is_let_in(fd));
	ck_assert_int_eq(there.regions[0].host[7 * PAGE_SIZE_4K], _i == 9 ? 0xa5 : 0);
	(void)close(fd);
}
END_TEST

/* Before memory is there to stay nobody is let in, whatever he knows. */
START_TEST(test_not_open)
{
	struct channel_sink_config config = {
		.count = 1, .epoch = EPOCH, .stall_ns = PATIENT, .mem = &there
	};
	struct pollfd fd = { .events = POLLIN };

	memcpy(config.token, token, sizeof(token));
	config.listener = migration_address_listen(address, false, &e);
	ck_assert_int_ge(config.listener, 0);
	check_ok(channel_sink_create(&sink, &config, &e), &e);
	fd.fd = join_as(token, 0, 1, EPOCH, 1);
	/* What does not come cannot be waited for: a thread that let it in would have done so by then, mostly. */
	ck_assert_int_eq(poll(&fd, 1, 50), 0);
	if (_i == 0) {
		channel_sink_open(sink);
		ck_assert(is_let_in(fd.fd));
	} else {
		channel_sink_destroy(take_ptr(sink));
		ck_assert(!is_let_in(fd.fd));
	}
	(void)close(fd.fd);
}
END_TEST

/* A byte now and then is not enough to have a thread for longer than others. */
START_TEST(test_slow_hello)
{
	uint8_t message[HANDOVER_HEADER_SIZE + 24] = { 0 };
	const struct handover_frame frame = { HANDOVER_JOIN, EPOCH, 1,
					      message + HANDOVER_HEADER_SIZE, 24 };
	size_t said = 0;
	int fd;

	make_sink(1, STALL_NS);
	memcpy(message + HANDOVER_HEADER_SIZE, token, sizeof(token));
	store_le32(message + HANDOVER_HEADER_SIZE + 20, 1);
	handover_frame_header(message, &frame);
	fd = client();
	while (said < sizeof(message) && send(fd, message + said, 1, MSG_NOSIGNAL) == 1) {
		said++;
		(void)usleep(20000);
	}
	ck_assert_uint_lt(said, sizeof(message));
	ck_assert(!is_let_in(fd));
	(void)close(fd);
}
END_TEST

/* One that never stops talking keeps nobody from ending it. */
static void *talk(void *arg)
{
	int fd = (int)(intptr_t)arg;
	uint8_t byte = 0;
	uint8_t header[HANDOVER_HEADER_SIZE];

	handover_frame_header(header, &(const struct handover_frame){ HANDOVER_PAGES, EPOCH, 2,
								      here.regions[0].host,
								      24 + 512 * PAGE_SIZE_4K });
	(void)send(fd, header, sizeof(header), MSG_NOSIGNAL);
	while (send(fd, &byte, 1, MSG_NOSIGNAL) == 1) {
	}
	return NULL;
}

START_TEST(test_stop_while_it_talks)
{
	pthread_t thread;
	int fd;

	make_sink(1, PATIENT);
	fd = join_as(token, 0, 1, EPOCH, 1);
	ck_assert(is_let_in(fd));
	ck_assert_int_eq(pthread_create(&thread, NULL, talk, (void *)(intptr_t)fd), 0);
	ck_assert_int_lt(channel_sink_gather(sink, 2, is_called, NULL, &e), 0);
	check_error(&e, ERROR_MIGRATION, "pass 2");
	channel_sink_stop(sink);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	(void)close(fd);
}
END_TEST

CHECK_MAIN("migration_channels", CHECK_FIXTURE(setup, teardown); CHECK_LOOP(test_passes, 6);
	   CHECK_LOOP(test_every_cut, 20); CHECK_LOOP(test_cancel, 3);
	   CHECK_TEST(test_own_connection_fails); CHECK_TEST(test_strangers);
	   CHECK_LOOP(test_not_open, 2); CHECK_TEST(test_slow_hello);
	   CHECK_LOOP(test_bad_sources, 11); CHECK_TEST(test_stop_while_it_talks))
