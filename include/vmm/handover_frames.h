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
};

/* What is sent before the payload. VMM_BUG_ON a length out of the type's bounds. */
void handover_frame_header(uint8_t ret[HANDOVER_HEADER_SIZE], const struct handover_frame *frame);

/* All of it is private. */
struct handover_parser {
	enum handover_role to;
	size_t have; /* bytes of header and payload */
	uint8_t header[HANDOVER_HEADER_SIZE];
	uint8_t *payload;
	uint32_t room;
	bool whole, broken;
	struct handover_frame frame;
};

/* Of what this side hears. Only its types are taken, so a source holds 16 KiB at most, a destination 8 MiB. */
void handover_parser_init(struct handover_parser *parser, enum handover_role side);
/* Accepts a zeroed one. */
void handover_parser_finish(struct handover_parser *parser);

/*
 * Takes bytes up to the end of a message: *used of them. 1: *frame is a whole one, until the next call; 0: all are used, and more
 * are needed; negative: nothing more is taken, then or later.
 */
int handover_parser_take(struct handover_parser *parser, const uint8_t *data, size_t len,
			 size_t *used, struct handover_frame *frame, struct error *e);
/* The peer has closed: an error if that is within a message. */
int handover_parser_end(const struct handover_parser *parser, struct error *e);

/* Of a frame, for handover_event(). */
struct handover_event handover_frame_event(const struct handover_frame *frame);

#endif
