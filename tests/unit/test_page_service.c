/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that are missing after a VM has moved, with the host's userfaultfd and real sockets: what threads that touch them see, while the
 * stream goes and when connections are cut, after each message; hostile peers on both sides. Between the sides is a relay that counts
 * messages, and cuts.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/crc32c.h"
#include "vmm/loop.h"
#include "vmm/migration_address.h"
#include "vmm/page_service.h"

#define SIZE	 (MIB(8) + KIB(12))
#define PAGES	 (SIZE / PAGE_SIZE_4K)
#define WORDS	 ((PAGES + 63) / 64)
#define STALL_NS 20000000000ULL
#define HEADER	 36

static struct guest_memory here, there;
static struct page_source *source;
static struct page_sink *sink;
static struct error e;
static uint64_t missing[WORDS];
static char address[64];
static _Atomic unsigned lost;
static char lost_words[512];

/* --- what is between the sides ------------------------------------------------------------------- */

static struct {
	_Atomic unsigned messages, cut_at; /* 0: never */
	_Atomic unsigned generation;	   /* relays of an earlier one close */
	_Atomic unsigned relays;
	_Atomic bool refuses, stalls;
} between;

struct relay {
	int fds[2];
	unsigned generation;
	uint8_t buf[KIB(512)];
};

static bool read_all(const struct relay *relay, int fd, uint8_t *to, size_t len)
{
	while (len > 0) {
		struct pollfd poller = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (relay->generation != atomic_load(&between.generation)) {
			return false;
		}
		if (poll(&poller, 1, 20) == 0 || atomic_load(&between.stalls)) {
			(void)usleep(1000);
			continue;
		}
		n = read(fd, to, len);
		if (n <= 0) {
			return false;
		}
		to += n;
		len -= (size_t)n;
	}
	return true;
}

static bool write_all(const struct relay *relay, int fd, const uint8_t *from, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (relay->generation != atomic_load(&between.generation)) {
			return false;
		}
		if (n < 0 && errno == EAGAIN) {
			(void)usleep(100);
			continue;
		}
		if (n <= 0) {
			return false;
		}
		from += n;
		len -= (size_t)n;
	}
	return true;
}

static bool relay_message(struct relay *relay, int from, int to)
{
	uint8_t *buf = relay->buf;
	uint32_t len;
	unsigned number;

	if (!read_all(relay, from, buf, HEADER)) {
		return false;
	}
	len = load_le32(buf + 24);
	if (!read_all(relay, from, buf + HEADER, len)) {
		return false;
	}
	number = atomic_fetch_add(&between.messages, 1) + 1;
	if (number == atomic_load(&between.cut_at)) {
		/* In its middle. */
		(void)write_all(relay, to, buf, HEADER / 2);
		atomic_fetch_add(&between.generation, 1);
		return false;
	}
	return write_all(relay, to, buf, HEADER + len);
}

static void *relay_both(void *arg)
{
	struct relay *relay = arg;
	bool goes = true;

	while (goes && relay->generation == atomic_load(&between.generation)) {
		struct pollfd fds[2] = { { .fd = relay->fds[0], .events = POLLIN },
					 { .fd = relay->fds[1], .events = POLLIN } };

		(void)poll(fds, 2, 20);
		for (int i = 0; goes && i < 2; i++) {
			goes = fds[i].revents == 0 ||
			       relay_message(relay, relay->fds[i], relay->fds[1 - i]);
		}
	}
	(void)close(relay->fds[0]);
	(void)close(relay->fds[1]);
	free(relay);
	atomic_fetch_sub(&between.relays, 1);
	return NULL;
}

/* Of the source. */
static int connect_between(void *arg, const char *where, struct error *error)
{
	struct relay *relay;
	pthread_t thread;
	int pair[2];

	(void)arg;
	if (atomic_load(&between.refuses)) {
		return error_set(error, ERROR_MIGRATION, ECONNREFUSED, "nobody is there");
	}
	relay = malloc(sizeof(*relay));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	relay->generation = atomic_load(&between.generation);
	relay->fds[0] = pair[1];
	relay->fds[1] = migration_address_connect(where, false, error);
	if (relay->fds[1] < 0) {
		(void)close(pair[0]);
		(void)close(pair[1]);
		free(relay);
		return -ECONNREFUSED;
	}
	atomic_fetch_add(&between.relays, 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, relay_both, relay), 0);
	(void)pthread_detach(thread);
	return pair[0];
}

