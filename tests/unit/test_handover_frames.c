/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of a hand-over as bytes: right ones in all sizes and pieces; damaged, cut off, and made by somebody who means harm. */
#include <errno.h>
#include <malloc.h>

#include "harness/check_main.h"
#include "vmm/bytes.h"
#include "vmm/crc32c.h"
#include "vmm/handover_frames.h"

#define TYPES	    (HANDOVER_MESSAGES - 1)
#define PAYLOAD_MAX (8U << 20)
#define BYTES_MAX   (HANDOVER_HEADER_SIZE + PAYLOAD_MAX)

/* As vmm/handover_frames.h has it. */
#define AT_VERSION     4
#define AT_TYPE	       6
#define AT_LENGTH      24
#define AT_PAYLOAD_CRC 28
#define AT_HEADER_CRC  32

static uint8_t *bytes;
static struct handover_parser parser;
static struct handover_frame frame;
static struct error err;
static size_t used;

static void setup(void)
{
	bytes = malloc(BYTES_MAX);
	ck_assert_ptr_nonnull(bytes);
}

static void teardown(void)
{
	handover_parser_finish(&parser);
	free(bytes);
}

static const struct handover_message_info *info_of(uint32_t type)
{
	const struct handover_message_info *info = handover_message_info(type);

	ck_assert_ptr_nonnull(info);
	return info;
}

/* A message with `len` bytes of something, at the start of `bytes`. All of its length. */
static size_t make(uint32_t type, uint32_t len, uint64_t epoch, uint64_t sequence)
{
	for (uint32_t i = 0; i < len; i++) {
		bytes[HANDOVER_HEADER_SIZE + i] = (uint8_t)(i * 7 + type);
	}
	handover_frame_header(bytes, &(struct handover_frame){ (enum handover_message)type, epoch,
							       sequence,
							       bytes + HANDOVER_HEADER_SIZE, len });
	return HANDOVER_HEADER_SIZE + (size_t)len;
}

static void seal(void)
{
	store_le32(bytes + AT_HEADER_CRC, crc32c(0, bytes, AT_HEADER_CRC));
}

static void begin(uint32_t type)
{
	handover_parser_finish(&parser);
	handover_parser_init(&parser, info_of(type)->to);
	memset(&err, 0, sizeof(err));
}

static int parse(uint32_t type, size_t len)
{
	begin(type);
	return handover_parser_take(&parser, bytes, len, &used, &frame, &err);
}

START_TEST(test_there_and_back)
{
	uint32_t type = (uint32_t)_i + 1;
	const struct handover_message_info *info = info_of(type);
	uint32_t lengths[] = { info->min, info->max, (info->min + info->max) / 2 };

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t len = make(type, lengths[i], 1ULL << 63 | type, 77);

		ck_assert_int_eq(parse(type, len), 1);
		ck_assert_uint_eq(used, len);
		ck_assert_uint_eq(frame.message, type);
		ck_assert_uint_eq(frame.epoch, 1ULL << 63 | type);
		ck_assert_uint_eq(frame.sequence, 77);
		ck_assert_uint_eq(frame.len, lengths[i]);
		ck_assert(frame.len == 0 ||
			  memcmp(frame.payload, bytes + HANDOVER_HEADER_SIZE, frame.len) == 0);
		check_ok(handover_parser_end(&parser, &err), &err);
	}
}
END_TEST

