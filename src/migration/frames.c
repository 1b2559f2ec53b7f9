/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of a hand-over to bytes and back: include/vmm/handover_frames.h is the contract. All that is parsed is the peer's: a header
 * is looked at when it is whole and its checksum is right, and memory is had for a payload only within its type's bounds.
 *
 * A payload's head is kept apart; what is behind it goes to where the caller says, or into memory of the parser's own, behind a copy of the
 * head. Its checksum is computed piece by piece, while those are in the processor's cache.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "vmm/bytes.h"
#include "vmm/crc32c.h"
#include "vmm/handover_frames.h"

enum {
	AT_VERSION = 4,
	AT_TYPE = 6,
	AT_EPOCH = 8,
	AT_SEQUENCE = 16,
	AT_LENGTH = 24,
	AT_PAYLOAD_CRC = 28,
	AT_HEADER_CRC = 32,
};

#define WORD_SIZE 8

static const uint8_t magic[4] = { 'V', 'M', 'M', 'H' };

static const char damaged[] = "what came is damaged: look for what changes data on the way, and "
			      "migrate again";

void handover_frame_header(uint8_t ret[HANDOVER_HEADER_SIZE], const struct handover_frame *frame)
{
	const struct handover_message_info *info = handover_message_info(frame->message);

	VMM_BUG_ON(info == NULL || frame->len < info->min || frame->len > info->max);
	memcpy(ret, magic, sizeof(magic));
	store_le16(ret + AT_VERSION, HANDOVER_VERSION);
	store_le16(ret + AT_TYPE, (uint16_t)frame->message);
	store_le64(ret + AT_EPOCH, frame->epoch);
	store_le64(ret + AT_SEQUENCE, frame->sequence);
	store_le32(ret + AT_LENGTH, frame->len);
	store_le32(ret + AT_PAYLOAD_CRC, crc32c(0, frame->payload, frame->len));
	store_le32(ret + AT_HEADER_CRC, crc32c(0, ret, AT_HEADER_CRC));
}

void handover_parser_init(struct handover_parser *parser, enum handover_role side)
{
	*parser = (struct handover_parser){ .to = side, .types = UINT32_MAX };
}

void handover_parser_only(struct handover_parser *parser, uint32_t types)
{
	parser->types = types;
}

void handover_parser_set_sink(struct handover_parser *parser, const struct handover_sink *sink)
{
	parser->sink = *sink;
}

void handover_parser_finish(struct handover_parser *parser)
{
	free(parser->payload);
	parser->payload = NULL;
	parser->room = 0;
}

static int check_start(const uint8_t *header, struct error *e)
{
	uint16_t version = load_le16(header + AT_VERSION);

	if (memcmp(header, magic, sizeof(magic)) != 0) {
		(void)error_set(e, ERROR_MIGRATION, EPROTO,
				"migration: the peer sends no messages of a migration (%02x %02x "
				"%02x %02x)",
				header[0], header[1], header[2], header[3]);
		return error_hint(e, "is the other side `vmm`, and the address the right one?");
	}
	if (version != HANDOVER_VERSION) {
		(void)error_set(e, ERROR_MIGRATION, EPROTONOSUPPORT,
				"migration: the peer speaks version %u, this vmm version %u",
				version, HANDOVER_VERSION);
		return error_hint(e, "use the same vmm on both sides");
	}
	if (load_le32(header + AT_HEADER_CRC) != crc32c(0, header, AT_HEADER_CRC)) {
		(void)error_set(e, ERROR_MIGRATION, EPROTO,
				"migration: the checksum of a message's header is wrong");
		return error_hint(e, "%s", damaged);
	}
	return 0;
}