/* --- both sides ---------------------------------------------------------------------------------- */

static void was_lost(struct guest_memory *mem, const struct error *why)
{
	(void)mem;
	(void)snprintf(lost_words, sizeof(lost_words), "%s", why->msg);
	atomic_store(&lost, 1);
}

static bool is_missing(uint64_t page)
{
	return (missing[page / 64] >> page % 64 & 1) != 0;
}

static bool is_zero(uint64_t page)
{
	return page % 7 == 3;
}

static uint64_t word_of(uint64_t page)
{
	return is_zero(page) ? 0 : page * 0x9e3779b97f4a7c15ULL | 1;
}

static void fill_page(const struct guest_memory *mem, uint64_t page, uint64_t value)
{
	uint64_t *words = (uint64_t *)(void *)(mem->regions[0].host + page * PAGE_SIZE_4K);

	for (size_t i = 0; i < PAGE_SIZE_4K / 8; i++) {
		words[i] = value;
	}
}

static void make_memory(struct guest_memory *mem, enum guest_memory_backing backing)
{
	const struct guest_region_config config = { .size = SIZE, .backing = backing };

	*mem = (struct guest_memory){ .lost = was_lost };
	check_ok(guest_memory_add(mem, &config, &e), &e);
}

/* Some alone, some in rows, a chunk full of holes; the last page. */
static void choose_missing(void)
{
	memset(missing, 0, sizeof(missing));
	for (uint64_t page = 0; page < PAGES; page++) {
		if (page == PAGES - 1 || (page >= 100 && page < 400) || page == 777 ||
		    (page >= 1024 && page < 1536 && page % 3 != 0)) {
			missing[page / 64] |= 1ULL << page % 64;
		}
	}
}

static int miss(void *arg, const uint8_t *payload, uint32_t len, struct error *error)
{
	(void)arg;
	return page_sink_miss(sink, payload, len, error);
}

static void make_sides(enum guest_memory_backing backing)
{
	struct page_sink_config to = { .token = "0123456789abcde", .stall_ns = STALL_NS };
	struct page_source_config from = { .mem = &here,
					   .token = "0123456789abcde",
					   .asking = 2,
					   .stall_ns = STALL_NS,
					   .retry_ns = 60000000000ULL,
					   .connect = connect_between,
					   .address = address };
	int listener;

	choose_missing();
	make_memory(&here, GUEST_MEMORY_ANON);
	make_memory(&there, backing);
	for (uint64_t page = 0; page < PAGES; page++) {
		if (!is_zero(page)) {
			fill_page(&here, page, word_of(page));
		}
		/* What was there before is another. */
		if (is_missing(page)) {
			fill_page(&there, page, 0xbadbadbadULL);
		} else if (!is_zero(page)) {
			fill_page(&there, page, word_of(page));
		}
	}
	check_ok(page_sink_create(&sink, &there, &to, &e), &e);
	listener = migration_address_listen(address, false, &e);
	ck_assert_int_ge(listener, 0);
	page_sink_listen(sink, listener);
	check_ok(page_source_create(&source, &from, &e), &e);
}

static void say_missing(void)
{
	uint8_t *buf = malloc(PAGE_MISSING_BYTES);

	check_ok(page_missing_send(0, missing, PAGES, buf, miss, NULL, &e), &e);
	free(buf);
	ck_assert_uint_ge(page_sink_left(sink), 300 * PAGE_SIZE_4K);
	check_ok(page_sink_arm(sink, &e), &e);
}

static void move(void)
{
	check_ok(page_source_connect(source, &e), &e);
	check_ok(page_source_start(source, NULL, NULL, &e), &e);
	say_missing();
	page_source_moved(source);
}

static void wait_for_sink(enum page_sink_state wanted)
{
	enum page_sink_state state = PAGE_SINK_READY;

	while (state != wanted) {
		state = page_sink_wait(sink, state, NULL);
		ck_assert_int_ne(state, PAGE_SINK_LEFT);
	}
}

static void wait_for_source(enum page_source_state wanted)
{
	enum page_source_state state = PAGE_SOURCE_LEFT;

	while (state != wanted) {
		state = page_source_wait(source, state, NULL);
	}
}

static void check_page(uint64_t page, uint64_t value)
{
	const volatile uint64_t *words =
		(const volatile uint64_t *)(const void *)(there.regions[0].host +
							  page * PAGE_SIZE_4K);

	for (size_t i = 0; i < PAGE_SIZE_4K / 8; i += 37) {
		ck_assert_msg(words[i] == value, "page %llu has %llx, not %llx",
			      (unsigned long long)page, (unsigned long long)words[i],
			      (unsigned long long)value);
	}
}

