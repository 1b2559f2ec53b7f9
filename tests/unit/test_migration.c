/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two sides of a migration at work, each on a thread of its own, over real sockets with somebody in the middle who passes messages on
 * and ends that, by closing or by saying nothing any more, before or after every message of every type in both directions. Whatever
 * happens, at no moment two run; and where none does, one decision of the kind that vmm/handover.h names makes one run.
 *
 * The VMs are not: a flag that says whether it runs, a lock that one can have, memory whose content is compared.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/migration.h"
#include "vmm/migration_pages.h"

#define SIZE	 MIB(1)
#define STALL_NS 400000000ULL
#define PATIENT	 30000000000ULL

enum { SOURCE, DESTINATION };

static _Atomic int running; /* of both */
static _Atomic int locked_by;

struct side {
	int role;
	struct migration *m;
	pthread_t thread;
	struct guest_memory mem;
	struct compressor unpacks;
	struct migration_pages pages;
	struct state {
		uint8_t bytes[3 << 20];
		size_t len;
	} state;
	int passes;
	uint64_t gathered;
	bool runs, refuses, fails_load, later, copies;
	bool breaks; /* the connection goes in the middle of SEND_LAST, which fails by itself */
	_Atomic bool fails_run;
	_Atomic bool over;
	int result;
	struct error error;
	uint8_t pass_end[16];
};
static struct side sides[2];

enum cut { CUT_NOTHING, CUT_CLOSE, CUT_STALL };

static struct middle {
	int fds[2]; /* to the source, to the destination */
	pthread_t thread;
	enum cut cut;
	enum handover_message at;
	bool before;
	bool seen; /* that message */
	_Atomic bool end;
	uint8_t *bytes;
} middle;

static void start_running(struct side *side)
{
	ck_assert_int_eq(atomic_load(&locked_by), side->role + 1);
	if (!side->runs) {
		ck_assert_int_eq(atomic_fetch_add(&running, 1), 0);
	}
	side->runs = true;
}

/* Of a disk that moves as well: its content is tested elsewhere. */
static int send_blocks(struct side *side, struct error *e)
{
	static const uint8_t payload[24] = "a disk";

	return migration_send(side->m, HANDOVER_BLOCKS, payload, sizeof(payload), e);
}

/* Of further connections, which are tested elsewhere. */
static int send_gather(struct side *side, struct error *e)
{
	uint8_t payload[8];

	store_le64(payload, (uint64_t)side->passes);
	return migration_send(side->m, HANDOVER_GATHER, payload, sizeof(payload), e);
}

static int send_page_message(void *arg, const uint8_t *payload, uint32_t len, struct error *e)
{
	struct side *side = arg;

	return migration_send(side->m, HANDOVER_PAGES, payload, len, e);
}

static void dirty(struct side *side, uint64_t pages, uint8_t with)
{
	uint64_t bits, *look = migration_pages_wanted(&side->pages, 0, &bits);

	for (uint64_t page = 0; page < pages; page++) {
		memset(side->mem.regions[0].host + page * PAGE_SIZE_4K, with, PAGE_SIZE_4K);
		look[page / 64] |= 1ULL << page % 64;
	}
}

static int next_pass(struct side *side, struct error *e)
{
	if (side->passes == 2) {
		return MIGRATION_CONVERGED;
	}
	dirty(side, side->passes == 0 ? 200 : 20, (uint8_t)(side->passes + 1));
	side->passes++;
	if (send_blocks(side, e) < 0 ||
	    migration_pages_send(&side->pages, send_page_message, side, e) < 0) {
		return -e->sys;
	}
	return send_gather(side, e);
}

static int send_last(struct side *side, struct error *e)
{
	int r;

	dirty(side, 3, 77);
	r = migration_pages_send(&side->pages, send_page_message, side, e);
	for (size_t at = 0; r == 0 && at < side->state.len; at += 1 << 20) {
		r = migration_send(side->m, HANDOVER_STATE, side->state.bytes + at, 1 << 20, e);
	}
	return r;
}

static int no(struct error *e)
{
	(void)error_set(e, ERROR_STATE, EINVAL, "not this one");
	return error_hint(e, "take another");
}