static int check_header(struct handover_parser *parser, struct error *e)
{
	const uint8_t *header = parser->header;
	struct handover_frame *frame = &parser->frame;
	const struct handover_message_info *info;
	uint32_t type = load_le16(header + AT_TYPE), len = load_le32(header + AT_LENGTH);
	int r = check_start(header, e);

	if (r < 0) {
		return r;
	}
	info = handover_message_info(type);
	if (info == NULL || info->to != parser->to || (parser->types >> type & 1) == 0) {
		(void)error_set(e, ERROR_MIGRATION, EPROTO,
				"migration: a message of type %" PRIu32 "%s%s%s is not for the %s",
				type, info != NULL ? " (" : "", info != NULL ? info->name : "",
				info != NULL ? ")" : "",
				parser->to == HANDOVER_SOURCE ? "source" : "destination");
		return error_hint(e, "use the same vmm on both sides, one to send and one to "
				     "receive");
	}
	if (len < info->min || len > info->max) {
		(void)error_set(e, ERROR_MIGRATION, EPROTO,
				"migration: message %s has %" PRIu32 " bytes, not %" PRIu32
				" to %" PRIu32,
				info->name, len, info->min, info->max);
		return error_hint(e, "use the same vmm on both sides");
	}
	frame->message = (enum handover_message)type;
	frame->epoch = load_le64(header + AT_EPOCH);
	frame->sequence = load_le64(header + AT_SEQUENCE);
	frame->len = len;
	return 0;
}

static int make_room(struct handover_parser *parser, struct error *e)
{
	uint32_t len = parser->frame.len;

	if (len <= parser->room) {
		return 0;
	}
	/* Nothing in it is needed any more, so nothing is copied. */
	handover_parser_finish(parser);
	parser->payload = malloc(len);
	if (parser->payload == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM,
				 "migration: no memory for a message of %" PRIu32 " bytes", len);
	}
	parser->room = len;
	return 0;
}

static uint32_t head_size(const struct handover_parser *parser)
{
	return MIN(parser->frame.len, (uint32_t)HANDOVER_HEAD_SIZE);
}

static int check_payload(struct handover_parser *parser, struct error *e)
{
	struct handover_frame *frame = &parser->frame;

	parser->whole = true;
	if (load_le32(parser->header + AT_PAYLOAD_CRC) != parser->crc) {
		(void)error_set(e, ERROR_MIGRATION, EPROTO,
				"migration: the checksum of message %s (number %" PRIu64
				") is wrong",
				handover_message_info(frame->message)->name, frame->sequence);
		return error_hint(e, "%s", damaged);
	}
	return 1;
}

/* The header and the head are there: where does the rest go? */
static int choose_place(struct handover_parser *parser, struct error *e)
{
	struct handover_frame *frame = &parser->frame;
	const struct handover_sink *sink = &parser->sink;
	int r;

	parser->crc = crc32c(0, parser->head, head_size(parser));
	frame->payload = parser->head;
	if (sink->place != NULL && frame->message == HANDOVER_PAGES &&
	    frame->len > HANDOVER_HEAD_SIZE) {
		parser->next = sink->place(sink->arg, frame);
	}
	frame->placed = parser->next != NULL;
	if (frame->placed) {
		return 0;
	}
	r = make_room(parser, e);
	if (r == 0 && frame->len != 0) {
		memcpy(parser->payload, parser->head, head_size(parser));
		parser->next = parser->payload + head_size(parser);
	}
	frame->payload = frame->len != 0 ? parser->payload : NULL;
	return r;
}

static size_t fill(uint8_t *to, size_t want, const uint8_t *data, size_t len)
{
	size_t n = MIN(want, len);

	if (n != 0) {
		memcpy(to, data, n);
	}
	return n;
}

/* Up to the end of what is kept apart: header, and the payload's head. 1: it is there; 0: not yet. */
static int take_start(struct handover_parser *parser, const uint8_t *data, size_t len, size_t *used,
		      struct error *e)
{
	size_t n;
	int r;