static void check_all(void)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		check_page(page, word_of(page));
	}
	ck_assert_uint_eq(page_sink_left(sink), 0);
	ck_assert_uint_eq(lost, 0);
	ck_assert_ptr_null(there.regions[0].content);
}

static void take_down(void)
{
	page_source_destroy(source);
	source = NULL;
	guest_memory_finish(&there);
	guest_memory_finish(&here);
	atomic_fetch_add(&between.generation, 1);
	while (atomic_load(&between.relays) != 0) {
		(void)usleep(1000);
	}
}

static void setup(void)
{
	memset(&between, 0, sizeof(between));
	atomic_store(&lost, 0);
	(void)snprintf(address, sizeof(address), "unix:/tmp/vmm-test-pages-%d", (int)getpid());
}

static void teardown(void)
{
	(void)unlink(address + strlen("unix:"));
}

/* --- what is seen -------------------------------------------------------------------------------- */

struct toucher {
	pthread_t thread;
	unsigned seed;
	_Atomic bool *stop;
};

static void *touch(void *arg)
{
	struct toucher *toucher = arg;

	for (unsigned i = 0; i < 4000 && !atomic_load(toucher->stop); i++) {
		uint64_t page = (uint64_t)rand_r(&toucher->seed) % PAGES;

		check_page(page, word_of(page));
	}
	return NULL;
}

static void touch_until(void (*until)(void))
{
	struct toucher touchers[4];
	_Atomic bool stop = false;

	for (unsigned i = 0; i < ARRAY_SIZE(touchers); i++) {
		touchers[i].seed = i + 1;
		touchers[i].stop = &stop;
		ck_assert_int_eq(pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]), 0);
	}
	until();
	atomic_store(&stop, true);
	for (unsigned i = 0; i < ARRAY_SIZE(touchers); i++) {
		(void)pthread_join(touchers[i].thread, NULL);
	}
}

static void until_done(void)
{
	wait_for_sink(PAGE_SINK_DONE);
	wait_for_source(PAGE_SOURCE_DONE);
}

START_TEST(test_comes)
{
	make_sides(_i == 0 ? GUEST_MEMORY_ANON : GUEST_MEMORY_MEMFD);
	move();
	touch_until(until_done);
	check_all();
	take_down();
}
END_TEST

/* Nobody streams: what is touched comes nevertheless, with what is around it, and nothing else. */
START_TEST(test_asks)
{
	struct page_source_config from = { .mem = &here,
					   .token = "0123456789abcde",
					   .asking = 1,
					   .stall_ns = STALL_NS,
					   .bandwidth = 1,
					   .connect = connect_between,
					   .address = address };
	uint64_t around;

	make_sides(GUEST_MEMORY_ANON);
	page_source_destroy(source);
	check_ok(page_source_create(&source, &from, &e), &e);
	move();
	/* What is around a page is sent along when it is known to be missing. */
	while (page_source_left(source) == 0) {
		(void)usleep(1000);
	}
	check_page(200, word_of(200));
	/* Those up to 205 come with it, which nobody touches; 206 is zero, and has to be asked for. */
	do {
		(void)usleep(1000);
		pager_missing(there.pager, 0, 192, &around, 1);
	} while ((around >> (201 - 192) & 0x1f) != 0);
	ck_assert_uint_ne(around >> (206 - 192) & 1, 0);
	check_page(PAGES - 1, word_of(PAGES - 1));
	check_page(777, word_of(777));
	ck_assert_uint_gt(page_sink_left(sink), 100 * PAGE_SIZE_4K);
	take_down();
}
END_TEST

/* What the guest has written is not written over, and what it zeroes stays so. */
START_TEST(test_writes)
{
	make_sides(GUEST_MEMORY_ANON);
	atomic_store(&between.stalls, false);
	move();
	ck_assert(guest_memory_write(&there, 300 * PAGE_SIZE_4K, "x", 1));
	ck_assert(guest_memory_zero(&there, 1024 * PAGE_SIZE_4K, 128 * PAGE_SIZE_4K));
	until_done();
	ck_assert_uint_eq(there.regions[0].host[300 * PAGE_SIZE_4K], 'x');
	for (uint64_t page = 1024; page < 1024 + 128; page++) {
		check_page(page, 0);
	}
	take_down();
}
END_TEST