static int store(struct side *side, const struct handover_frame *frame, struct error *e)
{
	uint64_t bytes;

	if (frame->placed) {
		migration_pages_placed(&side->mem, frame->payload, &bytes);
		return 0;
	}
	if (frame->message == HANDOVER_PAGES) {
		return migration_pages_store(&side->mem, &side->unpacks, frame->payload, frame->len,
					     &bytes, e);
	}
	if (frame->message == HANDOVER_GATHER) {
		ck_assert_uint_eq(load_le64(frame->payload), ++side->gathered);
		return 0;
	}
	if (frame->message == HANDOVER_BLOCKS) {
		ck_assert_str_eq((const char *)frame->payload, "a disk");
		return 0;
	}
	ck_assert_uint_le(side->state.len + frame->len, sizeof(side->state.bytes));
	memcpy(side->state.bytes + side->state.len, frame->payload, frame->len);
	side->state.len += frame->len;
	return 0;
}

static int take_lock(struct side *side, struct error *e)
{
	int nobody = 0;

	if (atomic_load(&locked_by) != side->role + 1 &&
	    !atomic_compare_exchange_strong(&locked_by, &nobody, side->role + 1)) {
		return error_set(e, ERROR_DISK_LOCKED, EAGAIN, "locked by side %d", nobody - 1);
	}
	return 0;
}

static void release_lock(struct side *side)
{
	int own = side->role + 1;

	ck_assert(!side->runs);
	(void)atomic_compare_exchange_strong(&locked_by, &own, 0);
}

static int act(void *arg, enum handover_action_kind what, const struct handover_frame *frame,
	       struct error *e)
{
	struct side *side = arg;

	switch (what) {
	case HANDOVER_CHECK:
		ck_assert_int_eq(memcmp(frame->payload, "offer!", 6), 0);
		if (side->later) {
			return MIGRATION_LATER;
		}
		return side->refuses ? no(e) : 0;
	case HANDOVER_NEXT_PASS:
		return next_pass(side, e);
	case HANDOVER_PAUSE:
		side->runs = false;
		(void)atomic_fetch_sub(&running, 1);
		return 0;
	case HANDOVER_SEND_LAST:
		if (side->breaks) {
			(void)shutdown(middle.fds[SOURCE], SHUT_RDWR);
			return no(e);
		}
		return send_last(side, e);
	case HANDOVER_STORE:
		return store(side, frame, e);
	case HANDOVER_LOAD:
		return side->fails_load ? no(e) : 0;
	case HANDOVER_RELEASE_LOCKS:
		release_lock(side);
		return 0;
	case HANDOVER_TAKE_LOCKS:
		return take_lock(side, e);
	case HANDOVER_RUN:
		if (atomic_load(&side->fails_run)) {
			return no(e);
		}
		start_running(side);
		return 0;
	default:
		return 0;
	}
}

static void say(void *arg, struct handover_frame *frame)
{
	struct side *side = arg;

	if (frame->message == HANDOVER_OFFER) {
		frame->payload = (const uint8_t *)"offer!";
		frame->len = 6;
	} else if (frame->message == HANDOVER_PASS_END) {
		frame->payload = side->pass_end;
		frame->len = 16;
	}
}

static uint8_t *place(void *arg, const struct handover_frame *frame)
{
	struct side *side = arg;

	ck_assert_int_eq(migration_state(side->m), HANDOVER_D_RECEIVING);
	return side->copies ? NULL : migration_pages_place(&side->mem, frame->payload, frame->len);
}

static const struct migration_ops ops = { act, say, place };

static void *run(void *arg)
{
	struct side *side = arg;
	int r = migration_run(side->m, &side->error);

	if (r == MIGRATION_LATER) {
		struct error e = { 0 };

		migration_report(side->m, side->refuses ? no(&e) : 0, &e);
		r = migration_run(side->m, &side->error);
	}
	side->result = r;
	atomic_store(&side->over, true);
	return NULL;
}

/* --- who is in the middle --- */

static bool write_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n <= 0) {
			return false;
		}
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

static bool pass_on(int to, const struct handover_frame *frame)
{
	uint8_t header[HANDOVER_HEADER_SIZE];

	handover_frame_header(header, frame);
	return write_all(to, header, sizeof(header)) && write_all(to, frame->payload, frame->len);
}

static void wait_for_end(void)
{
	while (!atomic_load(&middle.end)) {
		(void)usleep(1000);
	}
}