/* Several in a row, cut into pieces of every size. */
START_TEST(test_pieces)
{
	static const uint32_t types[] = { HANDOVER_OFFER,    HANDOVER_PREPARE, HANDOVER_COMMIT,
					  HANDOVER_PASS_END, HANDOVER_ABORT,   HANDOVER_COMMIT };
	uint8_t stream[512];
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		size_t n = make(types[i], info_of(types[i])->min, 3, i + 1);

		memcpy(stream + len, bytes, n);
		len += n;
	}
	for (size_t piece = 1; piece <= len; piece++) {
		size_t found = 0, at = 0;

		begin(HANDOVER_OFFER);
		while (at < len) {
			size_t end = MIN(at + piece, len);

			while (at < end) {
				int r = handover_parser_take(&parser, stream + at, end - at, &used,
							     &frame, &err);

				ck_assert_msg(r >= 0, "%s", err.msg);
				at += used;
				ck_assert(r == 1 || at == end);
				if (r == 1) {
					ck_assert_uint_eq(frame.message, types[found]);
					ck_assert_uint_eq(frame.sequence, ++found);
				}
			}
		}
		ck_assert_uint_eq(found, ARRAY_SIZE(types));
	}
}
END_TEST

START_TEST(test_every_bit)
{
	uint32_t type = (uint32_t)_i + 1;
	const struct handover_message_info *info = info_of(type);
	size_t len = make(type, MIN(MAX(info->min, 8U), info->max), 5, 6);

	for (size_t bit = 0; bit < len * 8; bit++) {
		int r;

		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		r = parse(type, len);
		ck_assert_msg(r == -EPROTO || r == -EPROTONOSUPPORT, "bit %zu: %d", bit, r);
		ck_assert_int_eq(err.code, ERROR_MIGRATION);
		ck_assert(err.msg[0] != '\0' && err.hint[0] != '\0');
		/* Nothing after that is looked at. */
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_eq(handover_parser_take(&parser, bytes, len, &used, &frame, &err),
				 -EPROTO);
		ck_assert_uint_eq(used, 0);
	}
	ck_assert_int_eq(parse(type, len), 1);
}
END_TEST

START_TEST(test_every_truncation)
{
	uint32_t type = (uint32_t)_i + 1;
	const struct handover_message_info *info = info_of(type);
	size_t len = make(type, MIN(MAX(info->min, 40U), info->max), 5, 6);

	for (size_t cut = 0; cut < len; cut++) {
		ck_assert_int_eq(parse(type, cut), 0);
		ck_assert_uint_eq(used, cut);
		if (cut == 0) {
			check_ok(handover_parser_end(&parser, &err), &err);
			continue;
		}
		ck_assert_int_eq(handover_parser_end(&parser, &err), -EPROTO);
		check_error(&err, ERROR_MIGRATION, "within a message");
		check_error(&err, ERROR_MIGRATION, "other side's log");
	}
}
END_TEST

/* The checksum is right, the length is not: refused before memory is had for it. */
START_TEST(test_hostile_lengths)
{
	uint32_t type = (uint32_t)_i + 1;
	const struct handover_message_info *info = info_of(type);
	uint32_t lengths[] = { info->max + 1, INT32_MAX, 1U << 31, UINT32_MAX, info->min - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(lengths) - (info->min == 0); i++) {
		size_t before = mallinfo2().uordblks;

		(void)make(type, info->min, 1, 1);
		store_le32(bytes + AT_LENGTH, lengths[i]);
		seal();
		ck_assert_int_eq(parse(type, HANDOVER_HEADER_SIZE), -EPROTO);
		check_error(&err, ERROR_MIGRATION, info->name);
		check_error(&err, ERROR_MIGRATION, "same vmm");
		ck_assert_ptr_null(parser.payload);
		ck_assert_uint_le(mallinfo2().uordblks, before);
	}
}
END_TEST

START_TEST(test_room_is_bounded)
{
	uint32_t type = (uint32_t)_i + 1;
	const struct handover_message_info *info = info_of(type);
	size_t len = make(type, info->max, 1, 1);

	ck_assert_int_eq(parse(type, len), 1);
	ck_assert_uint_le(parser.room, info->max);
	ck_assert_uint_le(info->max, info->to == HANDOVER_SOURCE ? 16384U : PAYLOAD_MAX);
	/* A second one has the memory of the first. */
	ck_assert_int_eq(handover_parser_take(&parser, bytes, len, &used, &frame, &err), 1);
	ck_assert_uint_le(parser.room, info->max);
}
END_TEST