/* --- cuts ---------------------------------------------------------------------------------------- */

static void until_done_by_force(void)
{
	enum page_source_state state = PAGE_SOURCE_LEFT;
	struct error ignored = { 0 };

	while (state != PAGE_SOURCE_DONE) {
		state = page_source_wait(source, state, NULL);
		if (state == PAGE_SOURCE_LOST) {
			(void)page_source_resume(source, NULL, &ignored);
		}
	}
	wait_for_sink(PAGE_SINK_DONE);
}

/* After each message, in its middle: both sides go on. Returns whether it came to that. */
static bool cut_after(unsigned messages)
{
	bool cut;

	setup();
	make_sides(GUEST_MEMORY_ANON);
	/* The hellos and welcomes are before the switch: whose loss is that of the migration. */
	check_ok(page_source_connect(source, &e), &e);
	atomic_store(&between.cut_at, atomic_load(&between.messages) + messages);
	check_ok(page_source_start(source, NULL, NULL, &e), &e);
	say_missing();
	page_source_moved(source);
	touch_until(until_done_by_force);
	cut = atomic_load(&between.messages) >= atomic_load(&between.cut_at);
	check_all();
	take_down();
	teardown();
	return cut;
}

START_TEST(test_cuts)
{
	unsigned messages = 1, cuts = 0;

	while (messages < 2000 && cut_after(messages)) {
		cuts++;
		messages += messages < 12 ? 1 : messages / 6;
	}
	ck_assert_uint_ge(cuts, 12);
}
END_TEST

/* The word that everything is there is lost, and the source asks again. */
START_TEST(test_waits_and_resumes)
{
	make_sides(GUEST_MEMORY_ANON);
	move();
	atomic_store(&between.refuses, true);
	atomic_fetch_add(&between.generation, 1);
	wait_for_source(PAGE_SOURCE_LOST);
	if (page_sink_left(sink) != 0) {
		wait_for_sink(PAGE_SINK_LOST);
	}
	atomic_store(&between.refuses, false);
	until_done();
	check_all();
	take_down();
}
END_TEST

/* A source that goes for good takes the VM with it, which is told; who waits does not wait for ever. */
START_TEST(test_gone)
{
	struct page_source_config from = { .mem = &here,
					   .token = "0123456789abcde",
					   .asking = 1,
					   .stall_ns = STALL_NS,
					   .bandwidth = 1,
					   .connect = connect_between,
					   .address = address };

	make_sides(GUEST_MEMORY_ANON);
	page_source_destroy(source);
	check_ok(page_source_create(&source, &from, &e), &e);
	move();
	check_page(200, word_of(200));
	page_source_leave(source, true);
	wait_for_sink(PAGE_SINK_GONE);
	while (atomic_load(&lost) == 0) {
		(void)usleep(1000);
	}
	ck_assert_ptr_nonnull(strstr(lost_words, "the source has ended"));
	(void)*(volatile uint8_t *)(there.regions[0].host + 1200 * PAGE_SIZE_4K);
	take_down();
}
END_TEST

/* A reset needs none of it any more. */
START_TEST(test_reset)
{
	make_sides(GUEST_MEMORY_ANON);
	move();
	check_ok(guest_memory_discard(&there, &e), &e);
	until_done();
	check_page(200, 0);
	take_down();
}
END_TEST

/* A silent connection is as lost as one that is closed. */
START_TEST(test_silence)
{
	struct page_source_config from = { .mem = &here,
					   .token = "0123456789abcde",
					   .asking = 2,
					   .stall_ns = 1000000000,
					   .retry_ns = 60000000000ULL,
					   .connect = connect_between,
					   .address = address };

	make_sides(GUEST_MEMORY_ANON);
	page_source_destroy(source);
	check_ok(page_source_create(&source, &from, &e), &e);
	check_ok(page_source_connect(source, &e), &e);
	atomic_store(&between.stalls, true);
	check_ok(page_source_start(source, NULL, NULL, &e), &e);
	say_missing();
	page_source_moved(source);
	wait_for_source(PAGE_SOURCE_LOST);
	atomic_store(&between.stalls, false);
	touch_until(until_done);
	check_all();
	take_down();
}
END_TEST

/* --- hostile peers ------------------------------------------------------------------------------- */

struct words {
	uint16_t type;
	uint32_t region, count;
	uint64_t first;
	uint32_t len;
	const void *payload;
};