/* One message, or part of one, from `from`. False: it is over. */
static bool relay(struct handover_parser *parser, int from, int to)
{
	static const size_t room = 65536;
	struct handover_frame frame;
	struct error e = { 0 };
	ssize_t n = recv(from, middle.bytes, room, 0);
	size_t used = 0;

	if (n <= 0) {
		return false;
	}
	for (size_t at = 0; at < (size_t)n; at += used) {
		int r = handover_parser_take(parser, middle.bytes + at, (size_t)n - at, &used,
					     &frame, &e);

		ck_assert_int_ge(r, 0);
		if (r == 0) {
			continue;
		}
		if (middle.cut != CUT_NOTHING && frame.message == middle.at) {
			middle.seen = true;
			if (!middle.before) {
				(void)pass_on(to, &frame);
			}
			if (middle.cut == CUT_STALL) {
				wait_for_end();
			}
			return false;
		}
		if (!pass_on(to, &frame)) {
			return false;
		}
	}
	return true;
}

static void *be_in_the_middle(void *arg)
{
	struct handover_parser parsers[2];
	bool goes_on = true;

	(void)arg;
	handover_parser_init(&parsers[SOURCE], HANDOVER_DESTINATION);
	handover_parser_init(&parsers[DESTINATION], HANDOVER_SOURCE);
	while (goes_on) {
		struct pollfd fds[2] = { { .fd = middle.fds[0], .events = POLLIN },
					 { .fd = middle.fds[1], .events = POLLIN } };

		ck_assert_int_gt(poll(fds, 2, -1), 0);
		for (int i = 0; goes_on && i < 2; i++) {
			goes_on = fds[i].revents == 0 ||
				  relay(&parsers[i], middle.fds[i], middle.fds[1 - i]);
		}
	}
	(void)close(middle.fds[0]);
	(void)close(middle.fds[1]);
	handover_parser_finish(&parsers[0]);
	handover_parser_finish(&parsers[1]);
	return NULL;
}

/* --- a migration --- */

static void make_side(int role, int fd, uint64_t stall_ns)
{
	struct side *side = &sides[role];
	const struct migration_config config = {
		.role = role == SOURCE ? HANDOVER_SOURCE : HANDOVER_DESTINATION,
		.fd = fd,
		.epoch = role == SOURCE ? 5 : 3,
		.stall_ns = stall_ns,
		.ops = &ops,
		.arg = side,
	};
	struct error e = { 0 };

	side->role = role;
	check_ok(guest_memory_init(&side->mem, SIZE, GUEST_MEMORY_ANON, &e), &e);
	check_ok(migration_pages_init(&side->pages, &side->mem, &e), &e);
	check_ok(migration_create(&side->m, &config, &e), &e);
}

static void begin(enum cut cut, enum handover_message at, bool before)
{
	const uint64_t stall_ns = cut == CUT_STALL ? STALL_NS : PATIENT;
	int source[2], destination[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, source), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, destination), 0);
	make_side(SOURCE, source[0], stall_ns);
	make_side(DESTINATION, destination[0], stall_ns);
	for (size_t i = 0; i < sizeof(sides[SOURCE].state.bytes); i++) {
		sides[SOURCE].state.bytes[i] = (uint8_t)(i * 31);
	}
	sides[SOURCE].state.len = sizeof(sides[SOURCE].state.bytes);
	sides[SOURCE].runs = true;
	atomic_store(&running, 1);
	atomic_store(&locked_by, SOURCE + 1);
	middle.fds[0] = source[1];
	middle.fds[1] = destination[1];
	middle.cut = cut;
	middle.at = at;
	middle.before = before;
	middle.bytes = malloc(65536);
	ck_assert_ptr_nonnull(middle.bytes);
	ck_assert_int_eq(pthread_create(&middle.thread, NULL, be_in_the_middle, NULL), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_create(&sides[i].thread, NULL, run, &sides[i]), 0);
	}
}

/* Over, or nothing happens any more before somebody decides. */
static bool has_settled(const struct side *side)
{
	enum handover_state state = migration_state(side->m);

	return atomic_load(&side->over) || state == HANDOVER_S_IN_DOUBT ||
	       state == HANDOVER_S_BLOCKED || state == HANDOVER_D_IN_DOUBT;
}

static void wait_for_both(void)
{
	while (!has_settled(&sides[SOURCE]) || !has_settled(&sides[DESTINATION])) {
		(void)usleep(1000);
	}
}

static struct asked {
	struct migration_question question;
	_Atomic bool answered;
} asked;

static void note_answer(struct migration_question *question)
{
	atomic_store(&container_of(question, struct asked, question)->answered, true);
}

static int ask(int side, enum handover_event_kind kind, uint64_t word)
{
	struct error e = { 0 };
	int r;

	asked.question =
		(struct migration_question){ .kind = kind, .word = word, .answered = note_answer };
	atomic_store(&asked.answered, false);
	r = migration_ask(sides[side].m, &asked.question, &e);
	while (r == 0 && !atomic_load(&asked.answered)) {
		(void)usleep(500);
	}
	return r == 0 ? asked.question.result : r;
}