	if (parser->whole) {
		parser->whole = false;
		parser->have = 0;
		parser->next = NULL;
	}
	if (parser->have < HANDOVER_HEADER_SIZE) {
		n = fill(parser->header + parser->have, HANDOVER_HEADER_SIZE - parser->have, data,
			 len);
		parser->have += n;
		*used += n;
		if (parser->have < HANDOVER_HEADER_SIZE) {
			return 0;
		}
		r = check_header(parser, e);
		if (r < 0) {
			return r;
		}
	}
	n = parser->have - HANDOVER_HEADER_SIZE;
	if (n < head_size(parser)) {
		n = fill(parser->head + n, head_size(parser) - n, data + *used, len - *used);
		parser->have += n;
		*used += n;
	}
	if (parser->have < HANDOVER_HEADER_SIZE + (size_t)head_size(parser)) {
		return 0;
	}
	if (parser->have == HANDOVER_HEADER_SIZE + (size_t)head_size(parser) &&
	    parser->next == NULL) {
		r = choose_place(parser, e);
		return r < 0 ? r : 1;
	}
	return 1;
}

/* So many more bytes are where they go. */
static int add(struct handover_parser *parser, size_t len, struct error *e)
{
	if (len != 0) {
		parser->crc = crc32c(parser->crc, parser->next, len);
		parser->next += len;
		parser->have += len;
	}
	if (parser->have < HANDOVER_HEADER_SIZE + (size_t)parser->frame.len) {
		return 0;
	}
	return check_payload(parser, e);
}

static int take_some(struct handover_parser *parser, const uint8_t *data, size_t len, size_t *used,
		     struct error *e)
{
	int r = take_start(parser, data, len, used, e);
	size_t n;

	if (r <= 0) {
		return r;
	}
	n = fill(parser->next, HANDOVER_HEADER_SIZE + (size_t)parser->frame.len - parser->have,
		 data + *used, len - *used);
	*used += n;
	return add(parser, n, e);
}

static int refuse_more(struct error *e)
{
	return error_set(e, ERROR_MIGRATION, EPROTO,
			 "migration: the peer has sent what is no message before");
}

static int give(struct handover_parser *parser, int r, struct handover_frame *frame)
{
	parser->broken = r < 0;
	if (r == 1) {
		*frame = parser->frame;
	}
	return r;
}

int handover_parser_take(struct handover_parser *parser, const uint8_t *data, size_t len,
			 size_t *used, struct handover_frame *frame, struct error *e)
{
	*used = 0;
	if (parser->broken) {
		return refuse_more(e);
	}
	return give(parser, take_some(parser, data, len, used, e), frame);
}

uint8_t *handover_parser_room(const struct handover_parser *parser, size_t *room)
{
	const bool within = !parser->broken && !parser->whole && parser->next != NULL;

	*room = within ? HANDOVER_HEADER_SIZE + (size_t)parser->frame.len - parser->have : 0;
	return within ? parser->next : NULL;
}

int handover_parser_took(struct handover_parser *parser, size_t len, struct handover_frame *frame,
			 struct error *e)
{
	return give(parser, add(parser, len, e), frame);
}

int handover_parser_end(const struct handover_parser *parser, struct error *e)
{
	if (parser->broken || parser->whole || parser->have == 0) {
		return 0;
	}
	(void)error_set(e, ERROR_MIGRATION, EPROTO,
			"migration: the connection ended within a message, after %zu bytes of it",
			parser->have);
	return error_hint(e, "look at the other side's log for why it closed");
}

struct handover_event handover_frame_event(const struct handover_frame *frame)
{
	struct handover_event event = {
		.kind = HANDOVER_MESSAGE,
		.message = frame->message,
		.epoch = frame->epoch,
		.sequence = frame->sequence,
	};

	if (frame->message == HANDOVER_PREPARE || frame->message == HANDOVER_PREPARED) {
		event.word = frame->len == WORD_SIZE ? load_le64(frame->payload) : 0;
	}
	return event;
}