static void put_message(int fd, const struct words *words)
{
	uint8_t header[HEADER] = "VMMP";

	store_le16(header + 4, 1);
	store_le16(header + 6, words->type);
	store_le32(header + 8, words->region);
	store_le32(header + 12, words->count);
	store_le64(header + 16, words->first);
	store_le32(header + 24, words->len);
	store_le32(header + 28, crc32c(0, words->payload, words->len));
	store_le32(header + 32, crc32c(0, header, 32));
	(void)send(fd, header, sizeof(header), MSG_NOSIGNAL);
	(void)send(fd, words->payload, words->len, MSG_NOSIGNAL);
}

/* True: the other side closes; false: it sends something. */
static bool is_closed(int fd)
{
	uint8_t byte;
	struct pollfd poller = { .fd = fd, .events = POLLIN };

	ck_assert_int_eq(poll(&poller, 1, 20000), 1);
	return recv(fd, &byte, 1, 0) <= 0;
}

static int connect_bare(void)
{
	int fd = migration_address_connect(address, false, &e);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* Who does not know the token, or says what cannot be, is closed; who is served is not disturbed. */
START_TEST(test_hostile_source)
{
	static const uint8_t page[PAGE_SIZE_4K], token[16] = "0123456789abcde", wrong[16] = "0123";
	const struct words hellos[] = {
		{ 1, 0, 2, 99, 16, wrong }, { 1, 0, 0, 99, 16, token }, { 1, 0, 5, 99, 16, token },
		{ 1, 3, 2, 99, 16, token }, { 1, 0, 2, 99, 15, token }, { 6, 0, 1, 1, 4096, page },
		{ 7, 0, 0, 0, 0, NULL },    { 99, 0, 0, 0, 0, NULL },	{ 1, 0, 2, 0, 16, token },
		{ 3, 0, 64, 0, 8, page },
	};
	const struct words streams[] = {
		{ 6, 1, 1, 0, 4096, page },
		{ 6, 0, 2, PAGES - 1, 0, NULL },
		{ 6, 0, 0, 0, 0, NULL },
		{ 6, 0, 1, UINT64_MAX, 0, NULL },
		{ 6, 0, 2, 100, 4096, page },
		{ 6, UINT32_MAX, 1, 0, 0, NULL },
		{ 6, 0, UINT32_MAX, 100, 0, NULL },
		{ 1, 0, 2, 99, 16, token },
	};

	make_sides(GUEST_MEMORY_ANON);
	say_missing();
	for (size_t i = 0; i < ARRAY_SIZE(hellos); i++) {
		int fd = connect_bare();

		put_message(fd, &hellos[i]);
		ck_assert_msg(is_closed(fd), "hello %zu is not refused", i);
		(void)close(fd);
	}
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		const struct words hello = { 1, 0, 1, i + 1, 16, token };
		uint8_t buf[HEADER];
		int fd = connect_bare();

		put_message(fd, &hello);
		ck_assert_int_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 20000), 1);
		ck_assert_int_eq(recv(fd, buf, sizeof(buf), 0), HEADER);
		put_message(fd, &streams[i]);
		ck_assert_msg(is_closed(fd), "message %zu is not refused", i);
		(void)close(fd);
	}
	/* Nothing of that was put. Sessions are newer than those. */
	for (size_t i = 0; i <= ARRAY_SIZE(streams); i++) {
		if (page_source_connect(source, &e) == 0) {
			break;
		}
	}
	check_ok(page_source_start(source, NULL, NULL, &e), &e);
	page_source_moved(source);
	until_done();
	check_all();
	take_down();
}
END_TEST

static int hostile_pair[2][2];
static int hostile_next;

static int connect_hostile(void *arg, const char *where, struct error *error)
{
	(void)arg;
	(void)where;
	if (hostile_next == 2) {
		return error_set(error, ERROR_MIGRATION, ECONNREFUSED, "no more");
	}
	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, hostile_pair[hostile_next]), 0);
	/* The welcome may come before the hello was heard. */
	put_message(hostile_pair[hostile_next][1], &(const struct words){ .type = 2 });
	return hostile_pair[hostile_next++][0];
}