START_TEST(test_types_of_nobody)
{
	static const uint16_t types[] = { 0, HANDOVER_MESSAGES, 0x7fff, 0x8000, 0xffff };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		(void)make(HANDOVER_COMMIT, 0, 1, 1);
		store_le16(bytes + AT_TYPE, types[i]);
		seal();
		ck_assert_int_eq(parse(HANDOVER_COMMIT, HANDOVER_HEADER_SIZE), -EPROTO);
		check_error(&err, ERROR_MIGRATION, "not for the destination");
	}
}
END_TEST

/* What the other side should hear, sent back to it. */
START_TEST(test_wrong_direction)
{
	uint32_t type = (uint32_t)_i + 1;
	const struct handover_message_info *info = info_of(type);
	size_t len = make(type, info->min, 1, 1);

	handover_parser_init(&parser,
			     info->to == HANDOVER_SOURCE ? HANDOVER_DESTINATION : HANDOVER_SOURCE);
	ck_assert_int_eq(handover_parser_take(&parser, bytes, len, &used, &frame, &err), -EPROTO);
	check_error(&err, ERROR_MIGRATION, info->name);
}
END_TEST

START_TEST(test_other_versions)
{
	static const uint16_t versions[] = { 0, HANDOVER_VERSION + 1, 0xffff };

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		(void)make(HANDOVER_COMMIT, 0, 1, 1);
		store_le16(bytes + AT_VERSION, versions[i]);
		/* Its checksum may be elsewhere, so it does not matter. */
		bytes[AT_HEADER_CRC] ^= (uint8_t)i;
		ck_assert_int_eq(parse(HANDOVER_COMMIT, HANDOVER_HEADER_SIZE), -EPROTONOSUPPORT);
		check_error(&err, ERROR_MIGRATION, "this vmm version 1");
	}
}
END_TEST

START_TEST(test_something_else)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: somebody else's port\r\n\r\n";

	begin(HANDOVER_OFFER);
	ck_assert_int_eq(handover_parser_take(&parser, (const uint8_t *)request, sizeof(request),
					      &used, &frame, &err),
			 -EPROTO);
	check_error(&err, ERROR_MIGRATION, "no messages of a migration (47 45 54 20)");
}
END_TEST

START_TEST(test_words_reach_the_machine)
{
	struct handover_event event;

	(void)make(HANDOVER_PREPARED, 8, 4, 9);
	ck_assert_int_eq(parse(HANDOVER_PREPARED, HANDOVER_HEADER_SIZE + 8), 1);
	event = handover_frame_event(&frame);
	ck_assert_int_eq(event.kind, HANDOVER_MESSAGE);
	ck_assert_int_eq(event.message, HANDOVER_PREPARED);
	ck_assert_uint_eq(event.epoch, 4);
	ck_assert_uint_eq(event.sequence, 9);
	ck_assert_uint_eq(event.word, load_le64(bytes + HANDOVER_HEADER_SIZE));
	(void)make(HANDOVER_RUNNING, 0, 4, 9);
	ck_assert_int_eq(parse(HANDOVER_RUNNING, HANDOVER_HEADER_SIZE), 1);
	ck_assert_uint_eq(handover_frame_event(&frame).word, 0);
}
END_TEST

/* --- pages that go to where they belong --- */

static uint8_t room[3 * 4096];
static unsigned int asked;

static uint8_t *place(void *arg, const struct handover_frame *head)
{
	ck_assert_ptr_eq(arg, room);
	ck_assert_uint_eq(head->message, HANDOVER_PAGES);
	ck_assert_mem_eq(head->payload, bytes + HANDOVER_HEADER_SIZE, HANDOVER_HEAD_SIZE);
	asked++;
	return head->sequence == 99 ? NULL : room + 1;
}

static size_t begin_pages(uint64_t sequence, uint32_t len)
{
	const size_t all = make(HANDOVER_PAGES, len, 1, sequence);

	begin(HANDOVER_PAGES);
	handover_parser_set_sink(&parser, &(const struct handover_sink){ place, room });
	memset(room, 0xee, sizeof(room));
	asked = 0;
	return all;
}

