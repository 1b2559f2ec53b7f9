/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of a hand-over (vmm/handover.h) as bytes: a header of 36, all numbers little-endian, then the payload.
 *
 *	at	bytes
 *	0	4	"VMMH"
 *	4	2	version; this and what is before it stay in all versions
 *	6	2	type, enum handover_message
 *	8	8	epoch
 *	16	8	sequence number
 *	24	4	length of the payload, within the type's bounds
 *	28	4	CRC32C of the payload
 *	32	4	CRC32C of the header so far: nothing of it is believed before
 *
 * Bytes are taken as they come and in pieces of any size; what is held of them is one header and one payload.
 *
 * Of PAGES the caller may say where its pages go, as soon as the header was right and the payload's first bytes are there; they are
 * put there as they come, and the checksum, which is known at the end, is compared afterwards. So what is wrong may have been written by
 * then: a place is only for what is worth nothing after such an error, as the memory of a VM that has not come yet.
 *
 * Threads: an object belongs to one thread at a time. Errors: ERROR_MIGRATION, the peer's doing (-EPROTO; -EPROTONOSUPPORT: it speaks
 * another version); ERROR_NO_MEMORY.
 */
#ifndef VMM_HANDOVER_FRAMES_H
#define VMM_HANDOVER_FRAMES_H

#include "vmm/handover.h"

#define HANDOVER_VERSION     1
#define HANDOVER_HEADER_SIZE 36

struct handover_frame {
	enum handover_message message;
	uint64_t epoch, sequence;
	const uint8_t *payload; /* NULL if there is none */
	uint32_t len;
	/* Only the first HANDOVER_HEAD_SIZE bytes are at `payload`; the others are where they belong. */
	bool placed;
};

/* Of a payload: what says where the rest goes. */
#define HANDOVER_HEAD_SIZE 24

/* Where the bytes of PAGES behind its head go, of which there are frame->len - HANDOVER_HEAD_SIZE; NULL: to where every other payload goes,
 * for who hears the message to judge. frame->payload: the head. */
struct handover_sink {
	uint8_t *(*place)(void *arg, const struct handover_frame *frame);
	void *arg;
};

/* What is sent before the payload. VMM_BUG_ON a length out of the type's bounds. */
void handover_frame_header(uint8_t ret[HANDOVER_HEADER_SIZE], const struct handover_frame *frame);

/* All of it is private. */
struct handover_parser {
	enum handover_role to;
	uint32_t types; /* of those for this side, a bit each: 1 << enum handover_message */
	size_t have;	/* bytes of header and payload */
	uint8_t header[HANDOVER_HEADER_SIZE];
	uint8_t head[HANDOVER_HEAD_SIZE]; /* of the payload */
	uint8_t *payload;
	uint32_t room;
	struct handover_sink sink;
	uint8_t *next; /* where the bytes behind the head go; NULL: not known yet */
	uint32_t crc;  /* of the payload, as far as it has come */
	bool whole, broken;
	struct handover_frame frame;
};

/* Of what this side hears. Only its types are taken, so a source holds 16 KiB at most, a destination 8 MiB. */
void handover_parser_init(struct handover_parser *parser, enum handover_role side);
/* Between two messages: from now on these types only, a bit each, 1 << enum handover_message. At first: all that this side hears. */
void handover_parser_only(struct handover_parser *parser, uint32_t types);
/* Before the first byte. */
void handover_parser_set_sink(struct handover_parser *parser, const struct handover_sink *sink);
/* Accepts a zeroed one. */
void handover_parser_finish(struct handover_parser *parser);

/*
 * Takes bytes up to the end of a message: *used of them. 1: *frame is a whole one, until the next call; 0: all are used, and more
 * are needed; negative: nothing more is taken, then or later.
 */
int handover_parser_take(struct handover_parser *parser, const uint8_t *data, size_t len,
			 size_t *used, struct handover_frame *frame, struct error *e);
/*
 * Where the payload's next bytes go, for a caller that reads them there itself: *room of them, 0 if it is not a payload that is to come
 * next, or its head. It tells handover_parser_took() how many it has read, whose answer is as that of handover_parser_take().
 */
uint8_t *handover_parser_room(const struct handover_parser *parser, size_t *room);
int handover_parser_took(struct handover_parser *parser, size_t len, struct handover_frame *frame,
			 struct error *e);
/* The peer has closed: an error if that is within a message. */
int handover_parser_end(const struct handover_parser *parser, struct error *e);

/* Of a frame, for handover_event(). */
struct handover_event handover_frame_event(const struct handover_frame *frame);

#endif