/* A destination that asks for what there is not loses its session, and gets nothing. */
START_TEST(test_hostile_sink)
{
	static const uint8_t ones[64] = { 255, 255, 255, 255, 255, 255, 255, 255 };
	const struct {
		int link;
		struct words words;
	} all[] = {
		{ 0, { 3, 1, 64, 0, 8, ones } },    { 0, { 3, 0, 64, PAGES, 8, ones } },
		{ 0, { 3, 0, 64, 1, 8, ones } },    { 0, { 3, 0, 128, 0, 8, ones } },
		{ 0, { 3, 0, 0, 0, 8, ones } },	    { 0, { 3, 0, 64, UINT64_MAX - 63, 8, ones } },
		{ 0, { 5, 0, 1, 0, 0, NULL } },	    { 1, { 5, 1, 1, 0, 0, NULL } },
		{ 1, { 5, 0, 1, PAGES, 0, NULL } }, { 1, { 5, 0, 1, UINT64_MAX, 0, NULL } },
		{ 1, { 5, 99, 1, 0, 0, NULL } },    { 1, { 8, 0, 0, 0, 0, NULL } },
		{ 1, { 3, 0, 64, 0, 8, ones } },    { 0, { 6, 0, 1, 0, 0, NULL } },
		{ 0, { 2, 0, 0, 0, 0, NULL } },	    { 0, { 77, 0, 0, 0, 0, NULL } },
		{ 1, { 5, 0, 1, 0, 8, ones } },
	};

	make_memory(&here, GUEST_MEMORY_ANON);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct page_source_config from = { .mem = &here,
						   .asking = 1,
						   .stall_ns = STALL_NS,
						   .connect = connect_hostile,
						   .address = address };

		hostile_next = 0;
		check_ok(page_source_create(&source, &from, &e), &e);
		check_ok(page_source_connect(source, &e), &e);
		check_ok(page_source_start(source, NULL, NULL, &e), &e);
		put_message(hostile_pair[all[i].link][1], &all[i].words);
		wait_for_source(PAGE_SOURCE_WAITS);
		ck_assert_uint_eq(page_source_sent(source), 0);
		page_source_destroy(source);
		(void)close(hostile_pair[0][1]);
		(void)close(hostile_pair[1][1]);
	}
	guest_memory_finish(&here);
}
END_TEST

/* What the hand-over says of missing pages, of any content. */
START_TEST(test_missing_payload)
{
	static const struct {
		uint32_t region, count;
		uint64_t first;
		uint32_t len;
	} bad[] = {
		{ 1, 64, 0, 32 },
		{ 0, 64, 1, 32 },
		{ 0, 64, PAGES, 32 },
		{ 0, 0, 0, 24 },
		{ 0, 64, 0, 24 },
		{ 0, 64, 0, 40 },
		{ 0, 64, 0, 23 },
		{ 0, UINT32_MAX, 0, 32 },
		{ UINT32_MAX, 64, 0, 32 },
		{ 0, 64, UINT64_MAX - 63, 32 },
		{ 0, 64, PAGES & ~63ULL, 32 },
	};
	uint8_t buf[64];

	make_sides(GUEST_MEMORY_ANON);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(buf, 0xff, sizeof(buf));
		store_le32(buf, bad[i].region);
		store_le32(buf + 4, bad[i].count);
		store_le64(buf + 8, bad[i].first);
		store_le32(buf + 16, PAGE_MISSING_FLAG);
		store_le32(buf + 20, 0);
		ck_assert_int_lt(page_sink_miss(sink, buf, bad[i].len, &e), 0);
		ck_assert_int_eq(e.code, ERROR_MIGRATION);
	}
	ck_assert_uint_eq(page_sink_left(sink), 0);
	/* Nothing is missing: that is the end. */
	check_ok(page_sink_arm(sink, &e), &e);
	wait_for_sink(PAGE_SINK_DONE);
	take_down();
}
END_TEST

static void skip_without_userfaultfd(void)
{
	struct guest_memory none = { 0 };
	struct pager *probe;

	if (pager_create(&probe, &none, &e) < 0) {
		printf("1..0 # SKIP %s\n", e.msg);
		exit(EXIT_SUCCESS);
	}
	pager_destroy(probe);
}

CHECK_MAIN("page_service", skip_without_userfaultfd(); CHECK_FIXTURE(setup, teardown);
	   CHECK_LOOP(test_comes, 2); CHECK_TEST(test_asks); CHECK_TEST(test_writes);
	   CHECK_TEST(test_cuts); CHECK_TEST(test_waits_and_resumes); CHECK_TEST(test_gone);
	   CHECK_TEST(test_reset); CHECK_TEST(test_silence); CHECK_TEST(test_hostile_source);
	   CHECK_TEST(test_hostile_sink); CHECK_TEST(test_missing_payload))