static void wait_for_side(int side)
{
	while (!atomic_load(&sides[side].over)) {
		(void)usleep(1000);
	}
}

/* Which of the two ways out of a doubt on both sides. */
static bool decide_by_source;

/* As vmm/handover.h has it. */
static void decide(void)
{
	enum handover_state source = migration_state(sides[SOURCE].m);
	enum handover_state destination = migration_state(sides[DESTINATION].m);
	uint64_t word = migration_word(sides[DESTINATION].m);

	if (source == HANDOVER_S_IN_DOUBT && destination == HANDOVER_D_RUNNING) {
		ck_assert_int_eq(ask(SOURCE, HANDOVER_DECIDE_RUN, 1), -EACCES);
		ck_assert_int_eq(ask(SOURCE, HANDOVER_DECIDE_GIVE_UP, 0), 0);
		wait_for_side(SOURCE);
	} else if (source == HANDOVER_S_IN_DOUBT && decide_by_source) {
		ck_assert_uint_ne(word, 0);
		ck_assert_int_eq(ask(SOURCE, HANDOVER_DECIDE_RUN, word + 1), -EACCES);
		ck_assert_int_eq(ask(SOURCE, HANDOVER_DECIDE_RUN, word), 0);
		wait_for_side(SOURCE);
		ck_assert_int_eq(migration_state(sides[SOURCE].m), HANDOVER_S_KEPT);
	} else if (source == HANDOVER_S_IN_DOUBT) {
		ck_assert_int_eq(ask(SOURCE, HANDOVER_DECIDE_GIVE_UP, 0), 0);
		wait_for_side(SOURCE);
		word = migration_word(sides[SOURCE].m);
		ck_assert_uint_ne(word, 0);
		ck_assert_int_eq(ask(DESTINATION, HANDOVER_DECIDE_RUN, word), 0);
		wait_for_side(DESTINATION);
		ck_assert_int_eq(migration_state(sides[DESTINATION].m), HANDOVER_D_RUNNING);
	}
	if (migration_state(sides[DESTINATION].m) == HANDOVER_D_IN_DOUBT) {
		ck_assert_int_eq(ask(DESTINATION, HANDOVER_DECIDE_RUN, 1), -EACCES);
		ck_assert_int_eq(ask(DESTINATION, HANDOVER_DECIDE_GIVE_UP, 0), 0);
		wait_for_side(DESTINATION);
	}
}

static void finish(void)
{
	struct side *source = &sides[SOURCE], *destination = &sides[DESTINATION];

	ck_assert_int_eq(atomic_load(&running), 1);
	atomic_store(&middle.end, true);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_join(sides[i].thread, NULL), 0);
	}
	ck_assert_int_eq(pthread_join(middle.thread, NULL), 0);
	if (destination->runs) {
		ck_assert_int_eq(
			memcmp(source->mem.regions[0].host, destination->mem.regions[0].host, SIZE),
			0);
		ck_assert_uint_eq(source->state.len, destination->state.len);
		ck_assert_mem_eq(source->state.bytes, destination->state.bytes, source->state.len);
	}
	for (int i = 0; i < 2; i++) {
		migration_destroy(sides[i].m);
		migration_pages_finish(&sides[i].pages);
		guest_memory_finish(&sides[i].mem);
		compressor_finish(&sides[i].unpacks);
	}
	free(middle.bytes);
}

START_TEST(test_moves)
{
	sides[DESTINATION].later = _i == 1;
	sides[DESTINATION].copies = _i == 2;
	begin(CUT_NOTHING, HANDOVER_NO_MESSAGE, false);
	wait_for_side(SOURCE);
	wait_for_side(DESTINATION);
	ck_assert_int_eq(sides[SOURCE].result, 0);
	ck_assert_int_eq(sides[DESTINATION].result, 0);
	ck_assert_int_eq(migration_state(sides[SOURCE].m), HANDOVER_S_MOVED);
	ck_assert_int_eq(migration_state(sides[DESTINATION].m), HANDOVER_D_RUNNING);
	ck_assert(sides[DESTINATION].runs);
	finish();
}
END_TEST