/* By both ways in, in pieces of `piece`. */
static int take_in_pieces(size_t len, size_t piece)
{
	int r = 0;

	for (size_t at = 0, n; r == 0 && at < len; at += n) {
		uint8_t *to = handover_parser_room(&parser, &n);

		if (to != NULL && at % 2 == 1) {
			n = MIN(n, piece);
			memcpy(to, bytes + at, n);
			r = handover_parser_took(&parser, n, &frame, &err);
		} else {
			r = handover_parser_take(&parser, bytes + at, MIN(piece, len - at), &n,
						 &frame, &err);
		}
	}
	return r;
}

START_TEST(test_in_place)
{
	static const size_t pieces[] = { 1, 3, 24, 36, 59, 60, 61, 4096, 100000 };
	const uint32_t rest = 8192;

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		size_t len = begin_pages(5, HANDOVER_HEAD_SIZE + rest);

		ck_assert_int_eq(take_in_pieces(len, pieces[i]), 1);
		ck_assert_uint_eq(asked, 1);
		ck_assert(frame.placed);
		ck_assert_mem_eq(frame.payload, bytes + HANDOVER_HEADER_SIZE, HANDOVER_HEAD_SIZE);
		ck_assert_mem_eq(room + 1, bytes + HANDOVER_HEADER_SIZE + HANDOVER_HEAD_SIZE, rest);
		ck_assert_uint_eq(room[0], 0xee);
		ck_assert_uint_eq(room[1 + rest], 0xee);
		/* Not wanted there: as every other. */
		len = begin_pages(99, HANDOVER_HEAD_SIZE + rest);
		ck_assert_int_eq(take_in_pieces(len, pieces[i]), 1);
		ck_assert(!frame.placed);
		ck_assert_mem_eq(frame.payload, bytes + HANDOVER_HEADER_SIZE, frame.len);
		ck_assert_uint_eq(room[1], 0xee);
		/* There is nothing to be placed. */
		len = begin_pages(5, HANDOVER_HEAD_SIZE);
		ck_assert_int_eq(take_in_pieces(len, pieces[i]), 1);
		ck_assert_uint_eq(asked, 0);
		ck_assert(!frame.placed);
	}
}
END_TEST

START_TEST(test_in_place_damaged)
{
	size_t len = begin_pages(5, HANDOVER_HEAD_SIZE + 4096), none;

	bytes[len - 1] ^= 1;
	ck_assert_int_eq(take_in_pieces(len, 100), -EPROTO);
	check_error(&err, ERROR_MIGRATION, "checksum of message PAGES");
	ck_assert_ptr_null(handover_parser_room(&parser, &none));
	ck_assert_uint_eq(none, 0);
	/* A header that is not right leads nowhere. */
	len = begin_pages(5, HANDOVER_HEAD_SIZE + 4096);
	bytes[AT_LENGTH] ^= 1;
	ck_assert_int_eq(take_in_pieces(len, 100), -EPROTO);
	ck_assert_uint_eq(asked, 0);
}
END_TEST

CHECK_MAIN("handover_frames", CHECK_FIXTURE(setup, teardown);
	   CHECK_LOOP(test_there_and_back, TYPES); CHECK_TEST(test_pieces);
	   CHECK_LOOP(test_every_bit, TYPES); CHECK_LOOP(test_every_truncation, TYPES);
	   CHECK_LOOP(test_hostile_lengths, TYPES); CHECK_LOOP(test_room_is_bounded, TYPES);
	   CHECK_TEST(test_types_of_nobody); CHECK_LOOP(test_wrong_direction, TYPES);
	   CHECK_TEST(test_other_versions); CHECK_TEST(test_something_else);
	   CHECK_TEST(test_words_reach_the_machine); CHECK_TEST(test_in_place);
	   CHECK_TEST(test_in_place_damaged))