/* The row: which message, how, when, and whether the attempt has it at all. */
START_TEST(test_every_cut)
{
	const enum handover_message at = (enum handover_message)(_i / 4 + 1);
	const bool fails = at == HANDOVER_FAILED, refuses = at == HANDOVER_REFUSE;

	decide_by_source = _i / 4 % 2 == 0;
	atomic_store(&sides[DESTINATION].fails_run, fails);
	sides[DESTINATION].refuses = refuses;
	begin(_i % 2 == 0 ? CUT_CLOSE : CUT_STALL, at, _i / 2 % 2 == 0);
	wait_for_both();
	decide();
	finish();
	/* A slow host may take what comes before for a stall; JOIN is of other connections. */
	ck_assert_msg(middle.seen || at == HANDOVER_ABORT || at == HANDOVER_JOIN ||
			      middle.cut == CUT_STALL,
		      "no %s was sent", handover_message_info(at)->name);
}
END_TEST

START_TEST(test_reasons_are_told)
{
	sides[DESTINATION].refuses = _i == 0 || _i == 1;
	sides[DESTINATION].later = _i == 1;
	sides[DESTINATION].fails_load = _i == 2;
	atomic_store(&sides[DESTINATION].fails_run, _i == 3);
	begin(CUT_NOTHING, HANDOVER_NO_MESSAGE, false);
	wait_for_side(SOURCE);
	wait_for_side(DESTINATION);
	ck_assert(sides[SOURCE].runs);
	ck_assert_int_eq(migration_state(sides[SOURCE].m), HANDOVER_S_KEPT);
	check_error(&sides[SOURCE].error, ERROR_MIGRATION, "not this one; take another");
	check_error(&sides[DESTINATION].error, ERROR_STATE, "not this one");
	finish();
}
END_TEST

/* Before anything has come of it, while the other side takes nothing; the other side hears of it. */
START_TEST(test_cancel)
{
	const enum handover_message at = _i == 0 ? HANDOVER_ACCEPT : HANDOVER_PASS_HELD;

	begin(CUT_STALL, at, true);
	/* On a slow host it may have ended before, for having waited too long, or before this looks. */
	while (migration_state(sides[SOURCE].m) !=
		       (_i == 0 ? HANDOVER_S_OFFERED : HANDOVER_S_PASSED) &&
	       !atomic_load(&sides[SOURCE].over)) {
		(void)usleep(100);
	}
	if (ask(SOURCE, HANDOVER_CANCEL, 0) == 0) {
		wait_for_side(SOURCE);
		check_error(&sides[SOURCE].error, ERROR_CANCELLED, "cancelled");
	}
	ck_assert_int_eq(migration_state(sides[SOURCE].m), HANDOVER_S_KEPT);
	wait_for_both();
	decide();
	finish();
}
END_TEST

/* The connection goes, and then the guest cannot go on: that is not lost with what could not be said to the other side. */
START_TEST(test_blocked_without_connection)
{
	sides[SOURCE].breaks = true;
	atomic_store(&sides[SOURCE].fails_run, true);
	begin(CUT_NOTHING, HANDOVER_NO_MESSAGE, false);
	while (migration_state(sides[SOURCE].m) != HANDOVER_S_BLOCKED) {
		ck_assert(!atomic_load(&sides[SOURCE].over));
		(void)usleep(1000);
	}
	atomic_store(&sides[SOURCE].fails_run, false);
	ck_assert_int_eq(ask(SOURCE, HANDOVER_DECIDE_RUN, 0), 0);
	wait_for_side(SOURCE);
	ck_assert_int_eq(migration_state(sides[SOURCE].m), HANDOVER_S_KEPT);
	wait_for_side(DESTINATION);
	finish();
}
END_TEST

/* A process that ends leaves at once, in doubt as well. */
START_TEST(test_leave)
{
	begin(CUT_CLOSE, HANDOVER_RUNNING, true);
	wait_for_both();
	ck_assert_int_eq(migration_state(sides[SOURCE].m), HANDOVER_S_IN_DOUBT);
	migration_leave(sides[SOURCE].m);
	wait_for_side(SOURCE);
	check_error(&sides[SOURCE].error, ERROR_CANCELLED, "left");
	ck_assert_int_eq(ask(SOURCE, HANDOVER_CANCEL, 0), -ENOTCONN);
	finish();
}
END_TEST

CHECK_MAIN("migration", CHECK_LOOP(test_moves, 3);
	   CHECK_LOOP(test_every_cut, (HANDOVER_MESSAGES - 1) * 4);
	   CHECK_LOOP(test_reasons_are_told, 4); CHECK_LOOP(test_cancel, 2);
	   CHECK_TEST(test_blocked_without_connection); CHECK_TEST(test_leave))
